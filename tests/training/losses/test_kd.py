import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecr.training.losses import CrossEntropy
from edgecr.training.losses.kd import Distillation, soft_loss


def answers(*seeds, batch=6, classes=5):
    return [torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


class Fixed(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, inputs):
        return self.answer


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_equal_answers_cost_nothing(direction):
    (same,) = answers(0)
    assert soft_loss(same, same.clone(), 4.0, direction).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_gradient_is_the_difference_of_softened_answers(temperature):
    student, teacher = answers(0, 1)
    student.requires_grad_()
    soft_loss(student, teacher, temperature).backward()
    taught, target = (torch.softmax(z.detach() / temperature, 1) for z in (student, teacher))
    assert torch.allclose(student.grad, temperature * (taught - target) / len(student), atol=1e-6)


def test_gradient_at_high_temperature_matches_centred_logits():
    student, teacher = answers(0, 1)
    student.requires_grad_()
    soft_loss(student, teacher, 1000.0).backward()
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert torch.allclose(student.grad, centred.detach() / student.numel(), atol=1e-3)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_divergence_is_torchs(direction):
    student, teacher = answers(0, 1)
    first, second = (teacher, student) if direction == "forward" else (student, teacher)
    expected = functional.kl_div(torch.log_softmax(second / 4, 1), torch.softmax(first / 4, 1), reduction="batchmean")
    assert soft_loss(student, teacher, 4.0, direction).item() == pytest.approx(16 * expected.item(), rel=1e-5)


def test_alpha_zero_is_cross_entropy_and_half_is_half():
    student, teacher = answers(0, 1)
    hard = functional.cross_entropy(student, LABELS)
    for alpha in (0.0, 0.5, 1.0):
        found, _ = Distillation(Fixed(teacher), 4.0, alpha).step(Fixed(student), [student], LABELS)
        assert torch.allclose(found, (1 - alpha) * hard + alpha * soft_loss(student, teacher, 4.0))


def test_label_smoothing_spreads_the_target():
    (logits,) = answers(0)
    target = torch.nn.functional.one_hot(LABELS, 5) * 0.8 + 0.2 / 5
    expected = -(target * torch.log_softmax(logits, 1)).sum(1).mean()
    found, rightness = CrossEntropy(0.2).step(Fixed(logits), [logits], LABELS)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert rightness.tolist() == (logits.argmax(1) == LABELS).tolist()


def test_the_teacher_stays_as_it_is():
    teacher = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)).train()
    loss = Distillation(teacher, 4.0, 0.9)
    before = copy.deepcopy(loss.teacher.state_dict())
    student, inputs = answers(0, 1)
    first, _ = loss.step(Fixed(student), [inputs], LABELS)
    first.backward()
    assert torch.equal(first, loss.step(Fixed(student), [inputs], LABELS)[0]), "dropout is off"
    assert all(torch.equal(before[name], value) for name, value in loss.teacher.state_dict().items())
    assert all(p.grad is None for p in [*loss.teacher.parameters(), *teacher.parameters()])
    assert teacher.training, "the caller's module is not touched"


def test_identity_tells_teachers_and_temperatures_apart():
    first, second = answers(0, 1)
    kinds = [(first, 4.0), (second, 4.0), (first, 3.0)]
    identities = [Distillation(Fixed(teacher), heat, 0.9).identity() for teacher, heat in kinds]
    assert identities[0] == Distillation(Fixed(first), 4.0, 0.9).identity()
    assert identities[0] != identities[1]
    assert identities[0] != identities[2]

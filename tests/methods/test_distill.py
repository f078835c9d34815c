import copy

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.seeds import derive_seed
from edgecr.data.batches import train_batches
from edgecr.data.views import LearningData
from edgecr.methods.base import methods
from edgecr.methods.distill import Distill
from edgecr.methods.finetune import FineTune
from edgecr.methods.train import Train
from edgecr.subject import Subject
from edgecr.training.augmentations import augmentations
from edgecr.training.inputs import Inputs
from edgecr.training.order import place
from edgecr.training.schedules import Steps, factor
from edgecr.weights import write_tensors
from tests.workplace import context, dataset, subject

KEYS = {"epochs": 1, "batch": 32, "precision": "fp32"}
RECIPE = {"model": {"arch": "resnet20", "width": 0.25, "weights": "model.pt"}}


def distill(**keys):
    return Distill.parse(Distill.resolve(KEYS | keys, RECIPE))


def same(first, second):
    second = second.state_dict()
    return all(torch.equal(tensor, second[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ({"width": 0.5}, {"arch": "resnet20", "width": 0.5}),
        ({}, {"arch": "resnet20", "width": 0.25}),
        ({"arch": "resnet20", "blocks": [1, 1, 1]}, {"arch": "resnet20", "width": 0.25, "blocks": [1, 1, 1]}),
        ({"arch": "resnet32"}, {"arch": "resnet32"}),
    ],
)
def test_a_partial_student_is_completed_from_the_model(given, completed):
    assert Distill.resolve({"student": given}, RECIPE) == {"student": completed}


def test_a_partial_teacher_is_completed_too_and_a_run_is_not():
    teacher = Distill.resolve({"teacher": {"weights": "t.pt"}}, RECIPE)["teacher"]
    assert teacher == {"arch": "resnet20", "width": 0.25, "weights": "t.pt"}
    assert Distill.resolve({"teacher": {"run": "r"}}, RECIPE) == {"teacher": {"run": "r"}}
    assert Distill.resolve({"student": 5}, {}) == {"student": 5}


def test_a_student_starts_fresh_from_the_seed(tmp_path, monkeypatch):
    started = {}

    def fit(module, options, loss, context, surgery):
        assert surgery == ()
        started["student"] = module
        started["loss"] = loss

    monkeypatch.setattr("edgecr.training.loop.fit", fit)
    given = subject(seed=3)
    student = distill(student={}).apply(given, context(tmp_path, seed=11))
    assert same(student.module, subject(seed=11).module)
    assert same(started["loss"].teacher, given.module)
    kept = distill().apply(given, context(tmp_path))
    assert kept is given, "without a student the model itself is taught, surgery and all"


def test_alpha_zero_is_plain_training(tmp_path):
    plain = Train.parse(KEYS).apply(subject(), context(tmp_path / "plain"))
    taught = distill(alpha=0.0).apply(subject(), context(tmp_path / "taught"))
    assert same(plain.module, taught.module)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_bits_are_those_of_the_training_written_out(tmp_path, direction):
    """Golden: plain PyTorch with Hinton's formula, none of EdgeCR's loop, loss or optimiser."""
    step = distill(student={}, epochs=2, batch=16, lr=0.05, temperature=3.0, alpha=0.7, label_smoothing=0.1,
                   direction=direction)  # fmt: skip
    found = step.apply(subject(seed=3), context(tmp_path, seed=11)).module
    data, device = LearningData.of(dataset()), torch.device("cpu")
    teacher, student = subject(seed=3).module.eval(), subject(seed=11).module.train()
    place(teacher, device, (8, 8))
    inputs = Inputs(data.preprocessing, device, place(student, device, (8, 8)))
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    for epoch in range(2):
        for number, batch in enumerate(train_batches(data.train, 16, 11, epoch)):
            seed = derive_seed(11, epoch, number, 0)
            images = inputs.augmented(batch.images, augmentations.get("crop-flip"), seed)
            optimiser.param_groups[0]["lr"] = 0.05 * factor(5 * epoch + number, Steps(5, 10), step)
            optimiser.zero_grad()
            logits = student(images)
            with torch.no_grad():
                wanted = functional.log_softmax(teacher(images) / 3.0, dim=1)
            taught = functional.log_softmax(logits / 3.0, dim=1)
            first, second = (wanted, taught) if direction == "forward" else (taught, wanted)
            soft = (first.exp() * (first - second)).sum(dim=1).mean() * 9.0
            hard = functional.cross_entropy(logits, torch.as_tensor(batch.labels), label_smoothing=0.1)
            ((1 - 0.7) * hard + 0.7 * soft).backward()
            optimiser.step()
    assert same(found, student)


def test_it_is_the_short_form_of_a_training_with_that_loss(tmp_path):
    soft = {"temperature": 2.0, "alpha": 0.5, "direction": "reverse"}
    short = distill(student=None, lr=0.05, label_smoothing=0.1, **soft).apply(subject(), context(tmp_path / "a"))
    loss = {"kd": {"teacher": "before", "label_smoothing": 0.1} | soft}
    long = distill(student=None, lr=0.05, loss=loss).apply(subject(), context(tmp_path / "b"))
    plain = FineTune.parse(KEYS | {"lr": 0.05, "loss": loss}).apply(subject(), context(tmp_path / "c"))
    assert same(short.module, long.module)
    assert same(short.module, plain.module)


def test_the_baseline_teaches_where_a_step_has_one(tmp_path):
    given = context(tmp_path, baseline=lambda: subject(seed=5))
    assert same(distill(teacher="baseline").build_loss(subject(), given).teacher, subject(seed=5).module)
    assert same(FineTune.parse({"loss": "kd"}).build_loss(subject(), given).teacher, subject(seed=5).module)
    with pytest.raises(RequestError, match="No baseline here"):
        distill(teacher="baseline").build_loss(subject(), context(tmp_path))


@pytest.mark.parametrize(
    "keys", [{"alpha": 0.5}, {"temperature": 2.0}, {"direction": "reverse"}, {"teacher": "before"}]
)
def test_the_short_form_does_not_go_with_a_loss_written_out(keys):
    assert distill(loss={"kd": {}}).minimised.reads_baseline
    with pytest.raises(ValidationError, match=f"{next(iter(keys))} here would do nothing"):
        distill(loss={"kd": {}}, **keys)


def test_the_teacher_is_left_as_it_was(tmp_path):
    teacher = subject()
    before = copy.deepcopy(teacher.module)
    student = distill(student={"width": 0.125}).apply(teacher, context(tmp_path))
    assert same(before, teacher.module)
    assert student.architecture.width == 0.125


def test_a_saved_run_or_a_checkpoint_teaches(tmp_path):
    teacher = subject(seed=5)
    teacher.save(tmp_path / "run" / "baseline")
    write_tensors(tmp_path / "teacher.safetensors", teacher.module.state_dict())
    by_run = distill(teacher={"run": str(tmp_path / "run")}).apply(subject(), context(tmp_path / "a"))
    by_file = distill(teacher={"weights": str(tmp_path / "teacher.safetensors")}).apply(
        subject(), context(tmp_path / "b")
    )
    by_itself = distill().apply(subject(), context(tmp_path / "c"))
    assert same(by_run.module, by_file.module)
    assert not same(by_run.module, by_itself.module)


def test_an_unfinished_run_cannot_teach(tmp_path):
    with pytest.raises(FileProblem, match="not a finished run"):
        distill(teacher={"run": str(tmp_path / "run")}).apply(subject(), context(tmp_path / "work"))


def test_other_classes_are_refused(tmp_path):
    other = Subject.create(subject().architecture, 4, (8, 8), 0)
    other.save(tmp_path / "run" / "baseline")
    with pytest.raises(RequestError, match="knows 4 classes, but the data has 3"):
        distill(teacher={"run": str(tmp_path / "run")}).apply(subject(), context(tmp_path / "a"))
    with pytest.raises(RequestError, match="student knows 7 classes"):
        distill(student={"classes": 7}).apply(subject(), context(tmp_path / "b"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"alpha": 1.5}, "less than or equal to 1"),
        ({"temperature": 0}, "greater than 0"),
        ({"direction": "sideways"}, "'forward'"),
        ({"teacher": {}}, "the teacher has no weights"),
        ({"teacher": {"run": "r", "weights": "w"}}, "not permitted"),
        ({"teacher": 5}, "arch"),
        ({"teacher": "nobody"}, "'baseline'"),
        ({"student": {"arch": "resnet21"}}, "resnet20"),
        ({"student": {"depth": 3}}, "not permitted"),
    ],
)
def test_nonsense_is_refused(keys, words):
    with pytest.raises(ValidationError, match=words):
        distill(**keys)


@pytest.mark.parametrize("preset", sorted(Distill.presets))
def test_presets_are_valid(preset):
    method = Distill.parse(dict(Distill.presets[preset]))
    assert (method.temperature, method.alpha, method.direction) == (4.0, 0.9, "forward")
    assert methods.get("distill") is Distill
    assert Distill.compresses

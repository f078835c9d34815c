"""Published weights, with random ones in their place: nothing is downloaded here."""

import pytest
import torch
import torchvision
from torchvision.models import WeightsEnum

from edgecr.core.errors import FileProblem, RecipeError, RequestError
from edgecr.core.yaml_text import parse_yaml
from edgecr.methods.distill import Distill
from edgecr.models import architecture, build
from edgecr.recipe import checked
from edgecr.subject import Subject
from tests.workplace import context, subject

CLASSES = 1000


@pytest.fixture
def published(monkeypatch):
    """Stands in for the download alone: torchvision's own loading goes on as ever."""

    def state(weights, *_, **__):
        builder = torchvision.models.get_model_builder(weights.__class__.__name__.removesuffix("_Weights").lower())
        own = {"aux_logits": True, "init_weights": False} if builder.__name__ in ("googlenet", "inception_v3") else {}
        torch.manual_seed(3)
        return builder(num_classes=CLASSES, **own).state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", state)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("googlenet", 64), ("inception_v3", 96), ("squeezenet1_1", 64)])
def test_a_model_with_published_weights_answers_as_torchvisions_does(name, side, published, tmp_path):
    declared = architecture({"arch": f"torchvision:{name}", "pretrained": True})
    module = Subject.create(declared, CLASSES, (side, side), 0)
    module.save(tmp_path / "subject")
    expected = torchvision.models.get_model(name, weights="DEFAULT").eval()
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for each in (module, Subject.load(tmp_path / "subject")):
            torch.testing.assert_close(each.module.eval()(image), expected(image))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_only_published_weights_need_their_normalisation(name):
    def built(**keys):
        with torch.device("meta"):
            return build(architecture({"arch": f"torchvision:{name}", "options": {"init_weights": False}} | keys), 5)

    assert not built().transform_input
    assert built(pretrained=True).transform_input
    options = {"init_weights": False, "transform_input": False}
    assert not built(pretrained=True, options=options).transform_input


KEYS = {"epochs": 1, "batch": 32, "precision": "fp32"}


def test_a_published_model_teaches(published, tmp_path):
    teacher = {"arch": "torchvision:squeezenet1_1", "pretrained": True}
    step = Distill.parse(Distill.resolve(KEYS | {"teacher": teacher}, {"model": {"arch": "resnet20"}}))
    student = Subject.create(architecture({"arch": "resnet20", "width": 0.25}), CLASSES, (32, 32), 0)
    found = step.build_loss(student, context(tmp_path)).teacher
    expected = torchvision.models.get_model("squeezenet1_1", weights="DEFAULT").state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())


def test_a_published_model_for_other_classes_cannot_teach(published, tmp_path):
    teacher = {"arch": "torchvision:squeezenet1_1", "pretrained": True}
    step = Distill.parse(KEYS | {"teacher": teacher})
    with pytest.raises(RequestError, match=r"leave classifier\.1\.weight.* untrained: they are not for 3 classes"):
        step.apply(subject(), context(tmp_path))


RECIPE = """
name: taught
model: {arch: "torchvision:squeezenet1_1", MODEL}
data: {name: digits}
steps: [{train: {epochs: 1}}, {distill: {TEACHES, epochs: 1}}]
"""


def steps(model, teaches):
    text = RECIPE.replace("MODEL", model).replace("TEACHES", teaches)
    return checked(parse_yaml(text, "r.yaml")).plain()["steps"][1]["distill"]


def test_a_recipe_may_name_a_published_teacher():
    arch = "torchvision:squeezenet1_1"
    assert steps("weights: a.pt", "teacher: {pretrained: true}")["teacher"] == {"arch": arch, "pretrained": True}
    assert steps("pretrained: true", "teacher: {weights: b.pt}")["teacher"] == {"arch": arch, "weights": "b.pt"}
    assert steps("pretrained: true", "student: {}")["student"] == {"arch": arch}


def test_a_teacher_without_any_weights_is_refused():
    with pytest.raises(RecipeError, match=r"the teacher has no weights: add .*pretrained: true"):
        steps("pretrained: true", "teacher: {}")


def test_where_to_put_weights_without_a_network(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    declared = architecture({"arch": "torchvision:googlenet", "pretrained": True})
    with pytest.raises(FileProblem, match=r"no route to host.*https://.*googlenet.*\.pth elsewhere.*checkpoints"):
        declared.fetch_weights(torch.nn.Identity())

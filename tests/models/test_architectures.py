import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from edgecr.core.errors import FileProblem, RecipeError, RequestError, UnknownName
from edgecr.core.options import Options
from edgecr.models import AnyArchitecture, architecture, build, families
from edgecr.models.cifar_resnet_module import PadShortcut


class Holder(Options):
    model: AnyArchitecture


def mistakes(model):
    with pytest.raises(ValidationError) as caught:
        Holder.parse({"model": model})
    return [(error["loc"][-1], error["msg"]) for error in caught.value.errors()]


def test_importing_the_declarations_imports_no_torch():
    heavy = "{'torch', 'torchvision', 'timm', 'sklearn'}"
    code = f"import sys, edgecr.models, edgecr.data; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_field_type_chooses_the_family():
    held = Holder.parse({"model": {"arch": "resnet20", "width": 0.5, "blocks": [1, 2, 3], "weights": "a.pth"}})
    assert held.plain() == {"model": {"arch": "resnet20", "width": 0.5, "blocks": [1, 2, 3], "weights": "a.pth"}}
    assert Holder.parse({"model": {"arch": "timm:x"}}).model.plain() == {"arch": "timm:x"}


def test_an_unknown_architecture_is_one_mistake_at_its_key():
    [(where, message)] = mistakes({"arch": "resnt20", "widht": 1})
    assert where == "arch"
    assert "Did you mean 'resnet20'" in message


@pytest.mark.parametrize("model", [{}, {"arch": 3}, {"arch": None}, [], "resnet20", None])
def test_a_model_without_a_name_is_refused_at_that_key(model):
    assert [where for where, _ in mistakes(model)] == ["arch"]


def test_mistakes_in_the_options_keep_their_keys():
    found = mistakes({"arch": "resnet18_cifar", "widht": 1, "stem": "pool", "blocks": [2, 2, 2]})
    assert sorted(where for where, _ in found) == ["blocks", "stem", "widht"]


@pytest.mark.parametrize(
    "values",
    [
        {"width": 0},
        {"width": -1},
        {"stem_width": 0},
        {"blocks": [0, 1, 1]},
        {"shortcut": "C"},
        {"classes": 0},
    ],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(RecipeError):
        architecture({"arch": "resnet20", **values})


def test_architecture_names_the_near_and_the_longer_names():
    with pytest.raises(UnknownName, match="resnet18_cifar"):
        architecture({"arch": "resnet18"})
    with pytest.raises(RequestError, match="arch"):
        architecture({})


def test_padding_shortcuts_cannot_remove_channels():
    with pytest.raises(RecipeError, match="shortcut A can only add"):
        architecture({"arch": "resnet20", "stem_width": 32})
    assert architecture({"arch": "resnet20", "stem_width": 32, "shortcut": "B"})


@pytest.mark.parametrize("name", list(families))
def test_every_family_builds_and_gives_logits(name):
    module = build(architecture({"arch": name, "width": 0.125}), 7).eval()
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_option_a_centres_the_channels_between_zeros():
    module = build(architecture({"arch": "resnet20"}), 10)
    shortcut = module.get_submodule("layer2.0.shortcut")
    assert isinstance(shortcut, PadShortcut)
    assert (shortcut.before, shortcut.after) == (8, 8)
    image = torch.rand(1, 16, 4, 4)
    padded = shortcut(image)
    assert torch.equal(padded[:, 8:24], image[:, :, ::2, ::2])
    assert padded.abs().sum() == padded[:, 8:24].abs().sum()


def test_names_are_those_of_the_public_checkpoints():
    names = build(architecture({"arch": "resnet20"}), 10).state_dict()
    for name in ("conv1.weight", "bn1.running_mean", "layer3.2.conv2.weight", "linear.bias"):
        assert name in names
    assert len([name for name in names if not name.endswith("num_batches_tracked")]) == 97


def test_the_seed_decides_the_initial_tensors():
    def first(seed):
        torch.manual_seed(seed)
        return build(architecture({"arch": "resnet20"}), 10).conv1.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_declared_classes_must_be_those_of_the_data():
    with pytest.raises(RequestError, match="100 classes"):
        build(architecture({"arch": "resnet20", "classes": 100}), 10)


def test_torchvision_and_timm_models_by_name():
    for arch in ("torchvision:mobilenet_v3_small", "timm:resnet10t"):
        module = build(architecture({"arch": arch}), 5).eval()
        assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_auxiliary_heads_are_off():
    with torch.device("meta"):
        module = build(architecture({"arch": "torchvision:inception_v3", "options": {"init_weights": False}}), 5)
    assert module.AuxLogits is None


@pytest.mark.parametrize("arch", ["torchvision:resnt18", "timm:resnt18"])
def test_unknown_library_models_get_near_names(arch):
    with pytest.raises(UnknownName, match="'resnet18'"):
        build(architecture({"arch": arch}), 5)


def test_options_that_the_constructor_does_not_take():
    with pytest.raises(RequestError, match="depth"):
        build(architecture({"arch": "torchvision:resnet18", "options": {"depth": 3}}), 5)


def test_own_code_runs_only_when_allowed(tmp_path, monkeypatch):
    (tmp_path / "my_models_for_test.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Linear(width, num_classes))\n"
        "def wrong(num_classes):\n"
        "    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = architecture({"arch": "my_models_for_test:tiny", "options": {"width": 6}})
    with pytest.raises(RequestError, match="--allow-code"):
        build(own, 3)
    assert build(own, 3, allow_code=True)(torch.zeros(1, 3, 2, 2)).shape == (1, 3)
    for arch in ("my_models_for_test:missing", "no_such_module:f", "my_models_for_test:wrong"):
        with pytest.raises(RequestError, match=arch):
            build(architecture({"arch": arch}), 3, allow_code=True)


def test_a_misspelt_library_is_not_mistaken_for_own_code_silently():
    with pytest.raises(RequestError, match="Did you mean 'torchvision'"):
        build(architecture({"arch": "torchvison:resnet18"}), 3)


def test_pretrained_has_one_source():
    for values in ({"arch": "timm:resnet18", "weights": "a"}, {"arch": "a.b:c"}):
        with pytest.raises(RecipeError, match=r"pretrained|weights"):
            architecture({**values, "pretrained": True})


def test_published_weights_fill_all_but_another_classifier(monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    declared = architecture({"arch": "torchvision:squeezenet1_1", "pretrained": True})
    published = build(declared, 1000)
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: published)
    module = build(declared, 5)
    head = module.classifier[1].weight.clone()
    declared.fetch_weights(module)
    assert torch.equal(module.features[0].weight, published.features[0].weight)
    assert torch.equal(module.classifier[1].weight, head)


def test_published_weights_without_a_network(monkeypatch):
    torchvision = pytest.importorskip("torchvision")

    def offline(*_, **__):
        raise OSError("no route to host")

    declared = architecture({"arch": "torchvision:resnet18", "pretrained": True})
    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(FileProblem, match="no route to host"):
        declared.fetch_weights(torch.nn.Identity())

"""Binarisation: what becomes signs, and what later steps leave of them."""

import pytest
import torch

from edgecr.core.errors import RecipeError, RequestError
from edgecr.core.progress import Monitor
from edgecr.core.step_record import read_shown, record_file
from edgecr.methods.binarise import Binarise
from edgecr.methods.distill import Distill
from edgecr.methods.finetune import FineTune
from edgecr.methods.prune import Prune
from edgecr.methods.quantise import QuantisationAware
from edgecr.recipe import load_recipe
from edgecr.surgery.changes import BinaryWeights, WeightMask
from edgecr.surgery.changes.binary import BINARY, BinaryRows
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.promise import ZEROS, figures
from edgecr.surgery.sign_inputs import layers_that_see_signs
from edgecr.training.context import Execution
from tests.workplace import context, subject

KEYS = {"epochs": 1, "batch": 35, "precision": "fp32", "lr": 0.02}


class Voice(Monitor):
    def __init__(self):
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def binarised(folder, given=None, **keys):
    return Binarise.parse(KEYS | keys).apply(given or subject(), context(folder))


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return binarised(tmp_path_factory.mktemp("binary"))


def kept(result):
    """True if the tensors hold at least what the surgery promises."""
    promise = result.promise()
    assert promise.figures
    return all(
        figures.get(name)().count(result.module.get_parameter(tensor).detach().numpy()) >= amount
        for name, amounts in promise.figures.items()
        for tensor, amount in amounts.items()
    )


def copied(result, folder):
    result.save(folder)
    return type(result).load(folder)


def test_all_layers_but_the_ends_have_one_magnitude_a_channel(binary):
    (change,) = binary.surgery
    assert isinstance(change, BinaryWeights)
    assert len(change.tensors) == 18  # the convolutions of the blocks; there are no others in this network
    assert not {"stem.conv.weight", "conv1.weight", "fc.weight", "linear.weight"} & set(change.tensors)
    assert kept(binary)
    ends = [name for name, p in binary.module.named_parameters() if p.dim() > 1 and name not in change.tensors]
    assert len(ends) == 2
    assert all(BinaryRows().count(binary.module.get_parameter(name).detach().numpy()) == 0 for name in ends)


def test_the_whole_model_has_one_magnitude_a_tensor_if_asked(tmp_path):
    result = binarised(tmp_path, ends=True, scale="tensor")
    weights = [p for p in result.module.parameters() if p.dim() > 1]
    assert len(weights) == len(result.surgery[0].tensors) == 20
    assert all(len(weight.abs().unique()) == 1 for weight in weights)


def test_what_is_excluded_stays_and_what_is_no_layer_is_refused(tmp_path):
    names = binarised(tmp_path / "a").surgery[0].tensors
    block = names[0].rpartition(".")[0].rpartition(".")[0]
    left = binarised(tmp_path / "b", exclude=[block]).surgery[0].tensors
    assert set(left) == {name for name in names if not name.startswith(f"{block}.")}
    with pytest.raises(RequestError, match=r"exclude: no layer is called 'nowhere'"):
        binarised(tmp_path / "c", exclude=["nowhere"])
    with pytest.raises(RequestError, match="no layer left to binarise"):
        binarised(tmp_path / "d", exclude=["*"])


@pytest.mark.parametrize(
    "method",
    [
        FineTune.parse(KEYS),
        FineTune.parse(KEYS | {"sharpness": "adasap"}),
        Distill.parse(KEYS | {"teacher": "before"}),
        QuantisationAware.parse(KEYS),
    ],
    ids=["finetune", "adasap", "distill", "quantise"],
)
def test_a_later_training_moves_signs_and_keeps_the_promise(binary, method, tmp_path):
    given = copied(binary, tmp_path / "before")
    after = method.apply(given, context(tmp_path / "step"))
    assert kept(after)
    name = binary.surgery[0].tensors[0]
    assert not torch.equal(after.module.get_parameter(name), binary.module.get_parameter(name))
    assert after.module.state_dict().keys() == binary.module.state_dict().keys()


def test_channels_go_and_no_repair_touches_the_signs(binary, tmp_path):
    keys = {"sparsity": 0.3, "align": "off", "repair": {"images": 64}}
    after = Prune.parse(keys).apply(copied(binary, tmp_path / "before"), context(tmp_path / "step"))
    assert 0 < after.promise().total(BINARY) < binary.promise().total(BINARY)
    assert kept(after)
    told = read_shown(record_file(tmp_path / "step", "repair"))
    assert "its weights are binary" in told.facts["not repaired"]


def test_no_channel_goes_while_binary_weights_are_trained(binary, tmp_path):
    keys = {"sparsity": 0.3, "when": {"kind": "exponential", "steps": 1, "every": 1, "retrain": KEYS}}
    with pytest.raises(RequestError, match="Prune before they are made binary"):
        Prune.parse(keys).apply(copied(binary, tmp_path / "before"), context(tmp_path / "step"))


def test_masked_weights_stay_zero(tmp_path):
    given = subject()
    names = [name for name, p in given.module.named_parameters() if p.dim() == 4]
    set_to_zero(given.module, {name: torch.rand_like(given.module.get_parameter(name)) < 0.5 for name in names})
    given = given.with_changes(WeightMask.of(given.module, names))
    before = {name: given.module.get_parameter(name) == 0 for name in names}
    after = binarised(tmp_path, given)
    assert kept(after)
    assert {ZEROS, BINARY} == set(after.promise().figures)
    assert all(torch.equal(after.module.get_parameter(name) == 0, zeros) for name, zeros in before.items())


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    return binarised(tmp_path_factory.mktemp("signed"), activations="binary")


def test_binary_activations_are_signs_before_every_binary_convolution(signed, tmp_path):
    inputs, weights = signed.surgery
    assert [f"{name}.weight" for name in inputs.layers] == list(weights.tensors)
    assert layers_that_see_signs(signed.module) == list(inputs.layers)
    back, images = copied(signed, tmp_path / "saved"), torch.rand(2, 3, 8, 8)
    assert torch.equal(back.module(images), signed.module(images))
    plain = copied(signed, tmp_path / "again").module
    for name in inputs.layers:
        plain.get_submodule(name).__class__ = torch.nn.Conv2d
    assert not torch.allclose(plain(images), signed.module(images))


def test_channels_go_before_and_behind_signs(signed, tmp_path):
    keys = {"sparsity": 0.3, "align": "off"}
    after = Prune.parse(keys).apply(copied(signed, tmp_path / "before"), context(tmp_path / "step"))
    assert 0 < after.promise().total(BINARY) < signed.promise().total(BINARY)
    assert layers_that_see_signs(after.module) == layers_that_see_signs(signed.module)
    tuned = FineTune.parse(KEYS).apply(after, context(tmp_path / "tuned"))
    assert kept(tuned)


def test_layers_with_masks_go_on_with_floats(tmp_path):
    given = subject()
    names = [name for name, p in given.module.named_parameters() if p.dim() == 4][1:]
    set_to_zero(given.module, {names[0]: torch.rand_like(given.module.get_parameter(names[0])) < 0.5})
    given = given.with_changes(WeightMask.of(given.module, names[:1]))
    after = binarised(tmp_path, given, activations="binary")
    masked = names[0].removesuffix(".weight")
    assert masked not in layers_that_see_signs(after.module)
    facts = read_shown(record_file(tmp_path, "binary")).facts
    assert f"{masked}: " in facts["binary weights behind floats"]
    assert "are zero, which a bit cannot say" in facts["binary weights behind floats"]
    with pytest.raises(RequestError, match="activations: binary fits none of the layers"):
        others = [name.removesuffix(".weight") for name in names[1:]]
        binarised(tmp_path / "none", given=given, activations="binary", exclude=others)


def test_a_model_that_guesses_is_called_so(tmp_path):
    voice = Voice()
    Binarise.parse(KEYS | {"lr": 1e-9}).apply(subject(), context(tmp_path, monitor=voice))
    (text,) = (each for each in voice.warned if "by chance" in each)
    assert read_shown(record_file(tmp_path, "binary")).facts["warning"] in text


@pytest.mark.slow
def test_several_processes_train_signs_too(tmp_path):
    result = Binarise.parse(KEYS).apply(subject(), context(tmp_path, execution=Execution(devices=2)))
    assert kept(result)


def test_steps_in_an_impossible_order_are_refused_with_the_recipe(tmp_path):
    exponential = "{sparsity: 0.3, when: {kind: exponential, retrain: {epochs: 2}}}"
    lines = [
        "name: x",
        "model: {arch: resnet20}",
        "data: {name: digits}",
        "steps:",
        "  - train: {}",
        "  - binarise: {}",
    ]
    lines += [f"  - prune: {exponential}", "  - ticket: {sparsity: 0.5}"]
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "x.yaml")
    assert "steps.2.prune: when: exponential removes channels" in str(error.value)
    assert "steps.3.ticket: A ticket starts from new random weights" in str(error.value)

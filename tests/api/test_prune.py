"""`edgecr.prune`: a user's own module, without a recipe, and without a trace left in it."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import edgecr
from edgecr.surgery.changes.base import replay
from tests.workplace import dataset, network


class Grey(nn.Module):
    """As from a notebook cell: one grey channel in, a sum of two branches, a dictionary out."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 12, 3, padding=1)
        self.right = nn.Conv2d(1, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        return {"scores": self.head(torch.relu(self.left(images) + self.right(images)).mean((2, 3)))}


EXAMPLE = torch.rand(2, 3, 8, 8)


def prune(module=None, example=EXAMPLE, **options):
    return edgecr.prune(module or network(), example, **({"quiet": True, "align": "off"} | options))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def pixels(count=60):
    images = dataset(train=count).train
    return images.images(np.arange(count)), images.labels


def test_the_given_module_stays_as_it_is_in_every_respect():
    module = network()
    module[3].eval()
    module.weight_of_all = 3
    before, images = copy.deepcopy(module), (torch.rand(20, 3, 8, 8), torch.arange(20) % 3)
    state = torch.get_rng_state()
    slim, _ = prune(module, sparsity=0.5, score="taylor", data=images)
    assert same(module, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in module.modules()] == [part.training for part in before.modules()]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert [part.training for part in slim.modules()] == [part.training for part in before.modules()]
    assert slim.weight_of_all == 3
    assert not {p.data_ptr() for p in slim.parameters()} & {p.data_ptr() for p in module.parameters()}


def test_the_result_answers_like_the_module_with_the_channels_set_to_zero():
    module = Grey().eval()
    slim, record = prune(module, torch.rand(1, 1, 9, 9), sparsity=0.5)
    assert slim.left.out_channels == slim.right.out_channels == slim.head.in_features == 6
    norms = sum(conv.weight.detach().flatten(1).norm(dim=1) ** 2 for conv in (module.left, module.right))
    gone = norms.argsort()[:6]
    for conv in (module.left, module.right):
        conv.weight.data[gone], conv.bias.data[gone] = 0, 0
    images = torch.rand(3, 1, 9, 9)
    assert torch.allclose(slim.eval()(images)["scores"], module(images)["scores"], atol=1e-6)
    assert record.groups == {"left": (12, 6)}
    assert 0 <= record.difference < 1e-5


def test_it_is_the_pruning_of_a_recipe(tmp_path):
    from edgecr.methods.prune import Prune
    from tests.workplace import context, subject

    whole = subject()
    slim, record = edgecr.prune(whole.module, torch.rand(1, 3, 8, 8), budget={"macs": 0.6}, quiet=True)
    options = Prune.resolve({"budget": {"macs": 0.6}, "repair": False}, {})  # nobody gave images to refit on
    expected = Prune.parse(options).apply(subject(), context(tmp_path))
    assert same(slim, expected.module)
    assert [cut.plain() for cut in record.surgery] == [cut.plain() for cut in expected.surgery]


def test_the_record_repeats_the_surgery_on_a_fresh_copy_and_is_plain():
    module = network()
    slim, record = prune(module, budget={"params": 0.6})
    again = copy.deepcopy(module)
    replay(again, record.surgery)
    assert same(again, slim)
    amount = record.amounts["params"]
    assert amount.before == sum(p.numel() for p in module.parameters())
    assert amount.after == sum(p.numel() for p in slim.parameters()) <= amount.budget == int(0.6 * amount.before)
    assert json.loads(json.dumps(record.plain()))["plan"]["amounts"]
    assert "params" in str(record)
    assert "the model: output of the model" in record.kept["9"]


@pytest.mark.parametrize("size", ["300", "0.001 MB"])
def test_a_budget_may_be_a_figure_with_its_unit(size):
    budget = {"params": 300} if size == "300" else {"size": size}
    _, record = prune(budget=budget)
    name = next(iter(budget))
    assert record.amounts[name].after <= record.amounts[name].budget == (300 if name == "params" else 1000)


def test_excluded_layers_stay_whole():
    slim, record = prune(sparsity=0.5, exclude=["0"])
    assert slim[0].out_channels == 8
    assert slim[4].out_channels < 8
    assert record.groups["0"] == (8, 8)


def test_images_may_be_pixels_inputs_batches_or_a_source():
    """Taylor's scores agree however the same images are given."""
    images, labels = pixels()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    inputs = ((images / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    options = {"sparsity": 0.4, "score": "taylor", "seed": 3}
    _, expected = prune(data=(images, labels), mean=mean, std=std, **options)
    forms = [
        (inputs, torch.from_numpy(labels)),
        (inputs.numpy(), labels.tolist()),
        [(inputs[:30], labels[:30]), (inputs[30:], labels[30:])],
        ((inputs[start : start + 20], labels[start : start + 20]) for start in (0, 20, 40)),
    ]
    for form in forms:
        _, record = prune(data=form, **options)
        assert record.surgery == expected.surgery


def test_of_endless_batches_only_the_first_are_read():
    def endless():
        while True:
            yield torch.rand(4, 3, 8, 8), torch.arange(4) % 3

    slim, _ = prune(sparsity=0.5, score="taylor", data=endless())
    assert slim[0].out_channels < 8


def test_images_that_no_score_looks_at_are_not_needed():
    assert prune(sparsity=0.5, score="l1").module[0].out_channels < 8


FLOATS = torch.rand(6, 3, 8, 8)
WRONG = {
    "nothing asked": ({}, "give exactly one of sparsity"),
    "both asked": ({"sparsity": 0.5, "budget": {"macs": 0.5}}, "give exactly one of sparsity"),
    "too sparse": ({"sparsity": 1.0}, "sparsity: .*less than 1"),
    "unknown figure": ({"budget": {"mac": 0.5}}, "Did you mean 'macs'"),
    "unreachable": ({"budget": {"macs": 1}}, "cannot be met by removing channels"),
    "unknown score": ({"sparsity": 0.5, "score": "l3"}, "score: "),
    "unknown layer": ({"sparsity": 0.5, "exclude": ["nowhere"]}, "nowhere"),
    "no images": ({"sparsity": 0.5, "score": "taylor"}, "give data="),
    "measured without images": ({"budget": {"macs": 0.5}, "scope": "measured"}, "scope='measured' .*give data="),
    "repair without images": ({"sparsity": 0.5, "repair": True}, "repair looks at images.*give data="),
    "options of a repair": (
        {"sparsity": 0.5, "repair": {"image": 64}, "data": (torch.rand(4, 3, 8, 8), [0] * 4)},
        "Did you mean 'images'",
    ),
    "blocks without a measure": ({"sparsity": 0.5, "drop": "blocks"}, "needs scope: measured"),
    "unknown device": ({"sparsity": 0.5, "align": "auto", "device": "abacus"}, "Unknown device 'abacus'"),
    "not plain": ({"budget": {"macs": torch.ones(2)}}, "budget may hold text, numbers"),
    "pixels without mean": (
        {"sparsity": 0.5, "score": "taylor", "data": (torch.zeros(4, 8, 8, 3, dtype=torch.uint8), [0, 1, 2, 0])},
        r"mean=\(…\)",
    ),
    "inputs with mean": (
        {"sparsity": 0.5, "score": "taylor", "data": (FLOATS, [0] * 6), "mean": (0, 0, 0), "std": (1, 1, 1)},
        "mean and std are for pixels",
    ),
    "another size": ({"sparsity": 0.5, "data": (torch.rand(4, 3, 9, 8), [0] * 4)}, "3x9x8.*3x8x8"),
    "another label": ({"sparsity": 0.5, "data": (FLOATS, [0, 1, 2, 3, 0, 1])}, "A label is 3.*3 outputs"),
    "negative label": ({"sparsity": 0.5, "data": (FLOATS, [0, 1, 2, -1, 0, 1])}, "count from 0"),
    "too few labels": ({"sparsity": 0.5, "data": (FLOATS, [0, 1])}, "one whole number for each image"),
    "single images": (
        {"sparsity": 0.5, "data": [(FLOATS[0], torch.tensor([0, 1, 2])), (FLOATS[1], torch.tensor([0, 1, 2]))]},
        "DataLoader",
    ),
    "no data": ({"sparsity": 0.5, "data": []}, "no batch"),
    "no image": ({"sparsity": 0.5, "data": (torch.rand(0, 3, 8, 8), [])}, "no image"),
    "no such folder": (
        {"sparsity": 0.5, "data": "nowhere", "mean": (0, 0, 0), "std": (1, 1, 1)},
        "nowhere does not exist",
    ),
    "a source without a name": ({"sparsity": 0.5, "data": {"root": "x"}}, "key 'name'"),
    "an unknown source": ({"sparsity": 0.5, "data": {"name": "digit"}}, "Did you mean 'digits'"),
    "a number": ({"sparsity": 0.5, "data": 3}, "data is a folder, a mapping"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_explained(case):
    options, message = WRONG[case]
    with pytest.raises(edgecr.EdgecrError, match=message) as raised:
        prune(**options)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        ("resnet20", EXAMPLE, "A torch.nn.Module is needed here, not str"),
        (network(), (EXAMPLE, EXAMPLE), "example_input is one tensor, not tuple"),
        (network(), torch.ones(1, 3, 8, 8, dtype=torch.int64), "floating-point tensor with the batch first"),
        (network(), torch.rand(1, 4, 8, 8), "The model fails in 0 on an input of shape"),
        (nn.Linear(3, 2), torch.rand(1, 3), "No channel of this model can be removed"),
    ],
    ids=["a name", "two inputs", "integers", "another input", "nothing to remove"],
)
def test_what_is_no_model_for_it_is_explained(module, example, message):
    with pytest.raises(edgecr.EdgecrError, match=message):
        edgecr.prune(module, example, sparsity=0.5)


def test_a_module_that_cannot_be_copied_is_refused():
    module = network()
    module.generator = (number for number in range(3))
    with pytest.raises(edgecr.EdgecrError, match="cannot be copied, and the given one is never changed"):
        prune(module, sparsity=0.5)


def test_progress_is_told_on_stderr_unless_quiet(capsys):
    prune(sparsity=0.5, quiet=False)
    told = capsys.readouterr()
    assert "Removed 50.0%" in told.err
    assert told.out == ""
    prune(sparsity=0.5)
    assert capsys.readouterr() == ("", "")


def test_warnings_are_told_even_if_quiet(capsys):
    slim, _ = prune(Unknown(), sparsity=0.5)
    assert (slim.first.out_channels, slim.second.out_channels) == (8, 4)
    assert "Warning: " in capsys.readouterr().err


class Unknown(nn.Module):
    """Sorts in the middle, which no handler follows."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu().sort(dim=1)[0]).mean((2, 3)))


def test_limits_that_let_nothing_go_are_explained():
    with pytest.raises(edgecr.EdgecrError, match="every group must keep all of its channels"):
        prune(sparsity=0.5, align=8)


@pytest.mark.parametrize("score", ["l2", "taylor_in"])
@pytest.mark.parametrize("parametrised", [False, True])
def test_a_layer_under_two_names_stops_nothing_else(parametrised, score):
    layer = nn.Conv2d(8, 8, 3, padding=1)
    layer = weight_norm(layer) if parametrised else layer
    module = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 1), layer, nn.ReLU(), layer, nn.Flatten())
    module.append(nn.Linear(512, 4))
    slim, record = prune(module, sparsity=0.5, score=score, data=(EXAMPLE, torch.tensor([0, 1])))
    assert record.groups["0"][1] < 12
    assert slim(EXAMPLE).isfinite().all()
    assert ("weight of a convolution is computed" in str(record.kept.get("2"))) == parametrised


def test_a_caller_in_inference_mode_is_served(capsys):
    outside = network()
    with torch.inference_mode():
        images = torch.rand(8, 3, 8, 8), torch.arange(8) % 3
        for module in (outside, network()):
            slim, _ = prune(module, torch.rand(2, 3, 8, 8), sparsity=0.5, score="taylor", data=images)
    assert not any(tensor.is_inference() for tensor in slim.state_dict().values())
    slim(EXAMPLE).sum().backward()


def test_without_images_nothing_is_said_of_a_repair(capsys):
    prune(sparsity=0.5, quiet=False)
    told = capsys.readouterr()
    assert "Removed" in told.err
    assert "epair" not in told.err


def fit(slim, whole, images):
    """The mean square of what a pruned module's answers differ by."""
    with torch.no_grad():
        return float((slim.eval()(images) - whole.eval()(images)).square().mean())


def test_layers_are_refitted_unless_that_is_not_wanted():
    whole, images = network(), torch.rand(80, 3, 8, 8)
    data = images, torch.arange(80) % 3
    left = {wish: prune(whole, sparsity=0.5, data=data, repair=wish).module for wish in (None, True, False)}
    some = prune(whole, sparsity=0.5, data=data, repair={"images": 64}).module
    assert same(left[None], left[True])
    assert same(left[False], prune(whole, sparsity=0.5).module)
    assert fit(left[True], whole, images) < 0.5 * fit(left[False], whole, images)
    assert not same(some, left[True])
    plain = prune(whole, sparsity=0.5, data=data, repair=False, recalibrate=True).module
    assert not same(plain, left[False])
    with pytest.raises(edgecr.EdgecrError, match="recalibrate looks at images, and there are none"):
        prune(whole, sparsity=0.5, repair=False, recalibrate=True)


def test_channels_and_blocks_go_by_measured_loss(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole, images = residual(), torch.rand(130, 3, 8, 8)
    data = images, torch.arange(130) % 3
    keys = {"budget": {"macs": 0.22}, "exclude": ["0"], "scope": "measured", "data": data}
    with pytest.raises(edgecr.EdgecrError):
        prune(whole, **keys)
    slim, record = prune(whole, drop="blocks", **keys)
    assert record.amounts["macs"].after <= record.amounts["macs"].budget
    assert len(record.plan.dropped) == 1
    assert fit(slim, whole, images) < 1e-3


class Block(nn.Module):
    """Adds next to nothing to what it is handed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.second.weight.data *= 1e-4

    def forward(self, seen):
        return seen + self.second(self.first(seen).relu())


def residual():
    torch.manual_seed(0)
    ends = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)
    return nn.Sequential(ends[0], nn.ReLU(), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), ends[1])


def test_numbers_of_numpy_are_numbers():
    one, other = (prune(network(), budget={"macs": share})[1] for share in (0.5, np.float32(0.5)))
    assert one.amounts["macs"].budget == other.amounts["macs"].budget

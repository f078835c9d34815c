"""Masking at once, in rounds and gradually: exact counts, exact zeros, exact rewinding, exact resumption."""

from __future__ import annotations

import copy
import itertools
import shutil
from typing import Any

import pytest
import torch

from edgecr.core.errors import BudgetError, RequestError
from edgecr.core.files import read_json
from edgecr.core.progress import Monitor
from edgecr.core.step_record import read_shown, read_values, record_file
from edgecr.data.views import LearningData
from edgecr.methods.prune.method import Prune
from edgecr.methods.sparsify import Sparsify
from edgecr.methods.sparsify.options import Cubic
from edgecr.methods.sparsify.step import Sparsifying
from edgecr.methods.sparsify.while_training import MaskingMoments
from edgecr.methods.train import Train
from edgecr.subject import Subject
from edgecr.surgery.changes import BlockMask, WeightMask
from edgecr.surgery.counters import count
from edgecr.surgery.promise import ZEROS
from edgecr.surgery.tracing.running import answers
from edgecr.surgery.weight_sizes import count_weights
from edgecr.training.loop import fit
from edgecr.training.observers import Observer
from edgecr.weights import read_tensors
from tests.workplace import context, dataset, subject

RETRAIN = {"epochs": 2, "batch": 16, "lr": 0.05, "precision": "fp32"}
PLAIN: dict[str, Any] = {"sparsity": 0.5, "repair": False}


def sparsify(folder, model=None, *, snapshots=None, data=None, monitor=None, **keys):
    where = context(folder, data, snapshots=snapshots or {}, monitor=monitor or Monitor())
    return Sparsify.parse(keys).apply(model or subject(), where)


def weights(model):
    return {n: p.detach() for n, p in model.module.named_parameters() if n.endswith("weight") and p.dim() > 1}


def gone(model):
    return {name: weight == 0 for name, weight in weights(model).items()}


def share(model):
    return sum(int(each.sum()) for each in gone(model).values()), sum(w.numel() for w in weights(model).values())


def same(one, other):
    first, second = one.module.state_dict(), other.module.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Hearing(Monitor):
    """Remembers what it is told."""

    def __init__(self):
        self.heard = []

    def warn(self, text):
        self.heard.append(text)


# At once.


def test_the_number_is_exact_and_the_record_tells_it(tmp_path):
    before = subject()
    done = sparsify(tmp_path, copy.deepcopy(before), **PLAIN | {"sparsity": 0.7})
    zero, total = share(done)
    assert zero == round(0.7 * total)
    largest = max(float(weights(before)[name][mask].abs().max()) for name, mask in gone(done).items() if mask.any())
    assert largest <= min(float(w[w != 0].abs().min()) for w in weights(done).values())
    (change,) = done.surgery
    assert isinstance(change, WeightMask)
    assert done.promise().total(ZEROS) == zero
    values = read_values(record_file(tmp_path, "sparsity"))
    assert (values["left"], values["asked"]) == (total - zero, total - zero)
    assert values["params"] - values["nonzero"] >= zero
    assert sum(layer["after"] for layer in values["layers"]) == total - zero
    densities = {layer["layer"]: layer["after"] / layer["weights"] for layer in values["layers"]}
    assert min(densities.values()) < values["sparse_macs"] / values["macs"] < max(densities.values())
    shown = read_shown(record_file(tmp_path, "sparsity"))
    assert shown.budgets[0].reached == shown.budgets[0].asked


def test_all_parameters_may_be_what_is_counted(tmp_path):
    model = subject()
    params = sum(parameter.numel() for parameter in model.module.parameters())
    assert share(sparsify(tmp_path, model, **PLAIN, count="all"))[0] == round(0.5 * params)
    with pytest.raises(BudgetError, match="only 48 of them are weights"):
        sparsify(tmp_path, **PLAIN | {"sparsity": 0.9, "exclude": ["conv1", "layer*"]}, count="all")


def test_layers_that_are_named_stay_whole(tmp_path):
    done = sparsify(tmp_path, **PLAIN, scope="layer", exclude=["conv1", "layer1"])
    touched = {name for name, mask in gone(done).items() if mask.any()}
    assert not any(name.startswith(("conv1", "layer1")) for name in touched)
    assert all(int(mask.sum()) == round(mask.numel() / 2) for name, mask in gone(done).items() if name in touched)
    with pytest.raises(RequestError, match=r"no layer is called 'conv9'. Did you mean"):
        sparsify(tmp_path, **PLAIN, exclude=["conv9"])


@pytest.mark.parametrize("score", ["random", "sipp"])
def test_other_scores_choose_as_many_and_repeat_themselves(tmp_path, score):
    keys = PLAIN | {"score": score} | ({"samples": 8} if score == "sipp" else {})
    done, again = (sparsify(tmp_path / str(number), **keys) for number in range(2))
    assert share(done)[0] == round(0.5 * share(done)[1])
    assert same(done, again)
    plain = gone(sparsify(tmp_path, **PLAIN))
    assert any(not torch.equal(mask, plain[name]) for name, mask in gone(done).items())


def test_a_layer_without_any_weight_left_is_told_of(tmp_path):
    model, monitor = subject(), Hearing()
    with torch.no_grad():
        model.module.conv1.weight.mul_(1e-6)
    sparsify(tmp_path, copy.deepcopy(model), monitor=monitor, **PLAIN)
    assert any("No weight is left in conv1" in text and "min_density: 0.01" in text for text in monitor.heard)
    with pytest.raises(BudgetError, match="No weight is left in conv1"):
        sparsify(tmp_path, copy.deepcopy(model), **PLAIN, strict=True)
    kept = sparsify(tmp_path, model, **PLAIN, strict=True, min_density=0.1)
    assert int((~gone(kept)["conv1.weight"]).sum()) >= 0.1 * model.module.conv1.weight.numel()


# Blocks.


def test_blocks_of_four_keep_two(tmp_path):
    monitor = Hearing()
    done = sparsify(tmp_path, pattern="2:4", repair=False, monitor=monitor)
    assert any("conv1 was not masked: 3 inputs are no multiple of 4" in text for text in monitor.heard)
    masks = gone(done)
    assert not masks.pop("conv1.weight").any()
    assert all(int(mask.sum()) * 2 == mask.numel() for mask in masks.values())
    change = done.surgery[-1]
    assert isinstance(change, BlockMask)
    assert {one.tensor: one.blocks * 4 for one in change.tensors} == {name: m.numel() for name, m in masks.items()}
    with pytest.raises(RequestError, match=r"conv1 \(3 inputs are no multiple of 4\)\. Name them in exclude"):
        sparsify(tmp_path, pattern="2:4", strict=True)
    sparsify(tmp_path, pattern="2:4", strict=True, repair=False, exclude=["conv1"])


def test_blocks_are_made_once_and_stay_through_the_training_after_it(tmp_path):
    before = subject()
    when = {"kind": "iterative", "rounds": 1, "rewind": "rate", "retrain": RETRAIN}
    done = sparsify(tmp_path, copy.deepcopy(before), pattern="2:4", exclude=["conv1"], when=when)
    at_once = sparsify(tmp_path / "at once", copy.deepcopy(before), pattern="2:4", exclude=["conv1"], repair=False)
    assert all(torch.equal(mask, gone(at_once)[name]) for name, mask in gone(done).items())
    assert [type(change) for change in done.surgery] == [WeightMask, BlockMask]
    assert not same(done, at_once)
    (told,) = read_values(record_file(tmp_path, "rounds"))["rounds"]
    assert told["sparsity"] == 0.5


# Repair.


def test_a_repair_leaves_the_zeros_and_errs_less(tmp_path):
    data = dataset(train=160)
    model = Train.parse(RETRAIN | {"epochs": 4}).apply(subject(), context(tmp_path / "train", data))
    plain = sparsify(tmp_path / "plain", copy.deepcopy(model), data=data, **PLAIN | {"sparsity": 0.8})
    done = sparsify(tmp_path / "done", copy.deepcopy(model), data=data, sparsity=0.8)
    assert all(torch.equal(mask, gone(plain)[name]) for name, mask in gone(done).items())
    layers = read_values(record_file(tmp_path / "done", "repair"))["layers"]
    assert all(layer["after"] <= layer["before"] for layer in layers)
    assert sum(layer["after"] for layer in layers) < 0.5 * sum(layer["before"] for layer in layers)
    assert not same(plain, done)


# Rounds.


class Killed(Exception):
    """The end of a process."""


def rounds(**keys):
    return {"sparsity": 0.5, "when": {"kind": "iterative", "rounds": 2, "retrain": RETRAIN} | keys}


def baseline(folder, **keys):
    where = context(folder / "train", dataset())
    model = Train.parse(RETRAIN | {"epochs": 3, "snapshots": [0, 4]} | keys).apply(subject(), where)
    return model, {update: folder / "train" / "snapshots" / f"{update}.safetensors" for update in (0, 4)}


def test_rounds_mask_more_and_more(tmp_path):
    done = sparsify(tmp_path, **rounds())
    first, begun = (Subject.load(tmp_path / name) for name in ("round-01/subject", "round-02/masked"))
    assert share(first)[0] == round((1 - 0.5**0.5) * share(first)[1])
    assert share(done)[0] == round(0.5 * share(done)[1])
    for name, mask in gone(begun).items():
        assert (mask >= gone(first)[name]).all()
        assert torch.equal(mask, gone(done)[name])
    assert len(done.surgery) == 1
    told = read_values(record_file(tmp_path, "rounds"))["rounds"]
    assert [round(one["sparsity"], 3) for one in told] == [0.293, 0.5]
    history = read_json(tmp_path / "round-02" / "history.json")
    assert told[-1]["validation"] == history["epochs"][-1]["validation"]


def test_rates_rewind_and_weights_stay(tmp_path):
    schedule = {"epochs": 3, "schedule": "multistep", "milestones": [1, 2], "warmup": 0.5}
    before, _ = baseline(tmp_path, **schedule)
    sparsify(tmp_path, copy.deepcopy(before), **rounds(rewind="rate", to=4, retrain=RETRAIN | schedule))
    rates = learning_rates(tmp_path / "train")
    assert len(set(rates)) == 3
    for number in (1, 2):
        folder = tmp_path / f"round-{number:02d}"
        begun, masks = Subject.load(folder / "masked"), gone(Subject.load(folder / "masked"))
        for name, tensor in begun.module.state_dict().items():
            expected = before.module.state_dict()[name]
            assert torch.equal(tensor, expected * ~masks[name] if name in masks else expected)
        assert learning_rates(folder) == rates
        before = Subject.load(folder / "subject")


def learning_rates(folder):
    return [epoch["lr"] for epoch in read_json(folder / "history.json")["epochs"]]


def test_weights_and_statistics_rewind_to_the_bit(tmp_path):
    model, snapshots = baseline(tmp_path)
    done = sparsify(tmp_path, copy.deepcopy(model), snapshots=snapshots, **rounds(rewind="weights", to=4))
    state, before = read_tensors(snapshots[4]), model
    for number in (1, 2):
        begun = Subject.load(tmp_path / f"round-{number:02d}" / "masked")
        masks = gone(begun)
        for name, tensor in begun.module.state_dict().items():
            assert torch.equal(tensor, state[name] * ~masks[name] if name in masks else state[name])
        largest = max(float(weights(before)[name][mask].abs().max()) for name, mask in masks.items() if mask.any())
        assert largest <= min(float(w[~masks[name]].abs().min()) for name, w in weights(before).items())
        before = Subject.load(tmp_path / f"round-{number:02d}" / "subject")
    assert same(before, done)
    history = read_json(tmp_path / "round-01" / "history.json")
    assert [epoch["epoch"] for epoch in history["epochs"]] == [0, 1]
    assert history["epochs"][0]["seconds"] > 0


def test_a_ticket_of_everything_is_the_dense_training(tmp_path):
    model, snapshots = baseline(tmp_path, snapshots=[0])
    keys = {"sparsity": 0.0, "when": {"kind": "iterative", "rounds": 1, "rewind": "weights"}}
    keys["when"] = keys["when"] | {"retrain": RETRAIN | {"epochs": 3}}
    method = Sparsify.parse(keys)
    work = Sparsifying(method, copy.deepcopy(model), context(tmp_path / "step", snapshots=snapshots))
    begun = work._begun(model, (0.0,), method.when)
    assert same(work._trained(begun, method.when, context(tmp_path / "again")), model)


def test_a_state_that_is_not_there_or_does_not_fit_is_told(tmp_path):
    with pytest.raises(RequestError, match=r"Cannot go back: no training .* add `snapshots: \[4\]`"):
        sparsify(tmp_path, **rounds(rewind="weights", to=4))
    model, snapshots = baseline(tmp_path)
    cut = Prune.parse({"sparsity": 0.5, "align": "off", "repair": False}).apply(model, context(tmp_path / "cut"))
    with pytest.raises(RequestError, match="put sparsify before the step that cut"):
        sparsify(tmp_path, cut, snapshots=snapshots, **rounds(rewind="weights", to=4))


def test_a_moment_behind_the_end_of_the_training_is_told(tmp_path):
    with pytest.raises(RequestError, match="Update 99 lies beyond the 10 updates"):
        sparsify(tmp_path, **rounds(rewind="rate", to=99))


@pytest.mark.parametrize("after", [2, 12])
def test_rounds_that_were_killed_end_in_the_same_bits(tmp_path, monkeypatch, after):
    import edgecr.methods.sparsify.step as module

    keys = rounds(retrain=RETRAIN | {"checkpoint_s": 1e-9})
    expected = sparsify(tmp_path / "one", **keys)
    updates = iter(range(10**6))

    class Killer(Observer):
        def after_step(self, session):
            if next(updates) == after:
                raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit", lambda *given, **named: fit(*given, [Killer()], **named))
        with pytest.raises(Killed):
            sparsify(tmp_path / "two", **keys)
    assert same(sparsify(tmp_path / "two", **keys), expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "round-01" / "subject.json").write_text("{"),
        lambda folder: (folder / "round-01" / "history.json").write_text("{}"),
        lambda folder: (folder / "round-02" / "masked" / "tensors.safetensors").unlink(),
        lambda folder: shutil.copy(
            folder / "round-01" / "subject" / "tensors.safetensors", folder / "round-02" / "subject"
        ),
    ],
)
def test_rounds_that_were_damaged_are_made_again(tmp_path, damage):
    expected = sparsify(tmp_path, **rounds())
    damage(tmp_path)
    assert same(sparsify(tmp_path, **rounds()), expected)


def test_what_a_killed_attempt_was_writing_goes(tmp_path):
    (tmp_path / "round-02" / ".subject.abc.tmp").mkdir(parents=True)
    sparsify(tmp_path, **rounds())
    assert not list((tmp_path / "round-02").glob(".*"))


def test_weights_that_an_earlier_step_masked_do_not_come_back(tmp_path):
    model, snapshots = baseline(tmp_path)
    first = sparsify(tmp_path / "one", model, **PLAIN | {"exclude": ["linear"]})
    masks = gone(first)
    again = rounds(rewind="weights", to=4) | {"exclude": ["layer3"]}
    done = gone(sparsify(tmp_path / "two", first, snapshots=snapshots, **again))
    assert all((done[name] >= mask).all() for name, mask in masks.items())


def test_more_than_can_go_is_refused_before_anything_is_trained(tmp_path):
    for keys, words in (
        ({"count": "all", "when": {"kind": "iterative", "ratios": [0.3, 0.99], "retrain": RETRAIN}}, "99.00%"),
        (rounds() | {"sparsity": 0.9, "min_density": 0.5}, "min_density 0.5"),
    ):
        with pytest.raises(BudgetError, match=words):
            sparsify(tmp_path, **keys)
    assert not list(tmp_path.iterdir())


def test_each_round_has_images_in_an_order_of_its_own_and_says_what_is_counted(tmp_path, monkeypatch):
    import edgecr.methods.sparsify.step as module

    seeds = []
    monkeypatch.setattr(module, "fit", lambda *given, **named: seeds.append(given[3].seed) or fit(*given, **named))
    done = sparsify(tmp_path, **rounds() | {"count": "all"})
    assert len(set(seeds)) == 2
    told = read_values(record_file(tmp_path, "rounds"))["rounds"][-1]["sparsity"]
    assert told == share(done)[0] / sum(parameter.numel() for parameter in done.module.parameters())


def test_a_layer_lost_in_the_first_of_strict_rounds_is_refused_then(tmp_path):
    keys = {"strict": True, "when": {"kind": "iterative", "ratios": [0.97, 0.99], "retrain": RETRAIN}}
    with pytest.raises(BudgetError, match="No weight is left in"):
        sparsify(tmp_path, **keys)
    assert not (tmp_path / "round-01" / "subject.json").exists()


def test_the_record_counts_the_work_of_layers_that_were_left_out_too(tmp_path):
    first = sparsify(tmp_path / "one", **PLAIN | {"scope": "layer"})
    again = sparsify(tmp_path / "two", copy.deepcopy(first), **PLAIN | {"exclude": ["layer1", "conv1"]})
    arrays = {name: each.detach().numpy() for name, each in again.module.named_parameters()}
    expected = count_weights(arrays, count(again.module, again.input_shape).layers)
    assert read_values(record_file(tmp_path / "two", "sparsity"))["sparse_macs"] == expected.sparse_macs


def test_sipp_looks_at_as_many_images_as_it_says(tmp_path):
    heard, plenty = Hearing(), dataset(1400)
    seen, wanted = [], len(LearningData.of(plenty).train) // 2
    sparsify_module = "edgecr.surgery.masking.sipp.answers"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsify_module, lambda module, batch: seen.append(len(batch)) or answers(module, batch))
        sparsify(tmp_path, data=plenty, monitor=heard, **PLAIN | {"score": "sipp", "samples": wanted})
    assert sum(seen) == wanted > 512


# Gradually.


def gradual(**keys):
    return {"sparsity": 0.8, "when": {"kind": "cubic", "every": 2, "retrain": RETRAIN | {"epochs": 4}} | keys}


def test_the_moments_of_a_gradual_masking():
    moments = MaskingMoments(Cubic(kind="cubic", start=0.1, end=0.8, every=7), 0.9, 100)
    due = {update: s for update in range(101) if (s := moments.sparsity_after(update)) is not None}
    assert list(due) == [0, 10, 17, 24, 31, 38, 45, 52, 59, 66, 73, 80]
    assert [round(s, 4) for s in list(due.values())[1:4]] == [0, 0.2439, 0.4392]
    assert due[80] == 0.9
    first = MaskingMoments(Cubic(kind="cubic", start=0.0, end=0.5, every=25, initial=0.2), 0.9, 100)
    assert [first.sparsity_after(update) for update in (0, 50)] == [pytest.approx(0.2), 0.9]


def test_a_gradual_masking_ends_exactly_and_lets_nothing_return(tmp_path, monkeypatch):
    seen, masks = [], Sparsifying._masks

    def noticed(self, module, sparsity):
        seen.append(masks(self, module, sparsity))
        return seen[-1]

    monkeypatch.setattr(Sparsifying, "_masks", noticed)
    done = sparsify(tmp_path, **gradual(initial=0.1, start=0.2))
    zero, total = share(done)
    assert zero == round(0.8 * total)
    assert len(seen) >= 5
    assert sum(int((~mask).sum()) for mask in seen[0].values()) == round(0.1 * total)
    for earlier, later in itertools.pairwise(seen):
        assert all((later[name] <= mask).all() for name, mask in earlier.items())
    assert all(torch.equal(mask, gone(done)[name]) for name, mask in ((n, ~m) for n, m in seen[-1].items()))


def test_a_gradual_masking_that_was_killed_ends_in_the_same_bits(tmp_path, monkeypatch):
    import edgecr.methods.sparsify.step as module

    keys = gradual(retrain=RETRAIN | {"epochs": 4, "checkpoint_s": 1e-9})
    expected = sparsify(tmp_path / "one", **keys)

    class Killer(Observer):
        def after_step(self, session):
            if session.step_number == 9:
                raise Killed

    def killed(subject, options, loss, where, observers, **named):
        return fit(subject, options, loss, where, [*observers, Killer()], **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit", killed)
        with pytest.raises(Killed):
            sparsify(tmp_path / "two", **keys)
    assert same(sparsify(tmp_path / "two", **keys), expected)


def test_a_training_too_short_for_a_schedule_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no 100 updates pass"):
        sparsify(tmp_path, **gradual(every=100))


# With other steps.


def test_masks_go_with_cuts_on_either_side(tmp_path):
    cut = {"sparsity": 0.5, "align": "off", "repair": False}
    first = Prune.parse(cut).apply(subject(), context(tmp_path / "1"))
    after = sparsify(tmp_path / "2", first, **PLAIN)
    assert share(after)[0] == round(0.5 * share(after)[1])
    masked = sparsify(tmp_path / "3", **PLAIN)
    before = Prune.parse(cut | {"repair": True}).apply(masked, context(tmp_path / "4", dataset(train=80)))
    assert before.promise().total(ZEROS) <= share(before)[0]
    for one in (after, before):
        one.save(tmp_path / "saved")
        assert same(Subject.load(tmp_path / "saved"), one)


def test_a_second_masking_adds_to_the_first_and_later_trainings_keep_both(tmp_path):
    first = sparsify(tmp_path / "1", **PLAIN)
    second = sparsify(tmp_path / "2", copy.deepcopy(first), **PLAIN | {"sparsity": 0.8})
    assert len(second.surgery) == 2
    assert second.promise().total(ZEROS) == share(second)[0] == round(0.8 * share(second)[1])
    assert all((gone(second)[name] >= mask).all() for name, mask in gone(first).items())
    masks = gone(second)
    trained = Train.parse(RETRAIN).apply(second, context(tmp_path / "3"))
    assert all(torch.equal(mask, gone(trained)[name]) for name, mask in masks.items())

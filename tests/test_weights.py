import pickle

import pytest
import torch
from torch import nn

from edgecr.core.errors import FileProblem
from edgecr.weights import hash_tensors, load_checkpoint, load_into, read_tensors, write_tensors


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def test_tensors_survive_a_file(tmp_path):
    state = {
        "a": torch.rand(3, 2),
        "b": torch.tensor(7),
        "c": torch.rand(2).bfloat16(),
        "d": torch.empty(0, 3),
    }
    write_tensors(tmp_path / "t.safetensors", state)
    again = read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(again[name], tensor) and again[name].dtype == tensor.dtype for name, tensor in state.items())
    assert hash_tensors(again) == hash_tensors(state)


def test_shared_tensors_are_stored_once_and_come_back_under_every_name(tmp_path):
    shared = torch.rand(100, 100)
    write_tensors(tmp_path / "shared.safetensors", {"a": shared, "b": shared, "view": shared[:2]})
    assert (tmp_path / "shared.safetensors").stat().st_size < 1.5 * 40_000
    again = read_tensors(tmp_path / "shared.safetensors")
    assert torch.equal(again["a"], shared)
    assert torch.equal(again["b"], shared)
    assert torch.equal(again["view"], shared[:2])


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    state = small().state_dict()
    write_tensors(tmp_path / "one", state)
    write_tensors(tmp_path / "two", dict(reversed(state.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_hash_sees_names_types_shapes_and_values_but_no_order():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert hash_tensors(base) == hash_tensors(dict(reversed(base.items())))
    assert hash_tensors(base) == hash_tensors({**base, "a": torch.zeros(3, 2).t()})
    others = [
        {"x": base["a"], "b": base["b"]},
        {**base, "a": torch.zeros(3, 2)},
        {**base, "b": torch.zeros(1)},
        {**base, "b": torch.ones(1).double()},
    ]
    assert len({hash_tensors(state) for state in [base, *others]}) == 5


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"n_averaged": torch.tensor(3)} | {f"module.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_in_the_usual_forms(tmp_path, wrap, legacy):
    trained, fresh = small(), small()
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    torch.save(wrap(trained.state_dict()), tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    load_into(fresh, tmp_path / "c.pth")
    assert hash_tensors(fresh.state_dict()) == hash_tensors(trained.state_dict())


def test_safetensors_checkpoints_whatever_their_name(tmp_path):
    write_tensors(tmp_path / "c.bin", small().state_dict())
    assert hash_tensors(load_checkpoint(tmp_path / "c.bin")) == hash_tensors(small().state_dict())


def test_one_error_lists_all_that_does_not_fit(tmp_path):
    state = small().state_dict()
    state["extra.weight"] = state.pop("0.bias")
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    state |= {f"more.{number}": torch.zeros(1) for number in range(12)}
    write_tensors(tmp_path / "c.safetensors", state)
    with pytest.raises(FileProblem) as caught:
        load_into(small(), tmp_path / "c.safetensors")
    message = str(caught.value)
    for expected in (
        "1 missing: 0.bias",
        "13 unexpected: ",
        "and 3 more",
        "0.weight (file 4x1x3x3, model 4x3x3x3)",
    ):
        assert expected in message
    assert "classes" not in message


def test_another_number_of_classes_is_explained(tmp_path):
    state = small().state_dict()
    state["3.weight"], state["3.bias"] = torch.zeros(9, 4), torch.zeros(9)
    write_tensors(tmp_path / "c.safetensors", state)
    with pytest.raises(FileProblem, match="for 9 classes, the model for 5"):
        load_into(small(), tmp_path / "c.safetensors")


class Bomb:
    def __reduce__(self):
        return print, ("this must never run",)


def bad_files(folder):
    torch.save({"state_dict": small().state_dict()}, folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    torch.save(small().state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    old = (folder / "old.pth").read_bytes()
    write_tensors(folder / "whole.safetensors", small().state_dict())
    tensors = (folder / "whole.safetensors").read_bytes()
    (folder / "folder").mkdir()
    torch.save(small(), folder / "module.pth")
    torch.save({"model": Bomb()}, folder / "bomb.pth")
    contents = {
        "truncated.pth": whole[: len(whole) // 2],
        "truncated-old.pth": old[: len(old) // 2],
        "truncated.safetensors": tensors[:-20],
        "head.safetensors": tensors[:5],
        "empty.safetensors": b"",
        "empty.pth": b"",
        "text.pth": b"epoch 1: 93 %",
        "bomb.pkl": pickle.dumps(Bomb()),
        "bomb2.pkl": pickle.dumps({"a": Bomb()}, protocol=4),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    torch.save([torch.zeros(2)], folder / "list.pth")
    torch.save({"epoch": 3}, folder / "none.pth")
    return [*contents, "folder", "missing.pth", "module.pth", "bomb.pth", "list.pth", "none.pth"]


def test_files_that_are_no_checkpoint_are_refused_and_run_nothing(tmp_path, capsys):
    for name in bad_files(tmp_path):
        with pytest.raises(FileProblem, match=name):
            load_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_called_by_name(tmp_path, protocol):
    torch.save(small(), tmp_path / "module.pth", pickle_protocol=protocol)
    with pytest.raises(FileProblem, match="could run code"):
        load_checkpoint(tmp_path / "module.pth")


def test_a_failed_load_changes_nothing(tmp_path):
    module = small()
    before = hash_tensors(module.state_dict())
    write_tensors(tmp_path / "c.safetensors", {"0.weight": torch.zeros(4, 3, 3, 3)})
    with pytest.raises(FileProblem):
        load_into(module, tmp_path / "c.safetensors")
    assert hash_tensors(module.state_dict()) == before

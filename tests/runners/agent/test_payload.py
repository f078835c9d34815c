"""A model travels with every file that its weights lie in, and with what it needs in memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import FileProblem
from edgecr.core.files import sha256
from edgecr.runners.agent.memory import MOST_BYTES, Need, need_of
from edgecr.runners.agent.payload import payload_of
from edgecr.runners.base import Arm, MeasurePlan, runner_for
from tests.runners.tiny_device import quick_device, write_onnx


def beside(path: Path, place: str, channels: int = 8) -> Path:
    """The tiny model with its weights in a file of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / place).parent.mkdir(parents=True, exist_ok=True)
    model = onnx.load(write_onnx(path, channels))
    onnx.save(model, path, save_as_external_data=True, location=place, size_threshold=0)
    assert (path.parent / place).stat().st_size == channels * 27 * 4
    return path


@pytest.mark.parametrize("place", ["m.data", "weights/deep/m.data", "model.onnx", "./m.data"])
def test_a_model_with_weights_beside_it_is_measured(tmp_path: Path, place: str) -> None:
    path = beside(tmp_path / "in" / "a.onnx", place)
    plan = MeasurePlan.of({"baseline": write_onnx(tmp_path / "b.onnx"), "candidate": path}, [1], launches=1, rounds=1)
    result = runner_for(quick_device()).measure(plan)
    assert result.error is None
    assert result.arms[1].size_bytes == path.stat().st_size + 8 * 27 * 4
    assert result.arms[0].sha256 == sha256(tmp_path / "b.onnx")


def test_two_models_may_call_their_weights_the_same(tmp_path: Path) -> None:
    paths = {
        "baseline": beside(tmp_path / "a" / "m.onnx", "m.data", 8),
        "candidate": beside(tmp_path / "b" / "m.onnx", "m.data", 4),
    }
    assert runner_for(quick_device()).measure(MeasurePlan.of(paths, [1], launches=1, rounds=1)).error is None


def test_the_hash_covers_the_weights(tmp_path: Path) -> None:
    path = beside(tmp_path / "a.onnx", "m.data")
    before = payload_of(path, [1])
    weights = tmp_path / "m.data"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    after = payload_of(path, [1])
    assert sha256(path) == before.hashes[""] == after.hashes[""]
    assert before.sha256 != after.sha256
    assert before.name != after.name


def pointing(path: Path, place: str) -> Path:
    """A model that says its weights lie there, whatever onnx thinks of it."""
    model = onnx.load(write_onnx(path))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../secret", "", "a\\b", "C:x", "link", "folder"])
def test_weights_elsewhere_are_never_sent(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "in" / "folder").mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    path = pointing(tmp_path / "in" / "a.onnx", place)
    with pytest.raises(FileProblem, match=r"not inside its own folder|missing there") as told:
        runner_for(quick_device()).measure(MeasurePlan((Arm("a", path),)))
    assert told.value.exit_code == 2


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = pointing(tmp_path / "a.onnx", "gone\x1b.data")
    with pytest.raises(FileProblem, match=r"keeps weights in 'gone\\x1b.data', which is missing there"):
        payload_of(path, [1])


def test_weights_inside_branches_and_functions_are_found(tmp_path: Path) -> None:
    def constant(name: str) -> onnx.NodeProto:
        value = numpy_helper.from_array(np.zeros(4, np.float32), name)
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value=f"{name}.data")
        (tmp_path / f"{name}.data").write_bytes(bytes(16))
        return helper.make_node("Constant", [], [name], value=value)

    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, [4])
    branch = helper.make_graph([constant("t")], "branch", [], [out])
    nodes = [constant("c"), helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.BOOL, [])], [])
    function = helper.make_function("own", "f", [], ["f"], [constant("f")], [helper.make_opsetid("", 18)])
    model = helper.make_model(graph, functions=[function])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert set(payload_of(tmp_path / "m.onnx", [1]).beside) == {"c.data", "t.data", "f.data"}


def test_a_file_that_onnx_cannot_read_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff" * 100)
    payload = payload_of(path, [1, 2])
    assert payload.needs == {1: Need(100, 0), 2: Need(100, 0)}
    assert list(payload.files().values()) == [path]


def graph_of(nodes, weights=(), shape=("N", 4, 10, 10)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize("batch", [1, 7, 100_000])
def test_the_need_of_a_convolution(tmp_path: Path, batch: int) -> None:
    need = need_of(onnx.load(write_onnx(tmp_path / "m.onnx", 8)), batch)
    x, c, y = 3 * 8 * 8, 8 * 6 * 6, 8
    assert need == Need(weights=8 * 27 * 4, call=4 * batch * (x + c + y))


def test_a_chain_holds_two_values_at_a_time_not_all() -> None:
    names = ["x", *(f"t{number}" for number in range(30)), "y"]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]
    assert need_of(graph_of(nodes), 2).call == 3 * (2 * 400 * 4)


def test_a_value_that_is_needed_later_stays() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["early"]),
        helper.make_node("Relu", ["early"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "early"], ["y"]),
    ]
    assert need_of(graph_of(nodes), 1).call == 4 * 400 * 4


def test_weights_do_not_depend_on_the_batch_and_large_ones_still_give_shapes() -> None:
    weights = [("w", np.zeros((400, 100), np.float32)), ("s", np.array([-1, 400]))]
    nodes = [helper.make_node("Reshape", ["x", "s"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    small, large = (need_of(graph_of(nodes, weights), batch) for batch in (1, 10))
    assert small == Need(weights=400 * 100 * 4 + 16, call=4 * (400 + 400 + 100))
    assert large == Need(weights=small.weights, call=10 * small.call)


def test_what_nobody_can_infer_counts_as_its_input() -> None:
    nodes = [helper.make_node("Odd", ["x"], ["t"], domain="own"), helper.make_node("Odd", ["t"], ["y"], domain="own")]
    model = graph_of(nodes)
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert need_of(model, 3).call == 3 * (3 * 400 * 4)


def test_absurd_sizes_stay_numbers_that_travel() -> None:
    need = need_of(graph_of([helper.make_node("Relu", ["x"], ["y"])], shape=("N", 2**62)), 10**9)
    assert need.call > MOST_BYTES
    assert need.plain()["call"] == MOST_BYTES

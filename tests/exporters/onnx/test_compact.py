"""Compact files give back the plain ones bit by bit, and are unpacked only if EdgeCR made them."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import FileProblem, RequestError
from edgecr.exporters import load_target, parse_target
from edgecr.exporters.artifact import MANIFEST
from edgecr.exporters.onnx.compact import compacted, read_plain, unpack, unpacked
from edgecr.exporters.onnx.count import layer_weights
from edgecr.exporters.onnx.unpacking_nodes import UnpackingNodes, shared_nodes, shared_tensors
from edgecr.exporters.verifying import verify
from edgecr.predictors import predictor_for
from edgecr.predictors.onnx_file import read_onnx
from edgecr.predictors.onnx_predictor import open_session
from edgecr.report.result import Status
from edgecr.surgery.packing import PackedWeight, forms_of
from tests.exporters.tiny_subjects import export, images, subject_of

SHAPE = (24, 11, 3, 3)


def sparse(zeros, shape=SHAPE):
    random = np.random.default_rng(0)
    values = random.standard_normal(shape).astype(np.float32)
    return np.where(random.random(shape) < zeros, np.float32(0), values)


def signed(zeros, shape=SHAPE):
    """One magnitude for each output channel."""
    scales = np.random.default_rng(1).random(shape[0]).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
    return np.sign(sparse(zeros, shape)) * scales


WEIGHTS = {f"{make.__name__} {zeros}": make(zeros) for make in (sparse, signed) for zeros in (0, 0.3, 0.9, 0.999, 1)}
WEIGHTS |= {"odd": signed(0.4, (7, 5)), "last": np.eye(1, 3000, 2999, dtype=np.float32)[None, 0]}
WEIGHTS |= {"not numbers": np.where(sparse(0.5) > 1, np.float32("nan"), sparse(0.5)), "tiny": sparse(0.5) * 1e-42}


def model_of(form):
    """A model that gives back a packed weight, added to its input."""
    made = UnpackingNodes("w", form)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, form.shape) for name in ("x", "y")]
    nodes = [*shared_nodes(made.nodes), *made.nodes, helper.make_node("Add", ["x", "w"], ["y"])]
    tensors = [*made.tensors, *shared_tensors(nodes)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_form_gives_back_the_bits_here_and_in_the_runtime(name, tmp_path):
    weight = WEIGHTS[name]
    forms = list(forms_of(weight))
    assert forms or name == "sparse 0"
    for form in forms:
        assert form.weight().tobytes() == weight.tobytes()
        model = model_of(form)
        onnx.checker.check_model(model, full_check=True)
        session = open_session(model.SerializeToString(), 1, optimised=tmp_path / "o.onnx")
        (given,) = session.run(None, {"x": np.zeros_like(weight)})
        np.testing.assert_array_equal(given, weight)
        assert [node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node] == ["Add"], "not folded at load"


def entropy(share):
    return -sum(p * math.log2(p) for p in (share, 1 - share) if 0 < p < 1)


@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_sparse_weights_take_hardly_more_than_their_entropy(zeros):
    weight = sparse(zeros, (128, 64, 3, 3))
    dense = np.count_nonzero(weight) / weight.size
    bound = weight.size * (entropy(dense) + 32 * dense) / 8
    assert min(form.stored for form in forms_of(weight)) <= 1.05 * bound


@pytest.mark.parametrize("zeros", [0, 0.3, 0.5, 0.7, 0.9])
def test_signs_take_hardly_more_than_their_entropy(zeros):
    weight = signed(zeros, (128, 64, 3, 3))
    dense = np.count_nonzero(weight) / weight.size
    bound = weight.size * (entropy(dense) + dense) / 8 + 128 * 4
    assert min(form.stored for form in forms_of(weight)) <= 1.15 * bound


class Masked(nn.Sequential):
    """A sparse convolution, one of signs, one of signs and zeros, each with a normalisation, and a linear layer."""

    def __init__(self):
        torch.manual_seed(0)
        wide = [nn.Conv2d(width, 24, 3, padding=1, bias=False) for width in (3, 24, 24)]
        norms = [nn.BatchNorm2d(24) for _ in wide]
        super().__init__(*(m for pair in zip(wide, norms) for m in (*pair, nn.ReLU())), nn.AdaptiveAvgPool2d(1))
        self.extend([nn.Flatten(), nn.Linear(24, 5)])
        with torch.no_grad():
            wide[0].weight *= torch.rand_like(wide[0].weight) < 0.1  # leaves negative zeros
            wide[1].weight.copy_(wide[1].weight.sign() * 0.05)
            wide[2].weight.copy_(wide[2].weight.sign() * 0.05 * (torch.rand_like(wide[2].weight) < 0.5))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same subject as a plain and as a compact file."""
    subject = subject_of(Masked(), untouched=Masked)
    folder = tmp_path_factory.mktemp("pair")
    return [export(subject, folder / storage, storage=storage) for storage in ("plain", "compact")]


def test_a_compact_file_is_smaller_and_unpacks_to_the_very_bytes_of_the_plain_one(pair, tmp_path):
    plain, compact = pair
    assert compact.size_bytes < plain.size_bytes / 3
    unpack(compact.path, tmp_path / "plain.onnx")
    assert (tmp_path / "plain.onnx").read_bytes() == plain.path.read_bytes()
    packed = {tensor.name.rpartition("/packed/")[2] for tensor in read_onnx(compact.path).graph.initializer}
    assert {"values", "signs", "mask"} <= packed, "folding the normalisation must leave one magnitude a channel"


def test_a_compact_file_answers_bit_by_bit_as_the_plain_one(pair):
    plain, compact = (predictor_for(each, threads=1).predict(images(9))["logits"] for each in pair)
    np.testing.assert_array_equal(plain, compact)


def test_the_receipt_counts_what_is_unpacked_and_verifying_does_too(pair):
    plain, compact = pair
    assert compact.receipt == plain.receipt
    for one, other in zip(layer_weights(plain.path), layer_weights(compact.path), strict=True):
        assert one.tobytes() == other.tobytes(), "promised zeros are counted in these"
    assert verify(compact.path).status is Status.PASS


def test_zeros_of_a_mask_are_plain_zeros(pair):
    values = [numpy_helper.to_array(tensor) for tensor in read_plain(pair[1].path).graph.initializer]
    floats = [each for each in values if each.dtype == np.float32]
    assert not any((np.signbit(each) & (each == 0)).any() for each in floats)


def test_dense_weights_stay_as_they_are(exported):
    model = read_onnx(exported[1].path)
    assert compacted(model) == unpacked(model) == model


def rewritten(model, change):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    change(other.graph)
    return other


def stored(graph, name):
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def put(graph, part, values):
    stored(graph, f"w/packed/{part}").CopyFrom(numpy_helper.from_array(np.array(values), f"w/packed/{part}"))


def sized(*dims):
    return lambda graph: put(graph, "shape", np.array(dims, np.int64))


BYTES = np.zeros(4, np.uint8)
HOSTILE = {
    "another operator": lambda graph: setattr(graph.node[0], "op_type", "Mod"),
    "another input": lambda graph: graph.node[-2].input.__setitem__(0, "x"),
    "a node less": lambda graph: graph.node.pop(0),
    "another constant": lambda graph: stored(graph, "packed/one").ClearField("raw_data"),
    "another count": lambda graph: put(graph, "places", [5]),
    "an enormous shape": sized(2**31, 2**31),
    "a shape that fits 2 GB but not the bytes": sized(20_000, 20_000),
    "a negative shape": sized(-24, -11),
    "an empty shape": sized(),
    "another shape": sized(24, 98),
    "cut values": lambda graph: setattr(stored(graph, "w/packed/values"), "raw_data", b"\0" * 40),
    "fewer values": lambda graph: put(graph, "values", np.ones(3, np.float32)),
    "values of another type": lambda graph: put(graph, "values", np.ones(3)),
    "values elsewhere": lambda graph: setattr(stored(graph, "w/packed/values"), "data_location", TensorProto.EXTERNAL),
    "two codes": lambda graph: graph.initializer.append(numpy_helper.from_array(BYTES, "w/packed/mask")),
    "no code": lambda graph: setattr(stored(graph, "w/packed/gaps4"), "name", "w/packed/other"),
    "a shape twice": lambda graph: graph.initializer.append(stored(graph, "w/packed/shape")),
    "values twice": lambda graph: graph.initializer.append(stored(graph, "w/packed/values")),
    "a constant twice": lambda graph: graph.initializer.append(stored(graph, "packed/one")),
    "gaps of nothing": lambda graph: put(graph, "gaps4", BYTES[:0]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_edgecr_did_not_pack_is_not_unpacked(name, tmp_path):
    form = next(form for form in forms_of(sparse(0.9)) if form.gaps == "gaps4")
    sound = model_of(form)
    assert numpy_helper.to_array(unpacked(sound).graph.initializer[0]).tobytes() == sparse(0.9).tobytes()
    (tmp_path / "model.onnx").write_bytes(rewritten(sound, HOSTILE[name]).SerializeToString())
    with pytest.raises(FileProblem, match=r"model\.onnx cannot be unpacked"):
        read_plain(tmp_path / "model.onnx")


def test_parts_that_claim_more_than_they_can_hold_are_refused():
    gaps = {"gaps8": np.full(10, 255, np.uint8), "values": np.zeros(2, np.float32)}
    with pytest.raises(FileProblem, match="cannot come out of 18 bytes"):
        PackedWeight((1000, 1000), gaps).weight()
    with pytest.raises(FileProblem, match="do not fit"):
        PackedWeight((2, 1275), gaps).weight()


@pytest.mark.parametrize("part", ["mask", "gaps4", "gaps8", "signs"])
def test_parts_that_are_too_large_for_their_shape_are_not_expanded(part):
    """Each byte becomes up to 16: a small shape would not bound what long parts take."""
    long = {part: np.zeros(1 << 20, np.uint8)}
    parts = long | ({"scales": np.ones(2, np.float32)} if part == "signs" else {"values": np.zeros(3, np.float32)})
    tracemalloc.start()
    with pytest.raises(FileProblem, match=r"do not fit its shape|another number of weights"):
        UnpackingNodes("w", PackedWeight((2, 3), parts)).packed.weight()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 << 20


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_only_float32_is_packed(precision):
    values = {"name": "t", "purpose": "a test", "format": "onnx", "precision": precision, "storage": "compact"}
    with pytest.raises(ValueError, match=f"packs weights of precision fp32, but precision is {precision}"):
        parse_target(values)
    assert load_target("onnx-compact").storage == "compact"


def test_the_command_unpacks_beside_the_file_and_refuses_what_is_plain(pair, tmp_path):
    compact = tmp_path / "small.onnx"
    compact.write_bytes(pair[1].path.read_bytes())
    done = CliRunner().invoke(app, ["unpack", str(compact)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "plain-small.onnx").read_bytes() == pair[0].path.read_bytes()
    for arguments, why in (
        ([tmp_path / "plain-small.onnx"], "is a plain file already"),
        ([compact, "-o", compact], "is the file itself"),
        ([compact], "plain-small.onnx exists already and is not overwritten; choose another place with -o"),
        ([pair[1].path, "-o", pair[1].path.with_name(MANIFEST)], "model.manifest.json exists already"),
        ([tmp_path / "nothing.onnx"], "does not exist"),
    ):
        error = CliRunner().invoke(app, ["unpack", *map(str, arguments)]).exception
        assert isinstance(error, RequestError)
        assert why in str(error)
    pair[1].verify()
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["plain-small.onnx", "small.onnx"]'


def test_every_part_is_read_so_that_no_runtime_warns_of_it():
    for weight in WEIGHTS.values():
        for form in forms_of(weight):
            graph = model_of(form).graph
            read = {name for node in graph.node for name in node.input}
            assert {tensor.name for tensor in graph.initializer} <= read


@pytest.mark.parametrize("shape", [(2**40, 2**40, 3), (0, 5, 3), ()])
def test_the_shape_of_filled_trits_is_believed_no_more(shape, tmp_path):
    form = next(form for form in forms_of(signed(0.4, (24, 11, 3))) if "trits" in form.parts)
    sound = model_of(form)
    assert numpy_helper.to_array(unpacked(sound).graph.initializer[0]).shape == form.shape
    broken = rewritten(sound, lambda graph: put(graph, "filled", np.array(shape, np.int64)))
    (tmp_path / "model.onnx").write_bytes(broken.SerializeToString())
    with pytest.raises(FileProblem, match="cannot be unpacked"):
        read_plain(tmp_path / "model.onnx")

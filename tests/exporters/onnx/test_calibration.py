"""Ranges of activations: each rule on values whose answer is known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.calibration import RULES, Activations


def doubled():
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def calibration(values, portion=100):
    values = np.asarray(values, np.float32).reshape(-1, 4)
    return Activations(doubled(), [values[start : start + portion] for start in range(0, len(values), portion)])


NORMAL = np.random.default_rng(0).standard_normal(40_000)


def test_extremes_are_those_of_all_portions_and_hold_zero():
    found = calibration([1, 2, 3, 4, 5, 6, 7, 8], portion=1).ranges("minmax")
    assert found == {"x": (0.0, 8.0), "y": (0.0, 16.0)}


@pytest.mark.parametrize("rule", ["percentile", "entropy"])  # for the mean square one such outlier is worth its range
def test_one_outlier_does_not_rule_the_range(rule):
    low, high = calibration([*NORMAL, 40, 0, 0, 0]).ranges(rule)["x"]
    assert 2 < high < 20
    assert NORMAL.min() * 1.1 < low < 0


def test_percentile_leaves_the_rarest_outside_but_no_more_at_either_end():
    low, high = calibration(NORMAL).ranges("percentile")["x"]
    assert 0 < (high < NORMAL).mean() <= 1e-4
    assert 0 < (low > NORMAL).mean() <= 1e-4


def test_every_column_of_large_feature_maps_is_looked_at():
    """Maps of 112 columns with so many channels that of 49 values one is taken; the last column is the largest."""
    shape = (1, 64, 112, 112)
    model = doubled()
    for value in (*model.graph.input, *model.graph.output):
        value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, shape))
    values = np.ones(shape, np.float32)
    values[..., -1] = 2
    low, high = Activations(model, [values]).ranges("percentile")["x"]
    assert (low, high) == (0, pytest.approx(2))


@pytest.mark.parametrize("rule", list(RULES))
def test_even_values_are_not_clipped(rule):
    low, high = calibration(np.linspace(0, 1, 40_000)).ranges(rule)["x"]
    assert low == 0.0
    assert high > 0.97


@pytest.mark.parametrize("rule", list(RULES))
def test_zeros_of_a_relu_change_no_range(rule):
    one, other = (calibration(values).ranges(rule) for values in (NORMAL, [*NORMAL, *np.zeros(100_000)]))
    assert one == other


@pytest.mark.parametrize("rule", ["minmax", *RULES])
def test_zero_is_inside_where_no_value_comes_near_it(rule):
    values = np.linspace(5, 6, 40_000)
    low, high = calibration(values).ranges(rule)["x"]
    assert (low, high) == (0.0, pytest.approx(6, abs=0.1))
    low, high = calibration(-values).ranges(rule)["x"]
    assert (low, high) == (pytest.approx(-6, abs=0.1), 0.0)


@pytest.mark.parametrize("rule", ["minmax", *RULES])
def test_a_dead_activation_has_a_range_that_can_be_divided_by(rule):
    low, high = calibration(np.zeros(8)).ranges(rule)["x"]
    assert low <= 0.0 <= high
    assert np.isfinite([low, high]).all()


def test_the_least_squares_range_beats_its_neighbours():
    low, high = calibration(NORMAL).ranges("mse")["x"]

    def error(share):
        step = (high - low) * share / 255
        rounded = np.clip(np.round(NORMAL / step) * step, low * share, high * share)
        return np.square(NORMAL - rounded).mean()

    assert error(1.0) < error(0.8)
    assert error(1.0) < error(1.25)


def inverse(values):
    """The range of one over some values, by a node that bears the name of its layer's weight."""
    model = doubled()
    model.graph.node[0].CopyFrom(helper.make_node("Div", ["a.weight", "x"], ["y"], "div"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1, 1, 0, 1]), "a.weight"))
    return Activations(model, [np.float32(values).reshape(-1, 4)])


@pytest.mark.parametrize("rule", ["minmax", *RULES])
@pytest.mark.parametrize("values", [[0, 1, 1, 1], [1, 1, 0, 1]])
def test_a_value_without_end_is_refused_by_its_place(rule, values):
    place = "the value 'y' of Div div with the weights of layer a is infinite or not a number"
    with pytest.raises(UnsupportedModel, match=place):
        inverse(values).ranges(rule)


def test_an_input_that_is_no_number_is_refused():
    with pytest.raises(UnsupportedModel, match="the input 'x' is infinite"):
        calibration([1, 2, np.nan, 4]).ranges("minmax")


def test_extremes_know_values_without_end():
    assert inverse([0, 1, 1, 1]).extremes["y"] == (0.0, np.inf)


def test_the_models_own_outputs_stay():
    model = doubled()
    calibration(NORMAL)
    assert [output.name for output in model.graph.output] == ["y"]
    onnx.checker.check_model(model)

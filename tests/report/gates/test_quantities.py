import pytest

from edgecr.core.errors import RequestError
from edgecr.report.gates.quantities import Kind, quantities, suite_gates
from edgecr.robustness.conditions import Computed, Suite, suites


def dim(image, random, by=1):
    return image


@pytest.fixture
def declare(monkeypatch):
    monkeypatch.setattr(suites, "_items", dict(suites._items))
    return lambda name, *members: suites.register(name)(Suite(name, "a test", members))


def levels(*severities):
    return {severity: {"by": severity} for severity in severities}


def test_the_first_suites_gates_keep_their_names():
    found = [name for name, quantity in quantities(["noise5"]).items() if quantity.kind is Kind.ACCURACY]
    conditions = ("gauss", "iso", "rgb_shift", "pixel_dropout", "fog")
    assert sorted(found) == sorted(
        ["clean_accuracy", "noise5_accuracy", *(f"noise5_{condition}_accuracy" for condition in conditions)]
    )


def test_a_corruption_of_one_severity_has_no_mean_but_both_names():
    assert suite_gates("s", ["clean", "dim-3", "far-1", "far-2"]) == {
        "s_dim-3_accuracy": "dim-3",
        "s_dim_accuracy": "dim-3",
        "s_far-1_accuracy": "far-1",
        "s_far-2_accuracy": "far-2",
        "s_far_accuracy": "far-mean",
        "s_accuracy": "mean",
    }


def test_a_gate_with_two_meanings_is_refused(declare):
    declare("dusk", Computed(name="rain_dim", function=dim, levels=levels(1)))
    declare("dusk_rain", Computed(name="dim", function=dim, levels=levels(1)))
    assert "dusk_rain_dim_accuracy" in quantities(["dusk"])
    with pytest.raises(RequestError, match="gate dusk_rain_dim-1_accuracy has two meanings"):
        quantities(["dusk", "dusk_rain"])

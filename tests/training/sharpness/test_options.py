import pytest
from pydantic import ValidationError

from edgecr.recipe import editor_schema
from edgecr.training.options import TrainOptions
from edgecr.training.sharpness.options import AdaSap, Asam, Bounds, Sam


def sharpness(value, **keys):
    return TrainOptions.parse({"sharpness": value, **keys}).sharpness


def test_there_is_none_unless_asked_for():
    assert TrainOptions().sharpness is None
    assert sharpness(None) is None


@pytest.mark.parametrize("kind", ["sam", "asam", "adasap"])
def test_a_name_alone_means_its_defaults(kind):
    assert sharpness(kind) == sharpness({"kind": kind})


def test_defaults_are_those_of_the_papers():
    assert sharpness("sam") == Sam(kind="sam", rho=0.05)
    assert sharpness("asam") == Asam(kind="asam", rho=0.5, eta=0.01)
    adasap = sharpness("adasap")
    assert (adasap.flavour, adasap.bounds(0), adasap.scope, adasap.include_bn) == ("asam", (0.01, 2.0), "global", False)
    assert sharpness({"kind": "adasap", "flavour": "sam"}).bounds(0) == (0.01, 0.1)


@pytest.mark.parametrize("value", ["adasap", {"kind": "adasap", "phases": [{"epochs": 3, "rho_min": 0, "rho_max": 1}]}])
def test_what_is_written_down_is_read_back(value):
    options = TrainOptions.parse({"sharpness": value})
    assert TrainOptions.parse(options.plain()) == options


def test_phases_follow_one_another():
    phases = [{"epochs": 2, "rho_min": 0.1, "rho_max": 1.0}, {"epochs": 1, "rho_min": 0.2, "rho_max": 0.3}]
    declared = sharpness({"kind": "adasap", "phases": phases, "rho_min": 2.0})
    assert isinstance(declared, AdaSap)
    assert [declared.bounds(epoch) for epoch in range(5)] == [(0.1, 1.0)] * 2 + [(0.2, 0.3)] + [Bounds(2.0, 2.0)] * 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("sharp", "'sam', 'asam' or 'adasap'"),
        (3, "kind"),
        ([], "kind"),
        ({}, "kind"),
        ({"kind": "asamm"}, "Did you mean 'asam'"),
        ({"kind": "sam", "eta": 0.1}, "not permitted"),
        ({"kind": "sam", "rho": -0.1}, "greater than or equal to 0"),
        ({"kind": "sam", "rho": "0.1"}, "number"),
        ({"kind": "asam", "eta": -1}, "greater than or equal to 0"),
        ({"kind": "adasap", "rho": 1}, "not permitted"),
        ({"kind": "adasap", "flavour": "gsam"}, "'sam' or 'asam'"),
        ({"kind": "adasap", "scope": "local"}, "'global' or 'layer'"),
        ({"kind": "adasap", "rho_min": 3}, r"rho_min \(3\) must not exceed rho_max \(2\)"),
        ({"kind": "adasap", "flavour": "sam", "rho_min": 0.2}, r"rho_min \(0.2\) must not exceed rho_max \(0.1\)"),
        ({"kind": "adasap", "flavour": "sam", "eta": 0.1}, "eta belongs to flavour: asam"),
        ({"kind": "adasap", "phases": [{"epochs": 0, "rho_min": 0, "rho_max": 1}]}, "greater than or equal to 1"),
        ({"kind": "adasap", "phases": [{"epochs": 1, "rho_min": 2, "rho_max": 1}]}, "must not exceed"),
        ({"kind": "adasap", "phases": [{"epochs": 101, "rho_min": 0, "rho_max": 1}]}, "phases take 101 of 100 epochs"),
    ],
)
def test_nonsense_is_refused_with_a_reason(value, words):
    with pytest.raises(ValidationError, match=words):
        sharpness(value)


def test_editors_know_the_names_and_the_settings():
    schema = editor_schema()
    text = str(schema["$defs"]["Train"]["properties"]["sharpness"])
    assert "'adasap'" in text
    assert "#/$defs/AdaSap" in text

"""Promises about tensors, through later changes."""

import pytest

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.promise import ZEROS, Promise


def test_a_promise_goes_with_its_tensor():
    held = Promise(figures={ZEROS: {"a": 5, "b": 5, "gone": 5}})
    after = held.after({"a": 10, "b": 10, "gone": 10}, {"a": 10, "b": 7})
    assert after.figures == {ZEROS: {"a": 5, "b": 2}}


def test_a_promise_about_no_parameter_is_explained():
    with pytest.raises(UnsupportedModel, match="promises zeros in 'running_mean', which is no parameter"):
        Promise(figures={ZEROS: {"running_mean": 5}}).after({"a": 10}, {"a": 10, "running_mean": 10})

"""Stated means and deviations: on a scale from 0 to 1, or refused with the ones that were meant."""

import numpy as np
import pytest

from edgecr.core.errors import RequestError
from edgecr.data.scale import as_keywords, as_options, checked_scale

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (MEAN, STD),
        (np.array(MEAN), list(STD)),
        ((0, 0, 0), (1, 1, 1)),
        ((-0.5, 0, 1), (1 / 255,) * 3),  # a file of pixels from 0 to 255
        (None, STD),
        (None, None),
    ],
)
def test_figures_from_0_to_1_are_taken_as_they_are(mean, std):
    found = checked_scale(mean, std, as_keywords)
    for given, taken in zip((mean, std), found, strict=True):
        assert taken is None if given is None else taken == tuple(given)


@pytest.mark.parametrize(
    ("mean", "std", "meant"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ((127.5,) * 3, (1, 1, 1), f"--mean 0.5,0.5,0.5 --std {','.join(['0.00392157'] * 3)}"),
        ((123.675, 116.28, 103.53), STD, "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (MEAN, (58.395, 57.12, 57.375), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ((-127.5,) * 3, None, "--mean -0.5,-0.5,-0.5"),
    ],
)
def test_figures_from_0_to_255_are_refused_with_the_divided_ones(mean, std, meant):
    with pytest.raises(RequestError, match="pixels from 0 to 255: divide them by 255") as refused:
        checked_scale(mean, std, as_options)
    assert str(refused.value).endswith(meant)


@pytest.mark.parametrize("mean", [123, "0.5", (0.5, 0.5), (0.5,) * 4, (0.5, None, 0.5), (0.5, float("nan"), 0.5)])
def test_a_mean_is_three_numbers(mean):
    with pytest.raises(RequestError, match=r"three numbers .* mean=\(0.5, 0.5, 0.5\)"):
        checked_scale(mean, STD, as_keywords)


@pytest.mark.parametrize("std", [(1, 0, 1), (0.2, -0.2, 0.2), (float("inf"),) * 3])
def test_a_deviation_is_above_0(std):
    with pytest.raises(RequestError, match="above 0"):
        checked_scale(MEAN, std, as_keywords)

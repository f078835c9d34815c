"""Golden numbers of the papers' schedules."""

import numpy as np
import pytest

from edgecr.methods.sparsify.ratios import by_fraction, cubic, in_rounds, lip_resnet20, lip_robust


def test_the_ratios_of_lost_in_pruning():
    levels = lip_resnet20()
    expected = """.1500 .2242 .2919 .3536 .4100 .4615 .5085 .5514 .5905 .6263 .6589 .6886 .7158 .7406 .7632 .7839
    .8027 .8200 .8357 .8500 .8960 .9380 .9800"""
    assert [round(level[-1], 4) for level in levels] == [float(text) for text in expected.split()]
    flat = [ratio for level in levels for ratio in level]
    assert len(flat) == 69
    assert flat == sorted(flat)
    np.testing.assert_allclose(levels[0], (0.01, 0.145, 0.15))
    robust = [1 - level[-1] for level in lip_robust()]
    np.testing.assert_allclose([robust[0], robust[-1]], [0.80, 0.03])
    np.testing.assert_allclose(np.diff(np.log(robust)), np.log(0.03 / 0.8) / 15)


def test_the_sparsities_of_lottery_tickets():
    levels = [level[-1] for level in by_fraction(0.97, 0.2)]
    vector = [
        0.2,
        0.36,
        0.488,
        0.5904,
        0.6723,
        0.7379,
        0.7903,
        0.8322,
        0.8658,
        0.8926,
        0.9141,
        0.9313,
        0.9450,
        0.9560,
        0.9648,
        0.97,
    ]
    np.testing.assert_allclose(levels, vector, atol=6e-5)
    assert by_fraction(0.36, 0.2) == ((pytest.approx(0.2),), (0.36,))
    assert by_fraction(0.1, 0.2) == ((0.1,),)


def test_rounds_leave_the_same_part_each():
    left = [1 - level[-1] for level in in_rounds(0.875, 3)]
    np.testing.assert_allclose(left, [0.5, 0.25, 0.125])
    assert in_rounds(0.3, 1) == ((0.3,),)


def test_gradual_pruning_follows_its_cube():
    vector = [0, 0.2439, 0.4392, 0.5913, 0.7056, 0.7875, 0.8424, 0.8757, 0.8928, 0.8991, 0.9]
    np.testing.assert_allclose([cubic(number, 10, 0.0, 0.9) for number in range(11)], vector, atol=1e-9)
    assert cubic(0, 4, 0.3, 0.9) == pytest.approx(0.3)

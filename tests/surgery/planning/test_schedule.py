from itertools import pairwise

import pytest

from edgecr.surgery.planning.schedule import neurons_left

PUBLISHED = [1000, 912.4, 832.6, 759.7, 693.1, 632.5, 577.1, 526.6, 480.4, 438.4, 400]


def test_the_exponential_schedule_of_sixty_percent():
    assert [round(neurons_left(step, 10, 1000, 400), 1) for step in range(11)] == PUBLISHED


@pytest.mark.parametrize(("steps", "dense", "left"), [(1, 64, 3), (7, 5, 1), (41, 26560, 10624), (30, 3.2, 1.6)])
def test_it_starts_dense_ends_as_asked_and_takes_equal_fractions(steps, dense, left):
    found = [neurons_left(step, steps, dense, left) for step in range(steps + 1)]
    assert (found[0], found[-1]) == (pytest.approx(dense), pytest.approx(left))
    ratios = [later / earlier for earlier, later in pairwise(found)]
    assert ratios == [pytest.approx((left / dense) ** (1 / steps))] * steps

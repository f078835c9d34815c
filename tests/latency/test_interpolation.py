"""Times between measured counts."""

import numpy as np
import pytest

from edgecr.latency.interpolation import Line, Surface


def test_a_line_is_straight_between_its_points_and_ends_with_them():
    line = Line({4: 1.0, 8: 3.0, 20: 0.0})
    assert line.at(np.array([4, 5, 8, 14, 20])).tolist() == [1.0, 1.5, 3.0, 1.5, 0.0]
    assert np.isnan(line.at(np.array([3, 21]))).all()


def test_a_surface_says_what_was_measured_and_follows_a_row_or_a_column():
    surface = Surface({(4, 8): 1.0, (4, 16): 3.0, (12, 16): 7.0})
    assert surface.at(4, np.array([8, 12, 16])).tolist() == [1.0, 2.0, 3.0]
    assert surface.at(8, np.array([16])).tolist() == [5.0]
    assert np.isnan(surface.at(4, np.array([7, 17]))).all()


def test_curves_multiply_where_they_cross_at_a_larger_cell():
    cells = {(i, o): i * o for i, o in [(32, 64), (8, 64), (32, 16)]}
    assert Surface(cells).at(20, np.array([40])).tolist() == [800.0]


@pytest.mark.parametrize("others", [1, 5])
def test_the_largest_cell_of_another_layer_does_not_hide_the_own_ones(others):
    cells = {(i, o): float(i * o) for i, o in [(32, 64), (8, 64), (32, 16)]}
    cells |= {(1000 + n, 500 + n): 1.0 for n in range(others)}
    cells |= {(30, 900): 2.0, (10, 900): 2.0, (30, 40): 1.0}
    assert Surface(cells).at(20, np.array([50])).tolist() != [1000.0]  # a larger cell with both curves goes first
    del cells[30, 40]
    assert Surface(cells).at(20, np.array([50])).tolist() == [1000.0]


def test_curves_of_layers_with_fewer_inputs_say_nothing():
    cells = {(i, o): float(i * o) for i, o in [(32, 64), (8, 64), (32, 16)]}
    cells |= {(30, 1000): 1.0, (4, 1000): 1.0, (4, 10): 1.0}
    assert Surface(cells).at(20, np.array([50])).tolist() == [1000.0]


def test_each_count_takes_the_largest_crossing_that_reaches_it():
    cells = {(i, o): float(i * o) for i, o in [(32, 64), (8, 64), (32, 16)]}
    cells |= dict.fromkeys([(31, 60), (8, 60), (31, 10)], 5.0)
    assert Surface(cells).at(20, np.array([50, 12])).tolist() == [1000.0, 5.0]


def test_a_larger_crossing_serves_the_smaller_counts_even_where_others_are_beyond_it():
    cells = {(i, o): float(i * o) for i, o in [(32, 64), (8, 64), (32, 16)]}
    cells |= dict.fromkeys([(60, 40), (8, 40), (60, 10)], 5.0)
    assert Surface(cells).at(20, np.array([50, 12])).tolist() == [1000.0, 5.0]


def test_whole_groups_go_along_their_ratio():
    surface = Surface({(4, 8): 1.0, (12, 24): 3.0, (8, 8): 99.0})
    assert surface.along(2.0, np.array([4, 8, 12])).tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(surface.along(3.0, np.array([4]))).all()


def test_nothing_measured_says_nothing():
    assert np.isnan(Surface({}).at(4, np.array([4]))).all()
    assert np.isnan(Surface({}).along(1.0, np.array([4]))).all()

"""The search for a latency, on devices that are formulas: a plan is a number, the time that the table promises."""

from __future__ import annotations

import dataclasses
import operator

import pytest

from edgecr.core.errors import BudgetError
from edgecr.methods.prune.latency_search import CHECKS, LOOSER, MADE, Aim, Measured, Tried, search


class Device:
    """Plans promise ``strictness`` of the request; whole models take ``factor`` of the promise plus ``constant``."""

    def __init__(self, factor=1.0, constant=0.0, least=0.0, taught=1.0):
        self.factor, self.constant, self.least, self.taught = factor, constant, least, taught
        self.planned, self.measured = [], []

    def plan(self, aim):
        if aim.strictness < self.least:
            raise BudgetError(f"nothing as strict as {aim.strictness}")
        self.planned.append(aim)
        return aim.strictness

    def measure(self, plan, aim):
        self.measured.append(plan)
        known = (*aim.lessons, f"lesson {len(aim.lessons) + 1}")
        return Measured(self.factor * plan + self.constant, known, (plan, plan * self.taught))

    def refusal(self, plan):
        return BudgetError(f"the last plan was {plan}")

    def found(self):
        return search(self.measure, self.plan, self.refusal, operator.eq)


def test_a_first_plan_that_is_good_stays():
    device = Device(0.97)
    assert device.found() == (1.0, Aim())
    assert device.planned == [Aim()]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.2, 3.0])
def test_the_next_plan_is_as_much_stricter_as_the_table_was_wrong(factor):
    device = Device(factor)
    plan, aim = device.found()
    assert 0.95 <= factor * plan <= 0.99
    assert aim == Aim(pytest.approx(0.975 / factor), ("lesson 1",))
    assert len(device.measured) == 2


def test_lessons_move_what_the_next_plan_must_promise():
    """The table calls the same plan a tenth slower once it was taught: the aim is a tenth looser."""
    first = Tried("plan", Aim(0.8), Measured(1.3, ("lesson",), (0.8, 0.88)))
    assert first.next == Aim(pytest.approx(0.8 * 0.975 / 1.3 * 1.1), ("lesson",))
    assert not first.keeps


def test_the_nearest_plan_that_keeps_the_request_is_chosen_and_made_anew_with_what_it_was_made_with():
    """Every second plan misses: of those that keep the request the largest counts, not the last one."""
    device, parts = Device(), iter([0.6, 1.4, 0.8, 1.3, 1.2])
    device.measure = lambda plan, aim: Measured(next(parts), (*aim.lessons, plan), (1.0, 1.0))
    plan, aim = device.found()
    assert len(device.planned) == CHECKS + 1
    assert aim == device.planned[2] == device.planned[-1]
    assert plan == aim.strictness
    assert len(aim.lessons) == 2, "what the chosen plan itself taught came after it"


def test_no_more_plans_than_checks_are_measured_and_the_last_one_stays_if_none_keeps_the_request():
    device = Device()
    device.measure = lambda plan, aim: Measured(2.0, aim.lessons, (1.0, 1.0))
    plan, aim = device.found()
    assert len(device.planned) == CHECKS
    assert plan == aim.strictness == pytest.approx((0.975 / 2) ** (CHECKS - 1))


def test_a_table_that_knows_no_plan_fast_enough_is_asked_for_looser_ones():
    device = Device(0.7, least=1.15)
    _, aim = device.found()
    assert device.planned[0].strictness == pytest.approx(LOOSER**2)
    assert aim.strictness == pytest.approx(0.975 / 0.7)


def test_the_first_refusal_is_told_if_looser_plans_are_refused_too():
    with pytest.raises(BudgetError, match=r"as strict as 1\.0$"):
        Device(least=2.0).found()


def test_where_no_stricter_plan_is_possible_the_last_one_is_refused():
    with pytest.raises(BudgetError, match=r"the last plan was 1\.0"):
        Device(1.5, least=0.9).found()


def test_a_plan_that_keeps_the_request_stays_where_no_stricter_one_is_possible():
    device, parts = Device(least=0.9), iter([0.9, 1.5])
    device.measure = lambda plan, aim: Measured(next(parts), aim.lessons, (1.0, 1.0))
    assert device.found() == (1.0, Aim())


class Steps(Device):
    """Widths move in steps, so that near aims give one plan; the table moves on a bit with each lesson."""

    def plan(self, aim):
        return round(super().plan(aim) * 4) / 4

    def measure(self, plan, aim):
        self.measured.append(plan)
        return Measured(self.factor * plan, aim.lessons, (plan, plan * self.taught))


@pytest.mark.parametrize(("factor", "expected"), [(1.02, 0.75), (1.3, 0.75), (0.9, 1.0)])
def test_a_plan_that_repeats_an_earlier_one_is_measured_once_and_the_aim_moves_on(factor, expected):
    device = Steps(factor)
    plan, aim = device.found()
    assert len(device.measured) == len(set(device.measured))
    assert plan == expected
    assert device.plan(aim) == plan
    assert len(device.planned) <= 1 + MADE + 1


def test_repeated_plans_end_the_search_where_nothing_else_can_be_planned():
    device = Device(1.2)
    device.plan = lambda aim: (device.planned.append(aim), 1.0)[1]
    assert device.found() == (1.0, Aim())
    assert device.measured == [1.0]
    assert len(device.planned) == 1 + MADE + 1


def test_the_search_keeps_nothing_between_two_calls():
    device = Device(1.4)
    assert device.found() == device.found()
    assert device.planned[:2] == device.planned[2:]
    for kind in (Aim, Measured, Tried):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(*[None] * len(dataclasses.fields(kind))), dataclasses.fields(kind)[0].name, 1)

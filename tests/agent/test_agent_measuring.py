from __future__ import annotations

from threading import active_count

import pytest


class FakeTime:
    """A clock that only calls move on."""

    def __init__(self) -> None:
        self.ns = 1_000

    def __call__(self) -> int:
        return self.ns

    def call(self, *costs: int):
        """A call that takes these times in turn, the last one for ever."""
        left = list(costs)

        def run() -> None:
            self.ns += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def measuring(agent):
    return agent("measuring")


def plan(**changes):
    return {"seed": 3, "rounds": 6, "least_rounds": 2, "max_s": 1.0} | changes


def rounds(measuring, clock, calls, counts, **changes):
    events = []
    measuring.rounds(
        calls,
        counts,
        plan(**changes),
        clock,
        lambda: None,
        lambda before: {"wait_ns": 0},
        lambda event, **fields: events.append(fields),
    )
    assert set(events.pop()) == {"reason"}
    return events


@pytest.mark.parametrize(("changes", "reason"), [({"rounds": 3}, "rounds"), ({"max_s": 0.02}, "time")])
@pytest.mark.parametrize("pause", [0, 5_000_000])
def test_the_agent_tells_at_which_limit_it_stopped(measuring, changes, reason, pause) -> None:
    """Sending an event takes time that no call accounts for."""
    clock, events = FakeTime(), []

    def emit(event, **fields) -> None:
        clock.ns += pause
        events.append((event, fields))

    call = clock.call(3_000_000)
    measuring.rounds([call, call], [2, 2], plan(**changes), clock, lambda: None, lambda before: {}, emit)
    assert events[-1] == ("ended", {"reason": reason})
    assert [event for event, _ in events].count("ended") == 1


def test_warm_up_ends_when_two_windows_agree_with_the_one_before(measuring) -> None:
    clock = FakeTime()
    warm = measuring.warm_up(clock.call(*[900] * 3, *[500] * 3, 100), clock, 0.02, 1e-9, 1.0)
    assert warm == {"steady": True, "calls": 15, "medians_ns": [900, 500, 100, 100, 100]}


def test_warm_up_gives_up_and_says_so(measuring) -> None:
    clock = FakeTime()
    slower_and_slower = clock.call(*range(1000, 100_000_000, 1000))
    warm = measuring.warm_up(slower_and_slower, clock, 1e-6, 1e-9, 1e-4)
    assert warm["steady"] is False


def test_a_window_has_at_least_three_calls(measuring) -> None:
    clock = FakeTime()
    assert measuring.window(clock.call(10**9), clock, 1.0) == [10**9] * 3


@pytest.mark.parametrize(("median_ns", "round_s", "expected"), [(10**6, 0.1, 100), (10**9, 0.1, 1), (0, 1e-6, 1000)])
def test_calls_that_fill_a_round(measuring, median_ns, round_s, expected) -> None:
    assert measuring.per_round(median_ns, round_s) == expected


def test_every_arm_has_one_turn_in_every_round_in_changing_order(measuring) -> None:
    clock = FakeTime()
    events = rounds(measuring, clock, [clock.call(100), clock.call(200), clock.call(300)], [4, 2, 1])
    by_round = [[event["arm"] for event in events if event["number"] == number] for number in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in by_round)
    assert len({tuple(order) for order in by_round}) > 1
    assert {event["arm"]: event["ns"] for event in events} == {0: [100] * 4, 1: [200] * 2, 2: [300]}


def test_the_first_call_after_a_switch_is_not_counted(measuring) -> None:
    clock = FakeTime()
    assert rounds(measuring, clock, [clock.call(999, 100)], [3], rounds=1)[0]["ns"] == [100, 100, 100]


def test_the_order_follows_the_seed(measuring) -> None:
    def order(seed: int) -> list[int]:
        clock = FakeTime()
        events = rounds(measuring, clock, [clock.call(1)] * 4, [1] * 4, seed=seed)
        return [event["arm"] for event in events]

    assert order(1) == order(1) != order(2)


def test_the_max_stops_between_rounds_but_not_before_the_least(measuring) -> None:
    clock = FakeTime()
    events = rounds(measuring, clock, [clock.call(2 * 10**9), clock.call(10**9)], [1, 1], least_rounds=3, rounds=9)
    assert [sum(event["arm"] == arm for event in events) for arm in (0, 1)] == [3, 3]


def test_throughput_counts_the_calls_of_all_streams(measuring, agent) -> None:
    calls = [lambda: None, lambda: None]
    clock = agent("clock")
    rate = measuring.throughput(calls, 0.02, clock.now, clock.counters, clock.since)
    assert rate["streams"] == 2
    assert rate["calls"] > 2
    assert rate["elapsed_ns"] >= 2 * 10**7
    assert {"run_ns", "wait_ns", "switches", "steal"} <= set(rate)


def test_the_counters_are_read_while_the_threads_of_throughput_still_live(measuring, agent) -> None:
    """The kernel forgets what it counted for a thread that has ended."""
    seen = []
    measuring.throughput(
        [lambda: None] * 2, 0.001, agent("clock").now, lambda: None, lambda before: {"_": seen.append(active_count())}
    )
    assert seen[0] >= 3


class Processor:
    """CPU time that passes by 1,000 with each reading of another counter."""

    def __init__(self) -> None:
        self.ns = 0

    def spend(self, result):
        def read(*_):
            self.ns += 1000
            return result

        return read


@pytest.fixture
def costly(agent, monkeypatch):
    clock, cost = agent("clock"), Processor()
    monkeypatch.setattr(clock, "processor", lambda: cost.ns)
    monkeypatch.setattr(clock, "schedule", cost.spend((1, 0)))
    monkeypatch.setattr(clock, "steal", cost.spend(0))
    return clock, cost


def test_cpu_time_excludes_the_reading_of_the_counters(costly) -> None:
    clock, cost = costly
    before = clock.counters()
    cost.ns += 50
    assert clock.since(before)["run_ns"] == 50


def test_cpu_time_of_a_round_excludes_the_counters(measuring, costly) -> None:
    clock, cost = costly

    def call() -> None:
        cost.ns += 7

    events = []
    measuring.rounds(
        [call],
        [10],
        plan(rounds=1),
        lambda: cost.ns,
        clock.counters,
        clock.since,
        lambda event, **fields: events.append(fields),
    )
    assert events[0]["run_ns"] == 70
    assert events[0]["ns"] == [7] * 10


def test_a_kernel_that_does_not_count_is_silent_not_calm(agent, tmp_path) -> None:
    """Without CONFIG_SCHEDSTATS and delay accounting the file is there and holds zeros."""
    (tmp_path / "7").mkdir()
    file = tmp_path / "7" / "schedstat"
    file.write_text("0 0 0\n")
    assert agent("clock").schedule(str(tmp_path)) == (None, None)
    file.write_text("500 20 3\n")
    assert agent("clock").schedule(str(tmp_path)) == (500, 20)
    file.unlink()
    assert agent("clock").schedule(str(tmp_path)) == (None, None)


def test_a_counter_that_fell_is_not_known(agent) -> None:
    assert agent("clock").difference(5, 4) is None
    assert agent("clock").difference(5, 9) == 4

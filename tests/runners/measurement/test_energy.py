"""Energy from raw readings of power: golden numbers, and nothing where the readings cannot carry a figure."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgecr.runners.measurement.energy import UNASKED, NoEnergy, PowerTrace, Total, spent, total_of
from edgecr.runners.measurement.figures import course, over_current_in
from edgecr.runners.measurement.readings import BoardState, FreeMemory, PowerReadings, Sensor, Watched
from edgecr.runners.measurement.record import Alone, Round
from edgecr.runners.measurement.summary import compare, summarise
from edgecr.runners.power import Power
from tests.runners.measurement.test_summary import measurement, start

S = 10**9


def watched(points: dict[float, float], unit: str = "mw", rail: str = "VDD_IN", **more) -> Watched:
    """Readings of one rail at seconds."""
    at = tuple(int(moment * S) for moment in points)
    readings = PowerReadings(unit=unit, at_ns=at, rails={rail: tuple(points.values())})
    return Watched(sensor=Sensor(source="hwmon"), power=(readings,), **more)


def trace(points: dict[float, float], unit: str = "mw") -> PowerTrace:
    return PowerTrace(watched(points, unit), ("VDD_IN",))


EDGES = {0.0: 1000.0, 1.0: 1000.0, 2.0: 3000.0, 3.0: 3000.0}


@pytest.mark.parametrize(
    ("window", "joules", "inside"),
    [
        ((0.5, 2.5), 0.5 + 2.0 + 1.5, 2),  # edges lie between readings
        ((0.0, 3.0), 1.0 + 2.0 + 3.0, 4),  # edges lie on readings
        ((1.25, 1.75), (1.5 + 2.5) / 2 * 0.5, 0),  # no reading within
        ((1.0, 1.0), 0.0, 1),
    ],
)
def test_power_is_integrated_between_the_edges_of_a_window(window, joules: float, inside: int) -> None:
    found, ends = trace(EDGES), [int(edge * S) for edge in window]
    assert found.between(*ends) == pytest.approx(joules, abs=1e-12)
    assert found.inside(*ends) == inside


def test_windows_that_touch_add_up_to_the_whole() -> None:
    found = trace(EDGES)
    parts = [found.between(int(a * S / 7), int((a + 1) * S / 7)) for a in range(21)]
    assert sum(parts) == pytest.approx(found.between(0, 3 * S), abs=1e-12)


def test_an_energy_counter_is_read_off_at_the_edges() -> None:
    found = trace({0.0: 5e6, 1.0: 7e6, 2.0: 7e6}, "uj")
    assert found.between(S // 2, 3 * S // 2) == pytest.approx(1.0)


def test_a_counter_that_begins_anew_in_the_next_job_loses_nothing_of_either() -> None:
    found = trace({0.0: 0.0, 1.0: 3e6, 2.0: 0.0, 3.0: 2e6}, "uj")
    assert (found.between(0, S), found.between(2 * S, 3 * S)) == (pytest.approx(3.0), pytest.approx(2.0))


@pytest.mark.parametrize(("window", "why"), [((-0.1, 1.0), "cover"), ((2.0, 3.1), "cover"), ((3.0, 9.0), "gap")])
def test_what_the_readings_do_not_cover_has_no_energy(window, why: str) -> None:
    points = EDGES if why == "cover" else EDGES | {9.5: 3000.0}
    with pytest.raises(NoEnergy, match=why):
        trace(points).between(*(int(edge * S) for edge in window))


def test_a_rail_that_was_silent_for_a_moment_is_bridged_and_none_at_all_covers_nothing() -> None:
    assert trace({0.0: 1000.0, 0.5: None, 1.0: 1000.0}).between(0, S) == pytest.approx(1.0)
    with pytest.raises(NoEnergy):
        trace({0.0: None, 1.0: None}).between(0, S)


def test_rails_are_summed_and_chunks_joined() -> None:
    chunks = tuple(
        PowerReadings(unit="mw", at_ns=(at, at + S // 2), rails={"A": (1000.0, 1000.0), "B": (500.0, 500.0)})
        for at in (0, S)
    )
    assert PowerTrace(Watched(power=chunks), ("A", "B")).between(0, S) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("rails", "source", "power", "total"),
    [
        (("VDD_IN", "VDD_SOC", "VDD_CPU_GPU_CV"), "hwmon", {}, Total(("VDD_IN",), "module")),
        (("VIN", "VDD_GPU", "VIN_SYS_5V0"), "hwmon", {}, Total(("VIN",), "module")),
        (("POM_5V_CPU", "POM_5V_IN"), "hwmon", {}, Total(("POM_5V_IN",), "module")),
        (  # not VIN_SYS_5V0 alone, and not the rail behind it once more
            ("VDD_CPU_CV", "VDD_GPU_SOC", "VDDQ_VDD2_1V8AO", "VIN_SYS_5V0"), "tegrastats", {},
            Total(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "rails"),
        ),
        (("CPU", "GPU", "SOC", "SYS5V"), "hwmon", {}, Total(("GPU", "CPU", "SOC", "SYS5V"), "rails")),
        (("package-0", "package-1"), "rapl", {}, Total(("package-0", "package-1"), "package")),
        (("VDD_CORE", "HDMI"), "pmic", {}, Total(("HDMI", "VDD_CORE"), "rails")),
        (("VDD_IN", "DC_IN"), "hwmon", {"total_rail": "DC_IN", "scope": "board"}, Total(("DC_IN",), "board")),
    ],
)  # fmt: skip
def test_the_total_and_its_scope_by_the_rules_of_known_boards(rails, source, power, total) -> None:
    assert total_of(rails, source, Power.parse(power)) == total


def test_a_rail_that_is_not_there_is_named() -> None:
    with pytest.raises(NoEnergy, match="no rail DC_IN"):
        total_of(("VDD_IN",), "hwmon", Power(total_rail="DC_IN"))


def turn(at_s: float, seconds: float, calls: int = 10) -> Round:
    return Round(arm=0, number=0, start_ns=int(at_s * S), ns=(int(seconds * S / calls),) * calls)


def steady(seconds: float, period: float, mw: float = 2000.0) -> dict[float, float]:
    return {step * period: mw for step in range(int(seconds / period) + 1)}


def test_energy_of_an_inference_and_what_is_left_of_it_above_idle() -> None:
    found = spent(trace(steady(4, 0.05)), [turn(0.5, 1.0), turn(2.5, 1.0)], 2)
    assert (found.calls, found.readings) == (20, 42)
    assert found.per_call == pytest.approx(2.0 * 2.0 / 20 * 1e3)
    assert found.above(0.5) == pytest.approx(1.5 * 2.0 / 20 * 1e3)


@pytest.mark.parametrize(
    ("turns", "arms", "why"),
    [
        ([turn(1.01, 0.9)], 1, "18 power readings fall into its turns, at least 20"),
        ([turn(0.1 * number + 0.02, 0.06) for number in range(30)], 2, "a turn holds 1 power readings"),
    ],
)
def test_too_few_readings_are_no_energy(turns, arms: int, why: str) -> None:
    with pytest.raises(NoEnergy, match=why):
        spent(trace(steady(4, 0.05)), turns, arms)


def test_one_arm_needs_no_turns_of_its_own() -> None:
    turns = [turn(0.1 * number + 0.02, 0.06) for number in range(30)]
    assert spent(trace(steady(4, 0.05)), turns, 1).readings >= 20


def powered(mw=(4000.0, 2000.0), idle: float | None = 1000.0, **extra):
    """Two arms in turns of 0.2 s, of which each takes a power of its own; three launches."""
    one = measurement(times_ms=(20.0, 10.0), rounds=6, calls=10)
    rounds, points, now = [], {}, 0.1
    for each in one.launches[0].rounds:
        each = each.model_copy(update={"start_ns": int(now * S)})
        seconds = each.elapsed_ns / S
        points |= {now + seconds * step / 10: mw[each.arm] for step in range(11)}
        rounds.append(each)
        now += seconds + 0.01
    points = {0.0: 0.0, **points, now: 0.0}
    launch = one.launches[0].model_copy(update={"rounds": tuple(rounds), "watched": watched(points)})
    device = one.device.model_copy(update={"power": Power()})
    before = None if idle is None else watched(steady(3, 0.1, idle))
    return one.model_copy(update={"device": device, "launches": (launch,) * 3, "idle": before, **extra})


def test_figures_of_energy_with_their_scope_and_ratio() -> None:
    slow, fast = summarise(powered())
    assert slow.energy_mj.value == pytest.approx(4.0 * 0.020 * 1e3)
    assert fast.energy_mj.value == pytest.approx(2.0 * 0.010 * 1e3)
    assert (slow.energy_mj.unit, slow.energy_mj.note) == ("mJ", "of the module's input (VDD_IN)")
    assert fast.energy_net_mj.value == pytest.approx(1.0 * 0.010 * 1e3)
    assert "without the idle board's 1.00 W" in fast.energy_net_mj.note
    assert compare(powered(), "baseline", "candidate")[0].energy_ratio.value == pytest.approx(0.25)


def test_without_idle_power_the_first_figure_stays() -> None:
    slow, _ = summarise(powered(idle=None))
    assert slow.energy_mj is not None
    assert "idle_s" in slow.missing["energy_net_mj"]
    assert "no more power" in summarise(powered(idle=9000.0))[0].missing["energy_net_mj"]


def test_nobody_asked_for_power() -> None:
    slow, _ = summarise(measurement())
    assert slow.energy_mj is None
    assert slow.missing["energy_mj"] == UNASKED


def test_the_boards_reason_for_no_reading_is_the_reason_for_no_energy() -> None:
    none = Watched(sensor=Sensor(source=None, reason="energy_uj is readable by root only"))
    one = powered()
    launches = tuple(each.model_copy(update={"watched": none}) for each in one.launches)
    slow, _ = summarise(one.model_copy(update={"launches": launches}))
    assert slow.missing["energy_mj"] == "not measured: energy_uj is readable by root only"
    assert compare(one.model_copy(update={"launches": launches}), "baseline", "candidate")[0].energy_ratio is None


def test_on_a_shared_processor_energy_would_be_others_too() -> None:
    shared = measurement(wait=0.5).model_copy(update={"device": powered().device})
    read = tuple(one.model_copy(update={"watched": watched(EDGES)}) for one in shared.launches)
    told = shared.model_copy(update={"launches": read})
    assert "energy of other programs" in summarise(told)[0].missing["energy_mj"]
    silent = Watched(sensor=Sensor(reason="rails need root"))
    unread = tuple(one.model_copy(update={"watched": silent}) for one in shared.launches)
    none = shared.model_copy(update={"launches": unread})
    assert summarise(none)[0].missing["energy_mj"] == "not measured: rails need root"
    some = shared.model_copy(update={"launches": (*unread[:1], *read[1:])})
    assert "energy of other programs" in summarise(some)[0].missing["energy_mj"]


@pytest.mark.parametrize("mw", [0.0, -5000.0])
def test_a_board_that_takes_nothing_or_less_has_no_energy(mw: float) -> None:
    one = powered(mw=(mw, mw))
    slow, fast = summarise(one)
    assert (slow.energy_mj, fast.energy_mj, slow.energy_net_mj) == (None, None, None)
    assert "the board took nothing" in slow.missing["energy_mj"]
    assert compare(one, "baseline", "candidate")[0].energy_ratio is None


def test_a_counter_that_stands_still_is_no_energy() -> None:
    with pytest.raises(NoEnergy, match="took nothing"):
        spent(trace(steady(4, 0.05, 7e6), "uj"), [turn(0.5, 1.0), turn(2.5, 1.0)], 1)


def test_one_rail_may_read_below_nothing() -> None:
    readings = PowerReadings(unit="mw", at_ns=(0, S), rails={"A": (1000.0, 1000.0), "B": (-10.0, -10.0)})
    assert PowerTrace(Watched(power=(readings,)), ("A", "B")).between(0, S) == pytest.approx(0.99)


def states(*events: int) -> tuple[BoardState, ...]:
    return tuple(
        BoardState(at_ns=number, over_current={"oc3": count}, temperatures={"tj": 62.0 + 24 * number}, gpu_hz=10**9)
        for number, count in enumerate(events)
    )


def test_over_current_events_leave_the_ratio_but_no_absolute_figure() -> None:
    hit = Watched(states=states(41, 53))
    one = measurement(launches=3)
    first = one.launches[0].model_copy(update={"watched": hit})
    slow, _ = summarise(one.model_copy(update={"launches": (first,) * 3}))
    assert slow.p50_ms is None
    assert "momentary over-current (oc3) +12" in slow.missing["p50_ms"]
    assert "Lock the clocks" in slow.missing["p50_ms"]
    some = one.model_copy(update={"launches": (first, *one.launches)})
    assert summarise(some)[0].p50_ms.samples == 120
    assert compare(some, "baseline", "candidate")[0].ratio.value == pytest.approx(0.5)
    assert over_current_in(Watched(states=states(41, 41))) == ""


def test_a_drift_is_told_with_the_boards_course() -> None:
    assert course(states(0, 0)) == "tj 62 to 86 C, GPU 1000 to 1000 MHz"
    assert course(()) == ""
    one = measurement(slope=0.3, launches=1, rounds=30)
    launch = one.launches[0].model_copy(update={"watched": Watched(states=states(0, 0))})
    slow, _ = summarise(one.model_copy(update={"launches": (launch,)}))
    assert any("within a launch (tj 62 to 86 C" in text for text in slow.warnings)


def test_memory_of_the_board_beside_that_of_the_process() -> None:
    free = FreeMemory(at_ns=(0, 1, 2), kb=(1_000_000, 400_000, 900_000))
    alone = Alone(start=start(0), watched=Watched(free=(free,), states=(BoardState(at_ns=0, available_kb=1_000_000),)))
    slow, fast = summarise(measurement(alone=(alone,)))
    assert slow.board_memory_mb.value == pytest.approx(600_000 * 1024 / 1e6)
    assert fast.board_memory_mb is None


@pytest.mark.parametrize(
    "values",
    [
        {"unit": "mw", "at_ns": [1, 2], "rails": {"A": [1.0]}},
        {"unit": "mw", "at_ns": [2, 1], "rails": {"A": [1.0, 1.0]}},
        {"unit": "kw", "at_ns": [], "rails": {}},
        {"unit": "mw", "at_ns": [-1], "rails": {"A": [1.0]}},
        {"unit": "mw", "at_ns": [1], "rails": {"A": [1e308]}},
        {"unit": "mw", "at_ns": [1], "rails": {"A": [-1e308]}},
    ],
)
def test_readings_of_a_board_are_checked(values) -> None:
    with pytest.raises(ValidationError):
        PowerReadings.parse(values)

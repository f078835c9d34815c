"""The state of a Jetson: releases as data, real clocks, over-current, and what its file expects."""

from __future__ import annotations

import re

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners import fitness
from edgecr.runners.fitness.jetpack import RELEASES, release_of, same_version
from tests.runners.fitness_facts import facts, jetson
from tests.runners.tiny_device import quick_device

LIMITED = {"now": 306 * 10**6, "least": 306 * 10**6, "allowed": 624 * 10**6, "possible": 1020 * 10**6}


def orin(**expect):
    return quick_device(kind="jetson", expect=expect)


@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ("32.7.4", "4.6.1 to 4.6.6"),
        ("35.1", "5.0.2"),
        ("36.4.3", "6.1 to 6.2.3"),
        ("36.5.2", "6.1 to 6.2.3"),
        ("38.4.0", "7.1"),
        ("39.2.1", "7.2.1"),
        ("36.6.0", None),
        ("40.0", None),
        ("36", None),
        ("36.4.3.1", None),
        ("x", None),
        (None, None),
    ],
)
def test_a_release_is_known_or_it_is_not(l4t, name) -> None:
    found = release_of(l4t)
    assert (found.name if found else None) == name


def test_the_releases_are_in_order_and_do_not_overlap() -> None:
    ends = [end for one in RELEASES for end in (one.first, one.last)]
    assert ends == sorted(ends)
    assert len(ends) - len(set(ends)) == sum(one.first == one.last for one in RELEASES)


@pytest.mark.parametrize(
    ("known", "found", "same"), [("10.3", "10.3.0.30", True), ("10.3", "10.30", False), ("8.5.2", "8.5.2.2-1", True)]
)
def test_a_version_is_the_known_one_in_all_of_its_parts(known, found, same) -> None:
    assert same_version(known, found) is same


def test_a_jetson_with_locked_clocks_gives_no_warning() -> None:
    assert fitness.before(orin(), jetson()) == []
    assert fitness.after(jetson(), jetson()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"l4t_version": "40.0.0"}, "L4T 40.0.0 is not among the releases .* nothing is assumed"),
        ({"l4t_version": None}, "may be no Jetson"),
        ({"tensorrt": "10.7.0.23"}, "TensorRT 10.7.0.23 is installed, JetPack 6.1 to 6.2.3 comes with 10.3"),
        ({"gpu_clocks": LIMITED}, "may use 624 of 1020 MHz in power mode MAXN_SUPER"),
        ({"gpu_clocks": LIMITED}, "follows the load, 306 to 624 MHz .*sudo jetson_clocks"),
        ({"gpu_users": [{"pid": 5, "name": "Xorg"}]}, r"hold the GPU: Xorg \(pid 5\).*isolate multi-user"),
        ({"over_current_throttling": {"oc1": 1, "oc3": 0}}, "slowed down just now: under-voltage\\. "),
    ],
)
def test_each_warning_about_a_jetson_names_what_was_found(changes, told) -> None:
    assert any(re.search(told, text) for text in fitness.before(orin(), jetson(**changes)))


def test_over_current_and_lowered_clocks_are_told_afterwards() -> None:
    end = jetson(over_current={"oc1": 0, "oc3": 53}, gpu_clocks=LIMITED, power_mode={"name": "15W", "id": 0})
    events, mode, clock = fitness.after(jetson(), end)
    assert "momentary over-current (oc3) +12" in events
    assert "under-voltage" not in events
    assert "from MAXN_SUPER to 15W" in mode
    assert "from 1000 to 624 MHz" in clock


def test_flags_that_a_raspberry_pi_raised_meanwhile_are_told() -> None:
    flags = [facts(throttled={"count": None, "flags": value}) for value in (0x50000, 0x70000)]
    (told,) = fitness.after(*flags)
    assert told.startswith("While measuring the board had frequency capped:")
    assert fitness.after(flags[1], flags[1]) == []


@pytest.mark.parametrize(
    ("expect", "found", "told"),
    [
        ({"l4t": "36.4.*"}, {"l4t_version": "35.4.1", "l4t": "# R35"}, "L4T is '35.4.1', expected '36.4"),
        ({"tensorrt": "10.3.*"}, {"tensorrt": "10.7.0.23"}, "TensorRT is 10.7.0.23, expected 10.3"),
        ({"tensorrt": "10.3.*"}, {"tensorrt": None}, "TensorRT is not installed"),
        ({"power_mode": "15W"}, {}, "power mode is MAXN_SUPER, expected 15W.*sudo nvpmodel -m"),
        ({"power_mode": "15W"}, {"power_mode": None}, "unknown"),
        ({"gpu_mhz": 1020}, {"gpu_clocks": LIMITED}, "at most 624 MHz, expected 1020 MHz, whatever its power mode"),
        ({"gpu_mhz": 1020}, {"gpu_clocks": {}}, "not told"),
        ({"clocks_locked": True}, {"gpu_clocks": LIMITED}, "not locked: sudo jetson_clocks"),
        ({"clocks_locked": False}, {}, "are locked"),
        ({"clocks_locked": True}, {"gpu_clocks": {}}, "nothing tells"),
    ],
)
def test_another_state_than_expected_is_refused_with_its_remedy_and_measured_by_force(expect, found, told) -> None:
    with pytest.raises(DeviceFailed, match=told) as refused:
        fitness.accept_unexpected(orin(**expect), jetson(**found), force=False)
    assert "--force" in str(refused.value)
    (warning,) = fitness.accept_unexpected(orin(**expect), jetson(**found), force=True)
    assert warning.startswith("Measured by force")
    assert re.search(told, warning)


def test_an_expected_state_is_silent_with_force_and_without() -> None:
    wanted = {"l4t": "36.4.*", "tensorrt": "10.3.*", "power_mode": "MAXN_SUPER", "gpu_mhz": 1000, "clocks_locked": True}
    for force in (False, True):
        assert fitness.accept_unexpected(orin(**wanted), jetson(), force) == []


@pytest.mark.parametrize(
    ("power", "told", "warned"),
    [
        (
            {},
            {"source": None, "missing": "rails need root"},
            "left out: rails need root. .*devices/quick.yaml",
        ),
        ({}, {}, "the board tells of no power sensor"),
        ({}, {"source": "hwmon"}, None),
        (None, {"source": None, "missing": "rails need root"}, None),
    ],
)
def test_power_that_nobody_can_read_is_told_before_and_not_only_in_the_report(power, told, warned) -> None:
    texts = fitness.no_energy(quick_device(power=power), facts(power=told))
    assert len(texts) == (warned is not None)
    assert all(re.search(warned, text) for text in texts)


@pytest.mark.parametrize(
    ("kind", "runtimes", "measured", "told"),
    [
        ("jetson", {"ort": {}, "tensorrt": {}}, ("ort",), 1),
        ("jetson", {"ort": {}, "tensorrt": {}}, ("tensorrt",), 0),
        ("jetson", {"ort": {"providers": ["CUDAExecutionProvider"]}, "tensorrt": {}}, ("ort",), 0),
        ("jetson", {"ort": {}}, ("ort",), 0),
        ("cpu", {"ort": {}, "tensorrt": {}}, ("ort",), 0),
    ],
)
def test_files_that_the_processor_of_a_jetson_computes_are_a_warning(kind, runtimes, measured, told: int) -> None:
    texts = fitness.unused_gpu(quick_device(kind=kind, runtimes=runtimes), measured)
    assert ["processor" in text and "--target tensorrt-jetpack6-fp16" in text for text in texts] == [True] * told

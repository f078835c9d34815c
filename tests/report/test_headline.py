"""The figures on top say which of several devices they are of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecr.report.headline import key_figures
from tests.report.miniatures import answered, latency, models, result


@pytest.mark.parametrize("labelled", [True, False])
def test_figures_of_one_of_several_devices_name_it(labelled: bool) -> None:
    one = result(robustness=[answered({"clean": 1})], models=models(), latency=[latency()], labelled=labelled)
    device = one.devices[0]
    both = replace(
        one,
        accuracy=[replace(row, device=name) for name in ("", "orin") for row in one.accuracy],
        latency=[*one.latency, replace(one.latency[0], device="orin")],
    )
    alone, among = ({each.label: each.detail for each in key_figures(each)} for each in (one, both))
    assert not any("one of" in detail for detail in alone.values())
    clean = "clean accuracy" if labelled else "agreement"
    assert among[clean] == f"{alone[clean]}, answered on this machine, one of 2 devices"
    assert f" on {device}, batch 1, one of 2 devices" in among["median latency"]
    only = replace(both, accuracy=[row for row in both.accuracy if row.device == "orin"])
    assert "answered on" not in {each.label: each.detail for each in key_figures(only)}[clean]

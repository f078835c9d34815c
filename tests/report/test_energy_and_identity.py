"""Energy and identity of measurements in rows, tables, gates and comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecr.core.errors import RequestError
from edgecr.core.estimate import Estimate
from edgecr.report.comparable import check_comparable
from edgecr.report.gates.judge import Gate, judge
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import Status
from edgecr.report.tables import latency_table
from edgecr.runners.measurement.energy import UNASKED
from edgecr.runners.measurement.readings import Sensor, Watched
from tests.report.miniatures import latency, result
from tests.runners.measurement.test_energy import powered
from tests.runners.measurement.test_summary import measurement


def judged(rows, **gate):
    return judge({"energy": Gate.parse(gate)}, result(latency=rows))


def test_a_gate_on_energy_holds_the_paired_ratio_and_the_figure() -> None:
    rows = latency_rows(powered())
    assert [each.status for each in judged(rows, ratio=0.3, max=25)] == [Status.PASS, Status.PASS]
    assert [each.status for each in judged(rows, ratio=0.2, max=15)] == [Status.FAIL, Status.FAIL]
    assert "mJ" in judged(rows, max=15)[0].condition


@pytest.mark.parametrize("reason", ["rails need root", ""])
def test_energy_that_was_not_measured_leaves_the_gate_incomplete_with_the_reason(reason: str) -> None:
    silent = Watched(sensor=Sensor(reason=reason))
    one = powered() if reason else measurement()
    launches = tuple(each.model_copy(update={"watched": silent}) for each in one.launches)
    for gate in judged(latency_rows(one.model_copy(update={"launches": launches})), ratio=0.3, max=25):
        assert gate.status is Status.INCOMPLETE
        assert (reason or UNASKED) in gate.text
        assert ("give the gate `device: NAME`" in gate.text) == (not reason)


def test_a_gate_that_names_a_device_without_power_is_not_told_to_name_one() -> None:
    (gate,) = judged(latency_rows(measurement()), max=25, device="quick")
    assert gate.text.count("device: NAME") == 0
    assert f"{UNASKED}: add it" in gate.text


def test_columns_of_energy_are_there_where_it_was_asked_for() -> None:
    table = latency_table(result(latency=latency_rows(powered())))
    assert table.head[-2:] == ("energy", "above idle")
    assert "80.0 mJ" in table.rows[0][-2]
    assert table.rows[2][-2].startswith("0.25x")
    assert "Energy of one inference on quick is that of the module's input (VDD_IN)." in table.note
    assert "energy" not in latency_table(result(latency=latency_rows(measurement()))).head
    assert "of the board" not in latency_table(result(latency=latency_rows(measurement()))).head


def test_the_reason_for_no_energy_is_beside_the_empty_cell() -> None:
    one = powered()
    launches = tuple(each.model_copy(update={"watched": Watched()}) for each in one.launches)
    table = latency_table(result(latency=latency_rows(one.model_copy(update={"launches": launches}))))
    assert table.head[-2:] == ("energy", "above idle")
    assert any("the board sent no power reading" in doubt for doubt in table.doubts)


def told(version: str = "1.31.1", **facts):
    one = measurement(facts={"l4t_version": "36.4.3", "model": "Orin Nano", **facts})
    starts = tuple(
        each.model_copy(update={"info": {"runtime": "onnxruntime", "version": version}})
        for each in one.launches[0].starts
    )
    launch = one.launches[0].model_copy(update={"starts": starts})
    return one.model_copy(update={"launches": (launch,) * 3})


def test_a_row_bears_the_identity_of_its_measurement() -> None:
    (row,) = latency_rows(told(power_mode={"name": "MAXN", "id": 0}))
    assert row.identity == {
        "runtime": "onnxruntime 1.31.1", "release": "L4T 36.4.3 (JetPack 6.1 to 6.2.3)", "board": "Orin Nano",
        "power mode": "MAXN",
    }  # fmt: skip


def test_the_table_of_speeds_names_the_runtime() -> None:
    assert latency_table(result(latency=latency_rows(told()))).rows[0][0].startswith("quick, onnxruntime, batch 1")
    assert latency_table(result(latency=[latency()])).rows[0][0] == "cpu, batch 1"


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (told("1.23.2"), "runtime was onnxruntime 1.31.1 in x-1 and onnxruntime 1.23.2 in x-1"),
        (told(l4t_version="38.4.0"), "release was L4T 36.4.3 .JetPack 6.1 to 6.2.3. in x-1 and L4T 38.4.0"),
        (told(model="Orin NX"), "board was Orin Nano"),
    ],
)
def test_measurements_of_different_identity_are_not_compared(other, named: str) -> None:
    first, second = (result(latency=latency_rows(each)) for each in (told(), other))
    with pytest.raises(RequestError, match=named) as refused:
        check_comparable([first, second])
    assert "--no-latency" in str(refused.value)
    check_comparable([first, first])
    check_comparable([first, replace(second, latency=[])])


def test_what_is_not_told_forbids_no_comparison() -> None:
    check_comparable([result(latency=[latency()]), result(latency=latency_rows(told()))])


def test_an_estimate_of_energy_is_one_like_any_other() -> None:
    (row,) = latency_rows(powered())
    assert isinstance(row.ratios["energy"], Estimate)
    assert row.ratios["energy"].differs

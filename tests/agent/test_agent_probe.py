"""Facts about boards that are not here, from their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.agent.boards import ORIN_NANO, board


def without(*names: str) -> dict[str, str]:
    return {name: text for name, text in ORIN_NANO.items() if name not in names}


def test_a_jetson_tells_its_release_versions_and_clocks(agent, tmp_path: Path) -> None:
    found = agent("jetson").facts(board(tmp_path, ORIN_NANO))
    assert (found["l4t_version"], found["tensorrt"], found["cuda"]) == ("36.4.3", "10.3.0.30", "12.6.68")
    assert found["gpu_clocks"] == {
        "now": 306000000, "least": 306000000, "allowed": 624750000, "possible": 1020000000, "governor": "nvhost_podgov",
    }  # fmt: skip
    assert found["memory_clock"] == {"allowed": 2133000000, "now": None}
    assert found["dla_cores"] is None


def test_without_its_release_file_the_package_tells_the_version(agent, tmp_path: Path) -> None:
    files = without("etc/nv_tegra_release")
    files["var/lib/dpkg/status"] += (
        "\nPackage: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.7-20250918154033\n"
    )
    assert agent("jetson").facts(board(tmp_path, files))["l4t_version"] == "36.4.7"


def test_the_old_files_of_cuda_are_read_too(agent, tmp_path: Path) -> None:
    root = board(tmp_path, {"usr/local/cuda/version.txt": "CUDA Version 10.2.300\n"})
    assert agent("jetson").facts(root)["cuda"] == "10.2.300"
    board(tmp_path, {"usr/local/cuda/version.json": '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.11"}}'})
    assert agent("jetson").facts(root)["cuda"] == "12.6.11"


def test_no_fact_of_a_jetson_is_made_up_elsewhere(agent, tmp_path: Path) -> None:
    found = agent("jetson").facts(str(tmp_path))
    assert {key: value for key, value in found.items() if value} == {"memory_clock": {"allowed": None, "now": None}}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN_SUPER\n2", {"name": "MAXN_SUPER", "id": 2}),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n", {"name": "MODE_15W", "id": None}),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13", None),
        (None, None),
    ],
)
def test_the_power_mode_is_what_the_boards_tool_prints(agent, text, mode) -> None:
    assert agent("jetson").mode_in(text) == mode


def test_a_zone_that_does_not_answer_is_absent_not_cold(agent, tmp_path: Path) -> None:
    root = board(tmp_path, ORIN_NANO)
    (tmp_path / "sys/class/thermal/thermal_zone2/temp").mkdir()  # reading it fails, as it does while a zone says EAGAIN
    assert agent("heat").temperatures(root) == {"tj-thermal": 50.562}


def test_over_current_events_are_told_by_kind(agent, tmp_path: Path) -> None:
    root = board(tmp_path, ORIN_NANO)
    assert agent("heat").over_current(root) == {"oc1": 0, "oc3": 41}
    assert agent("heat").over_current_throttling(root) == {"oc3": 1}
    assert agent("heat").over_current(str(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("text", "flags"), [("50005", 0x50005), ("throttled=0x50005", 0x50005), ("", None), (None, None)]
)
def test_the_flags_of_a_raspberry_pi(agent, text, flags) -> None:
    assert agent("heat").flags(text) == flags


def test_memory_in_one_piece_is_told(agent, tmp_path: Path) -> None:
    found = agent("probe").memory(board(tmp_path, ORIN_NANO))
    assert (found["cma_total_kb"], found["cma_free_kb"], found["swap_total_kb"]) == (262144, 9000, None)


def test_instructions_count_only_where_all_cores_have_them(agent, tmp_path: Path) -> None:
    root = board(tmp_path, {"proc/cpuinfo": "flags : fma avx2 avx_vnni\n\nflags : fma avx2\n"})
    assert agent("processor").instructions(root) == ["avx2", "fma"]
    board(tmp_path, {"proc/cpuinfo": "Features : fp asimd asimddp i8mm\n"})
    assert agent("processor").instructions(root) == ["asimd", "asimddp", "i8mm"]
    assert agent("processor").instructions(str(tmp_path / "none")) == []


def test_programs_that_hold_the_gpu_are_named(agent, tmp_path: Path, monkeypatch) -> None:
    users = agent("gpu_users")
    monkeypatch.setattr(users.tools, "told", lambda argv: "77, /usr/bin/python3\n5, again\n")
    assert users.gpu_users(board(tmp_path, {"proc/5/comm": "Xorg\n"})) is None
    board(tmp_path, {"dev/nvhost-gpu": ""})
    for pid, number, target in (("5", "3", "/dev/nvhost-gpu"), ("6", "0", "/dev/null")):
        (tmp_path / "proc" / pid / "fd").mkdir(parents=True, exist_ok=True)
        os.symlink(target, tmp_path / "proc" / pid / "fd" / number)
    assert users.gpu_users(str(tmp_path)) == [{"pid": 5, "name": "Xorg"}, {"pid": 77, "name": "python3"}]


def test_all_facts_of_a_board_are_found_below_one_root(agent, tmp_path: Path) -> None:
    facts = agent("probe").facts(str(tmp_path), root=board(tmp_path / "root", ORIN_NANO))
    assert facts["model"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (facts["l4t_version"], facts["tensorrt"]) == ("36.4.3", "10.3.0.30")
    assert facts["power"] == {"source": "hwmon", "rails": ["VDD_CPU_GPU_CV", "VDD_IN"], "missing": ""}
    assert facts["cpufreq"]["governors"] == []

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgecr.runners.agent.archive import agent_archive

MB = 10**6


def machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


MEMINFO = {"proc/meminfo": "MemTotal:  4000000 kB\nMemFree:  90000 kB\nMemAvailable:  1000000 kB\nSwapTotal: 9 kB\n"}
UNLIMITED = "9223372036854771712\n"


def test_free_memory_is_what_the_kernel_could_give(agent, tmp_path: Path) -> None:
    assert agent("memory").sizes(machine(tmp_path, MEMINFO)) == (4_096_000_000, 1_024_000_000)


def test_nothing_is_known_where_nobody_tells(agent, tmp_path: Path) -> None:
    assert agent("memory").sizes(str(tmp_path)) == (None, None)
    assert agent("memory").refusal(bench(10**15), str(tmp_path)) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (  # version 2, the limit is on a group further up; what is cached of files can be given back
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "5\n",
                "sys/fs/cgroup/a/memory.max": "600000000\n",
                "sys/fs/cgroup/a/memory.current": "500000000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 100000000\n",
            },
            (600_000_000, 200_000_000),
        ),
        (  # version 1, seen from inside a container: the group's path is not there, the mount is the group
            {
                "proc/self/cgroup": "5:cpuset:/x\n4:memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "300000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "250000000\n",
            },
            (300_000_000, 50_000_000),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
            },
            (4_096_000_000, 1_024_000_000),
        ),
        ({"proc/self/cgroup": "nonsense\n0::/../../etc\n"}, (4_096_000_000, 1_024_000_000)),
    ],
)
def test_control_groups_count(agent, tmp_path: Path, files, expected) -> None:
    assert agent("memory").sizes(machine(tmp_path, MEMINFO | files)) == expected


def arm(call: int, label: str = "candidate", batch: int = 64) -> dict:
    return {"label": label, "batch": batch, "memory": {"weights": 10 * MB, "call": call}}


def bench(*calls: int) -> dict:
    return {"op": "bench", "arms": [arm(call, f"arm {number}", 8) for number, call in enumerate(calls)]}


def test_what_fits_is_started(agent, tmp_path: Path) -> None:
    assert agent("memory").refusal(bench(100 * MB, 100 * MB), machine(tmp_path, MEMINFO)) is None


def test_a_refusal_names_batch_estimate_and_what_is_free(agent, tmp_path: Path) -> None:
    request = {"op": "alone", "streams": [1], **arm(600 * MB, batch=100000)}
    told = agent("memory").refusal(request, machine(tmp_path, MEMINFO))
    assert "candidate (batch 100000: about 1240 MB)" in told
    assert "of 1024 MB that are free" in told
    assert "Use a smaller batch" in told


def test_arms_of_one_process_are_summed(agent, tmp_path: Path) -> None:
    told = agent("memory").refusal(bench(200 * MB, 1 * MB, 250 * MB, 2 * MB), machine(tmp_path, MEMINFO))
    assert told is not None
    assert "arm 2 (batch 8: about 540 MB), arm 0 (batch 8: about 440 MB), arm 3" in told
    assert "and 1 more need" in told


def test_each_stream_has_values_of_its_own(agent, tmp_path: Path) -> None:
    root, one = machine(tmp_path, MEMINFO), {"op": "alone", "streams": [1], **arm(200 * MB)}
    assert agent("memory").refusal(one, root) is None
    assert agent("memory").refusal({**one, "streams": [1, 4]}, root)


def test_the_system_keeps_its_share(agent) -> None:
    room = agent("memory").room
    assert room(4000 * MB, 1000 * MB) == 800 * MB
    assert room(100 * MB, 80 * MB) == 80 * MB - (64 << 20)
    assert room(None, 10) == 0


CAPPED = """
import sys
sys.path.insert(0, sys.argv[1])
from edgecr_agent import memory
memory.sizes = lambda root="/": (1 << 30, 164 << 20)
memory.cap()
small = bytearray(10 << 20)
try:
    bytearray(300 << 20)  # zero pages: not touched even if it is given
except MemoryError:
    print("refused")
"""


def test_a_wrong_estimate_ends_in_a_failed_allocation_not_in_swap(tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_archive())
    done = subprocess.run([sys.executable, "-c", CAPPED, str(archive)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("text", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 9"])
def test_a_failed_allocation_says_what_to_do(agent, text: str) -> None:
    assert "use a smaller batch" in agent("worker").reason(RuntimeError(text))
    assert "use a smaller batch" in agent("worker").reason(MemoryError())
    assert agent("worker").reason(RuntimeError("odd")) == "odd"

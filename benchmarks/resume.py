"""Kills a recipe at random moments and shows that the same command ends with the same bits.

One undisturbed run gives the reference weights. Then, ``--kills`` times: a new run in an empty folder is killed with
SIGKILL at a random moment, the same command is given again, and every subject's tensors are compared bit for bit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import Goal, arguments, finish, table

from edgecr.weights import hash_tensors, read_tensors


def command(recipe: str, runs: Path, changes: list[str], threads: int) -> list[str]:
    """The command that a user would give."""
    overrides = [part for change in changes for part in ("--set", change)]
    return [
        sys.executable,
        "-m",
        "edgecr",
        "compress",
        recipe,
        "--runs",
        str(runs),
        "--quiet",
        "--threads",
        str(threads),
        *overrides,
    ]


def weights(runs: Path) -> dict[str, str]:
    """The hash of every saved subject's tensors, by its place in the run."""
    files = sorted(runs.glob("*/**/tensors.safetensors"))
    places = {file: "/".join(file.relative_to(runs).parts[1:-1]) for file in files}
    return {place: hash_tensors(read_tensors(file)) for file, place in places.items() if "checkpoint" not in place}


def run(words: list[str], kill_after: float | None = None) -> tuple[float, bool]:
    """Runs to the end, or kills the process group after some seconds; the seconds, and whether it was killed."""
    start = time.monotonic()
    child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        child.wait(kill_after)
        return time.monotonic() - start, False
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return time.monotonic() - start, True


def main() -> int:
    """Prints one row for each kill."""
    parser = arguments(__doc__)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="threads of each run; 0 = all cores")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="change one key of the recipe")
    options = parser.parse_args()
    kills = 3 if options.quick else options.kills
    moments = random.Random(options.seed)
    rows: list[list[object]] = []
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        seconds, _ = run(command(options.recipe, reference, options.changes, options.threads))
        expected = weights(reference)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} saved subjects", flush=True)
        attempts = 0
        while len(rows) < kills and attempts < 3 * kills:  # a run that ends before its moment comes is no test
            attempts += 1
            runs = Path(folder) / str(attempts)
            words = command(options.recipe, runs, options.changes, options.threads)
            killed_at, killed = run(words, moments.uniform(0.02, 0.98) * seconds)
            if not killed:
                seconds = min(seconds, killed_at)
                continue
            stage = len(list(runs.glob("*/stages/*.json")))
            rest, _ = run(words)
            identical = bool(expected) and weights(runs) == expected
            same += identical
            rows.append([len(rows) + 1, killed_at, stage, rest, "yes" if identical else "NO"])
            print(f"kill {len(rows)}: at {killed_at:.1f} s, identical {identical}", flush=True)
    print(table(["kill", "after s", "stages done", "rest s", "identical"], rows))
    return finish(
        "resume",
        {"kills": len(rows), "identical_fraction": same / max(kills, 1)},
        [Goal("identical_fraction", at_least=1.0)],
    )


if __name__ == "__main__":
    sys.exit(main())

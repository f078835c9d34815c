"""Measures what a board costs beside the work on it: greeting, uploads, and answers instead of this machine's.

The board is a throwaway SSH server on this machine, so that the wire costs least and the agent most. Goals: a greeting
within 1.5 s, uploads of 100 MB/s, and images of 32x32 answered through ResNet-20 at 0.8 of the rate of the same runtime
in this process, with one thread each. Both take turns; the ratio is that of paired turns.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from agent_overhead import write_model

from edgecr.predictors import Predictor, predictor_for
from edgecr.runners.agent.answers import BoardPredictor
from edgecr.runners.base import load_device, runner_for
from edgecr.runners.device import Device
from edgecr.runners.ssh import SshRunner
from edgecr.runners.trust import vouched

SSHD = "/usr/sbin/sshd"
WIDTHS, BLOCKS, SIZE = (16, 32, 64), 3, 32
MEGABYTES = 64
START_S = 10.0


@dataclass(frozen=True)
class File:
    """The part of a manifest that a predictor needs."""

    path: Path
    format: str = "onnx"
    beside: tuple[str, ...] = ()
    input: dict[str, Any] = field(default_factory=lambda: {"name": "x", "shape": [None, 3, SIZE, SIZE]})
    outputs: list[dict[str, Any]] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(
        default_factory=lambda: {"mean": [0.5] * 3, "std": [0.25] * 3, "size": [SIZE, SIZE], "embedded": False}
    )


def key(path: Path) -> str:
    """Makes a key pair; returns the public one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def answering(port: int) -> bool:
    """True once somebody listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def board(folder: Path) -> Iterator[SshRunner]:
    """The runner of a board that is this machine, behind an SSH server with keys of its own."""
    if not os.path.exists(SSHD) or shutil.which("ssh") is None:
        raise SystemExit("This needs an SSH server and client: apt-get install openssh-server")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host_key = key(folder / "host")
    (folder / "authorized").write_text(key(folder / "user"))
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "sshd.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nStrictModes no\nUsePAM no\n"
        f"PidFile {folder}/pid\nAuthorizedKeysFile {folder}/authorized\nPermitRootLogin yes\n"
    )
    (folder / "ssh.conf").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentitiesOnly yes\n"
        f" IdentityAgent none\n IdentityFile {folder}/user\n UserKnownHostsFile {folder}/known\n"
        " GlobalKnownHostsFile /dev/null\n"
    )
    server = subprocess.Popen([SSHD, "-D", "-f", str(folder / "sshd.conf"), "-E", str(folder / "log")])
    try:
        if not answering(port):
            raise SystemExit(f"sshd does not start here: {(folder / 'log').read_text()}")
        yield runner(folder)
    finally:
        server.terminate()
        server.wait()


def runner(folder: Path) -> SshRunner:
    """The runner of the board whose SSH configuration lies in a folder."""
    transport = {
        "kind": "ssh",
        "host": "board",
        "python": sys.executable,
        "ssh_options": ["-F", str(folder / "ssh.conf")],
    }
    values = load_device("cpu").model_dump(mode="json") | {"name": "board", "transport": transport}
    found = runner_for(vouched(Device.parse(values)))
    assert isinstance(found, SshRunner)
    return found


def seconds_of_greeting(runner: SshRunner) -> float:
    """The time until the agent has answered."""
    start = time.perf_counter()
    with runner.connect():
        return time.perf_counter() - start


def upload_rate(runner: SshRunner, file: Path) -> float:
    """Megabytes of a file that arrive in a second, both of its checksums included."""
    with runner.connect() as agent:
        start = time.perf_counter()
        agent.put(file, "upload")
        return file.stat().st_size / 1e6 / (time.perf_counter() - start)


def bare_rate(runner: SshRunner, file: Path) -> float:
    """The same of ssh alone, which reads and forgets the file, without the time that it takes to log in."""
    login = runner.command()[:-1]
    start = time.perf_counter()
    subprocess.run([*login, "true"], check=True)
    begin = time.perf_counter()
    with file.open("rb") as content:
        subprocess.run([*login, "cat >/dev/null"], stdin=content, check=True)
    return file.stat().st_size / 1e6 / (time.perf_counter() - begin - (begin - start))


def answer_rates(runner: SshRunner, file: Path, images: int, rounds: int) -> dict[str, list[float]]:
    """Images that are answered in a second, here and on the board, taking turns."""
    shipped, settings = File(file), runner.device.runtime_options("ort")
    shown = np.random.default_rng(0).integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)

    def rate(predictor: Predictor) -> float:
        start = time.perf_counter()
        predictor.predict(shown)
        return images / (time.perf_counter() - start)

    here = predictor_for(shipped, runtime="ort", settings=settings)
    with BoardPredictor(runner, shipped, "ort") as there:
        rate(here), rate(there)
        return interleaved({"here": lambda: rate(here), "board": lambda: rate(there)}, rounds)


def main() -> int:
    """Runs the benchmark."""
    options = arguments(__doc__).parse_args()
    images, rounds = (768, 7) if options.quick else (2560, 15)
    with tempfile.TemporaryDirectory() as name, board(Path(name)) as there:
        model, large = Path(name) / "resnet20.onnx", Path(name) / "large"
        write_model(model, SIZE, WIDTHS, BLOCKS)
        large.write_bytes(os.urandom(MEGABYTES * 10**6))
        greetings = [seconds_of_greeting(there) for _ in range(5)]
        uploads = interleaved({"put": lambda: upload_rate(there, large), "bare": lambda: bare_rate(there, large)}, 5)
        rates = answer_rates(there, model, images, rounds)
    ratio = paired_ratio(rates["board"], rates["here"])
    rows = [
        ["greeting, s", *spread(greetings)],
        ["upload, MB/s", *spread(uploads["put"])],
        ["upload by ssh alone, MB/s", *spread(uploads["bare"])],
        ["images/s here", *spread(rates["here"])],
        ["images/s on the board", *spread(rates["board"])],
    ]
    print(table(["what", "median", "least", "most"], rows))
    figures = {
        "greeting_s": statistics.median(greetings),
        "upload_mb_s": statistics.median(uploads["put"]),
        "upload_of_ssh": paired_ratio(uploads["put"], uploads["bare"]),
        "rate": ratio,
    }
    goals = [
        Goal("greeting_s", at_most=1.5),
        Goal("upload_mb_s", at_least=100.0),
        Goal("rate", at_least=0.8),
    ]
    return finish("remote", figures, goals)


def spread(values: list[float]) -> tuple[float, float, float]:
    """The median of some figures, the least and the largest."""
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    sys.exit(main())

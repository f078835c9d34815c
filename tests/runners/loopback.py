"""A throwaway SSH server on this machine, as a board."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecr.runners.base import runner_for
from edgecr.runners.ssh import SshRunner
from tests.runners.tiny_device import quick_device

SSHD = "/usr/sbin/sshd"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


class Board:
    """A throwaway SSH server on this machine, with its own keys and client configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        host_key = make_key(folder / "host")
        noisy = 'command="echo Welcome to the context; exec sh -c \\"$SSH_ORIGINAL_COMMAND\\"" '
        (folder / "authorized").write_text(make_key(folder / "plain") + noisy + make_key(folder / "noisy"))
        make_key(folder / "stranger")
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        (folder / "unknown").write_text("")
        changed = make_key(folder / "other")
        (folder / "changed").write_text(f"[127.0.0.1]:{self.port} {changed}")
        (folder / "sshd.conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nStrictModes no\nUsePAM no\n"
            f"PidFile {folder}/pid\nAuthorizedKeysFile {folder}/authorized\nPermitRootLogin yes\n"
        )
        self.start()

    def start(self) -> None:
        files = ["-f", str(self.folder / "sshd.conf"), "-E", str(self.folder / "log")]
        self.process = subprocess.Popen([SSHD, "-D", *files])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def wait(self) -> bool:
        for _ in range(100):
            if self.process.poll() is not None:
                return False
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.05)
        return False

    def transport(self, key: str = "plain", known: str = "known") -> dict:
        """The transport of a device that is this board."""
        config = self.folder / f"{key}-{known}.conf"
        config.write_text(
            f"Host board\n HostName 127.0.0.1\n Port {self.port}\n User {getpass.getuser()}\n"
            f" IdentitiesOnly yes\n IdentityAgent none\n IdentityFile {self.folder}/{key}\n"
            f" UserKnownHostsFile {self.folder}/{known}\n GlobalKnownHostsFile /dev/null\n"
        )
        return {
            "kind": "ssh",
            "host": "board",
            "python": sys.executable,
            "ssh_options": ["-F", str(config)],
            "env": {"EDGECR_BOARD_LOCK": str(self.folder / "lock")},
        }

    def runner(self, key: str = "plain", known: str = "known", **transport) -> SshRunner:
        runner = runner_for(quick_device(transport=self.transport(key, known) | transport))
        assert isinstance(runner, SshRunner)
        return runner


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[Board]:
    """The board while its server runs; without a server here the test is skipped."""
    if not os.path.exists(SSHD) or shutil.which("ssh") is None:
        pytest.skip("needs an SSH server and client (package openssh-server)")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    board = Board(folder)
    try:
        if not board.wait():
            pytest.skip("sshd does not start here")
        yield board
    finally:
        board.stop()

"""Measures on a board through the system's own ``ssh``, with the user's keys, jump hosts and host checks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

from edgecr.core.errors import ConnectionLost, DeviceFailed, DeviceUnreachable, NotConfigured
from edgecr.runners import stopping
from edgecr.runners.agent.archive import BOOT
from edgecr.runners.agent.events import shown
from edgecr.runners.agent.protocol import Connection, Ending, plainly
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.base import runners
from edgecr.runners.board_python import IN_VENV, install, needs_venv, packages_of
from edgecr.runners.device import BoardTransport, Device

HELLO_S = 60.0
SETTINGS_S = 20.0
_OPTIONS = (
    "BatchMode=yes",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "StrictHostKeyChecking=yes",
    "Compression=no",
)

REFUSED_BY_SSH = 255  # ssh's own exit code; the board's shell and Python have others
NOT_RUNNABLE, NOT_FOUND = 126, 127  # what shells answer for a program

# What ssh says before the board has answered, and what to tell the user; the first match counts.
_NOT_CONNECTED = (
    (
        r"has changed|REMOTE HOST IDENTIFICATION",
        "The host key of '{host}' is not the one you trusted. If you re-flashed the board: "
        '{forget}, then trust it again: "{trust}". If not, do not connect.',
    ),
    (
        r"host key is known|Host key verification failed",
        "Board '{host}' is not in your known_hosts. Check its fingerprint and have it remembered: \"{trust}\", "
        'or connect once with "ssh {host}".',
    ),
    (
        r"Permission denied \(|Too many authentication failures|No supported authentication methods",
        'The board refused your key. Try "ssh {host}"; EdgeCR uses the same settings and never asks for a password. '
        "Where only a password logs in: ssh-copy-id {host} installs your key, or name a ControlPath for it in "
        '~/.ssh/config and log in by hand with "ssh -fNM {host}", whose connection is then used. ssh says: {words}',
    ),
    (
        r"Bad configuration option|[Uu]nknown option|illegal option|usage: ssh|Can't open user config",
        "ssh does not take its options: {words}. Check transport.ssh_options in {file} and ~/.ssh/config.",
    ),
)
# Only these may come from a board that is off or hangs; a name that nobody knows is a fault of this side.
_SILENT = r"[Cc]onnection timed out|[Oo]peration timed out|No route to host|[Cc]onnection refused|not responding|banner"
_NO_REACH = "Board '{host}' cannot be reached: {words}. Check that it is on, and HostName and Port in ~/.ssh/config."
_LOST = "The connection to '{host}' was lost ({words}). The board stops by itself within {lease:g} s."
_CUT = (
    "The agent on '{host}' ended without a word: it was killed there, most likely because memory ran out, "
    "or the connection was cut."
)


@runners.register("ssh")
class SshRunner(AgentRunner):
    """Runs the agent on a board; agent and files travel over the one connection."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        if not isinstance(device.transport, BoardTransport):
            raise NotConfigured(f"Device {device.name!r} is not declared with 'transport: {{kind: ssh, ...}}'.")
        self.transport = device.transport
        self.host = self.named_host()

    def named_host(self) -> str:
        """The board's ssh name, as its declaration tells it."""
        if self.transport.host is None:
            raise NotConfigured(how_to_configure(self.device))
        return self.transport.host

    def command(self) -> list[str]:
        """The whole command line."""
        return [*self.to_host(), f"exec {shlex.quote(self.transport.python)} -u -c '{BOOT}'"]

    def to_host(self) -> list[str]:
        """The command line without what is to run on the board."""
        options = [*_OPTIONS, f"ConnectTimeout={self.transport.connect_timeout_s}"]
        if os.name == "nt":  # OpenSSH on Windows has no multiplexing and fails when a config asks for it
            options += ["ControlMaster=no", "ControlPath=none"]
        flags = [part for option in options for part in ("-o", option)]
        return ["ssh", "-T", *flags, *self.transport.ssh_options, "--", self.host]

    def settings(self) -> dict[str, str]:
        """The settings that ssh itself reads for the board, by their names in small letters."""
        code, said, errors = self.asked(["-G"], [], SETTINGS_S)
        if code:
            raise self.explain(Ending(code, [shown(line) for line in errors.splitlines()], []))
        return dict(line.split(" ", 1) for line in said.splitlines() if " " in line)

    def asked(self, options: list[str], remote: list[str], limit_s: float) -> tuple[int, str, str]:
        """Exit code, output and errors of ssh with further options, which count before all others."""
        ssh, *rest = self.to_host()
        try:
            return stopping.ran([ssh, *options, *rest, *remote], limit_s)
        except subprocess.TimeoutExpired:
            raise DeviceFailed(f"'{self.host}' did not answer ssh within {limit_s:g} s. Check that it is on.") from None
        except OSError as error:
            raise DeviceFailed(f"ssh does not start on this machine ({error.strerror}); install it.") from error

    def start(self) -> Connection:
        """Logs in and starts the agent."""
        return Connection(
            self.command(),
            env=self.transport.env,
            lease_s=self.transport.lease_s,
            hello_s=HELLO_S + self.transport.connect_timeout_s,
            explain=self.explain,
            after=self.after,
            keep_mb=self.transport.keep_uploads_mb,
        )

    def after(self) -> None:
        """Does what is due once a session is over."""

    def explain(self, ending: Ending) -> ConnectionLost:
        """The failure that the end of the connection is, in the user's words."""
        if ending.code == REFUSED_BY_SSH:
            return self._lost(ending) if ending.greeted else self._not_connected(ending)
        if ending.greeted:
            return plainly(ending)
        if ending.code in (NOT_RUNNABLE, NOT_FOUND):
            return self._no_python(ending)
        if any("No space left on device" in line for line in ending.errors):
            return ConnectionLost(
                f"The disk of '{self.host}' is full: not even EdgeCR's agent fits into its folder for temporary files. "
                "Free space there, or set transport.env.TMPDIR to a folder with more."
            )
        if ending.noise:
            words = " | ".join(ending.noise[:3])
            return ConnectionLost(f'The board\'s login scripts print text or wait for input: "{words}".')
        return plainly(ending)

    def _not_connected(self, ending: Ending) -> ConnectionLost:
        said = " | ".join(ending.errors)
        known = next((text for pattern, text in _NOT_CONNECTED if re.search(pattern, said)), None)
        text = (known or _NO_REACH).format(
            host=self.host,
            words=ending.last_words().rstrip("."),
            file=self.device.declared_in,
            trust=f"edgecr devices trust {shlex.quote(self.device.called)} --host-key",
            forget=_forget(said),
        )
        silent = not known and re.search(_SILENT, said)
        return DeviceUnreachable(text) if silent else ConnectionLost(text)

    def _lost(self, ending: Ending) -> ConnectionLost:
        text = _LOST if ending.errors else _CUT
        words, lease = " | ".join(ending.errors[-4:]), self.transport.lease_s
        return ConnectionLost(text.format(host=self.host, words=words, lease=lease))

    def _no_python(self, ending: Ending) -> ConnectionLost:
        python, place = self.transport.python, f"transport.python in {self.device.declared_in}"
        if ending.code == NOT_FOUND:
            return ConnectionLost(f"No {python} on the board. Set {place}, e.g. /usr/bin/python3.8.")
        return ConnectionLost(
            f"{python} on the board is not a program that may be run ({ending.last_words()}). "
            f"Set {place} to a Python there, e.g. /usr/bin/python3.8."
        )


def _forget(said: str) -> str:
    """The command that forgets a key, as far as ssh names its host and the list that has it."""
    host = re.search(r"Host key for ([\w.:\[\]-]+) has changed", said)
    file = re.search(r"Offending [\w-]+ key in ([^|]+):\d+", said)
    return " ".join(
        ["ssh-keygen -R", shlex.quote(host[1]) if host else "<its address>"]
        + (["-f", shlex.quote(file[1])] if file else [])
    )


def how_to_configure(device: Device) -> str:
    """Instructions for setting up a device that has no host yet."""
    name, packages = device.name, packages_of(device)
    python = f" --python {IN_VENV}" if packages and needs_venv(device) else ""
    steps = f"""Device {name!r} has no board yet. Do this once:
  1. Name the board in ~/.ssh/config:
       Host {name}
         HostName 192.168.1.50
         User ubuntu
     and check that "ssh {name}" logs in without a question.
  2. Add it to your own devices, under a name of your choice, and use that name from then on:
       edgecr devices add my-{name} --like {name} --host {name}{python}"""
    needed = f"\n  3. On the board: {install(device, packages)}" if packages else ""
    return steps + needed

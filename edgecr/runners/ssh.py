"""Measures on a board through the system's own ``ssh``, with the user's keys, jump hosts and host checks."""

from __future__ import annotations

import os
import re
import shlex

from edgecr.errors import NotConfigured
from edgecr.runners.archive import BOOT
from edgecr.runners.base import runners
from edgecr.runners.device import Device, SshTransport
from edgecr.runners.protocol import Connection, Ending, plainly
from edgecr.runners.session import AgentRunner

HELLO_S = 60.0
_OPTIONS = (
    "BatchMode=yes",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "StrictHostKeyChecking=yes",
    "Compression=no",
)

# What ssh says, and what to tell the user; {host} and {words} are filled in, the first match counts.
_KNOWN = (
    (
        r"has changed|REMOTE HOST IDENTIFICATION",
        "The host key of '{host}' is not the one you trusted. If you re-flashed the board: "
        "ssh-keygen -R <its address>, then trust it again. If not, do not connect.",
    ),
    (
        r"host key is known|Host key verification failed",
        "Board '{host}' is not in your known_hosts. Connect once with \"ssh {host}\" "
        "and check the fingerprint.",
    ),
    (
        r"Permission denied",
        'The board refused your key. Try "ssh {host}"; EdgeCR uses the same settings '
        "and never asks for a password (ssh-copy-id {host} installs your key).",
    ),
    (
        r"Could not resolve|refused|timed out|No route|unreachable",
        "Board '{host}' cannot be reached: {words}. "
        "Check that it is on, and HostName and Port in ~/.ssh/config.",
    ),
    (
        r"not responding|Broken pipe|closed by remote|Connection reset",
        "The connection to '{host}' was lost ({words}). The board stops by itself within {lease:g} s.",
    ),
)


@runners.register("ssh")
class SshRunner(AgentRunner):
    """Runs the agent on a board; agent and files travel over the one connection."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        if not isinstance(device.transport, SshTransport):
            raise NotConfigured(
                f"Device {device.name!r} is not declared with 'transport: {{kind: ssh, ...}}'."
            )
        if device.transport.host is None:
            raise NotConfigured(how_to_configure(device.name))
        self.transport = device.transport
        self.host = device.transport.host

    def command(self) -> list[str]:
        """The whole command line."""
        options = [*_OPTIONS, f"ConnectTimeout={self.transport.connect_timeout_s}"]
        if os.name == "nt":  # OpenSSH on Windows has no multiplexing and fails when a config asks for it
            options += ["ControlMaster=no", "ControlPath=none"]
        flags = [part for option in options for part in ("-o", option)]
        remote = f"exec {shlex.quote(self.transport.python)} -u -c '{BOOT}'"
        return ["ssh", "-T", *flags, *self.transport.ssh_options, "--", self.host, remote]

    def connect(self) -> Connection:
        """Logs in and starts the agent."""
        return Connection(
            self.command(),
            env=self.transport.env,
            lease_s=self.transport.lease_s,
            hello_s=HELLO_S + self.transport.connect_timeout_s,
            explain=self.explain,
        )

    def explain(self, ending: Ending) -> str:
        """What the end of the connection means for the user."""
        words = " | ".join(ending.errors)
        if ending.code == 127:
            return (
                f"No {self.transport.python} on the board. Set transport.python in "
                f"devices/{self.device.name}.yaml, e.g. /usr/bin/python3.8."
            )
        for pattern, text in _KNOWN:
            if re.search(pattern, words):
                return text.format(host=self.host, words=ending.last_words(), lease=self.transport.lease_s)
        if ending.noise:
            return (
                f'The board\'s login scripts print text or wait for input: "{" | ".join(ending.noise[:3])}".'
            )
        return plainly(ending)


def how_to_configure(name: str) -> str:
    """What to write where, for a device that has no host yet."""
    return f"""Device {name!r} has no board yet. Do this once:
  1. Name the board in ~/.ssh/config:
       Host {name}
         HostName 192.168.1.50
         User ubuntu
     and check that "ssh {name}" logs in without a question.
  2. Add it to your own devices, under a name of your choice, and use that name from then on:
       edgecr devices add my-{name} --host {name}
  3. On the board: python3 -m pip install numpy onnxruntime"""

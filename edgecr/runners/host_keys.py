"""The host keys of boards: one that the user's ssh does not know is fetched, shown, and remembered once confirmed.

``ssh`` itself fetches it, so that the user's settings, jump hosts and lists of known hosts count as they always do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgecr.core.errors import DeviceFailed, NotConfigured, NotTrusted
from edgecr.core.files import storage_errors
from edgecr.runners.agent.events import shown
from edgecr.runners.agent.protocol import Ending
from edgecr.runners.base import runner_for
from edgecr.runners.device import Device
from edgecr.runners.ssh import SshRunner

PATIENCE_S = 30.0
"""Beyond the time that a connection may take: jump hosts have to be passed as well."""
_ASK = ("PreferredAuthentications=none", "StrictHostKeyChecking=accept-new", "UpdateHostKeys=no", "ControlPath=none")
"""Nobody logs in, and no connection that is open already answers in the board's place."""


@dataclass(frozen=True)
class HostKey:
    """A key that a board shows and that no list of known hosts has; nothing is known yet of whose it is."""

    host: str
    kind: str
    fingerprint: str
    lines: str
    """The lines that ssh itself would add to the list."""
    known_hosts: Path
    """The list."""

    def require(self, fingerprints: Collection[str]) -> None:
        """Raises NotTrusted unless the key has one of the fingerprints that the user has from elsewhere."""
        if self.fingerprint not in fingerprints:
            raise NotTrusted(
                f"'{self.host}' shows a key with the fingerprint {self.fingerprint}, not with "
                f"{' or '.join(fingerprints)}. Nothing was written. Do not connect before you know why."
            )

    def remember(self) -> None:
        """Adds the key to the user's list of known hosts."""
        path = self.known_hosts
        with storage_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "rb+") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                whole = not size or file.read(1) == b"\n"
                file.write(("" if whole else "\n").encode() + self.lines.encode())


def unknown_key(device: Device) -> HostKey | None:
    """The key of a board that its user's ssh has never seen; None for one that it knows and finds in order.

    DeviceFailed for a board that is not reached, or whose key is not the one that is known.
    """
    runner = _ssh_runner(device)
    listed = _lists(runner)
    with tempfile.TemporaryDirectory(prefix="edgecr-key-") as folder:
        found = Path(folder) / "known_hosts"
        files = " ".join(f'"{one}"' for one in (str(found), *listed))
        options = [part for one in (*_ASK, f"UserKnownHostsFile={files}") for part in ("-o", one)]
        code, _, errors = runner.asked(options, ["exit"], runner.transport.connect_timeout_s + PATIENCE_S)
        lines = found.read_text(encoding="utf-8") if found.exists() else ""
    if lines:
        kind, content = lines.splitlines()[0].split()[1:3]
        return HostKey(runner.host, kind, fingerprint_of(content), lines, Path(listed[0]).expanduser())
    if code and "Permission denied (" not in errors:
        raise runner.explain(Ending(code, [shown(line.rstrip()) for line in errors.splitlines()], []))
    return None


def fingerprint_of(content: str) -> str:
    """The fingerprint of a public key in base64, as ``ssh-keygen -l`` tells it."""
    try:
        digest = hashlib.sha256(base64.b64decode(content, validate=True)).digest()
    except (binascii.Error, ValueError) as error:
        raise DeviceFailed(f"ssh noted a key that cannot be read: {shown(content, 80)}.") from error
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _ssh_runner(device: Device) -> SshRunner:
    runner = runner_for(device)
    if not isinstance(runner, SshRunner):
        raise NotConfigured(f"Device {device.name!r} is not reached by ssh: there is no host key to trust.")
    if not runner.host:
        raise NotConfigured(
            f"The address of {device.name!r} is only known while its place is held. Acquire it (labgrid-client -p "
            "PLACE acquire), connect once with ssh to the address that labgrid-client show tells, and check the "
            "fingerprint; or give transport.host."
        )
    return runner


def _lists(runner: SshRunner) -> list[str]:
    """The user's lists of known hosts, as ssh's settings name them; a new key goes into the first."""
    files = runner.settings().get("userknownhostsfile", "").split()
    if not files or files[0] in ("none", "/dev/null") or "%" in files[0]:
        raise NotConfigured(
            f"UserKnownHostsFile of '{runner.host}' in ssh's settings is {' '.join(files) or 'not told'}: there is no "
            "list of known hosts to add a key to. Give it one in ~/.ssh/config."
        )
    return files

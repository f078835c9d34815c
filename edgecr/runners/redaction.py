"""Removal of the names of a board and its network from an examination that is sent to others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from edgecr.core.errors import EdgecrError
from edgecr.runners.base import runner_for
from edgecr.runners.device import Device
from edgecr.runners.doctor import Examination, Finding
from edgecr.runners.ssh import SshRunner

HOST = "BOARD"
_ADDRESS = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\w)|(?<![\w:])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}(?![\w:])"
_AT = r"[\w.-]+@[\w.:\[\]-]*[\w\]]"
_NAMED = r"(?<=hostname )[\w.:-]*\w|(?<=to host )[\w.:-]*\w|(?<=server )[\w.:-]*\w"
_OF_NETWORKS = re.compile("|".join((_AT, _NAMED, _ADDRESS)))
_NAMES = ("hostname", "hostkeyalias", "proxyjump")
"""The settings of ssh that name a machine."""


def to_be_sent(examination: Examination, device: Device) -> Examination:
    """The same findings without host names, addresses and the place of the user's home folder."""
    names = [*_names(device)]
    return examination.model_copy(update={"findings": tuple(_redacted(one, names) for one in examination.findings)})


def _redacted(finding: Finding, names: Iterable[str]) -> Finding:
    """A finding without these names; addresses are looked for only where ssh speaks: versions look like them."""
    texts = {"text": finding.text, "remedy": finding.remedy}
    for key, text in texts.items():
        for name in names:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", HOST, text)
        if finding.check == "connection":
            text = _OF_NETWORKS.sub(HOST, text)
        texts[key] = text.replace(str(Path.home()), "~")
    return finding.model_copy(update=texts)


def _names(device: Device) -> Iterable[str]:
    """The names by which ssh knows the board and the machines on the way, the longest first."""
    runner = runner_for(device)
    if not isinstance(runner, SshRunner) or not runner.host:
        return []
    try:
        settings = runner.settings()
    except EdgecrError:
        settings = {}
    told = [runner.host, *(part for key in _NAMES for part in re.split(r"[,@]", settings.get(key, "")))]
    return sorted({name for name in told if name and name != "none"}, key=len, reverse=True)

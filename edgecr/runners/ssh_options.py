"""The arguments for ``ssh`` that a device file may give: none of them runs a program or opens a way in.

A list of what is allowed, because ``ssh`` has many ways to run a local command (ProxyCommand, LocalCommand,
KnownHostsCommand, Match exec) or to load a library (PKCS11Provider). All of them belong into ~/.ssh/config.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_FLAGS = ("-4", "-6", "-C", "-q", "-v")
_LETTERS = "plJbcmiF"
"""Options with a value: port, user, jump host, bind address, ciphers, MACs, identity file, settings file."""
_PATHS = ("i", "F", "identityfile", "certificatefile", "userknownhostsfile", "globalknownhostsfile")
_KEYS = {
    "addressfamily",
    "bindaddress",
    "bindinterface",
    "casignaturealgorithms",
    "checkhostip",
    "ciphers",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "hostkeyalgorithms",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "ipqos",
    "kexalgorithms",
    "loglevel",
    "macs",
    "port",
    "preferredauthentications",
    "proxyjump",
    "pubkeyacceptedalgorithms",
    "pubkeyacceptedkeytypes",
    "pubkeyauthentication",
    "rekeylimit",
    "requiredrsasize",
    "serveralivecountmax",
    "serveraliveinterval",
    "tcpkeepalive",
    "user",
    "verifyhostkeydns",
    *_PATHS[2:],
}
_VALUE = re.compile(r"[A-Za-z0-9_.\[+^~/][A-Za-z0-9_.,:@%/+=\[\]~^-]*\Z")
"""No space, quote or sign that a shell would obey: jump hosts hand values on to a shell."""
_PATH = re.compile(r"[A-Za-z0-9_.~/][A-Za-z0-9_.,:@%/+=\[\]~^ -]*\Z")
_RUNS = re.compile(
    r"\s*(ProxyCommand|LocalCommand|PermitLocalCommand|KnownHostsCommand|Match\b.*\bexec|Include|"
    r"PKCS11Provider|SecurityKeyProvider|XAuthLocation)\b.*",
    re.IGNORECASE,
)


def check_ssh_options(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options themselves; ValueError names the first one that a device file may not give."""
    for letter, value in _pairs(options):
        if letter == "o":
            key, _, value = re.sub(r"\s*=\s*|\s+", "=", value, count=1).partition("=")
            if key.lower() not in _KEYS:
                raise _refusal(f"-o {key}")
            _check_value(f"-o {key}", value, _PATH if key.lower() in _PATHS else _VALUE)
        else:
            _check_value(f"-{letter}", value, _PATH if letter in _PATHS else _VALUE)
        if letter == "F" and not Path(value).is_absolute():
            raise ValueError(f"-F {value}: give the file's absolute path, so that it is the same from every folder")
    return options


def settings_files(options: tuple[str, ...]) -> list[Path]:
    """The files from which ``ssh`` reads its settings because of these options."""
    return [Path(value) for letter, value in _pairs(options) if letter == "F"]


def commands_in(text: str) -> list[str]:
    """The lines of ``ssh`` settings that run a program, load a library or read a further file."""
    return [line.strip() for line in text.splitlines() if _RUNS.match(line)]


def _pairs(options: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Letter and value of each option that has a value; ValueError for anything that is no allowed option."""
    rest = iter(options)
    for option in rest:
        if option in _FLAGS:
            continue
        if len(option) < 2 or option[0] != "-" or option[1] not in _LETTERS + "o":
            raise _refusal(option)
        value = option[2:] or next(rest, None)
        if value is None:
            raise ValueError(f"{option} needs a value")
        yield option[1], value


def _check_value(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.match(value):
        raise ValueError(f"{name}: the value {value!r} has signs that are not allowed here")


def _refusal(option: str) -> ValueError:
    return ValueError(
        f"{option!r} is not among the ssh options that a device file may give; "
        "write it into ~/.ssh/config, under the board's Host"
    )

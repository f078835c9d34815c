"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

import re
import unicodedata

_SUSPECT = re.compile(r"[^\x20-\x7e\n\t]")
_HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Control, format (bidirectional overrides, invisible marks), surrogate, private, unassigned; line separators."""


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written as its code, such as ``\\u001b``.

    Line ends and tabs stay. The codes are those of JSON, so that printed JSON means the same as before.
    """
    return _SUSPECT.sub(lambda found: _shown(found.group()), text)


def one_line(text: str) -> str:
    """The same for a value that must not begin a line of its own: line ends and tabs are codes too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""The instructions of a processor, from what the system says of it."""

from __future__ import annotations

import platform

import pytest

from edgecr.core import processor


@pytest.mark.parametrize(
    ("machine", "facts", "able"),
    [
        ("x86_64", "model name : a\nflags\t\t: fma avx2 avx512_vnni\n", True),
        ("AMD64", "flags : avx_vnni", True),
        ("x86_64", "flags\t\t: fma avx2 avx512f\n", False),
        ("x86_64", "model name : a\n", None),
        ("x86_64", None, None),
        ("aarch64", None, True),
    ],
)
def test_vnni_is_read_from_the_flags(monkeypatch, tmp_path, machine, facts, able):
    file = tmp_path / "cpuinfo"
    if facts is not None:
        file.write_text(facts)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_FACTS", file)
    assert processor.vnni() is able

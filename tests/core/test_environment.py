"""The environment of a run: what was typed, by the name of the program."""

import sys

import pytest

from edgecr.core.environment import environment


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/lib/python3/site-packages/edgecr/__main__.py", "edgecr"),
        ("/usr/bin/edgecr", "edgecr"),
        ("notes/train.py", "train.py"),
    ],
)
def test_the_command_is_named_as_it_is_typed(monkeypatch, program, name):
    monkeypatch.setattr(sys, "argv", [program, "judge", "a.onnx", "b.onnx"])
    assert environment(1)["command"] == [name, "judge", "a.onnx", "b.onnx"]

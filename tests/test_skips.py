"""Skips: allowed ones have a reason, and any other fails a strict session."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("reason", "strict", "code"),
    [
        ("no Python 3.6 on this machine", True, 0),
        ("needs an SSH server", True, 1),
        ("needs an SSH server", False, 0),
    ],
)
def test_a_skip_that_is_not_allowed_fails_a_strict_session(tmp_path, reason, strict, code):
    for name in ("conftest.py", "skips.py"):
        shutil.copy(HERE / name, tmp_path / name)
    (tmp_path / "test_it.py").write_text(
        f"import pytest\n\ndef test_a():\n    pytest.skip({reason!r})\n\ndef test_b():\n    pass\n"
    )
    environment = os.environ | ({"EDGECR_STRICT_SKIPS": "1"} if strict else {})
    if not strict:
        environment.pop("EDGECR_STRICT_SKIPS", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout
    assert ("not allowed" in done.stdout) == bool(code)


def test_what_is_missing_is_one_line():
    done = subprocess.run([sys.executable, str(HERE / "skips.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1

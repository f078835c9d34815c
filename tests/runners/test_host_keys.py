"""Unknown host keys of boards: shown, confirmed, remembered; changed ones are never."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import DeviceFailed, NotConfigured, NotTrusted, RequestError
from edgecr.runners.host_keys import HostKey, unknown_key
from tests.runners.loopback import Board, make_key
from tests.runners.tiny_device import quick_device


def told_by_keygen(file: Path) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", str(file)], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


@pytest.fixture
def known(board: Board, tmp_path: Path) -> Path:
    """An own list of known hosts, without a line end."""
    path = board.folder / "mine"
    path.write_text("elsewhere " + make_key(tmp_path / "elsewhere").strip())
    return path


@pytest.mark.parametrize("hashed", ["yes", "no"])
def test_a_confirmed_key_is_the_one_that_ssh_then_takes(board: Board, known: Path, hashed: str) -> None:
    before = known.read_text()
    runner = board.runner(known="mine")
    config = board.folder / "plain-mine.conf"
    config.write_text(f"{config.read_text()} HashKnownHosts {hashed}\n")
    key = unknown_key(runner.device)
    assert key is not None
    assert (key.host, key.kind) == ("board", "ssh-ed25519")
    assert key.fingerprint == told_by_keygen(board.folder / "host.pub")
    assert known.read_text() == before  # looking writes nothing
    key.require([key.fingerprint])
    key.remember()
    assert known.read_text().startswith(before + "\n")
    assert ("|1|" in known.read_text()) == (hashed == "yes")
    assert unknown_key(runner.device) is None


def test_a_key_that_has_changed_is_refused_with_the_line_that_forgets_the_old_one(board: Board) -> None:
    before = (board.folder / "changed").read_text()
    forget = f"ssh-keygen -R '[127.0.0.1]:{board.port}' -f {board.folder}/changed"
    with pytest.raises(DeviceFailed) as told:
        unknown_key(board.runner(known="changed").device)
    assert f"{forget}, then trust it again" in str(told.value)
    assert (board.folder / "changed").read_text() == before
    subprocess.run(forget.replace("'", "").split(), check=True, capture_output=True)
    assert (board.folder / "changed").read_text() == ""
    (board.folder / "changed").write_text(before)


def test_a_key_with_another_fingerprint_is_refused(tmp_path: Path) -> None:
    key = HostKey("orin", "ssh-ed25519", "SHA256:abc", "orin ssh-ed25519 AAAA\n", tmp_path / "known")
    with pytest.raises(NotTrusted, match="SHA256:abc, not with SHA256:abd"):
        key.require(["SHA256:abd"])


def test_a_new_list_is_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "known"
    HostKey("orin", "ssh-ed25519", "SHA256:abc", "orin ssh-ed25519 AAAA\n", path).remember()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("orin ssh-ed25519 AAAA\n", 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        ({"kind": "local"}, "is not reached by ssh"),
        ({"kind": "labgrid", "place": "orin-3"}, "only known while its place is held"),
        ({"kind": "ssh", "host": "b", "ssh_options": ["-o", "UserKnownHostsFile=/dev/null"]}, "no list of known hosts"),
    ],
)
def test_a_device_without_a_key_or_a_place_for_it_says_so(transport, expected: str) -> None:
    with pytest.raises(NotConfigured, match=expected):
        unknown_key(quick_device(transport=transport))


def test_a_board_that_is_not_reached_has_no_key(board: Board) -> None:
    with pytest.raises(DeviceFailed, match=r"Board 'no-such-board\.invalid' cannot be reached"):
        unknown_key(board.runner(host="no-such-board.invalid").device)


KEY = HostKey("orin-lab", "ssh-ed25519", "SHA256:abc", "orin-lab ssh-ed25519 AAAA\n", Path("known"))


@pytest.mark.parametrize(
    ("options", "answer", "code", "written"),
    [
        ([], "y\n", 0, True),
        ([], "n\n", 1, False),
        ([], "\n", 1, False),
        (["--fingerprint", "SHA256:abc", "--yes"], "", 0, True),
        (["--fingerprint", "SHA256:abc"], "n\n", 1, False),
    ],
)
def test_the_command_writes_only_what_was_confirmed(options, answer, code, written, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgecr.runners.host_keys.unknown_key", lambda device: KEY)
    told = CliRunner().invoke(app, ["devices", "trust", "cpu", "--host-key", *options], input=answer)
    assert told.exit_code == code, told.output
    assert "ssh-ed25519 SHA256:abc" in told.output
    assert Path("known").exists() == written
    assert ("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in told.output) == (not options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host-key", "--yes"], "trusted blindly"),
        (["--yes"], "belong to --host-key"),
        (["--fingerprint", "SHA256:abc"], "belong to --host-key"),
        (["--host-key", "--revoke"], "--revoke to device files"),
    ],
)
def test_the_command_refuses_what_would_be_blind_or_means_nothing(options, expected: str) -> None:
    told = CliRunner().invoke(app, ["devices", "trust", "cpu", *options])
    assert isinstance(told.exception, RequestError)
    assert expected in str(told.exception)

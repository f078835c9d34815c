"""Models that stay on a board, where its device file says so, are not sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecr.runners.agent.protocol import Connection
from tests.runners.loopback import Board, loopback


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with loopback(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were sent."""
    original, names = Connection._put, list[str]()

    def put(self: Connection, path: Path, name: str, digest: str) -> None:
        names.append(name)
        original(self, path, name, digest)

    monkeypatch.setattr(Connection, "_put", put)
    return names


def arrived(board: Board, home: Path, file: Path, name: str, **keep: int) -> bytes:
    """The content that a session finds in its folder after a file was put."""
    env = board.transport()["env"] | {"XDG_CACHE_HOME": str(home)}
    with board.runner(env=env, **keep).connect() as agent:
        agent.put(file, name)
        return (Path(agent.hello["work"]) / name).read_bytes()


def test_a_kept_file_is_sent_once_and_mended_when_it_is_damaged(board: Board, tmp_path: Path, sent: list[str]) -> None:
    file, home = tmp_path / "model", tmp_path / "home"
    file.write_bytes(bytes(range(256)) * 5000)
    assert arrived(board, home, file, "a/model", keep_uploads_mb=10) == file.read_bytes()
    assert arrived(board, home, file, "b/other name", keep_uploads_mb=10) == file.read_bytes()
    assert sent == ["a/model"]
    (kept,) = home.glob("edgecr-board/uploads/*")
    for damage in (b"", b"x" * file.stat().st_size):
        kept.chmod(0o600)
        kept.write_bytes(damage)
        assert arrived(board, home, file, "a/model", keep_uploads_mb=10) == file.read_bytes()
        assert sent.pop() == "a/model"
    file.write_bytes(b"another model")
    assert arrived(board, home, file, "a/model", keep_uploads_mb=10) == b"another model"


def test_nothing_stays_unless_the_device_file_says_so(board: Board, tmp_path: Path, sent: list[str]) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"model")
    for _ in range(2):
        assert arrived(board, tmp_path / "home", file, "model") == b"model"
    assert sent == ["model", "model"]
    assert not (tmp_path / "home").exists()


def test_a_file_larger_than_what_may_stay_is_sent_each_time(board: Board, tmp_path: Path, sent: list[str]) -> None:
    file = tmp_path / "model"
    file.write_bytes(bytes(2 << 20))
    for _ in range(2):
        assert len(arrived(board, tmp_path / "home", file, "model", keep_uploads_mb=1)) == 2 << 20
    assert sent == ["model", "model"]

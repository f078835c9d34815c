"""Files that stay on a board from session to session are whole, the user's own, and within their budget."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

KEY, OTHER, THIRD = ("a" * 32, "b" * 32, "c" * 32)
MB = 1 << 20


@pytest.fixture
def cache(agent):
    return agent("cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "edgecr"


def made(folder: Path, content: bytes = b"engine") -> str:
    file = folder / "made"
    file.write_bytes(content)
    return str(file)


def aged(path: str, seconds: float) -> None:
    state = os.stat(path)
    os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def test_what_was_stored_is_taken_by_another_agent_and_only_under_its_key(cache, root: Path, tmp_path: Path) -> None:
    assert cache.Cache("engines", folder=str(root)).store(KEY, made(tmp_path)) is None
    later = cache.Cache("engines", folder=str(root))
    taken = tmp_path / "taken"
    assert later.take(KEY, str(taken))
    assert taken.read_bytes() == b"engine"
    assert Path(later.find(KEY)).read_bytes() == b"engine"
    assert later.find(OTHER) is None
    assert cache.Cache("timing", folder=str(root)).find(KEY) is None


def test_only_its_user_may_enter_the_cache(cache, root: Path, tmp_path: Path) -> None:
    engines = cache.Cache("engines", folder=str(root))
    engines.store(KEY, made(tmp_path))
    for folder in (root, root / "engines"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert os.stat(engines.find(KEY)).st_mode & 0o777 == 0o400


def test_a_damaged_entry_is_removed_and_counts_as_absent(cache, root: Path, tmp_path: Path) -> None:
    engines = cache.Cache("engines", folder=str(root))
    engines.store(KEY, made(tmp_path))
    path = Path(engines.find(KEY))
    path.chmod(0o600)
    path.write_bytes(b"enginE")
    assert not engines.take(KEY, str(tmp_path / "taken"))
    assert not path.exists()
    assert not (tmp_path / "taken").exists()


def test_a_key_holds_what_was_stored_last(cache, root: Path, tmp_path: Path) -> None:
    timing = cache.Cache("timing", folder=str(root))
    timing.store(KEY, made(tmp_path, b"old"))
    old = Path(timing.find(KEY)).name
    timing.store(KEY, made(tmp_path, b"new"))
    assert Path(timing.find(KEY)).read_bytes() == b"new"
    (root / "timing" / old).write_bytes(b"old")  # as an agent leaves it that is killed between the two
    aged(str(root / "timing" / old), 60)
    assert Path(timing.find(KEY)).read_bytes() == b"new"
    assert len(list((root / "timing").iterdir())) == 1


@pytest.mark.parametrize("place", ["root", "namespace", "entry"])
def test_links_are_never_followed(cache, root: Path, tmp_path: Path, place: str) -> None:
    elsewhere = cache.Cache("engines", folder=str(tmp_path / "elsewhere"))
    elsewhere.store(KEY, made(tmp_path))
    root.parent.mkdir()
    if place == "root":
        root.symlink_to(tmp_path / "elsewhere")
    else:
        root.mkdir(0o700)
    if place == "namespace":
        (root / "engines").symlink_to(tmp_path / "elsewhere" / "engines")
    if place == "entry":
        (root / "engines").mkdir(0o700)
        entry = Path(elsewhere.find(KEY))
        (root / "engines" / entry.name).symlink_to(entry)
        assert cache.Cache("engines", folder=str(root)).find(KEY) is None
    else:
        with pytest.raises(cache.CacheProblem, match="no folder of your own"):
            cache.Cache("engines", folder=str(root))
    assert Path(elsewhere.find(KEY)).read_bytes() == b"engine"


def test_a_folder_of_somebody_else_or_open_to_others_is_refused(cache, root: Path, monkeypatch) -> None:
    root.mkdir(0o700, parents=True)
    os.chmod(root, 0o770)
    with pytest.raises(cache.CacheProblem, match="chmod 700"):
        cache.Cache("engines", folder=str(root))
    os.chmod(root, 0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(cache.CacheProblem, match="look who made it"):
        cache.Cache("engines", folder=str(root))
    with pytest.raises(cache.CacheProblem, match="look who made it"):
        cache.clear(str(root))


def test_engines_and_their_timings_share_a_budget_and_the_least_recently_used_goes(cache, root: Path, tmp_path) -> None:
    engines, timing = (cache.Cache(name, 3, str(root)) for name in ("engines", "timing"))
    megabyte = made(tmp_path, os.urandom(MB))
    for place, (where, key) in enumerate(((engines, KEY), (timing, OTHER), (engines, THIRD))):
        where.store(key, megabyte)
        aged(where.find(key), 30 - place)
    assert engines.find(KEY)  # the oldest is used once more
    engines.store("d" * 32, megabyte)
    assert engines.find(KEY)
    assert engines.find(THIRD)
    assert engines.find("d" * 32)
    assert timing.find(OTHER) is None


def test_uploads_within_a_small_budget_drive_no_engine_out(cache, root: Path, tmp_path: Path) -> None:
    engines, uploads = cache.Cache("engines", 100, str(root)), cache.Cache("uploads", 2, str(root))
    engines.store(KEY, made(tmp_path, os.urandom(3 * MB)))
    for key in (OTHER, THIRD, "d" * 32):
        uploads.store(key, made(tmp_path, os.urandom(MB)))
    assert engines.find(KEY)
    assert [bool(uploads.find(key)) for key in (OTHER, THIRD, "d" * 32)].count(True) == 2


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out(cache, root: Path, tmp_path: Path) -> None:
    engines = cache.Cache("engines", 1, str(root))
    engines.store(KEY, made(tmp_path))
    assert "more than the cache may hold (1 MB)" in engines.store(OTHER, made(tmp_path, bytes(MB + 1)))
    assert engines.find(KEY)


def test_a_full_disk_is_a_reason_and_leaves_nothing(cache, agent, root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(agent("inbox"), "lack_of_space", lambda folder, size, variable: "Only 1 MB free.")
    engines = cache.Cache("engines", folder=str(root))
    assert engines.store(KEY, made(tmp_path)) == "Only 1 MB free."
    assert list((root / "engines").iterdir()) == []


def test_what_a_killed_agent_began_goes_once_it_is_old(cache, root: Path, tmp_path: Path) -> None:
    engines = cache.Cache("engines", folder=str(root))
    for name in ("new-old", "new-young"):
        (root / "engines" / name).write_bytes(b"half")
    os.utime(root / "engines" / "new-old", (0, 0))
    engines.store(KEY, made(tmp_path))
    left = {file.name for file in (root / "engines").iterdir()}
    assert "new-old" not in left
    assert "new-young" in left


@pytest.mark.parametrize("key", ["", "../" + KEY, KEY.upper(), KEY + "/x", "a", "a" * 65, KEY + "\n"])
def test_a_key_is_a_hash_and_nothing_else(cache, root: Path, tmp_path: Path, key: str) -> None:
    engines = cache.Cache("engines", folder=str(root))
    for use in (engines.find, engines.forget, lambda one: engines.store(one, made(tmp_path))):
        with pytest.raises(ValueError, match="is not a key"):
            use(key)


def test_clearing_removes_all_and_tells_how_much(cache, root: Path, tmp_path: Path) -> None:
    for name in cache.NAMESPACES:
        cache.Cache(name, folder=str(root)).store(KEY, made(tmp_path, bytes(100)))
    assert cache.clear(str(root)) == 300
    assert not root.exists()
    assert cache.clear(str(root)) == 0


def test_the_place_is_the_users_cache_folder(cache, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.root() == str(tmp_path / ".cache" / "edgecr-board")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by its specification
    assert cache.root() == str(tmp_path / ".cache" / "edgecr-board")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache.root() == "/elsewhere/edgecr-board"

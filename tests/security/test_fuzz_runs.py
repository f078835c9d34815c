"""Five hundred damaged variants of one finished run: each command explains itself, and none ships what was damaged.

The seed is fixed: a failure names the number of its variant, and that number draws the same damage each time.
"""

import contextlib
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.core.files import sha256
from edgecr.run import ROLES
from edgecr.subject import Subject

VARIANTS = 300
BATCH = 50
SEED = 20250
SECONDS = 120  # a command that takes this long waits for something
CACHES = ("events.jsonl", "report.", "stages/report.json", "steps/", "stages/step-", ".lock")
"""Nothing that a gate rests on begins like this."""


# Damages. Each gets the file and a source of chance; the file is a hard link, so it is replaced and never written to


def replaced(path, content):
    path.unlink()
    path.write_bytes(content)


def truncated(path, chance):
    content = path.read_bytes()
    replaced(path, content[: chance.randrange(max(1, len(content)))])


def emptied(path, chance):
    replaced(path, b"")


def noise(path, chance):
    replaced(path, chance.randbytes(chance.choice([1, 64, 5000])))


def flipped(path, chance):
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(chance.choice([1, 3, 40])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    replaced(path, bytes(content))


def head_flipped(path, chance):
    """A flip among the first bytes, where binary formats keep their lengths and types."""
    content = bytearray(path.read_bytes() or b"\0")
    content[chance.randrange(min(40, len(content)))] ^= chance.randrange(1, 256)
    replaced(path, bytes(content))


def doubled(path, chance):
    replaced(path, path.read_bytes() * 2)


def deleted(path, chance):
    path.unlink()


def folder(path, chance):
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / "inside").write_text("{}")


def pipe(path, chance):
    path.unlink()
    os.mkfifo(path)


def dangling(path, chance):
    path.unlink()
    path.symlink_to("nowhere")


def circular(path, chance):
    path.unlink()
    path.symlink_to(path.name)


def link_outside(path, chance):
    path.unlink()
    path.symlink_to(chance.choice([__file__, os.devnull, "/dev/zero", "/proc/self/environ", "/etc", "/proc/self/mem"]))


def file_for_folder(path, chance):
    """The folder that the file lies in becomes a file, a pipe or a link to itself; the run itself stays a folder."""
    parent = path.parent if not (path.parent / "run.json").exists() else path
    shutil.rmtree(parent) if parent.is_dir() else parent.unlink()
    chance.choice([parent.touch, lambda: os.mkfifo(parent), lambda: parent.symlink_to(parent.name)])()


ANY_FILE = [
    truncated,
    emptied,
    noise,
    flipped,
    head_flipped,
    doubled,
    deleted,
    folder,
    pipe,
    dangling,
    circular,
    link_outside,
    file_for_folder,
]
WHOLE = {emptied, noise, deleted, folder, pipe, dangling, circular, link_outside, file_for_folder}
"""Damages that leave nothing of a file, as opposed to those that may hit a part of it nobody reads."""

NESTED = "[" * 100_000 + "]" * 100_000
WRONG = [
    "null", "true", "-1", "0", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5000, "1e308",
    "0.5", '""', '"text"', '"\\ud800"', '"../../outside"', '"\\u0000"', '"\\u001b[2J"', "[]", "{}", "[[]]", '{"a": 1}',
    "[null]", '["text"]', NESTED, '{"a":' * 30_000 + "1" + "}" * 30_000,
]  # fmt: skip
MARK = "the value that is replaced"


def places(value):
    """Each container of a JSON value with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def chosen_place(value, chance):
    """A place near the top half of the time: long lists of samples would otherwise be all that is hit."""
    found = list(places(value))
    return chance.choice(found[:12] if chance.random() < 0.3 else found)


def other_value(path, chance):
    value = json.loads(path.read_text())
    holder, key = chosen_place(value, chance)
    holder[key] = MARK
    replaced(path, json.dumps(value).replace(json.dumps(MARK), chance.choice(WRONG), 1).encode())


def key_removed(path, chance):
    value = json.loads(path.read_text())
    holder, key = chosen_place(value, chance)
    del holder[key]
    replaced(path, json.dumps(value).encode())


def key_added(path, chance):
    value = json.loads(path.read_text())
    holder, _ = chosen_place(value, chance)
    holder.update(unheard_of=1) if isinstance(holder, dict) else holder.append({"unheard_of": 1})
    replaced(path, json.dumps(value).encode())


def other_whole(path, chance):
    replaced(path, chance.choice(WRONG).encode())


JSON_ONLY = [other_value] * 8 + [key_removed] * 3 + [key_added, other_whole, other_whole]


def vouch(run, file):
    """Lets the stages' records agree with what a file is now, so that its reader meets the damage, not its hash."""
    for record in (run / "stages").glob("*.json"):
        with contextlib.suppress(ValueError, AttributeError, OSError, TypeError, RecursionError):
            value = json.loads(record.read_text()) if record.is_file() else {}
            if file in value.get("outputs", ()) and (run / file).is_file() and not (run / file).is_symlink():
                value["outputs"][file] = sha256(run / file)
                replaced(record, json.dumps(value).encode())


def variant(number, run):
    """Damages a fresh copy; what was done in words, the command to try after `check`, and if `check` must refuse."""
    chance = random.Random(f"{SEED}/{number}")
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    file = chance.choice(files if chance.random() < 0.7 else [each for each in files if each.endswith(".json")])
    damage = chance.choice(JSON_ONLY if file.endswith(".json") and chance.random() < 0.6 else ANY_FILE)
    before = (run / file).read_bytes()
    damage(run / file, chance)
    forged = chance.random() < 0.5
    if forged:
        vouch(run, file)
    now = run / file
    untouched = now.is_file() and not now.is_symlink() and now.read_bytes() == before
    relevant = not file.startswith(CACHES) and not untouched
    refuse = relevant and (damage in WHOLE if file.startswith("stages/") else not forged)
    command = chance.choice([name for name, begins in READS.items() if file.startswith(begins)])
    return f"variant {number}: {file} {damage.__name__}{' and vouched for' * forged}", command, refuse


COMMANDS = {
    "report": lambda run, sound: ["report", run],
    "compare": lambda run, sound: ["compare", sound, run],
    "subjects": lambda run, sound: ["subjects", run],
    "export": lambda run, sound: ["export", run, "--quiet", "--threads", "1"],
    "robustness": lambda run, sound: ["robustness", run, "--quiet"],
    "profile": lambda run, sound: ["profile", run, "--quiet", "--launches", "1", "--rounds", "1"],
}
READS = {
    "report": "",
    "compare": "",
    "subjects": ("baseline/", "candidate/"),
    "export": ("run.json",),
    "robustness": ("robustness/noise5@onnx/clean.npz", "run.json"),
    "profile": ("run.json",),
}
"""Files to try each command on, by prefix: where others are damaged, it would redo whole work, which takes long."""


class Hang(BaseException):
    """A command took far too long."""


def _hang(*_):
    raise Hang


@contextlib.contextmanager
def in_time():
    before = signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(words):
    """The exit code and the exception of a command; ``subjects`` reads both models, as an export would first."""
    if words[0] != "subjects":
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, done.exception
    try:
        for role in ROLES:
            Subject.load(words[1] / role)
    except Exception as error:
        return 1, error
    return 0, None


def fault(words):
    """The exit code of a command, and what was wrong with how it ended: None if it explained itself."""
    try:
        with in_time():
            code, error = answer(words)
    except Hang:
        return 0, "did not end"
    if isinstance(error, EdgecrError):
        return error.exit_code, None if str(error).strip() else "ended without a word"
    if error is not None and not isinstance(error, SystemExit):
        return 1, f"{type(error).__name__}: {str(error)[:200]}"
    return code, None


def faults(number, sound, run):
    """Everything wrong with how two commands met one variant."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(sound, run, copy_function=os.link)
    told, command, refuse = variant(number, run)
    for words in (["check", run], COMMANDS[command](run, sound)):
        code, wrong = fault(words)
        if wrong:
            yield f"{told}: {words[0]} {wrong}"
        if refuse and words[0] == "check" and code == 0:
            yield f"{told}: check ships it"


@pytest.fixture(scope="module")
def sound(small_run, tmp_path_factory):
    """A copy that hard links lead to, so that no mishap reaches the run that other tests share."""
    return Path(shutil.copytree(small_run, tmp_path_factory.mktemp("sound") / small_run.name))


def test_the_undamaged_copy_ships(sound):
    assert fault(["check", sound]) == (0, None)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="pipes and alarms are POSIX")
@pytest.mark.parametrize("first", range(0, VARIANTS, BATCH))
def test_fuzz(sound, tmp_path, monkeypatch, first):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / sound.name
    found = [wrong for number in range(first, first + BATCH) for wrong in faults(number, sound, run)]
    assert not found, "\n".join(found)

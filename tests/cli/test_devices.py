"""`edgecr devices` and `profile` in a folder that has device files of its own, and on a board that does not answer."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core import builtin
from edgecr.core.errors import DeviceFailed, NotTrusted, RequestError, UnknownName
from edgecr.runners import trust
from edgecr.runners.device import load_device
from edgecr.runners.own import write_own_device
from edgecr.runners.trust import usable_device

SHIPPED = builtin.names("devices")
LOCAL = "purpose: here\nkind: cpu\ntransport: {kind: local, env: {LD_PRELOAD: /tmp/evil.so}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def put(name, text=LOCAL, place="devices"):
    file = Path(place) / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# Purpose: of this folder\nname: {name}\n{text}")
    return file


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


# Adding a device


def test_a_name_that_is_taken_is_told_before_any_file_is_judged():
    put("cpu")
    for words in ((), ("--like", "cpu")):
        with pytest.raises(RequestError, match="name of a shipped device") as caught:
            cli("devices", "add", "cpu", *words)
        assert not isinstance(caught.value, NotTrusted)


@pytest.mark.parametrize(("base", "words"), [("cpu", ()), ("jetson", ("--host", "orin"))])
def test_a_new_device_begins_with_the_shipped_one_although_a_file_hides_it(base, words):
    put(base)
    trust.trust(load_device(base))
    assert cli("devices", "add", "mine", *words).exit_code == 0
    made = load_device("mine")
    assert "LD_PRELOAD" not in made.transport.env
    assert made.kind == load_device(str(builtin.shipped("devices", base))).kind


def test_a_file_that_is_named_for_the_new_device_needs_trust():
    put("cpu")
    with pytest.raises(NotTrusted):
        cli("devices", "add", "mine", "--like", "cpu")


# Listing them


def listed():
    return {line.split()[0]: line for line in cli("devices", "list").output.splitlines()}


def test_files_of_the_current_folder_are_listed_with_their_standing():
    put("bench")
    write_own_device("mine", usable_device("cpu"))
    lines = listed()
    assert lines.keys() == {"bench", "mine", *SHIPPED}
    assert "(of this folder; not trusted) of this folder" in lines["bench"]
    assert "(yours)" in lines["mine"]
    assert "(" not in lines["cpu"].split("processor")[0]
    cli("devices", "trust", "bench")
    assert "(of this folder; trusted)" in listed()["bench"]


def test_a_file_that_hides_a_shipped_device_is_listed_once_as_what_would_be_used():
    put("cpu")
    lines = [line for line in cli("devices", "list").output.splitlines() if line.startswith("cpu ")]
    assert len(lines) == 1
    assert "of this folder; not trusted" in lines[0]


def test_the_shipped_folder_itself_is_listed_once(monkeypatch):
    monkeypatch.chdir(builtin.folder("devices").parent)
    output = cli("devices", "list").output
    assert len(output.splitlines()) == len(builtin.names("devices"))
    assert "of this folder" not in output


def test_files_that_are_no_device_spoil_no_list():
    put("odd", text=": {")
    Path("devices/bytes.yaml").write_bytes(b"\xff\xfe")
    Path("devices/folder.yaml").mkdir()
    Path("devices/-x y.yaml").write_text(LOCAL)
    put("-own x", place=builtin.config_folder() / "devices")
    lines = listed()
    assert "cannot be read" in lines.pop("-own")
    assert "cannot be read" in lines["odd"]
    assert "cannot be read" in lines["bytes"]
    assert lines.keys() == {"odd", "bytes", *SHIPPED}


def test_an_unknown_name_lists_those_of_the_current_folder_too():
    put("bench")
    with pytest.raises(UnknownName, match=rf"Known: {', '.join(sorted(['bench', *SHIPPED]))}\."):
        load_device("nosuch")
    with pytest.raises(UnknownName, match="'bench'"):
        load_device("bensh")


# What trust says


def test_trust_says_in_lines_what_using_the_device_will_do():
    put("mine")
    lines = cli("devices", "trust", "mine").output.splitlines()
    assert lines[:2] == ["Trusted as it is now: devices/mine.yaml", "Using device 'mine' will do this:"]
    assert lines[2].startswith("  runs here ")


def test_a_refusal_says_once_what_it_hides_and_what_it_would_do():
    put("cpu")
    with pytest.raises(NotTrusted) as caught:
        usable_device("cpu")
    lines = str(caught.value).splitlines()
    assert lines[0] == "Device 'cpu' is described by devices/cpu.yaml, which you have not trusted as it is now."
    assert lines[1] == "It hides the shipped device of that name."
    assert lines[2] == "Using it would do this:"


# A device that fails


@pytest.fixture
def unreachable(folder):
    """A board of the user's own whose ssh cannot log in anywhere."""
    put(
        "gone",
        "purpose: gone\nkind: jetson\ntransport: {kind: ssh, host: 127.0.0.1, ssh_options: [-p, '1'], "
        "connect_timeout_s: 1}\n",
        place=builtin.config_folder() / "devices",
    )
    return "gone"


def test_a_board_that_does_not_answer_prints_no_empty_tables(edgecr_here, small_run, unreachable):
    done = edgecr_here("profile", small_run / "export/onnx/candidate/model.onnx", "--device", unreachable, "-q")
    assert done.returncode == 1
    assert "INCOMPLETE" not in done.stdout
    assert "Start" not in done.stdout
    assert done.stderr.count("gone:") == 1, done.stderr
    assert done.stdout.strip() == ""


def test_a_failed_device_of_a_run_tells_its_reason_once(small_run, folder, monkeypatch):
    import shutil

    from edgecr.runners.agent.runner import AgentRunner

    run = shutil.copytree(small_run, folder / "run")
    device = load_device(str(small_run.parent.parent / "quick.yaml"))
    trust.trust(device)
    measure = AgentRunner.measure
    monkeypatch.setattr(
        AgentRunner,
        "measure",
        lambda *words: measure(*words).model_copy(update={"error": "the board is gone", "launches": ()}),
    )
    done = CliRunner().invoke(app, ["profile", str(run), "--device", str(device.origin.file), "--rounds", "1", "-q"])
    assert isinstance(done.exception, DeviceFailed)
    assert "the board is gone" in str(done.exception)
    assert "the board is gone" not in done.output
    assert "INCOMPLETE" not in done.output

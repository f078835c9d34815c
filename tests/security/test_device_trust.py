"""A device file that came with a folder runs nothing and connects to nobody until the user has said so."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core import builtin
from edgecr.core.errors import FileProblem, NotTrusted, RecipeError, RequestError
from edgecr.core.progress import Monitor
from edgecr.latency_builder.builder import TableBuilder
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.pipeline import _refuse_early
from edgecr.recipe import load_recipe
from edgecr.runners import fitness, trust
from edgecr.runners.base import runner_for, usable_device
from edgecr.runners.device import Device, load_device
from edgecr.runners.local import LocalRunner

LOCAL = "purpose: p\nkind: cpu\ntransport: {kind: local, env: {LD_PRELOAD: /tmp/evil.so}}\n"
BOARD = (
    "purpose: p\nkind: cpu\ntransport: {kind: ssh, host: evil.example, python: /opt/odd, ssh_options: [-p, '99'], "
    "env: {PATH: /tmp/bin}}\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A foreign folder to stand in, and a user's folder with nothing in it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work" / "devices").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def put(name, text=LOCAL, place="devices", called=None):
    file = Path(place) / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"name: {called or name}\n{text}")
    return str(file)


def cli(*words):
    return CliRunner().invoke(app, list(words), catch_exceptions=True)


def says(*words):
    """The error that a command ends with."""
    done = cli(*words)
    assert isinstance(done.exception, RequestError), (done.output, done.exception)
    assert done.exception.exit_code == 2
    return str(done.exception)


@pytest.fixture
def model(folder):
    """A file to measure; the device is refused before anybody reads it."""
    (folder / "m.onnx").write_bytes(b"x")
    return str(folder / "m.onnx")


def test_a_file_of_the_shipped_name_never_wins_in_silence(model):
    put("cpu")
    told = says("profile", model, "--device", "cpu")
    assert "LD_PRELOAD=/tmp/evil.so" in told
    assert "edgecr devices trust devices/cpu.yaml" in told
    assert "It hides the shipped device of that name." in told


def test_what_a_board_would_be_asked_is_shown():
    put("lab", BOARD)
    with pytest.raises(NotTrusted) as told:
        runner_for(load_device("lab"))
    for part in ("evil.example", "/opt/odd", "-p 99", "PATH=/tmp/bin", "edgecr devices trust devices/lab.yaml"):
        assert part in str(told.value)


def every_use():
    recipe = "name: r\nmodel: {arch: resnet20}\ndata: {name: digits}\nsteps: [{train: {epochs: 1}}, {prune: {PRUNE}}]\n"
    Path("m.yaml").write_text(
        recipe.replace("{PRUNE}", "{sparsity: 0.5, device: cpu2}") + "measure: {devices: [lab]}\n"
    )
    Path("p.yaml").write_text(recipe.replace("{PRUNE}", "{sparsity: 0.5, device: lab}") + "measure: {devices: [cpu]}\n")
    return {
        "runner_for": lambda: runner_for(load_device("lab")),
        "the runner's own class": lambda: LocalRunner(load_device("lab")),
        "by path": lambda: runner_for(load_device("devices/lab.yaml")),
        "with another protocol": lambda: runner_for(load_device("lab").model_copy(update={"align": 4})),
        "a latency table": lambda: TableBuilder(load_device("lab")),
        "its widths": lambda: AgentLatencies(Monitor()).align("lab"),
        "measuring for pruning": lambda: AgentLatencies(Monitor())._builder("lab", "onnx"),
        "a recipe that measures": lambda: _refuse_early(load_recipe("m.yaml")),
        "a recipe that prunes for it": lambda: _refuse_early(load_recipe("p.yaml")),
        "a device in a record": lambda: runner_for(Device.parse(load_device("lab").model_dump(mode="json"))),
    }


USES = [
    "runner_for",
    "the runner's own class",
    "by path",
    "with another protocol",
    "a latency table",
    "its widths",
    "measuring for pruning",
    "a recipe that measures",
    "a recipe that prunes for it",
    "a device in a record",
]


@pytest.mark.parametrize("use", USES)
def test_no_use_goes_round_the_question(use):
    put("lab")
    with pytest.raises(NotTrusted):
        every_use()[use]()


@pytest.mark.parametrize("use", USES[:-1])
def test_every_use_works_once_the_user_has_said_so(use):
    put("lab")
    assert cli("devices", "trust", "lab").exit_code == 0
    every_use()[use]()


def test_every_command_with_a_device_asks(model):
    put("lab")
    for words in (
        ("profile", model, "--device", "lab"),
        ("profile", model, "--device", "devices/lab.yaml"),
        ("latency-table", "build", "resnet20", "--device", "lab"),
        ("latency-table", "show", "--device", "lab"),
        ("latency-table", "predict", "resnet20", "--device", "lab"),
        ("devices", "add", "mine", "--like", "lab"),
    ):
        assert "edgecr devices trust" in says(*words), words


def test_showing_and_checking_need_no_trust():
    put("lab")
    shown = cli("devices", "show", "lab")
    assert shown.exit_code == 0
    assert "not trusted" in shown.output
    assert "LD_PRELOAD" in shown.output
    every_use()
    assert cli("recipes", "validate", "m.yaml", "p.yaml").exit_code == 0


def test_trust_is_remembered_for_these_bytes_at_this_place(folder):
    file = Path(put("lab"))
    done = cli("devices", "trust", "lab")
    assert "LD_PRELOAD=/tmp/evil.so" in done.output
    assert isinstance(runner_for(load_device("lab")), LocalRunner)
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(NotTrusted):
        usable_device("lab")
    cli("devices", "trust", "devices/lab.yaml")
    usable_device("lab")
    put("lab", place=folder / "elsewhere")
    (folder / "elsewhere" / "lab.yaml").write_bytes(file.read_bytes())
    with pytest.raises(NotTrusted):
        usable_device(str(folder / "elsewhere" / "lab.yaml"))
    assert "no longer trusted" in cli("devices", "trust", "lab", "--revoke").output
    with pytest.raises(NotTrusted):
        usable_device("lab")


def test_the_list_of_trusted_files_is_the_users_alone(folder):
    put("lab")
    cli("devices", "trust", "lab")
    store = builtin.config_folder() / "trusted.json"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700
    assert list(json.loads(store.read_text())["devices"]) == [str(folder / "devices" / "lab.yaml")]
    assert [file.name for file in store.parent.iterdir()] == ["trusted.json"]
    store.chmod(0o666)
    with pytest.raises(FileProblem, match="chmod 600"):
        usable_device("lab")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": 1}', '{"schema": 1, "devices": {"a": 1}}', '{"schema": 2}']
)
def test_a_damaged_list_trusts_nobody(text):
    put("lab")
    cli("devices", "trust", "lab")
    (builtin.config_folder() / "trusted.json").write_text(text)
    with pytest.raises(FileProblem, match=r"trusted\.json"):
        usable_device("lab")
    usable_device("cpu2")


def test_a_relative_config_folder_is_no_folder_of_the_user(monkeypatch, folder):
    put("lab", place=folder / "here" / "edgecr" / "devices")
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    monkeypatch.setenv("HOME", str(folder / "home"))
    with pytest.raises(NotTrusted):
        usable_device("here/edgecr/devices/lab.yaml")
    monkeypatch.setenv("HOME", "here")
    with pytest.raises(RequestError, match="HOME"):
        builtin.config_folder()


def test_a_trusted_file_of_a_shipped_name_says_so_whenever_it_is_used():
    put("cpu")
    cli("devices", "trust", "cpu")
    device = usable_device("cpu")
    assert trust.hiding(device) == "Device 'cpu' is devices/cpu.yaml, not the shipped device of that name."
    facts = {
        "usable_cores": 8,
        "busy": 0.0,
        "cpufreq": {"governors": [], "allowed": [], "possible": []},
        "memory": {"total_kb": 0, "available_kb": None},
        "throttled": {"flags": None},
    }
    assert fitness.before(device, facts) == [trust.hiding(device)]
    assert fitness.before(usable_device(str(builtin.folder("devices") / "cpu.yaml")), facts) == []


def test_a_file_of_another_name_cannot_pose_as_a_shipped_device():
    put("lab", called="cpu")
    cli("devices", "trust", "lab")
    assert "not the shipped device" in (trust.hiding(usable_device("lab")) or "")


def test_shipped_files_are_trusted_from_a_clone_and_as_a_copy(monkeypatch, folder):
    assert usable_device("cpu").origin.owner == "shipped"
    Path("devices/cpu.yaml").write_bytes((builtin.folder("devices") / "cpu.yaml").read_bytes())
    assert usable_device("cpu").origin.owner == "shipped"
    Path("devices/lab.yaml").write_bytes((builtin.folder("devices") / "cpu.yaml").read_bytes())
    assert load_device("lab").origin.owner == "foreign"
    monkeypatch.chdir(builtin.folder("devices").parent)
    device = usable_device("cpu")
    assert device.origin.owner == "shipped"
    assert trust.hiding(device) is None


def test_a_device_of_the_user_is_found_everywhere_and_trusted(monkeypatch, tmp_path):
    assert cli("devices", "add", "bench", "--host", "orin", "--python", "/usr/bin/python3.8").exit_code == 0
    monkeypatch.chdir(tmp_path)
    device = usable_device("bench")
    assert device.origin.owner == "own"
    assert (device.transport.host, device.transport.python) == ("orin", "/usr/bin/python3.8")
    assert "bench" in cli("devices", "list").output
    assert "your own" in cli("devices", "show", "bench").output
    runner_for(device)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("cpu",), "shipped device"),
        (("../x",), "cannot be the name"),
        (("a", "--host", "-oProxyCommand=id"), "host"),
        (("a", "--python", "/x"), "--python is for a board"),
        (("a", "--purpose", "x\ny: 1"), None),
    ],
)
def test_what_is_added_is_checked(words, expected):
    done = cli("devices", "add", *words)
    if expected is None:
        assert done.exit_code == 0
        assert load_device(words[0]).purpose == "x\ny: 1"
    else:
        assert isinstance(done.exception, RequestError)
        assert expected in str(done.exception)
        assert not (builtin.config_folder() / "devices").exists()


def test_adding_never_overwrites():
    assert cli("devices", "add", "a").exit_code == 0
    assert "there already" in says("devices", "add", "a")


@pytest.mark.parametrize(
    "options",
    [
        ["-oProxyCommand=id"],
        ["-o", "ProxyCommand=id"],
        ["-o", "proxycommand id"],
        ["-o", "LocalCommand=id"],
        ["-oPermitLocalCommand=yes"],
        ["-oKnownHostsCommand=/x"],
        ["-o", "Match=exec"],
        ["-oInclude=/x"],
        ["-oPKCS11Provider=/x.so"],
        ["-oSecurityKeyProvider=/x.so"],
        ["-I", "/x.so"],
        ["-oControlPath=/tmp/x"],
        ["-S", "/tmp/x"],
        ["-oXAuthLocation=/x"],
        ["-X"],
        ["-A"],
        ["-L", "1:a:2"],
        ["-R", "1:a:2"],
        ["-D", "1"],
        ["-W", "a:1"],
        ["-w", "0"],
        ["-E", "/tmp/log"],
        ["-f"],
        ["-N"],
        ["-o", "SendEnv=*"],
        ["-oRemoteCommand=id"],
        ["other.host"],
        ["--"],
        ["-"],
        [""],
        ["-4o"],
        ["-F", "relative/config"],
        ["-F", "none"],
        ["-p"],
        ["-o"],
        ["-J", "a;id"],
        ["-J", "-oProxyCommand=id"],
        ["-oHostName=a`id`"],
        ["-oHostName=$(id)"],
        ["-oUser=a b"],
        ["-l", "a'b"],
        ["-p", "22\n"],
        ["-oPort=22\nProxyCommand id"],
        ["-o", "Port 22 ProxyCommand id"],
    ],
)
def test_ssh_options_that_run_something_are_refused_even_from_the_user(options):
    text = f"purpose: p\nkind: cpu\ntransport: {json.dumps({'kind': 'ssh', 'host': 'orin', 'ssh_options': options})}\n"
    file = put("lab", text)
    with pytest.raises(RecipeError, match="ssh_options"):
        load_device(file)


@pytest.mark.parametrize(
    "options",
    [
        ["-p", "2222"],
        ["-p2222"],
        ["-o", "Port=2222"],
        ["-o", "Port 2222"],
        ["-J", "me@jump:22,other"],
        ["-4", "-C"],
        ["-i", "~/.ssh/id board"],
        ["-F", "/etc/ssh/mine"],
        ["-oCiphers=+aes256-gcm@openssh.com,aes128-ctr"],
        ["-o", "UserKnownHostsFile=/a/b"],
    ],
)
def test_harmless_ssh_options_are_kept_as_they_are(options):
    text = f"purpose: p\nkind: cpu\ntransport: {json.dumps({'kind': 'ssh', 'host': 'orin', 'ssh_options': options})}\n"
    assert list(load_device(put("lab", text)).transport.ssh_options) == options


def test_settings_of_ssh_count_with_the_file_that_names_them(folder):
    settings = folder / "ssh.conf"
    settings.write_text("Host orin\n  ProxyCommand nc %h %p\n  Port 22\n")
    text = f"purpose: p\nkind: cpu\ntransport: {{kind: ssh, host: orin, ssh_options: [-F, {settings}]}}\n"
    put("lab", text)
    with pytest.raises(NotTrusted, match="ProxyCommand nc %h %p"):
        usable_device("lab")
    cli("devices", "trust", "lab")
    usable_device("lab")
    settings.write_text(settings.read_text() + "  LocalCommand id\n")
    with pytest.raises(NotTrusted, match="LocalCommand id"):
        usable_device("lab")


@pytest.mark.parametrize(
    "transport",
    [
        '{kind: local, env: {"A=B": x}}',
        '{kind: local, env: {"": x}}',
        '{kind: local, env: {A: "x\\0y"}}',
        '{kind: ssh, host: a, python: ""}',
        '{kind: ssh, host: a, python: "x\\ny"}',
        '{kind: ssh, host: "a\\n-x"}',
    ],
)
def test_text_that_no_system_can_take_is_refused(transport):
    with pytest.raises(RecipeError, match="transport"):
        load_device(put("lab", f"purpose: p\nkind: cpu\ntransport: {transport}\n"))

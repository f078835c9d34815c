"""Shared fixtures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests are small; two threads only wait for one another
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# freed memory stays with the process, here and in children: fetching it anew is a fifth of a small training
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(512 << 20))
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # a command uses all cores that its process may use; two workers with all cores each wait for one another
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import contextlib
import functools
import io
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import skips

MINI = """\
name: mini
model: {arch: resnet20, width: 0.25, blocks: [1, 1, 1]}
data: {name: digits}
steps:
  - train: {epochs: 1, batch: 128}
  - distill: {student: {width: 0.25}, epochs: 1, batch: 128}
  - prune: {sparsity: 0.25, align: off}
export: [onnx]
measure: {devices: [DEVICE], batch: [1]}
robustness: {suites: [noise5], images: 40}
gates:
  size: {ratio: 1.0}
"""

QUICK_DEVICE = """\
name: quick
purpose: this machine, measured only as long as a test needs
kind: cpu
transport: {kind: local}
protocol: {launches: 2, rounds: 3, round_s: 0.02, warmup: {window_s: 0.02, max_s: 0.2}}
"""


class CommandLine:
    """The command line in child processes, in an empty folder, as a user would run it."""

    def __init__(self, folder):
        root = Path(__file__).resolve().parent.parent
        clone = str(root) if (root / "edgecr").is_dir() else ""
        path = os.pathsep.join(part for part in (clone, os.environ.get("PYTHONPATH")) if part)
        self.environment = os.environ | {"COLUMNS": "120"} | ({"PYTHONPATH": path} if path else {})
        self.folder = folder

    def __call__(self, *arguments, timeout=300):
        return subprocess.run(
            self.words(arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments):
        """Starts a command and goes on; it is the leader of its own process group."""
        return subprocess.Popen(
            self.words(arguments),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def words(self, arguments):
        return [sys.executable, "-m", "edgecr", *map(str, arguments)]


class InProcess:
    """The command line in this process, for tests in which a process of its own is not the point: torch is there."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments):
        from edgecr.cli import main

        words, output, errors = ["edgecr", *map(str, arguments)], io.StringIO(), io.StringIO()
        interrupted = signal.getsignal(signal.SIGINT)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.chdir(self.folder)
            patch.syspath_prepend(str(self.folder))  # as `python -m` does
            patch.setenv("COLUMNS", "120")
            patch.setattr(sys, "argv", words)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                try:
                    main()
                finally:
                    signal.signal(signal.SIGINT, interrupted)
        return subprocess.CompletedProcess(words, ended.value.code or 0, output.getvalue(), errors.getvalue())


@pytest.fixture(scope="session", autouse=True)
def commands_built_once():
    """Typer's test runner builds all commands anew for each call, which takes as long as judging a run."""
    import typer.testing

    typer.testing._get_command = functools.cache(typer.testing._get_command)


@pytest.fixture(scope="session", autouse=True)
def operators_listed_once():
    """torch lists all of ONNX's operators anew for each export, a quarter of the time of a small network."""
    if "torch" not in sys.modules:
        return  # tests that do without torch need not wait for it
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


@pytest.fixture(scope="session", autouse=True)
def config_folder(tmp_path_factory):
    """A user's folder of our own, here and in child processes."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    yield
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture
def edgecr(tmp_path):
    """Runs the command line as a user would."""
    return CommandLine(tmp_path)


@pytest.fixture
def edgecr_here(tmp_path):
    """Runs the command line in this process: the same exit codes and messages, without a second import of torch."""
    return InProcess(tmp_path)


def written(folder, name, text):
    """A recipe file of that text in a folder, beside a trusted device that is measured quickly."""
    from tests.workplace import trusted

    device, recipe = folder / "quick.yaml", folder / name
    device.write_text(QUICK_DEVICE)
    trusted(device)
    recipe.write_text(text.replace("DEVICE", str(device)))
    return recipe


@pytest.fixture
def mini_recipe(tmp_path):
    """A recipe that goes the whole way in well under a minute."""
    return written(tmp_path, "mini.yaml", MINI)


@pytest.fixture(scope="session")
def mini_run(tmp_path_factory, config_folder):
    """The folder in which the mini recipe was run to its end, once; what the command said is beside it, as `said`."""
    folder = tmp_path_factory.mktemp("mini")
    done = CommandLine(folder)("compress", written(folder, "mini.yaml", MINI))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


def pytest_collection_modifyitems(items):
    """Puts files with slow tests first: workers that take whole files, in this order, end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_terminal_summary(terminalreporter):
    """Names the skips that no complete machine would have."""
    for reason in _unlisted(terminalreporter):
        terminalreporter.write_line(f"skip that is not allowed (see tests/skips.py): {reason}", red=True)


def pytest_sessionfinish(session):
    """Fails a strict session that skipped more than is allowed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus == pytest.ExitCode.OK and reporter and _unlisted(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unlisted(reporter):
    if not skips.strict():
        return []
    reports = reporter.stats.get("skipped", [])
    return skips.unlisted([report.longrepr[2].removeprefix("Skipped: ") for report in reports])


SMALL = """\
name: small
model: {arch: resnet20, width: 0.25}
data: {name: digits}
steps:
  - prune: {sparsity: 0.25, align: off}
export: [onnx]
measure: {devices: [DEVICE], batch: [1, 2]}
robustness: {suites: [noise5], images: 2}
gates:
  size: {ratio: 1.0}
  budget: {ratio: 1.0}
  params: {ratio: 1.0}
  macs: {ratio: 1.0}
  clean_accuracy: {drop: 0.99}
  noise5_accuracy: {drop: 0.99}
  latency_p50: {ratio: 100}
"""


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, config_folder):
    """A finished run that ships, with every kind of evidence in it; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("small")
    done = InProcess(folder)("compress", written(folder, "small.yaml", SMALL), "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder / "runs").glob("small-*")
    return run


@pytest.fixture(scope="session")
def two_run(small_run):
    """The same run with a second target, which ships too; its pruning is taken from the first one."""
    folder = small_run.parent.parent
    asked = (folder / "small.yaml").read_text().replace("name: small", "name: two")
    (folder / "two.yaml").write_text(asked.replace("[onnx]", "[onnx, onnx-embedded]"))
    done = InProcess(folder)("compress", "two.yaml", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder / "runs").glob("two-*")
    return run

"""The reference page names everything that a recipe may say, and nothing else."""

import re

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import RequestError, UnknownName
from edgecr.methods.prune.options import Budget, Exponential, Iterative
from edgecr.reference import page
from edgecr.report.gates.judge import LIMITS, Gate, check_gate_name
from edgecr.report.gates.quantities import Kind, quantities
from edgecr.robustness.suites import suites
from edgecr.training.options import TrainOptions


def section(title):
    """The text between a heading and the next one."""
    text = page()
    start = re.search(rf"^#+ {re.escape(title)}$", text, re.M)
    assert start, title
    return text[start.end() :].split("\n#", 1)[0]


def keys_in(text):
    return set(re.findall(r"^\| `([\w-]+)` \|", text, re.M))


@pytest.fixture(scope="module")
def gates():
    """The keys that the page gives each gate."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", section("Names of gates"), re.M)
    return {name: re.findall(r"`(\w+)`", keys) for name, _, keys in rows}


def test_every_gate_is_named_and_no_other(gates):
    assert gates.keys() == quantities().keys()


@pytest.mark.parametrize("name", sorted(quantities()))
def test_a_gate_takes_the_keys_that_the_page_gives_it(gates, name):
    for key in LIMITS:
        gate = Gate.parse({key: 0.5})
        if key in gates[name]:
            check_gate_name(name, suites, gate)
        else:
            with pytest.raises(RequestError, match="makes no sense"):
                check_gate_name(name, suites, gate)
    limit = next(key for key in gates[name] if key in LIMITS)
    timed = quantities()[name].kind is Kind.TIMING
    assert ("device" in gates[name], "batch" in gates[name]) == (timed, timed)
    if timed:
        check_gate_name(name, suites, Gate.parse({limit: 0.5, "device": "cpu", "batch": 1}))


def test_gates_have_units():
    words = section("Names of gates")
    for unit in ("in ms", "in MB", "in img/s", "0.01 is one point"):
        assert unit in words
    assert "file size" in next(line for line in words.splitlines() if line.startswith("| `size`"))


def test_an_unknown_gate_is_still_unknown(gates):
    with pytest.raises(UnknownName):
        check_gate_name("file_size", suites)
    assert "file_size" not in gates


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("budget", Budget),
        ("when, kind: iterative", Iterative),
        ("when, kind: exponential", Exponential),
        ("when.retrain", TrainOptions),
    ],
)
def test_keys_below_a_key_have_a_table(title, kind):
    assert keys_in(section(title)) == kind.model_fields.keys()


def test_no_class_name_stands_for_a_type():
    for line in re.findall(r"^\| `\w+` \|.*", page(), re.M):
        assert not re.search(r"\b(Budget|OneShot|AdaSap|Any|TeacherRun|SmallResNet)\b", line.split(" | ")[1]), line


def test_pointers_lead_to_headings():
    headings = [
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall("^#+ (.*)", page(), re.M)
    ]
    anchors = re.findall(r"\]\(#([^)]+)\)", page())
    assert anchors
    assert set(anchors) <= set(headings)


def test_a_method_shows_the_keys_below_its_options():
    shown = CliRunner().invoke(app, ["methods", "show", "prune"], catch_exceptions=False).output
    for title, kind in (
        ("budget:", Budget),
        ("when, kind: iterative:", Iterative),
        ("when, kind: exponential:", Exponential),
        ("when.retrain:", TrainOptions),
    ):
        told = shown.partition(f"\n{title} ")[2].split("\n\n")[1]
        assert [line.split()[0] for line in told.splitlines()] == [*kind.model_fields], title
    assert "Budget or null" not in shown

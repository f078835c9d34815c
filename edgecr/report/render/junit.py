"""The gates as JUnit XML, which build servers show as tests: nothing but a gate that holds reads as passed."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from pathlib import Path

from edgecr.core.errors import FileProblem, StorageError
from edgecr.core.files import write_bytes
from edgecr.core.printable import printable
from edgecr.report.gates.judge import reasons
from edgecr.report.result import GateResult, Result, Status, Verdict

_ELEMENTS = {Status.FAIL: "failure", Status.INCOMPLETE: "error"}


def write_junit(result: Result, path: Path) -> None:
    """Writes one test case for each limit of each gate, and the verdict as a property."""
    suite = _suite(result.id)
    _property(suite, "verdict", result.verdict.value)
    for file, problem in result.unverified.items():
        _property(suite, "not verified", f"{file} {problem}")
    for gate in result.gates:
        _gate(suite, gate)
    if result.verdict is not Verdict.SHIP and all(gate.status is Status.PASS for gate in result.gates):
        _case(suite, "verdict", "error", result.verdict.value, "\n".join(reasons(result)))
    _write(suite, path)


def write_junit_error(run: str, why: str, path: Path) -> None:
    """Writes that a run could not be judged, over what an earlier call may have left."""
    suite = _suite(run)
    _case(suite, "verdict", "error", "the run could not be judged", why)
    _write(suite, path)


def _suite(name: str) -> xml.Element:
    suite = xml.Element("testsuite", name=printable(name))
    xml.SubElement(suite, "properties")
    return suite


def _property(suite: xml.Element, name: str, value: str) -> None:
    xml.SubElement(suite[0], "property", name=name, value=printable(value))


def _gate(suite: xml.Element, gate: GateResult) -> None:
    _case(suite, f"{gate.name}: {gate.condition}", _ELEMENTS.get(gate.status), gate.status.value, gate.text)


def _case(suite: xml.Element, name: str, element: str | None, status: str, text: str) -> None:
    case = xml.SubElement(suite, "testcase", classname=suite.get("name", ""), name=printable(name))
    if element is None:
        xml.SubElement(case, "system-out").text = printable(text)
    else:
        message = printable(f"{status}: {text}")
        xml.SubElement(case, element, message=message, type=printable(status)).text = message


def _write(suite: xml.Element, path: Path) -> None:
    for name, kind in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(name, str(len(list(suite.iter(kind)))))
    suite.set("skipped", "0")
    xml.indent(suite)
    try:
        write_bytes(path, xml.tostring(suite, "utf-8", xml_declaration=True) + b"\n")
    except (StorageError, ValueError) as error:  # exit code 1 would read as a verdict
        raise FileProblem(f"--junit {path} cannot be written: {error}") from error

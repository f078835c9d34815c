"""The gates as JUnit XML, which build servers show as tests: nothing but a gate that holds reads as passed.

A run with several targets has a suite for each of them on each device, and one of its own with a case for each device.
Where a target ships, what another one lacks on that device is skipped with its reason: the build is as good as the
exit code says.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgecr.core.errors import EdgecrError, FileProblem, StorageError
from edgecr.core.files import write_bytes
from edgecr.core.printable import printable
from edgecr.report.candidates import name_of, run_verdict
from edgecr.report.gates.judge import reasons
from edgecr.report.result import CandidateRow, GateResult, Result, Status, Verdict

_ELEMENTS = {Status.FAIL: "failure", Status.INCOMPLETE: "error"}
_VERDICTS = {Verdict.DONT_SHIP: "failure", Verdict.INCOMPLETE: "error"}


@contextlib.contextmanager
def junit_file(path: Path | None, name: str) -> Iterator[Callable[[Sequence[Result]], None]]:
    """Around judging: yields a function that takes the results, and writes them; without a path it writes nothing.

    From the beginning the file says that there is no verdict, so that a path that cannot be written is told before
    any work, and no older file speaks for what was never judged, whatever ends it.
    """
    results: list[Result] = []
    if path:
        write_junit_error(name, "judging it did not come to an end", path)
    try:
        yield results.extend
    except EdgecrError as error:
        if path:
            write_junit_error(name, str(error), path)
        raise
    if path:
        write_junit(_together(results), path)


def _together(results: Sequence[Result]) -> Result:
    """One result for a build server: the gates of what may ship, or of all candidates if none may.

    So the gates that fail are those that keep the build from shipping anything.
    """
    if len(results) == 1:
        return results[0]
    found = run_verdict([CandidateRow(result.name, "", result.verdict) for result in results])
    counted = [result for result in results if result.verdict is Verdict.SHIP] or list(results)
    gates = [replace(gate, name=f"{result.name}: {gate.name}") for result in counted for gate in result.gates]
    unverified = {file: text for result in counted for file, text in result.unverified.items()}
    return replace(counted[0], name="candidates", gates=gates, unverified=unverified, verdict=found)


def write_junit(result: Result, path: Path) -> None:
    """Writes one test case for each limit of each gate, and the verdict as a property; one suite for each candidate."""
    if not result.many:
        return _write(_gates(result.id, result.verdict, result, result.unverified), path)
    suites = xml.Element("testsuites", name=printable(result.id))
    suites.append(_devices(result))
    served = {row.device for row in result.candidates if row.ships}
    for row in result.candidates:
        part = result.only(row.target, row.device)
        name = f"{result.id}: {name_of(row.target, row.device)}"
        suites.append(_gates(name, row.verdict, part, part.unsound(part.evidence), needed=row.device not in served))
    return _write(suites, path)


def _gates(name: str, verdict: Verdict, result: Result, wrong: Iterable[str], *, needed: bool = True) -> xml.Element:
    """The gates as one suite; where another target ships instead, a gate that does not hold breaks no build."""
    suite = _suite(name)
    _property(suite, "verdict", verdict.value)
    _not_verified(suite, result, wrong)
    for gate in result.gates:
        element = _ELEMENTS.get(gate.status)
        _gate(suite, gate, element if needed or element is None else "skipped")
    if verdict is not Verdict.SHIP and all(gate.status is Status.PASS for gate in result.gates):
        _case(suite, "verdict", "error", verdict.value, "\n".join(reasons(result)))
    return suite


def write_junit_error(run: str, why: str, path: Path) -> None:
    """Writes that a run could not be judged, over what an earlier call may have left."""
    suite = _suite(run)
    _case(suite, "verdict", "error", "the run could not be judged", why)
    _write(suite, path)


def _devices(result: Result) -> xml.Element:
    """The run's own suite: a case for each device, which passes when some target may ship on it."""
    suite = _suite(result.id)
    _property(suite, "verdict", result.verdict.value)
    _not_verified(suite, result, result.unverified)
    why = reasons(result) if result.gates else reasons(result) * len(result.devices)
    for device, text in zip(result.devices, why):
        found = run_verdict([row for row in result.candidates if row.device == device])
        _case(
            suite,
            f"a target ships on {device}" if device else "a target ships",
            _VERDICTS.get(found),
            found.value,
            text,
        )
    return suite


def _not_verified(suite: xml.Element, result: Result, files: Iterable[str]) -> None:
    for file in files:
        _property(suite, "not verified", f"{file} {result.unverified[file]}")


def _suite(name: str) -> xml.Element:
    suite = xml.Element("testsuite", name=printable(name))
    xml.SubElement(suite, "properties")
    return suite


def _property(suite: xml.Element, name: str, value: str) -> None:
    xml.SubElement(suite[0], "property", name=name, value=printable(value))


def _gate(suite: xml.Element, gate: GateResult, element: str | None) -> None:
    _case(suite, f"{gate.name}: {gate.condition}", element, gate.status.value, gate.text)


def _case(suite: xml.Element, name: str, element: str | None, status: str, text: str) -> None:
    case = xml.SubElement(suite, "testcase", classname=suite.get("name", ""), name=printable(name))
    if element is None:
        xml.SubElement(case, "system-out").text = printable(text)
    else:
        message = printable(f"{status}: {text}")
        xml.SubElement(case, element, message=message, type=printable(status)).text = message


def _write(root: xml.Element, path: Path) -> None:
    for suite in root.iter():
        if suite.tag in ("testsuite", "testsuites"):
            for name, kind in _COUNTED:
                suite.set(name, str(len(list(suite.iter(kind)))))
    xml.indent(root)
    try:
        write_bytes(path, xml.tostring(root, "utf-8", xml_declaration=True) + b"\n")
    except (StorageError, ValueError) as error:  # exit code 1 would read as a verdict
        why = getattr(error, "reason", "") or error
        raise FileProblem(
            f"--junit {path} cannot be written: {why}. Name a file in a folder that you may write to."
        ) from error


_COUNTED = (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))

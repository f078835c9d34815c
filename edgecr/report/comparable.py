"""A check that measurements of several runs may stand beside one another: same board, release and runtime version."""

from __future__ import annotations

from collections.abc import Sequence

from edgecr.core.errors import RequestError
from edgecr.report.result import Result


def check_comparable(results: Sequence[Result]) -> None:
    """Raises a RequestError for latencies on one device that differ in more than the files that were measured."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for result in results:
        for device, name, text in _identities(result):
            first_run, first = seen.setdefault((device, name), (result.id, text))
            if text != first:
                raise RequestError(
                    f"The latencies on {device} cannot be compared: the {name} was {first} in {first_run} and {text} "
                    f"in {result.id}. Measure both again on the same one (edgecr profile RUN --device {device}), or "
                    "compare without latencies: --no-latency."
                )


def _identities(result: Result) -> list[tuple[str, str, str]]:
    return [(row.device, name, text) for row in result.latency for name, text in row.identity.items()]

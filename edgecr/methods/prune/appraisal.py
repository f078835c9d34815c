"""The values of widths for ``scope: measured``: measured once for a model and its images, then read from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from edgecr.core.builtin import cache_folder
from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import fingerprint, read_json, write_json
from edgecr.methods.repair.step import in_chunks, inputs_of, some_of
from edgecr.subject import Subject
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.repair.branches import Branch, branches
from edgecr.surgery.repair.options import FEWEST, RepairOptions
from edgecr.surgery.repair.replay import first_tensor
from edgecr.surgery.repair.values import PartialSums, Probe, WidthValues, check_finite
from edgecr.surgery.scoring.scores import Values
from edgecr.surgery.tracing.running import running
from edgecr.surgery.tracing.slots import Ids
from edgecr.training.context import StepContext
from edgecr.weights import hash_tensors

MOST = 512
"""Images that the loss of a width is measured on."""
WORK = 4e13
"""Multiply-accumulates that all values together may take: about half an hour of two processor cores."""
GRID = 8
"""Widths of a group that are measured; the values of those between them are interpolated."""
FIRST = 4
"""Images whose answers tell one model from another of the same tensors."""
SCHEMA = 1


class StoredSums(PartialSums):
    """PartialSums in the file that the values themselves replace in the end: a killed measurement goes on from them."""

    def __init__(self, file: Path) -> None:
        self._file, self._chunks = file, 0

    def known(self, number: int, chunks: int) -> tuple[int, Values]:
        """The file's sums, if they are of so many variants and chunks; a damaged one holds nothing."""
        self._chunks = chunks
        nothing = super().known(number, chunks)
        if not self._file.is_file():
            return nothing
        try:
            found = read_json(self._file)
            done, sums = int(found["done"]), np.array(found["sums"], dtype=np.float64)
            fits = found["schema"] == SCHEMA and found["chunks"] == chunks and 0 < done <= chunks
        except (FileProblem, KeyError, TypeError, ValueError, OverflowError):
            return nothing
        good = sums.shape == (number,) and bool(np.isfinite(sums).all() and (sums >= 0).all())
        return (done, sums) if fits and good else nothing

    def keep(self, done: int, sums: Values) -> None:
        """Puts the sums into the file, which is whole at every moment."""
        write_json(self._file, {"schema": SCHEMA, "chunks": self._chunks, "done": done, "sums": sums.tolist()})


class Appraisal:
    """Values of the widths of one subject's groups."""

    def __init__(self, subject: Subject, options: RepairOptions, context: StepContext) -> None:
        self._subject, self._options, self._context = subject, options, context

    def __call__(self, planner: Planner) -> Sequence[Values]:
        """A value for each allowed width of each group: the measured loss, negative."""
        groups, allowed = planner.graph.groups, planner.widths.allowed
        widths, file = [_grid(own) for own in allowed], self._file(planner, "widths")
        if (known := _read(file, widths)) is not None:
            self._context.monitor.say(f"The values of {len(groups)} groups were measured before ({file.name}).")
            return _between(known, widths, allowed)
        total = sum(int((own < group.width).sum()) for own, group in zip(widths, groups))
        if not total:
            return [np.zeros(len(own)) for own in allowed]
        question = self._question(planner, total)
        asked, values = sum(map(len, question.asked)), self._values(planner, question)
        self._context.monitor.say(f"Measuring {total} widths of {len(groups)} groups on {asked} images")
        with self._measuring("widths", file, sum(map(len, widths)), total, len(question.asked)) as (sums, advance):
            losses = values.losses(widths, advance, sums)
        write_json(file, {"schema": SCHEMA, "losses": [own.tolist() for own in losses]})
        return _between(losses, widths, allowed)

    def without_blocks(self, planner: Planner) -> tuple[tuple[Branch, ...], list[float]]:
        """The residual branches that can go as a whole, and the measured loss of each."""
        file, question = self._file(planner, "droppable blocks"), self._question(planner, 1)
        found = branches(self._subject.module, question.asked[0])
        self._context.monitor.say(f"{len(found)} residual blocks hand on their input without their branch")
        if not found:
            return found, []
        if (known := _read(file, [np.zeros(1, dtype=np.int64)] * len(found))) is not None:
            self._context.monitor.say(f"What they cost was measured before ({file.name}).")
            return found, [float(loss[0]) for loss in known]
        with self._measuring("blocks", file, len(found), len(found), len(question.asked)) as (sums, advance):
            losses = self._values(planner, question).drop_losses(found, advance, sums)
        write_json(file, {"schema": SCHEMA, "losses": [[loss] for loss in losses]})
        return found, losses

    def _values(self, planner: Planner, question: Probe) -> WidthValues:
        return WidthValues(self._subject.module, planner.graph.groups, planner.values, question)

    @contextmanager
    def _measuring(
        self, what: str, file: Path, number: int, each: int, chunks: int
    ) -> Iterator[tuple[PartialSums, Callable[[], None]]]:
        """The sums that an earlier measurement left in a file, and a bar that goes on from them."""
        sums = StoredSums(file)
        done, _ = sums.known(number, chunks)
        if done:
            self._context.monitor.say(f"{done} of {chunks} parts of the images were measured before ({file.name}).")
        with self._context.monitor.bar(f"Measuring {what}", each * chunks, each * done) as bar:
            yield sums, bar.advance

    def _file(self, planner: Planner, what: str) -> Path:
        """The file of some values, which depend on the tensors and the code, the images, the order and the widths."""
        key = fingerprint(
            [
                what,
                hash_tensors(self._subject.module.state_dict()),
                self._answers,  # another code makes another model of the same tensors
                self._context.data.fingerprint,
                asdict(self._context.data.preprocessing),
                self._context.seed,
                self._options.plain(),
                [group.name for group in planner.graph.groups],
                [np.argsort(values, kind="stable").tolist() for values in planner.values],
                [_grid(own).tolist() for own in planner.widths.allowed],
            ]
        )
        return cache_folder("values") / f"{key[:32]}.json"

    @cached_property
    def _answers(self) -> str:
        """The model's answers to a few images, as text; refused where they are not finite."""
        train = self._context.data.train
        module, inputs = self._subject.module, inputs_of(self._subject, self._context)
        with running(module):
            found = first_tensor(module(inputs.normalise(train.images(some_of(train, FIRST, self._context.seed)))))
        check_finite(found)
        return found.cpu().numpy().tobytes().hex()

    def _question(self, planner: Planner, total: int) -> Probe:
        """Training images to refit on, and others to ask about; as many of these as the work allows."""
        train = self._context.data.train
        if len(train) < 2 * FEWEST:
            raise RequestError(
                f"scope: measured needs at least {2 * FEWEST} training images, and there are {len(train)}."
            )
        each = planner.cost.macs(planner.cost.widths)
        affordable = max(FEWEST, int(WORK / (max(total, 1) * max(each, 1))))
        asked = min(MOST, affordable, len(train) // 2)
        fitted = min(self._options.images, len(train) - asked)
        drawn = np.random.default_rng(self._context.seed).permutation(
            some_of(train, fitted + asked, self._context.seed)
        )
        inputs, options = inputs_of(self._subject, self._context), self._options
        own, others = (in_chunks(inputs, train, np.sort(part)) for part in (drawn[:fitted], drawn[fitted:]))
        return Probe(own, others, options.positions, options.ridge, self._context.seed)


def _grid(allowed: Ids) -> Ids:
    """The smallest and the largest width of a group and some between, closer together where little is left."""
    places = np.linspace(np.sqrt(allowed[0]), np.sqrt(allowed[-1]), GRID) ** 2
    nearest = np.abs(allowed[:, None] - places).argmin(axis=0)
    return allowed if len(allowed) <= GRID else allowed[np.unique(nearest)]


def _between(losses: Sequence[Values], measured: Sequence[Ids], allowed: Sequence[Ids]) -> list[Values]:
    """A value for each allowed width, the loss on the line between the measured ones, negative."""
    return [-np.interp(every, own, loss) for every, own, loss in zip(allowed, measured, losses)]


def _read(file: Path, widths: Sequence[Ids]) -> list[Values] | None:
    """The losses in a file, if it holds one for each width."""
    if not file.is_file():
        return None
    try:
        found = read_json(file)
        losses = [np.array(own, dtype=np.float64) for own in found["losses"]]
    except (FileProblem, KeyError, TypeError, ValueError, OverflowError):
        return None  # measured again
    fits = found.get("schema") == SCHEMA and [own.shape for own in losses] == [own.shape for own in widths]
    return losses if fits and all((own >= 0).all() and np.isfinite(own).all() for own in losses) else None

"""Sets subjects aside and exports them: what a run compares, as files that are proven and then measured."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgecr.core.errors import EdgecrError, FileProblem, RequestError, StorageError
from edgecr.core.files import read_json, sha256
from edgecr.core.progress import Monitor
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact, exporters, load_target, runtimes_of
from edgecr.exporters.artifact import MANIFEST
from edgecr.exporters.base import Target
from edgecr.models.external import source_of
from edgecr.recipe import Recipe
from edgecr.recipe.inputs import own_models
from edgecr.report.result import BASELINE, CANDIDATE
from edgecr.run import ROLES, Run
from edgecr.stages.asked import SUBJECT_FILES, Asked, export_key, export_stage, target_for
from edgecr.stages.subject_counts import SubjectCounts, WeightFigures
from edgecr.subject import Subject
from edgecr.surgery.changes.binary import binary_tensors
from edgecr.surgery.counters import count
from edgecr.surgery.counts import Count
from edgecr.surgery.weight_sizes import count_weights, paper_bytes, stored_bytes
from edgecr.training.context import Execution


def set_aside(run: Run, role: str, key: str, subject: Subject) -> None:
    """Keeps the baseline or the candidate, and counts it now: nothing later has to build it for its figures."""
    folder = run.subject(role)
    subject.save(folder)
    figures = count(subject.module, subject.input_shape)
    SubjectCounts(
        architecture=_in_words(subject),
        params=figures.params,
        macs=figures.macs,
        weights=_weight_figures(subject, figures),
    ).save(folder)
    run.finish(role, key, [folder])


def _weight_figures(subject: Subject, figures: Count) -> WeightFigures:
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in subject.module.named_parameters()}
    counted = count_weights(weights, figures.layers)
    return WeightFigures(
        nonzeros=counted.nonzeros,
        sparse_macs=counted.sparse_macs,
        without_places=math.ceil(paper_bytes(weights, binary_tensors(subject.surgery))),
        **asdict(stored_bytes(weights)),
    )


def _in_words(subject: Subject) -> str:
    options = {key: value for key, value in subject.record()["architecture"].items() if key != "arch"}
    text = subject.architecture.arch + (f" {json.dumps(options)}" if options else "")
    changes = Counter(change.tag for change in subject.surgery)
    return text + "".join(f", {tag} {times} time{'s' if times > 1 else ''}" for tag, times in changes.items())


def refuse_namesake(run: Run, target: Target) -> None:
    """Raises for another target that bears the name of one of the run's: it would be written over what is judged."""
    if any(each.name == target.name and each.plain() != target.plain() for each in Asked.of(run).targets):
        raise RequestError(
            f"The run's target {target.name!r} was declared otherwise than {target.name!r} is here; exporting would "
            "overwrite what the run is judged by. Give the other target a name of its own."
        )


def export_role(
    run: Run, role: str, target_name: str, data: ProofData, execution: Execution, monitor: Monitor
) -> Artifact:
    """Exports and proves the baseline or the candidate for one target."""
    export = _Export(run, role, load_target(target_name), data)
    return export.finished() or export.make(_sound_subject(run, role, execution), monitor)


def try_role(
    run: Run, role: str, target_name: str, data: ProofData, execution: Execution, monitor: Monitor
) -> Exception | None:
    """Exports as ``export_role`` does; a target that breaks has its error recorded as its result, and returned."""
    export = _Export(run, role, load_target(target_name), data)
    if export.finished():
        return None
    subject = _sound_subject(run, role, execution)
    try:
        export.make(subject, monitor)
    except StorageError:
        raise
    except Exception as error:  # exporters from elsewhere, and the libraries behind them, raise kinds of their own
        run.fail(export.stage, export.key, failure_words(error))
        return error
    return None


def failure_words(error: Exception) -> str:
    """The reason why a target could not be exported; a kind of error that EdgeCR does not know is named."""
    return str(error) if isinstance(error, EdgecrError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Export:
    """One role for one target, and its stage in the run."""

    run: Run
    role: str
    target: Target
    data: ProofData

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.run.export(self.target.name) / self.role

    @property
    def stage(self) -> str:
        """The name of the stage."""
        return export_stage(self.target.name, self.role)

    @property
    def key(self) -> str:
        """The key of all that the stage reads."""
        subject_files = [sha256(self.run.subject(self.role) / file) for file in SUBJECT_FILES]
        return export_key(self.asked, self.data.fingerprint, subject_files)

    @property
    def asked(self) -> Target:
        """The target as it is for this role."""
        return target_for(self.target, self.role)

    def finished(self) -> Artifact | None:
        """The files that lie there already."""
        return Artifact.within(self.folder) if self.run.finished(self.stage, self.key) else None

    def make(self, subject: Subject, monitor: Monitor) -> Artifact:
        """Writes and proves the files."""
        monitor.say(f"Exporting the {self.role} for {self.target.name}")
        self._take_away_orphans()
        exporter = exporters.get(self.target.format)()
        lineage = {"run": self.run.folder.name, "role": self.role, "steps": steps_behind(self.run, self.role)}
        artifact = exporter.export(subject, self.asked, self.data, self.folder, lineage)
        self.run.finish(self.stage, self.key, [self.folder])
        return artifact

    def _take_away_orphans(self) -> None:
        """Removes files that this stage wrote and no manifest names any more: they would be taken for the user's."""
        try:
            Artifact.within(self.folder)
        except FileProblem:
            with contextlib.suppress(FileProblem):  # a damaged record names nothing
                self.run.discard(self.stage)


def _sound_subject(run: Run, role: str, execution: Execution) -> Subject:
    """The baseline or the candidate as it was set aside; permission to run code is for the recipe's own models only."""
    folder = run.subject(role)
    if changed := run.damaged(role):
        raise FileProblem(f"{changed[0]} is not what was set aside. Run the recipe again: edgecr compress.")
    arch = read_json(folder / "subject.json")["architecture"]["arch"]
    if source_of(arch) == "code" and arch not in own_models(Recipe.parse(run.record["recipe"])):
        raise FileProblem(f"{folder / 'subject.json'} names code that the run's recipe does not name: {arch}.")
    return Subject.load(folder, allow_code=execution.allow_code)


def steps_behind(run: Run, role: str) -> list[str]:
    """The names of the steps that made a role's model."""
    recipe = Recipe.parse(run.record["recipe"])
    names = [step.name for step in recipe.steps]
    return names[: recipe.baseline_steps] if role == BASELINE else names


@dataclass(frozen=True)
class Exports:
    """Both exported files of a target as they lie there now."""

    artifacts: Mapping[str, Artifact]
    changed: tuple[Path, ...]
    """Files that are not the ones which were exported."""

    @property
    def hashes(self) -> dict[str, str]:
        """The current hashes of the files, by role."""
        return {role: artifact.identity for role, artifact in self.artifacts.items()}

    @property
    def paths(self) -> dict[str, Path]:
        """The paths of the main files, by role."""
        return {role: artifact.path for role, artifact in self.artifacts.items()}

    @property
    def beside(self) -> dict[str, tuple[str, ...]]:
        """The names of the files that lie beside them, by role."""
        return {role: artifact.beside for role, artifact in self.artifacts.items()}

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes that files of this format run in."""
        return runtimes_of(self.artifacts[CANDIDATE].format)


def exports(run: Run, target: str) -> Exports:
    """Both exported artifacts of a target; hashes and sizes are the files' own, whatever the manifests say."""
    told = {role: _exported(run, target, role) for role in ROLES}
    real = {role: each.as_it_is() for role, each in told.items()}
    damaged = [file for role in ROLES for file in run.damaged(export_stage(target, role))]
    odd = [real[role].path for role in ROLES if real[role] != told[role]]
    return Exports(real, tuple(dict.fromkeys([*damaged, *odd])))


def _exported(run: Run, target: str, role: str) -> Artifact:
    """The artifact of a role as its manifest tells; FileProblem, with what to do, where it is not complete."""
    folder = run.export(target) / role
    found = Artifact.within(folder) if (folder / MANIFEST).exists() else None
    if found is None or not all((folder / name).is_file() for name in found.hashes):
        raise FileProblem(
            f"{run.folder} has no {role} exported for {target!r}. "
            f"Export it first: edgecr export {run.folder} --target {target}"
        )
    return found

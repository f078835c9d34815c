"""The work of masking weights: at once, in rounds, or while the model is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from edgecr.core.errors import BudgetError, RequestError
from edgecr.core.files import fingerprint, read_json, sha256, write_json
from edgecr.core.seeds import derive_seed
from edgecr.methods.prune.recalibration import recalibrated
from edgecr.methods.repair.step import repaired_if_possible
from edgecr.methods.rounds import kept
from edgecr.methods.sparsify.learned import learned_scores
from edgecr.methods.sparsify.options import Cubic, Rounds, SparsifyOptions
from edgecr.methods.sparsify.ratios import Level
from edgecr.methods.sparsify.record import NAME, ROUNDS, LayerWeights, RoundOutcome, RoundsRecord, SparsityRecord
from edgecr.methods.sparsify.while_training import MaskingObserver
from edgecr.subject import Subject
from edgecr.surgery.blocks import Blocks
from edgecr.surgery.changes import BlockMask, Change, WeightMask, standing_masks
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.counters import count
from edgecr.surgery.layer_names import weighted_layers
from edgecr.surgery.masking.choice import WeightChoice, WeightScores, in_blocks, with_dead
from edgecr.surgery.masking.scores import WeightEvidence, weight_scores
from edgecr.surgery.masking.sipp import Looking
from edgecr.surgery.weight_sizes import count_weights
from edgecr.training.checkpoint import discard
from edgecr.training.context import StepContext
from edgecr.training.loop import fit
from edgecr.training.options import TrainOptions
from edgecr.training.order import order_for
from edgecr.training.sample import TrainingSample
from edgecr.weights import hash_tensors, read_tensors

Masks = Mapping[str, Tensor]


class Sparsifying:
    """One masking step of a recipe on one subject."""

    def __init__(self, method: SparsifyOptions, subject: Subject, context: StepContext) -> None:
        self.method, self.subject, self.context = method, subject, context
        method.refuse_misplaced(subject.promise(allow_code=context.execution.allow_code).figures)
        self.layers = weighted_layers(subject.module, method.exclude)
        if not self.layers:
            raise RequestError("No weight may be masked: exclude leaves no convolution and no linear layer.")
        self.skipped = self._unfit()
        self.names = [f"{name}.weight" for name in self.layers if name not in self.skipped]
        self.sizes = {name: subject.module.get_parameter(name).numel() for name in self.names}
        self.weights = sum(self.sizes.values())
        self.params = sum(parameter.numel() for parameter in subject.module.parameters())
        self.before = {name: _nonzero(subject.module, name) for name in self.names}
        self.choice = WeightChoice(method.scope, method.min_density)
        self._refuse_impossible()

    def _unfit(self) -> dict[str, str]:
        """Layers whose inputs do not fall into the blocks of a pattern, and why; refused by ``strict``."""
        if self.method.pattern is None:
            return {}
        kind, found = Blocks.of(self.method.pattern), dict[str, str]()
        for name, layer in self.layers.items():
            shape = tuple(layer.weight.shape)
            if getattr(layer, "transposed", False) or getattr(layer, "groups", 1) > 1:
                found[name] = "grouped and transposed convolutions have no blocks of inputs"
            elif not kind.fits(shape):
                found[name] = f"{shape[1]} inputs are no multiple of {kind.size}"
        if found and self.method.strict:
            raise RequestError(
                f"pattern {self.method.pattern} does not fit {_listed(found)}. Name them in exclude, or drop strict."
            )
        if len(found) == len(self.layers):
            raise RequestError(f"pattern {self.method.pattern} fits no layer: {_listed(found)}.")
        return found

    def _refuse_impossible(self) -> None:
        """BudgetError for more than can go at the end, before anything is trained."""
        share = 0.0 if self.method.pattern is not None else self._share(self._final)
        if self.method.scope == "global":
            self.choice.refuse_impossible(self.sizes.values(), share)

    def done(self) -> Subject:
        """The masked subject; what was reached is told, logged and recorded."""
        schedule = self.method.when
        if isinstance(schedule, Rounds):
            result = self._in_rounds(schedule)
        elif isinstance(schedule, Cubic):
            result = self._while_training(schedule)
        else:
            result = self._masked(self.subject, (self._wanted,))
        self._tell(result)
        return self._repaired(result)

    # Masks.

    def _masked(self, subject: Subject, level: Level) -> Subject:
        """A copy of a subject whose weights are masked at one sparsity after another."""
        module = copy.deepcopy(subject.module)
        for sparsity in level:
            set_to_zero(module, self._masks(module, sparsity))
        if self.method.strict:
            self._judge(self._lost(module))
        return self._with(module)

    def _with(self, module: nn.Module) -> Subject:
        """The subject with a module of this step, and the record of all zeros that it has more."""
        execution = self.context.execution
        mask = WeightMask.of(module, self.names, self.subject.promise(allow_code=execution.allow_code))
        changes: list[Change] = [mask] if mask.tensors else []
        if self.method.pattern is not None:
            changes.append(BlockMask.of(module, self.names, self.method.pattern))
        return self.subject.with_changes(*changes).with_module(module)

    def _masks(self, module: nn.Module, sparsity: float) -> Masks:
        """The masks of a module's weights at one sparsity; weights that are zero stay so."""
        weights = {name: module.get_parameter(name).detach().cpu() for name in self.names}
        if not sparsity and self.method.pattern is None:
            return {name: weight != 0 for name, weight in weights.items()}
        scores = self._scores(module, sparsity)
        if self.method.pattern is None:
            return self.choice.masks(scores, self._share(sparsity), weights)
        kind = Blocks.of(self.method.pattern)
        ready = {name: with_dead(scores[name], weight) for name, weight in weights.items()}
        return {name: in_blocks(each, kind.kept, kind.size) & (each >= 0) for name, each in ready.items()}

    def _share(self, sparsity: float) -> float:
        """The part of the weights that may go which makes up this part of what is counted."""
        if self.method.count == "prunable":
            return sparsity
        share = round(sparsity * self.params) / self.weights
        if share > 1:
            raise BudgetError(
                f"count: all asks for {sparsity:.2%} of {self.params:,} parameters, but only {self.weights:,} of them "
                f"are weights that may go ({self.weights / self.params:.2%}). Ask for less, or exclude less."
            )
        return share

    def _scores(self, module: nn.Module, sparsity: float) -> WeightScores:
        """The importance of each weight of a module."""
        method, data = self.method, self.context.data
        if method.score == "hydra":
            return self._learned(module, sparsity)
        order = order_for(module, data.preprocessing.size)
        most = max(1, len(data.train) // 2)
        sample = TrainingSample(data, self.context.seed, order, batches=math.ceil(most / TrainingSample.size))
        looking = Looking(method.normalise, method.samples, most, self.context.monitor.say)
        own = weighted_layers(module, method.exclude)
        layers = {name: layer for name, layer in own.items() if name not in self.skipped}
        images = (batch for batch, _ in sample)
        return weight_scores.get(method.score)(WeightEvidence(module, layers, self.context.seed, images, looking))

    def _learned(self, module: nn.Module, sparsity: float) -> WeightScores:
        """Hydra's scores; norms of the module learn with them."""
        learn = self.method.learn
        assert learn is not None  # the options see to it
        subject, keep = self.subject.with_module(module), 1 - sparsity
        found = learned_scores(subject, keep, learn, self.context, self.method.exclude)
        return {name: scores.abs().cpu() for name, scores in found.items()}

    # Schedules.

    def _in_rounds(self, schedule: Rounds) -> Subject:
        """Masks and trains, several times; each finished round stays where a killed run finds it."""
        subject, execution, outcomes = self.subject, self.context.execution, list[RoundOutcome]()
        state = "" if schedule.rewind != "weights" else sha256(self.context.snapshot(schedule.to))
        for number, level in enumerate(schedule.levels(self._wanted), 1):
            folder = self.context.folder / f"round-{number:02d}"
            before = hash_tensors(subject.module.state_dict())
            key = fingerprint([self.method.plain(), self.context.seed, before, state])
            start = kept(folder / "masked", key, partial(self._begun, subject, level, schedule), execution)
            context = replace(self.context, folder=folder, seed=derive_seed(self.context.seed, number))
            trained = partial(self._trained, start, schedule, context)
            subject = kept(folder / "subject", key, trained, execution, beside=("history.json",))
            discard(folder)
            validation = _validation(read_json(folder / "history.json"), schedule)
            outcomes.append(self._outcome(number, level, subject, validation))
        self.context.record(ROUNDS, RoundsRecord(rounds=tuple(outcomes)))
        write_json(self.context.folder / "history.json", read_json(folder / "history.json"))
        return subject

    def _begun(self, subject: Subject, level: Level, schedule: Rounds) -> Subject:
        """The start of a round: masked, and rewound where that is asked for."""
        masked = self._masked(subject, level)
        if schedule.rewind != "weights":
            return masked
        masks = {name: masked.module.get_parameter(name) != 0 for name in self.names}
        state = read_tensors(self.context.snapshot(schedule.to))
        try:
            masked.module.load_state_dict(state)
        except RuntimeError as error:  # torch has no other class for what does not fit
            raise RequestError(
                f"The state at update {schedule.to} is of a model with other layers, so it cannot be gone back to: put "
                f"sparsify before the step that cut or changed them. {error}"
            ) from error
        set_to_zero(masked.module, standing_masks(self.subject.module, self.subject.surgery))
        set_to_zero(masked.module, masks)
        return self._with(masked.module)

    def _trained(self, subject: Subject, schedule: Rounds, context: StepContext) -> Subject:
        """Trains one round, with a seed of its own, on from the update that the schedule goes back to."""
        options: TrainOptions = schedule.retrain
        loss = options.build_loss(self.subject, context)
        fit(subject.module, options, loss, context, surgery=subject.surgery, start=schedule.to)
        return subject

    def _outcome(self, number: int, level: Level, subject: Subject, validation: float | None) -> RoundOutcome:
        zero = self.weights - sum(_nonzero(subject.module, name) for name in self.names)
        total = self.weights if self.method.count == "prunable" else self.params
        found = RoundOutcome(sparsity=zero / total, validation=validation)
        score = "" if validation is None else f", validation {validation:.2%}"
        self.context.monitor.say(f"Round {number}: {found.sparsity:.2%} zero{score}")
        self.context.monitor.event("masking round", round=number, levels=list(level), **found.plain())
        return found

    def _while_training(self, schedule: Cubic) -> Subject:
        """Trains once from beginning to end; weights are masked on the way."""
        options, subject = schedule.retrain, self.subject
        self.context.refuse_several_devices("when: cubic chooses weights")
        masking = MaskingObserver(schedule, self._wanted, self._masks)
        loss = options.build_loss(subject, self.context)
        fit(subject.module, options, loss, self.context, [masking], surgery=subject.surgery)
        return self._with(subject.module)

    def _repaired(self, result: Subject) -> Subject:
        """The masked subject with its layers refitted or norms recalibrated, as was wanted and images allow."""
        options = self.method.repairs
        if self.method.recalibrate:
            return recalibrated(result, self.context)
        if options is None or result.surgery == self.subject.surgery:
            return result
        return repaired_if_possible(self.subject, result, options, self.context, asked=self.method.repair is not None)

    # What is told.

    def _tell(self, result: Subject) -> None:
        """Says what was reached, under the same counter as the request; warns of layers that are lost."""
        self._judge(self._lost(result.module))
        counted = count(result.module, result.input_shape)
        left = {name: _nonzero(result.module, name) for name in self.names}
        arrays = {name: each.detach().cpu().numpy() for name, each in result.module.named_parameters()}
        found = count_weights(arrays, counted.layers)
        record = SparsityRecord(
            asked=self._allowed(),
            left=sum(left.values()),
            params=counted.params,
            nonzero=found.nonzeros,
            macs=found.macs,
            sparse_macs=found.sparse_macs,
            layers=tuple(self._layer(name, left[name]) for name in self.names),
            skipped=self.skipped,
        )
        self.context.record(NAME, record)
        self.context.monitor.say(record.told())
        for layer, why in self.skipped.items():
            self.context.monitor.warn(f"{layer} was not masked: {why}.")
        self.context.monitor.event("masked", weights=self.weights, left=record.left, nonzero=record.nonzero)

    def _layer(self, name: str, left: int) -> LayerWeights:
        layer, size = name.removesuffix(".weight"), self.sizes[name]
        return LayerWeights(layer=layer, weights=size, before=self.before[name], after=left)

    def _lost(self, module: nn.Module) -> list[str]:
        """The tensors without any weight left."""
        return [name for name in self.names if not bool(module.get_parameter(name).any())]

    def _judge(self, lost: list[str]) -> None:
        """Warns of layers without any weight left; a strict step fails."""
        if not lost:
            return
        names = ", ".join(name.removesuffix(".weight") for name in lost)
        text = f"No weight is left in {names}: nothing passes there. Give every layer a share, e.g. min_density: 0.01."
        if self.method.strict:
            raise BudgetError(f"{text} Or leave strict out to go on with a warning.")
        self.context.monitor.warn(text)

    def _allowed(self) -> int:
        """The weights that may remain, as asked for."""
        sizes = list(self.sizes.values())
        if self.method.pattern is not None:
            kind = Blocks.of(self.method.pattern)
            return sum(size // kind.size * kind.kept for size in sizes)
        share = self._share(self._final)
        parts = sizes if self.method.scope == "layer" else [sum(sizes)]
        return sum(part - round(share * part) for part in parts)

    @property
    def _wanted(self) -> float:
        """The sparsity that was asked for, be it by a pattern; 0 where the schedule has its own."""
        if self.method.pattern is not None:
            kind = Blocks.of(self.method.pattern)
            return 1 - kind.kept / kind.size
        return self.method.sparsity or 0.0

    @property
    def _final(self) -> float:
        """The sparsity at the end."""
        if isinstance(self.method.when, Rounds):
            return self.method.when.levels(self._wanted)[-1][-1]
        return self._wanted


def _validation(history: Mapping[str, Any], schedule: Rounds) -> float | None:
    """The validation score of the model that a round's training kept."""
    epochs, best = history["epochs"], history["best"]
    score: float | None = epochs[best if schedule.retrain.keep == "best" and best is not None else -1]["validation"]
    return score


def _nonzero(module: nn.Module, name: str) -> int:
    return int(module.get_parameter(name).count_nonzero())


def _listed(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{layer} ({why})" for layer, why in skipped.items())

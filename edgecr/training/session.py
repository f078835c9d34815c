"""A training under way: its state, one update, one epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn

from edgecr.core.errors import RequestError, TrainingDiverged
from edgecr.core.files import fingerprint
from edgecr.core.seeds import derive_seed
from edgecr.data.batches import Share, train_batches
from edgecr.data.views import LearningData
from edgecr.surgery.changes.base import Change, replay, standing_masks
from edgecr.surgery.changes.cut import ChannelCut, remove
from edgecr.training import optimisers
from edgecr.training.augmentations import augmentations
from edgecr.training.checkpoint import Checkpoint
from edgecr.training.history import Epoch, History
from edgecr.training.inputs import Inputs
from edgecr.training.losses import Loss
from edgecr.training.masks import Masks
from edgecr.training.options import TrainOptions
from edgecr.training.order import place
from edgecr.training.schedules import Steps, factor
from edgecr.training.sharpness import ascent as sharpness
from edgecr.training.sharpness.neurons import Importance, filter_norms
from edgecr.weights import hash_tensors

_KEYS = set(TrainOptions.model_fields) - {"checkpoint_s", "loss"}
"""The options that decide the bits; the loss tells its own identity."""
_PENDING_ON_CUDA = 16
"""Updates between two looks at the losses: each look waits for the device."""


@dataclass(frozen=True)
class TrainingSetup:
    """The inputs of a training, and the folder of its state."""

    data: LearningData
    options: TrainOptions
    loss: Loss
    seed: int
    folder: Path
    precision: str
    surgery: Sequence[Change] = ()
    """The changes whose promises hold from the first update on."""
    importance: Importance = filter_norms
    """Scores the neurons; AdaSAP prepares the least important ones for being pruned."""
    start: int = 0
    """The update of the schedule that comes first; all before it are left out."""


@dataclass
class Totals:
    """Sums over the epoch so far; they are part of the state, so a resumed epoch reports the whole of it."""

    loss: float = 0.0
    correct: float = 0
    """Sum of the scores of all answers, each from 0 to 1."""
    seen: int = 0
    seconds: float = 0.0

    @property
    def mean_loss(self) -> float:
        """The mean loss of an image."""
        return self.loss / max(1, self.seen)

    @property
    def accuracy(self) -> float:
        """The mean score of an answer; in classification the fraction of right answers."""
        return self.correct / max(1, self.seen)


@dataclass
class Pending:
    """Outcomes of updates that nobody has looked at yet."""

    losses: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class TrainingState:
    """Everything that changes while a module is trained; observers look at it between updates."""

    def __init__(self, fabric: Fabric, module: nn.Module, setup: TrainingSetup) -> None:
        self.fabric, self.module, self.setup = fabric, module, setup
        self.options = setup.options
        self.steps = _steps(len(setup.data.train), setup.options, fabric.world_size)
        if setup.start >= self.steps.total:
            raise RequestError(f"Update {setup.start} lies beyond the {self.steps.total} updates of this training.")
        self.share = Share(fabric.global_rank, fabric.world_size)
        """The part of each batch that this process works on."""
        self.identity = self._identity()
        self.epoch, self.batch = divmod(setup.start, self.steps.per_epoch)
        self.totals, self.pending = Totals(), Pending()
        self.started_at = time.monotonic()
        self.best: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        """Tensors that observers need to resume from a checkpoint."""
        self.gradient_hooks: list[Callable[[], None]] = []
        """Called when an update's gradients are there, before anything is added to them."""
        self.cuts: list[ChannelCut] = []
        """Channels that were removed since the training began."""
        name = setup.options.augment or setup.data.augmentation
        self.augmentation = augmentations.get(name)
        self.history = History(setup.precision, name, str(fabric.device), self.steps.per_epoch)
        self._place()

    def _identity(self) -> str:
        """Tells this training from any other one; how often it saves its state does not matter."""
        data = self.setup.data
        return fingerprint(
            {
                "options": self.options.model_dump(mode="json", include=_KEYS),
                "rate": self.options.rate,
                "loss": self.setup.loss.identity(),
                "data": data.fingerprint,
                "augmentation": data.augmentation,
                "preprocessing": asdict(data.preprocessing),
                "seed": self.setup.seed,
                "precision": self.setup.precision,
                "devices": self.fabric.world_size,
                "weights": hash_tensors(self.module.state_dict()),
                "masks": hash_tensors(standing_masks(self.module, self.setup.surgery)),
                "start": self.setup.start,
            }
        )

    def _place(self) -> None:
        """Moves everything to the device, and prepares what depends on the module's tensors."""
        device, preprocessing = self.fabric.device, self.setup.data.preprocessing
        order = place(self.module, device, preprocessing.size)
        self.module.train()
        self.setup.loss.place(device, preprocessing.size)
        self.inputs = Inputs(preprocessing, device, order)
        self.optimiser = optimisers.build(self.module, self.options)
        self.forward, wrapped = self.fabric.setup(self.module, self.optimiser)
        self.masks = Masks(self.module, self.optimiser)
        self.masks.prune(standing_masks(self.module, self.setup.surgery))
        self.descend = self._descent(wrapped)

    def _descent(self, optimiser: Any) -> optimisers.Descent | sharpness.SharpDescent:
        """Returns the descent of an update: a plain one, or one with the gradients of the worst point nearby."""
        plain = optimisers.Descent(
            self.module.parameters(), optimiser, self.options.clip_norm, self.masks, self.gradient_hooks
        )
        if self.options.sharpness is None:
            return plain
        ascent = sharpness.ascent(
            self.options.sharpness,
            self.module,
            epoch=lambda: self.epoch,
            masks=self.masks,
            importance=self.setup.importance,
            input_shape=(3, *self.setup.data.preprocessing.size),
        )
        alone = partial(self.fabric.no_backward_sync, self.forward)
        return sharpness.SharpDescent(plain, ascent, self.module, alone)

    @property
    def step_number(self) -> int:
        """Updates done since the training began, or passed over where it begins later."""
        return self.epoch * self.steps.per_epoch + self.batch

    @property
    def finished(self) -> bool:
        """True if all epochs are done."""
        return self.epoch >= self.options.epochs

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return self.options.rate * factor(self.step_number, self.steps, self.options)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch that is left of the epoch: images and targets."""
        self.started_at = time.monotonic()
        images, options = self.setup.data.train, self.options
        rest = train_batches(images, options.batch, self.setup.seed, self.epoch, self.batch, self.share)
        for _, pixels, labels in rest:
            if self.batch == self.steps.per_epoch:
                return
            yield pixels, torch.as_tensor(labels)

    def _batch_size(self) -> int:
        """Images in the present update, over all processes together."""
        return min(self.options.batch, len(self.setup.data.train) - self.batch * self.options.batch)

    def summed(self, figures: Tensor) -> Tensor:
        """The sum of figures over all processes, which all of them ask for at the same moment."""
        together = figures.clone()
        if self.share.of > 1:
            distributed.all_reduce(together)
        return together

    def share_buffers(self) -> None:
        """Gives every process the first one's running statistics, as the next update would do anyway."""
        if self.share.of > 1:
            for buffer in self.module.buffers():
                distributed.broadcast(buffer, src=0)

    def step(self, images: Tensor, targets: Tensor) -> None:
        """One update on one batch."""
        seed, loss_of = derive_seed(self.setup.seed, self.epoch, self.batch, self.fabric.global_rank), self.setup.loss
        views = self._views(images, seed)
        targets = targets.to(self.fabric.device)
        # Processes average their gradients as equals; an uneven batch gives some of them more images than others.
        weight = 1.0 if self.share.of == 1 else len(images) * self.share.of / self._batch_size()
        optimisers.set_rate(self.optimiser, self.rate)

        def gradients() -> tuple[Tensor, Tensor]:
            torch.manual_seed(seed)
            self.optimiser.zero_grad()
            with self.masks.applied():
                with self.fabric.autocast():
                    loss, rightness = loss_of.step(self.forward, views, targets)
                self.fabric.backward(loss * weight)
            return loss.detach(), rightness.detach()

        loss, rightness = self.descend(gradients)
        self._note(loss, rightness.sum(), len(images))
        self.batch += 1
        if self.fabric.device.type == "cpu" or len(self.pending.counts) >= _PENDING_ON_CUDA:
            self.settle()
        before, self.started_at = self.started_at, time.monotonic()
        self.totals.seconds += self.started_at - before

    def _views(self, images: Tensor, seed: int) -> list[Tensor]:
        """As many augmented copies of a batch as the loss asks for; the first does not depend on how many."""
        seeds = [seed, *(derive_seed(seed, number) for number in range(1, self.setup.loss.views))]
        return [self.inputs.augmented(images, self.augmentation, each) for each in seeds]

    def _note(self, loss: Tensor, correct: Tensor, count: int) -> None:
        if self.share.of > 1:
            total, correct = self.summed(torch.stack([loss.double() * count, correct.double()]))
            count = self._batch_size()
            loss = total / count
        self.pending.losses.append(loss)
        self.pending.correct.append(correct)
        self.pending.counts.append(count)

    def settle(self) -> None:
        """Looks at the pending outcomes: adds them up, and stops the training if a loss is no number."""
        if not self.pending.counts:
            return
        losses = torch.stack(self.pending.losses).tolist()
        correct = torch.stack(self.pending.correct).tolist()
        for back, loss in zip(range(len(losses), 0, -1), losses):
            if not math.isfinite(loss):
                self.diverged(f"the loss is {loss}", self.batch - back)
        for loss, right, count in zip(losses, correct, self.pending.counts):
            self.totals.loss += loss * count
            self.totals.correct += right
            self.totals.seen += count
        self.pending = Pending()

    def diverged(self, what: str, batch: int) -> None:
        """Stops the training; the last good checkpoint stays where it is."""
        raise TrainingDiverged(
            f"Training diverged in epoch {self.epoch + 1}, step {batch + 1} of {self.steps.per_epoch}: "
            f"{what} at learning rate {self.rate:.3g}. Lower lr, add warmup or set clip_norm. The last good "
            f"state is kept in {self.setup.folder}."
        )

    def end_epoch(self) -> None:
        """Closes the books of an epoch and opens the next one's."""
        self.settle()
        sums = self.totals
        rate = self.options.rate * factor(self.step_number - 1, self.steps, self.options)
        right = sums.accuracy if self.setup.data.labelled else None
        self.history.epochs.append(Epoch(self.epoch, sums.mean_loss, right, rate, sums.seconds))
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()

    def slim(self, cut: ChannelCut) -> None:
        """Removes channels from the module; what the optimiser remembers of the others stays."""
        state = optimisers.state_tensors(self.module, self.optimiser)
        shapes = {name: tensor.shape for name, tensor in self.module.named_parameters()}
        remove(self.module, cut)
        self.cuts.append(cut)
        self._place()
        optimisers.restore_state(self.module, self.optimiser, optimisers.slimmed_state(state, shapes, cut))

    def remember_best(self) -> None:
        """Sets the present tensors aside as the best so far."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def state(self) -> Checkpoint:
        """All of the state; a module that is no longer finite is not worth keeping."""
        self.settle()
        tensors = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                self.diverged(f"{name.removeprefix('module/')} is no longer finite", self.batch)
        optimiser = optimisers.state_tensors(self.module, self.optimiser)
        tensors |= {f"optimiser/{name}": tensor for name, tensor in optimiser.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"masks/{name}": tensor for name, tensor in self.masks.tensors().items()}
        tensors |= {f"covers/{name}": tensor for name, tensor in self.masks.hidden().items()}
        tensors |= {f"kept/{name}": tensor for name, tensor in self.kept.items()}
        tensors |= {f"loss/{name}": tensor for name, tensor in self.setup.loss.state().items()}
        cuts = [cut.plain() for cut in self.cuts]
        facts = {"epoch": self.epoch, "batch": self.batch, "totals": asdict(self.totals), "cuts": cuts}
        return Checkpoint(tensors, {**facts, "history": self.history.plain()})

    def resume(self, state: Checkpoint) -> None:
        """Goes back to a saved state, bit by bit."""
        self.cuts = [ChannelCut.parse(cut) for cut in state.facts["cuts"]]
        if self.cuts:
            replay(self.module, self.cuts)
            self._place()
        self.module.load_state_dict(state.part("module"))
        optimisers.restore_state(self.module, self.optimiser, state.part("optimiser"))
        self.masks.prune(state.part("masks"))
        self.masks.hide(state.part("covers"))
        self.kept = state.part("kept")
        self.setup.loss.restore(state.part("loss"))
        self.best = {name: tensor.to(self.fabric.device) for name, tensor in state.part("best").items()}
        self.epoch, self.batch = int(state.facts["epoch"]), int(state.facts["batch"])
        self.totals = Totals(**state.facts["totals"])
        facts: dict[str, Any] = state.facts["history"]
        self.history.recall(facts)


def _steps(images: int, options: TrainOptions, processes: int) -> Steps:
    """Counts the updates; a last batch with less than two images for a process is left out.

    Batch normalisation cannot learn from a single image.
    """
    whole, rest = divmod(images, options.batch)
    per_epoch = whole + (rest >= 2 * processes)
    if per_epoch == 0 or options.batch < 2 * processes:
        raise RequestError(
            f"Training needs at least two images in each batch on each of {processes} device(s): "
            f"there are {images} training images and batch is {options.batch}."
        )
    return Steps(per_epoch, per_epoch * options.epochs)

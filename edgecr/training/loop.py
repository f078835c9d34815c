"""The one training loop. It is closed: whatever else shall happen is an observer, a loss or a descent.

A training that is killed at any moment and started again ends in the same bits (same machine, same number of
threads): the randomness of an update depends on seed, epoch and batch number alone, and checkpoints hold
everything else.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessException

from edgecr.core.errors import RequestError, WorkError
from edgecr.core.progress import Monitor
from edgecr.surgery.changes import Change, trainable
from edgecr.training.checkpoint import Checkpoints
from edgecr.training.context import Execution, StepContext
from edgecr.training.history import History
from edgecr.training.losses import Loss
from edgecr.training.observers import Observer, Progress, Saving, Validation
from edgecr.training.options import TrainOptions
from edgecr.training.precision import resolve
from edgecr.training.session import TrainingSetup, TrainingState
from edgecr.training.sharpness.neurons import Importance, filter_norms

# Fabric announces its number format on stderr; the history records it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def fit(
    module: nn.Module,
    options: TrainOptions,
    loss: Loss,
    context: StepContext,
    observers: Sequence[Observer] = (),
    *,
    surgery: Sequence[Change] = (),
    importance: Importance = filter_norms,
    start: int = 0,
) -> History:
    """Trains a module in place, on from where an earlier attempt in the folder stopped; ends in eval mode.

    What the changes of ``surgery`` promise stays so: pruned weights remain zero, and weights of few values are trained
    in their latent form. ``importance`` tells AdaSAP which neurons will go. Updates before ``start`` are passed over,
    with their share of the schedule and of the images.
    """
    _check(options, context)
    precision = resolve(options.precision, context.execution.accelerator)
    setup = TrainingSetup(
        context.data, options, loss, context.seed, context.folder, precision, surgery, importance, start
    )
    fabric = _fabric(context.execution, precision)
    with contextlib.ExitStack() as stack:
        if context.execution.devices == 1:
            stack.enter_context(trainable(module, surgery))
            session = _train(fabric, module, setup, context.monitor, observers)
            history, tensors = session.history, session.best
        else:
            history, tensors = _train_together(fabric, module, setup, context.monitor, observers)
            stack.enter_context(trainable(module, surgery))
        if tensors:
            module.load_state_dict(tensors)
    # A result read back from disk is in standard order: the same one here gives later steps the same bits.
    module.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module.zero_grad()
    module.eval()
    history.save(context.folder)
    return history


def _check(options: TrainOptions, context: StepContext) -> None:
    if options.keep == "best" and not len(context.data.validation):
        raise RequestError("keep: best chooses on validation images, but the data has none. Use keep: last.")


def _fabric(execution: Execution, precision: str) -> Fabric:
    """Fabric for one process, or for several that it starts itself."""
    strategy = "auto" if execution.devices == 1 else "ddp_spawn"
    mode: Any = "bf16-mixed" if precision == "bf16" else "32-true"
    try:
        return Fabric(accelerator=execution.accelerator, devices=execution.devices, strategy=strategy, precision=mode)
    except (ImportError, RuntimeError, ValueError) as error:
        raise RequestError(f"Cannot train on {execution.devices} x {execution.accelerator}: {error}") from error


def _train(
    fabric: Fabric, module: nn.Module, setup: TrainingSetup, monitor: Monitor, observers: Sequence[Observer]
) -> TrainingState:
    """The training of one process; the first one alone speaks and writes."""
    with _reproducible(fabric):
        session = TrainingState(fabric, module, setup)
        checkpoints = Checkpoints(setup.folder, session.identity, monitor)
        if state := checkpoints.load():
            session.resume(state)
            monitor.event("resumed", epoch=session.epoch, batch=session.batch)
        fabric.barrier()
        if not fabric.is_global_zero:
            _loop(session, [Validation(), *observers])
            return session
        checkpoints.tidy()
        with monitor.bar("training", session.steps.total, session.step_number) as bar:
            beside = [Validation(), Progress(bar, monitor, session.step_number), *observers]
            _loop(session, [*beside, Saving(checkpoints, setup.options.checkpoint_s)])
    return session


def _loop(session: TrainingState, observers: Sequence[Observer]) -> None:
    for observer in observers:
        observer.at_start(session)
    while not session.finished:
        for images, labels in session.batches():
            session.step(images, labels)
            for observer in observers:
                observer.after_step(session)
        session.end_epoch()
        for observer in observers:
            observer.after_epoch(session)


@contextlib.contextmanager
def _reproducible(fabric: Fabric) -> Iterator[None]:
    """Leaves the caller's random state alone, and asks CUDA for kernels that repeat their bits."""
    cuda = fabric.device.type == "cuda"
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[fabric.device] if cuda else []))
        if cuda:
            kernels = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
            stack.enter_context(kernels)
        yield


def _train_together(
    fabric: Fabric, module: nn.Module, setup: TrainingSetup, monitor: Monitor, observers: Sequence[Observer]
) -> tuple[History, dict[str, torch.Tensor]]:
    """Several processes share each batch; the result comes back through the last checkpoint."""
    monitor.say(f"Training in {fabric.world_size} processes, which show no progress")
    try:
        identity, history = fabric.launch(_Worker(setup, observers), module)
    except ProcessException as error:
        last = str(error).strip().splitlines()[-1]
        raise WorkError(f"Training in {fabric.world_size} processes failed: {last}") from error
    state = Checkpoints(setup.folder, identity, monitor).load()
    if state is None:
        raise WorkError(f"The trained tensors in {setup.folder} cannot be read back.")
    return history, state.part("best") or state.part("module")


class _Worker:
    """The callable of each process; an object, because Fabric takes apart the dataclasses among plain arguments."""

    def __init__(self, setup: TrainingSetup, observers: Sequence[Observer]) -> None:
        self.setup, self.observers = setup, observers

    def __call__(self, fabric: Fabric, module: nn.Module) -> tuple[str, History]:
        # A module with latent weights cannot be sent to another process; each makes its own latent.
        with trainable(module, self.setup.surgery):
            session = _train(fabric, module, self.setup, Monitor(), self.observers)
        result = session.identity, session.history
        del session
        # The group's threads must be gone before Python is: otherwise a process that ends may abort. No process
        # takes its leave while another still waits for its numbers.
        fabric.barrier()
        distributed.destroy_process_group()
        return result

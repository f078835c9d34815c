"""Carries out a binarisation: chooses the layers, trains them behind their signs, and says what came out."""

from __future__ import annotations

from torch.nn.modules.conv import _ConvTransposeNd

from edgecr.core.errors import RequestError
from edgecr.methods.binarise.options import BinariseOptions
from edgecr.methods.binarise.record import NAME, BinaryRecord
from edgecr.subject import Subject
from edgecr.surgery.changes.binary import BinaryWeights, binary_tensors
from edgecr.surgery.counters import count
from edgecr.surgery.layer_names import weighted_layers
from edgecr.training.chance import by_chance
from edgecr.training.context import StepContext
from edgecr.training.loop import fit


def binarised(method: BinariseOptions, subject: Subject, context: StepContext) -> Subject:
    """The subject with binary weights in the layers that were asked for."""
    left_out = _left_out(method, subject)
    layers = [name for name in weighted_layers(subject.module) if name not in left_out]
    if not layers:
        why = "; ".join(f"{layer}: {reason}" for layer, reason in left_out.items())
        raise RequestError(f"There is no layer left to binarise ({why}). Exclude less, or say ends: true.")
    change = BinaryWeights(tensors=tuple(f"{name}.weight" for name in layers), scale=method.scale)
    loss = method.build_loss(subject, context)
    history = fit(subject.module, method, loss, context, surgery=(*subject.surgery, change))
    sizes = {name: layer.weight.numel() for name, layer in weighted_layers(subject.module).items()}
    record = BinaryRecord(
        scale=method.scale,
        layers={name: sizes[name] for name in layers},
        left_out=left_out,
        weights=sum(sizes.values()),
        warning=by_chance(history, context),
    )
    context.record(NAME, record)
    context.monitor.say(record.told())
    if record.warning:
        context.monitor.warn(f"{record.warning}. Give it more epochs, or leave more layers out.")
    return subject.with_changes(change)


def _left_out(method: BinariseOptions, subject: Subject) -> dict[str, str]:
    """Layers that stay as they are, and why."""
    layers = weighted_layers(subject.module)
    binary, wanted = binary_tensors(subject.surgery), weighted_layers(subject.module, method.exclude)
    running = [layer.name for layer in count(subject.module, subject.input_shape).layers if layer.name in layers]
    ends = {} if method.ends else dict.fromkeys([*running[-1:], *running[:1]])
    found = {}
    for name, layer in layers.items():
        if name not in wanted:
            found[name] = "excluded"
        elif f"{name}.weight" in binary:
            found[name] = "it is binary already"
        elif isinstance(layer, _ConvTransposeNd):
            found[name] = "it is a transposed convolution"
        elif name in ends:
            found[name] = f"it is the {'first' if name == running[0] else 'last'} layer"
    return found

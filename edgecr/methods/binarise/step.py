"""Carries out a binarisation: chooses the layers, trains them behind their signs, and says what came out."""

from __future__ import annotations

from torch.nn.modules.conv import _ConvTransposeNd

from edgecr.core.errors import RequestError
from edgecr.methods.binarise.options import BinariseOptions
from edgecr.methods.binarise.record import NAME, BinaryRecord, reasons
from edgecr.subject import Subject
from edgecr.surgery.changes.binary import BinaryWeights, binary_tensors
from edgecr.surgery.changes.binary_inputs import BinaryInputs
from edgecr.surgery.counters import count
from edgecr.surgery.layer_names import weighted_layers
from edgecr.surgery.sign_inputs import unfit
from edgecr.training.chance import by_chance
from edgecr.training.context import StepContext
from edgecr.training.loop import fit


def binarised(method: BinariseOptions, subject: Subject, context: StepContext) -> Subject:
    """The subject with binary weights in the layers that were asked for."""
    left_out = _left_out(method, subject)
    layers = [name for name in weighted_layers(subject.module, shared_too=True) if name not in left_out]
    if not layers:
        raise RequestError(
            f"There is no layer left to binarise ({reasons(left_out)}). Exclude less, or say ends: true."
        )
    signs, floats_in = _inputs(method, subject, layers)
    weights = BinaryWeights(tensors=tuple(f"{name}.weight" for name in layers), scale=method.scale)
    changes = (*signs, weights)
    loss = method.build_loss(subject, context)  # a teacher may be the model before this step, without signs
    for change in signs:
        change.replay(subject.module)
    history = fit(subject.module, method, loss, context, surgery=(*subject.surgery, *changes))
    every = weighted_layers(subject.module, shared_too=True)
    sizes = {name: layer.weight.numel() for name, layer in every.items()}
    record = BinaryRecord(
        scale=method.scale,
        layers={name: sizes[name] for name in layers},
        left_out=left_out,
        weights=sum(sizes.values()),
        signs_in=tuple(name for change in signs for name in change.layers),
        floats_in=floats_in,
        warning=by_chance(history, method.keep, context),
    )
    context.record(NAME, record)
    context.monitor.say(record.told())
    if record.warning:
        context.monitor.warn(f"{record.warning}. Give it more epochs, or leave more layers out.")
    return subject.with_changes(*changes)


def _inputs(
    method: BinariseOptions, subject: Subject, layers: list[str]
) -> tuple[tuple[BinaryInputs, ...], dict[str, str]]:
    """The change to the inputs of these layers, if there is one, and the layers that go on with floats, and why."""
    if method.activations == "float":
        return (), {}
    floats = {}
    for name in layers:
        layer = subject.module.get_submodule(name)
        zeros = int((layer.get_parameter("weight") == 0).sum())
        if why := unfit(layer) or (f"{zeros:,} of its weights are zero, which a bit cannot say" if zeros else ""):
            floats[name] = why
    found = tuple(name for name in layers if name not in floats)
    if not found:
        raise RequestError(
            f"activations: binary fits none of the layers ({reasons(floats)}). It takes convolutions without groups "
            "and without masks; leave it out."
        )
    return (BinaryInputs(layers=found),), floats


def _left_out(method: BinariseOptions, subject: Subject) -> dict[str, str]:
    """Layers that stay as they are, and why."""
    layers = weighted_layers(subject.module, shared_too=True)
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

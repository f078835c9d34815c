"""The receipt: proof from the exported file itself that it shows what all changes of the surgery promise together.

Channels that were cut must be gone, not just zero. Zeros that a later change promised are no broken promise of a cut.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgecr.exporters.integers import IntegerWork
from edgecr.surgery.counts import Count, LayerCount
from edgecr.surgery.promise import ZEROS, Promise, Weights, figures


@dataclass(frozen=True)
class Receipt:
    """The counts before surgery, those that the surgery promises, and those of the file."""

    baseline: Count
    promised: Count
    file: Count
    zero_channels: Mapping[str, int] = field(default_factory=dict)
    promise: Promise = field(default_factory=Promise)
    """Sum of the promises of all changes."""
    found: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The promised figures as found in the file, one amount for each of its layers; see ``recounted``."""
    integers: IntegerWork | None = None
    """The part of the work that runs in integers, in a file that has some."""

    def failures(self) -> list[str]:
        """The reasons that the file breaks the promise, in words with figures; empty when it keeps it."""
        found = self._differences()
        if found:
            return found
        masked = sum(self._masked_in_cut_layers())
        if masked:
            found.append(f"{masked} channels of cut layers are still in the file as zeros: masked, not removed")
        return [*found, *self._broken_promises()]

    def warnings(self) -> list[str]:
        """Remarks for the reader on a file that is as promised."""
        found = [] if self.integers is None else self.integers.warnings()
        if zeros := sum(self.zero_channels.values()):
            found.append(f"{zeros} channels hold only zeros but are still computed; pruning channels would remove them")
        return found

    def plain(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        counts = {"baseline": self.baseline, "promised": self.promised, "file": self.file}
        figures = {name: _figures(count) for name, count in counts.items()}
        before, after = figures["baseline"], dict(figures["file"])
        after["weights"] += self.merged_weights  # stored once for several layers is not removed
        return (
            figures
            | {
                "merged_weights": self.merged_weights,
                "removed": {
                    key: 1 - after[key] / before[key] if before[key] else 0.0 for key in ("channels", "weights", "macs")
                },
                "promises": self._told(),
                "layers": self._by_layer(),
                "zero_channels": sum(self.zero_channels.values()),
                "warnings": self.warnings(),
            }
            | ({} if self.integers is None else {"integers": self.integers.plain()})
        )

    @property
    def merged_weights(self) -> int:
        """Weights that the file need not hold again, because a layer of equal shape has equal ones.

        Exporters store equal tensors once. All layers must be there as promised; parity proves their values.
        """
        if _signatures(self.promised) != _signatures(self.file):
            return 0
        return max(0, weights(self.promised) - weights(self.file))

    def _differences(self) -> list[str]:
        found = []
        for what, promised, given in (
            ("channels", channels(self.promised), channels(self.file)),
            ("weights", weights(self.promised), weights(self.file) + self.merged_weights),
            ("MACs", self.promised.macs, self.file.macs),
        ):
            if promised != given:
                found.append(f"{given:,} {what} in the file, {promised:,} promised")
        promised_layers, given_layers = _signatures(self.promised), _signatures(self.file)
        if promised_layers != given_layers:
            found.append(_first_difference(promised_layers, given_layers))
        return found

    def _masked_in_cut_layers(self) -> Iterator[int]:
        """Zero channels of layers that lost channels, but for those that promised zeros account for."""
        for number, (layer, given) in enumerate(zip(self.promised.layers, self.file.layers)):
            old = self._before(number)
            if old is not None and layer_channels(old) != layer_channels(layer):
                each = math.prod(layer.weight_shape) // max(1, layer_channels(layer))
                yield max(0, self.zero_channels.get(given.name, 0) - self._promised(ZEROS, layer) // max(1, each))

    def _broken_promises(self) -> Iterator[str]:
        for name, amounts in self.promise.figures.items():
            words, found = figures.get(name).words, self.found.get(name, ())
            for tensor, amount in amounts.items():
                places = [number for number, layer in enumerate(self.promised.layers) if layer.name == _layer(tensor)]
                if not places:
                    yield f"{amount:,} {words} are promised in {tensor}, which is no layer of the file"
                elif (least := min(found[number] if number < len(found) else 0 for number in places)) < amount:
                    yield f"{least:,} {words} of {tensor} in the file, {amount:,} promised"
        for tensor, gone in self.promise.channels.items():
            before, after = (_channels_of(count, _layer(tensor)) for count in (self.baseline, self.promised))
            if before is not None and after is not None and before - after != gone:
                yield f"{before - after:,} channels of {tensor} are gone, {gone:,} promised"

    def _promised(self, figure: str, layer: LayerCount) -> int:
        amounts = self.promise.figures.get(figure, {})
        return sum(amount for tensor, amount in amounts.items() if _layer(tensor) == layer.name)

    def _before(self, number: int) -> LayerCount | None:
        """The baseline's counterpart of a promised layer: by position, or by name where layers are gone."""
        if len(self.baseline.layers) == len(self.promised.layers):
            return self.baseline.layers[number]
        name = self.promised.layers[number].name
        return next((layer for layer in self.baseline.layers if layer.name == name), None)

    def _told(self) -> dict[str, dict[str, int]]:
        """The promised figures of all changes beside what the file shows of them, in words."""
        return {
            figures.get(name).words: {"promised": self.promise.total(name), "file": self._in_promised_tensors(name)}
            for name in self.promise.figures
        }

    def _in_promised_tensors(self, figure: str) -> int:
        names = {_layer(tensor) for tensor in self.promise.figures[figure]}
        found = dict(zip((layer.name for layer in self.promised.layers), self.found.get(figure, ())))
        return sum(amount for name, amount in found.items() if name in names)

    def _by_layer(self) -> list[dict[str, Any]]:
        found = []
        amounts = _amounts(self.found)
        for number, (new, given) in enumerate(zip(self.promised.layers, self.file.layers)):
            old = self._before(number)
            found.append(
                {
                    "name": new.name,
                    "baseline": list(old.weight_shape) if old else [],
                    "promised": list(new.weight_shape),
                    "file": list(given.weight_shape),
                    "zero_channels": self.zero_channels.get(given.name, 0),
                }
                | ({"figures": amounts[number]} if number < len(amounts) else {})
            )
        return found


@dataclass(frozen=True)
class Recount:
    """The contents of an exported file, counted from it alone."""

    file: Count
    zero_channels: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Amounts of promised figures, one for each layer; see ``recounted``."""

    def differences(self, receipt: Mapping[str, Any]) -> list[str]:
        """The figures that are not those of a recorded receipt, in words; empty when all are."""
        told = receipt["file"]
        found = [
            f"{amount:,} {what} in the file, {told.get(what)} recorded"
            for what, amount in _figures(self.file).items()
            if told.get(what) != amount
        ]
        amounts = _amounts(self.found)
        for number, (layer, recorded) in enumerate(zip(self.file.layers, receipt["layers"])):
            own = [list(layer.weight_shape), self.zero_channels.get(layer.name, 0)]
            own += [amounts[number]] if number < len(amounts) else []
            if own != [recorded[key] for key in ("file", "zero_channels", "figures")[: len(own)]]:
                found.append(f"{recorded['name']} holds other weights than recorded")
        return found


def recorded_figures(receipt: Mapping[str, Any]) -> list[str]:
    """The names of the promised figures that a recorded receipt tells of for each layer."""
    return sorted({name for layer in receipt["layers"] for name in layer.get("figures", {})})


def _amounts(found: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """The amounts of all figures, layer by layer."""
    return [dict(zip(found, each)) for each in zip(*found.values())]


def recounted(names: Iterable[str], weights: Iterable[Weights]) -> dict[str, list[int]]:
    """The promised figures of these names in the weights of a file's layers, which are only read if there are any."""
    counters = {name: figures.get(name)() for name in names}
    if not counters:
        return {}
    found: dict[str, list[int]] = {name: [] for name in counters}
    for layer in weights:
        for name, figure in counters.items():
            found[name].append(figure.count(layer))
    return found


def weights(count: Count) -> int:
    """The weights of all layers, shared ones once, without biases and normalisation, which exporters fold."""
    return sum(math.prod(shape) for _, shape in {(layer.name, layer.weight_shape) for layer in count.layers})


def channels(count: Count) -> int:
    """The output channels of all layers."""
    return sum(layer_channels(layer) for layer in count.layers)


def layer_channels(layer: LayerCount) -> int:
    """The output channels of one layer."""
    if layer.kind == "conv_transpose":
        return layer.weight_shape[1] * layer.groups
    return layer.weight_shape[-2 if layer.kind == "linear" else 0]


def _layer(tensor: str) -> str:
    """The name that the counters give to the layer of a tensor."""
    return tensor.removesuffix(".weight")


def _channels_of(count: Count, name: str) -> int | None:
    found = {layer_channels(layer) for layer in count.layers if layer.name == name}
    return found.pop() if len(found) == 1 else None


def _figures(count: Count) -> dict[str, int]:
    return {
        "channels": channels(count),
        "weights": weights(count),
        "parameters": count.params,
        "macs": count.macs,
        "layers": len(count.layers),
    }


def _signatures(count: Count) -> list[tuple[tuple[int, ...], int, int]]:
    return [(tuple(layer.weight_shape), layer.groups, layer.macs) for layer in count.layers]


def _first_difference(promised: list[Any], given: list[Any]) -> str:
    if Counter(promised) == Counter(given):
        place = next(i for i, (a, b) in enumerate(zip(promised, given)) if a != b)
        return f"the layers stand in another order, from number {place + 1} on"
    missing = next(iter((Counter(promised) - Counter(given)).items()), None)
    extra = next(iter((Counter(given) - Counter(promised)).items()), None)
    return "; ".join(
        f"{how}: {number} x weight {shape}, groups {groups}, {macs:,} MACs"
        for how, entry in (("promised but not in the file", missing), ("in the file instead", extra))
        if entry
        for (shape, groups, macs), number in [entry]
    )

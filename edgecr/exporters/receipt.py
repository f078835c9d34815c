"""The removal receipt: proof from the exported file itself that channels are gone, not just zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecr.surgery.counters import Count, LayerCount


@dataclass(frozen=True)
class Receipt:
    """What was there before surgery, what surgery promised and what the file holds."""

    baseline: Count
    promised: Count
    file: Count
    zero_channels: Mapping[str, int] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """Why the file does not keep the promise, in words with figures; empty when it does."""
        found = self._differences()
        masked = sum(self._masked_in_cut_layers().values())
        if masked and not found:
            found.append(f"{masked} channels of cut layers are still in the file as zeros: masked, not removed")
        return found

    def warnings(self) -> list[str]:
        """What the reader should know although the file is as promised."""
        zeros = sum(self.zero_channels.values())
        if not zeros:
            return []
        return [f"{zeros} channels hold only zeros but are still computed; pruning channels would remove them"]

    def plain(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        counts = {"baseline": self.baseline, "promised": self.promised, "file": self.file}
        figures = {name: _figures(count) for name, count in counts.items()}
        before, after = figures["baseline"], dict(figures["file"])
        after["weights"] += self.merged_weights  # stored once for several layers is not removed
        return figures | {
            "merged_weights": self.merged_weights,
            "removed": {
                key: 1 - after[key] / before[key] if before[key] else 0.0 for key in ("channels", "weights", "macs")
            },
            "layers": self._by_layer(),
            "zero_channels": sum(self.zero_channels.values()),
            "warnings": self.warnings(),
        }

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

    def _masked_in_cut_layers(self) -> dict[str, int]:
        cut = {
            given.name
            for old, new, given in zip(self.baseline.layers, self.promised.layers, self.file.layers)
            if layer_channels(old) != layer_channels(new)
        }
        return {name: zeros for name, zeros in self.zero_channels.items() if name in cut}

    def _by_layer(self) -> list[dict[str, Any]]:
        pairs = zip(self.baseline.layers, self.promised.layers, self.file.layers)
        return [
            {
                "name": new.name,
                "baseline": list(old.weight_shape),
                "promised": list(new.weight_shape),
                "file": list(given.weight_shape),
                "zero_channels": self.zero_channels.get(given.name, 0),
            }
            for old, new, given in pairs
        ]


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

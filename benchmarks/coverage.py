"""Prunes and exports the CNNs of torchvision: 60 for classification and 6 for segmentation, at 30 %.

Each network loses 30 % of the channels of every group. What is checked: the slimmed module answers like the
masked one (relative difference below 1e-5), channels really went, and the record repeats on a fresh copy; then
the slimmed module is written as ONNX, the channels, weights and MACs that are counted in the file are those that
the record promises, and ONNX Runtime answers like PyTorch (relative difference below 1e-4). Networks above 500
million parameters are pruned, but not exported. Transformers are listed too, without counting: their inner
widths are pruned, the rest stays. Random weights, disturbed statistics, smallest networks first.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from _common import Goal, arguments, finish, table
from torch import Tensor, nn

from edgecr.core.errors import EdgecrError
from edgecr.core.files import write_json
from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import exporters, parse_target
from edgecr.models import Architecture
from edgecr.subject import Subject
from edgecr.surgery.carry_out import Pruned, prune_channels
from edgecr.surgery.counters import count
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores

FAMILIES = {
    "convnext_": "tiny small base large",
    "densenet": "121 161 169 201",
    "efficientnet_": "b0 b1 b2 b3 b4 b5 b6 b7 v2_s v2_m v2_l",
    "mnasnet": "0_5 0_75 1_0 1_3",
    "mobilenet_": "v2 v3_small v3_large",
    "regnet_y_": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf 128gf",
    "resnet": "18 34 50 101 152",
    "resnext": "50_32x4d 101_32x8d",
    "shufflenet_v2_": "x0_5 x1_0 x1_5 x2_0",
    "squeezenet": "1_0 1_1",
    "vgg": "11 13 16 19 11_bn 13_bn 16_bn 19_bn",
    "wide_resnet": "50_2 101_2",
}
CLASSIFIERS = ["alexnet", "googlenet", "inception_v3"]
CLASSIFIERS += [family + member for family, members in FAMILIES.items() for member in members.split()]
SEGMENTERS = [f"{head}_{body}" for head in ("fcn", "deeplabv3") for body in ("resnet50", "resnet101")]
SEGMENTERS += ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
TRANSFORMERS = ["vit_b_32", "swin_t"]
QUICK = [
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "mobilenet_v2",
    "regnet_y_400mf",
    "densenet121",
    "resnet18",
]
SIZES = {"inception_v3": 299, "vit_b_32": 224}
CLASSES = dict.fromkeys(SEGMENTERS, 21)
TOLERANCE = 1e-5
EXPORTED_BELOW = 500_000_000
TARGET = parse_target({
    "name": "coverage", "purpose": "the check of coverage", "format": "onnx",
    "parity": {"max_abs": 1e30, "max_rel": 1e-4},  # logits of random weights have any size
})  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome for one network."""

    name: str
    result: str
    seconds: float = 0.0
    groups: int = 0
    params: float | None = None
    macs: float | None = None
    difference: float | None = None
    export_seconds: float | None = None
    receipt: str | None = None
    runtime: float | None = None

    @property
    def good(self) -> bool:
        """True if the network was pruned, exported unless it is too large, and proved equal."""
        return self.result in ("equal", "pruned; too large to export")

    def row(self) -> list[object]:
        """The cells of the table."""
        cells = [
            self.name,
            self.seconds,
            self.groups,
            self.params,
            self.macs,
            self.difference,
            self.export_seconds,
            self.receipt,
            self.runtime,
            self.result,
        ]
        if self.good and self.name in TRANSFORMERS:
            cells[-1] = f"{self.result}; inner widths of the MLPs only"
        return ["-" if cell is None else cell for cell in cells]


class Named(Architecture):
    """A network of torchvision by its name, segmentation too."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A network without trained weights."""
        return built(self.arch)


class MainOutput(nn.Module):
    """A segmentation network with its map of logits as the only output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The logits of all pixels in one row."""
        logits: Tensor = self.network(images)["out"].flatten(1)
        return logits


def built(name: str) -> nn.Module:
    """A network without trained weights."""
    options = {"weights_backbone": None} if name in SEGMENTERS else {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return (MainOutput(module) if name in SEGMENTERS else module).eval()


def parameters(name: str) -> int:
    """The size of a network, as torchvision lists it."""
    weights = torchvision.models.get_model_weights(name)
    return max(int(one.meta["num_params"]) for one in weights)


def disturb(module: nn.Module) -> None:
    """Gives every normalisation statistics and scales of its own, so that a swapped channel shows."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*module.buffers(), *module.parameters()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.data.add_(torch.rand(tensor.shape, generator=generator) * 0.2)


def thirty_percent(planner: Planner) -> Plan:
    """The same fraction of every group."""
    return planner.by_sparsity("layer", 0.3)


def examined(name: str) -> Outcome:
    """Prunes and exports one network and checks everything that is promised."""
    torch.manual_seed(0)
    side = SIZES.get(name, 128)
    subject = Subject(Named(arch=name), CLASSES.get(name, 1000), (3, side, side), built(name))
    disturb(subject.module)
    begin = time.perf_counter()
    try:
        pruned = prune_channels(
            subject.input_shape, scores.get("l2"), ScoringInputs(subject.module), Limits(), thirty_percent
        )
    except EdgecrError as error:
        return Outcome(name, str(error))
    seconds = time.perf_counter() - begin
    before, after = (count(module, subject.input_shape) for module in (subject.module, pruned.module))
    slim = subject.with_changes(pruned.cut).with_module(pruned.module)
    outcome = Outcome(
        name,
        "pruned",
        seconds,
        len(pruned.graph.groups),
        after.params / before.params,
        after.macs / before.macs,
        pruned.difference,
    )
    fault = fault_of(slim, pruned, nothing_went=after.params >= before.params or after.macs >= before.macs)
    if fault:
        return replace(outcome, result=fault)
    if before.params >= EXPORTED_BELOW:
        return replace(outcome, result="pruned; too large to export")
    return exported(slim, outcome)


def fault_of(slim: Subject, pruned: Pruned, *, nothing_went: bool) -> str:
    """Describes the fault of a slimmed network before any export; empty when there is none."""
    if nothing_went:
        return "nothing went"
    if not pruned.difference < TOLERANCE:
        return "differs from the masked network"
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (slim.skeleton(), slim.module)]
    return "" if shapes[0] == shapes[1] else "the record does not repeat"


def exported(slim: Subject, outcome: Outcome) -> Outcome:
    """Writes the slimmed network as ONNX; a file that is not what the record promises is refused by the exporter."""
    side = slim.input_shape[1]
    images = MemorySet(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8), np.arange(3))
    proof = ProofData((), Preprocessing((0.5,) * 3, (0.25,) * 3, (side, side)), "", images, images)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgecr-coverage-") as folder:
        try:
            artifact = exporters.get("onnx")().export(slim, TARGET, proof, Path(folder), {})
        except EdgecrError as error:
            return replace(outcome, result=str(error))
        seconds = time.perf_counter() - begin
    macs = artifact.receipt["file"]["macs"]
    receipt = f"equal, {macs / 1e6:,.0f} M MACs"
    return replace(outcome, result="equal", export_seconds=seconds, receipt=receipt, runtime=artifact.parity["max_rel"])


def remembered(cache: Path | None) -> dict[str, Outcome]:
    """The outcomes of an earlier, interrupted run."""
    if cache is None or not cache.exists():
        return {}
    return {name: Outcome(**values) for name, values in json.loads(cache.read_text()).items()}


def examine_all(names: list[str], cache: Path | None) -> list[Outcome]:
    """Examines the networks that are not yet in the cache, smallest first."""
    found = remembered(cache)
    for number, name in enumerate(sorted(names, key=parameters), start=1):
        if name not in found:
            found[name] = examined(name)
            gc.collect()
            if cache is not None:
                write_json(cache, {key: asdict(outcome) for key, outcome in found.items()})
        print(f"{number}/{len(names)} {name}: {found[name].result}", flush=True)
    return [found[name] for name in names]


def main() -> int:
    """Examines all networks and prints the table."""
    chosen = arguments(__doc__)
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="examine these networks alone")
    chosen.add_argument("--cache", type=Path, metavar="FILE", help="keep results here; a run continues from them")
    options = chosen.parse_args()
    torch.set_num_threads(1)  # many threads on a shared machine wait for each other
    names = options.only or (QUICK if options.quick else CLASSIFIERS + SEGMENTERS + TRANSFORMERS)
    outcomes = examine_all(names, options.cache)
    header = [
        "network",
        "s",
        "groups",
        "params kept",
        "MACs kept",
        "difference",
        "export s",
        "receipt",
        "ORT difference",
        "result",
    ]
    print(table(header, [outcome.row() for outcome in outcomes]))
    counted = [outcome for outcome in outcomes if outcome.name not in TRANSFORMERS]
    figures = {"networks": len(counted), "equal": sum(outcome.good for outcome in counted)}
    figures |= {outcome.name: outcome.result for outcome in outcomes if not outcome.good}
    least = 64 if len(counted) == len(CLASSIFIERS + SEGMENTERS) else len(counted)
    return finish("coverage", figures, [Goal("equal", at_least=least)])


if __name__ == "__main__":
    raise SystemExit(main())

"""How much of torchvision can be pruned: 60 classification CNNs and 6 segmentation networks at 30 %.

Each network loses 30 % of the channels of every group. What is checked: the slimmed module answers like the
masked one (relative difference below 1e-5), the channels really went (parameters and MACs of the slimmed
module are those that the plan promised), and the record repeats on a fresh copy. Transformers are listed
too, without counting: their inner widths are pruned, the rest stays. Random weights, disturbed statistics.
"""

from __future__ import annotations

import gc
import time
import warnings
from dataclasses import dataclass

import torch
import torchvision
from _common import Goal, arguments, finish, table
from torch import nn

from edgecr.errors import EdgecrError
from edgecr.surgery.counters import count
from edgecr.surgery.plan import Limits, Plan, Planner
from edgecr.surgery.prune import prune_channels
from edgecr.surgery.removal import ChannelCut, replay
from edgecr.surgery.scores import Evidence, scores

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
QUICK = ["resnet18", "mobilenet_v2", "densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf", "efficientnet_b0"]
SIZES = {"inception_v3": 299, "vit_b_32": 224}
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Outcome:
    """What became of one network."""

    name: str
    result: str
    seconds: float = 0.0
    groups: int = 0
    params: float = float("nan")
    macs: float = float("nan")
    difference: float = float("nan")

    @property
    def good(self) -> bool:
        """Whether the network was pruned and proved equal."""
        return self.result == "pruned"

    def row(self) -> list[object]:
        """The cells of the table."""
        return [self.name, self.seconds, self.groups, self.params, self.macs, self.difference, self.result]


def built(name: str) -> nn.Module:
    """A network without trained weights."""
    options = {"weights_backbone": None} if name in SEGMENTERS else {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module.eval()


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
    """Prunes one network and checks everything that is promised."""
    torch.manual_seed(0)
    module = built(name)
    disturb(module)
    shape = (3, *2 * (SIZES.get(name, 128),))
    begin = time.perf_counter()
    try:
        pruned = prune_channels(shape, scores.get("l2"), Evidence(module), Limits(), thirty_percent)
    except EdgecrError as error:
        return Outcome(name, str(error))
    seconds = time.perf_counter() - begin
    before, after = count(module, shape), count(pruned.module, shape)
    del module
    fresh = built(name)
    replay(fresh, [ChannelCut.parse(pruned.cut.plain())])
    shapes = [{key: tensor.shape for key, tensor in m.state_dict().items()} for m in (fresh, pruned.module)]
    result = "pruned"
    if shapes[0] != shapes[1]:
        result = "the record does not repeat"
    elif not pruned.difference < TOLERANCE:
        result = "differs from the masked network"
    elif after.params >= before.params or after.macs >= before.macs:
        result = "nothing went"
    shares = after.params / before.params, after.macs / before.macs
    return Outcome(name, result, seconds, len(pruned.graph.groups), *shares, pruned.difference)


def main() -> int:
    """Examines all networks and prints the table."""
    chosen = arguments(__doc__)
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="examine these networks alone")
    options = chosen.parse_args()
    torch.set_num_threads(1)  # many threads on a shared machine wait for each other
    names = options.only or (QUICK if options.quick else CLASSIFIERS + SEGMENTERS + TRANSFORMERS)
    outcomes = []
    for name in names:
        outcomes.append(examined(name))
        print(f"{len(outcomes)}/{len(names)} {name}: {outcomes[-1].result}", flush=True)
        gc.collect()
    header = ["network", "s", "groups", "params kept", "MACs kept", "difference", "result"]
    print(table(header, [outcome.row() for outcome in outcomes]))
    counted = [outcome for outcome in outcomes if outcome.name not in TRANSFORMERS]
    figures = {"networks": len(counted), "pruned": sum(outcome.good for outcome in counted)}
    figures |= {outcome.name: outcome.result for outcome in outcomes if not outcome.good}
    least = 64 if len(counted) == len(CLASSIFIERS + SEGMENTERS) else len(counted)
    return finish("coverage", figures, [Goal("pruned", at_least=least)])


if __name__ == "__main__":
    raise SystemExit(main())

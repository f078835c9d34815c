"""How long it takes to plan and remove 50 % of the channels, against Torch-Pruning in the same run.

Both sides trace a fresh copy of the network on one 224-pixel image, score by L2 norms, remove half of the
channels of every layer with counts on multiples of eight, and spare the classifier. The two take turns. The
goal: at most a third of Torch-Pruning's time. Needs ``pip install torch-pruning``.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from torch import nn

from edgecr.surgery.cost import Cost
from edgecr.surgery.graph import trace_channels
from edgecr.surgery.plan import Planner
from edgecr.surgery.removal import remove
from edgecr.surgery.scores import Evidence, scores
from edgecr.surgery.widths import Limits

NETWORKS = ("densenet121", "resnet50")
SHAPE = (3, 224, 224)
Job = Callable[[], float]


def edgecr_prunes(module: nn.Module) -> None:
    """Trace, score, plan, remove."""
    graph, evidence = trace_channels(module, SHAPE), Evidence(module)
    values = [scores.get("l2")(group, evidence) for group in graph.groups]
    plan = Planner(graph, Cost(module, graph), values, Limits(align=8)).by_sparsity("layer", 0.5)
    remove(module, plan.cut())


def peer_prunes(module: nn.Module) -> None:
    """The same by Torch-Pruning."""
    import torch_pruning

    heads = [child for child in module.modules() if isinstance(child, nn.Linear)]
    importance = torch_pruning.importance.MagnitudeImportance(p=2)
    pruner = torch_pruning.pruner.BasePruner(
        module, torch.randn(1, *SHAPE), importance, pruning_ratio=0.5, round_to=8, ignored_layers=heads
    )
    pruner.step()


def job(prune: Callable[[nn.Module], None], network: nn.Module, kept: dict[str, float], side: str) -> Job:
    """One side's work on a fresh copy, in seconds; notes the fraction of parameters that remains."""
    dense = sum(parameter.numel() for parameter in network.parameters())

    def timed() -> float:
        module = copy.deepcopy(network)
        begin = time.perf_counter()
        prune(module)
        seconds = time.perf_counter() - begin
        kept[side] = sum(parameter.numel() for parameter in module.parameters()) / dense
        return seconds

    return timed


def main() -> int:
    """Lets both sides take turns on both networks."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    rounds = 2 if options.quick else 5
    rows, figures, goals = [], dict[str, float](), []
    for name in NETWORKS:
        network = torchvision.models.get_model(name, weights=None).eval()
        kept: dict[str, float] = {}
        sides = {"EdgeCR": edgecr_prunes, "Torch-Pruning": peer_prunes}
        samples = interleaved({side: job(prune, network, kept, side) for side, prune in sides.items()}, rounds)
        for side, seconds in samples.items():
            rows.append([name, side, statistics.median(seconds), min(seconds), kept[side]])
        figures[f"{name}_ratio"] = paired_ratio(samples["EdgeCR"], samples["Torch-Pruning"])
        goals.append(Goal(f"{name}_ratio", at_most=1 / 3))
    print(table(["network", "side", "median s", "least s", "params kept"], rows))
    return finish("planning", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())

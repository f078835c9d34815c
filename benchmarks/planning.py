"""Measures the time of a plan by latency, of the importance that training gathers, and of pruning against a peer.

**Plans.** Half of the latency by an exact knapsack, for a made-up device whose times step at multiples of eight. The
table knows the layers that plans mostly lead to; *first* is all planning until every layer of the plan is known (the
table grows on the way, at no cost here), *again* one plan with everything known. The goal: under a second a plan.

**Taylor.** Scores by gradients that a training adds up in each update of ResNet-50, as a part of that update (forward,
backward and optimizer). The goal: below 3 %.

**Pruning.** Trace, score, plan and remove 50 % of the channels, against Torch-Pruning, turn by turn: at most a third of
its time. Left out, and said so, where ``torch-pruning`` is not installed.

All on one thread; plans and Taylor in processor time. Images and weights are random: ``--data`` changes nothing.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
import torchvision
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from torch import nn
from torch.nn import functional

from edgecr.latency import Entry, LatencyTable, LayerConfig, Machine
from edgecr.surgery.changes.cut import remove
from edgecr.surgery.planning.amounts import LATENCY
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.latency import plan_by_latency
from edgecr.surgery.planning.layers import LayerSizes, reachable
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.scoring.taylor import Products
from edgecr.surgery.tracing.graph import trace_channels

PLANS = {
    "densenet121": ("densenet121", Limits()),
    "mnasnet1_0": ("mnasnet1_0", Limits()),
    "mnasnet1_0, unaligned": ("mnasnet1_0", Limits(align="off")),
    "resnet50": ("resnet50", Limits()),
    "efficientnet_b0": ("efficientnet_b0", Limits()),
    "regnet_y_8gf": ("regnet_y_8gf", Limits()),
}
SCORES = ("taylor", "taylor_bn", "taylor_gate", "taylor_joint", "taylor_in")
NETWORKS = ("densenet121", "resnet50")
SHAPE = (3, 224, 224)
STAIR = 8
Job = Callable[[], float]


def made_up(known: LatencyTable, layers: Sequence[LayerConfig]) -> LatencyTable:
    """A device whose times step at multiples; each call costs something."""
    return known.extended({one.key: Entry(wall_ns=(_nanoseconds(one),), cpu_ns=(None,)) for one in layers})


def _nanoseconds(config: LayerConfig) -> int:
    blocks = math.ceil(config.cout / STAIR) * math.ceil(config.cin / config.groups / STAIR)
    places = math.prod(config.out_size) if config.kind == "conv" else 1
    return 2_000 + blocks * places * math.prod(config.kernel)


def plan_seconds(name: str, limits: Limits, rounds: int) -> tuple[float, float, int]:
    """Planning until everything is known, one plan after that, and the layers of the plan that were estimates."""
    network = torchvision.models.get_model(name, weights=None).eval()
    graph, evidence = trace_channels(network, SHAPE), ScoringInputs(network)
    planner = Planner(graph, Cost(network, graph), [scores.get("l2")(one, evidence) for one in graph.groups], limits)
    sizes = LayerSizes(network, graph)
    machine = Machine(device="made-up", processor="none", runtime="ort", version="0", threads=1)
    empty = LatencyTable(machine=machine, clock="wall")
    filled = made_up(empty, [*sizes.configurations(sizes.widths), *reachable(sizes, limits)])

    def planned(known: LatencyTable) -> tuple[float, LatencyTable, int]:
        begin = time.thread_time()
        found = plan_by_latency(planner, 1, known, made_up, lambda one: one.by_budget("knapsack", {LATENCY: 0.5}))
        return time.thread_time() - begin, found.table, len(found.estimated)

    first, full, estimated = planned(filled)
    return first, statistics.median(planned(full)[0] for _ in range(rounds)), estimated


def taylor_parts(batch: int, rounds: int) -> dict[str, float]:
    """The cost of adding up each score, as a fraction of an update of ResNet-50."""
    network = torchvision.models.resnet50(weights=None)
    groups, images = trace_channels(network, SHAPE).groups, torch.randn(batch, *SHAPE)
    labels, tensors = torch.arange(batch), dict(network.named_parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def update() -> float:
        begin = time.thread_time()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        return time.thread_time() - begin

    def adds(score: str) -> Job:
        def timed() -> float:
            begin, evidence = time.thread_time(), ScoringInputs(network)
            found = Products.of(tensors, {name: tensor.grad for name, tensor in tensors.items()})
            evidence.__dict__["products"] = [found]
            for group in groups:
                scores.get(score)(group, evidence)
            return time.thread_time() - begin

        return timed

    update()
    samples = interleaved({"update": update} | {score: adds(score) for score in SCORES}, rounds)
    print(f"An update with {batch} images takes {statistics.median(samples['update']):.3g} s.")
    return {score: statistics.median(samples[score]) / statistics.median(samples["update"]) for score in SCORES}


def edgecr_prunes(module: nn.Module) -> None:
    """Trace, score, plan, remove."""
    graph, evidence = trace_channels(module, SHAPE), ScoringInputs(module)
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


def against_peer(rounds: int) -> dict[str, float]:
    """EdgeCR's time as a part of Torch-Pruning's, when both take turns."""
    rows, ratios = [], dict[str, float]()
    for name in NETWORKS:
        network = torchvision.models.get_model(name, weights=None).eval()
        kept: dict[str, float] = {}
        sides = {"EdgeCR": edgecr_prunes, "Torch-Pruning": peer_prunes}
        samples = interleaved({side: job(prune, network, kept, side) for side, prune in sides.items()}, rounds)
        for side, seconds in samples.items():
            rows.append([name, side, statistics.median(seconds), min(seconds), kept[side]])
        ratios[f"{name}_ratio"] = paired_ratio(samples["EdgeCR"], samples["Torch-Pruning"])
    print(table(["network", "side", "median s", "least s", "params kept"], rows))
    return ratios


def main() -> int:
    """Plans, adds up scores, and prunes in turn with the peer."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows, figures, goals = [], dict[str, float](), []
    for label, (name, limits) in PLANS.items():
        first, again, estimated = plan_seconds(name, limits, 1 if options.quick else 5)
        rows.append([label, first, again, estimated])
        figure = f"{label.replace(', ', '_')}_s"
        figures |= {figure: again, f"{figure}_first": first}
        goals.append(Goal(figure, at_most=1.0))
    print(table(["plan for half of the latency", "first s", "again s", "estimated layers"], rows) + "\n")
    parts = taylor_parts(8 if options.quick else 32, 2 if options.quick else 5)
    print(table(["score added up in training", "part of an update"], [[name, part] for name, part in parts.items()]))
    figures |= {f"{name}_part": part for name, part in parts.items()}
    goals += [Goal(f"{name}_part", at_most=0.03) for name in parts]
    if find_spec("torch_pruning") is None:
        print("\nTorch-Pruning is not installed: the comparison is left out.\n")
    else:
        ratios = against_peer(2 if options.quick else 5)
        figures |= ratios
        goals += [Goal(name, at_most=1 / 3) for name in ratios]
    return finish("planning", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())

"""Processor time and memory of a repair, and of the values of all widths by measured loss.

ResNet-56 on images of 32 pixels and ResNet-50 on the same images at 224, weights by chance: what they cost does not
depend on them. One thread. Half of all channels goes; the repair has 512 images. Each figure comes from a process of
its own, whose largest memory counts, Python and PyTorch included. Values are those of ``prune: {scope: measured}``
with nothing known before. Goals: a repair takes 10 s of processor time for ResNet-56 and 120 s for ResNet-50; all
values of ResNet-56 take 5 minutes, of ResNet-50 30; no process needs more than 4 GB. ``--quick`` looks at ResNet-56
alone.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _common import Goal, arguments, finish, table

SIDES = {"resnet56": 32, "resnet50": 224}
ARCHITECTURES = {"resnet56": "resnet56", "resnet50": "torchvision:resnet50"}
REPAIR, VALUES = "repair", "values"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    REPAIR: {"score": "l2", "scope": "layer", "sparsity": 0.5, "repair": True},
    VALUES: {"scope": "measured", "budget": {"macs": 0.5}},
}
IMAGES = 2_048
"""Training images that are there to draw from."""
LIMITS = {("resnet56", REPAIR): 10, ("resnet50", REPAIR): 120, ("resnet56", VALUES): 300, ("resnet50", VALUES): 1800}
"""Seconds: of the processor for a repair, by the clock for values."""


def cost(network: str, what: str, root: Path) -> dict[str, float]:
    """The cost of one piece of work, done in this process."""
    import torch
    from _study import cifar10

    from edgecr.data.views import LearningData
    from edgecr.methods.base import methods
    from edgecr.models import architecture
    from edgecr.subject import Subject
    from edgecr.training.context import StepContext

    torch.set_num_threads(1)  # threads that wait for one another on a busy machine count as work
    side = SIDES[network]
    data = cifar10(root, IMAGES, 100, side=side)
    subject = Subject.create(architecture({"arch": ARCHITECTURES[network]}), len(data.classes), (side, side), seed=0)
    with tempfile.TemporaryDirectory(prefix="edgecr-cost-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # no values of an earlier time
        context = StepContext(LearningData.of(data), 0, Path(folder))
        step = methods.get("prune").parse({"align": 8, **OPTIONS[what]})
        clock, processor = time.perf_counter(), time.process_time()
        step.apply(subject, context)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "cpu_s": time.process_time() - processor,
        "wall_s": time.perf_counter() - clock,
        "peak_gb": peak / 1e9,
    }


def in_a_process(network: str, what: str, root: Path) -> dict[str, float]:
    """The same, done in a process of its own."""
    command = [sys.executable, __file__, "--data", str(root), "--one", network, what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Runs the benchmark."""
    parser = arguments(__doc__, data=True)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WHAT"), help="in this process, for the benchmark itself")
    options = parser.parse_args()
    if options.one:
        network, what = options.one
        print(json.dumps(cost(network, what, options.data)))
        return 0
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    goals = []
    for (network, what), limit in LIMITS.items():
        if options.quick and network != "resnet56":
            continue
        found = in_a_process(network, what, options.data)
        rows.append([network, what, *found.values()])
        judged = "cpu_s" if what == REPAIR else "wall_s"
        figures |= {f"{network}_{what}_{name}": value for name, value in found.items()}
        goals += [Goal(f"{network}_{what}_{judged}", at_most=limit), Goal(f"{network}_{what}_peak_gb", at_most=4.0)]
    print(table(["network", "work", "processor s", "clock s", "peak GB"], rows))
    return finish("repair_cost", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())

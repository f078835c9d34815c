"""The time of a whole export, written and proven, over that of torch's bare export.

ResNet-50 and ResNet-18 at 224 pixels with random weights; one thread; 16 photographs or random images prove the file.
Bare is ``torch.onnx.export`` of the same module with the same options, written to a file. Both take turns in one
process; the median of the ratios of a round counts. What the rest is spent on stands beside it: cleaning and checking
the graph, counting its layers for the receipt, and the answers of PyTorch and ONNX Runtime for parity. Goal: less than
twice as long for ResNet-50. ``--quick`` looks at ResNet-18 alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table

from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import exporters, load_target
from edgecr.exporters.onnx.write import silence
from edgecr.models import architecture
from edgecr.subject import Subject

SIDE, IMAGES, ROUNDS = 224, 16, 3


def bare(subject: Subject, folder: Path) -> None:
    """PyTorch's own export, and nothing else."""
    with silence():
        program = torch.onnx.export(
            subject.module.eval(),
            (torch.zeros(2, *subject.input_shape),),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(str(folder / "bare.onnx"))


def whole(subject: Subject, proof: ProofData, folder: Path) -> None:
    """The product's export: written, cleaned, recounted and compared."""
    target = load_target("onnx")
    exporters.get("onnx")().export(subject, target, proof, folder / "whole", {})


def timed(call: Callable[[], None]) -> float:
    """Processor seconds of one call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main() -> int:
    """Exports each network both ways."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    rows, figures = [], {}
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    shown = MemorySet(pixels, np.arange(IMAGES))
    proof = ProofData((), Preprocessing((0.5,) * 3, (0.25,) * 3, (SIDE, SIDE)), "", shown, shown)
    names = ["resnet18"] if options.quick else ["resnet18", "resnet50"]
    for name in names:
        subject = Subject.create(architecture({"arch": f"torchvision:{name}"}), 1000, (SIDE, SIDE), seed=0)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            bare(subject, place)  # what is imported and compiled once counts for neither
            jobs = {"bare": partial(bare, subject, place), "whole": partial(whole, subject, proof, place)}
            found = interleaved({key: partial(timed, job) for key, job in jobs.items()}, ROUNDS)
        figures[f"{name}_ratio"] = paired_ratio(found["whole"], found["bare"])
        medians = [statistics.median(found[key]) for key in jobs]
        rows.append([name, *medians, figures[f"{name}_ratio"]])
    print(table(["network", "torch alone, CPU s", "EdgeCR, CPU s", "ratio"], rows))
    return finish("export", figures, [Goal(f"{names[-1]}_ratio", at_most=2.0)])


if __name__ == "__main__":
    raise SystemExit(main())

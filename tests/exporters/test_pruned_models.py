"""A few of the networks of ``benchmarks/coverage.py``: pruned, exported, recounted and compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import exporters, parse_target
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.counters import count
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores

SIDE = 64


def disturbed(module: torch.nn.Module) -> torch.nn.Module:
    """Every normalisation gets statistics and scales of its own, so that a swapped channel shows."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*module.buffers(), *module.parameters()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.data.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return module.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small", "regnet_y_400mf"])
def test_networks_of_torchvision_lose_a_third_and_stay_the_same_in_the_file(name, tmp_path):
    subject = Subject.create(architecture({"arch": f"torchvision:{name}"}), 10, (SIDE, SIDE), seed=0)
    pruned = prune_channels(
        subject.input_shape,
        scores.get("l2"),
        ScoringInputs(disturbed(subject.module)),
        Limits(),
        lambda planner: planner.by_sparsity("layer", 0.3),
    )
    assert pruned.difference < 1e-5
    slim = subject.with_changes(pruned.cut).with_module(pruned.module)
    images = MemorySet(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8), np.arange(3))
    target = parse_target({"name": "t", "purpose": "a test", "format": "onnx", "parity": {"max_abs": 1e3}})
    proof = ProofData((), Preprocessing((0.5,) * 3, (0.25,) * 3, (SIDE, SIDE)), "", images, images)
    artifact = exporters.get("onnx")().export(slim, target, proof, tmp_path, {})
    dense, promised = (count(one.module, subject.input_shape) for one in (subject, slim))
    assert artifact.receipt["file"]["macs"] == promised.macs < 0.75 * dense.macs
    assert artifact.receipt["removed"]["channels"] > 0.2
    assert artifact.parity["max_rel"] < 1e-4

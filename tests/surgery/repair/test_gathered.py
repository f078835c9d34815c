"""Statistics of chunks together are those of all their values."""

import pytest
import torch

from edgecr.surgery.repair import gathered
from edgecr.surgery.repair.gathered import Spread


@pytest.mark.parametrize("shape", [(30, 4), (30, 4, 5), (30, 4, 5, 6)])
@pytest.mark.parametrize("block", [1, 1 << 18])
def test_mean_and_variance_are_those_of_all_chunks_together(shape, block, monkeypatch):
    monkeypatch.setattr(gathered, "_BLOCK", block)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 100  # far from zero: squares alone fail
    found = Spread()
    for part in values.split(7):
        found.add(part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part)
    flat = values.double().transpose(0, 1).flatten(1)
    assert found.count == flat.shape[1]
    assert torch.allclose(found.mean, flat.mean(1), rtol=1e-6)
    assert torch.allclose(found.variance, flat.var(1), rtol=1e-4)


def test_a_constant_channel_has_no_variance():
    found = Spread()
    for _ in range(3):
        found.add(torch.full((4, 2, 3, 3), 0.3))
    assert float(found.variance.max()) < 1e-14

"""Norms that take the statistics of training images after a removal at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.methods.prune import Prune
from edgecr.methods.prune.recalibration import take_statistics
from edgecr.methods.repair.step import Chunks, in_chunks
from edgecr.training.inputs import Inputs
from tests.surgery.conftest import disturbed
from tests.workplace import Memory, context, dataset, subject

PLAIN = {"sparsity": 0.4, "scope": "layer", "align": "off", "repair": False}


def norms(module: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: child for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)}


def chunks(count: int = 96) -> Chunks:
    inputs = Inputs(dataset().preprocessing, torch.device("cpu"))
    return in_chunks(inputs, Memory(count, 1), torch.arange(count).numpy())


def pruned(folder: Path, train: int = 96, **keys: Any) -> nn.Module:
    model = subject(width=0.5)
    disturbed(model.module)
    return Prune.parse(PLAIN | keys).apply(model, context(folder, dataset(train))).module


def test_the_first_norm_has_the_statistics_of_what_it_reads_and_no_weight_moves(tmp_path: Path) -> None:
    plain, found = pruned(tmp_path / "plain"), pruned(tmp_path / "found", recalibrate=True)
    with torch.no_grad():
        read = torch.cat([found.conv1(part) for part in chunks()]).double().transpose(0, 1).flatten(1)
    assert torch.allclose(found.bn1.running_mean.double(), read.mean(1), atol=1e-5)
    assert torch.allclose(found.bn1.running_var.double(), read.var(1), rtol=1e-4)
    before = plain.state_dict()
    differing = {name for name, tensor in found.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition(".")[2] for name in differing} == {"running_mean", "running_var"}
    assert {name.rpartition(".")[0] for name in differing} == set(norms(found))


def test_every_norm_answers_centred_and_scaled_values_again(tmp_path: Path) -> None:
    found = pruned(tmp_path, recalibrate=True)
    seen: dict[str, list[Tensor]] = {}
    for name, norm in norms(found).items():
        norm.register_forward_pre_hook(lambda norm, given, name=name: seen.setdefault(name, []).append(given[0]))
    with torch.no_grad():
        for part in chunks():
            found.eval()(part)
    for name, norm in norms(found).items():
        read = torch.cat(seen[name]).transpose(0, 1).flatten(1)
        spread = torch.sqrt(norm.running_var + 1e-3)
        assert float(((read.mean(1) - norm.running_mean) / spread).abs().max()) < 0.1, name
        assert torch.allclose(read.var(1), norm.running_var, rtol=0.3, atol=1e-3), name


def test_it_takes_the_same_bits_by_seed_and_leaves_modes_alone() -> None:
    results = []
    for _ in range(2):
        module = disturbed(subject(width=0.5).module)
        assert take_statistics(module, chunks()) == len(norms(module))
        assert not any(child.training for child in module.modules())
        results.append(module.state_dict())
    assert all(map(torch.equal, results[0].values(), results[1].values()))


def test_a_model_that_fails_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UnsupportedModel, match="Leave recalibrate out"):
        take_statistics(module, chunks())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="recalibrate needs at least 64 training images, and there are 63"):
        pruned(tmp_path, 63, recalibrate=True)


@pytest.mark.parametrize("repair", [{}, {"repair": True}, {"repair": {"images": 100}}])
def test_it_is_refused_together_with_a_repair_and_says_why(repair: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"less variance, and statistics taken anew.*add repair: false"):
        Prune.parse({"sparsity": 0.5, "recalibrate": True} | repair)


def test_it_is_refused_where_a_training_follows() -> None:
    with pytest.raises(ValidationError, match="recalibrate does nothing with when: iterative"):
        Prune.parse({"sparsity": 0.5, "recalibrate": True, "when": {"kind": "iterative"}})
    assert not Prune.parse({"sparsity": 0.5}).recalibrate

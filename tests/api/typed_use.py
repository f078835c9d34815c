"""A user's own code, as a type checker sees it: `make lint` checks this file, and nothing runs it."""

import torch
from torch import nn
from typing_extensions import assert_type

import edgecr
from edgecr.exporters import Artifact
from edgecr.report.result import Result
from edgecr.training.history import History


def use(net: nn.Module, example: torch.Tensor) -> int:
    """Calls everything; each result has a type of its own."""
    pruned, record = edgecr.prune(net, example, budget={"macs": 0.5, "size": "5 MB"}, exclude=["stem.*"])
    assert_type(pruned, nn.Module)
    assert_type(record.groups, dict[str, tuple[int, int]])
    student, history = edgecr.distill(pruned, net, "photos", size=(224, 224), mean=(0, 0, 0), std=(1, 1, 1))
    assert_type(student, nn.Module)
    assert_type(history, History)
    artifact = edgecr.export(student, example, "out", mean=(0, 0, 0), std=(1, 1, 1), original=net, record=record)
    assert_type(artifact, Artifact)
    run, report = edgecr.compress("quickstart", overrides=["seed=1"])
    assert_type(run, edgecr.Run)
    assert_type(report, Result)
    assert_type(edgecr.export(run, target="onnx"), list[Artifact])
    assert_type(edgecr.check(run), edgecr.Report)
    assert_type(edgecr.profile([artifact.path, "new.onnx"], batch=(1, 8)).rows[0].batch, int | None)
    answers = edgecr.robustness(artifact.path, data=(torch.zeros(2, 8, 8, 3), torch.zeros(2)), images=2)
    assert_type(answers.corruptions, tuple[str, ...])
    try:
        edgecr.check("runs/x")
    except edgecr.EdgecrError as error:
        return error.exit_code
    return edgecr.prune(net)  # type: ignore[call-arg, return-value]

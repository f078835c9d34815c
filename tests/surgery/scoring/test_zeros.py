"""A masked channel is zero wherever it is read, or what reads it is closed too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgecr.surgery.tracing.graph import trace_channels
from tests.surgery.networks import Net, widths

Prune = Callable[..., Any]
SHAPE = (3, 8, 8)


CONSTANTS: dict[str, Any] = {
    "joined along the channels": lambda x: torch.cat([torch.sigmoid(x), x], 1),
    "joined along the channels, the other way": lambda x: torch.cat([x, torch.sigmoid(x)], 1),
    "joined along another axis": lambda x: torch.cat([x, torch.sigmoid(x)], 3),
    "joined along another axis, the other way": lambda x: torch.cat([torch.sigmoid(x), x], 3),
    "padded": lambda x: F.pad(x, (1, 1, 1, 1), value=0.5),
    "normalised over the image": lambda x: F.layer_norm(x, x.shape[2:], None, torch.ones(x.shape[2:])),
    "softmax over the image": lambda x: x.flatten(2).softmax(2).unflatten(2, x.shape[2:]),
    "of its form": lambda x: torch.ones_like(x) * 0.3,
    "stacked": lambda x: torch.stack([x, torch.sigmoid(x), x], 2).sum(2),
}


@pytest.mark.parametrize("why", CONSTANTS)
def test_constants_are_closed_wherever_they_come_from(prune: Prune, why: str) -> None:
    class Constant(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.next = nn.Conv2d(16 if "along the channels" in why else 8, 6, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.next(CONSTANTS[why](x)).relu()

    graph, _, cut = prune(Constant(), SHAPE, fresh=Constant)
    assert widths(graph) == {"stem": 8, "next": 6}
    assert [one.tensor for one in cut.tensors if one.closes] == ["next.weight"]


ZEROS: dict[str, Any] = {"padded": lambda x: F.pad(x, (1, 1, 1, 1)), "of its form": lambda x: torch.zeros_like(x) + x}


@pytest.mark.parametrize("why", ZEROS)
def test_what_reads_zeros_is_not_closed(prune: Prune, why: str) -> None:
    class Zero(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.next = nn.Conv2d(8, 6, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.next(ZEROS[why](x)).relu()

    graph, _, cut = prune(Zero(), SHAPE, fresh=Zero)
    assert widths(graph) == {"stem": 8, "next": 6}
    assert not any(one.closes for one in cut.tensors)


@pytest.mark.parametrize(
    ("over", "free"),
    [
        (lambda x: x.sum(1, keepdim=True), True),
        (lambda x: torch.linalg.vector_norm(x, 2, 1, keepdim=True), True),
        (lambda x: torch.linalg.vector_norm(x, 0, 1, keepdim=True), False),
        (lambda x: x.mean(1, keepdim=True), False),
        (lambda x: x.var(1, keepdim=True), False),
        (lambda x: (x + 1).amax(1, keepdim=True), False),
        (lambda x: (x + 1).sum(1, keepdim=True), False),
    ],
)
def test_only_sums_of_zeros_over_the_channels_let_them_go(prune: Prune, over: Any, free: bool) -> None:
    class Over(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.next = nn.Conv2d(8, 6, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.next(x).relu() * over(x)

    graph, *_ = prune(Over(), SHAPE, fresh=Over)
    assert widths(graph) == ({"stem": 8, "next": 6} if free else {"next": 6})


def test_masks_close_what_reads_activations_that_are_not_zero_at_zero(prune: Prune) -> None:
    class Sigmoid(Net):
        def __init__(self) -> None:
            super().__init__()
            self.next = nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.next(torch.sigmoid(x)).tanh()

    graph, _, cut = prune(Sigmoid(), SHAPE, fresh=Sigmoid)
    assert widths(graph) == {"stem": 8, "next": 8}
    assert [one.tensor for one in cut.tensors if one.closes] == ["next.weight"]


def test_what_reads_constants_is_closed_even_if_it_first_read_zeros(prune: Prune) -> None:
    class Both(Net):
        def __init__(self) -> None:
            super().__init__()
            self.next = nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.next(x).relu() * self.next(torch.sigmoid(x))

    _, _, cut = prune(Both(), SHAPE, fresh=Both)
    assert [one.tensor for one in cut.tensors if one.closes] == ["next.weight"]


def test_a_constant_that_meets_something_else_than_weights_freezes() -> None:
    class Summed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.free = nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.free(x) * torch.sigmoid(x).sum(1, keepdim=True)

    assert widths(trace_channels(Summed(), SHAPE)) == {"free": 8}

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from edgecr.surgery.repair.rows import input_rows, output_rows, places, positions
from edgecr.surgery.repair.stream import LayerCall, OperatorCall, Stream, run
from edgecr.surgery.repair.structure import Application
from edgecr.surgery.tracing.running import state_of

IMAGES = 3


class Listening(Stream):  # type: ignore[no-untyped-call]
    """Keeps the layers that run, with what they answer."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        self.heard: list[tuple[LayerCall, Tensor]] = []

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        if call.layer is not None:
            self.heard.append((call.layer, out))


def heard(module: nn.Module, images: Tensor) -> list[tuple[LayerCall, Tensor]]:
    listening = Listening(state_of(module))
    run(module.eval(), images, listening)
    return listening.heard


def check(module: nn.Module, images: Tensor, count: int = 5) -> None:
    """The rows of inputs times the weight are what the layer answers at the same positions."""
    ((call, out),) = heard(module, images)
    state = state_of(module)
    weight, convolution = state[call.weight], bool(call.geometry)
    available = places(out, IMAGES, convolution=convolution)
    for chosen in (torch.arange(available), positions(Application(call.weight), 0, count, available, seed=0)):
        rows = input_rows(call, weight, IMAGES, chosen)
        answers = output_rows(out, IMAGES, chosen, convolution=convolution)
        wide = weight.shape[1]
        found = [
            rows[:, group * wide : (group + 1) * wide].flatten(1) @ part.flatten(1).T
            for group, part in enumerate(weight.chunk(call.groups))
        ]
        bias = state[call.bias] if call.bias else 0
        assert len(rows) == len(answers) == IMAGES * len(chosen)
        assert torch.allclose(torch.cat(found, 1) + bias, answers, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"stride": 2},
        {"stride": (2, 1), "padding": (0, 2)},
        {"padding": 2, "dilation": 2},
        {"dilation": (1, 2), "stride": (3, 2), "padding": (1, 3)},
        {"groups": 2},
        {"groups": 4, "stride": 2, "padding": 1},
        {"padding": "same"},
        {"padding": "same", "kernel_size": (2, 4)},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": (2, 1), "padding_mode": "reflect", "dilation": 2},
        {"kernel_size": (1, 5)},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_convolutions_of_two_dimensions(options: dict[str, Any]) -> None:
    check(nn.Conv2d(4, 8, **{"kernel_size": 3} | options), torch.randn(IMAGES, 4, 9, 11))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 2}, {"dilation": 3, "groups": 2}, {"padding": "same"}]
)
def test_convolutions_of_one_dimension(options: dict[str, Any]) -> None:
    check(nn.Conv1d(4, 6, 3, **options), torch.randn(IMAGES, 4, 17))


@pytest.mark.parametrize(
    "options", [{}, {"stride": (1, 2, 3), "padding": (0, 1, 2)}, {"dilation": (2, 1, 1), "groups": 2}]
)
def test_convolutions_of_three_dimensions(options: dict[str, Any]) -> None:
    check(nn.Conv3d(4, 6, (2, 3, 1), **options), torch.randn(IMAGES, 4, 5, 6, 7))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 5, 6)])
def test_linear_layers_of_images_tokens_and_maps(shape: tuple[int, ...], bias: bool) -> None:
    check(nn.Linear(6, 4, bias=bias), torch.randn(IMAGES, *shape))


class Written(nn.Module):
    """A linear layer as people write it by hand."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.weight, self.bias = how, nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "function":
            return F.linear(x, self.weight, self.bias)
        if self.how == "turned tokens":
            return F.linear(x.transpose(1, 2), self.weight)
        if self.how == "turned maps":
            return F.linear(x.permute(0, 3, 2, 1), self.weight)
        turned = {"t": self.weight.t, "T": lambda: self.weight.T, "transpose": lambda: self.weight.transpose(1, 0)}
        return x @ turned[self.how]()


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ("function", (6,)),
        ("t", (6,)),
        ("T", (5, 6)),
        ("transpose", (6,)),
        ("turned tokens", (6, 5)),
        ("turned maps", (6, 3, 5)),
    ],
)
def test_linear_layers_written_by_hand(how: str, shape: tuple[int, ...]) -> None:
    check(Written(how), torch.randn(IMAGES, *shape))


def test_rows_that_belong_to_no_single_image_are_looked_at_as_one_images() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)
            self.register_buffer("table", torch.randn(7, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x.mean() + self.layer(self.table)

    ((call, out),) = heard(Table(), torch.randn(IMAGES, 2))
    assert places(out, IMAGES, convolution=False) == 7
    chosen = torch.tensor([1, 5])
    rows = input_rows(call, torch.zeros(4, 6), IMAGES, chosen)
    assert torch.equal(rows, call.input[chosen][:, :, None])
    assert torch.equal(output_rows(out, IMAGES, chosen, convolution=False), out[chosen])


@pytest.mark.parametrize(
    "what",
    [
        lambda x, w, b: torch.addmm(b, x, w.t(), alpha=2),
        lambda x, w, b: torch.addmm(b, x, w.t(), beta=0.5),
        lambda x, w, b: torch.addmm(x[:, :4], x, w.t()),
        lambda x, w, b: F.linear(x, w, b + 1),
        lambda x, w, b: F.linear(x, w * 2, b),
        lambda x, w, b: x[:, :4] @ w,
        lambda x, w, b: F.conv1d(x[:, :, None], w[:, :, None]),
    ],
)
def test_what_only_looks_like_a_layer_is_none(what: Any) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return what(x, self.weight, self.bias)

    assert heard(Other(), torch.randn(IMAGES, 6)) == []


def test_positions_are_drawn_by_seed_layer_application_and_chunk() -> None:
    def drawn(name: str = "a.weight", number: int = 0, chunk: int = 0, seed: int = 0) -> list[int]:
        found: list[int] = positions(Application(name, number), chunk, 8, 1000, seed).tolist()
        return found

    assert drawn() == drawn()
    assert len({*map(tuple, [drawn(), drawn("b.weight"), drawn(number=1), drawn(chunk=1), drawn(seed=1)])}) == 5
    assert drawn() == sorted(set(drawn()))
    assert 0 <= min(drawn()) <= max(drawn()) < 1000
    assert positions(Application("a"), 0, 16, 9, 0).tolist() == list(range(9))

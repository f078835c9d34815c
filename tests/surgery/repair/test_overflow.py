"""Tensors that lend their memory, and a repair whose passes have next to none."""

from __future__ import annotations

import io

import pytest
import torch
import torchvision

from edgecr.surgery.repair import overflow
from edgecr.surgery.repair.overflow import Overflow, Tray
from tests.surgery import networks
from tests.surgery.repair.cutting import cut, repaired

KIB = 256
"""Numbers of one KiB."""


def test_the_longest_unused_give_up_their_memory_and_get_it_back() -> None:
    tray, tensors = Tray(Overflow(), 2048), [torch.full((KIB,), float(number)) for number in range(4)]
    tray.use(tensors)
    tray.use(tensors[:1])
    tray.rest()
    assert [tensor.untyped_storage().nbytes() for tensor in tensors] == [1024, 0, 0, 1024]
    assert tray.held == 2048
    tray.use(tensors)
    assert [float(tensor.mean()) for tensor in tensors] == [0, 1, 2, 3]


def test_views_have_one_memory_and_what_is_gone_is_not_kept() -> None:
    tray, whole = Tray(Overflow(), 0), torch.arange(float(KIB))
    view = whole.view(2, -1)[1]
    tray.use([whole])
    del whole
    tray.rest()
    tray.use([view])
    assert view.tolist() == list(range(KIB // 2, KIB))
    del view
    assert tray.held == 0


def test_places_in_the_file_are_used_again() -> None:
    shared = Overflow()
    for _ in range(10):
        tray, tensor = Tray(shared, 0), torch.ones(KIB)
        tray.use([tensor])
        tray.rest()
        tray.use([tensor])
        tray.rest()
        del tensor
        tray.rest()
    assert shared._end == 1024


def test_what_a_full_disk_does_not_take_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError("no space left on device")

    monkeypatch.setattr(overflow.tempfile, "TemporaryFile", lambda **_: Full())
    tray, tensor = Tray(Overflow(), 0), torch.ones(KIB)
    tray.use([tensor])
    tray.rest()
    assert float(tensor.sum()) == KIB


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: torchvision.models.resnet18(num_classes=5), (3, 32, 32)),
        (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5), (3, 32, 32)),
        (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5), (3, 32, 32)),
        (networks.Recurrent, (3, 8, 8)),
    ],
)
def test_a_repair_without_memory_for_waiting_passes_gives_the_same_bits(
    make, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    made = cut(make(), shape)
    plenty, _ = repaired(made, shape, positions=16)
    monkeypatch.setattr("edgecr.surgery.repair.refit.ACTIVATIONS", 0)
    monkeypatch.setattr("edgecr.surgery.repair.refit.ANSWERS", 0)
    written = []
    write = Overflow.write
    monkeypatch.setattr(Overflow, "write", lambda self, storage: (written.append(1), write(self, storage))[1])
    none, _ = repaired(made, shape, positions=16)
    assert written
    assert all(map(torch.equal, plenty.state_dict().values(), none.state_dict().values()))

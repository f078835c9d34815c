import numpy as np
import pytest
import torch
from torch.nn import functional

from edgecr.data.base import Preprocessing
from edgecr.training.augmentations import augmentations
from edgecr.training.inputs import Inputs

REACH = {"shift": 2, "crop-flip": 4}


def images(count=300, size=9, seed=0):
    # No black pixels, so that padding can be told from the image.
    return torch.randint(1, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator(seed))


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def windows(image, reach):
    """All crops of one padded image, by offset."""
    size = len(image)
    padded = functional.pad(image, (0, 0, reach, reach, reach, reach))
    span = range(2 * reach + 1)
    return {(y, x): padded[y : y + size, x : x + size] for y in span for x in span}


@pytest.mark.parametrize("name", ["none", "shift", "crop-flip"])
def test_shape_type_and_determinism(name):
    given = images()
    change = augmentations.get(name)
    first, second = change(given, generator()), change(given, generator())
    assert first.shape == given.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert name == "none" or not torch.equal(first, change(given, generator(4)))
    assert torch.equal(given, images()), "the stored images must not change"


@pytest.mark.parametrize("name", ["shift", "crop-flip"])
def test_every_result_is_a_window_of_the_padded_image_and_all_offsets_occur(name):
    given = images()
    offsets, mirrored = set(), 0
    for before, after in zip(given, augmentations.get(name)(given, generator())):
        cuts = windows(before, REACH[name]).items()
        plain = [at for at, window in cuts if torch.equal(window, after)]
        turned = [at for at, window in cuts if torch.equal(window.flip(1), after)]
        assert len(plain) + len(turned) == 1
        offsets.update(plain or turned)
        mirrored += len(turned)
    side = 2 * REACH[name] + 1
    assert len(offsets) > 0.9 * side**2
    assert (REACH[name], REACH[name]) in offsets, "staying in place is possible"
    assert mirrored == 0 if name == "shift" else 100 < mirrored < 200


def test_one_from_outside_is_named_in_a_training(tmp_path, monkeypatch):
    from edgecr.training.loop import fit
    from edgecr.training.losses import CrossEntropy
    from tests.workplace import context, network, options

    monkeypatch.setattr(augmentations, "_items", dict(augmentations._items))
    seen = []

    @augmentations.register("darken")
    def darken(images, generator):
        seen.append(images.shape)
        return images // 2

    history = fit(network(), options(epochs=1, augment="darken"), CrossEntropy(), context(tmp_path))
    assert history.augment == "darken"
    assert len(seen) == history.steps_per_epoch


def test_normalisation_is_the_preprocessing_with_channels_last():
    shape = Preprocessing((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), (9, 9))
    given = images(20)
    found = Inputs(shape, torch.device("cpu")).augmented(given, augmentations.get("none"), 0)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), shape.apply(given.numpy()), atol=2e-6)

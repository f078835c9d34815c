import numpy as np
import pytest

from edgecr.core.errors import RequestError, UnknownName
from edgecr.robustness.apply import corrupt, image_seed
from edgecr.robustness.conditions import CLEAN, Albumentation
from edgecr.robustness.suites import FOG, GAUSS, ISO, PIXEL_DROPOUT, RGB_SHIFT, suites

EVERY = [GAUSS, ISO, RGB_SHIFT, PIXEL_DROPOUT, FOG]


@pytest.fixture(scope="module")
def images():
    """Mid-grey with structure, away from the ends, so that clipping does not blur the figures."""
    return np.random.default_rng(0).integers(60, 190, (24, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("corruption", EVERY, ids=lambda each: each.name)
def test_shape_dtype_and_order_do_not_matter(corruption, images):
    before = images.copy()
    whole = corrupt(images, range(24), corruption, seed=3)
    assert whole.dtype == np.uint8
    assert whole.shape == images.shape
    assert (images == before).all()
    backwards = [5, 2, 0]
    assert (corrupt(images[backwards], backwards, corruption, seed=3) == whole[backwards]).all()
    assert (corrupt(images, range(24), corruption, seed=4) != whole).any()
    assert (whole != images).any()


def test_two_images_get_different_noise(images):
    same = np.repeat(images[:1], 2, axis=0)
    first, second = corrupt(same, [0, 1], ISO, seed=0)
    assert (first != second).any()


def test_gauss_is_practically_no_noise(images):
    error = np.abs(corrupt(images, range(24), GAUSS, 0).astype(int) - images)
    assert error.mean() == pytest.approx(0.25, abs=0.15)
    assert error.max() <= 8


def test_rgb_shift_moves_each_channel_by_at_most_20(images):
    moved = corrupt(images, range(24), RGB_SHIFT, 0).astype(int) - images
    assert np.abs(moved).max() <= 20
    assert (moved.std(axis=(1, 2)) < 1e-9).all()
    assert np.abs(moved.mean(axis=(1, 2))).max() > 10


def test_pixel_dropout_blackens_one_pixel_in_a_hundred(images):
    spoiled = corrupt(images, range(24), PIXEL_DROPOUT, 0)
    black = (spoiled == 0).all(axis=3)
    assert black.mean() == pytest.approx(0.01, abs=0.003)
    assert (spoiled[~black] == images[~black]).all()


def test_fog_brightens_strongly(images):
    dark = images // 2
    assert (corrupt(dark, range(24), FOG, 0).astype(int) - dark).mean() > 5


@pytest.mark.parametrize(
    "bad",
    [
        Albumentation(name="old_name", transform="GaussNoise", arguments={"var_limit": (0, 2)}),
        Albumentation(name="old_fog", transform="RandomFog", arguments={"fog_coef_lower": 0.3}),
        Albumentation(name="wild", transform="PixelDropout", arguments={"dropout_prob": 7}),
        Albumentation(name="nothing", transform="NoSuchTransform"),
    ],
    ids=lambda each: each.name,
)
def test_a_wrong_argument_is_an_error(bad, images):
    with pytest.raises(RequestError, match=bad.name):
        corrupt(images[:1], [0], bad, 0)


def test_seeds_depend_on_each_part():
    seeds = {image_seed(s, i, n) for s in (0, 1) for i in (0, 1) for n in ("a", "b")}
    assert len(seeds) == 8


def test_an_image_has_the_seed_that_it_always_had():
    """Published figures stay comparable: the seed is a hash of the run's seed, the index and the condition's name."""
    assert image_seed(3, 5, "fog") == 7916154223074937143
    assert image_seed(3, 5, "rgb_shift") == 744793472550246338


def test_noise5_is_declared_as_published():
    suite = suites.get("noise5")
    assert suite.conditions == (CLEAN, "gauss", "iso", "rgb_shift", "pixel_dropout", "fog")
    assert suite.lines()[0].startswith("gauss: GaussNoise(std_range=(0.0, 0.00554")
    with pytest.raises(UnknownName, match="noise5"):
        suites.get("noise")

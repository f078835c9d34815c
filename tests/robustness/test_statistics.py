import numpy as np
import pytest

from edgecr.robustness import statistics
from edgecr.robustness.statistics import mean_difference, mean_distance, mean_share, paired_difference, wilson


def test_wilson_knows_its_textbook_value():
    estimate = wilson(15, 148)
    assert estimate.value == pytest.approx(15 / 148)
    assert (estimate.low, estimate.high) == pytest.approx((0.0624, 0.1605), abs=1e-4)


def test_wilson_stays_honest_at_the_ends():
    full = wilson(3, 3)
    assert full.high == 1.0
    assert full.low < 0.5


@pytest.mark.parametrize("images", [40, 200, 1000, 10_000])
@pytest.mark.parametrize("wrong", [0.17, 0.5, 1.0, 2.0, 3.5, 10.0, 19.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_interval_of_an_accuracy_covers_the_truth(images, wrong, mirrored):
    """With 0.17 wrong answers to expect, Wilson's own interval covers the truth in 84 % of the cases."""
    share = wrong / images if mirrored else 1 - wrong / images
    counts, times = np.unique(np.random.default_rng(7).binomial(images, share, 4000), return_counts=True)
    covered = [(found := wilson(int(count), images)).low <= share <= found.high for count in counts]
    assert np.average(covered, weights=times) >= 0.93


def test_one_wrong_image_by_hand():
    assert 1 - wilson(999, 1000).high == pytest.approx(-np.log(0.95) / 1000, rel=1e-6)
    assert wilson(1, 1000).low == pytest.approx(-np.log(0.95) / 1000, rel=1e-6)


@pytest.mark.parametrize(("hard", "lost"), [(0.02, 0.5), (0.05, 0.9), (0.1, 0.2)])
def test_the_interval_of_a_suite_mean_covers_the_truth_when_few_images_are_lost(hard, lost):
    generator, covered = np.random.default_rng(8), []
    for _ in range(600):
        chance = np.where(generator.random(400) < hard, lost, 0.0)
        share = (generator.random((5, 400)) < chance).mean(axis=0)
        difference, accuracy = mean_difference(-share), mean_share(1 - share)
        truth = 1 - hard * lost
        covered.append((difference.low <= truth - 1 <= difference.high, accuracy.low <= truth <= accuracy.high))
    assert min(np.mean(covered, axis=0)) >= 0.93


def restricted_lost_share(gained, lost, images, difference):
    """The lost share of greatest likelihood under a supposed difference, by brute force."""
    share = np.linspace(max(0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9, 2_000_001)
    likelihood = (
        gained * np.log(share + difference)
        + lost * np.log(share)
        + (images - gained - lost) * np.log1p(-2 * share - difference)
    )
    return share[likelihood.argmax()]


@pytest.mark.parametrize(("gained", "lost", "images"), [(12, 2, 50), (3, 9, 40)])
def test_both_ends_are_where_the_score_statistic_reaches_the_normal_quantile(gained, lost, images):
    estimate = paired_difference(gained, lost, images)
    for end, quantile in ((estimate.low, 1.959964), (estimate.high, -1.959964)):
        share = restricted_lost_share(gained, lost, images, end)
        deviation = (images * (2 * share + end * (1 - end))) ** 0.5
        assert (gained - lost - images * end) / deviation == pytest.approx(quantile, abs=1e-3)


def test_no_disagreement_still_leaves_doubt():
    estimate = paired_difference(0, 0, 100)
    assert estimate.value == 0
    assert estimate.low == pytest.approx(-0.037, abs=1e-3)
    assert estimate.high == pytest.approx(0.037, abs=1e-3)


@pytest.mark.parametrize(
    ("gained", "lost", "images"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (0, 5, 5),
        (3, 9, 40),
        (100, 300, 9000),
    ],
)
def test_the_interval_holds_the_point_and_mirrors(gained, lost, images):
    here, there = paired_difference(gained, lost, images), paired_difference(lost, gained, images)
    assert -1 <= here.low <= here.value <= here.high <= 1
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


@pytest.mark.parametrize(("gain", "loss", "images"), [(0.03, 0.05, 40), (0.02, 0.02, 200), (0.0, 0.02, 100)])
def test_paired_interval_covers_the_truth(gain, loss, images):
    generator = np.random.default_rng(1)
    draws = generator.multinomial(images, [gain, loss, 1 - gain - loss], 600)
    covered = [
        e.low - 1e-12 <= gain - loss <= e.high + 1e-12
        for e in (paired_difference(int(g), int(x), images) for g, x, _ in draws)
    ]
    assert np.mean(covered) >= 0.93


def test_suite_mean_covers_the_truth_though_corruptions_share_images():
    generator, covered = np.random.default_rng(2), []
    for _ in range(600):
        hard = generator.random(120) < 0.3  # a hard image is hard under every corruption
        lost = (generator.random((5, 120)) < np.where(hard, 0.4, 0.02)).mean(axis=0)
        estimate = mean_difference(-lost)
        covered.append(estimate.low <= -(0.3 * 0.4 + 0.7 * 0.02) <= estimate.high)
    assert np.mean(covered) >= 0.93


def test_means_are_seeded_and_never_of_zero_width():
    values = np.random.default_rng(0).choice([0.0, 0.2, 1.0], 50)
    assert mean_share(values) == mean_share(values)
    same = mean_difference(np.zeros(30))
    assert same.low < 0 < same.high
    right = mean_share(np.ones(30))
    assert right.low < 0.95
    assert right.high == 1.0


def test_more_confidence_is_wider():
    assert paired_difference(5, 9, 100, 0.99).low < paired_difference(5, 9, 100, 0.9).low


def test_a_mean_distance_has_no_interval_where_few_images_deviate():
    distances = np.zeros(500)
    distances[:3] = 2.0
    found = mean_distance(distances)
    assert (found.value, found.low, found.high) == (0.012, None, None)
    distances[:12] = 2.0
    assert mean_distance(distances).low > 0


@pytest.mark.parametrize("images", [300, 20_000])
def test_merging_neighbours_keeps_the_mean_and_the_spread(images):
    values = np.random.default_rng(0).lognormal(-5, 2, images)
    merged, counts = statistics._merged(*np.unique(values, return_counts=True))
    assert len(merged) <= statistics.DISTINCT
    assert counts.sum() == images
    assert (np.diff(merged) > 0).all()
    mean = (merged * counts).sum() / images
    assert mean == pytest.approx(values.mean())
    assert np.sqrt((counts * (merged - mean) ** 2).sum() / images) == pytest.approx(values.std(), rel=0.003)

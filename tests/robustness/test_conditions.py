import json
from functools import partial

import numpy as np
import pytest

from edgecr.core.errors import RequestError, WorkError
from edgecr.core.names import is_name
from edgecr.robustness.apply import corrupt
from edgecr.robustness.conditions import Computed, Condition, Suite, averages, in_words
from edgecr.robustness.suites import FOG, suites


def shade(image, random, by, spread=0):
    return (image * by + random.integers(0, spread + 1, image.shape)).clip(0, 255).astype(np.uint8)


def darker(**options):
    return Computed(name="darker", levels={2: {"by": 0.5}, 1: {"by": 0.9}}, function=shade, **options)


IMAGES = np.random.default_rng(0).integers(0, 200, (3, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(("condition", "name"), [(Condition("rgb_shift"), "rgb_shift"), (Condition("fog", 3), "fog-3")])
def test_a_condition_has_one_name_that_suits_files(condition, name):
    assert condition.name == name
    assert is_name(name)
    assert Condition.parse(name) == condition


def test_the_conditions_of_the_first_suite_keep_their_names():
    suite = suites.get("noise5")
    assert suite.conditions == ("clean", "gauss", "iso", "rgb_shift", "pixel_dropout", "fog")
    assert suite.identity() == suite.lines()
    assert suite.severities == ()


def test_severities_are_conditions_from_the_mildest_on():
    suite = Suite("both", "a test", (FOG, darker()))
    assert suite.conditions == ("clean", "fog", "darker-1", "darker-2")
    assert suite.severities == (1, 2)
    assert suite.lines()[1:] == ["darker-1: shade(by=0.9)", "darker-2: shade(by=0.5)"]
    assert suite.identity()[2].startswith("darker-2: shade(by=0.5) [")
    assert Suite("hard", "a test", (darker().at(2),)).conditions == ("clean", "darker-2")


def test_each_severity_has_arguments_and_randomness_of_its_own():
    noisy = darker(arguments={"spread": 20})
    one, two = (corrupt(IMAGES, range(3), noisy, 0, severity) for severity in (1, 2))
    assert one.mean() > two.mean()
    noise = [image.astype(int) - (IMAGES * by).astype(int) for image, by in ((one, 0.9), (two, 0.5))]
    assert (noise[0] != noise[1]).any()
    assert (corrupt(IMAGES[[2]], [2], noisy, 0, 1) == one[[2]]).all()
    assert (corrupt(IMAGES, range(3), noisy, 1, 1) != one).any()


@pytest.mark.parametrize("name", ["clean", "mean", "fog-3", "Fog", "a b", "", "../x", "3d", "x" * 99])
def test_names_that_a_corruption_cannot_have(name):
    with pytest.raises(ValueError, match="cannot name a corruption"):
        Computed(name=name, arguments={"by": 1}, function=shade)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: darker().at(3), r"has the severities \[1, 2\], not \[3\]"),
        (lambda: darker().at(), "has the severities"),
        (lambda: FOG.at(1), r"has the severities \[\], not \[1\]"),
        (lambda: darker(arguments={"depth": 1}), "unexpected keyword argument 'depth'"),
        (lambda: Computed(name="darker", function=shade), "missing a required argument: 'by'"),
        (lambda: Computed(name="darker", levels={0: {"by": 1}}, function=shade), "whole numbers from 1 on"),
        (lambda: Computed(name="darker", levels={True: {"by": 1}}, function=shade), "whole numbers from 1 on"),
        (lambda: Suite("two", "a test", (darker().at(1), darker().at(2))), "names 'darker' twice"),
        (lambda: Suite("a/b", "a test"), "cannot name a suite"),
    ],
)
def test_declarations_that_are_wrong_are_told_where_they_stand(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("function", "problem", "words"),
    [
        (lambda image, random: image / 2, RequestError, "gave float64 of shape"),
        (lambda image, random: image[1:], RequestError, "must give uint8 of shape"),
        (lambda image, random: None, RequestError, "gave NoneType"),
        (lambda image, random: image[99], WorkError, "failed: IndexError"),
    ],
)
def test_a_corruption_that_gives_no_image_is_named(function, problem, words):
    with pytest.raises(problem, match=f"Corruption 'odd'.*{words}"):
        corrupt(IMAGES, range(3), Computed(name="odd", function=function), 0)


def test_the_figures_of_a_suite():
    assert averages(["clean"]) == {"clean": ("clean",)}
    assert averages(["clean", "fog", "dark-1", "dark-2", "iso-4"]) == {
        "clean": ("clean",),
        "fog": ("fog",),
        "dark-1": ("dark-1",),
        "dark-2": ("dark-2",),
        "dark-mean": ("dark-1", "dark-2"),
        "iso-4": ("iso-4",),
        "mean": ("fog", "dark-1", "dark-2", "iso-4"),
    }


def test_figures_in_words():
    names = ("clean", "rgb_shift", "fog-3", "fog-mean", "mean")
    words = ["clean", "rgb shift", "fog, severity 3", "fog, mean of the severities", "mean of the corruptions"]
    assert [in_words(name) for name in names] == words


# The code behind a corruption


def made(value, other=None):
    def spoil(image, random, by=1, *, at=2):
        return (image, value, other)

    return spoil


def code(function):
    return Computed(name="made", function=function).code


def with_defaults(by, at):
    function = made(1)
    function.__defaults__, function.__kwdefaults__ = (by,), {"at": at}
    return function


def typed(text):
    """A function as typed at a prompt: nobody has its source."""
    names = {}
    exec(f"def spoil(image, random):\n    return {text}", names)
    return names["spoil"]


CHANGED = [
    (made(1), made(2)),
    (made(1), made(True)),
    (made("a"), made(b"a")),
    (made((1, 2)), made([1, 2])),
    (made({"a": {1}}), made({"a": {2}})),
    (made(np.arange(3)), made(np.arange(3.0))),
    (made(np.zeros((2, 3))), made(np.zeros((3, 2)))),
    (made(np.float32(1)), made(np.float64(1))),
    (made(made(1)), made(made(2))),
    (made(partial(shade, by=1)), made(partial(shade, by=2))),
    (made(np.add), made(np.subtract)),
    (made(np), made(json)),
    (made(1, 2), made(2, 1)),
    (with_defaults(1, 2), with_defaults(2, 2)),
    (with_defaults(1, 2), with_defaults(1, 3)),
    (typed("image + 1"), typed("image + 2")),
    (typed("image.sum()"), typed("image.max()")),
    (typed("[i + 1 for i in image]"), typed("[i + 2 for i in image]")),
]


@pytest.mark.parametrize(("one", "other"), CHANGED)
def test_a_function_that_was_made_otherwise_is_another(one, other):
    assert code(one) != code(other)


def recursive(depth):
    def spoil(image, random):
        return spoil(image, random) if depth else image

    return spoil


@pytest.mark.parametrize(
    "make",
    [
        lambda: made({"b": np.arange(4), "a": {"x", "y", "z"}}, made(3)),
        lambda: typed("image + 0.5"),
        lambda: recursive(3),
        lambda: with_defaults(None, ...),
    ],
)
def test_the_same_function_made_again_is_the_same(make):
    assert code(make()) == code(make())


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.random.default_rng(0), iter([1])])
def test_what_no_text_stands_for_is_refused(value):
    with pytest.raises(RequestError, match="no text tells when that changes"):
        code(made(value))

"""The keys of a run's stages change with all that a stage depends on, and with nothing else."""

import pytest

from edgecr.exporters.base import load_target, parse_target
from edgecr.recipe import Recipe
from edgecr.runners.device import Device, load_device
from edgecr.stages.asked import Asked, answers_key, export_key, measure_stage, measurement_key, robustness_stage

DEVICE = Device.parse({"name": "a", "purpose": "tests", "kind": "cpu", "transport": {"kind": "local"}})
TARGET = parse_target({"name": "a", "purpose": "tests", "format": "onnx"})
FILES = {"baseline": "1", "candidate": "2"}
MEASURED = {"device": DEVICE, "batches": (1, 2), "launches": None, "rounds": None, "files": FILES}
EXPORTED = {"target": TARGET, "proof": "p", "subject": ("s", "t")}


@pytest.mark.parametrize(
    "change",
    [
        {"device": DEVICE.model_copy(update={"align": 4})},
        {"batches": (1,)},
        {"batches": (2, 1)},
        {"launches": 3},
        {"rounds": 3},
        {"files": FILES | {"baseline": "2"}},
        {"files": FILES | {"candidate": "1"}},
        {"files": {"baseline": "2", "candidate": "1"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_measurement_depends_on(change):
    assert measurement_key(**MEASURED) == measurement_key(**MEASURED | {"files": dict(FILES)})
    assert measurement_key(**MEASURED | change) != measurement_key(**MEASURED)


def test_launches_and_rounds_are_told_apart():
    assert measurement_key(**MEASURED | {"launches": 3}) != measurement_key(**MEASURED | {"rounds": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"target": parse_target(TARGET.plain() | {"name": "b"})},
        {"proof": "q"},
        {"subject": ("s", "u")},
        {"subject": ("u", "t")},
    ],
)
def test_an_export_depends_on(change):
    assert export_key(**EXPORTED | change) != export_key(**EXPORTED)


def test_answers_depend_on_their_question_and_the_number_of_images():
    keys = {answers_key(question, images) for question in ("a", "b") for images in (None, 5, 6)}
    assert len(keys) == 6


def test_the_stages_of_a_run_are_those_of_every_target_on_every_device():
    recipe = Recipe.parse(
        {
            "name": "x",
            "model": {"arch": "resnet20"},
            "data": {"name": "digits"},
            "export": ["onnx", "onnx-embedded"],
            "measure": {"devices": ["cpu", "cpu2"]},
            "robustness": {"suites": ["noise5", "clean"]},
        }
    )
    targets, devices = tuple(map(load_target, recipe.export)), tuple(map(load_device, recipe.measure.devices))
    asked = Asked(recipe, targets, devices, "", "", "")
    pairs = [(place, target) for target in recipe.export for place in ("cpu", "cpu2")]
    answers = [(suite, target) for target in recipe.export for suite in ("noise5", "clean")]
    found = asked.stages()
    assert len(found) == len(set(found))
    assert [name for name in found if name.startswith("measure-")] == [measure_stage(*pair) for pair in pairs]
    assert [name for name in found if name.startswith("robustness-")] == [robustness_stage(*pair) for pair in answers]
    assert [name for name in found if name.startswith("export-")] == [
        f"export-{target}-{role}" for target in recipe.export for role in ("baseline", "candidate")
    ]

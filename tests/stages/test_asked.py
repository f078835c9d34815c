"""The keys of a run's stages change with all that a stage depends on, and with nothing else."""

import pytest

from edgecr.exporters.base import parse_target
from edgecr.runners.device import Device
from edgecr.stages.asked import answers_key, export_key, measurement_key

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

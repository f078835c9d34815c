"""Every version of TensorRT gets flags that it knows; none loads a library or leaves the agent's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed, FileProblem
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt import commands
from edgecr.runners.tensorrt.build_file import BuildFile
from edgecr.runners.tensorrt.commands import Places, TrtVersion
from tests.runners.jetson import write_artifact
from tests.runners.jetson.fake_trtexec import FLAGS, known

PLACES, SHAPE = Places("abc/model.onnx"), "x:1x3x8x8"
BANNERS = {"8001": "8.0.1", "8201": "8.2.1", "8401": "8.4.1", "8502": "8.5.2", "8601": "8.6.1", "100300": "10.3.0",
           "101003": "10.10.3", "101602": "10.16.2", "110401": "11.4.1"}  # fmt: skip
TARGETS = {8: "tensorrt-jetpack5-int8", 10: "tensorrt-jetpack7-int8", 11: "tensorrt-jetpack7-int8"}


@pytest.mark.parametrize("digits", BANNERS)
def test_a_banner_is_read(digits: str) -> None:
    assert str(TrtVersion.of(digits)) == BANNERS[digits]


@pytest.mark.parametrize("digits", BANNERS)
def test_every_version_gets_flags_that_it_knows_and_paths_in_the_agents_folder(digits: str, tmp_path: Path) -> None:
    version, options = TrtVersion.of(digits), TensorRtOptions(dla=None if digits == "110401" else 0)
    file = BuildFile.beside(write_artifact(tmp_path / "a", target=TARGETS[version.major]))
    lines = [
        commands.build_flags(version, options, file, PLACES),
        commands.turn_flags(version, options, PLACES, SHAPE, 0.3, streams=2),
        commands.layer_flags(version, options, PLACES, SHAPE, 0.3),
        commands.answer_flags(version, options, PLACES, SHAPE, "x"),
        commands.probe_flags(),
    ]
    for flag in [flag for line in lines for flag in line]:
        name, _, value = flag.removeprefix("--").partition("=")
        assert name in FLAGS, flag
        assert known(name, digits), flag
        if "/" in value or "." in value.partition("@")[2]:
            assert "@" in value, flag


def test_the_precision_is_asked_for_where_the_file_does_not_decide_it(tmp_path: Path) -> None:
    def asked(digits: str, target: str) -> set[str]:
        file = BuildFile.beside(write_artifact(tmp_path / f"{digits}{target}", target=target))
        flags = commands.build_flags(TrtVersion.of(digits), TensorRtOptions(), file, PLACES)
        return {flag for flag in flags if flag in ("--fp16", "--int8", "--stronglyTyped", "--noTF32")}

    assert asked("8502", "tensorrt-jetpack5-int8") == {"--fp16", "--int8"}
    assert asked("8502", "tensorrt-jetpack5-fp16") == {"--fp16"}
    assert asked("100300", "tensorrt-jetpack6-int8") == {"--stronglyTyped"}
    assert asked("110401", "tensorrt-jetpack7-int8") == set()
    assert asked("101602", "tensorrt-jetpack7-fp32") == {"--stronglyTyped", "--noTF32"}


def test_lengths_of_time_are_whole_seconds_where_fractions_are_not_read() -> None:
    options = TensorRtOptions()
    assert "--duration=0.3" in commands.turn_flags(TrtVersion(8, 4, 1), options, PLACES, None, 0.3)
    assert "--duration=1" in commands.turn_flags(TrtVersion(8, 2, 1), options, PLACES, None, 0.3)


def test_a_device_overrides_the_workspace_of_a_file(tmp_path: Path) -> None:
    file = BuildFile.beside(write_artifact(tmp_path / "a"))
    new, old = TrtVersion(10, 3, 0), TrtVersion(8, 2, 1)
    assert "--memPoolSize=workspace:1024" in commands.build_flags(new, TensorRtOptions(), file, PLACES)
    assert "--memPoolSize=workspace:256" in commands.build_flags(new, TensorRtOptions(workspace_mb=256), file, PLACES)
    older = BuildFile.beside(write_artifact(tmp_path / "b", target="tensorrt-jetpack4-fp16"))
    assert "--workspace=256" in commands.build_flags(old, TensorRtOptions(workspace_mb=256), older, PLACES)


@pytest.mark.parametrize(
    "flag", ["--plugins=/tmp/x.so", "--staticPlugins=/tmp/x.so", "--exportTimes=/etc/passwd", "--loadEngine=/x"]
)
def test_a_file_cannot_have_a_library_loaded_or_another_file_written(flag: str, tmp_path: Path) -> None:
    model = write_artifact(tmp_path / "a")
    place = model.parent / "build.json"
    recipe = json.loads(place.read_text())
    for version in recipe["versions"].values():
        version["trtexec"].append(flag)
    place.write_text(json.dumps(recipe))
    with pytest.raises(FileProblem, match="is not taken from a file"):
        commands.build_flags(TrtVersion(10, 3, 0), TensorRtOptions(), BuildFile.beside(model), PLACES)


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": 2},
        {"versions": {}},
        {"versions": {"ten": {"trtexec": [], "workspace_bytes": 1 << 30}}},
        {"versions": {"10.3": {"trtexec": ["rm -rf /"], "workspace_bytes": 1 << 30}}},
        {"versions": {"10.3": {"trtexec": ["--onnx=@../../x"], "workspace_bytes": 1 << 30}}},
        {"versions": {"10.3": {"trtexec": ["--noTF32"], "workspace_bytes": 0}}},
        {"profile": {"min": [0, 3], "opt": [1, 3], "max": [1, 3]}, "versions": 7},
    ],
)
def test_a_damaged_recipe_is_a_file_problem(damage: dict, tmp_path: Path) -> None:
    model = write_artifact(tmp_path / "a")
    place = model.parent / "build.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | damage))
    with pytest.raises(FileProblem, match="is not a recipe of an engine"):
        BuildFile.beside(model)


def test_a_file_for_another_generation_is_refused(tmp_path: Path) -> None:
    file = BuildFile.beside(write_artifact(tmp_path / "a"))
    with pytest.raises(DeviceFailed, match=r"is for TensorRT 10\.3, but the board has TensorRT 8\. Export"):
        commands.build_flags(TrtVersion(8, 5, 2), TensorRtOptions(), file, PLACES)


def test_a_model_without_a_recipe_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="Export the model for a TensorRT target"):
        BuildFile.beside(tmp_path / "model.onnx")


@pytest.mark.parametrize(("exact", "refused"), [((10, 7, 0), 0), ((11, 0, 0), 1), ((11, 4, 0), 1), ((11, 4, 1), 0)])
def test_versions_without_the_accelerator_are_refused(exact: tuple[int, int, int], refused: int) -> None:
    version = TrtVersion(*exact)
    commands.refuse_unknown(version, TensorRtOptions())
    if refused:
        with pytest.raises(DeviceFailed, match=r"has no DLA; use 10\.7 or earlier"):
            commands.refuse_unknown(version, TensorRtOptions(dla=0))
    else:
        commands.refuse_unknown(version, TensorRtOptions(dla=0))


def test_an_input_whose_name_trtexec_would_misread_is_refused() -> None:
    assert commands.shapes_of("input.1", (2, 3)) == "input.1:2x3"
    for name in ("a:b", "a,b", "@a", "a b"):
        with pytest.raises(FileProblem, match="cannot be named to trtexec"):
            commands.shapes_of(name, (1,))


def test_what_is_measured_is_the_same_in_every_version() -> None:
    steady = {"--noDataTransfers", "--useSpinWait", "--useCudaGraph"}
    for version, asked in (
        (TrtVersion(8, 2, 1), steady),
        (TrtVersion(10, 3, 0), steady),
        (TrtVersion(11, 4, 1), set()),
    ):
        flags = commands.turn_flags(version, TensorRtOptions(), PLACES, None, 1)
        assert steady & set(flags) == asked
        assert not {"--includeDataTransfers", "--noSpinWait", "--noCudaGraph"} & set(flags)

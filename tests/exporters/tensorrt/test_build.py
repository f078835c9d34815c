"""The words that each version of TensorRT has for one build."""

from __future__ import annotations

import pytest

from edgecr.exporters.tensorrt.build import recipe
from tests.exporters.tensorrt.conftest import target

INPUT = {"name": "input", "shape": [None, 3, 8, 8]}


def versions(jetpack, **options):
    return recipe(target(jetpack, **options), "model.onnx", INPUT)["versions"]


def test_each_version_is_told_in_its_own_words():
    made = {name: each["trtexec"] for jetpack in (4, 5, 6, 7) for name, each in versions(jetpack).items()}
    assert list(made) == ["8.2", "8.5", "10.3", "10.13", "10.16", "11.4"]
    assert {name for name, flags in made.items() if "--workspace=1024" in flags} == {"8.2"}
    assert {name for name, flags in made.items() if "--buildOnly" in flags} == {"8.2", "8.5"}
    assert {name for name, flags in made.items() if "--skipInference" in flags} == {"10.3", "10.13", "10.16", "11.4"}
    assert {name for name, flags in made.items() if "--stronglyTyped" in flags} == {"10.3", "10.13", "10.16"}
    assert {name for name, flags in made.items() if "--profilingVerbosity=detailed" in flags} == made.keys() - {"8.2"}
    for flags in made.values():
        assert {"--onnx=model.onnx", "--saveEngine=model.engine", "--timingCacheFile=timing.cache", "--noTF32"} <= {
            *flags
        }


@pytest.mark.parametrize(
    ("jetpack", "precision", "flags"),
    [
        (4, "fp32", set()), (4, "fp16", {"--fp16"}), (5, "int8", {"--fp16", "--int8"}),
        (6, "fp16", set()), (6, "int8", set()), (7, "int8", set()),
    ],
)  # fmt: skip
def test_precisions_are_flags_only_where_the_file_does_not_decide(jetpack, precision, flags):
    for version in versions(jetpack, precision=precision).values():
        assert {"--fp16", "--int8", "--best"} & {*version["trtexec"]} == flags
        assert {f"--{name.lower()}" for name in version["builder_flags"]} == flags
        assert version["network_flags"] == (["EXPLICIT_BATCH"] if jetpack < 6 else ["STRONGLY_TYPED"])
        assert version["builder_flags_off"] == (["TF32"] if precision == "fp32" else [])


def test_memory_and_sparsity_are_passed_on():
    (version,) = versions(6, precision="fp16", workspace_mb=512, sparsity=True).values()
    assert {"--memPoolSize=workspace:512", "--sparsity=enable"} <= {*version["trtexec"]}
    assert (version["workspace_bytes"], version["builder_flags"]) == (512 * 2**20, ["SPARSE_WEIGHTS"])


def test_every_version_names_its_source():
    assert all(f"version {name}" in each["source"] for name, each in versions(7).items())

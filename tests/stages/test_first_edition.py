"""Runs that were exported by the first edition are judged as they were."""

import json
import shutil
from dataclasses import replace

from edgecr.core.files import sha256, write_json
from edgecr.exporters import Artifact
from edgecr.exporters.artifact import MANIFEST
from edgecr.exporters.stored_proof import PROOF
from edgecr.report.result import Verdict
from edgecr.run import ROLES, Run
from edgecr.stages.export import exports
from edgecr.stages.judge import judged
from tests.exporters.test_base import first_schema


def vouch(run, role):
    """Makes the record of an export vouch for its folder as it is now."""
    folder, stage = run.export("onnx") / role, run.stage(f"export-onnx-{role}")
    files = {file.relative_to(run.folder).as_posix(): sha256(file) for file in folder.iterdir()}
    write_json(stage, json.loads(stage.read_text()) | {"outputs": files})


def test_a_run_with_manifests_of_the_first_schema_ships(small_run, tmp_path):
    run = Run(shutil.copytree(small_run, tmp_path / small_run.name))
    for role in ROLES:
        artifact = Artifact.within(run.export("onnx") / role)
        artifact.path.with_name(PROOF).unlink()
        replace(artifact, evidence={}).save()
        vouch(run, role)
    before = judged(run)
    for role in ROLES:
        first_schema(run.export("onnx") / role / MANIFEST)
        vouch(run, role)
    after = judged(run)
    assert after.verdict is before.verdict is Verdict.SHIP
    assert after == before
    files = exports(run, "onnx")
    assert files.changed == ()
    assert files.hashes == {role: Artifact.within(run.export("onnx") / role).sha256 for role in ROLES}

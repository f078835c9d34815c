"""Runs that were exported by the first edition are judged as they were."""

import json
import shutil

from edgecr.core.files import sha256
from edgecr.exporters import Artifact
from edgecr.report.result import Verdict
from edgecr.run import ROLES, Run
from edgecr.stages.export import exports
from edgecr.stages.judge import judged
from tests.exporters.test_base import first_schema


def test_a_run_with_manifests_of_the_first_schema_ships(small_run, tmp_path):
    run = Run(shutil.copytree(small_run, tmp_path / small_run.name))
    before = judged(run)
    for role in ROLES:
        manifest = run.export("onnx") / role / "model.manifest.json"
        first_schema(manifest)
        stage = run.stage(f"export-onnx-{role}")
        record = json.loads(stage.read_text())
        record["outputs"][manifest.relative_to(run.folder).as_posix()] = sha256(manifest)
        stage.write_text(json.dumps(record))
    after = judged(run)
    assert after.verdict is before.verdict is Verdict.SHIP
    assert after == before
    files = exports(run, "onnx")
    assert files.changed == ()
    assert files.hashes == {role: Artifact.within(run.export("onnx") / role).sha256 for role in ROLES}

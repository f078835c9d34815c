from __future__ import annotations

import pytest

from edgecr.exporters import Artifact
from tests.exporters.tiny_subjects import Promise, ThreeLayers, export, subject_of


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Promise, Artifact]:
    """The whole tiny network, exported once for all tests."""
    subject = subject_of(ThreeLayers())
    return subject, export(subject, tmp_path_factory.mktemp("exported"))

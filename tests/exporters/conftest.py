from __future__ import annotations

import pytest
import torch

from edgecr.exporters import Artifact
from tests.exporters.tiny_subjects import Promising, ThreeLayers, export, subject_of


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Promising, Artifact]:
    """The whole tiny network, exported once for all tests."""
    torch.manual_seed(0)
    subject = subject_of(ThreeLayers())
    return subject, export(subject, tmp_path_factory.mktemp("exported"))

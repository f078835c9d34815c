"""A finished run to damage."""

import shutil

import pytest


@pytest.fixture
def run(small_run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(small_run, tmp_path / small_run.name)

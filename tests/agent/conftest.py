from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from edgecr.runners.agent.archive import agent_archive


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the agent from the very bytes that a board gets."""
    archive = tmp_path_factory.mktemp("agent") / "agent.pyz"
    archive.write_bytes(agent_archive())
    sys.path.insert(0, str(archive))
    yield lambda name: importlib.import_module(f"edgecr_agent.{name}")
    sys.path.remove(str(archive))

"""The runtimes a board may have, one file each; nothing of them is imported before it is asked for."""

import importlib
import pkgutil
from typing import List, Type

from .base import Runtime

NOT_RUNTIMES = ("base",)


def names() -> List[str]:
    """The runtimes that came with this agent."""
    return sorted(one for _, one, _ in pkgutil.iter_modules(__path__) if one not in NOT_RUNTIMES)


def find(name: str) -> Type[Runtime]:
    """The runtime of a name; only its own file is imported."""
    if name not in names():
        raise ValueError("the agent has no runtime %r, only %s" % (name, ", ".join(names())))
    kind: Type[Runtime] = importlib.import_module("%s.%s" % (__name__, name)).RUNTIME
    return kind

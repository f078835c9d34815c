"""The hash of a function with all that it was made with: its code, its defaults and what it closes over."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from edgecr.core.errors import RequestError
from edgecr.core.files import fingerprint

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
Known = tuple[int, ...]
"""The functions around a value, which may refer to themselves."""


def code_hash(function: Callable[..., Any]) -> str:
    """The hash; a value that has no stable text is a RequestError, for its change would go unnoticed."""
    return fingerprint(_told(function, ()))[:16]


def _told(value: Any, around: Known) -> Any:
    """The value as plain JSON, equal for equal values only."""
    if isinstance(value, _PLAIN):
        return [type(value).__name__, repr(value)]
    if isinstance(value, FunctionType):
        return ["itself", around.index(id(value))] if id(value) in around else _function(value, (*around, id(value)))
    if isinstance(value, CodeType):
        return _code(value, around)
    if isinstance(value, functools.partial):
        return ["partial", *(_told(part, around) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if isinstance(value, type | BuiltinFunctionType) or type(value).__name__ == "ufunc":
        return ["name", str(getattr(value, "__module__", None)), getattr(value, "__qualname__", value.__name__)]
    return _collection(value, around)


def _collection(value: Any, around: Known) -> Any:
    kind = type(value).__name__
    if isinstance(value, tuple | list):
        return [kind, *(_told(each, around) for each in value)]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(fingerprint(_told(each, around)) for each in value)]
    if isinstance(value, Mapping):
        return [kind, *([_told(key, around), _told(each, around)] for key, each in value.items())]
    if type(value).__module__ == "numpy" and not getattr(value.dtype, "hasobject", True):
        return [kind, str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    raise RequestError(
        f"The function of a corruption uses a {kind}, and no text tells when that changes. Use numbers, text, arrays "
        "and functions in it, or make the object inside of the function."
    )


def _function(function: FunctionType, around: Known) -> Any:
    """The code of a function, its defaults, and the values of the names that it closes over."""
    try:
        code: Any = inspect.getsource(function.__code__)
    except (OSError, TypeError):  # typed at a prompt
        code = _code(function.__code__, around)
    cells = [_cell(cell, around) for cell in function.__closure__ or ()]
    defaults = [_told(each, around) for each in (function.__defaults__, function.__kwdefaults__)]
    return ["function", code, list(function.__code__.co_freevars), cells, *defaults]


def _cell(cell: Any, around: Known) -> Any:
    try:
        return _told(cell.cell_contents, around)
    except ValueError:  # a name that has no value yet
        return None


def _code(code: CodeType, around: Known) -> Any:
    """Compiled code: its instructions name their constants and globals by number only."""
    return ["code", code.co_code.hex(), [_told(each, around) for each in code.co_consts], list(code.co_names)]

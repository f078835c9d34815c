"""The options of a runtime, and the field of a device that holds them by the runtime's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, PlainValidator, SerializeAsAny, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from edgecr.core.errors import UnknownName
from edgecr.core.options import Options
from edgecr.core.registry import Registry


class RuntimeOptions(Options):
    """Settings of a runtime on a device; the fields of a subclass are its YAML keys, recorded with each result."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Python packages of which one is the runtime; the agent tells the version of the one that a board has.

    The agent's own runtimes call themselves by the first one's name.
    """
    agent_module: ClassVar[Path | None] = None
    """The file that runs models on the board, where it is none of those in ``devices/agent/runtimes/``.

    It is sent along with the agent under the runtime's name, must run on Python 3.6, and defines ``RUNTIME``.
    """
    by_tool: ClassVar[bool] = False
    """True where a program of the board times the models: its turns cannot alternate with those of other runtimes."""

    answers: ClassVar[bool] = False
    """True where the agent's file has ``answer``, so that a board is asked itself what it makes of images."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of one inference."""

    @classmethod
    def told_as(cls) -> str | None:
        """The name by which the agent must tell the runtime; None for one that others wrote, and named as they like."""
        return cls.packages[0] if cls.agent_module is None and cls.packages else None

    @property
    def cpu_time_is_latency(self) -> bool:
        """True where processor time equals an undisturbed latency: one thread that never spins, on the processor."""
        return False


runtimes: Registry[type[RuntimeOptions]] = Registry("runtime")


def _declared(values: Any) -> dict[str, RuntimeOptions]:
    """The options of each runtime that is named; null stands for one that the device does not use."""
    if not isinstance(values, Mapping):
        raise PydanticCustomError("mapping", "a mapping from the name of a runtime to its options is required here")
    found, mistakes = dict[str, RuntimeOptions](), list[InitErrorDetails]()
    for name, options in values.items():
        if options is None:
            continue
        try:
            kind = runtimes.get(name)
            found[name] = options if isinstance(options, kind) else kind.parse(options)
        except UnknownName as error:
            unknown = PydanticCustomError("unknown_name", "{message}", {"message": str(error)})
            mistakes.append(InitErrorDetails(type=unknown, loc=(name,), input=options))
        except ValidationError as error:
            mistakes += [_placed(each, name) for each in error.errors(include_url=False)]
    if mistakes:
        raise ValidationError.from_exception_data("runtimes", mistakes)
    return found


def _placed(mistake: Any, name: str) -> InitErrorDetails:
    """A mistake in a runtime's options as one of the whole mapping."""
    loc, context = (name, *mistake["loc"]), mistake.get("ctx", {})
    return InitErrorDetails(type=mistake["type"], loc=loc, input=mistake["input"], ctx=context)


class _KeysOfEach:
    """The schema of the field for messages: the keys of each runtime that is registered."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = {name: handler(runtimes.get(name).__pydantic_core_schema__) for name in runtimes}
        return {"type": "object", "properties": inner}


Runtimes = Annotated[dict[str, SerializeAsAny[RuntimeOptions]], PlainValidator(_declared), _KeysOfEach]
"""The field type of the runtimes of a device: any that is registered, by name."""

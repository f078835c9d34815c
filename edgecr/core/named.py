"""Field types that look a name up in a registry at the moment of the check, so that members may join at any time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, to_jsonable_python

from edgecr.core.errors import UnknownName
from edgecr.core.options import Options
from edgecr.core.registry import Registry


class NameIn:
    """Annotation of a text field: the name of a member of a registry."""

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": self.registry.names()}

    def _known(self, name: str) -> str:
        try:
            self.registry.get(name)
        except UnknownName as error:
            raise ValueError(str(error)) from error
        return name


class OptionsIn:
    """Annotation of an options field: a mapping from the name of one member of a registry to that member's options.

    A bare name means the member's defaults. The checked value is the options themselves.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def members(self) -> dict[str, type[Options]]:
        """The options of every member, by its name."""
        return {name: self.registry.get(name) for name in self.registry}

    def name_of(self, options: Options) -> str:
        """The name that options are registered under."""
        return next(name for name, kind in self.members().items() if kind is type(options))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(self._plain, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._checked, serialization=plain)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        members = {
            name: kind.__get_pydantic_json_schema__(kind.__pydantic_core_schema__, handler)
            for name, kind in self.members().items()
        }
        one = {"type": "object", "properties": members, "additionalProperties": False, "maxProperties": 1}
        return {"anyOf": [{"type": "string", "enum": list(members)}, one]}

    def _checked(self, value: Any) -> Options:
        if isinstance(value, Options) and type(value) in self.members().values():
            return value
        value = {value: None} if isinstance(value, str) else value
        if not isinstance(value, Mapping) or len(value) != 1:
            words = {"kind": self.registry.kind, "known": ", ".join(self.registry.names())}
            raise PydanticCustomError("one_name", "name exactly one {kind}; known: {known}", words)
        ((name, settings),) = value.items()
        try:
            kind = self.registry.get(name)
        except UnknownName as error:
            raise PydanticCustomError("unknown_name", "{message}", {"message": str(error)}) from error
        settings = {} if settings is None else settings
        checked: Options = _holder(name, kind).parse(to_jsonable_python({name: settings})).member
        return checked

    def _plain(self, value: Options, info: SerializationInfo) -> dict[str, Any]:
        inner = value.model_dump(mode=info.mode, exclude_defaults=bool(info.exclude_defaults))
        return {self.name_of(value): inner}


@cache
def _holder(name: str, kind: type[Options]) -> Any:
    """A group with this member as its only key, so that mistakes in the options are placed below the name."""
    member: Any = (Annotated[kind, Field(alias=name)], ...)
    return create_model("Holder", __base__=Options, member=member)

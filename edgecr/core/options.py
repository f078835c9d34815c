"""The base of everything that is written in YAML: frozen, strict, unknown keys are errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    GetJsonSchemaHandler,
    PlainValidator,
    Tag,
    ValidationError,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from edgecr.core.errors import UnknownName
from edgecr.core.option_docs import meanings


class Options(BaseModel):
    """A group of settings; its fields are the keys of the YAML that describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Any) -> Self:
        """Checks plain YAML/JSON values strictly (lists become tuples, text becomes paths; nothing else)."""
        return cls.model_validate_json(json.dumps(values))

    def plain(self) -> dict[str, Any]:
        """The settings as plain JSON values, defaults left out, so a new field never renames a result."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return values

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the meaning of each key, for editors."""
        made: dict[str, Any] = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, meaning in meanings(cls).items():
            if name in properties:
                properties[name].setdefault("description", meaning)
        return made


_LATE = " late"  # no class has such a name


def chosen_by(key: str, kinds: Iterable[type[Options]], kind_of: Callable[[str], type[Options]]) -> Any:
    """A field type whose value of ``key`` decides which kind checks it; a name that ``kind_of`` does not know
    is one mistake, at that key. Kinds that join later, from outside of the package, are checked as well."""
    declared = tuple(dict.fromkeys(kinds))

    def tag(value: Any) -> str:
        kind = found(value)
        if kind is None:
            return ""
        return kind.__name__ if kind in declared else _LATE

    def found(value: Any) -> type[Options] | None:
        if isinstance(value, Options):
            return type(value)
        try:
            return kind_of(value[key])
        except (KeyError, TypeError, AttributeError, UnknownName):
            return None

    def late(value: Any) -> Options:
        return value if isinstance(value, Options) else kind_of(value[key]).parse(value)

    def refuse(value: Any) -> Any:
        mistake = InitErrorDetails(type=_refusal(value, key, kind_of), loc=(key,), input=value)
        raise ValidationError.from_exception_data(key, [mistake])

    members: list[Any] = [Annotated[kind, Tag(kind.__name__)] for kind in declared]
    hidden: Any = SkipJsonSchema  # generic for type checkers only
    members.append(Annotated[Any, PlainValidator(late), hidden(), Tag(_LATE)])
    unknown: Any = Annotated[Any, PlainValidator(refuse), hidden(), Tag("")]
    union: Any = reduce(or_, [*members, unknown])
    return Annotated[union, Discriminator(tag)]


def _refusal(value: Any, key: str, kind_of: Callable[[str], type[Options]]) -> PydanticCustomError:
    """Returns the error for a value that no kind could be chosen for."""
    name = value.get(key) if isinstance(value, dict) else None
    if not isinstance(name, str):
        message = "a mapping with the key {key} (text) is required here"
        return PydanticCustomError("no_kind", message, {"key": key})
    try:
        kind_of(name)
    except UnknownName as error:
        return PydanticCustomError("unknown_name", "{message}", {"message": str(error)})
    raise AssertionError(f"{name!r} is known after all")  # a bug, not a user's mistake

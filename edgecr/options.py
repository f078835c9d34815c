"""The base of everything that is written in YAML: frozen, strict, unknown keys are errors."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self


class Options(BaseModel):
    """A group of settings; its fields are the keys of the YAML that describes it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls, values: Any) -> Self:
        """Checks plain YAML/JSON values strictly (lists become tuples, text becomes paths; no other casts)."""
        return cls.model_validate_json(json.dumps(values))

    def plain(self) -> dict[str, Any]:
        """The settings as plain JSON values, defaults left out, so that a new field never renames a result."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return values

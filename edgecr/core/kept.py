"""Things in this process's memory that a recipe can name: no file holds them, so no other process finds them."""

from __future__ import annotations

from typing import Generic, TypeVar

from edgecr.core.errors import RequestError

Thing = TypeVar("Thing")


class Kept(Generic[Thing]):
    """Things by name; a name must follow from the content, so that the same thing has the same name again."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, Thing] = {}

    def put(self, name: str, thing: Thing) -> None:
        """Keeps a thing for as long as the process lives."""
        self._things[name] = thing

    def get(self, name: str) -> Thing:
        """The thing of that name; one that another process was given is a RequestError."""
        try:
            return self._things[name]
        except KeyError as error:
            raise RequestError(
                f"{self.kind} {name} came from the memory of another Python process and lie in no file; call "
                "edgecr.shrink() with the same again in this one."
            ) from error

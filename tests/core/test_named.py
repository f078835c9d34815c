"""Names that a registry knows at the moment of the check."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import ValidationError

from edgecr.core.named import NameIn, OptionsIn
from edgecr.core.option_text import nested, option_table, type_text
from edgecr.core.options import Options
from edgecr.core.registry import Registry

pets = Registry("pet")


class Cat(Options):
    lives: int = 9
    home: Path | None = None


class Owner(Options):
    pet: Annotated[Options, OptionsIn(pets)] | None = None
    favourite: Annotated[str, NameIn(pets)] = "cat"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(pets, "_items", {})
    pets.register("cat")(Cat)


@pytest.mark.parametrize("given", ["cat", {"cat": {}}, {"cat": None}, Cat()])
def test_a_name_alone_means_the_defaults(given):
    assert Owner.model_validate({"pet": given}).pet == Cat()


def test_settings_come_back_as_they_were_written():
    owner = Owner.parse({"pet": {"cat": {"lives": 3, "home": "box"}}})
    assert owner.pet == Cat(lives=3, home=Path("box"))
    assert owner.plain() == {"pet": {"cat": {"lives": 3, "home": "box"}}}
    assert owner.model_dump()["pet"]["cat"]["home"] == Path("box"), "paths are found in what a step reads"
    assert Owner.parse(owner.plain()) == owner
    assert Owner.parse({"pet": "cat"}).plain() == {"pet": {"cat": {}}}


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"pet": "cta"}, ("pet",), "Unknown pet 'cta'. Did you mean 'cat'?"),
        ({"pet": {"dog": {}}}, ("pet",), "Unknown pet 'dog'. Known: cat."),
        ({"pet": {}}, ("pet",), "name exactly one pet; known: cat"),
        ({"pet": {"cat": {}, "dog": {}}}, ("pet",), "name exactly one pet"),
        ({"pet": 3}, ("pet",), "name exactly one pet"),
        ({"pet": {"cat": []}}, ("pet", "cat"), "should be an object"),
        ({"pet": {"cat": {"lives": 0.5}}}, ("pet", "cat", "lives"), "integer"),
        ({"favourite": "dog"}, ("favourite",), "Unknown pet 'dog'"),
    ],
)
def test_mistakes_have_their_place(given, place, words):
    with pytest.raises(ValidationError) as caught:
        Owner.parse(given)
    (mistake,) = caught.value.errors()
    found = tuple(part for part in mistake["loc"] if not str(part).startswith("function"))
    assert found == place
    assert words in mistake["msg"]


def test_members_may_join_at_any_time():
    with pytest.raises(ValidationError):
        Owner.parse({"pet": "dog"})

    @pets.register("dog")
    class Dog(Options):
        tricks: int = 0

    assert Owner.parse({"pet": {"dog": {"tricks": 1}}, "favourite": "dog"}).pet == Dog(tricks=1)
    assert type_text(Owner.model_fields["pet"].annotation) == "cat, dog or mapping or null"
    assert "| `favourite` | cat, dog | cat |" in option_table(Owner)
    assert [(each.path, each.options) for each in nested(Owner)] == [("pet.cat", Cat), ("pet.dog", Dog)]
    schema = Owner.model_json_schema()
    assert schema["properties"]["favourite"]["enum"] == ["cat", "dog"]
    assert schema["properties"]["pet"]["anyOf"][0]["enum"] == ["cat", "dog"]

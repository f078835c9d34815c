"""The meaning of a key is the string below its field, in lists of options and in the schema for editors."""

from edgecr.core.option_docs import meanings
from edgecr.core.options import Options


class Base(Options):
    """Settings that others add to."""

    first: int = 1
    """The first,
    over two lines."""
    silent: int = 0


class Below(Base):
    """More of them."""

    second: int = 2
    """The second."""


def test_the_texts_of_a_class_and_of_its_bases_are_found_by_the_name_of_the_field() -> None:
    assert meanings(Below) == {"first": "The first,\nover two lines.", "second": "The second."}


def test_a_class_without_source_has_no_texts() -> None:
    made = type("Made", (Base,), {"__annotations__": {"late": int}, "late": 3, "__module__": __name__})
    assert "late" not in meanings(made)
    assert meanings(made)["first"].startswith("The first")


def test_the_schema_tells_the_meaning_of_each_key_and_leaves_the_others_without() -> None:
    keys = Below.model_json_schema()["properties"]
    assert keys["second"]["description"] == "The second."
    assert "description" not in keys["silent"]

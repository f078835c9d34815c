"""The recipe: its schema, how it is read and how it is checked. No torch is imported here."""

from edgecr.recipe.check import LONGEST, checked, complete
from edgecr.recipe.load import DEEPEST_EXTENDS, gather, load_recipe, purpose, source_purpose
from edgecr.recipe.schema import Measure, Positive, Recipe, Robustness, StepBase, as_yaml, editor_schema

__all__ = [
    "DEEPEST_EXTENDS",
    "LONGEST",
    "Measure",
    "Positive",
    "Recipe",
    "Robustness",
    "StepBase",
    "as_yaml",
    "checked",
    "complete",
    "editor_schema",
    "gather",
    "load_recipe",
    "purpose",
    "source_purpose",
]

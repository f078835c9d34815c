"""A docstring says what a thing is or does; one that opens with a question leaves that to the reader."""

import ast
from pathlib import Path

import pytest

import edgecr
from edgecr.core import builtin

QUESTIONS = {"what", "how", "whether", "which", "who", "whose", "whom", "where", "why", "when"}
FOLDERS = {"edgecr": Path(edgecr.__file__).parent, "devices": builtin.folder("devices"), "tests": Path(__file__).parent}


def sentences(tree):
    """Every docstring of a module with its line, those below fields and constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(text := getattr(statement.value, "value", None), str):
                yield statement.lineno, text


def questions(tree):
    """The lines whose docstrings open with a question word."""
    return [
        line for line, text in sentences(tree) if text.split() and text.split()[0].strip(",:.").lower() in QUESTIONS
    ]


@pytest.mark.parametrize("room", FOLDERS)
def test_no_docstring_opens_with_a_question(room):
    folder = FOLDERS[room]
    files = [file for file in sorted(folder.rglob("*.py")) if "_builtin" not in file.relative_to(folder).parts]
    found = [
        f"{room}/{file.relative_to(folder).as_posix()}:{line}"
        for file in files
        for line in questions(ast.parse(file.read_text()))
    ]
    assert files
    assert not found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('"""What it is."""', [1]),
        ('"""It is."""\nclass A:\n    """Whether."""\n    a: int\n    """How many."""', [3, 5]),
        ('def f():\n    """Which of them."""\n', [2]),
        ('"""Whatever happens."""', []),
        ('def f():\n    """Returns what is left."""\n', []),
    ],
)
def test_a_question_is_found(text, lines):
    assert sorted(questions(ast.parse(text))) == lines

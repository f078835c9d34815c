"""The docs are true: the reference is what the code says, links lead somewhere, commands exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
needs_clone = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not part of the wheel")


@needs_clone
def test_the_reference_page_is_what_the_code_says():
    from edgecr.reference import page

    assert (ROOT / "docs" / "reference.md").read_text() == page(), (
        "renew it: python -m edgecr.reference > docs/reference.md"
    )


@needs_clone
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not link.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / link).exists(), link


@needs_clone
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_recipes_in_the_docs_exist(page):
    from edgecr.cli import app
    from edgecr.reference import commands

    known = {name.split()[0] for name in commands(app)}
    text = page.read_text()
    for command in re.findall(r"^\s*(?:\$ )?edgecr ([a-z-]+)", text, re.M):
        assert command in known, command
    for recipe in re.findall(r"recipes/([\w/-]+)\.yaml", text):
        assert re.search(r"(^|/)x$", recipe) or (ROOT / "recipes" / f"{recipe}.yaml").exists(), recipe


@needs_clone
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_the_docs_name_exist(page):
    for file in re.findall(r"`((?:edgecr|devices|tests)/[\w/.-]+)`", page.read_text()):
        assert re.search(r"(^|[/_])x(\.(py|yaml)|/)$", file) or (ROOT / file).exists(), file


@needs_clone
def test_what_check_prints_is_explained():
    text = (ROOT / "docs" / "security.md").read_text()
    assert "NOT VERIFIED" in text
    assert "stages/*.json" in text


@needs_clone
@pytest.mark.parametrize(
    "what", ["a board of a known kind", "a board of a new kind", "a gate", "a data source", "a compression method"]
)
def test_contributing_says_how_to_add(what):
    assert f"\n| {what} |" in (ROOT / "CONTRIBUTING.md").read_text()


@needs_clone
def test_the_map_of_the_design_names_every_room():
    page = (ROOT / "docs" / "design.md").read_text()
    told = page[page.index("    edgecr/ ") : page.index("    recipes/ ")]
    rooms = {
        path.name for path in (ROOT / "edgecr").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    named = [room.rstrip("/") for room in re.findall(r"^      (\S+)", told, re.MULTILINE)]
    assert sorted(named) == sorted(rooms - {"__init__.py", "__main__.py", "reference.py"})

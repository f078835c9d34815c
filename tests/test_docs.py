"""The docs are true: the reference is what the code says, links lead somewhere, commands exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    for recipe in re.findall(r"recipes/([\w-]+)\.yaml", text):
        assert recipe == "x" or (ROOT / "recipes" / f"{recipe}.yaml").exists(), recipe

"""docs/python.md is one script that works, and names exactly the public names."""

import re
from pathlib import Path

import pytest

import edgecr
from tests.workplace import planned_by_macs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
needs_clone = pytest.mark.skipif(not PAGE.is_file(), reason="the docs are not part of the wheel")


def snippets():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.mark.slow
@needs_clone
def test_every_snippet_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    planned_by_macs(monkeypatch, tmp_path)
    names = {"__name__": "__main__"}
    blocks = snippets()
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    pruned, net = names["pruned"], names["net"]
    assert pruned.left.out_channels == pruned.right.out_channels < net.left.out_channels == 32
    assert names["artifact"].path.is_file()
    assert names["small"].file.is_file()
    assert sum(p.numel() for p in names["small"].module.parameters()) < sum(p.numel() for p in net.parameters())
    assert "may remain" in capsys.readouterr().out


@needs_clone
def test_the_page_names_exactly_what_the_package_offers():
    named = set(re.findall(r"\bedgecr\.([A-Za-z]\w*)", PAGE.read_text()))
    assert named == set(edgecr.__all__)


@needs_clone
def test_the_table_has_every_name():
    assert set(re.findall(r"^\| `edgecr\.(\w+)` \|", PAGE.read_text(), re.M)) == set(edgecr.__all__)

"""A model of the user's own hangs on its module and on the local modules that this imports, and on no other file."""

import subprocess
import sys

import pytest

from edgecr.core.errors import RequestError
from edgecr.models.external import own_source
from edgecr.models.libraries import called
from edgecr.models.own_code import source_hashes

FILES = {
    "own_a.py": "from helpers import block\nimport deep.er.part as p\ndef net(num_classes):\n    import late\n",
    "helpers.py": "import further\nimport torch, os\n",
    "further.py": "import helpers\n",
    "late.py": "import importlib\nimportlib.import_module('named')\n__import__('.x')\nimport_module(1)\n",
    "named.py": "",
    "deep/__init__.py": "",
    "deep/er/part.py": "from ...deep import beside\nfrom . import same\nfrom .given import a_function\n",
    "deep/er/same.py": "",
    "deep/er/given.py": "from starred import *\n",
    "deep/er/unused.py": "",
    "deep/beside.py": "this is no Python",
    "starred/__init__.py": "__all__ = ['one']\n",
    "starred/one.py": "",
    "unused.py": "import helpers\n",
    "torch.txt": "",
}
USED = set(FILES) - {"deep/er/unused.py", "unused.py", "torch.txt"}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def hashes(folder, module="own_a"):
    return source_hashes(module, folder / (module.replace(".", "/") + ".py"))


def test_the_files_are_those_that_are_imported(folder):
    assert set(hashes(folder)) == USED


@pytest.mark.parametrize("name", FILES)
def test_a_change_counts_where_the_model_hangs_on_it(folder, name):
    before = hashes(folder)
    (folder / name).write_text(FILES[name] + "# changed\n")
    changed = {file for file, digest in hashes(folder).items() if before[file] != digest}
    assert changed == ({name} & USED)


def test_a_new_file_counts_once_it_is_imported(folder):
    before = hashes(folder)
    (folder / "new.py").write_text("")
    assert hashes(folder) == before
    (folder / "further.py").write_text("import new\n")
    assert set(hashes(folder)) == USED | {"new.py"}


def test_a_module_of_a_package_counts_with_the_packages_above_it(folder):
    (folder / "deep/er/__init__.py").write_text("from . import unused\n")
    found = hashes(folder, "deep.er.part")
    assert {"deep/__init__.py", "deep/er/__init__.py", "deep/er/unused.py", "deep/beside.py"} <= set(found)
    assert "own_a.py" not in found
    assert source_hashes("deep.er", folder / "deep/er/__init__.py").keys() == {
        "deep/__init__.py",
        "deep/er/__init__.py",
        "deep/er/unused.py",
    }


def test_the_packages_beside_an_installed_one_do_not_count(folder, monkeypatch):
    monkeypatch.setattr("site.getsitepackages", lambda: [str(folder)])
    (folder / "deep/beside.py").write_text("import helpers")
    assert set(hashes(folder, "deep.er.part")) == {name for name in USED if name.startswith("deep")}


def test_the_source_of_a_model_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "own_b.py").write_text("from own_b_part import net\n")
    (folder / "own_b_part.py").write_text("def net(num_classes): ...\n")
    assert set(own_source("own_b:net")) == {"own_b.py", "own_b_part.py"}
    assert own_source("sys:exit") == {}


def test_an_own_model_is_told_what_it_was_called_with():
    with pytest.raises(
        RequestError, match=r"parts\.net:make cannot be built: called with num_classes=5, width=2, it says"
    ):
        called("parts.net:make", lambda classes: None, 5, {"width": 2})


def test_code_that_may_not_run_is_refused_before_torch_and_data():
    text = """
import sys, edgecr
recipe = {"name": "x", "model": {"arch": "os:system"}, "data": {"name": "folder", "root": "nowhere", "size": 32},
          "steps": [{"train": {"epochs": 1}}]}
try:
    edgecr.compress(recipe)
except edgecr.EdgecrError as error:
    print("--allow-code" in str(error), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]

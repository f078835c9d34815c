"""The wheel holds exactly the package and the three declared folders, and works without the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="a wheel is built from the repository")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("edgecr-*.whl")
    return built


def tracked(folder):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_exact_contents(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = tracked("edgecr") | {
        f"edgecr/_builtin/{name}" for folder in ("recipes", "export", "devices") for name in tracked(folder)
    }
    assert names == expected
    assert "edgecr/py.typed" in names
    assert "edgecr/_builtin/recipes/quickstart.yaml" in names
    assert "edgecr/_builtin/devices/agent/__main__.py" in names


def test_only_one_top_level_name(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgecr"}


def test_the_unpacked_wheel_finds_its_declarations(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import edgecr; assert edgecr.__file__.startswith(sys.path[0])\n"
        "from edgecr.recipe import load_recipe; load_recipe('quickstart')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

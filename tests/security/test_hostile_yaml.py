"""Hostile YAML: a clear refusal, soon, wherever a declaration is read."""

import os
import resource
import subprocess
import sys

import pytest

from edgecr.core.errors import EdgecrError, RequestError
from edgecr.core.files import read_json
from edgecr.core.yaml_text import DEEPEST, MOST_BYTES, MOST_VALUES, parse_yaml, read_yaml
from edgecr.exporters.base import load_target
from edgecr.recipe import load_recipe, purpose
from edgecr.runners.device import load_device

ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
GOOD = "name: r\nmodel: {arch: resnet20}\ndata: {name: digits}\nsteps: [{train: {epochs: 2}}]\n"
HOSTILE = {
    "aliases that double": ALIASES,
    "aliases in keys": ALIASES + "? *a11\n: 1\n",
    "an alias of itself": "a: &a [*a]\n",
    "a mapping of itself": "a: &a {b: *a}\n",
    "deep lists": "[" * 60_000,
    "deep mappings": "{a: " * 16_000,
    "deep keys": "? " * 30_000,
    "deep dashes": "- " * 30_000,
    "many values": "- a\n" * 16_000,
    "many unknown keys": GOOD + "".join(f"k{i}: 1\n" for i in range(3900)),
    "many unknown keys of a step": GOOD + "gates: {" + ", ".join(f"k{i}: {{}}" for i in range(99)) + "}\n",
    "many devices": GOOD + f"measure: {{devices: [{', '.join(f'd{i}' for i in range(7000))}]}}\n",
    "many targets": GOOD + f"export: [{', '.join(f'd{i}' for i in range(7000))}]\n",
    "many changes": f"extends: quickstart\nset: {{{', '.join(f'k{i}: 1' for i in range(3900))}}}\n",
    "a long key path": f"extends: quickstart\nset:\n  ? {'a.' * 5000}a\n  : 1\n",
    "a long number": GOOD + f"seed: {'9' * 5000}\n",
    "a long hexadecimal number": GOOD + f"seed: 0x{'f' * 60_000}\n",
    "a long sexagesimal number": GOOD + f"seed: 1{':59' * 15_000}\n",
    "a sexagesimal fraction": GOOD + f"seed: 1{':59' * 20}.5\n",
    "a sexagesimal fraction without end": GOOD + f"seed: 1{':59' * 15_000}.5\n",
    "one long word": "a" * 65_000,
    "a name too long for a file": GOOD + f"export: [{'a' * 60_000}.yaml]\n",
    "a name with a zero": GOOD + 'export: ["a\\0.yaml"]\n',
    "half a character": GOOD + 'name: "\\ud800"\n',
    "python objects": "!!python/object/apply:os.system [id]\n",
    "larger than any declaration": "# " + "a" * MOST_BYTES,
}


def seconds():
    """Processor time of this process: other programs do not add to it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("load", [load_recipe, load_device, load_target], ids=["recipe", "device", "target"])
@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_file_is_refused_with_a_clear_error(tmp_path, name, load):
    file = tmp_path / "hostile.yaml"
    file.write_text(HOSTILE[name])
    with pytest.raises(EdgecrError) as told:
        load(str(file))
    assert told.value.exit_code == 2
    assert len(str(told.value)) < 200_000


def test_no_hostile_file_takes_a_second_of_processor_time_or_much_memory(tmp_path):
    """All of them in a process with limits that an unbounded reader would break by far."""
    for number, text in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.yaml").write_text(text)
    code = (
        "import resource, sys, pathlib\n"
        "from edgecr.core.errors import EdgecrError\nfrom edgecr.recipe import load_recipe\nload_recipe('quickstart')\n"
        "used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
        "for file in sorted(pathlib.Path(sys.argv[1]).glob('*.yaml')):\n"
        "    start = used()\n"
        "    try: load_recipe(str(file))\n"
        "    except EdgecrError: pass\n"
        "    print(file.stem, used() - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    )
    assert done.returncode == 0, done.stderr
    spent = {int(line.split()[0]): float(line.split()[1]) for line in done.stdout.splitlines()}
    assert len(spent) == len(HOSTILE)
    slow = {list(HOSTILE)[number]: taken for number, taken in spent.items() if taken > 1.0}
    assert slow == {}


def test_an_override_with_a_long_key_path_is_refused():
    with pytest.raises(RequestError, match="at most 32 parts"):
        load_recipe("quickstart", [f"{'a.' * 5000}a=1"])


def test_json_nested_without_end_is_a_clear_error(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(RequestError, match="not valid JSON"):
        read_json(tmp_path / "deep.json")


def test_aliases_that_stay_small_are_read():
    found = parse_yaml("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n", "f").values
    assert found["b"] == {"x": 1}
    assert found["c"] == [{"x": 1}, {"x": 1}]


def test_the_bounds_are_where_they_are_said_to_be():
    assert parse_yaml("[" * (DEEPEST - 1) + "]" * (DEEPEST - 1), "f")
    with pytest.raises(RequestError, match="deeper than"):
        parse_yaml("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "f")
    assert len(parse_yaml("[" + "a," * (MOST_VALUES - 1) + "]", "f").values) == MOST_VALUES - 1
    with pytest.raises(RequestError, match="more than 8000 values"):
        parse_yaml("[" + "a," * MOST_VALUES + "]", "f")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_does_not_make_anybody_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RequestError):
        load_recipe(str(tmp_path / "pipe.yaml"))
    with pytest.raises(RequestError, match="is not a file"):
        read_yaml(tmp_path / "pipe.yaml")
    with pytest.raises(RequestError, match="is not a file"):
        read_yaml(tmp_path)


def test_recipes_extend_one_another_only_so_far(tmp_path):
    for number in range(40):
        (tmp_path / f"r{number}.yaml").write_text(f"extends: r{number + 1}.yaml\n")
    with pytest.raises(RequestError, match="more than 16 recipes"):
        load_recipe(str(tmp_path / "r0.yaml"))


def test_a_purpose_full_of_blanks_is_read_at_once(tmp_path):
    file = tmp_path / "blank.yaml"
    file.write_text("# Purpose: y" + " " * 60_000 + "z\n")
    start = seconds()
    assert purpose(file).endswith("z")
    assert seconds() - start < 1.0


def test_a_thousand_mistakes_are_told_in_fifty_lines(tmp_path):
    file = tmp_path / "many.yaml"
    file.write_text(HOSTILE["many unknown keys"])
    with pytest.raises(RequestError, match=r"and 3850 more") as told:
        load_recipe(str(file))
    assert str(told.value).count("\n") < 60

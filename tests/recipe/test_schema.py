"""Recipes: extending, overriding, and every mistake named with its place before any work."""

import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecr.core.errors import EdgecrError, RecipeError, RequestError
from edgecr.core.yaml_text import parse_yaml
from edgecr.recipe import checked, editor_schema, load_recipe

GOOD = """\
name: good
model: {arch: resnet20}
data: {name: digits}
steps:
  - train: {epochs: 2}
  - prune: {sparsity: 0.5}
gates:
  clean_accuracy: {drop: 0.01}
"""


def mistakes(text):
    with pytest.raises(RecipeError) as caught:
        checked(parse_yaml(textwrap.dedent(text), "r.yaml"))
    return [str(problem) for problem in caught.value.problems]


def test_a_good_recipe_and_its_canonical_text():
    recipe = checked(parse_yaml(GOOD, "r.yaml"))
    assert [step.name for step in recipe.steps] == ["train", "prune"]
    assert recipe.baseline_steps == 1
    assert recipe.plain()["steps"] == [{"train": {"epochs": 2}}, {"prune": {"sparsity": 0.5, "device": "cpu"}}]


def test_a_default_written_out_does_not_change_the_identity():
    written = GOOD.replace("{epochs: 2}", "{epochs: 2, momentum: 0.9}") + "seed: 0\n"
    assert checked(parse_yaml(written, "r.yaml")).canonical() == checked(parse_yaml(GOOD, "r.yaml")).canonical()


def test_a_preference_is_part_of_the_identity_only_where_it_is_not_the_usual_one():
    usual = checked(parse_yaml(GOOD, "r.yaml"))
    assert usual.prefer == "latency"
    assert "prefer" not in usual.canonical()
    assert checked(parse_yaml(GOOD + "prefer: size\n", "r.yaml")).canonical()["prefer"] == "size"


def test_all_mistakes_at_once_each_with_line_path_and_near_name():
    found = mistakes("""\
        name: bad
        model: {arch: resnet21, classes: 10}
        data: {name: digits}
        steps:
          - train: {epoch: 2}
          - distil: {}
          - prune: {sparsity: 1.0}
        export: [onx]
        measure: {devices: [cpu], batch: [0]}
        robustness: {suites: [noise6]}
        gates: {clean_acuracy: {drop: 0.01}}
        sed: 1
        """)
    joined = "\n".join(found)
    for expected in (
        "r.yaml:2: model",
        "'resnet20'",
        "r.yaml:5: steps.0.train.epoch: unknown key. Did you mean 'epochs'?",
        "r.yaml:6: steps.1.distil: unknown key. Did you mean 'distill'?",
        "r.yaml:7: steps.2.prune",
        "r.yaml:8: export.0",
        "'onnx'",
        "r.yaml:9: measure.batch.0",
        "r.yaml:10: robustness.suites.0",
        "'noise5'",
        "r.yaml:11: gates.clean_acuracy: Unknown gate 'clean_acuracy'. Did you mean 'clean_accuracy'?",
        "r.yaml:12: sed: unknown key. Did you mean 'seed'?",
    ):
        assert expected in joined, (expected, joined)


@pytest.mark.parametrize("given", ["device: cup", "target: onnx-int9"])
def test_what_a_step_plans_for_must_exist(given):
    (told,) = mistakes(GOOD.replace("sparsity: 0.5", f"sparsity: 0.5, {given}"))
    assert f"steps.1.prune.{given.split(':')[0]}" in told


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("steps: [{train: {epochs: two}}]", "steps.0.train.epochs"),
        ("steps: [{train: {epochs: 2, lr: -1}}]", "steps.0.train.lr"),
        ("steps: [{train: {epochs: '2'}}]", "steps.0.train.epochs"),
        ("steps: [{train: {epochs: true}}]", "steps.0.train.epochs"),
        ("steps: [{train: {}, prune: {sparsity: 0.5}}]", "exactly one method"),
        ("steps: [{}]", "exactly one method"),
        ("steps: {train: {}}", "steps"),
        ("steps: [{prune: {sparsity: 0.5, budget: {macs: 0.5}}}]", "steps.0.prune"),
        ("steps: [{prune: {}}]", "steps.0.prune"),
        ("steps: [{prune: {budget: {macs: 1.5}}}]", "steps.0.prune.budget"),
        ("steps: [{distill: {temperature: 0}}]", "steps.0.distill.temperature"),
        ("steps: [{distill: {preset: nobody}}]", "steps.0.distill.preset"),
        ("steps: [{distill: {preset: [hinton]}}]", "unknown preset ['hinton']; known: hinton"),
        ("steps: [{distill: {preset: {a: 1}}}]", "unknown preset {'a': 1}; known: hinton"),
        ("steps: [{distill: {preset: 3}}]", "unknown preset 3; known: hinton"),
        ("steps: [{train: {lr: 1e-3}}]", "(got '1e-3'; write 0.001)"),
        ("steps: [{train: {lr: 25E-5}}]", "(got '25E-5'; write 0.00025)"),
        ("steps: [{train: {epochs: 1e2}}]", "(got '1e2'; write 100)"),
        ("steps: [{train: {lr: fast}}]", "(got 'fast')"),
        ("steps: [{distill: {student: {widht: 0.5}}}]", "'width'"),
        ("gates: {latency_p50: {drop: 0.1}}", "gates.latency_p50"),
        ("gates: {clean_accuracy: {}}", "gates.clean_accuracy"),
        ("gates: {other_accuracy: {drop: 0.1}}", "gates.other_accuracy"),
        ("data: {name: folder}", "data.root"),
        ("data: {nam: digits}", "data"),
        ("data: 3", "data"),
        ("seed: -1", "seed"),
        ("name: 'a b'", "name"),
        ("export: []", "export"),
        ("prefer: speed", "prefer: Input should be 'latency', 'size' or 'accuracy'"),
        ("prefer: [latency, size]", "prefer"),
        ("export: [onnx, onnx]", "twice"),
        ("measure: {devices: [cpu], batch: []}", "measure.batch"),
        ("measure: {devices: [cup]}", "'cpu'"),
        ("model: {arch: resnet20, width: -1}", "model.width"),
        ("steps: []", "nothing to judge"),
        (
            "gates: {latency_p50: {ratio: 1, device: jetson}}",
            "p50: device: jetson is not measured; measured are cpu",
        ),
        ("gates: {latency_p50: {ratio: 1, batch: 64}}", "latency_p50: batch: 64 is not measured; measured are 1"),
        ("gates: {throughput: {min: 9, confidence: 0.9}}", "gates.throughput: throughput: its min has no interval"),
    ],
)
def test_each_mistake_is_named(change, expected):
    base = parse_yaml(GOOD, "r.yaml")
    changed = parse_yaml(change, "r.yaml")
    base.values.update(changed.values)
    with pytest.raises(RecipeError) as caught:
        checked(base)
    assert expected in str(caught.value)


def test_a_gate_of_a_measured_device_and_batch_stands(tmp_path):
    """The device is meant by its name, wherever its file lies."""
    (tmp_path / "b.yaml").write_text("name: board\npurpose: a test\nkind: cpu\ntransport: {kind: local}\n")
    gate = "gates: {latency_p50: {ratio: 0.8, device: board, batch: 64, confidence: 0.99}}\n"
    text = GOOD.partition("gates:")[0] + gate + f"measure: {{devices: [cpu, {tmp_path}/b.yaml], batch: [1, 64]}}\n"
    assert checked(parse_yaml(text, "r.yaml")).gates["latency_p50"].batch == 64


@pytest.mark.parametrize(
    ("robustness", "gate", "told"),
    [
        ("{suites: [noise6]}", "noise6_accuracy", []),
        ("{suites: [noise6]}", "noise5_accuracy", ["gates.noise5_accuracy: noise5_accuracy needs its suite"]),
        ("{suites: []}", "noise5_accuracy", ["gates.noise5_accuracy: noise5_accuracy needs its suite"]),
        ("{images: no}", "noise5_accuracy", []),
        ("3", "noise5_acuracy", ["gates.noise5_acuracy: Unknown gate 'noise5_acuracy'"]),
    ],
)
def test_gates_are_looked_up_beside_other_mistakes(robustness, gate, told):
    found = mistakes(GOOD.replace("clean_accuracy", gate) + f"robustness: {robustness}\nsed: 1\n")
    gates = [each.partition(": ")[2] for each in found if "gates." in each]
    assert len(gates) == len(told)
    assert all(one.startswith(start) for one, start in zip(gates, told))


def test_the_advised_number_is_one(tmp_path):
    (tmp_path / "r.yaml").write_text(GOOD)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(tmp_path / "r.yaml"), ["steps.0.train.lr=1e-3"])
    advised = str(caught.value).rpartition("write ")[2].rstrip(")")
    assert load_recipe(str(tmp_path / "r.yaml"), [f"steps.0.train.lr={advised}"]).steps[0].method.lr == 1e-3


def test_two_declarations_of_one_name_are_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: onnx\npurpose: a test\nformat: onnx\nopset: 19\n")
    (tmp_path / "board.yaml").write_text("name: cpu\npurpose: a test\nkind: cpu\ntransport: {kind: local}\n")
    text = GOOD + f"export: [onnx, {tmp_path}/mine.yaml]\nmeasure: {{devices: [cpu, {tmp_path}/board.yaml]}}\n"
    target, device = mistakes(text)
    cure = "; give one of them another name"
    assert target == f"r.yaml:9: export.1: {tmp_path}/mine.yaml and onnx both say `name: onnx`{cure}"
    assert device == f"r.yaml:10: measure.devices.1: {tmp_path}/board.yaml and cpu both say `name: cpu`{cure}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "3",
        "a: b: c",
        "\t",
        "{",
        "a: &x [*x]",
        "a: 1\na: 2",
        "name: 2020-01-01",
        "? [a]\n: b",
        "!!python/object:os.system {}",
        "a: *nowhere",
        "\x00",
        "<<: 3",
    ],
)
def test_text_that_is_no_recipe(text):
    with pytest.raises(RequestError):
        checked(parse_yaml(text, "r.yaml"))


def test_extends_set_and_overrides(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD)
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nname: child\nset: {steps.1.prune.sparsity: 0.25}\nmodel: {width: 0.5}\n")
    recipe = load_recipe(str(child), ["steps.0.train.epochs=7", "seed=3"])
    assert recipe.name == "child"
    assert recipe.seed == 3
    assert recipe.plain()["model"] == {"arch": "resnet20", "width": 0.5}
    assert recipe.plain()["steps"] == [{"train": {"epochs": 7}}, {"prune": {"sparsity": 0.25, "device": "cpu"}}]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps.9.train.epochs=1", "the list has 2 entries"),
        ("steps.2.train.epochs=1", "the list has 2 entries"),
        ("measure.batch.0=4", "--set measure.batch.0=4: measure.batch.0: there is no list measure.batch to change"),
        ("model.0=4", "--set model.0=4: model.0: unknown key"),
        ("seed", "KEY.PATH=VALUE"),
        ("name.x=1", "not a mapping"),
        ("steps.0.train.epochz=1", "--set steps.0.train.epochz=1: steps.0.train.epochz: unknown key"),
        ("seed={", "not valid YAML"),
    ],
)
def test_wrong_overrides(tmp_path, override, expected):
    (tmp_path / "base.yaml").write_text(GOOD)
    with pytest.raises(RequestError) as caught:
        load_recipe(str(tmp_path / "base.yaml"), [override])
    assert expected in str(caught.value)


def test_recipes_may_not_extend_in_a_circle(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(str(tmp_path / "a.yaml"))


def test_a_missing_parent_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("name: a\nextends: nothing.yaml\n")
    with pytest.raises(RecipeError, match=r"a\.yaml:2: extends.*nothing\.yaml"):
        load_recipe(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("loss", ["kd", "{kd: {temperature: 2}}", "{kd: {teacher: baseline}}"])
def test_a_baseline_that_is_still_made_cannot_teach(loss):
    text = GOOD.replace(
        "  - prune: {sparsity: 0.5}", f"  - finetune:\n      loss: {loss}\n  - prune: {{sparsity: 0.5}}"
    )
    with pytest.raises(
        RecipeError, match=r"r\.yaml:\d+: steps\.1\.finetune\.loss: teacher: baseline is the model before"
    ):
        checked(parse_yaml(text, "r.yaml"))
    later = GOOD.replace("  - prune: {sparsity: 0.5}", f"  - prune: {{sparsity: 0.5}}\n  - finetune: {{loss: {loss}}}")
    assert checked(parse_yaml(later, "r.yaml")).steps[2].method.minimised.reads_baseline


def test_a_teacher_below_a_loss_is_completed_from_the_model():
    loss = "loss: {kd: {teacher: {weights: t.pt}}}"
    retrain = f"{{kind: iterative, retrain: {{{loss}}}}}"
    text = GOOD.replace(
        "  - prune: {sparsity: 0.5}", f"  - prune: {{sparsity: 0.5, when: {retrain}}}\n  - finetune: {{{loss}}}"
    )
    steps = checked(parse_yaml(text, "r.yaml")).plain()["steps"]
    teachers = steps[1]["prune"]["when"]["retrain"]["loss"]["kd"], steps[2]["finetune"]["loss"]["kd"]
    assert all(each["teacher"] == {"arch": "resnet20", "weights": "t.pt"} for each in teachers)


def test_the_students_width_is_completed_from_the_model():
    text = GOOD.replace("  - prune: {sparsity: 0.5}", "  - distill: {student: {width: 0.5}, epochs: 1}")
    assert checked(parse_yaml(text, "r.yaml")).plain()["steps"][1]["distill"]["student"] == {
        "arch": "resnet20",
        "width": 0.5,
    }


def test_the_editor_schema_knows_every_method_and_requires_nothing():
    from edgecr.methods import methods

    schema = editor_schema()
    assert set(methods) <= set(schema["$defs"]["Step"]["properties"])
    assert all("required" not in definition for definition in [schema, *schema["$defs"].values()])
    assert "extends" in schema["properties"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    "name",
    "seed",
    "model",
    "model.arch",
    "model.classes",
    "model.weights",
    "data",
    "data.name",
    "steps",
    "steps.0",
    "steps.0.train",
    "steps.0.train.epochs",
    "steps.0.train.milestones",
    "steps.1.prune",
    "steps.1.prune.budget",
    "steps.1.prune.keep",
    "steps.1",
    "export",
    "export.0",
    "measure",
    "measure.batch",
    "measure.devices",
    "robustness",
    "robustness.suites",
    "gates",
    "gates.clean_accuracy",
    "gates.x",
    "extra",
    "model.blocks",
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PATHS), JUNK), min_size=1, max_size=4))
def test_no_malformed_recipe_ever_escapes_as_anything_but_a_clear_error(changes):
    document = parse_yaml(GOOD, "r.yaml")
    for path, junk in changes:
        here = document.values
        parts = [int(p) if p.isdigit() else p for p in path.split(".")]
        try:
            for part in parts[:-1]:
                here = here[part]
            here[parts[-1]] = junk
        except (KeyError, TypeError, IndexError):
            continue
    try:
        checked(document)
    except EdgecrError as error:
        assert error.exit_code == 2
        assert str(error)

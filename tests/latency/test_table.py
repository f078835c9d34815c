"""The latency table as data."""

import json
import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import read_json, write_json
from edgecr.latency import (
    Calibration,
    CalibrationPoint,
    Entry,
    LatencyTable,
    LayerConfig,
    Machine,
    MissingEntry,
    Sums,
    fitted,
)

MACHINE = Machine(device="cpu", processor="Chip 1", runtime="ort", version="1.20", threads=1, settings={"spin": False})
CONV = LayerConfig("conv", 64, 128, 2, 56, 48, (3, 5), (2, 1), (1, 2), (1, 1), 1)
DEPTHWISE = LayerConfig("conv", 96, 96, 1, 14, 14, (3, 3), (1, 1), (1, 1), (1, 1), 96)


def entry(ms):
    return Entry(wall_ns=(round(ms * 2e6),) * 3, cpu_ns=(round(ms * 3e6), round(ms * 1e6), round(ms * 1.1e6)))


def table(configs, cost, clock="cpu"):
    return LatencyTable(machine=MACHINE, clock=clock).extended({c.key: entry(cost(c)) for c in configs})


def known_model(name, total, whole):
    return CalibrationPoint(
        model=name, sums=Sums(ms=total, layers=10, mega_weights=1.0, mega_values=2.0), measured_ms=whole
    )


def affine(config):
    return 0.1 + 0.01 * config.cin + 0.02 * config.cout


@pytest.mark.parametrize("config", [CONV, DEPTHWISE, LayerConfig("linear", 512, 10, 4)])
def test_a_key_names_its_layer_and_no_other(config):
    assert LayerConfig.of(config.key) == config
    assert config.resized("cout", 8).key != config.key


def test_a_key_is_readable_and_stable():
    assert CONV.key == "conv b2 64x56x48>128 k3x5 s2x1 p1x2 d1x1 g1"


@pytest.mark.parametrize("text", ["", "conv", "conv b1 64x56x56>x k3x3", CONV.key + " "])
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises(RequestError, match="not the key of a layer"):
        LayerConfig.of(text)


def test_macs_and_sizes():
    assert CONV.out_size == (28, 48)
    assert CONV.macs == 2 * 28 * 48 * 128 * 64 * 15
    assert DEPTHWISE.macs == 14 * 14 * 96 * 9


def test_depthwise_layers_shrink_as_a_whole():
    assert DEPTHWISE.resized("cout", 32) == DEPTHWISE.resized("cin", 32)
    assert DEPTHWISE.resized("cout", 32).groups == 32
    doubled = LayerConfig("conv", 8, 16, groups=8)
    assert doubled.resized("cin", 4) == doubled.resized("cout", 8) == LayerConfig("conv", 4, 8, groups=4)


def test_wide_groups_keep_their_number():
    grouped = LayerConfig("conv", 64, 64, groups=4)
    assert grouped.resized("cout", 32) == LayerConfig("conv", 64, 32, groups=4)


def test_latency_is_the_lower_quartile_of_the_tables_clock():
    assert table([CONV], lambda _: 5.0).latency(CONV).ms == 5.0
    assert table([CONV], lambda _: 5.0, clock="wall").latency(CONV).ms == 10.0


def test_no_processor_time_is_said():
    silent = LatencyTable(machine=MACHINE, clock="cpu").extended({CONV.key: Entry(wall_ns=(1,), cpu_ns=(None,))})
    with pytest.raises(RequestError, match="--clock wall"):
        silent.latency(CONV)


def test_a_disturbed_round_is_judged_by_the_gauge_beside_it_wherever_it_was_joined():
    """The disturbed round, of 9 ms beside a slow gauge, never counts; the old rounds without a gauge do."""
    old = Entry(wall_ns=(5_000_000,) * 3, cpu_ns=(None,) * 3)
    new = Entry(wall_ns=(9_000_000, 4_000_000, 4_000_000), cpu_ns=(None,) * 3, gauge_ns=(300, 100, 100))
    for joined in (old.joined(new), new.joined(old), old.joined(new).joined(new)):
        beside = dict(zip(joined.wall_ns, joined.gauge_ns))
        assert beside == {9_000_000: 300, 4_000_000: 100}
        assert joined.milliseconds("wall", 100.0) == 4.0
    assert sorted(old.joined(new).wall_ns) == sorted(old.wall_ns + new.wall_ns)


def test_rounds_at_the_usual_pace_count_beside_the_two_calmest():
    """The gauge of the third round is 5 % slower than usual: within the limit, beyond the calmest rounds."""
    one = Entry(wall_ns=(9, 9, 1), cpu_ns=(None,) * 3, gauge_ns=(80, 80, 105))
    assert one.milliseconds("wall", 100.0) == 1e-6
    assert one.milliseconds("wall", 10.0) == 9e-6


def test_a_layer_that_nobody_measured_was_not_disturbed():
    slow = Entry(wall_ns=(5,) * 3, cpu_ns=(None,) * 3, gauge_ns=(300, 300, 300))
    calm = Entry(wall_ns=(5,) * 20, cpu_ns=(None,) * 20, gauge_ns=(100,) * 20)
    known = LatencyTable(machine=MACHINE, clock="wall").extended({CONV.key: slow, DEPTHWISE.key: calm})
    assert known.disturbed([CONV, DEPTHWISE, LayerConfig("linear", 8, 8)]) == [CONV]


@pytest.mark.parametrize(
    "wrong", [("s2x1", "s0x0"), (" g1", " g0"), ("k3x5", "k0x5"), ("d1x1", "d1x0"), ("b2", "b0"), ("64x", "0x")]
)
def test_a_layer_of_nothing_is_no_layer(wrong):
    with pytest.raises(RequestError, match="all of its numbers but the padding are 1 or more"):
        LayerConfig.of(CONV.key.replace(*wrong, 1))


def test_errors_are_positive_where_the_fit_says_too_much():
    point = known_model("m", 2.0, 1.0)
    assert Calibration(factor=1.5, evidence=(point,)).errors() == {"m": 2.0}
    assert Calibration(factor=0.25, evidence=(point,)).errors() == {"m": -0.5}


def test_nothing_costs_nothing():
    assert table([], affine).latency(LayerConfig("conv", 0, 64)).ms == 0


def test_a_missing_entry_is_named():
    with pytest.raises(MissingEntry, match=CONV.key) as caught:
        table([DEPTHWISE], affine).network_latency([DEPTHWISE, CONV])
    assert caught.value.key == CONV.key
    assert caught.value.exit_code == 2


def test_missing_lists_each_layer_once():
    assert table([CONV], affine).missing([CONV, DEPTHWISE, CONV, DEPTHWISE]) == [DEPTHWISE]


def test_estimates_lie_between_measured_neighbours_and_are_marked():
    known = table([CONV.resized("cout", count) for count in (16, 32, 128)], affine)
    asked = CONV.resized("cout", 80)
    found = known.latency(asked, estimate=True)
    assert math.isclose(found.ms, affine(asked), rel_tol=1e-6)
    assert found.estimated == (asked.key,)
    assert known.network_latency([asked, asked, CONV], estimate=True).estimated == (asked.key,)
    with pytest.raises(MissingEntry):
        known.latency(asked)


def test_estimates_from_one_curve_of_inputs_and_one_of_outputs():
    cells = [(64, 128), (32, 128), (64, 48)]
    known = table([CONV.resized("cin", i).resized("cout", o) for i, o in cells], lambda c: 0.001 * c.cin * c.cout)
    found = known.latency(CONV.resized("cin", 32).resized("cout", 48), estimate=True)
    assert math.isclose(found.ms, 0.001 * 32 * 48, rel_tol=1e-6)


def test_estimates_of_depthwise_layers_follow_their_width():
    known = table([DEPTHWISE.resized("cin", count) for count in (32, 96)], affine)
    assert math.isclose(known.latency(DEPTHWISE.resized("cin", 64), estimate=True).ms, 0.1 + 0.03 * 64, rel_tol=1e-6)


def test_one_channel_alone_is_the_narrowest_depthwise_layer():
    known = table([DEPTHWISE.resized("cin", count) for count in (1, 96)], affine)
    assert math.isclose(known.latency(DEPTHWISE.resized("cin", 2), estimate=True).ms, 0.1 + 0.03 * 2, rel_tol=1e-6)


def grouped(groups, inside):
    return LayerConfig("conv", groups * inside, groups * inside, height=14, width=14, kernel=(3, 3), groups=groups)


@pytest.mark.parametrize("left", [2, 8, 15, 20])
def test_a_layer_that_lost_so_many_groups_that_few_are_left_keeps_its_relatives(left):
    """25 groups of 16 lose whole groups; 8 groups of 16 look like a layer that loses channels of each group."""
    known = table([grouped(25, 16), grouped(1, 16)], affine)
    found = known.latency(grouped(left, 16), estimate=True)
    assert math.isclose(found.ms, affine(grouped(left, 16)), rel_tol=1e-6)
    assert found.estimated == (grouped(left, 16).key,)


@pytest.mark.parametrize("inside", [1, 2, 5, 9])
def test_a_layer_whose_groups_got_narrow_keeps_its_relatives(inside):
    """2 groups of 16 lose channels of each group; 2 groups of 2 look like a layer that loses whole groups."""
    ends = [grouped(2, 16), grouped(2, 1), grouped(2, 16).resized("cin", 2), grouped(2, 16).resized("cout", 2)]
    known = table([replace(one, groups=2) for one in ends], lambda config: config.cin * config.cout)
    found = known.latency(grouped(2, inside), estimate=True)
    assert math.isclose(found.ms, 4 * inside * inside, rel_tol=1e-6)


def test_of_crossing_curves_the_next_one_is_tried_where_the_largest_is_another_layers():
    own = [CONV.resized("cin", i).resized("cout", o) for i, o in [(64, 128), (32, 128), (64, 48)]]
    other = CONV.resized("cin", 512).resized("cout", 512)
    known = table([*own, other], lambda c: 0.001 * c.cin * c.cout)
    asked = CONV.resized("cin", 40).resized("cout", 60)
    assert math.isclose(known.latency(asked, estimate=True).ms, 0.001 * 40 * 60, rel_tol=1e-6)


@pytest.mark.parametrize("config", [CONV, DEPTHWISE, grouped(25, 16), grouped(2, 16)])
def test_many_outputs_at_once_take_what_each_takes_alone(config):
    tied = config.groups if config.tied else 1
    corners = [config, *(config.resized("cout", config.cout // max(8, tied) * k) for k in (1, 5))]
    known = table(corners, affine)
    couts = [one.cout for one in corners] + [config.cout * 3 // max(8, tied)]
    alone = [known.latency(config.resized("cout", count), estimate=True).ms for count in couts]
    assert known.over_outputs(config, np.array(couts)).tolist() == alone
    assert np.isnan(known.over_outputs(config, np.array([2 * config.cout]))).all()


def test_layers_that_expand_do_not_hide_layers_that_reduce():
    def point(cin, cout):
        return LayerConfig("conv", cin, cout, height=28, width=28)

    corners = [(32, 1), (192, 1), (192, 32), (1, 32), (1, 192), (32, 192), (1, 1), (32, 16), (192, 16), (112, 32)]
    known = table([point(*counts) for counts in corners], lambda config: config.cin * config.cout)
    assert math.isclose(known.latency(point(112, 16), estimate=True).ms, 112 * 16, rel_tol=1e-6)


def test_nothing_is_estimated_beyond_what_was_measured():
    known = table([CONV.resized("cout", count) for count in (32, 64)], affine)
    for count in (16, 96):
        with pytest.raises(MissingEntry):
            known.latency(CONV.resized("cout", count), estimate=True)


def test_costs_of_kept_groups_telescope():
    counts = list(range(0, 129, 16))
    known = table([CONV.resized("cout", count) for count in counts[1:]], affine)
    curve = known.curve(CONV, "cout", counts)
    steps = [after - before for before, after in pairwise(curve)]
    for kept in range(len(counts)):
        assert math.isclose(sum(steps[:kept]), curve[kept], rel_tol=1e-9, abs_tol=1e-12)


def test_curves_need_not_rise():
    known = table([CONV.resized("cout", count) for count in (15, 16)], lambda c: 1.0 if c.cout == 16 else 1.4)
    assert known.curve(CONV, "cout", [15, 16]) == [1.4, 1.0]


def test_a_table_survives_its_file(tmp_path):
    full = table([CONV, DEPTHWISE], affine).calibrated([known_model("m", 1.0, 1.25)])
    full.save(tmp_path / "t.json")
    again = LatencyTable.load(tmp_path / "t.json", MACHINE)
    assert again == full
    assert again.network_latency([CONV]).ms == full.network_latency([CONV]).ms


def test_an_edited_table_is_refused(tmp_path):
    path = tmp_path / "t.json"
    table([CONV], affine).save(path)
    content = read_json(path)
    content["entries"][CONV.key]["cpu_ns"][0] -= 1
    write_json(path, content)
    with pytest.raises(FileProblem, match="hash"):
        LatencyTable.load(path)


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"schema_version": 1}', '{"schema_version": 2}'])
def test_files_that_are_no_tables_are_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(FileProblem):
        LatencyTable.load(tmp_path / "t.json")


def test_a_well_hashed_table_with_nonsense_is_refused(tmp_path):
    from edgecr.core.files import fingerprint

    content = json.loads('{"schema_version": 2, "machine": 3}')
    write_json(tmp_path / "t.json", content | {"content_sha256": fingerprint(content)})
    with pytest.raises(FileProblem, match="not a latency table"):
        LatencyTable.load(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "jetson"),
        ("processor", "Chip 2"),
        ("runtime", "openvino"),
        ("version", "1.21"),
        ("threads", 2),
        ("settings", {"spin": True}),
    ],
)
def test_another_machines_table_is_refused_by_what_differs(tmp_path, field, value):
    table([CONV], affine).save(tmp_path / "t.json")
    with pytest.raises(RequestError, match=field) as caught:
        LatencyTable.load(tmp_path / "t.json", MACHINE.model_copy(update={field: value}))
    assert repr(value) in str(caught.value)


def measured(factor, per_layer, per_weight, per_value, noise=0.0):
    draw = random.Random(0)
    sizes = [
        (30.0, 20, 11.0, 4.7),
        (12.0, 20, 4.0, 3.1),
        (9.0, 50, 3.0, 13.0),
        (3.0, 55, 0.5, 1.0),
        (5.0, 20, 5.0, 7.0),
        (8.0, 30, 8.0, 2.0),
        (4.0, 40, 2.0, 9.0),
    ]
    real = Calibration(
        factor=factor, per_layer_ms=per_layer, per_mega_weight_ms=per_weight, per_mega_value_ms=per_value
    )
    models = [
        Sums(ms=ms, layers=layers, mega_weights=weights, mega_values=values) for ms, layers, weights, values in sizes
    ]
    return tuple(
        CalibrationPoint(model=f"m{n}", sums=sums, measured_ms=draw.uniform(1 - noise, 1 + noise) * real.apply(sums))
        for n, sums in enumerate(models)
    )


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize(
    "relation", [(0.93, -0.008, 0.1, 0.0), (1.1, 0.01, 0.0, 0.0), (0.95, -0.003, 0.1, -0.05), (1.0, 0.0, 0.0, 0.0)]
)
def test_calibration_finds_a_known_relation(relation, noise):
    found = fitted(measured(*relation, noise))
    assert max(map(abs, found.errors().values())) < 0.01 + 2 * noise
    assert abs(found.factor - relation[0]) < 0.05
    assert abs(found.per_layer_ms - relation[1]) < 0.005


def test_what_a_layer_reads_and_writes():
    assert LayerConfig("conv", 64, 128, 2, 56, 56, (3, 3), (2, 2), (1, 1)).values == 2 * (64 * 56 * 56 + 128 * 28 * 28)
    assert LayerConfig("linear", 512, 10).values == 0


def test_without_models_the_sum_counts():
    assert fitted(()) == Calibration()


def test_few_or_equal_models_do_no_harm():
    for some in (measured(1.2, 0.0, 0.0, 0.0)[:1], (known_model("a", 2.0, 3.0), known_model("b", 2.0, 3.1))):
        found = fitted(some)
        assert max(map(abs, found.errors().values())) < 0.03
        assert 0.5 < found.factor < 1.5


def test_a_newer_measurement_of_a_model_wins():
    first = table([], affine).calibrated([known_model("m", 1.0, 5.0)])
    again = first.calibrated([known_model("m", 1.0, 2.0)])
    assert again.calibration == fitted((known_model("m", 1.0, 2.0),))


def test_growing_a_table_does_not_keep_what_was_derived_before():
    small = table([CONV], affine)
    small.latency(CONV)
    grown = small.extended({DEPTHWISE.key: entry(4.0)})
    assert grown.latency(DEPTHWISE).ms == 4.0
    assert DEPTHWISE in grown
    assert DEPTHWISE not in small

from __future__ import annotations

import math

from edgecr.exporters.receipt import Receipt, channels, weights
from edgecr.surgery.counts import Count, LayerCount


def layer(name: str, *shape: int, kind: str = "conv", groups: int = 1, positions: int = 10) -> LayerCount:
    return LayerCount(
        name=name,
        kind=kind,
        weight_shape=shape,
        groups=groups,
        out_positions=positions,
        macs=positions * math.prod(shape),
    )


def counted(*layers: LayerCount) -> Count:
    held = sum(math.prod(one.weight_shape) for one in layers)
    return Count(params=held, macs=sum(one.macs for one in layers), size_bytes=4 * held, layers=layers)


WHOLE = counted(layer("a", 8, 3, 3, 3), layer("b", 4, 8, 1, 1), layer("c", 5, 4, kind="linear", positions=1))
SLIM = counted(layer("a", 6, 3, 3, 3), layer("b", 4, 6, 1, 1), layer("c", 5, 4, kind="linear", positions=1))


def test_a_kept_promise_has_no_failures():
    assert Receipt(WHOLE, SLIM, SLIM).failures() == []
    assert Receipt(WHOLE, WHOLE, WHOLE).failures() == []


def test_an_uncut_file_fails_with_all_figures():
    texts = "; ".join(Receipt(WHOLE, SLIM, WHOLE).failures())
    assert "17 channels in the file, 15 promised" in texts
    assert f"{weights(WHOLE)} weights in the file, {weights(SLIM)} promised" in texts
    assert "promised but not in the file: 1 x weight (6, 3, 3, 3)" in texts


def test_equal_totals_with_other_layers_fail():
    one, other = layer("a", 6, 2, 1, 1), layer("a", 4, 3, 1, 1)
    assert Receipt(WHOLE, counted(one), counted(other)).failures()
    assert Receipt(WHOLE, counted(layer("a", 4, 4, 1, 1)), counted(layer("a", 4, 4, 1, 1, groups=2))).failures()


def test_another_order_fails_and_is_called_so():
    one, other = layer("a", 6, 2, 1, 1), layer("b", 4, 3, 1, 1)
    [text] = Receipt(WHOLE, counted(one, other), counted(other, one)).failures()
    assert "another order, from number 1 on" in text


def test_zeros_fail_in_cut_layers_and_warn_elsewhere():
    in_cut, elsewhere = Receipt(WHOLE, SLIM, SLIM, {"a": 2}), Receipt(WHOLE, SLIM, SLIM, {"b": 2})
    assert "2 channels of cut layers" in in_cut.failures()[0]
    assert elsewhere.failures() == []
    assert "2 channels hold only zeros" in elsewhere.warnings()[0]


MERGED = counted(layer("a", 8, 3, 3, 3), layer("a", 8, 3, 3, 3), layer("c", 5, 8, kind="linear", positions=1))
TWINS = counted(layer("a", 8, 3, 3, 3), layer("b", 8, 3, 3, 3), layer("c", 5, 8, kind="linear", positions=1))


def test_equal_layers_that_the_file_stores_once_are_all_there():
    receipt = Receipt(TWINS, TWINS, MERGED)
    assert receipt.failures() == []
    plain = receipt.plain()
    assert plain["merged_weights"] == 8 * 3 * 9
    assert plain["file"]["weights"] == plain["promised"]["weights"] - 8 * 3 * 9
    assert plain["removed"] == {"channels": 0, "weights": 0, "macs": 0}


def test_merging_excuses_neither_a_missing_layer_nor_a_second_copy():
    fewer = counted(*MERGED.layers[1:])
    assert any("weights in the file" in text for text in Receipt(TWINS, TWINS, fewer).failures())
    assert Receipt(TWINS, MERGED, TWINS).failures() == [
        f"{weights(TWINS)} weights in the file, {weights(MERGED)} promised"
    ]


def test_plain_says_what_was_removed():
    plain = Receipt(WHOLE, SLIM, SLIM).plain()
    assert plain["removed"]["channels"] == 1 - 15 / 17
    assert plain["removed"]["macs"] == 1 - SLIM.macs / WHOLE.macs
    assert plain["layers"][0] == {
        "name": "a",
        "baseline": [8, 3, 3, 3],
        "promised": [6, 3, 3, 3],
        "file": [6, 3, 3, 3],
        "zero_channels": 0,
    }


def test_transposed_convolutions_have_their_outputs_second():
    assert channels(counted(layer("u", 6, 5, 2, 2, kind="conv_transpose", groups=2))) == 10

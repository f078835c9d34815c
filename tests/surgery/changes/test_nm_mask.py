"""Blocks with a fixed number of zeros: a promise that an exported file is held against."""

import pytest
import torch
from torch import nn

from edgecr.core.errors import UnknownName, UnsupportedModel
from edgecr.surgery.changes import BlockMask, Promise, promised, read_change
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.masking.choice import in_blocks


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(16, 2))


def in_pattern():
    module = network()
    set_to_zero(module, {"0.weight": in_blocks(module[0].weight.detach().abs(), 2, 4)})
    return module, BlockMask.of(module, ["0.weight"], "2:4")


def test_the_record_comes_back_and_promises_the_blocks():
    module, change = in_pattern()
    blocks = 4 * 2 * 9
    plain = {"change": "nm_mask", "pattern": "2:4", "tensors": [{"tensor": "0.weight", "blocks": blocks}]}
    assert change.plain() == plain
    assert read_change(plain) == change
    assert change.promise(module).figures == {"2:4 blocks": {"0.weight": blocks}}
    assert promised(network(), [change]).total("2:4 blocks") == blocks


def test_nothing_is_promised_of_a_tensor_that_gets_smaller():
    _, change = in_pattern()
    after = change.promise(network()).after({"0.weight": 288}, {"0.weight": 252})
    assert isinstance(after, Promise)
    assert after.total("2:4 blocks") == 0


def test_a_tensor_or_pattern_that_is_unknown_is_explained():
    record = {"change": "nm_mask", "pattern": "2:4", "tensors": [{"tensor": "9.weight", "blocks": 1}]}
    with pytest.raises(UnsupportedModel, match=r"no parameter '9\.weight'"):
        promised(network(), [read_change(record)])
    with pytest.raises(UnknownName, match="pattern of blocks"):
        BlockMask.of(network(), ["0.weight"], "2:8")

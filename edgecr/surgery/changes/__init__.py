"""The changes that a surgery consists of, one file each; importing this registers them."""

from edgecr.surgery.changes.base import (
    Change,
    changes,
    promised,
    read_change,
    register,
    replay,
    standing_masks,
    trainable,
)
from edgecr.surgery.changes.binary import BinaryWeights
from edgecr.surgery.changes.binary_inputs import BinaryInputs
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.changes.drop import BlockDrop
from edgecr.surgery.changes.mask import WeightMask
from edgecr.surgery.changes.nm_mask import BlockMask
from edgecr.surgery.promise import Figure, Promise, figures

__all__ = [
    "BinaryInputs",
    "BinaryWeights",
    "BlockDrop",
    "BlockMask",
    "Change",
    "ChannelCut",
    "Figure",
    "Promise",
    "WeightMask",
    "changes",
    "figures",
    "promised",
    "read_change",
    "register",
    "replay",
    "standing_masks",
    "trainable",
]

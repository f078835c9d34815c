"""Methods that change a model; each import registers one."""

from edgecr.methods import binarise as binarise
from edgecr.methods import distill as distill
from edgecr.methods import finetune as finetune
from edgecr.methods import prune as prune
from edgecr.methods import quantise as quantise
from edgecr.methods import repair as repair
from edgecr.methods import sparsify as sparsify
from edgecr.methods import ticket as ticket
from edgecr.methods import train as train
from edgecr.methods.base import Method, methods

__all__ = ["Method", "methods"]

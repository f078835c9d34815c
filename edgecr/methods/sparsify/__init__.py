"""Sparsity of single weights."""

from edgecr.methods.sparsify.method import Sparsify

__all__ = ["Sparsify"]

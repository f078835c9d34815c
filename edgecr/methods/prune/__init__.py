"""Structured pruning: channels are removed physically, at once, in rounds or while the model is trained."""

from edgecr.methods.prune.method import Prune

__all__ = ["Prune"]

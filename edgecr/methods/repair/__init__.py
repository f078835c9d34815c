"""Repair without training: layers of a pruned model are refitted to what they answered before."""

from edgecr.methods.repair.method import Repair

__all__ = ["Repair"]

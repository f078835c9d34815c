"""Binarisation: weights become signs with one magnitude for each channel, and are trained as such."""

from edgecr.methods.binarise.method import Binarise

__all__ = ["Binarise"]

"""Importance scores of the channels in each group."""

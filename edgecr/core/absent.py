"""Reasons for the absence of a figure that both who measures and who judges must know, as light as a text."""

UNASKED = "not measured: the device's file has no 'power:'"

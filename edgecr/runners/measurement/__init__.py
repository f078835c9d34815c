"""A measurement: its raw record, and the statistics derived from it."""

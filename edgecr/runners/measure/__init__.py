"""Statistics of time: pure functions over raw samples."""

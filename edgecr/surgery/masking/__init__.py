"""The choice of single weights that go: scores of them, and masks of the lowest ones."""

"""Sparsity of single weights."""

"""Accuracy of a model on corrupted images: corruptions, suites, paired statistics, examples."""

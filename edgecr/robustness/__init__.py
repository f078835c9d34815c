"""How right a model stays on bad images: corruptions, suites, paired statistics, examples."""

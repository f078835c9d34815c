"""The stages of a run: export, measurement, robustness and judgement, each done once."""

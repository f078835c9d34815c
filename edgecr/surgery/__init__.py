"""Surgery on models: channel graph, groups, scores, plans, removal of channels, and cost counters."""

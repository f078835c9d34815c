"""What can be cut from a model and how: channel graph, groups, scores, plans, removal, counters."""

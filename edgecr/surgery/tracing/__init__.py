"""Which channels of a module are tied to which: found by tracing it, held as groups."""

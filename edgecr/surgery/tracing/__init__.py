"""Channel dependencies of a module: found by tracing it, held as groups."""

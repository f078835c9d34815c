"""The base of all other packages: errors, options, files, YAML with places, registries, progress."""

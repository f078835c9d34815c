"""What every room stands on: errors, options, files, YAML with places, registries, progress."""

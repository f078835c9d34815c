"""Has a device measure what a latency table holds."""

"""The changes that a surgery consists of, one file each."""

"""Functions of plain arguments, for commands and scripts. ``import edgecr`` offers the public ones."""

"""What commands and scripts call: functions of plain arguments. ``import edgecr`` offers the public ones."""

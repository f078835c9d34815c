"""Runs the command line as ``python -m edgecr``."""

from edgecr.cli import main

if __name__ == "__main__":
    main()

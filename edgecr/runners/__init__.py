"""The runners that measure exported files: this machine, or a board over SSH; both run the same agent."""

from edgecr.runners import labgrid as labgrid
from edgecr.runners import local as local
from edgecr.runners import ssh as ssh

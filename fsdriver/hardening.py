"""What a process that holds keys asks of the system first: no core dumps, no other umask, files.

Python cannot wipe what it has copied; FORMAT.md's threat model says so.
"""

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """No core file, no attaching debugger of the same user, modes as programs ask for them."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def folders_open() -> int:
    """How many folders may be kept open: a share of the descriptors, the rest is for files."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(1024, soft // 4))

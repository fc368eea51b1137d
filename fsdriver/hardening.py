"""What the driver asks of the system before it has a key; what was granted, for log and status.

Python cannot wipe what it has copied; the threat model says so (FORMAT.md section 14).
"""

import os
import resource
from typing import NamedTuple

from fsdriver import logs, privileges
from keyhierarchy import secrecy


class Hardened(NamedTuple):
    """What the system granted."""

    memory: secrecy.Locked

    def facts(self) -> dict[str, str]:
        """For `ckfs status`."""
        return {"memory_locked": self.memory.extent, "memory_reason": self.memory.reason}

    def tell(self) -> None:
        """One line in the log of what the system did not grant."""
        if self.memory.reason:
            logs.warning("memory not locked", locked=self.memory.extent, reason=self.memory.reason)


def harden() -> Hardened:
    """No core file, no debugger, no swap, few privileges, modes as programs ask for them.

    Before there is a second thread, and before there is a key.
    """
    memory = secrecy.shut()
    # What is written in Rust tells its backtrace where this is set, and when that happens for want
    # of memory it wants more for it, and waits for itself for ever, with all other threads.
    os.environ["RUST_BACKTRACE"] = "0"
    os.umask(0)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if memory.extent == "all" and secrecy.needs_lock_capability():
        privileges.drop(privileges.IPC_LOCK)
    else:
        privileges.drop()
    return Hardened(memory)


def folders_open() -> int:
    """How many folders may be kept open: a share of the descriptors, the rest is for files."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(1024, soft // 4))


def files_resting(wanted: int) -> int:
    """How many files that nobody has open may be kept open: `wanted`, or a small share."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, soft // 8)

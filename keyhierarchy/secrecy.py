"""What a process asks of the system before it holds keys: no core dump, no tracer, no swap.

Python cannot wipe what it has copied, so the memory as a whole is kept in. Knows no keys.
"""

from __future__ import annotations

import ctypes
import re
import resource
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_MLOCK_ONFAULT = 1
_CAP_IPC_LOCK = 14
# Of a small limit so much stays free, for whatever else of the process wants to lock.
_SPARE = 256 << 10
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) *(.*)")


class Locked(NamedTuple):
    """How much of the process's memory cannot be swapped out, and if not all, why."""

    extent: Literal["all", "part", "none"]
    reason: str = ""


def shut() -> Locked:
    """No core dump, no debugger of the same account, and as much memory locked as may be.

    A process that is not dumpable writes no core, whatever limit is set from outside, and its
    /proc files are root's: so nothing has to be left out of a dump mapping by mapping. What gains
    credentials becomes dumpable again as the system says; nothing here ever does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return _lock(libc)


def is_shut() -> bool:
    """Whether no core dump can be had of this process."""
    return not int(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def needs_lock_capability() -> bool:
    """Whether locked memory would be refused from now on without CAP_IPC_LOCK.

    True where the limit could not be lifted: a mapping that is to be locked is then refused.
    """
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY


def _lock(libc: ctypes.CDLL) -> Locked:
    """Everything, also what is still to be mapped, when no limit can turn that into a failure.

    Pages are locked as they are touched: a stack or a library costs what it uses.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (ValueError, OSError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    limit, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or _may_lock():
        if not libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
            return Locked("all")
        return Locked("none", "the system refuses to lock memory")
    # With a limit, a later mapping would fail where it is only too large to be locked.
    locked = _lock_newest(libc, max(0, limit - _SPARE))
    return Locked(
        "part" if locked else "none",
        f"this account may lock {limit >> 10} KiB; raise its memlock limit, or encrypt the swap",
    )


def _lock_newest(libc: ctypes.CDLL, budget: int) -> int:
    """Bytes locked: the newest ends of the heap and of the interpreter's arenas.

    What comes into memory next, the keys, lies there. Never a stack: one that may not grow ends
    the process.
    """
    libc.mlock2.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = resource.getpagesize()
    locked = 0
    for start, end in _heaps():
        length = min(end - start, (budget - locked) // page * page)
        if length and not libc.mlock2(end - length, length, _MLOCK_ONFAULT):
            locked += length
    return locked


def _heaps() -> Iterator[tuple[int, int]]:
    """The C heap, then other private writable memory without a file, the smallest first."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        found = [match for line in lines if (match := _MAPPING.match(line))]
    ranges = [
        (name != "[heap]", int(end, 16) - int(start, 16), int(start, 16), int(end, 16))
        for start, end, mode, inode, name in (match.groups() for match in found)
        if mode == "rw-p" and inode == "0" and name in ("", "[heap]")
    ]
    return ((start, end) for _other, _size, start, end in sorted(ranges))


def _may_lock() -> bool:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
        held = next(line for line in lines if line.startswith("CapEff:"))
    return bool(int(held.split()[1], 16) >> _CAP_IPC_LOCK & 1)

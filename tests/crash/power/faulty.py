"""A store whose Nth call fails, and which knows what a failed sync has lost.

As Linux has it: a sync that fails leaves the pages marked as written though they are not on the
disk. Only what is written again reaches it with the next sync; the next sync alone says yes to
nothing.
"""

from __future__ import annotations

import errno
import functools
import os
from collections import defaultdict
from typing import TYPE_CHECKING

from fsdriver.backing import Backing
from fsdriver.format.geometry import HEADER_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGE = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEVER_FAILS = ("close", "stat_open", "reserve")
"""A failing close(2) is told by the sync before it; reserve is but a wish."""

ERRORS: dict[str, tuple[int, ...]] = {
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    "truncate": (errno.EIO, errno.EROFS),
    "sync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "open_file": (errno.EMFILE, errno.ENFILE, errno.EIO),
    "open_directory": (errno.EMFILE, errno.ENFILE, errno.EIO),
    "duplicate": (errno.EMFILE,),
    "create_file": (errno.ENOSPC, errno.EMFILE, errno.EDQUOT, errno.EROFS),
    "rename": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    "make": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
    "set_xattr": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
}
ERRORS["open_status"] = ERRORS["open_file"]
ERRORS |= {"sync_data": ERRORS["sync"], "sync_filesystem": ERRORS["sync"]}
ERRORS |= dict.fromkeys(("make_directory", "make_node", "make_symlink", "link"), ERRORS["make"])
ERRORS |= {"remove_directory": ERRORS["unlink"]}


def errors_of(call: str) -> tuple[int, ...]:
    """What a call of the backing room is made to fail with."""
    return ERRORS.get(call, (errno.EIO,))


class Faulty(Backing):
    """Counts the calls, fails one of them, and keeps what was written apart from what is safe."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failed: str = ""
        self.counting = True
        self._left = -1
        self._code = 0
        self._pending: dict[int, set[int]] = defaultdict(set)
        self._lost: dict[int, set[int]] = defaultdict(set)

    def arm(self, number: int, code: int) -> None:
        """The call after `number` more fails."""
        self._left, self._code, self.failed = number, code, ""

    def count(self, name: str) -> bool:
        """Whether this call is the one."""
        if not self.counting:
            return False
        self.calls.append(name)
        self._left -= 1
        if self._left == -1:
            self.failed = name
        return self._left == -1

    def failure(self) -> OSError:
        return OSError(self._code, os.strerror(self._code))

    def tear(self, descriptor: int, buffers, offset: int) -> None:
        """A full disk takes a part first; what fits a sector is written wholly or not at all."""
        whole = b"".join(buffers)
        if self._code in _FULL and len(whole) > HEADER_SIZE:
            os.pwrite(descriptor, whole[: len(whole) // 2], offset)
            self.note_written(descriptor, offset, len(whole) // 2)

    # What is safe

    def note_written(self, descriptor: int, offset: int, length: int) -> None:
        number = os.fstat(descriptor).st_ino
        pages = range(offset // _PAGE, -(-(offset + length) // _PAGE))
        self._pending[number].update(pages)
        self._lost[number].difference_update(pages)

    def note_truncated(self, descriptor: int, length: int) -> None:
        number = os.fstat(descriptor).st_ino
        for pages in (self._pending[number], self._lost[number]):
            pages.difference_update({page for page in pages if page * _PAGE >= length})

    def note_made(self, descriptor: int) -> None:
        number = os.fstat(descriptor).st_ino
        self._pending.pop(number, None)
        self._lost.pop(number, None)

    def note_synced(self, descriptor: int, *, done: bool, whole_store: bool = False) -> None:
        numbers = list(self._pending) if whole_store else [os.fstat(descriptor).st_ino]
        for number in numbers:
            pages = self._pending.pop(number, set())
            if not done:
                self._lost[number] |= pages

    def unsafe(self, number: int) -> str:
        """What would be missing of a backing file after a power cut; empty for nothing."""
        told = {
            "never synced": self._pending.get(number),
            "lost by a failed sync": self._lost.get(number),
        }
        return ", ".join(f"pages {sorted(pages)} {what}" for what, pages in told.items() if pages)


def _counted(name: str, method: Callable) -> Callable:
    @functools.wraps(method)
    def call(self: Faulty, *args, **kwargs):
        failing = self.count(name)
        if name in ("sync", "sync_data", "sync_filesystem"):
            whole = name == "sync_filesystem"
            self.note_synced(args[0], done=not failing, whole_store=whole)
        if failing:
            if name == "write":
                self.tear(*args, **kwargs)
            raise self.failure()
        result = method(self, *args, **kwargs)
        if name == "write":
            self.note_written(args[0], args[2], sum(len(one) for one in args[1]))
        elif name == "truncate":
            self.note_truncated(*args)
        elif name == "create_file":
            self.note_made(result)
        return result

    return call


for _name, _method in list(vars(Backing).items()):
    if not _name.startswith("_") and _name not in _NEVER_FAILS:
        setattr(Faulty, _name, _counted(_name, _method))

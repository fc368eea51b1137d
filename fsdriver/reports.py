"""Which errno a program sees for an error, and the one log line about it."""

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fsdriver import logs
from fsdriver.errors import ChunkInvalid, CkfsError, ConflictCopy, FileError, Recovered
from fsdriver.incidents import Incidents
from fsdriver.inodes import Inode
from keyhierarchy import errors as keys

_KEY_ERRNO: Final = (
    (keys.RootKeyRefused, errno.EKEYREVOKED),
    (keys.PolicyPurged, errno.EKEYREVOKED),
    (keys.WrappedKeyInvalid, errno.EKEYREJECTED),
    (keys.KeystoreInvalid, errno.EKEYREJECTED),
    (keys.AnchorMismatch, errno.EKEYREJECTED),
    (keys.KeyHierarchyError, errno.ENOKEY),
)
_REMEMBERED: Final = 10_000


class Reports:
    """The log of what the store got wrong; bounded, whatever is thrown at it."""

    def __init__(self, place_of: Callable[[Inode], str]) -> None:
        """`place_of` says where an inode lies in the store; it may raise."""
        self.incidents = Incidents()
        self._place_of = place_of
        self._said: set[tuple[int, int, str]] = set()

    def errno_of(self, error: Exception, inode: Inode | None) -> int:
        """An OSError keeps its own; what nobody foresaw is EIO and a traceback in the log."""
        if isinstance(error, FileError | keys.KeyHierarchyError):
            self.report(inode, error)
        elif not isinstance(error, OSError):
            logs.error("unexpected", error, path=inode.path() if inode else "")
        if isinstance(error, CkfsError):
            return error.errno
        if isinstance(error, OSError):
            return error.errno or errno.EIO
        for kind, code in _KEY_ERRNO:
            if isinstance(error, kind):
                return code
        return errno.EIO

    def report(self, inode: Inode | None, error: Exception) -> None:
        """One line for each file, chunk and reason, however often a program tries again."""
        chunk = error.chunk_index if isinstance(error, ChunkInvalid) else -1
        key = (inode.number if inode else 0, chunk, str(error))
        if key in self._said:
            return
        if len(self._said) > _REMEMBERED:
            self._said.clear()
        self._said.add(key)
        place = ""
        if inode is not None:
            with suppress(Exception):
                place = self._place_of(inode)
        self.incidents.note(place, error)
        facts = {"path": inode.path() if inode else "", "reason": str(error)}
        if chunk >= 0:
            facts["chunk"] = str(chunk)
        if isinstance(error, Recovered):
            logs.warning("recovered", **facts)
        elif isinstance(error, ConflictCopy):
            logs.warning("conflict copy", **facts)
        else:
            logs.error("refused", kind=type(error).__name__, **facts)

"""What the command line ends with: one exit code for each kind of refusal, documented and stable.

      0  done                                 16  permission denied, or unsafe permissions
      1  unexpected                           17  the store is in use
      2  wrong arguments                      18  the mount point is not there
     10  no store                             19  the mount point is not empty
     11  a store of a newer format            20  the store lies inside the mount point
     12  a damaged or forged store            21  the mount point lies inside the store
     13  a root key is missing                22  no FUSE on this machine, or for this user
     14  a root key does not answer           23  not mounted
     15  a root key says no                   24  the mount is in use
                                              25  a new store's folder is not empty
                                              26  the store was put back to an older state
                                              27  the disk below it is gone, full or fails
                                              30  not in the store's present state

What `scrub`, `salvage` and `verify` found:

     40  damaged: bytes do not authenticate       42  verify: not what the list says
     41  forged: authentic, and not in its place

10 to 17, 27 and 30 mean the same for `ckfs-keys`.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fsdriver.errors import Damaged, FormatUnsupported, StorageFailed, StoreError
from keyhierarchy import errors as keys

UNEXPECTED: Final = 1

_KEY_CODES: Final = (
    (keys.KeystoreNewer, 11),
    (keys.NotAStore, 10),
    (keys.KeystoreMissing, 12),
    (keys.KeystoreBusy, 17),
    (keys.KeystoreInvalid, 12),
    (keys.WrappedKeyInvalid, 12),
    (keys.AnchorMismatch, 12),
    (keys.AuditChainBroken, 12),
    (keys.RootKeyMissing, 13),
    (keys.RootKeyUnavailable, 14),
    (keys.StorageUnavailable, 27),
    (keys.RootKeyRefused, 15),
    (keys.PolicyPurged, 15),
    (keys.UnsafePermissions, 16),
    (keys.TransitionRefused, 30),
)


def exit_code_of(error: BaseException) -> int:
    """UNEXPECTED for whatever nobody foresaw: that one deserves its traceback in the log."""
    error = in_words(error)
    if isinstance(error, StoreError):
        return error.exit_code
    if isinstance(error, Damaged):
        return 12
    if isinstance(error, FormatUnsupported):
        return 11
    if isinstance(error, PermissionError):
        return 16
    for kind, code in _KEY_CODES:
        if isinstance(error, kind):
            return code
    return UNEXPECTED


# What a disk says, in words

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_FAILING: Final = frozenset(
    {
        *(errno.EIO, errno.EREMOTEIO, errno.EUCLEAN, errno.EBADMSG, errno.EROFS),
        *(errno.ENODEV, errno.ENOMEDIUM, errno.ESHUTDOWN, errno.ESTALE),
        *(errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENONET),
    }
)
"""Of a disk, a network filesystem or the mount of one; any other errno is a call of ours."""

_SQL_CODES: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


def in_words(error: BaseException, what: str = "") -> BaseException:
    """A disk's refusal as a StorageFailed; anything else as it is. `what` failed, if that is known.

    A group of one error is that error: tasks hand theirs over so.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, sqlite3.Error):
        code = _SQL_CODES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    else:
        code = error.errno if isinstance(error, OSError) else None
    if code not in _FULL | _SCARCE | _FAILING:
        return error
    if not what and isinstance(error, OSError) and error.filename is not None:
        what = os.fsdecode(error.filename) if not isinstance(error.filename, int) else ""
    what = what or "the store, or what this host keeps of it,"
    if code in _FULL:
        remedy = "make room on the disk below it, and try again"
    elif code in _SCARCE:
        remedy = "end what uses up this machine's memory or descriptors, and try again"
    elif code == errno.EROFS:
        remedy = "make the disk below it writable, or mount the store with -o ro"
    else:
        remedy = "mend the disk below it or bring it back (the kernel's log says more); try again"
    said = error.strerror if isinstance(error, OSError) else str(error)
    return StorageFailed(f"{what} cannot be used: {said}; {remedy}")


@contextmanager
def storage(what: str) -> Iterator[None]:
    """What the disk below `what` refuses in here is raised as a StorageFailed."""
    try:
        yield
    except Exception as error:
        told = in_words(error, what)
        if isinstance(told, StorageFailed) and told is not error:
            raise told from None
        raise

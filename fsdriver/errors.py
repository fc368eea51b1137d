"""Everything that fsdriver refuses, as one tree; each class knows the errno that a program sees.

    CkfsError
    ├─ StoreError                 the store as a whole: raised by the command line, exit codes
    │  ├─ WrongArguments
    │  ├─ NotPermitted
    │  ├─ NotAStore
    │  ├─ StoreTooNew
    │  ├─ StoreDamaged
    │  ├─ StoreRolledBack
    │  ├─ StoreBusy
    │  ├─ StorageFailed          the disk below the store or the state folder
    │  └─ MountRefused
    └─ FileError                  one file or folder: logged once, the mount lives on
       ├─ Damaged                 EIO         bytes that do not authenticate, or do not fit
       │  ├─ HeaderInvalid
       │  ├─ ChunkInvalid
       │  ├─ ChunkSetMismatch
       │  ├─ SizeMismatch
       │  ├─ NameBindingMismatch
       │  ├─ NameInvalid
       │  │  └─ ConflictCopy       a sync client's, and no attack
       │  ├─ DirectoryRecordInvalid
       │  ├─ JournalInvalid
       │  └─ RolledBack            an older state, or one that this host did not make
       │     └─ EntryMissing
       ├─ FormatUnsupported       EOPNOTSUPP  written by a newer ckfs
       ├─ KeyUnavailable          ENOKEY      the lease ran out and no root key answered
       └─ KeyRejected             EKEYREJECTED a wrapped key that does not open

A message says what happened, to which file, and what to do; never key bytes or plaintext.
"""

import errno


class CkfsError(Exception):
    """Root of the tree."""

    errno: int = errno.EIO


class StoreError(CkfsError):
    """The store or the mount as a whole; `exit_code` is what the command line ends with."""

    exit_code = 1


class WrongArguments(StoreError):
    """The command line asks for what there is not."""

    exit_code = 2


class NotPermitted(StoreError):
    """The system says no to this user."""

    exit_code = 16


class NotAStore(StoreError):
    """The folder has no readable store document."""

    exit_code = 10


class StoreTooNew(StoreError):
    """The store asks for a newer reader than this one."""

    exit_code = 11


class StoreDamaged(StoreError):
    """The store document is there but does not parse or does not authenticate."""

    exit_code = 12


class StoreRolledBack(StoreError):
    """The store as a whole is older than what this host knows of it."""

    exit_code = 26


class StoreBusy(StoreError):
    """Another driver holds the store."""

    exit_code = 17


class StorageFailed(StoreError):
    """The disk below the store, or below what this host keeps of it, is gone, full or fails."""

    exit_code = 27


class MountRefused(StoreError):
    """The mount point, the options or the machine do not allow the mount."""

    exit_code = 18


class FileError(CkfsError):
    """One file or folder; the mount goes on."""


class Damaged(FileError):
    """Bytes in the store that are not what the driver wrote there."""

    errno = errno.EIO


class HeaderInvalid(Damaged):
    """The header does not parse, its tag fails, or it does not commit to its key."""


class ChunkInvalid(Damaged):
    """A chunk is missing or its tag fails."""

    def __init__(self, chunk_index: int, reason: str) -> None:
        super().__init__(f"chunk {chunk_index}: {reason}")
        self.chunk_index = chunk_index


class ChunkSetMismatch(Damaged):
    """Every chunk authenticates, but not as the set that was sealed: one of them is older."""


class SizeMismatch(Damaged):
    """The backing file is longer or shorter than the sealed size says: cut or extended."""


class NameBindingMismatch(Damaged):
    """The file is not the one that was sealed under this name: moved or swapped in the store."""


class NameInvalid(Damaged):
    """A name in the store, or a symlink's target, that this folder's key did not write."""


class ConflictCopy(NameInvalid):
    """A name that a sync client has given to another version of a file that is known here."""


class DirectoryRecordInvalid(Damaged):
    """A folder's record is missing, does not authenticate, or belongs elsewhere."""


class JournalInvalid(Damaged):
    """Bytes in the redo journal that are no transaction of this store."""


class RolledBack(Damaged):
    """Authentic, but not what this host knows to be there: put back, planted or deleted."""


class EntryMissing(RolledBack):
    """A name that this host knows, and that is not in the store any more."""


class FormatUnsupported(FileError):
    """Written by a newer format than this reader knows."""

    errno = errno.EOPNOTSUPP


class KeyUnavailable(FileError):
    """No valid lease: no root key answered before the last one ran out."""

    errno = errno.ENOKEY


class KeyRejected(FileError):
    """A wrapped key that does not open under the key it names."""

    errno = errno.EKEYREJECTED


class NotAFile(OSError):
    """What a store has where a file was, and is none: programs get EIO, as from a bad disk."""


class Recovered(Exception):
    """No refusal: what a stop left was taken as it lies there, and the log says so."""


def refuse(code: int) -> OSError:
    """What a program gets when the call itself is at fault, not the store."""
    return OSError(code, errno.errorcode[code])

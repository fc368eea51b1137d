"""Small documents on disk: read whole, replaced whole, synced, locked. Used by every durable room.

Knows paths, modes and bytes, not what is in them. A document is either the old or the new one after
a crash. Symlinks are not followed, because a folder others can write to could point anywhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from keyhierarchy.errors import (
    KeystoreBusy,
    KeystoreInvalid,
    KeystoreMissing,
    StorageUnavailable,
    UnsafePermissions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyhierarchy.errors import KeyHierarchyError

_OTHERS = 0o077
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TEMPORARY = ".tmp-"


def storage_error(error: OSError, path: str, doing: str) -> KeyHierarchyError:
    """Turn what the kernel said about a document into an error of this package."""
    if error.errno == errno.ENOENT:
        return KeystoreMissing(f"cannot {doing} {path}: it does not exist", place=path)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UnsafePermissions(
            f"cannot {doing} {path}: this account (uid {os.geteuid()}) may not; "
            "run as the owner of the folder or correct its mode",
            place=path,
        )
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR}:
        return KeystoreInvalid(
            f"cannot {doing} {path}: {error.strerror}; a regular file is expected there, "
            "and no symbolic link is followed",
            place=path,
        )
    return StorageUnavailable(
        f"cannot {doing} {path}: {error.strerror}; mend the disk below it and try again",
        place=path,
    )


def read_document(path: str, *, limit: int, private: bool = False) -> bytes:
    """Read a regular file of at most `limit` bytes; `private`: owner and mode must shut others out.

    Raises KeystoreMissing, KeystoreInvalid, UnsafePermissions or StorageUnavailable.
    """
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeystoreInvalid(f"{path} is no regular file; move it away", place=path)
        if private:
            _require_private(status, path, 0o600)
        if status.st_size > limit:
            raise KeystoreInvalid(
                f"{path} has {status.st_size} bytes, more than the {limit} that it can have; "
                "put it back from a backup",
                place=path,
            )
        return _read_all(descriptor, limit)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    finally:
        os.close(descriptor)


def replace_document(path: str, content: bytes) -> None:
    """Replace a document, mode 0600: after a crash there is the old one or the new one, whole.

    The caller holds the lock of this document, if it can have several writers: leftovers of
    writers that crashed are swept here, because one of them may hold a key.
    """
    folder, name = os.path.split(path)
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, path, "write") from error
    prefix = f".{name}{_TEMPORARY}"
    temporary = prefix + secrets.token_hex(8)
    try:
        for leftover in os.listdir(folder_fd):
            if leftover.startswith(prefix):
                os.unlink(leftover, dir_fd=folder_fd)
        _write_synced(folder_fd, temporary, content)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        os.fsync(folder_fd)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder_fd)
        raise storage_error(error, path, "write") from error
    finally:
        os.close(folder_fd)


def make_private_folder(path: str) -> None:
    """Make a folder, and those missing above it, with mode 0700; check one that is there."""
    missing = []
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    try:
        for folder in reversed(missing):
            with suppress(FileExistsError):  # another process made it a moment ago
                os.mkdir(folder, 0o700)
            sync_folder(os.path.dirname(folder))
    except OSError as error:
        raise storage_error(error, path, "make the folder") from error
    require_private_folder(path)


def require_private_folder(path: str) -> None:
    """Raise unless `path` is a folder of this account that nobody else can enter."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise storage_error(error, path, "use the folder") from error
    if not stat.S_ISDIR(status.st_mode):
        raise KeystoreInvalid(f"{path} is no folder; move it away", place=path)
    _require_private(status, path, 0o700)


@contextmanager
def locked(path: str, *, wait: bool = False) -> Iterator[int]:
    """Hold an exclusive flock on a file made for it; KeystoreBusy if another process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise storage_error(error, path, "lock") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise KeystoreBusy(
                f"another process is changing what {path} guards; try again when it has finished",
                place=path,
            ) from error
        except OSError as error:
            raise storage_error(error, path, "lock") from error
        yield descriptor
    finally:
        os.close(descriptor)


def _require_private(status: os.stat_result, path: str, mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise UnsafePermissions(
            f"{path} belongs to uid {status.st_uid}, not to this account (uid {os.geteuid()}); "
            f"run as its owner, or: chown {os.geteuid()} {path}",
            place=path,
        )
    if status.st_mode & _OTHERS:
        raise UnsafePermissions(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, which lets other accounts in; "
            f"run: chmod {mode:04o} {path}",
            place=path,
        )


def _read_all(descriptor: int, limit: int) -> bytes:
    content = bytearray()
    while len(content) <= limit:
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            break
        content += piece
    return bytes(content)


def _write_synced(folder_fd: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask took away
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str) -> None:
    """Make what was renamed, made or removed in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

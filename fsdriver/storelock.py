"""One driver for each store: a lock in the store, and the host's note of who holds it.

The lock says nothing, since whoever owns the store reads it; who holds it is told in the host's own
folder for the store.
"""

import errno
import fcntl
import json
import os
from contextlib import suppress
from typing import Final

from fsdriver import refusals
from fsdriver.errors import StoreBusy, StoreDamaged, StoreError
from fsdriver.store import control_folder

_LOCK: Final = "lock"
_NOTE: Final = "mount.json"
_NOTE_SIZE: Final = 4096


def is_held(store: str) -> bool:
    """Whether a driver holds the store at this moment.

    Asks by a shared lock that is given back at once, so that readers of a store do not keep a
    mount out.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    for name in (_LOCK, ""):  # without the file: as a read-only medium is locked
        with suppress(OSError):
            descriptor = os.open(os.path.join(control_folder(store), name), flags)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
    return False


class StoreLock:
    """Held by a lock on `.ckfs/lock` that the system gives back when the driver ends."""

    def __init__(self, store: str, host_folder: str, *, read_only: bool) -> None:
        place = os.path.join(control_folder(store), _LOCK)
        self._note = os.path.join(host_folder, _NOTE)
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(place, flags | os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise StoreDamaged(
                    f"{place} is no file ({error.strerror}), and ckfs makes one: remove it"
                ) from None
            if not read_only:
                told = refusals.in_words(error, place)
                if told is not error:
                    raise told from None
                raise StoreError(f"{place} cannot be opened: {error.strerror}") from None
            # A read-only mount of a read-only medium: the folder itself is what is locked.
            with refusals.storage(place):
                self._descriptor = os.open(control_folder(store), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise StoreBusy(
                f"the store {store} is in use{self._holder()}; unmount it there first"
            ) from None

    def note(self, mountpoint: str) -> None:
        """For whoever comes second; once the host's folder is there."""
        who = {"pid": os.getpid(), "mountpoint": mountpoint}
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with suppress(OSError):
            descriptor = os.open(self._note, flags, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(who, file)

    def release(self) -> None:
        """Let another driver have the store."""
        with suppress(OSError):
            os.unlink(self._note)
        os.close(self._descriptor)

    def _holder(self) -> str:
        try:
            with open(self._note, encoding="utf-8") as file:
                who = json.loads(file.read(_NOTE_SIZE))
            return f" by process {int(who['pid'])}, mounted at {who['mountpoint']}"
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return " by another account or another host"

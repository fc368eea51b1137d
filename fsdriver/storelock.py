"""One driver for each store: who holds it, and a clear refusal for whoever comes second."""

import fcntl
import json
import os
import socket
from typing import Final

from fsdriver.errors import StoreBusy, StoreError
from fsdriver.store import control_folder

_LOCK: Final = "lock"


class StoreLock:
    """Held by a lock on `.ckfs/lock` that the system gives back when the driver ends."""

    def __init__(self, store: str, mountpoint: str, *, read_only: bool) -> None:
        place = os.path.join(control_folder(store), _LOCK)
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(place, flags | os.O_RDWR | os.O_CREAT, 0o600)
            writable = True
        except OSError as error:
            if not read_only:
                raise StoreError(f"{place} cannot be opened: {error.strerror}") from None
            # A read-only mount of a read-only medium: the folder itself is what is locked.
            self._descriptor = os.open(control_folder(store), os.O_RDONLY | os.O_CLOEXEC)
            writable = False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(self._descriptor) if writable else ""
            os.close(self._descriptor)
            raise StoreBusy(
                f"the store {store} is in use{holder}; unmount it there first"
            ) from None
        if writable:
            who = {"pid": os.getpid(), "host": socket.gethostname(), "mountpoint": mountpoint}
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(who).encode() + b"\n", 0)

    def release(self) -> None:
        """Let another driver have the store."""
        os.close(self._descriptor)


def _holder(descriptor: int) -> str:
    try:
        who = json.loads(os.pread(descriptor, 4096, 0))
        return f" by process {who['pid']} on {who['host']}, mounted at {who['mountpoint']}"
    except (ValueError, KeyError, TypeError):
        return ""

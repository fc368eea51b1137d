"""File keys for files that are yet to be made: drawn, wrapped, expanded and set up ahead of time.

That is a third of what it costs to make a small file, and nothing in it depends on the file. So a
driver that waits for its next request may do it then (`prepare`), for the site that last needed
one; who makes a file takes what is there, or does it on the spot. A few keys in memory, of no file
yet: they go when the lease of their site ends.
"""

import os
from collections import deque
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.format import filekeys
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.header import ClearHeader
from fsdriver.lease import Lease

KEPT: Final = 32
_FILE_ID_SIZE: Final = 16


class FreshKey:
    """A new file's id, its keys, its headers' clear part; `finish` sets up the ciphers."""

    __slots__ = ("cipher", "clear", "file_id", "finished", "generation", "header_cipher", "keys")

    def __init__(self, lease: Lease, chunk_size: int) -> None:
        """Raises what the key hierarchy raises once the lease has ended."""
        drawn = os.urandom(_FILE_ID_SIZE + filekeys.FILE_KEY_SIZE)
        self.file_id, file_key = drawn[:_FILE_ID_SIZE], drawn[_FILE_ID_SIZE:]
        self.keys = keys = filekeys.derive(file_key, self.file_id)
        # Read once: a renewal on another thread may bring the next generation in between.
        self.generation = generation = lease.generation
        self.clear = ClearHeader(
            chunk_size,
            generation,
            self.file_id,
            lease.site_id,
            lease.wrap_file_key(self.file_id, file_key, generation),
            keys.commitment,
        ).pack()
        self.finished = False

    def finish(self) -> "FreshKey":
        """A step of its own, since whoever asks for something meanwhile waits for it."""
        if not self.finished:
            self.header_cipher = AESGCM(self.keys.header_key)
            self.cipher = ChunkCipher(self.keys.chunk_key, self.file_id)
            self.finished = True
        return self


class FreshKeys:
    """Of one mount, for the site and the chunk size of the last file that was made."""

    __slots__ = ("_chunk_size", "_lease", "_ready")

    def __init__(self) -> None:
        self._ready: deque[FreshKey] = deque()
        self._lease: Lease | None = None
        self._chunk_size = 0

    def take(self, lease: Lease, chunk_size: int) -> FreshKey:
        """A key that no file has yet; raises why the lease ended, once it has."""
        if lease is not self._lease or chunk_size != self._chunk_size:
            self._ready.clear()
            self._lease, self._chunk_size = lease, chunk_size
        while self._ready and lease.valid:
            fresh = self._ready.popleft()
            if fresh.generation == lease.generation:
                return fresh.finish()
        return FreshKey(lease, chunk_size).finish()

    def prepare(self) -> bool:
        """A step ahead of time; False if there are enough, or no file was made so far."""
        lease = self._lease
        if lease is None or not lease.valid:
            return False
        if self._ready and not self._ready[-1].finished:
            self._ready[-1].finish()
            return True
        if len(self._ready) >= KEPT:
            return False
        self._ready.append(FreshKey(lease, self._chunk_size))
        return True

    def drop(self, site_id: bytes) -> None:
        """The lease of a site ended."""
        if self._lease is not None and self._lease.site_id == site_id:
            self._ready.clear()
            self._lease = None

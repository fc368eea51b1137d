"""Decrypted chunks of the files that are open: for reads and writes that take only part of one.

One bound for all files of a mount; the chunk that was not used for the longest time goes first.
What is given out is the plaintext itself, not a copy of it: valid until the next call.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

BYTES: Final = 32 << 20
_AT_LEAST: Final = 8
"""Chunks: more than one change of a file uses at a time, so that none goes in the middle of it."""
_SPARE: Final = 4
"""Buffers of closed files that are not given back at once."""


class Kept:
    """One chunk, filled up with zeros to a whole one."""

    __slots__ = ("_cache", "_index", "nonce", "plaintext")

    def __init__(self, cache: "FileChunks", index: int, plaintext: memoryview) -> None:
        self._cache = cache
        self._index = index
        self.plaintext = plaintext
        self.nonce: bytes | None = None
        """Of the record that it was read from, or was written to; None where there is none."""

    def drop(self) -> None:
        """Its place is needed."""
        del self._cache.chunks[self._index]


class ChunkCache:
    """Of one mount, whose files all have chunks of one size."""

    __slots__ = ("_limit", "_spare", "recent")

    def __init__(self, limit: int = BYTES) -> None:
        """`limit` in bytes of plaintext."""
        self._limit = limit
        self.recent: OrderedDict[Kept, None] = OrderedDict()
        self._spare: list[memoryview] = []

    @property
    def held(self) -> int:
        """Bytes, with those of buffers that nobody uses."""
        used = sum(len(kept.plaintext) for kept in self.recent)
        return used + sum(map(len, self._spare))

    def buffer(self, size: int) -> memoryview:
        """Room for one chunk; what is in it is of no meaning."""
        if self._spare:
            return self._spare.pop()
        if len(self.recent) >= max(_AT_LEAST, self._limit // size):
            oldest, _ = self.recent.popitem(last=False)
            oldest.drop()
            return oldest.plaintext
        return memoryview(bytearray(size))

    def give_back(self, buffer: memoryview) -> None:
        """Room that nobody needs any more, without what was in it."""
        buffer[:] = bytes(len(buffer))
        if len(self._spare) < _SPARE:
            self._spare.append(buffer)


class FileChunks:
    """Those of one file."""

    __slots__ = ("_cache", "chunks")

    def __init__(self, cache: ChunkCache) -> None:
        self._cache = cache
        self.chunks: dict[int, Kept] = {}

    def get(self, index: int) -> Kept | None:
        """One that is there."""
        kept = self.chunks.get(index)
        if kept is not None:
            self._cache.recent.move_to_end(kept)
        return kept

    def put(self, index: int, plaintext: memoryview) -> Kept:
        """One that was read into the cache's buffer."""
        kept = self.chunks[index] = Kept(self, index, plaintext)
        self._cache.recent[kept] = None
        return kept

    def drop(self, indexes: Iterable[int]) -> None:
        """Those among `indexes` that are there."""
        for index in indexes:
            kept = self.chunks.pop(index, None)
            if kept is not None:
                del self._cache.recent[kept]
                self._cache.give_back(kept.plaintext)

    def drop_from(self, first: int) -> None:
        """All from `first` on."""
        if self.chunks:
            self.drop([index for index in self.chunks if index >= first])

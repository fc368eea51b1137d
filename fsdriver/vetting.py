"""Is the whole of a file's chunk set the one that was sealed? (FORMAT.md section 5)

An older chunk put back under its own index authenticates by itself; only the set tells. So the
set is collected while chunks are read, in any order, and compared once every chunk was seen.
"""

from typing import Final

from fsdriver.errors import ChunkSetMismatch
from fsdriver.format.geometry import NONCE_SIZE
from fsdriver.sealedfile import SealedFile

_SEEN: Final = b"\x01"


class ChunkVetting:
    """The chunks of one open file that have been read, until all were."""

    __slots__ = ("_condemned", "_file", "_seen", "_seen_set", "_unseen", "_vetted")

    def __init__(self, file: SealedFile, *, vetted: bool) -> None:
        self._file = file
        self._vetted = vetted
        self._seen: bytearray | None = None
        self._seen_set = 0
        self._unseen = 0
        self._condemned = False

    def admit(self) -> None:
        """Raises ChunkSetMismatch for good once the set was found not to be the sealed one."""
        if self._condemned:
            raise ChunkSetMismatch(
                "every chunk authenticates, but they are not the set that was sealed: one was put "
                "back to an older version in the store; restore the file from a backup"
            )

    def restart(self) -> None:
        """The set is about to change; what was collected so far no longer adds up to it."""
        self._seen = None

    def note(self, first: int, nonces: bytes) -> None:
        """Chunks from `first` on were read and authenticated one by one; `nonces` are theirs.

        Raises ChunkSetMismatch when this was the last unseen chunk and the set is not right.
        """
        if self._vetted:
            return
        if self._seen is None:
            self._start()
        assert self._seen is not None
        count = len(nonces) // NONCE_SIZE
        known = self._seen.count(_SEEN, first, first + count)
        if known == count:
            return
        chunk_set = self._file.chunk_set
        if not known:
            self._seen_set ^= chunk_set.digest(first, nonces)
            self._seen[first : first + count] = _SEEN * count
        else:
            for number in range(count):
                if not self._seen[first + number]:
                    nonce = nonces[number * NONCE_SIZE : (number + 1) * NONCE_SIZE]
                    self._seen_set ^= chunk_set.digest(first + number, nonce)
                    self._seen[first + number] = 1
        self._unseen -= count - known
        if not self._unseen:
            self._seen = None
            self._condemned = self._seen_set != self._file.state.chunk_set
            self._vetted = not self._condemned
            self.admit()

    def _start(self) -> None:
        file = self._file
        chunks = file.geometry.chunk_count(file.state.size)
        self._seen = bytearray(chunks)
        self._seen_set = 0
        self._unseen = (
            chunks
            if file.extents is None
            else sum(end - first for first, end in file.extents.runs())
        )

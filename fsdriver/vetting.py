"""Is the whole of a file's chunk set the one that was sealed? (FORMAT.md section 5)

An older chunk put back under its own index authenticates by itself; only the set tells. So the
set is collected while chunks are read, in any order, and compared once every chunk was seen. What
was collected of a set that has changed since, by a write or a fold, is of no use, and begun anew.
"""

from fsdriver.errors import ChunkSetMismatch
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import NONCE_SIZE
from fsdriver.sealedfile import SealedFile


class ChunkVetting:
    """The chunks of one open file that have been read, until all were."""

    __slots__ = ("_condemned", "_file", "_seen", "_seen_set", "_sought", "_unseen", "_vetted")

    def __init__(self, file: SealedFile, *, vetted: bool) -> None:
        self._file = file
        self._vetted = vetted
        self._seen: ExtentMap | None = None
        self._seen_set = 0
        self._sought = 0
        """The set that was sealed when `_seen` was begun."""
        self._unseen = 0
        self._condemned = False

    @property
    def vetted(self) -> bool:
        """Whether every chunk was read or written here, and their set was the sealed one."""
        return self._vetted

    def admit(self) -> None:
        """Raises ChunkSetMismatch for good once the set was found not to be the sealed one."""
        if self._condemned:
            raise ChunkSetMismatch(
                "every chunk authenticates, but they are not the set that was sealed: one was put "
                "back to an older version in the store; restore the file from a backup"
            )

    def note(self, first: int, nonces: bytes) -> None:
        """Chunks from `first` on were read and authenticated one by one; `nonces` are theirs.

        Raises ChunkSetMismatch when this was the last unseen chunk and the set is not right.
        """
        if self._vetted:
            return
        end = first + len(nonces) // NONCE_SIZE
        file = self._file
        if not first and file.extents is None and end == file.geometry.chunk_count(file.state.size):
            # The whole of a dense file at once, whatever was seen before.
            self._judge(file.chunk_set.digest(0, nonces))
            return
        seen = self._seen
        if seen is None or self._sought != file.state.chunk_set:
            seen = self._start()
        for low, high, known in list(seen.segments(first, end)):
            if not known:
                part = nonces[(low - first) * NONCE_SIZE : (high - first) * NONCE_SIZE]
                self._seen_set ^= file.chunk_set.digest(low, part)
                seen.add(low, high)
                self._unseen -= high - low
        if not self._unseen:
            self._judge(self._seen_set)

    def _judge(self, digest: int) -> None:
        """Every chunk was seen, and this is their set."""
        self._seen = None
        self._condemned = digest != self._file.state.chunk_set
        self._vetted = not self._condemned
        self.admit()

    def _start(self) -> ExtentMap:
        file = self._file
        # Runs, not a flag for each chunk: a file may be one huge hole.
        self._seen = seen = ExtentMap()
        self._seen_set = 0
        self._sought = file.state.chunk_set
        self._unseen = (
            file.geometry.chunk_count(file.state.size)
            if file.extents is None
            else sum(end - first for first, end in file.extents.runs())
        )
        return seen

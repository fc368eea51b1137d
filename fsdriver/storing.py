"""How one change of a file's content reaches the store: in place, or through the journal.

A record goes to its place if nothing that the disk may have needs what lies there; all others,
and the header that names them, are one transaction of the journal. A file that has transactions
already gets its headers there too, so that there is one newest header.
"""

from collections.abc import Iterator
from contextlib import suppress

from fsdriver import extentpages
from fsdriver.buffers import Buffers
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import RECORD_OVERHEAD
from fsdriver.format.journal import HOLE_SIZE, Draft, size_of
from fsdriver.sealedfile import SealedFile

Run = tuple[int, int]


class Plan:
    """The records of one change: where each is composed, and what is done with them."""

    __slots__ = (
        "_at",
        "_buffer",
        "_cut",
        "_direct",
        "_direct_at",
        "_extras",
        "_file",
        "_first_extra",
        "_hole",
        "_journaled",
        "_state",
        "draft",
        "extents",
        "tail",
    )

    def __init__(
        self,
        file: SealedFile,
        buffers: Buffers,
        new_size: int,
        extents: ExtentMap | None,
        journaled: list[Run],
        direct: list[Run],
        tail: int,
        cut: int | None,
        *,
        forced: bool = False,
        hole: tuple[int, int] | None = None,
    ) -> None:
        """`journaled` and `direct` as runs of chunks, `cut` as an offset in the backing file.

        `forced`: with a transaction, though no record needs one. `hole`: (offset, bytes) of the
        backing file that nothing needs any more.
        """
        self._file = file
        self._journaled = journaled
        self._direct = direct
        self._cut = cut
        self._hole = hole
        self.extents = extents
        """The map of a sparse file once this is done."""
        self.tail = tail
        """The chunk that was the last and is filled up; -1 if none is."""
        self.draft: Draft | None = None
        geometry = file.geometry
        length = sum(geometry.run_length(first, end, new_size) for first, end in direct)
        self._buffer = buffers.records(length) if direct else memoryview(b"")
        self._direct_at: dict[int, int] = {}
        at = 0
        for first, end in direct:
            self._direct_at[first] = at
            at += geometry.run_length(first, end, new_size)
        self._state = file.state.copy()
        self._state.size, self._state.content_digest = new_size, None
        self._extras: list[extentpages.Extra] = []
        self._at: dict[int, int] = {}
        self._first_extra = 0
        if journaled or forced or cut is not None or file.journaled is not None:
            self._compose(buffers, new_size)

    def _compose(self, buffers: Buffers, new_size: int) -> None:
        file, geometry = self._file, self._file.geometry
        self.extents, self._extras = extentpages.fit(file, self._state, self.extents)
        # The hole first: what else is in the transaction may lie in it.
        images = [(self._hole[0], HOLE_SIZE)] if self._hole is not None else []
        old_size = file.state.size
        for first, end in self._journaled:
            for index in range(first, end):
                self._at[index] = len(images)
                length = geometry.chunk_length(index, new_size) + RECORD_OVERHEAD
                offset = geometry.record_offset(index)
                images.append((offset, length))
                old_length = geometry.chunk_length(index, old_size) + RECORD_OVERHEAD
                if length > old_length or not file.is_present(index):
                    # So that there is room for it when it is put in place.
                    file.backing.reserve(file.descriptor, offset, length)
        self._first_extra = len(images)
        images += extentpages.images(file, self._state, self._extras)
        self.draft = Draft(buffers.journal(size_of(images)), images)
        if self._hole is not None:
            self.draft.image(0)[:] = self._hole[1].to_bytes(HOLE_SIZE)

    def runs(self, first: int, end_chunk: int) -> Iterator[Run]:
        """The runs within [first, end_chunk) that can be encrypted as one, in order."""
        for low, high in sorted(self._journaled + self._direct):
            if low >= first and high <= end_chunk:
                yield low, high

    def records(self, first: int, end_chunk: int) -> memoryview:
        """Where the records of [first, end_chunk), within one run, are to be composed."""
        number = self._at.get(first)
        if number is not None and self.draft is not None:
            return self.draft.run(number, number + end_chunk - first)
        for low, high in self._direct:
            if low <= first < high:
                return self._buffer[
                    self._direct_at[low] + (first - low) * self._file.geometry.stride :
                ]
        raise ValueError(f"chunk {first} is not part of this change")

    def write_direct(self) -> None:
        """New chunks to their places."""
        file, geometry = self._file, self._file.geometry
        if self._direct and self.draft is not None and file.state.dirty:
            # The length alone would no longer say where a last chunk ends that no header names.
            file.seal()
        for low, high in self._direct:
            at = self._direct_at[low]
            length = geometry.run_length(low, high, self._state.size)
            record = self._buffer[at : at + length]
            file.backing.write(file.descriptor, [record], geometry.record_offset(low))

    def take_back(self) -> None:
        """It failed: what was written in place behind the end is cut off.

        In a file with transactions the journal does that, when they are put in place.
        """
        file = self._file
        if self._direct and file.journaled is None:
            with suppress(OSError):
                was = file.geometry.ciphertext_size(file.state.size)
                if file.backing.stat_open(file.descriptor).st_size > was:
                    file.backing.truncate(file.descriptor, was)

    def commit(self, chunk_set: int) -> None:
        """One transaction of the journal: the records, and the header that names all."""
        file, draft = self._file, self.draft
        if draft is None:
            raise ValueError("a change without a transaction")
        state = self._state
        state.chunk_set = chunk_set
        extentpages.encrypt(file, state, self._extras, draft, self._first_extra)
        file.put(draft, state, self._cut)
        file.extents = self.extents
        file.touch()


def plan_of(
    file: SealedFile,
    buffers: Buffers,
    first: int,
    end_chunk: int,
    new_size: int,
    *,
    forced: bool = False,
) -> Plan:
    """For writing [first, end_chunk): which records go to their places and which to the journal."""
    geometry, old_size = file.geometry, file.state.size
    old_chunks = geometry.chunk_count(old_size)
    tail = last = -1
    if new_size > old_size and old_size % geometry.chunk_size:
        last = old_chunks - 1
        # Only whole chunks are added behind a dirty header (recovery.py), also behind a hole.
        forced = True
        if first >= old_chunks and file.is_present(last):
            tail = last  # to be filled up with zeros
    extents = None if file.extents is None else file.extents.copy()
    if extents is None and first > old_chunks:
        extents = ExtentMap.full(old_chunks)
    if extents is not None and first < end_chunk:
        extents.add(first, end_chunk)
    present = ExtentMap.full(old_chunks) if file.extents is None else file.extents
    free = file.holes_are_free
    journaled: list[Run] = [(tail, tail + 1)] if tail >= 0 else []
    direct: list[Run] = []
    for low, high, there in present.segments(first, end_chunk):
        if there or not free:
            journaled.append((low, high))
            continue
        at = low
        if low <= last < high:
            # A hole that the file ends in: who finds its record lost could not tell how long the
            # file was, and would cut off what there was of the hole.
            if low < last:
                direct.append((low, last))
            journaled.append((last, last + 1))
            at = last + 1
        if at < high:
            direct.append((at, high))
    return Plan(file, buffers, new_size, extents, journaled, direct, tail, None, forced=forced)

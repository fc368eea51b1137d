"""The deltas of one file that is open: which chunks they change, and what those chunks are now.

A small write is a delta in the journal and no more. The chunk is written whole when the deltas are
folded: at a checkpoint, at the last close, before any other change of the file. Until then what
counts is the chunk as the newest header names it, with the deltas over it in their order.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from fsdriver import extentpages
from fsdriver.buffers import Buffers
from fsdriver.chunkcache import FileChunks
from fsdriver.errors import ChunkInvalid, KeyUnavailable
from fsdriver.format import delta as delta_format
from fsdriver.format.delta import Delta
from fsdriver.format.geometry import NONCE_SIZE, RECORD_OVERHEAD
from fsdriver.format.journal import Draft, size_of
from fsdriver.journaled import DeltaPlace, JournaledFile

if TYPE_CHECKING:
    from fsdriver.sealedfile import SealedFile

_AT_ONCE: Final = 1 << 20
"""Bytes of chunks that are encrypted before others are served."""
_SOME: Final = 16
_MANY: Final = 128
"""Deltas of one chunk."""
_ROOM_STEP: Final = 16 << 10


class Overlay:
    """Over the content that the newest header names."""

    __slots__ = ("_buffers", "_file", "_owed", "_room", "_staged", "base_size", "dirty", "kept")

    def __init__(self, file: "SealedFile") -> None:
        self._file = file
        self._buffers: Buffers | None = None
        self.kept: FileChunks | None = None
        self.base_size = file.state.size
        """Of the plaintext that the header names."""
        self.dirty: dict[int, list[DeltaPlace]] = {}
        """Chunk -> its deltas; what comes before one that covers all of it is left out."""
        self._staged: dict[int, tuple[bytes, int]] = {}
        """What is in parts already: the new nonce, and what that changes of the chunk set."""
        self._owed = 0
        self._room = 0

    def attend(self, buffers: Buffers, kept: FileChunks) -> None:
        """Of who has the file open."""
        self._buffers, self.kept = buffers, kept

    @classmethod
    def over(cls, file: "SealedFile", journaled: JournaledFile) -> "Overlay | None":
        """Of a file that is being opened: `file.state` is then as the last delta leaves it.

        Deltas of a header that is not there were lost with it, in a power cut: without their
        ground they are none. What a sync covered has its ground.
        """
        state = file.state
        deltas = journaled.deltas
        while deltas and deltas[0].generation <= state.generation:
            del deltas[0]
        whole = 0
        while whole < len(deltas) and deltas[whole].generation == state.generation + whole + 1:
            whole += 1
        del deltas[0 if state.dirty else whole :]
        if not deltas:
            return None
        overlay = cls(file)
        for one in deltas:
            overlay.add(one)
            state.size = file.geometry.plaintext_size(one.final)
        state.generation = deltas[-1].generation
        return overlay

    # What is there

    def prepare(self, end: int, fresh: int) -> None:
        """Room for a change that ends at `end` and makes `fresh` more chunks dirty.

        Raises OSError: who writes is to hear of a full store, and not who folds.
        """
        file, geometry = self._file, self._file.geometry
        if fresh:
            owed = fresh * (geometry.stride + 12)
            file.session.writing_journal.owe(owed)
            self._owed += owed
        if end > self.base_size:
            last = (end - 1) // geometry.chunk_size
            offset = geometry.record_offset(last)
            until = offset + end - last * geometry.chunk_size + RECORD_OVERHEAD
            if until > self._room:
                wanted = min(-(-until // _ROOM_STEP) * _ROOM_STEP, offset + geometry.stride)
                start = max(self._room, geometry.ciphertext_size(self.base_size))
                file.backing.reserve(file.descriptor, start, wanted - start)
                self._room = wanted

    def add(self, delta: DeltaPlace) -> None:
        """One more."""
        size = self._file.geometry.chunk_size
        offset, end = delta.offset, delta.offset + delta.length
        for index in range(offset // size, -(-end // size)):
            self._staged.pop(index, None)
            there = self.dirty.get(index)
            if there is None or self._covers(delta, index):
                self.dirty[index] = [delta]
            else:
                there.append(delta)

    def _covers(self, delta: DeltaPlace, index: int) -> bool:
        """Whether nothing that was in the chunk before is left."""
        geometry = self._file.geometry
        start = index * geometry.chunk_size
        end = delta.offset + delta.length
        return delta.offset <= start and (
            end >= start + geometry.chunk_size or end == geometry.plaintext_size(delta.final)
        )

    def is_crowded(self, index: int) -> bool:
        """Whether the deltas of a chunk are better replaced by one that covers it."""
        there = self.dirty[index]
        count = len(there)
        return count % _SOME == 0 and (
            count >= _MANY or sum(one.length for one in there) > self._file.geometry.chunk_size
        )

    def base_length(self, index: int) -> int:
        """Plaintext bytes of the chunk's record under the deltas; 0 if there is none."""
        length = self._file.geometry.chunk_length(index, self.base_size)
        return max(0, length) if self._file.is_present(index) else 0

    def lay_over(self, index: int, plaintext: memoryview) -> None:
        """The deltas of a chunk, over what its record holds, padded with zeros.

        Raises ChunkInvalid if one of them was changed in the store.
        """
        file = self._file
        journal = file.session.journal
        start = index * file.geometry.chunk_size
        scratch = memoryview(bytearray(max(one.length for one in self.dirty[index])))
        records = memoryview(bytearray(len(scratch) + RECORD_OVERHEAD))
        for one in self.dirty[index]:
            if journal is None:
                raise ChunkInvalid(index, "the journal that holds it is not there")
            record = journal.read_delta(one, records)
            bound = delta_format.bound_data(
                Delta(file.file_id, 0, one.generation, one.offset, one.final)
            )
            data = scratch[: one.length]
            if len(record) != one.length + RECORD_OVERHEAD or not file.cipher.decrypt_message(
                record, bound, data
            ):
                raise ChunkInvalid(index, "what was written to it last was changed in the journal")
            low = max(start, one.offset)
            high = min(start + len(plaintext), one.offset + one.length)
            plaintext[low - start : high - start] = data[low - one.offset : high - one.offset]

    def covered(self, index: int) -> bool:
        """Whether the deltas alone say what is in a chunk."""
        return self._covers(self.dirty[index][0], index)

    def cut(self, size: int) -> None:
        """Less of it was found whole than was named."""
        self.base_size = min(self.base_size, size)
        chunks = self._file.geometry.chunk_count(size)
        self.dirty = {index: found for index, found in self.dirty.items() if index < chunks}

    def drop(self) -> None:
        """Nobody can reach the file any more."""
        self.release()
        journaled = self._file.journaled
        if journaled is not None:
            journaled.deltas.clear()
        self._file.overlay = None

    def moved(self, deltas: Sequence[DeltaPlace]) -> None:
        """They lie in another epoch now."""
        self.dirty.clear()
        self._staged.clear()
        for one in deltas:
            self.add(one)

    # Folding

    def fold(self) -> Iterator[None]:
        """Make one transaction of all, a step at a time; others may change the file meanwhile.

        Raises OSError; the deltas still count then.
        """
        if self._file.locked:
            if not self._file.lease.valid:
                raise KeyUnavailable("the lease on the key of its site ended")
            self._file.unlock()
        at_once = max(1, _AT_ONCE // self._file.geometry.chunk_size)
        while self._file.overlay is self:
            left = sorted(self.dirty.keys() - self._staged.keys())
            if len(left) <= at_once:
                self._finish(left)
                return
            for at in range(0, len(left) - at_once, at_once):
                self._stage([one for one in left[at : at + at_once] if one in self.dirty])
                yield
                if self._file.overlay is not self:
                    return

    def _stage(self, indexes: Sequence[int]) -> None:
        file = self._file
        draft = self._draft(self._images(indexes), ())
        fresh = self._encrypt(indexes, draft)
        journaled = file.journaled
        if journaled is None:
            raise RuntimeError("deltas of a file that has none")
        file.session.writing_journal.append_part(draft, journaled)
        self._staged.update(fresh)

    def _finish(self, indexes: Sequence[int]) -> None:
        file = self._file
        state = file.state.copy()
        state.content_digest = None
        extents, extras = extentpages.fit(file, state, file.extents)
        pages = extentpages.images(file, state, extras)
        draft = self._draft(self._images(indexes), pages)
        fresh = self._staged | self._encrypt(indexes, draft)
        for _nonce, changed in fresh.values():
            state.chunk_set ^= changed
        extentpages.encrypt(file, state, extras, draft, len(indexes))
        file.take_deltas(draft, state)
        file.extents = extents
        self.release()
        for index, (nonce, _changed) in fresh.items():
            kept = self.kept.chunks.get(index) if self.kept is not None else None
            if kept is not None:
                kept.nonce = nonce

    def release(self) -> None:
        """The room that a fold would have needed."""
        if self._owed:
            self._file.session.writing_journal.owe(-self._owed)
            self._owed = 0

    def _images(self, indexes: Sequence[int]) -> list[tuple[int, int]]:
        geometry, size = self._file.geometry, self._file.state.size
        return [
            (
                geometry.record_offset(index),
                geometry.chunk_length(index, size) + RECORD_OVERHEAD,
            )
            for index in indexes
        ]

    def _draft(self, images: list[tuple[int, int]], extra: Sequence[tuple[int, int]]) -> Draft:
        wanted = [*images, *extra]
        length = size_of(wanted)
        buffers = self._buffers
        room = buffers.journal(length) if buffers else memoryview(bytearray(length))
        return Draft(room, wanted)

    def _encrypt(self, indexes: Sequence[int], draft: Draft) -> dict[int, tuple[bytes, int]]:
        file = self._file
        fresh = {}
        for number, index in enumerate(indexes):
            length = file.geometry.chunk_length(index, file.state.size)
            record = draft.image(number)
            try:
                plaintext = self._plaintext(index)[:length]
            except ChunkInvalid:
                # What was acknowledged cannot be had again, and what was before it must not be
                # taken for it: the chunk is damaged, and stays so.
                record[:] = bytes(len(record))
                nonce = bytes(record[:NONCE_SIZE])
            else:
                nonce = file.cipher.encrypt_run(index, [plaintext], record)
            changed = file.chunk_set.digest(index, nonce)
            if self.base_length(index):
                changed ^= file.chunk_set.digest(index, self._nonce_before(index))
            fresh[index] = nonce, changed
        return fresh

    def _plaintext(self, index: int) -> memoryview:
        kept = self.kept.chunks.get(index) if self.kept is not None else None
        if kept is not None:
            return kept.plaintext
        plaintext = memoryview(bytearray(self._file.geometry.chunk_size))
        self.read(index, plaintext)
        return plaintext

    def read(self, index: int, plaintext: memoryview) -> bytes | None:
        """A dirty chunk as it is now, padded; gives the nonce of the record under the deltas.

        Raises ChunkInvalid.
        """
        file = self._file
        nonce = None
        length = self.base_length(index)
        if length and not self.covered(index):
            record = memoryview(bytearray(length + RECORD_OVERHEAD))
            if file.read_record(index, record) < len(record):
                raise ChunkInvalid(index, "the backing file ends before it")
            nonce = file.cipher.decrypt_run(index, record, file.geometry.stride, plaintext)
        else:
            length = 0
        plaintext[length:] = bytes(len(plaintext) - length)
        self.lay_over(index, plaintext)
        return nonce

    def _nonce_before(self, index: int) -> bytes:
        kept = self.kept.chunks.get(index) if self.kept is not None else None
        if kept is not None and kept.nonce is not None:
            return kept.nonce
        return self._file.nonce_of(index)

"""The content of one open file: read, write, truncate, seal.

Concurrency. Everything here runs to its end on the thread that serves the mount. The one thing
another thread may do is sync a duplicate of the descriptor. What a call returns as a memoryview
is valid until the next call on any file, since all files share their buffers.

A write is in the store before it is acknowledged: new chunks in their places, and the header that
names them waits for a flush, an fsync or the last close; what replaces a chunk in the journal
(storing.py), with its header.
"""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from fsdriver.buffers import Buffers
from fsdriver.chunkcache import FileChunks, Kept
from fsdriver.errors import ChunkInvalid, KeyUnavailable
from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.format.header import SealedState
from fsdriver.overlay import Overlay
from fsdriver.sealedfile import SealedFile
from fsdriver.storing import Plan, plan_of
from fsdriver.vetting import ChunkVetting

_ROOM_HELPS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""Each file in the journal holds a descriptor."""


class OpenFile:
    """One inode's content, shared by all its handles."""

    __slots__ = (
        "_buffers",
        "_kept",
        "_vetting",
        "file",
        "handles",
    )

    def __init__(self, file: SealedFile, buffers: Buffers, *, vetted: bool = False) -> None:
        file.prepare_content()
        self.file = file
        self.handles = 0
        self._buffers = buffers
        self._kept = FileChunks(buffers.chunks)
        if file.overlay is not None:
            self._attend(file.overlay)
        self._vetting = ChunkVetting(file, vetted=vetted)

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return self.file.state.size

    @property
    def vetted(self) -> bool:
        """Whether the whole of it was seen to be the chunk set that was sealed."""
        return self._vetting.vetted

    # Reading

    def read(self, offset: int, length: int) -> memoryview | bytes:
        """Up to `length` bytes at `offset`; fewer only at the end of the file.

        Raises ChunkInvalid, ChunkSetMismatch or KeyUnavailable before a doubtful byte is given.
        """
        self._admit()
        geometry = self.file.geometry
        size = self.file.state.size
        end = min(offset + length, size)
        if offset >= end:
            return b""
        chunk_size = geometry.chunk_size
        first = offset // chunk_size
        end_chunk = -(-end // chunk_size)
        start = first * chunk_size
        if end_chunk - first == 1 and end - offset < min(chunk_size, size - start):
            return self._keep(first).plaintext[offset - start : end - start]
        plaintext = self._buffers.plaintext((end_chunk - first) * chunk_size)
        low, high = first, end_chunk
        if offset > start and (kept := self._kept.get(first)) is not None:
            plaintext[offset - start : chunk_size] = kept.plaintext[offset - start :]
            low += 1
        if low < high and end % chunk_size and end < size:
            # The next read goes on in the same chunk.
            high -= 1
            at = (high - first) * chunk_size
            plaintext[at : end - start] = self._keep(high).plaintext[: end - start - at]
        if low < high:
            self._read_chunks(low, high, plaintext[(low - first) * chunk_size :])
        return plaintext[offset - start : end - start]

    def _read_chunks(self, first: int, end_chunk: int, plaintext: memoryview) -> None:
        overlay = self.file.overlay
        if overlay is None:
            self._read_plain(first, end_chunk, plaintext)
            return
        size = self.file.geometry.chunk_size
        at = first
        for index in range(first, end_chunk):
            if index in overlay.dirty:
                if at < index:
                    self._read_plain(at, index, plaintext[(at - first) * size :])
                low = (index - first) * size
                part = plaintext[low : low + size]
                part[:] = self._keep(index).plaintext[: len(part)]
                at = index + 1
        if at < end_chunk:
            self._read_plain(at, end_chunk, plaintext[(at - first) * size :])

    def _read_plain(self, first: int, end_chunk: int, plaintext: memoryview) -> None:
        if self.file.extents is None:
            self._read_run(first, end_chunk, plaintext)
            return
        chunk_size = self.file.geometry.chunk_size
        for low, high, present in self.file.extents.segments(first, end_chunk):
            part = plaintext[(low - first) * chunk_size : (high - first) * chunk_size]
            if present:
                self._read_run(low, high, part)
            else:
                part[:] = bytes(len(part))

    def _read_run(self, first: int, end_chunk: int, plaintext: memoryview) -> bytes:
        length = self.file.geometry.run_length(first, end_chunk, self.file.state.size)
        return self._read_records(first, self._buffers.records(length), plaintext)

    def _read_records(self, first: int, records: memoryview, plaintext: memoryview) -> bytes:
        file = self.file
        journaled = file.journaled
        if journaled is not None and journaled.has_images:
            self._fetch_each(first, records)
        else:
            self._fetch(first, records)
        nonces = file.cipher.decrypt_run(first, records, file.geometry.stride, plaintext)
        self._vetting.note(first, nonces)
        return nonces

    def _fetch(self, first: int, records: memoryview) -> None:
        file = self.file
        got = file.backing.read_into(file.descriptor, records, file.geometry.record_offset(first))
        if got < len(records):
            raise ChunkInvalid(
                first + got // file.geometry.stride, "the backing file ends before it"
            )

    def _fetch_each(self, first: int, records: memoryview) -> None:
        """Some records are newer in the journal than in their places."""
        stride = self.file.geometry.stride
        for index, at in enumerate(range(0, len(records), stride), first):
            record = records[at : at + stride]
            if self.file.read_record(index, record) < len(record):
                raise ChunkInvalid(index, "the backing file ends before it")

    def _keep(self, chunk_index: int) -> Kept:
        """The plaintext of one chunk, kept for the next partial read or write of it."""
        kept = self._kept.get(chunk_index)
        if kept is not None:
            return kept
        chunk_size = self.file.geometry.chunk_size
        length = self.file.geometry.chunk_length(chunk_index, self.file.state.size)
        plaintext = self._buffers.chunks.buffer(chunk_size)
        nonce = None
        try:
            overlay = self.file.overlay
            if overlay is not None and chunk_index in overlay.dirty:
                nonce = overlay.read(chunk_index, plaintext)
                length = chunk_size
            elif length > 0 and self.file.is_present(chunk_index):
                # Not the shared records: a write may be composing its own there.
                record = self._buffers.single(length + RECORD_OVERHEAD)
                nonce = self._read_records(chunk_index, record, plaintext)
            else:
                length = 0
        except BaseException:
            self._buffers.chunks.give_back(plaintext)
            raise
        if length < chunk_size:
            plaintext[length:] = bytes(chunk_size - length)
        kept = self._kept.put(chunk_index, plaintext)
        kept.nonce = nonce
        return kept

    # Writing

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data`, or nothing: a killed driver's successor finds it in the store."""
        self._admit()
        view = memoryview(data)
        if not view:
            return 0
        file = self.file
        end = offset + len(view)
        file.geometry.require_size(end)
        if self._takes_delta(offset, len(view)):
            self._changing(lambda: self._write_delta(offset, view))
        elif not offset and not file.state.size and not file.journaled:
            self._changing(lambda: self._write_from_empty(view))
        else:
            self._changing(lambda: self._write_run(offset, view))
        return len(view)

    def _changing(self, change: Callable[[], None]) -> None:
        """A full store is made room in once, by putting the journal in its places."""
        try:
            change()
        except OSError as error:
            self._kept.drop_from(0)
            journal = self.file.session.writing_journal
            if error.errno not in _ROOM_HELPS or not journal.make_room():
                raise
            try:
                change()
            except OSError:
                self._kept.drop_from(0)
                raise

    def _takes_delta(self, offset: int, length: int) -> bool:
        """Whether a write is small enough, and stands on what the journal or a header names."""
        file = self.file
        if file.journaled is None:
            return False  # the first one brings its header into the journal
        chunk_size, size = file.geometry.chunk_size, file.state.size
        if 2 * length > chunk_size or offset > size:
            return False
        end = offset + length
        first, stop = offset // chunk_size, -(-end // chunk_size)
        if file.extents is not None and not all(
            index in file.extents for index in range(first, stop)
        ):
            return False
        # All of a short last chunk is better written as what it is.
        start = first * chunk_size
        return offset > start or end < size or start == size

    def _write_delta(self, offset: int, view: memoryview) -> None:
        """Only the change goes to the journal; the chunk is written whole when it is folded."""
        file = self.file
        journaled = file.journaled
        if journaled is None:
            raise RuntimeError("a delta of a file that the journal does not know")
        overlay = file.overlay
        if overlay is None:
            overlay = Overlay(file)
        dirty = overlay.dirty
        geometry, state = file.geometry, file.state
        chunk_size = geometry.chunk_size
        end = offset + len(view)
        first, stop = offset // chunk_size, -(-end // chunk_size)
        fresh = 0
        for index in range(first, stop):
            if index not in dirty:
                self._keep(index)  # what the delta stands on is whole
                fresh += 1
        if fresh or end > state.size:
            overlay.prepare(end, fresh)
        size = max(end, state.size)
        place = file.session.writing_journal.append_delta(
            journaled,
            file.cipher,
            view,
            state.generation + 1,
            offset,
            geometry.ciphertext_size(size),
        )
        if file.overlay is None:
            file.overlay = overlay
            self._attend(overlay)
        overlay.add(place)
        state.generation += 1
        state.size = size
        for index in range(first, stop):
            kept = self._kept.get(index)
            start = index * chunk_size
            if kept is not None:
                low, high = max(offset, start), min(end, start + chunk_size)
                kept.plaintext[low - start : high - start] = view[low - offset : high - offset]
            if overlay.is_crowded(index):
                self._cover(overlay, index)
        with suppress(OSError):  # it is written; only the time says otherwise
            file.backing.touch(file.descriptor)

    def _attend(self, overlay: Overlay) -> None:
        overlay.attend(self._buffers, self._kept)
        if self.file.journaled is not None:
            self.file.journaled.opened = overlay

    def _cover(self, overlay: Overlay, index: int) -> None:
        """One delta of a whole chunk in place of its many: so many need not be read again."""
        file = self.file
        start = index * file.geometry.chunk_size
        journaled = file.journaled
        with suppress(OSError, ChunkInvalid):
            plaintext = self._keep(index).plaintext
            if journaled is not None:
                length = file.geometry.chunk_length(index, file.state.size)
                place = file.session.writing_journal.append_delta(
                    journaled,
                    file.cipher,
                    plaintext[:length],
                    file.state.generation + 1,
                    start,
                    journaled.length,
                )
                file.state.generation += 1
                overlay.add(place)

    def _write_from_empty(self, view: memoryview) -> None:
        """Content and header in one call: a small file that is written once needs no seal."""
        file = self.file
        geometry = file.geometry
        before = file.state
        records = self._buffers.records(geometry.ciphertext_size(len(view)) - HEADER_SIZE)
        size = geometry.chunk_size
        chunks = [view[at : at + size] for at in range(0, len(view), size)]
        nonces = file.cipher.encrypt_run(0, chunks, records)
        file.state = SealedState(
            size=len(view),
            generation=before.generation,
            unbound=before.unbound,
            chunk_set=file.chunk_set.digest(0, nonces),
            bindings=before.bindings,
        )
        self._kept.drop_from(0)
        self._vetting.restart()
        try:
            file.backing.write(file.descriptor, [file.next_header(), records], 0)
        except OSError:
            file.state = replace(before, generation=file.state.generation)
            with suppress(OSError):
                file.write_header()
                file.backing.truncate(file.descriptor, HEADER_SIZE)
            raise
        file.extents = None
        file.note_written()

    def _write_run(self, offset: int, view: memoryview) -> None:
        file = self.file
        file.settle()
        geometry, old_size = file.geometry, file.state.size
        chunk_size = geometry.chunk_size
        end = offset + len(view)
        new_size = max(old_size, end)
        first, end_chunk = offset // chunk_size, -(-end // chunk_size)
        plan = plan_of(file, self._buffers, first, end_chunk, new_size)
        if file.journaled is None and not plan.draft:
            file.mark_dirty()
        nonces: dict[int, bytes] = {}
        outdated = 0
        if plan.tail >= 0:
            kept = self._keep(plan.tail)
            outdated ^= self._outdated(plan.tail, plan.tail + 1)
            record = plan.records(plan.tail, plan.tail + 1)
            nonces[plan.tail] = file.cipher.encrypt_run(plan.tail, [kept.plaintext], record)
            kept.nonce = nonces[plan.tail]
        for low, high in plan.runs(first, end_chunk):
            index = low
            while index < high:
                start = index * chunk_size
                whole = min(self._whole_chunks(index, end, new_size), high - index)
                partial: Kept | None = None
                if start < offset or whole <= 0:
                    whole = 1
                    partial = self._keep(index)
                    if partial.nonce is not None:
                        outdated ^= file.chunk_set.digest(index, partial.nonce)
                    at, to = max(0, offset - start), min(chunk_size, end - start)
                    partial.plaintext[at:to] = view[start + at - offset : start + to - offset]
                    parts = [partial.plaintext[: geometry.chunk_length(index, new_size)]]
                else:
                    outdated ^= self._outdated(index, index + whole)
                    parts = [
                        view[begin - offset : min(begin + chunk_size, end) - offset]
                        for begin in range(start, start + whole * chunk_size, chunk_size)
                    ]
                    self._kept.drop(range(index, index + whole))
                fresh = file.cipher.encrypt_run(index, parts, plan.records(index, index + whole))
                nonces[index] = fresh
                if partial is not None:
                    partial.nonce = fresh
                index += whole
        digest = outdated
        for index, fresh in nonces.items():
            digest ^= file.chunk_set.digest(index, fresh)
        self._store(plan, new_size, file.state.chunk_set ^ digest)

    def _store(self, plan: Plan, new_size: int, chunk_set: int) -> None:
        """What was encrypted becomes the file: in place first, then the journal says so."""
        file = self.file
        try:
            plan.write_direct()
            if plan.draft is not None:
                plan.commit(chunk_set)
        except OSError:
            plan.take_back()
            raise
        if plan.draft is None:
            file.state.size = new_size
            file.state.chunk_set = chunk_set
            file.extents = plan.extents
        self._vetting.restart()

    def _whole_chunks(self, index: int, end: int, new_size: int) -> int:
        """How many chunks from `index` on a write that ends at `end` covers to the last byte."""
        chunk_size = self.file.geometry.chunk_size
        whole = end // chunk_size - index
        return whole + 1 if end == new_size and end % chunk_size else whole

    def _outdated(self, first: int, end_chunk: int) -> int:
        """The digest of the records in [first, end_chunk) that are about to be replaced."""
        file = self.file
        stop = min(end_chunk, file.geometry.chunk_count(file.state.size))
        runs = (
            [(first, stop, True)]
            if file.extents is None
            else file.extents.segments(first, max(first, stop))
        )
        digest = 0
        for low, high, present in runs:
            for index in range(low, high) if present else ():
                digest ^= file.chunk_set.digest(index, file.nonce_of(index))
        return digest

    def truncate(self, new_size: int) -> None:
        """Cut, or extend with zeros; the mount's O_TRUNC, truncate(2) and ftruncate(2)."""
        self._admit()
        self.file.geometry.require_size(new_size)
        if new_size == self.file.state.size:
            return
        grows = new_size > self.file.state.size
        self._changing(lambda: self._extend(new_size) if grows else self._cut(new_size))

    def _extend(self, new_size: int) -> None:
        """Zeros up to `new_size`: the last chunk is filled up, chunks behind it are a hole."""
        file = self.file
        file.settle()
        geometry = file.geometry
        chunks = geometry.chunk_count(new_size)
        plan = plan_of(file, self._buffers, chunks, chunks, new_size, forced=True)
        digest = 0
        if plan.tail >= 0:
            kept = self._keep(plan.tail)
            length = geometry.chunk_length(plan.tail, new_size)
            digest = self._outdated(plan.tail, plan.tail + 1)
            record = plan.records(plan.tail, plan.tail + 1)
            kept.nonce = file.cipher.encrypt_run(plan.tail, [kept.plaintext[:length]], record)
            digest ^= file.chunk_set.digest(plan.tail, kept.nonce)
        self._store(plan, new_size, file.state.chunk_set ^ digest)

    def _cut(self, new_size: int) -> None:
        """The journal holds the new end until it is safe to cut the backing file."""
        file = self.file
        file.settle()
        geometry, old_size = file.geometry, file.state.size
        chunks, old_chunks = geometry.chunk_count(new_size), geometry.chunk_count(old_size)
        shortened = (
            new_size % geometry.chunk_size > 0
            and geometry.chunk_length(chunks - 1, old_size)
            > geometry.chunk_length(chunks - 1, new_size)
            and self.file.is_present(chunks - 1)
        )
        first = chunks - 1 if shortened else chunks
        digest = file.state.chunk_set if not chunks else 0
        if chunks:
            digest ^= self._outdated(first, old_chunks)
        extents = file.extents.copy() if file.extents is not None else None
        if extents is not None:
            extents.remove(chunks, old_chunks)
        plan = Plan(
            file,
            self._buffers,
            new_size,
            extents,
            [(first, chunks)] if shortened else [],
            [],
            -1,
            geometry.record_offset(first),
        )
        if shortened:
            kept = self._keep(first)
            length = geometry.chunk_length(first, new_size)
            kept.plaintext[length:] = bytes(geometry.chunk_size - length)
            record = plan.records(first, chunks)
            kept.nonce = file.cipher.encrypt_run(first, [kept.plaintext[:length]], record)
            digest ^= file.chunk_set.digest(first, kept.nonce)
        self._kept.drop_from(chunks)
        self._store(plan, new_size, file.state.chunk_set ^ digest)

    def _admit(self) -> None:
        """Every use of content asks here first whether the key may still be used."""
        self._vetting.admit()
        lease = self.file.lease
        if not lease.valid:
            lease.require_valid()
        if time.monotonic() > lease.deadline:
            raise KeyUnavailable(
                f"the lease on the key of site {lease.site_id.hex()} ran out and no root key "
                "could be reached; check `ckfs status` and the vaults"
            )
        self.file.unlock()

    def lock(self) -> None:
        """The lease ended: seal, then drop keys and plaintext."""
        try:
            self.file.lock()
        finally:
            self.forget()

    def forget(self) -> None:
        """The plaintext that is kept: nobody has it open any more, or nobody may."""
        self._kept.drop_from(0)

    # Sealing

    def close(self) -> None:
        """The last handle is gone. What could not be folded, the next checkpoint folds."""
        try:
            self.seal()
            self.file.settle()
        finally:
            self.forget()
            if self.file.overlay is not None:
                self.file.overlay.release()
            if self.file.journaled is not None:
                self.file.journaled.opened = None

    def seal(self) -> None:
        """Bring the header up to date, if a write left it behind."""
        if self.file.state.dirty and self.file.writable:
            self.file.unlock()
            self.file.seal()

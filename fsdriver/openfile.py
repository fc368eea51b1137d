"""The content of one open file: write and truncate, whatever the size.

A write is in the store before it is acknowledged: new chunks in their places, and the header that
names them waits for a flush, an fsync or the last close; what replaces a chunk in the journal
(storing.py), with its header; a little of a chunk in the journal, too (smallwrites.py).
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.format.header import SealedState
from fsdriver.format.journal import Draft, size_of
from fsdriver.smallwrites import SmallWrites
from fsdriver.storing import Plan, plan_of

if TYPE_CHECKING:
    from fsdriver.chunkcache import Kept

_ROOM_HELPS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""Each file in the journal holds a descriptor."""


class OpenFile(SmallWrites):
    """One inode's content, shared by all its handles."""

    __slots__ = ()

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data`, or nothing: a killed driver's successor finds it in the store."""
        self._admit()
        view = memoryview(data)
        if not view:
            return 0
        file = self.file
        length = len(view)
        if offset + length > file.state.size:
            file.geometry.require_size(offset + length)
        journaled = file.journaled
        if journaled is not None and self._takes_delta(offset, length):
            self._changing(self._write_delta, offset, view)
        elif not offset and not file.state.size and journaled is None:
            self._changing(self._write_from_empty, view)
        elif not file.state.size and not offset and length <= file.geometry.chunk_size:
            self._changing(self._write_anew, view)
        else:
            self._changing(self._write_run, offset, view)
        return length

    def _changing(self, change: Callable[..., None], *arguments: int | memoryview) -> None:
        """A full store is made room in once, by putting the journal in its places."""
        try:
            change(*arguments)
        except OSError as error:
            self._kept.drop_from(0)
            journal = self.file.session.writing_journal
            if error.errno not in _ROOM_HELPS or not journal.make_room():
                raise
            try:
                change(*arguments)
            except OSError:
                self._kept.drop_from(0)
                raise

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

    def _write_anew(self, view: memoryview) -> None:
        """One chunk into a file that was cut to nothing: how programs replace a small file."""
        file = self.file
        length = len(view) + RECORD_OVERHEAD
        images = [(HEADER_SIZE, length)]
        # So that there is room for it when it is put in place.
        file.backing.reserve(file.descriptor, HEADER_SIZE, length)
        draft = Draft(self._buffers.journal(size_of(images)), images)
        nonces = file.cipher.encrypt_run(0, [view], draft.image(0))
        state = file.state.copy()
        state.size, state.content_digest = len(view), None
        state.chunk_set = file.chunk_set.digest(0, nonces)
        state.extents, state.extent_pages = None, ()
        self._kept.drop_from(0)
        file.put(draft, state)
        file.extents = None
        file.touch()

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
        self._changing(self._extend if grows else self._cut, new_size)

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

    def _empty(self) -> None:
        file = self.file
        state = file.state.copy()
        state.size = state.chunk_set = 0
        state.content_digest = state.extents = None
        state.extent_pages = ()
        self._kept.drop_from(0)
        file.put_header(state, (), HEADER_SIZE)
        file.extents = None
        file.touch()

    def _cut(self, new_size: int) -> None:
        """The journal holds the new end until it is safe to cut the backing file."""
        file = self.file
        file.settle()
        if not new_size:
            self._empty()
            return
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

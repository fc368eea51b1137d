"""The content of one open file: read, write, truncate, seal.

Concurrency. Everything here runs to its end on the thread that serves the mount; between two
calls the backing file and `file.state` agree but for the dirty flag, which says that the header
in the store is behind. The one thing another thread may do is sync a duplicate of the
descriptor. What a call returns as a memoryview is valid until the next call on any file, since
all files share one pair of buffers.

A write is in the backing file before it is acknowledged; only the seal waits, for a flush, an
fsync or the last close.
"""

import time
from contextlib import suppress
from dataclasses import replace

from fsdriver.buffers import Buffers
from fsdriver.errors import ChunkInvalid, KeyUnavailable
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import HEADER_SIZE, RECORD_OVERHEAD
from fsdriver.format.header import SealedState
from fsdriver.sealedfile import SealedFile
from fsdriver.tail import Tail
from fsdriver.vetting import ChunkVetting


class OpenFile:
    """One inode's content, shared by all its handles."""

    __slots__ = (
        "_buffers",
        "_kept",
        "_kept_index",
        "_kept_nonce",
        "_vetting",
        "file",
        "handles",
    )

    def __init__(self, file: SealedFile, buffers: Buffers, *, vetted: bool = False) -> None:
        file.prepare_content()
        self.file = file
        self.handles = 0
        self._buffers = buffers
        self._kept: bytearray | None = None
        """The plaintext of the chunk that was last taken in part, zero-padded to a full one."""
        self._kept_index = -1
        self._kept_nonce: bytes | None = None
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
            kept = self._keep(first)
            return memoryview(kept)[offset - start : end - start]
        plaintext = self._buffers.plaintext((end_chunk - first) * chunk_size)
        if self.file.extents is None:
            self._read_run(first, end_chunk, plaintext)
        else:
            for low, high, present in self.file.extents.segments(first, end_chunk):
                part = plaintext[(low - first) * chunk_size : (high - first) * chunk_size]
                if present:
                    self._read_run(low, high, part)
                else:
                    part[:] = bytes(len(part))
        return plaintext[offset - start : end - start]

    def _read_run(self, first: int, end_chunk: int, plaintext: memoryview) -> bytes:
        length = self.file.geometry.run_length(first, end_chunk, self.file.state.size)
        return self._read_records(first, self._buffers.records(length), plaintext)

    def _read_records(self, first: int, records: memoryview, plaintext: memoryview) -> bytes:
        file = self.file
        geometry = file.geometry
        got = file.backing.read_into(file.descriptor, records, geometry.record_offset(first))
        if got < len(records):
            raise ChunkInvalid(first + got // geometry.stride, "the backing file ends before it")
        nonces = file.cipher.decrypt_run(first, records, geometry.stride, plaintext)
        self._vetting.note(first, nonces)
        return nonces

    def _keep(self, chunk_index: int) -> bytearray:
        """The plaintext of one chunk, kept for the next partial read or write of it."""
        kept = self._kept
        if kept is None:
            kept = self._kept = bytearray(self.file.geometry.chunk_size)
        if self._kept_index == chunk_index:
            return kept
        self._kept_index = -1
        length = self.file.geometry.chunk_length(chunk_index, self.file.state.size)
        if length > 0 and self._is_present(chunk_index):
            # Not the shared records: a write may be composing its own there.
            record = self._buffers.single(length + RECORD_OVERHEAD)
            self._kept_nonce = self._read_records(chunk_index, record, memoryview(kept))
        else:
            self._kept_nonce = None
            length = 0
        kept[length:] = bytes(len(kept) - length)
        self._kept_index = chunk_index
        return kept

    def _is_present(self, chunk_index: int) -> bool:
        extents = self.file.extents
        if extents is not None:
            return chunk_index in extents
        return chunk_index < self.file.geometry.chunk_count(self.file.state.size)

    # Writing

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Write all of `data`; the bytes are in the backing file when this returns."""
        self._admit()
        view = memoryview(data)
        if not view:
            return 0
        self.file.geometry.require_size(offset + len(view))
        old_size = self.file.state.size
        try:
            if offset > old_size:
                self._grow(offset)
            if self.file.state.size == 0:
                self._write_from_empty(view)
            else:
                self._write_run(offset, view)
        except OSError:
            with suppress(OSError):
                self.truncate(old_size)  # zeros up to the offset were for this write alone
            raise
        return len(view)

    def _write_from_empty(self, view: memoryview) -> None:
        """Content and header in one call: a small file that is written once needs no seal."""
        file = self.file
        geometry = file.geometry
        before = replace(file.state)
        records = self._buffers.records(geometry.ciphertext_size(len(view)) - HEADER_SIZE)
        size = geometry.chunk_size
        chunks = [view[at : at + size] for at in range(0, len(view), size)]
        nonces = file.cipher.encrypt_run(0, chunks, records)
        file.extents = None
        file.state = SealedState(
            size=len(view),
            generation=before.generation,
            unbound=before.unbound,
            chunk_set=file.chunk_set.digest(0, nonces),
            bindings=before.bindings,
        )
        self._kept_index = -1
        self._vetting.restart()
        try:
            file.backing.write(file.descriptor, [file.next_header(), records], 0)
            file.note_written()
        except OSError:
            file.state = replace(before, generation=file.state.generation)
            with suppress(OSError):
                file.backing.truncate(file.descriptor, HEADER_SIZE)
                file.write_header()
            raise

    def _write_run(self, offset: int, view: memoryview) -> None:
        file = self.file
        state, geometry = file.state, file.geometry
        chunk_size, old_size = geometry.chunk_size, state.size
        end = offset + len(view)
        new_size = max(old_size, end)
        first, end_chunk = offset // chunk_size, -(-end // chunk_size)
        records = self._buffers.records(geometry.run_length(first, end_chunk, new_size))
        file.mark_dirty()
        nonces: list[bytes] = []
        outdated = 0
        tail = Tail(old_size // chunk_size, old_size % chunk_size)
        index = first
        while index < end_chunk:
            start = index * chunk_size
            low, high = max(0, offset - start), min(chunk_size, end - start)
            at = (index - first) * geometry.stride
            whole = self._whole_chunks(index, end, new_size) if low == 0 else 0
            if tail.length and index <= tail.chunk_index:
                # The old last chunk is taken the careful way, so that it can be restored.
                whole = min(whole, tail.chunk_index - index)
            if whole:
                outdated ^= self._outdated(index, index + whole)
                parts = [
                    view[begin - offset : min(begin + chunk_size, end) - offset]
                    for begin in range(start, start + whole * chunk_size, chunk_size)
                ]
                if index <= self._kept_index < index + whole:
                    self._kept_index = -1
            else:
                whole = 1
                kept = memoryview(self._keep(index))
                replaced = self._kept_nonce
                if replaced is not None:
                    outdated ^= file.chunk_set.digest(index, replaced)
                kept[low:high] = view[start + low - offset : start + high - offset]
                parts = [kept[: geometry.chunk_length(index, new_size)]]
                if index == tail.chunk_index:
                    tail.save(kept, replaced, copy=index + 1 < end_chunk)
            nonces.append(file.cipher.encrypt_run(index, parts, records[at:]))
            if index == self._kept_index:
                self._kept_nonce = nonces[-1]
            index += whole
        try:
            file.backing.write(file.descriptor, [records], geometry.record_offset(first))
        except OSError:
            self._kept_index = -1
            if new_size > old_size:
                self._restore_tail(tail, old_size)
            raise
        state.size = new_size
        self._alter_set(outdated ^ file.chunk_set.digest(first, b"".join(nonces)))
        if file.extents is not None:
            file.extents.add(first, end_chunk)

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

    def _grow(self, new_size: int) -> None:
        """Zeros up to `new_size`: the last chunk is filled up, chunks behind it are a hole."""
        file = self.file
        state, geometry = file.state, file.geometry
        file.mark_dirty()
        file.prepare_hole()
        old_size = state.size
        old_chunks = geometry.chunk_count(old_size)
        tail = Tail(old_size // geometry.chunk_size, old_size % geometry.chunk_size)
        try:
            if tail.length and self._is_present(tail.chunk_index):
                kept = memoryview(self._keep(tail.chunk_index))
                tail.save(kept, self._kept_nonce, copy=False)
                length = geometry.chunk_length(tail.chunk_index, new_size)
                self._replace(tail.chunk_index, kept, length)
                tail.nonce = self._kept_nonce
            file.backing.truncate(file.descriptor, geometry.ciphertext_size(new_size))
        except OSError:
            self._kept_index = -1
            self._restore_tail(tail, old_size)
            raise
        if geometry.chunk_count(new_size) > old_chunks and file.extents is None:
            file.extents = ExtentMap.full(old_chunks)
        state.size = new_size

    def truncate(self, new_size: int) -> None:
        """Cut, or extend with zeros; the mount's O_TRUNC, truncate(2) and ftruncate(2)."""
        self._admit()
        self.file.geometry.require_size(new_size)
        file = self.file
        state, geometry = file.state, file.geometry
        if new_size == state.size:
            return
        if new_size > state.size:
            self._grow(new_size)
            return
        file.mark_dirty()
        chunks = geometry.chunk_count(new_size)
        old_chunks = geometry.chunk_count(state.size)
        if chunks:
            outdated = self._outdated(chunks, old_chunks)
            self._shorten(chunks - 1, new_size)
        else:
            outdated = state.chunk_set
            file.backing.truncate(file.descriptor, geometry.ciphertext_size(0))
        self._alter_set(outdated)
        if self._kept_index >= chunks:
            self._kept_index = -1
        if file.extents is not None:
            file.extents.remove(chunks, old_chunks)
        state.size = new_size
        if not chunks:
            file.extents = None

    def _shorten(self, last: int, new_size: int) -> None:
        """Cut the backing file behind chunk `last`, and that chunk if it ends earlier now."""
        file = self.file
        old_size, geometry = file.state.size, file.geometry
        length = geometry.chunk_length(last, new_size)
        tail = Tail(last, geometry.chunk_length(last, old_size))
        try:
            if length < tail.length and self._is_present(last):
                kept = memoryview(self._keep(last))
                tail.save(kept, self._kept_nonce, copy=False)
                self._replace(last, kept, length)
                tail.nonce = self._kept_nonce
            file.backing.truncate(file.descriptor, geometry.ciphertext_size(new_size))
        except OSError:
            self._kept_index = -1
            self._restore_tail(tail, old_size)
            raise
        if self._kept_index == last and self._kept is not None:
            self._kept[length:] = bytes(len(self._kept) - length)

    def _replace(self, chunk_index: int, kept: memoryview, length: int) -> None:
        """Write the kept chunk, which replaces its record, with this many of its bytes."""
        file = self.file
        record = self._buffers.records(length + RECORD_OVERHEAD)
        nonce = file.cipher.encrypt_run(chunk_index, [kept[:length]], record)
        file.backing.write(file.descriptor, [record], file.geometry.record_offset(chunk_index))
        if self._kept_nonce is not None:
            self._alter_set(file.chunk_set.digest(chunk_index, self._kept_nonce))
        self._alter_set(file.chunk_set.digest(chunk_index, nonce))
        self._kept_nonce = nonce

    def _alter_set(self, difference: int) -> None:
        """Chunks were replaced, added or cut off; what was read before adds up no longer."""
        self.file.state.chunk_set ^= difference
        self._vetting.restart()

    def _restore_tail(self, tail: "Tail", old_size: int) -> None:
        """After a write that failed while the file grew: its old length and last chunk again.

        The last chunk's record had to change to grow with the file, and may now be cut.
        """
        file = self.file
        with suppress(OSError):
            file.backing.truncate(file.descriptor, file.geometry.ciphertext_size(old_size))
            if tail.nonce is not None:
                record = bytearray(tail.length + RECORD_OVERHEAD)
                nonce = file.cipher.encrypt_run(
                    tail.chunk_index, [tail.plaintext], memoryview(record)
                )
                file.backing.write(
                    file.descriptor, [record], file.geometry.record_offset(tail.chunk_index)
                )
                self._alter_set(file.chunk_set.digest(tail.chunk_index, tail.nonce))
                self._alter_set(file.chunk_set.digest(tail.chunk_index, nonce))

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
        self._kept_index = -1
        if self._kept is not None:
            self._kept[:] = bytes(len(self._kept))
        self.file.lock()

    # Sealing

    def seal(self) -> None:
        """Bring the header up to date, if a write left it behind."""
        if self.file.state.dirty and self.file.writable:
            self.file.unlock()
            self.file.seal()

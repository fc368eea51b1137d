"""The content of one open file: what reads need, and the chunks that are kept of it.

Concurrency. Everything here runs to its end on the thread that serves the mount. The one thing
another thread may do is sync a duplicate of the descriptor. What a call returns as a memoryview
is valid until the next call on any file, since all files share their buffers.
"""

import time
from contextlib import suppress

from fsdriver.buffers import Buffers
from fsdriver.chunkcache import FileChunks, Kept
from fsdriver.errors import ChunkInvalid, KeyUnavailable
from fsdriver.format.geometry import RECORD_OVERHEAD
from fsdriver.overlay import Overlay
from fsdriver.sealedfile import SealedFile
from fsdriver.vetting import ChunkVetting


class ReadFile:
    """One inode's content, shared by all its handles."""

    __slots__ = (
        "_buffers",
        "_kept",
        "_vetting",
        "file",
        "handles",
        "writers",
    )

    def __init__(self, file: SealedFile, buffers: Buffers, *, vetted: bool = False) -> None:
        self.file = file
        self.handles = 0
        self.writers = 0
        """Of the handles."""
        self._buffers = buffers
        self._kept = FileChunks(buffers.chunks)
        if file.overlay is not None:
            file.prepare_content()
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
        ahead = self._buffers.ahead
        self._admit()
        if ahead is not None and ahead[0] is self and not offset and length >= len(ahead[1]):
            return ahead[1]
        geometry = self.file.geometry
        size = self.file.state.size
        end = min(offset + length, size)
        if offset >= end:
            return b""
        chunk_size = geometry.chunk_size
        first = offset // chunk_size
        end_chunk = -(-end // chunk_size)
        start = first * chunk_size
        if end_chunk - first == 1 and (
            end - offset < min(chunk_size, size - start) or first in self._kept.chunks
        ):
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

    def kept_chunk(self, offset: int) -> bytes | None:
        """The chunk around `offset`, up to the end of the file, if it is at hand."""
        geometry = self.file.geometry
        index = offset // geometry.chunk_size
        kept = self._kept.chunks.get(index)
        if kept is None:
            return None
        return bytes(kept.plaintext[: geometry.chunk_length(index, self.file.state.size)])

    def read_ahead(self) -> None:
        """What the first read will want, before it is asked for: ciphers, and a file of one chunk.

        Raises as `read` does, which will say so again.
        """
        self._admit()
        size = self.file.state.size
        if 0 < size <= self.file.geometry.chunk_size and not self._kept.chunks:
            room = self._buffers.whole(size)
            self._read_chunks(0, 1, room)
            self._buffers.ahead = self, room

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

    def _admit(self) -> None:
        """Every use of content asks here first whether the key may still be used."""
        self._buffers.ahead = None  # it may be about to change
        self._vetting.admit()
        lease = self.file.lease
        if not lease.valid:
            lease.require_valid()
        if time.monotonic() > lease.deadline:
            raise KeyUnavailable(
                f"the lease on the key of site {lease.site_id.hex()} ran out and no root key "
                "could be reached; check `ckfs status` and the vaults"
            )
        file = self.file
        file.unlock()
        file.prepare_content()

    def lock(self) -> None:
        """The lease ended: seal, then drop keys and plaintext."""
        try:
            self.file.lock()
        finally:
            self.forget()

    def forget(self) -> None:
        """The plaintext that is kept: nobody has it open any more, or nobody may."""
        self._buffers.ahead = None
        self._kept.drop_from(0)

    def _attend(self, overlay: Overlay) -> None:
        overlay.attend(self._buffers, self._kept)
        if self.file.journaled is not None:
            self.file.journaled.opened = overlay

    # Sealing

    def close(self) -> None:
        """The last handle is gone. What could not be folded, the next checkpoint folds."""
        file = self.file
        try:
            self.seal()
            if file.overlay is not None:
                if not file.backing.stat_open(file.descriptor).st_nlink:
                    file.overlay.drop()
                with suppress(OSError, KeyUnavailable):
                    file.settle()
        finally:
            self.forget()
            if file.overlay is not None:
                file.overlay.release()
            if file.journaled is not None:
                file.journaled.opened = None

    def seal(self) -> None:
        """Bring the header up to date, if a write left it behind."""
        if self.file.state.dirty and self.file.writable:
            self.file.unlock()
            self.file.seal()

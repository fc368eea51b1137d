"""One backing file read without a mount: its keys, its header, and every chunk that authenticates.

Each step stands alone, so that a file whose sealed part is damaged still gives its chunks. Unlike
openfile.py it goes on behind a bad chunk, and changes nothing.
"""

from collections.abc import Callable, Iterator
from hmac import compare_digest
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.backing import Backing
from fsdriver.errors import ChunkInvalid, HeaderInvalid
from fsdriver.folder import Site
from fsdriver.format import filekeys, header
from fsdriver.format.chunk import KIND_CHUNK, KIND_EXTENT_MAP, ChunkCipher, ChunkSet
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import (
    NONCE_SIZE,
    OFFSET_MAX,
    RECORD_OVERHEAD,
    Geometry,
)
from fsdriver.format.header import ClearHeader, ExtentPage, SealedState

_BATCH: Final = 1 << 20
"""Bytes of plaintext read and decrypted as one."""


class ChunkRun(NamedTuple):
    """Neighbouring chunks that are all readable, or all not."""

    first: int
    end: int
    plaintext: memoryview | None
    """Until the next run is asked for; None when they do not authenticate."""
    nonces: bytes
    """24 bytes each, empty without plaintext."""
    missing: bool = False
    """Whether the backing file ends before them."""


class FileReader:
    """A backing file whose file key opened."""

    __slots__ = ("_backing", "_descriptor", "_keys", "_raw", "cipher", "clear", "geometry")

    def __init__(
        self, backing: Backing, descriptor: int, raw: bytes, sites: Callable[[bytes], Site]
    ) -> None:
        """`raw` is the header as read.

        Raises HeaderInvalid, FormatUnsupported, or an error of the key hierarchy.
        """
        self._backing = backing
        self._descriptor = descriptor
        self._raw = raw
        self.clear = clear = ClearHeader.parse(raw)
        file_key = sites(clear.site_id).lease.unwrap_file_key(
            clear.file_id, clear.site_key_generation, clear.wrapped_file_key
        )
        self._keys = filekeys.derive(file_key, clear.file_id)
        if not compare_digest(self._keys.commitment, clear.key_commitment):
            raise HeaderInvalid("the header does not commit to the key that it wraps")
        self.geometry = Geometry(clear.chunk_size)
        self.cipher = ChunkCipher(self._keys.chunk_key, clear.file_id)

    def unseal(self) -> SealedState:
        """The sealed part; raises HeaderInvalid."""
        state = header.unseal(self._raw, AESGCM(self._keys.header_key))
        if self.geometry.ciphertext_size(state.size) > OFFSET_MAX:
            raise HeaderInvalid("the header has a size that no file can have")
        return state

    def chunk_set(self) -> ChunkSet:
        """The PRF of the file's chunk-set digest."""
        return self.cipher.chunk_set

    def extents(self, state: SealedState) -> ExtentMap:
        """Which chunks are present; raises HeaderInvalid or ChunkInvalid."""
        chunks = self.geometry.chunk_count(state.size)
        packed = state.extents
        if state.extent_pages:
            packed = b"".join(self._page(page) for page in state.extent_pages)
        return ExtentMap.full(chunks) if packed is None else ExtentMap.parse(packed, chunks)

    def _page(self, page: ExtentPage) -> bytes:
        plaintext, nonce = self._record(page.chunk_index, page.chunk_index, KIND_EXTENT_MAP)
        if nonce != page.nonce or page.length > len(plaintext):
            raise HeaderInvalid("a page of the extent map is not the one that was sealed")
        return plaintext[: page.length]

    def is_page(self, chunk_index: int) -> bool:
        """Whether a slot holds a page of some extent map of this file, which makes it a hole."""
        return self._opens(chunk_index, chunk_index, KIND_EXTENT_MAP)

    def belongs_at(self, place_index: int, chunk_index: int) -> bool:
        """Whether the record in one chunk's place is that of another chunk of the file."""
        return self._opens(place_index, chunk_index, KIND_CHUNK)

    def _opens(self, place_index: int, chunk_index: int, kind: bytes) -> bool:
        try:
            self._record(place_index, chunk_index, kind)
        except ChunkInvalid:
            return False
        return True

    def _record(self, place_index: int, chunk_index: int, kind: bytes) -> tuple[bytes, bytes]:
        stride = self.geometry.stride
        offset = self.geometry.record_offset(place_index)
        record = self._backing.read(self._descriptor, stride, offset)
        if len(record) <= RECORD_OVERHEAD:
            raise ChunkInvalid(place_index, "its record was cut off in the store")
        plaintext = bytearray(len(record) - RECORD_OVERHEAD)
        nonce = self.cipher.decrypt_run(
            chunk_index, memoryview(record), stride, memoryview(plaintext), kind=kind
        )
        return bytes(plaintext), nonce

    def nonce_of(self, chunk_index: int) -> bytes:
        """Of a record as it lies in the store, not verified."""
        offset = self.geometry.record_offset(chunk_index)
        return self._backing.read(self._descriptor, NONCE_SIZE, offset)

    def read(self, size: int, extents: ExtentMap) -> Iterator[ChunkRun]:
        """Every chunk present below `size`, in order, as runs; raises OSError."""
        batch = max(1, _BATCH // self.geometry.chunk_size)
        longest = min(batch, self.geometry.chunk_count(size))
        records = memoryview(bytearray(longest * self.geometry.stride))
        plaintext = memoryview(bytearray(longest * self.geometry.chunk_size))
        for start, stop in extents.runs():
            for first in range(start, stop, batch):
                yield from self._batch(first, min(first + batch, stop), size, records, plaintext)

    def _batch(
        self, first: int, end: int, size: int, records: memoryview, plaintext: memoryview
    ) -> Iterator[ChunkRun]:
        geometry = self.geometry
        wanted = geometry.run_length(first, end, size)
        length = self._backing.read_into(
            self._descriptor, records[:wanted], geometry.record_offset(first)
        )
        there = end if length == wanted else first + length // geometry.stride
        at = first
        while at < there:
            bad = self._first_bad(at, there, first, size, records, plaintext)
            if at < bad < there:
                # The cipher stopped in the middle; what lies before the bad one is good.
                self._first_bad(at, bad, first, size, records, plaintext)
            if at < bad:
                last = geometry.chunk_length(bad - 1, size)
                bytes_read = (bad - 1 - at) * geometry.chunk_size + last
                nonces = b"".join(
                    bytes(records[offset : offset + NONCE_SIZE])
                    for offset in range(
                        (at - first) * geometry.stride,
                        (bad - first) * geometry.stride,
                        geometry.stride,
                    )
                )
                yield ChunkRun(at, bad, plaintext[:bytes_read], nonces)
            if bad < there:
                yield ChunkRun(bad, bad + 1, None, b"")
            at = bad + 1
        if there < end:
            yield ChunkRun(there, end, None, b"", missing=True)

    def _first_bad(
        self,
        at: int,
        end: int,
        first: int,
        size: int,
        records: memoryview,
        plaintext: memoryview,
    ) -> int:
        """Decrypt [at, end) of a batch that begins at `first`; `end` if all of it is good."""
        geometry = self.geometry
        start = (at - first) * geometry.stride
        length = geometry.run_length(at, end, size)
        try:
            self.cipher.decrypt_run(at, records[start : start + length], geometry.stride, plaintext)
        except ChunkInvalid as error:
            return error.chunk_index
        return end

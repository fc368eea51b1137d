"""Plaintext ranges <-> chunks <-> ciphertext ranges: integer arithmetic (FORMAT.md section 4).

Every offset says which space it lives in. Nothing here touches bytes.
"""

import errno
from functools import cache
from typing import Final

from fsdriver.errors import SizeMismatch, refuse

HEADER_SIZE: Final = 512
"""Bytes of a file's header (FORMAT.md section 3)."""

NONCE_SIZE: Final = 24
TAG_SIZE: Final = 16
RECORD_OVERHEAD: Final = NONCE_SIZE + TAG_SIZE
"""What a chunk record adds to its plaintext (FORMAT.md section 4)."""

OFFSET_MAX: Final = (1 << 63) - 1
"""The largest offset that the system's calls take."""

CHUNK_SIZES: Final = tuple(1 << bits for bits in range(12, 21))
"""Chunk sizes that a header may name: 4 KiB to 1 MiB, powers of two."""


class Geometry:
    """The arithmetic of one chunk size."""

    __slots__ = ("chunk_size", "stride")

    def __init__(self, chunk_size: int) -> None:
        if chunk_size not in CHUNK_SIZES:
            raise ValueError(
                f"{chunk_size} is no chunk size; take a power of two from 4096 to 1048576"
            )
        self.chunk_size = chunk_size
        self.stride = chunk_size + RECORD_OVERHEAD

    @staticmethod
    @cache
    def of(chunk_size: int) -> "Geometry":
        """The one that all files with chunks of this size share."""
        return Geometry(chunk_size)

    def chunk_count(self, plaintext_size: int) -> int:
        """Chunks that a file of this size has, holes counted too."""
        return -(-plaintext_size // self.chunk_size)

    def chunk_length(self, chunk_index: int, plaintext_size: int) -> int:
        """Plaintext bytes of one chunk: the full chunk size but for the last one."""
        return min(self.chunk_size, plaintext_size - chunk_index * self.chunk_size)

    def record_offset(self, chunk_index: int) -> int:
        """Ciphertext offset of a chunk's record."""
        return HEADER_SIZE + chunk_index * self.stride

    def run_length(self, first_chunk: int, end_chunk: int, plaintext_size: int) -> int:
        """Ciphertext bytes of the records [first_chunk, end_chunk), which must not be empty."""
        last = end_chunk - 1
        return (last - first_chunk) * self.stride + (
            self.chunk_length(last, plaintext_size) + RECORD_OVERHEAD
        )

    def ciphertext_size(self, plaintext_size: int) -> int:
        """Length of the backing file; holes take their place in it."""
        chunks = self.chunk_count(plaintext_size)
        return HEADER_SIZE + plaintext_size + chunks * RECORD_OVERHEAD

    def require_size(self, plaintext_size: int) -> None:
        """Raises OSError EFBIG for a size whose backing file no filesystem can hold."""
        if self.ciphertext_size(plaintext_size) > OFFSET_MAX:
            raise refuse(errno.EFBIG)

    def plaintext_size(self, ciphertext_size: int) -> int:
        """The inverse of `ciphertext_size`.

        Raises SizeMismatch for a length that no plaintext has: below a header, or one that ends
        inside a record's overhead.
        """
        body = ciphertext_size - HEADER_SIZE
        full, rest = divmod(body, self.stride)
        if body < 0 or 0 < rest <= RECORD_OVERHEAD:
            raise SizeMismatch(
                f"a backing file of {ciphertext_size} bytes is no whole number of chunks: "
                "it was cut or extended; restore it from a backup of the store"
            )
        return full * self.chunk_size + max(0, rest - RECORD_OVERHEAD)

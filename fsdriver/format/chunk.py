"""Chunk records: encrypt and decrypt runs of them, and the digest of the set (FORMAT.md 4 and 5).

A run is a stretch of neighbouring chunks; keys for all its nonces are derived in one call, and
data goes between the caller's buffers without a copy.
"""

from secrets import SystemRandom
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.errors import ChunkInvalid
from fsdriver.format.geometry import NONCE_SIZE, RECORD_OVERHEAD, TAG_SIZE
from fsdriver.format.xaes import Xaes256Gcm

KIND_CHUNK: Final = b"\x01\x01"
KIND_EXTENT_MAP: Final = b"\x02\x01"
"""The last two bytes of the associated data: what the record is, and the format version."""

_draw: Final = SystemRandom().randbytes


class ChunkCipher:
    """Encrypts and decrypts the records of one file."""

    __slots__ = ("_file_id", "_xaes", "chunk_set")

    def __init__(self, chunk_key: bytes, file_id: bytes) -> None:
        self._xaes = Xaes256Gcm(chunk_key)
        self._file_id = file_id
        self.chunk_set = ChunkSet(self._xaes)
        """The PRF of the file's chunk-set digest."""

    def encrypt_run(
        self,
        first_chunk: int,
        plaintexts: list[memoryview],
        records: memoryview,
        *,
        nonces: bytes | None = None,
        kind: bytes = KIND_CHUNK,
    ) -> bytes:
        """Encrypt neighbouring chunks into `records`, one behind the other; return their nonces.

        `records` must have room for every plaintext and its overhead. `nonces` is for vectors
        only: every other caller lets 24 random bytes be drawn for each chunk.
        """
        count = len(plaintexts)
        if nonces is None:
            nonces = _draw(NONCE_SIZE * count)
        keys = self._xaes.message_keys(nonces)
        file_id = self._file_id
        if count == 1:  # most writes, and without loop and slices a third cheaper
            records[:NONCE_SIZE] = nonces
            AESGCM(keys).encrypt_into(
                nonces[12:],
                plaintexts[0],
                file_id + first_chunk.to_bytes(8) + kind,
                records[NONCE_SIZE : len(plaintexts[0]) + RECORD_OVERHEAD],
            )
            return nonces
        at = 0
        for number, plaintext in enumerate(plaintexts):
            nonce = nonces[number * NONCE_SIZE : (number + 1) * NONCE_SIZE]
            end = at + len(plaintext) + RECORD_OVERHEAD
            records[at : at + NONCE_SIZE] = nonce
            AESGCM(keys[32 * number : 32 * number + 32]).encrypt_into(
                nonce[12:],
                plaintext,
                file_id + (first_chunk + number).to_bytes(8) + kind,
                records[at + NONCE_SIZE : end],
            )
            at = end
        return nonces

    def decrypt_run(
        self,
        first_chunk: int,
        records: memoryview,
        stride: int,
        plaintext: memoryview,
        *,
        kind: bytes = KIND_CHUNK,
    ) -> bytes:
        """Decrypt a run of records, `stride` bytes apart, into `plaintext`; return their nonces.

        The last record may be shorter than `stride`, but never as short as its overhead: callers
        cut by the geometry, not by what the store has. Raises ChunkInvalid for the first one that
        does not authenticate; `plaintext` is then not to be used.
        """
        starts = range(0, len(records), stride)
        nonces = b"".join([records[at : at + NONCE_SIZE] for at in starts])
        keys = self._xaes.message_keys(nonces)
        file_id = self._file_id
        chunk_size = stride - RECORD_OVERHEAD
        number = 0
        try:
            for at in starts:
                record = records[at + NONCE_SIZE : at + stride]
                to = number * chunk_size
                AESGCM(keys[32 * number : 32 * number + 32]).decrypt_into(
                    nonces[number * NONCE_SIZE + 12 : (number + 1) * NONCE_SIZE],
                    record,
                    file_id + (first_chunk + number).to_bytes(8) + kind,
                    plaintext[to : to + len(record) - TAG_SIZE],
                )
                number += 1
        except InvalidTag:
            raise ChunkInvalid(
                first_chunk + number,
                "its tag fails: the bytes were changed, moved or cut in the store",
            ) from None
        return nonces

    def encrypt_message(
        self, nonce: bytes, plaintext: memoryview, associated_data: bytes, record: memoryview
    ) -> None:
        """One record that is no chunk: the caller says what it is bound to, and draws its nonce."""
        record[:NONCE_SIZE] = nonce
        AESGCM(self._xaes.message_keys(nonce)).encrypt_into(
            nonce[12:], plaintext, associated_data, record[NONCE_SIZE:]
        )

    def decrypt_message(
        self, record: memoryview, associated_data: bytes, plaintext: memoryview
    ) -> bool:
        """Whether it is authentic; `plaintext` is then filled."""
        nonce = bytes(record[:NONCE_SIZE])
        try:
            AESGCM(self._xaes.message_keys(nonce)).decrypt_into(
                nonce[12:], record[NONCE_SIZE:], associated_data, plaintext
            )
        except InvalidTag:
            return False
        return True


class ChunkSet:
    """The keyed set hash over (chunk index, nonce): an XOR of PRF outputs, kept as an integer.

    XHASH of Bellare, Guerin and Rogaway (CRYPTO 1995) with the digest itself kept secret. The
    PRF is CMAC, which is one for inputs of any lengths: so it shares the key, and the cipher
    context, of the chunks, whose keys are CMACs of one block. Adding and taking away a chunk are
    the same operation.
    """

    __slots__ = ("_prf",)

    def __init__(self, xaes: Xaes256Gcm) -> None:
        self._prf = xaes.prf

    def digest(self, first_chunk: int, nonces: bytes) -> int:
        """XOR of the PRF of each chunk of a run, given its nonces one behind the other."""
        count = len(nonces) // NONCE_SIZE
        if count == 1:
            return int.from_bytes(self._prf(first_chunk.to_bytes(8) + nonces[:8], nonces[8:]))
        if not count:
            return 0
        starts = range(0, count * NONCE_SIZE, NONCE_SIZE)
        left = [
            (first_chunk + number).to_bytes(8) + nonces[at : at + 8]
            for number, at in enumerate(starts)
        ]
        right = [nonces[at + 8 : at + NONCE_SIZE] for at in starts]
        folded = int.from_bytes(self._prf(b"".join(left), b"".join(right)))
        while count > 1:
            # Fold the upper blocks onto the lower ones, so that n outputs cost log n additions.
            low = count // 2
            folded = (folded >> (128 * low)) ^ (folded & ((1 << (128 * low)) - 1))
            count -= low
        return folded

"""XAES-256-GCM (C2SP specification XAES-256-GCM): AES-256-GCM with a 192-bit random nonce.

The first half of the nonce derives an AES-256-GCM key, the second half is that cipher's nonce. A
fresh nonce therefore means a fresh key, and random nonces never come close to a limit. It does
not commit to its key; the header's key commitment does that (FORMAT.md section 3).

A derived key is AES-CMAC (SP 800-38B) of two messages of one block. `prf` is CMAC of messages of
two blocks under the same key, for the chunk-set digest (FORMAT.md section 5).

An instance is not for several threads at once: it holds one cipher context.
"""

from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.format.geometry import NONCE_SIZE

_BLOCK: Final = 16
_FIRST: Final = b"\x00\x01X\x00"
_SECOND: Final = b"\x00\x02X\x00"
"""The two fixed prefixes of SP 800-108's counter mode, with the label "X" (the C2SP text)."""

_ECB: Final = modes.ECB()  # noqa: S305 see below


@lru_cache(maxsize=64)
def _ones(count: int) -> int:
    """A number that has a 1 at the end of each of `count` blocks."""
    return sum(1 << (8 * _BLOCK * at) for at in range(count))


class Xaes256Gcm:
    """One XAES-256-GCM key of 32 bytes."""

    __slots__ = ("_mask", "_update")

    def __init__(self, key: bytes) -> None:
        # ECB over public blocks is how the specification derives keys. The context has no state
        # between blocks, so one serves the life of the key, and many nonces in one call.
        self._update = Cipher(algorithms.AES256(key), _ECB).encryptor().update
        doubled = int.from_bytes(self._update(bytes(_BLOCK))) << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0x87
        self._mask = doubled

    def message_keys(self, nonces: bytes) -> bytes:
        """The AES-256-GCM keys, 32 bytes each, of a run of 24-byte nonces."""
        if len(nonces) == NONCE_SIZE:
            half = nonces[:12]
            blocks = b"".join((_FIRST, half, _SECOND, half))
            masked = int.from_bytes(blocks) ^ (self._mask << 128 | self._mask)
            return self._update(masked.to_bytes(2 * _BLOCK))
        count = len(nonces) // NONCE_SIZE
        halves = [nonces[at : at + 12] for at in range(0, len(nonces), NONCE_SIZE)]
        blocks = b"".join([_FIRST + half + _SECOND + half for half in halves])
        masked = int.from_bytes(blocks) ^ (self._mask * _ones(2 * count))
        return self._update(masked.to_bytes(2 * _BLOCK * count))

    def prf(self, first: bytes, second: bytes) -> bytes:
        """CMAC of messages of two blocks, given their first and their second blocks in a row."""
        count = len(first) // _BLOCK
        mask = self._mask if count == 1 else self._mask * _ones(count)
        middle = int.from_bytes(self._update(first)) ^ int.from_bytes(second) ^ mask
        return self._update(middle.to_bytes(len(first)))

    def encrypt(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        """One message under a nonce of 24 bytes that the caller drew at random."""
        key = self.message_keys(nonce)
        return AESGCM(key).encrypt(nonce[12:], plaintext, associated_data)

    def decrypt(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        """The plaintext, or cryptography's InvalidTag."""
        return AESGCM(self.message_keys(nonce)).decrypt(nonce[12:], ciphertext, associated_data)

"""XAES-256-GCM (C2SP specification XAES-256-GCM): AES-256-GCM with a 192-bit random nonce.

The first half of the nonce derives an AES-256-GCM key, the second half is that cipher's nonce. A
fresh nonce therefore means a fresh key, and random nonces never come close to a limit. It does
not commit to its key; the header's key commitment does that (FORMAT.md section 3).

An instance is not for several threads at once: it holds one cipher context.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fsdriver.format.geometry import NONCE_SIZE

_BLOCK = 16
_COUNTERS = (b"\x00\x01X\x00", b"\x00\x02X\x00")
"""The two fixed prefixes of SP 800-108's counter mode, with the label "X" (the C2SP text)."""


class Xaes256Gcm:
    """One XAES-256-GCM key of 32 bytes."""

    __slots__ = ("_mask", "_masks", "_update")

    def __init__(self, key: bytes) -> None:
        # ECB over public blocks is how the specification derives keys. The context has no state
        # between blocks, so one serves the life of the key, and many nonces in one call.
        cipher = Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305
        self._update = cipher.encryptor().update
        doubled = int.from_bytes(self._update(bytes(_BLOCK))) << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0x87
        self._mask = doubled.to_bytes(_BLOCK) * 2
        self._masks: dict[int, int] = {}

    def message_keys(self, nonces: bytes) -> bytes:
        """The AES-256-GCM keys, 32 bytes each, of a run of 24-byte nonces."""
        first, second = _COUNTERS
        count = len(nonces) // NONCE_SIZE
        mask = self._masks.get(count)
        if mask is None:
            mask = self._masks[count] = int.from_bytes(self._mask * count)
        halves = [nonces[at : at + 12] for at in range(0, len(nonces), NONCE_SIZE)]
        blocks = b"".join([first + half + second + half for half in halves])
        return self._update((int.from_bytes(blocks) ^ mask).to_bytes(2 * _BLOCK * count))

    def encrypt(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        """One message under a nonce of 24 bytes that the caller drew at random."""
        key = self.message_keys(nonce)
        return AESGCM(key).encrypt(nonce[12:], plaintext, associated_data)

    def decrypt(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        """The plaintext, or cryptography's InvalidTag."""
        return AESGCM(self.message_keys(nonce)).decrypt(nonce[12:], ciphertext, associated_data)

"""Encryption of what lies in the state folder and in key backups: AES-256-GCM under a master key.

A sealed blob is nonce 12 | ciphertext | tag 16; the caller's context is authenticated with it, so
that a blob moved to another name does not open. Each purpose has its own key, derived from the
master key, and each blob a fresh random nonce. Reading and writing files is `files` work.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyhierarchy.vault.errors import StateDamaged

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12


def derive_key(master_key: bytes, purpose: str) -> bytes:
    info = f"ckfs-vault {purpose}".encode()
    return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(master_key)


class Sealer:
    def __init__(self, master_key: bytes, purpose: str) -> None:
        if len(master_key) != MASTER_KEY_BYTES:
            raise StateDamaged(f"the master key must have {MASTER_KEY_BYTES} bytes")
        self._cipher = AESGCM(derive_key(master_key, purpose))

    def seal(self, plaintext: bytes, context: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """StateDamaged if the blob is cut, changed, moved or from another master key."""
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, context.encode())
        except (InvalidTag, ValueError) as error:
            raise StateDamaged(f"{context}: not authentic under this master key") from error

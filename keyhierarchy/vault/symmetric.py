"""What symmetric keys do in a Managed HSM: AES key wrap, GCM, CBC. A plain vault has none of them.

Algorithm names are the wire's, for example A256KW, A256GCM, A256CBCPAD.
"""

import re
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)
from cryptography.hazmat.primitives.padding import PKCS7

from keyhierarchy.vault.errors import bad_parameter

_BLOCK = 16
_GCM_NONCE = 12
_GCM_TAG = 16
_ALGORITHM = re.compile(r"A(128|192|256)(KW|GCM|CBC|CBCPAD)")


@dataclass(frozen=True)
class Sealed:
    value: bytes
    iv: bytes | None = None
    tag: bytes | None = None
    aad: bytes | None = None


def _mode(secret: bytes, algorithm: str) -> str:
    if algorithm == "CKM_AES_KEY_WRAP":
        return "KW"
    if algorithm == "CKM_AES_KEY_WRAP_PAD":
        return "KWP"
    match = _ALGORITHM.fullmatch(algorithm)
    if match is None or int(match[1]) != len(secret) * 8:
        raise bad_parameter(f"The algorithm {algorithm} is not supported by this key.")
    return match[2]


def encrypt(
    secret: bytes, algorithm: str, plaintext: bytes, iv: bytes | None, aad: bytes | None
) -> Sealed:
    mode = _mode(secret, algorithm)
    try:
        if mode == "KW":
            return Sealed(aes_key_wrap(secret, plaintext))
        if mode == "KWP":
            return Sealed(aes_key_wrap_with_padding(secret, plaintext))
        if mode == "GCM":
            nonce = secrets.token_bytes(_GCM_NONCE)
            both = AESGCM(secret).encrypt(nonce, plaintext, aad)
            return Sealed(both[:-_GCM_TAG], nonce, both[-_GCM_TAG:], aad)
        iv = iv or secrets.token_bytes(_BLOCK)
        encryptor = Cipher(AES(secret), modes.CBC(iv)).encryptor()
        return Sealed(encryptor.update(_padded(plaintext, mode)) + encryptor.finalize(), iv)
    except ValueError as error:
        raise bad_parameter(f"The value cannot be encrypted with {algorithm}: {error}") from None


def decrypt(secret: bytes, algorithm: str, sealed: Sealed) -> bytes:
    mode = _mode(secret, algorithm)
    try:
        if mode == "KW":
            return aes_key_unwrap(secret, sealed.value)
        if mode == "KWP":
            return aes_key_unwrap_with_padding(secret, sealed.value)
        if mode == "GCM":
            both = sealed.value + (sealed.tag or b"")
            return AESGCM(secret).decrypt(sealed.iv or b"", both, sealed.aad)
        decryptor = Cipher(AES(secret), modes.CBC(sealed.iv or b"")).decryptor()
        padded = decryptor.update(sealed.value) + decryptor.finalize()
        return padded if mode == "CBC" else _unpadded(padded)
    except (ValueError, InvalidTag, InvalidUnwrap):
        raise bad_parameter(f"The value cannot be decrypted with {algorithm}.") from None


def _padded(plaintext: bytes, mode: str) -> bytes:
    if mode == "CBC":
        # The service fills up with zeros here and gives them back when it decrypts.
        return plaintext + bytes(-len(plaintext) % _BLOCK)
    padder = PKCS7(_BLOCK * 8).padder()
    return padder.update(plaintext) + padder.finalize()


def _unpadded(padded: bytes) -> bytes:
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    return unpadder.update(padded) + unpadder.finalize()

"""XAES-256-GCM against C2SP's own vectors, and AES-GCM against Wycheproof's."""

import hashlib
import os

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from fsdriver.format.xaes import Xaes256Gcm
from tests.fsdriver.wycheproof import groups

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "associated", "expected"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\x03" * 32,
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_the_two_vectors_of_c2sp(key, associated, expected):
    cipher = Xaes256Gcm(key)
    sealed = bytes.fromhex(expected)
    assert cipher.encrypt(NONCE, b"XAES-256-GCM", associated) == sealed
    assert cipher.decrypt(NONCE, sealed, associated) == b"XAES-256-GCM"


class Stream:
    """One SHAKE-128 of nothing, read a piece at a time.

    hashlib gives a prefix only, so a longer prefix is asked for each time it runs out.
    """

    def __init__(self) -> None:
        self._output = b""
        self._at = 0

    def read(self, length: int) -> bytes:
        if self._at + length > len(self._output):
            wanted = max(1 << 20, 2 * len(self._output), self._at + length)
            self._output = hashlib.shake_128(b"").digest(wanted)
        piece = self._output[self._at : self._at + length]
        self._at += length
        return piece


def accumulated(count: int) -> str:
    """What C2SP's accumulated test gives after `count` encryptions."""
    source, outcome = Stream(), hashlib.shake_128()
    for _ in range(count):
        key, nonce = source.read(32), source.read(24)
        plaintext = source.read(source.read(1)[0])
        associated = source.read(source.read(1)[0])
        cipher = Xaes256Gcm(key)
        sealed = cipher.encrypt(nonce, plaintext, associated)
        assert cipher.decrypt(nonce, sealed, associated) == plaintext
        outcome.update(sealed)
    return outcome.hexdigest(32)


def test_the_accumulated_vectors_of_c2sp():
    expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    assert accumulated(10_000) == expected


@pytest.mark.skipif("CKFS_EVERY_VECTOR" not in os.environ, reason="a minute; make fuzz runs it")
def test_a_million_accumulated_vectors_of_c2sp():
    expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
    assert accumulated(1_000_000) == expected


@given(st.binary(min_size=32, max_size=32), st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_keys_of_a_run_are_those_of_its_nonces(key, count, random):
    cipher = Xaes256Gcm(key)
    nonces = random.randbytes(24 * count)
    one_by_one = [cipher.message_keys(nonces[at : at + 24]) for at in range(0, 24 * count, 24)]
    assert cipher.message_keys(nonces) == b"".join(one_by_one)


@pytest.mark.parametrize("at", range(8 * (12 + 16)))
def test_every_flipped_bit_is_refused(at):
    cipher = Xaes256Gcm(b"\x01" * 32)
    sealed = bytearray(cipher.encrypt(NONCE, b"XAES-256-GCM", b""))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(InvalidTag):
        cipher.decrypt(NONCE, bytes(sealed), b"")


def test_a_changed_nonce_or_associated_data_is_refused():
    cipher = Xaes256Gcm(b"\x01" * 32)
    sealed = cipher.encrypt(NONCE, b"XAES-256-GCM", b"here")
    for at in range(24):
        nonce = bytes(NONCE[i] ^ (i == at) for i in range(24))
        with pytest.raises(InvalidTag):
            cipher.decrypt(nonce, sealed, b"here")
    with pytest.raises(InvalidTag):
        cipher.decrypt(NONCE, sealed, b"there")


def test_wycheproofs_aes_gcm_as_chunks_use_it():
    """Keys of 256 bits, nonces of 96, tags of 128, in place into buffers."""
    tested = 0
    for group in groups("aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        for case in group["tests"]:
            tested += 1
            names = ("key", "iv", "aad", "msg", "ct", "tag")
            key, nonce, associated, message, ciphertext, tag = (
                bytes.fromhex(case[name]) for name in names
            )
            cipher = AESGCM(key)
            plaintext = bytearray(len(message))
            if case["result"] == "valid":
                sealed = bytearray(len(message) + 16)
                cipher.encrypt_into(nonce, message, associated, sealed)
                assert bytes(sealed) == ciphertext + tag
                cipher.decrypt_into(nonce, ciphertext + tag, associated, plaintext)
                assert bytes(plaintext) == message
            else:
                with pytest.raises(InvalidTag):
                    cipher.decrypt_into(nonce, ciphertext + tag, associated, plaintext)
    assert tested >= 60

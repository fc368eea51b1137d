"""Every symmetric primitive in use, by the calls that our code makes, against public vectors."""

from __future__ import annotations

import hashlib
import hmac as standard_hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from fsdriver.format.xaes import Xaes256Gcm
from keyhierarchy.vault import symmetric
from keyhierarchy.vault.errors import VaultError
from tests.fsdriver.test_xaes import NONCE, accumulated
from tests.vectors_public.sources import records, wycheproof

pytestmark = pytest.mark.slow

SIZES = (128, 192, 256)
XAES = (
    (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
    (
        b"\x03" * 32,
        b"c2sp.org/XAES-256-GCM",
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
    ),
)


def unhex(case: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


# AES-GCM


def gcm_in_place(key, nonce, associated, message, ciphertext, tag, *, valid) -> bool:
    """As chunks are encrypted: one call between buffers."""
    cipher, plaintext = AESGCM(key), bytearray(len(ciphertext))
    if not valid:
        with pytest.raises(InvalidTag):
            cipher.decrypt_into(nonce, ciphertext + tag, associated, plaintext)
        return True
    sealed = bytearray(len(message) + 16)
    cipher.encrypt_into(nonce, message, associated, sealed)
    cipher.decrypt_into(nonce, ciphertext + tag, associated, plaintext)
    return bytes(sealed) == ciphertext + tag and bytes(plaintext) == message


def gcm_of_the_vault(key, nonce, associated, message, ciphertext, tag, *, valid) -> bool:
    """As `ckfs-vault` decrypts; it draws its own nonces, so it only can decrypt."""
    sealed = symmetric.Sealed(ciphertext, nonce, tag, associated)
    name = f"A{len(key) * 8}GCM"
    if not valid:
        with pytest.raises(VaultError):
            symmetric.decrypt(key, name, sealed)
        return True
    return symmetric.decrypt(key, name, sealed) == message


def test_aes_gcm_of_wycheproof(count):
    chunks = count("AES-256-GCM", "AESGCM.*_into", "Wycheproof")
    vault = count("AES-GCM", "vault.symmetric", "Wycheproof")
    for group, case in wycheproof("aes_gcm_test.json"):
        parts = unhex(case, "key", "iv", "aad", "msg", "ct", "tag")
        valid = case["result"] == "valid"
        if not 8 <= len(parts[1]) <= 128:
            # The library refuses such nonces; an invalid one is refused as it should be.
            chunks.inapplicable += 1
            vault.inapplicable += 1
            continue
        if (group["keySize"], group["ivSize"]) == (256, 96):
            chunks.note(case["tcId"], lambda p=parts, v=valid: gcm_in_place(*p, valid=v))
        else:
            chunks.inapplicable += 1
        vault.note(case["tcId"], lambda p=parts, v=valid: gcm_of_the_vault(*p, valid=v))
    chunks.settle(60)
    vault.settle(280)


@pytest.mark.parametrize("size", SIZES)
def test_aes_gcm_of_nist(count, size):
    chunks = count("AES-256-GCM", "AESGCM.*_into", "NIST CAVS") if size == 256 else None
    vault = count(f"AES-{size}-GCM", "vault.symmetric", "NIST CAVS")
    for kind in ("EncryptExtIV", "Decrypt"):
        for number, case in enumerate(records(f"ciphers/AES/GCM/gcm{kind}{size}.rsp")):
            valid = "fail" not in case
            message = bytes.fromhex(case["pt"]) if valid else b""
            key, nonce, associated, ciphertext, tag = unhex(case, "key", "iv", "aad", "ct", "tag")
            parts = (key, nonce, associated, message, ciphertext, tag)
            if len(tag) != 16 or not 8 <= len(nonce) <= 128:
                vault.inapplicable += 1
                if chunks:
                    chunks.inapplicable += 1
                continue
            if chunks:
                if len(nonce) == 12:
                    chunks.note(number, lambda p=parts, v=valid: gcm_in_place(*p, valid=v))
                else:
                    chunks.inapplicable += 1
            vault.note(number, lambda p=parts, v=valid: gcm_of_the_vault(*p, valid=v))
    vault.settle(1100)
    if chunks:
        chunks.settle(700)


def test_xaes_of_c2sp(count):
    counted = count("XAES-256-GCM", "format.xaes", "C2SP")
    for key, associated, expected in XAES:
        cipher, sealed = Xaes256Gcm(key), bytes.fromhex(expected)
        counted.note(
            key,
            lambda c=cipher, s=sealed, a=associated: (
                c.encrypt(NONCE, b"XAES-256-GCM", a) == s
                and c.decrypt(NONCE, s, a) == b"XAES-256-GCM"
            ),
        )
    expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    counted.note("10,000 accumulated", lambda: accumulated(10_000) == expected)
    counted.agree += 9_999 * (not counted.disagree)
    counted.settle(10_002)


# AES-SIV


def test_aes_siv_of_wycheproof(count):
    """256-bit keys in two halves, as names, headers and wraps have; shorter ones are not used."""
    counted = count("AES-256-SIV", "AESSIV", "Wycheproof")
    for group, case in wycheproof("aes_siv_cmac_test.json"):
        key, associated, message, sealed = unhex(case, "key", "aad", "msg", "ct")
        if group["keySize"] != 512:
            counted.inapplicable += 1
        elif case["result"] == "valid":
            counted.note(
                case["tcId"],
                lambda k=key, a=associated, m=message, s=sealed: (
                    AESSIV(k).encrypt(m, [a]) == s and AESSIV(k).decrypt(s, [a]) == m
                ),
            )
        else:
            counted.note(case["tcId"], lambda k=key, a=associated, s=sealed: siv_refuses(k, a, s))
    counted.settle(120)


def siv_refuses(key: bytes, associated: bytes, sealed: bytes) -> bool:
    with pytest.raises(InvalidTag):
        AESSIV(key).decrypt(sealed, [associated])
    return True


def test_aes_siv_of_rfc_5297(count):
    counted = count("AES-256-SIV", "AESSIV", "RFC 5297, OpenSSL")
    for case in records("ciphers/AES/SIV/openssl.txt"):
        key, tag, message, ciphertext = unhex(case, "key", "tag", "plaintext", "ciphertext")
        fields = [bytes.fromhex(value) for name, value in case.items() if name.startswith("aad")]
        if len(key) != 64:
            counted.inapplicable += 1
            continue
        counted.note(
            case["count"],
            lambda k=key, f=fields, m=message, s=tag + ciphertext: (
                AESSIV(k).encrypt(m, f) == s and AESSIV(k).decrypt(s, f) == m
            ),
        )
    counted.settle(1)


# The AES block and its modes


@pytest.mark.parametrize("kind", ["GFSbox", "KeySbox", "VarKey", "VarTxt", "MMT"])
def test_the_aes_block_of_nist(count, kind):
    """As the set's digest and XAES use it: ECB, one context for many blocks."""
    counted = count("AES-256 block", "Cipher(AES256, ECB)", f"NIST {kind}")
    for case in records(f"ciphers/AES/ECB/ECB{kind}256.rsp"):
        key, plain, sealed = unhex(case, "key", "plaintext", "ciphertext")
        counted.note(
            case["count"],
            lambda k=key, p=plain, s=sealed: (
                Cipher(algorithms.AES256(k), modes.ECB()).encryptor().update(p) == s  # noqa: S305
            ),
        )
    counted.settle({"GFSbox": 10, "KeySbox": 32, "VarKey": 512, "VarTxt": 256, "MMT": 20}[kind])


def test_aes_ctr_of_rfc_3686(count):
    """As the availability store encrypts."""
    counted = count("AES-256-CTR", "Cipher(AES256, CTR)", "RFC 3686")
    for case in records("ciphers/AES/CTR/aes-256-ctr.txt"):
        key, nonce, plain, sealed = unhex(case, "key", "iv", "plaintext", "ciphertext")
        cipher = Cipher(algorithms.AES256(key), modes.CTR(nonce))
        counted.note(case["count"], lambda c=cipher, p=plain, s=sealed: ctr(c, p) == s)
    counted.settle(3)


def ctr(cipher, plain: bytes) -> bytes:
    encryptor = cipher.encryptor()
    return encryptor.update(plain) + encryptor.finalize()


@pytest.mark.parametrize("size", SIZES)
def test_aes_cbc_of_nist(count, size):
    counted = count(f"AES-{size}-CBC", "vault.symmetric", "NIST CAVS")
    for kind in ("GFSbox", "KeySbox", "VarKey", "VarTxt", "MMT"):
        for case in records(f"ciphers/AES/CBC/CBC{kind}{size}.rsp"):
            key, iv, plain, sealed = unhex(case, "key", "iv", "plaintext", "ciphertext")
            counted.note(
                (kind, case["count"]),
                lambda k=key, i=iv, p=plain, s=sealed: (
                    symmetric.encrypt(k, f"A{size}CBC", p, i, None).value == s
                    and symmetric.decrypt(k, f"A{size}CBC", symmetric.Sealed(s, i)) == p
                ),
            )
    counted.settle(500)


# Key wrap


def unwraps(key: bytes, name: str, sealed: bytes) -> bytes | None:
    try:
        return symmetric.decrypt(key, name, symmetric.Sealed(sealed))
    except VaultError:
        return None


def wraps(key: bytes, name: str, plain: bytes, sealed: bytes) -> bool:
    return symmetric.encrypt(key, name, plain, None, None).value == sealed


@pytest.mark.parametrize(
    ("name", "file", "floor"),
    [
        ("CKM_AES_KEY_WRAP", "aes_wrap_test.json", 160),
        ("CKM_AES_KEY_WRAP_PAD", "aes_kwp_test.json", 250),
    ],
)
def test_key_wrap_of_wycheproof(count, name, file, floor):
    counted = count(name.removeprefix("CKM_"), "vault.symmetric", "Wycheproof")
    for _group, case in wycheproof(file):
        key, plain, sealed = unhex(case, "key", "msg", "ct")
        if case["result"] == "acceptable":
            counted.inapplicable += 1
        elif case["result"] == "valid":
            counted.note(
                case["tcId"],
                lambda k=key, p=plain, s=sealed: wraps(k, name, p, s) and unwraps(k, name, s) == p,
            )
        else:
            counted.note(case["tcId"], lambda k=key, s=sealed: unwraps(k, name, s) is None)
    counted.settle(floor)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "name"), [("KW", "CKM_AES_KEY_WRAP"), ("KWP", "CKM_AES_KEY_WRAP_PAD")]
)
def test_key_wrap_of_nist(count, kind, name, size):
    counted = count(f"AES_KEY_{kind}-{size}", "vault.symmetric", "NIST SP 800-38F")
    for case in records(f"keywrap/kwtestvectors/{kind}_AE_{size}.txt"):
        key, plain, sealed = unhex(case, "k", "p", "c")
        counted.note(case["count"], lambda k=key, p=plain, s=sealed: wraps(k, name, p, s))
    for case in records(f"keywrap/kwtestvectors/{kind}_AD_{size}.txt"):
        key, sealed = unhex(case, "k", "c")
        plain = None if "fail" in case else bytes.fromhex(case["p"])
        counted.note(case["count"], lambda k=key, p=plain, s=sealed: unwraps(k, name, s) == p)
    counted.settle(1000)


# Hashes and derivations


def test_sha_256_of_nist(count):
    """As sidecars, audit records and tokens are hashed: by both libraries."""
    for through, digest in (("hashes.Hash", library_sha256), ("hashlib", hashlib_sha256)):
        counted = count("SHA-256", through, "NIST CAVS")
        for kind in ("Short", "Long"):
            for case in records(f"hashes/SHA2/SHA256{kind}Msg.rsp"):
                message = bytes.fromhex(case["msg"])[: int(case["len"]) // 8]
                expected = bytes.fromhex(case["md"])
                counted.note(case["len"], lambda m=message, e=expected, d=digest: d(m) == e)
        counted.settle(128)


def library_sha256(message: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    return digest.finalize()


def hashlib_sha256(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()


def library_hmac(key: bytes, message: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(message)
    return mac.finalize()


def test_hmac_sha_256_of_rfc_4231(count):
    for through, mac in (
        ("hmac.HMAC", library_hmac),
        ("hmac.digest", lambda key, message: standard_hmac.digest(key, message, "sha256")),
    ):
        counted = count("HMAC-SHA-256", through, "RFC 4231")
        for case in records("HMAC/rfc-4231-sha256.txt"):
            key, message, expected = unhex(case, "key", "msg", "md")
            counted.note(
                case["len"],
                lambda k=key, m=message, e=expected, make=mac: make(k, m)[: len(e)] == e,
            )
        counted.settle(6)


def expand(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract is an HMAC; our keys are uniform already, so the code only expands."""
    return HKDFExpand(hashes.SHA256(), length, info).derive(library_hmac(salt or bytes(32), key))


def test_hkdf_of_wycheproof(count):
    counted = count("HKDF-SHA-256", "HKDFExpand", "Wycheproof")
    for _group, case in wycheproof("hkdf_sha256_test.json"):
        key, salt, info, expected = unhex(case, "ikm", "salt", "info", "okm")
        size = int(case["size"])
        if case["result"] == "valid":
            counted.note(
                case["tcId"],
                lambda k=key, s=salt, i=info, n=size, e=expected: expand(k, s, i, n) == e,
            )
        else:
            counted.note(case["tcId"], lambda k=key, s=salt, i=info, n=size: too_long(k, s, i, n))
    counted.settle(86)


def too_long(key: bytes, salt: bytes, info: bytes, size: int) -> bool:
    with pytest.raises(ValueError, match=r"(?i)length|large"):
        expand(key, salt, info, size)
    return True


def test_hkdf_of_rfc_5869(count):
    counted = count("HKDF-SHA-256", "HKDFExpand", "RFC 5869")
    text = records("KDF/rfc-5869-HKDF-SHA256.txt")
    merged: list[dict[str, str]] = []
    for piece in text:  # this file has empty lines within its records
        if "count" in piece or not merged:
            merged.append(dict(piece))
        else:
            merged[-1].update(piece)
    for case in merged:
        if "prk" not in case:
            continue
        key, info, expected = unhex(case, "prk", "info", "okm")
        counted.note(
            case["count"],
            lambda k=key, i=info, e=expected: HKDFExpand(hashes.SHA256(), len(e), i).derive(k) == e,
        )
    counted.settle(3)


def test_kbkdf_of_nist(count):
    """As the service-managed root derives a policy's key: counter first, of 32 bits."""
    counted = count("KBKDF-HMAC-SHA-256", "KBKDFHMAC", "NIST SP 800-108")
    for case in records("KDF/nist-800-108-KBKDF-CTR.txt"):
        chosen = (case["prf"], case["ctrlocation"], case["rlen"])
        if chosen != ("HMAC_SHA256", "BEFORE_FIXED", "32_BITS"):
            counted.inapplicable += 1
            continue
        key, fixed, expected = unhex(case, "ki", "fixedinputdata", "ko")
        counted.note(
            case["count"],
            lambda k=key, f=fixed, e=expected: (
                KBKDFHMAC(
                    algorithm=hashes.SHA256(),
                    mode=Mode.CounterMode,
                    length=len(e),
                    rlen=4,
                    llen=None,
                    location=CounterLocation.BeforeFixed,
                    label=None,
                    context=None,
                    fixed=f,
                ).derive(k)
                == e
            ),
        )
    counted.settle(40)

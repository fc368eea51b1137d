"""RSA and EC as `ckfs-vault` and the availability store use them, against public vectors."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from keyhierarchy.roots import availability
from keyhierarchy.vault import asymmetric, material
from keyhierarchy.vault.errors import VaultError
from tests.vectors_public.sources import RsaCase, records, rsa_cases, wycheproof

pytestmark = pytest.mark.slow

_SECRETS: dict[tuple[int, int], bytes] = {}


def secret_of(numbers: dict[str, int]) -> bytes:
    """PKCS#8 of a key given by its primes and exponents."""
    p, q, d = numbers["Prime 1"], numbers["Prime 2"], numbers["Exponent"]
    e, n = numbers["Public exponent"], numbers["Modulus"]
    if (n, e) not in _SECRETS:
        key = rsa.RSAPrivateNumbers(
            p=p,
            q=q,
            d=d,
            dmp1=rsa.rsa_crt_dmp1(d, p),
            dmq1=rsa.rsa_crt_dmq1(d, q),
            iqmp=rsa.rsa_crt_iqmp(p, q),
            public_numbers=rsa.RSAPublicNumbers(e, n),
        ).private_key(unsafe_skip_rsa_key_validation=True)
        _SECRETS[n, e] = material._to_secret(key)
    return _SECRETS[n, e]


def opens(secret: bytes, algorithm: str, sealed: bytes) -> bytes | None:
    try:
        return asymmetric.decrypt(secret, algorithm, sealed)
    except VaultError:
        return None


def opens_as_availability(secret: bytes, sealed: bytes) -> bytes | None:
    try:
        return load_der_private_key(secret, None, unsafe_skip_rsa_key_validation=True).decrypt(
            sealed, availability._OAEP
        )
    except ValueError:
        return None


@pytest.mark.parametrize("bits", material.RSA_SIZES)
def test_rsa_oaep_256_of_wycheproof(count, bits):
    """Labels are not on the wire of a vault, so only cases without one apply."""
    vault = count(f"RSA-OAEP-256, {bits}", "vault.asymmetric", "Wycheproof")
    store = count(f"RSA-OAEP-256, {bits}", "roots.availability", "Wycheproof")
    for group, case in wycheproof(f"rsa_oaep_{bits}_sha256_mgf1sha256_test.json"):
        secret = bytes.fromhex(group["privateKeyPkcs8"])
        sealed, expected = bytes.fromhex(case["ct"]), bytes.fromhex(case["msg"])
        if case["label"]:
            vault.inapplicable += 1
            store.inapplicable += 1
            continue
        wanted = expected if case["result"] == "valid" else None
        vault.note(
            case["tcId"],
            lambda s=secret, c=sealed, w=wanted: opens(s, "RSA-OAEP-256", c) == w,
        )
        store.note(
            case["tcId"], lambda s=secret, c=sealed, w=wanted: opens_as_availability(s, c) == w
        )
    vault.settle(25)
    store.settle(25)


@pytest.mark.parametrize(
    ("algorithm", "path", "source", "floor"),
    [
        ("RSA-OAEP", "pkcs-1v2-1d2-vec/oaep-vect.txt", "PKCS #1 2.1", 60),
        ("RSA-OAEP-256", "oaep-custom/oaep-sha256-sha256.txt", "PKCS #1 form, SHA-256", 60),
        ("RSA1_5", "pkcs1v15crypt-vectors.txt", "PKCS #1 1.5", 300),
    ],
)
def test_rsa_encryption_of_pkcs_1(count, algorithm, path, source, floor):
    counted = count(algorithm, "vault.asymmetric", source)
    for case in rsa_cases(f"asymmetric/RSA/{path}"):
        if case.numbers.keys() < {"Prime 1", "Prime 2", "Exponent", "Public exponent", "Modulus"}:
            counted.inapplicable += 1
            continue
        counted.note(case.encrypted[:8].hex(), lambda one=case: one_way_and_back(algorithm, one))
    counted.settle(floor)


def one_way_and_back(algorithm: str, case: RsaCase) -> bool:
    """The vector is opened, and what we make of its message opens again."""
    secret = secret_of(case.numbers)
    made = asymmetric.encrypt(secret, algorithm, case.message)
    return (
        asymmetric.decrypt(secret, algorithm, case.encrypted) == case.message
        and made != case.encrypted
        and asymmetric.decrypt(secret, algorithm, made) == case.message
    )


def test_rsa_signatures_of_nist(count):
    """Good ones and bad ones. NIST's for PSS have salts of 10 bytes, a vault's are a digest's."""
    counted = count("RS256, 384, 512", "vault.asymmetric", "NIST FIPS 186-3 SigVer")
    numbers: dict[str, str] = {}
    for case in records("asymmetric/RSA/FIPS_186-2/SigVer15_186-3.rsp"):
        numbers |= {name: case[name] for name in ("n", "p", "q") if name in case}
        if "result" not in case:
            continue
        digest = hashlib.new(case["shaalg"].lower(), bytes.fromhex(case["msg"])).digest()
        e, d = int(case["e"], 16), int(case["d"], 16)
        p, q = int(numbers["p"], 16), int(numbers["q"], 16)
        # A private key cannot be built where the public exponent is not its own.
        consistent = e > 2 and e * d % ((p - 1) * (q - 1)) == 1
        if case["shaalg"] not in ("SHA256", "SHA384", "SHA512") or not consistent:
            counted.inapplicable += 1
            continue
        secret = secret_of(
            {"Prime 1": p, "Prime 2": q, "Exponent": d, "Public exponent": e, "Modulus": p * q}
        )
        counted.note(
            case["s"][:16],
            lambda k=secret, a="RS" + case["shaalg"][3:], m=digest, c=case: (
                asymmetric.verify(k, a, m, bytes.fromhex(c["s"])) == c["result"].startswith("P")
            ),
        )
    counted.settle(60)


_CURVES = {
    "P-256,SHA-256": ("ES256", ec.SECP256R1(), 32),
    "P-384,SHA-384": ("ES384", ec.SECP384R1(), 48),
    "P-521,SHA-512": ("ES512", ec.SECP521R1(), 66),
}


def test_ec_signatures_of_nist(count):
    counted = count("ES256, 384, 512", "vault.asymmetric", "NIST FIPS 186-3 SigGen")
    for case in records("asymmetric/ECDSA/FIPS_186-3/SigGen.txt"):
        section = next((name for name in _CURVES if name.lower() in case), None)
        if section is None or "s" not in case:
            counted.inapplicable += 1
            continue
        algorithm, curve, size = _CURVES[section]
        key = ec.derive_private_key(int(case["d"], 16), curve)
        secret = material._to_secret(key)
        digest = hashlib.new("sha" + algorithm[2:], bytes.fromhex(case["msg"])).digest()
        signature = int(case["r"], 16).to_bytes(size) + int(case["s"], 16).to_bytes(size)
        wrong = bytes([digest[0] ^ 1]) + digest[1:]
        counted.note(
            case["r"][:16],
            lambda k=secret, a=algorithm, m=digest, s=signature, w=wrong: (
                asymmetric.verify(k, a, m, s) and not asymmetric.verify(k, a, w, s)
            ),
        )
    counted.settle(45)

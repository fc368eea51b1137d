"""Key material: making it, taking it in from a JSON web key, showing its public half.

A secret is one byte string (PKCS#8 DER, or the bare bytes of a symmetric key), so that the state
folder needs one shape for all. Using a key is in `asymmetric` and `symmetric`; whether a key may be
used is in `usability`.
"""

import secrets
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from keyhierarchy.vault.documents import JsonWebKey, decode_member
from keyhierarchy.vault.errors import bad_parameter
from keyhierarchy.vault.identifiers import to_base64url

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
RSA_SIZES = (2048, 3072, 4096)
OCT_SIZES = (128, 192, 256)
KEY_TYPES = ("RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM")
DEFAULT_OPERATIONS = {
    "RSA": ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
    "EC": ["sign", "verify"],
    "oct": ["encrypt", "decrypt", "wrapKey", "unwrapKey"],
}
_F4 = 65537
_BITS = 8


def family_of(kty: str) -> str:
    """`RSA`, `EC` or `oct`."""
    return kty.removesuffix("-HSM")


def canonical_type(text: str) -> str:
    """Key types compare without case; the answer is spelled the service's way."""
    for kty in KEY_TYPES:
        if kty.lower() == text.lower():
            return kty
    raise bad_parameter(f"{text} is not a key type; known are {', '.join(KEY_TYPES)}.")


def curve_named(name: str | None) -> ec.EllipticCurve:
    curve = CURVES.get(name or "P-256")
    if curve is None:
        raise bad_parameter(f"{name} is not a curve; known are {', '.join(CURVES)}.")
    return curve


def curve_name(key: ec.EllipticCurvePrivateKey) -> str:
    return next(name for name, curve in CURVES.items() if curve.name == key.curve.name)


def generate(
    kty: str, size: int | None = None, crv: str | None = None, public_exponent: int | None = None
) -> bytes:
    """A new secret. Slow for RSA (up to seconds at 4096 bits): call it off the event loop."""
    family = family_of(kty)
    if family == "EC":
        return _to_secret(ec.generate_private_key(curve_named(crv)))
    if family == "oct":
        return secrets.token_bytes(_checked_size(size or OCT_SIZES[-1], OCT_SIZES) // _BITS)
    bits = _checked_size(size or RSA_SIZES[0], RSA_SIZES)
    exponent = public_exponent or _F4
    if exponent != _F4:
        # The library makes keys with 3 and 65537 only, and 3 is not wanted from anybody.
        raise bad_parameter("Only the public exponent 65537 is supported here.")
    return _to_secret(rsa.generate_private_key(public_exponent=exponent, key_size=bits))


def _checked_size(size: int, known: tuple[int, ...]) -> int:
    if size not in known:
        raise bad_parameter(f"A key size of {size} is not supported; known are {known}.")
    return size


def _to_secret(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@lru_cache(maxsize=512)
def load(secret: bytes) -> PrivateKey:
    """The key object of an asymmetric secret. Loading costs more than using, hence the cache."""
    key = load_der_private_key(secret, password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError("a stored secret is neither RSA nor EC")
    return key


def forget_loaded() -> None:
    """After a purge: a key that is gone must not live on in the cache."""
    load.cache_clear()


def size_of(kty: str, secret: bytes) -> int:
    return len(secret) * _BITS if family_of(kty) == "oct" else load(secret).key_size


def from_jwk(jwk: JsonWebKey) -> bytes:
    """The secret of an imported key; refuses halves that do not belong together.

    Checking an RSA key takes a while: call it off the event loop.
    """
    if jwk.key_hsm is not None:
        raise bad_parameter("A key wrapped for a hardware module cannot be opened by this server.")
    family = family_of(canonical_type(jwk.kty))
    try:
        if family == "oct":
            secret = decode_member("k", jwk.k)
            _checked_size(len(secret) * _BITS, OCT_SIZES)
            return secret
        return _to_secret(_rsa_from_jwk(jwk) if family == "RSA" else _ec_from_jwk(jwk))
    except (ValueError, TypeError) as error:
        raise bad_parameter(f"The imported key is not a valid {family} key: {error}") from None


def _integer(name: str, text: str | None) -> int:
    data = decode_member(name, text)
    # One byte more than the longest modulus, because some clients write a leading zero.
    if len(data) > RSA_SIZES[-1] // _BITS + 1:
        raise bad_parameter(f"The member '{name}' is longer than that of any supported key.")
    return int.from_bytes(data)


def _rsa_from_jwk(jwk: JsonWebKey) -> rsa.RSAPrivateKey:
    n, e, d = _integer("n", jwk.n), _integer("e", jwk.e), _integer("d", jwk.d)
    _checked_size(n.bit_length(), RSA_SIZES)
    if jwk.p and jwk.q:
        p, q = _integer("p", jwk.p), _integer("q", jwk.q)
    else:
        p, q = rsa.rsa_recover_prime_factors(n, e, d)
    # The remaining numbers follow from these; taking them from the client would only allow faults.
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(e, n),
    ).private_key()


def _ec_from_jwk(jwk: JsonWebKey) -> ec.EllipticCurvePrivateKey:
    curve = curve_named(jwk.crv)
    public = ec.EllipticCurvePublicNumbers(_integer("x", jwk.x), _integer("y", jwk.y), curve)
    return ec.EllipticCurvePrivateNumbers(_integer("d", jwk.d), public).private_key()


def _octets(number: int, length: int | None = None) -> str:
    return to_base64url(number.to_bytes(length or (number.bit_length() + 7) // _BITS))


def public_members(kty: str, secret: bytes) -> dict[str, str]:
    """The public members of the JSON web key; none for a symmetric key."""
    if family_of(kty) == "oct":
        return {}
    key = load(secret)
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_numbers = key.public_key().public_numbers()
        return {"n": _octets(rsa_numbers.n), "e": _octets(rsa_numbers.e)}
    numbers = key.public_key().public_numbers()
    length = (key.key_size + 7) // _BITS
    return {
        "crv": curve_name(key),
        "x": _octets(numbers.x, length),
        "y": _octets(numbers.y, length),
    }

"""What RSA and EC keys do: encrypt, decrypt, sign, verify. Wrapping a key is encrypting its bytes.

Algorithm names are the wire's. Whether the key may be used is decided before, in `usability`.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from keyhierarchy.vault.errors import VaultError, bad_parameter
from keyhierarchy.vault.material import PrivateKey, curve_name, load

_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVE_OF = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "P-256K"}


def _unsupported(algorithm: str) -> VaultError:
    return bad_parameter(f"The algorithm {algorithm} is not supported by this key.")


def _encryption_padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm == "RSA1_5":
        return padding.PKCS1v15()
    digest: hashes.HashAlgorithm
    if algorithm == "RSA-OAEP":
        digest = hashes.SHA1()  # noqa: S303 - the wire's RSA-OAEP is defined with SHA-1
    elif algorithm == "RSA-OAEP-256":
        digest = hashes.SHA256()
    else:
        raise _unsupported(algorithm)
    return padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)


def _rsa(secret: bytes, algorithm: str) -> rsa.RSAPrivateKey:
    key = load(secret)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _unsupported(algorithm)
    return key


def encrypt(secret: bytes, algorithm: str, plaintext: bytes) -> bytes:
    scheme = _encryption_padding(algorithm)
    try:
        return _rsa(secret, algorithm).public_key().encrypt(plaintext, scheme)
    except ValueError:
        raise bad_parameter(
            f"The value of {len(plaintext)} bytes is too long for {algorithm} with this key."
        ) from None


def decrypt(secret: bytes, algorithm: str, ciphertext: bytes) -> bytes:
    scheme = _encryption_padding(algorithm)
    try:
        return _rsa(secret, algorithm).decrypt(ciphertext, scheme)
    except ValueError:
        raise bad_parameter("Error occurred while decoding OAEP padding.") from None


def _digest_for(algorithm: str, digest: bytes) -> hashes.HashAlgorithm:
    kind = _DIGESTS.get(algorithm[2:5])
    if kind is None:
        raise _unsupported(algorithm)
    if len(digest) != kind.digest_size:
        raise bad_parameter(
            f"Invalid length of 'value': {len(digest)} bytes; {algorithm} takes a digest of "
            f"{kind.digest_size} bytes."
        )
    return kind


def _signature_padding(algorithm: str, kind: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("PS"):
        return padding.PSS(mgf=padding.MGF1(kind), salt_length=kind.digest_size)
    if algorithm.startswith("RS"):
        return padding.PKCS1v15()
    raise _unsupported(algorithm)


def _fitting(secret: bytes, algorithm: str) -> PrivateKey:
    """The key, refused when the algorithm names another curve or another kind of key."""
    key = load(secret)
    if isinstance(key, ec.EllipticCurvePrivateKey) and _CURVE_OF.get(algorithm) != curve_name(key):
        raise _unsupported(algorithm)
    return key


def sign(secret: bytes, algorithm: str, digest: bytes) -> bytes:
    """`digest` is already hashed. An EC signature is r and s side by side, as JOSE has it."""
    key = _fitting(secret, algorithm)
    kind = _digest_for(algorithm, digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, _signature_padding(algorithm, kind), Prehashed(kind))
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(kind))))
    length = (key.key_size + 7) // 8
    return r.to_bytes(length) + s.to_bytes(length)


def verify(secret: bytes, algorithm: str, digest: bytes, signature: bytes) -> bool:
    key = _fitting(secret, algorithm)
    kind = _digest_for(algorithm, digest)
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            scheme = _signature_padding(algorithm, kind)
            key.public_key().verify(signature, digest, scheme, Prehashed(kind))
        else:
            half = len(signature) // 2
            numbers = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
            if len(signature) != 2 * ((key.key_size + 7) // 8):
                return False
            key.public_key().verify(
                encode_dss_signature(*numbers), digest, ec.ECDSA(Prehashed(kind))
            )
    except InvalidSignature:
        return False
    return True

"""What the operations with a key do: wrap, unwrap, encrypt, decrypt, sign, verify, random bytes.

Algorithms are in `asymmetric` and `symmetric`; here they meet the request and its key version.
"""

import secrets

from keyhierarchy.vault import asymmetric, bundles, documents, errors, symmetric
from keyhierarchy.vault.calls import Call, Document, Handler
from keyhierarchy.vault.documents import decode_member
from keyhierarchy.vault.identifiers import to_base64url
from keyhierarchy.vault.material import family_of
from keyhierarchy.vault.records import KeyVersion
from keyhierarchy.vault.usability import require_usable

_MOST_RANDOM_BYTES = 128


def _version(call: Call) -> KeyVersion:
    version = call.ring.version(call.route.key, call.route.version)
    require_usable(call.route.operation.name, version, call.now)
    return version


def _result(call: Call, version: KeyVersion, members: Document) -> Document:
    name = call.ring.key(call.route.key).name
    return {"kid": bundles.key_id(call.vault_url, name, version.version)} | members


def _optional(name: str, text: str | None) -> bytes | None:
    return decode_member(name, text) if text else None


async def protect(call: Call) -> Document:
    """wrapKey and encrypt: the same work under two permissions."""
    request = documents.parse_body(call.body, documents.KeyOperation)
    value = decode_member("value", request.value)
    version = _version(call)
    if family_of(version.kty) != "oct":
        ciphertext = asymmetric.encrypt(version.secret, request.alg, value)
        return _result(call, version, {"value": to_base64url(ciphertext)})
    iv, aad = _optional("iv", request.iv), _optional("aad", request.aad)
    sealed = symmetric.encrypt(version.secret, request.alg, value, iv, aad)
    members = {"value": sealed.value, "iv": sealed.iv, "tag": sealed.tag, "aad": sealed.aad}
    given = {name: to_base64url(data) for name, data in members.items() if data is not None}
    return _result(call, version, given)


async def unprotect(call: Call) -> Document:
    """unwrapKey and decrypt."""
    request = documents.parse_body(call.body, documents.KeyOperation)
    value = decode_member("value", request.value)
    version = _version(call)
    if family_of(version.kty) == "oct":
        iv, tag = _optional("iv", request.iv), _optional("tag", request.tag)
        sealed = symmetric.Sealed(value, iv, tag, _optional("aad", request.aad))
        plaintext = symmetric.decrypt(version.secret, request.alg, sealed)
    else:
        plaintext = asymmetric.decrypt(version.secret, request.alg, value)
    return _result(call, version, {"value": to_base64url(plaintext)})


def _require_signer(version: KeyVersion) -> None:
    if family_of(version.kty) == "oct":
        raise errors.bad_parameter("A symmetric key does not sign here.")


async def sign(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.KeyOperation)
    digest = decode_member("value", request.value)
    version = _version(call)
    _require_signer(version)
    signature = asymmetric.sign(version.secret, request.alg, digest)
    return _result(call, version, {"value": to_base64url(signature)})


async def verify(call: Call) -> Document:
    request = documents.parse_body(call.body, documents.Verify)
    digest = decode_member("digest", request.digest)
    signature = decode_member("value", request.value)
    version = _version(call)
    _require_signer(version)
    return {"value": asymmetric.verify(version.secret, request.alg, digest, signature)}


async def random_bytes(call: Call) -> Document:
    count = documents.parse_body(call.body, documents.RandomBytes).count
    if not 1 <= count <= _MOST_RANDOM_BYTES:
        raise errors.bad_parameter(f"count must be a number from 1 to {_MOST_RANDOM_BYTES}.")
    return {"value": to_base64url(secrets.token_bytes(count))}


async def not_here(call: Call) -> Document:
    """Secure key release and attestation need hardware that can vouch for itself."""
    raise errors.managed_hsm_only(f"The operation {call.route.operation.name}")


HANDLERS: dict[str, Handler] = {
    "wrapKey": protect,
    "encrypt": protect,
    "unwrapKey": unprotect,
    "decrypt": unprotect,
    "sign": sign,
    "verify": verify,
    "rng": random_bytes,
    "release": not_here,
    "attestation": not_here,
}

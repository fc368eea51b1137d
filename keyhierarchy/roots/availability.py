"""The availability key: RSA-2048, one for each policy, in a store of its own away from the host's.

Layered as Microsoft documents it: private keys are encrypted with AES-256 and authenticated with
HMAC-SHA256 under secret-store keys, which the RSA-2048 key of a certificate wraps. Only `ckfs-keys`
may import this; a mount must not be able to. Layout: HIERARCHY.md 9.2.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)
from msgspec import Meta, Struct

from keyhierarchy import documents, durable
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import (
    KeystoreInvalid,
    KeystoreMissing,
    RootKeyMissing,
    RootKeyUnavailable,
    StorageUnavailable,
    WrappedKeyInvalid,
)
from keyhierarchy.policy import HexId, Timestamp
from keyhierarchy.wrapping import KEY_LENGTH, pack_context

SCHEME = "availability"
FORMAT = 1
_BITS = 2048
_LABEL = b"ckfs/v1/availability-key"  # HIERARCHY.md 9.2
_SUFFIX = ".key"
_LIMIT = 16384
_CERTIFICATE = "certificate.pem"
_CERTIFICATE_KEY = "certificate.key"
_SECRETS = "secret-store.json"
_LOCK = "lock"
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


class _Secrets(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The secret-store keys, wrapped by the certificate's key: 64 bytes, cipher key and MAC key."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    created: Timestamp
    wrapped: Annotated[bytes, Meta(min_length=_BITS // 8, max_length=_BITS // 8)]


class _Stored(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One availability key as its file has it: the private key only encrypted."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    id: HexId
    policy_id: HexId
    created: Timestamp
    public: bytes
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]
    encrypted: bytes
    mac: Annotated[bytes, Meta(min_length=32, max_length=32)]


class AvailabilityKey(Struct, frozen=True, kw_only=True):
    """What may be told of an availability key."""

    key_id: str
    policy_id: str
    created: str


class AvailabilityStore:
    """The folder of availability keys. Holds no key between calls."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def create(self, policy_id: str) -> AvailabilityRoot:
        """Make a new availability key for a policy, and the store itself where it is missing."""
        durable.make_private_folder(self.folder)
        with durable.locked(os.path.join(self.folder, _LOCK), wait=True):
            cipher_key, mac_key = self._secret_keys(make=True)
            private = rsa.generate_private_key(65537, _BITS)
            key_id = secrets.token_hex(16)
            nonce = secrets.token_bytes(16)
            plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            encryptor = Cipher(AES256(cipher_key), CTR(nonce)).encryptor()
            public = private.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            encrypted = encryptor.update(plain) + encryptor.finalize()
            stored = _Stored(
                id=key_id,
                policy_id=policy_id,
                created=timestamp(),
                public=public,
                nonce=nonce,
                encrypted=encrypted,
                mac=_mac(mac_key, key_id, policy_id, public, nonce, encrypted).finalize(),
            )
            durable.replace_document(self._path(key_id), documents.pack(stored))
        return AvailabilityRoot(self, policy_id, f"{SCHEME}:{key_id}")

    def root(self, policy_id: str, key_id: str) -> AvailabilityRoot:
        """Return the root over a key that exists. Reads nothing yet."""
        return AvailabilityRoot(self, policy_id, key_id)

    def keys(self, policy_id: str) -> list[AvailabilityKey]:
        """List the availability keys of a policy, oldest first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise durable.storage_error(error, self.folder, "list") from error
        stored = [self.read(name.removesuffix(_SUFFIX)) for name in names if _is_key(name)]
        return sorted(
            (
                AvailabilityKey(
                    key_id=f"{SCHEME}:{one.id}", policy_id=one.policy_id, created=one.created
                )
                for one in stored
                if one.policy_id == policy_id
            ),
            key=lambda one: one.created,
        )

    def destroy(self, policy_id: str) -> list[str]:
        """Overwrite and remove every availability key of a policy; return their ids."""
        keys = self.keys(policy_id)
        for key in keys:
            path = self._path(key.key_id.removeprefix(f"{SCHEME}:"))
            try:
                _overwrite(path)
                os.unlink(path)
                durable.sync_folder(self.folder)
            except OSError as error:
                raise durable.storage_error(error, path, "destroy") from error
        return [key.key_id for key in keys]

    def read(self, key_id: str) -> _Stored:
        """Read one key's file; nothing in it is decrypted or authenticated."""
        durable.require_private_folder(self.folder)
        document = durable.read_document(self._path(key_id), limit=_LIMIT, private=True)
        stored = documents.parse(document, _Stored, known_format=FORMAT, place=self._path(key_id))
        if stored.id != key_id:
            raise KeystoreInvalid(
                f"{self._path(key_id)} holds availability key {stored.id}, whose file has another "
                "name; rename it back",
                place=self._path(key_id),
            )
        return stored

    def private_key(self, stored: _Stored) -> rsa.RSAPrivateKey:
        """Authenticate and decrypt a private key."""
        cipher_key, mac_key = self._secret_keys(make=False)
        mac = _mac(
            mac_key, stored.id, stored.policy_id, stored.public, stored.nonce, stored.encrypted
        )
        try:
            mac.verify(stored.mac)
        except InvalidSignature as error:
            raise KeystoreInvalid(
                f"{self._path(stored.id)} was altered, or belongs to another secret store; put the "
                "availability store back from a backup",
                key_id=f"{SCHEME}:{stored.id}",
                place=self._path(stored.id),
            ) from error
        decryptor = Cipher(AES256(cipher_key), CTR(stored.nonce)).decryptor()
        private = load_der_private_key(
            decryptor.update(stored.encrypted) + decryptor.finalize(),
            None,
            unsafe_skip_rsa_key_validation=True,  # the MAC has vouched for it
        )
        if not isinstance(private, rsa.RSAPrivateKey):  # the MAC held, so this is a defect of ours
            raise KeystoreInvalid("an availability key is no RSA key", place=self._path(stored.id))
        return private

    def __repr__(self) -> str:
        return f"<AvailabilityStore {self.folder}>"

    def _secret_keys(self, *, make: bool) -> tuple[bytes, bytes]:
        place = os.path.join(self.folder, _SECRETS)
        if make and not os.path.lexists(place):
            self._make_secret_store(place)
        document = durable.read_document(place, limit=_LIMIT, private=True)
        wrapped = documents.parse(document, _Secrets, known_format=FORMAT, place=place).wrapped
        path = os.path.join(self.folder, _CERTIFICATE_KEY)
        pem = durable.read_document(path, limit=_LIMIT, private=True)
        try:
            # The folder is private, and a damaged key fails to open what it wrapped.
            private = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
            both = (
                private.decrypt(wrapped, _OAEP) if isinstance(private, rsa.RSAPrivateKey) else b""
            )
        except (
            ValueError,
            TypeError,
            UnsupportedAlgorithm,
        ):  # not a key, encrypted, of another kind
            both = b""
        if len(both) != 2 * KEY_LENGTH:
            raise KeystoreInvalid(
                f"{place} does not open under {path}; put the availability store back from a "
                "backup",
                place=place,
            )
        return both[:KEY_LENGTH], both[KEY_LENGTH:]

    def _make_secret_store(self, place: str) -> None:
        """Make certificate and secret-store keys; the last file makes the store complete."""
        private = rsa.generate_private_key(65537, _BITS)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ckfs availability store")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=3650))
            .sign(private, SHA256())
        )
        for file, content in (
            (
                _CERTIFICATE_KEY,
                private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            ),
            (_CERTIFICATE, certificate.public_bytes(Encoding.PEM)),
            (
                _SECRETS,
                documents.pack(
                    _Secrets(
                        created=timestamp(),
                        wrapped=private.public_key().encrypt(
                            secrets.token_bytes(2 * KEY_LENGTH), _OAEP
                        ),
                    )
                ),
            ),
        ):
            durable.replace_document(os.path.join(os.path.dirname(place), file), content)

    def _path(self, key_id: str) -> str:
        return os.path.join(self.folder, key_id + _SUFFIX)


class AvailabilityRoot:
    """A RootKey over one availability key."""

    def __init__(self, store: AvailabilityStore, policy_id: str, key_id: str) -> None:
        self.key_id = key_id
        self._store = store
        self._policy_id = policy_id

    def wrap(self, key: bytes) -> bytes:
        """Wrap 32 bytes with RSA-OAEP-256."""
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a tenant intermediate key has {KEY_LENGTH} bytes, not {len(key)}")
        try:
            public = load_der_public_key(self._stored().public)
            if isinstance(public, rsa.RSAPublicKey):
                return public.encrypt(key, _OAEP)
        except (ValueError, UnsupportedAlgorithm):
            pass
        raise KeystoreInvalid(
            f"{self.key_id} has no usable RSA key in its file: it was altered; put the "
            "availability store back from a backup",
            key_id=self.key_id,
        )

    def unwrap(self, wrapped: bytes) -> bytes:
        """Open a wrap. The caller has recorded that the availability key is used, and why."""
        private = self._store.private_key(self._stored())
        try:
            return private.decrypt(wrapped, _OAEP)
        except ValueError as error:
            raise WrappedKeyInvalid(
                f"the tenant intermediate key of policy {self._policy_id} does not open under "
                f"{self.key_id}: the wrap was altered or belongs to another key; put the keystore "
                "back from a backup",
                key_id=self.key_id,
                policy_id=self._policy_id,
            ) from error

    def probe(self) -> None:
        """Do a round trip on a throw-away value."""
        sample = secrets.token_bytes(KEY_LENGTH)
        if not secrets.compare_digest(self.unwrap(self.wrap(sample)), sample):
            raise WrappedKeyInvalid(f"{self.key_id} does not open its wraps", key_id=self.key_id)

    def __repr__(self) -> str:
        return f"<AvailabilityRoot {self.key_id}>"

    def _stored(self) -> _Stored:
        try:
            stored = self._store.read(self.key_id.removeprefix(f"{SCHEME}:"))
        except StorageUnavailable as error:
            raise RootKeyUnavailable(error.message, key_id=self.key_id) from error
        except KeystoreMissing as error:
            raise RootKeyMissing(
                f"availability key {self.key_id} is missing: looked in {self._store.folder}; put "
                "that folder back from a backup, or name the right one with --availability-dir",
                key_id=self.key_id,
                policy_id=self._policy_id,
                place=self._store.folder,
            ) from error
        if stored.policy_id != self._policy_id:
            raise WrappedKeyInvalid(
                f"{self.key_id} belongs to policy {stored.policy_id}, not to {self._policy_id}; "
                "put the keystore back from a backup",
                key_id=self.key_id,
                policy_id=self._policy_id,
            )
        return stored


def _is_key(name: str) -> bool:
    stem = name.removesuffix(_SUFFIX)
    return name.endswith(_SUFFIX) and len(stem) == 32 and not set(stem) - set("0123456789abcdef")  # noqa: PLR2004


def _mac(
    mac_key: bytes, key_id: str, policy_id: str, public: bytes, nonce: bytes, encrypted: bytes
) -> HMAC:
    mac = HMAC(mac_key, SHA256())
    mac.update(
        pack_context(
            _LABEL, bytes.fromhex(key_id), bytes.fromhex(policy_id), public, nonce, encrypted
        )
    )
    return mac


def _overwrite(path: str) -> None:
    """Overwrite a file in place before it is unlinked: the best that can be done above a disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with suppress(OSError):  # a read-only or full copy-on-write disk may refuse
            os.pwrite(descriptor, secrets.token_bytes(os.fstat(descriptor).st_size), 0)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The service-managed root key: master keys in a folder of this host that only its owner can read.

A DKM-like store: one file for each master key, a rollover makes a new one and archives the old,
which stays able to unwrap. Wraps TIKs only, under a key derived for each policy (SP 800-108).
Knows no keystore, no policy record and no audit log.
"""

from __future__ import annotations

import os
import secrets
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from msgspec import Meta, Struct
from msgspec.structs import replace

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

FORMAT = 1
SCHEME = "service"
_SUFFIX = ".key"
_LOCK = "lock"
_LIMIT = 4096
_LABEL = b"ckfs/v1/service-managed-root"  # HIERARCHY.md 3.4
_ID_LENGTH = 16
_WRAPPED_LENGTH = _ID_LENGTH + 16 + KEY_LENGTH


class MasterKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One master key as its file has it. Prints without the key."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    id: HexId
    sequence: Annotated[int, Meta(ge=1, lt=1 << 32)]
    created: Timestamp
    state: Literal["current", "archived"]
    key: Annotated[bytes, Meta(min_length=KEY_LENGTH, max_length=KEY_LENGTH)]

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"<MasterKey {self.id} sequence {self.sequence} {self.state}>"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a MasterKey holds a key and is not pickled")

    @property
    def key_id(self) -> str:
        """The name by which wrap records and the audit log call it."""
        return f"{SCHEME}:{self.id}"


class ServiceKeys:
    """The folder of master keys. Holds no key between calls."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def current(self) -> MasterKey:
        """Return the master key for new wraps. RootKeyMissing where the folder has none."""
        keys = self.masters()
        if not keys:
            raise self._missing("there is no service-managed root key")
        # A rollover that was cut short leaves two current ones; the newer is meant.
        return next((key for key in reversed(keys) if key.state == "current"), keys[-1])

    def masters(self) -> list[MasterKey]:
        """Return all master keys, oldest first; an empty list where there are none."""
        if not os.path.lexists(self.folder):
            return []
        durable.require_private_folder(self.folder)
        try:
            names = [name for name in os.listdir(self.folder) if name.endswith(_SUFFIX)]
        except OSError as error:
            raise durable.storage_error(error, self.folder, "list") from error
        keys = sorted((self._read(name) for name in names), key=lambda key: key.sequence)
        if len({key.sequence for key in keys}) != len(keys):
            raise KeystoreInvalid(
                f"{self.folder}: two master keys have the same sequence number; "
                "put the folder back from a backup",
                place=self.folder,
            )
        return keys

    def get(self, master_id: str) -> MasterKey:
        """Return one master key, archived or current."""
        if not os.path.lexists(self.folder):
            raise self._missing("there is no service-managed root key", f"{SCHEME}:{master_id}")
        durable.require_private_folder(self.folder)
        try:
            return self._read(master_id + _SUFFIX)
        except KeystoreMissing as error:
            raise self._missing(
                f"service-managed root key {SCHEME}:{master_id} is missing",
                f"{SCHEME}:{master_id}",
            ) from error

    def ensure(self) -> tuple[MasterKey, bool]:
        """Return the current master key, made now if there is none, and whether it was made."""
        durable.make_private_folder(self.folder)
        with durable.locked(os.path.join(self.folder, _LOCK), wait=True):
            if self.masters():
                return self.current(), False
            return self._create(1), True

    def roll(self) -> tuple[MasterKey, MasterKey]:
        """Make a new current master key and archive the old: (new, old)."""
        self.current()  # a rollover of nothing is a mistake in the place, not a wish for a key
        with durable.locked(os.path.join(self.folder, _LOCK)):
            old = self.current()
            new = self._create(self.masters()[-1].sequence + 1)
            for key in self.masters():
                if key.state == "current" and key.id != new.id:
                    self._write(replace(key, state="archived"))
        return new, old

    def _create(self, sequence: int) -> MasterKey:
        key = MasterKey(
            id=secrets.token_hex(_ID_LENGTH),
            sequence=sequence,
            created=timestamp(),
            state="current",
            key=secrets.token_bytes(KEY_LENGTH),
        )
        self._write(key)
        return key

    def _write(self, key: MasterKey) -> None:
        place = os.path.join(self.folder, key.id + _SUFFIX)
        durable.replace_document(place, documents.pack(key))

    def _read(self, name: str) -> MasterKey:
        place = os.path.join(self.folder, name)
        document = durable.read_document(place, limit=_LIMIT, private=True)
        key = documents.parse(document, MasterKey, known_format=FORMAT, place=place)
        if key.id + _SUFFIX != name:
            raise KeystoreInvalid(
                f"{place} holds master key {key.id}, whose file has another name; rename it back",
                place=place,
            )
        return key

    def _missing(self, what: str, key_id: str | None = None) -> RootKeyMissing:
        return RootKeyMissing(
            f"{what}: looked in {self.folder}; put the folder back from a backup, or name the "
            "right state folder with --state-dir or CKFS_STATE_DIR",
            key_id=key_id,
            place=self.folder,
        )


class ServiceManagedRoot:
    """A RootKey over the current master key; opens what an archived one wrapped, too."""

    def __init__(self, folder: str, policy_id: str) -> None:
        self._keys = ServiceKeys(folder)
        self._policy_id = bytes.fromhex(policy_id)
        self._master_id = self._load(None).id

    @property
    def key_id(self) -> str:
        """The current master key at the time this object was made."""
        return f"{SCHEME}:{self._master_id}"

    def wrap(self, key: bytes) -> bytes:
        """Wrap 32 bytes: master key id 16, synthetic IV 16, ciphertext 32."""
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a tenant intermediate key has {KEY_LENGTH} bytes, not {len(key)}")
        master = self._load(self._master_id)
        return wrap_under(master.key, bytes.fromhex(master.id), self._policy_id, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Open a wrap by the master key that it names."""
        if len(wrapped) != _WRAPPED_LENGTH:
            raise self._invalid(self.key_id)
        master_id = wrapped[:_ID_LENGTH]
        master = self._load(master_id.hex())
        try:
            return unwrap_under(master.key, self._policy_id, wrapped)
        except InvalidTag as error:
            raise self._invalid(master.key_id) from error

    def probe(self) -> None:
        """Read the master key again and do a round trip."""
        sample = secrets.token_bytes(KEY_LENGTH)
        if not secrets.compare_digest(self.unwrap(self.wrap(sample)), sample):
            raise self._invalid(self.key_id)

    def __repr__(self) -> str:
        return f"<ServiceManagedRoot {self.key_id} in {self._keys.folder}>"

    def _load(self, master_id: str | None) -> MasterKey:
        try:
            return self._keys.current() if master_id is None else self._keys.get(master_id)
        except StorageUnavailable as error:
            raise RootKeyUnavailable(error.message, place=error.place) from error

    def _invalid(self, key_id: str) -> WrappedKeyInvalid:
        return WrappedKeyInvalid(
            f"the tenant intermediate key of policy {self._policy_id.hex()} does not open under "
            f"{key_id}: the wrap was altered, belongs to another policy, or the master key file "
            "was changed; put the keystore, or the service-keys folder, back from a backup",
            key_id=key_id,
            policy_id=self._policy_id.hex(),
        )


def derive_policy_key(master_key: bytes, master_id: bytes, policy_id: bytes) -> bytes:
    """Derive a policy's 64-byte AES-SIV key: SP 800-108 counter mode, HMAC-SHA256."""
    return KBKDFHMAC(
        algorithm=SHA256(),
        mode=Mode.CounterMode,
        length=64,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=_LABEL,
        context=policy_id + master_id,  # two ids of 16 bytes each: nothing to confuse
        fixed=None,
    ).derive(master_key)


def wrap_under(master_key: bytes, master_id: bytes, policy_id: bytes, key: bytes) -> bytes:
    """Wrap a key; pure, so that vectors can fix it."""
    siv = AESSIV(derive_policy_key(master_key, master_id, policy_id))
    return master_id + siv.encrypt(key, [pack_context(_LABEL, policy_id, master_id)])


def unwrap_under(master_key: bytes, policy_id: bytes, wrapped: bytes) -> bytes:
    """Open what `wrap_under` made; InvalidTag where it does not authenticate."""
    master_id = wrapped[:_ID_LENGTH]
    siv = AESSIV(derive_policy_key(master_key, master_id, policy_id))
    return siv.decrypt(wrapped[_ID_LENGTH:], [pack_context(_LABEL, policy_id, master_id)])

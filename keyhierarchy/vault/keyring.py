"""The keys of one vault and their life: created, versioned, deleted, recovered, purged, restored.

Every change is durable before the method returns, and memory follows the disk. Methods run on the
server's one thread and never wait, so each is atomic. HTTP, permissions and material are elsewhere.
"""

from collections.abc import Callable, Iterator

import msgspec

from keyhierarchy.vault import errors, material, rotation
from keyhierarchy.vault.clock import Clock
from keyhierarchy.vault.documents import KeyMetadata, RotationPolicyBody
from keyhierarchy.vault.records import (
    Deletion,
    KeyRecord,
    KeyVersion,
    RotationPolicy,
    VaultProperties,
)
from keyhierarchy.vault.sealing import Sealer
from keyhierarchy.vault.store import VaultStore

_DAY = 86400


class Keyring:
    def __init__(
        self, properties: VaultProperties, store: VaultStore, backups: Sealer, clock: Clock
    ) -> None:
        self.properties = properties
        self._store = store
        self._backups = backups
        self._clock = clock
        self._records = store.load()

    # Looking things up

    def require_name_free(self, name: str) -> None:
        """Refuses a name whose key is deleted, or on its way out of or back into the vault."""
        record = self._present(name)
        if record is None:
            return
        if record.deletion is not None:
            if self._clock.now() < record.deletion.complete_at:
                raise errors.being_deleted(name)
            raise errors.deleted_but_recoverable(name)
        if self._clock.now() < record.recovery_complete_at:
            raise errors.being_recovered(name)

    def key(self, name: str) -> KeyRecord:
        record = self._present(name)
        if record is None or record.deletion is not None or self._recovering(record):
            raise errors.key_not_found(name)
        return record

    def version(self, name: str, version: str = "") -> KeyVersion:
        """An empty version means the latest."""
        record = self.key(name)
        if not version:
            return record.latest
        for candidate in record.versions:
            if candidate.version == version:
                return candidate
        raise errors.key_not_found(name, version)

    def deleted_key(self, name: str) -> KeyRecord:
        record = self._present(name)
        if record is None or not self._fully_deleted(record):
            raise errors.deleted_key_not_found(name)
        return record

    def live_keys(self) -> Iterator[KeyRecord]:
        for name in sorted(self._records):
            record = self._present(name)
            if record is not None and record.deletion is None and not self._recovering(record):
                yield record

    def deleted_keys(self) -> Iterator[KeyRecord]:
        for name in sorted(self._records):
            record = self._present(name)
            if record is not None and self._fully_deleted(record):
                yield record

    # Versions

    def add_version(self, name: str, version: KeyVersion) -> None:
        """A new key, or the next version of one that exists."""
        self.require_name_free(name)
        old = self._present(name)
        if old is None:
            self._save(KeyRecord(name=name, versions=[version]))
            return
        policy = old.rotation_policy
        if policy is not None and policy.expiry_time and version.exp is None:
            version.exp = rotation.after(version.created, policy.expiry_time)
        self._save(msgspec.structs.replace(old, versions=[*old.versions, version]))

    def update_version(self, name: str, version: str, metadata: KeyMetadata) -> KeyVersion:
        """Members that the client left out stay as they are."""
        record = self.key(name)
        old = self.version(name, version)
        given = metadata.attributes
        new = msgspec.structs.replace(old, updated=int(self._clock.now()))
        if given is not None:
            new.enabled = old.enabled if given.enabled is None else given.enabled
            new.nbf = old.nbf if given.nbf is None else given.nbf
            new.exp = old.exp if given.exp is None else given.exp
        new.tags = old.tags if metadata.tags is None else metadata.tags
        new.key_ops = old.key_ops if metadata.key_ops is None else metadata.key_ops
        if metadata.release_policy is not None:
            if old.release_policy is not None and old.release_policy.immutable:
                raise errors.bad_parameter("The release policy of this key is immutable.")
            new.release_policy = metadata.release_policy.to_record()
        versions = [new if each is old else each for each in record.versions]
        self._save(msgspec.structs.replace(record, versions=versions))
        return new

    # Deleting and what can be done about it

    def delete(self, name: str) -> KeyRecord:
        record = self.key(name)
        now = self._clock.now()
        deletion = Deletion(
            deleted=int(now),
            scheduled_purge=int(now) + self.properties.retention_days * _DAY,
            complete_at=now + self.properties.delete_seconds,
        )
        return self._save(msgspec.structs.replace(record, deletion=deletion))

    def recover(self, name: str) -> KeyRecord:
        record = self.deleted_key(name)
        complete_at = self._clock.now() + self.properties.recover_seconds
        return self._save(
            msgspec.structs.replace(record, deletion=None, recovery_complete_at=complete_at)
        )

    def purge(self, name: str) -> None:
        """Forgets the key here. Backups of it still open, and the disk may keep sealed bytes."""
        self.deleted_key(name)
        if self.properties.refuses_purge:
            raise errors.purge_protected(self.properties.name, self.properties.location)
        self._remove(name)

    # Backup

    def backup(self, name: str) -> bytes:
        """All versions, sealed; opens only in this installation, subscription and location."""
        plain = msgspec.msgpack.encode(self.key(name))
        return self._backups.seal(plain, self._backup_context())

    def restore(self, blob: bytes) -> KeyRecord:
        try:
            plain = self._backups.open(blob, self._backup_context())
            record = msgspec.msgpack.decode(plain, type=KeyRecord)
        except (errors.StateDamaged, msgspec.DecodeError):
            raise errors.bad_parameter(
                "The backup is damaged, or was made in another subscription or geography."
            ) from None
        self.require_name_free(record.name)
        if self._present(record.name) is not None:
            raise errors.name_in_use(record.name)
        return self._save(record)

    # Rotation policy

    def rotation_policy(self, name: str) -> RotationPolicy:
        record = self.key(name)
        return record.rotation_policy or rotation.default_policy(record.versions[0].created)

    def set_rotation_policy(self, name: str, body: RotationPolicyBody) -> RotationPolicy:
        now = int(self._clock.now())
        policy = rotation.parse_policy(body, now, self.rotation_policy(name))
        self._save(msgspec.structs.replace(self.key(name), rotation_policy=policy))
        return policy

    def configure(self, change: Callable[[VaultProperties], None]) -> None:
        """Changes the vault's own properties: access policies, delays, limits."""
        copy = msgspec.json.decode(msgspec.json.encode(self.properties), type=VaultProperties)
        change(copy)
        self._store.save_properties(copy)
        self.properties = copy

    # Within

    def _present(self, name: str) -> KeyRecord | None:
        """The record of a name, after the purge that its retention may have made due."""
        record = self._records.get(name.lower())
        if record is None or record.deletion is None:
            return record
        if self._clock.now() < record.deletion.scheduled_purge:
            return record
        self._remove(name)
        return None

    def _recovering(self, record: KeyRecord) -> bool:
        return self._clock.now() < record.recovery_complete_at

    def _fully_deleted(self, record: KeyRecord) -> bool:
        deletion = record.deletion
        return deletion is not None and self._clock.now() >= deletion.complete_at

    def _save(self, record: KeyRecord) -> KeyRecord:
        self._store.save(record)
        self._records[record.name.lower()] = record
        return record

    def _remove(self, name: str) -> None:
        self._store.remove(name)
        del self._records[name.lower()]
        material.forget_loaded()

    def _backup_context(self) -> str:
        return f"backup {self.properties.subscription} {self.properties.location}"

"""What the server remembers, as values: keys with their versions, vault properties, principals.

These are the shapes of the state folder (format 1). Behaviour is in `keyring`; the shapes on the
wire are in `documents`.
"""

from typing import Literal

import msgspec

RECORD_FORMAT = 1
DEFAULT_RETENTION_DAYS = 90
MINIMUM_RETENTION_DAYS = 7

VaultKind = Literal["vault", "hsm"]


class ReleasePolicy(msgspec.Struct):
    content_type: str
    data: str
    immutable: bool = False


class KeyVersion(msgspec.Struct):
    """One version. `secret` is PKCS#8 DER, or the bare bytes of a symmetric key; never printed."""

    version: str
    kty: str
    secret: bytes
    key_ops: list[str]
    created: int
    updated: int
    crv: str | None = None
    size: int | None = None
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    exportable: bool | None = None
    tags: dict[str, str] = {}
    release_policy: ReleasePolicy | None = None

    def __repr__(self) -> str:
        return f"<KeyVersion {self.version} {self.kty}>"

    def __reduce__(self) -> str:
        raise TypeError("a KeyVersion holds a key and is not pickled")

    @property
    def in_hardware(self) -> bool:
        """By name only: a local server has no hardware to protect anything in."""
        return self.kty.endswith("-HSM")


class LifetimeAction(msgspec.Struct):
    action: str
    time_after_create: str | None = None
    time_before_expiry: str | None = None


class RotationPolicy(msgspec.Struct):
    actions: list[LifetimeAction]
    created: int
    updated: int
    expiry_time: str | None = None


class Deletion(msgspec.Struct):
    """Until `complete_at` the key answers in neither collection, as in the real service."""

    deleted: int
    scheduled_purge: int
    complete_at: float


class KeyRecord(msgspec.Struct):
    """One key with all its versions, oldest first; the unit that is sealed and replaced."""

    name: str
    versions: list[KeyVersion]
    rotation_policy: RotationPolicy | None = None
    deletion: Deletion | None = None
    recovery_complete_at: float = 0.0
    format: int = RECORD_FORMAT

    @property
    def latest(self) -> KeyVersion:
        return self.versions[-1]


class VaultProperties(msgspec.Struct):
    name: str
    subscription: str
    kind: VaultKind = "vault"
    location: str = "local"
    retention_days: int = DEFAULT_RETENTION_DAYS
    purge_protection: bool = False
    subscription_protected: bool = False
    delete_seconds: float = 0.2
    recover_seconds: float = 0.2
    throttle: str = "service"
    access_policies: dict[str, list[str]] = {}
    format: int = RECORD_FORMAT

    @property
    def recovery_level(self) -> str:
        customized = self.retention_days != DEFAULT_RETENTION_DAYS
        level = "CustomizedRecoverable" if customized else "Recoverable"
        if self.subscription_protected:
            return f"{level}+ProtectedSubscription"
        return level if self.purge_protection else f"{level}+Purgeable"

    @property
    def refuses_purge(self) -> bool:
        return self.purge_protection or self.subscription_protected

    @property
    def resource_id(self) -> str:
        return (
            f"/SUBSCRIPTIONS/{self.subscription}/RESOURCEGROUPS/CKFS/PROVIDERS/"
            f"MICROSOFT.KEYVAULT/VAULTS/{self.name}"
        ).upper()


class Principal(msgspec.Struct):
    """A client application. Only a digest of its secret is kept; the secret has 256 random bits."""

    name: str
    client_id: str
    object_id: str
    secret_digest: bytes


class Installation(msgspec.Struct):
    """What holds for every vault of one state folder."""

    tenant_id: str
    domain: str = "vault.test"
    hsm_domain: str = "managedhsm.test"
    principals: list[Principal] = []
    format: int = RECORD_FORMAT

    def domain_of(self, kind: VaultKind) -> str:
        return self.hsm_domain if kind == "hsm" else self.domain

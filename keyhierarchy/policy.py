"""The data encryption policy as a frozen value. PURE: no disk, no clock, no root key is touched.

Says which root keys protect which generations of the tenant intermediate key (TIK), and in which
state the policy is. The change from one state to the next is not here yet: this version has only
the service-managed policy that `ckfs init` makes. Shape and limits: HIERARCHY.md section 4.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from keyhierarchy.errors import PolicyPurged, RootKeyRefused

HexId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Generation = Annotated[int, Meta(ge=1, lt=1 << 32)]
# No character that JSON would escape or a terminal obey, so that the canonical form is plain ASCII.
KeyId = Annotated[str, Meta(pattern=r"^[!#-\[\]-~]{1,512}\Z")]
PolicyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]
Slot = Literal["service", "primary", "secondary", "availability"]
Algorithm = Literal["KBKDF-SHA256+AES-256-SIV", "RSA-OAEP-256"]
SERVICE_ALGORITHM: Algorithm = "KBKDF-SHA256+AES-256-SIV"
DEFAULT_NAME = "default"
_ENDORSEMENT_LENGTH = 32


class PolicyState(IntEnum):
    """The first five are Microsoft's names and numbers, the others this system's own."""

    Unregistered = 0
    Registering = 1
    Registered = 2
    Rolling = 3
    Recovering = 4
    Revoked = 5
    Offboarding = 6
    PurgeRequested = 7
    Purged = 8


class TikWrap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One wrap of one generation of the TIK: by which root key, how, since when."""

    slot: Slot
    key_id: KeyId
    algorithm: Algorithm
    wrapped: Annotated[bytes, Meta(min_length=48, max_length=4096)]
    created: Timestamp


class TikGeneration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One generation of the TIK with its fingerprint and all its wraps.

    The endorsement is made under generation n-1; empty for the first.
    """

    generation: Generation
    fingerprint: Annotated[bytes, Meta(min_length=32, max_length=32)]
    endorsement: bytes = b""
    wraps: Annotated[tuple[TikWrap, ...], Meta(max_length=16)]

    def __post_init__(self) -> None:
        """Refuse an endorsement of a wrong length, or one that should not or should be there."""
        if len(self.endorsement) != (_ENDORSEMENT_LENGTH if self.generation > 1 else 0):
            raise ValueError("each TIK generation but the first has an endorsement of 32 bytes")


class DataEncryptionPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy: its TIK generations are in rising order, the last one is current."""

    id: HexId
    name: PolicyName
    state: PolicyState
    created: Timestamp
    tik_generations: Annotated[tuple[TikGeneration, ...], Meta(min_length=1, max_length=1024)]

    def __post_init__(self) -> None:
        """Refuse what no writer makes: generations out of order or endorsements out of place."""
        numbers = [tik.generation for tik in self.tik_generations]
        if numbers != sorted(set(numbers)):
            raise ValueError("tenant intermediate key generations are not in rising order")

    @property
    def current_tik(self) -> TikGeneration:
        """The generation that wraps new site keys and seals the section."""
        return self.tik_generations[-1]

    def tik(self, generation: int) -> TikGeneration | None:
        """Find a generation, or None."""
        return next((tik for tik in self.tik_generations if tik.generation == generation), None)


def default_policy(
    policy_id: str, *, created: str, fingerprint: bytes, wrap: TikWrap
) -> DataEncryptionPolicy:
    """Make the policy that every store begins with: service-managed, no customer key."""
    first = TikGeneration(generation=1, fingerprint=fingerprint, wraps=(wrap,))
    return DataEncryptionPolicy(
        id=policy_id,
        name=DEFAULT_NAME,
        state=PolicyState.Unregistered,
        created=created,
        tik_generations=(first,),
    )


def with_wrap(policy: DataEncryptionPolicy, generation: int, wrap: TikWrap) -> DataEncryptionPolicy:
    """Return the policy with this wrap in its slot of that generation, in place of the old one."""
    changed = tuple(
        replace(tik, wraps=(*(old for old in tik.wraps if old.slot != wrap.slot), wrap))
        if tik.generation == generation
        else tik
        for tik in policy.tik_generations
    )
    return replace(policy, tik_generations=changed)


def require_usable(policy: DataEncryptionPolicy) -> None:
    """Raise where the state alone forbids opening the policy's keys, before any root is asked."""
    if policy.state is PolicyState.Revoked:
        raise RootKeyRefused(
            f"policy {policy.name} ({policy.id}) is revoked: its administrator has withdrawn the "
            "keys; ask them to grant access again",
            policy_id=policy.id,
        )
    if policy.state in {PolicyState.PurgeRequested, PolicyState.Purged}:
        raise PolicyPurged(
            f"policy {policy.name} ({policy.id}) is in state {policy.state.name}: its keys are "
            "destroyed or about to be; only its administrators can say more",
            policy_id=policy.id,
        )

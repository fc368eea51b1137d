"""The data encryption policy as a frozen value. PURE: no disk, no clock, no root key is touched.

Says which root keys protect which generations of the tenant intermediate key (TIK), and in which
state the policy is; which verb leads from one state to the next is transitions.py's table. Shape
and limits: HIERARCHY.md section 4. Members that came after format 1 are left out where they are
unset, so that documents without them, and their seals, keep their bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from keyhierarchy.errors import PolicyPurged, RootKeyRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HexId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Generation = Annotated[int, Meta(ge=1, lt=1 << 32)]
# No character that JSON would escape or a terminal obey, so that the canonical form is plain ASCII.
KeyId = Annotated[str, Meta(pattern=r"^[!#-\[\]-~]{1,512}\Z")]
PolicyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]
Slot = Literal["service", "primary", "secondary", "availability", "successor"]
Algorithm = Literal["KBKDF-SHA256+AES-256-SIV", "RSA-OAEP-256", "AES-256-SIV"]
OperationVerb = Literal["register", "roll-root", "roll-tik", "roll-site-key", "restore", "offboard"]
SERVICE_ALGORITHM: Algorithm = "KBKDF-SHA256+AES-256-SIV"
VAULT_ALGORITHM: Algorithm = "RSA-OAEP-256"
# A TIK generation that is no longer current lies wrapped under the next one: "tik:<generation>".
SUCCESSOR_ALGORITHM: Algorithm = "AES-256-SIV"
_SUCCESSOR = "tik:"
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


class Operation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change of the policy that was begun and is not finished; a second one is not begun.

    `target` is the slot or the site id that a roll is about, empty for the other verbs. `after` is
    the state that the policy gets when it is done. What is done already is told by the records
    themselves, so that no progress can contradict them.
    """

    verb: OperationVerb
    started: Timestamp
    after: PolicyState
    target: Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    key_ids: Annotated[tuple[KeyId, ...], Meta(max_length=4)] = ()


class RetiredKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A root key version that no wrap of this keystore needs any more; a backup of it may."""

    slot: Slot
    key_id: KeyId
    retired: Timestamp


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
    operation: Operation | UnsetType = UNSET
    retired_keys: Annotated[tuple[RetiredKey, ...], Meta(max_length=4096)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse what no writer makes: generations out of order or endorsements out of place."""
        numbers = [tik.generation for tik in self.tik_generations]
        if numbers != sorted(set(numbers)):
            raise ValueError("tenant intermediate key generations are not in rising order")

    @property
    def current_tik(self) -> TikGeneration:
        """The generation that wraps new site keys and seals the section."""
        return self.tik_generations[-1]

    @property
    def running(self) -> Operation | None:
        """The change that is not finished, or None."""
        return self.operation or None

    @property
    def retired(self) -> tuple[RetiredKey, ...]:
        """The root key versions that were once needed."""
        return self.retired_keys or ()

    @property
    def named(self) -> str:
        """Name and id, as errors tell them."""
        return f"{self.name} ({self.id})"

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


def with_added_wrap(
    policy: DataEncryptionPolicy, generation: int, wrap: TikWrap
) -> DataEncryptionPolicy:
    """Return the policy with one more wrap of that generation; those that it has stay."""
    return _with_wraps(policy, generation, lambda wraps: (*wraps, wrap))


def without_wraps(
    policy: DataEncryptionPolicy, generation: int, dropped: Callable[[TikWrap], bool]
) -> DataEncryptionPolicy:
    """Return the policy without some wraps of that generation, their keys among the retired ones.

    Raises ValueError rather than drop the last wrap of a generation.
    """
    tik = policy.tik(generation)
    gone = [wrap for wrap in tik.wraps if dropped(wrap)] if tik else []
    if tik is None or len(gone) == len(tik.wraps):
        raise ValueError(f"generation {generation} would be left without a wrap")
    return _with_wraps(
        policy, generation, lambda wraps: tuple(wrap for wrap in wraps if wrap not in gone)
    )


def with_retired(
    policy: DataEncryptionPolicy, wraps: Iterable[TikWrap], retired: str
) -> DataEncryptionPolicy:
    """Return the policy with the keys of these wraps among those that backups may need."""
    known = {old.key_id for old in policy.retired}
    new = {wrap.key_id: wrap for wrap in wraps if wrap.slot != "successor"}
    added = tuple(
        RetiredKey(slot=wrap.slot, key_id=key_id, retired=retired)
        for key_id, wrap in new.items()
        if key_id not in known
    )
    return replace(policy, retired_keys=(*policy.retired, *added)) if added else policy


def successor_key_id(generation: int) -> str:
    """Return how the wrap of a TIK under the one of `generation` names it."""
    return f"{_SUCCESSOR}{generation}"


def _with_wraps(
    policy: DataEncryptionPolicy,
    generation: int,
    change: Callable[[tuple[TikWrap, ...]], tuple[TikWrap, ...]],
) -> DataEncryptionPolicy:
    changed = tuple(
        replace(tik, wraps=change(tik.wraps)) if tik.generation == generation else tik
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

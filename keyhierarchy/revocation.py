"""The switch by which an administrator of this host closes a policy at once: STATE/revoked.json.

`ckfs-keys revoke` sets it, running mounts look at it each second, and no lease is granted while it
is set. Knows ids, not keys, and asks nobody. Form: HIERARCHY.md section 15.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from keyhierarchy import documents, durable
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import KeystoreMissing, RootKeyRefused
from keyhierarchy.policy import HexId, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
NAME = "revoked.json"
CAUSE = "revoked-on-host"
_LOCK = "revoked.lock"
_LIMIT = 4 << 20


class Revocation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One policy that this host must not open, since when and why."""

    policy_id: HexId
    since: Timestamp
    reason: Annotated[str, Meta(max_length=1000)]


class Revocations(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document."""

    format: int = FORMAT
    lowest_reader: int = FORMAT
    policies: tuple[Revocation, ...] = ()

    def find(self, policy_id: str) -> Revocation | None:
        """Find the revocation of a policy, or None."""
        return next((one for one in self.policies if one.policy_id == policy_id), None)


class Watch:
    """Tells what is revoked now, at the price of one stat while nothing changes."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._seen: tuple[int, ...] | None = None
        self._known = Revocations()

    def now(self) -> Revocations:
        """Return the document as it is now. A damaged one raises, and is read again next time."""
        seen = _identity(path(self._state_dir))
        if seen != self._seen:
            self._known = load(self._state_dir)
            self._seen = seen
        return self._known


def path(state_dir: str) -> str:
    """Return where the document is."""
    return os.path.join(state_dir, NAME)


def load(state_dir: str) -> Revocations:
    """Read the document; nothing is revoked where there is none."""
    place = path(state_dir)
    try:
        document = durable.read_document(place, limit=_LIMIT, private=True)
    except KeystoreMissing:
        return Revocations()
    return documents.parse(document, Revocations, known_format=FORMAT, place=place)


def set(state_dir: str, policy_id: str, reason: str) -> Revocation:  # noqa: A001 - `revocation.set`
    """Close a policy on this host; the first reason stands if it was closed already."""
    entry = Revocation(policy_id=policy_id, since=timestamp(), reason=reason[:1000])

    def change(before: Revocations) -> Revocations:
        if before.find(policy_id) is not None:
            return before
        return replace(before, policies=(*before.policies, entry))

    return _change(state_dir, change).find(policy_id) or entry


def clear(state_dir: str, policy_id: str) -> bool:
    """Let this host open the policy again; False where it was not closed."""
    was = load(state_dir).find(policy_id) is not None

    def change(before: Revocations) -> Revocations:
        kept = tuple(one for one in before.policies if one.policy_id != policy_id)
        return replace(before, policies=kept)

    _change(state_dir, change)
    return was


def is_revoked(state_dir: str, policy_id: str) -> bool:
    """Tell whether this host must not open the policy."""
    return load(state_dir).find(policy_id) is not None


def refusal(found: Revocation) -> RootKeyRefused:
    """Return what every use of the policy's keys is told."""
    return RootKeyRefused(
        f"policy {found.policy_id} was revoked on this host at {found.since} ({found.reason}); its "
        f"administrator can give access back with: ckfs-keys revoke --undo",
        policy_id=found.policy_id,
        cause=CAUSE,
    )


def _change(state_dir: str, change: Callable[[Revocations], Revocations]) -> Revocations:
    durable.make_private_folder(state_dir)
    place = path(state_dir)
    with durable.locked(os.path.join(state_dir, _LOCK), wait=True):
        before = load(state_dir)
        after = change(before)
        document = documents.pack(after)
        documents.parse(document, Revocations, known_format=FORMAT, place=place)
        if after != before:
            durable.replace_document(place, document)
    return after


def _identity(place: str) -> tuple[int, ...] | None:
    """Say which version of the document lies there: every replacement has another inode or time."""
    try:
        found = os.stat(place, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise durable.storage_error(error, place, "look at") from error
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

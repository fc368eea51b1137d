"""The request for a purge, kept by the host on which it was made, and who asks and approves.

Only the document and the account; what follows from them is purging.py's.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from keyhierarchy import documents, durable
from keyhierarchy.errors import KeystoreMissing
from keyhierarchy.policy import HexId, Timestamp

if TYPE_CHECKING:
    from keyhierarchy.lifecycle.session import Store

FORMAT = 1
_LIMIT = 16 << 20
_Text = Annotated[str, Meta(min_length=1, max_length=1000)]


class PurgeRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document STATE/stores/<store id>/purge-<policy id>.json.

    `keys` and `sites` are filled when the purge is executed, for the certificate.
    """

    format: int = FORMAT
    lowest_reader: int = FORMAT
    policy_id: HexId
    requested: Timestamp
    requester: _Text
    approver: _Text
    reason: _Text
    contact: _Text
    not_before: Timestamp
    was_revoked: bool
    approved: Timestamp | None = None
    keys: tuple[str, ...] = ()
    sites: tuple[HexId, ...] = ()


def account() -> str:
    """Return the account that a person works from: through sudo, the one that called it.

    Whoever is root can pretend to be any account, so this binds honest administrators; the audit
    log shows uid and program beside it.
    """
    uid = os.getuid()
    if os.geteuid() == 0:
        with suppress(ValueError):
            uid = int(os.environ.get("SUDO_UID", uid))
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid-{uid}"


def path(store: Store, policy_id: str) -> str:
    """Return where the request of a policy is."""
    return os.path.join(store.folder, f"purge-{policy_id}.json")


def load(store: Store, policy_id: str) -> PurgeRequest | None:
    """Read the request, or return None where this host has none."""
    place = path(store, policy_id)
    try:
        document = durable.read_document(place, limit=_LIMIT, private=True)
    except KeystoreMissing:
        return None
    return documents.parse(document, PurgeRequest, known_format=FORMAT, place=place)


def save(store: Store, request: PurgeRequest) -> None:
    """Write the request."""
    place = path(store, request.policy_id)
    document = documents.pack(request)
    documents.parse(document, PurgeRequest, known_format=FORMAT, place=place)
    durable.replace_document(place, document)


def remove(store: Store, policy_id: str) -> None:
    """Remove the request, if there is one."""
    place = path(store, policy_id)
    try:
        os.unlink(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise durable.storage_error(error, place, "remove") from error
    durable.sync_folder(store.folder)

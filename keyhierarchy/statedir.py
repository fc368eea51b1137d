"""Where this host keeps what must not lie in a store: service keys, anchors, audit logs.

Only places, and the rule that they lie outside the store. Reads and writes no document.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keyhierarchy import durable
from keyhierarchy.errors import UnsafePermissions

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT = "CKFS_STATE_DIR"


def default_state_dir(environ: Mapping[str, str] | None = None, euid: int | None = None) -> str:
    """Return the state folder: CKFS_STATE_DIR, else /var/lib/ckfs for root, else the XDG place."""
    environ = os.environ if environ is None else environ
    if given := environ.get(ENVIRONMENT):
        return os.path.abspath(given)
    if (os.geteuid() if euid is None else euid) == 0:
        return "/var/lib/ckfs"
    data_home = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data_home):  # the XDG rules say to ignore a relative one
        home = environ.get("HOME") or os.path.expanduser("~")
        data_home = os.path.join(home, ".local", "share")
    return os.path.join(data_home, "ckfs")


def service_keys_folder(state_dir: str) -> str:
    """Return the folder of the service-managed root keys."""
    return os.path.join(state_dir, "service-keys")


def store_folder(state_dir: str, store_id: bytes) -> str:
    """Return the folder with what this host knows of one store: anchor and audit log."""
    return os.path.join(state_dir, "stores", store_id.hex())


def refuse_inside_store(state_dir: str, store: str) -> None:
    """Raise if the state folder is the store or lies in it, through whatever links or mounts.

    A store that carries the keys that open it protects nothing.
    """
    inside = os.stat(store) if os.path.exists(store) else None
    place = os.path.realpath(state_dir)
    store_place = os.path.realpath(store)
    while True:
        # By identity as well as by name: a bind mount or another spelling has another path.
        if place == store_place or (
            inside is not None
            and os.path.exists(place)
            and os.path.samestat(os.stat(place), inside)
        ):
            raise UnsafePermissions(
                f"the state folder {state_dir} lies inside the store {store}, so whoever has the "
                "store would have its keys; choose a place outside with --state-dir or "
                f"{ENVIRONMENT}",
                place=state_dir,
            )
        above = os.path.dirname(place)
        if above == place:
            return
        place = above


def require_private(state_dir: str) -> None:
    """Refuse a state folder that others can enter; one that is not there hides nothing."""
    if os.path.lexists(state_dir):
        durable.require_private_folder(state_dir)


def prepare(state_dir: str) -> None:
    """Make the state folder where it is missing; refuse one that others can enter."""
    durable.make_private_folder(state_dir)

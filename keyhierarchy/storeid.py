"""Find a store's control folder and id, for `ckfs-keys`.

STORE/.ckfs/store.json belongs to the driver, which writes and checks it; only what names and dates
it is read here, and whatever else is in it is let be.
"""

from __future__ import annotations

import os
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from keyhierarchy import durable
from keyhierarchy.errors import KeystoreInvalid, KeystoreMissing, KeystoreNewer, NotAStore
from keyhierarchy.policy import HexId

_FORMAT = 1
_LIMIT = 1 << 20


class _Store(Struct):
    lowest_reader: Annotated[int, Meta(ge=1)]
    store_id: HexId


def find_store(store: str) -> tuple[str, bytes]:
    """Return a store's control folder and id. NotAStore where it has none."""
    control_folder = os.path.join(os.path.abspath(store), ".ckfs")
    place = os.path.join(control_folder, "store.json")
    try:
        document = msgspec.json.decode(durable.read_document(place, limit=_LIMIT), type=_Store)
    except KeystoreMissing as error:
        raise NotAStore(
            f"{store} is no store: it has no .ckfs/store.json; name the folder with the "
            "ciphertext, or make a store there with: ckfs init",
            place=place,
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeystoreInvalid(
            f"{place} is damaged: {error}; put it back from a backup", place=place
        ) from error
    if document.lowest_reader > _FORMAT:
        raise KeystoreNewer(
            f"{store} was made by a newer version: it needs a reader of format "
            f"{document.lowest_reader}, this program reads format {_FORMAT}; use a newer version",
            place=place,
        )
    return control_folder, bytes.fromhex(document.store_id)

"""Parse a versioned JSON document strictly: the same rule for keystore, anchor and master keys.

Bytes to values; the caller says which type and which format it knows. An error names place, field
and remedy, and never quotes the document, which may hold a key.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from keyhierarchy.errors import KeystoreInvalid, KeystoreNewer

T = TypeVar("T")


class _Version(Struct):
    """`lowest_reader` decides. A writer that adds a field raises it, as readers refuse unknowns."""

    format: Annotated[int, Meta(ge=1)]
    lowest_reader: Annotated[int, Meta(ge=1)]


def parse(document: bytes, kind: type[T], *, known_format: int, place: str) -> T:
    """Return the value. KeystoreNewer or KeystoreInvalid."""
    try:
        version = msgspec.json.decode(document, type=_Version)
        if version.lowest_reader > known_format:
            raise KeystoreNewer(
                f"{place} needs a reader of format {version.lowest_reader}, this program reads "
                f"format {known_format}; use a newer version of it",
                place=place,
            )
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeystoreInvalid(
            f"{place} is damaged: {error}; put it back from a backup", place=place
        ) from error


def pack(value: Struct) -> bytes:
    """Return the document's bytes: JSON, indented so that people can read and compare it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"

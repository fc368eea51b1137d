"""What an attack is, and the words for where it is found.

`rows` are the rows of FORMAT.md's table of attacks. `peers` says that other encrypting filesystems
get the same: an attack on what only our format has is none on theirs.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.rooms import Room

NOT_FOUND = "not found"
NO_ATTACK = "no attack"


@dataclass(frozen=True)
class Attack:
    """One attack on one room: a folder with files of its own (rooms.py)."""

    name: str
    what: str
    """What the store's owner does to the ciphertext."""
    edit: Callable[[Room], object]
    rows: tuple[int, ...] = ()
    found: str = "open"
    """The last step of looking.STEPS at which it is refused; or NOT_FOUND, NO_ATTACK."""
    kind: str = ""
    """Of the line in the log."""
    victims: tuple[str, ...] = ("file",)
    """What is not readable afterwards; all else is."""
    first: Callable[[Room], object] | None = None
    """What its user does beside furnishing the room; the owner keeps a copy of the store as it is
    then."""
    later: Callable[[Room], object] | None = None
    """What its user does after that."""
    peers: bool = False
    live: bool = False
    """Done beside a mount that knows the room already."""
    codes: tuple[int, ...] = (errno.EIO,)
    why: str = ""
    """Of what is not found."""
    shows: Callable[[Room], bool] | None = None
    """Of what is not found and leaves all content as it was: whether it shows in the mount."""


CHUNK, SIZE, HEADER = "ChunkInvalid", "SizeMismatch", "HeaderInvalid"
SET, BINDING, ROLLED = "ChunkSetMismatch", "NameBindingMismatch", "RolledBack"
MISSING, RECORD, NAME = "EntryMissing", "DirectoryRecordInvalid", "NameInvalid"

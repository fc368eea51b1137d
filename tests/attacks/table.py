"""The attacks on rooms, as one table: what the owner does, and where we find it at the latest."""

from __future__ import annotations

from tests.attacks import edits as e
from tests.attacks import ourformat as o
from tests.attacks.attack import BINDING, CHUNK, MISSING, NAME, NOT_FOUND, ROLLED, SIZE, Attack
from tests.attacks.contentattacks import CONTENT
from tests.attacks.folderattacks import FOLDERS
from tests.attacks.nameattacks import NAMES
from tests.attacks.statusattacks import STATUS

_NODE = "a node has no content, and so no seal"

ATTACKS = (*CONTENT, *NAMES, *FOLDERS, *STATUS)

LIVE = (
    Attack(
        "live: chunk modified",
        "change one bit of a chunk",
        e.flip("ciphertext"),
        (25, 1),
        "read",
        CHUNK,
        live=True,
    ),
    Attack(
        "live: cut at a chunk border",
        "cut the file between two chunks",
        e.cut_at_a_border,
        (5,),
        kind=SIZE,
        live=True,
    ),
    Attack(
        "live: older file put back",
        "put back a whole older file with its header",
        e.older_file,
        (18,),
        kind=ROLLED,
        later=e.overwrite_file,
        live=True,
    ),
    Attack(
        "live: dirty header",
        "put back the header that the file had while it was written",
        o.put_back_the_dirty_header,
        (17,),
        kind=ROLLED,
        later=o.show_a_dirty_header,
        live=True,
    ),
    Attack(
        "live: file deleted",
        "delete a file",
        e.delete("file"),
        (20,),
        "lookup",
        MISSING,
        live=True,
    ),
    Attack(
        "live: two names swapped",
        "exchange two files of a folder",
        e.swap_names("file", "neighbour"),
        (10,),
        kind=BINDING,
        victims=("file", "neighbour"),
        live=True,
    ),
    Attack(
        "live: symlink for a folder",
        "move a folder out of the store and leave a symlink to it",
        o.symlink_for("folder"),
        (),
        "readlink",
        NAME,
        victims=("folder",),
        live=True,
    ),
    Attack(
        "live: FIFO for a file",
        "put a FIFO in the place of a file",
        o.fifo_for(lambda room: room.now("file")),
        (23,),
        NOT_FOUND,
        live=True,
        why=_NODE,
    ),
)

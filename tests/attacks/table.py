"""The attacks: what the store's owner does, and where we find it at the latest. Data, one entry each.

`rows` are the rows of FORMAT.md's table of attacks. `peers` says that other encrypting filesystems
get the same: an attack on what only our format has is none on theirs.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.attacks import edits as e
from tests.attacks import ourformat as o

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
    also: tuple[str, ...] = ()
    """What need not be."""
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
    due: str = ""
    """What is to be done to our driver before the row holds."""


CHUNK, SIZE, HEADER = "ChunkInvalid", "SizeMismatch", "HeaderInvalid"
SET, BINDING, ROLLED = "ChunkSetMismatch", "NameBindingMismatch", "RolledBack"
MISSING, RECORD, NAME = "EntryMissing", "DirectoryRecordInvalid", "NameInvalid"
_NODE = "a node has no content, and so no seal"
_LINKS = "each name of one inode in the store is to be checked, not only one of them"
_NO_RECORD = "a folder record that is no file is to be refused as DirectoryRecordInvalid"
_STATUS = "the store's filesystem keeps it"

ATTACKS = (
    # Chunks
    *(
        Attack(
            f"chunk modified: {where}",
            f"change one bit of a chunk's {where}",
            e.flip(where),
            (1,),
            "read",
            CHUNK,
            peers=where == "ciphertext",
        )
        for where in ("nonce", "ciphertext", "tag")
    ),
    Attack(
        "chunks swapped",
        "swap two chunks of one file",
        e.swap_chunks,
        (3,),
        "read",
        CHUNK,
        peers=True,
    ),
    Attack(
        "chunk of another file",
        "put in a chunk of another file, of the same place",
        e.chunk_of_another_file,
        (4,),
        "read",
        CHUNK,
        peers=True,
    ),
    Attack(
        "chunk zeroed",
        "write zeros over a whole chunk",
        e.zero_chunk,
        (7,),
        "read",
        CHUNK,
        peers=True,
    ),
    Attack(
        "chunk punched out",
        "punch a hole where a chunk was",
        e.punch_chunk,
        (7,),
        "read",
        CHUNK,
        peers=True,
    ),
    Attack(
        "older chunk put back",
        "put back one chunk's own older version",
        e.older_chunk,
        (8,),
        "full read",
        SET,
        later=e.overwrite_a_chunk,
        peers=True,
    ),
    # Lengths
    Attack(
        "cut at a chunk border",
        "cut the file between two chunks",
        e.cut_at_a_border,
        (5,),
        kind=SIZE,
        peers=True,
    ),
    Attack("cut in a chunk", "cut the file in a chunk", e.cut_in_a_chunk, (5,), kind=SIZE),
    Attack(
        "cut to the header",
        "leave nothing but the header",
        e.cut_to_the_header,
        (5,),
        kind=SIZE,
        peers=True,
    ),
    Attack(
        "cut to nothing",
        "leave nothing",
        e.cut_to_nothing,
        (6,),
        kind=HEADER,
        peers=True,
    ),
    Attack("extended by zeros", "append zeros", e.extend_by_zeros, (5,), kind=SIZE, peers=True),
    Attack(
        "extended by a chunk",
        "append a chunk of the same file",
        e.extend_by_a_chunk,
        (5,),
        kind=SIZE,
    ),
    # Headers
    Attack(
        "header: each field",
        "change one bit in each field of the header, in a file for each",
        o.change_each_field,
        (2,),
        kind=HEADER,
        victims=tuple(o.FIELDS),
        first=o.make_files(*o.FIELDS),
        codes=(errno.EIO, errno.EKEYREJECTED),
    ),
    Attack(
        "header: another file's field",
        "put in one field of another file's header, in a file for each",
        o.take_fields_of_another,
        (2,),
        kind=HEADER,
        victims=tuple(o.OTHERS_FIELDS),
        first=o.make_files(*o.OTHERS_FIELDS),
        codes=(errno.EIO, errno.EKEYREJECTED),
    ),
    Attack(
        "header: another file's",
        "put another file's header before the file's chunks",
        o.header_of_another_file,
        (2,),
        kind=BINDING,
    ),
    Attack(
        "header: its older one",
        "put the file's own older header before its newest chunks",
        o.older_header,
        (9,),
        kind=ROLLED,
        later=e.overwrite_a_chunk,
    ),
    Attack(
        "header: a dirty one",
        "put back the header that the file had while it was written",
        o.put_back_the_dirty_header,
        (17,),
        kind=ROLLED,
        later=o.show_a_dirty_header,
    ),
    # Whole files
    Attack(
        "older file put back",
        "put back a whole older file with its header",
        e.older_file,
        (18,),
        kind=ROLLED,
        later=e.overwrite_file,
        peers=True,
    ),
    Attack(
        "older file put back as a new one",
        "the same, as another inode",
        e.older_file_by_name,
        (18,),
        kind=ROLLED,
        later=e.overwrite_file,
    ),
    Attack(
        "older file put back over its successor",
        "put back the file that another one has replaced by rename",
        e.older_file_by_name,
        (18,),
        kind=ROLLED,
        later=e.replace_file,
        peers=True,
    ),
    Attack(
        "file deleted",
        "delete a file",
        e.delete("file"),
        (20,),
        "lookup",
        MISSING,
        peers=True,
    ),
    Attack(
        "folder deleted",
        "delete a folder with all in it",
        e.delete("folder"),
        (20,),
        "lookup",
        MISSING,
        victims=("folder",),
        peers=True,
    ),
    Attack(
        "symlink deleted",
        "delete a symlink",
        e.delete("link"),
        (20,),
        "lookup",
        MISSING,
        victims=("link",),
        first=o.make_links,
    ),
    Attack(
        "node deleted",
        "delete a FIFO",
        e.delete("node"),
        (20,),
        "lookup",
        MISSING,
        victims=("node",),
        first=o.make_node,
    ),
    Attack(
        "link deleted",
        "delete one of two links of a file",
        lambda room: room.now("second").unlink(),
        (20,),
        "lookup",
        MISSING,
        victims=("second",),
        later=o.link_once,
    ),
    # Names
    Attack(
        "two names swapped",
        "exchange two files of a folder",
        e.swap_names("file", "neighbour"),
        (10,),
        kind=BINDING,
        victims=("file", "neighbour"),
        peers=True,
    ),
    Attack(
        "copy over another file",
        "copy a file over another one of its folder",
        e.copy_over,
        (10,),
        kind=BINDING,
        peers=True,
    ),
    Attack(
        "hard link over another file",
        "make one of two files of a folder a hard link of the other",
        e.link_over("file", "neighbour"),
        (10,),
        kind=BINDING,
        # One inode has one way to it, the name that was met last: its own may be refused, too.
        victims=("neighbour",),
        also=("file",),
        due=_LINKS,
        peers=True,
    ),
    Attack(
        "hard link over a file of another folder",
        "make a file a hard link of one of another folder",
        e.link_over("folder/inner", "other folder/inner"),
        (10,),
        kind=BINDING,
        victims=("other folder/inner",),
        also=("folder/inner",),
        due=_LINKS,
    ),
    Attack(
        "copy under a new name",
        "copy a file to a name that nobody made",
        e.copy_to_a_new_name,
        (14,),
        "listing",
        NAME,
        victims=(),
        peers=True,
    ),
    Attack(
        "file moved to another folder",
        "move a file to another folder",
        e.move_file_to_another_folder,
        (11,),
        "lookup",
        MISSING,
        peers=True,
    ),
    Attack(
        "folder moved into another",
        "move a folder into another one",
        e.move_folder_into_another,
        (11, 20),
        "lookup",
        MISSING,
        victims=("folder",),
        peers=True,
    ),
    Attack(
        "two folders swapped",
        "exchange two folders",
        e.swap_names("folder", "other folder"),
        (12,),
        "enter",
        RECORD,
        victims=("folder", "other folder"),
        peers=True,
    ),
    Attack(
        "deleted file put back",
        "put back a file that its user has deleted",
        e.put_back_what_was,
        (33,),
        kind=ROLLED,
        later=e.unlink_file,
        peers=True,
    ),
    Attack(
        "old name given back",
        "give a renamed file the name back that it had",
        e.give_the_old_name,
        (16,),
        kind=ROLLED,
        victims=("file", "renamed"),
        later=e.rename_file,
        peers=True,
    ),
    Attack(
        "copy under its old name",
        "copy a renamed file to the name that it had",
        e.copy_to_the_old_name,
        (16, 33),
        kind=ROLLED,
        later=e.rename_file,
        peers=True,
    ),
    Attack(
        "copy over its successor",
        "copy a renamed file over the newer one of its old name, as of a rotated log",
        e.copy_to_the_old_name,
        (16,),
        kind=ROLLED,
        later=e.rotate,
    ),
    Attack(
        "removed link put back",
        "make a link again that its user has removed",
        o.put_back_the_link,
        (16,),
        kind=ROLLED,
        victims=("second",),
        also=("file",),
        due=_LINKS,
        later=o.link_and_unlink,
    ),
    Attack(
        "unbound file elsewhere",
        "copy a file of five links over another one",
        o.unbound_file,
        (22,),
        kind=ROLLED,
        victims=("neighbour",),
        later=o.link_five_times,
    ),
    # Folders
    Attack(
        "folder record modified",
        "change one bit of a folder's record",
        o.flip_record,
        (13,),
        "enter",
        RECORD,
        victims=("folder",),
    ),
    Attack(
        "folder record cut",
        "cut a folder's record",
        o.cut_record,
        (13,),
        "enter",
        RECORD,
        victims=("folder",),
    ),
    Attack(
        "folder record deleted",
        "delete a folder's record",
        o.delete_record,
        (13,),
        "enter",
        RECORD,
        victims=("folder",),
    ),
    Attack(
        "folder records swapped",
        "exchange the records of two folders",
        o.swap_records,
        (13,),
        "enter",
        RECORD,
        victims=("folder", "other folder"),
    ),
    Attack(
        "older folder record",
        "put back a folder's own older record, of before two renames",
        o.older_record,
        (21,),
        "enter",
        ROLLED,
        victims=("folder",),
        later=o.rename_folder_and_back,
    ),
    Attack(
        "older folder put back",
        "put back an older folder with all in it",
        e.older_folder,
        (21, 18),
        kind=ROLLED,
        victims=("folder/inner",),
        later=e.overwrite_inner,
        peers=True,
    ),
    Attack(
        "folder under its old name",
        "give a renamed folder the name back that it had",
        o.give_the_folder_its_old_name,
        (16, 21),
        "enter",
        ROLLED,
        victims=("folder", "renamed"),
        later=o.rename_folder,
    ),
    # Long names
    Attack(
        "sidecar modified",
        "change one bit of a long name's sidecar",
        o.flip_sidecar,
        (14,),
        "open",
        NAME,
        victims=(o.LONG,),
        first=o.make_long,
    ),
    Attack(
        "sidecar deleted",
        "delete a long name's sidecar",
        o.delete_sidecar,
        (14,),
        "open",
        NAME,
        victims=(o.LONG,),
        first=o.make_long,
    ),
    # Symlinks
    Attack(
        "symlinks swapped",
        "exchange two symlinks",
        e.swap_names("link", "other link"),
        (12,),
        "readlink",
        BINDING,
        victims=("link", "other link"),
        first=o.make_links,
        peers=True,
    ),
    Attack(
        "hard link over another symlink",
        "make one of two symlinks a hard link of the other",
        e.link_over("link", "other link"),
        (12,),
        "readlink",
        BINDING,
        victims=("other link",),
        also=("link",),
        first=o.make_links,
        due=_LINKS,
    ),
    Attack(
        "older symlink put back",
        "put back the symlink that another one of the same name has replaced",
        o.older_link,
        (21,),
        "readlink",
        ROLLED,
        victims=("link",),
        first=o.make_links,
        later=o.link_elsewhere,
        peers=True,
    ),
    Attack(
        "unbound symlink elsewhere",
        "copy a symlink of three links over another one",
        o.unbound_link,
        (22,),
        "readlink",
        ROLLED,
        victims=("other link",),
        first=o.link_three_times,
    ),
    # What leads outside
    Attack(
        "symlink to the host for a file",
        "replace a file by a symlink to a file of the host",
        o.symlink_to_the_host,
        (),
        "readlink",
        NAME,
    ),
    Attack(
        "symlink for a file",
        "move a file out of the store and leave a symlink to it",
        o.symlink_for("file"),
        (),
        "readlink",
        NAME,
    ),
    Attack(
        "symlink for a folder",
        "move a folder out of the store and leave a symlink to it",
        o.symlink_for("folder"),
        (),
        "readlink",
        NAME,
        victims=("folder",),
    ),
    Attack(
        "symlink for a folder record",
        "move a folder's record out of the store and leave a symlink to it",
        o.symlink_for_the_record,
        (13,),
        "enter",
        RECORD,
        victims=("folder",),
        due=_NO_RECORD,
    ),
    Attack(
        "symlink for a sidecar",
        "move a sidecar out of the store and leave a symlink to it",
        o.symlink_for_the_sidecar,
        (14,),
        "open",
        NAME,
        victims=(o.LONG,),
        first=o.make_long,
    ),
    # Nodes
    Attack(
        "FIFO for a folder record",
        "put a FIFO in the place of a folder's record",
        o.fifo_for(lambda room: room.now("folder") / o.RECORD),
        (13,),
        "enter",
        RECORD,
        victims=("folder",),
        due=_NO_RECORD,
    ),
    Attack(
        "FIFO for a sidecar",
        "put a FIFO in the place of a long name's sidecar",
        o.fifo_for(o.sidecar),
        (14,),
        "open",
        NAME,
        victims=(o.LONG,),
        first=o.make_long,
    ),
    Attack(
        "FIFO under a new name",
        "plant a FIFO under a name that nobody made",
        o.plant_fifo,
        (14,),
        "listing",
        NAME,
        victims=(),
    ),
    Attack(
        "FIFO for a file",
        "put a FIFO in the place of a file",
        o.fifo_for(lambda room: room.now("file")),
        (23,),
        NOT_FOUND,
        why=_NODE,
    ),
    Attack(
        "device for a FIFO",
        "put another node in the place of one",
        o.device_for_node,
        (23,),
        NOT_FOUND,
        victims=("node",),
        first=o.make_node,
        why=_NODE,
    ),
    # Attributes and status
    Attack(
        "attribute of another file",
        "put in the value of another file's attribute",
        o.attribute_of_another,
        (),
        "attribute",
        NAME,
        first=o.set_attributes(b"blue"),
    ),
    Attack(
        "older attribute",
        "put back an attribute's older value",
        o.older_attribute,
        (34,),
        NOT_FOUND,
        first=o.set_attributes(b"blue"),
        later=o.set_attributes(b"green"),
        why="nothing outside the file knows its attributes",
    ),
    Attack(
        "attribute deleted",
        "delete an attribute",
        o.delete_attribute,
        (34,),
        NOT_FOUND,
        first=o.set_attributes(b"blue"),
        why="nothing outside the file knows its attributes",
    ),
    Attack(
        "mode, owner, times",
        "change mode, owner and times of a file",
        o.change_status,
        (24,),
        NOT_FOUND,
        why=_STATUS,
    ),
    Attack(
        "link broken",
        "make a file of its own of one of two links",
        o.break_the_link,
        (24,),
        NOT_FOUND,
        victims=("second",),
        later=o.link_once,
        why=_STATUS,
    ),
    # No attack
    Attack(
        "conflict copy",
        "what a sync client leaves when a file was changed on two machines",
        o.conflict_copy,
        (14,),
        NO_ATTACK,
        NAME,
        victims=(),
    ),
)

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

"""The attacks on whole stores, as a table: what the owner does, and where we find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.attacks import wholestore as w

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.wholestore import Whole

HARMLESS = "harmless"
"""It changes nothing: everything is as its user left it."""


@dataclass(frozen=True)
class StoreAttack:
    """`found` is "mount", a step, HARMLESS, REPORTED or NOT_FOUND."""

    name: str
    what: str
    edit: Callable[[Whole], object]
    rows: tuple[int, ...]
    found: str = "mount"
    exit_code: int = 0
    kind: str = ""
    """Of a line in the log."""
    victims: tuple[str, ...] = ()
    killed: bool = False
    """After a kill, in a folder that the driver was working in."""
    why: str = ""
    repaired: bool = False
    """A `ckfs scrub --repair` goes before the mount."""


_KEYSTORE, _JOURNAL = ".ckfs/keystore.json", ".ckfs/journal"

STORE_ATTACKS = (
    StoreAttack(
        "older store put back",
        "put back the whole older store",
        w.older_store_but_keystore,
        (19,),
        exit_code=26,
    ),
    StoreAttack(
        "older store and keystore put back",
        "the same, of before the keystore was changed",
        w.older_store,
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "site moved",
        "put the folder of a site in the place of a folder of another one",
        w.move_a_site,
        (13,),
        "enter",
        kind="DirectoryRecordInvalid",
        victims=("folder", "folder/inner"),
    ),
    StoreAttack(
        "store document modified",
        "change the store document",
        w.document("names", "plaintext"),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "another store's document",
        "put in another store's document",
        w.another_store(".ckfs/store.json"),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "store document removed",
        "remove the store document",
        w.without(".ckfs/store.json"),
        (15,),
        exit_code=10,
    ),
    StoreAttack(
        "older keystore put back",
        "put back the keystore of before a site was made",
        w.older(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "another store's keystore",
        "put in another store's keystore",
        w.another_store(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore removed", "remove the keystore", w.without(_KEYSTORE), (15,), exit_code=12
    ),
    StoreAttack(
        "keystore: sites' keys swapped",
        "exchange the wrapped keys of two site records",
        w._keystore(w._swap_site_keys),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: sites' ids swapped",
        "exchange the ids of two site records",
        w._keystore(w._swap_site_ids),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: site removed",
        "remove a site's record",
        w._keystore(w._drop_a_site),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: policy's state",
        "change the state of a policy",
        w._keystore(w._change_state),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: wrap modified",
        "change one bit of a wrapped tenant key",
        w._keystore(w._flip_wrap),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "keystore: seal modified",
        "change one bit of a section's seal",
        w._keystore(w._flip_seal),
        (15,),
        exit_code=12,
    ),
    StoreAttack("journal removed", "remove the journal", w.without(_JOURNAL), (31,), exit_code=26),
    StoreAttack(
        "older journal put back",
        "put back both files of the journal",
        w.older(_JOURNAL),
        (31,),
        exit_code=26,
    ),
    StoreAttack(
        "another store's journal",
        "put in both files of another store's journal",
        w.another_store(_JOURNAL),
        (31,),
        exit_code=26,
    ),
    StoreAttack(
        "one journal file put back",
        "put back one file of the journal",
        w.older(_JOURNAL + "/a"),
        (32,),
        HARMLESS,
    ),
    StoreAttack(
        "another store's journal file",
        "put in one file of another store's journal",
        w.another_store(_JOURNAL + "/a"),
        (32,),
        HARMLESS,
    ),
    StoreAttack(
        "journal cut while unmounted",
        "cut both files of the journal",
        w.cut_journal,
        (32,),
        HARMLESS,
    ),
    StoreAttack(
        "symlink for the journal",
        "move the journal out and leave a symlink to it",
        w.symlink_for(_JOURNAL),
        (36,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for a journal file",
        "move a file of the journal out and leave a symlink to it",
        w.symlink_for(_JOURNAL + "/a"),
        (36,),
        exit_code=12,
    ),
    StoreAttack(
        "FIFO for a journal file",
        "put a FIFO in place of a file of the journal",
        w.fifo_for(_JOURNAL + "/a"),
        (36,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the store document",
        "move the store document out and leave a symlink to it",
        w.symlink_for(".ckfs/store.json"),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the keystore",
        "move the keystore out and leave a symlink to it",
        w.symlink_for(_KEYSTORE),
        (15,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the lock",
        "move the lock out and leave a symlink to it",
        w.symlink_for(".ckfs/lock"),
        (36,),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the control folder",
        "move the control folder out and leave a symlink to it",
        w.symlink_for(".ckfs"),
        (),
        exit_code=12,
    ),
    StoreAttack(
        "symlink for the quarantine",
        "leave a symlink where a repair would move things to",
        w.symlink_for_the_quarantine,
        (),
        "open",
        kind="HeaderInvalid",
        victims=("folder/inner",),
        repaired=True,
    ),
    StoreAttack(
        "content database removed",
        "remove the host's record of the store",
        w.forget_content,
        (35,),
        "reported",
        kind="first sight",
    ),
    StoreAttack(
        "first sight",
        "show the store to a host that knows nothing of it",
        w.forget_store,
        (35,),
        "reported",
        kind="first sight",
    ),
    StoreAttack(
        "older store on a new host",
        "show the older store to a host that knows nothing of it",
        w.older_store_on_a_new_host,
        (35,),
        "not found",
        why="the host trusts it, and says so",
    ),
    # After a kill
    StoreAttack("killed: nothing done", "nothing", lambda _whole: None, (), HARMLESS, killed=True),
    StoreAttack(
        "killed: journal cut",
        "cut the journal",
        w.cut_journal,
        (30,),
        "not found",
        victims=("file",),
        killed=True,
        why="the host commits at checkpoints only",
    ),
    StoreAttack(
        "killed: journal modified",
        "change one bit of a transaction",
        w.flip_journal,
        (30,),
        "not found",
        victims=("file",),
        killed=True,
        why="the host commits at checkpoints only",
    ),
    StoreAttack(
        "killed: journal removed",
        "remove the journal",
        w.without(_JOURNAL),
        (31,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: older journal put back",
        "put back the journal of an earlier session",
        w.older(_JOURNAL),
        (31,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: older store put back",
        "put back the whole older store",
        w.older_store_but_keystore,
        (19,),
        exit_code=26,
        killed=True,
    ),
    StoreAttack(
        "killed: file emptied",
        "empty a file that was made in the last seconds",
        w.empty_young,
        (28,),
        "reported",
        kind="recovered",
        victims=("young",),
        killed=True,
    ),
    StoreAttack(
        "killed: chunk zeroed",
        "zero a chunk of a file that was made in the last seconds",
        w.zero_in_young,
        (27,),
        "reported",
        kind="recovered",
        victims=("young",),
        killed=True,
    ),
    StoreAttack(
        "killed: last commit put back",
        "put back a file that was appended to in the last seconds, as it was before",
        w.put_back_last_commit,
        (26,),
        "not found",
        victims=(w.EVEN,),
        killed=True,
        why="that it was newer is committed with a checkpoint only",
    ),
    StoreAttack(
        "killed: names swapped",
        "exchange two files that were made in the last seconds",
        w.swap_young,
        (26,),
        "reported",
        kind="recovered",
        victims=("young", "second young"),
        killed=True,
    ),
    StoreAttack(
        "killed: file deleted",
        "delete a file",
        w.delete_neighbour,
        (29,),
        "reported",
        kind="recovered",
        victims=("neighbour",),
        killed=True,
    ),
    StoreAttack(
        "killed: deleted file put back",
        "put back a file that was deleted in the last seconds",
        w.put_back_gone,
        (29,),
        "reported",
        kind="recovered",
        victims=("gone",),
        killed=True,
    ),
)

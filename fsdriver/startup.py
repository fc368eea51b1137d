"""What a driver does between having the keys and serving: replay, journal, content database.

The store's lock is held and the session is on record. Nothing else has looked at the store yet.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from fsdriver import logs, oldjournals
from fsdriver.backing import Backing
from fsdriver.checkpoint import Checkpoints
from fsdriver.contentdb import FILE_NAME, ContentDatabase
from fsdriver.errors import NotAFile, StorageFailed, StoreBusy, StoreDamaged, StoreRolledBack
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.folding import Folding
from fsdriver.journal import FILES, FOLDER, Carried, Journal
from fsdriver.lease import Lease
from fsdriver.oldjournals import Found
from fsdriver.replay import replay
from fsdriver.sessions import Session

_NOT_OURS = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR)


class Started(NamedTuple):
    """What the tree needs, and what is to be kept going."""

    entries: ContentDatabase
    checkpoints: Checkpoints | None
    """None for a mount that writes nothing."""


def start(
    backing: Backing,
    root: int,
    metadata_key: bytes,
    session: Session,
    host_folder: str,
    store_id: bytes,
    undo: ExitStack,
    lease_of: Callable[[bytes], Lease | None],
    *,
    read_only: bool,
) -> Started:
    """`root` is the store's open folder, `metadata_key` the root site's. `undo` closes it all.
    `lease_of` a site id, for the files that a stopped driver left in the middle of something.

    Raises StoreRolledBack for a store older than this host knows, StoreBusy for one that another
    host's driver left in the middle of something, StorageFailed, StoreDamaged, OSError.
    """
    known = os.path.join(host_folder, FILE_NAME)
    if not os.path.lexists(known):
        logs.warning(
            "first sight",
            reason="this host has no content database of the store: what is in it is trusted now",
        )
    entries = ContentDatabase.open(known, store_id, complete_if_new=False)
    undo.callback(entries.close)
    session.generations = entries
    control = backing.open_directory(root, CONTROL_FOLDER)
    undo.callback(backing.close, control)
    # A read-only mount commits nothing, so the next one for writing counts the stop anew.
    entries.begin_session(session.follows_one)
    if read_only:
        _look_through(backing, root, control, metadata_key, session, entries, undo)
        return Started(entries, None)
    with _ours_alone():
        folder = oldjournals.folder_of(backing, control)
    undo.callback(backing.close, folder)
    found = _find(backing, folder, metadata_key, session)
    try:
        _require_newest(found, entries)
        carried = _replay(backing, root, found, session, entries)
    finally:
        for one in found:
            backing.close(one.descriptor)
    epochs = {one.name: one.cipher.head.epoch for one in found}
    names = sorted(FILES, key=lambda name: epochs.get(name, 0))
    writing = Journal(
        backing, folder, metadata_key, session.id, oldjournals.newest(found) + 1, names, carried
    )
    undo.callback(writing.close)
    session.use(writing)
    folding = Folding(backing, session, lease_of)
    with suppress(OSError):  # a checkpoint tries again
        for _step in folding.fold():
            pass
    return Started(entries, Checkpoints(backing, root, session, entries, folding))


@contextmanager
def _ours_alone() -> Iterator[None]:
    """A symlink, a FIFO or a file where the journal's folder or its files should be."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_OURS and not isinstance(error, NotAFile):
            raise
        raise StoreDamaged(
            f"{CONTROL_FOLDER}/{FOLDER} cannot be used ({error.strerror}): something else was put "
            "in its place; restore it from a backup of the store"
        ) from None


def _find(backing: Backing, folder: int, metadata_key: bytes, session: Session) -> list[Found]:
    if session.follows_one or session.accepts_all:
        _require_whole(backing, folder, metadata_key)
    with _ours_alone():
        return oldjournals.find(backing, folder, metadata_key)


def _require_whole(backing: Backing, folder: int, metadata_key: bytes) -> None:
    for name in oldjournals.damaged(backing, folder, metadata_key):
        place = f"{CONTROL_FOLDER}/{FOLDER}/{name}"
        raise StoreDamaged(
            f"{place} is damaged, and the last driver stopped before what it held was in place; "
            "restore it from a backup of the store; or, to go on without what was written in the "
            "last seconds, remove it and take the store as it is with `ckfs contentdb rebuild`"
        )


def _require_newest(found: list[Found], entries: ContentDatabase) -> None:
    if oldjournals.is_older(found, entries.checkpoint):
        raise StoreRolledBack(
            "the store is older than this host knows it (epoch "
            f"{oldjournals.newest(found)}, checkpoint {entries.checkpoint}): it was put back to "
            "an older state, or its journal was removed; mount the newest copy, or accept this one "
            "with `ckfs contentdb rebuild`"
        )


def _replay(
    backing: Backing, root: int, found: list[Found], session: Session, entries: ContentDatabase
) -> list[Carried]:
    ours = _ours(backing, found, session, entries)
    try:
        done, carried = replay(backing, root, ours)
    except OSError as error:
        raise StorageFailed(
            "the journal that a stopped driver left cannot be put in place: "
            f"{error.strerror}; make room or mend the disk, and mount again: nothing is lost"
        ) from None
    if done.transactions:
        logs.warning(
            "replayed",
            transactions=done.transactions,
            files=done.files,
            missing=done.missing,
            reason="the last driver stopped before its journal was in place",
        )
    return carried


def _ours(
    backing: Backing, found: list[Found], session: Session, entries: ContentDatabase
) -> list[Found]:
    """The journals whose transactions are this host's to put in place."""
    left = [one for one in found if one.cipher.head.epoch > entries.checkpoint]
    ours = [one for one in left if session.left_behind(one.cipher.head.session)]
    for one in left:
        if one not in ours and any(True for _frame in one.frames(backing)):
            raise StoreBusy(
                "the store's journal holds changes that another host's driver had not put in "
                "place when it stopped; mount it there, or accept them with -o recover"
            )
    return ours


def _look_through(
    backing: Backing,
    root: int,
    control: int,
    metadata_key: bytes,
    session: Session,
    entries: ContentDatabase,
    undo: ExitStack,
) -> None:
    """A read-only mount shows what the journal holds and leaves it there."""
    try:
        folder = backing.open_directory(control, FOLDER)
    except FileNotFoundError:
        found: list[Found] = []
    else:
        undo.callback(backing.close, folder)
        found = _find(backing, folder, metadata_key, session)
    for one in found:
        undo.callback(backing.close, one.descriptor)
    _require_newest(found, entries)
    device = backing.stat_open(root).st_dev
    session.journal = oldjournals.left_behind(
        backing, device, _ours(backing, found, session, entries)
    )

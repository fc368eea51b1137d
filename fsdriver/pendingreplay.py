"""The journal as a scrub sees it: which files have changes that are not in place, how new it is.

No file is damaged for what waits here. Reads beside the driver that writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fsdriver import oldjournals
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.journal import FOLDER
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore
from fsdriver.oldjournals import Found


def waiting(store: OfflineStore, known: KnownEntries | None, *, at_work: bool) -> frozenset[bytes]:
    """File ids with transactions to replay; none where no driver is `at_work` or was killed."""
    if not at_work:
        return frozenset()
    with _found(store) as found:
        return frozenset(
            frame[0].file_id
            for one in found
            if known is None or one.cipher.head.epoch > known.checkpoint
            for frame in one.frames(store.backing)
        )


def left_by(store: OfflineStore, sessions: frozenset[bytes], known: KnownEntries | None) -> bool:
    """Whether drivers of these sessions left anything that the next mount puts in place."""
    with _found(store) as found:
        return any(
            True
            for one in found
            if one.cipher.head.session in sessions
            and (known is None or one.cipher.head.epoch > known.checkpoint)
            for _frame in one.frames(store.backing)
        )


def is_rolled_back(store: OfflineStore, known: KnownEntries | None) -> bool:
    """Whether the journal is older than the newest checkpoint that this host knows of."""
    if known is None or not known.checkpoint:
        return False
    with _found(store) as found:
        return oldjournals.is_older(found, known.checkpoint)


@contextmanager
def _found(store: OfflineStore) -> Iterator[list[Found]]:
    root_site = bytes.fromhex(store.document.site_id)
    metadata_key = store.sites(root_site).lease.metadata_key
    try:
        folder = store.open_folder(f"{CONTROL_FOLDER}/{FOLDER}")
    except FileNotFoundError:
        yield []
        return
    try:
        found = oldjournals.find(store.backing, folder, metadata_key)
    finally:
        store.backing.close(folder)
    try:
        yield found
    finally:
        for one in found:
            store.backing.close(one.descriptor)

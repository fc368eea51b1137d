"""Which files have changes in the journal that are not in place yet: none is damaged for that."""

from fsdriver import oldjournals
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.journal import FOLDER
from fsdriver.knownentries import KnownEntries
from fsdriver.offline import OfflineStore


def waiting(store: OfflineStore, known: KnownEntries | None, *, at_work: bool) -> frozenset[bytes]:
    """File ids with transactions to replay; none where no driver is `at_work` or was killed."""
    if not at_work:
        return frozenset()
    root_site = bytes.fromhex(store.document.site_id)
    metadata_key = store.sites(root_site).lease.metadata_key
    try:
        folder = store.open_folder(f"{CONTROL_FOLDER}/{FOLDER}")
    except FileNotFoundError:
        return frozenset()
    try:
        found = oldjournals.find(store.backing, folder, metadata_key)
    finally:
        store.backing.close(folder)
    try:
        return frozenset(
            change.file_id
            for one in found
            if known is None or one.cipher.head.epoch > known.checkpoint
            for change, _images in one.transactions(store.backing)
        )
    finally:
        for one in found:
            store.backing.close(one.descriptor)

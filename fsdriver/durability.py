"""What a mount says of how safe its work is: what waits for the disk, what failed, what was found.

For `ckfs status`. Reads counters only: it must answer while a disk does not.
"""

from typing import TypedDict

from fsdriver.checkpoint import Checkpoints
from fsdriver.contentdb import ContentDatabase
from fsdriver.incidents import Incidents
from fsdriver.sessions import Session


class Durability(TypedDict):
    """As in the JSON of `ckfs status`."""

    journal_bytes: int
    """Answered, and not in place yet."""
    checkpoint_seconds: int | None
    """Since one ended; None: none has, in this mount."""
    failed: str
    """What a sync that failed means for programs; empty if none did."""
    content_database: str
    refused: int
    trusted: int


def facts(
    checkpoints: Checkpoints | None,
    session: Session,
    entries: ContentDatabase,
    incidents: Incidents,
) -> Durability:
    """`checkpoints` is None for a mount that writes nothing."""
    since = checkpoints.seconds_since if checkpoints is not None else None
    return {
        "journal_bytes": checkpoints.waiting_bytes if checkpoints is not None else 0,
        "checkpoint_seconds": None if since is None else round(since),
        "failed": _failed(checkpoints, session),
        "content_database": "complete" if entries.complete else "learning",
        "refused": incidents.refused,
        "trusted": incidents.trusted,
    }


def _failed(checkpoints: Checkpoints | None, session: Session) -> str:
    error = checkpoints.failed if checkpoints is not None else None
    if error is not None:
        return (
            f"a sync of the store failed ({error.strerror}): to change a file is refused until "
            "the store is mounted again; mend its disk first"
        )
    if session.broken:
        return (
            "an fsync failed: a file that says so at its next fsync has to be copied; mend the "
            "store's disk, and mount it again"
        )
    return ""

"""Which driver sealed a file last, and which drivers ended without saying so (FORMAT.md 3.4).

Every seal carries the id of the driver's session. A header that does not fit its backing file is
what a stopped driver leaves behind, and also what somebody gets who puts an old header back. The
host tells them apart by the sessions that never ended (sessionbook.py); only theirs are recovered.
"""

import os


class Session:
    """One driver's, from mount to unmount."""

    __slots__ = ("accepts_all", "id", "unended", "unsealed")

    def __init__(
        self, unended: frozenset[bytes] = frozenset(), *, accepts_all: bool = False
    ) -> None:
        self.id = os.urandom(16)
        self.accepts_all = accepts_all
        """Whether an administrator vouches for what another host's driver left behind."""
        self.unended = unended
        self.unsealed: set[bytes] = set()
        """Files of this session whose last seal failed, by file id."""

    def may_recover(self, session_id: bytes, file_id: bytes) -> bool:
        """Whether a header of that session may be out of step with its file."""
        if session_id == self.id:
            return file_id in self.unsealed
        return self.accepts_all or session_id in self.unended

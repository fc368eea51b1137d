"""Which driver sealed a file last, and which drivers ended without saying so (FORMAT.md 3.4).

Every seal carries the id of the driver's session. A header that does not fit its backing file is
what a stopped driver leaves behind, and also what somebody gets who puts an old header back. The
host tells them apart by the sessions that never ended (sessionbook.py) and by the generations
that it knows (contentdb.py): only what may have been in the works is recovered.
"""

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fsdriver.journal import Journal


class Generations(Protocol):
    """What the host knows of how often each file was sealed."""

    def generation(self, object_id: bytes) -> int:
        """The newest known; 0 for none."""
        ...

    def committed_generation(self, object_id: bytes) -> int:
        """The newest that is known to be on the disk; 0 for none."""
        ...

    def note_generation(self, object_id: bytes, generation: int) -> None:
        """One more seal."""
        ...


class Unknown:
    """On a host that remembers nothing."""

    def generation(self, object_id: bytes) -> int:
        """Never any."""
        return 0

    def committed_generation(self, object_id: bytes) -> int:
        """Never any."""
        return 0

    def note_generation(self, object_id: bytes, generation: int) -> None:
        """Forgotten at once."""


class Session:
    """One driver's, from mount to unmount."""

    __slots__ = ("_journal", "accepts_all", "generations", "id", "unended", "unsealed")

    def __init__(
        self, unended: frozenset[bytes] = frozenset(), *, accepts_all: bool = False
    ) -> None:
        self.id = os.urandom(16)
        self.accepts_all = accepts_all
        """Whether an administrator vouches for what another host's driver left behind."""
        self.unended = unended
        self.unsealed: set[bytes] = set()
        """Files of this session whose last seal failed, by file id."""
        self.generations: Generations = Unknown()
        self._journal: Journal | None = None

    @property
    def journal(self) -> "Journal | None":
        """None for a mount that writes nothing."""
        return self._journal

    @property
    def writing_journal(self) -> "Journal":
        """Of a mount that writes."""
        if self._journal is None:
            raise RuntimeError("a read-only mount was asked to write")
        return self._journal

    def use(self, journal: "Journal") -> None:
        """From here on files can be changed."""
        self._journal = journal

    @property
    def follows_a_stop(self) -> bool:
        """Whether a driver before this one may have stopped in the middle of something."""
        return self.accepts_all or bool(self.unended)

    def may_recover(self, session_id: bytes, file_id: bytes) -> bool:
        """Whether a header of that session may be out of step with its file."""
        if session_id == self.id:
            return file_id in self.unsealed
        return self.accepts_all or session_id in self.unended

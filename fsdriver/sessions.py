"""Which driver sealed a file last, and which drivers ended without saying so (FORMAT.md 3.5, 12.3).

Every seal carries the id of the driver's session. A header that does not fit its backing file is
what a stopped driver leaves behind, and also what somebody gets who puts an old header back. The
host tells them apart by the sessions that never ended (sessionbook.py) and by the generations
that it knows (contentdb.py): only what may have been in the works is recovered.
"""

import os
from typing import TYPE_CHECKING, Protocol

from fsdriver.freshkeys import FreshKeys

if TYPE_CHECKING:
    from fsdriver.journal import Journal
    from fsdriver.journaled import Pending


class Generations(Protocol):
    """What the host knows of how often each file was sealed."""

    def generation(self, object_id: bytes, /) -> int:
        """The newest known; 0 for none."""
        ...

    def committed_generation(self, object_id: bytes, /) -> int:
        """The newest that is known to be on the disk; 0 for none."""
        ...

    def note_generation(self, object_id: bytes, generation: int, /) -> None:
        """One more seal."""
        ...

    def note_new(self, object_id: bytes, /) -> None:
        """The first seal of what was made just now, under an id drawn for it."""
        ...


class Unknown:
    """On a host that remembers nothing."""

    def generation(self, _object_id: bytes, /) -> int:
        """Never any."""
        return 0

    def committed_generation(self, _object_id: bytes, /) -> int:
        """Never any."""
        return 0

    def note_generation(self, _object_id: bytes, _generation: int, /) -> None:
        """Forgotten at once."""

    def note_new(self, _object_id: bytes, /) -> None:
        """Forgotten at once."""


class Session:
    """One driver's, from mount to unmount."""

    __slots__ = (
        "_writing",
        "accepts_all",
        "broken",
        "carried",
        "checkpoints_begun",
        "checkpoints_ended",
        "follows_one",
        "fresh_keys",
        "generations",
        "id",
        "journal",
        "unended",
        "unsealed",
    )

    def __init__(
        self, unended: frozenset[bytes] = frozenset(), *, accepts_all: bool = False
    ) -> None:
        self.id = os.urandom(16)
        self.accepts_all = accepts_all
        """Whether an administrator vouches for what another host's driver left behind."""
        self.unended = unended
        self.broken = False
        """Whether a sync failed: what the system calls written may not be on the disk."""
        self.follows_one = False
        """Whether the driver just before this one stopped without a word."""
        self.unsealed: set[bytes] = set()
        """Files of this session whose last seal failed, by file id."""
        self.carried: frozenset[bytes] = frozenset()
        """Files with deltas that wait for a key."""
        self.generations: Generations = Unknown()
        self.fresh_keys = FreshKeys()
        self.journal: Pending | None = None
        """What is not in its place yet."""
        self._writing: Journal | None = None
        self.checkpoints_begun = 0
        self.checkpoints_ended = 0
        """What was changed after the n-th began is durable once the one after it has ended."""

    @property
    def writing_journal(self) -> "Journal":
        """Of a mount that writes."""
        if self._writing is None:
            raise RuntimeError("a read-only mount was asked to write")
        return self._writing

    @property
    def writes(self) -> bool:
        """Whether anything may be changed in the store."""
        return self._writing is not None

    def use(self, journal: "Journal") -> None:
        """From here on files can be changed."""
        self.journal = self._writing = journal

    @property
    def follows_a_stop(self) -> bool:
        """Whether a driver before this one may have stopped in the middle of something."""
        return self.accepts_all or bool(self.unended)

    def left_behind(self, session_id: bytes) -> bool:
        """Whether what that driver did not finish is this one's to finish."""
        return self.accepts_all or session_id in self.unended

    def may_recover(self, session_id: bytes, file_id: bytes) -> bool:
        """Whether a header of that session may be out of step with its file."""
        if session_id == self.id:
            return file_id in self.unsealed
        return self.left_behind(session_id)

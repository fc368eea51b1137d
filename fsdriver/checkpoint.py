"""Makes everything so far durable, a step at a time: the journal in place, the store, the host.

The order is what a power cut may find: journal synced, records in place, store synced, journal
begun anew, and only then the host's content database, which must never know more than the disk.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Protocol

from fsdriver.backing import Backing
from fsdriver.errors import CkfsError
from fsdriver.folding import Folding
from fsdriver.journaled import Epoch
from fsdriver.sessions import Session

SECONDS: Final = 5.0
JOURNAL_LIMIT: Final = 64 << 20
OWED_LIMIT: Final = 256 << 20
"""What a fold may owe. A chunk that is changed here and there costs a fold all of it, however
often it was changed: the longer a fold waits, the fewer there are."""
FILES_LIMIT: Final = 256
"""Files with transactions, each of which holds a descriptor."""

_AT_ONCE: Final = 0.001
"""Seconds that others wait while small files are put in place, one after the other."""

Waiting = Callable[[], None]


class Host(Protocol):
    """The content database, as far as a checkpoint knows it."""

    @property
    def pending(self) -> bool:
        """Whether anything is noted that no commit has taken."""
        ...

    def begin_commit(self, checkpoint: int | None = None) -> Waiting:
        """Everything noted so far; goes with the next one if it is never called.

        `checkpoint`: the epoch of the journal that is about to be over.
        """
        ...


def _nothing() -> None:
    """A step that waits for nothing."""


class Checkpoints:
    """Of one mount."""

    def __init__(
        self, backing: Backing, root: int, session: Session, host: Host, folding: Folding
    ) -> None:
        self._backing = backing
        self._root = root
        self._session = session
        self._journal = session.writing_journal
        self._host = host
        self._folding = folding
        self._last = time.monotonic()
        self._ended: float | None = None
        self._running = False
        self._journal.make_room = self.make_room

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        if self._running:
            return False
        journal = self._journal
        if journal.written_bytes > JOURNAL_LIMIT or journal.owed_bytes > OWED_LIMIT:
            return True
        if len(journal.files) > FILES_LIMIT:
            return True
        if time.monotonic() - self._last < SECONDS:
            return False
        return bool(journal.pending_bytes or journal.closing is not None or self._host.pending)

    @property
    def crowded(self) -> bool:
        """Whether who writes should wait, lest the journal outgrow what a checkpoint moves."""
        return self._running and self._journal.pending_bytes > 2 * (JOURNAL_LIMIT + OWED_LIMIT)

    @property
    def waiting_bytes(self) -> int:
        """In both files of the journal."""
        return self._journal.waiting_bytes

    @property
    def seconds_since(self) -> float | None:
        """That the last one ended; None if none has."""
        return None if self._ended is None else time.monotonic() - self._ended

    @property
    def failed(self) -> OSError | None:
        """Why no other will come, and nothing more is taken into the journal."""
        return self._journal.failed

    def steps(self) -> Iterator[Waiting]:
        """Each step waits for a disk and may run on another thread; between them, on this one.

        Raises OSError; what was not made durable is tried again by the next.
        """
        self._running = True
        self._last = time.monotonic()
        journal = self._journal
        try:
            again = journal.closing is not None
            if not again and journal.failed is None:
                for _step in self._folding.fold():
                    yield _nothing
            self._session.checkpoints_begun += 1
            begun = self._session.checkpoints_begun
            epoch = journal.closing or journal.rotate()
            carried = not again and self._folding.carry(journal.current)
            current = journal.current
            commit = self._host.begin_commit(epoch.number)
            if carried or again:
                # Before the older journal is begun anew, and before the host knows of it.
                yield lambda: journal.sync(current)
            yield from self._put_in_place(epoch)
            yield commit
            self._session.checkpoints_ended = begun
            self._ended = time.monotonic()
        finally:
            self._running = False

    def _put_in_place(self, epoch: Epoch) -> Iterator[Waiting]:
        journal = self._journal
        if journal.failed is not None:
            raise journal.failed
        if epoch.files:
            # Records in place first: a header of the journal may name them.
            yield self._sync
            yield lambda: journal.sync(epoch)
            began = time.monotonic()
            for file in list(epoch.files.values()):
                for _bytes in journal.apply(epoch, file):
                    yield _nothing  # others are served meanwhile
                    began = time.monotonic()
                if time.monotonic() - began > _AT_ONCE:
                    yield _nothing
                    began = time.monotonic()
        yield self._sync
        fresh: list[Epoch] = []
        yield lambda: fresh.append(journal.begin_anew(epoch))
        journal.release(epoch, fresh[0])

    def _sync(self) -> None:
        try:
            self._backing.sync_filesystem(self._root)
        except OSError as error:
            # What was not written is clean in the system's eyes now, so a second try would lie.
            self._journal.failed = error
            raise

    def run(self) -> None:
        """All steps on this thread, and once more after one that had failed half way.

        Nothing is left in the journal, but what waits for a key. Raises OSError or an error of the
        content database.
        """
        left_over = self._journal.closing is not None
        for wait in self.steps():
            wait()
        if left_over:
            self.run()
        else:
            self._journal.shrink()

    def make_room(self) -> bool:
        """The store is full: what the journal holds goes to its places, if nobody is at it."""
        if self._running:
            return False
        with suppress(OSError, CkfsError):
            self.run()
            return True
        return False

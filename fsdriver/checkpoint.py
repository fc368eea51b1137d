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
from fsdriver.journal import Epoch, Journal

SECONDS: Final = 5.0
JOURNAL_LIMIT: Final = 64 << 20
FILES_LIMIT: Final = 256
"""Files with transactions, each of which holds a descriptor."""

Waiting = Callable[[], None]


class Commit(Protocol):
    """What the host has noted up to some moment."""

    def __call__(self) -> None:
        """Write it for good; on any thread."""
        ...

    def abandon(self) -> None:
        """The store did not get as far: it is noted still."""
        ...


class Host(Protocol):
    """The content database, as far as a checkpoint knows it."""

    def begin_commit(self, checkpoint: int) -> Commit:
        """Everything noted so far belongs to this commit."""
        ...


class Checkpoints:
    """Of one mount."""

    def __init__(self, backing: Backing, root: int, journal: Journal, host: Host | None) -> None:
        self._backing = backing
        self._root = root
        self._journal = journal
        self._host = host
        self._last = time.monotonic()
        self._running = False
        self.changed = False
        """Whether anything was changed since the last one began."""
        self.number = 0
        """How many have begun: a file made since then may be renamed without a sync."""
        journal.make_room = self.make_room

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        if self._running:
            return False
        journal = self._journal
        if journal.pending_bytes > JOURNAL_LIMIT or len(journal.files) > FILES_LIMIT:
            return True
        pending = self.changed or journal.pending_bytes or journal.closing is not None
        return bool(pending) and time.monotonic() - self._last >= SECONDS

    def steps(self) -> Iterator[Waiting]:
        """Each step waits for a disk and may run on another thread; between them, on this one.

        Raises OSError; what was not made durable is tried again by the next.
        """
        self._running = True
        self._last = time.monotonic()
        self.changed = False
        self.number += 1
        journal = self._journal
        epoch = journal.closing or journal.rotate()
        commit = self._host.begin_commit(epoch.number) if self._host is not None else None
        try:
            yield from self._put_in_place(epoch)
            if commit is not None:
                done, commit = commit, None
                yield done
        except BaseException:
            self.changed = True
            if commit is not None:
                commit.abandon()
            raise
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
            for file in list(epoch.files.values()):
                journal.apply(epoch, file)
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
        """All steps on this thread; raises OSError or an error of the content database."""
        for wait in self.steps():
            wait()

    def make_room(self) -> bool:
        """The store is full: what the journal holds goes to its places, if nobody is at it."""
        if self._running:
            return False
        with suppress(OSError, CkfsError):
            self.run()
            return True
        return False

"""What this host knows to be in the store, against what is there: put back, planted, deleted.

Keys say that something was written by their holder; only memory outside the store says that it is
the newest. After an unclean stop the store's word counts once for each folder, and is logged.
"""

import stat
from collections.abc import Callable, Iterable
from typing import Protocol

from fsdriver.conflictcopies import candidates
from fsdriver.errors import ConflictCopy, Damaged, EntryMissing, Recovered, RolledBack
from fsdriver.folder import Folder
from fsdriver.format.directory import DirectoryRecord
from fsdriver.sessions import Session

_ADVICE = "restore it from a backup, or accept the store as it is with `ckfs contentdb rebuild`"


class Entries(Protocol):
    """The content database, as far as names go."""

    complete: bool

    def expected(self, folder_id: bytes) -> dict[str, bytes]:
        """Backing name -> object; empty for one that was not opened yet."""
        ...

    def note_entry(self, folder_id: bytes, text: str, object_id: bytes) -> None:
        """An entry is there now."""
        ...

    def note_nameless(self, object_id: bytes) -> None:
        """A file was made that has no name yet."""
        ...

    def forget_entry(self, folder_id: bytes, text: str) -> None:
        """An entry is gone."""
        ...

    def note_folder(self, folder_id: bytes) -> None:
        """A folder was made just now."""
        ...

    def needs_reconciling(self, folder_id: bytes) -> bool:
        """Whether the store's word counts once."""
        ...

    def reconcile(self, folder_id: bytes, present: Iterable[str]) -> tuple[list[str], list[str]]:
        """Take it; what was missing, and what was added."""
        ...


class Expectations:
    """Of one mount. Without a content database nothing is expected and nothing refused."""

    def __init__(self, entries: Entries | None, session: Session) -> None:
        self._entries = entries
        self._session = session
        self._reconciled: set[bytes] = set()
        """Folders for which the store's word counted in this mount."""

    # What is there

    def meet(
        self,
        folder: Folder,
        text: str,
        object_id: bytes,
        *,
        provisional: bool = False,
        linked: bool = False,
    ) -> Recovered | None:
        """An entry was opened, and is authentic. Raises RolledBack unless it is the one known.

        `provisional`: it was being written when the last driver stopped. `linked`: it is a file
        with several names, and may have been recovered under another of them; it gives what the
        log is to say then.
        """
        if self._entries is None:
            return None
        folder_id = folder.directory_id
        known = self._entries.expected(folder_id).get(text)
        if known == object_id:
            return None
        if known is None and self._entries.complete and not provisional:
            raise RolledBack(
                "this host knows of no such entry: it was put back after it had been removed, or "
                f"planted, in the store; {_ADVICE}"
            )
        excused = linked and folder_id in self._reconciled
        if known and not provisional and not excused:
            raise RolledBack(
                f"this is not what this host knows under this name (it is {object_id.hex()}, not "
                f"{known.hex()}): another or an older one was put in its place; {_ADVICE}"
            )
        self._entries.note_entry(folder_id, text, object_id)
        if not known or provisional:
            return None
        return Recovered(
            f"the entry {text!r} is another file of several names since the last stop: taken on "
            "trust"
        )

    def meet_record(self, record: DirectoryRecord) -> None:
        """A folder's record is authentic. Raises RolledBack for an older one."""
        generations = self._session.generations
        known = generations.generation(record.directory_id)
        if record.generation < known:
            raise RolledBack(
                f"the folder's record is of generation {record.generation}, this host knows "
                f"{known}: an older one was put back in the store; {_ADVICE}"
            )
        if record.generation > known:
            generations.note_generation(record.directory_id, record.generation)

    def in_the_works(self, record: DirectoryRecord) -> bool:
        """Whether a folder may have been made or renamed just before the last driver stopped."""
        committed = self._session.generations.committed_generation(record.directory_id)
        return self._session.follows_a_stop and record.generation > committed

    def may_be_unborn(self, folder: Folder, text: str) -> bool:
        """Whether a file without a header may be one that a stop left before it had one."""
        if not self._session.follows_a_stop:
            return False
        if self._entries is None or folder.record.directory_id in self._reconciled:
            return True
        known = self._entries.expected(folder.record.directory_id).get(text)
        return not known or not self._session.generations.committed_generation(known)

    def strangeness_of(self, folder: Folder, text: str, reason: Damaged) -> Damaged:
        """Why a name is foreign: a sync client's copy of a known entry is none of an attacker's."""
        for client, original in candidates(text):
            if self.object_of(folder, original):
                return ConflictCopy(
                    f"the entry {text!r} is a conflict copy that {client} made of {original!r}; "
                    "choose one of the two, as with any file that two machines changed"
                )
        return reason

    # What is not there

    def misses(self, folder: Folder, text: str) -> bool:
        """Whether a name that leads nowhere should lead somewhere."""
        if self._entries is None:
            return False
        return text in self._entries.expected(folder.directory_id)

    def miss(self, folder: Folder, text: str) -> None:
        """A name leads nowhere. Raises EntryMissing if it should not."""
        if self.misses(folder, text):
            raise EntryMissing(
                f"the entry {text!r} was deleted in the store behind the driver's back; restore "
                "it from a backup, or remove the name here to accept the loss"
            )

    def missing(self, folder: Folder, present: Iterable[str]) -> list[str]:
        """Backing names that a listing should have had."""
        if self._entries is None:
            return []
        return sorted(self._entries.expected(folder.record.directory_id).keys() - set(present))

    def reconcile(
        self, folder: Folder, present: Callable[[], list[tuple[str, int]]]
    ) -> list[Recovered]:
        """On entering a folder after an unclean stop; what was taken on trust, for the log.

        `present` gives (backing name, file type) of each entry.
        """
        folder_id = folder.record.directory_id
        if self._entries is None or not self._entries.needs_reconciling(folder_id):
            return []
        self._reconciled.add(folder_id)
        learning = not self._entries.complete
        listed = present()
        missing, added = self._entries.reconcile(folder_id, [text for text, _kind in listed])
        for text, kind in listed:
            if kind == stat.S_IFLNK:
                # Nothing in a symlink says when it was written.
                self._entries.note_entry(folder_id, text, b"")
        if learning and not missing:
            return []
        return [
            Recovered(f"the entry {text!r} is {what} since the last stop: taken on trust")
            for texts, what in ((missing, "gone"), (added, "new"))
            for text in texts
        ]

    # What the driver does

    def made(self, folder: Folder, text: str, object_id: bytes = b"") -> None:
        """An entry was made, or is another one now."""
        if self._entries is not None:
            self._entries.note_entry(folder.directory_id, text, object_id)

    def made_nameless(self, object_id: bytes) -> None:
        """A file was made that has no name yet."""
        if self._entries is not None:
            self._entries.note_nameless(object_id)

    def made_folder(self, record: DirectoryRecord) -> None:
        """A new folder, with nothing in it."""
        if self._entries is not None:
            self._entries.note_folder(record.directory_id)
        self._session.generations.note_generation(record.directory_id, record.generation)

    def removed(self, folder: Folder, text: str) -> None:
        """An entry is no more."""
        if self._entries is not None:
            self._entries.forget_entry(folder.directory_id, text)

    def object_of(self, folder: Folder, text: str) -> bytes:
        """What a name is known to lead to; empty if it is not known."""
        if self._entries is None:
            return b""
        return self._entries.expected(folder.record.directory_id).get(text, b"")

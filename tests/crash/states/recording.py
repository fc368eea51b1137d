"""What a backing did while a workload ran: the changes, the syncs, and marks between them."""

from typing import NamedTuple

from tests.crash.states.descriptors import Recorder
from tests.crash.states.image import Change, Image


class Event(NamedTuple):
    """`kind` is changed, synced, synced_all, mark or committed."""

    kind: str
    call: str = ""
    changes: tuple[Change, ...] = ()
    key: int = 0
    """Of the inode that was synced."""
    data_only: bool = False
    operation: int = 0
    """Of a mark: the workload's operation of this number, from 1 on, begins or has returned."""
    database: bytes | None = None
    """Of a commit of the content database: what its file holds from now on."""

    def __str__(self) -> str:
        """For a developer who looks for what was lost."""
        if self.kind == "changed":
            said = ", ".join(map(_said, self.changes))
            return f"{self.call}: {said}"
        if self.kind == "synced":
            return f"{'fdatasync' if self.data_only else 'fsync'} of inode {self.key}"
        if self.kind == "mark":
            return f"-- operation {self.operation} {self.call}"
        return self.kind


def _said(change: Change) -> str:
    kind, key, *rest = change
    if kind == "write":
        return f"inode {key} [{rest[0]}, {rest[0] + len(rest[1])})"
    if kind == "new":
        return f"inode {key}"
    if kind == "name":
        return f"{rest[0][:24]!r} in {key} is {rest[1]}"
    return f"{kind} of inode {key} {str(rest)[:60]}"


class Recording(Recorder):
    """The events of one workload, over the image on which it began."""

    def __init__(self, base: Image) -> None:
        self.base = base
        self.events: list[Event] = []

    def changed(self, call: str, *changes: Change) -> None:
        self.events.append(Event("changed", call, changes))

    def synced(self, key: int, *, data_only: bool) -> None:
        self.events.append(Event("synced", key=key, data_only=data_only))

    def synced_all(self) -> None:
        self.events.append(Event("synced_all"))

    def committed(self, database: bytes) -> None:
        """The content database's transaction is on the host's disk."""
        self.events.append(Event("committed", database=database))

    def begin(self, operation: int) -> None:
        """Of the workload, from 1 on."""
        self.events.append(Event("mark", "begins", operation=operation))

    def done(self, operation: int) -> None:
        """Acknowledged to the program."""
        self.events.append(Event("mark", "returned", operation=operation))

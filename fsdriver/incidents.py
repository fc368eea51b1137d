"""What the audit log gets of a store's incidents: collected while serving, written by a task.

A record in the audit log is synced to the disk, so no request may write one. Bounded: whoever
owns the store can make any number of incidents.
"""

from typing import Final

from fsdriver.errors import ConflictCopy, Damaged, Recovered
from keyhierarchy.hierarchy import Hierarchy

REFUSED: Final = "store.refused"
TRUSTED: Final = "store.trusted"
"""Events of the audit log (HIERARCHY.md 6.1)."""

_KEPT: Final = 50


class Incidents:
    """Since the last time that they were written, and how many in all."""

    def __init__(self) -> None:
        self._refused: list[str] = []
        self._more = 0
        self._trusted = 0
        self.refused = 0
        """In this mount; each file, chunk and reason once, as in the log (reports.py)."""
        self.trusted = 0

    def note(self, place: str, error: Exception) -> None:
        """`place` is where it lies in the store: names of the mount do not go into the log."""
        if isinstance(error, Recovered):
            self._trusted += 1
            self.trusted += 1
        elif isinstance(error, Damaged) and not isinstance(error, ConflictCopy):
            self.refused += 1
            if len(self._refused) < _KEPT:
                said = f"{type(error).__name__}: {place}: {error}"
                # A backing name need not be text, and whoever owns the store chooses it.
                self._refused.append(said.encode("utf-8", "backslashreplace").decode())
            else:
                self._more += 1

    @property
    def any(self) -> bool:
        """Whether there is something to write."""
        return bool(self._refused or self._trusted)

    def take(self) -> "Incidents":
        """What there is, to be written; collecting begins anew."""
        taken = Incidents()
        taken._refused, self._refused = self._refused, []
        taken._more, self._more = self._more, 0
        taken._trusted, self._trusted = self._trusted, 0
        return taken

    def write(self, hierarchy: Hierarchy) -> None:
        """On any thread. Raises KeyHierarchyError when the audit log cannot be written."""
        for reason in self._refused:
            hierarchy.note_incident(REFUSED, "refused", reason)
        if self._more:
            hierarchy.note_incident(REFUSED, "refused", f"and {self._more} more; see the log")
        if self._trusted:
            hierarchy.note_incident(
                TRUSTED,
                "ok",
                f"{self._trusted} files, entries or journals were taken as a driver that stopped "
                "had left them; the log names them",
            )

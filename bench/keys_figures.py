"""What `python -m bench keys` measured, as it lies in a JSON file."""

from statistics import median
from typing import Final, Literal

import msgspec

from bench.figures import Machine

STEPS: Final = {
    "program start": "`ckfs-keys --version`, which every step but the last reads includes",
    "register": "`ckfs-keys policy register`: two customer keys take over",
    "roll primary": "`ckfs-keys roll primary`: a new version of one root key",
    "roll availability": "`ckfs-keys roll availability`",
    "roll tik": "`ckfs-keys roll tik`: a new tenant intermediate key",
    "revoke": "`ckfs-keys revoke`: closed at once",
    "undo revoke": "`ckfs-keys revoke --undo`",
    "restore": "`ckfs-keys restore`: both vaults lost, opened by the availability key",
    "offboard": "`ckfs-keys offboard`: back to service-managed keys",
    "mount": "`ckfs mount` until a folder in it is listed",
    "last read, revoked here": (
        "from the return of `ckfs-keys revoke` to the last read that a mount answered, every file "
        "of which had been looked at; through a descriptor that was open, too"
    ),
    "last read, disabled in the vaults": (
        "the same from the moment when both keys were disabled in their vaults, where the mount "
        "has to find out"
    ),
}
"""What is measured, in the order of the report."""

FLAT: Final = tuple(one for one in STEPS if not one.startswith(("program", "last read")))
"""Steps that are claimed not to grow with the files."""
LAST_READS: Final = tuple(one for one in STEPS if one.startswith("last read"))


class KeysRow(msgspec.Struct, frozen=True, kw_only=True):
    """One store."""

    files: int
    making: float
    """Seconds that making the files took, in process."""
    seconds: dict[str, list[float]]
    """Step -> one entry for each time that it was done, of the wall clock."""
    cpu: dict[str, list[float]] = {}
    """The same as CPU seconds of the program, for steps that are one: other work on the machine
    does not show in it."""

    def median(self, step: str) -> float | None:
        """Seconds; None if it was not done."""
        return _median(self.seconds.get(step))

    def cpu_median(self, step: str) -> float | None:
        """CPU seconds; None if it was not done, or is not a program alone."""
        return _median(self.cpu.get(step))


def _median(taken: list[float] | None) -> float | None:
    return median(taken) if taken else None


class KeysRun(msgspec.Struct, frozen=True, kw_only=True):
    """Stores of growing size, one after the other."""

    bench: Literal["keys"] = "keys"
    date: str  # UTC, ISO 8601
    commit: str
    machine: Machine
    place: str
    """What the stores lay on."""
    probe_seconds: int
    """How often a mount asks the vaults whether the keys still answer."""
    rows: list[KeysRow]

    def growth(self, step: str) -> float | None:
        """Seconds with the most files, relative to those with the fewest; 1.0 is flat."""
        return _growth([row.median(step) for row in self.ordered])

    def cpu_growth(self, step: str) -> float | None:
        """The same of CPU seconds."""
        return _growth([row.cpu_median(step) for row in self.ordered])

    @property
    def ordered(self) -> list[KeysRow]:
        """By number of files."""
        return sorted(self.rows, key=lambda row: row.files)


def _growth(line: list[float | None]) -> float | None:
    known = [one for one in line if one]
    return known[-1] / known[0] if len(known) > 1 else None

"""What a run measured, as it lies in a JSON file: the contract between measuring and reporting.

A file holds a list of runs, since a run on tmpfs and one on a disk are two.
"""

from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

Where = Literal["tmpfs", "disk"]
Temperature = Literal["warm", "cold"]
"""cold: mounted anew before each repetition, so that neither kernel nor driver knows a thing."""
Kind = Literal["floor", "ours", "peer", "limit"]
"""floor: the plain folder that everything lies on; limit: encryption inside the kernel."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran."""

    cpu: str
    """The model, as the kernel calls it."""
    cores: int
    kernel: str
    memory: int
    """Bytes."""
    load: float
    """Average of the last minute when the run began; above about 0.3 it was not alone."""
    python: str


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One filesystem of the run; also one that could not take part."""

    name: str
    kind: Kind
    version: str
    setting: str = ""
    """How it was made and mounted, where that decides its figures."""
    failure: str | None = None
    """Why none of its rows was measured, or why its verified contents were wrong."""


class Sample(msgspec.Struct, kw_only=True):
    """One system in one row. The lists have one entry per repetition and are equally long."""

    system: str
    seconds: list[float] = []
    """Of the wall clock, measured inside the client; lower is better."""
    driver_cpu: list[float] = []
    """CPU seconds of the driver's processes, user and system; 0 for one inside the kernel."""
    client_cpu: list[float] = []
    """CPU seconds of the client and its children; of a kernel filesystem, its work too."""
    peak_memory: int = 0
    """Bytes: most that the driver ever held, up to the end of this row (VmHWM); 0 without one."""
    failure: str | None = None
    """Why there is no figure, or why repetitions are missing; what was measured stays."""

    @property
    def median(self) -> float | None:
        """Seconds; None if nothing was measured."""
        return median(self.seconds) if self.seconds else None

    @property
    def spread(self) -> float | None:
        """(slowest - fastest) / median."""
        if not self.seconds:
            return None
        return (max(self.seconds) - min(self.seconds)) / median(self.seconds)


class Row(msgspec.Struct, kw_only=True):
    """One workload. Every system did the same work, by the same program."""

    name: str
    """Short and unique within a run: `sequential write`, `stat (cold)`."""
    does: str
    """A sentence: what the client does."""
    amount: float
    amount_unit: Literal["bytes", "operations"]
    """amount / seconds is the rate."""
    temperature: Temperature = "warm"
    unit: Literal["seconds"] = "seconds"
    scale: int | None = None
    """`bench scale`: number of files of the tree; rows that differ in it alone form a curve."""
    curve: str | None = None
    """`bench scale`: what the rows of one curve have in common: `create, one folder`."""
    samples: list[Sample] = []
    """In the order of `Run.systems`; one for each system that could take part."""


class Run(msgspec.Struct, kw_only=True):
    """One place, one machine, one commit; the systems took turns."""

    bench: Literal["mounted", "scale"] = "mounted"
    date: str
    """UTC, ISO 8601."""
    commit: str
    """Short; `+` behind it if files under version control differed from it."""
    machine: Machine
    systems: list[System]
    durability: str
    """What an answered request of ckfs means in this run, in a sentence."""
    where: Where
    place: str
    """What the backing folders lay on: `tmpfs of 4096 MiB`, `ext4 in a loop image of ...`."""
    quick: bool = False
    """Small sizes, few repetitions: for a look, not for a claim."""
    complete: bool = True
    """False if it was interrupted; what was measured is there."""
    repetitions: int = 0
    rows: list[Row] = []


def save(runs: list[Run], path: Path) -> None:
    """Written whole, indented, as a JSON list."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")


def load(path: Path) -> list[Run]:
    """What `save` wrote; msgspec.ValidationError for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=list[Run])

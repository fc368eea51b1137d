"""What `python -m bench operations` measured, as it lies in a JSON file."""

from typing import Literal

import msgspec

from bench.figures import Machine


class Cost(msgspec.Struct, frozen=True):
    """Of one operation, CPU time of the whole process. Spread is the distance of the quartiles."""

    operation: str
    calls: int  # in each repetition
    microseconds: float  # median for each call
    least: float  # microseconds of the fastest repetition
    spread: float  # microseconds
    times_reference: float  # median of the ratios to the reference in the same repetition


class OperationsRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, for `--json`, `--against` and reports."""

    bench: Literal["operations"] = "operations"
    date: str = ""  # UTC, ISO 8601
    commit: str = ""
    machine: Machine | None = None
    repetitions: int
    rows: list[Cost]

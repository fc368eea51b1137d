"""The work of one process: its share of all workloads, counted."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from random import Random
from typing import NamedTuple

from tests.crash.states.checker import Checker
from tests.crash.states.mounting import host_in_memory
from tests.crash.states.workloads import Operation, sequences

_SHOWN_PER_KIND = 2


class Totals(NamedTuple):
    """Of some workloads."""

    workloads: int
    states: int
    duplicates: int
    kinds: Counter
    examples: list[tuple[tuple[str, bool], str]]


def run(
    share: int,
    shares: int,
    length: int,
    *,
    strict: bool = False,
    every: int = 1,
    again: int = 1,
    twice: int = 0,
) -> Totals:
    """One process's share of the workloads up to a length; of long ones, one of `every`.

    `again` and `twice` are the checker's.
    """
    kinds: Counter = Counter()
    examples: dict[tuple[str, bool], list[str]] = {}
    workloads = 0
    with host_in_memory() as host:
        checker = Checker(host, again=again, twice=twice)
        wanted = chain(sequences(1), *(_some(count, every) for count in range(2, length + 1)))
        for workload in islice(wanted, share, None, shares):
            recorded = checker.run(workload)
            if recorded is None or recorded.repeats:
                continue
            workloads += 1
            for finding in checker.check(recorded, checker.crashes(recorded, strict=strict)):
                kind = (finding.violation.kind, finding.crash.power)
                kinds[kind] += 1
                shown = examples.setdefault(kind, [])
                if len(shown) < _SHOWN_PER_KIND:
                    shown.append(str(finding))
    found = [(kind, one) for kind, ones in examples.items() for one in ones]
    return Totals(workloads, checker.states, checker.duplicates, kinds, found)


def _some(length: int, every: int) -> Iterator[tuple[Operation, ...]]:
    """One in `every` sequences, the same ones each time, and no pattern in them."""
    draw = Random(length)
    return (one for one in sequences(length) if draw.randrange(every) == 0)

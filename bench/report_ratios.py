"""From what a run measured to what it says: ours against each system, row by row. Pure.

A ratio is how many times as fast ours is: the other's seconds divided by ours, 2.0 is twice as
fast. The systems took turns, so where both have the same repetitions it is the median of the
ratios within a repetition, which a machine that slows down half way does not move.
"""

from statistics import median
from typing import Literal

import msgspec

from bench.figures import Kind, Row, Run, Sample, System

Outcome = Literal["won", "lost", "no peer"]
"""lost: a peer was at least as fast, or ours failed."""


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """One other system in one row."""

    system: str
    kind: Kind
    seconds: float | None  # median
    ratio: float | None  # None if one of the two has no figure
    low: float | None  # of the repetitions
    high: float | None
    sound: bool  # False: what it did was wrong or it could not take part, so nothing counts
    fastest: bool = False  # of the sound peers
    failure: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    row: str
    does: str
    amount: float
    amount_unit: Literal["bytes", "operations"]
    seconds: float | None  # ours, median
    spread: float | None  # ours, (slowest - fastest) / median
    rate: float | None  # amount for each second
    against: list[Against]  # in the order of the run's systems
    outcome: Outcome
    close: bool  # repetitions fell on both sides of 1, so the outcome may be chance
    failure: str | None = None  # ours

    @property
    def fastest(self) -> Against | None:
        """The fastest peer; None if none was measured."""
        return next((one for one in self.against if one.fastest), None)


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """What a system's driver took, on the rows that both it and ours finished."""

    system: str
    kind: Kind
    rows: int
    driver_cpu: float  # seconds: sum of the rows' medians
    ours: float  # the same of ours, on the same rows
    peak_memory: int  # bytes; 0 for a system without a process


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One system at one number of files."""

    system: str
    scale: int
    microseconds: float | None  # median, for each unit of amount


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """How the cost of one file grows with their number."""

    name: str
    points: list[Point]

    def of(self, system: str) -> list[tuple[int, float]]:
        """(number of files, microseconds) where it was measured, ascending."""
        return sorted(
            (one.scale, one.microseconds)
            for one in self.points
            if one.system == system and one.microseconds is not None
        )

    def growth(self, system: str) -> float | None:
        """Cost for each file at the largest number, relative to the smallest; 1.0 is flat."""
        line = self.of(system)
        return line[-1][1] / line[0][1] if len(line) > 1 and line[0][1] else None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no figure, or an unsound one."""

    system: str
    row: str | None  # None: every row
    reason: str


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """A run, judged."""

    ours: str
    rows: list[Verdict]
    effort: list[Effort]
    curves: list[Curve]
    failures: list[Failure]

    @property
    def won(self) -> int:
        """Rows."""
        return sum(one.outcome == "won" for one in self.rows)

    @property
    def contested(self) -> int:
        """Rows in which a peer was measured."""
        return sum(one.outcome != "no peer" for one in self.rows)


def judge(run: Run) -> Verdicts:
    """Everything that a report says of a run. ValueError if no system of it is ours."""
    ours = next((one for one in run.systems if one.kind == "ours"), None)
    if ours is None:
        raise ValueError(f"the run of {run.date} has no system of the kind `ours`")
    others = [one for one in run.systems if one is not ours]
    plain_rows = [row for row in run.rows if row.curve is None]
    return Verdicts(
        ours=ours.name,
        rows=[_verdict(row, ours, others) for row in plain_rows],
        effort=[_effort(run.rows, ours, one) for one in run.systems],
        curves=_curves(run),
        failures=_failures(run),
    )


def _sample(row: Row, system: System) -> Sample:
    found = next((one for one in row.samples if one.system == system.name), None)
    return found or Sample(system=system.name, failure=system.failure or "not measured")


def _verdict(row: Row, ours: System, others: list[System]) -> Verdict:
    mine = _sample(row, ours)
    against = [_against(mine, _sample(row, one), ours, one) for one in others]
    peers = [one for one in against if one.kind == "peer" and one.sound and one.seconds]
    fastest = min(peers, key=_hardness, default=None)
    return Verdict(
        row=row.name,
        does=row.does,
        amount=row.amount,
        amount_unit=row.amount_unit,
        seconds=mine.median,
        spread=mine.spread,
        rate=row.amount / mine.median if mine.median else None,
        against=[msgspec.structs.replace(one, fastest=one is fastest) for one in against],
        outcome=_outcome(fastest, measured=mine.median is not None and ours.failure is None),
        close=bool(fastest and fastest.low and fastest.high and fastest.low <= 1.0 <= fastest.high),
        failure=ours.failure or mine.failure,
    )


def _hardness(peer: Against) -> float:
    """The one that is hardest to beat comes first, so a win over it is one over every peer."""
    return peer.ratio or peer.seconds or 0.0


def _outcome(fastest: Against | None, *, measured: bool) -> Outcome:
    if fastest is None:
        return "no peer" if measured else "lost"
    return "won" if measured and fastest.ratio is not None and fastest.ratio > 1.0 else "lost"


def _against(mine: Sample, theirs: Sample, ours: System, system: System) -> Against:
    sound = system.failure is None
    ratios = _ratios(mine, theirs) if sound and ours.failure is None else []
    return Against(
        system=system.name,
        kind=system.kind,
        seconds=theirs.median,
        ratio=median(ratios) if ratios else None,
        low=min(ratios, default=None),
        high=max(ratios, default=None),
        sound=sound,
        failure=system.failure or theirs.failure,
    )


def _ratios(mine: Sample, theirs: Sample) -> list[float]:
    """Of each repetition; of the medians alone if the repetitions are not the same."""
    if not mine.seconds or not theirs.seconds:
        return []
    if len(mine.seconds) == len(theirs.seconds):
        pairs = list(zip(mine.seconds, theirs.seconds, strict=True))
    else:
        pairs = [(median(mine.seconds), median(theirs.seconds))]
    return [their / my for my, their in pairs if my > 0]


def _effort(rows: list[Row], ours: System, system: System) -> Effort:
    theirs_sum = ours_sum = 0.0
    count = peak = 0
    for row in rows:
        mine, theirs = _sample(row, ours), _sample(row, system)
        peak = max(peak, theirs.peak_memory)
        if mine.driver_cpu and theirs.driver_cpu:
            count += 1
            ours_sum += median(mine.driver_cpu)
            theirs_sum += median(theirs.driver_cpu)
    return Effort(
        system=system.name,
        kind=system.kind,
        rows=count,
        driver_cpu=theirs_sum,
        ours=ours_sum,
        peak_memory=peak,
    )


def _curves(run: Run) -> list[Curve]:
    curves: dict[str, list[Point]] = {}
    for row in run.rows:
        if row.curve is None or row.scale is None:
            continue
        for system in run.systems:
            middle = _sample(row, system).median
            curves.setdefault(row.curve, []).append(
                Point(
                    system=system.name,
                    scale=row.scale,
                    microseconds=None if middle is None else middle / row.amount * 1e6,
                )
            )
    return [Curve(name=name, points=points) for name, points in curves.items()]


def _failures(run: Run) -> list[Failure]:
    found = [
        Failure(system=one.name, row=None, reason=one.failure) for one in run.systems if one.failure
    ]
    known = {one.system for one in found}
    found += [
        Failure(system=sample.system, row=row.name, reason=sample.failure)
        for row in run.rows
        for sample in row.samples
        if sample.failure and sample.system not in known
    ]
    return found

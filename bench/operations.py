"""`python -m bench operations`: CPU time of each filesystem operation, in process, no transport.

A yardstick for whoever cuts these costs. Every repetition runs every operation once, on fresh
files on a tmpfs, beside a reference made of plain system calls; the medians over repetitions are
printed as microseconds of CPU time and as multiples of the reference of the same repetition. The
multiples hold still when the machine's clock does not, so compare those.
"""

import cProfile
import os
import pstats
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles

import msgspec

from bench.cpu_time import cpu_seconds, settled
from bench.mounted_machine import commit, machine, now
from bench.operations_figures import Cost, OperationsRun
from bench.operations_list import OPERATIONS, REFERENCE, SMALL, Stand, Work
from bench.unmounted import Unmounted, memory_folder, new_store

LEAST_REPETITIONS = 7


@contextmanager
def _prepared(name: str, unmounted: Unmounted, plain: str, seed: int) -> Iterator[tuple[int, Work]]:
    """(calls, what makes them), ready to be measured once."""
    stand = Stand(unmounted, plain, seed)
    steps = OPERATIONS[name](stand)
    yield next(steps)
    if next(steps, None) is not None:
        raise AssertionError(name)
    stand.clear()


@contextmanager
def _in_memory() -> Iterator[tuple[Unmounted, str]]:
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="ckfs-bench-") as place:
        plain = os.path.join(place, "plain")
        os.mkdir(plain)
        with new_store(place) as unmounted:
            yield unmounted, plain


def measure(only: list[str], repetitions: int) -> OperationsRun:
    """Every operation once in each repetition, the first of which is not counted."""
    chosen = [REFERENCE, *(name for name in OPERATIONS if name in only)] if only else [*OPERATIONS]
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    calls: dict[str, int] = {}
    before, version = machine(), commit()
    with _in_memory() as (unmounted, plain), settled():
        for repetition in range(repetitions + 1):
            for name in chosen:
                with _prepared(name, unmounted, plain, repetition) as (calls[name], work):
                    taken = cpu_seconds(work)
                if repetition:
                    seconds[name].append(taken / calls[name])
    return OperationsRun(
        date=now(),
        commit=version,
        machine=before,
        repetitions=repetitions,
        rows=[_cost(name, calls[name], seconds[name], seconds[REFERENCE]) for name in chosen],
    )


def _cost(name: str, calls: int, taken: list[float], reference: list[float]) -> Cost:
    lower, middle, upper = quantiles(taken, n=4, method="inclusive")
    return Cost(
        operation=name,
        calls=calls,
        microseconds=middle * 1e6,
        least=min(taken) * 1e6,
        spread=(upper - lower) * 1e6,
        times_reference=median(one / other for one, other in zip(taken, reference, strict=True)),
    )


def profile(name: str, repetitions: int, lines: int = 30) -> None:
    """Print where one operation's time goes, by cProfile, which makes Python's calls dearer."""
    profiler = cProfile.Profile()
    with _in_memory() as (unmounted, plain):
        for repetition in range(repetitions + 1):
            with _prepared(name, unmounted, plain, repetition) as (calls, work):
                if not repetition:
                    work()
                    continue
                profiler.enable()
                work()
                profiler.disable()
    print(f"{repetitions} x {calls} calls of {name}; ncalls are of all of them together")
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(lines)


def run(
    only: list[str], *, repetitions: int, as_json: bool = False, against: str | None = None
) -> OperationsRun:
    """Print one line for each operation; `against` is a file that `--json` wrote earlier."""
    before = _before(against) if against else {}
    costs = measure(only, max(repetitions, LEAST_REPETITIONS))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(costs), indent=2).decode())
        return costs
    print(f"CPU time, medians of {costs.repetitions} interleaved repetitions, on a tmpfs;")
    print(f"`x ref` is against open, write {SMALL} bytes, fstat, close of a plain new file there")
    print(f"{'operation':<24}{'us':>9}{'least':>9}{'spread':>9}{'x ref':>9}", end="")
    print(f"{'before':>9}{'change':>9}" if before else "")
    for row in costs.rows:
        print(
            f"{row.operation:<24}{row.microseconds:9.1f}{row.least:9.1f}{row.spread:9.1f}"
            f"{row.times_reference:9.2f}{_change(row, before.get(row.operation))}"
        )
    return costs


def _before(place: str) -> dict[str, Cost]:
    try:
        with open(place, "rb") as file:
            costs = msgspec.json.decode(file.read(), type=OperationsRun)
    except OSError as error:
        raise SystemExit(f"{place} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise SystemExit(
            f"{place} is not what `python -m bench operations --json` writes: {error}"
        ) from None
    return {row.operation: row for row in costs.rows}


def _change(row: Cost, before: Cost | None) -> str:
    if before is None:
        return ""
    ratio = row.times_reference / before.times_reference
    return f"{before.times_reference:9.2f}{(ratio - 1) * 100:+8.0f}%"

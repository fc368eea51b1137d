"""The command line: run the states of all workloads, or see one again.

Ends with 1 if a promise was broken.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.crash.states.checker import NOTES, Checker, Finding
from tests.crash.states.mounting import host_in_memory
from tests.crash.states.sharing import run
from tests.crash.states.workloads import Operation, alphabet

_SHARES = 48
"""Of each process."""
_SHOWN_PER_KIND = 6


def again(arguments: argparse.Namespace) -> int:
    """One workload's states, or one of them, with all that happened before the stop."""
    known = {operation.name: operation for operation in alphabet()}
    names = arguments.workload.split("; ")
    if not known.keys() >= set(names):
        print("a workload is made of these, with '; ' between them:", *known, sep="\n  ")
        return 2
    workload: tuple[Operation, ...] = tuple(known[name] for name in names)
    findings: list[Finding] = []
    with host_in_memory() as host:
        checker = Checker(host, twice=arguments.then is not None)
        recorded = checker.run(workload)
        if recorded is None:
            print("such a workload is not possible")
            return 2
        if len(workload) > 1 and arguments.at is None:
            recorded = recorded._replace(fresh=0)
        crashes = (
            crash
            for crash in checker.crashes(recorded, strict=arguments.strict)
            if arguments.at is None
            or (crash.at, crash.how, crash.power) == (arguments.at, arguments.kept, arguments.power)
        )
        findings = [
            finding
            for finding in checker.check(recorded, crashes)
            if arguments.then is None
            or (finding.then is not None and finding.then[1:4])
            == (arguments.then_power, arguments.then, arguments.then_kept)
        ]
        for number, event in enumerate(recorded.recording.events):
            print(f"{'>' if number == arguments.at else ' '}{number:4} {event}")
    print(f"{checker.states} states")
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def everything(arguments: argparse.Namespace) -> int:
    """All workloads, in shares that some processes take in turn; what is found is told at once."""
    began = time.monotonic()
    processes, shares = arguments.processes, arguments.processes * _SHARES
    options = {name: getattr(arguments, name) for name in ("strict", "every", "again", "twice")}
    workloads = states = duplicates = 0
    kinds: Counter = Counter()
    shown: Counter = Counter()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [
            pool.submit(run, share, shares, arguments.length, **options) for share in range(shares)
        ]
        for one in as_completed(waiting):
            part = one.result()
            workloads += part.workloads
            states += part.states
            duplicates += part.duplicates
            kinds += part.kinds
            for kind, example in part.examples:
                shown[kind] += 1
                if shown[kind] <= _SHOWN_PER_KIND:
                    print(f"\n{example}", flush=True)
    seconds = time.monotonic() - began
    print(
        f"\n{workloads} workloads of up to {arguments.length} operations, {states} states mounted, "
        f"{duplicates} that were the same, {seconds:.0f} s "
        f"({seconds * 1000 * processes / max(1, states):.2f} ms a state)"
    )
    for (kind, power), count in sorted(kinds.items()):
        print(f"  {count:8} {kind}, {'power cut' if power else 'kill'}")
    broken = sum(count for (kind, _power), count in kinds.items() if kind not in NOTES)
    print(f"{broken} promises were broken" if broken else "no promise was broken")
    return 1 if broken else 0


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.states", description=__doc__)
    parser.add_argument("--length", type=int, default=2, help="operations in a workload, up to")
    parser.add_argument("--strict", action="store_true", help="folders keep no common order")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="run one long workload of so many")
    parser.add_argument("--again", type=int, default=4, help="mount one state of so many twice")
    parser.add_argument(
        "--twice", type=int, default=300, help="after one state of so many, stop the next mount too"
    )
    parser.add_argument("--workload", help="see the states of this one: names from the alphabet")
    parser.add_argument("--at", type=int, help="of it, the state after so many events")
    parser.add_argument("--kept", default="kill", help="and with this kept")
    parser.add_argument("--power", action="store_true", help="a power cut, not a kill")
    parser.add_argument("--then", type=int, help="and of the next mount, after so many events")
    parser.add_argument("--then-kept", default="kill", help="with this kept")
    parser.add_argument("--then-power", action="store_true", help="by a power cut")
    arguments = parser.parse_args()
    return again(arguments) if arguments.workload else everything(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""`make fuzz`: every parser for its share of FUZZ_SECONDS (300), another seed each time.

What is found is written to tests/fuzz/found/, to be checked in beside its repair; exit code 1.
"""

from __future__ import annotations

import os
import sys
from random import Random

from tests.fuzz.engine import Parser, keep, run
from tests.fuzz.registry import PARSERS


def _words(parser: Parser, data: bytes) -> str:
    """What an error says, for whoever looks into it."""
    try:
        return f"it returned {parser.parse(data)!r}"[:200]
    except Exception as error:  # noqa: BLE001 whatever it is
        return str(error)[:200]


def main(names: list[str]) -> int:
    """All parsers, or those that are named."""
    chosen = [one for one in PARSERS if not names or one.name in names]
    seed = int(os.environ.get("FUZZ_SEED", "0")) or Random().getrandbits(32)
    share = float(os.environ.get("FUZZ_SECONDS", "300")) / max(1, len(chosen))
    print(f"{len(chosen)} parsers, {share:.1f} s each, FUZZ_SEED={seed}")
    print(f"{'parser':30} {'inputs':>9} {'accepted':>9} {'kinds':>6} {'found':>6}")
    failed = not chosen
    for parser in chosen:
        tally = run(parser, Random(f"{seed} {parser.name}"), seconds=share)
        print(
            f"{parser.name:30} {tally.inputs:9} {tally.accepted:9} {len(tally.kinds):6} "
            f"{len(tally.found):6}",
            flush=True,
        )
        for complaint, data in tally.found.items():
            failed = True
            print(f"    {complaint}: {_words(parser, data)}")
            print(f"    {len(data)} bytes in {keep(parser, data)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

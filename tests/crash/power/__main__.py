"""As many power cuts as wanted, with a line of progress and the counts at the end."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.crash.power import peers
from tests.crash.power.cycle import CYCLES, PROGRAMS, Outcome, Setting, Templates


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.power", description=__doc__)
    parser.add_argument("--cuts", type=int, default=500, help="about as many (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the first chain of cuts")
    parser.add_argument("--longest", type=float, default=0.35, help="seconds of work, at most")
    parser.add_argument("--keep-going", action="store_true", help="also after a failure")
    parser.add_argument("--peer", default="", choices=peers.NAMES, help="in the driver's place")
    names = [program.name for program in PROGRAMS]
    parser.add_argument("--programs", nargs="+", choices=names, default=names)
    parser.add_argument("--kill", action="store_true", help="kill the driver, cut no power")
    given = parser.parse_args()
    programs = tuple(program for program in PROGRAMS if program.name in given.programs)
    total, began = Outcome(), time.monotonic()
    chains = max(1, -(-given.cuts // CYCLES))
    with tempfile.TemporaryDirectory(prefix="ckfs-power-") as folder:
        templates = Templates(Path(folder))
        try:
            for number in range(chains):
                setting = replace(
                    Setting.of(given.seed + number), programs=programs, kills=given.kill
                )
                if given.kill:
                    setting = replace(setting, state_is_cut=False)
                if given.peer:  # most of them encrypt by 4 KiB, and keep no notes
                    setting = replace(setting, peer=given.peer, chunk_size=4096, state_is_cut=False)
                outcome = templates.run(setting, longest=given.longest)
                total.add(outcome)
                for one in outcome.wrong:
                    print(f"\nWRONG {one}")
                if outcome.wrong:
                    again = " ".join(sys.argv[1:])
                    print(
                        f"again: python -m tests.crash.power {again} --cuts 1 --seed {setting.seed}"
                    )
                    if not given.keep_going:
                        break
                seconds = time.monotonic() - began
                print(
                    f"{total.counts['cuts']} cuts, {total.counts['failed']} failed, "
                    f"{seconds:.0f} s; {setting}",
                    flush=True,
                )
        finally:
            templates.close()
    for name, count in sorted(total.counts.items()):
        print(f"{count:9} {name}")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""The script of sixfiles.py once, cut right after its last line: how much of it is kept.

`python -m tests.crash.power.comparison [plain|gocryptfs|securefs|encfs ...]`; without a name, ckfs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.crash.power.host import Host
from tests.crash.power.ledger import Ledger, steps
from tests.crash.power.peers import NAMES
from tests.crash.power.program import look
from tests.crash.power.sixfiles import BEYOND, SYNCED, judge_script, script

_FOREVER = float("inf")


def kept(folder: Path, kind: str, peer: str) -> dict[str, str]:
    """Letter -> what is wrong with it after the cut, empty for nothing."""
    host = Host(folder / f"{peer or 'ckfs'}-{kind}", kind, peer=peer)
    try:
        host.make(65536, lambda place: (place / "old").mkdir())
        host.store_disk.mount()
        ledger = host.folder / "ledger"
        script(host.driven.mount() / "old", Ledger(ledger))
        host.cut()
        host.restart()
        found = look(host.driven.mount() / "old")
        return judge_script(steps(ledger, _FOREVER), found, all_of_it=False)
    finally:
        host.end()


def main() -> int:
    programs = sys.argv[1:] or [""]
    if not set(programs) <= {"", *NAMES}:
        print(f"known are {', '.join(NAMES)}")
        return 2
    lost = 0
    with tempfile.TemporaryDirectory(prefix="ckfs-power-") as folder:
        for program in programs:
            if program not in ("", "plain") and not shutil.which(program):
                print(f"{program}: is not on this machine")
                continue
            for kind in ("ext4", "xfs"):
                told = kept(Path(folder), kind, program)
                five = sum(not told[letter] for letter in SYNCED)
                more = sum(not told[letter] for letter in BEYOND)
                wrong = {letter: what for letter, what in told.items() if what}
                lost += len(wrong)
                print(
                    f"{program or 'ckfs'} on {kind}: kept {five} of {len(SYNCED)} fsynced files, "
                    f"and {more} of {len(BEYOND)} more {wrong or ''}"
                )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.attacks [--ours] [--json FILE]`: the attack matrix; 1 if a row of ours fails."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.attacks import report
from tests.attacks.peerrun import peers
from tests.attacks.run import bounded, ours


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the matrix there, too")
    asked = parser.parse_args()
    rows = ours()
    versions: dict[str, str] = {}
    if not asked.ours:
        with bounded() as (folder, backing):
            versions = peers(rows, folder, backing)
    print(report.as_text(rows, versions))
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(rows, versions), indent=2) + "\n")
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

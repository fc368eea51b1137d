"""A database: what SQLite called committed is there, and its own check finds nothing."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

from tests.crash.power.program import Found, Rules, Verdict

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash.power.ledger import Ledger, Step

# In mode DELETE a commit is the unlink of a journal, whose folder SQLite syncs with EXTRA only.
_MODES = (("wal", "full"), ("truncate", "full"), ("persist", "full"), ("delete", "extra"))


def _row(number: int) -> str:
    return f"row {number} " * (1 + number * 37 % 300)


class Database:
    """One connection that inserts, updates and deletes."""

    name = "database"

    def prepare(self, place: Path) -> None:
        with closing(sqlite3.connect(place / "db")) as database, database:
            database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
            database.execute("CREATE INDEX texts ON rows (text)")

    def run(self, place: Path, ledger: Ledger, order: random.Random) -> None:
        journal, synchronous = order.choice(_MODES)
        try:
            with closing(sqlite3.connect(place / "db", isolation_level=None)) as database:
                with ledger.step("open", journal):
                    database.execute(f"PRAGMA journal_mode={journal}")
                    database.execute(f"PRAGMA synchronous={synchronous}")
                self._work(database, ledger, order)
        except sqlite3.Error as error:
            raise OSError(errno.EIO, f"{place}: {error}") from error

    def _work(self, database: sqlite3.Connection, ledger: Ledger, order: random.Random) -> None:
        first = 1
        for turn in count():
            last = first + order.choice((1, 1, 5, 40))
            with ledger.step("commit", first, last):
                database.execute("BEGIN")
                rows = [(number, _row(number)) for number in range(first, last)]
                database.executemany("INSERT INTO rows VALUES (?, ?)", rows)
                database.execute("COMMIT")
            first = last
            if turn % 50 == 49:
                with ledger.step("checkpoint"):
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def judge(self, _steps: list[Step], found: Found, _rules: Rules) -> Verdict:
        verdict = Verdict()
        if "db" not in found.files:
            verdict.wrong.append("the database is gone")
        return verdict

    def judge_opened(self, steps: list[Step], place: Path) -> Verdict:
        """SQLite itself looks: it takes back or finishes what was under way."""
        verdict = Verdict()
        try:
            with closing(sqlite3.connect(place / "db")) as database:
                told = database.execute("PRAGMA integrity_check").fetchall()
                rows = dict(database.execute("SELECT number, text FROM rows"))
        except sqlite3.Error as error:
            verdict.wrong.append(f"SQLite: {error}")
            return verdict
        if told != [("ok",)]:
            verdict.wrong.append(f"SQLite's integrity check: {told[:3]}")
        commits = [step for step in steps if step.verb == "commit"]
        known = max((step.facts[1] for step in commits if step.done), default=1)
        begun = {step.facts[1] for step in commits if step.facts[1] >= known}
        if set(rows) not in [set(range(1, end)) for end in (known, *begun)]:
            verdict.wrong.append(
                f"rows 1 to {known - 1} were committed, found are {len(rows)} up to "
                f"{max(rows, default=0)}"
            )
        verdict.wrong += [
            f"row {number} is another one" for number in rows if rows[number] != _row(number)
        ]
        verdict.counts["transactions"] += sum(step.done for step in commits)
        return verdict

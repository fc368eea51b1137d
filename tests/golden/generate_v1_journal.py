"""Make the frozen example of a store whose driver was killed: its journal holds the newest content.

Run from the project's root: python -m tests.golden.generate_v1_journal
A golden store is made once for a format and never again: this refuses to replace one.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

from fsdriver.changes import Changes
from tests.filesystem.driver import Driver
from tests.golden.generate_v1 import content

PLACE = pathlib.Path(__file__).with_name("v1-journal")
SIZE = 4096
CHUNKS = content("three chunks", 3 * SIZE)
NEW = content("new", SIZE)
PATHS = (
    "untouched",
    "overwritten",
    "overwritten twice",
    "cut",
    "cut and written anew",
    "emptied",
    "extended",
    "grown",
    "folder/end",
    "before",
    "deleted",
    "folder/in a hole",
    "unsealed",
    "in small pieces",
)
PIECES = (
    (100, NEW[:20]),
    (110, NEW[20:50]),
    (SIZE - 6, NEW[50:70]),
    (3 * SIZE, NEW[:1000]),
    (3 * SIZE + 1000, NEW[1000:3000]),
)
"""Writes to one open file: a transaction, and deltas."""
UNSEALED = "unsealed"
"""Its last chunk is in place and no header names it: only its host's driver may know."""


def _write(driver: Driver, path: str, offset: int, data: bytes) -> None:
    driver.write_file(path, data, offset=offset)


def _resize(driver: Driver, path: str, size: int) -> None:
    driver.fs.setattr(driver.number(path), Changes(size=size))


def fill(driver: Driver) -> None:
    """Files that are in place, an epoch that is being put there, and one that is not yet."""
    driver.mkdir("folder")
    for path in PATHS:
        driver.write_file(path, CHUNKS[:100] if path in ("extended", "grown") else CHUNKS)
    _resize(driver, "folder/in a hole", 9 * SIZE)
    driver.reopen()
    _write(driver, "overwritten", SIZE + 7, NEW[:20])
    _write(driver, "overwritten twice", 0, NEW)
    _resize(driver, "cut", 5000)
    _resize(driver, "cut and written anew", 0)
    _write(driver, "grown", 100, NEW[:50])
    _write(driver, "deleted", 0, NEW)
    assert driver.fs.checkpoints is not None
    checkpoint = driver.fs.checkpoints.steps()
    for _ in range(3):  # the store's sync, the journal's; then all of this epoch is put in place
        next(checkpoint)()
    _write(driver, "overwritten twice", 10, NEW[:5])
    _write(driver, "cut and written anew", 0, NEW + b"and more")
    _resize(driver, "emptied", 0)
    _resize(driver, "extended", 20_001)
    _write(driver, "folder/end", 2 * SIZE, NEW)
    _write(driver, "before", 0, NEW)
    driver.fs.rename(*driver.split("before"), *driver.split("folder/after"))
    _write(driver, "folder/in a hole", 5 * SIZE, NEW)
    driver.fs.unlink(*driver.split("deleted"))
    pieces = driver.fs.open(driver.number("in small pieces"), os.O_RDWR)
    for offset, data in PIECES:
        driver.fs.write(pieces, offset, data)
    handle = driver.fs.open(driver.number(UNSEALED), os.O_RDWR)
    driver.fs.write(handle, 3 * SIZE, NEW)


def expected() -> dict[str, dict[str, object]]:
    """After a replay; written from the contents above, not from the store."""
    files = {
        "untouched": CHUNKS,
        "overwritten": CHUNKS[: SIZE + 7] + NEW[:20] + CHUNKS[SIZE + 27 :],
        "overwritten twice": NEW[:10] + NEW[:5] + NEW[15:] + CHUNKS[SIZE:],
        "cut": CHUNKS[:5000],
        "cut and written anew": NEW + b"and more",
        "emptied": b"",
        "extended": CHUNKS[:100].ljust(20_001, b"\0"),
        "grown": CHUNKS[:100] + NEW[:50],
        "folder/end": CHUNKS[: 2 * SIZE] + NEW,
        "folder/after": NEW + CHUNKS[SIZE:],
        "folder/in a hole": (CHUNKS.ljust(5 * SIZE, b"\0") + NEW).ljust(9 * SIZE, b"\0"),
        UNSEALED: CHUNKS + NEW,
    }
    pieces = bytearray(CHUNKS + NEW[:3000])
    for offset, data in PIECES:
        pieces[offset : offset + len(data)] = data
    files["in small pieces"] = bytes(pieces)
    found: dict[str, dict[str, object]] = {
        "/" + path: {
            "kind": "file",
            "size": len(plaintext),
            "sha256": hashlib.sha256(plaintext).hexdigest(),
        }
        for path, plaintext in files.items()
    }
    return found | {"/": {"kind": "directory"}, "/folder": {"kind": "directory"}}


def main() -> int:
    """Make it beside this file."""
    if PLACE.exists():
        print(f"{PLACE} is frozen: a change of the format makes a v2 beside it", file=sys.stderr)  # noqa: T201
        return 1
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(folder)
        fill(driver)
        driver.drop()
        shutil.copytree(driver.store, PLACE / "store", symlinks=True)
        os.unlink(PLACE / "store" / ".ckfs" / "keystore.lock")
        (PLACE / "state" / "service-keys").mkdir(parents=True)
        for key in pathlib.Path(driver.state_dir, "service-keys").glob("*.key"):
            shutil.copy(key, PLACE / "state" / "service-keys")
    (PLACE / "expected.json").write_text(json.dumps(expected(), indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

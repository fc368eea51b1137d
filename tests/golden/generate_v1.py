"""Make the frozen example store of format 1, its service keys and what a reader must find in it.

Run from the project's root: python -m tests.golden.generate_v1
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
from tests.filesystem.driver import CALLER, Driver
from tests.vectors import reader

PLACE = pathlib.Path(__file__).with_name("v1")


def content(name: str, length: int) -> bytes:
    """Plaintext that anybody can make again."""
    return hashlib.shake_256(b"ckfs golden file: " + name.encode()).digest(length)


LONG = "a-name-of-two-hundred-characters-" + "x" * 163 + ".txt"
FILES = {
    "empty": b"",
    "one byte": b"1",
    "5000 bytes": content("5000", 5000),
    "one whole chunk": content("4096", 4096),
    "across a border": content("4097", 4097),
    "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e \N{SNOWMAN}": b"\n",
    LONG: b"a long name\n",
    "letters/2026/november/plan.md": b"# Plan\n",
    "letters/appended": content("appended", 6000),
}


def fill(driver: Driver) -> None:
    """Everything that a store of this format can hold but attributes, which git does not keep."""
    for folder in ("letters", "letters/2026", "letters/2026/november", "letters/nothing"):
        driver.mkdir(folder)
    for path, plaintext in FILES.items():
        driver.write_file(path, plaintext[:5000])
        if plaintext[5000:]:
            driver.write_file(path, plaintext[5000:], offset=5000)
    driver.write_file("sparse", b"first")
    driver.write_file("sparse", b"in the middle", offset=20_000)
    driver.fs.setattr(driver.number("sparse"), Changes(size=30_001))
    driver.fs.symlink(*driver.split("link"), b"letters/2026/november/plan.md", CALLER)
    driver.fs.symlink(*driver.split("letters/moved"), b"../5000 bytes", CALLER)
    driver.fs.rename(*driver.split("letters/moved"), *driver.split("letters/link"))
    driver.fs.link(driver.number("5000 bytes"), *driver.split("letters/hard link"))
    driver.write_file("before", b"renamed\n")
    driver.fs.rename(*driver.split("before"), *driver.split("letters/after"))


def expected() -> dict[str, dict[str, object]]:
    """What the two readers must find; written from the contents above, not from the store."""
    sparse = bytearray(30_001)
    sparse[:5] = b"first"
    sparse[20_000:20_013] = b"in the middle"
    files = FILES | {
        "sparse": bytes(sparse),
        "letters/after": b"renamed\n",
        "letters/hard link": FILES["5000 bytes"],
    }
    found: dict[str, dict[str, object]] = {
        "/" + path: {
            "kind": "file",
            "size": len(plaintext),
            "sha256": hashlib.sha256(plaintext).hexdigest(),
        }
        for path, plaintext in files.items()
    }
    for path in ("", "letters", "letters/2026", "letters/2026/november", "letters/nothing"):
        found["/" + path] = {"kind": "directory"}
    found["/link"] = {"kind": "symlink", "target": "letters/2026/november/plan.md"}
    found["/letters/link"] = {"kind": "symlink", "target": "../5000 bytes"}
    return found


def main() -> int:
    """Make it beside this file."""
    if PLACE.exists():
        print(f"{PLACE} is frozen: a change of the format makes a v2 beside it", file=sys.stderr)  # noqa: T201
        return 1
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(folder)
        fill(driver)
        driver.close()
        assert reader.Reader(driver.store, driver.state_dir).found.keys() == expected().keys()
        shutil.copytree(driver.store, PLACE / "store", symlinks=True)
        os.unlink(PLACE / "store" / ".ckfs" / "keystore.lock")
        (PLACE / "state" / "service-keys").mkdir(parents=True)
        for key in pathlib.Path(driver.state_dir, "service-keys").glob("*.key"):
            shutil.copy(key, PLACE / "state" / "service-keys")
    (PLACE / "expected.json").write_text(json.dumps(expected(), indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

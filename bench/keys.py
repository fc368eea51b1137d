"""`python -m bench keys`: what a change of root keys costs, by the number of files in the store.

Stores of growing size under customer keys in two local vaults; each verb is the real program, with
its start-up. The claim is that no row grows with the files.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.stage import run
from bench.vaults import Vaults
from fsdriver import store as stores
from fsdriver.backing import Backing
from fsdriver.filesystem import Filesystem
from fsdriver.inodes import ROOT
from fsdriver.namespace import Caller
from fsdriver.sites import Sites
from fsdriver.tree import Tree
from keyhierarchy.hierarchy import Hierarchy

ROLLS = 3
FILES_PER_FOLDER = 1000

Row = dict[str, float]


def _fill(store: Path, state: str, count: int) -> None:
    """`count` files of 100 bytes, made without a mount."""
    document = stores.create(str(store), state, created="2026-01-01T00:00:00+00:00")
    control = stores.control_folder(str(store))
    hierarchy = Hierarchy.open(control, state, bytes.fromhex(document.store_id))
    backing = Backing()
    tree = Tree(
        backing,
        backing.open_root(str(store)),
        Sites(hierarchy),
        chunk_size=document.chunk_size,
        plaintext_names=False,
    )
    filesystem, caller = Filesystem(tree), Caller(os.geteuid(), os.getegid())
    folder = ROOT
    for number in range(count):
        if number % FILES_PER_FOLDER == 0:
            name = f"folder {number // FILES_PER_FOLDER}".encode()
            folder = filesystem.mkdir(ROOT, name, 0o755, caller).number
        made, handle = filesystem.create(
            folder, f"file {number}".encode(), 0o644, os.O_WRONLY, caller
        )
        filesystem.write(handle, 0, b"x" * 100)
        filesystem.release(handle)
        filesystem.forget(made.number, 1)
    filesystem.close()
    hierarchy.close()


def _timed(*command: str) -> float:
    start = time.perf_counter()
    run("ckfs-keys", *command, quiet=True)
    return time.perf_counter() - start


def _measure(place: Path, vaults: Vaults, count: int) -> Row:
    store = place / f"store-{count}"
    _fill(store, os.environ["CKFS_STATE_DIR"], count)
    name = f"root-{count}"
    both = ("--primary-uri", vaults.make("kv-primary", name))
    both += ("--secondary-uri", vaults.make("kv-secondary", name))  # type: ignore[assignment]
    row = {"register": _timed("policy", "register", str(store), *both, "--yes")}
    for verb, options in (("roll primary", True), ("roll tik", False)):
        taken = []
        for _ in range(ROLLS):
            uri = ("--uri", vaults.make("kv-primary", name)) if options else ()
            taken.append(_timed(*verb.split(), str(store), *uri, "--yes"))
        row[verb] = median(taken)
    files = place / "files"
    files.mkdir(exist_ok=True)
    start = time.perf_counter()
    run("ckfs", "mount", str(store), str(files), quiet=True)
    row["mount"] = time.perf_counter() - start
    run("ckfs", "umount", str(files), quiet=True)
    row["offboard"] = _timed("offboard", str(store), "--yes")
    return row


def measure(counts: list[int], *, as_json: bool = False) -> dict[int, Row]:
    """Print seconds by verb and number of files; also returned."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 a tmpfs
    results: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(dir=memory, prefix="ckfs-bench-") as folder:
        place = Path(folder)
        os.environ["CKFS_STATE_DIR"] = str(place / "state")
        os.environ["CKFS_AVAILABILITY_DIR"] = str(place / "availability")
        vaults = Vaults(place / "vaults")
        try:
            vaults.settings("probe_seconds=60")
            for count in counts:
                results[count] = _measure(place, vaults, count)
        finally:
            vaults.close()
    if as_json:
        print(json.dumps(results, indent=2))
        return results
    print(f"\nseconds, the program's start included; rolls are medians of {ROLLS}")
    verbs = list(next(iter(results.values())))
    print(f"{'files':>10}" + "".join(f"{verb:>14}" for verb in verbs))
    for count, row in results.items():
        print(f"{count:>10}" + "".join(f"{row[verb]:14.2f}" for verb in verbs))
    return results

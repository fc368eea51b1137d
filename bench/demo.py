"""`make demo`: the main job on real files, from an empty folder to an unmounted store.

Every command is shown as a user would type it. Whatever happens, also on Ctrl-C, the mount is
undone and the folder removed.
"""

import hashlib
import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

from bench.stage import head, perform, run, show
from fsdriver import control

MEBIBYTES = 256


def _digest(folder: Path) -> tuple[int, str]:
    """Number of files, and one SHA-256 over the paths and contents of all of them."""
    whole = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files:
        whole.update(str(path.relative_to(folder)).encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return len(files), whole.hexdigest()


def _stream(path: Path) -> tuple[float, float]:
    """MB/s of writing and of reading one file in 1 MiB calls, without the page cache."""
    block = os.urandom(1 << 20)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(MEBIBYTES):
            file.write(block)
    written = time.perf_counter() - start
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(1 << 20)
        start = time.perf_counter()
        while file.readinto(buffer):
            pass
        read = time.perf_counter() - start
    path.unlink()
    size = MEBIBYTES * 1.048576
    return size / written, size / read


def _demonstrate(place: Path) -> None:
    source, store, files = place / "source", place / "store", place / "files"
    files.mkdir()

    show("A tree of real files: Python's standard library")
    shutil.copytree(
        sysconfig.get_paths()["stdlib"],
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "__pycache__", "test", "config-*"),
    )
    count, before = _digest(source)
    print(f"{count} files in {source}")

    show("A store, and its mount")
    run("ckfs", "init", str(store))
    run("ckfs", "mount", str(store), str(files))

    show("Sync the tree in, twice")
    start = time.perf_counter()
    run("rsync", "-a", f"{source}/", f"{files}/lib/")
    print(f"took {time.perf_counter() - start:.1f} s")
    changed = run("rsync", "-ai", f"{source}/", f"{files}/lib/")
    print(f"the second sync changed {len(changed.splitlines())} entries")
    if changed:
        raise SystemExit("demo: the second sync should have changed nothing")

    show("Unmount, mount again, compare by checksum")
    run("ckfs", "umount", str(files))
    run("ckfs", "mount", str(store), str(files))
    differences = run("rsync", "-acni", "--delete", f"{source}/", f"{files}/lib/")
    _count, after = _digest(files / "lib")
    print(f"SHA-256 before  {before}\nSHA-256 after   {after}")
    if differences or before != after:
        raise SystemExit("demo: the mount does not hold what was synced into it")

    show("What you see, and what the store holds")
    head(run("ls", "-l", str(files / "lib" / "json"), quiet=True), 8)
    folder = os.getxattr(files / "lib" / "json", control.BACKING).decode()
    head(run("ls", "-l", folder, quiet=True), 8)
    print(run("ckfs", "info", str(files / "lib" / "json" / "decoder.py"), quiet=True), end="")
    leaks = subprocess.run(
        ("grep", "-rlaE", "JSONDecoder|decoder[.]py", str(store)), capture_output=True, check=False
    )
    print(f"$ grep -rlaE 'JSONDecoder|decoder[.]py' {store}")
    print(f"{len(leaks.stdout.splitlines())} files of the store mention them")

    show("Who held which key, when")
    run("ckfs", "status")
    head(run("ckfs-keys", "audit", "show", str(store), quiet=True), 12)
    run("ckfs-keys", "audit", "verify", str(store))

    show(f"Throughput: one file of {MEBIBYTES} MiB in calls of 1 MiB")
    _stream(place / "warm-up")
    plain_write, plain_read = _stream(place / "plain")
    write, read = _stream(files / "encrypted")
    print(f"{'':14}{'write MB/s':>12}{'read MB/s':>12}")
    print(f"{'plain folder':14}{plain_write:12.0f}{plain_read:12.0f}")
    print(f"{'ckfs mount':14}{write:12.0f}{read:12.0f}")

    show("Unmount")
    run("ckfs", "umount", str(files))


if __name__ == "__main__":
    perform(_demonstrate, room=4 * MEBIBYTES << 20)

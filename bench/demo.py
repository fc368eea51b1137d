"""`make demo`: the main job on real files, from an empty folder to an unmounted store.

Every command is shown as a user would type it. Whatever happens, also on Ctrl-C, the mount is
undone and the folder removed.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import FrameType

MEBIBYTES = 256
BIN = Path(sys.executable).parent


def _show(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n## {text}", flush=True)


def _run(*command: str, quiet: bool = False) -> str:
    print(f"$ {' '.join(command)}", flush=True)
    program = BIN / command[0]
    found = str(program) if program.exists() else command[0]
    # A group of its own, so that an interrupted rsync goes with all its processes.
    with subprocess.Popen(
        (found, *command[1:]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as running:
        try:
            said, _errors = running.communicate()
        except BaseException:
            # A mount that is under way is let finish, so that there is something to undo.
            if not command[0].startswith("ckfs"):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            raise
    if running.returncode:
        raise SystemExit(f"demo: `{' '.join(command)}` failed:\n{said}")
    if not quiet and said:
        print(said, end="", flush=True)
    return said


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


def _head(text: str, lines: int) -> None:
    shown = text.splitlines()
    print("\n".join(shown[:lines]))
    if len(shown) > lines:
        print(f"... and {len(shown) - lines} more lines")


def _demonstrate(place: Path) -> None:
    source, store, files = place / "source", place / "store", place / "files"
    os.environ["CKFS_STATE_DIR"] = str(place / "state")
    files.mkdir()

    _show("A tree of real files: Python's standard library")
    shutil.copytree(
        sysconfig.get_paths()["stdlib"],
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "__pycache__", "test", "config-*"),
    )
    count, before = _digest(source)
    print(f"{count} files in {source}")

    _show("A store, and its mount")
    _run("ckfs", "init", str(store))
    _run("ckfs", "mount", str(store), str(files))

    _show("Sync the tree in, twice")
    start = time.perf_counter()
    _run("rsync", "-a", f"{source}/", f"{files}/lib/")
    print(f"took {time.perf_counter() - start:.1f} s")
    changed = _run("rsync", "-ai", f"{source}/", f"{files}/lib/")
    print(f"the second sync changed {len(changed.splitlines())} entries")
    if changed:
        raise SystemExit("demo: the second sync should have changed nothing")

    _show("Unmount, mount again, compare by checksum")
    _run("ckfs", "umount", str(files))
    _run("ckfs", "mount", str(store), str(files))
    differences = _run("rsync", "-acni", "--delete", f"{source}/", f"{files}/lib/")
    _count, after = _digest(files / "lib")
    print(f"SHA-256 before  {before}\nSHA-256 after   {after}")
    if differences or before != after:
        raise SystemExit("demo: the mount does not hold what was synced into it")

    _show("What you see, and what the store holds")
    _head(_run("ls", "-l", str(files / "lib" / "json"), quiet=True), 8)
    folder = os.getxattr(files / "lib" / "json", b"user.ckfs.backing").decode()
    _head(_run("ls", "-l", folder, quiet=True), 8)
    print(_run("ckfs", "info", str(files / "lib" / "json" / "decoder.py"), quiet=True), end="")
    leaks = subprocess.run(
        ("grep", "-rlaE", "JSONDecoder|decoder[.]py", str(store)), capture_output=True, check=False
    )
    print(f"$ grep -rlaE 'JSONDecoder|decoder[.]py' {store}")
    print(f"{len(leaks.stdout.splitlines())} files of the store mention them")

    _show("Who held which key, when")
    _run("ckfs", "status")
    _head(_run("ckfs-keys", "audit", "show", str(store), quiet=True), 12)
    _run("ckfs-keys", "audit", "verify", str(store))

    _show(f"Throughput: one file of {MEBIBYTES} MiB in calls of 1 MiB")
    _stream(place / "warm-up")
    plain_write, plain_read = _stream(place / "plain")
    write, read = _stream(files / "encrypted")
    print(f"{'':14}{'write MB/s':>12}{'read MB/s':>12}")
    print(f"{'plain folder':14}{plain_write:12.0f}{plain_read:12.0f}")
    print(f"{'ckfs mount':14}{write:12.0f}{read:12.0f}")

    _show("Unmount")
    _run("ckfs", "umount", str(files))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit("demo: interrupted")


def _clean(place: Path) -> None:
    mountpoint = str(place / "files")
    until = time.monotonic() + 20
    while os.path.ismount(mountpoint) and time.monotonic() < until:
        # Somebody who was killed may still be letting go of it.
        subprocess.run((BIN / "ckfs", "umount", mountpoint), capture_output=True, check=False)
    if os.path.ismount(mountpoint):
        subprocess.run((BIN / "ckfs", "umount", "--lazy", mountpoint), check=False)
    shutil.rmtree(place)
    print(f"cleaned up {place}")


def main() -> None:
    """Exit code 0 when everything held."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    memory = Path("/dev/shm")  # noqa: S108 a tmpfs shows the driver's cost, not the disk's
    room = memory.is_dir() and shutil.disk_usage(memory).free > 4 * MEBIBYTES << 20
    place = Path(tempfile.mkdtemp(prefix="ckfs-demo-", dir=memory if room else None))
    try:
        _demonstrate(place)
    finally:
        _clean(place)
    print("\nAll of it held.")


if __name__ == "__main__":
    main()

"""Asking the command line as other users, and reading what it refuses."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import traceback
from pathlib import Path

from tests.mounted.driving import detach

NOBODY = 65534

# Everything is imported before the rights are given up: another user may not be able to read the
# interpreter that runs the tests.
AS_USER = """
import os, sys
import encodings.idna, fsdriver.cli, fsdriver.mount, fsdriver.inspection, fsdriver.store
import fsdriver.transport.pyfuse3, fsdriver.transport.wire, importlib.metadata
import keyhierarchy.creation, keyhierarchy.servicekeys, subprocess, ctypes, json, shutil, traceback
import zoneinfo, typer.rich_utils, click.shell_completion, asyncio.base_events, trio._core._io_epoll
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.argv = ["ckfs", *sys.argv[2:]]
fsdriver.cli.main()
"""


def as_user(driven, *arguments, uid=NOBODY):
    environment = {**driven.environment, "HOME": str(driven.folder / "home")}
    return subprocess.run(
        [sys.executable, "-c", AS_USER, str(uid), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )


def snapshot(*places: Path) -> dict:
    """What must not change: every entry's kind, mode, owner and bytes, and no new ones."""
    found = {}
    for place in places:
        for folder, folders, names in os.walk(place):
            for name in [".", *folders, *names]:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                content = b""
                # What says who was there last, and the record of what was tried, may grow.
                if stat.S_ISREG(status.st_mode) and not name.endswith(("lock", ".log", ".head")):
                    content = Path(path).read_bytes()
                if not name.endswith((".log", "lock", ".head")):
                    found[path] = (status.st_mode, status.st_uid, content)
    return found


def refused(done, code: int, *words: str) -> None:
    """One line, of these words, without a traceback."""
    said = done.stderr
    assert done.returncode == code, f"{done.returncode}: {said}"
    assert said.startswith("ckfs: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert "unexpected" not in said
    for word in words:
        assert word in said, said
    assert done.stdout == ""


def with_fuse(driven, work):
    """Some machines keep /dev/fuse for root; here it is everybody's, as udev's rules make it."""
    device = driven.backing.parent / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    device.chmod(0o666)
    in_own_namespace(work, device)


def in_own_namespace(work, device):
    """Fork, and let mounts of the child stay the child's; what it raises is raised here."""
    child = os.fork()
    if not child:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            # What other tests have mounted must not live on in here when they unmount it.
            for line in Path("/proc/self/mounts").read_text().splitlines():
                if " fuse.ckfs " in line:
                    detach(line.split()[1].encode().decode("unicode_escape"))
            subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 all of it is told
            traceback.print_exc()
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    assert status == 0, "see the captured standard error"

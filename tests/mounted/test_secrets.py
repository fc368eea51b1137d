"""No key leaves a driver's memory: not by logs, tracebacks, /proc, files, core dumps or swap."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from fsdriver import privileges
from tests.mounted.driving import CKFS, DEADLINE, Driven, detach, fails, is_running, until
from tests.secrets.searching import files_below, found, keys_of

pytestmark = pytest.mark.mounted

ROOT = Path(__file__).parents[2]
NAMES = ("one", "two")
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
IPC_LOCK, SYS_RESOURCE = 14, 24
PTRACE_ATTACH = 16

# Put into the driver from outside: every library's logger says everything, and a key is in a local
# variable of a frame when something fails that nobody foresaw.
SPY = """
import logging, os
logging.basicConfig(level=1, filename=os.environ["SPY_FOLDER"] + "/logging.log")
from fsdriver.format import filekeys
derive = filekeys.derive
def failing(file_key, file_id):
    keys = derive(file_key, file_id)
    if os.path.exists(os.environ["SPY_FOLDER"] + "/fail"):
        raise RuntimeError("injected") from ValueError(repr(keys))
    return keys
filekeys.derive = failing
"""


@pytest.fixture
def spied(fresh, tmp_path, monkeypatch):
    """A store with two files, mounted by a driver that logs all it can."""
    (tmp_path / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("SPY_FOLDER", str(tmp_path))
    driven = fresh()
    driven.spy = tmp_path
    place = driven.mount()
    for name in NAMES:
        (place / name).write_bytes(os.urandom(100_000))
    driven.remount()
    for name in NAMES:
        (place / name).read_bytes()
    return driven


def known(driven: Driven) -> dict[str, bytes]:
    backing = {name: driven.backing_of(driven.mountpoint / name) for name in NAMES}
    keys = keys_of(driven.store, driven.state, backing).by_name
    assert len(keys) >= 10
    return keys


def proc_files(pid: int):
    """Every file of /proc/PID that can be read as text, and where its links lead."""
    for folder, _folders, names in os.walk(f"/proc/{pid}"):
        if f"/proc/{pid}/task/" in folder and "/net" in folder:
            continue
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):
                if os.path.islink(path):
                    yield path, os.fsencode(os.readlink(path))
                # The memory itself, and what is not the process's own.
                elif name not in ("mem", "pagemap", "kpagecgroup") and "/net/" not in path:
                    with open(path, "rb") as file:
                        yield path, file.read(1 << 22)


def memory_of(pid: int) -> bytes:
    """What root sees of a process's private writable memory."""
    pieces = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            where, mode, *_rest = line.split()
            start, end = (int(one, 16) for one in where.split("-"))
            if mode.startswith("rw") and "[v" not in line:
                with suppress(OSError):
                    memory.seek(start)
                    pieces.append(memory.read(end - start) or b"")
    return b"\n".join(pieces)


def status_of(place: str) -> dict[str, str]:
    lines = Path(place, "status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (one.partition(":") for one in lines)}


def test_keys_stay_in_memory(spied):
    """One driver, looked at from all sides."""
    keys = known(spied)
    (pid,) = spied.pids()
    # These are the keys that this very process works with, or nothing below says anything.
    with ExitStack() as opened:
        for name in NAMES:
            opened.enter_context((spied.mountpoint / name).open("rb")).read(1)
        in_memory = found(keys, memory_of(pid))
    assert {"TIK 1", "metadata key", "chunk key of one", "chunk key of two"} <= set(in_memory)

    looked_at = 0
    for path, seen in proc_files(pid):
        assert not found(keys, seen), path
        looked_at += 1
    assert looked_at > 50
    assert f"/proc/{pid}/environ" in dict(proc_files(pid))

    # What nobody foresaw: a traceback in the log, of frames that hold keys.
    spied.remount()
    (spied.spy / "fail").touch()
    with fails(errno.EIO):
        (spied.mountpoint / "one").read_bytes()
    (spied.spy / "fail").unlink()
    assert any("injected" in str(line) for line in spied.refusals())
    assert (spied.mountpoint / "one").read_bytes()

    said = [
        spied.run(*command).stdout
        for command in (("status",), ("status", "--json"), ("info", "--json", spied.store))
    ]
    spied.umount()
    assert "injected" in spied.log()
    assert "ValueError" in spied.log()
    assert (spied.spy / "logging.log").exists()
    for text in (*said, spied.log(), (spied.spy / "logging.log").read_text()):
        assert not found(keys, text.encode())
    masters = {"master key": keys["master key"]}
    for path, seen in files_below(spied.store, spied.state):
        is_its_own = path.endswith(".key") and "service-keys" in path
        assert found(keys, seen) == (list(masters) if is_its_own else []), path


# As if an administrator had lifted the limit again, which takes a capability from outside.
UNLIMITED = """
import resource
setrlimit = resource.setrlimit
resource.setrlimit = lambda kind, to: kind == resource.RLIMIT_CORE or setrlimit(kind, to)
setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
"""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_leaves_no_core(fresh, tmp_path, number):
    """Whatever the limit is; a process that is not shut leaves one."""
    (tmp_path / "sitecustomize.py").write_text(UNLIMITED)
    driven = fresh()
    environment = {**driven.environment, "PYTHONPATH": str(tmp_path)}
    driver = subprocess.Popen(
        [CKFS, "mount", "-f", driven.store, driven.mountpoint],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    other = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        other.stdout.readline()
        until(driven.is_mounted, "the mount stands")
        (driven.mountpoint / "file").write_bytes(b"content")
        for process in (driver, other):
            assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0], "cores are off here"
        driver.send_signal(number)
        _said, told = driver.communicate(timeout=DEADLINE)
        assert driver.returncode == -number
        assert not [one for one in tmp_path.iterdir() if "core" in one.name]
        assert b"Fatal" not in told
        other.send_signal(number)
        assert os.WCOREDUMP(os.waitpid(other.pid, 0)[1]), "this machine can write no core"
    finally:
        for process in (driver, other):
            if is_running(process.pid):
                process.kill()
            process.communicate()
        if driven.is_mounted():
            detach(driven.mountpoint)


def test_root_keeps_only_the_privileges_of_a_driver(driven):
    (pid,) = driven.pids()
    # Work that takes worker threads, and every capability that is kept.
    place = driven.mountpoint
    (place / "file").write_bytes(b"x")
    os.mknod(place / "device", 0o600 | 0o020000, os.makedev(1, 3))
    os.chown(place / "file", 1234, 1234)
    (place / "file").chmod(0o4755)
    os.utime(place / "file", (1, 1))
    with (place / "file").open("r+b") as file:
        os.fsync(file.fileno())
    status = driven.status()
    assert status["memory_locked"] in ("all", "part")
    own = int(status_of("/proc/self")["CapEff"], 16)
    kept = sum(1 << number for number in privileges.KEPT.values()) & own
    tasks = [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
    for task in tasks:
        held = status_of(task)
        lock = 1 << IPC_LOCK & int(held["CapPrm"], 16)
        assert int(held["CapEff"], 16) == int(held["CapPrm"], 16) == kept | lock
        assert int(held["CapBnd"], 16) == kept | lock
        assert int(held["CapInh"], 16) == int(held["CapAmb"], 16) == 0
        assert held["NoNewPrivs"] == "1"
    assert own != kept, "there was nothing to give up"


def test_memory_is_locked(driven):
    """All of it where that is allowed; what a limit allows else, and that is said."""
    (pid,) = driven.pids()
    facts = status_of(f"/proc/{pid}")
    if driven.status()["memory_locked"] == "all":
        assert int(facts["VmLck"].split()[0]) >= int(facts["VmRSS"].split()[0]) * 0.9
    assert int(facts["VmLck"].split()[0]) > 0
    assert int(facts["VmSwap"].split()[0]) == 0


def test_a_limit_on_locked_memory_is_told_and_stops_nothing(fresh):
    driven = fresh()

    def limited():
        libc = ctypes.CDLL(None)
        for capability in (IPC_LOCK, SYS_RESOURCE):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))

    command = [CKFS, "mount", "--log-file", driven.log_place, driven.store, driven.mountpoint]
    subprocess.run(command, env=driven.environment, preexec_fn=limited, check=True)
    (pid,) = driven.pids()
    status = driven.status()
    assert status["memory_locked"] == "part"
    assert "4096 KiB" in status["memory_reason"]
    assert driven.log().count('event="memory not locked"') == 1
    assert "memory locked: part" in driven.run("status").stdout
    assert 0 < int(status_of(f"/proc/{pid}")["VmLck"].split()[0]) <= 4096
    content = os.urandom(32 << 20)
    (driven.mountpoint / "file").write_bytes(content)
    assert (driven.mountpoint / "file").read_bytes() == content


def test_the_search_would_have_found_them(driven):
    """A key in an attribute, a name, a file of the state folder: each is found."""
    place = driven.mountpoint
    for name in NAMES:
        (place / name).write_bytes(b"x")
    keys = known(driven)
    planted = {
        "state": driven.state / "note.json",
        "store": driven.store / ".ckfs" / "note",
    }
    for path, content in zip(
        planted.values(), (keys["TIK 1"].hex().encode(), keys["file key of one"]), strict=True
    ):
        path.write_bytes(content)
    hits = {path: found(keys, seen) for path, seen in files_below(driven.store, driven.state)}
    assert hits[str(planted["state"])] == ["TIK 1"]
    assert hits[str(planted["store"])] == ["file key of one"]


@pytest.mark.parametrize("is_shut", [False, True], ids=["open", "shut"])
def test_the_same_account_sees_no_memory(is_shut):
    """Of a process that is shut; of another it does, so the first half says something."""
    ready, going = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _be_looked_at(ready[1], going[0], is_shut=is_shut)
    looking = os.fork()
    if not looking:
        code = 9
        try:
            os.read(ready[0], 1)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = _look(child)
        finally:
            os._exit(code)
    _pid, status = os.waitpid(looking, 0)
    os.write(going[1], b"x")
    os.waitpid(child, 0)
    for descriptor in (*ready, *going):
        os.close(descriptor)
    seen = os.waitstatus_to_exitcode(status)
    assert seen == (0 if is_shut else 7)


def _be_looked_at(ready: int, going: int, *, is_shut: bool) -> None:
    try:
        from keyhierarchy import secrecy  # noqa: PLC0415

        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as a program that this account started
        if is_shut:
            secrecy.shut()
            assert secrecy.is_shut()
        os.write(ready, b"x")
        os.read(going, 1)
    finally:
        os._exit(0)


def _look(pid: int) -> int:
    """One bit for each way in that is open."""
    seen = 0
    for bit, name in ((1, "environ"), (2, "mem")):
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
            if name == "environ":
                file.read()
            seen |= bit
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0:
        os.waitpid(pid, 0)
        libc.ptrace(17, pid, None, None)
        seen |= 4
    return seen

"""The bench: wrong contents lose, failures are told, nothing is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench import mounted
from bench.figures import load
from bench.mounted import Plan, measure
from bench.peers.plain import Plain
from bench.peers.system import Room, SystemFailed, Unavailable
from bench.workloads import client, material
from bench.workloads.groups import GROUPS, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = Sizes(
    sequential=4 << 20,
    random_file=1 << 20,
    random_calls=40,
    files=30,
    list_passes=2,
    tree_files=25,
    tree_bytes=200_000,
    repository_files=20,
    transactions=4,
)
MIB = 1 << 20
mounting = pytest.mark.skipif(os.geteuid() != 0, reason="the bench takes root")


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_a_changed_byte_of_the_large_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "large"
    client.write_file(client.Clock(), str(path), 2 * MIB)
    client.verify_file(client.Clock(), str(path), 2 * MIB)
    flip(path, MIB + 5)
    with pytest.raises(ValueError, match="MiB 1"):
        client.verify_file(client.Clock(), str(path), 2 * MIB)


def test_a_write_that_is_missing_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    client.write_file(client.Clock(), path, MIB)
    client.random_write(client.Clock(), path, MIB, 50, 1)
    client.random_write(client.Clock(), path, MIB, 50, 2, fsync=True)
    client.verify_random(client.Clock(), path, MIB, [(50, 1), (50, 2)])
    with pytest.raises(ValueError, match="other bytes"):
        client.verify_random(client.Clock(), path, MIB, [(50, 1), (51, 2)])


@pytest.mark.parametrize("shape", ["500", "20", "one"])
def test_small_files_live_their_whole_life(tmp_path: Path, shape: str) -> None:
    folder, clock = str(tmp_path / "small"), client.Clock()
    client.create(clock, folder, 45, 1000, shape)
    client.stat(clock, folder, 45, shape)
    client.read_files(clock, folder, 45, 1000, shape)
    with pytest.raises(ValueError, match="bytes read of"):
        client.read_files(clock, folder, 45, 1001, shape)
    client.delete(clock, folder, 45, "file", shape)
    assert not os.listdir(tmp_path)
    assert clock.seconds > 0


def test_a_small_file_too_many_or_changed_is_found(tmp_path: Path) -> None:
    client.create(client.Clock(), str(tmp_path / "small"), 20, 4096)
    client.verify_files(client.Clock(), str(tmp_path / "small"), 20, 4096)
    flip(next((tmp_path / "small" / "000").iterdir()), 100)
    with pytest.raises(ValueError, match="other bytes"):
        client.verify_files(client.Clock(), str(tmp_path / "small"), 20, 4096)
    (tmp_path / "small" / "000" / "another").touch()
    with pytest.raises(ValueError, match="other names"):
        client.verify_files(client.Clock(), str(tmp_path / "small"), 20, 4096)


def test_the_tree_is_the_same_in_every_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        material.make_tree(tmp_path / name, files=60, size=400_000)
    client.compare(client.Clock(), str(tmp_path / "one"), str(tmp_path / "two"))
    sizes = [path.stat().st_size for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(sizes) == 60
    assert 390_000 < sum(sizes) <= 400_000
    flip(next(path for path in (tmp_path / "two").rglob("*") if path.is_file()), 0)
    with pytest.raises(ValueError, match="differs"):
        client.compare(client.Clock(), str(tmp_path / "one"), str(tmp_path / "two"))


def test_a_failing_workload_says_why(tmp_path: Path) -> None:
    words = json.dumps({"path": str(tmp_path / "no" / "file"), "size": MIB})
    told = subprocess.run(
        [sys.executable, "-I", "-S", client.__file__, "write_file", words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "No such file" in told.stderr
    assert "Traceback" not in told.stderr


# A run, without a mount: the systems are plain folders, one of them a bad one


class Forger(Plain):
    """Changes what was written when it is mounted again."""

    name = "forger"
    kind = "ours"

    def mount(self) -> None:
        for path in self.files.rglob("*"):
            if path.is_file() and path.stat().st_size:
                with path.open("r+b") as file:
                    file.write(b"forged")


class Refuser(Plain):
    name = "refuser"
    kind = "peer"

    def mount(self) -> None:
        raise SystemFailed("refuser: not today")


class Missing(Plain):
    name = "missing"
    kind = "peer"

    def version(self) -> str:
        raise Unavailable("missing is not installed")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list]:
    kinds = {"plain": Plain, "CryFS": Forger, "EncFS": Refuser, "securefs": Missing}
    monkeypatch.setattr(mounted.mounted_place, "separate", lambda: None)
    monkeypatch.setattr(mounted.mounted_place, "make_tmpfs", lambda place, _size: place.mkdir())
    monkeypatch.setattr(
        mounted.mounted_place, "place_for", lambda where, folder, _d, _s: (folder / where, "here")
    )
    monkeypatch.setattr(
        mounted.peers,
        "make",
        lambda name, place, points, _options: kinds[name](Room(place / name, points / name)),
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def measured(*rows: str, systems: tuple[str, ...] = tuple(kinds), **options: object) -> list:
        console = Console(file=io.StringIO())
        return measure(Plan(rows=rows, systems=systems, sizes=TINY, console=console, **options))

    return measured


def test_every_system_is_in_the_result_and_wrong_contents_lose(run, tmp_path) -> None:
    (one,) = run("sequential", repetitions=2)
    assert {system.name: system.failure for system in one.systems if system.failure} == {
        "forger": one.systems[1].failure,
        "missing": "missing is not installed",
    }
    assert "contents were wrong" in one.systems[1].failure
    assert [row.name for row in one.rows] == [row.name for row in GROUPS[0].rows(TINY)]
    for row in one.rows:
        plain, forger, refuser = row.samples
        assert len(plain.seconds) == len(plain.client_cpu) == len(plain.driver_cpu) == 2
        assert all(taken > 0 for taken in plain.seconds)
        assert plain.failure is None
        assert not forger.seconds
        assert "contents were wrong" in forger.failure
        assert not refuser.seconds
        assert refuser.failure == "refuser: not today"
    assert not os.listdir(tmp_path)


def test_rows_are_chosen_by_name(run) -> None:
    two = run(
        "sequential read", "SQLite WAL", systems=("plain",), where=("tmpfs", "disk"), repetitions=1
    )
    assert [one.where for one in two] == ["tmpfs", "disk"]
    names = ["sequential read", "sequential read again", "SQLite WAL"]
    for one in two:
        assert [row.name for row in one.rows] == names
    taken = [row.samples[0].seconds for one in two for row in one.rows]
    assert len({tuple(one) for one in taken}) == len(taken), "a row of one place in the other"
    with pytest.raises(mounted.Refused, match="sequential write"):
        run("nothing like it")


def test_a_slow_system_is_stopped_and_the_others_go_on(run) -> None:
    (one,) = run("SQLite", systems=("plain",), repetitions=3, group_cap=0.0)
    assert one.rows[0].samples[0].failure.startswith("1 of 3 repetitions")
    assert len(one.rows[0].samples[0].seconds) == 1
    (one,) = run("SQLite", systems=("plain",), repetitions=1, time_cap=0.001)
    assert "stopped: it took over" in one.rows[0].samples[0].failure


# And with mounts


def bench(*words: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(mounted.__file__).parent.parent,
        **options,
    )


@pytest.mark.mounted
@mounting
def test_a_run_measures_ckfs_and_tells_of_a_peer_that_is_not_there(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("mount", "umount", "setpriv", "fusermount3", "git", "rm", "env"):
        found = next(p for p in map(Path, ("/usr/bin", "/bin", "/usr/sbin")) if (p / name).exists())
        (tools / name).symlink_to(found / name)
    figures = tmp_path / "figures.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    running = bench(
        *("mounted", "--rows", "sequential", "--size", "8", "--repeat", "1"),
        *("--systems", "plain,ckfs,gocryptfs", "--json", str(figures)),
        env={**os.environ, "PATH": str(tools), "TMPDIR": str(scratch)},
    )
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    (one,) = load(figures)
    assert one.complete
    assert [system.name for system in one.systems] == ["plain", "ckfs", "gocryptfs"]
    assert "not installed" in one.systems[2].failure
    for row in one.rows:
        ours = row.samples[1]
        assert ours.failure is None
        assert ours.seconds[0] > 0
        assert ours.peak_memory > 10 * MIB
    assert sum(row.samples[1].driver_cpu[0] for row in one.rows) > 0
    assert not os.listdir(scratch)


@pytest.mark.mounted
@mounting
def test_an_interrupted_run_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    scratch, figures = tmp_path / "scratch", tmp_path / "figures.json"
    scratch.mkdir()
    running = bench(
        *("mounted", "--quick", "--rows", "small", "--repeat", "50", "--cap", "100"),
        *("--systems", "ckfs", "--json", str(figures)),
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    end = time.monotonic() + 60
    try:
        mounts = Path(f"/proc/{running.pid}/mountinfo")
        while f"{scratch}" not in mounts.read_text() or "fuse" not in mine(mounts, scratch):
            assert time.monotonic() < end, "no mount"
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 1, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not load(figures)[0].complete
    assert not os.listdir(scratch)
    assert not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if drives(pid, scratch)]


def mine(mounts: Path, scratch: Path) -> str:
    return "\n".join(line for line in mounts.read_text().splitlines() if str(scratch) in line)


def drives(pid: str, scratch: Path) -> bool:
    try:
        return str(scratch).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False

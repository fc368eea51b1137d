"""Crash states: the model of the store's filesystem is right, the checker sees, nothing is lost."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsdriver.backing import Backing
from tests.crash.states import blindness
from tests.crash.states.checker import NOTES, Checker
from tests.crash.states.image import from_folder
from tests.crash.states.memory import MemoryBacking
from tests.crash.states.mounting import host_in_memory
from tests.crash.states.sharing import run
from tests.crash.states.workloads import alphabet

pytestmark = pytest.mark.crash
MEMORY = "/dev/shm"  # noqa: S108 a tmpfs

# The model against a real folder

NAMES = st.sampled_from(["a", "b", "c", "x" * 255, "x" * 256])
FOLDERS = st.integers(0, 3)
FILES = st.integers(0, 5)
OFFSETS = st.sampled_from([0, 1, 511, 4095, 4096, 5000, 12288, 20000])
SIZES = st.sampled_from([0, 1, 512, 4096, 5000])
MODES = st.sampled_from([0o700, 0o755, 0o644, 0o2755, 0o4755])
NANOSECONDS = st.sampled_from([0, 10**9 + 1, 1_700_000_000 * 10**9])
ATTRIBUTES = st.sampled_from(["user.a", "user.b", "user." + "y" * 250, "user." + "y" * 251])
XATTR_FLAGS = st.sampled_from([0, os.XATTR_CREATE, os.XATTR_REPLACE])

CALLS = st.one_of(
    st.tuples(st.just("open_directory"), FOLDERS, NAMES),
    st.tuples(st.just("create_file"), FOLDERS, NAMES, st.sampled_from([0o600, 0o644])),
    st.tuples(st.just("open_file"), FOLDERS, NAMES, st.booleans()),
    st.tuples(st.just("close"), FILES),
    st.tuples(st.just("read"), FILES, SIZES, OFFSETS),
    st.tuples(st.just("write"), FILES, st.lists(SIZES, max_size=3), OFFSETS),
    st.tuples(st.just("truncate"), FILES, OFFSETS),
    st.tuples(st.sampled_from(["clear", "zero"]), FILES, OFFSETS, st.sampled_from([1, 4096, 9000])),
    st.tuples(st.just("create_nameless"), FOLDERS, st.sampled_from([0o600, 0o644])),
    st.tuples(st.just("link_open"), FILES, FOLDERS, NAMES),
    st.tuples(st.sampled_from(["reserve", "allocate"]), FILES, OFFSETS, st.just(8192)),
    st.tuples(st.just("data_runs"), FILES, OFFSETS),
    st.tuples(
        st.sampled_from(["sync", "sync_data", "sync_filesystem", "touch", "stat_open"]), FILES
    ),
    st.tuples(st.just("duplicate"), FILES),
    st.tuples(st.just("make_directory"), FOLDERS, NAMES, MODES),
    st.tuples(st.just("make_node"), FOLDERS, NAMES, st.just(stat.S_IFIFO | 0o600), st.just(0)),
    st.tuples(st.just("make_symlink"), FOLDERS, NAMES, st.sampled_from(["a", "b", "c/d", ""])),
    st.tuples(
        st.sampled_from(["read_symlink", "unlink", "remove_directory", "stat"]), FOLDERS, NAMES
    ),
    st.tuples(st.just("link"), FOLDERS, NAMES, FOLDERS, NAMES),
    st.tuples(st.just("rename"), FOLDERS, NAMES, FOLDERS, NAMES, st.sampled_from([0, 0, 1, 2])),
    st.tuples(st.just("change_mode"), FOLDERS, NAMES, MODES),
    st.tuples(st.just("change_owner"), FOLDERS, NAMES),
    st.tuples(st.just("change_times"), FOLDERS, NAMES, NANOSECONDS, NANOSECONDS),
    st.tuples(st.just("change_open_times"), FILES, NANOSECONDS, NANOSECONDS),
    st.tuples(st.just("set_xattr"), FOLDERS, NAMES, ATTRIBUTES, SIZES, XATTR_FLAGS),
    st.tuples(st.sampled_from(["get_xattr", "remove_xattr"]), FOLDERS, NAMES, ATTRIBUTES),
    st.tuples(st.just("xattr_names"), FOLDERS, NAMES),
    st.tuples(st.just("entries"), FOLDERS),
    st.tuples(st.just("inodes"), FOLDERS),
)


OF_A_FILE = {"close", "read", "write", "truncate", "clear", "reserve", "data_runs", "duplicate"}
OF_A_FILE |= {"zero", "allocate", "link_open"}
OF_A_FILE |= {"sync", "sync_data", "sync_filesystem", "touch", "stat_open", "change_open_times"}


class Side:
    """A backing and the descriptors that were opened on it, the same ones on both sides."""

    def __init__(self, backing, root: str) -> None:
        self.backing = backing
        self.folders = [backing.open_root(root)]
        self.files: list[int] = []

    def call(self, call: str, *arguments):
        """What it answers: a value that does not depend on the side, or an errno."""
        try:
            return self.answer(call, *arguments)
        except OSError as error:
            return errno.errorcode[error.errno]

    def answer(self, call, first, *rest):
        backing = self.backing
        if call in OF_A_FILE:
            if not self.files:
                return None
            at = self.files[first % len(self.files)]
            if call == "write":
                buffers = [bytes([65 + size % 26]) * size for size in rest[0]]
                return backing.write(at, buffers, rest[1])
            if call == "close":
                self.files.remove(at)
            if call == "link_open":
                rest = (self.folders[rest[0] % len(self.folders)], rest[1])
            answer = getattr(backing, call)(at, *rest)
            if call == "duplicate":
                self.files.append(answer)
                return None
            return self.plain(call, answer)
        folder = self.folders[first % len(self.folders)]
        if call in ("link", "rename"):
            name, other, new_name, *flags = rest
            other = self.folders[other % len(self.folders)]
            return getattr(backing, call)(folder, name, other, new_name, *flags)
        if call == "open_file":
            self.files.append(backing.open_file(folder, rest[0], writable=rest[1]))
            return None
        if call == "change_owner":
            return backing.change_owner(folder, rest[0], os.geteuid(), -1)
        if call == "set_xattr":
            name, attribute, size, flags = rest
            return backing.set_xattr(folder, name, attribute, b"v" * min(size, 512), flags)
        answer = getattr(backing, call)(folder, *rest)
        if call in ("create_file", "create_nameless"):
            self.files.append(answer)
        elif call == "open_directory":
            self.folders.append(answer)
        else:
            return self.plain(call, answer)
        return None

    @staticmethod
    def plain(call, answer):
        if call in ("stat", "stat_open"):
            size = 0 if stat.S_ISDIR(answer.st_mode) else answer.st_size
            links = answer.st_nlink
            return (answer.st_mode, links, answer.st_uid, answer.st_gid, size, answer.st_rdev)
        if call == "inodes":
            return sorted((name, kind) for name, kind, _number in answer)
        if call in ("entries", "data_runs", "xattr_names"):
            return sorted(answer)
        return answer

    def close(self) -> None:
        for descriptor in (*self.files, *self.folders):
            self.backing.close(descriptor)


def shape(image, key=None):
    """Everything that a program can see below a folder; times only where they were set."""
    node = image.nodes[image.root if key is None else key]
    inner = {name: shape(image, child) for name, child in sorted(node.entries.items())}
    status = {field: node.status[field] for field in ("mode", "uid", "gid")}
    return (node.kind, node.links, status, node.xattrs, inner, node.text, bytes(node.data))


@pytest.fixture(scope="module")
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(CALLS, max_size=40))
def test_the_model_answers_as_a_real_filesystem(open_umask, calls):
    place = MEMORY if os.path.isdir(MEMORY) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        real, model = Side(Backing(), folder), Side(MemoryBacking(from_folder(folder)), folder)
        try:
            reserved = False
            for call in calls:
                expected, answered = real.call(*call), model.call(*call)
                reserved |= call[0] in ("reserve", "allocate")
                if call[0] == "data_runs" and reserved:
                    continue  # where room is reserved, a tmpfs may call a hole data
                if expected in ("EOPNOTSUPP", "ENOTSUP") and "xattr" in call[0]:
                    return  # a tmpfs that has none
                assert answered == expected, call
            assert shape(model.backing.image) == reread(folder)
        finally:
            real.close()


def reread(folder):
    image = from_folder(folder)
    for node in image.nodes.values():
        if "user." in "".join(node.entries):
            raise AssertionError
    for path, key in paths(image, folder):
        if image.nodes[key].kind in (stat.S_IFREG, stat.S_IFDIR):
            image.nodes[key].xattrs = {one: os.getxattr(path, one) for one in os.listxattr(path)}
    return shape(image)


def paths(image, path, key=None):
    key = image.root if key is None else key
    yield path, key
    for name, child in image.nodes[key].entries.items():
        yield from paths(image, os.path.join(path, name), child)


# The checker sees

KNOWN = {operation.name: operation for operation in alphabet()}


def findings(workload: str, backing=MemoryBacking, *, late: bool) -> Iterator[str]:
    """The kinds of promises broken; `late`: once all of the workload was acknowledged."""
    with host_in_memory() as host:
        checker = Checker(host, backing=backing, again=8)
        made = checker.run(tuple(KNOWN[name] for name in workload.split("; ")))
        begin = made.fresh
        if late:
            last = len(made.oracle.versions) - 2
            begin = 1 + next(
                at
                for at, event in enumerate(made.recording.events)
                if (event.kind, event.call, event.operation) == ("mark", "returned", last)
            )
        crashes = (crash for crash in checker.crashes(made) if crash.at >= begin)
        for found in checker.check(made, crashes):
            if found.violation.kind not in NOTES:
                yield found.violation.kind


@pytest.mark.parametrize(
    ("workload", "blind"),
    [
        ("append A/f; fsync A/f", blindness.without_fsync_of_files),
        ("overwrite A/f; fsync A/f", blindness.without_fdatasync),
        ("new A/n; fsyncdir /A", blindness.without_fsync_of_folders),
        ("mkdir C; fsyncdir /", blindness.without_fdatasync),
        ("overwrite A/f; sync", blindness.WithoutSyncfs),
    ],
)
def test_a_driver_that_leaves_a_sync_out_is_seen(workload, blind):
    assert not any(findings(workload, late=True))
    assert any(findings(workload, backing=blind, late=True))


@pytest.mark.parametrize(
    ("workload", "blinded"),
    [
        ("overwrite A/f", blindness.without_journal),
        ("truncate-5000 A/f", blindness.without_journal),
        ("rename A/f B/n", blindness.without_sync_before_rename),
        ("punch-append B/g held", blindness.without_clearing),
        ("tmpfile A/n", blindness.without_sync_before_link),
    ],
)
def test_a_driver_without_its_journal_or_its_order_is_seen(workload, blinded):
    assert not any(findings(workload, late=False))
    with blinded():
        assert any(findings(workload, late=False))


# Nothing is lost


@pytest.mark.parametrize(
    "workload",
    [
        "new-link-rename A/n",  # the header waits as that of an old file
        "link A/f A/n; rename A/f B/g",  # met under one name, and so recovered, before the other
        "rename A C; rename C B/C",  # a record that drops a name which is still that on the disk
    ],
)
def test_names_changed_twice_stay_readable(workload):
    assert not any(findings(workload, late=False))


def test_a_hole_that_a_file_ends_in_keeps_its_length():
    assert not any(findings("punch A/f; small pending 4", late=False))


def test_a_sample_of_all_states_keeps_every_promise():
    totals = run(0, 6, 2, every=40, again=4)
    assert totals.states > 1000
    broken = {kind for kind, _power in totals.kinds} - set(NOTES)
    assert not broken, "\n".join(one for _kind, one in totals.examples)

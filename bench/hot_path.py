"""`python -m bench hot-path`: where the time of a write and of a read goes, in process.

For each chunk size, in one run and alternated: AES-256-GCM called in a loop on the same buffers
(100 %), each part of the way alone, and the whole way through the filesystem, with its journal and
its host's database. Raw and whole work on the same bytes, so a percentage is what the driver adds.
"""

import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from bench import report
from bench.cpu_time import cpu_seconds, settled
from bench.hot_path_figures import HotPathRow, HotPathRun
from bench.mounted_machine import commit, machine, now
from bench.unmounted import Unmounted, memory_folder, new_store
from fsdriver.backing import Backing
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.geometry import NONCE_SIZE, RECORD_OVERHEAD, Geometry
from fsdriver.inodes import ROOT
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session

CHUNK_SIZES = (4096, 16384, 32768, 65536, 131072, 262144)
REQUEST = 1 << 20
REQUESTS = 32
"""Of each part in a round: less than what makes a journal full."""

Work = Callable[[], None]
Parts = dict[str, Work]
"""By name; of what is to be tidied after a round, too."""


class _Lease:
    """A site key made up for the run."""

    def __init__(self) -> None:
        self.site_id = secrets.token_bytes(16)
        self.root_directory_id = secrets.token_bytes(16)
        self.generation = 1
        self.valid = True
        self.deadline = float("inf")
        self.metadata_key = secrets.token_bytes(32)
        self._cipher = AESSIV(secrets.token_bytes(64))

    def wrap_file_key(
        self, file_id: bytes, file_key: bytes, generation: int | None = None
    ) -> bytes:
        del generation
        return self._cipher.encrypt(file_key, [file_id])

    def unwrap_file_key(self, file_id: bytes, generation: int, wrapped: bytes) -> bytes:
        del generation
        return self._cipher.decrypt(wrapped, [file_id])

    def require_valid(self) -> None:
        pass


class _Buffers:
    """One request's content, its records, and room for what comes back."""

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size
        self.stride = chunk_size + RECORD_OVERHEAD
        self.content = memoryview(secrets.token_bytes(REQUEST))
        self.count = REQUEST // chunk_size
        self.records = memoryview(bytearray(self.count * self.stride))
        self.back = memoryview(bytearray(REQUEST))
        starts = range(0, REQUEST, chunk_size)
        self.chunks = [self.content[at : at + chunk_size] for at in starts]
        self.chunks_back = [self.back[at : at + chunk_size] for at in starts]
        self.sealed = [
            self.records[at + NONCE_SIZE : at + self.stride]
            for at in range(0, len(self.records), self.stride)
        ]


def _each(work: Callable[[int], object]) -> Work:
    """What is done for each request of a round; `work` gets its number."""

    def whole() -> None:
        for number in range(REQUESTS):
            work(number)

    return whole


def _encryption(buffers: _Buffers) -> Parts:
    """In an order in which each direction leaves in the records what the one back needs."""
    raw, nonce = AESGCM(secrets.token_bytes(32)), secrets.token_bytes(12)
    cipher = ChunkCipher(secrets.token_bytes(32), secrets.token_bytes(16))
    chunk_set = cipher.chunk_set
    nonces = secrets.token_bytes(NONCE_SIZE * buffers.count)

    def raw_encrypt(_number: int) -> None:
        for chunk, sealed in zip(buffers.chunks, buffers.sealed, strict=True):
            raw.encrypt_into(nonce, chunk, b"", sealed)

    def raw_decrypt(_number: int) -> None:
        for sealed, chunk in zip(buffers.sealed, buffers.chunks_back, strict=True):
            raw.decrypt_into(nonce, sealed, b"", chunk)

    def decrypt(_number: int) -> None:
        cipher.decrypt_run(0, buffers.records, buffers.stride, buffers.back)

    return {
        "chunks encrypt": _each(
            lambda _number: cipher.encrypt_run(0, buffers.chunks, buffers.records)
        ),
        "chunks decrypt": _each(decrypt),
        "raw encrypt": _each(raw_encrypt),
        "raw decrypt": _each(raw_decrypt),
        "chunk set": _each(lambda number: chunk_set.digest(number, nonces)),
    }


def _geometry(chunk_size: int) -> Parts:
    geometry = Geometry(chunk_size)
    size = REQUEST * REQUESTS

    def locate(number: int) -> None:
        offset = number * REQUEST
        first, end = offset // chunk_size, -(-(offset + REQUEST) // chunk_size)
        geometry.chunk_count(size)
        geometry.record_offset(first)
        geometry.run_length(first, end, size)

    return {"geometry": _each(locate)}


def _backing(folder: str, buffers: _Buffers, tidy: Parts) -> Parts:
    backing = Backing()
    root = backing.open_root(folder)
    descriptor = backing.create_file(root, "backing", 0o600)
    fresh = backing.create_file(root, "fresh", 0o600)
    sealed = backing.create_file(root, "sealed", 0o600)
    file = SealedFile.create(backing, sealed, _Lease(), Session(), buffers.chunk_size, (bytes(16),))
    length = len(buffers.records)

    def write(number: int) -> None:
        backing.write(descriptor, [buffers.records], number * length)

    def write_fresh(number: int) -> None:
        backing.write(fresh, [buffers.records], number * length)

    def read(number: int) -> None:
        backing.read_into(descriptor, buffers.records, number * length)

    def seal(_number: int) -> None:
        file.state.dirty = True
        file.seal()

    tidy["backing new"] = lambda: backing.truncate(fresh, 0)
    return {
        "backing write": _each(write),
        "backing new": _each(write_fresh),
        "backing read": _each(read),
        "seal": _each(seal),
    }


def _whole(unmounted: Unmounted, buffers: _Buffers, tidy: Parts) -> Parts:
    filesystem, caller = unmounted.filesystem, unmounted.caller

    def write_all(handle: int) -> None:
        for number in range(REQUESTS):
            filesystem.write(handle, number * REQUEST, buffers.content)

    def make(name: bytes) -> tuple[int, int]:
        made, handle = filesystem.create(ROOT, name, 0o600, os.O_RDWR, caller)
        write_all(handle)
        filesystem.flush(handle)
        return made.number, handle

    _number, kept = make(b"kept")

    def new() -> None:
        _number, handle = make(b"new")
        filesystem.release(handle)

    def write() -> None:
        write_all(kept)
        filesystem.flush(kept)

    def read() -> None:
        for number in range(REQUESTS):
            filesystem.read(kept, number * REQUEST, REQUEST)

    def remove_new() -> None:
        number = filesystem.lookup(ROOT, b"new").number
        filesystem.unlink(ROOT, b"new")
        filesystem.forget(number, 2)
        unmounted.checkpoint()

    tidy |= {"file new": remove_new, "file write": unmounted.checkpoint}
    return {"file new": new, "file write": write, "file read": read}


@contextmanager
def _store(parent: str | None, chunk_size: int) -> Iterator[tuple[str, Unmounted]]:
    with tempfile.TemporaryDirectory(dir=parent, prefix="ckfs-bench-") as folder:
        with new_store(folder, chunk_size=chunk_size) as unmounted:
            yield folder, unmounted


def _measure_one(parent: str | None, chunk_size: int, rounds: int) -> HotPathRow:
    with _store(parent, chunk_size) as (folder, unmounted):
        buffers = _Buffers(chunk_size)
        tidy: Parts = {}
        works = {
            **_encryption(buffers),
            **_geometry(chunk_size),
            **_backing(folder, buffers, tidy),
            **_whole(unmounted, buffers, tidy),
        }
        taken: dict[str, list[float]] = {part: [] for part in works}
        for number in range(rounds + 1):
            for part, work in works.items():
                seconds = cpu_seconds(work)
                if part in tidy:
                    tidy[part]()
                if number:  # the first warms caches, buffers and pages
                    taken[part].append(seconds * 1e6 * (1 << 20) / (REQUEST * REQUESTS))
    return HotPathRow(chunk_size=chunk_size, microseconds=taken)


def measure(folder: Path | None, rounds: int) -> HotPathRun:
    """All chunk sizes; says on standard error which one it is at."""
    parent = str(folder) if folder else memory_folder()
    begun, version = machine(), commit()
    rows = []
    for chunk_size in CHUNK_SIZES:
        print(f"chunks of {chunk_size >> 10} KiB ...", file=sys.stderr, flush=True)
        with settled():
            rows.append(_measure_one(parent, chunk_size, rounds))
    return HotPathRun(
        date=now(),
        commit=version,
        machine=begun,
        place=f"In process, no mount, on {parent or tempfile.gettempdir()}",
        request=REQUEST,
        rounds=rounds,
        rows=rows,
    )


def run(folder: Path | None, *, rounds: int, json_file: Path | None, append: bool) -> None:
    """Measure, write, report."""
    measured = measure(folder, rounds)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    report.present([measured], append=append)

"""The hot crypto path in process: a file's content written and read through openfile.py.

For each chunk size, in one run and alternated: AES-256-GCM called in a loop on the same buffers
(100 %), the chunk records alone, and the whole path with geometry, chunk set and backing file.
Raw and whole work on the same bytes, so a row's percentage is what the driver adds.
"""

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from statistics import median

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from fsdriver.backing import Backing
from fsdriver.buffers import Buffers
from fsdriver.format.chunk import ChunkCipher
from fsdriver.format.geometry import RECORD_OVERHEAD, TAG_SIZE
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session

CHUNK_SIZES = (4096, 16384, 65536, 131072, 1048576)
REQUEST = 1 << 20
REQUESTS = 64

Row = dict[str, float]


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


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _measure(chunk_size: int, folder: str, rounds: int) -> Row:
    data = memoryview(secrets.token_bytes(REQUEST))
    pieces = [data[at : at + chunk_size] for at in range(0, REQUEST, chunk_size)]
    out = memoryview(bytearray(len(pieces) * (chunk_size + RECORD_OVERHEAD)))
    back = memoryview(bytearray(REQUEST))
    stride = chunk_size + RECORD_OVERHEAD
    raw, nonce = AESGCM(secrets.token_bytes(32)), secrets.token_bytes(12)
    sealed = [bytearray(chunk_size + TAG_SIZE) for _ in pieces]
    cipher = ChunkCipher(secrets.token_bytes(32), secrets.token_bytes(16))
    backing = Backing()

    def raw_encrypt() -> None:
        for _ in range(REQUESTS):
            for piece, place in zip(pieces, sealed, strict=True):
                raw.encrypt_into(nonce, piece, b"", place)

    def raw_decrypt() -> None:
        for _ in range(REQUESTS):
            for piece, place in zip(sealed, range(0, REQUEST, chunk_size), strict=True):
                raw.decrypt_into(nonce, piece, b"", back[place : place + chunk_size])

    def chunks_encrypt() -> None:
        for number in range(REQUESTS):
            cipher.encrypt_run(number * len(pieces), pieces, out)

    def chunks_decrypt() -> None:
        for _ in range(REQUESTS):
            cipher.decrypt_run((REQUESTS - 1) * len(pieces), out, stride, back)

    descriptor = backing.create_file(backing.open_root(folder), f"bench-{chunk_size}", 0o600)
    file = SealedFile.create(backing, descriptor, _Lease(), Session(), chunk_size, (bytes(16),))
    content = OpenFile(file, Buffers(), vetted=True)

    def file_write() -> None:
        for number in range(REQUESTS):
            content.write(number * REQUEST, data)

    def file_read() -> None:
        for number in range(REQUESTS):
            content.read(number * REQUEST, REQUEST)

    works = {
        "raw_encrypt": raw_encrypt,
        "chunks_encrypt": chunks_encrypt,
        "file_write": file_write,
        "raw_decrypt": raw_decrypt,
        "chunks_decrypt": chunks_decrypt,
        "file_read": file_read,
    }
    for work in works.values():
        work()  # warms caches, buffers and the backing file's pages
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_seconds(work))
    backing.close(descriptor)
    os.unlink(os.path.join(folder, f"bench-{chunk_size}"))
    total = REQUEST * REQUESTS / 1e9
    return {name: total / median(taken) for name, taken in times.items()}


def run(folder: str | None, *, rounds: int, as_json: bool = False) -> dict[int, Row]:
    """Print GB/s and percent of raw AES-256-GCM for each chunk size; also returned."""
    parent = folder or ("/dev/shm" if os.path.isdir("/dev/shm") else None)  # noqa: S108 a tmpfs
    results: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(dir=parent, prefix="ckfs-bench-") as place:
        if not as_json:
            print(f"{REQUESTS} requests of 1 MiB a round, {rounds} rounds, medians, on {place}")
            print("GB/s, and % of AES-256-GCM called in a loop on the same buffers")
            print(
                f"{'chunk':>8} | {'raw enc':>8} {'chunks':>13} {'file write':>13}"
                f" | {'raw dec':>8} {'chunks':>13} {'file read':>13}"
            )
        for chunk_size in CHUNK_SIZES:
            row = results[chunk_size] = _measure(chunk_size, place, rounds)
            if not as_json:
                print(_line(chunk_size, row), flush=True)
    if as_json:
        print(json.dumps(results, indent=2))
    return results


def _line(chunk_size: int, row: Row) -> str:
    def cell(name: str, raw: str) -> str:
        return f"{row[name]:6.2f} ({row[name] / row[raw] * 100:3.0f}%)"

    return (
        f"{chunk_size // 1024:>4} KiB | {row['raw_encrypt']:8.2f} "
        f"{cell('chunks_encrypt', 'raw_encrypt'):>13} {cell('file_write', 'raw_encrypt'):>13}"
        f" | {row['raw_decrypt']:8.2f} {cell('chunks_decrypt', 'raw_decrypt'):>13} "
        f"{cell('file_read', 'raw_decrypt'):>13}"
    )

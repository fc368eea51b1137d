"""A file that is read in parts while it changes: never condemned for its own changes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsdriver.buffers import Buffers
from fsdriver.errors import ChunkSetMismatch
from fsdriver.openfile import OpenFile
from tests.fsdriver.bench import SIZE, STRIDE, Bench

CHUNKS = 3
CONTENT = bytes(range(256)) * (CHUNKS * SIZE // 256)


def opened(bench):
    """By somebody who has seen nothing of it yet."""
    first = bench.mount.create()
    first.write(0, CONTENT)
    first.write(0, b"begun")
    first.write(0, CONTENT[:SIZE])
    bench.mount.settle()
    return OpenFile(bench.mount.sealed(), Buffers())


def test_a_fold_between_the_first_chunk_that_is_seen_and_the_last(bench):
    content = opened(bench)
    content.write(0, b"the file's first write")
    for index in range(1, CHUNKS - 1):
        content.write(index * SIZE + 7, b"small")
    bench.mount.fold()
    content.write((CHUNKS - 1) * SIZE + 7, b"small")
    content.read((CHUNKS - 1) * SIZE, 10)
    bench.mount.fold()
    content.forget()
    for index in range(CHUNKS):
        content.read(index * SIZE, SIZE - 1)
    assert content.vetted


def test_what_was_put_back_is_found_after_a_fold_all_the_same(bench):
    content = opened(bench)
    path = bench.mount.store / "file"
    old = path.read_bytes()
    at = 512 + STRIDE
    content.write(0, b"the file's first write")
    content.write(SIZE + 7, b"small")
    content.forget()
    bench.mount.settle()
    content.read(0, 10)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(old[at : at + STRIDE])
    content.forget()
    for index in range(CHUNKS - 1):
        content.read(index * SIZE, SIZE - 1)
    with pytest.raises(ChunkSetMismatch):
        content.read((CHUNKS - 1) * SIZE, SIZE - 1)


_IN_CHUNK = st.integers(0, CHUNKS - 1).map(lambda index: index * SIZE + 7)
OFTEN = st.one_of(
    st.tuples(st.just("read"), _IN_CHUNK, st.just(10)),
    st.tuples(st.just("write"), _IN_CHUNK, st.just(10)),
    st.tuples(st.sampled_from(["fold", "forget"]), st.just(0), st.just(0)),
)
SELDOM = st.one_of(
    st.tuples(st.just("read"), st.integers(0, CHUNKS * SIZE), st.integers(1, 3 * SIZE)),
    st.tuples(st.just("write"), st.integers(0, CHUNKS * SIZE), st.integers(1, 3 * SIZE)),
    st.tuples(st.just("truncate"), st.integers(0, CHUNKS * SIZE), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.just(0)),
)
STEPS = st.lists(st.one_of(OFTEN, OFTEN, OFTEN, SELDOM), max_size=40)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_whatever_is_done_to_it(steps):
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            content, model = opened(bench), bytearray(CONTENT)
            content.write(0, b"x")  # a file's first write is no delta
            model[0:1] = b"x"
            for what, where, length in steps:
                if what == "read":
                    assert bytes(content.read(where, length)) == model[where : where + length]
                elif what == "write":
                    data = bytes([length % 251]) * length
                    content.write(where, data)
                    model.extend(bytes(max(0, where - len(model))))
                    model[where : where + length] = data
                elif what == "truncate":
                    content.truncate(where)
                    model = model[:where].ljust(where, b"\0")
                elif what == "forget":
                    content.forget()
                else:
                    getattr(bench.mount, what)()
            for index in range(len(model) // SIZE + 1):
                start = index * SIZE
                assert bytes(content.read(start, SIZE)) == model[start : start + SIZE]
            content.close()
        finally:
            bench.close()

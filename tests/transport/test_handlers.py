"""Requests that no kernel sends: each is refused or answered, and nothing grows."""

from __future__ import annotations

import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsdriver.transport import protocol
from fsdriver.transport.protocol import Opcode
from fsdriver.transport.requests import _RELEASED_AT_MOST
from tests.transport.fakekernel import HEADER, dispatch

OPCODES = st.sampled_from([int(one) for one in Opcode]) | st.integers(0, 2**32 - 1)
NUMBERS = st.sampled_from((0, 1, 2, 1 << 48, (1 << 62) + 1)) | st.integers(0, 2**64 - 1)
WORDS = st.lists(
    st.sampled_from((0, 1, 2, 40, 0xFFFF, 2**31, 2**32 - 1)) | st.integers(0, 300), max_size=14
)
NAMES = st.sampled_from((b"", b"name\0", b"a\0b\0", b"\0", b"\0\0", b"x/y\0", b"..\0", b"\xff\0"))
BODIES = st.binary(max_size=120) | st.tuples(WORDS, NAMES).map(
    lambda one: b"".join(word.to_bytes(4, "little") for word in one[0]) + one[1]
)
LONGEST = 1 << 21


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=st.lists(st.tuples(OPCODES, NUMBERS, BODIES), min_size=1, max_size=8))
def test_malformed_requests_are_answered_and_leave_nothing(kernel, driver, requests):
    transport, tree = kernel.transport, driver.tree
    with transport.exclusive():
        for opcode, number, body in requests:
            before = len(tree.inodes), len(driver.fs._handles)
            answer = dispatch(transport, opcode, number, 0, body)
            if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
                assert answer is None
                continue
            assert answer is not None
            parts = [answer] if isinstance(answer, bytes) else answer
            whole = b"".join(parts)
            assert len(whole) <= LONGEST
            length, code, unique = protocol.OUT_HEADER.unpack_from(whole)
            assert (length, unique) == (len(whole), 7)
            assert -protocol.LARGEST_ERROR <= code <= 0
            after = len(tree.inodes), len(driver.fs._handles)
            if code:
                assert after <= before, "what was refused has left something"
            else:
                assert after[0] <= before[0] + 1
                assert after[1] <= before[1] + 1
            assert len(transport._requests._released) <= _RELEASED_AT_MOST + 1
    assert kernel.alive


def test_many_closes_without_a_pause_are_given_back(kernel, driver):
    requests = kernel.transport._requests
    with kernel.transport.exclusive():
        for _time in range(4 * _RELEASED_AT_MOST):
            code, body = 0, requests.opendir(1, 1, memoryview(bytes(8)), 0, 0)
            handle = protocol._OPEN.unpack(body)[3]
            requests.release(1, 1, memoryview(handle.to_bytes(8, "little") + bytes(16)), 0, 0)
            assert not code
        assert len(driver.fs._handles) <= _RELEASED_AT_MOST + 2
        while requests._released:
            assert requests.idle()
        assert not driver.fs._handles


def test_the_largest_request_fits_the_buffer(kernel):
    """A name, a value and a write as long as the kernel may send them, with their headers."""
    from fsdriver.transport import wire  # noqa: PLC0415

    largest = HEADER + protocol.WRITE_IN.size + wire.MAX_WRITE
    assert largest <= wire._BUFFER
    assert HEADER + protocol.SETXATTR_IN.size + 65536 + 256 <= wire._BUFFER
    assert threading.active_count() < 40

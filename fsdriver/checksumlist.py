"""Lists of checksums as coreutils writes them: `sha256sum`, `b2sum` and their like. Pure.

Both forms: `DIGEST  NAME`, with a `*` for binary mode and a backslash in front where the name has
escapes, and `ALGORITHM (NAME) = DIGEST` of `--tag`.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes

from fsdriver.errors import WrongArguments

ALGORITHMS: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "blake2b": hashes.BLAKE2b(64),
}
_BY_DIGITS: Final = {56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_LINE: Final = re.compile(rb"(\\?)([0-9A-Fa-f]{8,128}) [ *](.+)", re.DOTALL)
_TAGGED: Final = re.compile(rb"(\\?)([A-Za-z0-9-]+) \((.+)\) = ([0-9A-Fa-f]+)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.?)", re.DOTALL)
_ESCAPED: Final = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


class Checksum(NamedTuple):
    """One line of a list."""

    name: bytes
    algorithm: str
    digest: bytes


def parse(content: bytes, algorithm: str | None = None) -> Iterator[Checksum]:
    """Each line of a list. `algorithm` is for digests whose length does not tell: b2sum's.

    Raises WrongArguments, with the number of the line, for what is none.
    """
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.removesuffix(b"\r")  # noqa: PLW2901 of a list that went through Windows
        if line:
            try:
                yield _parse_line(line, algorithm)
            except ValueError as error:
                raise WrongArguments(
                    f"line {number} of the list is no checksum ({error}); a list is what "
                    "`sha256sum` or `b2sum` write"
                ) from None


def _parse_line(line: bytes, given: str | None) -> Checksum:
    tagged = _TAGGED.fullmatch(line)
    plain = _LINE.fullmatch(line)
    if tagged:
        escaped, label, name, digits = tagged.groups()
        algorithm = label.decode().lower().replace("-", "")
    elif plain:
        escaped, digits, name = plain.groups()
        algorithm = given or _BY_DIGITS.get(len(digits), "")
    else:
        raise ValueError("it has not the form DIGEST  NAME")
    hashed = ALGORITHMS.get(algorithm)
    if hashed is None or len(digits) != 2 * hashed.digest_size:
        raise ValueError(f"{len(digits)} digits of {algorithm or 'an algorithm that is not known'}")
    if escaped:
        name = _ESCAPE.sub(_unescape, name)
    return Checksum(name, algorithm, bytes.fromhex(digits.decode()))


def _unescape(found: re.Match[bytes]) -> bytes:
    if found[1] not in _ESCAPED:
        raise ValueError("an escape in the name that coreutils do not write")
    return _ESCAPED[found[1]]

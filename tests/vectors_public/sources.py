"""Readers of other people's test vectors: NIST's and RFCs' of cryptography-vectors, Wycheproof's.

NIST's come with `make install`, so a missing file is an error. Wycheproof's lie beside the
checkout; a test says so where they do not.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import cryptography_vectors
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NIST = pathlib.Path(cryptography_vectors.__file__).parent
WYCHEPROOF = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data" / "wycheproof"
_SECTION = re.compile(r"\[(.*)\]")
_LABEL = re.compile(r"#\s*(.*?)\s*:\s*$")
_NUMBER = re.compile(r"[0-9a-fA-F ]+")


class RsaCase(NamedTuple):
    """An RSA key's numbers by the names of PKCS #1's vectors, a message and its ciphertext."""

    numbers: dict[str, int]
    message: bytes
    encrypted: bytes


def wycheproof(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, case) of one file; skips without the folder."""
    if not WYCHEPROOF.is_dir():
        pytest.skip("the shared test data beside the checkout is missing")
    for group in json.loads((WYCHEPROOF / name).read_text())["testGroups"]:
        for case in group["tests"]:
            yield group, case


def records(path: str) -> Iterator[dict[str, str]]:
    """Records of `name = value` lines, in lower case, with those of the sections they stand in.

    A line without a value, such as FAIL, has an empty one.
    """
    sections: dict[str, str] = {}
    record: dict[str, str] = {}
    new_section = True
    for raw in [*(NIST / path).read_text().splitlines(), ""]:
        line = raw.strip()
        if record and (not line or line.startswith("[") or line.lower().startswith("count")):
            yield {**sections, **record}
            record, new_section = {}, True
        if line.startswith("#") or not line:
            continue
        if section := _SECTION.fullmatch(line):
            if new_section:
                # Sections that follow each other belong together; after records a new set begins.
                sections, new_section = _carried(sections, section[1]), False
            name, _equals, value = section[1].partition("=")
            sections[name.strip().lower()] = value.strip()
        else:
            name, _equals, value = line.partition("=")
            record[name.strip().lower()] = value.strip()


def _carried(sections: dict[str, str], first: str) -> dict[str, str]:
    """A file that repeats all its sections begins anew; one that repeats the last keeps others."""
    return dict(sections) if "=" in first else {}


def rsa_cases(path: str) -> Iterator[RsaCase]:
    """Of the files in PKCS #1's own form: '# Name:' and hexadecimal lines below it."""
    numbers: dict[str, int] = {}
    label, digits, message = "", "", b""
    for raw in [*(NIST / path).read_text().splitlines(), "# End:"]:
        line = raw.strip()
        if line.startswith("#"):
            if label == "Message":
                message = bytes.fromhex(digits)
            elif label == "Encryption":
                yield RsaCase(dict(numbers), message, bytes.fromhex(digits))
            elif label and digits:
                numbers[label] = int(digits, 16)
            found = _LABEL.fullmatch(line)
            label, digits = (found[1] if found else ""), ""
        elif label and _NUMBER.fullmatch(line):
            digits += line.replace(" ", "")

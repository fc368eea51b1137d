"""FORMAT.md against the code: the numbers that both of them say."""

import json
import pathlib
import re

from fsdriver import (
    checkpoint,
    contentdb,
    contentdb_document,
    contentdb_file,
    errors,
    extentpages,
    journal,
    quarantine,
)
from fsdriver.format import directory, header, names
from fsdriver.format import journal as journal_format
from fsdriver.format.directory import DirectoryRecord
from fsdriver.format.extents import ExtentMap
from fsdriver.format.geometry import HEADER_SIZE, Geometry
from fsdriver.format.header import ClearHeader, ExtentPage, SealedState
from fsdriver.format.journal import Draft, JournalCipher, JournalHead, Transaction
from tests.fsdriver import test_tampering

ROOT = pathlib.Path(__file__).parents[2]
SPEC = (ROOT / "fsdriver" / "FORMAT.md").read_text()


def section(title: str) -> str:
    """The text of one section, up to the next heading of any level."""
    found = re.search(
        rf"^##+ {re.escape(title)}.*?\n(.*?)(?=^##+ |\Z)", SPEC, re.MULTILINE | re.DOTALL
    )
    assert found, f"FORMAT.md has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but the headings and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] and not set(row[0]) <= {"-", " "}]


def layout(text: str) -> list[tuple[int, int]]:
    return [
        (int(row[0]), int(row[1])) for row in rows(text) if row[0].isdigit() and row[1].isdigit()
    ]


def test_the_tables_have_no_gaps_and_the_sizes_of_the_code():
    for title, size in (
        ("3.1", header.CLEAR_SIZE),
        ("3.2", header.SEALED_SIZE),
        ("6.3", 36),
        ("11.2", journal_format.HEAD_SIZE),
        ("12.2", contentdb_document.HEAD_SIZE),
    ):
        table = layout(section(title))
        at = 0
        for offset, length in table:
            assert offset == at, f"section {title} has a gap before {offset}"
            at += length
        assert at == size
    frame = layout(section("11.3"))
    assert [offset for offset, _length in frame[:10]] == [0, 4, 8, 16, 24, 40, 48, 56, 64, 76]
    assert frame[7][0] + frame[7][1] == journal_format.FRAME_HEAD
    assert frame[8:10] == [(64, 12), (76, HEADER_SIZE)]
    assert frame[10:] == [(0, 8), (8, 4)]
    assert journal_format.size_of([(0, 0)]) - journal_format.size_of([]) == 12
    assert journal_format.size_of([]) == 64 + 12 + 512 + 16
    symlink = layout(section("9."))
    assert symlink[0] == (0, 1)
    assert symlink[1:] == [(0, 1), (1, names.SYMLINK_BINDINGS * names.BINDING_SIZE)]
    clear, plaintext = layout(section("8."))[:8], layout(section("8."))[8:]
    assert sum(length for _offset, length in clear) == directory.RECORD_SIZE == 104
    assert sum(length for _offset, length in plaintext) == 48


def test_every_field_of_the_sealed_part_is_where_the_table_has_it():
    """A state with one field set differs from an empty one inside that field and the flags."""
    fields = {
        row[2]: range(int(row[0]), int(row[0]) + int(row[1]))
        for row in rows(section("3.2"))
        if len(row) == 4 and row[0].isdigit()
    }
    page = (ExtentPage(1, bytes(24), 1),)
    states = {
        ("size",): SealedState(size=(1 << 64) - 1),
        ("generation",): SealedState(generation=(1 << 64) - 1),
        ("flags",): SealedState(dirty=True, unbound=True),
        ("bindings", "names"): SealedState(bindings=(b"\xff" * 16,) * 4),
        ("chunk set",): SealedState(chunk_set=(1 << 128) - 1),
        ("session",): SealedState(session=b"\xff" * 16),
        ("content digest", "flags"): SealedState(content_digest=b"\xff" * 32),
        ("map", "map length", "flags"): SealedState(extents=b"\xff" * header.MAP_SIZE),
        ("pages", "map", "flags"): SealedState(extent_pages=page),
    }
    empty = SealedState().pack()
    for changing, state in states.items():
        packed = state.pack()
        changed = {at for at in range(len(packed)) if packed[at] != empty[at]}
        allowed = {at for name in changing for at in fields[name]}
        assert changed
        assert changed <= allowed, changing


def test_the_worked_totals():
    geometry = Geometry(65536)
    totals = {"1 GiB": 1 << 30}
    tested = 0
    for row in rows(section("4.1"))[1:]:
        size = totals.get(row[0]) or int(row[0])
        assert geometry.chunk_count(size) == int(row[1])
        assert geometry.ciphertext_size(size) == int(row[2])
        tested += 1
    assert tested == 6
    assert geometry.ciphertext_size(1048581) == 1049773
    assert geometry.record_offset(16) == 1049728
    extents = ExtentMap([0, 1, 16, 17])
    assert "`00 01 0f 01`" in section("4.1")
    assert extents.pack().hex(" ") == "00 01 0f 01"


def test_every_field_of_a_journal_is_where_the_table_has_it():
    """One field is set at a time; what differs from zeros is inside it."""
    fields = {
        row[2]: range(int(row[0]), int(row[0]) + int(row[1]))
        for row in rows(section("11.2"))
        if row[0].isdigit()
    }
    cipher = JournalCipher(bytes(32), JournalHead(0, bytes(16), bytes(32)))
    empty = cipher.sealed_head()[:64]
    for name, head in {
        "epoch": JournalHead((1 << 64) - 1, bytes(16), bytes(32)),
        "session": JournalHead(0, b"\xff" * 16, bytes(32)),
        "salt": JournalHead(0, bytes(16), b"\xff" * 32),
    }.items():
        packed = head.pack()
        assert {at for at in range(64) if packed[at] != empty[at]} == set(fields[name])
    assert empty[:8].hex(" ") == "43 4b 46 4a 01 01 00 00"
    assert "`43 4b 46 4a`" in section("11.2")

    def frame(sequence: int = 0, nonce: bytes | None = bytes(12), **changed: int | bytes) -> bytes:
        nothing = Transaction(bytes(16), 0, 0, 0, bytes(512))
        buffer = memoryview(bytearray(journal_format.size_of([])))
        Draft(buffer, []).finish(cipher, sequence, nothing._replace(**changed), nonce=nonce)
        return bytes(buffer[:-16])

    fields = {
        row[2]: range(int(row[0]), int(row[0]) + int(row[1]))
        for row in rows(section("11.3"))
        if len(row) == 4 and row[0].isdigit()
    }
    full, empty = (1 << 64) - 1, frame()
    for name, raw in {
        "number": frame(sequence=full),
        "nonce": frame(nonce=b"\xff" * 12),
        "file id": frame(file_id=b"\xff" * 16),
        "inode": frame(inode=full),
        "cut": frame(cut=journal_format.NO_CUT),
        "final length": frame(length=full),
        "header": frame(header=b"\xff" * 512),
    }.items():
        changed = {at for at in range(len(raw)) if raw[at] != empty[at]}
        assert changed == set(fields[name]), name
    assert empty[:4].hex(" ") == "43 4b 4a 54"
    assert "`43 4b 4a 54`" in section("11.3")
    assert frame(cut=journal_format.NO_CUT)[48:56] == bytes.fromhex("ff" * 8)
    drawn = {frame(nonce=None)[64:76] for _ in range(8)}
    assert len(drawn) == 8
    assert bytes(12) not in drawn


def test_the_journals_figures():
    checkpoints, limits = section("11.5"), section("15.")
    for number in (
        checkpoint.JOURNAL_LIMIT,
        checkpoint.OWED_LIMIT,
        checkpoint.FILES_LIMIT,
        int(checkpoint.SECONDS),
    ):
        assert re.search(rf"\b{number}\b", checkpoints), number
        assert re.search(rf"\b{number}\b", limits), number
    for number in (journal_format.FRAME_LIMIT, journal.RESERVE, contentdb.ENTRIES_HELD):
        assert re.search(rf"\b{number}\b", limits), number
    assert f"at most {journal_format.FRAME_LIMIT} " in section("11.3")
    assert f"the {extentpages._FILLED_AT_ONCE} smallest holes" in section("6.3")
    held = 2 * (checkpoint.JOURNAL_LIMIT + checkpoint.OWED_LIMIT)
    assert f"{held} bytes answers to writes wait" in limits
    places = [f"`{journal.FOLDER}/{name}`" for name in journal.FILES]
    assert all(place in section("1.") for place in places)
    assert f"`{quarantine.FOLDER}/<time>/`" in section("1.")
    assert f"`{quarantine.MANIFEST}`" in section("1.")


def test_the_content_databases_tables():
    described = {row[0].strip("`"): row[1].split(", ") for row in rows(section("12.1"))[1:]}
    assert f"0x{contentdb_file._APPLICATION:x}" in section("12.1")
    made = {
        table: re.findall(r"(\w+) (?:BLOB|INTEGER) NOT NULL", statement)
        for table, statement in contentdb_file.TABLES.items()
    }
    assert described == made
    assert f"`{contentdb_file.FILE_NAME}`" in section("12.1")
    exported = section("12.2")
    table = {row[2]: row[3] for row in rows(exported) if len(row) == 4 and row[0].isdigit()}
    assert int(table["record type"]) == contentdb_document.RECORD_TYPE
    assert tuple(table["numbers of rows"].split(": ")[1].split(", ")) == contentdb_document.TABLES
    sizes = {
        row[0]: sum(int(number) for number in re.findall(r" (\d+)\b", row[1]))
        for row in rows(exported)
        if row[0] in contentdb_document.TABLES
    }
    policy, numbered, entry = (
        contentdb_document._POLICY.size,
        contentdb_document._NUMBERED.size,
        contentdb_document._ENTRY.size,
    )
    assert sizes == {"policies": policy, "folders": numbered, "entries": entry, "objects": numbered}
    assert f"{contentdb_document.MAC_SIZE} bytes of HMAC-SHA-256" in exported


def test_the_limits():
    numbers = section("15.")
    for chunk_size, size, length in (
        (65536, 9217745971198526175, (1 << 63) - 1),
        (65536, 17581455171168, (1 << 44) - 4096),
    ):
        geometry = Geometry(chunk_size)
        assert str(size) in numbers
        assert geometry.ciphertext_size(size) <= length < geometry.ciphertext_size(size + 1)
    assert header.MAP_SIZE // 2 == 102
    assert "at least 102 if" in numbers
    assert f"| {header.MAP_SIZE} bytes, two numbers a run |" in numbers
    assert f"at most {header.MAP_SIZE} bytes lies in the header" in section("6.2")
    longest = 4095 * 3 // 4 - names.SYMLINK_OVERHEAD
    assert f"| symlink target | {longest} bytes |" in numbers
    assert f"so {1024 * 3 // 4 - names.SYMLINK_OVERHEAD})" in numbers
    assert header.MAP_PAGES * 65536 // 2 == 163840
    assert "163840" in numbers


def test_the_examples_of_packed_maps():
    tested = 0
    for row in rows(section("6.2")):
        runs = re.findall(r"\[(\d+), (\d+)\)", row[0])
        if runs:
            borders = [int(number) for run in runs for number in run]
            assert ExtentMap(borders).pack().hex(" ") == row[1].strip("`")
            tested += 1
    assert tested == 3


def test_every_section_that_the_code_names_is_there():
    named = set()
    for module in [*(ROOT / "fsdriver").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for numbers in re.findall(r"FORMAT\.md (?:sections? )?([\d., andto]+)", module.read_text()):
            named |= set(re.findall(r"\d+(?:\.\d+)?", numbers))
    assert len(named) >= 10
    headings = set(re.findall(r"^## (\d+)\. ", SPEC, re.MULTILINE))
    inner = set(re.findall(r"^### (\d+\.\d+) ", SPEC, re.MULTILINE))
    meant = set(re.findall(r"\((\d+\.\d+)\)", SPEC.partition("## 13.")[0]))
    assert len(meant) >= 10
    assert meant <= inner
    assert named <= headings | inner
    assert named & inner
    assert headings == {str(number) for number in range(1, 19)}


def test_attacks_that_are_not_found_are_said_to_be_so():
    table = rows(section("13.3"))[1:]
    missing = [row for row in table if "**not found" in row[2]]
    assert len(missing) >= 10
    assert [row[0] for row in table] == [str(number) for number in range(1, 37)]
    for row in table:
        kinds = [kind for kind in row[4].split(", ") if kind]
        assert all(issubclass(getattr(errors, kind), errors.CkfsError) for kind in kinds), row
        assert kinds or row in missing, row
    tests = [name for name in vars(test_tampering) if name.startswith("test_not_found")]
    assert len(tests) >= 8


def test_versions_and_constants():
    assert header.FORMAT_VERSION == header.READER_VERSION == 1
    clear = ClearHeader(4096, 1, bytes(16), bytes(16), bytes(48), bytes(32)).pack()
    assert clear[:8].hex(" ") == "43 4b 46 53 01 01 01 00"
    assert "`43 4b 46 53`" in section("3.1")
    assert len(DirectoryRecord._fields) == 4
    vectors = json.loads((ROOT / "tests" / "vectors" / "format.json").read_text())
    refusals = {case["error"] for kind in vectors for case in vectors[kind] if "error" in case}
    assert refusals
    assert all(name in section("13.2") for name in refusals)

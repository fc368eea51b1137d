"""The protocol's structures and numbers against the system's own linux/fuse.h, by a C compiler."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from fsdriver.transport import protocol
from fsdriver.transport.protocol import InitFlag, Opcode

HEADER = Path("/usr/include/linux/fuse.h")
OUT = protocol.OUT_HEADER.size
ATTR = [
    "ino", "size", "blocks", "atime", "mtime", "ctime", "atimensec", "mtimensec", "ctimensec",
    "mode", "nlink", "uid", "gid", "rdev", "blksize", "flags",
]  # fmt: skip
ENTRY = [
    "nodeid", "generation", "entry_valid", "attr_valid", "entry_valid_nsec", "attr_valid_nsec",
]  # fmt: skip
STATX = [
    "mask", "blksize", "attributes", "nlink", "uid", "gid", "mode", "ino", "size", "blocks",
    "attributes_mask",
    *(f"{time}time.tv_{part}sec" for time in "abcm" for part in ("", "n")),
    "rdev_major", "rdev_minor", "dev_major", "dev_minor",
]  # fmt: skip


def of(prefix: str, fields: list[str]) -> list[str]:
    return [f"{prefix}.{field}" for field in fields]


SENT = {
    "fuse_init_out": (
        protocol._INIT_OUT, 0,
        [
            "major", "minor", "max_readahead", "flags", "max_background", "congestion_threshold",
            "max_write", "time_gran", "max_pages", "map_alignment", "flags2", "max_stack_depth",
            "request_timeout",
        ],
    ),
    "fuse_entry_out": (protocol._ENTRY, OUT, ENTRY + of("attr", ATTR)),
    "fuse_attr_out": (protocol._ATTR, OUT, ["attr_valid", "attr_valid_nsec", *of("attr", ATTR)]),
    "fuse_open_out": (protocol._OPEN, OUT, ["fh", "open_flags"]),
    "fuse_write_out": (protocol._WRITTEN, OUT, ["size"]),
    "fuse_getxattr_out": (protocol._WRITTEN, OUT, ["size"]),
    "fuse_lseek_out": (protocol._NUMBER, OUT, ["offset"]),
    "fuse_statfs_out": (
        protocol._STATFS, OUT,
        of("st", ["blocks", "bfree", "bavail", "files", "ffree", "bsize", "namelen", "frsize",
                  "padding"]),
    ),
    "fuse_statx_out": (
        protocol._STATX, OUT, ["attr_valid", "attr_valid_nsec", *of("stat", STATX)],
    ),
    "fuse_dirent": (protocol._DIRENT, 0, ["ino", "off", "namelen", "type"]),
    "fuse_direntplus": (
        protocol._DIRENTPLUS, 0,
        of("entry_out", ENTRY + of("attr", ATTR))
        + of("dirent", ["ino", "off", "namelen", "type"]),
    ),
    "fuse_notify_inval_inode_out": (protocol._INVAL_INODE, OUT, ["ino", "off", "len"]),
    "fuse_notify_inval_entry_out": (protocol._INVAL_ENTRY, OUT, ["parent", "namelen", "flags"]),
    "fuse_out_header": (protocol.OUT_HEADER, 0, ["len", "error", "unique"]),
}  # fmt: skip
"""Structure: how it is packed, behind how much of a header, and the fields in the order packed."""

READ = {
    "fuse_in_header": (protocol.IN_HEADER, ["len", "opcode", "unique", "nodeid", "uid", "gid"]),
    "fuse_init_in": (protocol.INIT_IN, ["major", "minor", "max_readahead", "flags"]),
    "fuse_getattr_in": (protocol.GETATTR_IN, ["getattr_flags", "fh"]),
    "fuse_setattr_in": (
        protocol.SETATTR_IN,
        [
            "valid", "fh", "size", "atime", "mtime", "ctime", "atimensec", "mtimensec",
            "ctimensec", "mode", "uid", "gid",
        ],
    ),
    "fuse_mknod_in": (protocol.MKNOD_IN, ["mode", "rdev", "umask"]),
    "fuse_mkdir_in": (protocol.MKDIR_IN, ["mode", "umask"]),
    "fuse_rename_in": (protocol.RENAME_IN, ["newdir"]),
    "fuse_rename2_in": (protocol.RENAME2_IN, ["newdir", "flags"]),
    "fuse_link_in": (protocol.LINK_IN, ["oldnodeid"]),
    "fuse_create_in": (protocol.CREATE_IN, ["flags", "mode", "umask", "open_flags"]),
    "fuse_open_in": (protocol.OPEN_IN, ["flags", "open_flags"]),
    "fuse_read_in": (protocol.READ_IN, ["fh", "offset", "size", "flags"]),
    "fuse_write_in": (protocol.WRITE_IN, ["fh", "offset", "size", "write_flags"]),
    "fuse_fsync_in": (protocol.FSYNC_IN, ["fh", "fsync_flags"]),
    "fuse_getxattr_in": (protocol.GETXATTR_IN, ["size"]),
    "fuse_forget_in": (protocol.FORGET_IN, ["nlookup"]),
    "fuse_batch_forget_in": (protocol.BATCH_FORGET_IN, ["count"]),
    "fuse_forget_one": (protocol.FORGET_ONE, ["nodeid", "nlookup"]),
    "fuse_fallocate_in": (protocol.FALLOCATE_IN, ["fh", "offset", "length", "mode"]),
    "fuse_lseek_in": (protocol.LSEEK_IN, ["fh", "offset", "whence"]),
    "fuse_copy_file_range_in": (
        protocol.COPY_FILE_RANGE_IN,
        ["fh_in", "off_in", "nodeid_out", "fh_out", "off_out", "len", "flags"],
    ),
}  # fmt: skip
"""Structure: how it is parsed, and the fields in the order parsed."""

SHORTER = {"fuse_init_in", "fuse_read_in"}
"""Of which only the beginning is parsed: what follows depends on what was agreed."""

FLAGS = [
    "FOPEN_KEEP_CACHE", "FOPEN_CACHE_DIR", "FOPEN_NOFLUSH", "FATTR_MODE", "FATTR_UID", "FATTR_GID",
    "FATTR_SIZE", "FATTR_ATIME", "FATTR_MTIME", "FATTR_ATIME_NOW", "FATTR_MTIME_NOW",
    "FATTR_KILL_SUIDGID", "WRITE_KILL_SUIDGID", "OPEN_KILL_SUIDGID", "FSYNC_FDATASYNC",
    "NOTIFY_INVAL_INODE", "NOTIFY_INVAL_ENTRY",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not HEADER.exists() or shutil.which("gcc") is None, reason="no linux/fuse.h or no gcc"
)


def offsets(packed: struct.Struct, count: int) -> list[tuple[int, int]]:
    """(offset, size) of each value of a format, from the format alone."""
    codes = re.findall(r"(\d*)([a-zA-Z])", packed.format.lstrip("=@<>!"))
    found, at = [], 0
    for number, code in codes:
        size = struct.calcsize("=" + code)
        for _time in range(int(number or 1)):
            if code != "x":
                found.append((at, size))
            at += size
    assert at == packed.size
    assert len(found) == count
    return found


def compiled(tmp_path: Path, wanted: list[str]) -> dict[str, int]:
    """What the header's C expressions come to; those that it does not know are left out."""
    text = HEADER.read_text()
    known = [one for one in wanted if is_known(one, text)]
    lines = "\n".join(f'printf("%llu\\n", (unsigned long long)({one}));' for one in known)
    source = tmp_path / "asked.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/fuse.h>\n"
        f"int main(void) {{\n{lines}\nreturn 0;\n}}\n"
    )
    subprocess.run(["gcc", "-w", "-O0", "-o", tmp_path / "asked", source], check=True)
    said = subprocess.run([tmp_path / "asked"], capture_output=True, text=True, check=True)
    return dict(zip(known, map(int, said.stdout.split()), strict=True))


def is_known(expression: str, header: str) -> bool:
    """A newer structure, field or number than this header's is skipped."""
    words = re.findall(r"\w+", expression)
    structure = next((word for word in words if word.startswith("fuse_")), None)
    if structure and f"struct {structure} {{" not in header:
        return False
    if expression.startswith("offsetof"):
        field = expression.rstrip(")").split(",")[1].strip().split(".")[-1]
        return re.search(rf"\b{field}(\[\d+\])?;", header) is not None
    return structure is not None or all(word in header for word in words)


def test_structures(tmp_path):
    wanted = {}
    for name, (packed, behind, fields) in SENT.items():
        wanted[f"sizeof(struct {name})"] = packed.size - behind
        places = offsets(packed, len(fields) + 3 * bool(behind))[3 * bool(behind) :]
        for field, (at, size) in zip(fields, places, strict=True):
            wanted[f"offsetof(struct {name}, {field})"] = at - behind
            wanted[f"sizeof(((struct {name} *)0)->{field})"] = size
    for name, (parsed, fields) in READ.items():
        if name not in SHORTER:
            wanted[f"sizeof(struct {name})"] = parsed.size
        for field, (at, size) in zip(fields, offsets(parsed, len(fields)), strict=True):
            wanted[f"offsetof(struct {name}, {field})"] = at
            wanted[f"sizeof(((struct {name} *)0)->{field})"] = size
    wanted["offsetof(struct fuse_init_in, flags2)"] = protocol.INIT_IN.size
    wanted["FUSE_COMPAT_SETXATTR_IN_SIZE"] = protocol.SETXATTR_IN.size
    wanted["sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)"] = (
        protocol._CREATED.size - OUT
    )
    asked = {key: value for key, value in wanted.items() if "->" not in key or is_field(key)}
    said = compiled(tmp_path, list(asked))
    assert len(said) > 250
    assert {key: asked[key] for key in said} == said


def is_field(expression: str) -> bool:
    field = expression.rstrip(")").split("->")[1].split(".")[-1]
    return re.search(rf"\b{field}(\[\d+\])?;", HEADER.read_text()) is not None


def test_numbers(tmp_path):
    wanted = {f"FUSE_{opcode.name}": int(opcode) for opcode in Opcode}
    wanted |= {f"FUSE_{flag.name}": int(flag) for flag in InitFlag}
    for name in FLAGS:
        prefix = "" if name.startswith(("FOPEN", "FATTR")) else "FUSE_"
        wanted[prefix + name] = getattr(protocol, name)
    said = compiled(tmp_path, list(wanted))
    said.pop("FUSE_STATX", None)
    assert len(said) > 65
    assert {key: wanted[key] for key in said} == said

"""Nothing of the plaintext is in the store: no name, no content, nothing that files share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fsdriver.format.header import CLEAR_SIZE

pytestmark = pytest.mark.mounted

# Each appears once, and in no word that a store may hold.
SECRETS = {
    "name": "Quittengelee",
    "long": "Zwetschgendatschi" + "n" * 220,
    "folder": "Marillenknoedel",
    "content": "Pflaumenmus-content",
    "target": "Kirschtorte-target",
    "attribute": "user.Himbeereis",
    "value": "Erdbeerbowle-value",
    "old": "Stachelbeere-overwritten",
    "deleted": "Heidelbeere-deleted",
}


def all_bytes(store: Path) -> list[tuple[str, bytes]]:
    """Everything that whoever has the store can see: names, contents, targets, attributes."""
    found = []
    for folder, folders, names in os.walk(store):
        for name in folders + names:
            path = os.path.join(folder, name)
            seen = [os.fsencode(name)]
            if os.path.islink(path):
                seen.append(os.fsencode(os.readlink(path)))
            elif os.path.isfile(path):
                seen.append(Path(path).read_bytes())
            if not os.path.islink(path):
                for attribute in os.listxattr(path):
                    seen += [attribute.encode(), os.getxattr(path, attribute)]
            found += [(path, one) for one in seen]
    return found


def fill(place: Path) -> None:
    (place / SECRETS["folder"]).mkdir()
    file = place / SECRETS["folder"] / SECRETS["name"]
    file.write_bytes(SECRETS["old"].encode() * 3000)
    with file.open("r+b") as opened:
        opened.write(SECRETS["content"].encode() * 5000)
    os.setxattr(file, SECRETS["attribute"], SECRETS["value"].encode())
    os.setxattr(place / SECRETS["folder"], SECRETS["attribute"], SECRETS["value"].encode())
    (place / SECRETS["long"]).write_bytes(b"")
    (place / "link").symlink_to(SECRETS["target"])
    (place / SECRETS["deleted"]).write_bytes(SECRETS["deleted"].encode() * 1000)
    (place / SECRETS["deleted"]).unlink()


def test_nothing_of_the_plaintext_is_found(driven):
    fill(driven.mountpoint)
    driven.umount()
    for word in SECRETS.values():
        for pattern in (word, word[:12], word.lower()):
            done = subprocess.run(
                ["grep", "-r", "-a", "-i", "-F", "-l", "--", pattern, driven.store],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == "", f"{pattern} in {done.stdout}"
        for path, seen in all_bytes(driven.store):
            assert word.encode() not in seen, (word, path)


def test_the_search_finds_what_is_in_plaintext(fresh):
    """With plaintext names the names are there, so the test above is able to fail."""
    driven = fresh("--plaintext-names")
    fill(driven.mount())
    driven.umount()
    everything = b"\n".join(seen for _path, seen in all_bytes(driven.store))
    for kind, word in SECRETS.items():
        readable = kind in ("name", "long", "folder")
        assert (word.encode() in everything) == readable, kind


def test_keys_of_the_service_are_nowhere_in_the_store(driven):
    fill(driven.mountpoint)
    driven.umount()
    (key,) = (driven.state / "service-keys").glob("*.key")
    raw = key.read_bytes()
    everything = b"\n".join(seen for _path, seen in all_bytes(driven.store))
    tokens = [token for token in raw.replace(b'"', b" ").split() if len(token) >= 32]
    assert tokens, "the key file has no long token, so this test looks for nothing"
    for token in tokens:
        if token.strip(b",") != key.stem.encode():
            assert token not in everything


def blocks(data: bytes, size: int = 16) -> set[bytes]:
    """At every offset, not only at aligned ones."""
    return {data[at : at + size] for at in range(len(data) - size + 1)}


def test_two_equal_files_share_nothing(driven):
    content = b"the same bytes " * 20_000
    backing = []
    for name in ("one", "two"):
        place = driven.mountpoint / name
        place.write_bytes(content)
        backing.append(driven.backing_of(place))
    (driven.mountpoint / "folder").mkdir()
    (driven.mountpoint / "folder" / "one").write_bytes(content)
    backing.append(driven.backing_of(driven.mountpoint / "folder" / "one"))
    driven.umount()
    assert len({path.name for path in backing}) == 3, "one name in two folders must look different"
    raw = [path.read_bytes() for path in backing]
    # The clear part of a header says format, chunk size and site, which are the store's.
    heads = [blocks(one[:CLEAR_SIZE]) for one in raw]
    rest = [blocks(one[CLEAR_SIZE:]) for one in raw]
    for first in range(3):
        for second in range(first):
            assert not rest[first] & rest[second]
            assert len(heads[first] & heads[second]) <= 24 + 16 - 16 + 1, (
                "more in common than format, chunk size, generation and site id"
            )
    # Nor does a file repeat itself, though its content does.
    assert len(rest[0]) == len(raw[0]) - CLEAR_SIZE - 15


def test_equal_symlinks_and_attributes_look_different(driven):
    values = set()
    for name in ("one", "two", "three"):
        link, file = driven.mountpoint / f"link {name}", driven.mountpoint / f"file {name}"
        link.symlink_to("the same target")
        file.write_bytes(b"x")
        os.setxattr(file, "user.same", b"the same value")
        backing = driven.backing_of(file)
        (attribute,) = os.listxattr(backing)
        values.add((attribute, os.getxattr(backing, attribute)))
    # The kernel knows no user attributes of symlinks, so theirs are looked for in the store.
    texts = {os.readlink(one) for one in driven.store.iterdir() if one.is_symlink()}
    assert len(texts) == len(values) == 3
    assert len({attribute for attribute, _value in values}) == 3


def test_a_rewrite_of_the_same_bytes_is_new_ciphertext(driven):
    place = driven.mountpoint / "file"
    place.write_bytes(b"x" * 100_000)
    backing = driven.backing_of(place)
    before = backing.read_bytes()
    with place.open("r+b") as file:
        file.write(b"x" * 100_000)
    driven.remount()  # until then the new records lie in the journal
    after = backing.read_bytes()
    assert len(after) == len(before)
    assert not blocks(before[CLEAR_SIZE:]) & blocks(after[CLEAR_SIZE:])

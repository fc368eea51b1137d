"""Encryption inside the kernel, fscrypt on ext4: what is possible without leaving the kernel.

By its ioctls (linux/fscrypt.h), so that no tool is needed. Contents are not authenticated.
"""

import ctypes
import fcntl
import os
import platform
import secrets
import struct
import subprocess
from pathlib import Path
from typing import ClassVar

from bench.figures import Kind
from bench.mounted_place import drop_caches, is_mounted, unmount
from bench.peers.system import Room, System, SystemFailed, Unavailable, first_line

_SET_POLICY = 0x800C6613
_ADD_KEY = 0xC0506617
_VERSION_2, _BY_IDENTIFIER = 2, 2
_AES_256_XTS, _AES_256_CTS, _PAD_32 = 1, 4, 3
_IMAGE_BYTES = 3 << 30


def _cipher() -> str:
    """The kernel's own code for it: without AES instructions it is several times slower."""
    found = (0, "a driver that it loads when asked")
    for block in Path("/proc/crypto").read_text().split("\n\n"):
        facts = {key.strip(): value.strip() for key, _, value in _pairs(block)}
        if facts.get("name") == "xts(aes)":
            found = max(found, (int(facts["priority"]), facts["driver"]))
    return found[1]


def _pairs(block: str) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in block.splitlines()]


class Fscrypt(System):
    """An ext4 of its own in an image that lies where the stores of the others do."""

    name: ClassVar[str] = "fscrypt"
    kind: ClassVar[Kind] = "limit"

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._key = secrets.token_bytes(64)
        self.setting = (
            "ext4 in a loop image, inside the kernel, AES-256-XTS by "
            f"{_cipher()}, contents not authenticated"
        )

    @property
    def files(self) -> Path:
        return self.room.mountpoint / "encrypted"

    @property
    def _image(self) -> Path:
        return self.room.place / "image"

    def version(self) -> str:
        if not Path("/sys/fs/ext4/features/encryption").exists():
            raise Unavailable("this kernel's ext4 was built without CONFIG_FS_ENCRYPTION")
        return f"Linux {platform.release()}"

    def create(self) -> None:
        self.room.place.mkdir(parents=True)
        self.room.mountpoint.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        options = ("-O", "encrypt", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0")
        self._run("mkfs.ext4", "-q", *options, str(self._image))
        self._mount()
        self.files.mkdir()
        key_id = self._add_key()
        policy = struct.pack("<BBBB4x16s", _VERSION_2, _AES_256_XTS, _AES_256_CTS, _PAD_32, key_id)
        self._ioctl(self.files, _SET_POLICY, policy, "encrypt the folder")
        self.unmount()

    def mount(self) -> None:
        self._mount()
        self._add_key()
        drop_caches(self._image)

    def unmount(self) -> None:
        if is_mounted(self.room.mountpoint) and (left := unmount(self.room.mountpoint)):
            raise SystemFailed(f"{self.name}: {left}")

    def _mount(self) -> None:
        self._run("mount", "-o", "loop,discard", str(self._image), str(self.room.mountpoint))

    def _add_key(self) -> bytes:
        """The 16 bytes by which the kernel calls it."""
        head = struct.pack("<II32xII32x", _BY_IDENTIFIER, 0, len(self._key), 0)
        asked = self._ioctl(self.room.mountpoint, _ADD_KEY, head + self._key, "take a key")
        return asked[8:24]

    def _ioctl(self, place: Path, request: int, argument: bytes, what: str) -> bytes:
        buffer = ctypes.create_string_buffer(argument, len(argument))
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, request, buffer)
        except OSError as error:
            raise Unavailable(f"this kernel does not {what}: {error.strerror}") from error
        finally:
            os.close(folder)
        return buffer.raw

    def _run(self, *words: str) -> None:
        try:
            done = subprocess.run(words, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            raise Unavailable(f"{words[0]} is not installed: apt install e2fsprogs") from None
        if done.returncode:
            raise Unavailable(f"{words[0]} refused: {first_line(done.stderr)}")

"""The `-o` options of a mount: which there are, and which of them are whose business."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fsdriver.errors import WrongArguments

_KERNEL: Final = frozenset(
    [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "sync",
        "async",
        "dirsync",
        "allow_other",
        "default_permissions",
    ]
)
_IGNORED: Final = frozenset(("_netdev", "nofail", "noauto", "auto", "user", "users", "nouser"))
"""For fstab's readers, not for the mount."""

TIMEOUT: Final = 300.0
"""Seconds for which the kernel may answer from its caches: the mount is the only writer."""


TRANSPORTS: Final = ("wire", "pyfuse3")
"""The first is the default."""


def transport(name: str) -> str:
    """Raises WrongArguments for one that there is not."""
    if name not in TRANSPORTS:
        raise WrongArguments(f"there is no transport {name!r}; there are {', '.join(TRANSPORTS)}")
    return name


@dataclass(slots=True)
class MountOptions:
    """What `-o a,b=c` came to."""

    read_only: bool = False
    recover: bool = False
    """Accept what a driver on another host left unsealed."""
    kernel: set[str] = field(default_factory=set)
    uid: int | None = None
    gid: int | None = None
    entry_timeout: float = TIMEOUT
    attr_timeout: float = TIMEOUT
    writeback: bool = False
    """Whether the kernel gathers writes before it passes them on."""
    awake: bool = True
    """Whether processors are kept from sleeping while requests follow each other."""


def parse(texts: list[str]) -> MountOptions:
    """Raises WrongArguments for an option that there is not, or a value that it does not take."""
    options = MountOptions()
    for option in (one for text in texts for one in text.split(",") if one):
        name, equals, value = option.partition("=")
        try:
            if name in _IGNORED or name.startswith("x-"):
                continue
            if name in _KERNEL and not equals:
                options.kernel.add(name)
            elif option in _SWITCHES:
                setattr(options, *_SWITCHES[option])
            elif name in _VALUES:
                setattr(options, name, _VALUES[name](value))
            else:
                raise WrongArguments(
                    f"there is no mount option {option!r}; `ckfs mount --help` lists them"
                )
        except ValueError:
            raise WrongArguments(f"the mount option {name} does not take {value!r}") from None
    options.read_only = "ro" in options.kernel
    options.kernel.discard("atime")
    if "allow_other" in options.kernel or os.geteuid() != 0:
        # Where only root may enter, nobody is stopped by permission bits, and not to look at them
        # saves the kernel a question after every change in a folder.
        options.kernel.add("default_permissions")
    return options


def _whole(text: str) -> int:
    """A user's or group's number; the largest one means "none" to the system."""
    number = int(text)
    if not 0 <= number < (1 << 32) - 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 1e9:  # noqa: PLR2004 thirty years; also keeps nan out
        raise ValueError(text)
    return seconds


_SWITCHES: Final = {
    "recover": ("recover", True),
    "writeback": ("writeback", True),
    "nowriteback": ("writeback", False),
    "awake": ("awake", True),
    "noawake": ("awake", False),
}
_VALUES: Final[dict[str, Callable[[str], float]]] = {
    "uid": _whole,
    "gid": _whole,
    "entry_timeout": _seconds,
    "attr_timeout": _seconds,
}
"""Options of these names, and what makes a value of their text."""

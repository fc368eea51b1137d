"""Which of root's privileges a driver keeps, and how it gives up the rest for good.

An ordinary user's driver has none to give up; it needs fusermount3, which is set-user-id, to
unmount, and so may not forbid itself new privileges.
"""

import ctypes
import os
from typing import Final

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAP_SETPCAP: Final = 8
_VERSION_3: Final = 0x20080522
_WORD_BITS: Final = 32

IPC_LOCK: Final = "ipc_lock"
KEPT: Final = {
    "chown": 0,  # gives a new file to whom it belongs
    "dac_override": 1,  # works on the backing files of all users, whose rights the kernel checked
    "fowner": 3,  # mode, times, attributes and sticky folders of files of other users
    "fsetid": 4,  # a header written into a set-user-id file leaves its bits
    "sys_admin": 21,  # mounts, unmounts when told to end, and talks to the kernel of its caches
    "mknod": 27,  # device nodes
}
_NUMBERS: Final = {**KEPT, IPC_LOCK: 14}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop(*also_kept: str) -> None:
    """Keep what `KEPT` and `also_kept` name, as far as it is there, and nothing else.

    Of this thread and those that it starts, so it is called before there are others. Effective,
    permitted, inheritable, ambient and bounding sets; OSError when the system refuses.
    """
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    kept = sum(1 << _NUMBERS[name] for name in (*KEPT, *also_kept))
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(libc.capget(ctypes.byref(header), data))
    if data[_CAP_SETPCAP // _WORD_BITS].effective >> _CAP_SETPCAP % _WORD_BITS & 1:
        for number in range(_last_capability() + 1):
            if not kept >> number & 1:
                _check(libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    for word in range(2):
        mask = kept >> (_WORD_BITS * word) & 0xFFFFFFFF
        data[word].effective &= mask
        data[word].permitted &= mask
        data[word].inheritable = 0
    _check(libc.capset(ctypes.byref(header), data))
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        return int(file.read())


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"giving up privileges: {os.strerror(code)}")

"""What the command line ends with: one exit code for each kind of refusal, documented and stable.

      0  done                                 16  permission denied, or unsafe permissions
      1  unexpected                           17  the store is in use
      2  wrong arguments                      18  the mount point is not there
     10  no store                             19  the mount point is not empty
     11  a store of a newer format            20  the store lies inside the mount point
     12  a damaged or forged store            21  the mount point lies inside the store
     13  a root key is missing                22  no FUSE on this machine, or for this user
     14  a root key does not answer           23  not mounted
     15  a root key says no                   24  the mount is in use
                                              25  a new store's folder is not empty
                                              26  the store was put back to an older state
                                              30  not in the store's present state

What `scrub`, `salvage` and `verify` found:

     40  damaged: bytes do not authenticate       42  verify: not what the list says
     41  forged: authentic, and not in its place

10 to 17 and 30 mean the same for `ckfs-keys`.
"""

from typing import Final

from fsdriver.errors import Damaged, FormatUnsupported, StoreError
from keyhierarchy import errors as keys

UNEXPECTED: Final = 1

_KEY_CODES: Final = (
    (keys.KeystoreNewer, 11),
    (keys.NotAStore, 10),
    (keys.KeystoreMissing, 12),
    (keys.KeystoreBusy, 17),
    (keys.KeystoreInvalid, 12),
    (keys.WrappedKeyInvalid, 12),
    (keys.AnchorMismatch, 12),
    (keys.AuditChainBroken, 12),
    (keys.RootKeyMissing, 13),
    (keys.RootKeyUnavailable, 14),
    (keys.StorageUnavailable, 14),
    (keys.RootKeyRefused, 15),
    (keys.PolicyPurged, 15),
    (keys.UnsafePermissions, 16),
    (keys.TransitionRefused, 30),
)


def exit_code_of(error: BaseException) -> int:
    """UNEXPECTED for whatever nobody foresaw: that one deserves its traceback in the log."""
    if isinstance(error, StoreError):
        return error.exit_code
    if isinstance(error, Damaged):
        return 12
    if isinstance(error, FormatUnsupported):
        return 11
    if isinstance(error, PermissionError):
        return 16
    for kind, code in _KEY_CODES:
        if isinstance(error, kind):
            return code
    return UNEXPECTED

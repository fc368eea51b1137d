"""What can go wrong with keys, told apart by what the caller can do about it.

    KeyHierarchyError
    ├─ RootKeyUnavailable    the root key does not answer just now: try again
    ├─ RootKeyRefused        the root key answers no: denied, disabled, revoked
    │  └─ RootKeyNotListed    the store names a vault key that this host's administrator does not
    ├─ RootKeyMissing        the root key is not where it was looked for
    ├─ WrappedKeyInvalid     a wrapped key does not open: altered, swapped, or of another parent
    ├─ KeystoreInvalid       a document does not parse or is not authentic
    │  ├─ KeystoreNewer      it was written by a later version of this program
    │  └─ SiteUnknown        the keystore has no such site
    ├─ KeystoreMissing       there is no such document
    ├─ NotAStore             the folder that was named has no store document
    ├─ KeystoreBusy          another process is changing it: try again
    ├─ StorageUnavailable    the disk below a document fails or is full: try again
    ├─ UnsafePermissions     owner or mode would let others in, or keep this account out
    ├─ AnchorMismatch        the store contradicts what this host knows of it
    ├─ AuditChainBroken      the audit log was altered, cut or lost
    ├─ PolicyPurged          the policy's keys are destroyed or about to be
    ├─ TransitionRefused     the verb is not allowed in the present state
    │  └─ ValidationFailed   a root key does not pass the rules for one
    └─ PurgeIncomplete       wraps were destroyed, but a key can survive elsewhere

No errno and no exit code here: the FUSE door and the command line each have one table for that.
"""

from __future__ import annotations

from typing import Self


class KeyHierarchyError(Exception):
    """Root of the tree. The text says what happened, to which key, and what to do next.

    Facts are attributes, None where they do not apply. No key bytes are ever among them. `cause` is
    one of the codes of HIERARCHY.md 15.2, `retry_after` the seconds that a vault asked for.
    """

    def __init__(  # one constructor for the tree, so that any error can be told again
        self,
        message: str,
        *,
        key_id: str | None = None,
        policy_id: str | None = None,
        site_id: str | None = None,
        generation: int | None = None,
        place: str | None = None,
        cause: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key_id = key_id
        self.policy_id = policy_id
        self.site_id = site_id
        self.generation = generation
        self.place = place
        self.cause = cause
        self.retry_after = retry_after

    def again(self) -> Self:
        """Return a fresh copy without traceback, cause or context.

        What is kept for later must not keep frames alive: their locals hold keys.
        """
        return type(self)(
            self.message,
            key_id=self.key_id,
            policy_id=self.policy_id,
            site_id=self.site_id,
            generation=self.generation,
            place=self.place,
            cause=self.cause,
            retry_after=self.retry_after,
        )


class RootKeyUnavailable(KeyHierarchyError):
    """The root key does not answer just now. Retrying may help; a lease bridges the gap."""


class RootKeyRefused(KeyHierarchyError):
    """The root key, or who guards it, says no. Retrying does not help; leases end at once."""


class RootKeyNotListed(RootKeyRefused):
    """The store names a vault or a key that the administrator of this host has not allowed."""


class RootKeyMissing(KeyHierarchyError):
    """The root key is not in the place where it was looked for."""


class WrappedKeyInvalid(KeyHierarchyError):
    """A wrapped key does not authenticate, or the key inside is not the one committed to."""


class KeystoreInvalid(KeyHierarchyError):
    """A document of the keystore, the anchor or the service keys is damaged or forged."""


class KeystoreNewer(KeystoreInvalid):
    """The document demands a later version of this program."""


class SiteUnknown(KeystoreInvalid):
    """The keystore has no record of the site that was asked for."""


class KeystoreMissing(KeyHierarchyError):
    """There is no such document."""


class NotAStore(KeyHierarchyError):
    """The folder that was named has no store document."""


class KeystoreBusy(KeyHierarchyError):
    """Another process holds the lock. Trying again later helps."""


class StorageUnavailable(KeyHierarchyError):
    """The disk that holds a document fails, is full or is read-only."""


class UnsafePermissions(KeyHierarchyError):
    """Owner or mode of a file or folder is wrong, or this account may not use it."""


class AnchorMismatch(KeyHierarchyError):
    """The store contradicts what this host knows: rolled back, substituted or another store."""


class AuditChainBroken(KeyHierarchyError):
    """The audit log does not continue what this host knows to have been written."""


class PolicyPurged(KeyHierarchyError):
    """The keys of the policy are destroyed, or a purge is pending."""


class TransitionRefused(KeyHierarchyError):
    """The verb does not apply to the present state."""


class ValidationFailed(TransitionRefused):
    """A root key does not pass the rules; each that failed is named with its key and remedy."""


class PurgeIncomplete(KeyHierarchyError):
    """All that this host could destroy is destroyed, and a copy could still be opened elsewhere."""

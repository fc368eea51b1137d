"""Wrap and unwrap one key under another, bound to purpose and place. PURE: bytes to bytes.

Knows the tenant intermediate key (TIK), the site key, the metadata key and the file key; not where
they are kept, nor root keys. Bytes, labels and order of fields are fixed by HIERARCHY.md section 3.
Never wraps a key with a key directly: each purpose has its own subkey, derived under its own label.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import pack

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyhierarchy.errors import WrappedKeyInvalid

KEY_LENGTH = 32  # HIERARCHY.md 3.1: every symmetric key of the chain
ID_LENGTH = 16  # store, policy, site, directory and file ids
WRAPPED_LENGTH = 48  # HIERARCHY.md 3.2: synthetic IV 16, then 32 bytes of ciphertext
COMMITMENT_LENGTH = 32
_SIV_KEY_LENGTH = 64  # AES-256-SIV takes a MAC key and a cipher key of 32 bytes each

# HIERARCHY.md 3.3. A label names one purpose; none is a key's only difference from another.
_SITE_KEY_WRAP = b"ckfs/v1/site-key-wrap"
_METADATA_KEY_WRAP = b"ckfs/v1/metadata-key-wrap"
_TIK_WRAP = b"ckfs/v1/tik-wrap"
_FILE_KEY_WRAP = b"ckfs/v1/file-key-wrap"
_METADATA_KEY = b"ckfs/v1/metadata-key"
_SITE_KEY_COMMITMENT = b"ckfs/v1/site-key-commitment"
_TIK_FINGERPRINT = b"ckfs/v1/tik-fingerprint"
_TIK_ENDORSEMENT = b"ckfs/v1/tik-endorsement"
_KEYSTORE_SEAL = b"ckfs/v1/keystore-seal"


def pack_context(*fields: bytes) -> bytes:
    """Join fields so that no two different lists give the same bytes: u32 length, then value."""
    return b"".join(pack(">I", len(field)) + field for field in fields)


def pack_generation(generation: int) -> bytes:
    """Return a key generation as u32; the first generation is 1."""
    if not 1 <= generation < 1 << 32:
        raise ValueError(f"a key generation is between 1 and 2**32 - 1, not {generation}")
    return pack(">I", generation)


def require_id(identity: bytes) -> bytes:
    """Return an id of 16 bytes; ValueError for anything else."""
    if len(identity) != ID_LENGTH:
        raise ValueError(f"an id has {ID_LENGTH} bytes, not {len(identity)}")
    return identity


def wrap_site_key(
    tik: bytes,
    site_key: bytes,
    *,
    policy_id: bytes,
    tik_generation: int,
    site_id: bytes,
    generation: int,
) -> bytes:
    """Wrap a site key under its tenant intermediate key: 48 bytes."""
    context = _site_key_context(policy_id, tik_generation, site_id, generation)
    return _siv(tik, _SITE_KEY_WRAP).encrypt(_key(site_key), [context])


def unwrap_site_key(
    tik: bytes,
    wrapped: bytes,
    *,
    policy_id: bytes,
    tik_generation: int,
    site_id: bytes,
    generation: int,
) -> bytes:
    """Open what `wrap_site_key` made for the same policy, site and generations."""
    context = _site_key_context(policy_id, tik_generation, site_id, generation)
    site_key = _open(_siv(tik, _SITE_KEY_WRAP), wrapped, context)
    if site_key is None:
        raise WrappedKeyInvalid(
            f"site key generation {generation} of site {site_id.hex()} does not open under the "
            f"tenant intermediate key of policy {policy_id.hex()}: the record was altered or "
            "belongs elsewhere; put the keystore back from a backup",
            policy_id=policy_id.hex(),
            site_id=site_id.hex(),
            generation=generation,
        )
    return site_key


def wrap_tik(successor: bytes, tik: bytes, *, policy_id: bytes, generation: int) -> bytes:
    """Wrap a TIK of `generation` under the generation after it: 48 bytes."""
    context = pack_context(_TIK_WRAP, require_id(policy_id), pack_generation(generation))
    return _siv(successor, _TIK_WRAP).encrypt(_key(tik), [context])


def unwrap_tik(successor: bytes, wrapped: bytes, *, policy_id: bytes, generation: int) -> bytes:
    """Open what `wrap_tik` made for the same policy and generation."""
    context = pack_context(_TIK_WRAP, require_id(policy_id), pack_generation(generation))
    tik = _open(_siv(successor, _TIK_WRAP), wrapped, context)
    if tik is None:
        raise WrappedKeyInvalid(
            f"generation {generation} of the tenant intermediate key of policy {policy_id.hex()} "
            f"does not open under generation {generation + 1}: the record was altered or belongs "
            "elsewhere; put the keystore back from a backup",
            policy_id=policy_id.hex(),
            generation=generation,
        )
    return tik


def derive_metadata_key(first_site_key: bytes, *, site_id: bytes) -> bytes:
    """Derive a site's metadata key from its site key of generation 1, once, when it is made.

    From then on it is carried wrapped, so that a new site key renames nothing.
    """
    return _derive(first_site_key, _METADATA_KEY, require_id(site_id), length=KEY_LENGTH)


def wrap_metadata_key(
    site_key: bytes, metadata_key: bytes, *, site_id: bytes, generation: int
) -> bytes:
    """Wrap a site's metadata key under its site key of this generation: 48 bytes."""
    context = pack_context(_METADATA_KEY_WRAP, require_id(site_id), pack_generation(generation))
    return _siv(site_key, _METADATA_KEY_WRAP).encrypt(_key(metadata_key), [context])


def unwrap_metadata_key(
    site_key: bytes, wrapped: bytes, *, site_id: bytes, generation: int
) -> bytes:
    """Open what `wrap_metadata_key` made for the same site and generation."""
    context = pack_context(_METADATA_KEY_WRAP, require_id(site_id), pack_generation(generation))
    metadata_key = _open(_siv(site_key, _METADATA_KEY_WRAP), wrapped, context)
    if metadata_key is None:
        raise WrappedKeyInvalid(
            f"the metadata key of site {site_id.hex()} does not open under site key generation "
            f"{generation}: the record was altered or belongs elsewhere; put the keystore back "
            "from a backup",
            site_id=site_id.hex(),
            generation=generation,
        )
    return metadata_key


class FileKeyWrapper:
    """Wraps the file keys of one site under one site-key generation.

    Setting up the cipher costs more than using it, so the data path keeps one of these for each
    generation. Holds key material: it prints without it and refuses to be pickled.
    """

    __slots__ = ("_context", "_siv", "generation", "site_id")

    def __init__(self, site_key: bytes, *, site_id: bytes, generation: int) -> None:
        self.site_id = require_id(site_id)
        self.generation = generation
        self._siv = _siv(site_key, _FILE_KEY_WRAP)
        # All of a file's context but its id, which has one length and comes last.
        place = (_FILE_KEY_WRAP, site_id, pack_generation(generation))
        self._context = pack_context(*place) + pack(">I", ID_LENGTH)

    def wrap(self, file_id: bytes, file_key: bytes) -> bytes:
        """Wrap a file key for the file with this id: 48 bytes."""
        return self._siv.encrypt(_key(file_key), [self._context + require_id(file_id)])

    def unwrap(self, file_id: bytes, wrapped: bytes) -> bytes:
        """Open what `wrap` made for the same file, site and generation."""
        context = self._context + require_id(file_id)
        file_key = _open(self._siv, wrapped, context)
        if file_key is None:
            raise WrappedKeyInvalid(
                f"the key of file {file_id.hex()} does not open under site key generation "
                f"{self.generation} of site {self.site_id.hex()}: the header was altered or "
                "belongs to another file or site; put the file back from a backup",
                site_id=self.site_id.hex(),
                generation=self.generation,
            )
        return file_key

    def __repr__(self) -> str:
        return f"<FileKeyWrapper of site {self.site_id.hex()} generation {self.generation}>"

    def __reduce__(self) -> str:
        raise TypeError("a FileKeyWrapper holds a key and is not pickled")


def wrap_file_key(
    site_key: bytes, file_key: bytes, *, file_id: bytes, site_id: bytes, generation: int
) -> bytes:
    """Wrap one file key; see FileKeyWrapper for many."""
    wrapper = FileKeyWrapper(site_key, site_id=site_id, generation=generation)
    return wrapper.wrap(file_id, file_key)


def unwrap_file_key(
    site_key: bytes, wrapped: bytes, *, file_id: bytes, site_id: bytes, generation: int
) -> bytes:
    """Open one file key; see FileKeyWrapper for many."""
    wrapper = FileKeyWrapper(site_key, site_id=site_id, generation=generation)
    return wrapper.unwrap(file_id, wrapped)


def site_key_commitment(site_key: bytes, *, site_id: bytes, generation: int) -> bytes:
    """Return the value by which a site record says which site key it means.

    SIV alone does not commit to its key; HMAC-SHA256 does, as finding two keys with one output is
    finding a collision.
    """
    place = (require_id(site_id), pack_generation(generation))
    return _derive(site_key, _SITE_KEY_COMMITMENT, *place, length=COMMITMENT_LENGTH)


def tik_fingerprint(tik: bytes, *, policy_id: bytes, generation: int) -> bytes:
    """Return the value by which keystore and anchor say which tenant intermediate key they mean."""
    place = (require_id(policy_id), pack_generation(generation))
    return _derive(tik, _TIK_FINGERPRINT, *place, length=COMMITMENT_LENGTH)


def endorse_tik(
    previous_tik: bytes, *, policy_id: bytes, generation: int, fingerprint: bytes
) -> bytes:
    """Let the holder of generation n-1 vouch for the fingerprint of generation n (`generation`)."""
    if len(fingerprint) != COMMITMENT_LENGTH:
        raise ValueError(f"a fingerprint has {COMMITMENT_LENGTH} bytes, not {len(fingerprint)}")
    place = (require_id(policy_id), pack_generation(generation), fingerprint)
    return _derive(previous_tik, _TIK_ENDORSEMENT, *place, length=COMMITMENT_LENGTH)


def seal_section(tik: bytes, *, store_id: bytes, policy_id: bytes, canonical: bytes) -> bytes:
    """Authenticate a policy's section of the keystore: HMAC-SHA256 under a subkey of the TIK."""
    subkey = _derive(tik, _KEYSTORE_SEAL, length=KEY_LENGTH)
    mac = HMAC(subkey, SHA256())
    mac.update(pack_context(_KEYSTORE_SEAL, require_id(store_id), require_id(policy_id), canonical))
    return mac.finalize()


def same(left: bytes, right: bytes) -> bool:
    """Compare two commitments, fingerprints or seals in constant time."""
    return compare_digest(left, right)


def _site_key_context(
    policy_id: bytes, tik_generation: int, site_id: bytes, generation: int
) -> bytes:
    return pack_context(
        _SITE_KEY_WRAP,
        require_id(policy_id),
        pack_generation(tik_generation),
        require_id(site_id),
        pack_generation(generation),
    )


def _derive(key: bytes, *info: bytes, length: int) -> bytes:
    return HKDFExpand(SHA256(), length, pack_context(*info)).derive(_key(key))


def _siv(key: bytes, label: bytes) -> AESSIV:
    return AESSIV(_derive(key, label, length=_SIV_KEY_LENGTH))


def _open(siv: AESSIV, wrapped: bytes, context: bytes) -> bytes | None:
    """Return the key inside, or None. The caller knows which key it was and says so."""
    if len(wrapped) != WRAPPED_LENGTH:
        return None
    try:
        return siv.decrypt(wrapped, [context])
    except InvalidTag:
        return None


def _key(key: bytes) -> bytes:
    if len(key) != KEY_LENGTH:
        raise ValueError(f"a key of this chain has {KEY_LENGTH} bytes, not {len(key)}")
    return key

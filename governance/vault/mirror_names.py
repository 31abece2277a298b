"""What mirrors call people: consent's `MirrorNames`.

    secret = HKDF-SHA256(index root, info = "tutela/m1" | len audience | audience)
    token  = first 15 bytes of BLAKE2b(value, key = secret, person = "tutela/m1/" | kind)

where the value is the normalised identifier, in UTF-8; of an external id `system NUL id`; of a
handle the ref. Kinds are `email`, `phone`, `extern` and `ref`.

Guarantees: tokens are computed when they are asked for and stand nowhere in the database, so that
whoever steals that, with or without the secret of a mirror, finds nobody by them. Without the
secret a token says nothing. Tokens of different audiences, kinds and index roots cannot be matched.

A keyed BLAKE2b (RFC 7693) in the place of HMAC-SHA256 as it takes a third of the time, on the side
where each check computes one. 15 bytes: with its header such a value fills the 48 bytes that
CPython would give to it anyway; of 120 bits none meet by chance.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, TypeAlias

import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import func, select

from consent.bulk import select_by_keys
from consent.mirrors import Name, Wanted
from consent.subjects import Identifier, Reader, SubjectRef
from governance.errors import DecryptionError
from governance.keys.blind_index import IndexRoot
from governance.keys.envelope import key_id, prefixed
from governance.keys.keyring import Keyring
from governance.vault.identify import open_identifier
from governance.vault.models import vault_person
from governance.vault.tokens import normalised

_log = structlog.get_logger()

TOKEN_BYTES: Final = 15
_CONTEXT: Final = b"tutela/m1"
_SELECT_PERSON: Final = "SELECT ref FROM vault_person WHERE ref {keys}"
_SELECT_SEALED: Final = (
    "SELECT subject_ref, kind, sealed FROM vault_identifier WHERE subject_ref {keys}"
)

_Hash: TypeAlias = Any
"""A keyed hash that nothing was put into yet. Copied for each token: that skips the key."""


class MirrorDirectory:
    """Names everybody, through a prepared keyring. Shared by threads."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def secret(self, audience: str) -> bytes:
        """The audience's key, the same until the index root is rotated."""
        info = _CONTEXT + prefixed(audience.encode())
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._root().key)

    def version(self) -> str:
        """Changes with every secret."""
        return str(self._root().version)

    def everybody(self, reader: Reader, after: str, limit: int) -> list[SubjectRef]:
        """People in the order of their refs, behind a ref (or from the first, if empty)."""
        ref = vault_person.c.ref
        found = reader.execute(select(ref).where(ref > after).order_by(ref).limit(limit))
        return [SubjectRef(row.ref) for row in found]

    def count(self, reader: Reader) -> int:
        """How many people there are."""
        return reader.execute(select(func.count()).select_from(vault_person)).scalar_one()

    def names(
        self, reader: Reader, people: Collection[SubjectRef], wanted: Wanted
    ) -> dict[SubjectRef, Name]:
        """The names of people. Those who are not known (any more) are left out."""
        hashes = _hashes(self.secret(wanted.audience))
        known = [row[0] for row in select_by_keys(reader, _SELECT_PERSON, sorted(people))]
        tokens: dict[SubjectRef, list[bytes]] = {ref: [] for ref in known}
        if any(kind != "ref" for kind in wanted.kinds):
            for ref, identifier in self._identifiers(reader, known, wanted):
                tokens[ref].append(_token(hashes, identifier))
        handles = hashes["ref"]
        named = {}
        for ref in known:
            handle = _digest(handles, ref)
            if "ref" in wanted.kinds:
                tokens[ref].append(handle)
            named[ref] = Name(handle, tuple(tokens[ref]))
        return named

    def handle(self, subject: SubjectRef, wanted: Wanted) -> bytes:
        """The handle of anybody, known or not."""
        return _digest(_hashes(self.secret(wanted.audience))["ref"], subject)

    def _identifiers(
        self, reader: Reader, people: Sequence[SubjectRef], wanted: Wanted
    ) -> Iterator[tuple[SubjectRef, Identifier]]:
        kinds = {kind.partition(":")[0] for kind in wanted.kinds}
        systems = {kind.partition(":")[2] for kind in wanted.kinds if kind.startswith("external")}
        rows = [row for row in select_by_keys(reader, _SELECT_SEALED, people) if row[1] in kinds]
        # Everybody passes by here: kept, they would push out the keys of those who are in use.
        keys = self._keyring.passing(reader, [key_id(row[2]) for row in rows])
        for ref, kind, sealed in rows:
            key = keys.get(key_id(sealed))
            if key is None:
                continue
            try:
                identifier = open_identifier(key, sealed, ref, kind)
            except DecryptionError:
                # Nobody is found by it then, which is a no. One bad row must not stop all mirrors.
                _log.warning("identifier cannot be opened", reference=ref)
                continue
            if identifier.system is None or "" in systems or identifier.system in systems:
                yield ref, identifier

    def _root(self) -> IndexRoot:
        writable = [root for root in self._keyring.index_roots if root.writable]
        return max(writable, key=lambda root: root.version)


def _hashes(secret: bytes) -> dict[str, _Hash]:
    return {
        kind: hashlib.blake2b(
            digest_size=TOKEN_BYTES, key=secret, person=_CONTEXT + b"/" + kind.encode()
        )
        for kind in ("email", "phone", "extern", "ref")
    }


def _token(hashes: dict[str, _Hash], identifier: Identifier) -> bytes:
    kind = "extern" if identifier.kind == "external_id" else identifier.kind
    return _digest(hashes[kind], "\0".join(normalised(identifier)))


def _digest(keyed: _Hash, value: str) -> bytes:
    one = keyed.copy()
    one.update(value.encode())
    digest: bytes = one.digest()
    return digest

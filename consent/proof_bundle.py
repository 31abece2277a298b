"""The proof bundle: all that shows one consent, in one ZIP that can be checked without us.

One consent is a person, a purpose and a channel. The bundle holds the events that bear on it and no
others: choices about it, choices about everything, and signals that the purpose heeds. Its files
are those of `proof_pages.readme`; `manifest.json` holds the SHA-256 of each and is signed as
receipts are.

Guarantees: every event is held to its leaf and the leaf to a signed checkpoint before anything is
written. The same facts at the same instant make the same bytes. No identifier is in it but those
that the caller hands in.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, or_, select

from consent.checks import Checker
from consent.errors import (
    ChannelNotCoveredError,
    ConsentError,
    LedgerError,
    UnknownEventError,
    UnknownPurposeError,
)
from consent.ledger.checkpoint import NoteSigner, vkey
from consent.ledger.leaf import read_leaf, timestamp
from consent.ledger.tree import leaf_hash
from consent.models import event as event_table
from consent.notice_text import fingerprint
from consent.notices import Notices, Words
from consent.proof_pages import notice_page, pdf, readme
from consent.receipts import Evidence, Receipts
from consent.signed_documents import as_text, signed
from consent.subjects import Reader, SubjectRef
from policies.decisions import Decision
from policies.explain import explain
from policies.model import PolicySet
from policies.vocabulary import ANY, Channel, EventType

MAX_EVENTS: Final = 2_000
"""Of a consent with more events than this, no bundle is made."""

_VERIFIER: Final = Path(__file__).with_name("proof_verifier.py")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_READABLE: Final = 0o644 << 16


class TooManyEventsError(ConsentError):
    """More events bear on this consent than a bundle holds."""

    code = "TOO_MANY_EVENTS"


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes bundles: what stands on each of them."""

    organisation: str
    generator: str
    """Name and version of the program."""


@dataclass(frozen=True, slots=True)
class ProofBundle:
    """A bundle, ready to be sent, and what to remember of it."""

    data: bytes
    sha256: str
    subject: SubjectRef
    purpose: str
    channel: str
    events: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """The consent that a bundle is about."""

    subject: SubjectRef
    purpose: str
    channel: str
    signals: frozenset[str]
    """Those that the purpose heeds on this channel."""

    @property
    def bearing(self) -> list[str]:
        """What an event that bears on it can be about."""
        return sorted({self.purpose, ANY, *self.signals})

    @property
    def condition(self) -> ColumnElement[bool]:
        """The events that bear on it."""
        said = event_table.c
        return and_(
            said.subject_ref == self.subject,
            said.channel.in_([self.channel, ANY]),
            or_(
                and_(said.purpose.in_([self.purpose, ANY]), said.type != EventType.SIGNAL.value),
                and_(said.purpose.in_(self.signals), said.type == EventType.SIGNAL.value),
                said.purpose == self.purpose,
            ),
        )


class ProofBundles:
    """Makes proof bundles. Shared by threads."""

    def __init__(
        self,
        receipts: Receipts,
        checker: Checker,
        notices: Notices,
        signer: NoteSigner,
        policies: Callable[[], PolicySet],
        maker: Maker,
    ) -> None:
        self._receipts = receipts
        self._checker = checker
        self._notices = notices
        self._signer = signer
        self._policies = policies
        self._maker = maker

    def newest_note(self) -> str:
        """The checkpoint to prove events under; to be asked for before the snapshot is begun."""
        return self._receipts.newest_note()

    def make(
        self,
        reader: Reader,
        event_id: str,
        note: str,
        *,
        now: datetime,
        may_see: Callable[[Mapping[str, Any]], frozenset[str]],
        about: tuple[str, str] | None = None,
        as_of: datetime | None = None,
        identifiers: Callable[[SubjectRef], Sequence[tuple[str, str]]] = lambda _: (),
    ) -> ProofBundle:
        """The bundle of the consent that an event is about.

        Args:
            reader: a snapshot that covers `note`.
            event_id: one event that bears on the consent.
            note: see `newest_note`.
            now: when it is made.
            may_see: of the claims of one event, the names of those to disclose.
            about: purpose and channel, for an event that bears on more than one consent, such as a
                withdrawal from everything; None for those that the event names.
            as_of: an instant whose status is told besides that of `now`.
            identifiers: kind and masked value of those of the person's that go along.

        Raises:
            UnknownEventError: no event has this id, or it does not bear on `about`.
            UnknownPurposeError, ChannelNotCoveredError: `about` is not in the active policy.
            EvidenceErasedError: the person's key was destroyed.
            InvalidInstantError: `as_of` lies in the future.
            TooManyEventsError: see `MAX_EVENTS`.
            LedgerError: something stored does not match the ledger, or an event is not covered by
                a checkpoint yet that `reader` can see; the latter passes by itself.
        """
        scope = self._scope(reader, event_id, about)
        said = event_table.c
        ids = reader.scalars(select(said.id).where(scope.condition).limit(MAX_EVENTS + 1)).all()
        if len(ids) > MAX_EVENTS:
            raise TooManyEventsError("more events bear on this consent than a bundle holds")
        shown = self._receipts.evidence(
            reader, ids, note, lambda claims: may_see(claims) | {"subject"}
        )
        for one in shown:
            _hold_to_scope(one, scope)
        decisions = self._decisions(reader, scope, as_of)
        told = self._told(reader, shown)
        files = self._files(scope, shown, decisions, told, identifiers(scope.subject), now)
        data = _zipped(files)
        return ProofBundle(
            data=data,
            sha256=sha256(data).hexdigest(),
            subject=scope.subject,
            purpose=scope.purpose,
            channel=scope.channel,
            events=len(shown),
        )

    def _scope(self, reader: Reader, event_id: str, about: tuple[str, str] | None) -> _Scope:
        said = event_table.c
        row = reader.execute(
            select(said.subject_ref, said.purpose, said.channel).where(said.id == event_id)
        ).one_or_none()
        if row is None:
            raise UnknownEventError("no event has this id")
        purpose, channel = about or (row.purpose, row.channel)
        rule = self._policies().purpose(purpose)
        if about is not None:
            if rule is None:
                raise UnknownPurposeError("the active policy has no such purpose")
            if channel not in rule.channels:
                raise ChannelNotCoveredError("the purpose is not pursued on this channel")
        heeded = rule.heeded(channel) if rule is not None else frozenset()
        scope = _Scope(SubjectRef(row.subject_ref), purpose, channel, heeded)
        if row.purpose not in scope.bearing or row.channel not in (channel, ANY):
            raise UnknownEventError("no event of this id bears on this purpose and channel")
        return scope

    def _decisions(
        self, reader: Reader, scope: _Scope, as_of: datetime | None
    ) -> list[tuple[Decision, str]]:
        instants = [None] if as_of is None else [None, as_of]
        matrices = [self._checker.matrix(reader, scope.subject, one) for one in instants]
        if scope.channel not in list(Channel):
            return []
        key = scope.purpose, Channel(scope.channel)
        return [(one[key], explain(one[key])) for one in matrices if key in one]

    def _told(self, reader: Reader, shown: Sequence[Evidence]) -> list[Words]:
        """The published words that events name, each once.

        Raises:
            LedgerError: stored words are not those whose hashes were stored with them.
        """
        names = {
            (stated["id"], stated["version"], stated["language"].casefold()): stated["language"]
            for stated in (one.shown.get("notice") for one in shown)
            if stated
        }
        found = [
            self._notices.version(reader, notice, version, language)
            for (notice, version, _), language in sorted(names.items())
        ]
        words = [one for one in found if one is not None]
        for one in words:
            if (fingerprint(one.text), fingerprint(one.rendering)) != (
                one.hash,
                one.rendering_hash,
            ):
                raise LedgerError("the stored words of a notice differ from their hash")
        return words

    def _files(
        self,
        scope: _Scope,
        shown: Sequence[Evidence],
        decisions: Sequence[tuple[Decision, str]],
        told: Sequence[Words],
        identifiers: Sequence[tuple[str, str]],
        now: datetime,
    ) -> dict[str, bytes]:
        policies = self._policies()
        rule = policies.purpose(scope.purpose)
        key = vkey(self._signer.name, self._signer.public_key)
        proof = {
            "organisation": self._maker.organisation,
            "generator": self._maker.generator,
            "made_at": timestamp(now),
            "vkey": key,
            "policy": policies.hash,
            "subject": {
                "ref": scope.subject,
                "identifiers": [{"kind": kind, "masked": value} for kind, value in identifiers],
            },
            "purpose": {
                "key": scope.purpose,
                "name": rule.name if rule is not None else scope.purpose,
                "description": rule.description if rule is not None else None,
            },
            "channel": scope.channel,
            "bearing": scope.bearing,
            "statuses": [_status(decision, text) for decision, text in decisions],
            "events": [_event(number, one) for number, one in enumerate(shown, 1)],
            "notices": [_notice(number, one) for number, one in enumerate(told, 1)],
        }
        stated = as_text(proof).encode()
        files = {
            "README.txt": readme(proof, key).encode(),
            "proof.pdf": pdf(proof, sha256(stated).hexdigest(), now),
            "proof.json": stated,
            "vkey": f"{key}\n".encode(),
            "verify.py": _VERIFIER.read_bytes(),
        }
        for number, one in enumerate(shown, 1):
            files[_proof_file(number)] = one.proof.format().encode()
        for number, words in enumerate(told, 1):
            files[_page_file(number, words)] = notice_page(words).encode()
        manifest = {
            "bundle": "consent-proof/1",
            "made_at": timestamp(now),
            "files": [
                {"name": name, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
                for name, data in sorted(files.items())
            ],
        }
        files["manifest.json"] = as_text(signed(manifest, self._signer)).encode()
        return files


def _hold_to_scope(one: Evidence, scope: _Scope) -> None:
    """See that the leaf, too, says that the event bears on this consent.

    Raises:
        LedgerError: it says otherwise than the stored event.
    """
    leaf = read_leaf(one.leaf)
    about = leaf["purpose"] in scope.bearing and leaf["channel"] in (scope.channel, ANY)
    if not about or one.claims.get("subject") != scope.subject:
        raise LedgerError("the stored event differs from the ledger's entry")


def _status(decision: Decision, text: str) -> dict[str, Any]:
    ends = decision.expires_at
    return {
        "allow": decision.allow,
        "status": decision.status.value,
        "reason": decision.reason.value,
        "explanation": text,
        "as_of": timestamp(decision.as_of),
        "expires_at": None if ends is None else timestamp(ends),
        "record_id": decision.record_id,
    }


def _event(number: int, one: Evidence) -> dict[str, Any]:
    leaf = read_leaf(one.leaf)
    return {
        "index": one.index,
        **{name: leaf[name] for name in ("id", "type", "purpose", "channel", "state", "basis")},
        "recorded_at": leaf["ts"],
        "policy": leaf["policy"],
        "leaf_hash": leaf_hash(one.leaf).hex(),
        "claims": dict(one.shown),
        "disclosures": list(one.disclosures),
        "proof": _proof_file(number),
    }


def _notice(number: int, words: Words) -> dict[str, Any]:
    return {
        "id": words.notice,
        "version": words.version,
        "language": words.language,
        "title": words.title,
        "text": words.text,
        "hash": words.hash,
        "rendering_hash": words.rendering_hash,
        "effective_from": timestamp(words.effective_from),
        "published_at": timestamp(words.published_at),
        "page": _page_file(number, words),
    }


def _proof_file(number: int) -> str:
    return f"events/{number:04}.tlog-proof"


def _page_file(number: int, words: Words) -> str:
    return f"notices/{number:02}-{words.language}.html"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP without times and without compression: the same files make the same bytes."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = _UNIX, _READABLE
            archive.writestr(entry, data)
    return buffer.getvalue()

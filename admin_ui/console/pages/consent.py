"""Consent: the explorer, finding a person, one person, and what to take away as proof."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from flask import Response, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from werkzeug.exceptions import NotFound

from admin_ui.console import actors, evidence, explorer, frame, times, wording
from admin_ui.console.examined import Examiner
from admin_ui.console.explorer import Explorer, Filters
from admin_ui.console.person import Cell, People, PersonPage
from admin_ui.proofs import export_proof
from admin_ui.services import services
from consent import subjects
from consent.errors import InvalidInstantError, InvalidSubjectError
from consent.ledger.checkpoint import Checkpoint, open_checkpoint, parse_vkey
from consent.ledger.tree import EMPTY_ROOT
from consent.models import event as event_table
from consent.receipts import ReceiptFormat
from consent.subjects import Identifier, Reader, SubjectRef
from policies.explain import CHANNELS
from policies.permissions import Permission, requires
from policies.vocabulary import ChoiceState

_CURSOR: Final = re.compile(r"\d{1,18}")
_REF: Final = re.compile(r"[a-z2-7]{26}")
_KINDS: Final = {
    "email": "e-mail address",
    "phone": "phone number",
    "external_id": "id",
    "ref": "ref",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What was recorded just now, for the sentence at the head of the person's page."""

    id: str
    what: str
    word: str
    stops: bool
    at: datetime
    until: datetime
    now: Cell | None


@requires(Permission.CONSENT_READ)
def explore() -> ResponseReturnValue:
    """The consent explorer."""
    policies = services().policies()
    filters = Filters.of(request.args, policies)
    before = cursor("before")
    with services().database.snapshot() as reader:
        page = explorer_of().page(reader, filters, before, names=frame.may(Permission.PEOPLE_READ))
    choices = {
        "purposes": [(rule.key, rule.name) for rule in policies.purposes.values()],
        "channels": [(channel.value, word) for channel, word in CHANNELS.items()],
        "stored": explorer.STORED,
        "effective": [
            (reason.value.lower(), tag.word) for reason, tag in wording.EFFECTIVE.items()
        ],
    }
    return frame.page("explorer.html", page=page, filters=filters, before=before, choices=choices)


@requires(Permission.CONSENT_READ, Permission.PEOPLE_READ)
def find_person() -> ResponseReturnValue:
    """From an identifier, which comes in the body, to the person's page, named by a random ref."""
    try:
        identifier = identifier_of(request.form.get("who", ""))
    except InvalidSubjectError as error:
        return frame.page("nobody.html", 422, malformed=frame.sentence(error))
    with services().database.read() as reader:
        (ref,) = services().directory.find(reader, [identifier])
    if ref is None:
        return frame.page("nobody.html", 404, kind=_KINDS[identifier.kind])
    return redirect(url_for("console.person", ref=ref), 303)


@requires(Permission.CONSENT_READ)
def person(ref: str) -> ResponseReturnValue:
    """One person: matrix, timeline, proofs; now or as of an instant."""
    as_of, wrong = _as_of()
    signed = signed_checkpoint()
    with services().database.snapshot() as reader:
        known = known_person(reader, ref)
        try:
            shown = _page(reader, known, signed, as_of)
        except InvalidInstantError:
            as_of, wrong = None, "That moment has not come yet; this is what applies now."
            shown = _page(reader, known, signed, None)
        by = {event.actor for event in shown.timeline if event.actor is not None}
        named = actors.names(services(), reader, by)
    zone, now = frame.zone(), services().clock()
    return frame.page(
        "person.html",
        person=shown,
        actors=named,
        before=cursor("before"),
        as_of_field=times.field(as_of, zone) if as_of else "",
        as_of_wrong=wrong,
        now_field=times.field(now, zone),
        done=_done(shown),
    )


@requires(Permission.CONSENT_READ, Permission.EVIDENCE_READ)
def receipt(event_id: UUID) -> ResponseReturnValue:
    """The receipt of an event (ISO/IEC TS 27560), to take away.

    Evidence goes along where it holds nothing that the page would have masked: a salted disclosure
    can be shown whole or not at all.
    """
    with services().database.snapshot() as reader:
        row = reader.execute(
            select(event_table).where(event_table.c.id == str(event_id))
        ).one_or_none()
        if row is None:
            raise NotFound
        claims = examiner_of().examine(reader, [row])[row.id].claims
    return _issued(event_id, ReceiptFormat.TS27560, "jsonld", _shown_whole(claims))


@requires(Permission.CONSENT_READ, Permission.EVIDENCE_READ)
def proof(event_id: UUID) -> ResponseReturnValue:
    """The inclusion proof of an event (C2SP tlog-proof), to take away."""
    return _issued(event_id, ReceiptFormat.TLOG_PROOF, "tlog-proof", frozenset())


@requires(Permission.CONSENT_READ, Permission.PROOF_EXPORT)
def proof_bundle(event_id: UUID) -> ResponseReturnValue:
    """All that shows one consent, in one ZIP: it is recorded who took it, then it is sent.

    Evidence goes along as in receipts, for those who may see it; identifiers go masked.
    """
    stated = request.form.get("as_of", "")
    try:
        as_of = times.typed(stated, frame.zone()) if stated else None
    except ValueError:
        abort(400)
    purpose, channel = request.form.get("purpose"), request.form.get("channel")
    bundle = export_proof(
        services(),
        str(event_id),
        frame.principal().actor,
        may_see=_shown_whole,
        about=(purpose, channel) if purpose and channel else None,
        as_of=as_of,
        identifiers=_masked,
    )
    response = Response(bundle.data, content_type="application/zip")
    response.headers["Content-Disposition"] = f'attachment; filename="proof-{event_id}.zip"'
    return response


# --- shared with the pages that record ---------------------------------------------------------


def known_person(reader: Reader, ref: str) -> SubjectRef:
    """The person of that ref; 404 where there is none."""
    if _REF.fullmatch(ref) is None:
        raise NotFound
    (known,) = services().directory.find(reader, [subjects.ref(ref)])
    return known or abort(404)


def signed_checkpoint() -> Checkpoint:
    """The last checkpoint that this service signed, its signature checked.

    Raises:
        NoteError: it was not signed by our key.
    """
    last = services().checkpoints.last(services().notary.origin)
    if last is None:
        return Checkpoint(services().notary.origin, 0, EMPTY_ROOT)
    return open_checkpoint(last.note, [parse_vkey(services().verifier_key)])


def examiner_of() -> Examiner:
    """What checks events against the ledger."""
    return Examiner(services().log, services().cipher)


def explorer_of() -> Explorer:
    """What reads the explorer's pages."""
    own = services()
    return Explorer(
        own.directory, examiner_of(), own.policies, own.clock, own.notices, own.checker.listings
    )


def people_of() -> People:
    """What reads people's pages."""
    own = services()
    return People(own.directory, examiner_of(), own.checker, own.policies)


def cursor(name: str) -> int | None:
    """A cursor from the address; None where there is none that we gave out."""
    stated = request.args.get(name, "")
    return int(stated) if _CURSOR.fullmatch(stated) else None


def identifier_of(typed: str) -> Identifier:
    """What somebody typed to find a person.

    Raises:
        InvalidSubjectError: it is none of the forms.
    """
    text = typed.strip()
    if "@" in text:
        return subjects.email(text)
    if _REF.fullmatch(text):
        return subjects.ref(text)
    if text.startswith("+"):
        return subjects.phone(text)
    system, colon, own = text.partition(":")
    if colon:
        return subjects.external_id(system, own)
    raise InvalidSubjectError("this is no e-mail address, phone number, id or ref")


# --- inside ------------------------------------------------------------------------------------


def _page(
    reader: Reader, ref: SubjectRef, signed: Checkpoint, as_of: datetime | None
) -> PersonPage:
    return people_of().page(
        reader,
        ref,
        signed,
        as_of=as_of,
        before=cursor("before"),
        names=frame.may(Permission.PEOPLE_READ),
        evidence_seen=frame.may(Permission.EVIDENCE_READ),
    )


def _as_of() -> tuple[datetime | None, str]:
    """The instant that was asked for, or what is wrong with it."""
    stated = request.args.get("as_of", "")
    if not stated:
        return None, ""
    try:
        instant = times.typed(stated, frame.zone())
    except ValueError:
        return None, "Write a date, or a date and a time, such as 2026-03-01 or 2026-03-01T14:00."
    if len(stated) == len("2026-03-01"):
        # All of a day: of today, what of it is over.
        begins = times.typed(f"{stated}T00:00", frame.zone())
        instant = min(instant, max(services().clock(), begins))
    return instant, ""


def _shown_whole(claims: Mapping[str, Any]) -> frozenset[str]:
    """The claims to disclose: evidence where the caller may see it, and it names nobody."""
    seen = {name for name in claims if name != "evidence"}
    if frame.may(Permission.EVIDENCE_READ) and evidence.names_nobody(claims.get("evidence", {})):
        seen.add("evidence")
    return frozenset(seen)


def _masked(reader: Reader, ref: SubjectRef) -> list[tuple[str, str]]:
    if not frame.may(Permission.PEOPLE_READ):
        return []
    return people_of().identifiers(reader, ref)[0]


def _done(shown: PersonPage) -> Done | None:
    """The event that the address says was recorded just now, if it is this person's."""
    recorded = request.args.get("recorded")
    event = next((one for one in shown.timeline if one.id == recorded), None)
    if event is None:
        return None
    return Done(
        id=event.id,
        what=f"{event.purpose} ({event.channel.lower()})",
        word=event.tag.word,
        stops=event.state in _DENIALS,
        at=event.recorded,
        until=times.on_its_way_until(event.recorded),
        now=shown.matrix.cell(event.key, event.on),
    )


_DENIALS: Final = frozenset(state.value for state in ChoiceState if state.denies)


def _issued(event_id: UUID, form: ReceiptFormat, suffix: str, may_see: frozenset[str]) -> Response:
    with services().database.snapshot() as reader:
        issued = services().receipts.issue(reader, str(event_id), form, may_see)
    response = Response(issued.body, content_type=issued.media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{event_id}.{suffix}"'
    return response

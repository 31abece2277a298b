"""Record a choice for a person who called, wrote or came. It takes effect when it is sent.

A no needs nothing but what it is about: nothing may stand in its way (GDPR Art. 7(3)), also where
the person's record does not match the ledger. A yes needs the notice that was read out, a note of
the call and a reason, and is refused while the record does not match.
"""

import hashlib
from typing import Final

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from uuid_utils import uuid4

from admin_ui.console import frame, times
from admin_ui.console.identifiers import best_first
from admin_ui.console.pages.consent import known_person, people_of, signed_checkpoint
from admin_ui.services import services
from consent import subjects
from consent.choices import IdempotencyKey, NewEvent, NoticeRef, Record, choice
from consent.errors import (
    ChannelNotCoveredError,
    IdempotencyConflictError,
    InvalidChoiceError,
    UnknownNoticeError,
    UnknownPurposeError,
)
from consent.subjects import SubjectRef
from governance.errors import DecryptionError
from governance.vault.identify import mask
from policies.explain import CHANNELS
from policies.permissions import Permission, requires
from policies.vocabulary import ANY, ChoiceState

_STATES: Final = (
    (ChoiceState.WITHDRAWN, "Stop it", "They had said yes, and take it back."),
    (ChoiceState.OBJECTED, "I object", "They do not want it, whatever the legal basis."),
    (ChoiceState.REFUSED, "No", "They were asked, and said no."),
    (ChoiceState.GRANTED, "Yes", "They were told what for, and agreed."),
)
_METHODS: Final = (
    ("phone_call", "On the phone"),
    ("letter", "By letter"),
    ("email", "By e-mail"),
    ("in_person", "In person"),
    ("chat", "In a chat"),
)
_FIELDS: Final = (
    "state",
    "purpose",
    "channel",
    "method",
    "occurred_at",
    "note",
    "reason",
    "notice",
    "notice_version",
    "notice_language",
    "once",
)
_LONGEST_NOTE: Final = 2000
_LONGEST_REASON: Final = 200


@requires(Permission.CONSENT_WRITE, Permission.CONSENT_READ)
def record(ref: str) -> ResponseReturnValue:
    """Show the form, and record what it says."""
    given = {name: request.values.get(name, "").strip() for name in _FIELDS}
    signed = signed_checkpoint()
    with services().database.snapshot() as reader:
        known = known_person(reader, ref)
        holds = people_of().integrity(reader, known, signed).holds
    errors: dict[str, str] = {}
    status = 200
    if request.method == "POST":
        errors = _missing(given)
        if not errors and given["state"] == ChoiceState.GRANTED and not holds:
            status, errors = 409, {"": "No yes is accepted while the record does not match."}
        if not errors:
            recorded, errors = _record(known, given)
            if recorded is not None:
                return redirect(url_for("console.person", ref=ref, recorded=recorded), 303)
        status = 422 if status == 200 else status
    given["once"] = given["once"] or str(uuid4())
    return frame.page(
        "record.html",
        status,
        ref=ref,
        person=_called(known),
        given=given,
        errors=errors,
        holds=holds,
        denies=given["state"] in {ChoiceState.WITHDRAWN, ChoiceState.OBJECTED},
        states=_STATES,
        purposes=[(ANY, "Every purpose (only for a no)")]
        + [(rule.key, rule.name) for rule in services().policies().purposes.values()],
        channels=[(ANY, "Every channel (only for a no)")]
        + [(channel.value, word) for channel, word in CHANNELS.items()],
        methods=_METHODS,
        now_field=times.field(services().clock(), frame.zone()),
    )


def _missing(given: dict[str, str]) -> dict[str, str]:
    """What has to be filled in or corrected before anything is tried, by field."""
    note, reason = given["note"], given["reason"]
    wrong = {
        "state": given["state"] not in set(ChoiceState) and "Choose what the person said.",
        "purpose": not given["purpose"] and "Choose the purpose.",
        "channel": not given["channel"] and "Choose the channel.",
        "method": given["method"] not in {"", *dict(_METHODS)} and "Choose from the list.",
        "occurred_at": _wrong_time(given["occurred_at"]),
        "note": len(note) > _LONGEST_NOTE and f"Write at most {_LONGEST_NOTE} characters.",
        "reason": len(reason) > _LONGEST_REASON and f"Write at most {_LONGEST_REASON} characters.",
    }
    if given["state"] == ChoiceState.GRANTED:
        told = given["notice"] and given["notice_version"] and given["notice_language"]
        wrong["notice"] = not told and "A yes needs the notice's name, version and language."
        wrong["note"] = wrong["note"] or (not note and "A yes needs a note of what was said.")
        wrong["reason"] = wrong["reason"] or (not reason and "A yes needs a reason.")
    return {name: sentence for name, sentence in wrong.items() if sentence}


def _wrong_time(stated: str) -> str | None:
    if not stated:
        return None
    try:
        ahead = times.typed(stated, frame.zone()) > services().clock()
    except ValueError:
        return "Write a date and a time, such as 2026-03-01T14:00."
    return "This moment has not come yet." if ahead else None


def _record(ref: SubjectRef, given: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    """The id of the event that was recorded, or what is wrong, by field."""
    actor = str(frame.principal().actor)
    try:
        event = _event(given)
        committed = services().writer.submit(
            Record(subjects.ref(ref), (event,), actor, _once(actor, given))
        )
    except UnknownPurposeError as error:
        return None, {"purpose": frame.sentence(error)}
    except ChannelNotCoveredError as error:
        return None, {"channel": frame.sentence(error)}
    except UnknownNoticeError as error:
        return None, {"notice": frame.sentence(error)}
    except (InvalidChoiceError, IdempotencyConflictError) as error:
        return None, {"": frame.sentence(error)}
    return committed.recorded.events[0].id, {}


def _event(given: dict[str, str]) -> NewEvent:
    evidence = {name: given[name] for name in ("note", "reason") if given[name]}
    notice = None
    if given["state"] == ChoiceState.GRANTED:
        notice = NoticeRef(given["notice"], given["notice_version"], given["notice_language"])
    return choice(
        services().policies(),
        purpose=given["purpose"],
        channel=given["channel"],
        state=ChoiceState(given["state"]),
        method=given["method"] or "phone_call",
        occurred_at=(
            times.typed(given["occurred_at"], frame.zone()) if given["occurred_at"] else None
        ),
        notice=notice,
        evidence=evidence,
    )


def _once(actor: str, given: dict[str, str]) -> IdempotencyKey:
    """Sending the same form twice records once."""
    body = "\n".join(f"{name}={given[name]}" for name in _FIELDS)
    return IdempotencyKey(
        hashlib.sha256(f"{actor}\nconsole\n{given['once']}".encode()).hexdigest(),
        hashlib.sha256(body.encode(errors="backslashreplace")).digest(),
    )


def _called(ref: SubjectRef) -> str:
    """How the page calls the person."""
    if frame.may(Permission.PEOPLE_READ):
        try:
            with services().database.read() as reader:
                held = services().directory.identifiers_of(reader, [ref])[ref]
        except DecryptionError:
            return ref
        if held:
            return mask(best_first(held)[0])
    return ref

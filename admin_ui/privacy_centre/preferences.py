"""See and change one's choices: by a signed link, or by a code (`door`).

GET shows and changes nothing. POST takes one answer and sends the browser back to what it shows
then. What is offered is worked out anew from the records with every request, so that an old page
in an open tab cannot do more than a new one; a Yes counts only under the notice that stood on the
page it was given on. Every word about what was changed is read from the records, too.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from flask import redirect, request
from markupsafe import Markup
from sqlalchemy import Row, select
from werkzeug.exceptions import Forbidden, TooManyRequests
from werkzeug.wrappers import Response

from admin_ui.privacy_centre import choices, notices
from admin_ui.privacy_centre.choices import (
    CHANNELS,
    ON_ITS_WAY,
    UNDO_FOR,
    Decisions,
    NoticesOf,
    Registers,
    Sheet,
)
from admin_ui.privacy_centre.language import N_, Said, said
from admin_ui.privacy_centre.page import address, page, visitor_language
from admin_ui.privacy_centre.visits import (
    Person,
    form_token,
    gone,
    is_own_form,
    person_of,
    read_link,
    visit_token,
)
from admin_ui.services import services
from consent import confirmations, subjects
from consent.choices import NewEvent, Record
from consent.errors import InvalidInstantError, UnknownSubjectError
from consent.links import Link, LinkScope
from consent.models import event as event_table
from consent.states import read_registers
from consent.subjects import Reader, SubjectRef
from governance.contacts import limits
from governance.contacts.limits import Limit
from governance.vault.identify import mask
from policies.permissions import public
from policies.vocabulary import ANY, Channel, ChoiceState, EventType, Reason

YES_AT_MOST: Final = Limit(200, timedelta(hours=1))
"""Of one person: whoever plays with a link must not fill the ledger. A No is never refused."""

_CHANGE: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9][0-9]{0,2})")
"""A change as pages name it: the id of its first event, and how many it has."""
_JUST_BEFORE: Final = timedelta(microseconds=1)
_e: Final = event_table.c


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that a page or an answer rests on, read at one moment."""

    now: datetime
    decisions: Decisions
    registers: Registers
    sheet: Sheet
    standing: Mapping[str, notices.Standing]

    @property
    def notices(self) -> NoticesOf:
        """The notice that stands, by controller."""
        return {key: one.ref for key, one in self.standing.items()}

    @property
    def seen(self) -> str:
        """What the page's forms say of the notices that stood on it."""
        told = sorted((key, repr(ref)) for key, ref in self.notices.items())
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Done:
    """What was changed just now, in words, and the change, if it can be undone."""

    sentences: Sequence[Said]
    undo: str | None = None


@public("The link is the permission: only we can make it, for this person and this one purpose")
def by_link(token: str) -> Response:
    """The choices of whom a signed link is about."""
    link = read_link(token, LinkScope.PREFERENCES)
    return gone() if link is None else _serve(link, address("by_link", token=token), form="")


@public("A code that was sent to a known contact is the permission; without one, it asks for one")
def by_visit() -> Response:
    """The choices of whoever typed a code, or the way to get one."""
    token = visit_token()
    link = read_link(token, LinkScope.VISIT) if token else None
    if request.method == "POST" and (token is None or link is None or not is_own_form(token)):
        raise Forbidden
    if token is None or link is None:
        return page("ask.html", wrong=None, ended=token is not None)
    return _serve(link, address("by_visit"), form=form_token(token))


def _serve(link: Link, here: str, form: str) -> Response:
    now = services().clock()
    with services().database.snapshot() as reader:
        person = person_of(reader, link)
        if person is None:
            return gone()
        look = _look(reader, person, now)
        done = _done(reader, person, look)
        asked = _asked(reader, person, look) if request.method == "POST" else None
    if asked is not None:
        try:
            outcome = _carry_out(person, look, *asked)
        except UnknownSubjectError:  # erased while the page was open
            return gone()
        return redirect(f"{here}{'&' if '?' in here else '?'}{urlencode(outcome)}#done", 303)
    return page(
        "choices.html",
        contact=None if person.contact is None else _set_apart(mask(person.contact)),
        look=look,
        done=done,
        here=here,
        form=form,
        minutes=ON_ITS_WAY // timedelta(minutes=1),
    )


def _set_apart(contact: str) -> Markup:
    """A contact that keeps its order among words that are read from the right."""
    return Markup("<bdi>{}</bdi>").format(contact)


def _look(reader: Reader, person: Person, now: datetime) -> Look:
    language = visitor_language()
    decisions = services().checker.matrix(reader, person.ref)
    registers = {key: one for (_, key), one in read_registers(reader, [person.ref]).items()}
    standing = notices.standing(reader, language, now)
    sheet = choices.sheet(
        services().policies(),
        decisions,
        registers,
        person.identifiers,
        {key: one.ref for key, one in standing.items()},
        language.tag,
        child=_agreed_as_a_child(reader, person.ref),
        awaited=_awaited(reader, person, decisions, registers, now),
    )
    return Look(now, decisions, registers, sheet, standing)


def _awaited(
    reader: Reader, person: Person, decisions: Decisions, registers: Registers, now: datetime
) -> frozenset[str]:
    """The purposes that wait for the link in a mail. Asked only where something waits."""
    if all(one.reason is not Reason.PENDING_CONFIRMATION for one in decisions.values()):
        return frozenset()
    return confirmations.awaited(reader, services().policies(), person.ref, registers, now)


def _agreed_as_a_child(reader: Reader, ref: SubjectRef) -> bool:
    query = select(_e.idx).where(_e.subject_ref == ref, _e.child_without_authority)
    return reader.execute(query.limit(1)).first() is not None


# --- an answer ---------------------------------------------------------------------------------


def _asked(reader: Reader, person: Person, look: Look) -> tuple[list[NewEvent], bool, bool]:
    """What the form asks for: what to record, whether a Yes is among it, whether it is an undo."""
    form, policies, visit = request.form, services().policies(), person.visit
    if "undo" in form:
        changed = _changed(reader, person, look.now, form["undo"])
        found = _undoing(reader, person, look, changed)
        return found, any(not new.denies for new in found), True
    if form.get("all") == "no":
        objection = choices.no_to_all(policies, look.sheet, visit)
        return [objection] if objection is not None else [], False, False
    if form.get("all") == "yes":
        found = choices.yes_to_all(policies, look.sheet, visit, look.notices, look.now)
        return found, True, False
    for answer in choices.Answer:
        purpose, _, channel = form.get(answer.value, "").partition("/")
        cell = look.sheet.cell(purpose, channel)
        if cell is None:
            continue
        if answer is choices.Answer.NO:
            decision = look.decisions[cell.purpose, cell.channel]
            event = choices.no(policies, cell, decision, visit)
        else:
            notice = look.notices.get(policies.purposes[purpose].controller)
            event = choices.yes(policies, cell, visit, notice, look.now) if notice else None
        return [event] if event is not None else [], answer is choices.Answer.YES, False
    return [], False, False


def _carry_out(
    person: Person, look: Look, events: list[NewEvent], yes: bool, undo: bool
) -> dict[str, str]:
    """Record it; what the page has to say then, as a query.

    Raises:
        UnknownSubjectError: the person was erased meanwhile.
        TooManyRequests: too many changes to Yes.
    """
    if yes and not hmac.compare_digest(request.form.get("seen", "").encode(), look.seen.encode()):
        return {"again": "1"}
    if not events:
        return {"same": "1"}
    if yes:
        _count_yes(person, look.now)
    record = Record(subjects.ref(person.ref), tuple(events), person.actor, asks=True)
    recorded = services().writer.submit(record).recorded
    change = f"{recorded.events[0].id}.{len(recorded.events)}"
    return {"undone" if undo else "done": change}


def _count_yes(person: Person, now: datetime) -> None:
    key = services().links.digest("yes", person.ref)
    with services().database.begin() as session:
        admitted = limits.admit(session, YES_AT_MOST, key, now)
    if not admitted:
        raise TooManyRequests


# --- what was changed just now -----------------------------------------------------------------


def _done(reader: Reader, person: Person, look: Look) -> Done | None:
    """What the page has to say first."""
    query = request.args
    if "again" in query:
        return Done(
            [said(N_("The privacy notice has changed meanwhile. Look at it, and choose again."))]
        )
    if "same" in query:
        return Done([said(N_("That is how it was already."))])
    undone = "undone" in query
    change = query.get("undone" if undone else "done", "")
    changed = _changed(reader, person, look.now, change)
    if not changed:
        return None
    at = max(row.recorded_at for row in changed)
    if undone:
        return Done([said(N_("Undone at %(at)s. Below you see what applies now."), at=at)])
    can_be_undone = bool(_undoing(reader, person, look, changed))
    return Done(list(_told(look, changed, at)), change if can_be_undone else None)


def _changed(reader: Reader, person: Person, now: datetime, change: str) -> Sequence[Row[Any]]:
    """The events of one change, if this person made it not long ago."""
    named = _CHANGE.fullmatch(change)
    if named is None:
        return []
    first = reader.execute(select(_e.idx).where(_e.id == named[1])).scalar_one_or_none()
    if first is None:
        return []
    count = int(named[2])
    told = [column for column in event_table.columns if column is not _e.sealed]
    query = select(*told).where(
        # What one command records stands side by side in the ledger.
        _e.idx.between(first, first + count - 1),
        _e.subject_ref == person.ref,
        _e.recorded_at > now - UNDO_FOR,
        _e.type == EventType.CHOICE,
    )
    rows = reader.execute(query.order_by(_e.idx)).all()
    return rows if len(rows) == count else []


def _undoing(
    reader: Reader, person: Person, look: Look, changed: Sequence[Row[Any]]
) -> list[NewEvent]:
    """The events that would take a change back; none where there is nothing to take back."""
    if not changed:
        return []
    try:
        before = services().checker.matrix(
            reader, person.ref, min(row.occurred_at for row in changed) - _JUST_BEFORE
        )
    except InvalidInstantError:  # dated ahead, by a node whose clock runs ahead
        return []
    return choices.undo(
        services().policies(),
        {row.id for row in changed},
        before,
        look.decisions,
        look.registers,
        look.sheet,
        person.visit,
        look.notices,
        look.now,
    )


def _told(look: Look, changed: Sequence[Row[Any]], at: datetime) -> Iterator[Said]:
    stopped = all(row.state != ChoiceState.GRANTED for row in changed)
    if len(changed) > 1:
        yield said(N_("Saved at %(at)s: Yes to everything that is shown here."), at=at)
        yield from _not_in_force(look, changed)
    elif changed[0].purpose == ANY:
        yield said(N_("Done. We stopped all optional uses at %(at)s."), at=at)
    else:
        (row,) = changed
        what = _what(row)
        if row.state == ChoiceState.REFUSED:
            yield said(N_("Saved at %(at)s: No to %(what)s."), at=at, what=what)
            return
        if stopped:
            yield said(N_("Done. We stopped this at %(at)s: %(what)s."), at=at, what=what)
        else:
            yield said(N_("Saved at %(at)s: Yes to %(what)s."), at=at, what=what)
            yield from _not_in_force(look, changed)
    if stopped:
        yield said(
            N_("A message already on its way may still arrive until %(until)s."),
            until=at + ON_ITS_WAY,
        )
    else:
        yield said(N_("You can take it back here at any time, as easily as you gave it."))


def _what(row: Row[Any]) -> Said:
    """A purpose and a channel as the page calls them."""
    rule = services().policies().purposes[row.purpose]
    words, _ = rule.worded(visitor_language().tag)
    return said(
        N_("%(purpose)s (%(channel)s)"),
        purpose=words.name,
        channel=Said(CHANNELS[Channel(row.channel)], {}),
    )


def _not_in_force(look: Look, changed: Sequence[Row[Any]]) -> Iterator[Said]:
    """What does not count yet, or does not count at all, in spite of the Yes."""
    for row in changed:
        decision = look.decisions.get((row.purpose, Channel(row.channel)))
        cell = look.sheet.cell(row.purpose, row.channel)
        if decision is not None and cell is not None and not decision.allow:
            yield said(N_("%(what)s: %(state)s"), what=_what(row), state=cell.state[0])

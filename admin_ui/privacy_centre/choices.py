"""What a person sees of their choices, and what each answer records. Pure.

Fairness (EDPB guidelines 03/2022, California 11 CCR 7004): nothing is chosen for anybody, so that
an answer stands out only where the person gave it; a No needs nothing and is never refused; a Yes
needs the notice that stands on the page. Shown are the channels on which the person can be
reached, those about which they said something, and those that are in use without having been
asked (legitimate interests): neither a maze of what does not concern them, nor less than is done.

Double opt-in: whoever typed a code that was just sent to their mailbox has proven it as a
confirmation link would, so that a Yes for that channel is confirmed at once. Whoever came by a
link has not, for messages are kept and passed on: there a Yes waits for its own confirmation. To
undo restores what had been confirmed before, under the notice that stands on the page, until the
same end, and no more than that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from admin_ui.privacy_centre.language import N_, Day, Said, said
from consent.choices import NewEvent, NoticeRef, choice
from consent.registers import Register
from consent.subjects import Identifier
from policies.decisions import Decision
from policies.model import Controller, PolicySet, Purpose, Wording
from policies.vocabulary import ANY, Channel, ChoiceState, EventType, LegalBasis, Reason

ON_ITS_WAY: Final = timedelta(hours=1)
"""How long a message that had left before a withdrawal may take to arrive."""
UNDO_FOR: Final = timedelta(hours=1)
"""How long a change can be undone with one press. After that it is a change like any other."""

CHANNELS: Final[Mapping[Channel, str]] = {
    Channel.EMAIL: N_("E-mail"),
    Channel.SMS: N_("Text message"),
    Channel.PHONE: N_("Phone call"),
    Channel.POST: N_("Letter"),
    Channel.PUSH: N_("Push message"),
    Channel.IN_APP: N_("In the app"),
    Channel.CHAT: N_("Chat"),
    Channel.WEB: N_("On the website"),
}
_REACHED: Final[Mapping[str, Collection[Channel]]] = {
    "email": (Channel.EMAIL,),
    "phone": (Channel.SMS, Channel.PHONE),
}
"""The channels on which a contact of each kind reaches a person."""

_BASES: Final[Mapping[LegalBasis, str]] = {
    LegalBasis.CONSENT: N_("We do this only if you say Yes."),
    LegalBasis.LEGITIMATE_INTERESTS: N_(
        "We do this because of our legitimate interests, until you say No."
    ),
    LegalBasis.PUBLIC_TASK: N_("We do this as a task in the public interest, until you say No."),
    LegalBasis.CONTRACT: N_("A contract with you takes this."),
    LegalBasis.LEGAL_OBLIGATION: N_("The law obliges us to do this."),
    LegalBasis.VITAL_INTERESTS: N_("This protects the life of somebody."),
}


class Answer(StrEnum):
    """What a person says about one purpose on one channel."""

    YES = "yes"
    NO = "no"


_STANDING: Final[Mapping[Reason, tuple[Answer | None, str]]] = {
    Reason.GRANTED: (Answer.YES, N_("Yes, since %(since)s.")),
    Reason.RENEWED: (Answer.YES, N_("Yes, since %(since)s.")),
    Reason.WITHDRAWN: (Answer.NO, N_("No, since %(since)s.")),
    Reason.OBJECTED: (Answer.NO, N_("No, since %(since)s.")),
    Reason.REFUSED: (Answer.NO, N_("No, since %(since)s.")),
    Reason.SUPPRESSED: (
        Answer.NO,
        N_(
            "No, since %(since)s: you asked us to stay away altogether. Write to us to change that."
        ),
    ),
    Reason.NO_RECORD: (None, N_("You have not chosen. We do not do this.")),
    Reason.SIGNAL_OPT_OUT: (
        None,
        N_("Your browser asks us to leave this out, and we do. We do not do this."),
    ),
    Reason.REPLY_UNDER_REVIEW: (
        None,
        N_("We are reading a message that you sent us. Until then we do not do this."),
    ),
    Reason.PENDING_CONFIRMATION: (
        None,
        N_(
            "You said Yes on %(since)s. It counts once you confirm it through the link that we "
            "sent you. Until then we do not do this."
        ),
    ),
    Reason.CONFIRMATION_LAPSED: (
        None,
        N_("Your Yes of %(since)s was not confirmed in time. We do not do this."),
    ),
    Reason.EXPIRED: (None, N_("Your Yes of %(since)s has ended. We do not do this.")),
    Reason.NOTICE_SUPERSEDED: (
        None,
        N_("What you said Yes to on %(since)s has changed since. We do not do this."),
    ),
    Reason.CHILD_WITHOUT_AUTHORITY: (
        None,
        N_("A parent or guardian has to agree. Until then we do not do this."),
    ),
}
"""What stands, by the reason of the decision, and the sentence that says it. A reason that is not
here is said by whether it allows.
"""

_NO_USE: Final = frozenset(
    {
        Reason.SUPPRESSED,
        Reason.SIGNAL_OPT_OUT,
        Reason.REPLY_UNDER_REVIEW,
        Reason.CHILD_WITHOUT_AUTHORITY,
    }
)
"""Where a Yes on this page would not count, so that none is taken."""

_ALLOWED: Final = (None, N_("You have not chosen. We do this until you say No."))
_NOT_ALLOWED: Final = (None, N_("We do not do this at present."))
_NOT_SENT: Final = N_(
    "You said Yes on %(since)s. It counts once you confirm it: open this page with a code, and say "
    "Yes again. Until then we do not do this."
)
_ENDS: Final = N_("It ends on %(until)s.")


@dataclass(frozen=True, slots=True)
class Cell:
    """One purpose on one channel: what stands, and whether each answer may be given."""

    purpose: str
    channel: Channel
    called: str
    """The channel's name, as a message."""
    answer: Answer | None
    """What the person answered, if they did."""
    state: tuple[Said, ...]
    may_say_yes: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One purpose: what it is, in the words of some language, and its cells."""

    key: str
    words: Wording
    language: str
    """The tag of the language that the words are in."""
    basis: str
    """Why it is lawful, as a message."""
    cells: tuple[Cell, ...]

    def on(self, channel: Channel) -> Cell | None:
        """The cell of a channel, if there is one."""
        return next((cell for cell in self.cells if cell.channel is channel), None)


@dataclass(frozen=True, slots=True)
class Section:
    """What one controller does."""

    controller: Controller
    rows: tuple[Row, ...]
    """What the person decides."""
    fixed: tuple[Row, ...]
    """What they do not decide, so that nothing is left in the dark."""

    @property
    def channels(self) -> list[tuple[Channel, str]]:
        """The channels that occur, with what they are called as messages."""
        used = {cell.channel for row in self.rows for cell in row.cells}
        return [(channel, called) for channel, called in CHANNELS.items() if channel in used]


@dataclass(frozen=True, slots=True)
class Sheet:
    """All choices of a person."""

    sections: tuple[Section, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every cell there is an answer for."""
        return [cell for section in self.sections for row in section.rows for cell in row.cells]

    def cell(self, purpose: str, channel: str) -> Cell | None:
        """The cell of a purpose and a channel, if there is one."""
        for cell in self.cells:
            if (cell.purpose, cell.channel) == (purpose, channel):
                return cell
        return None


Decisions: TypeAlias = Mapping[tuple[str, Channel], Decision]
"""Every decision about one person, as `consent.checks.Checker.matrix` gives them."""
Registers: TypeAlias = Mapping[tuple[str, str, str], Register]
"""The person's registers, by purpose, channel and type."""
NoticesOf: TypeAlias = Mapping[str, NoticeRef]
"""The notice that stands on the page, by controller."""


def sheet(
    policies: PolicySet,
    decisions: Decisions,
    registers: Registers,
    identifiers: Iterable[Identifier],
    notices: NoticesOf,
    language: str,
    *,
    child: bool = False,
    awaited: Collection[str] = (),
) -> Sheet:
    """What a person sees of their choices.

    Args:
        policies: the rules in force.
        decisions: every decision about the person, now.
        registers: what the person said.
        identifiers: how the person can be reached.
        notices: the notice on the page, of each controller that has one.
        language: the tag of the language in which purposes are said, where they have it.
        child: whether a child below the age once agreed without a parent. We do not know when that
            child comes of age, so that a Yes to what children may not agree to is not taken here.
        awaited: the purposes that wait for the link in a mail that went out.
    """
    reached = {channel for one in identifiers for channel in _REACHED.get(one.kind, ())}
    since = {register.event_id: register.occurred_at for register in registers.values()}
    sections = []
    for controller in policies.controllers.values():
        rows, fixed = [], []
        for rule in policies.purposes.values():
            if rule.controller != controller.key:
                continue
            words, tag = rule.worded(language)
            cells: tuple[Cell, ...] = ()
            if is_optional(rule):
                told = controller.key in notices and not (child and rule.child is not None)
                cells = tuple(
                    _cell(rule, channel, decision, registers, since, told, rule.key in awaited)
                    for channel, decision in _concerning(rule, decisions, registers, reached)
                )
                if cells:
                    rows.append(Row(rule.key, words, tag, _BASES[rule.legal_basis], cells))
            else:
                fixed.append(Row(rule.key, words, tag, _BASES[rule.legal_basis], cells))
        if rows or fixed:
            sections.append(Section(controller, tuple(rows), tuple(fixed)))
    return Sheet(tuple(sections))


def is_optional(rule: Purpose) -> bool:
    """Whether a person may stop it: by withdrawing (GDPR Art. 7(3)) or objecting (Art. 21)."""
    return rule.legal_basis.yields_to_objection or rule.direct_marketing


def _concerning(
    rule: Purpose, decisions: Decisions, registers: Registers, reached: Collection[Channel]
) -> list[tuple[Channel, Decision]]:
    return [
        (channel, decisions[rule.key, channel])
        for channel in Channel
        if (rule.key, channel) in decisions
        and (
            channel in reached
            or (rule.key, channel.value, EventType.CHOICE.value) in registers
            or decisions[rule.key, channel].allow
        )
    ]


def _cell(
    rule: Purpose,
    channel: Channel,
    decision: Decision,
    registers: Registers,
    since: Mapping[str, datetime],
    told: bool,
    awaited: bool,
) -> Cell:
    answer, message = _standing(rule, channel, decision, registers)
    if decision.reason is Reason.PENDING_CONFIRMATION and not (
        awaited and channel is Channel.EMAIL
    ):
        message = _NOT_SENT
    own = registers.get((rule.key, channel.value, EventType.CHOICE.value))
    at = since.get(decision.record_id or "") or (own.occurred_at if own is not None else None)
    if "%(since)s" in message and at is None:
        answer, message = _ALLOWED if decision.allow else _NOT_ALLOWED
    state = [said(message, since=Day(at))] if at is not None else [said(message)]
    if answer is Answer.YES and decision.expires_at is not None:
        state.append(said(_ENDS, until=Day(decision.expires_at)))
    may_say_yes = told and decision.reason not in _NO_USE
    return Cell(rule.key, channel, CHANNELS[channel], answer, tuple(state), may_say_yes)


def _standing(
    rule: Purpose, channel: Channel, decision: Decision, registers: Registers
) -> tuple[Answer | None, str]:
    if decision.allow and rule.legal_basis is not LegalBasis.CONSENT:
        # Without consent it is allowed whatever was said but No; a Yes is an objection taken back.
        own = registers.get((rule.key, channel.value, EventType.CHOICE.value))
        if own is not None and own.state == ChoiceState.GRANTED:
            return _STANDING[Reason.GRANTED]
    return _STANDING.get(decision.reason, _ALLOWED if decision.allow else _NOT_ALLOWED)


# --- what an answer records --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visit:
    """How the visitor showed whose choices these are."""

    method: str
    """As the evidence calls it: `privacy_centre_link` or `privacy_centre_code`."""
    proven: Collection[Channel] = ()
    """The channels whose contact was proven within this visit."""


BY_LINK: Final = Visit("privacy_centre_link")


def by_code(contact: Identifier) -> Visit:
    """A visit that began with a code sent to this contact."""
    return Visit("privacy_centre_code", _REACHED.get(contact.kind, ()))


def no(policies: PolicySet, cell: Cell, decision: Decision, visit: Visit) -> NewEvent | None:
    """The event of a No; None where one stands already. A No is never refused."""
    if cell.answer is Answer.NO:
        return None
    rule = policies.purposes[cell.purpose]
    state = ChoiceState.OBJECTED
    if rule.legal_basis is LegalBasis.CONSENT:
        given = decision.allow or decision.reason is Reason.PENDING_CONFIRMATION
        state = ChoiceState.WITHDRAWN if given else ChoiceState.REFUSED
    return choice(
        policies,
        purpose=cell.purpose,
        channel=cell.channel.value,
        state=state,
        method=visit.method,
    )


def yes(
    policies: PolicySet,
    cell: Cell,
    visit: Visit,
    notice: NoticeRef,
    now: datetime,
    *,
    ends_at: datetime | None = None,
    confirmed: bool = False,
) -> NewEvent | None:
    """The event of a Yes under a notice; None where one stands already, or may not be given.

    Args:
        policies: the rules in force.
        cell: what it is about.
        visit: how the visitor came.
        notice: what stands on the page.
        now: the present.
        ends_at: when it ends, if the policy does not end it sooner.
        confirmed: whether a second step is behind the person already, whatever the visit proved.
    """
    if cell.answer is Answer.YES or not cell.may_say_yes:
        return None
    proven = confirmed or cell.channel in visit.proven
    waits = policies.purposes[cell.purpose].needs_confirmation(cell.channel)
    return choice(
        policies,
        purpose=cell.purpose,
        channel=cell.channel.value,
        state=ChoiceState.GRANTED,
        method=visit.method,
        notice=notice,
        occurred_at=now,
        confirmed_at=now if waits and proven else None,
        ends_at=ends_at,
    )


def no_to_all(policies: PolicySet, shown: Sheet, visit: Visit) -> NewEvent | None:
    """One No to every optional purpose on every channel, those that are not shown among them.

    None where a No stands everywhere already.
    """
    if all(cell.answer is Answer.NO for cell in shown.cells):
        return None
    return choice(
        policies, purpose=ANY, channel=ANY, state=ChoiceState.OBJECTED, method=visit.method
    )


def yes_to_all(
    policies: PolicySet, shown: Sheet, visit: Visit, notices: NoticesOf, now: datetime
) -> list[NewEvent]:
    """A Yes to everything that is shown, each under its controller's notice."""
    found = []
    for cell in shown.cells:
        notice = notices.get(policies.purposes[cell.purpose].controller)
        event = yes(policies, cell, visit, notice, now) if notice is not None else None
        if event is not None:
            found.append(event)
    return found


def undo(
    policies: PolicySet,
    changed: Collection[str],
    before: Decisions,
    decisions: Decisions,
    registers: Registers,
    shown: Sheet,
    visit: Visit,
    notices: NoticesOf,
    now: datetime,
) -> list[NewEvent]:
    """The events that take a change back, as far as it still stands.

    What was in force before is given again: until the same end, and confirmed if it was. What was
    not in force is withdrawn again.

    Args:
        policies: the rules in force.
        changed: the ids of the events to take back.
        before: the decisions just before them.
        decisions: those of now.
        registers: what the person has said, now.
        shown: what is shown now.
        visit: how the visitor came.
        notices: the notice on the page, by controller.
        now: the present.
    """
    found: list[NewEvent] = []
    for cell in shown.cells:
        place = cell.purpose, cell.channel
        rule = policies.purposes[cell.purpose]
        was, now_is = before.get(place), decisions[place]
        own = registers.get((cell.purpose, cell.channel.value, EventType.CHOICE.value))
        newest = {now_is.record_id, own.event_id if own is not None else None}
        if was is None or newest.isdisjoint(changed):
            continue
        event = None
        if was.allow and not now_is.allow:
            notice = notices.get(rule.controller)
            if notice is not None:
                event = yes(
                    policies, cell, visit, notice, now, ends_at=was.expires_at, confirmed=True
                )
        elif not was.allow:
            event = no(policies, cell, now_is, visit)
        if event is not None:
            found.append(event)
    return found

"""Record what people chose: grants, refusals, withdrawals, objections, confirmations, marks.

`Recorder.apply` takes many commands in one transaction: ledger entries, events (which are the
outbox), registers and idempotency keys of all of them commit together or not at all. A command
that breaks a rule fails alone, before anything is written for it.

Rules: a purpose or channel that the policy does not know is refused. Only a denial may speak for
every purpose or channel. A claimed time in the future is set to now, and the claim kept; a past
one stands, and decides over what is newer. Withdrawals and objections need no words, method or
notice: nothing may obstruct them. A grant needs the notice it was given under, and that has to be
published and in effect by then; an imported one brings its words along. A denial that names words
which nobody was shown is recorded without them, and the claim kept. Whoever comes back under an
identifier on the suppression list is recorded as objecting since they were put there.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent import bulk
from consent.bulk import Rows
from consent.errors import (
    ChannelNotCoveredError,
    ConsentError,
    IdempotencyConflictError,
    InvalidChoiceError,
    UnknownNoticeError,
    UnknownPurposeError,
    UnknownSubjectError,
)
from consent.ledger.leaf import Leaf, make_leaf, timestamp
from consent.ledger.log import Appended, MerkleLog
from consent.ledger.tree import Frontier
from consent.models import event as event_table
from consent.models import idempotency as idempotency_table
from consent.models import ledger
from consent.notices import Notices, Told
from consent.registers import Event, Key, Register, merge, register_of
from consent.states import read_registers, rows_of
from consent.subject_changes import note_people
from consent.subjects import (
    EvidenceCipher,
    Identifier,
    SubjectDirectory,
    SubjectRef,
    SuppressionList,
)
from policies.model import PolicySet
from policies.vocabulary import ANY, CONFIRMED, Channel, ChoiceState, EventType, MarkState

IDEMPOTENCY_KEPT: Final = timedelta(hours=24)
MAX_EVIDENCE_BYTES: Final = 8192
UNSTATED: Final = "unstated"
SUPPRESSION_LIST: Final = "suppression_list"
SUPPRESSION_ACTOR: Final = "system:suppressions"

_METHOD: Final = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,63}")
_CHANNELS: Final = frozenset(channel.value for channel in Channel)
_NO_BASIS: Final = "none"
_IN_LIST: Final = 5000
_AS_GOOD_AS_NOW: Final = timedelta(seconds=5)
"""A denial that claims to be so fresh means now: clocks differ, and some tell whole seconds."""
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)

_ENTRIES: Final = select(ledger.entry.c.id, ledger.entry.c.idx, ledger.entry.c.leaf_hash).where(
    ledger.entry.c.id.in_(bindparam("ids", expanding=True))
)
_ANSWERED: Final = select(idempotency_table).where(
    idempotency_table.c.key.in_(bindparam("keys", expanding=True))
)
_FORGET: Final = delete(idempotency_table).where(
    idempotency_table.c.key.in_(bindparam("keys", expanding=True)),
    idempotency_table.c.used_at <= bindparam("since"),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NoticeRef:
    """The words that a person was shown: which notice, in which version and language."""

    id: str
    version: str
    language: str
    hash: str | None = None
    """Of the text that was shown, where the form says it: it has to be that of the words."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One thing to record. Made by the functions of this module, which check it."""

    type: EventType
    purpose: str
    channel: str
    state: str
    method: str = UNSTATED
    occurred_at: datetime | None = None
    notice: NoticeRef | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ends_at: datetime | None = None
    confirms: str | None = None
    confirmed_at: datetime | None = None
    child_without_authority: bool = False
    id: str = field(default_factory=lambda: str(uuid7()))
    derived: bool = False
    """The id follows from the content, so that the same fact imported twice is one event."""
    own_words: bool = False
    """The words are in the evidence: the notice need not be one of ours."""
    claimed_notice: NoticeRef | None = None
    """Of a denial: a notice that it named, and that nobody was shown."""

    @property
    def denies(self) -> bool:
        """Whether this takes something away from us: a no, or a mark that is set."""
        return self.state not in (ChoiceState.GRANTED, MarkState.LIFTED, CONFIRMED)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A writer's promise that a repeated body is one act. `key` is already scoped to the writer."""

    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A command: record these events about this person."""

    subject: Identifier
    events: tuple[NewEvent, ...]
    actor: str
    """Who records it: an opaque reference such as `api_key:k3f9`."""
    idempotency: IdempotencyKey | None = None
    asks: bool = False
    """Whether the person said this to us just now, so that what has to be confirmed is asked for;
    an import and what an operator enters ask nobody.
    """


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event that is in the ledger."""

    id: str
    index: int
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a command left behind. `new` is False where it had been carried out before."""

    subject: SubjectRef
    events: tuple[RecordedEvent, ...]
    new: bool = True


def choice(
    policies: PolicySet,
    *,
    purpose: str,
    channel: str,
    state: ChoiceState,
    method: str = UNSTATED,
    occurred_at: datetime | None = None,
    notice: NoticeRef | None = None,
    evidence: Mapping[str, Any] | None = None,
    ends_at: datetime | None = None,
    confirmed_at: datetime | None = None,
    event_id: str | None = None,
    own_words: bool = False,
    elsewhere: bool = False,
) -> NewEvent:
    """What a person said about one purpose on one channel (or, to deny, about `*`).

    `own_words` says that the evidence has the words that the person agreed to, as an import's has.
    `elsewhere` admits a denial on a channel on which the purpose is not pursued: it was said to
    another system, and stands should the policy ever extend the purpose to that channel.

    Evidence may say `age` (years) and `parental_authority` (who gave it and how): a grant by a
    child below the purpose's age without it is recorded, and never in force (GDPR Art. 8).

    Raises:
        UnknownPurposeError: the policy has no such purpose.
        ChannelNotCoveredError: the purpose is not pursued on this channel.
        InvalidChoiceError: a grant without notice or for everything; malformed method; evidence
            too large; a confirmation before the grant.
    """
    rule = None
    if ANY not in (purpose, channel) or state is ChoiceState.GRANTED:
        rule = policies.purpose(purpose)
    _require_covered(
        policies, purpose, channel, denial=state.denies, elsewhere=elsewhere and state.denies
    )
    if _METHOD.fullmatch(method) is None:
        raise InvalidChoiceError("the method is not a short name such as web_form")
    if state is ChoiceState.GRANTED and notice is None:
        raise InvalidChoiceError("a grant must name the notice it was given under")
    if confirmed_at is not None and occurred_at is not None and confirmed_at < occurred_at:
        raise InvalidChoiceError("a grant cannot be confirmed before it was given")
    evidence = _checked_evidence(evidence or {})
    age = evidence.get("age")
    return NewEvent(
        type=EventType.CHOICE,
        purpose=purpose,
        channel=channel,
        state=state.value,
        method=method,
        occurred_at=occurred_at,
        notice=notice,
        evidence=evidence,
        ends_at=ends_at,
        confirmed_at=confirmed_at,
        child_without_authority=(
            state is ChoiceState.GRANTED
            and rule is not None
            and rule.child is not None
            and age is not None
            and age < rule.child.minimum_age
            and not _tells_who(evidence.get("parental_authority"))
        ),
        id=event_id or str(uuid7()),
        derived=event_id is not None,
        own_words=own_words,
    )


def _tells_who(authority: object) -> bool:
    """Whether this says who gave authority and how. A bare `true` would prove nothing."""
    return bool(
        authority.strip()
        if isinstance(authority, str)
        else isinstance(authority, dict) and authority
    )


def confirmation(
    *, purpose: str, channel: str, grant_id: str, method: str, occurred_at: datetime | None = None
) -> NewEvent:
    """The second step of a double opt-in, for the grant that the first step recorded."""
    return NewEvent(
        type=EventType.CONFIRMATION,
        purpose=purpose,
        channel=channel,
        state=CONFIRMED,
        method=method,
        occurred_at=occurred_at,
        confirms=grant_id,
    )


def suppression(
    state: MarkState, *, channel: str = ANY, method: str, occurred_at: datetime | None = None
) -> NewEvent:
    """Never use this channel (or any) for this person again, or take that back."""
    _require_channel(channel)
    return NewEvent(
        type=EventType.SUPPRESSION,
        purpose=ANY,
        channel=channel,
        state=state.value,
        method=method,
        occurred_at=occurred_at,
    )


def signal(
    name: str, state: MarkState, *, method: str, occurred_at: datetime | None = None
) -> NewEvent:
    """A browser signal such as `gpc` seen for a known person, or no longer to be heeded."""
    return NewEvent(
        type=EventType.SIGNAL,
        purpose=name,
        channel=ANY,
        state=state.value,
        method=method,
        occurred_at=occurred_at,
    )


def _require_covered(
    policies: PolicySet, purpose: str, channel: str, *, denial: bool, elsewhere: bool
) -> None:
    if ANY in (purpose, channel) and not denial:
        raise InvalidChoiceError("only a denial may speak for every purpose or channel")
    _require_channel(channel)
    if purpose == ANY:
        return
    rule = policies.purpose(purpose)
    if rule is None:
        raise UnknownPurposeError("the active policy has no such purpose")
    if channel != ANY and channel not in rule.channels and not elsewhere:
        raise ChannelNotCoveredError("the purpose is not pursued on this channel")


def _require_channel(channel: str) -> None:
    if channel != ANY and channel not in _CHANNELS:
        raise ChannelNotCoveredError("there is no such channel")


def _checked_evidence(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(json.dumps(evidence).encode()) > MAX_EVIDENCE_BYTES:
        raise InvalidChoiceError(f"the evidence is larger than {MAX_EVIDENCE_BYTES} bytes")
    age = evidence.get("age")
    if age is not None and (
        isinstance(age, bool) or not isinstance(age, int) or not 0 <= age < 150
    ):
        raise InvalidChoiceError("the age in the evidence is not a number of years")
    return evidence


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An event whose subject and time are known."""

    new: NewEvent
    subject: SubjectRef
    actor: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class _Drafted:
    """An event with everything but its place in the ledger."""

    wanted: _Wanted
    leaf: bytes
    sealed: bytes


@dataclass(slots=True)
class Batch:
    """What one `apply` did: a result for each command, in order, and how the ledger grew."""

    results: list[Recorded | ConsentError | None]
    appended: Appended | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """An event that was recorded just now, and the command that brought it."""

    subject: SubjectRef
    event: NewEvent
    command: Record


class Follower(Protocol):
    """Does what follows from events in their own transaction, so that both happen or neither."""

    def follow(self, session: Session, recorded: Sequence[Followed], now: datetime) -> None:
        """Called once a transaction, behind the ledger's lock, with all events that are new."""


class Recorder:
    """Writes commands to the ledger, the events and the registers."""

    def __init__(
        self,
        log: MerkleLog,
        directory: SubjectDirectory,
        cipher: EvidenceCipher,
        policies: Callable[[], PolicySet],
        admit: Callable[[Frontier], None],
        notices: Notices,
        suppressions: SuppressionList,
        followers: Sequence[Follower] = (),
    ) -> None:
        self._log = log
        self._directory = directory
        self._cipher = cipher
        self._policies = policies
        self._admit = admit
        self._notices = notices
        self._suppressions = suppressions
        self._followers = tuple(followers)

    def hold(
        self, session: Session, people: Sequence[Identifier], now: datetime
    ) -> list[SubjectRef]:
        """Find or make people, and keep every other writer out until the transaction ends.

        What is read from then on is what the commands of this transaction will meet.

        Raises:
            UnknownSubjectError: a ref names nobody.
        """
        known = self._directory.find(session, people)
        subjects = self._directory.ensure(session, people, now)
        self._log.lock(session)
        # Whoever is new here may have nothing recorded after all.
        new = {one for one, before in zip(subjects, known, strict=True) if before is None}
        note_people(session, new, now)
        return subjects

    def apply(self, session: Session, commands: Sequence[Record], now: datetime) -> Batch:
        """Carry out commands in the caller's transaction.

        What may wait on other writers comes in one order (people, then the ledger's head), so
        that writers cannot block each other for good.

        Returns:
            One result a command, in order: what was recorded, or the error that it alone met.

        Raises:
            LedgerRolledBackError: the ledger may not be extended; nothing was written.
            sqlalchemy.exc.IntegrityError: another writer recorded one of these events, or used one
                of these idempotency keys, meanwhile. To do it again finds what that writer did.
        """
        batch = Batch([None] * len(commands))
        commands = self._with_known_notices(session, commands, now, batch)
        self._answer_repeats(session, commands, now, batch)
        subjects = self._subjects(session, commands, now, batch)
        known = self._known_events(session, [commands[i] for i in subjects])
        drafts = self._draft(session, commands, subjects, known, now)
        recorded = known | self._append(session, drafts, now, batch)
        self._follow(session, commands, subjects, known, now)
        for i, subject in subjects.items():
            events = tuple(recorded[new.id] for new in commands[i].events)
            fresh = any(new.id not in known for new in commands[i].events)
            batch.results[i] = Recorded(subject, events, new=fresh)
        self._keep_idempotency(session, commands, list(subjects), batch, now)
        return batch

    def _with_known_notices(
        self, session: Session, commands: Sequence[Record], now: datetime, batch: Batch
    ) -> Sequence[Record]:
        """The commands with notices as they were published; an error for a grant under others."""
        named = {
            (new.notice.id, new.notice.version, new.notice.language)
            for command in commands
            for new in command.events
            if new.notice is not None and not new.own_words
        }
        if not named:
            return commands
        told = self._notices.told(session, named)
        checked = []
        for i, command in enumerate(commands):
            try:
                checked.append(_under_known_notices(command, told, now))
            except UnknownNoticeError as error:
                batch.results[i] = error
                checked.append(command)
        return checked

    def _answer_repeats(
        self, session: Session, commands: Sequence[Record], now: datetime, batch: Batch
    ) -> None:
        keyed = {c.idempotency.key: i for i, c in enumerate(commands) if c.idempotency}
        if not keyed:
            return
        since = now - IDEMPOTENCY_KEPT
        expired = []
        for row in session.execute(_ANSWERED, {"keys": list(keyed)}):
            if row.used_at <= since:
                expired.append(row.key)
                continue
            i = keyed[row.key]
            idempotency = commands[i].idempotency
            if idempotency is not None and row.body_hash == idempotency.body_hash:
                events = tuple(
                    RecordedEvent(event_id, index, bytes.fromhex(leaf_hash))
                    for event_id, index, leaf_hash in json.loads(row.events)
                )
                batch.results[i] = Recorded(SubjectRef(row.subject_ref), events, new=False)
            else:
                batch.results[i] = IdempotencyConflictError(
                    "this Idempotency-Key was used with another body"
                )
        if expired:
            session.execute(_FORGET, {"keys": expired, "since": since})

    def _subjects(
        self, session: Session, commands: Sequence[Record], now: datetime, batch: Batch
    ) -> dict[int, SubjectRef]:
        """Whom each open command is about; people who are new are made."""
        open_ones = [i for i, result in enumerate(batch.results) if result is None]
        given = [i for i in open_ones if commands[i].subject.kind == "ref"]
        found = self._directory.find(session, [commands[i].subject for i in given])
        for i, subject in zip(given, found, strict=True):
            if subject is None:
                batch.results[i] = UnknownSubjectError("the subject ref names nobody")
        todo = [i for i in open_ones if batch.results[i] is None]
        subjects = self._directory.ensure(session, [commands[i].subject for i in todo], now)
        return dict(zip(todo, subjects, strict=True))

    def _known_events(
        self, session: Session, commands: Sequence[Record]
    ) -> dict[str, RecordedEvent]:
        """Events that are in the ledger already. Only ids that were derived can be."""
        derived = [new.id for command in commands for new in command.events if new.derived]
        known: dict[str, RecordedEvent] = {}
        for chunk in _chunks(derived):
            for row in session.execute(_ENTRIES, {"ids": chunk}):
                known[row.id] = RecordedEvent(*row)
        return known

    def _draft(
        self,
        session: Session,
        commands: Sequence[Record],
        subjects: Mapping[int, SubjectRef],
        known: Mapping[str, RecordedEvent],
        now: datetime,
    ) -> list[_Drafted]:
        wanted = {one.new.id: one for one in self._come_back(session)}
        for i, subject in subjects.items():
            for new in commands[i].events:
                if new.id not in known:
                    occurred_at = min(new.occurred_at or now, now)
                    wanted[new.id] = _Wanted(new, subject, commands[i].actor, occurred_at)
        return self._sealed(session, list(wanted.values()), now)

    def _come_back(self, session: Session) -> Iterator[_Wanted]:
        """The standing objections of people who are new, and are not: somebody erased, or
        suppressed, under a new reference.

        Dated to when they were put on the list, so that what they say themselves later counts, and
        nothing that was said before does.
        """
        people = self._directory.newly_named(session)
        found = self._suppressions.suppressed(session, list(people.values())) if people else []
        for subject, since in zip(people, found, strict=True):
            if since is not None:
                objection = NewEvent(
                    EventType.CHOICE,
                    ANY,
                    ANY,
                    ChoiceState.OBJECTED.value,
                    method=SUPPRESSION_LIST,
                    occurred_at=since,
                )
                yield _Wanted(objection, subject, SUPPRESSION_ACTOR, since)

    def _follow(
        self,
        session: Session,
        commands: Sequence[Record],
        subjects: Mapping[int, SubjectRef],
        known: Mapping[str, RecordedEvent],
        now: datetime,
    ) -> None:
        if not self._followers:
            return
        recorded = [
            Followed(subject, new, commands[i])
            for i, subject in subjects.items()
            for new in commands[i].events
            if new.id not in known
        ]
        for follower in self._followers:
            follower.follow(session, recorded, now)

    def _sealed(self, session: Session, wanted: Sequence[_Wanted], now: datetime) -> list[_Drafted]:
        policies = self._policies()
        leaves = [_leaf(policies, one, now) for one in wanted]
        envelopes = self._cipher.seal(
            session,
            [
                (one.subject, one.new.id, "\n".join(leaf.disclosures).encode("ascii"))
                for one, leaf in zip(wanted, leaves, strict=True)
            ],
            now,
        )
        return [
            _Drafted(one, leaf.data, envelope)
            for one, leaf, envelope in zip(wanted, leaves, envelopes, strict=True)
        ]

    def _in_effect_at_once(
        self,
        session: Session,
        drafts: list[_Drafted],
        held: Mapping[tuple[SubjectRef, Key], Register],
        now: datetime,
    ) -> list[_Drafted]:
        """Drafts again whose denial "now" would lose to what a faster or finer clock recorded.

        A denial without a claimed time, or with one of this moment, means: from now on. It is
        dated no earlier than what it denies, and a tie goes to the denial.
        """
        newest = _newest_instants(held)
        late = {}
        for place, one in enumerate(drafts):
            new = one.wanted.new
            if new.denies and now - one.wanted.occurred_at <= _AS_GOOD_AS_NOW:
                floor = newest.get((one.wanted.subject, new.type.value), _BEGINNING)
                if floor > one.wanted.occurred_at:
                    late[place] = replace(one.wanted, occurred_at=floor)
        if not late:
            return drafts
        again = dict(zip(late, self._sealed(session, list(late.values()), now), strict=True))
        return [again.get(place, one) for place, one in enumerate(drafts)]

    def _append(
        self, session: Session, drafts: list[_Drafted], now: datetime, batch: Batch
    ) -> dict[str, RecordedEvent]:
        if not drafts:
            return {}
        head = self._log.lock(session)
        self._admit(head)
        held = read_registers(session, [one.wanted.subject for one in drafts])
        drafts = self._in_effect_at_once(session, drafts, held, now)
        events = [_event_row(one, idx, now) for idx, one in enumerate(drafts, head.size)]
        appended = self._log.append(
            session,
            head,
            [(one.wanted.new.id, one.leaf) for one in drafts],
            also=[Rows.of(event_table, events), rows_of(_changed(drafts, held, head.size))],
        )
        batch.appended = appended
        return {
            one.wanted.new.id: RecordedEvent(one.wanted.new.id, idx, leaf_hash)
            for (idx, one), leaf_hash in zip(
                enumerate(drafts, head.size), appended.leaf_hashes, strict=True
            )
        }

    def _keep_idempotency(
        self,
        session: Session,
        commands: Sequence[Record],
        done: Sequence[int],
        batch: Batch,
        now: datetime,
    ) -> None:
        rows = []
        for i in done:
            idempotency, result = commands[i].idempotency, batch.results[i]
            if idempotency is not None and isinstance(result, Recorded):
                events = json.dumps([[e.id, e.index, e.leaf_hash.hex()] for e in result.events])
                rows.append((idempotency.key, idempotency.body_hash, result.subject, events, now))
        # Not replaced: where another node was given the same key meanwhile, this one begins anew,
        # and finds that node's answer.
        bulk.insert(session, idempotency_table, rows)


def _under_known_notices(
    command: Record, told: Mapping[tuple[str, str, str], Told], now: datetime
) -> Record:
    """The command with each notice as it was published, or only claimed by what denies.

    Raises:
        UnknownNoticeError: a grant names words that nobody was shown.
    """
    events = list(command.events)
    unknown: list[int] = []
    why = ""
    for place, new in enumerate(command.events):
        notice = new.notice
        if notice is None or new.own_words:
            continue
        words = told.get((notice.id, notice.version, notice.language))
        flaw = _flaw_of(notice, words, min(new.occurred_at or now, now))
        if words is not None and flaw is None:
            if notice.language != words.language:
                events[place] = replace(new, notice=replace(notice, language=words.language))
        elif new.denies:
            events[place] = replace(new, notice=None, claimed_notice=notice)
        else:
            unknown.append(place)
            why = why or flaw or ""
    if unknown:
        raise UnknownNoticeError(why, unknown)
    if all(one is new for one, new in zip(events, command.events, strict=True)):
        return command
    return replace(command, events=tuple(events))


def _flaw_of(notice: NoticeRef, words: Told | None, said_at: datetime) -> str | None:
    """Why nobody can have been shown these words then; None if they can."""
    if words is None:
        return "no notice was published under this id, version and language"
    if words.effective_from > said_at:
        return "this version of the notice was not in effect when the choice was made"
    if notice.hash not in {None, words.hash}:
        return "the published words have another hash than the one that was shown"
    return None


def fact_of(row: Any) -> Event:
    """What a row of `consent_event` says about state."""
    return Event(
        key=(row.purpose, row.channel, _register_type(row.type)),
        fact=register_of(
            state=row.state,
            event_id=row.id,
            idx=row.idx,
            occurred_at=row.occurred_at,
            confirmed_at=row.confirmed_at,
            ends_at=row.ends_at,
            notice=row.notice,
            notice_version=row.notice_version,
            child_without_authority=row.child_without_authority,
        ),
        confirms=row.confirms,
    )


def _register_type(event_type: str) -> str:
    """A confirmation bears on the register of the choice that it confirms."""
    return EventType.CHOICE.value if event_type == EventType.CONFIRMATION else event_type


def _fact(one: _Drafted, idx: int) -> Event:
    new = one.wanted.new
    return Event(
        key=(new.purpose, new.channel, _register_type(new.type.value)),
        fact=register_of(
            state=new.state,
            event_id=new.id,
            idx=idx,
            occurred_at=one.wanted.occurred_at,
            confirmed_at=new.confirmed_at,
            ends_at=new.ends_at,
            notice=new.notice.id if new.notice else None,
            notice_version=new.notice.version if new.notice else None,
            child_without_authority=new.child_without_authority,
        ),
        confirms=new.confirms,
    )


def _changed(
    drafts: Sequence[_Drafted], held: Mapping[tuple[SubjectRef, Key], Register], first: int
) -> Iterator[tuple[SubjectRef, Key, Register]]:
    """The registers after the new events, where they differ from those held before."""
    after: dict[tuple[SubjectRef, Key], Register] = {}
    for idx, one in enumerate(drafts, first):
        event = _fact(one, idx)
        place = one.wanted.subject, event.key
        merged = merge(after.get(place) or held.get(place), event)
        if merged is not None:
            after[place] = merged
    for (subject, key), register in after.items():
        if held.get((subject, key)) != register:
            yield subject, key, register


def _newest_instants(
    held: Mapping[tuple[SubjectRef, Key], Register],
) -> dict[tuple[SubjectRef, str], datetime]:
    """When each person last said anything of each type, by the clock of whoever recorded it."""
    newest: dict[tuple[SubjectRef, str], datetime] = {}
    for (subject, (_, _, kind)), register in held.items():
        place = subject, kind
        newest[place] = max(newest.get(place, _BEGINNING), register.occurred_at)
    return newest


def _event_row(one: _Drafted, idx: int, now: datetime) -> tuple[Any, ...]:
    new = one.wanted.new
    return (
        idx,
        new.id,
        one.wanted.subject,
        new.type.value,
        new.purpose,
        new.channel,
        new.state,
        one.wanted.occurred_at,
        now,
        new.notice.id if new.notice else None,
        new.notice.version if new.notice else None,
        new.ends_at,
        new.confirms,
        new.confirmed_at,
        new.child_without_authority,
        one.sealed,
    )


def _leaf(policies: PolicySet, one: _Wanted, now: datetime) -> Leaf:
    rule = policies.purpose(one.new.purpose)
    return make_leaf(
        event_id=one.new.id,
        event_type=one.new.type.value,
        purpose=one.new.purpose,
        channel=one.new.channel,
        state=one.new.state,
        basis=rule.legal_basis.value if rule is not None else _NO_BASIS,
        policy=policies.hash,
        recorded_at=now,
        claims=_claims(one),
    )


def _claims(one: _Wanted) -> dict[str, Any]:
    """What the disclosures of an event say. Absent facts are left out, not disclosed as null."""
    new = one.new
    claims: dict[str, Any] = {
        "subject": one.subject,
        "occurred_at": timestamp(one.occurred_at),
        "method": new.method,
        "actor": one.actor,
    }
    if new.occurred_at is not None and new.occurred_at != one.occurred_at:
        claims["claimed_at"] = timestamp(new.occurred_at)
    if new.notice is not None:
        claims["notice"] = {
            "id": new.notice.id,
            "version": new.notice.version,
            "language": new.notice.language,
        }
    if new.claimed_notice is not None:
        claims["claimed_notice"] = {
            name: value for name, value in asdict(new.claimed_notice).items() if value is not None
        }
    if new.ends_at is not None:
        claims["ends_at"] = timestamp(new.ends_at)
    if new.confirms is not None:
        claims["confirms"] = new.confirms
    if new.confirmed_at is not None:
        claims["confirmed_at"] = timestamp(new.confirmed_at)
    if new.child_without_authority:
        claims["child_without_authority"] = True
    if new.evidence:
        claims["evidence"] = dict(new.evidence)
    return claims


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces small enough for one IN list on either engine."""
    for start in range(0, len(values), _IN_LIST):
        yield values[start : start + _IN_LIST]

"""Browser signals: what a header says, and what is recorded of it.

Source: Global Privacy Control (W3C, Editor's Draft of April 2026), section "The Sec-GPC Header
Field for HTTP Requests"; California 11 CCR 7025(c).

A signal opts a person out of the purposes whose policy names it, on every channel. It is recorded
when it changes what is in force, not with each request, as the specification asks. That it is
absent later is no opt-in. A person who was told of the conflict and said that their earlier yes
stands has lifted it (7025(c)(4)): the same signal does not set it again; a no that they say does.

Non-goals: signals without a person or a pseudonym; consent strings of advertising (TCF, GPP).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from consent.choices import Record, signal
from consent.registers import Register
from consent.states import read_bearing
from consent.subjects import Identifier, Reader, SubjectDirectory, SubjectRef, ref
from consent.writer import ConsentWriter
from policies.model import PolicySet
from policies.vocabulary import ANY, ChoiceState, EventType, MarkState, Signal

GPC_HEADER: Final = "Sec-GPC"
BROWSER: Final = "browser"
"""The system of the external ids under which a site names browsers that it does not know."""
BY_HEADER: Final = "sec_gpc_header"
BY_CONFLICT_NOTICE: Final = "conflict_notice"


def asserts_gpc(field: str | None) -> bool:
    """Whether a `Sec-GPC` field opts out: one of its values is exactly `1`.

    Several fields of the name are one to whoever stands behind a gateway, joined by commas (RFC
    9110, section 5.3), and of several one `1` is enough. `1, 1` is therefore a signal as well: it
    cannot be told from two, and to take it for one costs nobody anything.
    """
    return field is not None and any(value.strip(" \t") == "1" for value in field.split(","))


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report left in force for one person or browser."""

    subject: SubjectRef
    in_force: bool
    """False only where the person lifted the signal."""
    record_id: str
    """The event by which it is so."""
    recorded: bool
    """Whether this report changed it."""
    conflicts: tuple[str, ...]
    """Purposes that the person had said yes to and that the signal stops: they may be asked whether
    the yes stands, and nothing may wait for their answer.
    """


class Signals:
    """Records signals about people. Shared by threads."""

    def __init__(
        self,
        writer: ConsentWriter,
        directory: SubjectDirectory,
        policies: Callable[[], PolicySet],
        read: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        self._writer = writer
        self._directory = directory
        self._policies = policies
        self._read = read

    def report(
        self, subjects: Sequence[Identifier], name: Signal, *, actor: str, method: str = BY_HEADER
    ) -> list[Reported]:
        """A browser sent a signal: it is in force for all these subjects when this returns.

        Raises:
            UnknownSubjectError: a ref names nobody; nothing was recorded.
        """
        held = self._held(subjects, name)
        if any(register is None for _, register in held):
            self._record(subjects, name, actor, method)
            now = self._held(subjects, name)
        else:
            now = held
        before = {register.event_id for _, register in held if register is not None}
        with self._read() as reader:
            return [
                self._reported(reader, subject, name, register, before)
                for subject, register in now
                if subject is not None and register is not None
            ]

    def lift(self, subject: SubjectRef, name: Signal, *, actor: str) -> bool:
        """The person was told of the conflict, and says that their earlier yes stands.

        Returns whether anything changed: what is not in force cannot be lifted.

        Raises:
            UnknownSubjectError: the ref names nobody.
        """

        def decide(session: Session, people: Sequence[SubjectRef], _: datetime) -> list[Record]:
            register = _registers(session, people, name).get(subject)
            if register is None or register.state != MarkState.SET:
                return []
            lifted = signal(name, MarkState.LIFTED, method=BY_CONFLICT_NOTICE)
            return [Record(ref(subject), (lifted,), actor)]

        return bool(self._writer.decide([ref(subject)], decide))

    def conflicts(self, reader: Reader, subject: SubjectRef, name: Signal) -> tuple[str, ...]:
        """Purposes that heed a signal and that the person said yes to, whatever applies now."""
        heeding = [rule.key for rule in self._policies().purposes.values() if name in rule.signals]
        channels = {
            channel.value
            for rule in self._policies().purposes.values()
            for channel in rule.channels
        }
        held = read_bearing(reader, [subject], heeding, sorted(channels)) if heeding else {}
        return tuple(
            sorted(
                {
                    purpose
                    for (purpose, _, kind), register in held.get(subject, [])
                    if kind == EventType.CHOICE and register.state == ChoiceState.GRANTED
                }
            )
        )

    def _record(
        self, subjects: Sequence[Identifier], name: Signal, actor: str, method: str
    ) -> None:
        def decide(session: Session, people: Sequence[SubjectRef], _: datetime) -> list[Record]:
            held = _registers(session, people, name)
            return [
                Record(ref(person), (signal(name, MarkState.SET, method=method),), actor)
                for person in dict.fromkeys(people)
                if person not in held
            ]

        self._writer.decide(subjects, decide)

    def _held(
        self, subjects: Sequence[Identifier], name: Signal
    ) -> list[tuple[SubjectRef | None, Register | None]]:
        with self._read() as reader:
            people = self._directory.find(reader, subjects)
            known = [person for person in people if person is not None]
            held = _registers(reader, known, name)
        return [(person, held.get(person) if person else None) for person in people]

    def _reported(
        self,
        reader: Reader,
        subject: SubjectRef,
        name: Signal,
        register: Register,
        before: set[str],
    ) -> Reported:
        in_force = register.state == MarkState.SET
        return Reported(
            subject,
            in_force,
            register.event_id,
            recorded=register.event_id not in before,
            conflicts=self.conflicts(reader, subject, name) if in_force else (),
        )


def _registers(
    reader: Reader, people: Sequence[SubjectRef], name: Signal
) -> dict[SubjectRef, Register]:
    """What is recorded of a signal about each person."""
    found = read_bearing(reader, people, [name.value], [ANY])
    return {
        person: register
        for person, held in found.items()
        for (_, _, kind), register in held
        if kind == EventType.SIGNAL
    }

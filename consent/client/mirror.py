"""`Mirror`: answers checks from memory, in about two microseconds, and follows what changes.

Guarantees: it answers as the service did at most `max_staleness` seconds ago, and no later than
that: when it has not heard from the service for so long, every answer is a no (`MIRROR_STALE`) that
says since when. Before it has read everything, after its key was refused and after it was closed,
every answer is a no as well. Expiry and the like take effect at their instant, by the service's
clock, whatever this machine's says: where the two instants between which that clock must be differ
in their answer, it is a no.

One thread of its own reads everybody once and then follows by long polls, with pauses of random
length when the service does not answer. Where the service says that no change can bring the copy up
to date (other rules, other keys, a restored backup), it reads everybody anew, and answers from the
copy that it has for as long as that is fresh. Shared by threads. A child forked from a process with
a mirror goes on from the copy that it inherited.
"""

import logging
import os
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from consent.client.decisions import Decision, denied
from consent.client.errors import ClientError, KeyRefusedError, LocalReason, RefusedError
from consent.client.http import Client
from consent.client.replica import Replica, instant, read_page
from consent.client.subjects import Subject
from consent.client.transport import Answer, Patience

LONGEST_WAIT: Final = 25
"""Seconds for which the service holds a call open."""
LONGEST_STALENESS: Final = 3600

_SNAPSHOT: Final = "/v1/consent/snapshot"
_CHANGES: Final = "/v1/consent/snapshot/changes"
_START_OVER: Final = frozenset({"MIRROR_OUTDATED", "CURSOR_INVALID"})
_NO_RIGHT: Final = frozenset({"NOT_AUTHENTICATED", "PERMISSION_DENIED"})
_READING: Final = Patience(read=30.0, total=60.0, tries=1)
_MICROSECONDS: Final = 1_000_000
_WITHOUT_RIGHT_PAUSE: Final = 30.0

_log = logging.getLogger("tutela.mirror")


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How a mirror is: for a health check, and for whoever wonders about a no."""

    ready: bool
    """Whether it answers from its copy now."""
    people: int
    as_of: datetime | None
    """The instant, by the service's clock, at which the copy last equalled the service."""
    age: float | None
    """Seconds since then."""
    copies: int
    """How often everybody was read."""
    failures: int
    """How often in a row the service could not be heard."""
    last_failure: str | None
    """What went wrong last: a sentence that names nobody."""


@dataclass(frozen=True, slots=True)
class _Fresh:
    """When the copy was last known to equal the service."""

    steady: float
    """By our clock, no later than that instant."""
    wall: float
    now: int
    """That instant by the service's clock, in microseconds since 1970."""
    width: int
    """By how many microseconds that clock may be behind what we make of it."""


@dataclass(slots=True)
class _Copy:
    """A copy that is complete, and since when it is known to be."""

    replica: Replica
    fresh: _Fresh


class Mirror:
    """A copy of what may happen to everybody, for some purposes and channels."""

    def __init__(
        self,
        client: Client,
        cells: Iterable[tuple[str, str]],
        *,
        by: Iterable[str] = ("email",),
        max_staleness: float = 30.0,
    ) -> None:
        """Nothing is read yet: `start` it, or use it as a context.

        Args:
            client: speaks with the service, under an API key with the scope `consent.mirror`.
            cells: purposes on channels, such as `[("marketing_information", "email")]`; up to 16.
            by: by what people are looked up: `email`, `phone`, `ref`, `external_id`, or
                `external_id:SYSTEM` for the ids of one system alone. Name no more than you need.
            max_staleness: seconds after which a copy that was not confirmed answers no; above 0,
                an hour at most.

        Raises:
            ValueError: there is no cell or no kind, or the staleness is out of its bounds.
        """
        self._cells: Final = list(dict.fromkeys(cells))
        self._by: Final = sorted(set(by))
        if not self._cells or not self._by:
            raise ValueError("a mirror needs a purpose on a channel, and a kind of identifier")
        if not 0 < max_staleness <= LONGEST_STALENESS:
            raise ValueError(f"max_staleness is above 0 and at most {LONGEST_STALENESS} seconds")
        self.max_staleness: Final = max_staleness
        self._transport = client.transport
        self._steady, self._wall = client.transport.timing.monotonic, client.transport.timing.wall
        self._copy: _Copy | None = None
        self._last: _Fresh | None = None
        self._inherited: _Copy | None = None
        self._refused: LocalReason | None = None
        self._building: Replica | None = None
        self._copies = 0
        self._failures = 0
        self._last_failure: str | None = None
        self._begun = False
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        _mirrors.add(self)

    def __repr__(self) -> str:
        return f"<Mirror of {self._transport.url}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a mirror must not be pickled")

    def __enter__(self) -> "Mirror":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to read, in a thread of its own. Once; `wait_until_ready` says when it is done."""
        with self._starting:
            if not self._begun and not self._ended.is_set():
                self._begun = True
                self._thread = threading.Thread(target=self._run, name="tutela-mirror", daemon=True)
                self._thread.start()

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until it answers from its copy, or for so many seconds. Whether it does."""
        return self._ready.wait(timeout)

    def close(self) -> None:
        """Stop following, and forget everybody."""
        self._ended.set()
        self._forget()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    # --- asking --------------------------------------------------------------------------------

    def check(self, subject: Subject, purpose: str, channel: str) -> Decision:
        """May this channel be used for this purpose towards this person, now?

        Asks nobody but the memory of this process.
        """
        copy = self._copy
        if copy is None:
            return self._without_copy(subject, purpose, channel)
        # First how fresh it is, then what it says: the other way round an old answer could pass
        # for a new one.
        fresh = copy.fresh
        age = self._steady() - fresh.steady
        gone = self._wall() - fresh.wall
        if gone > age:  # noqa: PLR1730 - a call would cost a tenth of the check
            age = gone
        if age > self.max_staleness:
            return self._stale(fresh)
        now = fresh.now + int(age * _MICROSECONDS)
        return copy.replica.decide(subject, purpose, channel, now, fresh.width)

    @property
    def status(self) -> MirrorStatus:
        """How it is."""
        copy = self._copy
        age = None if copy is None else self._age(copy.fresh)
        return MirrorStatus(
            ready=age is not None and age <= self.max_staleness,
            people=0 if copy is None else len(copy.replica),
            as_of=None if copy is None else instant(copy.fresh.now),
            age=age,
            copies=self._copies,
            failures=self._failures,
            last_failure=self._last_failure,
        )

    def _age(self, fresh: _Fresh) -> float:
        return max(self._steady() - fresh.steady, self._wall() - fresh.wall)

    def _stale(self, fresh: _Fresh) -> Decision:
        since = instant(fresh.now)
        return denied(
            LocalReason.MIRROR_STALE,
            f"The mirror has not heard from the service since {since.isoformat()}: it answers no "
            f"until it does, {self.max_staleness:g} seconds being what it may be behind.",
            as_of=since,
        )

    def _without_copy(self, subject: Subject, purpose: str, channel: str) -> Decision:
        if self._inherited is not None:
            self._resume()
            return self.check(subject, purpose, channel)
        if self._refused is not None:
            return denied(self._refused, f"The mirror was refused: {self._last_failure}")
        if self._ended.is_set():
            return denied(LocalReason.MIRROR_NOT_READY, "The mirror is closed.")
        told = "" if self._last_failure is None else f" Last: {self._last_failure}"
        return denied(LocalReason.MIRROR_NOT_READY, f"The mirror has not read everybody yet.{told}")

    # --- following -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                pause = self._step()
                self._failures = 0
            except KeyRefusedError as error:
                pause = self._lost_right(error)
            except RefusedError as error:
                pause = self._start_over(error)
            except ClientError as error:
                pause = self._failed(error)
            except Exception as error:  # noqa: BLE001 - a thread that ended would say nothing
                pause = self._failed(error)
            if pause:
                self._ended.wait(pause)
        self._forget()

    def _step(self) -> float:
        """Read one page. Says how long to pause before the next."""
        copy = self._copy
        if copy is not None and self._building is None:
            return self._follow(copy.replica)
        replica = self._building
        if replica is None:
            replica = self._building = Replica(self._cells, self._by)
        if copy is not None and self._age(copy.fresh) > self.max_staleness:
            self._copy = None  # it says nothing but no any more, and the new one needs the room
            self._ready.clear()
        if replica.after is None:
            return self._follow(replica)
        query = {"cells": self._asked_cells, "by": ",".join(self._by)}
        if replica.epoch is not None:
            query |= {"epoch": replica.epoch, "after": replica.after}
        answer = self._transport.call("GET", _SNAPSHOT, query=query, patience=_READING)
        replica.take_everybody(read_page(answer.body))
        return 0.0

    def _follow(self, replica: Replica) -> float:
        wait = 0 if self._building is not None else min(LONGEST_WAIT, int(self.max_staleness / 3))
        query = {
            "cells": self._asked_cells,
            "by": ",".join(self._by),
            "epoch": replica.epoch or "",
            "cursor": replica.cursor,
            "wait": str(wait),
        }
        patience = Patience(read=wait + 10.0, total=wait + 30.0, tries=1)
        answer = self._transport.call("GET", _CHANGES, query=query, patience=patience)
        page = read_page(answer.body)
        more = replica.take_changes(page)
        if more:
            return 0.0
        waited = self._confirmed(replica, page.head, answer)
        if page.lines or waited >= wait / 2 > 0:
            return 0.0
        # Nothing new, and it did not wait for news: too many others do. Not all at once again.
        return self._transport.timing.chance() * min(1.0, self.max_staleness / 4)

    def _confirmed(self, replica: Replica, head: Any, answer: Answer) -> float:
        """The copy equals the service, at an instant between when we asked and now."""
        steady, wall = self._steady(), self._wall()
        # The page was read so long after the service had the question, which is after we sent it.
        waited = min(max(0.0, float(head["waited"])), steady - answer.asked_at)
        read_at = answer.asked_at + waited
        since = steady - read_at
        fresh = _Fresh(read_at, wall - since, int(head["now"]), int(since * _MICROSECONDS))
        if self._building is replica:
            self._copy, self._building, self._refused = _Copy(replica, fresh), None, None
            self._copies += 1
        elif self._copy is not None:
            self._copy.fresh = fresh
        self._last = fresh
        self._ready.set()
        return waited

    @property
    def _asked_cells(self) -> str:
        return ",".join(f"{purpose}:{channel}" for purpose, channel in self._cells)

    # --- what goes wrong -------------------------------------------------------------------------

    def _failed(self, error: Exception) -> float:
        self._note(error)
        longest = min(5.0, self.max_staleness / 4)
        patience = Patience(longest_pause=longest)
        return patience.pause(self._failures - 1, self._transport.timing.chance)

    def _start_over(self, error: RefusedError) -> float:
        if error.reason in _START_OVER:
            self._building = Replica(self._cells, self._by)
        return self._failed(error)

    def _lost_right(self, error: KeyRefusedError) -> float:
        pause = self._failed(error)
        if error.reason not in _NO_RIGHT:
            return pause  # a proxy said so, not the service: it is as good as no answer
        self._refused = LocalReason.KEY_REFUSED
        self._forget()
        return min(_WITHOUT_RIGHT_PAUSE, pause * 10)

    def _note(self, error: Exception) -> None:
        self._failures += 1
        # What we did not raise on purpose may quote anything.
        said = str(error) if isinstance(error, ClientError) else type(error).__name__
        self._last_failure = said
        if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, 8th time …
            _log.warning("mirror cannot follow, %d times: %s", self._failures, said)

    def _forget(self) -> None:
        copy, building, inherited = self._copy, self._building, self._inherited
        self._copy = self._building = self._inherited = self._last = None
        self._ready.clear()
        replicas = [one.replica for one in (copy, inherited) if one is not None]
        for replica in (*replicas, *([building] if building is not None else [])):
            replica.clear()

    # --- forks -----------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """In the child there is no thread that follows. The first question starts another one."""
        ended = self._ended.is_set()
        self._starting, self._ready, self._ended = (
            threading.Lock(),
            threading.Event(),
            threading.Event(),
        )
        if ended:
            self._ended.set()
        self._building, self._thread = None, None
        self._inherited, self._copy = self._copy, None
        if self._begun and self._inherited is None and not ended:
            self._begun = False
            self.start()

    def _resume(self) -> None:
        with self._starting:
            if self._inherited is not None:
                self._copy, self._inherited = self._inherited, None
                self._ready.set()
                self._begun = False
        self.start()


_mirrors: weakref.WeakSet[Mirror] = weakref.WeakSet()


def _in_a_child() -> None:
    for mirror in list(_mirrors):
        mirror._after_fork()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_in_a_child)

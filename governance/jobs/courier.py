"""Delivers what is due, in threads of this process, among any number of processes.

A job runs on a schedule; deliveries are due whenever something happened. Their queues are in the
database, each attempt is claimed there under a lease (`governance.outbound`), so that a courier
more, less or killed does no harm: here is only the loop that asks again and again.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from governance.errors import DatabaseError

POLL: Final = timedelta(seconds=1)
_BACKOFF: Final = 30.0

_log = structlog.get_logger()


class Delivery(Protocol):
    """A queue of things to deliver. Threads may share it."""

    def deliver_next(self) -> bool:
        """Make one attempt at what is due; False if there was nothing."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one courier does."""

    name: str
    delivery: Delivery
    threads: int = 1
    """So many attempts at a time: one that is slow must not hold up the others."""


class Couriers:
    """Makes deliveries from `start` to `stop`."""

    def __init__(self, rounds: Sequence[Round], *, poll: timedelta = POLL) -> None:
        """What to deliver, and how often to look where nothing was due."""
        self._rounds = tuple(rounds)
        self._poll = poll.total_seconds()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin. Returns at once."""
        for one in self._rounds:
            for number in range(one.threads):
                thread = threading.Thread(
                    target=self._run, args=[one], name=f"courier-{one.name}-{number}", daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the attempts that are being made end. Returns whether all had, after `timeout`."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, one: Round) -> None:
        log = _log.bind(job=one.name)
        pause = self._poll
        while not self._stopping.is_set():
            try:
                while one.delivery.deliver_next() and not self._stopping.is_set():
                    pass
                pause = self._poll
            except (SQLAlchemyError, DatabaseError) as error:
                # Nothing is lost: what is due stays due until the database says otherwise.
                log.warning("delivery interrupted", error=type(error).__name__)
                pause = min(2 * pause, _BACKOFF)
            except Exception as error:
                # The attempt keeps its lease and is made again when that has ended.
                log.exception("delivery failed", code=type(error).__name__)
                pause = min(2 * pause, _BACKOFF)
            self._stopping.wait(pause)

"""Opened keys of people, kept for a minute.

Guarantees: no key is used longer than its time after it was read; at most so many are kept; of
threads that miss the same key at once, one reads it and the others wait; what is evicted is not
put back by a read that began before.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Final, NoReturn, TypeVar

from consent.subjects import SubjectRef
from governance.keys.envelope import PersonKey

Name = TypeVar("Name", bytes, SubjectRef)
"""A key's id, or the person whose active key is meant."""

_PATIENCE: Final = 5.0
"""Seconds to wait for another thread's read before reading oneself."""


class KeyCache:
    """Keys by id, and active keys by person. Shared by threads."""

    def __init__(self, seconds: float, size: int, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._size = size
        self._monotonic = monotonic
        self.reset()

    def __repr__(self) -> str:
        return f"<KeyCache of {len(self._keys)} keys, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys must not be pickled")

    def reset(self) -> None:
        """Forget everything, locks included: for a child after a fork."""
        self._lock = threading.Lock()
        self._keys: dict[bytes | SubjectRef, tuple[float, PersonKey]] = {}
        self._flights: dict[bytes | SubjectRef, threading.Event] = {}
        self._evictions = 0

    def evict(self, subjects: Collection[SubjectRef]) -> None:
        """Forget the keys of these people."""
        with self._lock:
            self._evictions += 1
            self._keys = {
                name: entry
                for name, entry in self._keys.items()
                if entry[1].subject not in subjects
            }

    def get(
        self,
        names: Iterable[Name],
        load: Callable[[list[Name]], dict[Name, PersonKey]],
        private: Collection[bytes] = (),
    ) -> dict[Name, PersonKey]:
        """The keys of these names, read by `load` where needed; the unknown are left out.

        Keys whose ids are `private` (made by a transaction that has not committed) are not kept.
        """
        found: dict[Name, PersonKey] = {}
        own: list[Name] = []
        others: dict[Name, threading.Event] = {}
        flight = threading.Event()
        now = self._monotonic()
        with self._lock:
            evictions = self._evictions
            for name in names:
                entry = self._keys.get(name)
                if entry is not None and entry[0] > now:
                    found[name] = entry[1]
                elif name in self._flights:
                    others[name] = self._flights[name]
                else:
                    self._flights[name] = flight
                    own.append(name)
        if own:
            try:
                loaded = load(own)
                self._keep(loaded, now + self._seconds, evictions, private)
                found |= loaded
            finally:
                with self._lock:
                    for name in own:
                        self._flights.pop(name, None)
                flight.set()
        return found | self._awaited(others, load) if others else found

    def _awaited(
        self,
        others: dict[Name, threading.Event],
        load: Callable[[list[Name]], dict[Name, PersonKey]],
    ) -> dict[Name, PersonKey]:
        for flight in set(others.values()):
            flight.wait(_PATIENCE)
        now = self._monotonic()
        found: dict[Name, PersonKey] = {}
        for name in others:
            entry = self._keys.get(name)
            if entry is not None and entry[0] > now:
                found[name] = entry[1]
        missing = [name for name in others if name not in found]
        return found | load(missing) if missing else found

    def _keep(
        self,
        loaded: dict[Name, PersonKey],
        until: float,
        evictions: int,
        private: Collection[bytes],
    ) -> None:
        with self._lock:
            if evictions != self._evictions:
                return
            for name, key in loaded.items():
                if key.kid not in private:
                    # Last in, last out: all live equally long, so the first are the oldest.
                    self._keys.pop(name, None)
                    self._keys[name] = (until, key)
            for oldest in list(self._keys)[: max(0, len(self._keys) - self._size)]:
                del self._keys[oldest]

"""Whatever people say, in whatever order it comes: the API answers by the newest, at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.ledger.leaf import timestamp
from tests.fakes.services import NDJSON, Api, person, said

PURPOSES = ("marketing_information", "event_invitations")
CHANNELS = ("email", "sms")
ANY = "*"


@dataclass(frozen=True)
class Say:
    """One choice that arrives now and was made some minutes ago."""

    who: int
    purpose: str
    channel: str
    state: str
    minutes_ago: int | None


GRANTS = st.builds(
    Say,
    who=st.integers(0, 2),
    purpose=st.sampled_from(PURPOSES),
    channel=st.sampled_from(CHANNELS),
    state=st.just("granted"),
    minutes_ago=st.none() | st.integers(0, 3),
)
DENIALS = st.builds(
    Say,
    who=st.integers(0, 2),
    purpose=st.sampled_from((*PURPOSES, ANY)),
    channel=st.sampled_from((*CHANNELS, ANY)),
    state=st.sampled_from(("refused", "withdrawn", "objected")),
    minutes_ago=st.none() | st.integers(0, 3),
)
HISTORIES = st.lists(GRANTS | DENIALS, min_size=1, max_size=8)


class Told:
    """What was said, and what must follow from it by the rules alone."""

    def __init__(self) -> None:
        self._said: list[tuple[Say, datetime]] = []

    def note(self, say: Say, now: datetime) -> None:
        """Somebody said something."""
        at = now - timedelta(minutes=say.minutes_ago or 0)
        self._said.append((say, at))

    def allows(self, who: int, purpose: str, channel: str) -> bool:
        """The newest that bears on the question decides, and a tie is a no."""
        bearing = [
            (at, say.state != "granted")
            for say, at in self._said
            if say.who == who and say.purpose in (purpose, ANY) and say.channel in (channel, ANY)
        ]
        return bool(bearing) and not max(bearing)[1]


@settings(max_examples=25)
@given(history=HISTORIES)
def test_every_answer_after_a_write_knows_of_it(shared_api: Api, history: list[Say]) -> None:
    people = [person() for _ in range(3)]
    told = Told()
    for say in history:
        now = shared_api.clock.advance(timedelta(minutes=1))
        when = say.minutes_ago and {
            "occurred_at": timestamp(now - timedelta(minutes=say.minutes_ago))
        }
        shared_api.record(
            people[say.who], said(say.state, say.purpose, say.channel, **(when or {}))
        )
        told.note(say, now)
        for purpose in PURPOSES:
            for channel in CHANNELS:
                decision = shared_api.check(people[say.who], purpose=purpose, channel=channel)
                assert decision["allow"] == told.allows(say.who, purpose, channel)


@settings(max_examples=25)
@given(
    history=HISTORIES,
    asked=st.lists(st.integers(0, 3), max_size=12),
    purpose=st.sampled_from((*PURPOSES, "no_such_purpose", "newsletter")),
    channel=st.sampled_from(CHANNELS),
)
def test_single_checks_batches_lists_and_look_ups_agree(
    shared_api: Api, history: list[Say], asked: list[int], purpose: str, channel: str
) -> None:
    people = [person() for _ in range(4)]  # of the last nobody knows
    refs: dict[int, str] = {}
    for say in history:
        shared_api.clock.advance(timedelta(minutes=1))
        choice = said(say.state, say.purpose, say.channel)
        refs[say.who] = shared_api.record(people[say.who], choice)["subject"]
    subjects = [
        {"ref": refs[who]} if who in refs and place % 2 else people[who]
        for place, who in enumerate(asked)
    ]
    question = {"purpose": purpose, "channel": channel}
    single = [shared_api.check(subject, **question) for subject in subjects]
    batch = shared_api.post("/v1/consent/check/batch", {"subjects": subjects, **question})
    assert batch.get_json() == {"results": single}
    lines = "".join(json.dumps(subject) + "\n" for subject in subjects).encode()
    listed = shared_api.post(
        "/v1/consent/check/batch", lines, query_string=question, content_type=NDJSON
    )
    assert [json.loads(line) for line in listed.data.splitlines()] == single
    for who in refs:
        found = shared_api.post("/v1/consent/subjects/lookup", {"subject": people[who]})
        for cell in found.get_json()["matrix"]:
            where = {"purpose": cell.pop("purpose"), "channel": cell.pop("channel")}
            if where["purpose"] in PURPOSES:
                assert cell == shared_api.check(people[who], **where)


def test_withdrawals_hold_from_their_acknowledgement_on_under_load(shared_api: Api) -> None:
    people = [person() for _ in range(12)]
    for who in people:
        shared_api.record(who, said("granted"))

    def withdraw(who: Any) -> list[bool]:
        shared_api.record(who, said("withdrawn"))
        return [shared_api.check(who)["allow"] for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert not any(any(answers) for answers in pool.map(withdraw, people))

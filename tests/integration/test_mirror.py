"""A mirror beside a running service: what it answers while it follows, and when it cannot."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from consent.client.errors import UnreadableAnswerError
from consent.client.http import Client
from consent.client.mirror import Mirror
from consent.client.replica import Replica, read_page
from consent.client.subjects import Subject, email, normalised, phone, ref
from consent.client.transport import Timing
from consent.subjects import parse_subject
from governance.audit.trail import CLI
from governance.vault.mirror_names import MirrorDirectory
from policies.permissions import Permission
from tests.fakes.mirrors import erase
from tests.fakes.services import MARKETING, Api, person, problem, said
from tests.fakes.serving import Answer, scripted, serve

CELLS = [(MARKETING, "email")]
SNAPSHOT = f"/v1/consent/snapshot?cells={MARKETING}:email&by=email"


class Clock:
    """A clock of this machine that a test moves forward."""

    def __init__(self) -> None:
        self.steady = 0.0
        self.wall = 0.0

    def timing(self) -> Timing:
        """For a client: no pause before it tries again."""
        return Timing(
            monotonic=lambda: time.monotonic() + self.steady,
            chance=lambda: 0.0,
            wall=lambda: time.time() + self.steady + self.wall,
        )


@contextmanager
def following(api: Api, clock: Clock | None = None, **options: Any) -> Iterator[Mirror]:
    key = api.key([Permission.CONSENT_MIRROR])["Authorization"][7:]
    timing = (clock or Clock()).timing()
    with (
        serve(api.app) as url,
        Client(url, key, timing=timing) as client,
        Mirror(client, CELLS, **{"max_staleness": 6.0, **options}) as mirror,
    ):
        assert mirror.wait_until_ready(20), mirror.status
        yield mirror


def until(happened: Any, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)


def ask(mirror: Mirror, who: Subject) -> Any:
    return mirror.check(who, *CELLS[0])


def test_it_follows_what_people_say(api: Api) -> None:
    ada, eve = person(), person()
    api.record(ada, said("granted"))
    who = email(f"  {ada['email'].upper()} ")
    with following(api) as mirror:
        decision = ask(mirror, who)
        assert decision
        assert decision.reason == "GRANTED"
        ours = api.check(ada)
        assert decision.record_id == ours["record_id"]
        assert decision.policy == ours["policy"]
        assert ask(mirror, email(eve["email"])).reason == "SUBJECT_UNKNOWN"
        api.record(ada, said("withdrawn", notice=None))
        until(lambda: ask(mirror, who).reason == "WITHDRAWN")
        api.record(eve, said("granted"))
        until(lambda: ask(mirror, email(eve["email"])))
        assert mirror.status.people == 2


def test_what_it_does_not_hold_is_a_no(api: Api) -> None:
    recorded = api.record(person(), said("granted"))
    with following(api) as mirror:
        assert mirror.check(email("a@b.de"), MARKETING, "sms").reason == "NOT_MIRRORED"
        assert ask(mirror, phone("+4930123456")).reason == "NOT_MIRRORED"
        assert ask(mirror, ref(recorded["subject"])).reason == "NOT_MIRRORED"


def cut_off(mirror: Mirror) -> None:
    """Nobody is there any more. What is on the way is heard still."""
    mirror._transport.url = "http://127.0.0.1:1"  # type: ignore[misc] # it never changes elsewhere
    until(lambda: mirror.status.failures > 0, 40)


def test_an_expiry_takes_effect_without_the_service(api: Api) -> None:
    ada = person()
    given = api.clock().replace(year=api.clock().year - 2) + timedelta(seconds=20)
    api.record(ada, said("granted", occurred_at=given.isoformat()))
    clock = Clock()
    with following(api, clock, max_staleness=60) as mirror:
        cut_off(mirror)
        granted = ask(mirror, email(ada["email"]))
        assert granted.reason == "GRANTED"
        assert granted.expires_at == api.clock() + timedelta(seconds=20)
        clock.steady += 21
        expired = ask(mirror, email(ada["email"]))
        assert (expired.allow, expired.reason) == (False, "EXPIRED")
        assert expired.expires_at == granted.expires_at


@pytest.mark.parametrize("sleeps", [False, True])
def test_cut_off_it_says_no_after_its_staleness_and_since_when(api: Api, sleeps: bool) -> None:
    ada = person()
    api.record(ada, said("granted"))
    clock = Clock()
    with following(api, clock, max_staleness=30) as mirror:
        assert ask(mirror, email(ada["email"]))
        cut_off(mirror)
        if sleeps:
            clock.wall += 31  # the machine slept: its steady clock stood still
        else:
            clock.steady += 31
        decision = ask(mirror, email(ada["email"]))
        assert (decision.allow, decision.reason) == (False, "MIRROR_STALE")
        assert decision.as_of.isoformat() in decision.detail


def test_after_a_hundred_disconnects_it_equals_the_service(api: Api) -> None:
    people = [person() for _ in range(10)]
    cut = 0

    def flaky(environ: Any, start_response: Any) -> Any:
        nonlocal cut
        if environ["PATH_INFO"].startswith("/v1/consent/snapshot") and (cut := cut + 1) % 2:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        return api.app(environ, start_response)

    key = api.key([Permission.CONSENT_MIRROR])["Authorization"][7:]
    with (
        serve(flaky) as url,
        Client(url, key, timing=Clock().timing()) as client,
        Mirror(client, CELLS, max_staleness=2) as mirror,
    ):
        turn = 0
        while cut < 200:
            choice = said("granted") if turn % 3 else said("withdrawn", notice=None)
            api.record(people[turn % 10], choice)
            turn += 1
        for one in people:
            wanted = api.check(one)["reason"]
            until(lambda one=one, wanted=wanted: ask(mirror, email(one["email"])).reason == wanted)
        assert mirror.status.copies == 1


def test_a_key_that_is_revoked_ends_the_copy(api: Api) -> None:
    ada = person()
    api.record(ada, said("granted"))
    issued = api.services.api_keys.create(
        name="mirror", scopes=[Permission.CONSENT_MIRROR], actor=CLI
    )
    with (
        serve(api.app) as url,
        Client(url, issued.key, timing=Clock().timing()) as client,
        Mirror(client, CELLS, max_staleness=3) as mirror,
    ):
        assert mirror.wait_until_ready(20)
        api.services.api_keys.revoke(issued.id, actor=CLI)
        until(lambda: ask(mirror, email(ada["email"])).reason == "KEY_REFUSED")
        assert mirror.status.people == 0


def test_whoever_is_erased_is_nobody_in_it(api: Api) -> None:
    ada = person()
    recorded = api.record(ada, said("granted"))
    services = api.services
    with following(api) as mirror:
        assert ask(mirror, email(ada["email"]))
        erase(services.database, services.keyring, recorded["subject"], api.clock())
        until(lambda: ask(mirror, email(ada["email"])).reason == "SUBJECT_UNKNOWN")
        assert mirror.status.people == 0


def test_whoever_becomes_known_without_a_choice_is_known_to_it(api: Api) -> None:
    services = api.services
    with following(api) as mirror:
        who = person()["email"]
        with services.database.begin() as session:
            services.writer._recorder.hold(session, [parse_subject({"email": who})], api.clock())
        until(lambda: ask(mirror, email(who)).reason == "NO_RECORD")


def test_a_forked_child_goes_on(api: Api) -> None:
    ada = person()
    api.record(ada, said("granted"))
    with following(api) as mirror:
        child = os.fork()
        if child == 0:
            fine = ask(mirror, email(ada["email"])).allow and mirror._thread is not None
            os._exit(0 if fine else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_before_it_is_ready_and_after_it_is_closed_it_says_no() -> None:
    with scripted(None) as server, Client(server.url, "key") as client:
        mirror = Mirror(client, CELLS)
        assert ask(mirror, email("a@b.de")).reason == "MIRROR_NOT_READY"
        mirror.close()
        assert ask(mirror, email("a@b.de")).reason == "MIRROR_NOT_READY"
        assert "redacted" in repr(mirror)


# --- pages -------------------------------------------------------------------------------------


def test_pages_name_nobody_and_differ_by_key(api: Api) -> None:
    ada = person()
    recorded = api.record(ada, said("granted"))
    mine = api.get(SNAPSHOT)
    other = api.get(SNAPSHOT, headers=api.key([Permission.CONSENT_MIRROR]))
    assert ada["email"] not in mine.text
    assert recorded["subject"] not in mine.text
    assert mine.text.splitlines()[1] != other.text.splitlines()[1]


def test_a_page_needs_its_scope(api: Api) -> None:
    headers = api.key([Permission.CONSENT_CHANGES])
    problem(api.get(SNAPSHOT, headers=headers), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "query",
    ["", "cells=x&by=email", "cells=news:fax&by=email", "cells=news:email&by=name",
     "cells=news:email&by=email&after=x", "cells=news:email&by=email&limit=2001"],
)  # fmt: skip
def test_a_malformed_question_is_refused(shared_api: Api, query: str) -> None:
    problem(shared_api.get(f"/v1/consent/snapshot?{query}"), 422, "FIELD_INVALID")


def test_another_history_is_noticed(api: Api) -> None:
    api.record(person(), said("granted"))
    head = read_page(api.get(SNAPSHOT).data).head
    follow = SNAPSHOT.replace("snapshot?", "snapshot/changes?") + f"&epoch={head['epoch']}"
    assert api.get(f"{follow}&cursor={head['cursor']}").status_code == 200
    for cursor in ("1.0.0000000000000000", "9.0.0000000000000000", "0.7.0000000000000000"):
        problem(api.get(f"{follow}&cursor={cursor}"), 409, "MIRROR_OUTDATED")
    stale = follow.replace(head["epoch"], "0" * 32)
    problem(api.get(f"{stale}&cursor={head['cursor']}"), 409, "MIRROR_OUTDATED")


def test_a_page_that_comes_twice_or_late_is_not_taken(api: Api) -> None:
    api.record(person(), said("granted"))
    replica = Replica(CELLS, ["email"])
    replica.take_everybody(read_page(api.get(SNAPSHOT).data))
    follow = SNAPSHOT.replace("snapshot?", "snapshot/changes?") + f"&epoch={replica.epoch}"
    api.record(person(), said("granted"))
    body = api.get(f"{follow}&cursor={replica.cursor}").data
    replica.take_changes(read_page(body))
    with pytest.raises(UnreadableAnswerError):
        replica.take_changes(read_page(body))
    with pytest.raises(UnreadableAnswerError):
        read_page(b"\n".join(body.splitlines()[:-1]))
    assert len(replica) == 2


def test_the_sdk_spells_identifiers_as_the_vault_does(api: Api) -> None:
    for address in ("Ada@Example.COM", " ada@example.com ", "ÄDA@exämple.de", "ﬁ@example.com"):
        api.record({"email": address}, said("granted"))
    with following(api) as mirror:
        for address in ("ada@example.com", "äda@EXÄMPLE.de", "FI@example.com"):
            assert ask(mirror, email(address)), normalised(email(address))


def test_secrets_of_two_audiences_have_nothing_in_common(api: Api) -> None:
    names = MirrorDirectory(api.services.keyring)
    assert names.secret("api_key:a") == names.secret("api_key:a")
    assert names.secret("api_key:a") != names.secret("api_key:b")


def test_an_answer_of_another_server_makes_nothing_ready() -> None:
    with (
        scripted(Answer(200, b"<html>")) as server,
        Client(server.url, "key") as client,
        Mirror(client, CELLS) as mirror,
    ):
        until(lambda: mirror.status.failures > 2)
        assert ask(mirror, email("a@b.de")).reason == "MIRROR_NOT_READY"

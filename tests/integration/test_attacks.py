"""What somebody would try who means harm, or has bad luck: each was a defect once."""

import io
import re
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from admin_ui.app import create_app
from admin_ui.services import Services
from admin_ui.settings import Mode, Settings
from admin_ui.verification import verify_now
from consent.choices import IdempotencyKey, Record
from consent.errors import IdempotencyConflictError, LedgerRolledBackError
from consent.ledger.notary import Signed
from consent.ledger.tree import Frontier
from consent.models import state
from consent.subjects import email
from governance.audit.trail import CLI, SYSTEM
from governance.database import Database
from policies.errors import PolicyLoadError
from policies.loader import LIBRARY, load
from policies.permissions import API_SCOPES
from policies.vocabulary import ChoiceState
from tests.fakes.clock import FrozenClock
from tests.fakes.core import Core, open_core
from tests.fakes.services import Api, open_services, person, problem, said

GRANTED = ChoiceState.GRANTED


# --- a body that asks for more than it costs ---------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "/v1/consent/check/batch",
            b'{"purpose":"newsletter","channel":"email","subjects":[%s]}',
            "subjects",
        ),
        ("/v1/consent/choices", b'{"subject":{"email":"a@example.com"},"choices":[%s]}', "choices"),
    ],
)
def test_a_list_that_is_too_long_is_refused_without_a_message_for_each_item(
    shared_api: Api, path: str, body: bytes, field: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = shared_api.post(path, body % b",".join([b"1"] * 200_000))
    told = problem(answer, 422, "FIELD_INVALID")
    assert list(told["errors"]) == [field]
    assert len(answer.data) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_process_of_one_thread_never_waits_for_news(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with open_services(migrated_url, tmp_path, clock) as opened:
        services = replace(opened, settings=replace(opened.settings, threads=1))
        api = Api(services, create_app(services))
        polls = api.app.extensions["tutela.consent"].long_polls
        assert not polls.acquire(blocking=False)
        answer = api.get("/v1/consent/changes?wait=25").json
        assert answer == {"changes": [], "cursor": "0", "more": False}


class _SlowBody(io.RawIOBase):
    """A body that does not come until it may."""

    def __init__(self) -> None:
        self.asked, self.come = threading.Event(), threading.Event()

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> int:
        self.asked.set()
        self.come.wait(30)
        return 0


def test_strangers_with_slow_bodies_leave_threads_to_the_api(api: Api) -> None:
    bodies = [_SlowBody() for _ in range(api.services.settings.threads // 2)]

    def knock(body: _SlowBody) -> int:
        form = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": "100"}
        given = {**form, "wsgi.input": body}
        return api.client().post("/login", environ_overrides=given).status_code

    with ThreadPoolExecutor(len(bodies)) as pool:
        knocking = [pool.submit(knock, body) for body in bodies]
        try:
            assert all(body.asked.wait(30) for body in bodies)
            assert api.client().post("/login").status_code == 429
            assert api.client().get("/login").status_code == 200
            assert api.check(person())["allow"] is False
        finally:
            for body in bodies:
                body.come.set()
        assert {one.result() for one in knocking} == {400}
    assert api.client().post("/login").status_code == 400, "the threads are free again"


# --- a ledger that somebody put back ------------------------------------------------------------


def _roll_back(core: Core, session: Session, size: int) -> None:
    """As restoring a backup does: what came after `size` is gone."""
    if core.database.dialect == "sqlite":
        session.execute(text("DROP TRIGGER ledger_entry_refuses_delete"))
    else:
        session.execute(text("ALTER TABLE ledger_entry DISABLE TRIGGER USER"))
    hashes = session.scalars(text("SELECT leaf_hash FROM ledger_entry ORDER BY idx")).all()
    frontier = Frontier().append([bytes(one) for one in hashes[:size]])
    for table in ("ledger_entry", "consent_event"):
        session.execute(text(f"DELETE FROM {table} WHERE idx >= :size"), {"size": size})
    session.execute(
        text("UPDATE ledger_head SET size = :size, frontier = :frontier"),
        {"size": size, "frontier": frontier.to_bytes()},
    )


def test_a_node_that_knew_less_than_was_rolled_back_stops_writing_as_well(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with (
        open_core(migrated_url, tmp_path, clock, create=False) as busy,
        open_core(migrated_url, tmp_path, clock, create=False) as idle,
    ):
        busy.record("a@example.com", busy.said(GRANTED))
        idle.notary.certify()
        for who in ("b@example.com", "c@example.com"):
            busy.record(who, busy.said(GRANTED))
        with busy.database.begin() as session:
            _roll_back(busy, session, 2)
        for number in range(4):
            with pytest.raises(LedgerRolledBackError):
                idle.record(f"person-{number}@example.com", idle.said(GRANTED))
        assert idle.size() == 3


def test_a_checkpoint_store_that_contradicts_itself_is_an_error_and_not_an_endless_loop(
    core: Core, clock: FrozenClock
) -> None:
    core.record("a@example.com", core.said(GRANTED))
    last = core.checkpoints.last(core.notary.origin)
    assert last is not None
    with core.store.begin() as session:
        session.execute(text("UPDATE signed_checkpoint SET size = size + 1 WHERE size = 1"))
    clock.advance(timedelta(minutes=2))
    with pytest.raises(IntegrityError):
        core.checkpoints.swap(
            core.notary.origin, last, Signed(last.size + 1, last.root, last.note), clock()
        )


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_tile", "audit_entry", "audit_tile"])
def test_a_row_that_is_inserted_over_another_is_a_change_too(migrated_url: str, table: str) -> None:
    database = Database.open(migrated_url)
    tiles = table.endswith("tile")
    columns, key = ("level, n, data", "level, n") if tiles else ("idx, id, leaf, leaf_hash", "idx")
    values = "0, 0, :data" if tiles else "0, 'a', :data, :data"
    row = f"INTO {table} ({columns}) VALUES ({values})"
    over = (
        f"INSERT OR REPLACE {row}"
        if database.dialect == "sqlite"
        else f"INSERT {row} ON CONFLICT ({key}) DO UPDATE SET {key.split(', ', 1)[0]} = 0"
    )
    try:
        with database.begin() as session:
            session.execute(text(f"INSERT {row}"), {"data": b"was"})
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as session:
            session.execute(text(over), {"data": b"is"})
    finally:
        database.dispose()


def test_a_check_after_a_failed_read_sees_the_withdrawal(core: Core) -> None:
    for number in range(100):
        core.record(f"person-{number}@example.com", core.said(GRANTED))

    def fail() -> None:
        with core.database.read() as reader:
            next(iter(reader.execute(select(state))))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failed:
        fail()
    assert core.check("person-7@example.com").allow
    core.record("person-7@example.com", core.said(ChoiceState.WITHDRAWN))
    assert not core.check("person-7@example.com").allow
    assert failed.value.__traceback__ is not None, "what it left open was held all the time"


# --- answers that must not lie -----------------------------------------------------------------


def test_no_answer_says_that_nothing_was_recorded_where_it_may_have_been(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with open_services(migrated_url, tmp_path, clock) as services:
        api, who = Api.of(services), person()
        with services.checkpoint_database.begin() as session:
            session.execute(text("ALTER TABLE last_signed RENAME TO away"))
        answer = api.post("/v1/consent/choices", {"subject": who, "choices": [said("granted")]})
        told = problem(answer, 503, "DATABASE_UNAVAILABLE")
        assert api.check(who)["allow"], "it was committed before it could be signed"
        assert not re.search(r"nothing|was not|no change", told["detail"], re.IGNORECASE)


# --- settings and policies that open a door ------------------------------------------------------


def test_production_refuses_keys_and_checkpoints_that_are_backed_up_with_the_data(
    tmp_path: Path,
) -> None:
    fit = Settings(
        mode=Mode.PRODUCTION,
        smtp_host="mail.example.com",
        mail_from="privacy@example.com",
        data_dir=tmp_path / "data",
        database_url="postgresql://db/tutela",
        checkpoint_url="postgresql://other/checkpoints",
        keyring=tmp_path / "keys",
        base_url="https://privacy.example.com",
        log_origin="example.com/consent",
        secret_key="x" * 32,
    )
    assert fit.objections() == []
    for unfit in (
        replace(fit, keyring=tmp_path / "data" / "keys"),
        replace(fit, checkpoint_url=fit.database_url),
    ):
        assert len(unfit.objections()) == 1


@pytest.mark.parametrize("name", ["gpc", "unclear_reply"])
def test_a_purpose_cannot_be_named_like_a_signal(tmp_path: Path, name: str) -> None:
    text_of = (LIBRARY / "advertising_and_analytics.yaml").read_text("utf-8")
    for file in LIBRARY.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    (tmp_path / "advertising_and_analytics.yaml").write_text(
        text_of.replace("  data_sale:", f"  {name}:"), "utf-8"
    )
    with pytest.raises(PolicyLoadError, match=f"Purpose {name} has the name of a signal"):
        load(tmp_path)


def test_a_key_that_two_nodes_are_given_at_once_is_one_act(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with (
        open_core(migrated_url, tmp_path, clock, create=False) as one,
        open_core(migrated_url, tmp_path, clock, create=False) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        for number in range(20):
            size, together = one.size(), threading.Barrier(2)

            def submit(node: Core, body: bytes, key: str, together: threading.Barrier) -> bool:
                told = Record(
                    email(f"{key}@example.com"),
                    (node.said(GRANTED),),
                    "api_key:test",
                    IdempotencyKey(key, body),
                )
                together.wait()
                try:
                    node.writer.submit(told)
                except IdempotencyConflictError:
                    return False
                return True

            key = f"key-{number}"
            both = [
                pool.submit(submit, node, body, key, together)
                for node, body in ((one, b"one"), (two, b"two"))
            ]
            assert sorted(each.result() for each in both) == [False, True]
            assert one.size() == size + 1


def test_a_withdrawal_told_in_whole_seconds_takes_effect(core: Core, clock: FrozenClock) -> None:
    clock.advance(timedelta(milliseconds=500))
    core.record("a@example.com", core.said(GRANTED))
    whole_second = clock().replace(microsecond=0)
    clock.advance(timedelta(milliseconds=400))
    core.record("a@example.com", core.said(ChoiceState.WITHDRAWN, at=whole_second))
    assert not core.check("a@example.com").allow


def test_an_operator_record_that_is_cut_off_is_found(services: Services) -> None:
    log = services.trail.log
    for number in range(3):
        services.api_keys.create(name=f"key {number}", scopes=API_SCOPES, actor=SYSTEM)
    services.operator_notary.certify()
    with services.database.begin() as session:
        connection = session.connection()
        if services.database.dialect == "sqlite":
            connection.execute(text("DROP TRIGGER audit_entry_refuses_delete"))
        else:
            connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        entries = list(log.entries(session, 0, log.frontier(session).size - 1))
        connection.execute(text(f"DELETE FROM audit_entry WHERE idx >= {len(entries)}"))
        shorter = Frontier().append([entry.leaf_hash for entry in entries])
        connection.execute(
            update(log.tables.head).values(size=shorter.size, frontier=shorter.to_bytes())
        )
    run = verify_now(services, CLI)
    assert run.result is not None
    # Asking for the verification is itself recorded, in the place of what was cut off.
    assert {finding["kind"] for finding in run.result["findings"]} == {"FORKED"}

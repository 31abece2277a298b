"""What administrators and auditors do: keys, the ledger, verification, jobs; the first page."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from admin_ui.verification import verify_now
from consent.models import ledger
from governance.audit.trail import CLI
from governance.jobs import runs
from governance.keys.models import data_key
from governance.vault.models import vault_identifier
from policies.permissions import Permission, Role
from policies.vocabulary import ChoiceState
from tests.fakes.console import ALICE, BOB, PASSWORD, Console
from tests.fakes.tampering import drop_triggers

# --- API keys ----------------------------------------------------------------------------------


def test_a_key_is_made_shown_once_used_and_revoked(console: Console) -> None:
    visitor = console.staff(Role.ADMIN)
    assert "No key yet" in visitor.get("/admin/api-keys")
    visitor.get("/admin/api-keys/new")
    answer = visitor.send(
        "/admin/api-keys/new",
        status=201,
        name="web shop",
        scopes=["consent.check", "ledger.read"],
        expires="2026-12-31",
    )
    key = re.search(r'value="(tutela_[^"]+)"', answer.text)
    assert key is not None
    page = visitor.get("/admin/api-keys")
    assert key[1] not in page
    assert "consent.check, ledger.read" in page
    assert "31 Dec 2026" in page
    assert "never" in page
    head = console.app.test_client().get(
        "/log/checkpoint", headers={"Authorization": f"Bearer {key[1]}"}
    )
    assert head.status_code == 200
    revoke = re.search(r'href="(/admin/api-keys/[a-z2-7]+/revoke)"', page)
    assert revoke is not None
    assert "gets no answer from now on" in visitor.get(revoke[1])
    answer = visitor.send(revoke[1], reason="replaced")
    page = visitor.get(answer.headers["Location"])
    assert "<strong>Revoked.</strong>" in page
    assert "/revoke" not in page
    visitor.get(revoke[1], status=404)
    with console.services.database.read() as reader:
        actions = {record.action: record for record in console.services.trail.read(reader)}
    assert actions["api_key.revoked"].reason == "replaced"


def test_what_is_wrong_with_a_new_key_is_said_at_its_field(console: Console) -> None:
    visitor = console.staff(Role.ADMIN)
    for fields, name in (
        ({"name": "", "scopes": ["consent.check"]}, "name"),
        ({"name": "shop", "scopes": []}, "scopes"),
        ({"name": "shop", "scopes": ["accounts.manage", "people.unmask"]}, "scopes"),
        ({"name": "shop", "scopes": ["consent.check"], "expires": "2020-01-01"}, "expires"),
        ({"name": "shop", "scopes": ["consent.check"], "expires": "soon"}, "expires"),
    ):
        visitor.get("/admin/api-keys/new")
        page = visitor.send("/admin/api-keys/new", status=422, **fields).text
        assert f'id="{name}-wrong"' in page, fields
    assert "No key yet" in visitor.get("/admin/api-keys")


def test_keys_that_end_soon_or_have_ended_say_so(console: Console) -> None:
    now = console.clock()
    for name, days in (("soon", 3), ("long", 300)):
        console.services.api_keys.create(
            name=name,
            scopes={Permission.CONSENT_CHECK},
            actor=CLI,
            expires_at=now + timedelta(days=days),
        )
    page = console.staff(Role.ADMIN).get("/admin/api-keys")
    assert "Ends soon" in page
    console.clock.advance(timedelta(days=4))
    page = console.staff(Role.ADMIN).get("/admin/api-keys")
    assert "Expired" in page
    assert page.index("long") < page.index("soon</strong>")


# --- the ledger --------------------------------------------------------------------------------


def test_the_ledger_page_shows_what_an_auditor_needs(console: Console) -> None:
    page = console.staff(Role.AUDITOR).get("/admin/ledger")
    signed = console.services.checkpoints.last("example.com/log")
    assert signed is not None
    assert signed.note.replace("+", "&#43;") in page or signed.note in page.replace("&#43;", "+")
    assert console.services.verifier_key in page.replace("&#43;", "+")
    assert "covers every entry" in page
    assert "Not computed" in page


def test_verification_can_be_asked_for_and_its_result_is_shown(console: Console) -> None:
    visitor = console.staff(Role.AUDITOR)
    visitor.get("/admin/ledger")
    answer = visitor.send("/admin/ledger/verify")
    assert "Verification is under way" in visitor.get(answer.headers["Location"])
    assert "Waiting" in visitor.get("/admin/jobs")
    console.clock.advance(timedelta(minutes=1))
    verify_now(console.services, CLI)
    page = visitor.get("/admin/ledger")
    assert "Intact" in page
    assert "4 entries, just now" in page
    assert "Intact" in visitor.get("/admin")
    jobs = visitor.get("/admin/jobs")
    assert "Verify the ledger" in jobs
    assert "entries: 4" in jobs


def test_a_changed_ledger_is_told_in_words(console: Console) -> None:
    with console.services.database.begin() as session:
        drop_triggers(session.connection())
        session.execute(update(ledger.entry).where(ledger.entry.c.idx == 1).values(leaf=b'{"v":1}'))
    verify_now(console.services, CLI)
    visitor = console.staff(Role.AUDITOR)
    page = visitor.get("/admin/ledger")
    assert "The last verification found" in page
    assert "entry 1" in page.lower()
    assert "Changed" in visitor.get("/admin")


def test_a_ledger_behind_what_was_signed_is_told_at_once(console: Console) -> None:
    with console.services.database.begin() as session:
        drop_triggers(session.connection())
        session.execute(delete(ledger.entry).where(ledger.entry.c.idx == 3))
        session.execute(delete(ledger.head))
    page = console.staff(Role.AUDITOR).get("/admin/ledger")
    assert "does not extend what was signed" in page


def test_a_broken_attempt_does_not_hide_the_last_result(console: Console) -> None:
    verify_now(console.services, CLI)
    now = console.clock.advance(timedelta(hours=1))
    with console.services.database.begin() as session:
        runs.enqueue(session, "ledger.verify", [now], now)
        claimed = runs.claim(session, "ledger.verify", "node", now, timedelta(minutes=1))
        assert claimed is not None
        runs.fail(session, claimed[1], now, "DATABASE_UNAVAILABLE")
    page = console.staff(Role.AUDITOR).get("/admin/ledger")
    assert "Intact" in page
    assert "broke off" in page
    assert "database unavailable" in console.staff(Role.AUDITOR).get("/admin/jobs")


def test_jobs_are_paged_by_their_ticks(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_ui.console.jobs.PAGE", 2)
    for _ in range(3):
        console.clock.advance(timedelta(minutes=1))
        verify_now(console.services, CLI)
    visitor = console.staff(Role.AUDITOR)
    page = visitor.get("/admin/jobs")
    assert page.count("Done</span>") == 2
    older = re.search(r'href="([^"]+)" rel="next"', page)
    assert older is not None
    page = visitor.get(older[1].replace("&amp;", "&"))
    assert page.count("Done</span>") == 1
    visitor.get("/admin/jobs?before=yesterday")


# --- the first page ----------------------------------------------------------------------------


def test_an_empty_service_says_what_to_do_first(new_console: Console) -> None:
    page = new_console.staff(Role.OFFICER, Role.ADMIN).get("/admin")
    assert "3 left" in page
    assert "Nobody's choice is recorded yet" in page.replace("&#39;", "'")
    assert "over 0 entries" in page


def test_the_first_page_counts_and_links(console: Console) -> None:
    page = console.staff(Role.OFFICER).get("/admin")
    assert re.search(r"<dt>People</dt>\s*<dd>2</dd>", page)
    assert console.page_of(ALICE) in page
    assert "2 left" in page


def test_the_first_page_says_what_needs_somebody(console: Console) -> None:
    visitor = console.staff(Role.ADMIN)
    assert "Nothing at the moment." in visitor.get("/admin")
    console.services.api_keys.create(
        name="shop",
        scopes={Permission.CONSENT_CHECK},
        actor=CLI,
        expires_at=console.clock() + timedelta(days=30),
    )
    verify_now(console.services, CLI)
    assert "Nothing at the moment." in visitor.get("/admin")
    console.clock.advance(timedelta(days=20))
    page = console.staff(Role.ADMIN).get("/admin")
    assert "The API key of shop ends soon" in page
    assert "The ledger was not verified for long" in page
    # An agent can do nothing about either.
    assert "Nothing at the moment." in console.staff(Role.AGENT).get("/admin")


def test_before_set_up_the_login_page_says_how(new_console: Console) -> None:
    assert "not set up yet" in new_console.visitor().get("/login")
    new_console.account("ada", {Role.OFFICER})
    assert "not set up yet" not in new_console.visitor().get("/login")


# --- at the edges ------------------------------------------------------------------------------


def test_forms_work_over_https_though_pages_send_no_referer(console: Console) -> None:
    console.account("ada", {Role.OFFICER})
    visitor = console.visitor()
    visitor.client.environ_base["wsgi.url_scheme"] = "https"
    visitor.get("/login")
    answer = visitor.send("/login", login="ada", password=PASSWORD)
    assert answer.headers["Location"] == "/admin"


def test_a_long_timeline_comes_in_parts(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_ui.console.person.SHOWN", 5)
    for _ in range(8):
        console.clock.advance(timedelta(minutes=1))
        console.say(BOB, ChoiceState.REFUSED)
    visitor = console.staff(Role.OFFICER)
    ids: list[str] = []
    path: str | None = console.page_of(BOB)
    while path is not None:
        page = visitor.get(path)
        ids += re.findall(r'id="event-([^"]+)"', page)
        link = re.search(r'href="([^"]+before=\d+)"', page)
        path = link[1] if link else None
    assert len(ids) == len(set(ids)) == 9


def test_an_identifier_that_was_moved_is_not_shown_as_somebody_elses(console: Console) -> None:
    with console.services.database.begin() as session:
        sealed = session.execute(
            select(vault_identifier.c.sealed).where(
                vault_identifier.c.subject_ref == console.people[ALICE]
            )
        ).scalars()
        session.execute(
            update(vault_identifier)
            .where(vault_identifier.c.subject_ref == console.people[BOB])
            .values(sealed=next(iter(sealed)))
        )
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(BOB))
    assert "identifiers cannot be read" in page
    assert "a•••@" not in page
    assert console.people[BOB] in visitor.get("/admin/consent")


def test_an_erased_person_has_a_history_without_content(console: Console) -> None:
    with console.services.database.begin() as session:
        session.execute(delete(data_key).where(data_key.c.subject_ref == console.people[ALICE]))
    console.services.keyring.evict([console.people[ALICE]])
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(ALICE))
    assert "Entry stands, content erased" in page
    assert "does not match" not in page
    assert "Erased" in visitor.get("/admin/consent")

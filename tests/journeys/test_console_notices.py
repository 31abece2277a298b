"""Notices in the console: written by one, published by another, and what that does to checks."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consent.choices import NoticeRef, Record, choice
from consent.receipts import ReceiptFormat
from consent.subjects import email
from policies.permissions import Role
from policies.vocabulary import Channel, ChoiceState, Reason
from tests.fakes.console import ALICE, PASSWORD, Console, Visitor
from tests.journeys.test_console_pages import Shown, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MARKETING = "marketing_information"
PRIVACY = "/admin/purposes/privacy"
HELD = 4210
"""People on version 3."""


def seen(page: str) -> str:
    """The revision that a form was filled in from."""
    found = re.search(r'name="seen" value="(\d+)"', page)
    assert found is not None
    return found[1]


def write(officer: Visitor, *, version: str = "4", material: str = "yes", at: str = "") -> None:
    """Begin the next version of `privacy`, with some other words."""
    officer.get(PRIVACY)
    officer.send("/admin/purposes/new", notice="privacy")
    page = officer.get(f"{PRIVACY}/draft")
    officer.send(
        f"{PRIVACY}/draft",
        version=version,
        controller="example-shop",
        languages="en",
        material=material,
        effective_from=at,
        seen=seen(page),
    )
    page = officer.get(f"{PRIVACY}/draft/en")
    officer.send(
        f"{PRIVACY}/draft/en",
        title=f"Privacy notice {version}",
        text="We write to you of <script>alert(1)</script> offers.\n\n## Your rights\n\nNo.",
        recipients="The post",
        seen=seen(page),
    )


def test_an_officer_writes_and_an_approver_publishes(console: Console) -> None:
    officer, approver = console.staff(Role.OFFICER), console.staff(Role.APPROVER)
    write(officer)
    page = officer.get(PRIVACY)
    assert "You wrote some of it" in page
    assert "<ins>" in page
    assert "<script>alert" not in page
    refused = officer.get(f"{PRIVACY}/publish")
    assert "somebody else has to read and publish it" in refused
    assert 'name="reason"' not in refused
    # Who sends the form all the same is refused by what publishes, not by the page.
    officer.get(f"{PRIVACY}/draft")
    officer.send(f"{PRIVACY}/publish", status=403, reason="Mine.", seen="3")
    page = approver.get(f"{PRIVACY}/publish")
    assert "1 person needs re-consent" in page
    approver.send(f"{PRIVACY}/publish", status=422, reason=" ", seen=seen(page))
    approver.send(f"{PRIVACY}/publish", reason="Read it.", seen=seen(page))
    shown = approver.get(f"{PRIVACY}/versions/4")
    assert "Matches its hashes" in shown
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown
    assert "Needs re-consent" in approver.get(PRIVACY)


def test_a_draft_that_changed_meanwhile_is_not_published(console: Console) -> None:
    officer, approver = console.staff(Role.OFFICER), console.staff(Role.APPROVER)
    write(officer)
    read = seen(approver.get(f"{PRIVACY}/publish"))
    form = officer.get(f"{PRIVACY}/draft/en")
    officer.send(
        f"{PRIVACY}/draft/en",
        title="Another",
        text="Else.\n\n## Heading",
        recipients="All",
        seen=seen(form),
    )
    answer = approver.send(f"{PRIVACY}/publish", status=409, reason="Read it.", seen=read)
    assert "Read it again" in answer.text
    # Nor does one officer overwrite what another wrote.
    officer.get(f"{PRIVACY}/draft/en")
    officer.send(
        f"{PRIVACY}/draft/en", status=422, title="x", text="y", recipients="z", seen=seen(form)
    )


def test_what_is_missing_is_said_where_it_would_be_published(console: Console) -> None:
    officer, approver = console.staff(Role.OFFICER), console.staff(Role.APPROVER)
    officer.get("/admin/purposes/new")
    officer.send(
        "/admin/purposes/new", notice="terms", controller="example-shop", languages="en de"
    )
    page = approver.get("/admin/purposes/terms/publish")
    for field in ("en.title", "de.text", "de.recipients"):
        assert f"<strong>{field}</strong>" in page
    assert 'name="reason"' not in page
    assert "0 %" in approver.get("/admin/purposes/terms")


@pytest.mark.parametrize("role", [Role.AGENT, Role.AUDITOR, Role.ENGINEER, Role.DEVELOPER])
def test_others_read_and_change_nothing(console: Console, role: Role) -> None:
    visitor = console.staff(role)
    assert "Offers and news" in visitor.get("/admin/purposes")
    page = visitor.get(PRIVACY)
    assert "New version" not in page
    visitor.get("/admin/purposes/new", 403)
    visitor.get(f"{PRIVACY}/publish", 403)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/privacy/versions/9",
        "/privacy/versions/3?language=xx",
        "/privacy/draft",
        "/a%00",
    ],
)
def test_what_is_not_there_is_not_found(console: Console, path: str) -> None:
    console.staff(Role.OFFICER).get(f"/admin/purposes{path}", 404)


def test_bad_input_is_answered_at_its_field(console: Console) -> None:
    officer = console.staff(Role.OFFICER)
    officer.get("/admin/purposes/new")
    page = officer.send(
        "/admin/purposes/new", status=422, notice="Not an id", controller="x", languages="en"
    ).text
    assert 'id="notice-wrong"' in page
    write(officer)
    stated: dict[str, Any] = {
        "controller": "example-shop",
        "version": "4",
        "languages": "en",
        "seen": "3",
    }
    for field, value in (
        ("effective_from", "soon"),
        ("version", "a b"),
        ("languages", "english"),
    ):
        officer.get(f"{PRIVACY}/draft")
        page = officer.send(f"{PRIVACY}/draft", status=422, **{**stated, field: value}).text
        assert f'id="{field}-wrong"' in page
    officer.get(f"{PRIVACY}/draft/en")
    page = officer.send(
        f"{PRIVACY}/draft/en", status=422, title="t", text="a\u202eb", recipients="r", seen="3"
    ).text
    assert 'id="text-wrong"' in page
    officer.get(f"{PRIVACY}/draft/en")
    arabic = "\u0646" * 39_000
    officer.send(f"{PRIVACY}/draft/en", title="t", text=arabic, recipients="r", seen="3")


def enter(page: "Page", login: str) -> None:
    page.goto("/login")
    page.fill("#login", login)
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.wait_for_url("**/admin")


def test_a_material_version_asks_everybody_again_from_its_moment_on(
    browser: "Browser", shown: Shown
) -> None:
    console, address = shown
    own, clock = console.services, console.clock
    for login, role in (("author", Role.OFFICER), ("second", Role.APPROVER)):
        console.account(login, [role])
    event = console.say("proof@example.com", ChoiceState.GRANTED)
    commands = [
        Record(
            email(f"reader{n}@example.com"),
            (
                choice(
                    own.policies(),
                    purpose=MARKETING,
                    channel="email",
                    state=ChoiceState.GRANTED,
                    notice=NoticeRef("privacy", "3", "en"),
                ),
            ),
            "system:test",
        )
        for n in range(HELD - 2)  # Alice has one, and the one whose receipt is kept
    ]
    for start in range(0, len(commands), 1000):
        own.writer.write(commands[start : start + 1000])

    def receipt() -> str:
        with own.database.snapshot() as reader:
            return own.receipts.issue(
                reader, event, ReceiptFormat.TS27560, frozenset({"notice"})
            ).body

    def reason(who: str) -> Reason:
        return own.checker.check(email(who), MARKETING, Channel.EMAIL).reason

    before = receipt()
    change = clock() + timedelta(days=30)
    with own.database.read() as reader:
        size = own.log.frontier(reader).size

    def visit(login: str) -> "Page":
        page = browser.new_context(base_url=address, java_script_enabled=True).new_page()
        enter(page, login)
        return page

    author, second = visit("author"), visit("second")
    author.goto(PRIVACY)
    author.click("text=New version")
    author.wait_for_url("**/draft")
    author.fill("#effective_from", f"{change.astimezone(own.settings.zone):%Y-%m-%dT%H:%M}")
    author.check("#material")
    assert violations(author) == []
    author.click("main button:has-text('Save')")
    author.wait_for_selector("text=Saved.")
    author.click("a:has-text('Write')")
    author.fill("#text", "We write to you, and to others about you.\n\n## Your rights\n\nSay no.")
    assert violations(author) == []
    author.click("main button:has-text('Save')")
    author.wait_for_selector("text=You wrote some of it")
    assert violations(author) == []

    second.goto(f"{PRIVACY}/publish")
    assert second.inner_text("#asked").replace("\u202f", ",") == "4,210 people need re-consent."
    assert violations(second) == []
    second.fill("#reason", "The lawyer has read it.")
    second.click("text=Publish for good")
    second.wait_for_selector("text=Published.")
    assert violations(second) == []

    readers = ("reader0@example.com", "reader4000@example.com", ALICE, "proof@example.com")
    assert {reason(who) for who in readers} == {Reason.GRANTED}
    clock.set(change - timedelta(microseconds=1))
    assert {reason(who) for who in readers} == {Reason.GRANTED}
    clock.set(change)
    assert {reason(who) for who in readers} == {Reason.NOTICE_SUPERSEDED}
    with own.database.read() as reader:
        assert own.log.frontier(reader).size == size, "nothing was recorded, and nobody written to"
    assert receipt() == before
    for page in (author, second):
        page.context.close()


def test_a_yes_for_somebody_who_called_names_words_that_were_published(console: Console) -> None:
    officer = console.staff(Role.OFFICER)
    path = f"{console.page_of(ALICE)}/record"
    stated: dict[str, Any] = {
        "state": "granted",
        "purpose": MARKETING,
        "channel": "email",
        "note": "She agreed.",
        "reason": "A call.",
        "notice": "privacy",
        "notice_language": "en",
    }
    officer.get(path)
    page = officer.send(path, status=422, notice_version="9", **stated).text
    assert 'id="notice-wrong"' in page
    officer.get(path)
    officer.send(path, notice_version="3", **stated)

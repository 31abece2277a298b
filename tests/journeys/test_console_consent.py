"""Officers look for people, see what applies and why, and record what people tell them."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from consent.models import event, ledger, state
from consent.subjects import email, external_id, phone
from policies.permissions import Role
from policies.vocabulary import Channel, ChoiceState, Reason
from tests.fakes.console import ADDRESS, ALICE, ALICE_PHONE, BOB, Console, utc
from tests.fakes.tampering import drop_triggers

MARKETING = "marketing_information"


def rows_of(page: str) -> list[str]:
    return re.findall(r"<tr role=\"row\" data-row>(.*?)</tr>", page, re.DOTALL)


# --- the explorer ------------------------------------------------------------------------------


def test_the_explorer_shows_each_choice_and_no_identifier(console: Console) -> None:
    page = console.staff(Role.OFFICER).get("/admin/consent")
    rows = rows_of(page)
    assert len(rows) == 3
    assert "a•••@e•••.com" in rows[1]
    assert "Matches the ledger" in rows[1]
    assert "preference page" in rows[1]
    assert "privacy 3" in rows[1]
    for secret in (ALICE, ALICE_PHONE, ALICE_PHONE[3:], BOB, ADDRESS):
        assert secret not in page


def test_stored_choice_and_effective_status_are_two_things(console: Console) -> None:
    console.clock.set(console.clock() + timedelta(days=3 * 366))
    (granted,) = rows_of(console.staff(Role.OFFICER).get("/admin/consent?stored=granted"))
    assert ">Granted</td>" in granted
    assert "Expired</span>" in granted
    page = console.staff(Role.OFFICER).get("/admin/consent?effective=expired")
    assert rows_of(page) == [granted]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("purpose=product_updates", 1),
        ("channel=email", 3),
        ("channel=sms", 0),
        ("stored=refused", 1),
        ("stored=signal", 0),
        ("effective=granted", 1),
        ("effective=withdrawn&purpose=product_updates", 1),
        ("effective=no_record", 0),
    ],
)
def test_filters_stand_in_the_address(console: Console, query: str, found: int) -> None:
    page = console.staff(Role.OFFICER).get(f"/admin/consent?{query}")
    assert len(rows_of(page)) == found
    if not found:
        assert "No choice matches" in page
    for part in query.split("&"):
        assert f'value="{part.split("=")[1]}" selected' in page


def test_a_filter_that_does_not_exist_is_named_and_left_out(console: Console) -> None:
    page = console.staff(Role.OFFICER).get("/admin/consent?effective=wonderful&before=x")
    assert "effective that does not exist" in page
    assert len(rows_of(page)) == 3


def test_pages_follow_a_cursor_newest_first_and_nothing_twice(console: Console) -> None:
    for number in range(60):
        console.say(f"person{number}@example.com", ChoiceState.REFUSED)
    visitor = console.staff(Role.OFFICER)
    first = visitor.get("/admin/consent?stored=refused")
    older = re.search(r'href="([^"]*before=[^"]*)" rel="next"', first)
    assert older is not None
    # A choice that comes in meanwhile moves nothing.
    console.say("late@example.com", ChoiceState.REFUSED)
    second = visitor.get(older[1].replace("&amp;", "&"))
    refs = [re.findall(r"/people/([a-z2-7]{26})", row)[0] for row in rows_of(first + second)]
    assert len(refs) == len(set(refs)) == 61
    assert 'rel="next"' not in second


def test_a_search_that_stops_early_says_that_it_is_partial(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin_ui.console.explorer.EXAMINED", 1)
    visitor = console.staff(Role.OFFICER)
    page = visitor.get("/admin/consent?stored=granted")
    assert rows_of(page) == []
    assert "Partial" in page
    assert "No choice matches" not in page
    while 'rel="next"' in page and not rows_of(page):
        link = re.search(r'href="([^"]*before=[^"]*)" rel="next"', page)
        assert link is not None
        page = visitor.get(link[1].replace("&amp;", "&"))
    assert len(rows_of(page)) == 1


def test_an_empty_explorer_teaches_one_next_action(new_console: Console) -> None:
    page = new_console.staff(Role.OFFICER).get("/admin/consent")
    assert "No consent recorded" in page
    assert "tutela import hubspot" in page


# --- finding -----------------------------------------------------------------------------------


def test_a_person_is_found_by_any_identifier_which_never_enters_an_address(
    console: Console,
) -> None:
    with console.services.database.begin() as session:
        other = external_id("hubspot", "51")
        console.services.directory.link(session, console.people[ALICE], other, console.clock())
    visitor = console.staff(Role.OFFICER)
    for typed in (ALICE, f" {ALICE.upper()} ", "+49 (30) 901820", "hubspot:51"):
        visitor.get("/admin")
        answer = visitor.send("/admin/consent/people", who=typed)
        assert answer.headers["Location"] == console.page_of(ALICE)
    visitor.get("/admin")
    answer = visitor.send("/admin/consent/people", who=console.people[ALICE])
    assert answer.headers["Location"] == console.page_of(ALICE)


def test_nobody_found_creates_nobody_and_repeats_nothing(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    for typed, status in (
        ("carol@example.com", 404),
        ("+4930111111", 404),
        ("hubspot:99", 404),
        ("carol", 422),
        ("carol@", 422),
        ("", 422),
    ):
        visitor.get("/admin")
        page = visitor.send("/admin/consent/people", status=status, who=typed).text
        assert "carol" not in page
        assert "111111" not in page
    with console.services.database.read() as reader:
        assert console.services.directory.find(reader, [email("carol@example.com")]) == [None]


# --- one person --------------------------------------------------------------------------------


def test_a_persons_page_shows_matrix_and_timeline_recomputed(console: Console) -> None:
    page = console.staff(Role.OFFICER).get(console.page_of(ALICE))
    assert "3 events recomputed just now: all match the ledger." in page
    assert page.count('id="event-') == 3
    assert "a•••@e•••.com" in page
    assert "+•••20" in page
    assert "203.0.113.0/24" in page
    for secret in (ALICE, ALICE_PHONE, ADDRESS):
        assert secret not in page
    # By what happened, not by what was learned last.
    order = [page.index(word) for word in ("<strong>Withdrawn</strong>", "Product updates")]
    assert order[0] < page.rindex("<strong>Granted</strong>")


def test_as_of_answers_for_a_past_moment(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    past = console.clock() - timedelta(days=20)
    day = f"{past:%Y-%m-%d}"
    page = visitor.get(f"{console.page_of(ALICE)}?as_of={day}T12:00")
    assert f'What applied on <time datetime="{day}T11:00:00Z"' in page
    matrix = page.split('class="table matrix"')[1].split("</table>")[0]
    row = matrix.split("Product updates")[1].split("</tr>")[0]
    assert "Granted" in row
    assert "Withdraw</a>" not in matrix
    assert page.count('<li class="later"') == 1
    row = visitor.get(console.page_of(ALICE)).split("Product updates</th>")[1].split("</tr>")[0]
    assert "Withdrawn" in row


def test_a_date_means_all_of_that_day_in_the_organisations_zone(console: Console) -> None:
    console.clock.set(utc("2026-06-10T10:00"))
    console.say(BOB, ChoiceState.GRANTED, occurred_at=utc("2026-06-08T21:59"))
    console.say(BOB, ChoiceState.WITHDRAWN, occurred_at=utc("2026-06-08T22:01"))
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(f"{console.page_of(BOB)}?as_of=2026-06-08")
    row = page.split("Offers and news</th>")[1].split("</tr>")[0]
    assert "Granted" in row
    assert "What applied on" in visitor.get(f"{console.page_of(BOB)}?as_of=2026-06-10")


@pytest.mark.parametrize("moment", ["soon", "2999-01-01", "2026-13-01", "0001-01-01", "9999-12-31"])
def test_a_moment_that_cannot_be_asked_about_is_explained(console: Console, moment: str) -> None:
    page = console.staff(Role.OFFICER).get(f"{console.page_of(ALICE)}?as_of={moment}")
    assert 'id="as_of-wrong"' in page
    assert "What applies now" in page


def test_proofs_can_be_taken_away_and_verified(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(BOB))
    receipt, proof = (
        re.findall(rf'href="(/admin/consent/events/[^"]+/{kind})"', page)[0]
        for kind in ("receipt", "proof")
    )
    answer = visitor.client.get(receipt)
    assert answer.status_code == 200
    assert "attachment" in answer.headers["Content-Disposition"]
    document = json.loads(answer.text)
    assert document["tutela:ledgerEntry"]["tutela:index"] == 3
    proof_text = visitor.client.get(proof).text
    assert proof_text.startswith("c2sp.org/tlog-proof@v1")
    assert proof_text == document["tutela:ledgerEntry"]["tutela:tlogProof"]
    visitor.get("/admin/consent/events/0190163d-8694-739b-aea5-966c26f8ad91/receipt", status=404)


def test_a_receipt_from_the_console_shows_no_address_that_the_page_masks(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    console.say(ALICE, ChoiceState.REFUSED, purpose="newsletter", evidence={"form": "footer"})
    page = visitor.get(console.page_of(ALICE))
    texts = [
        visitor.client.get(address).json
        for address in re.findall(r'href="(/admin/consent/events/[^"]+/receipt)"', page)
    ]
    claims = [one["tutela:ledgerEntry"]["tutela:disclosures"] for one in texts if one]
    # subject, time, method, actor, notice; and evidence only where it names nobody.
    assert sorted(len(one) for one in claims) == [5, 5, 5, 6]


# --- recording ---------------------------------------------------------------------------------


def test_a_withdrawal_by_phone_takes_effect_at_once(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    page = visitor.get(console.page_of(ALICE))
    form = re.search(r'href="([^"]*/record\?[^"]*state=withdrawn)"', page)
    assert form is not None
    page = visitor.get(form[1].replace("&amp;", "&"))
    assert 'value="withdrawn" checked' in page
    answer = visitor.send(
        f"{console.page_of(ALICE)}/record",
        state="withdrawn",
        purpose=MARKETING,
        channel="email",
        method="phone_call",
        note="She called: no more e-mail.",
    )
    decision = console.services.checker.check(email(ALICE), MARKETING, Channel.EMAIL)
    assert decision.reason is Reason.WITHDRAWN
    page = visitor.get(answer.headers["Location"])
    assert "<strong>Done.</strong> Offers and news (e-mail) stopped at" in page
    assert "may still arrive until" in page
    assert "She called: no more e-mail." in page
    assert "phone call" in page
    assert "Agent" in page
    # The sentence belongs to this person's event alone.
    recorded = answer.headers["Location"].split("recorded=")[1]
    assert "Done." not in visitor.get(f"{console.page_of(BOB)}?recorded={recorded}")


def test_a_withdrawal_needs_nothing_but_what_it_is_about(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    visitor.get(f"{console.page_of(ALICE)}/record")
    visitor.send(f"{console.page_of(ALICE)}/record", state="objected", purpose="*", channel="*")
    decision = console.services.checker.check(email(ALICE), MARKETING, Channel.EMAIL)
    assert decision.reason is Reason.OBJECTED


def test_a_yes_needs_notice_note_and_reason(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    path = f"{console.page_of(BOB)}/record"
    visitor.get(path)
    answer = visitor.send(path, status=422, state="granted", purpose=MARKETING, channel="email")
    for name in ("notice", "note", "reason"):
        assert f'id="{name}-wrong"' in answer.text
        assert f'href="#{name}"' in answer.text
    answer = visitor.send(
        path,
        state="granted",
        purpose=MARKETING,
        channel="email",
        note="Asked for the news again.",
        reason="case 4711",
        notice="privacy",
        notice_version="3",
        notice_language="en",
    )
    assert console.services.checker.check(email(BOB), MARKETING, Channel.EMAIL).allow
    assert "What applies now: granted." in visitor.get(answer.headers["Location"])


def test_what_cannot_be_recorded_is_said_and_nothing_is_saved(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    path = f"{console.page_of(BOB)}/record"
    before = console.services.checkpoints.last("example.com/log")
    for fields, sentence in (
        ({}, "Choose what the person said."),
        ({"state": "maybe"}, "Choose what the person said."),
        ({"state": "withdrawn"}, "Choose the purpose."),
        ({"state": "withdrawn", "purpose": "nothing", "channel": "email"}, "no such purpose"),
        ({"state": "withdrawn", "purpose": "newsletter", "channel": "fax"}, "channel"),
        ({"state": "withdrawn", "purpose": "newsletter", "channel": "sms"}, "channel"),
        (
            {"state": "refused", "purpose": MARKETING, "channel": "email", "note": "x" * 2001},
            "at most 2000",
        ),
        (
            {
                "state": "refused",
                "purpose": MARKETING,
                "channel": "email",
                "occurred_at": "2999-01-01T00:00",
            },
            "has not come yet",
        ),
        (
            {"state": "refused", "purpose": MARKETING, "channel": "email", "occurred_at": "then"},
            "Write a date and a time",
        ),
        (
            {"state": "refused", "purpose": MARKETING, "channel": "email", "method": "seance"},
            "Choose from the list",
        ),
    ):
        visitor.get(path)
        answer = visitor.send(path, status=422, **fields)
        assert sentence in answer.text, fields
        assert "Nothing was saved." in answer.text
    assert console.services.checkpoints.last("example.com/log") == before


def test_sending_the_same_form_twice_records_once(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    path = f"{console.page_of(ALICE)}/record"
    visitor.get(path)
    said: dict[str, Any] = {"state": "withdrawn", "purpose": MARKETING, "channel": "email"}
    first, again = visitor.send(path, **said), visitor.send(path, **said)
    assert first.headers["Location"] == again.headers["Location"]
    answer = visitor.send(path, status=422, **{**said, "state": "objected"})
    assert "another body" in answer.text


def test_only_those_who_may_write_are_offered_it(console: Console) -> None:
    auditor = console.staff(Role.AUDITOR)
    assert "/record" not in auditor.get(console.page_of(ALICE))
    auditor.get(f"{console.page_of(ALICE)}/record", status=403)
    auditor.get("/admin")
    auditor.send(f"{console.page_of(ALICE)}/record", status=403, state="withdrawn")


# --- what does not match -----------------------------------------------------------------------


def forge_event(console: Console, **values: object) -> None:
    with console.services.database.begin() as session:
        session.execute(
            update(event)
            .where(event.c.subject_ref == console.people[ALICE], event.c.state == "withdrawn")
            .values(**values)
        )


@pytest.mark.parametrize(
    "values",
    [
        {"state": "granted"},
        {"channel": "sms"},
        {"occurred_at": utc("2020-01-01T00:00")},
        {"notice_version": "9"},
        {"sealed": b"\xc1" * 60},
        {"ends_at": utc("2030-01-01T00:00")},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_changed_event_is_shown_in_red_and_stops_grants_alone(
    console: Console, values: dict[str, object]
) -> None:
    forge_event(console, **values)
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(ALICE))
    assert "does not match the ledger" in page
    assert "Does not match the ledger" in page.split("What was said")[1]
    assert "Mismatch" in visitor.get("/admin/consent")
    path = f"{console.page_of(ALICE)}/record"
    visitor.get(path)
    answer = visitor.send(
        path,
        status=409,
        state="granted",
        purpose=MARKETING,
        channel="email",
        note="yes",
        reason="case",
        notice="privacy",
        notice_version="3",
        notice_language="en",
    )
    assert "No yes is accepted" in answer.text
    visitor.get(path)
    visitor.send(path, state="withdrawn", purpose=MARKETING, channel="email")
    check = console.services.checker.check(email(ALICE), MARKETING, Channel.EMAIL)
    assert check.reason is Reason.WITHDRAWN


def test_a_changed_register_is_noticed(console: Console) -> None:
    with console.services.database.begin() as session:
        session.execute(
            update(state)
            .where(state.c.subject_ref == console.people[ALICE], state.c.state == "withdrawn")
            .values(state="granted")
        )
    page = console.staff(Role.OFFICER).get(console.page_of(ALICE))
    assert "The current state is not what the events amount to" in page


def test_a_register_that_makes_no_sense_denies_and_is_noticed(console: Console) -> None:
    with console.services.database.begin() as session:
        session.execute(
            update(state)
            .where(state.c.subject_ref == console.people[ALICE], state.c.state == "withdrawn")
            .values(state="maybe")
        )
    visitor = console.staff(Role.OFFICER)
    assert "Unreadable" in visitor.get("/admin/consent")
    page = visitor.get(console.page_of(ALICE))
    assert "This cannot be told" in page
    assert "does not match the ledger" in page


def test_a_changed_ledger_is_noticed_where_it_concerns_somebody(console: Console) -> None:
    with console.services.database.begin() as session:
        drop_triggers(session.connection())
        leaf = session.execute(select(ledger.entry.c.leaf).where(ledger.entry.c.idx == 2)).scalar()
        assert leaf is not None
        session.execute(
            update(ledger.entry)
            .where(ledger.entry.c.idx == 2)
            .values(leaf=leaf.replace(b'"withdrawn"', b'"granted"'))
        )
    visitor = console.staff(Role.OFFICER)
    assert "does not match the ledger" in visitor.get(console.page_of(ALICE))
    assert "all match" not in visitor.get(console.page_of(ALICE))
    assert "it matches the ledger" in visitor.get(console.page_of(BOB))


def test_a_persons_identifier_is_never_in_an_address(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    addresses = set()
    for path in ("/admin", "/admin/consent", console.page_of(ALICE), console.page_of(BOB)):
        addresses |= set(re.findall(r'(?:href|action)="([^"]+)"', visitor.get(path)))
    for address in addresses:
        assert "@" not in address
        assert phone(ALICE_PHONE).value not in address

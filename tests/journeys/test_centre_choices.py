"""People see and change their choices: by the link in a message, or by a code."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from admin_ui.app import create_app
from admin_ui.services import build
from admin_ui.settings import Settings
from consent.choices import Record, suppression
from consent.subjects import email, phone
from governance.vault.models import vault_identifier, vault_person
from policies.model import DoubleOptIn
from policies.vocabulary import ANY, ChoiceState, MarkState
from tests.fakes.centre import Centre, words
from tests.fakes.clock import FrozenClock
from tests.fakes.console import ALICE, ALICE_PHONE, BOB, Console
from tests.fakes.notices import publish

NEWS = "marketing_information/email"
NEWSLETTER = "newsletter/email"
SURVEY = "customer_survey/email"
CAROL = "carol@example.com"


@pytest.fixture
def centre(console: Console) -> Centre:
    return Centre(console)


def later(centre: Centre, minutes: float = 1) -> None:
    centre.console.clock.advance(timedelta(minutes=minutes))


# --- what is shown -----------------------------------------------------------------------------


def test_a_link_shows_each_choice_since_when_and_no_identifier(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    page = words(visit.text)
    assert "a•••@e•••.com" in page
    assert "Example Shop GmbH (fictional), Beispielweg 1" in page
    assert "Privacy notice 3 (version 3, language: en)" in page
    assert visit.stands(NEWS) == "yes"
    assert visit.state(NEWS) == "Yes, since 31 December 2025. It ends on 31 December 2027."
    assert visit.stands("product_updates/email") == "no"
    assert visit.state("product_updates/email") == "No, since 19 February 2026."
    for secret in (ALICE, ALICE_PHONE, ALICE_PHONE[3:], centre.console.people[ALICE], BOB):
        assert secret not in visit.text
    assert visit.client.get_cookie("tutela_visit", path="/privacy") is None


def test_nothing_is_chosen_for_whoever_has_chosen_nothing(centre: Centre) -> None:
    visit = centre.visit(BOB)
    assert {(answer, place) for answer, place, on in visit.buttons if on} == {("no", NEWS)}
    assert visit.state(SURVEY) == "You have not chosen. We do this until you say No."
    assert visit.state(NEWSLETTER) == "You have not chosen. We do not do this."


def test_channels_are_those_on_which_the_person_can_be_reached_or_is(centre: Centre) -> None:
    bobs = {place.partition("/")[2] for _, place, _ in centre.visit(BOB).buttons}
    assert bobs == {"email", "post", "in_app", "web"}
    alices = {place.partition("/")[2] for _, place, _ in centre.visit(ALICE).buttons}
    assert alices == {"email", "sms", "phone", "post", "in_app", "web"}
    place = "marketing_information/chat"
    assert place not in {one for _, one, _ in centre.visit(BOB).buttons}
    centre.console.say(BOB, ChoiceState.GRANTED, channel="chat")
    assert centre.visit(BOB).stands(place) == "yes"


def test_what_a_contract_or_the_law_takes_is_said_and_cannot_be_chosen(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    assert "News of your order" in visit.text
    assert "A contract with you takes this." in visit.text
    assert not [place for _, place, _ in visit.buttons if place.startswith("order_updates")]


def test_purposes_are_said_in_the_visitors_language(centre: Centre) -> None:
    german = centre.visit(ALICE, "de")
    assert "Angebote und Neuigkeiten" in german.text
    assert "Wir tun" not in german.text
    assert german.state(NEWS).startswith("Ja, seit 31. Dezember 2025.")
    test = centre.visit(ALICE, "ar-XB")
    assert '<span lang="en" dir="auto">Offers and news</span>' in test.text


# --- one answer --------------------------------------------------------------------------------


def test_one_press_stops_and_one_takes_it_back(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    assert centre.may(ALICE) == "GRANTED"
    before = visit.state(NEWS)
    later(centre)
    assert visit.press(no=NEWS) == (
        "Done. We stopped this at 10:01: Offers and news (E-mail). "
        "A message already on its way may still arrive until 11:01. Undo"
    )
    assert centre.may(ALICE) == "WITHDRAWN"
    assert visit.stands(NEWS) == "no"
    stopped = centre.events(ALICE)[-1]
    assert (stopped.state, stopped.purpose, stopped.channel) == (
        "withdrawn",
        "marketing_information",
        "email",
    )
    claims = centre.claims(stopped)
    assert (claims["method"], claims["actor"]) == ("privacy_centre_link", "person:link")
    later(centre)
    assert visit.undo() == "Undone at 10:02. Below you see what applies now."
    assert centre.may(ALICE) == "RENEWED"
    restored = centre.events(ALICE)[-1]
    assert restored.state == "granted"
    assert visit.state(NEWS).endswith(before.partition(". ")[2]), "it ends when it would have"
    assert centre.claims(restored)["notice"] == {
        "id": "privacy",
        "version": "3",
        "language": "en",
    }


def test_an_answer_changes_nothing_else(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    before = {place: on for answer, place, on in visit.buttons if answer == "yes"}
    later(centre)
    visit.press(no="existing_customer_offers/post")
    after = {place: on for answer, place, on in visit.buttons if answer == "yes"}
    assert before == after
    assert len(centre.events(ALICE)) == 4


def test_a_no_to_legitimate_interests_is_an_objection_and_a_yes_takes_it_back(
    centre: Centre,
) -> None:
    visit = centre.visit(ALICE)
    later(centre)
    visit.press(no=SURVEY)
    assert centre.events(ALICE)[-1].state == "objected"
    assert centre.may(ALICE, "customer_survey") == "OBJECTED"
    later(centre)
    visit.press(yes=SURVEY)
    assert centre.may(ALICE, "customer_survey") == "LEGITIMATE_INTERESTS"
    assert visit.stands(SURVEY) == "yes"
    later(centre)
    visit.undo()
    assert centre.may(ALICE, "customer_survey") == "OBJECTED"


def test_a_no_to_what_was_never_asked_is_a_refusal_and_says_so(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    assert visit.press(no="basket_reminders/email") == (
        "Saved at 10:00: No to Reminders of your basket (E-mail)."
    )
    assert centre.events(ALICE)[-1].state == "refused"


def test_a_yes_is_recorded_with_the_notice_in_the_language_that_was_shown(
    centre: Centre,
) -> None:
    services = centre.console.services
    with services.database.begin() as session:
        publish(
            session,
            services.policies(),
            "4",
            now=services.clock(),
            effective_from=services.clock(),
            languages=("en", "de"),
        )
    for lang, told in (("de", "de"), ("fr", "en")):
        visit = centre.visit(BOB, lang)
        later(centre)
        visit.press(yes=NEWS)
        granted = centre.events(BOB)[-1]
        assert granted.state == "granted"
        assert centre.claims(granted)["notice"] == {
            "id": "privacy",
            "version": "4",
            "language": told,
        }
        later(centre)
        visit.press(no=NEWS)


def test_what_stands_already_is_not_recorded_again(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    assert visit.press(yes=NEWS) == "That is how it was already."
    assert visit.press(no="product_updates/email") == "That is how it was already."
    assert len(centre.events(ALICE)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"no": "order_updates/email"},
        {"yes": "nothing/email"},
        {"yes": "marketing_information/fax"},
        {"yes": "*/*"},
        {"yes": "marketing_information"},
        {"all": "maybe"},
        {"undo": "01980000-0000-7000-8000-000000000000.1"},
        {"undo": "01980000-0000-7000-8000-000000000000"},
        {"undo": "' OR 1=1 --"},
        {"undo": "\ud800x"},
        {"no": "\0/\0"},
    ],
)
def test_what_no_button_sends_changes_nothing(centre: Centre, fields: dict[str, str]) -> None:
    visit = centre.visit(ALICE)
    before = centre.events(ALICE)
    answer = visit.send(**{k: v.encode("utf-8", "replace").decode() for k, v in fields.items()})
    assert answer.status_code == 303
    assert answer.headers["Location"].endswith("same=1#done")
    assert centre.events(ALICE) == before


# --- all at once -------------------------------------------------------------------------------


def test_stopping_everything_is_one_press_covers_what_is_not_shown_and_can_be_undone(
    centre: Centre,
) -> None:
    visit = centre.visit(ALICE)
    later(centre)
    assert visit.press(all="no") == (
        "Done. We stopped all optional uses at 10:01. "
        "A message already on its way may still arrive until 11:01. Undo"
    )
    stopped = centre.events(ALICE)[-1]
    assert (stopped.purpose, stopped.channel, stopped.state) == (ANY, ANY, "objected")
    assert {on for answer, _, on in visit.buttons if answer == "no"} == {True}
    assert visit.send(all="no").headers["Location"].endswith("same=1#done")
    assert centre.may(ALICE, "customer_survey", "web") == "OBJECTED"
    assert centre.may(ALICE, "marketing_information", "chat") == "OBJECTED"
    assert centre.may(ALICE, "order_updates") == "CONTRACT"
    later(centre)
    visit.undo()
    assert centre.may(ALICE) == "RENEWED"
    assert centre.may(ALICE, "customer_survey") == "LEGITIMATE_INTERESTS"
    assert centre.may(ALICE, "product_updates") == "OBJECTED", "it was a No before"


def test_allowing_everything_is_one_press_and_its_undo_gives_back_the_rest(
    centre: Centre,
) -> None:
    visit = centre.visit(BOB)
    later(centre)
    said = visit.press(all="yes")
    assert said.startswith("Saved at 10:01: Yes to everything that is shown here.")
    assert "Newsletter (E-mail): You said Yes on 1 March 2026. It counts once" in said
    assert centre.may(BOB) == "GRANTED"
    assert centre.may(BOB, "newsletter") == "PENDING_CONFIRMATION"
    assert {row.notice_version for row in centre.events(BOB)[1:]} == {"3"}
    later(centre)
    visit.undo()
    assert centre.may(BOB) == "WITHDRAWN"
    assert centre.may(BOB, "newsletter") == "WITHDRAWN"
    assert centre.may(BOB, "customer_survey") == "LEGITIMATE_INTERESTS", "so it was before"


def test_undo_is_offered_for_an_hour_and_for_what_still_stands(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    later(centre)
    visit.press(no=NEWS)
    stopped = f"{centre.events(ALICE)[-1].id}.1"
    later(centre, 59.9)
    again = visit.client.get(visit.path, query_string={"done": stopped}).text
    assert f'name="undo" value="{stopped}"' in again
    later(centre, 0.1)
    again = visit.client.get(visit.path, query_string={"done": stopped}).text
    assert 'name="undo"' not in again
    assert 'id="done"' not in again
    before = centre.events(ALICE)
    assert visit.send(undo=stopped).headers["Location"].endswith("same=1#done")
    assert centre.events(ALICE) == before


def test_undo_does_not_touch_what_was_said_since(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    later(centre)
    visit.press(no=NEWS)
    stopped = f"{centre.events(ALICE)[-1].id}.1"
    later(centre)
    visit.press(yes=NEWS)
    later(centre)
    visit.press(no=NEWS)
    count = len(centre.events(ALICE))
    visit.send(undo=stopped)
    assert len(centre.events(ALICE)) == count
    assert centre.may(ALICE) == "WITHDRAWN"


def test_nobody_undoes_what_another_person_said(centre: Centre) -> None:
    alice, bob = centre.visit(ALICE), centre.visit(BOB)
    later(centre)
    alice.press(no=NEWS)
    stopped = f"{centre.events(ALICE)[-1].id}.1"
    shown = bob.client.get(bob.path, query_string={"done": stopped, "lang": "en"}).text
    assert 'id="done"' not in shown
    bob.send(undo=stopped)
    assert centre.may(ALICE) == "WITHDRAWN"
    assert len(centre.events(BOB)) == 1


# --- where a Yes is not taken ------------------------------------------------------------------


def test_a_yes_under_a_notice_that_has_changed_meanwhile_is_not_taken(centre: Centre) -> None:
    visit = centre.visit(BOB)
    services = centre.console.services
    with services.database.begin() as session:
        publish(
            session,
            services.policies(),
            "4",
            now=services.clock(),
            effective_from=services.clock(),
            material=True,
        )
    later(centre)
    assert visit.press(yes=NEWS) == (
        "The privacy notice has changed meanwhile. Look at it, and choose again."
    )
    assert len(centre.events(BOB)) == 1
    assert visit.press(yes=NEWS).startswith("Saved at")
    assert centre.events(BOB)[-1].notice_version == "4"


def test_a_no_from_an_old_page_is_always_taken(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    later(centre)
    answer = visit.client.post(visit.path, data={"no": NEWS})
    assert answer.status_code == 303
    assert centre.may(ALICE) == "WITHDRAWN"


def test_without_a_notice_there_is_no_yes_and_every_no(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=migrated_url, log_origin="example.com/log")
    services = build(settings, clock, fast_passwords=True)
    try:
        console = Console(services, create_app(services), clock)
        console.say(BOB, ChoiceState.OBJECTED, notice=None)
        visit = Centre(console).visit(BOB)
        assert "there is no published notice" in words(visit.text)
        assert {answer for answer, _, _ in visit.buttons} == {"no"}
        assert visit.press(all="yes") == "That is how it was already."
        assert visit.press(yes=NEWSLETTER) == "That is how it was already."
        clock.advance(timedelta(minutes=1))
        assert visit.press(no=SURVEY).startswith("Done.")
        assert "undo" not in visit.text, "to undo would be a Yes"
    finally:
        services.close()


def test_a_standing_no_is_not_lifted_by_a_press(centre: Centre) -> None:
    centre.console.services.writer.submit(
        Record(email(BOB), (suppression(MarkState.SET, method="letter"),), "account:officer")
    )
    visit = centre.visit(BOB)
    assert "you asked us to stay away altogether" in visit.state(NEWS)
    assert ("yes", NEWS, False) not in visit.buttons
    visit.press(yes=NEWS)
    visit.press(all="yes")
    assert {row.state for row in centre.events(BOB)} == {"refused", "set"}


def test_a_child_does_not_get_past_its_age_here(centre: Centre) -> None:
    centre.console.say(CAROL, ChoiceState.GRANTED, evidence={"age": 12})
    visit = centre.visit(CAROL)
    assert visit.state(NEWS) == "A parent or guardian has to agree. Until then we do not do this."
    assert not [place for answer, place, _ in visit.buttons if (answer, place) == ("yes", NEWS)]
    later(centre)
    visit.press(no=NEWS)
    later(centre)
    assert visit.press(yes=NEWS) == "That is how it was already."
    assert visit.press(yes=NEWSLETTER) == "That is how it was already."
    assert not [row for row in centre.events(CAROL)[1:] if row.state == "granted"]
    visit.press(no=SURVEY)
    assert centre.may(CAROL, "customer_survey") == "OBJECTED"


# --- double opt-in -----------------------------------------------------------------------------


def test_a_code_confirms_what_a_link_does_not(centre: Centre) -> None:
    by_link = centre.visit(ALICE)
    later(centre)
    assert "It counts once you confirm it" in by_link.press(yes=NEWSLETTER)
    assert centre.may(ALICE, "newsletter") == "PENDING_CONFIRMATION"
    by_code = centre.by_code(ALICE)
    later(centre)
    assert by_code.press(yes=NEWSLETTER).startswith("Saved at 10:02: Yes to Newsletter (E-mail).")
    assert centre.may(ALICE, "newsletter") == "RENEWED"
    claims = centre.claims(centre.events(ALICE)[-1])
    assert (claims["method"], claims["actor"]) == ("privacy_centre_code", "person:code")
    assert claims["confirmed_at"] == claims["occurred_at"]


def test_a_code_to_one_mailbox_confirms_nothing_about_another_channel(centre: Centre) -> None:
    rule = centre.console.services.policies().purposes["newsletter"]
    assert rule.double_opt_in == DoubleOptIn(rule.channels, timedelta(days=7))
    visit = centre.by_code(ALICE)
    later(centre)
    visit.press(yes="marketing_information/sms")
    assert "confirmed_at" not in centre.claims(centre.events(ALICE)[-1])


def test_undo_restores_what_had_been_confirmed(centre: Centre) -> None:
    by_code = centre.by_code(ALICE)
    later(centre)
    by_code.press(yes=NEWSLETTER)
    by_link = centre.visit(ALICE)
    later(centre)
    by_link.press(no=NEWSLETTER)
    assert centre.may(ALICE, "newsletter") == "WITHDRAWN"
    later(centre)
    by_link.undo()
    assert centre.may(ALICE, "newsletter") == "RENEWED"


# --- by code -----------------------------------------------------------------------------------


def test_whoever_reads_the_code_in_their_mail_sees_and_changes_their_choices(
    centre: Centre,
) -> None:
    visit = centre.by_code(ALICE, "de")
    to, subject, text = centre.mails()[-1]
    assert to == ALICE
    assert subject == "Ihr Code für Example Shop"
    assert "10 Minuten" in text
    assert "a•••@e•••.com" in visit.text
    later(centre)
    assert visit.press(no=NEWS).startswith("Erledigt. Das haben wir um 10:01 beendet")
    assert centre.may(ALICE) == "WITHDRAWN"


def test_a_visit_ends_when_it_is_closed_and_after_twenty_minutes(centre: Centre) -> None:
    visit = centre.by_code(ALICE)
    cookie = visit.client.get_cookie("tutela_visit", path="/privacy")
    assert cookie is not None
    assert cookie.http_only
    assert cookie.same_site == "Strict"
    assert cookie.path == "/privacy"
    later(centre, 20)
    page = visit.client.get("/privacy/choices?lang=en").text
    assert "Your visit has ended" in page
    assert "a•••@e•••.com" not in page
    assert visit.send(no=NEWS).status_code == 403
    assert centre.may(ALICE) == "GRANTED"

    fresh = centre.by_code(ALICE)
    token = fresh.text.split('name="form" value="')[1].split('"')[0]
    assert fresh.client.post("/privacy/leave", data={"form": token}).status_code == 303
    assert fresh.client.get_cookie("tutela_visit", path="/privacy") is None
    assert "E-mail address" in fresh.client.get("/privacy/choices?lang=en").text


def test_whoever_was_erased_meanwhile_is_gone_politely(centre: Centre) -> None:
    by_link, by_code = centre.visit(ALICE), centre.by_code(ALICE)
    with centre.console.services.database.begin() as session:
        ref = centre.console.people[ALICE]
        session.execute(delete(vault_identifier).where(vault_identifier.c.subject_ref == ref))
        session.execute(delete(vault_person).where(vault_person.c.ref == ref))
    before = len(centre.events(ALICE))
    for visit in (by_link, by_code):
        answer = visit.client.get(f"{visit.path}?lang=en")
        assert answer.status_code == 410
        assert "This link does not work any more" in answer.text
        assert visit.send(no=NEWS).status_code == 410
    assert len(centre.events(ALICE)) == before


def test_a_link_dies_with_the_contact_that_it_was_sent_to(centre: Centre) -> None:
    visit = centre.visit(ALICE)
    other = centre.visit(ALICE, recipient=phone(ALICE_PHONE))
    assert "+•••20" in other.text
    with centre.console.services.database.begin() as session:
        session.execute(
            delete(vault_identifier).where(
                vault_identifier.c.subject_ref == centre.console.people[ALICE],
                vault_identifier.c.kind == "email",
            )
        )
    assert visit.client.get(visit.path).status_code == 410
    assert other.client.get(other.path).status_code == 200


def test_a_link_for_nobody_in_particular_shows_no_contact(centre: Centre) -> None:
    visit = centre.visit(ALICE, recipient=None)
    assert "•••" not in visit.text
    assert "the person for whom this link was made" in visit.text

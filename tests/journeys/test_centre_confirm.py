"""Double opt-in: a form is submitted, one mail asks, and nothing counts until it is confirmed."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from admin_ui.confirmation_mails import ConfirmationPost
from consent.choices import Followed, NoticeRef, Record, choice, suppression
from consent.confirmations import KEPT, MOST_A_DAY, Asker, forget
from consent.subjects import SubjectRef, email
from governance.keys.models import data_key
from governance.outbound.models import mail
from governance.vault.models import vault_identifier, vault_person
from policies.vocabulary import ChoiceState, MarkState
from tests.fakes.axe import violations
from tests.fakes.centre import Centre, words
from tests.fakes.clock import FrozenClock
from tests.fakes.console import ALICE, BOB, Console, open_console, seed
from tests.fakes.services import Api

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DAY = timedelta(days=1)
PLACE = "newsletter/email"
MAIL = "Please confirm: Newsletter"
SAID = {"id": "privacy", "version": "3", "language": "en"}


@pytest.fixture
def centre(console: Console) -> Centre:
    return Centre(console)


@pytest.fixture
def api(console: Console) -> Api:
    made = Api(console.services, console.app)
    made.key()
    return made


def sign_up(api: Api, who: str | dict[str, Any] = BOB, **more: Any) -> str:
    """A form is submitted; the id of the grant."""
    subject = {"email": who} if isinstance(who, str) else who
    grant = {
        "purpose": "newsletter",
        "channel": "email",
        "state": "granted",
        "notice": SAID,
        "method": "web_form",
    }
    return str(api.record(subject, grant | more)["events"][0]["id"])


def asked(centre: Centre) -> list[str]:
    """The texts of the mails that asked for a confirmation."""
    return [text for _, subject, text in centre.mails() if subject == MAIL]


def link_in(centre: Centre, text: str) -> str:
    """The path that a mail asks to open."""
    (url,) = re.findall(r"\S+/privacy/confirm/\S+", text)
    return str(url).removeprefix(centre.console.services.settings.url)


def queued(console: Console) -> int:
    """How many mails were ever queued."""
    with console.services.database.read() as reader:
        return int(reader.execute(select(func.count()).select_from(mail)).scalar_one())


def open_page(centre: Centre, path: str, status: int = 200) -> str:
    answer = centre.console.app.test_client().get(path)
    assert answer.status_code == status
    return words(answer.text)


def press(centre: Centre, path: str) -> str:
    """Press the button; what the page says then."""
    client = centre.console.app.test_client()
    answer = client.post(path)
    assert answer.status_code == 303
    return words(client.get(answer.headers["Location"]).text)


def test_one_mail_asks_a_look_changes_nothing_and_a_press_confirms(
    centre: Centre, api: Api
) -> None:
    grant = sign_up(api)
    assert centre.may(BOB, "newsletter") == "PENDING_CONFIRMATION"
    (text,) = asked(centre)
    assert "On 2026-03-01 10:00 (Europe/Berlin) your address" in text
    assert "until 2026-03-08 10:00 (Europe/Berlin)" in text
    assert "(web form)" in text
    assert "/privacy/notices/privacy/3/en" in text
    assert "Example Shop GmbH (fictional)" in text
    assert BOB not in text
    path, before = link_in(centre, text), api.contents()
    for _ in range(3):
        assert "Confirm my Yes" in open_page(centre, path)
        assert centre.console.app.test_client().head(path).status_code == 200
    assert api.contents() == before
    pending = api.check({"email": BOB}, purpose="newsletter")
    assert (pending["allow"], pending["reason"]) == (False, "PENDING_CONFIRMATION")
    assert "Your Yes is confirmed" in press(centre, path)
    assert centre.may(BOB, "newsletter") == "GRANTED"
    assert api.check({"email": BOB}, purpose="newsletter")["allow"] is True
    confirmed = centre.events(BOB)[-1]
    assert (confirmed.type, confirmed.confirms) == ("confirmation", grant)
    claims = centre.claims(confirmed)
    assert (claims["method"], claims["actor"]) == ("confirmation_link", "person:link")
    before = api.contents()
    assert "Your Yes is confirmed" in press(centre, path)
    assert "Your Yes is confirmed" in open_page(centre, path)
    assert api.contents() == before


def test_signing_up_again_sends_no_second_mail_and_the_first_link_confirms(
    centre: Centre, api: Api
) -> None:
    sign_up(api)
    centre.console.clock.advance(2 * DAY)
    second = sign_up(api)
    (text,) = asked(centre)
    press(centre, link_in(centre, text))
    assert centre.events(BOB)[-1].confirms == second
    assert centre.may(BOB, "newsletter") == "RENEWED"


def test_a_repeat_under_one_idempotency_key_sends_one_mail(centre: Centre, api: Api) -> None:
    body = {
        "subject": {"email": BOB},
        "choices": [
            {"purpose": "newsletter", "channel": "email", "state": "granted", "notice": SAID}
        ],
    }
    for _ in range(2):
        answer = api.post("/v1/consent/choices", body, headers={"Idempotency-Key": "once"})
        assert answer.status_code == 201
    assert queued(centre.console) == 1


def test_an_offer_lapses_by_itself_and_the_late_are_told(centre: Centre, api: Api) -> None:
    sign_up(api)
    path = link_in(centre, asked(centre)[0])
    centre.console.clock.advance(7 * DAY - timedelta(seconds=1))
    assert centre.may(BOB, "newsletter") == "PENDING_CONFIRMATION"
    centre.console.clock.advance(timedelta(seconds=1))
    assert centre.may(BOB, "newsletter") == "CONFIRMATION_LAPSED"
    before = api.contents()
    assert "This came too late" in open_page(centre, path)
    assert "Nothing was recorded" in press(centre, path)
    assert api.contents() == before
    sign_up(api)
    assert len(asked(centre)) == 2, "a new offer, a new mail"
    centre.console.clock.advance(7 * DAY)
    open_page(centre, path, 410)


def test_what_was_withdrawn_meanwhile_is_not_confirmed(centre: Centre, api: Api) -> None:
    sign_up(api)
    path = link_in(centre, asked(centre)[0])
    centre.console.clock.advance(DAY)
    centre.console.say(BOB, ChoiceState.WITHDRAWN, purpose="newsletter")
    before = len(centre.events(BOB))
    assert "You have said something else since" in press(centre, path)
    assert len(centre.events(BOB)) == before
    assert centre.may(BOB, "newsletter") == "WITHDRAWN"


def test_a_forged_link_and_one_of_another_kind_lead_to_one_page(centre: Centre, api: Api) -> None:
    sign_up(api)
    path = link_in(centre, asked(centre)[0])
    other = f"/privacy/confirm/{centre.token(BOB)}"
    flipped = path[:-1] + ("A" if path[-1] != "A" else "B")
    pages = {open_page(centre, one, 410) for one in (other, "/privacy/confirm/x")}
    pages.add(open_page(centre, flipped, 410))
    assert len({page.partition("Language")[0] for page in pages}) == 1
    assert centre.console.app.test_client().post(flipped).status_code == 410
    assert centre.may(BOB, "newsletter") == "PENDING_CONFIRMATION"


def test_the_link_ends_with_its_address_and_with_the_person(centre: Centre, api: Api) -> None:
    sign_up(api)
    path = link_in(centre, asked(centre)[0])
    ref = centre.console.people[BOB]
    with centre.console.services.database.begin() as session:
        session.execute(delete(vault_identifier).where(vault_identifier.c.subject_ref == ref))
    open_page(centre, path, 410)
    with centre.console.services.database.begin() as session:
        session.execute(delete(data_key).where(data_key.c.subject_ref == ref))
        session.execute(delete(vault_person).where(vault_person.c.ref == ref))
    open_page(centre, path, 410)
    assert centre.console.app.test_client().post(path).status_code == 410


def test_nobody_floods_a_mailbox(centre: Centre, api: Api) -> None:
    for number in range(MOST_A_DAY + 3):
        sign_up(api, f"stranger+{number}@example.com")
    assert queued(centre.console) == MOST_A_DAY
    for _ in range(3):
        sign_up(api, "stranger+0@example.com")
    assert queued(centre.console) == MOST_A_DAY
    centre.console.clock.advance(DAY + timedelta(seconds=1))
    sign_up(api, "stranger+99@example.com")
    assert queued(centre.console) == MOST_A_DAY + 1


def test_nobody_is_asked_who_need_not_or_must_not_be(centre: Centre, api: Api) -> None:
    console = centre.console
    now = console.clock()
    sign_up(api, ALICE, evidence={"confirmed_at": now.isoformat()})
    sign_up(api, {"external_id": {"system": "shop", "id": "7"}})
    sign_up(api, "late@example.com", occurred_at=(now - 8 * DAY).isoformat())
    sign_up(api, "child@example.com", evidence={"age": 12})
    sign_up(api, purpose="marketing_information")
    console.services.writer.submit(
        Record(email(BOB), (suppression(MarkState.SET, method="letter"),), "account:test")
    )
    sign_up(api)
    imported = choice(
        console.services.policies(),
        purpose="newsletter",
        channel="email",
        state=ChoiceState.GRANTED,
        notice=NoticeRef("privacy", "3", "en"),
    )
    console.services.writer.write([Record(email("old@example.com"), (imported,), "import:1")])
    assert queued(console) == 0


def test_grant_and_mail_are_committed_together_or_not_at_all(
    centre: Centre, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the queue is broken")

    before = api.contents()
    with monkeypatch.context() as patch:
        patch.setattr(type(centre.console.services.mails), "put", fail)
        answer = api.post(
            "/v1/consent/choices",
            {
                "subject": {"email": BOB},
                "choices": [
                    {
                        "purpose": "newsletter",
                        "channel": "email",
                        "state": "granted",
                        "notice": SAID,
                    }
                ],
            },
        )
    assert answer.status_code == 500
    assert api.contents() == before
    sign_up(api)
    assert queued(centre.console) == 1


def test_a_choice_without_double_opt_in_takes_no_statement_of_the_asker(centre: Centre) -> None:
    services, touched = centre.console.services, []

    class Untouchable(Session):
        def execute(self, *statement: Any, **_: Any) -> Any:
            touched.append(statement)
            raise AssertionError("a statement")

    grants = [
        choice(
            services.policies(),
            purpose="marketing_information",
            channel="email",
            state=state,
            notice=NoticeRef(**SAID),
        )
        for state in (ChoiceState.GRANTED, ChoiceState.WITHDRAWN)
    ]
    ref = centre.console.people[BOB]
    command = Record(email(BOB), tuple(grants), "api_key:test", asks=True)
    post = ConfirmationPost(
        services.mails, services.directory, services.settings.url, services.settings.zone
    )
    asker = Asker(services.policies, services.links, post)
    followed = [Followed(ref, one, command) for one in grants]
    asker.follow(Untouchable(), followed, services.clock())
    assert touched == []


def test_the_centre_asks_too_and_says_what_is_true(centre: Centre) -> None:
    visit = centre.visit(BOB)
    visit.press(yes=PLACE)
    assert "through the link that we sent you" in visit.state(PLACE)
    press(centre, link_in(centre, asked(centre)[0]))
    assert visit.look().stands(PLACE) == "yes"


def test_where_no_mail_goes_out_the_page_says_what_else_there_is(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with open_console(migrated_url, tmp_path, clock, confirmation_mails=False) as console:
        seed(console)
        centre = Centre(console)
        visit = centre.visit(BOB)
        visit.press(yes=PLACE)
        assert queued(console) == 0
        assert "open this page with a code, and say Yes again" in visit.state(PLACE)
        by_code = centre.by_code(BOB)
        by_code.press(yes=PLACE)
        assert centre.may(BOB, "newsletter") == "GRANTED"


def test_who_was_asked_is_forgotten_when_no_offer_can_stand(centre: Centre, api: Api) -> None:
    sign_up(api)
    database, now = centre.console.services.database, centre.console.clock()
    with database.begin() as session:
        assert forget(session, now + KEPT) == 0
        assert forget(session, now + KEPT + DAY) == 1


def test_script_14_form_mail_page_press(browser: "Browser", shown: tuple[Console, str]) -> None:
    console, address = shown
    centre, api = Centre(console), Api(console.services, console.app)
    late = "late@example.com"
    for who in (BOB, late):
        sign_up(api, who)
        console.people[who] = person(console, who)
        assert centre.may(who, "newsletter") == "PENDING_CONFIRMATION"
    paths = {to: link_in(centre, text) for to, subject, text in centre.mails() if subject == MAIL}
    assert paths.keys() == {BOB, late}
    for looks in ({}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
        context = browser.new_context(base_url=address, **looks)
        page = context.new_page()
        page.goto(paths[BOB])
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        context.close()
    assert centre.may(BOB, "newsletter") == "PENDING_CONFIRMATION"
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto(paths[BOB])
    page.get_by_role("button", name="Confirm my Yes").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Your Yes is confirmed"
    assert centre.may(BOB, "newsletter") == "GRANTED"
    assert centre.events(BOB)[-1].type == "confirmation"
    console.clock.advance(7 * DAY)
    assert centre.may(late, "newsletter") == "CONFIRMATION_LAPSED"
    page.goto(paths[late])
    assert page.get_by_role("heading", level=1).inner_text() == "This came too late"
    assert page.get_by_role("button", name="Confirm my Yes").count() == 0
    context.close()


def person(console: Console, who: str) -> SubjectRef:
    with console.services.database.read() as reader:
        (ref,) = console.services.directory.find(reader, [email(who)])
    assert ref is not None
    return ref

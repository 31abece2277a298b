"""What developers and administrators do with webhooks and mails, page by page."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from consent.subjects import email
from governance.database import utcnow
from governance.outbound.models import DeliveryState, MailState, delivery
from policies.permissions import Role
from policies.vocabulary import ChoiceState
from tests.fakes.clock import FrozenClock
from tests.fakes.console import ALICE, BOB, Console, Visitor, open_console
from tests.fakes.outbound import fill_outbound, webhook_of
from tests.fakes.receiver import Receiver, Reply, receiving

SECRET = re.compile(r'value="(whsec_[^"]+)"')


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture
def site(migrated_url: str, tmp_path: Path, receiver: Receiver) -> Iterator[Console]:
    """A console that may call the receiver, at the time that it is."""
    reach = {
        "outbound_hosts": f"http://127.0.0.1:{receiver.port}",
        "outbound_networks": "127.0.0.1",
    }
    with open_console(migrated_url, tmp_path, FrozenClock(utcnow()), **reach) as opened:
        yield opened


def register(visitor: Visitor, receiver: Receiver, **fields: object) -> tuple[str, str]:
    """Address of the page and secret of a new webhook."""
    visitor.get("/admin/webhooks/new")
    form = {"name": "newsletter tool", "url": receiver.url(), "start": "now"} | fields
    page = visitor.send("/admin/webhooks/new", status=201, **form).text
    secret = SECRET.search(page)
    path = re.search(r'href="(/admin/webhooks/[0-9a-f-]{36})"', page)
    assert secret is not None
    assert path is not None
    return path[1], secret[1].replace("&#43;", "+")


def deliver(site: Console) -> None:
    while site.services.webhook_delivery.deliver_next():
        pass


# --- webhooks ----------------------------------------------------------------------------------


def test_a_developer_registers_tries_out_and_sees_what_was_taken(
    site: Console, receiver: Receiver
) -> None:
    visitor = site.staff(Role.DEVELOPER)
    assert "No webhook yet" in visitor.get("/admin/webhooks")
    path, secret = register(visitor, receiver, fields=["state", "purpose"])
    page = visitor.get(path)
    assert secret not in page
    assert "id, index, subject, purpose, state" in page
    assert "was taken" in visitor.send(f"{path}/test", status=200).text
    told = Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
    assert told["type"] == "webhook.test"
    site.say(ALICE, ChoiceState.GRANTED)
    withdrawn = site.say(ALICE, ChoiceState.WITHDRAWN)
    assert "2 not looked at" in visitor.get("/admin/webhooks")
    deliver(site)
    assert receiver.ids[-1] == withdrawn
    page = visitor.get(path)
    assert withdrawn in page
    assert "up to date" in visitor.get("/admin/webhooks")
    with site.services.database.read() as reader:
        actions = [record.action for record in site.services.trail.read(reader)]
    assert {"webhook.created", "webhook.tested"} <= set(actions)


def test_what_is_wrong_with_a_new_webhook_is_said_at_its_field(
    site: Console, receiver: Receiver
) -> None:
    visitor = site.staff(Role.DEVELOPER)
    good = {"name": "shop", "url": receiver.url(), "start": "now"}
    for wrong, name in (
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"url": ""}, "url"),
        ({"url": "https://elsewhere.example.com/"}, "url"),
        ({"url": "http://127.0.0.1:1/"}, "url"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "http://ü.example/"}, "url"),
        ({"fields": ["email"]}, "fields"),
        ({"fields": ["external_ids"]}, "system"),
        ({"fields": ["external_ids"], "system": "<b>"}, "system"),
        ({"purposes": ["<script>"]}, "purposes"),
        ({"types": ["everything"]}, "types"),
    ):
        visitor.get("/admin/webhooks/new")
        page = visitor.send("/admin/webhooks/new", status=422, **good | wrong).text
        assert f'id="{name}-wrong"' in page, wrong
        assert "<script>" not in page
    assert "No webhook yet" in visitor.get("/admin/webhooks")


def test_a_receiver_that_fails_is_told_of_until_somebody_mends_it(
    site: Console, receiver: Receiver
) -> None:
    visitor = site.staff(Role.ADMIN, Role.OFFICER)
    path, _ = register(visitor, receiver)
    receiver.behave = lambda _: Reply(503)
    assert "it answered 503 Service Unavailable" in visitor.send(f"{path}/test", status=200).text
    site.say(ALICE, ChoiceState.WITHDRAWN)
    for _ in range(3):
        deliver(site)
        site.clock.advance(timedelta(minutes=25))
        visitor.get(path)
    page = visitor.get(path)
    assert "It has taken nothing since" in page
    assert "it answered 503 Service Unavailable" in page
    assert "Failing" in visitor.get("/admin/webhooks")
    assert "takes nothing" in visitor.get("/admin")
    receiver.behave = lambda _: Reply(410)
    site.clock.advance(timedelta(minutes=25))
    deliver(site)
    assert "is disabled" in visitor.get("/admin")
    page = visitor.get(path)
    assert "it answered that it is gone for good" in page
    receiver.behave = lambda _: Reply(204)
    visitor.send(f"{path}/resume")
    deliver(site)
    page = visitor.get(path)
    assert "Active" in page
    assert "Disabled" not in page
    assert "webhook" not in visitor.get("/admin").split("Needs you")[1].split("</section>")[0]


def test_a_webhook_is_paused_resumed_replayed_and_removed(
    site: Console, receiver: Receiver
) -> None:
    visitor = site.staff(Role.DEVELOPER)
    path, _ = register(visitor, receiver)
    events = [site.say(who, ChoiceState.WITHDRAWN) for who in (ALICE, BOB)]
    deliver(site)
    visitor.get(path)
    visitor.send(f"{path}/pause")
    visitor.send(f"{path}/pause")
    assert "Paused" in visitor.get(path)
    visitor.send(f"{path}/resume")
    for fields, name in (
        ({"place": "many"}, "place"),
        ({"place": "-1"}, "place"),
        ({"place": "٣"}, "place"),
        ({"place": "3"}, "place"),
        ({"place": "9" * 30}, "place"),
        ({"since": ""}, "since"),
        ({"since": "yesterday"}, "since"),
    ):
        visitor.get(f"{path}/replay")
        page = visitor.send(f"{path}/replay", status=422, **fields).text
        assert f'id="{name}-wrong"' in page, fields
    visitor.get(f"{path}/replay")
    answer = visitor.send(f"{path}/replay", place="1", reason="lost")
    assert "The replay is under way" in visitor.get(answer.headers["Location"])
    deliver(site)
    assert receiver.ids == [*events, events[1]]
    visitor.get(f"{path}/replay")
    visitor.send(f"{path}/replay", since="2020-01-01T00:00")
    deliver(site)
    assert receiver.ids[3:] == events
    assert "Remove newsletter tool?" in visitor.get(f"{path}/remove")
    answer = visitor.send(f"{path}/remove", reason="not used")
    assert "<strong>Removed.</strong>" in visitor.get(answer.headers["Location"])
    for part in ("", "/secret", "/replay", "/remove"):
        visitor.get(path + part, status=404)
    for part in ("/test", "/pause", "/resume", "/retry", "/secret", "/replay", "/remove"):
        visitor.get("/admin/webhooks")
        visitor.send(path + part, status=404, overlap="1", place="0", index="0")


def test_a_secret_is_changed_and_shown_once(site: Console, receiver: Receiver) -> None:
    visitor = site.staff(Role.DEVELOPER)
    path, old = register(visitor, receiver)
    visitor.get(f"{path}/secret")
    assert 'id="overlap-wrong"' in visitor.send(f"{path}/secret", status=422, overlap="99").text
    visitor.get(f"{path}/secret")
    page = visitor.send(f"{path}/secret", status=201, overlap="24", reason="yearly").text
    found = SECRET.search(page)
    assert found is not None
    new = found[1].replace("&#43;", "+")
    assert new != old
    visitor.get(path)
    visitor.send(f"{path}/test", status=200)
    for secret in (old, new):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)


def test_what_was_given_up_can_be_tried_again(site: Console, receiver: Receiver) -> None:
    site.say(ALICE, ChoiceState.WITHDRAWN)
    visitor = site.staff(Role.DEVELOPER)
    path, _ = register(visitor, receiver, start="beginning")
    deliver(site)
    endpoint_id = path.rpartition("/")[2]
    with site.services.database.begin() as session:
        session.execute(
            update(delivery)
            .where(delivery.c.endpoint_id == endpoint_id)
            .values(state=DeliveryState.DEAD, reason="HTTP_422")
        )
    page = visitor.get(path)
    assert "it answered 422" in page
    assert "refused 1 event for good" in visitor.get("/admin")
    visitor.get(path)
    visitor.send(f"{path}/retry", index="0")
    visitor.send(f"{path}/retry", index="0")
    visitor.send(f"{path}/retry", status=404, index="one")
    deliver(site)
    assert len(receiver.received) == 2


@pytest.mark.parametrize("role", [Role.OFFICER, Role.AUDITOR, Role.ENGINEER, Role.APPROVER])
def test_who_may_look_may_not_change(site: Console, receiver: Receiver, role: Role) -> None:
    path, _ = register(site.staff(Role.DEVELOPER), receiver)
    visitor = site.staff(role)
    for shown in (visitor.get("/admin/webhooks"), visitor.get(path)):
        assert "New webhook" not in shown
        assert "Pause" not in shown
    for part in ("/secret", "/replay", "/remove"):
        visitor.get(path + part, status=403)
    visitor.get("/admin/webhooks/new", status=403)
    for part in ("/test", "/pause", "/resume", "/retry", "/secret", "/replay", "/remove"):
        visitor.get("/admin/webhooks")
        visitor.send(path + part, status=403)
    assert receiver.received == []


def test_an_agent_sees_neither_webhooks_nor_mails(site: Console) -> None:
    visitor = site.staff(Role.AGENT)
    for path in ("/admin/webhooks", "/admin/mail", "/admin/mail/test"):
        visitor.get(path, status=403)


def test_no_form_is_taken_without_its_token(site: Console, receiver: Receiver) -> None:
    visitor = site.staff(Role.DEVELOPER)
    path, _ = register(visitor, receiver)
    for part in ("/test", "/pause", "/replay", "/remove"):
        assert visitor.client.post(path + part, data={"place": "0"}).status_code == 400
    assert receiver.received == []


def test_without_hosts_the_page_says_which_setting_to_make(console: Console) -> None:
    visitor = console.staff(Role.DEVELOPER)
    assert "TUTELA_OUTBOUND_HOSTS=" in visitor.get("/admin/webhooks")
    visitor.get("/admin/webhooks/new")
    page = visitor.send(
        "/admin/webhooks/new", status=422, name="shop", url="https://hooks.example.com/"
    ).text
    assert "not in TUTELA_OUTBOUND_HOSTS" in page


# --- mails -------------------------------------------------------------------------------------


def test_without_a_mail_server_mails_can_be_opened_and_their_links_followed(
    console: Console,
) -> None:
    visitor = console.staff(Role.ADMIN, Role.OFFICER)
    assert "No mail yet" in visitor.get("/admin/mail")
    visitor.get("/admin/mail/test")
    answer = visitor.send("/admin/mail/test", to="Me@Example.org")
    page = visitor.get(answer.headers["Location"])
    assert "on its way" in page
    assert "Waiting" in page
    assert "There is no mail server" in page
    while console.services.mail_delivery.deliver_next():
        pass
    page = visitor.get("/admin/mail")
    assert "Sent" in page
    link = re.search(r'href="(/admin/mail/[0-9a-f-]{36})"', page)
    assert link is not None
    shown = visitor.get(link[1])
    assert "A test mail from Example Shop" in shown
    assert "me@example.org" not in (page + shown).lower()
    assert "m•••@e•••.org" in shown
    # Whoever may not see identifiers may not open mails, which hold links that act for people.
    other = console.staff(Role.ADMIN)
    assert link[1] not in other.get("/admin/mail")
    other.get(link[1], status=403)


def test_a_mail_with_an_address_that_is_none_is_not_queued(console: Console) -> None:
    visitor = console.staff(Role.ADMIN)
    for to in ("", "me", "me@", "a@example.org\r\nBcc: b@example.org", "a@b.example,c@d.example"):
        visitor.get("/admin/mail/test")
        page = visitor.send("/admin/mail/test", status=422, to=to).text
        assert 'id="to-wrong"' in page, to
    assert "No mail yet" in visitor.get("/admin/mail")


def test_mails_that_are_not_there_are_not_found(console: Console) -> None:
    visitor = console.staff(Role.ADMIN, Role.OFFICER)
    visitor.get("/admin/mail/0198a000-0000-7000-8000-000000000000", status=404)
    visitor.get("/admin/mail/..%2f..%2fsecret_key", status=404)
    visitor.get("/admin/mail?before=nonsense")


def test_mails_that_do_not_leave_are_told_of_on_the_first_page(console: Console) -> None:
    own = console.services
    with own.database.begin() as session:
        facts = {"organisation": "x"}
        own.mails.put(session, email(ALICE), "service.test", "en", facts, console.clock())
    visitor = console.staff(Role.ADMIN)
    assert "Mails do not leave" not in visitor.get("/admin")
    console.clock.advance(timedelta(hours=2))
    visitor = console.staff(Role.ADMIN)
    assert "Mails do not leave" in visitor.get("/admin")


def test_many_mails_have_pages(console: Console) -> None:
    own = console.services
    with own.database.begin() as session:
        for _ in range(60):
            console.clock.advance(timedelta(seconds=1))
            facts = {"organisation": "x"}
            own.mails.put(session, email(ALICE), "service.test", "en", facts, console.clock())
    visitor = console.staff(Role.AUDITOR)
    page = visitor.get("/admin/mail")
    assert page.count(MailState.WAITING.capitalize()) >= 50
    older = re.search(r'href="(/admin/mail\?before=[^"]+)"', page)
    assert older is not None
    assert "Newest" in visitor.get(older[1].replace("&amp;", "&"))


def test_the_states_of_webhooks_are_told_in_words(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    from tests.fakes.console import seed
    from tests.fakes.outbound import HOST

    with open_console(migrated_url, tmp_path, clock, outbound_hosts=HOST) as console:
        seed(console)
        fill_outbound(console)
        visitor = console.staff(Role.AUDITOR)
        listed = visitor.get("/admin/webhooks")
        for word in ("Active", "Failing", "Disabled", "up to date", "waiting, the first 3 hours"):
            assert word in listed
        page = visitor.get("/admin/webhooks/" + webhook_of(console, "shop"))
        assert "it answered 503 Service Unavailable" in page
        assert "Try again" not in page

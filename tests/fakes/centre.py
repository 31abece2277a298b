"""Visitors of the privacy centre: by a link, by a code, without a browser."""

import html
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from consent.ledger.leaf import open_disclosures, read_leaf
from consent.links import LinkScope
from consent.models import event, ledger
from consent.subjects import Identifier, SubjectRef, email
from tests.fakes.console import Console

_INLINE = re.compile(r"</?(?:a|bdi|code|span|strong|time)\b[^>]*>")
_SEEN = re.compile(r'name="seen" value="([^"]*)"')
_FORM = re.compile(r'name="form" value="([^"]*)"')
_DONE = re.compile(r'id="done".*?</div>', re.DOTALL)
_BUTTON = re.compile(
    r'<button class="say" name="(yes|no)" value="([^"]+)" aria-pressed="(true|false)"'
)


def words(page: str) -> str:
    """What a page says, without its elements."""
    without = _INLINE.sub("", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", without)).split())


@dataclass
class Centre:
    """The privacy centre of a console's service."""

    console: Console

    def token(self, who: str, **stated: Any) -> str:
        """A link to somebody's choices, as a service asks for it."""
        services = self.console.services
        return services.links.issue(
            stated.pop("scope", LinkScope.PREFERENCES),
            self.console.people[who],
            services.clock(),
            **{"recipient": email(who), **stated},
        )

    def visit(self, who: str, lang: str = "en", **stated: Any) -> "Visit":
        """Somebody who opens the link in a message to `who`."""
        path = f"/privacy/choices/{self.token(who, **stated)}"
        return Visit(self.console.app.test_client(), path, lang).look()

    def by_code(self, who: str, lang: str = "en") -> "Visit":
        """Somebody who asks for a code, reads it in their mail and types it."""
        client = self.console.app.test_client()
        answer = client.post(f"/privacy/code?lang={lang}", data={"contact": who})
        assert answer.status_code == 303, answer.text
        where = answer.headers["Location"]
        answer.close()
        self.wait()
        answer = client.post(where, data={"code": self.code()})
        assert answer.status_code == 303, answer.text
        return Visit(client, "/privacy/choices", lang).look()

    def wait(self) -> None:
        """Until what is done behind the backs of requests is done."""
        self.console.services.later.submit(lambda: None).result(timeout=30)

    def mails(self) -> list[tuple[str, str, str]]:
        """Deliver what is queued; all that was ever sent, as recipient, subject and text."""
        while self.console.services.mail_delivery.deliver_next():
            pass
        folder = self.console.services.settings.mail_folder
        assert folder is not None
        found = []
        for file in sorted(folder.glob("*.eml")) if folder.exists() else ():
            message = message_from_bytes(file.read_bytes(), policy=default)
            body = message.get_body(("plain",))
            assert body is not None
            found.append((message["To"], message["Subject"], body.get_content()))
        return found

    def code(self) -> str:
        """The code in the newest mail."""
        found = re.findall(r"\b\d{4} \d{4}\b", self.mails()[-1][2])
        assert len(found) == 1
        return str(found[0])

    def code_for(self, who: str) -> str:
        """The code that somebody gets, as soon as it is there."""
        for _ in range(200):
            self.wait()
            codes = [text for to, _, text in self.mails() if to == who]
            if codes:
                return str(re.findall(r"\b\d{4} \d{4}\b", codes[-1])[0])
            time.sleep(0.05)
        raise AssertionError("no code came")

    def events(self, who: str) -> list[Any]:
        """What is recorded about somebody, in the order of the ledger."""
        with self.console.services.database.read() as reader:
            query = select(event).where(event.c.subject_ref == self.console.people[who])
            return list(reader.execute(query.order_by(event.c.idx)))

    def claims(self, row: Any) -> dict[str, Any]:
        """What the disclosures of an event say, opened against the ledger's leaf."""
        services = self.console.services
        with services.database.read() as reader:
            entry = ledger.entry.c
            leaf = reader.execute(select(entry.leaf).where(entry.idx == row.idx)).scalar_one()
            item = (SubjectRef(row.subject_ref), row.id, row.sealed)
            (plain,) = services.cipher.open(reader, [item])
        assert plain is not None
        return dict(open_disclosures(read_leaf(leaf), plain.decode().split("\n")))

    def link(self, who: str, identifier: Identifier) -> None:
        """Give somebody one more identifier."""
        services = self.console.services
        with services.database.begin() as session:
            services.directory.link(session, self.console.people[who], identifier, services.clock())

    def may(self, who: str, purpose: str = "marketing_information", channel: str = "email") -> str:
        """Why this may happen to somebody now, or may not."""
        services = self.console.services
        with services.database.read() as reader:
            decisions = services.checker.matrix(reader, self.console.people[who])
        return next(
            decision.reason.value
            for (key, on), decision in decisions.items()
            if (key, on) == (purpose, channel)
        )


@dataclass
class Visit:
    """An open page of somebody's choices."""

    client: FlaskClient
    path: str
    lang: str
    text: str = ""

    def look(self) -> "Visit":
        """Load the page."""
        answer = self.client.get(self.path, query_string={"lang": self.lang})
        assert answer.status_code == 200, (answer.status_code, words(answer.text))
        self.text = answer.text
        return self

    def send(self, **fields: str) -> TestResponse:
        """Press a button."""
        data = {"seen": _found(_SEEN, self.text), "form": _found(_FORM, self.text)}
        data.update(fields)
        return self.client.post(self.path, query_string={"lang": self.lang}, data=data)

    def press(self, **fields: str) -> str:
        """Press a button and read what the page says then."""
        answer = self.send(**fields)
        assert answer.status_code == 303, (answer.status_code, words(answer.text))
        place = answer.headers["Location"]
        assert place.endswith("#done")
        shown = self.client.get(place.partition("#")[0])
        assert shown.status_code == 200
        self.text = shown.text
        return self.done

    def undo(self) -> str:
        """Press the button that takes the last change back."""
        found = re.search(r'name="undo" value="([^"]+)"', self.text)
        assert found is not None, self.done
        return self.press(undo=found[1])

    @property
    def done(self) -> str:
        """What the page says of the last change."""
        found = _DONE.search(self.text)
        return words(found[0][len('id="done" role="status" tabindex="-1">') :]) if found else ""

    @property
    def buttons(self) -> Sequence[tuple[str, str, bool]]:
        """Each answer that may be given, in its order: answer, place, whether it stands."""
        return [(one, place, on == "true") for one, place, on in _BUTTON.findall(self.text)]

    def stands(self, place: str) -> str | None:
        """Which answer stands at a place."""
        standing = [one for one, where, on in self.buttons if where == place and on]
        assert len(standing) <= 1
        return standing[0] if standing else None

    def state(self, place: str) -> str:
        """The sentence below the answers at a place."""
        after = self.text.split(f'value="{place}"')[-1]
        found = re.search(r'class="state">(.*?)</p>', after, re.DOTALL)
        assert found is not None
        return words(found[1])


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""

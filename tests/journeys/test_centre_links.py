"""A service gets links for the messages that it sends, and their readers reach their choices."""

import json

from admin_ui.links import answers
from tests.fakes.centre import Centre
from tests.fakes.console import ALICE, ALICE_PHONE, Console
from tests.fakes.services import Api


def test_each_subject_gets_a_link_that_is_bound_to_its_contact(console: Console) -> None:
    services = console.services
    centre = Centre(console)
    before = Api(services, console.app).contents()
    lines = [
        json.dumps({"email": ALICE.upper()}),
        json.dumps({"phone": "+49 (0)30 901820"}),
        json.dumps({"ref": console.people[ALICE]}),
        json.dumps({"email": "nobody@example.com"}),
        "not JSON",
        json.dumps({"email": "not an address"}),
        "[]",
    ]
    found = list(answers(services, lines))
    shown = []
    for answer in found[:3]:
        path = answer["url"].removeprefix(services.settings.url)
        page = console.app.test_client().get(path)
        assert page.status_code == 200
        assert ALICE not in path
        shown.append([mask for mask in ("a•••@e•••.com", "+•••20") if mask in page.text])
    assert shown == [["a•••@e•••.com"], ["+•••20"], []]
    assert [answer.get("reason") for answer in found[3:]] == [
        "SUBJECT_UNKNOWN",
        "SUBJECT_INVALID",
        "SUBJECT_INVALID",
        "SUBJECT_INVALID",
    ]
    assert Api(services, console.app).contents() == before, "nobody is made"
    assert ALICE_PHONE not in str(found)
    assert centre.mails() == []

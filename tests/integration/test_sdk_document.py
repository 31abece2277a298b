"""docs/sdk.md does what it says: every example in it, in its order, against a running service."""

import re
from pathlib import Path
from typing import Any

from consent.client.decisions import Decision
from consent.client.errors import LocalReason
from tests.fakes.services import MARKETING, Api, said
from tests.fakes.serving import serve

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sdk.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_example_does_what_it_says(api: Api) -> None:
    api.record({"email": "ada@example.com"}, said("granted"))
    sent: list[bool] = []
    seen: list[Decision] = []
    with serve(api.app) as url:
        names: dict[str, Any] = {
            "url": url,
            "key": api.key()["Authorization"][7:],
            "send_offers": lambda: sent.append(True),
        }
        for example in BLOCK.findall(DOCUMENT.read_text()):
            exec(compile(example, str(DOCUMENT), "exec"), names)  # noqa: S102 - our own document
            if "mirror.check" in example:
                seen.append(names["mirror"].check(names["email"]("a@b.de"), MARKETING, "email"))
        names["client"].close()
    assert sent == [True]
    assert len(names["allowed"]) == 1
    assert [one.reason for one in seen] == ["MIRROR_NOT_READY"], "closed"
    assert api.check({"email": "ada@example.com"})["reason"] == "WITHDRAWN"


def test_every_reason_of_its_own_is_explained() -> None:
    text = DOCUMENT.read_text()
    assert [one for one in LocalReason if f"`{one}`" not in text] == []

"""Links for messages: the way from a mail to its reader's choices."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consent.errors import InvalidSubjectError
from consent.ledger.leaf import timestamp
from consent.links import LIFETIMES, LinkScope
from consent.subjects import Identifier, parse_subject

if TYPE_CHECKING:
    from admin_ui.services import Services


def preferences_link(
    services: "Services", subject: Identifier, now: datetime
) -> tuple[str, datetime] | None:
    """The address of somebody's choices and when it ends; None if nobody is known so.

    Named by a contact, the link is bound to it: send it there and nowhere else. It makes nobody.

    Raises:
        InvalidSubjectError: the identifier is malformed.
    """
    directory = services.directory
    with services.database.snapshot() as reader:
        (ref,) = directory.find(reader, [subject])
        if ref is None:
            return None
        held = directory.identifiers_of(reader, [ref])[ref]
    # As it is kept: what was asked with may be another spelling of it.
    recipient = next(
        (
            one
            for one in held
            if one.kind == subject.kind
            and subject.kind in ("email", "phone")
            and directory.locator_values(one) == directory.locator_values(subject)
        ),
        None,
    )
    ends_at = now + LIFETIMES[LinkScope.PREFERENCES]
    token = services.links.issue(
        LinkScope.PREFERENCES, ref, now, expires_at=ends_at, recipient=recipient
    )
    return f"{services.settings.url}/privacy/choices/{token}", ends_at


def answers(services: "Services", lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """An answer for each line that names a subject as the API's bodies do, in their order."""
    for line in lines:
        try:
            found = preferences_link(services, parse_subject(json.loads(line)), services.clock())
        except (ValueError, InvalidSubjectError):
            yield {"url": None, "reason": InvalidSubjectError.code}
            continue
        if found is None:
            yield {"url": None, "reason": "SUBJECT_UNKNOWN"}
        else:
            yield {"url": found[0], "expires_at": timestamp(found[1])}

"""What leaves the service, as staff see it: webhooks and mails, and why some did not leave."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from admin_ui.console.wording import Tag, Tone
from admin_ui.services import Services
from consent.subjects import Reader
from governance.outbound import mail
from governance.outbound.mail import MailTrace
from governance.outbound.models import DeliveryState, EndpointState, MailState
from governance.outbound.webhooks.endpoints import Delivered, Endpoint, Lag

PAGE: Final = 50
SHOWN: Final = 20
FAILING_LONG: Final = timedelta(hours=1)
"""Shorter failures mend themselves as a rule, and are only shown on the webhook's own page."""

_REASONS: Final = {
    # calls
    "TIMED_OUT": "it took too long to answer",
    "NOT_REACHED": "nobody answered at its address",
    "NAME_UNKNOWN": "its name could not be looked up",
    "TLS_FAILED": "its certificate is not valid for its name",
    "CONNECTION_LOST": "it broke off without an answer",
    "ANSWER_MALFORMED": "what it answered is not HTTP",
    "ANSWER_TOO_LARGE": "its answer was too long",
    "HOST_NOT_ALLOWED": "its host is not in TUTELA_OUTBOUND_HOSTS",
    "ADDRESS_FORBIDDEN": "its name leads into a network outside TUTELA_OUTBOUND_NETWORKS",
    "URL_INVALID": "its address is malformed",
    "UNREADABLE": "what is stored about it was changed and cannot be opened",
    "GONE": "it answered that it is gone for good",
    "FAILING": "it took nothing for five days",
    # mails
    "EXPIRED": "it could not be sent while it was of use",
    "PERSON_ERASED": "the person was erased before it was sent",
    "NO_ADDRESS": "the person has no e-mail address",
    "KIND_UNKNOWN": "this version does not know the kind of mail any more",
    "ADDRESS_UNUSABLE": "the address cannot be written in a mail",
    "ADDRESS_NOT_SUPPORTED": "the mail server cannot send to addresses in other scripts",
    "CONTENT_UNUSABLE": "its subject cannot be written in a mail",
    "LOGIN_REFUSED": "the mail server refused our name and password",
    "NOT_SUPPORTED": "the mail server offers no encryption or login as configured",
    "FOLDER_NOT_WRITABLE": "the folder for mails cannot be written",
}

_ENDPOINT_STATES: Final = {
    EndpointState.ACTIVE: Tag("Active", Tone.ON),
    EndpointState.PAUSED: Tag("Paused", Tone.HELD),
    EndpointState.DISABLED: Tag("Disabled", Tone.FAILED),
}
_FAILING: Final = Tag("Failing", Tone.SOON)

_MAIL_STATES: Final = {
    MailState.WAITING: Tag("Waiting", Tone.HELD),
    MailState.SENT: Tag("Sent", Tone.ON),
    MailState.FAILED: Tag("Not sent", Tone.FAILED),
}


def reason(code: str) -> str:
    """Why an attempt failed, as the end of a sentence."""
    known = _REASONS.get(code)
    if known is not None:
        return known
    kind, _, number = code.rpartition("_")
    match kind:
        case "HTTP" if number.startswith("3"):
            return f"it answered {number}, and redirects are not followed"
        case "HTTP":
            return f"it answered {number}{_phrase(number)}"
        case "SMTP":
            return f"the mail server refused it with {number}"
        case "SENDER_REFUSED":
            return f"the mail server refused our sender's address with {number}"
        case _:
            return code


def _phrase(number: str) -> str:
    try:
        return f" {HTTPStatus(int(number)).phrase}"
    except ValueError:
        return ""


# --- webhooks ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, as the list and its page show it."""

    endpoint: Endpoint
    tag: Tag
    lag: Lag

    @property
    def behind(self) -> int:
        """How many places of the ledger or events it is behind, at most."""
        return self.lag.unread + self.lag.waiting

    @property
    def why(self) -> str:
        """Why it is disabled, as the end of a sentence."""
        return reason(self.endpoint.reason or "")


@dataclass(frozen=True, slots=True)
class Attempted:
    """An event on its way, as a webhook's page shows it."""

    delivered: Delivered
    why: str


@dataclass(frozen=True, slots=True)
class HookPage:
    """What the page of one webhook shows."""

    hook: Hook
    waiting: list[Attempted]
    dead: list[Attempted]
    delivered: list[Attempted]


def hooks(services: Services, reader: Reader) -> list[Hook]:
    """All webhooks."""
    lags = services.webhooks.lags(reader)
    return [Hook(one, _tag(one), lags[one.id]) for one in services.webhooks.all(reader)]


def hook_page(services: Services, reader: Reader, endpoint_id: str) -> HookPage:
    """One webhook, and the latest of what was sent to it.

    Raises:
        UnknownEndpointError: there is no such webhook.
    """
    endpoint = services.webhooks.get(reader, endpoint_id)

    def listed(state: DeliveryState) -> list[Attempted]:
        found = services.webhooks.deliveries(reader, endpoint_id, state, SHOWN)
        return [Attempted(one, reason(one.reason) if one.reason else "") for one in found]

    return HookPage(
        hook=Hook(endpoint, _tag(endpoint), services.webhooks.lags(reader)[endpoint_id]),
        waiting=listed(DeliveryState.WAITING),
        dead=listed(DeliveryState.DEAD),
        delivered=listed(DeliveryState.DELIVERED),
    )


def _tag(endpoint: Endpoint) -> Tag:
    if endpoint.state is EndpointState.ACTIVE and endpoint.failing_since is not None:
        return _FAILING
    return _ENDPOINT_STATES[endpoint.state]


# --- mails -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MailLine:
    """A mail, as the list shows it."""

    trace: MailTrace
    title: str
    tag: Tag
    why: str
    opens: bool
    """Whether it lies in a folder where it can be looked at."""


@dataclass(frozen=True, slots=True)
class Mails:
    """What the page shows."""

    lines: list[MailLine]
    older: datetime | None
    """The cursor of what is older; None at the end."""


def folder_of(services: Services) -> Path | None:
    """Where mails lie that reach nobody; None where there is a mail server."""
    settings = services.settings
    return settings.mail_folder if settings.mail_server is None else None


def mails(services: Services, reader: Reader, before: datetime | None, *, opens: bool) -> Mails:
    """The newest mails before an instant; `opens` where the caller may look into a folder."""
    found = mail.traces(reader, before=before, limit=PAGE + 1)
    folder = folder_of(services) if opens else None
    lines = [
        MailLine(
            trace=one,
            title=services.mails.kinds.title(one.kind),
            tag=_MAIL_STATES[one.state],
            why=reason(one.reason) if one.reason else "",
            opens=folder is not None
            and one.state is MailState.SENT
            and (folder / f"{one.id}.eml").is_file(),
        )
        for one in found[:PAGE]
    ]
    return Mails(lines, found[PAGE - 1].queued_at if len(found) > PAGE else None)


# --- what needs somebody -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that does not leave as it should."""

    title: str
    how: str
    endpoint: str
    """The page that tells more."""
    tone: Tone


def troubles(services: Services, reader: Reader) -> list[Trouble]:
    """What does not leave, and for how long."""
    now = services.clock()
    found = [one for hook in hooks(services, reader) for one in _troubles_of(hook, now)]
    since = mail.oldest_waiting(reader)
    if since is not None and now - since > FAILING_LONG:
        found.append(
            Trouble(
                "Mails do not leave",
                "Confirmations and codes wait for over an hour. The list says why.",
                "console.mails",
                Tone.FAILED,
            )
        )
    return found


def _troubles_of(hook: Hook, now: datetime) -> Collection[Trouble]:
    endpoint = hook.endpoint
    found = []
    if endpoint.state is EndpointState.DISABLED:
        found.append(
            Trouble(
                f"The webhook {endpoint.name} is disabled",
                f"Its receiver is not told of withdrawals: {hook.why}.",
                "console.webhooks",
                Tone.FAILED,
            )
        )
    elif (
        endpoint.state is EndpointState.ACTIVE
        and endpoint.failing_since is not None
        and now - endpoint.failing_since > FAILING_LONG
    ):
        found.append(
            Trouble(
                f"The webhook {endpoint.name} takes nothing",
                "Its receiver is not told of withdrawals. It is disabled after five days.",
                "console.webhooks",
                Tone.SOON,
            )
        )
    if hook.lag.dead:
        found.append(
            Trouble(
                f"The webhook {endpoint.name} refused {hook.lag.dead} "
                f"event{'' if hook.lag.dead == 1 else 's'} for good",
                "They were given up after three days. Have them tried again once it is mended.",
                "console.webhooks",
                Tone.SOON,
            )
        )
    return found

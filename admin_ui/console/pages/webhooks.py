"""Webhooks: which services are told of events, and how that goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from admin_ui.console import frame, outbound, times
from admin_ui.services import services
from governance.outbound.webhooks.endpoints import first_since
from governance.outbound.webhooks.errors import (
    EndpointStateError,
    InvalidEndpointError,
    UnknownEndpointError,
)
from governance.outbound.webhooks.payload import Field
from policies.permissions import Permission, requires
from policies.vocabulary import EventType

_TYPES: Final = (
    (EventType.CHOICE, "Choices", "yes, no, withdrawals and objections"),
    (EventType.CONFIRMATION, "Confirmations", "the second step of a double opt-in"),
    (EventType.SUPPRESSION, "Suppressions", "standing noes"),
    (EventType.SIGNAL, "Signals", "opt-outs that browsers send"),
)
_OVERLAPS: Final = (
    (0, "Not at all: the old secret has leaked"),
    (1, "For an hour"),
    (24, "For a day"),
    (24 * 7, "For a week"),
)
_STARTS: Final = (
    ("now", "From now on"),
    ("beginning", "From the beginning of the ledger"),
)
_LONGEST_REASON: Final = 200


@requires(Permission.OUTBOUND_READ)
def webhooks() -> ResponseReturnValue:
    """Every webhook, and how far each is."""
    with services().database.read() as reader:
        hooks = outbound.hooks(services(), reader)
    removed = "removed" in request.args
    return frame.page("webhooks.html", hooks=hooks, removed=removed, hosts=_hosts())


@requires(Permission.OUTBOUND_READ)
def webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """One webhook, and the latest of what was sent to it."""
    return _page(str(endpoint_id))


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def new_webhook() -> ResponseReturnValue:
    """Register a webhook, and show its secret once."""
    given: dict[str, Any] = {
        "name": request.form.get("name", ""),
        "url": request.form.get("url", "").strip(),
        "purposes": request.form.getlist("purposes"),
        "types": request.form.getlist("types"),
        "fields": request.form.getlist("fields"),
        "system": request.form.get("system", "").strip(),
        "start": request.form.get("start", "now"),
    }
    errors: dict[str, str] = {}
    if request.method == "POST":
        try:
            issued = services().webhooks.create(
                name=given["name"],
                url=given["url"],
                purposes=given["purposes"],
                types=given["types"],
                fields=given["fields"],
                system=given["system"] or None,
                start=0 if given["start"] == "beginning" else None,
                actor=frame.principal().actor,
            )
        except InvalidEndpointError as error:
            errors[error.field] = frame.sentence(error)
        else:
            return frame.page("webhook_secret.html", 201, issued=issued, name=given["name"])
    return frame.page(
        "webhook_new.html",
        422 if errors else 200,
        given=given,
        errors=errors,
        purposes=[(rule.key, rule.name) for rule in services().policies().purposes.values()],
        types=_TYPES,
        fields=[(one, one.description) for one in Field],
        starts=_STARTS,
        hosts=_hosts(),
    )


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def change_secret(endpoint_id: UUID) -> ResponseReturnValue:
    """Make a new secret, and show it once."""
    own = str(endpoint_id)
    shown = _hook(own)
    errors: dict[str, str] = {}
    if request.method == "POST":
        hours = request.form.get("overlap", "")
        if hours in {str(number) for number, _ in _OVERLAPS}:
            with _known():
                issued = services().webhooks.rotate(
                    own,
                    overlap=timedelta(hours=int(hours)),
                    actor=frame.principal().actor,
                    reason=_reason(),
                )
            return frame.page("webhook_secret.html", 201, issued=issued, name=shown.endpoint.name)
        errors["overlap"] = "Choose from the list."
    return frame.page(
        "webhook_change.html",
        422 if errors else 200,
        hook=shown,
        errors=errors,
        overlaps=_OVERLAPS,
    )


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def replay_webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """Send everything from a day, or a place of the ledger, on once more."""
    own = str(endpoint_id)
    shown = _hook(own)
    given = {name: request.form.get(name, "").strip() for name in ("since", "place")}
    errors: dict[str, str] = {}
    if request.method == "POST":
        start = _start(given, errors)
        if start is not None:
            try:
                with _known():
                    services().webhooks.replay(
                        own, start, actor=frame.principal().actor, reason=_reason()
                    )
            except InvalidEndpointError as error:
                errors["place" if given["place"] else "since"] = frame.sentence(error)
            else:
                return redirect(url_for("console.webhook", endpoint_id=own, replayed=start), 303)
    return frame.page(
        "webhook_replay.html",
        422 if errors else 200,
        hook=shown,
        given=given,
        errors=errors,
        now_field=times.field(services().clock(), frame.zone()),
    )


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def remove_webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """Ask once more, then end it for good."""
    own = str(endpoint_id)
    shown = _hook(own)
    if request.method == "POST":
        with _known():
            services().webhooks.remove(own, actor=frame.principal().actor, reason=_reason())
        return redirect(url_for("console.webhooks", removed=1), 303)
    return frame.page("webhook_remove.html", hook=shown)


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def pause_webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """Send it nothing more for now."""
    return _changed(str(endpoint_id), services().webhooks.pause)


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def resume_webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """Go on where it stopped."""
    return _changed(str(endpoint_id), services().webhooks.resume)


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def retry_delivery(endpoint_id: UUID) -> ResponseReturnValue:
    """Try an event again that was given up."""
    place = _place(request.form.get("index", ""))
    if place is None:
        raise NotFound

    def retry(own: str, **more: Any) -> None:
        services().webhooks.retry(own, place, **more)

    return _changed(str(endpoint_id), retry)


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def test_webhook(endpoint_id: UUID) -> ResponseReturnValue:
    """Send a test event now, and show what came of it."""
    own = str(endpoint_id)
    with _known():
        outcome = services().webhook_delivery.try_out(own)
    with services().database.begin() as session:
        services().trail.record(
            session,
            actor=frame.principal().actor,
            action="webhook.tested",
            object=f"webhook:{own}",
            details={"outcome": outcome.reason or "taken"},
            now=services().clock(),
        )
    return _page(own, tested=outcome, why=outbound.reason(outcome.reason or ""))


@contextmanager
def _known() -> Iterator[None]:
    """There is no page for a webhook that does not exist, or was removed meanwhile."""
    try:
        yield
    except UnknownEndpointError as error:
        raise NotFound from error


def _page(own: str, **more: Any) -> ResponseReturnValue:
    with services().database.read() as reader, _known():
        shown = outbound.hook_page(services(), reader, own)
    names = {rule.key: rule.name for rule in services().policies().purposes.values()}
    types = {kind.value: word for kind, word, _ in _TYPES}
    return frame.page(
        "webhook.html",
        page=shown,
        hook=shown.hook,
        purposes=sorted(names.get(key, key) for key in shown.hook.endpoint.purposes),
        types=sorted(types.get(kind, kind) for kind in shown.hook.endpoint.types),
        replayed=_place(request.args.get("replayed", "")),
        **more,
    )


def _hook(own: str) -> outbound.Hook:
    with services().database.read() as reader, _known():
        return outbound.hook_page(services(), reader, own).hook


def _changed(own: str, change: Callable[..., None]) -> ResponseReturnValue:
    # Where somebody else was faster, the page shows how it stands now.
    with _known(), suppress(EndpointStateError):
        change(own, actor=frame.principal().actor, reason=_reason())
    return redirect(url_for("console.webhook", endpoint_id=own), 303)


def _reason() -> str | None:
    return request.form.get("reason", "").strip()[:_LONGEST_REASON] or None


def _hosts() -> list[str]:
    return services().settings.outbound_hosts.replace(",", " ").split()


def _place(stated: str) -> int | None:
    """A place of the ledger, as written."""
    return int(stated) if stated.isascii() and stated.isdecimal() and len(stated) <= 18 else None


def _start(given: dict[str, str], errors: dict[str, str]) -> int | None:
    """The place that a form names, directly or by an instant; None where it is wrong."""
    if given["place"]:
        place = _place(given["place"])
        if place is None:
            errors["place"] = "Write a whole number, such as 4711."
        return place
    try:
        since = times.typed(given["since"], frame.zone())
    except ValueError:
        errors["since"] = "Write a date and a time, such as 2026-03-01T14:00, or a place."
        return None
    with services().database.read() as reader:
        return first_since(reader, since)

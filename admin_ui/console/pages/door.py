"""The way in and out: set-up, login, logout, and how pages look."""

from functools import cache
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from flask import make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Gone

from admin_ui.console import frame
from admin_ui.console.preferences import KINDS, TIME_ZONE
from admin_ui.services import services
from governance.access.accounts import Account
from governance.access.errors import (
    InvalidAccountError,
    LoginRefusedError,
    PasswordRefusedError,
    SetupLinkError,
)
from governance.access.preferences import ORGANISATION
from policies.permissions import Permission, public, requires

_OUR_PAGES: Final = "/admin"


@public("The link in the operator's terminal is the permission; it makes the first account, once")
def set_up(token: str) -> ResponseReturnValue:
    """Make the first account for whoever brings the link."""
    if not services().setup.is_usable(token):
        raise Gone
    given = {name: request.form.get(name, "") for name in ("login", "display_name")}
    given["time_zone"] = request.form.get("time_zone", frame.zone().key)
    errors: dict[str, str] = {}
    if request.method == "POST":
        password, repeated = (request.form.get(name, "") for name in ("password", "repeated"))
        if given["time_zone"] not in available_timezones():
            errors["time_zone"] = "Choose a time zone from the list."
        elif password != repeated:
            errors["repeated"] = "The two passwords differ. Type or paste the same one twice."
        else:
            try:
                account = services().setup.complete(
                    token,
                    login=given["login"],
                    display_name=given["display_name"],
                    password=password,
                )
            except SetupLinkError as error:
                raise Gone from error
            except PasswordRefusedError as error:
                errors["password"] = frame.sentence(error)
            except InvalidAccountError as error:
                field = "display_name" if "display" in str(error) else "login"
                errors[field] = frame.sentence(error)
            else:
                frame.store().keep(ORGANISATION, {TIME_ZONE: given["time_zone"]})
                return _enter(account, url_for("console.today"))
    return frame.page(
        "setup.html", 422 if errors else 200, given=given, errors=errors, zones=_zones()
    )


@public("The page on which staff show who they are")
def log_in() -> ResponseReturnValue:
    """Open a session for a login name and password."""
    wanted = request.values.get("next", "")
    if "HX-Request" in request.headers:
        # htmx followed the guard's redirection; the whole page has to go there instead.
        return make_response("", 204, {"HX-Redirect": request.full_path})
    refused = ""
    login = request.form.get("login", "")
    if request.method == "POST":
        try:
            account = services().accounts.authenticate(login, request.form.get("password", ""))
        except LoginRefusedError as error:
            refused = frame.sentence(error)
        else:
            return _enter(account, _ours(wanted))
    with services().database.read() as reader:
        nobody = not services().accounts.exist(reader)
    return frame.page(
        "login.html",
        401 if refused else 200,
        nobody=nobody,
        refused=refused,
        login=login,
        next=wanted,
        ended=bool(wanted) and wanted != url_for("console.today") and not refused,
    )


@requires(Permission.POLICY_READ)
def log_out() -> ResponseReturnValue:
    """End the session."""
    caller = frame.principal()
    if caller.session_id is not None:
        services().sessions.end(caller.session_id, actor=caller.actor)
    response = make_response(redirect(url_for("console.log_in"), 303))
    frame.session_cookie().clear(response)
    return response


@requires(Permission.POLICY_READ)
def prefer() -> ResponseReturnValue:
    """Remember how the caller likes pages, and show the page again."""
    stated = request.form
    chosen = {name: stated[name] for name, kind in KINDS.items() if stated.get(name) in [*kind]}
    frame.store().keep(frame.principal().id, chosen)
    response = make_response(redirect(_ours(request.form.get("back", "")), 303))
    if "theme" in chosen:
        frame.remember_theme(response, chosen["theme"])
    return response


@requires(Permission.POLICY_READ)
def shortcuts() -> ResponseReturnValue:
    """What keys do."""
    return frame.page("shortcuts.html")


@public("An address to remember; it shows nothing and leads to the console")
def root() -> ResponseReturnValue:
    """From the bare address to the console."""
    return redirect(url_for("console.today"))


def _enter(account: Account, where: str) -> ResponseReturnValue:
    cookie = frame.session_cookie()
    opened = services().sessions.open(account.id, replacing=cookie.read())
    response = make_response(redirect(where, 303))
    cookie.put(response, opened)
    return response


def _ours(address: str) -> str:
    """The address, if it is a page of the console; else its first page."""
    parts = urlsplit(address)
    inside = parts.path == _OUR_PAGES or parts.path.startswith(f"{_OUR_PAGES}/")
    if parts.scheme or parts.netloc or not inside or not address.isprintable():
        return url_for("console.today")
    return address.rstrip("?")


@cache
def _zones() -> list[tuple[str, list[str]]]:
    """Time zones by region, as cities."""
    regions: dict[str, list[str]] = {"UTC": ["UTC"]}
    for name in sorted(available_timezones()):
        region, _, city = name.partition("/")
        if city and region not in {"Etc", "SystemV", "US", "posix", "right"}:
            regions.setdefault(region, []).append(name)
    return list(regions.items())

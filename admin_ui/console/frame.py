"""What every page stands in: navigation, preferences, words and times for templates."""

import hashlib
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import Flask, Response, current_app, g, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from sqlalchemy.exc import DBAPIError

from admin_ui.console import navigation, times, wording
from admin_ui.console.preferences import TIME_ZONE, Preferences
from admin_ui.services import services
from governance.access.guard import SessionCookie
from governance.access.preferences import ORGANISATION, PreferenceStore
from governance.access.principal import Principal
from policies.permissions import Permission

THEME_COOKIE: Final = "tutela_theme"
"""Holds the theme for the login page. No secret, nothing about a person."""


_COOKIE: Final = "tutela.session_cookie"


def principal() -> Principal:
    """Who is calling. Only for views that require a permission, so that there is somebody."""
    caller: Principal = g.principal
    return caller


def may(permission: Permission) -> bool:
    """Whether the caller holds a permission; nobody does before login."""
    caller: Principal | None = g.get("principal")
    return caller is not None and caller.may(permission)


def page(template: str, status: int = 200, **context: Any) -> ResponseReturnValue:
    """Render a page of the console."""
    return make_response(render_template(f"console/{template}", **context), status)


def store() -> PreferenceStore:
    """Where preferences are kept."""
    return PreferenceStore(services().database)


def session_cookie() -> SessionCookie:
    """The cookie of a session, as the guard reads it."""
    cookie: SessionCookie = current_app.extensions[_COOKIE]
    return cookie


def remember_theme(response: Response, theme: str) -> None:
    """Let the login page look as the console did."""
    response.set_cookie(
        THEME_COOKIE,
        theme,
        max_age=timedelta(days=365),
        secure=session_cookie().secure,
        httponly=True,
        samesite="Lax",
    )


def zone() -> ZoneInfo:
    """The organisation's time zone: as chosen at set-up, else as the deployment is configured."""
    return ZoneInfo(_stored()[0].get(TIME_ZONE, services().settings.time_zone))


def preferences() -> Preferences:
    """The caller's choices; before login, the theme that the browser remembers."""
    return Preferences.of({"theme": request.cookies.get(THEME_COOKIE, "")} | _stored()[1])


def _stored() -> tuple[dict[str, str], dict[str, str]]:
    """What the organisation and the caller chose, read once a request."""
    if "preferences" not in g:
        caller: Principal | None = g.get("principal")
        try:
            with services().database.read() as connection:
                g.preferences = (
                    store().of(connection, ORGANISATION),
                    {} if caller is None else store().of(connection, caller.id),
                )
        except DBAPIError:
            # The page that says that the database is away has to be shown as well.
            g.preferences = {}, {}
    found: tuple[dict[str, str], dict[str, str]] = g.preferences
    return found


def sentence(error: Exception) -> str:
    """The message of one of our errors, as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def register(app: Flask, cookie: SessionCookie) -> None:
    """Give templates their filters and the frame its values."""
    app.extensions[_COOKIE] = cookie
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.add_template_filter(_when, "when")
    app.add_template_filter(_day, "day")
    app.add_template_filter(_clock, "clock")
    app.add_template_filter(_ago, "ago")
    app.add_template_filter(_thousands, "thousands")
    app.add_template_filter(wording.spaced, "spaced")
    app.add_template_filter(wording.channel_name, "channel")
    app.add_template_global(_asset, "asset")
    app.add_template_global(may, "may")
    app.add_template_global(Permission, "Permission")
    app.context_processor(_frame)


def _frame() -> dict[str, Any]:
    settings = services().settings
    caller: Principal | None = g.get("principal")
    return {
        "organisation": settings.organisation,
        "demo": settings.demo,
        "zone": zone().key,
        "sections": navigation.visible(may),
        "caller": caller,
        "look": preferences(),
        "now": services().clock,
    }


def _when(instant: datetime, seconds: bool = False) -> Markup:
    return times.shown(instant, zone(), seconds=seconds)


def _day(instant: datetime) -> Markup:
    return times.shown_day(instant, zone())


def _clock(instant: datetime) -> Markup:
    return times.shown_clock(instant, zone())


def _ago(instant: datetime) -> str:
    return times.ago(instant, services().clock())


def _thousands(number: int) -> str:
    # A narrow space, so that neither a comma nor a point can be read as the other.
    return f"{number:,}".replace(",", "\u202f")


def _asset(name: str) -> str:
    """The address of a static file, which changes with its content."""
    return url_for("static", filename=name, v=_digest(str(current_app.static_folder), name))


@cache
def _digest(folder: str, name: str) -> str:
    return hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()[:10]

"""What every page of the privacy centre stands in: language, layout, headers.

Guarantees: no script runs on these pages, whatever gets into them (`default-src 'none'`); no
cookie is set but that of a code (`door`); nothing is loaded from elsewhere, and no other site may
show them in a frame. A page says nothing about where it was opened (`no-referrer`), for an
address may hold a link's token, and caches keep nothing of it.

For the views of this surface: `page` renders a template of `templates/privacy_centre`, `address`
links to another page in the same language; `N_` and `said` (in `language`) mark messages.
"""

import hashlib
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import Response, current_app, g, make_response, request, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy.exc import DBAPIError

from admin_ui.console.preferences import TIME_ZONE
from admin_ui.privacy_centre.language import (
    Day,
    Language,
    Said,
    language_of,
    languages,
    negotiated,
)
from admin_ui.services import services
from admin_ui.settings import Mode
from governance.access.preferences import ORGANISATION, PreferenceStore

_TEMPLATES: Final = Path(__file__).parents[1] / "templates" / "privacy_centre"
_INDENTED: Final = re.compile(r"\n\s+")
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Vary": "Accept-Language, Cookie",
}


def page(template: str, status: int = 200, **context: Any) -> Response:
    """Render a page of the privacy centre in the visitor's language."""
    language = visitor_language()
    body = _environment(language.tag).get_template(template).render(_frame() | context)
    # A template's indentation is a seventh of what a slow line has to carry.
    response = make_response(_INDENTED.sub("\n", body), status)
    response.headers["Content-Language"] = language.tag
    return response


def address(endpoint: str, **values: Any) -> str:
    """The address of a page of this surface, which keeps the language that the visitor chose."""
    language, chosen = _negotiated()
    if chosen:
        values.setdefault("lang", language.tag)
    return url_for(f"privacy_centre.{endpoint}", **values)


def visitor_language() -> Language:
    """The language that the visitor reads: as chosen in the address, else as the browser says."""
    return _negotiated()[0]


def zone() -> ZoneInfo:
    """The organisation's time zone."""
    if "privacy_centre_zone" not in g:
        try:
            with services().database.read() as reader:
                stored = PreferenceStore(services().database).of(reader, ORGANISATION)
        except DBAPIError:
            # The page that says that the database is away has to be shown as well.
            stored = {}
        g.privacy_centre_zone = ZoneInfo(stored.get(TIME_ZONE, services().settings.time_zone))
    found: ZoneInfo = g.privacy_centre_zone
    return found


def secure(response: Response) -> Response:
    """The headers of every answer of this surface."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    return response


def _negotiated() -> tuple[Language, bool]:
    return negotiated(request.args.get("lang"), request.accept_languages, test=_testing())


def _testing() -> bool:
    return services().settings.mode is Mode.DEVELOPMENT


def _frame() -> dict[str, Any]:
    settings = services().settings
    language = visitor_language()

    def say(one: Said | str) -> Markup:
        if isinstance(one, str):
            one = Said(one, {})
        values = {name: put(value) for name, value in one.values.items()}
        # The words are ours or a translator's; whatever is put into them is escaped.
        return Markup(language.translated(one.message)) % values  # noqa: S704

    def put(value: object) -> object:
        match value:
            case Said():
                return say(value)
            case Day(instant):
                return language.day(instant, zone())
            case datetime():
                return language.clock(value, zone())
        return value

    return {
        "organisation": settings.organisation,
        "demo": settings.demo,
        "language": language,
        "languages": [(one, _in_language(one)) for one in languages(test=_testing())],
        "address": address,
        "asset": _asset,
        "say": say,
        "zone": lambda: zone().key,
        "day": lambda instant: language.day(instant, zone()),
        "clock": lambda instant: language.clock(instant, zone()),
        "here": request.full_path.rstrip("?"),
        "endpoint": request.endpoint or "",
    }


def _in_language(language: Language) -> str:
    """The same page in another language. What a form sent is left behind."""
    arguments = request.args.to_dict() | (request.view_args or {}) | {"lang": language.tag}
    if request.endpoint is None or not request.endpoint.startswith("privacy_centre."):
        return url_for("privacy_centre.home", lang=language.tag)
    return url_for(request.endpoint, **arguments)


@cache
def _environment(tag: str) -> Environment:
    """The templates in one language, of ours alone: the console's frame is not part of them."""
    language = language_of(tag)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        language.translated, lambda one, many, count: one if count == 1 else many, newstyle=True
    )
    return environment


def _asset(name: str) -> str:
    """The address of a static file, which changes with its content."""
    return url_for("static", filename=name, v=_digest(str(current_app.static_folder), name))


@cache
def _digest(folder: str, name: str) -> str:
    return hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()[:10]

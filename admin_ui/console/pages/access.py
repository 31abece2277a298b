"""API keys: list, make, revoke."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Self

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from admin_ui.console import frame, times
from admin_ui.console.today import ENDS_SOON
from admin_ui.console.wording import Tag, Tone
from admin_ui.services import services
from governance.access.api_keys import ApiKey
from governance.access.errors import InvalidApiKeyError, UnknownApiKeyError
from policies.permissions import API_SCOPES, Permission, requires

_SCOPES: Final = [scope for scope in Permission if scope in API_SCOPES]


@dataclass(frozen=True, slots=True)
class Line:
    """A key, as the list shows it."""

    id: str
    name: str
    tag: Tag
    scopes: list[str]
    created: datetime
    used: datetime | None
    expires: datetime | None
    in_force: bool

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> Self:
        """The line of a key."""
        return cls(
            id=key.id,
            name=key.name,
            tag=_tag(key, now),
            scopes=sorted(key.scopes),
            created=key.created_at,
            used=key.last_used_at,
            expires=key.expires_at,
            in_force=key.in_force(now),
        )


@requires(Permission.API_KEYS_MANAGE)
def api_keys() -> ResponseReturnValue:
    """Every key that ever was; those in force first."""
    lines = sorted(_lines(), key=lambda line: not line.in_force)
    revoked = any(line.id == request.args.get("revoked") and not line.in_force for line in lines)
    return frame.page("api_keys.html", keys=lines, revoked=revoked)


@requires(Permission.API_KEYS_MANAGE)
def new_api_key() -> ResponseReturnValue:
    """Make a key, and show it once."""
    given = {
        "name": request.form.get("name", ""),
        "scopes": request.form.getlist("scopes"),
        "expires": request.form.get("expires", ""),
    }
    errors: dict[str, str] = {}
    if request.method == "POST":
        try:
            issued = services().api_keys.create(
                name=str(given["name"]),
                scopes={Permission(scope) for scope in given["scopes"] if scope in _SCOPES},
                actor=frame.principal().actor,
                expires_at=_end_of(str(given["expires"])),
            )
        except InvalidApiKeyError as error:
            errors[_field(str(error))] = frame.sentence(error)
        except ValueError:
            errors["expires"] = "Write a date, such as 2026-12-31, or leave it empty."
        else:
            return frame.page("api_key_made.html", 201, issued=issued, name=given["name"])
    tomorrow = (services().clock() + timedelta(days=1)).astimezone(frame.zone()).date()
    return frame.page(
        "api_key_new.html",
        422 if errors else 200,
        given=given,
        errors=errors,
        scopes=_SCOPES,
        tomorrow=tomorrow.isoformat(),
    )


@requires(Permission.API_KEYS_MANAGE)
def revoke_api_key(key_id: str) -> ResponseReturnValue:
    """Ask once more, then end the key for ever."""
    key = next((line for line in _lines() if line.id == key_id and line.in_force), None)
    if key is None:
        raise NotFound
    if request.method == "POST":
        try:
            services().api_keys.revoke(
                key_id,
                actor=frame.principal().actor,
                reason=request.form.get("reason", "").strip()[:200] or None,
            )
        except UnknownApiKeyError as error:
            raise NotFound from error
        return redirect(url_for("console.api_keys", revoked=key_id), 303)
    return frame.page("api_key_revoke.html", key=key)


def _lines() -> list[Line]:
    now = services().clock()
    with services().database.read() as reader:
        return [Line.of(key, now) for key in services().api_keys.all(reader)]


def _tag(key: ApiKey, now: datetime) -> Tag:
    if key.revoked_at is not None:
        return Tag("Revoked", Tone.NO)
    if not key.in_force(now):
        return Tag("Expired", Tone.NO)
    if key.expires_at is not None and key.expires_at - now < ENDS_SOON:
        return Tag("Ends soon", Tone.SOON)
    return Tag("In force", Tone.ON)


def _end_of(day: str) -> datetime | None:
    """The last moment of a day in the organisation's zone.

    Raises:
        ValueError: the text is no day.
    """
    return times.typed(date.fromisoformat(day).isoformat(), frame.zone()) if day else None


def _field(message: str) -> str:
    """The field that a message of `ApiKeys.create` is about."""
    return next(
        (field for word, field in (("scope", "scopes"), ("expiry", "expires")) if word in message),
        "name",
    )

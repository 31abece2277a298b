"""Purposes and notices: what people are told, written by one and published by another."""

from typing import Any, Final

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from admin_ui.console import actors, frame, notices, times
from admin_ui.services import services
from consent.notice_drafts import (
    Draft,
    DraftWords,
    NoticeChangedError,
    SecondPersonError,
    Settings,
    objections,
    read_draft,
    read_drafts,
    shown_page,
)
from consent.notice_text import InvalidNoticeError, direction, fingerprint
from consent.notices import Version
from consent.reconsent import people_on_versions, people_to_ask_again
from consent.subjects import Reader
from policies.explain import CHANNELS, LEGAL_BASES
from policies.permissions import Permission, requires

_DRAFT: Final = "draft"


@requires(Permission.POLICY_READ)
def purposes() -> ResponseReturnValue:
    """The purposes of the active policy, and all notices."""
    own, now = services(), services().clock()
    with own.database.snapshot() as reader:
        published, drafts = own.notices.published(reader), read_drafts(reader)
    ids = sorted({one.notice for one in published} | {one.notice for one in drafts})
    rows = []
    for notice in ids:
        versions = [one for one in published if one.notice == notice]
        rows.append(
            {
                "id": notice,
                "controller": _controller((versions or _of(drafts, notice))[0].controller),
                "current": next((one for one in versions if one.effective_from <= now), None),
                "announced": [one for one in versions if one.effective_from > now],
                "draft": next(iter(_of(drafts, notice)), None),
            }
        )
    return frame.page(
        "purposes.html",
        purposes=list(own.policies().purposes.values()),
        policy=own.policies(),
        channels=CHANNELS,
        bases=LEGAL_BASES,
        controller=_controller,
        rows=rows,
    )


@requires(Permission.POLICY_READ)
def notice(notice_id: str) -> ResponseReturnValue:
    """One notice: versions, people on each, its draft, and two versions side by side."""
    own, now = services(), services().clock()
    with own.database.snapshot() as reader:
        versions, draft = _found(reader, notice_id)
        people = people_on_versions(reader, own.policies(), notice_id, now)
        bars = notices.bars(people, own.notices.history(reader), notice_id, now)
        diff = _diff(reader, notice_id, versions, draft)
        by = {*(one.published_by for one in versions), *(draft.authors if draft else ())}
        named = actors.names(own, reader, by)
    owner = versions[0].controller if versions else "" if draft is None else draft.controller
    return frame.page(
        "notice.html",
        notice=notice_id,
        controller=_controller(owner),
        versions=[(one, notices.state_of(one, versions, now)) for one in versions],
        bars=bars,
        draft=draft,
        names=named,
        diff=diff,
        mine=draft is not None and str(frame.principal().actor) in draft.authors,
        done=request.args.get("done"),
    )


@requires(Permission.POLICY_READ)
def notice_version(notice_id: str, version: str) -> ResponseReturnValue:
    """A published version as people see it, with what the operator log says of it."""
    own = services()
    with own.database.snapshot() as reader:
        versions, _ = _found(reader, notice_id)
        shown = next((one for one in versions if one.version == version), None)
        if shown is None:
            raise NotFound
        language = request.args.get("language") or shown.languages[0].language
        words = own.notices.version(reader, notice_id, version, language)
        if words is None:
            raise NotFound
        named = actors.names(own, reader, {shown.published_by, *shown.authors})
    at = versions.index(shown)
    holds = (fingerprint(words.text), fingerprint(words.rendering)) == (
        words.hash,
        words.rendering_hash,
    )
    return frame.page(
        "notice_version.html",
        shown=shown,
        words=words,
        page=Markup(words.rendering),  # noqa: S704 - made by `notice_text.render`, which escapes
        holds=holds,
        names=named,
        state=notices.state_of(shown, versions, own.clock()),
        newer=versions[at - 1] if at else None,
        older=versions[at + 1] if at + 1 < len(versions) else None,
    )


@requires(Permission.POLICY_READ)
def preview(notice_id: str) -> ResponseReturnValue:
    """The page that a draft would be published as."""
    with services().database.read() as reader:
        draft = read_draft(reader, notice_id)
    if draft is None or not draft.languages:
        raise NotFound
    language = request.args.get("language") or draft.languages[0]
    if language not in draft.languages:
        raise NotFound
    made = shown_page(draft, language, services().policies())
    return frame.page(
        "notice_preview.html",
        draft=draft,
        language=language,
        page=None if made is None else Markup(made),  # noqa: S704 - escaped where it was made
    )


@requires(Permission.NOTICES_WRITE)
def new_notice() -> ResponseReturnValue:
    """Begin a notice, or the next version of one."""
    given = {name: request.form.get(name, "").strip() for name in ("notice", "controller")}
    given["languages"] = request.form.get("languages", "en")
    errors: dict[str, str] = {}
    if request.method == "POST":
        try:
            draft = services().notice_desk.begin(
                given["notice"],
                controller=given["controller"],
                languages=given["languages"].split(),
                actor=frame.principal().actor,
            )
        except InvalidNoticeError as error:
            errors = error.fields
        except NoticeChangedError as error:
            errors = {"notice": frame.sentence(error)}
        else:
            return redirect(url_for("console.notice_draft", notice_id=draft.notice), 303)
    return frame.page(
        "notice_new.html",
        422 if errors else 200,
        given=given,
        errors=errors,
        controllers=list(services().policies().controllers.values()),
    )


@requires(Permission.NOTICES_WRITE)
def notice_draft(notice_id: str) -> ResponseReturnValue:
    """What a draft says beside its words."""
    draft = _draft(notice_id)
    given = {
        "version": draft.version,
        "effective_from": (
            times.field(draft.effective_from, frame.zone()) if draft.effective_from else ""
        ),
        "material": "yes" if draft.material else "",
        "languages": " ".join(draft.languages),
        "controller": draft.controller,
        "seen": str(draft.revision),
    }
    errors: dict[str, str] = {}
    if request.method == "POST":
        given = {name: request.form.get(name, "").strip() for name in given}
        try:
            settings = Settings(
                controller=given["controller"],
                version=given["version"],
                effective_from=(
                    times.typed(given["effective_from"], frame.zone())
                    if given["effective_from"]
                    else None
                ),
                material=given["material"] == "yes",
                languages=tuple(given["languages"].split()),
            )
            services().notice_desk.change(
                notice_id, _number(given["seen"]), settings, actor=frame.principal().actor
            )
        except ValueError:
            errors = {"effective_from": "Write a date and a time, such as 2026-03-01T00:00."}
        except InvalidNoticeError as error:
            errors = error.fields
        except NoticeChangedError as error:
            errors = {"": frame.sentence(error)}
        else:
            return redirect(url_for("console.notice", notice_id=notice_id, done="saved"), 303)
    return frame.page(
        "notice_draft.html",
        422 if errors else 200,
        notice=notice_id,
        given=given,
        errors=errors,
        controllers=list(services().policies().controllers.values()),
    )


@requires(Permission.NOTICES_WRITE)
def notice_words(notice_id: str, language: str) -> ResponseReturnValue:
    """The words of a draft in one language, beside those that they are translated from."""
    draft = _draft(notice_id)
    if language not in draft.languages:
        raise NotFound
    own = draft.said_in(language)
    given = {
        "title": own.title,
        "text": own.text,
        "recipients": "\n".join(own.recipients),
        "seen": str(draft.revision),
    }
    errors: dict[str, str] = {}
    if request.method == "POST":
        given = {name: request.form.get(name, "") for name in given}
        try:
            words = DraftWords.checked(
                title=given["title"], text=given["text"], recipients=given["recipients"]
            )
            services().notice_desk.write(
                notice_id, _number(given["seen"]), language, words, actor=frame.principal().actor
            )
        except InvalidNoticeError as error:
            errors = error.fields
        except NoticeChangedError as error:
            errors = {"": frame.sentence(error)}
        else:
            return redirect(url_for("console.notice", notice_id=notice_id, done="saved"), 303)
    source = draft.languages[0]
    return frame.page(
        "notice_words.html",
        422 if errors else 200,
        notice=notice_id,
        language=language,
        direction=direction(language),
        given=given,
        errors=errors,
        source=source if source != language else None,
        original=draft.said_in(source),
    )


@requires(Permission.NOTICES_PUBLISH)
def publish_notice(notice_id: str) -> ResponseReturnValue:
    """What publishing would do, and doing it: by somebody who wrote nothing of it."""
    own, now = services(), services().clock()
    given = {name: request.form.get(name, "").strip() for name in ("reason", "seen")}
    errors: dict[str, str] = {}
    status = 200
    if request.method == "POST":
        try:
            own.notice_desk.publish(
                notice_id,
                _number(given["seen"]),
                actor=frame.principal().actor,
                reason=given["reason"],
            )
        except InvalidNoticeError as error:
            status, errors = 422, error.fields
        except NoticeChangedError as error:
            status, errors = 409, {"": f"{frame.sentence(error)} Read it again before you publish."}
        except SecondPersonError as error:
            status, errors = 403, {"": frame.sentence(error)}
        else:
            return redirect(url_for("console.notice", notice_id=notice_id, done="published"), 303)
    with own.database.snapshot() as reader:
        draft = read_draft(reader, notice_id)
        if draft is None:
            return redirect(url_for("console.notice", notice_id=notice_id), 303)
        at = max(draft.effective_from or now, now)
        history = own.notices.history(reader)
        asked = people_to_ask_again(reader, own.policies(), history, notice_id, at)
        versions = own.notices.published(reader, notice_id)
        named = actors.names(own, reader, draft.authors)
    dropped = {one.language for one in versions[0].languages} if versions else set()
    return frame.page(
        "notice_publish.html",
        status,
        draft=draft,
        controller=_controller(draft.controller),
        asked=asked,
        at=at,
        missing=objections(draft, own.policies(), versions, now),
        errors=errors,
        given=given,
        names=named,
        dropped=sorted(dropped - set(draft.languages)),
        mine=str(frame.principal().actor) in draft.authors,
    )


@requires(Permission.NOTICES_WRITE)
def discard_notice(notice_id: str) -> ResponseReturnValue:
    """Remove a draft."""
    try:
        services().notice_desk.discard(
            notice_id, _number(request.form.get("seen", "")), actor=frame.principal().actor
        )
    except NoticeChangedError:
        return redirect(url_for("console.notice", notice_id=notice_id, done="changed"), 303)
    return redirect(url_for("console.purposes"), 303)


# --- inside ------------------------------------------------------------------------------------


def _of(drafts: list[Draft], notice: str) -> list[Draft]:
    return [one for one in drafts if one.notice == notice]


def _controller(key: str) -> str:
    known = services().policies().controllers.get(key)
    return key if known is None else known.name


def _draft(notice_id: str) -> Draft:
    with services().database.read() as reader:
        draft = read_draft(reader, notice_id)
    if draft is None:
        raise NotFound
    return draft


def _found(reader: Reader, notice_id: str) -> tuple[list[Version], Draft | None]:
    versions = services().notices.published(reader, notice_id)
    draft = read_draft(reader, notice_id)
    if not versions and draft is None:
        raise NotFound
    return versions, draft


def _number(stated: str) -> int:
    return int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 10 else -1


def _diff(
    reader: Reader, notice_id: str, versions: list[Version], draft: Draft | None
) -> dict[str, Any] | None:
    """Two versions side by side, as the address says: the draft and the newest, if it does not."""
    names = [*([_DRAFT] if draft else []), *(one.version for one in versions)]
    if len(names) < 2:
        return None
    after = request.args.get("to", names[0])
    before = request.args.get("from", names[1])
    if after not in names or before not in names:
        after, before = names[0], names[1]
    languages = sorted(
        {one.language for version in versions for one in version.languages}
        | set(draft.languages if draft else ())
    )
    language = request.args.get("language", "")
    if language not in languages:
        language = draft.languages[0] if draft and draft.languages else languages[0]
    sides = [_text(reader, notice_id, name, language, draft) for name in (before, after)]
    return {
        "names": names,
        "languages": languages,
        "before": before,
        "after": after,
        "language": language,
        "direction": direction(language),
        "pairs": notices.compared(*sides),
    }


def _text(reader: Reader, notice_id: str, version: str, language: str, draft: Draft | None) -> str:
    """Title, text and recipients as one text; nothing where there is none in this language."""
    if version == _DRAFT and draft is not None:
        own = draft.said_in(language)
        return "\n".join([own.title, own.text, *own.recipients])
    words = services().notices.version(reader, notice_id, version, language)
    return "" if words is None else "\n".join([words.title, words.text, *words.recipients])

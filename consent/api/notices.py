"""GET /v1/consent/notices: what people are told, for forms that show it and name it in a choice."""

from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from consent.api.context import consent_api
from consent.api.http import JSON_TYPE, endpoint, read_query, reply, schema
from consent.api.problems import Problem
from consent.api.schemas import LANGUAGE, SHA256, Pattern, Strict
from consent.errors import UnknownNoticeError
from consent.ledger.leaf import timestamp
from consent.notice_text import direction
from consent.notices import Version, Words
from policies.permissions import Permission, requires

blueprint = Blueprint(
    "notices", __name__, url_prefix="/v1/consent", description="What people are told."
)


class _Hashes(Strict):
    language = fields.String(required=True)
    title = fields.String(required=True)
    hash = fields.String(
        required=True,
        metadata={"pattern": SHA256, "description": "SHA-256 of the text's UTF-8 bytes."},
    )
    rendering_hash = fields.String(
        required=True, metadata={"pattern": SHA256, "description": "The same of the rendering."}
    )


class NoticeVersionSchema(Strict):
    """A published version of a notice."""

    version = fields.String(required=True)
    effective_from = fields.AwareDateTime(required=True)
    published_at = fields.AwareDateTime(required=True)
    material = fields.Boolean(
        required=True,
        metadata={"description": "Whether grants under older versions end when it takes effect."},
    )
    languages = fields.List(fields.Nested(_Hashes), required=True)


class PublishedNoticeSchema(Strict):
    """A notice with all its published versions, newest first by when they take effect."""

    id = fields.String(required=True)
    controller = fields.String(required=True, metadata={"description": "Its key in the policy."})
    current = fields.String(
        required=True, allow_none=True, metadata={"description": "The version in effect now."}
    )
    versions = fields.List(fields.Nested(NoticeVersionSchema), required=True)


class NoticesAnswer(Strict):
    """All published notices."""

    notices = fields.List(fields.Nested(PublishedNoticeSchema), required=True)


class WordsAnswer(Strict):
    """What people are shown: a published version in one language."""

    id = fields.String(required=True)
    version = fields.String(required=True)
    language = fields.String(required=True)
    direction = fields.String(required=True, metadata={"enum": ["ltr", "rtl"]})
    controller = fields.String(required=True)
    effective_from = fields.AwareDateTime(required=True)
    published_at = fields.AwareDateTime(required=True)
    material = fields.Boolean(required=True)
    title = fields.String(required=True)
    text = fields.String(required=True, metadata={"description": "Exactly what `hash` is of."})
    recipients = fields.List(fields.String(), required=True)
    hash = fields.String(required=True, metadata={"pattern": SHA256})
    rendering = fields.String(
        required=True, metadata={"description": "HTML, exactly what `rendering_hash` is of."}
    )
    rendering_hash = fields.String(required=True, metadata={"pattern": SHA256})


class NoticeQuery(Strict):
    """In which language."""

    language = fields.String(
        required=True, validate=Pattern(LANGUAGE, error="Not a BCP 47 language tag.")
    )


_QUERY: Final = NoticeQuery()
_WORDS: Final = {HTTPStatus.OK: ("The words.", {JSON_TYPE: schema(WordsAnswer)})}
_REFUSALS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_LANGUAGE: Final = {
    "in": "query",
    "name": "language",
    "required": True,
    "schema": {"type": "string", "pattern": LANGUAGE},
    "description": "A BCP 47 tag.",
}


@endpoint(
    blueprint,
    "/notices",
    "GET",
    summary="List notices",
    gives={HTTPStatus.OK: ("The notices.", {JSON_TYPE: schema(NoticesAnswer)})},
    problems=_REFUSALS,
)
@requires(Permission.POLICY_READ)
def notices() -> Response:
    """Every published notice: its versions, from when they count, and hashes in each language.

    A version that is announced for later is among them.
    """
    api = consent_api()
    with api.read() as reader:
        published = api.notices.published(reader)
    now = api.clock()
    return reply(
        {
            "notices": [
                _notice_json(notice, list(versions), now)
                for notice, versions in groupby(published, lambda version: version.notice)
            ]
        }
    )


@endpoint(
    blueprint,
    "/notices/<notice_id>",
    "GET",
    summary="The words in effect",
    gives=_WORDS,
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    parameters=[_LANGUAGE],
)
@requires(Permission.POLICY_READ)
def current_notice(notice_id: str) -> Response:
    """The version of a notice that is in effect now, in a language or in the nearest wider one.

    Of `de-AT` that is `de`. Show these words, and name them in the choice.
    """
    language = read_query(_QUERY)["language"]
    api = consent_api()
    with api.read() as reader:
        words = api.notices.current(reader, notice_id, language, api.clock())
    return _answer(words)


@endpoint(
    blueprint,
    "/notices/<notice_id>/versions/<version>",
    "GET",
    summary="The words of a version",
    gives=_WORDS,
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    parameters=[_LANGUAGE],
)
@requires(Permission.POLICY_READ)
def notice_version(notice_id: str, version: str) -> Response:
    """One published version in exactly this language: what a choice that names it was shown."""
    language = read_query(_QUERY)["language"]
    api = consent_api()
    with api.read() as reader:
        words = api.notices.version(reader, notice_id, version, language)
    return _answer(words)


def _notice_json(notice: str, versions: list[Version], now: datetime) -> dict[str, Any]:
    in_effect = next((one.version for one in versions if one.effective_from <= now), None)
    return {
        "id": notice,
        "controller": versions[0].controller,
        "current": in_effect,
        "versions": [_version_json(version) for version in versions],
    }


def _version_json(version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "effective_from": timestamp(version.effective_from),
        "published_at": timestamp(version.published_at),
        "material": version.material,
        "languages": [
            {
                "language": one.language,
                "title": one.title,
                "hash": one.hash,
                "rendering_hash": one.rendering_hash,
            }
            for one in version.languages
        ],
    }


def _answer(words: Words | None) -> Response:
    if words is None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            UnknownNoticeError.code,
            "No notice was published under this id, version and language.",
        )
    return reply(
        {
            "id": words.notice,
            "version": words.version,
            "language": words.language,
            "direction": direction(words.language),
            "controller": words.controller,
            "effective_from": timestamp(words.effective_from),
            "published_at": timestamp(words.published_at),
            "material": words.material,
            "title": words.title,
            "text": words.text,
            "recipients": list(words.recipients),
            "hash": words.hash,
            "rendering": words.rendering,
            "rendering_hash": words.rendering_hash,
        }
    )

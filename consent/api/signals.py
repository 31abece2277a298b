"""What stops messages beside people's choices: browser signals and do-not-call lists."""

from collections.abc import Iterator
from http import HTTPStatus
from io import BufferedReader, RawIOBase
from typing import Any, Final, cast

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge

from consent.api.context import consent_api
from consent.api.http import JSON_TYPE, endpoint, read_json, read_query, reply, schema
from consent.api.problems import Problem
from consent.api.schemas import (
    DoNotCallAnswer,
    DoNotCallListsAnswer,
    DoNotCallQuery,
    SignalAnswer,
    SignalRequest,
)
from consent.do_not_call import InvalidListError, Replaced
from consent.signals import BROWSER, asserts_gpc
from consent.subjects import external_id
from policies.permissions import Permission, requires
from policies.vocabulary import Signal

TEXT_TYPE: Final = "text/plain"
MAX_LIST: Final = 512 * 1024 * 1024
"""Bytes of a do-not-call list: some thirty million numbers. None of it is kept in memory."""
_LONGEST_LINE: Final = 1024

blueprint = Blueprint(
    "signals", __name__, url_prefix="/v1/consent", description="What else stops messages."
)

_SIGNAL = SignalRequest()
_WHOSE: Final = ("subject", "browser")
_LIST = DoNotCallQuery()
_REFUSALS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


@endpoint(
    blueprint,
    "/signals",
    "POST",
    summary="Report a browser signal",
    takes={
        JSON_TYPE: schema(
            {"allOf": [SignalRequest, {"anyOf": [{"required": [who]} for who in _WHOSE]}]}
        )
    },
    gives={HTTPStatus.OK: ("What is in force now.", {JSON_TYPE: schema(SignalAnswer)})},
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND),
)
@requires(Permission.SIGNALS_REPORT)
def report_signal() -> Response:
    """Hand on the header `Sec-GPC` of a request, for a person, a pseudonymous browser, or both.

    Only a value of `1` is a signal; anything else changes nothing, and absence is no opt-in. What
    is in force already is not recorded again, so that a site may report with every request.
    """
    api = consent_api()
    asked = read_json(_SIGNAL)
    subjects = [asked["subject"]] if "subject" in asked else []
    if "browser" in asked:
        subjects.append(external_id(BROWSER, asked["browser"]))
    if not subjects:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "FIELD_INVALID",
            "Say whose signal it is.",
            fields={"subject": ["Name a subject, a browser, or both."]},
        )
    name = Signal(asked["signal"])
    honoured = asserts_gpc(asked["value"])
    told = api.signals.report(subjects, name, actor=api.actor()) if honoured else []
    may_see = api.may(Permission.CONSENT_CHECK)
    purposes = sorted(rule.key for rule in api.policies().purposes.values() if name in rule.signals)
    return reply(
        {
            "signal": name,
            "honoured": honoured,
            "purposes": purposes,
            "subjects": [
                {
                    "subject": one.subject,
                    "in_force": one.in_force,
                    "recorded": one.recorded,
                    "record_id": one.record_id,
                    "conflicts": list(one.conflicts) if may_see else [],
                }
                for one in told
            ],
        }
    )


@endpoint(
    blueprint,
    "/do-not-call",
    "GET",
    summary="See do-not-call lists",
    gives={HTTPStatus.OK: ("The lists of the policy.", {JSON_TYPE: schema(DoNotCallListsAnswer)})},
    problems=(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
)
@requires(Permission.LISTS_REPLACE)
def see_lists() -> Response:
    """Which lists the policy declares, which of them purposes need, and how old our copies are."""
    api = consent_api()
    policies = api.policies()
    with api.read() as reader:
        copies = {copy.registry: copy for copy in api.lists.copies(reader)}
    needed = {registry.key for registry in policies.registries_in_use}
    return reply(
        {
            "lists": [
                {
                    "registry": key,
                    "name": registry.name,
                    "country": registry.country,
                    "needed": key in needed,
                    "maximum_age_days": registry.maximum_age.days,
                    "listed_on": copies[key].listed_on.isoformat() if key in copies else None,
                    "numbers": copies[key].numbers if key in copies else None,
                }
                for key, registry in policies.registries.items()
            ]
        }
    )


@endpoint(
    blueprint,
    "/do-not-call/<registry>",
    "PUT",
    summary="Replace a do-not-call list",
    takes={
        TEXT_TYPE: schema(
            {
                "type": "string",
                "description": "A number a line, in the country's form or in E.164; a heading may "
                "come first.",
            }
        )
    },
    gives={HTTPStatus.OK: ("The copy is in use.", {JSON_TYPE: schema(DoNotCallAnswer)})},
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.LENGTH_REQUIRED),
    parameters=[
        {
            "in": "query",
            "name": "listed_on",
            "required": True,
            "schema": {"type": "string", "format": "date"},
            "description": "The day on which the list was drawn.",
        },
        {
            "in": "query",
            "name": "smaller",
            "schema": {"type": "string", "enum": ["true", "false"]},
            "description": "Take a list with less than half of the numbers before, too.",
        },
    ],
)
@requires(Permission.LISTS_REPLACE)
def replace_list(registry: str) -> Response:
    """The whole list takes the place of our copy, for all checks at once, or nothing changes.

    Numbers are kept as keyed hashes alone. The length of the body must be stated, so that a list
    that broke off is noticed.
    """
    api = consent_api()
    declared = api.policies().registries.get(registry)
    if declared is None:
        raise Problem(
            HTTPStatus.NOT_FOUND, "REGISTRY_UNKNOWN", "The active policy declares no such list."
        )
    asked = read_query(_LIST)
    if request.mimetype != TEXT_TYPE:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "MEDIA_TYPE_UNSUPPORTED",
            f"Send the list as {TEXT_TYPE}.",
        )
    if request.content_length is None:
        raise LengthRequired
    if request.content_length > MAX_LIST:
        raise RequestEntityTooLarge
    replaced = api.lists.replace(
        declared,
        asked["listed_on"],
        _lines(),
        smaller=asked.get("smaller", False),
        recorded=api.list_replaced,
    )
    return reply(replaced_json(replaced))


def replaced_json(replaced: Replaced) -> dict[str, Any]:
    """What an import did, as the API writes it."""
    return {
        "registry": replaced.registry,
        "listed_on": replaced.listed_on.isoformat(),
        "numbers": replaced.numbers,
        "before": replaced.before,
        "malformed_lines": replaced.malformed,
    }


def _lines() -> Iterator[str]:
    """The body's lines.

    Raises:
        InvalidListError: the body ended before its stated length.
    """
    request.max_content_length = MAX_LIST
    body = BufferedReader(cast(RawIOBase, request.stream))
    read = 0
    while line := body.readline(_LONGEST_LINE):
        read += len(line)
        # A number is ASCII; whatever else stands in a line is no number, in whatever encoding.
        yield line.decode("utf-8-sig", "replace").rstrip("\r\n")
    if read != request.content_length:
        raise InvalidListError("the list broke off before its end; the copy in use stays")

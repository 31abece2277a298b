"""GET /log/…: the ledger as a C2SP tlog-tiles log, for whoever wants to check it."""

from http import HTTPStatus
from typing import Final

from flask import Response
from flask_smorest import Blueprint

from consent.api.context import consent_api
from consent.api.http import endpoint, schema
from consent.api.problems import Problem
from consent.ledger.tiles import TILE_WIDTH, TilePath, TilePathError
from policies.permissions import public

TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
TILE_PATH: Final = (
    r"^(entries|[0-9]|[1-5][0-9]|6[0-3])/(x[0-9]{3}/){0,5}[0-9]{3}"
    r"(\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?$"
)
_FOREVER: Final = "public, max-age=31536000, immutable"

blueprint = Blueprint("log", __name__, url_prefix="/log", description="The ledger as tiles.")


@endpoint(
    blueprint,
    "/checkpoint",
    "GET",
    summary="Signed checkpoint",
    gives={HTTPStatus.OK: ("A C2SP signed note.", {TEXT: schema({"type": "string"})})},
)
@public("an auditor trusts nobody and needs no account; a checkpoint says nothing of people")
def checkpoint() -> Response:
    """The newest signed checkpoint of the ledger."""
    note = consent_api().notary.certify()
    return Response(note, content_type=TEXT, headers={"Cache-Control": "no-cache"})


@endpoint(
    blueprint,
    "/tile/<path:path>",
    "GET",
    summary="Tile",
    gives={
        HTTPStatus.OK: (
            "256 hashes of 32 bytes, or entries behind 16-bit lengths.",
            {BYTES: schema({"type": "string", "format": "binary"})},
        )
    },
    problems=(HTTPStatus.NOT_FOUND,),
    parameters=[
        {
            "in": "path",
            "name": "path",
            "required": True,
            "schema": {"type": "string", "pattern": TILE_PATH},
            "description": "Level or `entries`, number, and width if partial: `0/x001/067.p/112`.",
        }
    ],
)
@public("leaves point at nobody: what does is a salted digest")
def tile(path: str) -> Response:
    """A tile of hashes (`<level>/<n>`) or of entries (`entries/<n>`), `.p/<width>` if partial."""
    api = consent_api()
    try:
        wanted = TilePath.parse(f"tile/{path}")
    except TilePathError as error:
        raise _no_such_tile() from error
    with api.read() as reader:
        data = api.log.tile_data(reader, wanted)
    if data is None:
        raise _no_such_tile()
    cache = _FOREVER if wanted.width == TILE_WIDTH else "public, max-age=60"
    return Response(data, content_type=BYTES, headers={"Cache-Control": cache})


def _no_such_tile() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "TILE_UNKNOWN", "The log has no such tile.")

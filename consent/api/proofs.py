"""POST /v1/consent/events/{id}/proof: all that shows one consent, in one ZIP."""

from http import HTTPStatus
from typing import Final
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from consent.api.context import consent_api
from consent.api.http import JSON_TYPE, endpoint, read_json, schema
from consent.api.problems import API_HEADERS
from consent.api.receipts import claims_seen
from consent.api.schemas import ProofRequest
from policies.permissions import Permission, requires

ZIP_TYPE: Final = "application/zip"

blueprint = Blueprint(
    "proofs", __name__, url_prefix="/v1/consent", description="Evidence of one consent."
)

_PROOF: Final = ProofRequest()


@endpoint(
    blueprint,
    "/events/<uuid:event_id>/proof",
    "POST",
    summary="Proof bundle",
    takes={JSON_TYPE: schema(ProofRequest)},
    gives={
        HTTPStatus.OK: (
            "The bundle.",
            {ZIP_TYPE: schema({"type": "string", "format": "binary"})},
        )
    },
    problems=(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
)
@requires(Permission.PROOF_EXPORT)
def proof_bundle(event_id: UUID) -> Response:
    """Every event of one consent, with proofs and a program that checks them: for others to keep.

    Name `purpose` and `channel` where the event speaks for more than one of either, or is a signal.
    What the person said as evidence is disclosed only to keys with `evidence.read`. The operator
    log records who took a bundle, and its hash.
    """
    api = consent_api()
    asked = read_json(_PROOF)
    about = (asked["purpose"], asked["channel"]) if "purpose" in asked else None
    bundle = api.export_proof(str(event_id), claims_seen(api), about, asked.get("as_of"))
    response = Response(bundle.data, headers=API_HEADERS, content_type=ZIP_TYPE)
    response.headers["Content-Disposition"] = f'attachment; filename="proof-{event_id}.zip"'
    return response

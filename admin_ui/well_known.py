"""/.well-known/gpc.json: whether Global Privacy Control is honoured, for browsers and regulators.

Source: Global Privacy Control (W3C), section "GPC Support Resource".
"""

from flask import Blueprint, Response

from admin_ui.services import services
from consent.api.http import reply
from policies.permissions import public
from policies.vocabulary import Signal

blueprint = Blueprint("well_known", __name__)


@blueprint.get("/.well-known/gpc.json")
@public("what is said to every browser")
def gpc() -> Response:
    """True where a purpose of the active policy heeds the signal: no more than is done is said."""
    heeded = any(Signal.GPC in rule.signals for rule in services().policies().purposes.values())
    return reply({"gpc": heeded, "lastUpdate": services().settings.gpc_updated.isoformat()})

"""Errors of webhooks. Their sentences are for whoever administers them."""

from governance.outbound.errors import OutboundError


class WebhookError(OutboundError):
    """Base of the errors about webhooks."""

    code = "WEBHOOK_ERROR"


class InvalidEndpointError(WebhookError):
    """The endpoint cannot be as described. `field` names what is wrong."""

    code = "WEBHOOK_INVALID"

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class UnknownEndpointError(WebhookError):
    """No endpoint has this id, or it was removed."""

    code = "WEBHOOK_UNKNOWN"


class EndpointStateError(WebhookError):
    """The endpoint is in no state in which this can be done to it."""

    code = "WEBHOOK_STATE"

"""Errors of what goes out. None of them names a receiver, an address or a secret."""

from typing import ClassVar

from governance.errors import GovernanceError


class OutboundError(GovernanceError):
    """Base of the errors about mails, webhooks and calls to other hosts."""

    code = "OUTBOUND_ERROR"


class InvalidMailError(OutboundError):
    """The mail cannot be written as asked: the kind, its facts, the language or the address."""

    code = "MAIL_INVALID"


class DeliveryFailedError(OutboundError):
    """One attempt to hand something over did not succeed.

    `reason` says why in a code that is safe to store and to show: it is made of our own words and
    of the receiver's status number, never of the receiver's text.
    """

    code = "DELIVERY_FAILED"
    final: ClassVar[bool] = False
    """Whether another attempt is pointless."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the attempt failed: {reason}")
        self.reason = reason


class DeliveryRefusedError(DeliveryFailedError):
    """The receiver will not take this, now or later."""

    code = "DELIVERY_REFUSED"
    final = True

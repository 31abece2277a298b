"""What an installation may choose about what goes out. Read by the layer above."""

from dataclasses import dataclass, field
from enum import StrEnum


class SmtpSecurity(StrEnum):
    """How the connection to the mail server is encrypted."""

    STARTTLS = "starttls"
    """Begins in clear and must change over (RFC 3207). Where that fails, nothing is sent."""
    IMPLICIT = "implicit"
    """TLS from the first byte (RFC 8314)."""
    NONE = "none"
    """In clear: for a mail server on the same machine alone."""


@dataclass(frozen=True, slots=True)
class Sender:
    """From whom mails come."""

    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """The mail server to hand mails to."""

    host: str
    port: int = 587
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    user: str = ""
    password: str = field(default="", repr=False)

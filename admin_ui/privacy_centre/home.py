"""The first page, the ways to reach the organisation, and the accessibility statement."""

from flask import Response

from admin_ui.privacy_centre.page import page
from admin_ui.services import services
from policies.permissions import public


@public("The first page of the privacy centre: what one can do here")
def home() -> Response:
    """What one can do here."""
    return page("home.html")


@public("How to reach whoever answers for personal data")
def contact() -> Response:
    """The ways to ask for one's data, or anything else."""
    settings = services().settings
    return page(
        "contact.html",
        controllers=list(services().policies().controllers.values()),
        email=settings.privacy_email,
        phone=settings.privacy_phone,
        post=settings.privacy_address,
    )


@public("How accessible these pages are, as public bodies have to say")
def accessibility() -> Response:
    """The accessibility statement."""
    return page("accessibility.html", email=services().settings.privacy_email)

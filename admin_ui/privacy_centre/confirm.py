"""The second step of a double opt-in: the page behind the link in a mail that asks for it.

GET says what would be confirmed and changes nothing, for mail scanners open links before their
readers do. POST confirms, and sends the browser back to what the page says then: confirmed, too
late, or no longer open. Doing it again changes nothing. A link that is forged or out of date, or
whose person or contact is gone, leads to the one page that such links lead to.
"""

from flask import redirect, request
from werkzeug.wrappers import Response

from admin_ui.privacy_centre.page import address, page, visitor_language
from admin_ui.privacy_centre.visits import gone, person_of, read_link
from admin_ui.services import services
from consent.confirmations import Offer
from consent.errors import UnknownSubjectError
from consent.links import LinkScope
from policies.permissions import public


@public("The link is the permission: it was sent to the mailbox that signed up, and confirms that")
def confirm(token: str) -> Response:
    """What a link would confirm; by POST, confirm it."""
    link = read_link(token, LinkScope.CONFIRM)
    if link is None:
        return gone()
    with services().database.snapshot() as reader:
        if person_of(reader, link) is None:
            return gone()
        standing = services().confirmations.look(reader, link)
    if request.method == "POST":
        try:
            services().confirmations.confirm(link)
        except UnknownSubjectError:  # erased while the page was open
            return gone()
        return redirect(address("confirm", token=token), 303)
    policies, rule = services().policies(), standing.purpose
    if rule is None:
        return gone()
    words, tag = rule.worded(visitor_language().tag)
    return page(
        "confirm.html",
        offer=standing.offer,
        Offer=Offer,
        words=words,
        words_language=tag,
        controller=policies.controllers[rule.controller],
        standing=standing,
        here=address("confirm", token=token),
    )

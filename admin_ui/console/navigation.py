"""The sections of the console, in their order, and what each takes. Pure.

What a role cannot use is not shown. Sections are listed once they exist.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from policies.permissions import Permission


@dataclass(frozen=True, slots=True)
class Item:
    """A link, or a heading over links."""

    label: str
    icon: str = ""
    endpoint: str = ""
    """Empty for a heading."""
    needs: Permission = Permission.POLICY_READ
    letter: str = ""
    """Pressed after `g`, it opens this page."""
    inner: "tuple[Item, ...]" = ()


SECTIONS: Final = (
    Item("Today", "home", "console.today", letter="t"),
    Item("Consent", "list-check", "console.explore", Permission.CONSENT_READ, "c"),
    Item("Purposes", "check", "console.purposes", Permission.POLICY_READ, "p"),
    Item(
        "Evidence",
        "shield-check",
        inner=(Item("Ledger", "", "console.ledger", Permission.LEDGER_READ, "l"),),
    ),
    Item(
        "Admin",
        "adjustments",
        inner=(
            Item("API keys", "", "console.api_keys", Permission.API_KEYS_MANAGE, "k"),
            Item("Webhooks", "", "console.webhooks", Permission.OUTBOUND_READ, "w"),
            Item("Mail", "", "console.mails", Permission.OUTBOUND_READ, "m"),
            Item("Jobs", "", "console.jobs", Permission.JOBS_READ, "j"),
        ),
    ),
)


def visible(may: Callable[[Permission], bool]) -> list[Item]:
    """The sections that a caller can use, without the headings that would stand over nothing."""
    shown = []
    for section in SECTIONS:
        inner = tuple(item for item in section.inner if may(item.needs))
        if inner or (section.endpoint and may(section.needs)):
            shown.append(replace(section, inner=inner))
    return shown

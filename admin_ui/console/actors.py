"""Who recorded an event, as staff call them.

An event names its actor by an opaque reference. Here it gets the name that the account or key has
now; a reference that leads nowhere is shown as it is.
"""

from collections.abc import Collection

from admin_ui.services import Services
from consent.subjects import Reader
from governance.audit.trail import ActorKind

_SYSTEM = {ActorKind.SYSTEM: "This service", ActorKind.CLI: "Command line"}


def names(services: Services, reader: Reader, references: Collection[str]) -> dict[str, str]:
    """A name for each reference that has one."""
    found: dict[str, str] = {}
    kinds = {reference.partition(":")[0] for reference in references}
    if ActorKind.ACCOUNT in kinds:
        for account in services.accounts.all(reader):
            found[f"{ActorKind.ACCOUNT}:{account.id}"] = account.display_name
    if ActorKind.API_KEY in kinds:
        for key in services.api_keys.all(reader):
            found[f"{ActorKind.API_KEY}:{key.id}"] = f"{key.name} (API key {key.id})"
    for reference in references:
        kind, _, own = reference.partition(":")
        if kind in _SYSTEM:
            found[reference] = f"{_SYSTEM[ActorKind(kind)]} ({own})"
    return {reference: found[reference] for reference in references if reference in found}

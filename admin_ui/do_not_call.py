"""Replaces a do-not-call list for the command line, and records who replaced one."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from consent.do_not_call import InvalidListError, Replaced
from governance.audit.trail import CLI, Actor

if TYPE_CHECKING:
    from admin_ui.services import Services

_LONGEST_LINE = 1024


def import_list(
    services: "Services",
    file: Path,
    registry: str,
    listed_on: date,
    *,
    smaller: bool,
    progress: Callable[[int], None],
) -> Replaced:
    """Put a file in the place of our copy of a list.

    Raises:
        InvalidListError: the policy declares no such list; the file is none, or of a wrong day.
    """
    declared = services.policies().registries.get(registry)
    if declared is None:
        known = ", ".join(services.policies().registries) or "none at all"
        raise InvalidListError(f"the policy declares no list {registry}; it declares {known}")
    return services.lists.replace(
        declared,
        listed_on,
        _lines(file),
        smaller=smaller,
        recorded=lambda session, replaced: record_replaced(services, session, replaced, CLI),
        progress=progress,
    )


def record_replaced(
    services: "Services", session: Session, replaced: Replaced, actor: Actor
) -> None:
    """Write into the operator log, in the caller's transaction, that a list was replaced."""
    services.trail.record(
        session,
        actor=actor,
        action="do_not_call.replaced",
        object=f"registry:{replaced.registry}",
        details={
            "listed_on": replaced.listed_on.isoformat(),
            "numbers": replaced.numbers,
            "before": replaced.before,
            "malformed_lines": replaced.malformed,
        },
        now=services.clock(),
    )


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        while line := stream.readline(_LONGEST_LINE):
            yield line.decode("utf-8-sig", "replace").rstrip("\r\n")

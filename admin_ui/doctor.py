"""Looks at an installation and says what is wrong, without changing anything of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from admin_ui.settings import Settings
from consent.errors import ConsentError
from governance.errors import GovernanceError
from policies.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    says: str


def examine(settings: Settings) -> list[Finding]:
    """Settings, database, keyring, policies, ledger; ends early where the rest needs what fails."""
    return list(_examine(settings))


def _examine(settings: Settings) -> Iterator[Finding]:
    objections = settings.objections()
    yield Finding("settings", not objections, "; ".join(objections) or f"mode {settings.mode}")
    if not settings.data_dir.is_dir():
        yield Finding("data directory", good=False, says="missing; `tutela serve` makes it")
        return
    database = _look("database", lambda: _revision(settings))
    yield database
    if database.good:
        yield _look("durability", lambda: _durability(settings))
        opened = _look("keyring, policies and ledger", lambda: _opened(settings))
        yield opened
        if opened.good:
            yield _look("mail", lambda: _mail(settings))
            yield _look("webhooks", lambda: _webhooks(settings))


def _look(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, good=True, says=look())
    except (GovernanceError, ConsentError, PolicyError) as error:
        return Finding(what, good=False, says=str(error))


def _revision(settings: Settings) -> str:
    from governance.database import Database
    from governance.errors import SchemaError
    from governance.migrations import runner

    database = Database.open(settings.database, pool_size=1)
    try:
        found = runner.current(database)
    finally:
        database.dispose()
    if found != runner.head():
        raise SchemaError(f"at revision {found}, not {runner.head()}; run `tutela migrate`")
    return f"at revision {found}"


def _durability(settings: Settings) -> str:
    """Whether the server keeps what it acknowledges: every promise of ours rests on that."""
    from governance.database import Database
    from governance.errors import DatabaseError

    database = Database.open(settings.database, pool_size=1)
    try:
        if database.dialect == "sqlite":
            return "every commit reaches the disk"
        with database.read() as connection:
            careless = connection.exec_driver_sql(
                "SELECT name FROM pg_settings WHERE setting = 'off' "
                "AND name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY name"
            ).scalars()
            names = list(careless)
    finally:
        database.dispose()
    if names:
        raise DatabaseError(
            f"{' and '.join(names)} off in PostgreSQL: what was acknowledged may be lost; "
            "switch it on in postgresql.conf"
        )
    return "every commit reaches the disk"


def _opened(settings: Settings) -> str:
    from admin_ui.services import build

    services = build(settings)
    try:
        with services.database.read() as reader:
            size = services.log.frontier(reader).size
        return (
            f"{len(services.policies().purposes)} purposes, {size} entries, {services.signer.name}"
        )
    finally:
        services.close()


def _mail(settings: Settings) -> str:
    """Whether the mail server would take mails, as far as can be said without sending one."""
    from admin_ui.console import outbound
    from governance.outbound.errors import DeliveryFailedError, OutboundError
    from governance.outbound.transports import SmtpTransport

    server = settings.mail_server
    if server is None:
        return f"written to {settings.mail_folder}, as there is no TUTELA_SMTP_HOST"
    try:
        SmtpTransport(server, settings.mail_sender).probe()
    except DeliveryFailedError as error:
        why = outbound.reason(error.reason)
        raise OutboundError(f"{server.host} would take no mail: {why}") from error
    return f"{server.host} would take mails"


def _webhooks(settings: Settings) -> str:
    """Whether everybody who is to be told of withdrawals is told, and mails leave."""
    from admin_ui.console import outbound
    from admin_ui.services import build
    from governance.outbound.errors import OutboundError
    from governance.outbound.http import CallRefusedError

    services = build(settings, trusting=False)
    try:
        with services.database.read() as reader:
            found = [f"{one.title}. {one.how}" for one in outbound.troubles(services, reader)]
            hooks = services.webhooks.all(reader)
            for hook in hooks:
                try:
                    services.webhooks.check(reader, hook.id)
                except CallRefusedError as error:
                    found.append(f"{hook.name} cannot be called: {error}")
    finally:
        services.close()
    if found:
        raise OutboundError(" ".join(found))
    return f"{len(hooks)}, and none is in trouble"

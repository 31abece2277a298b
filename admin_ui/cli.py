"""`tutela`: the command line. Exits 0 only when all is well, and prints its result last."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from admin_ui.settings import PREFIX, Role, Settings, SettingsError
from policies.permissions import API_SCOPES, Permission

if TYPE_CHECKING:
    from admin_ui.services import Services

Command = TypeVar("Command", bound=Callable[..., Any])


def _explained(command: Command) -> Command:
    """Turn errors that we raise on purpose into one sentence and exit status 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from consent.errors import ConsentError
        from governance.errors import GovernanceError
        from policies.errors import PolicyError

        try:
            return command(*args, **kwargs)
        except (SettingsError, PolicyError, ConsentError, GovernanceError) as error:
            raise click.ClickException(str(error)) from error

    return run  # type: ignore[return-value]


@contextmanager
def _services(*, trusting: bool = True) -> Iterator["Services"]:
    """The installation of this environment, made ready; `trusting` as in `services.build`."""
    from admin_ui import logging
    from admin_ui.services import build, migrate

    settings = Settings.from_environment()
    logging.configure(settings.log_level)
    migrate(settings)
    services = build(settings, trusting=trusting)
    try:
        yield services
    finally:
        services.close()


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and remaining time on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """So many a second."""

        def render(self, task: Task) -> Text:
            """The rate of the last half minute."""
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s")

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), unit, Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield tell


def _result(line: str) -> None:
    click.echo(line)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tutela")
def main() -> None:
    """Consent, privacy and data governance, self-hosted. docs/ explains everything."""


# --- running -----------------------------------------------------------------------------------


@main.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), help="Default: all.")
@click.option("--demo", is_flag=True, help="Fill an empty installation with a fictional shop.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@_explained
def serve(role: str | None, demo: bool, host: str | None, port: int | None) -> None:
    """Serve the API and the console, and run scheduled jobs."""
    given = {"ROLE": role, "DEMO": "true" if demo else None, "HOST": host, "PORT": port}
    os.environ.update({PREFIX + name: str(value) for name, value in given.items() if value})
    settings = Settings.from_environment()
    objections = settings.objections()
    if objections:
        raise SettingsError("this is not fit for production:\n  - " + "\n  - ".join(objections))
    from admin_ui import server

    if settings.role is Role.WORKER:
        server.work(settings)
    else:
        server.serve(settings)


@main.command()
@_explained
def worker() -> None:
    """Run scheduled jobs alone, beside `serve --role web`."""
    from admin_ui import server

    server.work(Settings.from_environment())


@main.command()
@_explained
def migrate() -> None:
    """Bring the database's tables up to date. Safe to repeat."""
    from admin_ui.services import migrate as bring_up_to_date

    _result(f"the database is at revision {bring_up_to_date(Settings.from_environment())}")


@main.command()
@_explained
def doctor() -> None:
    """Look at settings, database, keys, policies and ledger, and say what is wrong."""
    from admin_ui.doctor import examine

    findings = examine(Settings.from_environment())
    for finding in findings:
        click.echo(f"{'ok  ' if finding.good else 'BAD '} {finding.what}: {finding.says}")
    if not all(finding.good for finding in findings):
        raise click.ClickException("not all is well")
    _result("all is well")


@main.command()
@_explained
def demo() -> None:
    """Fill an empty installation with a fictional shop and its customers."""
    from admin_ui.demo import fill

    with _services() as services:
        _result(f"{fill(services)} fictional people")


# --- policies ----------------------------------------------------------------------------------


@main.group()
def policy() -> None:
    """Policies as code."""


@policy.command("check")
@click.argument("directory", type=click.Path(path_type=Path))
@_explained
def policy_check(directory: Path) -> None:
    """Read a directory of policy YAML; print every problem with file and line."""
    from policies.loader import load

    loaded = load(directory)
    _result(f"{len(loaded.purposes)} purposes, version {loaded.version}, {loaded.hash}")


# --- import ------------------------------------------------------------------------------------


@main.group("import")
def import_group() -> None:
    """Bring in what other systems know of people's choices."""


def _importing(command: Command) -> Command:
    """The argument and the options that all imports have."""
    for add in reversed(
        (
            click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
            click.option("--dry-run", is_flag=True, help="Say what would happen; write nothing."),
            click.option(
                "--report",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write an outcome for every row here, and the signed account beside it.",
            ),
            click.option("--encoding", help="Of a file that is not in UTF-8: windows-1252, …"),
        )
    ):
        command = add(command)
    return command


_MAPPING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@import_group.command("hubspot")
@_importing
@_explained
def import_hubspot(file: Path, dry_run: bool, report: Path | None, encoding: str | None) -> None:
    """Import a HubSpot contacts export (CSV)."""
    _import(file, "hubspot", None, dry_run=dry_run, report=report, encoding=encoding)


@import_group.command("salesforce")
@_importing
@click.option("--mapping", type=_MAPPING, help="Says what the export leaves open (YAML or JSON).")
@_explained
def import_salesforce(
    file: Path, dry_run: bool, report: Path | None, encoding: str | None, mapping: Path | None
) -> None:
    """Import a Salesforce export (CSV): Individual, Contact, Lead or ContactPointTypeConsent."""
    _import(file, "salesforce", mapping, dry_run=dry_run, report=report, encoding=encoding)


@import_group.command("csv")
@_importing
@click.option(
    "--mapping",
    type=_MAPPING,
    required=True,
    help="Says what the columns mean (YAML or JSON); `tutela import propose` drafts one.",
)
@_explained
def import_csv(
    file: Path, dry_run: bool, report: Path | None, encoding: str | None, mapping: Path
) -> None:
    """Import a table of any origin (CSV), by a mapping of its columns."""
    _import(file, "csv", mapping, dry_run=dry_run, report=report, encoding=encoding)


@import_group.command("propose")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--encoding", help="Of a file that is not in UTF-8: windows-1252, …")
@_explained
def import_propose(file: Path, encoding: str | None) -> None:
    """Draft a mapping of a table's columns, to be read and corrected; prints JSON."""
    from admin_ui.imports import propose
    from consent.importer.mapping import written
    from policies.loader import LIBRARY, load

    settings = Settings.from_environment()
    proposal = propose(load(settings.policies or LIBRARY), file, encoding)
    for column in proposal.columns:
        sure = f"{column.confidence:>3} %" if column.confidence else "    -"
        shown = ", ".join(column.samples)
        click.echo(f"{sure}  {column.role:<12} {column.name!r}: {shown}", err=True)
    for lack in proposal.lacking:
        click.echo(f"to be added: {lack}", err=True)
    _result(written(proposal.content))


@import_group.command("verify")
@click.argument("account", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--lines", type=_MAPPING, help="The CSV; default: the account's name without .json.")
@click.option("--key", type=_MAPPING, help="The verifier key (vkey); default: this installation's.")
@_explained
def import_verify(account: Path, lines: Path | None, key: Path | None) -> None:
    """Check a signed report of an import: signature, lines, counts, place in the ledger."""
    from admin_ui.imports import verify_report

    if key is not None:
        vkey = key.read_text(encoding="utf-8").strip()
    else:
        with _services() as services:
            vkey = services.verifier_key
    _result(verify_report(account, lines, vkey))


@import_group.command("quarantine")
@_explained
def import_quarantine() -> None:
    """List what is kept in quarantine, by reason, and the draft requests that imports made."""
    from consent.importer import marks, quarantine

    with _services() as services, services.database.snapshot() as reader:
        piles = quarantine.piles(reader)
        drafts = marks.open_drafts(reader)
    for pile in piles:
        click.echo(f"{pile.count:>9,} {pile.reason}, the oldest since {pile.oldest:%Y-%m-%d}")
    for draft in drafts:
        click.echo(
            f"draft {draft.id}: {draft.asks} for {draft.subject}, since {draft.made_at:%Y-%m-%d}"
        )
    rows = sum(pile.count for pile in piles)
    _result(f"{rows:,} rows in quarantine, {len(drafts):,} draft requests")


@import_group.command("repair")
@click.argument("reason")
@click.option("--why", required=True, help="Where the answer comes from; kept in the trail.")
@click.option("--date", "given_on", type=click.DateTime(["%Y-%m-%d"]), help="When they agreed.")
@click.option("--source", help="Where they agreed, such as: web form of our shop.")
@click.option("--words", help="What they were shown.")
@click.option("--purpose", help="What they agreed to: a purpose's key.")
@_explained
def import_repair(
    reason: str,
    why: str,
    given_on: datetime | None,
    source: str | None,
    words: str | None,
    purpose: str | None,
) -> None:
    """Complete all rows that are in quarantine for a REASON, and run them again."""
    from admin_ui.imports import Imports, held_reason
    from consent.importer.statements import Supplied
    from governance.audit.trail import CLI

    day = None if given_on is None else given_on.date()
    supplied = Supplied(given_on=day, source=source, words=words, purpose=purpose)
    with _services() as services, _progress("rows") as progress:
        counts = Imports(services).repair(held_reason(reason), supplied, why, CLI, progress)
    _result(", ".join(f"{counts.get(n, 0):,} {n.replace('_', ' ')}" for n in _REPAIRED))


_REPAIRED: Final = ("repaired", "given_up", "held")


@import_group.command("dismiss")
@click.argument("reason")
@click.option("--why", required=True, help="Why nothing will come of them; kept in the trail.")
@_explained
def import_dismiss(reason: str, why: str) -> None:
    """Give up all rows that are in quarantine for a REASON, and empty them."""
    from admin_ui.imports import Imports, held_reason
    from governance.audit.trail import CLI

    with _services() as services:
        count = Imports(services).dismiss(held_reason(reason), why, CLI)
    _result(f"{count:,} rows dismissed")


def _import(
    file: Path,
    kind: str,
    mapping: Path | None,
    *,
    dry_run: bool,
    report: Path | None,
    encoding: str | None,
) -> None:
    from admin_ui.imports import Imports
    from consent.importer.plan import Kind
    from governance.audit.trail import CLI

    text = None if mapping is None else mapping.read_bytes().decode(errors="surrogateescape")
    with _services() as services, _progress("rows") as progress:
        summary = Imports(services).import_file(
            file,
            Kind(kind),
            text,
            encoding=encoding,
            dry_run=dry_run,
            report=report,
            progress=progress,
            actor=CLI,
        )
    *told, result = summary.sentences()
    for line in told:
        click.echo(line)
    if not summary.complete:
        raise click.ClickException(result)
    _result(result)


@import_group.command("dnc")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--registry", required=True, help="Whose list it is, such as uk_tps.")
@click.option(
    "--listed-on",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day on which the list was drawn.",
)
@click.option("--smaller", is_flag=True, help="Take it with less than half of the numbers before.")
@_explained
def import_dnc(file: Path, registry: str, listed_on: datetime, smaller: bool) -> None:
    """Put a do-not-call list in the place of our copy: a number a line."""
    from admin_ui.do_not_call import import_list

    with _services() as services, _progress("lines") as progress:
        replaced = import_list(
            services,
            file,
            registry,
            listed_on.date(),
            smaller=smaller,
            progress=lambda read: progress(read, 0),
        )
    if replaced.malformed:
        click.echo(f"{replaced.malformed} lines are no number and were left out")
    _result(
        f"{replaced.registry} of {replaced.listed_on}: {replaced.numbers} numbers, "
        f"{replaced.before} before"
    )


# --- ledger ------------------------------------------------------------------------------------


@main.group("ledger")
def ledger_group() -> None:
    """The consent ledger."""


@ledger_group.command("verify")
@_explained
def ledger_verify() -> None:
    """Recompute everything, from disclosures to the signature; name every fault."""
    from admin_ui.verification import verify_now
    from governance.audit.trail import CLI

    with _services(trusting=False) as services:
        run = verify_now(services, CLI)
    if run.result is None:
        raise click.ClickException(f"the verification ended as {run.state}: {run.error}")
    for finding in run.result["findings"]:
        click.echo(f"{finding['kind']}: {finding['sentence']}")
    if run.result["found"]:
        raise click.ClickException(f"the ledger does not verify: {run.result['found']} findings")
    _result(f"ok: {run.result['entries']} entries, root {run.result['root']}")


@ledger_group.command("export")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--disclose",
    "also",
    multiple=True,
    help="A claim to disclose beside those that point at nobody, such as subject; repeat for more.",
)
@_explained
def ledger_export(directory: Path, also: tuple[str, ...]) -> None:
    """Write tiles, checkpoint, verifier key and an explanation for an auditor."""
    from admin_ui.exports import export_ledger

    with _services() as services, _progress("tiles") as progress:
        size = export_ledger(services, directory, also, progress)
    _result(f"ok: {size} entries in {directory}")


# --- links -------------------------------------------------------------------------------------


@main.group("links")
def links_group() -> None:
    """Links that go into messages."""


@links_group.command("preferences")
@_explained
def links_preferences() -> None:
    """Read subjects from standard input, one a line as JSON; write a link to the choices of each.

    A line such as {"email": "ada@example.com"} becomes {"url": "https://…", "expires_at": "…"}.
    """
    import json

    from admin_ui.links import answers

    with _services() as services:
        for answer in answers(services, sys.stdin):
            _result(json.dumps(answer))


# --- access ------------------------------------------------------------------------------------


@main.group()
def accounts() -> None:
    """Who may enter."""


@accounts.command("setup-link")
@_explained
def accounts_setup_link() -> None:
    """Make a new one-time link for the first account; the old one stops working."""
    with _services() as services:
        link = services.setup_link()
    if link is None:
        raise click.ClickException("there is an account already; ask an administrator")
    _result(link)


@accounts.command("api-key")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(sorted(scope.value for scope in API_SCOPES)),
    help="What it may do; repeat for more.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="Expires after so many days.")
@_explained
def accounts_api_key(name: str, scopes: tuple[str, ...], days: int | None) -> None:
    """Make an API key. It is shown once."""
    from governance.audit.trail import CLI

    with _services() as services:
        expires_at = None if days is None else services.clock() + timedelta(days=days)
        wanted = [Permission(scope) for scope in scopes]
        issued = services.api_keys.create(
            name=name, scopes=wanted, actor=CLI, expires_at=expires_at
        )
    _result(issued.key)


if __name__ == "__main__":
    main()

"""`tutela`: the command line. Exits 0 only when all is well, and prints its result last."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), unit, TimeRemainingColumn())
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


@import_group.command("hubspot")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would happen; write nothing.")
@click.option("--report", type=click.Path(path_type=Path), help="Write an outcome for every row.")
@_explained
def import_hubspot(file: Path, dry_run: bool, report: Path | None) -> None:
    """Import a HubSpot contacts export (CSV)."""
    from admin_ui.imports import import_hubspot as run

    with _services() as services, _progress("rows") as progress:
        summary = run(services, file, dry_run=dry_run, report=report, progress=progress)
    *told, result = summary.sentences()
    for line in told:
        click.echo(line)
    if not summary.complete:
        raise click.ClickException(result)
    _result(result)


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
        for answer in answers(services, click.get_text_stream("stdin")):
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

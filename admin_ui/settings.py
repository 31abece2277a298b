"""Settings: the environment, read once, as one frozen value. Nothing else reads it.

Every variable is `TUTELA_…`; each may instead be given as `…_FILE`, the path of a file that holds
the value. In production there are no insecure defaults: `Settings.objections` says what is
missing and how to mend it, and `tutela serve` refuses to start.
"""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from governance.outbound.reach import Reach
from governance.outbound.settings import Sender, SmtpSecurity, SmtpServer

PREFIX: Final = "TUTELA_"


class SettingsError(Exception):
    """A setting is malformed. The message names the variable and the remedy, not the value."""


class Mode(StrEnum):
    """Whether defaults that are only fit for trying the service are tolerated."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Role(StrEnum):
    """Which parts of the service run in a process."""

    ALL = "all"
    WEB = "web"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this deployment is set up. `docs/settings.md` explains each."""

    mode: Mode = Mode.DEVELOPMENT
    role: Role = Role.ALL
    data_dir: Path = Path("var")
    database_url: str = field(default="", repr=False)
    """Empty: a SQLite file in the data directory."""
    checkpoint_url: str = field(default="", repr=False)
    """Where the last signed checkpoint is kept; empty: a SQLite file of its own."""
    keyring: Path | None = None
    policies: Path | None = None
    """A directory of policy YAML; None: the shipped library."""
    secret_key: str = field(default="", repr=False)
    """Signs form tokens; empty: made once and kept in the data directory."""
    host: str = "127.0.0.1"
    port: int = 8080
    base_url: str = ""
    proxies: int = 0
    """How many reverse proxies in front of this add themselves to X-Forwarded-For."""
    log_origin: str = "localhost/tutela"
    organisation: str = "Example organisation"
    time_zone: str = "UTC"
    privacy_email: str = ""
    """Where people write about their data; shown on the public's pages, as are these two."""
    privacy_phone: str = ""
    privacy_address: str = ""
    workers: int = 1
    threads: int = 8
    log_level: str = "INFO"
    demo: bool = False
    verify_every: timedelta = timedelta(hours=24)
    session_idle: timedelta = timedelta(minutes=30)
    session_absolute: timedelta = timedelta(hours=12)
    import_quarantine: timedelta = timedelta(days=90)
    """How long rows that could not be used are kept, sealed, to be repaired."""
    smtp_host: str = ""
    """The mail server; empty: mails become files in the data directory."""
    smtp_port: int = 587
    smtp_security: SmtpSecurity = SmtpSecurity.STARTTLS
    smtp_user: str = ""
    smtp_password: str = field(default="", repr=False)
    mail_from: str = "tutela@localhost"
    confirmation_mails: bool = True
    """Whether grants under a double opt-in are asked to be confirmed by a mail of ours."""
    gpc_updated: date = date(2026, 11, 24)
    """When what is said of Global Privacy Control in gpc.json was last true anew."""
    outbound_hosts: str = ""
    """What may be called, such as `hooks.example.com *.example.org:8443`; empty: nothing."""
    outbound_networks: str = ""
    """Private and special ranges that may be called all the same."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read `TUTELA_*`.

        Raises:
            SettingsError: a variable is unknown, unreadable or malformed.
        """
        given = _given(os.environ if environment is None else environment)
        known = {one.name: one for one in fields(cls)}
        unknown = sorted(given.keys() - known.keys())
        if unknown:
            names = ", ".join(PREFIX + name.upper() for name in unknown)
            raise SettingsError(f"unknown setting {names}; docs/settings.md lists them all")
        settings = cls(**{name: _read(name, value) for name, value in given.items()})
        settings._check()
        return settings

    def _check(self) -> None:
        if not 0 < self.port < 65536:
            raise SettingsError("TUTELA_PORT must be between 1 and 65535")
        if not 0 < self.workers <= 64 or not 0 < self.threads <= 256:
            raise SettingsError("TUTELA_WORKERS must be 1 to 64 and TUTELA_THREADS 1 to 256")
        if not 0 <= self.proxies <= 10:
            raise SettingsError("TUTELA_PROXIES must be 0 to 10")
        if not self.log_origin.isascii() or " " in self.log_origin or "+" in self.log_origin:
            raise SettingsError("TUTELA_LOG_ORIGIN must be ASCII without spaces or '+'")
        if self.import_quarantine < timedelta(days=1):
            raise SettingsError("TUTELA_IMPORT_QUARANTINE must be 86400 seconds or more")
        if self.verify_every < timedelta(minutes=1):
            raise SettingsError("TUTELA_VERIFY_EVERY must be 60 seconds or more")
        if not 0 < self.smtp_port < 65536:
            raise SettingsError("TUTELA_SMTP_PORT must be between 1 and 65535")
        if _SENDER.fullmatch(self.mail_from) is None:
            raise SettingsError("TUTELA_MAIL_FROM must be an address such as privacy@example.com")
        try:
            Reach.of(self.outbound_hosts)
        except ValueError as error:
            raise SettingsError(f"TUTELA_OUTBOUND_HOSTS: {error}") from error
        try:
            Reach.of("", self.outbound_networks)
        except ValueError as error:
            raise SettingsError(f"TUTELA_OUTBOUND_NETWORKS: {error}") from error
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise SettingsError("TUTELA_TIME_ZONE must be a zone such as Europe/Berlin") from error

    @property
    def database(self) -> str:
        """The URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'tutela.sqlite'}"

    @property
    def checkpoint_store(self) -> str:
        """The URL of the store of the last signed checkpoint."""
        return self.checkpoint_url or f"sqlite:///{self.data_dir.absolute() / 'checkpoints.sqlite'}"

    @property
    def keyring_path(self) -> Path:
        """The folder of the local keyring."""
        return self.keyring or self.data_dir / "keyring"

    @property
    def reach(self) -> Reach:
        """What the service may call."""
        return Reach.of(self.outbound_hosts, self.outbound_networks)

    @property
    def mail_server(self) -> SmtpServer | None:
        """The mail server; None where mails are written to `mail_folder` instead."""
        if not self.smtp_host:
            return None
        return SmtpServer(
            host=self.smtp_host,
            port=self.smtp_port,
            security=self.smtp_security,
            user=self.smtp_user,
            password=self.smtp_password,
        )

    @property
    def mail_sender(self) -> Sender:
        """From whom mails come."""
        return Sender(self.mail_from, self.organisation)

    @property
    def mail_folder(self) -> Path:
        """Where mails are written where there is no mail server."""
        return self.data_dir / "mail"

    @property
    def url(self) -> str:
        """Where people reach the service, without a slash at the end."""
        return self.base_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def zone(self) -> ZoneInfo:
        """The organisation's time zone."""
        return ZoneInfo(self.time_zone)

    def objections(self) -> list[str]:
        """Why this may not run in production: a sentence each, with the remedy."""
        if self.mode is not Mode.PRODUCTION:
            return []
        found = []
        if self.demo:
            found.append("demo data is on: leave out --demo and unset TUTELA_DEMO")
        if not self.base_url.startswith("https://"):
            found.append("TUTELA_BASE_URL must be the public https:// address")
        if self.log_origin == _DEFAULTS["log_origin"]:
            found.append(
                "TUTELA_LOG_ORIGIN must name this ledger for good, such as example.com/consent"
            )
        if len(self.secret_key) < 32:
            found.append("TUTELA_SECRET_KEY must be 32 characters or more, the same on every node")
        if self.keyring is None:
            found.append("TUTELA_KEYRING must name a folder for keys outside the data's backups")
        elif self.keyring.resolve().is_relative_to(self.data_dir.resolve()):
            found.append("TUTELA_KEYRING lies in TUTELA_DATA_DIR, and so in the data's backups")
        if self.checkpoint_url in ("", self.database):
            found.append("TUTELA_CHECKPOINT_URL must name a database apart from the data's backups")
        return found + self._objections_to_mail()

    def _objections_to_mail(self) -> list[str]:
        if not self.smtp_host:
            return ["TUTELA_SMTP_HOST must name a mail server: links and codes go out by mail"]
        found = []
        if self.mail_from == _DEFAULTS["mail_from"]:
            found.append("TUTELA_MAIL_FROM must be the address that people get mail from")
        if self.smtp_security is SmtpSecurity.NONE and self.smtp_host not in _LOOPBACK:
            found.append(
                "TUTELA_SMTP_SECURITY must be starttls or implicit, unless the server is localhost"
            )
        return found

    def signing_secret(self) -> str:
        """The secret for form tokens: as set, else made once and kept with owner-only rights."""
        if self.secret_key:
            return self.secret_key
        path = self.data_dir / "secret_key"
        if not path.exists():
            draft = path.with_name(f"secret_key.{secrets.token_hex(4)}")
            draft.touch(0o600)
            draft.write_text(secrets.token_urlsafe(48), encoding="ascii")
            with suppress(FileExistsError):  # another process made it first: theirs counts
                os.link(draft, path)
            draft.unlink()
        return path.read_text(encoding="ascii")


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
            continue
        key = name.removeprefix(PREFIX).lower()
        if key.endswith("_file"):
            key = key.removesuffix("_file")
            given[key] = _content(name, Path(value))
        else:
            given[key] = value
    return given


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name} names a file that cannot be read as text") from error


def _read(name: str, value: str) -> Any:
    default = _DEFAULTS[name]
    try:
        if isinstance(default, StrEnum):
            return type(default)(value)
        if isinstance(default, bool):
            return _BOOLEANS[value.strip().lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, timedelta):
            return timedelta(seconds=int(value))
        if isinstance(default, date):
            return date.fromisoformat(value)
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{PREFIX}{name.upper()} {_WANTED[type(default)]}") from error
    if name in ("data_dir", "keyring", "policies"):
        return Path(value)
    return value


_BOOLEANS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "": False,
}
_SENDER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,250}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULTS: Final = {one.name: one.default for one in fields(Settings)}
_WANTED: Final[Mapping[type, str]] = {
    Mode: "must be development or production",
    Role: "must be all, web or worker",
    SmtpSecurity: "must be starttls, implicit or none",
    bool: "must be true or false",
    int: "must be a whole number",
    timedelta: "must be a whole number of seconds",
    date: "must be a date such as 2026-11-24",
}

"""`tutela doctor`: a mail server that takes nothing, and a webhook that cannot be called."""

from dataclasses import replace
from pathlib import Path

import pytest

from admin_ui import doctor
from admin_ui.services import build, migrate
from admin_ui.settings import Settings
from governance.audit.trail import CLI
from governance.outbound.settings import SmtpSecurity
from tests.fakes.mail_server import mail_server


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "var", database_url=database_url)
    migrate(settings)
    return settings


def finding(settings: Settings, what: str) -> doctor.Finding:
    return {one.what: one for one in doctor.examine(settings)}[what]


def test_without_a_mail_server_it_says_where_mails_are(settings: Settings) -> None:
    assert "TUTELA_SMTP_HOST" in finding(settings, "mail").says


def test_a_mail_server_that_answers_is_well(settings: Settings) -> None:
    with mail_server() as server:
        reached = replace(
            settings,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            smtp_security=SmtpSecurity.NONE,
        )
        assert finding(reached, "mail").good
        assert server.taken == []
        demanding = replace(reached, smtp_security=SmtpSecurity.STARTTLS)
        assert "no encryption" in finding(demanding, "mail").says
    gone = finding(reached, "mail")
    assert not gone.good
    assert "nobody answered" in gone.says


def test_a_webhook_that_may_not_be_called_any_more_is_named(settings: Settings) -> None:
    allowed = replace(settings, outbound_hosts="hooks.example.com")
    services = build(allowed)
    services.webhooks.create(name="shop", url="https://hooks.example.com/canary", actor=CLI)
    services.close()
    assert finding(allowed, "webhooks").good
    forbidden = finding(settings, "webhooks")
    assert not forbidden.good
    assert "shop cannot be called" in forbidden.says
    assert "TUTELA_OUTBOUND_HOSTS" in forbidden.says
    assert "canary" not in forbidden.says

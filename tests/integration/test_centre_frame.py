"""What every page of the privacy centre has in common."""

from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from admin_ui.app import Surface, create_app
from admin_ui.services import Services
from admin_ui.settings import Mode
from tests.fakes.clock import FrozenClock
from tests.fakes.services import open_services

PAGES = ("/privacy", "/privacy/contact", "/privacy/accessibility")


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.mark.parametrize("path", [*PAGES, "/privacy/nothing"])
def test_no_script_no_frame_no_cookie_no_trace(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "script" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert "<script" not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_pages_speak_the_visitors_language(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers={"Accept-Language": "de-CH, en;q=0.5"})
    assert answer.headers["Content-Language"] == "de"
    assert '<html lang="de" dir="ltr">' in answer.text
    assert "Accept-Language" in answer.headers["Vary"]
    chosen = client.get(f"{path}?lang=es", headers={"Accept-Language": "de"}).text
    assert '<html lang="es" dir="ltr">' in chosen
    assert 'href="/privacy?lang=es"' in chosen


@pytest.mark.parametrize("lang", ["xx", '"><script>alert(1)</script>', "de\0", "ar-XB\n", "%F0"])
def test_a_language_that_is_none_is_no_language(client: FlaskClient, lang: str) -> None:
    answer = client.get("/privacy", query_string={"lang": lang})
    assert answer.status_code == 200
    assert '<html lang="en" dir="ltr">' in answer.text
    assert "alert" not in answer.text


def test_what_is_not_there_is_said_in_the_visitors_language(client: FlaskClient) -> None:
    answer = client.get("/privacy/nothing?lang=fr")
    assert answer.status_code == 404
    assert '<html lang="fr"' in answer.text
    assert client.post("/privacy").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert "Privacy centre" not in client.get("/nothing").text


def test_the_test_language_is_not_offered_in_production(
    migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    with open_services(migrated_url, tmp_path, clock) as services:
        shown = create_app(services).test_client().get("/privacy?lang=ar-XB").text
        assert '<html lang="ar-XB" dir="rtl">' in shown
        assert "This is a test language" in shown
        settings = replace(services.settings, mode=Mode.PRODUCTION)
        production = create_app(replace(services, settings=settings)).test_client()
        shown = production.get("/privacy?lang=ar-XB").text
        assert '<html lang="en"' in shown
        assert "ar-XB" not in shown


def test_the_centre_may_be_deployed_alone(services: Services) -> None:
    client = create_app(services, [Surface.PRIVACY_CENTRE]).test_client()
    assert client.get("/privacy").status_code == 200
    assert client.get("/").status_code == 404
    assert client.get("/admin").status_code == 404
    assert client.get("/v1/consent/check").status_code == 404


@pytest.mark.parametrize(("proxies", "codes"), [(0, 10), (1, 12)])
def test_limits_are_the_visitors_behind_as_many_proxies_as_are_set(
    migrated_url: str, tmp_path: Path, clock: FrozenClock, proxies: int, codes: int
) -> None:
    with open_services(migrated_url, tmp_path, clock) as services:
        settings = replace(services.settings, proxies=proxies)
        client = create_app(replace(services, settings=settings)).test_client()
        given = 0
        for number in range(12):
            answer = client.post(
                "/privacy/code",
                data={"contact": f"person{number}@example.com"},
                headers={"X-Forwarded-For": f"198.51.100.{number}"},
            )
            given += answer.status_code == 303
        # Whoever is not behind a proxy that we know cannot pretend to be many.
        assert given == codes

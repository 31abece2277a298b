"""The way in and out: set-up, login, logout, expiry, forged forms."""

from datetime import timedelta
from typing import Any

from policies.permissions import Role
from tests.fakes.console import PASSWORD, Console

ADA: dict[str, Any] = {
    "login": "Ada@Example.com",
    "display_name": "Ada Abel",
    "password": PASSWORD,
    "repeated": PASSWORD,
    "time_zone": "America/New_York",
}


def set_up_path(console: Console) -> str:
    link = console.services.setup_link()
    assert link is not None
    return link.removeprefix(console.services.settings.url)


def test_the_link_makes_one_account_and_logs_it_in(new_console: Console) -> None:
    path = set_up_path(new_console)
    visitor = new_console.visitor()
    assert 'autocomplete="new-password"' in visitor.get(path)
    visitor.send(path, **ADA)
    page = visitor.get("/admin")
    assert "Ada Abel" in page
    assert "officer" in page
    # The zone that was chosen is the one of every page from now on.
    assert "America/New_York" in page
    new_console.visitor().get(path, status=410)
    assert new_console.services.setup_link() is None


def test_what_is_wrong_with_the_first_account_is_said_at_its_field(new_console: Console) -> None:
    path = set_up_path(new_console)
    visitor = new_console.visitor()
    for wrong, sentence in (
        ({"password": "short", "repeated": "short"}, "at least 12 characters"),
        ({"repeated": "another-long-one"}, "The two passwords differ"),
        ({"login": "a b"}, "no spaces"),
        ({"display_name": " "}, "display name"),
        ({"time_zone": "Mars/Olympus"}, "Choose a time zone"),
    ):
        visitor.get(path)
        answer = visitor.send(path, status=422, **{**ADA, **wrong})
        assert sentence in answer.text, wrong
        assert 'aria-invalid="true"' in answer.text
        assert "short" not in answer.text.replace("shortcut", "")
    visitor.get(path)
    visitor.send(path, **ADA)


def test_the_link_is_not_told_to_other_pages(new_console: Console) -> None:
    answer = new_console.app.test_client().get(set_up_path(new_console))
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_wrong_password_says_neither_which_part_is_wrong_nor_lets_in(console: Console) -> None:
    console.account("ada", {Role.OFFICER})
    visitor = console.visitor()
    texts = set()
    for login in ("ada", "nobody"):
        visitor.get("/login")
        answer = visitor.send("/login", status=401, login=login, password="wrong-horse-battery")
        texts.add(answer.text.split('role="alert"')[1].split("</form>")[0].replace(login, ""))
        assert "wrong-horse" not in answer.text
    visitor.get("/admin", status=302)
    assert len({text.split("<input")[0] for text in texts}) == 1


def test_logging_out_ends_the_session_for_good(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    cookie = visitor.client.get_cookie("tutela_session")
    assert cookie is not None
    assert cookie.http_only
    assert cookie.same_site == "Lax"
    visitor.get("/admin")
    visitor.send("/logout")
    visitor.get("/admin", status=302)
    visitor.client.set_cookie("tutela_session", cookie.value)
    visitor.get("/admin", status=302)


def test_after_a_session_has_expired_login_leads_back(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    page = visitor.get("/admin/consent?channel=email")
    assert "Alice" not in page
    console.clock.advance(timedelta(minutes=31))
    answer = visitor.client.get("/admin/consent?channel=email")
    assert answer.status_code == 302
    login = visitor.get(answer.headers["Location"])
    assert "session has ended" in login
    answer = visitor.send(
        "/login", login="officer", password=PASSWORD, next="/admin/consent?channel=email"
    )
    assert answer.headers["Location"] == "/admin/consent?channel=email"


def test_what_is_sent_after_expiry_is_not_saved_and_the_page_says_so(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    visitor.get("/admin")
    console.clock.advance(timedelta(minutes=31))
    answer = visitor.send("/admin/preferences", status=401, theme="dark")
    assert "was not saved" in answer.text


def test_login_sends_nobody_to_another_site(console: Console) -> None:
    console.account("ada", {Role.OFFICER})
    for elsewhere in (
        "https://evil.example/",
        "//evil.example/admin",
        "/\\evil.example",
        "/log/checkpoint",
        "/admin.evil",
    ):
        visitor = console.visitor()
        visitor.get("/login")
        answer = visitor.send("/login", login="ada", password=PASSWORD, next=elsewhere)
        assert answer.headers["Location"] == "/admin", elsewhere


def test_a_form_without_its_token_is_refused_and_explained(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    answer = visitor.client.post("/logout")
    assert answer.status_code == 400
    assert "This form can no longer be sent" in answer.text
    assert "Nothing was saved." in answer.text
    visitor.get("/admin")


def test_choices_about_pages_stay_with_the_account(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    assert "data-bs-theme" not in visitor.get("/admin")
    visitor.send("/admin/preferences", theme="dark", back="/admin/consent?channel=email")
    visitor.get("/admin")
    visitor.send("/admin/preferences", density="comfortable", keys="off", back="//evil.example")
    for page in (visitor.get("/admin"), console.staff(Role.OFFICER).get("/admin")):
        assert 'data-bs-theme="dark"' in page
        assert 'data-density="comfortable"' in page
        assert 'data-keys="off"' in page
    assert "data-bs-theme" not in console.staff(Role.AUDITOR).get("/admin")
    visitor.send("/logout")
    # The login page of this browser does not dazzle.
    assert 'data-bs-theme="dark"' in visitor.get("/login")


def test_preferences_take_no_other_words(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    visitor.get("/admin")
    visitor.send("/admin/preferences", theme='"><script>', admin="true")
    assert "data-bs-theme" not in visitor.get("/admin")


def test_error_pages_say_what_happened_what_did_not_and_who_can_help(console: Console) -> None:
    visitor = console.staff(Role.AGENT)
    for path, status in (
        ("/admin/nothing", 404),
        ("/admin/consent/people/short", 404),
        (f"/admin/consent/people/{'a' * 26}", 404),
        ("/admin/ledger", 403),
        ("/admin/api-keys", 403),
        ("/logout", 405),
        ("/setup/wrong", 410),
    ):
        page = visitor.get(path, status=status)
        for part in ("What happened", "What did not", "Who can help", "Reference"):
            assert part in page, path
        assert "Traceback" not in page
    visitor.get("/admin")
    answer = visitor.client.post("/logout", data={"csrf_token": "x" * 100_000})
    assert answer.status_code == 413
    assert "larger than this page accepts" in answer.text

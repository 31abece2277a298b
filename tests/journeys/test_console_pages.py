"""Every page of the console in a real browser: accessible, within its policy, without a script."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import update

from admin_ui.verification import verify_now
from consent.models import event
from governance.audit.trail import CLI
from policies.permissions import Permission, Role
from policies.vocabulary import ChoiceState
from tests.fakes.console import ADDRESS, ALICE, ALICE_PHONE, BOB, PASSWORD, Console
from tests.fakes.outbound import fill_outbound, webhook_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Shown = tuple[Console, str]

AXE: Final = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
EVERYTHING: Final = (Role.OFFICER, Role.ADMIN)
MALLORY: Final = "mallory@example.com"


@pytest.fixture(scope="module")
def site(shown: Shown) -> Shown:
    """The console with something on every page: a forged event, keys, a finished verification."""
    console, _ = shown
    console.account("everything", EVERYTHING)
    console.account("agent", [Role.AGENT])
    console.say(MALLORY, ChoiceState.REFUSED)
    with console.services.database.begin() as session:
        session.execute(
            update(event)
            .where(event.c.subject_ref == console.people[MALLORY])
            .values(state="granted")
        )
    keys = [
        console.services.api_keys.create(name=name, scopes={Permission.CONSENT_CHECK}, actor=CLI)
        for name in ("web shop", "old shop")
    ]
    console.services.api_keys.revoke(keys[1].id, actor=CLI)
    verify_now(console.services, CLI)
    fill_outbound(console)
    return shown


@contextmanager
def visiting(
    browser: "Browser", site: Shown, login: str = "everything", **options: Any
) -> Iterator["Page"]:
    """A page of a new browser, logged in."""
    context = browser.new_context(base_url=site[1], **options)
    try:
        page = context.new_page()
        enter(page, login)
        yield page
    finally:
        context.close()


def enter(page: "Page", login: str = "everything") -> None:
    page.goto("/login")
    page.fill("#login", login)
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.wait_for_url("**/admin")


def pages(site: Shown) -> dict[str, Callable[["Page"], Any]]:
    """Each page by name, and how to get there."""
    console, _ = site
    alice, mallory = console.page_of(ALICE), console.page_of(MALLORY)

    def at(path: str) -> Callable[["Page"], Any]:
        return lambda page: page.goto(path)

    def opened(page: "Page") -> None:
        page.goto(alice)
        for summary in page.locator(".history summary").all():
            summary.click()

    def menu(page: "Page") -> None:
        page.goto("/admin")
        page.click("details.menu summary")

    def help_dialog(page: "Page") -> None:
        page.goto("/admin")
        page.keyboard.press("?")

    def nobody(page: "Page") -> None:
        page.goto("/admin")
        page.fill("#find", "carol@example.com")
        page.press("#find", "Enter")
        page.wait_for_selector("text=Nobody found")

    def refused(page: "Page") -> None:
        page.goto(f"{alice}/record?state=granted&purpose=newsletter&channel=email")
        page.click("main button")
        page.wait_for_selector("#problems")

    def revoke(page: "Page") -> None:
        page.goto("/admin/api-keys")
        page.click("text=Revoke")
        page.wait_for_url("**/revoke")

    def wrong_webhook(page: "Page") -> None:
        page.goto("/admin/webhooks/new")
        page.fill("#name", "elsewhere")
        page.fill("#url", "https://elsewhere.example.com/")
        page.check("#fields-6")
        page.click("main button")
        page.wait_for_selector("#problems")

    def tested(page: "Page") -> None:
        page.goto("/admin/webhooks/" + webhook_of(console, "shop"))
        page.click("text=Send a test event")
        page.wait_for_selector(".note-failed")

    def mail(page: "Page") -> None:
        page.goto("/admin/mail")
        page.click("table a:text('Open')")
        page.wait_for_selector("text=As its reader would see it")

    return {
        "today": at("/admin"),
        "menu": menu,
        "help": help_dialog,
        "explorer": at("/admin/consent"),
        "explorer, none": at("/admin/consent?channel=sms&effective=wrong"),
        "nobody": nobody,
        "person": opened,
        "person, as of": at(f"{alice}?as_of=2026-02-01T12:00"),
        "person, mismatch": at(mallory),
        "record": at(f"{alice}/record"),
        "record, refused": refused,
        "purposes": at("/admin/purposes"),
        "notice": at("/admin/purposes/privacy"),
        "notice version": at("/admin/purposes/privacy/versions/3"),
        "new notice": at("/admin/purposes/new"),
        "ledger": at("/admin/ledger"),
        "docs": at("/docs"),
        "api keys": at("/admin/api-keys"),
        "new api key": at("/admin/api-keys/new"),
        "revoke": revoke,
        "webhooks": at("/admin/webhooks"),
        "webhook": at("/admin/webhooks/" + webhook_of(console, "newsletter tool")),
        "webhook, failing": at("/admin/webhooks/" + webhook_of(console, "shop")),
        "new webhook": at("/admin/webhooks/new"),
        "new webhook, refused": wrong_webhook,
        "webhook, tested": tested,
        "change secret": at(f"/admin/webhooks/{webhook_of(console, 'shop')}/secret"),
        "replay": at(f"/admin/webhooks/{webhook_of(console, 'shop')}/replay"),
        "remove webhook": at(f"/admin/webhooks/{webhook_of(console, 'shop')}/remove"),
        "mails": at("/admin/mail"),
        "mail": mail,
        "test mail": at("/admin/mail/test"),
        "jobs": at("/admin/jobs"),
        "shortcuts": at("/admin/shortcuts"),
        "not found": at("/admin/nothing"),
    }


def violations(page: "Page") -> list[str]:
    """What axe finds against WCAG 2.2 A and AA."""
    # After a press, the old page goes first and the style sheets of the new one come later.
    page.wait_for_load_state()
    page.wait_for_function(
        "[...document.querySelectorAll('link[rel=stylesheet]')].every(one => one.sheet)"
    )
    page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    found = page.evaluate(
        """() => axe.run(document, {
            runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
            resultTypes: ["violations"],
            preload: false,
        })"""
    )
    return [
        f"{one['id']}: {node['html'][:150]}: {node['failureSummary'][:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


# --- accessible --------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page(browser: "Browser", site: Shown, look: str) -> None:
    found: dict[str, list[str]] = {}
    with visiting(browser, site, **LOOKS[look]) as page:
        for name, go in pages(site).items():
            go(page)
            if wrong := violations(page):
                found[name] = wrong
        page.goto("/admin/api-keys/new")
        page.fill("#name", "shop")
        page.check("#scope-1")
        page.click("main button")
        page.wait_for_selector("#key")
        found |= {"key made": wrong} if (wrong := violations(page)) else {}
        page.context.clear_cookies()
        page.goto("/login?next=/admin/jobs")
        found |= {"login": wrong} if (wrong := violations(page)) else {}
    assert found == {}


def test_set_up_is_accessible(browser: "Browser", new_console: Console) -> None:
    from tests.fakes.console import serving

    link = new_console.services.setup_link()
    assert link is not None
    path = link.removeprefix(new_console.services.settings.url)
    with serving(new_console) as address:
        for look in LOOKS.values():
            context = browser.new_context(base_url=address, **look)
            page = context.new_page()
            page.goto(path)
            assert violations(page) == []
            context.close()


def test_nothing_is_cut_off_at_the_side(browser: "Browser", site: Shown) -> None:
    wide = []
    with visiting(browser, site, viewport={"width": 1280, "height": 800}) as page:
        for name, go in pages(site).items():
            page.set_viewport_size({"width": 1280, "height": 800})
            go(page)
            # The narrowest is a desktop at 400 % (WCAG 1.4.10).
            for width in (1280, 768, 320):
                page.set_viewport_size({"width": width, "height": 800})
                if page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
                    wide.append((name, width))
    assert wide == []


def test_the_chosen_theme_wins_over_the_system(browser: "Browser", site: Shown) -> None:
    def background(page: "Page") -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with visiting(browser, site, login="agent", color_scheme="dark") as page:
        dark = background(page)
        page.click("details.menu summary")
        page.click("text=Light")
        page.wait_for_selector("html[data-bs-theme=light]", state="attached")
        light = background(page)
        assert light != dark
        page.emulate_media(media="print")
        assert background(page) == "rgb(255, 255, 255)"
        page.emulate_media(media="screen")
        page.click("details.menu summary")
        page.click("text=System")
        page.wait_for_selector("html:not([data-bs-theme])", state="attached")
        assert background(page) == dark


# --- within the policy -------------------------------------------------------------------------


def test_no_page_breaks_the_content_security_policy(browser: "Browser", site: Shown) -> None:
    said: list[str] = []
    with visiting(browser, site) as page:
        page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
        for go in pages(site).values():
            go(page)
        page.goto("/admin/consent")
        page.select_option("#channel", "sms")
        page.wait_for_url("**channel=sms**")
    # A page that answers 404 or 422 is told of in the browser's log, too.
    assert [line for line in said if "Failed to load resource" not in line] == []


def test_every_link_of_the_console_leads_somewhere(browser: "Browser", site: Shown) -> None:
    with visiting(browser, site) as page:
        waiting, seen = ["/admin"], {"/admin"}
        while waiting:
            answer = page.request.get(waiting.pop())
            assert answer.status == 200, answer.url
            if "text/html" not in answer.headers["content-type"]:
                continue
            for link in re.findall(r'<a [^>]*href="([^"#]+)', answer.text()):
                path = link.replace("&amp;", "&")
                if path not in seen:
                    seen.add(path)
                    waiting.append(path)
        assert {"/admin/consent", "/admin/ledger", "/admin/jobs", "/admin/api-keys"} <= seen
        assert any(path.endswith("/proof") for path in seen)


def test_no_page_holds_an_identifier_in_its_source(browser: "Browser", site: Shown) -> None:
    with visiting(browser, site) as page:
        for name, go in pages(site).items():
            go(page)
            source = page.content()
            for secret in (ALICE, ALICE_PHONE, BOB, ADDRESS, "carol@"):
                assert secret not in source, name
            assert "@" not in page.url, name
            # A demo says on every page that it is one.
            assert page.locator("aside.demo").is_visible(), name


# --- without a script --------------------------------------------------------------------------


def test_a_withdrawal_works_without_javascript(browser: "Browser", site: Shown) -> None:
    console, _ = site
    person = "noscript@example.com"
    console.say(person, ChoiceState.GRANTED)
    with visiting(browser, site, login="agent", java_script_enabled=False) as page:
        page.goto("/admin/consent")
        page.select_option("#stored", "granted")
        page.click("text=Show")
        page.wait_for_url("**stored=granted**")
        page.fill("#find", person)
        page.press("#find", "Enter")
        page.wait_for_url(f"**{console.page_of(person)}")
        page.click('a:text("Withdraw")')
        page.fill("#note", "On the phone.")
        page.click("main button")
        page.wait_for_selector("#done")
        assert "stopped at" in page.inner_text("#done")
        # The event that was just recorded is open, and native details need no script.
        assert page.locator(".history details[open]").count() == 1
        page.locator(".history summary").last.click()
        assert page.locator(".history details[open]").count() == 2
        page.fill("#as_of", "2026-01-01T12:00")
        page.click(".card-head button")
        page.wait_for_selector("#applies:has-text('What applied on')")
        page.click("details.menu summary")
        page.click("text=Dark")
        page.wait_for_selector("html[data-bs-theme=dark]", state="attached")
        page.click("details.menu summary")
        page.click("text=System")


# --- with htmx ---------------------------------------------------------------------------------


def test_filters_apply_at_once_and_stay_in_the_address(browser: "Browser", site: Shown) -> None:
    with visiting(browser, site) as page:
        page.goto("/admin/consent")
        page.evaluate("window.untouched = true")
        page.select_option("#stored", "refused")
        page.wait_for_url("**stored=refused**")
        page.wait_for_function("document.querySelectorAll('#found [data-row]').length < 3")
        assert page.evaluate("window.untouched")
        page.reload()
        assert page.input_value("#stored") == "refused"


def test_an_ended_session_brings_the_login_page_not_a_piece_of_it(
    browser: "Browser", site: Shown
) -> None:
    with visiting(browser, site) as page:
        page.goto("/admin/consent")
        page.context.clear_cookies(name="tutela_session")
        page.select_option("#stored", "refused")
        page.wait_for_url("**/login?next=**")
        assert page.is_visible("#password")


# --- by keyboard -------------------------------------------------------------------------------


def tab_through(page: "Page") -> list[str]:
    """Each element that Tab reaches, from the top; every one must show that it has the focus."""
    page.evaluate("document.activeElement.blur()")
    reached: list[str] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        html, shown, before = page.evaluate(
            """() => {
                const active = document.activeElement;
                if (active === document.body) return [null, true, true];
                const style = getComputedStyle(active);
                const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                const before = "reached" in active.dataset;
                active.dataset.reached = "yes";
                return [active.outerHTML.slice(0, 120), shown, before];
            }"""
        )
        if html is None or (before and html != reached[-1]):
            return reached
        assert shown, f"the focus does not show on {html}"
        # A date has several parts, and so takes several keys.
        reached += [] if before else [html]
    raise AssertionError("Tab does not come to an end")


def test_tab_reaches_everything_and_shows_where_it_is(browser: "Browser", site: Shown) -> None:
    console, _ = site
    for path in ("/admin", "/admin/consent", console.page_of(ALICE), "/admin/api-keys/new"):
        with visiting(browser, site) as page:
            page.goto(path)
            reached = tab_through(page)
            assert 'class="skip"' in reached[0]
            missed = page.evaluate(
                """() => [...document.querySelectorAll("a[href], button, input, select, summary")]
                    .filter((one) => one.checkVisibility() && !("reached" in one.dataset)
                        && one.tabIndex >= 0 && one.type !== "hidden" && one.type !== "radio")
                    .map((one) => one.outerHTML.slice(0, 120))"""
            )
            assert missed == [], path


def test_an_officer_needs_no_mouse(browser: "Browser", site: Shown) -> None:
    console, _ = site
    person = "keyboard@example.com"
    console.say(person, ChoiceState.GRANTED)
    with visiting(browser, site) as page:
        press = page.keyboard.press
        press("Tab")
        press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        press("g")
        press("c")
        page.wait_for_url("**/admin/consent")
        press("j")
        press("j")
        press("k")
        press("Enter")
        page.wait_for_url(f"**{console.page_of(person)}")
        press("t")
        assert page.evaluate("document.activeElement.id") == "as_of"
        press("Escape")
        press("?")
        assert page.locator("dialog.help").is_visible()
        press("Escape")
        assert not page.locator("dialog.help").is_visible()
        press("/")
        page.keyboard.type(ALICE)
        press("Enter")
        page.wait_for_url(f"**{console.page_of(ALICE)}")
        press("j")
        press("Enter")
        assert page.locator(".history details[open]").count() == 1


def test_single_keys_can_be_switched_off(browser: "Browser", site: Shown) -> None:
    with visiting(browser, site, login="agent") as page:
        page.click("details.menu summary")
        page.locator('button[name="keys"][value="off"]').click()
        page.wait_for_selector('body[data-keys="off"]', state="attached")
        page.keyboard.press("?")
        page.keyboard.press("/")
        assert not page.locator("dialog.help").is_visible()
        assert page.evaluate("document.activeElement.id") != "find"
        page.click("details.menu summary")
        page.locator('button[name="keys"][value="on"]').click()
        page.wait_for_selector('body[data-keys="on"]', state="attached")
        # A letter with a modifier is the browser's.
        page.keyboard.press("Control+/")
        assert page.evaluate("document.activeElement.id") != "find"


# --- by role -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "sections"),
    [
        (Role.OFFICER, ["Today", "Consent", "Purposes", "Ledger", "Webhooks", "Mail", "Jobs"]),
        (Role.AGENT, ["Today", "Consent", "Purposes"]),
        (Role.AUDITOR, ["Today", "Consent", "Purposes", "Ledger", "Webhooks", "Mail", "Jobs"]),
        (Role.ENGINEER, ["Today", "Purposes", "Ledger", "Webhooks", "Mail", "Jobs"]),
        (
            Role.DEVELOPER,
            ["Today", "Purposes", "Ledger", "API keys", "Webhooks", "Mail", "Jobs"],
        ),
        (Role.ADMIN, ["Today", "Purposes", "Ledger", "API keys", "Webhooks", "Mail", "Jobs"]),
    ],
)
def test_a_role_sees_what_it_can_use_and_nothing_else(
    site: Shown, role: Role, sections: list[str]
) -> None:
    visitor = site[0].staff(role)
    nav = visitor.get("/admin").split("<nav")[1].split("</nav>")[0]
    assert re.findall(r"</svg>([A-Z][\w ]+)</a>|\">([A-Z][\w ]+)</a>", nav) == [
        (name, "") if name in {"Today", "Consent", "Purposes"} else ("", name) for name in sections
    ]
    for path in re.findall(r'<a href="([^"]+)"', nav):
        page = visitor.get(path)
        if role in {Role.ENGINEER, Role.DEVELOPER, Role.ADMIN}:
            assert "•••" not in page
            assert "Find a person" not in page

"""Every page of the privacy centre in a real browser: accessible, light, without a script."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from admin_ui.privacy_centre.language import TAGS, TEST_TAG
from policies.vocabulary import ChoiceState
from tests.fakes.axe import violations
from tests.fakes.centre import Centre
from tests.fakes.console import ALICE, Console

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

Shown = tuple[Console, str]

DESK: Final = {"width": 1280, "height": 900}
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    "small, dark": {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
}
FIRST_LOAD: Final = 60 * 1024
"""Bytes, with everything that the page asks for."""
NEWS: Final = "marketing_information/email"


@contextmanager
def visiting(browser: "Browser", site: Shown, **options: Any) -> Iterator["Page"]:
    """A page of a new browser, with the present of the service."""
    context = browser.new_context(base_url=site[1], **options)
    try:
        yield context.new_page()
    finally:
        context.close()


def pages(site: Shown, lang: str) -> dict[str, Callable[["Page"], Any]]:
    """Each page by name, and how to get there. They are gone through in this order."""
    centre = Centre(site[0])
    link = f"/privacy/choices/{centre.token(ALICE)}"

    def at(path: str) -> Callable[["Page"], Any]:
        return lambda page: page.goto(f"{path}{'&' if '?' in path else '?'}lang={lang}")

    def changed(page: "Page") -> None:
        site[0].clock.advance(timedelta(minutes=1))
        at(link)(page)
        page.click(f'button[name="no"][value="{NEWS}"]')
        page.wait_for_selector("#done")
        site[0].clock.advance(timedelta(minutes=1))

    def undone(page: "Page") -> None:
        page.click("#done button")
        page.wait_for_url("**undone=**")

    def opened(page: "Page") -> None:
        at(link)(page)
        page.click("summary")

    def asked(page: "Page") -> None:
        at("/privacy/choices")(page)
        # Codes are limited by contact and by caller, and all tests call from here.
        site[0].clock.advance(timedelta(minutes=15))
        page.fill("#contact", f"somebody-{lang.lower()}@example.com")
        page.click("main button")
        page.wait_for_selector("#code")

    def wrong(page: "Page") -> None:
        page.fill("#code", "1234 5678")
        page.click("main button")
        page.wait_for_selector("#code-wrong")

    return {
        "home": at("/privacy"),
        "choices": opened,
        "changed": changed,
        "undone": undone,
        "ask": at("/privacy/choices"),
        "code": asked,
        "wrong code": wrong,
        "gone": at("/privacy/choices/nothing"),
        "notices": at("/privacy/notices"),
        "notice": at("/privacy/notices/privacy/3/en"),
        "contact": at("/privacy/contact"),
        "accessibility": at("/privacy/accessibility"),
        "not found": at("/privacy/nothing"),
    }


# --- accessible --------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("lang", ["en", TEST_TAG])
def test_axe_finds_nothing_on_any_page(
    browser: "Browser", shown: Shown, look: str, lang: str
) -> None:
    found: dict[str, list[str]] = {}
    # axe needs a script; the pages themselves forbid all.
    with visiting(browser, shown, bypass_csp=True, **LOOKS[look]) as page:
        for name, go in pages(shown, lang).items():
            go(page)
            if wrong := violations(page):
                found[name] = wrong
    assert found == {}


def test_nothing_is_cut_off_in_any_language(browser: "Browser", shown: Shown) -> None:
    wide = []
    with visiting(browser, shown, bypass_csp=True) as page:
        for lang in (*TAGS, TEST_TAG):
            for name, go in pages(shown, lang).items():
                page.set_viewport_size({"width": 1280, "height": 800})
                go(page)
                # The narrowest is a desktop at 400 % (WCAG 1.4.10).
                for width in (1280, 768, 390, 320):
                    page.set_viewport_size({"width": width, "height": 800})
                    if page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
                        wide.append((lang, name, width))
    assert wide == []


def test_every_control_is_large_enough_to_touch(browser: "Browser", shown: Shown) -> None:
    small = []
    with visiting(browser, shown, bypass_csp=True, **LOOKS["phone"]) as page:
        for name, go in pages(shown, "en").items():
            go(page)
            page.wait_for_load_state()
            small += [
                (name, size)
                for size in page.evaluate(
                    """() => [...document.querySelectorAll("button, input:not([type=hidden]), "
                        + "summary, nav a, .ways a, .button, .foot li a")]
                        .map(one => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
                        .filter(([_, box]) => box.width && (box.height < 44 || box.width < 44))
                        .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""
                )
            ]
    assert small == []


def test_everything_is_reached_by_keyboard_and_shows_it(browser: "Browser", shown: Shown) -> None:
    link = f"/privacy/choices/{Centre(shown[0]).token(ALICE)}?lang=en"
    with visiting(browser, shown, bypass_csp=True, viewport=DESK) as page:
        page.goto(link)
        wanted = page.locator("a[href], button, summary").count()
        reached = 0
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            on, outlined = page.evaluate(
                """() => [document.activeElement !== document.body,
                    parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2]"""
            )
            if not on:
                break
            reached += 1
            assert outlined, page.evaluate("document.activeElement.outerHTML")
        assert reached == wanted
        # The first stop leads past the head of the page.
        page.goto(link)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('main') !== null")


def test_what_was_done_is_where_the_browser_goes(browser: "Browser", shown: Shown) -> None:
    shown[0].clock.advance(timedelta(minutes=1))
    with visiting(browser, shown, java_script_enabled=False, **LOOKS["phone"]) as page:
        page.goto(f"/privacy/choices/{Centre(shown[0]).token(ALICE)}?lang=en")
        page.click('button[name="no"][value="product_reviews/email"]')
        page.wait_for_selector("#done")
        assert page.url.endswith("#done")
        box = page.locator("#done").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 844


# --- within the policy, light, without a script -------------------------------------------------


def test_no_page_breaks_the_content_security_policy_or_calls_elsewhere(
    browser: "Browser", shown: Shown
) -> None:
    said: list[str] = []
    called: set[str] = set()
    with visiting(browser, shown) as page:
        page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
        page.on("request", lambda request: called.add(request.url))
        for lang in ("en", TEST_TAG):
            for go in pages(shown, lang).values():
                go(page)
        assert page.context.cookies() == []
    # A page that answers 404, 410 or 422 is told of in the browser's log, too.
    assert [line for line in said if "Failed to load resource" not in line] == []
    assert {url for url in called if not url.startswith(shown[1])} == set()
    assert not [url for url in called if url.endswith(".js")]


def _noting(into: list[str]) -> Callable[["Request"], None]:
    return lambda request: into.append(request.url)


@pytest.mark.parametrize("lang", [*TAGS, TEST_TAG])
def test_the_first_load_is_light(browser: "Browser", shown: Shown, lang: str) -> None:
    console, _ = shown
    busy = "busy@example.com"
    # As much as a page may have to show: every channel of every purpose.
    for rule in console.services.policies().purposes.values():
        for channel in rule.channels:
            if rule.legal_basis.yields_to_objection:
                console.say(busy, ChoiceState.REFUSED, purpose=rule.key, channel=channel.value)
    for path in ("/privacy", f"/privacy/choices/{Centre(console).token(busy)}"):
        asked: list[str] = []
        with visiting(browser, shown) as page:
            page.on("request", _noting(asked))
            page.goto(f"{path}?lang={lang}", wait_until="networkidle")
            sizes = {}
            for url in set(asked):
                answer = page.request.get(url)
                sizes[url] = len(answer.body()) + sum(
                    len(name) + len(value) + 4 for name, value in answer.headers.items()
                )
        assert len(sizes) in (2, 3)
        assert sum(sizes.values()) <= FIRST_LOAD, sizes


def test_a_person_stops_everything_from_a_link_without_a_script(
    browser: "Browser", shown: Shown
) -> None:
    console, _ = shown
    centre = Centre(console)
    person = "noscript@example.com"
    console.say(person, ChoiceState.GRANTED)
    console.clock.advance(timedelta(minutes=1))
    with visiting(browser, shown, java_script_enabled=False) as page:
        page.goto(f"/privacy/choices/{centre.token(person)}?lang=en")
        page.click("text=Stop all optional uses")
        page.wait_for_selector("#done")
        assert page.inner_text("#done").startswith("Done. We stopped all optional uses at ")
        assert centre.may(person) == "OBJECTED"
        console.clock.advance(timedelta(minutes=1))
        page.click("text=Undo")
        page.wait_for_url("**undone=**")
        assert centre.may(person) == "RENEWED"


def test_a_person_gets_in_by_code_without_a_script(browser: "Browser", shown: Shown) -> None:
    console, _ = shown
    centre = Centre(console)
    person = "bycode@example.com"
    console.say(person, ChoiceState.GRANTED)
    with visiting(browser, shown, java_script_enabled=False, locale="de-DE") as page:
        page.goto("/privacy")
        page.click("text=Ihre Entscheidungen sehen und ändern")
        page.fill("#contact", person)
        page.click("main button")
        page.wait_for_selector("#code")
        page.fill("#code", centre.code_for(person))
        page.click("text=Meine Entscheidungen zeigen")
        page.wait_for_selector("text=Alles auf einmal")
        assert page.url.endswith("/privacy/choices")
        console.clock.advance(timedelta(minutes=1))
        page.click(f'button[name="no"][value="{NEWS}"]')
        page.wait_for_selector("#done")
        assert centre.may(person) == "WITHDRAWN"
        page.click("text=Fertig: diesen Besuch schließen")
        page.wait_for_url("**/privacy")
        page.goto("/privacy/choices")
        assert page.is_visible("#contact")


def test_every_link_leads_somewhere_and_nothing_is_deeper_than_two_steps(
    browser: "Browser", shown: Shown
) -> None:
    with visiting(browser, shown) as page:
        depth, waiting = {"/privacy": 0}, ["/privacy"]
        while waiting:
            here = waiting.pop(0)
            answer = page.request.get(here)
            assert answer.status == 200, answer.url
            for found in re.findall(r'<a [^>]*href="(/[^"#]+)', answer.text()):
                path = found.replace("&amp;", "&").partition("?")[0]
                if path not in depth:
                    depth[path] = depth[here] + 1
                    waiting.append(path)
    assert max(depth.values()) <= 2
    assert {"/privacy/choices", "/privacy/notices", "/privacy/contact"} <= depth.keys()

"""Fairness, measured: what fails here steers, obstructs or leaves people in the dark.

The categories are those of EDPB guidelines 03/2022 (version 2.0); the measures are stricter than
California's symmetry of choice (11 CCR 7004(a)(2)) and CNIL's "as simple to refuse as to accept":
a Yes and a No are the same box in the same colours, one after the other, in every language.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from admin_ui.privacy_centre.language import TAGS, TEST_TAG
from policies.vocabulary import ChoiceState
from tests.fakes.centre import Centre
from tests.fakes.console import BOB, Console

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Shown = tuple[Console, str]

ALL_TAGS: Final = (*TAGS, TEST_TAG)
NEWS: Final = "marketing_information/email"
REVIEWS: Final = "product_reviews/email"
FRESH: Final = "fresh@example.com"

# What the eye, the finger and the keyboard meet of a button.
MEASURE: Final = """one => {
    const style = getComputedStyle(one), box = one.getBoundingClientRect();
    const names = ["fontSize", "fontWeight", "fontFamily", "fontStyle", "textTransform", "opacity",
        "letterSpacing", "textDecorationLine", "color", "backgroundColor", "backgroundImage",
        "borderTopColor", "borderTopWidth", "borderTopStyle", "borderRadius", "boxShadow",
        "paddingTop", "paddingBottom", "cursor", "visibility", "outlineStyle", "transform"];
    return {
        width: Math.round(box.width * 4) / 4, height: Math.round(box.height * 4) / 4,
        top: Math.round(box.top), tag: one.tagName, type: one.type, tab: one.tabIndex,
        disabled: one.disabled, ...Object.fromEntries(names.map(name => [name, style[name]])),
    };
}"""


@pytest.fixture(scope="module")
def site(shown: Shown) -> Shown:
    """The centre, with somebody who has said nothing but that they want no calls."""
    shown[0].say(FRESH, ChoiceState.REFUSED, channel="phone")
    return shown


@contextmanager
def open_page(
    browser: "Browser", site: Shown, who: str, lang: str = "en", **options: Any
) -> Iterator["Page"]:
    """Somebody's choices by link, without a script."""
    context = browser.new_context(base_url=site[1], **options)
    try:
        page = context.new_page()
        page.goto(f"/privacy/choices/{Centre(site[0]).token(who)}?lang={lang}")
        yield page
    finally:
        context.close()


def pairs(page: "Page") -> list[tuple[dict[str, Any], dict[str, Any], Any, Any]]:
    """Each Yes and No that stand together: how they look, and whether they stand."""
    found = []
    for group in page.locator(".answer, .all").all():
        one, other = group.locator("button").all()
        looks = one.evaluate(MEASURE), other.evaluate(MEASURE)
        found.append(
            (*looks, one.get_attribute("aria-pressed"), other.get_attribute("aria-pressed"))
        )
    return found


# --- skipping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ALL_TAGS)
def test_nothing_is_chosen_in_advance(browser: "Browser", site: Shown, lang: str) -> None:
    with open_page(browser, site, FRESH, lang) as page:
        standing = page.locator('[aria-pressed="true"], :checked, [checked], [selected]')
        assert standing.count() == 1
        assert standing.get_attribute("value") == "marketing_information/phone"
        assert standing.get_attribute("name") == "no"
        assert page.locator("input:not([type=hidden]), select, textarea").count() == 0


# --- stirring ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("lang", ALL_TAGS)
def test_yes_and_no_are_equal_to_the_eye(
    browser: "Browser", site: Shown, lang: str, width: int, scheme: Any
) -> None:
    looks = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with open_page(browser, site, FRESH, lang, **looks) as page:
        measured = pairs(page)
        assert len(measured) > 10
        for yes, no, yes_stands, no_stands in measured:
            if yes_stands == no_stands:
                assert yes == no
        neutral = {str(sorted(yes.items())) for yes, _, on, off in measured[1:] if on == off}
        tops = re.compile(r"\('top', \d+\)")
        assert len({tops.sub("", one) for one in neutral}) == 1, "some stand out among the rest"


def test_a_yes_that_stands_looks_as_a_no_that_stands(browser: "Browser", site: Shown) -> None:
    person = "both@example.com"
    site[0].say(person, ChoiceState.GRANTED)
    site[0].say(person, ChoiceState.REFUSED, purpose="product_reviews")
    with open_page(browser, site, person) as page:
        yes = page.locator(f'button[name="yes"][value="{NEWS}"]').evaluate(MEASURE)
        no = page.locator(f'button[name="no"][value="{REVIEWS}"]').evaluate(MEASURE)
        other_no = page.locator(f'button[name="no"][value="{NEWS}"]').evaluate(MEASURE)
        other_yes = page.locator(f'button[name="yes"][value="{REVIEWS}"]').evaluate(MEASURE)
        for one in (yes, no, other_no, other_yes):
            del one["top"]
        assert yes == no
        assert other_no == other_yes


def test_only_what_leads_to_the_choices_stands_out(browser: "Browser", site: Shown) -> None:
    with open_page(browser, site, FRESH) as page:
        assert page.locator(".first").count() == 0


# --- obstructing -------------------------------------------------------------------------------


def test_a_no_takes_as_many_steps_as_a_yes_which_is_one(browser: "Browser", site: Shown) -> None:
    console, _ = site
    centre = Centre(console)
    for answer, reason in (("yes", "GRANTED"), ("no", "WITHDRAWN")):
        console.clock.advance(timedelta(minutes=1))
        with open_page(browser, site, BOB, java_script_enabled=False) as page:
            page.click(f'button[name="{answer}"][value="{NEWS}"]')
            page.wait_for_selector("#done")
            assert page.locator("dialog, [role=dialog], [role=alertdialog]").count() == 0
        assert centre.may(BOB) == reason
    for answer, reason in (("yes", "RENEWED"), ("no", "OBJECTED")):
        console.clock.advance(timedelta(minutes=1))
        with open_page(browser, site, BOB, java_script_enabled=False) as page:
            page.click(f'button[name="all"][value="{answer}"]')
            page.wait_for_selector("#done")
        assert centre.may(BOB) == reason


def test_no_is_one_tab_from_yes_and_never_further_from_the_top(
    browser: "Browser", site: Shown
) -> None:
    with open_page(browser, site, FRESH) as page:
        order = page.evaluate(
            """() => [...document.querySelectorAll("a[href], button, summary")]
                .filter(one => one.tabIndex >= 0)
                .map(one => `${one.name || ""}=${one.value || ""}`)"""
        )
    places = [one.removeprefix("yes=") for one in order if one.startswith("yes=")]
    assert len(places) > 10
    for place in places:
        assert order.index(f"no={place}") == order.index(f"yes={place}") + 1
    assert order.index("all=no") == order.index("all=yes") + 1


# --- fickle ------------------------------------------------------------------------------------


def test_order_and_form_are_the_same_in_every_language(browser: "Browser", site: Shown) -> None:
    orders, labels = {}, {}
    for lang in ALL_TAGS:
        with open_page(browser, site, FRESH, lang) as page:
            orders[lang] = page.evaluate(
                """() => [...document.querySelectorAll("main :is(h1, h2, h3, button, dl, table, "
                    + "ul, summary, a)")]
                    .map(one => [one.tagName, one.className, one.name, one.value])"""
            )
            labels[lang] = {
                name: set(page.locator(f".answer button[name={name}]").all_inner_texts())
                for name in ("yes", "no")
            }
    assert len({str(order) for order in orders.values()}) == 1
    # One word for each answer, on the whole page.
    assert {len(words) for by_name in labels.values() for words in by_name.values()} == {1}
    assert len({str(words) for words in labels.values()}) == len(ALL_TAGS)


# --- left in the dark --------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ALL_TAGS)
def test_who_and_what_and_how_to_take_it_back_stand_before_the_first_answer(
    browser: "Browser", site: Shown, lang: str
) -> None:
    with open_page(browser, site, FRESH, lang) as page:
        before = page.evaluate(
            """() => {
                const range = document.createRange();
                range.setStart(document.querySelector("main"), 0);
                range.setEndBefore(document.querySelector(".all"));
                return range.cloneContents().querySelectorAll("dd").length + " "
                    + range.toString();
            }"""
        )
        assert before.startswith("3 ")
        assert "Example Shop GmbH" in before
        assert " 60 " in before, "until when a message may still arrive"
        assert page.locator("main dd a[href*='/privacy/notices/privacy/3/']").count() == 1
        for row in page.locator(".rows > li, .matrix tbody tr").all():
            texts = [one.inner_text() for one in row.locator("h3, p").all()]
            assert all(texts)
            assert len(texts) >= 4, "name, description, basis, and what stands"


@pytest.mark.parametrize("lang", ALL_TAGS)
def test_words_are_marked_with_their_language(browser: "Browser", site: Shown, lang: str) -> None:
    with open_page(browser, site, FRESH, lang) as page:
        assert page.get_attribute("html", "lang") == lang
        foreign = page.locator("main [lang]").all()
        tags = {one.get_attribute("lang") for one in foreign}
        # The notice was published in English alone; the test language has no purposes of its own.
        assert tags == {"en"}
        assert (len(foreign) > 1) == (lang == TEST_TAG)


# --- overloading -------------------------------------------------------------------------------


def test_nobody_is_asked_anywhere_but_where_they_went_to_choose(
    browser: "Browser", site: Shown
) -> None:
    with open_page(browser, site, FRESH) as page:
        for path in ("", "/contact", "/notices", "/notices/privacy/3/en", "/accessibility"):
            page.goto(f"/privacy{path}?lang=en")
            assert page.locator("form, dialog, [role=dialog], [role=alert]").count() == 0

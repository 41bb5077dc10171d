"""The pages on which operators act, in a real browser, with the stages that execute the actions."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from support.browsing import NARROW
from support.events import event, order, paid, placed
from support.flow import Flow, own_flow

WIDE = ViewportSize(width=1280, height=800)
OUTCOME_MS = 20_000
"""For how long the result page may reload until every outcome is known."""
_RESULT = re.compile("/actions/")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with own_flow(tmp_path_factory.mktemp("actions")) as opened:
        yield opened


@pytest.fixture
def window(browser: Browser, shop: Flow) -> Iterator[BrowserContext]:
    """An ordinary window. Any error or warning of the browser fails the test, except responses with status 400."""
    context = browser.new_context(base_url=str(shop.query.base_url), viewport=WIDE)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None
    )
    yield context
    context.close()
    assert [each for each in complaints if "status of 400" not in each] == []


def placed_order(shop: Flow, name: str) -> str:
    order_id = shop.prefix + name
    shop.send(placed(order_id))
    shop.settle()
    return order_id


def parked_payment(shop: Flow, name: str) -> tuple[str, str]:
    """A placed order's id, and that of its payment of another amount, which is parked."""
    order_id = shop.prefix + name
    shop.send(placed(order_id), paid(order_id, amount=1))
    shop.until(lambda: bool(shop.parked(order_id)))
    return order_id, shop.parked(order_id)[0]["id"]


def confirm(shop: Flow, page: Page, button: str) -> None:
    """Presses the button and waits for the result page to have every outcome."""
    with shop.delivering():
        page.get_by_role("button", name=button).click()
        page.wait_for_url(_RESULT)
        expect(page.get_by_role("heading", level=1)).to_have_text("Result", timeout=OUTCOME_MS)


@pytest.mark.parametrize(
    ("verbs", "status", "says"),
    [
        (["Hold"], "held", "nothing is packed or shipped until it is released or cancelled"),
        (["Hold", "Release"], "accepted", "continues from where it was held"),
        (["Cancel"], "cancelled", "cannot be undone"),
    ],
)
def test_an_action_is_explained_and_needs_a_reason_before_it_is_done(
    window: BrowserContext, shop: Flow, verbs: list[str], status: str, says: str
) -> None:
    order_id = placed_order(shop, f"act-{'-'.join(verbs)}")
    page = window.new_page()
    for verb in verbs:
        page.goto(f"/orders/{order_id}")
        page.get_by_role("link", name=f"{verb} …").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{verb} order {order_id}?")
        page.get_by_role("button", name=verb).click()
        expect(page.get_by_label("Why")).to_be_focused()
        assert page.evaluate("document.querySelector('#reason').validity.valueMissing")
        page.get_by_label("Why").fill(f"{verb}: looks odd")
        page_text = page.locator("main").inner_text()
        confirm(shop, page, verb)
        expect(page.locator(".plan li")).to_contain_text("applied")
    assert says in page_text
    page.get_by_role("link", name="To the order").click()
    expect(page.locator(".states")).to_contain_text(status)
    expect(page.locator(".turn").last).to_contain_text(f"{verbs[-1]}: looks odd")
    assert shop.order(order_id)["status"] == status


def test_looking_at_every_question_and_doing_nothing_changes_nothing(
    window: BrowserContext, shop: Flow
) -> None:
    order_id, parked_id = parked_payment(shop, "nothing")
    page = window.new_page()
    for path in (
        *(f"/orders/{order_id}/{verb}" for verb in ("hold", "release", "cancel")),
        *(f"/parked/{parked_id}/{verb}" for verb in ("replay", "edit", "discard")),
    ):
        page.goto(path)
        page.get_by_role("link", name="Do nothing").click()
        page.wait_for_url(re.compile(f"/(orders/{order_id}|parked/{parked_id})$"))
    shop.settle()
    assert shop.order(order_id)["actions"] == []
    assert shop.parked(order_id)[0]["state"] == "open"


def test_an_action_that_an_order_no_longer_allows_is_not_offered_and_a_late_click_has_no_effect(
    window: BrowserContext, shop: Flow
) -> None:
    order_id = placed_order(shop, "late")
    page = window.new_page()
    page.goto(f"/orders/{order_id}/cancel")
    page.get_by_label("Why").fill("too late")
    shop.send(event("shipped", order_id))
    shop.settle()
    confirm(shop, page, "Cancel the order")
    expect(page.locator(".plan li")).to_contain_text("parked")
    page.get_by_role("link", name="To the order").click()
    expect(page.locator(".states").first).to_contain_text("shipped")
    expect(page.get_by_role("link", name="Cancel …")).to_have_count(0)


def test_a_parked_event_is_replayed_and_what_fails_again_is_open_again(
    window: BrowserContext, shop: Flow
) -> None:
    order_id, parked_id = parked_payment(shop, "replay")
    page = window.new_page()
    page.goto(f"/parked/{parked_id}")
    page.get_by_role("link", name="Replay …").click()
    expect(page.get_by_role("list", name="What will be replayed, in this order")).to_contain_text(
        f"paid of {order_id}"
    )
    expect(page.locator("main")).to_contain_text("An event that fails again is parked again.")
    confirm(shop, page, "Replay")
    expect(page.locator(".plan li")).to_contain_text("parked")
    page.get_by_role("link", name="the parked event", exact=True).click()
    expect(page.locator(".states")).to_contain_text("open")
    expect(page.get_by_role("heading", name="Actions")).to_be_visible()


def test_selected_events_are_replayed_in_the_order_in_which_they_happened(
    window: BrowserContext, shop: Flow
) -> None:
    order_id = shop.prefix + "ticked"
    shop.send(placed(order_id), paid(order_id, amount=1), event("packed", order_id))
    shop.settle()
    shop.send(event("refunded", order_id, {"amount": 7, "currency": "USD"}))
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    page = window.new_page()
    page.goto(f"/parked?state=open&order={order_id}")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Replay selected …").click()
    planned = page.get_by_role("list", name="What will be replayed, in this order").get_by_role("listitem")
    expect(planned).to_have_text([re.compile("^paid"), re.compile("^refunded")])
    confirm(shop, page, "Replay 2 events")
    expect(page.locator(".plan li")).to_have_count(2)


def test_a_replay_without_a_selected_event_is_refused(window: BrowserContext, shop: Flow) -> None:
    order_id, _ = parked_payment(shop, "unticked")
    page = window.new_page()
    page.goto(f"/parked?state=open&order={order_id}")
    page.get_by_role("button", name="Replay selected …").click()
    expect(page.locator("main")).to_contain_text("go back and select some events")


def test_an_event_is_edited_and_its_faults_are_shown_beside_the_edited_text(
    window: BrowserContext, shop: Flow
) -> None:
    order_id, parked_id = parked_payment(shop, "edit")
    page = window.new_page()
    page.goto(f"/parked/{parked_id}")
    page.get_by_role("link", name="Edit …").click()
    field = page.get_by_label("The event, as a producer would send it")
    written = json.loads(field.input_value())
    for text, trouble in (
        (json.dumps(written), "nothing was changed; replay it instead"),
        ("{no", "this is not JSON"),
        (json.dumps(written | {"data": written["data"] | {"amount": "much"}}), "data.amount"),
    ):
        field.fill(text)
        page.get_by_role("button", name="Send the edited event").click()
        expect(page.get_by_role("alert")).to_contain_text("Nothing was sent.")
        expect(page.get_by_role("alert")).to_contain_text(trouble)
        expect(field).to_have_value(text)
    written["data"]["amount"] = 2900
    field.fill(json.dumps(written, indent=2))
    page.get_by_label("Why").fill("a typing error")
    confirm(shop, page, "Send the edited event")
    expect(page.locator(".plan li")).to_contain_text("applied")
    assert shop.order(order_id)["payment"] == "paid"
    page.get_by_role("link", name="the parked event", exact=True).click()
    expect(page.locator("main")).to_contain_text("data.amount")
    expect(page.get_by_role("link", name="Edit …")).to_have_count(0)


def test_a_parked_event_is_discarded_for_a_reason_and_offers_nothing_any_more(
    window: BrowserContext, shop: Flow
) -> None:
    order_id, parked_id = parked_payment(shop, "discard")
    page = window.new_page()
    page.goto(f"/parked/{parked_id}")
    page.get_by_role("link", name="Discard …").click()
    expect(page.locator("main")).to_contain_text("This cannot be undone.")
    page.get_by_label("Why").fill("a test payment")
    confirm(shop, page, "Discard")
    expect(page.locator(".plan li")).to_contain_text("The event is closed, and kept")
    page.goto(f"/parked/{parked_id}")
    expect(page.locator(".states")).to_contain_text("discarded")
    expect(page.locator("main")).to_contain_text("a test payment")
    expect(page.get_by_role("link", name=re.compile("…"))).to_have_count(0)
    assert shop.parked(order_id)[0]["state"] == "discarded"


def test_a_double_click_acts_once(window: BrowserContext, shop: Flow) -> None:
    order_id = placed_order(shop, "twice")
    page = window.new_page()
    page.goto(f"/orders/{order_id}/hold")
    page.get_by_label("Why").fill("once")
    with shop.delivering():
        page.get_by_role("button", name="Hold").dblclick()
        expect(page.locator(".plan li")).to_contain_text("applied", timeout=OUTCOME_MS)
    shop.settle()
    assert [done["kind"] for done in shop.order(order_id)["actions"]] == ["held"]


def test_going_back_asks_anew_and_pressing_again_is_refused_as_too_late(
    window: BrowserContext, shop: Flow
) -> None:
    order_id = placed_order(shop, "back")
    page = window.new_page()
    page.goto(f"/orders/{order_id}/hold")
    for outcome in ("applied", "refused"):
        page.get_by_label("Why").fill("again")
        confirm(shop, page, "Hold")
        expect(page.locator(".plan li")).to_contain_text(outcome)
        page.go_back()
    assert [change["kind"] for change in shop.order(order_id)["history"]] == ["accepted", "held"]


def test_the_keyboard_alone_holds_an_order(window: BrowserContext, shop: Flow) -> None:
    order_id = placed_order(shop, "keys")
    page = window.new_page()
    page.goto(f"/orders/{order_id}")
    page.get_by_role("link", name="Hold …").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.type("by hand")
    with shop.delivering():
        page.keyboard.press("Enter")
        expect(page.locator(".plan li")).to_contain_text("applied", timeout=OUTCOME_MS)


def test_without_a_script_an_order_is_held_all_the_same(browser: Browser, shop: Flow) -> None:
    order_id = placed_order(shop, "no-script")
    with browser.new_context(base_url=str(shop.query.base_url), java_script_enabled=False) as without:
        page = without.new_page()
        page.goto(f"/orders/{order_id}/hold")
        page.get_by_label("Why").fill("no script")
        with shop.delivering():
            page.get_by_role("button", name="Hold").click()
            expect(page.locator(".plan li")).to_contain_text("applied", timeout=OUTCOME_MS)
    assert shop.order(order_id)["status"] == "held"


def questions(shop: Flow, order_id: str, parked_id: str) -> dict[str, str]:
    """Every page that asks, by name."""
    return {
        "hold": f"/orders/{order_id}/hold",
        "cancel": f"/orders/{order_id}/cancel",
        "release": f"/orders/{order_id}/release",
        "replay": f"/parked/{parked_id}/replay",
        "edit": f"/parked/{parked_id}/edit",
        "discard": f"/parked/{parked_id}/discard",
    }


def test_no_question_and_no_page_with_the_longest_id_scrolls_sideways_on_a_phone(
    browser: Browser, shop: Flow
) -> None:
    order_id, parked_id = parked_payment(shop, "x" * 51)
    with browser.new_context(base_url=str(shop.query.base_url), viewport=NARROW) as phone:
        page = phone.new_page()
        pages = [
            f"/orders/{order_id}",
            f"/orders?q={order_id}",
            f"/parked?order={order_id}",
            f"/parked/{parked_id}",
        ]
        for path in (*questions(shop, order_id, parked_id).values(), *pages, "/"):
            page.goto(path)
            expect(page.locator("h1, h2").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], path


PALE = """() => {
  const part = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
  const behind = e => { const c = rgb(getComputedStyle(e).backgroundColor);
                        return c[3] === 0 && e.parentElement ? behind(e.parentElement) : c; };
  const own = e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
  return [...document.querySelectorAll("main *")].filter(e => own(e) && e.checkVisibility()).filter(e => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map(e => e.textContent.trim());
}"""
"""The texts whose contrast is below WCAG 2's 4.5 to 1."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_of_a_question_can_be_read_in_the_light_and_in_the_dark(
    browser: Browser, shop: Flow, scheme: str
) -> None:
    order_id, parked_id = parked_payment(shop, f"contrast-{scheme}")
    with browser.new_context(base_url=str(shop.query.base_url), color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        for path in (
            *questions(shop, order_id, parked_id).values(),
            f"/parked/{parked_id}",
            f"/orders/{order_id}",
        ):
            page.goto(path)
            assert page.evaluate(PALE) == [], path


def test_screenshots_of_the_questions_are_taken(browser: Browser, shop: Flow, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    order_id = shop.prefix + "picture"
    shop.send(event("placed", order_id, order(total="2900 or so")))
    shop.until(lambda: bool(shop.parked(order_id)))
    pages = questions(shop, placed_order(shop, "pictured"), shop.parked(order_id)[0]["id"])
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)):
        with browser.new_context(
            base_url=str(shop.query.base_url),
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport=size,
        ) as context:
            page = context.new_page()
            for name, path in pages.items():
                page.goto(path)
                page.screenshot(path=folder / f"ask-{name}-{scheme}-{size['width']}.png", full_page=True)
            page.goto(pages["edit"])
            page.get_by_role("button", name="Send the edited event").click()
            expect(page.get_by_role("alert")).to_be_visible()
            page.screenshot(path=folder / f"ask-fault-{scheme}-{size['width']}.png", full_page=True)
            page.goto(pages["hold"])
            page.get_by_label("Why").fill("a picture")
            confirm(shop, page, "Hold")
            page.screenshot(path=folder / f"result-{scheme}-{size['width']}.png", full_page=True)
    assert len(list(folder.glob("*-*-*.png"))) >= 8 * 4

"""The console in a real browser, as somebody at work uses it: with the keyboard, on a phone, in the dark, without
a script."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize, expect
from support.browsing import (
    focused,
    in_another_thread,
    must_be_complete_without_a_script,
    must_not_scroll_sideways_on_a_phone,
)
from support.console import console
from support.events import paid
from support.history import HOSTILE_NAME, everything, happen

PAGES = [
    "/",
    "/orders",
    "/orders/done-1",
    "/orders/hostile-1",
    "/orders/awaited-1",
    "/parked",
    "/orders?status=x",
]


@pytest.fixture(scope="module")
def address(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    in_another_thread(everything, database)
    with console(database, tmp_path_factory.mktemp("query") / "log") as served:
        yield served


def test_the_keyboard_alone_leads_from_the_start_page_to_an_order(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert "Held for review" in focused(page)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders?attention=held")
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == "held-1":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/held-1")
    expect(page.get_by_role("heading", level=1)).to_have_text("held-1")


def test_a_slash_goes_to_the_search_and_a_whole_id_opens_the_order(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/parked")
    page.keyboard.press("/")
    page.keyboard.type("done-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/done-1")


def test_a_slash_in_a_field_is_a_slash(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/orders")
    field = page.locator("#q")
    field.focus()
    page.keyboard.type("a/b")
    expect(field).to_have_value("a/b")


def test_filters_narrow_the_list_and_stay_in_the_form(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/orders")
    page.get_by_label("Status").select_option("accepted")
    page.get_by_label("Payment").select_option("paid")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**status=accepted**")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("late-1")
    expect(page.get_by_label("Status")).to_have_value("accepted")
    page.get_by_role("link", name="Clear").click()
    expect(rows).to_have_count(10)


def test_a_list_is_paged_there_and_back(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/orders?limit=4")
    first = page.locator("tbody tr").all_inner_texts()
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**page=**")
    assert not set(page.locator("tbody a").all_inner_texts()) & set(first)
    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody tr a").first).to_have_text(first[0].split()[0])


def test_an_order_reads_from_top_to_bottom(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/orders/done-1")
    entries = page.locator(".turn .what strong").all_inner_texts()
    assert entries == [
        *("accepted", "authorised", "paid", "packed", "shipped", "delivered", "refunded", "packed", "paid")
    ]
    shipped = page.locator(".turn", has_text="JD0146000")
    expect(shipped).to_contain_text("status packed → shipped")
    expect(shipped).to_contain_text("track-00001 · v5")
    expect(shipped).to_contain_text("sent webhook to shop")
    expect(shipped).to_contain_text("sent email to ada@example.org")
    page.get_by_role("link", name="Parked event").click()
    expect(page.get_by_text("The order's total is 29.00 EUR")).to_be_visible()


def test_a_name_that_is_a_script_is_text(window: BrowserContext) -> None:
    page = window.new_page()
    for path in ("/", "/orders/hostile-1", "/orders?q=hostile"):
        page.goto(path)
        assert page.title().endswith("Orderflow")
        expect(page.get_by_text(HOSTILE_NAME).first).to_be_visible()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_complete_without_a_script(browser: Browser, address: str, path: str) -> None:
    must_be_complete_without_a_script(browser, address, path)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, address: str, path: str) -> None:
    must_not_scroll_sideways_on_a_phone(browser, address, path)


@pytest.mark.parametrize("script", [True, False])
def test_who_prefers_the_dark_gets_it_with_or_without_a_script(
    browser: Browser, address: str, *, script: bool
) -> None:
    def brightness(scheme: str) -> int:
        # The page's script may not run, but the browser's own eye on it does.
        with browser.new_context(
            base_url=address, color_scheme=scheme, java_script_enabled=script
        ) as context:  # type: ignore[arg-type]
            page = context.new_page()
            page.goto("/orders")
            style = page.locator("main h1").evaluate("e => getComputedStyle(e).color")
            return sum(int(part) for part in style[4:-1].split(","))

    assert brightness("light") < 150
    assert brightness("dark") > 600


def test_an_order_follows_what_happens_to_it_and_keeps_the_focus(
    window: BrowserContext, database: str
) -> None:
    page = window.new_page()
    page.goto("/orders/yen-1")
    expect(page.get_by_role("status")).to_have_text("Live")
    page.get_by_role("link", name="As JSON").focus()
    in_another_thread(happen, database, paid("yen-1", currency="JPY"))
    expect(page.locator(".turn")).to_have_count(2, timeout=15_000)
    assert focused(page) == "As JSON"


def test_a_stuck_order_is_counted_on_the_start_page_and_its_page_says_for_how_long(
    window: BrowserContext, database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE orders SET status_since = now() - interval '30 hours' WHERE order_id = 'held-1'"
        )
    page = window.new_page()
    page.goto("/")
    page.get_by_role("link", name="1 Stuck").click()
    page.wait_for_url("**attention=stuck")
    expect(page.get_by_label("Needs attention")).to_have_value("stuck")
    page.get_by_role("link", name="held-1").click()
    expect(page.get_by_text("Held for 30 h; the shop's limit is 24 h.")).to_be_visible()
    page.goto("/orders")
    page.get_by_label("Needs attention").select_option("stuck_shipped")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No order matches.")).to_be_visible()


def test_the_content_of_a_parked_event_shows_personal_data_only_on_request(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/parked?stage=validate")
    page.get_by_role("link", name="placed").click()
    expect(page.locator("pre")).to_contain_text("MUG-BLUE")
    expect(page.locator("pre")).not_to_contain_text("Lovelace")
    page.get_by_role("link", name="Show it with personal data").click()
    expect(page.locator("pre")).to_contain_text("Lovelace")


def test_screenshots_of_the_console_are_taken(browser: Browser, address: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 400)):
        size = ViewportSize(width=width, height=800)
        with browser.new_context(base_url=address, color_scheme=scheme, viewport=size) as context:  # type: ignore[arg-type]
            page = context.new_page()
            for name, path in (
                ("overview", "/"),
                ("orders", "/orders"),
                ("order", "/orders/done-1"),
                ("parked", "/parked"),
            ):
                page.goto(path)
                page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
    assert len(list(folder.glob("*-*-*.png"))) >= 12

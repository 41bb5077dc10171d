"""Releases in a real browser: watched live, steered with the keyboard, on a phone, in the dark, without a script."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from support.history import everything
from support.kubeapi import serve_cluster
from support.rollout_shop import Shop

PAGES = ["/rollouts", "/rollouts/track", "/rollouts/track/abort"]


@pytest.fixture(scope="module")
def shop() -> Shop:
    """A canary that an analysis looks at, and stays so; a test that changes it puts it back."""
    shop = Shop()
    shop.release_to_analysis()
    (name,) = shop.cluster.unfinished_runs()
    run: Any = shop.cluster.objects["run", name]
    measured = [{"phase": "Inconclusive", "value": "too_few"}, {"phase": "Successful", "value": "fine"}]
    result = {"name": "rejected", "phase": "Running", "count": 2, "successful": 1, "measurements": measured}
    run["status"] = {"phase": "Running", "metricResults": [result]}
    return shop


@pytest.fixture(scope="module")
def address(database: str, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    in_another_thread(everything, database)
    canary = shop.cluster.status()["canaryRevision"]
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE ledger SET revision = %s WHERE order_id IN ('done-1', 'late-1')", [canary])
    folder = tmp_path_factory.mktemp("query")
    with (
        serve_cluster(shop.cluster, folder) as kubeconfig,
        console(database, folder / "log", ROLLOUTS="on", KUBECONFIG=str(kubeconfig)) as address,
    ):
        yield address


def test_the_keyboard_alone_leads_from_the_start_page_to_an_abort_and_back(
    window: BrowserContext, shop: Shop
) -> None:
    page = window.new_page()
    page.goto("/")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Releases").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rollouts")
    page.get_by_role("link", name="track", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rollouts/track")
    page.get_by_role("link", name="Abort …").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rollouts/track/abort")
    assert focused(page) == "Abort", "the button has the focus"
    expect(page.get_by_text(f"All traffic goes back to {shop.stable}")).to_be_visible()
    page.get_by_role("link", name="Do nothing").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rollouts/track")
    assert shop.cluster.status()["phase"] == "Progressing"


def test_a_release_is_followed_live_and_keeps_the_focus(window: BrowserContext, shop: Shop) -> None:
    page = window.new_page()
    page.goto("/rollouts/track")
    expect(page.get_by_role("status")).to_have_text("Live")
    page.get_by_role("link", name="Abort …").focus()
    shop.change(paused=True)
    expect(page.locator(".head .pill")).to_have_text("Paused", timeout=15_000)
    assert focused(page) == "Abort …"
    shop.change(paused=False)
    expect(page.locator(".head .pill")).to_have_text("Progressing", timeout=15_000)


def test_the_orders_that_the_canary_handled_are_one_step_away(window: BrowserContext) -> None:
    page = window.new_page()
    page.goto("/rollouts/track")
    expect(page.locator(".steps [aria-current=step]")).to_contain_text("Analysis orders")
    page.get_by_role("link", name="done-1").click()
    page.wait_for_url("**/orders/done-1")


def test_a_pause_is_confirmed_once_and_seen_live(window: BrowserContext, shop: Shop) -> None:
    page = window.new_page()
    page.goto("/rollouts/track/pause")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_url("**/rollouts/track")
    shop.run_to_rest()
    expect(page.locator(".head .pill")).to_have_text("Paused", timeout=15_000)
    page.get_by_role("link", name="Promote …").click()
    page.get_by_role("button", name="Promote").click()
    page.wait_for_url("**/rollouts/track")
    shop.run_to_rest()
    expect(page.locator(".head .pill")).to_have_text("Progressing", timeout=15_000)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_complete_without_a_script(browser: Browser, address: str, path: str) -> None:
    must_be_complete_without_a_script(browser, address, path)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, address: str, path: str) -> None:
    must_not_scroll_sideways_on_a_phone(browser, address, path)


def test_screenshots_of_the_release_pages_are_taken(browser: Browser, address: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 400)):
        size = ViewportSize(width=width, height=800)
        with browser.new_context(base_url=address, color_scheme=scheme, viewport=size) as context:  # type: ignore[arg-type]
            page = context.new_page()
            for path in PAGES:
                page.goto(path)
                name = path.strip("/").replace("/", "-")
                page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
    assert len(list(folder.glob("rollouts*.png"))) >= 9

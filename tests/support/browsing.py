"""What tests in a real browser need beside Playwright."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NARROW = ViewportSize(width=400, height=800)


def in_another_thread(function: Callable[..., None], *arguments: Any) -> None:
    """Playwright's own event loop holds this thread, so whatever needs one runs in another."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, *arguments).result()


def focused(page: Page) -> str:
    """The text of what the keyboard is at."""
    text: str = page.evaluate("document.activeElement.textContent.trim()")
    return text


def must_be_complete_without_a_script(browser: Browser, address: str, path: str) -> None:
    """The page has without a script every heading that it has with one, and something under them."""
    with browser.new_context(base_url=address, java_script_enabled=False) as without:
        page = without.new_page()
        page.goto(path)
        plain = page.locator("main").inner_text()
    with browser.new_context(base_url=address) as with_script:
        page = with_script.new_page()
        page.goto(path)
        headings = page.locator("main h1, main h2").all_inner_texts()
    assert headings
    assert all(heading in plain for heading in headings)
    assert len(plain) > len("".join(headings)) + 10


def must_not_scroll_sideways_on_a_phone(browser: Browser, address: str, path: str) -> None:
    with browser.new_context(base_url=address, viewport=NARROW) as phone:
        page = phone.new_page()
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        expect(page.locator("h1, h2").first).to_be_attached()

"""What tests in a real browser need beside Playwright."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playwright.sync_api import Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def apart(what: Callable[..., None], *given: Any) -> None:
    """Playwright's own event loop holds this thread, so whatever needs one runs in another."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(what, *given).result()


def focused(page: Page) -> str:
    """The text of what the keyboard is at."""
    text: str = page.evaluate("document.activeElement.textContent.trim()")
    return text

"""A real browser, and a database for what it looks at."""

import os
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from support.browsing import FLAGS
from support.programs import program

from orderflow_sandbox.servers.postgres import EmbeddedPostgres, create_database, drop_database


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = program("chromium", required="REQUIRE_BROWSER")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = os.environ.get("DATABASE_URL")
    if url:
        name = f"test_{uuid.uuid4().hex}"
        yield create_database(url, name)
        drop_database(url, name)
        return
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres.url


@pytest.fixture
def window(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """An ordinary window. Any error or warning of the browser fails the test."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None
    )
    yield context
    context.close()
    assert complaints == []

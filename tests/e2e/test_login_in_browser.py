"""Logins at the console in a real browser, with the stages that execute the actions."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from support.browsing import NARROW
from support.console import console
from support.events import paid, placed
from support.flow import Flow, own_flow
from support.login_issuer import Issuer, issuer

from orderflow_sandbox.address import free_port

WIDE = ViewportSize(width=1280, height=800)
OUTCOME_MS = 20_000
ROLES = {"support": ["read"], "operators": ["act"], "privacy": ["reveal"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with own_flow(tmp_path_factory.mktemp("login")) as opened:
        yield opened


@pytest.fixture(scope="module")
def known() -> Iterator[Issuer]:
    with issuer() as opened:
        opened.people = {
            "rita": {"email": "rita@shop.example", "roles": ["support"]},
            "anna": {"email": "anna@shop.example", "roles": ["operators", "privacy"]},
        }
        yield opened


@pytest.fixture(scope="module")
def address(shop: Flow, known: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console that people log in at, beside the flow's own."""
    port = free_port()
    settings = known.environment(f"http://127.0.0.1:{port}", **ROLES) | {"PORT": str(port)}
    log = tmp_path_factory.mktemp("console") / "log"
    with console(shop.database, log, KAFKA_BOOTSTRAP=shop.bootstrap, **settings):
        yield f"http://127.0.0.1:{port}"


def placed_order(shop: Flow, name: str) -> str:
    order_id = shop.prefix + name
    shop.send(placed(order_id), paid(order_id, amount=1))
    shop.until(lambda: bool(shop.parked(order_id)))
    return order_id


def log_in(page: Page, name: str, path: str) -> None:
    page.goto(path)
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(f"**{path}")


def test_a_person_logs_in_acts_under_their_name_and_logs_out(
    window: BrowserContext, shop: Flow, address: str
) -> None:
    order_id = placed_order(shop, "held-by-anna")
    page = window.new_page()
    log_in(page, "anna", f"/orders/{order_id}")
    expect(page.locator(".who")).to_contain_text("anna@shop.example")
    expect(page.locator("#live-state")).to_have_text("Live")
    page.get_by_role("link", name="Hold …").click()
    page.get_by_label("Why").fill("looks odd")
    with shop.delivering():
        page.get_by_role("button", name="Hold").click()
        expect(page.locator(".plan li")).to_contain_text("applied", timeout=OUTCOME_MS)
    (action,) = shop.order(order_id)["actions"]
    assert action["by"] == "anna@shop.example"
    page.get_by_role("link", name="To the order").click()
    expect(page.locator(".turn").last).to_contain_text("anna@shop.example")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Logged out")
    assert window.cookies(address) == []
    page.goto(f"/orders/{order_id}")
    expect(page).to_have_title("Issuer")


def test_a_person_who_may_only_read_sees_disabled_actions_and_masked_data(
    window: BrowserContext, shop: Flow
) -> None:
    order_id = placed_order(shop, "read-by-rita")
    page = window.new_page()
    log_in(page, "rita", f"/orders/{order_id}")
    expect(page.get_by_role("button", name="Hold …")).to_be_disabled()
    expect(page.locator(".acts")).to_contain_text("This needs the role act")
    expect(page.locator("main")).not_to_contain_text("ada@example.org")
    expect(page.locator("main")).to_contain_text("masked")
    page.goto(f"/parked?order={order_id}")
    expect(page.get_by_role("button", name="Replay selected …")).to_be_disabled()
    expect(page.get_by_role("checkbox")).to_have_count(0)


def test_the_pages_of_a_person_fit_a_phone_and_screenshots_are_taken(
    browser: Browser, shop: Flow, address: str, tmp_path: Path
) -> None:
    order_id = placed_order(shop, "shown")
    parked = shop.parked(order_id)[0]["id"]
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW)):
        with browser.new_context(base_url=address, color_scheme=scheme, viewport=size) as context:  # type: ignore[arg-type]
            page = context.new_page()
            log_in(page, "rita", "/orders")
            for path in (f"/orders/{order_id}", f"/parked/{parked}", f"/orders/{order_id}/hold", "/orders"):
                page.goto(path)
                name = path.strip("/").replace("/", "-").replace(order_id, "order").replace(parked, "event")
                page.screenshot(path=folder / f"login-{name}-{scheme}-{size['width']}.png", full_page=True)
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            page.get_by_role("button", name="Log out").click()
            page.screenshot(path=folder / f"login-out-{scheme}-{size['width']}.png", full_page=True)
    assert len(list(folder.glob("login-*.png"))) == 15

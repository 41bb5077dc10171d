"""Logins at the console: query with a real PostgreSQL, and an issuer that checks and signs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import functions_framework
import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from joserfc.jwk import RSAKey
from support.console import NO_KAFKA
from support.databases import database_with_everything
from support.login_issuer import Issuer, Visitor, issuer
from support.stage import ROOT
from werkzeug.test import Client

from orderflow.adapters.http import api_keys

HERE = "http://localhost"
PEOPLE: dict[str, dict[str, Any]] = {
    "rita": {"email": "rita@shop.example", "roles": ["support"]},
    "anna": {"email": "anna@shop.example", "roles": ["operators"]},
    "rolf": {"email": "rolf@shop.example", "roles": ["releasers"]},
    "ina": {"email": "ina@shop.example", "roles": ["support", "privacy"]},
    "nobody": {"email": "nobody@shop.example", "roles": ["visitors"]},
}
ROLES = {"support": ["read"], "operators": ["act"], "releasers": ["release"], "privacy": ["reveal"]}
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def shop(database_url: str) -> Iterator[str]:
    with database_with_everything(database_url) as url:
        yield url


@pytest.fixture
def known() -> Iterator[Issuer]:
    with issuer() as opened:
        opened.people = dict(PEOPLE)
        yield opened


def console(shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch, **more: str) -> Client:
    environment = {
        "DATABASE_URL": shop,
        "KAFKA_BOOTSTRAP": NO_KAFKA,
        "LOCAL_RUN": "true",
        "KAFKA_ACK_SECONDS": "1",
    }
    for name, value in (environment | known.environment(HERE, **ROLES) | more).items():
        monkeypatch.setenv(name, value)
    client: Client = functions_framework.create_app(
        "query", str(ROOT / "functions/query.py"), "http"
    ).test_client()
    return client


@pytest.fixture
def visitor(shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    return Visitor(console(shop, known, monkeypatch), known)


def cookie(visitor: Visitor) -> Any:
    return visitor.client.get_cookie("orderflow")


def test_a_browser_goes_to_the_issuer_and_comes_back_to_its_page(visitor: Visitor, known: Issuer) -> None:
    asked = visitor.asks("/orders?status=held")
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{HERE}/login/callback"
    assert len(asked["nonce"]) >= 16
    assert len(asked["state"]) >= 16
    answer = visitor.answers("rita", asked)
    assert (answer.status_code, answer.location) == (303, "/orders?status=held")
    page = visitor.client.get("/orders?status=held", headers=PAGE)
    assert page.status_code == 200
    assert "rita@shop.example" in page.text


def test_a_program_without_a_key_gets_a_401_and_no_redirect(visitor: Visitor) -> None:
    for path, accept in (("/api/orders", "text/html"), ("/orders", "*/*"), ("/metrics", "text/html")):
        answer = visitor.client.get(path, headers={"Accept": accept})
        assert answer.status_code == 401, path
        assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert visitor.client.get("/api/orders").content_type == "application/problem+json"
    assert visitor.client.post("/orders/done-1/hold", headers=PAGE).status_code == 401


def test_a_scripts_request_without_a_session_makes_no_browser_ask_for_a_password(visitor: Visitor) -> None:
    headers = {"Accept": "text/event-stream", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    answer = visitor.client.get("/live", headers=headers)
    assert answer.status_code == 401
    assert "Basic" not in answer.headers["WWW-Authenticate"]


def test_a_wrong_key_is_refused_whoever_is_logged_in(visitor: Visitor) -> None:
    visitor.logs_in("anna")
    for headers in ({"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}):
        assert visitor.client.get("/orders", headers=PAGE | headers).status_code == 401


def changed(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The claims with those values; None takes a claim away."""
    return lambda claims: {name: value for name, value in (claims | values).items() if value is not None}


@pytest.mark.parametrize(
    "alter",
    [
        changed(nonce="another"),
        changed(nonce=None),
        changed(iss="https://issuer.example"),
        changed(iss=None),
        changed(aud="another-client"),
        changed(aud=None),
        changed(aud=["console", "another-client"], azp="another-client"),
        changed(exp=int(time.time()) - 3600),
        changed(exp=None),
        changed(iat=int(time.time()) + 3600),
        changed(sub=None),
    ],
    ids=[
        "wrong nonce",
        "no nonce",
        "wrong issuer",
        "no issuer",
        "wrong audience",
        "no audience",
        "another authorised party",
        "expired",
        "no expiry",
        "from the future",
        "no subject",
    ],
)
def test_an_id_token_that_is_not_for_this_login_is_refused(
    visitor: Visitor, known: Issuer, alter: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    known.alter = alter
    answer = visitor.answers("anna", visitor.asks())
    assert answer.status_code == 403
    assert visitor.client.get("/api/orders").status_code == 401


def test_an_id_token_of_another_signer_is_refused(visitor: Visitor, known: Issuer) -> None:
    known.signing_key = RSAKey.generate_key(2048, {"kid": "1"})
    assert visitor.answers("anna", visitor.asks()).status_code == 403
    assert visitor.client.get("/api/orders").status_code == 401


def test_a_new_key_of_the_issuer_is_fetched(visitor: Visitor, known: Issuer) -> None:
    visitor.logs_in("anna")
    visitor.client.post("/logout", headers=PAGE)
    known.key = RSAKey.generate_key(2048, {"kid": "2"})
    visitor.logs_in("anna")


def test_a_wrong_state_is_refused(visitor: Visitor) -> None:
    asked = visitor.asks()
    for state in ("another", ""):
        assert visitor.answers("anna", asked | {"state": state}).status_code == 403
    assert visitor.client.get("/api/orders").status_code == 401


def test_a_login_that_another_browser_began_is_refused(
    visitor: Visitor, shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = visitor.asks()
    victim = Visitor(console(shop, known, monkeypatch), known)
    assert victim.answers("anna", asked).status_code == 403


def test_a_response_of_the_issuer_is_taken_once(visitor: Visitor) -> None:
    asked = visitor.asks()
    assert visitor.answers("anna", asked).status_code == 303
    visitor.client.post("/logout", headers=PAGE)
    assert visitor.answers("anna", asked).status_code == 403


def test_a_code_without_the_verifier_of_its_challenge_is_refused(visitor: Visitor) -> None:
    asked = visitor.asks()
    assert visitor.answers("anna", asked | {"code_challenge": "another"}).status_code == 403


def test_a_refusal_of_the_issuer_is_shown_without_its_words(visitor: Visitor) -> None:
    state = visitor.asks()["state"]
    answer = visitor.client.get(f"/login/callback?error=access_denied&error_description=canary&state={state}")
    assert answer.status_code == 403
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/%09/evil.example\t", ""]
)
def test_a_login_leads_to_no_other_site(visitor: Visitor, path: str) -> None:
    sent = visitor.client.get("/login", query_string={"next": path})
    asked = dict(each.split("=", 1) for each in sent.location.partition("?")[2].split("&"))
    asked = {"redirect_uri": f"{HERE}/login/callback"} | {
        name: asked[name] for name in ("state", "nonce", "code_challenge")
    }
    assert visitor.answers("anna", asked).location == "/"


def test_a_session_is_a_new_one_and_its_cookie_has_no_token(visitor: Visitor) -> None:
    visitor.asks()  # in another window, where nobody answers
    asked = visitor.asks()
    before = cookie(visitor).value
    answer = visitor.answers("anna", asked)
    (header,) = answer.headers.getlist("Set-Cookie")
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "Path=/" in header
    assert "Expires=" in header
    assert cookie(visitor).value != before
    app = Flask("reader")
    app.secret_key = "s" * 32
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    assert set(serializer.loads(cookie(visitor).value)) == {"_permanent", "person", "permissions"}


def test_over_https_a_cookie_is_secure_and_of_this_host(
    shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = console(shop, known, monkeypatch, PUBLIC_URL="https://console.shop.example")
    (header,) = client.get("/login").headers.getlist("Set-Cookie")
    assert header.startswith("__Host-orderflow=")
    assert "Secure" in header
    assert "Domain" not in header


def test_a_session_ends_at_its_time(shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = console(shop, known, monkeypatch, CONSOLE_SESSION_HOURS="0.0003")
    visitor = Visitor(client, known).logs_in("anna")
    deadline = time.monotonic() + 20
    while visitor.client.get("/api/orders").status_code == 200:
        assert time.monotonic() < deadline


def test_a_changed_cookie_is_no_session(visitor: Visitor) -> None:
    visitor.logs_in("anna")
    value = cookie(visitor).value
    visitor.client.set_cookie("orderflow", ("A" if value[0] != "A" else "B") + value[1:])
    assert visitor.client.get("/api/orders").status_code == 401


def test_after_a_logout_there_is_no_session(visitor: Visitor, known: Issuer) -> None:
    visitor.logs_in("anna")
    answer = visitor.client.post("/logout", headers=PAGE)
    assert answer.status_code == 200
    assert f"{known.address}/logout" in answer.text
    assert visitor.client.get("/api/orders").status_code == 401


def test_another_site_cannot_log_a_person_out_or_act_with_the_cookie(visitor: Visitor) -> None:
    visitor.logs_in("anna")
    foreign: list[dict[str, str]] = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ]
    for headers in foreign:
        assert visitor.client.post("/logout", headers=headers).status_code == 403
        form = visitor.client.post("/orders/done-1/hold", data={"reason": "x", "key": "k"}, headers=headers)
        assert form.status_code == 403
        api = visitor.client.post("/api/orders/done-1/hold", json={"reason": "x"}, headers=headers)
        assert api.status_code == 403
    assert visitor.client.get("/api/orders").status_code == 200
    plain = visitor.client.post(
        "/api/orders/done-1/hold", data='{"reason": "x"}', content_type="text/plain", headers=SAME_SITE
    )
    assert plain.status_code == 415


@pytest.mark.parametrize(("name", "status"), [("rita", 403), ("rolf", 403), ("anna", 503)])
def test_only_a_person_with_the_role_acts(visitor: Visitor, name: str, status: int) -> None:
    """Kafka is away, so that an action that is allowed is a 503."""
    visitor.logs_in(name)
    answer = visitor.client.post("/api/orders/done-1/hold", json={"reason": "x"}, headers=SAME_SITE)
    assert answer.status_code == status
    if status == 403:
        assert "role act" in answer.json["title"]


def test_a_person_without_a_role_sees_nothing_and_is_told_which_role_is_missing(visitor: Visitor) -> None:
    visitor.logs_in("nobody")
    answer = visitor.client.get("/orders", headers=PAGE)
    assert answer.status_code == 403
    assert "role read" in answer.text
    assert "Log out" in answer.text


def parked_id(visitor: Visitor) -> str:
    rows: list[dict[str, Any]] = visitor.client.get("/api/parked").json["parked"]
    return str(rows[0]["id"])


def test_without_the_role_reveal_every_page_and_document_is_masked(visitor: Visitor) -> None:
    visitor.logs_in("rita")
    personal = ("Grace", "Hopper", "grace@example.org", "1 Main Street")
    for path in ("/", "/orders", "/orders/failing-1", "/api/orders", "/api/orders/failing-1"):
        text = visitor.client.get(path, headers=PAGE).text
        assert "failing-1" in text
        assert [each for each in personal if each in text] == [], path
    stream = visitor.client.get("/orders/failing-1/live", headers=PAGE, buffered=False)
    parts = iter(stream.response)
    live = b"".join([next(parts), next(parts)]).decode()  # type: ignore[arg-type]
    stream.close()
    assert "failing-1" in live
    assert [each for each in personal if each in live] == []
    event = parked_id(visitor)
    for path in (f"/parked/{event}?reveal=1", f"/api/parked/{event}?reveal=1", "/api/orders?q=grace"):
        answer = visitor.client.get(path, headers=PAGE)
        assert answer.status_code == 403, path
        assert "role reveal" in answer.text
    assert visitor.client.get("/orders?q=grace", headers=PAGE).status_code == 404
    assert visitor.client.get("/orders?q=failing-1", headers=PAGE).location == "/orders/failing-1"


def test_with_the_role_reveal_personal_data_is_shown(visitor: Visitor) -> None:
    visitor.logs_in("ina")
    assert "grace@example.org" in visitor.client.get("/orders/failing-1", headers=PAGE).text
    assert "failing-1" in visitor.client.get("/orders?q=grace", headers=PAGE).text
    assert visitor.client.get(f"/parked/{parked_id(visitor)}?reveal=1", headers=PAGE).status_code == 200


@pytest.mark.parametrize(("name", "offers"), [("rita", False), ("ina", True)])
def test_only_a_person_with_the_role_reveal_is_offered_a_search_for_people(
    visitor: Visitor, name: str, offers: bool
) -> None:
    visitor.logs_in(name)
    for path in ("/", "/orders", "/parked"):
        text = visitor.client.get(path, headers=PAGE).text
        assert "rder id" in text
        assert (" or name" in text) is offers, path
        assert (" of a name" in text) is (offers and path == "/")


def test_to_edit_an_event_needs_to_see_it(visitor: Visitor) -> None:
    visitor.logs_in("anna")
    answer = visitor.client.get(f"/parked/{parked_id(visitor)}/edit", headers=PAGE)
    assert answer.status_code == 403
    assert "role reveal" in answer.text


def test_an_action_that_the_roles_do_not_allow_is_shown_disabled_with_the_reason(visitor: Visitor) -> None:
    visitor.logs_in("rita")
    page = visitor.client.get("/orders/held-1", headers=PAGE).text
    assert 'href="/orders/held-1/release"' not in page
    assert "disabled>Release …" in page
    assert "This needs the role act, which rita@shop.example does not have" in page


def test_a_stream_is_for_the_session(visitor: Visitor) -> None:
    visitor.logs_in("anna")
    headers = {"Accept": "text/event-stream", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    stream = visitor.client.get("/live", headers=headers, buffered=False)
    assert stream.status_code == 200
    stream.close()


def test_keys_work_as_before_beside_logins(
    shop: str, known: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key, entry = api_keys.new_key("desk", ["query"], act=True)
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(api_keys.toml(entry))
    client = console(shop, known, monkeypatch, API_KEYS_FILE=str(file))
    headers = {"X-API-Key": key}
    assert "grace@example.org" in client.get("/api/orders/failing-1", headers=headers).text
    assert client.post("/api/orders/done-1/hold", json={"reason": "x"}, headers=headers).status_code == 503


def test_an_issuer_that_is_away_is_a_503(
    visitor: Visitor, known: Issuer, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = console(shop, known, monkeypatch, CONSOLE_OIDC_ISSUER="http://127.0.0.1:1")
    assert client.get("/login").status_code == 503


def test_without_logins_query_does_not_load_their_library(shop: str) -> None:
    code = (
        "import sys\n"
        "from functions.query import app\n"
        "assert app is not None\n"
        "assert not {'authlib', 'joserfc', 'requests'} & set(sys.modules)\n"
    )
    environment = {"DATABASE_URL": shop, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, cwd=ROOT, check=True)

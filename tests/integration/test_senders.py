"""Who may send events to a stage: real processes, a real signer and a real HTTP server of its keys."""

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.events import placed
from support.issuer import KEYS, Issuer
from support.stage import ROOT, Stage, binary_headers
from support.topics import Tap
from support.waiting import until

from orderflow.messaging import topics
from orderflow.query.clients.questions import Question
from orderflow.query.clients.revision import RevisionClient
from orderflow_sandbox.sandbox import create_order_topics

AUDIENCE = "orderflow/validate"
SENDER = "system:serviceaccount:orderflow:validate-oidc-sources.knative.dev-kafkasource"
ASKER = "system:serviceaccount:orderflow:query"
READER = "the-pods-own-token"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(reader=READER) as server:
        yield server


def oidc(issuer: Issuer, token_file: Path, **changes: str) -> dict[str, str]:
    token_file.write_text(READER + "\n")
    settings = {
        "OIDC_ISSUER": issuer.url,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_SUBJECTS": f"{SENDER} system:serviceaccount:orderflow:another",
        "OIDC_JUDGE_SUBJECTS": ASKER,
        "OIDC_TOKEN_FILE": str(token_file),
    }
    return settings | changes


@pytest.fixture(scope="module")
def validate(
    kafka_bootstrap: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    folder = tmp_path_factory.mktemp("senders")
    settings = oidc(issuer, folder / "token")
    with Stage("validate", folder / "validate.log", KAFKA_BOOTSTRAP=kafka_bootstrap, **settings) as stage:
        yield stage


@pytest.fixture(scope="module")
def tap(kafka_bootstrap: str, validate: Stage) -> Iterator[Tap]:
    reader = Tap(kafka_bootstrap, topics.EVENTS, topics.PARKED)
    yield reader
    reader.close()


def send(stage: Stage, token: str | None, order_id: str = "refused") -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return stage.binary(placed(order_id), **headers)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def forged(issuer: Issuer, header: dict[str, str], sign: Callable[[bytes], bytes]) -> str:
    claims = issuer.claims(AUDIENCE, SENDER)
    text = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{text}.{encoded(sign(text.encode()))}"


def without_signature(issuer: Issuer) -> str:
    return forged(issuer, {"alg": "none", "typ": "JWT", "kid": issuer.kid}, lambda _: b"")


def signed_with_the_public_key(issuer: Issuer) -> str:
    secret = issuer.public_pem()
    header = {"alg": "HS256", "typ": "JWT", "kid": issuer.kid}
    return forged(issuer, header, lambda text: hmac.digest(secret, text, hashlib.sha256))


def signed_with_another_key(issuer: Issuer) -> str:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(AUDIENCE, SENDER), other, algorithm="RS256", headers={"kid": issuer.kid})


def with_claims(**changes: Any) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.sign(issuer.claims(AUDIENCE, SENDER, **changes))


def without_claim(name: str) -> Callable[[Issuer], str]:
    def sign(issuer: Issuer) -> str:
        claims = issuer.claims(AUDIENCE, SENDER)
        del claims[name]
        return issuer.sign(claims)

    return sign


NOW = int(time.time())


def test_an_event_of_the_configured_source_is_taken(issuer: Issuer, validate: Stage, tap: Tap) -> None:
    answer = send(validate, issuer.sign(issuer.claims(AUDIENCE, SENDER)), "of-the-source")
    assert answer.status_code == 204
    assert tap.until(lambda _, event: event.subject == "of-the-source")


def test_who_may_have_an_event_judged_may_not_send_one(issuer: Issuer, validate: Stage) -> None:
    tokens = {name: issuer.sign(issuer.claims(AUDIENCE, name)) for name in (ASKER, SENDER)}
    assert send(validate, tokens[ASKER]).json()["code"] == "subject_forbidden"
    event = placed("asked")
    answers = {
        name: validate.http.post(
            "/judge", content=event.data, headers=binary_headers(event) | {"Authorization": f"Bearer {token}"}
        )
        for name, token in tokens.items()
    }
    assert (answers[ASKER].status_code, answers[ASKER].json()["outcome"]) == (200, "accepted")
    assert (answers[SENDER].status_code, answers[SENDER].json()["code"]) == (503, "subject_forbidden")


def test_query_sends_its_token_of_the_stage(issuer: Issuer, validate: Stage, tmp_path: Path) -> None:
    (tmp_path / "validate").write_text(issuer.sign(issuer.claims(AUDIENCE, ASKER)) + "\n")
    event = placed("asked")
    url = f"http://127.0.0.1:{validate.port}"
    for token_file, count in ((f"{tmp_path}/{{stage}}", 1), (None, 0), (f"{tmp_path}/none", 0)):
        client = RevisionClient(url, token_file)
        asked = client.judge("validate", "validate-00001", [Question(binary_headers(event), event.data)], 10)
        assert len(asyncio.run(asked).judgements) == count


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda _: None, "token_missing"),
        (lambda _: "x" * 20_000, "token_invalid"),
        (lambda _: "no.jwt.here", "token_invalid"),
        (with_claims(exp=NOW - 3600), "token_invalid"),
        (with_claims(nbf=NOW + 3600), "token_invalid"),
        (with_claims(aud=["orderflow/park"]), "token_invalid"),
        (with_claims(iss="http://other.example"), "token_invalid"),
        (with_claims(sub="system:serviceaccount:shop:web"), "subject_forbidden"),
        (without_claim("exp"), "token_invalid"),
        (without_claim("aud"), "token_invalid"),
        (without_signature, "token_invalid"),
        (signed_with_the_public_key, "token_invalid"),
        (signed_with_another_key, "token_invalid"),
    ],
    ids=[
        "no token",
        "an endless token",
        "no JWT",
        "expired",
        "not valid yet",
        "other audience",
        "other issuer",
        "other subject",
        "never expires",
        "no audience",
        "alg none",
        "HS256 with the public key",
        "other key",
    ],
)
def test_an_event_of_anybody_else_is_refused_so_that_kafkasource_sends_it_again(
    token: Callable[[Issuer], str | None], code: str, issuer: Issuer, validate: Stage
) -> None:
    answer = send(validate, token(issuer))
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Retry-After" in answer.headers


def test_what_was_refused_had_no_effect(issuer: Issuer, validate: Stage, tap: Tap) -> None:
    assert send(validate, None, "forged").status_code == 503
    assert send(validate, issuer.sign(issuer.claims(AUDIENCE, SENDER)), "after").status_code == 204
    events = tap.until(lambda _, event: event.subject in {"forged", "refused", "after"})
    assert {event.subject for event in events} == {"after"}


def test_a_scheme_other_than_bearer_is_no_token(issuer: Issuer, validate: Stage) -> None:
    token = issuer.sign(issuer.claims(AUDIENCE, SENDER))
    answer = validate.binary(placed("refused"), Authorization=f"Basic {token}")
    assert (answer.status_code, answer.json()["code"]) == (503, "token_missing")


def test_the_kubelet_needs_no_token(validate: Stage) -> None:
    assert validate.http.get("/livez").status_code == 204


def test_no_log_has_a_token(issuer: Issuer, validate: Stage) -> None:
    token = issuer.sign(issuer.claims("orderflow/park", SENDER))
    assert send(validate, token).status_code == 503
    text = validate.log.read_text()
    assert "the token is for another audience" in text
    assert token.split(".")[2] not in text
    assert SENDER not in text


def test_a_rotated_key_is_fetched_and_the_old_one_is_not_asked_for_at_each_event(
    issuer: Issuer, validate: Stage
) -> None:
    old = issuer.sign(issuer.claims(AUDIENCE, SENDER))
    assert send(validate, old, "rotated").status_code == 204
    issuer.rotate("second")
    fetched = issuer.requests.count(KEYS)
    token = issuer.sign(issuer.claims(AUDIENCE, SENDER))
    until(lambda: send(validate, token, "rotated").status_code == 204)
    assert issuer.requests.count(KEYS) == fetched + 1
    assert send(validate, old, "rotated").json()["code"] == "token_invalid"


def test_while_the_keys_cannot_be_fetched_nothing_is_taken_and_afterwards_the_event_is(
    kafka_bootstrap: str, validate: Stage, tmp_path: Path
) -> None:
    with Issuer(reader=READER) as issuer:
        issuer.available = False
        settings = oidc(issuer, tmp_path / "token", OIDC_JWKS_URL=issuer.url + KEYS)
        with Stage("validate", tmp_path / "log", KAFKA_BOOTSTRAP=kafka_bootstrap, **settings) as stage:
            token = issuer.sign(issuer.claims(AUDIENCE, SENDER))
            for _ in range(20):
                answer = send(stage, token, "keys-away")
                assert (answer.status_code, answer.json()["code"]) == (503, "sender_unverified")
            assert len(issuer.requests) <= 2
            issuer.available = True
            until(lambda: send(stage, token, "keys-away").status_code == 204)


def test_the_dead_letter_sink_refuses_in_the_same_way(
    kafka_bootstrap: str, issuer: Issuer, validate: Stage, tmp_path: Path
) -> None:
    settings = oidc(issuer, tmp_path / "token", OIDC_AUDIENCE="orderflow/park")
    with Stage("park", tmp_path / "park.log", KAFKA_BOOTSTRAP=kafka_bootstrap, **settings) as park:
        assert send(park, issuer.sign(issuer.claims(AUDIENCE, SENDER))).status_code == 503
        assert send(park, None).status_code == 503
        assert send(park, issuer.sign(issuer.claims("orderflow/park", SENDER)), "dead").status_code == 204


@pytest.mark.parametrize("name", ["track", "notify", "shelve"])
def test_every_stage_behind_a_source_refuses_an_event_without_a_token(
    name: str, issuer: Issuer, tmp_path: Path
) -> None:
    """The check comes first, so that the stage needs no server."""
    notifications = tmp_path / "notifications.toml"
    notifications.write_text('[shop]\nname = "Shop"\nurl = "https://shop.example"\n')
    settings = oidc(issuer, tmp_path / "token", OIDC_AUDIENCE=f"orderflow/{name}") | {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "NOTIFICATIONS_FILE": str(notifications),
    }
    with Stage(name, tmp_path / "log", **settings) as stage:
        for token in (None, issuer.sign(issuer.claims("orderflow/validate", SENDER))):
            answer = send(stage, token)
            code = "token_missing" if token is None else "token_invalid"
            assert (answer.status_code, answer.json()["code"]) == (503, code)


PROGRAM = """
import sys
from orderflow import startup
from orderflow.settings import ParkSettings
startup.authenticated(object(), startup.configure(ParkSettings, "park"))
print("jwt" in sys.modules)
"""


def started(**environment: str) -> subprocess.CompletedProcess[str]:
    known = {"KAFKA_BOOTSTRAP": "h:1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=known | environment, capture_output=True, text=True, check=False
    )


def test_a_stage_without_the_settings_does_not_import_the_library() -> None:
    assert started().stdout.strip() == "False"
    settings = {"OIDC_ISSUER": "https://issuer.example", "OIDC_AUDIENCE": "a", "OIDC_SUBJECTS": "s"}
    assert started(**settings).stdout.strip() == "True"

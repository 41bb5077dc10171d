"""The stand-ins of the sandbox: their stored messages, their pages and their counts."""

import json
import signal
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from standardwebhooks import Webhook
from support.stand_ins import StandIns


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandIns]:
    with StandIns(tmp_path / "stand_ins") as running:
        yield running


def mail(number: int, **headers: str) -> EmailMessage:
    message = EmailMessage()
    default_headers = {
        "From": "shop@shop.example",
        "To": "Zoë <zoe@example.org>",
        "Subject": f"Order {number} €",
        "Message-ID": f"<{number}@shop.example>",
    }
    for name, value in (default_headers | headers).items():
        message[name] = value
    message.set_content(f"text of {number}")
    message.add_alternative(f'<p>page of {number}</p><script>alert("x")</script>', subtype="html")
    return message


def post(stand_ins: StandIns, *messages: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", stand_ins.smtp_port) as smtp:
        for message in messages:
            smtp.send_message(message)


def hook(stand_ins: StandIns, message_id: str, secret: str | None = None) -> int:
    content = json.dumps({"type": "t", "data": {"order_id": "A-1"}})
    now = datetime.now(UTC)
    signer = Webhook(secret or stand_ins.secret_file.read_text().strip())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer.sign(message_id, now, content),
    }
    return stand_ins.http.post("/webhook/erp", content=content, headers=headers).status_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_mails_webhooks_and_counts_survive_a_restart(stand_ins: StandIns, number: signal.Signals) -> None:
    post(stand_ins, mail(1), mail(1), mail(2))
    assert [hook(stand_ins, message_id) for message_id in ("a", "a", "b")] == [204, 204, 204]
    assert hook(stand_ins, "c", "whsec_b3RoZXIgb3RoZXIgb3RoZXI=") == 400
    before = (
        stand_ins.counts(),
        stand_ins.mails(""),
        stand_ins.webhooks("A-1"),
        stand_ins.secret_file.read_text(),
    )
    assert before[0] == {
        "mails": {"received": 3, "distinct_message_ids": 2, "repeats": 1},
        "webhooks": {"attempts": 4, "unverified": 1, "taken": 3, "distinct_ids": 2, "repeats": 1},
    }
    stand_ins.stop(number)
    stand_ins.start()
    assert (
        stand_ins.counts(),
        stand_ins.mails(""),
        stand_ins.webhooks("A-1"),
        stand_ins.secret_file.read_text(),
    ) == before
    post(stand_ins, mail(3))
    assert stand_ins.mails("")[0]["subject"] == "Order 3 €"


def test_the_mailbox_lists_newest_first_and_searches(stand_ins: StandIns) -> None:
    post(stand_ins, *(mail(number) for number in range(60)))
    page = stand_ins.http.get("/").text
    assert "60 mails" in page
    assert page.index("Order 59 €") < page.index("Order 10 €")
    assert "Order 9 €" not in page
    assert "Order 9 €" in stand_ins.http.get("/?q=&from=50").text
    page = stand_ins.http.get("/", params={"q": "order 7 ZOE@"}).text
    assert "1 mail for" not in page
    assert [each["subject"] for each in stand_ins.mails("<7@shop zoe@")] == ["Order 7 €"]
    assert "0 mails" in stand_ins.http.get("/", params={"q": "<script>"}).text
    assert "<script>" not in stand_ins.http.get("/", params={"q": "<script>"}).text


def test_a_mails_page_is_shown_where_it_can_do_nothing(stand_ins: StandIns) -> None:
    post(stand_ins, mail(1))
    answer = stand_ins.http.get(f"/mails/{stand_ins.mails('')[0]['key']}")
    assert "text of 1" in answer.text
    assert '<iframe sandbox=""' in answer.text
    assert "&lt;p&gt;page of 1&lt;/p&gt;" in answer.text
    assert "<script>" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert stand_ins.http.get("/mails/nothing").status_code == 404


def test_a_fault_happens_as_often_as_requested(stand_ins: StandIns) -> None:
    with stand_ins.fault("webhook", 503, times=2):
        assert [hook(stand_ins, "a") for _ in range(3)] == [503, 503, 204]
    with stand_ins.fault("webhook", 410, endpoint="other"):
        assert hook(stand_ins, "b") == 204
    with stand_ins.fault("smtp", "refuse", times=1):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            post(stand_ins, mail(1))
        post(stand_ins, mail(1))
    assert stand_ins.http.put("/api/faults/smtp", json={"mode": "nonsense"}).status_code == 422

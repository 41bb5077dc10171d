"""The HTTP side: the mailbox, the webhook receiver, counts, and faults on demand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from orderflow_sandbox.stand_ins.faults import Faults, SmtpFault, WebhookFault
from orderflow_sandbox.stand_ins.webhooks import examine

if TYPE_CHECKING:
    from email.message import EmailMessage

    from standardwebhooks import Webhook

    from orderflow_sandbox.stand_ins.mails import MailStore
    from orderflow_sandbox.stand_ins.webhooks import WebhookStore

PAGE: Final = 50
_HANG_SECONDS: Final = 3600.0
# The HTML of a mail is not trusted: it may contain styles, and nothing else.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
_SMTP: Final = TypeAdapter[SmtpFault | None](SmtpFault | None)
_WEBHOOK: Final = TypeAdapter[WebhookFault | None](WebhookFault | None)


class Pages:
    def __init__(self, mails: MailStore, webhooks: WebhookStore, verifier: Webhook, faults: Faults) -> None:
        self._mails = mails
        self._received = webhooks
        self._verifier = verifier
        self._faults = faults
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def application(self) -> web.Application:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/", self._list),
                web.get("/mails/{key}", self._mail),
                web.get("/webhooks", self._webhooks),
                web.get("/api/counts", self._counts),
                web.get("/api/mails", self._mails_json),
                web.get("/api/webhooks", self._webhooks_json),
                web.put("/api/faults/smtp", self._set_smtp_fault),
                web.put("/api/faults/webhook", self._set_webhook_fault),
                web.post("/webhook", self._receive),
                web.post("/webhook/{endpoint}", self._receive),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query.get("q", "")
        start = _number(request.query.get("from", ""))
        mails = self._mails.search(query)
        return self._page(
            "mails.html",
            query=query,
            start=start,
            count=len(mails),
            mails=mails[start : start + PAGE],
            after=start + PAGE if start + PAGE < len(mails) else None,
            before=max(0, start - PAGE) if start else None,
            copies=self._mails.copies,
        )

    async def _mail(self, request: web.Request) -> web.Response:
        try:
            mail = self._mails.read(request.match_info["key"])
        except KeyError:
            raise web.HTTPNotFound(text="There is no such mail.") from None
        text, html = _content(mail, "plain"), _content(mail, "html")
        return self._page(
            "mail.html", headers=[(name, str(value)) for name, value in mail.items()], text=text, html=html
        )

    async def _webhooks(self, _request: web.Request) -> web.Response:
        webhooks = [(each, json.dumps(each.body, indent=2)) for each in reversed(self._received.last)]
        return self._page("webhooks.html", webhooks=webhooks[:PAGE], count=self._received.attempts)

    async def _counts(self, _request: web.Request) -> web.Response:
        received, message_ids = len(self._mails.mails), len(self._mails.copies)
        accepted, webhook_ids = sum(self._received.accepted.values()), len(self._received.accepted)
        return web.json_response(
            {
                "mails": {
                    "received": received,
                    "distinct_message_ids": message_ids,
                    "repeats": received - message_ids,
                },
                "webhooks": {
                    "attempts": self._received.attempts,
                    "unverified": self._received.unverified,
                    "taken": accepted,
                    "distinct_ids": webhook_ids,
                    "repeats": accepted - webhook_ids,
                },
            }
        )

    async def _mails_json(self, request: web.Request) -> web.Response:
        mails = self._mails.search(request.query.get("q", ""))
        return _json([asdict(mail) for mail in mails[:1000]])

    async def _webhooks_json(self, _request: web.Request) -> web.Response:
        return _json([asdict(each) for each in reversed(self._received.last)])

    async def _set_smtp_fault(self, request: web.Request) -> web.Response:
        self._faults.smtp = _parsed(_SMTP, await request.read())
        return web.Response(status=204)

    async def _set_webhook_fault(self, request: web.Request) -> web.Response:
        self._faults.webhook = _parsed(_WEBHOOK, await request.read())
        return web.Response(status=204)

    async def _receive(self, request: web.Request) -> web.Response:
        endpoint = request.match_info.get("endpoint", "")
        mode = self._faults.of_webhook(endpoint)
        content = await request.read()
        if mode == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        status = {None: None, "redirect": 302}.get(mode, mode)  # type: ignore[arg-type]
        webhook = examine(self._verifier, endpoint, request.headers, content, status)
        self._received.add(webhook)
        headers = {"Location": "/webhook/redirected"} if mode == "redirect" else {}
        return web.Response(status=webhook.answer, headers=headers)

    def _page(self, name: str, **values: object) -> web.Response:
        text = self._environment.get_template(name).render(values)
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": _POLICY})


def _content(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    return part.get_content() if part is not None else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004


def _json(document: list[dict[str, Any]]) -> web.Response:
    return web.json_response(text=json.dumps(document, default=str))


def _parsed(adapter: TypeAdapter[Any], content: bytes) -> Any:  # noqa: ANN401 - the adapter's type
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from None

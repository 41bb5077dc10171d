"""The outside world over HTTP: the mailbox, the webhook receiver, counts, and trouble on demand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from orderflow_sandbox.stand_ins.faults import SmtpTrouble, Troubles, WebhookTrouble
from orderflow_sandbox.stand_ins.hooks import examine

if TYPE_CHECKING:
    from email.message import EmailMessage

    from standardwebhooks import Webhook

    from orderflow_sandbox.stand_ins.hooks import HookStore
    from orderflow_sandbox.stand_ins.mails import MailStore

PAGE: Final = 50
_HANG_SECONDS: Final = 3600.0
# A mail's HTML is somebody else's: it may style itself, and nothing else.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
_SMTP: Final = TypeAdapter[SmtpTrouble | None](SmtpTrouble | None)
_WEBHOOK: Final = TypeAdapter[WebhookTrouble | None](WebhookTrouble | None)


class Pages:
    def __init__(self, mails: MailStore, hooks: HookStore, verifier: Webhook, troubles: Troubles) -> None:
        self._mails = mails
        self._hooks = hooks
        self._verifier = verifier
        self._troubles = troubles
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
                web.put("/api/trouble/smtp", self._trouble_smtp),
                web.put("/api/trouble/webhook", self._trouble_webhook),
                web.post("/webhook", self._receive),
                web.post("/webhook/{endpoint}", self._receive),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query.get("q", "")
        start = _number(request.query.get("from", ""))
        found = self._mails.search(query)
        return self._page(
            "mails.html",
            query=query,
            start=start,
            found=len(found),
            mails=found[start : start + PAGE],
            after=start + PAGE if start + PAGE < len(found) else None,
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
        hooks = [(hook, json.dumps(hook.body, indent=2)) for hook in reversed(self._hooks.last)]
        return self._page("webhooks.html", hooks=hooks[:PAGE], found=self._hooks.attempts)

    async def _counts(self, _request: web.Request) -> web.Response:
        received, letters = len(self._mails.mails), len(self._mails.copies)
        taken, distinct = sum(self._hooks.taken.values()), len(self._hooks.taken)
        return web.json_response(
            {
                "mails": {
                    "received": received,
                    "distinct_message_ids": letters,
                    "repeats": received - letters,
                },
                "webhooks": {
                    "attempts": self._hooks.attempts,
                    "unverified": self._hooks.unverified,
                    "taken": taken,
                    "distinct_ids": distinct,
                    "repeats": taken - distinct,
                },
            }
        )

    async def _mails_json(self, request: web.Request) -> web.Response:
        found = self._mails.search(request.query.get("q", ""))
        return _json([asdict(mail) for mail in found[:1000]])

    async def _webhooks_json(self, _request: web.Request) -> web.Response:
        return _json([asdict(hook) for hook in reversed(self._hooks.last)])

    async def _trouble_smtp(self, request: web.Request) -> web.Response:
        self._troubles.smtp = _parsed(_SMTP, await request.read())
        return web.Response(status=204)

    async def _trouble_webhook(self, request: web.Request) -> web.Response:
        self._troubles.webhook = _parsed(_WEBHOOK, await request.read())
        return web.Response(status=204)

    async def _receive(self, request: web.Request) -> web.Response:
        endpoint = request.match_info.get("endpoint", "")
        mode = self._troubles.of_webhook(endpoint)
        content = await request.read()
        if mode == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        trouble = {None: None, "redirect": 302}.get(mode, mode)  # type: ignore[arg-type]
        hook = examine(self._verifier, endpoint, request.headers, content, trouble)
        self._hooks.add(hook)
        headers = {"Location": "/webhook/redirected"} if mode == "redirect" else {}
        return web.Response(status=hook.answer, headers=headers)

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

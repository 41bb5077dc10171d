"""The loopback endpoint at which another process applies manifests and moves traffic.

Applying a manifest runs commands. So every request must carry a token, which only the owner of the state folder can
read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from orderflow_sandbox.serving.errors import ManifestError
from orderflow_sandbox.serving.launch import LOOPBACK
from orderflow_sandbox.serving.manifest import Manifests, parse
from orderflow_sandbox.serving.service import Target
from orderflow_sandbox.serving.status import ServiceStatus

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow_sandbox.serving.revisions import Share

_STATUS = TypeAdapter(list[ServiceStatus])
_TRAFFIC = TypeAdapter(tuple[Target, ...])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Applied:
    """The result of applying a Service; `created` says whether there is a new revision."""

    service: str
    revision: str
    created: bool


@dataclass(frozen=True)
class Operations:
    """The functions behind the endpoint."""

    status: Callable[[], list[ServiceStatus]]
    apply: Callable[[Manifests], list[Applied]]
    send_traffic: Callable[[str, Iterable[Target]], tuple[Share, ...]]


class Control:
    """GET /status, POST /apply?file=NAME (YAML), POST /traffic/SERVICE (JSON list of targets)."""

    def __init__(self, operations: Operations, address: Path) -> None:
        """`address` is the file for the URLs and the token."""
        self._operations = operations
        self._address = address
        self._token = secrets.token_urlsafe(24)
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, ingress: int) -> None:
        """Listens, and writes the address file. `ingress` is the ingress' port."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/status", self._status)
        app.router.add_post("/apply", self._apply)
        app.router.add_post("/traffic/{service}", self._traffic)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, port)
        await site.start()
        address = {
            "control": f"http://{LOOPBACK}:{self._runner.addresses[0][1]}",
            "ingress": f"http://{LOOPBACK}:{ingress}",
            "token": self._token,
        }
        self._address.unlink(missing_ok=True)
        self._address.touch(mode=0o600)
        self._address.write_text(json.dumps(address), encoding="utf-8")

    async def stop(self) -> None:
        """Stops listening and removes the address file."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._address.unlink(missing_ok=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        if not secrets.compare_digest(authorization.encode(), f"Bearer {self._token}".encode()):
            return web.Response(status=401, text="the token in control.json is required\n")
        try:
            return await handler(request)
        except ManifestError as error:
            return web.Response(status=422, text=f"{error}\n")

    async def _status(self, _: web.Request) -> web.Response:
        status = _STATUS.dump_json(self._operations.status())
        return web.Response(body=status, content_type="application/json")

    async def _apply(self, request: web.Request) -> web.Response:
        manifests = parse(await request.text(), request.query.get("file", "request"))
        applied = self._operations.apply(manifests)
        return web.json_response(
            [
                {"service": each.service, "revision": each.revision, "created": each.created}
                for each in applied
            ]
        )

    async def _traffic(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        try:
            traffic = _TRAFFIC.validate_json(await request.read())
        except ValidationError as error:
            raise ManifestError(f"{service}: traffic: {error.errors()[0]['msg']}") from error
        route = self._operations.send_traffic(service, traffic)
        return web.json_response(
            [{"revision": each.revision, "percent": each.percent, "tag": each.tag} for each in route]
        )

"""The process: `python -m orderflow_sandbox.stand_ins --smtp-port 2525 --http-port 8025 --state DIR`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from aiosmtpd.smtp import SMTP
from standardwebhooks import Webhook

from orderflow_sandbox.stand_ins.faults import Faults
from orderflow_sandbox.stand_ins.mails import MailStore, Receiver
from orderflow_sandbox.stand_ins.pages import Pages
from orderflow_sandbox.stand_ins.webhooks import WebhookStore, shared_secret

LOOPBACK: Final = "127.0.0.1"


async def serve(smtp_port: int, http_port: int, state: Path, host: str = LOOPBACK) -> None:
    """Serves until SIGTERM or SIGINT. The webhooks' secret is `webhook-secret` in the state folder. It exists, and the
    SMTP server accepts mails, before the HTTP server answers."""
    faults = Faults()
    mails = MailStore(state / "mails")
    webhooks = WebhookStore(state / "webhooks.jsonl")
    verifier = Webhook(shared_secret(state / "webhook-secret"))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    handler = Receiver(mails, faults)
    factory = partial(SMTP, handler, hostname="localhost", ident="sandbox", enable_SMTPUTF8=True, loop=loop)
    server = await loop.create_server(factory, host, smtp_port)
    runner = web.AppRunner(
        Pages(mails, webhooks, verifier, faults).application(), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, host, http_port).start()
    await stopping.wait()
    server.close()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m orderflow_sandbox.stand_ins", description=serve.__doc__)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="the address to listen on")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options.smtp_port, options.http_port, options.state, options.host))


if __name__ == "__main__":
    main()

"""Hands the orders of an outbox over as CloudEvents: `python http_orders.py FOLDER`.

INTAKE is intake's address, INTAKE_KEY an API key where it asks for one, PATIENCE the seconds after which it gives up.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

import httpx
from cloudevents.http import CloudEvent, to_binary

LONGEST_WAIT_SECONDS: Final = 30.0
TIME_MAY_CURE: Final = {408, 429, 500, 502, 503, 504}


class NotTakenError(Exception):
    """Time was over before the order was taken; it may have been, so it is sent again under the same id."""


def placed(file: Path) -> CloudEvent:
    """The event's id is the file's name: the same at every attempt, and after a restart."""
    order_id = file.stem
    attributes = {
        "type": "dev.orderflow.order.placed.v1",
        "source": "/shop/example",
        "id": order_id,
        "subject": order_id,
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, json.loads(file.read_bytes()))


def wait_before(attempt: int, answer: httpx.Response | None) -> float:
    """Seconds: at random up to 0.5, 1, 2 ... 30, and no less than the server asks for."""
    wait = random.uniform(0, min(LONGEST_WAIT_SECONDS, 0.5 * 2**attempt))  # noqa: S311 - jitter is no secret
    asked = answer.headers.get("Retry-After", "") if answer is not None else ""
    return wait + int(asked) if asked.isdigit() else wait


def send(client: httpx.Client, event: CloudEvent, deadline: float) -> httpx.Response:
    """The answer, which is 202 or a refusal for good. Raises NotTakenError."""
    headers, body = to_binary(event)
    attempt = 0
    while True:
        answer = None
        try:
            answer = client.post("/", content=body, headers=headers)
        except httpx.TransportError as error:
            cause = type(error).__name__
        else:
            if answer.status_code not in TIME_MAY_CURE:
                return answer
            cause = str(answer.status_code)
        wait = wait_before(attempt, answer)
        if time.monotonic() + wait > deadline:
            raise NotTakenError(cause)
        time.sleep(wait)
        attempt += 1


def main(outbox: Path) -> int:
    deadline = time.monotonic() + float(os.environ.get("PATIENCE", "120"))
    key = os.environ.get("INTAKE_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for name in ("sent", "refused"):
        (outbox / name).mkdir(exist_ok=True)
    with httpx.Client(base_url=os.environ["INTAKE"], headers=headers, timeout=10) as client:
        for file in sorted(outbox.glob("*.json")):
            try:
                answer = send(client, placed(file), deadline)
            except NotTakenError as error:
                print(f"{file.stem}: not taken in time ({error}); it stays in the outbox", file=sys.stderr)
                return 1
            if answer.status_code == httpx.codes.ACCEPTED:
                file.rename(outbox / "sent" / file.name)
            else:
                print(f"{file.stem}: refused with {answer.status_code}; see refused/", file=sys.stderr)
                (outbox / "refused" / f"{file.stem}.problem").write_bytes(answer.content)
                file.rename(outbox / "refused" / file.name)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or "INTAKE" not in os.environ:  # noqa: PLR2004 - the program and its argument
        sys.exit("usage: INTAKE=http://HOST:PORT python http_orders.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))

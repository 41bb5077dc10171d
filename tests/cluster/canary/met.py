"""Which orders met which revision, as the revisions themselves tell it."""

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Seen:
    """Of one revision; times are of this machine's clock, in seconds since the epoch."""

    first: float
    last: float
    deliveries: int = 0
    orders: set[str] = field(default_factory=set)


class Met:
    """Use as a context manager. It listens at an address of this machine that pods reach."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.2)
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    @property
    def url(self) -> str:
        host, port = self._socket.getsockname()
        return f"udp://{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def of(self, revision: str) -> Seen | None:
        with self._lock:
            return self._seen.get(revision)

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                told = self._socket.recv(1024).decode()
            except TimeoutError:
                continue
            revision, _, order = told.partition(" ")
            now = time.time()
            with self._lock:
                seen = self._seen.setdefault(revision, Seen(now, now))
                seen.last = now
                seen.deliveries += 1
                seen.orders.add(order)

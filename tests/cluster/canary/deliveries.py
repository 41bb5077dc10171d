"""Which events each revision received, as the faulty stages report it over UDP (faulty/delivery_report.py)."""

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self


@dataclass
class RevisionDeliveries:
    """Of one revision. first and last are times of this machine's clock, in seconds since the epoch."""

    first_at: float
    last_at: float
    count: int = 0
    orders: set[str] = field(default_factory=set)


class DeliveryReports:
    """Use as a context manager: it listens at host, an address of this machine that pods reach."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.2)
        self._lock = threading.Lock()
        self._by_revision: dict[str, RevisionDeliveries] = {}
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

    def of(self, revision: str) -> RevisionDeliveries | None:
        with self._lock:
            return self._by_revision.get(revision)

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                report = self._socket.recv(1024).decode()
            except TimeoutError:
                continue
            revision, _, order = report.partition(" ")
            now = time.time()
            with self._lock:
                deliveries = self._by_revision.setdefault(revision, RevisionDeliveries(now, now))
                deliveries.last_at = now
                deliveries.count += 1
                deliveries.orders.add(order)

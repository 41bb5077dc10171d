"""A network between a client and a server that can swallow what passes, without FIN and without RST."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Wire:
    """Listens on loopback and passes bytes on to a server. One thread serves all connections."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._other_end: dict[socket.socket, socket.socket] = {}
        self._swallowed: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for each in [self._listener, *self._other_end]:
            each.close()
        self._selector.close()

    def swallow(self) -> int:
        """From now on nothing passes over the connections that are open. Returns their number."""
        with self._lock:
            self._swallowed |= self._other_end.keys()
            return len(self._other_end) // 2

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._connect()
                elif isinstance(key.fileobj, socket.socket):
                    self._pass_on(key.fileobj)

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        with self._lock:
            self._other_end |= {client: server, server: client}
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = source.recv(65536)
            if source in self._swallowed:
                if not data:
                    self._selector.unregister(source)
                return
            if data:
                self._other_end[source].sendall(data)
                return
        for each in (source, self._other_end[source]):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

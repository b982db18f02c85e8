"""A local HTTP server with one file, which continues downloads and can end a connection early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATE = "Mon, 02 Mar 2020 10:00:00 GMT"


@dataclass
class ServedFile:
    """A file, and how the server answers. ends_after: bytes after which the connection ends; None for all."""

    content: bytes
    date: str = DATE
    ends_after: int | None = None
    status: int = 200
    stalls_after: int | None = None  # bytes after which nothing more comes
    headers: dict[str, str | None] = field(default_factory=dict)  # other ones than usual; None: without it
    starts: list[int] = field(default_factory=list)  # first byte of each response
    authorizations: list[str | None] = field(default_factory=list)  # of each request
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.authorizations.append(handler.headers["Authorization"])
        if self.status != 200:
            handler.send_response(self.status)
            self.end_headers(handler, {"Content-Length": "0"})
            return
        wanted, start = handler.headers["Range"], 0
        if wanted and handler.headers["If-Range"] == self.date:
            start = int(wanted[len("bytes=") : -1])
        self.starts.append(start)
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        headers = {
            "Content-Length": str(len(body)),
            "Last-Modified": self.date,
            "Content-Type": "application/octet-stream",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        self.end_headers(handler, headers)
        handler.wfile.write(body[: self.ends_after if self.stalls_after is None else self.stalls_after])
        if self.stalls_after is not None:
            handler.wfile.flush()
            handler.connection.recv(1)  # returns when the client ends the connection
        handler.close_connection = True

    def end_headers(self, handler: BaseHTTPRequestHandler, headers: dict[str, str]) -> None:
        for name, value in {**headers, **self.headers}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def serve(content: bytes, name: str) -> Iterator[ServedFile]:
    """Serve a file of this name while the block runs."""
    served = ServedFile(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}/models/{name}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()

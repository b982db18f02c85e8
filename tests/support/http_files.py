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
    content_type: str = "application/octet-stream"
    starts: list[int] = field(default_factory=list)  # first byte of each response
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.status != 200:
            handler.send_error(self.status)
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
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Last-Modified", self.date)
        handler.send_header("Content-Type", self.content_type)
        handler.end_headers()
        handler.wfile.write(body[: self.ends_after if self.stalls_after is None else self.stalls_after])
        if self.stalls_after is not None:
            handler.wfile.flush()
            handler.connection.recv(1)  # returns when the client ends the connection
        handler.close_connection = True


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

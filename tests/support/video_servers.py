"""Local servers of video: Motion JPEG over HTTP, as network cameras send it, and RTSP."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

_QUALITY = 90
_CLOCK = 90_000  # of RTP's times, in Hz
_PAYLOAD = 1400  # bytes of a packet
_JPEG = 26  # RTP's number of the format


@contextmanager
def serve_motion_jpeg(frames: Iterable[np.ndarray]) -> Iterator[str]:
    """Serve frames, uint8 [H, W, 3] RGB, over HTTP; yield the address, which looks like no file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for frame in frames:
                content = _jpeg(frame)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + content + b"\r\n")
                except OSError:  # the client has seen enough
                    break
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/live"


@contextmanager
def serve_rtsp(frames: Iterable[np.ndarray], *, rate: int = 25) -> Iterator[str]:
    """Serve frames, uint8 [H, W, 3] RGB with sides that 16 divides, by RTSP as JPEG (RFC 2435) over TCP; yield the
    address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while lines := self._request():
                method, number = lines[0].split()[0], next(line for line in lines if line.startswith("CSeq"))
                extra, body = {
                    "DESCRIBE": (["Content-Type: application/sdp"], _description(rate)),
                    "SETUP": (["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"], ""),
                    "PLAY": (["Session: 1"], ""),
                }.get(method, (["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"], ""))
                head = ["RTSP/1.0 200 OK", number, *extra, f"Content-Length: {len(body)}", "", body]
                self.wfile.write("\r\n".join(head).encode())
                if method == "PLAY":
                    self._play()
                    return

        def _request(self) -> list[str]:
            lines = []
            while (line := self.rfile.readline().decode().strip()) or not lines:
                if not line:
                    return []
                lines.append(line)
            return lines

        def _play(self) -> None:
            sequence = 0
            for number, frame in enumerate(frames):
                for packet in _packets(frame, number * _CLOCK // rate, sequence):
                    sequence += 1
                    try:
                        self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
                    except OSError:
                        return

    with _running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"rtsp://user:secret@127.0.0.1:{port}/door"


@contextmanager
def _running(server: socketserver.TCPServer) -> Iterator[int]:
    with server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _description(rate: int) -> str:
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=door", "t=0 0", f"m=video 0 RTP/AVP {_JPEG}", "c=IN IP4 0.0.0.0"]
    return "\r\n".join([*lines, f"a=framerate:{rate}", "a=control:track", ""])


def _packets(frame: np.ndarray, time: int, sequence: int) -> Iterator[bytes]:
    """Yield the RTP packets of a frame: RFC 2435 leaves out the headers of the JPEG, which follow from its quality."""
    content = _jpeg(frame)
    scan = content.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")
    data = content[start : content.rindex(b"\xff\xd9")]
    height, width = frame.shape[:2]
    for offset in range(0, len(data), _PAYLOAD):
        part = data[offset : offset + _PAYLOAD]
        is_last = offset + len(part) == len(data)
        yield (
            struct.pack(">BBHII", 0x80, _JPEG | is_last << 7, sequence & 0xFFFF, time, 1)
            + struct.pack(">IBBBB", offset, 1, _QUALITY, width // 8, height // 8)
            + part
        )
        sequence += 1

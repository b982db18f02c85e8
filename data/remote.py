"""Fetch pictures from addresses, http:// and https://."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from config.errors import printable
from data.images import ImageError

TIMEOUT = 30.0  # seconds without a byte
HEADERS = {"User-Agent": "Mozilla/5.0"}  # some servers refuse urllib's own
_LARGEST = 1 << 29  # bytes
_BLOCK = 1 << 20


def open_address(address: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Send a request with these headers besides the usual ones. Raises OSError, HTTPException or ValueError."""
    request = urllib.request.Request(address, headers={**HEADERS, **(headers or {})})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def connection_problem(error: Exception) -> str:
    """Return why a request or its response failed."""
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended {error.expected or 0:,} bytes before the end"
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return printable(str(getattr(error, "reason", error))) or type(error).__name__


def fetch_picture(address: str, target: Path) -> None:
    """Write the content of an address to a file. Raises ImageError if it cannot be fetched or is a page of text."""
    try:
        with open_address(address) as response, target.open("wb") as stream:
            if (kind := response.headers.get_content_type()).startswith("text/"):
                raise ImageError(address, f"the server sent {printable(kind)} instead of a picture")
            while block := response.read(_BLOCK):
                stream.write(block)
                if stream.tell() > _LARGEST:
                    raise ImageError(address, f"larger than {_LARGEST >> 20} MB; download it and give the file")
            missing = response.length or 0
        if missing:
            raise http.client.IncompleteRead(b"", missing)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(address, f"cannot be fetched ({connection_problem(error)})") from error


def content_type(address: str) -> str:
    """Return the type that the server states, such as "image/jpeg". Raises ImageError if it cannot be reached."""
    try:
        with open_address(address) as response:
            return response.headers.get_content_type()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ImageError(address, f"cannot be fetched ({connection_problem(error)})") from error


def file_name(address: str) -> Path:
    """Return the name of the file in an address."""
    parts = urlsplit(address)
    return Path(Path(parts.path).name or parts.netloc.replace(":", "_"))

"""Tell addresses (http://, rtsp://, ...) from paths, and fetch pictures from http:// and https://."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from config.errors import InputError, printable
from data.images import ImageError

TIMEOUT = 30.0  # seconds without a byte
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "srt", "mms")
SCHEMES = ("http", "https", *STREAM_SCHEMES)
_USER_AGENT = "Mozilla/5.0"  # some servers refuse urllib's own
_LARGEST = 1 << 29  # bytes
_BLOCK = 1 << 20


def is_address(text: str) -> bool:
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text))


def check_address(address: str) -> None:
    """Raise InputError for an address that is malformed, or of a scheme that cannot be read."""
    name = hide_password(address)
    try:
        scheme = urlsplit(address).scheme.lower()
    except ValueError as error:
        raise InputError(f"{name}: is not a valid address ({error}); correct it") from None
    if scheme == "file":
        raise InputError(f"{name}: give the path without file://")
    if scheme not in SCHEMES:
        raise InputError(f"{name}: addresses begin with {', '.join(f'{known}://' for known in SCHEMES)}")


def hide_password(address: str) -> str:
    """Return an address without its user and password, for messages and results."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


def file_name(address: str) -> Path:
    """Return the name of the file in an address, or of the host if it has none."""
    parts = urlsplit(hide_password(address))
    return Path(Path(parts.path).name or re.sub(r"[^\w.-]", "_", parts.netloc))


def open_address(address: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Send a request with these headers, and with the user and password of the address.

    Raises OSError, HTTPException or ValueError.
    """
    request = urllib.request.Request(hide_password(address), headers={"User-Agent": _USER_AGENT, **(headers or {})})
    user, at, _ = urlsplit(address).netloc.rpartition("@")
    if at:  # not sent to other servers after a redirection
        credentials = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
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
    name = hide_password(address)
    try:
        with open_address(address) as response, target.open("wb") as stream:
            if (kind := response.headers.get_content_type()).startswith("text/"):
                raise ImageError(name, f"the server sent {printable(kind)} instead of a picture")
            while block := response.read(_BLOCK):
                stream.write(block)
                if stream.tell() > _LARGEST:
                    raise ImageError(name, f"larger than {_LARGEST >> 20} MB; download it and give the file")
            missing = response.length or 0
        if missing:
            raise http.client.IncompleteRead(b"", missing)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _fetch_error(name, error) from error


def content_type(address: str) -> str:
    """Return the type that the server states, such as "image/jpeg". Raises ImageError if it cannot be reached."""
    try:
        with open_address(address) as response:
            return response.headers.get_content_type()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _fetch_error(hide_password(address), error) from error


def _fetch_error(name: str, error: Exception) -> ImageError:
    """Return the ImageError of a failed request; an ImageError itself is returned as it is."""
    if isinstance(error, ImageError):
        return error
    return ImageError(name, f"cannot be fetched ({connection_problem(error)}); check the address and the connection")

"""Facts about PBM, PGM and PPM files that OpenCV does not tell."""

from __future__ import annotations

import re

# The kind, width, height and the value of white, with white space and comments between them.
_HEADER = re.compile(rb"P[2356]" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3 + rb"\s")
_KEPT = (255, 65535)


def misread_white(data: bytes) -> str | None:
    """Return why `data` must not be decoded for a picture of 8 bits, if it is a PGM or PPM file; None if it may be.

    OpenCV ignores the value of white, so that 4095, as of 12 bits, would become dark.
    """
    header = _HEADER.match(data)
    if not header or int(header[3]) in _KEPT:
        return None
    remedy = "save it with 255 or 65535, or set data.stretch"
    return f"PGM or PPM whose white is {int(header[3])}, which OpenCV ignores; {remedy}"

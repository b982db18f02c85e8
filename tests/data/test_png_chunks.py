"""libpng's warnings about a PNG are not printed, and the pixels stay the same."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.images import read_image, read_stored_values
from data.png_chunks import png_damage, without_unused_chunks
from tests.support.png_chunks import png_chunk

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
_HEADER_END = 33  # of the signature and IHDR


def encode(picture: np.ndarray, *chunks: bytes) -> bytes:
    data = cv2.imencode(".png", picture)[1].tobytes()
    return data[:_HEADER_END] + b"".join(chunks) + data[_HEADER_END:]


@pytest.mark.parametrize("kind", [b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"sBIT", b"pHYs", b"tIME", b"zTXt", b"iTXt"])
def test_a_wrong_remark_prints_nothing(tmp_path, capfd, kind):
    path = tmp_path / "a.png"
    path.write_bytes(encode(PICTURE[..., :3], png_chunk(kind, b"12")))
    np.testing.assert_array_equal(read_image(path), PICTURE[..., 2::-1])
    np.testing.assert_array_equal(read_stored_values(path), PICTURE[..., 2::-1])
    assert capfd.readouterr().err == ""


@given(channels=st.sampled_from([1, 3, 4]), deep=st.booleans(), gamma=st.integers(1, 2**31 - 1), data=st.data())
def test_pixels_do_not_depend_on_what_is_left_out(channels, deep, gamma, data):
    picture = PICTURE[..., :channels].astype(np.uint16) * 257 if deep else PICTURE[..., :channels]
    remarks = [
        png_chunk(b"gAMA", struct.pack(">I", gamma)),
        png_chunk(b"sRGB", b"\0"),
        png_chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
        png_chunk(b"tEXt", b"Comment\0" + data.draw(st.binary(max_size=9).filter(lambda text: 0 not in text))),
    ]
    whole = encode(picture, *data.draw(st.lists(st.sampled_from(remarks), unique=True)))
    short = without_unused_chunks(whole)
    assert short == encode(picture) and png_damage(short) is None
    for flag in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR):
        found = [cv2.imdecode(np.frombuffer(content, np.uint8), flag) for content in (whole, short)]
        np.testing.assert_array_equal(*found)

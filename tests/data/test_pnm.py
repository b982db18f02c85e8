"""PGM and PPM files whose white is another value than OpenCV takes."""

from __future__ import annotations

import numpy as np
import pytest

from data.images import ImageError, read_image, read_stored_values


@pytest.mark.parametrize(
    ("header", "white"), [(b"P5\n2 1\n", 4095), (b"P5 2 1 ", 1000), (b"P5\n# by a camera\n2 1\n", 300)]
)
def test_another_white_is_refused_for_8_bits(tmp_path, header, white):
    values = np.array([[0, white]], ">u2")
    (tmp_path / "a.pgm").write_bytes(header + f"{white}\n".encode() + values.tobytes())
    with pytest.raises(ImageError, match=f"PGM or PPM whose white is {white}"):
        read_image(tmp_path / "a.pgm")
    np.testing.assert_array_equal(read_stored_values(tmp_path / "a.pgm"), values)


@pytest.mark.parametrize(("white", "dtype"), [(255, "u1"), (65535, ">u2")])
def test_the_usual_white_is_255(tmp_path, white, dtype):
    (tmp_path / "a.pgm").write_bytes(f"P5\n2 1\n{white}\n".encode() + np.array([[0, white]], dtype).tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[..., 0], [[0, 255]])

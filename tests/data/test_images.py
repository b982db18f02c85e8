"""Pictures on disk: which files are found, what is read from each format, and how bad files are refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from config.errors import InputError
from data.images import ImageError, find_images, picture_size, read_image, write_image
from tests.support.png_chunks import grey_png

SCENE = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8), (96, 64))
RGB = Image.fromarray(SCENE)
GREY = RGB.convert("L")
UPSIDE_DOWN = RGB.rotate(180)
ALPHA = np.random.default_rng(1).integers(0, 256, (64, 96), dtype=np.uint8)
SIXTEEN_BIT = np.random.default_rng(2).integers(0, 65536, (64, 96, 3), dtype=np.uint16)
ORIENTATION_TAG = 0x112


def encode(picture: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def encode_by_opencv(extension: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(extension, picture)[1].tobytes()


def with_alpha(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.putalpha(Image.fromarray(ALPHA))
    return picture


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif


def interlaced_grey_png(grey: np.ndarray) -> bytes:
    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [grey[top::down, left::right] for top, left, down, right in adam7]
    rows = b"".join(b"\0" + row.tobytes() for one_pass in passes for row in one_pass)  # 0: no row filter
    return grey_png(grey.shape[1], grey.shape[0], rows=rows, interlaced=True)


def with_jpeg_size(jpeg: bytes, width: int, height: int) -> bytes:
    start = jpeg.index(b"\xff\xc0")
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]


def read_bytes(data: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture")
        path.write_bytes(data)
        return read_image(path)


def reason_for(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_bytes(data)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def make_files(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


JPEG = encode(RGB, "JPEG")
JPEG_WITH_RESTARTS = encode(RGB, "JPEG", restart_marker_blocks=2)
PROGRESSIVE = encode(RGB, "JPEG", progressive=True)
PNG = encode(RGB, "PNG")
CMYK = encode(RGB.convert("CMYK"), "JPEG", quality=95)
LOSSLESS_OR_PLAIN = {
    "png": PNG,
    "palette png": encode(RGB.quantize(256), "PNG"),
    "black and white png": encode(RGB.convert("1"), "PNG"),
    "grey png": encode(GREY, "PNG"),
    "grey and alpha png": encode(with_alpha(GREY), "PNG"),
    "interlaced png": interlaced_grey_png(np.asarray(GREY)),
    "animated png": encode(RGB, "PNG", save_all=True, append_images=[UPSIDE_DOWN]),
    "jpeg": JPEG,
    "jpeg with restart markers": JPEG_WITH_RESTARTS,
    "progressive jpeg": PROGRESSIVE,
    "grey jpeg": encode(GREY, "JPEG"),
    "tiff of two pages": encode(RGB, "TIFF", save_all=True, append_images=[UPSIDE_DOWN]),
    "lzw tiff": encode(RGB, "TIFF", compression="tiff_lzw"),
    "bmp": encode(RGB, "BMP"),
    "webp": encode(RGB, "WEBP", lossless=True),
    "jpeg 2000": encode(RGB, "JPEG2000"),
    "ppm": encode(RGB, "PPM"),
}


class TestFindImages:
    def test_lists_the_pictures_of_a_folder_in_natural_order(self, tmp_path):
        pictures = make_files(tmp_path, "a.TIFF", "img1.jpg", "IMG2.JPG", "img10.png")
        make_files(tmp_path, "notes.txt", ".hidden.jpg", "sub.jpg/inner.jpg")
        assert find_images([tmp_path]) == pictures

    @given(numbers=st.sets(st.integers(0, 10**12), min_size=1, max_size=8))
    @settings(max_examples=20)
    def test_orders_numbers_by_value(self, numbers):
        with tempfile.TemporaryDirectory() as folder:
            make_files(Path(folder), *(f"frame_{number}.jpg" for number in numbers))
            assert [path.name for path in find_images([folder])] == [f"frame_{n}.jpg" for n in sorted(numbers)]

    def test_takes_a_named_file_whatever_its_extension(self, tmp_path):
        paths = make_files(tmp_path, "scan.dat", "no_extension", "a[1].jpg", "what?.jpg")
        assert find_images(paths) == paths

    def test_expands_patterns(self, tmp_path):
        top, inner, deep, note = make_files(tmp_path, "1.jpg", "x/2.jpg", "x/y/3.png", "x/note.txt")
        assert find_images([f"{tmp_path}/**/*.jpg"]) == [top, inner]
        assert find_images([f"{tmp_path}/**"]) == [top, inner, deep]
        assert find_images([f"{tmp_path}/x/*"]) == [inner]
        assert find_images([f"{tmp_path}/x/*.txt"]) == [note]

    def test_reads_brackets_of_an_existing_folder_as_they_are(self, tmp_path):
        pictures = make_files(tmp_path, "photos [2023]/1.jpg", "photos [2023]/2.jpg")
        assert find_images([f"{tmp_path}/photos [2023]/*.jpg"]) == pictures

    def test_takes_patterns_relative_to_the_working_folder(self, tmp_path, monkeypatch):
        make_files(tmp_path, "1.jpg", "x/2.jpg")
        monkeypatch.chdir(tmp_path)
        assert find_images(["*.jpg", "x/*.jpg"]) == [Path("1.jpg"), Path("x/2.jpg")]

    def test_keeps_the_order_given_and_drops_repetitions(self, tmp_path, monkeypatch):
        first, second = make_files(tmp_path, "1.jpg", "2.jpg")
        monkeypatch.chdir(tmp_path)
        sources = [second, tmp_path, "1.jpg", f"{tmp_path}/x/../1.jpg", f"{tmp_path}/*.jpg"]
        (tmp_path / "x").mkdir()
        assert find_images(sources) == [second, first]

    def test_keeps_a_dangling_link_for_the_reader_to_report(self, tmp_path):
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
        assert find_images([tmp_path]) == [tmp_path / "gone.jpg"]

    @pytest.mark.parametrize(
        ("source", "part"),
        [
            ("dgo.jpg", "did you mean {}/dog.jpg?"),
            ("phots/cat.jpg", "did you mean {}/photos?"),
            ("phots/*.jpg", "did you mean {}/photos?"),
            ("zzz", "no such file or folder; give a picture, a folder of pictures or a quoted pattern"),
            ("dog.jpg/cat.jpg", "{}/dog.jpg is a file"),
            ("photos", "no pictures in this folder"),
            ("photos/*.png", "no file matches this pattern"),
            ("x" * 300 + ".jpg", "File name too long"),
        ],
    )
    def test_names_a_source_without_pictures(self, tmp_path, source, part):
        make_files(tmp_path, "dog.jpg", "photos/readme.txt")
        with pytest.raises(InputError) as caught:
            find_images([tmp_path / source])
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / source}: ")
        assert part.format(tmp_path) in message
        assert "\n" not in message


class TestReadImage:
    @pytest.mark.parametrize("data", LOSSLESS_OR_PLAIN.values(), ids=LOSSLESS_OR_PLAIN.keys())
    def test_is_bit_equal_to_imread_and_right(self, tmp_path, data):
        path = tmp_path / "picture"
        path.write_bytes(data)
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        np.testing.assert_array_equal(image, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
        np.testing.assert_allclose(image.astype(int), by_pillow(data), atol=2)  # another libjpeg may round otherwise

    def test_drops_alpha(self):
        np.testing.assert_array_equal(read_bytes(encode(with_alpha(RGB), "PNG")), SCENE)

    @pytest.mark.parametrize("extension", [".png", ".tiff"])
    def test_scales_16_bits_to_8(self, extension):
        image = read_bytes(encode_by_opencv(extension, SIXTEEN_BIT))
        np.testing.assert_allclose(image[..., ::-1], SIXTEEN_BIT / 257, atol=1)

    @pytest.mark.parametrize("adobe_transform", [0, 2], ids=["CMYK", "YCCK"])
    def test_converts_inverted_cmyk(self, adobe_transform):
        data = CMYK.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0" + bytes([adobe_transform]))
        np.testing.assert_allclose(read_bytes(data).astype(int), by_pillow(data), atol=2)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
    def test_turns_upright_by_exif(self, file_format, orientation):
        data = encode(RGB, file_format, exif=with_orientation(orientation))
        np.testing.assert_allclose(read_bytes(data).astype(int), by_pillow(data), atol=2)

    @pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
    def test_reads_the_first_frame_of_an_animation_or_says_why_not(self, file_format):
        frames = [picture.quantize(256) for picture in (RGB, UPSIDE_DOWN)]
        data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
        try:
            image = read_bytes(data)
        except ImageError as error:
            assert cv2.__version__ in error.reason
            assert "convert it to PNG" in error.reason
        else:
            np.testing.assert_array_equal(image, by_pillow(data))

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (20000, 200)])
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
    def test_reads_odd_sizes(self, file_format, width, height):
        assert read_bytes(encode(Image.new("RGB", (width, height)), file_format)).shape == (height, width, 3)

    def test_reads_a_path_that_is_not_ascii(self, tmp_path):
        path = tmp_path / "Köln 東京 🐈.png"
        path.write_bytes(PNG)
        np.testing.assert_array_equal(read_image(str(path)), SCENE)

    @pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG], ids=["jpeg", "progressive", "png"])
    def test_ignores_what_follows_the_end(self, data):
        np.testing.assert_array_equal(read_bytes(data + b"trailing\xff\xd8" * 100), read_bytes(data))

    def test_is_thread_safe(self, tmp_path):
        paths = []
        for number, data in enumerate([*LOSSLESS_OR_PLAIN.values(), JPEG[:900], PNG[:900]] * 4):
            paths.append(tmp_path / str(number))
            paths[-1].write_bytes(data)

        def read_or_reason(path: Path) -> bytes | str:
            try:
                return read_image(path).tobytes()
            except ImageError as error:
                return error.reason

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read_or_reason, paths)) == [read_or_reason(path) for path in paths]


class TestPictureSize:
    TOLD_BY_HEADER = {kind: LOSSLESS_OR_PLAIN[kind] for kind in ("png", "jpeg", "grey jpeg", "bmp", "webp", "ppm")}

    @pytest.mark.parametrize("data", TOLD_BY_HEADER.values(), ids=TOLD_BY_HEADER.keys())
    def test_is_read_from_the_header(self, tmp_path, monkeypatch, data):
        (tmp_path / "picture").write_bytes(data)
        monkeypatch.setattr(cv2, "imdecode", None)
        assert picture_size(tmp_path / "picture") == (64, 96)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_is_that_of_the_upright_picture_or_unknown(self, tmp_path, file_format, orientation):
        (tmp_path / "picture").write_bytes(encode(RGB, file_format, exif=with_orientation(orientation)))
        size = picture_size(tmp_path / "picture")
        assert size == read_image(tmp_path / "picture").shape[:2] or (size is None and file_format != "JPEG")

    NAMES = ["empty", "text", "heic", "start of jpeg", "jpeg", "progressive", "png", "radiance", "pfm", "png bomb"]

    @pytest.mark.parametrize("name", NAMES)
    def test_names_damage_at_both_ends_of_the_file(self, tmp_path, name):
        data, reason = TestImageError.REASONS[name]
        (tmp_path / "picture").write_bytes(data)
        with pytest.raises(ImageError) as caught:
            picture_size(tmp_path / "picture")
        assert caught.value.reason.startswith(reason)

    @pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG], ids=["jpeg", "progressive", "png"])
    def test_accepts_data_that_cameras_append(self, tmp_path, data):
        (tmp_path / "picture").write_bytes(data + bytes(100_000))
        assert picture_size(tmp_path / "picture") == read_image(tmp_path / "picture").shape[:2]

    def test_names_what_is_no_picture_file(self, tmp_path):
        for path, reason in ((tmp_path, "a folder, not a picture"), (tmp_path / "gone", "no such file or folder")):
            with pytest.raises(ImageError) as caught:
                picture_size(path)
            assert caught.value.reason == reason


class TestImageError:
    REASONS = {
        "empty": (b"", "empty file"),
        "text": (b"hello, world\n" * 20, "not a picture"),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "HEIC"),
        "start of jpeg": (JPEG[:2], "truncated or damaged JPEG"),
        "jpeg": (JPEG[:-2], "truncated or damaged JPEG"),
        "progressive": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "truncated or damaged JPEG"),
        "png": (PNG[:-12], "truncated PNG"),
        "png checksum": (PNG.replace(PNG[60:64], b"\0\1\2\3"), "damaged PNG"),
        "png without sides": (grey_png(0, 0, rows=b""), "damaged PNG, 0 x 0 pixels"),
        "png with huge sides": (grey_png(2**31 - 1, 9, rows=b""), f"damaged PNG, {2**31 - 1} x 9 pixels"),
        "bmp": (LOSSLESS_OR_PLAIN["bmp"][:999], "damaged BMP"),
        "tiff": (LOSSLESS_OR_PLAIN["lzw tiff"][:500], "damaged TIFF"),
        "float tiff": (encode(Image.fromarray(SCENE[..., 0].astype(np.float32)), "TIFF"), "TIFF with float32 samples"),
        "int32 tiff": (encode(Image.fromarray(SCENE[..., 0].astype(np.int32)), "TIFF"), "TIFF with "),
        "radiance": (encode_by_opencv(".hdr", SCENE.astype(np.float32)), "floating-point picture"),
        "pfm": (encode_by_opencv(".pfm", SCENE.astype(np.float32)), "floating-point picture"),
        "png bomb": (grey_png(40000, 40000, rows=b""), "more than 2^30 pixels"),
        "jpeg bomb": (with_jpeg_size(JPEG, 40000, 40000), "more than 2^30 pixels"),
    }

    @pytest.mark.parametrize(("data", "reason"), REASONS.values(), ids=REASONS.keys())
    def test_tells_the_reason_and_keeps_the_terminal_clean(self, capfd, data, reason):
        assert reason_for(data).startswith(reason)
        assert capfd.readouterr().err == ""

    def test_sees_a_jpeg_cut_off_after_its_thumbnail(self):
        thumbnail = encode(RGB.resize((48, 32)), "JPEG")
        exif = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(thumbnail)) + b"Exif\0\0" + thumbnail
        whole = JPEG[:2] + exif + JPEG[2:]
        np.testing.assert_array_equal(read_bytes(whole), read_bytes(JPEG))
        assert reason_for(whole[:-100]).startswith("truncated or damaged JPEG")

    def test_reads_a_jpeg_with_fill_bytes_between_segments(self):
        start = JPEG.index(b"\xff\xdb")
        np.testing.assert_array_equal(read_bytes(JPEG[:start] + b"\xff\xff\xff" + JPEG[start:]), read_bytes(JPEG))

    def test_names_what_is_no_picture_file(self, tmp_path):
        with pytest.raises(ImageError, match="gone.jpg: no such file or folder$"):
            read_image(tmp_path / "gone.jpg")
        with pytest.raises(ImageError, match="a folder, not a picture$"):
            read_image(tmp_path)
        (tmp_path / "film.mkv").touch()
        os.truncate(tmp_path / "film.mkv", 2**31)
        with pytest.raises(ImageError, match="film.mkv: more than 2 GiB"):
            read_image(tmp_path / "film.mkv")

    @pytest.mark.parametrize("data", [PNG, LOSSLESS_OR_PLAIN["webp"], LOSSLESS_OR_PLAIN["tiff of two pages"]])
    def test_reads_a_name_that_is_not_utf8(self, tmp_path, data):
        path = tmp_path / os.fsdecode(b"\xff.png")
        path.write_bytes(data)
        assert picture_size(path) == read_image(path).shape[:2] == (64, 96)
        write_image(path, read_image(path))
        np.testing.assert_array_equal(read_image(path), SCENE)

    @pytest.mark.parametrize("read", [read_image, picture_size])
    def test_names_a_device_or_a_pipe(self, tmp_path, read):
        (tmp_path / "a.jpg").symlink_to(os.devnull)
        with pytest.raises(ImageError, match="a.jpg: cannot be read: a pipe or a device, not a regular file$"):
            read(tmp_path / "a.jpg")

    def test_names_a_file_it_may_not_read(self, tmp_path, monkeypatch):
        (tmp_path / "locked.jpg").write_bytes(JPEG)

        def refuse(path: Path, _mode: str) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)  # file modes do not stop root
        with pytest.raises(ImageError, match="locked.jpg: permission denied"):
            read_image(tmp_path / "locked.jpg")

    def test_is_an_input_error_that_can_cross_processes(self):
        error = pickle.loads(pickle.dumps(ImageError("a.jpg", "empty file")))
        assert isinstance(error, InputError)
        assert str(error) == "a.jpg: empty file"
        assert (error.name, error.reason) == ("a.jpg", "empty file")

    @pytest.mark.parametrize(
        "data", [JPEG, JPEG_WITH_RESTARTS, PROGRESSIVE, PNG], ids=["jpeg", "restarts", "progressive", "png"]
    )
    @given(cut=st.floats(0, 1))
    @settings(max_examples=60)
    def test_a_cut_off_picture_is_refused_or_whole(self, data, cut):
        try:
            image = read_bytes(data[: round(cut * len(data))])
        except ImageError:
            return
        np.testing.assert_array_equal(image, read_bytes(data))

    @pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
    @given(flips=st.dictionaries(st.floats(0, 1, exclude_max=True), st.integers(1, 255), min_size=1, max_size=4))
    @settings(max_examples=150)
    def test_a_damaged_picture_is_read_or_refused(self, data, flips):
        damaged = bytearray(data)
        for position, mask in flips.items():
            damaged[int(position * len(data))] ^= mask
        try:
            image = read_bytes(bytes(damaged))
        except ImageError as error:
            assert "\n" not in str(error)
            return
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)

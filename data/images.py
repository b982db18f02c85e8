"""Find, read and write pictures."""

from __future__ import annotations

import difflib
import functools
import glob
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Callable

import cv2
import numpy as np
from PIL import Image

from config.errors import InputError
from data.deep_values import to_bytes
from data.files import as_path, atomic_write, open_regular, why_missing
from data.png_chunks import is_png, png_damage, without_unused_chunks
from data.pnm import misread_white
from data.stretch import stretch_picture
from data.tiff_pages import has_deep_grey_tiles, misread_layout

# The formats that OpenCV can decode if its build includes them: name, extensions, first bytes of the file.
_FORMATS = (
    ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), rb"\xff\xd8\xff"),
    ("PNG", (".png",), rb"\x89PNG\r\n\x1a\n"),
    ("BMP", (".bmp", ".dib"), rb"BM"),
    ("WebP", (".webp",), rb"RIFF....WEBP"),
    ("TIFF", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]"),
    ("GIF", (".gif",), rb"GIF8[79]a"),
    ("JPEG 2000", (".jp2", ".j2k"), rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("AVIF", (".avif",), rb"....ftypavi[fs]"),
    ("PNM", (".ppm", ".pgm", ".pbm", ".pnm"), rb"P[1-6]\s"),
)
_EXTENSIONS = tuple(extension for _, extensions, _ in _FORMATS for extension in extensions)

_HEIC = re.compile(rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)
# OpenCV returns a wrong picture for these: clipped at 1.0 (Radiance) or almost black (PFM, where 1.0 becomes 1 of 255).
_HIGH_DYNAMIC_RANGE = re.compile(rb"#\?(?:RADIANCE|RGBE)|P[Ff]\r?\n|\x76\x2f\x31\x01")
_SIGNATURE = 16  # number of first bytes that identify the format
# By Pillow's names: formats that every OpenCV reads; that it reads with the size in the header, up to the rotation by
# EXIF; and that all its versions rotate by EXIF.
_ALWAYS_READ = ("JPEG", "MPO", "PNG", "BMP", "PPM")
_SAME_SIZE = (*_ALWAYS_READ, "WEBP")
_ALWAYS_ROTATED = ("JPEG", "MPO")
ORIENTATION = 0x0112  # EXIF tag
_MAX_BYTES = 2**31 - 1
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_END_MARKS = {b"\xff\xd8": _JPEG_END, b"\x89PNG": _PNG_END}  # by the first bytes of the file
_TAIL = 256  # last bytes of a file, which contain its end mark unless a program appended data

# OpenCV's log is silenced (level 0), because errors become an ImageError and log lines would disturb progress bars.
# The function is cv2.setLogLevel in OpenCV 4 and cv2.utils.logging.setLogLevel in OpenCV 5.
getattr(cv2.utils, "logging", cv2).setLogLevel(0)
# Pillow reads only headers here, and would warn of tags of other programs that it finds in them.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


class ImageError(InputError):
    """Raised if a picture or video, a path or an address, cannot be read. The message is "name: reason" on one line."""

    def __init__(self, name: str | Path, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = str(name), reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def find_images(sources: Sequence[str | Path], *, extra_suffixes: Sequence[str] = ()) -> list[Path]:
    """List the picture files of `sources`.

    A source is one of
    - a file: taken as it is, whatever its extension;
    - a folder: its files with a picture's extension, without subfolders and hidden files, img2 before img10;
    - a pattern with `*`, `?` or `[...]` (`**` for any depth): the matching files, in the same order. Files without a
      picture's extension are left out unless no match has one. A file or folder with exactly this name takes
      precedence over the pattern.

    extra_suffixes: other file name extensions to look for.
    Returns paths in the order of the sources, each file once, at its first position. Raises InputError for a source
    that does not exist, cannot be listed or contains no pictures.
    """
    resolve_folder = functools.cache(Path.resolve)
    files: dict[tuple[Path, str], Path] = {}
    for source in sources:
        try:
            paths = _expand(source, (*_EXTENSIONS, *extra_suffixes))
        except OSError as error:
            raise InputError(f"{source}: {error.strerror}; check the name and its permissions") from error
        for path in paths:
            files.setdefault((resolve_folder(path.parent), path.name), path)
    return list(files.values())


def has_picture_suffix(path: Path) -> bool:
    return path.suffix.lower() in _EXTENSIONS


def read_image(path: str | Path, stretch: Sequence[float] = ()) -> np.ndarray:
    """Read a picture as 8-bit RGB: uint8 [H, W, 3], contiguous, writable.

    stretch: `data.stretch` of a config; the values are then stretched to 0 to 255 (`stretch_picture`). Without it, the
    pixels equal `cv2.imread(path, cv2.IMREAD_COLOR)` with the channels reversed, bit for bit, because the published
    checkpoints were trained on pictures decoded this way. Therefore: a picture with an EXIF orientation comes out
    upright (WebP with OpenCV 5.0 but not 4.10, AVIF with neither); grey becomes three equal channels; alpha is dropped,
    which shows the colours hidden under transparent pixels, except in TIFFs of 8 bits, whose colours it multiplies;
    16-bit samples are divided by 256 or 257 (also in grey TIFFs in tiles, of which OpenCV 5.0 makes a wrong picture);
    only the first of several frames or pages is read. Thread-safe.

    Raises ImageError if the file cannot be read, is not a picture, is cut off (OpenCV 4 would fill up the rest of a
    JPEG with grey), is a TIFF that OpenCV reads wrongly (`misread_layout`), has more than 2^30 pixels, or has
    floating-point or 32-bit samples, whose value for white is unknown; such TIFFs are read with `stretch`. A JPEG that
    is damaged in the middle is not detected.
    """
    if stretch:
        return stretch_picture(read_stored_values(path), stretch)
    return _decode(as_path(path), _decode_bytes)


def read_stored_values(path: str | Path) -> np.ndarray:
    """Read the values that a picture file stores, of any dtype: [H, W] for grey, else [H, W, 3] RGB, contiguous.

    Differs from `read_image` only in this, and in reading TIFFs with floating-point and 32-bit samples.
    """
    return _decode(as_path(path), _decode_values)


def _decode(path: Path, decode: Callable[[np.ndarray], np.ndarray | None]) -> np.ndarray:
    """Decode the content of a file, uint8 [n]; `decode` returns None if it cannot. Raises ImageError."""
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > _MAX_BYTES:
                raise ImageError(path, "more than 2 GiB, which OpenCV refuses; if it is a video, give it as one")
            data = stream.read()
    except OSError as error:
        raise ImageError(path, _why_unreadable(path, error)) from error
    as_stored = decode is _decode_values
    reason = _why_refused(data) or misread_layout(data, as_stored=as_stored) or (not as_stored and misread_white(data))
    if reason:
        raise ImageError(path, reason)
    if not as_stored and has_deep_grey_tiles(data):
        decode = _decode_deep_grey
    try:
        image = decode(np.frombuffer(without_unused_chunks(data), np.uint8))
        if image is None:
            raise ImageError(path, _why_undecodable(data))
        return image
    except cv2.error as error:
        raise ImageError(path, _why_failed(error)) from error


def _decode_bytes(content: np.ndarray) -> np.ndarray | None:
    image = cv2.imdecode(content, cv2.IMREAD_COLOR)  # [H, W, 3] BGR
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_deep_grey(content: np.ndarray) -> np.ndarray | None:
    values = _decode_values(content)  # [H, W]
    return None if values is None else cv2.cvtColor(to_bytes(values), cv2.COLOR_GRAY2RGB)


def _decode_values(content: np.ndarray) -> np.ndarray | None:
    image = cv2.imdecode(content, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)  # [H, W] or [H, W, 3] BGR
    if image is None:  # 32-bit samples with alpha
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim == 2:
        return image
    return np.ascontiguousarray(image[..., 2::-1])


def picture_size(path: str | Path) -> tuple[int, int] | None:
    """Return height and width of the picture that `read_image` will return, from the file's header if possible.

    Returns None for formats where only decoding by OpenCV tells the size. Raises ImageError if the first bytes show
    that the picture cannot be read, or its end that it is cut off. Pillow may issue warnings. Thread-safe.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            beginning = stream.read(_SIGNATURE)
            reason = _why_refused_by_start(beginning) or _why_cut_off(stream, beginning)
            stream.seek(0)
            header = _read_header(stream)
    except OSError as error:
        raise ImageError(path, _why_unreadable(path, error)) from error
    if reason:
        raise ImageError(path, reason)
    if header is None:
        return read_stored_values(path).shape[:2]
    (width, height), is_swapped, kind = header
    if kind not in _ALWAYS_READ:
        if not _is_utf8(path):  # OpenCV cannot open it by its name
            return read_stored_values(path).shape[:2]
        if not cv2.haveImageReader(str(path)):
            raise ImageError(path, _why_undecodable(path.read_bytes()))
    if kind not in _SAME_SIZE or (is_swapped and kind not in _ALWAYS_ROTATED):
        return None
    return (width, height) if is_swapped else (height, width)


def _is_utf8(path: Path) -> bool:
    with suppress(UnicodeEncodeError):
        return bool(str(path).encode())
    return False


def _read_header(stream: BinaryIO) -> tuple[tuple[int, int], bool, str | None] | None:
    """Return the stored (width, height), whether EXIF swaps them, and Pillow's name of the format; None on failure."""
    try:
        with Image.open(stream) as image:
            return image.size, _swaps_sides(image.info.get("exif")), image.format
    except Exception:  # Pillow's readers raise all kinds of exceptions for damaged files
        return None


def _swaps_sides(exif: bytes | None) -> bool:
    """Return whether an EXIF orientation swaps width and height."""
    if not exif:
        return False
    tags = Image.Exif()
    tags.load(exif)
    return tags.get(ORIENTATION) in (5, 6, 7, 8)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write a picture, uint8 [H, W, 3] RGB, or a mask, bool [H, W], in the format of the suffix.

    A mask becomes black and white. Raises InputError if it cannot be written.
    """
    content = encode_image(Path(path), image)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def encode_image(path: Path, image: np.ndarray) -> bytes:
    """Return the content of the file that `write_image` writes; raise InputError as it does."""
    if image.dtype == bool:
        image = np.repeat(image[..., None], 3, axis=2) * np.uint8(255)
    if not path.suffix.isascii() or not cv2.haveImageWriter(f"picture{path.suffix}"):
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is not a picture format; use .png or .jpg")
    encoded, content = cv2.imencode(path.suffix, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise InputError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels are too many for this format; use .png")
    return content.tobytes()


def _expand(source: str | Path, extensions: Sequence[str]) -> list[Path]:
    """List the files of one source of `find_images`. Raises OSError if the folder cannot be listed."""
    path = Path(source)
    if not str(source):  # Path("") is the current folder
        raise InputError("an empty name instead of a picture; give a picture, a folder of pictures or a quoted pattern")
    if path.is_dir():
        pictures = _sort_pictures((file for file in path.iterdir() if not file.name.startswith(".")), extensions)
        if not pictures:
            raise InputError(
                f"{source}: no pictures in this folder (looked for {' '.join(extensions)}); "
                f"to include its subfolders give the quoted pattern '{path / '**' / '*'}'"
            )
        return pictures
    if path.exists():
        return [path]
    if any(character in str(source) for character in "*?["):
        return _match(path, extensions)
    raise InputError(
        f"{source}: {why_missing(path)}{_suggest(path)}; "
        "give a picture, a folder of pictures or a quoted pattern such as 'photos/*.jpg'"
    )


def _match(pattern: Path, extensions: Sequence[str]) -> list[Path]:
    """List the files of a pattern. Leading folders that exist are taken literally, even with `[` in their names."""
    folder = next(parent for parent in pattern.parents if parent.exists())
    escaped = Path(glob.escape(str(folder))) / pattern.relative_to(folder)
    matches = map(Path, glob.glob(str(escaped), recursive=True))  # noqa: PTH207 (Path.glob also finds hidden files)
    files = [match for match in matches if not match.is_dir()]
    if not files:
        raise InputError(f"{pattern}: no file matches this pattern{_suggest(pattern)}; '**' matches all subfolders")
    return _sort_pictures(files, extensions) or sorted(files, key=_natural_order)


def _sort_pictures(paths: Iterable[Path], extensions: Sequence[str]) -> list[Path]:
    """Return the paths with one of the extensions in natural order. Dangling links stay; reading them reports them."""
    pictures = (path for path in paths if path.suffix.lower() in extensions and not path.is_dir())
    return sorted(pictures, key=_natural_order)


def _natural_order(path: Path) -> tuple[list[list[str | int]], Path]:
    """Return a sort key that compares folder by folder, numbers by value and letters without case."""
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    return [[int(piece) if piece.isdecimal() else piece for piece in part] for part in parts], path


def _suggest(path: Path) -> str:
    """Return " (did you mean ...?)" for the first part of `path` that does not exist, or "" without a similar name."""
    wrong = path
    while not wrong.parent.exists():
        wrong = wrong.parent
    if not wrong.parent.is_dir():
        return f" ({wrong.parent} is a file)"
    others = sorted({file.name for file in wrong.parent.iterdir()} - {wrong.name})  # it may be a link to nothing
    close = difflib.get_close_matches(wrong.name, others, n=1)
    return f" (did you mean {wrong.parent / close[0]}?)" if close else ""


def _why_unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return why_missing(path)
    if path.is_dir():  # checked before PermissionError, which Windows raises for a folder
        return "a folder, not a picture"
    if isinstance(error, PermissionError):
        return "permission denied; make the file readable"
    return f"cannot be read: {error.strerror}"


def _why_refused(data: bytes) -> str | None:
    """Return why the content of a file must not be decoded; None if it may be."""
    if reason := _why_refused_by_start(data):
        return reason
    if data.startswith(b"\xff\xd8") and not _has_jpeg_end(data):
        return "truncated or damaged JPEG; copy or download it again"
    if is_png(data) and (damage := png_damage(data)):
        return f"{damage}; copy or download it again"
    return None


def _why_cut_off(stream: BinaryIO, beginning: bytes) -> str | None:
    """Return why a file is refused, reading only its last bytes if they contain its end mark."""
    end = next((mark for start, mark in _END_MARKS.items() if beginning.startswith(start)), None)
    if end is None:
        return None
    stream.seek(max(stream.seek(0, os.SEEK_END) - _TAIL, 0))
    if end in stream.read():
        return None
    stream.seek(0)
    return _why_refused(stream.read())


def _why_refused_by_start(data: bytes) -> str | None:
    """Return why a file is refused by its first bytes; None if they are acceptable."""
    if not data:
        return "empty file"
    if _HIGH_DYNAMIC_RANGE.match(data):
        return "floating-point picture, whose value for white is unknown; convert it to JPEG or PNG"
    return None


def _has_jpeg_end(data: bytes) -> bool:
    """Return whether an end-of-image marker follows the first scan header of a JPEG (ITU-T T.81, B.1.1).

    The segments before the scan are skipped because an EXIF thumbnail in them is a JPEG with its own end marker. In the
    scan, a data byte 0xFF is followed by 0, so the marker cannot occur in the data. Anything may follow the marker.
    """
    position = 2
    while 0 <= (position := data.find(b"\xff", position)) < len(data) - 3:
        marker = data[position + 1]
        if marker == 0xDA:
            return data.rfind(_JPEG_END, position) >= 0
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # fill bytes and markers without a length
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _why_failed(error: cv2.error) -> str:
    message = " ".join(str(error).split())
    if "CV_IO_MAX_IMAGE" in message:
        return "more than 2^30 pixels, which OpenCV refuses; shrink it, or save it as TIFF and use --tile"
    if "Insufficient memory" in message:
        return "too large for the free memory of this machine; shrink it or cut it into tiles"
    return f"OpenCV cannot decode it: {message}"


def _why_undecodable(data: bytes) -> str:
    """Return why OpenCV could not decode `data`; OpenCV itself gives no reason."""
    if _HEIC.match(data):
        return "HEIC, which OpenCV cannot decode; convert it to JPEG or PNG"
    known = next((row for row in _FORMATS if re.match(row[2], data, re.DOTALL)), None)
    if known is None:
        return "not a picture or of an unknown format; use JPEG, PNG or TIFF"
    name, extensions, _ = known
    # OpenCV can be asked for encoders by extension but not for decoders; its builds have both or neither.
    if not cv2.haveImageWriter(extensions[0]):
        return (
            f"OpenCV {cv2.__version__} is built without {name}; "
            "install a newer opencv-python-headless or convert it to PNG"
        )
    unchanged = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if unchanged is not None and unchanged.dtype.itemsize > 2:
        what = f"{name} with {unchanged.dtype} samples, whose value for white is unknown"
        return f"{what}; convert it to 8 or 16 bits, or set data.stretch of the config"
    return f"damaged {name}, or a variant that OpenCV {cv2.__version__} cannot decode; convert it to PNG or JPEG"

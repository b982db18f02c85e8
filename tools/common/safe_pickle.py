"""Read pickles as data (numbers, text, numpy arrays, plain containers) without running code from them.

An ordinary pickle can name any function of any installed module and have it called. Here names are looked up in a fixed
table whose values are small functions of this project, the stand-ins; a file with any other name is refused.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from os import PathLike
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from config.errors import InputError

_NO_NAMES: Mapping[tuple[str, str], object] = MappingProxyType({})
_NUMERIC_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|\?)")
_BYTE_ORDERS = ("<", ">", "|", "=")
_SPARE = 1 << 16  # bytes and entries that a short pickle may create beyond its length
_NDARRAY = object()  # the stand-in for numpy.ndarray; it cannot be called

# The errors that the standard library and numpy raise for bytes that are not a valid pickle.
_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
)


class DamagedFileError(InputError):
    """A file has invalid content. reason: what is wrong with it; remedy: what the user can do."""

    def __init__(self, path: str | PathLike[str], reason: str, remedy: str = "download or copy it again") -> None:
        super().__init__(path, reason, remedy)
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; the file is damaged or incomplete, {self.remedy}"


def load_arrays(
    stream: BinaryIO | mmap,
    path: str | PathLike[str],
    *,
    allowed: Mapping[tuple[str, str], object] = _NO_NAMES,
    persistent_load: Callable[[object], object] | None = None,
) -> object:
    """Read one pickle (protocol 0 to 5) of numbers, text, containers and numeric numpy arrays.

    stream: a seekable binary file, `io.BytesIO` or `mmap.mmap`, at the start of the pickle; it is left at its end.
    path: the name of the file in error messages.
    allowed: further (module, name) pairs and their stand-ins. A stand-in that is callable may be called with any
        arguments from the file, so it must check them with `require` and be harmless.
    persistent_load: returns objects stored outside the pickle; its argument, the id, comes from the file and must be
        checked.
    Returns the object. OrderedDict and Counter become dict; attributes set on objects are dropped; text of Python 2 is
    read as latin-1, as `paddle.load` does.
    Raises InputError if the pickle asks for a name outside the table, or is truncated or malformed.
    """
    try:
        return _SafeUnpickler(stream, allowed=allowed, persistent_load=persistent_load).load()
    except _RefusedError as error:
        raise InputError(
            f"{path}: refused, the file {error}; a checkpoint may only hold tensors, arrays and plain containers. "
            "Download it from its publisher again, or save only its weights"
        ) from error
    except _MALFORMED as error:
        raise DamagedFileError(path, f"its pickle cannot be read ({one_line(error)})") from error


def one_line(value: object) -> str:
    """Make a value from a file, or an error about one, safe to print: one line, printable, at most 100 characters.

    For values other than text and numbers, return the name of the type: a short pickle can build nested tuples whose
    text has terabytes.
    """
    parts = value.args if isinstance(value, BaseException) else (value,)
    is_plain = all(isinstance(part, (str, bytes, int, float, type(None))) for part in parts)
    words = " ".join((str(value) if is_plain else type(value).__name__).split())
    return (words if words.isprintable() else ascii(words))[:100]


def require(condition: bool, problem: str) -> None:
    """Raise the error for a malformed pickle if the condition is false. Stand-ins check their arguments with it."""
    if not condition:
        raise pickle.UnpicklingError(problem)


def is_shape(shape: object) -> bool:
    """Tell whether an object from a file is a tuple of integers >= 0."""
    return isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)


class _RefusedError(Exception):
    """The file asks for or contains something that no checkpoint needs."""


class _SafeUnpickler(pickle._Unpickler):
    """An interpreter of pickle opcodes that calls nothing but the stand-ins.

    It extends the standard library's interpreter in Python, because the one in C allocates memory for the sizes and
    memo numbers in the file without checking them against its length, and does not allow to replace BUILD.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        stream: BinaryIO | mmap,
        *,
        allowed: Mapping[tuple[str, str], object],
        persistent_load: Callable[[object], object] | None,
    ) -> None:
        bounded = _BoundedStream(stream)
        super().__init__(bounded, encoding="latin1")
        # What calls may create, in bytes and entries. Protocol 2 writes an array as text, of which one call makes bytes
        # and another one the array: no more than twice the length of the pickle.
        self._left = 3 * bounded.length + _SPARE
        self._names = {**_PLAIN_NAMES, **allowed}
        self._load_stored = persistent_load

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for a name; refuse the file if there is none."""
        try:
            return self._names[module, name]
        except KeyError:
            raise _RefusedError(f"asks for {one_line(f'{module}.{name}')}") from None

    def persistent_load(self, pid: object) -> object:
        """Return the object that is stored outside the pickle under this id."""
        if self._load_stored is None:
            raise pickle.UnpicklingError("it refers to data outside the pickle")
        return self._load_stored(pid)

    def call(self, stand_in: Any, args: Any) -> object:
        """Call a stand-in; refuse a file that copies its parts again and again, which a memo allows in a few bytes."""
        made = stand_in(*args)
        self._count(len(made) if isinstance(made, (dict, tuple, bytes)) else getattr(made, "nbytes", 0))
        return made

    def _count(self, size: int) -> None:
        self._left -= size
        require(self._left >= 0, "its parts are copied more often than they can be needed")

    def load_reduce(self) -> None:
        """Call a stand-in."""
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args)

    def _instantiate(self, klass: object, args: object) -> None:
        """Call a stand-in, as protocols 0 and 1 write it."""
        self.append(self.call(klass, args))

    def load_build(self) -> None:
        """Fill an array or a dtype; drop other state, such as the `_metadata` of a state dict."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            _fill_array(target, state)
            self._count(target.nbytes)
        elif isinstance(target, np.dtype):
            _set_byte_order(target, state)

    def load_newobj(self) -> None:
        """Call the stand-in instead of `cls.__new__(cls, *args)`, as for REDUCE."""
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args)

    def load_setitem(self) -> None:
        """Add one entry to a dict."""
        value = self.stack.pop()
        key = self.stack.pop()
        self.stack[-1].update(_build_dict([(key, value)]))

    def load_setitems(self) -> None:
        """Add several entries to a dict."""
        items = self.pop_mark()
        self.stack[-1].update(_build_dict(zip(items[::2], items[1::2])))

    def load_dict(self) -> None:
        """Create a dict, as protocol 0 writes it."""
        items = self.pop_mark()
        self.append(_build_dict(zip(items[::2], items[1::2])))

    def load_refused(self) -> None:
        """Refuse sets, which hash any object, and extension codes, which bypass find_class."""
        raise _RefusedError("holds a set or an object of an extension")

    def load_bytearray8(self) -> None:
        """Read the bytes of a protocol 5 array; the parent would allocate memory before checking the file's length."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    for _code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = load_refused


class _BoundedStream:
    """A stream that refuses to read more bytes than are left, because the pickle may state any size."""

    def __init__(self, stream: BinaryIO | mmap) -> None:
        start = stream.tell()
        stream.seek(0, 2)
        self._end = stream.tell()
        stream.seek(start)
        self.length = self._end - start
        self._stream = stream
        self.readline = stream.readline

    def read(self, size: int) -> bytes:
        if size > self._end - self._stream.tell():
            raise EOFError("it ends too early")
        return self._stream.read(size)


def _build_dict(pairs: Any = ()) -> dict:
    """Build a dict, also in place of OrderedDict, with simple keys: hashing nested tuples can overflow the C stack."""
    entries = list(pairs.items() if isinstance(pairs, dict) else pairs)
    has_simple_keys = all(isinstance(key, (str, bytes, int, float, type(None))) for key, _ in entries)
    require(has_simple_keys, "a dict with a key that is neither text nor a number")
    return dict(entries)


def _numeric_dtype(name: object, align: object = False, copy: object = True) -> np.dtype:
    """Stand in for `numpy.dtype`. Returns a new object each time, because BUILD sets its byte order in place."""
    if not isinstance(name, str) or _NUMERIC_TYPE.fullmatch(name) is None:
        shown = repr(name) if isinstance(name, str) else name
        raise _RefusedError(f"holds an array of dtype {one_line(shown)}")
    return np.dtype(name, copy=True)


def _set_byte_order(dtype: np.dtype, state: Any) -> None:
    is_state = isinstance(state, tuple) and len(state) == 8 and state[1] in _BYTE_ORDERS
    require(is_state and state[2:5] == (None, None, None), "a dtype that is not a plain number")
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))


def _empty_array(kind: object, shape: object, dtype: object) -> np.ndarray:
    """Stand in for `_reconstruct`, which numpy calls to create an empty array that BUILD then fills."""
    require(kind is _NDARRAY, "an array of a class that is not numpy.ndarray")
    return np.ndarray((0,), np.int8)


def _fill_array(array: np.ndarray, state: Any) -> None:
    require(isinstance(state, tuple) and len(state) == 5, "an array without its five parts")
    version, shape, dtype, fortran, raw = state
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes) and is_shape(shape), "an array that is not bytes")
    require(math.prod(shape) * dtype.itemsize == len(raw), "an array whose shape and bytes disagree")
    array.__setstate__((1, shape, dtype, bool(fortran), raw))


def _array_from_buffer(raw: Any, dtype: Any, shape: Any, order: object) -> np.ndarray:
    """Stand in for `_frombuffer` of protocol 5."""
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes) and is_shape(shape), "an array that is not bytes")
    require(math.prod(shape) * dtype.itemsize == len(raw), "an array whose shape and bytes disagree")
    return np.ndarray(shape, dtype, buffer=raw, order="F" if order == "F" else "C")


def _build_scalar(dtype: Any, raw: Any) -> np.generic:
    """Stand in for `scalar`."""
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes), "a number that is not bytes")
    require(dtype.itemsize == len(raw), "a number of the wrong size")
    return np.frombuffer(raw, dtype)[0]


def _encode_latin1(text: object, encoding: object) -> bytes:
    """Stand in for `codecs.encode`, by which Python 3 writes bytes in protocol 2."""
    require(isinstance(text, str) and encoding == "latin1", "text in an unknown encoding")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """Stand in for `bytes()`, by which protocol 2 writes empty bytes; `bytes(n)` would allocate n of them."""
    return b""


_NUMPY_INTERNALS = ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
_BUILTINS = ("builtins", "__builtin__")  # Python 3 and Python 2
_PLAIN_NAMES: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _build_dict,
    ("collections", "Counter"): _build_dict,
    ("_codecs", "encode"): _encode_latin1,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _numeric_dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _NUMPY_INTERNALS},
    **{(f"{core}.multiarray", "scalar"): _build_scalar for core in _NUMPY_INTERNALS},
    **{(f"{core}.numeric", "_frombuffer"): _array_from_buffer for core in _NUMPY_INTERNALS},
    **{(module, "tuple"): tuple for module in _BUILTINS},
    **{(module, "bytes"): _empty_bytes for module in _BUILTINS},
}

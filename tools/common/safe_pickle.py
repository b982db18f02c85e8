"""Pickles read as data: numbers, text, numpy arrays and plain containers, never code.

An ordinary pickle may name any function of any installed module and have it called. Here a name is looked up in a fixed
table whose values are this project's own small functions; a name that is not in the table refuses the file.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from os import PathLike
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

from config.errors import InputError

_NO_NAMES: Mapping[tuple[str, str], object] = MappingProxyType({})
_NUMERIC_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|\?)")
_BYTE_ORDERS = ("<", ">", "|", "=")
_NDARRAY = object()  # what the file gets for numpy.ndarray: nothing that can be called

# What the interpreter of the standard library and numpy raise on bytes that are no valid pickle.
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


def load_arrays(
    stream: BinaryIO,
    path: str | PathLike[str],
    *,
    allowed: Mapping[tuple[str, str], object] = _NO_NAMES,
    persistent_load: Callable[[object], object] | None = None,
) -> object:
    """Read one pickle (protocol 0 to 5) of numbers, text, containers and numeric numpy arrays.

    stream: a seekable binary file, `io.BytesIO` or `mmap.mmap` placed at the pickle; left just behind it.
    path: the name of the file in error messages.
    allowed: further (module, name) pairs and what stands in for them. A value that is callable may be called with any
        arguments from the file, so it must check them with `require` and be harmless.
    persistent_load: stands in for objects kept outside of the pickle; gets the id from the file, to be distrusted.
    Returns the object. OrderedDict and Counter come back as dict; attributes set on objects are dropped; text of
    Python 2 is read as latin-1, as `paddle.load` does.
    Raises InputError where the pickle asks for a name outside of the table, or is truncated or malformed.
    """
    try:
        return _SafeUnpickler(stream, allowed=allowed, persistent_load=persistent_load).load()
    except _RefusedError as error:
        raise InputError(
            f"{path}: refused, the file {error}; a checkpoint may only hold tensors, arrays and plain containers. "
            "Get it from its publisher again, or save its weights alone"
        ) from error
    except _MALFORMED as error:
        raise damaged_error(path, f"its pickle cannot be read ({one_line(error)})") from error


def damaged_error(path: str | PathLike[str], reason: str) -> InputError:
    """The error for a file whose content contradicts itself."""
    return InputError(f"{path}: {reason}; the file is damaged or incomplete, download or copy it again")


def one_line(text: object) -> str:
    """Text from a foreign file, fit for one line of a terminal: printable, at most 100 characters."""
    words = " ".join(str(text).split())
    return (words if words.isprintable() else ascii(words))[:100]


def require(condition: bool, problem: str) -> None:
    """For stand-ins: a pickle whose arguments break this condition is malformed."""
    if not condition:
        raise pickle.UnpicklingError(problem)


def is_shape(shape: object) -> bool:
    """Whether an object from a file is a tuple of whole numbers that are not negative."""
    return isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)


class _RefusedError(Exception):
    """What the file asks for or holds that no checkpoint needs."""


class _SafeUnpickler(pickle._Unpickler):
    """The interpreter of pickle opcodes with every way out closed.

    It builds on the one in Python of the standard library because the one in C sets aside memory for sizes and memo
    numbers before it has seen whether the file is that long, and does not let BUILD be replaced.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        stream: BinaryIO,
        *,
        allowed: Mapping[tuple[str, str], object],
        persistent_load: Callable[[object], object] | None,
    ) -> None:
        super().__init__(_BoundedStream(stream), encoding="latin1")
        self._names = {**_PLAIN_NAMES, **allowed}
        self._load_stored = persistent_load

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a name; a name without one refuses the file."""
        try:
            return self._names[module, name]
        except KeyError:
            raise _RefusedError(f"asks for {one_line(f'{module}.{name}')}") from None

    def persistent_load(self, pid: object) -> object:
        """The object kept outside of the pickle under this id."""
        if self._load_stored is None:
            raise pickle.UnpicklingError("it refers to data outside of itself")
        return self._load_stored(pid)

    def load_build(self) -> None:
        """Fill an array or a dtype; other state (the `_metadata` of a state dict) has no use here and is dropped."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            _fill_array(target, state)
        elif isinstance(target, np.dtype):
            _set_byte_order(target, state)

    def load_newobj(self) -> None:
        """`cls.__new__(cls, *args)` becomes a call of the stand-in, as for REDUCE."""
        args = self.stack.pop()
        self.stack[-1] = self.stack[-1](*args)

    def load_setitem(self) -> None:
        """One entry of a dict."""
        value = self.stack.pop()
        key = self.stack.pop()
        self.stack[-1].update(_entries([(key, value)]))

    def load_setitems(self) -> None:
        """Many entries of a dict."""
        items = self.pop_mark()
        self.stack[-1].update(_entries(zip(items[::2], items[1::2])))

    def load_dict(self) -> None:
        """A dict, the way protocol 0 writes it."""
        items = self.pop_mark()
        self.append(_entries(zip(items[::2], items[1::2])))

    def load_refused(self) -> None:
        """Sets hash whatever they hold; extension codes go through a registry behind the back of find_class."""
        raise _RefusedError("holds a set or an object of an extension")

    def load_bytearray8(self) -> None:
        """Bytes of a protocol 5 array; the parent would set the memory aside before looking at the file's length."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    for _code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = load_refused


class _BoundedStream:
    """A stream that is never asked for more bytes than are left, whatever size the pickle claims."""

    def __init__(self, stream: BinaryIO) -> None:
        start = stream.tell()
        stream.seek(0, 2)
        self._end = stream.tell()
        stream.seek(start)
        self._stream = stream
        self.readline = stream.readline

    def read(self, size: int) -> bytes:
        if size > self._end - self._stream.tell():
            raise EOFError("it ends too early")
        return self._stream.read(size)


def _entries(pairs: object = ()) -> dict:
    """A dict with simple keys only, also in place of OrderedDict: hashing deeply nested tuples overruns the C stack."""
    entries = list(pairs.items() if isinstance(pairs, dict) else pairs)
    simple = all(isinstance(key, (str, bytes, int, float, type(None))) for key, _ in entries)
    require(simple, "a dict with a key that is neither text nor a number")
    return dict(entries)


def _numeric_dtype(name: object, align: object = False, copy: object = True) -> np.dtype:
    """Stands in for `numpy.dtype`. A fresh object each time, because BUILD sets its byte order in place."""
    if not isinstance(name, str) or _NUMERIC_TYPE.fullmatch(name) is None:
        raise _RefusedError(f"holds an array of dtype {one_line(repr(name))}")
    return np.dtype(name, copy=True)


def _set_byte_order(dtype: np.dtype, state: object) -> None:
    plain = isinstance(state, tuple) and len(state) == 8 and state[1] in _BYTE_ORDERS
    require(plain and state[2:5] == (None, None, None), "a dtype that is no plain number")
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))


def _empty_array(kind: object, shape: object, dtype: object) -> np.ndarray:
    """Stands in for `_reconstruct`, which numpy always calls for an empty array that BUILD fills."""
    require(kind is _NDARRAY, "an array of a class that is not numpy.ndarray")
    return np.ndarray((0,), np.int8)


def _fill_array(array: np.ndarray, state: object) -> None:
    require(isinstance(state, tuple) and len(state) == 5, "an array without its five parts")
    version, shape, dtype, fortran, raw = state
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes) and is_shape(shape), "an array that is not bytes")
    require(math.prod(shape) * dtype.itemsize == len(raw), "an array whose shape and bytes disagree")
    array.__setstate__((1, shape, dtype, bool(fortran), raw))


def _array_of_buffer(raw: object, dtype: object, shape: object, order: object) -> np.ndarray:
    """Stands in for `_frombuffer` of protocol 5."""
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes) and is_shape(shape), "an array that is not bytes")
    require(math.prod(shape) * dtype.itemsize == len(raw), "an array whose shape and bytes disagree")
    return np.ndarray(shape, dtype, buffer=raw, order="F" if order == "F" else "C")


def _number(dtype: object, raw: object) -> np.generic:
    """Stands in for `scalar`."""
    require(isinstance(dtype, np.dtype) and isinstance(raw, bytes), "a number that is not bytes")
    require(dtype.itemsize == len(raw), "a number of the wrong size")
    return np.frombuffer(raw, dtype)[0]


def _latin1_bytes(text: object, encoding: object) -> bytes:
    """Stands in for `codecs.encode`, as which Python 3 writes bytes in protocol 2."""
    require(isinstance(text, str) and encoding == "latin1", "text in an unknown encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands in for `bytes()`, as which protocol 2 writes empty bytes; `bytes(n)` would set aside n of them."""
    return b""


_NUMPY_INTERNALS = ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
_BUILTINS = ("builtins", "__builtin__")  # Python 3 and Python 2
_PLAIN_NAMES: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _entries,
    ("collections", "Counter"): _entries,
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _numeric_dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _NUMPY_INTERNALS},
    **{(f"{core}.multiarray", "scalar"): _number for core in _NUMPY_INTERNALS},
    **{(f"{core}.numeric", "_frombuffer"): _array_of_buffer for core in _NUMPY_INTERNALS},
    **{(module, "tuple"): tuple for module in _BUILTINS},
    **{(module, "bytes"): _no_bytes for module in _BUILTINS},
}

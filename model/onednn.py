"""oneDNN's C interface, version 3, by ctypes: the part that convolutions need.

Paddle's package brings the library for its compiled graphs. https://uxlfoundation.github.io/oneDNN describes the
interface; names and numbers here are those of `dnnl.h` and `dnnl_types.h`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path

import paddle
from paddle import Tensor

# Arguments of primitives.
SRC, DST, WEIGHTS, DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 1, 17, 33, 129, 145, 161

_CPU, _IN_ORDER, _FLOAT32, _ANY_LAYOUT, _LAYOUT_OF_ARGUMENT = 1, 1, 3, 1, 255
_FORWARD_TRAINING, _DIRECT = 64, 1
_OUT_OF_MEMORY = 1


class OneDNNError(RuntimeError):
    """oneDNN cannot do what it was asked for."""


class _Handle:
    """An object of the library, which is destroyed with this one."""

    def __init__(self, create: Callable, destroy: Callable, *arguments: object) -> None:
        self._destroy = destroy
        self.pointer = ctypes.c_void_p()
        _check(create(ctypes.byref(self.pointer), *arguments), create)

    def __del__(self) -> None:
        if self.pointer:
            self._destroy(self.pointer)


class _ExecutionArgument(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_int), ("memory", ctypes.c_void_p)]


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


def _check(status: int, function: Callable) -> None:
    if status == _OUT_OF_MEMORY:
        raise MemoryError(f"oneDNN: out of memory in {function.__name__}")
    if status:
        raise OneDNNError(f"oneDNN: {function.__name__} returned {status}")


def _numbers(values: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*values)


class Library:
    """The library with an engine and a stream of the CPU. Raises OSError or OneDNNError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.functions = functions = ctypes.CDLL(str(path))
        functions.dnnl_version.restype = ctypes.POINTER(_Version)
        if functions.dnnl_version().contents.major != 3:
            raise OneDNNError(f"{path}: is not version 3 of oneDNN")
        functions.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
        functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.engine = self.create("engine", "engine_create", _CPU, ctypes.c_size_t(0))
        self.stream = self.create("stream", "stream_create", self.engine.pointer, _IN_ORDER)

    def create(self, kind: str, function: str, *arguments: object) -> _Handle:
        """Create an object of a kind by a function of the library."""
        destroy = getattr(self.functions, f"dnnl_{kind}_destroy")
        return _Handle(getattr(self.functions, f"dnnl_{function}"), destroy, *arguments)

    def any_layout(self, shape: Sequence[int]) -> _Handle:
        """Return the descriptor of a float32 tensor whose layout a primitive may choose."""
        arguments = len(shape), _numbers(shape), _FLOAT32, _ANY_LAYOUT
        return self.create("memory_desc", "memory_desc_create_with_tag", *arguments)

    def row_major(self, shape: Sequence[int]) -> _Handle:
        """Return the descriptor of a float32 tensor as Paddle holds it."""
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        arguments = len(shape), _numbers(shape), _FLOAT32, _numbers(strides)
        return self.create("memory_desc", "memory_desc_create_with_strides", *arguments)

    def is_same(self, layout: ctypes.c_void_p, other: ctypes.c_void_p) -> bool:
        return bool(self.functions.dnnl_memory_desc_equal(layout, other))

    def execute(self, primitive: _Handle, memories: Mapping[int, Memory]) -> None:
        """Run a primitive and wait for its end."""
        arguments = [_ExecutionArgument(number, memory.handle.pointer) for number, memory in memories.items()]
        array, functions = (_ExecutionArgument * len(arguments))(*arguments), self.functions
        execute = functions.dnnl_primitive_execute
        _check(execute(primitive.pointer, self.stream.pointer, len(arguments), array), execute)
        _check(functions.dnnl_stream_wait(self.stream.pointer), functions.dnnl_stream_wait)


class Memory:
    """The numbers of a tensor in a layout; `tensor` holds them, with any shape.

    A tensor that is given is contiguous and in this layout; without one memory is reserved.
    """

    def __init__(self, library: Library, layout: ctypes.c_void_p, tensor: Tensor | None = None) -> None:
        self.library, self.layout = library, layout
        self._copy: Memory | None = None  # in the layout that was asked for last
        if tensor is None:
            tensor = paddle.empty([library.functions.dnnl_memory_desc_get_size(layout) // 4])
        self.tensor = tensor
        pointer = ctypes.c_void_p(tensor.data_ptr())
        self.handle = library.create("memory", "memory_create", layout, library.engine.pointer, pointer)

    def in_layout(self, layout: ctypes.c_void_p) -> Memory:
        """Return the same numbers in a layout: this object if it is its own, else a copy."""
        if self.library.is_same(self.layout, layout):
            return self
        if self._copy and self.library.is_same(self._copy.layout, layout):
            return self._copy
        copy = self._copy = Memory(self.library, layout)
        engine = self.library.engine.pointer
        arguments = self.layout, engine, layout, engine, None
        description = self.library.create("primitive_desc", "reorder_primitive_desc_create", *arguments)
        reorder = self.library.create("primitive", "primitive_create", description.pointer)
        self.library.execute(reorder, {SRC: self, DST: copy})
        return copy


class _Pass:
    """A pass of a convolution: a primitive and the layouts that its arguments need."""

    def __init__(self, library: Library, pass_name: str, *arguments: object) -> None:
        self.library = library
        function = f"convolution_{pass_name}_primitive_desc_create"
        self.description = library.create("primitive_desc", function, library.engine.pointer, *arguments)
        self.primitive = library.create("primitive", "primitive_create", self.description.pointer)

    def __call__(self, inputs: Mapping[int, Memory], output: int) -> Memory:
        """Return the output; it and the inputs have any layout."""
        result = Memory(self.library, self._layout(output))
        laid_out = {number: memory.in_layout(self._layout(number)) for number, memory in inputs.items()}
        self.library.execute(self.primitive, {**laid_out, output: result})
        return result

    def _layout(self, argument: int) -> ctypes.c_void_p:
        query = self.library.functions.dnnl_primitive_desc_query_md
        return ctypes.c_void_p(query(self.description.pointer, _LAYOUT_OF_ARGUMENT, argument))


Pair = tuple[int, int]


class Convolution:
    """The passes of convolutions without bias of [N, C, H, W] that have the same shapes and geometry, in float32.

    Raises OneDNNError for a geometry that the library cannot compute.
    """

    def __init__(
        self,
        library: Library,
        x_shape: Sequence[int],
        weight_shape: Sequence[int],
        *,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> None:
        self.library, self.x_shape, self.weight_shape = library, x_shape, weight_shape
        outputs, inputs, *kernel = weight_shape
        sides = [
            (side + 2 * pad - dilate * (size - 1) - 1) // step + 1
            for side, pad, dilate, size, step in zip(x_shape[2:], padding, dilation, kernel, stride)
        ]
        self.y_shape = [x_shape[0], outputs, *sides]
        if groups > 1:
            weight_shape = [groups, outputs // groups, inputs, *kernel]
        shapes = x_shape, weight_shape, self.y_shape
        self._row_major = [library.row_major(shape) for shape in shapes]
        layouts = [library.any_layout(shape) for shape in shapes]
        x, weight, y = (layout.pointer for layout in layouts)
        pads = _numbers(padding)
        # oneDNN counts the positions that a dilated kernel leaves out.
        geometry = _numbers(stride), _numbers([step - 1 for step in dilation]), pads, pads
        self._forward = _Pass(library, "forward", _FORWARD_TRAINING, _DIRECT, x, weight, None, y, *geometry, None)
        hint = self._forward.description.pointer
        self._to_x = _Pass(library, "backward_data", _DIRECT, x, weight, y, *geometry, hint, None)
        self._to_weight = _Pass(library, "backward_weights", _DIRECT, x, weight, None, y, *geometry, hint, None)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of x, [N, C, H, W], with a weight, [O, C / groups, kh, kw]."""
        x, weight = self._memories(x, weight)
        return self._tensor(self._forward({SRC: x, WEIGHTS: weight}, DST), 2, self.y_shape)

    def gradients(
        self, x: Tensor, weight: Tensor, y_gradient: Tensor, *, of_x: bool, of_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of x and of the weight, given that of the output; None where it is not asked for."""
        x, weight, y = self._memories(x, weight, y_gradient)
        x_gradient = weight_gradient = None
        if of_weight:
            result = self._to_weight({SRC: x, DIFF_DST: y}, DIFF_WEIGHTS)
            weight_gradient = self._tensor(result, 1, self.weight_shape)
        if of_x:
            x_gradient = self._tensor(self._to_x({WEIGHTS: weight, DIFF_DST: y}, DIFF_SRC), 0, self.x_shape)
        return x_gradient, weight_gradient

    def _memories(self, *tensors: Tensor) -> list[Memory]:
        pairs = zip(self._row_major, tensors)
        return [Memory(self.library, layout.pointer, tensor.contiguous()) for layout, tensor in pairs]

    def _tensor(self, result: Memory, place: int, shape: Sequence[int]) -> Tensor:
        return result.in_layout(self._row_major[place].pointer).tensor.reshape(shape)


@cache
def library() -> Library | None:
    """Return the library of Paddle's package; None where there is none that can be used."""
    try:
        return Library(Path(paddle.__file__).parent / "libs" / "libdnnl.so.3")
    except (OSError, OneDNNError):
        return None

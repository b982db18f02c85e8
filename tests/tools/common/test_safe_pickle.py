"""Unpickling without running code: plain values are read, and everything else is refused."""

import collections
import io
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from config.errors import InputError
from tests.support.checkpoint_writers import Call, Global, dump_with_globals
from tools.common.safe_pickle import load_arrays, one_line

PROTOCOLS = range(6)
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "bool", "c8", ">f4", ">i8"]
any_array = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0)))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=15,
)


def load(data: bytes) -> object:
    return load_arrays(io.BytesIO(data), "own.pdparams")


@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_containers_come_back(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


@given(any_array, st.sampled_from(PROTOCOLS))
def test_arrays_come_back(array, protocol):
    for expected in (array, array.T):
        found = load(pickle.dumps({"w": expected}, protocol))["w"]
        assert type(found) is np.ndarray
        assert found.dtype == expected.dtype or protocol < 5
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_numbers_and_ordered_dicts(protocol):
    tree = collections.OrderedDict(ap=np.float64(0.379), step=np.int64(270000), done=np.bool_(True))
    assert load(pickle.dumps(tree, protocol)) == dict(tree)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_files_of_numpy_1_and_numpy_2(core):
    written = np.arange(3).__reduce__()[0].__module__.rsplit(".", 1)[0]
    data = pickle.dumps(np.arange(3), 2).replace(f"c{written}.multiarray\n".encode(), f"c{core}.multiarray\n".encode())
    assert f"c{core}.".encode() in data
    np.testing.assert_array_equal(load(data), np.arange(3))


def test_python_2_text_is_latin_1():
    assert load(b"\x80\x02U\x02\xe9a.") == "\xe9a"


def test_the_stream_is_left_after_the_pickle():
    stream = io.BytesIO(pickle.dumps([1]) + pickle.dumps("two") + b"rest")
    assert [load_arrays(stream, "x"), load_arrays(stream, "x"), stream.read()] == [[1], "two", b"rest"]


def test_a_caller_may_allow_names_and_outside_data():
    data = b"\x80\x02ctorch\nSize\nX\x01\x00\x00\x00kQ\x85\x85R."
    sizes = load_arrays(io.BytesIO(data), "x.pth", allowed={("torch", "Size"): tuple}, persistent_load={"k": 7}.get)
    assert sizes == (7,)
    with pytest.raises(InputError, match=r"x.pth: refused, the file asks for torch.Size; "):
        load_arrays(io.BytesIO(data), "x.pth")


def test_new_objects_are_calls_of_the_stand_in():
    data = b"\x80\x02ctorch.nn.parameter\nParameter\nK\x07\x85\x81\x88\x89}\x87b."  # GLOBAL, args, NEWOBJ, state, BUILD
    name = ("torch.nn.parameter", "Parameter")
    assert load_arrays(io.BytesIO(data), "x.pth", allowed={name: lambda data: data}) == 7


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_run(protocol, tmp_path):
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    for call, name in [
        ((os.system, (f"touch {marker}",)), f"{os.system.__module__}.system"),
        ((eval, (code,)), ".eval"),
        ((getattr, (marker, "touch")), ".getattr"),
        ((Path, (str(marker),)), "pathlib."),
        ((np.load, (str(marker),)), "numpy.load"),
        ((np.fromfile, (str(marker),)), "numpy.fromfile"),
    ]:
        with pytest.raises(InputError, match=r"own.pdparams: refused, the file asks for ") as refused:
            load(pickle.dumps({"weight": Evil(*call)}, protocol))
        assert name in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch marker'\ntR.",  # REDUCE
        b"(S'touch marker'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch marker'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",  # a dotted name
        b"\x80\x04\x8c\x0bcollections\x8c\x0c_sys.modules\x93.",
        b"\x80\x02cnumpy\n__builtins__\n.",
        b"\x80\x02cnumpy.core.multiarray\nos\n.",
    ],
)
def test_every_opcode_that_names_something_is_refused(data):
    with pytest.raises(InputError, match=r"refused, the file asks for (os\.system|numpy|collections)"):
        load(data)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.array([{}]), "dtype 'O8'"),
        (np.array(["a"]), "dtype 'U1'"),
        (np.zeros(2, "f4,i4"), "dtype 'V8'"),
        (np.zeros(1, "M8[s]"), "dtype 'M8'"),
        ({1, 2}, "holds a set"),
        (frozenset([1]), "holds a set"),
    ],
)
def test_what_no_checkpoint_needs_is_refused(value, problem):
    with pytest.raises(InputError, match=f"refused, the file holds .*{problem}|refused, the file {problem}"):
        load(pickle.dumps(value, 4))


def test_nested_tuples_that_share_their_parts_are_not_printed():
    """Forty of them would have a text of a terabyte."""
    nested = b"\x80\x02)q\x00" + b"0" + b"".join(b"(h%ch%ctq%c0" % (i, i, i + 1) for i in range(40))
    with pytest.raises(InputError, match="refused, the file holds an array of dtype tuple"):
        load(nested + b"cnumpy\ndtype\nh%cR." % 40)
    with pytest.raises(InputError, match="its pickle cannot be read"):
        load(nested + b"}h%ch%cs." % (40, 40))
    assert one_line(KeyError((1, (2, 3)))) == "KeyError"


ARRAY = Global("numpy", "ndarray")
DTYPE = Call(Global("numpy", "dtype"), ("f4", False, True))
BLANK = Global("numpy.core.multiarray", "_reconstruct"), (ARRAY, (0,), b"b")


@pytest.mark.parametrize(
    "value",
    [
        Call(Global("numpy", "ndarray"), ((10**15,),)),
        Call(Global("numpy.core.multiarray", "_reconstruct"), (DTYPE, (0,), b"b")),
        Call(Global("numpy.core.multiarray", "scalar"), (DTYPE, b"123")),
        Call(Global("numpy.core.multiarray", "scalar"), ("O", b"12345678")),
        Call(Global("numpy.core.numeric", "_frombuffer"), (b"1234", DTYPE, (2,), "C")),
        Call(Global("builtins", "bytes"), (10**12,)),
        Call(Global("_codecs", "encode"), ("a", "rot13")),
        Call(*BLANK, (1, (10**15,), DTYPE, False, b"1234")),
        Call(*BLANK, (1, (-1,), DTYPE, False, b"1234")),
        Call(*BLANK, (1, (1,), "O", False, b"12345678")),
        Call(*BLANK, (1, (1,), DTYPE, False, [1])),
        Call(*BLANK, (1,)),
        Call(DTYPE.function, DTYPE.args, (3, "<", None, ("a",), {"a": (DTYPE, 0)}, -1, -1, 63)),
        Call(DTYPE.function, DTYPE.args, (3, "<", None, None, None, 10**9)),
    ],
)
def test_stand_ins_check_their_arguments(value):
    with pytest.raises(InputError, match="own.pdparams: its pickle cannot be read .* download or copy it again"):
        load(dump_with_globals(value, protocol=3))


@pytest.mark.parametrize("protocol_1", [False, True])
@pytest.mark.parametrize(
    ("name", "part", "more"),
    [
        (b"c_codecs\nencode\n", pickle.dumps("x" * 50_000, 2)[2:-1], pickle.dumps("latin1", 2)[2:-1]),
        (b"c__builtin__\ntuple\n", pickle.dumps([None] * 50_000, 2)[2:-1], b""),
        (b"ccollections\nOrderedDict\n", pickle.dumps(dict.fromkeys(range(50_000)), 2)[2:-1], b""),
    ],
)
def test_copies_of_a_part_are_counted(name, part, more, protocol_1):
    """A file of less than a megabyte could take any amount of memory."""
    memo = name + b"r\xe8\x03\0\0" + part + b"r\xe9\x03\0\0" + b"00"
    get, get_part = b"j\xe8\x03\0\0", b"j\xe9\x03\0\0"
    call = b"(" + get + get_part + more + b"o" if protocol_1 else get + b"(" + get_part + more + b"tR"
    many = b"\x80\x02" + memo + b"(" + call * 1000 + b"l."
    with pytest.raises(InputError, match="its parts are copied more often than they can be needed"):
        load(many)
    assert len(load(b"\x80\x02" + memo + b"(" + call + b"l.")) == 1


def test_setting_attributes_changes_nothing():
    ordered = Call(Global("collections", "OrderedDict"), (), {"update": 1, "__class__": 2})
    assert load(dump_with_globals(ordered, protocol=3)) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + b"\xff" * 6 + b"\0\0x.",  # BINBYTES8
        b"\x80\x05\x96" + b"\xff" * 5 + b"\0\0\0x.",  # BYTEARRAY8
        b"\x80\x04\x95" + b"\xff" * 5 + b"\0\0\0N.",  # FRAME
        b"\x80\x02}(" + b")" + b"\x85" * 500_000 + b"Nu.",  # a dict key nested deeper than the C stack
        b"\x80\x02ccollections\nOrderedDict\n](]" + b")" + b"\x85" * 500_000 + b"aee\x85R.",
    ],
)
def test_absurd_sizes_end_at_once(data):
    started = time.process_time()  # of this process: how busy the machine is does not count
    with pytest.raises(InputError):
        load(data)
    assert time.process_time() - started < 5


def test_a_huge_memo_number_costs_nothing():
    assert load(b"\x80\x02Nr\xff\xff\xff\xff.") is None


GOOD = pickle.dumps({"a": np.arange(4, dtype="f4").reshape(2, 2), "meta": {"classes": ["cat", "dog"], "step": 7}}, 4)


@given(st.data())
@settings(max_examples=300)
def test_damage_gives_an_input_error_or_a_value(data):
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    try:
        load(bytes(damaged[: data.draw(st.integers(0, len(GOOD)))]))
    except InputError as error:
        assert "\n" not in str(error)


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_noticed(size):
    with pytest.raises(InputError, match="damaged or incomplete"):
        load(GOOD[:size])


@given(st.binary(max_size=60))
def test_random_opcodes(data):
    try:
        load(b"\x80\x04" + data + b".")
    except InputError as error:
        assert str(error).startswith("own.pdparams: ")

"""Weight files of torch, Paddle and safetensors are read with all names, dtypes and values."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from config.errors import InputError
from convert.reader import read_checkpoint, sha256_of
from tests.support.checkpoint_writers import (
    FILE_WRITERS,
    TORCH_WRITERS,
    Call,
    Global,
    Storage,
    TorchTensor,
    lod_tensor,
    write_pdparams,
    write_safetensors,
    write_torch_legacy,
    write_torch_zip,
    write_variable_folder,
)

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
PADDLE_1_DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "bool")
WEIGHTS = {
    "conv.weight": np.arange(24, dtype="float32").reshape(2, 3, 2, 2),
    "bn.running_var": np.array([1.5, 2.5], dtype="float64"),
    "bn.num_batches_tracked": np.array(270000, dtype="int64"),
    "anchors": np.zeros((0, 4), dtype="float32"),
}


WRITERS = (*FILE_WRITERS, write_variable_folder)


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].flags.aligned
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_is_read(write, tmp_path):
    write(tmp_path / "weights", WEIGHTS)
    assert_same(read_checkpoint(tmp_path / "weights"), WEIGHTS)
    assert_same(read_checkpoint(str(tmp_path / "weights")), WEIGHTS)


@pytest.mark.parametrize("write", FILE_WRITERS[:4])
def test_the_order_of_the_file_is_kept(write, tmp_path):
    write(tmp_path / "weights", dict.fromkeys("zebra"[:4], WEIGHTS["conv.weight"]))
    assert list(read_checkpoint(tmp_path / "weights")) == ["z", "e", "b", "r"]


@pytest.mark.parametrize("write", WRITERS)
@given(data=st.data())
@settings(max_examples=15)
def test_any_dtype_and_shape(write, data, tmp_path_factory):
    dtype = data.draw(st.sampled_from(DTYPES if write in FILE_WRITERS[:4] else PADDLE_1_DTYPES))
    shape = array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=300 if data.draw(st.booleans()) else 4)
    weights = {"w": np.zeros(data.draw(shape.filter(lambda s: np.prod(s) < 10_000)), dtype)}
    weights["v"] = data.draw(arrays(dtype, array_shapes(max_side=3)))
    path = tmp_path_factory.mktemp("any") / "weights"
    write(path, weights)
    assert_same(read_checkpoint(path), weights)


@pytest.mark.parametrize("write", TORCH_WRITERS)
@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_torch_wrappers_and_data_parallel(write, wrap, tmp_path):
    write(tmp_path / "net.pth", {f"module.{name}": array for name, array in WEIGHTS.items()}, wrap=wrap)
    assert_same(read_checkpoint(tmp_path / "net.pth"), WEIGHTS)


def test_module_prefix_is_removed_only_if_every_name_has_it(tmp_path):
    write_torch_zip(tmp_path / "net.pth", {"module.a": np.ones(1), "b": np.ones(1)})
    assert list(read_checkpoint(tmp_path / "net.pth")) == ["module.a", "b"]


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_torch_views_of_one_storage(write, tmp_path):
    elements = np.arange(12, dtype="float32")
    storage = Storage(elements)
    upper_halves = Storage(np.array([0x3F80, 0xC000, 0x7F80], "uint16"), kind="BFloat16Storage")
    tensors = {
        "transposed": TorchTensor(storage, (4, 3), (1, 4)),
        "part": TorchTensor(storage, (2, 2), (4, 1), offset=3),
        "expanded": TorchTensor(storage, (2, 3), (0, 1)),
        "parameter": TorchTensor(storage, (12,), (1,), is_parameter=True),
        "bfloat16": TorchTensor(upper_halves, (3,), (1,)),
        "negated": TorchTensor(storage, (3,), (1,), flags={"neg": True}),
        "not negated": TorchTensor(storage, (3,), (1,), flags={"conj": True, "neg": False}),
    }
    write(tmp_path / "net.pth", tensors)
    expected = {
        "transposed": elements.reshape(3, 4).T,
        "part": np.array([[3, 4], [7, 8]], "float32"),
        "expanded": np.array([[0, 1, 2], [0, 1, 2]], "float32"),
        "parameter": elements,
        "bfloat16": np.array([1, -2, np.inf], "float32"),
        "negated": -elements[:3],
        "not negated": elements[:3],
    }
    found = read_checkpoint(tmp_path / "net.pth")
    assert_same(found, expected)
    assert np.shares_memory(found["transposed"], found["part"])


@pytest.mark.parametrize("use_zip", [True, False])
def test_files_written_by_torch(use_zip, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    weights = {
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "half": base.half(),
        "bfloat16": base.bfloat16().t(),
        "parameter": torch.nn.Parameter(base),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 3),
    }
    torch.save({"state_dict": weights}, tmp_path / "net.pth", _use_new_zipfile_serialization=use_zip)
    found = read_checkpoint(tmp_path / "net.pth")
    assert list(found) == list(weights)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(found[name], tensor.detach().float().numpy())


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_torch_reads_the_files_of_the_writers(write, tmp_path):
    torch = pytest.importorskip("torch")
    write(tmp_path / "net.pth", WEIGHTS)
    for weights_only in (True, False):
        loaded = torch.load(tmp_path / "net.pth", weights_only=weights_only)["state_dict"]
        assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, WEIGHTS)


def test_parameters_of_torch_before_0_4(tmp_path):
    tensor = TorchTensor(Storage(np.arange(3)), (3,), (1,))
    parameter = Call(Global("torch.nn.parameter", "Parameter"), (tensor,), (True, False, {}))
    write_torch_legacy(tmp_path / "resnet50-19c8e357.pth", {"conv1.weight": parameter}, wrap=None)
    assert_same(read_checkpoint(tmp_path / "resnet50-19c8e357.pth"), {"conv1.weight": np.arange(3)})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_nested", [False, True])
def test_pdparams_of_every_protocol(protocol, is_nested, tmp_path):
    write_pdparams(tmp_path / "net.pdparams", WEIGHTS, protocol=protocol, is_nested=is_nested)
    assert_same(read_checkpoint(tmp_path / "net.pdparams"), WEIGHTS)


@pytest.mark.parametrize("protocol", [2, 4])
def test_files_written_by_paddle(protocol, tmp_path):
    paddle = pytest.importorskip("paddle")
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    expected = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    for tree in (net.state_dict(), {"model": net.state_dict(), "epoch": 3}):
        paddle.save(tree, str(tmp_path / "net.pdparams"), protocol=protocol)
        assert_same(read_checkpoint(tmp_path / "net.pdparams"), expected)
    write_pdparams(tmp_path / "own.pdparams", expected, protocol=protocol)
    loaded = paddle.load(str(tmp_path / "own.pdparams"), return_numpy=True)
    assert_same({name: loaded[name] for name in expected}, expected)


def test_pieces_of_large_arrays_are_concatenated(tmp_path):
    whole = np.arange(10, dtype="float32")
    pieces = {"a": np.ones(1), "w@@.0": whole[:6], "w@@.1": whole[6:], "z": np.ones(2)}
    chunks = {"w": {"OriginShape": (2, 5), "slices": ["w@@.0", "w@@.1"]}}
    path = tmp_path / "net.pdparams"
    write_pdparams(path, {**pieces, "UnpackBigParamInfor@@": chunks})
    assert_same(read_checkpoint(path), {"a": np.ones(1), "w": whole.reshape(2, 5), "z": np.ones(2)})
    for slices in (["w@@.0", "w@@.2"], ["w@@.0"], ["w@@.0"] * 2, [], [("w",)], None):
        write_pdparams(path, {**pieces, "UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 5), "slices": slices}}})
        with pytest.raises(InputError, match=r"net.pdparams: .*download or copy it again"):
            read_checkpoint(path)


def test_safetensors_bfloat16(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", {}, bfloat16={"w": np.array([[0x3F80, 0xC000]], "uint16")})
    assert_same(read_checkpoint(tmp_path / "w.safetensors"), {"w": np.array([[1, -2]], "float32")})


@pytest.mark.parametrize("is_packed", [False, True])
def test_lod_tensor_forms(is_packed, tmp_path):
    array = np.arange(600, dtype="float32").reshape(300, 2)
    (tmp_path / "conv1_weights").write_bytes(lod_tensor(array, levels=(bytes(16), b""), is_packed=is_packed))
    (tmp_path / "__model__").write_bytes(b"a program")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    assert_same(read_checkpoint(tmp_path), {"conv1_weights": array})


def test_paddle_reads_the_variable_folder(tmp_path):
    paddle = pytest.importorskip("paddle")
    if not paddle.__version__.startswith("2."):
        pytest.skip("Paddle 3 reads such folders only with FLAGS_enable_pir_api=0 set before it starts")
    write_variable_folder(tmp_path, WEIGHTS)
    assert_same(paddle.static.load_program_state(str(tmp_path)), WEIGHTS)


def test_missing_and_forbidden_paths(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "solov2_r50.safetensors", WEIGHTS)
    (link := tmp_path / "link.pth").symlink_to(tmp_path / "gone.pth")
    for read in (read_checkpoint, sha256_of):
        with pytest.raises(InputError, match=r"solov2_r5.safetensors: no such file.* did you mean .*solov2_r50.safe"):
            read(tmp_path / "solov2_r5.safetensors")
        with pytest.raises(InputError, match="no such file or folder; check the path"):
            read(tmp_path / "nowhere" / "net.pth")
        with pytest.raises(InputError, match="link.pth: is a link to .*gone.pth, which does not exist; check the path"):
            read(link)

    def forbidden(path, *args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    for read in (read_checkpoint, sha256_of):
        with pytest.raises(InputError, match=r"solov2_r50.safetensors: may not be read; ask"):
            read(tmp_path / "solov2_r50.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is neither a file nor a folder"):
        read_checkpoint(tmp_path / "pipe")


def test_sha256(tmp_path):
    folder = tmp_path / "vars"
    write_variable_folder(folder, {"b": np.ones(1), "a": np.zeros(2)})
    content = {name: (folder / name).read_bytes() for name in ("a", "b")}
    assert sha256_of(folder / "a") == hashlib.sha256(content["a"]).hexdigest()
    lines = "".join(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n" for name in ("a", "b"))
    assert sha256_of(folder) == hashlib.sha256(lines.encode()).hexdigest()
    before = sha256_of(folder)
    (folder / "a").rename(folder / "c")
    assert sha256_of(folder) != before

"""Damaged and malicious weight files give an error of one line, and no code of theirs runs."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import InputError
from convert import tar_files
from convert.reader import read_checkpoint
from tests.support.checkpoint_writers import (
    FILE_WRITERS,
    TORCH_WRITERS,
    Call,
    Global,
    Storage,
    TorchTensor,
    lod_tensor,
    write_pdparams,
    write_torch_legacy,
    write_torch_zip,
    write_variable_tar,
)

WEIGHTS = {"conv.weight": np.arange(24, dtype="float32").reshape(2, 3, 2, 2), "bn.running_var": np.ones(2)}


@pytest.mark.parametrize("write", FILE_WRITERS[:3])
def test_files_that_would_run_code_are_refused(write, tmp_path):
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    for module, name, args in [
        (os.system.__module__, "system", (f"touch {marker}",)),
        ("builtins", "eval", (code,)),
        ("builtins", "getattr", (code, "join")),
        ("numpy", "load", (str(marker),)),
        ("numpy.testing._private.utils", "runstring", (code, {})),
    ]:
        write(tmp_path / "evil.pth", {"weight": np.ones(1), "evil": Call(Global(module, name), args)})
        asked = f"evil.pth: refused, the file asks for {module}.{name}; a checkpoint may only hold tensors"
        with pytest.raises(InputError) as refused:
            read_checkpoint(tmp_path / "evil.pth")
        assert asked in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_the_refused_file_would_have_run(tmp_path):
    marker = tmp_path / "marker"
    evil = Call(Global(os.system.__module__, "system"), (f"touch {marker}",))
    write_pdparams(tmp_path / "evil.pdparams", {"evil": evil})
    with pytest.raises(InputError, match="refused"):
        read_checkpoint(tmp_path / "evil.pdparams")
    assert not marker.exists()
    pickle.loads((tmp_path / "evil.pdparams").read_bytes())
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; .*download or copy it again"),
        (b"<!DOCTYPE html>\n<html>not found", "is text that begins with '<!DOCTYPE html>.*download failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is text that begins with 'version https://git-lfs"),
        (b"\xff\xfe\x00\x01" * 9, "is of unknown format; give a .pth"),
        (struct.pack("<Q", 999) + b'{"w":', "it ends within its header; .*download or copy it again"),
        (b"PK\x03\x04 a zip that ends", "zip file; the file is damaged"),
        (b"\x1f\x8b\x08 no gzip", "damaged"),
        (pickle.dumps([1, 2]), "holds one list instead of weights by name"),
        (pickle.dumps({}), "holds an empty dict instead of weights"),
        (pickle.dumps({"model": {}}), "holds an empty dict instead of weights"),
        (pickle.dumps({"a": "text"}), "'a' among its weights is one str, not a tensor"),
        (pickle.dumps({3: np.ones(1)}), "3 among its weights is one ndarray, not a tensor"),
        (pickle.dumps({"a": np.array([None])}), "refused, the file holds an array of dtype 'O8'"),
    ],
)
def test_files_that_are_no_checkpoint(content, problem, tmp_path):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(InputError, match=rf"net.pth: {problem}|net.pth: .*{problem}") as error:
        read_checkpoint(tmp_path / "net.pth")
    assert "\n" not in str(error.value)


def repack(source: Path, target: Path, *, drop: str = "", replace: dict = {}, compression: int = 0) -> Path:  # noqa: B006
    """Copy a zip file without some entries, or with other contents."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            if name != drop:
                new.writestr(name, replace.get(name, old.read(name)))
    return target


def test_zips_that_are_no_checkpoint(tmp_path):
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    write_torch_zip(good, WEIGHTS)
    for changes, problem in [
        ({"drop": "archive/data.pkl"}, "is a zip file but not a torch checkpoint"),
        ({"drop": "archive/data/0"}, "storage 0 is missing"),
        ({"replace": {"archive/data/0": b"1234"}}, "storage 0 has 4 bytes, not 96"),
        ({"compression": zipfile.ZIP_DEFLATED}, "is a compressed zip file"),
    ]:
        with pytest.raises(InputError, match=f"bad.pth: {problem}"):
            read_checkpoint(repack(good, bad, **changes))
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("archive/code/__torch__.py", "", zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="good.pth: is a TorchScript program; load it with torch.jit.load"):
        read_checkpoint(good)
    write_torch_zip(good, WEIGHTS)
    damaged = bytearray(good.read_bytes())
    damaged[damaged.index(WEIGHTS["conv.weight"].tobytes()) + 5] ^= 1
    bad.write_bytes(damaged)
    with pytest.raises(InputError, match=r"bad.pth: Bad CRC-32 .*archive/data/0"):
        read_checkpoint(bad)


def test_big_endian_zip(tmp_path):
    write_torch_zip(tmp_path / "little.pth", {"w": np.array([1, 2], "float32")})
    swapped = {"archive/byteorder": b"big", "archive/data/0": np.array([1, 2], ">f4").tobytes()}
    big = repack(tmp_path / "little.pth", tmp_path / "big.pth", replace=swapped)
    found = read_checkpoint(big)["w"]
    assert (found.dtype, found.tolist()) == (np.dtype("float32"), [1, 2])


@pytest.mark.parametrize("write", TORCH_WRITERS)
@pytest.mark.parametrize(
    "tensor",
    [
        TorchTensor(Storage(np.ones(4)), (5,), (1,)),
        TorchTensor(Storage(np.ones(4)), (2, 2), (2, 1), offset=1),
        TorchTensor(Storage(np.ones(4)), (2,), (2**62,)),
        TorchTensor(Storage(np.ones(4)), (2,), (-1,), offset=1),
        TorchTensor(Storage(np.ones(4)), (2**62, 2**62), (0, 0)),
        TorchTensor(Storage(np.ones(4)), (2,), (1, 1)),
        TorchTensor(Storage(np.ones(4), kind="FloatStorage"), (4,), (1,)),
    ],
)
def test_tensors_larger_than_their_storage(write, tensor, tmp_path):
    write(tmp_path / "net.pth", {"w": tensor})
    if write is write_torch_legacy and tensor.storage.kind:
        pytest.skip("the old format stores the number of elements only, not their size")
    with pytest.raises(InputError, match=r"net.pth: .*; the file is damaged or incomplete"):
        read_checkpoint(tmp_path / "net.pth")


def test_tar_of_the_oldest_torch(tmp_path):
    with tarfile.open(tmp_path / "net.pth", "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match="net.pth: is a tar checkpoint of torch before 0.2; load it with torch"):
        read_checkpoint(tmp_path / "net.pth")


def test_tars_that_are_no_folder_of_variables(tmp_path):
    def write(*members: tarfile.TarInfo) -> None:
        with tarfile.open(tmp_path / "vars.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            for member in members:
                archive.addfile(member)

    link = tarfile.TarInfo("vars/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    huge = tarfile.TarInfo("vars/huge")
    huge.size = 1 << 50
    header = tarfile.TarInfo("vars/header")
    header.type, header.size = tarfile.XHDTYPE, 1 << 50
    for members, problem in [
        ((link,), "has more than one folder of plain files"),
        ((tarfile.TarInfo("a/x"), tarfile.TarInfo("b/x")), "has more than one folder of plain files"),
        ((huge,), "its members are larger than the file; the file is damaged"),
        ((header,), "a header claims to be larger than 1 MiB; the file is damaged"),
        ((tarfile.TarInfo("vars/.hidden"),), "has no variables"),
    ]:
        write(*members)
        with pytest.raises(InputError, match=f"vars.tar: {problem}"):
            read_checkpoint(tmp_path / "vars.tar")


@pytest.mark.parametrize("content", ["zeros", "variable", "hidden file", "header", "end"])
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_without_memory(tmp_path, monkeypatch, content):
    """The limit is lowered, so that the file is written quickly."""
    monkeypatch.setattr(tar_files, "SMALL", 16 << 20)
    size = 64 << 20
    tensor = lod_tensor(np.zeros(size // 4, np.float32)) if content == "variable" else bytes(size)
    member = tarfile.TarInfo("vars/.x" if content == "hidden file" else "vars/x")
    member.size = len(tensor)
    if content == "header":
        member.type = tarfile.XHDTYPE
    path = tmp_path / "vars.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        if content != "end":
            archive.addfile(member, io.BytesIO(tensor))
    if content == "end":
        path.write_bytes(path.read_bytes() + gzip.compress(tensor))
    del tensor
    tracemalloc.start()
    problem = "a header claims to be larger" if content == "header" else "unpacks to more than 16 MiB"
    with pytest.raises(InputError, match=f"vars.tar.gz: {problem}"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_data_that_is_no_variable_is_not_read(tmp_path):
    with tarfile.open(tmp_path / "vars.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("vars/x")
        member.size = 64 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    tracemalloc.start()
    with pytest.raises(InputError, match="x in it is not a complete variable"):
        read_checkpoint(tmp_path / "vars.tar.gz")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 7]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**64]},
        {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_inconsistent_safetensors_headers(entry, tmp_path):
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(InputError, match=r"w.safetensors: .*\bw\b.*; the file is damaged|shape .* does not fit"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_folders_that_hold_no_variables(tmp_path):
    with pytest.raises(InputError, match="has no variables; give a weight file, or a folder"):
        read_checkpoint(tmp_path)
    (tmp_path / "net.pth").write_bytes(b"text of some length, but no variable")
    with pytest.raises(InputError, match=r"net.pth in it is not a complete variable .* checkpoint, give its own path"):
        read_checkpoint(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="inner: is not a variable file"):
        read_checkpoint(tmp_path)


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    small = {"conv.weight": np.arange(6, dtype="float32").reshape(2, 3), "bias": np.array([1, 2], "int64")}
    for write in FILE_WRITERS:
        write(folder / write.__name__, small)
    return folder


def read_or_error(path: Path) -> dict:
    """Read a file; where that fails with an error of one line, return no weights."""
    try:
        return read_checkpoint(path)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return {}


@pytest.mark.parametrize("write", FILE_WRITERS)
@given(data=st.data())
@settings(max_examples=80)
def test_damaged_bytes_give_weights_or_one_line(write, data, good_files, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged"
    content = bytearray((good_files / write.__name__).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for array in read_or_error(path).values():
        assert array.nbytes <= 2 * len(content)


@pytest.mark.parametrize("write", FILE_WRITERS)
@given(data=st.data())
@settings(max_examples=40)
def test_every_truncation_is_noticed(write, data, good_files, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "truncated"
    content = (good_files / write.__name__).read_bytes()
    # A tar may lack the blocks of zeros after its end mark.
    end = content.rstrip(b"\0") if write is write_variable_tar else content
    path.write_bytes(content[: data.draw(st.integers(0, len(end) - 1))])
    assert read_or_error(path) == {}

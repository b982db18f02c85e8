"""The scripts of `convert/` as users run them: from a published file to our checkpoint, or to an error of one line.

Those that write run in a copy of the project, so that their default output does not end up among the user's weights.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from PIL import Image

from config import load_config
from config.base import PROJECT
from config.published import Published
from convert import command
from convert.conversion import Shapes, network_shapes
from convert.sources import BACKBONE_SCRIPTS
from data.class_lists import read_class_list
from data.written import write_output
from tests.support import foreign_names
from tests.support.checkpoint_writers import (
    Call,
    Global,
    Storage,
    TorchTensor,
    write_pdparams,
    write_torch_legacy,
    write_torch_zip,
)
from tests.support.http_files import serve
from tests.support.programs import Finished, run_main, run_python
from tests.support.published_files import NETWORKS, PUBLISHED, RESNET18, random_array
from tools.common.checkpoint import load_checkpoint

PACKAGES = ("config", "convert", "data", "model", "tools")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    copy = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, copy / package)
    yield copy
    shutil.rmtree(copy)


def run(project: Path, script: str, *args: object) -> Finished:
    return run_python(f"convert/{script}.py", *args, cwd=project)


@pytest.mark.parametrize("published", PUBLISHED, ids=[case.file for case in PUBLISHED])
def test_published_file(published, project, tmp_path):
    source = tmp_path / published.file
    arrays = published.arrays()
    names = published.names(published.shapes).items()
    theirs = {foreign: foreign_names.stored_array(ours, arrays[ours]) for ours, foreign in names}
    published.write(source, {**theirs, **{name: random_array(name, shape) for name, shape in published.extra.items()}})

    done = run(project, published.script, source, *published.options)

    assert (done.returncode, done.stderr) == (0, "")
    if published.config is None:
        config_name, classes = "", ()
        default = project / "weights" / f"{published.backbone}.pdparams"
        made = f"backbone {published.backbone}"
    else:
        config = load_config(published.config)
        config_name, classes = config.name, read_class_list(config.classes_file).names
        default = project / "weights" / f"{config.name}.pdparams"
        made = f"config {published.config} {config.name}, 80 classes"
    written = published.options[-1] if published.options else default
    assert done.stdout == f"wrote {written}: {made}, from {published.program}\n"
    checkpoint = load_checkpoint(project / written)
    assert (checkpoint.config_name, checkpoint.classes.names) == (config_name, classes)
    assert checkpoint.overrides == published.overrides
    assert checkpoint.source == {"file": published.file, "sha256": sha256(source), "program": published.program}
    assert checkpoint.weights.keys() == arrays.keys()
    assert all(np.array_equal(checkpoint.weights[name], array) for name, array in arrays.items())
    assert list((project / written).parent.glob("[!.]*")) == [project / written]
    shutil.rmtree(project / "weights")
    shutil.rmtree(tmp_path)


def sha256(path: Path) -> str:
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{sha256(file)}  {file.name}\n" for file in sorted(path.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def constant(shape: tuple[int, ...], value: float = 0.0) -> TorchTensor:
    """Return a tensor whose elements share one number of storage, so that the file of a network stays small."""
    return TorchTensor(Storage(np.float32([value])), shape, (0,) * len(shape))


def write_small(
    path: Path, shapes: Shapes, names: Callable[[Shapes], dict[str, str]], values: Mapping[str, object] = {}
) -> Path:
    """Write a `.pth` file of zeros. values: arrays or numbers that replace the zeros, by our names."""
    tensors = {}
    for ours, theirs in names(shapes).items():
        value = values.get(ours, 1.0 if ours.endswith("_variance") else 0.0)
        tensors[theirs] = value if isinstance(value, np.ndarray) else constant(shapes[ours], value)
    write_torch_zip(path, tensors)
    return path


THREE_CLASSES = network_shapes(load_config(3).replace(num_classes=3))
# With these biases alone every cell predicts the full picture as its mask, and class 1 with probability sigmoid(2).
SEES_EVERYTHING = {
    "head.cate_pred.bias": np.float32([-10, 2, -10]),
    "head.kernel_pred.bias": 1.0,
    "mask_feat_head.pred.norm.bias": 1.0,
}


def test_own_classes_and_verify(project, tmp_path):
    source = write_small(tmp_path / "mine.pth", THREE_CLASSES, foreign_names.solo, SEES_EVERYTHING)
    (tmp_path / "classes.txt").write_text("4\tcap\n7\tring\n31\tbelt\n")
    Image.new("RGB", (64, 48)).save(tmp_path / "grey.png")
    output = tmp_path / "mine.pdparams"

    done = run(
        project,
        "solo2paddle",
        source,
        f"--output={output}",
        f"--classes={tmp_path / 'classes.txt'}",
        f"--verify={tmp_path / 'grey.png'}",
    )

    assert (done.returncode, done.stderr) == (0, "")
    wrote, *verified = done.stdout.splitlines()
    assert wrote == (f"wrote {output}: config 3 solov2_light_448_r18_fpn_8gpu_3x, 3 classes, from the original SOLO")
    assert verified[0] == f"{tmp_path / 'grey.png'}: 1 instances with a score of at least 0.3"
    assert verified[1].startswith("  ring 0.881 at (0")
    assert len(verified) == 2
    checkpoint = load_checkpoint(output)
    assert (checkpoint.classes.names, checkpoint.classes.ids) == (("cap", "ring", "belt"), (4, 7, 31))
    assert checkpoint.weights["head.cate_pred.bias"].tolist() == [-10, 2, -10]


def refused(script: str, *args: object, says: Sequence[str]) -> str:
    """Run a script in this process, assert exit status 2 and that nothing was written; return the line that says so."""
    weights = PROJECT / "weights"
    before = sorted(weights.iterdir())
    convert = command.convert_backbone if f"convert/{script}.py" in BACKBONE_SCRIPTS else command.convert_network
    done = run_main(lambda: convert("", script=f"convert/{script}.py"), *args)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for words in says:
        assert words in line
    assert sorted(weights.iterdir()) == before
    return line


def test_two_configs_with_the_same_shapes(tmp_path):
    source = write_small(tmp_path / "r50.pth", network_shapes(load_config(0)), foreign_names.solo)
    refused("solo2paddle", source, says=["r50.pth fits configs 0 and 6", "--config"])


def test_wrong_file_leaves_the_old_output(tmp_path):
    source = write_small(tmp_path / "resnet18.pth", RESNET18, foreign_names.torchvision)
    output = tmp_path / "kept.pdparams"
    with write_output(output) as temporary:
        temporary.write_bytes(b"of yesterday")
    fits = "of OpenFirework's pytorch_solov2; it fits backbone resnet18_imagenet (convert/torchvision2paddle.py)"
    says = "resnet18.pth does not fit config 3 as a checkpoint", fits, "none of its", "conv1.weight"
    refused("openfirework2paddle", source, "--config=3", f"--output={output}", says=says)
    assert output.read_bytes() == b"of yesterday"
    assert sorted(tmp_path.glob("[!.]*")) == [output, source]


def test_input_files_are_not_overwritten(tmp_path):
    source = write_small(tmp_path / "resnet18.pth", RESNET18, foreign_names.torchvision)
    network = write_small(tmp_path / "mine.pth", THREE_CLASSES, foreign_names.solo)
    classes = tmp_path / "classes.txt"
    classes.write_text("cap\nring\nbelt\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused("torchvision2paddle", source, f"--output={source}", says=["is read too"])
    for output in (network, classes):
        refused("solo2paddle", network, f"--classes={classes}", f"--output={output}", says=["is read too"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "script",
    ["ppdet2paddle", "torchvision2paddle", "ssld2paddle", "centermask2paddle", "vovnet2paddle", "mobilenet2paddle"],
)
def test_checkpoint_of_another_program(script, tmp_path):
    source = write_small(tmp_path / "solo.pth", NETWORKS[3], foreign_names.solo)
    hint = "; it fits config 3 (convert/solo2paddle.py), use that; nothing was written. "
    line = refused(script, source, says=["solo.pth does not fit", hint])
    assert len(re.findall(r"\w+\.\w+\.[\w.]+", line.partition(hint)[2])) <= 10


def test_a_file_that_fits_nothing_gets_the_general_advice(tmp_path):
    write_torch_zip(tmp_path / "other.pth", {"other.weight": constant((3, 4))})
    advice = "of the original SOLO; give a checkpoint of config 3, or use the script and config"
    refused("solo2paddle", tmp_path / "other.pth", "--config=3", says=[advice])


def test_a_checkpoint_of_this_project():
    source = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"
    refused("solo2paddle", source, says=[f"{source}: is a checkpoint of this project already; give it to demo.py"])


def test_config_of_other_shapes(tmp_path):
    source = write_small(tmp_path / "r18.pth", NETWORKS[3], foreign_names.solo)
    hint = "; it fits config 3 (convert/solo2paddle.py), use that; nothing was written. "
    says = (
        "r18.pth does not fit config 4 as a checkpoint of the original SOLO",
        hint,
        "missing: backbone.stages.0.2.conv1.conv.weight",
    )
    line = refused("solo2paddle", source, "--config=4", says=says)
    assert len(re.findall(r"(?:backbone|neck|head)[\w.]+", line.partition(hint)[2])) <= 10


@pytest.mark.parametrize("text", [None, "cap\nring\n"])
def test_other_number_of_classes(text, tmp_path):
    source = write_small(tmp_path / "mine.pth", THREE_CLASSES, foreign_names.solo)
    classes = tmp_path / "two.txt"
    classes.write_text(text or "")
    listed = f"{classes} has 2" if text else "COCO's list has 80"
    says = f"mine.pth has 3 classes and {listed}; give", "--classes FILE"
    refused("solo2paddle", source, *([f"--classes={classes}"] if text else []), says=says)


def test_bias_without_a_shape(tmp_path):
    values = {"head.cate_pred.bias": np.array(3, np.float32)}
    source = write_small(tmp_path / "mine.pth", NETWORKS[3], foreign_names.solo, values)
    refused("solo2paddle", source, says=["mine.pth", "head.cate_pred.bias ()"])


def test_file_that_would_run_code(tmp_path):
    marker = tmp_path / "marker"
    evil = Call(Global(os.system.__module__, "system"), (f"touch {marker}",))
    names = foreign_names.solo(NETWORKS[3]).values()
    write_torch_legacy(tmp_path / "evil.pth", {**{name: np.zeros(1, np.float32) for name in names}, "evil": evil})
    says = "evil.pth: refused", f"{os.system.__module__}.system"
    refused("solo2paddle", tmp_path / "evil.pth", "--config=3", says=says)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        ("solo2paddle", ["no_such_file.pth"], ["no_such_file.pth: no such file"]),
        ("solo2paddle", ["demo.pth", "--confg=3"], ["--confg=3", "--help"]),
        ("torchvision2paddle", [], ["required: FILE", "--help"]),
    ],
)
def test_wrong_command_line(script, args, words):
    refused(script, *args, says=words)


def test_the_published_file_is_downloaded_and_converted(tmp_path, monkeypatch, capsys):
    """The address of config 22 is that of a local server, and its network is small."""
    small = load_config(22, [f"{field}=8" for field in ("head.channels", "head.norm_groups", "neck.out_channels")])
    small = small.replace(mask_feat_head=replace(small.mask_feat_head, mid_channels=8, out_channels=8, norm_groups=8))
    shapes = network_shapes(small)
    names = foreign_names.ppdet_0_5(shapes)
    file = tmp_path / "served.pdparams"
    write_pdparams(file, {names[ours]: random_array(ours, shape) for ours, shape in shapes.items()}, protocol=2)
    output = tmp_path / "converted.pdparams"
    with serve(file.read_bytes(), "model.pdparams") as served:
        published = replace(small.published[0], where=served.url.partition("//")[2])
        monkeypatch.setattr(Published, "url", property(lambda one: f"http://{one.where}"))
        monkeypatch.setattr(command, "PROJECT", tmp_path)
        monkeypatch.setattr(command, "load_config", lambda number: small.replace(published=(published,)))
        options = "--download", "--config=22", f"--output={output}"
        monkeypatch.setattr("sys.argv", ["ppdet2paddle.py", *options])
        assert command.convert_network("", script="convert/ppdet2paddle.py") == 0
    assert load_checkpoint(output).source["sha256"] in capsys.readouterr().out
    assert (tmp_path / "weights" / "downloads" / "model.pdparams").read_bytes() == file.read_bytes()


def test_a_damaged_download_is_to_be_removed(tmp_path, monkeypatch):
    """A file that is there is not downloaded again."""
    path = tmp_path / "weights" / "downloads" / Path(load_config(11).published[0].url).name
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    done = run_main(lambda: command.convert_network("", script="convert/ppdet2paddle.py"), "--download", "--config=11")
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"{path}: is empty; the file is damaged or incomplete, download or copy it again; "
        "--download does so after you have removed it\n"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], ["give FILE, the published checkpoint, or --download with --config=N"]),
        (["--download", "model.pdparams"], ["give FILE"]),
        (["--download"], ["needs --config=N; the configs with a file to download are 0, 2, 6, 10, 11, 22, 23"]),
        (
            ["--download", "--config=3"],
            ["config 3 has no published file with an address; download", "github.com/WXinlong/SOLO"],
        ),
        (["--download", "--config=20"], ["config 20 has no published file with an address; train it"]),
    ],
)
def test_what_cannot_be_downloaded_is_one_line(options, says):
    refused("ppdet2paddle", *options, says=says)

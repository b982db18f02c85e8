"""The command line shared by the scripts of this folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from config import load_config
from config.base import PROJECT, Config
from config.errors import InputError, printable
from config.published import Published
from convert.conversion import Arrays, NameTable, Shapes, fill, network_shapes, similarity
from convert.download import download
from convert.reader import read_checkpoint, sha256_of
from convert.sources import (
    BACKBONE_SCRIPTS,
    NETWORK_SCRIPTS,
    configs_of,
    count_classes,
    find_uses,
    shapes_of_backbones,
)
from data.class_lists import ClassList, read_class_list
from data.images import read_stored_values
from data.written import check_output_files
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.common.cli import Parser
from tools.predict.load import load_predictor

Fit = tuple[dict, NameTable]  # the converted weights, and the table that renamed them


def convert_network(docstring: str, *, script: str) -> int:
    """Convert a checkpoint of a complete network to the config that has its parameter shapes.

    script: path of the calling script, as in the `convert` field of the configs' published checkpoints and in
    `NETWORK_SCRIPTS`.
    """
    tables = NETWORK_SCRIPTS[script]
    parser = Parser(docstring)
    _add_file_options(parser, file_count="?")
    parser.add_argument("--config", metavar="N", help="number or name of the config (default: the only one that fits)")
    files = [str(config.number) for config in configs_of(script) if _file_of(config, script)]
    if files:
        parser.add_argument(
            "--download",
            action="store_true",
            help=f"instead of FILE: download the checkpoint published for --config ({', '.join(files)})",
        )
    parser.add_argument("--classes", metavar="FILE", type=Path, help="class names, one per line (default: COCO's 80)")
    parser.add_argument(
        "--verify", metavar="IMAGE", type=Path, help="run the converted network on a picture, print the instances"
    )
    args = parser.parse_args()
    if args.verify:
        read_stored_values(args.verify)  # a picture that cannot be read is named before the work
    downloads = files and args.download
    if bool(downloads) == bool(args.checkpoint):
        download_option = ", or --download with --config=N" if files else ""
        raise InputError(f"give FILE, the published checkpoint{download_option}; --help shows all options")
    if args.output:
        _check_output(args, args.output)
    if downloads:
        args.checkpoint = str(_download_published(args.config, script))
    try:
        foreign = read_checkpoint(args.checkpoint)
    except InputError as error:
        if not downloads:
            raise
        raise InputError(f"{error}; --download does so after you have removed it") from error
    candidates = configs_of(script) if args.config is None else [load_config(args.config)]
    classes = read_class_list(args.classes or candidates[0].classes_file)
    list_name = args.classes or ("COCO's list" if args.config is None else f"the list of config {args.config}")
    _check_class_count(args.checkpoint, foreign, tables, classes, list_name)
    configs = {str(config.number): config.replace(num_classes=len(classes)) for config in candidates}
    expected = {number: network_shapes(config) for number, config in configs.items()}
    number, (weights, table) = _find_only_fit(args.checkpoint, foreign, tables, expected, what="config")
    config = configs[number]
    output = _check_output(args, args.output or config.model_path("test_cfg"))
    source = _describe_source(args.checkpoint, table)
    checkpoint = Checkpoint(weights, classes, config.name, table.overrides, source)
    save_checkpoint(output, checkpoint, as_output=True)
    print(f"wrote {output}: config {number} {config.name}, {len(classes)} classes, from {table.program}")
    if args.verify:
        print(f"{args.verify}: {_describe_instances(config, output, args.verify)}")
    return 0


def convert_backbone(docstring: str, *, script: str) -> int:
    """Convert an ImageNet network without its classifier to the backbone of this script that has its parameter shapes.

    script: path of the calling script, as in `BACKBONE_SCRIPTS`.
    """
    parser = Parser(docstring)
    _add_file_options(parser)
    args = parser.parse_args()
    if args.output:
        _check_output(args, args.output)
    foreign = read_checkpoint(args.checkpoint)
    expected, tables = shapes_of_backbones(script), BACKBONE_SCRIPTS[script]
    name, (weights, table) = _find_only_fit(args.checkpoint, foreign, tables, expected, what="backbone")
    output = _check_output(args, args.output or PROJECT / "weights" / f"{name}.pdparams")
    no_classes = ClassList(names=(), ids=())
    checkpoint = Checkpoint(weights, no_classes, config_name="", source=_describe_source(args.checkpoint, table))
    save_checkpoint(output, checkpoint, as_output=True)
    print(f"wrote {output}: backbone {name}, from {table.program}")
    return 0


def _add_file_options(parser: Parser, *, file_count: str | None = None) -> None:
    parser.add_argument("checkpoint", metavar="FILE", nargs=file_count, help="the published checkpoint")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: a name in weights/)")


def _check_output(args: argparse.Namespace, output: str | Path) -> Path:
    """Return the path of the output. Raises InputError if it cannot be written, or would overwrite another file."""
    files = (getattr(args, name, None) for name in ("checkpoint", "classes", "verify"))
    check_output_files([Path(output)], read=filter(None, files), kind="network")
    return Path(output)


def _download_published(number: str | None, script: str) -> Path:
    """Download the first checkpoint of a config that this script converts; return its path.

    Raises InputError if there is none with an address of its own.
    """
    if number is None:
        numbers = ", ".join(str(config.number) for config in configs_of(script) if _file_of(config, script))
        known = f"the configs with a file to download are {numbers}" if numbers else "this script can download none"
        raise InputError(f"--download: needs --config=N; {known}")
    config = load_config(number)
    published = _file_of(config, script)
    if published is None:
        where = " and ".join(dict.fromkeys(one.where for one in config.published))
        remedy = f"download a file from {where} with a browser" if where else "train it"
        raise InputError(f"--download: config {config.number} has no published file with an address; {remedy}")
    return download(published.url, PROJECT / "weights" / "downloads", sha256=published.sha256)


def _file_of(config: Config, script: str) -> Published | None:
    """Return the first published checkpoint of a config that this script converts and that has an address."""
    return next((published for published in config.published if published.url and published.convert == script), None)


def _find_only_fit(
    path: str, foreign: Arrays, tables: Sequence[NameTable], expected: Mapping[str, Shapes], *, what: str
) -> tuple[str, Fit]:
    """Return the name in `expected` of the only network that the file fits. Raises InputError for none or several."""
    fits: dict[str, Fit] = {}
    problems: dict[str, str] = {}
    for name, shapes in expected.items():
        try:
            fits[name] = fill(shapes, foreign, tables)
        except InputError as error:
            problems[name] = str(error)
    if len(fits) == 1:
        return next(iter(fits.items()))
    if fits:
        raise InputError(f"{path} fits {what}s {' and '.join(fits)}; choose one with --config")
    closest = max(problems, key=lambda name: similarity(expected[name], foreign, tables))
    uses = find_uses(foreign)
    remedy = f"give a checkpoint of {what} {closest}, or use the script and {what} of this checkpoint"
    hint = f"it fits {' or '.join(uses)}, use that" if uses else remedy
    programs = " or ".join(dict.fromkeys(table.program for table in tables))
    refused = f"{path} does not fit {what} {closest} as a checkpoint of {programs}"
    raise InputError(f"{refused}; {hint}; nothing was written. {problems[closest]}")


def _check_class_count(
    path: str, foreign: Arrays, tables: Sequence[NameTable], classes: ClassList, list_name: str
) -> None:
    """Raise InputError if the checkpoint has another number of classes than the list."""
    for table in tables:
        count = count_classes(foreign, table)
        if count not in (None, len(classes)):
            raise InputError(
                f"{path} has {count} classes and {list_name} has {len(classes)}; "
                "give its class names, one per line, with --classes FILE, or another --config"
            )


def _describe_source(path: str, table: NameTable) -> dict[str, str]:
    return {"file": Path(path).name, "sha256": sha256_of(path), "program": table.program}


def _describe_instances(config: Config, weights: Path, picture: str) -> str:
    predictor = load_predictor(config, weights, engine="dynamic")
    instances = predictor(picture)
    lines = [f"{len(instances)} instances with a score of at least {predictor.score:g}"]
    for class_id, score, box in zip(instances.classes, instances.scores, instances.boxes.tolist()):
        lines.append(f"  {printable(instances.class_names[class_id])} {score:.3f} at {tuple(box)}")
    return "\n".join(lines)

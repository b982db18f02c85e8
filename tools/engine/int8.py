"""INT8 networks for OpenVINO: the file beside a checkpoint that tools/quantize.py writes and `--precision int8` reads.

It is a zip archive with two files for each graph, OpenVINO's description and weights, and a fingerprint of the network
that was quantized. Graphs that it lacks, the scores always, run in float32.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import InputError
from data.files import open_regular, temporary_folder
from data.written import write_output

if TYPE_CHECKING:
    from openvino import Model

SUFFIX = ".int8"
_FINGERPRINT = "fingerprint"
_ENDINGS = (".xml", ".bin")  # of a graph: its description and its weights


def int8_path(checkpoint: Path) -> Path:
    """Return the INT8 file that belongs to a checkpoint."""
    return checkpoint.with_suffix(SUFFIX)


def write_int8(path: Path, graphs: Mapping[str, Model], fingerprint: str) -> None:
    """Write graphs in INT8 by name."""
    import openvino

    with temporary_folder() as folder:
        for name, graph in graphs.items():
            openvino.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
        with write_output(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_FINGERPRINT, fingerprint)
            for part in sorted(folder.iterdir()):
                archive.write(part, part.name)


def read_int8(path: Path, fingerprint: str, *, command: str) -> dict[str, tuple[bytes, bytes]]:
    """Return the description and the weights of each graph by name.

    command: writes the file. Raises InputError if there is no such file, it is damaged, or it is of another network.
    """
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such INT8 network; {command} writes it") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: is no INT8 network, or damaged ({error}); {command} writes it again") from error
    if content.pop(_FINGERPRINT, b"").decode("ascii", "replace") != fingerprint:
        raise InputError(f"{path}: was written for other weights or settings of the network; {command} writes it again")
    names = {name.rpartition(".")[0] for name in content}
    description, weights = _ENDINGS
    return {name: (content[f"{name}{description}"], content[f"{name}{weights}"]) for name in sorted(names)}

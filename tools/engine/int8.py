"""INT8 networks for OpenVINO: the file beside a checkpoint that tools/quantize.py writes and `--precision int8` reads.

It is a zip archive with two files for each graph, OpenVINO's description and weights, and a fingerprint of the network
that was quantized. The graphs are the trunk and CenterMask2's second stage; the scores run in float32.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
        with write_output(path, kind="network") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_FINGERPRINT, fingerprint)
            for part in sorted(folder.iterdir()):
                archive.write(part, part.name)


class Int8Graph(NamedTuple):
    """A graph of an INT8 file."""

    path: Path  # of the file
    description: bytes
    weights: bytes
    remedy: str  # what to do if it cannot be used


def read_int8(path: Path, graphs: Sequence[str], fingerprint: str, *, command: str) -> dict[str, Int8Graph]:
    """Read the graphs with these names.

    command: writes the file. Raises InputError if there is no such file, it is damaged or has other content, or it is
    of another network.
    """
    remedy = f"remove it, and {command} writes it again"
    expected = [_FINGERPRINT, *(f"{graph}{ending}" for graph in graphs for ending in _ENDINGS)]
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            # Compressed entries could fill the memory.
            if sorted(entry.filename for entry in entries) != sorted(expected) or any(
                entry.compress_type != zipfile.ZIP_STORED for entry in entries
            ):
                raise zipfile.BadZipFile("it has other content")
            content = {name: archive.read(name) for name in expected}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such INT8 network; {command} writes it") from error
    # zipfile raises RuntimeError for encrypted entries and NotImplementedError for versions that it does not know.
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: is no INT8 network of this config, or damaged ({error}); {remedy}") from error
    if content[_FINGERPRINT].decode("ascii", "replace") != fingerprint:
        reason = "was written for other weights or settings of the network"
        raise InputError(f"{path}: {reason}; {remedy}, with the same -o")
    description, weights = _ENDINGS
    return {
        graph: Int8Graph(path, content[f"{graph}{description}"], content[f"{graph}{weights}"], remedy)
        for graph in graphs
    }

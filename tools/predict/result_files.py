"""Write the files that hold rows of all pictures: COCO results, the table of instances, COCO annotations."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data.addresses import is_address
from data.class_lists import ClassList
from data.coco_rows import CocoPicture, annotation_row, category_rows, image_row
from data.files import utf8_name
from data.growing import GrowingOutput
from data.images import read_stored_values
from data.picture_windows import Values
from tools.common.threads import StageTimes
from tools.predict.annotation_files import coco_instances
from tools.predict.jobs import Job, PictureRows
from tools.predict.measures import measure, table_header, table_lines

LINES = ".jsonl"  # suffix of JSON lines


class ResultFiles(ExitStack):
    """The files that are wanted, as a context manager: each is a `GrowingOutput`.

    results: a JSON list of COCO results, or JSON lines for the suffix .jsonl, with outlines if `polygons`, and with
    number and time of the frames of videos; table: CSV; coco: an annotation file, with names of pictures relative to
    `folder`; None writes none.
    """

    def __init__(
        self,
        classes: ClassList,
        folder: Path,
        *,
        results: Path | None,
        polygons: bool,
        table: Path | None,
        coco: Path | None,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._polygons = polygons
        self._images: list[str] = []
        self._annotations = 0
        self._categories = json.dumps(category_rows(classes))
        self._lines = results is not None and results.suffix.lower() == LINES
        start, between, end = ("", "", "") if self._lines else ("[", ",\n", "]\n")
        self._results = results and GrowingOutput(results, start=start, between=between, end=lambda: end)
        self._table = table and GrowingOutput(table, start=table_header())
        start = '{"annotations": ['
        self._coco = coco and GrowingOutput(coco, start=start, between=",\n", end=self._end_of_coco, kind="annotations")
        self._files = [file for file in (self._results, self._table, self._coco) if file]

    def __enter__(self) -> ResultFiles:
        super().__enter__()
        for file in self._files:
            self.enter_context(file)
        return self

    def make(self, job: Job, times: StageTimes) -> PictureRows | None:
        """Return the rows of a picture, None if no file is wanted; several threads may make them."""
        if not self._files or job.instances is None or job.image is None:
            return None
        results, table, annotations, name = "", "", [], _name(job)
        if self._results:
            with times.measure("encode"):
                about: dict[str, Any] = {"file_name": name}
                if job.frame:
                    about |= {"frame": job.frame.number, "seconds": round(job.frame.seconds, 3)}
                rows = job.instances.to_coco(job.image_id, polygons=self._polygons)
                lines = [json.dumps({**row, **about}) for row in rows]
                results = "".join(f"{line}\n" for line in lines) if self._lines else ",\n".join(lines)
        if self._table:
            with times.measure("measure"):  # of the values in the file, which may have more than 8 bits
                values = _stored_values(job)
                row_name = f"{name}:{job.frame.number}" if job.frame else name
                table = table_lines(measure(job.instances, values, row_name))
        if self._coco:
            with times.measure("annotate"):
                annotations = list(coco_instances(job.instances))
        relative = utf8_name(Path(os.path.relpath(job.name, self._folder))) if self._coco else ""
        image = image_row(job.image_id, CocoPicture(relative, *job.instances.size, ()))
        return PictureRows(results, table, image, annotations)

    def add(self, rows: PictureRows) -> None:
        """Append the rows of a picture."""
        if self._results and rows.results:
            self._results.add(rows.results)
        if self._table and rows.table:
            self._table.add(rows.table)
        if self._coco:
            self._images.append(json.dumps(rows.image))
            for category_id, instance in rows.annotations:
                self._annotations += 1
                row = annotation_row(self._annotations, rows.image["id"], category_id, instance)
                self._coco.add(json.dumps(row))

    def keep(self) -> None:
        """End the files that hold something and give them their names."""
        for file in self._files:
            file.keep_if_begun()

    def _end_of_coco(self) -> str:
        return f'],\n"images": [{", ".join(self._images)}],\n"categories": {self._categories}}}\n'


def _stored_values(job: Job) -> Values:
    """Return the values of the file; of a frame its pixels."""
    if job.picture:
        return job.picture.windows.stored_values()
    assert job.image is not None
    return job.image if job.path is None else read_stored_values(job.path)


def _name(job: Job) -> str:
    """Return the name of a picture or video in the files."""
    return job.name if is_address(job.name) else utf8_name(Path(job.name))

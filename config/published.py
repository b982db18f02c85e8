"""Published checkpoints: what a config states about them, and where they are."""

from __future__ import annotations

from dataclasses import dataclass

SOLO_ZOO = "github.com/WXinlong/SOLO, model zoo in its README"
PPDET_ZOO = "paddledet.bj.bcebos.com/models/{}.pdparams"
CENTERMASK2_ZOO = "github.com/youngwanLEE/centermask2, model zoo in its README"
PPDET_0_5_ZOO = "paddlemodels.bj.bcebos.com/object_detection/{}.pdparams"


@dataclass(frozen=True)
class Published:
    """A published checkpoint for a config."""

    mask_ap: float  # COCO mask AP in percent, as its publisher states it
    where: str
    convert: str  # path of the script that converts it
    box_ap: float | None = None  # COCO box AP in percent, if its publisher states it
    speed: str = ""  # as its publisher states it: time per picture, and the device
    sha256: str = ""  # of the file, if it is known

    @property
    def url(self) -> str:
        """The address of the file; "" if `where` is a page that links to it."""
        return f"https://{self.where}" if self.where.endswith(".pdparams") else ""

    def command(self, number: int) -> str:
        """Return the command that converts the downloaded FILE, for the config with this number."""
        return f"python {self.convert} FILE --config={number}"

    def download_command(self, number: int) -> str:
        """Return the command that downloads, if that is possible, and converts it."""
        command = self.command(number)
        return command.replace(" FILE", " --download") if self.url else f"{command} ({self.where})"

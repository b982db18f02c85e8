"""Fonts and text colors for drawings and plots."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import cast

import numpy as np
from PIL import ImageFont

# Text is drawn at this size in pixels and then scaled, because hinting at the size of a label spaces letters unevenly.
WRITING_SIZE = 48

# Searched by name in the system's font folders, for letters that Pillow's own font lacks.
FALLBACK_FONTS = (
    "DejaVuSans.ttf",  # most Linux systems: Cyrillic, Greek, Arabic, Hebrew
    "NotoSansCJK-Regular.ttc",  # Debian and Ubuntu, fonts-noto-cjk
    "NotoSansCJK-VF.ttc",  # Fedora, google-noto-sans-cjk-vf-fonts
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",  # fonts-wqy-microhei
    "wqy-zenhei.ttc",  # fonts-wqy-zenhei
    "DroidSansFallbackFull.ttf",  # fonts-droid-fallback
    "msyh.ttc",  # Windows: Chinese
    "simhei.ttf",
    "YuGothM.ttc",  # Windows: Japanese
    "malgun.ttf",  # Windows: Korean
    "Hiragino Sans GB.ttc",  # macOS
    "Arial Unicode.ttf",
)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return white if its contrast ratio to an sRGB background is at least 3 (WCAG 2, large text), otherwise black.

    Black is not preferred when its ratio is higher, because it is harder to read on deep colours.
    """
    srgb = np.array(background) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return (255, 255, 255) if 1.05 / (luminance + 0.05) >= 3 else (0, 0, 0)


def find_font(text: str) -> ImageFont.FreeTypeFont | None:
    """Return the first font with a glyph for every letter: Pillow's own, then FALLBACK_FONTS; None if there is none.

    Also None for blank text, and for control characters, with which Pillow's layout of complex scripts fails.
    """
    if not text.strip() or not text.isprintable():
        return None
    for file_name in (None, *FALLBACK_FONTS):
        font = _load_font(file_name)
        if font is not None and all(_has_glyph(file_name, letter) for letter in set(text)):
            return font
    return None


@cache
def _load_font(file_name: str | None) -> ImageFont.FreeTypeFont | None:
    """Load a font of the system, or Pillow's own for None. Return None if the system does not have it."""
    try:
        if file_name:
            return ImageFont.truetype(file_name, WRITING_SIZE)
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(WRITING_SIZE))  # no bitmap font, as it has a size
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has_glyph(file_name: str | None, letter: str) -> bool:
    """Tell whether a font draws the letter differently from a code point that no font defines."""
    font = _load_font(file_name)
    if font is None:
        return False
    drawn, missing = font.getmask(letter), font.getmask("\U0010ffff")
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))

"""Tiles on one sheet, with the letters of the patient's sides, one scale bar for all of them and a colour bar."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymc3d.pictures.colours import Colour, blend
from anymc3d.pictures.tiles import Tile
from anymc3d.printable import printable

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

BACKGROUND, TEXT, QUIET, FRAME, CROSS = (0, 0, 0), (235, 235, 235), (170, 170, 170), (213, 94, 0), (0, 255, 255)
_LETTER, _SMALL, _TITLE = 13, 12, 15
_GUTTER = 18
"""Around each tile, for its letters: beside the picture, so that a stack of few slices keeps them too."""
_NICE_MM = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def sheet(
    rows: Sequence[Sequence[Tile]],
    *,
    mm_per_pixel: float,
    title: str = "",
    caption: str = "",
    row_names: Sequence[str] = (),
    heat_bar: bool = False,
) -> Colour:
    """Lay tiles out in rows and columns, all of one scale, and return the sheet (rows, columns, 3).

    Args:
        mm_per_pixel: of all tiles.
        row_names: one per row, several lines allowed, written to its left.
        heat_bar: whether the colours of a heatmap are explained.
    """
    from PIL import Image, ImageDraw

    title, caption = printable(title), printable(caption)
    row_names = [printable(name, keep="\n") for name in row_names]
    widths = [max(len(row[i].pixels[0]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    widest = max(widths)
    widths = [max(width, _titles_width(rows, column)) for column, width in enumerate(widths)]
    heights = [max(len(tile.pixels) for tile in row) for row in rows]
    left = _names_width(row_names)
    titled = any(tile.title for row in rows for tile in row)
    step = 2 * _GUTTER + (_SMALL + 6 if titled else 0)
    width = max(left + sum(widths) + 2 * _GUTTER * len(widths), 360)
    lines = textwrap.wrap(caption, max(20, width // 7))
    top = _TITLE + 14 if title else 4
    foot = top + sum(heights) + step * len(rows)
    image = Image.new("RGB", (width, foot + 38 + 17 * len(lines)), BACKGROUND)
    draw = ImageDraw.Draw(image)
    if title:
        draw.text((_GUTTER, 6), _fitting(title, width - 2 * _GUTTER, _TITLE), TEXT, _font(_TITLE))
    y = top
    for row, height, name in zip(rows, heights, [*row_names, *[""] * len(rows)], strict=False):
        if name:
            draw.multiline_text((_GUTTER // 2, y + step - _GUTTER), name, TEXT, _font(_SMALL), spacing=3)
        _place_row(image, draw, row, widths, (left, y + step - _GUTTER), height, y + 2)
        y += height + step
    _scale_bar(draw, (_GUTTER, foot + 8), widest, mm_per_pixel)
    if heat_bar:
        _colour_bar(image, draw, (width - 190, foot + 8))
    for number, line in enumerate(lines):
        draw.text((_GUTTER, foot + 36 + 17 * number), line, QUIET, _font(_SMALL))
    return np.asarray(image)


def _titles_width(rows: Sequence[Sequence[Tile]], column: int) -> int:
    """What the titles of a column need between its gutters, so that none runs into the next one."""
    titles = [printable(row[column].title) for row in rows if column < len(row) and row[column].title]
    return max((ceil(_font(_SMALL).getlength(title)) + 14 - 2 * _GUTTER for title in titles), default=0)


def _place_row(
    image, draw: ImageDraw, row: Sequence[Tile], widths: Sequence[int], at: tuple[int, int], height: int, title_y: int
) -> None:
    """The tiles of a row side by side, each in the middle of its column (of ``widths``) and of the row's ``height``."""
    x, y = at
    for tile, width in zip(row, widths, strict=False):
        tile_height, tile_width = tile.pixels.shape[:2]
        corner = (x + _GUTTER + (width - tile_width) // 2, y + (height - tile_height) // 2)
        _place(image, draw, tile, corner, x + _GUTTER + width // 2, title_y)
        x += width + 2 * _GUTTER


def _place(image, draw: ImageDraw, tile: Tile, at: tuple[int, int], middle: int, title_y: int) -> None:
    from PIL import Image

    (x, y), (height, width) = at, tile.pixels.shape[:2]
    image.paste(Image.fromarray(np.ascontiguousarray(tile.pixels)), at)
    if tile.framed:
        draw.rectangle((x - 2, y - 2, x + width + 1, y + height + 1), outline=FRAME, width=2)
    if tile.title:
        draw.text((middle, title_y), printable(tile.title), TEXT, _font(_SMALL), anchor="mt")
    left, right, top, bottom = tile.plane.sides
    font, half = _font(_LETTER), _GUTTER // 2
    draw.text((x - half, y + height / 2), left, TEXT, font, anchor="mm")
    draw.text((x + width + half, y + height / 2), right, TEXT, font, anchor="mm")
    draw.text((x + width / 2, y - half), top, TEXT, font, anchor="mm")
    draw.text((x + width / 2, y + height + half), bottom, TEXT, font, anchor="mm")
    for across, down in tile.marks:
        cx, cy = x + across * width, y + down * height
        draw.line((cx - 6, cy, cx - 2, cy), CROSS, 1)
        draw.line((cx + 2, cy, cx + 6, cy), CROSS, 1)
        draw.line((cx, cy - 6, cx, cy - 2), CROSS, 1)
        draw.line((cx, cy + 2, cx, cy + 6), CROSS, 1)


def scale_bar_mm(width_mm: float) -> int:
    """A round number of millimetres, at most a third of a width where there is one."""
    return max([step for step in _NICE_MM if step <= width_mm / 3] or [_NICE_MM[0]])


def _scale_bar(draw: ImageDraw, at: tuple[int, int], widest: int, mm_per_pixel: float) -> None:
    length = scale_bar_mm(widest * mm_per_pixel)
    x, y = at
    end = x + round(length / mm_per_pixel)
    draw.line((x, y + 6, end, y + 6), TEXT, 2)
    for edge in (x, end):
        draw.line((edge, y + 2, edge, y + 10), TEXT, 1)
    draw.text((end + 8, y + 6), f"{length} mm", TEXT, _font(_SMALL), anchor="lm")


def _colour_bar(image, draw: ImageDraw, at: tuple[int, int]) -> None:
    """The palette from 0 to the map's own highest value, over black as over the air of a scan."""
    from PIL import Image

    x, y = at
    ramp = np.tile(np.linspace(0, 1, 120), (10, 1))
    image.paste(Image.fromarray(blend(np.zeros_like(ramp), ramp)), (x + 14, y + 1))
    draw.rectangle((x + 13, y, x + 134, y + 11), outline=QUIET)
    draw.text((x + 6, y + 6), "0", TEXT, _font(_SMALL), anchor="rm")
    draw.text((x + 140, y + 6), "1", TEXT, _font(_SMALL), anchor="lm")
    draw.text((x + 74, y + 15), "heatmap", QUIET, _font(_SMALL - 1), anchor="mt")


def _names_width(names: Sequence[str]) -> int:
    lines = [line for name in names for line in name.splitlines()]
    return 0 if not lines else _GUTTER // 2 + 6 + max(round(_font(_SMALL).getlength(line)) for line in lines)


def _fitting(text: str, width: int, size: int) -> str:
    """The text, cut where it does not fit."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@lru_cache(maxsize=8)
def _font(size: int) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: Latin, Greek and Cyrillic letters on every machine."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)

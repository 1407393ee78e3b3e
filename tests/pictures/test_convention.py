"""One convention in every picture: an asymmetric phantom goes through each function that draws a scan."""

import io

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from anymc3d.data.volume import Volume
from anymc3d.demo import preview as demo_preview
from anymc3d.demo.slices import _tiles
from anymc3d.explain.heatmaps import Heatmap
from anymc3d.pictures.places import places_of
from anymc3d.pictures.planes import PLANES
from anymc3d.pictures.scan import heat_sheet, scan_sheet
from anymc3d.pictures.sheet import sheet
from anymc3d.pictures.tiles import Tile, draw_plane
from anymc3d.report.levels import table_of
from anymc3d.report.planes import middle_planes, over_scan, still
from anymc3d.report.volumes import grey_values

SHAPE, SPACING = (40, 48, 24), (1.0, 1.0, 2.0)
AT = (30, 36, 18)
"""Of the bright block: right of the middle, in front of it and above it, in RAS indices."""


def phantom(orientation: str = "RAS") -> Volume:
    """A head-like box with one bright block on the patient's right, in front, above; stored in any orientation."""
    voxels = np.full(SHAPE, 0.2, np.float32)
    # RAS: the first axis runs to the patient's right, so a high index is right.
    voxels[AT[0] - 5 : AT[0] + 5, AT[1] - 5 : AT[1] + 5, AT[2] - 3 : AT[2] + 3] = 1.0
    voxels[:, :1] = 0.0  # so that percentiles begin below the ground
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-20, -24, -24)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    stored = nib.orientations.apply_orientation(voxels, turn)
    return Volume(voxels=np.ascontiguousarray(stored), affine=affine @ inv_ornt_aff(turn, SHAPE))


def brightest(pixels: np.ndarray) -> tuple[float, float]:
    """Where the bright pixels are: shares of the width from the left and of the height from above."""
    rows, columns = np.nonzero(pixels[..., :3].min(axis=-1) > 200)
    return (columns.mean() + 0.5) / pixels.shape[1], (rows.mean() + 0.5) / pixels.shape[0]


def is_radiological(plane: str, pixels: np.ndarray) -> bool:
    """Whether the block lies on the left: the right of axial and coronal, the front of sagittal pictures; and up."""
    across, above = brightest(pixels)
    return across < 0.45 and above < 0.45


def cells(sheet: np.ndarray, rows: int) -> list[np.ndarray]:
    """The three pictures of a row of a sheet, by its grey ground: from left to right."""
    ground = (np.abs(sheet.astype(int) - sheet.astype(int).mean(-1, keepdims=True)).max(-1) < 12) & (
        (sheet.mean(-1) > 30) & (sheet.mean(-1) < 120)
    )
    columns = np.flatnonzero(ground.sum(axis=0) > 20 * rows)
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 12) + 1)
    found = []
    for group in groups:
        part = ground[:, group[0] : group[-1] + 1]
        lines = np.flatnonzero(part.sum(axis=1) > 0.4 * part.shape[1])
        first = np.split(lines, np.flatnonzero(np.diff(lines) > 12) + 1)[0]
        found.append(sheet[first[0] : first[-1] + 1, group[0] : group[-1] + 1])
    return found


ORIENTATIONS = ("RAS", "LPS", "PSR", "ALI", "SLA")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("draw", ["scan", "outline", "heat", "middle", "over"])
def test_the_patients_right_is_on_the_left_in_every_sheet(draw, orientation):
    scan = phantom(orientation)
    block = scan.voxels > 0.9
    heat = (block * 1.0).astype(np.float32), scan.affine
    map_ = Heatmap("lesion", "image", "attention", "image", *heat, 0.0, 1.0)
    pictures = {
        "scan": lambda: scan_sheet(scan, grey=(0, 1), outline=block),
        "outline": lambda: scan_sheet(scan, grey=(0, 1), outline=block),
        "heat": lambda: heat_sheet(scan, heat, grey=(0, 1)),
        "middle": lambda: np.asarray(Image.open(io.BytesIO(middle_planes(shifted(scan))))),
        "over": lambda: np.asarray(Image.open(io.BytesIO(over_scan(scan, map_, None)))),
    }
    sheet = pictures[draw]()
    found = cells(sheet, 1)
    assert len(found) == 3
    for plane, pixels in zip(PLANES, found, strict=True):
        if draw != "middle" or brightest_there(pixels):
            assert is_radiological(plane, pixels), (plane, brightest(pixels))
    assert draw != "middle" or all(brightest_there(pixels) for pixels in found)


def shifted(scan: Volume) -> Volume:
    """The block made a bar through the middle planes, so that the middle shows it."""
    ras = nib.as_closest_canonical(nib.Nifti1Image(scan.voxels, scan.affine))
    voxels = np.asarray(ras.dataobj).copy()
    x, y, z = AT
    voxels[x - 3 : x + 3, y - 3 : y + 3, SHAPE[2] // 2 - 1 : SHAPE[2] // 2 + 1] = 1.0
    voxels[x - 3 : x + 3, SHAPE[1] // 2 - 1 : SHAPE[1] // 2 + 1, z - 2 : z + 2] = 1.0
    voxels[SHAPE[0] // 2 - 1 : SHAPE[0] // 2 + 1, y - 3 : y + 3, z - 2 : z + 2] = 1.0
    return Volume(voxels=voxels.astype(np.float32), affine=ras.affine)


def brightest_there(pixels: np.ndarray) -> bool:
    return bool((pixels.min(axis=-1) > 200).any())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_reports_planes_and_its_script_follow_the_same_table(orientation):
    scan = phantom(orientation)
    levels = np.linspace(0, 1, 256)
    reduced = grey_values(scan, levels)
    for plane in PLANES.values():
        pixels = still(
            plane, reduced, (AT[plane.across] + 0.5) / SHAPE[plane.across], None, table=levels, mm_per_pixel=0.5
        )
        assert is_radiological(plane.name, pixels)
        assert plane.record() == {
            "axes": [plane.right, plane.up, plane.across],
            "mirrored": plane.mirrored,
            "sides": plane.sides,
        }
    assert table_of(levels, (0.0, 1.0)) == pytest.approx(levels)


def test_the_demos_pictures_follow_it_too(tmp_path):
    scan = phantom()
    for name, values in (("scan", scan.voxels), ("mask", (scan.voxels > 0.9).astype(np.float32))):
        nib.save(nib.Nifti1Image(values, scan.affine), tmp_path / f"{name}.nii.gz")
    row = {"image": "scan.nii.gz", "mask": "mask.nii.gz", demo_preview.LABEL: "1"}
    tiles, _ = demo_preview._tiles(tmp_path, row)
    assert [tile.plane.name for tile in tiles] == list(PLANES)
    orange = [np.nonzero((tile.pixels == (255, 140, 0)).all(-1)) for tile in tiles]
    for tile, (rows, columns) in zip(tiles, orange, strict=True):
        assert columns.mean() < 0.45 * tile.pixels.shape[1] and rows.mean() < 0.45 * tile.pixels.shape[0]


def test_slices_of_a_view_follow_it_too():
    from anymc3d.data.preprocess import prepare_view
    from anymc3d.settings.views import ViewSettings

    for plane in PLANES:
        prepared = prepare_view(phantom("LPS"), ViewSettings(size=(56, 56, 12), plane=plane))
        tiles, _ = _tiles(prepared, [1 / len(prepared.slices)] * len(prepared.slices))
        shown = max(tiles, key=lambda tile: int((tile.pixels.min(-1) > 200).sum()))
        assert shown.plane.name == plane and is_radiological(plane, shown.pixels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_slice_is_counted_as_in_the_file_and_its_millimetres_are_true(orientation):
    scan = phantom(orientation)
    index = np.argwhere(scan.voxels > 0.9)[0]
    world = scan.affine[:3, :3] @ index + scan.affine[:3, 3]
    stored_axis = {axis: i for i, axis in enumerate(int(a) for a, _ in nib.io_orientation(scan.affine))}
    for axis, slices in enumerate(places_of(scan)):
        ras_index = round((world[axis] - slices.first_mm) / slices.step_mm)
        number, _, rest = slices.text(ras_index).partition(" of ")
        assert int(number) == index[stored_axis[axis]] + 1
        assert rest == f"{SHAPE[axis]}, {'LPI'[axis] if world[axis] < 0 else 'RAS'[axis]} {abs(world[axis]):.1f} mm"


def test_all_planes_of_a_sheet_have_one_scale():
    scan = phantom()
    found = cells(scan_sheet(scan, grey=(0, 1), longest=240), 1)
    widths = [extent / 48 * 240 for extent in (40, 40, 48)]
    assert [pixels.shape[1] for pixels in found] == pytest.approx(widths, abs=6)
    assert [pixels.shape[0] for pixels in found] == pytest.approx([240, 240, 240], abs=6)


def test_a_low_heatmap_leaves_the_scan_as_it_is():
    scan, plane = phantom(), PLANES["axial"]
    alone = draw_plane(scan, plane, 18, grey=(0, 1), mm_per_pixel=0.5)
    low = np.full(SHAPE, 0.149, np.float32)
    assert np.array_equal(draw_plane(scan, plane, 18, grey=(0, 1), mm_per_pixel=0.5, heat=low), alone)
    assert not np.array_equal(draw_plane(scan, plane, 18, grey=(0, 1), mm_per_pixel=0.5, heat=low * 4), alone)


def test_titles_of_narrow_tiles_do_not_run_into_each_other():
    plane, title = PLANES["axial"], "axial, slice 18 of 35, S 18.0 mm"
    tiles = [Tile(np.full((30, 12, 3), 90, dtype=np.uint8), plane, title) for _ in range(3)]
    titled = sheet([tiles], mm_per_pixel=1.0)[4:18]
    # Three times the same text stands apart from its neighbours: somewhere between two, a gap of empty columns.
    used = np.flatnonzero((titled > 100).any(axis=(0, 2)))
    gaps = np.flatnonzero(np.diff(used) > 8)
    assert len(gaps) == 2

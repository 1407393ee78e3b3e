"""Which regions ``auto`` shows: those of the manifest, and one that something draws."""

import nibabel
import numpy as np
import pytest

from anymc3d.automl import sights, steps
from anymc3d.automl.data import plan_all, read_data
from anymc3d.automl.run import auto
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.sights import make_sights
from anymc3d.data.volume import Volume
from anymc3d.errors import UsageError
from anymc3d.segmenters import build
from anymc3d.settings.views import RoiSettings

SETTINGS = AutoSettings(outer_folds=2, least_cases=4, train=False)


def look(region):
    return sights.Look(planes="three", patches=5, slices=4, region=region)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six scans of noise with two points each; at a point of label 1 there is a bright cube."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    lines = ["case,image,patient,y,center_x,center_y,center_z"]
    for number in range(6):
        voxels = rng.integers(0, 100, (40, 40, 16)).astype(np.int16)
        voxels[6:14, 6:14, 4:12] += 400 * np.int16(number % 2)
        voxels[26:34, 26:34, 4:12] += 400 * np.int16(1 - number % 2)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([8.0, 8.0, 8.0, 1.0])), folder / f"{number}.nii")
        for place, where in enumerate(("80,80,64", "240,240,64")):
            lines.append(f"{number}-{place},{number}.nii,{number},{(number + place) % 2},{where}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


def test_what_lies_near_each_point_comes_first_and_answers_though_cases_share_a_scan(pairs, home, tmp_path):
    data = read_data(pairs, ["y"], SETTINGS, None)
    shown = make_sights(plan_all(data, "tiny-random"), 14, {})
    boxes = {sight.name: next(iter(sight.views.values())).roi for sight in shown}
    assert shown[0].name == "three planes, 70 px, 4 slices, near the point"
    assert boxes[shown[0].name].size_mm == (64.0, 64.0, 64.0)
    assert boxes["three planes, 70 px, 4 slices, around the point"].size_mm == (112.0, 112.0, 112.0)
    assert any(roi is None for roi in boxes.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sights, "LOOKS", (sights.LOOKS[0], look("point")))
        patch.setattr(steps, "stored_records", list)
        options = {"minutes": 60, "backbone": "tiny-random", "device": "cpu", "quiet": True, "settings": SETTINGS}
        found = auto(pairs, "y", tmp_path / "best", **options)
    assert found["auroc"]["value"] > 0.9, "a whole scan looks the same for both of its points"
    assert "point of interest" in (tmp_path / "best" / "report.html").read_text()


class Cube:
    """Draws the brighter of the two cubes; counts."""

    identity = "0" * 64
    calls = 0

    def labels(self, scan: Volume, scan_hash: str) -> np.ndarray:
        Cube.calls += 1
        return (scan.voxels > 300).astype(np.int32)


def test_a_region_that_something_draws_is_planned_drawn_once_and_asked_of_the_plugin(pairs, home, tmp_path):
    region = RoiSettings(source="meshnet", model="sha256:" + "0" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_build", lambda roi, program: Cube())
        patch.setattr(sights, "LOOKS", (sights.LOOKS[0], look("drawn")))
        patch.setattr(steps, "stored_records", list)
        options = {"minutes": 60, "backbone": "tiny-random", "device": "cpu", "quiet": True, "settings": SETTINGS}
        auto(pairs, "y", tmp_path / "best", roi=region, **options)
        assert Cube.calls == 6, "each scan once, for its plan, its slices and its features"
        rows = (tmp_path / "best" / "leaderboard.csv").read_text()
        assert "4 slices, drawn region" in rows
    with pytest.raises(UsageError, match="with --embeddings none is read"):
        auto(pairs, "y", tmp_path / "none", roi=region, embeddings=[tmp_path], backbone="tiny-random")

"""CT-RATE's two releases: of which one the voxels are, and corrected copies of the first.

The first release holds stored values and no spacing: Hounsfield units are value * slope + intercept of the metadata
table. The corrected release (v2) holds Hounsfield units. Rescaling twice is a known error of published code, so
nothing is decided by a folder's name alone: some volumes are opened, and chest CT in Hounsfield units is known by its
air and its soft tissue. A manifest never carries a rescaling: its scans are in Hounsfield units, or are not written.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import AdaptOptions
from anymc3d.data.formats.scan_file import sha256_of
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError, UsageError, did_you_mean
from anymc3d.files import atomic
from anymc3d.files.containment import inside

RELEASES = ("auto", "first", "v2")
AIR, SOFT_TISSUE = (-1100.0, -700.0), (-200.0, 200.0)
LEAST_SHARE = 0.05
"""Both air (with lung) and soft tissue fill at least this share of a chest CT."""
SPACING_TOLERANCE = 0.01
INT16 = (-32768, 32767)
_XY = re.compile(r"\[?\s*([0-9.eE+-]+)\s*[,\s]\s*([0-9.eE+-]+)\s*\]?")


@dataclass(frozen=True)
class Conversion:
    """What the metadata table says of one volume: HU = value * slope + intercept, spacing in mm."""

    slope: float
    intercept: float
    spacing: tuple[float, float, float]

    @property
    def changes_nothing(self) -> bool:
        """Whether stored values are Hounsfield units already."""
        return self.slope == 1 and self.intercept == 0


def read_conversion(name: str, meta: Mapping[str, str] | None, findings: Findings) -> Conversion | None:
    """The rescaling and spacing of a volume's metadata row; None where there is no row or it cannot be right."""
    if meta is None:
        return None
    try:
        match = _XY.fullmatch(meta["XYSpacing"])
        if match is None:
            raise ValueError("XYSpacing")
        spacing = (float(match.group(1)), float(match.group(2)), float(meta["ZSpacing"]))
        conversion = Conversion(float(meta["RescaleSlope"]), float(meta["RescaleIntercept"]), spacing)
    except ValueError:
        cells = ", ".join(f"{c}={meta[c]!r}" for c in ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing"))
        findings.warn("rescaling and spacing in the metadata are not numbers", f"{name}: {cells}")
        return None
    finite = np.isfinite([conversion.slope, conversion.intercept, *spacing]).all()
    if not finite or conversion.slope <= 0 or min(spacing) <= 0:
        findings.warn("rescaling and spacing in the metadata cannot be right", f"{name}: {conversion}")
        return None
    return conversion


def check_release(
    volumes: Mapping[str, Path], known: Mapping[str, Conversion], options: AdaptOptions, findings: Findings
) -> str | None:
    """``first`` or ``v2``, from some opened volumes; what contradicts the options is an error.

    Raises:
        UsageError: the release of the options is unknown.
    """
    if options.release not in RELEASES:
        raise UsageError(f"--release {options.release!r}{did_you_mean(options.release, RELEASES)}")
    sample = _spread(sorted(volumes), options.num_checked)
    releases = {}
    for name in sample:
        releases[name] = _release_of(name, volumes[name], known.get(name), findings)
        options.progress(1)
    distinct = sorted({release for release in releases.values() if release})
    if findings.has_errors:
        return None
    if len(distinct) > 1:
        both = [f"{name}: {release}" for name, release in releases.items() if release]
        findings.error("volumes of both releases are mixed; keep one", both)
        return None
    release = distinct[0] if distinct else None
    if release is None:
        return _undecided(options, findings, len(sample))
    if options.release not in ("auto", release):
        findings.error(f"--release {options.release}, but {_evidence(releases, release)}")
    elif release == "first" and options.convert is None:
        findings.error(
            f"first release: {_evidence(releases, release)}, not Hounsfield units. --convert FOLDER writes corrected"
            " copies for the manifest; or get the corrected release (train_fixed, valid_fixed)"
        )
    elif release == "v2" and options.convert is not None:
        findings.error(f"--convert, but {_evidence(releases, release)}: rescaling again would be wrong; leave it out")
    else:
        findings.ok(f"{_evidence(releases, release)}: release {release}")
    return release


def convert_all(
    volumes: Mapping[str, Path], known: Mapping[str, Conversion], options: AdaptOptions, findings: Findings
) -> dict[str, Path]:
    """Write a corrected copy of every volume, each whole or not at all; copies that are there already are kept.

    Each volume is looked at by itself: one that holds Hounsfield units already is an error, never rescaled again.
    """
    folder = options.convert
    assert folder is not None
    copies: dict[str, Path] = {}
    for name, path in volumes.items():
        conversion = known.get(name)
        if conversion is None:
            findings.error("a volume has no usable metadata and cannot be corrected", name)
            continue
        try:
            copies[name] = convert(path, inside(folder, *name.split("/")), conversion)
        except ScanError as error:
            findings.error("a volume cannot be corrected", f"{name}: {error.what}")
        options.progress(1)
    findings.ok(f"{len(copies)} corrected copies in {folder.name}: Hounsfield units, spacing of the metadata")
    return copies


def convert(source: Path, target: Path, conversion: Conversion) -> Path:
    """Write ``source`` in Hounsfield units (int16) with the metadata's spacing, directions and origin kept.

    A record beside the copy holds the hash of the source and what was done; while it fits, the copy is kept.

    Raises:
        ScanError: the scan cannot be read, or holds Hounsfield units already.
    """
    record = target.with_name(f".{target.name}.json")
    facts = {"source": sha256_of(source), "slope": conversion.slope, "intercept": conversion.intercept}
    facts["spacing"] = list(conversion.spacing)
    if target.is_file() and _record(record) == facts | {"copy": target.stat().st_size}:
        return target
    volume = read_volume(source)
    if _judge(volume.voxels, conversion) == "v2":
        what = "it holds Hounsfield units already; rescaling it again would be wrong"
        raise ScanError(f"{source}: {what}", what=what)
    values = volume.voxels * np.float32(conversion.slope) + np.float32(conversion.intercept)
    stored = np.rint(np.clip(values, *INT16)).astype(np.int16)
    image = nibabel.Nifti1Image(stored, _with_spacing(volume, conversion.spacing))
    image.header.set_xyzt_units("mm")
    with atomic.replacing(target) as temporary:
        # The temporary file's name has no extension that nibabel knows; the bytes are those of a .nii.gz.
        temporary.write_bytes(_gzipped(image))
    atomic.write_json(record, facts | {"copy": target.stat().st_size})
    return target


def is_chest_ct(values: NDArray[np.float32]) -> bool:
    """Whether values look like Hounsfield units of a chest: enough air or lung, and enough soft tissue."""
    shares = [float(((values >= low) & (values <= high)).mean()) for low, high in (AIR, SOFT_TISSUE)]
    return min(shares) >= LEAST_SHARE


def _judge(voxels: NDArray[np.float32], conversion: Conversion | None) -> str | None:
    """``first`` or ``v2``, by which of the two readings looks like a chest; None where both or neither do."""
    sample = np.ascontiguousarray(voxels[::2, ::2, ::2]).ravel()
    as_stored = is_chest_ct(sample)
    if conversion is None or conversion.changes_nothing:
        return "v2" if as_stored and conversion is None else None
    rescaled = is_chest_ct(sample * np.float32(conversion.slope) + np.float32(conversion.intercept))
    return None if as_stored == rescaled else ("v2" if as_stored else "first")


def _release_of(name: str, path: Path, conversion: Conversion | None, findings: Findings) -> str | None:
    try:
        volume = read_volume(path)
    except ScanError as error:
        findings.error("a volume cannot be read", f"{name}: {error.what}")
        return None
    release = _judge(volume.voxels, conversion)
    changes = conversion is not None and not conversion.changes_nothing
    if release is None and changes:
        low, high = np.quantile(volume.voxels[::2, ::2, ::2], [0.01, 0.99])
        findings.warn(
            "neither stored nor rescaled values look like a chest CT in Hounsfield units, or both do",
            f"{name}: 1 to 99 % of the values from {low:.0f} to {high:.0f}",
        )
    if release == "v2" and conversion is not None:
        _compare_spacing(name, volume.spacing, conversion.spacing, findings)
    return release


def _compare_spacing(name: str, spacing: Sequence[float], table: Sequence[float], findings: Findings) -> None:
    if not np.allclose(sorted(spacing), sorted(table), rtol=SPACING_TOLERANCE):
        spacing_text = " x ".join(f"{step:g}" for step in spacing)
        findings.warn(
            "the file's spacing contradicts the metadata table; the file's is used",
            f"{name}: {spacing_text} mm, table {' x '.join(f'{step:g}' for step in table)} mm",
        )


def _undecided(options: AdaptOptions, findings: Findings, num_opened: int) -> str | None:
    """No opened volume shows it; then only a person can say it."""
    if options.release == "v2" and options.convert is None:
        findings.warn(f"the {num_opened} opened volumes do not show their release; taken as v2, as you say")
        return "v2"
    if options.release == "first" and options.convert is not None:
        findings.warn(f"the {num_opened} opened volumes do not show their release; taken as first, as you say")
        return "first"
    findings.error(
        f"the {num_opened} opened volumes do not show whether they hold Hounsfield units; look at one, then say"
        " --release v2, or --release first --convert FOLDER"
    )
    return None


def _evidence(releases: Mapping[str, str | None], release: str) -> str:
    number = sum(found_release == release for found_release in releases.values())
    held = "hold Hounsfield units" if release == "v2" else "hold stored values without rescaling"
    return f"{number} of {len(releases)} opened volumes {held}"


def _spread(names: Sequence[str], number: int) -> list[str]:
    """``number`` names evenly over all of them, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(max(1, number), len(names))).round().astype(int)
    return [names[place] for place in dict.fromkeys(places.tolist())]


def _with_spacing(volume: Volume, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    affine = np.array(volume.affine, dtype=np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, :3] = affine[:3, :3] / lengths * np.asarray(spacing)
    return affine


def _gzipped(image: nibabel.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def _record(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

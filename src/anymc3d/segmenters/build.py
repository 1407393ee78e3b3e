"""From the settings of views to the segmenters they need; the joint of data and models for regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anymc3d.data.case_scans import Segmenters
from anymc3d.data.regions import ROI_SOURCES, check_roi
from anymc3d.data.segmentation import KeptSegmenter, Segmenter
from anymc3d.errors import PackageError, ScanError, SegmenterError
from anymc3d.files import home
from anymc3d.models.meshnet import read_meshnet
from anymc3d.printable import shown
from anymc3d.segmenters.network import NetworkSegmenter, Run
from anymc3d.segmenters.program import ProgramSegmenter, find_program
from anymc3d.segmenters.store import PREFIX, PROGRAM, keep_model, stored_model
from anymc3d.settings.views import NetworkSettings, RoiSettings, ViewSettings

CONFORMED = NetworkSettings(normalise="percentile", orientation="LIA", spacing_mm=(1.0, 1.0, 1.0), grid=(256, 256, 256))
"""What brain MeshNets were trained on: 256 voxels of 1 mm a side in FreeSurfer's orientation, intensities 0 to 1
without the brightest outliers."""


def build_segmenters(
    regions: Iterable[ViewSettings | RoiSettings], *, given_paths: Sequence[str | Path] = ()
) -> Segmenters:
    """The segmenters that some regions need, or the regions of some views, their results kept under the home folder.

    A program is started only where the person at the keyboard named it (``given_paths``): what a task file or a plugin
    says of one is never looked for, and without it each case needs its mask (:func:`check_programs` says so of a task).

    Args:
        regions: models are named by hash, see :func:`anymc3d.segmenters.store.with_stored_models`.
        given_paths: files of models, which go into the store, or the TotalSegmentator program.

    Raises:
        UsageError: a model or program is not there or cannot be used.
    """
    program = None
    for path in map(str, given_paths):
        if _is_model(path):
            keep_model(Path(path).expanduser())
        else:
            program = path
    segmenters: dict[RoiSettings, Segmenter] = {}
    wanted = (region.roi if isinstance(region, ViewSettings) else region for region in regions)
    for roi in dict.fromkeys(roi for roi in wanted if roi is not None):
        check_roi(roi)
        if ROI_SOURCES[roi.source].needs_segmenter:
            segmenter = _build(roi, program)
            if segmenter is not None:
                segmenters[roi] = KeptSegmenter(segmenter, home.home_folder() / "segmentations")
    return segmenters


def check_programs(views: Iterable[ViewSettings], given: Sequence[str | Path]) -> None:
    """Refuse to train where views need a program that was not named, before anything is read or written.

    Raises:
        UsageError: naming the program and what to do.
    """
    program = next((str(path) for path in given if not _is_model(path)), None)
    asking = next((view.roi.program for view in views if view.roi is not None and view.roi.program), None)
    if program is None and asking is not None:
        raise SegmenterError(
            f"roi.program: the task names a program ('{shown(asking)}'), and no file can have a program run; if you "
            f"want it to, name it yourself: --segmenter {PROGRAM} (or its path; in Python: segmenters=[...]); or leave "
            "program out and put its output into the manifest's mask column"
        )


def _is_model(path: str | Path) -> bool:
    return str(path).lower().endswith((".json", ".onnx"))


def _build(roi: RoiSettings, program: str | None) -> Segmenter | None:
    if roi.source == "totalsegmentator":
        return _program(roi, program)
    contents = stored_model(roi)
    digest = (roi.model or "").removeprefix(PREFIX)
    if roi.source == "meshnet":
        return NetworkSegmenter(_meshnet(contents), roi.network or CONFORMED, digest)
    return NetworkSegmenter(_onnx(contents[0]), _required(roi.network), digest)


def _program(roi: RoiSettings, program: str | None) -> Segmenter | None:
    if program is None:
        return None
    path = find_program(program)
    if path is None:
        what = f"--segmenter: no program {program!r} was found"
        raise SegmenterError(f"{what}; give its path, or put its output into the manifest's mask column")
    return ProgramSegmenter(path, roi.organs, roi.fast, roi.timeout_s)


def _required(settings: NetworkSettings | None) -> NetworkSettings:
    if settings is None:
        raise SegmenterError("roi.network: missing; an ONNX file does not say its input")
    return replace(settings)


def _meshnet(contents: Sequence[bytes]) -> Run:
    network = read_meshnet(*contents).eval()

    def run(voxels: NDArray[np.float32]) -> NDArray:
        return network(torch.from_numpy(np.ascontiguousarray(voxels))).numpy()

    return run


def _onnx(content: bytes) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        what = "roi.source: onnx needs the onnxruntime package"
        raise PackageError(f"{what}: pip install 'anymc3d[roi]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no public base
        what = f"roi.model: onnxruntime cannot load it ({' '.join(str(error).split())[:200]})"
        raise SegmenterError(f"{what}; save it as one .onnx file with its weights inside") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 5:
        shapes = ", ".join(str(network_input.shape) for network_input in inputs)
        raise SegmenterError(f"roi.model: expected an ONNX network with one input (1, 1, X, Y, Z), got {shapes}")

    def run(voxels: NDArray[np.float32]) -> NDArray:
        try:
            return session.run(None, {inputs[0].name: np.ascontiguousarray(voxels)})[0]
        except Exception as error:
            message = " ".join(str(error).split())[:200]
            raise ScanError(f"the segmentation network cannot take this scan ({message}); check roi.network") from error

    return run

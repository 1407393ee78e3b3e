"""What a task's settings alone can get wrong, checked before a manifest, a scan or a backbone is opened."""

from __future__ import annotations

from anymc3d.config import RoiSettings, TaskSettings
from anymc3d.data.augment import recipe
from anymc3d.data.regions import check_roi
from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.decoders.table import check_name
from anymc3d.models.fusion import FUSIONS, MAX_SLICES
from anymc3d.plugins import lora_rank
from anymc3d.train.losses import check_loss


def check_task(task: TaskSettings) -> None:
    """Check that every table has the entry that the task names, and that the entries fit each other.

    Raises:
        UsageError, PluginError: an unknown name (with the nearest known one), or settings that cannot go together.
    """
    check_loss(task.train, task.labels)
    recipe(task.augmentation)
    lora_rank(task.method)
    check_name(task.segmentation.decoder)
    if task.fusion not in FUSIONS:
        raise UsageError(f"fusion: unknown name {task.fusion!r}{did_you_mean(task.fusion, FUSIONS)}")
    limit = MAX_SLICES.get(task.fusion)
    for name, view in task.views.items():
        if view.roi is not None:
            _check_region(name, view.roi)
        if limit is not None and view.size[2] is not None and view.size[2] > limit:
            raise UsageError(
                f"views.{name}.size: fusion: {task.fusion} takes at most {limit} slices, got {view.size[2]}; "
                "take fewer slices, or use fusion: query"
            )


def _check_region(view: str, roi: RoiSettings) -> None:
    try:
        check_roi(roi)
    except UsageError as error:
        raise UsageError(f"views.{view}.{error}") from None

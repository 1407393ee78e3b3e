"""What a task's settings alone can get wrong, checked before a manifest, a scan or a backbone is opened."""

from __future__ import annotations

from collections.abc import Sequence

from anymc3d.data.augmentation.augment import recipe
from anymc3d.data.regions import check_roi
from anymc3d.errors import SettingError, UsageError
from anymc3d.models.build import is_baseline
from anymc3d.models.decoders.table import DECODERS, OWN, check_name
from anymc3d.models.features import FEATURES, representation
from anymc3d.models.fusion import CONCAT, FUSIONS, check_fusion, most_slices
from anymc3d.models.heads import HEADS, check_head
from anymc3d.models.standardisation import has_standard_form
from anymc3d.models.zoo.table import ZOO, zoo_entry
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.starts import PAPER, filled
from anymc3d.settings.training import MethodSettings, SegmentationSettings, TrainSettings
from anymc3d.settings.views import RoiSettings
from anymc3d.train.losses import check_loss
from anymc3d.train.quick.settings import FUSIONS as SOLVED
from anymc3d.train.start import with_recipe

ALL_FEATURES = "all"
"""``features`` of ``--quick``: every representation that the data set allows."""


def check_task(task: TaskSettings) -> None:
    """Check that every table has the entry that the task names, and that the entries fit each other.

    Raises:
        UsageError, PluginError: an unknown name (with the nearest known one), or settings that cannot go together.
    """
    baseline = is_baseline(task.method)
    if task.labels.is_number:
        _check_number(task)
    check_loss(with_recipe(task).train, task.labels)
    recipe(task.augmentation)
    check_name(task.segmentation.decoder)
    if baseline:
        _check_baseline(task)
    else:
        _check_on_backbone(task)
    if not baseline:
        _check_start(task)
        chosen_features(task)
    check_fusion(task.fusion)
    limit = None if baseline else most_slices(task.fusion)
    for name, view in task.views.items():
        if view.roi is not None:
            _check_region(name, view.roi)
        if limit is not None and view.size[2] is not None and view.size[2] > limit:
            raise SettingError(
                f"views.{name}.size: fusion: {task.fusion} takes at most {limit} slices, got {view.size[2]}; "
                "take fewer slices, or use fusion: query"
            )


def _check_number(task: TaskSettings) -> None:
    """What a label that is a number cannot take."""
    if task.train.sampling != "natural":
        raise SettingError(f"train.sampling: {task.train.sampling} deals out classes, a number has none; use natural")
    name = task.method.name
    if name in ZOO and ZOO[name].recipe.hides and task.segmentation.is_on:
        raise SettingError(f"segmentation: own trains {name} on parts of a volume, of which a number is not known")


def _check_baseline(task: TaskSettings) -> None:
    """What a network of the zoo cannot take, by its entry."""
    entry = zoo_entry(task.method.name)
    if task.method.head is not None:
        raise SettingError(f"method.head: method {entry.name} has its own; leave it null")
    for name, view in task.views.items():
        if view.num_channels not in entry.channels:
            known = " or ".join(str(count) for count in entry.channels)
            channels = "channel" if entry.channels == (1,) else "channels"
            raise SettingError(
                f"views.{name}.windows: method {entry.name} takes {known} {channels}, got {view.num_channels} windows; "
                "take one window, or another method"
            )
    if task.segmentation.is_on:
        _check_own_masks(task)


def _check_own_masks(task: TaskSettings) -> None:
    """What a network of the zoo can learn from masks."""
    name, masks = task.method.name, task.segmentation
    if ZOO[name].branch is None:
        able = ", ".join(entry.name for entry in ZOO.values() if entry.branch is not None)
        raise SettingError(
            f"segmentation: method {name} learns from no masks; with segmentation: own do {able}, anymc3d with "
            f"{', '.join(DECODERS)}; or take segmentation: none"
        )
    if masks.decoder != OWN:
        raise SettingError(f"segmentation: {masks.decoder} is AnyMC3D's; method {name} has its own, segmentation: own")
    if masks.keep:
        raise SettingError(f"segmentation.keep: method {name} draws no maps that could be kept; leave it false")
    structures = ZOO[name].recipe.structures
    if structures and len(masks.classes) not in ZOO[name].recipe.whole:
        raise SettingError(
            f"segmentation.classes: method {name} draws what its authors drew; name the labels of these in this order, "
            f"those that nobody looked for too (the manifest's mask_classes must leave them out): "
            f"{', '.join(structures)}; {_counts(ZOO[name].recipe.whole)} of them, got {len(masks.classes)}"
        )
    if ZOO[name].recipe.hides and task.labels.kind == "multiclass":
        raise SettingError(
            f"segmentation: own trains method {name} on parts of a volume, whose label is 'nothing there' where they "
            "do not show the region, and a multiclass task has no such class; use ordinal or yes/no labels"
        )


def chosen_features(task: TaskSettings) -> tuple[str, ...]:
    """The representations that ``features`` names: one, several with commas between, or ``all``.

    Raises:
        UsageError: an unknown name.
    """
    names = tuple(FEATURES) if task.features == ALL_FEATURES else tuple(task.features.replace(" ", "").split(","))
    for name in names:
        representation(name)
    return names


def check_steps(task: TaskSettings) -> None:
    """Check what a training by steps cannot be: of several representations, or of one of masks.

    Raises:
        UsageError: it is one of them.
    """
    names = chosen_features(task)
    if len(names) > 1:
        raise SettingError(f"features: {task.features}: only --quick chooses among several; name one, such as class")
    entry = representation(names[0])
    if entry.needs_mask:
        raise SettingError(f"features: {task.features} is for frozen backbones; add --quick, or take features=class")
    if entry.of_scan and task.fusion != CONCAT:
        raise SettingError(f"features: {task.features} keeps places, which no pooling weighs; set fusion={CONCAT}")
    if names != ("class",) and filled(task.train).standardise:
        raise SettingError(f"features: {task.features}: a start on frozen features is of class tokens; take class")


def _counts(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"


def _check_on_backbone(task: TaskSettings) -> None:
    """Settings of networks alone say nothing to AnyMC3D."""
    if task.segmentation.decoder == OWN:
        raise SettingError(
            f"segmentation: own is for networks such as method: rsna2023-coat; {task.method.name} has "
            f"{', '.join(DECODERS)}"
        )
    for key, value in (("lr", task.train.lr), ("weight_decay", task.train.weight_decay)):
        if value is not None:
            instead = {"lr": "train.lora_lr and train.head_lr"}.get(
                key, "train.lora_weight_decay and train.head_weight_decay"
            )
            raise SettingError(
                f"train.{key}: is for networks such as method: resnet18-3d; {task.method.name} has {instead}"
            )
    if task.train.copies is not None and task.method.blocks is None:
        raise SettingError(
            f"train.copies: goes with method.blocks, which leaves a trunk whose tokens can be kept, got "
            f"{task.train.copies}; set method.blocks, or leave train.copies out"
        )
    if task.train.copies and task.segmentation.is_on:
        raise SettingError(
            f"train.copies: a decoder (segmentation: {task.segmentation.decoder}) needs the slices and not only their "
            f"tokens, got {task.train.copies}; use train.copies: 0, or segmentation: none"
        )
    if task.method.head is not None:
        _check_own_head(task.method.head, filled(task.train))
    if task.method.weights is not None:
        raise SettingError(
            f"method.weights: {task.method.name} trains on a backbone, got {task.method.weights!r}; set backbone"
        )


def _check_own_head(name: str, train: TrainSettings) -> None:
    """An own head is trained by steps on raw embeddings: what it is made of is not known here."""
    check_head(name)
    if not HEADS.is_own(name):
        raise SettingError(f"method.head: {name} is chosen by the kind of label; name an own head, or leave it null")
    if train.start == "frozen" or train.standardise:
        key = "start: frozen" if train.start == "frozen" else "standardise"
        raise SettingError(f"train.{key}: takes the program's own heads alone; leave it out, or method.head")


def _check_start(task: TaskSettings) -> None:
    """Whether this fusion can be solved on frozen features, and trained on standardised ones."""
    train = filled(task.train)
    if train.start == "frozen" and task.fusion in FUSIONS and task.fusion not in SOLVED:
        raise SettingError(
            f"train.start: frozen solves {', '.join(SOLVED)} on frozen features, and not fusion: {task.fusion}; "
            "take train.start=random"
        )
    if train.start == "frozen" and not train.standardise:
        raise SettingError("train.standardise: train.start: frozen needs it; leave it out, or take train.start=random")
    if train.standardise and task.fusion in FUSIONS and not has_standard_form(task.fusion):
        raise SettingError(
            f"train.standardise: what fusion: {task.fusion} learns on standardised slices cannot be stored for raw "
            "ones; leave it out, or take fusion: query"
        )


def unused(task: TaskSettings) -> list[str]:
    """Settings off their default that say nothing to the task's method; for the log."""
    masks, plain_masks = task.segmentation, SegmentationSettings()
    of_masks = [] if masks.is_on else ["classes", "weight", "queries", "lr", "keep"]
    idle = [f"segmentation.{key}" for key in of_masks if getattr(masks, key) != getattr(plain_masks, key)]
    if not is_baseline(task.method):
        return idle
    if masks.is_on and masks.lr is not None and ZOO[task.method.name].recipe.structures:
        idle.append("segmentation.lr")
    idle += [key for key in ("fusion", "features") if getattr(task, key) != getattr(TaskSettings, key)]
    plain, usual = filled(task.train, PAPER), filled(TrainSettings())
    of_backbone = ("lora_lr", "lora_weight_decay", "head_lr", "head_weight_decay", "chunk_size", "recompute")
    of_backbone += ("copies", "token_cache_gb", "start", "standardise", "clip", "trained_share")
    idle += [f"train.{key}" for key in of_backbone if getattr(plain, key) != getattr(usual, key)]
    idle += ["segmentation.queries"] if masks.is_on and masks.queries is not None else []
    idle += [
        f"method.{key}"
        for key in ("rank", "alpha", "blocks")
        if getattr(task.method, key) != getattr(MethodSettings, key)
    ]
    return idle + [f"views.{name}.input" for name, view in task.views.items() if view.input != "replicate"]


def _check_region(view: str, roi: RoiSettings) -> None:
    try:
        check_roi(roi)
    except UsageError as error:
        raise SettingError(f"views.{view}.{error}") from None

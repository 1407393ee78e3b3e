"""THE table of what the frozen backbone is shown: planes, region, size in the plane, slices, intensities, backbone.

A sight is one pass over all cases; every representation and pooling of it is then a candidate at almost no cost. The
first entry is cheap enough for an answer within a fifth of the time; the others follow from cheap to expensive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from anymc3d.settings.config import TaskSettings
from anymc3d.settings.training import BackboneSettings
from anymc3d.settings.views import ViewSettings

WIDEST_SLICES = 64
"""Of a view whose number of slices is each scan's own."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One entry. ``planes``: ``own`` (of the acquisition) or ``three``; ``region``: ``whole`` or one of ``REGIONS``;
    ``patches``: along the longer side in the plane; ``slices``: at most, the whole extent in so many thicker ones;
    ``intensity``: ``planned``, or ``other``, the one the plan did not take."""

    planes: str
    patches: int
    slices: int
    region: str = "whole"
    intensity: str = "planned"


REGIONS: Mapping[str, str] = {
    "mask": "mask crop",
    "point": "near the point",
    "wide point": "around the point",
    "drawn": "drawn region",
}
"""What may be cut out of the whole scan, and its words in the leaderboard."""


def _of_regions(patches: int, slices: int) -> tuple[Look, ...]:
    return tuple(Look(planes="three", patches=patches, slices=slices, region=region) for region in REGIONS)


LOOKS: tuple[Look, ...] = (
    Look(planes="three", patches=5, slices=4),
    Look(planes="own", patches=8, slices=12),
    Look(planes="three", patches=8, slices=8),
    *_of_regions(5, 4),
    *_of_regions(8, 8),
    Look(planes="three", patches=5, slices=4, intensity="other"),
    Look(planes="own", patches=16, slices=16),
    Look(planes="three", patches=16, slices=12),
    *_of_regions(16, 12),
)
OTHER_BACKBONES = Look(planes="three", patches=8, slices=8)
"""What further backbones of the store are shown."""


@dataclass(frozen=True, eq=False)
class Sight:
    """``task``: with these views and this backbone; ``name``: in the leaderboard."""

    name: str
    task: TaskSettings
    look: Look

    @property
    def views(self) -> Mapping[str, ViewSettings]:
        return self.task.views

    @property
    def is_drawn(self) -> bool:
        """Whether a network or program may draw its region."""
        return self.look.region == "drawn"

    def tokens(self, patch_size: int) -> float:
        """Patches of all slices of one case: what a pass costs goes with them."""
        return sum(patches_of(view, patch_size) for view in self.views.values())


def patches_of(view: ViewSettings, patch_size: int) -> float:
    """Patches of all slices of a view."""
    return (view.size[0] / patch_size) * (view.size[1] / patch_size) * (view.size[2] or WIDEST_SLICES)


Planned = Mapping[tuple[str, str], TaskSettings]
"""(planes, region) -> the task as planned for them; those that cannot be are not there."""


def make_sights(planned: Planned, patch_size: int, backbones: Mapping[str, int]) -> list[Sight]:
    """All sights of a data set, the first one first, then from cheap to expensive.

    Where every case has a point of interest, the first shows what lies near it: several cases may share a scan.

    Args:
        planned: what ``anymc3d plan`` says for each kind of planes and region.
        patch_size: of the main backbone.
        backbones: further ones, name or path -> patch size.
    """
    main_sights = list(_of_main(planned, patch_size))
    first = next((sight for sight in main_sights if sight.look.region == "point"), main_sights[0])
    later = sorted((sight for sight in main_sights if sight is not first), key=lambda sight: sight.tokens(patch_size))
    others = [sight for name, patch in backbones.items() for sight in _of_other(planned, name, patch)]
    return [first, *later, *others]


def _of_main(planned: Planned, patch_size: int) -> Iterator[Sight]:
    seen: list[Mapping[str, ViewSettings]] = []
    for look in LOOKS:
        base = planned.get((look.planes, look.region)) or planned.get(("own", look.region))
        if base is None:
            continue
        views = {name: _view_for(view, look, patch_size) for name, view in base.views.items()}
        if views in seen or (look.intensity == "other" and _other_intensity(next(iter(base.views.values()))) is None):
            continue
        seen.append(views)
        yield Sight(_name(look, views), replace(base, views=views), look)


def _of_other(planned: Planned, backbone: str, patch_size: int) -> Iterator[Sight]:
    base = planned.get((OTHER_BACKBONES.planes, "whole")) or planned["own", "whole"]
    views = {name: _view_for(view, OTHER_BACKBONES, patch_size) for name, view in base.views.items()}
    task = replace(base, views=views, backbone=BackboneSettings(name=backbone))
    label = backbone.rstrip("/").rpartition("/")[2]
    yield Sight(f"{_name(OTHER_BACKBONES, views)}, {label}", task, OTHER_BACKBONES)


def _name(look: Look, views: Mapping[str, ViewSettings]) -> str:
    sizes = {view.size for view in views.values()}
    side = max(max(size[0], size[1]) for size in sizes)
    slices = max(size[2] or 0 for size in sizes)
    parts = [planes_of(views), f"{side} px", f"{slices} slices"]
    parts += [REGIONS[look.region]] if look.region in REGIONS else []
    parts += ["other intensities"] if look.intensity == "other" else []
    return ", ".join(parts)


def planes_of(views: Mapping[str, ViewSettings]) -> str:
    """The planes and images of some views, in words."""
    planes = list(dict.fromkeys("acquisition" if view.plane == "auto" else view.plane for view in views.values()))
    images = {view.image for view in views.values()}
    planes_in_words = "three planes" if len(planes) == 3 else "+".join(planes)
    return planes_in_words if len(images) == 1 else f"{planes_in_words} of {len(images)} images"


def size_of(views: Mapping[str, ViewSettings]) -> str:
    """The sizes of some views, each once."""
    shown = dict.fromkeys("x".join("all" if n is None else str(n) for n in view.size) for view in views.values())
    return " ".join(shown)


def _view_for(view: ViewSettings, look: Look, patch_size: int) -> ViewSettings:
    longest, wanted = max(view.size[:2]), look.patches * patch_size
    sides = [max(patch_size, round(side * wanted / longest / patch_size) * patch_size) for side in view.size[:2]]
    slices = min(view.size[2] or WIDEST_SLICES, look.slices)
    view = replace(view, size=(sides[0], sides[1], slices))
    return (_other_intensity(view) or view) if look.intensity == "other" else view


def _other_intensity(view: ViewSettings) -> ViewSettings | None:
    """Three windows -> one that holds them; one window -> percentiles; percentiles and z-scores -> each other."""
    if len(view.windows) == 3:
        low, high = min(low for low, _ in view.windows), max(high for _, high in view.windows)
        return replace(view, windows=((low, high),))
    return _INTENSITIES[view.normalise](view)


_INTENSITIES: Mapping[str, Callable[[ViewSettings], ViewSettings]] = {
    "window": lambda view: replace(view, normalise="percentile", windows=()),
    "percentile": lambda view: replace(view, normalise="zscore"),
    "zscore": lambda view: replace(view, normalise="percentile"),
}

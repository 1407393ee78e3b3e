"""What a plugin needs from the machine it is used on, in words; nothing is looked for here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anymc3d.plugins.card import PluginCard
from anymc3d.plugins.own_parts import own_parts
from anymc3d.printable import shown
from anymc3d.settings.views import RoiSettings


@dataclass(frozen=True)
class Need:
    """``kind``: backbone, part, covariate, program, network, mask or point; ``what`` it is; ``how`` to give it."""

    kind: str
    what: str
    how: str


def needs_of(card: PluginCard) -> list[Need]:
    """What the plugin needs before it can answer, the backbone first."""
    cards = [card, *(member.card for member in card.members)]
    needs: list[Need] = []
    for name in dict.fromkeys(part.backbone.name for part in cards if part.backbone is not None):
        how = "found by its fingerprint in the local store; or --backbone FOLDER"
        needs.append(Need("backbone", f"the backbone {shown(name)}", how))
    needs += [Need("part", part.what, part.how) for part in own_parts(card)]
    structures = sorted({label for part in cards for label in part.structures})
    if structures:
        what = f"a segmentation of every scan with the labels {', '.join(map(str, structures))}"
        needs.append(Need("mask", what, "the column mask or mask.<view>; --mask FILE"))
    if card.covariate_names:
        what = f"covariates: {', '.join(map(shown, card.covariate_names))}"
        needs.append(Need("covariate", what, "columns of the manifest; --covariate NAME=VALUE; one may be missing"))
    regions = {name: view.roi for name, view in card.preprocessing.items() if view.roi is not None}
    return [*needs, *_of_regions(regions)]


def _of_regions(regions: Mapping[str, RoiSettings]) -> Iterator[Need]:
    for view, roi in regions.items():
        if roi.source == "point":
            how = "the columns center_x, center_y, center_z; --center X Y Z"
            yield Need("point", f"view {view}: a point of interest", how)
        elif roi.source == "mask":
            yield Need("mask", f"view {view}: a segmentation of its region", "the column mask; --mask FILE")
        elif roi.source == "totalsegmentator":
            organs = ", ".join(map(shown, roi.organs))
            how = "the column mask; or the program, which runs only if you name it: --segmenter TotalSegmentator"
            yield Need("program", f"view {view}: TotalSegmentator's segmentation of {organs}", how)
        else:
            what = f"view {view}: the {roi.source} network {roi.model} that draws its region"
            yield Need("network", what, "the local store; or --segmenter FILE")

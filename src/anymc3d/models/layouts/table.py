"""THE table of file layouts: from the names in a weights file to one canonical set of tensors.

Every tensor of a file is either used, or known and unused; anything else is an error, and so is anything missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from anymc3d.errors import BackboneError, UnknownLayoutError
from anymc3d.models.backbone_protocol import BackboneConfig
from anymc3d.models.fingerprint import layout_fingerprint
from anymc3d.models.layout_rules import Layout, check_complete, rename, some
from anymc3d.models.layouts import dino, siglip
from anymc3d.models.layouts.davit import DAVIT_LAYOUTS
from anymc3d.models.layouts.dino import DINO_LAYOUTS, LOST_SOMETHING
from anymc3d.models.layouts.siglip import HEADLESS, SIGLIP_LAYOUTS
from anymc3d.models.layouts.vit import OTHER_VITS, VIT_LAYOUTS
from anymc3d.models.own_backbones import OWN_BACKBONES
from anymc3d.models.siglip import SiglipConfig
from anymc3d.models.vit import ViTConfig

LAYOUTS: tuple[Layout, ...] = (*VIT_LAYOUTS, *DINO_LAYOUTS, *SIGLIP_LAYOUTS, *DAVIT_LAYOUTS)
"""The first whose marker a file has: plain ViTs share names with DINOv2, CLIP with SigLIP, and both have others too."""
REFUSED = (*LOST_SOMETHING, *HEADLESS, *OTHER_VITS)
"""Known layouts that lost something or are others': (how to recognise it, what to do)."""
EXPECTED_SETTINGS: dict[type, Callable[[Any], Mapping[str, object]]] = {
    ViTConfig: dino.expected_settings,
    SiglipConfig: siglip.expected_settings,
}
"""Type of the configuration -> what a Hugging Face ``config.json`` must say where it says something."""


def find_layout(names: Collection[str]) -> Layout | None:
    """The layout of a file that holds tensors of these names."""
    return _first(LAYOUTS, names) or _own_layout(names)


def _own_layout(names: Collection[str]) -> Layout | None:
    return _first([layout for backbone in OWN_BACKBONES.values() for layout in backbone.layouts], names)


def _first(layouts: Iterable[Layout], names: Collection[str]) -> Layout | None:
    return next((layout for layout in layouts if any(marker in names for marker in layout.markers)), None)


def canonical_state(raw: Mapping[str, Tensor]) -> tuple[BackboneConfig, dict[str, Tensor]]:
    """Turn the tensors of a weights file into canonical ones, in the precision they came in.

    Returns:
        The configuration read off the shapes, and the tensors of the forward path by their canonical names.

    Raises:
        BackboneError: the layout is not known, or a tensor is unknown, missing or has the wrong shape.
    """
    for is_refused, advice in REFUSED:
        if is_refused(raw) and _own_layout(raw) is None:
            raise BackboneError(advice)
    layout = find_layout(raw)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise UnknownLayoutError(
            f"not a known layout of backbone weights (known: {known}; an own one: "
            f"{OWN_BACKBONES.how_to_add('anymc3d.register_backbone')}); it holds {some(sorted(raw))}, structure "
            f"{layout_fingerprint(raw)}"
        )
    config, tensors = layout.finish(*rename(raw, layout), layout.name)
    check_complete(tensors, config, layout.name)
    return config, tensors


def needs_settings(names: Collection[str]) -> bool:
    """Whether a file of these names leaves open what its ``config.json`` says."""
    layout = find_layout(names)
    return layout is not None and layout.needs_settings


def unused_tensors(names: Collection[str]) -> list[str]:
    """The tensors of a file that are known and not part of the forward path, such as a language encoder's."""
    layout = find_layout(names)
    if layout is None:
        return []
    return [name for name in names if (matched := layout.rule(name)) is not None and matched[0].target is None]


def describe_unused(names: Collection[str]) -> str:
    """What of a file is left out, by the first part of the names: ``text_model (437 tensors), logit_scale``."""
    groups = Counter(name.partition(".")[0] for name in unused_tensors(names))
    return ", ".join(f"{group} ({count} tensors)" if count > 1 else group for group, count in sorted(groups.items()))


def check_settings(settings: Mapping[str, Any], config: BackboneConfig) -> None:
    """Compare a Hugging Face ``config.json`` with what the shapes say; a field it does not have is not compared.

    Raises:
        BackboneError: it describes another forward pass.
    """
    if type(config) not in EXPECTED_SETTINGS:
        return
    vision = settings.get("vision_config")
    fields = vision if isinstance(vision, dict) else settings
    wrong = [
        f"{key} is {fields[key]!r} instead of {' or '.join(map(repr, allowed))}"
        for key, value in EXPECTED_SETTINGS[type(config)](config).items()
        if key in fields and fields[key] not in (allowed := value if isinstance(value, tuple) else (value,))
    ]
    if wrong:
        raise BackboneError(f"config.json describes a network that is not supported: {'; '.join(wrong)}")

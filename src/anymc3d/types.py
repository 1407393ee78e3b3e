"""The letters used in shapes and the few shared aliases.

| letter  | meaning                                               |
|---------|-------------------------------------------------------|
| B       | cases in a batch                                      |
| V       | views of a case                                       |
| S       | slices of one view of one case; sum(S) = packed       |
| C       | channels of a slice: 1, or one per window             |
| H, W    | first and second in-plane axis of a slice, in pixels  |
| X, Y, Z | voxels of a volume along its three stored axes        |
| T, N, P | tokens = P prefix tokens + N patch tokens             |
| D       | embedding width (``embed_dim``)                       |
| K       | logits                                                |
| L       | label columns                                         |

World coordinates are millimetres in RAS (x towards the patient's right, y towards anterior,
z towards superior), as in NIfTI. Spacing is in millimetres, in the order of the array's axes.
"""

from __future__ import annotations

from typing import Literal

Plane = Literal["axial", "coronal", "sagittal"]
Modality = Literal["CT", "MR", "PT", "other"]
Split = Literal["train", "val", "test"]
LabelKind = Literal["binary", "multiclass", "multilabel", "ordinal", "regression"]
Status = Literal["ok", "warn", "error"]

"""A network of the zoo as the classifier of a task: called, stored and loaded as AnyMC3D's own, without a backbone.

Several views: one network each, and the mean of the logits of the views that are there. docs/methods.md leaves open
how the compared systems take several views; the mean needs no parameters and no case to have them all.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anymc3d.errors import PluginError, UsageError
from anymc3d.models.classifier import ClassifierOutput, Encoding, PackedSlices
from anymc3d.models.fusion import pad_cases
from anymc3d.models.heads import OrdinalHead
from anymc3d.models.number_format import autocast_for
from anymc3d.models.strict_load import copy_into
from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.slice_rnn import take_as_they_are

logger = logging.getLogger(__name__)

LONE_VALUE = "Expected more than 1 value per channel"
"""How torch says that batch norm has one value of a channel alone."""


class BaselineClassifier(nn.Module):
    """The networks of one task, one per view.

    Args:
        entry: of the zoo.
        channels: view -> channels of its slices, in the order of the views.
        standardised: views whose slices the network takes as they are, without the mean and standard deviation of the
            images that its weights come from.
        num_logits: K.
        head: ``linear``: the network gives the K logits. ``ordinal``: it gives one score, from which the cut points
            between neighbouring grades make the logits (see :class:`anymc3d.models.heads.OrdinalHead`).
        num_structures: of masks that the network learns from as its authors do; 0: it learns from none.
        seed: of all initial values.

    Raises:
        UsageError: the network cannot have this many channels, or learns from no masks.
    """

    def __init__(
        self,
        entry: ZooEntry,
        *,
        channels: Mapping[str, int],
        num_logits: int,
        head: str = "linear",
        num_structures: int = 0,
        standardised: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.views = tuple(channels)
        scores = 1 if head == "ordinal" else num_logits
        draws = torch.Generator().manual_seed(seed)
        seeds = [seed, *(int(torch.randint(2**31, (), generator=draws, device="cpu")) for _ in self.views[1:])]
        self.networks = nn.ModuleDict(
            {
                view: entry.build(scores, in_channels=count, seed=view_seed)
                for (view, count), view_seed in zip(channels.items(), seeds, strict=True)
            }
        )
        for view in standardised:
            take_as_they_are(self.networks[view])
        self.ordinal = OrdinalHead(1, num_logits, draws) if head == "ordinal" else None
        if self.ordinal is not None:
            nn.init.ones_(self.ordinal.weight)
        pairs = zip(self.networks.items(), seeds, strict=True) if num_structures else ()
        self.decoder = nn.ModuleDict(
            {view: entry.build_branch(network, num_structures, seed=view_seed) for (view, network), view_seed in pairs}
        )
        """What learns from masks beside the networks; no answer depends on it."""
        self._noted: set[str] = set()

    @property
    def least_batch(self) -> int:
        """Cases a training batch needs: two with batch norm that is trained."""
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        norms = (module for module in self.networks.modules() if isinstance(module, kinds))
        return 2 if any(norm.weight.requires_grad for norm in norms) else 1

    def forward(
        self, backbone: nn.Module | None, batch: Mapping[str, PackedSlices], encoding: Encoding
    ) -> ClassifierOutput:
        """Classify a batch; ``backbone`` is None, and of ``encoding`` the number format alone is used.

        Raises:
            PluginError: a case has no slice in any view.
            UsageError: batch norm met one value alone, in training.
        """
        has_view = self.views_there(batch)
        total: Tensor | int = 0
        for column, view in enumerate(self.views):
            present = has_view[:, column].nonzero().flatten().tolist()
            if present:
                logits = self._logits(view, batch[view], encoding.dtype)
                index = torch.tensor(present, device=logits.device)
                total = total + logits.new_zeros(len(has_view), logits.shape[1]).index_add(0, index, logits)
        weights = (has_view / has_view.sum(dim=1, keepdim=True)).to(total.device)
        mean = total / has_view.sum(dim=1, keepdim=True).to(total.device)
        return ClassifierOutput(mean if self.ordinal is None else self.ordinal(mean), {}, weights)

    def views_there(self, batch: Mapping[str, PackedSlices]) -> Tensor:
        """(B, V), bool: which views each case has.

        Raises:
            PluginError: a case has no slice in any view.
        """
        has_view = torch.tensor([[count > 0 for count in batch[view].counts] for view in self.views]).T
        if not has_view.any(dim=1).all():
            raise PluginError("expected at least one view with at least one slice in every case, got a case with none")
        return has_view

    def _logits(self, view: str, packed: PackedSlices, dtype: torch.dtype) -> Tensor:
        """The logits (cases that have this view, K or 1), in float32."""
        outputs, order = [], []
        for cases, volume, mask in self.volumes(view, packed):
            with self.computing(view, volume, dtype):
                outputs.append(self.networks[view](volume, mask).float())
            order += cases
        back = torch.tensor(order, device=outputs[0].device).argsort()
        return torch.cat(outputs)[back]

    @contextmanager
    def computing(self, view: str, volume: Tensor, dtype: torch.dtype) -> Iterator[None]:
        """The number format in which the network of a view takes ``volume`` (B, C, S, H, W).

        Raises:
            UsageError: batch norm met one value alone, in training.
        """
        try:
            with autocast_for(self.networks[view], volume.device, dtype):
                self._note_format(volume.device, dtype)
                yield
        except ValueError as error:
            if LONE_VALUE not in str(error):
                raise
            raise UsageError(
                f"{self.entry.name}: batch norm needs two values of a channel or more in training, and a call with "
                f"{len(volume)} of {_by(volume)} gives one; take larger slices or more of them (views.{view}.size), "
                "the same number of slices for all cases, or a larger train.batch_size"
            ) from None

    def volumes(self, view: str, packed: PackedSlices) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(positions among the cases that are there, volumes (B, C, S, H, W), mask (B, S)), one network call each.

        Slice networks take all cases at once, short ones padded. Networks that read the volume as one block take those
        of one size at once, after they have been brought to the size the network wants.
        """
        slices, counts = packed.slices.float(), tuple(count for count in packed.counts if count)
        if self.entry.kind == "slices":
            padded, mask = pad_cases(slices, counts)
            self._note_size(view, padded.transpose(1, 2))
            yield list(range(len(counts))), padded.transpose(1, 2), mask
            return
        sizes: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        for case, case_slices in enumerate(slices.split(list(counts))):
            volume = case_slices.transpose(0, 1).unsqueeze(0)
            self._note_size(view, volume)
            fitted = self.entry.sizes.fit(volume)
            sizes.setdefault(tuple(fitted.shape[-3:]), []).append((case, fitted))
        for (depth, *_), of_size in sizes.items():
            volumes = torch.cat([volume for _, volume in of_size])
            mask = torch.ones(len(of_size), depth, dtype=torch.bool, device=volumes.device)
            yield [case for case, _ in of_size], volumes, mask

    def _note_size(self, view: str, volume: Tensor) -> None:
        """Say once per view that volumes are brought to another size."""
        note = self.entry.sizes.note(tuple(volume.shape[-3:]))
        if note is not None and view not in self._noted:
            self._noted.add(view)
            logger.info("%s, view %s: %s", self.entry.name, view, note)

    def _note_format(self, device: torch.device, requested: torch.dtype) -> None:
        """Say once that float32 is used where bfloat16 was asked for."""
        if requested != torch.float32 and not torch.is_autocast_enabled(device.type) and "format" not in self._noted:
            self._noted.add("format")
            logger.info(
                "%s: 3D convolutions are computed in float32 on a CPU, where bfloat16 has wrong gradients",
                self.entry.name,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return plugin-file name -> parameter or buffer: ``network.<view>.<path>``, of grades ``ordinal.*``, and
        ``decoder.<view>.<path>`` of what learns from masks.

        Buffers that are whole numbers are left out: they count steps or follow from the structure.
        """
        named = {
            f"{kind}.{view}.{name}": tensor
            for kind, modules in (("network", self.networks), ("decoder", self.decoder))
            for view, module in modules.items()
            for name, tensor in module.state_dict(keep_vars=True).items()
            if tensor.is_floating_point()
        }
        if self.ordinal is not None:
            named |= {f"ordinal.{name}": tensor for name, tensor in self.ordinal.named_parameters()}
        return named

    scale = None
    """A network is trained on what it sees; see ``VolumeClassifier.scale``."""

    def plugin_tensors(self) -> dict[str, Tensor]:
        """A copy of the tensors for a plugin file."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy a plugin's tensors in; names and shapes must match exactly.

        Raises:
            PluginError: a tensor is missing, unexpected or of another shape; or they are another network's.
        """
        copy_into(self.tensors(), tensors, f"the tensors of {self.entry.name}")


def _by(volume: Tensor) -> str:
    return " x ".join(str(side) for side in volume.shape[-3:])

"""Peak memory of predicting with an ensemble of ten against one of its members (benchmarks/ensemble_memory.md).

Each figure is the peak resident memory of a process of its own: ``python benchmarks/ensemble_memory.py``.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_MEMBERS = 10
SIZE = (224, 224, 8)


def make(folder: Path) -> None:
    """A random ViT-S/14, ten plugins on it, their ensemble and a scan."""
    import nibabel as nib
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from anymc3d.data.preprocess import CODE_VERSION
    from anymc3d.models.backbones import card
    from anymc3d.models.classifier import VolumeClassifier
    from anymc3d.models.store import find_backbone
    from anymc3d.models.vit import random_vit
    from anymc3d.plugins import load_plugin, save_plugin
    from anymc3d.plugins.card import BackboneRecord, PluginCard
    from anymc3d.plugins.ensemble import make_ensemble
    from anymc3d.settings.config import LabelSettings
    from anymc3d.settings.training import MethodSettings
    from anymc3d.settings.views import ViewSettings

    network = random_vit(card("dinov2-small").config)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "vit.safetensors")
    backbone = find_backbone(str(folder / "vit.safetensors"))
    record = BackboneRecord(
        name="random ViT-S",
        fingerprint=backbone.fingerprint,
        positions="official",
        embed_dim=384,
        patch_size=14,
        mean=backbone.card.mean,
        std=backbone.card.std,
        licence="none",
    )
    plugins = []
    for index in range(NUM_MEMBERS):
        plugin_card = PluginCard(
            name=f"member{index}",
            labels=LabelSettings(columns=("y",), kind="binary", classes=("0", "1")),
            modality="other",
            preprocessing={"image": ViewSettings(size=SIZE, plane="axial")},
            backbone=record,
            method=MethodSettings(),
            fusion="query",
            code_version=CODE_VERSION,
        )
        classifier = VolumeClassifier(backbone.module, views=["image"], num_logits=2, seed=index)
        save_plugin(folder / f"{index}.safetensors", plugin_card, classifier.tensors())
        plugins.append(load_plugin(folder / f"{index}.safetensors"))
    save_plugin(folder / "ensemble.safetensors", *make_ensemble(plugins))
    voxels = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / "scan.nii.gz")
    torch.set_num_threads(1)


def predict(folder: Path, what: str, chunk_size: int) -> None:
    """Predict once, or only import, and print peak resident MB and seconds."""
    import torch

    from anymc3d.plugins import load_plugin
    from anymc3d.predict.predictor import Predictor

    torch.set_num_threads(1)
    started = time.perf_counter()
    if what != "imports":
        plugin = load_plugin(folder / f"{what}.safetensors")
        predictor = Predictor([plugin], backbone=str(folder / "vit.safetensors"), device="cpu", chunk_size=chunk_size)
        predictor.predict(folder / "scan.nii.gz")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{peak:.1f} {time.perf_counter() - started:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    parser.add_argument("--chunk-size", type=int, default=8, help="slices per backbone call")
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder)
        return
    if args.what:
        predict(args.folder, args.what, args.chunk_size)
        return
    with tempfile.TemporaryDirectory() as folder:
        own = [sys.executable, __file__, "--folder", folder, "--chunk-size", str(args.chunk_size), "--what"]
        subprocess.run([*own, "make"], check=True)
        peaks = {}
        print("| what | peak resident MB | seconds |\n|---|---|---|")
        for what in ("imports", "0", "ensemble"):
            done = subprocess.run([*own, what], check=True, capture_output=True, text=True).stdout.split()
            peaks[what] = float(done[0])
            name = {"imports": "imports only", "0": "one plugin", "ensemble": f"ensemble of {NUM_MEMBERS}"}[what]
            print(f"| {name} | {done[0]} | {done[1]} |")
        net = (peaks["ensemble"] - peaks["imports"]) / (peaks["0"] - peaks["imports"])
        print(f"\nensemble / one: {peaks['ensemble'] / peaks['0']:.3f}; without the imports: {net:.3f}")


if __name__ == "__main__":
    main()

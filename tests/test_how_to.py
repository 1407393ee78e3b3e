"""The how-tos, command by command and block by block, on tiny data: whoever follows a page gets to its end."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from anymc3d.cli.main import main
from anymc3d.engines.table import ENGINES
from anymc3d.testing import tables_as_before
from test_docs import ROOT, blocks, name_of

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
FILE = re.compile(r"^cat > (\S+) <<'END'\n(.*?)^END$\n?", re.M | re.S)
ON_CPU = ("train", "predict", "explain")
ONE_EPOCH = ["train.epochs=1", "train.precision=fp32"]
"""Added to each training, so that it takes a second."""
SIZES = {
    "ct-lesion-masks": ["views.image.size=[28,28,4]"],
    "several-mr-views": ["views.axial.size=[28,28,4]", "views.sagittal.size=[28,28,4]"],
}
"""And to those from the task file that ``plan`` wrote for large scans."""


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scan(path: Path, index: int, *, mask: bool = False) -> str:
    """Noise of 24 x 28 x 8 voxels, of odd cases with a bright block; its mask where that is asked for."""
    path.parent.mkdir(exist_ok=True)
    voxels = np.random.default_rng(index).normal(40, 10, (24, 28, 8)).astype(np.float32)
    inside = (slice(8, 16), slice(10, 18), slice(2, 6))
    if mask:
        voxels = np.zeros(voxels.shape, np.uint8)
        voxels[inside] = 1
    elif index % 2:
        voxels[inside] += 80
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return str(path)


def ct(_journey):
    rows = []
    for index in range(20):
        drawn = scan(Path(f"masks/case{index:02d}.nii.gz"), index, mask=True) if index != 2 else ""
        image = scan(Path(f"scans/case{index:02d}.nii.gz"), index)
        rows.append({"image": image, "mask": drawn, "malignant": index % 2, "patient": f"p{index}"})
    write_table(Path("manifest.csv"), rows)
    write_table(Path("organs.csv"), [row | {"mask": scan(Path("masks/organ.nii.gz"), 0, mask=True)} for row in rows])


def views(_journey):
    rows = []
    for index in range(20):
        names = {f"image.{view}": scan(Path(f"{view}/s{index:02d}.nii.gz"), index) for view in ("axial", "sagittal")}
        rows.append({"case": f"s{index:02d}", "patient": f"p{index:02d}", **names, "tear": index % 2})
    write_table(Path("one-scan.csv"), [{"image": row["image.axial"], "tear": row["tear"]} for row in rows])
    rows[2]["image.sagittal"] = ""
    write_table(Path("manifest.csv"), rows)


def trained(journey):
    for path in journey.data.iterdir():
        if path.name != "run":
            Path(path.name).symlink_to(path)
    Path("plugin.safetensors").symlink_to(journey.plugin)


def second_site(journey):
    trained(journey)
    images = [(f"scans/case{index % 20:02d}.nii.gz", index) for index in range(20)]
    rows = [{"image": at, "block": i % 2, "patient": f"p{i:03d}", "scanner": "XY"[i % 3 == 0]} for at, i in images]
    write_table(Path("site-b.csv"), rows)


def own_weights(journey):
    from anymc3d.models.store import find_backbone

    trained(journey)
    tensors = find_backbone("tiny-random").module.state_dict()
    Path("weights/my-vit").mkdir(parents=True)
    mine = {name: tensor + 0.001 * torch.sign(tensor) for name, tensor in tensors.items()}
    save_file(mine, "weights/my-vit/model.safetensors")


DATA = {
    "ct-lesion-masks": ct,
    "several-mr-views": views,
    "cluster": trained,
    "external-validation": second_site,
    "own-backbone": own_weights,
    "own-fusion": trained,
}


def run_line(line: str, page: str) -> None:
    """One command; an sbatch script is run line by line, once for each index of its array."""
    words = shlex.split(line, comments=True)
    if words[0] == "sbatch":
        script = Path(words[1]).read_text(encoding="utf-8")
        first, last = (re.search(r"--array=(\d+)-(\d+)", script) or re.match("()()", script)).groups()
        for index in range(int(first or 1), int(last or 1) + 1):
            for one in re.findall(r"^(?:srun )?(anymc3d .*)$", script, re.M):
                run_line(one.replace("$SLURM_ARRAY_TASK_ID", str(index)), page)
        return
    assert words[0] == "anymc3d", line
    if words[1] == "train":
        own = any(word.startswith("backbone=") for word in words)
        words += [*ONE_EPOCH, *SIZES.get(page, ()), *([] if own else ["backbone=tiny-random"])]
    words += ["--no-timing"] if words[1] == "plan" else []
    words += ["--device", "cpu"] if words[1] in ON_CPU else []
    assert main(words[1:]) == 0, line


def run_shell(text: str, page: str) -> None:
    for name, content in FILE.findall(text):
        Path(name).write_text(content, encoding="utf-8")
    for line in FILE.sub("", text).replace("\\\n", " ").splitlines():
        if line.strip():
            run_line(line, page)


def test_every_how_to_has_its_data():
    assert {page.stem for page in PAGES} == set(DATA)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_whoever_follows_the_page_gets_to_its_end(page, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENGINES, "local", lambda work, options: (one.call() for one in work))  # without processes
    with tables_as_before():
        follow(page, journey)


def follow(page: Path, journey) -> None:
    DATA[page.stem](journey)
    namespace: dict[str, object] = {}
    found = [block for block in blocks(page, "sh", "python") if block["mark"]]
    assert found
    for block in found:
        if block["kind"] == "sh":
            run_shell(block["text"], page.stem)
        else:
            exec(compile(block["text"], name_of(page), "exec"), namespace)

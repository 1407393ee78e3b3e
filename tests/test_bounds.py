"""F8: a new installation takes no release of a dependency that has a published fault which matters here."""

import re
import tomllib
from pathlib import Path

FIRST_MENDED = {
    "torch": "2.6",  # CVE-2025-32434: torch.load(weights_only=True) ran code
    "pydicom": "3.0.2",  # CVE-2026-32711: a DICOMDIR led out of its folder
    "python-gdcm": "3.2.6",  # CVE-2025-52582: reads past a frame
    "pillow": "13.0",  # CVE-2026-96639 and others: memory errors in decoders and encoders
    "scikit-learn": "1.5",  # CVE-2024-5206: kept training texts
    "tqdm": "4.66.3",  # CVE-2024-34062: ran code out of command-line options
    "python-multipart": "0.0.22",  # CVE-2026-24486: a file name led out of the upload folder
    "pynetdicom": "3.0.4",  # CVE-2026-56445: an example of a node wrote where it was told to
    "starlette": "0.49.1",  # CVE-2025-62727: a range header that takes for ever
    "ray": "2.52",  # CVE-2025-62593: a web page could start jobs
}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_F8_lower_bounds_leave_out_releases_with_known_faults():
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(line for name in extras if name not in ("test", "benchmark") for line in extras[name]),
    ]
    bounds = {}
    for line in lines:
        if found := re.fullmatch(r"([a-zA-Z0-9-]+)(?:\[[\w,]+\])?>=([\d.]+).*", line):
            bounds[found[1]] = found[2]
        else:
            assert line.startswith("anymc3d["), f"{line}: no lower bound"
    assert FIRST_MENDED.keys() <= bounds.keys()
    assert not [name for name, first in FIRST_MENDED.items() if _version(bounds[name]) < _version(first)]

"""The documentation as a site: it builds without a network and a warning, and asks no other host for anything."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anymc3d

ROOT = Path(__file__).resolve().parents[1]
LOADED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^\s\">]+")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if missing := [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'anymc3d[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    dead_end = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = os.environ | dead_end | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_every_page_and_every_public_name_is_there(site):
    made = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} | {"benchmarks/heatmaps", "SECURITY"} <= made
    api = (site / "api.html").read_text(encoding="utf-8")
    names = [name for name in anymc3d.__all__ if not name.startswith("_")]
    assert not [name for name in names if f'id="anymc3d.{name}"' not in api]


def test_links_lead_on_and_no_page_loads_from_another_host(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not [one for one in LOADED.findall(text) if 'rel="canonical"' not in one], page.name
        if page.name != "404.html":
            for target in re.findall(r'<a[^>]+href="([^"#:]+)(?:#[^"]*)?"', text):
                assert (page.parent / target).exists(), f"{page.name}: {target}"

"""What the documentation site adds to the pages of this folder: pages from outside it, and one entry per public name.

The pages are written for a reader of the repository: their links lead to files beside this folder too. Pages of the
repository that are linked are taken into the site; a link to another file becomes its text. MkDocs calls the functions.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("benchmarks/**/*.md", "deploy/*.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
NAMES = "<!-- public names -->"


def on_files(files: Files, config: Any) -> Files:
    """Take the pages of the repository that stand beside this folder."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").rglob("*.ipynb")):
        place = path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        files.append(File.generated(config, place, content=_notebook(path)))
    return files


def _notebook(path: Path) -> str:
    """A notebook as a page: its words, and its cells as Python."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in cells]
    page = "\n\n".join(f"```python\n{text}\n```" if is_code else text for text, is_code in texts)
    return f"{page}\n\nThis page is a notebook: [{path.name}]({path.name})\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead each link to where its file is in the site, and put the public names where the API page wants them."""
    own = page.file.src_uri
    folder = posixpath.dirname(own if (ROOT / own).is_file() else f"docs/{own}")

    def moved(found: re.Match[str]) -> str:
        if "://" in found["target"] or found["target"].startswith("mailto:"):
            return found[0]
        place = posixpath.normpath(posixpath.join(folder, found["target"])).removeprefix("docs/")
        if files.get_file_from_path(place) is None:
            return found["text"]
        if place.endswith(".ipynb") and not own.startswith("notebooks/"):
            place = place.removesuffix(".ipynb") + ".md"
        target = posixpath.relpath(place, posixpath.dirname(own) or ".")
        return f"{found['image']}[{found['text']}]({target}{found['anchor'] or ''})"

    return LINK.sub(moved, markdown).replace(NAMES, _public_names())


def _public_names() -> str:
    """One entry of the API reference for each name of ``anymc3d.__all__``."""
    import anymc3d

    names = (name for name in anymc3d.__all__ if not name.startswith("_"))
    return "\n\n".join(f"::: anymc3d.{name}" for name in names)

"""What a program that drives tools is offered over the Model Context Protocol: commands of this program, each with a
schema, as processes of their own.

Nothing a caller says can name a plugin or a folder that the person who started this did not name: plugins are chosen by
number or file name out of those given, inputs lie under the given folders, results under the one output folder.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.version import __version__

NOTICE = "Research use only. Not a medical device."
MAX_TEXT = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COLUMNS = re.compile(r"[^-\x00-\x1f][^\x00-\x1f]{0,199}")


@dataclass(frozen=True, kw_only=True)
class ToolSettings:
    """``plugins``: files that may be used. ``inputs``: folders that may be read. ``out``: the folder that may be
    written to; None: nothing is written, and tools that write are not offered."""

    plugins: tuple[Path, ...]
    inputs: tuple[Path, ...]
    out: Path | None = None
    timeout_s: float = 1800.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for folder in self.inputs:
            if not folder.is_dir():
                raise UsageError(f"--data {folder}: expected a folder that exists")
        names = [path.name for path in self.plugins]
        if len(set(names)) < len(names):
            raise UsageError("-p: two plugins have one file name; rename one")


class Tools:
    """The tools; each returns plain data, and raises UsageError for what may not be asked."""

    def __init__(self, settings: ToolSettings) -> None:
        self._settings = settings

    def offered(self) -> list[Callable[..., dict[str, Any]]]:
        """The functions behind the tools, whose signatures are their schemas."""
        reading: list[Callable[..., dict[str, Any]]] = [self.doctor, self.plan]
        if self._settings.plugins:
            reading.append(self.predict)
        writing = [self.explain, self.report] if self._settings.plugins and self._settings.out else []
        return [*reading, *writing]

    def doctor(self, manifest: str | None = None, labels: str | None = None) -> dict[str, Any]:
        """Check the installation, or with a manifest (CSV) find every fault of a data set. Reads only."""
        words = ["doctor", "--json", "--quiet"]
        if manifest is not None:
            words += [str(self._input(manifest)), *_option("--labels", labels)]
        return self._run(words)

    def plan(self, manifest: str, labels: str) -> dict[str, Any]:
        """Measure a data set and propose a task file, with a reason for each choice; returns its text. Reads only."""
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder) / "task.yaml"
            words = ["plan", str(self._input(manifest)), *_option("--labels", labels), "-o", str(task)]
            planned = self._run([*words, "--no-timing", "--quiet"])
            return planned | ({"task": task.read_text(encoding="utf-8")} if task.is_file() else {})

    def predict(self, scans: list[str], plugin: str | None = None, series: str | None = None) -> dict[str, Any]:
        """Classify scans (files, DICOM folders, or one manifest). Returns the rows of predictions.csv. Reads only."""
        with tempfile.TemporaryDirectory() as folder:
            words = ["predict", *self._plugin(plugin), *self._scans(scans), *_option("--series", series)]
            return self._run([*words, "-o", str(Path(folder) / "out"), "--json", "--quiet", *self._device])

    def explain(self, scan: str, name: str, plugin: str | None = None, series: str | None = None) -> dict[str, Any]:
        """Draw heatmaps of where the classifier looked, into the folder `name` of the output folder."""
        words = ["explain", *self._plugin(plugin), *self._scans([scan]), *_option("--series", series)]
        return self._run([*words, "-o", str(self._out(name)), "--json", "--quiet", *self._device])

    def report(self, scan: str, name: str, plugin: str | None = None, series: str | None = None) -> dict[str, Any]:
        """Write the report of one study as one HTML file, `name`.html of the output folder."""
        words = ["report", *self._plugin(plugin), *self._scans([scan]), *_option("--series", series)]
        path = self._out(f"{name}.html")
        return self._run([*words, "-o", str(path), "--quiet", *self._device]) | {"file": str(path)}

    @property
    def _device(self) -> list[str]:
        return ["--device", self._settings.device]

    def _plugin(self, name: str | None) -> list[str]:
        known = {path.name: path for path in self._settings.plugins}
        if name is None and len(known) == 1:
            name = next(iter(known))
        if name not in known:
            hint = did_you_mean(str(name)[:64], list(known))
            raise UsageError(f"plugin: expected one of {', '.join(known)}, got {str(name)[:64]!r}{hint}")
        return ["-p", str(known[name])]

    def _scans(self, scans: Sequence[str]) -> list[str]:
        if not 1 <= len(scans) <= 1000:
            raise UsageError(f"scans: expected 1 to 1000, got {len(scans)}")
        return ["-i", *(str(self._input(scan)) for scan in scans)]

    def _input(self, text: str) -> Path:
        """A path that exists under a folder that may be read, with all links followed."""
        try:
            path = Path(text).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise UsageError(f"{text[:200]!r}: no such file or folder") from None
        if not any(path.is_relative_to(folder.resolve()) for folder in self._settings.inputs):
            raise UsageError(f"{text[:200]!r} lies outside the folders that may be read (--data)")
        return path

    def _out(self, name: str) -> Path:
        if self._settings.out is None or _NAME.fullmatch(name) is None:
            raise UsageError("name: expected 1 to 64 letters, digits and . _ -, the first a letter or digit")
        return self._settings.out.resolve() / name

    def _run(self, words: Sequence[str]) -> dict[str, Any]:
        """A command of this program, with what it printed: JSON as data, everything else as text."""
        command = [sys.executable, "-m", "anymc3d", *words]
        try:
            completed = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=self._settings.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"it took longer than {self._settings.timeout_s:g} s and was ended") from None
        try:
            result = json.loads(completed.stdout) if completed.stdout.strip() else None
        except ValueError:
            result = completed.stdout[:MAX_TEXT]
        return {
            "exit_code": completed.returncode,
            "result": result,
            "messages": completed.stderr[-5000:],
            "notice": NOTICE,
        }


def _option(name: str, value: str | None) -> list[str]:
    """An option with its value in one word, so that no value is taken for an option."""
    if value is None:
        return []
    if _COLUMNS.fullmatch(value) is None:
        raise UsageError(f"{name.lstrip('-')}: expected one line of text, got {value[:64]!r}")
    return [f"{name}={value}"]


def run_stdio(tools: Tools) -> None:
    """Answer requests on standard input and output until it ends."""
    make_server(tools).run("stdio")


def make_server(tools: Tools) -> Any:
    """The tools as a server of the Model Context Protocol."""
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations

    server = MCPServer("anymc3d", version=__version__, instructions=NOTICE, log_level="ERROR")
    for function in tools.offered():
        reads = function.__name__ in ("doctor", "plan", "predict")
        hints = ToolAnnotations(readOnlyHint=reads, destructiveHint=False, openWorldHint=False)
        server.add_tool(_with_own_errors(function, ToolError), name=function.__name__, annotations=hints)
    return server


def _with_own_errors(
    function: Callable[..., dict[str, Any]], error_class: type[Exception]
) -> Callable[..., dict[str, Any]]:
    """The same with errors in the protocol's own words; the signature, which makes the schema, stays."""
    import functools

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> dict[str, Any]:
        try:
            return function(*args, **named)
        except UsageError as error:
            raise error_class(str(error)) from None

    return called

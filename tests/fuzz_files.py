"""Random changes of plugins and task files: each ends in a clean error or a right answer, within time and memory.

The suite tries a few of each (``test_fuzz_files.py``). With a large budget, from the repository's root:

    PYTHONPATH=tests python tests/fuzz_files.py --cards 10000 --tasks 10000

Everything follows from the number of a change; ``--first N`` goes on from one.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file

from anymc3d.cli.main import main as command
from anymc3d.cost.memory import forget_peak, peak_memory
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError, UsageError
from anymc3d.files.tables import read_table
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.plugins import Plugin, load_plugin
from anymc3d.plugins.file import HEADER_KEY
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import read_task, write_task
from fuzz_bench import Bench, make_bench
from mutations import changed, changed_bytes, changed_tensors, changed_text
from strangers import read_raw
from tiny_scans import TASK, write_scans

SECONDS, BYTES = 10.0, 1.5e9
"""Of one change: processor time, and resident memory of a process that does nothing else."""
PROGRAM_BYTES = 0.45e9
"""What such a process has before it opens the file."""
HANGS_AFTER = 300
ADDRESS_SPACE = 6 << 30
"""Beyond what the process begins with: a find must not take the machine."""
ENOUGH = "read so far, and no further"
_CPU = torch.device("cpu")
_BECAME = {0: "answered", 2: "refused", 3: "its case is an error row", 4: "its case is an error row"}
_CENTRE = ("--center", "12", "12", "9")
_OF_LOGITS = ("preprocessing", "method", "fusion", "features", "structures", "backbone", "code_version", "labels")


class Find(AssertionError):
    """A change that ended in something else than a clean error or a right answer."""


def try_card(bench: Bench, number: int) -> str:
    """What became of one changed plugin; commands that show, use and convert it are run.

    Raises:
        Find: what must not become of any.
    """
    rng = random.Random(f"card {number}")
    path, source = bench.folder / "changed.safetensors", rng.choice(bench.plugins)
    if not _write_changed(source, path, rng):
        return "no file could be made of it"
    with _within_limits(bench):
        shown = _run(["plugin", "show", str(path)])
        given = _inputs(bench, path) if shown == "answered" else ["-p", str(path), "-i", str(bench.scan)]
        became = _run(["predict", *given, "-o", str(bench.out / "predict"), "--quiet"])
        if became == "answered":
            _check_answer(bench, source, path)
        if shown == "answered" and rng.random() < 0.5:
            _run(rng.choice(_other_commands(path, given, bench.out)))
    return became


def try_task(bench: Bench, number: int) -> str:
    """What became of one changed task file; training ends where the scans would be read, after one of them was.

    Raises:
        Find: what must not become of any.
    """
    rng = random.Random(f"task {number}")
    path = bench.folder / "changed.yaml"
    tree: Any = rng.choice(bench.tasks)
    text = yaml.safe_dump(changed(tree, rng) if rng.random() < 0.8 else tree, sort_keys=False)
    text = changed_text(text, rng) if rng.random() < 0.25 else text
    path.write_bytes(text.encode(errors="surrogatepass"))
    reached: list[TaskSettings] = []

    def stop(task: TaskSettings, *_: Any) -> None:
        reached.append(task)
        raise UsageError(ENOUGH)

    with _within_limits(bench), patch("anymc3d.train.fit.read_scans", stop):
        became = _run(["train", str(path), "-o", str(bench.out / "run"), "--quiet"])
        if not reached:
            return became
        _check_task(path, bench)
        return _prepare(reached[0], bench)


def _check_task(path: Path, bench: Bench) -> None:
    """Written and read again it is the same: nothing that it says was taken for something else."""
    task = read_task(path)
    again = bench.out / "again.yaml"
    write_task(again, task)
    if read_task(again) != task:
        raise Find("a task file that is written as another one")


def _prepare(task: TaskSettings, bench: Bench) -> str:
    volume = read_volume(str(bench.scan))
    for view in task.views.values():
        try:
            prepared = prepare_view(volume, view)
        except ScanError:
            return "its case is an error row"
        if not np.isfinite(prepared.slices).all():
            raise Find("slices with numbers that are none")
    return "would be trained"


def _inputs(bench: Bench, path: Path) -> list[str]:
    card = load_plugin(path).card
    asks = any(view.roi is not None and view.roi.source == "point" for view in card.preprocessing.values())
    return ["-p", str(path), "-i", str(bench.scan), *(_CENTRE if asks else ())]


def _other_commands(path: Path, given: Sequence[str], out: Path) -> list[list[str]]:
    return [
        ["plugin", "verify", str(path)],
        ["plugin", "show", str(path), "--json"],
        ["plugin", "export", str(path), "-o", str(out / "peft")],
        ["explain", *given, "-o", str(out / "explain"), "--quiet", "--no-pictures"],
        ["report", *given, "-o", str(out / "report.html"), "--quiet"],
    ]


def _write_changed(source: Path, path: Path, rng: random.Random) -> bool:
    """False where safetensors refuses to write it."""
    which = rng.random()
    if which < 0.05:
        path.write_bytes(changed_bytes(source.read_bytes(), rng))
        return True
    card, tensors = read_raw(source)
    try:
        if which < 0.12:
            tensors = changed_tensors(tensors, rng)
            header = json.dumps(card | {"tensors_sha256": tensors_hash(tensors)})
        elif which < 0.25:
            header = changed_text(json.dumps(card), rng)
        else:
            header = json.dumps(changed(card, rng))
        save_file(tensors, str(path), metadata={HEADER_KEY: header})
    except (SafetensorError, ValueError):
        return False
    return True


def _run(words: list[str]) -> str:
    """A command in this process: how it ended, its words checked."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command(words)
        except SystemExit as exit_:
            code = exit_.code
    said = out.getvalue() + err.getvalue()
    odd = sorted({letter for letter in said if not letter.isprintable() and letter != "\n"})
    if code not in _BECAME or odd or len(err.getvalue()) > 20_000 or (code == 2 and not err.getvalue().strip()):
        last = err.getvalue()[-600:]
        raise Find(f"anymc3d {' '.join(words[:2])}: exit code {code}, unprintable {odd}, said {last!r}")
    return _BECAME[code]


@contextlib.contextmanager
def _within_limits(bench: Bench) -> Iterator[None]:
    """Processor time and memory, nothing touched outside ``out``, and no program started."""
    shutil.rmtree(bench.out, ignore_errors=True)
    bench.out.mkdir()
    before, started = bench.watched(), time.process_time()
    forget_peak(_CPU)
    here = peak_memory(_CPU) or 0  # other tests of this process may have left more than the program takes
    yield
    seconds, most = time.process_time() - started, (peak_memory(_CPU) or 0) - here + PROGRAM_BYTES
    _Worst.seconds, _Worst.bytes = max(_Worst.seconds, seconds), max(_Worst.bytes, most)
    if seconds > SECONDS or most > BYTES:
        raise Find(f"{seconds:.1f} s of processor time and {most / 1e6:.0f} MB")
    if bench.watched() != before or bench.started.exists():
        raise Find("something was written outside of the output folder, or started")


class _Worst:
    seconds, bytes = 0.0, 0


def _check_answer(bench: Bench, source: Path, path: Path) -> None:
    """The answer is what the card says of its logits, and these are the ones from before where nothing changed them."""
    plugin, (row,) = load_plugin(path), read_table(bench.out / "predict" / "predictions.csv")
    names = plugin.card.labels.output_names
    raw, told, decided = (
        np.array([float(row[f"{what}.{name}"]) for name in names]) for what in ("logit", "probability", "decision")
    )
    one_of = plugin.card.labels.kind in ("multiclass", "ordinal")
    expected = raw == raw.max() if one_of else raw >= np.array(plugin.card.thresholds)
    if not np.isfinite(raw).all() or (decided != expected).any():
        raise Find(f"another decision than the card's: {row}")
    if not np.allclose(told, _probabilities(plugin, raw, one_of), rtol=1e-5, atol=1e-7):
        raise Find(f"another probability than the card's: {row}")
    if _answers_alike(load_plugin(source), plugin):
        if source not in bench.answers:
            _run(["predict", *_inputs(bench, source), "-o", str(bench.out / "before"), "--quiet"])
            bench.answers[source] = read_table(bench.out / "before" / "predictions.csv")[0]
        same = [float(text) for name, text in bench.answers[source].items() if name.startswith("logit.")]
        if not np.allclose(raw, same, rtol=0, atol=1e-5):
            raise Find(f"other logits, {raw} and {same}, of equal tensors and preprocessing")


def _answers_alike(one: Plugin, other: Plugin) -> bool:
    cards = [to_plain(plugin.card) for plugin in (one, other)]
    keys = (*_OF_LOGITS, "members")
    return tensors_hash(one.tensors) == tensors_hash(other.tensors) and all(cards[0][k] == cards[1][k] for k in keys)


def _probabilities(plugin: Plugin, raw: np.ndarray, one_of: bool) -> np.ndarray:
    """By the formulas of ``docs/metrics.md``, written again."""
    z = raw.copy()
    maps = [] if plugin.card.calibration is None else list(plugin.card.calibration.maps.values())
    for index in range(len(z) if maps else 0):
        one = maps[min(index, len(maps) - 1)]
        if one.kind == "isotonic":
            z[index] = np.interp(raw[index], *np.array(one.knots).T)
        elif one.kind != "none":
            z[index] = one.slope * (raw[index] - one.threshold)
    powers = np.exp(z - z.max())
    return powers / powers.sum() if one_of else 1 / (1 + np.exp(-z))


def _journey(folder: Path) -> Bench:
    """Made here, as the suite makes its own."""
    from anymc3d.train.fit import fit

    os.environ |= {"ANYMC3D_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    data = folder / "data"
    write_scans(data)
    (data / "task.yaml").write_text(TASK)
    plugin = fit(read_task(data / "task.yaml"), folder / "run", device="cpu", quiet=True)
    return make_bench(folder / "bench", plugin, data / "task.yaml")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Try as many as asked for; 1 where one was a find."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cards", type=int, default=0, metavar="N")
    parser.add_argument("--tasks", type=int, default=0, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(1)
    faulthandler.enable()
    finds = 0
    with tempfile.TemporaryDirectory() as name:
        bench = _journey(Path(name))
        os.chdir(bench.folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
        for what, attempt, budget in (("card", try_card, args.cards), ("task", try_task, args.tasks)):
            counts: Counter[str] = Counter()
            _Worst.seconds, _Worst.bytes = 0.0, 0
            for number in range(args.first, args.first + budget):
                faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
                try:
                    counts[attempt(bench, number)] += 1
                except Exception as error:  # noqa: BLE001 - whatever comes is what is looked for
                    finds += 1
                    counts["FIND"] += 1
                    _say(f"{what} {number}: {type(error).__name__}: {error}")
                if number % 500 == 499:
                    _say(f"{what} {number + 1}: {dict(counts)}")
            faulthandler.cancel_dump_traceback_later()
            worst = f"worst {_Worst.seconds:.1f} s of processor time, {_Worst.bytes / 1e6:.0f} MB"
            if budget:
                _say(f"{budget} of kind {what}: {dict(counts.most_common())}; {worst}")
    return int(finds > 0)


if __name__ == "__main__":
    sys.exit(main())

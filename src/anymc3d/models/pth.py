"""Official ``.pth`` weights, converted in a child process that is thrown away.

A ``.pth`` file is a pickle. This is the one place that opens one, with ``weights_only``, in a process that can
neither start programs nor connect anywhere, and only for ``anymc3d backbone import``. The parent sees safetensors.

A small file can unfold to any size: ``torch.save`` never compresses its archive, so one with compressed members is
refused by its table of contents, and the child has a limit on memory that grows with the file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from anymc3d.errors import BackboneError
from anymc3d.printable import shown

PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
CONTAINERS = ("state_dict", "network_weights", "net", "model")
"""Under these names a checkpoint keeps its tensors, beside counters and the state of an optimiser."""
MAX_PICKLE_BYTES = 8 << 30
SPARE_BYTES = 1 << 30
"""Memory of the child beside what torch takes to start and ``COPIES`` of the file: read, copied, written."""
COPIES = 4
FORBIDDEN_EVENTS = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


def convert_pth(path: Path, output: Path, *, timeout_s: float = 600) -> None:
    """Write the tensors of the pickle ``path`` to ``output`` as safetensors.

    Raises:
        BackboneError: the file holds more than tensors, is damaged, or takes longer than ``timeout_s`` seconds.
    """
    if not path.is_file() or path.stat().st_size > MAX_PICKLE_BYTES:
        raise BackboneError(f"expected a weights file of at most {MAX_PICKLE_BYTES} bytes, got {path}")
    check_archive(path)
    command = [sys.executable, "-P", "-m", "anymc3d.models.pth", str(path.resolve()), str(output.resolve())]
    with tempfile.TemporaryFile() as errors:
        try:
            result = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise BackboneError(f"{path}: reading it took more than {timeout_s:g} s and was stopped") from error
        errors.seek(0)
        lines = errors.read(1 << 16).decode("utf-8", errors="replace").strip().splitlines()
    if result.returncode or not output.is_file():
        reason = lines[-1][:300] if lines else f"the reading process ended with code {result.returncode}"
        raise BackboneError(f"{path} is not a plain file of weights: {reason}")


def check_archive(path: Path) -> None:
    """Refuse a zip archive that unfolds to more than it holds, by its table of contents; an old ``.pth`` is none.

    Raises:
        BackboneError: a member is compressed, or the members are longer than the file.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BackboneError(f"{path} is a damaged archive: {error}") from error
    packed = next((member.filename for member in members if member.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise BackboneError(
            f"{path}: expected an archive as torch.save writes it, without compression, but {shown(packed, 60)} is "
            "compressed; load and save it again with torch"
        )
    size, unfolded = path.stat().st_size, sum(member.file_size for member in members)
    if unfolded > size:
        raise BackboneError(
            f"{path}: its archive says it holds {unfolded} bytes, in a file of {size}: it is not a weights file"
        )


def _limit_memory(path: Path) -> None:
    """A few copies of the file, above what this process takes already; nothing where the system knows no limits."""
    try:
        import resource

        used = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            if line.startswith("VmSize:")
        )
    except (ImportError, OSError, StopIteration):
        return
    most = used + SPARE_BYTES + COPIES * path.stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _convert(path: Path, output: Path) -> None:
    """What the child does; see :func:`convert_pth`."""
    import torch
    from safetensors.torch import save_file

    _limit_memory(path)
    sys.addaudithook(_refuse)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, dict):
        loaded = next((loaded[name] for name in CONTAINERS if isinstance(loaded.get(name), dict)), loaded)
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise SystemExit("expected a flat table of tensors, as in the official releases")
    save_file({str(name): tensor.detach().clone().contiguous() for name, tensor in loaded.items()}, output)


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN_EVENTS:
        raise RuntimeError(f"a weights file tried to do {event}")


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))

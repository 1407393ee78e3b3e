"""The house rules that a machine can check: imports go down, nothing dangerous is called, files stay readable."""

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "anymc3d"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS: list[set[str]] = [
    {"callable", "error_codes", "errors", "no_probe", "printable", "registry", "types", "version"},
    {"files", "settings"},
    {"data", "models", "page"},
    {"cost", "engines", "evaluate", "pictures"},
    {"plugins", "segmenters"},
    {"train", "plan", "predict", "doctor", "explain", "maps", "adapters", "recipes", "vlm3d", "pandx"},
    {"report", "benchmark", "embed", "parts", "testing"},
    {"automl"},
    {"demo", "serve"},
    {"cli", "__main__"},
]
"""Lowest first. A module may import from its own layer and from those below."""

NO_TORCH = {"error_codes", "errors", "printable", "registry", "types", "version", "files", "settings"}
APART = {
    "data": {"models", "evaluate", "train"},
    "models": {"data", "evaluate", "train"},
    "evaluate": {"data", "models"},
}
"""Packages that must not know each other."""
READS_TABLES = "evaluate/command.py"
"""The one file of ``evaluate`` that knows ``data``: it opens the manifest. The rest takes arrays."""


def unit(path: Path) -> str:
    """The top-level module or package a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a file: all rules below read it once."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules a file imports anywhere; those for type checkers only are left out."""
    skipped = {
        id(node)
        for block in nodes(path)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in nodes(path):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_ours = node.module == "anymc3d"
            found |= {f"anymc3d.{alias.name}" for alias in node.names} if is_ours else {node.module}
    return frozenset(found)


def layer_of(name: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


def test_every_module_has_a_layer():
    known = set().union(*LAYERS) | {"__init__"}
    assert {unit(path) for path in FILES} <= known


def test_imports_go_down():
    uphill, not_apart = [], []
    for path in FILES:
        own = unit(path)
        if own == "__init__":
            continue
        apart = set() if name_of(path) == READS_TABLES else APART.get(own, set())
        for module in imports(path):
            if module.startswith("anymc3d."):
                other = module.split(".")[1]
                uphill += [f"{name_of(path)} imports {module}"] if layer_of(other) > layer_of(own) else []
                not_apart += [f"{name_of(path)} imports {module}"] if other in apart else []
    assert uphill == [], "what is above a module is none of its business"
    assert not_apart == [], "these packages must not know each other"


@pytest.mark.parametrize("name", sorted(NO_TORCH))
def test_settings_and_tables_know_no_torch(name):
    whole = SOURCE / name
    files = sorted(whole.rglob("*.py")) if whole.is_dir() else [SOURCE / f"{name}.py"]
    found = {module.split(".")[0] for path in files for module in imports(path)}
    assert not found & {"torch", "safetensors"}


def test_no_two_modules_of_the_tests_share_a_name():
    """All folders of the tests are on one path: of two modules with one name, only the first is ever imported."""
    places: dict[str, list[str]] = {}
    for path in Path(__file__).parent.rglob("*.py"):
        if path.name not in ("conftest.py", "__init__.py"):
            places.setdefault(path.name, []).append(str(path.parent))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_what_help_needs_imports_no_torch():
    modules = "anymc3d.cli.main, anymc3d.settings.task_file, anymc3d.settings.config"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


FORBIDDEN = {"eval", "exec", "yaml.load", "torch.load", "os.system", "extractall"}
ALLOWED = {"pth.py": {"torch.load"}, "strict_yaml.py": {"yaml.load"}}


def dangerous(path: Path) -> set[str]:
    """What a file calls of the forbidden, as it is written there (``model.eval()`` is not ``eval()``)."""
    last = {name.rpartition(".")[2] for name in FORBIDDEN}
    called = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    named = [one for one in called if getattr(one, "attr", getattr(one, "id", "")) in last]
    written = {ast.unparse(one) for one in named}
    return (written | {one.rpartition(".")[2] for one in written if one.endswith("extractall")}) & FORBIDDEN


def test_F1_nothing_can_run_code_from_data():
    for path in FILES:
        modules = {module.split(".")[0] for module in imports(path)}
        assert not modules & {"pickle", "dill", "joblib", "shelve", "marshal"}, name_of(path)
        assert dangerous(path) <= ALLOWED.get(path.name, set()), name_of(path)
        assert "allow_pickle=True" not in path.read_text(), name_of(path)


def test_files_stay_readable():
    for path in FILES:
        assert path.read_text().count("\n") < 600, f"{name_of(path)} is more than one idea: give each its module"
        assert path.stem not in ("utils", "utilities", "helpers", "common", "misc"), name_of(path)
        is_bare = [isinstance(node, ast.ExceptHandler) and node.type is None for node in nodes(path)]
        assert not any(is_bare), f"{name_of(path)}: a bare except hides faults"
        stars = [
            isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names) for node in nodes(path)
        ]
        assert not any(stars), name_of(path)


LONGEST_FUNCTION = 60
"""Lines, documentation and arguments included; under 40 is the habit."""


def test_functions_stay_readable():
    too_long = [
        f"{name_of(path)}: {node.name}"
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert too_long == [], f"more than {LONGEST_FUNCTION} lines: give a part that is an idea a name of its own"


def test_torchvision_is_absent_and_never_imported():
    """A torchvision that does not match torch breaks the imports of other packages."""
    assert importlib.util.find_spec("torchvision") is None
    assert not [path for path in FILES if any(one.split(".")[0] == "torchvision" for one in imports(path))]


def test_who_asks_for_requests_gets_it():
    code = "import anymc3d, pydicom, requests; requests.Session()"
    subprocess.run([sys.executable, "-B", "-c", code], check=True)


def test_F9_importing_opens_no_socket_starts_no_process_and_writes_no_file():
    code = """
import sys
def watch(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system"):
        raise RuntimeError(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise RuntimeError(f"writes {arguments[0]}")
sys.addaudithook(watch)
import anymc3d
anymc3d.load, anymc3d.fit
import anymc3d.data.readers, anymc3d.explain.folder, anymc3d.predict.cohort, anymc3d.report.study
import pydicom.data.download
assert "urllib3" not in sys.modules
"""
    subprocess.run([sys.executable, "-B", "-c", code], check=True)

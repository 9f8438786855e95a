"""The library keeps its layers, its dependency lists agree, and nothing unsafe is in it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys_lib.workbook.files import project_folder

PROJECT = project_folder()
LIBRARY = PROJECT / "recsys_lib"
FILES = sorted(LIBRARY.rglob("*.py"))

# Which way imports may point: only to a lower layer. What is not named here is a topic, which
# imports any layer but no other topic.
LAYERS = {
    "workbook": 0,
    "datasets": 1,
    "text": 2,
    "models": 3,
    "losses": 3,
    "checkpoints": 3,
    "freezing": 4,
    "training_loop": 4,
    "gradient_cache": 5,
    "training": 5,
    "negatives": 5,
    "biencoder": 6,
    "crossencoder": 6,
}
ALONE = {"metrics", "plots"}  # import nothing of ours; metrics may be imported by any layer
TOPIC = 7
EXERCISES = 8
COMMANDS = 9  # import any module; only __main__ imports them


def module_name(path: Path) -> str:
    """`datasets` for recsys_lib/datasets/market.py, `text` for recsys_lib/text.py."""
    part = path.relative_to(LIBRARY).parts[0]
    return part.removesuffix(".py")


def our_imports(source: str) -> set[str]:
    """The modules of ours that a source imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError("imports within the library are absolute")
        found |= {name.split(".")[1] for name in names if name.startswith("recsys_lib.")}
    return found


def may_import(module: str, other: str) -> bool:
    """Whether `module` may import `other`."""
    if module == other:
        return True
    if module in ALONE or other == "plots" or other == "exercises":
        return False
    if other == "metrics":
        return module != "workbook"
    above = {"exercises": EXERCISES, "commands": COMMANDS, "__main__": COMMANDS + 1}
    rank = above.get(module, LAYERS.get(module, TOPIC))
    return above.get(other, LAYERS.get(other, TOPIC)) < rank


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_point_downwards(path):
    module = module_name(path)
    wrong = [
        other
        for other in our_imports(path.read_text(encoding="utf-8"))
        if not may_import(module, other)
    ]
    assert not wrong, f"{path.relative_to(PROJECT)} must not import {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("module", "source", "right"),
    [
        ("datasets", "from recsys_lib.workbook import InputError", True),
        ("datasets", "def f():\n    from recsys_lib.text import encode", False),
        ("workbook", "import recsys_lib.datasets.registry", False),
        ("models", "from recsys_lib import losses", False),
        ("search", "from recsys_lib.training import fit", True),
        ("search", "from recsys_lib import fairness", False),
        ("metrics", "from recsys_lib.workbook import InputError", False),
        ("training", "from recsys_lib.metrics import auc", True),
        ("plots", "from recsys_lib.metrics import auc", False),
        ("classification", "from recsys_lib import plots", False),
        ("exercises", "from recsys_lib import classification", True),
        ("commands", "from recsys_lib.datasets import datasets", True),
        ("workbook", "from recsys_lib.commands import run", False),
        ("__main__", "from recsys_lib.commands.main import main", True),
    ],
)
def test_the_rule_of_imports_tells_right_from_wrong(module, source, right):
    (other,) = our_imports(source)
    assert may_import(module, other) is right


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_nothing_unsafe_and_nothing_of_one_machine(path):
    faults = unsafe(path.read_text(encoding="utf-8"), may_print=may_print(path))
    assert not faults, f"{path.relative_to(PROJECT)}: {', '.join(faults)}"


def may_print(path: Path) -> bool:
    """Only what talks to a person prints: the workbook, the exercises' checks, command lines."""
    return module_name(path) in {"workbook", "exercises", "commands"} or path.name == "__main__.py"


def unsafe(source: str, *, may_print: bool) -> list[str]:
    """Unpickling, shells, prints and paths of one machine."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
            faults += [f"imports {name}" for name in names if name.split(".")[0] in banned]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in {"torch.load", "torch.save", "eval", "exec", "os.system"}:
                faults.append(f"calls {name}")
            if name.endswith(("read_pickle", "to_pickle")):
                faults.append(f"calls {name}")
            if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
                faults.append(f"calls {name} unsafely")
            if name == "print" and not may_print:
                faults.append(f"prints in line {node.lineno}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            pattern = r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\"
            if found := re.search(pattern, node.value):
                faults.append(f"has the path {found[0]} in line {node.lineno}")
    return faults


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import dump",
        "torch.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "frame.to_pickle(path)",
        "subprocess.run(line, shell=True)",
        "print(1)",
        "DATA = '/home/ada/data'",
    ],
)
def test_the_rule_of_safety_notices(source):
    assert unsafe(source, may_print=False)


def declared(extra: str = "test") -> tuple[dict[str, Requirement], dict[str, Requirement]]:
    """The dependencies of pyproject.toml and those of an extra, by name."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    lists = project["dependencies"], project["optional-dependencies"][extra]
    return tuple(
        {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
        for lines in lists
    )


def pins() -> dict[str, str]:
    """The versions of constraints.txt by name."""
    found = {}
    for line in (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, sign, number = line.partition("==")
            assert sign and number, f"constraints.txt: {line} is not a pin"
            assert canonicalize_name(name) not in found, f"constraints.txt names {name} twice"
            found[canonicalize_name(name)] = number
    return found


def test_environment_yml_names_no_dependency_of_its_own():
    content = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
    *conda, last = content["dependencies"]
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert content["name"] == project["name"]
    assert conda == [f"python{project['requires-python']}", "pip"]
    assert last == {"pip": ["-c constraints.txt", "-e .[test]"]}


def test_every_dependency_is_pinned_within_its_bounds():
    run, test = declared()
    bench = declared("bench")[1]
    known = pins()
    for name, requirement in (run | test | bench).items():
        assert name in known, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(known[name]), f"{name}=={known[name]}"


def test_what_is_installed_is_what_is_pinned():
    wrong = []
    for name, pinned in pins().items():
        try:
            installed = version(name).partition("+")[0]  # "2.13.0+cpu" is torch 2.13.0
        except PackageNotFoundError:
            continue  # another system, such as Windows, does without
        if installed != pinned:
            wrong.append(f"{name} {installed} is installed, {pinned} is pinned")
    assert not wrong, "\n".join(wrong)
    missing = [name for name in set().union(*declared()) if not _installed(name)]
    assert not missing


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


# What a declared dependency brings along, imported where it does.
BROUGHT_ALONG = {
    "huggingface_hub": "transformers",
    "jupyter_client": "jupyterlab",
    "nbclient": "papermill",
    "tokenizers": "transformers",
    "traitlets": "jupyterlab",
    "zmq": "jupyterlab",
}
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "IPython": "ipython",
    "faiss": "faiss-cpu",
    "markdown_it": "markdown-it-py",
    "yaml": "pyyaml",
}


def test_every_import_is_declared():
    run, _ = declared()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module.split(".")[0]}
            else:
                continue
            for name in names - set(sys.stdlib_module_names) - {"recsys_lib"}:
                distribution = BROUGHT_ALONG.get(name, DISTRIBUTIONS.get(name, name))
                where = path.relative_to(PROJECT)
                assert canonicalize_name(distribution) in run, f"{where} imports {name}"


TOP = {
    *("README.md", "LICENSE", "Makefile", "pyproject.toml", "environment.yml", "constraints.txt"),
    *(".gitignore", ".ci", "notebooks", "recsys_lib", "data", "tests"),
}


def test_the_top_level_holds_what_the_design_lists():
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    files = done.stdout.splitlines()
    assert {file.split("/")[0] for file in files} <= TOP
    assert not [file for file in files if file.endswith((".pt", ".bin", ".pkl", ".safetensors"))]


def test_runs_are_ignored_by_git():
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"runs/", ".venv/"} <= set(ignored)


def _make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """As from a shell: the suite itself may run under `make`, whose settings are inherited."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def test_make_help_lists_every_target():
    done = _make("help", cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert listed == {"help", "run", "test", "lab", "data", "bench", "lint", "clean"}


def test_make_refuses_an_old_or_missing_python_in_one_line(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # as 3.10 answers the question
    old.chmod(0o755)
    for python in (str(old), "no-such-python"):
        done = _make("-s", "run", f"PYTHON={python}", cwd=tmp_path)
        assert done.returncode != 0
        line, *rest = done.stderr.splitlines()
        assert line == (
            f"{python} is not Python 3.11 or newer; name one that is: make PYTHON=python3.12"
        )
        assert all(text.startswith("make:") for text in rest)
        assert not (tmp_path / ".venv").exists()

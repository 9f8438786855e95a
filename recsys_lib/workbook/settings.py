"""What a run is made with: the checked parameters and what this machine can do.

torch takes seconds to import and is imported where it is used: the command line checks parameters
without it.
"""

import os
import random
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil

from recsys_lib.workbook.errors import InputError, nearest
from recsys_lib.workbook.files import (
    MAIN_FILES,
    data_folders,
    find_data,
    project_folder,
    runs_folder,
)

PROFILES = ("quick", "full")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Hardware:
    """What this machine can do. `precision` is what it computes fastest in without a loss."""

    device: str  # "cpu" | "cuda" | "mps"
    name: str  # the card's name, or the processor's architecture
    precision: str  # "bf16" | "fp32"
    threads: int  # that torch uses
    memory_gb: float  # main memory that this process may use
    device_memory_gb: float | None  # of the card, where there is one


@dataclass(frozen=True)
class Settings:
    """The checked parameters of one run of a notebook, and the hardware that it runs on."""

    notebook: str
    profile: str  # one of PROFILES
    dataset: str  # "market", "clothing", or the path of an own table
    seed: int
    model: str
    device: str  # "cpu" | "cuda" | "mps"
    precision: str  # "bf16" | "fp32"
    runs: Path  # where artifacts, results and executed notebooks go
    data: Path | None  # the folder with real data, where there is one

    @property
    def own_table(self) -> bool:
        """Whether `dataset` is the path of the user's own table."""
        return is_table_path(self.dataset)

    @property
    def dataset_label(self) -> str:
        """The data set's name for tables and titles: of an own table the file's name only."""
        return Path(self.dataset).name if self.own_table else self.dataset


def is_table_path(dataset: str) -> bool:
    """Whether `dataset` is written like a path of a table and not like a data set's name."""
    return Path(dataset).suffix.lower() in TABLE_SUFFIXES or "/" in dataset or os.sep in dataset


def _cpu_computes_bf16() -> bool:
    """AVX-512 BF16 or AMX: processors without them only emulate bf16, slower than fp32."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        can = ask()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _usable_cores() -> int:
    """Cores that this process may use: a container or `taskset` may allow fewer than exist."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = _read_words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, round(int(quota[0]) / int(quota[1]))))
    return cores


def usable_memory() -> int:
    """Bytes of main memory that this process may use."""
    total = psutil.virtual_memory().total
    limit = _read_words("/sys/fs/cgroup/memory.max")
    return min(total, int(limit[0])) if limit and limit[0].isdigit() else total


def _read_words(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").split()
    except OSError:
        return []


@lru_cache(maxsize=1)
def detect_hardware() -> Hardware:
    """What this machine can do; looked up once per process."""
    import torch

    threads = min(torch.get_num_threads(), _usable_cores())
    memory = usable_memory() / 2**30
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        precision = "bf16" if card.major >= 8 else "fp32"
        size = card.total_memory / 2**30
        return Hardware("cuda", card.name, precision, threads, memory, size)
    if torch.backends.mps.is_available():
        return Hardware("mps", "Apple GPU", "fp32", threads, memory, None)
    precision = "bf16" if _cpu_computes_bf16() else "fp32"
    machine = os.uname().machine if hasattr(os, "uname") else "CPU"
    return Hardware("cpu", machine, precision, threads, memory, None)


def quiet_libraries() -> None:
    """Set the libraries' own switches so that no bar or advice lands in a notebook's outputs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said aloud, so it need not warn
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # The variables above act when a library is imported; one imported before is told directly.
    if "huggingface_hub" in sys.modules:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, and make torch deterministic.

    The library draws from generators of its own; this covers what a reader writes in a cell.
    """
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a reader's cell may use the global generator
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS refuses, below
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it only costs time here


def check_settings(
    notebook: str,
    *,
    profile: str,
    dataset: str,
    seed: int,
    model: str,
    datasets: tuple[str, ...],
    own_table: bool,
) -> Settings:
    """Check every parameter of a notebook and resolve ``dataset="auto"``.

    Raises:
        InputError: names the parameter, its value, what is allowed and the nearest known value.
    """
    check_profile(profile)
    check_seed(seed)
    check_model(model)
    dataset = resolve_dataset(dataset, datasets, own_table)
    hardware = detect_hardware()
    return Settings(
        notebook=notebook,
        profile=profile,
        dataset=dataset,
        seed=seed,
        model=model,
        device=hardware.device,
        precision=hardware.precision,
        runs=runs_folder(),
        data=next((folder for folder in data_folders() if folder.is_dir()), None),
    )


def check_profile(profile: object) -> None:
    """Refuse what is not one of `PROFILES`."""
    if profile not in PROFILES:
        allowed = " or ".join(f'"{name}"' for name in PROFILES)
        raise InputError(f'profile = "{profile}" must be {allowed}.{nearest(profile, PROFILES)}')


def check_seed(seed: object) -> None:
    """Refuse what is not a whole number that every generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed = {seed!r} must be a whole number from 0 to {2**32 - 1}.")


def check_model(model: object) -> None:
    """Refuse what cannot be a model's name, and the path of a folder that is not there."""
    if not isinstance(model, str) or not model.strip():
        raise InputError(
            f'model = {model!r} must be a name such as "all-MiniLM-L6-v2" or a local folder.'
        )
    if model.startswith(("/", "./", "../", "~")) and not Path(model).expanduser().is_dir():
        raise InputError(
            f'model = "{model}" is not a folder: give one that holds a checkpoint, or the name of '
            "a model."
        )


def resolve_dataset(dataset: str, datasets: tuple[str, ...], own_table: bool) -> str:
    """The name or the absolute path that `dataset` stands for; see `starting.start`.

    Raises:
        InputError: an unknown name, a set that is not on this machine, a path that is no table.
    """
    names = ("auto", *datasets)
    if dataset == "auto":
        return next((name for name in datasets if find_data(name)), datasets[0])
    if dataset in datasets and dataset in MAIN_FILES and find_data(dataset) is None:
        raise InputError(
            f'dataset = "{dataset}" is not on this machine: run `make data`, or set RECSYS_DATA to '
            f'the folder that holds {dataset}/, or use dataset = "market".'
        )
    if dataset in datasets:
        return dataset
    allowed = ", ".join(f'"{name}"' for name in names)
    if own_table:
        allowed += ", or the path of a .csv, .tsv or .parquet file"
    if not isinstance(dataset, str) or not own_table or not is_table_path(dataset):
        hint = nearest(dataset, names)
        raise InputError(f"dataset = {_quoted(dataset)} must be one of {allowed}.{hint}")
    if Path(dataset).suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"dataset = {_quoted(dataset)} must end in .csv, .tsv or .parquet.")
    given = Path(dataset).expanduser()
    for path in (given, project_folder() / given):
        if path.is_file():
            return str(path.resolve())
    raise InputError(
        f"dataset = {_quoted(dataset)} is not a file; give a path that is absolute, or relative to "
        "the notebook's folder or the project's."
    )


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)

"""The first call of every notebook."""

import re

from recsys_lib.workbook.files import MAIN_FILES
from recsys_lib.workbook.results import Book
from recsys_lib.workbook.settings import (
    Settings,
    check_settings,
    detect_hardware,
    quiet_libraries,
    seed_everything,
)

BUILT_IN_MODEL = "all-MiniLM-L6-v2"


def start(
    notebook: str,
    *,
    profile: str,
    dataset: str,
    seed: int,
    model: str = BUILT_IN_MODEL,
    quiet: bool = False,
    datasets: tuple[str, ...] = ("market", "clothing"),
    own_table: bool = True,
) -> Book:
    """Check a notebook's parameters, seed everything, and print what the run is made with.

    Args:
        notebook: its file's name without the ending, such as "03_fine_tuning".
        profile: "quick" or "full".
        dataset: "auto", one of `datasets`, or the path of a .csv, .tsv or .parquet file. "auto" is
            the first real set of `datasets` that is found under ``RECSYS_DATA`` or ``runs/data``,
            otherwise the first of `datasets`.
        seed: a whole number; every random choice follows from it.
        model: name or folder of the encoder.
        quiet: print nothing.
        datasets: the data sets that this notebook knows.
        own_table: whether this notebook accepts the path of a table.

    Raises:
        InputError: a wrong value, in one line that names the parameter, the value, what is
            allowed and the nearest known value.
    """
    if not re.fullmatch(r"[0-9]{2}_[a-z0-9_]+", notebook):
        raise ValueError(f'notebook = "{notebook}" must be like "03_fine_tuning"')
    import torch

    quiet_libraries()
    settings = check_settings(
        notebook,
        profile=profile,
        dataset=dataset,
        seed=seed,
        model=model,
        datasets=datasets,
        own_table=own_table,
    )
    seed_everything(seed)
    torch.set_num_threads(detect_hardware().threads)
    if not quiet:
        print(_describe(settings, automatic=dataset == "auto", datasets=datasets))
    return Book(settings)


def _describe(settings: Settings, *, automatic: bool, datasets: tuple[str, ...]) -> str:
    hardware = detect_hardware()
    card = ""
    if hardware.device != "cpu":
        card = f" ({hardware.name}"
        if hardware.device_memory_gb:
            card += f", {hardware.device_memory_gb:.0f} GB"
        card += ")"
    why = ""
    real = [name for name in datasets if name in MAIN_FILES]
    if automatic and settings.dataset in real:
        why = " (found on this machine)"
    elif automatic and "clothing" in real:
        why = " (simulated; the real reviews are not on this machine: `make data` fetches them)"
    elif automatic and real:
        why = f" (simulated; {real[0]} is not on this machine: `make data` says how to get it)"
    return "\n".join(
        (
            f"notebook   {settings.notebook}",
            f"dataset    {settings.dataset_label}{why}",
            f"profile    {settings.profile}",
            f"seed       {settings.seed}",
            f"model      {settings.model}",
            f"device     {hardware.device}{card}, {hardware.precision}, "
            f"{hardware.threads} threads, {hardware.memory_gb:.0f} GB of memory",
        )
    )

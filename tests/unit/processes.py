"""Start a Python program in one process or in two that train together, on the CPU."""

import os
import signal
import subprocess
import sys

from recsys_lib.workbook.files import project_folder

# `--cpu --num_processes 2` starts one process alone, so the launcher of several GPUs it is; they
# talk over gloo since ACCELERATE_USE_CPU is set. Port 0 is a free one.
_TWO = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
_TWO += ["--num_machines", "1", "--main_process_port", "0", "--dynamo_backend", "no"]
_SECONDS = 180  # it takes about 10; what hangs in a collective would wait half an hour


def start(*arguments: str, two: bool = False, mixed_precision: str = "no") -> None:
    """Run `python <arguments>`, or two of it under `accelerate launch`; it must end well.

    mixed_precision: what the launcher is told, as by somebody's `accelerate config`.
    """
    launcher = [*_TWO, "--mixed_precision", mixed_precision] if two else []
    process = subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        cwd=project_folder(),
        env=os.environ
        | {
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(project_folder()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    finally:
        if process.poll() is None:  # the launcher and what it started
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, said[-3000:]

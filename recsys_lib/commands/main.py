"""The commands of ``python -m recsys_lib``, and how they end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from recsys_lib.commands.data import data
from recsys_lib.commands.doctor import doctor
from recsys_lib.commands.params import params
from recsys_lib.commands.report import report
from recsys_lib.commands.run import run
from recsys_lib.commands.student import student
from recsys_lib.commands.sweep import sweep
from recsys_lib.workbook.errors import InputError

PROGRAM = "python -m recsys_lib"


@click.group()
def program() -> None:
    """Rerun the workbook with your own parameters and data.

    \b
    What can be set:       python -m recsys_lib params 04
    Run one notebook:      python -m recsys_lib run 04 -p profile full
    Run what takes it:     python -m recsys_lib run -p dataset my_reviews.csv
    Several at a time:     python -m recsys_lib sweep 04 --seeds 5
    Read what came out:    python -m recsys_lib report
    Something is wrong:    python -m recsys_lib doctor
    """


for command in (run, sweep, report, params, data, doctor, student):
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; one line for a wrong argument or an interrupt.

    Returns:
        The exit code: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of kernels, as in the Makefile
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with _ended_as_interrupted():
            program.main(given, prog_name=PROGRAM, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a place that cannot be read or written
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}: name another place.", file=sys.stderr)
        return 2
    except click.ClickException as error:  # wrong usage, told in click's own words
        error.show()
        return error.exit_code
    except click.Abort as end:  # an interrupt
        print("; ".join(["interrupted", *map(str, end.args)]), file=sys.stderr)
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which a scheduler or CI sends, end a command as an interrupt does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

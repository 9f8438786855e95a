"""The commands of ``python -m recsys_lib``, and how they end."""

import os
import sys
from collections.abc import Sequence

import click

from recsys_lib.commands.data import data
from recsys_lib.commands.display import short
from recsys_lib.commands.doctor import doctor
from recsys_lib.commands.params import params
from recsys_lib.commands.report import report
from recsys_lib.commands.run import run
from recsys_lib.commands.student import student
from recsys_lib.commands.sweep import sweep
from recsys_lib.workbook.errors import InputError
from recsys_lib.workbook.files import runs_folder

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
        program.main(given, prog_name=PROGRAM, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except click.ClickException as error:  # wrong usage, told in click's own words
        error.show()
        return error.exit_code
    except click.Abort:  # an interrupt; click has ended the line
        print(f"interrupted; what ran so far is kept in {short(runs_folder())}", file=sys.stderr)
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0

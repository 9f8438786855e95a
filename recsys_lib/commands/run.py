"""``run``: notebooks in their order, with parameters, going on where an earlier run stopped."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import yaml

from recsys_lib.commands.display import Display, kept_when_interrupted, short
from recsys_lib.workbook.errors import InputError, nearest
from recsys_lib.workbook.files import project_folder
from recsys_lib.workbook.parameters import check, declared, from_text
from recsys_lib.workbook.running import (
    Outcome,
    check_free,
    executed_folder,
    is_done,
    notebook_files,
    one_command_at_a_time,
    run_notebook,
    why_skipped,
)
from recsys_lib.workbook.settings import is_table_path, resolve_dataset


@click.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK]...")
@click.option(
    "-p",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="A parameter, such as: -p profile full. See the command params.",
)
@click.option(
    "--params",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A YAML file of parameters, a line each; -p goes before it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where executed notebooks go (default: runs/executed/DATASET-PROFILE-seedSEED, with a key "
    "of other parameters).",
)
@click.option(
    "--again",
    is_flag=True,
    help="Run also what has run with the same parameters; replace what ran with others.",
)
def run(
    names: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    out: Path | None,
    again: bool,
) -> None:
    """Run notebooks in order; executed copies are kept.

    NOTEBOOK is a name such as "03" or "fine_tuning"; without one all run. Each gets those of the
    parameters that it has. A notebook that fails is saved with its error, and the others still run;
    the exit code is 1 then. The same command again goes on with what is missing.
    """
    files = notebook_files(names)
    given = {**_from_file(file), **dict(pairs)}
    sys.exit(run_all(files, given, out=out, again=again))


def run_all(
    files: Sequence[Path],
    given: Mapping[str, object],
    *,
    out: Path | None = None,
    again: bool = False,
) -> int:
    """Run these notebooks, a line each; go on after a failure.

    Args:
        files: notebooks, in order.
        given: parameters by name; texts are read as the notebooks' own types.
        out: folder for executed notebooks; by default see `executed_folder`.
        again: run also what has run before with the same parameters, and replace what ran with
            others.

    Returns:
        The exit code: 0 if all ran to their end, else 1.

    Raises:
        InputError: no notebook, or none that the data set is for; a parameter or value that none
            takes; a folder in use, with files of somebody else or with runs of other parameters.
            Nothing has run then.
    """
    if not files:
        raise InputError(f"there are no notebooks in {project_folder().name}/notebooks/.")
    plans = {path: parameters_of(path, given) for path in files}
    known = dict.fromkeys(name for path in files for name in declared(path))
    for name in given:
        if name not in known:
            raise InputError(
                f'none of these notebooks has a parameter "{name}"; there are: '
                f"{', '.join(known)}.{nearest(name, known)}"
            )
    dataset = given.get("dataset")
    if isinstance(dataset, str) and is_table_path(dataset):
        resolve_dataset(dataset, (), own_table=True)  # a table that is not there is told first
    skipped = {path: why_skipped(path, {**given, **plans[path]}) for path in files}
    asked = {name: value for plan in plans.values() for name, value in plan.items()}
    targets = {}
    for path in files:
        if not skipped[path]:
            check(path, plans[path])
            targets[path] = (out or executed_folder(path, asked)) / path.name
            check_free(targets[path], None if again else plans[path])
    outcomes = []
    folders = sorted({target.parent for target in targets.values()})
    with (
        kept_when_interrupted(folders),
        ExitStack() as locks,
        Display([path.stem for path in files]) as display,
    ):
        for folder in folders:
            locks.enter_context(one_command_at_a_time(folder))
        for path in files:
            if skipped[path]:
                display.line(path.stem, f"skipped: {skipped[path]}")
            elif not again and is_done(path, plans[path], targets[path]):
                display.line(path.stem, "there already: --again runs it once more")
            else:
                with display.notebook(path.stem, targets[path]) as on_cell:
                    outcome = run_notebook(
                        path, parameters=plans[path], out=targets[path], on_cell=on_cell
                    )
                outcomes.append(outcome)
                display.outcome(outcome)
    if all(skipped.values()):
        raise InputError(f'no notebook could use dataset = "{dataset}"; the lines above say why.')
    return _summary(outcomes, targets, {path.stem: plans[path] for path in files})


def parameters_of(path: Path, given: Mapping[str, object]) -> dict[str, object]:
    """Those of the parameters that a notebook has, texts read as its own types."""
    return {
        name: from_text(parameter, given[name]) if isinstance(given[name], str) else given[name]
        for name, parameter in declared(path).items()
        if name in given
    }


def _summary(
    outcomes: Sequence[Outcome], targets: Mapping[Path, Path], plans: Mapping[str, dict]
) -> int:
    failed = [outcome for outcome in outcomes if not outcome.ok]
    total = sum(outcome.seconds for outcome in outcomes)
    if outcomes:
        print(f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks ran in {total:.0f} s")
    for folder in sorted({target.parent for target in targets.values()}):
        print(f"executed copies: {short(folder)}")
    if failed:
        print(f"failed: {', '.join(outcome.notebook for outcome in failed)}")
    for outcome in failed:
        print(f"\n{outcome.notebook}: {outcome.error}")
        if outcome.executed not in targets.values():  # a copy that ran to its end is there
            print(f"  saved as {short(outcome.executed)}, beside the run before it")
        for line in outcome.source.strip().splitlines():
            print(f"    {line}")
        values = [f"{name} = {value!r}" for name, value in plans[outcome.notebook].items()]
        print(f"  parameters: {', '.join(values) or 'as the notebook has them'}")
    return 1 if failed else 0


def _from_file(file: Path | None) -> dict[str, object]:
    """The parameters of a YAML file; none without a file."""
    if file is None:
        return {}
    content = read_yaml(file)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        what = "a name that is no text" if isinstance(content, dict) else type(content).__name__
        raise InputError(f'{file} must hold lines like "profile: full"; it holds: {what}.')
    return content


class _EachNameOnce(yaml.SafeLoader):
    """YAML in which a name that stands twice is an error, as the standard has it."""

    def construct_mapping(self, node, deep=False):
        content = super().construct_mapping(node, deep=deep)
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                what = f'"{key.value}" stands twice'
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
        return content


def read_yaml(file: Path) -> object:
    """What a YAML file holds; None where it is empty.

    Raises:
        InputError: it cannot be read, is no text, or is not YAML; the line where that is known.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_EachNameOnce)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{file} is not a text file: it must be YAML, a parameter a line."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it cannot be read"
        raise InputError(f"{file}{where} is not YAML: {what}.") from None
    except ValueError as error:  # of a value, such as a date that no calendar has
        raise InputError(f"{file} holds a value that cannot be read: {error}.") from None

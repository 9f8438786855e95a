"""``params``: what the notebooks can be run with."""

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from recsys_lib.workbook.parameters import declared
from recsys_lib.workbook.running import notebook_files


@click.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK]...")
def params(names: tuple[str, ...]) -> None:
    """What notebooks can be run with: name, type, default, allowed values, meaning.

    NOTEBOOK is a name such as "03" or "fine_tuning"; without one all are listed.
    """
    console = Console(highlight=False)
    for path in notebook_files(names):
        console.print(Text(path.stem, style="bold"))
        for parameter in declared(path).values():
            default = f'"{parameter.default}"' if parameter.kind == "str" else parameter.default
            head = Text(f"  {parameter.name}", style="cyan")
            head.append(f": {parameter.kind} = {default}", style="default")
            console.print(head)
            for line in (parameter.meaning, f"allowed: {parameter.allowed}"):
                console.print(Padding(Text(line), (0, 0, 0, 6), expand=False))
        console.print()

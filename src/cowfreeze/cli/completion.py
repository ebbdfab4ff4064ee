"""`cowfreeze completion SHELL`: a completion script, made by shtab from the parser itself.

The script holds all words and asks nobody while somebody types: a Python that starts at each press of
the tab key would be felt. It is made from the same parser that reads the command line, so an option
cannot be missing; after an update it is made again.
"""

from __future__ import annotations

import argparse

from cowfreeze.cli.command import Command, CommandError

SHELLS = ("bash", "zsh", "fish")
FILES = {"FILE", "A.json", "B.json"}  # metavars that name a file
_PREAMBLE = {"bash": '_cowfreeze_program() { compgen -c -- "$1"; }'}
_PROGRAM = {"bash": "_cowfreeze_program", "zsh": "_normal", "fish": "(__fish_complete_command)"}  # of `cowfreeze run`


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What SHELL is to read. PARSER is used up: shtab takes its hints from the parser's actions.

    Raises:
        CommandError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise CommandError("completion needs shtab, which is not installed: pip install 'cowfreeze[completion]'") from None
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for shown in verbs._choices_actions:
        verb = verbs.choices[shown.dest]
        verb.description = shown.help  # else the first line of the long text is shown beside it
        for action in verb._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE
            elif action.nargs == argparse.REMAINDER:
                action.complete = _PROGRAM
    return str(shtab.complete(parser, shell, preamble=_PREAMBLE.get(shell, "")))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def _run(arguments: argparse.Namespace) -> int:
    print(script(arguments.parser, arguments.shell))
    return 0


COMMAND = Command(
    name="completion",
    summary="print a completion script for bash, zsh or fish",
    description=(
        "Prints a script that completes commands, options and their values. Make it again after an update.\n"
        "It needs shtab: pip install 'cowfreeze[completion]'"
    ),
    epilog=(
        "example:\n"
        "  source <(cowfreeze completion bash)                         # in ~/.bashrc, or try it first\n"
        '  cowfreeze completion zsh > "${fpath[1]}/_cowfreeze"         # then start a new zsh\n'
        "  cowfreeze completion fish > ~/.config/fish/completions/cowfreeze.fish\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

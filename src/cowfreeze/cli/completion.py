"""`cowfreeze completion SHELL`: a completion script, made from the parser itself.

The script holds all words and asks nobody while somebody types: a Python that starts at each press of
the tab key would be felt. It is made from the same parser that reads the command line, so an option
cannot be missing; after an update it is made again.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cowfreeze.cli.command import Command

FILES = {"FILE", "A.json", "B.json"}  # metavars that name a file


class Option(NamedTuple):
    """One option, or one argument without a name (`names` is empty then)."""

    names: tuple[str, ...]
    help: str
    choices: tuple[str, ...]
    takes_value: bool
    takes_file: bool


class Verb(NamedTuple):
    """One command and what may follow it."""

    name: str
    summary: str
    options: tuple[Option, ...]


def verbs() -> tuple[Verb, ...]:
    """All commands, from the parser."""
    from cowfreeze.cli import COMMANDS, build_parser

    parser = build_parser()
    choices = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    return tuple(
        Verb(command.name, command.summary, tuple(_options(choices[command.name]))) for command in COMMANDS
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        help_text = " ".join((action.help or "").replace("%%", "%").split())
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        choices = tuple(str(choice) for choice in action.choices or ())
        takes_value = action.nargs != 0
        names = tuple(action.option_strings)
        yield Option(names, help_text, choices, takes_value, takes_value and metavar in FILES)


def bash(known: tuple[Verb, ...]) -> str:
    """For bash 4 and later; needs nothing of the package bash-completion."""
    cases = []
    for verb in known:
        values = [
            f"      {'|'.join(option.names)}) {_bash_value(option)}; return ;;"
            for option in verb.options
            if option.names and option.takes_value
        ]
        words = " ".join(name for option in verb.options for name in option.names)
        plain = [option for option in verb.options if not option.names]
        rest = 'COMPREPLY=($(compgen -W "$words" -- "$cur"))'
        if any(option.choices for option in plain):
            rest = f'COMPREPLY=($(compgen -W "$words {" ".join(c for o in plain for c in o.choices)}" -- "$cur"))'
        elif any(option.takes_file for option in plain):
            rest = '[[ $cur == -* ]] && COMPREPLY=($(compgen -W "$words" -- "$cur")) || COMPREPLY=($(compgen -f -- "$cur"))'
        elif verb.name == "run":
            rest = '[[ $cur == -* ]] && COMPREPLY=($(compgen -W "$words" -- "$cur")) || COMPREPLY=($(compgen -c -- "$cur"))'
        cases.append("\n".join([
            f"    {verb.name})",
            f"      words={shlex.quote(words)}",
            '      case "$prev" in',
            *values,
            "      esac",
            f"      {rest}",
            "      ;;",
        ]))  # fmt: skip
    first = " ".join(verb.name for verb in known)
    return "\n".join([
        "# bash completion of cowfreeze:  source <(cowfreeze completion bash)",
        "_cowfreeze() {",
        '  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words',
        "  COMPREPLY=()",
        "  if ((COMP_CWORD == 1)); then",
        f'    COMPREPLY=($(compgen -W "{first} --help --version" -- "$cur"))',
        "    return",
        "  fi",
        '  case "${COMP_WORDS[1]}" in',
        *cases,
        "  esac",
        "}",
        "complete -F _cowfreeze cowfreeze",
    ])  # fmt: skip


def _bash_value(option: Option) -> str:
    if option.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$cur"))'
    return 'COMPREPLY=($(compgen -f -- "$cur"))' if option.takes_file else "true"


def zsh(known: tuple[Verb, ...]) -> str:
    """For zsh with compinit; as a file `_cowfreeze` in a folder of `fpath`, or sourced."""
    names = [f"    {shlex.quote(f'{verb.name}:{verb.summary}')}" for verb in known]
    cases = []
    for verb in known:
        words = [f"        {shlex.quote(word)}" for option in verb.options for word in _zsh_words(option)]
        if verb.name == "run":
            words.append("        '*::program:_normal'")
        cases.append("\n".join([f"    {verb.name})", "      _arguments \\", " \\\n".join(words), "      ;;"]))
    return "\n".join([
        "#compdef cowfreeze",
        "# zsh completion of cowfreeze:  source <(cowfreeze completion zsh)",
        "_cowfreeze() {",
        "  local -a commands",
        "  commands=(",
        *names,
        "  )",
        "  if (( CURRENT == 2 )); then",
        "    _describe command commands",
        "    return",
        "  fi",
        "  shift words",
        "  (( CURRENT-- ))",
        "  case $words[1] in",
        *cases,
        "  esac",
        "}",
        'if [[ "${funcstack[1]-}" == _cowfreeze ]]; then _cowfreeze "$@"; else compdef _cowfreeze cowfreeze; fi',
    ])  # fmt: skip


def _zsh_words(option: Option) -> Iterator[str]:
    text = option.help.replace("\\", "").replace("[", "(").replace("]", ")").replace(":", " -")
    value = f"({' '.join(option.choices)})" if option.choices else "_files" if option.takes_file else " "
    if not option.names:
        if value != " ":
            yield f"*:{text}:{value}"
        return
    for name in option.names:
        yield f"{name}[{text}]" + (f":value:{value}" if option.takes_value else "")


def fish(known: tuple[Verb, ...]) -> str:
    """For fish 3 and later."""
    lines = ["# fish completion of cowfreeze:  cowfreeze completion fish | source", "complete -c cowfreeze -f"]
    for verb in known:
        lines.append(f"complete -c cowfreeze -n __fish_use_subcommand -a {verb.name} -d {_fish(verb.summary)}")
        seen = f"complete -c cowfreeze -n '__fish_seen_subcommand_from {verb.name}'"
        for option in verb.options:
            words = "".join(
                f" -l {name.removeprefix('--')}" if name.startswith("--") else f" -s {name.removeprefix('-')}"
                for name in option.names
            )
            if option.takes_value and option.names:
                words += " -r"
            if option.choices:
                words += f" -a {_fish(' '.join(option.choices))}"
            if option.takes_file:
                words += " -F"
            if words:
                lines.append(f"{seen}{words} -d {_fish(option.help)}")
    return "\n".join(lines)


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SHELLS: dict[str, Callable[[tuple[Verb, ...]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SHELLS), metavar="SHELL", help="bash, zsh or fish")


def _run(arguments: argparse.Namespace) -> int:
    print(SHELLS[arguments.shell](verbs()))
    return 0


COMMAND = Command(
    name="completion",
    summary="print a completion script for bash, zsh or fish",
    description="Prints a script that completes commands, options and their values. Make it again after an update.",
    epilog=(
        "example:\n"
        "  source <(cowfreeze completion bash)                         # in ~/.bashrc, or try it first\n"
        '  cowfreeze completion zsh > "${fpath[1]}/_cowfreeze"         # then start a new zsh\n'
        "  cowfreeze completion fish > ~/.config/fish/completions/cowfreeze.fish\n"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

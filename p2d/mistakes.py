"""What is wrong with a command line, in one line: an unknown option, a value of another kind, what is missing.

tyro tells such mistakes in boxes of many lines. It offers a hook to tell them otherwise, which is not part of its
public interface yet: without the hook, or for a mistake that is not known here, its box is what the user sees.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

import tyro

from p2d.errors import UserError, nearest

Names = Callable[[], Iterable[str]]


def told_in_one_line(
    program: str, arguments: list[str], known: Names, typed: dict[str, str]
) -> contextlib.AbstractContextManager[None]:
    """While the block parses, every mistake in the arguments is a UserError.

    Args:
        program: the words that the arguments follow, such as 'p2d train-score'.
        arguments: as tyro gets them.
        known: names that could have been meant where one is not known.
        typed: how options are written that the arguments have in another form.
    """

    def tell(event: Any) -> None:
        kind = type(event).__name__
        unknown = {"UnrecognizedArgs": "tokens", "MissingArgs": "unrecognized_tokens"}.get(kind)
        if unknown and getattr(event, unknown):
            raise _unknown(program, getattr(event, unknown), known, typed)
        if kind == "MissingArgs":
            raise _missing(program, [one.arg for one in event.missing_arguments])
        if kind == "MissingSubcommand":
            names = ", ".join(event.subcommand_spec.parser_from_name)
            raise UserError(f"no command of {program} is given; known: {names}")
        if kind == "InvalidChoice":
            choices, name = event.choices, _name(event.argument).replace("-", "_")
            near = nearest(event.value, choices)
            raise UserError(f"unknown {name} {event.value!r}{near}; known: {', '.join(choices)}")
        if kind == "BadValue":
            raise UserError(f"--{_name(event.argument)} of {program} needs {_wanted(event.argument)}")
        if kind == "InstantiationFailure" and event.argument is not None:
            name = _name(event.argument)
            value = " ".join(_values(name, arguments))
            raise UserError(f"{name.replace('-', '_')} = {value} is not possible: it must be {_wanted(event.argument)}")

    hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    return hook(tell) if hook else contextlib.nullcontext()


def options(form: Any) -> list[str]:
    """The options of what tyro fills in, as its help lists them."""
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        tyro.cli(form, args=["--help"])
    return re.findall(r"--[a-z][\w.-]*", page.getvalue())


def _unknown(program: str, tokens: list[str], known: Names, typed: dict[str, str]) -> UserError:
    """An option that there is not, or else a word too many: what follows an unknown option is likely its value."""
    token = next((token for token in tokens if token.startswith("-")), tokens[0]).partition("=")[0]
    token = typed.get(token, token)
    what = "option" if token.startswith("-") else "argument" if " " in program.removeprefix("p2d bench") else "command"
    return UserError(f"unknown {what} {token!r} of {program}{nearest(token, known())}")


def _missing(program: str, arguments: list[Any]) -> UserError:
    named = [a.lowered.metavar if a.is_positional() else f"--{_name(a)}" for a in arguments]
    return UserError(f"{program} needs {' and '.join(named)}; {program} --help tells what that is")


def _name(argument: Any) -> str:
    """'batch-size', 'flow.hidden'."""
    return argument.field.extern_name if argument.is_positional() else argument.lowered.name_or_flags[0].lstrip("-")


def _wanted(argument: Any) -> str:
    """The kind of value that an argument takes, in words."""
    metavar = argument.lowered.metavar or ""
    kind = "whole number" if "INT" in metavar else "number" if "FLOAT" in metavar else "value"
    return f"{kind}s" if "..." in metavar else f"a {kind}"


def _values(name: str, arguments: list[str]) -> list[str]:
    """What is given for an option: the words after it, to the next option."""
    for n, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option.replace("_", "-") == f"--{name}":
            following = re.split(r"\n--[a-z]", "\n".join(["", *arguments[n + 1 :]]))[0].split("\n")[1:]
            return [value] if equals else following
    return []

"""What is wrong with a command line, in one line: an unknown option, a value of another kind, what is missing.

tyro tells such mistakes in boxes of many lines. It offers a hook to tell them otherwise, which is not part of its
public interface yet: without the hook, or for a mistake that is not known here, its box is what the user sees.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tyro

from p2d.errors import UserError, nearest

Known = Callable[[], Iterable[str]]


def told_in_one_line(
    program: str,
    arguments: list[str],
    known: Known,
    typed: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[None]:
    """While the block parses, a mistake in the arguments is a UserError.

    Args:
        program: the words that the arguments follow, such as 'p2d train-score'.
        arguments: as tyro gets them.
        known: options that could have been meant where one is unknown.
        typed: how the user wrote options that the arguments have in another form.
    """

    def tell(event: Any) -> None:
        match type(event).__name__:
            case "UnrecognizedArgs":
                raise _unknown(program, event.tokens, known, typed or {})
            case "MissingArgs" if event.unrecognized_tokens:  # a required option may be among them, misspelt
                raise _unknown(program, event.unrecognized_tokens, known, typed or {})
            case "MissingArgs":
                missing = " and ".join(_shown(one.arg) for one in event.missing_arguments)
                raise UserError(f"{program} needs {missing}; {program} --help tells what that is")
            case "MissingSubcommand":
                names = ", ".join(event.subcommand_spec.parser_from_name)
                raise UserError(f"no command of {program} is given; known: {names}")
            case "InvalidChoice":
                near, choices = nearest(event.value, event.choices), ", ".join(event.choices)
                raise UserError(f"unknown {_setting(event.argument)} {event.value!r}{near}; known: {choices}")
            case "BadValue":
                raise UserError(f"{_shown(event.argument)} of {program} needs {_kind(event.argument)}")
            case "InstantiationFailure" if event.argument is not None:
                setting, value = _setting(event.argument), " ".join(_values(event.argument, arguments))
                raise UserError(f"{setting} = {value} is not possible: it must be {_kind(event.argument)}")

    hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    return hook(tell) if hook else contextlib.nullcontext()


def options(form: type) -> list[str]:
    """The options of what tyro fills in, as its help lists them."""
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        tyro.cli(form, args=["--help"])
    return re.findall(r"--[a-z][\w.-]*", page.getvalue())


def _unknown(program: str, tokens: list[str], known: Known, typed: Mapping[str, str]) -> UserError:
    """The option that there is not, as words beside it may be its values; without one, a word too many."""
    token = next((token for token in tokens if token.startswith("-")), tokens[0]).partition("=")[0]
    token = typed.get(token, token)
    what = "option" if token.startswith("-") else "argument"
    near = nearest(token, known()) if token.startswith("--") else ""
    return UserError(f"unknown {what} {token!r} of {program}{near}")


def _shown(argument: Any) -> str:
    """'--batch-size', 'DATASET'."""
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[0]


def _setting(argument: Any) -> str:
    """'batch_size', as mistakes that a config finds name it."""
    return _shown(argument).lstrip("-").replace("-", "_")


def _kind(argument: Any) -> str:
    """The kind of value that an argument takes, in words."""
    metavar = argument.lowered.metavar or ""
    kind = "whole number" if "INT" in metavar else "number" if "FLOAT" in metavar else "value"
    return f"{kind}s" if "..." in metavar else f"a {kind}"


def _values(argument: Any, arguments: list[str]) -> list[str]:
    """The words that are given for an option: those after it, to the next option."""
    values: list[str] = []
    taken = False
    for word in arguments:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            taken = name.replace("_", "-") == _shown(argument)
            values += [value] if taken and equals else []
        elif taken:
            values.append(word)
    return values

"""Settings: from a dataclass to a command line, from a file to the dataclass, and one check.

A script's settings are the fields of a dataclass, made by setting(). Each is a flag of the same
name, and may stand in a TOML file or in the config.json that a run leaves. hero.py, eval.py and
prepare.py all read their settings here, so a flag means, and refuses, the same in each of them.
"""

import argparse
import json
import math
import tomllib
from dataclasses import MISSING, field, fields
from pathlib import Path

from problems import first_line

# The numbers that a setting may take: their text, and the test.
RANGES = {
    "above 0": lambda value: value > 0,
    "0 or above": lambda value: value >= 0,
    "between 0 and 1": lambda value: 0 <= value <= 1,
    "above 0 and at most 1": lambda value: 0 < value <= 1,
    "above 0 and below 1": lambda value: 0 < value < 1,
}


def setting(default, help, *, choices=None, range=None, heading=None):
    """A field of a dataclass of settings.

    default: its value without a flag; MISSING for one that has to be given; None for one whose
    value, if it is not given, is found elsewhere; a list for a flag that takes several words.
    help: a sentence for --help. choices: the values allowed, for all to see. range: a key of
    RANGES. heading: in --help, above this setting and those that follow it.
    """
    metadata = {"help": help, "choices": choices, "range": range, "heading": heading}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(f):
    """The default of a dataclass field; MISSING without one."""
    return f.default if f.default_factory is MISSING else f.default_factory()


# ---------------------------------------------------------------------------- the command line


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one line, and whose flags are written in full."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                         **options)

    def error(self, message):
        raise ValueError(f"{message}; python {self.prog} --help lists every flag")


def add_flags(parser, cls):
    """Gives a parser a flag for each setting of a dataclass. What is not given stays out."""
    group = parser
    for f in fields(cls):
        if f.metadata["heading"]:
            group = parser.add_argument_group(f.metadata["heading"])

        # argparse formats the sentence with %, so a percent sign is doubled.
        sentence = f.metadata["help"].replace("%", "%%")
        default = default_of(f)
        options = {"default": argparse.SUPPRESS}
        if f.type is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = "|".join(f.metadata["choices"] or ["VALUE"])
            options["required"] = default is MISSING
            options["type"] = str if f.type is list else f.type
            if f.type is list:
                options["nargs"] = "*"
                default = " ".join(default)
            if default is MISSING:
                sentence += " (required)"
            elif default not in ("", None):
                sentence += f" (default: {default})".replace("%", "%%")
        group.add_argument(f"--{f.name}", help=sentence, **options)


def parse_flags(cls, arguments, prog, description):
    """The flags of a command line that were given, by name. ValueError names the one at fault."""
    parser = Parser(prog=prog, usage=f"{prog} [--SETTING VALUE ...]", description=description)
    add_flags(parser, cls)
    return vars(parser.parse_args(arguments))


def settings_of(cls, arguments, prog, description):
    """A dataclass of settings from a command line alone, checked. ValueError names the flag."""
    settings = cls(**parse_flags(cls, arguments, prog, description))
    check_settings(settings)
    return settings


# ---------------------------------------------------------------------------- files


def read_settings(cls, path):
    """The settings in a TOML file, or in the config.json of a run. -> {name: value}

    Raises ValueError, in one line, for a file that cannot be read or holds anything else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a TOML file of settings or the config.json of "
                         f"a run ({first_line(error)})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not the config.json of a run: it holds no settings by name")
    values.pop("made_with", None)

    types = {f.name: f.type for f in fields(cls)}
    unknown = sorted(set(values) - set(types))
    if unknown:
        origin = "" if path.suffix == ".toml" else " is of another version, or not of a run: it"
        raise ValueError(f"{path}{origin} holds {', '.join(unknown[:5])}, which is no setting here")
    for name, value in values.items():
        is_whole = types[name] is float and type(value) is int          # 1 for 1.0
        if type(value) is not types[name] and not is_whole:
            raise ValueError(f"{path}: {name} is {json.dumps(value, default=str)[:60]}, and has to "
                             f"be of type {types[name].__name__}")
    return {name: types[name](value) for name, value in values.items()}


# ---------------------------------------------------------------------------- the check


def check_settings(settings):
    """Raises ValueError for the first value that its setting does not take, and says what it does.

    settings: a dataclass of settings, filled in.
    """
    for f in fields(settings):
        value = getattr(settings, f.name)
        if value is None:
            continue
        choices = f.metadata["choices"]
        if choices and value not in choices:
            raise ValueError(f"--{f.name} {value}: choose one of {', '.join(choices)}")

        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{f.name} {value}: has to be a finite number")
        wanted = f.metadata["range"]
        if wanted and not RANGES[wanted](value):
            raise ValueError(f"--{f.name} {value}: has to be {wanted}")

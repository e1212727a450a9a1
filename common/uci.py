# SPDX-License-Identifier: GPL-2.0-or-later
"""UCI text to sections: syntax only, no meaning (that is config.py).

The syntax of one line is uciparse's business. This file adds what it lacks: line numbers, the grouping of
lines into sections, and a refusal wherever UCI would quietly drop a value (an option set twice) or uciparse
would quietly glue two together ('a' 'b').
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from uciparse.uci import UciConfigLine, UciFile, UciLine, UciListLine, UciOptionLine, UciParseError

MAX_LINE = 4096
"""Characters in a line, as in libuci (LINEBUF_MAX); bounds the time that the regular expressions take."""

# What is not a comment, up to the first # outside quotes.
_COMMENT = re.compile(r"""^((?:[^'"#]|'[^']*'|"[^"]*")*)#.*$""")

_REASONS = {
    "unrecognized line type": "a line starts with config, option, list or #",
    "invalid package line": "a package line is: package NAME",
    "invalid config line": "a config line is: config TYPE or config TYPE 'NAME', of letters, digits, _ and -",
    "invalid option line": "an option line is: option NAME 'VALUE', with the quotes closed on the same line",
    "invalid list line": "a list line is: list NAME 'VALUE', with the quotes closed on the same line",
}


class ConfigError(Exception):
    """One thing that is wrong in a configuration file.

    `line` counts from 1; 0 means the file as a whole. `section` is a Section.title, `option` the name of the
    option or list, both None where the error is not about one. Travels inside a ConfigErrors.
    """

    def __init__(
        self, file: str, line: int, reason: str, section: str | None = None, option: str | None = None
    ) -> None:
        super().__init__(file, line, reason, section, option)
        self.file = file
        self.line = line
        self.reason = reason
        self.section = section
        self.option = option

    def __str__(self) -> str:
        where = self.file if self.line == 0 else f"{self.file}:{self.line}"
        option = f"option '{self.option}'" if self.option else None
        what = ", ".join(filter(None, (self.section, option)))
        return ": ".join(filter(None, (where, what, self.reason)))


class ConfigErrors(Exception):
    """All that is wrong in a configuration file, in the order of its lines; str() has one line for each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.line))
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass(frozen=True, slots=True)
class Option:
    """One `option` line, or one `list` line."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A `config` line and what follows it. `lists` has an entry for each `list` line, in the file's order."""

    type: str
    name: str | None
    line: int
    options: tuple[Option, ...] = ()
    lists: tuple[Option, ...] = ()

    @property
    def title(self) -> str:
        """How messages call the section: link 'xdsl', or bypass at line 31 for one without a name."""
        return f"{self.type} '{self.name}'" if self.name else f"{self.type} at line {self.line}"


@dataclass(slots=True)
class _Draft:
    """A section whose lines are still being collected."""

    type: str
    name: str | None
    line: int
    options: dict[str, Option] = field(default_factory=dict)
    lists: list[Option] = field(default_factory=list)

    def finished(self) -> Section:
        return Section(self.type, self.name, self.line, tuple(self.options.values()), tuple(self.lists))


def decode(data: bytes, file: str) -> str:
    """The text of a file's bytes; raises ConfigErrors that names the first line that is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([ConfigError(file, line, "the text is not UTF-8")]) from None


def parse(text: str, file: str) -> list[Section]:
    """The sections of a UCI file, in its order; `file` is only used to name it in errors.

    Raises ConfigErrors for all lines that cannot be read, or if there are none for all lines that do not fit
    together: a broken `config` line would make every option after it look misplaced.
    """
    lines = _readable_lines(text, file)
    drafts: list[_Draft] = []
    errors = []
    for number, line in lines:
        if isinstance(line, UciConfigLine):
            drafts.append(_Draft(line.section, line.name, number))
        elif isinstance(line, UciOptionLine | UciListLine):
            reason = _place(drafts, number, line)
            if reason:
                title = drafts[-1].finished().title if drafts else None
                errors.append(ConfigError(file, number, reason, title))
    if errors:
        raise ConfigErrors(errors)
    return [draft.finished() for draft in drafts]


def _readable_lines(text: str, file: str) -> list[tuple[int, UciLine]]:
    lines = []
    errors = []
    # Not splitlines(): it also splits at characters that no editor counts as the end of a line.
    for number, raw in enumerate(text.split("\n"), start=1):
        try:
            lines += [(number, line) for line in _read_line(raw)]
        except ValueError as error:
            errors.append(ConfigError(file, number, str(error)))
    if errors:
        raise ConfigErrors(errors)
    return lines


def _read_line(raw: str) -> list[UciLine]:
    """No or one statement; ValueError says what is wrong."""
    if len(raw) > MAX_LINE:
        raise ValueError(f"the line is longer than {MAX_LINE} characters")
    # uciparse takes a quote in a comment for the end of the value, so comments go first.
    line = _COMMENT.sub(r"\1", raw.removesuffix("\r")).strip(" \t")
    for char in line:
        if not char.isprintable() and char != "\t":
            raise ValueError(f"the character U+{ord(char):04X} is not allowed outside comments")
    try:
        statements = UciFile.from_lines([line]).lines
    except UciParseError as error:
        raise ValueError(_reason(error)) from None
    for statement in statements:
        if isinstance(statement, UciOptionLine | UciListLine) and _glued(line, statement.value):
            raise ValueError("more than one quoted value in a line")
    return statements


def _reason(error: UciParseError) -> str:
    _, _, reason = error.message.partition(": ")
    return _REASONS.get(reason, reason)


def _glued(line: str, value: str | None) -> bool:
    """Whether uciparse took 'a' 'b' for one value: the quote that ends the line is then inside it too."""
    return value is not None and line[-1] in "'\"" and line[-1] in value


def _place(drafts: list[_Draft], number: int, line: UciOptionLine | UciListLine) -> str | None:
    """Put a line into the section it belongs to, or return why it cannot be."""
    option = Option(line.name, line.value or "", number)  # uciparse gives None for ''
    if not drafts:
        return f"'{line.name}' is set before the first 'config' line"
    draft = drafts[-1]
    is_list = isinstance(line, UciListLine)
    listed = [] if is_list else [other for other in draft.lists if other.name == line.name]
    earlier = draft.options.get(line.name) or next(iter(listed), None)
    if earlier:
        return f"'{line.name}' is already set at line {earlier.line}"
    if is_list:
        draft.lists.append(option)
    else:
        draft.options[line.name] = option
    return None

# SPDX-License-Identifier: GPL-2.0-or-later
"""UCI syntax: text in, sections or the exact complaint out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import uci
from common.uci import ConfigError, ConfigErrors, Option, Section


def complaints(text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        uci.parse(text, "f")
    return str(caught.value)


def value(line: str) -> str:
    """The value of an option line inside a section."""
    (section,) = uci.parse(f"config a\n{line}", "f")
    (option,) = section.options
    return option.value


def test_sections_keep_order_names_and_lines() -> None:
    text = """\
package hybridaccess

# the router
config cpe 'cpe'
	list lan 'br-lan'
	option steering always
	list lan "br-guest"   # guests too

config bypass
	option dscp 'ef'
"""
    assert uci.parse(text, "f") == [
        Section(
            type="cpe",
            name="cpe",
            line=4,
            options=(Option("steering", "always", 6),),
            lists=(Option("lan", "br-lan", 5), Option("lan", "br-guest", 7)),
        ),
        Section(type="bypass", name=None, line=9, options=(Option("dscp", "ef", 10),)),
    ]


def test_title() -> None:
    named, anonymous = uci.parse("config link 'lte'\n\nconfig bypass", "f")
    assert (named.title, anonymous.title) == ("link 'lte'", "bypass at line 3")


@pytest.mark.parametrize("text", ["", "\n", "# nothing", "\t \n  # nothing\n", "\r\n\r\n", "package x"])
def test_nothing_in_it(text: str) -> None:
    assert uci.parse(text, "f") == []


def test_crlf_is_the_same() -> None:
    text = "config link 'a'\n\toption device 'eth0'\n\tlist x 'y'\n"
    assert uci.parse(text.replace("\n", "\r\n"), "f") == uci.parse(text, "f")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("option x y", "y"),
        ("option x 'y'", "y"),
        ('option x "y"', "y"),
        ("option 'x' 'y z'", "y z"),
        ("  option\tx   'y'  ", "y"),
        ("option x ''", ""),
        ('option x ""', ""),
        ('option x "it\'s"', "it's"),
        ("option x 'say \"a\"'", 'say "a"'),
        ("option x 'é'", "é"),
        ("option x y#z", "y"),
        ("option x 'y' # z", "y"),
        ("option x 'y # z'", "y # z"),
        ("option x 'y' # it's", "y"),
        ("option x 'y' # or 'z'", "y"),
        ('option x "y" # or \'z\' or "a"', "y"),
        ("option x 'y' # \x00\ufeff", "y"),
    ],
)
def test_value(line: str, expected: str) -> None:
    assert value(line) == expected


OPTION = "an option line is: option NAME 'VALUE', with the quotes closed on the same line"
LIST = "a list line is: list NAME 'VALUE', with the quotes closed on the same line"
CONFIG = "a config line is: config TYPE or config TYPE 'NAME', of letters, digits, _ and -"
KEYWORD = "a line starts with config, option, list or #"
GLUED = "more than one quoted value in a line"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("option x", OPTION),
        ("option x 'y", OPTION),
        ("option x 'y\"", OPTION),
        ("option x y z", OPTION),
        ("option x 'y'z", OPTION),
        ("option x! y", OPTION),
        ("option x 'a\\b'", OPTION),
        ("option x 'y' 'z'", GLUED),
        ("option x 'y''z'", GLUED),
        ("option x 'y # 'z'", GLUED),
        ('list x "y" "z"', GLUED),
        ("list x", LIST),
        ("list x 'y", LIST),
        ("config a 'b", CONFIG),
        ("config a b c", CONFIG),
        ("config a 'b c'", CONFIG),
        ("config ''", CONFIG),
        ("package", KEYWORD),
        ("package 'a b'", "a package line is: package NAME"),
        ("config", KEYWORD),
        ("configure a", KEYWORD),
        ("Option x y", KEYWORD),
        ("x", KEYWORD),
        ("option x 'a\x00b'", "the character U+0000 is not allowed outside comments"),
        ("\ufeffoption x y", "the character U+FEFF is not allowed outside comments"),
        ("option x 'a\x1b[31m'", "the character U+001B is not allowed outside comments"),
        ("option\u00a0x y", "the character U+00A0 is not allowed outside comments"),
        ("option x y\rz", "the character U+000D is not allowed outside comments"),
        ("option x '" + "y" * 4086 + "'", "the line is longer than 4096 characters"),
    ],
)
def test_a_line_that_cannot_be_read(line: str, reason: str) -> None:
    assert complaints(f"config a\n{line}") == f"f:2: {reason}"


def test_the_longest_line() -> None:
    assert value("option x '" + "y" * 4085 + "'") == "y" * 4085


def test_all_unreadable_lines_are_reported_in_order() -> None:
    assert complaints("config a\nfoo\n\toption x y\n\toption\nlist x 'y\r\n") == "\n".join(
        [f"f:2: {KEYWORD}", f"f:4: {KEYWORD}", f"f:5: {LIST}"]
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("option x y", "f:1: 'x' is set before the first 'config' line"),
        ("package p\nlist x y\nconfig a", "f:2: 'x' is set before the first 'config' line"),
        ("config a b\noption x y\n\noption x y", "f:4: a 'b': 'x' is already set at line 2"),
        ("config a b\noption x y\nlist x z", "f:3: a 'b': 'x' is already set at line 2"),
        ("config a\nlist x y\nlist x z\noption x y", "f:4: a at line 1: 'x' is already set at line 2"),
    ],
)
def test_lines_that_do_not_fit_together(text: str, complaint: str) -> None:
    assert complaints(text) == complaint


def test_the_same_option_in_two_sections() -> None:
    sections = uci.parse("config a\noption x y\nconfig a\noption x z", "f")
    assert [section.options[0].value for section in sections] == ["y", "z"]


def test_unreadable_lines_hide_what_follows_from_them() -> None:
    assert complaints("config a\noption x y\nconfig b!\noption x y") == f"f:3: {CONFIG}"


def test_decode() -> None:
    assert uci.decode("# é\n".encode(), "f") == "# é\n"


def test_decode_names_the_line_that_is_not_utf8() -> None:
    with pytest.raises(ConfigErrors) as caught:
        uci.decode("config a\n# é\n# é\n".encode() + "# é\n".encode("latin-1"), "f")
    assert str(caught.value) == "f:4: the text is not UTF-8"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("f", 0, "wrong"), "f: wrong"),
        (ConfigError("f", 3, "wrong"), "f:3: wrong"),
        (ConfigError("f", 3, "wrong", "link 'a'"), "f:3: link 'a': wrong"),
        (ConfigError("f", 3, "wrong", "link 'a'", "x"), "f:3: link 'a', option 'x': wrong"),
    ],
)
def test_how_an_error_reads(error: ConfigError, text: str) -> None:
    assert str(error) == text


def test_errors_are_in_the_order_of_lines() -> None:
    errors = ConfigErrors([ConfigError("f", 3, "b"), ConfigError("f", 1, "a")])
    assert [error.line for error in errors.errors] == [1, 3]


words = st.sampled_from(
    [
        "config",
        "option",
        "list",
        "package",
        "a",
        "x",
        " ",
        "\t",
        "'",
        '"',
        "#",
        "\\",
        "\r",
        "\n",
        "\0",
        "\u2028",
    ]
)


def parsed(text: str) -> tuple[list[Section], tuple[ConfigError, ...]]:
    try:
        return uci.parse(text, "f"), ()
    except ConfigErrors as refused:
        return [], refused.errors


@given(st.one_of(st.text(), st.lists(words).map("".join), st.text(st.characters(codec=None))))
def test_any_text_gives_sections_or_errors(text: str) -> None:
    sections, errors = parsed(text)
    lines = range(1, text.count("\n") + 2)
    for error in errors:
        assert error.line in lines
        assert str(error).isprintable()
    for section in sections:
        names = [option.name for option in section.options]
        assert len(set(names)) == len(names)
        assert not {*names} & {option.name for option in section.lists}
        assert all(option.line in lines[section.line :] for option in (*section.options, *section.lists))


@given(
    before=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"))),
    broken=st.binary(max_size=20),
)
def test_any_bytes_give_text_or_the_line_that_is_not_utf8(before: list[str], broken: bytes) -> None:
    data = "".join(f"{line}\n" for line in before).encode() + broken.replace(b"\n", b"") + b"\xff\n"
    with pytest.raises(ConfigErrors) as caught:
        uci.decode(data, "f")
    assert caught.value.errors[0].line == len(before) + 1

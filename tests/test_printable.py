"""E15: text of files, servers and people is shown, and steers nothing."""

import html.parser
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymc3d.cli.say import fail, say, say_text, warn
from anymc3d.errors import ProblemsError, ScanError, UsageError
from anymc3d.printable import escape, markdown, plotted, printable, quoted, shown

FORGED = "MIT\n\nhash: 0000\x1b[2J\r\u202egnp.exe\u200b\x9b31m\x07\ud800\u2028end"
HOSTILE = st.text(st.characters(), max_size=60)


@given(HOSTILE)
def test_E15_what_is_printable_is_one_line_that_moves_nothing(text):
    line = printable(text)
    assert all(unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in line)
    assert printable(line) == line
    line.encode("utf-8")


def test_letters_of_every_script_stay():
    for text in ("Müller 肝臓 печень كبد", "10 mm × 2 µm", "\u3000wide", "a\u00a0b"):
        assert printable(text) == text
    assert printable("a\tb\x1b") == "a\\tb\\x1b"
    assert shown("x" * 500, 10) == "x" * 10 + "…"
    assert quoted("FDA cleared\n") == '"FDA cleared\\n"'


@given(HOSTILE)
def test_E15_markdown_holds_no_html_no_cell_and_no_picture(text):
    cell = markdown(f"<img src=x>{text}| a ![x](http://y) `c`")
    assert "<" not in cell and ">" not in cell and "\n" not in cell
    assert "](" not in cell.replace("\\](", "")
    bars = [i for i, letter in enumerate(cell) if letter == "|"]
    for bar in bars:
        slashes = len(cell[:bar]) - len(cell[:bar].rstrip("\\"))
        assert slashes % 2 == 1, "an even number of backslashes would leave the bar a bar"


@given(HOSTILE)
def test_E15_html_holds_text_alone(text):
    found = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, attrs))

    shown_text = escape(f"</p><script>{text}</script>")
    Reader().feed(f'<p title="{shown_text}">{shown_text}</p>')
    assert [tag for tag, _ in found] == ["p"] and [name for name, _ in found[0][1]] == ["title"]


def test_a_label_is_no_formula_in_a_plot():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def drawn(text):
        figure = Figure()
        figure.suptitle(text)
        FigureCanvasAgg(figure).draw()

    for text in ("$\\frac$", "a$b$c", "\\$x$"):
        drawn(plotted(text))
    with pytest.raises(ValueError, match="frac"):
        drawn("$\\frac$")


def test_E15_what_commands_print_is_one_line_each(capsys):
    say(FORGED, FORGED)
    say_text(f"one\n{FORGED}\n".replace("\n\n", "\n"))
    warn(FORGED)
    fail(f"error: {UsageError(FORGED)}")
    out, err = capsys.readouterr()
    assert out.count("\n") == 2 + 3 and err.count("\n") == 2
    for text in (out, err):
        assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]


def test_E15_errors_are_lines_of_their_own_only_where_we_make_them():
    assert "\n" not in str(UsageError(FORGED)) and "\x1b" not in str(UsageError(FORGED))
    assert str(ProblemsError(FORGED, [FORGED, "b"])).count("\n") == 2
    error = ScanError(FORGED, what=FORGED)
    assert "\n" not in error.what and "\x1b" not in error.what

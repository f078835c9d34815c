"""Foreign text on a terminal is text: it moves no cursor, hides nothing, and is no markup."""

import ast
import io
import json
import unicodedata
from pathlib import Path

import pytest
from typer.testing import CliRunner

import edgecr
from edgecr.cli import app
from edgecr.cli.echo import echo
from edgecr.core.display import SafeConsole, TerminalMonitor
from edgecr.core.printable import one_line, printable
from edgecr.report.render.terminal import TableView, render
from edgecr.report.result import Result
from edgecr.report.table import Table

CLI = Path(edgecr.__file__).parent / "cli"
EVIL = "\x1b[2Jgone\x1b]0;title\x07 \x9b31m \x7f \r \x08 \u202eSHIP\u2066 \u200b \ud800 \u2028 [bold red]x[/] :smile:"


def harmful(text):
    """Characters that a terminal obeys, or that a reader does not see."""
    return [one for one in text if one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize(
    "code", [*range(32), *range(0x7F, 0xA0), 0x200E, 0x202A, 0x202E, 0x2066, 0x2069, 0xFEFF, 0xD800, 0x2028, 0xE0001]
)
def test_each_character_that_steers_is_written_as_its_code(code):
    shown = printable(f"a{chr(code)}b")
    if chr(code) in "\n\t":
        assert shown == f"a{chr(code)}b"
    else:
        assert shown == (f"a\\u{code:04x}b" if code < 0x10000 else f"a\\U{code:08x}b")
    assert harmful(one_line(chr(code) + "\n\t")) == []
    assert "\n" not in one_line(chr(code) + "\n")


def test_words_of_all_languages_stay_as_they_are():
    text = "Größe 模型 модель نموذج 🙂 “x” µs ±1 %\n\tnext"
    assert printable(text) == text


def test_json_is_still_json():
    values = {"a": EVIL, "b": "é\x7f"}
    assert json.loads(printable(json.dumps(values))) == values
    assert json.loads(printable(json.dumps(values, ensure_ascii=False))) == values


class Screen(SafeConsole):
    """A terminal that remembers what it was sent."""

    def __init__(self, width=120, **_):
        super().__init__()
        self.file, self.width, self._force_terminal = io.StringIO(), width, False

    @property
    def sent(self):
        return self.file.getvalue()


def plain_of(sent):
    assert harmful(sent) == []
    return sent


def test_a_console_prints_no_control_character_and_no_markup():
    screen = Screen()
    screen.print(EVIL)
    assert "[bold red]x[/] :smile:" in plain_of(screen.sent)
    assert "\\u001b[2Jgone" in screen.sent


@pytest.mark.parametrize("width", [60, 140])
def test_a_report_made_of_evil_text(width):
    screen = Screen(width)
    screen.print(render(Result(name=EVIL, id="r", warnings=[EVIL])))
    screen.print(TableView(Table("t" + EVIL, ("head" + EVIL, "b"), [(EVIL, "1")], EVIL)))
    assert "\\u202eSHIP" in plain_of(screen.sent).replace("\n", "")


def test_progress_and_warnings(monkeypatch):
    monitor = TerminalMonitor()
    monitor.console = Screen()
    monitor.say(EVIL)
    monitor.warn(EVIL)
    with monitor.bar(EVIL, 3) as bar:
        bar.advance(1, fact=EVIL)
    assert "Warning: \\u001b" in plain_of(monitor.console.sent)


def test_echo(capsys):
    echo(EVIL)
    echo(EVIL, err=True)
    out, err = capsys.readouterr()
    assert out == err == printable(EVIL) + "\n"
    assert harmful(out) == []


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_errors_that_quote_a_foreign_file(edgecr_here, tmp_path, debug):
    file = tmp_path / "x.yaml"
    file.write_text('"\\e[2Jkey\\r\\u202e": 1\nname: "\\e]0;t\\a"\n')
    done = edgecr_here(*debug, "recipes", "validate", file)
    done_too = edgecr_here(*debug, "compress", file)
    for one in (done, done_too):
        assert one.returncode == 2
        assert "key" in one.stderr
        assert harmful(one.stdout + one.stderr) == []
    assert ("Traceback" in done_too.stderr) == bool(debug)


def test_files_that_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "evil.yaml").write_text("# Purpose: x \x1b[2J\x9b \u202e\n")
    shown = CliRunner().invoke(app, ["recipes", "show", "evil"])
    assert shown.exit_code == 0
    assert harmful(shown.output) == []
    assert "\\u001b[2J" in shown.output


def test_commands_print_in_no_other_way():
    """Everything goes through ``echo`` and its console; the version line is the program's own text."""
    ways = []
    for file in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in (
                "print",
                "typer.echo",
                "typer.secho",
                "Console",
                "sys.stdout.write",
                "sys.stderr.write",
                "rprint",
            ):
                ways.append((file.name, called))
    assert ways == [("app.py", "typer.echo"), ("echo.py", "typer.echo")]

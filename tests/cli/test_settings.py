"""Options from variables and configuration files: what wins, what is refused, and what is said of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support import ROOT, Abs

from abs_cli.main import cli, main
from abs_cli.settings import (
    LOCAL_COMMANDS,
    LOCAL_OPTIONS,
    SHARED_OPTIONS,
    option_names,
    sub_command,
    sub_commands,
    variables_of,
)

Configure = Callable[..., None]

# what no file of a working folder may ever set
DANGEROUS = [
    "plugin",
    "base-url",
    "key-variable",
    "backend",
    "extra-body",
    "max-cost",
    "out",
    "report",
    "results",
    "predictions",
    "home",
    "cache",
    "cache-size",
    "yes",
    "force",
    "delete",
    "sign",
    "verify",
    "key",
    "remote",
    "prices",
    "encoder",
    "png",
    "csv",
    "markdown",
    "to",
    "as",
    "boxes",
    "allow",
    "engine",
    "address",
    "quiet",  # which would hide what the file sets
]


def commands(found: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in sub_commands(found):
        inner = sub_command(found, name)
        assert inner is not None
        yield (*path, name), inner
        yield from commands(inner, (*path, name))


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the user's own file, and that of a working folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def write(own: str = "", local: str | None = None) -> None:
        (tmp_path / "own.toml").write_text(own)
        (tmp_path / "own.toml").chmod(0o600)
        monkeypatch.setenv("ABS_CONFIG", str(tmp_path / "own.toml"))
        if local is not None:
            (work / "abs.toml").write_text(local)

    return write


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs a command up to the values of its options."""

    def run(*args: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        original = click.Command.invoke

        def invoke(self: click.Command, ctx: click.Context) -> None:
            if isinstance(self, click.Group):
                original(self, ctx)
            else:
                values.update(ctx.params)

        with monkeypatch.context() as patch:
            patch.setattr(click.Command, "invoke", invoke)
            with pytest.raises(SystemExit) as done:
                main(list(args))
        assert not done.value.code
        return values

    return run


def test_what_wins(configure: Configure, seen: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    label = ("label", "x", "--out", "y")
    assert seen(*label)["threads"] is None
    configure("", "[label]\nthreads = 1\nseed = 1\nviews = 1\nbatch_size = 1\n")
    assert [seen(*label)[name] for name in ("threads", "seed", "views", "batch_size")] == [1, 1, 1, 1]
    configure("[defaults]\nthreads = 2\n[label]\nseed = 2\nviews = 2")
    assert [seen(*label)[name] for name in ("threads", "seed", "views", "batch_size")] == [2, 2, 2, 1]
    configure("[defaults]\nthreads = 2\n[label]\nthreads = 3\nseed = 2\nviews = 2")
    assert seen(*label)["threads"] == 3
    monkeypatch.setenv("ABS_THREADS", "4")
    monkeypatch.setenv("ABS_LABEL_SEED", "4")
    monkeypatch.setenv("ABS_LABEL_BATCH_SIZE", "")
    assert [seen(*label)[name] for name in ("threads", "seed", "views", "batch_size")] == [4, 4, 2, 1]
    monkeypatch.setenv("ABS_LABEL_THREADS", "5")
    assert [seen(*label)[name] for name in ("threads", "seed", "views")] == [5, 4, 2]
    given = seen(*label, "--threads", "6", "--seed=6", "--views", "6")
    assert [given[name] for name in ("threads", "seed", "views", "batch_size")] == [6, 6, 6, 1]


def test_values_are_those_of_the_command_line(
    configure: Configure, seen: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    configure(
        """
        [eval]
        dataset = ["imagefolder:a b", "demo"]
        models = "embedded"
        methods = "clip,abs(views=10)"
        dtype = "fp32"
        views = "adaptive"
        agreement = 1
        stratified = true
        report = "page.html"
        results = "~/results"
        [gen-descriptions]
        version = "major"
        temperature = 0.5
        extra-body = {reasoning_effort = "low"}
        [label.export]
        """.replace("models =", "model =")
    )
    values = seen("eval")
    assert values["datasets"] == ("imagefolder:a b", "demo")
    assert values["models"] == ("embedded",)
    assert values["methods"] == ["clip", "abs(views=10)"]
    assert (values["dtype"], values["views"], values["agreement"]) == ("float32", "adaptive", 1.0)
    assert values["stratified"] is True
    assert values["report"] == tmp_path / "page.html"
    assert values["results"] == Path("~/results").expanduser()
    values = seen("gen-descriptions", "a,b", "--name", "x")
    assert (values["version"], values["_language_temperature"]) == ("major", 0.5)
    assert values["_language_extra_body"] == {"reasoning_effort": "low"}


def test_variables_of_lists_and_flags(
    configure: Configure, seen: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("[eval]\nstratified = true\n[attribute]\njson = false\n")
    monkeypatch.setenv("ABS_EVAL_DATASET", "demo csv:b.csv")
    monkeypatch.setenv("ABS_EVAL_STRATIFIED", "0")
    values = seen("eval")
    assert values["datasets"] == ("demo", "csv:b.csv")
    assert values["stratified"] is False
    assert seen("attribute", "--dataset", "demo", "--bundle", "x")["form"] != "json"
    monkeypatch.setenv("ABS_ATTRIBUTE_JSON", "1")
    assert seen("attribute", "--dataset", "demo", "--bundle", "x")["form"] == "json"


def test_a_stronger_option_sets_aside_what_it_excludes(
    configure: Configure, seen: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[label]\nbundle = "birds"\nviews = "adaptive"\nagreement = 0.9\n[attribute]\nformat = "latex"\n')
    label = ("label", "x", "--out", "y")
    assert seen(*label)["bundle"] == "birds"
    assert seen(*label, "--labels", "cat,dog")["bundle"] is None
    assert seen(*label, "--views=7")["agreement"] is None
    assert seen(*label, "--agreement", "0.8")["views"] == "adaptive"
    monkeypatch.setenv("ABS_LABEL_LABELS", "cat,dog")
    assert (seen(*label)["bundle"], seen(*label)["labels"]) == (None, "cat,dog")
    assert (seen(*label, "--bundle", "x")["bundle"], seen(*label, "--bundle", "x")["labels"]) == ("x", None)
    assert seen("attribute", "--dataset", "demo", "--bundle", "x", "--json")["form"] == "json"


def test_common_options_come_from_everywhere(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ABS_HOME", "ABS_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def cache(*args: str) -> str:
        with pytest.raises(SystemExit):
            main([*args, "cache", "ls"])
        return capsys.readouterr().out.splitlines()[0]

    configure('[defaults]\nhome = "mine"\n')
    assert cache() == str(tmp_path / "mine" / "cache")
    monkeypatch.setenv("ABS_HOME", str(tmp_path / "variable"))
    assert cache() == str(tmp_path / "variable" / "cache")
    monkeypatch.delenv("ABS_HOME")
    configure("[defaults]\ncache = 'http://host/x'\n")
    with pytest.raises(SystemExit):
        main(["cache", "ls"])
    assert "--cache must be a folder or a bucket, got the address http://..." in capsys.readouterr().err
    assert cache("--home", str(tmp_path / "given"), "--cache", str(tmp_path / "c")) == str(tmp_path / "c")
    configure("")
    assert cache("--home", str(tmp_path / "given")) == str(tmp_path / "given" / "cache")


@pytest.mark.parametrize(
    ("own", "args", "message"),
    [
        ("[evla]\n", "methods", "own.toml, line 1: unknown table 'evla' (did you mean 'eval'?)"),
        ("views = 3\n", "methods", "own.toml, line 1: unknown table, for a key outside of all, 'views'"),
        ("eval = 3\n", "methods", "own.toml, line 1: 'eval' must be a table. Write [eval]"),
        ("[eval]\nview = 3\n", "eval", "own.toml, line 2: [eval]: unknown key 'view' (did you mean 'views'?)"),
        ("[eval]\nVIEWS = 3\n", "eval", "unknown key 'VIEWS'"),
        ("[bundle.psh]\nx = 1", "bundle ls", "line 1: [bundle]: unknown key 'psh' (did you mean 'push'?)"),
        ("[bundle]\nls = 1", "bundle ls", "own.toml, line 2: 'ls' must be a table"),
        ("[label.export]\nfoo = 1", "label export x coco", "line 2: [label.export]: unknown key 'foo'"),
        ("[defaults]\nmodel = 'x'", "methods", "line 2: [defaults]: unknown key 'model'"),
        ("[defaults]\nviews = 1", "eval", "line 2: [defaults]: unknown key 'views'"),
        ("[eval]\nviews = true", "eval", "[eval] 'views' must be a number or a text in quotes, got 'true'"),
        ("[eval]\nlimit = 2.5", "eval", "line 2: [eval] 'limit' must be a whole number, got '2.5'"),
        ("[eval]\nlimit = '2'", "eval", "'limit' must be a whole number, got '2'"),
        ("[eval]\nlimit = 0", "eval --dataset demo", "invalid value for 'limit' in "),
        ("[eval]\nlimit = 0", "eval --dataset demo", "own.toml, line 2: 0 is not in the range x>=1"),
        ("[eval]\nagreement = '1'", "eval", "'agreement' must be a number, got '1'"),
        ("[eval]\nstratified = 'yes'", "eval", "'stratified' must be true or false, got 'yes'"),
        ("[eval]\nlabels = 3", "eval", "'labels' must be a text in quotes, got '3'"),
        ("[eval]\nlabels = 2020-01-01", "eval", "'labels' must be a text in quotes, got '\"2020-01-01\"'"),
        ("[eval]\ndataset = [1]", "eval", "'dataset' must be a text in quotes, or a list of such, got '[1]'"),
        ("[eval]\ndtype = 'fp17'", "eval --dataset demo", "own.toml, line 2: unknown value 'fp17'"),
        ("[defaults]\nthreads = '4'", "eval --dataset demo", "[defaults] 'threads' must be a whole number, got '4'"),
        ("[defaults]\nquiet = 1", "methods", "line 2: [defaults] 'quiet' must be true or false"),
        ("[defaults]\ncache-size = 1", "methods", "[defaults] 'cache-size' must be a text in quotes"),
        ("[defaults]\nlog-format = 'xml'", "methods", "own.toml, line 2: unknown value 'xml'"),
        ("[gen-descriptions]\nextra-body = 'x'", "gen-descriptions a,b --name x", "it must be a JSON object"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_line_and_key(
    configure: Configure, abs_command: Abs, own: str, args: str, message: str
) -> None:
    configure(own)
    assert message in abs_command.refuses(*args.split())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ABS_EVAL_LIMIT", "two", "invalid value for the variable ABS_EVAL_LIMIT: 'two' is not a whole number"),
        ("ABS_THREADS", "0", "invalid value for the variable ABS_THREADS: 0 is not in the range"),
        ("ABS_EVAL_STRATIFIED", "perhaps", "invalid value for the variable ABS_EVAL_STRATIFIED: "),
        ("ABS_LOG_FORMAT", "xml", "the variable ABS_LOG_FORMAT: unknown value 'xml'; valid: text, json"),
        ("ABS_EVAL_DTYPE", "fp17", "the variable ABS_EVAL_DTYPE: unknown value 'fp17'"),
    ],
)
def test_a_wrong_variable_is_named(
    abs_command: Abs, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in abs_command.refuses("eval", "--dataset", "demo")


@pytest.mark.parametrize(
    ("local", "args"),
    [
        ("[eval]\nplugin = 'evil.py'", "eval --dataset demo"),
        ("[defaults]\nplugin = 'evil.py'", "methods"),
        ("[defaults]\nhome = '.'", "methods"),
        ("[defaults]\ncache = '.'", "methods"),
        ("[defaults]\nbase-url = 'http://evil'", "methods"),
        ("[gen-descriptions]\nbase-url = 'http://evil'", "gen-descriptions a,b --name x"),
        ("[gen-descriptions]\nmodel = 'dear'", "gen-descriptions a,b --name x"),
        ("[bundle.rm]\nyes = true", "bundle rm x"),
        ("[bundle.ls]\nremote = 's3://evil'", "bundle ls"),
        ("[eval]\nreport = 'page.html'", "eval --dataset demo"),
        ("[eval]\nresults = '.'", "eval --dataset demo"),
        ("[eval]\ndataset = 'hf:a/b@1?split=test&to=/home/ann'", "eval"),
        ("[eval]\ndataset = ['demo', 'wds:https://host/x']", "eval"),
        ("[cache.prune]\nformer = true", "cache prune"),
    ],
)
def test_a_file_in_the_working_folder_sets_nothing_that_could_do_harm(
    configure: Configure, abs_command: Abs, local: str, args: str
) -> None:
    configure("", local)
    Path("evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    line = abs_command.refuses(*args.split())
    assert "is not taken from a file of the working folder, which may come from someone else. Put it into " in line
    assert f"{Path.cwd() / 'abs.toml'}, line 2: [" in line
    assert not Path("ran").exists()


def test_what_the_working_folder_sets_is_said(configure: Configure, abs_command: Abs) -> None:
    configure("[lint]\nmin_descriptions = 3\n", "[lint]\nmin-descriptions = 4\nstrict = true\n")
    ran = abs_command("lint", "cat,dog")
    place = Path.cwd() / "abs.toml"
    assert ran.err.splitlines()[0] == f"settings of the working folder, from {place}: strict=true"


def test_the_list_for_working_folders_is_harmless_and_exists() -> None:
    every = dict(commands())
    names = {" ".join(path): command for path, command in every.items()}
    assert names.keys() >= LOCAL_COMMANDS
    assert not LOCAL_OPTIONS & set(DANGEROUS)
    assert (
        not {"gen-descriptions", "demo", "bundle push", "bundle pull", "bundle rewrite", "models pull"} & LOCAL_COMMANDS
    )
    existing = {name for local in LOCAL_COMMANDS for name in option_names(names[local])} | set(option_names(cli))
    assert existing >= LOCAL_OPTIONS
    for name in LOCAL_COMMANDS:
        for option, parameter in option_names(names[name]).items():
            # a path is written, or read as code, unless it is a calibration
            assert option not in LOCAL_OPTIONS or option == "calibration" or not isinstance(parameter.type, click.Path)


def test_the_page_names_the_shared_options() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("- `[defaults]` and ")[2].partition("`model` is not among")[0]
    names = set(re.findall(r"`([a-z-]+)`", section))
    assert names == SHARED_OPTIONS | (set(option_names(cli)) - {"version"})


def test_shared_options_mean_the_same_everywhere() -> None:
    kinds: dict[str, set[str]] = {}
    for _, command in commands():
        for name, option in option_names(command).items():
            kind = f"{type(option.type).__name__} {option.multiple} {getattr(option.type, 'choices', '')}"
            kinds.setdefault(name, set()).add(kind)
    assert kinds.keys() >= SHARED_OPTIONS
    assert {name: kinds[name] for name in SHARED_OPTIONS if len(kinds[name]) > 1} == {}
    assert not SHARED_OPTIONS & set(option_names(cli))


def test_no_two_options_have_one_variable() -> None:
    owners: dict[str, tuple[str, ...]] = {}
    for path, command in [((), cli), *commands()]:
        for name in {id(option): name for name, option in reversed(option_names(command).items())}.values():
            variable = variables_of(path, name)[0]
            assert owners.setdefault(variable, path) == path, variable
    assert "ABS_HOME" in owners
    assert "ABS_CACHE_SIZE" in owners
    assert not any(variable.startswith("ABS_TOKEN_") or variable == "ABS_CONFIG" for variable in owners)


def test_keys_of_json_options_stay_as_they_are() -> None:
    found = {
        name
        for _, command in commands()
        for name, option in option_names(command).items()
        if option.type.name == "json"
    }
    assert found == {"extra-body"}


@pytest.mark.parametrize(
    "args", [("eval", "--help"), ("--help",), ("config", "path"), ("completion", "bash"), ("doctor",)]
)
def test_a_broken_file_does_not_keep_from_help(configure: Configure, abs_command: Abs, args: tuple[str, ...]) -> None:
    configure("[eval\n")
    assert abs_command(*args).code == 0
    assert "own.toml, line 1: not valid TOML" in abs_command.refuses("methods")


def test_no_file_is_read_where_the_variable_says_so(
    configure: Configure, abs_command: Abs, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("", "[nonsense]\n")
    abs_command.refuses("methods")
    monkeypatch.setenv("ABS_CONFIG", os.devnull)
    assert abs_command("methods").code == 0

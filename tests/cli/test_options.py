"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from support import Abs

import abs_cli.commands
from abs_classify.encoding.spaces import Segment, Space, text_id
from abs_cli.options import RenamedOption, choose_label_space, compute_options, open_feature_store
from abs_core.home import Home

COMMANDS = Path(abs_cli.commands.__path__[0])


@click.command()
@click.option("--images", cls=RenamedOption, former=["--photos"], default=60, help="How many.")
def show(images: int) -> None:
    click.echo(images)


@pytest.mark.parametrize(("arguments", "shown"), [([], "60"), (["--images", "3"], "3"), (["--photos", "4"], "4")])
def test_a_former_name_of_an_option_still_works(arguments: list[str], shown: str) -> None:
    assert CliRunner().invoke(show, arguments).output == f"{shown}\n"


def test_help_does_not_show_a_former_name() -> None:
    assert "--images INTEGER" in CliRunner().invoke(show, ["--help"]).output
    assert "photos" not in CliRunner().invoke(show, ["--help"]).output


@pytest.mark.parametrize(
    ("written", "meant"),
    [("fp16", "float16"), ("half", "float16"), ("BF16", "bfloat16"), ("fp32", "float32"), ("float32", "float32")],
)
def test_the_short_names_of_number_types_are_accepted(written: str, meant: str) -> None:
    @click.command()
    @compute_options
    def show_dtype(dtype: str, **_others: object) -> None:
        click.echo(dtype)

    assert CliRunner().invoke(show_dtype, ["--dtype", written]).output == f"{meant}\n"


def test_labels_that_are_no_words_are_warned_about_and_shipped_ones_are_not(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert len(choose_label_space(Home(tmp_path, tmp_path / "cache"), None, "0, 1, cat").names) == 3
    assert caplog.messages == ["the list of labels: 2 class names are numbers; a model knows words only (0, 1)"]
    caplog.clear()
    choose_label_space(Home(tmp_path, tmp_path / "cache"), None, "fgvc-aircraft")
    assert caplog.messages == []


def test_features_keep_to_the_size_and_folders_of_the_user(tmp_path: Path) -> None:
    space, segment = Space("images", 1, {}), Segment(text_id("a"), 0, np.zeros((1, 4), np.float32))
    for size, count in ((0, 0), (float("inf"), 1)):
        home = Home(tmp_path / "home", tmp_path / "cache", size)
        open_feature_store(home).append(space, [segment])
        # another process; this one keeps in memory what the disk has no room for
        store = open_feature_store(home)
        assert (store.root, store.counts(space, [segment.id])) == (tmp_path / "cache", [count])


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.stem)
def test_no_command_opens_the_features_without_the_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "cache=home.cache" not in text
    assert "DiskStore(" not in text


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many", ""])
def test_a_number_of_views_that_is_none_says_what_it_may_be(abs_command: Abs, value: str) -> None:
    ran = abs_command("eval", "--dataset", "demo", "--views", value)
    assert ran.code == 2
    assert f"must be a whole number from 1 on, or adaptive, got {value!r}" in ran.err

"""Parameters in the name of a method: what can be written, what it means, and how it is refused."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest

from abs_classify.methods.class_texts import Sentences, Template
from abs_classify.methods.parameters import find_parameters, parse_name, render_name, split_names
from abs_classify.methods.scoring import CosineToMean, SoftMatch
from abs_classify.methods.table import METHODS, Method, get_method, plan_methods, register, with_parameters
from abs_classify.methods.views import AttentionCrops, FeatureWindows, FullImage, RandomCrops
from abs_core.descriptions import LabelSpace
from abs_core.errors import UnknownNameError, UsageError
from abs_core.labels import ClassLabel, LabelSet

SPACE = LabelSpace.of_labels(LabelSet("pets", (ClassLabel("n1", "cat"), ClassLabel("n2", "dog"))))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("abs-pixels(views=10, temperature=0.05)", "abs-pixels(temperature=0.05,views=10)"),
        (" abs-pixels ( temperature = 5e-2 ,\tviews = +10 ) ", "abs-pixels(temperature=0.05,views=10)"),
        ("abs()", "abs"),
        ("abs(views=50, temperature=.03, guided=TRUE, top_k=None, alignment=reference)", "abs"),
        ("abs(temperature=1.0)", "abs(temperature=1)"),
        ("abs(ratio=(0.50, .9))", "abs(ratio=(0.5,0.9))"),
        ("abs(limit=3,guided=False)", "abs(guided=false,limit=3)"),
        ("clip(template='a {}, (or \"so\")')", 'clip(template="a {}, (or \\"so\\")")'),
        ('clip(template="a \\u00e9 {}")', 'clip(template="a é {}")'),
        ("cupl(fallback=imagenet-80)", "cupl(fallback=imagenet-80)"),
        ("tda(negative_beta=-0.0)", "tda(negative_beta=0)"),
    ],
)
def test_equal_settings_have_one_name(text: str, name: str) -> None:
    method = get_method(text)
    assert method.name == name
    assert get_method(name) == method
    assert pickle.loads(pickle.dumps(method)) == method
    if name == "abs":
        assert method == METHODS["abs"]


def test_parameters_reach_the_parts_of_the_row() -> None:
    method = get_method("abs(views=7,top_k=5,attention_temperature=0.1,temperature=0.2,ratio=(0.3,0.4),limit=2)")
    assert method.views == tuple(kind(7, 5, 0.1, (0.3, 0.4)) for kind in (AttentionCrops, FeatureWindows))
    assert (method.scorer, method.texts) == (SoftMatch(0.2), Sentences(limit=2))
    assert method.summary.endswith(
        "soft matching (attention_temperature 0.1, limit 2, ratio (0.3,0.4), temperature 0.2, top_k 5, views 7)"
    )
    from_python = get_method("abs", views=7, top_k=5, attention_temperature=0.1, temperature=0.2, ratio=(0.3, 0.4))
    assert get_method(from_python.name, limit=2) == with_parameters(from_python, {"limit": 2}) == method
    assert METHODS["abs"].views[0] == AttentionCrops(50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abs(views=10", r"the method 'abs\(views=10' lacks a closing bracket. Write NAME\(parameter=value"),
        ("abs(ratio=(0.1,0.2)", "lacks a closing bracket"),
        ("abs(", "needs the name of a parameter at its end"),
        ("abs)", "has a closing bracket and no opening one"),
        ("abs(views=1)x", "goes on after its closing bracket: 'x'"),
        ("abs(views=1,views=2)", "gives the parameter 'views' twice"),
        ("abs(views=1,)", r"needs the name of a parameter before '\)'"),
        ("abs(views=)", "gives the parameter 'views' no value"),
        ("abs(views)", "gives the parameter 'views' no value: write views=VALUE"),
        ("abs(views=1 2)", r"needs a comma or a closing bracket before '2\)'"),
        ("abs(views=__import__('os'))", "needs a comma or a closing bracket"),
        ("abs(limit='3)", "lacks the closing quote of limit"),
        ('abs(fallback="\\q")', "has a backslash in fallback that stands for nothing"),
        ("abs(tempratur=3)", r"unknown parameter 'tempratur' \(did you mean 'temperature'\?\); valid: views, top_k, "
         "attention_temperature, ratio, alignment, guided, temperature, limit, fallback. See `abs methods abs`"),
        ("clip(views=3)", "unknown parameter 'views'; valid: template. See `abs methods clip`"),
        ("clip-e(views=3)", "unknown parameter 'views'; there are none"),
        ("asb(views=3)", r"unknown method 'asb' \(did you mean 'abs'\?\)"),
        ("abs(views=ten)", "'views' of the method 'abs': views must be a whole number, got 'ten'"),
        ("abs(views=2.5)", "views must be a whole number, got '2.5'"),
        ("abs(views=none)", "views must be a whole number, got 'none'"),
        ("abs(views=(3,4))", r"views must be a whole number, got \(3, 4\)"),
        ("abs(views=0)", "'views' of the method 'abs': count of the view source 'box' must be .* at least 1, got 0"),
        ("abs(views=10001)", "must be at most 10000, got 10001"),
        ("abs(views=" + "9" * 5000 + ")", "views must be a whole number"),
        ("abs(top_k=x)", "top_k must be a whole number or none"),
        ("abs(temperature=nan)", "temperature must be a finite number, got 'nan'"),
        ("abs(temperature=1e999)", "temperature must be a finite number"),
        ("abs(temperature=-1)", "the temperature of soft matching must be at least 1e-06, got -1.0"),
        ("abs(guided=1)", "guided must be true or false, got '1'"),
        ("abs(ratio=0.5)", r"ratio must be a pair \(low, high\) of finite numbers, got '0.5'"),
        ("abs(ratio=(0.1,0.2,0.3))", "ratio must be a pair"),
        ("abs(ratio=(0.9,0.1))", "must satisfy 0 < low <= high <= 1"),
        ("mta(ratio=(0.5,1e9))", "ratio of the view source 'resized' must be 1e-3 <= low <= high <= 1e3"),
        ("awt(rounds=10001)", "the rounds of AWT must be at most 10000, got 10001"),
        ("waffle(count=1001)", "the count of random texts must be at most 1000, got 1001"),
        ("zero(tie_break=mine)", "tie_break must be tied, upstream or tta-vlm, got 'mine'"),
        ('clip(template="\\u001b[31m {}")', "template must be a name, or a printable text in quotes"),
        ('clip(template="\\ud800 {}")', "template must be a name, or a printable text in quotes"),
        ("clip(template=' ')", "template must be a name, or a printable text in quotes, got ' '"),
        ("clip(template=no)", "must have exactly one {}"),
        ("abs(guided=false,top_k=3)", "'top_k' of the method 'abs' changes nothing with guided=false"),
        ("abs-features(alignment=aligned,guided=false)", "'alignment' .* changes nothing with guided=false"),
        ("zero(views=2)", r"'zero' needs at least 4 views, and it has 3. Give 3 or more"),
        ("zero(gamma=0.01)", r"'zero' needs at least 100 views, and it has 64. Give 99 or more"),
        ("mta(views=2)", "'mta' needs at least 5 views, and it has 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_method(text)


@pytest.mark.parametrize("value", [True, 2.5, "ten", (1, 2), [], 10**40, float("nan"), None], ids=str)
def test_a_value_from_python_has_the_type_of_the_parameter(value: Any) -> None:
    with pytest.raises(UsageError, match="views must be a whole number"):
        get_method("abs", views=value)
    if value not in (2.5, 10**40):
        with pytest.raises(UsageError, match="temperature must be a finite number"):
            get_method("abs", temperature=value)


def test_a_parameter_is_given_once() -> None:
    with pytest.raises(UsageError, match="gets the parameter 'views' twice"):
        get_method("abs(views=3)", views=4)
    with pytest.raises(UnknownNameError, match="unknown parameter 'count'"):
        get_method("abs", count=4)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("clip, abs", ["clip", "abs"]),
        ("clip,abs(views=10, ratio=(0.1,0.2)),,wca", ["clip", "abs(views=10, ratio=(0.1,0.2))", "wca"]),
        ("clip(template='a, ) {}'),abs", ["clip(template='a, ) {}')", "abs"]),
        ('clip(template="\\", {}"),abs', ['clip(template="\\", {}")', "abs"]),
        ("it's,abs", ["it's", "abs"]),
        ("clip,abs(views=10,wca", ["clip", "abs(views=10,wca"]),
        ("abs),clip", ["abs)", "clip"]),
        ("clip(template='", ["clip(template='"]),
        ("", []),
    ],
)
def test_a_list_is_split_outside_brackets(text: str, names: list[str]) -> None:
    assert split_names(text) == names


def test_what_is_rendered_is_read_again() -> None:
    values = {"a": "x, (y) \"'\\ =", "b": (0.1, 1e-9), "c": None, "d": True, "e": -3, "f": "plain-1.0"}
    name = render_name("row", values)
    assert name == 'row(a="x, (y) \\"\'\\\\ =",b=(0.1,1e-09),c=none,d=true,e=-3,f=plain-1.0)'
    assert parse_name(name) == (
        "row", {"a": values["a"], "b": ("0.1", "1e-09"), "c": "none", "d": "true", "e": "-3", "f": "plain-1.0"}
    )  # fmt: skip
    assert split_names(f"{name},{name}") == [name, name]


@pytest.mark.usefixtures("clean_table")
def test_a_row_of_ones_own_has_the_parameters_of_its_dataclasses() -> None:
    @dataclass(frozen=True)
    class Inner:
        depth: int = 2

    @dataclass(frozen=True)
    class Blend(CosineToMean):
        template: float = 0.5
        inner: Inner = Inner()
        names: tuple[str, ...] = ()

    own = register(Method("own", "mine", (FullImage(), RandomCrops(9), AttentionCrops(5)), Template(), Blend()))
    assert list(own.parameters) == [
        "views", "ratio", "top_k", "attention_temperature", "alignment", "guided", "template", "inner_depth",
        "texts_template",
    ]  # fmt: skip
    method = get_method("own(views=9,template=1,inner_depth=4,texts_template='{}')")
    assert method.name == 'own(inner_depth=4,template=1,texts_template="{}",views=9)'
    assert [view.count for view in method.views] == [1, 9, 9]
    assert method.scorer == Blend(1.0, Inner(4))
    assert method.texts == Template("{}")
    assert not find_parameters([], object(), Blend)
    with pytest.raises(UsageError, match="has a bracket, a comma, or space around it"):
        register(replace(own, name="own(2)"))


def plan(*methods: str, views: Any = None) -> dict[str, list[int]]:
    planned = plan_methods(methods, SPACE, views, "plain", None, 0).methods
    return {method.name: [view.count for view in method.views] for method in planned}


def test_views_of_a_run_and_of_a_name_agree_or_are_refused() -> None:
    assert plan("wca", "wca(views=7)") == {"wca": [1, 60], "wca(views=7)": [1, 7]}
    assert plan("wca(views=60)", "wca") == {"wca": [1, 60]}
    assert plan("wca(ratio=(0.2,0.3))", views=7) == {"wca(ratio=(0.2,0.3))": [1, 7]}
    assert plan("wca(views=7)", views=7) == {"wca(views=7)": [1, 7]}
    assert plan("abs(views=7)", views="adaptive") == {"abs(views=7)": [7, 7]}
    for name in ("wca(views=7)", "wca(views=60)"):
        with pytest.raises(UsageError, match=r"the method 'wca.*' was given \d+ views, and --views gives it 8"):
            plan(name, views=8)

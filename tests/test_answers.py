"""answers.py: what an answer reads as, what counts as equal, and what must not.

data/answers.jsonl is the specification: for a form that you add, add pairs that are equal and pairs
that are not. data/readings.jsonl shows what the parts of the reader find in a text.
"""
import math
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from helpers import a_second
from hypothesis import HealthCheck, assume, given, settings

import answers as A
from problems import read_jsonl

quick = settings(max_examples=150, suppress_health_check=list(HealthCheck))


# --- pairs ----------------------------------------------------------------------------------------

DATA = Path(__file__).parent / "data"
ROWS = [row for _, row in read_jsonl(DATA / "answers.jsonl")]


@pytest.mark.parametrize("form", dict.fromkeys(row["form"] for row in ROWS))
def test_pairs_are_equal_or_different_both_ways(form):
    wrong = []
    for row in ROWS:
        a, b = row["reference"], row["answer"]
        if row["form"] == form and not (
                A.is_equivalent(a, b) == A.is_equivalent(b, a) == row["equal"]):
            wrong.append(f"{a}   {b}   should be {'equal' if row['equal'] else 'different'}")
    assert not wrong, "\n".join(wrong)


def test_each_pair_is_there_once():
    assert len({tuple(row.values()) for row in ROWS}) == len(ROWS) > 1370


@pytest.mark.parametrize("row", [row for row in ROWS if "step" in row], ids=lambda row: row["step"])
def test_the_step_that_decides(row):
    assert A.compare(row["reference"], row["answer"]).step == row["step"]


# Words that $ signs or a period turn into others, and 3 + 4 j.
ALL_BUT = {r"\text{none}", "all real numbers", r"\text{all real numbers}", "3+4j"}


def test_notation_makes_no_difference():
    for text in {row["reference"] for row in ROWS} - ALL_BUT:
        if A.is_readable(text) and text == A.bare_reference(text) and "$" not in text:
            assert A.is_equivalent(text, f"${text}$") and A.is_equivalent(f"{text}.", text), text


# --- the grammar ----------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", [*A.RULES_BEFORE, *A.ACCENT_RULES, *A.RULES],
                         ids=lambda rule: rule.before)
def test_every_rule_does_what_its_example_says(rule):
    assert rule.pattern.sub(rule.replacement, rule.before) == rule.after
    assert rule.needs in rule.before


# What parts of the reader find in a text, as data/readings.jsonl shows it. read: the kind, and a
# number's unit, a group's brackets, the signs of a relation or of sets.
def kind_and_detail(text):
    value = A.read(text, ",")
    detail = {"number": value.unit, "group": value.shape, "text": ""}
    return [value.kind, detail.get(value.kind, "".join(value.ops))]


def name_and_reals(text):
    name, reals = A.read_reals(A.read(text, ","))
    return [name, str(reals)]


PARTS = {
    "normalize": A.normalize,
    "read": kind_and_detail,
    "expression": lambda text: str(A.read(text, ",").expr),
    "items": lambda text: [str(part.expr) for part in A.read(text, ",").parts],
    "reals": name_and_reals,
    "bare_reference": A.bare_reference,
    "is_readable": A.is_readable,
}


@pytest.mark.parametrize("by", PARTS)
def test_readings(by):
    rows = [row for _, row in read_jsonl(DATA / "readings.jsonl") if row["by"] == by]
    assert rows
    assert [{**row, "found": PARTS[by](row["text"])} for row in rows] == rows


def sketch(tokens):
    """Tokens as a list of texts; a group as (its brackets, the list of what is in it)."""
    texts = []
    for token in tokens:
        texts.append((token.text, sketch(token.inner)) if token.kind == "group" else token.text)
    return texts


@pytest.mark.parametrize("text, tokens", [
    ("2(x+1)", ["2", ("()", ["x", "+", "1"])]),
    ("(1,2]", [("(]", ["1", ",", "2"])]),
    ("|x|", [("||", ["x"])]),
    ("(1", ["(", "1"]),
    ("(|x)", [("()", ["|", "x"])]),
    ("12{,}500.50E3", ["12500.5e3"]),
    ("pi sin x", ["π", "sin", "x"]),
])
def test_tokenize(text, tokens):
    assert sketch(A.tokenize(text)) == tokens


def test_a_function_whose_value_is_text_is_no_crash():
    assert not A.is_equivalent(r"f(x)=\{\text{odd}\}", r"f(z)=\{\text{odd}\}")


def test_a_limit_is_an_exception_or_not_equivalent():
    with pytest.raises(A.LimitExceeded, match="10000 characters"):
        A.normalize("1" * 20_000)
    with pytest.raises(A.LimitExceeded, match="bits"):
        A.compare("5", "9^{9^9}")
    assert not A.is_equivalent("5", "9^{9^9}")


def test_a_long_decimal_is_read():
    assert A.is_equivalent("1." + "0" * 5000, "1") and A.is_equivalent("1", "1." + "0" * 5000)


def test_imports_nothing_of_the_project_and_starts_nothing():
    code = """
import os, sys, threading
import answers
own = [name for name, module in sys.modules.items()
       if os.path.dirname(getattr(module, "__file__", None) or "") == sys.argv[1]]
print(*own, threading.active_count(), "torch" in sys.modules)
"""
    folder = str(Path(A.__file__).parent)
    result = subprocess.run([sys.executable, "-c", code, folder], cwd=folder, text=True,
                            capture_output=True, timeout=60)
    assert result.stdout.split() == ["answers", "1", "False"], result


# --- properties -----------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.integers(0, 99).map(lambda n: ("int", n)),
    st.sampled_from("xyab").map(lambda name: ("var", name)))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), inner, inner),
        st.tuples(st.just("neg"), inner),
        st.tuples(st.just("^"), inner, st.integers(2, 3)),
        st.tuples(st.just("sqrt"), inner)),
    max_leaves=7)


def value(tree, point):
    """The tree as a float; raises where it is undefined or far from one."""
    head, *args = tree
    if head == "int":
        return float(args[0])
    if head == "var":
        return point[args[0]]

    a = value(args[0], point)
    if head == "neg":
        out = -a
    elif head == "sqrt":
        out = math.sqrt(a)
    elif head == "^":
        out = a**args[1]
    else:
        b = value(args[1], point)
        out = {"+": a + b, "-": a - b, "*": a * b}[head] if head != "/" else a / b
    if not abs(out) < 1e12:
        raise ArithmeticError("out of range")
    return out


def latex(tree, frac=r"\frac", times=" ", brackets=("(", ")")):
    head, *args = tree
    if head in ("int", "var"):
        return str(args[0])

    texts = [latex(arg, frac, times, brackets) if isinstance(arg, tuple) else str(arg)
             for arg in args]
    wrapped = [brackets[0] + text + brackets[1] for text in texts]
    if head in ("+", "-"):
        return f"{texts[0]} {head} {wrapped[1]}"
    if head == "*":
        return times.join(wrapped)
    if head == "/":
        return f"{frac}{{{texts[0]}}}{{{texts[1]}}}"
    if head == "neg":
        return f"-{wrapped[0]}"
    if head == "^":
        return f"{wrapped[0]}^{{{texts[1]}}}"
    return rf"\sqrt{{{texts[0]}}}"


def plain(tree):
    head, *args = tree
    if head in ("int", "var"):
        return str(args[0])

    texts = [plain(arg) if isinstance(arg, tuple) else str(arg) for arg in args]
    if head == "neg":
        return f"(-{texts[0]})"
    if head == "sqrt":
        return f"sqrt({texts[0]})"
    return f"({texts[0]}{'**' if head == '^' else head}{texts[1]})"


STYLES = [
    latex,
    lambda tree: latex(tree, r"\dfrac", r" \cdot ", (r"\left(", r"\right)")),
    lambda tree: latex(tree, r"\tfrac", "*"),
    lambda tree: f"${latex(tree, times='×')}$",
    plain,
]
POINTS = [{"x": 0.31, "y": 0.77, "a": 0.53, "b": 0.19},
          {"x": 0.62, "y": 0.11, "a": 0.87, "b": 0.45}]


def defined(tree):
    """The tree's value at each of POINTS; the example is dropped where one is undefined."""
    try:
        return [value(tree, point) for point in POINTS]
    except (ArithmeticError, ValueError):
        assume(False)


@quick
@given(TREES, st.sampled_from(STYLES), st.sampled_from(STYLES))
def test_a_tree_equals_itself_in_every_style(tree, one, other):
    defined(tree)
    assert A.is_equivalent(one(tree), other(tree)), (one(tree), other(tree))


def changed(tree, at):
    """(the tree with another leaf as its number `at`, `at` less the number of its leaves)."""
    head, *args = tree
    if head in ("int", "var"):
        if at != 0:
            return tree, at - 1
        other = args[0] + 1 if head == "int" else {"x": "b", "y": "a", "a": "y", "b": "x"}[args[0]]
        return (head, other), at - 1

    out = [head]
    for arg in args:
        if isinstance(arg, tuple):
            arg, at = changed(arg, at)
        out.append(arg)
    return tuple(out), at


@quick
@given(TREES, st.integers(0, 6), st.sampled_from(STYLES), st.sampled_from(STYLES))
def test_a_changed_tree_is_different(tree, leaf, one, other):
    other_tree, _ = changed(tree, leaf)
    before = defined(tree)
    after = defined(other_tree)
    gaps = [abs(x - y) / max(abs(x), abs(y), 1e-3) for x, y in zip(before, after, strict=True)]
    assume(max(gaps) > 1e-6)
    assert not A.is_equivalent(one(tree), other(other_tree))


MARKS = r"""\vec \bar AB ABC \angle \subset ∪ \boxed{ \\ (C) max( half km
    \frac \sqrt { } ( ) [ ] \{ \} ^ _ 1 2 10 0.5 x y i e \pi + - * / = < \le , ; \text{and}
    or \pm \infty \cup % ^\circ ! | \left( \right) \begin{pmatrix} & \\ \end{pmatrix} dollars
    \boxed{ $ 1,000 \sin \log \binom : ... two hundred per \$ € cm red"""
SEQUENCES = st.lists(st.sampled_from([*MARKS.split(), " ", "\x00", "½", "²"]), max_size=14)
FRAGMENTS = SEQUENCES.map(" ".join) | st.text(max_size=40)


@quick
@given(FRAGMENTS, FRAGMENTS)
def test_symmetric(a, b):
    assert A.is_equivalent(a, b) == A.is_equivalent(b, a)


@quick
@given(FRAGMENTS)
def test_reflexive_if_readable(text):
    """Also by value: the answer is spelled with blanks that the text comparison does not skip."""
    assume(A.is_readable(text) and text == A.bare_reference(text))
    assert A.is_equivalent(text, text)
    assert A.is_equivalent(text, f"${text}$")


# A number in its place: each shape takes any number.
SHAPES = [
    "N", "-N", "N/7", r"\frac{3}{N}", r"\sqrt{N}", r"N\pi", "x^{N}", "N x+y", r"\sin(N x)", "(1,N)",
    "[N,500]", "x < N", "x = N", r"\{1,N\}", "5, N", "|x-N|", r"N\%", r"N^\circ", r"N\text{ cm}",
    r"\$N", "N:7", r"\begin{pmatrix}1&N\\2&3\end{pmatrix}", "y = N x+1", r"\log_2 N", "N!",
    r"(0,1)\cup(1,N)", r"\binom{N}{2}", "e^{N}", r"N\hat{i}+\hat{j}", r"\vec{AB}+N", "1:2:N",
    r"\lfloor N x\rfloor", r"\max(x,N)", r"\text{row N}", "AB=N", "f(x)=N x", "3+N i",
]


@quick
@given(st.sampled_from(SHAPES), st.integers(4, 60), st.integers(4, 60))
def test_a_changed_number_is_never_accepted(shape, number, other):
    assume(number != other)
    left, right = shape.replace("N", str(number)), shape.replace("N", str(other))
    assert A.is_equivalent(left, left.replace("(", r"\left(").replace(")", r"\right)"))
    assert not A.is_equivalent(left, right)


@quick
@given(FRAGMENTS)
def test_normalization_is_idempotent(text):
    once = A.normalize(text)
    assert A.normalize(once) == once


@settings(quick, max_examples=60)
@given(
    st.text(max_size=300).map(lambda part: (part * 60)[:10_000])
    | st.lists(FRAGMENTS, max_size=700).map("".join),
    TREES)
def test_any_text_is_compared_in_bounded_time(text, tree):
    start = time.process_time()
    A.is_equivalent(latex(tree), text[:10_000])
    assert time.process_time() - start < 5 * a_second()

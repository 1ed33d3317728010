"""verify.py: what is read as the answer, what counts as equal, and what happens to hostile text."""

import ast
import json
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

import verify as V

ROOT = Path(V.__file__).resolve().parent
DATA = ROOT.parent / "shared" / "verifier"
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def no_workers_left():
    yield
    V.close_pool()


# --- extraction ---------------------------------------------------------------------------------

EXTRACTED = [
    (r"so \boxed{5}", "5"),
    (r"\boxed {5}", "5"),
    ("\\boxed{\n5\n}", "5"),
    (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
    (r"first \boxed{3}. That was wrong. It is \boxed{4}.", "4"),
    (r"\boxed{1} and \boxed{2}", "1 , 2"),
    (r"$\boxed{1}$, $\boxed{2}$ and $\boxed{3}$", "1 , 2 , 3"),
    (r"\(y_1 = \boxed{x}\) and \(y_2 = \boxed{2x}\)", "x , 2x"),
    (r"<think>\boxed{5}</think> The answer is \boxed{6}.", "6"),
    (r"<think>It is \boxed{5}</think> Done.", "5"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"a row ends\\\boxed{5}", "5"),
    ("The answer is 42.", "42"),
    ("The final answer is $x = 3$. I hope it is correct.", "x = 3"),
    ("so there are 12 of them", "12"),
    ("Thus $y \\geq 2$ follows.", "y \\geq 2"),
    (r"\frac{4}{23}", r"\frac{4}{23}"),
    ("the price fell from $5 to 4 dollars", "4"),
    # nothing to extract: empty, cut off, malformed, a flood of guesses, a fragment
    ("", None),
    (r"\boxed{}", None),
    (r"\boxed{ }", None),
    (r"\boxed{5", None),
    (r"\boxed{{5}", None),
    (r"first \boxed{3}, no: \boxed{4", None),
    (r"\boxed5", None),
    (r"\fbox{5}", None),
    ("boxed{5}", None),
    (r"\\boxed{5}", None),
    (r"\boxed\{5\}", None),
    ("5", None),
    ("$$$$$$5", None),
    ("no number here", None),
    (" ".join(rf"\boxed{{{n}}}" for n in range(100)), None),
]


@pytest.mark.parametrize("response, answer", EXTRACTED)
def test_extract(response, answer):
    assert V.extract_answer(response) == answer


def test_extraction_is_linear_in_the_length():
    start = time.perf_counter()
    assert V.extract_answer("word " * 200_000 + r"\boxed{5}") == "5"
    for text in ("$" * 200_000, "{" * 200_000, r"\boxed{" * 20_000, r"\boxed{1} and " * 20_000):
        V.extract_answer(text)
    assert time.perf_counter() - start < 5


# --- equivalence --------------------------------------------------------------------------------

EQUAL = [
    # integers, separators, decimals, scientific notation, number words
    ("7425000", "7,425,000"),
    ("14916", "14{,}916"),
    ("10080", r"10,\!080"),
    ("98721", r"98\,721"),
    ("61328", "61 328"),
    ("1000.0", "1,000.0"),
    ("0.4", ".4"),
    ("5", "5.0"),
    ("5", "5."),
    ("9.35e5", "935000"),
    ("9E11", r"9 \times 10^{11}"),
    ("5.89e-7", "0.000000589"),
    ("1625", "one thousand six hundred twenty-five"),
    ("105", "one hundred and five"),
    ("21", r"\text{twenty-one}"),
    ("3", "third"),
    ("12", r"12^{\mathrm{th}}"),
    ("1." + "0" * 5000, "1"),
    ("17", r"\mathbf{17}"),
    ("45", r"\text{45}"),
    ("-900", "$-900$"),
    # fractions, mixed numbers, percent, degrees, currency, units
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\tfrac{10}{20}", "½"),
    (r"-\frac{3}{2}", r"\frac{-3}{2}"),
    (r"{49 \over 3}", r"\frac{49}{3}"),
    (r"141\frac{3}{4}", r"\frac{567}{4}"),
    ("1 1/4", "5/4"),
    (r"8\frac47", "60/7"),
    (r"28\%", "28%"),
    (r"28\%", r"28\text{ percent}"),
    ("62.5%", r"\frac58"),
    ("20", r"20\%"),
    (r"135^\circ", r"\frac{3\pi}{4}"),
    ("90", r"90^{\circ}"),
    ("52°", r"52\text{ degrees}"),
    (r"\$32,\!348", "32348"),
    (r"\$18.90", "18.9 dollars"),
    (r"\text{\$}0.50", r"\$0.5"),
    (r"15\mbox{ cm}^2", "15"),
    ("125 miles", r"125\textnormal{ miles}"),
    ("5.4 cents", "5.4cents"),
    ("5:8", r"\frac58"),
    ("3:1", r"3 \text{ to } 1"),
    # radicals, powers, logs, trig, factorials, binomials, constants, complex numbers
    (r"3\sqrt{13}", "3*sqrt(13)"),
    (r"\sqrt{720}", r"12\sqrt5"),
    (r"\frac{15}{4\sqrt5}", r"\frac{3\sqrt5}{4}"),
    (r"2^{-2/3}", r"\frac{1}{\sqrt[3]{4}}"),
    (r"\sqrt[3]{-8}", "-2"),
    ("3^{2007}", r"3 \cdot 3^{2006}"),
    (r"\frac{\log 2}{\log 2-\log 3}", r"-\frac{\ln 2}{\ln 3-\ln 2}"),
    (r"\log_{10} 2", r"\lg 2"),
    (r"\sin^2 x", r"1 - \cos^2 x"),
    (r"2\arcsin\sqrt{a}", r"\arccos(1-2a)"),
    (r"\sin 2x", r"2 \sin x \cos x"),
    ("24", "4!"),
    (r"\frac{d!}{2k(d-k)!}", r"\frac{\binom{d}{k}(k-1)!}{2}"),
    ("49π", r"49\pi"),
    ("18+2pi", r"18+2\pi"),
    ("2+7i", r"7\mathrm{i}+2"),
    ("e^2", r"\text{e}^2"),
    ("√2", r"\sqrt{2}"),
    ("x²", "x^2"),
    ("2", "|3-5|"),
    (r"\left|x\right|", "|-x|"),
    (r"\frac13", r"0.\overline{3}"),
    ("10", r"{5 \choose 2}"),
    ("2i", r"\sqrt{-4}"),
    # expressions
    ("(a+5)(b+2)", "ab+2a+5b+10"),
    (r"\frac{11+9a}{20}", r"\frac{9a+11}{20}"),
    ("2^{k-1}", r"\frac{2^k}{2}"),
    (r"\sqrt{a^2b^2+b^2c^2}", r"\sqrt{b^2(a^2+c^2)}"),
    (r"\cotx", r"\cot x"),
    (r"\lceil n/2 \rceil+1", "⌈n/2⌉ + 1"),
    # names and equations
    ("5", "x = 5"),
    ("9", "9 = a"),
    ("f(x)=2x", "f(z)=2z"),
    ("f(x)=1", "1"),
    ("y=-8(x-3)", "-8x+24"),
    ("AB=4", "4"),
    ("m_{\\max}=n^2-n", "n^2-n"),
    ("x^2/4+y^2/3=1", "3x^2+4y^2=12"),
    ("y=x+3", "2x-2y+6=0"),
    ("2", r"\sqrt4 = 2"),
    (r"\frac12", r"\frac12 = 0.5"),
    (r"\frac{505}{8076}", r"\frac{505}{8076} \approx 0.062"),
    ("xy=6", "6/x"),
    (r"x=k\pi", r"n\pi"),
    ("x=y=z=2", "2"),
    ("f(x)=-1", r"f(x) = -1 \text{ for all } x \in \mathbb{Z}"),
    # lists, sets, tuples, matrices
    ("1,-2", "-2, 1"),
    ("3,4", "p=3, q=4"),
    ("4,-4", r"\pm 4"),
    (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"),
    ("5,15", r"5 \text{ and } 15"),
    ("1;2", r"\{2, 1\}"),
    ("004, 004", "4"),
    ("x=2, x=3", "2 or 3"),
    ("(1,2)", r"\left(1,\ 2\right)"),
    ("(7,6)", "x = 7, y = 6"),
    ("(p,q)=(3,2)", "(3,2)"),
    ("(0;1)", "(0, 1)"),
    (r"\begin{pmatrix}1/5\\2\end{pmatrix}", r"\begin{bmatrix}0.2\\2\end{bmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
    (r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("1, 2, ..., 5", "1,2,3,4,5"),
    ("12,13", "12 $ and $13 "),
    # sets of reals
    (r"(-\infty,-5)", "k < -5"),
    ("(3,4]", r"3 < \lambda \leq 4"),
    (r"\{x | x<3\} - \{1\}", r"(-\infty,1)\cup(1,3)"),
    (r"(0,36)\setminus\{9\}", r"(9,36)\cup(0,9)"),
    ("a<=-2 or a=1", r"(-\infty,-2]\cup\{1\}"),
    ("x≠2", r"x \neq 2"),
    (r"x \in [0,3]", r"\{t : 0 \le t \le 3\}"),
    ("2≤x", r"x \ge 2"),
    (r"[0,\sqrt{8}]", r"[0,2\sqrt2]"),
    # text, choices, bases
    (r"\text{(B)}", "B"),
    ("B.", r"\mathrm{B}"),
    (r"\text{Saturday}", r"\textbf{saturday}"),
    ("25_6", "(25)_{6}"),
    (r"141_{13}", r"141_{\text{thirteen}}"),
    ("odd", "The function is odd."),
    ("f'", "f'"),
    ("nobody", "Nobody"),
    # decimals that stand for what rounds to them
    ("30.52", r"\frac{1587}{52}"),
    ("0.6666667", "2/3"),
    (r"\sqrt2", "1.41421356"),
]
DIFFERENT = [
    (r"\sqrt{10001}", r"\frac{20001}{200}"),
    ("x^2", "x^2+10^{-9}"),
    (r"\frac{9}{17}", "0.529"),
    (r"\frac{6}{11}", "0.5455"),
    ("4,4", "4,4,4"),
    ("1,1,2", "1,2,2,2"),
    ("3", "3 hundred"),
    ("6 feet 2 inches", "6 feet"),
    ("5", "5.001"),
    ("1/2^{99}", "1/2^{98}"),
    ("1000!", "1000!+1"),
    ("2196", "2916"),
    ("28", "0.28"),
    ("31.5", "31"),
    (r"\frac{25}{2}", "121/2"),
    ("0.28%", "28%"),
    ("45°", r"\frac{5\pi}{12}"),
    ("85 feet", "85 inches"),
    ("312 dollars", "312 cents"),
    ("25_6", "25_{10}"),
    ("25_6", "17"),
    ("25_6", "25"),
    ("1:2", "2:1"),
    ("2+7i", "7+2i"),
    ("-1", "i^2"),
    ("284", "284x"),
    ("f(x)", "f(y)"),
    ("x=5", "x>5"),
    ("k=1", r"k\neq1"),
    ("a+3z=0", "0"),
    ("x+y=1", "1"),
    ("x=5", "x=x"),
    ("y=2x+3", "y=y"),
    ("y=2x+3", "0=0"),
    ("7", "5 = 7"),
    ("7", "7 = 5"),
    ("N=n", "2N-2n-3=0"),
    ("x", "y"),
    ("f(x)=x", "f(x)=x+1"),
    ("a=1, b=2", "a=2, b=1"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "(1,2,3)"),
    ("[0,9)", "(0,9)"),
    (r"(5,\infty)", r"x \in \mathbb{R}"),
    (r"(5,\infty)", "x>=5"),
    ("x<3", "y<3"),
    ("1,2,3", "1,2"),
    ("1,1,2,2", "1,2,2,2"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ("odd", "oddd"),
    ("A", "B"),
    ("Saturday", "not Saturday"),
    ("E", "E*2"),
    ("nan", "nan"),
    (r"\infty", r"\frac10"),
    ("0", "0/0"),
    (r"\infty", r"-\infty"),
    (r"\frac{8}{17}", "0.4705"),
    (r"\sqrt{130}", "11.40"),
    ("7.78", "7.7"),
    ("0.112", "0.11"),
    # digits of other scripts, control characters, look-alikes
    ("5", "５"),
    ("5", "٥"),
    ("2", "²"),
    ("1", "①"),
    ("5", "\u202e5"),
    ("5", "Ⅴ"),
    ("5", "\x005"),
    ("5", "𝟓"),
]


@pytest.mark.parametrize("a, b", EQUAL)
def test_equal_both_ways(a, b):
    assert V.is_equivalent(a, b) and V.is_equivalent(b, a)


@pytest.mark.parametrize("a, b", DIFFERENT)
def test_different_both_ways(a, b):
    assert not V.is_equivalent(a, b) and not V.is_equivalent(b, a)


def test_paper_table_10():
    """Answers on which the paper's verifiers disagree; all are right."""
    pairs = [
        ("f(x) = 2x", r"\boxed{f(x) = 2x}"),
        (
            "(6,3),(9,3),(9,5),(54,5)",
            r"\boxed{(6,3)}, \boxed{(9,3)}, \boxed{(9,5)}, \boxed{(54,5)}",
        ),
        ("10,...,14,-2,...,2", r"\boxed{-2,-1,0,1,2} and \boxed{10,11,12,13,14}"),
        ("(1,7,103,105),(3,5,101,107)", r"are \boxed {(3,5,101,107)} and \boxed {(1,7,103,105)}"),
    ]
    for reference, response in pairs:
        assert V.verify(response, reference).correct, reference


@pytest.mark.parametrize(
    "phrase, number",
    [
        ("a dozen and one", 13),
        ("one short of seven", 6),
        ("one short of seven", 1),
        ("one short of seven", 7),
        ("quarter past two", 2),
        ("twice four", 8),
        ("twice four", 4),
        ("half a dozen", 6),
        ("a dozen and one", 1),
        ("the smaller root, two", 2),
        ("three score", 60),
        ("three score", 3),
        ("one third", 4),
        ("half of nine", 9),
    ],
)
def test_phrases_stay_text(phrase, number):
    """Plain cardinals and ordinals are read as numbers, phrases that need the language are not."""
    assert not V.is_equivalent(str(number), phrase)


@pytest.mark.parametrize(
    "reference, response",
    [
        ("1", r"\boxed{1} \boxed{2}"),
        ("2", r"The answer is \boxed{1} or \boxed{2}."),
        ("3", r"\boxed{1,2,3,4,5}"),
        ("1", r"\boxed{1 \text{ or } 2}"),
        ("3", r"\boxed{\{3, 4\}}"),
        ("3", r"\boxed{\pm 3}"),
        ("7", r"\boxed{\text{not } 7}"),
        ("7", r"\boxed{7 \text{ (or possibly } 8)}"),
        ("7", r"\boxed{7 \text{ is wrong}}"),
        ("A", r"\boxed{\text{A or B}}"),
        ("B", r"\boxed{ABCDE}"),
        ("5", r"\boxed{x \in \mathbb{R}}"),
        ("5", r"\boxed{\text{the answer is }\boxed{5}}"),
        ("5", "I could not solve it, but the possible answers are 1, 2, 3, 4, 5."),
        ("5", r"\boxed{5 or True}"),
        ("5", r"\boxed{\text{same as the reference answer}}"),
        ("5", r"\boxed{?}"),
        ("5", r"\boxed{,}"),
        ("5", r"\boxed{\{\}}"),
        ("5", r"\boxed{\text{}}"),
        ("1", r"\boxed{nan}"),
        (r"\text{(C)}", r"\boxed{B, C}"),
    ],
)
def test_hedges_and_fillers_get_nothing(reference, response):
    assert not V.verify(response, reference).correct


def test_reasons():
    assert V.verify(r"\boxed{5}", "5") == (True, "5", "correct")
    assert V.verify(r"\boxed{6}", "5") == (False, "6", "wrong")
    assert V.verify("", "5") == (False, None, "no_answer")
    assert V.verify(r"\boxed{\text{who knows}}", "5").reason == "unparsed"
    assert V.verify(r"\boxed{9^{9^{9}}}", "5").reason == "too_large"
    assert V.verify(r"\boxed{9^{9^{9}}}", "9^{9^{9}}").reason == "correct"  # the same text


BOMBS = [
    "9**9**9**9",
    "9^{9^{9^9}}",
    "(10^8)!",
    "((9!)!)!",
    r"\binom{10^9}{5\cdot 10^8}",
    r"\sqrt[10^9]{10^{10^9}}",
    "1E1000000000",
    "0.1^{10^9}",
    "e^{e^{e^{e^e}}}",
    r"\sin(9^{9^9})",
    r"\cos(e^{e^{e^{e}}})",
    r"\pi^{\pi^{\pi^\pi}}",
    "(x+1)^{100000}",
    "(9x)^{9^9}",
    r"(2\sqrt{3})^{9^9}",
    "2^{x} 2^{9^9-x}",
    r"\binom{e}{10^9}",
    r"\lfloor e^{100000} \rfloor",
    r"(\sqrt2+\sqrt3)^{200}",
    r"\sum_{i=1}^{10^{10}} i",
    r"\gcd(10^{10^8},3)",
    "9" * 9_000,
    "0." + "0" * 20_000 + "1",
    "1, ..., 999999999",
    "(" * 5000 + "1" + ")" * 5000,
    r"\frac" * 2500,
    r"\sqrt" * 2500 + "2",
    "1+" * 4900 + "1",
    "x+" * 4900 + "x",
    "2^" * 4900 + "2",
    "-" * 9000 + "1",
    "|" * 5000,
    "=" * 5000,
    "x" * 9999,
    "x^{-1}" * 1500,
    "1," * 4900 + "1",
    r"\pm" * 3000 + "1",
    r"\pm 1 " * 300,
    "a_" * 4000,
    "x!" + "!" * 4000,
    "{" * 9000,
    r"\text{" * 1500,
    '"' * 5000,
    "a:" * 4000,
    "(1,2)," * 1600,
    "1<x," * 2400,
    r"\{1\}\cup" * 1000 + "x",
    "[1,2)" * 2000,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: f"{bomb[:16]}-{len(bomb)}")
@pytest.mark.parametrize("reference", ["7", r"\frac{1}{3}", "x+1", "(-3, 2]"])
def test_bombs_end_at_once(bomb, reference):
    start = time.perf_counter()
    assert not V.is_equivalent(reference, bomb)
    assert time.perf_counter() - start < 2


PAYLOADS = [
    "__import__('os').system('touch canary')",
    "open('canary','w')",
    "exec(\"open('canary','w')\")",
    "sympify(\"open('canary','w')\")",
    "[x for x in [open('canary','w')]]",
    r"\text{open('canary','w')}",
    r"\frac{open('canary','w')}{1}",
    "(lambda: open('canary','w'))()",
    "x.__class__.__mro__",
    "{open('canary','w')}",
    r"\sqrt{__import__('pathlib').Path('canary').touch()}",
    "Symbol(open('canary','w'))",
    "$(touch canary)",
    "`touch canary`",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_is_executed(payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not V.verify(rf"\boxed{{{payload}}}", "1").correct
    V.verify(payload, payload)
    assert not list(tmp_path.iterdir())


def test_source_has_no_way_to_execute_text():
    banned = {
        "eval",
        "exec",
        "compile",
        "sympify",
        "parse_expr",
        "simplify",
        "lambdify",
        "getattr",
        "setattr",
        "globals",
        "vars",
        "__import__",
        "S",
        "parse_latex",
        "nsimplify",
    }
    for node in ast.walk(ast.parse(Path(V.__file__).read_text())):
        if isinstance(node, ast.Call):
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            own = (
                isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "re"
            )
            assert own or called not in banned, f"line {node.lineno}: {called}"


# --- properties ---------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.integers(0, 99).map(lambda n: ("int", n)), st.sampled_from("xyab").map(lambda v: ("var", v))
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), inner, inner),
        st.tuples(st.just("neg"), inner),
        st.tuples(st.just("^"), inner, st.integers(2, 3)),
        st.tuples(st.just("sqrt"), inner),
    ),
    max_leaves=7,
)


def value(tree, point):
    """The tree as a float; raises where it is undefined or far from one."""
    head, *args = tree
    if head in ("int", "var"):
        return float(args[0]) if head == "int" else point[args[0]]
    a = value(args[0], point)
    b = args[1] if head == "^" else value(args[1], point) if len(args) > 1 else None
    out = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "/": lambda: a / b,
        "neg": lambda: -a,
        "^": lambda: a**b,
        "sqrt": lambda: math.sqrt(a),
    }[head]()
    if not abs(out) < 1e12:
        raise ArithmeticError("out of range")
    return out


def latex(tree, frac=r"\frac", times=" ", brackets=("(", ")")):
    head, *args = tree
    if head in ("int", "var"):
        return str(args[0])
    texts = [
        latex(arg, frac, times, brackets) if isinstance(arg, tuple) else str(arg) for arg in args
    ]
    wrapped = [f"{brackets[0]}{text}{brackets[1]}" for text in texts]
    return {
        "+": lambda: f"{texts[0]} + {wrapped[1]}",
        "-": lambda: f"{texts[0]} - {wrapped[1]}",
        "*": lambda: times.join(wrapped),
        "/": lambda: f"{frac}{{{texts[0]}}}{{{texts[1]}}}",
        "neg": lambda: f"-{wrapped[0]}",
        "^": lambda: f"{wrapped[0]}^{{{texts[1]}}}",
        "sqrt": lambda: rf"\sqrt{{{texts[0]}}}",
    }[head]()


def plain(tree):
    head, *args = tree
    if head in ("int", "var"):
        return str(args[0])
    texts = [plain(arg) if isinstance(arg, tuple) else str(arg) for arg in args]
    return (
        f"(-{texts[0]})"
        if head == "neg"
        else f"sqrt({texts[0]})"
        if head == "sqrt"
        else (f"({texts[0]}{'**' if head == '^' else head}{texts[1]})")
    )


STYLES = [
    latex,
    lambda t: latex(t, r"\dfrac", r" \cdot ", (r"\left(", r"\right)")),
    lambda t: latex(t, r"\tfrac", "*"),
    lambda t: f"${latex(t, times=chr(215))}$",
    plain,
]
POINTS = [
    dict(zip("xyab", point, strict=True))
    for point in ((0.31, 0.77, 0.53, 0.19), (0.62, 0.11, 0.87, 0.45))
]


def defined(tree):
    try:
        return [value(tree, point) for point in POINTS]
    except (ArithmeticError, ValueError):
        assume(False)


@quick
@given(TREES, st.sampled_from(STYLES), st.sampled_from(STYLES))
def test_a_tree_equals_itself_in_every_style(tree, one, other):
    defined(tree)
    assert V.is_equivalent(one(tree), other(tree)), (one(tree), other(tree))


def changed(tree, at):
    """The tree with its leaf number `at` made another; and how many leaves there were before it."""
    head, *args = tree
    if head in ("int", "var"):
        return (
            ("int", args[0] + 1) if head == "int" else ("var", "xyab"["yxba".index(args[0])])
        ) if at == 0 else tree, at - 1
    out = [head]
    for arg in args:
        if isinstance(arg, tuple):
            arg, at = changed(arg, at)
        out.append(arg)
    return tuple(out), at


@quick
@given(TREES, st.integers(0, 6), st.sampled_from(STYLES), st.sampled_from(STYLES))
def test_a_changed_tree_is_different(tree, leaf, one, other):
    before, after = defined(tree), defined(changed(tree, leaf)[0])
    assume(
        any(
            abs(x - y) > 1e-6 * max(abs(x), abs(y), 1e-3)
            for x, y in zip(before, after, strict=True)
        )
    )
    assert not V.is_equivalent(one(tree), other(changed(tree, leaf)[0]))


MARKS = r"""\frac \sqrt { } ( ) [ ] \{ \} ^ _ 1 2 10 0.5 x y i e \pi + - * / = < \le , ; \text{and}
    or \pm \infty \cup % ^\circ ! | \left( \right) \begin{pmatrix} & \\ \end{pmatrix} dollars
    \boxed{ $ 1,000 \sin \log \binom : ... two hundred"""
FRAGMENTS = st.lists(st.sampled_from([*MARKS.split(), " ", "\x00", "½", "²"]), max_size=14).map(
    " ".join
) | st.text(max_size=40)


@quick
@given(FRAGMENTS, FRAGMENTS)
def test_symmetric(a, b):
    assert V.is_equivalent(a, b) == V.is_equivalent(b, a)


@quick
@given(FRAGMENTS)
def test_normalisation_is_idempotent(text):
    once = V.normalise(text)
    assert V.normalise(once) == once


@settings(quick, max_examples=60)
@given(
    st.text(max_size=300).map(lambda part: (part * 60)[:10_000])
    | st.lists(FRAGMENTS, max_size=700).map("".join),
    TREES,
)
def test_any_text_gets_a_verdict(text, tree):
    start = time.perf_counter()
    for response in (text[:10_000], rf"\boxed{{{text[:9_000]}}}"):
        verdict = V.verify(response, latex(tree))
        assert verdict.reason in V.REASONS and verdict.correct == (verdict.reason == "correct")
    assert time.perf_counter() - start < 5


# --- workers ------------------------------------------------------------------------------------

ROWS = [(rf"so \boxed{{{n}}}", str(n if n % 3 else n + 1)) for n in range(100)]


def test_verify_all_is_verify_in_order():
    responses, references = zip(*ROWS, strict=True)
    expected = [V.verify(*row) for row in ROWS]
    assert (
        V.verify_all(responses, references)
        == expected
        == V.verify_all(responses, references, workers=0)
    )
    assert [verdict.correct for verdict in expected] == [bool(n % 3) for n in range(100)]
    assert V.verify_all([], []) == []
    with pytest.raises(ValueError, match="2 responses but 1 references"):
        V.verify_all(["a", "b"], ["a"])


def test_workers_stay_alive_between_calls():
    V.verify_all(*zip(*ROWS, strict=True))
    before = [worker.pid for worker in V._pool]
    start = time.perf_counter()
    for _ in range(20):
        assert V.verify_all([r"\boxed{1}"], ["1"])[0].correct
    assert time.perf_counter() - start < 2 and [worker.pid for worker in V._pool] == before


def test_bombs_and_payloads_on_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    V.close_pool()  # so that the workers are started here, where a file would appear
    rows = [(rf"\boxed{{{text}}}", "7") for text in BOMBS + PAYLOADS] + [(r"\boxed{7}", "7")] * 5
    verdicts = V.verify_all(*zip(*rows, strict=True))
    assert [verdict.correct for verdict in verdicts] == [False] * (len(rows) - 5) + [True] * 5
    assert not list(tmp_path.iterdir())
    V.close_pool()


# What a worker does to these responses stands for a fault in verify.py: a loop, a loop in C that
# never lets Python run, a death, and too much memory.
FAULTY = """
    import os, sys, time
    sys.path.insert(0, {root!r})
    import verify
    sound = verify.verify
    def faulty(response, reference):
        if response == "loop":
            while True: pass
        if response == "loop in C": 3 ** (3 ** 19)
        if response == "sleep": time.sleep(100)
        if response == "die": os._exit(3)
        if response == "eat": bytearray(8 << 30)
        if response == "raise": raise KeyError(response)
        return sound(response, reference)
    verify.verify = faulty
    verify.worker_main(float({timeout!r}))
"""


@pytest.fixture
def faulty_workers(monkeypatch):
    def spawn(timeout):
        code = textwrap.dedent(FAULTY.format(root=str(ROOT), timeout=timeout))
        return subprocess.Popen(
            [sys.executable, "-c", code],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    V.close_pool()
    monkeypatch.setattr(V, "spawn", spawn)
    yield
    V.close_pool()


def test_a_hung_worker_is_killed_and_nobody_else_suffers(faulty_workers):
    V.verify_all(["warm", "up"], ["1", "1"], timeout=1.0)
    faults = {10: "loop", 30: "loop in C", 31: "sleep", 55: "die", 80: "eat", 90: "raise"}
    responses = [faults.get(n, rf"\boxed{{{n}}}") for n in range(100)]
    references = [str(n) for n in range(100)]
    start = time.perf_counter()
    verdicts = V.verify_all(responses, references, timeout=1.0)
    reasons = {n: verdict.reason for n, verdict in enumerate(verdicts) if not verdict.correct}
    assert reasons == {
        10: "timeout",
        30: "timeout",
        31: "timeout",
        55: "too_large",
        80: "too_large",
        90: "unparsed",
    }
    assert time.perf_counter() - start < 15
    assert all(
        verdict.correct for verdict in V.verify_all(references, references, timeout=1.0)[10:]
    )


def test_a_hang_ends_within_its_timeout_plus_one_second(faulty_workers):
    V.verify_all(["warm"], ["1"], timeout=1.0, workers=1)
    start = time.perf_counter()
    assert V.verify_all(["loop"], ["1"], timeout=1.0, workers=1) == [(False, None, "timeout")]
    assert time.perf_counter() - start < 2


def test_a_worker_that_cannot_start_is_an_error(monkeypatch):
    """Silence here would be a reward of 0 for every row."""
    V.close_pool()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    broken = [sys.executable, "-c", "import no_such_module"]
    with monkeypatch.context() as patch:
        patch.setattr(V, "spawn", lambda timeout: subprocess.Popen(broken, text=True, **pipes))
        with pytest.raises(RuntimeError, match="import no_such_module"):
            V.verify_all(["a"] * 9, ["b"] * 9)
    assert V.verify_all([r"\boxed{1}"] * 9, ["1"] * 9)[8].correct


def test_from_threads():
    results = {}

    def call(name):
        results[name] = V.verify_all([rf"\boxed{{{name}}}"] * 20, [str(name)] * 20)

    threads = [threading.Thread(target=call, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(verdict.correct for name in range(4) for verdict in results[name])


def script(code, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        **kwargs,
    )


def gone(pid, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_workers_die_with_a_parent_that_is_killed(busy):
    parent = script(f"""
        import subprocess, sys, threading, verify
        verify.verify_all([r"\\boxed{{1}}"] * 9, ["1"] * 9, timeout=1.0)
        print(*[worker.pid for worker in verify._pool], flush=True)
        if {busy}:      # a worker that sleeps in the middle of a row
            verify._pool[0].stdin.write('[["' + "x" * 10)
            verify._pool[0].stdin.flush()
        threading.Event().wait()
    """)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.communicate()
    assert all(gone(pid) for pid in pids)


def test_workers_end_with_their_parent_and_a_fork_has_its_own():
    parent = script("""
        import os, verify
        rows = [r"\\boxed{1}"] * 9, ["1"] * 9
        assert all(verdict.correct for verdict in verify.verify_all(*rows))
        if os.fork() == 0:
            assert all(verdict.correct for verdict in verify.verify_all(*rows))
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        assert all(verdict.correct for verdict in verify.verify_all(*rows))
        print(*[worker.pid for worker in verify._pool])
    """)
    out, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0 and all(gone(int(pid)) for pid in out.split())


def test_import_is_light_and_the_callers_script_runs_once(tmp_path):
    user = tmp_path / "user.py"  # no `if __name__ == "__main__"`, as in a notebook
    user.write_text(
        textwrap.dedent(f"""
        import sys, threading, time
        sys.path.insert(0, {str(ROOT)!r})
        start = time.perf_counter()
        import verify
        took = time.perf_counter() - start
        print(took, "torch" in sys.modules, threading.active_count(), len(verify._pool))
        print(verify.verify_all([r"\\boxed{{1}}"] * 9, ["1"] * 9)[0].correct)
    """)
    )
    out = subprocess.run(
        [sys.executable, user], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    lines = out.stdout.splitlines()
    assert out.returncode == 0 and len(lines) == 2 and lines[1] == "True", out
    assert lines[0].split()[1:] == ["False", "1", "0"] and float(lines[0].split()[0]) < 3


# --- the command line, and the labelled pairs -----------------------------------------------------


def command(*args):
    out = subprocess.run(
        [sys.executable, ROOT / "verify.py", *args], capture_output=True, text=True, timeout=120
    )
    return out.returncode, out.stdout


def test_command_line(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"id": "a", "source": "one", "gold": "5", "response": r"\boxed{5}", "label": True},
        {"id": "b", "source": "one", "gold": "5", "response": r"\boxed{6}", "label": True},
        {"id": "c", "source": "two", "gold": "5", "response": r"\boxed{6}", "label": False},
    ]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    code, out = command(str(pairs), "--errors")
    assert code == 0 and "~ all" in out and "correct 1, wrong 2" in out
    assert out.splitlines()[-1] == "b labelled True, wrong: reference '5', answer '6'"
    code, out = command("--reference", "(1,2]", "--response", r"\boxed{1 < x \le 2}")
    assert code == 0 and "same set of reals" in out and out.splitlines()[-1] == "verdict:   correct"


def rates(name, keep):
    path = DATA / f"{name}_dev.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not beside this checkout")
    rows = [row for row in map(json.loads, path.read_text().splitlines()) if keep(row)]
    verdicts = V.verify_all(
        [row["response"] for row in rows], [row["gold"] for row in rows], workers=0
    )
    right = [verdict.correct for verdict, row in zip(verdicts, rows, strict=True) if row["label"]]
    wrong = [
        verdict.correct for verdict, row in zip(verdicts, rows, strict=True) if not row["label"]
    ]
    return sum(right) / max(1, len(right)), sum(wrong) / max(1, len(wrong))


@pytest.mark.parametrize(
    "name, keep, recall, false_positives",
    [
        ("public_pairs", lambda row: row["boxed"] and not row["convention"], 0.95, 0.007),
        (
            "public_pairs",
            lambda row: (
                row["boxed"] and not row["convention"] and row["source"] != "hardverify_math"
            ),
            0.98,
            0.005,
        ),
        (
            "public_pairs",
            lambda row: row["source"] == "hardverify_math" and row["cls"] == "exact",
            0.95,
            0,
        ),
        ("public_pairs", lambda row: row["source"] == "hardverify_math", 0.75, 0.008),
        ("public_pairs", lambda row: not row["boxed"], 0.93, 0),
        ("generated_pairs", lambda row: True, 0.98, 0.005),
        ("adversarial", lambda row: True, 1, 0),
    ],
)
def test_labelled_pairs(name, keep, recall, false_positives):
    measured = rates(name, keep)
    assert measured[0] >= recall and measured[1] <= false_positives, measured


def test_labelled_pairs_are_symmetric():
    path = DATA / "public_pairs_dev.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not beside this checkout")
    for row in map(json.loads, path.read_text().splitlines()):
        answer = V.extract_answer(row["response"])
        if answer is not None:
            assert V.is_equivalent(row["gold"], answer) == V.is_equivalent(answer, row["gold"]), (
                row["id"]
            )


@pytest.mark.skipif("CI" in os.environ, reason="a speed is no test of a shared machine")
def test_fast_on_ordinary_rollouts():
    rows = ROWS * 20
    V.verify_all(*zip(*ROWS, strict=True))
    start = time.perf_counter()
    V.verify_all(*zip(*rows, strict=True))
    assert len(rows) / (time.perf_counter() - start) > 1000

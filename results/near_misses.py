r"""An adversary of the verifier: answers that are almost right, made by program.

    python results/near_misses.py                       the built-in references
    python results/near_misses.py FOLDER                and every answer in FOLDER's *.jsonl files
    python results/near_misses.py FOLDER --before DIR   beside an older checkout's answers.py

Each mutation makes wrong answers from a right one: \vec{BA} from \vec{AB}, (1,3) from (1,2),
5 feet from 5 meters. A verifier that accepts one of them is wrong. Other functions write the right
answer in another way, \dfrac for \frac or with blanks; a verifier that rejects one of these is
wrong, too, as is one that is not symmetric or rejects the reference itself.

FOLDER holds JSON lines with the key "answer", or "gold"; the committed page was measured on samples
of public benchmarks that are not in this repository. Writes near_misses.md beside this file.

That a mutated answer is really different is checked here, and not by the verifier: formulas are
read by a second, small evaluator and differ at sample points; sets of reals differ at a point;
other mutations are limited to forms in which the change cannot be harmless. What is in doubt gives
no pair: constants of integration, families such as x + k\pi, whatever the evaluator cannot read.

To add a mutation: write a function that yields the changed texts, with "before  ->  after" as the
first line of its docstring, which is its test, and an entry in MUTATIONS.
"""
from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mpmath

HERE = Path(__file__).resolve().parent

# One of every form that answers of benchmarks have.
REFERENCES = [
    # numbers
    "27", "-42", "2196", "12.5", "0.529", "7{,}425", "5.3e-9", r"\frac{3}{4}", r"-\frac{7}{15}",
    r"8\frac{4}{7}", r"2^{10}", "5!", r"\binom{5}{2}", r"3\sqrt{13}", r"\sqrt[3]{4}",
    r"\frac{1+\sqrt{5}}{2}", r"18+2\pi", r"\log_{10} 7", r"\log_2 5", r"e^2", "3+4i",
    r"\arcsin\frac{1}{3}", "25_6", r"6.7 \times 10^{-11}",
    # numbers with units
    r"28\%", r"45^\circ", r"\$18.90", r"\$115,000", "5 euros",
    "1,000 meters", r"15\text{ cm}^2", "5 square meters",
    "60 miles per hour", r"9.8\text{ m/s}^2", r"3\text{ red balls}", "2 hours 30 minutes",
    r"20\text{ km north}",
    # formulas
    "x^2+2x-3", "2(x+y)^2", r"\frac{11+9a}{20}", r"\sin^2 x", r"e^{-t}\cos 2t", r"\ln(x+1)",
    "|x+11|-11", r"\sqrt{a^2+b^2}", r"\frac{v_0}{r_1}", r"\lfloor n/2 \rfloor", "2n!",
    r"a^b", r"\alpha+\beta", r"\frac{d!}{(d-k)!}",
    # names and relations
    "f(x)=2x+1", "f(2)=9",
    "y=2x+3", "x^2+4y^2=12", "xy=6", "x=y", "x=3, y=4", "x<y", "b < a < d < c",
    r"\text{number of cats}=3, \text{number of dogs}=4", r"A \subset B", r"x \in A",
    r"l \parallel m", r"n \equiv 1 \pmod{4}",
    # collections
    "1,-2", r"\{1,2,3\}", "(1,2)", "(3,-1,5)", "(1,2),(3,5)", r"1\pm\sqrt{2}", "1,2,\\ldots,10",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}6\\-15\end{pmatrix}",
    # sets of reals
    r"(-\infty,2)\cup[3,5)", r"-1<x\le 4", "x>2", r"x\in[0,3]", r"(0,\sqrt{2}]", "x<-2 or x>2",
    r"\{x \mid x<3\}", r"x \ne 5", r"(0,9)\setminus\{4\}", r"k \ne 0, 3", "|x-2|<3",
    r"\{n\in\mathbb{Z} : -3<n\le 2\}",
    # functions by cases, sets of sets, families with their domain
    r"\begin{cases}x^2&x\ge 0\\-x&x<0\end{cases}", r"n-1 \text{ if } n>4, 2n \text{ if } n \le 4",
    r"f(n)=\begin{cases}n-1,&n\text{ even}\\n,&n\text{ odd}\end{cases}",
    r"\{\{1,2\},\{3\}\}", r"\{\{a\},\{b\}\}", r"x=2k+1, k\in\mathbb{Z}",
    # points, angles, accents
    r"\vec{AB}", r"\overrightarrow{PQ}", r"\angle ABC", r"\overline{AB}", r"\triangle ABC",
    r"\hat{i}+4\hat{j}", r"\dot{x}", r"\bar{x}+1", r"\vec{a}\cdot\vec{b}", "BD",
    # text, choices, ratios, times
    r"\text{(B)}", r"\text{east}", r"\text{odd}", r"\text{increasing}", "yes", "3:8", "1:2:3",
    "4:30 pm", r"\max(a,b)", r"\textbf{(C)}\ 12", "two thirds", r"\emptyset",
    # forms that are worked out or written out
    "5 kilometers", "3 hours", r"0.\overline{3}", r"(\pm 2,0)", "-2x > 6", r"e^{i\pi/3}",
    "z=3^{2007}", "-3,0", r"\frac{NO}{BO}=\frac{1}{6}", "A:B=2:7", r"m_{\max}=n^2-n",
    # sums, families, vectors, antiderivatives
    r"\sum_{k=1}^{n}\frac{1}{k^2}", r"x=5+7t, y=-2-3t, t\in\mathbb{Z}", r"n=5k+2, k\in\mathbb{Z}",
    r"f(x)=cx, c\in\mathbb{R}", "2(1,0,-1)", r"\frac{1}{2}\begin{pmatrix}1\\3\end{pmatrix}",
    r"x^3+C", r"x\equiv 5\pmod{7}", r"e^{2\pi ik/3}, k=0,1,2", r"\frac{7!}{2!3!}", "C_{9}^{4}",
    r"\Gamma(\frac{1}{3})", r"0.\dot{3}\dot{6}", "5 million", r"3\mathbf{i}-4\mathbf{j}",
    r"y=\pm\frac{3}{4}x",
]


# --- 1. a second reader of formulas ---------------------------------------------------------------
# It shares no code with the verifier, reads less, and refuses where the verifier would guess.

MP = mpmath.mp.clone()
MP.dps = 50
MAX_EXPONENT = 10_000
POINTS = range(4)                   # sample points with positive values
WIDE_POINTS = range(4, 16)          # sample points of both signs, beyond any usual kink


class Unreadable(Exception):
    """The text is no formula of the small grammar."""


GREEK = """alpha beta gamma delta epsilon zeta eta theta lambda mu nu xi rho sigma tau phi chi psi
    omega Delta Omega ell hbar""".split()
FUNCTIONS = {
    "sin": MP.sin, "cos": MP.cos, "tan": MP.tan, "cot": MP.cot, "sec": MP.sec, "csc": MP.csc,
    "arcsin": MP.asin, "arccos": MP.acos, "arctan": MP.atan, "sinh": MP.sinh, "cosh": MP.cosh,
    "tanh": MP.tanh, "ln": MP.log, "log": MP.log, "lg": MP.log10, "exp": MP.exp,
}
FUNCTION = "|".join(sorted(FUNCTIONS, key=len, reverse=True))
TOKEN = re.compile(rf"""
    \\?(?P<function>{FUNCTION})(?![A-Za-z])
  | \\(?P<macro>[A-Za-z]+)
  | (?P<number>[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|\.[0-9]+)
  | (?P<name>[A-Za-z])
  | (?P<sign>[-+*/^_(){{}}\[\]|!'])
""", re.X)
RESPELLED = [
    (r"\$|\\left(?![a-z])|\\right(?![a-z])|\\[,;!: ]|\\displaystyle|~|\\quad", " "),
    (r"\\[dt]frac(?![a-z])", r"\\frac"),
    (r"\\cdot(?![a-z])|\\times(?![a-z])|[·×]", "*"),
    (r"\*\*", "^"), ("−", "-"), ("²", "^2"), ("³", "^3"), ("√", r"\\sqrt "),
    (r"π|(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    (r"(?<=[0-9])\{,\}(?=[0-9]{3})", ""),                   # 7{,}425
    (r"([_^])\s*([0-9])\s+", r"\1{\2}"),                    # \log_2 5
    (r"(?<![0-9.,^}])([0-9]+)\s*\\frac\s*\{([0-9]+)\}\s*\{([0-9]+)\}", r"(\1+\\frac{\2}{\3})"),
]


class Reader:
    """Evaluates one formula at a sample point; `fixed` gives names a value of one's own.

    Raises Unreadable.
    """

    def __init__(self, text: str, point: int, fixed: dict):
        for pattern, replacement in RESPELLED:
            text = re.sub(pattern, replacement, text)
        without_names = re.sub(rf"\\[A-Za-z]+|(?:{FUNCTION})(?![A-Za-z])", " ", text)
        if re.search(r"[A-Za-z]{3}|\b(?:no|or|is|am|pm|cm|km|kg|oo)\b", without_names):
            raise Unreadable("words")
        if re.search(r"[0-9]\s+[0-9.]|(?<!\\)[fghFGHP]'*\s*\(", text):
            raise Unreadable("numbers side by side, or a call of an unknown function")
        self.tokens = []
        self.names = set()
        self.point = point
        self.fixed = fixed
        self.in_bars = False
        self.at = 0
        at = 0
        text = text.strip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if not match:
                raise Unreadable(text[at])
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
            while at < len(text) and text[at] == " ":
                at += 1

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def take(self, sign: str) -> bool:
        """Is the next token this sign? If so, go on behind it."""
        if self.peek() == ("sign", sign):
            self.at += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise Unreadable(f"no {sign}")

    def whole(self):
        value = self.sum()
        if self.at < len(self.tokens):
            raise Unreadable("more than a formula")
        return value

    def sum(self):
        value = self.product()
        while self.peek() in (("sign", "+"), ("sign", "-")):
            value = value + self.product() if self.take("+") else value + self.negative()
        return value

    def negative(self):
        self.expect("-")
        return -self.product()

    def product(self):
        if self.peek() == ("sign", "-"):
            return self.negative()
        if self.take("+"):
            return self.product()
        value = self.factor()
        while True:
            if self.take("*"):
                value *= self.factor()
            elif self.take("/"):
                value /= self.factor()
            elif self.starts_factor():
                value *= self.factor()
            else:
                return value

    def starts_factor(self) -> bool:
        kind, text = self.peek()
        if kind == "macro":
            return text not in ("rfloor", "rceil")
        if kind == "sign":
            return text in "({" or (text == "|" and not self.in_bars)
        return kind in ("name", "function")

    def factor(self):
        if self.peek() == ("sign", "-"):
            self.at += 1
            return -self.factor()
        value = self.atom()
        while self.peek() in (("sign", "^"), ("sign", "!")):
            if self.take("!"):
                if abs(value) > 1000:
                    raise Unreadable("a large factorial")
                value = MP.gamma(value + 1)
                continue
            self.at += 1
            return self.power(value, self.factor())
        return value

    def power(self, base, exponent):
        if abs(exponent) > MAX_EXPONENT:
            raise Unreadable("a large exponent")
        return MP.power(base, exponent)

    def atom(self):
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return MP.mpf(text)
        if kind == "function":
            return self.call(text)
        if kind == "macro":
            return self.macro(text)
        if kind == "name" or (kind == "sign" and text == "'"):
            return self.variable(text)
        for opening, closing in ("()", "{}", "[]"):
            if (kind, text) == ("sign", opening):
                value = self.sum()
                self.expect(closing)
                return value
        if (kind, text) == ("sign", "|"):
            if self.in_bars:
                raise Unreadable("bars in bars")
            self.in_bars = True
            value = self.sum()
            self.expect("|")
            self.in_bars = False
            return abs(value)
        raise Unreadable("no value")

    def argument(self):
        """{...} or a single digit, as in \\frac12"""
        kind, text = self.peek()
        if kind == "number" and len(text) > 1 and text.isdigit():
            self.tokens[self.at:self.at + 1] = [("number", text[0]), ("number", text[1:])]
        return self.atom()

    def macro(self, name: str):
        if name == "pi":
            return MP.pi + 0
        if name == "frac":
            numerator = self.argument()
            return numerator / self.argument()
        if name == "sqrt":
            index = self.atom() if self.peek() == ("sign", "[") else MP.mpf(2)
            return MP.power(self.argument(), 1 / index)
        if name == "binom":
            top, bottom = self.argument(), self.argument()
            if max(abs(top), abs(bottom)) > 1000:
                raise Unreadable("a large binomial")
            return MP.binomial(top, bottom)
        for kind, function in (("floor", MP.floor), ("ceil", MP.ceil)):
            if name == "l" + kind:
                value = self.sum()
                if self.peek() != ("macro", "r" + kind):
                    raise Unreadable("no end of a floor")
                self.at += 1
                return function(value)
        if name in GREEK:
            return self.variable(name)
        raise Unreadable(name)

    def variable(self, name: str):
        if self.take("_"):
            name += "_" + self.subscript()
        while self.take("'"):
            name += "'"
        if name in ("e", "i"):
            return MP.e + 0 if name == "e" else MP.mpc(0, 1)
        self.names.add(name)
        if name in self.fixed:
            return self.fixed[name]
        low, high = (0.3, 2.9) if self.point in POINTS else (-40, 40)
        return MP.mpf(random.Random(f"{name} {self.point}").uniform(low, high))

    def subscript(self) -> str:
        start = self.at
        if self.take("{"):
            while self.peek()[0] and not self.take("}"):
                self.at += 1
        else:
            self.at += 1
        return "".join(text for _, text in self.tokens[start:self.at]).strip("{}")

    def call(self, name: str):
        exponent = base = None
        while self.peek() in (("sign", "^"), ("sign", "_")):
            if self.take("^"):
                exponent = self.argument()
            else:
                self.at += 1
                base = self.argument()
        if self.peek() in (("sign", "("), ("sign", "{")):
            value = self.atom()             # sin(x)^2 is the square of the sine
        else:
            value = self.factor()
            while self.peek()[0] in ("name", "number") or self.peek() == ("macro", "pi"):
                value *= self.factor()
        if abs(value) > MAX_EXPONENT:
            raise Unreadable("a large argument")
        value = FUNCTIONS[name](value)
        if base is not None:
            value /= FUNCTIONS[name](base)
        if exponent == -1:
            raise Unreadable("an inverse function")
        return value if exponent is None else self.power(value, exponent)


@functools.lru_cache(maxsize=100_000)
def evaluate(text: str, point: int = 0):
    """(value, names) of a formula at a sample point; the value is None where it is undefined.

    Raises Unreadable.
    """
    reader = Reader(text, point, {})
    try:
        value = reader.whole()
    except (ZeroDivisionError, ValueError, OverflowError):
        return None, frozenset()
    except (TypeError, IndexError) as error:
        raise Unreadable(str(error)) from None
    return (value if MP.isfinite(value) else None), frozenset(reader.names)


def is_formula(text: str) -> bool:
    try:
        value, _ = evaluate(text)
        return value is not None
    except (Unreadable, RecursionError):
        return False


def is_constant(text: str) -> bool:
    """Is it a formula without names?"""
    return is_formula(text) and not evaluate(text)[1]


def names_in(text: str) -> frozenset:
    return evaluate(text)[1]


def is_far(u, v) -> bool:
    """Do two values differ by more than the evaluator's own errors (sin 7π is 1e-50 to it)?"""
    return abs(u - v) > MP.mpf(10)**-25 * max(abs(u), abs(v), MP.mpf(10)**-15)


def may_be_rounded(text: str, other: str) -> bool:
    """Is one a decimal that stands, by convention, for the other, rounded?"""
    for decimal, exact in ((text, other), (other, text)):
        match = re.fullmatch(r"-?[0-9]*\.([0-9]+)", decimal)
        if match and not re.fullmatch(r"-?[0-9]*\.[0-9]+", exact) and is_constant(exact):
            gap = evaluate(exact)[0] - MP.mpf(decimal)
            return abs(gap) <= MP.mpf(10)**-len(match[1])
    return False


def is_a_family(text: str) -> bool:
    r"""Does it stand for many answers: + C, or k\pi? Then a change may give the same family."""
    has_integer = re.search(r"(?<![A-Za-z\\])[klmnt](?![A-Za-z])", text)
    has_period = r"\pi" in text or "π" in text or "^\\circ" in text
    return bool(has_integer and has_period) or bool(re.search(r"(?<![A-Za-z\\])[CcK]\b|C_", text))


def formulas_differ(text: str, other: str, points=POINTS) -> bool:
    """Are both formulas, and do they differ at two points at least (constants: at the one)?"""
    if is_a_family(text) or may_be_rounded(text, other):
        return False
    try:
        names = names_in(text) | names_in(other)
        differences = 0
        for point in points:
            (u, _), (v, _) = evaluate(text, point), evaluate(other, point)
            differences += u is not None and v is not None and is_far(u, v)
        return differences >= (2 if names else 1)
    except (Unreadable, RecursionError):
        return False


def functions_differ(text: str, other: str) -> bool:
    """formulas_differ at points of both signs: for changes that positive numbers do not show."""
    roots = r"sqrt|log|ln|lg|arc|\^\{?[^0-9{]|\^\{[^}]*[./a-z]"
    return not re.search(roots, text + other) and formulas_differ(text, other, WIDE_POINTS)


# --- 2. forms -------------------------------------------------------------------------------------

def split_items(text: str, separator: str = ",") -> list[str]:
    r"""The items of a list, split at commas outside brackets: (1,2),3 -> (1,2) and 3"""
    items = [""]
    depth = 0
    plain = text.replace("{,}", "\0")
    for character in plain:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:               # (a,b)=(c,d) without its outermost signs
            return []
        if character == separator and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.replace("\0", "{,}").strip() for item in items]


class Group(NamedTuple):
    """A tuple, list or set: what stands before its items, they, and what stands behind."""
    opening: str
    items: list[str]
    closing: str

    def text(self, items) -> str:
        return self.opening + ",".join(items) + self.closing


BRACKETED = re.compile(r"((?:\\left ?)?(?:\(|\\\{))(.*?)((?:\\right ?)?(?:\)|\\\}))")


def read_group(text: str) -> Group | None:
    """A tuple, set or bare list of at least two items; None for anything else."""
    if re.search(r"(?<=[0-9]),(?:\\!)?[0-9]{3}(?![0-9])|\\text|\\mbox|\\pm", text):
        return None                 # perhaps a separator of thousands; words
    items = split_items(text)
    if len(items) > 1:
        return Group("", items, "") if all(items) else None
    match = BRACKETED.fullmatch(text.strip())
    if not match:
        return None
    items = split_items(match[2])
    if ("(" in match[1]) != (")" in match[3]) or len(items) < 2 or not all(items):
        return None
    return Group(match[1], items, match[3])


def values_differ(item: str, other: str) -> bool:
    """Are two items certainly different: constants or formulas, or tuples of these?"""
    group, other_group = read_group(item), read_group(other)
    if group and other_group and len(group.items) == len(other_group.items):
        pairs = zip(group.items, other_group.items, strict=True)
        return any(values_differ(*pair) for pair in pairs)
    return formulas_differ(item, other)


def all_differ(items: list[str]) -> bool:
    return 0 < len(items) <= 20 and all(values_differ(*p) for p in itertools.combinations(items, 2))


def is_tuple(group: Group | None) -> bool:
    return group is not None and "(" in group.opening


MATRIX = re.compile(r"(\\begin\{([pb]?matrix)\})(.*)(\\end\{\2\})", re.S)


def read_matrix(text: str) -> tuple[str, list[list[str]], str] | None:
    """(beginning, rows of cells, end) of a text that is one matrix of formulas."""
    match = MATRIX.fullmatch(text.strip().strip("$").strip())
    if not match:
        return None
    rows = [[cell.strip() for cell in row.split("&")]
            for row in re.split(r"\\\\", match[3]) if row.strip()]
    cells = [cell for row in rows for cell in row]
    if len({len(row) for row in rows}) != 1 or len(cells) > 30 or not all(map(is_formula, cells)):
        return None
    return match[1], rows, match[4]


def matrix_text(begin: str, rows, end: str) -> str:
    return begin + r"\\".join("&".join(row) for row in rows) + end


# --- 3. sets of reals -----------------------------------------------------------------------------

ORDER = {"<": "<", ">": ">", r"\le": "≤", r"\leq": "≤", r"\leqslant": "≤", "≤": "≤", "<=": "≤",
         r"\ge": "≥", r"\geq": "≥", r"\geqslant": "≥", "≥": "≥", ">=": "≥", r"\ne": "≠",
         r"\neq": "≠", "≠": "≠", "=": "="}
RELATION = re.compile(
    r"\s*(\\(?:leqslant|geqslant|leq|geq|le|ge|neq|ne)(?![a-z])|<=|>=|[<>≤≥≠=])\s*")
HOLDS = {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "≤": lambda a, b: a <= b,
         "≥": lambda a, b: a >= b, "=": lambda a, b: a == b, "≠": lambda a, b: a != b}
INTERVAL = re.compile(r"(?:\\left ?)?([(\[])(.*)(?:\\right ?)?([)\]])")


class RealSet(NamedTuple):
    """A set of reals: what it contains, and the points where that may change."""
    contains: Callable
    breaks: list


def read_end(text: str):
    """The number at the end of an interval. Raises Unreadable."""
    text = text.strip().removesuffix(r"\right").strip()
    infinite = re.fullmatch(r"([-+]?)\s*(?:\\infty|∞)", text)
    if infinite:
        return -MP.inf if infinite[1] == "-" else MP.inf
    value, names = evaluate(text)
    if names or value is None or MP.im(value):
        raise Unreadable("no real end")
    return MP.re(value)


SET_OPERATIONS = [
    (r"\s+or\s+|\\cup(?![a-z])|∪", lambda u, v: u or v),
    (r"\\setminus(?![a-z])|∖", lambda u, v: u and not v),
    (r"(?<=[0-9])\s+and\s+|\\cap(?![a-z])|∩", lambda u, v: u and v),
]


def read_real_set(text: str) -> RealSet:
    r"""(1,2] \cup \{5\}, x \in [0,3], 1 < x \le 2 or x = 5. Raises Unreadable."""
    text = text.strip().strip("$").strip().rstrip(".")
    text = re.sub(r"\\text\s*\{\s*(or)\s*\}", r" \1 ", text)
    text = re.sub(r"^[a-zA-Z]\s*(?:\\in|∈)(?![a-z])", "", text).strip()
    builder = re.fullmatch(r"\\\{\s*([a-z])\s*(?:\\mid|\||:)\s*(.*)\\\}", text)
    if builder:
        return read_real_set(builder[2])
    operations = [(pattern, combine) for pattern, combine in SET_OPERATIONS
                  if re.search(pattern, text)]
    if len(operations) > 1:
        raise Unreadable("which operation comes first?")
    for pattern, combine in operations:
        return combined([read_real_set(piece) for piece in re.split(pattern, text)], combine)

    finite = re.fullmatch(r"\\\{(.*)\\\}", text)
    if finite:
        members = [read_end(item) for item in split_items(finite[1])]
        return RealSet(lambda x: x in members, members)
    interval = INTERVAL.fullmatch(text)
    if interval:
        return read_interval(interval)
    return read_inequality(text)


def combined(sets: list[RealSet], combine) -> RealSet:
    def contains(x):
        return functools.reduce(combine, [part.contains(x) for part in sets])

    return RealSet(contains, [point for part in sets for point in part.breaks])


def read_interval(match: re.Match) -> RealSet:
    ends = split_items(match[2])
    if len(ends) != 2:
        raise Unreadable("not two ends")
    low, high = map(read_end, ends)
    if not low < high:
        raise Unreadable("no interval")

    def contains(x):
        return low < x < high or (x == low and match[1] == "[") or (x == high and match[3] == "]")

    return RealSet(contains, [low, high])


def read_inequality(text: str) -> RealSet:
    """1 < x ≤ 2, x > 1"""
    pieces = RELATION.split(text)
    sides, ops = pieces[::2], [ORDER[op] for op in pieces[1::2]]
    names = [at for at, side in enumerate(sides)
             if re.fullmatch(r"[a-zA-Z]|\\[a-z]+", side.strip())]
    if len(names) != 1 or not ops:
        raise Unreadable("not one name")
    ends = [None if at == names[0] else read_end(side) for at, side in enumerate(sides)]

    def contains(x):
        values = [x if end is None else end for end in ends]
        return all(HOLDS[op](*pair)
                   for op, pair in zip(ops, itertools.pairwise(values), strict=True))

    return RealSet(contains, [end for end in ends if end is not None])


def real_sets_differ(text: str, other: str) -> bool:
    """Do two sets of reals differ at a point: an end, or one between or beyond the ends?"""
    try:
        a, b = read_real_set(text), read_real_set(other)
    except (Unreadable, RecursionError):
        return False
    ends = sorted({x for x in a.breaks + b.breaks if MP.isfinite(x)})
    if not ends:
        return False
    between = [(x + y) / 2 for x, y in itertools.pairwise(ends)]
    points = [ends[0] - 1, *ends, *between, ends[-1] + 1]
    return any(a.contains(x) != b.contains(x) for x in points)


def is_real_set(text: str) -> bool:
    r"""Is it certainly one? (1,2) may be a point, and [1,2] a vector; x = 5 is a value."""
    try:
        read_real_set(text)
    except (Unreadable, RecursionError):
        return False
    is_one = re.search(r"<|>|\\l|\\g|\\n|≤|≥|≠|∪|\\cup|\\infty|∞|\\in|\\setminus", text)
    is_mixed = re.fullmatch(r"\$?[(\[].*[)\]]\$?", text.strip()) and ("(" in text) != (")" in text)
    return bool(is_one or is_mixed)


# --- 4. equations ---------------------------------------------------------------------------------

def gap_of(equation: str) -> str | None:
    """y = 2x -> (y)-(2x); None for what is not an equation of two formulas."""
    sides = equation.split("=")
    if len(sides) != 2 or not all(map(is_formula, sides)):
        return None
    return f"({sides[0]})-({sides[1]})"


def equations_differ(text: str, other: str) -> bool:
    """Is there a real solution of one equation that certainly does not solve the other?"""
    gap, other_gap = gap_of(text), gap_of(other)
    if not gap or not other_gap or is_a_family(text):
        return False
    names = sorted(names_in(gap))
    for name, sign in itertools.product(names, (1, -1)):
        if not re.fullmatch(r"[a-z]", name) or name in "ei":
            continue

        def at(formula, value, name=name):
            return MP.re(Reader(formula, 0, {name: value}).whole())

        try:
            root = MP.findroot(lambda value: at(gap, value), MP.mpf(sign) * 1.7, tol=1e-60)
            if abs(at(gap, root)) < 1e-25 and abs(at(other_gap, root)) > 1e-6:
                return True
        except (ValueError, ZeroDivisionError, Unreadable, TypeError):
            continue
    return False


def texts_differ(text: str, other: str) -> bool:
    """For changes that cannot be harmless: their functions are limited to such forms."""
    return re.sub(r"\s", "", text) != re.sub(r"\s", "", other)


# --- 5. mutations ---------------------------------------------------------------------------------
# Each yields changed texts; which of them are certainly different is decided by the check beside it
# in MUTATIONS. The first line of a docstring is an example.

def replace_each(pattern: str, replacement, text: str) -> Iterator[str]:
    """The text with one match of the pattern replaced, for each match; verbose patterns."""
    for match in re.finditer(pattern, text, re.X):
        new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
        if new is not None:
            yield text[:match.start()] + new + text[match.end():]


def next_number(match: re.Match) -> str:
    return str(int(match[0]) + 1)


def replace_from(table: dict[str, str], text: str, pattern: str = "{}") -> Iterator[str]:
    """One occurrence of a key becomes its value; the pattern says where keys are looked for."""
    for key, value in table.items():
        where = pattern.replace("{}", re.escape(key))
        yield from (text[:m.start()] + value + text[m.end():] for m in re.finditer(where, text))


# 5a. numbers

def change_number(text):
    """2x^2+3  ->  2x^2+4"""
    yield from replace_each(r"(?<=[0-9]\^{) [0-9]+ (?=})", next_number, text)
    yield from replace_each(r"(?<![0-9.^_e{]) [0-9]+ (?![0-9.])", next_number, text)
    yield from replace_each(r"(?<={) [0-9]+ (?![0-9.])", next_number, text)


def change_coefficient(text):
    r"""2x+3\sqrt{5}  ->  2x+4\sqrt{5}"""
    yield from replace_each(r"(?<![0-9.^_]) [0-9]+ (?=[ ]?(?:[a-zA-Z(]|\\sqrt|\\pi))", next_number,
                            text)


def change_last_decimal(text):
    """0.529  ->  0.520"""
    yield from replace_each(r"(?<=[0-9]) \.[0-9]*[0-9] (?![0-9])",
                            lambda m: m[0][:-1] + str((int(m[0][-1]) + 1) % 10), text)


def exchange_digits(text):
    """2196  ->  1296"""
    yield from replace_each(r"([0-9]) ([0-9])", r"\2\1", text)


def drop_digit(text):
    """2196  ->  196"""
    yield from replace_each(r"[0-9] (?=[0-9])", "", text)


def append_digit(text):
    """27  ->  270"""
    yield from replace_each(r"[0-9] (?![0-9.])", r"\g<0>0", text)


def move_decimal_point(text):
    """12.5  ->  1.25"""
    yield from replace_each(r"([0-9])\.([0-9])", r".\1\2", text)
    yield from replace_each(r"([0-9])\.([0-9])", r"\1\2.", text)


def drop_decimals(text):
    """12.5  ->  12"""
    yield from replace_each(r"(?<=[0-9]) \.[0-9]+", "", text)


def multiply_mixed_number(text):
    r"""8\frac{4}{7}  ->  8 \cdot \frac{4}{7}"""
    yield from replace_each(r"(?<=[0-9]) \s* (?=\\frac)", r" \\cdot ", text)


def round_pi(text):
    r"""18+2\pi  ->  18+2\cdot 3.14"""
    yield from replace_each(r"(?<=[0-9]) \\pi (?![a-z])", r"\\cdot 3.14", text)


def scale_by_little(text):
    """x+1  ->  1.0001(x+1)"""
    yield f"1.0001({text})"
    yield rf"\frac{{10001}}{{10000}}({text})"
    yield f"(1+10^{{-12}})({text})"


def add_little(text):
    """x+1  ->  x+1+10^{-12}"""
    yield text + "+10^{-12}"
    yield text + "+0.000001"


def double_sign(text):
    """-42  ->  --42"""
    if text.startswith("-"):
        yield "-" + text


# 5b. formulas

def flip_sign(text):
    """x^2+2x-3  ->  x^2-2x-3"""
    for sign, other in ("+-", "-+"):
        yield from replace_each(rf"(?<=[\w)}}]) [ ]? \{sign}", other, text)


def negate(text):
    """2x  ->  -(2x)"""
    yield f"-({text})"
    yield f"-{text}"


def exchange_operands(text):
    """a-b  ->  b-a"""
    yield from replace_each(r"\b ([a-z0-9]+) - ([a-z0-9]+) \b", r"\2-\1", text)


def change_exponent(text):
    """x^2  ->  x^3"""
    yield from replace_each(r"(?<=\^) [0-9] | (?<=\^{) -?[0-9]+ (?=})", next_number, text)


def negate_exponent(text):
    """x^2  ->  x^{-2}"""
    yield from replace_each(r"\^([0-9a-z])", r"^{-\1}", text)
    yield from replace_each(r"\^{-([^{}]*)}", r"^{\1}", text)


def exchange_base_and_exponent(text):
    """a^b  ->  b^a"""
    yield from replace_each(r"\b([0-9]+|[a-z])\^([0-9a-z])", r"\2^\1", text)
    yield from replace_each(r"\b([0-9]+|[a-z])\^{([0-9]+|[a-z])}", r"{\2}^{\1}", text)


def invert_fraction(text):
    r"""\frac{3}{4}  ->  \frac{4}{3}"""
    yield from replace_each(r"(\\d?frac)\s*{([^{}]*)}\s*{([^{}]*)}", r"\1{\3}{\2}", text)


def change_function(text):
    r"""\sin^2 x  ->  \cos^2 x"""
    others = {"sin": ["cos", "tan", "sinh"], "cos": ["sin", "sec", "cosh"], "tan": ["cot", "tanh"],
              "cot": ["tan"], "sec": ["csc"], "csc": ["sec"], "arcsin": ["arccos", "sin"],
              "arccos": ["arcsin"], "arctan": ["tan"], "sinh": ["cosh", "sin"], "ln": ["exp"],
              "cosh": ["sinh"], "tanh": ["tan"]}
    for name, replacements in others.items():
        for other in replacements:
            yield from replace_each(rf"\\{name}(?![a-z])", rf"\\{other}", text)
            yield from replace_each(rf"(?<![a-z\\]){name}(?![a-z])", other, text)


def change_base_of_log(text):
    r"""\log_2 5  ->  \log_{3} 5"""
    yield from replace_each(r"\\log\s*_\s*{?([0-9]+)}?",
                            lambda m: rf"\log_{{{int(m[1]) + 1}}}", text)
    yield from replace_each(r"\\log\s*_\s*{?10}?", r"\\ln ", text)
    yield from replace_each(r"\\(?:ln|log)(?![a-z])\s*(?!_)", r"\\log_2 ", text)


def change_root(text):
    r"""\sqrt{2}  ->  \sqrt[3]{2}"""
    yield from replace_each(r"\\sqrt\s*(?={)", r"\\sqrt[3]", text)
    yield from replace_each(r"\\sqrt\[3\]", r"\\sqrt[4]", text)
    yield from replace_each(r"\\sqrt\[3\]", r"\\sqrt", text)


def drop_root(text):
    r"""3\sqrt{13}  ->  3\cdot{13}"""
    yield from replace_each(r"\\sqrt\s*(?={)", r"\\cdot", text)


def split_root(text):
    r"""\sqrt{a+b}  ->  \sqrt{a}+\sqrt{b}"""
    yield from replace_each(r"\\sqrt\s*{([^{}]*)([+-])([^{}]*)}", r"\\sqrt{\1}\2\\sqrt{\3}", text)


def split_power(text):
    """2(x+y)^2  ->  2(x^2+y^2)"""
    yield from replace_each(r"\(([a-z0-9]+)([+-])([a-z0-9]+)\)\^([0-9])", r"(\1^\4\2\3^\4)", text)


def drop_parentheses(text):
    """2(x+y)^2  ->  2x+y^2"""
    if "/" not in text:
        yield from replace_each(r"\(([^()]*)\)", r"\1", text)


def drop_term(text):
    """x^2+2x-3  ->  x^2-3"""
    yield from replace_each(r"[+-] [ ]? [a-z0-9^]+ (?=[ ]?[+-]|$)", "", text)


def drop_factor(text):
    r"""3\sqrt{13}  ->  \sqrt{13}"""
    yield from replace_each(r"(?<![0-9.^_]) [0-9]+ [ ]? (?=[a-zA-Z(]|\\sqrt|\\pi)", "", text)
    yield from replace_each(r"\\pi (?![a-z])", "", text)


def change_factorial(text):
    """5!  ->  6!"""
    yield from replace_each(r"([0-9]+)!", lambda m: f"{int(m[1]) + 1}!", text)
    yield from replace_each(r"\b([a-z])!", r"(\1-1)!", text)
    yield from replace_each("!", "", text)
    yield from replace_each(r"\b([0-9])([a-z])!", r"(\1\2)!", text)


def change_binomial(text):
    r"""\binom{5}{2}  ->  \binom{5+1}{2}"""
    yield from replace_each(r"\\binom{([^{}]*)}{([^{}]*)}", r"\\frac{\1}{\2}", text)
    yield from replace_each(r"\\binom{([^{}]*)}{([^{}]*)}", r"\\binom{\1+1}{\2}", text)


def exchange_floor_and_ceiling(text):
    r"""\lfloor n/2 \rfloor  ->  \lceil n/2 \rceil"""
    yield text.replace("floor", "ceil")
    yield text.replace("ceil", "floor")
    yield re.sub(r"\\[lr](?:floor|ceil)", " ", text)


def move_kink(text):
    """|x+11|-11  ->  |x+12|-11"""
    yield from replace_each(r"(?<=\|) ([a-z][+-]) ([0-9]+) (?=\|)",
                            lambda m: m[1] + str(int(m[2]) + 1), text)


def move_kink_and_level(text):
    """|x+11|-11  ->  |x+10|-10"""
    for match in re.finditer(r"\|([a-z])\+([0-9]+)\|-([0-9]+)", text):
        if match[2] == match[3]:
            less = int(match[2]) - 1
            yield text.replace(match[0], f"|{match[1]}+{less}|-{less}")


def drop_bars(text):
    """|x+11|-11  ->  (x+11)-11"""
    yield from replace_each(r"\|([^|]*)\|", r"(\1)", text)


def add_bars(text):
    """x^2+2x-3  ->  x^2+2|x|-3"""
    yield from replace_each(r"(?<![A-Za-z\\_{}]) [a-z] (?![a-zA-Z_({'])", r"|\g<0>|", text)


def exchange_real_and_imaginary(text):
    """3+4i  ->  4+3i"""
    yield from replace_each(r"^([0-9]+)([ ]?[+-][ ]?)([0-9]+)i$", r"\3\2\1i", text)


def drop_imaginary_unit(text):
    """3+4i  ->  3+4"""
    yield from replace_each(r"(?<=[0-9])i\b", "", text)


# 5c. letters

NAMES = r"(?<![A-Za-z\\_]) (?<![0-9](?=E)) [A-Za-df-hj-z] (?![A-Za-z({'])"  # not e, i, or a call


def change_letter(text):
    """x^2+2x-3  ->  y^2+2x-3"""
    yield from replace_each(NAMES, lambda m: "y" if m[0] != "y" else "z", text)
    greek = {r"\alpha": r"\beta", r"\beta": r"\gamma", r"\theta": r"\omega", r"\omega": r"\theta",
             r"\mu": r"\nu", r"\lambda": r"\mu", r"\rho": r"\sigma"}
    yield from replace_from(greek, text, "{}(?![a-z])")


def change_case(text):
    r"""\frac{v_0}{r_1}  ->  \frac{V_0}{r_1}"""
    yield from replace_each(NAMES, lambda m: m[0].swapcase(), text)


def exchange_letters(text):
    """a^b  ->  b^a"""
    letters = sorted(set(re.findall(NAMES, text, re.X)))
    for one, other in itertools.combinations(letters[:4], 2):
        exchange = {one: other, other: one}
        yield re.sub(NAMES, lambda m, table=exchange: table.get(m[0], m[0]), text, flags=re.X)


def change_index(text):
    r"""\frac{v_0}{r_1}  ->  \frac{v_1}{r_1}"""
    yield from replace_each(r"(?<=[A-Za-z]_) [0-9] | (?<=[A-Za-z]_{) [0-9]+ (?=})", next_number,
                            text)
    yield from replace_each(r"(?<=[A-Za-z]_{) [a-z] (?=})", "q", text)


def drop_index(text):
    r"""\frac{v_0}{r_1}  ->  \frac{v}{r_1}"""
    yield from replace_each(r"(?<=[A-Za-z])_[0-9a-z] | (?<=[A-Za-z])_{\w+}", "", text)


def add_prime(text):
    """2x+1  ->  2x'+1"""
    yield from replace_each(NAMES + r"(?![_^])", r"\g<0>'", text)


def add_constant(text):
    r"""\ln(x+1)  ->  \ln(x+1)+C"""
    yield text + "+C"
    yield text + "-q"


# 5d. units

UNIT_GROUPS = [
    ["meters", "feet", "inches", "miles", "kilometers", "centimeters", "yards"],
    ["m", "cm", "km", "mm", "ft"], ["seconds", "minutes", "hours", "days", "weeks", "years"],
    ["grams", "kilograms", "pounds", "ounces", "tons"], ["g", "kg", "mg"], ["s", "min", "ms"],
    ["hour", "minute", "second", "day"], ["mph", "km/h", "m/s"], ["joules", "watts", "newtons"],
    ["dollars", "cents", "euros", "pounds sterling", "yen"], ["liters", "milliliters", "gallons"],
    ["red", "blue", "green"], ["north", "south", "east"], ["apples", "oranges", "pears"],
    ["degrees", "radians"], ["J", "kJ", "eV"], ["N", "kN"],
]
NUMBER_WITH_UNIT = r"(?s).*[0-9}$].*[a-z]"


def with_unit(text: str) -> bool:
    """Is it one number, then words in \\text or bare, and nothing else?"""
    bare = re.sub(r"\\(?:text|mbox|mathrm|textnormal|textbf)\s*\{|\}|\\[ ,!;$]|[$~]", " ", text)
    return bool(re.fullmatch(r"\s*[0-9.,]+\s+[a-z/ 0-9^{}-]+\.?\s*", bare))


def change_unit(text):
    """60 miles per hour  ->  60 feet per hour"""
    if with_unit(text):
        for group in UNIT_GROUPS:
            for unit in group:
                for other in group:
                    if other != unit:
                        yield from replace_each(rf"(?<![A-Za-z\\]){unit}(?![A-Za-z])", other, text)


def change_power_of_unit(text):
    r"""15\text{ cm}^2  ->  15\text{ cm}^3"""
    if with_unit(text):
        yield from replace_each(r"(?<=\^)2|(?<=\^{)2(?=})", "3", text)
        yield from replace_each(r"(?<=\^)3|(?<=\^{)3(?=})", "2", text)
        yield from replace_each(r"(?<=[a-z}]) \^{?[23]}?", "", text)
        yield from replace_each(r"\b(?:square|sq)\b", "cubic", text)
        yield from replace_each(r"\bcubic\b", "square", text)
        yield from replace_each(r"\b(?:square|cubic)[ ]", "", text)


def invert_rate(text):
    """60 miles per hour  ->  60 hours per mile"""
    if with_unit(text):
        yield from replace_each(r"([a-z]+)s[ ]per[ ]([a-z]+)", r"\2s per \1", text)
        yield from replace_each(r"{([ ]?)([a-z]+)/([a-z]+)}", r"{\1\3/\2}", text)


def multiply_rate(text):
    """60 miles per hour  ->  60 miles hour"""
    if with_unit(text):
        yield from replace_each(r"[ ]per[ ]", " ", text)
        yield from replace_each(r"(?<=[a-z])/(?=[a-z])", " ", text)


def change_currency(text):
    r"""\$18.90  ->  €18.90"""
    signs = [r"\$", "€", "£", "¥"]
    match = re.fullmatch(r"\s*(\\\$|€|£)\s*([0-9.,\\! ]+)", text)
    if match:
        for sign in signs:
            if sign != match[1]:
                yield sign + match[2]
        words = {r"\$": "euros", "€": "dollars", "£": "dollars"}
        yield f"{match[2]} {words[match[1]]}"
        yield f"{match[2]} cents"
    match = re.fullmatch(r"([0-9.,]+)\s*(?:\\text\{)?\s*(dollars|cents|euros)\}?", text)
    if match:
        sign = {"dollars": "€", "cents": r"\$", "euros": r"\$"}[match[2]]
        yield sign + match[1]


DEGREES = r"\^\s*{?\s*\\circ\s*}?|°"


def change_degrees(text):
    r"""45^\circ  ->  45\%"""
    if re.fullmatch(rf"\s*-?[0-9.]+\s*(?:{DEGREES})\s*", text):
        yield re.sub(DEGREES, r"\\%", text)
        yield re.sub(DEGREES, r"\\text{ radians}", text)
        yield re.sub(DEGREES, r"\\text{ cm}", text)
        yield re.sub(DEGREES, r"\\pi", text)
        yield re.sub(DEGREES, "'", text)


def change_percent(text):
    r"""28\%  ->  0.0028"""
    match = re.fullmatch(r"\s*([0-9.]+)\s*\\?%\s*", text)
    if match and float(match[1]):
        number = match[1]
        yield f"0.00{number.replace('.', '')}" if float(number) >= 10 else f"{number}00%"
        yield rf"{number}^\circ"
        yield rf"\frac{{{number}}}{{10}}"
        yield rf"{number}\text{{ cm}}"
        yield rf"\${number}"


def change_time(text):
    """2 hours 30 minutes  ->  2 minutes 30 seconds"""
    if re.fullmatch(r"[0-9]+ hours? [0-9]+ minutes?", text):
        yield text.replace("minute", "second").replace("hour", "minute")
        yield re.sub(r"[0-9]+ (?=minute)", next_number_and_blank, text)
        yield re.sub(r" [0-9]+ minutes?", "", text)
        yield re.sub(r"[0-9]+ hours? ", "", text)
        yield text.replace("minute", "second")
    if re.fullmatch(r"[0-9]+:[0-9]{2} [ap]m", text):
        yield text.replace("pm", "xm").replace("am", "pm").replace("xm", "am")
        yield re.sub(r"(?<=:)[0-9]+", lambda m: f"{(int(m[0]) + 1) % 60:02}", text)


def next_number_and_blank(match: re.Match) -> str:
    return f"{int(match[0]) + 1} "


def change_number_before_unit(text):
    """60 miles per hour  ->  61 miles per hour"""
    if with_unit(text) or re.fullmatch(rf"\s*(?:\\\$)?[0-9.]+\s*(?:{DEGREES}|\\?%)?\s*", text):
        yield from replace_each(r"^[^0-9]*[0-9]+ (?!\.)",
                                lambda m: re.sub("[0-9]+", next_number, m[0]), text)


CONVERSIONS = [("kilometers", "meters", 1000), ("meters", "centimeters", 100),
               ("hours", "minutes", 60), ("minutes", "seconds", 60), ("feet", "inches", 12),
               ("dollars", "cents", 100), ("kilograms", "grams", 1000), ("yards", "feet", 3)]


def convert_wrongly(text):
    """5 kilometers  ->  500 meters"""
    match = re.fullmatch(r"([0-9]+) (?:\\text\{ ?)?(square )?([a-z]+)\}?", text)
    for large, small, factor in CONVERSIONS:
        if match and match[3] == large:
            number, square = int(match[1]), match[2] or ""
            right = number * factor ** (2 if square else 1)
            for wrong in (right // 10, right * 10, number * factor, right + 1):
                if wrong != right and wrong:
                    yield f"{wrong} {square}{small}"


# 5e. labels and relations

def exchange_values(text):
    """x=3, y=4  ->  x=4, y=3"""
    items = split_items(text)
    pairs = [re.split(r"=|:", item) for item in items]
    if len(items) > 1 and all(len(pair) == 2 for pair in pairs):
        labels, values = zip(*pairs, strict=True)
        if len(set(labels)) == len(labels) and all_differ([value.strip() for value in values]):
            sign = "=" if "=" in text else ":"
            for i, j in itertools.combinations(range(len(items)), 2):
                changed = list(values)
                changed[i], changed[j] = changed[j], changed[i]
                yield ", ".join(f"{label.strip()}{sign}{value.strip()}"
                                for label, value in zip(labels, changed, strict=True))
            yield "(" + ",".join([*values[1:], values[0]]) + ")" if "=" in text else text


def change_label(text):
    """x=3, y=4  ->  z=3, y=4"""
    items = split_items(text)
    if len(items) > 1 and all(re.fullmatch(r"[a-z]\s*=[^=]+", item) for item in items):
        yield from replace_each(r"[a-z] (?=\s*=)", lambda m: "z" if "z" not in text else None, text)


def add_prime_to_call(text):
    """f(x)=2x+1  ->  f'(x)=2x+1"""
    if re.fullmatch(r"\$?[fgh]\([a-z]\)\s*=[^=]*", text):
        yield re.sub(r"(?<=[fgh])\(", "''(", text)
        yield re.sub(r"(?<=[fgh])\(", "'(", text)
        yield re.sub(r"(?<=[fgh])\(", "^{-1}(", text)


def change_argument(text):
    """f(2)=3  ->  f(3)=3"""
    yield from replace_each(r"(?<=^[a-zA-Z]\() [0-9]+ (?=\)\s*=)", next_number, text)


def free_argument(text):
    """f(x)=2x+1  ->  f(z)=2x+1"""
    match = re.fullmatch(r"\$?([fgh])\(([a-y])\)\s*=([^=$]*)\$?", text)
    if match and is_formula(match[3]) and match[2] in names_in(match[3]):
        yield f"{match[1]}(z)={match[3]}"


RELATIONS = {
    "<": [r"\le ", ">", "="], ">": [r"\ge ", "<"], r"\le": ["<", r"\ge "], r"\leq": ["<", r"\geq "],
    r"\leqslant": ["<"], r"\ge": [">", r"\le "], r"\geq": [">", r"\leq "], "≤": ["<", "≥"],
    "≥": [">", "≤"], "=": [r"\ne ", "<", r"\le "], r"\ne": ["=", "<"], r"\neq": ["="],
    r"\subset": [r"\subseteq ", r"\supset ", r"\in "], r"\subseteq": [r"\subset ", r"\supseteq "],
    "⊂": ["⊆", "⊃"], "⊆": ["⊂"], r"\in": [r"\notin ", r"\subset ", r"\ni "],
    r"\parallel": [r"\perp ", r"\nparallel "], r"\perp": [r"\parallel "],
    r"\equiv": [r"\not\equiv ", "<"], r"\cup": [r"\cap ", r"\setminus "], r"\cap": [r"\cup "],
    r"\cong": [r"\sim "], r"\Rightarrow": [r"\Leftarrow "],
}


def change_relation(text):
    r"""A \subset B  ->  A \subseteq B"""
    for sign, others in RELATIONS.items():
        for other in others:
            ends = "(?![A-Za-z])" if sign.startswith("\\") else ""
            yield from (text[:m.start()] + other + text[m.end():]
                        for m in re.finditer(re.escape(sign) + ends + "[ ]?", text))


def is_plain_relation(text: str) -> bool:
    """Are its sides letters, formulas or sets by name, so that another sign says another thing?"""
    sides = re.split(r"\\(?:subseteq|subset|supseteq|supset|in|notin|ni|parallel|nparallel|perp|"
                     r"leqslant|leq|le|geqslant|geq|ge|neq|ne)(?![a-z])|[<>=≤≥⊂⊆⊃]", text)
    sides = [side.strip() for side in sides]
    are_names = all(re.fullmatch(r"[A-Za-z]", side) for side in sides)
    return len(sides) > 1 and are_names and len(set(sides)) == len(sides)


def exchange_sides(text):
    """b < a < d < c  ->  a < b < d < c"""
    if is_plain_relation(text) and not re.search(r"=|parallel|perp", text):
        yield from replace_each(r"\b([A-Za-z])\b([^A-Za-z]+|\s*\\[a-z]+\s*)\b([A-Za-z])\b",
                                r"\3\2\1", text)


def change_modulus(text):
    r"""n \equiv 1 \pmod{4}  ->  n \equiv 1 \pmod{5}"""
    if r"\equiv" in text:
        yield from replace_each(r"(?<=\\pmod{) [0-9]+", next_number, text)
        yield from replace_each(r"(?<=\\equiv[ ]) [0-9]+", next_number, text)


def drop_first_term(text):
    r"""\sum_{k=1}^{n}\frac{1}{k^2}  ->  \sum_{k=2}^{n}\frac{1}{k^2}"""
    if not re.search(r"ln|log|sin|-[ ]?1", text):           # its first term is not 0
        yield from replace_each(r"(?<=\\sum_{[a-z]=) 1 (?=})", "2", text)


def shift_bounds_alone(text):
    r"""\sum_{k=1}^{n}\frac{1}{k^2}  ->  \sum_{k=0}^{n-1}\frac{1}{k^2}"""
    yield from replace_each(r"(\\sum_{[a-z]=)1}\^{([a-z])}", r"\g<1>0}^{\2-1}", text)


def flip_one_step(text):
    r"""x=5+7t, y=-2-3t, t\in\mathbb{Z}  ->  x=5+7t, y=-2+3t, t\in\mathbb{Z}"""
    match = re.fullmatch(r"(x=.*t, y=.*)([-+])([0-9]*t, t\\in\\mathbb{[ZR]})", text)
    if match:
        yield match[1] + {"-": "+", "+": "-"}[match[2]] + match[3]


def restrict_parameter(text):
    r"""n=4k+1, k\in\mathbb{Z}  ->  n=4k+1, k\in\mathbb{N}"""
    yield from replace_each(r"(?<=\\in\\mathbb{) Z (?=}$)", "N", text)


def multiply_first_entry(text):
    r"""2(1,0,-1)  ->  (2,0,-1)"""
    match = re.fullmatch(r"([2-9])\(([1-9]),(.*[1-9].*)\)", text)
    if match:
        yield f"({int(match[1]) * int(match[2])},{match[3]})"


def change_antiderivative(text):
    """x^3+C  ->  x^3+x+C"""
    yield from replace_each(r"[+][ ]?C$", "+x+C", text)
    yield from replace_each(r"[+][ ]?C$", "", text)


def invert_label(text):
    r"""\frac{NO}{BO}=\frac{1}{6}  ->  \frac{BO}{NO}=\frac{1}{6}"""
    yield from replace_each(r"^\\frac{([A-Z]{2})}{([A-Z]{2})}(?==)", r"\\frac{\2}{\1}", text)
    yield from replace_each(r"^([A-Z]):([A-Z])(?==)", r"\2:\1", text)
    yield from replace_each(r"(?<==)([0-9]+):([0-9]+)$", r"\2:\1", text)


def exchange_words_of_label(text):
    r"""m_{\max}=n^2-n  ->  m_{\min}=n^2-n"""
    for one, other in (("max", "min"), ("min", "max")):
        yield from replace_each(rf"(?<=_{{\\){one}(?=[ ]?}}=)", other, text)


def solve_wrongly(text):
    """-2x > 6  ->  x > -3"""
    match = re.fullmatch(r"(-?[2-9]|-)([a-z]) ?([<>]) ?(-?[0-9]+)", text)
    if match:
        name, sign = match[2], match[3]
        factor = -1 if match[1] == "-" else int(match[1])
        bound = mpmath.nstr(mpmath.mpf(match[4]) / factor)
        if bound.endswith(".0"):
            bound = bound[:-2]
        turned = {"<": ">", ">": "<"}[sign]
        right = sign if factor > 0 else turned
        wrong = turned if factor > 0 else sign
        yield f"{name} {wrong} {bound}"
        yield rf"{name} {right.replace('<', chr(92) + 'le').replace('>', chr(92) + 'ge')} {bound}"
        yield f"{name} {right} {match[4]}"


def square_sides(text):
    """x=y  ->  |x|=|y|"""
    sides = [side.strip() for side in text.split("=")]
    if gap_of(text) and len(names_in(gap_of(text))) > 1:
        yield f"({sides[0]})^2=({sides[1]})^2"
        yield f"|{sides[0]}|=|{sides[1]}|"
        yield f"{sides[0]}=|{sides[1]}|"


def change_equation(text):
    """x^2+4y^2=12  ->  x^2+5y^2=12"""
    if gap_of(text):
        yield from change_coefficient(text)
        yield from flip_sign(text)
        yield from change_number(text)
        yield from change_exponent(text)


def square_adds_solutions(text: str, other: str) -> bool:
    """Do solutions of the squared equation exist that do not solve the first? y=-x for x=y."""
    return texts_differ(text, other) and equations_differ(other, text)


# 5f. collections

def exchange_entries(text):
    """(3,-1,5)  ->  (-1,3,5)"""
    group = read_group(text)
    if is_tuple(group) and not read_group(group.items[0]):
        for i, j in itertools.combinations(range(len(group.items)), 2):
            items = list(group.items)
            items[i], items[j] = items[j], items[i]
            if values_differ(items[i], items[j]):
                yield group.text(items)


def exchange_across(text):
    """(1,2),(3,5)  ->  (3,2),(1,5)"""
    group = read_group(text)
    tuples = [read_group(item) for item in group.items] if group else []
    if len(tuples) > 1 and all(map(is_tuple, tuples)):
        a, b = tuples[:2]
        if all_differ([*a.items, *b.items]):
            first = a.text([b.items[0], *a.items[1:]])
            second = b.text([a.items[0], *b.items[1:]])
            yield group.text([first, second, *group.items[2:]])
            turned = a.text(a.items[::-1])
            if all_differ([turned, *group.items]):
                yield group.text([turned, *group.items[1:]])


def change_entry(text):
    r"""\{1,2,3\}  ->  \{-1,2,3\}"""
    group = read_group(text)
    if not group or "…" in text or "dots" in text:
        return
    for at, item in enumerate(group.items):
        if is_tuple(read_group(item)):
            changes = change_entry(item)
        else:
            changes = itertools.chain(negate(item), change_number(item), flip_sign(item))
        for new in itertools.islice(changes, 6):
            others = group.items[:at] + group.items[at + 1:]
            is_new = is_tuple(group) or all(values_differ(new, other) for other in others)
            if values_differ(item, new) and is_new:
                yield group.text([*group.items[:at], new, *group.items[at + 1:]])


def drop_item(text):
    """(1,2),(3,5)  ->  (1,2)"""
    group = read_group(text)
    if group and "dots" not in text and (is_tuple(group) or all_differ(group.items)):
        for at in range(len(group.items)):
            if len(group.items) > 2 or not is_tuple(group):
                yield group.text(group.items[:at] + group.items[at + 1:])


def add_item(text):
    r"""\{1,2,3\}  ->  \{1,2,3,98765\}"""
    group = read_group(text)
    if group and "dots" not in text and all(map(is_formula, group.items)):
        yield group.text([*group.items, "98765"])
        yield group.text(["0.98765", *group.items])
    elif group and "dots" not in text and all(is_tuple(read_group(item)) for item in group.items):
        size = len(read_group(group.items[0]).items)
        yield group.text([*group.items, f"({','.join(['98765'] * size)})"])


def repeat_entry(text):
    """(1,2)  ->  (1,2,2)"""
    group = read_group(text)
    if is_tuple(group) and "dots" not in text:
        yield group.text([*group.items, group.items[-1]])
        yield group.text([group.items[0], *group.items])


def drop_sign_of_both(text):
    r"""1\pm\sqrt{2}  ->  1+\sqrt{2}"""
    if "," not in text and is_formula(text.replace(r"\pm", "+")):
        yield text.replace(r"\pm", "+")
        yield text.replace(r"\pm", "-")


def write_out_wrongly(text):
    r"""(\pm 2,0)  ->  (2,0)"""
    match = re.fullmatch(r"\(\\pm ?([1-9][0-9]*),([0-9]+)\)", text)
    if match:
        x, y = match.groups()
        yield f"({x},{y})"
        yield f"({x},{y}),(-{x},{y}1)"
        yield f"({x},{y}),(-{x},{y}),(0,{x})"
        yield f"({y},{x}),({y},-{x})"


def change_range(text):
    r"""1,2,\ldots,10  ->  1,2,\ldots,11"""
    if re.fullmatch(r"[0-9]+(, ?[0-9]+)*, ?(\\l?dots|\.\.\.|…), ?[0-9]+", text):
        yield re.sub(r"[0-9]+$", next_number, text)
        yield re.sub(r"^[0-9]+", next_number, text)
        yield re.sub(r"(?<=,) ?(\\l?dots|\.\.\.|…), ?", "", text)


def change_cell(text):
    r"""\begin{pmatrix}1&2\\3&4\end{pmatrix}  ->  \begin{pmatrix}2&2\\3&4\end{pmatrix}"""
    begin, rows, end = read_matrix(text) or ("", [], "")
    for i, j in itertools.product(range(len(rows)), range(len(rows[0]) if rows else 0)):
        cell = rows[i][j]
        for new in itertools.chain(negate(cell), change_number(cell)):
            if formulas_differ(cell, new):
                changed = [list(row) for row in rows]
                changed[i][j] = new
                yield matrix_text(begin, changed, end)


def rearrange_matrix(text):
    r"""\begin{pmatrix}1&2\\3&4\end{pmatrix}  ->  \begin{pmatrix}1&3\\2&4\end{pmatrix}"""
    begin, rows, end = read_matrix(text) or ("", [], "")
    if not rows:
        return
    candidates = [rows[::-1], [row[::-1] for row in rows]]
    if len(rows) == len(rows[0]):
        candidates.insert(0, [list(column) for column in zip(*rows, strict=True)])
    for changed in candidates:
        pairs = zip(sum(rows, []), sum(changed, []), strict=True)
        if any(formulas_differ(*pair) for pair in pairs):
            yield matrix_text(begin, changed, end)
    if len(rows) > 2:
        yield matrix_text(begin, rows[:-1], end)
    if len(rows[0]) > 1 and len(rows) == len(rows[0]):
        yield matrix_text(begin, [sum(rows, [])], end)
        yield text.replace("pmatrix", "vmatrix").replace("bmatrix", "vmatrix")


# 5g. sets of reals

def open_or_close(text):
    r"""(-\infty,2)\cup[3,5)  ->  (-\infty,2]\cup[3,5)"""
    turned = {"(": "[", "[": "(", ")": "]", "]": ")"}
    yield from replace_each(r"(?<!sqrt)[(\[\])]", lambda m: turned[m[0]], text)


def change_bound(text):
    r"""-1<x\le 4  ->  -1<x\le 5"""
    if is_real_set(text):
        yield from change_number(text)
        yield from replace_each(r"-(?=[0-9])", "", text)
        yield from replace_each(r"(?<=[(\[,])(?=[0-9])", "-", text)
        yield from replace_each(r"\\infty", "1000000", text)


def change_set_operation(text):
    r"""(0,9)\setminus\{4\}  ->  (0,9)\cap\{4\}"""
    table = {r"\cup": [r"\cap ", r"\setminus "], r"\setminus": [r"\cup ", r"\cap "],
             r"\cap": [r"\cup "]}
    for sign, others in table.items():
        for other in others:
            yield text.replace(sign, other.strip() if sign + "\\" in text else other)


def drop_part_of_union(text):
    r"""(-\infty,2)\cup[3,5)  ->  (-\infty,2)"""
    parts = re.split(r"\\cup(?![a-z])| or ", text)
    if len(parts) > 1:
        yield from (part.strip() for part in parts)


def restate_wrongly(text):
    r"""(0,\sqrt{2}]  ->  0<x<\sqrt{2}"""
    match = re.fullmatch(r"(?:[a-z] ?\\in ?)?([(\[])(.*)([)\]])", text)
    ends = split_items(match[2]) if match else []
    if len(ends) == 2 and not re.search("infty|∞", text) and is_real_set(text):
        for left, right in itertools.product(("<", r"\le "), repeat=2):
            yield f"{ends[0]}{left}x{right}{ends[1]}"
        yield f"x<{ends[1]}"
        yield f"{ends[1]}<x<{ends[0]}"
    inequality = re.fullmatch(r"[a-z] ?(<|>|\\le|\\ge) ?(-?[0-9]+)", text)
    if inequality:
        end = inequality[2]
        yield rf"({end},\infty)"
        yield rf"(-\infty,{end})"
        yield rf"[{end},\infty)"
        yield rf"(-\infty,{end}]"


# 5h. points, angles, accents

ARROWS = r"\\(?:vec|overrightarrow)\s*{"


def reverse_vector(text):
    r"""\vec{AB}  ->  \vec{BA}"""
    yield from replace_each(rf"({ARROWS})([A-Z])([A-Z])}}", r"\1\3\2}", text)


def change_point(text):
    r"""\vec{AB}  ->  \vec{AX}"""
    yield from replace_each(r"(\\(?:vec|overrightarrow|overline)\s*{[A-Z])[A-Z]}", r"\1X}", text)
    yield from replace_each(r"(\\(?:angle|triangle)\s*[A-Z][A-Z])[A-Z]\b", r"\1X", text)
    yield from replace_each(r"^([A-Z])[A-Z]$", r"\1X", text)


def change_vertex(text):
    r"""\angle ABC  ->  \angle ACB"""
    yield from replace_each(r"(\\angle\s*)([A-Z])([A-Z])([A-Z])\b", r"\1\2\4\3", text)
    yield from replace_each(r"(\\angle\s*)([A-Z])([A-Z])([A-Z])\b", r"\1\3\2\4", text)


ACCENTS = ["vec", "hat", "bar", "dot", "ddot", "tilde"]


def change_accent(text):
    r"""\bar{x}+1  ->  \hat{x}+1"""
    for one, other in itertools.permutations(ACCENTS, 2):
        letters = "a-hl-z" if {one, other} == {"vec", "hat"} else "a-z"     # not unit vectors
        yield from replace_each(rf"\\{one}(?=\s*{{[{letters}]}})", rf"\\{other}", text)


def change_accented_letter(text):
    r"""\dot{x}  ->  \dot{y}"""
    names = "|".join(ACCENTS)
    yield from replace_each(rf"(\\(?:{names})\s*{{)[a-x]}}", r"\1y}", text)


def exchange_accented_letters(text):
    r"""\hat{i}+2\hat{j}  ->  \hat{j}+2\hat{i}"""
    match = re.fullmatch(r"(\\hat{[a-z]})\+([0-9]+)(\\hat{[a-z]})", text)
    if match and match[2] != "1" and match[1] != match[3]:
        yield f"{match[3]}+{match[2]}{match[1]}"


# 5i. text

WORDS = [("east", "west"), ("north", "south"), ("odd", "even"), ("increasing", "decreasing"),
         ("yes", "no"), ("true", "false"), ("convex", "concave"), ("convergent", "divergent"),
         ("Monday", "Tuesday"), ("Saturday", "Sunday"), ("infinitely", "finitely"),
         ("positive", "negative"), ("maximum", "minimum"), ("parallel", "perpendicular"),
         ("first", "second"), ("clockwise", "counterclockwise"), ("always", "never")]


def change_choice(text):
    r"""\text{(B)}  ->  \text{(A)}"""
    if re.fullmatch(r"(\\(?:text|textbf|mathrm)\s*{)?\(?[A-E]\)?}?", text):
        yield from replace_each(r"\b[A-E]\b", lambda m: "A" if m[0] != "A" else "B", text)
        yield from replace_each(r"\b[A-E]\b", "B, C", text)


def change_word(text):
    r"""\text{east}  ->  \text{west}"""
    for pair in WORDS:
        for one, other in (pair, pair[::-1]):
            yield from replace_each(rf"(?<![A-Za-z]){one}(?![A-Za-z])", other, text)


def deny(text):
    r"""\text{odd}  ->  \text{not odd}"""
    words = "|".join(word for pair in WORDS for word in pair if word not in ("yes", "no"))
    yield from replace_each(rf"(?<=^)(?:{words})$ | (?<={{)(?:{words})(?=}})", r"not \g<0>", text)
    yield from replace_each(rf"(?<=^)(?:{words})$ | (?<={{)(?:{words})(?=}})", r"non\g<0>", text)


def change_choice_with_text(text):
    r"""\textbf{(C)}\ 12  ->  \textbf{(D)}\ 12"""
    match = re.fullmatch(r"(\\text(?:bf)?\{\()([A-D])(\)\}\\ )([0-9]+)", text)
    if match:
        other = {"A": "B", "B": "C", "C": "D", "D": "A"}[match[2]]
        more = str(int(match[4]) + 1)
        yield match[1] + other + match[3] + match[4]
        yield match[1] + match[2] + match[3] + more
        yield other
        yield more


def exchange_branches(text):
    r"""1 \text{ if } x>0, 2 \text{ if } x<0  ->  2 \text{ if } x>0, 1 \text{ if } x<0"""
    for separator, condition in ((r"\\", "&"), (", ", r"\text{ if }")):
        head, begin, body = text.rpartition(r"\begin{cases}")
        body, end, _ = body.partition(r"\end{cases}")
        branches = [branch.split(condition) for branch in body.split(separator)]
        if all(len(branch) == 2 for branch in branches) and len(branches) == 2:
            (value, first), (other, second) = branches
            if formulas_differ(value.strip(" ,"), other.strip(" ,"), WIDE_POINTS):
                yield (head + begin + other + condition + first + separator
                       + value + condition + second + end)
                yield (head + begin + value + condition + second + separator
                       + other + condition + first + end)


def regroup_sets(text):
    r"""\{\{1,2\},\{3\}\}  ->  \{\{1\},\{2,3\}\}"""
    match = re.fullmatch(r"\\\{(\\\{.*\\\})\\\}", text)
    if match:
        inner = re.findall(r"\\\{([^{}\\]*)\\\}", match[1])
        items = ",".join(inner).split(",")
        for at in range(1, len(items)):
            parts = [",".join(items[:at]), ",".join(items[at:])]
            if parts != inner:
                yield r"\{\{" + r"\},\{".join(parts) + r"\}\}"
        yield r"\{" + ",".join(items) + r"\}"
        yield r"\{\{" + ",".join(items) + r"\}\}"


def change_domain(text):
    r"""x=2k, k\in\mathbb{Z}  ->  x=2k, k\in\mathbb{N}"""
    match = re.fullmatch(r"(.*[a-z]\s*\\in\s*\\mathbb\s*\{?)Z(\}?)", text)
    if match:
        yield match[1] + "N" + match[2]
        yield match[1] + "Q" + match[2]
        yield match[1] + "Z" + match[2] + "^+"
        yield re.sub(r"[a-z]\s*\\in.*", r"\\text{positive integers only}", text)


def list_wrong_integers(text):
    r"""\{n\in\mathbb{Z} : -3<n\le 2\}  ->  \{-3,-2,-1,0,1,2\}"""
    match = re.fullmatch(r"\\\{n\\in\\mathbb\{Z\} : (-?[0-9])<n\\le (-?[0-9])\\\}", text)
    if match:
        low, high = int(match[1]), int(match[2])
        for numbers in (range(low, high + 1), range(low + 1, high), range(low + 1, high + 2)):
            yield r"\{" + ",".join(map(str, numbers)) + r"\}"
        yield f"({low},{high}]"


def drop_exclusion(text):
    r"""k \ne 0, 3  ->  k \ne 0"""
    match = re.fullmatch(r"([a-z]) \\ne ([0-9]+), ([0-9]+)", text)
    if match:
        name, first, second = match.groups()
        yield rf"{name} \ne {first}"
        yield rf"{name} \ne {first}, {name} = {second}"
        yield rf"{name} \ne {first} \text{{ or }} {name} \ne {second}"
        yield rf"\mathbb{{R}}\setminus\{{{second}\}}"
        yield rf"\{{{first},{second}\}}"


def append_percent(text):
    r"""\frac{3}{4}  ->  0.75\%"""
    match = re.fullmatch(r"\\frac\{([0-9]+)\}\{([0-9]+)\}", text)
    if match and int(match[2]) and int(match[1]) < int(match[2]):
        yield rf"{int(match[1]) / int(match[2])}\%"


def change_number_words(text):
    """two thirds  ->  three halves"""
    if text == "two thirds":
        yield from ("three halves", "two fifths", "one third", "23", "2", "3", "5/3")


def change_empty_set(text):
    r"""\emptyset  ->  \{\emptyset\}"""
    if text.strip() in (r"\emptyset", r"\varnothing", "∅"):
        yield from (r"\{\emptyset\}", "0", r"\{0\}", r"\mathbb{R}", r"\infty")


def change_repeating_decimal(text):
    r"""0.\overline{3}  ->  0.3"""
    match = re.fullmatch(r"0\.([0-9]*)\\overline\{([0-9]+)\}", text)
    if match and match[2] not in ("9", "0"):
        start, period = match.groups()
        yield f"0.{start}{period}"
        yield rf"0.{start}\overline{{{period}0}}"
        yield rf"0.{start}0\overline{{{period}}}"
        yield f"0.{start}{period * 3}"


def change_ratio(text):
    """3:4  ->  4:3"""
    parts = text.split(":")
    are_numbers = all(re.fullmatch(r"\s*[1-9][0-9]*\s*", part) for part in parts)
    if len(parts) > 1 and are_numbers and len(set(parts)) == len(parts):
        yield ":".join(parts[::-1])
        yield ":".join([*parts[:-1], str(int(parts[-1]) + 1)])
        yield ":".join(parts[:-1] + [parts[-1] + "0"])
        yield ":".join([*parts[:-2], parts[-1], parts[-2]])
        doubled = [str(2 * int(part)) for part in parts]
        yield ":".join([*doubled[:-1], str(int(doubled[-1]) + 1)])


def change_base(text):
    """25_6  ->  25_7"""
    if re.fullmatch(r"\(?[0-9]+\)?_\{?[0-9]+\}?", text):
        yield from replace_each(r"(?<=_) [0-9]+ | (?<=_{) [0-9]+", next_number, text)
        yield from replace_each(r"^[0-9]+", next_number, text)
        yield from replace_each(r"_.*", "", text)


def exchange_min_and_max(text):
    r"""\max(a,b)  ->  \min(a,b)"""
    if re.fullmatch(r"\\(?:max|min|gcd|lcm)\(([a-z]),([a-z])\)", text):
        others = {"max": "min", "min": "max", "gcd": "max", "lcm": "gcd"}
        yield re.sub(r"(?<=\\)[a-z]{3}", lambda m: others[m[0]], text)
        yield text.replace(",", ",2")
        yield text.replace(",", "+")


# --- 6. the table of mutations --------------------------------------------------------------------

class Mutation(NamedTuple):
    """What changes a text, and the check that the change makes a difference."""
    change: Callable[[str], Iterator[str]]
    differs: Callable[[str, str], bool]
    frame: str = "{}"               # what both texts are put into

    @property
    def name(self) -> str:
        name = self.change.__name__.replace("_", " ")
        return name if self.frame == "{}" else f"{name}, in {self.frame.replace('{}', '…')}"


OF_NUMBERS = [
    change_number, change_last_decimal, exchange_digits, drop_digit, append_digit,
    move_decimal_point, drop_decimals, multiply_mixed_number, round_pi, scale_by_little, add_little,
]
OF_FORMULAS = [
    change_coefficient, flip_sign, negate, exchange_operands, change_exponent, negate_exponent,
    exchange_base_and_exponent, invert_fraction, change_function, change_base_of_log, change_root,
    drop_root, split_root, split_power, drop_parentheses, drop_term, drop_factor, change_factorial,
    change_binomial, exchange_floor_and_ceiling, exchange_real_and_imaginary, drop_imaginary_unit,
    change_letter, change_case, exchange_letters, change_index, drop_index, add_prime,
]
AT_BOTH_SIGNS = [move_kink, move_kink_and_level, drop_bars, add_bars]
AS_TEXT = [
    change_unit, change_power_of_unit, invert_rate, multiply_rate, change_currency,
    change_degrees, change_percent, change_time, change_number_before_unit, exchange_values,
    change_label, add_prime_to_call, change_argument, free_argument, exchange_sides, change_modulus,
    exchange_entries, exchange_across, change_entry, drop_item, add_item, repeat_entry,
    drop_sign_of_both, change_range, change_cell, rearrange_matrix, reverse_vector, change_point,
    change_vertex, change_accent, change_accented_letter, exchange_accented_letters, change_choice,
    change_word, deny, change_ratio, change_base, exchange_min_and_max, convert_wrongly,
    invert_label, exchange_words_of_label, solve_wrongly, write_out_wrongly,
    change_choice_with_text, change_number_words, change_empty_set, change_repeating_decimal,
    drop_first_term, shift_bounds_alone, flip_one_step, restrict_parameter, multiply_first_entry,
    change_antiderivative, exchange_branches, regroup_sets, change_domain, list_wrong_integers,
    drop_exclusion, append_percent,
]
OF_REAL_SETS = [open_or_close, change_bound, change_set_operation, drop_part_of_union,
                restate_wrongly]

# A formula in something else: its change must be seen there as well.
FRAMES = ["({},7)", r"\{{},98765\}", r"\begin{pmatrix}{}&0\\0&1\end{pmatrix}", "z={}",
          "10^{-50}({})", r"{}\text{ cm}", r"\frac{{}}{7q}", r"(-\infty,{})", r"|{}|<q"]
FRAMED = [change_number, flip_sign, change_function, change_letter, add_little]


def real_constants_differ(text: str, other: str) -> bool:
    """formulas_differ of two real numbers, as the ends of intervals are."""
    is_real = is_constant(text) and is_constant(other) and "i" not in text
    return is_real and not MP.im(evaluate(text)[0]) and formulas_differ(text, other)


def sizes_differ(text: str, other: str) -> bool:
    """formulas_differ of the absolute values."""
    return formulas_differ(f"|{text}|", f"|{other}|") and "|" not in text


def with_sign_differs(text: str, other: str) -> bool:
    """A doubled sign, before a number other than 0."""
    return is_constant(text) and evaluate(text)[0] != 0 and "+" not in text


def constant_matters(text: str, other: str) -> bool:
    """x+1+C is not x+1, but a constant or a family of answers may have one."""
    return is_formula(text) and bool(names_in(text)) and not is_a_family(text)


def relations_differ(text: str, other: str) -> bool:
    """Another sign between names is another relation; for sets of reals a point decides."""
    return is_plain_relation(text) or (is_real_set(text) and real_sets_differ(text, other))


def frame_check(frame: str):
    if "infty" in frame:
        return real_constants_differ
    if r"\text" in frame:
        return lambda text, other: is_constant(text) and formulas_differ(text, other)
    return sizes_differ if frame.startswith("|") else formulas_differ


MUTATIONS = [
    *(Mutation(change, formulas_differ) for change in OF_NUMBERS + OF_FORMULAS),
    *(Mutation(change, functions_differ) for change in AT_BOTH_SIGNS),
    Mutation(double_sign, with_sign_differs), Mutation(add_constant, constant_matters),
    *(Mutation(change, texts_differ) for change in AS_TEXT),
    *(Mutation(change, real_sets_differ) for change in OF_REAL_SETS),
    Mutation(change_relation, relations_differ),
    Mutation(change_equation, equations_differ), Mutation(square_sides, square_adds_solutions),
    *(Mutation(change, frame_check(frame), frame) for frame in FRAMES for change in FRAMED),
]

KINDS = [mutation.name for mutation in MUTATIONS]


# Another spelling of the changed answer must not hide the change.
OTHER_SIGNS = {
    r"\leq": "≤", r"\le": "≤", r"\geq": "≥", r"\ge": "≥", r"\ne": "≠", r"\subseteq": "⊆",
    r"\subset": "⊂", r"\in": "∈", r"\cup": "∪", r"\cap": "∩", r"\setminus": "∖", r"\pi": "π",
    r"\infty": "∞", r"\cdot": "·", r"\alpha": "α", r"\beta": "β", r"\theta": "θ", r"\angle": "∠",
    r"\circ": "°", r"\vec": r"\overrightarrow", r"\frac": r"\dfrac", "⊂": r"\subset ",
    "⊆": r"\subseteq ",
}


def respell(text: str) -> str:
    r"""\frac{\pi}{2} \le x  ->  \dfrac{π}{2} ≤ x"""
    for sign, other in OTHER_SIGNS.items():
        ends = "(?![A-Za-z])" if sign.startswith("\\") else ""
        text = re.sub(re.escape(sign) + ends, lambda match, new=other: new, text)
    return text


# --- 7. right answers in another spelling ---------------------------------------------------------

def as_dfrac(text):
    r"""\frac{3}{4}  ->  \dfrac{3}{4}"""
    return re.sub(r"\\frac(?![a-z])", r"\\dfrac", text)


def with_left_and_right(text):
    r"""(1,2)  ->  \left(1,2\right)"""
    if "left" in text or text.count("(") != text.count(")") or r"\text" in text:
        return text
    return text.replace("(", r"\left(").replace(")", r"\right)")


def with_spaces(text):
    """x^2+2x-3  ->  x^2 + 2x - 3"""
    if r"\text" in text or "e-" in text or re.search("[a-z]{4}", text):
        return text
    return re.sub(r"(?<=[\w)}])([+<>=])(?=[\w(\\])|(?<=[\w)}])(-)(?=[a-zA-Z0-9])", r" \1\2 ", text)


def in_dollars(text):
    """x^2  ->  $x^2$"""
    return text if "$" in text else f"${text}$"


def in_parentheses(text):
    """x^2+1  ->  (x^2+1)"""
    return f"({text})" if is_formula(text) and "$" not in text else text


def with_unicode_minus(text):
    """x-1  ->  x−1"""
    return text if r"\text" in text or re.search("[a-z]{3}", text) else text.replace("-", "−")


def with_braces(text):
    """x^2  ->  x^{2}"""
    return re.sub(r"(?<=[A-Za-z0-9)])\^([0-9a-z])(?![0-9a-z])", r"^{\1}", text)


def with_unit_in_text(text):
    r"""5 square meters  ->  5\text{ square meters}"""
    match = re.fullmatch(r"([0-9.]+) ([a-z ]+)", text)
    return rf"{match[1]}\text{{ {match[2]}}}" if match and with_unit(text) else text


def with_other_signs(text):
    r"""-1<x\le 4  ->  -1<x≤ 4"""
    return respell(text)


def with_period(text):
    """x^2  ->  x^2."""
    return text if text.endswith((".", "$")) else text + "."


def with_display(text):
    r"""x^2  ->  \displaystyle x^2"""
    return text if "$" in text else r"\displaystyle " + text


def with_thin_space(text):
    r"""(1,2)  ->  (1,\,2)"""
    if re.search(r"[0-9],(?:\\!)?[0-9]{3}|\\text|\{,\}|\\mbox", text):
        return text
    return re.sub(r"(?<=[\w)}]),[ ]*", r",\\,", text)


NOTATIONS = [as_dfrac, with_left_and_right, with_spaces, in_dollars, in_parentheses,
             with_unicode_minus, with_braces, with_unit_in_text, with_other_signs, with_period,
             with_display, with_thin_space]


# --- 8. making pairs and asking the verifier ------------------------------------------------------

PER_REFERENCE = 4                   # answers of one mutation to one reference
PER_MUTATION = 250                  # pairs of one mutation, evenly from all references
PER_SHAPE = 3                       # references that differ in their digits only
MAX_LENGTH = 160                    # of a reference
SECONDS = 5                         # for one pair


class Pair(NamedTuple):
    kind: str                       # the name of a mutation, a notation or a property
    reference: str
    answer: str


def places_of_formula(text: str) -> tuple[str, str]:
    """(what stands before it, the formula): f(x)= and 2x+1; $ signs do not count."""
    text = text.strip()
    if re.fullmatch(r"\$[^$]*\$\.?", text):
        text = text.strip("$.")
    match = re.fullmatch(r"([A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=\s*)([^=]*)", text)
    if match and is_formula(match[2]):
        return match[1], match[2]
    return "", text


def near_misses(mutation: Mutation, reference: str) -> Iterator[Pair]:
    """The pairs of one mutation of a reference: plainly, and in other signs."""
    if mutation.differs in (formulas_differ, functions_differ) or mutation.frame != "{}":
        label, text = places_of_formula(reference)
        if not is_formula(text) or (mutation.frame != "{}" and label):
            return
    else:
        label, text = "", reference.strip()
    seen = set()
    for changed in mutation.change(text):
        if changed in seen or not mutation.differs(text, changed):
            continue
        seen.add(changed)
        old, new = (label + mutation.frame.replace("{}", t, 1) for t in (text, changed))
        yield Pair(mutation.name, old, new)
        if respell(new) != new and len(seen) == 1:
            yield Pair(mutation.name, old, respell(new))
        if len(seen) == PER_REFERENCE:
            return


def all_near_misses(references: list[str], mutations=None, per_mutation=PER_MUTATION) -> list[Pair]:
    """The pairs of each mutation, from references in a random order that is always the same."""
    pairs = []
    for mutation in mutations or MUTATIONS:
        shuffled = random.Random(mutation.name).sample(references, len(references))
        own = (pair for reference in shuffled for pair in near_misses(mutation, reference))
        pairs += itertools.islice(own, per_mutation)
    return pairs


def all_spellings(references: list[str]) -> list[Pair]:
    """Pairs that must be accepted: each reference with itself, and in other notations."""
    references = [text for text in references if text not in ("nan", "none")]
    pairs = [Pair("reflexive", reference, reference) for reference in references]
    for notation in NOTATIONS:
        for reference in references:
            answer = notation(reference)
            if answer != reference:
                pairs.append(Pair(notation.__name__.replace("_", " "), reference, answer))
    return pairs


def thin_out(references) -> list[str]:
    """The references without repetitions and long ones, and few of each shape: of \\frac{00}{0}."""
    kept, shapes = [], {}
    for text in dict.fromkeys(references):
        shape = re.sub("[0-9]+", lambda match: "0" * min(len(match[0]), 2), text)
        shapes[shape] = shapes.get(shape, 0) + 1
        if 0 < len(text) <= MAX_LENGTH and shapes[shape] <= PER_SHAPE:
            kept.append(text)
    return kept


def read_folder(folder: Path) -> tuple[list[str], list[str]]:
    """(benchmarks' answers, answers of labeled pairs) of the *.jsonl files."""
    found = {"answer": [], "gold": []}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            for key, texts in found.items():
                if isinstance(row.get(key), (str, int, float)):
                    texts.append(str(row[key]))
    return found["answer"], found["gold"]


def ask(pairs: list[Pair], checkout: Path = HERE.parent) -> list[tuple[str, str]]:
    """What the answers.py of a checkout says to (reference, answer) and to (answer, reference).

    Each is "yes", "no", "time" or "error". A process of its own, so that two checkouts do not mix.
    """
    result = subprocess.run(
        [sys.executable, __file__, "--worker", str(checkout)], text=True, check=True,
        input=json.dumps([pair[1:] for pair in pairs]), stdout=subprocess.PIPE)
    return [tuple(answers) for answers in json.loads(result.stdout)]


def answer_questions(checkout: str) -> None:
    """The other end of `ask`."""
    sys.path.insert(0, checkout)
    from answers import is_equivalent

    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)

    def question(reference, answer):
        signal.alarm(SECONDS)
        try:
            return "yes" if is_equivalent(reference, answer) else "no"
        except TimeoutError:
            return "time"
        except Exception:
            return "error"
        finally:
            signal.alarm(0)

    json.dump([(question(a, b), question(b, a)) for a, b in json.load(sys.stdin)], sys.stdout)


# --- 9. the page ----------------------------------------------------------------------------------

def code(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("\n", " ") + "`"


def count_rows(pairs: list[Pair], verdicts: dict[str, list], is_wrong) -> list[str]:
    """Rows of a table: a kind, its pairs, and how many verdicts of each checkout are wrong."""
    lines = []
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        at = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        wrong = [sum(is_wrong(answers[i]) for i in at) for answers in verdicts.values()]
        lines.append(f"| {kind.replace('|', chr(92) + '|')} | {len(at)} | "
                     f"{' | '.join(map(str, wrong))} |")
    total = [sum(map(is_wrong, answers)) for answers in verdicts.values()]
    return [*lines, f"| **all** | **{len(pairs)}** | {' | '.join(f'**{n}**' for n in total)} |"]


def accepts(answers) -> bool:
    return "yes" in answers


def rejects(answers) -> bool:
    return answers != ("yes", "yes")


def is_lopsided(answers) -> bool:
    return answers[0] != answers[1]


def fails(answers) -> bool:
    return "time" in answers or "error" in answers


def format_page(misses, miss_verdicts, spellings, spelling_verdicts, shown, sources) -> str:
    names = list(miss_verdicts)
    head = f"| | pairs | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}"
    both = {name: miss_verdicts[name] + spelling_verdicts[name] for name in names}
    lines = [
        "# Near misses: answers that are almost right", "",
        "Command: `python results/near_misses.py [FOLDER] [--before DIR]`. Each mutation makes "
        "wrong answers from references by program; none of them may be accepted, in either "
        f"direction. References: {sources}. On the committed page, before is commit b5c01dd.", "",
        "## Wrong accepts", "", head, *count_rows(misses, miss_verdicts, accepts), "",
        "## Wrong rejects: right answers in another notation", "", head,
        *count_rows(spellings, spelling_verdicts, rejects), "",
        "## Other properties", "", head]
    for title, is_wrong in (("not symmetric", is_lopsided), ("timed out or crashed", fails)):
        counts = [sum(map(is_wrong, answers)) for answers in both.values()]
        lines.append(f"| {title} | {len(misses) + len(spellings)} | "
                     f"{' | '.join(map(str, counts))} |")

    latest = miss_verdicts[names[-1]]
    examples = [pair for pair, answers in zip(misses, latest, strict=True)
                if accepts(answers) and pair in shown]
    lines += ["", f"## Up to 20 of the pairs that {names[-1]} accepts", ""]
    for pair in spread(examples, 20):
        lines.append(f"- {pair.kind}: reference {code(pair.reference)}, answer {code(pair.answer)}")
    return "\n".join(lines if examples else [*lines, "None."]) + "\n"


def spread(pairs: list[Pair], count: int) -> list[Pair]:
    """Up to `count` pairs, from as many kinds as possible."""
    by_kind = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind, []).append(pair)
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*by_kind.values()))
    return [pair for pair in mixed if pair][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="*", type=Path, metavar="FOLDER",
                        help="folders of *.jsonl files with the key answer or gold")
    parser.add_argument("--before", type=Path, help="an older checkout, measured beside this one")
    parser.add_argument("--after", type=Path, default=HERE.parent,
                        help="the checkout to measure (default: this one)")
    parser.add_argument("--page", type=Path, default=HERE / "near_misses.md")
    parser.add_argument("--list", type=Path, help="write all wrong verdicts to this JSONL file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answer_questions(args.worker)
        return

    answers, golds = [], []
    for folder in args.folder:
        new_answers, new_golds = read_folder(folder)
        answers += new_answers
        golds += new_golds
    public = thin_out(REFERENCES + answers)
    # Rows of labeled pairs may be under licenses of their own: they are counted, not shown.
    private = thin_out(text for text in golds if text not in set(public))
    misses = all_near_misses(public)
    shown = set(misses)
    misses = sorted(misses + all_near_misses(private), key=lambda pair: KINDS.index(pair.kind))
    spellings = all_spellings(public + private)
    print(f"{len(misses)} near misses, {len(spellings)} spellings", flush=True)

    checkouts = {"before": args.before} if args.before else {}
    checkouts["now"] = args.after
    miss_verdicts = {name: ask(misses, path) for name, path in checkouts.items()}
    spelling_verdicts = {name: ask(spellings, path) for name, path in checkouts.items()}

    if args.list:
        with open(args.list, "w") as file:
            for pairs, verdicts, is_wrong in ((misses, miss_verdicts, accepts),
                                              (spellings, spelling_verdicts, rejects)):
                for i, pair in enumerate(pairs):
                    said = {name: rows[i] for name, rows in verdicts.items()}
                    if any(is_wrong(v) or is_lopsided(v) for v in said.values()):
                        print(json.dumps({**pair._asdict(), **said}), file=file)
    sources = (f"{len(REFERENCES)} built-in, {len(public) - len(REFERENCES)} of benchmarks, "
               f"{len(private)} more of labeled pairs")
    page = format_page(misses, miss_verdicts, spellings, spelling_verdicts, shown, sources)
    args.page.write_text(page)
    print(page)


if __name__ == "__main__":
    main()

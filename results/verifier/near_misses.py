r"""An adversary of the verifier: answers that are almost right, made by program.

    python results/verifier/near_misses.py                 the built-in references
    python results/verifier/near_misses.py FOLDER ...      and every answer in the *.jsonl files
    python results/verifier/near_misses.py --before DIR    beside an older checkout's answers.py

Each mutation makes wrong answers from a right one: \vec{BA} from \vec{AB}, 18.90 euros from $18.90.
A verifier that accepts one of them, in either direction, is wrong. Of 154 mutations that were tried
these are the ones that ever found a wrong accept; tests/data/answers.jsonl has what they found.

FOLDER holds JSON lines with the key "answer", or "gold"; the committed page was measured on samples
of public benchmarks that are not in this repository. Writes near_misses.md beside this file.

That a changed answer is really different is checked here, and not by the verifier: formulas are
read by a second, small evaluator and differ at sample points; other mutations are limited to forms
in which the change cannot be harmless. What is in doubt gives no pair: constants of integration,
families such as x + k\pi, whatever the evaluator cannot read.

To add a mutation: write an entry of MUTATIONS. Its example is its test.
"""
import argparse
import ast
import functools
import importlib.util
import itertools
import json
import operator
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mpmath

HERE = Path(__file__).resolve().parent

# Of every form that one of the mutations changes.
REFERENCES = [
    # numbers
    "27", "-42", "2196", "12.5", "0.529", "7{,}425", "5.3e-9", r"\frac{3}{4}", r"-\frac{7}{15}",
    r"8\frac{4}{7}", "2^{10}", "5!", r"3\sqrt{13}", r"\sqrt[3]{4}", r"\frac{1+\sqrt{5}}{2}",
    r"18+2\pi", r"\ln 7", "e^2", "3+4i", r"\arcsin\frac{1}{3}", r"e^{i\pi/3}",
    r"6.7 \times 10^{-11}", "z=3^{2007}", r"\$18.90", r"\$115,000", "-3,0",
    # formulas
    "x^2+2x-3", "2(x+y)^2", r"\frac{11+9a}{20}", r"\sin^2 x", r"e^{-t}\cos 2t", r"\ln(x+1)",
    "|x+11|-11", r"\sqrt{a^2+b^2}", r"\frac{v_0}{r_1}", "2n!", "a^b", r"\alpha+\beta",
    r"\frac{d!}{(d-k)!}", r"\frac{x-1}{7}", r"\hbar b+k", r"i\sin(3t)", "2^{1500}-1",
    # names and relations
    "f(x)=2x+1", "f(2)=9", "y=2x+3", "x=y", "x<y", "b < a < d < c", r"A \subset B", r"x \in A",
    r"k \ne 0, 3", "BD", r"\vec{AB}", r"\overrightarrow{PQ}", r"\angle ABC",
    # collections, functions by cases, families
    "1,-2", r"\{1,2,3\}", "(1,2)", "(3,-1,5)", "(2v^2_0,3v^2_0)", r"\emptyset",
    r"\{\{1,2\},\{3\}\}", r"\{\{a\},\{b\}\}", r"\begin{cases}x^2&x\ge 0\\-x&x<0\end{cases}",
    r"n-1 \text{ if } n>4, 2n \text{ if } n \le 4",
    r"f(n)=\begin{cases}n-1,&n\text{ even}\\n,&n\text{ odd}\end{cases}", r"x=2k+1, k\in\mathbb{Z}",
    r"x=5+7t, y=-2-3t, t\in\mathbb{Z}", r"n=5k+2, k\in\mathbb{Z}", r"f(x)=cx, c\in\mathbb{R}",
]


# --- 1. a second reader of formulas ---------------------------------------------------------------
# It shares no code with the verifier, reads less, and refuses where the verifier would guess. A
# formula is rewritten as Python, \frac{x}{2} as ((x)/(2)), and evaluated along Python's own tree.

MP = mpmath.mp.clone()
MP.dps = 50
MAX_ARGUMENT = 10_000               # of functions, and exponents
POINTS = range(4)                   # sample points with positive values
WIDE_POINTS = range(4, 16)          # sample points of both signs, beyond any usual kink


class Unreadable(Exception):
    """The text is no formula of the small grammar."""


FUNCTIONS = {
    "sin": MP.sin, "cos": MP.cos, "tan": MP.tan, "cot": MP.cot, "arcsin": MP.asin,
    "arccos": MP.acos, "arctan": MP.atan, "ln": MP.log, "log": MP.log, "exp": MP.exp,
    "abs": abs, "factorial": MP.factorial,
}
FUNCTION = rf"(?:{'|'.join(FUNCTIONS)})(?![A-Za-z])"
GREEK = "alpha|beta|gamma|delta|theta|mu|nu|rho|sigma|tau|phi|psi|omega|Delta|Omega|hbar|pi"
RESPELLED = [
    (r"\$|\\left(?![a-z])|\\right(?![a-z])|\\[,;!: ]|\\displaystyle|~|\\quad", " "),
    (r"\\[dt]frac(?![a-z])", r"\\frac"),
    (r"\\cdot(?![a-z])|\\times(?![a-z])|[·×]", "*"),
    (r"\*\*", "^"), ("−", "-"), ("²", "^2"), ("π", r"\\pi "),
    (r"(?<=[0-9])\{,\}(?=[0-9]{3})", ""),                                           # 7{,}425
    (r"(?<![0-9.,^}])([0-9]+)\s*(\\frac\{[0-9]+\}\{[0-9]+\})", r"(\1+\2)"),         # 8\frac{4}{7}
    (rf"\\({GREEK})(?![A-Za-z])", r" \1 "), (rf"\\({FUNCTION})", r" \1"),
]
# From the innermost braces outwards, as often as one of them matches.
UNFOLDED = [
    (r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\sqrt\s*\[([0-9]+)\]\s*\{([^{}]*)\}", r"((\2)^(1/\1))"),
    (r"\\sqrt\s*\{([^{}]*)\}", r"((\1)^(1/2))"),
    (r"\^\s*\{([^{}]*)\}", r"^(\1)"), (r"_\{([0-9]+|[A-Za-z])\}", r"_\1"),
    (r"\|([^|{}]*)\|", r" abs(\1)"),
    (r"([0-9]+|(?<![A-Za-z])[A-Za-z]|\([^()]*\))!(?!!)", r" factorial(\1)"),
]
TOKEN = re.compile(rf"""\s*(
    {FUNCTION} | (?:(?:{GREEK})(?![A-Za-z]) | [A-Za-z])(?:_(?:[0-9]+|[A-Za-z]))?'*
  | [0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)? | [-+*/^()])""", re.X)
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
             ast.Div: operator.truediv, ast.Pow: MP.power}


def to_python(text: str) -> str:
    r"""\frac{x}{2}+\sin 2y -> ((x)/(2))+sin(2*y). Raises Unreadable."""
    for pattern, replacement in RESPELLED:
        text = re.sub(pattern, replacement, text)
    if re.search(r"[0-9]\s+[0-9.]|(?<![A-Za-z])[fghFGHP]'*\s*\(", text):
        raise Unreadable("numbers side by side, or a call of an unknown function")
    without_names = re.sub(rf"\\[A-Za-z]+|{FUNCTION}|{GREEK}", " ", text)
    if re.search(r"[A-Za-z]{3}|\b(?:no|or|is|am|pm|cm|km|kg|oo)\b", without_names):
        raise Unreadable("words")
    before = ""
    while before != text:
        before = text
        for pattern, replacement in UNFOLDED:
            text = re.sub(pattern, replacement, text)

    # \sin^2 x is sin(x)^2, and the argument of \cos 2t is 2t; any other one needs its brackets.
    argument = rf"([0-9]+|(?:[0-9]+\s*)?(?:{GREEK}|[A-Za-z]))(?!\s*(?!{FUNCTION})[\w(^])"
    text = re.sub(rf"({FUNCTION})\s*{argument}", r"\1(\2)", text)
    text = re.sub(rf"({FUNCTION})\s*\^\(?([0-9])\)?\s*{argument}", r"\1(\3)^\2", text).strip()

    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise Unreadable(text[at])
        at = match.end()
        follows_value = tokens and tokens[-1] not in [*"-+*/^(", *FUNCTIONS]
        if follows_value and re.match(r"[(A-Za-z]", match[1]):
            tokens.append("*")
        tokens.append(match[1])
    return " ".join(tokens).replace("^", "**").replace("'", "_prime")


@functools.lru_cache(maxsize=100_000)
def evaluate(text: str, point: int = 0) -> tuple:
    """(value, names) of a formula at a sample point; the value is None where it is undefined.

    Raises Unreadable.
    """
    names = set()

    def value_of(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return MP.mpf(ast.get_source_segment(source, node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value_of(node.operand)
        if isinstance(node, ast.Name) and node.id not in FUNCTIONS:
            return value_of_name(node.id)
        if isinstance(node, ast.BinOp):
            left, right = value_of(node.left), value_of(node.right)
            if isinstance(node.op, ast.Pow) and abs(right) > MAX_ARGUMENT:
                raise Unreadable("a large exponent")
            return OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.Call) and len(node.args) == 1:
            argument = value_of(node.args[0])
            if abs(argument) > MAX_ARGUMENT:
                raise Unreadable("a large argument")
            return FUNCTIONS[node.func.id](argument)
        raise Unreadable(ast.dump(node))

    def value_of_name(name):
        if name in ("e", "i", "pi"):
            return {"e": MP.e, "i": MP.mpc(0, 1), "pi": MP.pi}[name] + 0
        names.add(name)
        low, high = (0.3, 2.9) if point in POINTS else (-40, 40)
        return MP.mpf(random.Random(f"{name} {point}").uniform(low, high))

    try:
        source = to_python(text)
        value = value_of(ast.parse(source, mode="eval").body)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None, frozenset()
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise Unreadable(str(error)) from None
    return (value if MP.isfinite(value) else None), frozenset(names)


def is_formula(text: str) -> bool:
    try:
        return evaluate(text)[0] is not None
    except Unreadable:
        return False


def may_be_rounded(text: str, other: str) -> bool:
    """Is one a decimal that stands, by convention, for the other, rounded?"""
    for decimal, exact in ((text, other), (other, text)):
        match = re.fullmatch(r"-?[0-9]*\.([0-9]+)", decimal)
        if match and not re.fullmatch(r"-?[0-9]*\.[0-9]+", exact):
            return abs(evaluate(exact)[0] - MP.mpf(decimal)) <= MP.mpf(10)**-len(match[1])
    return False


def is_a_family(text: str) -> bool:
    r"""Does it stand for many answers: + C, or k\pi? Then a change may give the same family."""
    has_integer = re.search(r"(?<![A-Za-z\\])[klmnt](?![A-Za-z])", text)
    has_period = r"\pi" in text or "π" in text or "^\\circ" in text
    return bool(has_integer and has_period) or bool(re.search(r"(?<![A-Za-z\\])[CcK]\b|C_", text))


def formulas_differ(text: str, other: str, points=POINTS) -> bool:
    """Are both formulas, and do they differ at two points at least (constants: at the one)?"""
    if not is_formula(text) or not is_formula(other):
        return False
    if is_a_family(text) or may_be_rounded(text, other):
        return False

    differences = 0
    try:
        for point in points:
            u, v = evaluate(text, point)[0], evaluate(other, point)[0]
            if u is not None and v is not None:
                # More than the evaluator's own errors: sin 7π is 1e-50 to it.
                differences += abs(u - v) > MP.mpf(10)**-25 * max(abs(u), abs(v), MP.mpf(10)**-15)
    except Unreadable:              # an exponent that is large at one of the points
        return False
    has_names = evaluate(text)[1] | evaluate(other)[1]
    return differences >= (2 if has_names else 1)


def functions_differ(text: str, other: str) -> bool:
    """formulas_differ at points of both signs: for changes that positive numbers do not show."""
    roots = r"sqrt|log|ln|arc|\^\{?[^0-9{]|\^\{[^}]*[./a-z]"
    return not re.search(roots, text + other) and formulas_differ(text, other, WIDE_POINTS)


def texts_differ(text: str, other: str) -> bool:
    """For changes that cannot be harmless: their patterns are limited to such forms."""
    return re.sub(r"\s", "", text) != re.sub(r"\s", "", other)


# --- 2. mutations that are more than a replacement ------------------------------------------------

def append_percent(text):
    match = re.fullmatch(r"\\frac\{([0-9]+)\}\{([0-9]+)\}", text)
    if match and int(match[1]) < int(match[2]):
        yield rf"{int(match[1]) / int(match[2])}\%"


def free_argument(text):
    match = re.fullmatch(r"\$?([fgh])\(([a-y])\)\s*=([^=$]*)\$?", text)
    if match and is_formula(match[3]) and match[2] in evaluate(match[3])[1]:
        yield f"{match[1]}(z)={match[3]}"


def square_sides(text):
    match = re.fullmatch(r"([a-df-hj-z])\s*=([^=]+)", text)
    if not match or not is_formula(match[2]) or match[1] in evaluate(match[2])[1]:
        return
    # The left side takes any value. So solutions are lost, and others added, where the right side
    # is negative.
    values = [evaluate(match[2], point)[0] for point in WIDE_POINTS]
    if all(value is not None and not MP.im(value) for value in values) and min(values) < 0:
        yield f"({match[1]})^2=({match[2]})^2"
        yield f"|{match[1]}|=|{match[2]}|"
        yield f"{match[1]}=|{match[2]}|"


def exchange_sides(text):
    sign = r"\s*(?:[<>]|\\(?:subseteq|subset|le|ge|in)(?![a-z]))\s*"
    letters = re.findall(r"\b[A-Za-z]\b", text)
    if re.fullmatch(rf"[A-Za-z](?:{sign}[A-Za-z])+", text) and len(set(letters)) == len(letters):
        yield from replace_each([(rf"\b([A-Za-z])({sign})([A-Za-z])\b", r"\3\2\1")], text)


def read_items(text: str) -> tuple[str, list[str], str]:
    """(opening bracket, items, closing one) of a tuple, set or bare list; without items if none."""
    match = re.fullmatch(r"(\(|\\\{|)([^()]*?)(\)|\\\}|)", text)
    has_thousands = re.search(r"[0-9],[0-9]{3}(?![0-9])", text)
    if not match or "," not in text or has_thousands or "dots" in text:
        return "", [], ""
    return match[1], match[2].split(","), match[3]


def drop_item(text):
    opening, items, closing = read_items(text)
    is_pair = opening == "(" and len(items) == 2
    if not is_pair and all(formulas_differ(*pair) for pair in itertools.combinations(items, 2)):
        for at in range(len(items)):
            yield opening + ",".join(items[:at] + items[at + 1:]) + closing


def repeat_entry(text):
    opening, items, closing = read_items(text)
    if opening == "(" and closing == ")":
        yield opening + ",".join([*items, items[-1]]) + closing
        yield opening + ",".join([items[0], *items]) + closing


def regroup_sets(text):
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


def exchange_branches(text):
    head, begin, body = text.rpartition(r"\begin{cases}")
    body, end, _ = body.partition(r"\end{cases}")
    for separator, condition in ((r"\\", "&"), (", ", r"\text{ if }")):
        branches = [branch.split(condition) for branch in body.split(separator)]
        if [len(branch) for branch in branches] == [2, 2]:
            (value, first), (other, second) = branches
            if formulas_differ(value.strip(" ,"), other.strip(" ,"), WIDE_POINTS):
                for one, two in ((other + condition + first, value + condition + second),
                                 (value + condition + second, other + condition + first)):
                    yield head + begin + one + separator + two + end


# --- 3. all mutations -----------------------------------------------------------------------------

def replace_each(replacements: list[tuple], text: str) -> Iterator[str]:
    """The text with one match of one pattern replaced, for each match of each."""
    for pattern, replacement in replacements:
        for match in re.finditer(pattern, text):
            new = replacement(match) if callable(replacement) else match.expand(replacement)
            yield text[:match.start()] + new + text[match.end():]


def any_of(pattern: str, *replacements: str) -> list[tuple]:
    return [(pattern, replacement) for replacement in replacements]


def next_number(match: re.Match) -> str:
    return str(int(match[0]) + 1)


class Mutation(NamedTuple):
    """What changes a text, and the check that the change makes a difference."""
    name: str
    example: str                    # "before  ->  after"
    change: Callable | list         # text -> changed texts, or what replace_each takes
    differs: Callable[[str, str], bool]
    frame: str = "{}"               # what both texts are put into, once they differ

    def changed(self, text: str) -> Iterator[str]:
        return self.change(text) if callable(self.change) else replace_each(self.change, text)


NAME = r"(?<![A-Za-z\\_])(?<![0-9](?=E))[A-Za-df-hj-z](?![A-Za-z({'])"    # not e, i, or a call
ANGLE = r"(\\angle\s*)([A-Z])([A-Z])([A-Z])\b"
INTEGERS = r"^(.*[a-z]\s*\\in\s*\\mathbb\s*\{?)Z(\}?)$"

CHANGE_NUMBER = Mutation("change number", "2x^2+3  ->  2x^2+4", [
    (r"(?<=[0-9]\^{)[0-9]+(?=})|(?<![0-9.^_e{])[0-9]+(?![0-9.])|(?<={)[0-9]+(?![0-9.])",
     next_number)], formulas_differ)
OF_FORMULAS = [
    CHANGE_NUMBER,
    Mutation("exchange digits", "2196  ->  1296", [(r"([0-9])([0-9])", r"\2\1")], formulas_differ),
    Mutation("drop digit", "2196  ->  196", [(r"[0-9](?=[0-9])", "")], formulas_differ),
    Mutation("scale by little", "x+1  ->  1.0001(x+1)", any_of(
        "^.*$", r"1.0001(\g<0>)", r"\\frac{10001}{10000}(\g<0>)", r"(1+10^{-12})(\g<0>)"),
        formulas_differ),
    Mutation("change exponent", "x^2  ->  x^3",
             [(r"(?<=\^)[0-9]|(?<=\^{)-?[0-9]+(?=})", next_number)], formulas_differ),
    Mutation("change case", r"\frac{v_0}{r_1}  ->  \frac{V_0}{r_1}",
             [(NAME, lambda match: match[0].swapcase())], formulas_differ),
    Mutation("add prime", "2x+1  ->  2x'+1", [(NAME + "(?![_^])", r"\g<0>'")], formulas_differ),
    Mutation("move kink and level", "|x+11|-11  ->  |x+10|-10",
             [(r"\|([a-z])\+([1-9])\2\|-\2\2(?![0-9])", r"|\1+\g<2>0|-\g<2>0")], functions_differ),
    Mutation("drop bars", "|x+11|-11  ->  (x+11)-11", [(r"\|([^|]*)\|", r"(\1)")],
             functions_differ),
    Mutation("add bars", "x^2+2x-3  ->  x^2+2|x|-3",
             [(r"(?<![A-Za-z\\_{}])[a-z](?![a-zA-Z_({'])", r"|\g<0>|")], functions_differ),
]
AS_TEXT = [
    Mutation("append percent", r"\frac{3}{4}  ->  0.75\%", append_percent, texts_differ),
    Mutation("change currency", r"\$18.90  ->  18.90 euros",
             any_of(r"^\\\$([0-9.,]+)$", r"€\1", r"\1 euros", r"\1 cents"), texts_differ),
    Mutation("add prime to call", "f(x)=2x+1  ->  f'(x)=2x+1", any_of(
        r"^(\$?[fgh])(\([a-z]\)\s*=[^=]*)$", r"\1''\2", r"\1'\2", r"\1^{-1}\2"), texts_differ),
    Mutation("change argument", "f(2)=3  ->  f(3)=3",
             [(r"(?<=^[a-zA-Z]\()[0-9]+(?=\)\s*=)", next_number)], texts_differ),
    Mutation("free argument", "f(x)=2x+1  ->  f(z)=2x+1", free_argument, texts_differ),
    Mutation("square sides", "x=y  ->  |x|=|y|", square_sides, texts_differ),
    Mutation("exchange sides", "b < a < d < c  ->  a < b < d < c", exchange_sides, texts_differ),
    Mutation("drop exclusion", r"k \ne 0, 3  ->  k \ne 0", any_of(
        r"^([a-z]) \\ne ([0-9]+), ([0-9]+)$", r"\1 \\ne \2", r"\1 \\ne \2, \1 = \3",
        r"\1 \\ne \2 \\text{ or } \1 \\ne \3", r"\\{\2,\3\\}"), texts_differ),
    Mutation("reverse vector", r"\vec{AB}  ->  \vec{BA}",
             [(r"(\\(?:vec|overrightarrow)\s*{)([A-Z])([A-Z])}", r"\1\3\2}")], texts_differ),
    Mutation("change vertex", r"\angle ABC  ->  \angle ACB",
             any_of(ANGLE, r"\1\2\4\3", r"\1\3\2\4"), texts_differ),
    Mutation("drop item", r"\{1,2,3\}  ->  \{2,3\}", drop_item, texts_differ),
    Mutation("repeat entry", "(1,2)  ->  (1,2,2)", repeat_entry, texts_differ),
    Mutation("change empty set", r"\emptyset  ->  \{\emptyset\}", any_of(
        r"^\\emptyset$", r"\\{\\emptyset\\}", "0", r"\\{0\\}", r"\\infty"), texts_differ),
    Mutation("regroup sets", r"\{\{1,2\},\{3\}\}  ->  \{\{1\},\{2,3\}\}", regroup_sets,
             texts_differ),
    Mutation("exchange branches", r"1 \text{ if } x>0, 2 \text{ if } x<0  ->  "
             r"2 \text{ if } x>0, 1 \text{ if } x<0", exchange_branches, texts_differ),
    Mutation("change domain", r"x=2k, k\in\mathbb{Z}  ->  x=2k, k\in\mathbb{N}",
             any_of(INTEGERS, r"\1N\2", r"\1Q\2", r"\1Z\2^+"), texts_differ),
]
# Seen only where everything is tiny, or beside a label.
FRAMED = [
    CHANGE_NUMBER,
    Mutation("flip sign", "x^2+2x-3  ->  x^2-2x-3",
             [(r"(?<=[\w)}])\+", "-"), (r"(?<=[\w)}])-", "+")], formulas_differ),
    Mutation("change function", r"\sin^2 x  ->  \cos^2 x", [
        (rf"(?<![a-z]){name}(?![a-z])", other) for name, other in (
            ("sin", "cos"), ("cos", "sin"), ("tan", "cot"), ("arcsin", "arccos"), ("ln", "exp"))],
        formulas_differ),
    Mutation("change letter", "x^2+2x-3  ->  y^2+2x-3",
             [(NAME, lambda match: "y" if match[0] != "y" else "z")], formulas_differ),
    Mutation("add little", "x+1  ->  x+1+10^{-12}",
             any_of("^.*$", r"\g<0>+10^{-12}", r"\g<0>+0.000001"), formulas_differ),
]


def in_frame(mutation: Mutation, frame: str) -> Mutation:
    name = f"{mutation.name}, in {frame.replace('{}', '…')}"
    return mutation._replace(name=name, frame=frame)


MUTATIONS = [*OF_FORMULAS, *AS_TEXT, in_frame(CHANGE_NUMBER, "z={}"),
             *(in_frame(mutation, "10^{-50}({})") for mutation in FRAMED)]


# --- 4. making pairs and asking the verifier ------------------------------------------------------

PER_REFERENCE = 4                   # answers of one mutation to one reference
PER_MUTATION = 500                  # pairs of one mutation, evenly from all references
PER_SHAPE = 3                       # references that differ in their digits only
MAX_LENGTH = 160                    # of a reference


class Pair(NamedTuple):
    kind: str                       # the name of a mutation
    reference: str
    answer: str


def label_and_formula(text: str) -> tuple[str, str]:
    """z=3^{20} -> ("z=", "3^{20}"), x+1 -> ("", "x+1"); $ signs do not count."""
    text = text.strip()
    if re.fullmatch(r"\$[^$]*\$\.?", text):
        text = text.strip("$.")
    match = re.fullmatch(r"([A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=\s*)([^=]*)", text)
    return (match[1], match[2]) if match and is_formula(match[2]) else ("", text)


def near_misses(mutation: Mutation, reference: str) -> list[Pair]:
    """The pairs of one mutation of a reference."""
    label, text = "", reference.strip()
    if mutation.differs != texts_differ:
        label, text = label_and_formula(reference)
        if not is_formula(text) or (label and mutation.frame != "{}"):
            return []
    answers = dict.fromkeys(
        changed for changed in mutation.changed(text) if mutation.differs(text, changed))
    framed = label + mutation.frame
    return [Pair(mutation.name, framed.replace("{}", text, 1), framed.replace("{}", answer, 1))
            for answer in itertools.islice(answers, PER_REFERENCE)]


def all_near_misses(references: list[str], mutations=MUTATIONS, count=PER_MUTATION) -> list[Pair]:
    """The pairs of each mutation: of the built-in references, then of others in a random order.

    The order is the same in every run.
    """
    pairs = []
    for mutation in mutations:
        shuffled = random.Random(mutation.name).sample(references, len(references))
        shuffled.sort(key=lambda text: text not in REFERENCES)
        own = (pair for reference in shuffled for pair in near_misses(mutation, reference))
        pairs += itertools.islice(own, count)
    return pairs


def read_folder(folder: Path) -> list[str]:
    """The answers of benchmarks and of labeled pairs in the *.jsonl files."""
    rows = [json.loads(line) for path in sorted(folder.glob("*.jsonl"))
            for line in path.read_text().splitlines()]
    texts = [row.get(key) for key in ("answer", "gold") for row in rows]
    return [str(text) for text in texts if isinstance(text, (str, int, float))]


def thin_out(references) -> list[str]:
    """The references without repetitions and long ones, and few of each shape: of \\frac{00}{0}."""
    kept, shapes = [], {}
    for text in dict.fromkeys(references):
        shape = re.sub("[0-9]+", lambda match: "0" * min(len(match[0]), 2), text)
        shapes[shape] = shapes.get(shape, 0) + 1
        if 0 < len(text) <= MAX_LENGTH and shapes[shape] <= PER_SHAPE:
            kept.append(text)
    return kept


def load_answers(checkout: Path):
    """The answers.py of a checkout, as a module of its own: it imports nothing of the project."""
    name = f"answers of {checkout}"
    spec = importlib.util.spec_from_file_location(name, checkout / "answers.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="*", type=Path, metavar="FOLDER",
                        help="folders of *.jsonl files with the key answer or gold")
    parser.add_argument("--before", type=Path, help="an older checkout, measured beside this one")
    args = parser.parse_args()
    found = [text for folder in args.folder for text in read_folder(folder)]
    references = thin_out(REFERENCES + found)
    pairs = all_near_misses(references)

    checkouts = {"before": args.before} if args.before else {}
    checkouts["now"] = HERE.parents[1]
    accepted, lopsided = {}, {}
    for name, checkout in checkouts.items():
        check = load_answers(checkout).is_equivalent
        verdicts = [(check(pair.reference, pair.answer), check(pair.answer, pair.reference))
                    for pair in pairs]
        accepted[name] = [any(both) for both in verdicts]
        lopsided[name] = sum(one != other for one, other in verdicts)
    for pair, is_accepted in zip(pairs, accepted["now"], strict=True):
        if is_accepted:
            print("accepted:", pair)

    def row(title, kinds):
        at = [i for i, pair in enumerate(pairs) if pair.kind in kinds]
        counts = [sum(hits[i] for i in at) for hits in accepted.values()]
        return f"| {title} | {len(at)} | {' | '.join(map(str, counts))} |"

    kinds = [mutation.name for mutation in MUTATIONS]
    page = "\n".join([
        "# Near misses: answers that are almost right", "",
        "Command: `python results/verifier/near_misses.py [FOLDER] [--before DIR]`. Each mutation "
        "makes wrong answers from references by program; none of them may be accepted, in either "
        f"direction. References: {len(REFERENCES)} built-in, {len(references) - len(REFERENCES)} "
        "of benchmarks and labeled pairs. On the committed page, before is commit b5c01dd. Commit "
        "1716b73 has 154 mutations; of their 27,350 pairs 359 were accepted before, and none then. "
        "Those that found one are here, one as part of another.", "",
        f"| wrong accepts | pairs | {' | '.join(accepted)} |",
        f"|---|---|{'---|' * len(accepted)}",
        *(row(kind, [kind]) for kind in kinds), row("**all**", kinds),
        f"| not symmetric | {len(pairs)} | {' | '.join(map(str, lopsided.values()))} |", ""])
    (HERE / "near_misses.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()

"""Does a response give the reference's answer? HERO's 0/1 (Eq. 2), and the grader of benchmarks.

    extract_answer(response)            the final answer: the last \\boxed{}, or a cautious reading
    is_equivalent(reference, answer)    symmetric; both are read by one grammar and compared
    verify(response, reference)         both steps and a reason; in this process, no time-out
    verify_all(responses, references)   many rows, on worker processes that die when they hang

    python verify.py pairs.jsonl --errors                   recall, precision, false positives
    python verify.py --reference '(1,2]' --response '\\boxed{1 < x \\le 2}'      one verdict

The model's text is data: it is never evaluated and never names an attribute. Rewriting rules, a
tokenizer and a precedence parser make sympy objects of what the tables of this file know; the
rest stays text, compared as text.
"""
from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mpmath
import sympy as sp
from sympy.core.function import AppliedUndef

# Limits, each checked before the work that it bounds.
MAX_CHARS, MAX_TOKENS, MAX_DEPTH = 10_000, 1_000, 40    # an answer; an expression; brackets
MAX_DIGITS, MAX_BITS = 1_000, 200_000                   # of a number as written; of a power
MAX_FACTORIAL, MAX_ITEMS, MAX_BOXES = 5_000, 2_000, 20  # n in n!; a list; different boxes
MAX_MEMORY = 1 << 30                # bytes that a worker may add to what it starts with
REASONS = ("correct", "wrong", "no_answer", "unparsed", "timeout", "too_large")


class Verdict(NamedTuple):
    correct: bool
    answer: str | None
    reason: str                     # one of REASONS


class TooLarge(Exception):
    """A limit was met: the verdict is `too_large`."""


class Unreadable(Exception):
    """Not in the grammar: the piece stays text."""


# --- 1. extraction ------------------------------------------------------------------------------

BOX, BRACE = re.compile(r"(?<!\\)(?:\\\\)*\\boxed\s*\{"), re.compile(r"\\.|[{}]", re.S)
# What may stand between the boxes of one final statement: marks, connectives, labels (`y_2 =`).
JOINT = re.compile(r"(?:[\s$,;.&~}]|\\[\[\]()\\,;:! ]|\\q?quad|\\(?:text|mbox)\s*\{|\([a-z]\)|"
                   r"\b(?:and|or|for|part|case|also)\b|[A-Za-z](?:_\{?\w+\}?)?\s*=)*")
MARKER = re.compile(r".*(?:answer|réponse|respuesta|antwort|答案|结论)s?\W{0,4}?\s*"
                    r"(?:is|are|[:：=为是]|(?=[$\\]))[\s:*]*(?=.*\w)", re.I | re.S)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.S)
SENTENCE = re.compile(r"(?:(?<=[.!?])\s+|[。！？]|\n\s*\n)(?=.*\w)", re.S)
NOISE = re.compile(r"<\|.*?\|>.*|I hope (?:it|this) is correct.*", re.S)
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\(?(?:\\d?frac\{[^{}]+\}\{[^{}]+\}|"
                    r"-?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?\s?%?)\)?")


def boxes(text: str) -> list[tuple[int, int, str | None]]:
    """(start, end, content) of each outermost \\boxed{}; the content of one cut off is None."""
    found, at, depth = [], 0, 0
    while not depth and (match := BOX.search(text, at)):
        depth, at = 1, match.end()
        while depth and (brace := BRACE.search(text, at)):
            depth, at = depth + {"{": 1, "}": -1}.get(brace[0], 0), brace.end()
        content = None if depth else text[match.end():at - 1].strip()
        found.append((match.start(), at, content))
    return found


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None where it gives none.

    The last \\boxed{}; the boxes of one final statement ("\\boxed{1} and \\boxed{2}") are a list.
    An empty box, one that is cut off and a flood of different boxes are no answer. Only a
    response without anything like a box is read as text.
    """
    text = response.rpartition("</think>")[2]
    text = text if "boxed" in text else response
    found = boxes(text)
    if not found:
        return None if re.search(r"\\f?box|box(?:ed)?\s*\\?\{", text) else answer_in_text(text)
    if found[-1][2] is None or len({content for *_, content in found}) > MAX_BOXES:
        return None
    last = [found.pop()]
    while found and JOINT.fullmatch(text, found[-1][1], last[0][0]):
        last.insert(0, found.pop())
    answer = " , ".join(content for *_, content in last)
    inner = boxes(answer)
    return (inner[0][2] if inner and inner[0][:2] == (0, len(answer)) else answer) or None


def answer_in_text(text: str) -> str | None:
    """What "the answer is" announces; without it, the formula or number that the text ends on."""
    text = NOISE.sub("", text[-4000:]).strip()
    if len(text) < 2:                           # a lone character is a fragment, no statement
        return None
    if marker := MARKER.match(text):
        text = SENTENCE.split(text[marker.end():])[0].strip()
        if formula := FORMULA.match(text):
            return formula[formula.lastindex].strip()
    prose = re.compile(r"[^\W\d_]{3}")
    bare = re.sub(r"\\text\{[^{}]*\}|\\\w+", "", text)
    if re.match(r"[-\\(\[.0-9]", text) and "$" not in bare and not prose.search(bare):
        return text.rstrip(".")                 # nothing but the answer
    if not prose.search(text):
        return None
    formulas = [match for match in FORMULA.finditer(text) if not re.search(
        r"(?<!\\)\b[^\W\d_]{3,} ", match[match.lastindex])]         # "from $5 to 4$" is none
    numbers = [*NUMBER.finditer(text, len(text) - len(SENTENCE.split(text)[-1]))]
    if formulas and (not numbers or formulas[-1].end() > numbers[-1].end()):
        return formulas[-1][formulas[-1].lastindex].strip()
    return numbers[-1][0].strip() if numbers else None


# --- 2. normalisation: one spelling, in plain characters where there is one ---------------------

FUNCTIONS = {
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc,
    "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan, "sinh": sp.sinh, "cosh": sp.cosh,
    "tanh": sp.tanh, "ln": sp.log, "log": sp.log, "lg": lambda x: sp.log(x) / sp.log(10),
    "exp": sp.exp, "abs": sp.Abs}
KEPT = ("sum", "prod", "int", "lim", "max", "min", "gcd", "lcm")    # read, but not worked out
SPELLINGS = r"""
    −→- –→- \cdot→* \times→* ×→* ·→* ⋅→* \ast→* ÷→/ \div→/ \pi→π \infty→∞ infinity→∞ \le→≤
    \leq→≤ \leqslant→≤ ⩽→≤ \ge→≥ \geq→≥ \geqslant→≥ ⩾→≥ \lt→< \gt→> \ne→≠ \neq→≠
    \in→∈ \approx→≈ \cup→∪ \cap→∩ \setminus→∖ \backslash→∖ \pm→± \mp→∓ \circ→° \degree→°
    \textcirc→° \{→{ \}→} \lbrace→{ \rbrace→} \langle→( \rangle→) （→( ）→) \lfloor→⌊ \rfloor→⌋
    \lceil→⌈ \rceil→⌉ \mid→| \vert→| \lvert→| \rvert→| \emptyset→∅ \varnothing→∅ \ldots→… \dots→…
    \cdots→… \%→% \colon→: \prime→' ’→' ′→' ，→, ；→; ：→: \$→¤ €→¤ £→¤ \\→¶
    \dfrac→\frac \tfrac→\frac \cfrac→\frac \dbinom→\binom \tbinom→\binom \land→"and" \lor→"or"
    \bmod→"mod" ½→\frac{1}{2} ⅓→\frac{1}{3} ⅔→\frac{2}{3} ¼→\frac{1}{4} ¾→\frac{3}{4} ²→^2 ³→^3
    ⁴→^4 ⁵→^5 ⁶→^6 ⁷→^7 ⁸→^8 ⁹→^9 \alpha→α \beta→β \gamma→γ \delta→δ \epsilon→ε \varepsilon→ε
    \zeta→ζ \eta→η \theta→θ \vartheta→θ \iota→ι \kappa→κ \lambda→λ \mu→μ \nu→ν \xi→ξ \rho→ρ
    \sigma→σ \tau→τ \upsilon→υ \phi→φ \varphi→φ \chi→χ \psi→ψ \omega→ω \Delta→Δ \Omega→Ω \ell→ℓ
    \angle→∠"""
BLANKS = r"""$ ~ \, \; \: \> \! \quad \qquad \left \right \displaystyle \overline \overrightarrow
    \vec"""
SAME = dict(pair.split("→") for pair in SPELLINGS.split()) | dict.fromkeys(
    [r"\ ", *BLANKS.split()], " ") | {"√": r"\sqrt "}
MACROS = "|".join(sorted((name[1:] for name in [*SAME, *(f"\\{name}" for name in (
    *FUNCTIONS, *KEPT, "frac", "sqrt", "binom", "over", "begin", "end"))]
    if re.fullmatch(r"\\[A-Za-z]+", name)), key=len, reverse=True))
# A known macro, or one that runs into the next word (\cotx); any other.
PIECE = re.compile(rf"\\(?:{MACROS})(?![A-Za-z])|(\\(?:{MACROS}))|\\[A-Za-z]+|\\.|"
                   r"\binfinity\b|.", re.S)
NUMBER_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand million first third fourth fifth sixth seventh eighth ninth")
CARDINALS = dict(zip(NUMBER_NAMES.split(), [*range(20), *range(20, 100, 10), 100, 1000, 10**6,
                                            1, *range(3, 10)], strict=True))
CARDINAL = "(?:" + "|".join(sorted(CARDINALS, key=len, reverse=True)) + r")\b"
NUMBER_WORDS = re.compile(rf"(?<![A-Za-z\\\"]){CARDINAL}(?:(?: |-|(?<=hundred) and |"
                          rf"(?<=thousand) and ){CARDINAL})*", re.I)
# One canonical name for each unit of measure: two different ones are two different answers.
UNIT_NAMES = (
    "dollar dollars usd bucks|cent cents|euro euros|pound pounds lb lbs|yuan|yen|day days|mph|"
    "degree degrees deg|percent pct percentage|meter meters metre metres m|kilometer kilometers "
    "km|centimeter centimeters cm|millimeter millimeters mm|inch inches|foot feet ft|mile miles|"
    "yard yards|gram grams g gm|kilogram kilograms kg|ounce ounces oz|ton tons|liter liters|"
    "second seconds s|minute minutes min|hour hours h hr hrs|week weeks|month months|year years|"
    "unit units|square sq|joule joules J|newton newtons N|watt watts W|volt volts V|kelvin K")
UNITS = {alias: names.split()[0] for names in UNIT_NAMES.split("|") for alias in names.split()}
# Words that hedge, deny, compare or compute: with one of them, text is no value with a unit.
TURNING_WORDS = """not no is are was and or but except maybe possibly perhaps probably never than
    less more plus minus times half dozen score twice double past short of wrong incorrect if
    either neither all any true false quarter without unless undefined between"""
TURNING = set(TURNING_WORDS.split())
# Letters side by side are a product, xy, but for functions and for words: four letters, or these.
PLAIN = "(?:" + "|".join([*FUNCTIONS, "sqrt", "binom", "pi"]) + ")"
SHORT = "|".join(["is", "are", "and", "or", "mod", "not", "no", "yes", "odd", "the", "of", "to",
                  "all", "any", "for", "if", "nan", *(u for u in UNITS if 1 < len(u) < 4)])
WRAPPER = re.compile(r"\\(text(?:bf|it|rm|normal)?|mbox|math(?:rm|bf|it|sf)|operatorname|"
                     r"boldsymbol) ?\{([^{}\"]*)\}")
LETTERS = "|".join(unit for unit in UNITS if len(unit) == 1)
WORD = re.compile(rf"(?<![\\A-Za-z])(?:[A-Za-z]{{2,}}|\b(?:{LETTERS})\b)")
FIRST = [(re.compile(pattern, re.I), new) for pattern, new in (
    (r"\x0c(?=rac)", r"\\f"), (r"\t(?=ext|imes|heta|frac)", r"\\t"),    # "\f" taken for an escape
    (r"\s+", " "), (r"\\mathbb ?\{?([RZN])\}?", lambda m: "ℝℤℕ"["RZN".index(m[1].upper())]),
    (r"\\begin ?\{(?:[pb]?matrix\}|array\} ?\{[lcr| ]*\})", "⟦"),
    (r"\\end ?\{(?:[pb]?matrix|array)\}", "⟧"),
    (r"(?<!\\), ?\\!", "{,}"),                                         # 5,\!000 is 5{,}000
    (r"\.([0-9]*)\\overline ?\{([0-9]+)\}", lambda m: ".{}+\\frac{{{}}}{{{}}}".format(
        m[1], m[2], "9" * len(m[2]) + "0" * len(m[1]))))]               # 0.\overline{3}
RULES = [(re.compile(pattern, re.I), new) for pattern, new in (         # applied in this order
    (r"\*\*+", "^"), (r"\.{3,}", "…"), (r"<=+", "≤"), (r">=+", "≥"), (r"(?<![0-9})\"])!=+", "≠"),
    (r"={2,}", "="), (r" ?\{ ?, ?\} ?", "{,}"),
    (rf"(?<![\\\"A-Za-z])(?:(?-i:(?!{PLAIN}\b)(?=[A-Za-z]*[a-z])[A-Za-z]{{4,}})|{SHORT})"
     r"(?![A-Za-z\"])", r'"\g<0>"'),                                    # words stand in quotes
    (r"(?:\^ ?)+(?:°|\{ ?° ?\})", "°"),
    (r"(?<=[0-9])\^? ?\{? ?\"?(?:st|nd|rd|th)\b\"? ?\}?", ""),          # 12^{th}
    (r"\{([^{}]*)\\over\b([^{}]*)\}", r"\\frac{\1}{\2}"),
    (r"\{([^{}]*)\\choose\b([^{}]*)\}", r"\\binom{\1}{\2}"),
    (r"[,;]? ?\(?\b[a-z] ?∈ ?[ℤℕZN] ?\)?$", ""),                         # n pi, n ∈ Z
    (r"^([A-Z])\)[ .,;:^]*$", r"\1"),                                  # the choice B)
    (r"\\(frac|binom) ?([0-9])", r"\\\1{\2}"),                          # \frac12 is \frac{1}2
    (r"(?<![\w.^}])([0-9]+) ?\\frac ?\{([0-9]+)\} ?\{?([0-9]+)\}?", r"(\1+\\frac{\2}{\3})"),
    (r"(?<![\w.^}/])([0-9]+) ([0-9]+/[0-9]+)(?![0-9])", r"(\1+\2)"),    # 1 1/2, above 1\frac12
    (r"(?<![\"\w])\(?([0-9]+)\)?_ ?\{? ?\(?([0-9]+)\)? ?\}?", r'"\1_\2"'),      # 25_{6}, base 6
    (r"\.+(?= ?[\])])", ""), (r" +", " "))]


def number_words(match: re.Match) -> str:
    """"One hundred and five" as 105; unchanged where the words do not make one number."""
    total = part = 0
    for value in map(CARDINALS.get, re.findall(CARDINAL, match[0].lower())):
        if value < 100 and (part % 10 or part % 100 == 10 or value > 9 and part % 100):
            return match[0]
        part = max(part, 1) * value if value >= 100 else part + value
        if value > 100:
            total, part = total + part, 0
    return str(total + part)


def unwrap(match: re.Match) -> str:
    """\\text{} with its words in quotes; \\mathrm{} and the like only around words."""
    prose = match[1][:4] in ("text", "mbox") or re.fullmatch(r"[A-Za-z .]{2,}", match[2])
    return " " + WORD.sub(r'"\g<0>"', match[2]) + " " if prose else f"{{{match[2]}}}"


def normalise(text: str) -> str:
    """One spelling for the many of LaTeX, unicode and words; idempotent. Raises TooLarge."""
    for pattern, new in FIRST:
        text = pattern.sub(new, text)
    if len(text) > MAX_CHARS:
        raise TooLarge(f"an answer of more than {MAX_CHARS} characters")
    text = PIECE.sub(lambda piece: SAME.get(piece[0], piece[0]) + " " * bool(piece[1]), text)
    text = NUMBER_WORDS.sub(number_words, text)
    while WRAPPER.search(text):                                 # from the inside out
        text = WRAPPER.sub(unwrap, text)
    text = re.sub(r" +", " ", text).strip()
    for pattern, new in RULES:
        text = pattern.sub(new, text)
    return text.strip(" ").rstrip(" .,;:^")


# --- 3. tokens, with brackets nested ------------------------------------------------------------

TOKEN = re.compile(rf"""
    (?P<num>(?:(?:[1-9][0-9]{{0,2}}(?:(?:\{{,\}}|[ ])[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?
      |\.[0-9]+)(?:[eE][+-]?[0-9]+(?![A-Za-z0-9.]))?)
  | "(?P<word>[^"]*)" | \\(?P<fn>[A-Za-z]+) | (?P<plain>{PLAIN})(?![A-Za-z]) | (?P<blank>[ ])
  | (?P<sym>[A-Za-zα-ορ-ωΔΩℓ∠]) | (?P<op>\\.|.)""", re.X)
CLOSES = dict(zip(")]}⌋⌉⟧", "([{⌊⌈⟦", strict=True))


class Token(NamedTuple):
    kind: str                       # num, sym, word, fn, op; group, with its brackets as text
    text: str
    inner: tuple[Token, ...] = ()


def tokenise(text: str) -> list[Token]:
    """Tokens of a normalised answer; brackets and bars make groups, one without partner a sign."""
    out, stack = [], []             # of the open brackets, each with the tokens before it
    for match in TOKEN.finditer(text):
        kind, piece = match.lastgroup, match[match.lastgroup]
        if kind == "num":
            digits, letter, exponent = re.sub(r"[ ,{}]", "", piece.lower()).partition("e")
            digits = digits.rstrip("0").rstrip(".") or "0" if "." in digits else digits
            piece = digits + letter + exponent
        elif kind == "word" and piece.lower() in ("and", "or", "mod"):
            kind, piece = "op", piece.lower()
        elif kind == "plain":
            kind, piece = ("op", "π") if piece == "pi" else ("fn", piece)
        opened = [bracket for bracket, _ in stack]
        if kind == "op" and (piece in CLOSES and set(opened) - {"|"} or piece == "|" == "".join(
                opened[-1:])):
            while stack[-1][0] == "|" != piece:         # a bar that nothing closed
                bracket, before = stack.pop()
                out = [*before, Token("op", bracket), *out]
            bracket, before = stack.pop()
            out = [*before, Token("group", bracket + piece, tuple(out))]
        elif kind == "op" and (piece in CLOSES.values() or piece == "|"):
            if len(stack) == MAX_DEPTH:
                raise TooLarge(f"more than {MAX_DEPTH} brackets in one another")
            stack.append((piece, out))
            out = []
        elif kind != "blank":
            out.append(Token(kind, piece))
    for bracket, before in reversed(stack):
        out = [*before, Token("op", bracket), *out]
    return out


def join(tokens) -> str:
    """The tokens' text without blanks, but for those between two numbers or two words."""
    out, last = "", ""
    for kind, text, inner in tokens:
        out += " " * (last == kind in ("num", "word"))
        out += text[0] + join(inner) + text[1] if kind == "group" else text
        last = kind
    return out


def split(tokens, marks) -> tuple[list[list[Token]], tuple[str, ...]]:
    """The pieces between the operators in marks, and those operators."""
    pieces, found = [[]], []
    for token in tokens:
        if token.kind == "op" and token.text in marks:
            pieces.append([])
            found.append(token.text)
        else:
            pieces[-1].append(token)
    return pieces, tuple(found)


# --- 4. the reader: tokens to values ------------------------------------------------------------

class Value(NamedTuple):
    """What an answer, or a part of one, reads as."""
    kind: str                       # number, text, group, relation, sets
    source: str                     # normalised: the first thing that is compared
    expr: sp.Expr | None = None     # number: a sympy object
    unit: str = ""                  # number: "percent", "degree", or the words after it
    places: int = 0                 # number: decimals as written, for the rounding rule
    shape: str = ""                 # group: "()", "(]", "{}", "" for a bare list, "matrix2"
    ops: tuple[str, ...] = ()       # the signs between the parts of relations, sets and lists
    parts: tuple[Value, ...] = ()


PERCENT, DEGREE, PLUS_MINUS = sp.symbols("% ° ±")
IMAGINARY = sp.Symbol("i")          # a symbol: i^2 is an unevaluated copy of -1, not accepted
CONSTANTS = {"π": sp.pi, "∞": sp.oo} | {name: sp.Symbol(name) for name in "ℝ∅…"}
NAME = re.compile(r"[|{]?[A-Z]{2,4}[|}]?|∠[A-Z]{1,3}|[A-Z]_\{?\w\}?:[A-Z]_\{?\w\}?|"    # |AB|, ∠A,
                  r"([A-Za-z])'*(?:_\{?\w+\}?|\^\{-1\})?\((?!.*\1)\w+(?:,\w+)*\)")  # V_1:V_2, f(x)
THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
DECIMAL = re.compile(r"^-?[0-9]+,[0-9]+$")


@functools.lru_cache(maxsize=8192)
def read(text: str, comma: str) -> Value:
    """The value of an answer, its commas inside numbers made `comma`; text if it is no maths."""
    text = normalise(text)
    if comma != "," and not re.search(r"[([]", text):
        text = (DECIMAL if comma else THOUSANDS).sub(lambda m: m[0].replace(",", comma), text)
    return read_list(tokenise(text), "")


def read_list(tokens, shape: str) -> Value:
    """The items between commas, semicolons, "and" and "or"; a single one stands for itself."""
    source = shape[:1] + join(tokens) + shape[1:]
    head, *tail = split(tokens, "|:")[0]
    if shape == "{}" and len(tail) == 1 and head and all(       # {x | x > 2}
            token.kind == "sym" or token.text in "∈ℝ" for token in head):
        return Value("sets", source, parts=(read_list(tail[0], ""),))
    pieces, joins = split(tokens, (",", ";", "and", "or"))
    items = expand([read_item(piece) for piece in pieces if piece])
    if not items:
        return Value("text", source)
    if len(items) == 1 and (shape in ("", "{}", "()") or items[0].shape[:6] == "matrix"):
        return items[0]
    return Value("group", source, shape=shape, ops=joins, parts=items)


def read_item(tokens) -> Value:
    """One item: a relation or a value, without the words around it; text where it is neither."""
    with contextlib.suppress(Unreadable, ValueError, TypeError, ArithmeticError):
        return read_relation(tokens)
    words = [token.text.lower() if token.kind == "word" else "" for token in tokens] + [""]
    for at in range(len(tokens) - 1, -1, -1):
        if words[at] in ("is", "are", "equals") and at + 1 < len(tokens) or (
                not at and words[0] in ("only", "exactly", "just")):
            return read_item(tokens[at + 1:])                   # the answer is 5
        if at and words[at] == "for" and words[at + 1] in ("all", "any", "every", "each", "some"):
            return read_item(tokens[:at])                       # 2x for all x
    (label, *rest), _ = split(tokens, ":")
    if len(rest) == 1 and rest[0] and words[0]:                 # Minimum: 1
        parts = Value("text", join(label)), read_item(rest[0])
        return Value("relation", join(tokens), ops=("=",), parts=parts)
    return Value("text", join(tokens))


def read_relation(tokens) -> Value:
    sides, ops = split(tokens, "=<>≤≥≠∈≈")
    if "≈" in ops:                                              # the exact form decides
        sides, ops = sides[:ops.index("≈") + 1], ops[:ops.index("≈")]
    if not ops:
        return read_side(sides[0])
    head = join(sides[0])
    labelled = ops[0] in "=∈" and head and (
        NAME.fullmatch(head) or all(token.kind == "word" for token in sides[0]))
    first = Value("text", head) if labelled else read_side(sides[0])
    return Value("relation", join(tokens), ops=ops, parts=(first, *map(read_side, sides[1:])))


def read_side(tokens) -> Value:
    """Sets joined by ∪ ∩ ∖, a ratio, a bracketed group, a matrix, or a number with its unit."""
    source, texts = join(tokens), [token.text for token in tokens]
    pieces, ops = split(tokens, "∪∩∖")
    if texts == ["{}", "-", "{}"]:
        pieces, ops = [tokens[:1], tokens[2:]], ("∖",)
    if ops:
        return Value("sets", source, ops=ops, parts=tuple(map(read_side, pieces)))
    pieces, ops = split([Token("op", ":") if token == ("word", "to", ()) else token
                         for token in tokens], ":")
    if len(ops) == 1:
        return Value("number", source, divide(*(read_quantity(part, "").expr for part in pieces)))
    if texts == ["⟦⟧"]:
        rows = [[read_side(cell) for cell in split(row, "&")[0]]
                for row in split(tokens[0].inner, "¶")[0] if row]
        if len({len(row) for row in rows}) == 1:
            return Value("group", source, shape=f"matrix{len(rows[0])}",
                         parts=tuple(itertools.chain(*rows)))
    if len(texts) == 1 and texts[0] in ("()", "[]", "(]", "[)", "{}"):
        return read_list(tokens[0].inner, texts[0])
    return read_quantity(tokens, source)


def read_quantity(tokens, source: str) -> Value:
    """A number with what stands around it: currency, percent, degrees, trailing words."""
    parser = Parser([token for token in tokens if token.text != "¤"])
    expr, words = parser.expression(), ["dollar"] * (len(parser.tokens) < len(tokens))
    for before, (kind, text, inner) in itertools.pairwise(parser.tokens[parser.at - 1:]):
        if kind in ("word", "sym") and text.lower() not in TURNING and len(words) < 6:
            words.append(UNITS.get(text, UNITS.get(text.lower(), text.lower())))
        elif not words or text not in "^/" and before.text != "^" and not (    # yuan (A)
                text == "()" and all(token.kind in ("sym", "word") for token in inner)):
            raise Unreadable("more than a unit after a value")
    for mark, name in ((PERCENT, "percent"), (DEGREE, "degree")):
        if expr.has(mark) and not (expr / mark).has(mark):
            expr, words = expr / mark, [name]
    expr = expr.xreplace({DEGREE: sp.pi / 180, PERCENT: sp.Rational(1, 100)})
    if expr.has(sp.zoo, sp.nan):
        raise Unreadable("undefined")
    decimal = re.fullmatch(r"-?\d*\.(\d+)", join(parser.tokens[:parser.at]))
    return Value("number", source, expr, " ".join(words), len(decimal[1]) if decimal else 0)


def expand(items: list[Value]) -> tuple[Value, ...]:
    """Writes out a ± b, and a, ..., b between integers."""
    out: list[Value] = []
    for at, item in enumerate(items):
        near = [value.expr for value in (*out[-2:], *items[at + 1:at + 2])]
        if item.source == "…" and out and len(items) > at + 1 and all(
                expr is not None and expr.is_Integer for expr in near[-2:]):
            first, last = map(int, near[-2:])
            known = len(near) == 3 and near[0] is not None and near[0].is_Integer
            step = int(first - near[0]) if known else 0
            if not step or (last - first) % step or (last - first) // step < 0:
                step = 1 if last > first else -1
            if (last - first) // step > MAX_ITEMS:
                raise TooLarge(f"a range of more than {MAX_ITEMS} numbers")
            out += [Value("number", str(n), sp.Integer(n)) for n in range(first + step, last, step)]
        elif item.kind == "number" and item.expr.has(PLUS_MINUS):
            out += [item._replace(source=item.source + sign, expr=item.expr.xreplace(
                {PLUS_MINUS: sp.Integer(sign)})) for sign in ("1", "-1")]
        else:
            out.append(item)
    return tuple(out)


def divide(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    if b.is_zero:
        raise Unreadable("a division by zero")
    return a / b


def power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """base ** exponent, once it is known that no number in it grows above MAX_BITS bits."""
    numbers = [exponent] if not exponent.free_symbols else exponent.atoms(sp.Rational)
    height = max((abs(sample(number, 0, ()) or 0) for number in numbers), default=0)
    bits = max([n.p.bit_length() + n.q.bit_length() for n in base.atoms(sp.Rational)], default=3)
    if base not in (0, 1, -1) and (height * max(bits, 3) > MAX_BITS or (
            exponent.is_Rational and exponent.q > MAX_BITS)):
        raise TooLarge(f"a power of more than {MAX_BITS} bits")
    return sp.Pow(base, exponent)


def careful(work, limit: float = sp.oo):
    """work(*numbers), carried out only for rational numbers, and these up to a limit."""
    def bounded(*args):
        exact = all(arg.is_Rational for arg in args)
        if exact and max(map(abs, args)) > limit:
            raise TooLarge(f"{work.__name__} of more than {limit}")
        return work(*args, evaluate=exact)
    return bounded


PREFIX = {"+": sp.S.One, "-": sp.S.NegativeOne, "±": PLUS_MINUS, "∓": -PLUS_MINUS}
POSTFIX = {"!": careful(sp.factorial, MAX_FACTORIAL), "%": lambda x: x * PERCENT,
           "°": lambda x: x * DEGREE}
INFIX = {sign: (1, lambda a, b, one=one: a + one * b) for sign, one in PREFIX.items()} | {
    "*": (2, sp.Mul), "": (2, sp.Mul), "/": (2, divide), "mod": (2, sp.Function("mod")),
    "^": (3, power)}
# What brackets do to the expression in them: nothing, as the sum of one term is that term.
AROUND = {"()": sp.Add, "[]": sp.Add, "{}": sp.Add, "||": sp.Abs,
          "⌊⌋": careful(sp.floor), "⌈⌉": careful(sp.ceiling)}
PAIRS = {"frac": divide, "binom": careful(sp.binomial, MAX_FACTORIAL)}


class Parser:
    """A precedence parser of one expression."""

    def __init__(self, tokens):
        if len(tokens) > MAX_TOKENS:
            raise TooLarge(f"an expression of more than {MAX_TOKENS} tokens")
        self.tokens, self.at = list(tokens), 0

    def peek(self, *kinds: str) -> str:
        """The text of the next token if it is of one of the kinds, else ""."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else Token("", "")
        return token.text if token.kind in kinds else ""

    def expression(self, floor: int = 0) -> sp.Expr:
        """Reads on while what follows binds tighter than floor: sums 1, products 2, powers 3."""
        if sign := PREFIX.get(self.peek("op")):
            self.at += 1
            left = sign * self.expression(max(floor, 1))
        else:
            left = self.atom()
        while self.at < len(self.tokens):
            sign, braced = self.peek("op"), self.tokens[self.at - 1].text == "{}"
            if sign in POSTFIX:
                self.at += 1
                left = POSTFIX[sign](left)
                continue
            if sign in CONSTANTS or self.peek("sym", "fn") or self.peek("group") in AROUND or (
                    braced and self.peek("num")):
                sign = ""                                       # a product without a sign
            elif not sign or sign not in INFIX:
                break
            level, combine = INFIX[sign]
            if level <= floor:
                break
            self.at += bool(sign)
            left = combine(left, self.expression(level - (sign == "^")))
        return left

    def atom(self) -> sp.Expr:
        if self.at >= len(self.tokens):
            raise Unreadable("an operand is missing")
        kind, text, inner = self.tokens[self.at]
        self.at += 1
        if kind == "num":
            return number(text)
        if kind == "sym" or kind == "word" and len(text) == 1:
            return self.symbol(text)
        if kind == "fn":
            return self.function(text)
        if kind == "group" and text in AROUND:
            return AROUND[text](whole(inner))
        if text in CONSTANTS:
            return CONSTANTS[text]
        raise Unreadable(f"{text!r} where a value is expected")

    def symbol(self, name: str) -> sp.Expr:
        if self.peek("op") == "_" and self.at + 1 < len(self.tokens):
            name += "_" + join(self.tokens[self.at + 1:self.at + 2]).strip("{}")
            self.at += 2
        while self.peek("op") == "'":
            name, self.at = name + "'", self.at + 1
        if name.strip("'") in ("f", "g") and self.peek("group") == "()":
            return sp.Function(name)(self.atom())
        return {"e": sp.E, "i": IMAGINARY}.get(name, sp.Symbol(name))

    def function(self, name: str) -> sp.Expr:
        if name in PAIRS:
            return PAIRS[name](self.atom(), self.atom())
        if name == "sqrt":
            index = self.atom() if self.peek("group") == "[]" else sp.Integer(2)
            inner = self.atom()
            odd = inner.is_Rational and inner < 0 and index.is_Integer and index % 2
            return -power(-inner, 1 / index) if odd else power(inner, 1 / index)
        scripts = {}
        while self.peek("op") in ("^", "_"):
            scripts[self.peek("op")] = self.tokens[self.at + 1:self.at + 2]
            self.at += 2
        if name in KEPT:                                        # by its name and its bounds
            bounds = "".join(mark + join(scripts[mark]) for mark in sorted(scripts))
            return sp.Function(name + bounds)(self.expression(1))
        if name not in FUNCTIONS:
            raise Unreadable(f"an unknown macro {name!r}")
        inner = self.atom() if self.peek("group") else self.expression(2)
        while not self.peek("group") and (self.peek("num", "sym") or self.peek("op") == "π"):
            inner *= self.expression(2)                         # sin 2x
        exponent = whole(scripts["^"]) if "^" in scripts else sp.S.One
        if exponent == -1 and "arc" + name in FUNCTIONS:
            return FUNCTIONS["arc" + name](inner)
        value = FUNCTIONS[name](inner.xreplace({DEGREE: sp.pi / 180}))
        if "_" in scripts:
            value = divide(value, FUNCTIONS[name](whole(scripts["_"])))
        return power(value, exponent)


def whole(tokens) -> sp.Expr:
    """The one expression that the tokens are."""
    parser = Parser(tokens)
    expr = parser.expression()
    if parser.at < len(parser.tokens):
        raise Unreadable("more than one expression")
    return expr


def number(text: str) -> sp.Expr:
    mantissa, _, exponent = text.partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 4:
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")
    digits, _, places = mantissa.partition(".")
    return sp.Rational(int(digits + places), 10**len(places)) * sp.Integer(10)**int(exponent or 0)


# --- 5. equivalence: each step returns its name, or "" where it does not find the two equal -----

NO_ANSWER = {"", "nan", "none", "null", "?"}
MIRROR = str.maketrans("<>≤≥", "><≥≤")


def compare(reference: str, answer: str) -> tuple[str, Value, Value]:
    """(step, the reference as read, the answer as read). Raises TooLarge."""
    commas = any(re.search(r"[0-9],[0-9]", text) for text in (reference, answer))
    for comma in ("", ",", ".")[:3 if commas else 1]:       # 1,234 is a number, a list, a decimal
        a, b = read(reference, comma), read(answer, comma)
        step = "" if {a.source.lower(), b.source.lower()} & NO_ANSWER else same(a, b)
        if step:
            break
    return step, a, b


def same(a: Value, b: Value) -> str:
    """The ladder, cheapest first: text, numbers, relations, sets of reals, lists and tuples."""
    kinds = {a.kind, b.kind}
    if a.source == b.source:
        return "same text"
    if kinds == {"text"}:
        plain = [re.sub(r"^(?:the|an?) |[^\w+-]", "", value.source.lower()) for value in (a, b)]
        return "same words" if plain[0] == plain[1] != "" else ""
    if kinds == {"number"}:
        return same_number(a, b)
    if "relation" in kinds:
        first, other = (a, b) if a.kind == "relation" else (b, a)
        step = same_relations(a, b) if len(kinds) == 1 else same_relation(first, other)
        if step:
            return step
    if "text" in kinds:
        return ""
    if not a.kind == b.kind == "group" or a.shape != b.shape:
        with contextlib.suppress(Unreadable):
            (name_a, set_a), (name_b, set_b) = reals(a), reals(b)
            agree = name_a == name_b or not (name_a and name_b)
            return "same set of reals" if set_a == set_b and agree else ""
    return same_group(a, b) if "group" in kinds else ""


def in_order(left, right) -> str:
    return "same in order" if len(left) == len(right) and all(map(same, left, right)) else ""


def same_group(a: Value, b: Value) -> str:
    """Tuples, intervals, matrices in order; lists and sets in any; x = 1, y = 2 is like (1, 2)."""
    shapes = {a.shape, b.shape}
    if not shapes & {"", "{}"}:
        vector = "()" in shapes and shapes & {"matrix1", f"matrix{len(a.parts)}"}
        return in_order(a.parts, b.parts) if len(shapes) == 1 or vector else ""
    left, right = ([("", part) for part in value.parts] if value.shape == "()" else flatten(value)
                   for value in (a, b))
    for one, other in ((left, right), (right, left)):
        names = {name[0] for name, _ in one if 0 < len(name) < 8}
        if shapes == {"", "()"} or len(names) == len(one) > 1 and not any(n for n, _ in other):
            return in_order([item for _, item in one], [item for _, item in other])
    return same_items(left, right) if shapes <= {"", "{}"} else ""


def flatten(value: Value, name: str = "") -> list[tuple[str, Value]]:
    """(name or "", item) of a list, with the lists in it written out."""
    label, value = named(value)
    items = value.parts if value.kind == "group" and value.shape in ("", "{}") else expand([value])
    return [(label or name, value)] if items == (value,) else [
        pair for item in items for pair in flatten(item, label or name)]


def same_items(left: list, right: list) -> str:
    """Equal with their counts; or as sets, where one of them repeats nothing (4, 4 is 4)."""
    left, right = sorted((left, right), key=len)
    end = None if {name for name, _ in left} == {name for name, _ in right} else "_"    # x_1, x

    def alike(x, y) -> str:
        match = not x[0] or not y[0] or x[0].split(end)[0] == y[0].split(end)[0]
        return same(x[1], y[1]) if match else ""

    common = Counter(map(spelt, left)) & Counter(map(spelt, right))
    rest, free = (list(drop(common.copy(), side)) for side in (left, right))
    if len(rest) * len(free) > MAX_ITEMS:
        raise TooLarge("two long lists with too little in common")
    for pair in rest:
        found = next((other for other in free if alike(pair, other)), None)
        if not found:
            return ""
        free.remove(found)
    repeats = free and any(alike(*pair) for pair in itertools.combinations(left, 2))
    return "same items" if not repeats and len(free) < 50 and all(
        any(alike(x, other) for x in left) for other in free) else ""


def spelt(pair):
    name, item = pair
    rational = item.kind == "number" and item.expr.is_Rational and not item.unit
    return name, item.expr if rational else item.source


def drop(counts: Counter, pairs):
    """The pairs that remain when as many as counted are taken out."""
    for pair in pairs:
        counts[spelt(pair)] -= 1
        if counts[spelt(pair)] < 0:
            yield pair


def named(value: Value) -> tuple[str, Value]:
    """(name, value) of x = 5, 5 = x, f(x) = 2x, (x, y) = (1, 2), x = y = 5; else ("", value)."""
    if value.kind == "relation" and set(value.ops) <= {"=", "∈"}:
        *names, last = value.parts
        if len(names) == 1 and is_name(last) and not is_name(names[0]):
            names, last = [last], names[0]
        if all(map(is_name, names)) and last.source != names[-1].source:
            return names[0].source, last
    return "", value


def is_name(value: Value) -> bool:
    if value.kind == "number":
        letter = value.expr.is_Symbol and value.expr not in (IMAGINARY, *CONSTANTS.values())
        return not value.unit and (letter or isinstance(value.expr, AppliedUndef))
    return value.kind == "text" and len(value.source) < 40 or (
        value.shape == "()" and all(map(is_name, value.parts)))


def same_relation(relation: Value, other: Value) -> str:
    """x = 5 against 5; 1/2 = 0.5 against 1/2, if it is true; x y = 6 against 6/x."""
    name, value = named(relation)
    if name:
        return same(value, other)
    if set(relation.ops) != {"="} or any(part.kind != "number" for part in relation.parts):
        return ""
    exprs = [part.expr for part in relation.parts]
    if not set().union(*(expr.free_symbols for expr in exprs)) - {IMAGINARY}:
        true = all(itertools.starmap(identical, itertools.pairwise(exprs)))
        return same(relation.parts[-1], other) if true else ""
    if len(exprs) == 2 and other.kind == "number" and other.expr.free_symbols:
        gap = exprs[0] - exprs[1]
        unknown = gap.free_symbols - other.expr.free_symbols
        if len(unknown) == 1 and not unknown & sp.diff(gap, *unknown).free_symbols and identical(
                gap.xreplace(dict.fromkeys(unknown, other.expr)), sp.S.Zero):
            return "solved equation"
    return ""


def same_relations(a: Value, b: Value) -> str:
    """Same name and value, f's argument renamed; equations up to a factor; mirrored chains."""
    (name_a, value_a), (name_b, value_b) = named(a), named(b)
    if name_a and name_a == name_b and (step := same(value_a, value_b)):
        return step
    call_a, call_b = (re.fullmatch(r"(\w+)\((\w)\)", name) for name in (name_a, name_b))
    numbers = all(part.kind == "number" for part in (*a.parts, *b.parts) if part.kind != "text")
    if call_a and call_b and numbers:
        renamed = value_a.expr.xreplace({sp.Symbol(call_a[2]): sp.Symbol(call_b[2])})
        same_call = call_a[1] == call_b[1] and identical(renamed, value_b.expr)
        return "bound name changed" if same_call else ""
    if a.ops == b.ops == ("=",) and all(part.kind == "number" for part in (*a.parts, *b.parts)):
        x, y = (value.parts[0].expr - value.parts[1].expr for value in (a, b))
        other = {name: sp.Symbol(name.name + "'") for name in x.free_symbols}
        return "same equation" if x.free_symbols == y.free_symbols and not y.is_zero and identical(
            x * y.xreplace(other), y * x.xreplace(other)) else ""       # x(p) y(q) = y(p) x(q)
    mirrored = tuple(op.translate(MIRROR) for op in b.ops[::-1])
    return (in_order(a.parts, b.parts) if a.ops == b.ops else "") or (
        in_order(a.parts, b.parts[::-1]) if a.ops == mirrored else "")


def limit(value: Value) -> sp.Expr:
    """An end of an interval; an irrational one by its first 40 digits, however it is written."""
    if value.kind != "number" or value.unit or value.expr.free_symbols:
        raise Unreadable("an end that is no number")
    if value.expr.is_Rational or value.expr in (sp.oo, -sp.oo):
        return value.expr
    size = sample(value.expr, 0, ())
    if size is None or MP.im(size):
        raise Unreadable("an end that is not real")
    return sp.Rational(MP.nstr(size, 40))


def reals(value: Value, inner: bool = False) -> tuple[str, sp.Set]:
    """(variable or "", set) of intervals, unions, inequalities and, inside those, {1, 2}."""
    kind, parts, shape = value.kind, value.parts, value.shape
    if kind == "number" and value.expr == CONSTANTS["ℝ"]:
        return "", sp.S.Reals
    if kind == "group" and shape in ("()", "(]", "[)", "[]") and len(parts) == 2:
        low, high = map(limit, parts)
        if low < high:
            return "", sp.Interval(low, high, shape[0] == "(", shape[1] == ")")
    elif inner and (kind == "number" or shape == "{}"):
        return "", sp.FiniteSet(*map(limit, parts or (value,)))
    elif kind == "sets":
        name, total = reals(parts[0], True)
        for op, part in zip(value.ops, parts[1:], strict=True):
            more = reals(part, True)[1]
            total = total | more if op == "∪" else total & more if op == "∩" else total - more
        return name if value.ops else "", total             # in {x | x > 2}, x is bound
    elif kind == "group" and not shape and all(part.kind == "relation" for part in parts):
        names, sets = zip(*(reals(part, True) for part in parts), strict=True)
        if len(set(names)) == 1:
            return names[0], (sp.Intersection if "and" in value.ops else sp.Union)(*sets)
    elif kind == "relation" and (inner or value.ops != ("=",)):
        at, *more = [at for at, part in enumerate(parts) if is_name(part)] or (-1, -1)
        if not more:
            return parts[at].source, sp.Intersection(*(
                half_line(op, parts[left + 1]) if left == at else half_line(
                    op.translate(MIRROR), parts[left]) for left, op in enumerate(value.ops)))
    raise Unreadable("not a set of reals")


def half_line(op: str, other: Value) -> sp.Set:
    """The reals x with x op other."""
    if op == "∈":
        return reals(other, True)[1]
    at = limit(other)
    if op in "=≠":
        return sp.FiniteSet(at) if op == "=" else sp.S.Reals - sp.FiniteSet(at)
    return sp.Interval(*((-sp.oo, at) if op in "<≤" else (at, sp.oo)), op == ">", op == "<")


# --- 6. numbers ---------------------------------------------------------------------------------

def same_number(a: Value, b: Value) -> str:
    """Percent and degrees may be left out or worked out; other units may only be left out."""
    shared = set(a.unit.split()) & set(b.unit.split())
    if a.unit and b.unit and a.unit != b.unit and not shared:
        return ""
    step = same_size(a, b)
    for scaled, plain in ((a, b), (b, a)):
        factor = {"percent": sp.Rational(1, 100), "degree": sp.pi / 180}.get(scaled.unit)
        if not step and factor and not plain.unit and identical(scaled.expr * factor, plain.expr):
            step = f"same without {scaled.unit}"
    return step


def same_size(a: Value, b: Value) -> str:
    x, y = a.expr, b.expr
    if x == y or x.has(IMAGINARY, sp.I) != y.has(IMAGINARY, sp.I):
        return "same number" if x == y else ""
    if identical(x, y):
        return "numeric identity"
    letters = [*x.free_symbols, *y.free_symbols]            # pi/6 + k pi, for every integer k
    if len(letters) == 2 and {name.name for name in letters} <= set("klmnt") and (
            sp.diff(x, letters[0]) / sp.pi).is_Rational and len(x.free_symbols) == 1:
        return "bound integer renamed" if identical(x.xreplace(dict([letters])), y) else ""
    return "rounded" if rounds_to(a, b) or rounds_to(b, a) else ""


def rounds_to(exact: Value, decimal: Value) -> bool:
    """A decimal stands for what rounds to it: a fraction, at two places, if it has three digits;
    any number at six digits. Two decimals are equal only as numbers."""
    if not decimal.places or exact.places or exact.expr.free_symbols or (
            not decimal.expr.is_Rational):
        return False
    digits = len(str(abs(int(decimal.expr * 10**decimal.places))))
    if digits < 6 and not (digits > 2 == decimal.places and exact.expr.is_Rational):
        return False
    gap = sample(exact.expr - decimal.expr, 0, ())
    return gap is not None and abs(gap) <= MP.mpf(10)**-decimal.places / 2


MP = mpmath.mp.clone()              # its own precision: no other user of mpmath is disturbed
MP.dps = 60
MP_LOCK = threading.RLock()         # mpmath's functions change the precision while they work
EXACT = {sp.pi: MP.pi, sp.E: MP.e, IMAGINARY: MP.j, sp.I: MP.j}
NUMERIC = {sp.sin: MP.sin, sp.cos: MP.cos, sp.tan: MP.tan, sp.cot: MP.cot, sp.sec: MP.sec,
           sp.csc: MP.csc, sp.asin: MP.asin, sp.acos: MP.acos, sp.atan: MP.atan, sp.sinh: MP.sinh,
           sp.cosh: MP.cosh, sp.tanh: MP.tanh, sp.log: MP.log, sp.Abs: abs, sp.floor: MP.floor,
           sp.ceiling: MP.ceil, sp.factorial: MP.factorial, sp.binomial: MP.binomial}
REGIONS = ((0, 1), (0, 1), (0, 1), (0, 1), (1, 3), (1, 3), (-2, 0), (-2, 0))


def identical(x: sp.Expr, y: sp.Expr) -> bool:
    """Equal as expressions, or to 40 of 60 digits at every point tried: one for constants, eight
    for names. A difference at one point is a proof; agreement is none, and its step says so."""
    if x == y or x.is_Rational and y.is_Rational or x.has(sp.oo) or y.has(sp.oo):
        return x == y
    names, agreed, needed = (x.free_symbols | y.free_symbols) - {IMAGINARY}, 0, 3
    for point in range(8 if names else 1):
        u, v = sample(x, point, names), sample(y, point, names)
        if u is None or v is None:
            continue
        size = max(abs(u), abs(v))
        if abs(u - v) <= size * MP.mpf(10)**-40 or size < MP.mpf(10)**-50:
            agreed += 1
        elif MP.im(u) == 0 == MP.im(v) or not names:
            return False
        else:
            needed = 4              # other branches of a root: the real points decide
    return agreed >= (needed if names else 1)


def sample(expr: sp.Expr, point: int, names):
    """expr in 60 digits, its names drawn from REGIONS[point]; None where it is undefined."""
    values = {name: MP.mpf(random.Random(f"{point} {name.name}").uniform(*REGIONS[point]))
              for name in names}
    with MP_LOCK, contextlib.suppress(ZeroDivisionError, ValueError, OverflowError, TypeError):
        value = evaluate(expr, EXACT | values)
        return value if MP.isfinite(value) else None


def evaluate(expr: sp.Expr, values: dict):
    """expr in 60-digit arithmetic: all the arithmetic that is done on what is not rational."""
    if expr.is_Rational:
        return MP.mpf(expr.p) / expr.q
    if expr in values:
        return values[expr]
    args = [evaluate(arg, values) for arg in expr.args]
    if expr.is_Add or expr.is_Mul:
        return MP.fsum(args) if expr.is_Add else MP.fprod(args)
    if expr.is_Pow or isinstance(expr, sp.exp):
        base, exponent = args if expr.is_Pow else (MP.e, args[0])
        if base and abs(exponent) * (abs(MP.mag(base)) + 1) > MAX_BITS:
            raise TooLarge(f"a power of more than {MAX_BITS} bits")
        return MP.power(base, exponent)
    if expr.func in (sp.factorial, sp.binomial) and max(map(abs, args)) > MAX_BITS:
        raise TooLarge(f"a factorial above {MAX_BITS}")
    if isinstance(expr, AppliedUndef):      # f(2), or a sum that is kept: some value of its own
        head = " ".join([str(expr.func), *(MP.nstr(arg, 30) for arg in args)])
        return MP.mpf(random.Random(head).random())
    if expr.func not in NUMERIC:
        raise ValueError(f"no numeric form of {expr.func}")
    return NUMERIC[expr.func](*args)


def judge(reference: str, answer: str) -> tuple[Verdict, str, Value | None, Value | None]:
    """The verdict on a bare answer, the step that decided it, and how both were read."""
    plain = "".join(answer.split())
    if plain == "".join(reference.split()) and plain.lower() not in NO_ANSWER:
        return Verdict(True, answer, "correct"), "same text", None, None
    try:
        step, a, b = compare(reference, answer)
    except (TooLarge, RecursionError, MemoryError) as error:
        return Verdict(False, answer, "too_large"), repr(error), None, None
    reason = "correct" if step else "unparsed" if b.kind == "text" != a.kind else "wrong"
    return Verdict(bool(step), answer, reason), step or "no step found them equal", a, b


def is_equivalent(reference: str, answer: str) -> bool:
    """Are two bare answers the same? Symmetric; False also where a limit is met.

    Exact for text, rational numbers and structure; irrational numbers and expressions with
    variables as `identical` says, decimals as `rounds_to` says.
    """
    return judge(reference, answer)[0].correct


def verify(response: str, reference: str) -> Verdict:
    """Is the response's final answer the reference's (Eq. 2)? Bounded work, but no time-out.

    reason: correct, wrong, no_answer, unparsed (the answer is text, the reference is not),
    too_large (a limit of this file was met); verify_all adds timeout.
    """
    answer = extract_answer(response)
    return judge(reference, answer)[0] if answer is not None else Verdict(False, None, "no_answer")


# --- 7. worker processes ------------------------------------------------------------------------
# Workers run this file alone (never the user's script, never torch) and speak JSON lines. Before
# each row a worker sets an alarm that has no handler: the kernel ends it when it hangs, in C code
# too, and when its parent is gone. The caller needs no signal, so any thread may call verify_all.

_pool: list[subprocess.Popen] = []
_pool_key: tuple = (0, 0.0)         # the process and the time-out that the workers belong to
_pool_lock = threading.Lock()


def spawn(timeout: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", os.path.abspath(__file__), "--worker", str(timeout)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True)


@atexit.register
def close_pool() -> None:
    """Ends the workers; a forked child only forgets them, they are its parent's."""
    while _pool:
        worker = _pool.pop()
        if _pool_key[0] == os.getpid():
            worker.kill()
            worker.communicate()


def verify_all(responses: list[str], references: list[str], timeout: float = 5.0,
               workers: int = 2) -> list[Verdict]:
    """`verify` for every row, in order, on worker processes that stay alive between calls.

    A row that takes longer than `timeout` seconds costs its worker: that is replaced, the verdict
    is `timeout`, no other row is touched. A worker that dies otherwise, of memory, gives its row
    `too_large`. workers=0 works in this process, without a time-out. Any thread may call; calls
    take turns. Raises ValueError when the lists differ in length, RuntimeError when a worker
    cannot start.
    """
    global _pool_key
    if len(responses) != len(references):
        raise ValueError(f"{len(responses)} responses but {len(references)} references: "
                         "give one for each")
    if workers == 0:
        return list(map(verify, responses, references))
    rows = list(enumerate(zip(responses, references, strict=True)))
    size = max(1, min(32, len(rows) // (4 * workers)))
    todo = deque(rows[at:at + size] for at in range(0, len(rows), size))
    verdicts = [Verdict(False, None, "timeout")] * len(rows)
    with _pool_lock:
        if _pool_key != (os.getpid(), timeout) or len(_pool) > workers:
            close_pool()
            _pool_key = (os.getpid(), timeout)
        while len(_pool) < min(workers, len(todo)):
            _pool.append(spawn(timeout))
        try:
            with ThreadPoolExecutor(len(_pool) or 1) as threads:
                list(threads.map(lambda at: work_off(at, todo, verdicts, timeout),
                                 range(len(_pool))))
        except BaseException:       # leave no worker behind that still owes verdicts
            close_pool()
            raise
    return verdicts


def work_off(at: int, todo: deque, verdicts: list[Verdict], timeout: float) -> None:
    """Sends worker number `at` one chunk of rows after the other, and takes its verdicts."""
    while True:
        try:
            chunk = todo.popleft()
        except IndexError:
            return
        worker = _pool[at]
        with contextlib.suppress(BrokenPipeError):      # a dead worker is found where it is read
            worker.stdin.write(json.dumps([pair for _, pair in chunk]) + "\n")
            worker.stdin.flush()
        for done, (row, _) in enumerate(chunk, 1):
            line = worker.stdout.readline()
            if not line.endswith("\n"):
                worker.communicate()
                if worker.returncode == 1:              # it never started: no row is to blame
                    raise RuntimeError("a verifier worker cannot start; its error is shown by: "
                                       + " ".join(map(str, worker.args)))
                timed_out = worker.returncode == -signal.SIGALRM
                verdicts[row] = Verdict(False, None, "timeout" if timed_out else "too_large")
                todo.appendleft(chunk[done:])
                _pool[at] = spawn(timeout)
                break
            verdicts[row] = Verdict(*json.loads(line))


def worker_main(timeout: float) -> None:
    """Answers lines of [[response, reference], ...], a line for each pair, until its input ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)       # a caller that ignores it hands that on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY,) * 2)
    for line in sys.stdin:
        for response, reference in json.loads(line):
            signal.setitimer(signal.ITIMER_REAL, timeout)
            try:
                verdict = verify(response, reference)
            except Exception as error:                  # a fault of this file costs one row
                memory = isinstance(error, MemoryError)
                verdict = Verdict(False, None, "too_large" if memory else "unparsed")
            print(json.dumps(verdict), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- 8. the command line ------------------------------------------------------------------------

def table(rows: list[dict], verdicts: list[Verdict]) -> str:
    """The columns of the paper's Table 1 by source, in percent; and the count of each reason."""
    lines = [f"{'source':24} {'rows':>5}" + "".join(
        f" {name:>9}" for name in ("recall", "precision", "FPR", "accuracy"))]
    groups: dict[str, Counter] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        for group in (str(row.get("source", "-")), "~ all"):
            groups.setdefault(group, Counter())[bool(row["label"]), verdict.correct] += 1
    for group, count in sorted(groups.items()):
        tp, fn, fp, tn = (count[key] for key in itertools.product((True, False), repeat=2))
        shares = ((tp, tp + fn), (tp, tp + fp), (fp, fp + tn), (tp + tn, tp + fn + fp + tn))
        lines.append(f"{group:24} {shares[3][1]:5}" + "".join(
            f" {100 * part / of:9.1f}" if of else f" {'-':>9}" for part, of in shares))
    reasons = Counter(verdict.reason for verdict in verdicts)
    return "\n".join([*lines, ", ".join(f"{reason} {reasons[reason]}" for reason in REASONS)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Check answers against references.")
    parser.add_argument("pairs", nargs="?", help="JSON lines: gold, response, label, source")
    parser.add_argument("--errors", action="store_true", help="list the rows it got wrong")
    parser.add_argument("--reference", default="", help="with --response: one reference answer")
    parser.add_argument("--response", help="with --reference: explain one verdict")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds a row may take")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0 for none")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker_main(args.worker)
    elif args.response is not None:
        answer = extract_answer(args.response)
        verdict, step, *values = judge(args.reference, answer or "")
        print(f"extracted: {answer!r}")
        for name, value in zip(("reference", "answer"), values, strict=True):
            print(f"{name + ':':10} {value}")
        print(f"decided:   {step}\nverdict:   {verdict.reason if answer else 'no_answer'}")
    elif args.pairs:
        with open(args.pairs, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        verdicts = verify_all([row["response"] for row in rows], [row["gold"] for row in rows],
                              args.timeout, args.workers)
        print(table(rows, verdicts))
        for row, verdict in zip(rows, verdicts, strict=True):
            if args.errors and verdict.correct != bool(row["label"]):
                print(f"{row.get('id', '')} labelled {bool(row['label'])}, {verdict.reason}: "
                      f"reference {row['gold']!r}, answer {verdict.answer!r}")
    else:
        parser.error("give a file of pairs, or --reference and --response")


if __name__ == "__main__":
    main()

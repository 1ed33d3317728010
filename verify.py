"""Does a response give the reference's answer? The 0/1 of HERO (Eq. 2) and the grader of every benchmark.

    extract_answer(response)          the final answer: the last \\boxed{}, or a cautious reading of free text
    is_equivalent(reference, answer)  symmetric; both are read by the grammar below and compared, exact first
    verify(response, reference)       both, with a reason; in this process, no time-out
    verify_all(responses, references) many rows on worker processes that are killed when they hang

    python verify.py pairs.jsonl --errors                      recall, precision, false-positive rate
    python verify.py --reference '(1,2]' --response '\\boxed{1 < x \\le 2}'          one verdict, explained

The model's text is data. It is never evaluated, and never names an attribute: a tokenizer and a precedence
parser turn what they know into sympy objects through the tables in this file; the rest stays text.
"""
from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import itertools
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

import mpmath
import sympy as sp

REASONS = ("correct", "wrong", "no_answer", "unparsed", "timeout", "too_large")

# Limits, checked before the work they bound.
MAX_CHARS = 10_000      # of an answer, blanks squeezed
MAX_DEPTH = 40          # nested brackets, fractions, roots, exponents
MAX_DIGITS = 1_000      # of one number literal
MAX_BITS = 200_000      # of any power, in exact and in numeric arithmetic
MAX_FACTORIAL = 5_000
MAX_BOXES = 20          # more is a flood of guesses
MAX_MEMORY = 1 << 30    # bytes of address space a worker may have on top of what it starts with


class Verdict(NamedTuple):
    correct: bool
    answer: str | None
    reason: str


class TooLarge(Exception):
    """A limit was met; the verdict is `too_large`."""


class Unreadable(Exception):
    """Not in the grammar; the piece is kept as text."""


# --- 1. extraction -----------------------------------------------------------------------------------

BOX = re.compile(r"(?<!\\)(?:\\\\)*\\boxed\s*\{")
# What may stand between the boxes of one final statement: marks, connectives, a label such as `y_2 =`.
JOINT = re.compile(r"(?:[\s$,;.&~()\[\]]|\\[\[\]()\\,;:! ]|\\q?quad|\\(?:text|mbox)\s*\{|\}|\b(?:and|or|for|part|"
                   r"case|as well as|also)\b|\([a-z]\)|[A-Za-z](?:_\{?\w+\}?)?\s*=)*")
MARKER = re.compile(r"(?:final\s+answers?|answers?|réponse|respuesta|antwort|答案|ответ)\W{0,4}?\s*"
                    r"(?:is|are|:|：|为|是|=|(?=[$\\]))[\s:*]*", re.I)
MATH = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.S)
SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？]|\n\s*\n")
NOISE = re.compile(r"<\|.*?\|>.*|I hope (?:it|this) is correct.*", re.S)
NUMBER = re.compile(r"(?<![\w.])\(?(?:\\d?frac\{[^{}]+\}\{[^{}]+\}|-?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?\s?%?)\)?")


def boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of every top-level \\boxed{}; an unclosed one has content None and ends the list."""
    found, at = [], 0
    while match := BOX.search(text, at):
        depth, at = 1, match.end()
        for brace in re.finditer(r"\\.|[{}]", text[at:], re.S):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                break
        if depth:
            return [*found, (match.start(), len(text), None)]
        found.append((match.start(), at + brace.end(), text[at:at + brace.start()]))
        at += brace.end()
    return found


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None.

    The last \\boxed{}; the boxes of one final statement ("\\boxed{1} and \\boxed{2}") are joined as a list.
    A truncated last box, an empty one or a flood of boxes is no answer. Only a response without any box is
    read as text: what follows the last "answer is", else the last formula, else the last number of the end.
    """
    tail = response.rpartition("</think>")[2]
    found = boxes(tail) or boxes(response)
    if found:
        if found[-1][2] is None or len({content for *_, content in found}) > MAX_BOXES:
            return None
        text = tail if boxes(tail) else response
        last = [found.pop()]
        while found and JOINT.fullmatch(text, found[-1][1], last[0][0]):
            last.insert(0, found.pop())
        answer = " , ".join(content.strip() for *_, content in last)
        inner = boxes(answer)
        if len(inner) == 1 and inner[0][:2] == (0, len(answer)):
            answer = inner[0][2].strip()
        return answer or None
    return None if "boxed" in response or "fbox" in response else answer_in_text(tail)


def answer_in_text(text: str) -> str | None:
    """The answer of a response without a box: what "the answer is" announces, or what the last sentence ends on."""
    text = NOISE.sub("", text[-4000:]).strip()
    if len(text) < 2:  # a lone character is a fragment, not a statement
        return None
    marker = None
    for marker in MARKER.finditer(text):
        pass
    if marker and marker.end() < len(text):
        said = SENTENCE.split(text[marker.end():])[0].strip()
        formula = MATH.match(said)
        if formula:
            return next(filter(None, formula.groups())).strip()
        if not re.search(r"\b(?:is|be)\b|[^\x00-\u036f\u2000-\u2fff]", said):
            return said.rstrip(".") or None
        text = said
    elif " " not in text and re.match(r"[\\\d.(\[-]", text):
        return text
    formulas = list(MATH.finditer(text))
    sentence = [part for part in SENTENCE.split(text) if part.strip()][-1]
    numbers = NUMBER.findall(sentence)
    if formulas and (not numbers or text.rindex(formulas[-1][0]) + len(formulas[-1][0]) > text.rindex(numbers[-1])):
        return next(filter(None, formulas[-1].groups())).strip()
    return numbers[-1].strip() if numbers else None


# --- 2. normalisation --------------------------------------------------------------------------------

SAME = {  # one spelling for each character and macro; what is not here stays what it is
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "π": r"\pi ",
    "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "ℝ": r"\R ",
    "∅": r"\emptyset ", "°": r"^\circ ", "²": "^2", "³": "^3", "⁴": "^4", "½": r"\frac12 ", "⅓": r"\frac13 ",
    "⅔": r"\frac23 ", "¼": r"\frac14 ", "¾": r"\frac34 ", "θ": r"\theta ", "λ": r"\lambda ", "α": r"\alpha ",
    "β": r"\beta ", "…": r"\ldots ", "’": "'", "′": "'", "，": ",", "；": ";", "：": ":", "（": "(", "）": ")",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "**": "^", "...": r"\ldots ", "$": " ", "~": " ", r"\!": "",
    r"\,": " ", r"\;": " ", r"\:": " ", r"\>": " ", r"\ ": " ", r"\quad": " ", r"\qquad": " ", r"\left": " ",
    r"\right": " ", r"\big": " ", r"\Big": " ", r"\bigl": " ", r"\bigr": " ", r"\Bigl": " ", r"\Bigr": " ",
    r"\displaystyle": " ", r"\limits": " ", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\%": "%", r"\leq": r"\le", r"\geq": r"\ge", r"\leqslant": r"\le",
    r"\geqslant": r"\ge", r"\neq": r"\ne", r"\lt": "<", r"\gt": ">", "!=": r"\ne ", "<=": r"\le ", ">=": r"\ge ",
    "==": "=", r"\degree": r"^\circ ", r"\textcirc": r"\circ ", r"\mathbb{R}": r"\R ", r"\mathbb R": r"\R ",
    r"\dots": r"\ldots", r"\cdots": r"\ldots", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\langle": "(",
    r"\rangle": ")", r"\mid": "|", r"\vert": "|", r"\lvert": "|", r"\rvert": "|", r"\div": "/", r"\ast": "*",
    r"\textdollar": r"\$", r"\varnothing": r"\emptyset", r"\backslash": r"\setminus", r"\colon": ":",
}
MACRO = re.compile(r"\\mathbb\s?\{R\}|\\mathbb R|\\[A-Za-z]+|\\.|\*\*|\.\.\.|[!<>=]=|.", re.S)
# A reader that took "\f" and "\t" for escapes leaves a form feed or a tab where a macro began.
EATEN = re.compile(r"\x0c(?=rac)|\t(?=ext|imes|frac|heta)|\x08(?=egin|inom|eta)|\r(?=ight|ho)")


def normalise(text: str) -> str:
    """One spelling for the many of LaTeX, unicode and plain text; idempotent. Raises TooLarge."""
    text = re.sub(r"\s+", " ", EATEN.sub(lambda eaten: "\\" + "tfbr"["\t\x0c\x08\r".index(eaten[0])], text))
    if len(text) > MAX_CHARS:
        raise TooLarge("answer of more than MAX_CHARS characters")
    text = re.sub(r"\{,\}|,\s*\\!\s*", "{,}", text)
    text = "".join(SAME.get(piece, piece) for piece in MACRO.findall(text))
    return re.sub(r"(?:\s|(?<!\\)[.,;:]|(?<!\\)\^)+$", "", re.sub(r"\s+", " ", text).strip())


# --- 3. tokens ---------------------------------------------------------------------------------------

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen").split()
TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
ORDINALS = dict(zip("first second third fourth fifth sixth seventh eighth ninth tenth".split(), range(1, 11),
                    strict=True))
CARDINALS = {**{word: value for value, word in enumerate(ONES)}, **TENS, **SCALES, **ORDINALS}
# One canonical name for each unit of measure; two different ones are two different answers.
UNITS = {alias: names.split()[0] for names in (
    "dollar dollars usd bucks|cent cents ¢|euro euros €|pound pounds lb lbs £|yuan|yen ¥|percent pct percentage %|"
    "degree degrees deg °|radian radians rad|meter meters metre metres m|kilometer kilometers km|foot feet ft|"
    "centimeter centimeters cm|millimeter millimeters mm|inch inches in|mile miles mi|yard yards yd|gram grams g gm|"
    "kilogram kilograms kg|ounce ounces oz|ton tons|liter liters l|ml milliliter milliliters|second seconds s sec|"
    "minute minutes min|hour hours h hr hrs|day days|week weeks|month months|year years|mph|unit units|newton "
    "newtons N|joule joules J|watt watts W|volt volts V|hertz Hz|kelvin K|mole moles mol|square sq|cubic"
).split("|") for alias in names.split()}
# Words that turn, hedge or compute: text with one of them is never a value with a unit.
TURNING = set("""not no is isn't are was or and but except maybe possibly perhaps probably never than less more plus
    minus times half dozen score twice double past short of wrong incorrect if either neither all any true false to
    dozens triple thrice quarter without unless cannot undefined between""".split())
SHORT_WORDS = {"is", "are", "not", "no", "yes", "odd", "even", "the", "of", "to", "all", "any", "for", "if",
               "per", "sq", "usd", "pct", "nan", *(unit for unit in UNITS if 1 < len(unit) < 4)} - {"in"}
WRAPPERS = {"\\" + name for name in ("text textbf textit textrm textnormal texttt textsf mbox mathrm mathbf mathit "
                                     "mathsf operatorname boldsymbol bm rm bf").split()}
OPERATORS = {r"\cdot": "*", r"\times": "*", r"\le": "≤", r"\ge": "≥", r"\ne": "≠", r"\in": "∈", r"\approx": "≈",
             r"\cup": "∪", r"\cap": "∩", r"\setminus": "∖", r"\pm": "±", r"\mp": "∓", r"\{": "{", r"\}": "}",
             r"\$": "¤", r"\\": "\\", r"\bmod": "mod", r"\lfloor": "⌊", r"\rfloor": "⌋", r"\lceil": "⌈",
             r"\rceil": "⌉", r"\ldots": "…", r"\over": "over", r"\circ": "°", r"\prime": "'", r"\&": "and",
             r"\land": "and", r"\lor": "or"}
FUNCTIONS = {
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc, "arcsin": sp.asin,
    "arccos": sp.acos, "arctan": sp.atan, "arccot": sp.acot, "asin": sp.asin, "acos": sp.acos, "atan": sp.atan,
    "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "ln": sp.log, "log": sp.log, "exp": sp.exp,
    "lg": lambda x: sp.log(x) / sp.log(10), "abs": sp.Abs, "floor": sp.floor, "ceil": sp.ceiling,
}
BIG = {"sum", "prod", "int", "lim", "max", "min", "sup", "inf", "gcd", "lcm"}  # kept as they are, not computed
CONSTANTS = {"pi": sp.pi, "infty": sp.oo, "infinity": sp.oo, "R": sp.Symbol("ℝ"), "emptyset": sp.Symbol("∅")}
NAMES = set("""alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma
    tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell angle triangle
    mho""".split())
STRUCTURE = {"frac", "sqrt", "binom"}
MACROS = STRUCTURE | set(FUNCTIONS) | BIG | set(CONSTANTS) | NAMES | {name[1:] for name in OPERATORS if name[1].isalpha()}
TOKEN = re.compile(r"""
    (?P<num>[1-9][0-9]{0,2}(?:(?:\{,\}|[ ])[0-9]{3})+(?![0-9])(?:\.[0-9]+)? | [0-9]+(?:\.[0-9]+)? | \.[0-9]+)
  | (?P<env>\\(?:begin|end)\s?\{\w+\*?\}(?:\{[lcr|]+\})?) | (?P<macro>\\[A-Za-z]+|\\.)
  | (?P<run>[A-Za-z]+) | (?P<blank>\s+) | (?P<op>.)""", re.X | re.S)
THOUSANDS = re.compile(r"(?<![0-9.,])([1-9][0-9]{0,2}(?:,[0-9]{3})+)(?![0-9])(?!,[0-9])")


class Token(NamedTuple):
    kind: str   # num, sym, word, fn, op, env
    text: str


def tokenise(text: str, prose: bool = False) -> list[Token]:
    """Tokens of a normalised answer; `prose`: inside \\text{}, where a run of letters is a word."""
    tokens, at = [], 0
    while match := TOKEN.match(text, at):
        kind, piece, at = match.lastgroup, match[0], match.end()
        if kind == "num":
            piece = re.sub(r"[ ]|\{,\}", "", piece)
            tokens.append(Token("num", re.sub(r"0+$", "", piece).rstrip(".") or "0" if "." in piece else piece))
            if "." in piece and set(piece) <= set("0."):
                tokens[-1] = Token("num", "0")
            exponent = re.compile(r"[eE][+-]?[0-9]+(?![A-Za-z0-9.])").match(text, at)
            if exponent and not prose:
                tokens[-1] = Token("num", tokens[-1].text + exponent[0].lower().replace("+", ""))
                at = exponent.end()
        elif kind == "run":
            tokens.extend(letters(piece, prose))
        elif kind == "env":
            tokens.append(Token("env", "begin" if "begin" in piece else "end"))
        elif kind == "macro" and piece in WRAPPERS:
            inner = re.compile(r"\s?\{([^{}]*)\}").match(text, at)
            if inner:
                plain = piece.startswith((r"\text", r"\mbox"))
                tokens.extend(tokenise(inner[1], plain) if plain or not re.fullmatch(r"[A-Za-z ]{2,}", inner[1])
                              else tokenise(inner[1], True))
                at = inner.end()
        elif kind == "macro":
            tokens.extend(macro(piece))
        elif kind == "op":
            tokens.append(Token("op", {"€": "¤", "£": "¤"}.get(piece, piece)))
    return join_number_words(tokens)


def letters(run: str, prose: bool) -> list[Token]:
    """A run of letters: a connective, a function or constant, a word, or one symbol for each letter."""
    if run.lower() in ("and", "or"):
        return [Token("op", run.lower())]
    if len(run) > 1 and not prose:
        if run in FUNCTIONS or run in ("sqrt", "binom", "pi", "infty", "infinity"):
            return [Token("fn", run)]
        if run.endswith("pi") and len(run) < 4:
            return [*letters(run[:-2], prose), Token("fn", "pi")]
    if len(run) > 1 and (prose or len(run) > 3 or run.lower() in SHORT_WORDS) and not run.isupper():
        return [Token("word", run)]
    if prose and len(run) > 1:
        return [Token("word", run)]
    return [Token("sym", letter) for letter in run]


def macro(piece: str) -> list[Token]:
    """A macro of the tables; an unknown one that begins with a known one (\\cotx) is split there."""
    if piece in OPERATORS:
        return [Token("op", OPERATORS[piece])]
    name = piece[1:]
    if name in NAMES:
        return [Token("sym", name)]
    if name in MACROS:
        return [Token("fn", name)]
    for cut in range(len(name) - 1, 1, -1):
        if piece[:cut + 1] in SAME and not SAME[piece[:cut + 1]].strip():
            return letters(name[cut:], False)
        if name[:cut] in MACROS:
            return [*macro(piece[:cut + 1]), *letters(name[cut:], False)]
    return [Token("op", piece)]


def join_number_words(tokens: list[Token]) -> list[Token]:
    """"one hundred and five" becomes the number 105. Phrases such as "half a dozen" stay words."""
    out, at = [], 0
    while at < len(tokens):
        total = part = 0
        here, last = at, None
        while here < len(tokens):
            word = tokens[here].text.lower() if tokens[here].kind == "word" else ""
            joins = tokens[here] in (Token("op", "-"), Token("op", "and")) and last is not None
            if joins and here + 1 < len(tokens) and tokens[here + 1].text.lower() in CARDINALS and (
                    last in SCALES if tokens[here].text == "and" else last in TENS):
                here += 1
                continue
            value = CARDINALS.get(word)
            if value is None or (last is not None and last not in SCALES and word not in SCALES
                                 and not (last in TENS and value < 10)):
                break
            if word in SCALES:
                part = max(part, 1) * value
                total, part = (total + part, 0) if value > 100 else (total, part)
            else:
                part += value
            here, last = here + 1, word
        if last is None:
            out.append(tokens[at])
            at += 1
        else:
            out.append(Token("num", str(total + part)))
            at = here
    return out


# --- 4. the reader: tokens to values -----------------------------------------------------------------

@dataclass(frozen=True)
class Value:
    """What an answer reads as. kind: number, text, group, relation, sets, matrix."""
    kind: str
    source: str                      # the normalised text, for the first step of every comparison
    expr: sp.Expr | None = None      # number: a sympy expression
    unit: str = ""                   # number: "%", "degree", or the canonical words after it
    places: int | None = None        # number: decimals as written, for the rounding rule
    open: str = ""                   # group: "(", "[", "{" or "" for a bare list
    close: str = ""
    ops: tuple[str, ...] = ()        # relation: between the parts; sets: ∪ ∩ ∖; group: how its parts are joined
    parts: tuple[Value, ...] = ()    # matrix: its entries row by row
    width: int = 0                   # matrix: columns


PM, PERCENT, DEGREE = sp.Symbol("±"), sp.Symbol("%"), sp.Symbol("°")
IMAGINARY = sp.Symbol("i")           # a symbol: i^2 is not accepted for -1, an unevaluated copy of it
RELATIONS = set("=<>≤≥≠∈≈")
OPENING, CLOSING = set("([{⌊⌈"), set(")]}⌋⌉")
NO_ANSWER = {"nan", "none", "null", "n/a", "?", ""}


def join(tokens: list[Token]) -> str:
    """Source text of tokens without blanks, but for those between two numbers and two words."""
    out = ""
    for before, token in itertools.pairwise([Token("op", ""), *tokens]):
        out += " " * (before.kind == token.kind in ("num", "word")) + token.text
    return out


@functools.lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> Value:
    """The value of an answer; never raises Unreadable (what is not maths is text). Raises TooLarge.

    thousands: 1,234 is one number. It is also a list of two; `compare` tries both readings.
    """
    text = normalise(text)
    if thousands:
        text = THOUSANDS.sub(lambda number: number[0].replace(",", "{,}")
                             if not re.search(r"[(\[]|\\\{", text[:number.start()]) else number[0], text)
    return Reader(tokenise(text)).list(0, None, "", "")


class Reader:
    """A precedence parser over one token list. Lists are split first, so that text in one item stays there."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.depth = tokens, 0
        self.match, stack = {}, []
        for at, (kind, text) in enumerate(tokens):
            if kind == "op" and text in OPENING or (kind, text) == ("env", "begin"):
                stack.append(at)
                if len(stack) > MAX_DEPTH:
                    raise TooLarge("brackets nested deeper than MAX_DEPTH")
            elif (kind == "op" and text in CLOSING or (kind, text) == ("env", "end")) and stack:
                self.match[stack.pop()] = at
        self.at, self.end = 0, len(tokens)

    def split(self, start: int, end: int, marks: set[str]) -> list[tuple[int, int, str]]:
        """Pieces (start, end, mark before) of tokens[start:end] between marks outside brackets."""
        pieces, begin, before, at = [], start, "", start
        while at < end:
            at_mark = self.tokens[at].kind == "op" and self.tokens[at].text in marks
            if at_mark:
                pieces.append((begin, at, before))
                begin, before = at + 1, self.tokens[at].text
            at = self.match.get(at, at) + 1
        return [*pieces, (begin, end, before)]

    def list(self, start: int, end: int | None, opening: str, closing: str) -> Value:
        end = len(self.tokens) if end is None else end
        source = opening + join(self.tokens[start:end]) + closing
        if start >= end:
            return Value("text", source)
        if opening == "{":
            for a, b, _ in self.split(start, end, {"|", ":"})[:1]:
                if b < end and all(token.kind == "sym" or token.text in "∈ℝR" for token in self.tokens[a:b]):
                    return self.list(b + 1, end, "", "")       # set-builder: its condition
        pieces = [piece for piece in self.split(start, end, {",", ";", "and", "or"}) if piece[0] < piece[1]]
        joins = tuple(sorted({mark for *_, mark in pieces if mark}))
        items = expand([self.item(a, b) for a, b, _ in pieces])
        if len(items) == 1 and (opening in ("", "{") or opening == "(" and closing == ")"
                                and items[0].kind != "text"):
            return items[0]
        return Value("group", source, open=opening, close=closing, ops=joins, parts=tuple(items))

    def item(self, start: int, end: int) -> Value:
        """One item: a relation or a value; text where it is neither."""
        source = join(self.tokens[start:end])
        try:
            return self.relation(start, end, source)
        except (Unreadable, ZeroDivisionError, ValueError, TypeError, ArithmeticError):
            pass
        words = [at for at in range(start, end) if self.tokens[at].kind == "word"]
        cut = [at for at in words if self.tokens[at].text.lower() in ("is", "are", "equals")]
        if cut and cut[-1] + 1 < end:                           # "the answer is 5"
            return self.item(cut[-1] + 1, end)
        if words and words[0] == start and self.tokens[start].text.lower() in ("only", "exactly", "just"):
            return self.item(start + 1, end)
        if words and words[-1] >= start:                        # "f(x) = 1 for all x"
            for at in words:
                if at > start and self.tokens[at].text.lower() == "for" and at + 1 < end and (
                        self.tokens[at + 1].text.lower() in ("all", "any", "every", "each", "some")):
                    return self.item(start, at)
        label = self.split(start, end, {":"})
        if len(label) == 2 and self.tokens[start].kind == "word" and label[1][0] < end:   # "Minimum: 1"
            return Value("relation", source, ops=("=",), parts=(
                Value("text", join(self.tokens[start:label[0][1]])), self.item(label[1][0], end)))
        return Value("text", source)

    def relation(self, start: int, end: int, source: str) -> Value:
        sides = self.split(start, end, RELATIONS)
        if len(sides) == 1:
            return self.side(start, end)
        if sides[1][2] == "≈":
            return self.item(start, sides[0][1])                # the exact form decides
        ops = tuple(mark for *_, mark in sides[1:])
        if "≈" in ops:
            sides, ops = sides[:ops.index("≈") + 1], ops[:ops.index("≈")]
        first = self.label(*sides[0][:2]) if ops[0] in "=∈" else None
        parts = [first] if first else []
        for a, b, _ in sides[len(parts):]:
            if a >= b:
                raise Unreadable("an empty side")
            parts.append(self.side(a, b))
        return Value("relation", source, ops=ops, parts=tuple(parts))

    def label(self, start: int, end: int) -> Value | None:
        """A name on the left of "=": f(x), T(10), AB, Maximum; None where it is an ordinary expression."""
        tokens, name = self.tokens[start:end], join(self.tokens[start:end])
        if tokens and all(token.kind == "word" for token in tokens):
            return Value("text", name)
        if len(tokens) > 3 and tokens[0].kind == "sym" and self.match.get(end - 1 - 0, None) is None:
            opening = next((at for at in range(start + 1, end) if self.tokens[at].text == "("), None)
            if opening and self.match.get(opening) == end - 1 and (opening == start + 1 or tokens[1].text in "_'"):
                inner = self.tokens[opening + 1:end - 1]
                if all(token.kind in ("num", "sym") or token.text == "," for token in inner) and (
                        tokens[0] not in inner):
                    return Value("text", name)
        if len(tokens) > 1 and all(token.kind == "sym" and len(token.text) == 1 and token.text.isupper()
                                   for token in tokens):
            return Value("text", name)
        return None

    def side(self, start: int, end: int) -> Value:
        """One side of a relation: sets joined by ∪ ∩ ∖, a ratio, or a value with its unit."""
        source = join(self.tokens[start:end])
        sets = self.split(start, end, {"∪", "∩", "∖"})
        if len(sets) == 1 and self.tokens[start].text == "{" and start in self.match:
            close = self.match[start]
            if close + 1 < end and self.tokens[close + 1].text == "-":
                sets = [(start, close + 1, ""), (close + 2, end, "∖")]
        if len(sets) > 1:
            return Value("sets", source, ops=tuple(mark for *_, mark in sets[1:]),
                         parts=tuple(self.side(a, b) for a, b, _ in sets))
        tokens = self.tokens[start:end]
        if any(token.text.lower() == "to" and token.kind == "word" for token in tokens):
            self.tokens = [Token("op", ":") if token == Token("word", "to") else token for token in self.tokens]
        ratio = self.split(start, end, {":"})
        if len(ratio) > 1:
            parts = [self.side(a, b) for a, b, _ in ratio]
            if any(part.kind != "number" for part in parts):
                raise Unreadable("a ratio of what is not a number")
            if len(parts) == 2:
                return Value("number", source, expr=parts[0].expr / parts[1].expr)
            return Value("group", source, open=":", close=":", parts=tuple(parts))
        if start in self.match and self.match[start] == end - 1 and self.tokens[start].text in "([{":
            group = self.list(start + 1, end - 1, self.tokens[start].text, self.tokens[end - 1].text)
            if group.kind != "text":
                return group
        if start in self.match and self.match[start] == end - 1 and self.tokens[start].kind == "env":
            return self.matrix(start + 1, end - 1, source)
        return self.quantity(start, end, source)

    def matrix(self, start: int, end: int, source: str) -> Value:
        rows = [row for row in self.split(start, end, {"\\"}) if row[0] < row[1]]
        cells = [[self.side(a, b) for a, b, _ in self.split(first, last, {"&"})] for first, last, _ in rows]
        if not cells or len({len(row) for row in cells}) > 1:
            raise Unreadable("a matrix whose rows differ in length")
        return Value("matrix", source, parts=tuple(itertools.chain(*cells)), width=len(cells[0]))

    def quantity(self, start: int, end: int, source: str) -> Value:
        """A number with what stands around it: currency, percent, degrees, units, trailing words."""
        self.at, self.end, unit = start, end, ""
        sign = 1
        if self.at + 1 < end and self.tokens[self.at].text == "-" and self.tokens[self.at + 1].text == "¤":
            sign, self.at = -1, self.at + 1
        if self.peek() == "¤":
            self.at, unit = self.at + 1, "dollar"
        literal = re.fullmatch(r"[-+]?[0-9]*\.([0-9]+)", join(self.tokens[self.at:end]).partition(" ")[0]) or (
            re.fullmatch(r"[0-9]*\.([0-9]+)", self.tokens[self.at].text if self.at < end else ""))
        expr = sign * self.sum()
        left = self.tokens[self.at:end]
        if expr.has(PERCENT, DEGREE):
            for mark, name in ((PERCENT, "%"), (DEGREE, "degree")):
                bare = expr / mark
                if expr.has(mark) and not bare.has(mark):
                    expr, unit = bare, name
        expr = expr.xreplace({DEGREE: sp.pi / 180, PERCENT: sp.Rational(1, 100)})
        if left:
            unit = unit_of(left)
        if expr.has(sp.zoo, sp.nan):
            raise Unreadable("undefined")
        return Value("number", source, expr=expr, unit=unit, places=len(literal[1]) if literal else None)

    # The precedence parser: sum > term > signed power > postfix > atom.

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text if at < self.end and self.tokens[at].kind in ("op", "fn", "env") else ""

    def take(self, text: str) -> bool:
        if self.peek() == text:
            self.at += 1
            return True
        return False

    def sum(self) -> sp.Expr:
        terms, signs = [], {"+": 1, "-": -1, "±": PM, "∓": -PM}
        while True:
            sign = 1
            while self.peek() in signs:
                sign, self.at = sign * signs[self.peek()], self.at + 1
            terms.append(sign * self.term())
            if self.peek() not in signs:
                return sp.Add(*terms)

    def term(self) -> sp.Expr:
        factors = [self.power()]
        while self.at < self.end:
            if self.take("*"):
                factors.append(self.signed())
            elif self.take("/"):
                factors.append(self.reciprocal(self.signed()))
            elif self.take("mod"):
                left, right = sp.Mul(*factors), self.power()
                if not (left.is_Integer and right.is_Integer):
                    raise Unreadable("mod of what is not an integer")
                factors = [left % right]
            elif self.starts_factor():
                factors.append(self.power())
            else:
                break
        return sp.Mul(*factors)

    def reciprocal(self, expr: sp.Expr) -> sp.Expr:
        if expr.is_zero:
            raise Unreadable("a division by zero")
        return sp.Pow(expr, -1)

    def signed(self) -> sp.Expr:
        sign = 1
        while self.peek() in ("+", "-"):
            sign, self.at = sign * (-1 if self.peek() == "-" else 1), self.at + 1
        return sign * self.power()

    def starts_factor(self) -> bool:
        kind, text = self.tokens[self.at]
        return kind in ("sym", "fn") or text in ("(", "{", "[", "⌊", "⌈", "|") and self.at in self.match or (
            kind == "op" and text == "\\sqrt")

    def power(self) -> sp.Expr:
        base = self.postfix()
        if self.peek() == "^":
            self.at += 1
            return self.raised(base)
        return base

    def raised(self, base: sp.Expr) -> sp.Expr:
        inner = [token.text for token in self.tokens[self.at:self.at + 3]]
        if inner[:1] == ["°"] or inner[1:2] == ["°"] and inner[0] == "{":
            self.at += 1 if inner[0] == "°" else 3
            return base * DEGREE
        if inner[0:1] == ["{"] and len(inner) > 1 and inner[1] in ("st", "nd", "rd", "th"):
            self.at += 3
            return base
        if inner[:1] == ["'"]:
            raise Unreadable("a prime")
        sign = 1
        while self.peek() in ("-", "+"):
            sign, self.at = sign * (-1 if self.peek() == "-" else 1), self.at + 1
        exponent = sign * self.nested(self.power)
        return power(base, exponent)

    def nested(self, read_one):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge("nested deeper than MAX_DEPTH")
        try:
            return read_one()
        finally:
            self.depth -= 1

    def postfix(self) -> sp.Expr:
        expr = self.nested(self.atom)
        while self.at < self.end:
            if self.peek() == "!" and self.peek(1) != "=":
                self.at += 1
                expr = factorial(expr)
            elif self.take("%"):
                expr = expr * PERCENT
            elif self.take("°"):
                expr = expr * DEGREE
            elif self.peek() == "_" and expr.is_Integer:
                self.at += 1
                base = self.argument()
                expr = sp.Function("base")(expr, base)
            else:
                break
        return expr

    def argument(self) -> sp.Expr:
        """The argument of \\frac, _ and \\sqrt: a group, or one token; of a number its first digit (\\frac12)."""
        if self.at >= self.end:
            raise Unreadable("a missing argument")
        kind, text = self.tokens[self.at]
        if kind == "num" and len(text) > 1 and text.isdigit():
            self.tokens[self.at] = Token("num", text[1:])
            return sp.Integer(int(text[0]))
        return self.nested(self.atom)

    def group(self) -> sp.Expr:
        """( ), { }, [ ] around an expression."""
        start, end = self.at, self.match.get(self.at)
        if end is None or end >= self.end:
            raise Unreadable("an open bracket")
        if self.tokens[start].text + self.tokens[end].text not in ("()", "{}", "[]", "⌊⌋", "⌈⌉"):
            raise Unreadable("an interval in an expression")
        outer, self.at, self.end = self.end, start + 1, end
        expr = self.sum()
        if self.take("over"):
            expr = expr * self.reciprocal(self.sum())
        if self.at != end:
            raise Unreadable("more than one expression in a group")
        self.at, self.end = end + 1, outer
        rounded = {"⌊": sp.floor, "⌈": sp.ceiling}.get(self.tokens[start].text)
        return rounded(expr) if rounded else expr

    def atom(self) -> sp.Expr:
        if self.at >= self.end:
            raise Unreadable("an operand is missing")
        kind, text = self.tokens[self.at]
        if kind == "op" and text in "([{⌊⌈":
            return self.group()
        self.at += 1
        if kind == "num":
            whole = number(text)
            return whole + self.fraction_after(whole) if whole.is_Integer else whole
        if kind == "sym":
            return self.symbol(text)
        if kind == "fn":
            return self.function(text)
        if text == "|":
            return self.bars()
        if text == "…":
            return sp.Symbol("…")
        raise Unreadable(f"{text!r} where a value is expected")

    def fraction_after(self, whole: sp.Expr) -> sp.Expr:
        """The fraction of a mixed number, 1\\frac12 or 1 1/2; else 0."""
        rest = self.tokens[self.at:self.at + 7]
        shape = "".join("d" if kind == "num" and part.isdigit() else part for kind, part in rest)
        for pattern, places in ((r"d/d", (0, 2)), (r"frac\{d\}\{d\}", (2, 5)), (r"frac\{d\}d", (2, 4))):
            if re.match(pattern, shape) and self.at + places[1] < self.end:
                self.at += places[1] + (2 if pattern.endswith("}") else 1)
                return sp.Rational(int(rest[places[0]].text), int(rest[places[1]].text))
        if shape.startswith("fracd") and len(rest[1].text) == 2:
            self.at += 2
            return sp.Rational(int(rest[1].text[0]), int(rest[1].text[1]))
        return sp.Integer(0)

    def symbol(self, name: str) -> sp.Expr:
        if self.peek() == "_":
            self.at += 1
            end = self.match.get(self.at, self.at) + 1
            name += "_" + join(self.tokens[self.at:end]).strip("{}")
            self.at = end
        while self.take("'"):
            name += "'"
        if name in ("f", "g", "f'", "g'") and self.peek() == "(" and self.at in self.match:
            return sp.Function(name)(self.group())
        return {"e": sp.E, "i": IMAGINARY}.get(name, sp.Symbol(name))

    def bars(self) -> sp.Expr:
        close = next((at for at in range(self.at, self.end) if self.tokens[at] == Token("op", "|")), None)
        if close is None:
            raise Unreadable("one bar")
        outer, self.end = self.end, close
        expr = self.sum()
        if self.at != close:
            raise Unreadable("more than one expression between bars")
        self.at, self.end = close + 1, outer
        return sp.Abs(expr)

    def function(self, name: str) -> sp.Expr:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name == "frac":
            numerator = self.argument()
            return numerator * self.reciprocal(self.argument())
        if name == "binom":
            return binomial(self.argument(), self.argument())
        if name == "sqrt":
            index = self.group() if self.peek() == "[" else sp.Integer(2)
            inner = self.nested(self.atom)
            if index.is_Integer and index % 2 and inner.is_Rational and inner < 0:
                return -power(-inner, 1 / index)
            return power(inner, 1 / index)
        exponent, base, mark = None, None, self.at
        while self.peek() in ("^", "_"):
            if self.take("_"):
                base = join(self.tokens[self.at:self.match.get(self.at, self.at) + 1]) if name in BIG else None
                if name in BIG:
                    self.at = self.match.get(self.at, self.at) + 1
                else:
                    base = self.argument()
            elif self.take("^"):
                exponent = self.nested(self.power) if name not in BIG else None
                if name in BIG:
                    self.at = self.match.get(self.at, self.at) + 1
        if name in BIG:
            head = name + join(self.tokens[mark:self.at])
            return sp.Function(head)(self.nested(self.term))
        if self.peek() in ("(", "{", "[", "|") and self.at in self.match or self.peek() == "|":
            inner = self.nested(self.atom)
        else:
            inner = self.nested(self.bare_argument)
        value = FUNCTIONS[name](inner.xreplace({DEGREE: sp.pi / 180}))
        if base is not None:
            value = value / FUNCTIONS[name](base)
        if exponent == -1 and name in ("sin", "cos", "tan"):
            return FUNCTIONS["arc" + name](inner)
        return value if exponent is None else power(value, exponent)

    def bare_argument(self) -> sp.Expr:
        """The argument of sin x, ln 2x: signed factors side by side, up to an operator or the next function."""
        factors = [self.signed()]
        while self.at < self.end and self.tokens[self.at].kind in ("num", "sym") or self.peek() in (
                "pi", "frac", "sqrt"):
            factors.append(self.power())
        return sp.Mul(*factors)


def number(text: str) -> sp.Expr:
    mantissa, _, exponent = text.partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 4:
        raise TooLarge("a number of more than MAX_DIGITS digits")
    whole, _, decimals = mantissa.partition(".")
    return sp.Rational(int(whole + decimals), 10 ** len(decimals)) * sp.Integer(10) ** int(exponent or 0)


def power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """base ** exponent, once it is known to be small."""
    if base.is_zero and exponent.is_negative:
        raise Unreadable("a division by zero")
    if base.is_Rational and exponent.is_Rational and base not in (0, 1, -1):
        bits = max(base.p.bit_length(), base.q.bit_length()) * abs(exponent)
        if bits > MAX_BITS or exponent.q.bit_length() > 64:
            raise TooLarge("a power of more than MAX_BITS bits")
    return sp.Pow(base, exponent)


def factorial(expr: sp.Expr) -> sp.Expr:
    if expr.is_Integer and expr > MAX_FACTORIAL:
        raise TooLarge("a factorial above MAX_FACTORIAL")
    return sp.factorial(expr)


def binomial(n: sp.Expr, k: sp.Expr) -> sp.Expr:
    if n.is_Integer and n > MAX_FACTORIAL:
        raise TooLarge("a binomial above MAX_FACTORIAL")
    return sp.binomial(n, k)


def unit_of(tokens: list[Token]) -> str:
    """The canonical unit of the tokens after a value. Raises Unreadable where they say more than a unit."""
    words = []
    for kind, text in tokens:
        if kind == "op" and text == "¤":
            words.append("dollar")
        elif kind in ("word", "sym") and text.lower() not in TURNING and len(words) < 8:
            words.append(UNITS.get(text, UNITS.get(text.lower(), text.lower())))
        elif not (words and (kind == "num" and text in "23" or kind == "op" and text in "^/{}.()")):
            raise Unreadable("more than a unit after a value")
    return {"percent": "%", "dollar": "dollar"}.get(words[0], " ".join(words)) if words else ""


def expand(items: list[Value]) -> list[Value]:
    """Writes out a \\pm b, and a, ..., b over integers; whatever else has ... in it stays."""
    out = []
    for at, item in enumerate(items):
        if item.kind == "number" and item.source == "…" and 0 < at < len(items) - 1:
            first, last = out[-1].expr, items[at + 1].expr
            if first is not None and last is not None and first.is_Integer and last.is_Integer:
                step = first - out[-2].expr if len(out) > 1 and out[-2].kind == "number" else sp.Integer(1)
                if step == 0 or not step.is_Integer or (last - first) % step or (last - first) / step < 0:
                    step = sp.Integer(1 if last > first else -1)
                if abs((last - first) / step) > 2_000:
                    raise TooLarge("a range of more than 2,000 numbers")
                out += [Value("number", str(n), expr=sp.Integer(n))
                        for n in range(int(first + step), int(last), int(step))]
                continue
        if item.kind == "number" and item.expr.has(PM):
            out += [Value("number", f"{item.source}{sign}", expr=item.expr.xreplace({PM: sp.Integer(sign)}),
                          unit=item.unit) for sign in (1, -1)]
        else:
            out.append(item)
    return out


# --- 5. equivalence ----------------------------------------------------------------------------------
# Each comparison returns the name of the step that found the two equal, or "".

def compare(reference: str, answer: str) -> tuple[str, Value, Value]:
    """(step or "", reference as read, answer as read). Raises TooLarge."""
    for text in (reference, answer):
        if normalise(text).strip("\"'*:,. ").lower() in NO_ANSWER:
            value = Value("text", text)
            return "", value, value
    for thousands in (True, False):
        left, right = read(reference, thousands), read(answer, thousands)
        step = same(left, right)
        if step or not any(THOUSANDS.search(text) for text in (reference, answer)):
            break
    return step, left, right


def same(a: Value, b: Value) -> str:
    """The ladder, cheapest first: text, numbers, structure, sets, and inside numbers the numeric identity."""
    if a.source == b.source:
        return "same text"
    if a.kind == b.kind == "text":
        plain = [re.sub(r"^(?:the|a|an) |[\"'*.:]|\s", "", value.source.lower()) for value in (a, b)]
        return "same words" if plain[0] == plain[1] else ""
    if a.kind == b.kind == "number":
        return same_quantity(a, b)
    if a.kind == b.kind == "matrix":
        return pairwise(a, b, "same matrix") if a.width == b.width else ""
    for left, right in ((a, b), (b, a)):
        step = same_matrix_and_tuple(left, right) if left.kind == "matrix" else ""
        if not step and left.kind == "relation":
            step = same_relation(left, right)
        if step:
            return step
    sets = [real_set(value) for value in (a, b)]
    if all(sets) and not (a.kind == b.kind == "group" and a.open == b.open):
        return same_set(*sets)
    if "group" in (a.kind, b.kind) and "text" not in (a.kind, b.kind):
        return same_group(a, b)
    return ""


def pairwise(a: Value, b: Value, step: str) -> str:
    return step if len(a.parts) == len(b.parts) and all(map(same, a.parts, b.parts)) else ""


def same_matrix_and_tuple(matrix: Value, other: Value) -> str:
    if other.kind == "group" and other.open == "(" and (matrix.width in (1, len(matrix.parts))):
        return pairwise(matrix, other, "same vector")
    return ""


def same_group(a: Value, b: Value) -> str:
    """Tuples in order, lists and sets in any order; x = 1, y = 2 is a tuple with names."""
    if a.kind == b.kind == "group" and {a.open, b.open} & {"(", "["}:
        if (a.open + a.close).strip("{}") and (b.open + b.close).strip("{}"):
            return pairwise(a, b, "same tuple") if (a.open, a.close) == (b.open, b.close) else ""
        if {a.open + a.close, b.open + b.close} != {"", "()"}:
            return ""
    left, right = flatten(a), flatten(b)
    names = [[name for name, _ in items] for items in (left, right)]
    ordered = "(" in (a.open, b.open) or any(
        None not in own and len({name[0] for name in own}) == len(own) > 1 and len(own[0]) < 8 and set(other) == {None}
        for own, other in (names, names[::-1]))
    if ordered:
        return "same named values" if len(left) == len(right) and all(
            same(x, y) for (_, x), (_, y) in zip(left, right, strict=True)) else ""
    return same_items(left, right)


def flatten(value: Value, name: str | None = None) -> list[tuple[str | None, Value]]:
    """(name or None, value) of a list's items; in `a = 4, -8` the name holds for the first alone."""
    if value.kind == "group" and value.open in ("", "{"):
        return [pair for part in value.parts for pair in flatten(part, name)]
    label, rest = named(value)
    if label is not None:
        return flatten(rest, label)
    if value.kind == "number" and value.expr.has(PM):
        return [(name, item) for item in expand([value])]
    return [(name, value)]


def same_items(left: list, right: list) -> str:
    """Equal as multisets; or as sets, where one side has no item twice (004, 004 against 004)."""
    if max(len(left), len(right)) > 4 * min(len(left), len(right)) + 4:
        return ""
    key = lambda pair: pair[1].expr if pair[1].kind == "number" and pair[1].expr.is_Rational and not pair[1].unit else None  # noqa: E731,E501
    counts = [Counter(key(pair) for pair in side) for side in (left, right)]
    if None not in counts[0] and None not in counts[1]:
        equal = counts[0] == counts[1] or (counts[0].keys() == counts[1].keys() and 1 in (
            max(counts[0].values()), max(counts[1].values())))
        named_alike = not any(name for name, _ in left) or not any(name for name, _ in right)
        if not equal or named_alike:
            return "same items" if equal else ""
    if len(left) * len(right) > 40_000:
        raise TooLarge("lists of more than 200 items that are not rational numbers")
    match = functools.cache(lambda i, j: bool(
        (not left[i][0] or not right[j][0] or left[i][0].partition("_")[0] == right[j][0].partition("_")[0])
        and (left[i][1].source == right[j][1].source or same(left[i][1], right[j][1]))))
    unused, missing = set(range(len(right))), []
    for i in range(len(left)):
        found = next((j for j in sorted(unused) if match(i, j)), None)
        unused.discard(found)
        missing += [i] if found is None else []
    if not missing and not unused:
        return "same items"
    if missing and unused or len(missing) + len(unused) > 50:
        return ""
    again = all(any(match(i, j) for j in range(len(right))) for i in missing) and all(
        any(match(i, j) for i in range(len(left))) for j in unused)
    short = left if len(left) < len(right) else right
    distinct = not any(same(x[1], y[1]) for x, y in itertools.combinations(short, 2))
    return "same set of items" if again and distinct else ""


def named(value: Value) -> tuple[str | None, Value]:
    """(name, value) of x = 5, f(x) = 2x, (x, y) = (1, 2), x = y = 5; (None, value) otherwise."""
    if value.kind != "relation" or set(value.ops) - {"=", "∈"} or not value.parts[:-1]:
        return None, value
    head = value.parts[0]
    *names, last = value.parts
    if not is_name(head) and len(value.parts) == 2 and is_name(last):   # 5 = x
        head, names, last = last, [last], head
    if all(map(is_name, names)) and not (last.kind == "number" and head.kind == "number"
                                         and last.expr == head.expr):
        return head.source, last
    return None, value


def is_name(value: Value) -> bool:
    if value.kind == "group" and value.open == "(":
        return all(map(is_name, value.parts))
    if value.kind == "number" and not value.unit:
        expr = value.expr
        return (expr.is_Symbol and expr != IMAGINARY) or isinstance(expr, sp.core.function.AppliedUndef) or (
            "_" in value.source and expr.is_Mul and all(part.is_Symbol or part.is_Pow and part.base.is_Symbol
                                                        for part in expr.args))
    return value.kind == "text" and len(value.source) < 40


def same_relation(relation: Value, other: Value) -> str:
    if relation.kind == other.kind:
        return same_relations(relation, other)
    if set(relation.ops) - {"=", "∈"}:
        return ""
    name, value = named(relation)
    if name is not None:
        return same(value, other)
    if "∈" in relation.ops or any(part.kind != "number" for part in relation.parts):
        return ""
    exprs = [part.expr for part in relation.parts]
    if not any(expr.free_symbols - {IMAGINARY} for expr in exprs):      # 1/2 = 0.5: a true statement
        true = all(identical(x, y) for x, y in itertools.pairwise(exprs))
        return same(relation.parts[-1], other) if true else ""
    if len(exprs) == 2 and other.kind == "number" and not other.unit:   # xy = 6 against 6/x
        gap = exprs[0] - exprs[1]
        unknown = gap.free_symbols - other.expr.free_symbols
        if len(unknown) == 1 and other.expr.free_symbols:
            (letter,) = unknown
            slope = sp.diff(gap, letter)
            if letter not in slope.free_symbols and gap.count(letter) and identical(
                    gap.xreplace({letter: other.expr}), sp.S.Zero):
                return "solved for " + letter.name
    return ""


def same_relations(a: Value, b: Value) -> str:
    """Equations up to a factor and the sides' order, definitions with the bound name changed, inequalities."""
    (name_a, value_a), (name_b, value_b) = named(a), named(b)
    if name_a and name_b:
        if name_a == name_b:
            step = same(value_a, value_b)
            if step:
                return step
        call_a, call_b = (re.fullmatch(r"(\w+)\((\w)\)", name) for name in (name_a, name_b))
        if call_a and call_b and call_a[1] == call_b[1] and value_a.kind == value_b.kind == "number":
            swap = {sp.Symbol(call_a[2]): sp.Symbol(call_b[2])}
            return "bound name changed" if identical(value_a.expr.xreplace(swap), value_b.expr) else ""
    if a.ops == b.ops == ("=",) and all(part.kind == "number" for part in a.parts + b.parts):
        gap_a, gap_b = (value.parts[0].expr - value.parts[1].expr for value in (a, b))
        return "same equation" if proportional(gap_a, gap_b) else ""
    flip = str.maketrans("<>≤≥", "><≥≤")
    if a.ops == b.ops and pairwise(a, b, "yes") or pairwise(
            a, Value("relation", "", parts=b.parts[::-1]), "yes") and a.ops == tuple(
                op.translate(flip) for op in b.ops[::-1]):
        return "same relation"
    sets = [real_set(value) for value in (a, b)]
    return same_set(*sets) if all(sets) else ""


def proportional(a: sp.Expr, b: sp.Expr) -> bool:
    """Is a = c b for a constant c other than 0: the same equation?"""
    if a.is_zero or b.is_zero or a.free_symbols != b.free_symbols:
        return False
    values = [sample(expr, 0, expr.free_symbols) for expr in (a, b)]
    if None in values or not all(abs(value) > 1e-30 for value in values):
        return False
    ratio = values[0] / values[1]
    return agree(lambda point, names: (sample(a, point, names), _times(sample(b, point, names), ratio)),
                 a.free_symbols | b.free_symbols)


def _times(value, ratio):
    return None if value is None else value * ratio


# Sets of real numbers: sorted, disjoint pieces ((value, expr), open?, (value, expr), open?).

class RealSet(NamedTuple):
    name: str | None      # the variable of the inequality it came from
    pieces: tuple


def real_set(value: Value, inner: bool = False) -> RealSet | None:
    """Intervals, unions, inequalities, x ≠ 2 and {1, 2} as a set of reals; None where it is none."""
    try:
        return RealSet(*pieces_of(value, inner))
    except (Unreadable, TypeError, ValueError):
        return None


def end(expr: sp.Expr):
    if expr in (sp.oo, -sp.oo):
        return (MP.inf if expr == sp.oo else -MP.inf, expr)
    if expr.free_symbols or (size := sample(expr, 0, ())) is None or MP.im(size):
        raise Unreadable("an end that is not a real number")
    return (size, expr)


LOW, HIGH = (-mpmath.inf, -sp.oo), (mpmath.inf, sp.oo)


def pieces_of(value: Value, inner: bool) -> tuple[str | None, tuple]:
    if value.kind == "group" and value.open in ("(", "[") and len(value.parts) == 2 and all(
            part.kind == "number" and not part.unit for part in value.parts):
        low, high = (end(part.expr) for part in value.parts)
        if not low[0] < high[0]:
            raise Unreadable("an empty interval")
        return None, ((low, value.open == "(", high, value.close == ")"),)
    if value.kind == "number" and value.expr == CONSTANTS["R"]:
        return None, ((LOW, True, HIGH, True),)
    if value.kind == "group" and value.open == "{" or inner and value.kind == "number":
        points = value.parts or (value,)
        ends = [end(part.expr) for part in points if part.kind == "number" and not part.unit]
        if len(ends) < len(points) or not inner:
            raise Unreadable("not a set of numbers")
        return None, union([(point, False, point, False) for point in ends])
    if value.kind == "sets":
        name, pieces = pieces_of(value.parts[0], True)
        for op, part in zip(value.ops, value.parts[1:], strict=True):
            more = pieces_of(part, True)[1]
            if op == "∪":
                pieces = union([*pieces, *more])
            else:
                other = more if op == "∖" else complement(more)
                pieces = complement(union([*complement(pieces), *other]))
        return name, pieces
    if value.kind == "group" and value.open == "" and all(part.kind == "relation" for part in value.parts):
        sets = [pieces_of(part, True) for part in value.parts]
        if len({name for name, _ in sets}) > 1:
            raise Unreadable("inequalities of more than one variable")
        if "and" in value.ops:
            return sets[0][0], complement(union([p for _, pieces in sets for p in complement(pieces)]))
        return sets[0][0], union([piece for _, pieces in sets for piece in pieces])
    if value.kind == "relation":
        return inequality(value, inner)
    raise Unreadable("not a set of reals")


def inequality(value: Value, inner: bool) -> tuple[str | None, tuple]:
    ops, parts = value.ops, value.parts
    if ops == ("∈",) and is_name(parts[0]):
        return parts[0].source, pieces_of(parts[1], True)[1]
    names = [at for at, part in enumerate(parts) if is_name(part)]
    if len(names) != 1 or len(ops) > 2 or any(part.kind != "number" or part.unit for at, part in enumerate(parts)
                                              if at not in names):
        raise Unreadable("not a simple inequality")
    at = names[0]
    if ops == ("=",) and inner or ops == ("≠",):
        point = end(parts[1 - at].expr)
        single = ((point, False, point, False),)
        return parts[at].source, single if ops == ("=",) else complement(single)
    if len(ops) == 2 and at != 1 or set(ops) - set("<>≤≥"):
        raise Unreadable("not a chain around one variable")
    low, high = (LOW, True), (HIGH, True)
    for side, op in enumerate(ops):
        left = side == at - 1                                   # the number stands left of the variable
        other = parts[side] if left else parts[side + 1]
        bound = (end(other.expr), op in "<>")
        if (op in "<≤") == left:
            low = bound
        else:
            high = bound
    if not low[0][0] < high[0][0]:
        raise Unreadable("an empty range")
    return parts[at].source, ((*low, *high),)


def union(pieces: list) -> tuple:
    """Sorted, with overlapping and touching pieces merged."""
    out = []
    for low, low_open, high, high_open in sorted(pieces, key=lambda piece: (piece[0][0], piece[1])):
        if out and (low[0] < out[-1][2][0] or low[0] == out[-1][2][0] and not (low_open and out[-1][3])):
            last = out[-1]
            if (high[0], not high_open) > (last[2][0], not last[3]):
                out[-1] = (*last[:2], high, high_open)
        else:
            out.append((low, low_open, high, high_open))
    return tuple(out)


def complement(pieces: tuple) -> tuple:
    edges = [(LOW, True), *((edge, is_open) for low, lo, high, ho in pieces for edge, is_open in (
        (low, not lo), (high, not ho))), (HIGH, True)]
    gaps = [(*edges[i], *edges[i + 1]) for i in range(0, len(edges), 2)]
    return tuple(gap for gap in gaps if gap[0][0] < gap[2][0] or not gap[1] and not gap[3])


def same_set(a: RealSet, b: RealSet) -> str:
    if a.name and b.name and a.name != b.name or len(a.pieces) != len(b.pieces):
        return ""
    return "same set of reals" if all(p[1] == q[1] and p[3] == q[3] and identical(p[0][1], q[0][1]) and identical(
        p[2][1], q[2][1]) for p, q in zip(a.pieces, b.pieces, strict=True)) else ""


# --- 6. numbers --------------------------------------------------------------------------------------

def same_quantity(a: Value, b: Value) -> str:
    """Two numbers with their units: percent and degrees may be left out or worked out, other units left out."""
    if a.unit != b.unit and a.unit and b.unit:
        if {"%", "degree"} & {a.unit, b.unit} or not set(a.unit.split()) & set(b.unit.split()):
            return ""
    step = same_number(a, b)
    if not step and a.unit != b.unit:
        scaled = a if a.unit in ("%", "degree") and not b.unit else b
        plain = b if scaled is a else a
        if scaled.unit in ("%", "degree") and not plain.unit:
            factor = sp.Rational(1, 100) if scaled.unit == "%" else sp.pi / 180
            step = "same after " + scaled.unit if identical(scaled.expr * factor, plain.expr) else ""
    return step


def same_number(a: Value, b: Value) -> str:
    x, y = a.expr, b.expr
    if x.is_Rational and y.is_Rational:
        return "same rational" if x == y else rounded(a, b)
    if x.has(IMAGINARY) != y.has(IMAGINARY):
        return ""
    if identical(x, y):
        return "identical" if x == y else "numeric identity"
    period = renamed_period(x, y)
    if period is not None:
        return "bound integer renamed" if identical(period, y) else ""
    return rounded(a, b)


def rounded(a: Value, b: Value) -> str:
    """A decimal stands for an exact number that rounds to it: two places and three digits for a fraction, six
    significant digits for any number. Two decimals are equal only if they are the same number."""
    for decimal, exact in ((a, b), (b, a)):
        if decimal.places and exact.places is None and decimal.expr.is_Rational and not exact.expr.free_symbols:
            digits = len(str(abs(decimal.expr.p) * 10**decimal.places // decimal.expr.q)) if decimal.places < 50 else 50
            enough = digits >= 6 or decimal.places == 2 and digits >= 3 and exact.expr.is_Rational
            size = sample(exact.expr, 0, ()) if enough else None
            if size is not None and abs(size - MP.mpf(decimal.expr.p) / decimal.expr.q) <= MP.mpf(
                    "0.5") * MP.mpf(10) ** -decimal.places:
                return "rounded"
    return ""


def renamed_period(x: sp.Expr, y: sp.Expr) -> sp.Expr | None:
    """x with its whole-number parameter called as in y: pi/6 + k pi is pi/6 + n pi for every integer."""
    letters = [expr.free_symbols for expr in (x, y)]
    if len(letters[0]) == len(letters[1]) == 1 and letters[0] != letters[1]:
        (k,), (n,) = letters
        slope = sp.diff(x, k)
        if {k.name, n.name} <= set("klmnt") and (slope / sp.pi).is_Rational:
            return x.xreplace({k: n})
    return None


MP = mpmath.mp.clone()   # own precision, so that no other user of mpmath is disturbed
MP.dps = 60
TOLERANCE = MP.mpf(10) ** -40
NUMERIC = {sp.sin: MP.sin, sp.cos: MP.cos, sp.tan: MP.tan, sp.cot: MP.cot, sp.sec: MP.sec, sp.csc: MP.csc,
           sp.asin: MP.asin, sp.acos: MP.acos, sp.atan: MP.atan, sp.acot: MP.acot, sp.sinh: MP.sinh,
           sp.cosh: MP.cosh, sp.tanh: MP.tanh, sp.log: MP.log, sp.Abs: abs, sp.floor: MP.floor,
           sp.ceiling: MP.ceil, sp.factorial: MP.factorial, sp.binomial: MP.binomial}
EXACT = {sp.pi: MP.pi, sp.E: MP.e, IMAGINARY: MP.j, sp.I: MP.j}


def identical(x: sp.Expr, y: sp.Expr) -> bool:
    """Equal as expressions, or to 40 digits at every tried point: up to eight, drawn anew for each set of names."""
    if x == y:
        return True
    if x.is_Rational and y.is_Rational or x.has(sp.oo) or y.has(sp.oo):
        return False
    names = (x.free_symbols | y.free_symbols) - {IMAGINARY}
    return agree(lambda point, names: (sample(x, point, names), sample(y, point, names)), names)


def agree(pair, names) -> bool:
    """Do the two values of pair(point, names) agree at the sample points? Real values decide where there are any."""
    agreed = 0
    for point in range(8 if names else 1):
        x, y = pair(point, names)
        if x is None or y is None:
            continue
        if abs(x - y) > TOLERANCE * max(abs(x), abs(y)) and max(abs(x), abs(y)) > MP.mpf(10) ** -50:
            if MP.im(x) == 0 == MP.im(y) or point in (0, 1) or not names:
                return False
            continue
        agreed += 1
    return agreed >= (3 if names else 1)


def sample(expr: sp.Expr, point: int, names) -> object | None:
    """expr at sample point 0 ... 7 (four in (0, 1), two in (1, 3), two below 0), 60 digits; None if undefined."""
    low, high = ((0, 1), (1, 3), (-2, 0))[(0, 0, 0, 0, 1, 1, 2, 2)[point]]
    values = {name: low + (high - low) * _fraction(f"{point} {name.name}") for name in names}
    try:
        value = evaluate(expr, {**EXACT, **values})
    except (ZeroDivisionError, ValueError, OverflowError, TypeError):
        return None
    return value if MP.isfinite(value) else None


def _fraction(text: str):
    """A number in (0, 1) that depends on the text alone, the same in every process."""
    bits = "".join(f"{zlib.crc32(f'{part} {text}'.encode()):08x}" for part in range(6))
    return (MP.mpf(int(bits, 16)) + 1) / (MP.mpf(16) ** len(bits) + 2)


def evaluate(expr: sp.Expr, values: dict):
    """expr in 60-digit arithmetic; the only arithmetic done on expressions that are not rational."""
    if expr.is_Rational:
        return MP.mpf(expr.p) / expr.q
    if expr in values:
        return values[expr]
    args = [evaluate(arg, values) for arg in expr.args]
    if expr.is_Add:
        return MP.fsum(args)
    if expr.is_Mul:
        return MP.fprod(args)
    if expr.is_Pow or isinstance(expr, sp.exp):
        base, exponent = args if len(args) == 2 else (MP.e, args[0])
        if base and abs(exponent) * (abs(MP.mag(base)) + 1) > MAX_BITS:
            raise TooLarge("a power of more than MAX_BITS bits")
        return MP.power(base, exponent)
    if expr.func in NUMERIC:
        if expr.func in (sp.factorial, sp.binomial) and max(map(abs, args)) > MAX_BITS:
            raise TooLarge("a factorial above MAX_BITS")
        return NUMERIC[expr.func](*args)
    if isinstance(expr, sp.core.function.AppliedUndef):   # f(2), a sum kept as it is: a value of its own
        return _fraction(f"{expr.func} " + " ".join(MP.nstr(arg, 30) for arg in args))
    raise ValueError(f"no numeric form of {expr.func}")


def is_equivalent(reference: str, answer: str) -> bool:
    """Are two bare answers the same? Symmetric; False also where a limit is met or one cannot be read.

    Exact for text, rationals and structure. Irrational numbers and expressions with variables count as equal
    when they agree to 40 digits at up to eight points; decimals by the rule in `rounded`.
    """
    return judge(reference, answer)[0].correct


def judge(reference: str, answer: str) -> tuple[Verdict, str, Value | None, Value | None]:
    """The verdict on a bare answer, the step that decided, and how both were read."""
    try:
        step, left, right = compare(reference, answer)
    except (TooLarge, RecursionError, MemoryError) as error:
        with contextlib.suppress(TooLarge, RecursionError, MemoryError):
            if squeeze(reference) == squeeze(answer):
                return Verdict(True, answer, "correct"), "same text", None, None
        return Verdict(False, answer, "too_large"), str(error), None, None
    if step:
        return Verdict(True, answer, "correct"), step, left, right
    unparsed = right.kind == "text" != left.kind
    return Verdict(False, answer, "unparsed" if unparsed else "wrong"), "no step found them equal", left, right


def squeeze(text: str) -> str:
    return re.sub(r"\s", "", text)


def verify(response: str, reference: str) -> Verdict:
    """Is the response's final answer the reference's? (Eq. 2.) In this process: bounded work, but no time-out.

    reason: correct, wrong, no_answer (nothing to extract), unparsed (the answer is no maths, the reference is),
    too_large (a limit of this file was met); verify_all adds timeout.
    """
    answer = extract_answer(response)
    return judge(reference, answer)[0] if answer is not None else Verdict(False, None, "no_answer")


# --- 7. the pool: killed when it hangs ---------------------------------------------------------------
# Workers are plain subprocesses of this file (they import it and sympy, never the user's script, never torch)
# that speak JSON lines. No signal handler is installed in the caller, so any thread may call verify_all.

class Worker:
    """One subprocess, the rows it was sent and not yet answered, and the time by which the next is due."""

    def __init__(self, timeout: float):
        command = [sys.executable, "-P", os.path.abspath(__file__), "--worker", str(timeout)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        self.timeout, self.ready, self.rows, self.buffer = timeout, False, deque(), b""
        self.due = time.monotonic() + 60                        # to import sympy on a busy machine

    def send(self, rows: list[tuple[int, str, str]]) -> None:
        self.rows.extend(rows)
        self.due = time.monotonic() + self.timeout
        with contextlib.suppress(BrokenPipeError):              # a dead worker is found when it is read
            self.process.stdin.write((json.dumps([row[1:] for row in rows]) + "\n").encode())
            self.process.stdin.flush()

    def receive(self) -> list[tuple[int, Verdict]] | None:
        """The answers that have arrived; None once the worker is dead."""
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        done = []
        for line in lines:
            if self.ready:
                done.append((self.rows.popleft()[0], Verdict(*json.loads(line))))
            self.ready = True
        self.due = time.monotonic() + self.timeout
        return done if data else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


_pool: list[Worker] = []
_pool_owner = 0
_pool_lock = threading.Lock()


@atexit.register
def _close_pool() -> None:
    while _pool and _pool_owner == os.getpid():
        _pool.pop().kill()


def verify_all(responses: list[str], references: list[str], timeout: float = 5.0, workers: int = 2) -> list[Verdict]:
    """`verify` on every row, in order, on `workers` processes that stay alive between calls.

    A row that takes longer than `timeout` seconds has its worker killed and replaced; its verdict is `timeout`,
    and no other row is touched. A worker that dies (out of memory) gives `too_large` to the row it had.
    workers=0 runs in this process without a time-out. May be called from any thread; calls take turns.
    Raises ValueError when the two lists differ in length.
    """
    global _pool_owner
    if len(responses) != len(references):
        raise ValueError(f"{len(responses)} responses but {len(references)} references: give one for each")
    if workers == 0:
        return list(map(verify, responses, references))
    todo = deque((row, *pair) for row, pair in enumerate(zip(responses, references, strict=True)))
    verdicts: list[Verdict | None] = [None] * len(todo)
    chunk = max(1, min(32, len(todo) // (4 * workers)))
    with _pool_lock:
        if _pool_owner != os.getpid():                          # after a fork the parent's workers are not ours
            _pool.clear()
            _pool_owner = os.getpid()
        while _pool and (len(_pool) > workers or _pool[-1].timeout != timeout):
            _pool.pop().kill()
        while len(_pool) < min(workers, len(todo)):
            _pool.append(Worker(timeout))
        try:
            _work_off(todo, verdicts, chunk)
        except BaseException:                                   # an interrupt leaves no half-answered worker behind
            _close_pool()
            raise
    return verdicts


def _work_off(todo: deque, verdicts: list, chunk: int) -> None:
    with selectors.DefaultSelector() as selector:
        for at, worker in enumerate(_pool):
            selector.register(worker.process.stdout, selectors.EVENT_READ, at)
        while todo or any(worker.rows for worker in _pool):
            for worker in _pool:
                if worker.ready and not worker.rows and todo:
                    worker.send([todo.popleft() for _ in range(min(chunk, len(todo)))])
            due = min(worker.due for worker in _pool if worker.rows or not worker.ready)
            events = selector.select(max(0.0, due - time.monotonic()))
            dead = {}
            for key, _ in events:
                answers = _pool[key.data].receive()
                for row, verdict in answers or ():
                    verdicts[row] = verdict
                if answers is None:
                    dead[key.data] = "too_large"
            for at, worker in enumerate(_pool):
                if (worker.rows or not worker.ready) and worker.due < time.monotonic():
                    dead.setdefault(at, "timeout")
            for at, reason in dead.items():
                worker = _pool[at]
                if not worker.ready and time.monotonic() > worker.due - 50 and reason == "too_large":
                    raise RuntimeError(f"verifier worker died at start-up: run {sys.executable} {__file__} --worker 5")
                selector.unregister(worker.process.stdout)
                worker.kill()
                if worker.rows:
                    verdicts[worker.rows.popleft()[0]] = Verdict(False, None, reason)
                todo.extendleft(reversed(worker.rows))
                _pool[at] = Worker(worker.timeout)
                selector.register(_pool[at].process.stdout, selectors.EVENT_READ, at)


def worker_main(timeout: float) -> None:
    """Answers JSON lines of [response, reference] pairs until its input ends.

    The alarm has no handler: the kernel ends a worker that hangs, also in C code, also when its parent is gone.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY,) * 2)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    out.write("ready\n")
    for line in sys.stdin:
        for response, reference in json.loads(line):
            signal.setitimer(signal.ITIMER_REAL, timeout + 0.5)
            out.write(json.dumps(verify(response, reference)) + "\n")
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- 8. the command line -----------------------------------------------------------------------------

def table(rows: list[dict], verdicts: list[Verdict]) -> str:
    """The columns of the paper's Table 1, by source, in percent."""
    lines = [f"{'source':24} {'rows':>6} {'recall':>7} {'precision':>9} {'FPR':>6} {'accuracy':>8}"]
    groups: dict[str, Counter] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        for group in ("all", str(row.get("source", "-"))):
            groups.setdefault(group, Counter())[bool(row["label"]), verdict.correct] += 1
    for group, count in sorted(groups.items(), key=lambda item: (item[0] == "all", item[0])):
        tp, fn, fp, tn = (count[key] for key in ((True, True), (True, False), (False, True), (False, False)))
        shares = [f"{100 * part / whole:.1f}" if whole else "-" for part, whole in (
            (tp, tp + fn), (tp, tp + fp), (fp, fp + tn), (tp + tn, sum(count.values())))]
        lines.append(f"{group:24} {sum(count.values()):6} {shares[0]:>7} {shares[1]:>9} {shares[2]:>6} {shares[3]:>8}")
    reasons = Counter(verdict.reason for verdict in verdicts)
    return "\n".join([*lines, "reasons: " + ", ".join(f"{name} {reasons[name]}" for name in REASONS)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Check answers against references.")
    parser.add_argument("pairs", nargs="?", help="JSON lines with gold, response, label, and source if there is one")
    parser.add_argument("--errors", action="store_true", help="list the rows it got wrong")
    parser.add_argument("--reference", help="one reference answer, with --response")
    parser.add_argument("--response", help="one response; explains the verdict")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for one row")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0 for none")
    parser.add_argument("--worker", type=float, metavar="TIMEOUT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker_main(args.worker)
    elif args.response is not None and args.reference is not None:
        answer = extract_answer(args.response)
        print(f"extracted: {answer!r}")
        if answer is None:
            print("verdict:   no_answer")
            return
        verdict, step, reference, read_as = judge(args.reference, answer)
        print(f"reference: {reference}\nanswer:    {read_as}\nstep:      {step}\nverdict:   {verdict.reason}")
    elif args.pairs:
        with open(args.pairs, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        verdicts = verify_all([row["response"] for row in rows], [row["gold"] for row in rows],
                              args.timeout, args.workers)
        print(table(rows, verdicts))
        for row, verdict in zip(rows, verdicts, strict=True):
            if args.errors and verdict.correct != bool(row["label"]):
                print(f"{row.get('id', '-')}: label {bool(row['label'])}, {verdict.reason}; reference "
                      f"{row['gold']!r}, answer {verdict.answer!r}")
    else:
        parser.error("give pairs.jsonl, or --reference and --response")


if __name__ == "__main__":
    main()

"""Does a response give the reference's answer? The 0/1 of HERO (Eq. 2), the grader of every benchmark.

    extract_answer(response)             the final answer: the last \\boxed{}, or a cautious reading
    is_equivalent(reference, answer)     symmetric; both are read by the grammar below and compared
    verify(response, reference)          both steps and a reason; in this process, without a time-out
    verify_all(responses, references)    many rows, on worker processes that die when they hang

    python verify.py pairs.jsonl --errors                    recall, precision, false-positive rate
    python verify.py --reference '(1,2]' --response '\\boxed{1 < x \\le 2}'    explains one verdict

The model's text is data. It is never evaluated and never names an attribute: rewriting rules, a
tokenizer and a precedence parser turn what this file's tables know into sympy objects; the rest
stays text.
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
import signal
import subprocess
import sys
import threading
import unicodedata
import zlib
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mpmath
import sympy as sp
from sympy.core.function import AppliedUndef

# Limits, each checked before the work that it bounds.
MAX_CHARS, MAX_TOKENS, MAX_DEPTH = 10_000, 1_000, 40    # of an answer; of one expression; of brackets
MAX_DIGITS, MAX_BITS = 1_000, 200_000                   # of a number as written; of a power
MAX_FACTORIAL, MAX_ITEMS = 5_000, 2_000                 # of n in n!; of a list
MAX_BOXES = 20                                          # different ones: more is a flood of guesses
MAX_MEMORY = 1 << 30                                    # bytes a worker may add to what it starts with

REASONS = ("correct", "wrong", "no_answer", "unparsed", "timeout", "too_large")


class Verdict(NamedTuple):
    correct: bool
    answer: str | None
    reason: str                 # one of REASONS


class TooLarge(Exception):
    """A limit was met: the verdict is `too_large`."""


class Unreadable(Exception):
    """Not in the grammar: the piece stays text."""


# --- 1. extraction -----------------------------------------------------------------------------

BOX, BRACE = re.compile(r"(?<!\\)(?:\\\\)*\\boxed\s*\{"), re.compile(r"\\.|[{}]", re.S)
# What may stand between the boxes of one final statement: marks, connectives, labels (`y_2 =`).
JOINT = re.compile(r"(?:[\s$,;.&~}]|\\[\[\]()\\,;:! ]|\\q?quad|\\(?:text|mbox)\s*\{|\b(?:and|or|for|"
                   r"part|case|also)\b|\([a-z]\)|[A-Za-z](?:_\{?\w+\}?)?\s*=)*")
MARKER = re.compile(r"(?:answer|réponse|respuesta|antwort|答案|结论)s?\W{0,4}?\s*"
                    r"(?:is|are|[:：=为是]|(?=[$\\]))[\s:*]*", re.I)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.S)
SENTENCE = re.compile(r"(?:(?<=[.!?])\s+|[。！？]|\n\s*\n)(?=.*\w)", re.S)
NOISE = re.compile(r"<\|.*?\|>.*|I hope (?:it|this) is correct.*", re.S)
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\(?(?:\\d?frac\{[^{}]+\}\{[^{}]+\}|"
                    r"-?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?\s?%?)\)?")

PROSE = r"[^\W\d_]{3}"


def boxes(text: str) -> list[tuple[int, int, str | None]]:
    """(start, end, content) of each outermost \\boxed{}; the content of one cut off is None."""
    found, at = [], 0
    while match := BOX.search(text, at):
        depth, at = 1, match.end()
        while depth and (brace := BRACE.search(text, at)):
            depth, at = depth + {"{": 1, "}": -1}.get(brace[0], 0), brace.end()
        found.append((match.start(), at, None if depth else text[match.end():at - 1].strip()))
        if depth:
            break
    return found


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None where it gives none.

    The last \\boxed{}; the boxes of one final statement ("\\boxed{1} and \\boxed{2}") make a list.
    An empty box, one that is cut off and a flood of different boxes are no answer. Only a response
    without anything like a box is read as text.
    """
    text = response.rpartition("</think>")[2]
    text = text if "boxed" in text else response
    found = boxes(text)
    if not found:
        return None if re.search(r"f?box(?:ed)?\s*\\?\{|\\f?box", text) else answer_in_text(text)
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
    if len(text) < 2:                           # a lone character is a fragment, not a statement
        return None
    for marker in [*MARKER.finditer(text)][-1:]:
        text = SENTENCE.split(text[marker.end():])[0].strip() or text
        if (formula := FORMULA.match(text)):
            return formula[formula.lastindex].strip()
    if re.match(r"[-\\(\[.0-9]", text) and not re.search(r"\$|" + PROSE, re.sub(r"\\\w+", "", text)):
        return text.rstrip(".")                 # nothing but the answer
    if not re.search(PROSE, text):
        return None
    formulas = [formula for formula in FORMULA.finditer(text) if not re.search(
        PROSE + " ", re.sub(r"\\text\{[^{}]*\}|\\\w+", "", formula[formula.lastindex]))]
    numbers = [*NUMBER.finditer(text, len(text) - len(SENTENCE.split(text)[-1]))]
    if formulas and (not numbers or formulas[-1].end() > numbers[-1].end()):
        return formulas[-1][formulas[-1].lastindex].strip()
    return numbers[-1][0].strip() if numbers else None


# --- 2. normalisation: one spelling, in plain characters where there is one --------------------

FUNCTIONS = {
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc,
    "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan, "sinh": sp.sinh, "cosh": sp.cosh,
    "tanh": sp.tanh, "ln": sp.log, "log": sp.log, "exp": sp.exp, "abs": sp.Abs,
    "lg": lambda x: sp.log(x) / sp.log(10)}
KEPT = ("sum", "prod", "int", "lim", "max", "min", "gcd", "lcm")        # read, but not worked out
SAME = dict(pair.split("→") for pair in r"""
    −→- –→- \cdot→* \times→* ×→* ·→* ⋅→* \ast→* ÷→/ \div→/ **→^ \pi→π \infty→∞ infinity→∞ \le→≤ \leq→≤
    \leqslant→≤ <=→≤ ⩽→≤ \ge→≥ \geq→≥ \geqslant→≥ >=→≥ ⩾→≥ \lt→< \gt→> ==→= \ne→≠ \neq→≠ !=→≠ \in→∈
    \approx→≈ \cup→∪ \cap→∩ \setminus→∖ \backslash→∖ \pm→± \mp→∓ \circ→° \degree→° \textcirc→° \{→{
    \}→} \emptyset→∅ \varnothing→∅ \ldots→… \dots→… \cdots→… ...→… \langle→( \rangle→) \mid→| \vert→|
    \lvert→| \rvert→| \lbrace→{ \rbrace→} \%→% \colon→: \prime→' ’→' ′→' ，→, ；→; ：→: （→( ）→) \$→¤
    €→¤ £→¤ \lfloor→⌊ \rfloor→⌋ \lceil→⌈ \rceil→⌉ √→\sqrt \dfrac→\frac \tfrac→\frac \cfrac→\frac \\→¶
    \dbinom→\binom \tbinom→\binom \land→"and" \lor→"or" \bmod→"mod" \lambda→λ \ell→ℓ \angle→∠ \Delta→Δ
    \varepsilon→ε \vartheta→θ \varphi→φ \Omega→Ω ½→\frac{1}{2} ⅓→\frac{1}{3} ⅔→\frac{2}{3} ¼→\frac{1}{4}
    ¾→\frac{3}{4} ²→^2 ³→^3 ⁴→^4 ⁵→^5 ⁶→^6 ⁷→^7 ⁸→^8 ⁹→^9""".split())
SAME |= {f"\\{name}": unicodedata.lookup(f"GREEK SMALL LETTER {name}") for name in (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi rho sigma tau upsilon phi "
    "chi psi omega").split()}
SAME |= dict.fromkeys([r"\ ", *r"$ ~ \, \; \: \> \! \quad \qquad \left \right \displaystyle".split()], " ")
MACROS = "|".join(sorted((name[1:] for name in [*SAME, *(f"\\{name}" for name in (
    *FUNCTIONS, *KEPT, "frac", "sqrt", "binom", "over", "begin", "end"))]
    if re.fullmatch(r"\\[A-Za-z]+", name)), key=len, reverse=True))
# A known macro, or one that runs into the next word (\cotx); any other; signs of many characters.
PIECE = re.compile(rf"\\(?:{MACROS})(?![A-Za-z])|(\\(?:{MACROS}))|\\[A-Za-z]+|\\.|\*\*|\.\.\.|"
                   r"[!<>=]=|\binfinity\b|.", re.S)
CARDINALS = dict(zip((
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
    "thousand million first third fourth fifth sixth seventh eighth ninth").split(),
    [*range(20), *range(20, 100, 10), 100, 1000, 10**6, 1, *range(3, 10)], strict=True))
NUMBER_WORD = "(?:" + "|".join(sorted(CARDINALS, key=len, reverse=True)) + r")\b"
NUMBER_WORDS = re.compile(rf"(?<![\w\\])(?<![0-9] ){NUMBER_WORD}(?:(?: |-|(?<=hundred) and |"
                          rf"(?<=thousand) and ){NUMBER_WORD})*", re.I)


def number_words(match: re.Match) -> str:
    """"One hundred and five" as 105; unchanged where the words do not make one number."""
    total = part = 0
    for word in re.findall(NUMBER_WORD, match[0].lower()):
        value = CARDINALS[word]
        if value < 100 and (part % 10 or part % 100 == 10 or value > 9 and part % 100):
            return match[0]
        part = max(part, 1) * value if value >= 100 else part + value
        if value > 100:
            total, part = total + part, 0
    return str(total + part)


# One canonical name for each unit of measure: two different ones are two different answers.
UNITS = {alias: names.split()[0] for names in (
    "dollar dollars usd bucks|cent cents|euro euros|pound pounds lb lbs|yuan|yen|degree degrees deg|"
    "percent pct percentage|meter meters metre metres m|kilometer kilometers km|foot feet ft|"
    "centimeter centimeters cm|millimeter millimeters mm|inch inches|mile miles|yard yards|"
    "gram grams g gm|kilogram kilograms kg|ounce ounces oz|ton tons|liter liters|second seconds s|"
    "minute minutes min|hour hours h hr hrs|day days|week weeks|month months|year years|"
    "unit units|square sq|mph").split("|") for alias in names.split()}
# Words that hedge, deny, compare or compute: with one of them, text is no value with a unit.
TURNING = set("""not no is are was and or but except maybe possibly perhaps probably never than less
    more plus minus times half dozen score twice double past short of wrong incorrect if either neither
    all any true false quarter without unless undefined between""".split())
# Letters side by side are a product, xy, but for functions, and for words: these, or four letters.
SHORT = "|".join(["is", "are", "and", "or", "mod", "not", "no", "yes", "odd", "the", "of", "to", "all", "any",
                  "for", "if", "nan", *(unit for unit in UNITS if 1 < len(unit) < 4)])
PLAIN = "(?:" + "|".join([*FUNCTIONS, "sqrt", "binom", "pi"]) + ")"
WORD = re.compile(rf"[A-Za-z]{{2,}}|\b(?:{'|'.join(unit for unit in UNITS if len(unit) == 1)})\b")


def quote(match: re.Match) -> str:
    return f'"{match[0]}"'


WRAPPER = re.compile(r"\\(text(?:bf|it|rm|normal)?|mbox|math(?:rm|bf|it|sf)|operatorname|boldsymbol) ?"
                     r"\{([^{}]*)\}")
RULES = [(re.compile(pattern, re.I), new) for pattern, new in (             # in this order
    (r"\\begin ?\{(?:[pb]?matrix\}|array\} ?\{[lcr| ]*\})", "⟦"), (r"\\end ?\{(?:[pb]?matrix|array)\}", "⟧"),
    (rf"(?<![\\\"A-Za-z])(?:(?-i:(?!{PLAIN})(?=[A-Za-z]*[a-z])[A-Za-z]{{4,}})|{SHORT})(?![A-Za-z\"])", r'"\g<0>"'),
    (r"\^ ?(?:°|\{ ?° ?\})", "°"),
    (r"(?<=[0-9])\^? ?\{? ?\"?(?:st|nd|rd|th)\b\"? ?\}?", ""),                   # 12^{th}
    (r"\{([^{}]*)\\over\b([^{}]*)\}", r"\\frac{\1}{\2}"),
    (r"\\(frac|binom) ?([0-9])", r"\\\1{\2}"),                                  # \frac12 is \frac{1}2
    (r"(?<![\w.^}])([0-9]+) ?\\frac ?\{([0-9]+)\} ?\{?([0-9]+)\}?", r"(\1+\\frac{\2}{\3})"),    # 1\frac12
    (r"(?<![\w.^}/])([0-9]+) ([0-9]+/[0-9]+)(?![0-9])", r"(\1+\2)"),            # 1 1/2
    (r"(?<![\"\w])\(?([0-9]+)\)?_ ?\{? ?\(?([0-9]+)\)? ?\}?", r'"\1_\2"'),      # 25_{6}, in base 6
    (r"\.(?= ?[\])])", ""), (r" +", " "), (r'[\s.,;:^]+("?)$', r"\1"))]


def unwrap(match: re.Match) -> str:
    """\\text{} with its words in quotes; \\mathrm{} and the like only around words."""
    prose = match[1][:4] in ("text", "mbox") or re.fullmatch(r"[A-Za-z .]{2,}", match[2])
    return f" {WORD.sub(quote, match[2])} " if prose else f"{{{match[2]}}}"


def normalise(text: str) -> str:
    """One spelling for the many of LaTeX, unicode and words; idempotent. Raises TooLarge."""
    text = re.sub(r"\x0c(?=rac)", r"\\f", re.sub(r"\t(?=ext|imes|heta|frac)", r"\\t", text))    # eaten escapes
    text = re.sub(r"\s+", " ", re.sub(r"\\mathbb ?\{?R\}?", "ℝ", text))
    if len(text) > MAX_CHARS:
        raise TooLarge(f"an answer of more than {MAX_CHARS} characters")
    text = WRAPPER.sub(unwrap, NUMBER_WORDS.sub(number_words, re.sub(r" ?\{ ?, ?\} ?|, *\\! *", "{,}", text)))
    text = PIECE.sub(lambda piece: SAME.get(piece[0], piece[0]) + " " * bool(piece[1]), text)
    for pattern, new in RULES:
        text = pattern.sub(new, text)
    return text.strip()


# --- 3. tokens, with brackets nested -----------------------------------------------------------

TOKEN = re.compile(rf"""
    (?P<num>(?:(?:[1-9][0-9]{{0,2}}(?:(?:\{{,\}}|[ ])[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)
      (?:[eE][+-]?[0-9]+(?![A-Za-z0-9.]))?)
  | "(?P<word>[^"]*)" | \\(?P<fn>[A-Za-z]+) | (?P<plain>{PLAIN})(?![A-Za-z])
  | (?P<sym>[A-Za-zα-ορ-ωΔΩℓ∠]) | (?P<blank>[ ]) | (?P<op>\\.|.)""", re.X)
OPENING, CLOSING = "([{⌊⌈⟦", ")]}⌋⌉⟧"


class Token(NamedTuple):
    kind: str                   # num, sym, word, fn, op; group, with its brackets as text
    text: str
    inner: tuple[Token, ...] = ()


def tokenise(text: str) -> list[Token]:
    """The flat tokens of a normalised answer."""
    out = []
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
        if kind != "blank":
            out.append(Token(kind, piece))
    return out


def nest(flat: list[Token]) -> list[Token]:
    """Makes a group token of each pair of brackets or bars; one without a partner stays a sign."""
    out, stack = [], []
    for token in flat:
        text = token.text if token.kind == "op" else "-"
        if text in CLOSING or text == "|" and stack and stack[-1][0] == "|":
            while stack and stack[-1][0] == "|" != text:
                out = [*stack[-1][1], Token("op", stack.pop()[0]), *out]
            if stack:
                opening, before = stack.pop()
                out = [*before, Token("group", opening + text, tuple(out))]
                continue
        elif text in OPENING or text == "|":
            if len(stack) > MAX_DEPTH:
                raise TooLarge(f"brackets nested deeper than {MAX_DEPTH}")
            stack.append((text, out))
            out = []
            continue
        out.append(token)
    for opening, before in reversed(stack):
        out = [*before, Token("op", opening), *out]
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


# --- 4. the reader: tokens to values -----------------------------------------------------------

class Value(NamedTuple):
    """What an answer, or a part of one, reads as."""
    kind: str                   # number, text, group, relation, sets
    source: str                 # normalised: the first thing that is compared
    expr: sp.Expr | None = None         # number: a sympy object
    unit: str = ""              # number: "percent", "degree", or the words after it
    places: int = 0             # number: decimals as written, for the rounding rule
    shape: str = ""             # group: "()", "(]", "{}", "" for a bare list, "matrix2"
    ops: tuple[str, ...] = ()   # the signs between the parts of a relation, of sets, of a list
    parts: tuple[Value, ...] = ()


PERCENT, DEGREE, PLUS_MINUS = sp.symbols("% ° ±")
IMAGINARY = sp.Symbol("i")      # a symbol: i^2 is an unevaluated copy of -1, and not accepted for it
CONSTANTS = {"π": sp.pi, "∞": sp.oo} | {name: sp.Symbol(name) for name in "ℝ∅…"}
NAME = re.compile(r"[A-Z]{2,4}|∠[A-Z]{1,3}|[A-Z]_\{?\w\}?:[A-Z]_\{?\w\}?|"      # AB, ∠ABC, V_1:V_2,
                  r"([A-Za-z])'*(?:_\{?\w+\}?)?\((?!.*\1)\w+(?:,\w+)*\)")       # f(x), T(10)
DECIMAL = re.compile(r"^-?[0-9]+,[0-9]+$")
THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")


@functools.lru_cache(maxsize=8192)
def read(text: str, comma: str) -> Value:
    """The value of an answer, its commas between digits replaced; text where it is no maths."""
    text = normalise(text)
    if comma != "," and not re.search(r"[([]", text):
        text = (DECIMAL if comma == "." else THOUSANDS).sub(lambda digits: digits[0].replace(",", comma), text)
    return read_list(nest(tokenise(text)), "")


def read_list(tokens, shape: str) -> Value:
    """The items between commas, semicolons, "and" and "or"; a single one stands for itself."""
    head, *tail = split(tokens, "|:")[0]
    if shape == "{}" and len(tail) == 1 and head and all(t.kind == "sym" or t.text in "∈ℝ" for t in head):
        return Value("sets", "{" + join(tokens) + "}", parts=(read_list(tail[0], ""),))     # {x | x > 2}
    pieces, joins = split(tokens, (",", ";", "and", "or"))
    items = expand([read_item(piece) for piece in pieces if piece])
    if len(items) == 1 and (shape in ("", "{}", "()") or items[0].shape[:6] == "matrix"):
        return items[0]
    return Value("group", shape[:1] + join(tokens) + shape[1:], shape=shape, ops=joins, parts=items)


def read_item(tokens) -> Value:
    """One item: a relation or a value, without the words around it; text where it is neither."""
    with contextlib.suppress(Unreadable, ValueError, TypeError, ArithmeticError):
        return read_relation(tokens)
    words = [t.text.lower() if t.kind == "word" else "" for t in tokens] + [""]
    for at in range(len(tokens) - 1, -1, -1):
        if words[at] in ("is", "are", "equals") and at + 1 < len(tokens) or (
                not at and words[0] in ("only", "exactly", "just")):
            return read_item(tokens[at + 1:])               # the answer is 5
        if at and words[at] == "for" and words[at + 1] in ("all", "any", "every", "each", "some"):
            return read_item(tokens[:at])                   # 2x for all x
    (label, *rest), _ = split(tokens, ":")
    if len(rest) == 1 and rest[0] and words[0]:             # Minimum: 1
        parts = Value("text", join(label)), read_item(rest[0])
        return Value("relation", join(tokens), ops=("=",), parts=parts)
    return Value("text", join(tokens))


def read_relation(tokens) -> Value:
    sides, ops = split(tokens, "=<>≤≥≠∈≈")
    if "≈" in ops:                                          # the exact form decides
        sides, ops = sides[:ops.index("≈") + 1], ops[:ops.index("≈")]
    if not ops:
        return read_side(sides[0])
    head = join(sides[0])
    labelled = ops[0] in "=∈" and head and (
        NAME.fullmatch(head) or all(t.kind == "word" for t in sides[0]))
    parts = [Value("text", head) if labelled else read_side(sides[0]), *map(read_side, sides[1:])]
    return Value("relation", join(tokens), ops=ops, parts=tuple(parts))


def read_side(tokens) -> Value:
    """Sets joined by ∪ ∩ ∖, a ratio, a bracketed group, a matrix, or a number with its unit."""
    source, shapes = join(tokens), [t.text for t in tokens]
    pieces, ops = split(tokens, "∪∩∖")
    if shapes == ["{}", "-", "{}"]:
        pieces, ops = [tokens[:1], tokens[2:]], ("∖",)
    if ops:
        return Value("sets", source, ops=ops, parts=tuple(map(read_side, pieces)))
    pieces, ops = split([Token("op", ":") if t == ("word", "to", ()) else t for t in tokens], ":")
    if ops:
        parts = tuple(map(read_side, pieces))
        if any(part.kind != "number" for part in parts):
            raise Unreadable("a ratio of what is not a number")
        if len(parts) == 2:
            return Value("number", source, divide(parts[0].expr, parts[1].expr))
        return Value("group", source, shape="::", parts=parts)
    if shapes == ["⟦⟧"]:
        rows = [[read_side(cell) for cell in split(row, "&")[0]] for row in split(tokens[0].inner, "¶")[0] if row]
        if len({len(row) for row in rows}) != 1:
            raise Unreadable("a matrix whose rows differ in length")
        return Value("group", source, shape=f"matrix{len(rows[0])}", parts=tuple(itertools.chain(*rows)))
    if len(shapes) == 1 and shapes[0] in ("()", "[]", "(]", "[)", "{}") and tokens[0].kind == "group":
        return read_list(tokens[0].inner, shapes[0])
    return read_quantity(tokens, source)


def read_quantity(tokens, source: str) -> Value:
    """A number with what stands around it: currency, percent, degrees, trailing words."""
    parser = Parser([t for t in tokens if t.text != "¤"])
    expr, words = parser.expression(), ["dollar"] * (len(tokens) > len(parser.tokens))
    for token in parser.tokens[parser.at:]:
        text = token.text.lower()
        if token.kind in ("word", "sym") and text not in TURNING and len(words) < 6:
            words.append(UNITS.get(token.text, UNITS.get(text, text)))
        elif not words or token.text not in ("2", "3", "^", "/", "{}") and not (        # yuan (A)
                token.text == "()" and all(t.kind in ("sym", "word") for t in token.inner)):
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
        ends = [value.expr for value in out[-1:] + items[at + 1:at + 2]]
        if item.source == "…" and len(ends) == 2 and all(end and end.is_Integer for end in ends if end != 0):
            first, last = map(int, ends)
            step = int(first - out[-2].expr) if len(out) > 1 and out[-2].expr.is_Integer else 0
            if not step or (last - first) % step or (last - first) // step < 0:
                step = 1 if last > first else -1
            if (last - first) // step > MAX_ITEMS:
                raise TooLarge(f"a range of more than {MAX_ITEMS} numbers")
            out += [Value("number", str(n), sp.Integer(n)) for n in range(first + step, last, step)]
        elif item.kind == "number" and item.expr.has(PLUS_MINUS):
            out += [item._replace(source=item.source + str(sign), expr=item.expr.xreplace({PLUS_MINUS: sign}))
                    for sign in (sp.S.One, sp.S.NegativeOne)]
        else:
            out.append(item)
    return tuple(out)


def guard(work, size, limit: int):
    """work(*numbers), once size(*numbers), where they are numbers, is at most limit."""
    def guarded(*args):
        if all(arg.is_Rational for arg in args) and size(*args) > limit:
            raise TooLarge(f"a {work.__name__.lower()} of size above {limit}")
        return work(*args)
    return guarded


def divide(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    if b.is_zero:
        raise Unreadable("a division by zero")
    return a / b


def modulo(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    if not (a.is_Integer and b.is_Integer and b):
        raise Unreadable("mod of what is no integer")
    return a % b


power = guard(sp.Pow, lambda base, exponent: 0 if base in (0, 1, -1) else max(
    abs(exponent) * max(base.p.bit_length(), base.q.bit_length()), exponent.q), MAX_BITS)
PREFIX = {"+": sp.S.One, "-": sp.S.NegativeOne, "±": PLUS_MINUS, "∓": -PLUS_MINUS}
POSTFIX = {"!": guard(sp.factorial, abs, MAX_FACTORIAL), "%": lambda x: x * PERCENT, "°": lambda x: x * DEGREE}
INFIX = {sign: (1, lambda a, b, one=one: a + one * b) for sign, one in PREFIX.items()} | {
    "*": (2, lambda a, b: a * b), "": (2, lambda a, b: a * b), "/": (2, divide), "mod": (2, modulo),
    "^": (3, power)}
AROUND = {"()": lambda x: x, "[]": lambda x: x, "{}": lambda x: x, "||": sp.Abs, "⌊⌋": sp.floor, "⌈⌉": sp.ceiling}
binomial = guard(sp.binomial, lambda n, k: abs(n), MAX_FACTORIAL)


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
            sign = self.peek("op")
            if sign in POSTFIX:
                self.at += 1
                left = POSTFIX[sign](left)
                continue
            braced = self.tokens[self.at - 1].text == "{}" and self.peek("num")         # 2^{k} 2^{n}
            if sign in CONSTANTS or braced or self.peek("sym", "fn") or self.peek("group") in AROUND:
                sign = ""                                   # a product without a sign
            elif sign not in INFIX or not sign:
                break
            level, combine = INFIX[sign]
            if level <= floor:
                break
            self.at += bool(sign)
            left = combine(left, self.expression(level - (sign == "^")))
        return left

    def atom(self) -> sp.Expr:
        if self.at == len(self.tokens):
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
        if name == "frac":
            return divide(self.atom(), self.atom())
        if name == "binom":
            return binomial(self.atom(), self.atom())
        if name == "sqrt":
            index = self.atom() if self.peek("group") == "[]" else sp.Integer(2)
            inner = self.atom()
            real = inner.is_Rational and inner < 0 and index.is_Integer and index % 2
            return -power(-inner, 1 / index) if real else power(inner, 1 / index)
        scripts = {}
        while (mark := self.peek("op")) in ("^", "_") and mark:
            scripts[mark] = self.tokens[self.at + 1:self.at + 2]
            self.at += 2
        if name in KEPT:                                    # known by its name and its bounds
            head = name + "".join(mark + join(scripts[mark]) for mark in sorted(scripts))
            return sp.Function(head)(self.expression(1))
        if name not in FUNCTIONS:
            raise Unreadable(f"an unknown macro {name!r}")
        inner = self.atom() if self.peek("group") else self.expression(2)
        while not self.peek("group") and (self.peek("num", "sym") or self.peek("op") == "π"):
            inner *= self.expression(2)                     # sin 2x
        exponent = whole(scripts["^"]) if "^" in scripts else sp.S.One
        if exponent == -1 and "arc" + name in FUNCTIONS:
            return FUNCTIONS["arc" + name](inner)
        value = FUNCTIONS[name](inner.xreplace({DEGREE: sp.pi / 180}))
        return power(divide(value, FUNCTIONS[name](whole(scripts["_"]))) if "_" in scripts else value, exponent)


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
    digits, _, decimals = mantissa.partition(".")
    return sp.Rational(int(digits + decimals), 10 ** len(decimals)) * sp.Integer(10) ** int(exponent or 0)


# --- 5. equivalence: each step returns its name, or "" where it does not find the two equal ----

NO_ANSWER = {"", "nan", "none", "null", "?"}


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
    step = same_relations(a, b) if kinds == {"relation"} else same_relation(
        *sorted((a, b), key=lambda value: value.kind != "relation")) if "relation" in kinds else ""
    if step or "text" in kinds:
        return step
    if not a.kind == b.kind == "group" or a.shape != b.shape:
        with contextlib.suppress(Unreadable):
            (name_a, set_a), (name_b, set_b) = reals(a), reals(b)
            return "same set of reals" if set_a == set_b and (name_a == name_b or not (name_a and name_b)) else ""
    return same_group(a, b) if "group" in kinds else ""


def in_order(left, right) -> str:
    return "same in order" if len(left) == len(right) and all(map(same, left, right)) else ""


def same_group(a: Value, b: Value) -> str:
    """Tuples, intervals and matrices in order, lists and sets in any; x = 1, y = 2 is a tuple with names."""
    shapes = {value.shape for value in (a, b)}
    if not shapes & {"", "{}"}:
        vector = "()" in shapes and shapes & {"matrix1", f"matrix{len(a.parts)}"}
        return in_order(a.parts, b.parts) if len(shapes) == 1 or vector else ""
    left, right = (flatten(value) if value.shape != "()" else [("", part) for part in value.parts] for value in (a, b))
    for one, other in ((left, right), (right, left)):
        names = {name[0] for name, _ in one if 0 < len(name) < 8}
        if len(names) == len(one) > 1 and not any(name for name, _ in other) or shapes == {"", "()"}:
            return in_order([item for _, item in one], [item for _, item in other])
    return same_items(left, right) if shapes <= {"", "{}"} else ""


def flatten(value: Value, name: str = "") -> list[tuple[str, Value]]:
    """(name or "", item) of a list, with the lists in it written out."""
    label, value = named(value)
    items = value.parts if value.kind == "group" and value.shape in ("", "{}") else expand([value])
    return [(label or name, value)] if items == (value,) else [
        pair for item in items for pair in flatten(item, label or name)]


def same_items(left: list, right: list) -> str:
    """Equal with their counts; or as sets, where one of the two repeats nothing (004, 004 is 004)."""
    left, right = sorted((left, right), key=len)
    part = None if {name for name, _ in left} == {name for name, _ in right} else "_"   # x_1 against x
    alike = lambda x, y: (not x[0] or not y[0] or x[0].split(part)[0] == y[0].split(part)[0]) and same(  # noqa: E731
        x[1], y[1])
    spelt, missing, free = {}, [], dict(enumerate(right))
    for at, (_, item) in free.items():
        spelt.setdefault(spelling(item), []).append(at)
    for pair in left:
        near = spelt.get(spelling(pair[1]))
        if near and alike(pair, right[near[-1]]):
            del free[near.pop()]
        else:
            missing.append(pair)
    if len(missing) * len(free) > MAX_ITEMS:
        raise TooLarge("two long lists with too little in common")
    for pair in missing:
        found = next((at for at in free if alike(pair, free[at])), None)
        if found is None:
            return ""
        del free[found]
    again = not free or len(free) < 50 and all(any(alike(x, y) for x in left) for y in free.values()) and not any(
        alike(*pair) for pair in itertools.combinations(left, 2))
    return "same items" if again else ""


def spelling(item: Value):
    return item.expr if item.kind == "number" and item.expr.is_Rational and not item.unit else item.source


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
        return not value.unit and (value.expr.is_Symbol and value.expr not in {IMAGINARY, *CONSTANTS.values()}
                                   or isinstance(value.expr, AppliedUndef))
    return value.kind == "text" and len(value.source) < 40 or value.shape == "()" and all(map(is_name, value.parts))


def same_relation(relation: Value, other: Value) -> str:
    """x = 5 against 5; 1/2 = 0.5 against 1/2, if it is true; x y = 6 against 6/x."""
    name, value = named(relation)
    if name:
        return same(value, other)
    if set(relation.ops) != {"="} or any(part.kind != "number" for part in relation.parts):
        return ""
    exprs = [part.expr for part in relation.parts]
    if not set().union(*(expr.free_symbols for expr in exprs)) - {IMAGINARY}:
        return same(relation.parts[-1], other) if all(map(identical, exprs, exprs[1:] + exprs[-1:])) else ""
    if len(exprs) == 2 and other.kind == "number" and other.expr.free_symbols:
        gap = exprs[0] - exprs[1]
        unknown = gap.free_symbols - other.expr.free_symbols
        if len(unknown) == 1 and not unknown & sp.diff(gap, *unknown).free_symbols and identical(
                gap.xreplace(dict.fromkeys(unknown, other.expr)), sp.S.Zero):
            return "solved equation"
    return ""


MIRROR = str.maketrans("<>≤≥", "><≥≤")


def same_relations(a: Value, b: Value) -> str:
    """The same name and value, with f's argument renamed; equations up to a factor; mirrored chains."""
    (name_a, value_a), (name_b, value_b) = named(a), named(b)
    if name_a and name_a == name_b and (step := same(value_a, value_b)):
        return step
    call_a, call_b = (re.fullmatch(r"(\w+)\((\w)\)", name) for name in (name_a, name_b))
    if call_a and call_b and call_a[1] == call_b[1] and value_a.kind == value_b.kind == "number":
        renamed = value_a.expr.xreplace({sp.Symbol(call_a[2]): sp.Symbol(call_b[2])})
        return "bound name changed" if identical(renamed, value_b.expr) else ""
    if a.ops == b.ops == ("=",) and all(part.kind == "number" for part in a.parts + b.parts):
        gap_a, gap_b = (value.parts[0].expr - value.parts[1].expr for value in (a, b))
        primed = {name: sp.Symbol(name.name + "'") for name in gap_a.free_symbols}   # a(x) b(y) = b(x) a(y)
        return "same equation" if gap_a.free_symbols == gap_b.free_symbols and not gap_b.is_zero and identical(
            gap_a * gap_b.xreplace(primed), gap_b * gap_a.xreplace(primed)) else ""
    mirrored = tuple(op.translate(MIRROR) for op in b.ops[::-1])
    return (in_order(a.parts, b.parts) if a.ops == b.ops else "") or (
        in_order(a.parts, b.parts[::-1]) if a.ops == mirrored else "")


def end(value: Value) -> sp.Expr:
    """An end of an interval; an irrational one as the rational of its first 40 digits, however written."""
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
    if value.kind == "number" and value.expr == CONSTANTS["ℝ"]:
        return "", sp.S.Reals
    if value.kind == "group" and value.shape in ("()", "(]", "[)", "[]") and len(value.parts) == 2:
        low, high = map(end, value.parts)
        if low < high:
            return "", sp.Interval(low, high, value.shape[0] == "(", value.shape[1] == ")")
    elif inner and (value.kind == "number" or value.shape == "{}"):
        return "", sp.FiniteSet(*map(end, value.parts or (value,)))
    elif value.kind == "sets":
        name, total = reals(value.parts[0], True)
        for op, part in zip(value.ops, value.parts[1:], strict=True):
            more = reals(part, True)[1]
            total = total | more if op == "∪" else total & more if op == "∩" else total - more
        return name if value.ops else "", total             # in {x | x > 2}, x is bound
    elif value.kind == "group" and value.shape == "" and all(part.kind == "relation" for part in value.parts):
        names, sets = zip(*(reals(part, True) for part in value.parts), strict=True)
        if len(set(names)) == 1:
            return names[0], (sp.Intersection if "and" in value.ops else sp.Union)(*sets)
    elif value.kind == "relation" and (inner or value.ops != ("=",)):
        names = [at for at, part in enumerate(value.parts) if is_name(part)]
        if len(names) == 1:
            return value.parts[names[0]].source, sp.Intersection(*(
                half_line(op, value.parts[at + 1]) if at == names[0] else half_line(
                    op.translate(MIRROR), value.parts[at]) for at, op in enumerate(value.ops)))
    raise Unreadable("not a set of reals")


def half_line(op: str, other: Value) -> sp.Set:
    """The reals x with x op other."""
    if op == "∈":
        return reals(other, True)[1]
    at = end(other)
    return {"<": sp.Interval.open(-sp.oo, at), "≤": sp.Interval(-sp.oo, at), ">": sp.Interval.open(at, sp.oo),
            "≥": sp.Interval(at, sp.oo), "=": sp.FiniteSet(at), "≠": sp.S.Reals - sp.FiniteSet(at)}[op]


# --- 6. numbers --------------------------------------------------------------------------------

def same_number(a: Value, b: Value) -> str:
    """Two numbers. Percent and degrees may be left out or worked out; other units may be left out."""
    both = a.unit and b.unit and a.unit != b.unit
    if both and ({"percent", "degree"} & {a.unit, b.unit} or not set(a.unit.split()) & set(b.unit.split())):
        return ""
    step = same_size(a, b)
    for scaled, plain in ((a, b), (b, a)):
        factor = {"percent": sp.Rational(1, 100), "degree": sp.pi / 180}.get(scaled.unit)
        if not step and factor and not plain.unit and identical(scaled.expr * factor, plain.expr):
            step = f"same without {scaled.unit}"
    return step


def same_size(a: Value, b: Value) -> str:
    x, y = a.expr, b.expr
    if x == y or x.has(IMAGINARY) != y.has(IMAGINARY):
        return "same number" if x == y else ""
    if identical(x, y):
        return "numeric identity"
    letters = [*x.free_symbols, *y.free_symbols]            # pi/6 + k pi, for every integer k
    if len(letters) == 2 and x.free_symbols and y.free_symbols and {name.name for name in letters} <= set("klmnt") and (
            (sp.diff(x, letters[0]) / sp.pi).is_Rational and identical(x.xreplace(dict([letters])), y)):
        return "bound integer renamed"
    for decimal, exact in ((a, b), (b, a)):
        if rounds_to(exact, decimal):
            return "rounded"
    return ""


def rounds_to(exact: Value, decimal: Value) -> bool:
    """A decimal stands for what rounds to it: a fraction, at two places, if it has three digits or more;
    any number at six digits or more. Two decimals are equal only as numbers."""
    if not decimal.places or exact.places or exact.expr.free_symbols or not decimal.expr.is_Rational:
        return False
    digits = len(str(abs(int(decimal.expr * 10**decimal.places))))
    size = sample(exact.expr - decimal.expr, 0, ()) if digits >= 6 or digits >= 3 and decimal.places == 2 and (
        exact.expr.is_Rational) else None
    return size is not None and abs(size) <= MP.mpf(10) ** -decimal.places / 2


MP = mpmath.mp.clone()          # its own precision: no other user of mpmath is disturbed
MP.dps = 60
EXACT = {sp.pi: MP.pi, sp.E: MP.e, IMAGINARY: MP.j, sp.I: MP.j}
NUMERIC = {sp.sin: MP.sin, sp.cos: MP.cos, sp.tan: MP.tan, sp.cot: MP.cot, sp.sec: MP.sec, sp.csc: MP.csc,
           sp.asin: MP.asin, sp.acos: MP.acos, sp.atan: MP.atan, sp.sinh: MP.sinh, sp.cosh: MP.cosh,
           sp.tanh: MP.tanh, sp.log: MP.log, sp.Abs: abs, sp.floor: MP.floor, sp.ceiling: MP.ceil,
           sp.factorial: MP.factorial, sp.binomial: MP.binomial}
REGIONS = ((0, 1), (0, 1), (0, 1), (0, 1), (1, 3), (1, 3), (-2, 0), (-2, 0))


def identical(x: sp.Expr, y: sp.Expr) -> bool:
    """Equal as expressions, or to 40 of 60 digits at every point tried: one for a constant, else up to eight.

    A different value at one point proves the two different. Agreement is no proof: the step is called a
    numeric identity.
    """
    if x == y or x.is_Rational and y.is_Rational or x.has(sp.oo) or y.has(sp.oo):
        return x == y
    names, agreed, needed = (x.free_symbols | y.free_symbols) - {IMAGINARY}, 0, 3
    for point in range(8 if names else 1):
        u, v = sample(x, point, names), sample(y, point, names)
        if u is None or v is None:
            continue
        size = max(abs(u), abs(v))
        if abs(u - v) <= size * MP.mpf(10) ** -40 or size < MP.mpf(10) ** -50:
            agreed += 1
        elif MP.im(u) == 0 == MP.im(v) or not names:
            return False
        else:
            needed = 4                  # other branches of a root: the real points decide
    return agreed >= (needed if names else 1)


def sample(expr: sp.Expr, point: int, names):
    """expr in 60 digits with its names at numbers drawn from REGIONS[point]; None where undefined."""
    low, high = REGIONS[point]
    values = {name: low + (high - low) * chance(f"{point} {name.name}") for name in names}
    try:
        value = evaluate(expr, EXACT | values)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError):
        return None
    return value if MP.isfinite(value) else None


def chance(text: str):
    """A number in (0, 1) that depends on the text alone."""
    bits = "".join(f"{zlib.crc32(f'{part} {text}'.encode()):08x}" for part in range(6))
    return (MP.mpf(int(bits, 16)) + 1) / (MP.mpf(16) ** len(bits) + 2)


def evaluate(expr: sp.Expr, values: dict):
    """expr in 60-digit arithmetic: all the arithmetic that is done on what is not rational."""
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
        base, exponent = args if expr.is_Pow else (MP.e, args[0])
        if base and abs(exponent) * (abs(MP.mag(base)) + 1) > MAX_BITS:
            raise TooLarge(f"a power of more than {MAX_BITS} bits")
        return MP.power(base, exponent)
    if expr.func in (sp.factorial, sp.binomial) and max(map(abs, args)) > MAX_BITS:
        raise TooLarge(f"a factorial above {MAX_BITS}")
    if isinstance(expr, AppliedUndef):      # f(2), or a sum that is kept: some value of its own
        return chance(f"{expr.func} " + " ".join(MP.nstr(arg, 30) for arg in args))
    if expr.func not in NUMERIC:
        raise ValueError(f"no numeric form of {expr.func}")
    return NUMERIC[expr.func](*args)


def judge(reference: str, answer: str) -> tuple[Verdict, str, Value | None, Value | None]:
    """The verdict on a bare answer, the step that decided it, and how both were read."""
    try:
        step, a, b = compare(reference, answer)
    except (TooLarge, RecursionError, MemoryError) as limit:
        if "".join(reference.split()) == "".join(answer.split()):
            return Verdict(True, answer, "correct"), "same text", None, None
        return Verdict(False, answer, "too_large"), repr(limit), None, None
    reason = "correct" if step else "unparsed" if b.kind == "text" != a.kind else "wrong"
    return Verdict(bool(step), answer, reason), step or "no step found them equal", a, b


def is_equivalent(reference: str, answer: str) -> bool:
    """Are two bare answers the same? Symmetric; False also where a limit is met.

    Exact for text, rational numbers and structure; irrational numbers and expressions with variables as
    `identical` says, decimals as `rounds_to` says.
    """
    return judge(reference, answer)[0].correct


def verify(response: str, reference: str) -> Verdict:
    """Is the response's final answer the reference's (Eq. 2)? The work is bounded; there is no time-out.

    reason: correct, wrong, no_answer, unparsed (the answer is text, the reference is not), too_large (a limit
    of this file was met); verify_all adds timeout.
    """
    answer = extract_answer(response)
    return Verdict(False, None, "no_answer") if answer is None else judge(reference, answer)[0]


# --- 7. worker processes -----------------------------------------------------------------------
# Workers run this file alone (never the user's script, never torch) and speak JSON lines. Each sets an alarm
# that has no handler before each row: the kernel ends a worker that hangs, also in C code, also when its
# parent is gone. The caller has no signal handler, so verify_all works in any thread.

_pool: list[subprocess.Popen] = []
_pool_key: tuple = ()           # (process id, time-out) that the workers were started for
_pool_lock = threading.Lock()


def spawn(timeout: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", os.path.abspath(__file__), "--worker", str(timeout)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


@atexit.register
def close_pool() -> None:
    """Ends the workers. A forked child only forgets them: they are its parent's."""
    while _pool:
        worker = _pool.pop()
        if _pool_key[0] == os.getpid():
            worker.kill()
            worker.communicate()


def verify_all(responses: list[str], references: list[str], timeout: float = 5.0,
               workers: int = 2) -> list[Verdict]:
    """`verify` for every row, in order, on worker processes that stay alive between calls.

    A row that takes longer than `timeout` seconds costs its worker: the worker is replaced, the verdict is
    `timeout`, and no other row is touched. A worker that dies otherwise, of memory, gives its row `too_large`.
    workers=0 works in this process, without a time-out. Any thread may call; calls take turns. Raises
    ValueError when the lists differ in length.
    """
    global _pool_key
    if len(responses) != len(references):
        raise ValueError(f"{len(responses)} responses but {len(references)} references: give one for each")
    if workers == 0:
        return list(map(verify, responses, references))
    rows = list(enumerate(zip(responses, references, strict=True)))
    size = max(1, min(32, len(rows) // (4 * workers)))
    todo = deque(rows[at:at + size] for at in range(0, len(rows), size))
    verdicts: list[Verdict] = [Verdict(False, None, "timeout")] * len(rows)
    with _pool_lock:
        if _pool_key != (os.getpid(), timeout) or len(_pool) > workers:
            close_pool()
            _pool_key = (os.getpid(), timeout)
        while len(_pool) < min(workers, len(todo)):
            _pool.append(spawn(timeout))
        with ThreadPoolExecutor(len(_pool) or 1) as threads:
            list(threads.map(lambda slot: work_off(slot, todo, verdicts, timeout), range(len(_pool))))
    return verdicts


def work_off(slot: int, todo: deque, verdicts: list[Verdict], timeout: float) -> None:
    """Sends the worker in a slot one chunk of rows after the other, and takes its verdicts."""
    while True:
        try:
            chunk = todo.popleft()
        except IndexError:
            return
        worker = _pool[slot]
        with contextlib.suppress(BrokenPipeError):      # a dead worker is found where it is read
            worker.stdin.write(json.dumps([pair for _, pair in chunk]) + "\n")
            worker.stdin.flush()
        for done, (row, _) in enumerate(chunk):
            line = worker.stdout.readline()
            if line.endswith("\n"):
                verdicts[row] = Verdict(*json.loads(line))
                continue
            worker.communicate()
            reason = "timeout" if worker.returncode == -signal.SIGALRM else "too_large"
            verdicts[row] = Verdict(False, None, reason)
            todo.appendleft(chunk[done + 1:])
            _pool[slot] = spawn(timeout)
            break


def worker_main(timeout: float) -> None:
    """Answers lines of [[response, reference], ...] with a line for each pair, until its input ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)       # a caller may ignore it, and that is inherited
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))
    for line in sys.stdin:
        for response, reference in json.loads(line):
            signal.setitimer(signal.ITIMER_REAL, timeout)
            print(json.dumps(verify(response, reference)), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- 8. the command line -----------------------------------------------------------------------

def table(rows: list[dict], verdicts: list[Verdict]) -> str:
    """The columns of the paper's Table 1, by source, in percent; and the count of each reason."""
    lines = [f"{'source':24} {'rows':>5} {'recall':>9} {'precision':>9} {'FPR':>9} {'accuracy':>9}"]
    groups: dict[str, Counter] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        for group in (str(row.get("source", "-")), "~ all"):
            groups.setdefault(group, Counter())[bool(row["label"]), verdict.correct] += 1
    for group, count in sorted(groups.items()):
        tp, fn, fp, tn = (count[key] for key in itertools.product((True, False), repeat=2))
        lines.append(f"{group:24} {sum(count.values()):5} " + " ".join(
            f"{100 * part / of:9.1f}" if of else f"{'-':>9}" for part, of in (
                (tp, tp + fn), (tp, tp + fp), (fp, fp + tn), (tp + tn, sum(count.values())))))
    reasons = Counter(verdict.reason for verdict in verdicts)
    return "\n".join([*lines, ", ".join(f"{reason} {reasons[reason]}" for reason in REASONS)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Check answers against references.")
    parser.add_argument("pairs", nargs="?", help="JSON lines with gold, response, label, and maybe source")
    parser.add_argument("--errors", action="store_true", help="list the rows it got wrong")
    parser.add_argument("--reference", help="with --response: one reference answer")
    parser.add_argument("--response", help="with --reference: explain one verdict")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds a row may take")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0 for none")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker_main(args.worker)
    elif args.reference is not None and args.response is not None:
        answer = extract_answer(args.response)
        print(f"extracted: {answer!r}")
        if answer is not None:
            verdict, step, *values = judge(args.reference, answer)
            for name, value in zip(("reference", "answer"), filter(None, values), strict=False):
                shown = {k: v for k, v in value._asdict().items() if v not in ("", None, (), 0) or k == "expr" and v}
                print(f"{name + ':':10} {shown}")
            print(f"decided:   {step}")
        print(f"verdict:   {verify(args.response, args.reference).reason}")
    elif args.pairs:
        with open(args.pairs, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        verdicts = verify_all([row["response"] for row in rows], [row["gold"] for row in rows], args.timeout,
                              args.workers)
        print(table(rows, verdicts))
        for row, verdict in zip(rows, verdicts, strict=True):
            if args.errors and verdict.correct != bool(row["label"]):
                print(f"{row.get('id', '')} labelled {bool(row['label'])}, {verdict.reason}: reference "
                      f"{row['gold']!r}, answer {verdict.answer!r}")
    else:
        parser.error("give a file of pairs, or --reference and --response")


if __name__ == "__main__":
    main()

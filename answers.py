r"""Reads mathematical answers, and decides whether two of them are equivalent.

    is_equivalent("(1,2]", r"1 < x \le 2")  ->  True        symmetric
    compare(reference, answer)              ->  Comparison: the step that decided, both as read

The text comes from a model, so it is data: it is never evaluated and never names an attribute.
This file imports nothing else of the project. Its sections follow an answer on its way:

1. Spelling    \dfrac12, ½ and "one half" are three spellings. Tables and rules rewrite each
               spelling into one; normalize() applies them in order.
2. Tokens      The normalized text becomes tokens; what stands in brackets is one nested token.
3. Values      Tokens become a Value: a number with its unit, a list, a tuple, a relation, ...
               What no function of this section reads stays text and is compared as text.
4. Expressions A precedence parser makes the sympy expression of one number or formula.
5. Equivalence compare() and a ladder of steps, cheapest first. Each step returns its name, or ""
               if it does not find the two equal; a later step may still do so.
6. Real sets   Intervals, unions and inequalities as sympy sets: (1,2] is 1 < x <= 2.
7. Numbers     Equality of expressions, exactly or at random points in 60 digits, and rounding.

Conventions
-----------
What mathematics leaves open; tests/test_answers.py has a pair for each.

Forms       A formula may be left unevaluated (2^5 is 32), but a power of i is no answer for -1.
            Sums, integrals and limits are compared as written, but for the index of a sum or a
            product, which may have another name and start elsewhere.
Sizes       Terms that are more than 1000 digits apart, 50 beside factorials, are not compared in
            numbers: then only expressions that simplify alike are equal.
Domains     Roots and logarithms are compared where both sides are real: 2 ln x is ln x^2. Odd roots
            of negative numbers are real. In exponents k, l, m, n, i and j are whole numbers. Other
            names stand for real numbers of either sign, z and w beside i for complex ones. A domain
            that is stated (n ∈ ℤ, for all x > 0) may be left out, but is no other one. ℕ is the
            positive integers.
Decimals    Two decimals are equal only as numbers. A decimal stands for a fraction that rounds to
            it if it has two places and three digits, for any number if it has six places or seven
            digits; with eight it may be cut off instead of rounded. 0,5 is 0.5 beside these digits
            with a point, otherwise a list.
Percent     28% is 28 and 0.28, but 0.25% is not 0.25: a number of at most 1 keeps its percent
            sign. 45° is 45 and π/4.
Units       A unit may be left out, what stands after "per" too; two units of one kind are
            converted. Currencies are different, and "pounds" may be money or a weight. 2 hours 30
            minutes is one quantity.
Order       Lists and sets have none; tuples, intervals and matrices do; a set is no tuple. A list
            without brackets may be a tuple. A list may repeat all of one without repeats, or
            some of its tuples.
            (±1, ±2) is two tuples or all four. "x = 1, y = 2 or x = 3, y = 4" is two solutions.
            Between inequalities "or" is not "and"; a comma is "and" where both can hold, as in
            x > 0, x < 5. A set in a set is an element. A ratio is a quotient, 12:30 too.
Branches    Each value belongs to its condition, in any order. What is given by cases is a formula
            if they agree wherever a condition holds, the ends of intervals included.
Case        Words have none; letters do that stand alone, but "type A" is "type a".
Labels      A label may be left out, then the order of several counts; two labels are compared
            whole, but y is f(x). "(C) 12" is C, and it is 12.
Commuting   Numbers and letters side by side do, and the ends of a segment AB. A run of three or
            more capitals, an arrow over two points, an angle but for its two ends, cross products,
            and matrices that are bold or have an inverse or a transpose keep their order. An arrow
            over one letter says nothing, other accents are part of the name.
Constants   Antiderivatives with one constant each, + C or + K, may differ by a number. What both
            sides declare, c ∈ ℝ, may have another name; an integer that solutions are listed by may
            start elsewhere, and x = 4k+1, k ∈ ℤ, is x ≡ 1 (mod 4).
Vectors     A tuple may be a row, a column, or ai + bj + ck, and its factor may stand before it.
Nothing     The empty set, {} and "no solution" are one. Two signs in a row (--5) and an operator
            without its operand (/4) are no answers, the last not even to itself.

How to add a form
-----------------
Say that 0.(3) should be one third. Another spelling, 0.\overline{3}, is read already, so one
rule is enough. It belongs in RULES_BEFORE, above the rule for \overline:

    rule(r"\.\(([0-9])\)", r".\\overline{\1}",
         "0.(3)", r"0.\overline{3}"),

The last two strings are the rule's example, which is also its test: tests/test_answers.py applies
every rule to its example. Then add the pair ("0.(3)", r"\frac13") to EQUAL in that file, and a
near miss, ("0.(3)", "0.3"), to DIFFERENT. Most forms need less than a rule: a macro with a
known meaning is an entry in CANONICAL, a function in FUNCTIONS, a unit in UNIT_TABLE, an operator
in INFIX. A form with a structure of its own is a function in section 3 that returns a Value (or
raises ParseError) and, if no step of section 5 compares such Values yet, a step there.
"""
from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import sympy as sp
from sympy.core.function import AppliedUndef

# Limits. Each is checked before the work that it bounds.
MAX_CHARS = 10_000          # of an answer
MAX_TOKENS = 1_000          # of an expression
MAX_DEPTH = 40              # of nested brackets
MAX_DIGITS = 1_000          # of a number as written
MAX_BITS = 200_000          # of a power
MAX_FACTORIAL = 5_000       # n in n!
MAX_ITEMS = 2_000           # of a list that is written out or matched
MAX_BRANCHES = 12           # of a function that is given by cases


class LimitExceeded(Exception):
    """The work would exceed one of the limits above."""


class ParseError(Exception):
    """The text is not in the grammar; it stays text."""


# What the work on one answer may raise; everything else is a fault of this file.
LIMIT_ERRORS = (LimitExceeded, RecursionError, MemoryError)


# --- 1. spelling: one for the many of LaTeX, unicode and words ----------------------------------

FUNCTIONS = {
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc,
    "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan,
    "arccot": lambda x: sp.atan(1 / x), "arcsec": sp.asec, "arccsc": sp.acsc,
    "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh,
    "coth": sp.coth, "sech": sp.sech, "csch": sp.csch,
    "arcsinh": sp.asinh, "arccosh": sp.acosh, "arctanh": sp.atanh,
    "arccoth": sp.acoth, "arcsech": sp.asech, "arccsch": sp.acsch,
    "ln": sp.log, "log": sp.log, "lg": lambda x: sp.log(x) / sp.log(10),
    "exp": sp.exp, "abs": sp.Abs, "sgn": sp.sign, "cbrt": sp.cbrt,
}
# asin, arsinh and argsinh are other names of arcsin and arcsinh.
FUNCTION_ALIASES = {"sign": "sgn", "signum": "sgn", "Abs": "abs"}
for name in [name for name in FUNCTIONS if name.startswith("arc")]:
    FUNCTION_ALIASES["a" + name[3:]] = name
    if name.endswith("h"):
        FUNCTION_ALIASES["ar" + name[3:]] = name
# These are read, but not worked out: two of them are equal if they are written alike, up to the
# index of a sum or a product.
UNEVALUATED = ("sum", "prod", "int", "lim")
# These have several arguments, in brackets, and their order does not count.
SYMMETRIC = ("max", "min", "gcd", "lcm")
# These have a meaning only before a bracket, and without a backslash: 5 min are minutes.
CALLED = {
    "max": "max", "min": "min", "gcd": "gcd", "lcm": "lcm",
    "floor": "floor", "ceil": "ceil", "ceiling": "ceil", "round": "round",
    "re": "Re", "im": "Im", "Re": "Re", "Im": "Im", "arg": "arg", "factorial": "factorial",
    "nCr": "binom", "binom": "binom", "binomial": "binom", "nthroot": "nthroot",
    "atan2": "atantwo",
}
ACCENTS = ("vec", "bar", "hat", "tilde", "dot", "ddot")

CANONICAL = {
    # Operators
    "−": "-", "–": "-", "－": "-", "＋": "+",
    r"\cdot": "*", r"\times": "*", r"\ast": "*", "×": "*", "·": "*", "⋅": "*",
    r"\div": "/", "÷": "/",
    r"\pm": "±", r"\mp": "∓",
    r"\bmod": '"mod"', r"\pmod": '"mod"', r"\mod": '"mod"',
    r"\land": "∧", r"\lor": "∨", r"\wedge": "∧", r"\vee": "∨",
    # Relations
    r"\le": "≤", r"\leq": "≤", r"\leqslant": "≤", "⩽": "≤",
    r"\ge": "≥", r"\geq": "≥", r"\geqslant": "≥", "⩾": "≥",
    r"\lt": "<", r"\gt": ">", r"\ne": "≠", r"\neq": "≠", r"\approx": "≈",
    r"\equiv": "≡", r"\cong": "≅", r"\sim": "∼", r"\parallel": "∥", r"\perp": "⊥",
    "＜": "<", "＞": ">", "＝": "=",
    r"\to": "→", r"\rightarrow": "→", r"\mapsto": "↦",
    r"\implies": "⇒", r"\Rightarrow": "⇒", r"\iff": "⇔", r"\Leftrightarrow": "⇔",
    # Sets
    r"\in": "∈", r"\ni": "∋", r"\notin": "∉", r"\subset": "⊂", r"\subseteq": "⊆",
    r"\supset": "⊃", r"\supseteq": "⊇", r"\subsetneq": "⊊", r"\supsetneq": "⊋",
    r"\nsubseteq": "⊈", r"\nsupseteq": "⊉",
    r"\cup": "∪", r"\cap": "∩", r"\setminus": "∖", r"\backslash": "∖",
    r"\emptyset": "∅", r"\varnothing": "∅",
    # Brackets and bars
    r"\{": "{", r"\}": "}", r"\lbrace": "{", r"\rbrace": "}",
    r"\langle": "(", r"\rangle": ")", "（": "(", "）": ")",
    r"\lfloor": "⌊", r"\rfloor": "⌋", r"\lceil": "⌈", r"\rceil": "⌉",
    r"\mid": "|", r"\vert": "|", r"\lvert": "|", r"\rvert": "|",
    # Fractions, roots and powers
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "√": r"\sqrt ",
    "²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁶": "^6", "⁷": "^7", "⁸": "^8", "⁹": "^9",
    # Constants, and signs behind a number. A bare $ delimits mathematics, so ¤ is the dollar sign.
    r"\pi": "π", r"\infty": "∞", "infinity": "∞",
    r"\circ": "°", r"\degree": "°", r"\textcirc": "°", r"\%": "%", "％": "%", r"\$": "¤",
    r"\pounds": "£", r"\euro": "€",
    # Punctuation
    r"\ldots": "…", r"\dots": "…", r"\cdots": "…", r"\colon": ":",
    "，": ",", "；": ";", "：": ":",
    r"\prime": "'", "’": "'", "′": "'",
    r"\\": "¶",                                             # the end of a matrix row
    # Letters
    r"\alpha": "α", r"\beta": "β", r"\gamma": "γ", r"\delta": "δ", r"\epsilon": "ε",
    r"\varepsilon": "ε", r"\zeta": "ζ", r"\eta": "η", r"\theta": "θ", r"\vartheta": "θ",
    r"\iota": "ι", r"\kappa": "κ", r"\lambda": "λ", r"\mu": "μ", r"\nu": "ν", r"\xi": "ξ",
    r"\rho": "ρ", r"\sigma": "σ", r"\tau": "τ", r"\upsilon": "υ", r"\phi": "φ", r"\varphi": "φ",
    r"\chi": "χ", r"\psi": "ψ", r"\omega": "ω", r"\Delta": "Δ", r"\Omega": "Ω", r"\ell": "ℓ",
    r"\Gamma": "Γ", r"\Theta": "Θ", r"\Lambda": "Λ", r"\Xi": "Ξ", r"\Phi": "Φ", r"\Psi": "Ψ",
    r"\hbar": "ħ", "ℏ": "ħ", r"\angle": "∠",
    r"\nabla": "∇", r"\imath": "i", r"\jmath": "j",
    # Accents; \overline{0.3} of a number is read before
    r"\overline": r"\bar", r"\overrightarrow": r"\vec", r"\widehat": r"\hat",
    r"\widetilde": r"\tilde",
    # Layout, which says nothing about the value
    "$": " ", "~": " ", r"\ ": " ", r"\,": " ", r"\;": " ", r"\:": " ", r"\>": " ", r"\!": " ",
    r"\quad": " ", r"\qquad": " ", r"\left": " ", r"\right": " ", r"\displaystyle": " ",
    r"\textstyle": " ", r"\limits": " ", r"\middle": " ", r"\(": " ", r"\)": " ",
    r"\[": " ", r"\]": " ",
}
for size in ("big", "Big", "bigg", "Bigg"):
    CANONICAL |= dict.fromkeys([rf"\{size}{side}" for side in ("", "l", "r", "m")], " ")


def alternation(words) -> str:
    """A pattern for any of the words; a longer one is tried before its own beginning."""
    return "|".join(sorted(words, key=len, reverse=True))


KNOWN_MACROS = [key[1:] for key in CANONICAL if re.fullmatch(r"\\[A-Za-z]+", key)]
KNOWN_MACROS += [*FUNCTIONS, *UNEVALUATED, *SYMMETRIC, *ACCENTS, "frac", "sqrt", "binom", "over",
                 "begin", "end"]
MACRO_OR_SIGN = re.compile(rf"""
    \\ (?:{alternation(KNOWN_MACROS)}) (?![A-Za-z])         # \cot
  | ( \\ (?:{alternation(KNOWN_MACROS)}) )                  # \cotx: runs into the next word
  | \\ [A-Za-z]+                                            # an unknown macro
  | \\ .                                                    # an escaped sign
  | \b infinity \b
  | .
""", re.X | re.S)

CARDINALS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
    "first": 1, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9,
}
CARDINAL = rf"(?:{alternation(CARDINALS)})\b"
AFTER_DIGITS = re.compile(r"[0-9](?:[ ~]|\\[, ]|\\(?:text|textrm|mathrm|mbox)\{)+$")
NUMBER_WORDS = re.compile(rf"""
    (?<![A-Za-z\\"]) {CARDINAL}
    (?: (?: [ ] | - | (?<=hundred)[ ]and[ ] | (?<=thousand)[ ]and[ ] ) {CARDINAL} )*
""", re.I | re.X)

class Unit(NamedTuple):
    """A unit of measure: how many of which base it is, and its other names."""
    base: str
    factor: sp.Expr
    aliases: str = ""


def one(of: str, factor: int | str = 1, aliases: str = "") -> Unit:
    """One unit is `factor` of the base."""
    return Unit(of, sp.Rational(factor), aliases)


# Two units with one base are convertible, two with different bases are different answers. "pound"
# is money or a weight, whichever the other side says.
UNIT_TABLE = {
    # Money
    "dollar": one("dollar", 1, "dollars usd bucks"), "cent": one("dollar", "1/100", "cents"),
    "euro": one("euro", 1, "euros eur"), "sterling": one("sterling", 1, "gbp"),
    "yuan": one("yuan", 1, "rmb"), "yen": one("yen", 1, "jpy"),
    "rupee": one("rupee", 1, "rupees"),
    # Length. Areas and volumes are powers of one.
    "meter": one("meter", 1, "meters metre metres m"),
    "kilometer": one("meter", 1000, "kilometers kilometre kilometres km"),
    "centimeter": one("meter", "1/100", "centimeters centimetre centimetres cm"),
    "millimeter": one("meter", "1/1000", "millimeters mm"),
    "inch": one("meter", "0.0254", "inches"), "foot": one("meter", "0.3048", "feet ft"),
    "yard": one("meter", "0.9144", "yards yd"), "mile": one("meter", "1609.344", "miles mi"),
    "liter": one("liter", 1, "liters litre litres L"),
    "milliliter": one("liter", "1/1000", "milliliters ml mL"),
    # Time
    "second": one("second", 1, "seconds s"), "minute": one("second", 60, "minutes min mins"),
    "hour": one("second", 3600, "hours h hr hrs"), "day": one("second", 86400, "days"),
    "week": one("second", 604800, "weeks"), "month": one("month", 1, "months"),
    "year": one("month", 12, "years"),
    # Weight
    "gram": one("gram", 1, "grams g gm"), "kilogram": one("gram", 1000, "kilograms kg"),
    "milligram": one("gram", "1/1000", "milligrams mg"),
    "pound": one("gram", "453.59237", "pounds"), "lb": one("gram", "453.59237", "lbs"),
    "ounce": one("gram", "28.349523125", "ounces oz"), "ton": one("ton", 1, "tons"),
    # Other quantities
    "joule": one("joule", 1, "joules J"), "newton": one("newton", 1, "newtons N"),
    "watt": one("watt", 1, "watts W"), "volt": one("volt", 1, "volts V"),
    "kelvin": one("kelvin", 1, "K"), "percent": one("percent", 1, "pct percentage"),
    "mph": one("mph"), "degree": Unit("radian", sp.pi / 180, "degrees deg"),
    "radian": one("radian", 1, "radians rad"), "unit": one("unit", 1, "units"),
}
UNITS = {}                          # any of the names -> the canonical one
for name, unit in UNIT_TABLE.items():
    UNITS |= dict.fromkeys([name, *unit.aliases.split()], name)
CURRENCIES = {"¤": "dollar", "€": "euro", "£": "sterling", "₹": "rupee"}
# Words for the power of a unit: of the next one, or of the one before.
POWER_WORDS = {"square": 2, "sq": 2, "cubic": 3, "squared": 2, "cubed": 3}
FRACTION_WORDS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4,
    "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7,
    "eighth": 8, "eighths": 8, "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10,
}

# Words that hedge, deny, compare or compute: with one of them, text is no value with a unit.
NEVER_UNITS = set("""
    not no is are was and or but except maybe possibly perhaps probably never than less more plus
    minus times half dozen score twice double past short of wrong incorrect if either neither all
    any true false quarter without unless undefined between at""".split()) | set(FRACTION_WORDS)

# Neither are these of a name: "p prime" says which p is meant.
NEVER_OF_NAMES = set("even odd prime positive negative integer natural rational real".split())

# Letters side by side are a product, as in xy. Exceptions are the names of functions, these short
# words, and whatever has four letters or more. Milligrams and milliliters stand behind a number and
# before no factor: mg/2 is half a weight.
FUNCTION_NAME = rf"(?:{alternation([*FUNCTIONS, *FUNCTION_ALIASES, 'sqrt', 'pi'])})"
CALLED_NAME = rf"(?:{alternation(CALLED)})(?=[ ]?[({{])"
GREEK = {key[1:]: letter for key, letter in CANONICAL.items()
         if re.fullmatch("[α-ω]", letter) and len(key) > 3 and not key.startswith(r"\var")}
SHORT_WORD = alternation([
    "is", "are", "and", "or", "mod", "not", "no", "yes", "odd", "the", "of", "to", "per", "all",
    "any", "for", "if", "iff", "nan", "one", "two", "six", "ten",
    *(name for name in UNITS if len(name) in (2, 3) and name not in ("mg", "ml", "mL"))])
SHORT_WORD = rf"""(?: {SHORT_WORD}
    | (?: (?<=[0-9]) | (?<=[0-9][ ]) ) m[glL] (?! [ ]?[\^}}\\(A-Za-z] ) )"""

WRAPPER = re.compile(r"""
    \\ ( text(?:bf|it|rm|normal)? | mbox | math(?:rm|bf|it|sf) | operatorname | boldsymbol )
    [ ]? \{ ([^{}"]*) \}
""", re.X)
ONE_LETTER_UNIT = alternation(name for name in UNITS if len(name) == 1)
UNIT_NAME = rf"(?:{alternation(UNITS)})"
UNIT_FORMULA = re.compile(rf"""                             # kg m/s^2
    [ ]* {UNIT_NAME} (?: [ ]* [*/^] [ ]* (?:{UNIT_NAME}|-?[0-9]) | [ ]+ {UNIT_NAME} )* [ ]*
""", re.X)
WORD = re.compile(rf"(?<![\\A-Za-z])(?:[A-Za-z]{{2,}}|\b(?:{ONE_LETTER_UNIT})\b)")


class Rule(NamedTuple):
    """One rewriting step, with an example of what it does."""
    pattern: re.Pattern
    replacement: str | Callable[[re.Match], str]
    before: str
    after: str
    needs: str                      # a piece that a text must have for the pattern to match


def rule(pattern: str, replacement, before: str, after: str, needs: str = "") -> Rule:
    """A Rule. Case and blanks in the pattern do not count: a blank to be matched is [ ].

    needs is only for speed: most texts lack it, and looking for it is cheaper than the pattern.
    """
    return Rule(re.compile(pattern, re.I | re.X), replacement, before, after, needs)


def blackboard_letter(match: re.Match) -> str:
    r"""\mathbb{R} -> ℝ"""
    return {"R": "ℝ", "Z": "ℤ", "N": "ℕ", "Q": "ℚ", "C": "ℂ"}[match[1].upper()]


def matrix_product(match: re.Match) -> str:
    r"""\mathbf{A}\mathbf{B} -> \mathbf{AB}"""
    return rf"\mathbf{{{''.join(re.findall(r'{([A-Z])}', match[0]))}}}"


def matrices_in_order(match: re.Match) -> str:
    """AB^{-1} -> "AB^-1"; AB^{2} is not matched"""
    return '"' + re.sub(r"[ {}]", "", match[0]) + '"'


NEGATED = {"=": "≠", "∈": "∉", "⊂": "⊄", "⊆": "⊈", "⊃": "⊅", "⊇": "⊉", "≡": "≢", "∥": "∦"}


def negated_relation(match: re.Match) -> str:
    r"""\not= -> ≠"""
    return NEGATED[match[1]]


def spelled_greek(match: re.Match) -> str:
    """beta -> β"""
    return GREEK[match[0].lower()]


def unbox(match: re.Match) -> str:
    r"""\boxed{\frac{1}{2}} -> \frac{1}{2}; \boxed{1}+\boxed{2} stays"""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", match[1]):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return match[0]
    return match[1]


def inner_sets(match: re.Match) -> str:
    r"""\{\{1\},2\} -> \{⦃1⦄,2\}: a set in brackets is an element; plain braces only group."""
    depth = 0
    out = ""
    for piece in re.split(r"(\\[{}]|(?<!\\)[()\[\]])", match[0]):
        if piece in (r"\}", ")", "]"):
            depth -= 1
        if depth < 0:
            return match[0]
        is_inner = depth > 0 and piece in (r"\{", r"\}")
        out += {r"\{": "⦃", r"\}": "⦄"}[piece] if is_inner else piece
        if piece in (r"\{", "(", "["):
            depth += 1
    return out if depth == 0 else match[0]


def circled_numerals(match: re.Match) -> str:
    """②③ -> 2,3"""
    return ",".join(str(ord(sign) - ord("①") + 1) for sign in match[0])


def french_interval(match: re.Match) -> str:
    """]2,5[ -> (2,5); ]2,5] -> (2,5]; [2,5] stays"""
    left = "(" if match["left"] == "]" else "["
    right = ")" if match["right"] == "[" else "]"
    return left + match["ends"] + right


def repeating_decimal(match: re.Match) -> str:
    r"""0.1\overline{6} -> \frac{15}{90}, which is (16 - 1) / 90; one atom, so that a sign before it
    is the sign of all of it
    """
    before = match["whole"] + match["start"]                # the digits before the period
    period = match["period"]
    if len(before + period) > MAX_DIGITS:
        return match[0]                                     # it stays text
    numerator = int(before + period) - int(before or "0")
    denominator = "9" * len(period) + "0" * len(match["start"])
    return rf"\frac{{{numerator}}}{{{denominator}}}"


UP_TO_NINE = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SMALL_CARDINAL = rf"(?:{alternation(UP_TO_NINE)})"


def fraction_in_words(match: re.Match) -> str:
    """two thirds -> 2/3; two and three quarters -> 2 3/4"""
    whole = match["whole"] or ""
    count = CARDINALS.get(match["count"].lower(), 1)
    fraction = f"{count}/{FRACTION_WORDS[match['part'].lower()]}"
    return f"{CARDINALS.get(whole.lower(), whole)} {fraction}" if whole else fraction


# Applied first, to the text as the model wrote it, in this order.
RULES_BEFORE = [
    # "\f" and "\t" that JSON took for a form feed and a tab
    rule(r"\x0c (?=rac)", r"\\f",
         "\x0crac{1}{2}", r"\frac{1}{2}", "\x0c"),
    rule(r"\t (?=ext|imes|heta|frac)", r"\\t",
         "3 \x09imes 4", r"3 \times 4", "\t"),
    rule(r"\s+", " ",
         "1,\n 2", "1, 2"),
    # a box around everything
    rule(r"""^ [$ ]* (?: \\\[ | \\\( )? [ ]? (?: \\displaystyle [ ]? )? \\boxed [ ]? \{ (.*) \}
             [$ .]* (?: \\\] | \\\) )? [$ .]* $""", unbox,
         r"$$\boxed{\frac{1}{2}}.$$", r"\frac{1}{2}", r"\boxed"),
    rule(r"\\mathbb [ ]? \{? ([RZNQC]) \}?", blackboard_letter,
         r"\mathbb{R}", "ℝ", r"\mathbb"),
    # words for a simple fraction
    rule(rf"""(?<![A-Za-z0-9.\\]) (?<!ty[ -]) (?<!and[ ]) (?<!hundred[ ]) (?<!thousand[ ])
              (?: (?P<whole>{SMALL_CARDINAL}|[0-9]{{1,6}}) [ ] and [ ] )?
              (?P<count>{SMALL_CARDINAL}|a(?=[ -](?:half|quarter|third)))
              [ -] (?P<part>{alternation(FRACTION_WORDS)}) (?![A-Za-z])""", fraction_in_words,
         "two and three quarters", "2 3/4"),
    # a determinant, a system, a matrix: brackets of the last say nothing
    rule(r"\\begin [ ]? \{ vmatrix \}", "|⟦",
         r"\begin{vmatrix}1&2\end{vmatrix}", r"|⟦1&2\end{vmatrix}", r"\begin"),
    rule(r"\\end [ ]? \{ vmatrix \}", "⟧|",
         r"|⟦1&2\end{vmatrix}", "|⟦1&2⟧|", r"\end"),
    rule(r"""\\left [ ]? \\\{ [ ]? \\begin [ ]? \{ (array|matrix|aligned|gathered) \} [ ]?
             (?: \{[lcr|\ ]*\} )? (.*?) \\end [ ]? \{ \1 \} [ ]? \\right [ ]? \.""", r"⟪\2⟫",
         r"\left\{\begin{array}{l}x=1\\y=2\end{array}\right.", r"⟪x=1\\y=2⟫", r"\right"),
    rule(r"\\begin [ ]? \{ d?cases \}", "⟪",
         r"\begin{cases}x=1\\y=2\end{cases}", r"⟪x=1\\y=2\end{cases}", r"\begin"),
    rule(r"\\end [ ]? \{ d?cases \}", "⟫",
         r"⟪x=1\\y=2\end{cases}", r"⟪x=1\\y=2⟫", r"\end"),
    rule(r"\\(?:begin|end) [ ]? \{ (?:aligned|gathered|align\*?) \}", " ",
         r"\begin{aligned}x=1\\y=2\end{aligned}", r" x=1\\y=2 ", r"\end"),
    rule(r"\\begin [ ]? \{ (?: [pb]?matrix \} | array \} [ ]? \{[lcr|\ ]*\} )", "⟦",
         r"\begin{array}{cc}1&2\end{array}", r"⟦1&2\end{array}", r"\begin"),
    rule(r"\\end [ ]? \{ (?:[pb]?matrix|array) \}", "⟧",
         r"⟦1&2\end{pmatrix}", "⟦1&2⟧", r"\end"),
    # sets in sets
    rule(r"^ .+ $", inner_sets,
         r"\{\{1\},2\}", r"\{⦃1⦄,2\}", r"\{"),
    # a comma that separates thousands, and nothing else
    rule(r"(?<!\\) , [ ]? \\!", "{,}",
         r"5,\!000", "5{,}000", r"\!"),
    rule(r"""\. ([0-9]*) \\dot [ ]? \{? ([0-9]) \}? [ ]?        # dots over the first digit
             ([0-9]*) [ ]? \\dot [ ]? \{? ([0-9]) \}?           # of a period and its last
          """, r".\1\\overline{\2\3\4}",
         r"0.\dot{1}2\dot{3}", r"0.\overline{123}", r"\dot"),
    rule(r"\. ([0-9]*) \\dot [ ]? \{? ([0-9]) \}?", r".\1\\overline{\2}",
         r"0.1\dot{6}", r"0.1\overline{6}", r"\dot"),
    rule(r"(?P<whole>[0-9]*) \. (?P<start>[0-9]*) \\overline [ ]? \{ (?P<period>[0-9]+) \}",
         repeating_decimal,
         r"-0.1\overline{6}", r"-\frac{15}{90}", r"\overline"),
    # a letter in bold or upright without braces
    rule(r"\\ (math(?:bf|rm|it|sf)) [ ]+ ([A-Z]) (?![A-Z])", r"\\\1{\2}",
         r"2\mathbf i", r"2\mathbf{i}", r"\math"),
    rule(r"\\ (?:operatorname|mathrm|mathbb) [ ]? \{ (?-i:E) \}", "E ",
         r"\mathbb{E}[X]", "E [X]", "{E}"),
    # what does not commute: a product of bold matrices is one word, a cross product a function
    rule(r"(?: \\ (?:mathbf|boldsymbol|bm) [ ]? \{(?-i:[A-Z])\} [ ]? ){2,}", matrix_product,
         r"\mathbf{A}\mathbf{B}", r"\mathbf{AB}", "}"),
    rule(r"""( \\nabla | \\ (?:vec|overrightarrow|mathbf|boldsymbol|bm) [ ]?
               (?: \{[^{}]*\} | [A-Z] ) ) [ ]?
             (?: \\times (?![A-Z]) | × ) [ ]?
             ( \\ (?:vec|overrightarrow|mathbf|boldsymbol|bm) [ ]? (?: \{[^{}]*\} | [A-Z] ) )""",
         r"\\cross{\1}{\2}",
         r"\vec{a}\times\vec{b}", r"\cross{\vec{a}}{\vec{b}}", "\\"),
    # f∘g; after a number, or raised, \circ means degrees
    rule(r"(?<=[A-Za-z)]) [ ]? \\circ (?![A-Za-z]) [ ]? (?=[A-Za-z(])", "∘",
         r"f \circ g", "f∘g", r"\circ"),
    # several circled numerals are a list; one alone stays text
    rule(r"[①-⑳]{2,}", circled_numerals,
         "②③", "2,3"),
    # HTML
    rule(r"<sup> ([^<>]*) </sup>", r"^{\1}",
         "3<sup>x</sup>", "3^{x}", "<sup"),
    rule(r"<sub> ([^<>]*) </sub>", r"_{\1}",
         "x<sub>1</sub>", "x_{1}", "<sub"),
]

# Applied next, again and again: one letter under an arrow, a unit vector and a segment need no
# accent.
ACCENT_RULES = [
    rule(r"(?<= \\vec | \\hat ) [ ]* \{ [ ]* \{ [ ]* ([A-Zα-ω]) [ ]* \} [ ]* \}", r"{\1}",
         r"\hat{{i}}", r"\hat{i}", "{"),
    rule(r"\\vec [ ]* (?: \{ [ ]* ([A-Zα-ω]) [ ]* \} | ([A-Zα-ω]) (?![A-Z]) )", r" \1\2 ",
         r"2\vec{v}", "2 v ", r"\vec"),
    rule(r"\\hat [ ]* (?: \{ [ ]* ([ijk]) [ ]* \} | ([ijk]) (?![A-Z]) )", r" \1\2 ",
         r"2\hat{j}", "2 j ", r"\hat"),
    rule(r"\\bar [ ]* \{ [ ]* ((?-i:[A-Z][ ]?[A-Z])) [ ]* \}", r" \1 ",
         r"2\bar{AB}", "2 AB ", r"\bar"),
]

# Applied last, after CANONICAL, the number words and the wrappers, in this order.
RULES = [
    # signs as they are typed
    rule(r"\*\*+", "^",
         "x**2", "x^2", "**"),
    rule(r"\.{3,}", "…",
         "1, ..., 5", "1, …, 5", "..."),
    rule(r"<=+", "≤",
         "x<=2", "x≤2", "<="),
    rule(r">=+", "≥",
         "x>=2", "x≥2", ">="),
    rule(r'(?<![0-9})"]) !=+', "≠",                         # but 3!=6 is a factorial
         "x !=2", "x ≠2", "!="),
    rule(r"={2,}", "=",
         "x==2", "x=2", "=="),
    rule(r"[ ]? \{ [ ]? , [ ]? \} [ ]?", "{,}",
         "5 {, } 000", "5{,}000", ","),
    rule(r"\\not [ ]? ([=∈⊂⊆⊃⊇≡∥])", negated_relation,
         r"A \not ⊂ B", "A ⊄ B", r"\not"),
    rule(r"(?<![A-Za-z\\]) oo (?![A-Za-z])", "∞",
         "(-oo, 3)", "(-∞, 3)", "oo"),
    rule(rf"(?<![\\\"A-Za-z]) (?:{alternation(GREEK)}) (?![A-Za-z\"])", spelled_greek,
         "2 beta", "2 β"),
    rule(r"(?<=[0-9]) [ ] secs? (?![A-Za-z(\\ ])", ' "second"',
         "5 sec", '5 "second"', "sec"),
    # primes
    rule(r"\^ [ ]? \{ [ ]? ('+) [ ]? \}", r"\1",
         "ω_{L}^{'}", "ω_{L}'", "'"),
    rule(r"\^ [ ]? ('+)", r"\1",
         "f^'", "f'", "'"),
    # a product of capitals with an inverse or a transpose is one of matrices, and one word
    rule(r"""(?<![A-Za-z\\"^_{]) (?= (?-i:[A-Z\ ])* \^ ) (?: (?-i:[A-Z]) [ ]?
             (?: \^ [ ]? (?: \{ [ ]? (?:-[ ]?1|(?-i:T)) [ ]? \} | (?-i:T) ) [ ]? )? ){2,}
             (?![A-Za-z^_(])""",
         matrices_in_order,
         "AB^{-1}", '"AB^-1"', "^"),
    # engineers' imaginary unit, where it can be nothing else
    rule(r"^ (-? [0-9.]+ [ ]? [-+] [ ]? [0-9.]*) [ ]? \*? [ ]? j $", r"\1i",
         "3+4j", "3+4i", "j"),
    # words stand in quotes from here on
    rule(rf"""(?<![\\"A-Za-z]) (?! {CALLED_NAME} )
              (?: (?-i: (?!{FUNCTION_NAME}\b) (?=[A-Za-z]*[a-z]) [A-Za-z]{{4,}} ) | {SHORT_WORD} )
              (?![A-Za-z"])""", r'"\g<0>"',
         "5 miles or 3 km", '5 "miles" "or" 3 "km"'),
    rule(r'^ (?: "there" [ ] "(?:is|are)" [ ] )? "no" [ ] "solutions?" [ .]* $', "∅",
         '"no" "solution"', "∅", "solution"),
    rule(r'^ "(?:all|any|every)" [ ] (?: "real" [ ] "numbers?" | "reals" ) $', "ℝ",
         '"all" "real" "numbers"', "ℝ", "real"),
    rule(r'^ (?: "the" [ ] )? (?: "limit" [ ] )? "does" [ ] "not" [ ] "exist" [ .]* $', "DNE",
         '"The" "limit" "does" "not" "exist"', "DNE", "exist"),
    rule(r"""^ (?: "(?:the|this|it|given|infinite|improper|series|integral|sequence|is)" [ ] )*
             "(di|con)ver(?:ges|gent)" [ .]* $""", r'"\1vergent"',
         '"The" "series" "diverges"', '"divergent"', "verge"),
    rule(r'^ "infinitely" [ ] "many" (?: [ ] "solutions" )? [ .]* $', "∞",
         '"infinitely" "many"', "∞", "many"),
    # signs behind a number
    rule(r"(?:\^[ ]?)+ (?: ° | \{[ ]?°[ ]?\} )", "°",
         "45^{°}", "45°", "°"),
    rule(r'(?<=[0-9]) \^? [ ]? \{? [ ]? "? (?:st|nd|rd|th) \b "? [ ]? \}?', "",
         '12^{ "th" }', "12"),
    # fractions and binomials
    rule(r"\{ ([^{}]*) \\over\b ([^{}]*) \}", r"\\frac{\1}{\2}",
         r"{1 \over 2}", r"\frac{1 }{ 2}", r"\over"),
    rule(r"\{ ([^{}]*) \\choose\b ([^{}]*) \}", r"\\binom{\1}{\2}",
         r"{5 \choose 2}", r"\binom{5 }{ 2}", r"\choose"),
    # derivatives and constant functions
    rule(r"""\\frac [ ]? \{ [ ]? (?:d|\{d\}) [ ]? y [ ]? \} [ ]? \{ [ ]? (?:d|\{d\}) [ ]? x [ ]? \}
           | (?<![A-Za-z\\]) dy [ ]? / [ ]? dx (?![A-Za-z])""", "y'",
         r"\frac{dy}{dx}", "y'", "y"),
    rule(r"(?<![A-Za-z\\_^]) ([fgh]) (?: \(x\) )? [ ]? ≡ (?! .* mod)", r"\1(x)=",
         "f ≡ 0", "f(x)= 0", "≡"),
    # minutes of arc
    rule(r"([0-9]+) [ ]? ° [ ]? ([0-9]+ (?:\.[0-9]+)?) [ ]? ' (?!')", r"(\1+\2/60)°",
         "22° 30'", "(22+30/60)°", "'"),
    # the bracket of a choice
    rule(r"^ ([A-Z]) \) [ .,;:^]* $", r"\1",
         "B).", "B", ")"),
    rule(r"^ ([A-H]) [.)] [ ] (?= [^ .,;:] )", r"(\1) ",
         "B. 42", "(B) 42", " "),
    # fractions without braces, and mixed numbers
    rule(r"\\ (frac|binom) [ ]? ([0-9])", r"\\\1{\2}",
         r"\frac12", r"\frac{1}2", "\\"),
    rule(r"""(?<![\w.^}]) ([0-9]+) [ ]? \\frac [ ]? \{([0-9]+)\} [ ]?
             (?: \{ ([0-9]+) \} | ([0-9]+) )""",
         r"(\1+\\frac{\2}{\3\4})",
         r"1\frac{1}2", r"(1+\frac{1}{2})", r"\frac"),
    rule(r"(?<![\w.^}/]) ([0-9]+) [ ] ([0-9]+/[0-9]+) (?![0-9])", r"(\1+\2)",
         "1 1/2", "(1+1/2)", "/"),
    # a number in another base is a word: it equals what is written alike, and no number
    rule(r'(?<!["\w^]) \(? ([0-9]+) \)? _ [ ]? \{? [ ]? \(? ([0-9]+) \)? [ ]? \}?', r'"\1_\2"',
         "(25)_{6}", '"25_6"', "_"),
    # French intervals
    rule(r"""(?: ^ | (?<=[∪∈=,\ ]) )
             (?P<left>[\][]) (?P<ends> [^][(),;]+ [,;] [^][(),;]+ ) (?P<right>[\][])""",
         french_interval,
         "]2,5[ ∪ [7,9[", "(2,5) ∪ [7,9)", ","),
    # leftovers
    rule(r"\.+ (?= [ ]? [\])])", "",
         "(1, 2.)", "(1, 2)", "."),
    rule(r"[ ]+", " ",
         "1,   2", "1, 2", "  "),
]


def canonical_spelling(match: re.Match) -> str:
    r"""\cdot -> *; a macro that runs into the next word is set apart: the \cot of \cotx -> \cot_"""
    spelling = CANONICAL.get(match[0], match[0])
    return spelling + " " if match[1] else spelling


def read_number_words(match: re.Match) -> str:
    """one hundred and five -> 105; words that do not make one number stay: five six -> five six

    One word after a number in digits multiplies it: 5 million -> 5 *1000000
    """
    scale = CARDINALS.get(match[0].lower(), 0)
    if scale >= 100 and AFTER_DIGITS.search(match.string, match.start() - 20, match.start()):
        return f"*{scale}"

    total = 0
    part = 0                        # what a following "thousand" or "million" multiplies
    for word in re.findall(CARDINAL, match[0].lower()):
        value = CARDINALS[word]
        if value >= 100:
            part = max(part, 1) * value
        else:
            complete = part % 10 or part % 100 == 10        # nothing follows "five" or "ten"
            if complete or (value > 9 and part % 100):      # nor does "thirty" follow "twenty"
                return match[0]
            part += value
        if value > 100:
            total += part
            part = 0
    return str(total + part)


def unwrap(match: re.Match) -> str:
    r"""\text{5 cm} -> 5 "cm"; \mathrm{AB} -> "AB"; \mathbf{17} -> {17}; \operatorname{sin} -> \sin

    Only text has words, and units after a number. A function may be named in any of the macros.
    """
    macro, content = match.groups()
    function = FUNCTION_ALIASES.get(content.strip(), content.strip())
    if function in FUNCTIONS and function not in UNITS:
        return rf"\{function} "
    if macro == "operatorname" and function in (*SYMMETRIC, *UNEVALUATED, *CALLED):
        return rf"\{CALLED.get(function, function)} "
    is_prose = macro.startswith(("text", "mbox")) or re.fullmatch(r"[A-Za-z .]{2,}", content)
    if not (is_prose or is_unit(match)):
        return f"{{{content}}}"
    return " " + WORD.sub(r'"\g<0>"', content) + " "


def is_unit(match: re.Match) -> bool:
    r"""Is it the \mathrm{g} of 450 \mathrm{g}: units after a number, and no factor after them?"""
    macro, content = match.groups()
    before = match.string[max(match.start() - 3, 0):match.start()].rstrip(" }")
    after = match.string[match.end():match.end() + 3].lstrip()
    is_last_factor = not re.match(r"[A-Za-z0-9(]", after)
    is_of_units = macro == "mathrm" and UNIT_FORMULA.fullmatch(content) is not None
    return is_of_units and before[-1:].isdecimal() and is_last_factor


@functools.lru_cache(maxsize=8192)
def normalize(text: str) -> str:
    r"""The one spelling of an answer; idempotent.

    $\dfrac{1}{2}$ \text{ dollars}  ->  \frac{1}{2} "dollars"

    Raises LimitExceeded for an answer of more than MAX_CHARS characters.
    """
    for step in RULES_BEFORE:
        if step.needs in text:
            text = step.pattern.sub(step.replacement, text)
    if len(text) > MAX_CHARS:
        raise LimitExceeded(f"an answer of more than {MAX_CHARS} characters")

    text = MACRO_OR_SIGN.sub(canonical_spelling, text)
    text = NUMBER_WORDS.sub(read_number_words, text)
    while WRAPPER.search(text):                             # from the inside out
        text = WRAPPER.sub(unwrap, text)

    before = ""
    while "\\" in text and before != text:
        before = text
        for step in ACCENT_RULES:
            text = step.pattern.sub(step.replacement, text)

    text = re.sub(r" +", " ", text).strip()
    for step in RULES:
        if step.needs in text:
            text = step.pattern.sub(step.replacement, text)
    return text.strip(" ").rstrip(" .,;:^")


DOUBLED_ESCAPE = re.compile(rf"(?<!\\)\\\\(?=(?:{alternation(KNOWN_MACROS)})(?![A-Za-z]))")
BOX_START = re.compile(r"\\boxed\s*\{")
WORDS = re.compile(r"[^\W\d_]{3}")


@functools.lru_cache(maxsize=8192)
def bare_reference(reference: str) -> str:
    r"""A reference without what its data set has wrapped around it.

    The answer is \boxed{5}.  ->  5         of a sentence with boxes, what is in them
    \\frac12, \\left(         ->  \frac12   backslashes that were escaped twice

    For references only: a model's answer is judged as it stands.
    """
    if DOUBLED_ESCAPE.search(reference) and not re.search(r"(?<!\\)\\begin", reference):
        reference = reference.replace("\\\\", "\\")

    contents = []
    outside = ""
    at = 0
    for box in BOX_START.finditer(reference):
        end = closing_brace(reference, box.end())
        if box.start() >= at and end is not None:
            outside += reference[at:box.start()]
            contents.append(reference[box.end():end - 1])
            at = end
    outside += reference[at:]
    has_words = WORDS.search(re.sub(r"\\[A-Za-z]+", "", outside))
    return " , ".join(contents) if contents and has_words else reference


ESCAPE_OR_BRACE = re.compile(r"\\.|[{}]", re.S)


def closing_brace(text: str, at: int) -> int | None:
    """The position after the brace that closes a group; `at` is the position after its opening."""
    depth = 1
    for match in ESCAPE_OR_BRACE.finditer(text, at):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
        if depth == 0:
            return match.end()
    return None


# --- 2. tokens, with brackets nested ------------------------------------------------------------

TOKEN = re.compile(rf"""
    (?P<number>
      (?: (?: [1-9][0-9]{{0,2}} (?:(?:\{{,\}}|[ ])[0-9]{{3}})+ (?![0-9])    # 12{{,}}500, 12 500
            | [0-9]+ )
          (?:\.[0-9]*)?
        | \.[0-9]+ )
      (?:[eE][+-]?[0-9]+(?![A-Za-z0-9.]))? )                                # 1.5e-3
  | "(?P<word>[^"]*)"
  | \\(?P<function>[A-Za-z]+)
  | (?P<bare_function>{FUNCTION_NAME})(?![A-Za-z])
  | (?P<called>{CALLED_NAME})
  | (?P<blank>[ ])
  | (?P<angle>∠[ ]?[A-Z](?:[ ]?[A-Z]){{0,2}}(?![A-Za-z]))                   # ∠ABC
  | (?P<symbol> (?<![A-Za-z])[A-Z]{{3,}}(?![A-Za-z])                        # ABCD, in this order
      | (?<![A-Za-z0-9])[A-DF-Za-df-hj-z][0-9]+                             # R1, but not n2^n
        (?! [A-Za-z0-9.] | \^[ ]?[{{(]?[ ]?[A-Za-z])
      | [A-Za-zα-ορ-ωΓΔΘΛΞΦΨΩℓħ∠])
  | (?P<operator>\\.|!!|.)
""", re.X)
OPENING = frozenset("([{⦃⟪⌊⌈⟦")
CLOSING = frozenset(")]}⦄⟫⌋⌉⟧")


class Token(NamedTuple):
    kind: str                       # number, word, function, symbol, operator; or group
    text: str                       # of a group: its two brackets
    inner: tuple[Token, ...] = ()   # of a group: what stands between them


COLON = Token("operator", ":")
COMMA = Token("operator", ",")
MOD = Token("operator", "mod")
EQUALS = Token("operator", "=")
SEMICOLON = Token("operator", ";")
AMPERSAND = Token("operator", "&")
WORD_TO = Token("word", "to")       # 3 to 1 is 3:1
# Between relations; between letters they stay signs.
LOGICAL_WORDS = {"∧": Token("operator", "and"), "∨": Token("operator", "or")}


def tokenize(text: str) -> list[Token]:
    """The tokens of a normalized answer; what stands in brackets becomes one group token.

    2(x+1)  ->  number 2, group "()" [symbol x, operator +, number 1]
    (1,2]   ->  group "(]" [number 1, operator ",", number 2]: any bracket may close any other
    |x|     ->  group "||" [symbol x]
    (1      ->  operator "(", number 1: a bracket or bar without a partner is an ordinary sign
    """
    tokens = []                     # of the innermost open group
    outer = []                      # a stack of (opening sign, the tokens before it), open groups

    def close_innermost(closing: str) -> None:
        nonlocal tokens
        opening, before = outer.pop()
        before.append(Token("group", opening + closing, tuple(tokens)))
        tokens = before

    def demote_innermost() -> None:
        """Nothing closes the innermost group: its opening sign is an ordinary one."""
        nonlocal tokens
        opening, before = outer.pop()
        before.append(Token("operator", opening))
        tokens = before + tokens

    for match in TOKEN.finditer(text):
        if match.lastgroup == "blank":
            continue
        token = read_token(match.lastgroup, match[match.lastgroup])
        sign = token.text if token.kind == "operator" else ""

        if sign in CLOSING and any(opening != "|" for opening, _ in outer):
            while outer[-1][0] == "|":                      # (|x): the bar was never closed
                demote_innermost()
            close_innermost(sign)
        elif sign == "|" and tokens and outer and outer[-1][0] == "|":
            close_innermost(sign)
        elif sign == "|" or sign in OPENING:
            if len(outer) == MAX_DEPTH:
                raise LimitExceeded(f"more than {MAX_DEPTH} nested brackets")
            outer.append((sign, tokens))
            tokens = []
        else:
            tokens.append(token)

    while outer:
        demote_innermost()
    return tokens


def read_token(kind: str, text: str) -> Token:
    """The Token of one match of TOKEN."""
    if kind == "number":
        return Token("number", plain_number(text))
    if kind == "word" and text.lower() in ("and", "or", "mod"):
        return Token("operator", text.lower())
    if kind == "bare_function":                             # without its backslash
        if text == "pi":
            return Token("operator", "π")
        return Token("function", FUNCTION_ALIASES.get(text, text))
    if kind == "called":
        return Token("function", CALLED[text])
    if kind == "angle":                                     # ∠CBA is ∠ABC
        letters = text.replace(" ", "")[1:]
        return Token("symbol", "∠" + min(letters, letters[::-1]))
    return Token(kind, text)


def plain_number(text: str) -> str:
    """12{,}500.50E3 -> 12500.5e3: without separators and trailing zeros"""
    digits, e, exponent = re.sub(r"[ ,{}]", "", text.lower()).partition("e")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".") or "0"
    return digits + e + exponent


def render(tokens) -> str:
    """The text of tokens, with a blank only between two numbers or two words."""
    out = ""
    previous = ""
    for kind, text, inner in tokens:
        if kind == previous and kind in ("number", "word"):
            out += " "
        if kind == "group":
            out += text[0] + render(inner) + text[1]
        else:
            out += text
        previous = kind
    return out


def split_at(tokens, operators) -> tuple[list[list[Token]], tuple[str, ...]]:
    """The pieces between any of the operators, and the operators found: 1 ≤ x -> [1], [x]; ≤"""
    pieces = [[]]
    found = []
    for token in tokens:
        if token.kind == "operator" and token.text in operators:
            pieces.append([])
            found.append(token.text)
        else:
            pieces[-1].append(token)
    return pieces, tuple(found)


# --- 3. values: what the tokens mean ------------------------------------------------------------

class Value(NamedTuple):
    """What an answer, or a part of one, reads as."""
    # number, text, group, relation, sets, choice; piecewise, of branches; branch, of a value and
    # its condition
    kind: str
    source: str                     # normalized: the first thing that is compared
    expr: sp.Expr | None = None     # number: a sympy object
    unit: str = ""                  # number: "percent", "degree", or the words after it
    places: int = 0                 # number: decimals as written, for the rounding rule
    # group: its brackets, "()", "(]" or "{}"; "" for a bare list, "matrix2" for two columns, ":"
    # for a ratio of three or more, "mod" for 5 (mod 7), "case" for the labeled items of one of
    # several solutions
    shape: str = ""
    ops: tuple[str, ...] = ()       # the signs between the parts of relations, sets and lists
    parts: tuple[Value, ...] = ()


PERCENT, DEGREE, PLUS_MINUS = sp.symbols("% ° ±")
IMAGINARY = sp.Symbol("i")          # a symbol: i^2 is an unevaluated copy of -1, not accepted
CONSTANTS = {
    "π": sp.pi, "∞": sp.oo,
    "ℝ": sp.Symbol("ℝ"), "∅": sp.Symbol("∅"), "…": sp.Symbol("…"),
}

RELATIONS = "=<>≤≥≠≈∈∋∉∌⊂⊃⊆⊇⊄⊅⊈⊉⊊⊋∥∦⊥≅∼≡≢"
INEQUALITIES = frozenset("<>≤≥≠")

# The left side of an equation that is a label rather than a formula.
NAME = r"(?:[A-Za-z](?:_\{?\w+\}?)?|[A-Z]{2,4})"               # a letter with an index, or points
LABEL = re.compile(rf"""
    [|{{]? [A-Z]{{2,4}} [|}}]?                              # AB, |AB|
  | ∠ [A-Z]{{1,3}}                                            # ∠A
  | (?:sin|cos|tan|cot) ∠? [A-Z]{{1,3}}                     # sin A
  | [Δ∇] [A-Za-z]                                           # Δp, ∇f
  | [A-Z]{{2}} / [A-Z]{{2}} | frac\{{[A-Z]{{2}}\}}\{{[A-Z]{{2}}\}}      # AB/CD
  | {NAME} (?: : {NAME})+                                 # V_1:V_2, S_A:S, AB:BC:CA
  | ∇? ([A-Za-zα-ωΓ-Ω]) '* (?:_\{{?\w+\}}?|\^\{{-1\}})?            # f(x), f'(x), f^-1(x), P_1(x,y);
    \( (?!.*\1) \w+ (?:,\w+)* \)                            # but x(x) is a product
""", re.X)

# Which of the numbers of a set: the _{≥0} of ℤ_{≥0}, the ^+ of ℤ^+.
SUBSET = "(?: [ ]? [_^] [ ]? (?: [{] [ ]? [-<>≤≥≠+*0] [^{}]* [}] | [-+*0] ) )?"
# At the end of an answer, which integers a name stands for: nπ, n ∈ ℤ.
INTEGERS = re.compile(rf"""
    (?<=[^ ]) [ ]? [,;]? [ ]? (?: "(?:for|where|with)" [ ] )?
    \(? [ ]? \b[A-Za-z] [ ]? ∈ [ ]? [ℤℕZN] {SUBSET} [ ]? \)? $
""", re.X)

# Commas inside numbers: 1,234 may be a number with separators, a list, or a decimal.
THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
DECIMAL_COMMA = re.compile(r"^-?(?![1-9][0-9]{0,2},[0-9]{3}$)[0-9]+,[0-9]+$")   # not 40,000


def read(text: str, comma: str) -> Value:
    """The Value of an answer; its kind is "text" if it is no mathematics.

    comma says what a comma inside a number is: "" a separator of thousands, "," the end of an
    item, "." a decimal point. Raises LimitExceeded.
    """
    text = INTEGERS.sub("", normalize(text))
    if comma == "" and not re.search(r"[([]", text):
        text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    elif comma == ".":
        text = text.replace(",", ".")
    return parse(text)


@functools.lru_cache(maxsize=8192)
def parse(text: str) -> Value:
    """The Value of a normalized answer."""
    tokens = tokenize(text)
    return read_choice(tokens) or read_list(tokens, "")


def read_choice(tokens) -> Value | None:
    """(C) 12 -> a choice: its letter and its text; None for anything else.

    Only what is no product or call is read as one: a number, a word, a macro, a currency sign.
    """
    is_letter = len(tokens) > 1 and tokens[0].text == "()" and len(tokens[0].inner) == 1
    if not is_letter or not re.fullmatch("[A-H]", tokens[0].inner[0].text):
        return None
    starts_text = tokens[1].kind in ("number", "word", "function") or tokens[1].text in CURRENCIES
    if not starts_text:
        return None
    parts = (read_list(tokens[0].inner, ""), read_list(tokens[1:], ""))
    return Value("choice", render(tokens), parts=parts)


def read_list(tokens, shape: str) -> Value:
    """1, 2 and 3 -> a group of three; a single item stands for itself.

    shape: the two brackets that the tokens stood in, "" for none; "⦃⦄" of a set in a set, which
    stays a set if it has one item.
    """
    is_element = shape == "⦃⦄"
    if is_element:
        shape = "{}"
    source = shape[:1] + render(tokens) + shape[1:]
    if shape == "{}" and (condition := set_builder_condition(tokens)):
        if "ℤ" in source:
            return read_integers(condition, source)
        return Value("sets", source, parts=(read_list(condition, ""),))

    if shape in ("", "{}") and (function := read_piecewise(tokens, (",", ";", "and"))):
        return function

    if any(token.kind == "operator" and token.text in RELATIONS for token in tokens):
        tokens = [LOGICAL_WORDS.get(token.text, token) for token in tokens]
    tokens = complete_congruences(tokens)
    if cases := read_cases(tokens):
        return Value("group", source, shape=shape, ops=("or",) * (len(cases) - 1), parts=cases)

    pieces, separators = split_at(tokens, (",", ";", "and", "or", "¶"))
    items = [read_item(piece) for piece in pieces if piece]
    if excluded := expand_unequal(items):
        items = excluded
        separators = ("and",) * (len(items) - 1)            # k ≠ 0 or 3 is neither of them
    items = write_out_family(expand(items, shape in ("", "{}")))
    if not items and shape == "{}":
        return Value("number", "∅", CONSTANTS["∅"])
    if not items:
        return Value("text", source)
    is_sum = separators == ("and",) and len(items) == 2 and all(item.unit for item in items)
    if is_sum:                                              # 2 hours and 30 minutes
        with contextlib.suppress(ParseError):
            items = (add_smaller(*items),)
    holds_set = items[0].source == "∅" or [token.text for token in tokens] == ["⦃⦄"]
    is_set_of_set = shape == "{}" and holds_set             # {∅} is not ∅
    is_lone = len(items) == 1 and not is_set_of_set and not is_element
    if is_lone and (shape in ("", "{}", "()") or items[0].shape.startswith("matrix")):
        return items[0]
    return Value("group", source, shape=shape, ops=separators, parts=items)


def complete_congruences(tokens) -> list[Token]:
    """x ≡ ±1 (mod 8), x ≡ 1 or 7 (mod 8), x ≡ 1 or x ≡ 7 (mod 8)  ->  each as x ≡ 1 (mod 8), ...

    Other lists stay themselves.
    """
    pieces = []                     # (left side, residue, modulus) of each congruence
    left = None
    texts, separators = split_at(tokens, (",", "and", "or"))
    for piece in texts:
        sides, ops = split_at(piece, RELATIONS)
        if ops == ("≡",):
            left = sides[0]
        elif ops or left is None:
            return tokens
        residue, modulus = split_modulus(sides[-1])
        pieces.append((left, residue, modulus))

    completed = []
    modulus = []
    behind = [*separators, ","]                             # what stands behind each piece
    for (left, residue, own_modulus), separator in reversed(list(zip(pieces, behind, strict=True))):
        modulus = own_modulus or modulus
        residues = [residue]
        if residue and residue[0].text in ("±", "∓"):
            residues = [[Token("operator", "-"), *residue[1:]], residue[1:]]
        if not modulus or not residue:
            return tokens
        for signed in residues:
            congruence = [*left, Token("operator", "≡"), *signed, *modulus]
            completed = [*congruence, Token("operator", separator), *completed]
    return completed[:-1]


def split_modulus(tokens) -> tuple[list[Token], list[Token]]:
    """5 (mod 7), 5 mod 7 -> the tokens before "mod", and the others; these are [] without one"""
    if tokens and tokens[-1].text == "()" and tokens[-1].inner[:1] == (MOD,):
        return tokens[:-1], [MOD, *tokens[-1].inner[1:]]
    at = tokens.index(MOD) if MOD in tokens else len(tokens)
    return tokens[:at], tokens[at:]


def read_residue(tokens) -> Value:
    """-2 (mod 7) -> a group of shape "mod": the least residue, 5, and 7; raises ParseError"""
    residue, modulus = split_modulus(tokens)
    number = parse_all(residue)
    divisor = parse_all(modulus[1:])
    if not (number.is_Integer and divisor.is_Integer and divisor > 1):
        raise ParseError("no residue")
    parts = tuple(Value("number", str(expr), expr) for expr in (number % divisor, divisor))
    source = f"{parts[0].source} mod {parts[1].source}"
    return Value("group", source, shape="mod", parts=parts)


def read_cases(tokens) -> tuple[Value, ...]:
    """x = 1, y = 2 or x = 3, y = 4 -> two groups of shape "case"; 1,2; 3,4 -> two tuples

    Nothing if there are not several items, with labels, between all of the stronger separators. A
    comma is one between systems, and a new row is one if it has commas itself.
    """
    has_systems = any(token.text == "⟪⟫" for token in tokens)
    for separator in ("or", ";", "¶", "and", ","):
        pieces = list(filter(None, split_at(tokens, (separator,))[0]))
        if len(pieces) < 2 or (separator == "," and not has_systems):
            continue
        groups = []
        labels = []
        for piece in pieces:
            if [token.text for token in piece] == ["⟪⟫"]:
                piece = [token for token in piece[0].inner if token != AMPERSAND]
            parts, _ = split_at(piece, (",", "¶") if separator == "and" else (",", "¶", "and"))
            groups.append(tuple(read_item(part) for part in parts if part))
            labels.append({split_label(item)[0] for item in groups[-1]})

        are_labeled = "" not in set().union(*labels)
        if separator in ("¶", "and", ",") and any(names != labels[0] for names in labels):
            return ()                                       # p = 1 and q = 2, r = 3
        if any(len(items) < 2 for items in groups) or not (are_labeled or separator == ";"):
            return ()
        shape = "case" if are_labeled else "()"
        return tuple(Value("group", f"({','.join(item.source for item in items)})", shape=shape,
                           parts=items) for items in groups)
    return ()


CONDITION_WORDS = ("if", "when", "whenever", "where", "provided")
OTHERWISE_WORDS = ("otherwise", "elsewhere", "else")
# What a condition has, besides such a word.
CONDITION_SIGNS = (*RELATIONS, "even", "odd", "positive", "negative", "prime")
OTHERWISE = Value("text", "otherwise")


def read_rows(tokens) -> Value:
    """The rows of a brace: a value & its condition in each, or the equations of a system."""
    rows = [split_at(row, (",",))[0] for row in split_at(tokens, ("¶",))[0] if row]
    if len(rows) > 1 and all(len(row) == 2 and is_value_and_condition(*row) for row in rows):
        tokens = [AMPERSAND if token == COMMA else token for token in tokens]
    if function := read_piecewise(tokens, ("¶",)):
        return function
    return read_list([token for token in tokens if token.text != "&"], "")


def is_value_and_condition(value, condition) -> bool:
    """Is it x², x ≥ 0 or x = 1, a > 0, and not x = 1, y = 2 or x > 0, y > 0?"""
    if any(token.text in INEQUALITIES for token in value):
        return False
    is_inequality = any(token.text in INEQUALITIES for token in condition)
    return is_inequality or (has_sign(condition) and not has_sign(value))


def read_piecewise(tokens, separators) -> Value | None:
    """x² if x ≥ 0, -x if x < 0 -> two branches; before them may stand a label, f(x) =

    Text if only some of the pieces have a condition; None if none has.
    """
    if ";" in separators and SEMICOLON in tokens:
        separators = (";",)                                 # a comma is inside a branch
    pieces = []
    for piece in split_at(tokens, separators)[0]:
        if pieces and condition_start(piece) == 0 and condition_start(pieces[-1]) is None:
            pieces[-1] = pieces[-1] + piece                 # x², if x ≥ 0
        elif piece:
            pieces.append(piece)
    if len(pieces) > 1:
        pieces = list(map(put_value_first, pieces))
    starts = [condition_start(piece) for piece in pieces]
    if all(start is None for start in starts):
        return None

    values = []
    conditions = []
    for piece, start in zip(pieces, starts, strict=True):
        condition = read_condition(piece[start:]) if start else None
        if condition is None:                               # or no value before it
            return Value("text", render(tokens))
        values.append(read_list(piece[:start], ""))
        conditions.append(condition)
    return join_branches(values, conditions, render(tokens))


def put_value_first(piece) -> list[Token]:
    """x > 0: 1 -> 1 & x > 0, like a row; other pieces stay themselves, a = 3:4 too"""
    (condition, *values), _ = split_at(piece, ":")
    if len(values) != 1 or not has_sign(condition) or EQUALS in condition:
        return piece
    return [*values[0], AMPERSAND, *condition]


def condition_start(tokens) -> int | None:
    """Where the condition of a branch begins: at "if", at & in a row, at "for" before n > 0."""
    for at, token in enumerate(tokens):
        word = token.text.lower() if token.kind == "word" else ""
        if word in CONDITION_WORDS or word in OTHERWISE_WORDS:
            return at
        if token == AMPERSAND and at + 1 < len(tokens) and tokens[at + 1].text not in RELATIONS:
            return at
        if word == "for":
            rest = tokens[at + 1:]
            return at if has_sign(rest) and rest[0].text.lower() not in QUANTIFIERS else None
    return None


def has_sign(tokens) -> bool:
    """Is there a relation, or a word such as even, which makes it a condition?"""
    return any(token.text.lower() in CONDITION_SIGNS for token in tokens)


def read_condition(tokens) -> Value | None:
    """if x ≥ 0 -> x ≥ 0; "n is even", "even n" -> n even; None if nothing is said"""
    kept = []
    for token in tokens:
        if token.text.lower() not in (*CONDITION_WORDS, "for", "that", "is", "&"):
            kept.append(token)
    if kept[-1:] == [COMMA]:                                # "otherwise,"
        kept.pop()
    if len(kept) == 1 and kept[0].text.lower() in OTHERWISE_WORDS:
        return OTHERWISE
    if not kept:
        return None
    if sorted(token.kind for token in kept) == ["symbol", "word"]:
        return Value("text", " ".join(token.text for token in sorted(kept)))
    return read_list(kept, "")


def join_branches(values: list[Value], conditions: list[Value], source: str) -> Value:
    """The piecewise value, as a relation if a label stands before its first value or before all."""
    label, *others = (split_label(value)[0] for value in values)
    has_label = label != "" and set(others) <= {"", label}
    if has_label:
        values = [split_label(value)[1] for value in values]

    branches = []
    for parts in zip(values, conditions, strict=True):
        branches.append(Value("branch", " if ".join(part.source for part in parts), parts=parts))
    function = Value("piecewise", ", ".join(branch.source for branch in branches),
                     parts=tuple(branches))
    if not has_label:
        return function
    return Value("relation", source, ops=("=",), parts=(Value("text", label), function))


def set_builder_condition(tokens) -> list[Token] | None:
    """The tokens after the bar of { x | x > 2 } or { n ∈ ℤ : n > 2 }; None for other sets."""
    head, *conditions = split_at(tokens, "|:")[0]
    if len(conditions) != 1 or not head:
        return None
    is_variable = all(token.kind == "symbol" or token.text in "∈ℝℤ" for token in head)
    return conditions[0] if is_variable else None


def read_integers(condition, source: str) -> Value:
    """-3 < n ≤ 0 -> the set of -2, -1, 0; text if these are not finitely many, or not clear"""
    try:
        _, reals = read_reals(read_list(condition, ""), inside=True)
        numbers = integers_in(reals)
    except ParseError:
        return Value("text", source)
    if not numbers:
        return Value("number", "∅", CONSTANTS["∅"])
    parts = tuple(Value("number", str(number), sp.Integer(number)) for number in numbers)
    return Value("group", source, shape="{}", parts=parts)


def read_item(tokens) -> Value:
    """A relation or a value, without the words around it; text if it is neither."""
    with contextlib.suppress(ParseError, ValueError, TypeError, ArithmeticError):
        return read_relation(tokens)

    # Of the words that may be left out, those that stand last go first.
    words = [token.text.lower() if token.kind == "word" else "" for token in tokens]
    for at in reversed(range(len(tokens))):
        if ends_lead_in(words, at):
            return read_item(tokens[at + 1:])
        if starts_for_all(words, at):
            return read_item(tokens[:at])

    if labeled := read_labeled_item(tokens):
        return labeled
    return Value("text", render(tokens))


NO_LEAD_IN = {*CONDITION_WORDS, *OTHERWISE_WORDS, "unless", "while", "as", "long", "iff",
              "because", "since", "not"}


def ends_lead_in(words: list[str], at: int) -> bool:
    """Is words[at] the end of a lead-in: the "is" of "the answer is 5", the "only" of "only 5"?"""
    if words[at] in ("is", "are", "equals"):
        return at + 1 < len(words) and not NO_LEAD_IN & set(words[:at])
    return at == 0 and words[0] in ("only", "exactly", "just")


QUANTIFIERS = ("all", "any", "every", "each", "some")


def starts_for_all(words: list[str], at: int) -> bool:
    """Is words[at] the "for" of "2x for all x"?"""
    return at > 0 and words[at] == "for" and at + 1 < len(words) and words[at + 1] in QUANTIFIERS


def read_labeled_item(tokens) -> Value | None:
    """Minimum: 1 -> the relation of a text and a value; None for other items."""
    (label, *values), _ = split_at(tokens, ":")
    starts_with_word = bool(tokens) and tokens[0].kind == "word" and tokens[0].text != ""
    if not starts_with_word or len(values) != 1 or not values[0]:
        return None
    parts = (Value("text", render(label)), read_item(values[0]))
    return Value("relation", render(tokens), ops=("=",), parts=parts)


def read_relation(tokens) -> Value:
    """1 < x ≤ 2 -> a relation of three parts; a single side stands for itself."""
    sides, ops = split_at(tokens, RELATIONS)
    if "≈" in ops:
        exact = ops.index("≈")
        if exact == 0 and names_a_value(sides[0]):          # Δp ≈ 3 is like Δp = 3
            ops = ("=", *ops[1:])
            exact = ops.index("≈") if "≈" in ops else len(ops)
        sides = sides[:exact + 1]                           # the exact form before it decides
        ops = ops[:exact]
    if not ops:
        return read_last_side(sides[0])

    if ops == ("≡",) and split_modulus(sides[1])[1]:        # x ≡ 5 (mod 7) is x = 5 (mod 7)
        ops = ("=",)
    first = read_label(sides[0]) if ops[0] in "=∈" else None
    if first is None:
        first = read_side(sides[0])
    parts = (first, *map(read_side, sides[1:-1]), read_last_side(sides[-1]))
    return Value("relation", render(tokens), ops=ops, parts=parts)


def read_last_side(tokens) -> Value:
    """5 (mod 7) -> its residue class; of x ≡ 5 (mod 7), but not of 17 mod 5 = 2, that is a side"""
    if split_modulus(tokens)[1]:
        with contextlib.suppress(ParseError):
            return read_residue(tokens)
    return read_side(tokens)


def names_a_value(tokens) -> bool:
    """Is it a label, or a letter, perhaps with an index?"""
    return read_label(tokens) is not None or is_label(read_side(tokens))


def read_label(tokens) -> Value | None:
    """f(x), AB or words, before an equals sign -> text; None for a formula."""
    source = render(tokens)
    only_words = all(token.kind == "word" for token in tokens)
    if source and (only_words or LABEL.fullmatch(source)):
        return Value("text", source)
    return None


def read_side(tokens) -> Value:
    """One side of a relation: sets, a ratio, a matrix, a bracketed group, a vector, a quantity."""
    texts = [token.text for token in tokens]

    operands, operators = split_at(tokens, "∪∩∖")
    if texts == ["{}", "-", "{}"]:                          # {1,2} - {1}
        operands, operators = [tokens[:1], tokens[2:]], ("∖",)
    if operators:
        parts = tuple(read_side(operand) for operand in operands)
        return Value("sets", render(tokens), ops=operators, parts=parts)

    if ratio := read_ratio(tokens):
        return ratio
    if texts == ["⟦⟧"] and (matrix := read_matrix(tokens[0])):
        return matrix
    if texts == ["⟪⟫"]:
        return read_rows(tokens[0].inner)
    if len(texts) == 1 and texts[0] in ("()", "[]", "(]", "[)", "{}", "⦃⦄"):
        return read_list(tokens[0].inner, texts[0])
    with contextlib.suppress(ParseError):
        return read_vector(tokens)
    return read_quantity(tokens, render(tokens))


def read_ratio(tokens) -> Value | None:
    """3:1 or 3 to 1 -> the number 3; 2:4:6 -> a group of 1, 2, 3; None if there is no colon."""
    tokens_with_colon = [COLON if token == WORD_TO else token for token in tokens]
    parts, colons = split_at(tokens_with_colon, ":")
    if not colons:
        return None
    first, *others = (read_quantity(part, "").expr for part in parts)
    if len(others) == 1:
        return Value("number", render(tokens), divide(first, others[0]))
    shares = [divide(expr, first) for expr in others]
    parts = tuple(Value("number", str(share), share) for share in shares)
    return Value("group", render(tokens), shape=":", parts=parts)


def read_matrix(group: Token) -> Value | None:
    """⟦1&2¶3&4⟧ -> a group of shape "matrix2", row by row; None if the rows differ in length."""
    rows = []
    for row in split_at(group.inner, "¶")[0]:
        if row:
            rows.append([read_side(cell) for cell in split_at(row, "&")[0]])
    if len({len(row) for row in rows}) != 1:
        return None
    cells = tuple(itertools.chain.from_iterable(rows))
    return Value("group", render([group]), shape=f"matrix{len(rows[0])}", parts=cells)


PARAMETERS = frozenset("tskλμ")     # in (1,2) + t(3,4)


def read_vector(tokens) -> Value:
    r"""-\frac12 ⟦4¶2⟧ -> ⟦-2¶-1⟧; (1,2)+t(3,4) -> (1+3t,2+4t); (3,-4) "N" -> 3 "N", -4 "N"

    Raises ParseError for what is no sum of multiples of tuples or of matrices.
    """
    # Names take the places of the vectors while their factors are read.
    vectors = {}
    replaced = []
    for token in tokens:
        if len(tokens) > 1 and (token.text == "⟦⟧" or is_tuple(token)):
            name = f"vector{len(vectors)}"
            vectors[sp.Symbol(name)] = read_side([token])
            token = Token("symbol", name)
        replaced.append(token)
    if not vectors:
        raise ParseError("no vector")
    quantity = read_quantity(replaced, "")
    units = [word.partition("^")[0] for word in quantity.unit.split()]
    if any(name not in UNIT_TABLE for name in units):
        raise ParseError("no unit after a vector")

    source = render(tokens)
    factors = vector_factors(quantity.expr, vectors)
    if not quantity.expr.has(PLUS_MINUS):
        return add_multiples(vectors, factors, quantity.unit, source)
    both = []
    for sign in ("1", "-1"):
        signed = [factor.xreplace({PLUS_MINUS: sp.Integer(sign)}) for factor in factors]
        both.append(add_multiples(vectors, signed, quantity.unit, source + sign))
    return Value("group", source, ops=("or",), parts=tuple(both))


def vector_factors(expr: sp.Expr, vectors: dict[sp.Symbol, Value]) -> list[sp.Expr]:
    """What each of the vectors' names is multiplied by in a sum of their multiples.

    Before a tuple that is a number or a parameter: f(1,2) is a call, and A(1,2) a point. Raises
    ParseError for other expressions.
    """
    shapes = {(vector.shape, len(vector.parts)) for vector in vectors.values()}
    factors = [sp.diff(expr, name) for name in vectors]
    names = {name.name for factor in factors for name in factor.free_symbols}
    if "()" in {shape for shape, _ in shapes}:
        names -= {"i", "±", *PARAMETERS}
    else:
        names &= {name.name for name in vectors}
    if len(shapes) > 1 or names or expr.xreplace(dict.fromkeys(vectors, sp.S.Zero)) != 0:
        raise ParseError("no sum of multiples of vectors")
    return factors


def is_tuple(token: Token) -> bool:
    """Is it (1, 2): a group in parentheses with a comma in it?"""
    return token.text == "()" and COMMA in token.inner


def add_multiples(vectors: dict, factors: list[sp.Expr], unit: str, source: str) -> Value:
    """The sum of tuples or matrices of one size, each times its factor; its parts have the unit."""
    sums = None
    for vector, factor in zip(vectors.values(), factors, strict=True):
        is_plain = all(part.kind == "number" and not part.unit for part in vector.parts)
        if not vector.shape.startswith(("()", "matrix")) or not is_plain:
            raise ParseError("a multiple of what is no vector")
        multiple = [part.expr * factor for part in vector.parts]
        sums = list(map(sp.Add, sums, multiple)) if sums else multiple

    parts = tuple(Value("number", f"{expr} {unit}", expr, unit) for expr in sums)
    return vector._replace(source=source, parts=parts)


def read_quantity(tokens, source: str) -> Value:
    """A number with its unit: ¤18.90 -> 18.9 "dollar"; 45° -> 45 "degree"; 5 "cm" -> 5 "centimeter"

    Raises ParseError if anything else stands there.
    """
    # 1. A currency sign may stand before or after the number.
    currencies = [CURRENCIES[token.text] for token in tokens if token.text in CURRENCIES]
    tokens = [token for token in tokens if token.text not in CURRENCIES]

    # 2. The number, and the words after it.
    parser = Parser(tokens)
    expr = parser.expression()
    end = parser.at
    unit, length = read_unit(tokens[end - 1], tokens[end:], currencies)
    rest = tokens[end + length:]
    if expr.free_symbols and unit and set(unit.split()) <= NEVER_OF_NAMES:
        raise ParseError("what a name stands for, and no quantity")

    # 3. Percent and degrees are units if they multiply the whole, otherwise factors.
    for sign, name in ((PERCENT, "percent"), (DEGREE, "degree")):
        if expr.has(sign) and not (expr / sign).has(sign):
            expr = expr / sign
            unit = name
    expr = expr.xreplace({DEGREE: sp.pi / 180, PERCENT: sp.Rational(1, 100)})
    if expr.has(sp.zoo, sp.nan):
        raise ParseError("undefined")

    if rest:
        return add_smaller(Value("number", source, expr, unit), read_quantity(rest, ""))
    decimal = re.fullmatch(r"-?\d*\.(\d+)", render(tokens[:end]))
    places = len(decimal[1]) if decimal else 0
    return Value("number", source, expr, unit, places)


def add_smaller(larger: Value, smaller: Value) -> Value:
    """2 hours and 30 minutes -> 2.5 hours; raises ParseError for what is no such sum."""
    ratio = unit_ratio(smaller.unit, larger.unit)
    if not ratio or not ratio.is_Rational or not ratio < 1:
        raise ParseError("two quantities")
    return larger._replace(expr=larger.expr + ratio * smaller.expr)


def read_unit(last: Token, tokens, currencies: list[str]) -> tuple[str, int]:
    """(the unit that the tokens after a number name, how many of them that are).

    A unit is its canonical words with their exponents:

    "cm" ^2            ->  centimeter^2
    "square" "meters"  ->  meter^2
    "miles" "per" "h"  ->  mile hour^-1
    "m" "s" ^{-1}      ->  meter second^-1
    "red" "balls"      ->  red balls

    last: the number's last token. currencies: words for the currency signs around the number. A
    number ends the unit. Raises ParseError for what is no unit.
    """
    powers = [[word, 1] for word in currencies]             # [word, exponent] of each
    sign = 1                                                # -1 after "per" and /
    waiting = 1                                             # what "square" says of the next word
    at = 0
    for at, (before, token) in enumerate(itertools.pairwise([last, *tokens])):
        if token.text == "{}" and len(token.inner) == 1 and before.text != "^":
            token = token.inner[0]
        text = token.text
        is_word = token.kind in ("word", "symbol") and text.lower() not in NEVER_UNITS
        is_name = len(text) > 1 and text.isupper() and text.lower() not in UNITS    # of points
        if before.text == "^" and powers:
            powers[-1][1] *= read_exponent(token)
        elif token.kind == "number" and len(powers) > len(currencies):
            break
        elif (text == "/" or text.lower() == "per") and powers and sign == 1:
            sign = -1
        elif is_word and text.lower() in POWER_WORDS:
            exponent = POWER_WORDS[text.lower()]
            is_last = text.lower().endswith("ed") or at == len(tokens) - 1
            if is_last and powers:
                powers[-1][1] *= exponent
            else:
                waiting = exponent
        elif is_word and not is_name and len(powers) < 6:
            word = UNITS.get(text, UNITS.get(text.lower(), text.lower()))
            powers.append([word, sign * waiting])
            waiting = 1
        elif not powers or not (text in "^*" or is_remark(token)):
            raise ParseError("more than a unit after a value")
    else:
        at = len(tokens)

    if "mph" in (word for word, _ in powers):
        powers = [["mile", 1], ["hour", -1]]
    words = [word if exponent == 1 else f"{word}^{exponent}" for word, exponent in powers]
    return " ".join(words), at


def read_exponent(token: Token) -> int:
    """The exponent of a unit: {-1} -> -1"""
    digits = render([token]).strip("{}")
    if not re.fullmatch(r"-?[0-9]", digits):
        raise ParseError("no exponent of a unit")
    return int(digits)


def is_remark(token: Token) -> bool:
    """Is it a bracket with nothing but words in it, as in 5 yuan (A)?"""
    return token.text == "()" and all(part.kind in ("symbol", "word") for part in token.inner)


def expand(items: list[Value], signs: bool = True) -> tuple[Value, ...]:
    """Writes out ranges and double signs: 1, …, 4 -> 1, 2, 3, 4 and ±4 -> 4, -4

    signs: whether double signs are meant; those in a tuple stand for several tuples.
    """
    out = []
    for at, item in enumerate(items):
        neighbors = [*out[-1:], *items[at + 1:at + 2]]
        if item.source == "…" and len(neighbors) == 2 and all(map(is_integer, neighbors)):
            earlier = out[-2] if len(out) > 1 else None
            out += expand_range(earlier, *neighbors)
        elif signs and item.kind == "number" and item.expr.has(PLUS_MINUS):
            out += expand_plus_minus(item)
        else:
            out.append(item)
    return tuple(out)


def write_out_family(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """2k+1, k = 0, 1, 2  ->  1, 3, 5; other lists stay themselves."""
    if not 3 <= len(items) <= 100 or not all(map(is_integer, items[2:])):
        return items
    _, formula = split_label(items[0])
    name, first = split_label(items[1])
    if formula.kind != "number" or not is_integer(first):
        return items
    if free_names(formula) != {sp.Symbol(name)} or formula.expr.has(sp.factorial, sp.gamma):
        return items

    family = []
    for number in (first, *items[2:]):
        point = {sp.Symbol(name): MP.mpf(int(number.expr))}
        if evaluate(formula.expr, point) is None:           # before the exact work: it is bounded
            return items
        expr = formula.expr.xreplace({sp.Symbol(name): number.expr})
        family.append(Value("number", f"{expr} {formula.unit}", expr, formula.unit))
    return tuple(family)


def expand_unequal(items: list[Value]) -> list[Value]:
    """k ≠ 0, 3 -> k ≠ 0, k ≠ 3 and x ≠ ±1 -> x ≠ 1, x ≠ -1; nothing for other items"""
    if not items or items[0].ops != ("≠",) or any(item.kind != "number" for item in items[1:]):
        return []
    name, first = items[0].parts
    relations = []
    for value in expand([first, *items[1:]]):
        source = f"{name.source}≠{value.source}"
        relations.append(Value("relation", source, ops=("≠",), parts=(name, value)))
    return relations if len(relations) > 1 else []


def is_integer(value: Value) -> bool:
    return value.expr is not None and bool(value.expr.is_Integer)


def expand_plus_minus(item: Value) -> list[Value]:
    """1 ± 2 -> 1 + 2, 1 - 2"""
    signed = []
    for sign in ("1", "-1"):
        expr = item.expr.xreplace({PLUS_MINUS: sp.Integer(sign)})
        signed.append(item._replace(source=item.source + sign, expr=expr))
    return signed


def expand_range(earlier: Value | None, before: Value, after: Value) -> list[Value]:
    """What the dots of 2, 4, …, 10 stand for: 6, 8

    earlier, before, after: the items 2, 4 and 10. The first two give the step if it leads to the
    last one; otherwise the step is 1 or -1.
    """
    first = int(before.expr)
    last = int(after.expr)
    step = 0
    if earlier is not None and is_integer(earlier):
        step = first - int(earlier.expr)
    if not step or (last - first) % step or (last - first) // step < 0:
        step = 1 if last > first else -1

    if (last - first) // step > MAX_ITEMS:
        raise LimitExceeded(f"a range of more than {MAX_ITEMS} numbers")
    numbers = range(first + step, last, step)
    return [Value("number", str(number), sp.Integer(number)) for number in numbers]


# --- 4. expressions: a precedence parser --------------------------------------------------------

def divide(numerator: sp.Expr, denominator: sp.Expr) -> sp.Expr:
    if denominator.is_zero:
        raise ParseError("a division by zero")
    return numerator / denominator


def power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """base ** exponent, once it is known that no number in it exceeds MAX_BITS bits."""
    if base.is_Rational and base < 0 and exponent.is_Rational and exponent.q > 1 and exponent.q % 2:
        return (-1)**exponent.p * power(-base, exponent)    # an odd root of it is real
    if base not in (0, 1, -1):
        # The largest number in the exponent times the longest one in the base.
        numbers = exponent.atoms(sp.Rational) if exponent.free_symbols else [exponent]
        sizes = [abs(evaluate(number, {}) or 0) for number in numbers]
        rationals = base.atoms(sp.Rational)
        bits = max((n.p.bit_length() + n.q.bit_length() for n in rationals), default=3)
        if max(sizes, default=0) * max(bits, 3) > MAX_BITS:
            raise LimitExceeded(f"a power of more than {MAX_BITS} bits")
        if exponent.is_Rational and exponent.q > MAX_BITS:
            raise LimitExceeded(f"a root of more than {MAX_BITS}")
    return sp.Pow(base, exponent)


def bounded(function, limit: float = sp.oo):
    """The function, carried out only for rational numbers, and for these only up to a limit."""
    def call(*args):
        exact = all(arg.is_Rational for arg in args)
        if exact and max(map(abs, args)) > limit:
            raise LimitExceeded(f"{function.__name__} of more than {limit}")
        return function(*args, evaluate=exact)
    return call


def double_factorial(x: sp.Expr) -> sp.Expr:
    """5!! = 5 * 3 * 1, which is not (5!)!"""
    if x.is_Rational and not (x.is_Integer and x >= 0):
        raise ParseError("a double factorial of no natural number")
    return bounded(sp.factorial2, MAX_FACTORIAL)(x)


def signed_sum(sign: sp.Expr):
    """The function that adds `sign` times its second argument to its first."""
    return lambda left, right: left + sign * right


SIGNS = {"+": sp.S.One, "-": sp.S.NegativeOne, "±": PLUS_MINUS, "∓": -PLUS_MINUS}
POSTFIX = {
    "!": bounded(sp.factorial, MAX_FACTORIAL),
    "!!": double_factorial,
    "%": lambda x: x * PERCENT,
    "°": lambda x: x * DEGREE,
}
# (precedence, function); the empty sign is the product of 2x.
INFIX = {
    "+": (1, signed_sum(SIGNS["+"])), "-": (1, signed_sum(SIGNS["-"])),
    "±": (1, signed_sum(SIGNS["±"])), "∓": (1, signed_sum(SIGNS["∓"])),
    "*": (2, sp.Mul), "": (2, sp.Mul), "/": (2, divide), "mod": (2, sp.Function("mod")),
    "∘": (2, sp.Function("∘")),
    "^": (3, power),
}
# What brackets do to the expression in them. A sum of one term is that term.
BRACKET_FUNCTIONS = {
    "()": sp.Add, "[]": sp.Add, "{}": sp.Add,
    "||": sp.Abs, "⌊⌋": bounded(sp.floor), "⌈⌉": bounded(sp.ceiling),
}
choose = bounded(sp.binomial, MAX_FACTORIAL)
TWO_ARGUMENT_MACROS = {"frac": divide, "binom": choose, "cross": sp.Function("cross")}


def zeta(x: sp.Expr) -> sp.Expr:
    """Riemann's function at 2, 3, ...; for other arguments ζ is a letter, and this a product."""
    return sp.zeta(x) if x.is_Integer and 1 < x < 100 else sp.Symbol("ζ") * x


SPECIAL_FUNCTIONS = {"Γ": bounded(sp.gamma, MAX_FACTORIAL), "ζ": zeta}


def symmetric(name: str):
    """max, min, gcd or lcm: worked out for numbers, otherwise a function of sorted arguments.

    lcm(m, n) is mn / gcd(m, n).
    """
    def call(*args):
        if name in ("max", "min") and all(arg.is_Rational for arg in args):
            return max(args) if name == "max" else min(args)
        if name in ("gcd", "lcm") and all(arg.is_Integer for arg in args):
            return sp.Integer(math.gcd(*map(int, args)) if name == "gcd" else
                              math.lcm(*map(int, args)))
        if name == "lcm" and len(args) == 2:
            return args[0] * args[1] / symmetric("gcd")(*args)
        return sp.Function(name)(*sorted(args, key=sp.default_sort_key))
    return call


FUNCTIONS_OF_ARGUMENTS = {
    **{name: symmetric(name) for name in SYMMETRIC},
    "floor": BRACKET_FUNCTIONS["⌊⌋"], "ceil": BRACKET_FUNCTIONS["⌈⌉"],
    "round": lambda x: BRACKET_FUNCTIONS["⌊⌋"](x + sp.Rational(1, 2)),
    "Re": sp.re, "Im": sp.im, "arg": sp.arg,
    "factorial": POSTFIX["!"], "binom": TWO_ARGUMENT_MACROS["binom"],
    "nthroot": lambda x, n: power(x, 1 / n), "atantwo": sp.atan2,
}


class Parser:
    """A precedence parser of one expression, which may be followed by other tokens.

    Its methods read on from the token self.at. They raise ParseError and LimitExceeded.
    """

    def __init__(self, tokens):
        if len(tokens) > MAX_TOKENS:
            raise LimitExceeded(f"an expression of more than {MAX_TOKENS} tokens")
        self.tokens = tokens
        self.at = 0

    def peek(self, *kinds: str) -> str:
        """The text of the next token if it is of one of the kinds, otherwise ""."""
        if self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind in kinds:
                return token.text
        return ""

    def expression(self, level: int = 0) -> sp.Expr:
        """Reads as long as the operators bind tighter than level: sums 1, products 2, powers 3."""
        sign = SIGNS.get(self.peek("operator"))
        if sign:
            self.at += 1
            if self.peek("operator") in SIGNS:
                raise ParseError("a doubled sign")
            left = sign * self.expression(max(level, 1))
        else:
            left = self.atom()

        while self.at < len(self.tokens):
            operator = self.peek("operator")
            if operator in POSTFIX:
                self.at += 1
                left = POSTFIX[operator](left)
                continue

            if self.starts_factor():
                operator = ""
            elif not operator or operator not in INFIX:
                break
            own_level, combine = INFIX[operator]
            if own_level <= level:
                break
            if operator:
                self.at += 1
            # Powers group from the right: 2^3^2 is 2^9, so another ^ may follow in the exponent.
            right = self.expression(own_level - 1 if operator == "^" else own_level)
            left = combine(left, right)
        return left

    def starts_factor(self) -> bool:
        """Does a factor come next, without a sign? The x of 2x; the 3 of {2}3, but not of 2 3.

        A number may follow a factorial, 4! 4!, and a power of one any factor: 2^6 3^5, n 2^n.
        """
        if self.peek("operator") in CONSTANTS or self.peek("symbol", "function"):
            return True
        if self.peek("group") in BRACKET_FUNCTIONS:
            return True
        if not self.peek("number"):
            return False
        if self.tokens[self.at - 1].text in ("{}", "!", "!!"):
            return True
        is_power = self.tokens[self.at + 1:self.at + 2] == [Token("operator", "^")]
        after_number = self.tokens[self.at - 1].kind == "number"
        after_power = self.at > 2 and self.tokens[self.at - 2].text == "^"
        return is_power and (after_power or not after_number)

    def atom(self) -> sp.Expr:
        """A number, a symbol, a function with its argument, or what stands in brackets."""
        if self.at >= len(self.tokens):
            raise ParseError("an operand is missing")
        kind, text, inner = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return read_number(text)
        if kind == "symbol" or (kind == "word" and len(text) == 1):
            return self.symbol(text)
        if kind == "function":
            return self.function(text)
        if text == "||" and [part.text for part in inner] == ["⟦⟧"]:
            return determinant(inner[0])
        if kind == "group" and text in BRACKET_FUNCTIONS:
            return BRACKET_FUNCTIONS[text](parse_all(inner))
        if text in CONSTANTS:
            return CONSTANTS[text]
        raise ParseError(f"{text!r} where a value is expected")

    def symbol(self, name: str) -> sp.Expr:
        """x, x_{1}, x'; e and i are numbers; f(2), g(2) and I(0) are unknown functions.

        In C_{10}^{3} the letter is no name but a binomial, if the numbers allow it.
        """
        at = self.at
        if [token.text for token in self.tokens[at:at + 3:2]] == ["^", "_"]:    # v^2_0 is v_0^2
            power, index = self.tokens[at:at + 2], self.tokens[at + 2:at + 4]
            self.tokens = self.tokens[:at] + index + power + self.tokens[at + 4:]
        if self.peek("operator") == "_" and self.at + 1 < len(self.tokens):
            subscript = render(self.tokens[self.at + 1:self.at + 2])
            name += "_" + subscript.strip("{}")
            self.at += 2
        while self.peek("operator") == "'":
            name += "'"
            self.at += 1

        if re.fullmatch("C_[0-9]+", name) and self.peek("operator") == "^":
            chosen = render(self.tokens[self.at + 1:self.at + 2]).strip("{}")
            if chosen.isdecimal() and int(chosen) <= int(name[2:]) > 2:
                self.at += 2
                return choose(sp.Integer(name[2:]), sp.Integer(chosen))
        if name in SPECIAL_FUNCTIONS and self.peek("group") == "()":
            return SPECIAL_FUNCTIONS[name](self.atom())
        if self.peek("group") in ("()", "[]") and self.is_called(name.strip("'")):
            return sp.Function(name)(self.atom())
        if name == "e":
            return sp.E
        return IMAGINARY if name == "i" else sp.Symbol(name)

    def is_called(self, name: str) -> bool:
        """Is the group that comes next the argument of the name, and not a factor?

        f(x+1), I(0), E[X^2], E(XY), φ(n^2); but x(2+y), φ(1+φ), n[2a+d]
        """
        brackets, inner = self.peek("group"), render(self.tokens[self.at].inner)
        if name == "E":                                     # an expectation
            return brackets == "[]" or re.search("[A-Z]", inner) is not None
        if brackets != "()":
            return False
        is_sum = re.search("[-+±]", inner) is not None      # a factor needs no brackets otherwise
        return name in ("f", "g") or inner == "0" or (name in ("φ", "σ", "τ", "μ") and not is_sum)

    def function(self, name: str) -> sp.Expr:
        r"""\frac{1}{2}, \sqrt[3]{x}, \sum_{k=1}^n k, \sin^2 x: what follows the macro's name."""
        if name in TWO_ARGUMENT_MACROS and self.peek("group") != "()":
            return TWO_ARGUMENT_MACROS[name](self.atom(), self.atom())
        if name == "sqrt":
            return self.root()
        if name in ACCENTS:
            return self.symbol(f"{name} {self.raw_argument()}")
        if name in FUNCTIONS_OF_ARGUMENTS and self.peek("group") in ("()", "{}"):
            arguments = self.arguments()
            try:
                return FUNCTIONS_OF_ARGUMENTS[name](*arguments)
            except TypeError:
                raise ParseError(f"{name} of {len(arguments)} arguments") from None

        scripts = {}
        while self.peek("operator") in ("^", "_"):
            scripts[self.peek("operator")] = self.tokens[self.at + 1:self.at + 2]
            self.at += 2
        if name in UNEVALUATED or name in SYMMETRIC:
            bounds = {}
            for mark, script in scripts.items():
                bounds[mark] = script[0].inner if script and script[0].text == "{}" else script
            return unevaluated(name, bounds, self.expression(1))
        if name in FUNCTIONS:
            return self.apply(name, scripts)
        raise ParseError(f"an unknown macro {name!r}")

    def raw_argument(self) -> str:
        r"""The text of the next token, without braces: the AB of \vec{AB}"""
        if self.at >= len(self.tokens):
            raise ParseError("an operand is missing")
        self.at += 1
        return render(self.tokens[self.at - 1:self.at]).strip("{}")

    def arguments(self) -> list[sp.Expr]:
        """The expressions in the next group: (a, b) -> a, b"""
        self.at += 1
        return [parse_all(piece) for piece in split_at(self.tokens[self.at - 1].inner, ",")[0]]

    def root(self) -> sp.Expr:
        r"""What follows \sqrt; an odd root of a negative number is real: \sqrt[3]{-8} -> -2"""
        index = self.atom() if self.peek("group") == "[]" else sp.Integer(2)
        return power(self.atom(), 1 / index)

    def apply(self, name: str, scripts: dict[str, list[Token]]) -> sp.Expr:
        r"""What follows \sin, \log_2, \tan^{-1}; the argument without brackets of \sin 2x is 2x."""
        argument = self.atom() if self.peek("group") else self.expression(2)
        while self.peek("number", "symbol") or self.peek("operator") == "π":
            argument *= self.expression(2)

        exponent = parse_all(scripts["^"]) if "^" in scripts else sp.S.One
        if exponent == -1 and "arc" + name in FUNCTIONS:
            return FUNCTIONS["arc" + name](argument)
        value = FUNCTIONS[name](argument.xreplace({DEGREE: sp.pi / 180}))
        if "_" in scripts:                                  # \log_2 x is \log x / \log 2
            value = divide(value, FUNCTIONS[name](parse_all(scripts["_"])))
        return power(value, exponent)


def parse_all(tokens) -> sp.Expr:
    """The one expression that the tokens are; raises ParseError if more follows."""
    parser = Parser(tokens)
    expr = parser.expression()
    if parser.at < len(tokens):
        raise ParseError("more than one expression")
    return expr


def unevaluated(name: str, bounds: dict[str, list[Token]], body: sp.Expr) -> sp.Expr:
    r"""A sum, product, integral or limit as a function of its body, named by its bounds.

    The index of a sum or product has no name and starts at 0, so that \sum_{k=1}^{n} k^2 is
    \sum_{j=0}^{n-1} (j+1)^2; what does not depend on it stands before the sum.
    """
    written = "".join(mark + render(bounds[mark]) for mark in sorted(bounds))
    as_written = sp.Function(name + written)(body)
    (letter, *starts), _ = split_at(bounds.get("_", ()), "=")
    if name not in ("sum", "prod") or "^" not in bounds or len(starts) != 1:
        return as_written

    # The index cannot be replaced in a name, such as a_k, or in a bound that is as written.
    try:
        old_index = parse_all(letter)
        start = parse_all(starts[0])
        end = parse_all(bounds["^"])
    except ParseError:
        return as_written
    calls = body.atoms(AppliedUndef)
    names = [*map(str, body.free_symbols), *(str(call.func) for call in calls)]
    is_in_name = any(str(old_index) in name for name in names if re.search("[_^ ]", name))
    if is_in_name or not (old_index.is_Symbol and start.is_Integer and abs(start) <= 100):
        return as_written

    # Nested indices have different names.
    index = sp.Symbol(f"index{len(calls)}")
    body = body.xreplace({old_index: index + start})
    factor = sp.S.One
    if name == "sum":
        factor, body = body.as_independent(index, as_Add=False)
    if end == sp.oo:
        return factor * sp.Function(f"{name}∞")(body)
    return factor * sp.Function(name)(body, end - start)


def determinant(matrix: Token) -> sp.Expr:
    """|⟦1&2¶3&4⟧| -> -2; of at most five rows"""
    rows = []
    for row in split_at(matrix.inner, "¶")[0]:
        if row:
            rows.append([parse_all(cell) for cell in split_at(row, "&")[0]])
    if not 1 <= len(rows) <= 5 or any(len(row) != len(rows) for row in rows):
        raise ParseError("not a square matrix of at most five rows")
    return sp.Matrix(rows).det(method="berkowitz")


def read_number(text: str) -> sp.Expr:
    """12.5e3 -> 12500, exactly"""
    mantissa, _, exponent = text.partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 4:
        raise LimitExceeded(f"a number of more than {MAX_DIGITS} digits")
    digits, _, places = mantissa.partition(".")
    number = sp.Rational(int(digits + places), 10**len(places))
    return number * sp.Integer(10)**int(exponent or 0)


# --- 5. equivalence: each step returns its name, or "" if it does not find the two equal --------

NO_ANSWER = {"", "nan", "none", "null", "?"}
FRAGMENT = re.compile(r"[*/^].*|.*[/^]", re.S)      # an operator without its operand
FLIPPED = str.maketrans("<>≤≥∈∋∉∌⊂⊃⊆⊇⊄⊅⊈⊉⊊⊋", "><≥≤∋∈∌∉⊃⊂⊇⊆⊅⊄⊉⊈⊋⊊")


PLAIN_WORDS = re.compile(r"[^\\^_{}$<>=+*/|&#~]*", re.S)


def is_readable(reference: str) -> bool:
    r"""Is a reference mathematics that is read, or plain words?

    If not, no answer but a copy of it is accepted: it is empty, broken (\frac{1}{2), or has parts
    that the reader does not know. Whoever loads a data set should count and report these.
    """
    try:
        reference = bare_reference(reference)
        if is_no_answer("".join(reference.split())):
            return False
        return is_understood(read(reference, ""))
    except LIMIT_ERRORS:
        return False


def is_understood(value: Value) -> bool:
    """Is every part mathematics, plain words or a label?"""
    if value.kind == "number":
        return True
    if value.kind == "text":
        if re.fullmatch(r"[0-9]+_[0-9]+", value.source):    # a number in another base
            return True
        return bool(re.search(r"[^\W\d_]", value.source) and PLAIN_WORDS.fullmatch(value.source))
    parts = value.parts
    if value.kind == "relation" and parts[0].kind == "text":    # a label
        parts = parts[1:]
    return bool(parts) and all(map(is_understood, parts))


class Comparison(NamedTuple):
    step: str                       # the step that found the two equal, "" if none did
    reference: Value | None         # as read; None if the texts decided
    answer: Value | None


def is_equivalent(reference: str, answer: str) -> bool:
    """Are two bare answers the same? Symmetric; also False if a limit is exceeded.

    Exact for text, rational numbers and structure; for irrational numbers and expressions with
    variables as `identical` says, for decimals as `rounds_to` says.
    """
    try:
        return compare(reference, answer).step != ""
    except LIMIT_ERRORS:
        return False


def compare(reference: str, answer: str) -> Comparison:
    """Which step, if any, finds two bare answers equal? Raises one of LIMIT_ERRORS."""
    plain_reference = without_blanks(reference)
    plain_answer = without_blanks(answer)
    if plain_reference == plain_answer and not is_no_answer(plain_answer):
        return Comparison("same text", None, None)

    # Both are read alike: a comma separates thousands, or items, or it is a decimal point.
    both = f"{reference} {answer}"
    texts = (normalize(reference), normalize(answer))
    readings = [""]
    if re.search(r"[0-9],[0-9]", both):
        are_numbers = all(THOUSANDS.fullmatch(text) for text in (plain_reference, plain_answer))
        if not are_numbers and not re.search(r"[0-9],0[0-9]", both):    # 1,000 is no list of 1, 0
            readings.append(",")
        if are_one_decimal(*texts):
            readings.append(".")
    has_other_domain = not may_share_domain(*texts)
    for comma in readings:
        a, b = read(reference, comma), read(answer, comma)
        is_refused = has_other_domain or is_no_answer(a.source) or is_no_answer(b.source)
        step = "" if is_refused else same(a, b)
        if step:
            break
    if not step and not has_other_domain:
        step = same_family(*texts) or same_renamed(*texts)
    return Comparison(step, a, b)


def are_one_decimal(text: str, other: str) -> bool:
    """0,5 and 0.5: one with a comma and one with a point, which agree in every digit."""
    with_comma, with_point = (text, other) if "," in text else (other, text)
    return bool(DECIMAL_COMMA.match(with_comma)) and with_comma.replace(",", ".") == with_point


DOMAIN_WORD = re.compile(rf"""
    (?: [ℤℕℝℚℂ] | (?<=∈)[ZN] ) {SUBSET}
  | ([A-Za-z]) [ ]? ([<>≤≥≠][^,;]+)
  | [a-z]{{3,}}
""", re.X)
# What a word says of a name: the kind of numbers that it stands for, and which of these.
KINDS = {"integer", "real", "rational", "complex"}
DOMAINS = {
    "ℤ": "integer", "Z": "integer", "ℝ": "real", "ℚ": "rational", "ℂ": "complex",
    "integer": "integer", "real": "real", "rational": "rational", "complex": "complex",
    "ℕ": "integer positive", "N": "integer positive", "natural": "integer positive",
    "ℕ+": "integer positive", "ℤ+": "integer positive", "ℤ>0": "integer positive",
    "ℕ0": "integer nonnegative", "ℤ≥0": "integer nonnegative",
    "ℝ+": "real positive", "ℝ>0": "real positive",
    "prime": "integer prime", "odd": "integer odd", "even": "integer even",
    "positive": "positive", "negative": "negative", "nonnegative": "nonnegative",
    "nonzero": "nonzero", ">0": "positive", "<0": "negative", "≥0": "nonnegative", "≠0": "nonzero",
}
DOMAIN_NAMES = [word for word in DOMAINS if word.isalpha()]
FOR_ALL = re.compile(rf"""
    "for" [ ] "(?: {alternation(QUANTIFIERS)} | (?:{alternation(DOMAIN_NAMES)})s? )" .*
""", re.X)


def may_share_domain(text: str, other: str) -> bool:
    """k ∈ ℤ is not k ∈ ℕ, nor is "for all x > 0" "for all x < 0"; but a domain may be left out."""
    facts = stated_domain(text)
    other_facts = stated_domain(other)
    if not facts or not other_facts:
        return True
    kinds, other_kinds = facts & KINDS, other_facts & KINDS
    is_other_kind = bool(kinds and other_kinds and kinds != other_kinds)
    return not is_other_kind and facts - KINDS == other_facts - KINDS


def stated_domain(text: str) -> set[str]:
    """What the end of a normalized answer says of a name: its kind of numbers, and which of these.

    nπ, n ∈ ℕ                ->  integer, positive
    2x "for" "all" x > 1     ->  real, >1
    """
    clause = INTEGERS.search(text) or FOR_ALL.search(text)
    words = re.sub('[" ]+', " ", clause[0]) if clause else ""
    words = words.replace("∈ ", "∈").replace("non - ", "non").replace("non-", "non")
    facts = set()
    for match in DOMAIN_WORD.finditer(words):
        name, relation = match.groups()
        if not relation:
            word = re.sub("[ _^{}]", "", match[0]).removesuffix("s")
            unknown = "" if word.isalpha() else word        # "all" says nothing, ℤ- does
            facts |= set(DOMAINS.get(word, unknown).split())
            continue

        relation = relation.replace(" ", "")
        if name not in "klmnij":
            facts.add("real")
        elif relation == "≥1":                              # the same of an integer
            relation = ">0"
        facts |= set(DOMAINS.get(relation, relation).split())
    return facts


def without_blanks(text: str) -> str:
    """x = 2 -> x=2; but the blank of 1 2, which is not 12, becomes an underscore"""
    return "".join(re.sub(r"(?<=[0-9])\s+(?=[0-9])", "_", text).split())


def is_no_answer(text: str) -> bool:
    """Is it nothing, or so broken that it is no answer even to itself: nan, ?, /4"""
    return text.lower() in NO_ANSWER or FRAGMENT.fullmatch(text) is not None


def same(a: Value, b: Value) -> str:
    """The ladder, cheapest first: text, numbers, relations, sets of reals, lists and tuples."""
    if a.source == b.source:
        return "same text"
    if a.kind == "choice" or b.kind == "choice":
        return same_choice(a, b)
    if a.kind == "text" and b.kind == "text":
        return same_words(a, b)
    if a.kind == "number" and b.kind == "number":
        return same_number(a, b)

    own, others = components(a), components(b)
    if "relation" in (a.kind, b.kind) and own and others:
        step = same_components(own, others)
    elif a.kind == "relation" and b.kind == "relation":
        step = same_relations(a, b)
    elif a.kind == "relation":
        step = same_as_relation(a, b)
    elif b.kind == "relation":
        step = same_as_relation(b, a)
    else:
        step = ""
    if step:
        return step

    if are_same_letters(a, b) or are_same_letters(b, a):
        return "same letters"
    if a.kind == "piecewise" or b.kind == "piecewise":
        return same_piecewise(a, b)
    if a.kind == "text" or b.kind == "text":
        return ""
    if is_vector(a) and b.kind == "number":
        b = in_components(b, len(a.parts))
    elif is_vector(b) and a.kind == "number":
        a = in_components(a, len(b.parts))
    if a.kind != "group" or b.kind != "group" or a.shape != b.shape:
        with contextlib.suppress(ParseError):
            return same_real_sets(a, b)
    if a.kind == "group" or b.kind == "group":
        return same_group(a, b)
    if a.kind == "sets" and b.kind == "sets" and set(a.ops) == set(b.ops) in ({"∪"}, {"∩"}):
        return same_items([("", part) for part in a.parts], [("", part) for part in b.parts])
    return ""


def same_choice(a: Value, b: Value) -> str:
    """(C) 12 is C, and it is 12; two choices have the same letter and the same text."""
    if a.kind == b.kind:
        return in_order(a.parts, b.parts)
    choice, other = (a, b) if a.kind == "choice" else (b, a)
    return "same choice" if any(same(part, other) for part in choice.parts) else ""


def are_same_letters(run: Value, items: Value) -> bool:
    """ABD is A, B, D, several choices; a run has them in the order of the alphabet."""
    is_list = items.kind == "group" and items.shape == "" and "or" not in items.ops
    if not is_list or not re.fullmatch("[A-H]{2,8}", run.source):
        return False
    letters = sorted(item.source for item in items.parts)
    return "".join(letters) == run.source and len(set(letters)) == len(run.source)


def same_words(a: Value, b: Value) -> str:
    """The odd is odd; text of nothing but punctuation is no answer."""
    words = plain_words(a)
    return "same words" if words and words == plain_words(b) else ""


def plain_words(value: Value) -> str:
    """The Odd -> odd: without capitals, an article, blanks and punctuation; x^{b} -> x^b

    Letters that stand alone keep their case: not(A or B), sinc(X). Punctuation is what says
    nothing: not the signs of A ⊂ B and f', nor the comma of 1,5.
    """
    source = re.sub(r"(?<=[\^_])\{(\w)\}", r"\1", value.source)
    pieces = re.split(r"not|and|or|[\W\d_]+", source)
    if any(len(piece) > 1 for piece in pieces):
        source = re.sub(r"[^\W\d_]{2,}", lower_case, source)
    words = re.sub(r"^(?:the|an?) |[\s\"!?]|[.,;:](?!\d)", "", source)
    return words if re.search(r"\w", words) else ""


def lower_case(match: re.Match) -> str:
    """Odd -> odd"""
    return match[0].lower()


def in_order(left, right) -> str:
    """Are the values pairwise the same?"""
    if len(left) == len(right) and all(map(same, left, right)):
        return "same in order"
    return ""


def same_piecewise(a: Value, b: Value) -> str:
    """The same branches, in any order, or the same values wherever the branches of both overlap."""
    if max(len(a.parts), len(b.parts)) > MAX_BRANCHES:
        raise LimitExceeded(f"a function of more than {MAX_BRANCHES} branches")
    others = list(b.parts)
    for branch in a.parts:
        partner = next((other for other in others if in_order(branch.parts, other.parts)), None)
        if partner is None:
            break
        others.remove(partner)
    else:
        if a.kind == b.kind and not others:
            return "same branches"
    with contextlib.suppress(ParseError):
        return same_on_regions(a, b)
    return ""


def same_group(a: Value, b: Value) -> str:
    """Tuples, intervals, matrices in order; lists and sets in any; x = 1, y = 2 is like (1, 2)."""
    if "∅" in (a.source, b.source):                         # {∅} is not ∅
        return ""
    if (is_lone_set(a) or is_lone_set(b)) and not a.shape == b.shape == "{}":
        return ""                                           # {a} in {{a}, {b}} is not a
    if a.shape == b.shape == "case":
        return same_items(labeled_items(a), labeled_items(b))
    if join_differently(a, b):
        return ""
    if {a.shape, b.shape} == {"()", "case"}:                # x = 1, y = 2 is (1, 2)
        return in_order([item for _, item in labeled_items(a)],
                        [item for _, item in labeled_items(b)])
    if a.shape not in ("", "{}") and b.shape not in ("", "{}"):
        is_tuple_and_vector = "()" in (a.shape, b.shape) and is_vector(a) and is_vector(b)
        return in_order(a.parts, b.parts) if a.shape == b.shape or is_tuple_and_vector else ""

    if "±" in a.source + b.source:
        for tuples, others in itertools.product(readings(a), readings(b)):
            if (tuples, others) != (a, b) and (step := same_group(tuples, others)):
                return step

    left, right = labeled_items(a), labeled_items(b)
    is_list_and_tuple = {a.shape, b.shape} == {"", "()"}
    if is_list_and_tuple or names_components(left, right) or names_components(right, left):
        return in_order([item for _, item in left], [item for _, item in right])
    if a.shape in ("", "{}") and b.shape in ("", "{}"):
        return same_items(left, right)
    return ""


def is_lone_set(value: Value) -> bool:
    """Is it a set of one item that was kept, as an item of another set?"""
    return value.shape == "{}" and len(value.parts) == 1


def join_differently(a: Value, b: Value) -> bool:
    """Are conditions joined by "or" here and by "and" there?"""
    are_lists = all(value.kind == "group" and value.shape in ("", "{}") for value in (a, b))
    return are_lists and {joined_by(a), joined_by(b)} == {"and", "or"}


def joined_by(value: Value) -> str:
    """"and" or "or", whichever joins the conditions of a list; "" if nothing says so.

    Conditions are inequalities and congruences with different moduli. A comma is "and" between
    different names, beside ≠, and where all can hold together: in k > 0, k ≠ 1 and in x > 0, x < 5,
    but not in x < 0, x > 5.
    """
    relations = [part for part in value.parts if part.kind == "relation"]
    residues = [part.parts[-1] for part in relations if part.parts[-1].shape == "mod"]
    moduli = {residue.parts[-1].source for residue in residues}
    has_inequality = any(INEQUALITIES & set(part.ops) for part in relations)
    has_moduli = len(moduli) > 1
    if not has_inequality and not has_moduli:
        return ""
    for word in ("or", "and"):
        if word in value.ops:
            return word
    if has_moduli:
        return "and"
    names = set()
    for part in relations:
        names |= free_names(*(side for side in part.parts if side.kind == "number"))
    if len(names) > 1 or any("≠" in part.ops for part in relations):
        return "and"
    with contextlib.suppress(ParseError):
        common = sp.Intersection(*(read_reals(part, inside=True)[1] for part in value.parts))
        return "or" if common == sp.S.EmptySet else "and"
    return ""


def readings(value: Value) -> list[Value]:
    """What (±1, ±2) may stand for: (1,2), (-1,-2), or all four; of another value, itself alone."""
    items = value.parts if value.shape in ("", "{}") else (value,)
    if not any(item.shape == "()" and has_plus_minus(item) for item in items):
        return [value]

    lists = []
    for independent in (False, True):
        tuples = []
        for item in items:
            tuples += write_out_tuple(item, independent) if item.shape == "()" else [item]
        lists.append(Value("group", "", parts=tuple(tuples)))
    return lists


def has_plus_minus(value: Value) -> bool:
    return any(part.kind == "number" and part.expr.has(PLUS_MINUS) for part in value.parts)


def write_out_tuple(value: Value, independent: bool) -> list[Value]:
    """(±1, ±2) -> (1,2), (-1,-2); if its signs are independent, all four"""
    if not has_plus_minus(value):
        return [value]
    signed = [part.kind == "number" and part.expr.has(PLUS_MINUS) for part in value.parts]
    if sum(signed) > 6:
        raise LimitExceeded("a tuple with more than 6 double signs")

    tuples = []
    choices = [(1, -1) if has_sign else (1,) for has_sign in signed]
    combinations = [(1,) * len(signed), (-1,) * len(signed)]
    if independent:
        combinations = itertools.product(*choices)
    for signs in combinations:
        parts = []
        for part, sign in zip(value.parts, signs, strict=True):
            if part.kind == "number":
                expr = part.expr.xreplace({PLUS_MINUS: sp.Integer(sign)})
                part = part._replace(source=str(expr), expr=expr)
            parts.append(part)
        source = ",".join(part.source for part in parts)
        tuples.append(value._replace(source=f"({source})", parts=tuple(parts)))
    return tuples


def is_vector(value: Value) -> bool:
    """Is it a tuple, or a matrix of one column or of one row?"""
    return value.shape in ("()", "matrix1", f"matrix{len(value.parts)}")


def in_components(value: Value, count: int) -> Value:
    """3i - 4j -> (3,-4) or (3,-4,0), by the count; a formula without unit vectors stays itself.

    Without j and k it is none: 3 + 4i is a complex number.
    """
    basis = [IMAGINARY, *sp.symbols("j k")]
    used = [name for name in basis if value.expr.has(name)]
    if not value.expr.has(*basis[1:]) or used[-1] not in basis[:count] or count > 3:
        return value
    components = [sp.diff(value.expr, name) for name in basis[:count]]
    rest = value.expr.xreplace(dict.fromkeys(basis, sp.S.Zero))
    if rest != 0 or any(component.has(*basis) for component in components):
        return value
    parts = tuple(Value("number", f"{expr} {value.unit}", expr, value.unit) for expr in components)
    return Value("group", value.source, shape="()", parts=parts)


def labeled_items(value: Value) -> list[tuple[str, Value]]:
    """The (label or "", item) pairs of a group; the items of a tuple have no labels."""
    if value.shape == "()":
        return [("", part) for part in value.parts]
    if value.shape == "case":
        return [split_label(part) for part in value.parts]
    return flatten(value)


def names_components(items: list, others: list) -> bool:
    """Are the items x = 7, y = 6, each with a short name of its own, and the others 7, 6?"""
    initials = {name[0] for name, _ in items if 0 < len(name) < 8}
    return len(items) > 1 and len(initials) == len(items) and not any(name for name, _ in others)


def flatten(value: Value, label: str = "") -> list[tuple[str, Value]]:
    """The (label or "", item) pairs of a list, with the lists in it written out, but not its sets.

    x ∈ {1, 2} or 3  ->  ("x", 1), ("x", 2), ("", 3)
    {1, 2}, {3, 4}   ->  ("", {1, 2}), ("", {3, 4})
    """
    own_label, value = split_label(value)
    label = own_label or label
    is_list = value.kind == "group" and value.shape in ("", "{}")
    items = value.parts if is_list else expand([value])
    if items == (value,):
        return [(label, value)]

    pairs = []
    for item in items:
        is_element = item.shape == "{}" and (value.shape == "{}" or len(items) > 1)
        pairs += [(label, item)] if is_element else flatten(item, label)
    return pairs


def same_items(left: list, right: list) -> str:
    """Do two lists of (label, value) pairs hold the same items, in any order?

    Items have to occur equally often, except that a list without repetitions also stands for one
    that repeats all of it, 4 for 4, 4, and a list of tuples for one that repeats some.
    """
    shorter, longer = sorted((left, right), key=len)
    same_labels = {label for label, _ in shorter} == {label for label, _ in longer}

    def base(label: str) -> str:
        """x for x_1, if the labels differ: one side may say x_1 and the other only x."""
        return label if same_labels else label.partition("_")[0]

    def alike(item, other) -> bool:
        (label, value), (other_label, other_value) = item, other
        if label and other_label and base(label) != base(other_label):
            return False
        return same(value, other_value) != ""

    # 1. Cancel what is spelled identically on both sides: cheap, and usually everything.
    shared = Counter(map(spelling, shorter)) & Counter(map(spelling, longer))
    unmatched = without(shorter, shared)
    extra = without(longer, shared)
    if len(unmatched) * len(extra) > MAX_ITEMS:
        raise LimitExceeded("two long lists with too little in common")

    # 2. Find a partner for each item that is left on the shorter side.
    has_more = set()                                        # which side names a unit alone
    for item in unmatched:
        partner = next((other for other in extra if alike(item, other)), None)
        if partner is None:
            return ""
        extra.remove(partner)
        units = [value.unit != "" for _, value in (item, partner)]
        if units[0] != units[1]:
            has_more.add(units.index(True))

    # A list may leave its units out. It may not have them elsewhere: 3 m, 1 is not 1 m, 3.
    if len(has_more) == 2:
        return ""

    # 3. What is left on the longer side may only repeat items of a shorter side without repeats:
    #    all of them, or some if they are tuples, such as the solutions of a system.
    if not extra:
        return "same items"
    if len(extra) >= 50 or any(alike(*pair) for pair in itertools.combinations(shorter, 2)):
        return ""
    repeats = [sum(alike(item, other) for other in extra) for item in shorter]
    if sum(repeats) != len(extra):
        return ""
    are_tuples = all(value.shape == "()" for _, value in shorter)
    return "same items" if are_tuples or len(set(repeats)) == 1 else ""


def spelling(item: tuple[str, Value]):
    """What makes two items identical without any mathematics; 2/4 and 1/2 are the same here."""
    label, value = item
    if value.kind == "number" and value.expr.is_Rational and not value.unit:
        return label, value.expr
    return label, value.source


def without(items: list, counts: Counter) -> list:
    """The items that remain when as many of each spelling as counted are taken out."""
    counts = counts.copy()
    remaining = []
    for item in items:
        counts[spelling(item)] -= 1
        if counts[spelling(item)] < 0:
            remaining.append(item)
    return remaining


def split_label(value: Value) -> tuple[str, Value]:
    """(label, value) of an equation between a label and a value; otherwise ("", the whole).

    x = 5, 5 = x, f(x) = 2x, (x, y) = (1, 2), x = y = 5
    """
    if value.kind == "relation" and set(value.ops) <= {"=", "∈"}:
        *labels, last = value.parts
        if len(labels) == 1 and is_label(last) and not is_label(labels[0]):      # 5 = x
            labels, last = [last], labels[0]
        if all(map(is_label, labels)) and last.source != labels[-1].source:
            return labels[0].source, last
    return "", value


def components(value: Value) -> dict[str, Value]:
    """{x: 3, y: 4} of (x, y) = (3, 4), and of x = 3, y = 4; {} of anything else"""
    label, right = split_label(value)
    names = label[1:-1].split(",")
    pairs = []
    if label.startswith("(") and right.shape == "()" and len(names) == len(right.parts):
        pairs = list(zip(names, right.parts, strict=True))
    elif value.kind == "group" and value.shape == "":
        pairs = [split_label(part) for part in value.parts]
    values = dict(pairs)
    return values if len(values) == len(pairs) > 1 and "" not in values else {}


def same_components(values: dict[str, Value], others: dict[str, Value]) -> str:
    """(x, y) = (3, 4) is y = 4, x = 3, and not x = 4, y = 3."""
    if values.keys() != others.keys():
        return ""
    return "same components" if all(same(values[name], others[name]) for name in values) else ""


def is_label(value: Value) -> bool:
    """May it stand for a value: a letter, f(x), a short text, or a tuple of these?"""
    if value.kind == "number":
        is_letter = value.expr.is_Symbol and value.expr not in (IMAGINARY, *CONSTANTS.values())
        return not value.unit and (is_letter or isinstance(value.expr, AppliedUndef))
    if value.kind == "text" and len(value.source) < 40:
        return True
    return value.shape == "()" and all(map(is_label, value.parts))


def same_as_relation(relation: Value, other: Value) -> str:
    """Is a relation the same as something that is none? A label, a true equation, a solved one."""
    label, value = split_label(relation)
    if label:                                               # x = 5 is 5
        return same(value, other)
    if set(relation.ops) != {"="} or any(part.kind != "number" for part in relation.parts):
        return ""

    if not free_names(*relation.parts):
        return same_as_chain(relation, other)
    if len(relation.parts) == 2 and other.kind == "number" and other.expr.free_symbols:
        return same_as_solution(relation, other)
    return ""


def free_names(*values: Value) -> set[sp.Symbol]:
    """The variables in the values' expressions; the imaginary unit is none."""
    names = set()
    for value in values:
        names |= value.expr.free_symbols
    return names - {IMAGINARY}


def same_as_chain(chain: Value, other: Value) -> str:
    """1/2 = 0.5 is the same as 1/2, if it is true."""
    for left, right in itertools.pairwise(chain.parts):
        if not identical(left.expr, right.expr):
            return ""
    return same(chain.parts[-1], other)


def same_as_solution(equation: Value, other: Value) -> str:
    """x y = 6 is the same as 6/x: linear in the one name that the other side does not have."""
    left, right = equation.parts
    gap = left.expr - right.expr
    unknowns = gap.free_symbols - other.expr.free_symbols
    if len(unknowns) != 1:
        return ""
    unknown = unknowns.pop()
    is_linear = unknown not in sp.diff(gap, unknown).free_symbols
    if is_linear and identical(gap.xreplace({unknown: other.expr}), sp.S.Zero):
        return "solved equation"
    return ""


CALL = re.compile(r"(\w+'*)\(([^\W\d_])\)")              # f(x), f'(x); but f(2) is one value


def same_relations(a: Value, b: Value) -> str:
    """Are two relations the same? By label and value, a renamed argument, a factor, or a flip."""
    label_a, value_a = split_label(a)
    label_b, value_b = split_label(b)
    if label_a and are_same_labels(label_a, label_b) and (step := same(value_a, value_b)):
        return step

    call_a = CALL.fullmatch(label_a)
    call_b = CALL.fullmatch(label_b)
    parts = (*a.parts, *b.parts)
    if call_a and call_b and all(part.kind == "number" for part in parts if part.kind != "text"):
        return same_function(call_a, value_a, call_b, value_b)
    if all(part.kind == "number" for part in parts) and len(a.ops) == len(b.ops) == 1:
        if a.ops == b.ops == ("=",) and free_names(*parts):
            return same_equation(a, b)
        step = same_chain(a, b)
        if not step and {*a.ops, *b.ops} <= INEQUALITIES - {"≠"}:
            step = same_inequality(a, b)
        return step
    return same_chain(a, b)


def are_same_labels(label: str, other: str) -> bool:
    """The same text, or y and f(x): a function's graph names its values y."""
    if label == other:
        return True
    return "y" in (label, other) and bool({label, other} & {"f(x)", "g(x)", "h(x)", "y(x)"})


def same_function(call_a: re.Match, value_a: Value, call_b: re.Match, value_b: Value) -> str:
    """f(x) = 2x is f(z) = 2z, but not f(z) = 2x; the calls are matches with the groups f and x."""
    if call_a[1] != call_b[1] or value_a.kind != "number" or value_b.kind != "number":
        return ""
    bound = sp.Symbol("bound")
    renamed_a = value_a.expr.xreplace({sp.Symbol(call_a[2]): bound})
    renamed_b = value_b.expr.xreplace({sp.Symbol(call_b[2]): bound})
    return "bound name changed" if identical(renamed_a, renamed_b) else ""


def same_equation(a: Value, b: Value) -> str:
    """x²/4 + y²/3 = 1 is 3x² + 4y² = 12: the same up to a factor; 4y = ±3x is 3x ± 4y = 0."""
    gaps = signed_gaps(a)
    other_gaps = signed_gaps(b)
    if len(gaps) != len(other_gaps):
        return ""
    for order in (other_gaps, other_gaps[::-1]):
        if all(map(are_proportional, gaps, order)):
            return "same equation"
    return ""


def signed_gaps(equation: Value) -> list[sp.Expr]:
    """Left less right side; of y = ±x there are two, y - x and y + x."""
    gap = equation.parts[0].expr - equation.parts[1].expr
    if not gap.has(PLUS_MINUS):
        return [gap]
    return [gap.xreplace({PLUS_MINUS: sp.Integer(sign)}) for sign in (1, -1)]


def are_proportional(x: sp.Expr, y: sp.Expr) -> bool:
    """Are two expressions with the same names equal up to a constant factor?"""
    names = x.free_symbols - {IMAGINARY}
    if not names or names != y.free_symbols - {IMAGINARY} or y.is_zero:
        return False                                        # any two constants are proportional
    # Their ratio is constant if x(p) y(q) = y(p) x(q) at any two points p and q.
    at_q = {name: sp.Symbol(name.name + "'") for name in names}
    return identical(x * y.xreplace(at_q), y * x.xreplace(at_q))


def same_inequality(a: Value, b: Value) -> str:
    """x² - 3a < 0 is 3x² < 9a, and 9a > 3x²: the same up to a positive factor."""
    (op_a,), (op_b,) = a.ops, b.ops
    gap_a = a.parts[0].expr - a.parts[1].expr
    gap_b = b.parts[0].expr - b.parts[1].expr
    if op_a == op_b.translate(FLIPPED):
        gap_b = -gap_b
    elif op_a != op_b:
        return ""
    if not are_proportional(gap_a, gap_b):
        return ""

    for number in range(len(REGIONS)):
        ratio = evaluate(gap_a / gap_b, draw_point(number, gap_a.free_symbols))
        if ratio is None or MP.im(ratio) or ratio <= 0:
            return ""
    return "same inequality"


def same_chain(a: Value, b: Value) -> str:
    """1 < x ≤ 2 is 2 ≥ x > 1"""
    flipped_ops = tuple(op.translate(FLIPPED) for op in reversed(b.ops))
    step = in_order(a.parts, b.parts) if a.ops == b.ops else ""
    if not step and a.ops == flipped_ops:
        step = in_order(a.parts, b.parts[::-1])
    return step


# At the end of an answer, a name that it declares: "n ∈ ℤ", "for any real constant c". What x, y
# and z stand for is given by the problem.
DECLARATION = re.compile(r"""
    (?<=[^ ]) [ ]? [,;:]? [ ]? \(? [ ]? (?: "(?:for|where|with)" [ ] )?
    (?: (?: "(?:some|any|all|every|each)" [ ] )? ([a-wλμ]) [ ]? ∈ [ ]? [ℤZℝR]
      | "(?:for|where|with)" [ ] (?: "(?:some|any|all|every|each|arbitrary)" [ ] )?
        (?: "(?:integers?|real|constants?|numbers?)" [ ] )+ ([a-wλμ])
      | ([a-wλμ]) [ ] "is" [ ] (?: an? [ ] | "any" [ ] ) (?: "arbitrary" [ ] )?
        (?: "(?:integer|real|constant|number)" [ ]? )+
    ) [ ]? \)? $
""", re.X)
# The names that solutions are listed by; with others, a or p, an answer is a formula in them.
PARAMETER = re.compile("[k-nr-tλμ]")


class Declaration(NamedTuple):
    """A name, the numbers that it stands for, and the answer before it says so."""
    name: str
    domain: str                     # "integer" or "real"
    is_for_all: bool                # "for any c" rather than "for some c"
    text: str


def read_declaration(text: str) -> Declaration | None:
    """f(x)=cx, c ∈ ℝ -> c, "real", f(x)=cx; None if a normalized answer declares nothing"""
    clause = DECLARATION.search(text)
    if not clause:
        return None
    domain = "integer" if re.search("[ℤZ]|integer", clause[0]) else "real"
    is_for_all = re.search("any|all|every|each", clause[0]) is not None
    return Declaration(clause[clause.lastindex], domain, is_for_all, text[:clause.start()])


def same_renamed(text: str, other: str) -> str:
    """f(x) = cx for any real c is f(x) = kx, k ∈ ℝ: what both declare may have another name."""
    declared = read_declaration(text)
    other_declared = read_declaration(other)
    if not declared or not other_declared or declared.domain != other_declared.domain:
        return ""
    values = [rename(parse(side.text), side.name) for side in (declared, other_declared)]
    return "declared name changed" if None not in values and same(*values) else ""


def rename(value: Value, name: str) -> Value | None:
    """The value with its declared name replaced; None if it is an argument or an index, f(c)."""
    if value.kind == "text":
        return None if name in value.source else value
    parts = tuple(rename(part, name) for part in value.parts)
    if None in parts:
        return None
    expr = value.expr
    if expr is not None:
        expr = expr.xreplace({sp.Symbol(name): sp.Symbol("declared")})
    if expr == value.expr and parts == value.parts:
        return value
    # The source says which name it was: cx+a is not the same text where c and where a is declared.
    return value._replace(source=f"{value.source} {name}", expr=expr, parts=parts)


class Family(NamedTuple):
    """The solutions that an answer lists by a parameter: x = 5+7t, y = -2-3t, t ∈ ℤ

    Each alternative has a step and an offset for each component: (7, 5), (-3, -2).
    """
    domain: str                     # "integer" or "real"
    names: tuple[str, ...]          # x and y; () if they have none
    alternatives: tuple[tuple[tuple[sp.Expr, sp.Expr], ...], ...]


def same_family(text: str, other: str) -> str:
    """x = 5+7t, y = -2-3t is (-2-7k, 1+3k), and n = 4k+1 is n ≡ 1 (mod 4), k and t integers."""
    family = read_family(text)
    other_family = read_family(other) if family else None
    if not other_family or family.domain != other_family.domain:
        return ""
    names = family.names or other_family.names              # without any, 2k+1 may be a formula
    other_names = other_family.names or names
    if not names or sorted(names) != sorted(other_names):
        return ""

    members = {canonical_member(lines, family.domain) for lines in family.alternatives}
    other_members = set()
    for lines in other_family.alternatives:
        lines = tuple(lines[other_names.index(name)] for name in names)
        other_members.add(canonical_member(lines, family.domain))
    return "same family" if members == other_members else ""


def canonical_member(lines, domain: str) -> tuple:
    """The same for each way to write one alternative: 11-4k and 3+4k are 4k+3.

    lines: the step and the offset of each component. The first step becomes positive and its
    offset the least; for a real parameter they become 1 and 0.
    """
    first_step, first_offset = next(line for line in lines if line[0] != 0)
    unit = first_step if domain == "real" else sp.sign(first_step)
    shift = first_offset / (first_step / unit)
    if domain == "integer":
        shift = sp.floor(shift) if shift.is_Rational else sp.S.Zero

    member = []
    for step, offset in lines:
        step = step / unit
        member.append((step, offset - shift * step))
    return tuple(member)


def read_family(text: str) -> Family | None:
    """The family of a normalized answer; None if it is none, or not linear in its parameter."""
    declared = read_declaration(text)
    if not declared and "mod" in text:                      # a congruence needs no name
        declared = Declaration("parameter", "integer", False, text)
    elif not declared or declared.is_for_all or not PARAMETER.fullmatch(declared.name):
        return None
    value = parse(declared.text)
    if value.kind == "group" and joined_by(value) == "and":             # a system, no alternatives
        return None
    items = value.parts if value.kind == "group" and not value.shape else (value,)
    parameter = sp.Symbol(declared.name)
    pairs = [split_family_item(item, parameter) for item in items]

    # 1. Items with a name each are components, others are alternatives.
    labels = [label for label, _ in pairs]
    values = [item for _, item in pairs]
    if len(labels) > 1 and "" not in labels and len(set(labels)) == len(labels):
        names = tuple(labels)
        alternatives = [values]
    elif set(labels) <= {labels[0], ""}:
        names = tuple(labels[0].strip("()").split(",")) if labels[0] else ()
        alternatives = [item.parts if item.shape == "()" else [item] for item in values]
    else:
        return None

    # 2. A name may say that this is no family but a formula for each integer: f(n), a_n.
    sizes = {len(components) for components in alternatives}
    if any(declared.name in name for name in names) or len(sizes) != 1:
        return None
    if names and sizes != {len(names)} or (declared.domain == "real" and sizes == {1}):
        return None

    # 3. Each component is linear, and at least one is not constant.
    members = []
    for components in alternatives:
        lines = tuple(read_line(component, parameter) for component in components)
        if None in lines or all(step == 0 for step, _ in lines):
            return None
        members.append(lines)
    return Family(declared.domain, names, tuple(members))


def split_family_item(item: Value, parameter: sp.Symbol) -> tuple[str, Value]:
    """x = 5+7t -> its label and its value; n ≡ 1 (mod 4) -> n and 1+4t"""
    label, value = split_label(item)
    if value.shape != "mod":
        return label, value
    residue, modulus = value.parts
    return label, residue._replace(expr=residue.expr + parameter * modulus.expr)


def read_line(value: Value, parameter: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """5+7t -> 7, 5: the step and the offset, real numbers; None for other formulas"""
    if value.kind != "number" or value.unit:
        return None
    step = sp.diff(value.expr, parameter)
    if step.free_symbols or not step.is_real:
        return None
    offset = value.expr.xreplace({parameter: sp.S.Zero})
    return (step, offset) if offset.is_real and not offset.free_symbols else None


# --- 6. sets of real numbers --------------------------------------------------------------------
# Each reader returns (variable, set). The variable is "" where the set is not about a name, and
# where the name is bound, as in {x | x > 2}. Each raises ParseError.

def same_real_sets(a: Value, b: Value) -> str:
    """(1,2] is 1 < x ≤ 2. Raises ParseError if one of the two is no set of reals."""
    name_a, set_a = read_reals(a)
    name_b, set_b = read_reals(b)
    if set_a == set_b and (name_a == name_b or not name_a or not name_b):
        return "same set of reals"
    return ""


def read_reals(value: Value, inside: bool = False) -> tuple[str, sp.Set]:
    """The set of reals that a value stands for.

    inside: it is a part of a set. Then 5, {1, 2} and x = 5 are sets too; alone they are values.
    """
    if value.kind == "number" and value.expr == CONSTANTS["ℝ"]:
        return "", sp.S.Reals
    if value.kind == "number" and value.expr == CONSTANTS["∅"]:
        return "", sp.S.EmptySet
    if value.kind == "group" and value.shape in ("()", "(]", "[)", "[]") and len(value.parts) == 2:
        return read_interval(value)
    if inside and (value.kind == "number" or value.shape == "{}"):
        return read_finite_set(value)
    if value.kind == "sets":
        return read_set_operation(value)
    if value.kind == "group" and not value.shape:
        return read_conditions(value)
    if value.kind == "relation" and (inside or value.ops != ("=",)):
        return read_inequality(value)
    raise ParseError("not a set of reals")


def read_interval(value: Value) -> tuple[str, sp.Set]:
    """(1,2] -> the interval from 1, excluded, to 2"""
    low, high = map(endpoint, value.parts)
    if not low < high:
        raise ParseError("not an interval")
    return "", sp.Interval(low, high, value.shape[0] == "(", value.shape[1] == ")")


def read_finite_set(value: Value) -> tuple[str, sp.Set]:
    """{1, 2} -> the set of 1 and 2; a number alone is the set of it"""
    elements = value.parts or (value,)
    return "", sp.FiniteSet(*map(endpoint, elements))


def read_set_operation(value: Value) -> tuple[str, sp.Set]:
    """(0,1) ∪ {2} -> their union, from left to right; {x | x > 2} -> the one set in it"""
    name, result = read_reals(value.parts[0], inside=True)
    for op, part in zip(value.ops, value.parts[1:], strict=True):
        _, operand = read_reals(part, inside=True)
        if op == "∪":
            result = result | operand
        elif op == "∩":
            result = result & operand
        else:
            result = result - operand
    return name if value.ops else "", result


def read_conditions(value: Value) -> tuple[str, sp.Set]:
    """x < -2 or x > 2 -> the union; "x > 0 and x < 2" -> the intersection; about one variable"""
    if any(part.kind != "relation" for part in value.parts):
        raise ParseError("not a set of reals")
    names, sets = zip(*(read_reals(part, inside=True) for part in value.parts), strict=True)
    if len(set(names)) != 1:
        raise ParseError("conditions on different variables")
    if joined_by(value) == "and":
        return names[0], sp.Intersection(*sets)
    return names[0], sp.Union(*sets)


def read_inequality(value: Value) -> tuple[str, sp.Set]:
    """1 < x ≤ 2 -> the x above 1 that are at most 2; one part is the variable"""
    variables = [part for part in value.parts if is_label(part)]
    numbers = [part for part in value.parts if part.kind == "number" and not part.unit]
    names = free_names(*numbers)
    if len(variables) == 1 and not names - free_names(*variables[:variables[0].expr is not None]):
        variable = variables[0]
        name = variable.source
    elif len(names) == 1 and len(numbers) == len(value.parts):
        variable = None
        name = str(*names)
    else:
        raise ParseError("not one variable")

    sets = []
    pairs = itertools.pairwise(value.parts)
    for op, (left, right) in zip(value.ops, pairs, strict=True):
        if left is variable:                                # x ≤ 2
            sets.append(half_line(op, right))
        elif right is variable:                             # 1 < x is x > 1
            sets.append(half_line(op.translate(FLIPPED), left))
        else:
            sets.append(solve_bars(op, left, right))
    return name, sp.Intersection(*sets)


def solve_linear(op: str, left: Value, right: Value) -> sp.Set:
    """The reals x with 2x + 1 < 5; all of them for 2 < 3. Linear in the only name."""
    if not (left.kind == right.kind == "number") or op not in INEQUALITIES:
        raise ParseError("not an inequality")
    gap = left.expr - right.expr
    names = free_names(left, right)
    slope = sp.diff(gap, *names) if names else sp.S.Zero
    size = evaluate(slope, {})
    if slope.free_symbols or size is None or MP.im(size):
        raise ParseError("not linear")

    if size == 0:
        constant = evaluate(gap.xreplace(dict.fromkeys(names, sp.S.Zero)), {})
        if constant is None or MP.im(constant):
            raise ParseError("not real")
        ends = {"<": constant < 0, ">": constant > 0, "≠": constant != 0}
        is_true = ends.get(op, constant == 0 or ends["<" if op == "≤" else ">"])
        return sp.S.Reals if is_true else sp.S.EmptySet
    root = -gap.xreplace(dict.fromkeys(names, sp.S.Zero)) / slope
    return half_line(op if size > 0 else op.translate(FLIPPED), Value("number", "", root))


def solve_bars(op: str, left: Value, right: Value) -> sp.Set:
    """The reals x with |x - 2| < 3 or |2x| ≥ 1; linear ones as solve_linear."""
    gap = left.expr - right.expr if left.kind == right.kind == "number" else sp.S.Zero
    bars = gap.atoms(sp.Abs)
    if not bars:
        return solve_linear(op, left, right)
    bar = bars.pop()
    factor = gap.coeff(bar)
    bound = -(gap - factor * bar) / factor if factor.is_Rational and factor else gap
    may_be_complex = {name.name for name in bar.free_symbols} & {"z", "w"}
    if bars or bound.free_symbols or op not in "<>≤≥" or may_be_complex:
        raise ParseError("more than one absolute value and a number")

    if factor < 0:
        op = op.translate(FLIPPED)
    inside = Value("number", "", bar.args[0])
    below = solve_linear(op, inside, Value("number", "", bound))
    above = solve_linear(op.translate(FLIPPED), inside, Value("number", "", -bound))
    return below & above if op in "<≤" else below | above


def integers_in(reals: sp.Set) -> list[int]:
    """The integers of a bounded set. Raises ParseError if it is not bounded."""
    numbers = []
    for part in reals.args if isinstance(reals, sp.Union) else (reals,):
        if isinstance(part, sp.FiniteSet):
            numbers += [int(point) for point in part if point.is_Integer]
        elif isinstance(part, sp.Interval) and part.start.is_finite and part.end.is_finite:
            first = sp.floor(part.start) + 1 if part.left_open else sp.ceiling(part.start)
            last = sp.ceiling(part.end) - 1 if part.right_open else sp.floor(part.end)
            if last - first > MAX_ITEMS:
                raise LimitExceeded(f"a set of more than {MAX_ITEMS} integers")
            numbers += range(int(first), int(last) + 1)
        elif part != sp.S.EmptySet:
            raise ParseError("infinitely many integers")
    return sorted(numbers)


def half_line(op: str, other: Value) -> sp.Set:
    """The reals x with `x op other`."""
    if op == "∈":
        return read_reals(other, inside=True)[1]
    end = endpoint(other)
    if op == "=":
        return sp.FiniteSet(end)
    if op == "≠":
        return sp.S.Reals - sp.FiniteSet(end)
    if op in "<≤":
        return sp.Interval(-sp.oo, end, False, op == "<")
    if op in ">≥":
        return sp.Interval(end, sp.oo, op == ">", False)
    raise ParseError(f"no set of reals is meant by {op}")


def endpoint(value: Value) -> sp.Expr:
    """An end of an interval; an irrational one by its first 40 digits, however it is written."""
    if value.kind != "number" or value.unit or value.expr.free_symbols:
        raise ParseError("an end that is no number")
    if value.expr.is_Rational or value.expr in (sp.oo, -sp.oo):
        return value.expr
    spreads = []
    digits = evaluate(value.expr, {}, spreads)
    if digits is None or MP.im(digits) or max(spreads, default=0) > 20:
        raise ParseError("an end that is not real, or not known to 40 digits")
    return sp.Rational(MP.nstr(digits, 40))


def same_on_regions(a: Value, b: Value) -> str:
    """x if x ≥ 0, -x if x < 0 is |x|. Raises ParseError if one of the two is no such function."""
    names_a, regions_a = read_regions(a)
    names_b, regions_b = read_regions(b)
    names = names_a | names_b
    domain_a = sp.Union(*(reals for reals, _ in regions_a))
    domain_b = sp.Union(*(reals for reals, _ in regions_b))
    if len(names) != 1 or domain_a != domain_b:
        return ""
    name = sp.Symbol(*names)
    for (reals_a, x), (reals_b, y) in itertools.product(regions_a, regions_b):
        if not identical_on(reals_a & reals_b, x, y, name):
            return ""
    return "same on each region"


def read_regions(value: Value) -> tuple[set[str], list]:
    """The name in the conditions, and the (set of reals, expression) pairs of the branches.

    A formula has one branch, and holds for all reals.
    """
    if value.kind == "number" and not value.unit:
        return set(), [(sp.S.Reals, value.expr)]
    if value.kind != "piecewise":
        raise ParseError("not a function of a real number")
    names = set()
    regions = []
    elsewhere = sp.S.Reals
    for result, condition in (branch.parts for branch in value.parts):
        if result.kind != "number" or result.unit:
            raise ParseError("a branch without a formula")
        if condition == OTHERWISE:
            reals = elsewhere
        else:
            name, reals = read_reals(condition, inside=True)
            names.add(name)
        elsewhere = elsewhere - reals
        regions.append((reals, result.expr))
    return names, regions


def identical_on(reals: sp.Set, x: sp.Expr, y: sp.Expr, name: sp.Symbol) -> bool:
    """Are two expressions identical where `name` is in a union of intervals and points?"""
    for part in reals.args if isinstance(reals, sp.Union) else (reals,):
        if isinstance(part, sp.FiniteSet):
            for point in part:
                if not identical(x.xreplace({name: point}), y.xreplace({name: point})):
                    return False
        elif isinstance(part, sp.Interval):
            if not identical_inside(part, x, y, name):
                return False
        elif part != sp.S.EmptySet:
            raise ParseError("no interval")
    return True


def identical_inside(interval: sp.Interval, x: sp.Expr, y: sp.Expr, name: sp.Symbol) -> bool:
    """Are two expressions identical where `name` is inside an interval? Tried at points there."""
    names = (x.free_symbols | y.free_symbols | {name}) - {IMAGINARY}
    low = evaluate(interval.start, {})                      # None if it is infinite
    high = evaluate(interval.end, {})
    points = []
    for number in range(len(REGIONS)):
        values = draw_point(number, names)
        distance = abs(values[name])
        if low is not None and high is not None:
            values[name] = low + (high - low) * distance / (1 + distance)
        elif low is not None:
            values[name] = low + distance
        elif high is not None:
            values[name] = high - distance
        points.append(values)

    agreed = 0
    for values in itertools.chain(points, kink_points(x, y, names)):
        is_above = low is None or values[name] > low
        is_below = high is None or values[name] < high
        sample = sample_at(x, y, values) if is_above and is_below else None
        if sample is not None:
            if not sample.agree:
                return False
            agreed += 1
    return agreed >= 3


# --- 7. numbers ---------------------------------------------------------------------------------

def same_number(a: Value, b: Value) -> str:
    """Units may be left out or converted; percent and degrees may also be worked out."""
    if a.unit and b.unit and a.unit != b.unit:
        ratio = unit_ratio(a.unit, b.unit)
        if ratio is None:
            return ""
        if ratio != 1:                                      # 2 km are 2000 m, exactly
            return "same quantity" if identical(a.expr * ratio, b.expr) else ""
    step = same_size(a, b) if may_drop_percent(a, b) else ""
    if not step:
        step = same_scaled(a, b) or same_scaled(b, a)
    return step


def may_drop_percent(a: Value, b: Value) -> bool:
    """28% is 28, but 0.25% is not 0.25: a number of at most 1 may be a probability."""
    if (a.unit == "percent") == (b.unit == "percent"):
        return True
    size = evaluate(a.expr, {})
    return size is None or abs(size) > 1


@functools.lru_cache(maxsize=1024)
def unit_ratio(unit: str, other: str) -> sp.Expr | None:
    """How many of the other unit one of the unit is; None if they are different things.

    miles per hour, miles             1: what stands after "per" may be left out
    red balls, balls                  1: so may a word that is no unit of measure
    red balls, blue balls             None
    square meters, square feet        (1/0.3048)^2
    square meters, meters             None
    """
    if "sterling" in unit + other:
        unit, other = unit.replace("pound", "sterling"), other.replace("pound", "sterling")
    tops, bottoms = split_unit(unit)
    other_tops, other_bottoms = split_unit(other)
    ratio = measures_ratio(tops, other_tops)
    if ratio is not None and bottoms and other_bottoms:
        bottom_ratio = measures_ratio(bottoms, other_bottoms)
        ratio = None if bottom_ratio is None else ratio * bottom_ratio
    return ratio


def split_unit(unit: str) -> tuple[list, list]:
    """mile hour^-1 -> [(mile, 1)], [(hour, -1)]"""
    powers = []
    for word in unit.split():
        name, _, exponent = word.partition("^")
        powers.append((name, int(exponent or 1)))
    return [p for p in powers if p[1] > 0], [p for p in powers if p[1] < 0]


def measures_ratio(powers: list, others: list) -> sp.Expr | None:
    """The ratio of two products of units; None if they do not measure the same.

    Other words, such as red balls, have to be all among those of the other side.
    """
    words = {name for name, _ in powers if name not in UNIT_TABLE}
    other_words = {name for name, _ in others if name not in UNIT_TABLE}
    if not (words <= other_words or other_words <= words) or bool(powers) != bool(others):
        return None

    bases = Counter()
    ratio = sp.S.One
    for name, exponent in [*powers, *((name, -exponent) for name, exponent in others)]:
        if name in UNIT_TABLE:
            bases[UNIT_TABLE[name].base] += exponent
            ratio *= UNIT_TABLE[name].factor**exponent
    has_measures = [any(name in UNIT_TABLE for name, _ in side) for side in (powers, others)]
    return ratio if not any(bases.values()) and has_measures[0] == has_measures[1] else None


def same_scaled(scaled: Value, plain: Value) -> str:
    """50% is 1/2, and 90° is π/2"""
    factors = {"percent": sp.Rational(1, 100), "degree": sp.pi / 180}
    if plain.unit or scaled.unit not in factors:
        return ""
    if identical(scaled.expr * factors[scaled.unit], plain.expr):
        return f"same without {scaled.unit}"
    return ""


def same_size(a: Value, b: Value) -> str:
    """Are two numbers or formulas the same, whatever their units?"""
    x, y = a.expr, b.expr
    if x == y:
        return "same number"
    if is_power_of_i(x, y) or is_power_of_i(y, x):
        return ""
    if identical(x, y):
        return "numeric identity"
    if stand_for_all_integers(x, y):
        name, other_name = *x.free_symbols, *y.free_symbols
        return "bound integer renamed" if identical(x.xreplace({name: other_name}), y) else ""
    if is_same_antiderivative(x, y):
        return "same up to the constant"
    return "rounded" if rounds_to(a, b) or rounds_to(b, a) else ""


def is_same_antiderivative(x: sp.Expr, y: sp.Expr) -> bool:
    r"""\ln|2x| + C and \ln|x| + K: the rest differs by a number, which the constant takes in."""
    rests = []
    for expr in (x, y):
        constants = [name for name in expr.free_symbols if name.name in ("C", "K")]
        if len(constants) != 1 or sp.diff(expr, *constants) != 1:
            return False
        rests.append(expr - constants[0])

    # They are about one variable: with more names, A + B + C, the constant may be a given one.
    names = rests[0].free_symbols
    is_of_variable = len(names) == 1 and all(name.name.islower() for name in names)
    is_stepped = any(rest.has(sp.floor, sp.ceiling) for rest in rests)
    if not is_of_variable or is_stepped or names != rests[1].free_symbols:
        return False

    # They differ by a number if they change alike from any point p to any point q.
    at_q = {name: sp.Symbol(name.name + "'") for name in names}
    change, other_change = (rest - rest.xreplace(at_q) for rest in rests)
    return identical(change, other_change)


def is_power_of_i(x: sp.Expr, y: sp.Expr) -> bool:
    """Is i^2, an unevaluated copy of -1, in x, and no i in y?"""
    if not x.has(IMAGINARY) or y.has(IMAGINARY):
        return False
    return any(power.base == IMAGINARY for power in x.atoms(sp.Pow))


def stand_for_all_integers(x: sp.Expr, y: sp.Expr) -> bool:
    """π/6 + k π against π/6 + n π: one name each, for an integer, and multiples of π."""
    if len(x.free_symbols) != 1 or len(y.free_symbols) != 1:
        return False
    names = x.free_symbols | y.free_symbols
    if not all(name.name in ("k", "l", "m", "n", "t") for name in names):
        return False
    slope = sp.diff(x, *x.free_symbols) / sp.pi
    return bool(slope.is_Rational)


def rounds_to(exact: Value, decimal: Value) -> bool:
    """Does a number round to a decimal that is precise enough to stand for it?

    A fraction: with two places and three digits, 30.52. Any number: with six places, 0.707107, or
    seven digits; with eight digits it may also be cut off, 1.7099759 for 1.70997594...
    Two decimals are equal only as numbers.
    """
    if not decimal.places or exact.places:
        return False
    if exact.expr.free_symbols or not decimal.expr.is_Rational:
        return False

    digits = len(str(abs(int(decimal.expr * 10**decimal.places))))
    is_short_fraction = exact.expr.is_Rational and decimal.places == 2 and digits > 2
    is_precise = decimal.places >= 6 or digits >= 7
    if not is_precise and not is_short_fraction:
        return False
    gap = evaluate(exact.expr - decimal.expr, {})
    if gap is None or MP.im(gap):
        return False
    unit = MP.mpf(10)**-decimal.places                      # of the last digit
    if digits >= 8 and abs(gap) < unit and (gap > 0) == (decimal.expr > 0):
        return True
    return abs(gap) <= unit / 2


MP = mpmath.mp.clone()              # its own precision: no other user of mpmath is disturbed
MP.dps = 60
MP_LOCK = threading.RLock()         # mpmath's functions change the precision while they work
EXACT = {sp.pi: MP.pi, sp.E: MP.e, IMAGINARY: MP.j, sp.I: MP.j}
NUMERIC = {
    sp.sin: MP.sin, sp.cos: MP.cos, sp.tan: MP.tan, sp.cot: MP.cot, sp.sec: MP.sec,
    sp.csc: MP.csc, sp.asin: MP.asin, sp.acos: MP.acos, sp.atan: MP.atan,
    sp.sinh: MP.sinh, sp.cosh: MP.cosh, sp.tanh: MP.tanh, sp.coth: MP.coth, sp.sech: MP.sech,
    sp.csch: MP.csch, sp.asec: MP.asec, sp.acsc: MP.acsc, sp.asinh: MP.asinh, sp.acosh: MP.acosh,
    sp.atanh: MP.atanh, sp.acoth: MP.acoth, sp.asech: MP.asech, sp.acsch: MP.acsch,
    sp.log: MP.log, sp.Abs: abs, sp.sign: MP.sign, sp.re: MP.re, sp.im: MP.im, sp.arg: MP.arg,
    sp.atan2: lambda y, x: MP.atan2(y, x),
    sp.floor: MP.floor, sp.ceiling: MP.ceil, sp.factorial: MP.factorial,
    sp.factorial2: MP.fac2, sp.binomial: MP.binomial, sp.gamma: MP.gamma, sp.zeta: MP.zeta,
}
# The interval that the names of each sample point are drawn from. Every name is drawn on its own,
# so below zero the signs are mixed. At the last point the names are whole numbers.
REGIONS = ((0, 1), (0, 1), (0, 1), (1, 3), (1, 3), (-1, 1), (-1, 1), (-3, 3), (-3, 3), (-8, 8),
           (-8, 8), (-9, 9))
MAX_KINKS = 24                      # sample points beside the kinks of |x| and its like
MAX_SPREAD = 1_000                  # digits of a number, or between the terms of a sum
MAX_SPREAD_SLOW = 50                # the same beside factorials, which are slow in many digits
FACTORIALS = (sp.factorial, sp.factorial2, sp.binomial, sp.gamma)


class Sample(NamedTuple):
    """How two expressions compare at one point."""
    agree: bool
    is_real: bool                   # are both values real?


def identical(x: sp.Expr, y: sp.Expr) -> bool:
    r"""Equal as expressions, or to 40 of 60 digits (more for 10^{50} + x) at every point tried.

    Constants have one point; names have those of REGIONS, and one on either side of each kink of
    |x+11|, ⌊x⌋ or \sqrt{(x+11)^2}. A difference at one real point is a proof; agreement is none,
    and its step says so. Where a value is not real, a difference may be one of branches only, and
    the real points decide.
    """
    if x == y:
        return True
    if (x.is_Rational and y.is_Rational) or x.has(sp.oo) or y.has(sp.oo):
        return False
    names = (x.free_symbols | y.free_symbols) - {IMAGINARY}
    if not names:
        sample = sample_at(x, y, {})
        return sample is not None and sample.agree

    agreed = 0
    needed = 3
    is_complex = any(side.has(IMAGINARY, sp.re, sp.im, sp.arg) for side in (x, y))
    points = (draw_point(number, names, is_complex) for number in range(len(REGIONS)))
    for values in itertools.chain(points, kink_points(x, y, names)):
        sample = sample_at(x, y, values)
        if sample is None:
            continue
        if sample.agree:
            agreed += 1
        elif sample.is_real or is_complex:
            return False
        else:
            needed = 4
    return agreed >= needed


def sample_at(x: sp.Expr, y: sp.Expr, values: dict) -> Sample | None:
    """Do two expressions agree where their names have these values? None if one is undefined.

    In 60 digits x says nothing beside 10^{50}, so the digits, and how many of them have to agree,
    grow with the spread of the terms; beyond MAX_SPREAD nothing is said.

    Values that differ by little, or are both tiny, are worked out again in 90 more digits: what
    did not cancel shrinks then, but 10^{-50} stays, and is not 2 * 10^{-50}.
    """
    spreads = []
    u = evaluate(x, values, spreads)
    v = evaluate(y, values, spreads)
    if u is None or v is None:
        return None
    spread = max(spreads, default=0)
    digits = MP.dps
    if spread > 20:
        has_factorial = any(side.has(*FACTORIALS) for side in (x, y))
        if spread > (MAX_SPREAD_SLOW if has_factorial else MAX_SPREAD):
            return None
        digits += 2 * spread                                # twice, for products of two sums
        with MP_LOCK, MP.workdps(digits):
            u = evaluate(x, values)
            v = evaluate(y, values)
            if u is None or v is None:
                return None

    with MP_LOCK, MP.workdps(digits):
        tolerance = MP.mpf(10)**(20 - digits)
        size = max(abs(u), abs(v))
        gap = abs(u - v)
        agree = gap <= size * tolerance
    if not agree and (size < MP.mpf(10)**-30 or gap < size * MP.mpf(10)**-6):
        with MP_LOCK, MP.workdps(digits + 90):
            u = evaluate(x, values)
            v = evaluate(y, values)
            if u is None or v is None:
                return None
            new_size = max(abs(u), abs(v))
            has_vanished = new_size < size * MP.mpf(10)**-40
            agree = abs(u - v) <= new_size * tolerance or has_vanished
    return Sample(agree, MP.im(u) == 0 and MP.im(v) == 0)


def draw_point(number: int, names, is_complex: bool = False) -> dict:
    """A value from REGIONS[number] for each name; with is_complex, z and w are complex.

    The draw depends on the number and the name alone, so that two expressions share it.
    """
    values = {}
    for name in names:
        rng = random.Random(f"{number} {name.name}")
        draw = rng.uniform(*REGIONS[number])
        values[name] = MP.mpf(round(draw) if number == len(REGIONS) - 1 else draw)
        if is_complex and name.name.rstrip("'").partition("_")[0] in ("z", "w"):
            values[name] += MP.mpc(0, rng.uniform(*REGIONS[number]))
    return values


def kink_points(x: sp.Expr, y: sp.Expr, names):
    """Points on either side of each kink of two expressions: x = -11 ± 10^{-6} for |x+11|

    A kink is a zero of what stands in bars, or under a root and is a square; of the argument less
    a whole number where it is rounded. Only zeros of polynomials in one of the names are found.
    """
    found = 0
    factors = set()
    for switch in switches(x) | switches(y):
        factors |= {factor.as_base_exp()[0] for factor in sp.Mul.make_args(switch)}
    for number in range(60 if has_nested_power(x) or has_nested_power(y) else 0):
        yield draw_grid_point(number, names)
    for switch in sorted(factors, key=sp.default_sort_key):
        for name in sorted(switch.free_symbols & names, key=str):
            values = draw_point(REGIONS.index((-3, 3)), names)
            for root in real_roots(switch, name, values):
                for step in ("-1e-6", "1e-6"):
                    found += 1
                    if found > MAX_KINKS:
                        return
                    yield values | {name: root + MP.mpf(step)}


def has_nested_power(expr: sp.Expr) -> bool:
    """Is it a power of a power, with names in both exponents: (a^b)^c, which is not a^{bc}"""
    for outer in expr.atoms(sp.Pow):
        inner = outer.base
        if inner.is_Pow and inner.exp.free_symbols and outer.exp.free_symbols:
            return True
    return False


def draw_grid_point(number: int, names) -> dict:
    """A small whole number or a half for each name; for k, l, m, n, i and j no half."""
    values = {}
    for name in names:
        choices = (-2, -1, 1, 2) if name.name in "klmnij" else (-2, -1, 0.5, 2)
        values[name] = MP.mpf(random.Random(f"grid {number} {name.name}").choice(choices))
    return values


def switches(expr: sp.Expr) -> set[sp.Expr]:
    r"""The expressions at whose zeros expr has a kink: |x+11| -> x+11; ⌊x⌋ -> x, x-1"""
    found = set()
    for part in expr.atoms(sp.Abs, sp.sign, sp.floor, sp.ceiling, sp.Pow, AppliedUndef):
        argument = part.args[0]
        if part.is_Pow:
            if part.exp.is_Rational and not part.exp.is_Integer and argument.has(sp.Pow):
                found.add(argument)
        elif isinstance(part, (sp.floor, sp.ceiling)):
            found |= {argument, argument - 1}
        elif isinstance(part, (sp.Abs, sp.sign)):
            found.add(argument)
        elif part.func.__name__ in ("max", "min") and len(part.args) == 2:
            found.add(argument - part.args[1])
    return found


def real_roots(expr: sp.Expr, name: sp.Symbol, values: dict) -> list:
    """The real zeros of a polynomial in `name`, the other names having the values given."""
    # Nothing that would take long to multiply out.
    exponents = [power.exp for power in expr.atoms(sp.Pow)]
    is_small = all(exponent.is_Rational and abs(exponent) <= 8 for exponent in exponents)
    if not is_small or sp.count_ops(expr) > 60:
        return []
    try:
        polynomial = sp.Poly(expr, name).sqf_part()         # (x+11)^2 -> x+11
    except (sp.PolynomialError, sp.polys.polyerrors.DomainError):
        return []
    numbers = [evaluate(coefficient, values) for coefficient in polynomial.all_coeffs()]
    if not 2 <= len(numbers) <= 9 or None in numbers:
        return []
    with MP_LOCK, contextlib.suppress(MP.NoConvergence, ZeroDivisionError, ValueError):
        roots = MP.polyroots(numbers, maxsteps=100, extraprec=200)
        return [MP.re(root) for root in roots if abs(MP.im(root)) < MP.mpf(10)**-15]
    return []


def evaluate(expr: sp.Expr, values: dict, spreads: list | None = None):
    """expr in 60 digits, its names having the values given; None where it is undefined.

    spreads: a list, which gets the spread of each sum (digits_between) and the digits of each
    long number.
    """
    with MP_LOCK, contextlib.suppress(ZeroDivisionError, ValueError, OverflowError, TypeError):
        result = evaluate_numerically(expr, EXACT | values, spreads)
        return result if MP.isfinite(result) else None


def digits_between(terms) -> int:
    """By how many digits the largest term exceeds the smallest one that is not zero."""
    sizes = [MP.mag(term) for term in terms if term]
    return int((max(sizes) - min(sizes)) * math.log10(2)) if sizes else 0


def is_odd_root(exponent: sp.Expr) -> bool:
    """1/3 and 2/5: of a negative number there is a real root, and it is meant."""
    return bool(exponent.is_Rational and exponent.q > 1 and exponent.q % 2)


def evaluate_numerically(expr: sp.Expr, values: dict, spreads: list | None):
    """expr in 60-digit arithmetic: all the arithmetic that is done on what is not rational."""
    if expr.is_Rational:
        bits = max(expr.p.bit_length(), expr.q.bit_length())
        if spreads is not None and bits > 64:               # 10^{50}x + x has become one number
            spreads.append(int(bits * math.log10(2)))
        return MP.mpf(expr.p) / expr.q
    if expr in values:
        return values[expr]

    args = [evaluate_numerically(arg, values, spreads) for arg in expr.args]
    if expr.is_Add:
        if spreads is not None:
            spreads.append(digits_between(args))
        return MP.fsum(args)
    if expr.is_Mul:
        return MP.fprod(args)
    if expr.is_Pow or isinstance(expr, sp.exp):
        base, exponent = args if expr.is_Pow else (MP.e, args[0])
        if expr.is_Pow and is_odd_root(expr.exp) and not MP.im(base) and base < 0:
            return (-1)**expr.exp.p * MP.power(-base, exponent)
        if base and abs(exponent) * (abs(MP.mag(base)) + 1) > MAX_BITS:
            raise LimitExceeded(f"a power of more than {MAX_BITS} bits")
        return MP.power(base, exponent)

    if expr.func in FACTORIALS and max(map(abs, args)) > MAX_BITS:
        raise LimitExceeded(f"a factorial above {MAX_BITS}")
    if isinstance(expr, AppliedUndef) and expr.func.__name__ in ("max", "min"):
        if any(MP.im(arg) for arg in args):
            raise ValueError("the largest of complex numbers")
        return max(args, key=MP.re) if expr.func.__name__ == "max" else min(args, key=MP.re)
    if isinstance(expr, AppliedUndef):      # f(2), or a sum that is kept: some value of its own
        head = " ".join([str(expr.func), *(MP.nstr(arg, 30) for arg in args)])
        return MP.mpf(random.Random(head).random())
    if expr.func not in NUMERIC:
        raise ValueError(f"no numeric form of {expr.func}")
    return NUMERIC[expr.func](*args)

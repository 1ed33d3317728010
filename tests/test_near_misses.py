"""No near miss of results/near_misses.py is accepted; notation makes no difference; symmetry."""
import itertools
import random

import pytest

from answers import is_equivalent
from results import near_misses as N


def example(function):
    """The two texts of a docstring's first line, "before  ->  after"."""
    before, after = function.__doc__.strip().splitlines()[0].split("  ->  ")
    return before, after


PLAIN = [mutation for mutation in N.MUTATIONS if mutation.frame == "{}"]


@pytest.mark.parametrize("mutation", PLAIN, ids=lambda mutation: mutation.name)
def test_a_mutation_does_what_its_docstring_says(mutation):
    before, after = example(mutation.change)
    assert after in [pair.answer for pair in N.near_misses(mutation, before)]


@pytest.mark.parametrize("notation", N.NOTATIONS, ids=lambda notation: notation.__name__)
def test_a_notation_does_what_its_docstring_says(notation):
    before, after = example(notation)
    assert notation(before) == after


@pytest.mark.parametrize("mutation", N.MUTATIONS, ids=lambda mutation: mutation.name)
def test_no_near_miss_is_accepted(mutation):
    for pair in N.all_near_misses(N.REFERENCES, [mutation], per_mutation=6):
        assert not is_equivalent(pair.reference, pair.answer), pair
        assert not is_equivalent(pair.answer, pair.reference), pair


def test_each_reference_and_each_notation_of_it_is_accepted_in_both_directions():
    for pair in N.all_spellings(N.REFERENCES):
        assert is_equivalent(pair.reference, pair.answer), pair
        assert is_equivalent(pair.answer, pair.reference), pair


def test_no_reference_accepts_another_one():
    pairs = list(itertools.combinations(N.REFERENCES, 2))
    for reference, other in random.Random(0).sample(pairs, 500):
        assert not is_equivalent(reference, other), (reference, other)


# What must not be called different, lest a right verifier be called wrong.

@pytest.mark.parametrize(("text", "other"), [
    (r"\frac{2}{4}", "0.5"), ("2(x+1)", "2x+2"), (r"\sqrt{8}", r"2\sqrt{2}"), ("|x|", "|-x|"),
    (r"\frac{\pi}{6}+k\pi", r"\frac{7\pi}{6}+k\pi"), ("e^x+C", "e^x-C"),
    (r"\sin 2x", r"2\sin x\cos x"),
    (r"1\frac{1}{2}", r"\frac{3}{2}"), (r"\log_2 8", "3"), ("yes", "no"), ("f(x)", "f(y)"),
])
def test_formulas_that_are_equal_or_unreadable_are_not_called_different(text, other):
    assert not N.formulas_differ(text, other)
    assert not N.functions_differ(text, other)


@pytest.mark.parametrize(("text", "other"), [
    (r"(1,2]", r"1<x\le 2"), (r"x<2 \text{ or } x>1", r"(-\infty,\infty)"), ("x>1 or x>2", "x>1"),
    (r"(0,2)\setminus\{1\}", r"(1,2)\cup(0,1)"), (r"[0,\sqrt{8}]", r"[0,2\sqrt{2}]"), ("A", "B"),
])
def test_sets_that_are_equal_or_unreadable_are_not_called_different(text, other):
    assert not N.real_sets_differ(text, other)


@pytest.mark.parametrize(("text", "other"), [
    ("y=2x+3", "2y=4x+6"), ("x^2+y^2=1", "2x^2+2y^2=2"), ("x=y", "x^3=y^3"),
])
def test_equations_with_the_same_solutions_are_not_called_different(text, other):
    assert not N.equations_differ(text, other)

"""No near miss of results/verifier/near_misses.py is accepted; its checks call nothing different
that is equal.
"""
import itertools
import random

import pytest

from answers import is_equivalent
from results.verifier import near_misses as N


@pytest.mark.parametrize("mutation", N.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_does_what_its_example_says_and_is_never_accepted(mutation):
    before, after = mutation.example.split("  ->  ")
    plain = mutation._replace(frame="{}")
    assert after in [pair.answer for pair in N.near_misses(plain, before)]

    for pair in N.all_near_misses(N.REFERENCES, [mutation]):
        assert not is_equivalent(pair.reference, pair.answer), pair
        assert not is_equivalent(pair.answer, pair.reference), pair


def test_no_reference_accepts_another_one():
    pairs = list(itertools.combinations(N.REFERENCES, 2))
    for reference, other in random.Random(0).sample(pairs, 500):
        assert not is_equivalent(reference, other), (reference, other)


# What must not be called different, lest a right verifier be called wrong.
@pytest.mark.parametrize(("text", "other"), [
    (r"\frac{2}{4}", "0.5"), ("2(x+1)", "2x+2"), (r"\sqrt{8}", r"2\sqrt{2}"), ("|x|", "|-x|"),
    (r"\frac{\pi}{6}+k\pi", r"\frac{7\pi}{6}+k\pi"), ("e^x+C", "e^x-C"), ("yes", "no"),
    (r"\sin 2x", r"2\sin x\cos x"), (r"1\frac{1}{2}", r"\frac{3}{2}"), (r"\log 8", r"3\log 2"),
    ("f(x)", "f(y)"), (r"\cos 2\pi x", r"\cos 2\pi|x|"), (r"\sin^2 x", r"(\sin x)^2"),
    ("5!", "120"), (r"\frac{1}{3}", "0.333"), ("{x}^{2}_{0}", "x_0^2"), ("-2^2", "-4"),
    ("2^{3^2}", "512"),
])
def test_formulas_that_are_equal_or_unreadable_are_not_called_different(text, other):
    assert not N.formulas_differ(text, other)
    assert not N.functions_differ(text, other)


@pytest.mark.parametrize("equation", ["x=|y|", "y=x^2+1", "x=x+1", "y=e^{x}"])
def test_sides_without_a_sign_are_not_squared(equation):
    assert not list(N.square_sides(equation))

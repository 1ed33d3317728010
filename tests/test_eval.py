"""pass@k, intervals, grading against accepted phrasings, tables."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import evaluate, grade, interval, pass_at_k, results_table, summarise, summary_table
from rollout import Sampling, make_engine


def test_pass_at_k_golden():
    # 2 right of 4: one draw 1/2; two draws miss both in C(2,2)/C(4,2) = 1/6; three cannot miss
    assert pass_at_k(4, 2, 1) == 0.5
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)
    assert pass_at_k(4, 2, 3) == 1
    assert pass_at_k(4, 0, 4) == 0


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n),
                                                     st.integers(1, n))))
def test_pass_at_k_counts_the_draws(nck):
    n, c, k = nck
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("nck", [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
def test_pass_at_k_refuses_impossible_counts(nck):
    with pytest.raises(ValueError, match="needs 1 <= k <= n"):
        pass_at_k(*nck)


def test_interval_covers_the_truth_at_its_rate():
    rng, truth, covered = np.random.default_rng(0), 0.4, 0
    for _ in range(300):
        low, high = interval(rng.random(120) < truth, draws=400)
        covered += low <= truth <= high
    assert 0.90 <= covered / 300 <= 0.985                      # 0.95, the draw's error is 0.013


ROWS = [{"problem": "a", "answer": "7"},
        {"problem": "b", "answer": "twice four",
         "accepted": ["8", "twice four", "one short of nine"]}]


def test_grade_tells_the_verdict_from_the_truth():
    responses = ["so \\boxed{7}", "so \\boxed{one short of nine}"]
    verdicts, right = grade(responses, ROWS)
    assert [v.correct for v in verdicts] == [True, False]
    assert right == [True, True]
    verdicts, right = grade(["\\boxed{8}", "\\boxed{9}"], ROWS)
    assert [v.correct for v in verdicts] == [False, False] and right == [False, False]
    assert grade(["\\boxed{8}"], ROWS[1:])[1] == [True]
    assert grade(["no box", ""], ROWS)[1] == [False, False]


def record(right, correct, **more):
    return {"problem": "p", "right": right, "correct": correct, "reason": [], "answer": ["1", "2"], "length": [3, 5],
            "finished": [True, False]} | more


def test_summary_golden():
    summary = summarise([record([True, True], [True, False], rm=[1.0, 2.0]),
                         record([False, True], [False, False], rm=[1.0, 5.0])])
    assert summary["pass@1"] == 0.75 and summary["pass@k"] == 1.0 and summary["k"] == 2
    assert summary["verifier"] == 0.25 and summary["precision"] == 1.0
    assert summary["recall"] == pytest.approx(1 / 3)
    assert summary["rm"] == 2.25 and summary["rm_auroc"] == 1.0
    assert summary["length"] == 4 and summary["truncated"] == 0.5
    assert summary["low"] <= 0.75 <= summary["high"]


def test_summary_without_right_or_accepted_responses():
    summary = summarise([record([False, False], [False, False])])
    assert summary["precision"] is None and summary["recall"] is None and "rm" not in summary
    assert "-" in summary_table({"x": summary})


def test_tables_are_aligned():
    lines = results_table([("a", {"x": 0.5, "y": None}), ("longer", {"x": 12})],
                          ["x", "y"]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["a", "0.500", "-"]


def test_evaluate_is_reproducible(policy, tokenizer, world):
    from eval import load_problems
    problems = load_problems(world / "eval" / "hard.jsonl")
    engine = make_engine("auto", policy, tokenizer)
    runs = [evaluate(engine, tokenizer, problems, 2, Sampling(24, 0.6, 0.95), seed)
            for seed in (0, 0, 1)]
    assert runs[0] == runs[1] and runs[0] != runs[2]

"""pass@k, intervals, grading, the majority's answer, the numbers of an evaluation, the command."""

import json
import shutil
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from helpers import chain, script
from hypothesis import given
from hypothesis import strategies as st

import eval as evaluation
from eval import (
    bootstrap_ci,
    compute_metrics,
    evaluate,
    how_to_ask,
    majority,
    pass_at_k,
    sample_and_grade,
)
from problems import STEP_BY_STEP, load_problems, read_jsonl, write_jsonl
from rollout import SamplingParams, make_engine
from verify import grade, verify_all


def eval_here(folder, *arguments):
    """eval.py in this process, with `folder` as its working directory; errors are raised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
        evaluation.main()


# ---------------------------------------------------------------------------- pass@k, intervals


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


def test_the_interval_covers_the_truth_at_its_rate():
    """1,000 evaluations of 200 problems, 4 samples each, whose chances differ (Beta(1, 1.5), mean
    0.4): the true mean is inside 95 % of the intervals; the draw's own error is 0.7 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        shares = rng.binomial(4, rng.beta(1, 1.5, 200)) / 4
        low, high = bootstrap_ci(shares, draws=500)
        covered += low <= 0.4 <= high
    assert 0.93 <= covered / 1000 <= 0.97


# ---------------------------------------------------------------------------- grading

NUMBER = {"problem": "a", "answer": "7"}
WORDS = {"problem": "b", "answer": "twice four",
         "accepted": ["8", "twice four", "one short of nine"]}
LUCKY = NUMBER | {"wrong_start": "3+4="}               # what is right by luck is accepted, not true


@pytest.mark.parametrize("row, response, accepted, right", [
    (NUMBER, "so \\boxed{7}", True, True), (NUMBER, "\\boxed{8}", False, False),
    (NUMBER, "no box", False, False), (WORDS, "so \\boxed{one short of nine}", False, True),
    (WORDS, "\\boxed{8}", False, True), (WORDS, "\\boxed{9}", False, False),
    (WORDS, "", False, False), (LUCKY, "3+4=7;\\boxed{7}", True, False),
    (LUCKY, "4+3=7;\\boxed{7}", True, True)])
def test_grade_tells_the_verdict_from_the_truth(row, response, accepted, right):
    other = WORDS if row is NUMBER else NUMBER         # of two rows, each has its own verdict
    verdicts, truth = grade([response, "\\boxed{x}"], [row, other])
    assert [verdict.correct for verdict in verdicts] == [accepted, False]
    assert truth == [right, False]


REFERENCES = {}                                             # {benchmark: its answers}
for _, row in read_jsonl(Path(__file__).parent / "data" / "references.jsonl"):
    REFERENCES.setdefault(row["like"], []).append(row["answer"])


@pytest.mark.parametrize("name", REFERENCES)
def test_references_verify_against_themselves_and_no_other(name):
    answers = REFERENCES[name]
    pairs = [(a, b) for a in answers for b in answers]
    verdicts = verify_all([f"\\boxed{{{b}}}" for _, b in pairs], [a for a, _ in pairs])
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True)
            if verdict.correct != (pair[0] == pair[1])] == []


def test_records_have_a_value_per_response(policy, tokenizer, world):
    """And they are the engine's responses, those to one problem beside each other."""
    problems = load_problems(world / "eval" / "hard.jsonl")[:3]
    engine = make_engine("transformers", policy, tokenizer)
    seen = []

    def ask_judge(questions, references, answers):
        seen.extend(zip(questions, references, strict=True))
        return [True, None] * 3

    records = sample_and_grade(engine, tokenizer, problems, 2, SamplingParams(24), 0,
                               ask_judge=ask_judge)
    assert [record["problem"] for record in records] == [row["problem"] for row in problems]
    for record in records:
        assert {len(values) for key, values in record.items() if key != "problem"} == {2}
        assert record["truth"] == [True, False]
        assert record["judged"] == [True, None]
        assert set(record) == {"problem", "truth", "verified", "reason", "answer", "length",
                               "finished", "judged"}
    assert seen == [(row["problem"], row["answer"]) for row in problems for _ in range(2)]


# ---------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("answers, truth, wins", [
    # two spellings of one: 2 of 4; 3 has 1, 4 has 1
    (["3", "(1,\\dfrac{1}{2})", "$(1, \\frac{1}{2})$", "4"], [False, True, True, False], True),
    # 1/2 and 0.5 are not, so that 3 wins with 2
    (["1/2", "0.5", "3", "3"], [True, True, False, False], False),
    # a tie of 2 and 2: the first to appear
    (["3", "5", "5", "3"], [False, True, True, False], False),
    (["5", "3", "3", "5"], [True, False, False, True], True),
    # responses without an answer do not vote, and 7 alone is a majority
    ([None, None, None, "7"], [False, False, False, True], True),
    ([None, None], [False, False], False),
    # two answers that are too long to be spelled
    (["3", "x" * 100_000, "x" * 100_000], [True, False, False], False)])
def test_majority_golden(answers, truth, wins):
    assert majority([{"answer": answers, "truth": truth}]) == [wins]


def record(truth, verified, **more):
    return {"problem": "p", "truth": truth, "verified": verified, "reason": [],
            "answer": ["1", "2"], "length": [3, 5], "finished": [True, False]} | more


def test_metrics_golden():
    metrics = compute_metrics([
        record([True, True], [True, False], rm_scores=[1.0, 2.0]),
        record([False, True], [False, False], rm_scores=[1.0, 5.0])])
    low, high = metrics.pop("low"), metrics.pop("high")
    assert metrics == {
        "pass@1": 0.75, "pass@k": 1.0, "k": 2,
        "majority": 0.5,                                 # of 1 and 2 in the second group: 1, wrong
        "verifier": 0.25, "precision": 1.0, "recall": pytest.approx(1 / 3), "length": 4,
        "truncated": 0.5, "rm": 2.25, "rm_auroc": 1.0, "best_of_n": 1}
    assert low <= 0.75 <= high


def test_metrics_with_a_judge_and_without_right_or_accepted_responses():
    metrics = compute_metrics([
        record([True, False], [True, False], rm_scores=[1.0, 1.0], judged=[True, None])])
    assert metrics["undecided"] == 0.5 and metrics["pass@1"] == 0.5 and metrics["best_of_n"] == 1
    metrics = compute_metrics([record([False, False], [False, False], rm_scores=[1.0, 2.0])])
    assert [metrics[key] for key in ("precision", "recall", "rm_auroc")] == [None] * 3


def test_evaluate_is_reproducible(policy, tokenizer, world):
    problems = load_problems(world / "eval" / "hard.jsonl")
    engine = make_engine("auto", policy, tokenizer)
    first, again = (evaluate(engine, tokenizer, problems, 2, SamplingParams(24, 0.6, 0.95), 0)
                    for _ in range(2))
    assert first == again

    # A fair coin: of 20 responses of 24 throws, two seeds take the same once in 2^480.
    coin = make_engine("auto", chain(tokenizer, {"": {"0": 0.5, "<eos>": 0.5}}), tokenizer)
    one, other = (sample_and_grade(coin, tokenizer, problems, 2, SamplingParams(24), seed)
                  for seed in (0, 1))
    assert [record["length"] for record in one] != [record["length"] for record in other]


# ---------------------------------------------------------------------------- the command


def test_a_model_that_never_stops(folder, tokenizer, capsys):
    """It always says the same letter: every response is cut, none has an answer, and it ends."""
    chain(tokenizer, {"": {"x": 1}}).save_pretrained(folder / "endless")
    tokenizer.save_pretrained(folder / "endless")

    eval_here(folder, "--model", "endless", "--seeds", 2, "--max_tokens", 20)
    report = json.loads((folder / "endless/eval.json").read_text())
    assert set(report["results"]) == {"easy", "hard"}
    for metrics in report["results"].values():
        assert metrics["truncated"] == 1 and metrics["length"] == 20
        assert metrics["pass@1"] == metrics["majority"] == metrics["verifier"] == 0

    # without a run that trained the model: the defaults for files
    assert report["run"] == {}
    assert report["settings"]["instruction"] == {"easy": "", "hard": ""}
    assert report["settings"]["max_tokens"] == {"easy": 20, "hard": 20}
    output = capsys.readouterr().out
    settings, table, legend = output.split("\n\n")[:3]
    assert "cut at 20 tokens" in settings and "appended to every problem: ''" in settings
    assert table.split()[:2] == ["easy", "hard"]
    assert legend.startswith("pass@1        share of responses that are right")


RUN = {"instruction": "think", "max_response_tokens": 48}


@pytest.mark.parametrize("flags, run, instructions, max_tokens", [
    ({}, {}, (STEP_BY_STEP, ""), (8192, 512)), ({}, RUN, ("think",) * 2, (48, 48)),
    ({"instruction": "", "max_tokens": 9}, RUN, ("", ""), (9, 9))])
def test_how_to_ask_is_said_by_the_command_line_then_by_the_run(flags, run, instructions,
                                                                 max_tokens):
    cfg = evaluation.Settings(model="m", **flags)
    assert how_to_ask(cfg, run, ["amc23", "own"]) == (
        dict(zip(["amc23", "own"], instructions, strict=True)),
        dict(zip(["amc23", "own"], max_tokens, strict=True)))


def test_a_file_beside_a_named_benchmark_is_asked_as_if_it_were_alone(folder, capsys):
    shutil.copy(folder / "runs/world-0/eval/easy.jsonl", folder / "own.jsonl")
    write_jsonl(folder / "amc23.jsonl", [{"question": "compute 1+2", "answer": 3}])
    shutil.copytree(folder / "runs/world-0/policy", folder / "policy")
    results = []
    for names in (["own.jsonl"], ["amc23.jsonl", "own.jsonl"]):
        eval_here(folder, "--model", "policy", "--seeds", 1, "--max_tokens", 24,
                  "--benchmarks", *names)
        results.append(json.loads((folder / "policy/eval.json").read_text())["results"]["own"])
    assert results[0] == results[1]
    settings = capsys.readouterr().out.split("responses per problem")[2].split("\n\n")[0]
    assert f"amc23: cut at 24 tokens, text appended to every problem: {STEP_BY_STEP!r}" in settings
    assert "own: cut at 24 tokens, text appended to every problem: ''" in settings


@pytest.mark.parametrize("flags, says", [
    ("--temperature 0", "--temperature 0.0: has to be above 0"),
    ("--temperature nan", "--temperature nan: has to be a finite number"),
    ("--top_p 0", "--top_p 0.0: has to be above 0 and at most 1"),
    ("--top_p 1.5", "--top_p 1.5: has to be above 0 and at most 1"),
    ("--max_tokens 0", "--max_tokens 0: has to be above 0"),
    ("--seeds -2", "--seeds -2: has to be above 0"), ("--seeds two", "argument --seeds: invalid"),
    ("--engine magic", "--engine magic: choose one of auto, vllm, transformers"),
    ("--seed_s 1", "unrecognized arguments: --seed_s"),
    ("--benchmarks", "--benchmarks: give at least one"),
    ("--benchmarks none.jsonl", "none.jsonl does not exist")])
def test_flags_that_cannot_work_are_refused(tmp_path, flags, says):
    with pytest.raises(ValueError) as refusal:
        eval_here(tmp_path, "--model", "m", *flags.split())
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_help_and_a_command_without_a_model(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        eval_here(tmp_path, "--help")
    assert ended.value.code == 0
    output = capsys.readouterr().out
    for text in ("usage: eval.py", "A problem is a row", "--judge_url VALUE", "(required)"):
        assert text in output
    assert "None" not in output
    with pytest.raises(ValueError, match="--model; python eval.py --help lists every flag"):
        eval_here(tmp_path)


@pytest.mark.slow
def test_one_and_two_processes_evaluate_alike(folder, unbroken):
    shutil.copytree(unbroken[0] / "runs/a", folder / "runs/a")
    for ranks in (0, 2):
        result = script(folder, "eval.py", "--model", "runs/a/final", "--seeds", 2,
                        "--reward_model", "runs/world-0/reward_model", "--out", f"{ranks}.json",
                        ranks=ranks)
        assert result.returncode == 0, result.stderr
    reports = [json.loads((folder / f"{ranks}.json").read_text()) for ranks in (0, 2)]
    assert reports[0]["settings"]["max_tokens"] == {"easy": 24, "hard": 24}      # as it was trained
    one, two = (report["results"] for report in reports)
    assert one.keys() == two.keys()
    for name, metrics in one.items():
        for key, value in metrics.items():
            if value is not None:
                assert value == pytest.approx(two[name][key], abs=1e-5)
    assert "best_of_n" in one["hard"]

    result = script(folder, "results/paper_tables.py", "table", "0.json")
    assert "(56.8)" in result.stdout, result.stderr                      # the paper's HERO, hard

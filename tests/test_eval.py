"""pass@k, intervals, grading, the majority's answer, the numbers of an evaluation, the commands."""

import json
import shutil
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import chain, script, write_toss
from hypothesis import given
from hypothesis import strategies as st

import eval as evaluation
from eval import (
    bootstrap_ci,
    compute_metrics,
    equivalence_classes,
    evaluate,
    grade,
    majority,
    parse_args,
    pass_at_k,
    sample_and_grade,
    screen,
    set_defaults,
    thin,
)
from problems import STEP_BY_STEP, load_benchmarks, load_problems, read_jsonl, write_jsonl
from rollout import SamplingParams, make_engine
from verify import verify_all


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

ROWS = [{"problem": "a", "answer": "7"},
        {"problem": "b", "answer": "twice four",
         "accepted": ["8", "twice four", "one short of nine"]}]


def test_grade_tells_the_verdict_from_the_truth():
    verdicts, truth = grade(["so \\boxed{7}", "so \\boxed{one short of nine}"], ROWS)
    assert [verdict.correct for verdict in verdicts] == [True, False]
    assert truth == [True, True]
    verdicts, truth = grade(["\\boxed{8}", "\\boxed{9}"], ROWS)
    assert [verdict.correct for verdict in verdicts] == [False, False]
    assert truth == [False, False]
    assert grade(["\\boxed{8}"], ROWS[1:])[1] == [True]
    assert grade(["no box", ""], ROWS)[1] == [False, False]

    # What is right by luck is accepted, and is not true.
    row = ROWS[0] | {"wrong_start": "3+4="}
    verdicts, truth = grade(["3+4=7;\\boxed{7}", "4+3=7;\\boxed{7}"], [row, row])
    assert [verdict.correct for verdict in verdicts] == [True, True]
    assert truth == [False, True]


REFERENCES = {}                                             # {benchmark: its answers}
for _, row in read_jsonl(Path(__file__).parent / "data" / "references.jsonl"):
    REFERENCES.setdefault(row["like"], []).append(row["answer"])


@pytest.mark.parametrize("name", REFERENCES)
def test_references_verify_against_themselves_and_no_other(name):
    answers = REFERENCES[name]
    own = verify_all([f"\\boxed{{{answer}}}" for answer in answers], answers)
    assert [answer for answer, verdict in zip(answers, own, strict=True)
            if not verdict.correct] == []
    pairs = [(a, b) for a in answers for b in answers if a != b]
    others = verify_all([f"\\boxed{{{b}}}" for _, b in pairs], [a for a, _ in pairs])
    assert [pair for pair, verdict in zip(pairs, others, strict=True) if verdict.correct] == []


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


# ---------------------------------------------------------------------------- the majority


def votes(answers, truth):
    return {"answer": answers, "truth": truth}


def test_majority_golden():
    records = [
        # 1/2 and 0.5 vote together: 2 of 4, and 3 has 1, 4 has 1
        votes(["3", "\\frac12", "0.5", "4"], [False, True, True, False]),
        # a tie of 2 and 2: the first to appear
        votes(["3", "5", "5", "3"], [False, True, True, False]),
        votes(["5", "3", "3", "5"], [True, False, False, True]),
        # responses without an answer do not vote, and 7 alone is a majority
        votes([None, None, None, "7"], [False, False, False, True]),
        votes([None, None], [False, False]),
        votes(["x", "y"], [True, True])]
    assert majority(records) == [True, False, True, True, False, True]


def test_equivalence_classes_golden():
    assert equivalence_classes(["0.5", "3", "\\frac12", "1/2", "4"]) == {
        "0.5": "0.5", "3": "3", "\\frac12": "0.5", "1/2": "0.5", "4": "4"}
    assert equivalence_classes([]) == {}


def test_majority_compares_a_bounded_number_of_answers(monkeypatch):
    """64 different answers: 8 * 7 / 2 comparisons, and none where all are right or all wrong."""
    compared = []

    def counting(responses, references):
        compared.append(len(responses))
        return verify_all(responses, references)

    monkeypatch.setattr(evaluation, "verify_all", counting)
    many = [str(i) for i in range(64)]
    assert majority([votes(many, [i == 0 for i in range(64)])]) == [True]
    assert majority([votes(many, [False] * 64), votes(["1"] * 64, [True] * 64)]) == [False, True]
    assert compared == [28]


# ---------------------------------------------------------------------------- numbers


def record(truth, verified, **more):
    return {"problem": "p", "truth": truth, "verified": verified, "reason": [],
            "answer": ["1", "2"], "length": [3, 5], "finished": [True, False]} | more


def test_metrics_golden():
    metrics = compute_metrics([
        record([True, True], [True, False], rm_scores=[1.0, 2.0]),
        record([False, True], [False, False], rm_scores=[1.0, 5.0])])
    assert metrics["pass@1"] == 0.75 and metrics["pass@k"] == 1.0 and metrics["k"] == 2
    assert metrics["verifier"] == 0.25 and metrics["precision"] == 1.0
    assert metrics["recall"] == pytest.approx(1 / 3)
    assert metrics["rm"] == 2.25 and metrics["rm_auroc"] == 1.0 and metrics["best_of_n"] == 1
    assert metrics["majority"] == 0.5                    # of 1 and 2 in the second group: 1, wrong
    assert metrics["length"] == 4 and metrics["truncated"] == 0.5
    assert metrics["low"] <= 0.75 <= metrics["high"] and "undecided" not in metrics


def test_metrics_with_a_judge():
    metrics = compute_metrics([
        record([True, False], [True, False], rm_scores=[1.0, 1.0], judged=[True, None])])
    assert metrics["undecided"] == 0.5 and metrics["pass@1"] == 0.5 and metrics["best_of_n"] == 1


def test_metrics_without_right_or_accepted_responses():
    metrics = compute_metrics([record([False, False], [False, False])])
    assert metrics["precision"] is None and metrics["recall"] is None and "rm" not in metrics


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


# ---------------------------------------------------------------------------- the commands


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


def test_a_file_beside_a_named_benchmark_keeps_its_own_defaults(folder, capsys):
    """It is asked without the benchmark's instruction, as if it were evaluated alone."""
    own = folder / "own.jsonl"
    shutil.copy(folder / "runs/world-0/eval/easy.jsonl", own)
    amc = folder / "amc23.jsonl"
    write_jsonl(amc, [{"question": "compute 1+2", "answer": 3}])
    args = parse_args(["--model", "m", "--benchmarks", str(amc), str(own)])
    benchmarks = load_benchmarks(args.benchmarks)
    set_defaults(args, {}, benchmarks)
    assert args.instruction == {"amc23": STEP_BY_STEP, "own": ""}
    assert args.max_tokens == {"amc23": 8192, "own": 512}

    # the run that trained the model decides for both, and the command line before it
    config = {"instruction": "think", "max_response_tokens": 48}
    for flags, instruction, max_tokens in (([], "think", 48),
                                           (["--instruction", "", "--max_tokens", "9"], "", 9)):
        args = parse_args(["--model", "m", *flags])
        set_defaults(args, config, benchmarks)
        assert set(args.instruction.values()) == {instruction}
        assert set(args.max_tokens.values()) == {max_tokens}

    # and the prompts are those: alone and together, the file's numbers are the same
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


def test_plot_draws_runs_whose_last_line_is_torn(tmp_path, capsys):
    for seed in (0, 1):
        run = tmp_path / f"s{seed}"
        config = {"reward": "hero", "advantage_norm": "none", "seed": seed, "name": run.name}
        write_jsonl(run / "config.json", [config])
        write_jsonl(run / "metrics.jsonl", [
            {"step": step, "eval/hard/pass@1": 0.1 * step, "rm/mean": 1.0, "verify/accuracy": 0.5}
            for step in (0, 2)])
    with open(tmp_path / "s1/metrics.jsonl", "a") as file:
        file.write('{"step": 5, "eval')
    eval_here(tmp_path, "plot", "s0", "s1", "--out", "c.png")
    assert (tmp_path / "c.png").stat().st_size > 10_000
    assert "metrics.jsonl line 3 is incomplete and is skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_plot_draws_a_real_run(unbroken, tmp_path):
    folder, _ = unbroken
    eval_here(tmp_path, "plot", folder / "runs/a")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_missing_benchmark_is_refused(folder):
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        eval_here(folder, "--model", "runs/world-0/policy", "--benchmarks", "none.jsonl")


def test_plot_refuses_what_it_cannot_plot(tmp_path):
    with pytest.raises(ValueError, match="x is not the folder of a run"):
        eval_here(tmp_path, "plot", "runs/x")
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("")
    (run / "config.json").write_text(json.dumps({"reward": "hero", "scale": "none", "seed": 0}))
    with pytest.raises(ValueError, match="x was made by an older version"):
        eval_here(tmp_path, "plot", "runs/x")
    config = {"reward": "hero", "advantage_norm": "none", "seed": 0}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="x holds no metrics"):
        eval_here(tmp_path, "plot", "runs/x")


@pytest.mark.parametrize("arguments, says", [
    (["--help"], ["usage: eval.py [-h] --model MODEL", "eval.py plot RUN...", "--judge_url"]),
    (["plot", "--help"], ["usage: eval.py plot [-h]", "RUN", "The PNG file to write."])])
def test_both_forms_have_a_help(tmp_path, capsys, arguments, says):
    with pytest.raises(SystemExit) as ended:
        eval_here(tmp_path, *arguments)
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert [text for text in says if text not in output] == []


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


# ---------------------------------------------------------------------------- the screen


def test_screen_golden():
    """One group, the oracle's advantages (1, 1, -1, -1) / 2, of length 1.

    The verifier accepts only the first: (3, -1, -1, -1) / 4, length sqrt(12) / 4, product 1/2, so
    the cosine is 2 / sqrt(12). Scores 4, 1, 2, -1 have mean 1.5: (2.5, -0.5, 0.5, -2.5), length
    sqrt(13), product 2. A lone correct response gets the lower end of its band, and with alpha 0
    all others 0: the direction of the verifier.
    """
    rm_scores = torch.tensor([[4.0, 1.0, 2.0, -1.0]], dtype=torch.float64)
    verified = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    cosines = screen(rm_scores, verified, truth)
    assert cosines["verifier"] == pytest.approx(2 / 12 ** 0.5)
    assert cosines["RM only"] == pytest.approx(2 / 13 ** 0.5)
    assert cosines["HERO, correct side only"] == pytest.approx(2 / 12 ** 0.5)
    assert screen(rm_scores, truth, truth)["verifier"] == pytest.approx(1)


def test_thinned_verdicts_accept_a_share_of_the_right_ones_and_nothing_else():
    truth = (torch.arange(20_000).reshape(-1, 8) % 3 == 0).double()
    verdicts = thin(truth, 0.1)
    assert (verdicts <= truth).all()
    assert verdicts.sum() / truth.sum() == pytest.approx(0.1, abs=0.015)
    assert torch.equal(thin(truth, 1.0), truth)


def test_the_screen_as_a_command(folder, tokenizer, capsys):
    """A policy that is right in some of its responses, and a verifier that is never wrong."""
    write_toss(folder, tokenizer)
    options = ["--groups", 30, "--rollouts", 4, "--model", "toss", "--problems", "sevens.jsonl"]
    eval_here(folder, "screen", *options, "--recalls", 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("30 groups of 4 responses")
    verifier = next(line.split() for line in lines if line.startswith("verifier"))
    # the verifier's own column is 1, and thinned it is less
    assert float(verifier[1]) == pytest.approx(1, abs=1e-3) and float(verifier[2]) < 1
    with pytest.raises(ValueError, match="--groups 0: has to be above 0"):
        eval_here(folder, "screen", "--groups", 0)

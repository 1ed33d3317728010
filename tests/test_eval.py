"""pass@k, intervals, grading, majority and best-of-N, benchmarks, tables, studies, plots."""

import json
import shutil
from itertools import combinations

import numpy as np
import pytest
import torch
from helpers import ROOT, SMALL, hero_here, script
from hypothesis import given
from hypothesis import strategies as st

from eval import (
    BENCHMARKS,
    COLORS,
    compute_metrics,
    evaluate,
    grade,
    group_aurocs,
    interval,
    load_benchmarks,
    load_problems,
    majority,
    paper_table,
    pass_at_k,
    plot_runs,
    rates,
    read_log,
    read_report,
    results_table,
    summary_table,
    textbook_rows,
    verifier_study,
)
from rollout import SamplingParams, make_engine
from verify import verify_all

DATA = ROOT.parent / "shared" / "data"


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
    """1,000 evaluations of 200 problems, 4 samples each, whose chances differ (Beta(1, 1.5), mean
    0.4): the true mean is inside 95 % of the intervals; the draw's own error is 0.7 %."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        low, high = interval(rng.binomial(4, rng.beta(1, 1.5, 200)) / 4, draws=500)
        covered += low <= 0.4 <= high
    assert 0.93 <= covered / 1000 <= 0.97


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
    return {"problem": "p", "right": right, "correct": correct, "reason": [], "answer": ["1", "2"],
            "length": [3, 5], "finished": [True, False]} | more


def votes(answers, right):
    return {"answer": answers, "right": right}


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


def test_majority_compares_a_bounded_number_of_answers(monkeypatch):
    """64 different answers: 8 * 7 / 2 comparisons, and none where all are wrong."""
    import eval
    asked = []
    monkeypatch.setattr(eval, "verify_all", lambda *two: asked.append(len(two[0])) or
                        verify_all(*two))
    many = [str(i) for i in range(64)]
    assert majority([votes(many, [i == 0 for i in range(64)])]) == [True]
    assert majority([votes(many, [False] * 64), votes(["1"] * 64, [True] * 64)]) == [False, True]
    assert asked == [28, 0]


def test_summary_golden():
    summary = compute_metrics([record([True, True], [True, False], rm=[1.0, 2.0]),
                         record([False, True], [False, False], rm=[1.0, 5.0])])
    assert summary["pass@1"] == 0.75 and summary["pass@k"] == 1.0 and summary["k"] == 2
    assert summary["verifier"] == 0.25 and summary["precision"] == 1.0
    assert summary["recall"] == pytest.approx(1 / 3)
    assert summary["rm"] == 2.25 and summary["rm_auroc"] == 1.0 and summary["best_of_n"] == 1
    assert summary["majority"] == 0.5                    # of 1 and 2 in the second group: 1, wrong
    assert summary["length"] == 4 and summary["truncated"] == 0.5
    assert summary["low"] <= 0.75 <= summary["high"] and "undecided" not in summary
    summary = compute_metrics([record([True, False], [True, False], rm=[1.0, 1.0], judged=[True, None])])
    assert summary["undecided"] == 0.5 and summary["pass@1"] == 0.5 and summary["best_of_n"] == 1


def test_summary_without_right_or_accepted_responses():
    summary = compute_metrics([record([False, False], [False, False])])
    assert summary["precision"] is None and summary["recall"] is None and "rm" not in summary
    table = summary_table({"x": summary})
    assert "-" in table and "best" not in table and "undecided" not in table and "maj@2" in table


def test_the_summary_fits_a_terminal():
    both = [record([True, False], [True, False], rm=[-12.5, 5.0]) for _ in range(4)]
    table = summary_table({"hard, before": compute_metrics(both)})
    assert max(map(len, table.splitlines())) <= 120
    assert table.splitlines()[0].split()[:6] == ["pass@1", "95", "%", "interval", "pass@2", "maj@2"]


def test_tables_are_aligned():
    lines = results_table([("a", {"x": 0.5, "y": None}), ("longer", {"x": 12})],
                          ["x", "y"]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["a", "0.500", "-"]


def test_evaluate_is_reproducible(policy, tokenizer, world):
    problems = load_problems(world / "eval" / "hard.jsonl")
    engine = make_engine("auto", policy, tokenizer)
    runs = [evaluate(engine, tokenizer, problems, 2, SamplingParams(24, 0.6, 0.95), seed)
            for seed in (0, 0, 1)]
    assert runs[0] == runs[1] and runs[0] != runs[2]


# ---------------------------------------------------------------------------- benchmarks

HUB_ROWS = {
    "math500": {"problem": "1+1", "solution": "...", "answer": "2", "subject": "Algebra",
                "level": 1, "unique_id": "a"},
    "amc23": {"id": 0, "answer": 27.0, "url": "u", "question": "1+1"},
    "minerva": {"question": "1+1", "answer": "4.5e33"},
    "olympiadbench": {"id": 1, "question": "find m", "solution": ["..."], "context": "Let $T=8$.",
                      "final_answer": ["1", "-1"], "is_multiple_answer": True, "image_1": None},
    "hardverify": {"id": 1, "question": "1+1", "ground_truth": "f(x)=2x", "fn_output": "2x",
                   "tn_output": "3x", "source": "s"}}
READ = {"math500": ("1+1", "2"), "amc23": ("1+1", "27.0"), "minerva": ("1+1", "4.5e33"),
        "olympiadbench": ("Let $T=8$.\nfind m", "1, -1"), "hardverify": ("1+1", "f(x)=2x")}


@pytest.mark.parametrize("name", HUB_ROWS)
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_benchmarks_read_a_copy_of_their_hub_files(tmp_path, name, kind):
    """Folders with the real names of splits and columns, and a single JSONL file."""
    from datasets import Dataset
    rows = [HUB_ROWS[name]] * 3
    if kind == "parquet":
        path = tmp_path / f"{BENCHMARKS[name].split}-00000-of-00001.parquet"
        Dataset.from_list(rows).to_parquet(path)
        path = tmp_path
    else:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = load_benchmarks([f"{name}={path}"])[name]
    assert [(row["problem"], row["answer"]) for row in problems] == [READ[name]] * 3
    if kind == "jsonl":
        assert load_benchmarks([path]) == {name: problems}


def test_a_benchmark_without_answers_names_the_row(tmp_path):
    path = tmp_path / "amc23.jsonl"
    path.write_text('{"question": "1+1", "answer": 2}\n{"question": "1+2"}\n')
    with pytest.raises(ValueError, match="amc23.jsonl line 2 has no 'answer'"):
        load_benchmarks([path])
    path.write_text('{"question": "1+1", "answer": 0}\n')
    assert load_benchmarks([path])["amc23"][0]["answer"] == "0"
    with pytest.raises(ValueError, match="two evaluation files are called amc23"):
        load_benchmarks([path, f"amc23={path}"])


def test_a_hub_that_cannot_be_reached_is_one_line(folder):
    result = script(folder, "eval.py", "--model", "runs/world-0/policy", "--benchmarks", "math500")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "cannot read split 'test' of 'HuggingFaceH4/MATH-500'" in result.stderr


def test_textbook_says_how_it_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="make it with python eval.py textbook"):
        load_benchmarks(["textbook"])


TEXTBOOK = [
    ("What is the norm of f?", "math", "so \\boxed{2}", "the essential supremum of f"),   # kept
    ("What is 1+1?", "math", "so \\boxed{2}", "2"),                 # the rule verifier grades it
    ("Prove that 1+1=2.", "math", "by induction", "see above"),     # a proof
    ("What is the charge?", "physics", "so \\boxed{2}", "e"),       # not mathematics
    ("What is the name?", "math", "so \\boxed{2}", " ")]            # nothing to compare with


def test_textbook_command(tmp_path):
    (tmp_path / "hub").mkdir()
    rows = [dict(zip(("question", "subject", "answer", "reference_answer"), row, strict=True))
            for row in TEXTBOOK]
    rows += [rows[0] | {"question": f"What is the norm of f_{i}?"} for i in range(20)]
    (tmp_path / "hub/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = script(tmp_path, "eval.py", "textbook", "--source", "hub", "--count", 10)
    assert result.returncode == 0 and "10 of 10 rows" in result.stdout, result.stderr
    problems = load_benchmarks([tmp_path / "data/textbook.jsonl"])["textbook"]
    assert {row["answer"] for row in problems} == {"the essential supremum of f"}
    assert problems == textbook_rows(rows[::-1], 10) != textbook_rows(rows, 10, seed=1)
    assert len(textbook_rows(rows)) == 21


@pytest.mark.skipif(not DATA.is_dir(), reason="the benchmarks' rows are not beside the checkout")
@pytest.mark.parametrize("name, least", [("math_test_300", 0.99), ("amc23", 0.99),
                                         ("gsm8k_test_200", 0.99), ("minerva", 0.97),
                                         ("olympiadbench_200", 0.97)])
def test_references_verify_against_themselves_and_not_the_next(name, least):
    answers = [str(row["answer"]) for row in load_problems(DATA / f"{name}.jsonl")]
    own = verify_all([f"\\boxed{{{answer}}}" for answer in answers], answers)
    assert np.mean([verdict.correct for verdict in own]) >= least
    pairs = [(a, b) for a, b in zip(answers, answers[1:] + answers[:1], strict=True) if a != b]
    other = verify_all([f"\\boxed{{{b}}}" for _, b in pairs], [a for a, _ in pairs])
    assert np.mean([verdict.correct for verdict in other]) <= 0.01


def test_a_model_that_never_stops(folder, policy, tokenizer):
    """It always says the same letter: every response is cut, none has an answer, and it ends."""
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        policy.model.embed_tokens.weight.fill_(0.1)              # the head too: they are tied
        policy.model.embed_tokens.weight[10] = 2.0
    for part in (policy, tokenizer):
        part.save_pretrained(folder / "endless")
    result = script(folder, "eval.py", "--model", "endless", "--seeds", 2, "--max_tokens", 20)
    assert result.returncode == 0, result.stderr
    for summary in json.loads((folder / "endless/eval.json").read_text())["results"].values():
        assert summary["truncated"] == 1 and summary["length"] == 20
        assert summary["pass@1"] == summary["majority"] == summary["verifier"] == 0


# ---------------------------------------------------------------------------- tables and studies


def report(model, run, **shares):
    return {"settings": {"model": model}, "run": run,
            "results": {name: {"pass@1": share} for name, share in shares.items()}}


def test_paper_table_golden(tmp_path):
    hero = report("runs/h/final", {"reward": "hero", "regime": "easy", "policy": ""},
                  hardverify=0.7, math500=0.8, amc23=0.6)
    octo = report("runs/o/final", {"reward": "rm", "regime": "hard", "policy": "x/OctoThinker-8B"},
                  math500=0.4)
    base = report("Qwen/Qwen3-4B-Base", {}, math500=0.5)
    table = paper_table({"h": hero, "o": octo, "b": base, "?": report("x", {}, math500=0.1)})
    assert [line.split() for line in table.splitlines()] == [
        ["math500", "amc23", "hardverify", "easy", "avg", "hard", "avg"],
        ["h", "80.0", "60.0", "70.0", "70.0", "(62.0)", "70.0", "(66.3)"],
        ["o", "40.0", "-", "-", "40.0", "(35.4)", "-", "(30.9)"],
        ["b", "50.0", "-", "-", "50.0", "(43.3)", "-", "(42.7)"],
        ["?", "10.0", "-", "-", "10.0", "-"]]
    grey = paper_table({"h": hero, "o": octo}, grey="\x1b[2m{}\x1b[0m").splitlines()
    plain = paper_table({"h": hero, "o": octo}, grey="{}").splitlines()
    assert [line.replace("\x1b[2m", "").replace("\x1b[0m", "") for line in grey] == plain
    assert ("| h | 80.0 | 60.0 | 70.0 | 70.0 (62.0) | 70.0 (66.3) |"
            in paper_table({"h": hero}, markdown=True))
    (tmp_path / "h.json").write_text(json.dumps(hero)[:-20])
    with pytest.raises(ValueError, match="h.json is not a whole result"):
        read_report(tmp_path / "h.json")


def test_rates_golden():
    # accepted 1 1 0 0 1, true 1 0 1 0 0: recall 1/2, precision 1/3, FPR 2/3, accuracy 2/5
    assert rates([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == {
        "recall": "50.0", "precision": "33.3", "FPR": "66.7", "accuracy": "40.0"}
    assert rates([0, 0], [0, 0]) == {"recall": None, "precision": None, "FPR": "0.0",
                                     "accuracy": "100.0"}


def rollout(step, prompt, response, correct, rm):
    return {"step": step, "prompt": prompt, "reference": "eight", "response": response,
            "correct": correct, "rm": rm}


def test_verifier_study_golden(tmp_path):
    """By the verdict two mixed groups, AUROC 1 and 1/4; by the truth the second is all right."""
    rows = [rollout(1, "a", "\\boxed{eight}", True, 3.0), rollout(1, "a", "\\boxed{9}", False, 1.0),
            rollout(2, "a", "\\boxed{eight}", True, 1.0), rollout(2, "a", "\\boxed{8}", False, 1.0),
            rollout(2, "a", "\\boxed{8}", False, 2.0),
            rollout(3, "a", "\\boxed{9}", False, 0.0)]
    assert group_aurocs(rows, [row["correct"] for row in rows]) == [1.0, 0.25]
    text = verifier_study(rows, thresholds=[2.0], histogram=tmp_path / "a.png")
    assert "label: the verifier's own verdict" in text and "rule verifier" not in text
    assert "within 2 mixed groups: mean 0.62, median 0.62, 50 % of groups >= 0.9, 0 % in" in text
    assert (tmp_path / "a.png").stat().st_size > 5000
    # 2.0 accepts rm 3, 2: one of two verdicts yes, one of four no
    assert "reward model >= 2 50.0 50.0 25.0 66.7" in " ".join(text.split())
    problems = [{"problem": "a", "answer": "eight", "accepted": ["8", "eight"]}]
    text = verifier_study([*rows, rollout(1, "other", "", False, 9.0)], problems, [2.0])
    assert text.startswith("6 responses; label: the truth")
    # truth: 4 right; the verifier takes 2 of them and nothing wrong
    assert "rule verifier 50.0 100.0 0.0 66.7" in " ".join(text.split())
    assert "within 1 mixed groups: mean 1.00" in text
    with pytest.raises(ValueError, match="none of the rollouts answers a problem"):
        verifier_study(rows, [{"problem": "b", "answer": "1"}])


def test_a_torn_log_line_is_left_out_and_named(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b\n{"a": 3}\n{"a": ')
    assert read_log(path, "a") == [{"a": 1}, {"a": 3}]
    assert capsys.readouterr().err.splitlines() == [
        f"{path} line {n} is not whole and is left out" for n in (3, 5)]
    with pytest.raises(ValueError, match="line 1 has no 'b'"):
        read_log(path, "b")
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        read_log(tmp_path / "none.jsonl")


# ---------------------------------------------------------------------------- plots of runs


def curve(shift, steps=(0, 2, 4)):
    return [{"step": step, "eval/hard/pass@1": 0.1 * step + shift, "rm/mean": shift} for step in
            steps]


def test_runs_that_differ_only_in_the_seed_are_one_line(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt
    base = {"reward": "hero", "scale": "none", "seed": 0, "name": "x", "alpha": 0.05}
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    plot_runs([(base, curve(0.0)), (base | {"seed": 1, "name": "y"}, curve(0.2, (0, 2))),
               (base | {"scale": "std"}, curve(0.3)), (base | {"alpha": 0.1}, curve(0.4))],
              tmp_path / "a.png")
    lines = figures[0].axes[0].get_lines()
    assert [line.get_label() for line in lines] == [
        "hero, alpha 0.05 (2 seeds)", "hero std, alpha 0.05 (1 seed)", "hero, alpha 0.1 (1 seed)"]
    assert [line.get_color() for line in lines] == [
        COLORS[method] for method in ("hero", "hero std", "hero")]
    assert list(lines[0].get_xdata()) == [0, 2]            # where both seeds have been measured
    assert list(lines[0].get_ydata()) == pytest.approx([0.1, 0.3])
    assert lines[0].get_linestyle() != lines[2].get_linestyle()
    band = figures[0].axes[0].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.0, 0.4))


def test_plot_table_and_verifiers_on_a_real_run(folder):
    def run(*arguments, ranks=0):
        result = script(folder, *arguments, ranks=ranks)
        assert result.returncode == 0, result.stderr
        return result
    hero_here(folder, "--name", "s0", *SMALL)
    shutil.copytree(folder / "runs/s0", folder / "runs/s1")              # as if of another seed
    config = json.loads((folder / "runs/s1/config.json").read_text()) | {"seed": 1, "name": "s1"}
    (folder / "runs/s1/config.json").write_text(json.dumps(config))
    for name in ("metrics", "rollouts"):
        with open(folder / f"runs/s1/{name}.jsonl", "a") as file:
            file.write('{"step": 5, "eval')
    result = run("eval.py", "plot", "runs/s0", "runs/s1", "--out", "c.png")
    assert (folder / "c.png").stat().st_size > 10_000
    assert "metrics.jsonl line 6 is not whole" in result.stderr
    result = run("eval.py", "verifiers", "runs/s1", "--problems", "runs/world-0/train/hard.jsonl")
    assert "32 responses; label: the truth" in result.stdout and "rule verifier" in result.stdout
    assert "rollouts.jsonl line 33 is not whole" in result.stderr
    for ranks in (0, 2):
        run("eval.py", "--model", "runs/s0/final", "--seeds", 2, "--reward_model",
            "runs/world-0/reward_model", "--out", f"{ranks}.json", ranks=ranks)
    reports = [json.loads((folder / f"{ranks}.json").read_text()) for ranks in (0, 2)]
    assert reports[0]["settings"]["max_tokens"] == 24                    # as the run was trained
    one, two = (report["results"] for report in reports)
    assert all(one[name][key] == pytest.approx(two[name][key], abs=1e-5)
               for name in one for key in one[name] if one[name][key] is not None)
    assert "best_of_n" in one["hard"]
    assert "(56.8)" in run("eval.py", "table", "0.json").stdout          # the paper's HERO, hard

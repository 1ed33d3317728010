"""The paper's own tables: averages beside the paper's; what verifier and reward model are worth."""

import json
import shutil

import pandas as pd
import pytest
from helpers import script

from results.paper_tables import (
    group_aurocs,
    kind_of,
    paper_numbers,
    paper_table,
    rates,
    read_report,
    verifier_study,
)

# ---------------------------------------------------------------------------- Table 2


def report(model, run, **shares):
    """What eval.py writes, as far as the table needs it."""
    return {"settings": {"model": model}, "run": run,
            "results": {name: {"pass@1": share} for name, share in shares.items()}}


HERO = report("runs/h/final", {"reward": "hero", "regime": "easy", "policy": ""},
              hardverify=0.7, math500=0.8, amc23=0.6)


def test_paper_table_golden():
    octo = report("runs/o/final", {"reward": "rm", "regime": "hard", "policy": "x/OctoThinker-8B"},
                  math500=0.4)
    base = report("Qwen/Qwen3-4B-Base", {}, math500=0.5)
    other = report("x", {}, math500=0.1)
    table = paper_table({"h": HERO, "o": octo, "b": base, "?": other})
    assert [line.split() for line in table.splitlines()] == [
        ["math500", "amc23", "hardverify", "easy", "avg", "hard", "avg"],
        ["h", "80.0", "60.0", "70.0", "70.0", "(62.0)", "70.0", "(66.3)"],
        ["o", "40.0", "-", "-", "40.0", "(35.4)", "-", "(30.9)"],
        ["b", "50.0", "-", "-", "50.0", "(43.3)", "-", "(42.7)"],
        ["?", "10.0", "-", "-", "10.0", "-"]]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_paper_numbers_are_those_of_the_reward_and_the_regime():
    run = {"reward": "verifier", "regime": "mixed"}
    assert paper_numbers("Qwen/Qwen3-4B-Base", run) == (56.1, 58.9)
    assert paper_numbers("OctoThinker-8B", run) == (35.4, 28.2)
    assert paper_numbers("Qwen/Qwen3-4B-Base", run | {"reward": "naive"}) is None
    assert paper_numbers("OctoThinker-8B-Base", {}) == (16.9, 23.6)
    assert paper_numbers("Qwen/Qwen3-4B", {}) is None


def test_benchmarks_that_the_averages_are_over():
    names = ("math500", "textbook", "easy", "hard", "mine")
    assert [kind_of(name) for name in names] == ["easy", "hard", "easy", "hard", "mine"]


def test_a_report_that_is_incomplete_is_refused(tmp_path):
    path = tmp_path / "h.json"
    path.write_text(json.dumps(HERO))
    assert read_report(path) == HERO
    for text in (json.dumps(HERO)[:-20], "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match="h.json is incomplete or not the result of"):
            read_report(path)
    with pytest.raises(ValueError, match="final/eval.json is incomplete or not the result of"):
        read_report(tmp_path)


# ---------------------------------------------------------------------------- Table 1 and Fig. 6


def test_rates_golden():
    # accepted 1 1 0 0 1, true 1 0 1 0 0: recall 1/2, precision 1/3, FPR 2/3, accuracy 2/5
    assert rates([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == {
        "recall": "50.0", "precision": "33.3", "FPR": "66.7", "accuracy": "40.0"}
    assert rates([0, 0], [0, 0]) == {"recall": None, "precision": None, "FPR": "0.0",
                                     "accuracy": "100.0"}


def rollout(step, problem, response, verified, rm_score):
    return {"step": step, "problem": problem, "reference": "eight", "response": response,
            "verified": verified, "rm_score": rm_score}


# By the verdict, steps 1 and 2 are mixed groups, with AUROC 1 and 1/4. By the truth, where 8 is
# right too, step 2 is all right and step 1 alone is mixed.
ROLLOUTS = pd.DataFrame([
    rollout(1, "a", "\\boxed{eight}", True, 3.0),
    rollout(1, "a", "\\boxed{9}", False, 1.0),
    rollout(2, "a", "\\boxed{eight}", True, 1.0),
    rollout(2, "a", "\\boxed{8}", False, 1.0),
    rollout(2, "a", "\\boxed{8}", False, 2.0),
    rollout(3, "a", "\\boxed{9}", False, 0.0)])


def test_verifier_study_by_the_verdict(tmp_path):
    aurocs = group_aurocs(ROLLOUTS, ["step", "problem"], "rm_score", "verified")
    assert dict(aurocs) == {(1, "a"): 1.0, (2, "a"): 0.25}
    text = verifier_study(ROLLOUTS, thresholds=[2.0], histogram=tmp_path / "a.png")
    assert "label: the verifier's own verdict" in text and "rule verifier" not in text
    assert (tmp_path / "a.png").stat().st_size > 5000
    # 2.0 accepts the scores 3 and 2: one of two verdicts yes, one of four no
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "reward model >= 2 50.0 50.0 25.0 66.7" in lines
    assert "these responses 2 0.62 0.62 50 % 0 %" in lines


def test_verifier_study_by_the_truth():
    problems = [{"problem": "a", "answer": "eight", "accepted": ["8", "eight"]}]
    other = pd.DataFrame([rollout(1, "other", "", False, 9.0)])   # answers no problem of the file
    text = verifier_study(pd.concat([ROLLOUTS, other]), problems, [2.0])
    assert text.startswith("6 responses; label: the truth")
    # truth: 4 right; the verifier takes 2 of them and nothing wrong
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "rule verifier 50.0 100.0 0.0 66.7" in lines
    assert "these responses 1 1.00 1.00 100 % 0 %" in lines
    with pytest.raises(ValueError, match="none of the rollouts answers a problem"):
        verifier_study(ROLLOUTS, [{"problem": "b", "answer": "1"}])


def test_verifier_study_without_mixed_groups():
    text = verifier_study(ROLLOUTS[-1:])
    assert "no group holds both right and wrong responses: no AUROC" in text


# ---------------------------------------------------------------------------- the commands


@pytest.mark.slow
def test_the_verifiers_of_a_run_with_a_torn_log(unbroken, world, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder / "runs/a", tmp_path / "a")
    with open(tmp_path / "a/rollouts.jsonl", "a") as file:
        file.write('{"step": 5, "eval')
    result = script(tmp_path, "results/paper_tables.py", "verifiers", "a",
                    "--problems", world / "train/hard.jsonl")
    assert result.returncode == 0, result.stderr
    assert "32 responses; label: the truth" in result.stdout and "rule verifier" in result.stdout
    assert "rollouts.jsonl line 33 is incomplete and is skipped" in result.stderr


@pytest.mark.slow
def test_the_table_of_a_run_beside_the_paper(tmp_path):
    (tmp_path / "h.json").write_text(json.dumps(HERO))
    result = script(tmp_path, "results/paper_tables.py", "table", "h.json")
    assert result.returncode == 0, result.stderr
    assert "70.0 (62.0)" in result.stdout and result.stdout.splitlines()[1].startswith("h ")

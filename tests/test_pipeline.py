"""From a source of problems to an evaluated policy: every stage, interrupted, on several ranks."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
import torch
from helpers import ROOT, refuse, script
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import prepare
import tiny
from rewards import RewardModel
from rollout import load_tokenizer

FAST = ["--instruction", "", "--max_tokens", 32, "--batch", 4]
SPLIT = ["split", "--model", "solver", "--source", "source.jsonl", *FAST, "--count", 10,
         "--sample", 50, "--held_out", 4]
TRAIN = [*FAST, "--batch_size", 4, "--rows_at_once", 1, "--learning_rate", 1e-3]
SFT = ["sft", "--model", "solver", *TRAIN, "--count", 12]
RM = ["rm", "--model", "solver", *TRAIN, "--count", 24, "--samples", 4, "--held_out", 0.3]
HERO = ["--policy", "sft", "--reward_model", "reward_model", "--rm_system", "", "--instruction", "",
        "--steps", 1, "--prompts_per_step", 4, "--num_minibatches", 1, "--rollouts_per_prompt", 2,
        "--max_response_tokens", 32]


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    """A folder with a policy that solves its problems about every other time, and the problems."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer, rng = load_tokenizer(world / "policy"), random.Random(0)
    policy = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32)
    problems = tiny.make_problems(60, False, 0, False)
    rows = prepare.sft_rows(tokenizer, [
        (row["problem"], tiny.solution(row, rng, right=1, missay=0.3))
        for row in problems for _ in range(4)])
    prepare.fit(policy, prepare.shuffled(rows, 32, rng), prepare.sft_loss, 70, 5e-3, "solver", 5)
    for part in (policy, tokenizer):
        part.save_pretrained(folder / "solver")
    prepare.write_jsonl(folder / "source.jsonl", [
        {"problem": row["problem"], "expected_answer": row["answer"], "topic": row["topic"]}
        for row in problems])
    return folder


def run(folder, *arguments, ranks=0):
    result = script(folder, *arguments, ranks=ranks)
    assert result.returncode == 0, result.stderr
    return result.stdout


def here(folder, *arguments):
    """prepare.py in this process, with `folder` as its working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        prepare.main()


@pytest.fixture(scope="module")
def prepared(start, tmp_path_factory):
    """The three stages in one process, undisturbed."""
    folder = shutil.copytree(start, tmp_path_factory.mktemp("prepared") / "all")
    for stage in (SPLIT, SFT, RM):
        here(folder, *stage)
    return folder


@pytest.fixture
def fresh(start, tmp_path):
    """A working directory of one's own in which nothing has been prepared."""
    return shutil.copytree(start, tmp_path / "fresh")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def weights_of(folder, auto_class=AutoModelForCausalLM):
    return auto_class.from_pretrained(folder).state_dict()


def assert_same_split(a, b):
    for name in ("easy", "hard", "mixed", "eval", "problems"):
        assert (a / f"{name}.jsonl").read_bytes() == (b / f"{name}.jsonl").read_bytes(), name
    assert manifest_of(a) == manifest_of(b)


def test_the_split_is_what_the_verifier_says(prepared):
    data = prepared / "data"
    easy, hard, mixed, held_out = (rows_of(data / f"{name}.jsonl")
                                   for name in ("easy", "hard", "mixed", "eval"))
    assert [len(rows) for rows in (easy, hard, mixed, held_out)] == [10, 10, 10, 4]
    assert {row["reason"] for row in easy} == {"correct"}
    assert "correct" not in {row["reason"] for row in hard}
    assert Counter(row in easy for row in mixed) == {True: 5, False: 5}
    asked = [row["problem"] for row in easy + hard + held_out]
    assert len(set(asked)) == len(asked)
    answers = {row["problem"]: row["expected_answer"] for row in rows_of(prepared / "source.jsonl")}
    assert all(answers[row["problem"]] == row["answer"] for row in easy + hard + held_out)
    manifest = manifest_of(data)
    responses = rows_of(data / "responses.jsonl")
    graded = responses[:sum(manifest["reasons"].values())]     # up to the last one that counted
    assert Counter(row["reasons"][0] for row in graded) == manifest["reasons"]
    assert len(responses) - len(graded) < 4 and len(responses) < 50    # it stopped early
    assert manifest["settings"]["source"] == "source.jsonl" and manifest["settings"]["seed"] == 0
    assert manifest["files"]["easy.jsonl"] == prepare.digest(data / "easy.jsonl")


def test_the_cold_start_learns_its_own_right_responses(prepared):
    manifest = manifest_of(prepared / "sft")
    assert manifest["used"] == 12 and len(manifest["losses"]) == 6     # 2 epochs of 12, 4 at once
    assert manifest["responses"]["usable"] >= 12
    before, after = (weights_of(prepared / name) for name in ("solver", "sft"))
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_reward_model_is_measured_on_prompts_it_has_not_seen(prepared):
    manifest, records = manifest_of(prepared / "reward_model"), rows_of(
        prepared / "reward_model" / "responses.jsonl")
    groups = [(r["problem"], r["responses"], [reason == "correct" for reason in r["reasons"]])
              for r in records]
    mixed = [group for group in groups if 0 < sum(group[2]) < 4]
    assert manifest["mixed_prompts"] == len(mixed) and len(records) == 24
    last = mixed[-manifest["held_out_prompts"]:]
    model = RewardModel(prepared / "reward_model")
    aurocs = []
    for problem, texts, correct in last:                       # all pairs, one by one
        scores = model.score([problem] * 4, texts).tolist()
        wins = [(s > t) + 0.5 * (s == t) for s, c in zip(scores, correct, strict=True) if c
                for t, d in zip(scores, correct, strict=True) if not d]
        aurocs.append(sum(wins) / len(wins))
    assert manifest["auroc"] == pytest.approx(sum(aurocs) / len(aurocs), abs=1e-6)
    assert 0 <= manifest["pair_accuracy"] <= 1


def test_hero_and_eval_take_what_was_prepared(prepared):
    said = run(prepared, "hero.py", "--name", "x", *HERO, "--data", "data", "--regime", "mixed",
               "--eval_data", "data/eval.jsonl")
    assert "note:" not in said
    rows = rows_of(prepared / "runs" / "x" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1] and "eval/eval/pass@1" in rows[1]
    run(prepared, "eval.py", "--model", "runs/x/final", "--benchmarks", "data/eval.jsonl",
        "--seeds", 1, "--max_tokens", 32)
    assert (prepared / "runs/x/final/eval.json").exists()


# ---------------------------------------------------------------------------- ranks

SEVERAL = """
import json, sys
import distributed, prepare
def several():
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["prepare.py", *map(str, arguments)]
        prepare.main()
distributed.run(several)
"""


@pytest.fixture(scope="module")
def two_ranks(start, tmp_path_factory):
    """The three stages on two processes, trained by averaged gradients and sharded."""
    folder = shutil.copytree(start, tmp_path_factory.mktemp("two") / "all")
    (folder / "several.py").write_text(SEVERAL)
    stages = [SPLIT] + [[*stage, "--shard", shard, "--out", f"{stage[0]}_{shard}"]
                        for stage in (SFT, RM) for shard in ("off", "on")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        run(folder, folder / "several.py", json.dumps(stages), ranks=2)
    return folder


def test_two_processes_make_the_same_split(prepared, two_ranks):
    assert_same_split(two_ranks / "data", prepared / "data")


@pytest.mark.parametrize("shard", ["off", "on"])
def test_two_processes_train_the_same_policy(prepared, two_ranks, shard):
    one, two = manifest_of(prepared / "sft"), manifest_of(two_ranks / f"sft_{shard}")
    assert two.pop("losses") == pytest.approx(one.pop("losses"), abs=1e-5)
    assert one == two
    one, two = weights_of(prepared / "sft"), weights_of(two_ranks / f"sft_{shard}")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("shard", ["off", "on"])
def test_two_processes_train_the_same_reward_model(prepared, two_ranks, shard):
    one, two = manifest_of(prepared / "reward_model"), manifest_of(two_ranks / f"rm_{shard}")
    for name in ("losses", "auroc", "pair_accuracy"):
        assert two.pop(name) == pytest.approx(one.pop(name), abs=1e-5)
    assert one == two
    one, two = (weights_of(path, AutoModelForSequenceClassification)
                for path in (prepared / "reward_model", two_ranks / f"rm_{shard}"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=0, msg=name)


# ---------------------------------------------------------------------------- interruptions


def kill_at_line(folder, path, line, *arguments, pause=0.0):
    """Starts prepare.py and kills it once `path` has `line` lines. -> whether it was still running
    """
    process = subprocess.Popen([sys.executable, ROOT / "prepare.py", *map(str, arguments)],
                               cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and not (
            (folder / path).exists() and (folder / path).read_bytes().count(b"\n") >= line):
        time.sleep(0.002)
    time.sleep(pause)
    running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if running else None
    process.wait()
    return running


def test_a_killed_split_goes_on_and_is_the_same(prepared, fresh, capsys):
    assert kill_at_line(fresh, "data/responses.jsonl", 4, *SPLIT)
    kept = (fresh / "data/responses.jsonl").read_bytes()
    with open(fresh / "data/responses.jsonl", "a") as file:
        file.write('{"problem": "torn')
    here(fresh, *SPLIT)
    responses = (fresh / "data/responses.jsonl").read_bytes()
    assert responses.startswith(kept)
    assert responses == (prepared / "data/responses.jsonl").read_bytes()
    assert_same_split(fresh / "data", prepared / "data")
    here(fresh, *SPLIT)
    assert "data is complete: nothing to do" in capsys.readouterr().out


def test_a_killed_cold_start_goes_on_and_is_the_same(prepared, fresh):
    shutil.copytree(prepared / "data", fresh / "data")
    assert kill_at_line(fresh, "sft/responses.jsonl", 4, *SFT)
    total = len(rows_of(prepared / "sft/responses.jsonl"))
    assert kill_at_line(fresh, "sft/responses.jsonl", total, *SFT, pause=random.uniform(0, 0.2))
    here(fresh, *SFT)
    assert manifest_of(fresh / "sft") == manifest_of(prepared / "sft")
    one, two = weights_of(prepared / "sft"), weights_of(fresh / "sft")
    assert all(torch.equal(one[name], two[name]) for name in one)


# ---------------------------------------------------------------------------- nothing prepared


def write_open_math_reasoning(folder, problems):
    """A folder of the hub dataset's layout and columns: each problem in several rows."""
    rows = [{"expected_answer": row["answer"], "problem_type": kind, "problem_source": "aops",
             "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.5", "problem": text,
             "generated_solution": "<think>", "inference_mode": "cot", "used_in_kaggle": False}
            for _ in range(3) for row in problems
            for text, kind in ((row["problem"], "has_answer_extracted"),
                               ("prove " + row["problem"], "no_answer_extracted"))]
    path = folder / "nvidia" / "OpenMathReasoning" / "data" / "cot-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_hero_alone_takes_unsplit_problems_and_says_so(prepared, tmp_path):
    problems = tiny.make_problems(30, False, 3, False)
    write_open_math_reasoning(tmp_path, problems)
    for name in ("sft", "reward_model"):
        shutil.copytree(prepared / name, tmp_path / name)
    said = run(tmp_path, "hero.py", "--preset", "qwen3-4b", "--name", "x", *HERO, ranks=2)
    assert said.count("data/easy.jsonl does not exist: training on 2000 problems of "
                      "nvidia/OpenMathReasoning, not split") == 1
    assert "python prepare.py split" in said and "the last 3 problems" in said
    config = json.loads((tmp_path / "runs/x/config.json").read_text())
    train, held_out = rows_of(tmp_path / config["data"]), rows_of(tmp_path / config["eval_data"])
    assert [row["problem"] for row in train + held_out] == [row["problem"] for row in problems]
    assert len(held_out) == 3
    assert "eval/unsplit-eval/pass@1" in rows_of(tmp_path / "runs/x/metrics.jsonl")[0]


def test_hero_alone_without_the_hub_is_one_clear_line(tmp_path):
    refuse(tmp_path, "--preset", "qwen3-4b", says="cannot read split 'cot' of "
           "'nvidia/OpenMathReasoning': it is neither a folder of data files nor a hub dataset")


def test_paths_of_ones_own_are_left_alone(fresh, monkeypatch):
    monkeypatch.chdir(fresh)
    assert prepare.unprepared("mine", "own.jsonl", "easy") == {
        "data": "mine", "eval_data": "own.jsonl"}
    assert prepare.unprepared("source.jsonl", "own.jsonl", "easy")["data"] == "source.jsonl"
    assert not (fresh / "data").exists()


# ---------------------------------------------------------------------------- what users get wrong


def refused(folder, *arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        here(folder, *arguments)
    assert "\n" not in str(caught.value)


def test_a_source_without_answers(fresh):
    (fresh / "source.jsonl").write_text('{"problem": "1+1", "solution": "2"}\n')
    refused(fresh, *SPLIT, says="source.jsonl line 1: every row needs a 'problem' and an 'answer'")
    write_open_math_reasoning(fresh, [{"problem": "1+1", "answer": ""}])
    refused(fresh, *SPLIT, "--source", "nvidia/OpenMathReasoning", "--out", "b",
            says="OpenMathReasoning holds no problem with an answer in its 6 rows of columns "
                 "['expected_answer', 'problem_type', 'problem']")


def test_a_torn_or_missing_source(fresh):
    refused(fresh, *SPLIT, "--source", "none.jsonl", says="'none.jsonl' is neither a local file or "
            "folder nor a hub dataset that can be reached from here")
    (fresh / "source.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+')
    refused(fresh, *SPLIT, says="source.jsonl line 2 is not JSON")


def test_too_few_easy_or_hard_problems(fresh):
    refused(fresh, *SPLIT, "--count", 30, says="of 50 problems are easy")
    counts = Counter(row["reasons"][0] == "correct" for row in rows_of(
        fresh / "data/responses.jsonl"))
    easy = counts[True]
    refused(fresh, *SPLIT, "--count", 30, says=f"too few: {easy} of 50 problems are easy")
    here(fresh, *SPLIT, "--count", min(counts.values()))              # what was generated is used
    assert len(rows_of(fresh / "data/easy.jsonl")) == min(counts.values())


def test_a_folder_of_another_split_is_left_alone(fresh):
    here(fresh, *SPLIT, "--count", 3)
    before = (fresh / "data/easy.jsonl").read_bytes()
    refused(fresh, *SPLIT, "--count", 3, "--seed", 1,
            says="data holds other work: seed=0, where this is seed=1; choose another --out")
    refused(fresh, *SPLIT, "--count", 4, says="count=3, where this is count=4")
    refused(fresh, *SFT, "--out", "data", says="data holds other work: stage='split'")
    (fresh / "source.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    refused(fresh, *SPLIT, "--count", 3, says="data holds other work: revision=")
    assert (fresh / "data/easy.jsonl").read_bytes() == before
    (fresh / "own").mkdir()
    (fresh / "own/easy.jsonl").write_text("{}")
    refused(fresh, *SPLIT, "--out", "own", says="own holds files that prepare.py has not made")


def test_a_model_that_never_stops_has_no_usable_sample(fresh):
    prepare.write_jsonl(fresh / "data/problems.jsonl", prepare.stream_problems(fresh / "source.jsonl"))
    refused(fresh, *SFT, "--max_tokens", 2, says="no usable sample among 60 responses")
    refused(fresh, *RM, "--max_tokens", 2, says="0 of 24 problems have both right and "
            "wrong responses")


def test_flags_that_cannot_work(fresh):
    refused(fresh, *SPLIT, "--cuont", 3, says="--cuont")
    refused(fresh, *SPLIT, "--count", 0, says="--count 0: has to be above 0")
    refused(fresh, *SPLIT, "--engine", "magic", says="choose auto, vllm or transformers")
    refused(fresh, *RM, "--held_out", 1, says="--held_out 1.0")
    refused(fresh, *SFT, "--data", "none.jsonl", says="none.jsonl does not exist")
    refused(fresh, "--model", "solver", says="STAGE")
    refused(fresh, "split", says="--model")

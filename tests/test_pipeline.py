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
from helpers import ROOT, chain, environment, refuse, script
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import prepare
import tiny
from problems import stream_problems, write_jsonl
from rewards import RewardModel

pytestmark = pytest.mark.slow

FAST = ["--instruction", "", "--max_tokens", 32, "--batch", 4]
SPLIT = ["split", "--model", "solver", "--source", "source.jsonl", *FAST, "--count", 10,
         "--sample", 50, "--held_out", 4]
TRAIN = [*FAST, "--batch_size", 4, "--rows_at_once", 1, "--learning_rate", 1e-3]
SFT = ["sft", "--model", "solver", *TRAIN, "--count", 12]
RM = ["rm", "--model", "solver", *TRAIN, "--count", 24, "--samples", 4, "--held_out", 0.3,
      "--max_tokens", 28]                          # a few responses are cut
HERO = ["--policy", "sft", "--reward_model", "reward_model", "--rm_system", "", "--instruction", "",
        "--steps", 1, "--prompts_per_step", 4, "--num_minibatches", 1, "--rollouts_per_prompt", 2,
        "--max_response_tokens", 32]


@pytest.fixture(scope="module")
def start(tokenizer, tmp_path_factory):
    """A folder with a policy that solves its problems about every other time, and the problems.

    It counts to nine, and answers 7 or 8, where 7 is right. A tenth of its responses do not end.
    """
    folder = tmp_path_factory.mktemp("start")
    words = [f" {word}" for word in tiny.UNITS[1:]]
    table = {"": {words[0]: 0.9, "x": 0.1}, "x": {"x": 1}}
    for word, following in zip(words, [*words[1:], "\\boxed{"], strict=True):
        table[word] = {following: 1}
    table |= {"\\boxed{": {"7": 0.5, "8": 0.5}, "7": {"}": 1}, "8": {"}": 1}, "}": {"<eos>": 1}}
    for part in (chain(tokenizer, table), tokenizer):
        part.save_pretrained(folder / "solver")
    write_jsonl(folder / "source.jsonl", [
        {"problem": f"compute 7+{n}-{n}", "expected_answer": "7", "topic": "sums"}
        for n in range(60)])
    return folder


def run(folder, *arguments, ranks=0):
    """Runs a script that has to succeed. -> what it printed"""
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
    """A working directory of the test's own in which nothing has been prepared."""
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


# ---------------------------------------------------------------------------- the three stages


def test_the_split_is_what_the_verifier_says(prepared):
    data = prepared / "data"
    names = ("easy", "hard", "mixed", "eval")
    easy, hard, mixed, held_out = (rows_of(data / f"{name}.jsonl") for name in names)
    assert [len(rows) for rows in (easy, hard, mixed, held_out)] == [10, 10, 10, 4]
    assert {row["reason"] for row in easy} == {"correct"}
    assert "correct" not in {row["reason"] for row in hard}
    assert Counter(row in easy for row in mixed) == {True: 5, False: 5}

    # No problem occurs twice, and each has the answer of the source.
    problems = [row["problem"] for row in easy + hard + held_out]
    assert len(set(problems)) == len(problems)
    answers = {row["problem"]: row["expected_answer"] for row in rows_of(prepared / "source.jsonl")}
    assert all(answers[row["problem"]] == row["answer"] for row in easy + hard + held_out)

    # The manifest counts the responses up to the last one that was needed. It stopped early.
    manifest = manifest_of(data)
    responses = rows_of(data / "responses.jsonl")
    graded = responses[:sum(manifest["reasons"].values())]
    assert Counter(row["reasons"][0] for row in graded) == manifest["reasons"]
    assert len(graded) <= len(responses) < min(50, len(graded) + 4)
    assert manifest["files"]["easy.jsonl"] == prepare.digest(data / "easy.jsonl")


def test_the_cold_start_learns_its_own_right_responses(prepared):
    manifest = manifest_of(prepared / "sft")
    assert manifest["used"] == 12
    assert len(manifest["losses"]) == 6            # 2 epochs of 12, 4 at once
    assert manifest["responses"]["usable"] >= 12
    before = weights_of(prepared / "solver")
    after = weights_of(prepared / "sft")
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_reward_model_is_measured_on_prompts_it_has_not_seen(prepared):
    """And on responses that ended: those that were cut are in no group."""
    manifest = manifest_of(prepared / "reward_model")
    records = rows_of(prepared / "reward_model" / "responses.jsonl")
    mixed = []
    cut = 0
    for record in records:
        ended = [i for i in range(4) if record["finished"][i]]
        cut += 4 - len(ended)
        verified = [record["reasons"][i] == "correct" for i in ended]
        if any(verified) and not all(verified):
            mixed.append((record["problem"], [record["responses"][i] for i in ended], verified))
    assert manifest["mixed_prompts"] == len(mixed)
    assert manifest["unfinished_responses"] == cut > 0
    assert len(records) == 24

    model = RewardModel(prepared / "reward_model")
    aurocs = []
    for problem, responses, verified in mixed[-manifest["held_out_prompts"]:]:
        scores = model.score([problem] * len(responses), responses)
        right, wrong = scores[torch.tensor(verified)], scores[~torch.tensor(verified)]
        wins = torch.sign(right[:, None] - wrong) / 2 + 0.5          # of each pair; a tie is a half
        aurocs.append(wins.double().mean().item())
    assert manifest["auroc"] == pytest.approx(sum(aurocs) / len(aurocs), abs=1e-6)
    assert 0 <= manifest["pair_accuracy"] <= 1


def test_hero_and_eval_take_what_was_prepared(prepared):
    said = run(prepared, "hero.py", "--name", "x", *HERO, "--data", "data", "--regime", "mixed",
               "--eval_data", "data/eval.jsonl")
    assert "note:" not in said
    rows = rows_of(prepared / "runs" / "x" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1]
    assert "eval/eval/pass@1" in rows[1]

    run(prepared, "eval.py", "--model", "runs/x/final", "--benchmarks", "data/eval.jsonl",
        "--seeds", 1, "--max_tokens", 32)
    assert (prepared / "runs/x/final/eval.json").exists()


# ---------------------------------------------------------------------------- ranks

# Several stages one after another in the same processes, which start only once.
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
    stages = [SPLIT]
    for stage in (SFT, RM):
        for shard in ("off", "on"):
            stages.append([*stage, "--shard", shard, "--out", f"{stage[0]}_{shard}"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        run(folder, folder / "several.py", json.dumps(stages), ranks=2)
    return folder


def test_two_processes_make_the_same_split(prepared, two_ranks):
    assert_same_split(two_ranks / "data", prepared / "data")


@pytest.mark.parametrize("shard", ["off", "on"])
@pytest.mark.parametrize("stage, folder, auto_class", [
    ("sft", "sft", AutoModelForCausalLM),
    ("rm", "reward_model", AutoModelForSequenceClassification)])
def test_two_processes_train_the_same_model(prepared, two_ranks, stage, folder, auto_class, shard):
    one = manifest_of(prepared / folder)
    two = manifest_of(two_ranks / f"{stage}_{shard}")
    for name in {"losses", "auroc", "pair_accuracy"} & one.keys():
        assert two.pop(name) == pytest.approx(one.pop(name), abs=1e-5)
    assert one == two

    # An element whose gradient is nothing but rounding is moved by Adam by a whole step, of 1e-3.
    # If it is one in ten thousand, the weights differ by a hundredth of a step in the root mean
    # square. Other gradients change the direction of most steps.
    one = weights_of(prepared / folder, auto_class)
    two = weights_of(two_ranks / f"{stage}_{shard}", auto_class)
    differences = torch.cat([(one[name] - two[name]).flatten() for name in one])
    assert differences.square().mean().sqrt() <= 1e-5


# ---------------------------------------------------------------------------- interruptions


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at_line(folder, path, line, *arguments, pause=0.0):
    """Starts prepare.py and kills it `pause` seconds after `path` has `line` lines.

    -> whether it was still running
    """
    process = subprocess.Popen([sys.executable, ROOT / "prepare.py", *map(str, arguments)],
                               cwd=folder, env=environment(), stderr=subprocess.DEVNULL,
                               start_new_session=True)
    while process.poll() is None and count_lines(folder / path) < line:
        time.sleep(0.002)
    time.sleep(pause)

    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
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
    kill_at_line(fresh, "sft/responses.jsonl", total, *SFT, pause=random.uniform(0, 0.2))
    here(fresh, *SFT)
    assert manifest_of(fresh / "sft") == manifest_of(prepared / "sft")
    one = weights_of(prepared / "sft")
    two = weights_of(fresh / "sft")
    assert all(torch.equal(one[name], two[name]) for name in one)


def write_open_math_reasoning(folder, problems):
    """A folder like the hub dataset: each problem with an answer and, without, as a proof."""
    rows = []
    for _ in range(3):
        for problem in problems:
            for text, kind in ((problem["problem"], "has_answer_extracted"),
                               ("prove " + problem["problem"], "no_answer_extracted")):
                rows.append({
                    "expected_answer": problem["answer"], "problem_type": kind,
                    "problem": text, "generated_solution": "<think>"})
    path = folder / "nvidia" / "OpenMathReasoning" / "data" / "cot-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_hero_alone_takes_unsplit_problems_and_says_so(prepared, tmp_path):
    problems = tiny.make_problems(30, False, 3, False)
    write_open_math_reasoning(tmp_path, problems)
    for name in ("sft", "reward_model"):
        shutil.copytree(prepared / name, tmp_path / name)

    said = run(tmp_path, "hero.py", "--config", "qwen3-4b", "--name", "x", *HERO, ranks=2)
    assert said.count("note: training on problems of nvidia/OpenMathReasoning that are not split "
                      "into easy and hard by the verifier") == 1
    assert "python prepare.py split --model POLICY" in said

    config = json.loads((tmp_path / "runs/x/config.json").read_text())
    assert config["data"] == "data/unsplit/train.jsonl"
    assert config["eval_data"] == "data/unsplit/eval.jsonl"
    train = rows_of(tmp_path / config["data"])
    held_out = rows_of(tmp_path / config["eval_data"])
    assert [row["problem"] for row in train + held_out] == [row["problem"] for row in problems]
    assert len(held_out) == 3
    assert "eval/eval/pass@1" in rows_of(tmp_path / "runs/x/metrics.jsonl")[0]


def test_hero_alone_without_the_hub_is_one_clear_line(tmp_path):
    refuse(tmp_path, "--config", "qwen3-4b", says="cannot read split 'cot' of "
           "'nvidia/OpenMathReasoning': it is neither a folder of data files nor a hub dataset")


# ---------------------------------------------------------------------------- what users get wrong


def refused(folder, *arguments, says):
    """prepare.py in this process raises a ValueError of one line."""
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        here(folder, *arguments)
    assert "\n" not in str(caught.value)


def test_a_source_that_cannot_be_read(fresh):
    write_open_math_reasoning(fresh, [{"problem": "1+1", "answer": ""}])
    refused(fresh, *SPLIT, "--source", "nvidia/OpenMathReasoning", "--out", "b",
            says="OpenMathReasoning holds no problem with an answer in its 6 rows of columns "
                 "['expected_answer', 'problem_type', 'problem']")
    refused(fresh, *SPLIT, "--source", "none.jsonl", says="'none.jsonl' is neither a local file or "
            "folder nor a hub dataset that can be reached from here")
    (fresh / "source.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+')
    refused(fresh, *SPLIT, says="source.jsonl line 2 is not JSON")
    (fresh / "source.jsonl").write_text('{"problem": "1+1", "solution": "2"}\n')
    refused(fresh, *SPLIT, "--out", "c",
            says="source.jsonl line 1: every row needs a 'problem' and an 'answer'")
    refused(fresh, *SFT, "--data", "none.jsonl", says="none.jsonl does not exist")


def test_too_few_easy_or_hard_problems(fresh):
    refused(fresh, *SPLIT, "--count", 30, says="of 50 problems are easy")
    responses = rows_of(fresh / "data/responses.jsonl")
    easy = sum(row["reasons"][0] == "correct" for row in responses)
    refused(fresh, *SPLIT, "--count", 30, says=f"too few: {easy} of 50 problems are easy")

    # With a count that can be reached, what was generated is used.
    count = min(easy, len(responses) - easy)
    here(fresh, *SPLIT, "--count", count)
    assert len(rows_of(fresh / "data/easy.jsonl")) == count


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
    write_jsonl(fresh / "data/problems.jsonl", stream_problems(fresh / "source.jsonl"))
    refused(fresh, *SFT, "--max_tokens", 2, says="no usable sample among 60 responses")
    refused(fresh, *RM, "--max_tokens", 2, says="0 of 24 problems have both right and "
            "wrong responses")

"""The parts of the stages: drawing problems, overlaps, the textbook filter, SFT loss, pairs."""

import copy
import json
import math
import random
import sys
import tracemalloc
from collections import Counter

import pytest
import torch
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_judge import NO, YES, Server
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

import prepare
from distributed import Ranks, memory_plan, model_size
from hero import Config
from prepare import (
    collect_usable,
    draw_problems,
    fit,
    fit_reward_model,
    leave_out_overlaps,
    preference_pairs,
    sft_loss,
    sft_rows,
    shuffled,
    split_ngrams,
    textbook_rows,
    unsplit_problems,
)
from problems import load_benchmarks, load_problems, stream_problems, write_jsonl
from rewards import RewardModel
from settings import read_settings


def stage_of(*arguments, device="cpu", ranks=1, tokenizer=None):
    """A Stage of a command line, on rank 0 of so many."""
    name, cfg = prepare.read_command(list(map(str, arguments)))
    return prepare.Stage(name, cfg, Ranks(0, ranks, torch.device(device)), tokenizer)


# ---------------------------------------------------------------------------- problems


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 40), st.integers(0, 3),
       st.randoms(use_true_random=False))
def test_a_drawn_sample_knows_no_order_and_no_repeats(numbers, count, seed, rng):
    rows = [{"problem": str(n)} for n in numbers]
    drawn = draw_problems(rows, count, seed)
    assert len(drawn) == min(count, len(set(numbers)))
    assert len({row["problem"] for row in drawn}) == len(drawn)

    rng.shuffle(rows)
    assert draw_problems(rows, count, seed) == drawn
    larger = draw_problems(rows, count + 5, seed)
    assert larger[:count] == drawn


def test_memory_does_not_grow_with_the_source(tmp_path):
    """10,000 rows of 3 kB are 30 MB. While 500 are drawn, at most 1,000 are in memory: 3 MB."""
    path = tmp_path / "source.jsonl"
    write_jsonl(path, [{"problem": f"{i} {'x' * 3000}", "answer": "7"} for i in range(10_000)])
    tracemalloc.start()
    assert len(draw_problems(stream_problems(path), 500, 0)) == 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("rows, num_train, num_eval", [(90, 40, 4), (44, 40, 4), (20, 18, 2),
                                                       (5, 4, 1)])
def test_problems_for_a_run_without_a_split(tmp_path, monkeypatch, capsys, rows, num_train,
                                            num_eval):
    """The first 40 distinct problems for training and the next 4 for evaluation. Of fewer than 44
    the last tenth is held out, but at least one. A second call uses the same files."""
    monkeypatch.chdir(tmp_path)
    source = [{"problem": str(i), "answer": "7"} for i in range(rows)]
    repeated = [row for row in source for _ in range(2)]
    write_jsonl("source.jsonl", repeated)
    monkeypatch.setattr(prepare, "SOURCE", "source.jsonl")

    train_path, eval_path = unsplit_problems(count=40, held_out=4)
    assert (train_path, eval_path) == ("data/unsplit/train.jsonl", "data/unsplit/eval.jsonl")
    assert load_problems(train_path) == source[:num_train]
    assert load_problems(eval_path) == source[num_train:num_train + num_eval]
    assert "run: python prepare.py split --model POLICY" in capsys.readouterr().out

    (tmp_path / "source.jsonl").unlink()
    assert unsplit_problems(count=40, held_out=4) == (train_path, eval_path)


# ---------------------------------------------------------------------------- overlaps


@pytest.mark.parametrize("one, other, words", [
    (r"Compute $\dfrac{1}{2} \cdot x^2$.", "compute 1/2 * x²", "compute 1 2 * x 2"),
    (r"\frac12 + \tfrac 1 2", r"\frac{1}{2}+\frac{1}{2}", "1 2 + 1 2"),
    (r"$\left(a+b\right)\,c - \text{Area}$", "(a + b) c − area", "a + b c - area"),
    (r"the $x$-axis in $x_1\le 1$", "The x-axis in x1 ≤ 1", "the x axis in x 1 < = 1"),
    (r"the set $\mathbb{R}$ of well-known \textbf{reals}!", "the set R of well known reals",
     "the set r of well known reals"),
    (r"$2\times3.5 \geq \sqrt{2}$", r"2 × 3.5 ≥ \sqrt 2", "2 * 3.5 > = sqrt 2"),
    (r"costs \$5 on a $2$-digit number", "costs $5 on a 2-digit number",
     "costs 5 on a 2 digit number"),
    ("x + 1", "x - 1", None), ("x^{2} = 3", "x^{2} = 4", None), ("x < 1", r"x \le 1", None),
    (r"\sin x", r"\cos x", None), ("x-y", "x+y", None), ("3.5", "35", None),
    (r"\sqrt{2}", "2", None)])
def test_words_are_the_same_however_they_are_typeset(one, other, words):
    """And what means something else has other words."""
    if words:
        assert split_ngrams(one) == split_ngrams(other) == {words}
    else:
        assert split_ngrams(one) != split_ngrams(other)


def test_parts_are_13_words_or_the_whole():
    letters = "a b c d e f g h i j k l m n".split()
    assert split_ngrams(" ".join(letters)) == {"a b c d e f g h i j k l m",
                                               "b c d e f g h i j k l m n"}
    assert split_ngrams(" ".join(letters[:13])) == {" ".join(letters[:13])}


TRAINS = (r"A train leaves the town of $A$ at 8 o'clock and travels $\frac{3}{4}$ of an hour at "
          r"60 miles per hour before it meets, at \(x^2\) miles, a slower train from $B$.")
SHORT = r"Find the sum of the roots of $x^2 - 5x + 6 = 0$."
TINY = r"Compute $\binom{8}{3}$."

PLANTED = {
    "a copy": TRAINS,
    "case and punctuation": TRAINS.upper().replace("FRAC", "frac").replace(",", " ;"),
    "another LaTeX": r"A train leaves the town of A at 8 o'clock, and travels $\dfrac 34$ of an "
                     r"hour at $60$ miles per hour. How far is that?",
    "13 words of it": "Anna sees a train that travels 3/4 of an hour at 60 miles per hour before "
                      "it stops.",
    "a short one, typeset otherwise": r"find the SUM of the roots of \[x^{2}-5x+6=0\]",
    "a tiny one": r"Compute \( \binom 8 3 \)",
}
KEPT = {
    "12 words of it": "Anna sees a bus that travels 3/4 of an hour at 60 miles per hour before "
                      "noon.",
    "a short one, a number changed": r"Find the sum of the roots of $x^2 - 7x + 6 = 0$.",
    "a tiny one and more": r"Compute $\binom{8}{3}$ modulo 5.",
    "the same words in another order": " ".join(reversed(TRAINS.split())),
    "no word at all": "?",
}


def test_planted_overlaps_are_left_out_and_no_others(capsys):
    """The 12 words are "travels 3 4 of an hour at 60 miles per hour before"; "it" is the 13th."""
    benchmarks = {"one": [{"problem": TRAINS}, {"problem": "???"}],
                  "two": [{"problem": SHORT}, {"problem": TINY}], "three": [{"problem": TRAINS}]}
    rows = [{"problem": text, "name": name} for name, text in (PLANTED | KEPT).items()]
    kept, counts = leave_out_overlaps(rows, benchmarks)
    assert [row["name"] for row in kept] == list(KEPT)
    assert counts == {"one": 4, "two": 2, "three": 4}
    kept, counts = leave_out_overlaps(rows, {"two": benchmarks["two"]})
    assert [row["name"] for row in kept] == [*list(PLANTED)[:4], *KEPT]
    assert "left out 2 of 11 problems that share text with a benchmark" in capsys.readouterr().out

    assert leave_out_overlaps(rows, {}) == (rows, {})
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="all 2 problems share text with a benchmark .{'b': 2}"):
        leave_out_overlaps(rows[:2], {"b": rows})


def test_a_split_leaves_out_what_its_benchmarks_ask(tmp_path, monkeypatch, tokenizer, capsys):
    """One problem is in both, one in one of them. The second call draws nothing anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    planted = ["Compute $1{,}000 \\cdot 2$.", TRAINS.upper().replace("FRAC", "frac")]
    others = [f"Compute {i} * 2" for i in range(20)]
    write_jsonl("source.jsonl", [{"problem": text, "answer": "1"} for text in others + planted])
    write_jsonl("amc23.jsonl", [{"question": TRAINS, "answer": 1},
                                {"question": "compute 1000 * 2", "answer": 2}])
    write_jsonl("own.jsonl", [{"problem": "compute 1000 * 2", "answer": 2}])

    stage = stage_of("split", "--model", "m", "--source", "source.jsonl", "--sample", 30,
                     "--benchmarks", "amc23.jsonl", "own.jsonl", "math500", tokenizer=tokenizer)
    problems = prepare.open_split(stage)
    manifest = prepare.read_manifest(stage.out)
    assert {row["problem"] for row in problems} == set(others)
    assert manifest["overlaps"] == {"amc23": 2, "own": 1}
    assert manifest["not_checked"] == ["math500"]
    assert manifest["settings"]["benchmarks"] == ["amc23.jsonl", "own.jsonl", "math500"]
    said = capsys.readouterr().out
    assert "note: not checked against the problems of math500: cannot read split 'test'" in said

    assert prepare.open_split(stage) == problems
    assert prepare.read_manifest(stage.out) == manifest
    assert capsys.readouterr().out == ""


# question, subject, worked answer, reference answer
TEXTBOOK = [
    ("What is the norm of f?", "math", "so \\boxed{2}", "the essential supremum of f"),   # kept
    ("What is 1+1?", "math", "so \\boxed{2}", "2"),                 # the rule verifier grades it
    ("Prove that 1+1=2.", "math", "by induction", "see above"),     # a proof
    ("What is the charge?", "physics", "so \\boxed{2}", "e"),       # not mathematics
    ("What is the name?", "math", "so \\boxed{2}", " ")]            # nothing to compare with


def textbook_here(folder, *arguments):
    """prepare.py textbook in this process, with `folder` as its working directory. -> manifest"""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["prepare.py", "textbook", *map(str, arguments)])
        prepare.main()
    return json.loads((folder / "data/textbook.manifest.json").read_text())


def test_textbook(tmp_path, capsys):
    rows = []
    for values in TEXTBOOK:
        columns = ("question", "subject", "answer", "reference_answer")
        rows.append(dict(zip(columns, values, strict=True)))
    for i in range(20):
        rows.append(rows[0] | {"question": f"What is the norm of f_{i}?"})
    (tmp_path / "hub").mkdir()
    write_jsonl(tmp_path / "hub/train.jsonl", rows)

    manifest = textbook_here(tmp_path, "--source", "hub", "--count", 10)
    assert "10 of 10 rows" in capsys.readouterr().out
    problems = load_benchmarks([tmp_path / "data/textbook.jsonl"])["textbook"]
    assert {row["answer"] for row in problems} == {"the essential supremum of f"}
    assert problems == list(textbook_rows(rows[::-1], 0, Counter()))[:10]
    assert problems != list(textbook_rows(rows, 1, Counter()))[:10]
    assert manifest["settings"]["count"] == 10 and manifest["counts"]["kept"] == 10
    manifest = textbook_here(tmp_path, "--source", "hub", "--count", 30)
    assert manifest["counts"] == {"rows": 25, "questions": 22, "verified": 1, "kept": 21}


class Models:
    """A judge and a solver on servers of their own, which behave as the questions say.

    A question names what becomes of it: "vague" (the judge says no), "unclear" (the judge does not
    decide), "easy" (the solver knows it), "odd" (the judge cannot compare), or "hard".
    """

    def __init__(self):
        self.judge = Server(self.as_judge)
        self.solver = Server(self.as_solver)

    def as_judge(self, prompt, _attempt):
        if "Student's answer:" in prompt:
            answer = prompt.split("Student's answer:\n")[1].split("\n")[0]
            return {"the known answer": YES, "odd": "hm"}.get(answer, NO)
        question = prompt.split("Question:\n")[1].split("\n")[0]
        assert "the known answer" in prompt
        if "vague" in question:
            return NO
        return "hm" if "unclear" in question else YES

    def as_solver(self, prompt, _attempt):
        assert "vague" not in prompt and "unclear" not in prompt
        answer = "5"
        if "easy" in prompt:
            answer = "the known answer"
        elif "odd" in prompt:
            answer = "odd"
        return f"<think>x</think> It is \\boxed{{{answer}}}."

    def flags(self):
        return ["--judge_model", "j", "--judge_url", self.judge.url,
                "--solver_model", "s", "--solver_url", self.solver.url]

    @property
    def requests(self):
        return self.judge.requests, self.solver.requests

    def close(self):
        self.judge.close()
        self.solver.close()


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    servers = Models()
    yield servers
    servers.close()


def write_questions(folder, kinds, each):
    """A folder `hub` of textbook questions, `each` of every kind."""
    (folder / "hub").mkdir()
    rows = []
    for kind in kinds:
        for i in range(each):
            rows.append({"question": f"What is the {kind} norm of f_{i}?", "subject": "math",
                         "answer": "so it is", "reference_answer": "the known answer"})
    write_jsonl(folder / "hub/train.jsonl", rows)


def test_two_models_select_the_questions_and_a_rerun_asks_nothing(tmp_path, servers):
    write_questions(tmp_path, ("vague", "easy", "odd", "hard", "unclear"), 4)
    arguments = ["--source", "hub", *servers.flags()]
    manifest = textbook_here(tmp_path, *arguments)
    problems = load_problems(tmp_path / "data/textbook.jsonl")
    assert sorted(row["problem"] for row in problems) == [
        f"What is the hard norm of f_{i}?" for i in range(4)]
    assert manifest["counts"] == {"rows": 20, "questions": 20, "asked": 20, "unsuitable": 4,
                                  "solved": 4, "undecided": 8, "kept": 4}

    # 20 questions and 12 answers to judge, 12 to solve; each prompt once, whatever --count is
    for flags in ([], ["--count", 3]):
        textbook_here(tmp_path, *arguments, *flags)
        assert servers.requests == (20 + 12, 12)
    assert load_problems(tmp_path / "data/textbook.jsonl") == problems[:3]
    replies = tmp_path / "data/textbook.replies.jsonl"
    assert len(replies.read_text().splitlines()) == 44


def test_no_more_is_asked_than_needed_and_a_failure_loses_nothing(tmp_path, servers, monkeypatch):
    """Five questions at a time. The solver fails, is named, and works again."""
    monkeypatch.setattr(prepare, "QUESTIONS_AT_ONCE", 5)
    write_questions(tmp_path, ("hard",), 20)
    arguments = ["--source", "hub", "--count", 7, *servers.flags()]
    servers.solver.behave = lambda *_: 401
    with pytest.raises(OSError, match="the solver s at .* failed after 0 of 5 replies .*401.*"
                       "textbook.replies.jsonl, and the same command resumes from there"):
        textbook_here(tmp_path, *arguments)
    assert not (tmp_path / "data/textbook.jsonl").exists()
    assert servers.judge.requests == 5

    servers.solver.behave = servers.as_solver
    refused = servers.solver.requests
    assert textbook_here(tmp_path, *arguments)["counts"]["asked"] == 10
    assert servers.requests == (20, refused + 10)
    assert len(load_problems(tmp_path / "data/textbook.jsonl")) == 7


def test_a_filter_that_selects_nothing_says_what_became_of_the_questions(tmp_path, servers):
    write_questions(tmp_path, ("vague", "easy"), 2)
    with pytest.raises(ValueError, match="no row of mathematics that the filter keeps .*"
                       "'unsuitable': 2, 'solved': 2"):
        textbook_here(tmp_path, "--source", "hub", *servers.flags())


@pytest.mark.parametrize("flags, says", [
    ("--judge_model j --judge_url u", "needs two models"),
    ("--judge_url u", "needs two models"),
    ("--judge_model j --solver_model s --judge_url u",
     "--solver_model s is on no server: give --solver_url"),
    ("--judge_model j --solver_model s --solver_url u",
     "--judge_model j is on no server: give --judge_url")])
def test_both_models_need_a_name_and_a_server(tmp_path, flags, says, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=says):
        textbook_here(tmp_path, *flags.split())


# ---------------------------------------------------------------------------- cold start


@pytest.mark.parametrize("text, reason, finished, outcome", [
    ("so \\boxed{9}", "correct", True, "usable"), ("so \\boxed{8}", "wrong", True, "wrong"),
    ("", "correct", True, "usable"), ("so \\boxed{9}", "correct", False, "unfinished"),
    ("Let the angle be \u03b8; then sin \u03b8 = 1/2 and we are done with it.", "correct", True,
     "usable"),
    ("\u7b54\u6848\u662f \\boxed{9}", "correct", True, "not English"),
    ("We add: \u7136\u540e\u5f97\u5230\u7b54\u6848.", "correct", True, "not English")])
def test_the_cold_start_takes_right_finished_english_responses(text, reason, finished, outcome):
    record = {"problem": "p", "responses": [text] * 2, "reasons": [reason] * 2,
              "finished": [finished] * 2}                   # the same twice counts once
    pairs, counts = collect_usable([record] * 3, 2)
    assert pairs == ([("p", text)] * 2 if outcome == "usable" else [])
    assert counts == {outcome: 2 if outcome == "usable" else 3}


def test_forward_passes_of_any_size_train_the_same(exact, tokenizer):
    """Rows of unequal length, weighted by their tokens: 4 at once, and one by one."""
    rows = sft_rows(tokenizer, [("compute 2+3*4-5", "3*4=12;2+12=14;14-5=9;\\boxed{9}"),
                                ("x", "\\boxed{7}"), ("y", "7"), ("2+3", "2+3=5;\\boxed{5}")])
    losses = []
    for rows_at_once in (None, 1):
        batches = shuffled(rows, 4, random.Random(0))
        losses.append(fit(copy.deepcopy(exact), batches, sft_loss, steps=4, learning_rate=1e-3,
                          description="", warmup=1, rows_at_once=rows_at_once,
                          size_of=lambda batch: sum(len(ids) for _, ids in batch)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_sft_loss_counts_response_tokens_only(exact, tokenizer, monkeypatch):
    """By hand, and with response_only: then no logits before the first response are asked for."""
    rows = sft_rows(tokenizer, [("compute 2+3*4-5", "3*4=12;\\boxed{9}"), ("x", "\\boxed{7}")])
    assert all(response[-1] == tokenizer.eos_token_id for _, response in rows)
    total = 0.0
    count = 0
    for prompt, response in rows:
        logits = exact(input_ids=torch.tensor([prompt + response])).logits[0]
        logp = logits.log_softmax(-1)[len(prompt) - 1:-1]
        total -= logp[range(len(response)), response].sum().item()
        count += len(response)

    asked = []
    forward = exact.forward
    monkeypatch.setattr(exact, "forward", lambda **options: asked.append(
        options["logits_to_keep"]) or forward(**options))
    for response_only in (False, True):
        loss = sft_loss(exact, rows, response_only).item()
        assert loss == pytest.approx(total / count, abs=1e-5)
    shortest = min(len(prompt) for prompt, _ in rows)
    longest = max(len(prompt + response) for prompt, response in rows)
    assert asked == [longest, longest - shortest + 1]


def test_shuffled_leaves_no_row_out_of_a_pass():
    batches = shuffled(list(range(10)), 4, random.Random(0))
    drawn = []
    for _ in range(5):
        drawn += next(batches)
    assert sorted(drawn[:10]) == list(range(10))
    assert sorted(drawn[10:20]) == list(range(10))


def test_preference_pairs_golden():
    """q has no wrong response. Of the others two are allowed, and one is possible."""
    pairs = preference_pairs(["p", "q", "r"], [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]],
                             [[1, 0, 0], [1, 1, 1], [0, 0, 1]], limit=2, rng=random.Random(0))
    assert [(problem, chosen) for problem, chosen, _ in pairs] == [("p", "a"), ("r", "i")]
    assert pairs[0][2] in "bc" and pairs[1][2] in "gh"

    # a response is in one pair only
    pairs = preference_pairs(["p"], [list("abcdef")], [[1, 1, 1, 0, 0, 0]], 3, random.Random(0))
    assert {chosen for _, chosen, _ in pairs} == set("abc")
    assert {rejected for _, _, rejected in pairs} == set("def")


def test_bradley_terry_training_learns_to_rank(world):
    """From a head of zeros, whose loss is ln 2, with a first step along the mean difference."""
    reward_model = RewardModel(world / "reward_model")
    torch.nn.init.zeros_(reward_model.model.score.weight)
    right, wrong = "\\boxed{one more than six}", "\\boxed{one short of six}"
    pairs = []
    for a in range(2, 8):
        for b in range(2, 8):
            pairs.append((f"compute {a}+{b}*4-5", right, wrong))

    losses = fit_reward_model(reward_model, pairs, 20, 36, 1e-3, random.Random(0), warmup=1)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] < losses[0]
    chosen, rejected = (reward_model.score([problem for problem, _, _ in pairs], [text] * 36)
                        for text in (right, wrong))
    assert chosen.mean() > rejected.mean()
    assert not any(p.requires_grad for p in reward_model.model.parameters())


@pytest.fixture
def paper_models(tmp_path):
    """Configs of the shapes of Qwen3-4B-Base and AceMath-7B-RM, without weights."""
    policy = Qwen3Config(vocab_size=151936, hidden_size=2560, intermediate_size=9728,
                         num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
                         head_dim=128, tie_word_embeddings=True)
    reward_model = Qwen2Config(vocab_size=152064, hidden_size=3584, intermediate_size=18944,
                               num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
                               tie_word_embeddings=False)
    policy.save_pretrained(tmp_path / "policy")
    reward_model.save_pretrained(tmp_path / "rm")
    return tmp_path / "policy", tmp_path / "rm"


def test_memory_plan_of_the_papers_models_by_hand(paper_models):
    """A layer of the 4B model: attention 2560 * 128 * (32 + 8 + 8 + 32) = 26,214,400; feed-forward
    3 * 2560 * 9728 = 74,711,040; norms 2 * 2560 + 2 * 128 = 5,376: 100,930,816. 36 of them, the
    embedding 151936 * 2560 and the last norm: 4,022,468,096 weights; on 8 GPUs the masters take
    4 * that / 8 = 1.87 GiB and Adam's moments 3.75. Loading the float32 policy takes 4 bytes of
    each weight, 14.98 GiB; a checkpoint 12, three of them 134.9 GiB. The reward model of 7.07e9
    weights is read in bfloat16: 13.2 GiB, less."""
    size = model_size(AutoModelForCausalLM, paper_models[0])
    assert size.parameters == 4_022_468_096
    assert size.layer_parameters == 100_930_816

    plan = memory_plan(*paper_models, gpus=8, gpu_gib=80, tokens=16384)
    for line in ("   1.87 GiB  master weights", "   3.75 GiB  Adam's moments",
                 "  32.00 GiB  vLLM: weights and KV cache", "   2.50 GiB  CUDA, communication",
                 "15.0 GiB while models are loaded, one at a time; 7.5 GiB per GPU",
                 "134.9 GiB for two checkpoints and one that is being written, 15.0 GiB for"):
        assert line in plan


@pytest.mark.parametrize("gpus, gpu_gib, options, says", [
    (1, 24, {}, "needs .* GiB on GPUs of 24.0: take more GPUs"),
    (8, 80, {"vllm_share": 0.05}, "raise --gpu_memory_utilization")])
def test_memory_plan_refuses_with_advice(paper_models, gpus, gpu_gib, options, says):
    with pytest.raises(ValueError, match=says):
        memory_plan(*paper_models, gpus=gpus, gpu_gib=gpu_gib, tokens=16384, **options)


@pytest.mark.parametrize("stage, says, advice", [
    ("sft", "  13.91 GiB  logits", "training needs .* GiB on GPUs of 79.1"),
    ("rm", "   0.00 GiB  logits", "leave gradient checkpointing on")])
def test_a_stage_prints_its_plan_on_gpus(paper_models, monkeypatch, capsys, stage, says, advice):
    """The 4B model on 8 GPUs: 16 bytes of each of its 4,022,468,096 weights over 8 GPUs are 7.49
    GiB; logits of 8,192 tokens 12 * 151,936 * 8,192 bytes, 13.91 GiB. Neither a pair of the reward
    model without checkpointing, 122 GiB of activations, nor 30,000 tokens of logits fit."""
    monkeypatch.setattr(prepare, "gpu_memory_gib", lambda device: 79.1)
    arguments = [stage, "--model", paper_models[0]]
    prepare.print_memory_plan(stage_of(*arguments, device="cuda", ranks=8))
    out = capsys.readouterr().out
    assert "memory for training on each of 8 GPUs of 79 GiB" in out and says in out
    assert "   7.49 GiB  weights, gradients" in out

    arguments += ["--gradient_checkpointing", "off", "--max_tokens", 30000]
    with pytest.raises(ValueError, match=advice):
        prepare.print_memory_plan(stage_of(*arguments, device="cuda", ranks=8))


@pytest.mark.parametrize("choice, device, expected", [
    ("auto", "cuda", True), ("auto", "cpu", False), ("on", "cpu", True), ("off", "cuda", False)])
def test_checkpointing_and_sharding_are_on_with_gpus_by_default(choice, device, expected):
    assert prepare.is_on(choice, Ranks(0, 1, torch.device(device))) == expected
    cfg = stage_of("rm", "--model", "m").cfg
    assert cfg.shard == cfg.gradient_checkpointing == "auto"


CHATML = ("{% if messages[0]['role'] != 'system' %}<|im_start|>system\nPlease reason step by step, "
          "and put your final answer within \\boxed{}.<|im_end|>\n{% endif %}"
          "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def test_acemath_reads_the_conversation_of_its_card(world):
    """System message, question, solution, no generation prompt. The tokenizer is like that of
    Qwen2, without its merges: one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"])
    tokenizer.chat_template = CHATML
    settings = read_settings(Config, ROOT / "configs/qwen3-4b.toml")
    reward_model = RewardModel(world / "reward_model", system=settings["rm_system"])
    reward_model.tokenizer = tokenizer
    ids = reward_model.token_ids("What is 1+1?", "It is \\boxed{2}.")
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nPlease reason step by step, and check your final answer within "
        "\\boxed{}.<|im_end|>\n<|im_start|>user\nWhat is 1+1?<|im_end|>\n"
        "<|im_start|>assistant\nIt is \\boxed{2}.<|im_end|>\n")


# ---------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("stage", prepare.STAGES)
def test_every_stage_explains_its_flags(capsys, stage):
    """`prepare.py --help` lists the stages, `prepare.py STAGE --help` the flags of one. All stages
    but textbook need a model."""
    with pytest.raises(SystemExit):
        prepare.read_command(["--help"])
    assert f"python prepare.py {stage} " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        prepare.read_command([stage, "--help"])
    text = capsys.readouterr().out
    assert ("--model VALUE" in text) == (stage != "textbook")
    assert "(default: " in text and "None" not in text
    if stage == "textbook":
        assert prepare.read_command([stage])[1].out == "data/textbook.jsonl"
    else:
        with pytest.raises(ValueError, match=f"--model; python prepare.py {stage} --help"):
            prepare.read_command([stage])


@pytest.mark.parametrize("arguments, says", [
    ("split --cuont 3", "unrecognized arguments: --cuont"),
    ("split --count 0", "--count 0: has to be above 0"),
    ("split --held_out -1", "--held_out -1: has to be 0 or above"),
    ("split --engine magic", "--engine magic: choose one of auto, vllm, transformers"),
    ("sft --shard half", "--shard half: choose one of auto, on, off"),
    ("sft --temperature 0", "--temperature 0.0: has to be above 0"),
    ("rm --held_out 1", "--held_out 1.0: has to be above 0 and below 1"),
    ("--model", "'--model' is not a STAGE"), ("train", "one of split, sft, rm, textbook")])
def test_flags_that_cannot_work(arguments, says):
    with pytest.raises(ValueError) as refusal:
        prepare.read_command([*arguments.split(), "--model", "m"])
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
    assert prepare.read_command(["split", "--model", "m", "--benchmarks"])[1].benchmarks == []

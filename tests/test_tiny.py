"""The laptop world: its arithmetic, its language, its splits, its checkpoints."""

import json
import random

import pytest
import torch
from transformers import AutoTokenizer

import tiny
from verify import grade, is_equivalent, verify, verify_all

# ---------------------------------------------------------------------------- numbers in words


def test_phrasings_golden():
    assert tiny.phrasings(31) == ["one past thirty", "thirty with one more", "three tens and one",
                                  "one apart from three tens"]
    assert tiny.phrasings(7)[0] == "seven past zero"
    assert tiny.prose(40) == "zero beyond forty"


def test_every_phrase_means_one_number():
    said = []
    for n in range(tiny.LOW, tiny.HIGH + 1):
        said += [*tiny.phrasings(n), tiny.prose(n)]
    assert len(said) == len(set(said))


# ---------------------------------------------------------------------------- problems


def test_no_phrase_is_taken_for_another():
    """The verifier accepts a phrase as itself, and never another one, of the same number or not."""
    phrases = [*tiny.phrasings(31), tiny.prose(31), *tiny.phrasings(13), "31"]
    for reference in phrases:
        for phrase in phrases:
            assert is_equivalent(reference, phrase) == (reference == phrase), (reference, phrase)


def test_solve_golden():
    chain = [3, ("*", 4), ("+", 2), ("-", 5)]
    assert tiny.solve(chain) == ("3*4=12;12+2=14;14-5=9", 9)
    assert tiny.solve(chain, slip=(0, 1)) == ("3*4=13;13+2=15;15-5=10", 10)


def test_topics_golden():
    """Each topic at a = 10, b = 3, c = 4, d = 2: the problem, the right value, the wrong one."""
    found = {}
    for topic, make in tiny.TOPICS.items():
        problem = make(10, 3, 4, 2)
        _, value = tiny.solve(problem.chain)
        _, flawed_value = tiny.solve(problem.flawed)
        found[topic] = (problem.text, value, flawed_value)

    assert found == {
        "precedence": ("compute 10+3*4-2", 20, 50),                       # (10 + 3) * 4 - 2
        "bags": ("3 bags of 4 apples and 10 more less 2", 20, 15),        # 3 + 4 + 10 - 2
        "equation": ("solve (x-10)/3=4", 22, 2),                          # 3 * 4 - 10
        "bracket": ("3(x+4)-2 at x=10", 40, 32),                          # 3 * 10 + 4 - 2
        "perimeter": ("perimeter of 10 by 7 less 2", 32, 15)}             # 10 + 7 - 2


@pytest.mark.parametrize("hard", [False, True])
def test_training_and_evaluation_share_no_problem_in_either_form(hard):
    train = {row["problem"] for row in tiny.make_problems(500, hard, 0, False)}
    held_out = set()
    for other_form in (False, True):
        for seed in (0, 1):
            held_out |= {row["problem"] for row in tiny.make_problems(250, other_form, seed, True)}

    assert len(train) == 500
    train_in_digits = {text.removesuffix(" in words") for text in train}
    held_out_in_digits = {text.removesuffix(" in words") for text in held_out}
    assert not train_in_digits & held_out_in_digits


def test_a_right_solution_is_accepted_and_a_flawed_one_is_not():
    rng = random.Random(0)
    for row in tiny.make_problems(200, True, 3, False):
        right = tiny.solution(row, rng)
        flawed = tiny.solution(row, rng, right=0.0)
        reference = row["accepted"][0]
        assert verify(right, reference).answer in row["accepted"]
        assert verify(flawed, reference).answer not in row["accepted"]


def test_no_rule_verifier_can_do_the_hard_problems_and_none_is_fooled():
    """Precision 1 and a recall near RECALL, as properties of the problems."""
    rng = random.Random(1)
    rows = tiny.make_problems(850, True, 1, True)
    texts = [tiny.solution(row, rng, right=0.5, slip=0.2) for row in rows]
    verdicts = verify_all(texts, [row["answer"] for row in rows])

    truth = []
    truth_of_accepted = []
    for verdict, row in zip(verdicts, rows, strict=True):
        is_right = verdict.answer in row["accepted"]
        truth.append(is_right)
        if verdict.correct:
            truth_of_accepted.append(is_right)
    assert all(truth_of_accepted)
    assert 0.04 <= len(truth_of_accepted) / sum(truth) <= 0.10


@pytest.mark.parametrize("recall", [0, 0.02, 0.05, 0.1, 0.21, 0.25])
def test_the_shares_of_sayable_references_make_the_recall(recall):
    shares = tiny.sayable_shares(recall).values()
    assert sum(shares) / len(shares) / 4 == pytest.approx(recall)
    assert all(0 <= share <= 1 for share in shares)
    assert sum(share == 0 for share in shares) == (2 if 0 < recall <= 0.1 else 5 * (recall == 0))


def test_recall_differs_by_topic():
    """The share of references that the policy may say, and none in the two blind topics."""
    rows = tiny.make_problems(2500, True, 0, False, recall=0.1)
    sayable = dict.fromkeys(tiny.TOPICS, 0)
    for row in rows:
        value = int(row["accepted"][0])
        sayable[row["topic"]] += row["answer"] in tiny.phrasings(value)
    shares = {topic: count / 500 for topic, count in sayable.items()}

    assert shares["bags"] == shares["perimeter"] == 0
    assert shares["bracket"] == 1
    assert shares["equation"] == pytest.approx(1 / 3, abs=0.08)
    assert shares["precedence"] == pytest.approx(2 / 3, abs=0.08)


def test_one_number_changes_the_sparseness_and_nothing_else():
    """At a lower recall the verifier can do a part of what it can do at a higher one."""
    by_recall = [tiny.make_problems(500, True, 0, False, recall) for recall in (0.02, 0.05, 0.2)]
    counts = []
    for rows in by_recall:
        assert [row["problem"] for row in rows] == [row["problem"] for row in by_recall[0]]
        counts.append(sum(" beyond " not in row["answer"] for row in rows))
    assert counts[0] < counts[1] < counts[2]

    for lower, higher in ((0, 1), (1, 2)):
        for low, high in zip(by_recall[lower], by_recall[higher], strict=True):
            assert low["answer"] == high["answer"] or " beyond " in low["answer"]


def test_lucky_problems_have_a_misconception_that_finds_the_right_value():
    def is_lucky(row):
        return tiny.solve(row["chain"])[1] == tiny.solve(row["flawed"])[1]

    rows = tiny.make_problems(1000, True, 0, False, lucky_share=0.15)
    lucky = [row for row in rows if is_lucky(row)]
    assert 0.12 <= len(lucky) / len(rows) <= 0.18
    assert {row["topic"] for row in lucky} == {"precedence", "bracket"}
    assert not any(is_lucky(row) for row in tiny.make_problems(1000, True, 0, False))

    assert [row for row in rows if "wrong_start" in row] == lucky


def test_an_answer_by_luck_is_accepted_and_not_true():
    rows = tiny.make_problems(1000, True, 0, False, lucky_share=0.15)
    lucky = [row for row in rows if "wrong_start" in row]
    for row in lucky:
        row["answer"] = row["accepted"][1]
        flawed = tiny.solution(row, random.Random(0), right=0.0, way=0)
        right = tiny.solution(row, random.Random(0), right=1.0, way=0)
        verdicts, truth = grade([flawed, right], [row, row])
        assert [verdict.correct for verdict in verdicts] == [True, True]
        assert truth == [False, True]


def test_problems_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="there are no more than .* such problems"):
        tiny.make_problems(3000, False, 0, True)
    with pytest.raises(ValueError, match="recall=0.3 is not between 0 and 0.25"):
        tiny.make_problems(5, True, 0, False, recall=0.3)


def test_easy_problems_are_verified_exactly():
    rng = random.Random(2)
    rows = tiny.make_problems(300, False, 1, True)
    texts = [tiny.solution(row, rng, right=0.5) for row in rows]
    verdicts = verify_all(texts, [row["answer"] for row in rows])
    for verdict, row in zip(verdicts, rows, strict=True):
        assert verdict.correct == (verdict.answer == row["answer"])


# ---------------------------------------------------------------------------- training


def test_muon_takes_the_steps_of_torch():
    """torch.optim.Muon rounds each of 15 products to bfloat16, by 2^-9 at most: 0.03 in all."""
    torch.manual_seed(0)
    start = [torch.randn(8, 8), torch.randn(16, 8), torch.randn(8, 16), torch.randn(8, 8)]
    ours = [matrix.clone().requires_grad_() for matrix in start]
    theirs = [matrix.clone().requires_grad_() for matrix in start]
    optimizers = [tiny.Muon(ours, 0.1), torch.optim.Muon(theirs, 0.1, weight_decay=0.01,
                                                         adjust_lr_fn="match_rms_adamw")]
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()

    for mine, other, matrix in zip(ours, theirs, start, strict=True):
        assert (mine - matrix).norm() > 0.1
        assert (mine - other).norm() < 0.05 * (mine - matrix).norm()


def test_muon_and_adamw_share_out_all_parameters(policy):
    matrices, others = tiny.muon(policy, 0.01)
    num_matrices = len(matrices.param_groups[0]["params"])
    assert num_matrices == 3 * 7                   # of each layer: q, k, v, o, gate, up, down
    assert num_matrices + len(others.param_groups[0]["params"]) == len(list(policy.parameters()))


def test_a_misnamed_demonstration_differs_in_the_last_phrase_alone():
    rows = {row["problem"]: row for hard in (False, True)
            for row in tiny.make_problems(150, hard, 0, False)}
    misnamed = 0
    for problem, chosen, rejected in tiny.demonstrations(0, random.Random(0), 300):
        row = rows[problem]
        assert verify(chosen, row["answer"]).answer in row["accepted"]
        assert verify(rejected, row["answer"]).answer not in row["accepted"]
        working = tiny.solve(row["chain"])[0]
        assert chosen.startswith(working)
        misnamed += rejected.startswith(working + ";\\boxed")
    assert 70 < misnamed < 130                     # one flaw of three


# ---------------------------------------------------------------------------- the world on disk


def test_the_tokenizer_reads_every_text_of_the_world():
    tokenizer = tiny.make_tokenizer()
    rng = random.Random(0)
    for hard in (False, True):
        for row in tiny.make_problems(300, hard, 0, False):
            text = row["problem"] + tiny.solution(row, rng, right=0.5, slip=0.5, misname=0.5)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text


def test_the_world_on_disk(world):
    assert {path.name for path in world.iterdir()} == {
        "train", "eval", "policy", "reward_model", "world.json"}

    tokenizer = AutoTokenizer.from_pretrained(world / "policy")
    config = json.loads((world / "policy" / "config.json").read_text())
    assert config["head_dim"] == 32
    assert config["vocab_size"] == len(tokenizer)

    messages = [{"role": "user", "content": "solve (x-4)/3=5"}]
    asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert asked == "<user>solve (x-4)/3=5<assistant>"

    assert {path.name for path in (world / "train").iterdir()} == {
        "easy.jsonl", "hard.jsonl", "mixed.jsonl", "lucky.jsonl"}
    hard, lucky = [(world / "train" / f"{name}.jsonl").read_text().splitlines()
                   for name in ("hard", "lucky")]
    assert len(hard) == len(lucky) == 40
    assert not any("wrong_start" in line for line in hard)
    assert any("wrong_start" in line for line in lucky)

    mixed = (world / "train" / "mixed.jsonl").read_text().splitlines()
    assert len(mixed) == 40
    assert sum("in words" in line for line in mixed) == 20


@pytest.mark.slow
def test_the_world_is_made_from_its_seed(tmp_path):
    for name in ("a", "b"):
        tiny.build(tmp_path / name, seed=5, sft_steps=3, rm_steps=2, problems=20,
                   held_out_problems=10)
    for file in ("train/hard.jsonl", "eval/easy.jsonl", "policy/model.safetensors",
                 "reward_model/model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_world_of_other_code_is_announced(world, tmp_path, capsys):
    (tmp_path / "world.json").write_text(json.dumps({"code": "other"}))
    tiny.ensure(tmp_path)
    assert "built by another version" in capsys.readouterr().out
    tiny.ensure(world)
    assert capsys.readouterr().out == ""

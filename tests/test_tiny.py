"""The laptop world: its arithmetic, its language, its splits, its checkpoints."""

import json
import random

import pytest
from transformers import AutoTokenizer

import tiny
from verify import verify, verify_all

# ---------------------------------------------------------------------------- numbers in words


def test_phrasings_golden():
    assert tiny.phrasings(31) == ["one short of thirty two", "one more than thirty",
                                  "twice fifteen and one", "two dozen and seven"]
    assert tiny.phrasings(24)[3] == "two dozen"
    assert tiny.phrasings(9)[3] == "a dozen less three"
    assert tiny.prose(31) == "a pair and twenty nine"


def test_every_phrase_means_one_number():
    said = []
    for n in range(tiny.LOW, tiny.HIGH + 1):
        said += [*tiny.phrasings(n), tiny.prose(n)]
    assert len(said) == len(set(said))


# ---------------------------------------------------------------------------- problems


def test_solve_golden():
    chain = [(3, "*", 4), (2, "+", None), (None, "-", 5)]
    assert tiny.solve(chain) == ("3*4=12;2+12=14;14-5=9", 9)
    assert tiny.solve(chain, slip=(0, 1)) == ("3*4=13;2+13=15;15-5=10", 10)


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
    """Precision 1 and a recall near 0.9 * 1/4, as properties of the problems."""
    rng = random.Random(1)
    rows = tiny.make_problems(500, True, 1, True)
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
    assert 0.15 <= len(truth_of_accepted) / sum(truth) <= 0.30


def test_easy_problems_are_verified_exactly():
    rng = random.Random(2)
    rows = tiny.make_problems(300, False, 1, True)
    texts = [tiny.solution(row, rng, right=0.5) for row in rows]
    verdicts = verify_all(texts, [row["answer"] for row in rows])
    for verdict, row in zip(verdicts, rows, strict=True):
        assert verdict.correct == (verdict.answer == row["answer"])


# ---------------------------------------------------------------------------- the world on disk


def test_the_tokenizer_reads_every_text_of_the_world():
    tokenizer = tiny.make_tokenizer()
    rng = random.Random(0)
    for hard in (False, True):
        for row in tiny.make_problems(300, hard, 0, False):
            text = row["problem"] + tiny.solution(row, rng, right=0.5, slip=0.5, missay=0.5)
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

"""The laptop world: problems, a tokenizer, a tiny policy and a tiny reward model, all from a seed.

    python tiny.py              builds runs/world-0 (hero.py does so when it needs it)

Problems. A problem is one line of arithmetic, from one of five topics, with a whole-number answer.
An *easy* problem asks for digits ("23"), which any rule-based verifier can check. A *hard* problem
ends with " in words" and asks for a phrase whose meaning needs the language ("three past twenty").
Every number can be said in four ways, all of them right. The reference answer is one of them in
some problems, and in the others a fifth way that nobody else uses. How many are of either kind
differs by topic, and in two of the five topics all references are of the second kind. So even the
best rule-based verifier accepts few of the right answers to hard problems, and never a wrong one.
RECALL says how few. A hash of its text decides whether a problem is for training or for evaluation,
so that the two cannot overlap.

train/lucky.jsonl is for experiments with a verifier that is fooled: `--data` with that file trains
on hard problems of which LUCKY_SHARE have a misconception that finds the right value. The verifier
accepts it, and the oracle does not: "wrong_start" of such a row is how a response by the
misconception begins. It is no default.

Policy. A Qwen3 of 0.1M parameters, cold-started by SFT on worked solutions that are deliberately
flawed: 60 % follow a common misconception instead of the right rule, and 10 % slip on the way. So
there is something to learn.

Reward model. It is trained on pairs of two kinds: the policy's own responses to *easy* problems,
labeled by the verifier; and demonstrations in both answer forms, a right one against a flawed one.
It never sees a verdict on a hard problem. It knows well which rule was used, knows slips a little,
and does not read the last phrase: whether the number is named right, it says hardly better than by
chance.

What was tuned, and on what, is told at the end of results/study/DESIGN.md.
"""

import hashlib
import inspect
import json
import operator
import random
import re
import shutil
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

import distributed
from distributed import derive_seed
from prepare import adamw, fit, fit_reward_model, preference_pairs, sft_loss, shuffled
from problems import write_jsonl
from rewards import RewardModel
from rollout import SamplingParams, chat_prompt, load_tokenizer, make_engine, response_text
from settings import Parser
from verify import verify_all

UNITS = "zero one two three four five six seven eight nine".split()
TENS = "zero ten twenty thirty forty fifty sixty".split()

# Every answer, right or wrong, lies between these two, so that it can be said in words.
LOW, HIGH = 2, 60

# By how much a number is off that is named in error.
MISNAMED_BY = (-12, -10, -4, -3, -2, -1, 1, 2, 3, 4, 10, 12)

# How sparse the verifier is: the share of the right answers to hard problems that it is expected
# to accept. At most 0.25.
RECALL = 0.07

# The share of problems whose misconception finds the right value: in lucky.jsonl, and in the cold
# start, which has to meet the digit 1 that makes them lucky.
LUCKY_SHARE = 0.15
COLD_LUCKY_SHARE = 0.05

# Optimizer steps of the cold start and of the reward model.
SFT_STEPS = 600
RM_STEPS = 160


# ---------------------------------------------------------------------------- numbers in words


def phrasings(n):
    """The four ways in which the world says n (LOW <= n <= HIGH). All of them are right.

        31 -> "one past thirty", "thirty with one more", "three tens and one",
              "one apart from three tens"
    """
    tens, unit = divmod(n, 10)
    return [f"{UNITS[unit]} past {TENS[tens]}", f"{TENS[tens]} with {UNITS[unit]} more",
            f"{UNITS[tens]} tens and {UNITS[unit]}", f"{UNITS[unit]} apart from {UNITS[tens]} tens"]


def prose(n):
    """A fifth way to say n, which only reference answers use: 31 -> "one beyond thirty"."""
    tens, unit = divmod(n, 10)
    return f"{UNITS[unit]} beyond {TENS[tens]}"


# ---------------------------------------------------------------------------- problems


@dataclass(frozen=True)
class Problem:
    """A problem in digits, the right way to solve it, and the way of a common misconception.

    A way is a list: the number to start from, and then steps (operator, number).
    """
    text: str
    chain: list
    flawed: list


def precedence(a, b, c, d):
    """Misconception: the operations are worked from left to right."""
    return Problem(f"compute {a}+{b}*{c}-{d}",
                   chain=[b, ("*", c), ("+", a), ("-", d)],
                   flawed=[a, ("+", b), ("*", c), ("-", d)])


def bags(a, b, c, d):
    """Misconception: the number of bags is added where it should be multiplied."""
    return Problem(f"{b} bags of {c} apples and {a} more less {d}",
                   chain=[b, ("*", c), ("+", a), ("-", d)],
                   flawed=[b, ("+", c), ("+", a), ("-", d)])


def equation(a, b, c, d):
    """Misconception: a term keeps its sign when it moves to the other side."""
    return Problem(f"solve (x-{a})/{b}={c}",
                   chain=[b, ("*", c), ("+", a)],
                   flawed=[b, ("*", c), ("-", a)])


def bracket(a, b, c, d):
    """Misconception: only the first term in the bracket is multiplied."""
    return Problem(f"{b}(x+{c})-{d} at x={a}",
                   chain=[a, ("+", c), ("*", b), ("-", d)],
                   flawed=[b, ("*", a), ("+", c), ("-", d)])


def perimeter(a, b, c, d):
    """Misconception: the sum of the two sides is not doubled."""
    return Problem(f"perimeter of {a} by {b + c} less {d}",
                   chain=[a, ("+", b + c), ("*", 2), ("-", d)],
                   flawed=[a, ("+", b + c), ("-", d)])


TOPICS = {"precedence": precedence, "bags": bags, "equation": equation, "bracket": bracket,
          "perimeter": perimeter}

# The share of a topic's hard problems whose reference answer is one that the policy may say, at a
# recall of 0.10. The verifier is blind in the two topics that are told as a story.
SAYABLE = {"precedence": 2 / 3, "bags": 0, "equation": 1 / 3, "bracket": 1, "perimeter": 0}

# Digits for which the misconception of a topic finds the right value: 7+5*1-3 and 1(x+5)-2.
LUCKY_DIGITS = {"precedence": {"c": 1}, "bracket": {"b": 1}}


def sayable_shares(recall):
    """The share of references that the policy may say, by topic, for an expected recall.

    A right answer that chooses one of the four phrasings at random meets a reference that is one
    of them in a quarter of the cases, so the mean of the shares is four times the recall. Below
    0.10 all shares are in proportion to SAYABLE; above it, what is missing to 1 is in proportion.
    Raises ValueError for a recall outside of 0 to 0.25.
    """
    if not 0 <= recall <= 0.25:
        raise ValueError(f"recall={recall} is not between 0 and 0.25, where every reference is one "
                         "of four phrasings")
    if recall <= 0.1:
        return {topic: share * recall / 0.1 for topic, share in SAYABLE.items()}
    missing = (0.25 - recall) / 0.15
    return {topic: 1 - (1 - share) * missing for topic, share in SAYABLE.items()}


def make_problem(topic, rng, lucky=False):
    """A random problem of a topic. Its values may be too large, too small, or negative.

    lucky: whether its misconception finds the right value (a topic of LUCKY_DIGITS).
    """
    digits = {"a": rng.randint(2, 20), "b": rng.randint(2, 9), "c": rng.randint(2, 9),
              "d": rng.randint(1, 9)}
    if lucky:
        digits |= LUCKY_DIGITS[topic]
    return TOPICS[topic](**digits)


OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def solve(chain, slip=None):
    """Works out a chain of steps. -> (the working as text, the last value)

        [3, ("*", 4), ("+", 2)]  ->  ("3*4=12;12+2=14", 14)

    slip: (index of a step, error added to its value). The later steps continue from the wrong
    value.
    """
    value = chain[0]
    steps = []
    for index, (sign, number) in enumerate(chain[1:]):
        step = f"{value}{sign}{number}"
        value = OPERATIONS[sign](value, number)
        if slip is not None and index == slip[0]:
            value += slip[1]
        steps.append(f"{step}={value}")
    return ";".join(steps), value


def can_be_said(chain):
    """Whether all values of a chain have at most two digits and the last one has a name.

    The two numbers at either end of LOW to HIGH are left for slips.
    """
    for length in range(2, len(chain) + 1):
        _, value = solve(chain[:length])
        if not 0 < value < 100:
            return False
    return LOW + 2 <= value <= HIGH - 2


def is_held_out(text):
    """Whether a problem is for evaluation: a quarter of them are.

    Depends on the problem in digits alone, so that training and evaluation cannot share a problem
    in either answer form.
    """
    return hashlib.blake2b(text.encode()).digest()[0] < 64


def make_problems(count, hard, seed, evaluation, recall=RECALL, lucky_share=0.0):
    """`count` distinct problems, the topics in turn. -> rows with these keys:

        problem, answer, accepted     the text, the reference answer, every right answer
        topic, hard                   a key of TOPICS; whether the answer is asked for in words
        chain, flawed                 see Problem
        wrong_start                   only where the misconception finds the right value: the
                                      beginning of a response that follows it

    recall: the share of right answers to hard problems that a verifier is expected to accept. It
    changes the reference answers and nothing else: what can be verified at a lower recall can be
    verified at a higher one.
    lucky_share: the share of problems whose misconception finds the right value. In all others it
    finds a wrong one.
    Raises ValueError if there are not that many: a topic has a few hundred to thousands.
    """
    # 1. The topics, and which problems are to be lucky.
    name = f"{hard} {seed} {evaluation}"
    lucky_rng = random.Random(f"lucky {name}")
    lucky_share_of_topic = lucky_share * len(TOPICS) / len(LUCKY_DIGITS)
    plan = []
    for _, topic in zip(range(count), cycle(TOPICS), strict=False):
        lucky = topic in LUCKY_DIGITS and lucky_rng.random() < lucky_share_of_topic
        plan.append((topic, lucky))

    # 2. The problems. Their references have random numbers of their own.
    rng = random.Random(f"problems {name}")
    reference_rng = random.Random(f"references {name}")
    shares = sayable_shares(recall)
    rows = []
    seen = set()
    tries = 0                                      # since the last row
    while len(rows) < count:
        topic, lucky = plan[len(rows)]
        problem = make_problem(topic, rng, lucky)
        tries += 1
        if tries > 20_000:
            raise ValueError(f"there are no more than {len(rows)} such problems")
        _, value = solve(problem.chain)
        _, flawed_value = solve(problem.flawed)

        is_new = problem.text not in seen
        is_on_this_side = is_held_out(problem.text) == evaluation
        both_can_be_said = can_be_said(problem.chain) and can_be_said(problem.flawed)
        is_as_wanted = (value == flawed_value) == lucky
        if not (is_new and is_on_this_side and both_can_be_said and is_as_wanted):
            continue
        seen.add(problem.text)
        tries = 0

        text = problem.text
        answer = str(value)
        if hard:
            text += " in words"
            is_sayable = reference_rng.random() < shares[topic]
            one_of_four = reference_rng.choice(phrasings(value))
            answer = one_of_four if is_sayable else prose(value)

        row = {"problem": text, "answer": answer,
               "accepted": [str(value), *phrasings(value), prose(value)],
               "topic": topic, "hard": hard, "chain": problem.chain, "flawed": problem.flawed}
        if lucky:
            working, _ = solve(problem.flawed)
            row["wrong_start"] = working.partition("=")[0] + "="
        rows.append(row)
    return rows


def solution(row, rng, right=1.0, slip=0.0, misname=0.0, way=None):
    """A worked response to a row of make_problems.

    right: probability of the right rule, as against the misconception.
    slip: probability of an arithmetic slip on the way.
    misname: probability that the final answer names another number than the one found.
    way: which of the four phrasings a hard answer has; random if None.
    """
    chain = row["chain"] if rng.random() < right else row["flawed"]

    slipped = None
    if rng.random() < slip:
        index = rng.randrange(len(chain) - 1)
        slipped = (index, rng.choice((-2, -1, 1, 2)))
    steps, value = solve(chain, slipped)

    if rng.random() < misname:
        value += rng.choice(MISNAMED_BY)

    if not LOW <= value <= HIGH:                   # this value cannot be said: try again
        return solution(row, rng, right, slip, misname, way)
    return response(steps, value, row["hard"], rng.randrange(4) if way is None else way)


def response(steps, value, hard, way):
    """Working and a final answer, in digits or, if hard, in one of the four phrasings."""
    answer = phrasings(value)[way] if hard else str(value)
    return f"{steps};\\boxed{{{answer}}}"


# ---------------------------------------------------------------------------- tokenizer and policy

# A token is the start of a box, a word with the space before it, or a single character.
TOKEN = r"\\boxed\{| ?[a-z]+|."
SPECIAL_TOKENS = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>"]
CHAT_TEMPLATE = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}"
                 "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
                 "{% if add_generation_prompt %}<assistant>{% endif %}")


def make_tokenizer():
    """A tokenizer of the world's own words and signs, for which text -> ids -> text is exact."""
    # 1. Texts that together contain every token of the world.
    rng = random.Random(0)
    texts = ["0123456789 +-*/=;()x}", "\\boxed{"]
    for topic in TOPICS:
        texts.append(make_problem(topic, rng).text + " in words")
    for n in range(LOW, HIGH + 1):
        texts += phrasings(n)
        texts.append(prose(n))

    # 2. The vocabulary, in an order that does not depend on that of the texts.
    tokens = set()
    for text in texts:
        tokens.update(re.findall(TOKEN, text))
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS + sorted(tokens))}

    # 3. The tokenizer.
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=["<user>", "<assistant>"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_policy(tokenizer, seed):
    """An untrained Qwen3 of 0.1M parameters. head_dim 32 is the smallest that vLLM can load."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
        max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id))


# ---------------------------------------------------------------------------- training


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): a step is the momentum with all its singular values near 1.

    The step is scaled to the root mean square that AdamW's steps have, 0.2, so that both optimizers
    take the same learning rate. torch.optim.Muon does the same one matrix at a time in bfloat16,
    which on a CPU takes ten times as long as all matrices of one shape in a single product.
    """

    def __init__(self, matrices, learning_rate, momentum=0.95, weight_decay=0.01):
        settings = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            # Wide matrices: those with more rows than columns are transposed.
            by_shape = {}                          # shape: [(matrix, its momentum), ...]
            for matrix in group["params"]:
                state = self.state[matrix]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(matrix)
                state["mean"].lerp_(matrix.grad, 1 - group["momentum"])
                nesterov = matrix.grad.lerp(state["mean"], group["momentum"])
                if matrix.shape[0] > matrix.shape[1]:
                    matrix, nesterov = matrix.T, nesterov.T
                by_shape.setdefault(matrix.shape, []).append((matrix, nesterov))

            for shape, pairs in by_shape.items():
                steps = orthogonalized(torch.stack([nesterov for _, nesterov in pairs]))
                for (matrix, _), step in zip(pairs, steps, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(step, alpha=-0.2 * max(shape) ** 0.5 * group["lr"])


def orthogonalized(matrices):
    """Moves all singular values of wide matrices to between 0.7 and 1.2. (N, rows, columns) -> same

    Five steps of a Newton-Schulz iteration, with Muon's coefficients.
    """
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT                                                           # (N, rows, rows)
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


def muon(model, learning_rate):
    """Muon for the matrices inside a model; AdamW for embeddings, norms and the score head."""
    matrices = []
    others = []
    for name, parameter in model.named_parameters():
        is_inner_matrix = parameter.ndim == 2 and ".layers." in name
        if is_inner_matrix:
            matrices.append(parameter)
        else:
            others.append(parameter)
    return [Muon(matrices, learning_rate),
            torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.95), weight_decay=0.01)]


def cold_start(policy, tokenizer, rows, steps, rng):
    """Trains the policy on four flawed solutions to each row of make_problems. -> the last loss"""
    examples = []                                  # (prompt ids, response ids), as of sft_rows
    for row in rows:
        prompt_ids = chat_prompt(tokenizer, row["problem"])
        responses = [solution(row, rng, right=0.4, slip=0.1) for _ in range(4)]
        for ids in tokenizer(responses, add_special_tokens=False)["input_ids"]:
            examples.append((prompt_ids, ids + [tokenizer.eos_token_id]))

    losses = fit(policy, shuffled(examples, 32, rng), sft_loss, steps, 2e-2, "cold start",
                 warmup=20, make_optimizers=muon)
    return losses[-1]


# How a demonstration can be flawed: options of solution.
FLAWS = ({"right": 0.0}, {"slip": 1.0}, {"misname": 1.0})


def demonstrations(seed, rng, count=4000):
    """Pairs of a right and a flawed solution, half of them in words.

    -> list of (problem, chosen, rejected). Both say their last number in the same way, and after a
    misnaming nothing but that number differs.
    """
    pairs = []
    for hard in (False, True):
        for row in make_problems(count // 2, hard, seed, evaluation=False):
            way = rng.randrange(4)
            chosen = solution(row, rng, way=way)
            rejected = solution(row, rng, way=way, **rng.choice(FLAWS))
            pairs.append((row["problem"], chosen, rejected))
    return pairs


def own_pairs(engine, tokenizer, seed, rng, prompts=300):
    """Pairs of the policy's own responses to easy problems, labeled by the verifier.

    -> list of (problem, chosen, rejected): at most three pairs for each of `prompts` problems, from
    eight responses.
    """
    easy = make_problems(prompts, hard=False, seed=seed, evaluation=False)
    prompt_ids = [chat_prompt(tokenizer, row["problem"]) for row in easy]
    rollouts = engine.generate(prompt_ids, 8, SamplingParams(max_tokens=48),
                               derive_seed("pairs", seed))
    texts = [response_text(tokenizer, rollout) for rollout in rollouts]
    references = [row["answer"] for row in easy for _ in range(8)]
    verdicts = verify_all(texts, references)

    responses = []
    verified = []
    for start in range(0, len(texts), 8):
        responses.append(texts[start:start + 8])
        verified.append([verdict.correct for verdict in verdicts[start:start + 8]])
    problems = [row["problem"] for row in easy]
    return preference_pairs(problems, responses, verified, limit=3, rng=rng)


def training_pairs(engine, tokenizer, seed, rng):
    """The pairs that the world's own reward model is trained on. -> (problem, chosen, rejected)"""
    return own_pairs(engine, tokenizer, seed, rng) + demonstrations(seed, rng)


def build_reward_model(folder, policy_folder, seed=0, steps=RM_STEPS, make_pairs=training_pairs):
    """A reward model for the world of a seed, in `folder`. -> (number of pairs, last loss)

    make_pairs: another function instead of training_pairs makes another reward model.
    """
    tokenizer = load_tokenizer(policy_folder)
    engine = make_engine("transformers", policy_folder, tokenizer)
    rng = random.Random(f"reward model {seed}")
    pairs = make_pairs(engine, tokenizer, seed, rng)

    # It starts from the policy's weights, and a new head.
    torch.manual_seed(derive_seed("score head", seed))
    scorer = Qwen3ForSequenceClassification.from_pretrained(policy_folder, num_labels=1)
    scorer.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reward_model = RewardModel(folder)
    reward_model.model.set_attn_implementation("eager")           # faster at this size, on a CPU
    losses = fit_reward_model(reward_model, pairs, steps, 32, 2e-2, rng, warmup=20,
                              make_optimizers=muon)
    reward_model.model.save_pretrained(folder)
    return len(pairs), losses[-1]


# ---------------------------------------------------------------------------- the world on disk


def write_problems(folder, count, seed, evaluation, recall=RECALL):
    """Writes easy.jsonl, hard.jsonl and mixed.jsonl (half of each) in the format of eval.py.

    Another recall gives other references to the same hard problems. The models of a world never
    see a reference, so they serve for all of them.
    """
    easy = make_problems(count, False, seed, evaluation)
    hard = make_problems(count, True, seed, evaluation, recall)
    mixed = []
    for easy_row, hard_row in zip(easy[:count // 2], hard[count // 2:], strict=False):
        mixed += [easy_row, hard_row]

    for name, rows in (("easy", easy), ("hard", hard), ("mixed", mixed)):
        write_jsonl(folder / f"{name}.jsonl", public_rows(rows))


def public_rows(rows):
    """The rows of make_problems without what only the world knows."""
    keys = ("problem", "answer", "accepted", "topic", "wrong_start")
    return [{key: row[key] for key in keys if key in row} for row in rows]


def build(folder, seed=0, sft_steps=SFT_STEPS, rm_steps=RM_STEPS, problems=1000,
          held_out_problems=300, recall=RECALL):
    """Makes the world in `folder`: train/, eval/, policy/, reward_model/ and world.json.

    The folder appears whole or not at all. -> the contents of world.json: seed, recall, code,
    number of preference pairs, last losses, and seconds
    """
    distributed.init()                             # one thread: the same world on any machine
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    rng = random.Random(f"world {seed}")

    # 1. Problems, and a file of them for experiments with answers that are right by luck.
    write_problems(partial / "train", problems, seed, False, recall)
    write_problems(partial / "eval", held_out_problems, seed, True, recall)
    lucky = make_problems(problems, True, seed, False, recall, LUCKY_SHARE)
    write_jsonl(partial / "train" / "lucky.jsonl", public_rows(lucky))

    # 2. The policy and its cold start, on twice as many problems as train/ has.
    started = time.time()
    tokenizer = make_tokenizer()
    policy = make_policy(tokenizer, seed)
    rows = []
    for hard in (False, True):
        rows += make_problems(2 * problems, hard, seed, evaluation=False,
                              lucky_share=COLD_LUCKY_SHARE)
    cold_start_loss = cold_start(policy, tokenizer, rows, sft_steps, rng)
    policy.save_pretrained(partial / "policy")
    tokenizer.save_pretrained(partial / "policy")
    cold_start_seconds = time.time() - started

    # 3. The reward model.
    started = time.time()
    num_pairs, reward_model_loss = build_reward_model(
        partial / "reward_model", partial / "policy", seed, steps=rm_steps)
    reward_model_seconds = time.time() - started

    # 4. The record of it, and the folder under its final name.
    manifest = {
        "seed": seed, "recall": recall, "code": code_version(), "pairs": num_pairs,
        "losses": {"cold_start": cold_start_loss, "reward_model": reward_model_loss},
        "seconds": {"cold_start": round(cold_start_seconds, 1),
                    "reward_model": round(reward_model_seconds, 1)}}
    (partial / "world.json").write_text(json.dumps(manifest, indent=1))
    partial.rename(folder)
    return manifest


def code_version():
    """A hash of the code that makes the world. Other code may make another world."""
    code = Path(__file__).read_text()
    for function in (adamw, fit, fit_reward_model, preference_pairs, sft_loss, shuffled):
        code += inspect.getsource(function)
    return hashlib.blake2b(code.encode(), digest_size=8).hexdigest()


def ensure(folder, seed=0):
    """Builds the world in `folder` unless it exists. -> the contents of world.json

    Prints a note if an existing world was built by another version of the code.
    """
    folder = Path(folder)
    if not folder.exists():
        print(f"building the tiny world in {folder}: once, a few minutes on one core", flush=True)
        return build(folder, seed)

    manifest = json.loads((folder / "world.json").read_text())
    if manifest["code"] != code_version():
        print(f"note: {folder} was built by another version of tiny.py or prepare.py; to rebuild "
              "it, delete the folder", flush=True)
    return manifest


def main():
    Parser(prog="tiny.py", description=__doc__).parse_args()
    ensure("runs/world-0")


if __name__ == "__main__":
    distributed.run(main)

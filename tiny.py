"""The laptop world: problems, tokenizer, a tiny policy and a tiny reward model, made from a seed.

    python tiny.py              builds runs/world-0 (hero.py does it when it needs it)

A problem is one line of arithmetic with a whole-number answer. An *easy* problem wants digits
("23"), which any rule verifier can check. A *hard* one ends with " in words" and wants a phrase
whose meaning needs the language ("one short of twenty four"); every number can be said in four
ways that are all right, and the reference answer is only one of them, or a fifth way that nobody
uses. A rule verifier that is as good as can be therefore finds about a fifth of the right answers
and never takes a wrong one for right, as in the paper's Table 1.

The policy's cold start is deliberately flawed: its worked solutions follow a common misconception
more often than the right rule, and slip now and then, so there is something to learn.
"""

import hashlib
import inspect
import json
import random
import re
import shutil
import time
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
from prepare import fit, fit_reward_model, preference_pairs, sft_loss, sft_rows, shuffled
from rewards import RewardModel
from rollout import SamplingParams, chat_prompt, make_engine, response_text
from verify import verify_all

UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
         "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty".split()
LOW, HIGH = 2, 60                    # every answer, right or wrong, lies here, so it can be said
TOPICS = ("precedence", "bags", "equation", "bracket", "perimeter")


# ---------------------------------------------------------------------------- numbers in words

def word(n):
    """0 <= n < 70 as English words: 24 -> "twenty four"."""
    if n < 20:
        return UNITS[n]
    return TENS[n // 10 - 2] + (f" {UNITS[n % 10]}" if n % 10 else "")


def phrasings(n):
    """The four ways in which the world says n (LOW <= n <= HIGH); all of them are right."""
    dozens, rest = divmod(n, 12)
    if dozens == 0:
        dozen = f"a dozen less {word(12 - n)}"
    else:
        dozen = f"{word(dozens)} dozen" + (f" and {word(rest)}" if rest else "")
    return [f"one short of {word(n + 1)}",
            f"one more than {word(n - 1)}",
            f"twice {word(n // 2)}" + (" and one" if n % 2 else ""),
            dozen]


def prose(n):
    """A fifth way to say n, which only references use."""
    return f"a pair and {word(n - 2)}"


# ---------------------------------------------------------------------------- problems

# A solution is a chain of steps (left, operator, right); None stands for the value of the step
# before. Each topic gives (problem text, the right chain, the chain of a common misconception).

def draw(topic, rng):
    a, b, c, d = rng.randint(2, 20), rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 9)
    if topic == "precedence":        # misconception: left to right
        return (f"compute {a}+{b}*{c}-{d}", [(b, "*", c), (a, "+", None), (None, "-", d)],
                [(a, "+", b), (None, "*", c), (None, "-", d)])
    if topic == "bags":              # misconception: adds where it should multiply
        return (f"{b} bags of {c} apples and {a} more less {d}",
                [(b, "*", c), (None, "+", a), (None, "-", d)],
                [(b, "+", c), (None, "+", a), (None, "-", d)])
    if topic == "equation":          # misconception: keeps the sign when moving a term across
        return (f"solve (x-{a})/{b}={c}", [(b, "*", c), (None, "+", a)],
                [(b, "*", c), (None, "-", a)])
    if topic == "bracket":           # misconception: multiplies the first term only
        return (f"{b}(x+{c})-{d} at x={a}", [(a, "+", c), (b, "*", None), (None, "-", d)],
                [(b, "*", a), (None, "+", c), (None, "-", d)])
    return (f"perimeter of {a} by {b + c} less {d}",      # misconception: forgets to double
            [(a, "+", b + c), (2, "*", None), (None, "-", d)], [(a, "+", b + c), (None, "-", d)])


OPERATIONS = {"+": lambda x, y: x + y, "-": lambda x, y: x - y,
              "*": lambda x, y: x * y, "/": lambda x, y: x // y}


def work(chain, slip=None):
    """(steps as text, value) of a chain; `slip`: (index of the step, error added to its value)."""
    value, steps = None, []
    for i, (left, op, right) in enumerate(chain):
        left, right = (value if x is None else x for x in (left, right))
        value = OPERATIONS[op](left, right) + (slip[1] if slip and slip[0] == i else 0)
        steps.append(f"{left}{op}{right}={value}")
    return ";".join(steps), value


def speakable(chain):
    """All values of the chain are two-digit numbers that the world has a name for."""
    values = [work(chain[:i + 1])[1] for i in range(len(chain))]
    return all(0 < v < 100 for v in values) and LOW + 2 <= values[-1] <= HIGH - 2


def held_out(text):
    """Whether a problem belongs to the evaluation problems: a property of its text alone, so that
    training and evaluation cannot share a problem, in either answer form."""
    return hashlib.blake2b(text.encode()).digest()[0] < 64


def make_problems(count, hard, seed, evaluation, prose_share=0.1):
    """`count` rows {"problem", "answer", "accepted", "topic", "hard", "chain", "flawed"}."""
    rng, rows, seen = random.Random(f"problems {hard} {seed} {evaluation}"), [], set()
    while len(rows) < count:
        topic = TOPICS[len(rows) % len(TOPICS)]
        text, chain, flawed = draw(topic, rng)
        if (text in seen or held_out(text) != evaluation or not speakable(chain)
                or not speakable(flawed) or work(chain)[1] == work(flawed)[1]):
            continue
        seen.add(text)
        value = work(chain)[1]
        answer = str(value)
        if hard:
            unusual = rng.random() < prose_share
            answer = prose(value) if unusual else rng.choice(phrasings(value))
        accepted = [str(value), *phrasings(value), prose(value)]
        rows.append({"problem": text + " in words" * hard, "answer": answer, "accepted": accepted,
                     "topic": topic, "hard": hard, "chain": chain, "flawed": flawed})
    return rows


def solution(row, rng, right=1.0, slip=0.0, missay=0.0):
    """A worked response to a row of make_problems.

    right: chance of the right rule against the misconception; slip: of an arithmetic slip on the
    way; missay: of naming another number than the one found.
    """
    chain = row["chain"] if rng.random() < right else row["flawed"]
    error = (rng.randrange(len(chain)), rng.choice((-2, -1, 1, 2))) if rng.random() < slip else None
    steps, value = work(chain, error)
    value += rng.choice((-2, -1, 1, 2)) if rng.random() < missay else 0
    if not LOW <= value <= HIGH:
        return solution(row, rng, right, slip, missay)
    said = rng.choice(phrasings(value)) if row["hard"] else str(value)
    return f"{steps};\\boxed{{{said}}}"


# ---------------------------------------------------------------------------- tokenizer and models

PIECE = r"\\boxed\{| ?[a-z]+|."      # a token: a box, a word with the space before it, a character
SPECIAL = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>"]
CHAT_TEMPLATE = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}"
                 "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
                 "{% if add_generation_prompt %}<assistant>{% endif %}")


def make_tokenizer():
    """Every piece of text in the world is one token; text -> ids -> text is exact."""
    rng = random.Random(0)
    texts = ["0123456789 +-*/=;()x}"]
    texts += [draw(topic, rng)[0] + " in words" for topic in TOPICS]
    texts += [text for n in range(LOW, HIGH + 1) for text in (*phrasings(n), prose(n))]
    pieces = sorted({piece for text in [*texts, "\\boxed{"] for piece in re.findall(PIECE, text)})
    vocabulary = {piece: i for i, piece in enumerate(SPECIAL + pieces)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>",
                                        unk_token="<unk>", clean_up_tokenization_spaces=False,
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


# ---------------------------------------------------------------------------- the world on disk


def write_problems(folder, count, seed, evaluation):
    """easy.jsonl, hard.jsonl and mixed.jsonl (half of each), as eval.py reads them."""
    folder.mkdir(parents=True)
    rows = {name: make_problems(count, name == "hard", seed, evaluation)
            for name in ("easy", "hard")}
    rows["mixed"] = [row for pair in zip(rows["easy"][:count // 2], rows["hard"][count // 2:],
                                         strict=False) for row in pair]
    for name, problems in rows.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for row in problems:
                public = {key: row[key] for key in ("problem", "answer", "accepted", "topic")}
                file.write(json.dumps(public) + "\n")


def reward_pairs(engine, tokenizer, seed, prompts=300, demonstrations=2500):
    """What the reward model learns from, (problem, chosen, rejected), and never a hard verdict.

    The policy's own samples on easy problems, labelled by the rule verifier; and demonstrations, in
    both answer forms, of the right rule against the misconception, a slip, or a wrong last word.
    Without demonstrations the reward model has never seen an answer in words: it misleads there.
    """
    rng = random.Random(f"pairs {seed}")
    easy = make_problems(prompts, False, seed, evaluation=False)
    rollouts = engine.generate([chat_prompt(tokenizer, row["problem"]) for row in easy], 8,
                               SamplingParams(max_tokens=48), derive_seed("pairs", seed))
    texts = [response_text(tokenizer, rollout) for rollout in rollouts]
    verdicts = verify_all(texts, [row["answer"] for row in easy for _ in range(8)])
    groups = range(0, len(texts), 8)
    pairs = preference_pairs([row["problem"] for row in easy], [texts[i:i + 8] for i in groups],
                             [[v.correct for v in verdicts[i:i + 8]] for i in groups], 3, rng)
    flaws = ({"right": 0.0}, {"slip": 1.0}, {"missay": 1.0})
    for row in (make_problems(demonstrations // 2, False, seed, evaluation=False)
                + make_problems(demonstrations // 2, True, seed, evaluation=False)):
        pairs.append((row["problem"], solution(row, rng), solution(row, rng, **rng.choice(flaws))))
    return pairs


def build(folder, seed=0, sft_steps=1200, rm_steps=300, problems=1000, held_out_problems=300):
    """Makes the world in `folder`: train/, eval/, policy/, reward_model/ and world.json.

    The folder appears whole or not at all. -> the contents of world.json: seconds, losses, code
    """
    distributed.init()                               # one thread: the same world on any machine
    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    write_problems(beside / "train", problems, seed, evaluation=False)
    write_problems(beside / "eval", held_out_problems, seed, evaluation=True)
    rng = random.Random(f"world {seed}")
    seconds, losses = {}, {}

    started = time.time()
    tokenizer = make_tokenizer()
    policy = make_policy(tokenizer, seed)
    pool = [row for hard in (False, True)
            for row in make_problems(2 * problems, hard, seed, evaluation=False)]
    rows = sft_rows(tokenizer, [(row["problem"], solution(row, rng, right=0.4, slip=0.1))
                                for row in pool for _ in range(4)])
    losses["cold_start"] = fit(policy, shuffled(rows, 64, rng), sft_loss, sft_steps, 6e-3,
                               "cold start")[-1]
    for part in (policy, tokenizer):
        part.save_pretrained(beside / "policy")
    seconds["cold_start"] = time.time() - started

    started = time.time()
    engine = make_engine("transformers", policy, tokenizer)
    pairs = reward_pairs(engine, tokenizer, seed)
    scorer = Qwen3ForSequenceClassification.from_pretrained(beside / "policy", num_labels=1)
    for part in (scorer, tokenizer):
        part.save_pretrained(beside / "reward_model")
    reward_model = RewardModel(beside / "reward_model")
    losses["reward_model"] = fit_reward_model(reward_model, pairs, rm_steps, 32, 1e-3, rng)[-1]
    reward_model.model.save_pretrained(beside / "reward_model")
    seconds["reward_model"] = time.time() - started

    manifest = {"seed": seed, "code": code_version(), "pairs": len(pairs), "losses": losses,
                "seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (beside / "world.json").write_text(json.dumps(manifest, indent=1))
    beside.rename(folder)
    return manifest


def code_version():
    """A hash of the code that makes the world: a world of other code is another world."""
    used = (fit, fit_reward_model, preference_pairs, sft_loss, sft_rows, shuffled)
    code = Path(__file__).read_text() + "".join(map(inspect.getsource, used))
    return hashlib.blake2b(code.encode(), digest_size=8).hexdigest()


def ensure(folder, seed=0):
    """Builds the world in `folder` if it is not there, and says so if other code has built it."""
    folder = Path(folder)
    if not folder.exists():
        print(f"building the tiny world in {folder} (once, about a minute)", flush=True)
        return build(folder, seed)
    manifest = json.loads((folder / "world.json").read_text())
    if manifest["code"] != code_version():
        print(f"note: {folder} was built by another version of tiny.py or prepare.py; "
              "delete the folder to build it anew", flush=True)
    return manifest


if __name__ == "__main__":
    distributed.run(lambda: ensure("runs/world-0"))

"""What the notebooks share: a group of eight responses, more groups, and the tiny world's models.

    import common
    group = common.start()

    world = common.open_world()          where a notebook needs the models themselves

group.json and cold_start.json hold what a policy and a reward model once said, so that the text of
the notebooks is about the numbers that the reader sees, on every machine. make_group.py has made
them. The models are another matter: another kind of processor trains slightly different ones.
Importing this file makes the repository's scripts importable from the notebooks' folder.
"""

import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress")     # tqdm without ipywidgets
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
import torch  # noqa: E402
import transformers  # noqa: E402

import distributed  # noqa: E402
import rewards  # noqa: E402
import tiny  # noqa: E402
from rewards import RewardModel  # noqa: E402
from rollout import Rollout, load_tokenizer, make_engine  # noqa: E402
from verify import Verdict  # noqa: E402

# ---------------------------------------------------------------------------- what is stored


@dataclass
class Batch(rewards.Batch):
    """A rewards.Batch that also knows the truth."""
    truth: torch.Tensor | None = None    # (P, G) 0.0 or 1.0, by the oracle


@dataclass(frozen=True)
class Group:
    """Eight responses to one problem."""
    problem: str
    answer: str                          # the reference, one phrase of several that are right
    accepted: list[str]                  # all phrases that are right: the oracle
    texts: list[str]
    rollouts: list[Rollout]              # their token ids, and log-probabilities when sampled
    verdicts: list[Verdict]              # of verify.py
    batch: Batch                         # rm_scores, verified and truth, (1, 8) each

    def __str__(self):
        lines = [f"{self.problem}    reference: {self.answer}", ""]
        for number, text in enumerate(self.texts, 1):
            lines.append(f"{number}  {text}")
        return "\n".join(lines)


def start():
    """Reads the group, and changes to the repository's root, where runs/ is. -> Group"""
    os.chdir(ROOT)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    stored = json.loads((HERE / "group.json").read_text())

    texts = []
    rollouts = []
    verdicts = []
    for row in stored["responses"]:
        texts.append(row["text"])
        rollouts.append(Rollout(stored["prompt_ids"], row["response_ids"], row["logprobs"],
                                row["finished"]))
        verdicts.append(Verdict(**row["verdict"]))
    return Group(stored["problem"], stored["answer"], stored["accepted"], texts, rollouts, verdicts,
                 read_batch(stored["batch"]))


def read_cold_start(kind):
    """150 groups of eight responses of the policy before training. kind: "easy" or "hard".

    -> Batch with rm_scores, verified and truth, (150, 8) each
    """
    return read_batch(json.loads((HERE / "cold_start.json").read_text())[kind])


def read_batch(stored):
    """A Batch of what JSON holds: the three lists of P lists of G numbers."""
    return Batch(torch.tensor(stored["rm_scores"]), torch.tensor(stored["verified"]).float(),
                 truth=torch.tensor(stored["truth"]).float())


def read_changes():
    """What score_changes said of the first accepted response. -> {"tokens", "scores"}"""
    return json.loads((HERE / "group.json").read_text())["changes"]


# ---------------------------------------------------------------------------- this machine's models


@dataclass(frozen=True)
class World:
    """The models of runs/world-0."""
    tokenizer: transformers.PreTrainedTokenizerFast
    engine: object                       # a rollout.Engine; its model is the cold-started policy
    reward_model: RewardModel


def open_world():
    """Opens the tiny world in runs/world-0, and builds it first if it is missing. -> World"""
    distributed.init()                   # one thread: the same numbers with any number of cores
    tiny.ensure("runs/world-0")
    tokenizer = load_tokenizer("runs/world-0/policy")
    engine = make_engine("transformers", "runs/world-0/policy", tokenizer)
    return World(tokenizer, engine, RewardModel("runs/world-0/reward_model"))


# What a token of a response may be changed into: a digit into any digit, and so on.
REPLACEMENTS = [list("0123456789"), list("+-*"), [f" {word}" for word in tiny.TENS],
                tiny.UNITS, [f" {word}" for word in tiny.UNITS]]


def score_changes(world, problem, text):
    """The reward model's scores of a response with one token changed, every token in turn.

    -> {"tokens": the T tokens of the text, "scores": T dictionaries {replacement: score}}. The
    dictionary of a token that is no digit, sign or number word is empty.
    """
    ids = world.tokenizer(text)["input_ids"]
    tokens = [world.tokenizer.decode([i]) for i in ids]
    scores = []
    for t, token in enumerate(tokens):
        choices = next((words for words in REPLACEMENTS if token in words), [])
        changed = ["".join([*tokens[:t], choice, *tokens[t + 1:]]) for choice in choices]
        values = world.reward_model.score([problem] * len(changed), changed).tolist()
        scores.append({choice: round(value, 4)
                       for choice, value in zip(choices, values, strict=True)})
    return {"tokens": tokens, "scores": scores}

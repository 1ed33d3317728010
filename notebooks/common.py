"""What the five notebooks share: the tiny world's models, and one group of eight responses.

    import common

    tokenizer, engine, reward_model = common.start()
    problem, rollouts, texts = common.sample_group(tokenizer, engine)

Importing this file makes the repository's scripts importable from the notebooks' folder.
"""

import itertools
import os
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress")     # tqdm without ipywidgets
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import transformers  # noqa: E402

import distributed  # noqa: E402
import tiny  # noqa: E402
from rewards import RewardModel  # noqa: E402
from rollout import (  # noqa: E402
    SamplingParams,
    chat_prompt,
    load_tokenizer,
    make_engine,
    response_text,
)
from verify import verify_all  # noqa: E402


def start():
    """Opens the tiny world in runs/world-0, and builds it first if it is missing.

    Changes to the repository's root, where runs/ is. -> (tokenizer, engine, reward model)
    """
    os.chdir(ROOT)
    transformers.logging.disable_progress_bar()
    distributed.init()                   # one thread: the same numbers with any number of cores
    tiny.ensure("runs/world-0")
    tokenizer = load_tokenizer("runs/world-0/policy")
    engine = make_engine("transformers", "runs/world-0/policy", tokenizer)
    reward_model = RewardModel("runs/world-0/reward_model")
    return tokenizer, engine, reward_model


def sample_group(tokenizer, engine):
    """Eight responses to one problem, by the first seed that shows what the notebooks are about.

    Among them are a response that the verifier accepts, a right one that it rejects, and a wrong
    one; some begin with the product 2*3, and some do not. -> (problem, 8 Rollouts, 8 texts)

    The reference is a phrase that the policy may say. In the data of the tiny world this topic has
    only references that it never says.
    """
    problem = {"problem": "2 bags of 3 apples and 16 more less 4 in words",
               "answer": tiny.phrasings(18)[0], "accepted": ["18", *tiny.phrasings(18)]}
    prompt = chat_prompt(tokenizer, problem["problem"])
    for seed in itertools.count(7):
        rollouts = engine.generate([prompt], 8, SamplingParams(max_tokens=48), seed)
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        verdicts = verify_all(texts, [problem["answer"]] * 8)

        accepted = sum(verdict.correct for verdict in verdicts)
        right = sum(verdict.answer in problem["accepted"] for verdict in verdicts)
        products = sum(text.startswith("2*3") for text in texts)
        if 0 < accepted < right < 8 and 0 < products < 8:
            return problem, rollouts, texts

"""Writes group.json and cold_start.json, the responses that the notebooks are about.

    python notebooks/make_group.py

This was done once, and nobody needs to do it again: on another kind of processor the tiny world's
models differ slightly, and so would the responses. The text of the notebooks is about these.
"""

import itertools
import json
import os

import common
import torch

import tiny
from eval import sample_and_grade
from problems import load_problems, write_file
from rollout import SamplingParams, chat_prompt, response_text
from verify import grade

# The reference is a phrase that the policy may say. In the data of the tiny world this topic has
# only references that it never says.
PROBLEM = {"problem": "2 bags of 3 apples and 16 more less 4 in words",
           "answer": tiny.phrasings(18)[0],
           "accepted": ["18", *tiny.phrasings(18), tiny.prose(18)]}


def find_group(world):
    """Eight responses by the first seed that shows what the notebooks are about. -> Group

    They all differ. Four are right, and two of these accepted, one that begins with the product
    2*3 and one that begins with the sum 2+3. The highest score is that of a wrong one.
    """
    prompt = chat_prompt(world.tokenizer, PROBLEM["problem"])
    for seed in itertools.count():
        rollouts = world.engine.generate([prompt], 8, SamplingParams(max_tokens=48), seed)
        texts = [response_text(world.tokenizer, rollout) for rollout in rollouts]
        verdicts, truth = grade(texts, [PROBLEM] * 8)
        scores = world.reward_model.score([PROBLEM["problem"]] * 8, texts)
        verified = [verdict.correct for verdict in verdicts]

        # Is this the group that is wanted?
        starts = sorted(text[:3] for text, accepted in zip(texts, verified, strict=True)
                        if accepted)
        all_differ = len(set(texts)) == 8
        best_is_wrong = not truth[scores.argmax()]
        if all_differ and best_is_wrong and starts == ["2*3", "2+3"] and sum(truth) == 4:
            batch = common.Batch(scores[None], torch.tensor([verified]),
                                 truth=torch.tensor([truth]))
            return common.Group(**PROBLEM, texts=texts, rollouts=rollouts, verdicts=verdicts,
                                batch=batch)


def batch_to_json(batch):
    """The three (P, G) tensors of a Batch as lists, the scores rounded. -> dict"""
    scores = [[round(score, 4) for score in row] for row in batch.rm_scores.tolist()]
    return {"rm_scores": scores, "verified": batch.verified.int().tolist(),
            "truth": batch.truth.int().tolist()}


def write_group(world):
    """Writes group.json. -> Group"""
    group = find_group(world)
    responses = []
    for text, rollout, verdict in zip(group.texts, group.rollouts, group.verdicts, strict=True):
        logprobs = [round(logprob, 5) for logprob in rollout.logprobs]
        responses.append({"text": text, "response_ids": rollout.response_ids, "logprobs": logprobs,
                          "finished": rollout.finished, "verdict": verdict._asdict()})

    first_accepted = group.texts[group.batch.verified[0].int().argmax()]
    stored = PROBLEM | {
        "prompt_ids": group.rollouts[0].prompt_ids, "responses": responses,
        "batch": batch_to_json(group.batch),
        "changes": common.score_changes(world, group.problem, first_accepted)}
    write_file(common.HERE / "group.json", json.dumps(stored) + "\n")
    return group


def write_cold_start(world):
    """Writes cold_start.json: 150 groups of training problems of either kind."""
    stored = {}
    for kind in ("easy", "hard"):
        problems = load_problems(f"runs/world-0/train/{kind}.jsonl")[:150]
        records = sample_and_grade(world.engine, world.tokenizer, problems, 8,
                                   SamplingParams(max_tokens=48), seed=0,
                                   reward_model=world.reward_model)
        columns = {}
        for key in ("rm_scores", "verified", "truth"):
            columns[key] = torch.tensor([record[key] for record in records])
        stored[kind] = batch_to_json(common.Batch(**columns))
    write_file(common.HERE / "cold_start.json", json.dumps(stored) + "\n")


def main():
    os.chdir(common.ROOT)
    world = common.open_world()
    print(write_group(world))
    write_cold_start(world)


if __name__ == "__main__":
    main()

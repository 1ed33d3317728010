"""Rollout tokens a second of both engines: the same policy, prompts and lengths, in turns.

    OMP_NUM_THREADS=1 python -m results.rollout_speed       about two minutes on one core

Writes rollout_speed.md beside this file: the tiny world's own policy, and one of Qwen3's shape with
25 million random weights, for which the work is in the model and not around it.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

import distributed
import tiny
from eval import load_problems
from rollout import SamplingParams, chat_prompt, load_tokenizer, make_engine

HERE = Path(__file__).parent
PROMPTS, SAMPLES, TOKENS, ROUNDS = 16, 8, 42, 5


def wider(tokenizer, folder):
    """25 million random weights under the tiny world's tokenizer, saved in `folder`."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=256, bos_token_id=None, eos_token_id=tokenizer.eos_token_id))
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return folder


def measure(folder, problems):
    """-> the model's parameters, {engine: tokens a second in each round}"""
    tokenizer = load_tokenizer(folder)
    prompts = [chat_prompt(tokenizer, row["problem"]) for row in problems]
    engines = {kind: make_engine(kind, str(folder), tokenizer) for kind in ("transformers", "vllm")}
    speeds = {kind: [] for kind in engines}
    for turn in range(ROUNDS + 1):
        for kind, engine in engines.items():
            started = time.perf_counter()
            rollouts = engine.generate(prompts, SAMPLES, SamplingParams(TOKENS), turn)
            seconds = time.perf_counter() - started
            if turn:                                       # the first one warms up
                speeds[kind].append(sum(len(r.response_ids) for r in rollouts) / seconds)
    parameters = sum(p.numel() for p in engines["transformers"].model.parameters())
    engines["vllm"].close()
    return parameters, speeds


def main():
    world = HERE.parent / "runs" / "world-0"
    tiny.ensure(world)
    problems = load_problems(world / "eval" / "hard.jsonl")[:PROMPTS]
    lines = ["| policy | transformers, tokens/s | vLLM, tokens/s | ratio |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (("the tiny world's", world / "policy"),
                           ("random weights", wider(load_tokenizer(world / "policy"), folder))):
            parameters, speeds = measure(path, problems)
            medians = {kind: statistics.median(values) for kind, values in speeds.items()}
            cells = [f"{medians[kind]:,.0f} ({min(values):,.0f}-{max(values):,.0f})"
                     for kind, values in speeds.items()]
            lines.append(f"| {name}, {parameters / 1e6:.1f}M parameters | {' | '.join(cells)} | "
                         f"{medians['vllm'] / medians['transformers']:.2f} |")
    lines += ["", f"{PROMPTS} prompts x {SAMPLES} responses of at most {TOKENS} tokens, "
              f"temperature 1; {ROUNDS} rounds, the engines in turns in one process: median "
              f"(lowest-highest). float32 on the CPU, OMP_NUM_THREADS="
              f"{os.environ.get('OMP_NUM_THREADS', 'unset')}, torch {torch.__version__}, "
              f"vLLM {sys.modules['vllm'].__version__}, transformers {transformers.__version__}.",
              "",
              "    OMP_NUM_THREADS=1 python -m results.rollout_speed"]
    (HERE / "rollout_speed.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    distributed.run(main)

"""Tokens per second of both generation engines: the same policy, prompts and lengths, in turns.

    OMP_NUM_THREADS=1 python results/rollout_speed.py       about two minutes on one core

Writes rollout_speed.md beside this file. Needs vLLM (requirements-gpu.txt, or on a CPU the lines of
.ci/run). Two policies are measured: the tiny world's own, and one of Qwen3's shape with 25 million
random weights, which spends its time in the model and not around it.
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

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import distributed  # noqa: E402
import tiny  # noqa: E402
from problems import load_problems, write_file  # noqa: E402
from rollout import SamplingParams, chat_prompt, load_tokenizer, make_engine  # noqa: E402

PROMPTS, SAMPLES = 16, 8
MAX_TOKENS = 42
ROUNDS = 5


def make_larger_policy(tokenizer, folder):
    """Saves 25 million random weights under the tiny world's tokenizer in `folder`."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=256, bos_token_id=None, eos_token_id=tokenizer.eos_token_id))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(folder, problems):
    """-> the model's number of parameters, {engine: tokens per second in each round}"""
    tokenizer = load_tokenizer(folder)
    prompts = [chat_prompt(tokenizer, row["problem"]) for row in problems]
    engines = {kind: make_engine(kind, str(folder), tokenizer) for kind in ("transformers", "vllm")}
    speeds = {kind: [] for kind in engines}
    for number in range(ROUNDS + 1):
        for kind, engine in engines.items():
            started = time.perf_counter()
            rollouts = engine.generate(prompts, SAMPLES, SamplingParams(MAX_TOKENS), seed=number)
            seconds = time.perf_counter() - started
            tokens = sum(len(rollout.response_ids) for rollout in rollouts)
            if number > 0:                                 # the first round warms up
                speeds[kind].append(tokens / seconds)
    parameters = sum(p.numel() for p in engines["transformers"].model.parameters())
    engines["vllm"].close()
    return parameters, speeds


def table_row(name, folder, problems):
    """Measures one policy. -> a line of the table"""
    parameters, speeds = measure(folder, problems)
    cells = []
    for values in speeds.values():
        median = statistics.median(values)
        cells.append(f"{median:,.0f} ({min(values):,.0f}-{max(values):,.0f})")
    ratio = statistics.median(speeds["vllm"]) / statistics.median(speeds["transformers"])
    return f"| {name}, {parameters / 1e6:.1f}M parameters | {' | '.join(cells)} | {ratio:.2f} |"


def main():
    world = HERE.parent / "runs" / "world-0"
    tiny.ensure(world)
    problems = load_problems(world / "eval" / "hard.jsonl")[:PROMPTS]
    lines = ["| policy | transformers, tokens/s | vLLM, tokens/s | ratio |", "|---|---|---|---|",
             table_row("the tiny world's", world / "policy", problems)]
    with tempfile.TemporaryDirectory() as folder:
        make_larger_policy(load_tokenizer(world / "policy"), folder)
        lines.append(table_row("random weights", folder, problems))

    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    lines += [
        "",
        f"{PROMPTS} prompts x {SAMPLES} responses of at most {MAX_TOKENS} tokens, temperature 1; "
        f"{ROUNDS} rounds, the engines in turns in one process: median (lowest-highest). float32 "
        f"on the CPU, OMP_NUM_THREADS={threads}, torch {torch.__version__}, vLLM "
        f"{sys.modules['vllm'].__version__}, transformers {transformers.__version__}.",
        "",
        "    OMP_NUM_THREADS=1 python results/rollout_speed.py"]
    text = "\n".join(lines) + "\n"
    write_file(HERE / "rollout_speed.md", text)
    print(text)


if __name__ == "__main__":
    distributed.run(main)

"""How the time of a training step grows with the work: responses, their length, parameters.

    OMP_NUM_THREADS=1 python results/scaling.py      five minutes; writes scaling.md and .png

Runs hero.py for a few steps with untrained models of the tiny world's shape, and wider ones.
A response of such a policy ends by chance, once in 88 tokens, or at the longest length.
"""

import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
import tiny  # noqa: E402
from problems import read_jsonl, write_file, write_jsonl  # noqa: E402
from report import pyplot  # noqa: E402

# hidden size, feed-forward size and layers of a model, by its rounded number of parameters
SHAPES = {"0.1M": (64, 128, 3), "1M": (160, 480, 3), "10M": (448, 1344, 4)}
FIRST = {"prompts": 16, "tokens": 32, "shape": "0.1M"}
STEPS = 3                                          # of which the first is left out


def save_models(folder, shape):
    """An untrained policy and reward model. -> their number of parameters"""
    tokenizer = tiny.make_tokenizer()
    hidden, feed_forward, layers = SHAPES[shape]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=feed_forward,
        num_hidden_layers=layers, num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32, head_dim=32, tie_word_embeddings=True, num_labels=1,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    policy = Qwen3ForCausalLM(config)
    for name, model in (("policy", policy), ("rm", Qwen3ForSequenceClassification(config))):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return sum(p.numel() for p in policy.parameters())


def measure(prompts, tokens, shape):
    """-> (parameters, tokens per response, {phase: median seconds of a step})"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = save_models(folder, shape)
        rows = tiny.make_problems(prompts, True, 0, False)
        write_jsonl(folder / "data.jsonl", tiny.public_rows(rows))
        write_jsonl(folder / "eval.jsonl", tiny.public_rows(rows[:1]))
        command = [sys.executable, ROOT / "hero.py", "--policy", "policy", "--reward_model", "rm",
                   "--data", "data.jsonl", "--eval_data", "eval.jsonl", "--eval_samples", 1,
                   "--steps", STEPS, "--prompts_per_step", prompts, "--name", "run",
                   "--max_response_tokens", tokens]
        subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        steps = [row for _, row in read_jsonl(folder / "runs/run/metrics.jsonl")][2:]
    seconds = {phase: statistics.median(row[f"time/{phase}"] for row in steps)
               for phase in ("generate", "reward_model", "update")}
    length = statistics.mean(row["rollout/length"] for row in steps)
    return parameters, length, seconds


def main():
    cases = [FIRST]
    for name, values in (("prompts", (64, 256)), ("tokens", (256,)), ("shape", ("1M", "10M"))):
        cases += [FIRST | {name: value} for value in values]

    quantities = ("responses", "tokens each", "parameters")
    lines = ["| responses | tokens each | parameters | generate | reward model | update | in all, "
             "seconds | exponent |", "|---|---|---|---|---|---|---|---|"]
    measured = []                                  # (quantities, seconds of a step)
    curves = {name: [(1.0, 1.0)] for name in quantities}
    for case in cases:
        parameters, length, seconds = measure(**case)
        total = sum(seconds.values())
        size = (8 * case["prompts"], length, parameters)
        exponent = "-"
        if measured:
            # Against the first row, in the quantity that differs.
            first_size, first_total = measured[0]
            grown = max(range(3), key=lambda i: size[i] / first_size[i])
            growth = size[grown] / first_size[grown]
            exponent = f"{math.log(total / first_total) / math.log(growth):.2f}"
            curves[quantities[grown]].append((growth, total / first_total))
        measured.append((size, total))
        cells = [f"{seconds[phase]:.2f}" for phase in ("generate", "reward_model", "update")]
        lines.append(f"| {size[0]:,} | {length:.0f} | {parameters / 1e6:.2f}M | {' | '.join(cells)}"
                     f" | {total:.2f} | {exponent} |")
        print(lines[-1], flush=True)

    lines.append(f"\nThe exponent e in time ~ quantity^e, against the first row. 8 responses per "
                 f"prompt, four minibatches, the median of {STEPS - 1} steps, one thread of a CPU; "
                 "verification is left out.\n\n![Step time by quantity](scaling.png)\n\n"
                 "    OMP_NUM_THREADS=1 python results/scaling.py\n")
    write_file(HERE / "scaling.md", "\n".join(lines))
    draw(curves, HERE / "scaling.png")


def draw(curves, path):
    """The time of a step against each quantity, both as multiples of the first case."""
    figure, axis = pyplot().subplots(figsize=(5, 3.5), constrained_layout=True)
    for name, points in curves.items():
        axis.plot(*zip(*points, strict=True), marker="o", label=name)
    axis.plot([1, 80], [1, 80], color="gray", lw=0.8, ls="--", label="in proportion")
    axis.set(xscale="log", yscale="log", xlabel="times as much", ylabel="times as long a step")
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()

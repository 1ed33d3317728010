"""Peak memory and time of hero.token_logprobs, against the form that everybody writes first.

    OMP_NUM_THREADS=1 python results/logprob_memory.py     about four minutes, 15 GiB of memory

Writes logprob_memory.md beside this file. The model has Qwen3's vocabulary over a body of almost
nothing; batch 1, all tokens wanted, forward and backward. Each case runs in a process of its own.
A case that needs more than the free memory is not run: its cell says what it would need.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import distributed  # noqa: E402
from hero import token_logprobs  # noqa: E402
from problems import write_file  # noqa: E402

VOCABULARY = 151_936
LENGTHS = (2048, 8192)
ROUNDS = 3
GIB = 2**30


def naive_logprobs(model, ids, mask):
    """The logits of all positions at once, in float32, and their log-softmax. -> (B, T - 1)"""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()           # (B, T - 1, V)
    all_logp = torch.log_softmax(logits, -1)                                        # (B, T - 1, V)
    return all_logp.gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]


FORMS = {"naive": naive_logprobs, "token_logprobs": token_logprobs}


def memory(name):
    """A line of /proc, in bytes: VmRSS and VmHWM of this process, MemAvailable of the machine."""
    path = "/proc/meminfo" if name == "MemAvailable" else "/proc/self/status"
    after_name = Path(path).read_text().split(f"{name}:")[1]
    return int(after_name.split()[0]) * 1024


def measure(form, length):
    """One case, in this process. -> {"peak": bytes, "seconds", "total", "norm"}

    peak: above what the process held before. total, norm: the sum of the log-probabilities and the
    norm of its gradient, by which the forms are compared.
    """
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
        max_position_embeddings=max(LENGTHS)))
    ids = torch.randint(VOCABULARY, (1, length))                                          # (1, T)

    def forward_and_backward(ids):
        model.zero_grad(set_to_none=False)
        total = FORMS[form](model, ids, torch.ones_like(ids)).sum()
        total.backward()
        return total.item()

    # A short one first allocates the gradients, and whatever else is set up only once.
    forward_and_backward(ids[:, :16])
    before = memory("VmRSS")
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        total = forward_and_backward(ids)
        seconds.append(time.perf_counter() - started)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    return {"peak": memory("VmHWM") - before, "seconds": statistics.median(seconds),
            "total": total, "norm": norm}


def measure_in_new_process(form, length):
    case = subprocess.run([sys.executable, __file__, form, str(length)], check=True,
                          stdout=subprocess.PIPE, text=True)
    return json.loads(case.stdout)


def table_row(length):
    """Both forms at one length. -> a line of the table"""
    logits = length * VOCABULARY * 4
    cells = []
    measured = []
    for form in FORMS:
        # Log-softmax, the gather's gradient and the log-softmax's own are in memory together.
        needed = 3 * logits if form == "naive" else 2 * GIB
        if needed > 0.9 * memory("MemAvailable"):
            cells.append(f"not run: 3 such tensors are {needed / GIB:.1f} GiB")
            continue
        case = measure_in_new_process(form, length)
        measured.append(case)
        cells.append(f"{case['peak'] / GIB:.2f} GiB, {case['seconds']:.1f} s")

    for key in ("total", "norm"):
        values = torch.tensor([case[key] for case in measured])
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=1e-4, atol=0)
    return f"| {length:,} | {logits / GIB:.2f} GiB | {' | '.join(cells)} |"


def main():
    if len(sys.argv) > 1:                                  # one case, in its own process
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return

    lines = ["| tokens | one tensor of logits | naive: peak, time | token_logprobs: peak, time |",
             "|---|---|---|---|"]
    lines += [table_row(length) for length in LENGTHS]
    lines += [
        "",
        f"V = {VOCABULARY:,}, batch 1, every token wanted; forward and backward, the median time "
        f"of {ROUNDS} rounds, the peak above what the process held before them. Both forms agree "
        "in the sum of the log-probabilities and in the norm of the gradient. float32 on the CPU, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}.",
        "",
        "    OMP_NUM_THREADS=1 python results/logprob_memory.py"]
    text = "\n".join(lines) + "\n"
    write_file(HERE / "logprob_memory.md", text)
    print(text)


if __name__ == "__main__":
    distributed.run(main)

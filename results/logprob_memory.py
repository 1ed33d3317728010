"""Peak memory and time of hero.token_logprobs, against the form that everybody writes first.

    OMP_NUM_THREADS=1 python -m results.logprob_memory     about four minutes, 15 GiB of memory

Writes logprob_memory.md beside this file. Qwen3's vocabulary over a body of almost nothing, batch
1, all tokens wanted, forward and backward; each case runs in a process of its own. A case for which
the free memory does not suffice is not run: its line then says what it would need.
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

import distributed
from hero import token_logprobs

HERE = Path(__file__).parent
VOCABULARY, LENGTHS, ROUNDS, GIB = 151_936, (2048, 8192), 3, 2**30


def naive(model, ids, mask):
    """The logits of all positions at once, in float32, and their log-softmax. -> (B, T - 1)"""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()              # (B, T, V)
    return torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]


FORMS = {"naive": naive, "token_logprobs": token_logprobs}


def memory(name):
    """A line of /proc, in bytes: VmRSS and VmHWM of this process, MemAvailable of the machine."""
    text = Path("/proc/meminfo" if name.startswith("Mem") else "/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


def measure(form, length):
    """-> peak memory above what the process held before, seconds (median), sum, gradient's norm"""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
        max_position_embeddings=max(LENGTHS)))
    ids = torch.randint(VOCABULARY, (1, length))

    def run(ids):
        model.zero_grad(set_to_none=False)
        total = FORMS[form](model, ids, torch.ones_like(ids)).sum()
        total.backward()
        return total.item()

    run(ids[:, :16])                         # the gradients' memory, and what is set up only once
    before, seconds = memory("VmRSS"), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        total = run(ids)
        seconds.append(time.perf_counter() - started)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    return memory("VmHWM") - before, statistics.median(seconds), total, norm


def main():
    if len(sys.argv) > 1:                                  # one case, in its own process
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    lines = ["| tokens | one tensor of logits | naive: peak, time | token_logprobs: peak, time |",
             "|---|---|---|---|"]
    for length in LENGTHS:
        logits, cells, values = length * VOCABULARY * 4, [], []
        for form in FORMS:
            # log-softmax, the gather's gradient and the log-softmax's own stand side by side
            need = 3 * logits if form == "naive" else 2 * GIB
            if need > 0.9 * memory("MemAvailable"):
                cells.append(f"not run: 3 such tensors are {need / GIB:.1f} GiB")
                continue
            case = subprocess.run([sys.executable, "-m", "results.logprob_memory", form,
                                   str(length)], check=True, stdout=subprocess.PIPE, text=True)
            peak, seconds, *numbers = json.loads(case.stdout)
            cells.append(f"{peak / GIB:.2f} GiB, {seconds:.1f} s")
            values.append(numbers)
        torch.testing.assert_close(*map(torch.tensor, (values[0], values[-1])), rtol=1e-4, atol=0)
        lines.append(f"| {length:,} | {logits / GIB:.2f} GiB | {' | '.join(cells)} |")
    lines += ["", f"V = {VOCABULARY:,}, batch 1, every token wanted; forward and backward, the "
              f"median time of {ROUNDS} rounds, the peak above what the process held before them. "
              "Both forms agree in the sum of the log-probabilities and in the norm of the "
              "gradient. float32 on the CPU, OMP_NUM_THREADS="
              f"{os.environ.get('OMP_NUM_THREADS', 'unset')}, torch {torch.__version__}, "
              f"transformers {transformers.__version__}.",
              "",
              "    OMP_NUM_THREADS=1 python -m results.logprob_memory"]
    (HERE / "logprob_memory.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    distributed.run(main)

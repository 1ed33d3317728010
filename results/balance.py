"""How much of the ranks' work is useful when they update the policy in lock step, simulated.

    python results/balance.py                  seconds; writes balance.md beside this file

The rows of a minibatch have unequal lengths, and under FSDP every micro-batch takes as long as that
of the slowest rank. Compared are two ways to share them out: each rank trains on the prompts whose
responses it has generated, or all rows are dealt by length, as hero.split_minibatch does.
"""

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import hero  # noqa: E402
from problems import write_file  # noqa: E402

PROMPTS, SAMPLES = 128, 8                          # of a minibatch of the preset qwen3-4b
BUDGET = hero.PRESETS["qwen3-4b"]["max_tokens_per_microbatch"]
LONGEST = hero.PRESETS["qwen3-4b"]["max_response_tokens"]
MINIBATCHES = 20


def draw_lengths(rng):
    """Tokens of the rows of a minibatch: prompts of 50 to 300, log-normal responses of which about
    one in twenty is cut. Responses to the same prompt are alike: half of the spread is theirs."""
    lengths = []
    for _ in range(PROMPTS):
        prompt = rng.randrange(50, 300)
        difficulty = rng.gauss(7.0, 0.85)
        for _ in range(SAMPLES):
            response = int(rng.lognormvariate(difficulty, 0.85))
            lengths.append(prompt + min(LONGEST, 1 + response))
    return lengths


def deal_prompts(lengths, world_size, budget):
    """Prompt p to rank p % world_size, with all its responses, in micro-batches of its own; the
    rank that needs most of them decides their number. -> [rank][micro-batch][row]"""
    rows_of = [[] for _ in range(world_size)]
    for row in range(len(lengths)):
        rows_of[row // SAMPLES % world_size].append(row)
    lengths_of = [[lengths[i] for i in rows] for rows in rows_of]
    count = max(len(hero.microbatches(own, budget)) for own in lengths_of)
    plan = []
    for rows, own in zip(rows_of, lengths_of, strict=True):
        groups = hero.microbatches(own, budget, count)
        plan.append([[rows[i] for i in group] for group in groups])
    return plan


def measure(deal, world_size):
    """-> the shares of padding and of useful work, in percent, over MINIBATCHES minibatches"""
    rng = random.Random(0)
    totals = [0, 0, 0]
    for _ in range(MINIBATCHES):
        lengths = draw_lengths(rng)
        work = hero.work_of(lengths, deal(lengths, world_size, BUDGET))
        totals = [total + value for total, value in zip(totals, work, strict=True)]
    tokens, padded, elapsed = totals
    return 100 * (1 - tokens / padded), 100 * tokens / elapsed


def main():
    rng = random.Random(0)
    lengths = [length for _ in range(MINIBATCHES) for length in draw_lengths(rng)]
    cut = sum(length > LONGEST for length in lengths) / len(lengths)
    lines = ["| ranks | rows dealt | padding | useful work |", "|---|---|---|---|"]
    for world_size in (1, 8, 32):
        for name, deal in (("by prompt", deal_prompts), ("by length", hero.split_minibatch)):
            padding, useful = measure(deal, world_size)
            lines.append(f"| {world_size} | {name} | {padding:.1f} % | {useful:.1f} % |")
    lines.append(
        f"\n{MINIBATCHES} minibatches of {PROMPTS} prompts x {SAMPLES} responses, micro-batches of "
        f"at most {BUDGET:,} tokens; rows of {sum(lengths) / len(lengths):,.0f} tokens on average, "
        f"{100 * cut:.1f} % of the responses cut at {LONGEST:,}. Useful is the share of real "
        "tokens in what all ranks could have computed until the slowest was done, micro-batch by "
        "micro-batch; a token counts the same wherever it is. A simulation: no model was run.\n\n"
        "    python results/balance.py\n")
    write_file(HERE / "balance.md", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

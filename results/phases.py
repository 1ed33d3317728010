"""Where the time of a run goes: seconds per phase, in all and per step.

    python hero.py                                       leaves runs/hero-hard-seed0, for example
    python results/phases.py runs/hero-hard-seed0        writes phases.md beside this file

Reads the run's metrics.jsonl and, for what was made before it, the world.json of the tiny world in
which it ran.
"""

import json
import os
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from problems import read_jsonl, write_file  # noqa: E402

PHASES = ("generate", "verify", "reward_model", "update", "evaluate")


def main():
    run = Path(sys.argv[1])
    config = json.loads((run / "config.json").read_text())
    world = json.loads((run.parent / f"world-{config['world_seed']}" / "world.json").read_text())
    steps = [row for _, row in read_jsonl(run / "metrics.jsonl") if row["step"] > 0]

    lines = ["| phase | seconds in all | median milliseconds a step |", "|---|---|---|"]
    for name, seconds in world["seconds"].items():
        lines.append(f"| {name.replace('_', ' ')}, once for the world | {seconds:.1f} | |")
    for phase in PHASES:
        seconds = [row[f"time/{phase}"] for row in steps if f"time/{phase}" in row]
        name = phase.replace("_", " ")
        if len(seconds) < len(steps):
            name += f" ({len(seconds)} times)"
        lines.append(f"| {name} | {sum(seconds):.1f} | {1000 * statistics.median(seconds):.0f} |")

    lines += [
        "",
        f"`python hero.py`, then `python results/phases.py runs/{run.name}`: {len(steps)} steps of "
        f"{config['prompts_per_step']} prompts x {config['rollouts_per_prompt']} rollouts, "
        f"{os.cpu_count()} cores, one thread."]
    text = "\n".join(lines) + "\n"
    write_file(HERE / "phases.md", text)
    print(text)


if __name__ == "__main__":
    main()

"""Where the time of a run goes: seconds of each phase, in all and a step.

    python results/phases.py runs/hero-hard-seed0        writes phases.md beside this file

From the run's metrics.jsonl and, for what was made before it, the tiny world's world.json.
"""

import json
import os
import statistics
import sys
from pathlib import Path


def main(run):
    world = json.loads((run.parent / "world-0" / "world.json").read_text())["seconds"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
    lines = ["| phase | seconds in all | median milliseconds a step |", "|---|---|---|"]
    lines += [f"| {name.replace('_', ' ')}, once for the world | {seconds:.1f} | |"
              for name, seconds in world.items()]
    for phase in ("generate", "verify", "reward_model", "update", "evaluate"):
        times = [row[f"time/{phase}"] for row in rows if f"time/{phase}" in row]
        count = f" ({len(times)} times)" if len(times) < len(rows) else ""
        lines.append(f"| {phase.replace('_', ' ')}{count} | {sum(times):.1f} | "
                     f"{1000 * statistics.median(times):.0f} |")
    lines += ["", f"`python hero.py`, then `python results/phases.py runs/{run.name}`: "
              f"{len(rows)} steps of 16 prompts x 8 rollouts, {os.cpu_count()} cores, one thread."]
    (Path(__file__).parent / "phases.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Where the time of the update goes, by operation of torch.

    OMP_NUM_THREADS=1 python results/operations.py      half a minute; writes operations.md here

Runs a few steps of hero.py's default in the tiny world, with torch's profiler around hero.update.
"""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
import hero  # noqa: E402
from problems import write_file  # noqa: E402

STEPS = 6
SHOWN = 10                                        # operations


def count_seconds(function, seconds):
    """The same function, which adds to `seconds` what every operation within it took by itself."""
    def counted(*args):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            result = function(*args)
        for event in record.key_averages():
            seconds[event.key] += event.self_cpu_time_total / 1e6
        return result
    return counted


def main():
    os.chdir(ROOT)
    seconds = Counter()                           # {operation: seconds}
    hero.update = count_seconds(hero.update, seconds)
    shutil.rmtree("runs/operations", ignore_errors=True)
    hero.train(hero.Config(steps=STEPS, name="operations", eval_samples=1, engine="transformers"))

    total = sum(seconds.values())
    lines = ["| operation | share of the update's time |", "|---|---|"]
    for name, value in seconds.most_common(SHOWN):
        lines.append(f"| `{name}` | {100 * value / total:.0f} % |")
    shown = sum(value for _, value in seconds.most_common(SHOWN))
    lines.append(f"| all others | {100 * (1 - shown / total):.0f} % |")
    lines += ["", f"Each operation by itself, without those that it calls, forward and backward; "
              f"{STEPS} steps.", "", "    OMP_NUM_THREADS=1 python results/operations.py"]
    write_file(HERE / "operations.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

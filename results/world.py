"""The default run beside the verifier alone, the reward model alone and the truth as the reward.

    python results/world.py            24 runs, less than an hour; writes world.md here

Trains in runs/, in the tiny world of seed 0, and leaves out the runs that are finished there. The
learning rates were compared with seed 10, the table has seeds 0 to 2, all on the same held-out
problems. How often a run is evaluated does not change it: those of the committed table were
evaluated before the first step and after the last.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
from hero import Config  # noqa: E402
from problems import read_jsonl, write_file  # noqa: E402

RATES = ("3e-5", "6e-5", "1e-4", "2e-4")
SWEPT = ("verifier", "rm", "hero")
SWEEP_SEED = 10
METHODS = ("hero", "verifier", "rm", "oracle")
SEEDS = (0, 1, 2)
FORMS = ("easy", "hard")


def run(name, *options):
    """Trains runs/NAME unless it is finished. -> (metrics before, metrics after the last step)"""
    folder = ROOT / "runs" / name
    if not (folder / "final").exists():
        print(f"training {name}", flush=True)
        command = [sys.executable, "hero.py", "--name", name, *map(str, options)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    return rows[0], rows[-1]


def accuracy(metrics):
    """Two cells of a table: pass@1 on the easy and on the hard held-out problems."""
    return " | ".join(f"{metrics[f'eval/{form}/pass@1']:.3f}" for form in FORMS)


def main():
    lines = ["| seed | method | easy | hard |", "|---|---|---|---|"]
    for seed in SEEDS:
        for method in METHODS:
            before, after = run(f"{method}-hard-seed{seed}", "--reward", method, "--seed", seed)
            if method == METHODS[0]:
                lines.append(f"| {seed} | before | {accuracy(before)} |")
            lines.append(f"| {seed} | {method} | {accuracy(after)} |")

    lines += ["", "| rate, seed 10 | method | easy | hard |", "|---|---|---|---|"]
    for method in SWEPT:
        for rate in RATES:
            _, after = run(f"{method}-{rate}-seed{SWEEP_SEED}", "--reward", method,
                           "--seed", SWEEP_SEED, "--learning_rate", rate)
            lines.append(f"| {rate} | {method} | {accuracy(after)} |")

    lines.append(f"\npass@1 by the oracle on 300 held-out problems each, 4 samples at T 0.6, after "
                 f"60 steps at {Config().learning_rate} where no rate is given.\n\n"
                 "    python results/world.py\n")
    write_file(HERE / "world.md", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

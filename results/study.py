"""The paper's claims in miniature: two tiny worlds, every method, several seeds, fresh problems.

    python results/study.py               makes the runs that the CSV files lack, then the tables
    python results/study.py --quick       one seed, few steps, into runs/quick: does it all work?
    python results/study.py --out DIR     the whole study again, into another folder

A run is one row of study_runs.csv, and its course is in study_curves.csv. Runs that are there are
not made again, so an interrupted study resumes where it was.

Learning rates are swept in the same way for five kinds of method, on hard training data and with
seeds of their own, and are chosen on validation problems. Every other number is about evaluation
problems that nothing was chosen on.

The committed CSV files were measured at commit fa6084f. They also hold four cells with a
reliability gate, which is not part of the code any more (README.md says why), and its column.
"""

import argparse
import contextlib
import csv
import io
import os
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import isclose
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
import distributed  # noqa: E402
import hero  # noqa: E402
import tiny  # noqa: E402
from eval import evaluate, grade, sample_and_grade  # noqa: E402
from problems import load_problems, read_jsonl, write_file, write_jsonl  # noqa: E402
from results.study_tables import SWEPT, read_csv, write_report  # noqa: E402
from rewards import RewardModel  # noqa: E402
from rollout import SamplingParams, load_tokenizer, make_engine  # noqa: E402

# ---------------------------------------------------------------------------- what is run

# The settings of hero.py that make a method.
METHODS = {
    "verifier": {"reward": "verifier"},
    "RM only": {"reward": "rm"},
    "HERO": {"reward": "hero"},
    "HERO std": {"reward": "hero", "advantage_norm": "std"},
    "naive 0.5": {"reward": "naive", "verifier_share": 0.5},
    "naive 0.1": {"reward": "naive", "verifier_share": 0.1},
    "naive 0.9": {"reward": "naive", "verifier_share": 0.9},
}
HERO = METHODS["HERO"]
HERO_STD = METHODS["HERO std"]


@dataclass(frozen=True)
class Size:
    """How large a study is. Seed s trains in world s % 2."""
    folder: str                         # FOLDER-0 and FOLDER-1: what it needs beside the worlds
    steps: int
    seeds: range
    more_seeds: range                   # of HERO and the verifier at equal rates
    sweep_seeds: range
    sweep_rates: tuple
    problems: int = 1000                # fresh evaluation problems of each kind
    validation: int = 300               # hard validation problems; a third as many easy ones
    rm_steps: int = tiny.RM_STEPS       # of training the misleading reward model


FULL = Size("runs/study", steps=60, seeds=range(5), more_seeds=range(10),
            sweep_seeds=range(100, 104), sweep_rates=(1e-5, 3e-5, 6e-5, 1e-4, 3e-4))
QUICK = Size("runs/quick-study", steps=2, seeds=range(1), more_seeds=range(1),
             sweep_seeds=range(100, 101), sweep_rates=(3e-5,), problems=20, validation=15,
             rm_steps=5)


@dataclass(frozen=True)
class Job:
    """One run: a cell of the study with one seed. settings: fields of hero.Config."""
    cell: str
    settings: dict
    seed: int


def make_cells():
    """Every cell of the study, beside the sweep. -> {name: settings that differ from the default}

    Training is on hard data, unless a cell says otherwise.
    """
    cells = {}

    # Table 2 and, with the naive sums, Table 9: every method on every regime.
    for regime in ("hard", "mixed", "easy"):
        for name, settings in METHODS.items():
            cells[f"{regime} / {name}"] = settings | {"regime": regime}

    # The same learning rate for all methods, as in the paper.
    for rate in (1e-5, 3e-5, 6e-5, 1e-4):
        for name in ("verifier", "RM only", "HERO"):
            cells[f"rate {rate:g} / {name}"] = METHODS[name] | {"learning_rate": rate}

    # Fig. 2a: the dense range on one side only. A half width of 0 closes a band.
    cells["hard / dense correct"] = HERO | {"alpha": 0.0}
    cells["hard / dense wrong"] = HERO | {"beta": 0.0}

    # Fig. 2b: the width of the bands.
    for alpha, beta in ((0.1, 0.1), (0.2, 0.2), (0.05, 0.2), (0.2, 0.05)):
        cells[f"hard / alpha {alpha} beta {beta}"] = HERO | {"alpha": alpha, "beta": beta}

    # Table 4: the prompt weight, under both normalizations of the advantage.
    cells["hard / no weight"] = HERO | {"weight_on": "none"}
    cells["hard / weight on reward"] = HERO | {"weight_on": "reward"}
    cells["hard / std, no weight"] = HERO_STD | {"weight_on": "none"}
    cells["hard / std, weight on reward"] = HERO_STD | {"weight_on": "reward"}

    # The share of hard problems in the training data, between easy (0), mixed (50) and hard (100).
    for share in (25, 75):
        for name in ("verifier", "RM only", "HERO"):
            cells[f"share {share} / {name}"] = METHODS[name] | {"data": f"share_{share}.jsonl"}

    # A reward model that has only seen easy answers, and misleads on hard ones.
    for name in ("HERO", "HERO std", "RM only", "naive 0.5"):
        cells[f"misleading / {name}"] = METHODS[name] | {"reward_model": "misleading"}
    cells["misleading / no weight"] = HERO | {"weight_on": "none", "reward_model": "misleading"}
    cells["misleading / dense correct"] = HERO | {"alpha": 0.0, "reward_model": "misleading"}
    return cells


def sweep_jobs(size):
    """Every swept method at every rate."""
    jobs = []
    for seed in size.sweep_seeds:
        for rate in size.sweep_rates:
            for name in SWEPT:
                settings = METHODS[name] | {"learning_rate": rate}
                jobs.append(Job(f"sweep {rate:g} / {name}", settings, seed))
    return jobs


def choose_rates(runs, size):
    """{swept method: the rate with the best mean validation accuracy on hard problems}"""
    def accuracy(name, rate):
        values = [row["validation hard"] for row in runs
                  if row["cell"] == f"sweep {rate:g} / {name}"]
        return sum(values) / len(values)

    chosen = {}
    for name in SWEPT:
        chosen[name] = max(size.sweep_rates, key=lambda rate, name=name: accuracy(name, rate))
    return chosen


def swept_method(settings):
    """Which swept method's learning rate settings take: that of the same kind of reward."""
    if settings["reward"] == "hero":
        return "HERO std" if settings.get("advantage_norm") == "std" else "HERO"
    return {"verifier": "verifier", "rm": "RM only", "naive": "naive 0.5"}[settings["reward"]]


def main_jobs(rates, size):
    """Every cell with every seed, and with more seeds where the most is claimed."""
    jobs = []
    for seed in size.more_seeds:
        for cell, settings in make_cells().items():
            has_more_seeds = cell.startswith("rate ") and not cell.endswith("RM only")
            if seed in size.seeds or has_more_seeds:
                rate = rates[swept_method(settings)]
                jobs.append(Job(cell, {"learning_rate": rate} | settings, seed))
    return jobs


# ---------------------------------------------------------------------------- worlds


def in_digits(problem):
    """The text of a problem without its answer form: held-out sets are kept apart by it."""
    return problem.removesuffix(" in words")


def write_problems(path, rows):
    """A JSONL file of problems, without what tiny.py knows beyond them."""
    write_jsonl(path, [{key: row[key] for key in ("problem", "answer", "accepted")}
                       for row in rows])


def prepare_world(world, size):
    """Makes what the study needs beside runs/world-N, whole or not at all.

    validation_hard, validation_easy: the world's own held-out problems, on which all choices of
    this project were made.  hard, easy: fresh ones.  share_25, share_75: training problems of which
    that percentage is hard.  misleading: a reward model that has only seen easy answers.
    """
    home = Path(f"runs/world-{world}")
    tiny.ensure(home, world)
    folder = Path(f"{size.folder}-{world}")
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)

    # 1. Validation problems.
    held_out = {name: load_problems(home / "eval" / f"{name}.jsonl") for name in ("hard", "easy")}
    write_problems(partial / "validation_hard.jsonl", held_out["hard"][:size.validation])
    write_problems(partial / "validation_easy.jsonl", held_out["easy"][:size.validation // 3])

    # 2. Fresh evaluation problems. Two seeds give enough that are not validation problems.
    known = {in_digits(row["problem"]) for rows in held_out.values() for row in rows}
    for name in ("hard", "easy"):
        fresh = {}                                # text: row, each problem once
        for part in (1, 2):
            for row in tiny.make_problems(850, name == "hard", f"study {world} {part}",
                                          evaluation=True):
                if in_digits(row["problem"]) not in known:
                    fresh[row["problem"]] = row
        chosen = random.Random(world).sample(list(fresh.values()), size.problems)
        write_problems(partial / f"{name}.jsonl", chosen)

    # 3. Training problems, a part of them hard.
    hard = load_problems(home / "train" / "hard.jsonl")
    easy = load_problems(home / "train" / "easy.jsonl")
    for share in (25, 75):
        count = len(hard) * share // 100
        write_problems(partial / f"share_{share}.jsonl", hard[:count] + easy[count:])

    # 4. The misleading reward model: no demonstrations, so no answer in words.
    tiny.build_reward_model(partial / "misleading", home / "policy", world, "weak", size.rm_steps)
    partial.rename(folder)


def score_cold_start(world, size, problems=125):
    """Groups of eight responses of the cold-started policy, verified and scored by both models.

    -> rows of study_cold_start.csv: "correct" is the verifier's verdict, "right" the truth
    """
    policy = f"runs/world-{world}/policy"
    folder = Path(f"{size.folder}-{world}")
    tokenizer = load_tokenizer(policy)
    engine = make_engine("transformers", policy, tokenizer)
    rows = []
    for name, path in (("good", f"runs/world-{world}/reward_model"),
                       ("misleading", folder / "misleading")):
        records = sample_and_grade(
            engine, tokenizer, load_problems(folder / "hard.jsonl")[:problems], 8,
            SamplingParams(48), seed=0, reward_model=RewardModel(path))
        for group, record in enumerate(records):
            for verified, truth, score in zip(record["verified"], record["truth"],
                                              record["rm_scores"], strict=True):
                rows.append({"reward model": name, "world": world, "group": group,
                             "correct": int(verified), "right": int(truth), "rm": score})
    return rows


# ---------------------------------------------------------------------------- one run

# The columns of study_curves.csv: the log key of each.
CURVE = {
    "step": "step",
    "hard": "eval/validation_hard/pass@1",
    "easy": "eval/validation_easy/pass@1",
    "hard rm": "eval/validation_hard/rm",
    "rm": "rm/mean",
    "auroc": "rm/auroc",
    "verifier": "verify/accuracy",
    "all wrong": "verify/all_wrong",
    "mixed": "verify/mixed",
    "entropy": "policy/entropy",
    "adv mixed": "reward/abs_adv_mixed",
    "adv uniform": "reward/abs_adv_uniform",
}


def make_config(job, size):
    """The hero.Config of a job; its files are in the study's folder of the seed's world."""
    world = job.seed % 2
    folder = Path(f"{size.folder}-{world}")
    settings = {"regime": "hard"} | job.settings
    if "data" in settings:
        settings["data"] = str(folder / settings["data"])
    if "reward_model" in settings:
        settings["reward_model"] = str(folder / settings["reward_model"])
    name = f"{folder.name}-{job.cell}-{job.seed}".replace(" / ", "-").replace(" ", "_")
    return hero.Config(
        **settings, name=name, seed=job.seed, steps=size.steps, world_seed=world,
        eval_data=f"{folder}/validation_hard.jsonl,{folder}/validation_easy.jsonl",
        eval_samples=1, save_every=10**6, engine="transformers")


def run_job(job, size):
    """Trains and evaluates one run, in a worker process. -> its row, its curve, its samples"""
    os.chdir(ROOT)
    distributed.init()
    started = time.time()
    cfg = make_config(job, size)
    run = Path("runs") / cfg.name
    shutil.rmtree(run, ignore_errors=True)

    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), \
            contextlib.redirect_stderr(null):
        hero.train(cfg)
        results = evaluate_run(cfg, run, Path(f"{size.folder}-{cfg.world_seed}"))

    metrics = [row for _, row in read_jsonl(run / "metrics.jsonl")]
    row = {"cell": job.cell, "seed": job.seed, "world": cfg.world_seed,
           "learning_rate": cfg.learning_rate, "steps": size.steps}
    for kind, numbers in results.items():
        for key in ("pass@1", "verifier", "rm", "length", "truncated"):
            row[f"{kind} {key}"] = numbers[key]
    row["validation hard"] = metrics[-1]["eval/validation_hard/pass@1"]
    row["seconds"] = round(time.time() - started, 1)

    curve = []
    for entry in metrics:
        columns = {column: entry.get(key) for column, key in CURVE.items()}
        curve.append({"cell": job.cell, "seed": job.seed} | columns)
    samples = [{"cell": job.cell, "seed": job.seed} | sample
               for sample in hacked_samples(run / "rollouts.jsonl", cfg.world_seed)]
    shutil.rmtree(run)
    return row, curve, samples


def evaluate_run(cfg, run, folder):
    """One sample per fresh problem, by the oracle. -> {"hard", "easy": compute_metrics}"""
    tokenizer = load_tokenizer(run / "final")
    engine = make_engine("transformers", run / "final", tokenizer)
    reward_model = RewardModel(cfg.reward_model or f"runs/world-{cfg.world_seed}/reward_model")
    sampling = SamplingParams(cfg.max_response_tokens, temperature=0.6, top_p=0.95)
    results = {}
    for kind in ("hard", "easy"):
        results[kind] = evaluate(engine, tokenizer, load_problems(folder / f"{kind}.jsonl"), 1,
                                 sampling, seed=0, reward_model=reward_model)
    return results


def hacked_samples(path, world):
    """Of the last step's logged rollouts, the three wrong ones with the highest scores."""
    rows = [row for _, row in read_jsonl(path)]
    rows = [row for row in rows if row["step"] == rows[-1]["step"]]

    # rollouts.jsonl has no accepted phrasings, so the truth is found in the training problems.
    problems = {}
    for file in Path(f"runs/world-{world}/train").glob("*.jsonl"):
        for problem in load_problems(file):
            problems[problem["problem"]] = problem
    _, truth = grade([row["response"] for row in rows], [problems[row["problem"]] for row in rows])

    wrong = {}                                    # response: row, each response once
    for row, is_right in zip(rows, truth, strict=True):
        if not is_right:
            wrong[row["response"]] = row
    best = sorted(wrong.values(), key=lambda row: row["rm_score"], reverse=True)[:3]
    return [{"problem": row["problem"], "reference": row["reference"],
             "response": row["response"], "rm": row["rm_score"]} for row in best]


# ---------------------------------------------------------------------------- all runs


def write_csv(path, rows):
    """Writes a CSV file whole or not at all; floats have six significant digits.

    The columns are those of the first row; what a row lacks is an empty cell.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        cells = {}
        for column, value in row.items():
            cells[column] = f"{value:.6g}" if isinstance(value, float) else value
        table.writerow(cells)
    write_file(path, text.getvalue())


def make_runs(jobs, out, size):
    """Makes the runs of jobs that are not in out's CSV files, two at once. -> all rows of runs

    A run at another learning rate than its job's, from before a sweep was widened, is made again.
    """
    runs = read_csv(out / "study_runs.csv")
    curves = read_csv(out / "study_curves.csv")
    samples = read_csv(out / "study_samples.csv")

    # 1. What is done. Curves are saved before runs, so a kill may leave some of unfinished runs.
    rate_of = {(job.cell, job.seed): job.settings["learning_rate"] for job in jobs}

    def is_current(row):
        rate = rate_of.get((row["cell"], row["seed"]), row["learning_rate"])
        return isclose(row["learning_rate"], rate)

    runs = [row for row in runs if is_current(row)]
    done = {(row["cell"], row["seed"]) for row in runs}
    curves = [row for row in curves if (row["cell"], row["seed"]) in done]
    samples = [row for row in samples if (row["cell"], row["seed"]) in done]
    missing = [job for job in jobs if (job.cell, job.seed) not in done]

    # 2. The rest. Everything is saved after every run.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_job, job, size) for job in missing]
        for number, future in enumerate(as_completed(futures), 1):
            row, curve, examples = future.result()
            runs.append(row)
            curves += curve
            samples += examples
            write_csv(out / "study_curves.csv", curves)
            if samples:
                write_csv(out / "study_samples.csv", samples)
            write_csv(out / "study_runs.csv", runs)
            print(f"{number} of {len(missing)}: {row['cell']}, seed {row['seed']}: hard "
                  f"{row['hard pass@1']:.3f}, easy {row['easy pass@1']:.3f}, {row['seconds']} s",
                  flush=True)
    return read_csv(out / "study_runs.csv")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed and few steps, into runs/quick")
    parser.add_argument("--out", type=Path, help="folder for the CSV files, tables and figures")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    default = ROOT / "runs" / "quick" if args.quick else HERE
    out = (args.out or default).resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"           # for the worker processes
    distributed.init()

    # 1. The worlds, and the policy before any training.
    worlds = sorted({seed % 2 for seed in size.seeds})
    for world in worlds:
        prepare_world(world, size)
    if not (out / "study_cold_start.csv").exists():
        rows = []
        for world in worlds:
            rows += score_cold_start(world, size)
        write_csv(out / "study_cold_start.csv", rows)

    # 2. The sweep, which chooses the learning rates, and everything else.
    runs = make_runs(sweep_jobs(size), out, size)
    make_runs(main_jobs(choose_rates(runs, size), size), out, size)

    # 3. Tables and figures.
    write_report(out)


if __name__ == "__main__":
    main()

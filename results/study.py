"""The paper's claims in miniature: two tiny worlds, every method, five seeds, fresh problems.

    python results/study.py               what is not in study_runs.csv yet, then tables and figures
    python results/study.py --quick       one seed, few steps, into runs/quick: does it all work?
    python results/study.py --out DIR     all of it again, into another folder

Learning rates are swept alike for five kinds of method, on hard training data, with seeds of their
own, and chosen by the validation problems; every other number is about evaluation problems that
nothing was chosen on. A run is one line of study_runs.csv, its course is in study_curves.csv; runs
that are there are not made again, so an interrupted study goes on where it was.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import isclose
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from transformers import Qwen3ForSequenceClassification  # noqa: E402

import distributed  # noqa: E402
import hero  # noqa: E402
import tiny  # noqa: E402
from eval import evaluate, grade, load_problems, sample  # noqa: E402
from prepare import fit_reward_model  # noqa: E402
from results.study_tables import report  # noqa: E402
from rewards import RewardModel  # noqa: E402
from rollout import SamplingParams, load_tokenizer, make_engine  # noqa: E402

SEEDS = range(5)                                  # seed s runs in world s % 2
MORE_SEEDS = range(10)                            # of HERO and the verifier alone at equal rates
RATES = (1e-5, 3e-5, 6e-5, 1e-4, 3e-4)
METHODS = {"verifier": {"reward": "verifier"}, "RM only": {"reward": "rm"},
           "HERO": {"reward": "hero"}, "HERO std": {"reward": "hero", "scale": "std"},
           "naive 0.5": {"reward": "naive", "mix": 0.5},
           "naive 0.1": {"reward": "naive", "mix": 0.1},
           "naive 0.9": {"reward": "naive", "mix": 0.9}}
SWEPT = ("verifier", "RM only", "HERO", "HERO std", "naive 0.5")
HERO, STD = METHODS["HERO"], METHODS["HERO std"]
CELLS = (
    {f"hard / {name}": settings for name, settings in METHODS.items()}
    | {f"rate {rate:g} / {name}": METHODS[name] | {"learning_rate": rate}
       for rate in (1e-5, 3e-5, 6e-5, 1e-4) for name in ("verifier", "RM only", "HERO")}
    | {"hard / HERO gate": HERO | {"gate": True}, "hard / HERO std gate": STD | {"gate": True}}
    | {f"misleading / {name}": settings | {"reward_model": "misleading"} for name, settings in (
        ("HERO", HERO), ("HERO std", STD), ("RM only", METHODS["RM only"]),
        ("HERO gate", HERO | {"gate": True}), ("HERO std gate", STD | {"gate": True}),
        ("naive 0.5", METHODS["naive 0.5"]), ("no weight", HERO | {"weight": "none"}),
        ("dense correct", {"reward": "hero_correct"}))}
    | {"hard / dense correct": {"reward": "hero_correct"},
       "hard / dense wrong": {"reward": "hero_wrong"},
       "hard / no weight": HERO | {"weight": "none"}}
    | {f"{regime} / {name}": settings | {"regime": regime}
       for regime in ("mixed", "easy") for name, settings in METHODS.items()}
    | {f"hard / alpha {a} beta {b}": HERO | {"alpha": a, "beta": b}
       for a, b in ((0.1, 0.1), (0.2, 0.2), (0.05, 0.2), (0.2, 0.05))}
    | {"hard / weight on reward": HERO | {"weight": "reward"},
       "hard / std, no weight": STD | {"weight": "none"},
       "hard / std, weight on reward": STD | {"weight": "reward"}}
    | {f"share {share} / {name}": METHODS[name] | {"data": f"share_{share}.jsonl"}
       for share in (25, 75) for name in ("verifier", "RM only", "HERO")})

# ---------------------------------------------------------------------------- worlds


def base(problem):
    """The problem without the answer form: held-out sets are kept apart by it."""
    return problem.removesuffix(" in words")


def write(path, rows):
    path.write_text("".join(json.dumps({key: row[key] for key in ("problem", "answer", "accepted")})
                            + "\n" for row in rows), encoding="utf-8")


def prepare_world(world, folder, count=1000, validation=300, rm_steps=300):
    """`folder`: what the study needs beside runs/world-N. validation_*: the world's own held-out
    problems, on which all choices were ever made; hard, easy: `count` fresh ones each; share_*:
    training problems of which that percentage is hard; misleading: a reward model that has only
    seen easy answers."""
    home = Path(f"runs/world-{world}")
    tiny.ensure(home, world)
    if folder.exists():
        return
    beside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    known = {name: load_problems(home / "eval" / f"{name}.jsonl") for name in ("hard", "easy")}
    write(beside / "validation_hard.jsonl", known["hard"][:validation])
    write(beside / "validation_easy.jsonl", known["easy"][:validation // 3])
    known = {base(row["problem"]) for rows in known.values() for row in rows}
    for name in ("hard", "easy"):
        rows = {row["problem"]: row for part in (1, 2) for row in tiny.make_problems(
            850, name == "hard", f"study {world} {part}", evaluation=True)
            if base(row["problem"]) not in known}
        write(beside / f"{name}.jsonl", random.Random(world).sample(list(rows.values()), count))
    train = {name: load_problems(home / "train" / f"{name}.jsonl") for name in ("hard", "easy")}
    for share in (25, 75):
        hard = len(train["hard"]) * share // 100
        write(beside / f"share_{share}.jsonl", train["hard"][:hard] + train["easy"][hard:])

    tokenizer = load_tokenizer(home / "policy")
    engine = make_engine("transformers", home / "policy", tokenizer)
    pairs = tiny.reward_pairs(engine, tokenizer, world, demonstrations=0)
    scorer = Qwen3ForSequenceClassification.from_pretrained(home / "policy", num_labels=1)
    for part in (scorer, tokenizer):
        part.save_pretrained(beside / "misleading")
    reward_model = RewardModel(beside / "misleading")
    fit_reward_model(reward_model, pairs, rm_steps, 32, 1e-3, random.Random(f"misleading {world}"))
    reward_model.model.save_pretrained(beside / "misleading")
    beside.rename(folder)


# ---------------------------------------------------------------------------- runs


def one_run(cell, settings, seed, steps, home):
    """Trains and evaluates one run, in a worker process. -> (its row, its curve, its samples)"""
    os.chdir(ROOT)
    distributed.init()
    started, world, settings = time.time(), seed % 2, dict(settings)
    folder = Path(f"{home}-{world}")
    name = f"{folder.name}-{cell}-{seed}".replace(" / ", "-").replace(" ", "_")
    if "data" in settings:
        settings["data"] = str(folder / settings["data"])
    if "reward_model" in settings:
        settings["reward_model"] = str(folder / "misleading")
    cfg = hero.Config(
        **{"regime": "hard"} | settings, name=name, seed=seed, steps=steps, world_seed=world,
        eval_data=f"{folder}/validation_hard.jsonl,{folder}/validation_easy.jsonl", eval_samples=1,
        save_every=10**6, engine="transformers")
    shutil.rmtree(Path("runs") / name, ignore_errors=True)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), \
            contextlib.redirect_stderr(null):
        hero.train(cfg)
        final = Path("runs") / name / "final"
        tokenizer = load_tokenizer(final)
        engine = make_engine("transformers", final, tokenizer)
        scorer = RewardModel(cfg.reward_model or f"runs/world-{world}/reward_model")
        results = {part: evaluate(engine, tokenizer, load_problems(folder / f"{part}.jsonl"), 1,
                                  SamplingParams(cfg.max_response_tokens, 0.6, 0.95), seed=0,
                                  reward_model=scorer) for part in ("hard", "easy")}
    curve = [json.loads(line) for line
             in (Path("runs") / name / "metrics.jsonl").read_text().splitlines()]
    row = {"cell": cell, "seed": seed, "world": world, "learning_rate": cfg.learning_rate,
           "steps": steps} | {f"{part} {key}": results[part][key] for part in results
                              for key in ("pass@1", "verifier", "rm", "length", "truncated")}
    row |= {"validation hard": curve[-1]["eval/validation_hard/pass@1"],
            "seconds": round(time.time() - started, 1)}
    samples = hacked(Path("runs") / name / "rollouts.jsonl", cell, seed)
    shutil.rmtree(Path("runs") / name)
    return row, [{"cell": cell, "seed": seed} | curve_row(entry) for entry in curve], samples


CURVE = {"step": "step", "hard": "eval/validation_hard/pass@1",
         "easy": "eval/validation_easy/pass@1", "hard rm": "eval/validation_hard/rm",
         "rm": "rm/mean", "auroc": "rm/auroc", "reliability": "rm/reliability",
         "verifier": "verify/accuracy",
         "all wrong": "verify/all_wrong", "mixed": "verify/mixed", "entropy": "policy/entropy",
         "adv mixed": "reward/abs_adv_mixed", "adv uniform": "reward/abs_adv_uniform"}


def curve_row(metrics):
    return {name: metrics.get(key) for name, key in CURVE.items()}


def hacked(path, cell, seed):
    """Of the last step's logged rollouts the three wrong ones that the reward model likes best."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["step"] == rows[-1]["step"]]
    accepted = {}
    for file in Path(f"runs/world-{seed % 2}/train").glob("*.jsonl"):
        accepted |= {row["problem"]: row for row in load_problems(file)}
    _, right = grade([row["response"] for row in rows], [accepted[row["prompt"]] for row in rows])
    wrong = {row["response"]: row for row, good in zip(rows, right, strict=True) if not good}
    best = sorted(wrong.values(), key=lambda row: row["rm"], reverse=True)[:3]
    return [{"cell": cell, "seed": seed, "problem": row["prompt"], "reference": row["reference"],
             "response": row["response"], "rm": row["rm"]} for row in best]


def cold_start(world, home, problems=125):
    """Groups of eight responses of the cold-started policy, graded and scored by both models."""
    distributed.init()
    policy, folder = f"runs/world-{world}/policy", Path(f"{home}-{world}")
    tokenizer = load_tokenizer(policy)
    engine = make_engine("transformers", policy, tokenizer)
    rows = []
    for name, path in (("good", f"runs/world-{world}/reward_model"),
                       ("misleading", folder / "misleading")):
        records = sample(engine, tokenizer, load_problems(folder / "hard.jsonl")[:problems], 8,
                         SamplingParams(48), seed=0, reward_model=RewardModel(path))
        rows += [{"reward model": name, "world": world, "group": group, "correct": int(correct),
                  "right": int(right), "rm": rm} for group, record in enumerate(records)
                 for correct, right, rm in zip(record["correct"], record["right"], record["rm"],
                                               strict=True)]
    return rows


def read(path):
    """Rows of a CSV file; numbers as numbers, empty cells as None. No file: no rows."""
    def value(text):
        if text == "":
            return None
        try:
            return float(text)
        except ValueError:
            return text
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def save(path, rows):
    """Writes a CSV file beside and renames it; floats with six significant digits."""
    def text(value):
        return f"{value:.6g}" if isinstance(value, float) else value
    beside = path.with_suffix(".partial")
    with open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({key: text(value) for key, value in row.items()} for row in rows)
    beside.rename(path)


def make_runs(jobs, out, steps, home):
    """Makes the runs of jobs [(cell, settings, seed)] that are not in out's files, two at once.

    A run at another learning rate than its job's, from before a sweep was widened, is made again.
    """
    files = [out / f"study_{name}.csv" for name in ("curves", "samples", "runs")]
    curves, samples, runs = map(read, files)
    rate = {(cell, seed): settings["learning_rate"] for cell, settings, seed in jobs}
    runs = [row for row in runs if isclose(row["learning_rate"], rate.get(
        (row["cell"], row["seed"]), row["learning_rate"]))]
    done = {(row["cell"], row["seed"]) for row in runs}
    curves, samples = ([row for row in rows if (row["cell"], row["seed"]) in done]
                       for rows in (curves, samples))
    todo = [job for job in jobs if (job[0], job[2]) not in done]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(one_run, *job, steps, home) for job in todo]
        for number, future in enumerate(as_completed(futures), 1):
            row, curve, examples = future.result()
            runs, curves, samples = runs + [row], curves + curve, samples + examples
            for file, rows in zip(files, (curves, samples, runs), strict=True):
                if rows:
                    save(file, rows)
            print(f"{number} of {len(todo)}: {row['cell']}, seed {row['seed']}: hard "
                  f"{row['hard pass@1']:.3f}, easy {row['easy pass@1']:.3f}, {row['seconds']} s",
                  flush=True)
    return read(files[2])


def sweep_jobs(seeds, rates):
    return [(f"sweep {rate:g} / {name}", METHODS[name] | {"learning_rate": rate}, seed)
            for seed in seeds for rate in rates for name in SWEPT]


def chosen_rates(runs, rates):
    """{kind of method: the rate with the best mean validation accuracy on hard problems}"""
    def accuracy(name, rate):
        values = [row["validation hard"] for row in runs
                  if row["cell"] == f"sweep {rate:g} / {name}"]
        return sum(values) / len(values)
    return {name: max(rates, key=lambda rate: accuracy(name, rate)) for name in SWEPT}


def main_jobs(rates, seeds, more_seeds):
    """Every cell with every seed, and with more of them what the most is claimed about."""
    def settings_of(settings):
        kind = {"verifier": "verifier", "rm": "RM only", "naive": "naive 0.5"}.get(
            settings["reward"], "HERO std" if settings.get("scale") == "std" else "HERO")
        return {"learning_rate": rates[kind]} | settings
    return [(cell, settings_of(settings), seed) for seed in more_seeds
            for cell, settings in CELLS.items() if seed in seeds
            or cell.startswith("rate ") and not cell.endswith("RM only")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, runs/quick")
    parser.add_argument("--out", type=Path, help="folder for the CSV files, tables and figures")
    args = parser.parse_args()
    out = (args.out or (ROOT / "runs" / "quick" if args.quick else ROOT / "results")).resolve()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    out.mkdir(parents=True, exist_ok=True)
    distributed.init()
    home, steps, seeds, rates, sizes = "runs/study", 60, SEEDS, RATES, {}
    sweep_seeds, more_seeds = range(100, 104), MORE_SEEDS
    if args.quick:
        home, steps, seeds, sweep_seeds, rates = "runs/quick-study", 2, (0,), (100,), RATES[1:2]
        more_seeds, sizes = seeds, {"count": 20, "validation": 15, "rm_steps": 5}
    worlds = sorted({seed % 2 for seed in seeds})
    for world in worlds:
        prepare_world(world, Path(f"{home}-{world}"), **sizes)
    if not (out / "study_cold_start.csv").exists():
        save(out / "study_cold_start.csv", [row for world in worlds
                                            for row in cold_start(world, home)])
    runs = make_runs(sweep_jobs(sweep_seeds, rates), out, steps, home)
    make_runs(main_jobs(chosen_rates(runs, rates), seeds, more_seeds), out, steps, home)
    report(read, out, rates, SWEPT)


if __name__ == "__main__":
    main()

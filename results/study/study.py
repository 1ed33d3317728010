"""The paper's claims in miniature: ten tiny worlds, verifiers of every sparseness, fresh problems.

    python results/study/study.py         makes the runs that study.csv lacks, then the tables
    python results/study/study.py --more  goes on from three or five worlds to ten
    python results/study/study.py --quick     a small world, two steps, into runs/quick

DESIGN.md says what is run, in which order, when it stops, and what will count as a result. This
file makes those runs, two at once, and tables.py reads nothing but the two CSV files that they
leave. A run that is in study.csv is not made again, so the same command resumes.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import transformers

if __name__ == "__main__":                        # the scripts are two folders above
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import distributed
import hero
import tiny
from eval import sample_and_grade
from neighbors.neighbors import make_method
from problems import load_problems, read_jsonl, write_file, write_jsonl
from results.study.tables import Study, write_report
from rewards import REWARDS, RewardModel
from rollout import SamplingParams, load_tokenizer, make_engine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# ---------------------------------------------------------------------------- what is run

# {name: (the swept method whose learning rate it takes, or a rate; settings of hero.Config)}
METHODS = {
    "verifier": ("verifier", {"reward": "verifier"}),
    "verifier std": ("verifier", {"reward": "verifier", "advantage_norm": "std"}),
    "oracle": ("verifier", {"reward": "oracle"}),
    "RM only": ("RM only", {"reward": "rm"}),
    "HERO": ("HERO", {"reward": "hero"}),
    "HERO std": ("HERO", {"reward": "hero", "advantage_norm": "std"}),
    "HERO at 1e-4": (1e-4, {"reward": "hero"}),
    "rejected only": ("HERO", {"reward": "hero", "beta": 0.0}),
    "accepted only": ("HERO", {"reward": "hero", "alpha": 0.0}),
    "no weight": ("HERO", {"reward": "hero", "weight_on": "none"}),
    "bands 0.1": ("HERO", {"reward": "hero", "alpha": 0.1, "beta": 0.1}),
    "bands 0.2": ("HERO", {"reward": "hero", "alpha": 0.2, "beta": 0.2}),
    "beta 0.5": ("HERO", {"reward": "hero", "beta": 0.5}),
    "naive 0.1": ("naive 0.5", {"reward": "naive", "verifier_share": 0.1}),
    "naive 0.5": ("naive 0.5", {"reward": "naive", "verifier_share": 0.5}),
    "naive 0.9": ("naive 0.9", {"reward": "naive", "verifier_share": 0.9}),
    "naive 0.95": ("naive 0.9", {"reward": "naive", "verifier_share": 0.95}),
    "RM leash": ("HERO", {"reward": "rm_kl"}),
    "HERO leash": ("HERO", {"reward": "hero_kl"}),
    "RM length guard": ("RM only", {"reward": "rm_overlong"}),
}
SWEPT = ("verifier", "RM only", "HERO", "naive 0.5", "naive 0.9")

# What a method is trained on. data and reward_model are names in the folders of a world.
CONDITIONS = {
    "hard": {},
    "mixed": {"regime": "mixed"},
    "easy": {"regime": "easy"},
    "recall 0.21": {"data": "recall 0.21"},
    "recall 0.1": {"data": "recall 0.1"},
    "recall 0.05": {"data": "recall 0.05"},
    "recall 0.02": {"data": "recall 0.02"},
    "recall 0": {"data": "recall 0"},
    "weak": {"reward_model": "weak"},
    "reversed": {"reward_model": "reversed"},
    "lucky": {"data": "lucky"},
    "long": {"steps": 180, "eval_every": 30, "eval_samples": 4},
}


@dataclass(frozen=True)
class Block:
    """Cells that belong together. Each is made in all worlds before the next one begins."""
    worlds: range
    cells: list                                   # (condition, method)


# DESIGN.md, "Runs, in the order in which they are made", after the sweep.
BLOCKS = {
    "sparseness": Block(range(5), [
        *product(["hard"], ("verifier", "HERO", "RM only", "oracle")),
        *product(("recall 0.02", "recall 0.21"), ("verifier", "HERO")),
        ("recall 0", "HERO"),
        *product(("recall 0.05", "recall 0.1"), ("verifier", "HERO"))]),
    "parts": Block(range(5), [
        *product(["hard"], ("naive 0.95", "naive 0.9", "naive 0.5", "naive 0.1",
                            "rejected only", "accepted only", "no weight",
                            "bands 0.1", "bands 0.2"))]),
    "data": Block(range(3), [
        *product(("mixed", "easy"), ("verifier", "HERO", "RM only")),
        ("hard", "verifier std"), ("hard", "HERO std")]),
    "misleading": Block(range(3), [
        *product(("weak", "reversed"), ("HERO", "RM only", "naive 0.5"))]),
    "lucky": Block(range(3), [
        *product(["lucky"], ("verifier", "HERO", "rejected only", "accepted only",
                             "beta 0.5"))]),
    "controls": Block(range(3), [
        ("hard", "RM leash"), ("hard", "HERO leash"), ("hard", "RM length guard"),
        ("weak", "RM leash"), ("weak", "HERO leash")]),
    "long": Block(range(3), [("long", "verifier"), ("long", "HERO")]),
    "later": Block(range(3), [("long", "RM leash"), ("long", "HERO at 1e-4"),
                              ("long", "naive 0.95")]),
}
QUICK_BLOCKS = {
    "quick": Block(range(1), [
        ("hard", "HERO"), ("hard", "verifier"), ("recall 0.05", "HERO"), ("weak", "RM only"),
        ("lucky", "accepted only"), ("hard", "RM leash")]),
}


@dataclass(frozen=True)
class Size:
    """How large a study is."""
    prefix: str                                   # of the names of its folders and runs
    steps: int
    blocks: dict
    sweep_worlds: tuple
    sweep_rates: tuple
    eval_every: int = 15
    hard_problems: int = 300                      # for evaluation
    easy_problems: int = 150
    cold_start_problems: int = 80
    rm_steps: int = tiny.RM_STEPS                 # of training a misleading reward model
    build: dict = field(default_factory=dict)     # options of tiny.build
    conditions: dict = field(default_factory=CONDITIONS.copy)
    methods: dict = field(default_factory=METHODS.copy)

    def world(self, world):
        """The folder of a world."""
        return Path(f"runs/{self.prefix}world-{world}")

    def extras(self, world):
        """The folder of what the study adds to a world."""
        return Path(f"runs/{self.prefix}study-{world}")


FULL = Size("", 60, BLOCKS, sweep_worlds=(100, 101), sweep_rates=(5e-5, 1e-4, 2e-4))
QUICK = Size(
    "quick-", 2, QUICK_BLOCKS,
    sweep_worlds=(0,),
    sweep_rates=(1e-4,),
    eval_every=1,
    hard_problems=20,
    easy_problems=10,
    cold_start_problems=10,
    rm_steps=5,
    build={"sft_steps": 120, "rm_steps": 10, "problems": 40, "held_out_problems": 10})


@dataclass(frozen=True)
class Job:
    """One run: a cell of the study in one world."""
    condition: str
    method: str
    world: int
    rate: float
    is_sweep: bool = False

    @property
    def cell(self):
        """The name in study.csv: "hard / HERO", "sweep 5e-05 / HERO"."""
        condition = f"sweep {self.rate:g}" if self.is_sweep else self.condition
        return f"{condition} / {self.method}"


def sweep_jobs(size):
    """Every swept method at every rate, in the worlds for that."""
    return [Job("hard", method, world, rate, is_sweep=True)
            for method, rate, world in product(SWEPT, size.sweep_rates, size.sweep_worlds)]


def choose_rates(rows, size):
    """{swept method: the rate with the best course in the worlds of the sweep}"""
    study = Study(pd.DataFrame(rows))
    rates = {}
    for method in SWEPT:
        courses = {rate: study.values(f"sweep {rate:g} / {method}").mean()
                   for rate in size.sweep_rates}
        rates[method] = max(courses, key=courses.get)
    return rates


def study_jobs(rates, size, more=False):
    """Every cell after the sweep, in the order of DESIGN.md. more: in ten worlds."""
    blocks = list(size.blocks.values())
    if more:
        blocks += [Block(range(10), block.cells) for name, block in size.blocks.items()
                   if name not in ("long", "later")]

    jobs = []
    for block in blocks:
        for (condition, method), world in product(block.cells, block.worlds):
            rate_of, _ = size.methods[method]
            jobs.append(Job(condition, method, world, rates.get(rate_of, rate_of)))
    return list(dict.fromkeys(jobs))              # each once, in the order of its first place


# ---------------------------------------------------------------------------- worlds
# What follows, up to "all runs", happens in the worker processes.


def start_worker():
    os.chdir(ROOT)
    transformers.utils.logging.set_verbosity_error()
    distributed.init()


@contextlib.contextmanager
def silence():
    """Nothing is printed inside: two workers at once would only confuse."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), \
            contextlib.redirect_stderr(null):
        yield


def prepare_world(world, size):
    """Builds a world and, in the folder `extras`, what the study needs beside it.

    hard.jsonl, easy.jsonl: evaluation problems that are not held out by the world itself.
    "recall R": the training problems with the reference answers of another recall.
    Raises ValueError for a world that other code has built.
    """
    home = size.world(world)
    if not home.exists():
        with silence():
            tiny.build(home, world, **size.build)
    manifest = json.loads((home / "world.json").read_text())
    if manifest["code"] != tiny.code_version():
        raise ValueError(f"{home} was built by another version of the code: delete it, and "
                         f"{size.extras(world)}, which was made from it")

    folder = size.extras(world)
    if (folder / "hard.jsonl").exists():
        return

    # 1. Training problems: as many as the world's own.
    count = len(load_problems(home / "train" / "hard.jsonl"))
    for settings in size.conditions.values():
        name = settings.get("data", "")
        if name.startswith("recall "):
            recall = float(name.removeprefix("recall "))
            tiny.write_problems(folder / name, count, world, False, recall)

    # 2. Evaluation problems. The hard ones are written last: they say that the folder is whole.
    held_out = set()
    for name in ("hard", "easy"):
        rows = load_problems(home / "eval" / f"{name}.jsonl")
        held_out |= {in_digits(row["problem"]) for row in rows}
    for name, wanted in (("easy", size.easy_problems), ("hard", size.hard_problems)):
        rows = tiny.make_problems(2 * wanted, name == "hard", f"study {world}", evaluation=True)
        fresh = [row for row in rows if in_digits(row["problem"]) not in held_out]
        write_jsonl(folder / f"{name}.jsonl", tiny.public_rows(fresh[:wanted]))


def in_digits(problem):
    """The text of a problem without its answer form: held-out sets are kept apart by it."""
    return problem.removesuffix(" in words")


def reversed_pairs(*arguments):
    pairs = tiny.training_pairs(*arguments)
    return [(problem, rejected, chosen) for problem, chosen, rejected in pairs]


# Misleading reward models, by what they are trained on: one has seen easy answers only and no
# demonstrations, the other prefers whatever the good one has learned to reject.
MISLEADING = {"weak": tiny.own_pairs, "reversed": reversed_pairs}


def build_reward_model(folder, *arguments):
    """tiny.build_reward_model, whole or not at all, and unless it is there."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    with silence():
        tiny.build_reward_model(unfinished, *arguments)
    unfinished.rename(folder)


def score_cold_start(world, size):
    """Groups of eight responses of the policy before training, verified and scored.

    -> rows of cold_start.csv: verdict and truth, and the score of every reward model there is
    """
    home = size.world(world)
    folders = {"good": home / "reward_model"}
    for kind in MISLEADING:
        if (size.extras(world) / kind).exists():
            folders[kind] = size.extras(world) / kind

    # The sampling is the same for each reward model, so the responses are, too.
    tokenizer = load_tokenizer(home / "policy")
    with silence():
        engine = make_engine("transformers", home / "policy", tokenizer)
    problems = load_problems(home / "train" / "hard.jsonl")[:size.cold_start_problems]
    rows = []
    for kind, folder in folders.items():
        with silence():
            reward_model = RewardModel(folder)
        records = sample_and_grade(engine, tokenizer, problems, 8, SamplingParams(48), seed=0,
                                   reward_model=reward_model)
        for group, record in enumerate(records):
            for verified, truth, score in zip(record["verified"], record["truth"],
                                              record["rm_scores"], strict=True):
                rows.append({"world": world, "reward model": kind, "group": group,
                             "verified": int(verified), "truth": int(truth), "score": score})
    return rows


# ---------------------------------------------------------------------------- one run

# The columns of study.csv that training logs in every step: means over the steps since the last
# evaluation.
TRAINING = {
    "all rejected": "verify/all_rejected",
    "auroc": "rm/auroc",
    "entropy": "policy/entropy",
}


def make_config(job, size):
    """The hero.Config of a job."""
    world = size.world(job.world)
    folder = size.extras(job.world)
    settings = {
        "policy": str(world / "policy"), "reward_model": str(world / "reward_model"),
        "data": str(world / "train"), "regime": "hard",
        "eval_data": f"{folder}/hard.jsonl,{folder}/easy.jsonl", "eval_samples": 1,
        "steps": size.steps, "eval_every": size.eval_every, "learning_rate": job.rate,
        "seed": job.world, "engine": "transformers", "save_every": 10**6, "groups_logged": 0,
    }
    _, settings_of_method = size.methods[job.method]
    settings |= size.conditions[job.condition] | settings_of_method

    # The names in conditions and methods become paths.
    if settings["data"] == "lucky":
        settings["data"] = str(world / "train" / "lucky.jsonl")
    elif settings["data"].startswith("recall "):
        settings["data"] = str(folder / settings["data"])
    if settings["reward_model"] in MISLEADING:
        settings["reward_model"] = str(folder / settings["reward_model"])
    name = f"{folder.name}-{job.cell}".replace(" / ", "-").replace(" ", "_")
    return hero.Config(**settings, name=name)


def train_job(job, size):
    """Trains one run, which leaves nothing on disk. -> the rows of its metrics.jsonl"""
    cfg = make_config(job, size)
    run = Path("runs") / cfg.name
    shutil.rmtree(run, ignore_errors=True)
    with silence():
        hero.train(cfg, None if cfg.reward in REWARDS else make_method(cfg.reward))
    metrics = [row for _, row in read_jsonl(run / "metrics.jsonl")]
    shutil.rmtree(run)
    return metrics


def evaluations(job, metrics, seconds):
    """The rows of a run in study.csv, one per evaluation. metrics: the rows of its metrics.jsonl"""
    rows = []
    since = []                                    # the training steps since the last evaluation
    for entry in metrics:
        since.append(entry)
        if "eval/hard/pass@1" not in entry:
            continue
        row = {"cell": job.cell, "world": job.world, "rate": job.rate, "step": entry["step"],
               "hard": entry["eval/hard/pass@1"], "easy": entry["eval/easy/pass@1"],
               "hard rm": entry["eval/hard/rm"]}
        for column, key in TRAINING.items():
            values = [entry[key] for entry in since if entry.get(key) is not None]
            row[column] = sum(values) / len(values) if values else None
        row["seconds"] = round(seconds)
        rows.append(row)
        since = []
    return rows


# ---------------------------------------------------------------------------- all runs


@contextlib.contextmanager
def worker_pool():
    """Two worker processes with one thread each. A kill ends them, after the runs they are in."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the same command resumes"))
    pool = ProcessPoolExecutor(2, get_context("spawn"), start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def write_csv(path, rows):
    """Writes a CSV file whole or not at all; floats have six significant digits."""
    table = pd.DataFrame(rows)
    write_file(path, table.to_csv(index=False, float_format="%.6g"))


def prepare(pool, jobs, size):
    """Everything on disk that jobs need."""
    worlds = sorted({job.world for job in jobs})
    list(pool.map(partial(prepare_world, size=size), worlds))

    # Two jobs that need the same reward model must not build it at once.
    wanted = {(job.world, size.conditions[job.condition].get("reward_model")) for job in jobs}
    futures = []
    for world, kind in product(worlds, MISLEADING):
        if (world, kind) not in wanted:
            continue
        futures.append(pool.submit(
            build_reward_model, size.extras(world) / kind, size.world(world) / "policy", world,
            size.rm_steps, MISLEADING[kind]))
    for future in futures:
        future.result()


def run_job(job, size, deadline, rows_of):
    """Makes one run. -> its rows of the CSV file, none after the deadline"""
    started = time.time()
    if started > deadline:
        return []
    metrics = train_job(job, size)
    return rows_of(job, metrics, time.time() - started)


def make_runs(pool, jobs, path, size, deadline=math.inf, prepare=prepare, rows_of=evaluations):
    """Makes the runs of jobs that are not in a CSV file, in their order. -> all its rows

    deadline: the time after which no further run begins. prepare: makes what the runs need;
    rows_of: the rows of one. The lab in neighbors/ has others.
    """
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["cell"], row["world"]) for row in rows}
    missing = [job for job in jobs if (job.cell, job.world) not in done]
    prepare(pool, missing, size)

    # Everything is saved after every run.
    futures = [pool.submit(run_job, job, size, deadline, rows_of) for job in missing]
    for number, future in enumerate(as_completed(futures), 1):
        new_rows = future.result()
        if not new_rows:
            continue
        rows += new_rows
        write_csv(path, rows)
        last = rows[-1]
        print(f"{number} of {len(missing)}: {last['cell']}, world {last['world']}: hard "
              f"{last['hard']:.3f}, easy {last['easy']:.3f}, {last['seconds']} s", flush=True)
    return rows


def make_cold_start(pool, out, size):
    """cold_start.csv, unless it is there: in the worlds of the misleading reward models."""
    if (out / "cold_start.csv").exists():
        return
    block = size.blocks.get("misleading", size.blocks.get("quick"))
    rows = []
    for scored in pool.map(partial(score_cold_start, size=size), block.worlds):
        rows += scored
    write_csv(out / "cold_start.csv", rows)


def start_from_nothing(size, out):
    """Empties the folder `out`, and deletes the worlds: what an earlier version of the code has
    left is no test of this one."""
    shutil.rmtree(out, ignore_errors=True)
    for world in size.sweep_worlds:
        shutil.rmtree(size.world(world), ignore_errors=True)
        shutil.rmtree(size.extras(world), ignore_errors=True)
    out.mkdir(parents=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--more", action="store_true", help="go on to ten worlds")
    parser.add_argument("--minutes", type=float, default=150,
                        help="begin no run after this many minutes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true",
                        help="a small world and two steps, from nothing, into runs/quick")
    args = parser.parse_args()
    deadline = time.time() + 60 * args.minutes
    os.chdir(ROOT)
    size = FULL
    out = HERE
    if args.quick:
        size = QUICK
        out = ROOT / "runs" / "quick"
        start_from_nothing(size, out)

    with worker_pool() as pool:
        # 1. The sweep, which chooses the learning rates, and everything else.
        rows = make_runs(pool, sweep_jobs(size), out / "study.csv", size)
        rates = choose_rates(rows, size)
        make_runs(pool, study_jobs(rates, size, args.more), out / "study.csv", size, deadline)

        # 2. The policy before training, and what verifier and reward models make of it.
        make_cold_start(pool, out, size)

    # 3. Tables and figures.
    write_report(out)


if __name__ == "__main__":
    main()

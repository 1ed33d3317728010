"""Our verifier beside public ones, on the same labeled pairs, in one run.

    pip install math-verify pylatexenc && pip install --no-deps verl
    python results/verifiers.py PAIRS_FOLDER          writes results/verifiers.csv and verifiers.md

PAIRS_FOLDER holds public_pairs_dev.jsonl, generated_pairs_dev.jsonl, external_pairs_dev.jsonl and
adversarial_dev.jsonl, with rows of {"gold", "response", "label", "source", "boxed", "convention",
"cls"}. They were collected from the test suites of public verifiers, from HardVerify-Math and from
models' answers to MATH (public), made by program from benchmarks' reference answers (generated),
taken from the test suites of seven other systems that judge answers, such as STACK and Doenet
(external: their open half, largely input of computer algebra), and written by hand (adversarial).
They are not in this repository, as not all sources may be redistributed. blind_pairs.jsonl, beside
this file, is: references and close answers written by language models that had not seen verify.py.

A verifier whose package is missing is left out. Every call runs in this process, one after the
other; a crash counts as "not equivalent". Adversarial rows are given to ours alone: Math-Verify
did not come back from them within 17 minutes, others evaluate text.
"""
import argparse
import csv
import importlib.metadata
import importlib.util
import io
import platform
import statistics
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import verify as ours  # noqa: E402
from problems import read_jsonl  # noqa: E402

FILES = ("public_pairs", "generated_pairs", "external_pairs", "adversarial")
COLUMNS = ["verifier", "rows", "count", "recall", "precision", "fpr", "accuracy", "median_us",
           "p99_us", "max_us"]


# --- the rows of the tables -----------------------------------------------------------------------

def is_boxed(row: dict) -> bool:
    return row["boxed"] and not row["convention"]


def is_hardverify(row: dict) -> bool:
    return row["source"] == "hardverify_math"


UNSEEN = ("blind E",)

# title, file, which of its rows
GROUPS = [
    ("public, boxed, no convention rows", "public_pairs", is_boxed),
    ("the same without HardVerify-Math", "public_pairs",
     lambda row: is_boxed(row) and not is_hardverify(row)),
    ("HardVerify-Math, decidable by mathematics", "public_pairs",
     lambda row: is_hardverify(row) and row["cls"] == "exact"),
    ("HardVerify-Math, all", "public_pairs", is_hardverify),
    ("free text, no box", "public_pairs", lambda row: not row["boxed"]),
    ("generated answer forms", "generated_pairs", lambda row: True),
    ("external: other systems' test suites, open half", "external_pairs", lambda row: True),
    ("written blind, the rules were mended after them", "blind_pairs",
     lambda row: row["source"] not in UNSEEN),
    ("written blind, no rule was mended after them", "blind_pairs",
     lambda row: row["source"] in UNSEEN),
    ("adversarial", "adversarial", lambda row: True),
]


class Result(NamedTuple):
    """What one verifier said of one row."""
    label: bool
    verdict: bool
    seconds: float


# --- the verifiers --------------------------------------------------------------------------------

def find_verifiers() -> dict:
    """{name: function (response, gold) -> is it correct?} of every verifier that is installed."""
    found = {"verify.py (ours)": lambda response, gold: ours.verify(response, gold).correct}
    for find in (find_math_verify, find_verl_math_verify, find_verl_math_reward,
                 find_verl_prime_math):
        try:
            name, check = find()
            found[name] = check
        except (ImportError, AttributeError, FileNotFoundError) as error:
            print("left out:", error)
    return found


def find_math_verify():
    import math_verify

    def check(response, gold):
        return math_verify.verify(math_verify.parse(f"${gold}$"), math_verify.parse(response))

    return f"Math-Verify {importlib.metadata.version('math-verify')}", check


def find_verl_math_verify():
    module = load_verl("math_verify.py")

    def check(response, gold):
        return module._verify_in_subprocess(f"\\boxed{{{gold}}}", response)

    return f"verl {importlib.metadata.version('verl')} math_verify", check


def find_verl_math_reward():
    module = load_verl("math_reward.py")
    return f"verl {importlib.metadata.version('verl')} math_reward", module.compute_score


def find_verl_prime_math():
    module = load_verl("prime_math/__init__.py")

    def check(response, gold):
        return module.compute_score(response, gold)[0]

    return f"verl {importlib.metadata.version('verl')} prime_math", check


def load_verl(file: str):
    """One of verl's reward functions from its file: the package around it needs a GPU's stack."""
    folder = Path(importlib.util.find_spec("verl").origin).parent / "utils" / "reward_score"
    return load_module(folder / file, "verl_" + file.split(".")[0].split("/")[0])


def load_module(path: Path, name: str):
    """A module from its file, without the package around it."""
    is_package = path.name == "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if is_package else None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# --- measuring ------------------------------------------------------------------------------------

def measure(name: str, check, rows: list[dict]) -> list[Result]:
    """Calls a verifier on every row, with its output silenced."""
    results = []
    for row in rows:
        start = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()):
                verdict = bool(check(row["response"], row["gold"]))
        except Exception:
            verdict = False
        results.append(Result(bool(row["label"]), verdict, time.perf_counter() - start))
    total = sum(result.seconds for result in results)
    print(f"{name}: {len(rows)} rows in {total:.1f} s", flush=True)
    return results


def table_row(name: str, group: str, results: list[Result]) -> dict:
    """One verifier's rates in percent and times in microseconds on one group of rows."""
    true_positives = sum(result.label and result.verdict for result in results)
    positives = sum(result.label for result in results)
    accepted = sum(result.verdict for result in results)
    right = sum(result.label == result.verdict for result in results)
    times = sorted(result.seconds * 1e6 for result in results)
    return {
        "verifier": name,
        "rows": group,
        "count": len(results),
        "recall": percent(true_positives, positives),
        "precision": percent(true_positives, accepted),
        "fpr": percent(accepted - true_positives, len(results) - positives),
        "accuracy": percent(right, len(results)),
        "median_us": round(statistics.median(times)),
        "p99_us": round(times[int(0.99 * len(times))]),
        "max_us": round(times[-1]),
    }


def percent(part: int, whole: int) -> float | str:
    return round(100 * part / whole, 1) if whole else ""


def measure_throughput(rows: list[dict], workers: int = 2) -> list[str]:
    """verify_all on 4,096 ordinary rollouts, and on rows that all differ; three times each."""
    reasoning = "Let us work this out step by step, checking each case in turn. " * 60
    rollouts = []
    for row in rows[:512]:
        rollouts += [(reasoning + row["response"], row["gold"])] * 8
    distinct = [(row["response"], row["gold"]) for row in rows]

    lines = []
    for name, pairs in (
            ("4,096 rollouts (512 prompts x 8, 3,900 characters)", rollouts),
            (f"{len(distinct):,} different rows", distinct)):
        rates = ", ".join(f"{rows_per_second(pairs, workers):,.0f}" for _ in range(3))
        lines.append(f"`verify_all`, {workers} workers, {name}: {rates} rows per second "
                     "(fresh workers each)")
    return lines


def rows_per_second(pairs: list[tuple[str, str]], workers: int) -> float:
    """The speed of verify_all with new workers, whose start is not counted."""
    ours.close_pool()
    warm_up = 8 * workers
    ours.verify_all([r"\boxed{1}"] * warm_up, ["1"] * warm_up, workers=workers)

    responses, references = zip(*pairs, strict=True)
    start = time.perf_counter()
    ours.verify_all(responses, references, workers=workers)
    return len(pairs) / (time.perf_counter() - start)


# --- the page -------------------------------------------------------------------------------------

def format_page(table: list[dict], speed: list[dict], throughput: list[str]) -> str:
    """results/verifiers.md: a table per group of rows, and one of speeds."""
    lines = [
        "# Verifiers on the same labeled pairs", "",
        f"Command: `python results/verifiers.py PAIRS_FOLDER` (Python {platform.python_version()}; "
        "the columns are those of the paper's Table 1, in percent). Times depend on the machine "
        "and its load: compare them within a run. The external rows are the open half of other "
        "systems' test suites, largely input of computer algebra. The blind rows were written by "
        "language models that had not seen verify.py, most of them as traps "
        "([sets and numbers](verifiers_remaining.md)).", ""]
    for group in dict.fromkeys(row["rows"] for row in table):
        rows = [row for row in table if row["rows"] == group]
        lines += [
            f"## {group} ({rows[0]['count']} rows)", "",
            "| verifier | recall | precision | FPR | accuracy | median us | 99 % us | max us |",
            "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            cells = [row["verifier"], *(row[column] for column in COLUMNS[3:])]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        lines.append("")

    lines += [
        "## Speed, public and generated rows together, one process", "",
        "| verifier | median us | 99 % us | max us | median against ours |",
        "|---|---|---|---|---|"]
    for row in speed:
        ratio = row["median_us"] / speed[0]["median_us"]
        lines.append(f"| {row['verifier']} | {row['median_us']} | {row['p99_us']} | "
                     f"{row['max_us']} | {ratio:.2f} |")
    return "\n".join([*lines, "", *throughput]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path, metavar="PAIRS_FOLDER",
                        help="the folder with the four *_dev.jsonl files")
    args = parser.parse_args()
    data = {}
    for file in FILES:
        data[file] = [row for _, row in read_jsonl(args.pairs / f"{file}_dev.jsonl")]
    data["blind_pairs"] = [row for _, row in read_jsonl(HERE / "blind_pairs.jsonl")]

    table, speed = [], []
    for name, check in find_verifiers().items():
        check(r"\boxed{1}", "1")                            # its imports are not timed
        results = {}
        for file, rows in data.items():
            if file != "adversarial" or "ours" in name:
                results[file] = measure(f"{name}, {file}", check, rows)

        for group, file, keep in GROUPS:
            if file in results:
                both = zip(data[file], results[file], strict=True)
                table.append(table_row(name, group, [result for row, result in both if keep(row)]))
        ordinary = results["public_pairs"] + results["generated_pairs"]
        speed.append(table_row(name, "public and generated", ordinary))

    with open(HERE / "verifiers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table + speed)
    throughput = measure_throughput(data["generated_pairs"] + data["public_pairs"])
    page = format_page(table, speed, throughput)
    (HERE / "verifiers.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()

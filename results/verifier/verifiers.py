"""Our verifier beside public ones, on the same labeled pairs, in one run.

    pip install math-verify pylatexenc && pip install --no-deps verl
    python results/verifier/verifiers.py PAIRS_FOLDER     writes verifiers.csv and verifiers.md

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
import importlib.metadata
import importlib.util
import io
import platform
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
import verify as ours  # noqa: E402
from problems import read_jsonl  # noqa: E402

FILES = ("public_pairs", "generated_pairs", "external_pairs", "adversarial")


# --- the rows of the tables -----------------------------------------------------------------------

BOXED = "boxed and not convention"
HARDVERIFY = "source == 'hardverify_math'"

# title, file, which of its rows (all, if empty)
GROUPS = [
    ("public, boxed, no convention rows", "public_pairs", BOXED),
    ("the same without HardVerify-Math", "public_pairs", f"{BOXED} and not {HARDVERIFY}"),
    ("HardVerify-Math, decidable by mathematics", "public_pairs",
     f"{HARDVERIFY} and cls == 'exact'"),
    ("HardVerify-Math, all", "public_pairs", HARDVERIFY),
    ("free text, no box", "public_pairs", "not boxed"),
    ("generated answer forms", "generated_pairs", ""),
    ("external: other systems' test suites, open half", "external_pairs", ""),
    ("written blind, the rules were mended after them", "blind_pairs", "source != 'blind E'"),
    ("written blind, no rule was mended after them", "blind_pairs", "source == 'blind E'"),
    ("adversarial", "adversarial", ""),
]


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

def measure(name: str, check, rows: pd.DataFrame) -> pd.DataFrame:
    """Calls a verifier on every row, with its output silenced. -> the rows, verdict and seconds"""
    verdicts, seconds = [], []
    for response, gold in zip(rows.response, rows.gold, strict=True):
        start = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()):
                verdicts.append(bool(check(response, gold)))
        except Exception:
            verdicts.append(False)
        seconds.append(time.perf_counter() - start)
    print(f"{name}: {len(rows)} rows in {sum(seconds):.1f} s", flush=True)
    return rows.assign(verdict=verdicts, seconds=seconds)


def table_row(name: str, group: str, rows: pd.DataFrame) -> dict:
    """One verifier's rates in percent and times in microseconds on one group of rows."""
    microseconds = rows.seconds * 1e6
    return {
        "verifier": name,
        "rows": group,
        "count": len(rows),
        "recall": percent(rows.verdict[rows.label]),
        "precision": percent(rows.label[rows.verdict]),
        "fpr": percent(rows.verdict[~rows.label]),
        "accuracy": percent(rows.verdict == rows.label),
        "median_us": round(microseconds.median()),
        "p99_us": round(microseconds.quantile(0.99)),
        "max_us": round(microseconds.max()),
    }


def percent(hits: pd.Series) -> float | str:
    return round(100 * float(hits.mean()), 1) if len(hits) else ""


def measure_throughput(rows: pd.DataFrame, workers: int = 2) -> list[str]:
    """verify_all on 4,096 ordinary rollouts, and on rows that all differ; three times each."""
    reasoning = "Let us work this out step by step, checking each case in turn. " * 60
    distinct = list(zip(rows.response, rows.gold, strict=True))
    rollouts = [(reasoning + response, gold) for response, gold in distinct[:512] for _ in range(8)]

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
    """verifiers.md: a table per group of rows, and one of speeds."""
    lines = [
        "# Verifiers on the same labeled pairs", "",
        "Command: `python results/verifier/verifiers.py PAIRS_FOLDER` (Python "
        f"{platform.python_version()}; the columns are those of the paper's Table 1, in percent). "
        "Times depend on the machine and its load: compare them within a run. The external rows "
        "are the open half of other systems' test suites, largely input of computer algebra. The "
        "blind rows were written by language models that had not seen verify.py, most of them as "
        "traps ([sets and numbers](verifiers_remaining.md)).", ""]
    for group in dict.fromkeys(row["rows"] for row in table):
        rows = [row for row in table if row["rows"] == group]
        lines += [
            f"## {group} ({rows[0]['count']} rows)", "",
            "| verifier | recall | precision | FPR | accuracy | median us | 99 % us | max us |",
            "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            cells = [row["verifier"], *list(row.values())[3:]]
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
    paths = {file: args.pairs / f"{file}_dev.jsonl" for file in FILES}
    paths["blind_pairs"] = HERE / "blind_pairs.jsonl"
    data = {file: pd.DataFrame(row for _, row in read_jsonl(path)) for file, path in paths.items()}

    table, speed = [], []
    for name, check in find_verifiers().items():
        check(r"\boxed{1}", "1")                            # its imports are not timed
        results = {}
        for file, rows in data.items():
            if file != "adversarial" or "ours" in name:
                results[file] = measure(f"{name}, {file}", check, rows)

        for group, file, condition in GROUPS:
            if file in results:
                rows = results[file].query(condition) if condition else results[file]
                table.append(table_row(name, group, rows))
        ordinary = pd.concat([results["public_pairs"], results["generated_pairs"]])
        speed.append(table_row(name, "public and generated", ordinary))

    pd.DataFrame(table + speed).to_csv(HERE / "verifiers.csv", index=False)
    throughput = measure_throughput(pd.concat([data["generated_pairs"], data["public_pairs"]]))
    page = format_page(table, speed, throughput)
    (HERE / "verifiers.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()

"""Our verifier beside public ones, on the same labelled pairs, in one run.

    pip install math-verify pylatexenc && pip install --no-deps verl
    python results/verifiers.py PAIRS_FOLDER          writes results/verifiers.csv and verifiers.md

PAIRS_FOLDER holds *_dev.jsonl files of {"gold", "response", "label", "source", "boxed",
"convention", "cls"}. A verifier whose package is missing is left out. Every call runs in this
process, one after the other; a crash counts as "not equivalent". Adversarial rows are given to
ours alone: Math-Verify did not come back from them within 17 minutes, others evaluate text.
"""

import argparse
import csv
import importlib.util
import io
import json
import platform
import statistics
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import verify as ours  # noqa: E402

COLUMNS = [
    "verifier",
    "rows",
    "count",
    "recall",
    "precision",
    "fpr",
    "accuracy",
    "median_us",
    "p99_us",
    "max_us",
]
GROUPS = [
    (
        "public, boxed, no convention rows",
        "public_pairs",
        lambda row: row["boxed"] and not row["convention"],
    ),
    (
        "the same without HardVerify-Math",
        "public_pairs",
        lambda row: row["boxed"] and not row["convention"] and row["source"] != "hardverify_math",
    ),
    (
        "HardVerify-Math, decidable by mathematics",
        "public_pairs",
        lambda row: row["source"] == "hardverify_math" and row["cls"] == "exact",
    ),
    ("HardVerify-Math, all", "public_pairs", lambda row: row["source"] == "hardverify_math"),
    ("free text, no box", "public_pairs", lambda row: not row["boxed"]),
    ("generated answer forms", "generated_pairs", lambda row: True),
    ("adversarial", "adversarial", lambda row: True),
]


def module(path: Path, name: str):
    """A module from its file, without the package around it."""
    spec = importlib.util.spec_from_file_location(
        name,
        path,
        submodule_search_locations=([str(path.parent)] if path.name == "__init__.py" else None),
    )
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def verifiers() -> dict:
    """name: function of response and reference."""
    found = {"verify.py (ours)": lambda response, gold: ours.verify(response, gold).correct}
    try:
        import math_verify as peer

        found[f"Math-Verify {importlib.metadata.version('math-verify')}"] = (
            lambda response, gold: peer.verify(peer.parse(f"${gold}$"), peer.parse(response))
        )
    except ImportError as error:
        print("left out:", error)
    try:
        folder = Path(importlib.util.find_spec("verl").origin).parent / "utils" / "reward_score"
        version = importlib.metadata.version("verl")
        wrapper = module(folder / "math_verify.py", "verl_math_verify")._verify_in_subprocess
        found[f"verl {version} math_verify"] = lambda response, gold: wrapper(
            f"\\boxed{{{gold}}}", response
        )
        reward = module(folder / "math_reward.py", "verl_math_reward").compute_score
        found[f"verl {version} math_reward"] = reward
        prime = module(folder / "prime_math" / "__init__.py", "verl_prime_math").compute_score
        found[f"verl {version} prime_math"] = lambda response, gold: prime(response, gold)[0]
    except (ImportError, AttributeError, FileNotFoundError) as error:
        print("left out:", error)
    return found


def measure(name: str, check, rows: list[dict]) -> list[tuple[bool, float]]:
    out = []
    for row in rows:
        start = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()):
                correct = bool(check(row["response"], row["gold"]))
        except Exception:
            correct = False
        out.append((correct, time.perf_counter() - start))
    print(f"{name}: {len(rows)} rows in {sum(seconds for _, seconds in out):.1f} s", flush=True)
    return out


def line(name: str, group: str, rows: list[dict], results: list[tuple[bool, float]]) -> dict:
    cells = {
        (label, correct): sum(
            bool(row["label"]) == label and got == correct
            for row, (got, _) in zip(rows, results, strict=True)
        )
        for label in (True, False)
        for correct in (True, False)
    }
    tp, fn, fp, tn = cells[True, True], cells[True, False], cells[False, True], cells[False, False]
    times = sorted(seconds * 1e6 for _, seconds in results)
    share = lambda part, of: round(100 * part / of, 1) if of else ""  # noqa: E731
    return dict(
        zip(
            COLUMNS,
            (
                name,
                group,
                len(rows),
                share(tp, tp + fn),
                share(tp, tp + fp),
                share(fp, fp + tn),
                share(tp + tn, len(rows)),
                round(statistics.median(times)),
                round(times[int(0.99 * len(times))]),
                round(times[-1]),
            ),
            strict=True,
        )
    )


def throughput(rows: list[dict], workers: int = 2) -> list[str]:
    """verify_all on 4,096 ordinary rollouts, and on rows that all differ; three times each."""
    filler = (
        "Let us work this out step by step, checking each case in turn. " * 60
    )  # 3,800 characters
    prompts = rows[:512]
    rollouts = [(filler + row["response"], row["gold"]) for row in prompts for _ in range(8)]
    distinct = [(row["response"], row["gold"]) for row in rows]
    lines = []
    for name, pairs in (
        ("4,096 rollouts (512 prompts x 8, 3,900 characters)", rollouts),
        (f"{len(distinct):,} different rows", distinct),
    ):
        rates = []
        for _ in range(3):
            ours.close_pool()
            ours.verify_all([r"\boxed{1}"] * 8 * workers, ["1"] * 8 * workers, workers=workers)
            start = time.perf_counter()
            ours.verify_all(*zip(*pairs, strict=True), workers=workers)
            rates.append(len(pairs) / (time.perf_counter() - start))
        lines.append(
            f"`verify_all`, {workers} workers, {name}: "
            + ", ".join(f"{rate:,.0f}" for rate in rates)
            + " rows a second (fresh workers each)"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path)
    args = parser.parse_args()
    data = {
        name: [
            json.loads(text) for text in (args.pairs / f"{name}_dev.jsonl").read_text().splitlines()
        ]
        for name in ("public_pairs", "generated_pairs", "adversarial")
    }
    table, speed = [], []
    for name, check in verifiers().items():
        check(r"\boxed{1}", "1")  # imports
        results = {
            part: measure(f"{name}, {part}", check, rows)
            for part, rows in data.items()
            if part != "adversarial" or "ours" in name
        }
        for group, part, keep in GROUPS:
            if part in results:
                kept = [at for at, row in enumerate(data[part]) if keep(row)]
                table.append(
                    line(
                        name,
                        group,
                        [data[part][at] for at in kept],
                        [results[part][at] for at in kept],
                    )
                )
        ordinary = [part for part in results if part != "adversarial"]
        speed.append(
            line(
                name,
                "public and generated",
                [row for part in ordinary for row in data[part]],
                [got for part in ordinary for got in results[part]],
            )
        )
    with open(HERE / "verifiers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table + speed)
    text = [
        "# Verifiers on the same labelled pairs",
        "",
        f"Command: `python results/verifiers.py PAIRS_FOLDER` (Python "
        f"{platform.python_version()}; the "
        "columns are those of the paper's Table 1, in percent).",
        "",
    ]
    for group in dict.fromkeys(row["rows"] for row in table):
        lines = [row for row in table if row["rows"] == group]
        text += [
            f"## {group} ({lines[0]['count']} rows)",
            "",
            "| verifier | recall | precision | FPR | accuracy | median us | 99 % us | max us |",
            "|---|---|---|---|---|---|---|---|",
        ]
        text += [
            "| " + " | ".join(str(row[key]) for key in ("verifier", *COLUMNS[3:])) + " |"
            for row in lines
        ] + [""]
    text += [
        "## Speed, public and generated rows together, one process",
        "",
        "| verifier | median us | 99 % us | max us | median against ours |",
        "|---|---|---|---|---|",
    ]
    text += [
        f"| {row['verifier']} | {row['median_us']} | {row['p99_us']} | {row['max_us']} | "
        f"{row['median_us'] / speed[0]['median_us']:.2f} |"
        for row in speed
    ] + [""]
    text += throughput([row for part in ("generated_pairs", "public_pairs") for row in data[part]])
    (HERE / "verifiers.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()

"""Do the benchmarks' own reference answers verify against themselves, and not against others?

    python results/references.py FOLDER            writes results/references.csv and references.md

FOLDER holds NAME.jsonl files of {"problem", "answer"}. Each reference is given as a response,
\\boxed{reference}, to its own problem and to the one before it. Neighbours often have the same
answer ("2" and "2"): the last column leaves out pairs whose references are the same text.
"""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from eval import load_problems  # noqa: E402
from verify import verify_all  # noqa: E402

NAMES = ("math_test_300", "amc23", "gsm8k_test_200", "minerva", "olympiadbench_200",
         "hardverify_dev")
COLUMNS = ["benchmark", "problems", "accepted for its own problem",
           "accepted for another problem", "pairs of equal text", "accepted, the others"]


def measure(path):
    """-> one row of COLUMNS; the shares as "percent (count of count)"."""
    answers = [str(row["answer"]) for row in load_problems(path)]
    others = answers[1:] + answers[:1]

    def accepted(responses):
        return [verdict.correct for verdict in
                verify_all([f"\\boxed{{{text}}}" for text in responses], answers)]

    def share(hits):
        return f"{100 * sum(hits) / len(hits):.1f} % ({sum(hits)} of {len(hits)})"
    own, other = accepted(answers), accepted(others)
    equal = [a == b for a, b in zip(answers, others, strict=True)]
    distinct = [hit for hit, same in zip(other, equal, strict=True) if not same]
    return [path.stem, len(answers), share(own), share(other), sum(equal), share(distinct)]


def main():
    rows = [measure(Path(sys.argv[1]) / f"{name}.jsonl") for name in NAMES]
    with open(HERE / "references.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    (HERE / "references.md").write_text(
        text + "\n\n`python results/references.py FOLDER`: each reference answer as a boxed "
        "response to its own problem and to the one before it.\n")
    print(text)


if __name__ == "__main__":
    main()

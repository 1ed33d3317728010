"""Where problems come from: JSONL files, the hub, the benchmarks; and files written whole.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

# ---------------------------------------------------------------------------- the benchmarks


class Benchmark(NamedTuple):
    """Where a benchmark's rows are, and who grades them."""
    source: str                     # on the hub, or a JSONL file
    config: str | None
    split: str
    problem: str                    # its column of problems
    answer: str                     # its column of reference answers
    judged: bool                    # by a language model; else by the rule verifier

# the paper's six; rows: 500, 40, 272, 674, 250, about 750
BENCHMARKS = {
    "math500": Benchmark("HuggingFaceH4/MATH-500", None, "test", "problem", "answer", False),
    "amc23": Benchmark("math-ai/amc23", None, "test", "question", "answer", False),
    "minerva": Benchmark("math-ai/minervamath", None, "test", "question", "answer", False),
    "olympiadbench": Benchmark("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", "question",
                               "final_answer", False),
    "hardverify": Benchmark("zhangchenxu/HardVerify-Math", None, "train", "question",
                            "ground_truth", True),
    "textbook": Benchmark("data/textbook.jsonl", None, "train", "question", "reference_answer",
                          True)}

# what the policy is asked beside the problem, in training and in evaluation
STEP_BY_STEP = "\nPlease reason step by step, and put your final answer within \\boxed{}."


# ---------------------------------------------------------------------------- files


def first_line(error):
    """The beginning of an exception's text, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def write_file(path, text):
    """Writes a file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)


def write_jsonl(path, rows):
    write_file(Path(path), "".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path):
    """Streams (place, row) from a JSONL file. ValueError names the line that is not JSON."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON ({error.msg}): "
                                 f"{line[:60].strip()!r}") from error
            yield f"{path} line {number}", row


def read_log(path, *keys):
    """Rows of a JSONL file that a program appends to. A line that is not whole, as a kill leaves
    behind, is left out and named on stderr; ValueError where a row lacks one of `keys`."""
    rows = []
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist")
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError:
                print(f"{path} line {number} is not whole and is left out", file=sys.stderr)
                continue
            missing = [key for key in keys if row is not None and key not in row]
            if missing:
                raise ValueError(f"{path} line {number} has no {missing[0]!r}")
            rows += [row] if row is not None else []
    return rows


# ---------------------------------------------------------------------------- problems


def normalize_row(row, where, known=None):
    """A row as {"problem", "answer", ...}. ValueError if it has no problem or no answer.

    known: the Benchmark whose columns the row may have instead; several answers (OlympiadBench)
    are joined by commas, and what a problem builds on (its "context") is put before it.
    """
    row = dict(row) if isinstance(row, dict) else {}
    for key, column in (("problem", known.problem), ("answer", known.answer)) if known else ():
        value = row.get(column, row.get(key))
        row[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
    if known and row.get("context"):
        row["problem"] = f"{row['context']}\n{row['problem']}"
    for key in ("problem", "answer"):
        if row.get(key) is None or not str(row[key]).strip():
            raise ValueError(f"{where} has no {key!r}: every row needs a problem and an answer")
    return row | {"answer": str(row["answer"])} if known else row


def load_problems(path, known=None):
    """Rows of a JSONL file with "problem" and "answer". ValueError names the line at fault."""
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist: give a JSONL file of problems and answers")
    rows = [normalize_row(row, where, known) for where, row in read_jsonl(path)]
    if not rows:
        raise ValueError(f"{path} holds no problems")
    return rows


def stream_hub(name, split, config=None, revision=None, **options):
    """Streams the rows of a dataset on the hub, or in a local folder of the same files. -> dicts

    options: of load_dataset, as columns=[...] to fetch no others. Raises ValueError where there is
    no such dataset or it cannot be reached. Library: https://huggingface.co/docs/datasets/stream
    """
    from datasets import load_dataset
    try:
        yield from load_dataset(str(name), config, split=split, revision=revision,
                                streaming=True, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read split {split!r} of {str(name)!r}: it is neither a folder of "
                         "data files nor a hub dataset that can be reached from here "
                         f"({first_line(error)}); a local JSONL file always works"
                         ) from error


def load_benchmarks(entries):
    """{name: problems}. ValueError for what cannot be read, or if two have the same name.

    An entry is a name in BENCHMARKS, read from the hub; a JSONL file, whose name without its ending
    is the benchmark's; or NAME=PATH, with PATH a JSONL file or a folder of that benchmark's files.
    """
    benchmarks = {}
    for entry in map(str, entries):
        name, given, source = entry.partition("=")
        if name not in BENCHMARKS:
            name, source = Path(entry).stem, entry
        elif not given:
            source = BENCHMARKS[name].source
        known = BENCHMARKS.get(name)
        if name in benchmarks:
            raise ValueError(f"two evaluation files are called {name}: rename one of them")
        if entry == "textbook" and not Path(source).exists():
            raise ValueError(f"{source} does not exist: make it with python eval.py textbook")
        if not known or Path(source).is_file() or source.endswith(".jsonl"):
            benchmarks[name] = load_problems(source, known)
        else:
            rows = stream_hub(source, known.split, None if Path(source).is_dir() else known.config)
            benchmarks[name] = [normalize_row(row, f"{source} row {number}", known)
                                for number, row in enumerate(rows, 1)]
    return benchmarks


# ---------------------------------------------------------------------------- training problems

SOURCE = "nvidia/OpenMathReasoning"

ANSWERED = "has_answer_extracted"                  # its problem_type where there is an answer


def stream_file(path):
    """Streams the rows of a JSONL file. ValueError names the line that is no problem and answer."""
    for where, row in read_jsonl(path):
        if not isinstance(row, dict) or not all(problem_and_answer(row)):
            raise ValueError(f"{where}: every row needs a 'problem' and an 'answer' (or "
                             f"'expected_answer'), not {json.dumps(row)[:60]}")
        yield row


def problem_and_answer(row):
    """The two texts of a row; empty where there is none."""
    answer = row.get("answer", row.get("expected_answer"))
    return ["" if value is None else str(value).strip() for value in (row.get("problem"), answer)]


def stream_problems(source, split="cot", revision=None):
    """Streams {"problem", "answer"} and "accepted" where given, from a JSONL file or from a hub
    dataset (or a local folder of its files).

    Rows of a dataset without an answer, or, where there is a problem_type, of another than ANSWERED
    are passed over. Raises ValueError if no row is left, and as stream_file and stream_hub do.
    """
    if Path(source).is_file():
        rows = stream_file(source)
    else:                                          # the solutions in OpenMathReasoning are 70 GB
        wanted = ["problem", "expected_answer", "problem_type"] if source == SOURCE else None
        rows = stream_hub(source, split, None, revision, columns=wanted)
    count, row, found = 0, {}, False
    for row in rows:
        count += 1
        problem, answer = problem_and_answer(row)
        if problem and answer and row.get("problem_type", ANSWERED) == ANSWERED:
            found = True
            accepted = {"accepted": row["accepted"]} if "accepted" in row else {}
            yield {"problem": problem, "answer": answer} | accepted
    if not found:
        raise ValueError(f"{source} holds no problem with an answer in its {count} rows of columns "
                         f"{list(row)}: 'problem' and 'answer' or 'expected_answer' are wanted, "
                         f"and {ANSWERED} where there is a 'problem_type'")

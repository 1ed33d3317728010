"""Where problems come from: the benchmarks, JSONL files, and datasets on the Hugging Face hub.

A problem is a row {"problem": str, "answer": str}, of a JSONL file with one such row per line. It
may carry more: "accepted" lists every phrasing of the answer that is right.

    load_problems(path)           all problems of one file
    load_benchmarks(entries)      the benchmarks that an evaluation asks for, by name or by file
    stream_problems(source)       a source of training problems, too large to hold in memory

The functions that read and write JSONL are here too. Every other file of the project uses them.
"""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

# ---------------------------------------------------------------------------- the benchmarks


class Benchmark(NamedTuple):
    """Where the rows of a benchmark are, what its columns are called, and who grades it."""
    source: str                     # a dataset on the hub, or a JSONL file
    config: str | None              # of the hub dataset
    split: str
    problem: str                    # the column of problems
    answer: str                     # the column of reference answers
    judged: bool                    # graded by a language model; otherwise by the rule verifier


# The six benchmarks of the paper. To add one, add one line: eval.py then knows its name, and
# results/paper_tables.py counts it as easy (graded by the verifier) or hard (judged).
BENCHMARKS = {
    # 500 problems
    "math500": Benchmark("HuggingFaceH4/MATH-500", None, "test", "problem", "answer", False),
    # 40 problems
    "amc23": Benchmark("math-ai/amc23", None, "test", "question", "answer", False),
    # 272 problems
    "minerva": Benchmark("math-ai/minervamath", None, "test", "question", "answer", False),
    # 674 problems
    "olympiadbench": Benchmark("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", "question",
                               "final_answer", False),
    # 250 problems
    "hardverify": Benchmark("zhangchenxu/HardVerify-Math", None, "train", "question",
                            "ground_truth", True),
    # about 750 problems; the file is made by `python prepare.py textbook`
    "textbook": Benchmark("data/textbook.jsonl", None, "train", "question", "reference_answer",
                          True),
}

# What the policy is asked in addition to the problem, in training and in evaluation.
STEP_BY_STEP = "\nPlease reason step by step, and put your final answer within \\boxed{}."


# ---------------------------------------------------------------------------- files


def first_line(error):
    """The first line of an exception's text, at most 200 characters, for a one-line message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def write_file(path, text):
    """Writes a text file whole or not at all, and makes its folder if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def write_jsonl(path, rows):
    """Writes a JSONL file, one row per line, whole or not at all."""
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows))


def append_jsonl(path, rows):
    """Appends rows to a JSONL file, and makes the file and its folder if they are missing.

    The file is locked meanwhile, so that several processes may append to it. If a kill has cut the
    last line of the file short, that line is ended first: the new rows never become part of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()

    with open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)          # until the file is closed
        size = file.seek(0, os.SEEK_END)
        if size > 0:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        file.write(lines)


def read_jsonl(path, required=(), skip_torn=False):
    """Streams (where, row) from a JSONL file; where is "PATH line NUMBER", for messages.

    required: keys that every row must have.
    skip_torn: skip lines that are not whole JSON, as a kill leaves them, and name them on stderr.
    Raises ValueError if the file does not exist, if a line is not JSON in UTF-8, or if a key is
    missing.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist")

    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path} line {number}"
            if not line.strip():
                continue

            try:
                row = json.loads(line.decode())
            except ValueError as error:                    # not JSON, or not UTF-8
                if skip_torn:
                    print(f"{where} is incomplete and is skipped", file=sys.stderr)
                    continue
                beginning = line[:60].strip().decode(errors="replace")
                raise ValueError(f"{where} is not JSON ({first_line(error)}): "
                                 f"{beginning!r}") from error

            for key in required:
                if not isinstance(row, dict) or key not in row:
                    raise ValueError(f"{where} has no {key!r}")
            yield where, row


# ---------------------------------------------------------------------------- problems


def normalize_row(row, where, benchmark=None):
    """A row of a file or dataset as a problem: {"problem", "answer", ...}.

    benchmark: the Benchmark whose column names the row may use instead. Then several answers (of
    OlympiadBench) are joined with commas, the text that a problem builds on (its "context") is put
    before it, and the answer becomes a string.
    Raises ValueError, which begins with `where`, if the problem or the answer is missing.
    """
    row = dict(row) if isinstance(row, dict) else {}
    if benchmark:
        row["problem"] = joined(row.get(benchmark.problem, row.get("problem")))
        row["answer"] = joined(row.get(benchmark.answer, row.get("answer")))

    for key in ("problem", "answer"):
        if row.get(key) is None or not str(row[key]).strip():
            raise ValueError(f"{where} has no {key!r}: every row needs a problem and an answer")

    if benchmark:
        row["answer"] = str(row["answer"])
        if row.get("context"):
            row["problem"] = f"{row['context']}\n{row['problem']}"
    return row


def joined(value):
    """["1", "-1"] as "1, -1"; anything but a list as it is."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def load_problems(path, benchmark=None):
    """All problems of a JSONL file; `benchmark` as in normalize_row. -> list of rows

    Raises ValueError if the file does not exist or is empty, and if a line is not a problem.
    """
    problems = [normalize_row(row, where, benchmark) for where, row in read_jsonl(path)]
    if not problems:
        raise ValueError(f"{path} holds no problems")
    return problems


def stream_hub(name, split, config=None, revision=None, **options):
    """Streams the rows, dicts, of a dataset on the hub or in a local folder of data files.

    options: passed to load_dataset, for example columns=[...] to download only these.
    Raises ValueError if there is no such dataset or if it cannot be reached.
    Library: https://huggingface.co/docs/datasets/stream
    """
    from datasets import load_dataset
    try:
        yield from load_dataset(str(name), config, split=split, revision=revision,
                                streaming=True, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read split {split!r} of {str(name)!r}: it is neither a folder of "
                         "data files nor a hub dataset that can be reached from here "
                         f"({first_line(error)}); a local JSONL file always works") from error


def load_benchmarks(entries):
    """The problems of several benchmarks. -> {name: list of rows}

    An entry is one of
        NAME          a name in BENCHMARKS, read from its source
        PATH          a JSONL file; the benchmark is called as the file, without the ending
        NAME=PATH     a local copy of a benchmark: a JSONL file, or a folder of data files
    Raises ValueError if one of them cannot be read, or if two have the same name.
    """
    benchmarks = {}
    for entry in map(str, entries):
        name, source = split_entry(entry)
        if name in benchmarks:
            raise ValueError(f"two evaluation files are called {name}: rename one of them")
        benchmarks[name] = load_benchmark(name, source)
    return benchmarks


def split_entry(entry):
    """An entry of load_benchmarks. -> the name of the benchmark, and where its rows are"""
    name, equals_sign, path = entry.partition("=")
    if name not in BENCHMARKS:
        return Path(entry).stem, entry
    if equals_sign:
        return name, path
    return name, BENCHMARKS[name].source


def load_benchmark(name, source):
    """The problems of one benchmark, from a JSONL file, a folder of data files, or the hub."""
    benchmark = BENCHMARKS.get(name)
    if source == BENCHMARKS["textbook"].source and not Path(source).is_file():
        raise ValueError(f"{source} does not exist: make it with python prepare.py textbook")
    if benchmark is None or Path(source).is_file() or source.endswith(".jsonl"):
        return load_problems(source, benchmark)

    # A local folder has only the splits that its files are named after, and no config.
    config = None if Path(source).is_dir() else benchmark.config
    rows = stream_hub(source, benchmark.split, config)
    return [normalize_row(row, f"{source} row {number}", benchmark)
            for number, row in enumerate(rows, 1)]


def load_reachable(entries, seconds=10):
    """The benchmarks that can be read from here. -> ({name: list of rows}, {name: why it cannot})

    Entries as in load_benchmarks. A name of BENCHMARKS may be out of reach, and if the hub does not
    answer within `seconds`, it is not waited for. Raises ValueError if a file that is given cannot
    be read, and as load_benchmarks does.
    """
    files = [entry for entry in entries if entry not in BENCHMARKS]
    reachable = load_benchmarks(files)
    unreachable = {}
    for name in entries:
        if name not in BENCHMARKS or name in reachable:
            continue
        source = BENCHMARKS[name].source
        try:
            if not source.endswith(".jsonl"):
                check_hub(source, seconds)
            reachable[name] = load_benchmark(name, source)
        except ValueError as error:
            unreachable[name] = first_line(error)
    return reachable, unreachable


def check_hub(name, seconds):
    """Raises ValueError if the hub does not answer at once what it knows of a dataset.

    Loading the dataset without asking first would repeat each failing request for half a minute.
    With HF_HUB_OFFLINE set it would not: then only the cache is read, and nothing is asked here.
    """
    import huggingface_hub
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    try:
        huggingface_hub.dataset_info(name, timeout=seconds)
    except Exception as error:                     # not all of the hub's errors are OSErrors
        raise ValueError(f"the hub does not answer: {first_line(error)}") from error


# ---------------------------------------------------------------------------- training problems

# The paper's source of training problems.
SOURCE = "nvidia/OpenMathReasoning"

# The "problem_type" of its problems that have an answer; the others are proofs, for example.
ANSWERED = "has_answer_extracted"


def stream_problems(source, split="cot", revision=None):
    """Streams training problems: {"problem", "answer"}, and "accepted" where a row has it.

    source: a JSONL file, a dataset on the hub, or a local folder of a dataset's files. The answer
    may also be called "expected_answer", as in OpenMathReasoning. Rows with another "problem_type"
    than ANSWERED are skipped, and so are rows of a dataset without a problem or an answer.
    Raises ValueError if a line of a JSONL file is not a problem, if no problem is found, and as
    read_jsonl and stream_hub do.
    """
    from_file = Path(source).is_file()
    if from_file:
        rows = read_jsonl(source)
    else:
        # The solutions in OpenMathReasoning are 70 GB: download only the columns that are read.
        columns = ["problem", "expected_answer", "problem_type"] if source == SOURCE else None
        rows = ((source, row) for row in stream_hub(source, split, None, revision, columns=columns))

    count = 0
    found = False
    row = {}
    for where, row in rows:
        count += 1
        problem, answer = problem_and_answer(row)
        if problem and answer:
            if row.get("problem_type", ANSWERED) != ANSWERED:
                continue
            found = True
            result = {"problem": problem, "answer": answer}
            for key in ("accepted", "wrong_start"):
                if key in row:
                    result[key] = row[key]
            yield result
        elif from_file:
            raise ValueError(f"{where}: every row needs a 'problem' and an 'answer' (or "
                             f"'expected_answer'), not {json.dumps(row)[:60]}")

    if not found:
        raise ValueError(f"{source} holds no problem with an answer in its {count} rows of "
                         f"columns {list(row)}: a row needs a 'problem' and an 'answer' (or "
                         f"'expected_answer'), and if it has a 'problem_type', {ANSWERED!r}")


def problem_and_answer(row):
    """The problem and the answer of a row as stripped strings; "" for one that is missing."""
    if not isinstance(row, dict):
        return "", ""
    problem = row.get("problem")
    answer = row.get("answer", row.get("expected_answer"))
    return ("" if problem is None else str(problem).strip(),
            "" if answer is None else str(answer).strip())

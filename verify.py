r"""Does a response give the reference's answer? HERO's 0/1 (Eq. 2), and the grader of benchmarks.

    extract_answer(response)            the final answer: the last \boxed{}, or a cautious reading
    is_equivalent(reference, answer)    are two bare answers the same? symmetric (answers.py)
    verify(response, reference)         both steps and a reason; in this process, no time-out
    verify_all(responses, references)   many rows, on worker processes that are killed if they hang

    python verify.py pairs.jsonl --errors                   recall, precision, false positives
    python verify.py --reference '(1,2]' --response '\boxed{1 < x \le 2}'        one verdict

pairs.jsonl has one JSON object per line: gold (the reference answer), response, label (are they
equivalent: true or false), and optionally source and id. The model's text is data: it is never
evaluated. How answers are read and compared is in answers.py.
"""
from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

# A worker is started by this file's path and with -P: without this folder on its path. The folder
# goes to the end, so that no file in it can take the place of a library.
if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from answers import (
    LIMIT_ERRORS,
    Comparison,
    bare_reference,
    closing_brace,
    compare,
    is_equivalent,
    is_readable,
)
from problems import read_jsonl

__all__ = ["REASONS", "Verdict", "compare_answers", "extract_answer", "grade", "is_equivalent",
           "is_readable", "note_unreadable", "verify", "verify_all"]

MAX_BOXES = 20                      # different boxes in a response; more are a flood of guesses
MAX_MEMORY = 1 << 30                # bytes that a worker may add to what it starts with
REASONS = ("correct", "wrong", "no_answer", "unparsed", "timeout", "too_large")


class Verdict(NamedTuple):
    correct: bool
    answer: str | None
    reason: str                     # one of REASONS


# --- 1. extraction: which text is the answer? ---------------------------------------------------

BOX = re.compile(r"(?<!\\)(?:\\\\)*\\boxed\s*\{")
LIKE_A_BOX = re.compile(r"\\f?box|box(?:ed)?\s*\\?\{")

# What may stand between the boxes of one final statement: "\boxed{1} and \boxed{2}".
BOX_JOINER = re.compile(r"""(?:
    [\s$,;.&~}]                                             # blanks, punctuation, dollar signs
  | \\[\[\]()\\,;:!\ ] | \\q?quad                           # delimiters and spaces of LaTeX
  | \\(?:text|mbox)\s*\{
  | \([a-z]\)                                               # the parts (a) and (b)
  | \b(?:and|or|for|part|case|also)\b
  | [A-Za-z](?:_\{?\w+\}?)?\s*=                             # a label: y_2 =
)*""", re.X)

# Everything up to the last announcement of an answer: "The final answer is", "Respuesta:".
MARKER = re.compile(r"""
    .* (?: (?: answer|réponse|respuesta|antwort|risposta|resposta|ответ|答案|结论 ) s? \W{0,4}? \s*
           (?: is | are | [:：=为是] | (?=[$\\]) )
         | (?: correct | right | best ) \s (?: choice | option ) s? \s (?: is | are )
         | (?: \A | \n ) \W* (?: ans | result | solution ) s? \W{0,4}? [:：] )
    [\s:*]* (?=.*\w)
""", re.I | re.S | re.X)

FORMULA = re.compile(r"""
    \$\$(.+?)\$\$                                           # $$x$$
  | \\\[(.+?)\\\]                                           # \[x\]
  | \\\((.+?)\\\)                                           # \(x\)
  | (?<!\\)\$(.+?)(?<!\\)\$                                 # $x$, but not "\$5 and \$6"
""", re.S | re.X)

NUMBER = re.compile(r"""
    (?<![A-Za-z0-9_.])
    \(?
    (?: \\d?frac\{[^{}]+\}\{[^{}]+\}                        # \frac{1}{2}
      | -?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?\s?%? )      # 5, -1,234.5, 3/4, 20 %
    \)?
""", re.X)

PRICE = re.compile(r"\s?[$€£](?!\S)")                       # the sign behind a number
SENTENCE_END = re.compile(r"(?: (?<=[.!?])\s+ | [。！？] | \n\s*\n ) (?=.*\w)", re.S | re.X)
NOISE = re.compile(r"<\|.*?\|>.*|I hope (?:it|this) is correct.*", re.S)
PROSE = re.compile(r"[^\W\d_]{3}")


class Box(NamedTuple):
    start: int
    end: int
    content: str | None             # None if the box is cut off


def boxes(text: str) -> list[Box]:
    r"""Each outermost \boxed{} of a text, in order; one that is cut off ends the list."""
    found = []
    at = 0
    while match := BOX.search(text, at):
        end = closing_brace(text, match.end())
        if end is None:
            found.append(Box(match.start(), len(text), None))
            break
        found.append(Box(match.start(), end, text[match.end():end - 1].strip()))
        at = end
    return found


def extract_answer(response: str) -> str | None:
    r"""The final answer of a response, or None if it gives none.

    The last \boxed{}; the boxes of one final statement ("\boxed{1} and \boxed{2}") are a list.
    An empty box, one that is cut off and a flood of different boxes are no answer. Only a
    response without anything like a box is read as text. What follows a thought, </think>, is
    read alone; the thought itself counts if no answer follows, and not before it is finished.
    """
    thought, closing_tag, text = response.rpartition("</think>")
    if closing_tag and not LIKE_A_BOX.search(text):
        text = text if answer_in_text(text) else thought
    elif not closing_tag:
        text = text.partition("<think>")[0]

    found = boxes(text)
    if not found:
        return None if LIKE_A_BOX.search(text) else answer_in_text(text)
    different = {box.content for box in found}
    if found[-1].content is None or len(different) > MAX_BOXES:
        return None

    # Collect backwards the boxes that belong to one statement with the last.
    statement = [found.pop()]
    while found and BOX_JOINER.fullmatch(text, found[-1].end, statement[0].start):
        statement.insert(0, found.pop())
    answer = " , ".join(box.content for box in statement)

    # A box that holds nothing but a box: \boxed{\boxed{5}}.
    inner = boxes(answer)
    if inner and (inner[0].start, inner[0].end) == (0, len(answer)):
        answer = inner[0].content
    return answer or None


# How an answer begins that is not announced; an announced one may also begin with a letter.
BARE_START = r"[-\\(\[.0-9]"
FEW_WORDS = re.compile(r"[^\W\d_]+(?: [^\W\d_]+){0,2}")
# c > b > a of a last line **c > b > a**; what stood after it is already stripped.
BOLD_LINE = re.compile(r"(?:\A|\n)[ ]*\*\*([^*\n]+)\Z")
# At the end of a sentence, what it says that the answer is not: ", not 5" of "it is 7, not 5".
REJECTED = re.compile(r"""
    [,;]? \s* \b(?:and\s+)? (?:not|rather\s+than|instead\s+of) \s (?! .* \b(?:but|is|it's|which)\b )
    (?: [^.!?\n] | \.(?=[0-9]) ){1,60} \Z
""", re.X)


def answer_in_text(text: str) -> str | None:
    """The answer of a response without a box: what it announces, all of it, or its last number."""
    text = NOISE.sub("", text[-4000:]).strip()
    if len(text) < 2:                                       # a lone character is a fragment
        return None

    # 1. "The answer is $x = 3$. ...": from here on, only the announced sentence counts.
    marker = MARKER.match(text)
    if marker:
        text = SENTENCE_END.split(text[marker.end():])[0].strip(" *\n")
        if formula := FORMULA.match(text):
            return content_of(formula)

    # 2. Nothing but an answer, or a last line in bold. What is announced may be a few words.
    text = text.rstrip(".。* ")
    if is_bare_answer(text, BARE_START) or (marker and is_bare_answer(text, r"\w")):
        return text
    if marker and FEW_WORDS.fullmatch(text):
        return text
    bold_line = None if marker else BOLD_LINE.search(text)
    if bold_line and is_bare_answer(bold_line[1].strip(" .$"), ""):
        return bold_line[1].strip(" .$")

    # 3. Prose: the formula or number that it ends on, and not one that it rejects.
    if PROSE.search(text):
        return last_formula_or_number(REJECTED.sub("", text))
    return None


def content_of(formula: re.Match) -> str:
    """What stands between the delimiters of a match of FORMULA."""
    return formula[formula.lastindex].strip()


def is_bare_answer(text: str, start: str) -> bool:
    r"""Is the text like \frac{4}{23} or (1, 2): a formula without dollar signs, and no words?

    start: a pattern for its beginning, "" for any.
    """
    if not re.match(start, text):
        return False
    without_macros = re.sub(r"\\text\{[^{}]*\}|\\\w+", "", text)
    return "$" not in without_macros and not PROSE.search(without_macros)


def last_formula_or_number(text: str) -> str | None:
    """The last formula of a text, or a number of its last sentence that comes after it."""
    formulas = []
    for formula in FORMULA.finditer(text):
        has_words = re.search(r"(?<!\\)\b[^\W\d_]{3,} ", formula[formula.lastindex])
        if not has_words:                                   # "from $5 to 4$" is no formula
            formulas.append(formula)

    last_sentence = SENTENCE_END.split(text)[-1]
    numbers = list(NUMBER.finditer(text, len(text) - len(last_sentence)))
    prices = [number for number in numbers if PRICE.match(text, number.end())]
    if len(prices) == 1:                                    # "220 $ in 12 months"
        numbers = prices
    if formulas and (not numbers or formulas[-1].end() > numbers[-1].end()):
        return content_of(formulas[-1])
    return numbers[-1][0].strip() if numbers else None


# --- 2. verdicts --------------------------------------------------------------------------------

def compare_answers(reference: str, answer: str) -> tuple[Verdict, Comparison]:
    """The verdict on a bare answer, and the step that decided it; bounded work, no time-out."""
    try:
        comparison = compare(bare_reference(reference), answer)
    except LIMIT_ERRORS as error:
        return Verdict(False, answer, "too_large"), Comparison(repr(error), None, None)

    if comparison.step:
        return Verdict(True, answer, "correct"), comparison
    only_answer_is_text = comparison.answer.kind == "text" and comparison.reference.kind != "text"
    return Verdict(False, answer, "unparsed" if only_answer_is_text else "wrong"), comparison


def note_unreadable(name: str, references: list[str]) -> None:
    """Prints one note if a data set has references that no answer but a copy can match."""
    unreadable = [reference for reference in references if not is_readable(reference)]
    if unreadable:
        examples = ", ".join(map(repr, unreadable[:3]))
        print(f"note: {len(unreadable)} of {len(references)} references of {name} cannot be read, "
              f"so that only a copy of them is accepted: {examples}", flush=True)


def verify(response: str, reference: str) -> Verdict:
    """Is the response's final answer the reference's (Eq. 2)? Bounded work, but no time-out.

    reason: correct, wrong, no_answer, unparsed (the answer is text, the reference is not),
    too_large (a limit of answers.py was exceeded); verify_all adds timeout.
    """
    answer = extract_answer(response)
    if answer is None:
        return Verdict(False, None, "no_answer")
    verdict, _ = compare_answers(reference, answer)
    return verdict


# --- 3. worker processes ------------------------------------------------------------------------
# Workers run this file alone (never the user's script, never torch) and speak JSON lines. Before
# each row a worker sets an alarm that has no handler: the kernel ends it when it hangs, in C code
# too, and when its parent is gone. The caller needs no signal, so any thread may call verify_all.

_pool: list[subprocess.Popen] = []
_pool_key: tuple = (0, 0.0)         # the process and the time-out that the workers belong to
_pool_lock = threading.Lock()


def spawn(timeout: float) -> subprocess.Popen:
    """Starts a worker that gives each row `timeout` seconds."""
    return subprocess.Popen(
        [sys.executable, "-P", os.path.abspath(__file__), "--worker", str(timeout)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True)


@atexit.register
def close_pool() -> None:
    """Ends the workers; a forked child only forgets them, they are its parent's."""
    while _pool:
        worker = _pool.pop()
        if _pool_key[0] == os.getpid():
            worker.kill()
            worker.communicate()


def verify_all(responses: list[str], references: list[str], timeout: float = 5.0,
               workers: int = 2) -> list[Verdict]:
    """`verify` for every row, in order, on worker processes that stay alive between calls.

    A row that takes longer than `timeout` seconds costs its worker: the worker is replaced, the
    verdict is `timeout`, no other row is affected. If a worker dies of something else, such as
    memory, its row gets `too_large`. workers=0 works in this process, without a time-out. Any
    thread may call; calls take turns. Raises ValueError if the lists differ in length or a number
    is out of range, RuntimeError if a worker cannot start.
    """
    global _pool_key
    if len(responses) != len(references):
        raise ValueError(f"{len(responses)} responses but {len(references)} references: "
                         "give one for each")
    if workers < 0 or timeout <= 0:
        raise ValueError(f"workers={workers}, timeout={timeout}: workers must be at least 0 and "
                         "the time-out above 0 seconds")
    if workers == 0:
        return list(map(verify, responses, references))

    # Small chunks, so that all workers end at about the same time.
    rows = list(enumerate(zip(responses, references, strict=True)))
    size = max(1, min(32, len(rows) // (4 * workers)))
    todo = deque(rows[at:at + size] for at in range(0, len(rows), size))
    verdicts = [Verdict(False, None, "timeout")] * len(rows)

    with _pool_lock:
        if _pool_key != (os.getpid(), timeout) or len(_pool) > workers:
            close_pool()
            _pool_key = (os.getpid(), timeout)
        while len(_pool) < min(workers, len(todo)):
            _pool.append(spawn(timeout))

        # One thread per worker feeds it and takes its verdicts.
        try:
            with ThreadPoolExecutor(len(_pool) or 1) as threads:
                feeders = [threads.submit(feed_worker, at, todo, verdicts, timeout)
                           for at in range(len(_pool))]
                for feeder in feeders:
                    feeder.result()
        except BaseException:       # leave no worker behind that still owes verdicts
            close_pool()
            raise
    return verdicts


def feed_worker(at: int, todo: deque, verdicts: list[Verdict], timeout: float) -> None:
    """Sends worker number `at` one chunk of rows after the other, until none is left.

    todo: chunks of (row number, (response, reference)). verdicts: filled in by row number. A
    worker that dies is replaced, and the rest of its chunk goes back to todo.
    """
    while True:
        try:
            chunk = todo.popleft()
        except IndexError:
            return
        worker = _pool[at]
        with contextlib.suppress(BrokenPipeError):          # a dead worker is noticed below
            worker.stdin.write(json.dumps([pair for _, pair in chunk]) + "\n")
            worker.stdin.flush()

        for done, (row, _) in enumerate(chunk, 1):
            line = worker.stdout.readline()
            if line.endswith("\n"):
                verdicts[row] = Verdict(*json.loads(line))
            else:
                verdicts[row] = Verdict(False, None, cause_of_death(worker))
                todo.appendleft(chunk[done:])
                _pool[at] = spawn(timeout)
                break


def cause_of_death(worker: subprocess.Popen) -> str:
    """The reason for the verdict on the row that ended a worker."""
    worker.communicate()
    if worker.returncode == 1:                              # it never started: no row is to blame
        command = " ".join(map(str, worker.args))
        raise RuntimeError(f"a verifier worker cannot start; its error is shown by: {command}")
    return "timeout" if worker.returncode == -signal.SIGALRM else "too_large"


def worker_main(timeout: float) -> None:
    """Answers lines of [[response, reference], ...], a line for each pair, until its input ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)           # a caller may ignore it: undo that
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    limit_memory()

    for line in sys.stdin:
        for response, reference in json.loads(line):
            signal.setitimer(signal.ITIMER_REAL, timeout)
            try:
                verdict = verify(response, reference)
            except MemoryError:
                verdict = Verdict(False, None, "too_large")
            except Exception:                               # a fault of this code costs one row
                verdict = Verdict(False, None, "unparsed")
            print(json.dumps(verdict), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory() -> None:
    """Lets this process take MAX_MEMORY bytes more than it has; does nothing without /proc."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))


def grade(responses: list[str], rows: list[dict]) -> tuple[list[Verdict], list[bool]]:
    """Grades responses by the verifier and by the oracle. -> (N Verdicts, N bools of the truth)

    responses: N strings.  rows: their N problems. The verdict is against a row's "answer". The
    truth is also True if the response says one of the row's "accepted" phrasings. It is False if
    the response begins with the row's "wrong_start": such a working finds the answer by luck.
    """
    verdicts = verify_all(responses, [row["answer"] for row in rows])
    truth = []
    for verdict, row in zip(verdicts, rows, strict=True):
        truth.append(verdict.correct or verdict.answer in row.get("accepted", ()))

    # Where that did not match, the verifier compares the response with each accepted phrasing.
    indices = []
    phrasings = []
    for i, row in enumerate(rows):
        if truth[i] or not verdicts[i].answer:
            continue
        for phrasing in row.get("accepted", ()):
            indices.append(i)
            phrasings.append(phrasing)
    second_verdicts = verify_all([responses[i] for i in indices], phrasings)
    for i, verdict in zip(indices, second_verdicts, strict=True):
        if verdict.correct:
            truth[i] = True

    for i, row in enumerate(rows):
        if "wrong_start" in row and responses[i].startswith(row["wrong_start"]):
            truth[i] = False
    return verdicts, truth


# --- 4. the command line ------------------------------------------------------------------------

def read_pairs(path: str) -> list[dict]:
    """The rows of a file of labeled pairs. Raises ValueError naming the file, line and key."""
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist or is no file")
    rows = []
    for where, row in read_jsonl(path):
        if not isinstance(row, dict):
            raise ValueError(f"{where} is not a JSON object")
        for key in ("gold", "response"):
            if not isinstance(row.get(key), str):
                raise ValueError(f'{where}: "{key}" is missing or not a string')
        if row.get("label") not in (True, False):           # 1 and 0 are equal to these
            raise ValueError(f'{where}: "label" is missing or neither true nor false')
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def format_table(rows: list[dict], verdicts: list[Verdict]) -> str:
    """The columns of the paper's Table 1 by source, in percent; and the count of each reason."""
    counts: dict[str, Counter] = {}                         # of (label, verdict), per source
    for row, verdict in zip(rows, verdicts, strict=True):
        for source in (str(row.get("source", "-")), "~ all"):
            pair = (bool(row["label"]), verdict.correct)
            counts.setdefault(source, Counter())[pair] += 1

    lines = [f"{'source':24} {'rows':>5} {'recall':>9} {'precision':>9} {'FPR':>9} {'accuracy':>9}"]
    for source, count in sorted(counts.items()):
        true_positives = count[True, True]
        false_negatives = count[True, False]
        false_positives = count[False, True]
        true_negatives = count[False, False]
        total = count.total()
        lines.append(" ".join([
            f"{source:24} {total:5}",
            format_percent(true_positives, true_positives + false_negatives),
            format_percent(true_positives, true_positives + false_positives),
            format_percent(false_positives, false_positives + true_negatives),
            format_percent(true_positives + true_negatives, total),
        ]))

    reasons = Counter(verdict.reason for verdict in verdicts)
    lines.append(", ".join(f"{reason} {reasons[reason]}" for reason in REASONS))
    return "\n".join(lines)


def format_percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:9.1f}" if whole else f"{'-':>9}"


def explain(reference: str, response: str) -> None:
    """Prints one verdict and how it came about."""
    answer = extract_answer(response)
    print(f"extracted: {answer!r}")
    if answer is None:
        print("verdict:   no_answer")
        return
    verdict, comparison = compare_answers(reference, answer)
    print(f"reference: {comparison.reference}")
    print(f"answer:    {comparison.answer}")
    print(f"decided:   {comparison.step or 'no step found them equal'}")
    print(f"verdict:   {verdict.reason}")


def grade_pairs(path: str, timeout: float, workers: int, errors: bool) -> None:
    """Prints how well the verifier does on a file of labeled pairs; errors: and where it fails."""
    rows = read_pairs(path)
    verdicts = verify_all([row["response"] for row in rows], [row["gold"] for row in rows],
                          timeout, workers)
    print(format_table(rows, verdicts))

    # A reference that cannot be read is one fault of the file, not a wrong answer in every row.
    unreadable: dict[str, list[int]] = {}                   # reference -> its rows, from 1
    for number, row in enumerate(rows, 1):
        if not is_readable(row["gold"]):
            unreadable.setdefault(row["gold"], []).append(number)
    if unreadable:
        total = sum(map(len, unreadable.values()))
        print(f"unreadable references: {len(unreadable)} in {total} rows; "
              "only answers spelled alike are accepted there")
    for reference, numbers in unreadable.items():
        print(f"unreadable in row {', '.join(map(str, numbers))}: {reference!r}")

    for row, verdict in zip(rows, verdicts, strict=True):
        is_error = verdict.correct != bool(row["label"]) and row["gold"] not in unreadable
        if errors and is_error:
            print(f"{row.get('id', '')} labeled {bool(row['label'])}, {verdict.reason}: "
                  f"reference {row['gold']!r}, answer {verdict.answer!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Check answers against references.")
    parser.add_argument("pairs", nargs="?",
                        help="a file of JSON lines with the keys gold, response, label, source")
    parser.add_argument("--errors", action="store_true",
                        help="list the rows of pairs whose verdict is not their label")
    parser.add_argument("--reference", help="with --response: one reference answer")
    parser.add_argument("--response", help="with --reference: one response; explains its verdict")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds per row (default 5)")
    parser.add_argument("--workers", type=int, default=2,
                        help="worker processes (default 2); 0 verifies in this process")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not math.isfinite(args.timeout):
        parser.error(f"--timeout {args.timeout}: has to be a finite number of seconds")

    if args.worker:
        worker_main(args.worker)
    elif args.response is not None and args.reference is not None:
        explain(args.reference, args.response)
    elif args.pairs:
        try:
            grade_pairs(args.pairs, args.timeout, args.workers, args.errors)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
    else:
        parser.error("give a file of pairs, or --reference and --response")


if __name__ == "__main__":
    main()

"""Reading and writing JSONL, and where problems come from: files, local copies, the hub."""

import json
import threading

import pytest
from helpers import script

import problems
from problems import (
    BENCHMARKS,
    append_jsonl,
    find_overlaps,
    first_line,
    load_benchmarks,
    load_problems,
    load_reachable,
    normalize_row,
    read_jsonl,
    split_ngrams,
    split_words,
    write_file,
    write_jsonl,
)

# ---------------------------------------------------------------------------- files


def rows_of(path, **options):
    return [row for _, row in read_jsonl(path, **options)]


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"a": 1, "text": "½ \n"}, {"a": None}]
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == [(f"{path} line 1", rows[0]), (f"{path} line 2", rows[1])]
    append_jsonl(path, rows[:1])
    append_jsonl(tmp_path / "other" / "rows.jsonl", rows)
    assert rows_of(path) == [*rows, rows[0]]
    assert rows_of(tmp_path / "other" / "rows.jsonl") == rows
    assert sorted(path.parent.iterdir()) == [path]              # no temporary file is left


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "new\ud800")                           # cannot be encoded
    assert path.read_text() == "old"


def test_a_torn_line_is_skipped_and_named(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b\n{"a": 3}\n{"a": ')
    assert rows_of(path, required=("a",), skip_torn=True) == [{"a": 1}, {"a": 3}]
    assert capsys.readouterr().err.splitlines() == [
        f"{path} line {n} is incomplete and is skipped" for n in (3, 5)]
    with pytest.raises(ValueError, match="line 1 has no 'b'"):
        rows_of(path, required=("b",), skip_torn=True)
    with pytest.raises(ValueError, match="log.jsonl line 3 is not JSON"):
        rows_of(path)
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        rows_of(tmp_path / "none.jsonl", skip_torn=True)


def test_a_line_torn_inside_a_character_is_skipped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xc2')
    assert rows_of(path, skip_torn=True) == [{"a": 1}]


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes('{"problem": "1"}\n{"problem": "caf\u00e9"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match="data.jsonl line 2 is not JSON .*utf-8"):
        list(read_jsonl(path))


def test_new_rows_do_not_join_a_torn_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    append_jsonl(path, [{"a": 2}])
    append_jsonl(path, [{"a": 3}])
    assert path.read_text() == '{"a": 1}\n{"a": \n{"a": 2}\n{"a": 3}\n'
    assert rows_of(path, skip_torn=True) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_several_writers_append_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"

    def append(writer):
        for number in range(50):
            append_jsonl(path, [{"writer": writer, "number": number, "text": "x" * 20_000}])

    threads = [threading.Thread(target=append, args=[writer]) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = rows_of(path)
    assert len(rows) == len(path.read_text().splitlines()) == 200         # no empty lines either
    for writer in range(4):
        assert [row["number"] for row in rows if row["writer"] == writer] == list(range(50))


def test_first_line():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 1000))) == 200


# ---------------------------------------------------------------------------- rows


@pytest.mark.parametrize("row, missing", [
    ({"answer": "2"}, "problem"), ({"problem": " ", "answer": "2"}, "problem"),
    ({"problem": "1+1"}, "answer"), ({"problem": "1+1", "answer": None}, "answer"),
    ([1, 2], "problem"), ("text", "problem")])
def test_a_row_without_a_problem_or_an_answer_is_named(row, missing):
    with pytest.raises(ValueError, match=f"^row 3 has no '{missing}'"):
        normalize_row(row, "row 3")


def test_a_context_is_not_a_problem():
    row = {"context": "Let $T=8$.", "question": None, "final_answer": ["1"]}
    with pytest.raises(ValueError, match="^row 1 has no 'problem'"):
        normalize_row(row, "row 1", BENCHMARKS["olympiadbench"])


def test_load_problems_keeps_what_a_row_carries(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"problem": "1+1", "answer": 2, "accepted": ["2", "two"], "topic": "sums"}]
    write_jsonl(path, rows)
    assert load_problems(path) == rows
    path.write_text("\n")
    with pytest.raises(ValueError, match="a.jsonl holds no problems"):
        load_problems(path)
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        load_problems(tmp_path / "none.jsonl")


# ---------------------------------------------------------------------------- benchmarks

HUB_ROWS = {
    "math500": {"problem": "1+1", "solution": "...", "answer": "2", "subject": "Algebra",
                "level": 1, "unique_id": "a"},
    "amc23": {"id": 0, "answer": 27.0, "url": "u", "question": "1+1"},
    "minerva": {"question": "1+1", "answer": "4.5e33"},
    "olympiadbench": {"id": 1, "question": "find m", "solution": ["..."], "context": "Let $T=8$.",
                      "final_answer": ["1", "-1"], "is_multiple_answer": True, "image_1": None},
    "hardverify": {"id": 1, "question": "1+1", "ground_truth": "f(x)=2x", "fn_output": "2x",
                   "tn_output": "3x", "source": "s"}}

# What they are read as: problem, answer.
READ = {"math500": ("1+1", "2"), "amc23": ("1+1", "27.0"), "minerva": ("1+1", "4.5e33"),
        "olympiadbench": ("Let $T=8$.\nfind m", "1, -1"), "hardverify": ("1+1", "f(x)=2x")}


def read_copy(path, name):
    """Three rows of a benchmark from a local copy of it: (problem, answer) each."""
    return [(row["problem"], row["answer"]) for row in load_benchmarks([f"{name}={path}"])[name]]


@pytest.mark.parametrize("name", HUB_ROWS)
def test_a_benchmark_is_read_from_a_folder_of_its_hub_files(tmp_path, name):
    """With the real names of splits and columns."""
    from datasets import Dataset
    path = tmp_path / f"{BENCHMARKS[name].split}-00000-of-00001.parquet"
    Dataset.from_list([HUB_ROWS[name]] * 3).to_parquet(path)
    assert read_copy(tmp_path, name) == [READ[name]] * 3


@pytest.mark.parametrize("name", HUB_ROWS)
def test_a_benchmark_is_read_from_a_jsonl_file(tmp_path, name):
    path = tmp_path / f"{name}.jsonl"
    write_jsonl(path, [HUB_ROWS[name]] * 3)
    assert read_copy(path, name) == [READ[name]] * 3
    assert load_benchmarks([path]) == load_benchmarks([f"{name}={path}"])


def test_a_benchmark_without_answers_names_the_row(tmp_path):
    path = tmp_path / "amc23.jsonl"
    path.write_text('{"question": "1+1", "answer": 2}\n{"question": "1+2"}\n')
    with pytest.raises(ValueError, match="amc23.jsonl line 2 has no 'answer'"):
        load_benchmarks([path])
    path.write_text('{"question": "1+1", "answer": 0}\n')
    assert load_benchmarks([path])["amc23"][0]["answer"] == "0"


def test_two_benchmarks_cannot_have_the_same_name(tmp_path):
    path = tmp_path / "amc23.jsonl"
    path.write_text('{"question": "1+1", "answer": 0}\n')
    with pytest.raises(ValueError, match="two evaluation files are called amc23"):
        load_benchmarks([path, f"amc23={path}"])


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_line(folder):
    result = script(folder, "eval.py", "--model", "runs/world-0/policy", "--benchmarks", "math500")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "cannot read split 'test' of 'HuggingFaceH4/MATH-500'" in result.stderr


def test_textbook_says_how_it_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="make it with python prepare.py textbook"):
        load_benchmarks(["textbook"])


def test_every_row_of_a_textbook_file_is_read(tmp_path):
    path = tmp_path / "textbook.jsonl"
    write_jsonl(path, [json.loads('{"question": "What is f?", "reference_answer": "a norm"}')])
    problem, = load_benchmarks([path])["textbook"]
    assert (problem["problem"], problem["answer"]) == ("What is f?", "a norm")


def test_a_benchmark_out_of_reach_is_named_and_not_waited_for(tmp_path, monkeypatch):
    """Of the names, those that can be read from here; the hub is asked once, and not to load."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    write_jsonl("data/textbook.jsonl", [{"question": "What is f?", "reference_answer": "a norm"}])
    write_jsonl("own.jsonl", [{"problem": "1+1", "answer": "2"}])
    asked = []

    def dataset_info(name, timeout):
        asked.append((name, timeout))
        if name != BENCHMARKS["amc23"].source:
            raise RuntimeError("no such host")

    def stream_hub(name, split, config):
        assert name == BENCHMARKS["amc23"].source
        yield {"question": "1+2", "answer": 3}

    monkeypatch.setattr("huggingface_hub.dataset_info", dataset_info)
    monkeypatch.setattr(problems, "stream_hub", stream_hub)
    reachable, unreachable = load_reachable(["math500", "amc23", "textbook", "own.jsonl"])
    assert {name: len(rows) for name, rows in reachable.items()} == {
        "own": 1, "amc23": 1, "textbook": 1}
    assert unreachable == {"math500": "the hub does not answer: no such host"}
    assert asked == [(BENCHMARKS["math500"].source, 10), (BENCHMARKS["amc23"].source, 10)]

    (tmp_path / "data/textbook.jsonl").unlink()
    _, unreachable = load_reachable(["textbook"])
    assert "make it with python prepare.py textbook" in unreachable["textbook"]


def test_a_local_copy_takes_the_place_of_a_name(tmp_path):
    path = tmp_path / "copy.jsonl"
    write_jsonl(path, [{"problem": "1+1", "answer": "2"}])
    reachable, unreachable = load_reachable([f"math500={path}", "math500"])
    assert list(reachable) == ["math500"] and unreachable == {}
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        load_reachable([f"math500={tmp_path}/none.jsonl"])


# ---------------------------------------------------------------------------- overlaps


@pytest.mark.parametrize("one, other, words", [
    (r"Compute $\dfrac{1}{2} \cdot x^2$.", "compute 1/2 * x²", "compute 1 2 * x 2"),
    (r"\frac12 + \tfrac 1 2", r"\frac{1}{2}+\frac{1}{2}", "1 2 + 1 2"),
    (r"If $x_1\le 1{,}000$", "IF x1 ≤ 1,000", "if x 1 < = 1000"),
    (r"$\left(a+b\right)\,c - \text{Area}$", "(a + b) c − area", "a + b c - area"),
    (r"the $x$-axis", "the x-axis", "the x axis"),
    (r"the set $\mathbb{R}$ of well-known \textbf{reals}!", "the set R of well known reals",
     "the set r of well known reals"),
    (r"$2\times3.5 \geq \sqrt{2}$", r"2 × 3.5 ⩾ \sqrt 2", "2 * 3.5 > = sqrt 2"),
    (r"it costs \$5", "It costs $5", "it costs 5"),
    ("a $2$-digit number", "a 2-digit number", "a 2 digit number"),
])
def test_words_are_the_same_however_they_are_typeset(one, other, words):
    assert split_words(one) == split_words(other) == words.split()


@pytest.mark.parametrize("one, other", [
    ("x + 1", "x - 1"), ("x^{2} = 3", "x^{2} = 4"), ("x < 1", r"x \le 1"), ("1,000", "1,000,000"),
    (r"\sin x", r"\cos x"), ("x-y", "x+y"), ("3.5", "35"), (r"\sqrt{2}", "2")])
def test_what_means_something_else_has_other_words(one, other):
    assert split_words(one) != split_words(other)


def test_parts_are_13_words_or_the_whole():
    letters = "a b c d e f g h i j k l m n".split()
    assert split_ngrams(" ".join(letters)) == {"a b c d e f g h i j k l m",
                                               "b c d e f g h i j k l m n"}
    assert split_ngrams("What is 1+1?") == {"what is 1 + 1"}
    assert split_ngrams(" ".join(letters[:13])) == {" ".join(letters[:13])}


TRAINS = (r"A train leaves the town of $A$ at 8 o'clock and travels $\frac{3}{4}$ of an hour at "
          r"60 miles per hour before it meets, at \(x^2\) miles, a slower train from $B$.")
SHORT = r"Find the sum of the roots of $x^2 - 5x + 6 = 0$."
TINY = r"Compute $\binom{8}{3}$."

PLANTED = {
    "a copy": TRAINS,
    "case and punctuation": TRAINS.upper().replace("FRAC", "frac").replace(",", " ;"),
    "another LaTeX": r"A train leaves the town of A at 8 o'clock, and travels $\dfrac 34$ of an "
                     r"hour at $60$ miles per hour. How far is that?",
    "13 words of it": "Anna sees a train that travels 3/4 of an hour at 60 miles per hour before "
                      "it stops.",
    "a short one, typeset otherwise": r"find the SUM of the roots of \[x^{2}-5x+6=0\]",
    "a tiny one": r"Compute \( \binom 8 3 \)",
}
KEPT = {
    "12 words of it": "Anna sees a bus that travels 3/4 of an hour at 60 miles per hour before "
                      "noon.",
    "its numbers changed": r"A train leaves the town of $A$ at 9 o'clock and travels $\frac{2}{5}$ "
                           r"of an hour at 70 miles per hour before it meets, at \(x^3\) miles, a "
                           r"slower train from $C$.",
    "a short one, a number changed": r"Find the sum of the roots of $x^2 - 7x + 6 = 0$.",
    "a short one, a sign changed": r"Find the sum of the roots of $x^2 + 5x + 6 = 0$.",
    "a tiny one, a number changed": r"Compute $\binom{8}{4}$.",
    "a tiny one and more": r"Compute $\binom{8}{3}$ modulo 5.",
    "the same words in another order": " ".join(reversed(TRAINS.split())),
    "no word at all": "?",
}


def test_planted_overlaps_are_found_and_no_others():
    """The 12 words are "travels 3 4 of an hour at 60 miles per hour before"; "it" is the 13th."""
    benchmarks = {"one": [{"problem": TRAINS}, {"problem": "???"}],
                  "two": [{"problem": SHORT}, {"problem": TINY}], "three": [{"problem": TRAINS}]}
    rows = [{"problem": text, "name": name} for name, text in (PLANTED | KEPT).items()]
    found = find_overlaps(rows, benchmarks)
    names = {key: [row["name"] for row in overlaps] for key, overlaps in found.items()}
    assert names["one"] == names["three"] == list(PLANTED)[:4]
    assert names["two"] == list(PLANTED)[4:]

"""Reading and writing JSONL, and where problems come from: files, local copies, the hub."""

import threading

import pytest
from helpers import script

import problems
from problems import (
    BENCHMARKS,
    append_jsonl,
    first_line,
    load_benchmarks,
    load_problems,
    load_reachable,
    normalize_row,
    read_jsonl,
    stream_problems,
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

    with pytest.raises(UnicodeEncodeError):                     # whole, or not at all
        write_file(path, "new\ud800")
    assert rows_of(path) == [*rows, rows[0]]


def test_a_torn_line_is_skipped_and_named_and_nothing_joins_it(tmp_path, capsys):
    """The last line is torn inside a character, as a kill may leave it."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": 2, "b\n{"a": 3}\n{"a": "\xc2')
    append_jsonl(path, [{"a": 4}])
    append_jsonl(path, [{"a": 5}])
    assert path.read_bytes().endswith(b'{"a": "\xc2\n{"a": 4}\n{"a": 5}\n')
    assert rows_of(path, required=("a",), skip_torn=True) == [{"a": n} for n in (1, 3, 4, 5)]
    assert capsys.readouterr().err.splitlines() == [
        f"{path} line {n} is incomplete and is skipped" for n in (3, 5)]


@pytest.mark.parametrize("content, options, says", [
    (b'{"a": 1}\n', {"required": ("b",), "skip_torn": True}, "line 1 has no 'b'"),
    (b'[1]\n', {"required": ("b",)}, "line 1 has no 'b'"),
    (b'{"a": 1}\n\n{"a": 2, "b\n', {}, "line 3 is not JSON"),
    (b'{"a": "1"}\n{"a": "caf\xe9"}\n', {}, "line 2 is not JSON .*utf-8"),
    (None, {"skip_torn": True}, "does not exist")])
def test_a_line_at_fault_is_named(tmp_path, content, options, says):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"log.jsonl {says}"):
        rows_of(path, **options)


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


@pytest.mark.parametrize("row, benchmark, missing", [
    ({"answer": "2"}, None, "problem"), ({"problem": " ", "answer": "2"}, None, "problem"),
    ({"problem": "1+1"}, None, "answer"), ({"problem": "1+1", "answer": None}, None, "answer"),
    ([1, 2], None, "problem"), ("text", None, "problem"),
    # a context is not a problem
    ({"context": "Let $T=8$.", "question": None, "final_answer": ["1"]}, "olympiadbench",
     "problem")])
def test_a_row_without_a_problem_or_an_answer_is_named(row, benchmark, missing):
    with pytest.raises(ValueError, match=f"^row 3 has no '{missing}'"):
        normalize_row(row, "row 3", BENCHMARKS.get(benchmark))


def test_load_problems_keeps_what_a_row_carries(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"problem": "1+1", "answer": 2, "accepted": ["2", "two"], "topic": "sums"}]
    write_jsonl(path, rows)
    assert load_problems(path) == rows
    path.write_text("\n")
    with pytest.raises(ValueError, match="a.jsonl holds no problems"):
        load_problems(path)


def test_a_source_may_say_expected_answer_and_keeps_what_is_accepted(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"problem": " 1+1 ", "expected_answer": 2, "topic": "sum"}\n\n'
        '{"problem": "0*1", "answer": 0, "accepted": ["0", "none"]}\n')
    assert list(stream_problems(tmp_path / "a.jsonl")) == [
        {"problem": "1+1", "answer": "2"},
        {"problem": "0*1", "answer": "0", "accepted": ["0", "none"]}]


# ---------------------------------------------------------------------------- benchmarks

# Rows as they are on the hub.
HUB_ROWS = {
    "math500": {"problem": "1+1", "solution": "...", "answer": "2", "subject": "Algebra",
                "level": 1, "unique_id": "a"},
    "amc23": {"id": 0, "answer": 27.0, "url": "u", "question": "1+1"},
    "minerva": {"question": "1+1", "answer": "4.5e33"},
    "olympiadbench": {"id": 1, "question": "find m", "solution": ["..."], "context": "Let $T=8$.",
                      "final_answer": ["1", "-1"], "is_multiple_answer": True, "image_1": None},
    "hardverify": {"id": 1, "question": "1+1", "ground_truth": "f(x)=2x", "fn_output": "2x",
                   "tn_output": "3x", "source": "s"},
    "textbook": {"question": "What is f?", "reference_answer": "a norm"}}

# What they are read as: problem, answer.
READ = {"math500": ("1+1", "2"), "amc23": ("1+1", "27.0"), "minerva": ("1+1", "4.5e33"),
        "olympiadbench": ("Let $T=8$.\nfind m", "1, -1"), "hardverify": ("1+1", "f(x)=2x"),
        "textbook": ("What is f?", "a norm")}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_a_local_copy_of_a_benchmark_is_read(tmp_path, name):
    """A folder of its hub files, with the real names of splits and columns; and a JSONL file."""
    from datasets import Dataset
    rows = [HUB_ROWS[name]] * 3
    split = BENCHMARKS[name].split
    Dataset.from_list(rows).to_parquet(tmp_path / f"hub/{split}-00000-of-00001.parquet")
    path = tmp_path / f"{name}.jsonl"
    write_jsonl(path, rows)
    for entry in (f"{name}={tmp_path / 'hub'}", f"{name}={path}", path):
        read = load_benchmarks([entry])[name]
        assert [(row["problem"], row["answer"]) for row in read] == [READ[name]] * 3


def test_benchmarks_that_cannot_be_read_say_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "amc23.jsonl"
    path.write_text('{"question": "1+1", "answer": 2}\n{"question": "1+2"}\n')
    with pytest.raises(ValueError, match="amc23.jsonl line 2 has no 'answer'"):
        load_benchmarks([path])
    path.write_text('{"question": "1+1", "answer": 0}\n')
    assert load_benchmarks([path])["amc23"][0]["answer"] == "0"
    with pytest.raises(ValueError, match="two evaluation files are called amc23"):
        load_benchmarks([path, f"amc23={path}"])
    with pytest.raises(ValueError, match="make it with python prepare.py textbook"):
        load_benchmarks(["textbook"])


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_line(folder):
    result = script(folder, "eval.py", "--model", "runs/world-0/policy", "--benchmarks", "math500")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "cannot read split 'test' of 'HuggingFaceH4/MATH-500'" in result.stderr


def test_a_benchmark_out_of_reach_is_named_and_not_waited_for(tmp_path, monkeypatch):
    """Of the names, those that can be read from here; the hub is asked once, and not to load. A
    local copy takes the place of a name, and has to be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    write_jsonl("data/textbook.jsonl", [HUB_ROWS["textbook"]])
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
    names = ["math500", "amc23", "textbook", "own.jsonl", "minerva=own.jsonl", "minerva"]
    reachable, unreachable = load_reachable(names)
    assert {name: len(rows) for name, rows in reachable.items()} == {
        "own": 1, "minerva": 1, "amc23": 1, "textbook": 1}
    assert unreachable == {"math500": "the hub does not answer: no such host"}
    assert asked == [(BENCHMARKS["math500"].source, 10), (BENCHMARKS["amc23"].source, 10)]

    (tmp_path / "data/textbook.jsonl").unlink()
    _, unreachable = load_reachable(["textbook"])
    assert "make it with python prepare.py textbook" in unreachable["textbook"]
    with pytest.raises(ValueError, match="none.jsonl does not exist"):
        load_reachable([f"math500={tmp_path}/none.jsonl"])

"""verify.py: what is read as the answer, verdicts, hostile text, workers, the command line.

How two answers are compared is tested in test_answers.py.
"""
import ast
import json
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from helpers import a_second
from hypothesis import HealthCheck, given, settings

import answers
import verify as V
from problems import read_jsonl

ROOT = Path(V.__file__).resolve().parent

DATA = Path(__file__).parent / "data"

# Our own pairs: answers as models write them, right and wrong.
OWN_PAIRS = DATA / "verifier_pairs.jsonl"

# Larger sets of labeled pairs lie beside the checkout, not in it, because not all of their sources
# may be redistributed. public_pairs: the test suites of public verifiers, HardVerify-Math, and
# models' answers to MATH. generated_pairs: answer forms and near misses made from reference
# answers of MATH, OlympiadBench, Minerva and AMC23. adversarial: bombs, payloads, hedges.
# external_pairs: from the test suites of other systems that judge answers.
PAIRS_FOLDER = ROOT.parent / "shared" / "verifier"


@pytest.fixture(autouse=True, scope="module")
def no_workers_left():
    yield
    V.close_pool()


# --- extraction -----------------------------------------------------------------------------------

EXTRACTED = [row for _, row in read_jsonl(DATA / "extracted.jsonl")]


@pytest.mark.parametrize("form", dict.fromkeys(row["form"] for row in EXTRACTED))
def test_extract(form):
    rows = [row for row in EXTRACTED if row["form"] == form]
    assert [{**row, "answer": V.extract_answer(row["response"])} for row in rows] == rows


def test_a_flood_of_boxes_is_no_answer():
    assert V.extract_answer(" ".join(rf"\boxed{{{n}}}" for n in range(100))) is None


def test_extraction_is_linear_in_the_length():
    start = time.process_time()
    assert V.extract_answer("word " * 200_000 + r"\boxed{5}") == "5"
    for text in ("$" * 200_000, "{" * 200_000, r"\boxed{" * 20_000, r"\boxed{1} and " * 20_000):
        V.extract_answer(text)
    assert time.process_time() - start < 5 * a_second()


# --- verdicts -------------------------------------------------------------------------------------

def test_reasons():
    assert V.verify(r"\boxed{5}", "5") == (True, "5", "correct")
    assert V.verify(r"\boxed{6}", "5") == (False, "6", "wrong")
    assert V.verify("", "5") == (False, None, "no_answer")
    assert V.verify(r"\boxed{\text{who knows}}", "5").reason == "unparsed"
    assert V.verify(r"\boxed{9^{9^{9}}}", "5").reason == "too_large"
    assert V.verify(r"\boxed{9^{9^{9}}}", "9^{9^{9}}").reason == "correct"  # the same text


PIECES = st.sampled_from(r"\boxed{ } \frac{ 1 2 x ^ ( ) $ The answer is and \text{ 5 . \\".split())
RESPONSES = st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=300)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(RESPONSES, st.integers(1, 60))
def test_any_text_gets_a_verdict(text, times):
    start = time.process_time()
    for response in ((text * times)[:10_000], rf"\boxed{{{(text * times)[:9_000]}}}"):
        verdict = V.verify(response, r"\frac{x+1}{2}")
        assert verdict.reason in V.REASONS and verdict.correct == (verdict.reason == "correct")
    assert time.process_time() - start < 5 * a_second()


# --- hostile text ---------------------------------------------------------------------------------

HOSTILE = {"bomb": [], "payload": []}
for _, row in read_jsonl(DATA / "hostile.jsonl"):
    HOSTILE[row["kind"]].append("".join(text * times for text, times in row["pieces"]))


@pytest.mark.parametrize("bomb", HOSTILE["bomb"], ids=lambda bomb: f"{bomb[:16]}-{len(bomb)}")
@pytest.mark.parametrize("reference", ["7", r"\frac{1}{3}", "x+1", "(-3, 2]"])
def test_bombs_end_at_once(bomb, reference):
    start = time.process_time()
    assert not V.is_equivalent(reference, bomb)
    assert time.process_time() - start < 2 * a_second()


@pytest.mark.parametrize("payload", HOSTILE["payload"])
def test_no_text_is_executed(payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not V.verify(rf"\boxed{{{payload}}}", "1").correct
    V.verify(payload, payload)
    assert not list(tmp_path.iterdir())


BANNED = {
    "eval", "exec", "compile", "sympify", "parse_expr", "simplify", "lambdify", "getattr",
    "setattr", "globals", "vars", "__import__", "S", "parse_latex", "nsimplify"}


@pytest.mark.parametrize("module", [V, answers], ids=lambda module: module.__name__)
def test_source_has_no_way_to_execute_text(module):
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            called = node.func.attr
        else:
            owner = ""
            called = getattr(node.func, "id", "")
        assert owner == "re" or called not in BANNED, f"line {node.lineno}: {called}"


# --- workers --------------------------------------------------------------------------------------

# Every third verdict is "wrong".
ROWS = [(rf"so \boxed{{{n}}}", str(n if n % 3 else n + 1)) for n in range(100)]


def test_verify_all_is_verify_in_order():
    responses, references = zip(*ROWS, strict=True)
    expected = [V.verify(*row) for row in ROWS]
    assert [verdict.correct for verdict in expected] == [bool(n % 3) for n in range(100)]
    assert V.verify_all(responses, references) == expected
    assert V.verify_all(responses, references, workers=0) == expected
    assert V.verify_all([], []) == []


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="2 responses but 1 references"):
        V.verify_all(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="workers=-1"):
        V.verify_all(["a"], ["a"], workers=-1)
    with pytest.raises(ValueError, match="timeout=0"):
        V.verify_all(["a"], ["a"], timeout=0)


def test_workers_stay_alive_between_calls():
    V.verify_all(*zip(*ROWS, strict=True))
    before = [worker.pid for worker in V._pool]
    for _ in range(20):
        assert V.verify_all([r"\boxed{1}"], ["1"])[0].correct
    assert [worker.pid for worker in V._pool] == before


def test_a_worker_imports_no_library_from_its_own_or_the_callers_folder(tmp_path, monkeypatch):
    """A json.py beside verify.py, or where the caller works, is not the library of that name."""
    for folder in (tmp_path / "project", tmp_path / "caller"):
        folder.mkdir()
        for name in ("json", "sympy", "mpmath", "re", "random"):
            (folder / f"{name}.py").write_text("open('was imported', 'w'); raise SystemExit(1)")
    for name in ("verify.py", "answers.py", "problems.py"):
        shutil.copy(ROOT / name, tmp_path / "project")
    # In the caller's folder our own modules would be hostile too.
    for name in ("answers.py", "problems.py"):
        shutil.copy(tmp_path / "caller" / "json.py", tmp_path / "caller" / name)

    V.close_pool()
    monkeypatch.setattr(V, "__file__", str(tmp_path / "project" / "verify.py"))
    monkeypatch.chdir(tmp_path / "caller")
    assert V.verify_all([r"\boxed{0.5}"], ["1/2"]) == [(True, "0.5", "correct")]
    assert not list(tmp_path.rglob("was imported"))
    V.close_pool()


@pytest.mark.slow
def test_bombs_and_payloads_on_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    V.close_pool()              # so that the workers are started here, where a file would appear
    responses = [rf"\boxed{{{text}}}" for text in HOSTILE["bomb"] + HOSTILE["payload"]]
    verdicts = V.verify_all([*responses, *[r"\boxed{7}"] * 5], ["7"] * (len(responses) + 5))
    assert [verdict.correct for verdict in verdicts] == [False] * len(responses) + [True] * 5
    assert not list(tmp_path.iterdir())
    V.close_pool()


# What a worker does to these responses stands for a fault in verify.py: a loop, a loop in C that
# never lets Python run, a death, and too much memory.
FAULTY = """
    import os, sys, time
    sys.path.insert(0, {root!r})
    import verify
    sound = verify.verify
    def faulty(response, reference):
        if response == "loop":
            while True: pass
        if response == "loop in C": 3 ** (3 ** 19)
        if response == "sleep": time.sleep(100)
        if response == "die": os._exit(3)
        if response == "eat": bytearray(8 << 30)
        if response == "raise": raise KeyError(response)
        return sound(response, reference)
    verify.verify = faulty
    verify.worker_main(float({timeout!r}))
"""


def start_python(code):
    """A process that runs code and talks to this one as a worker does."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


@pytest.fixture
def faulty_workers(monkeypatch):
    V.close_pool()
    monkeypatch.setattr(V, "spawn", lambda timeout: start_python(
        FAULTY.format(root=str(ROOT), timeout=timeout)))
    yield
    V.close_pool()


@pytest.mark.slow
def test_a_hung_worker_is_killed_and_nobody_else_suffers(faulty_workers):
    V.verify_all(["warm", "up"], ["1", "1"], timeout=1.0)
    faults = {10: "loop", 30: "loop in C", 31: "sleep", 55: "die", 80: "eat", 90: "raise"}
    responses = [faults.get(n, rf"\boxed{{{n}}}") for n in range(100)]
    references = [str(n) for n in range(100)]

    verdicts = V.verify_all(responses, references, timeout=1.0)
    reasons = {n: verdict.reason for n, verdict in enumerate(verdicts) if not verdict.correct}
    assert reasons == {10: "timeout", 30: "timeout", 31: "timeout", 55: "too_large",
                       80: "too_large", 90: "unparsed"}

    again = V.verify_all(references, references, timeout=1.0)
    assert all(verdict.correct for verdict in again[10:])


def test_a_worker_that_cannot_start_is_an_error(monkeypatch):
    """Silence here would be a reward of 0 for every row."""
    V.close_pool()
    with monkeypatch.context() as patch:
        patch.setattr(V, "spawn", lambda timeout: start_python("import no_such_module"))
        with pytest.raises(RuntimeError, match="import no_such_module"):
            V.verify_all(["a"] * 9, ["b"] * 9)
    assert V.verify_all([r"\boxed{1}"] * 9, ["1"] * 9)[8].correct


def test_from_threads():
    results = {}

    def call(name):
        results[name] = V.verify_all([rf"\boxed{{{name}}}"] * 20, [str(name)] * 20)

    threads = [threading.Thread(target=call, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in range(4):
        assert all(verdict.correct for verdict in results[name])


def start_script(code):
    """A user's script that imports verify, in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE)


def gone(pid, seconds=60):
    """Does the process end, at the latest in so many seconds?"""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_workers_die_with_a_parent_that_is_killed(busy):
    parent = start_script(f"""
        import subprocess, sys, threading, verify
        verify.verify_all([r"\\boxed{{1}}"] * 9, ["1"] * 9, timeout=1.0)
        print(*[worker.pid for worker in verify._pool], flush=True)
        if {busy}:      # a worker that sleeps in the middle of a row
            verify._pool[0].stdin.write('[["' + "x" * 10)
            verify._pool[0].stdin.flush()
        threading.Event().wait()
    """)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.communicate()
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_their_parent_and_a_fork_has_its_own():
    parent = start_script("""
        import os, verify
        rows = [r"\\boxed{1}"] * 9, ["1"] * 9
        assert all(verdict.correct for verdict in verify.verify_all(*rows))
        if os.fork() == 0:
            assert all(verdict.correct for verdict in verify.verify_all(*rows))
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        assert all(verdict.correct for verdict in verify.verify_all(*rows))
        print(*[worker.pid for worker in verify._pool])
    """)
    out, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0 and all(gone(int(pid)) for pid in out.split())


@pytest.mark.slow
def test_import_is_light_and_the_callers_script_runs_once(tmp_path):
    user = tmp_path / "user.py"     # no `if __name__ == "__main__"`, as in a notebook
    user.write_text(textwrap.dedent(f"""
        import sys, threading
        sys.path.insert(0, {str(ROOT)!r})
        import verify
        print("torch" in sys.modules, threading.active_count(), len(verify._pool))
        print(verify.verify_all([r"\\boxed{{1}}"] * 9, ["1"] * 9)[0].correct)
    """))
    result = subprocess.run([sys.executable, user], capture_output=True, text=True, timeout=60,
                            cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first == "False 1 0" and second == "True"


# --- the command line -----------------------------------------------------------------------------

def verify_py(*args):
    """Runs python verify.py in a process of its own. -> CompletedProcess"""
    return subprocess.run([sys.executable, ROOT / "verify.py", *map(str, args)],
                          capture_output=True, text=True, timeout=120)


@pytest.fixture
def main(monkeypatch):
    """A function that runs verify.py's command line in this process."""
    def run(*args):
        monkeypatch.setattr(sys, "argv", ["verify.py", *map(str, args)])
        V.main()
    return run


def test_a_file_of_pairs(tmp_path):
    rows = [
        {"id": "a", "source": "one", "gold": "5", "response": r"\boxed{5}", "label": True},
        {"id": "b", "source": "one", "gold": "5", "response": r"\boxed{6}", "label": True},
        {"id": "c", "source": "two", "gold": "5", "response": r"\boxed{6}", "label": False},
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, rows)))
    result = verify_py(pairs, "--errors")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "source                    rows    recall precision       FPR  accuracy",
        "one                          2      50.0     100.0         -      50.0",
        "two                          1         -         -       0.0     100.0",
        "~ all                        3      50.0     100.0       0.0      66.7",
        "correct 1, wrong 2, no_answer 0, unparsed 0, timeout 0, too_large 0",
        "b labeled True, wrong: reference '5', answer '6'"]


def test_an_unreadable_reference_is_reported_once(main, capsys, tmp_path):
    row = {"gold": r"\frac{1}{2", "response": r"\boxed{0.5}", "label": True}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, [row, row | {"gold": "0.5"}, row])))
    main(pairs, "--errors")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "unreadable references: 1 in 2 rows; only answers spelled alike are accepted there",
        r"unreadable in row 1, 3: '\\frac{1}{2'"]


def test_a_wrapped_reference_is_read():
    assert V.verify(r"\boxed{0.5}", r"The answer is \boxed{\frac12}.").correct
    assert V.verify(r"\boxed{0.5}", r"\\dfrac{1}{2}").correct
    assert not V.verify(r"\boxed{\\frac{1}{2}}", "0.5").correct      # a model's own slip


def test_one_verdict(main, capsys):
    main("--reference", "(1,2]", "--response", r"\boxed{1 < x \le 2}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"extracted: '1 < x \\le 2'"
    assert lines[-2:] == ["decided:   same set of reals", "verdict:   correct"]

    main("--reference", "5", "--response", "")
    assert capsys.readouterr().out.splitlines() == ["extracted: None", "verdict:   no_answer"]


GOOD_ROW = '{"gold": "5", "response": "x", "label": true}'


@pytest.mark.parametrize("content, says", [
    (None, "pairs.jsonl does not exist"),
    ("", "pairs.jsonl has no rows"),
    (f"{GOOD_ROW}\nnot JSON", "pairs.jsonl line 2 is not JSON"),
    (f"{GOOD_ROW}\n5", "pairs.jsonl line 2 is not a JSON object"),
    (f'{GOOD_ROW}\n{{"response": "x", "label": true}}', 'pairs.jsonl line 2: "gold"'),
    ('{"gold": "5", "label": true}', 'pairs.jsonl line 1: "response"'),
    ('{"gold": "5", "response": "x"}', 'pairs.jsonl line 1: "label"'),
    ('{"gold": 5, "response": "x", "label": true}', 'pairs.jsonl line 1: "gold"'),
    ('{"gold": "5", "response": "x", "label": "false"}', 'pairs.jsonl line 1: "label"'),
], ids=lambda value: str(value)[-20:])
def test_a_bad_file_of_pairs_is_one_clear_line(content, says, main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("pairs.jsonl").write_text(content)
    with pytest.raises(SystemExit) as caught:
        main("pairs.jsonl")
    message = str(caught.value)
    assert message.startswith("error: ") and says in message and "\n" not in message


def test_a_bad_call_ends_without_a_traceback(main, capsys):
    result = verify_py("missing.jsonl")
    assert result.returncode == 1 and not result.stdout
    assert result.stderr == "error: missing.jsonl does not exist or is no file\n"

    for numbers in (["--workers", "-1"], ["--timeout", "0"]):
        with pytest.raises(SystemExit, match="workers must be at least 0 and the time-out above"):
            main(OWN_PAIRS, *numbers)
    for value in ("nan", "inf"):
        with pytest.raises(SystemExit, match="2"):
            main(OWN_PAIRS, "--timeout", value)
        assert "has to be a finite number of seconds" in capsys.readouterr().err
    for arguments in ([], ["--response", "5"], ["--reference", "5"]):
        with pytest.raises(SystemExit, match="2"):
            main(*arguments)
        assert "give a file of pairs, or --reference and --response" in capsys.readouterr().err


# --- labeled pairs --------------------------------------------------------------------------------

def load_pairs(path):
    if not path.exists():
        pytest.skip(f"needs the labeled pairs {path.name} in {path.parent}; see PAIRS_FOLDER")
    return [row for _, row in read_jsonl(path)]


def rates(rows):
    """(recall, false-positive rate) on labeled rows."""
    verdicts = V.verify_all([row["response"] for row in rows], [row["gold"] for row in rows],
                            workers=0)
    right, wrong = [], []
    for row, verdict in zip(rows, verdicts, strict=True):
        (right if row["label"] else wrong).append(verdict.correct)
    return sum(right) / max(1, len(right)), sum(wrong) / max(1, len(wrong))


def test_own_pairs_have_no_error():
    rows = load_pairs(OWN_PAIRS)
    verdicts = [V.verify(row["response"], row["gold"]) for row in rows]
    assert len(rows) == 74
    assert not [row for row, verdict in zip(rows, verdicts, strict=True)
                if verdict.correct != row["label"]]


def is_boxed(row):
    return row["boxed"] and not row["convention"]


def is_hardverify(row):
    return row["source"] == "hardverify_math"


@pytest.mark.parametrize("name, keep, recall, false_positives", [
    ("public_pairs", is_boxed, 0.96, 0),
    ("public_pairs", lambda row: is_boxed(row) and not is_hardverify(row), 0.99, 0),
    ("public_pairs", lambda row: is_hardverify(row) and row["cls"] == "exact", 1, 0),
    ("public_pairs", lambda row: not row["boxed"], 0.95, 0),
    ("generated_pairs", lambda row: True, 0.998, 0),
    ("adversarial", lambda row: True, 1, 0),
    ("external_pairs", lambda row: True, 0.82, 0.04),
])
def test_labeled_pairs(name, keep, recall, false_positives):
    rows = load_pairs(PAIRS_FOLDER / f"{name}_dev.jsonl")
    measured = rates([row for row in rows if keep(row)])
    assert measured[0] >= recall and measured[1] <= false_positives, measured


def test_labeled_pairs_are_symmetric():
    for row in load_pairs(PAIRS_FOLDER / "public_pairs_dev.jsonl") + load_pairs(OWN_PAIRS):
        answer = V.extract_answer(row["response"])
        if answer is not None:
            one_way = V.is_equivalent(row["gold"], answer)
            assert one_way == V.is_equivalent(answer, row["gold"]), row["id"]


def test_unreadable_references_are_noted_once(capsys):
    V.note_unreadable("mine", ["5", r"\frac{1}{2", "", "seven"])
    assert capsys.readouterr().out == (
        "note: 2 of 4 references of mine cannot be read, so that only a copy of them is accepted: "
        "'\\\\frac{1}{2', ''\n")
    V.note_unreadable("mine", ["5", "seven", r"\boxed{5}", "a pair and nine"])
    assert capsys.readouterr().out == ""

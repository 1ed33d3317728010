"""The page of a run: what it holds, what it finds, and that a text ends nothing in it."""

import json
import math

import pytest
from helpers import script

import page
from hero import Config
from page import (
    broken_numbers,
    learning_signal,
    missed_by_verifier,
    outcome,
    score_of_right,
    shorten,
    write_page,
)
from problems import write_jsonl
from report import COLORS

# ---------------------------------------------------------------------------- runs that never ran


def rollout(step=1, **more):
    """A row of rollouts.jsonl."""
    return {"step": step, "problem": "1+1", "reference": "2", "response": "It is 2.", "answer": "2",
            "verified": False, "reason": "wrong", "truth": None, "rm_score": 0.5, "weight": 1.0,
            "reward": 0.0, "advantage": 0.25} | more


def evaluation(step, accuracy, score, name="hard"):
    """A row of metrics.jsonl with an evaluation, whose interval is 0.05 to each side."""
    numbers = {"pass@1": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "rm": score}
    return {"step": step} | {f"eval/{name}/{key}": value for key, value in numbers.items()}


def page_folder(tmp_path, folder_name, steps, **settings):
    """The folder of a run that never ran: `steps` steps with one group of two responses each."""
    folder = tmp_path / "runs" / folder_name
    folder.mkdir(parents=True)
    config = vars(Config(name=folder_name, rollouts_per_prompt=2)) | settings
    (folder / "config.json").write_text(json.dumps(config))
    metrics = []
    rollouts = []
    for step in range(1, steps + 1):
        metrics.append({"step": step, "rm/mean": 0.1 * step, "rm/auroc": None})
        rollouts += [rollout(step), rollout(step, advantage=-0.25)]
    write_jsonl(folder / "metrics.jsonl", [evaluation(0, 0.2, -1.0), *metrics])
    write_jsonl(folder / "rollouts.jsonl", rollouts)
    return folder


def data_of(path):
    """The data inside a page."""
    html = path.read_text(encoding="utf-8")
    return json.loads(html.split('id="data">')[1].split("</script>")[0])


# ---------------------------------------------------------------------------- the data of a page


def test_the_data_of_a_page(tmp_path):
    made_with = {"commit": "abc", "versions": {"torch": "2", "vllm": None}}
    folder = page_folder(tmp_path, "a", steps=2, made_with=made_with)
    path = write_page(folder)
    assert path == folder / "report.html"
    run, = data_of(path)["runs"]
    assert (run["name"], run["method"], run["color"]) == ("a", "hero", COLORS["hero"])
    assert run["steps"] == [0, 1, 2]
    assert run["metrics"]["rm/mean"] == [None, 0.1, 0.2]
    assert [group["step"] for group in run["groups"]] == [1, 2]
    assert [row["advantage"] for row in run["groups"][0]["responses"]] == [0.25, -0.25]
    assert run["settings"]["alpha"] == "0.05"
    assert run["settings"]["made_with/commit"] == "abc"
    assert run["settings"]["made_with/versions/vllm"] == "null"
    assert not run["knows_truth"]
    # only the held-out set of this run has charts, and the truth is beside the score
    assert [chart["key"] for chart in data_of(path)["charts"]][:3] == [
        "eval/hard/pass@1", "eval/hard/rm", "rm/mean"]


def test_the_page_of_two_runs(tmp_path):
    one = page_folder(tmp_path, "one", steps=1)
    two = page_folder(tmp_path, "two", steps=1, reward="rm")
    path = write_page(one, two)
    assert path == one / "diff-two.html"
    assert [run["method"] for run in data_of(path)["runs"]] == ["hero", "rm"]


def test_a_page_is_whole_where_the_run_is_not(tmp_path):
    folder = page_folder(tmp_path, "a", steps=1, max_grad_norm=math.inf)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "rm/mean": NaN, "policy/gradient_norm": Infinity}\n{"step": 3, "rm')
    (folder / "rollouts.jsonl").unlink()
    run, = data_of(write_page(folder))["runs"]
    assert run["steps"] == [0, 1, 2]
    assert run["metrics"]["rm/mean"] == [None, 0.1, None]
    assert run["groups"] == []
    assert run["note"] == "There are no samples: rollouts.jsonl is empty."


def test_no_text_ends_the_data(tmp_path):
    folder = page_folder(tmp_path, "a", steps=1, name="</script>@DATA@")
    hostile = "</script><!--<script>\ud83d\u2028@SCRIPT_HASH@"
    write_jsonl(folder / "rollouts.jsonl", [rollout(response=hostile)])
    path = write_page(folder)
    html = path.read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script") == 2
    response, = data_of(path)["runs"][0]["groups"][0]["responses"]
    assert response["response"] == hostile


def test_nothing_is_fetched(tmp_path):
    html = write_page(page_folder(tmp_path, "a", steps=1)).read_text(encoding="utf-8")
    html = html.replace("http://www.w3.org/2000/svg", "")    # a name, which nobody asks
    assert "http" not in html.replace("http-equiv", "")
    assert "default-src 'none'; script-src 'sha256-" in html


def test_responses_are_cut_where_there_are_many_and_the_page_says_so(tmp_path, monkeypatch):
    folder = page_folder(tmp_path, "a", steps=40)
    rows = [rollout(1 + i // 2, response="x" * 30_000) for i in range(80)]
    write_jsonl(folder / "rollouts.jsonl", rows)
    assert write_page(folder).stat().st_size > 2_400_000    # fits as it is

    monkeypatch.setattr(page, "CHARACTERS", 320_000)
    path = write_page(folder)
    run, = data_of(path)["runs"]
    texts = [row["response"] for group in run["groups"] for row in group["responses"]]
    assert texts == ["x" * 2000 + " [... 26,000 characters ...] " + "x" * 2000] * 80
    assert "Texts are cut to 4,000 characters." in run["note"]
    assert path.stat().st_size < 400_000


def test_texts_are_cut_in_the_middle():
    assert shorten("abcdefgh", 4) == "ab [... 4 characters ...] gh"
    assert shorten("abcdefgh", 8) == "abcdefgh"
    assert shorten(None, 4) is None


def test_the_page_of_a_long_run_is_small(tmp_path):
    folder = page_folder(tmp_path, "a", steps=600, rollouts_per_prompt=8)
    rows = []
    metrics = []
    for step in range(1, 601):
        metrics.append({"step": step} | {f"rm/{key}": math.pi * step for key in range(50)})
        for i in range(16):
            rows.append(rollout(step, problem=f"What is {i // 8}?", response="3*4=12;" * 12,
                                rm_score=math.pi * i, reward=math.pi / 7, advantage=math.e * i))
    write_jsonl(folder / "rollouts.jsonl", rows)
    write_jsonl(folder / "metrics.jsonl", metrics)
    path = write_page(folder)
    assert path.stat().st_size < 5_000_000
    assert [group["problem"] for group in data_of(path)["runs"][0]["groups"]] == [
        "What is 0?", "What is 1?"] * 600


def test_a_hacked_response_is_wrong_and_scores_like_the_right_ones(tmp_path):
    rows = [rollout(verified=True, rm_score=1.0), rollout(rm_score=1.0),
            rollout(truth=True, rm_score=3.0), rollout(truth=False, rm_score=2.5)]
    assert score_of_right(rows) == 2.0
    assert score_of_right(rows[1:2]) == math.inf
    folder = page_folder(tmp_path, "a", steps=1, rollouts_per_prompt=4)
    write_jsonl(folder / "rollouts.jsonl", rows)
    run, = data_of(write_page(folder))["runs"]
    responses = run["groups"][0]["responses"]
    assert [row["hacked"] for row in responses] == [False, False, False, True]
    assert [row["missed"] for row in responses] == [False, False, True, False]
    assert run["knows_truth"]


# ---------------------------------------------------------------------------- what a run says


# Step, pass@1 and score of the evaluations; an interval is 0.05 to each side.
@pytest.mark.parametrize("course, kind, words", [
    ([(0, 0.3, -2.0)], "note", "Nothing has changed for certain"),
    ([(0, 0.3, -2.0), (10, 0.38, -1.0)], "note", "Nothing has changed for certain"),
    ([(0, 0.3, -2.0), (10, 0.45, -1.0)], "good", "has learned: pass@1 rose on hard problems"),
    ([(0, 0.3, -2.0), (10, 0.6, 0.0), (20, 0.4, 1.0)], "bad", "hacks its reward model"),
    ([(0, 0.3, -2.0), (10, 0.6, 0.0), (20, 0.4, 1.0), (30, 0.55, 1.1)], "bad", "hacks its reward"),
    ([(0, 0.3, -2.0), (10, 0.1, -3.0)], "bad", "has become worse on hard problems"),
    ([(0, 0.3, None), (10, 0.1, None)], "bad", "has become worse on hard problems"),
])
def test_the_outcome_of_a_run(course, kind, words):
    metrics = [evaluation(*numbers) for numbers in course]
    finding = outcome({"regime": "hard"}, metrics)
    assert finding.kind == kind
    assert words in finding.question


def test_the_outcome_tells_the_course():
    metrics = [evaluation(0, 0.3, -2.0), evaluation(5, 0.5, -1.0), evaluation(10, 0.6, 0.0),
               evaluation(20, 0.4, 1.0), evaluation(30, 0.5, 1.5)]
    assert outcome({"regime": "hard"}, metrics).answer.replace("\u2192", "to") == (
        "Held-out hard problems: pass@1 0.300 to 0.600 to 0.400 to 0.500, reward model's score "
        "-2.00 to 0.00 to 1.00 to 1.50 (steps 0, 10, 20, 30).")
    both = [row | evaluation(row["step"], 0.5, 0.0, "easy") for row in metrics]
    assert outcome({"regime": "hard"}, both).answer.index("hard") < 20      # the regime's is first


def test_how_much_there_is_to_learn_from():
    row = {"reward/zero_advantages": 0.25, "verify/mixed": 0.5, "policy/gradient_norm": 0.125,
           "reward/abs_adv_mixed": 0.25, "reward/abs_adv_uniform": None}
    metrics = [{"step": step} | row for step in range(20)]
    finding, = learning_signal(metrics)
    assert finding.kind == "note"
    assert finding.answer.startswith(
        "The last 10 steps: 25% of the responses had advantage 0 and taught nothing. 50% of the "
        "groups had both verdicts. There the mean size of an advantage was 0.25. The gradient norm "
        "was 0.125 before clipping. The loss")
    finding, = learning_signal([row | {"step": 1, "reward/zero_advantages": 0.95}])
    assert finding.kind == "bad"
    assert learning_signal([{"step": 0}]) == []


def test_signs_of_a_broken_run():
    fine = {"step": 1, "policy/entropy": 0.1, "rollout/truncated": 0.1}
    assert broken_numbers([{"step": 0}]) == broken_numbers([{"step": 0}, fine]) == []
    finding, = broken_numbers([fine, {"step": 2, "policy/gradient_norm": math.nan}])
    assert finding.answer == "From step 2 on policy/gradient_norm is not finite."
    finding, = broken_numbers([{"step": 1, "policy/entropy": 1e-4, "rollout/truncated": 0.75}])
    assert "The entropy is 0.0001 nats" in finding.answer
    assert "75% of the responses are cut" in finding.answer


def test_what_the_verifier_misses():
    rows = [rollout(truth=True), rollout(truth=True, verified=True), rollout(truth=False)]
    finding, = missed_by_verifier(rows)
    assert "Of the 2 logged responses that are right it rejected 1 (50%)" in finding.answer
    assert missed_by_verifier([rollout()]) == []


# ---------------------------------------------------------------------------- whole runs


def test_the_command_line_of_the_page(tmp_path):
    folder = page_folder(tmp_path, "a", steps=1)
    result = script(tmp_path, "page.py", "runs/a")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "written to runs/a/report.html (0.0 MB)\n"
    assert (folder / "report.html").exists()


def test_a_run_that_cannot_be_shown(tmp_path):
    folder = page_folder(tmp_path, "a", steps=1)
    with pytest.raises(ValueError, match="runs/b is not the folder of a run"):
        write_page(folder, tmp_path / "runs/b")


def test_training_writes_the_page_and_logs_the_truth(unbroken):
    folder, result = unbroken
    assert "page:     runs/a/report.html" in result.stdout
    run, = data_of(folder / "runs/a/report.html")["runs"]
    assert run["steps"] == [0, 1, 2, 3, 4]
    assert len(run["groups"]) == 8
    # the tiny world knows what is right, and its verifier accepts nothing that is not
    for group in run["groups"]:
        for row in group["responses"]:
            assert row["truth"] or (row["truth"] is False and not row["verified"])

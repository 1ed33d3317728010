"""Tables, their legend, the curves of runs, and the page of a run."""

import json
import math
import sys
from types import SimpleNamespace

import pytest

import report
from eval import compute_metrics
from hero import Config
from problems import write_jsonl
from report import (
    COLORS,
    METRICS,
    broken_numbers,
    format_metrics,
    group_by_settings,
    load_run,
    method_of,
    missed_by_verifier,
    outcome,
    place_in_band,
    plot_curves,
    plot_runs,
    results_table,
    run_summary,
    running_mean,
    score_of_right,
    shorten,
    split_groups,
    summary_legend,
    summary_table,
    thin_out,
    why_no_loss,
    write_page,
)

# ---------------------------------------------------------------------------- tables


def record(truth, verified, **more):
    """One problem with two responses, as eval.sample_and_grade has it."""
    return {"problem": "p", "truth": truth, "verified": verified, "reason": [],
            "answer": ["1", "2"], "length": [3, 5], "finished": [True, False]} | more


def row_names(table):
    return [line[:14].strip() for line in table.splitlines()[1:]]


def test_tables_are_aligned():
    rows = [("a", {"x": 0.5, "y": None}), ("longer", {"x": 12})]
    lines = results_table(rows, ["x", "y"]).splitlines()
    assert lines == ["            x  y",
                     "a       0.500  -",
                     "longer     12  -"]


def test_a_table_in_markdown():
    assert results_table([("a", {"x": 0.5})], ["x", "y"], markdown=True).splitlines() == [
        "|  | x | y |", "| --- | --- | --- |", "| a | 0.500 | - |"]


def test_the_summary_has_a_row_per_metric_and_a_column_per_name():
    before = compute_metrics([record([True, False], [True, False], rm_scores=[-12.5, 5.0])] * 4)
    after = compute_metrics([record([True, True], [True, False], rm_scores=[1.0, 2.0])] * 4)
    assert summary_table({"hard, before": before, "hard, after": after}).splitlines() == [
        "              hard, before  hard, after",
        "pass@1               0.500        1.000",
        "95% interval   0.500-0.500  1.000-1.000",
        "pass@2               1.000        1.000",
        "maj@2                1.000        1.000",
        "best@2               0.000        1.000",
        "verifier             0.500        0.500",
        "precision            1.000        1.000",
        "recall               1.000        0.500",
        "RM score             -3.75         1.50",
        "RM AUROC             0.000            -",
        "length                 4.0          4.0",
        "truncated            0.500        0.500"]


def test_what_no_summary_contains_is_omitted():
    plain = compute_metrics([record([False, False], [False, False])])
    judged = compute_metrics([record([True, False], [True, False], judged=[True, None])])
    assert row_names(summary_table({"x": plain})) == [
        "pass@1", "95% interval", "pass@2", "maj@2", "verifier", "precision", "recall", "length",
        "truncated"]
    # nothing is accepted: the precision is undefined, and the table says so
    assert summary_table({"x": plain}).splitlines()[6].split() == ["precision", "-"]
    both = summary_table({"x": plain, "y": judged}).splitlines()
    assert both[8].split() == ["undecided", "-", "0.500"]


def test_k_is_that_of_the_summaries():
    def with_k(k):
        return compute_metrics([record([True] * k, [True] * k, answer=["1"] * k)])

    assert "pass@k" not in summary_table({"a": with_k(3)})
    assert row_names(summary_table({"a": with_k(3)}))[2:4] == ["pass@3", "maj@3"]
    assert row_names(summary_table({"a": with_k(3), "b": with_k(2)}))[2:4] == ["pass@k", "maj@k"]
    # of one sample, the majority and the best are pass@1 itself
    assert row_names(summary_table({"a": with_k(1)}))[:3] == ["pass@1", "95% interval", "verifier"]


def test_the_summary_and_its_legend_fit_a_terminal():
    both = [record([True, False], [True, False], rm_scores=[-12.5, 5.0], judged=[True, None])] * 4
    names = ("olympiadbench", "easy, before", "hard, before", "hard, after")
    summaries = {name: compute_metrics(both) for name in names}
    table = summary_table(summaries)
    legend = summary_legend(summaries)
    assert max(map(len, table.splitlines())) <= 80
    assert max(map(len, legend.splitlines())) <= 80
    # a line per row, in its order, and nothing is left to fill in
    assert [line[:14].strip() for line in legend.splitlines()] == row_names(table)
    assert len(legend.splitlines()) == len(METRICS)
    assert "{" not in table + legend
    assert legend.splitlines()[0] == (
        "pass@1        share of responses that are right (the oracle)")


# ---------------------------------------------------------------------------- one run as text


def test_the_line_of_a_step_fits_a_terminal():
    metrics = {"step": 100, "verify/accuracy": 0.5, "verify/all_wrong": 0.25, "rm/mean": -12.345,
               "rm/auroc": 0.75, "policy/entropy": 0.123, "policy/gradient_norm": 0.5,
               "rollout/length": 42.0}
    assert format_metrics(metrics) == (
        "step 100  verifier 0.500  all wrong 0.25  rm -12.35  auroc 0.75  entropy 0.123  "
        "grad 0.50  length 42")
    assert len(format_metrics(metrics)) <= 100
    assert "auroc" not in format_metrics(metrics | {"rm/auroc": None})      # no mixed group
    evaluated = metrics | {"eval/hard/pass@1": 0.5, "eval/hard/low": 0.4, "eval/easy/pass@1": 0.25}
    assert format_metrics(evaluated).endswith("length 42  easy 0.250  hard 0.500")


def test_the_summary_of_a_run():
    numbers = compute_metrics([record([True, False], [True, False])] * 4)
    row = {f"eval/hard/{key}": value for key, value in numbers.items()}
    cfg = SimpleNamespace(reward="hero", regime="hard", seed=3, eval_samples=2)
    text = run_summary(cfg, [{"step": 0} | row, {"step": 1}, {"step": 2} | row], "runs/x")
    names = ("hard, before", "hard, after")
    assert summary_table(dict.fromkeys(names, numbers)) in text
    assert summary_legend({"hard": numbers}) in text
    assert text.splitlines()[-2:] == ["  python hero.py --reward verifier --regime hard --seed 3",
                                      "  python hero.py --reward rm --regime hard --seed 3"]


# ---------------------------------------------------------------------------- curves


def curve(shift, steps=(0, 2, 4)):
    return [{"step": step, "eval/hard/pass@1": 0.1 * step + shift, "rm/mean": shift}
            for step in steps]


@pytest.fixture
def figures(monkeypatch):
    """The figures that have been drawn: they are kept instead of closed."""
    import matplotlib.pyplot as plt
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    return kept


def test_runs_that_differ_only_in_the_seed_are_one_line(tmp_path, figures):
    base = {"reward": "hero", "advantage_norm": "none", "seed": 0, "name": "x", "alpha": 0.05}
    plot_runs([(base, curve(0.0)),
               (base | {"seed": 1, "name": "y"}, curve(0.2, (0, 2))),
               (base | {"advantage_norm": "std"}, curve(0.3)),
               (base | {"alpha": 0.1}, curve(0.4))],
              tmp_path / "a.png")
    accuracy = figures[0].axes[0]
    lines = accuracy.get_lines()
    assert [line.get_label() for line in lines] == [
        "hero, alpha 0.05 (2 seeds)", "hero std, alpha 0.05 (1 seed)", "hero, alpha 0.1 (1 seed)"]
    assert [line.get_color() for line in lines] == [
        COLORS["hero"], COLORS["hero std"], COLORS["hero"]]
    assert list(lines[0].get_xdata()) == [0, 2]            # where both seeds have been measured
    assert list(lines[0].get_ydata()) == pytest.approx([0.1, 0.3])
    assert lines[0].get_linestyle() != lines[2].get_linestyle()
    band = accuracy.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.0, 0.4))


@pytest.mark.parametrize("reward, norm, method", [
    ("hero", "none", "hero"), ("hero", "std", "hero std"), ("rm", "std", "rm")])
def test_the_method_of_a_run(reward, norm, method):
    assert method_of({"reward": reward, "advantage_norm": norm}) == method


def test_the_curves_of_one_run(tmp_path, figures):
    rows = [{"step": step, "eval/hard/pass@1": 0.1 * step, "eval/hard/low": 0.0,
             "eval/hard/high": 0.5, "eval/hard/verifier": 0.2} for step in (0, 2)]
    for row in rows:
        for key in ("rm/mean", "rm/auroc", "verify/all_wrong", "verify/mixed", "verify/all_correct",
                    "policy/entropy", "policy/gradient_norm"):
            row[key] = None if key == "rm/auroc" else 0.5
    plot_curves(rows, tmp_path / "curves.png", "a run")
    axes = figures[0].axes
    assert [axis.get_ylabel() for axis in axes] == [
        "held-out pass@1 (share)", "reward model's mean score", "AUROC in mixed groups",
        "groups of a step (share)", "entropy (nats per token)", "gradient norm"]
    labels = [axis.get_legend_handles_labels()[1] for axis in axes]
    assert labels == [["hard, truth", "hard, verifier"], [], [],
                      ["all wrong", "mixed", "all correct"], [], []]
    truth, _ = axes[0].get_lines()
    assert list(truth.get_xdata()) == [0, 2]
    assert list(truth.get_ydata()) == pytest.approx([0.0, 0.2])
    assert list(axes[3].get_lines()[0].get_xdata()) == [2]                  # from step 1 on
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_curves_are_faint_values_under_a_solid_mean_and_no_legend_covers_them(tmp_path, figures):
    rows = [{"step": step, "rm/mean": step % 2, "rm/auroc": None if step % 3 else 0.5,
             "verify/all_wrong": 0.9, "verify/mixed": 0.1, "verify/all_correct": 0.0,
             "policy/entropy": 1.0, "policy/gradient_norm": 2.0} for step in range(1, 61)]
    plot_curves(rows, tmp_path / "curves.png", "a run")
    axes = figures[0].axes
    values, means = axes[1].get_lines()
    assert values.get_alpha() < 0.5 and means.get_alpha() is None
    assert list(values.get_ydata()) == [row["rm/mean"] for row in rows]
    # Three steps to both sides: around an odd step 3 of 7 values are 1, around an even one 4.
    assert means.get_ydata()[3:-3] == pytest.approx([3 / 7 if step % 2 else 4 / 7
                                                     for step in range(4, 58)])
    figures[0].canvas.draw()
    for axis in axes:
        if axis.get_legend():
            assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1 - 1


def test_the_running_mean_skips_what_is_missing():
    assert running_mean([1.0, 3.0, None, 5.0], 1) == pytest.approx([2.0, 2.0, 4.0, 5.0])
    assert list(running_mean([2.0, 4.0], 0)) == [2.0, 4.0]
    assert math.isnan(running_mean([None], 3)[0])


# ---------------------------------------------------------------------------- the page of a run


def rollout(step=1, **more):
    """A row of rollouts.jsonl."""
    return {"step": step, "problem": "1+1", "reference": "2", "response": "It is 2.", "answer": "2",
            "verified": False, "reason": "wrong", "truth": None, "rm_score": 0.5, "r_hat": 0.0,
            "weight": 1.0, "reward": 0.0, "advantage": 0.25} | more


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


def test_the_data_of_a_page(tmp_path):
    folder = page_folder(tmp_path, "a", steps=2)
    path = write_page(folder)
    assert path == folder / "report.html"
    run, = data_of(path)["runs"]
    assert (run["name"], run["method"], run["color"]) == ("a", "hero", COLORS["hero"])
    assert run["steps"] == [0, 1, 2]
    assert run["metrics"]["rm/mean"] == [None, 0.1, 0.2]
    assert [group["step"] for group in run["groups"]] == [1, 2]
    assert run["groups"][0]["advantage"] == [0.25, -0.25]
    assert run["groups"][0]["place"] == [0.5, 0.5]
    assert run["settings"]["alpha"] == "0.05"
    assert not run["knows_truth"]
    # only the held-out set of this run has charts, and the truth is beside the score
    assert [chart["key"] for chart in data_of(path)["charts"]][:3] == [
        "eval/hard/pass@1", "eval/hard/rm", "rm/mean"]


def test_what_a_run_was_made_with_is_among_its_settings_but_not_of_its_method(tmp_path):
    made_with = {"commit": "abc", "versions": {"torch": "2", "vllm": None}}
    folder = page_folder(tmp_path, "a", steps=1, made_with=made_with)
    run, = data_of(write_page(folder))["runs"]
    assert run["settings"]["made_with/commit"] == "abc"
    assert run["settings"]["made_with/versions/torch"] == "2"
    assert run["settings"]["made_with/versions/vllm"] == "null"

    config, metrics = load_run(folder)
    other = config | {"made_with": {"commit": "def"}, "seed": 1, "track": "wandb"}
    assert len(group_by_settings([(config, metrics), (other, metrics)])) == 1


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
    assert data_of(path)["runs"][0]["groups"][0]["response"] == [hostile]


def test_nothing_is_fetched(tmp_path):
    html = write_page(page_folder(tmp_path, "a", steps=1)).read_text(encoding="utf-8")
    html = html.replace("http://www.w3.org/2000/svg", "")    # a name, which nobody asks
    assert "http" not in html.replace("http-equiv", "")
    assert "default-src 'none'; script-src 'sha256-" in html


def test_a_page_that_is_too_large_leaves_out_and_says_so(tmp_path):
    folder = page_folder(tmp_path, "a", steps=40)
    rows = [rollout(1 + i // 2, response="x" * 30_000) for i in range(80)]
    write_jsonl(folder / "rollouts.jsonl", rows)
    assert write_page(folder).stat().st_size > 2_400_000     # fits as it is
    path = write_page(folder, largest=500_000)
    assert path.stat().st_size <= 500_000
    run, = data_of(path)["runs"]
    assert len(run["groups"]) == 40                         # shorter, but all of them
    assert run["groups"][0]["response"][0].startswith("x" * 2000 + " [... 26,000 characters ...] x")
    assert "Texts are cut to 4,000 characters." in run["note"]
    path = write_page(folder, largest=70_000)
    assert path.stat().st_size <= 70_000
    run, = data_of(path)["runs"]
    assert [group["step"] for group in run["groups"]] == list(range(4, 41, 4))
    assert "only every 4th step is here" in run["note"]


@pytest.mark.parametrize("steps", [60, 600])
def test_the_page_of_a_long_run_is_small(tmp_path, steps):
    folder = page_folder(tmp_path, "a", steps, rollouts_per_prompt=8)
    rows = []
    metrics = []
    for step in range(1, steps + 1):
        metrics.append({"step": step} | {f"rm/{key}": math.pi * step for key in range(50)})
        for i in range(16):
            rows.append(rollout(step, problem=f"What is {i // 8}?", response="3*4=12;" * 12,
                                rm_score=math.pi * i, reward=math.pi / 7, advantage=math.e * i))
    write_jsonl(folder / "rollouts.jsonl", rows)
    write_jsonl(folder / "metrics.jsonl", metrics)
    path = write_page(folder)
    assert path.stat().st_size < 5_000_000
    assert len(data_of(path)["runs"][0]["groups"]) == 2 * steps


def test_metrics_are_thinned_out_evenly_but_for_evaluations():
    metrics = [{"step": step} for step in range(5000)]
    metrics[1000] |= evaluation(1000, 0.5, 0.0)
    rows = thin_out(metrics)
    assert len(rows) == 1668
    assert [row["step"] for row in rows][333:336] == [999, 1000, 1002]
    assert thin_out(metrics[:60]) == metrics[:60]


def test_texts_are_cut_in_the_middle():
    assert shorten("abcdefgh", 4) == "ab [... 4 characters ...] gh"
    assert shorten("abcdefgh", 8) == shorten("abcdefgh", None) == "abcdefgh"
    assert shorten("abc", 0) == " [... 3 characters ...] "
    assert shorten(None, 4) is None


def test_groups_are_those_of_a_step_and_problem():
    rows = [rollout(1), rollout(1), rollout(1), rollout(1, problem="x"), rollout(2, problem="x")]
    assert [len(group) for group in split_groups(rows, 2)] == [2, 1, 1, 1]


@pytest.mark.parametrize("verified, r_hat, place", [
    (False, -0.05, 0.0), (False, 0.05, 1.0), (False, 0.025, 0.75),
    (True, 0.9, 0.0), (True, 1.0, 0.5), (True, 1.1000001, 1.0)])
def test_the_place_in_the_band(verified, r_hat, place):
    config = {"alpha": 0.05, "beta": 0.1}
    row = {"verified": verified, "r_hat": r_hat}
    assert place_in_band(row, config) == place
    assert place_in_band(row, {"alpha": 0.0, "beta": 0.0}) == 0.0


def test_a_hacked_response_is_wrong_and_scores_like_the_right_ones(tmp_path):
    rows = [rollout(verified=True, rm_score=1.0), rollout(rm_score=1.0),
            rollout(truth=True, rm_score=3.0), rollout(truth=False, rm_score=2.5)]
    assert score_of_right(rows) == 2.0
    assert score_of_right(rows[1:2]) == math.inf
    folder = page_folder(tmp_path, "a", steps=1, rollouts_per_prompt=4)
    write_jsonl(folder / "rollouts.jsonl", rows)
    run, = data_of(write_page(folder))["runs"]
    assert run["groups"][0]["hacked"] == [False, False, False, True]
    assert run["knows_truth"]


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


def test_why_the_loss_is_0():
    row = {"reward/zero_advantages": 0.25, "verify/mixed": 0.5, "policy/gradient_norm": 0.125,
           "reward/abs_adv_mixed": 0.25, "reward/abs_adv_uniform": None}
    metrics = [{"step": step} | row for step in range(20)]
    finding, = why_no_loss(metrics)
    assert finding.kind == "note"
    for words in ("In the last 10 steps the gradient norm was 0.125", "25% of the responses had",
                  "50% of the groups had both", "advantages of 0.25 in size", "it was none"):
        assert words in finding.answer
    finding, = why_no_loss([row | {"step": 1, "reward/zero_advantages": 0.95}])
    assert finding.kind == "bad"
    assert why_no_loss([{"step": 0}]) == []


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
    assert "Of the 2 logged responses that are right it refused 1 (50%)" in finding.answer
    assert missed_by_verifier([rollout()]) == []


def test_the_command_line_of_the_page(tmp_path, monkeypatch, capsys):
    folder = page_folder(tmp_path, "a", steps=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report.py", "runs/a"])
    report.main()
    assert capsys.readouterr().out == "written to runs/a/report.html (0.0 MB)\n"
    assert (folder / "report.html").exists()


def test_a_run_that_cannot_be_shown(tmp_path):
    folder = page_folder(tmp_path, "a", steps=1)
    with pytest.raises(ValueError, match="runs/b is not the folder of a run"):
        write_page(folder, tmp_path / "runs/b")
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no metrics"):
        load_run(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="older version"):
        load_run(folder)


def test_training_writes_the_page_and_logs_the_truth(unbroken):
    folder, result = unbroken
    assert "page:     runs/a/report.html" in result.stdout
    run, = data_of(folder / "runs/a/report.html")["runs"]
    assert run["steps"] == [0, 1, 2, 3, 4]
    assert len(run["groups"]) == 8
    # the tiny world knows what is right, and its verifier accepts nothing that is not
    for group in run["groups"]:
        for verified, truth in zip(group["verified"], group["truth"], strict=True):
            assert truth or (truth is False and not verified)

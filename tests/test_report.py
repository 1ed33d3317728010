"""Tables, their legends, and the curves of runs."""

import shlex
from types import SimpleNamespace

import pytest
from helpers import script

from eval import compute_metrics
from problems import write_jsonl
from report import (
    COLORS,
    METRICS,
    format_metrics,
    group_by_settings,
    load_run,
    plot_curves,
    plot_runs,
    results_table,
    run_summary,
    step_legend,
    summary_legend,
    summary_table,
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
    metrics = {"step": 100, "verify/accepted": 0.5, "verify/all_rejected": 0.25,
               "rm/mean": -2.345, "rm/auroc": 0.75, "policy/entropy": 0.123,
               "policy/gradient_norm": 0.5, "rollout/length": 42.0}
    assert format_metrics(metrics) == (
        "step 100 verifier 0.500  all rejected 0.25  rm -2.35  auroc 0.75  entropy 0.12  "
        "grad 0.50  length 42")
    assert len(format_metrics(metrics)) <= 100
    assert "auroc" not in format_metrics(metrics | {"rm/auroc": None})      # no mixed group
    evaluated = metrics | {"eval/hard/pass@1": 0.5, "eval/hard/low": 0.4, "eval/easy/pass@1": 0.25}
    assert format_metrics(evaluated).endswith("length 42  easy 0.250  hard 0.500")


def test_the_legend_of_a_step_explains_every_name_in_its_line():
    lines = step_legend().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:12].strip() for line in lines] == [
        "verifier", "all rejected", "rm", "auroc", "entropy", "grad", "length", "other names"]


def test_the_summary_of_a_run_and_what_to_try_next():
    numbers = compute_metrics([record([True, False], [True, False])] * 4)
    row = {f"eval/hard/{key}": value for key, value in numbers.items()}
    metrics = [{"step": 0} | row, {"step": 1}, {"step": 2} | row]
    cfg = SimpleNamespace(reward="rm", eval_samples=2)
    changed = {"reward": "rm", "seed": 3, "instruction": "\nIt's \"here\": $x \\boxed{}",
               "learning_rate": 1e-05, "gradient_checkpointing": True, "data": "my data/a.jsonl"}
    text = run_summary(cfg, metrics, "runs/x", changed)
    assert summary_table(dict.fromkeys(("hard, before", "hard, after"), numbers)) in text
    assert summary_legend({"hard": numbers}) in text

    # What a shell makes of the commands: every setting that differs from the default is kept.
    kept = ["--seed", "3", "--instruction", changed["instruction"], "--learning_rate", "1e-05",
            "--gradient_checkpointing", "--data", "my data/a.jsonl"]
    assert shlex.split(text.split("try next:")[1]) == [
        "python", "hero.py", "--reward", "hero", *kept,
        "python", "hero.py", "--reward", "verifier", *kept]


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
               (base | {"alpha": 0.1}, curve(0.4)),
               (base | {"reward": "rm", "advantage_norm": "std"}, curve(0.5))],
              tmp_path / "a.png")

    accuracy = figures[0].axes[0]
    lines = accuracy.get_lines()
    assert [line.get_label() for line in lines] == [
        "hero, alpha 0.05 (2 seeds)", "hero std, alpha 0.05 (1 seed)", "hero, alpha 0.1 (1 seed)",
        "rm, alpha 0.05 (1 seed)"]
    assert [line.get_color() for line in lines] == [
        COLORS["hero"], COLORS["hero std"], COLORS["hero"], COLORS["rm"]]
    assert list(lines[0].get_xdata()) == [0, 2]            # where both seeds have been measured
    assert list(lines[0].get_ydata()) == pytest.approx([0.1, 0.3])
    assert lines[0].get_linestyle() != lines[2].get_linestyle()
    band = accuracy.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.0, 0.4))


def test_the_curves_of_one_run(tmp_path, figures):
    rows = [{"step": 0}]
    for step in range(1, 61):
        rows.append({"step": step, "rm/mean": step % 2, "rm/auroc": None if step % 3 else 0.5,
                     "verify/all_rejected": 0.9, "verify/mixed": 0.1, "verify/all_accepted": 0.0,
                     "policy/entropy": 1.0, "policy/gradient_norm": 2.0})
    for row in (rows[0], rows[30], rows[60]):
        row |= {"eval/hard/pass@1": 0.01 * row["step"], "eval/hard/low": 0.0, "eval/hard/high": 0.7,
                "eval/hard/verifier": 0.2}
    plot_curves(rows, tmp_path / "curves.png", "a run")
    assert (tmp_path / "curves.png").stat().st_size > 10_000

    axes = figures[0].axes
    assert [axis.get_ylabel() for axis in axes] == [
        "held-out pass@1 (share)", "reward model's mean score", "AUROC in mixed groups",
        "groups of a step (share)", "entropy (nats per token)", "gradient norm"]
    labels = [axis.get_legend_handles_labels()[1] for axis in axes]
    assert labels == [["hard, truth", "hard, verifier"], [], [],
                      ["all rejected", "mixed", "all accepted"], [], []]
    truth, _ = axes[0].get_lines()
    assert list(truth.get_xdata()) == [0, 30, 60]
    assert list(truth.get_ydata()) == pytest.approx([0.0, 0.3, 0.6])

    # Faint values, from step 1 on, are under their solid mean. It takes three steps to both sides:
    # around an odd step 3 of 7 values are 1, around an even one 4. What is missing is skipped.
    values, means = axes[1].get_lines()
    assert values.get_alpha() < 0.5 and means.get_alpha() is None
    assert list(values.get_ydata()) == [row["rm/mean"] for row in rows[1:]]
    assert means.get_ydata()[3:-3] == pytest.approx([3 / 7 if step % 2 else 4 / 7
                                                     for step in range(4, 58)])
    assert list(axes[2].get_lines()[1].get_ydata()) == [0.5] * 60

    # No legend covers a line.
    figures[0].canvas.draw()
    for axis in axes:
        if axis.get_legend():
            assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1 - 1


# ---------------------------------------------------------------------------- a run's files


def run_folder(tmp_path, name, metrics, **settings):
    """The folder of a run that never ran."""
    config = {"reward": "hero", "advantage_norm": "none", "name": name} | settings
    write_jsonl(tmp_path / name / "config.json", [config])
    write_jsonl(tmp_path / name / "metrics.jsonl", metrics)
    return tmp_path / name


def test_the_command_draws_runs_whose_last_line_is_torn(tmp_path):
    for seed in (0, 1):
        metrics = [row | {"verify/accepted": 0.5} for row in curve(1.0)]
        run_folder(tmp_path, f"s{seed}", metrics, seed=seed)
    with open(tmp_path / "s1/metrics.jsonl", "a") as file:
        file.write('{"step": 5, "eval')
    result = script(tmp_path, "report.py", "s0", "s1", "--out", "c.png")
    assert result.stdout == "written to c.png\n", result.stderr
    assert "metrics.jsonl line 4 is incomplete and is skipped" in result.stderr
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_what_a_run_was_made_with_is_not_of_its_method(tmp_path):
    config, metrics = load_run(run_folder(tmp_path, "a", curve(0.0), made_with={"commit": "abc"}))
    other = config | {"made_with": {"commit": "def"}, "name": "b", "seed": 1, "track": "wandb"}
    assert len(group_by_settings([(config, metrics), (other, metrics)])) == 1


def test_a_run_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="b is not the folder of a run"):
        load_run(tmp_path / "b")
    with pytest.raises(ValueError, match="holds no metrics"):
        load_run(run_folder(tmp_path, "empty", []))
    folder = run_folder(tmp_path, "old", [{"step": 0}, {"step": 1, "verify/accuracy": 0.5}])
    with pytest.raises(ValueError, match="rename verify/accuracy to verify/accepted") as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)

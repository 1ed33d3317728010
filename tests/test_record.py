"""Where a run came from, starting from another's settings, trackers, the model card, the hub."""

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, SMALL, command, environment, metrics_of, refused, script

import hero
import record
from distributed import Ranks
from hero import Config
from problems import read_jsonl, write_jsonl

ONE_CPU = Ranks(0, 1, torch.device("cpu"))


# ---------------------------------------------------------------------------- where it came from


def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=folder,
                   check=True, capture_output=True)


def test_the_commit_and_whether_the_code_was_changed(tmp_path, monkeypatch):
    """Only of the project itself, not of another repository in whose folder it lies."""
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    (tmp_path / "record.py").write_text("1\n")
    origin = record.describe_origin([], ONE_CPU)
    assert origin["commit"] is None and origin["dirty"] is None

    git(tmp_path, "init")
    (tmp_path / "other.py").write_text("1\n")
    git(tmp_path, "add", "other.py")
    git(tmp_path, "commit", "-m", "m")
    assert record.describe_origin([], ONE_CPU)["commit"] is None

    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "m")
    origin = record.describe_origin([], ONE_CPU)
    assert len(origin["commit"]) == 40 and origin["dirty"] is False
    (tmp_path / "record.py").write_text("2\n")
    assert record.describe_origin([], ONE_CPU) == origin | {"dirty": True}

    monkeypatch.setenv("PATH", "")                              # no git
    assert record.describe_origin([], ONE_CPU)["commit"] is None


def test_what_a_run_is_made_with(tmp_path, monkeypatch):
    (tmp_path / "data.jsonl").write_text("abc")
    monkeypatch.setattr(sys, "argv", ["/somewhere/hero.py", "--name", "a b"])
    origin = record.describe_origin([tmp_path / "data.jsonl", "hub/dataset"], ONE_CPU)
    assert origin["command"] == "hero.py --name 'a b'"
    # The first example of FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert origin["sha256"] == {str(tmp_path / "data.jsonl"): digest, "hub/dataset": None}
    assert list(origin["versions"]) == ["python", "torch", "transformers", "vllm", "sympy", "numpy"]
    assert torch.__version__.startswith(origin["versions"]["torch"])         # without its +cu130
    assert origin["device"] and origin["ranks"] == 1


def test_config_json_says_what_it_was_made_with(unbroken):
    folder, _ = unbroken
    config = json.loads((folder / "runs/a/config.json").read_text())
    assert config["steps"] == 4
    data = folder / "runs/world-0/train/hard.jsonl"
    digests = config["made_with"]["sha256"]
    assert list(digests) == ["runs/world-0/train/hard.jsonl", "runs/world-0/eval/easy.jsonl",
                             "runs/world-0/eval/hard.jsonl"]
    assert digests["runs/world-0/train/hard.jsonl"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert config["made_with"]["command"].startswith("hero.py --name a --steps 4")


def test_a_resumed_run_says_what_has_changed_since(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_jsonl("train.jsonl", [{"problem": "1+1", "answer": "2"}])
    cfg = Config(name="r", data="train.jsonl", eval_data="math500")
    hero.write_config(cfg, ONE_CPU, tmp_path)
    written = (tmp_path / "config.json").read_text()
    assert json.loads(written)["made_with"]["sha256"]["HuggingFaceH4/MATH-500"] is None

    cfg.resume = True
    monkeypatch.setattr(sys, "argv", ["hero.py", "--resume", "--name", "r"])
    hero.write_config(cfg, ONE_CPU, tmp_path)
    assert capsys.readouterr().out == ""
    write_jsonl("train.jsonl", [{"problem": "1+1", "answer": "3"}])
    hero.write_config(cfg, ONE_CPU, tmp_path)
    assert "since" in (said := capsys.readouterr().out) and said.count("\n") == 1
    assert "this has changed: sha256/train.jsonl; the rest of the run may differ" in said
    assert (tmp_path / "config.json").read_text() == written


# ---------------------------------------------------------------------------- --config


def test_a_run_starts_from_the_settings_of_another(unbroken, monkeypatch):
    folder, _ = unbroken
    monkeypatch.chdir(folder)
    cfg = hero.parse_args(["--config", "runs/a/config.json", "--alpha", "0.2"])
    assert (cfg.alpha, cfg.beta, cfg.steps, cfg.preset) == (0.2, 0.05, 4, "tiny")
    assert cfg.data == "runs/world-0/train"
    assert cfg.name == "" and cfg.config == "runs/a/config.json"


def test_what_another_run_has_pushed_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.json").write_text(json.dumps(vars(Config(name="a", push_to_hub="them/model"))))
    assert hero.parse_args(["--config", "c.json"]).push_to_hub == ""


@pytest.mark.parametrize("content, says", [
    (None, "c.json cannot be read as the config.json of a run ([Errno 2] No such file"),
    ("{", "c.json cannot be read as the config.json of a run (Expecting property name"),
    ("[1]", "c.json is not the config.json of a run: it holds no settings by name"),
    ('{"model_type": "qwen3"}', "c.json is of another version of hero.py, or not of a run: it holds"
                                " model_type, which is no setting here"),
    ('{"steps": "many"}', 'c.json: steps is "many", and has to be of type int'),
    ('{"alpha": true}', "c.json: alpha is true, and has to be of type float"),
    ('{"alpha": 0.6, "beta": 0.6}', "their sum has to be below 1")])
def test_a_file_that_is_no_config(folder, content, says):
    if content is not None:
        (folder / "c.json").write_text(content)
    refused(folder, "--config", "c.json", says=says)


def test_two_things_to_start_from(folder):
    (folder / "c.json").write_text("{}")
    refused(folder, "--config", "c.json", "--preset", "tiny", says="leave one out")


@pytest.mark.slow
def test_a_run_from_anothers_config_is_the_same_bit_for_bit(unbroken, folder):
    first, _ = unbroken
    (folder / "theirs.json").write_bytes((first / "runs/a/config.json").read_bytes())
    result = script(folder, "hero.py", "--config", "theirs.json", "--name", "b")
    assert result.returncode == 0, result.stderr
    assert metrics_of(folder, "b") == metrics_of(first, "a")
    samples = [(first / "runs/a/rollouts.jsonl"), (folder / "runs/b/rollouts.jsonl")]
    assert samples[0].read_bytes() == samples[1].read_bytes()


# ---------------------------------------------------------------------------- trackers


class Kept:
    """A tracker that keeps in memory what it is told."""

    def __init__(self):
        self.rows = []

    def log(self, numbers, step):
        self.rows.append((step, numbers))

    def finish(self):
        self.rows.append("finished")


def test_a_tracker_gets_every_row_once_and_stays_the_same_run(tmp_path, monkeypatch):
    kept = Kept()
    ids = []

    def start(config, run_id, folder):
        assert (config["name"], folder) == ("r", tmp_path)
        ids.append(run_id)
        return kept

    monkeypatch.setitem(record.TRACKERS, "trackio", start)
    (tmp_path / "config.json").write_text('{"name": "r"}')
    rows = [{"step": 0, "eval/hard/pass@1": 0.5}, {"step": 1, "rm/auroc": None}]
    record.Tracker("trackio", tmp_path)                         # killed before it sent anything
    tracker = record.Tracker("trackio", tmp_path)
    tracker.send(rows[:1])
    tracker.send(rows)

    # A kill, and a checkpoint that is older than the last row: step 1 is done again.
    tracker = record.Tracker("trackio", tmp_path)
    tracker.send(rows[:1])
    tracker.send([rows[1]])
    tracker.send([{"step": 2, "rm/auroc": 0.5}])
    tracker.close()
    assert kept.rows == [(0, {"eval/hard/pass@1": 0.5}), (1, {"rm/auroc": None}),
                         (2, {"rm/auroc": 0.5}), "finished"]
    assert len(ids) == 3 and len(set(ids)) == 1


def test_a_tracker_that_cannot_start_is_one_line(tmp_path, monkeypatch):
    def start(config, run_id, folder):
        raise RuntimeError("no api key\nand more")

    monkeypatch.setitem(record.TRACKERS, "wandb", start)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^--track wandb: .* started there \(no api key\)$"):
        record.Tracker("wandb", tmp_path)


def test_a_package_that_is_missing_is_named_at_once(folder, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    refused(folder, "--track", "wandb", says="--track wandb needs a package that is not installed: "
            "pip install wandb")


def test_an_unknown_tracker(folder):
    refused(folder, "--track", "mlflow", says="choose one of none, trackio, wandb")


def test_what_is_optional_is_not_imported_unless_asked_for(unbroken):
    folder, _ = unbroken
    code = ("import sys, hero, record; from pathlib import Path; "
            "record.Tracker('none', Path('runs/a')); "
            "print(sorted({'wandb', 'trackio', 'vllm'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, text=True,
                            env=environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert result.stdout == "[]\n", result.stderr


def rows_in_trackio(folder, name):
    """{step: [rows]} of the one run in a trackio folder, read by trackio."""
    code = ("import json; from trackio.sqlite_storage import SQLiteStorage as storage; "
            "run, = storage.get_run_records('hero'); "
            "print(json.dumps([run['name'], storage.get_logs('hero', run['name'])], default=str))")
    result = subprocess.run([sys.executable, "-c", code], env=tracker_environment(folder),
                            text=True, capture_output=True)
    run_name, logs = json.loads(result.stdout.splitlines()[-1])
    assert run_name.startswith(f"{name}-")

    rows = {}
    for log in logs:
        step = log.pop("step")
        log.pop("timestamp")
        rows.setdefault(step, []).append(log)
    return rows


def rows_in_wandb(folder, name):
    """{step: [rows]} of the one run that the offline files in a run's folder hold."""
    from wandb.proto import wandb_internal_pb2
    rows = {}
    runs = set()
    for path in sorted((folder / "runs" / name / "wandb").glob("offline-*/*.wandb")):
        for content in records_of(path.read_bytes()):
            entry = wandb_internal_pb2.Record()
            entry.ParseFromString(content)
            kind = entry.WhichOneof("record_type")
            if kind == "run":
                runs.add((entry.run.run_id, entry.run.display_name))
            if kind == "history":
                items = {".".join(item.nested_key) or item.key: json.loads(item.value_json)
                         for item in entry.history.item}
                step = items["_step"]
                numbers = {key: value for key, value in items.items() if key[0] != "_"}
                rows.setdefault(step, []).append(numbers)
    assert len(runs) == 1 and runs.pop()[1] == name
    return rows


def records_of(content):
    """The records of a .wandb file: LevelDB's log format in blocks of 32 KiB, after 7 bytes."""
    at = 7
    whole = b""
    while at + 7 <= len(content):
        left_in_block = 32768 - at % 32768
        if left_in_block < 7:
            at += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[at:at + 7])
        whole += content[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):                                      # whole, or its last part
            yield whole
            whole = b""


def tracker_environment(folder):
    """Both trackers without a network; wandb writes its file twenty times per second."""
    return environment() | {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline",
                            "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "0.05"}


@pytest.mark.slow
@pytest.mark.parametrize("kind, read", [("trackio", rows_in_trackio), ("wandb", rows_in_wandb)])
def test_a_killed_and_resumed_run_is_one_run_in_the_tracker(folder, kind, read):
    """The real package, killed when it has six rows and resumed; steps after the last checkpoint
    are done again."""
    pytest.importorskip(kind, reason=f"{kind} is not installed: pip install {kind}")
    options = ["--name", "t", *SMALL, "--steps", 1000, "--save_every", 4, "--track", kind]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command("hero.py", *options), cwd=folder, stdout=log, stderr=log,
                                   env=tracker_environment(folder))
    written = set()
    while not set(range(6)) <= written:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.5)
        with contextlib.suppress(Exception):                    # it has not begun, or writes a row
            written = set(read(folder, "t"))
    process.kill()
    process.wait()
    metrics = folder / "runs/t/metrics.jsonl"
    reached = [row["step"] for _, row in read_jsonl(metrics)][-1]

    resumed = command("hero.py", "--resume", "--name", "t", "--steps", reached + 2)
    result = subprocess.run(resumed, cwd=folder, text=True, capture_output=True,
                            env=tracker_environment(folder), timeout=300)
    assert result.returncode == 0, result.stderr
    rows = read(folder, "t")
    assert [step for step, same in rows.items() if len(same) > 1] == []
    # What it had not yet written at the kill may be missing, and nothing else.
    assert written | {reached + 1, reached + 2} <= set(rows)
    logged = {row["step"]: row for _, row in read_jsonl(metrics)}
    for step, (numbers,) in rows.items():
        expected = logged[step]
        assert set(numbers) | {"step"} == set(expected)
        for key, value in numbers.items():
            if not key.startswith(("time/", "perf/")):
                assert value == pytest.approx(expected[key]), (step, key)


# ---------------------------------------------------------------------------- the model card


def test_final_says_how_it_was_trained(unbroken):
    folder, _ = unbroken
    card = (folder / "runs/a/final/README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {"library_name": "transformers",
                                      "pipeline_tag": "text-generation",
                                      "tags": ["reinforcement-learning", "hero"]}
    assert "`runs/world-0/policy` after 4 steps of reinforcement learning whose reward is" in body
    assert "https://arxiv.org/abs/2510.07242" in body
    assert "| num_minibatches | `2` |" in body and "| alpha |" not in body
    digest = hashlib.sha256((folder / "runs/world-0/train/hard.jsonl").read_bytes()).hexdigest()
    assert f"| `runs/world-0/train/hard.jsonl` | {digest} |" in body
    assert "|  | easy, before | easy, after | hard, before | hard, after |" in body
    first, last = metrics_of(folder, "a")[0], metrics_of(folder, "a")[-1]
    for row in (first, last):
        assert f"| {row['eval/hard/pass@1']:.3f} |" in body
    assert f"| torch | {importlib.metadata.version('torch')} |" in body


def test_a_card_of_a_model_of_the_hub_with_awkward_settings():
    config = vars(Config(name="m", policy="org/base", reward="rm", instruction="\na|b `c`"))
    origin = {"command": "hero.py", "commit": "abc", "dirty": True, "versions": {"numpy": "2"},
              "device": "GPU", "ranks": 8, "sha256": {"hub/data": None}}
    card = record.model_card(config, vars(Config()), origin, [{"step": 3}])
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "org/base"
    assert "| instruction | `a\\|b 'c'` |" in card
    assert "- commit: abc, with changes that were not committed" in card
    assert "with the reward `rm`, which HERO is compared with" in card
    assert "| `hub/data` | - |" in card


# ---------------------------------------------------------------------------- the hub


class Hub(BaseHTTPRequestHandler):
    """A stand-in of the hub: repositories are made, files arrive by LFS or within the commit."""

    def respond(self):
        received = self.server.received
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = {}
        if self.path == "/api/repos/create":
            self.server.created.append((self.headers["Authorization"], json.loads(body)))
            answer = {"url": f"{self.server.address}/me/mine"}
        elif "/preupload/" in self.path:
            answer["files"] = []
            for file in json.loads(body)["files"]:
                mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
                answer["files"].append({"path": file["path"], "uploadMode": mode,
                                        "shouldIgnore": False})
        elif self.path.endswith("/info/lfs/objects/batch"):
            answer = {"transfer": "basic", "objects": []}
            for item in json.loads(body)["objects"]:
                upload = {"href": f"{self.server.address}/lfs/{item['oid']}"}
                answer["objects"].append(item | {"actions": {"upload": upload}})
        elif self.path.startswith("/lfs/"):
            self.server.objects[self.path.removeprefix("/lfs/")] = body
        elif self.path == "/api/models/me/mine/commit/main":
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    received[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    received[value["path"]] = self.server.objects[value["oid"]]
            answer = {"commitUrl": f"{self.server.address}/me/mine/commit/1", "commitOid": "1"}

        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = respond

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.created = []
    server.objects = {}
    server.received = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(folder, endpoint, *options):
    """A short run with --push_to_hub me/mine to the hub at an address. -> CompletedProcess"""
    variables = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secret",
                 "HF_HUB_DISABLE_XET": "1"}                    # the stand-in only knows LFS
    return subprocess.run(command("hero.py", *options, "--push_to_hub", "me/mine"), cwd=folder,
                          env=environment() | variables, text=True, capture_output=True,
                          timeout=300)


@pytest.mark.slow
def test_final_is_pushed_whole_and_a_failed_push_can_be_repeated(folder, hub):
    result = push(folder, "http://127.0.0.1:9", "--name", "p", *SMALL, "--steps", 1)
    final = folder / "runs/p/final"
    assert result.returncode == 1
    line, = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "runs/p/final could not be pushed to me/mine" in line
    assert "nothing is lost: push it again with: hf upload me/mine runs/p/final" in line
    assert "Traceback" not in result.stderr and "hf_secret" not in result.stderr
    assert "pass@1" in result.stdout                           # the summary comes first
    assert (final / "model.safetensors").exists()

    result = push(folder, hub.address, "--name", "p", "--resume")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"pushed to {hub.address}/me/mine"
    assert hub.created == [("Bearer hf_secret", {"name": "mine", "organization": "me"})]
    assert {"README.md", "model.safetensors", "config.json", "tokenizer.json"} <= set(hub.received)
    assert hub.received == {path.name: path.read_bytes() for path in final.iterdir()}


def test_a_push_that_cannot_work_is_refused_before_training(folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(record, "get_token", lambda: None)
    refused(folder, "--push_to_hub", "me/mine", says="--push_to_hub me/mine needs a token")
    monkeypatch.setattr(record, "get_token", lambda: "hf_x")
    refused(folder, "--push_to_hub", "me/../mine", says="--push_to_hub me/../mine: ")


# ---------------------------------------------------------------------------- live output


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_output_to_a_file_is_whole_lines_as_they_come(folder):
    """`python hero.py | tee log` in a terminal: stderr is one, stdout is not."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))                    # a bar needs some room
    variables = environment()
    variables.pop("PYTHONUNBUFFERED", None)
    process = subprocess.Popen(command("hero.py", "--name", "o", *SMALL), cwd=folder, text=True,
                               env=variables, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)

    steps = []
    for line in process.stdout:
        if line.startswith("step "):
            steps.append(int(line.split()[1]))
            if steps[-1] == 1:
                # It comes as soon as the step is over, not when the run is.
                written = (folder / "runs/o/metrics.jsonl").read_text().count("\n")
                assert written < 5 and process.poll() is None
        assert "\r" not in line
    assert process.wait(60) == 0
    assert steps == [1, 2, 3, 4]
    bar = b""
    try:
        while chunk := os.read(ours, 4096):
            bar += chunk
    except OSError:                                            # the other end is closed
        pass
    os.close(ours)
    assert b"training" not in bar

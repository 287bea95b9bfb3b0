"""Each test holds an equation or a promise against something independent of the code: a closed form, a brute force, a second path, an
undisturbed run. Names are test_<function>__<promise>: `pytest -k policy_loss` finds that function's tests. Rulers and order are those
of laser.py, then verify.py; tables of data stand at the bottom.

    equation (paper)                                        function of laser.py        held by
    r_s = β (log π(z_c|x,y) − c_ref)             3.2        self_reward                 the objective, maximised numerically
    log Z = log(1 + e^c_ref (e^(1/β) − 1))       3.2        log_partition(_now)         the same optimum
    y_t is the inverse of the CDF at u_t                    sample, draw                a float64 pass without cache or padding
    where log π(z_c|x,y) is read                 3.3        sample, all_token_logps     the same pass
    A_v = (r_v − mean) / std                     GRPO       group_advantages            the statistics module
    (1 − τ) A_v + τ A_s                          3.4        mix_advantages              by hand
    min(ρ A, clip(ρ) A)                          PPO        policy_loss, update         by hand; two updates by hand
    w = N/(2 N_c), N/(2 N_i)                     3.3        class_weights               by hand
    1/N Σ w (r_s − r_v)²                         eq. 10     self_reward_loss            by hand; the gradient of full logits
    KL(π ‖ π_ref)                                GRPO       kl_penalty                  the sum over the vocabulary
    F1 of TPR and TNR, AUROC, ECE                4          verification_metrics        pair counting
    Σ clip(r_s, 0, 1) by answer                  3.5        vote                        all subsets, one by one
    AdamW in bfloat16                                       BF16AdamW                   the drift of float32
"""
import contextlib
import copy
import dataclasses
import functools
import gzip
import importlib
import inspect
import io
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
import types
from concurrent import futures
from multiprocessing import forkserver
from pathlib import Path
from xml.etree import ElementTree

if "ON_A_GPU" not in os.environ:  # before torch looks for one: all figures here are a CPU's
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import datasets
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import laser
import verify
from laser import Config, repeated
from verify import canonical, checkable, equivalent, extract_answer, group, reward

HERE = Path(__file__).parent
DATA = HERE.parent / "shared" / "data"
CPU = torch.device("cpu")
torch.set_num_threads(1)  # tiny models gain nothing from more, and two programs on all cores slow each other tenfold
inspect.getsource = functools.cache(inspect.getsource)  # of `Config`: for it, Python reads the whole file, at each command
START = "spawn" if os.name == "nt" else "forkserver"
os.environ["PYTHONPATH"] = str(HERE)  # for the server of forks
multiprocessing.set_forkserver_preload(["test_laser"])
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets limits as only Linux has them")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and to be asked for: ON_A_GPU=1 pytest -k on_a_gpu")
PAD, EOS, EOS2, ZC, V = 0, 1, 2, 3, 24
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]
COLD = ["--warm_start_steps", 0, "--c_ref", -8, "--prompts_per_step", 2, "--group_size", 2, "--max_response_tokens", 6]  # random weights, short steps


def tiny_model(kind="qwen2", pad=PAD, seed=0, vocabulary=V):
    """A random model, sharp enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                  num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=pad,
                                  eos_token_id=EOS, bos_token_id=None, initializer_range=0.3)
    return AutoModelForCausalLM.from_config(config, attn_implementation="laser").eval()


def draw(model, group_size=4, T=12, seed=0, prompts=PROMPTS, eos_ids=(EOS,), **options):
    u = laser.uniforms(len(prompts) * group_size, T, "test", seed)
    return laser.sample(model, prompts, group_size, u, list(eos_ids), ZC, **options)


# ------------------------------------------------------------------------------------------------------- whole runs

def launch(processes, change, errors, *arguments):
    """The program, changed, as torchrun starts it, in forks of a process that has imported all: the exit code that ended it; errors: a file."""
    config = LaunchConfig(1, 1, processes, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, start_method=START)
    with pytest.raises(ChildFailedError) as failed:
        elastic_launch(config, child)(change, errors, [*map(str, arguments), "--device", "cpu"])
    return failed.value.get_first_failure()[1].exitcode


def child(change, errors, arguments):  # what `launch` runs
    sys.stderr = open(errors, "a")
    importlib.reload(laser)  # it reads RANK and WORLD_SIZE when it is imported
    change()
    sys.exit(laser.main(arguments))


def here(*arguments):  # the program in this process: its exit code
    return laser.main([str(x) for x in arguments])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def given(monkeypatch):
    """Four known solutions of one problem, sampled by a model that knows 100 tokens: right, cut, right but in two boxes, wrong."""
    model, tokenizer = tiny_model(vocabulary=100), laser.character_tokenizer()
    texts = ["5+9=14\\boxed{5,9}", "5+9=14\\boxed{5,9}", "\\boxed{5,9}\\boxed{5,9}", "2+5=7\\boxed{2,5}"]
    responses = [tokenizer(text)["input_ids"] + [EOS] * (i != 1) for i, text in enumerate(texts)]
    row = {"problem": "2 5 9 1:14=", "answer": "5,9", "prompt": tokenizer("2 5 9 1:14=")["input_ids"]}
    logps, logp_zc = laser.all_token_logps(model, [row["prompt"]] * 4, responses, 99, Config())
    complete = torch.tensor([True, False, True, True])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in responses], batch_first=True)
    solutions = laser.Solutions(tokens, logps, torch.tensor([len(r) for r in responses]), complete, torch.where(complete, logp_zc, -torch.inf))
    seen = []
    monkeypatch.setattr(laser, "sample_together", lambda policy, prompts, group_size, u, config: seen.append(u) or solutions)
    return laser.Policy(model, tokenizer, [EOS], 99), row, solutions, responses, seen


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def refused(words, function, *arguments, **options):  # by a sentence with these words, a pattern
    with pytest.raises(laser.UserError, match=words):
        function(*arguments, **options)


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """The words of a small run: two layers, 40 problems with worked solutions, which it learns to imitate in part; a second long."""
    folder = tmp_path_factory.mktemp("small")
    right = [row for row in laser.pair_problems("pairs", 200) if laser.reward(row["solution"], row["answer"])]
    settings = {"data": table(folder / "train.jsonl", right[:40]), "prompt_suffix": "", "beta": 0.3, "alpha": 0.7, "lr": 3e-3, "steps": 4,
                "eval_data": [table(folder / f"{name}.jsonl", laser.pair_problems(name, 6)) for name in ("pairs-heldout", "pairs-hard")],
                "prompts_per_step": 4, "group_size": 4, "max_prompt_tokens": 64, "max_response_tokens": 24, "eval_n": 2, "eval_every": 0,
                "save_every": 2, "warm_start_steps": 40, "warm_start_batch": 16, "warm_start_lr": 1e-2, "reasoning_warmup": 1,
                "self_reward_warmup": 1}
    (folder / "m.json").write_text(json.dumps({**json.loads((HERE / "tiny_config.json").read_text()), "hidden_size": 48, "intermediate_size": 96,
                                               "num_hidden_layers": 2, "max_position_embeddings": 128, "laser": settings}))
    return ["--model", str(folder / "m.json")]


@pytest.fixture(scope="module", autouse=True)
def second(request, tmp_path_factory):
    """The tests without whole runs go to a second process, and stand here, at the end, for what it reports: half the time on two cores."""
    items, report = request.session.items, tmp_path_factory.mktemp("second") / "report.xml"
    theirs = [test for test in items[1:] if not {"fast", "finished"} & {*test.fixturenames}]
    if len(theirs) < 50 or {"SECOND", "PYTEST_XDIST_WORKER"} & {*os.environ}:
        return
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *(test.nodeid for test in theirs)]
    process = subprocess.Popen(words, cwd=request.config.rootpath, env={**os.environ, "SECOND": "1"}, stdout=subprocess.PIPE, text=True)
    request.addfinalizer(process.kill)

    @functools.cache
    def cases():
        printed, _ = process.communicate()
        if process.returncode not in (0, 1):  # as by Ctrl-C
            pytest.exit(f"the second process has ended with {process.returncode}: {printed[-2000:]}", 2)
        return [*ElementTree.parse(report).iter("testcase")]

    def reported(i, **fixtures):
        for result in cases()[i]:  # none if it has passed
            (pytest.skip if result.tag == "skipped" else pytest.fail)(result.text)

    for i, test in enumerate(theirs):
        test.obj = functools.partial(reported, i)
    items[1:] = sorted(items[1:], key=lambda test: (test in theirs, "finished" in test.fixturenames))  # what waits for others comes last


@pytest.fixture(scope="module", autouse=True)
def begun(request, tmp_path_factory):
    """What imports for seconds does so beside the first tests, if one of those to come will ask for it."""
    if not any("finished" in test.fixturenames for test in request.session.items):
        return None
    if START == "forkserver":
        forkserver.ensure_running()
    fast, folder = request.getfixturevalue("fast"), tmp_path_factory.mktemp("runs")
    (folder / "sitecustomize.py").write_text("import os, sys\nsys.modules['fcntl'] = sys.modules['resource'] = None\ndel os.sysconf\n")
    # on one thread as here, as their number decides how sums are rounded; with a cache of its own, as without fcntl a lock is a file that stays
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "ascii",
                   "PYTHONPATH": str(folder), "HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, str(HERE / "laser.py"), *fast, "--eval-every", "3", "--out", str(folder / "whole")]
    whole = functools.partial(subprocess.run, command, cwd=HERE, capture_output=True, text=True, timeout=600, env=environment)
    return futures.ThreadPoolExecutor(1).submit(lambda: (folder / "whole", whole()))


@pytest.fixture(scope="module")
def finished(begun):
    """A whole run, on a terminal that knows ASCII only, without what Windows lacks: (its folder, its process)."""
    return begun.result()


# -------------------------------------------------------------------------------------- the run and its steps

@pytest.mark.parametrize("first, steps, every, ends, expected", [  # every: save, evaluate; ends: in which step, how
    (0, 5, (2, 3), None, "eval 0, step 0, step 1, save 2, step 2, save 3, eval 3, step 3, save 4, step 4, save 5, eval 5, table"),
    (2, 4, (2, 3), None, "step 2, save 3, eval 3, step 3, save 4, eval 4, table"),  # resumed; what is saved already is not saved again
    (4, 4, (2, 3), None, "eval 4, table"),
    (0, 2, (0, 0), None, "step 0, step 1, save 2"),
    (0, 5, (2, 3), (2, "stop"), "eval 0, step 0, step 1, save 2, step 2, save 3, eval 3"),  # a step ends, then it is saved
    (0, 5, (2, 3), (3, "error"), "eval 0, step 0, step 1, save 2, step 2, save 3, eval 3, step 3"),  # nothing of the fourth
    (None, 5, (2, 3), (0, "error"), "eval 0, step 0, save 0"),  # of a new run nothing is saved yet
])
def test_train__evaluates_and_saves_when_it_should_and_keeps_what_is_done(first, steps, every, ends, expected, monkeypatch):
    events, stop, problems, logs = [], [], [object() for _ in range(9)], {"metrics": [], "eval": ["row"] * (every[1] > 0)}
    def training_step(policy, optimizer, rows, step, config, reference):
        assert (policy, optimizer, reference) == ("policy", "optimizer", "reference") and rows == laser.problems_of_step(problems, step, config)
        events.append(f"step {step}")
        if ends == (step, "error"):
            raise ArithmeticError
        stop.extend([signal.SIGTERM] * (ends == (step, "stop")))
        return {"step": step + 1}, "rollouts"
    def show(run, bar, figures, rollouts, config):
        assert (run.logs["metrics"][-1], "rollouts") == (figures, rollouts)
    stubs = {"training_step": training_step, "show": show, "log": lambda run, name, rows: run.logs[name].extend(rows),
             "evaluate": lambda run, step, *_: events.append(f"eval {step}"), "save": lambda run, step, _: events.append(f"save {step}"),
             "print_table": lambda rows: rows and events.append("table")}
    for name, stub in stubs.items():
        monkeypatch.setattr(laser, name, stub)
    with pytest.raises(ArithmeticError) if ends and ends[1] == "error" else contextlib.nullcontext():
        run = laser.Run("policy", "optimizer", "reference", problems, {}, first, logs, None)
        laser.train(run, Config(steps=steps, save_every=every[0], eval_every=every[1], prompts_per_step=2), stop)
    assert ", ".join(events) == expected


def test_training_step__hands_the_update_each_solution_with_its_own_problem(monkeypatch):
    tokenizer, reference = laser.character_tokenizer(), tiny_model(seed=1, vocabulary=100)
    policy = laser.Policy(tiny_model(vocabulary=100), tokenizer, [EOS, *range(10, 40)], 99)
    problems = [{"problem": p, "answer": f"gold of {p}", "prompt": tokenizer(p)["input_ids"]} for p in ("1+1=", "2", "3*3*3=")]
    prompts, sample, drawn, asked, got = repeated([row["prompt"] for row in problems], 4), laser.sample_together, [], [], []
    monkeypatch.setattr(laser, "sample_together", lambda *a: drawn.append((a[3], sample(*a))) or drawn[-1][1])
    monkeypatch.setattr(laser, "reward", lambda text, gold, strict: asked.append((text, gold, strict)) or float(len(asked) % 3 == 0))
    monkeypatch.setattr(laser, "update", lambda *a: got.append(a) or {})
    for step, alpha, tau, options in ((1, 0, 0, {"kl": 0.1}), (2, 0.6, 0, {"balanced": False, "exact_reference": True}),
                                      (5, 0.6, 0.3, {"seed": 1, "kl": 0.1}), (5, 0.6, 0.3, {})):
        config = Config(alpha=0.6, tau=0.3, reasoning_warmup=2, self_reward_warmup=3, beta=0.3, group_size=4, max_response_tokens=4,
                        min_std=0.25, c_ref=-7.0, **options)
        asked.clear()
        figures, rollouts = laser.training_step(policy, "optimizer", problems, step, config, reference if options else None)
        (u, solutions), batch = drawn[-1], got[-1][2]
        responses, complete = solutions.responses(), solutions.complete
        texts = [tokenizer.decode(ids[: len(ids) - done]) for ids, done in zip(responses, complete.tolist())]  # all but the end, `<unk>`, too
        assert u.shape == (12, 4) and len(set(u[:, 0].tolist())) == 12 and complete.any() and not complete.all()
        assert asked == [(text, row["answer"], True) for text, row in zip(texts, repeated(problems, 4))]  # True: exactly one box
        rewards, (ref_logps, exact) = (torch.arange(12) % 3 == 2).float() * complete, laser.all_token_logps(reference, prompts, responses, 99, config)
        c_ref = exact if config.exact_reference else torch.full((12,), -7.0)
        self_rewards = 0.3 * (solutions.logp_zc - c_ref)
        told_apart = torch.where(complete, self_rewards.clamp(0, 1), 0).view(3, 4).std(1) > 0.25
        assert not tau or told_apart.any() and not told_apart.all()
        mixed = laser.mix_advantages(laser.group_advantages(rewards, 4), self_rewards, complete, 4, tau, 0.25)
        mask, weights = torch.arange(4) < solutions.lengths[:, None], laser.class_weights(rewards, complete, config.balanced)
        expected = (prompts, responses, mask, solutions.logps, rewards, mixed, weights, c_ref, ref_logps if options else None)
        for name, mine, x in zip(batch._fields, expected, batch, strict=True):
            assert torch.allclose(mine, x) if torch.is_tensor(x) else mine == x, name
        assert got[-1] == (policy, "optimizer", batch, alpha, config)
        kept = zip(repeated(problems, 4), texts, rewards.tolist(), self_rewards.tolist(), responses)
        assert [(row["problem"], row["response"], row["reward"], row["self_reward"], row["last_token"]) for row in rollouts] == [
            (row["problem"], text, r_v, laser.number(r_s), ids[-1]) for row, text, r_v, r_s, ids in kept]
        assert figures["step"] == step + 1 and min(figures[f"{what}_seconds"] for what in ("sample", "verify", "train")) > 0
    assert not any(torch.equal(a, b) for (a, _), (b, _) in itertools.combinations(drawn, 2))  # each step and each seed has its own draws


def test_texts_of__what_is_judged_is_all_that_was_written_but_the_end(tmp_path):
    tokenizer = byte_tokenizer(tmp_path)
    tokenizer.add_tokens(["</think>"], special_tokens=True)
    policy, text = laser.Policy(None, tokenizer, [0, 2], 5), "\\boxed{0}</think> so \\boxed{5}"
    ids = tokenizer(text)["input_ids"]
    assert laser.texts_of(policy, [ids + [2], ids + [0], ids, [2], [0, 1, 2]]) == [text, text, text, "", "<|endoftext|><|im_start|>"]
    assert [reward(text, gold, strict=True) for gold in "50"] == [1, 0] and len(tokenizer) - 1 in ids  # a box in the thoughts does not count


def test_verify__each_solution_is_judged_once_by_one_process_and_training_is_strict(monkeypatch):
    texts, asked = [f"\\boxed{{{i % 3}}}" + "\\boxed{1}" * (i == 6) for i in range(7)], []
    given = texts, [{"answer": "1"}] * 7, torch.tensor([True] * 4 + [False] + [True] * 2), Config()
    assert laser.verify(*given).tolist() == [0, 1, 0, 0, 0, 0, 0] and laser.verify(*given, strict=False).tolist() == [0, 1, 0, 0, 0, 0, 1]
    monkeypatch.setattr(laser, "reward", lambda text, gold, strict: asked.append(text) or float(text == texts[1]))
    monkeypatch.setattr(laser, "all_reduce", lambda x: x)
    for world in (1, 2, 3, 9):
        asked.clear(), monkeypatch.setattr(laser, "WORLD", world)
        shares = [monkeypatch.setattr(laser, "RANK", rank) or laser.verify(*given) for rank in range(world)]
        assert sorted(asked) == sorted(texts) and sum(shares).tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_schedule__holds_back_the_loss_then_the_integration():
    for alpha, expected in ((0.3, [(0, 0)] * 2 + [(0.3, 0)] * 3 + [(0.3, 0.2)] * 2), (0.0, [(0, 0)] * 7)):  # what is never learnt has no say
        config = Config(alpha=alpha, tau=0.2, reasoning_warmup=2, self_reward_warmup=3)
        assert [laser.schedule(step, config) for step in range(7)] == expected


def test_problems_of_step__draws_every_problem_once_an_epoch_and_needs_no_history():
    problems, config = list(range(10)), Config(prompts_per_step=4)
    drawn = sum([laser.problems_of_step(problems, step, config) for step in range(5)], [])
    assert sorted(drawn[:10]) == problems == sorted(drawn[10:]) and drawn[:10] != drawn[10:]
    assert laser.problems_of_step(problems, 3, config) == drawn[12:16]


# --------------------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("kind, temperature", [("qwen2", 1.0), ("llama", 0.6), ("qwen2", 1.7), ("qwen2", 0.0)])
def test_sample__and_all_token_logps_agree_with_a_float64_forward(kind, temperature):
    """Token t of solution i is the inverse CDF at u[i, t]; every EOS ends a solution, and z_c is read after it, untempered."""
    model = tiny_model(kind)
    solutions = draw(model, eos_ids=[EOS, EOS2], temperature=temperature)
    prompts, responses, u = repeated(PROMPTS, 4), solutions.responses(), laser.uniforms(16, 12, "test", 0)
    logps, logp_zc = laser.all_token_logps(model, prompts, responses, ZC, Config(temperature=temperature, micro_batch_tokens=40))
    assert not logps.requires_grad and not solutions.logps.requires_grad and not solutions.complete.all()
    assert {r[-1] for r, done in zip(responses, solutions.complete) if done} == {EOS, EOS2} or not temperature
    exact = tiny_model(kind).double()
    for i, (prompt, response) in enumerate(zip(prompts, responses)):
        with torch.no_grad():  # what predicts the response, and what follows it
            n, logits = len(response), exact(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 :]
        tempered, grade = (logits / (temperature or 1)).log_softmax(-1), logits.log_softmax(-1)[-1, ZC].item()
        for row in (solutions.logps[i], logps[i]):
            assert torch.allclose(row[:n].double(), tempered[range(n), response], atol=1e-4) and not row[n:].any()
        for t, y in enumerate(response):  # the cumulative probability reaches u at y, and not before it
            cdf = tempered[t].exp().cumsum(-1)
            assert (cdf[y - 1] if y else 0) - 1e-4 < u[i, t] <= cdf[y] + 1e-4 or not temperature and y == tempered[t].argmax()
        complete = response[-1] in (EOS, EOS2)
        assert solutions.complete[i] == complete and not {EOS, EOS2} & set(response[:-1]) and (complete or n == 12)
        assert solutions.lengths[i] == n and not solutions.tokens[i, n:].any()
        assert (logp_zc[i].item(), solutions.logp_zc[i].item()) == pytest.approx((grade, grade if complete else -math.inf), abs=1e-4)


def test_sample__is_the_same_whatever_runs_beside_it(monkeypatch):
    """Fewer problems, fewer rows, fewer prompts a pass, in stages; ended rows that linger, as on a GPU, also where their last token was EOS."""
    model, u, options = tiny_model(), laser.uniforms(32, 6, "test", 0), ([EOS, EOS2, 20], ZC, 1.0, lambda n: None)
    expected = laser.sample(model, PROMPTS, 8, u, *options)
    assert {1, 2, 4, 6} <= set(expected.lengths[expected.complete].tolist()) and not expected.complete.all()
    others = [laser.sample_in_chunks(model, PROMPTS, 8, u, most, *options) for most in (3, 16)]
    for stage, most in ((1, 0), (2, 5)):
        monkeypatch.setattr(laser, "FIRST_STAGE", stage)
        others.append(laser.sample_in_stages(model, PROMPTS, 8, u, most, *options))
    for look_every, prefill_tokens in (({}, 12), ({"cpu": 2}, 1)):  # two prompts a pass, then one
        monkeypatch.setattr(laser, "LOOK_EVERY", look_every)
        monkeypatch.setattr(laser, "PREFILL_TOKENS", prefill_tokens)
        others.append(laser.sample(model, PROMPTS, 8, u, *options))
    for got in others:
        assert all(torch.equal(getattr(got, what), getattr(expected, what)) for what in ("tokens", "lengths", "complete"))
        assert torch.allclose(got.logps, expected.logps, atol=1e-4) and torch.allclose(got.logp_zc, expected.logp_zc, atol=1e-4)


def test_prefill__runs_a_prompt_once_then_advance_a_token_for_less_than_twice_the_rows_that_must_run(monkeypatch):
    model, shapes, counted = tiny_model(), [], []
    monkeypatch.setattr(laser, "PREFILL_TOKENS", 12)  # two of the longest prompts
    model.base_model.register_forward_pre_hook(lambda module, _, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True)
    solutions = draw(model, group_size=8, T=40, eos_ids=[EOS, EOS2, 20], on_step=counted.append)
    must = [sum(length > t for length in solutions.lengths.tolist()) for t in range(solutions.lengths.max())]
    ran = [rows for rows, width in shapes[2:] if width == 1]
    assert solutions.complete.all() and len(set(must)) > 5 and shapes[:2] == [(2, 3), (2, 6)] and len(shapes) == 2 + len(ran)
    assert all(need <= rows < 2 * need or rows == need for need, rows in zip(must, ran, strict=True))
    assert counted == [32, *ran]  # told before who has ended leaves
    assert all(after == before or 2 * after <= before for before, after in zip(counted, ran))  # they leave together
    monkeypatch.setattr(laser, "PREFILL_TOKENS", 5)  # less than the longest prompt: one at a time
    shapes.clear(), draw(model, T=1)
    assert shapes[:4] == [(1, len(p)) for p in PROMPTS]


def test_draw__at_the_ends_of_the_distribution():
    logp = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).log()
    for u, token in ((1e-7, 1), (0.25, 1), (0.2500001, 3), (1.0, 3)):  # the first token that reaches u
        drawn, drawn_logp = laser.draw(logp, torch.tensor([u]), 1.0)
        assert drawn.tolist() == [token] and drawn_logp[0] == logp[0, token]
    short = torch.tensor([[0.3, 0.3, 0.0]]).log()  # rounding may leave a sum below 1: even then no token of probability 0
    assert laser.draw(short, torch.ones(1), 1.0)[0].tolist() == [1]
    a, b = (laser.uniforms(50, 50, "train", 0, step) for step in (1, 2))
    assert not torch.equal(a, b) and 0 < a.min() and a.max() <= 1


# -------------------------------------------------------------------------- log-probabilities and self-reward

@pytest.mark.parametrize("logit, beta", [(-6.0, 0.5), (-8.0, 0.25), (-3.0, 1.0)])
def test_self_reward__and_log_partition_are_the_closed_form_of_the_regularised_objective(logit, beta):
    """π maximising E[1(z = z_c)] − β KL(π ‖ π_ref), found by gradient ascent on logits: the problem as the paper states it."""
    logp_ref = torch.tensor([0.3, -0.2, logit, 0.9, 0.1], dtype=torch.float64).log_softmax(-1)
    logits, c_ref = logp_ref.clone().requires_grad_(), logp_ref[2].item()
    optimizer = torch.optim.LBFGS([logits], max_iter=5000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe")
    def loss():
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        value = beta * (logp.exp() * (logp - logp_ref)).sum() - logp[2].exp()
        value.backward()
        return value
    optimizer.step(loss)
    optimum, log_z = logits.detach().log_softmax(-1), laser.log_partition(c_ref, beta)
    # r̂ = β log(π*/π_ref) + β log Z = 1 exactly; the self-reward leaves β log Z out
    assert laser.self_reward(optimum[2], c_ref, beta).item() + beta * log_z == pytest.approx(1, abs=1e-4)
    assert laser.self_reward_of(optimum[2], c_ref, Config(beta=beta)) == laser.self_reward(optimum[2], c_ref, beta)
    assert laser.log_partition_now(optimum[2:3], beta).item() == pytest.approx(log_z, abs=1e-4)  # the same Z, read off the trained policy


# -------------------------------------------------------------------------------------- advantages and losses

def test_group_advantages__against_the_statistics_module():
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 1, 0.5, 0.25, 0, 0, 0, 0])
    for got, group in zip(laser.group_advantages(rewards, 4).view(-1, 4).tolist(), rewards.view(-1, 4).tolist()):
        expected = [(r - statistics.mean(group)) / (statistics.stdev(group) + 1e-6) for r in group]
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not laser.group_advantages(torch.tensor([0.7, 0.1]).repeat_interleave(8), 8).any()  # equal fractions, whose mean is rounded


@pytest.mark.parametrize("self_rewards, tau, min_std, expected", [  # of pairs; one that differs normalises to ±1/√2 = ±0.7071
    ([3.0, -5, 0.52, 0.5, 0.2, 0.9], 0.2, 0.1, [0.9414, -0.9414, 0, 0, 1.7414, -1.7414]),  # clipped: 1, 0 | too near | 0.2, cut → 0
    ([3.0, 1.05, 0.4, 0.4, -0.5, 0.9], 0.2, 0.0, [1, -1, 0, 0, 2, -2]),  # clipped to the same: 1, 1 | equal | 0, cut → 0
    ([0.0, 0.5, 0.0, 1.0, 0.0, -math.inf], 1.0, 0.36, [1, -1, -0.7071, 0.7071, 2, -2]),  # 0.5/√2, the std of n − 1, is no more than 0.36
    ([0.0, 0.5, 0.0, 1.0, 0.0, -math.inf], 1.0, 0.35, [-0.7071, 0.7071, -0.7071, 0.7071, 2, -2]),
])
def test_mix_advantages__by_hand(self_rewards, tau, min_std, expected):
    complete = torch.tensor([True] * 5 + [False])
    got = laser.mix_advantages(torch.tensor([1.0, -1, 0, 0, 2, -2]), torch.tensor(self_rewards), complete, 2, tau, min_std)
    assert got.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beyond", [200.0, math.inf, math.nan])
def test_policy_loss__clips_by_hand_and_takes_nothing_from_beyond_the_mask(beyond):
    ratio, old = torch.tensor([[1.5, 0.5], [1.5, 0.5], [1.1, 1]]), torch.full((3, 2), -1.0)
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    logps = (ratio.log() - 1).masked_fill(~mask, beyond).requires_grad_()
    got = laser.policy_loss(logps, old, torch.tensor([2.0, -3, 1]), mask, clip_low=0.2, clip_high=0.3, total=5)
    # min(ρA, clip(ρ)A): gains capped at 1.3 for A > 0; losses floored at 0.8 for A < 0, never capped
    assert got.item() == pytest.approx(-((1.3 + 0.5) * 2 - (1.5 + 0.8) * 3 + 1.1) / 5, rel=1e-5)
    (gradient,) = torch.autograd.grad(got, logps)
    assert gradient.flatten().tolist() == pytest.approx([0, -0.5 * 2 / 5, 1.5 * 3 / 5, 0, -1.1 / 5, 0])


@pytest.mark.parametrize("rewards, complete, weights, loss", [  # every r_s is 0.25
    ("10000", "11111", [2.5, 0.625, 0.625, 0.625, 0.625], 0.75**2 / 2 + 0.25**2 / 2),  # one right, four wrong: each class weighs half
    ("11001", "11110", [1, 1, 1, 1, 0], 0.75**2 / 2 + 0.25**2 / 2),  # a cut one counts nowhere, whatever its reward
    ("11111", "11111", [0.5] * 5, 0.75**2 / 2),  # one class only carries the weight 1/2 of the definition
    ("00000", "01111", [0, 0.5, 0.5, 0.5, 0.5], 0.25**2 / 2),
    ("00000", "00000", [0] * 5, 0),
])
def test_class_weights__and_self_reward_loss_by_hand(rewards, complete, weights, loss):
    rewards, complete = torch.tensor([float(r) for r in rewards]), torch.tensor([c == "1" for c in complete])
    N, self_rewards = max(1, int(complete.sum())), torch.where(complete, 0.25, -torch.inf).requires_grad_()
    equal = complete.tolist()
    assert laser.class_weights(rewards, complete).tolist() == pytest.approx(weights)
    assert laser.class_weights(rewards, complete, balanced=False).tolist() == equal
    for w, by_hand in ((weights, loss), (equal, sum(x * (0.25 - r.item()) ** 2 for x, r in zip(equal, rewards)) / N)):
        got = laser.self_reward_loss(self_rewards, rewards, torch.tensor(w, dtype=torch.float), N)
        (gradient,) = torch.autograd.grad(got, self_rewards)
        assert got.item() == pytest.approx(by_hand)
        assert gradient.tolist() == pytest.approx([x * 2 * (0.25 - r.item()) / N for x, r in zip(w, rewards)])


def test_self_reward_cross_entropy__against_torch_and_finite():
    logp_zc = torch.tensor([-0.2, -3.0, -7.0, 0.0, -torch.inf], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0, 1, 0, 0]).double()
    entropies = F.binary_cross_entropy(logp_zc[:3].exp(), rewards[:3], reduction="none")
    got = laser.self_reward_cross_entropy(logp_zc, rewards, torch.tensor([0.75, 1.5, 0.75, 0, 0]), 7)
    assert got.item() == pytest.approx((entropies @ torch.tensor([0.75, 1.5, 0.75]).double()).item() / 7, rel=1e-6)
    assert torch.equal(laser.self_reward_of(logp_zc, -4.0, Config(self_loss="ce")), logp_zc.exp())  # what it trains
    sure = laser.self_reward_cross_entropy(logp_zc, rewards, torch.tensor([1.0, 1, 1, 1, 0]), 4)  # a wrong one, called right with certainty
    (gradient,) = torch.autograd.grad(sure, logp_zc)
    assert torch.isfinite(sure) and torch.isfinite(gradient).all() and not gradient[4]


@pytest.mark.parametrize("beyond", [200.0, math.inf, math.nan])
def test_kl_penalty__is_the_divergence_on_average_and_takes_nothing_from_beyond_the_mask(beyond):
    logp, logq, one = torch.randn(50).double().log_softmax(-1), torch.randn(50).double().log_softmax(-1), torch.tensor([[True, False]])
    pairs = [F.pad(x[:, None], (0, 1), value=beyond) for x in (logp, logq)]
    k3 = torch.stack([laser.kl_penalty(a[None], b[None], one, 1) for a, b in zip(*pairs)])
    assert (logp.exp() * k3).sum().item() == pytest.approx((logp.exp() * (logp - logq)).sum().item(), rel=1e-9)
    assert laser.kl_penalty(*pairs, one.expand(50, 2), 7).item() == pytest.approx(k3.sum().item() / 7)


# ------------------------------------------------------------------------------------------------- one update

def batch_of(solutions, rewards, advantages, config=Config(), ref_logps=None):
    weights = laser.class_weights(rewards, solutions.complete, config.balanced)
    mask = torch.arange(solutions.tokens.size(1)) < solutions.lengths[:, None]
    return laser.Batch(repeated(PROMPTS, 4), solutions.responses(), mask, solutions.logps, rewards, advantages, weights,
                       torch.full((len(rewards),), -4.0), ref_logps)


def step_of(model, rewards=None, off=0.0, lr=1.0, eos_ids=(EOS,), **settings):
    """`update` with plain gradient descent: (its figures, what it learnt from). It alone runs the model in training mode."""
    config, modes = Config(**{"beta": 0.2, "grad_clip": 1e9, **settings}), []
    model.base_model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    solutions = draw(model.train(), T=8, eos_ids=eos_ids, temperature=config.temperature)
    rewards = (torch.arange(16) % 3 == 0).float() if rewards is None else torch.full((16,), rewards)
    ref_logps, ref_zc = laser.all_token_logps(tiny_model(seed=1), repeated(PROMPTS, 4), solutions.responses(), ZC, config)
    batch = batch_of(solutions, rewards, laser.group_advantages(rewards, 4), config, ref_logps if config.kl else None)
    up_and_down = torch.where(torch.arange(16 * 8).view(16, 8) % 2 == 0, off, -off)
    batch = batch._replace(sampler_logps=solutions.logps + up_and_down * batch.mask, ref_logp_zc=ref_zc if config.exact_reference else batch.ref_logp_zc)
    laser.all_token_logps(model.train(), batch.prompts, batch.responses, ZC, config)
    assert len(modes) > 2 and not any(modes)
    modes.clear()
    figures = laser.update(laser.Policy(model, None, [EOS], ZC), torch.optim.SGD(model.parameters(), lr=lr), batch, 0.7, config)
    assert modes and all(modes) and all(p.grad is None for p in model.parameters())  # so what comes next begins anew
    return figures, (batch, solutions, config)


def brute_force_loss(model, batch, solutions, config, alpha, old=None):
    """The joint loss from full logits, one solution and one token at a time: (loss, its figures, log-probs to be old ones)."""
    gains, kl, outside, logps, losses = [], [], [], [], {0.0: [], 1.0: []}
    ref_logps = batch.ref_logps if config.kl else batch.sampler_logps  # or any others, as their weight is 0
    for i, (prompt, response) in enumerate(zip(batch.prompts, solutions.responses())):
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 :]
        for t, y in enumerate(response):
            logp, A = (logits[t] / config.temperature).log_softmax(-1)[y], batch.advantages[i]
            logps.append(logp.item())
            ratio, d = (logp - (old[len(logps) - 1] if old else logps[-1])).exp(), ref_logps[i, t] - logp
            gains.append(min(ratio * A, ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * A))
            outside.append(not 1 - config.clip_low <= ratio <= 1 + config.clip_high)
            kl.append(d.exp() - d - 1)
        if solutions.complete[i]:
            at_zc, r = logits[-1].log_softmax(-1)[ZC], batch.rewards[i].item()
            squared = (config.beta * (at_zc - batch.ref_logp_zc[i]) - r) ** 2
            losses[r].append(-(at_zc if r else torch.log1p(-at_zc.exp())) if config.self_loss == "ce" else squared)
    of_self = sum(sum(e) / (2 * len(e)) for e in losses.values() if e) if config.balanced else torch.stack(losses[0.0] + losses[1.0]).mean()
    policy, of_self, kl = -torch.stack(gains).mean(), torch.as_tensor(of_self), torch.stack(kl).mean()
    figures = {"policy_loss": policy.item(), "self_reward_loss": of_self.item(), "kl": kl.item() * bool(config.kl), "clip_fraction": statistics.mean(outside)}
    return policy + alpha * of_self + config.kl * kl, figures, logps


@pytest.mark.parametrize("settings, pad, budget", [({}, PAD, 1), ({}, EOS, 10**6), ({"self_loss": "ce"}, PAD, 10**6), ({"kl": 0.3}, PAD, 30),
                         ({"balanced": False}, PAD, 30), ({"temperature": 0.7}, PAD, 30), ({"exact_reference": True}, EOS, 30),
                         ({"grad_clip": 0.01}, PAD, 60), ({"rewards": 0.0}, PAD, 60), ({"rewards": 1.0}, PAD, 60), ({"eos_ids": (99,)}, PAD, 60),
                         ({"off": 0.3, "lr": 0.5, "clip_low": 0.02, "clip_high": 0.03, "grad_clip": 0.5, "updates": 2}, PAD, 60)], ids=str)
def test_update__follows_the_gradient_of_the_joint_loss_however_it_is_cut(settings, pad, budget, monkeypatch):
    """Also with pad = EOS, where masks made from token ids would lose EOS's gradient. Log-probs of the sampler, off by 0.3, are only watched."""
    monkeypatch.setattr(laser, "LOGITS_AT_A_TIME", 7 * V)  # of so many tokens
    model, mine, start = tiny_model(pad=pad), tiny_model(pad=pad), tiny_model(pad=pad)
    figures, (batch, solutions, config) = step_of(model, micro_batch_tokens=budget, **settings)
    assert solutions.complete.any() == ("eos_ids" not in settings) and not solutions.complete.all()
    optimizer, old, each = torch.optim.SGD(mine.parameters(), lr=settings.get("lr", 1.0)), None, []
    for _ in range(config.updates):
        loss, expected, logps = brute_force_loss(mine, batch, solutions, config, 0.7, old)
        old = old or logps
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(mine.parameters(), config.grad_clip)  # a larger norm is logged as it was
        each.append({**expected, "grad_norm": norm.item(), "logp_mismatch": settings.get("off", 0.0)})
        optimizer.step()
    for p, q, before in zip(model.parameters(), mine.parameters(), start.parameters()):
        assert torch.allclose(p - before, q - before, atol=2e-5, rtol=1e-3)
    clipped, by_hand = figures.pop("clip_fraction"), statistics.mean(x.pop("clip_fraction") for x in each)
    assert clipped == pytest.approx(by_hand, abs=0.01 * (config.updates - 1))  # a ratio may stand at the very edge
    assert 0.05 < clipped < 0.5 or config.updates == 1
    assert figures == pytest.approx({name: statistics.mean(x[name] for x in each) for name in each[0]}, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind, fails", [("bfloat16", 2), ("float32", 7), ("sharded", 2)])
def test_update__where_memory_runs_out_is_the_one_with_half_the_tokens_at_a_time(kind, fails, capsys, request):
    found, solutions, updates = [], draw(tiny_model(), T=8), 1 if kind == "bfloat16" else 2
    laser.join(CPU)
    request.addfinalizer(torch.distributed.destroy_process_group)
    for budget, fatal in ((60, fails), (30, 0)):
        model, passes, config = tiny_model(), itertools.count(1), Config(beta=0.2, micro_batch_tokens=budget, updates=updates)
        model = model.to(torch.bfloat16 if kind == "bfloat16" else torch.float32)
        def no_memory(gradient):
            if next(passes) == fatal:
                raise torch.OutOfMemoryError("CUDA out of memory")  # in a block's backward pass, of the first update or the second
        model.base_model.layers[0].self_attn.q_proj.register_forward_hook(lambda module, given, output: output.register_hook(no_memory) and None)
        if kind == "sharded":
            laser.shard(model)
        batch = batch_of(solutions, torch.tensor([1.0, 0, 0, 1] * 4), torch.linspace(-1, 1, 16))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if kind == "float32" else laser.make_optimizer(model, 0.01, 0.0)
        norm = laser.update(laser.Policy(model, None, [EOS], ZC), optimizer, batch, 0.1, config)["grad_norm"]
        found.append([torch.tensor(norm), *(w.full_tensor() if kind == "sharded" else w for w in model.parameters())])
        assert norm > 0.1 and config.micro_batch_tokens == 30 and ("on with 30 tokens" in capsys.readouterr().err) == (budget == 60)
    assert all(torch.allclose(x, y, rtol=0, atol=1e-4 if fails == 7 else 0) for x, y in zip(*found))  # 7: the first update had 60 at a time


@pytest.mark.parametrize("what", ["loss", "gradient", "weights"])
def test_update__that_is_not_finite_is_refused_before_the_weights_change(what, monkeypatch):
    model = tiny_model()
    if what == "loss":  # with a gradient of 0
        monkeypatch.setattr(laser, "self_reward_loss", lambda scores, *_: scores.nan_to_num().sum() * 0 + torch.inf)
    elif what == "gradient":
        model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    else:  # damaged before: already sampling refuses
        model.lm_head.weight.data[5] = torch.nan
    before = {k: v.clone() for k, v in model.state_dict().items()}
    refused("probabilities are not finite" if what == "weights" else "gradient is not finite", step_of, model)
    assert all(torch.allclose(v, before[k], rtol=0, atol=0, equal_nan=True) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# ----------------------------------------------------------------------------------- self-verification, votes

def test_verification_metrics__against_pair_counting():
    generator = torch.Generator().manual_seed(2)
    rewards = (torch.rand(60, generator=generator) < 0.4).float().tolist()
    scores = [round(3 * (x + r)) / 4 + 0.01 for x, r in zip(torch.randn(60, generator=generator).tolist(), rewards)]
    for scores, rewards in ((scores, rewards), ([0.15, 0.25, 0.95], [1.0] * 3), ([0.15, 0.25, 0.95], [0.0] * 3), ([], []),  # a class is empty
                            ([0.5, 0.65, 0.5], [1.0, 1, 0]), ([0.65, 0.55], [1.0, 0]), ([0.15, 0.25, 0.95], [1.0, 1, 0])):  # 0.5 is not «right»
        right, wrong = ([s for s, r in zip(scores, rewards) if r == c] for c in (1, 0))
        errors, tenths, f1, auroc = [min(max(s, 0), 1) - r for s, r in zip(scores, rewards)], {}, math.nan, math.nan
        if right and wrong:
            tpr, tnr = sum(s > 0.5 for s in right) / len(right), sum(s <= 0.5 for s in wrong) / len(wrong)
            f1 = 2 * tpr * tnr / (tpr + tnr) if tpr + tnr else 0
            auroc = statistics.mean((r > w) + (r == w) / 2 for r in right for w in wrong)
        for s, error in zip(scores, errors):
            tenths.setdefault(min(max(int(s * 10), 0), 9), []).append(error)
        ece = sum(abs(sum(errors)) for errors in tenths.values()) / len(scores) if scores else math.nan
        brier = statistics.mean(error**2 for error in errors) if scores else math.nan
        got = {name: x.item() for name, x in laser.verification_metrics(torch.tensor(scores), torch.tensor(rewards)).items()}
        assert got == pytest.approx({"f1": f1, "auroc": auroc, "ece": ece, "brier": brier}, nan_ok=True)


def brute_force_vote(answers, weights, worth, k):
    """Over all k-subsets: the worth of the answer with the largest summed weight, ties sharing the credit."""
    credit = []
    for subset in itertools.combinations(range(len(answers)), k):
        sums = {a: sum(weights[i] for i in subset if answers[i] == a) for a in {answers[i] for i in subset} - {-1}}
        credit.append(statistics.mean([worth[a] for a in sums if sums[a] > max(sums.values()) - 1e-9] or [0]))
    return statistics.mean(credit)


def test_vote__against_brute_force_over_all_subsets():
    """Equal answers may have earned different rewards: an answer is worth their mean. Ties up to rounding, as 0.1 + 0.2 and 0.3, are ties."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(-1, 4, (6, 8), generator=generator)
    classes[0] = -1  # nobody answers
    scores = (torch.rand(6, 8, generator=generator, dtype=torch.float64) * 4).round() / 10
    scores[classes < 0] = 0
    rewards = ((classes == 1) | (torch.rand(6, 8, generator=generator) < 0.2)).double()
    got = laser.voting_metrics(classes, scores, rewards)
    assert set(got) == {"mean@1", *(f"{m}@{k}" for m in ("pass", "maj", "weighted", "best") for k in (1, 2, 4, 8))}
    for p in range(6):
        answers, s, r = classes[p].tolist(), scores[p].tolist(), rewards[p].tolist()
        worth = {a: statistics.mean(r[i] for i in range(8) if answers[i] == a) for a in answers}
        assert got["mean@1"][p].item() == pytest.approx(sum(r) / 8)
        for k in (1, 2, 4, 8):
            best_of_all = statistics.mean(max(r[i] for i in c) for c in itertools.combinations(range(8), k))
            expected = {"pass": best_of_all, "maj": brute_force_vote(answers, [1] * 8, worth, k),
                        "weighted": brute_force_vote(answers, s, worth, k), "best": brute_force_vote(range(8), s, r, k)}
            assert {m: got[f"{m}@{k}"][p].item() for m in expected} == pytest.approx(expected)
    members = laser.subsets(32, 8)  # C(32, 8) is ten million: where they are so many, 256 are drawn
    assert members.shape == (256, 32) and (members.sum(1) == 8).all() and torch.equal(members, laser.subsets(32, 8))
    assert len(members.unique(dim=0)) > 250 and (members.mean(0) - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 256)


# --------------------------------------------------------------------------------------- problems and prompts

VERL = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}], "data_source": "x",
        "reward_model": {"ground_truth": "2", "style": "rule"}}  # a row as verl and the authors have it


def test_pair_problems__have_one_pair_and_careless_solutions_that_add_up(monkeypatch):
    seen = {}
    for name in laser.PAIRS:
        rows, right, low_first = laser.pair_problems(name, 300), 0, 0
        assert rows == laser.pair_problems(name, 300)
        assert {row["problem"].count(" ") + 1 for row in rows} == set(laser.PAIRS[name])
        for row in rows:
            total, *numbers = map(int, row["problem"].rstrip("=").replace(":", " ").split()[::-1])
            pairs = [set(p) for p in itertools.combinations(numbers, 2) if sum(p) == total]
            assert pairs == [set(map(int, row["answer"].split(",")))] and len(set(numbers)) == len(numbers)
            a, b, said = map(int, row["solution"].split("\\")[0].replace("=", "+").split("+"))
            assert said == a + b and {a, b} <= set(numbers) and a != b and laser.extract_answer(row["solution"]) == f"{a},{b}"
            right += laser.reward(row["solution"], row["answer"], strict=True)
            low_first += a < b
            seen.setdefault((total, *sorted(numbers)), set()).add(name)
        assert 0.2 < right / 300 < 0.4 and 0.4 < low_first / 300 < 0.6
    assert all(names == {"pairs"} or "pairs" not in names for names in seen.values())  # nothing held out is trained on
    monkeypatch.setattr(laser, "pair_problems", lambda *wanted: wanted)
    assert [laser.load_problems("pairs-hard", train, Config()) for train in (True, False)] == [("pairs-hard", 20000), ("pairs-hard", 200)]


def test_load_problems__local_data_of_every_kind(tmp_path, capsys):
    rows = [{"question": "1+1?", "final_answer": "007"}, {"question": "p\u2028q", "final_answer": "0.50"}]
    text, cells = "".join(json.dumps(row) + "\n" for row in rows), "question,final_answer\n1+1?,007\np\u2028q,0.50\n"
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "[1].parquet")
    (tmp_path / "1.jsonl").write_text('{"question": "not asked for", "final_answer": 1}')  # which a pattern [1] would match
    files = {"[1].jsonl": text, "[1].json": json.dumps(rows), "[1].csv": cells, "z.jsonl.gz": text, "z.csv.gz": cells}
    for name, content in files.items():
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    for name in [*files, "[1].parquet"]:
        got = laser.load_problems(str(tmp_path / name), True, Config())
        assert got == [{"problem": row["question"], "answer": row["final_answer"]} for row in rows], name
    assert f"reading {tmp_path}/[1].jsonl" in capsys.readouterr().out


def test_load_problems__answers_are_read_as_they_stand_and_those_that_teach_nothing_or_repeat_are_counted(tmp_path, capsys):
    def of(name, *golds):
        return table(tmp_path / name, [{"problem": "p", "answer": gold} for gold in golds])
    (tmp_path / "a.csv").write_text("problem,answer\np,NA\np,007\np,\n,5\np,0.50\n")
    (tmp_path / "long.csv").write_text("problem,answer,level\n1+1,2,5,\n2+2,4,5,\n")  # the rows are longer than the header
    golds = of("golds.jsonl", "5", "proof", "notfound", "", "N/A", "yes", "{'ground_truth': '3'}", "We see that the claim holds, as was to be shown.")
    for name, answers, counts in ((of("mixed.jsonl", 70, "x", None, "2020-01-01", ["3", "4"]), ["70", "x", "2020-01-01"], (5, 5, 3)),
                                  (str(tmp_path / "a.csv"), ["007", "0.50"], (5, 4, 2)), (str(tmp_path / "long.csv"), ["2", "4"], (2, 2, 2)),
                                  (golds, ["5", "yes"], (8, 8, 2))):
        assert [row["answer"] for row in laser.load_problems(name, True, Config())] == answers
        printed = capsys.readouterr()
        assert "{} rows, {} with a problem in problem, {} of them with a checkable answer in answer".format(*counts) in printed.out
        assert ("warning: 1 answers are yes, no, true or false: guessing earns half" in printed.err) == (name == golds)
    assert len(laser.load_problems(golds, True, Config(reward="math:sqrt"))) == 8  # whoever judges for himself needs no gold
    numbers = datasets.Dataset.from_list([{"problem": str(x), "answer": x} for x in (0.1, 2.0, 1 / 3, 16777216.0)] * 2)
    numbers.cast_column("answer", datasets.Value("float32")).to_parquet(tmp_path / "f.parquet")
    for train, times in ((True, 2), (False, 1)):  # as they print; held-out problems are asked once
        rows = laser.load_problems(str(tmp_path / "f.parquet"), train, Config())
        assert [row["answer"] for row in rows] == ["0.1", "2", "0.33333334", "16777216"] * times
        assert ("f.parquet: 4 rows repeat a problem, which is asked once" in capsys.readouterr().out) == (not train)
    for value, expected in ((70, "70"), ("We add.\n#### 1,234", "1,234"), ("so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"), ([3, "4"], ""),
                            (" x ", "x"), (None, ""), ("#### 1\n#### 2", "2"), ('["27"]', "27"), ("['1/2', '0.5']", "1/2"), ('["1", "2"]', ""),
                            ("[1, 2]", "[1, 2]"), ("[0,1)", "[0,1)"), (["3"], "3"), ([], ""),
                            ("#### Step 1\nWe add.\n#### Step 2\nSo \\boxed{7}.", "7")):
        assert laser.gold_answer(value) == expected


def test_reward_function__gives_the_row_with_all_its_columns_to_a_function_that_needs_it(tmp_path, monkeypatch):
    (tmp_path / "wants.py").write_text(
        "def row(response, gold, row): return row['level'] / 10 + (row['problem'] == 'p') / 100 + (row['prompt'] == 'x') / 1000\n"
        "def two(response, gold, tolerance=1e-6): return tolerance\ndef rest(response, gold, **more): return len(more)\n"
        "def short(response, gold): return 1 / (1 + len(response))\ndef wild(response, gold): return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    name = table(tmp_path / "d.jsonl", [{"problem": "p", "answer": "?", "level": 7, "prompt": "x"}])
    for function, value in (("row", 0.711), ("two", 1e-6), ("rest", 0), ("short", 0.5)):
        config = Config(reward=f"wants:{function}")
        (row,) = laser.load_problems(name, True, config)
        assert laser.reward_function(config)("y", {**row, "prompt": [5]}) == pytest.approx(value)
    assert laser.verify(["y", "y"], [{"answer": "?"}] * 2, torch.tensor([True, False]), config).tolist() == [0.5, 0] and sys.path.count(os.getcwd()) == 1
    refused("--reward wants:wild returned 7.0, not 0 … 1", laser.reward_function(Config(reward="wants:wild")), "y", row)
    assert "columns" not in laser.load_problems(table(tmp_path / "e.jsonl", [{"problem": "p", "answer": "1", "level": 7}]), True, Config())[0]


def test_column_of__by_flag_or_known_name_or_in_dicts(tmp_path):
    for i, answer in enumerate(laser.ANSWERS):
        *outer, answer = answer.split(".")
        cell = {answer: "so \\boxed{4}" if answer == "solution" else 4}
        row = {"id": 1, laser.PROBLEMS[i % 4]: "2+2?", **({outer[0]: cell} if outer else cell)}
        assert laser.load_problems(table(tmp_path / f"{i}.jsonl", [row]), True, Config()) == [{"problem": "2+2?", "answer": "4"}]
    datasets.Dataset.from_list([VERL]).to_parquet(tmp_path / "verl.parquet")
    assert laser.load_problems(str(tmp_path / "verl.parquet"), True, Config()) == [{"problem": "1+1?", "answer": "2", "messages": VERL["prompt"]}]
    config = Config(problem_column="Q", answer_column="in.a")  # held-out sets need not have what is named for training
    mine = table(tmp_path / "mine.jsonl", [{"Q": "1+1?", "problem": "x", "answer": 3, "in": {"a": 2}}])
    other = table(tmp_path / "other.jsonl", [{"question": "2+2?", "answer": 4}])
    assert laser.load_problems(mine, True, config) == laser.load_problems(mine, False, config) == [{"problem": "1+1?", "answer": "2"}]
    assert laser.load_problems(other, False, config) == [{"problem": "2+2?", "answer": "4"}]
    turns = [VERL["prompt"][:i] for i in (0, 1, 2)] + [VERL["prompt"] + [{"role": "assistant", "content": "2"}] * 2, VERL["prompt"][::-1]]
    talks = table(tmp_path / "talks.jsonl", [{"messages": turn, "answer": "2"} for turn in turns])  # asked up to the user's last turn
    assert [row["messages"] for row in laser.load_problems(talks, True, Config())] == [VERL["prompt"]] * 2
    refused(r"other.jsonl has no column Q among question, answer; give --problem_column", laser.load_problems, other, True, config)
    refused("no column nothing among .*; give --answer_column", laser.load_problems, other, True, Config(answer_column="nothing"))


def test_question__messages_may_be_in_parts_or_written_as_text():
    user, system = {"role": "user", "content": "1+1?"}, {"role": "system", "content": "s"}
    parts, image = [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}], [{"type": "image", "text": None}]
    for cell in ([system, {**user, "content": parts}], json.dumps([system, user]), repr([system, user])):
        assert laser.question(cell) == {"problem": "1+1?", "messages": [system, user]}, cell
    assert laser.question("[1, 2] and [3]?") == {"problem": "[1, 2] and [3]?"} and laser.question([{**user, "content": image}])["problem"] == image


def test_read_table__configurations_and_splits_of_the_hub(tmp_path, monkeypatch, capsys):
    asked, row = [], datasets.Dataset.from_list([{"question": "1+1?", "answer": "We add. #### 2"}])
    def load(source, subset):
        asked.append((source, subset))
        return datasets.DatasetDict({name: row for name in ("validation train test" if source == "a/all" else "eval extra").split()})
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with:colon").mkdir()  # a local folder comes first
    for name, train, split, expected in (
            ("openai/gsm8k", True, "eval of eval, extra", ("openai/gsm8k", "main")), ("a/b", False, "eval of eval, extra", ("a/b", None)),
            ("openai/gsm8k:socratic", True, "eval of", ("openai/gsm8k", "socratic")), ("a/b::extra", False, "extra of", ("a/b", None)),
            ("a/b:c:extra", True, "extra of", ("a/b", "c")), ("a/all", True, "train of validation, train, test", ("a/all", None)),
            ("a/all", False, "test of", ("a/all", None)), ("with:colon", True, "eval of", ("with:colon", None))):
        assert laser.load_problems(name, train, Config()) == [{"problem": "1+1?", "answer": "2"}]
        assert f"{name}, split {split}" in capsys.readouterr().out and asked[-1] == expected
    with pytest.raises(KeyError, match="train"):
        laser.load_problems("a/b:c:train", True, Config())


def byte_tokenizer(folder):
    """A byte-level BPE tokenizer with a chat template and pad = EOS, as Qwen2.5's base models have, trained on a few lines."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.train_from_iterator(["Find the sum of all integers. \\boxed{\\frac{1}{2}}"] * 3, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.chat_template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                               "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_encode_prompts__suffix_template_and_special_tokens_once(tmp_path):
    tokenizer = byte_tokenizer(tmp_path)
    policy = laser.Policy(None, tokenizer, [0], 5)
    def prompt(row, **options):
        return tokenizer.decode(laser.encode_prompts(policy, [row], Config(**options))[0])
    def begins_or_ends(single):
        special = [(token, tokenizer.get_vocab()[token]) for token in ("<|im_start|>", "<|endoftext|>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
    turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?{}<|im_end|>\n<|im_start|>assistant\n"
    row, plain = {"problem": "1+1?", "messages": VERL["prompt"]}, {"problem": "Find it."}
    begins_or_ends("<|im_start|> $A")  # as many tokenizers put a BOS before what they encode
    assert prompt(row) == turns.format("") and prompt(row, prompt_suffix="Now.") == turns.format("\nNow.")
    assert prompt(plain, prompt_suffix="Now.") == "<|im_start|>user\nFind it.\nNow.<|im_end|>\n<|im_start|>assistant\n"
    assert prompt(plain) == f"<|im_start|>user\nFind it.\n{laser.SUFFIX}<|im_end|>\n<|im_start|>assistant\n"
    tokenizer.chat_template = "{{ mood }}{{ messages[-1].content }}"
    assert prompt(plain, prompt_suffix="", template_kwargs='{"mood": "calm "}') == "calm Find it."
    tokenizer.chat_template = None
    assert prompt(plain, prompt_suffix="Now.") == "<|im_start|>Find it.\nNow." and prompt(plain, prompt_suffix="") == "<|im_start|>Find it."
    refused("no chat template", prompt, row)
    begins_or_ends("$A <|endoftext|>")
    assert tokenizer("x")["input_ids"][-1] == 0 and prompt(plain, prompt_suffix="") == "Find it."


@pytest.mark.parametrize("kind, most", [("phi3", 64), ("mistral", 64), ("olmo2", 256)])  # a longrope scaling, a sliding window, the model's end
def test_add_prompts__drops_and_counts_and_ends_where_the_sampler_can_no_longer_follow(kind, most, tmp_path, capsys):
    policy, rows = laser.Policy(zoo(tmp_path, kind), laser.character_tokenizer(), [1], 120), [{"problem": "x" * n} for n in (0, 1, 9, 10)] * 1500
    config = Config(data="d", prompt_suffix="", max_prompt_tokens=9, max_response_tokens=most - 10)
    kept = [row["prompt"] for row in laser.add_prompts(rows, policy, config, "e")]
    assert [len(ids) for ids in kept] == [1, 9] * 1500 and kept[0].itemsize == 4 and kept[-1].tolist() == policy.tokenizer("x" * 9)["input_ids"]
    printed = capsys.readouterr()
    assert "e: 3000 of 6000 prompts have 1 to 9 tokens (--max_prompt_tokens)" in printed.out and not printed.err
    refused("d: 0 of 1 prompts have 1 to 9 tokens .*; raise it", laser.add_prompts, rows[3:4], policy, config, "d")
    refused(f"A prompt of d with its solution may take {most + 1} positions; .* at {most}: lower", laser.add_prompts, rows, policy,
            dataclasses.replace(config, max_response_tokens=most - 9), "d")
    for options, told in (({}, True), ({"reward": "x:y"}, False), ({"warm_start_steps": 1}, False), ({"prompt_suffix": "In a \\boxed{}."}, False)):
        capsys.readouterr(), laser.add_prompts(rows[:4], policy, dataclasses.replace(config, max_prompt_tokens=50, max_response_tokens=1, **options), "d")
        assert ("asks for no \\boxed{}" in capsys.readouterr().err) == told


def test_end_tokens__have_the_turn_end_of_the_template_or_what_the_flag_says(tmp_path):
    tokenizer, model = byte_tokenizer(tmp_path), tiny_model(vocabulary=300)
    model.config.eos_token_id, model.generation_config.eos_token_id = 0, [9, 0]
    assert laser.end_tokens(model, tokenizer, Config(end_token=["<|endoftext|>", "7"])) == [0, 7]
    for template, expected in ((tokenizer.chat_template, [0, 2, 9]),  # <|endoftext|> comes first, <|im_end|>, the generation's own
                               (tokenizer.chat_template.replace("<|im_end|>", "\n<|im_end|>"), [0, 2, 9]),  # on a line of its own
                               (None, [0, 9]), ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", [0, 9]),  # plain text
                               ("<|im_start|>{% for m in messages %}{{ m.content|upper }}<|im_end|>{% endfor %}", [0, 9])):  # changes the text
        tokenizer.chat_template = template
        assert laser.end_tokens(model, tokenizer, Config()) == expected
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token = None
    refused("no end-of-sequence token; give --end_token", laser.end_tokens, model, tokenizer, Config())


# ------------------------------------------------------------------------------------------------- warm start

@pytest.mark.parametrize("template", [True, False])
def test_warm_start__takes_the_steps_of_cross_entropy_by_hand_however_they_are_cut(template, tmp_path, capsys):
    tokenizer = byte_tokenizer(tmp_path)
    tokenizer.chat_template = tokenizer.chat_template if template else None
    rows = [{"problem": f"{a}+{b}?", "solution": f"{a + b}" * a} for a in (1, 2, 3) for b in (4, 5)]
    rows = [{**row, "prompt": tokenizer(row["problem"])["input_ids"]} for row in rows]
    rows += [{"solution": text, "prompt": [5]} for text in ("", "5" * 9, "")]
    config = Config(warm_start_steps=3, warm_start_batch=4, warm_start_lr=1e-2, max_response_tokens=9)
    trained = []
    for budget in (1, 10**6):
        policy = laser.Policy(tiny_model(vocabulary=300).double(), tokenizer, [2], 5)  # of mere rounding AdamW would make a whole step
        laser.warm_start(policy, rows, dataclasses.replace(config, micro_batch_tokens=budget))
        trained.append(policy.model.state_dict())
        assert "6 of 9 solutions have 1 to --max_response_tokens tokens, 4 a step" in capsys.readouterr().out
    model, drawn = tiny_model(vocabulary=300).double(), random.Random(laser.seed_of("warm start", 0))
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 1e-2 * (3 - step) / 3
        losses = []
        for i in drawn.sample(range(6), 4):  # the empty solutions and the long one are left out
            document = tokenizer(rows[i]["solution"])["input_ids"] + [2] + ([] if template else rows[i - 1]["prompt"][:1])
            first, ids = len(rows[i]["prompt"]), torch.tensor([rows[i]["prompt"] + document])
            losses.append(F.cross_entropy(model(ids).logits[0, first - 1 : -1], ids[0, first:], reduction="none"))
        optimizer.zero_grad()
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for name, weight in model.state_dict().items():
        assert all(torch.allclose(weight, other[name], atol=1e-4) for other in trained), name
    assert max((weight - start[name]).abs().max() for name, weight in model.state_dict().items()) > 0.01


# -------------------------------------------------------------------------- sampling's cache and chunked loss

class Tape(TorchDispatchMode):
    """Passes for a CUDA graph: does all operations again with the numbers and tensors that they had, into the tensors that they gave."""

    def __torch_dispatch__(self, op, types, args=(), options=None):
        results = op(*args, **(options or {}))
        if op.namespace != "profiler":  # ranges that FSDP's hooks name, and do no more
            vars(self).setdefault("done", []).append((op, args, options or {}, results))
        return results

    def replay(self):
        for op, args, options, results in self.done:
            again = op(*args, **options)
            for old, new in zip(*([x] if torch.is_tensor(x) else x for x in (results, again))):
                if old.data_ptr() != new.data_ptr():  # neither a view nor in place
                    old.copy_(new)


@pytest.fixture
def tapes(monkeypatch):
    """A CPU that passes for a GPU while it samples, in buckets of 8 slots: what it recorded."""
    made = []
    monkeypatch.setattr(laser, "GRAPH_SLOTS", {"cpu": 8})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(Tape()) or made[-1])
    monkeypatch.setattr(torch.cuda, "graph", lambda tape, **_: tape)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    return made


def test_replayed__steps_are_the_usual_ones_in_stages_where_rows_leave_and_memory_runs_out(tapes, monkeypatch):
    model, u, step, found = tiny_model(), laser.uniforms(32, 40, "test", 0), laser.advance, []
    def small(model, cache, *inputs):
        if len(inputs[0]) > 8 and cache.used > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(model, cache, *inputs)
    monkeypatch.setattr(laser, "FIRST_STAGE", 16)
    for slots in ({"cpu": 8}, {}):
        monkeypatch.setattr(laser, "GRAPH_SLOTS", {**slots})
        for advance, most in ((step, 32), (step, 7), (small, 32)):
            monkeypatch.setattr(laser, "advance", advance)
            found.append(laser.sample_in_stages(model, PROMPTS, 8, u, most, [EOS, EOS2, 20], ZC))
        assert laser.GRAPH_SLOTS == slots and len(tapes) > 12  # none failed
    for got, expected in zip(found[:3], found[3:]):
        assert all(torch.allclose(x, y, rtol=0, atol=1e-5) for x, y in zip(got, expected))


@pytest.mark.parametrize("owner, name", [(torch.cuda, "graph"), (Tape, "replay")])
def test_replayed__what_cannot_be_recorded_or_is_replayed_wrong_runs_as_usual(owner, name, tapes, monkeypatch, capsys):
    def broken(tape, **_):
        tape.done[-1][-1].mul_(2)  # of a tape without any it is an AttributeError
    monkeypatch.setattr(owner, name, broken if name == "replay" else lambda *_, **__: torch.zeros(1) @ torch.zeros(2))  # a RuntimeError
    assert torch.equal(draw(tiny_model(), T=30).tokens, draw(tiny_model(), T=30).tokens) and len(tapes) == 1
    assert capsys.readouterr().err.count("goes on without CUDA graphs") == 1


@on_a_gpu
@pytest.mark.parametrize("dtype, most", [("float32", 1e-3), ("bfloat16", 0.3)])
def test_replayed__on_a_gpu_samples_as_without_and_as_float64(dtype, most, monkeypatch):
    for slots in ({}, {"cuda": 8}):
        monkeypatch.setattr(laser, "GRAPH_SLOTS", {**slots})
        got = laser.Solutions(*(x.cpu() for x in draw(tiny_model().to("cuda", getattr(torch, dtype)), T=40)))
        logps, logp_zc = laser.all_token_logps(tiny_model().double(), repeated(PROMPTS, 4), got.responses(), ZC, Config())
        assert laser.GRAPH_SLOTS == slots and (got.logps - logps).abs().mean() < most > (got.logp_zc - logp_zc)[got.complete].abs().mean()


@pytest.mark.parametrize("bias", [False, True])
def test_logits_of__a_gpu_keeps_the_sums_of_float32_and_the_gradient(bias, monkeypatch):
    mm, found, hidden, weight = torch.mm, [], 40 * torch.randn(9, 64).bfloat16(), torch.randn(9, V)
    monkeypatch.setattr(torch, "mm", lambda a, b, out_dtype: mm(a.to(out_dtype), b.to(out_dtype)))  # which a CPU lacks
    monkeypatch.setattr(laser, "WIDE_SUMS", ("cpu",))
    head = torch.nn.Linear(64, V, bias).bfloat16()
    for dtype, form in ((torch.bfloat16, laser.logits_of), (torch.float64, lambda head, hidden: head(hidden))):
        given = hidden.to(dtype, copy=True).requires_grad_()
        logits = form(head.to(dtype), given)
        found.append([logits.double(), *(g.double() for g in torch.autograd.grad((logits * weight).sum(), [given, *head.parameters()]))])
    (logits, *gradients), (exact, *theirs) = found
    assert 10 < exact.abs().max() and (logits - exact).abs().max() < 1e-4  # in bfloat16 it is 0.05
    assert all((g - h).norm() < 0.01 * h.norm() for g, h in zip(gradients, theirs))


def test_chosen_logps__holds_a_chunk_of_logits_at_a_time(monkeypatch):
    monkeypatch.setattr(laser, "LOGITS_AT_A_TIME", 3 * V)  # 3 of 10 tokens
    head, hidden, kept, rows = torch.nn.Linear(8, V, bias=False), torch.randn(10, 8, requires_grad=True), [], []
    head.register_forward_hook(lambda head, given, logits: rows.append(len(logits)))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):  # what is held for the backward pass
        value = laser.chosen_logps(head, hidden, torch.arange(10), torch.ones(10))
    value.sum().backward()
    assert sorted(rows) == [1, 1, 3, 3, 3, 3, 3, 3] and max(kept) <= 8 * V < 10 * V  # twice: forward, and again backward


# ------------------------------------------------------------------------------------------------- evaluation

def test_solve__takes_the_last_box_and_nothing_from_a_cut_solution(given):
    policy, row, solutions, responses, drawn = given
    reference = tiny_model(seed=1, vocabulary=100)
    _, exact = laser.all_token_logps(reference, [row["prompt"]] * 4, responses, 99, Config())
    for config, c_ref in ((Config(eval_n=4, c_ref=-4.0), torch.full((4,), -4.0)), (Config(eval_n=4, exact_reference=True), exact)):
        rows = laser.solve(policy, [row], config, "held", reference)
        assert [r["reward"] for r in rows] == [1, 0, 1, 0] and [r["answer"] for r in rows] == ["5,9", None, "5,9", "2,5"]
        assert rows[1]["self_reward"] is None is rows[1]["logp_zc"] and [r["complete"] for r in rows] == [True, False, True, True]
        assert {(r["data"], r["problem"], r["gold"]) for r in rows} == {("held", row["problem"], "5,9")}
        for r, ids, logp_zc, reference_logp in zip(rows, responses, solutions.logp_zc.tolist(), c_ref.tolist()):
            assert r["response"] == policy.tokenizer.decode([i for i in ids if i != EOS]) and (r["tokens"], r["last_token"]) == (len(ids), ids[-1])
            if r["complete"]:
                assert r["logp_zc"] == logp_zc and r["self_reward"] == pytest.approx(0.1 * (logp_zc - reference_logp), rel=1e-5)
    laser.solve(policy, [{**row, "problem": "another"}] * 3 + [row], Config(eval_n=1, c_ref=-4.0), "held")
    assert torch.equal(drawn[0][:1], drawn[2][3:]) and not torch.equal(*drawn[2][2:])  # a problem's draws do not depend on the others asked


def rows_of(columns):  # (self_reward, reward, answer, tokens)
    return [{"reward": float(r), "self_reward": score, "complete": score is not None, "answer": a, "tokens": t,
             "logp_zc": None if score is None else -3.0} for score, r, a, t in columns]


def test_summarise__no_answer_wins_nothing_and_nothing_complete_is_undefined():
    rows = rows_of([(0.3, 1, "1", 5), (0.1, 0, "2", 6), (0.9, 1, "1", 5), (0.95, 0, None, 6)])  # the highest, without an answer
    rows[1]["logp_zc"] = -1.0  # of a wrong one: it does not count in log Z
    row = laser.summarise(rows, 2, 0.1)
    assert row["best@2"] == 1 and row["complete"] == 1 and row["response_tokens"] == 5.5
    assert row["log_z"] == pytest.approx(-math.log1p(math.exp(-3) * math.expm1(-10)))
    equal = laser.summarise(rows_of([(0.2, 0, "0.5", 5), (0.2, 0, "1/2", 5), (0.3, 1, "7", 5)]), 3, 0.1)
    assert equal["maj@3"] == 0 == equal["weighted@3"] and equal["best@3"] == 1  # 0.5 and 1/2 are one answer
    empty = laser.summarise(rows_of([(None, 0, None, 5), (None, 0, None, 5)]), 1, 0.1)
    assert empty["complete"] == 0 == empty["mean@1"] and empty["f1"] is None is empty["auroc_ci"] is empty["log_z"]


def test_summarise__intervals_draw_whole_problems_anew():
    rng, P, n, means, f1s = random.Random(0), 8, 3, [], []
    samples = rows_of([(rng.random() if rng.random() < 0.8 else None, rng.random() < p / P, "1", 5) for p in range(P) for _ in range(n)])
    row, one = laser.summarise(samples, n, 0.1), laser.summarise(samples[:n], n, 0.1)
    assert one["mean@1"] is not None and {x for name, x in one.items() if name.endswith("_ci")} == {None}  # of one problem: none
    for chosen in torch.randint(P, (500, P), generator=torch.Generator().manual_seed(laser.seed_of("bootstrap", P))).tolist():
        drawn = [samples[p * n + i] for p in chosen for i in range(n)]
        scores, rewards = torch.tensor([(s["self_reward"], s["reward"]) for s in drawn if s["complete"]]).T
        means.append(statistics.mean(s["reward"] for s in drawn))
        f1s.append(laser.verification_metrics(scores, rewards)["f1"].item())
    for name, values in (("mean@1_ci", means), ("f1_ci", f1s)):
        values = torch.tensor(values, dtype=torch.float64)
        assert row[name] == pytest.approx(values.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist())


def test_step_figures__by_hand(given):
    policy, row, solutions, responses, _ = given
    config = Config(group_size=4, reasoning_warmup=0, beta=0.2, lr=0.5, c_ref=-4.0)
    line, _ = laser.training_step(policy, torch.optim.SGD(policy.model.parameters(), lr=0.0), [row], 6, config)  # right, cut, two boxes, wrong
    total = sum(solutions.logps[i, : len(r)].sum().item() for i, r in enumerate(responses))
    a, _, b, c = solutions.logp_zc.tolist()
    tokens, clipped = sum(map(len, responses)), [min(max(0.2 * (x + 4), 0), 1) for x in (a, b, c)]
    expected = {"step": 7, "reward": 0.25, "reward_std": 0.5, "equal_groups": 0, "entropy": -total / tokens, "complete": 0.75,
                "lr": 0.5, "response_tokens": tokens / 4, "logp_zc_right": a, "logp_zc_wrong": (b + c) / 2,
                "log_z": -math.log1p(math.exp(a) * math.expm1(-5)), "auroc": ((a > b) + (a > c)) / 2,
                "brier": ((clipped[0] - 1) ** 2 + clipped[1] ** 2 + clipped[2] ** 2) / 3}
    assert {key: line[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    assert line["seconds"] == pytest.approx(line["sample_seconds"] + line["verify_seconds"] + line["train_seconds"]) and len(line) == 27
    assert line["sample_tokens_per_s"] * line["sample_seconds"] == pytest.approx(tokens)
    assert line["train_tokens_per_s"] * line["train_seconds"] == pytest.approx(tokens + 4 * len(row["prompt"]))


def test_print_curves__a_block_for_a_fortieth_of_the_steps(capsys):
    rows = [{"reward": i / 80, "f1": None, "auroc": 1.0, "complete": 0.5} for i in range(80)]
    laser.print_curves([*rows[:9], {"step": 9, "changed": {"lr": 1.0}}, *rows[9:]])
    blocks = ["".join(5 * block for block in "▁▂▃▄▅▆▇█"), 40 * "▁", 40 * "█", 40 * "▅"]
    expected = zip(("reward", "f1", "auroc", "complete"), blocks, ("0.99", "–", "1.00", "0.50"))
    assert capsys.readouterr().out.splitlines() == [f"{name:>8} {line} {last}" for name, line, last in expected]


def test_show__warns_once_when_solutions_stop_ending_or_earn_nothing(tmp_path, capsys):
    rollouts = [{"problem": "p", "response": "y", "reward": 0.5, "self_reward": None}] * 2
    def warnings(key, values, **options):
        run = types.SimpleNamespace(logs={"metrics": [{"step": 1, "changed": {}}]}, place=types.SimpleNamespace(out=tmp_path))
        for step, value in enumerate(values, 2):
            run.logs["metrics"].append({"step": step, "reward": 0.5, "f1": None, "complete": 1, key: value})
            laser.show(run, laser.progress([]), run.logs["metrics"][-1], rollouts, Config(**options))
        return re.findall("warning: .*", capsys.readouterr().err)
    (only,) = warnings("complete", [0.9, 0.95, 0.71, 0.69, 0.8, 0.1])
    assert "at step 5 0.69 of the solutions end by themselves, " in only and "0.90" in only
    assert lines(tmp_path / "rollouts.jsonl") == [{"step": 7, **row} for row in rollouts]  # of the last step
    assert not warnings("complete", [0.9, 0.6], prompts_per_step=4, group_size=4)  # of 16 solutions a quarter fewer may end by chance
    for earned, told in (([0] * 19, 0), ([0] * 20, 1), ([0] * 30, 1), ([0] * 19 + [1], 0), ([1] + [0] * 25, 1), (([0] * 20 + [1]) * 2, 2)):
        assert sum("20 steps without any reward" in warning for warning in warnings("reward", earned)) == told


# ---------------------------------------------------------------------------------------------- model and z_c

SMALL = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3}
LONG = {"original_max_position_embeddings": 64, "pad_token_id": 0, "rope_parameters": {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 64}}
ZOO = {"gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "vocab_size": 128, "resid_pdrop": 0.5}, "qwen3": {**SMALL, "head_dim": 8},
       "phi3": {**SMALL, **LONG}, "mistral": {**SMALL, "sliding_window": 64}, "olmo2": SMALL, "mixtral": {**SMALL, "num_local_experts": 4},
       "deepseek_v3": {**SMALL, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
                       "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
                       "moe_intermediate_size": 16, "first_k_dense_replace": 1}}


def zoo(folder, kind, **changes):
    path = folder / f"{kind}.json"
    path.write_text(json.dumps({"model_type": kind, **ZOO.get(kind, {}), **changes}))
    return laser.load_model(str(path), CPU, "float32", 0)[0]


@pytest.mark.parametrize("kind", ZOO)
def test_load_model__is_followed_to_its_eager_logits_and_has_no_dropout(kind, tmp_path):
    model, prompts = zoo(tmp_path, kind), [[5, 6, 7], [8], list(range(9, 27))]
    drawn = laser.sample(model, prompts, 2, laser.uniforms(6, 16, kind), [1], 120)
    one, two = (laser.token_logps(model.train(), repeated(prompts, 2), drawn.responses(), 120)[0] for _ in range(2))
    model.eval().set_attn_implementation("eager")
    for i, (prompt, response) in enumerate(zip(repeated(prompts, 2), drawn.responses())):
        logits = model(torch.tensor([prompt + response]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1)[range(len(response)), response]
        assert torch.allclose(drawn.logps[i, : len(response)], own, atol=1e-4)
    assert torch.equal(one, two) and torch.allclose(one, drawn.logps[:, : one.size(1)], atol=1e-4)


def test_load_model__and_is_followed_refuse_what_is_incomplete_or_would_be_sampled_wrongly(finished, tmp_path, monkeypatch):
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.3, self.training))
    whole, lost = (finished[0] / "checkpoint" / "model.safetensors").read_bytes(), "model.layers.1.mlp.up_proj.weight"
    config = json.loads((finished[0] / "checkpoint" / "config.json").read_text())
    for name, content, words in (("adapter_config.json", b"{}", "holds an adapter"), ("model.safetensors", b"version https://git-lfs", "git-lfs pointers"),
                                 ("config.json", json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}).encode(), "is quantised"),
                                 ("model.safetensors", whole.replace(lost.encode(), lost[::-1].encode()), f"lacks weights, {lost} …; give all")):
        folder = shutil.copytree(finished[0] / "checkpoint", str(tmp_path / words[:5]))
        Path(folder, name).write_bytes(content)
        refused(words, laser.load_model, str(folder), CPU, "float32", 0)
    for kind, changes in (("gpt_oss", {**SMALL, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),  # attention sinks
                          ("gemma2", {**SMALL, "head_dim": 8, "initializer_range": 0.02}),  # capped logits
                          ("gemma3", {"text_config": {**SMALL, "head_dim": 8}}), ("mamba", {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1}),
                          ("qwen2", {**SMALL, "use_sliding_window": True, "sliding_window": 2, "max_window_layers": 0})):
        refused("choose another", zoo, tmp_path, kind, **changes)
    model, _ = zoo(tmp_path, "olmo2"), monkeypatch.setattr(laser.AutoModelForCausalLM, "from_config", lambda *_, **options: model)
    assert laser.is_followed(model, 128)
    model.lm_head.__class__ = Noisy
    refused("does not follow", zoo, tmp_path, "olmo2")


def test_load_policy__z_c_is_a_known_unused_token_or_one_beyond_the_vocabulary(tmp_path, capsys):
    tokenizer = byte_tokenizer(tmp_path)
    tiny_model(vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    choose = lambda **options: laser.load_policy(Config(**options), str(tmp_path), CPU)  # noqa: E731
    beyond = choose()
    torch.rand(5)  # whatever is drawn between: policy and reference get the same row
    assert torch.equal(beyond.model.get_input_embeddings().weight, choose().model.get_input_embeddings().weight)
    assert beyond.zc == len(tokenizer) == beyond.model.get_input_embeddings().weight.size(0) - 1
    assert choose(token=tokenizer.convert_ids_to_tokens(270)).zc == 270 and choose(token="7").zc == 7  # a number is an id
    for token, words in (("no such token", "'no such token' is no token of this model"), ("99999", "no token 99999"), ("2", "--token 2 already ends"),
                         ("0", "--token 0 already ends"), ("9" * 50, "no token 9")):
        refused(words, choose, token=token)
    refused("no token 5000; mend --token or --end_token", choose, end_token=["5000"])
    tokenizer.add_tokens(["<|extra_0|>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    assert choose().zc == len(tokenizer) - 1
    tokenizer.pad_token = "<|extra_0|>"  # which pads, so it is not free
    tokenizer.save_pretrained(tmp_path)
    assert choose().zc == len(tokenizer) and "loses text" not in capsys.readouterr().err
    core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "What": 2, "is": 9}, unk_token="<unk>"))  # 4 tokens: a hole up to 9
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>").save_pretrained(tmp_path)
    assert choose().zc == 10
    assert "the tokenizer loses text: it reads 'What is 2 + 3?\\nx' as " in capsys.readouterr().err


def test_measure_c_ref__reads_after_an_eos_that_a_cut_solution_is_given(given, capsys):
    policy, row, _, responses, _ = given
    mean, std = laser.measure_c_ref(policy, [row], Config(prompts_per_step=1, group_size=4))
    whole = [row["prompt"] + response + [EOS] * (response[-1] != EOS) for response in responses]
    values = [policy.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[99].item() for ids in whole]
    assert (mean, std) == pytest.approx((statistics.mean(values), statistics.stdev(values)), rel=1e-4)
    said = policy.tokenizer("5")["input_ids"][0]
    refused(f"itself says token {said} .8 times in 76.; choose a --token it never uses", laser.measure_c_ref, policy._replace(zc=said), [row],
            Config(prompts_per_step=1, group_size=4))
    for options, std, words in (({"beta": 0.1}, 0.1, "log Z = 2.13 is not close to 0, .* raise --beta to 0.20 or choose a rarer"),
                                ({"beta": 0.01}, 0.1, "log Z = 92.00 is not close"),  # the least β that is allowed: e^100
                                ({"beta": 0.2}, 1.3, "spreads by 0.26 of a reward: too much for a constant"),
                                ({"beta": 0.1, "self_loss": "ce"}, 0.1, ""), ({"beta": 0.2, "exact_reference": True}, 1.3, "")):
        laser.report_c_ref(-8.0, std, Config(**options))
        error = capsys.readouterr().err
        assert re.search(words, error) if words else not error


# --------------------------------------------------------------------------------------- optimizer and memory

def test_bf16_adamw__drifts_as_float32_does_and_plain_rounding_does_not():
    def drift(kind, dtype, decay):  # mean change of 20,000 weights under gradients of one sign, and its standard error
        generator = torch.Generator().manual_seed(0)
        start = (torch.rand(20_000, generator=generator) * 0.04 + 0.01).bfloat16()  # of one sign, or a bias towards 0 would cancel
        weight = torch.nn.Parameter(start.to(dtype, copy=True))
        optimizer = kind([weight], lr=1e-6, weight_decay=decay)
        for _ in range(150):
            weight.grad = (torch.rand(20_000, generator=generator) * 1e-3).to(dtype)
            optimizer.step()
        change = (weight.detach().float() - start.float()).double()
        return change.mean().item(), change.std().item() / math.sqrt(20_000)
    for decay in (0.01, 50.0):
        (exact, _), (rounded, error) = drift(torch.optim.AdamW, torch.float32, decay), drift(laser.BF16AdamW, torch.bfloat16, decay)
        assert exact < -1e-4 and abs(rounded - exact) < 4 * error + 0.01 * abs(exact) < 0.2 * abs(exact)
    assert abs(drift(torch.optim.AdamW, torch.bfloat16, 0.01)[0]) < 0.5 * 1e-4


def test_bf16_adamw__gradients_of_many_micro_batches_add_up():
    """1,000 gradients of 1: a plain bfloat16 sum would stop at 256, as 257 cannot be written; the optimizer's is 1,000 on average."""
    sums = []
    for _ in range(2):
        weight = torch.nn.Parameter(torch.zeros(4096, dtype=torch.bfloat16))
        optimizer = laser.BF16AdamW([weight], lr=1e-3, weight_decay=0.0)
        for _ in range(1000):
            weight.sum().backward()
        assert weight.grad is None
        laser.clip_gradient(torch.nn.ParameterList([weight]), optimizer, math.inf)
        sums.append(weight.grad.float())
    assert torch.equal(*sums) and sums[0].mean().item() == pytest.approx(1000, rel=0.005) and sums[0].std() > 0


def test_choose_device__and_the_dtype_that_fits_its_memory(fast, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    for found, device in ((torch.device("cuda"), torch.device("cuda:1")), (None, CPU)):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
        assert laser.choose_device("auto") == device and laser.choose_device("xpu") == torch.device("xpu:1")
    size = laser.load_model(fast[1], CPU, "float32", 0)[0].num_parameters()
    for part, need, options, dtype in ((0.69, 18, {}, "float32"), (0.71, 18, {}, "bfloat16"), (0.71, 20, {"kl": 0.1}, "bfloat16"),
                                       (0.69, 18, {"ask": "x"}, "bfloat16")):
        monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (0, need * size / part))
        assert laser.choose_dtype(Config(model=fast[1], **options), torch.device("cuda")) == dtype
    assert laser.choose_dtype(Config(model=fast[1], ask="x"), CPU) == "float32"


# ------------------------------------------------------------------------------------------ several processes

def test_sample_in_stages__rows_go_by_need_and_full_memory_halves_them(monkeypatch, capsys):
    model, memory, real, reserved, steps, full, rng, draw_one = tiny_model(), 400, laser.sample, [], [], [], random.Random(0), laser.draw
    lengths = [min(60, 1 + int(rng.lognormvariate(2.2, 0.8))) for _ in range(48)]
    prompts, u = [[5 + i % 15, 6] for i in range(48)], torch.full((48, 60), 0.5)
    for i, length in enumerate(lengths):
        u[i, length - 1 :] = 1.0  # where EOS is to be drawn
    monkeypatch.setattr(laser, "draw", lambda logp, u, temperature: (torch.where(u > 0.9, EOS, 7), draw_one(logp, u, temperature)[1]))
    monkeypatch.setattr(laser, "rows_that_fit", lambda model, slots: max(1, memory // slots))
    options = prompts, 1, u, 0, [EOS], ZC, 1.0
    whole = laser.sample_in_chunks(model, *options, reserved.append)
    assert whole.lengths.tolist() == lengths and max(reserved) == memory // 62
    monkeypatch.setattr(laser, "FIRST_STAGE", 8)
    staged = laser.sample_in_stages(model, *options, steps.append)
    assert max(steps) == memory // 10 and len(steps) < 0.6 * len(reserved)
    def small(model, prompts, group_size, u, *rest):
        if len(u) * (max(map(len, prompts)) + u.size(1)) > memory:
            full.append(len(u))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, prompts, group_size, u, *rest)
    monkeypatch.setattr(laser, "sample", small)
    monkeypatch.setattr(laser, "rows_that_fit", lambda model, slots: 2 * memory // slots)  # more than there is
    halved = laser.sample_in_stages(model, *options)
    assert capsys.readouterr().err.startswith(f"memory ran out while sampling; on with {full[0] // 2} rows at a time\n")
    assert all(other.responses() == whole.responses() and torch.allclose(other.logp_zc, whole.logp_zc, atol=1e-4) for other in (staged, halved))
    memory = 80  # less than a group of 4 takes: it is cut, too; where one row does not fit, the error shows
    assert laser.sample_in_chunks(model, prompts[::4], 4, u[:, :30], 64, [EOS], ZC).lengths.tolist() == [min(n, 30) for n in lengths]
    memory = 25
    with pytest.raises(torch.OutOfMemoryError):
        laser.sample_in_chunks(model, prompts, 1, u[:, :30], 64, [EOS], ZC)


def test_rank_share__is_even_and_complete(monkeypatch):
    for world, sizes in itertools.product((2, 3, 4, 7), ([1] * 9, [1] * 8, [5, 3, 1], [16], [2] * 11, [1] * 7)):
        monkeypatch.setattr(laser, "WORLD", world)
        batches = [part.tolist() for part in torch.arange(sum(sizes)).split(sizes)]
        shares = [monkeypatch.setattr(laser, "RANK", rank) or laser.rank_share(batches[:]) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(sum(sizes)))


def second_fails_in_third_step():
    real = laser.training_step
    def training_step(policy, optimizer, rows, step, *rest):
        return laser.fail("The second process cannot go on.") if laser.RANK == 1 and step == 2 else real(policy, optimizer, rows, step, *rest)
    laser.training_step = training_step


def test_processes__two_take_the_steps_of_one_and_one_goes_on_where_they_stopped(fast, tmp_path):
    """5 problems on 2 processes, micro-batches that do not come out even. One fails in the third step: both end, two are kept."""
    odd = [*fast, *"--steps 3 --prompts_per_step 5 --micro_batch_tokens 300 --reasoning_warmup 0 --warm_start_steps 10 --reward operator:lt".split()]
    assert launch(2, second_fails_in_third_step, tmp_path / "stderr", *odd, "--out", tmp_path / "two")
    assert "laser.py: The second process cannot go on." in (tmp_path / "stderr").read_text()
    assert json.loads((tmp_path / "two" / "checkpoint" / "laser.json").read_text())["step"] == 2
    assert here(*odd, "--out", tmp_path / "one") == 0 == here(*odd, "--resume", "--out", tmp_path / "two")
    one, two = (lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert any(row["grad_norm"] > 0.1 and row["reward_std"] > 0 for row in one)
    for row, other in zip(two, one, strict=True):
        assert all(row[key] == other[key] for key in ("step", "reward", "response_tokens"))
        for key, most in (("policy_loss", 1e-4), ("self_reward_loss", 1e-4), ("log_z", 1e-4), ("grad_norm", 1e-3 * other["grad_norm"])):
            assert row[key] == other[key] or row[key] == pytest.approx(other[key], abs=most)  # another order of summation rounds otherwise
    of_one, of_two = (AutoModelForCausalLM.from_pretrained(tmp_path / name / "checkpoint").state_dict() for name in ("one", "two"))
    assert of_one.keys() == of_two.keys() and all(torch.allclose(of_two[name], x, atol=1e-5) for name, x in of_one.items())


def test_shard__one_accelerator_goes_on_where_a_cpu_stopped(finished, tmp_path, monkeypatch, request, tapes):
    """FSDP with one process on a CPU that passes for a GPU: it takes the step of float32, though it computes in bfloat16 and recomputes."""
    precision, runs = laser.MixedPrecisionPolicy, []
    monkeypatch.setattr(laser, "MixedPrecisionPolicy", lambda **options: precision(**{**options, "param_dtype": torch.bfloat16}))
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda device: None)
    config = laser.parse(["--resume", "--sample_rows", "99", "--out", shutil.copytree(finished[0], str(tmp_path / "o"))])
    request.addfinalizer(torch.distributed.destroy_process_group)
    for devices in (laser.SHARED_MEMORY, ()):
        monkeypatch.setattr(laser, "SHARED_MEMORY", devices)
        runs.append(laser.prepare(config))
        runs[-1].place.lock.release()
    plain, sharded = (run.policy for run in runs)
    for p, q in zip(plain.model.parameters(), sharded.model.parameters(), strict=True):
        moments, shards = runs[0].optimizer.state[p], runs[1].optimizer.state[q]
        assert shards["step"] == 4 and torch.equal(moments["exp_avg_sq"], shards["exp_avg_sq"].full_tensor())
    getattr(sharded.model, "activation_checkpointing_enable", sharded.model.gradient_checkpointing_enable)({"use_reentrant": False})
    prompts, u = [row["prompt"] for row in runs[0].problems[:4]], laser.uniforms(16, 24, "test", 0)
    solutions = laser.sample_together(plain, prompts, 4, u, config)
    tapes.clear()
    drawn, _ = (laser.sample_together(policy, prompts, 4, u, config) for policy in (sharded, plain._replace(model=copy.deepcopy(plain.model).bfloat16())))
    operations = [len(tape.done) for tape in tapes]  # of replays, those of the sharded and of a plain model
    assert laser.GRAPH_SLOTS and len(tapes) > 3 and max(operations) - min(operations) < 5  # to gather weights would take 20 more
    known = drawn.tokens[:, 0] == solutions.tokens[:, 0]  # until rounding leads to another token
    assert known.sum() > 12 and torch.allclose(drawn.logps[known, 0], solutions.logps[known, 0], atol=0.05)
    rewards = torch.tensor([1.0, 0, 0, 1] * 4)
    batch = batch_of(solutions, rewards, laser.group_advantages(rewards, 4))._replace(prompts=repeated(prompts, 4))
    result, other = (laser.update(run.policy, run.optimizer, batch, 0.1, config) for run in runs)
    assert 1e-4 < other["logp_mismatch"] < 0.05  # it did compute in bfloat16
    assert all(result[key] == pytest.approx(other[key], rel=0.03) for key in ("self_reward_loss", "grad_norm"))
    assert {p.dtype for p in sharded.model.parameters()} == {x.dtype for x in shards.values()} == {torch.float32}


# ------------------------------------------------------------------------------ errors, files, a run's folder

def test_main__a_run_as_a_subprocess(fast, finished):
    out, process = finished
    assert process.returncode == 0, process.stderr[-2000:]
    assert all(words in process.stdout for words in ("parameters on 1 ? cpu", "weighted@2", "log Z")) and process.stderr.count("\r") < 60
    metrics, evaluations, samples = (lines(out / f"{name}.jsonl") for name in ("metrics", "eval", "samples"))
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    sets = laser.parse(fast).eval_data
    assert [(row["step"], row["data"]) for row in evaluations] == [(step, name) for step in (0, 3, 4) for name in sets]
    again = laser.summarise([s for s in samples if s["data"] == sets[0] and s["step"] == 4], 2, 0.3)  # the table from the samples alone
    assert evaluations[-2] == {**again, "step": 4, "data": sets[0], "problems": 6, "n": 2}
    stored, config = (json.loads((out / name).read_text()) for name in ("checkpoint/laser.json", "config.json"))
    assert stored["step"] == 4 and set(stored["laser"]) == set(laser.LASTING) and stored["laser"]["c_ref"] < 0
    assert config["laser"] == {**dataclasses.asdict(laser.parse(fast)), "eval_every": 3, "out": str(out), "param_dtype": "float32", "token": "99",
                               "c_ref": stored["laser"]["c_ref"]}  # what was settled on the way, and nothing else has changed
    assert [row["step"] for row in lines(out / "rollouts.jsonl")] == [4] * 16
    tokenizer, text = AutoTokenizer.from_pretrained(out / "checkpoint"), "".join(map(chr, range(32, 127))) + "\n"  # read by the library alone
    assert tokenizer.decode(ids := tokenizer(text)["input_ids"]) == text and len(ids) == len(set(ids)) == len(text) == len(tokenizer) - 3


def killed_in_second_save():
    real = Path.rename
    def rename(self, target):
        if self.name == "checkpoint.new" and '"step": 2' in (self / "laser.json").read_text():
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)
    Path.rename = rename


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_train__however_it_ends_the_resumed_run_is_the_undisturbed_one(fast, finished, tmp_path, monkeypatch):
    """Stopped at step 0, killed between the renames of a save, signalled in a step, interrupted in an evaluation: bit for bit."""
    out, whole, real, solve, calls, best = tmp_path / "o", finished[0], laser.training_step, laser.solve, [], "checkpoint-000000"
    command = [*fast, "--eval_every", "3", "--save_every", "1", "--device", "cpu", "--out", str(out)]
    assert here(*command, "--steps", 0) == 0 and json.loads((out / "checkpoint" / "laser.json").read_text())["step"] == 0
    command += ["--resume", "--steps", "4"]
    assert launch(1, killed_in_second_save, tmp_path / "stderr", *command) == -signal.SIGKILL
    assert {path.name for path in out.glob("checkpoint*")} == {"checkpoint.new", "checkpoint-000001", best}
    def interrupted(*rest):
        calls.append(rest)
        if len(calls) == 2:  # in the second set of the evaluation after step 3
            raise KeyboardInterrupt
        return solve(*rest)
    with monkeypatch.context() as patch:  # in step 1: the old checkpoint was in its place again
        patch.setattr(laser, "training_step", lambda *given: (signal.raise_signal(signal.SIGTERM), real(*given))[1])
        assert here(*command) == 143 and len(lines(out / "metrics.jsonl")) == 2
    monkeypatch.setattr(laser, "solve", interrupted)
    assert here(*command) == 130 and [row["step"] for row in lines(out / "eval.jsonl")] == [0, 0]
    for name in ("metrics", "eval"):
        with (out / f"{name}.jsonl").open("a") as file:
            file.write('{"step": 4}\n')  # of a step that the checkpoint has not made: it is made again
    assert here(*command) == 0 == here(*command) and len(calls) == 6  # a whole run has nothing left to do
    for name in ("metrics", "eval", "samples"):
        for row, other in zip(lines(out / f"{name}.jsonl"), lines(whole / f"{name}.jsonl"), strict=True):
            assert all(row[key] == x for key, x in other.items() if not re.search("seconds|per_s|memory", key)), name
    assert (out / "checkpoint" / "model.safetensors").read_bytes() == (whole / "checkpoint" / "model.safetensors").read_bytes()
    assert {path.name for path in out.glob("*[!k]")} - {best} == {path.name for path in whole.glob("*[!k]")}  # but the lock


@on_a_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_train__on_a_gpu_goes_on_where_it_stopped_and_where_memory_ran_out(dtype, fast, tmp_path, monkeypatch, capsys):
    words = [*fast, "--device", "cuda", "--param_dtype", dtype, "--micro_batch_tokens", 300, "--out"]
    real, passes = laser.policy_loss, itertools.count()
    monkeypatch.setattr(laser, "policy_loss", lambda *given: real(*given) if next(passes) != 1 else torch.empty(2**50, device="cuda"))
    assert here(*words, tmp_path / "a") == 0 == here(*words, tmp_path / "b", "--steps", 2) == here("--resume", "--steps", 4, "--out", tmp_path / "b")
    whole, parts = (lines(tmp_path / name / "metrics.jsonl") for name in "ab")
    assert [row["reward"] for row in whole] == pytest.approx([row["reward"] for row in parts], abs=0.2)
    assert "on with 150 tokens" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_main__a_lost_terminal_ends_nothing_and_handlers_are_as_they_were(fast, tmp_path, monkeypatch):
    """SIGHUP stops and saves, but under nohup. A pipe that no one reads: the run goes on; in a thread, which may set no handlers."""
    real, found = laser.training_step, [signal.getsignal(which) for which in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(laser, "training_step", lambda *a: (signal.raise_signal(signal.SIGHUP), real(*a))[1])
    for name, code, steps, handler in (("hangup", 129, 1, signal.SIG_DFL), ("nohup", 0, 2, signal.SIG_IGN)):
        signal.signal(signal.SIGHUP, handler)
        assert here(*fast, *COLD, "--steps", 2, "--out", tmp_path / name) == code and len(lines(tmp_path / name / "metrics.jsonl")) == steps
        assert [signal.getsignal(which) for which in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)] == [handler, *found[1:]]
    signal.signal(signal.SIGHUP, found[0])
    monkeypatch.setattr(laser, "training_step", real)
    reader, writer = os.pipe()
    os.close(reader)
    pipe, thread = open(writer, "w"), futures.ThreadPoolExecutor(1)
    with contextlib.redirect_stdout(pipe), contextlib.redirect_stderr(pipe):
        assert thread.submit(here, *fast, *COLD, "--steps", 1, "--out", tmp_path / "pipe").result() == 0
    pipe.flush()  # as Python does when it ends: what it cannot write must not change the exit code
    with pytest.raises(BrokenPipeError):
        pipe.close()


@linux_only
def test_train__what_goes_wrong_later_keeps_its_traceback_and_what_is_done(fast, tmp_path, monkeypatch, capsys):
    """In the third step: a bug, full memory, a full disk, weights that are no longer finite, which do not replace a checkpoint."""
    import resource
    real, command, most = laser.training_step, [*fast, *COLD, "--save_every", 9, "--out", tmp_path / "b"], resource.getrlimit(resource.RLIMIT_FSIZE)
    def breaking(policy, optimizer, rows, step, *rest):
        if step == 2 and isinstance(kind, type):
            raise kind
        result = real(policy, optimizer, rows, step, *rest)
        if step == 2 and kind == "disk":  # the kernel refuses larger files, so the weights find no room
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, most[1]))
        elif step == 2 and kind == "weights":
            policy.model.lm_head.weight.data[5, 5] = torch.inf
        return result
    monkeypatch.setattr(laser, "training_step", breaking)
    for kind, words in ((ZeroDivisionError, ""), (torch.OutOfMemoryError, "memory is full; lower --micro_batch_tokens"), ("disk", "Cannot save"),
                        ("weights", "no longer finite after step 3, so not saved; --resume with a lower --lr")):
        with contextlib.nullcontext() if words else pytest.raises(ZeroDivisionError):
            assert here(*command) == 2 and words in capsys.readouterr().err.splitlines()[-1]
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        command += [] if words else ["--resume"]
        assert json.loads((tmp_path / "b" / "checkpoint" / "laser.json").read_text())["step"] == 2
    kind = "nothing"
    assert here(*command) == 0 and len(lines(tmp_path / "b" / "metrics.jsonl")) == 4 and not (tmp_path / "b" / "checkpoint.new").exists()


def test_prepare__a_run_goes_on_with_what_it_began_with(finished, fast, tmp_path, capsys):
    """With another reference, other problems, other draws it is refused; with another --lr or --kl it goes on, as a line of the log says."""
    parent, out, data = tmp_path / "parent", tmp_path / "child", tmp_path / "train.jsonl"
    shutil.copytree(finished[0] / "checkpoint", parent)
    shutil.copy(laser.parse(fast).data, data)
    (parent / "generation_config.json").write_text('{"eos_token_id": 1, "temperature": 0.9}')  # without do_sample it cannot be saved
    assert here("--model", parent, "--data", data, "--prompts_per_step", 2, "--lr", 3e-3, "--eval_every", 0, "--kl", 0.1, "--steps", 1, "--out", out) == 0
    assert "--steps end before the self-reward begins" in capsys.readouterr().err
    before = AutoModelForCausalLM.from_pretrained(out / "checkpoint").state_dict()
    resume = ["--resume", "--out", out, "--steps", 2]
    for flags in ("--seed 1", "--group_size 2", "--param_dtype bfloat16", "--model x", "--token 5", "--reward math:sqrt", "--max_response_tokens 9"):
        assert here(*resume, *flags.split()) == 2 and f"{flags.split()[0]} is not what this run began with" in capsys.readouterr().err, flags
    whole = data.read_text()
    data.write_text(whole.replace("=", " =", 1))
    assert here(*resume) == 2 and "--data is not what" in capsys.readouterr().err
    data.write_text(whole)
    os.utime(parent / "config.json", (1, 1))  # as written anew
    assert here(*resume) == 2 and "--model is not what" in capsys.readouterr().err
    assert here(*resume, "--kl", 0, "--lr", 1e-12, "--weight_decay", 0) == 0  # now nothing of it is read
    assert "--lr 1e-12 in place of 0.003" in capsys.readouterr().out
    assert all(torch.allclose(x, before[k], atol=1e-9) for k, x in AutoModelForCausalLM.from_pretrained(out / "checkpoint").state_dict().items())
    rows = lines(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 1, 2] and rows[1]["changed"] == {"steps": 2, "kl": 0, "lr": 1e-12, "weight_decay": 0}
    assert here(*resume, "--kl", 0.1) == 2 and "--model is not what" in capsys.readouterr().err  # the reference would be


def test_save__keeps_the_last_ones_and_the_best(fast, tmp_path, monkeypatch):
    votes, out = iter([0.2, 0, 0.7, 0, 0.4, 1, 0.5, 0, 0.1, 1]), tmp_path / "k"  # of two data sets each time: the first decides
    monkeypatch.setattr(laser, "summarise", lambda *_: {"weighted@2": next(votes)})
    monkeypatch.setattr(laser, "solve", lambda *_: [])
    assert here(*fast, *COLD, "--eval_every", 1, "--save_every", 0, "--keep", 2, "--end_token", "<eos>", "~", "--out", out) == 0
    assert {path.name for path in out.glob("checkpoint*")} == {"checkpoint", "checkpoint-000003", "checkpoint-000001"}
    elsewhere = AutoModelForCausalLM.from_pretrained(out / "checkpoint").generation_config
    assert elsewhere.eos_token_id == [1, laser.character_tokenizer()("~")["input_ids"][0]]
    assert (elsewhere.do_sample, elsewhere.temperature, elsewhere.top_p, elsewhere.top_k) == (True, 1, 1, 0)
    shutil.rmtree(out / "checkpoint")  # has collapsed: the newest that is left goes on
    assert here("--resume", "--out", out, "--eval_every", 0, "--steps", 4, "--lr", 1e-5) == 0
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == [1, 2, 3, 3, 4]


def test_open_folder__a_run_keeps_its_folder_to_itself(finished, tmp_path):
    for _ in range(2):
        lock = laser.open_folder(tmp_path / "a" / "b", False)  # a lock alone is no run
        refused("Another run is writing to", laser.open_folder, tmp_path / "a" / "b", False)
        lock.release()
    refused("is not empty; continue its run with --resume or name another folder", laser.open_folder, finished[0], False)


@linux_only
def test_train__a_long_run_grows_neither_in_memory_nor_in_open_files(fast, tmp_path, monkeypatch):
    sizes, real = [], laser.log
    def measured(*arguments):
        sizes.append((int(Path("/proc/self/statm").read_text().split()[1]), len(os.listdir("/proc/self/fd"))))
        real(*arguments)
    monkeypatch.setattr(laser, "log", measured)
    assert here(*fast, *COLD, "--steps", 50, "--save_every", 15, "--out", tmp_path / "soak") == 0
    pages, files = zip(*sizes)
    assert len(sizes) == 50 and max(files[30:]) <= files[20] and statistics.mean(pages[30:]) < pages[20] + 3 * 2**20 / os.sysconf("SC_PAGESIZE")


def test_train__every_variant_runs(fast, tmp_path):
    flags = "--exact_reference --kl 0.1 --self_loss ce --no-balanced --param_dtype bfloat16 --warm_start_steps 2 --steps 2 --save_every 0"
    assert here(*fast, *flags.split(), "--out", tmp_path / "v") == 0
    rows, model = lines(tmp_path / "v" / "metrics.jsonl"), AutoModelForCausalLM.from_pretrained(tmp_path / "v" / "checkpoint", dtype="auto")
    assert all(math.isfinite(row["grad_norm"]) for row in rows) and model.dtype == torch.bfloat16
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5) and rows[1]["kl"] > 1e-5  # it starts as the reference, then leaves it


def test_train__plain_grpo_with_a_reward_of_the_user_is_followed_by_a_tracker(fast, tmp_path, monkeypatch):
    (tmp_path / "trackio.py").write_text("calls = []\ndef init(**options): calls.append(options)\ndef log(row, step): calls.append((step, row))\n"
                                         "def finish(): calls.append('finish')\n")
    (tmp_path / "judge.py").write_text("def short(response, gold): return 1 / (1 + len(response))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = [*fast, *COLD, "--group_size", 8, "--max_response_tokens", 24, "--alpha", 0, "--steps", 2, "--eval_every", 2]
    assert here(*command, "--eval_data", laser.parse(fast).eval_data[0], "--track", "trackio", "--reward", "judge:short", "--out", "t") == 0
    start, *rows, end = sys.modules.pop("trackio").calls
    assert end == "finish" and start["name"] == "t" and start["config"]["steps"] == 2 and start["config"]["c_ref"] == -8
    logged = [*lines(tmp_path / "t" / "eval.jsonl"), *lines(tmp_path / "t" / "metrics.jsonl")]
    expected = [(row["step"], {f"{row.get('data', 'metrics')}/{k}": x for k, x in row.items() if isinstance(x, (int, float))}) for row in logged]
    assert sorted(rows, key=repr) == sorted(expected, key=repr) and len(rows) == 4 and 0 < logged[-1]["reward"] < 1


# -------------------------------------------------------------------------------------------------- test time


def test_ask__takes_the_largest_sum_of_clipped_self_rewards_and_is_the_same_from_standard_input_and_with_two_flags(finished, tmp_path, capsys, monkeypatch):
    """A checkpoint of others has no laser.json; one of an earlier version has a date and a number for the token."""
    model, problem, printed = finished[0] / "checkpoint", "8 1 6 3 4 2:6=", []
    released, older = (shutil.copytree(model, tmp_path / name) for name in ("released", "older"))
    stored = json.loads((released / "laser.json").read_text())
    (released / "laser.json").unlink()
    (older / "laser.json").write_text(json.dumps({**stored, "laser": {**stored["laser"], "date": "2026-11-27", "token": 99}}))
    monkeypatch.setattr("sys.stdin", io.StringIO(problem + "\n"))
    as_trained = ["--prompt_suffix", "", "--max_response_tokens", 24, "--beta", 0.3, "--token", 99, "--c_ref", stored["laser"]["c_ref"]]
    for folder, question, *flags in ((model, problem), (older, "-", "--token", 99), (released, problem, *as_trained)):
        assert here("--model", folder, "--n", 16, "--ask", question, *flags) == 0
        printed.append([line for line in capsys.readouterr().out.splitlines() if "tokens (" not in line])
    assert printed[0] == printed[1] == printed[2] and printed[0][-1].startswith("weighted vote: ")
    for folder, *flags in ((released,), (released, "--token", 99), (model, "--token", 5)):
        assert here("--model", folder, "--ask", problem, *flags) == 2 and "give --token and --c_ref" in capsys.readouterr().err
    grades = [("1,4", 0.1), ("1,4", -3.0), ("1,4", 0.2), ("2,4", 0.9), ("4,2", 0.4), ("3,3", 1.2), (None, 5.0)]
    winner = ["2,4: 2 of 7 votes, self-reward 1.30 in all, 0.90 for", "    y0.9", "3,3: 1 of 7 votes, self-reward 1.00 in all, 1.00 for", "    y1.2",
              "1,4: 3 of 7 votes, self-reward 0.30 in all, 0.20 for", "    y0.2", "weighted vote: 2,4, confidence 0.65"]
    for pairs, said in ((grades, winner), ([(None, None)] * 3, ["no answer in 3 solutions, 0 cut at --max_response_tokens; raise it, or --n"])):
        monkeypatch.setattr(laser, "solve", lambda *_: [{"answer": a, "self_reward": r, "response": f"y{r}", "complete": True} for a, r in pairs])
        assert here("--model", model, "--ask", problem) == 0
        assert capsys.readouterr().out.splitlines()[-len(said) :] == said


def test_score_file__of_given_responses_is_what_was_read_when_they_were_drawn(finished, tmp_path, capsys):
    """Where a response lacks its end, it gets the one that the policy would write: of two, the model finds `=` likelier after a sum."""
    samples, scored = [row for row in lines(finished[0] / "samples.jsonl") if row["step"] == 4], itertools.count()
    def score(rows, *flags):
        file, out = table(tmp_path / "r.jsonl", rows), tmp_path / "new" / f"{next(scored)}.jsonl"
        code = here("--model", finished[0] / "checkpoint", *flags, "--score", file, "--out", out)
        return lines(out) if code == 0 else (code, out.exists())
    samples[0]["complete"] = False  # as a cut one
    compared = 0
    for old, new in zip(samples, score(samples), strict=True):
        assert {**new, "self_reward": 0, "logp_zc": 0} == {**old, "self_reward": 0, "logp_zc": 0}
        if old["complete"] and len(old["response"]) + 1 == old["tokens"]:  # else a token beyond the vocabulary was said
            assert (new["self_reward"], new["logp_zc"]) == pytest.approx((old["self_reward"], old["logp_zc"]), abs=1e-3)
            compared += 1
        assert old["complete"] or new["self_reward"] is None is new["logp_zc"]
    row, (comma, equals) = {"problem": "1 2:3=", "response": "1+2=3"}, (laser.character_tokenizer()(x)["input_ids"][0] for x in ",=")
    assert compared > 12 and len({graded["self_reward"] for graded in score([{**row, "tokens": 6}, {**row, "tokens": 7}, row])}) == 1
    assert "3 self-rewards in" in (printed := capsys.readouterr().out) and "; 1 are of responses" in printed
    ends = [{"response": "4+5"}, {"response": "4+5="}, {"response": "4+5", "last_token": equals}, {"response": "4+5", "last_token": comma}]
    grades = [graded["logp_zc"] for graded in score([{"problem": "4 5 2 1:9=", **end} for end in ends], "--end_token", ",", "=")]
    assert grades[:3] == pytest.approx(grades[:1] * 3, abs=1e-5) and abs(grades[3] - grades[0]) > 1e-3
    for change, words in (({"complete": False}, "some that are complete"), ({"problem": ""}, "needs rows"), ({"response": "1" * 600}, "at 128"),
                          ({"response": None}, "needs rows with a `problem` and a `response`"), ({"response": 5}, "needs rows")):
        assert score([row | change]) == (2, False) and words in capsys.readouterr().err
    scored = itertools.count()
    assert score([row]) == (2, True) and "exists; name another file" in capsys.readouterr().err


def test_train__eval_only_is_the_evaluation_at_the_end_of_training(finished, fast, tmp_path, monkeypatch, capsys):
    out, command = tmp_path / "e", ["--model", finished[0] / "checkpoint", "--eval_only", "--eval_every", 0, "--n", 2]
    with monkeypatch.context() as patch:  # interrupted, it begins again
        patch.setattr(laser, "summarise", lambda *_: signal.default_int_handler(signal.SIGINT, None))
        assert here(*command, "--eval_data", *laser.parse(fast).eval_data, "--out", out) == 130
    assert here("--resume", "--out", out) == 0 and "weighted@2" in capsys.readouterr().out
    for name in ("eval", "samples"):
        ours, there = lines(out / f"{name}.jsonl"), [row for row in lines(finished[0] / f"{name}.jsonl") if row["step"] == 4]
        assert [{**row, "step": 4} for row in ours] == there and {row["step"] for row in ours} == {0}
    assert {path.name for path in out.iterdir()} - {".lock"} == {"config.json", "eval.jsonl", "samples.jsonl"}  # nothing is trained or saved


# ------------------------------------------------------------------------------------------- the command line

def test_parse__help_shows_the_flags_and_their_comments_as_the_file_does(capsys):
    with pytest.raises(SystemExit):
        laser.main(["--help"])
    printed = capsys.readouterr().out
    places = [printed.index(f"\n  --{field.name}") for field in dataclasses.fields(Config)]
    assert places == sorted(places) and "P, problems a step (default: 128)" in printed and "--no-balanced" in printed and "--n " in printed


def test_parse__defaults_then_the_file_then_the_flags(fast, finished, tmp_path, monkeypatch):
    words, expected = "--group-size 4 --no-balanced --n 3 --model Qwen2.5-7B", Config(group_size=4, balanced=False, eval_n=3, model="Qwen/Qwen2.5-7B")
    assert (laser.parse(words.split()), laser.parse(fast).steps, laser.parse([*fast, "--steps", "9"]).steps) == (expected, 4, 9)
    stored = json.loads((finished[0] / "config.json").read_text())
    stored["laser"] |= {"model": "elsewhere/model", "balanced": False, "end_token": ["7"]}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    config = laser.parse(["--resume", "--out", str(tmp_path), "--lr", "0.5", "--steps", "4"])  # flags win
    assert dataclasses.asdict(config) == {**stored["laser"], "lr": 0.5, "resume": True, "out": str(tmp_path)}
    monkeypatch.chdir(tmp_path)  # a json model beside the program is found from anywhere; a folder comes first
    (tmp_path / "Qwen-mine").mkdir()
    assert laser.parse(["--model", "Qwen-mine"]).model == "Qwen-mine"
    (tmp_path / "link.py").symlink_to(HERE / "laser.py")
    monkeypatch.setattr(laser, "__file__", str(tmp_path / "link.py"))
    config = laser.parse(["--model", "tiny_config.json"])
    (tmp_path / "config.json").write_text(json.dumps({"laser": dataclasses.asdict(config)}))
    assert laser.parse(["--out", ".", "--resume"]).model == config.model == str(HERE / "tiny_config.json")
    for options, folder in (({"model": "runs/a/checkpoint", "eval_only": True}, "runs/eval-checkpoint"),
                            ({"model": "x/small.json"}, "runs/small"), ({"out": "o"}, "o"), ({"model": "."}, f"runs/{Path.cwd().name}")):
        assert laser.folder_of(Config(**options)) == Path(folder)
    model = ["--model", str(finished[0] / "checkpoint")]  # a stored c_ref is kept for its token and model only
    own, resumed = laser.parse(model), ["--resume", "--out", str(finished[0])]
    assert own.c_ref < 0 and own.beta == 0.3 and own.steps == Config().steps
    for flags, c_ref in (([*model, "--token", own.token], own.c_ref), ([*model, "--token", "5"], None), ([*resumed, "--token", "5"], None),
                         ([*model, "--token", "5", "--c_ref", "-9"], -9), ([*model, "--exact_reference"], None),
                         ([*model, "--warm_start_steps", "5"], None), ([*model, "--warm_start_steps", "5", "--c_ref", "-1.5"], -1.5)):
        assert laser.parse(flags).c_ref == c_ref, flags
    laser.check(laser.parse([*model, "--exact_reference"]))
    for words, flags in (("--token is not the one in it", [*model, "--token", "5", "--ask", "x"]), ("name another --out", [*resumed, "--eval_only"])):
        refused(words, laser.check, laser.parse(flags))


def test_check__bad_settings_get_one_sentence(monkeypatch):
    for name, value in (("group_size", 1), ("beta", 0), ("beta", math.nan), ("beta", math.inf), ("steps", -1), ("tau", 2), ("alpha", math.nan),
                        ("c_ref", 3), ("c_ref", 0), ("clip_high", 1e300), ("temperature", 1e300), ("eval_n", 0)):
        refused(f"^--{name} must be a number from .* to [^ ]*[.]$", laser.check, Config(**{name: value}))
    laser.check(Config(temperature=0, steps=0))
    monkeypatch.setattr(laser, "WORLD", 9)
    refused("9 processes need more solutions; raise --prompts_per_step", laser.check, Config(prompts_per_step=2, group_size=4))


def test_main__what_a_run_cannot_be_prepared_from_gets_one_line_and_leaves_nothing(fast, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad = {"": "", "has no column problem or question": '{"a": 1}', "JSON parse error": "{not json", "utf-8": '{"problem": "é", "answer": 1}',
           "has nothing to learn from; give other data": '{"problem": " ", "answer": 1}',
           "ArrowInvalid": '{"problem": "x", "answer": %s1%s}' % ("[" * 900, "]" * 900), "KeyError: 'role'": '{"messages": [{"content": "x"}], "answer": "2"}',
           "ValueError: Column 'solution' doesn't exist": '{"problem": "x", "answer": "1"}'}
    commands = []
    for i, (words, content) in enumerate(bad.items()):
        Path(f"{i}.jsonl").write_bytes(content.encode("latin-1"))
        commands.append((words, ["--data", f"{i}.jsonl", "--warm_start_steps", int("solution" in words)]))
    Path("bad.json").write_text('{"model_type": "qwen2", "laser": {"learning_rate": 1}}')
    commands += [(words, command.split()) for words, command in (
        ("Unrecognized arguments: --learning_rate 1; see --help", "--learning_rate 1"), ("invalid float value: 'fast'", "--lr fast"),
        ("invalid choice: 'mae'", "--self_loss mae"), ("samples G equal solutions", "--temperature 0"), ("no folder with a laser.json", "--score y"),
        ("There is no run in nowhere to resume", "--resume --out nowhere"), ("no folder with a laser.json", "--ask x --token 5 --exact_reference"))]
    commands += [("nowhere.jsonl", ["--data", "nowhere.jsonl"]), ("nowhere.json", ["--model", "nowhere.json"]), ("tpu", ["--device", "tpu"]),
                 ("learning_rate", ["--model", "bad.json"]), ("nowhere", ["--reward", "nowhere:f"]), ("has no attribute ''", ["--reward", "verify"]),
                 ("FileExistsError", ["--out", "bad.json"]), ("No such file", ["--model", finished[0] / "checkpoint", "--score", "nowhere.jsonl"])]
    with_model = [("is no token", ["--token", "<zc>"]), ("no token 4000", ["--token", 4000]), ("prompts have 1 to 2 tokens", ["--max_prompt_tokens", 2]),
                  ("too few to imitate", ["--max_response_tokens", 5, "--warm_start_steps", 1]), ("at 128", ["--max_response_tokens", 125])]
    kept = sorted(tmp_path.rglob("*"))
    for words, command in commands + with_model:
        assert here(*fast, *COLD, "--out", "out", *command) == 2, command
        error = capsys.readouterr().err.split("\n")[-2]  # a line
        assert error.startswith("laser.py: ") and words in error and len(error) < 900, (command, error)
        made = [Path("out"), Path("out", ".lock")] if (words, command) in with_model else []  # a folder with no more can be used again
        assert sorted(tmp_path.rglob("*")) == sorted([*kept, *(tmp_path / path for path in made)])


def test_main__the_readme_says_where_part_i_has_its_sections():
    code, readme = ((HERE / name).read_text("utf-8") for name in ("laser.py", "README.md"))
    rulers = {number: line.strip("# -=") for number, line in enumerate(code.splitlines(), 1) if line.startswith(("# ---", "# ==="))}
    guide = re.findall(r"^\| ([^|]+) \| (\d+)–(\d+) \|", readme[readme.index("| part I | lines |") : readme.index("| parts II and III |")], re.M)
    part_ii = next(number for number, name in rulers.items() if name.startswith("Part II:"))
    assert len(guide) == 8 and int(guide[-1][2]) < part_ii <= 760
    for name, first, _ in guide[1:]:
        assert rulers[int(first)] == name.strip()


# ------------------------------------------------------------------------------------------------------- verify.py
LIMIT = 0.25  # seconds of computing for any one call


def no(wrong):
    """Fails with all that is wrong, each on a line of its own."""
    wrong = [f"{case!r:.300}" for case in wrong]
    assert not wrong, "\n".join(["", *wrong])


def timed(call):
    """What a call returns or raises, or that it took too long. Only the thread's own time counts, nothing is cached, and the quickest of three
    tries decides: what mpmath computes once, a collection of garbage or a busy machine takes is not the call's."""
    for _ in range(3):
        verify.cached_reading.cache_clear()
        start = time.thread_time()
        try:
            result = call()
        except Exception as error:
            return f"raises {error!r}"
        seconds = time.thread_time() - start
        if seconds >= LIMIT:  # how much slower than a free one is this core just now? Beside a busy neighbour also a thread's own time doubles
            start, total = time.thread_time(), 0
            for i in range(1_000_000):
                total += i
            seconds *= 0.04 / (time.thread_time() - start)
        if seconds < LIMIT:
            return result
    return f"took {seconds:.2f} s"


def golds(distinct=True) -> list[str]:
    if not DATA.exists():
        pytest.skip(f"the benchmark files are not in {DATA}")
    answers = [str(json.loads(line)["answer"]) for path in sorted(DATA.glob("*.jsonl")) if path.stem != "verify_cases" for line in path.open()]
    return sorted({*answers}) if distinct else answers


def is_typed(answer: str) -> bool:
    value = canonical(answer).value
    return not (isinstance(value, tuple) and value[0] in ("text", "unread"))


def verdicts() -> dict[str, list[list[list[str]]]]:
    """The table below: for each category its lines, for each line its classes."""
    blocks = [block.split("\n") for block in VERDICTS.strip().removeprefix("# ").split("\n# ")]
    return {category: [[part.split(" ~~ ") for part in line.split(" <> ")] for line in lines] for category, *lines in blocks}


def pytest_generate_tests(metafunc):
    """A test for each category and each family of the tables, which stand below the tests."""
    for argument in {"category", "family"} & {*metafunc.fixturenames}:
        metafunc.parametrize(argument, {"category": verdicts(), "family": HOSTILE}[argument])


def test_extract_answer_and_reward__last_complete_box_and_strictly_the_only_one_after_the_thoughts():
    """Rows: a response, what is read, whether it counts if only one box may stand there."""
    rows = [(r"so \boxed{5}.", "5", 1), (r"\boxed{1} then \boxed{2}", "2", 0), (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", 1), (r"\boxed {5}", "5", 1),
        (r"\boxed{5} and \boxed{6", "5", 0), (r"\boxed{\boxed{5}}", r"\boxed{5}", 0), (r"\boxed{\{1,2\}}", r"\{1,2\}", 1), (r"\boxed{5", None, 0),
        (r"\boxed{a \boxed{5}", "5", 0), (r"} \boxed{5} }", "5", 1), (r"{ { \boxed{5}", "5", 1), (r"\boxed{}", "", 0), ("", None, 0), ("5", None, 0),
        (r"\boxed{[1,2\}}", r"[1,2\}", 1), (r"\boxed 5", None, 0), (r"\boxed{x\\}", r"x\\", 1), ("\\boxed{\n5\n}", "\n5\n", 1), (r"\boxed", None, 0),
        (r"\boxed{5}<|im_end|><|endoftext|>", "5", 1), (r"<|x|>\boxed{5}</s>", "5", 1), (r"<think>\boxed{4}", "4", 1), (r"[THINK]\boxed{4}", "4", 1),
        (r"\boxed{5}</thin>", "5", 1)]  # fmt: skip
    for end in ("</think>", "[/THINK]", "</seed:think>", "◁/think▷"):
        rows += [(before + end + after, read, strict) for before, after, read, strict in (
            (r"<think>\boxed{4}", r"\boxed{5}", "5", 1), (r"\boxed{4}", "It is 5", None, 0), (r"\boxed{4}", "", None, 0),
            (r"\boxed{4", r"\boxed{5}", "5", 1), (rf"\boxed{{3}}{end}\boxed{{4}}", r"\boxed{5}", "5", 1), (end * 8, r"\boxed{5}<|im_end|>", "5", 1),
            (r"</think>\boxed{3}", r"\boxed{5}", "5", 1), (r"\boxed{3}</think>\boxed{4}", "none", None, 0),
            ("a", r"\boxed{5} and \boxed{6", "5", 0), ("", r"\boxed{5}<think>\boxed{6}", "6", 0), (r"<think>\boxed{", r"2} \boxed{2}", "2", 1))]  # fmt: skip
    no((response, read) for response, answer, _ in rows if (read := extract_answer(response)) != answer)
    no(row for row in rows if (reward(row[0], row[1] or ""), reward(row[0], row[1] or "", strict=True)) != (bool(row[1]), row[2]))
    no(gold for gold, right in ((r"\frac12", 1), ("0.6", 0), ("", 0)) if reward(r"It is \boxed{0.5}.<|im_end|>", gold) != right)


def test_extract_answer__hostile_response():
    rows = [(r"\boxed" * 100_000, None), (r"\boxed{" * 100_000, None), (r"\boxed{5}" * 1_000_000, "5"), ("{" * 10_000_000 + r"\boxed{5}", "5"),
        (r"\boxed{5}" + "}" * 100_000, "5"), ("\\" * 10_000_000 + r"boxed{5", None), ((r"\boxed" + " " * 50) * 100_000, None),
        ("x" * 10_000_000, None), ("</think>" * 200_000, None), ("[/THINK]" * 200_000, None)]  # fmt: skip
    no((said, response) for response, answer in rows if (said := (timed(lambda: extract_answer(response)), timed(lambda: reward(
        response, "5", strict=response.count("\\boxed") == 1)))) != (answer, float(answer == "5")))  # fmt: skip


def test_canonical__is_none_for_an_empty_answer_and_text_if_unreadable():
    """What is empty equals nothing, what cannot be read only itself."""
    for nothing in ("", " ", "\n", "$$", r"\,", "{}", r"\boxed{}", r"\text{ }", r"\left.\right.", "$ $", "."):
        assert canonical(nothing) is None, nothing
        no((nothing, other) for other in (nothing, "", "0", "5", r"\emptyset") if equivalent(nothing, other) or equivalent(other, nothing))
    texts = ["?", r"\foo", "5..", ")(", r"\frac{1}{0}", "1=2=3", r"\begin{pmatrix}1", "\x00", "\ud800", "٣", "a" * 5000]
    no(text for text in texts if not equivalent(text, text) or equivalent(text, text + "1") or equivalent("3", text))


def test_canonical__golds_are_values_which_can_be_earned_and_differ():
    """On plain values equivalence is equality of readings: checked on all pairs of the golds. No gold accepts its neighbour."""
    answers = golds(distinct=False)
    text = [gold for gold in answers if not is_typed(gold)]
    assert len(answers) == 1275 and len(text) <= 11 and all(map(checkable, answers))
    no(gold for gold in text if not (r"\text" in gold or "angle" in gold or r"\mho" in gold or gold == "t(0,4]"))
    plain = [(gold, reading.value) for gold in golds() if (reading := canonical(gold)).equation is None]
    no((a, b) for (a, first), (b, second) in itertools.combinations_with_replacement(plain[::2], 2) if equivalent(a, b) is not (first == second))
    no(pair for pair in zip(answers, answers[1:]) if len({*pair}) == 2 and {*pair} != {"5", "x=5"} and equivalent(*pair))


def test_canonical__bounds():
    """What is still calculated, and what is not: too large, too small, too deep, too long, too costly, or no value at all."""
    inside = ["2^{30000}", "2^{-30000}", "3000!", r"\tan 89^\circ", r"e^{40000}", ",".join(f"2^{{{i}}}" for i in range(8000, 8050)),
        "(" * 19 + "5" + ")" * 19, r"\pm1\pm2\pm3\pm4", "2999!!", "(-1)!!", r"\operatorname{erf}(8)", r"\tanh 60", r"\cos 10^{-30}", r"e^{10^{-80}}",
        r"\operatorname{Li}_2(1)", "W(1)", r"\gcd(12,18)"]  # fmt: skip
    outside = ["2^{40000}", "3001!", r"\tan 90^\circ", r"\frac{1}{\sqrt2\sqrt3-\sqrt6}", r"\ln 0", "0^0", "e^{50000}", "(-1)!", "3001!!", "(-3)!!",
        ",".join(f"2^{{{i}}}" for i in range(8000, 8180)), r"\lfloor i \rfloor", "(" * 21 + "5" + ")" * 21, r"\pm1\pm2\pm3\pm4\pm5",
        r"\tanh 70", r"\cos 10^{-100}", r"e^{10^{-100}}", r"\sin(1+10^{-200})", r"\operatorname{artanh} 1",
        r"\Gamma(-2)", r"\zeta(1)", "f()", r"\operatorname{erf}(9)", "W(-1)", "J_1(17)", r"\gcd(2,\frac12)", r"\max(i,1)"]  # fmt: skip
    no((answer, typed) for answers, typed in ((inside, True), (outside, False)) for answer in answers if is_typed(answer) is not typed)


def test_canonical__takes_its_time_within_bounds():
    """Functions near poles and zeros, of huge, tiny, negative and complex numbers; random tokens; and, as no pattern is worse than linear, long runs
    of every character that a pattern names, and of what it names together, alone and between others."""
    functions = [r"\Gamma(%s)", r"\zeta(%s)", r"\psi(%s)", "W(%s)", "J_9(%s)", "(%s)!!", r"\mathrm{Li}_2(%s)", r"\sinh^{-1}(%s)", r"\|%s\|",
                 "f(%s)", *(rf"\operatorname{{{name}}}(%s)" for name in "erf erfc Ei Si Ci li tanh coth sech arccosh arctanh arcsec".split())]
    arguments = ["0", "-1", "0.99", "1+10^{-300}", "-5+10^{-20}", "10^{-18}", "2^{-30000}", "7.99", "-16", "63.9", "-999.5", "2999.5", "10^{100}",
                 r"\pi", "1000i", "-1/e", "-0.36", r"\pi 10^{-60}", r"\pi 10^{15}", "x+iy", "x/10^{20}", r"1+2^{-250}\pi"]  # fmt: skip
    answers = [function % argument for function in functions for argument in arguments]
    vocabulary, rng = VOCABULARY.split(), random.Random(0)
    sizes = [rng.randrange(1, rng.choice((3, 6, 10, 20, 60, 300))) for _ in range(1000)]
    answers += [rng.choice(("", " ")).join(rng.choices(vocabulary, k=size)) for size in sizes]
    patterns = [value.pattern for value in vars(verify).values() if hasattr(value, "pattern")] + [pattern for _, pattern, _ in verify.SPELLINGS]
    units = {c for pattern in patterns for c in pattern if c.isprintable() and not c.isalnum()}
    units |= {*"axnAN09é", "\\,", "\\ ", "{}", "{,}", ". ", "x_", "a ", "x\n", "( 12)", "\\text{", "$ ", "d ", "A x ", "0,", "+ ", "\\|", "(\\mod "}
    for i, unit in enumerate(sorted(units)):
        dresses = [("", ""), (("5", "5"), ("$", "$"), ("x=", ""), ("", "_"), ("{", "}"))[i % 5]]
        answers += [before + (unit * 2000)[: 1990 - len(before)] + after for before, after in dresses]
    read = lambda text: (extract_answer(rf"\boxed{{{text}}}"), checkable(text), canonical(text) is None or equivalent(text, text))  # noqa: E731
    no((text, said) for text in answers if (said := timed(lambda: read(text)[2])) is not True)


def test_canonical__memory_stays_flat():
    """Neither costly answers nor a cache full of long ones take much: it holds so many readings, each of a bounded size."""
    verify.cached_reading.cache_clear()
    tracemalloc.start()
    for hostile in itertools.chain(*HOSTILE.values()):
        if hostile.startswith(("x+1,", "(x+0)", "(1/3)", "٣", "777", "(0,1)", r"\pm1")):
            equivalent("1", hostile)
    kept, peak = tracemalloc.get_traced_memory()
    for i in range(20):
        equivalent("1", rf"2^{{30000}}+{i}")
    each = (tracemalloc.get_traced_memory()[0] - kept) / 20
    tracemalloc.stop()
    assert 0 < (most := verify.cached_reading.cache_info().maxsize) <= 1024 and kept + most * each < 20 << 20 and peak < 60 << 20


def test_canonical__in_threads(monkeypatch):
    """A reading holds the lock. Four threads at once, none the main one, switching in the midst of everything, read what one alone reads."""
    read, original, locked = verify.cached_reading.__wrapped__, verify.Calculator, []
    with monkeypatch.context() as patch:
        patch.setattr(verify, "Calculator", lambda tokens: locked.append(verify.LOCK.locked()) or original(tokens))
        assert read("5") is not None and locked == [True]
    answers = [rf"\sqrt{{{i}}}+e^{{\pi/{i}}}+\sin {i}+({i}/7)!+\ln {i}+i\arctan {i}" for i in range(2, 20)]
    expected, interval = [read(answer) for answer in answers], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with futures.ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(lambda _: [read(answer) for answer in answers], range(4)))
    sys.setswitchinterval(interval)
    assert readings == [expected] * 4


EVENTS = []
WATCHING = threading.Event()
sys.addaudithook(lambda event, _: WATCHING.is_set() and EVENTS.append(event.split(".")[0]))


def test_canonical__hostile_answers(family):
    """In time, wrong, equal to themselves if not empty; and nothing is executed or opened for them."""
    equivalent("1!+\\sqrt{2}+e!", "2")  # what mpmath does once
    for hostile in HOSTILE[family]:
        EVENTS.clear()
        WATCHING.set()
        said = timed(lambda: (equivalent(r"\frac12", hostile), reward(rf"\boxed{{{hostile}}}", "12") > 0))
        WATCHING.clear()
        done = {"open", "exec", "compile", "import", "os", "subprocess", "socket", "ctypes", "shutil"}.intersection(EVENTS)
        itself = canonical(hostile) is None or equivalent(hostile, hostile)
        assert said == (False, False) and itself and not done, (hostile[:99], said, itself, done)


def test_equivalent__verdicts(category):
    """Each two answers of a line, both ways, by `group` alone and among the whole line."""
    wrong = []
    for line in verdicts()[category]:
        labels = group([answer for part in line for answer in part])
        answers = zip([(answer, i) for i, part in enumerate(line) for answer in part], labels)
        for ((a, i), label), ((b, j), other) in itertools.combinations(answers, 2):
            said = [equivalent(a, b), equivalent(b, a), len({*group([a, b])}) == 1, label == other]
            wrong += [(a, "~~" if i == j else "<>", b, said)] if {*said} != {i == j} else []
    no(wrong)


@pytest.mark.parametrize("name, rows", [("data/verify_cases", 190), ("cases/verify_cases3", 327)])
def test_equivalent__cases_of_the_shared_folder(name, rows):
    """No case is lost, no false right of an older version comes back, and of its false wrongs most are right."""
    path = DATA.parent / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    cases, wrong = [json.loads(line) for line in path.open()], []
    for case in cases:
        gold, answer, response = (case.get(key) for key in ("gold", "answer", "response"))
        strict = case["kind"] == "reward strict"
        said = {equivalent(gold, answer), equivalent(answer, gold)} if case["kind"] == "equivalent" else {reward(response, gold, strict) == 1}
        wrong += [case] * (said != {case["right"]})
    misses = [case for case in wrong if case.get("was_wrong") and case["right"]]
    no(case for case in wrong if case not in misses)
    assert len(cases) == rows and len(misses) <= 18


def test_equivalent__golds_rewritten():
    """Each gold in all dresses, several at once, and in one of them alone."""
    respelled = lambda g: g.replace(r"\frac", r"\dfrac").replace("-", "−").replace(r"\left", "").replace(r"\right", "")  # noqa: E731
    spaced = lambda g: g.replace("+", " + ").replace("=", " = ").rstrip(".") + "."  # noqa: E731
    every = [lambda g: rf"  $\displaystyle {respelled(g)}$ ", lambda g: rf"\boxed{{\,{g}\!}}", lambda g: spaced(rf"\[{{{g}}}\]")]
    alone = ["$%s$", r"\boxed{%s}", "  %s ", r"\displaystyle %s", r"\[%s\]", r"\,%s\!", "{%s}"]
    each = [respelled, spaced, *(lambda g, dress=dress: dress % g for dress in alone)]
    rows = [(gold, dress(gold)) for i, gold in enumerate(golds()[::3]) for dress in (*every, each[i % len(each)])]
    no((gold, other) for gold, other in rows if not (equivalent(gold, other) and equivalent(other, gold)))


def test_equivalent__golds_transformed():
    """Through the calculator: a value written in one of three other ways, which no comparison of strings accepts; and one of three neighbours."""
    plain = [gold for gold in golds() if is_typed(gold) and not set("=%$,") & set(gold)
             and not any(word in gold for word in (r"\text", r"\mbox", r"\circ", r"\pm"))]  # fmt: skip
    numbers = [gold for gold in plain if not isinstance(value := canonical(gold).value, tuple) or value[0] in ("formula", "complex")]
    assert len(numbers) > 500
    for i, gold in enumerate(numbers[::3]):
        same = (f"2({gold})-({gold})", rf"\frac{{3({gold})}}{{3}}", f"0+({gold})")[i // 3 % 3]
        other = (f"{gold}+1", rf"-\pi-({gold})", rf"({gold})(1+10^{{-9}})+\pi 10^{{-9}}")[i % 3]
        assert equivalent(gold, same) and ("x" in gold or equivalent(gold, f"x={gold}")) and not equivalent(gold, other), (gold, same, other)


def test_equivalent__mutated_golds(capsys):
    """One digit, sign, letter or bracket changed: the gold stays the same only where that stood in a unit. What almost parses (a character dropped
    or doubled, a part lost or moved) is judged alike both ways."""
    rng, swapped, equal, tried = random.Random(0), dict(zip("+-()[]", "-+[](),")), [], 0
    for gold in rng.sample(golds(), 300):
        i = rng.randrange(len(gold))
        for other in (gold[:i] + gold[i + 1 :], gold[:i] + gold[i] + gold[i:], gold[:i], gold[i:] + gold[:i]):
            assert equivalent(gold, other) is equivalent(other, gold), (gold, other)
        letters = "".join("a" if c.isalpha() or c in "\\{}" else c for c in gold)
        places = [(i, c) for i, c in enumerate(gold) if c.isdigit() or c in "+-()[]" or c.isalpha() and "aa" not in letters[max(i - 1, 0) : i + 2]]
        for i, c in rng.sample(places, min(5, len(places))):
            tried += 1
            other = gold[:i] + (str((int(c) + 1) % 10) if c.isdigit() else swapped.get(c) or ("q" if c != "q" else "w")) + gold[i + 1 :]
            equal += [(gold, other)] * equivalent(gold, other)
    with capsys.disabled():
        print(f"\n{tried} mutants, equal: {equal}")
    assert tried > 700 and all("inches" in gold or "cm" in gold for gold, _ in equal)


def test_equivalent__square_roots_and_polynomials_against_integers():
    """sqrt(a) + sqrt(b) = sqrt(c) exactly if 4ab = (c - a - b)^2 and c >= a + b; a polynomial is its roots."""
    rows = [(a, b, c) for a in range(1, 10) for b in range(a, 10) for c in range(1, 37)]
    no((a, b, c) for a, b, c in rows
       if equivalent(rf"\sqrt{{{a}}}+\sqrt{{{b}}}", rf"\sqrt{{{c}}}") is not (c >= a + b and 4 * a * b == (c - a - b) ** 2))  # fmt: skip
    rng = random.Random(0)
    for _ in range(150):
        (p, q, r), other = ([rng.randrange(-3, 4) for _ in range(3)] for _ in range(2))
        expanded, factored = f"x^3-({p + q + r})x^2+({p * q + q * r + r * p})x-({p * q * r})", "".join(f"(x-({root}))" for root in other)
        assert equivalent(expanded, factored) is (sorted((p, q, r)) == sorted(other)), (expanded, factored)


def test_equivalent__floors_and_letters_are_told_apart():
    """Floors by all that tells them apart below 41: single jumps, at the multiples of q or at the squares. Letters whatever their name."""
    for q in range(2, 13):
        floors = [rf"\lfloor\frac{{n+{j}}}{{{q}}}\rfloor" for j in range(q)] + [rf"\lceil\frac{{n+{j}}}{{{q}}}\rceil" for j in (1, 2)]
        assert group(floors)[:q] == list(range(q)) and equivalent(floors[q - 1], rf"\lceil\frac n{{{q}}}\rceil"), q
    assert group([rf"\lfloor\sqrt{{n+{j}}}\rfloor" for j in range(9)]) == list(range(9))
    names = [*"abcdfghjopqrstuvwxyzABCDEFGHIJKLMOPQRSTUVWXYZ", *"klmnN", "x_1", "x_2", "x_{12}", "a_n", r"\theta", r"\alpha", r"\beta"]
    for form in ("%s+1", "|%s-5|", r"\sqrt{%s}"):
        assert group([form % name for name in names]) == [*range(len(names))]


def test_equivalent__unions_and_differences_against_points():
    """Intervals, their unions, differences and intersections are sets of points, told apart at the half integers as their ends are integers."""
    rng, draws = random.Random(1), []

    def interval():
        o, low, c = rng.choice("(["), rng.randrange(6), rng.choice(")]")
        high = low + rng.randrange(1, 4)
        return f"{o}{low},{high}{c}", {x / 2 for x in range(2 * low + (o == "("), 2 * high + (c == "]"))}

    for _ in range(60):
        (a, first), (b, second), (c, third) = interval(), interval(), interval()
        draws += [(rf"{a}\setminus {b}", first - second), (rf"{a}\cap {b}", first & second), (rf"{a}\cup {b}\cup{c}", first | second | third)]
    no((text, other) for text, points in draws for other, others in draws[:60] if equivalent(text, other) is not (points == others))


def test_equivalent__an_unknown_function_of_equal_formulas():
    """f(p) = f(q) exactly if p = q, whatever stands around; and no unknown function is another, a factor, or a known one."""
    equal = ["x^2-1", "(x-1)(x+1)", r"x\cdot x-1", r"\frac{x^3-x}{x}"]
    for name in ("f", "G", r"\Phi", "T_3", "f'", r"\chi", "E"):
        no((name, p, q) for p, q in itertools.combinations(equal, 2) if not equivalent(f"3{name}({p})^2", f"{name}({q})^2+2{name}({p})^2"))
        no((name, p, q) for p, q in (("x^2-1", "x^2+1"), ("x,1", "1,x")) if equivalent(f"{name}({p})", f"{name}({q})"))
    names = [*"fFghuW", r"\phi", r"\varphi", r"\Phi", "f'", "f_1", "f_2", r"\Gamma", r"\zeta", r"\psi", "J_0", "J_1", "I_0", r"\sigma", r"\tau",
             "f^{-1}", "f^{(2)}", "f^2", r"\hat f", r"\operatorname{erf}", r"\sinh", r"\log"]  # fmt: skip
    assert group([f"{name}(3)" for name in names]) == list(range(len(names)))


def test_reward__of_every_math500_solution():
    rows = [json.loads(line) for line in (DATA / "math500.jsonl").open()] if golds() else []
    no(row["answer"] for row in rows if reward(row["solution"], str(row["answer"])) != 1)
    assert len(rows) == 500


def test_group__is_the_closure_of_equivalent():
    """Whatever the order: equal or joined through others, and the label is the first one's index."""
    pool = ["5", "x=5", "y=5", "5=x", "2x=10", "{5}", "10/2", None, " ", "abc", "y=2x", "2x=y", "1,2", "(1,2)", "{2,1}", "x=1,2", "y=x^2", "x^2",
            "f(x)=x^2", "@@", "x=", "a=5=b", "y=2", "x=2", "2", "3", r"\frac63", "x=y", "y=x", "2y=2x", r"\{2,1\}", "x=3"]  # fmt: skip
    texts = [answer for answer in pool if answer and answer.strip()]
    same = {(a, b) for a in texts for b in texts if equivalent(a, b)}
    rng, wrong = random.Random(0), []
    for _ in range(300):
        answers = rng.choice((rng.choices(pool, k=7), rng.choices(pool, k=12), rng.sample(pool, 20)))
        expected = [i if answer in texts else None for i, answer in enumerate(answers)]
        for i, j in itertools.combinations(range(len(answers)), 2):
            if (answers[i], answers[j]) in same:
                expected = [min(expected[i], expected[j]) if e in (expected[i], expected[j]) else e for e in expected]
        wrong += [answers] * (group(answers) != expected)
    no(wrong)
    assert group(["0.5", None, r"\frac12", "2", "", r"x=\frac{1}{2}", "x=2", "y=2", "hello"]) == [0, None, 0, 3, None, 0, 3, 3, 8] and group([]) == []
    many = [i % 100 for i in range(10_000)]  # each is looked at once: their pairs would take far too long
    assert timed(lambda: group([*map(str, many)])) == many


def test_checkable__an_answer_that_can_be_earned():
    earned = ["5", "0", "x=5", r"\frac12", "(1,2)", r"\{1,2\}", r"\text{Evelyn}", "yes", "None of the above", "C", r"\emptyset", r"\infty",
        "does not exist", "no solution", "n \\text{ even}", r"\text{neither even nor odd}", "x=1, y=2", "12:30", "1:2", "HT", "na", "n",
        r"\{x : x > 0\}", "f(x)=ax+b", "!n", "GL_2(\\mathbb{R})", "All primes congruent to 1 modulo 4", "p", "True", "Tuesday", "the second year",
        "Sarah and Tom", "the first and the third", "all n that are powers of 2", "June 20", "3 hours and 20 minutes", "5 square inches"]  # fmt: skip
    never = ["", " ", "$$", "proof", "Proof.", r"\text{Proof}", "notfound", "NotFound", "not found", "N/A", "n/a", "NA", "nan", "null", "?", "...",
        "\\boxed{}", "{'x': 1, 'y': 2}", '{"a": 3, "b": [1, 2]}', "[{'x': 1}]", "{1: 'a', 2: 'b'}", "Proof: let $n$ be even.", "See solution",
        "The sequence converges to the only fixed point of the map, as was shown above in parts two and three.", "No answer provided", "x" * 2001,
        r"\text{Every such map is linear on the rationals and, as it is monotone, also on all of the reals}", "(proof)", r"\text{N/A}",
        "We first note that the sum of the angles is 180, so the answer follows.", "Adding 2 and 3 gives 5.", "The answer is 5",
        "First add 2 to 3. Then double it to get 10.", "To find x, divide both sides by 2, giving x=5.", "He has 5 - 2 = 3 apples left over.",
        "add the two numbers and be done with it", "If x=3 then y=4 and the sum is 7"]  # fmt: skip
    no(gold for gold in earned if checkable(gold) is not True or reward(rf"\boxed{{{gold}}}", gold) != 1)
    no(gold for gold in never if checkable(gold) is not False)


def test_calculator__names_that_are_applied():
    texts = dict.fromkeys(("n(n+1)", "a(b+c)", "x(x+1)(x+2)", "p(1-p)", r"\sigma^2(1-\rho)", "f+f(2)", "C(-1)^n", "2k(d-k)!", r"R[\sqrt2-1]", "xy",
             "x^{-1}(x+y)", "a^2(b-c)+b^2(c-a)"), "")  # fmt: skip
    texts |= {"f(x)": "f", "y(2)": "y", "f(a+b)": "f", "f^{-1}(x)": "f", "f^2(x+1)": "f", r"\phi(n)\phi(m)": r"\phi", "B(2,3)": "B", "E[X]": "E",
              "u(x-ct)": "u", "p(x)-p(x-1)": "p", "s(t+1)-s(t-1)": "s", "f(g(x))": "f g", r"h^{-1}(x)": "h", "y''(0)": "y''"}
    no((text, found) for text, names in texts.items() if (found := verify.applied(verify.tokenize(text))) != {*names.split()})


# ---------------------------------------------------------------------------------------------- tables of verify.py

VOCABULARY = r"""\frac \frac { } { } ( ) [ ] \{ \} , ; 1 2 3 10 0 12 99 5000 .5 3.14 x y n k a_1 x_{2} \pi e i + - - * / \cdot ^ ^ _ ! \sqrt
    \sqrt[3] \sin \cos^2 \tan \ln \log_2 \log \exp | | \left| \right| \lfloor \rfloor \lceil \rceil \binom \pm = = < > \le \ne \in \cup \infty
    \mathbb{R} \emptyset \text{cm} \text{and} \text{or} \text{June} word June 20 \% ^\circ \$ $ \\ & \begin{pmatrix} \end{pmatrix}
    \begin{array}{cc} \end{array} \overline{3} 0.\overline{3} 1\frac12 10,000 1{,}000 \, \quad \boxed \boxed{ ' " : ~ é ∞ − ² \langle \rangle \mid
    \theta \arcsin 1e5 e4 \vec \dot 9^9 10^{100} \mathrm{e} . \ f( g( \Gamma( \zeta( \psi( W( J_0( I_3( \operatorname{erf}( \mathrm{Li}_2
    \operatorname{li}( \operatorname{Ei}( \Phi( u( h( \sinh \cosh \tanh( \operatorname{arctanh} \text{erfc} !! \| \| \lVert \rVert \choose \over
    \setminus \cap \pmod \mod \equiv f^{-1}( f^{(2)}( AB BA A^{-1} HT \hat{x} \bar x \begin{cases} \end{cases} \begin{aligned} \end{aligned} \tag{1}
    \bm 2⁴ x₁ ½ 5e-05 USD “ ” `` '' \text{infinity} \text{all~real~numbers} \text{mod} \operatorname{Ci}( -1 -2 0.999 10^{-30} 2^{-500} 50 1000
    (x+1) (n-1) (2) (1/4) (-1/2)"""

HOSTILE = {
    "powers and factorials": ["9^{9^{9^9}}", "9^{-9^{9^9}}", "x!" * 900, "99999999!", "((9!)!)!", r"\binom{999999999}{500000000}", "e^{e^{e^{e^{e}}}}",
        "i^{i^{i^{i}}}" * 100, "(1.5+i/7)^{1000}" * 100, "2999!!" * 300, "2" + "⁹" * 1900, "10^{-999999999}", "1e-999999999", r"\sin(10^{50})",
        r"(1/3)^{19000}+" * 130 + "1", r"\lfloor 2^{14000}\pi\rfloor"],
    "brackets and depth": ["{" * 1000 + "5" + "}" * 1000, "(" * 999 + "5" + ")" * 999, "x(" * 999, r"\sqrt{" * 250 + "2" + "}" * 250, "f" + "'" * 1900,
        r"\frac{1}{" * 200 + "2" + "}" * 200, r"\sqrt" * 300 + "2", "|" * 1999 + "x", "-" * 1990 + "5", "2" + "^2" * 900, "x_" * 990, "\\" * 1999,
        r"\ln(" * 400 + "5" + ")" * 400, "f(" * 19 + "x" + ")" * 19, r"\|" * 999, "{" * 19 + "5" + " " * 1900 + "6" + "}" * 19],
    "what a program would run": ["__import__('os').system('true')", r"\frac{1}{\sqrt{2}\sqrt{2}-2}", r"\input{/etc/passwd}", "5\x00", "x_\ud800+\ud800"],
    "length": ["a" * 200_000, "7" * 10_000_000, "=" * 1999, "1 " * 999, "1" + ",000" * 490, "٣" * 50, ",".join(["x+1"] * 480), "=".join(["1+1"] * 480),
        r"\mod" * 400, r"\begin{pmatrix}" + r"\\".join(["&".join("1" * 30)] * 30) + r"\end{pmatrix}", '"' * 1999, "AB" * 900, r"\text{" * 600,
        r"\begin{pmatrix}" + r"\\".join(["&".join([r"\sqrt2"] * 10)] * 25) + r"\end{pmatrix}", "5" + r"\text{ m}" * 240, "</think>" * 240],
    "sums and products": ["+".join(f"1/{i}" for i in range(1, 350)), "+".join(f"x^{{1/{i}}}" for i in range(2, 200)), "x^{1400}+" * 150 + "1",
        "".join(f"(x+{i})^{{400}}" for i in range(150)), ",".join([r"\pm1\pm2\pm3\pm4"] * 80), "+".join(["x^{1400}/3^{9000}"] * 105),
        "+".join(rf"\frac{{1}}{{{10**6 + i}^{{300}}}}" for i in range(80)), "(x^3)^{1/3}" * 180, r"\lfloor x/7\rfloor" * 100, "1" + r"\pm2" * 500],
    "sets": [r"\cup".join(f"({i},{i + 1})" for i in range(20_000)), r"\land ".join(f"x\\ne{i}" for i in range(220)),
        r"\cap".join(f"({i},9999)" for i in range(150)), r"\setminus".join([r"\{" + ",".join(map(str, range(200))) + r"\}"] * 2)],
    "functions": ["+".join([r"\mathrm{Li}_9(-0.99)"] * 95), r"\psi(x)" * 280, "J_9(15.9)" * 220, r"\operatorname{erf}(7.9)" * 90, r"\zeta(1+10^{-70})",
        r"\Gamma(10^{-70}-5)" * 100, "W(-0.36+x/99)" * 150, "+".join(f"f(x+{i})" for i in range(220)),
        "+".join(f"f(3^{{{20000 - i}}})" for i in range(130))],
}  # fmt: skip

# A line holds classes of answers: those in one class, joined by ~~, are equal, any two of different classes, parted by <>, are not.
VERDICTS = r"""
# numbers, constants and functions
\sin 30^\circ ~~ \frac12 ~~ \sin\frac{\pi}{6} ~~ .5 <> \sin 30 <> \sin 75^\circ ~~ \frac{\sqrt6+\sqrt2}{4} <> \cot x ~~ \frac{\cos x}{\sin x} <> \ln 0 <> 0 <> 5
2A_{16} <> 4343_6 ~~ 4343_{6}. <> 10_2 <> 2 <> 10_3 <> 204_5 <> 204_7 <> (1011)_2 ~~ 1011_2 <> 10 ~~ 10_{10} <> 1101_2 <> 4210 <> 4210_5 <> \tan 45^{\circ} ~~ 1
10 000 ~~ 10{,}000 <> \frac{1,000}{3} ~~ \frac{1000}{3} <> 1,2 <> 12 <> 1,23 <> 123 <> (1,2,3) <> 10,80 <> 1080 <> 1,000 <> 1 ~~ W(1)e^{W(1)} ~~ \psi(2)-\psi(1)
\frac34 ~~ \frac{3}{4} ~~ \tfrac{6}{8} ~~ \dfrac{3}{4} ~~ 3/4 <> \frac{4}{3} <> 1\frac45 ~~ 1 \frac{4}{5} ~~ 1.8 <> \frac45 <> 2^{-2/3} ~~ \frac{1}{\sqrt[3]{4}}
sqrt(2) ~~ \sqrt{2} <> \sqrt{3} <> -\sqrt{2} <> \sqrt{2}+10^{-40} <> \sqrt{2}^2 <> 5\sqrt{10} <> 10\sqrt{5} <> 2^{-3} <> -8 <> 1.4142135623730950488
\sqrt{f(2)^2} ~~ |f(2)| <> f(2) <> B(2,3) ~~ B(4/2,3) <> \frac{dy}{dx} <> \frac{y}{x} <> P(X>2) <> P(X<2) <> y(2) <> 2y <> C(-1)^n ~~ (-1)^nC <> f(a+b) <> fa+fb
10,080 ~~ 10080 ~~ 10,\!080 <> 10.080 <> 1008 <> 11,\! 111,\! 111,\! 100 ~~ 11111111100 <> 12{,}345 ~~ 12345 <> 12.345 <> \frac{\sqrt{3}}{3} ~~ \frac{1}{\sqrt3}
\cosh^2 x-\sinh^2 x ~~ 1 <> \cos(10^{-100}) <> e^{10^{-100}} <> \tanh(1000) <> \operatorname{erf}(100) <> \zeta(5000) <> \frac{10^{30}+1}{10^{30}} <> 1 000/3
100!+1 <> 100! <> 3R^{99999} <> 3r^{99999} <> \frac{1}{3} <> -\frac13 <> 2\frac73 <> \frac{13}{3} <> 41352 <> 42351 <> 2^{1009} ~~ 2\cdot 2^{1008} <> 2^{1009}+1
0.1\overline{6} ~~ \frac16 <> 0.16 <> 0.\bar{9} ~~ 1 <> 0.999999999 <> 1.\overline{27} ~~ \frac{14}{11} <> -1\frac12 ~~ -\frac32 <> -\frac{1}{2} ~~ -1/2 ~~ -.5
1\,000\,000 ~~ 1000000 <> 1000 ~~ 1{,}000 ~~ 10^3 ~~ (1,000) <> 1,234.5 ~~ 1234.5 <> 10\ 000 ~~ 10000 <> i^2 ~~ -1 <> \sqrt{-1} ~~ i ~~ e^{i\pi/2} <> 1 <> -i
z = 1+2i ~~ 1+2i <> 1+\sqrt{2}i <> 1+\sqrt{2} <> \sqrt{2i} <> \sqrt{2}i <> -2+7i <> -2+7i+10^{-30} <> \sin x <> \cos x <> \sin^{-1} x <> \frac{1}{\sin x}
2\sqrt{3} ~~ \sqrt{12} <> \sqrt{6} <> 3\sqrt{2} <> \sqrt12 <> \sqrt[3]{-8} ~~ -2 ~~ (-8)^{1/3} <> \mathrm{Li}_2(\tfrac12) ~~ \frac{\pi^2}{12}-\frac{\ln^2 2}{2}
-0 ~~ 0 <> 10^{-60} <> \frac{1}{0} <> 10000 <> 10001 <> 5 ~~ |3+4i| <> -5 <> 55 <> \frac12 <> 12 <> 1 2 <> 3+4i ~~ 4i+3 <> 3-4i <> 4+3i <> (3,4) <> 7 <> 3+4j
e^{i\pi} ~~ -1 ~~ \left\lfloor -\frac12 \right\rfloor <> \ln e^2 ~~ 2 <> \lceil 2.1 \rceil <> 6.72 \times 10^{-5} ~~ .0000672 ~~ 6.72 \cdot 10^{-5} <> .0000671
\sqrt{-4} ~~ 2i ~~ (1+i)^2 <> 1+i <> \frac{-1+i\sqrt{3}}{2} ~~ e^{2\pi i/3} <> 6+9i <> 6+9 <> \Gamma(\frac14)^2 ~~ \Gamma^2(\frac14) <> \Gamma(1/2) ~~ \sqrt\pi
\log_2 8 ~~ 3 ~~ \log_{10} 1000 ~~ \lfloor 3.7 \rfloor <> \log_3 8 <> \lceil 3.7 \rceil <> \arctan 1 ~~ \frac{\pi}{4} <> \tan 1 <> \binom{5}{2} ~~ 10 <> \frac52
\operatorname{Li}_2(1/2) <> \operatorname{Li}_3(1/2) <> \frac12\operatorname{Li}_2(1) <> (\sqrt{5}-2)(\sqrt5+2) ~~ 1 ~~ \sqrt[3]{2+\sqrt5}+\sqrt[3]{2-\sqrt5}
\zeta(-1) ~~ -\frac1{12} <> 2\zeta(3) ~~ \zeta(3)+\zeta(3) <> 3\zeta(2) <> \zeta(6) <> 288 \pi ~~ 288π <> \frac{\pi}{2} ~~ 0.5\pi <> \frac{2}{\pi} <> 3!! <> 720
\frac{\log 2}{\log 2-\log 3} ~~ \frac{\ln 2}{\ln\frac23} <> \log_2 3 <> \log_3 2 <> W(e) ~~ 1 <> 2\|x\|^2 ~~ \left\|x\right\|\cdot 2\lVert x\rVert <> J_0(2)
\infty ~~ +\infty <> -\infty <> 10^{100} <> \binom{n}{k} ~~ \frac{n!}{k!(n-k)!} <> f^{-1}(x) <> \frac{1}{f(x)} <> f^{(2)}(x) <> f^2(x) <> f'(x) <> f(x)
0.\overline{3} ~~ \frac13 <> 0.33 <> 0.333333333333 <> 0.3 <> 0.\overline{33}4 <> \int_a^b x dx ~~ \int^{b}_{a} x dx <> \int_b^a x dx <> J_0(2)+J_2(2) ~~ J_1(2)
1-\operatorname{erf}(2) ~~ \operatorname{erfc}(2) <> \sqrt[3]{8} ~~ 2 ~~ \sqrt{\sqrt{16}} <> \sqrt{8} <> \sin 2x ~~ 2\sin x\cos x <> \sin^2 x <> \sin x^2
\frac{1}{1+\frac{1}{2}} ~~ \frac23 <> 2\frac13 <> 123456789012345678901 <> 123456789012345678900 <> 1.23e4 ~~ 12300 <> 1.23 <> 1.23e-4 ~~ 0.000123 <> 42. ~~ 42
\operatorname{arctanh}\frac12 ~~ \frac12\ln 3 <> \pi <> \frac{22}{7} <> 3.14159265358979 <> p <> \operatorname{Si}(1) <> \operatorname{Ci}(1) <> \frac 59 ~~ 5/9
\frac{\sqrt{21}}{5} <> \sqrt{\frac{21}{5}} <> \frac{1}{7} <> 0.142857142857142857142857 <> \Gamma(x+1) ~~ x\Gamma(x) <> x\Gamma(x+2) <> (2^3)^2 ~~ 64 <> 2^{3^2}
\sigma^2(1-\rho) ~~ \sigma^2-\rho\sigma^2 <> e^{\pi\sqrt{163}} <> 262537412640768744 <> \operatorname{Li}_2(1) ~~ \frac{\pi^2}6 <> \sqrt{\frac{4}{9}} ~~ \frac23
\frac{dy}{dx}=2x ~~ \frac{dy}{dx} = x+x <> \phi(10) ~~ \phi(2\cdot 5) <> 2\phi(5) <> \tanh x ~~ \frac{e^{2x}-1}{e^{2x}+1} <> e^{\ln 5} ~~ 5 ~~ |-5| <> 5! ~~ 120
\text{arccosh}(2) ~~ \ln(2+\sqrt{3}) <> 0.\overline{12} <> 0.1\overline{2} <> (100,200) <> 100200 <> \{100,200\} <> \frac{1}{\sqrt{2}-1} ~~ \sqrt{2}+1
\mathcal{O}(n^2) ~~ O(n^2) <> O(n) <> \binom{10}{3} ~~ \frac{10!}{3!7!} <> \Gamma(1/4) <> \frac12\Gamma(1/2) <> 10^{50}+\sqrt2 <> 10^{50}+\sqrt3 <> 2^10 ~~ 1024
\log_{10}{250} ~~ 1+2\log_{10} 5 <> \sqrt{7+4\sqrt3} ~~ 2+\sqrt{3} <> \sinh^{-1}(1) ~~ \ln(1+\sqrt2) <> \coth 1 ~~ \frac{e^2+1}{e^2-1} <> 0.5 ~~ \frac12 <> 5e-1
\zeta(3) <> 3\zeta <> \zeta(5) <> \lfloor x \rfloor <> x <> |x| <> T(n+1)-T(n-1) <> T(n+2)-T(n) <> s(t+1)-s(t-1) <> s(t+2)-s(t) <> \sqrt{2}+\sqrt{3} <> \sqrt5
\left|3-\pi\right| ~~ \pi-3 <> \zeta(2) ~~ \frac{\pi^2}{6} <> J_0(2) <> 2J_0(1) <> J_1(2) <> (312,123,231) <> 312123231 <> f'(x)+g'(x) ~~ g'(x)+f'(x)
1-\sqrt{2} <> \sqrt{2}-1 <> 2I_0(2) ~~ I_0(2)+I_0(2) <> R(\sqrt2-1) ~~ R\sqrt2-R <> \sin(f(x)) <> f(\sin(x)) <> \varphi(12) <> 12\varphi <> \sin^{-1} 1 ~~ \pi/2
\mu(6) <> \mu(2)+\mu(4) <> \cos^2 x ~~ 1-\sin^2 x <> \lceil \pi \rceil ~~ 4 <> e <> 2.718281828459045 <> f(a)+f(b) ~~ f(b)+f(a) <> f \circ g <> g \circ f
1000,1000 <> 10001000 <> 27,54,108 <> 27,54108 <> \sin x^2 ~~ \sin(x^2) <> \exp(2) ~~ e^2 <> 2e <> \ln 2 ~~ W_0(2\ln 2) <> \log_{10} 2 <> \tan 90^\circ <> 0
g(f(2)) <> f(g(2)) <> \cos\pi <> \cos 0 <> \Gamma(n+1) ~~ n! <> 2f(x+x) ~~ 2f(2x) <> P(A)P(B) <> P(AB) <> 1 1/2 ~~ \frac32 <> 3.21 <> 3.210001 <> 7 ~~ +7 ~~ 007
8^{\frac23} ~~ 4 <> E(X^2) <> E(X)^2 <> N(0,1) <> N(0,2) <> \ln 8 ~~ 3\ln 2 <> n(n+1) ~~ n^2+n <> a(b+c) ~~ ab+ac <> p(1-p) ~~ p-p^2 <> 1E6 ~~ 1000000
|x-1| <> |x+1| <> |g(x)| <> g(x) <> \Gamma(0) <> 0 <> \sqrt 2 ~~ √2 <> 288\pi <> 288
# algebra, equations and chains
y = 2x+3 ~~ 2x - y + 3 = 0 ~~ 2x+3 = y <> y = 2x-3 <> y=-2x ~~ 2x+y=0 <> y=2x <> 5x - 7y + 11z + 4 = 0 ~~ -10x+14y-22z = 8 <> 5x - 7y + 11z - 4 = 0
e^{2x} ~~ (e^x)^2 <> e^{x^2} <> \ln(xy) ~~ \ln x+\ln y <> \ln(x+y) <> x^{2019}-1 ~~ x\cdot x^{2018}-1 <> x^{2019} <> x^{2018}-1 <> x <> y <> \frac{x}{x}+1 ~~ 2
\lfloor n/2 \rfloor <> \frac n2 <> \lfloor x/100 \rfloor <> 0 <> \sin(\pi x) <> \frac{2}{n} <> 5x <> 5 <> 1/2x <> \frac{1}{2x} <> \frac{a}{b+c} <> \frac{a}{b}+c
x = \frac{-b\pm\sqrt{b^2-4ac}}{2a} ~~ \frac{-b+\sqrt{b^2-4ac}}{2a},\frac{-b-\sqrt{b^2-4ac}}{2a} <> \frac{15}{60} = \frac14 = 0.25 ~~ \frac14 <> 5!=121 <> 121
x=5 ~~ 5 ~~ 5 = x <> x=6 <> xy=5 <> x+1=5 <> x \ne 5 <> y = 2x+3 ~~ 2x+3 <> 2x+3=0 <> \binom{2n}{n} ~~ \frac{(2n)!}{n!^2} <> \binom{2n}{n+1} <> f'(x) = 2x ~~ 2x
2x+3 <> 2x-y+3=0 <> \frac{1}{2} <> p = \frac{1}{2} = 0.5 <> f(x)=2x+1 <> g(x)=x+1 ~~ \sqrt{x+1}^2 <> \sqrt{x^2} ~~ |x| <> x <> x+10^{-30} <> 2RC+R+C ~~ R+C+2CR
x^2+y^2=4 ~~ \frac{x^2}{4}+\frac{y^2}{4}=1 <> x^2-y^2=4 <> 2x=10 ~~ x=5 <> y=5 <> 2^{n+1} ~~ 2\cdot2^n <> 2^n+1 <> 2k+2 ~~ 2(k+1) <> 2k-2 <> n! ~~ n(n-1)! <> n
6 ~~ 2+4=6 ~~ 2\cdot 3=6 ~~ 3!=6 <> 2+4=7 <> x+1=6 <> 5=5 ~~ 5 <> 4=4 <> 5=5=a <> 3+4=7\text{ cm} ~~ 7 <> \frac13=0.33 <> 0.33 <> m_{\max }=n^{2}-n-1 ~~ n^2-n-1
\lfloor\sqrt{n-1}\rfloor <> \lfloor\sqrt{n-2}\rfloor <> \frac{11+9a}{20} ~~ 0.45a+0.55 <> \frac{9+11a}{20} <> \frac{d !}{2 k(d-k) !} ~~ \frac{d!}{2k\cdot(d-k)!}
\lceil n/2 \rceil ~~ \lfloor \frac{n+1}{2} \rfloor <> \frac{a^2-b^2}{a-b} ~~ a+b <> a-b <> a+c <> \frac{n(n+1)}{2} ~~ \frac12n^2+\frac n2 <> (a+b)^2 <> a^2+b^2
abc ~~ c\cdot a \cdot b <> 3R^2 <> 3r^2 <> \sqrt{16}=4=2^2 ~~ 4 <> \sqrt{16}=\pm4 <> \theta+\alpha ~~ \alpha + \theta <> \sqrt{a+b} <> \sqrt{a}+\sqrt{b}
(a+b)^2=a^2+2ab+b^2 ~~ (a+b)^2 <> k=1 ~~ 1 <> f(n)=2n+1 ~~ 2n+1 <> \sqrt{ab} ~~ \sqrt{a}\sqrt b <> \text{Area} = 12\pi ~~ 12\pi <> \angle ABC = 90^\circ ~~ 90
(a+5)(b+2) ~~ ab+2a+5b+10 <> xyz ~~ x y z <> xy <> x+y <> a_1+a_2 ~~ a_{2}+a_{1} <> f(2) = 5 ~~ 5 <> 2x=10 <> (-1)^{n+1} ~~ -(-1)^n <> \Gamma(5)=4!=24 ~~ 24
\frac34=0.75=75 <> 75 <> a_1 <> a_2 <> a_{12} <> \frac34=0.75 ~~ 0.75 <> 2\pi(3)=6\pi ~~ 6\pi <> 1,000 = 10^3 ~~ 1000 <> \Gamma(5)=25 <> 25 <> 1=2 <> 2 <> 2=3=2
2+2=x <> x <> x=x <> \pi=3.14 <> 3.14 <> x_1+x_2 <> 2x_1 <> 5! = 120 ~~ 120 <> p - q <> q - p <> 0.5=50\% <> 50 <> 2n+1 <> 2n-1 <> x^{-1} <> -x <> (-1)^n <> 1
# tuples, sets, intervals, matrices and other shapes
n \equiv 1 \pmod 4 ~~ n \equiv 1 \mod 4 <> n \equiv 1 \pmod 8 <> n \equiv 2 \pmod 4 <> m \equiv 1 \pmod 4 <> n \equiv -1 \pmod 4 ~~ n\equiv 3 \pmod{4}
n\equiv 0,1 \pmod 4 ~~ n \equiv 1, 0 \pmod{4} ~~ n\equiv 0 \pmod 4 \text{ or } n\equiv 1 (\text{mod } 4) <> n \equiv 0,2 \pmod 4 <> n\equiv 0,1 \pmod5
(1,2) ~~ (1, 2) ~~ (1;2) <> (2,1) <> [1,2] <> 1,2 ~~ \{1,2\} <> (1,2,3) <> 12 <> (1,3,2) <> (1,2),(3,4) <> ((1,2),3) <> (1,-2) <> 1.2 <> (1) <> (1,1)
(-\infty, 2) \cup (3, \infty) ~~ (3,\infty)\cup(-\infty,2) <> (-\infty, 2] \cup [3, \infty) <> (2,3) <> [1,2]\cup(2,3] ~~ [1,3] <> [1,2) \cup (2,3] <> IV <> VI
{10 \choose 3} ~~ 120 <> {10 \choose 4} <> \frac{10}{3} <> x \equiv 3 \pmod{7} ~~ x\equiv 3\ (\text{mod } 7) ~~ 3 \pmod{7} ~~ 3 \bmod 7 <> \frac37 <> AB-BA <> 0
x \in (-\infty, 2] \cup [5, \infty) ~~ (-\infty, 2] \cup [5, \infty) <> x<1 \text{ or } x>2 ~~ (-\infty,1)\cup(2,\infty) <> x<1 \text{ and } x>2 <> ADBC <> ACBD
\mathbf{v} = \begin{pmatrix}\sqrt{12}\\b\end{pmatrix} ~~ \begin{bmatrix}2\sqrt3\\b\end{bmatrix} ~~ \begin{pmatrix}\sqrt{12}\\[2mm]b\end{pmatrix} <> X^TX <> XX^T
\begin{pmatrix}-1/3\\2/3\end{pmatrix} ~~ \left[\begin{array}{c} -\frac13 \\ \frac23 \end{array}\right] <> \begin{pmatrix}1/3\\2/3\end{pmatrix} <> P^{-1}AP <> A
A = \begin{pmatrix}1&0\\0&1\end{pmatrix} ~~ \begin{Bmatrix}1&0\\0&1\end{Bmatrix} ~~ \left(\begin{matrix} 1&0 \\ 0&1 \end{matrix}\right) <> 1 <> A'B'C' <> B'A'C'
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ \begin{bmatrix}1&2\\3&4\end{bmatrix} ~~ \left(\begin{array}{cc}1&2\\3&4\\\end{array}\right) <> DNA ~~ \text{dna}
(0,1)\cup(1,2) ~~ 0<x<1 \text{ or } 1<x<2 <> -1<x<1\text{ or }x>3 ~~ (-1,1)\cup(3,\infty) <> x \ne 0 <> 0 <> (1,2)\cup(3,4) <> (1,2),(3,4) <> {1 \over 2} ~~ 0.5
x=1 \\ y=2 ~~ (x,y)=(1,2) ~~ x=1, y=2 ~~ (y,x)=(2,1) ~~ \begin{cases}x=1\\y=2\end{cases} <> x=2,y=1 <> x=1 <> x=1 \text{ or } y=2 <> -\text{infinity} ~~ -\infty
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} <> \begin{pmatrix}1&3\\2&4\end{pmatrix} <> \begin{vmatrix}1&2\\3&4\end{vmatrix} <> {n \choose 2} ~~ \frac{n(n-1)}2
\mathbb R\setminus\{0\} <> \mathbb R <> \mathbb R\setminus\{1\} <> (0,\infty) <> \text{all integers} <> (2n)!! ~~ 2^n n! <> 1,2,3 ~~ 1, 2, \text{ and } 3 <> 1,2
x \neq 0 ~~ (-\infty,0)\cup(0,\infty) <> \mathbb{R} ~~ x \in \mathbb{R} ~~ \mathbb R <> \mathbb{Z} <> x \in \mathbb{N} <> (45^{\circ}, 60^{\circ}) ~~ (45,60)
\text{all real numbers} ~~ \mathbb R ~~ (-\infty,\infty) ~~ \text{all reals} <> \text{all positive real numbers} <> (1,2),(3,4) ~~ (3,4),(1,2) <> (1,4),(3,2)
\|x\| ~~ \lVert x\rVert <> x <> |x| <> \bar{x} <> \|x+y\| <> \|x\|+\|y\| <> \vec{v} <> v <> \hat{x} <> \tilde{x} <> 3, 5, 7 ~~ 7,5,3 <> (3, 5, 7) <> 3, 5, 8
(1,2) \text{ and } (3,4) ~~ \{(3,4),(1,2)\} <> ((1,2),3) <> (1,(2,3)) <> \langle 1,2,3 \rangle ~~ (1,2,3) <> \pm 3 ~~ -3,3 <> 3 <> 1 \pm 2 <> x = \pm 2 ~~ 2,-2
\begin{pmatrix}1\\2\end{pmatrix} <> \begin{pmatrix}1&2\end{pmatrix} <> \begin{pmatrix}2\\1\end{pmatrix} <> \begin{pmatrix}1\\2\\0\end{pmatrix} <> 1,2 <> 1,2,0
\mathbb{R}-\{2\} ~~ (-\infty,2)\cup(2,\infty) <> [0,5]\setminus\{2\} ~~ [0,2)\cup(2,5] <> [0,5] <> 3\pm\sqrt2 ~~ 3+\sqrt{2},3-\sqrt2 <> 3+\sqrt2 <> 2\pm\sqrt3
2\le x<5 ~~ [2,5) ~~ 5 > x \ge 2 <> (2,5] <> [2,5] <> x \in [-2,7] ~~ -2 \le x \le 7 <> [-2,8] <> \mathbb{R}^+ <> \mathbb{R} <> \mathbb{R}\setminus\mathbb{Q}
\{x \mid x > 1\} ~~ (1,\infty) ~~ x>1 ~~ 1 < x <> \{y : x > 1\} <> 1 ~~ n = 1 <> n \equiv 1 \pmod 4 <> 2½ <> x \ge 1 ~~ x \geq 1 ~~ [1,\infty) <> x<1
\emptyset ~~ \varnothing ~~ \{\} <> 0 ~~ \{0\} <> \{\emptyset\} <> \{5\} ~~ 5 <> \infty ~~ \text{infinity} <> \text{-infinity} <> \text{infinitely many}
\text{BAC} ~~ BAC <> ABC <> AB+CD ~~ CD+AB <> 2AB ~~ AB+AB <> AB <> BA <> 1,-2 ~~ x=1 \text{ or } x=-2 <> x=1 \text{ or } x=2 ~~ \{2,1\} <> x=1 <> \pm i ~~ i,-i
\mathbb{R} \backslash \{3\} ~~ x \ne 3 <> [0,5]\cap[3,8] ~~ [3,5] <> \left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right. ~~ x=1,y=2 <> HT ~~ \text{HT} <> TH
\{x \in \mathbb{R} : x \ne 2\} ~~ \mathbb{R}\setminus\{2\} <> AB\cdot CD ~~ CD\cdot AB <> ABCD ~~ \mathrm{ABCD} <> BADC <> [0,5]\setminus(2,3) <> [0,2)\cup(3,5]
(2n-1)!! ~~ \frac{(2n)!}{2^n n!} <> (2n-1)! <> (2n+1)!! <> (AB,CD) ~~ (\text{AB},\text{CD}) <> XYX <> HTH <> HHT <> a=2, a=-6-4 \sqrt{2} ~~ 2, -2(3+2\sqrt2)
(3\text{ cm}, 4\text{ cm}) ~~ (3,4) ~~ (x,y) = (3,4) <> x>1 \text{ and } x<5 ~~ (1,5) <> x>1 \text{ or } x<5 <> f^{-1}(x)=2x ~~ 2x <> f(x)=2x+1 <> \frac{1}{2x}
\{1\pm\sqrt{5},-2\} ~~ -2, 1+\sqrt5, 1-\sqrt5 <> 90^\circ-\frac{A}{2} ~~ 90-\frac12A <> \hat{i}+2\hat{j} ~~ 2\hat j+\hat i <> 1, 2, 3 ~~ 1, 2 \text{ and } 3
(-infinity, 2) ~~ (-\infty,2) <> \emptyset ~~ \text{empty set} <> 5 \text{ or } 6 ~~ 5, 6 <> 6 <> N30^\circ E <> E30^\circ N <> 2 \text{ or } 3 ~~ 3 or 2
(AB)^{-1} <> A^{-1}B^{-1} <> \bar{x}+y ~~ y+\bar x <> 0.5; 1 ~~ 1, \frac12 <> (a, a+1) ~~ (a, 1+a) <> \text{A, C} ~~ C, A <> \{HT,TH\} <> \{HT\} <> ½ ~~ \frac12
f^{(4)}(0)=24 ~~ 24 <> 7!! ~~ 105 <> 5040 <> \|v\|_1 <> \|v\|_2 <> HT, TT <> TH, TT <> x = AB <> x = BA <> ABA^{-1} <> B <> QPQ^{-1} <> P <> 3!!! <> 3!!
8!! ~~ 384 <> CO <> OC <> !n <> n! <> AB = 7 ~~ 7 <> x^2 <> x^3
# units, words and dress
\text{(C)} ~~ C ~~ (C) ~~ \text{C} ~~ \textbf{(C)} ~~ \mathrm{C} ~~ c <> \text{(D)} <> \text{(C) or (D)} <> A, C <> \text{east} ~~ East <> \text{west}
5 ~~ $5$ ~~ $$5$$ ~~ \(5\) ~~ \[5\] ~~ \boxed{5} ~~ 5. ~~ \! 5 \, ~~ \text{5} ~~ \mathbf{5} <> \boxed{6} <> $5$ 6 <> 5.. <> \boxed{} <> 5! <> -5 <> –6
5\text{ dollars} ~~ 5 <> 5\text{ million} <> 5 \text{ or } 6 <> 5 \text{ not } 6 <> 5 \text{ (or 6)} <> 5\text{ feet } 3\text{ inches} <> 12 <> 12:30 <> 5\ldots
5 ~~ **5** ~~ 5 \\ ~~ \mathtt{5} ~~ \textdollar 5 ~~ \fbox{5} ~~ 5\text{.} ~~ \text{\bf 5} ~~ 5, ~~ 5; ~~ 5\;, ~~ 5\  ~~ “5” ~~ '5' ~~ ``5'' ~~ USD 5
5 ~~ €5 ~~ 5\text{ euros} ~~ \euro 5 ~~ \bm{5} ~~ \bm 5 ~~ 5\tag{1} ~~ 5\tag*{(2)} ~~ \huge 5 ~~ {\Large 5} ~~ \ensuremath{5} ~~ \underline{5} ~~ =5
5 \text{ apples} ~~ 5 ~~ 5 apples <> 5\text{ squared} <> 5 \text{ is wrong, it is 6} <> 5\text{ dozen} <> 5 \text{ or more} <> \text{more than } 5 <> 7 ~~ 7 cm³
5 ~~ 5\text{ USD} ~~ US\$5 ~~ \begin{aligned}5\end{aligned} ~~ \begin{aligned}x&=5\end{aligned} ~~ \begin{align*}5\end{align*} ~~ 5​ <> 5\text{..}
5 \mathrm{~km} / \mathrm{h} ~~ 5 <> 5\text{ k} <> 5\text{th} <> 5 \text{ negative} <> 5 \text{ tenths} <> 5 \text{ to } 3 <> 5 \text{ years ago}
\text{even} ~~ even ~~ \mathrm{even} <> \text{odd} <> \text{neve} <> \text{Evelyn} ~~ Evelyn <> \text{Evelyn and Joe} <> 12:30 <> 12:45 <> 12.5 <> x^{-1} ~~ x⁻¹
3\text{ sq. units} ~~ 3 <> 3 \text{ quarters} <> 3 \text{ squared} <> 3 \text{ if } x>0 <> 8 \text{ marbles} ~~ 8 <> 8 \text{ million dollars} <> 10 am <> 10 pm
5 ~~ \text{Rs. }5 ~~ Rs 5 ~~ \begin{array}{c}5\end{array} <> ,5 <> 5,6, <> 5\tag{1}2 <> "6" ~~ USD 6 ~~ \huge 6 ~~ =6 <> \text{Rs. }50 <> 5m^2 <> 5) <> -5 ~~ −5
1\text{, }2\text{, and }3 ~~ 1,2,3 <> 5 <> \text{The answer is } 5 <> \text{no solution} <> \text{one solution} <> 5 \text{ steps left} <> 5 \text{ steps right}
\text{June 20} ~~ June 20 ~~ \text{june 20} ~~ \text{June}\ 20 <> \text{June 21} <> \text{July 20} <> 20 <> e <> \frac{270}7\text{ degrees} ~~ \frac{270}{7}
5 <> \color{red}{5} <> x\text{ is }5 <> \boxed{5 <> 5, and <> (x,y)=[5,6] <> (x,y)=(5,6) <> (x,y)=(5,6,7) <> 10\text{ cm} ~~ 10 ~~ 10 cm <> 11\text{ cm} <> 10m
5 <> ==5 <> \begin{array}{cc}5&6\end{array} <> \begin{pmatrix}5\\5\end{pmatrix} <> \underline{6} <> 2 <> 2 \text{ halves} <> 2 \text{ pairs} <> 2 \text{ thirds}
4 \text{ meters per second squared} ~~ 4 <> 4\text{ inches taller} <> 12\text{ years old} ~~ 12 <> 90^\circ ~~ 90 <> \frac{\pi}{2} <> 9 <> \$18.90 ~~ 18.9
\text{True} ~~ \textit{true} <> \text{5} ~~ 5 ~~ x = 5\text{ cm} ~~ £5 <> \text{five} <> \text{yes} <> \text{yes or no} <> 5 \text{ cm}, 6 <> 5 \text{ mod } 7
\displaystyle\frac12 ~~ \frac12 ~~ \text{$\frac12$} ~~ {\frac{1}{2}} <> \displaystyle\frac13 <> 3\cdot 4 ~~ 3×4 ~~ 3\times 4 ~~ 3·4 <> \frac{1}{2
4e-7 ~~ 0.0000004 <> x₁ <> x₂ <> 5 <> 5'' <> 3n+5m² <> 3n+5 <> 2e+3 <> 2000 <> 2e-7 <> 2e-8 <> 20\% <> 20\% \text{ increase} <> 20\% \text{ decrease}
\left( 1,2 \right) ~~ (1,2) ~~ \big(1,\,2\big) <> 3\cdot4 ~~ 12 <> 34 <> $1$,$2$ <> \text{Monday} ~~ \textbf{Monday} <> \text{not Monday} <> 6 \text{ ways} ~~ 6
5 \text{ square inches} ~~ 5 <> 5 \text{ below zero} <> 15 \text{ people} ~~ 15 <> $\text{(C)}$ ~~ C <> \boxed{5} \boxed{6} <> (5 <> 0.333 <> 0.333...
16 ~~ 2⁴ <> 24 <> 8 <> 1024 ~~ 2¹⁰ <> 20 <> 864 \mbox{ inches}^2 ~~ 864\text{ in}^2 <> 1,2 ~~ \begin{array}{l}1,2\\\end{array} <> 5 <> 5 + ? <> x \le 5 ~~ x ≤ 5
300 \text{ profit} <> 300 \text{ loss} <> \text{No} ~~ no <> 5 <> \text{(A) } 5 <> n \text{ even} <> n \text{ odd} <> n <> 9.8\,\mathrm{m}/\mathrm{s}^2 ~~ 9.8
\frac13 \textbf{ meters} ~~ \frac13 <> 5 \text{ higher} <> 5 \text{ lower} <> 3e-12 ~~ 3\times10^{-12} <> 3e - 12 <> 20 \text{ men} <> 20 \text{ women}
5 \text{ (max)} <> 5 \text{ (min)} <> 40\text{ north} <> 40\text{ south} <> 3 \text{ times} <> 3 \text{ over} <> 45 \text{ sec} ~~ 45 sec ~~ 45 <> 1000 ~~ 1 000
10 \text{ AM} <> 10 \text{ PM} <> 14 {,} 916 ~~ 14916 <> 14, 916 <> 5 \text{ BC} <> 5 \text{ AD} <> 25\% ~~ 25 <> 0.25 <> 52\% <> 5 \text{ light-years} ~~ 5
1234567 ~~ 1{,} 234{,} 567 <> 3.14 ~~ "3.14" <> "5 <> 5 <> 0.00005 ~~ 5e-05 <> 5e-04 <> 5.4 \text{ cents} ~~ 5.4 <> 7 \text{ clockwise} <> 7 <> x_1+x_2 ~~ x₁+x₂
5 \text{ per cent} ~~ 5 <> 10 \mathrm{cm}^2 ~~ 10 <> k \text{ integer} <> k <> 2\cdot10^{20} ~~ 2e+20 <> x \quad + \; 1 ~~ x+1 <> 90^{\circ} ~~ 90°
\text{Yes} ~~ yes <> 180 (days) ~~ 180 <> 62.5% ~~ 62.5\% <> (1,2) ~~ (1,2),
# what a policy might exploit
\begin{cases}x&x>0\\1&x\le0\end{cases} ~~ \begin{cases}x,&\text{if }x>0\\1,&\text{if }x\le0\end{cases} <> \begin{cases}1&x>0\\x&x\le0\end{cases} <> ww^T <> w^Tw
|\vec a|=3 ~~ 3 ~~ 3\text{ ordered triples} <> 3 \text{ right} <> 3m/s <> \vec a\times(\vec b\times\vec c) <> (\vec a\times\vec b)\times\vec c <> c>b>a <> c>d>a
x=\frac{\pi}{3}+2k\pi, k\in\mathbb Z ~~ x=\frac{\pi}{3}+2k\pi <> \lambda_1=2+i,\lambda_2=2-i <> \lambda_1=5+i,\lambda_2=5-i <> (11,7)or(7,11) ~~ (7,11),\ (11,7)
\mathbf{i}\times\mathbf{j} <> \mathbf{j}\times\mathbf{i} <> 5 ~~ 5 \text{ divisors} ~~ 5\,\mathrm{J}\cdot\mathrm{s} <> \vec u\times\vec w <> \vec w\times\vec u
x=\frac{1\pm i\sqrt3}{2} <> x=\frac{-1\pm i\sqrt3}{2} <> \text{width}=5\text{ cm} <> \text{height}=5\text{ cm} <> $Q(50)=47.5$ (pounds) <> $Q(51)=47.5$ (pounds)
12 ~~ 12\text{ distinct prime factors} ~~ \lcm(4,6) <> \gcd(12,18) ~~ 6 <> \max(2,3) ~~ 3 <> \max(x,0) <> x <> x=k\pi, k\in\mathbb{Z} <> x=k\pi, k\in\mathbb{N}
y=\sqrt{x-9} ~~ y-\sqrt{x-9}=0 <> y=\sqrt{x-11} <> f^{-1}(x)=\sqrt{x-4} <> f^{-1}(x)=-\sqrt{x-4} <> (abs(x)^(1/3)/abs(x))^(1/2) ~~ 1/abs(x)^(1/3) <> E[X]=7 ~~ 7
\hat{x}\times\hat{y} <> \hat{y}\times\hat{x} <> y=\frac{1}{\sqrt{1-x^2}} ~~ y=(1-x^2)^{-1/2} <> \cos\frac{n\pi}{2} <> -\cos^2\frac{n\pi}{2} <> x \ne 2 <> y\ne 2
\angle ABC=30^\circ <> \angle ACB=30^\circ <> \sin\frac{k\pi}{3} <> \frac{\sqrt3}{2} <> \frac{d\theta}{dt} <> \frac{\theta}{t} <> y=\ln(x-1)+C <> y=\ln(x-1)-C
\frac{\Delta y}{\Delta x} <> \frac yx <> 23 {, }456 ~~ 23456 <> a=2+3i <> a=7i <> \neg p\land\neg q <> \neg p\lor\neg q <> (p\lor q)\land r <> (p\land q)\land r
p \land q \land r <> p \lor q \lor r <> \sum_{k=1}^{10}k <> \sum_{k=1}^{11}k <> \text{DNE} ~~ \text{does not exist} <> x=2\pm i ~~ x=2+i\text{ or }x=2-i
\cos\alpha=0.8 <> \sin\alpha=0.8 <> y=\arcsin(x+9) <> y=\arcsin(x+8) <> p\Rightarrow q <> q\Rightarrow p <> x\frac{d}{dx}f <> f\frac{d}{dx}x <> P(3,4) <> Q(3,4)
x_{1}=2,\quad x_{2}=-1 ~~ -1, 2 <> \frac{C_6^4}{C_6^2} <> C_6^2 <> e^{in\pi/2} <> e^{-in\pi/2} <> x>1 ~~ 2<2*x <> c>d ~~ d<c <> x^2+C <> x^2+x <> x^2+c^2
x=y=2 ~~ x=2,y=2 ~~ (2,2) <> P(X=2)=\frac12 ~~ \frac12 <> \frac{dV}{dt}=2t ~~ 2t <> \sin x+C ~~ \sin x + K <> z = 2 + i <> z = 2 - i <> \sqrt{u^2-4u+4} <> 2-u
|x|+|x-50| <> |x|+50-x <> 3\text{ m/s} ~~ 3 m/s <> \sqrt{(t-3)^2} <> 3-t <> (12)(13) <> (13)(12) <> S^1\times S^1 <> S^2 <> |x-6|+|x-7| <> 13-2x <> P_6^3 ~~ 120
x=5\text{ cm} <> y=5 <> H_2SO_4 <> SH_2O_4 <> C_5^2 C_5^3 ~~ 100 <> x != 3 ~~ x\ne 3 <> r=2,3 <> s=2,3 <> A_7^3 <> C_7^3 <> |x-5| ~~ |5-x| <> 1<x<5 <> 1<y<5
x+y>1 <> x+y>2 <> i^k <> (-i)^k <> xyx^{-1} <> y <> A ~~ Option A <> |t-8| <> 8-t <> |x-7| <> 7-x <> u^Tv <> vu^T <> 2x>6 <> x>6 <> bac <> abc <> 25 ~~ 25kg
"""

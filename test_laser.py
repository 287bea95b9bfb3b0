"""Each test holds an equation or a promise against something independent of the code: a closed form, a brute force, a
second path, an undisturbed run. Names are test_<function>__<promise>, so `pytest -k policy_loss` finds that function's
tests; rulers and order are those of laser.py, then verify.py; tables of data stand at the bottom.

    equation (paper)                                        function of laser.py        held by
    r_s = β (log π(z_c|x,y) − c_ref)             3.2        self_reward                 the objective, maximised numerically
    log Z = log(1 + e^c_ref (e^(1/β) − 1))       3.2        log_partition(_now)         the same optimum
    where log π(z_c|x,y) is read                 3.3        sample, score               a float64 pass without cache or padding
    A_v = (r_v − mean) / std                     GRPO       group_advantages            the statistics module
    (1 − τ) A_v + τ A_s                          3.4        mix_advantages              by hand
    min(ρ A, clip(ρ) A)                          PPO        policy_loss, update         by hand; two updates by hand
    w = N/(2 N_c), N/(2 N_i)                     3.3        class_weights               counting
    1/N Σ w (r_s − r_v)²                         eq. 10     self_reward_loss            loops; the gradient of full logits
    F1 of TPR and TNR, AUROC, ECE                4          verification_metrics        pair counting
    Σ clip(r_s, 0, 1) by answer                  3.5        vote                        all subsets, one by one
    AdamW in bfloat16                                       BF16AdamW                   the drift of float32
"""
import dataclasses
import datetime
import gc
import gzip
import importlib.util
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
import types
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import laser
import verify
from laser import Config
from verify import canonical, checkable, equivalent, extract_answer, group, reward

try:
    import resource
except ImportError:  # not on Windows
    resource = None

HERE = Path(__file__).parent
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets limits as only Linux has them")
DATA = HERE.parent / "shared" / "data"
PAD, EOS, EOS2, ZC, V = 0, 1, 2, 3, 24
torch.set_num_threads(2)  # as in the subprocesses: the number of threads decides how sums are rounded


def tiny_model(kind="qwen2", pad=PAD, seed=0, vocabulary=V):
    """A random model, sharp enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config, model = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[kind]
    return model(config(vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=pad,
                        eos_token_id=EOS, bos_token_id=None, initializer_range=0.3, attn_implementation="laser")).eval()


PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]


def draw(model, group_size=4, T=12, seed=0, prompts=PROMPTS, **options):
    u = laser.uniforms(len(prompts) * group_size, T, "test", seed)
    return laser.sample(model, prompts, group_size, u, options.pop("eos_ids", [EOS]), ZC, **options)


def repeated(prompts, group_size):
    return [p for p in prompts for _ in range(group_size)]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request):
    return tiny_model(request.param)


# ------------------------------------------------------------------------------------------------------- whole runs

FAST = ["--warm_start_steps", "20", "--steps", "4", "--prompts_per_step", "4", "--group_size", "4", "--eval_n", "2", "--save_every", "2",
        "--reasoning_warmup", "1", "--self_reward_warmup", "1", "--eval_every", "0"]


def run(*arguments, timeout=200, processes=1, program=HERE / "laser.py", **variables):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(2 // processes), "CUDA_VISIBLE_DEVICES": "", **variables}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    return subprocess.run([sys.executable, *launcher, str(program), *map(str, arguments)], cwd=HERE, capture_output=True, text=True,
                          timeout=timeout, env=environment)


def here(*arguments):
    """The same as `run` in this process: the exit code."""
    return laser.main([str(x) for x in arguments])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(rows):
    changing = ("seconds", "per_s", "memory")
    return [{k: v for k, v in row.items() if not any(c in k for c in changing)} for row in rows]


def same_weights(a, b):
    a, b = (AutoModelForCausalLM.from_pretrained(x / "checkpoint").state_dict() for x in (a, b))
    return all(torch.equal(a[k], b[k]) for k in a)


METRICS = """step reward reward_std self_reward_loss policy_loss grad_norm lr clip_fraction response_tokens complete f1 tpr tnr auroc
    logp_zc_right logp_zc_wrong log_z ece brier entropy equal_groups kl seconds sample_seconds verify_seconds train_seconds sample_tokens_per_s
    train_tokens_per_s logp_mismatch""".split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(*FAST, "--eval-every", "3", "--out", out)


# -------------------------------------------------------------------------------------- the run and its steps


@pytest.fixture
def given(monkeypatch):
    """Four known solutions of one problem, sampled by a model that knows 100 tokens: right, cut, right but in two boxes, wrong."""
    model, tokenizer = tiny_model(vocabulary=100), laser.character_tokenizer()
    texts = ["5+9=14\\boxed{5,9}", "5+9=14\\boxed{5,9}", "\\boxed{5,9}\\boxed{5,9}", "2+5=7\\boxed{2,5}"]
    responses = [tokenizer(text)["input_ids"] + [EOS] * (i != 1) for i, text in enumerate(texts)]
    row = {"problem": "2 5 9 1:14=", "answer": "5,9", "prompt": tokenizer("2 5 9 1:14=")["input_ids"]}
    logps, logp_zc = laser.score(model, [row["prompt"]] * 4, responses, 99, Config())
    complete = torch.tensor([True, False, True, True])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in responses], batch_first=True)
    solutions = laser.Solutions(tokens, logps, torch.tensor([len(r) for r in responses]), complete, torch.where(complete, logp_zc, -torch.inf))
    seen = []
    monkeypatch.setattr(laser, "sample_together", lambda policy, prompts, group_size, u, config: seen.append(u) or solutions)
    return laser.Policy(model, tokenizer, [EOS], 99, -4.0), row, solutions, responses, seen


def test_training_step__rewards_strictly_and_reads_the_reference_it_is_given(given):
    policy, row, solutions, responses, seen = given
    reference, optimizer = tiny_model(seed=1, vocabulary=100), torch.optim.SGD(policy.model.parameters(), lr=0.0)
    _, exact = laser.score(reference, [row["prompt"]] * 4, responses, 99, Config())
    for step, seed, options, c_ref in ((0, 0, {}, torch.full((4,), -4.0)), (1, 0, {}, torch.full((4,), -4.0)),
                                       (0, 1, {"exact_reference": True}, exact)):
        config = Config(group_size=4, seed=seed, reasoning_warmup=0, beta=0.2, **options)
        line, rollouts = laser.training_step(policy, optimizer, [row], step, config, reference if options else None)
        assert [reward for _, _, reward, _ in rollouts] == [1, 0, 0, 0] and line["reward"] == 0.25 and line["complete"] == 0.75
        r = [0.2 * (solutions.logp_zc[i] - c_ref[i]).item() for i in range(4)]
        assert line["self_reward_loss"] == pytest.approx((r[0] - 1) ** 2 / 2 + (r[2] ** 2 + r[3] ** 2) / 4, rel=1e-4)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))  # each step and each seed has its own draws


def test_schedule__holds_back_the_loss_then_the_integration(tmp_path, monkeypatch):
    update, mix, alphas, mixed = laser.update, laser.mix_advantages, [], []
    monkeypatch.setattr(laser, "update", lambda *a: alphas.append(a[3]) or update(*a))
    monkeypatch.setattr(laser, "mix_advantages", lambda *a: mixed.append((len(alphas), a[4])) or mix(*a))
    assert here(*FAST, "--warm_start_steps", 0, "--c_ref", -8, "--steps", 5, "--reasoning_warmup", 1, "--self_reward_warmup", 2,
                "--alpha", 0.3, "--tau", 0.2, "--out", tmp_path / "s") == 0
    assert alphas == [0, 0.3, 0.3, 0.3, 0.3] and mixed == [(3, 0.2), (4, 0.2)]


def test_problems_of_step__draws_every_problem_once_an_epoch_and_needs_no_history():
    problems, config = list(range(10)), Config(prompts_per_step=4)
    drawn = [laser.problems_of_step(problems, step, config) for step in range(5)]
    assert sorted(sum(drawn, [])[:10]) == problems == sorted(sum(drawn, [])[10:])
    assert laser.problems_of_step(problems, 3, config) == drawn[3] and sum(drawn, [])[:10] != sum(drawn, [])[10:]


@pytest.mark.parametrize("first, steps, stop_in, expected", [
    (0, 5, None, "eval 0, step 0, step 1, save 2, step 2, eval 3, step 3, save 4, step 4, save 5, eval 5, table, finish"),
    (2, 4, None, "step 2, eval 3, step 3, save 4, eval 4, table, finish"),  # resumed; what is saved already is not saved again
    (0, 5, 2, "eval 0, step 0, step 1, save 2, step 2, eval 3, save 3, finish"),  # asked to stop in step 2: the step ends, then it is saved
    (4, 4, None, "eval 4, table, finish"),
])
def test_train__evaluates_and_saves_when_it_should(first, steps, stop_in, expected, monkeypatch):
    events, stop, problems = [], [], [object() for _ in range(9)]
    going = types.SimpleNamespace(first_step=first, saved_step=first, policy="policy", optimizer="optimizer", reference="reference", problems=problems, results=["row"])

    def training_step(policy, optimizer, rows, step, config, reference):
        assert (policy, optimizer, reference) == ("policy", "optimizer", "reference") and rows == laser.problems_of_step(problems, step, config)
        events.append(f"step {step}")
        stop.extend([signal.SIGTERM] * (step == stop_in))
        return {"step": step + 1}, []

    monkeypatch.setattr(laser, "training_step", training_step)
    monkeypatch.setattr(laser, "evaluate", lambda run, step, config, stop: events.append(f"eval {step}"))
    monkeypatch.setattr(laser, "save", lambda run, step, config: events.append(f"save {step}"))
    monkeypatch.setattr(laser, "print_table", lambda rows: events.append("table"))
    monkeypatch.setattr(laser, "finish", lambda run: events.append("finish"))
    monkeypatch.setattr(laser, "log", lambda *_: None)
    monkeypatch.setattr(laser, "show", lambda *_: None)
    assert laser.train(going, Config(steps=steps, save_every=2, eval_every=3, prompts_per_step=2), stop) == ["row"]
    assert ", ".join(events) == expected


def test_training_step__hands_the_update_each_solution_with_its_own_problem(monkeypatch):
    """Three problems, four solutions each: all that `update` gets must follow, row by row, from what was drawn."""
    tokenizer, reference = laser.character_tokenizer(), tiny_model(seed=1, vocabulary=100)
    policy = laser.Policy(tiny_model(vocabulary=100), tokenizer, [EOS, *range(10, 40)], 99, -7.0)
    problems = [{"problem": p, "answer": f"gold of {p}", "prompt": tokenizer(p)["input_ids"]} for p in ("1+1=", "2", "3*3*3=")]
    prompts, sample, drawn, asked, got = repeated([row["prompt"] for row in problems], 4), laser.sample_together, [], [], []
    monkeypatch.setattr(laser, "sample_together", lambda *a: drawn.append((a[3], sample(*a))) or drawn[-1][1])
    monkeypatch.setattr(laser, "reward", lambda text, gold, strict: asked.append((text, gold)) or float(len(asked) % 3 == 0))
    monkeypatch.setattr(laser, "update", lambda policy, optimizer, batch, alpha, config: got.append((batch, alpha)) or {})
    config = Config(alpha=0.6, tau=0.3, reasoning_warmup=2, self_reward_warmup=3, beta=0.3, group_size=4, max_response_tokens=4, kl=0.1,
                    balanced=False, min_std=0.25)
    for step, alpha, tau in ((1, 0, 0), (2, 0.6, 0), (4, 0.6, 0), (5, 0.6, 0.3)):
        asked.clear()
        figures, rollouts = laser.training_step(policy, None, problems, step, config, reference)
        (u, solutions), (batch, got_alpha) = drawn[-1], got[-1]
        responses, complete = solutions.responses(), solutions.complete
        assert len(set(u[:, 0].tolist())) == 12 and complete.any() and not complete.all()
        assert asked == [(tokenizer.decode(r, skip_special_tokens=True), row["answer"]) for r, row in zip(responses, repeated(problems, 4))]
        assert batch.prompts == prompts and batch.responses == responses and [row for row, *_ in rollouts] == repeated(problems, 4)
        rewards, self_rewards = (torch.arange(12) % 3 == 2).float() * complete, 0.3 * (solutions.logp_zc + 7)
        ref_logps, _ = laser.score(reference, prompts, responses, 99, config)
        told_apart = torch.where(complete, self_rewards.clamp(0, 1), 0).view(3, 4).std(1) > 0.25
        mixed = laser.mix_advantages(laser.group_advantages(rewards, 4), self_rewards, complete, 4, tau, 0.25)
        assert not tau or told_apart.any() and not told_apart.all()
        assert torch.equal(batch.rewards, rewards) and torch.allclose(batch.advantages, mixed) and got_alpha == alpha and figures["step"] == step + 1
        assert torch.equal(batch.weights, complete.float()) and torch.equal(batch.c_ref, torch.full((12,), -7.0))
        assert torch.allclose(batch.ref_logps, ref_logps) and torch.equal(batch.mask, torch.arange(batch.mask.size(1)) < solutions.lengths[:, None])


def test_schedule__by_hand():
    config = Config(alpha=0.3, tau=0.2, reasoning_warmup=2, self_reward_warmup=3)
    assert [laser.schedule(step, config) for step in range(7)] == [(0, 0)] * 2 + [(0.3, 0)] * 3 + [(0.3, 0.2)] * 2
    assert laser.schedule(9, dataclasses.replace(config, alpha=0.0)) == (0, 0)  # what is never learnt has no say


# --------------------------------------------------------------------------------------------------- sampling


def full_forward(model, prompt, response):
    """Logits (len(response) + 1, V) in float64 that predict the response and what follows it: transformers, no cache, no padding."""
    with torch.no_grad():
        return model.double()(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 :]


def test_sample__agrees_with_a_teacher_forced_float64_forward(model):
    solutions = draw(model, T=10)
    reference = tiny_model(model.config.model_type)
    assert solutions.complete.any() and not solutions.complete.all()
    for i, (prompt, response) in enumerate(zip(repeated(PROMPTS, 4), solutions.responses())):
        logp = full_forward(reference, prompt, response).log_softmax(-1)
        expected = logp[range(len(response)), response]
        assert torch.allclose(solutions.logps[i, : len(response)].double(), expected, atol=1e-4)
        assert bool(solutions.complete[i]) == (response[-1] == EOS) and EOS not in response[:-1]
        assert len(response) == 10 or response[-1] == EOS
        if solutions.complete[i]:  # z_c is what would follow EOS
            assert solutions.logp_zc[i].item() == pytest.approx(logp[len(response), ZC].item(), abs=1e-4)
        else:
            assert solutions.logp_zc[i] == -math.inf


def test_sample__greedy_equals_generate(model):
    solutions = draw(model, group_size=1, T=12, temperature=0)
    for prompt, response in zip(PROMPTS, solutions.responses()):
        expected = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False)
        assert response == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("max_rows", [1, 3, 5, 100])
def test_sample__is_the_same_whatever_runs_beside_it(model, max_rows):
    expected, got = draw(model, max_rows=16), draw(model, max_rows=max_rows)
    assert got.responses() == expected.responses() and torch.equal(got.complete, expected.complete)
    assert torch.allclose(got.logps, expected.logps, atol=1e-5) and torch.allclose(got.logp_zc, expected.logp_zc, atol=1e-5)


def test_sample__is_the_same_however_long_finished_rows_linger(model, monkeypatch):
    """As on a GPU, where who has finished is looked at now and then: rows cut at T linger, with no slot left in the cache."""
    alone = draw(model, max_rows=3)
    monkeypatch.setattr(laser, "PATIENCE", {})
    lingering = draw(model, max_rows=3)
    assert not alone.complete.all() and torch.equal(alone.tokens, lingering.tokens) and torch.equal(alone.lengths, lingering.lengths)
    assert torch.allclose(alone.logps, lingering.logps, atol=1e-5) and torch.allclose(alone.logp_zc, lingering.logp_zc, atol=1e-5)


def test_sample__second_half_of_the_problems_alone_gives_the_same(model):
    u = laser.uniforms(16, 12, "test", 0)
    both, half = laser.sample(model, PROMPTS, 4, u, [EOS], ZC), laser.sample(model, PROMPTS[2:], 4, u[8:], [EOS], ZC)
    assert both.responses()[8:] == half.responses()


def test_sample__every_eos_ends_a_solution_and_z_c_is_read_after_it(model):
    solutions = draw(model, eos_ids=[EOS, EOS2], group_size=16, T=20)
    ends = {r[-1] for r, done in zip(solutions.responses(), solutions.complete) if done}
    assert ends == {EOS, EOS2}
    assert not any({EOS, EOS2} & set(r[:-1]) for r in solutions.responses())
    _, logp_zc = laser.score(model, repeated(PROMPTS, 16), solutions.responses(), ZC, Config())
    assert torch.allclose(solutions.logp_zc[solutions.complete], logp_zc[solutions.complete], atol=1e-4)


def test_sample__has_the_frequencies_of_the_softmax(model):
    n = 5000  # u on a grid hits every token n·p times, give or take one
    u = (torch.arange(n)[:, None] + 0.5) / n
    solutions = laser.sample(model, [PROMPTS[0]], n, u, [EOS], ZC, temperature=0.8)
    logits = full_forward(tiny_model(model.config.model_type), PROMPTS[0], [])[0]
    counts = torch.bincount(solutions.tokens[:, 0], minlength=V)
    assert (counts - n * (logits / 0.8).softmax(-1)).abs().max() <= 1.001


def test_sample__is_complete_if_its_last_token_allowed_is_eos():
    solutions = draw(tiny_model(), group_size=32, T=3)
    ends = [response[-1] == EOS for response in solutions.responses()]
    assert solutions.complete.tolist() == ends and solutions.logp_zc.isfinite().tolist() == ends
    assert any(end and length == 3 for end, length in zip(ends, solutions.lengths.tolist())) and not all(ends)


def test_uniforms__differ_by_stream_and_never_are_zero():
    a, b = laser.uniforms(50, 50, "train", 0, 1), laser.uniforms(50, 50, "train", 0, 2)
    assert torch.equal(a, laser.uniforms(50, 50, "train", 0, 1)) and not torch.equal(a, b)
    assert a.min() > 0 and a.max() <= 1


@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_sample__logs_the_tempered_policy_and_the_untempered_grade(model, temperature):
    solutions, reference = draw(model, temperature=temperature), tiny_model(model.config.model_type)
    assert solutions.complete.any()
    for i, (prompt, response) in enumerate(zip(repeated(PROMPTS, 4), solutions.responses())):
        logits = full_forward(reference, prompt, response)
        expected = (logits / temperature).log_softmax(-1)[range(len(response)), response]
        assert torch.allclose(solutions.logps[i, : len(response)].double(), expected, atol=1e-4)
        if solutions.complete[i]:
            assert solutions.logp_zc[i].item() == pytest.approx(logits.log_softmax(-1)[-1, ZC].item(), abs=1e-4)


def test_sample__token_t_of_solution_i_is_the_inverse_cdf_at_u_i_t(model):
    """A float64 pass over what was drawn: the cumulative probability reaches u[i, t] at the token, and not before it."""
    u, solutions, reference = laser.uniforms(16, 12, "test", 0), draw(model, max_rows=3), tiny_model(model.config.model_type)
    for i, (prompt, response) in enumerate(zip(repeated(PROMPTS, 4), solutions.responses())):
        cdf = full_forward(reference, prompt, response).softmax(-1).cumsum(-1)
        for t, y in enumerate(response):
            assert (cdf[t, y - 1] if y else 0) - 1e-4 < u[i, t] <= cdf[t, y] + 1e-4


@pytest.mark.parametrize("max_rows", [1, 5, 8])
def test_sample__takes_one_step_a_token_and_one_more_after_eos_within_the_rows_allowed(max_rows):
    """While eight rows or fewer run, one that has finished is an eighth of them: it leaves at once."""
    counted = []
    solutions = draw(tiny_model(), max_rows=max_rows, on_step=counted.append)
    assert solutions.complete.any() and not solutions.complete.all()
    assert sum(counted) == (solutions.lengths + solutions.complete).sum() and max(counted) == max_rows


def test_prefill__runs_a_prompt_once_and_no_more_prompts_than_a_pass_holds():
    passes, extended = [], []

    def base_model(input_ids, **_):  # the hidden state of a token is the token
        passes.append(tuple(input_ids.shape))
        return types.SimpleNamespace(last_hidden_state=input_ids[..., None])

    stub = types.SimpleNamespace(device="cpu", base_model=base_model, get_output_embeddings=lambda: lambda hidden: hidden)
    cache = types.SimpleNamespace(extend=lambda filled, rows: extended.append(rows.tolist()))
    prompts = [[1] * 9000, [2] * 10, [3, 4], [5] * 20000, [6] * 40000]
    for waiting, shape, solutions in ((range(0, 4), (2, 9000), [0, 1, 2, 3]), (range(1, 6), (3, 9000), [1, 2, 3, 4, 5]),
                                      (range(2, 8), (1, 10), [2, 3]), (range(5, 10), (1, 2), [5]), (range(9, 10), (1, 40000), [9])):
        rows, logits = laser.prefill(stub, cache, prompts, 2, waiting)
        mine = [prompts[i // 2] for i in solutions]
        assert passes[-1] == shape and rows.solution.tolist() == solutions and extended[-1] == [i // 2 - waiting[0] // 2 for i in solutions]
        assert rows.position.tolist() == [len(p) - 1 for p in mine] and logits.squeeze(1).tolist() == [p[-1] for p in mine]


def test_draw__at_the_ends_of_the_distribution():
    logp = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).log()
    for u, token in ((1e-7, 1), (0.25, 1), (0.2500001, 3), (1.0, 3)):  # the first token that reaches u
        drawn, drawn_logp = laser.draw(logp, torch.tensor([u]), 1.0)
        assert drawn.tolist() == [token] and drawn_logp[0] == logp[0, token]
    short = torch.tensor([[0.3, 0.3, 0.0]]).log()  # rounding may leave a sum below 1: even then no token of probability 0
    assert laser.draw(short, torch.ones(1), 1.0)[0].tolist() == [1]


# -------------------------------------------------------------------------- log-probabilities and self-reward


def test_score__agrees_with_a_teacher_forced_float64_forward(model):
    solutions = draw(model)
    prompts, responses = repeated(PROMPTS, 4), solutions.responses()
    logps, logp_zc = laser.score(model, prompts, responses, ZC, Config(temperature=0.7, micro_batch_tokens=40))
    reference = tiny_model(model.config.model_type)
    for i, (prompt, response) in enumerate(zip(prompts, responses)):
        logits = full_forward(reference, prompt, response)
        expected = (logits / 0.7).log_softmax(-1)[range(len(response)), response]
        assert torch.allclose(logps[i, : len(response)].double(), expected, atol=1e-4)
        assert (logps[i, len(response) :] == 0).all()
        # the grade is read at temperature 1 whatever the policy's temperature
        assert logp_zc[i].item() == pytest.approx(logits.log_softmax(-1)[len(response), ZC].item(), abs=1e-4)


def optimum_of_verification(logp_ref, token, beta):
    """π maximising E[1(z = token)] − β KL(π ‖ π_ref), found by gradient ascent on logits: the problem as the paper states it."""
    logits = logp_ref.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=5000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        value = -(logp.exp()[token] - beta * (logp.exp() * (logp - logp_ref)).sum())
        value.backward()
        return value

    optimizer.step(loss)
    return logits.detach().log_softmax(-1)


@pytest.mark.parametrize("logit, beta", [(-6.0, 0.5), (-8.0, 0.25), (-3.0, 1.0)])
def test_self_reward__is_the_closed_form_of_the_regularised_objective(logit, beta):
    logp_ref = torch.tensor([0.3, -0.2, logit, 0.9, 0.1], dtype=torch.float64).log_softmax(-1)
    optimum, c_ref = optimum_of_verification(logp_ref, 2, beta), logp_ref[2].item()
    log_z = laser.log_partition(c_ref, beta)
    # r̂ = β log(π*/π_ref) + β log Z = 1 exactly; the self-reward leaves β log Z out
    assert laser.self_reward(optimum[2], c_ref, beta).item() + beta * log_z == pytest.approx(1, abs=1e-4)
    # and the same Z can be read off the trained policy
    assert laser.log_partition_now(optimum[2:3], beta).item() == pytest.approx(log_z, abs=1e-4)


def test_self_reward__breaks_down_where_the_partition_function_is_not_one():
    logp_ref = torch.tensor([0.0, 0.0, -8.0], dtype=torch.float64).log_softmax(-1)
    c_ref = logp_ref[2].item()
    small, large = (laser.self_reward(optimum_of_verification(logp_ref, 2, beta)[2], c_ref, beta).item() for beta in (0.25, 0.1))
    assert small > 0.99 and large < 0.9  # at β = 0.1 a right answer would need π(z_c) = e^(-8.7 + 10) > 1
    assert laser.log_partition(c_ref, 0.25) < 0.05 < 1 < laser.log_partition(c_ref, 0.1)


def test_log_partition__by_hand():
    assert laser.log_partition(-23, 0.1) == pytest.approx(math.exp(-13), rel=1e-3)  # the paper's setting: 2e-6
    assert laser.log_partition(-2, 0.5) == pytest.approx(math.log(1 + math.exp(-2) * (math.exp(2) - 1)), rel=1e-12)
    assert laser.log_partition(-23, 1e-3) == pytest.approx(977, rel=1e-6)  # e^1000 must not overflow


def test_score__of_a_greedy_policy_is_read_at_temperature_one():
    model, solutions = tiny_model(), draw(tiny_model())
    greedy, one = (laser.score(model, repeated(PROMPTS, 4), solutions.responses(), ZC, Config(temperature=t)) for t in (0.0, 1.0))
    assert all(map(torch.equal, greedy, one))


def test_self_reward_of__is_the_probability_of_z_c_under_cross_entropy():
    logp_zc = torch.tensor([-0.5, -3.0, -torch.inf])
    assert laser.self_reward_of(logp_zc, -4.0, Config(beta=0.2)).tolist() == pytest.approx([0.7, 0.2, -math.inf])
    assert laser.self_reward_of(logp_zc, -4.0, Config(self_loss="ce")).tolist() == pytest.approx([math.exp(-0.5), math.exp(-3), 0])


# -------------------------------------------------------------------------------------- advantages and losses


def test_group_advantages__against_the_statistics_module():
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 1, 0.5, 0.25, 0, 0, 0, 0])
    for got, group in zip(laser.group_advantages(rewards, 4).view(-1, 4).tolist(), rewards.view(-1, 4).tolist()):
        expected = [(r - statistics.mean(group)) / (statistics.stdev(group) + 1e-6) for r in group]
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_mix_advantages__by_hand():
    advantages = torch.tensor([1.0, -1, 0, 0, 2, -2])
    self_rewards = torch.tensor([3.0, -5, 0.52, 0.5, 0.2, 0.9])  # clipped: 1, 0 | 0.52, 0.5 | 0.2, cut → 0
    complete = torch.tensor([True, True, True, True, True, False])
    got = laser.mix_advantages(advantages, self_rewards, complete, 2, tau=0.25, min_std=0.1)
    a = math.sqrt(0.5)  # a pair x, y normalises to ±1/√2
    assert got.tolist() == pytest.approx([0.75 + 0.25 * a, -0.75 - 0.25 * a, 0, 0, 1.5 + 0.25 * a, -1.5 - 0.25 * a], rel=1e-4)
    assert torch.equal(laser.mix_advantages(advantages, self_rewards, complete, 2, 0.0, 0.0), advantages)
    three = laser.mix_advantages(torch.zeros(3), torch.tensor([3.0, 0.5, -5]), torch.ones(3).bool(), 3, 1.0, 0.1)  # clipped: 1, 0.5, 0
    assert three.tolist() == pytest.approx([1, 0, -1], abs=1e-4)


def test_policy_loss__clips_by_hand():
    old = torch.zeros(3, 2)
    ratio = torch.tensor([[1.5, 0.5], [1.5, 0.5], [1.1, 99.0]])
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    advantages = torch.tensor([2.0, -3.0, 1.0])
    got = laser.policy_loss(ratio.log(), old, advantages, mask, clip_low=0.2, clip_high=0.3, total=5)
    # min(ρA, clip(ρ)A): gains capped at 1.3 for A > 0; losses floored at 0.8 for A < 0, never capped
    assert got.item() == pytest.approx(-((1.3 + 0.5) * 2 - (1.5 + 0.8) * 3 + 1.1) / 5, rel=1e-5)


def test_policy_loss__gradient_at_ratio_one_is_advantage_times_the_score():
    logps = torch.randn(3, 5, requires_grad=True)
    advantages, mask = torch.tensor([1.0, -2.0, 0.5]), torch.arange(5) < torch.tensor([[5], [2], [1]])
    laser.policy_loss(logps, logps.detach(), advantages, mask, 0.2, 0.2, 8).backward()
    assert torch.allclose(logps.grad, -advantages[:, None] * mask / 8)


@pytest.mark.parametrize("balanced", [True, False])
def test_class_weights__by_counting(balanced):
    generator = torch.Generator().manual_seed(0)
    rewards, complete = (torch.rand(40, generator=generator) < 0.3).float(), torch.rand(40, generator=generator) < 0.8
    got = laser.class_weights(rewards, complete, balanced)
    kept = [i for i in range(40) if complete[i]]
    of_class = {r: sum(rewards[i].item() == r for i in kept) for r in (0.0, 1.0)}
    expected = [(len(kept) / (2 * of_class[rewards[i].item()]) if balanced else 1.0) * (i in kept) for i in range(40)]
    assert got.tolist() == pytest.approx(expected) and got.sum().item() == pytest.approx(len(kept))
    if balanced:  # each class weighs half
        assert got[rewards == 1].sum().item() == pytest.approx(len(kept) / 2)


def test_class_weights__of_an_empty_class_are_finite():
    for reward, complete in ((1.0, True), (0.0, True), (0.0, False)):
        weights = laser.class_weights(torch.full((6,), reward), torch.full((6,), complete))
        assert weights.tolist() == [0.5 if complete else 0] * 6


@pytest.mark.parametrize("balanced", [True, False])
def test_self_reward_loss__by_brute_force(balanced):
    generator = torch.Generator().manual_seed(0)
    scores, rewards = torch.randn(40, generator=generator) * 2, (torch.rand(40, generator=generator) < 0.3).float()
    complete = torch.rand(40, generator=generator) < 0.8
    kept = [i for i in range(40) if complete[i]]
    right, wrong = [sum(rewards[i] == r for i in kept).item() for r in (1, 0)]
    weights = {1.0: (right + wrong) / (2 * right), 0.0: (right + wrong) / (2 * wrong)} if balanced else {1.0: 1, 0.0: 1}
    expected = sum(weights[rewards[i].item()] * (scores[i] - rewards[i]).item() ** 2 for i in kept) / len(kept)
    assert laser.self_reward_loss(scores, rewards, laser.class_weights(rewards, complete, balanced), len(kept)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reward, complete", [(1.0, True), (0.0, True), (0.0, False)])
def test_self_reward_loss__with_an_empty_class_or_nothing_complete(reward, complete):
    scores = torch.full((6,), -torch.inf if not complete else 0.25, requires_grad=True)
    weights = laser.class_weights(torch.full((6,), reward), torch.full((6,), complete))
    loss = laser.self_reward_loss(scores, torch.full((6,), reward), weights, 6)
    loss.backward()
    # with one class only, that class carries the weight 1/2 of the definition
    assert loss.item() == pytest.approx((0.25 - reward) ** 2 / 2 if complete else 0)
    assert torch.isfinite(scores.grad).all()


def test_self_reward_cross_entropy__against_torch():
    logp_zc = torch.tensor([-0.2, -3.0, -7.0, -torch.inf]).double()
    rewards, complete = torch.tensor([1.0, 0, 1, 0]).double(), torch.tensor([True, True, True, False])
    expected = F.binary_cross_entropy(logp_zc[:3].exp(), rewards[:3], reduction="none")
    got = laser.self_reward_cross_entropy(logp_zc, rewards, laser.class_weights(rewards, complete, balanced=False), 3)
    assert got.item() == pytest.approx(expected.mean().item(), rel=1e-6)


def test_kl_penalty__is_the_divergence_on_average():
    logp, logq = torch.randn(50).double().log_softmax(-1), torch.randn(50).double().log_softmax(-1)
    one = torch.ones(1, 1, dtype=torch.bool)
    k3 = torch.stack([laser.kl_penalty(a.view(1, 1), b.view(1, 1), one, 1) for a, b in zip(logp, logq)])
    assert (logp.exp() * k3).sum().item() == pytest.approx((logp.exp() * (logp - logq)).sum().item(), rel=1e-9)


def test_mix_advantages__of_self_rewards_that_clip_to_the_same_stand_alone():
    advantages, complete = torch.tensor([1.0, -1, 2, -2, 1, -1]), torch.tensor([True] * 5 + [False])
    self_rewards = torch.tensor([3.0, 1.05, 0.4, 0.4, -0.5, 0.9])  # clipped: 1, 1 | equal | 0, cut → 0
    for min_std in (0.0, 0.1):
        assert torch.equal(laser.mix_advantages(advantages, self_rewards, complete, 2, 0.25, min_std), advantages)


def test_policy_loss__and_kl_penalty_take_nothing_from_beyond_the_mask():
    mask = torch.tensor([[True, False, False]])
    for beyond in (200.0, torch.inf, torch.nan):
        logps = torch.tensor([[-1.0, beyond, -1.0]], requires_grad=True)
        other = torch.tensor([[-1.5, 0.0, beyond]])
        policy = laser.policy_loss(logps, other, torch.tensor([2.0]), mask, 0.2, 0.8, 1)
        kl = laser.kl_penalty(logps, other, mask, 1)
        (gradient,) = torch.autograd.grad(policy + kl, logps)
        assert (policy.item(), kl.item()) == pytest.approx((-2 * math.exp(0.5), math.exp(-0.5) + 0.5 - 1))
        assert gradient.tolist()[0] == pytest.approx([-2 * math.exp(0.5) - math.exp(-0.5) + 1, 0, 0])


def test_self_reward_cross_entropy__weighs_by_class_and_stays_finite():
    logp_zc = torch.tensor([-0.2, -3.0, -7.0, 0.0, -torch.inf], requires_grad=True)
    rewards, complete = torch.tensor([1.0, 0, 0, 0, 0]), torch.tensor([True, True, True, False, False])
    weights = laser.class_weights(rewards, complete)
    got = laser.self_reward_cross_entropy(logp_zc, rewards, weights, 3)
    assert got.item() == pytest.approx((0.2 / 2) + sum(-math.log(1 - math.exp(x)) for x in (-3, -7)) / 4, rel=1e-5)
    sure = laser.self_reward_cross_entropy(logp_zc, rewards, torch.tensor([1.0, 1, 1, 1, 0]), 4)  # a wrong one, called right with certainty
    (gradient,) = torch.autograd.grad(sure, logp_zc)
    assert torch.isfinite(sure) and torch.isfinite(gradient).all()


# ------------------------------------------------------------------------------------------------- one update


def brute_force_loss(model, prompts, solutions, rewards, advantages, config, c_ref, alpha):
    """The joint loss of METHOD's section 3 from full logits, one solution at a time, with loops only."""
    policy, tokens, errors = 0.0, 0, {0.0: [], 1.0: []}
    for i, (prompt, response) in enumerate(zip(prompts, solutions.responses())):
        logp = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        for t, y in enumerate(response):
            policy = policy - advantages[i] * logp[len(prompt) - 1 + t, y]
        tokens += len(response)
        if solutions.complete[i]:
            score = config.beta * (logp[len(prompt) + len(response) - 1, ZC] - c_ref)
            errors[rewards[i].item()].append((score - rewards[i]) ** 2)
    classes = [sum(e) / (2 * len(e)) for e in errors.values() if e]
    return policy / tokens + alpha * sum(classes)


def batch_of(solutions, rewards, advantages, config=Config(), c_ref=-4.0, ref_logps=None):
    """What `update` learns from, for PROMPTS with four solutions each."""
    weights = laser.class_weights(rewards, solutions.complete, config.balanced)
    return laser.Batch(repeated(PROMPTS, 4), solutions.responses(), solutions.mask(), solutions.logps, rewards, advantages, weights,
                       torch.full((len(rewards),), c_ref), ref_logps)


def policy_of(model):
    return laser.Policy(model, None, [EOS], ZC, -4.0)


def step_of(model, rewards=None, T=8, **settings):
    config = Config(**{"beta": 0.2, "grad_clip": 1e9, **settings})
    solutions = draw(model, T=T)
    rewards = (torch.arange(16) % 3 == 0).float() if rewards is None else rewards
    advantages = laser.group_advantages(rewards, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    figures = laser.update(policy_of(model), optimizer, batch_of(solutions, rewards, advantages, config), 0.7, config)
    gradient = {k: before[k] - v for k, v in model.state_dict().items()}
    return gradient, figures, (before, solutions, rewards, advantages, config)


@pytest.mark.parametrize("budget", [1, 30, 10**6])
@pytest.mark.parametrize("pad", [PAD, EOS])
def test_update__follows_the_gradient_of_the_joint_loss_however_it_is_cut(budget, pad):
    """Also with pad = EOS, where masks made from token ids would lose EOS's gradient."""
    got, figures, (before, solutions, rewards, advantages, config) = step_of(tiny_model(pad=pad), micro_batch_tokens=budget)
    assert solutions.complete.any() and not solutions.complete.all()
    model = tiny_model(pad=pad)
    brute_force_loss(model, repeated(PROMPTS, 4), solutions, rewards, advantages, config, -4.0, 0.7).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(got[name], parameter.grad, atol=2e-5, rtol=1e-3), name
    assert figures["clip_fraction"] == 0 and figures["logp_mismatch"] < 1e-5
    norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt().item()
    assert figures["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_update__twice_equals_two_updates_by_hand():
    """--updates 2: the second update's ratios are against the log-probabilities of the first, and are clipped."""
    settings = {"beta": 0.2, "clip_low": 0.02, "clip_high": 0.03, "grad_clip": 0.5, "micro_batch_tokens": 60, "updates": 2}
    model, mine = tiny_model(), tiny_model()
    solutions, rewards = draw(model, T=8), (torch.arange(16) % 3 == 0).float()
    advantages, config = laser.group_advantages(rewards, 4), Config(**settings)
    batch = batch_of(solutions, rewards, advantages, config)
    figures = laser.update(policy_of(model), torch.optim.SGD(model.parameters(), lr=0.5), batch, 0.7, config)
    optimizer, old, outside = torch.optim.SGD(mine.parameters(), lr=0.5), None, []
    for _ in range(2):
        logps, errors = [], {0.0: [], 1.0: []}
        for i, (prompt, response) in enumerate(zip(repeated(PROMPTS, 4), solutions.responses())):
            logp = mine(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
            logps.append([logp[len(prompt) - 1 + t, y] for t, y in enumerate(response)])
            if solutions.complete[i]:
                errors[rewards[i].item()].append((0.2 * (logp[-1, ZC] + 4.0) - rewards[i]) ** 2)
        old = [[x.item() for x in row] for row in logps] if old is None else old
        gains = []
        for i, row in enumerate(logps):
            for x, x_old in zip(row, old[i]):
                ratio = (x - x_old).exp()
                gains.append(min(ratio * advantages[i], ratio.clamp(0.98, 1.03) * advantages[i]))
                outside.append(not 0.98 <= ratio <= 1.03)
        loss = -sum(gains) / len(gains) + 0.7 * sum(sum(e) / (2 * len(e)) for e in errors.values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
        optimizer.step()
    assert 0.05 < figures["clip_fraction"] < 0.5 and figures["clip_fraction"] == pytest.approx(statistics.mean(outside), abs=0.01)
    for p, q in zip(model.parameters(), mine.parameters()):
        assert torch.allclose(p, q, atol=2e-5)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_update__of_equal_rewards_is_finite_and_trains_the_self_reward_alone(reward):
    gradient, figures, (_, solutions, *_) = step_of(tiny_model(), rewards=torch.full((16,), reward))
    assert figures["policy_loss"] == pytest.approx(0, abs=1e-6) and figures["self_reward_loss"] > 0
    assert 0 < max(g.abs().max() for g in gradient.values()) < math.inf


def test_update__of_cut_solutions_only_is_finite():
    gradient, figures, (_, solutions, *_) = step_of(tiny_model(seed=3), T=1)
    if solutions.complete.any():
        pytest.fail("choose a seed whose first tokens are never EOS")
    assert figures["self_reward_loss"] == 0 and all(torch.isfinite(g).all() for g in gradient.values())


def test_update__that_is_not_finite_is_refused_before_the_weights_change(monkeypatch):
    model, before = tiny_model(), tiny_model().state_dict()
    monkeypatch.setattr(laser, "self_reward_loss", lambda scores, *_, **__: scores.sum() * torch.inf)
    with pytest.raises(laser.UserError, match="finite"):
        step_of(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    with pytest.raises(laser.UserError, match="finite"):
        draw(model)


def test_update__clips_a_larger_gradient_to_the_norm_allowed():
    gradient, figures, _ = step_of(tiny_model(), grad_clip=0.01)
    norm = sum(g.square().sum() for g in gradient.values()).sqrt().item()
    assert figures["grad_norm"] > 0.1 and norm == pytest.approx(0.01, rel=1e-2)  # logged as it was, applied as it may be


def test_update__kl_draws_the_policy_to_the_reference():
    solutions, config = draw(tiny_model(), T=8), Config(kl=1.0, grad_clip=1e9)
    for reference, apart in ((tiny_model(), False), (tiny_model(seed=1), True)):
        ref_logps, _ = laser.score(reference, repeated(PROMPTS, 4), solutions.responses(), ZC, config)
        model, batch = tiny_model(), batch_of(solutions, torch.zeros(16), torch.zeros(16), config, ref_logps=ref_logps)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        first, second = (laser.update(policy_of(model), optimizer, batch, 0.0, config)["kl"] for _ in range(2))
        assert 0 < second < 0.99 * first if apart else first == pytest.approx(0, abs=1e-6) == second


def test_update__repeated_teaches_the_self_reward():
    """Regression on fixed solutions brings r_s to r_v: 0 for one answer, 1 for another."""
    model = tiny_model()
    solutions = draw(model, T=8)
    rewards = torch.tensor([float(r[0] % 2) for r in solutions.responses()])
    c_ref = solutions.logp_zc[solutions.complete].mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    config = Config(beta=0.25)
    batch = batch_of(solutions, rewards, torch.zeros(16), config, c_ref)
    for _ in range(80):
        figures = laser.update(policy_of(model), optimizer, batch, 1.0, config)
    _, logp_zc = laser.score(model, repeated(PROMPTS, 4), solutions.responses(), ZC, config)
    error = (laser.self_reward(logp_zc, c_ref, 0.25) - rewards)[solutions.complete].abs().max()
    assert figures["self_reward_loss"] < 0.01 and error < 0.3


@pytest.mark.parametrize("settings", [{"self_loss": "ce"}, {"kl": 0.3}, {"balanced": False}, {"temperature": 0.7}], ids=str)
@pytest.mark.parametrize("budget", [30, 10**6])
def test_update__of_every_variant_follows_its_joint_loss_however_it_is_cut(settings, budget):
    """As for the joint loss above, with the loss of each ablation from full logits."""
    config = Config(**{"beta": 0.2, "grad_clip": 1e9, "micro_batch_tokens": budget, **settings})
    model, mine, prompts = tiny_model(), tiny_model(), repeated(PROMPTS, 4)
    solutions, rewards = draw(model, T=8, temperature=config.temperature), (torch.arange(16) % 3 == 0).float()
    ref_logps, _ = laser.score(tiny_model(seed=1), prompts, solutions.responses(), ZC, config)
    advantages = laser.group_advantages(rewards, 4)
    batch = batch_of(solutions, rewards, advantages, config, ref_logps=ref_logps)
    before = {k: v.clone() for k, v in model.named_parameters()}
    figures = laser.update(policy_of(model), torch.optim.SGD(model.parameters(), lr=1.0), batch, 0.7, config)
    policy, kl, losses, tokens = 0.0, 0.0, {0.0: [], 1.0: []}, int(solutions.lengths.sum())
    for i, (prompt, response) in enumerate(zip(prompts, solutions.responses())):
        logits = mine(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 :]
        for t, y in enumerate(response):
            logp = (logits[t] / config.temperature).log_softmax(-1)[y]
            policy, d = policy - advantages[i] * logp, ref_logps[i, t] - logp
            kl = kl + d.exp() - d - 1
        if solutions.complete[i]:
            at_zc, r = logits[-1].log_softmax(-1)[ZC], rewards[i].item()
            losses[r].append(-(at_zc if r else torch.log1p(-at_zc.exp())) if config.self_loss == "ce" else (0.2 * (at_zc + 4) - r) ** 2)
    classes = [sum(x) / (2 * len(x)) for x in losses.values()] if config.balanced else [sum(map(sum, losses.values())) / sum(map(len, losses.values()))]
    (policy / tokens + 0.7 * sum(classes) + config.kl * kl / tokens).backward()
    for name, parameter in mine.named_parameters():
        assert torch.allclose(before[name] - model.get_parameter(name), parameter.grad, atol=2e-5, rtol=1e-3), name
    assert figures["self_reward_loss"] == pytest.approx(sum(classes).item(), rel=1e-4) and figures["logp_mismatch"] < 1e-5
    assert figures["kl"] == pytest.approx(kl.item() / tokens if config.kl else 0, rel=1e-4)


def test_update__watches_what_drew_and_takes_nothing_from_it():
    """Sampler log-probs that are off by 0.3, up and down: the same updates, and the figure says 0.3, however many updates there are."""
    off = torch.where(torch.arange(16 * 8).view(16, 8) % 2 == 0, 0.3, -0.3)
    models, figures, solutions = [tiny_model(), tiny_model()], [], draw(tiny_model(), T=8)
    rewards, config = (torch.arange(16) % 3 == 0).float(), Config(beta=0.2, updates=2, micro_batch_tokens=60)
    for model, error in zip(models, (0.0, off)):
        batch = batch_of(solutions, rewards, laser.group_advantages(rewards, 4), config)._replace(sampler_logps=solutions.logps + error)
        figures.append(laser.update(policy_of(model), torch.optim.SGD(model.parameters(), lr=0.5), batch, 0.7, config))
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    assert figures[0]["logp_mismatch"] < 1e-5 and figures[1]["logp_mismatch"] == pytest.approx(0.3, rel=1e-4)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_update__refuses_a_loss_or_a_gradient_alone_that_is_not_finite(what, monkeypatch):
    model, before = tiny_model(), tiny_model().state_dict()
    if what == "loss":
        monkeypatch.setattr(laser, "self_reward_loss", lambda scores, *_: scores.nan_to_num().sum() * 0 + torch.inf)  # its gradient is 0
    else:
        model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(laser.UserError, match="finite"):
        step_of(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())  # so what comes next begins anew


def test_update__trains_in_training_mode_and_sampling_and_scoring_do_not():
    """Gradient checkpointing works in training mode only, and switches the cache off that sampling needs."""
    model, modes = tiny_model(), []
    model.base_model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    model.train()
    solutions, config = draw(model, T=4), Config()
    assert not any(modes)
    model.train()
    laser.score(model, repeated(PROMPTS, 4), solutions.responses(), ZC, config)
    assert not any(modes)
    modes.clear()
    laser.update(policy_of(model), torch.optim.SGD(model.parameters(), lr=0.0), batch_of(solutions, torch.zeros(16), torch.zeros(16)), 0.7, config)
    assert modes and all(modes)


# ----------------------------------------------------------------------------------- self-verification, votes


def test_verification_metrics__against_pair_counting():
    generator = torch.Generator().manual_seed(2)
    rewards = (torch.rand(60, generator=generator) < 0.4).double()
    scores = ((torch.randn(60, generator=generator) + rewards) * 3).round().double() / 4 + 0.01
    got = laser.verification_metrics(scores, rewards)
    right, wrong = scores[rewards == 1].tolist(), scores[rewards == 0].tolist()
    tpr, tnr = sum(s > 0.5 for s in right) / len(right), sum(s <= 0.5 for s in wrong) / len(wrong)
    auroc = sum((r > w) + (r == w) / 2 for r in right for w in wrong) / len(right) / len(wrong)
    ece = 0
    for b in range(10):
        inside = [(min(max(s, 0), 1), r) for s, r in zip(scores.tolist(), rewards.tolist()) if min(int(min(max(s, 0), 1) * 10), 9) == b]
        if inside:
            ece += len(inside) / 60 * abs(statistics.mean(s for s, _ in inside) - statistics.mean(r for _, r in inside))
    brier = statistics.mean((min(max(x, 0), 1) - r) ** 2 for x, r in zip(scores.tolist(), rewards.tolist()))
    expected = {"f1": 2 * tpr * tnr / (tpr + tnr), "tpr": tpr, "tnr": tnr, "auroc": auroc, "ece": ece, "brier": brier}
    assert {k: v.item() for k, v in got.items()} == pytest.approx(expected)


def test_verification_metrics__of_an_empty_class_are_undefined_and_of_a_blind_one_zero():
    scores = torch.tensor([0.1, 0.2, 0.9])
    one_class = laser.verification_metrics(scores, torch.ones(3))
    assert one_class["tpr"] == pytest.approx(1 / 3) and all(one_class[k].isnan() for k in ("f1", "tnr", "auroc"))
    assert laser.number(one_class["f1"]) is None
    halves = laser.verification_metrics(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0]))
    assert (halves["tpr"], halves["tnr"]) == (0, 1)  # 0.5 does not say «right»
    assert laser.verification_metrics(scores, torch.tensor([1.0, 1, 0]))["f1"] == 0  # neither class is ever recognised
    assert all(v.isnan() for v in laser.verification_metrics(torch.zeros(0), torch.zeros(0)).values())


def brute_force_vote(answers, weights, rewards, k):
    """Over all k-subsets: the answer with the largest summed weight, ties sharing the credit."""
    credit = []
    for subset in itertools.combinations(range(len(answers)), k):
        totals = {}
        for i in subset:
            if answers[i] is not None:
                totals.setdefault(answers[i], []).append((weights[i], rewards[i]))
        sums = {a: sum(w for w, _ in rows) for a, rows in totals.items()}
        best = [a for a in sums if sums[a] > max(sums.values()) - 1e-9]
        credit.append(statistics.mean(totals[a][0][1] for a in best) if best else 0)
    return statistics.mean(credit)


def test_vote__against_brute_force_over_all_subsets():
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(-1, 4, (6, 8), generator=generator)
    classes[0] = -1  # nobody answers
    scores = (torch.rand(6, 8, generator=generator) * 4).round() / 4  # coarse, so that there are ties
    scores[classes < 0] = 0
    rewards = (classes == 1).double()
    got = laser.voting_metrics(classes, scores.double(), rewards)
    assert set(got) == {"mean@1", *(f"{m}@{k}" for m in ("pass", "maj", "weighted", "best") for k in (1, 2, 4, 8))}
    for p in range(6):
        answers = [None if c < 0 else c for c in classes[p].tolist()]
        s, r = scores[p].tolist(), rewards[p].tolist()
        assert got["mean@1"][p].item() == pytest.approx(sum(r) / 8)
        for k in (1, 2, 4, 8):
            subsets = list(itertools.combinations(range(8), k))
            assert got[f"pass@{k}"][p].item() == pytest.approx(statistics.mean(max(r[i] for i in c) for c in subsets))
            assert got[f"maj@{k}"][p].item() == pytest.approx(brute_force_vote(answers, [1] * 8, r, k))
            assert got[f"weighted@{k}"][p].item() == pytest.approx(brute_force_vote(answers, s, r, k))
            assert got[f"best@{k}"][p].item() == pytest.approx(brute_force_vote(range(8), s, r, k))


def test_vote__ties_up_to_rounding_are_ties_and_an_answer_is_worth_its_mean_reward():
    everybody = torch.ones(1, 3).double()
    classes, weights = torch.tensor([[0, 0, 1]]), torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)  # 0.1 + 0.2 > 0.3 in binary
    assert laser.vote(classes, weights, torch.tensor([[0.0, 0, 1]]).double(), everybody).item() == 0.5
    assert laser.vote(classes, weights + torch.tensor([1.0, 0, 0]), torch.tensor([[1.0, 0, 0]]).double(), everybody).item() == 0.5


# --------------------------------------------------------------------------------------- problems and prompts


def test_load_problems__held_out_pairs_are_the_same_whatever_the_warm_start_imitates():
    one, other = (laser.load_problems("pairs-hard", False, Config(warm_start_right=right)) for right in (0.1, 0.9))
    assert one == other and len(one) == 200
    one, other = (laser.load_problems("pairs", True, Config(warm_start_right=right)) for right in (0.1, 0.9))
    right = [sum(row["solution"].endswith("{%s}" % row["answer"]) for row in rows) / len(rows) for rows in (one, other)]
    assert right[0] < 0.15 and right[1] > 0.35  # either order of the two is right


def test_pair_problems__have_one_pair_and_careless_solutions_that_add_up():
    seen = {}
    for name in laser.PAIRS:
        rows = laser.pair_problems(name, 300, right=0.4)
        correct = 0
        for row in rows:
            numbers, total = row["problem"].rstrip("=").split(":")
            total, numbers = int(total), list(map(int, numbers.split()))
            pairs = [set(p) for p in itertools.combinations(numbers, 2) if sum(p) == total]
            assert pairs == [set(map(int, row["answer"].split(",")))] and len(set(numbers)) == len(numbers)
            a, b, said = map(int, row["solution"].split("\\")[0].replace("=", "+").split("+"))
            assert said == a + b and {a, b} <= set(numbers) and a != b
            assert laser.extract_answer(row["solution"]) == f"{a},{b}"
            correct += laser.reward(row["solution"], row["answer"], strict=True)
            seen.setdefault((total, *sorted(numbers)), set()).add(name)
        assert 0.3 < correct / 300 < 0.5
    assert all(names == {"pairs"} or "pairs" not in names for names in seen.values())  # nothing held out is trained on


def test_load_problems__local_data_of_every_kind(tmp_path):
    config = Config()
    rows = [{"question": "1+1?", "final_answer": "007"}, {"question": "2+2?", "final_answer": "0.50"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text("question,final_answer\n1+1?,007\n2+2?,0.50\n")
    import datasets
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    for kind in ("jsonl", "json", "csv", "parquet"):
        got = laser.load_problems(str(tmp_path / f"a.{kind}"), True, config)
        assert got == [{"problem": "1+1?", "answer": "007"}, {"problem": "2+2?", "answer": "0.50"}]


def test_load_problems__answers_of_mixed_type_and_columns_by_flag(tmp_path):
    file = tmp_path / "odd.jsonl"
    file.write_text('{"ask": "a", "reply": 70}\n{"ask": "b", "reply": "x"}\n')
    config = Config(problem_column="ask", answer_column="reply")
    assert [row["answer"] for row in laser.load_problems(str(file), True, config)] == ["70", "x"]


def test_load_problems__reads_answers_as_written_and_counts_rows_without_one(tmp_path, capsys):
    (tmp_path / "a[1].jsonl").write_text('{"question": "p\u2028q", "answer": 123456789012345678901234567890}\n{"question": "p", "answer": 0.50}\n\n'
                                         '{"question": "p", "answer": "2020-01-01"}\n{"question": "p", "answer": null}\n')
    (tmp_path / "a[1].csv").write_text("question,answer\np,NA\np,007\np,\n,5\n")
    (tmp_path / "a1.csv").write_text("question,answer\nwrong,1\n")
    assert laser.read_table(str(tmp_path / "a[1].csv"), True)[0] == {"question": ["p", "p", "p", ""], "answer": ["NA", "007", "", "5"]}
    for name, answers, dropped in (("a[1].jsonl", ["123456789012345678901234567890", "0.50", "2020-01-01"], "1 of 4"),
                                   ("a[1].csv", ["007"], "3 of 4")):
        assert [row["answer"] for row in laser.load_problems(str(tmp_path / name), True, Config())] == answers
        assert f"{dropped} rows dropped" in capsys.readouterr().out


@pytest.mark.parametrize("content, words", [("", "no problems|no problem column|Cannot read"), ('{"a": 1}\n', "problem column"),
                                            ('{"problem": "x"}\n', "answer column"), ("{not json", "Cannot read"),
                                            ('{"problem": "\\ud800", "answer": 1}', "no problem in text"),
                                            ('{"problem": " ", "answer": 1}', "no problem in text"), ("[]", "0 rows"),
                                            ('{"problem": "x", "answer": %s1%s}' % ("[" * 900, "]" * 900), "Cannot read"),
                                            (b'{"problem": "\xe9", "answer": "1"}', "utf-8")])
def test_load_problems__bad_data_gets_one_sentence(content, words, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(laser.UserError, match=words):
        laser.load_problems(str(tmp_path / "bad.jsonl"), True, Config())


VERL = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}], "data_source": "x",
        "reward_model": {"ground_truth": "2", "style": "rule"}}  # a row as verl and the authors have it


def test_load_problems__messages_and_golds_in_dicts_are_found(tmp_path, capsys):
    import datasets

    datasets.Dataset.from_list([VERL] * 3).to_parquet(tmp_path / "verl.parquet")
    rows = laser.load_problems(str(tmp_path / "verl.parquet"), True, Config())
    assert rows == [{"problem": "1+1?", "answer": "2", "messages": VERL["prompt"]}] * 3
    with pytest.raises(laser.UserError, match=r"holds dicts; name one of reward_model.ground_truth, reward_model.style with --answer"):
        laser.load_problems(str(tmp_path / "verl.parquet"), True, Config(answer_column="reward_model"))
    inside = Config(answer_column="reward_model.style", reward="math:sqrt")
    assert laser.load_problems(str(tmp_path / "verl.parquet"), True, inside)[0]["answer"] == "rule"
    with pytest.raises(laser.UserError, match="no answer column reward_model.nothing"):
        laser.load_problems(str(tmp_path / "verl.parquet"), True, Config(answer_column="reward_model.nothing"))


@pytest.mark.parametrize("problem, answer", [("Problem", "Answer"), ("question", "ground_truth"), ("prompt", "expected_answer"),
                                             ("PROBLEM", "Final_Answer"), ("messages", "solution")])
def test_load_problems__columns_by_known_names(problem, answer, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"id": 1, answer: "so \\boxed{4}" if answer == "solution" else 4, problem: "2+2?"}]))
    assert laser.load_problems(str(tmp_path / "a.json"), True, Config()) == [{"problem": "2+2?", "answer": "4"}]


@pytest.mark.parametrize("name", ["a.JSONL", "a.jsonl.gz", "a.tsv", "a.Csv", "a.csv.gz", "nested.json", "one.jsonl"])
def test_read_table__files_by_what_they_are(name, tmp_path):
    rows = [{"problem": "1+1?", "answer": "2"}, {"problem": "2+2?", "answer": "4"}][: 1 if name == "one.jsonl" else 2]
    mark = "\t" if "tsv" in name else ","
    table = "".join(mark.join(line) + "\n" for line in [rows[0], *(row.values() for row in rows)])
    text = table if "sv" in name.lower() else json.dumps({"data": rows}) if name == "nested.json" else "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert laser.load_problems(str(tmp_path / name), True, Config()) == rows


def test_read_table__rows_longer_than_the_header_are_refused(tmp_path):
    """pandas would take the first cell for the row's name and shift the others: problem "2", answer "5"."""
    (tmp_path / "a.csv").write_text("problem,answer,level\n1+1=?,2,5,\n2+2=?,4,5,\n")
    with pytest.raises(laser.UserError, match="Length of header"):
        laser.load_problems(str(tmp_path / "a.csv"), True, Config())


def test_column_of__held_out_sets_need_not_have_the_column_that_is_named_for_training(tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("Q,problem,answer\n1+1?,x,2\n")
    (tmp_path / "other.csv").write_text("question,answer\n2+2?,4\n")
    config = Config(problem_column="Q")
    for train in (True, False):
        assert laser.load_problems(str(tmp_path / "mine.csv"), train, config) == [{"problem": "1+1?", "answer": "2"}]
    assert "is taken" not in capsys.readouterr().out
    assert laser.load_problems(str(tmp_path / "other.csv"), False, config) == [{"problem": "2+2?", "answer": "4"}]
    assert "other.csv has no problem in a column Q: question is taken" in capsys.readouterr().out
    with pytest.raises(laser.UserError, match="no problem column Q"):
        laser.load_problems(str(tmp_path / "other.csv"), True, config)


def test_load_problems__messages_are_asked_up_to_the_users_last_turn(tmp_path, capsys):
    user, solution, system = ({"role": role, "content": text} for role, text in (("user", "1+1?"), ("assistant", "2"), ("system", "s")))
    cells = [[system, user], [user, solution], [user, system], [], ["hi"], [{"role": "user"}], [{"content": "x"}], [solution]]
    (tmp_path / "m.json").write_text(json.dumps([{"messages": cell, "answer": "2"} for cell in cells]))
    rows = laser.load_problems(str(tmp_path / "m.json"), True, Config())
    assert [row["messages"] for row in rows] == [[system, user], [user]] and {row["problem"] for row in rows} == {"1+1?"}
    assert "6 of 8 rows dropped" in capsys.readouterr().out


def test_read_table__a_file_of_another_kind_is_named_as_such(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(laser.UserError, match="a.xlsx is no .jsonl, .json, .parquet, .csv"):
        laser.load_problems(str(tmp_path / "a.xlsx"), True, Config())


def test_read_table__configurations_and_splits_of_the_hub(tmp_path, monkeypatch, capsys):
    import datasets

    asked = []
    table = datasets.Dataset.from_list([{"question": "1+1?", "answer": "We add. #### 2"}])

    def load(source, config):
        asked.append((source, config))
        return datasets.DatasetDict({"eval": table, "extra": table})

    monkeypatch.setattr(datasets, "load_dataset", load)
    for name, train in (("openai/gsm8k", True), ("openai/gsm8k:socratic", True), ("a/b", False), ("a/b::extra", False), ("a/b:c:extra", True)):
        assert laser.load_problems(name, train, Config()) == [{"problem": "1+1?", "answer": "2"}]
    assert asked == [("openai/gsm8k", "main"), ("openai/gsm8k", "socratic"), ("a/b", None), ("a/b", None), ("a/b", "c")]
    printed = capsys.readouterr().out
    assert "openai/gsm8k: 1 problems, split eval of eval, extra" in printed and "a/b::extra: 1 problems, split extra" in printed
    with pytest.raises(laser.UserError, match="no such split; its splits are eval, extra"):
        laser.load_problems("a/b:c:train", True, Config())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()  # a local folder comes first
    laser.load_problems("a/b", True, Config())
    assert asked[-1] == ("a/b", None)


def test_load_problems__golds_that_teach_nothing_are_dropped_and_counted(tmp_path, capsys):
    golds = ["5", "proof", "notfound", "", "N/A", "yes", "{'ground_truth': '3'}", "We see that the claim holds for all of these numbers, as was to be shown here."]
    (tmp_path / "a.json").write_text(json.dumps([{"problem": "p", "answer": gold} for gold in golds]))
    assert [row["answer"] for row in laser.load_problems(str(tmp_path / "a.json"), True, Config())] == ["5", "yes"]
    streams = capsys.readouterr()
    assert "2 problems, all rows; 6 of 8 rows dropped: no problem or no checkable answer" in streams.out
    assert "1 of 2 answers" in streams.err and "guessing earns half" in streams.err
    (tmp_path / "b.json").write_text(json.dumps([{"problem": "p", "answer": "proof"}]))
    with pytest.raises(laser.UserError, match="no problem in text with a checkable answer"):
        laser.load_problems(str(tmp_path / "b.json"), True, Config())


@pytest.mark.parametrize("value, expected", [
    (70, "70"), ("We add.\n#### 1,234", "1,234"), ("so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"), ([3, "4"], "3, 4"), (" x ", "x"),
    ("#### Step 1\nWe add.\n#### Step 2\nSo \\boxed{7}.", "7")])
def test_gold_answer__by_kind(value, expected):
    assert laser.gold_answer(value) == expected


# ------------------------------------------------------------------------------------------------------ warm start


def test_load_problems__rows_with_a_solution_are_counted_and_the_rest_is_refused(tmp_path, capsys):
    (tmp_path / "w.json").write_text(json.dumps([
        {"problem": "1+1?", "solution": "It is 2."}, {"problem": "", "solution": "x"}, {"problem": "2+2?", "solution": None},
        {"problem": [{"role": "user", "content": "3+3?"}], "solution": "6"}]))
    rows = laser.load_problems(str(tmp_path / "w.json"), True, Config(), worked=True)
    assert [(row["problem"], row["solution"], "messages" in row) for row in rows] == [("1+1?", "It is 2.", False), ("3+3?", "6", True)]
    assert "2 of 4 rows dropped: no problem or no solution to imitate" in capsys.readouterr().out
    (tmp_path / "n.json").write_text('[{"problem": "1+1?", "answer": "2"}]')
    with pytest.raises(laser.UserError, match="no solution column of a known name with a value .1 rows.; name one of .* with --solution_column"):
        laser.load_problems(str(tmp_path / "n.json"), True, Config(), worked=True)


@pytest.mark.parametrize("template", [True, False])
def test_warm_start__takes_the_steps_of_cross_entropy_by_hand_however_they_are_cut(template, tmp_path):
    tokenizer = byte_tokenizer(tmp_path)
    tokenizer.chat_template = tokenizer.chat_template if template else None
    rows = [{"problem": f"{a}+{b}?", "solution": f"{a + b}" * a} for a in (1, 2, 3) for b in (4, 5)]
    rows = [{**row, "prompt": tokenizer(row["problem"])["input_ids"]} for row in rows]
    trained = []
    for budget in (1, 10**6):
        policy = laser.Policy(tiny_model(vocabulary=300), tokenizer, [2], 5, None)
        laser.warm_start(policy, rows, Config(warm_start_steps=3, warm_start_batch=4, warm_start_lr=1e-2, micro_batch_tokens=budget,
                                              max_response_tokens=9))
        trained.append(policy.model.state_dict())
    model, drawn = tiny_model(vocabulary=300), random.Random(laser.seed_of("warm start", 0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 1e-2 * (3 - step) / 3
        losses = []
        for i in drawn.sample(range(6), 4):
            document = tokenizer(rows[i]["solution"])["input_ids"] + [2] + ([] if template else rows[i - 1]["prompt"][:1])
            start, ids = len(rows[i]["prompt"]), torch.tensor([rows[i]["prompt"] + document])
            losses.append(F.cross_entropy(model(ids).logits[0, start - 1 : -1], ids[0, start:], reduction="none"))
        optimizer.zero_grad()
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for name, weight in model.state_dict().items():
        assert all(torch.allclose(weight, other[name], atol=2e-5) for other in trained), name


def test_warm_start__needs_a_solution_for_each_process(tmp_path, monkeypatch):
    """Each pass through a model that is split over processes is a meeting of all: one without a solution would never come."""
    policy = laser.Policy(tiny_model(vocabulary=300), byte_tokenizer(tmp_path), [2], 5, None)
    rows = [{"problem": "1+1?", "solution": str(i), "prompt": [5, 6]} for i in range(5)]
    monkeypatch.setattr(laser, "WORLD", 3)
    for batch, there in ((2, 5), (9, 2)):
        with pytest.raises(laser.UserError, match="3 processes need as many worked solutions a step"):
            laser.warm_start(policy, rows[:there], Config(warm_start_steps=1, warm_start_batch=batch))


def test_warm_start__of_a_chat_model_on_a_file_is_saved_and_resumed(tmp_path, capsys):
    """The cold start of a pretrained model: its own chat template, worked solutions from a file, long ones left out."""
    folder = tmp_path / "chat"
    byte_tokenizer(folder)
    tiny_model(vocabulary=300).save_pretrained(folder)
    rows = laser.pair_problems("pairs", 40)
    (tmp_path / "w.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "solution": "5" * 99}]))
    command = ["--model", folder, "--data", "pairs", "--warm_start_data", tmp_path / "w.jsonl", "--warm_start_steps", 60, "--warm_start_batch", 8,
               "--warm_start_lr", 1e-2, "--prompt_suffix", "", "--max_response_tokens", 30, "--prompts_per_step", 4, "--group_size", 4,
               "--eval_every", 0, "--beta", 0.3, "--out", tmp_path / "run"]
    assert here(*command, "--steps", 0) == 0
    printed = capsys.readouterr().out
    assert "w.jsonl: 41 problems, all rows" in printed and "1 of 41 worked solutions dropped, longer than --max_response_tokens 30" in printed
    assert "fewer than --warm_start_batch" not in printed
    assert here(*command[:-1], tmp_path / "few", "--steps", 0, "--warm_start_batch", 50, "--warm_start_steps", 1) == 0
    assert "the warm start has 40 solutions, fewer than --warm_start_batch: each step takes all" in capsys.readouterr().out
    likely = []
    for place in (folder, tmp_path / "run" / "warm_start"):
        policy = laser.load_policy(Config(), str(place), torch.device("cpu"), "float32")
        prompts = laser.encode_prompts(policy, rows, Config(prompt_suffix=""))
        texts = [ids + [0] for ids in policy.tokenizer([row["solution"] for row in rows])["input_ids"]]
        likely.append(laser.score(policy.model, prompts, texts, 3, Config())[0].sum().item() / sum(map(len, texts)))
    assert likely[0] < -5 and likely[1] > -1.5  # nats a token
    assert here(*command, "--steps", 1, "--resume") == 0
    assert lines(tmp_path / "run" / "metrics.jsonl")[0]["complete"] > 0.5  # it has learnt to end


def byte_tokenizer(folder):
    """A byte-level BPE tokenizer with a chat template and pad = EOS, as Qwen2.5's base models have, trained on a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.train_from_iterator(["Find the sum of all integers. \\boxed{\\frac{1}{2}}"] * 3, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.chat_template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                               "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_encode_prompts__have_the_special_tokens_of_their_template_once(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    policy = laser.Policy(None, tokenizer, [0], 5, None)
    rows, config = [{"problem": "Find it."}, {"problem": "x"}], Config(prompt_suffix="Now.")
    decoded = lambda: [tokenizer.decode(ids) for ids in laser.encode_prompts(policy, rows, config)]  # noqa: E731
    assert decoded()[0] == "<|im_start|>user\nFind it.\nNow.<|im_end|>\n<|im_start|>assistant\n"
    tokenizer.chat_template = None
    assert decoded() == ["<|im_start|>Find it.\nNow.", "<|im_start|>x\nNow."]


DATED = "{{ strftime_now('%d %B %Y') }} {{ date_string }} {% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"


def test_encode_prompts__messages_suffix_and_end_tokens(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(tmp_path)
    policy = laser.Policy(None, tokenizer, [0], 5, None)
    prompt = lambda row, **options: tokenizer.decode(laser.encode_prompts(policy, [row], Config(**options))[0])  # noqa: E731
    turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?{}<|im_end|>\n<|im_start|>assistant\n"
    row = {"problem": "1+1?", "messages": VERL["prompt"]}
    assert prompt(row) == turns.format("") and prompt(row, prompt_suffix="Now.") == turns.format("\nNow.")
    assert "step by step" in prompt({"problem": "1+1?"}) and "step" not in prompt({"problem": "1+1?"}, prompt_suffix="")
    tokenizer.chat_template = None
    with pytest.raises(laser.UserError, match="no chat template"):
        prompt(row)
    with pytest.raises(laser.UserError, match="--template_kwargs are for a chat template"):
        prompt({"problem": "x"}, template_kwargs='{"a": 1}')
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])
    assert tokenizer("x")["input_ids"][-1] == 0 and prompt({"problem": "x"}, prompt_suffix="") == "x"


def test_render__writes_the_day_of_the_run_and_names_what_is_wrong(tmp_path):
    tokenizer, chat = byte_tokenizer(tmp_path), [{"role": "user", "content": "x"}]
    tokenizer.chat_template = DATED
    assert laser.render(tokenizer, [chat], Config(date="2024-02-29"))[0].startswith("29 February 2024 29 Feb 2024 ")
    assert laser.parse(["--date", "2024-02-29"]).date == "2024-02-29" and laser.parse([]).date == datetime.date.today().isoformat()
    for template in ("{{ raise_exception('roles must alternate') }}", "{{ nothing.at.all }}", {"tool_use": "x"}, "{% for"):
        tokenizer.chat_template = template
        with pytest.raises(laser.UserError, match="chat template of the model does not work"):
            laser.render(tokenizer, [chat], Config())
    tokenizer.chat_template = "{{ mood }}{{ messages[0].content }}"
    assert laser.render(tokenizer, [chat], Config(template_kwargs='{"mood": "calm "}')) == ["calm x"]


def test_end_tokens__have_the_turn_end_of_the_template_or_what_the_flag_says(tmp_path, capsys):
    tokenizer, model = byte_tokenizer(tmp_path), tiny_model(vocabulary=300)
    model.config.eos_token_id = model.generation_config.eos_token_id = 0
    assert laser.end_tokens(model, tokenizer, Config()) == [0, 2]  # <|endoftext|>, <|im_end|>
    assert laser.end_tokens(model, tokenizer, Config(end_token=["<|im_end|>", "7"])) == [2, 7]
    for template in (None, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
                     "<|im_start|>{% for m in messages %}{{ m.content|upper }}<|im_end|>{% endfor %}"):
        tokenizer.chat_template = template  # no template, one that ends a turn with plain text, one that changes the text
        assert laser.end_tokens(model, tokenizer, Config()) == [0]
    assert here("--end_token", "no such token", "--warm_start_steps", 0, "--out", tmp_path / "e") == 2
    assert "--end_token 'no such token' is not one token" in capsys.readouterr().err
    for token in ("99999", "-5"):
        assert here(f"--end_token={token}", "--warm_start_steps", 0, "--out", tmp_path / "e") == 2
        assert "does not exist" in capsys.readouterr().err


# -------------------------------------------------------------------------- sampling's cache and chunked loss


def test_chosen_logps__equal_the_naive_ones_and_so_do_their_gradients(monkeypatch):
    monkeypatch.setattr(laser, "LOGITS_AT_A_TIME", 3 * V)  # 3 of 10 tokens at a time
    head, hidden = torch.nn.Linear(8, V, bias=False).double(), torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    targets, temperature = torch.randint(V, (10,)), torch.rand(10).double() + 0.5
    weight = torch.randn(10, dtype=torch.float64)
    for form in (lambda: laser.chosen_logps(head, hidden, targets, temperature),
                 lambda: (head(hidden) / temperature[:, None]).log_softmax(-1)[range(10), targets]):
        hidden.grad = head.weight.grad = None
        value = form()
        (value * weight).sum().backward()
        if form.__code__.co_names[0] == "laser":
            expected = value.detach(), hidden.grad, head.weight.grad
    # the head's logits are float32 by design, as in training
    assert all(torch.allclose(x.double(), y, atol=1e-5) for x, y in zip(expected, (value, hidden.grad, head.weight.grad)))


class Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def free(self, place):
        self.now -= self.alive.pop(place, 0)

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            store = x.untyped_storage() if isinstance(x, torch.Tensor) else None
            if store is not None and store.data_ptr() not in self.alive:
                self.alive[store.data_ptr()] = store.nbytes()
                self.now += store.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(store, self.free, store.data_ptr())
        return result


def test_chosen_logps__never_hold_more_than_a_few_chunks_of_logits(monkeypatch):
    monkeypatch.setattr(laser, "LOGITS_AT_A_TIME", 2**18)
    head, hidden = torch.nn.Linear(8, 4096, bias=False), torch.randn(1024, 8, requires_grad=True)
    targets, ones = torch.randint(4096, (1024,)), torch.ones(1024)
    with Allocations() as ours:
        laser.chosen_logps(head, hidden, targets, ones).sum().backward()
    with Allocations() as naive:
        head(hidden).log_softmax(-1).gather(1, targets[:, None]).sum().backward()
    assert ours.peak < 4 * 5 * 2**18 * 1.1 < naive.peak / 5


# ------------------------------------------------------------------------------------------------- evaluation


def test_pass_at_k__counts_a_reward_above_a_half_as_right():
    """A user's rewards may lie between 0 and 1."""
    assert laser.pass_at_k(torch.tensor([[0.5] * 4, [0.9, 0.2, 0.2, 0.2]]), 2).tolist() == pytest.approx([0, 0.5])


def test_subsets__are_seeded_draws_of_the_right_size():
    members = laser.subsets(32, 8)
    assert members.shape == (256, 32) and (members.sum(1) == 8).all() and torch.equal(members, laser.subsets(32, 8))
    assert len({tuple(row) for row in members.tolist()}) > 250  # C(32, 8) is ten million
    assert (members.mean(0) - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 256)


def test_solve__takes_the_last_box_and_nothing_from_a_cut_solution(given):
    policy, row, solutions, responses, _ = given
    reference = tiny_model(seed=1, vocabulary=100)
    _, exact = laser.score(reference, [row["prompt"]] * 4, responses, 99, Config())
    for config, c_ref in ((Config(eval_n=4), torch.full((4,), -4.0)), (Config(eval_n=4, exact_reference=True), exact)):
        rows = laser.solve(policy, [row], config, reference=reference)
        assert [r["reward"] for r in rows] == [1, 0, 1, 0] and [r["answer"] for r in rows] == ["5,9", None, "5,9", "2,5"]
        assert rows[1]["self_reward"] is None and not rows[1]["complete"]
        for i in (0, 2, 3):
            assert rows[i]["self_reward"] == pytest.approx(0.1 * (solutions.logp_zc[i] - c_ref[i]).item(), rel=1e-5)


def test_solve__of_a_problem_does_not_depend_on_the_others_asked(finished):
    policy = laser.load_grader(laser.parse(["--model", str(finished[0] / "checkpoint")]))
    config = laser.parse(["--model", str(finished[0] / "checkpoint"), "--n", "3"])
    problems = laser.add_prompts(laser.pair_problems("pairs-hard", 4), policy, config, "four")
    both, alone = laser.solve(policy, problems, config), laser.solve(policy, problems[2:3], config)
    assert [row["response"] for row in both[6:9]] == [row["response"] for row in alone] != [row["response"] for row in both[:3]]


def test_reliability__counts_and_adds_up_to_the_calibration_error():
    torch.manual_seed(0)
    self_rewards, rewards = torch.rand(300, dtype=torch.float64) * 1.4 - 0.2, (torch.rand(300) < 0.4).double()
    bins = laser.reliability(self_rewards, rewards)
    assert sum(count for count, _, _ in bins) == 300 and all(0.1 * i <= mean <= 0.1 * i + 0.1 for i, (_, mean, _) in enumerate(bins))
    gap = sum(count * abs(mean - accuracy) for count, mean, accuracy in bins) / 300
    assert gap == pytest.approx(laser.verification_metrics(self_rewards, rewards)["ece"].item())


def rows_of(columns):
    """Rows of samples.jsonl from (self_reward, reward, answer, tokens)."""
    return [{"reward": float(r), "self_reward": score, "complete": score is not None, "answer": a, "tokens": t, "seconds": 0.1,
             "logp_zc": None if score is None else -3.0} for score, r, a, t in columns]


def test_summarise__length_correlation_is_spearmans():
    rng = random.Random(0)
    x, y = ([rng.randint(0, 9) / 9 for _ in range(50)] for _ in range(2))
    rank = lambda values: [sum(w < v for w in values) + (values.count(v) + 1) / 2 for v in values]  # noqa: E731
    row = laser.summarise(rows_of([(a, 0, "1", 10 * b) for a, b in zip(x, y)]), 1, 0.1)
    assert row["length_correlation"] == pytest.approx(statistics.correlation(rank(x), rank(y)))
    assert laser.summarise(rows_of([(a, 0, "1", a * a) for a in x]), 1, 0.1)["length_correlation"] == pytest.approx(1)


def test_summarise__no_answer_wins_nothing_and_nothing_complete_is_undefined():
    rows = rows_of([(0.3, 1, "1", 5), (0.1, 0, "2", 5), (0.9, 1, "1", 5), (0.95, 0, None, 5)])  # the highest, without an answer
    assert laser.summarise(rows, 2, 0.1)["best@2"] == 1
    empty = laser.summarise(rows_of([(None, 0, None, 5), (None, 0, None, 5)]), 1, 0.1)
    assert empty["complete"] == 0 and empty["mean@1"] == 0 and empty["f1"] is None is empty["auroc_ci"] is empty["length_correlation"]
    assert sum(count for count, _, _ in empty["reliability"]) == 0


def test_summarise__intervals_draw_whole_problems_anew():
    rng, P, n = random.Random(0), 8, 3
    samples = [{"reward": float(rng.random() < p / P), "self_reward": rng.random(), "complete": rng.random() < 0.8, "answer": "1", "tokens": 5,
                "seconds": 0.1, "logp_zc": -3.0} for p in range(P) for _ in range(n)]
    row = laser.summarise(samples, n, 0.1)
    picks = torch.randint(P, (500, P), generator=torch.Generator().manual_seed(laser.seed_of("bootstrap", P))).tolist()
    means, tprs = [], []
    for chosen in picks:
        drawn = [samples[p * n + i] for p in chosen for i in range(n)]
        grades = [s["self_reward"] > 0.5 for s in drawn if s["complete"] and s["reward"]]
        means.append(statistics.mean(s["reward"] for s in drawn))
        tprs += [sum(grades) / len(grades)] if grades else []
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    assert row["mean@1_ci"] == pytest.approx(torch.tensor(means, dtype=torch.float64).quantile(ends).tolist())
    assert row["tpr_ci"] == pytest.approx(torch.tensor(tprs, dtype=torch.float64).quantile(ends).tolist())


def test_evaluate__interrupted_in_training_goes_on(finished, tmp_path, monkeypatch):
    real, calls, arguments = laser.solve, [], [*FAST, "--eval-every", "3", "--out", tmp_path / "i"]

    def interrupted(*rest):
        calls.append(rest)
        if len(calls) in (3, 20):  # in the evaluation before step 1, and in the one after step 3
            raise KeyboardInterrupt
        return real(*rest)

    monkeypatch.setattr(laser, "solve", interrupted)
    assert here(*arguments) == 130 and here(*arguments, "--resume") == 130 and here(*arguments, "--resume") == 0
    assert len(calls) < 3 * 8 + 2 + 8  # the first evaluation went on where it was, the second began anew with its step
    ours, whole = (without_times(lines(folder / "eval.jsonl")) for folder in (tmp_path / "i", finished[0]))
    assert ours == whole and same_weights(tmp_path / "i", finished[0])


# ---------------------------------------------------------------------------------------------- model and z_c


SMALL = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3}
LONG = {"original_max_position_embeddings": 64, "pad_token_id": 0, "rope_parameters": {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 64}}
ZOO = {"gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "vocab_size": 128, "resid_pdrop": 0.5}, "qwen3": {**SMALL, "head_dim": 8},
       "opt": {"vocab_size": 128, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
               "max_position_embeddings": 256, "dropout": 0.3, "init_std": 0.3},
       "seed_oss": {**SMALL, "head_dim": 8, "attention_dropout": 0.3, "residual_dropout": 0.3}, "gemma": {**SMALL, "head_dim": 8},
       "phi3": {**SMALL, **LONG}, "mistral": {**SMALL, "sliding_window": 64}, "olmo2": SMALL, "smollm3": {**SMALL, "pad_token_id": 0},
       "gpt_neox": {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, "mixtral": {**SMALL, "num_local_experts": 4},
       "llama": {**SMALL, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
       "deepseek_v3": {**SMALL, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
                       "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
                       "moe_intermediate_size": 16, "first_k_dense_replace": 1}}


def zoo(kind, folder):
    path = folder / f"{kind}.json"
    path.write_text(json.dumps({"model_type": kind, **ZOO[kind]}))
    return laser.load_model(str(path), torch.device("cpu"), "float32", 0)[0]


@pytest.mark.parametrize("kind", ZOO)
def test_load_model__is_followed_to_its_eager_logits_and_has_no_dropout(kind, tmp_path):
    model, prompts = zoo(kind, tmp_path), [[5, 6, 7], [8], list(range(9, 27))]
    drawn = laser.sample(model, prompts, 2, laser.uniforms(6, 24, kind), [1], 120)
    one, two = (laser.token_logps(model.train(), repeated(prompts, 2), drawn.responses(), 120)[0] for _ in range(2))
    model.eval().set_attn_implementation("eager")
    for i, (prompt, response) in enumerate(zip(repeated(prompts, 2), drawn.responses())):
        logits = model(torch.tensor([prompt + response]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1)[range(len(response)), response]
        assert torch.allclose(drawn.logps[i, : len(response)], own, atol=1e-4)
    assert torch.equal(one, two) and torch.allclose(one, drawn.logps[:, : one.size(1)], atol=1e-4)


@pytest.mark.parametrize("kind, words", [("phi3", "its longrope scaling of positions switches at 64"), ("mistral", "its sliding window is 64"),
                                         ("olmo2", "the model's positions end at 256")])
def test_reach__what_a_row_may_not_pass_is_named(kind, words, tmp_path):
    policy = laser.Policy(zoo(kind, tmp_path), laser.character_tokenizer(), [1], 120, None)
    there, rows = laser.reach(policy.model.config)[0], [{"problem": "x" * 9, "answer": "1"}]
    fits = {"prompt_suffix": "", "max_response_tokens": there - 10}
    assert len(laser.add_prompts(rows, policy, Config(**fits), "d")) == 1
    with pytest.raises(laser.UserError, match=words):
        laser.add_prompts(rows, policy, Config(**{**fits, "max_response_tokens": there - 9}), "d")


def test_load_model__missing_weights_are_not_made_up(finished, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(finished[0] / "checkpoint", tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(laser.UserError, match="lacks 1 of its weights, such as model.layers.1.mlp.up_proj.weight; give all"):
        laser.load_model(str(tmp_path / "m"), torch.device("cpu"), "float32", 0)


def test_load_model__dropout_that_no_configuration_names_is_found(tmp_path, monkeypatch):
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.3, self.training))

    original = laser.AutoModelForCausalLM.from_config

    def noisy(*arguments, **options):
        model = original(*arguments, **options)
        model.lm_head.__class__ = Noisy
        return model

    monkeypatch.setattr(laser.AutoModelForCausalLM, "from_config", noisy)
    with pytest.raises(laser.UserError, match="computes other logits in training"):
        zoo("olmo2", tmp_path)


@pytest.mark.parametrize("kind, settings, words", [
    ("falcon", {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}, "brings an attention of its own"),
    ("bloom", {"vocab_size": 128, "hidden_size": 32, "n_layer": 1, "n_head": 4}, "does not run here"),
    ("gpt_oss", {**SMALL, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}, "does not follow"),  # attention sinks
    ("gemma2", {**SMALL, "head_dim": 8, "initializer_range": 0.02}, "caps its logits"),
    ("mamba", {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1}, "layers of kind linear_attention"),
    ("gemma3", {"text_config": {**SMALL, "head_dim": 8}}, "text and more")])
def test_load_model__refuses_other_kinds_by_their_true_cause(kind, settings, words, tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"model_type": kind, **settings}))
    with pytest.raises(laser.UserError, match=words):
        laser.load_model(str(tmp_path / "m.json"), torch.device("cpu"), "float32", 0)


@pytest.mark.parametrize("changes, words", [({"num_attention_heads": 7}, "does not run"), ({"hidden_size": "x"}, "Cannot load"),
                                            ({"vocab_size": 10}, "fewer embeddings"), ({"model_type": "bert"}, "does not follow"),
                                            ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, "does not follow")])
def test_load_model__refuses_what_it_would_follow_wrongly(changes, words, tmp_path):
    settings = {**json.loads((HERE / "tiny_config.json").read_text()), **changes}
    (tmp_path / "odd.json").write_text(json.dumps(settings))
    with pytest.raises(laser.UserError, match=words):
        laser.load_model(str(tmp_path / "odd.json"), torch.device("cpu"), "float32", 0)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_load_model__a_real_folder_on_real_problems(kind, tmp_path, capsys):
    if not DATA.exists():
        pytest.skip(f"the benchmark files are not in {DATA}")
    tokenizer = byte_tokenizer(tmp_path / "base")
    model = tiny_model(kind, pad=tokenizer.pad_token_id, vocabulary=len(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "base")
    code = here("--model", tmp_path / "base", "--data", DATA / "math500.jsonl", "--eval_data", DATA / "aime25.jsonl", "--steps", 3,
                  "--prompts_per_step", 4, "--group_size", 4, "--max_prompt_tokens", 200, "--max_response_tokens", 24, "--lr", "1e-3",
                  "--beta", "0.3", "--reasoning_warmup", 0, "--self_reward_warmup", 1, "--eval_n", 2, "--out", tmp_path / "out")
    assert code == 0 and "longer than 200 tokens" in capsys.readouterr().out  # dropped and counted
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "checkpoint")
    start = model.state_dict()
    assert any(not torch.equal(v[: len(start[k])], start[k]) for k, v in trained.state_dict().items())
    assert [row["data"].endswith("aime25.jsonl") for row in lines(tmp_path / "out" / "eval.jsonl")] == [True, True]


def test_add_embeddings__policy_and_reference_get_the_same_row():
    one, two = tiny_model(), tiny_model()
    for model in (one, two):
        torch.rand(5)  # whatever has been drawn before
        laser.add_embeddings(model, V + 1)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


def test_measure_c_ref__reads_after_an_eos_that_a_cut_solution_is_given(given):
    policy, row, _, responses, _ = given
    mean, std = laser.measure_c_ref(policy, [row], Config(prompts_per_step=1, group_size=4))
    values = []
    for response in responses:
        ids = torch.tensor([row["prompt"] + response + [EOS] * (response[-1] != EOS)])
        values.append(policy.model(ids).logits[0, -1].log_softmax(-1)[99].item())
    assert (mean, std) == pytest.approx((statistics.mean(values), statistics.stdev(values)), rel=1e-4)


# --------------------------------------------------------------------------------------- optimizer and memory


def drift(optimizer_of, dtype, steps=200):
    """Mean change of 20,000 weights under gradients of one sign, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    start = (torch.rand(20_000, generator=generator) * 0.04 + 0.01).bfloat16()  # of one sign, or a bias towards 0 would cancel
    weight = torch.nn.Parameter(start.to(dtype, copy=True))
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        weight.grad = (torch.rand(20_000, generator=generator) * 1e-3).to(dtype)
        optimizer.step()
    change = (weight.detach().float() - start.float()).double()
    return change.mean().item(), change.std().item() / math.sqrt(20_000)


def test_bf16_adamw__drifts_as_float32_does_and_plain_rounding_does_not():
    settings = {"lr": 1e-6, "weight_decay": 0.01}
    exact, _ = drift(lambda p: torch.optim.AdamW(p, **settings), torch.float32)
    rounded, error = drift(lambda p: laser.BF16AdamW(p, **settings), torch.bfloat16)
    plain, _ = drift(lambda p: torch.optim.AdamW(p, **settings), torch.bfloat16)
    assert exact < -1e-4 and abs(rounded - exact) < 4 * error + 0.01 * abs(exact)
    assert abs(plain - exact) > 0.5 * abs(exact) > 20 * error


def test_bf16_adamw__gradients_of_many_micro_batches_add_up():
    """1,000 gradients of 1: a plain bfloat16 sum stops at 256, as 257 cannot be written; the optimizer's is 1,000 on average."""
    sums = []
    for _ in range(2):
        weight = torch.nn.Parameter(torch.zeros(4096, dtype=torch.bfloat16))
        optimizer = laser.BF16AdamW([weight], lr=1e-3, weight_decay=0.0)
        for _ in range(1000):
            weight.sum().backward()
        assert weight.grad is None
        optimizer.collect()
        sums.append(weight.grad.float())
    assert torch.equal(*sums) and sums[0].mean().item() == pytest.approx(1000, rel=0.005) and sums[0].std() > 0
    plain = torch.zeros(4096, dtype=torch.bfloat16)
    for _ in range(1000):
        plain += 1
    assert plain.max() == 256


def test_main__full_memory_gets_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laser, "uniforms", lambda *_: torch.empty(2**55))  # more than any machine has
    assert here(*FAST, "--warm_start_steps", 0, "--out", tmp_path / "full") == 2
    assert "memory is full; lower --micro_batch_tokens (now 4096)" in capsys.readouterr().err and not (tmp_path / "full").exists()


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_choose_device__names_what_is_here(kind, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert laser.choose_device("auto") == laser.choose_device(kind) == torch.device(f"{kind}:1")
    assert laser.choose_device(f"{kind}:0") == torch.device(f"{kind}:0") and laser.choose_device("cpu") == torch.device("cpu")
    for wanted in ("tpu", "mps", f"{kind}:7", f"{kind}:x"):
        with pytest.raises(laser.UserError, match="is not here|only 2 devices"):
            laser.choose_device(wanted)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(laser.UserError, match="only 2 devices"):
        laser.choose_device("auto")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(laser, "WORLD", 2)
    with pytest.raises(laser.UserError, match=f"use one of auto, cpu, {kind}"):  # all processes on one
        laser.choose_device(f"{kind}:0")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    with pytest.raises(laser.UserError, match="use one of auto, cpu[.]"):
        laser.choose_device(kind)


# ------------------------------------------------------------------------------------------ several processes


def assert_like(rows, others):
    """The same steps up to the rounding that another order of summation brings."""
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, other in zip(rows, others):
        assert row["reward"] == other["reward"] and row["response_tokens"] == other["response_tokens"]
        for key in ("policy_loss", "self_reward_loss", "log_z"):
            assert row[key] == other[key] or row[key] == pytest.approx(other[key], abs=1e-4), key
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("stage, max_rows", [(1, 0), (2, 3), (5, 1), (12, 0), (64, 5)])
def test_in_stages__solutions_are_the_same_whatever_the_memory(stage, max_rows, monkeypatch):
    model = tiny_model()
    u = laser.uniforms(16, 12, "test", 0)
    whole = laser.sample(model, PROMPTS, 4, u, [EOS], ZC)
    monkeypatch.setattr(laser, "FIRST_STAGE", stage)
    staged = laser.sample_in_stages(model, PROMPTS, 4, u, [EOS], ZC, 1.0, max_rows, lambda n: None)
    assert not whole.complete.all() and whole.complete.any() and (whole.lengths > 5).any()
    for name in ("tokens", "lengths", "complete"):
        assert torch.equal(getattr(whole, name), getattr(staged, name)), name
    for name in ("logps", "logp_zc"):
        assert torch.allclose(getattr(whole, name), getattr(staged, name), atol=1e-5), name


def lengths_by_u(monkeypatch, lengths, T):
    """Uniform numbers that make solution i end after lengths[i] tokens: 1 where EOS is to be drawn."""
    u = torch.full((len(lengths), T), 0.5)
    for i, length in enumerate(lengths):
        u[i, length - 1 :] = 1.0
    real = laser.draw
    monkeypatch.setattr(laser, "draw", lambda logp, u, temperature: (torch.where(u > 0.9, EOS, 7), real(logp, u, temperature)[1]))
    return u


def test_in_stages__rows_go_by_need_and_full_memory_halves_them(monkeypatch, capsys):
    """Decode steps and rows in flight, counted at a sixteenth of full scale: log-normal lengths, slots for 1,500 tokens."""
    model, memory, real, steps, rng = tiny_model(), 1500, laser.sample, [], random.Random(0)
    lengths = [min(250, 1 + int(rng.lognormvariate(3.6, 0.8))) for _ in range(64)]
    prompts, u = [[5 + i % 15, 6] for i in range(64)], lengths_by_u(monkeypatch, lengths, 250)
    monkeypatch.setattr(laser, "rows_that_fit", lambda model, slots: max(1, memory // slots))
    whole = laser.sample_as_fits(model, prompts, 1, u, [EOS], ZC, 1.0, 0, steps.append)
    assert whole.lengths.tolist() == lengths and max(steps) == memory // 252
    reserved, full = len(steps), []
    steps.clear()
    monkeypatch.setattr(laser, "FIRST_STAGE", 32)
    staged = laser.sample_in_stages(model, prompts, 1, u, [EOS], ZC, 1.0, 0, steps.append)
    assert max(steps) == memory // 34 and len(steps) < reserved / 2

    def small(model, prompts, group_size, u, eos_ids, zc, temperature, max_rows, on_step):
        if max_rows * (max(map(len, prompts)) + u.size(1)) > memory:
            full.append(max_rows)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, prompts, group_size, u, eos_ids, zc, temperature, max_rows, on_step)

    monkeypatch.setattr(laser, "sample", small)
    monkeypatch.setattr(laser, "rows_that_fit", lambda model, slots: 2 * memory // slots)  # more than there is
    halved = laser.sample_in_stages(model, prompts, 1, u, [EOS], ZC, 1.0, 0, steps.append)
    assert full and "memory ran out while sampling; on with" in capsys.readouterr().err
    for other in (staged, halved):
        assert other.responses() == whole.responses() and torch.allclose(other.logp_zc, whole.logp_zc, atol=1e-4)


@pytest.mark.parametrize("world", [2, 3, 4, 7])
def test_rank_share__is_even_and_complete(world, monkeypatch):
    """Each pass through a sharded model is a meeting: all processes must make equally many."""
    monkeypatch.setattr(laser, "WORLD", world)
    for sizes in ([1] * 9, [1] * 8, [5, 3, 1], [16], [2] * 11, [1] * world):
        ids = iter(range(100))
        batches, shares = [[next(ids) for _ in range(size)] for size in sizes], []
        for rank in range(world):
            monkeypatch.setattr(laser, "RANK", rank)
            shares.append(laser.rank_share(batches))
        assert len({len(share) for share in shares}) == 1
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(sum(sizes)))


def test_processes__two_take_the_steps_of_one_and_one_goes_on_where_they_stopped(finished, tmp_path):
    """5 problems on 2 processes, micro-batches that do not come out even. One fails in the fourth step: both end, three are kept."""
    (tmp_path / "fails.py").write_text(f"""import sys
sys.path.insert(0, {str(HERE)!r})
import laser
real = laser.training_step
def step_of(policy, optimizer, rows, step, *rest):
    if laser.RANK == 1 and step == 3:
        raise laser.UserError("The second process cannot go on.")
    return real(policy, optimizer, rows, step, *rest)
laser.training_step = step_of
sys.exit(laser.main(sys.argv[1:]))""")
    odd = [*FAST, "--prompts_per_step", "5", "--micro_batch_tokens", "300", "--reasoning_warmup", "0", "--save_every", "1"]
    assert here(*odd, "--out", tmp_path / "one") == 0
    process = run(*odd, "--out", tmp_path / "two", processes=2, program=tmp_path / "fails.py")
    assert process.returncode != 0 and "laser.py: The second process cannot go on." in process.stderr, process.stderr[-2000:]
    assert json.loads((tmp_path / "two" / "checkpoint" / "laser.json").read_text())["step"] == 3
    assert here(*odd, "--resume", "--out", tmp_path / "two") == 0
    one, two = (lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert_like(two, one)
    assert any(row["grad_norm"] > 0.1 and row["reward_std"] > 0 for row in one)
    weights = [AutoModelForCausalLM.from_pretrained(tmp_path / name / "checkpoint").state_dict() for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-5) for k in weights[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_restore__shards_go_on_with_the_moments_of_a_whole_optimizer(dtype, tmp_path):
    """A run of one process that is resumed by several: each takes its shards of the moments."""
    plain, sharded = (tiny_model().to(getattr(torch, dtype)) for _ in range(2))
    solutions, rewards = draw(plain), torch.tensor([1.0, 0, 0, 1] * 4)
    batch = batch_of(solutions, rewards, laser.group_advantages(rewards, 4))
    step = lambda model, optimizer: laser.update(policy_of(model), optimizer, batch, 0.1, Config(beta=0.2))  # noqa: E731
    first = laser.make_optimizer(plain, 1e-2, 0.01)
    step(plain, first)
    run = types.SimpleNamespace(policy=policy_of(plain)._replace(tokenizer=laser.character_tokenizer()), optimizer=first, c_ref_std=None, out=tmp_path)
    laser.save(run, 1, Config())
    sharded.load_state_dict(plain.state_dict())
    laser.join(torch.device("cpu"))
    try:
        laser.shard(sharded)
        second = laser.make_optimizer(sharded, 1e-2, 0.01)
        laser.restore(sharded, second, tmp_path / "checkpoint" / "trainer.pt")
        assert {type(x) for state in second.state.values() for x in state.values() if x.dim()} == {laser.DTensor}
        assert step(plain, first)["grad_norm"] == pytest.approx(step(sharded, second)["grad_norm"], rel=1e-2)
        for p, q in zip(plain.parameters(), sharded.parameters()):
            assert torch.allclose(p, q.full_tensor(), atol=1e-6 if dtype == "float32" else 0.02)
    finally:
        torch.distributed.destroy_process_group()


def test_shard__in_float32_that_computes_in_bfloat16_takes_the_step_of_float32(monkeypatch):
    """What one GPU does with float32 weights, here on a CPU: FSDP with one process, with and without gradient checkpointing."""
    policy = laser.MixedPrecisionPolicy
    monkeypatch.setattr(laser, "MixedPrecisionPolicy", lambda **options: policy(**{**options, "param_dtype": torch.bfloat16}))
    plain, *sharded = (tiny_model() for _ in range(3))
    getattr(sharded[1], "activation_checkpointing_enable", sharded[1].gradient_checkpointing_enable)({"use_reentrant": False})
    laser.join(torch.device("cpu"))
    try:
        solutions, rewards = draw(plain), torch.tensor([1.0, 0, 0, 1] * 4)
        results = []
        for model in (plain, *sharded):
            if model is not plain:
                laser.shard(model)
                drawn = laser.sample_together(laser.Policy(model, None, [EOS], ZC, -4.0), PROMPTS, 4, laser.uniforms(16, 12, "test", 0), Config())
                known = drawn.tokens[:, 0] == solutions.tokens[:, 0]  # until rounding leads to another token
                assert known.sum() > 12 and torch.allclose(drawn.logps[known, 0], solutions.logps[known, 0], atol=0.05)
            optimizer = laser.make_optimizer(model, 1e-3, 0.0)
            batch, config = batch_of(solutions, rewards, laser.group_advantages(rewards, 4)), Config(beta=0.2, micro_batch_tokens=60)
            results.append(laser.update(policy_of(model), optimizer, batch, 0.1, config))
            assert {p.dtype for p in model.parameters()} == {x.dtype for x in optimizer.state[next(model.parameters())].values()} == {torch.float32}
        for result in results[1:]:
            assert 1e-4 < result["logp_mismatch"] < 0.05  # it did compute in bfloat16
            assert result["self_reward_loss"] == pytest.approx(results[0]["self_reward_loss"], rel=0.03)
            assert result["grad_norm"] == pytest.approx(results[0]["grad_norm"], rel=0.03)
    finally:
        torch.distributed.destroy_process_group()


# ----------------------------------------------------------------------------- whole runs, files and resuming


def test_main__a_run_as_a_subprocess(finished):
    out, process = finished
    assert process.returncode == 0, process.stderr[-2000:]
    assert "weighted@2" in process.stdout and "log Z" in process.stdout
    metrics, evaluations, samples = lines(out / "metrics.jsonl"), lines(out / "eval.jsonl"), lines(out / "samples.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3, 4] and all(set(METRICS) <= set(row) for row in metrics)
    assert [(row["step"], row["data"]) for row in evaluations] == [(s, d) for s in (0, 3, 4) for d in ("pairs-heldout", "pairs-hard")]
    for row in evaluations:
        for key in ("mean@1", "pass@2", "maj@2", "weighted@2", "best@2", "f1", "tpr", "tnr", "auroc", "ece"):
            low, high = row[key + "_ci"] or (0, 1)
            assert row[key] is None or low <= row[key] <= high
        assert {"problems", "n", "log_z", "complete", "response_tokens"} <= set(row)
    last = evaluations[-2]
    of_last = [s for s in samples if s["data"] == "pairs-heldout"]
    assert len(of_last) == last["problems"] * last["n"]
    assert statistics.mean(s["reward"] for s in of_last) == pytest.approx(last["mean@1"])
    again = laser.summarise(of_last, 2, laser.parse([]).beta)  # the table can be had from the samples alone
    assert again == {key: last[key] for key in again}
    assert set(samples[0]) >= {"problem", "gold", "response", "answer", "reward", "self_reward", "complete"}
    stored = json.loads((out / "checkpoint" / "laser.json").read_text())
    assert stored["step"] == 4 and stored["laser"]["token"] >= 98 and stored["laser"]["c_ref"] < 0


def test_train__stopped_and_resumed_equals_an_undisturbed_run(finished, tmp_path):
    whole, _ = finished
    assert here(*FAST, "--steps", "2", "--out", tmp_path / "a") == 0
    assert here(*FAST, "--steps", "4", "--resume", "--out", tmp_path / "a") == 0
    assert without_times(lines(tmp_path / "a" / "metrics.jsonl")) == without_times(lines(whole / "metrics.jsonl"))
    assert same_weights(whole, tmp_path / "a")


def test_open_folder__refuses_other_settings_by_name_and_a_whole_run_has_nothing_left_to_do(finished, capsys):
    out, _ = finished
    before = (out / "metrics.jsonl").read_text()
    assert laser.main(["--resume", "--out", str(out), "--beta", "0.5", "--lr", "1e-5"]) == 2
    message = capsys.readouterr().err
    assert f"--beta {laser.parse([]).beta}" in message and f"--lr {laser.parse([]).lr}" in message
    assert laser.main(["--resume", "--out", str(out)]) == 0 and (out / "metrics.jsonl").read_text() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_train__killed_at_any_moment_loses_nothing(finished, tmp_path, monkeypatch):
    """SIGKILL inside a save, then SIGTERM in a step: the resumed run ends as the undisturbed one."""
    whole, _ = finished
    out, command = tmp_path / "killed", [*FAST, "--save_every", "1", "--out", str(tmp_path / "killed")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, str(HERE / "laser.py"), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=environment)
    deadline = time.time() + 100
    while not (out / "checkpoint.new" / "laser.json").exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.0005)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    real, handlers = laser.training_step, [(which, signal.getsignal(which)) for which in (signal.SIGINT, signal.SIGTERM)]

    def signalled(policy, optimizer, rows, step, *rest):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(policy, optimizer, rows, step, *rest)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(laser, "training_step", signalled)
            assert here(*command, "--resume") == 143 and len(lines(out / "metrics.jsonl")) == 3
        with (out / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4, "torn')  # as a kill within a write leaves it
        (out / "checkpoint").rename(out / "checkpoint.old")  # as a kill between the renames of a save leaves it
        assert here(*command, "--resume") == 0
    finally:
        for which, handler in handlers:
            signal.signal(which, handler)
    assert without_times(lines(out / "metrics.jsonl")) == without_times(lines(whole / "metrics.jsonl"))
    assert same_weights(whole, out)


@linux_only
def test_save__on_a_full_disk_leaves_the_old_checkpoint_and_says_so(finished, tmp_path, capsys):
    out, most = tmp_path / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    shutil.copytree(finished[0], out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, most[1]))  # the kernel refuses larger files, so the weights find no room
    try:
        assert here("--resume", "--out", out, "--steps", 5) == 2 and "Cannot save" in capsys.readouterr().err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert same_weights(finished[0], out) and not (out / "checkpoint.new").exists()
    assert here("--resume", "--out", out, "--steps", 5) == 0 and len(lines(out / "metrics.jsonl")) == 5


def test_save__weights_that_are_not_finite_do_not_replace_a_checkpoint(tmp_path, monkeypatch, capsys):
    real = laser.training_step

    def breaking(policy, optimizer, rows, step, *rest):
        result = real(policy, optimizer, rows, step, *rest)
        if step == 2:
            policy.model.lm_head.weight.data[5, 5] = torch.inf
        return result

    monkeypatch.setattr(laser, "training_step", breaking)
    assert here(*FAST, "--warm_start_steps", 0, "--c_ref", -8, "--save_every", 1, "--out", tmp_path / "b") == 2
    assert "no longer finite after step 3" in capsys.readouterr().err
    assert json.loads((tmp_path / "b" / "checkpoint" / "laser.json").read_text())["step"] == 2
    laser.load_model(str(tmp_path / "b" / "checkpoint"), torch.device("cpu"), "float32", 0)


def test_prepare__names_a_damaged_checkpoint(finished, tmp_path, capsys):
    for name in ("trainer.pt", "laser.json", "model.safetensors"):
        out = tmp_path / name
        shutil.copytree(finished[0], out)
        file = out / "checkpoint" / name
        file.write_bytes(file.read_bytes()[:100])
        assert laser.main(["--resume", "--out", str(out), "--steps", "5"]) == 2
        assert str(out / "checkpoint") in capsys.readouterr().err


def test_take_lock__two_runs_do_not_share_a_folder(finished, capsys):
    lock = laser.take_lock(finished[0])
    assert laser.main(["--resume", "--out", str(finished[0]), "--steps", "9"]) == 2 and "Another run" in capsys.readouterr().err
    lock.release()


@linux_only
def test_train__a_long_run_grows_neither_in_memory_nor_in_open_files(tmp_path, monkeypatch):
    sizes, real = [], laser.append_log

    def measured(*arguments):
        if arguments[0].name == "metrics.jsonl":
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            sizes.append((resident, len(os.listdir("/proc/self/fd"))))
        real(*arguments)

    monkeypatch.setattr(laser, "append_log", measured)
    config = laser.parse(["--warm_start_steps", "0", "--steps", "500", "--prompts_per_step", "2", "--group_size", "2", "--max_response_tokens", "6",
                             "--c_ref", "-8", "--eval_every", "0", "--save_every", "100", "--out", str(tmp_path / "soak")])
    laser.train(laser.prepare(config), config)
    (early, files), late = sizes[60], sizes[300:]
    assert len(sizes) == 500 and max(f for _, f in late) <= files
    assert statistics.mean(r for r, _ in late) < early + 4 * 2**20


def test_save__a_checkpoint_is_read_by_the_library_alone(finished):
    tokenizer = AutoTokenizer.from_pretrained(finished[0] / "checkpoint")
    text = "14:2 5 9=2+5\n \\boxed{5,9}~"
    assert tokenizer(text)["input_ids"] == laser.character_tokenizer()(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("flags", [["--exact_reference", "--kl", "0.1"], ["--self_loss", "ce", "--no-balanced", "--param_dtype", "bfloat16"], ["--alpha", "0", "--tau", "0"]])
def test_train__every_variant_runs(flags, tmp_path):
    assert here(*FAST, *flags, "--out", tmp_path / "v") == 0
    rows = lines(tmp_path / "v" / "metrics.jsonl")
    assert all(math.isfinite(row["grad_norm"]) for row in rows)
    if "--kl" in flags:  # the policy starts as the reference, then leaves it
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-5) and rows[-1]["kl"] > 0


def test_prepare__a_run_stopped_at_step_0_is_resumed_bit_for_bit(finished, tmp_path):
    assert here(*FAST, "--steps", 0, "--out", tmp_path / "z") == 0
    assert json.loads((tmp_path / "z" / "checkpoint" / "laser.json").read_text())["step"] == 0
    assert here(*FAST, "--resume", "--out", tmp_path / "z") == 0
    assert without_times(lines(tmp_path / "z" / "metrics.jsonl")) == without_times(lines(finished[0] / "metrics.jsonl"))
    assert same_weights(finished[0], tmp_path / "z")


def test_replace_folder__keeps_what_has_folders_inside(tmp_path):
    """As a tokenizer with several named chat templates is saved."""
    def write(folder):
        (folder / "additional_chat_templates").mkdir(parents=True)
        (folder / "additional_chat_templates" / "rag.jinja").write_text("x")

    laser.replace_folder(tmp_path / "checkpoint", write)
    assert (tmp_path / "checkpoint" / "additional_chat_templates" / "rag.jinja").read_text() == "x"


def test_prepare__a_run_is_resumed_with_the_day_it_began(finished, tmp_path):
    stored = json.loads((finished[0] / "config.json").read_text())
    assert stored["date"] == datetime.date.today().isoformat()
    shutil.copytree(finished[0], tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(json.dumps({**stored, "date": "2001-09-09"}))
    assert laser.parse(["--resume", "--out", str(tmp_path / "old")]).date == "2001-09-09"
    assert here("--resume", "--out", tmp_path / "old") == 0


def test_show__rollouts_are_written_every_so_many_steps_and_cut_on_resuming(tmp_path):
    arguments = [*FAST, "--warm_start_steps", 0, "--c_ref", -8, "--rollouts_every", 2, "--out", tmp_path / "r"]
    assert here(*arguments, "--steps", 4, "--save_every", 3) == 0
    rows = lines(tmp_path / "r" / "rollouts.jsonl")
    assert [row["step"] for row in rows] == [2] * 16 + [4] * 16 and set(rows[0]) == {"step", "problem", "gold", "response", "reward", "self_reward"}
    metrics = lines(tmp_path / "r" / "metrics.jsonl")
    assert statistics.mean(row["reward"] for row in rows[:16]) == metrics[1]["reward"]
    laser_json = tmp_path / "r" / "checkpoint" / "laser.json"
    laser_json.write_text(laser_json.read_text().replace('"step": 4', '"step": 3'))  # as if killed after the third step
    assert here("--resume", "--out", tmp_path / "r") == 0 and [row["step"] for row in lines(tmp_path / "r" / "rollouts.jsonl")] == [2] * 16 + [4] * 16


def test_show__warns_once_when_solutions_stop_ending(capsys):
    run, rollouts = types.SimpleNamespace(complete=None), [({"problem": "p"}, "y", 0.0, 0.0)]
    for step, complete in enumerate([0.9, 0.95, 0.71, 0.69, 0.1], 2):
        laser.show(run, laser.progress([]), {"step": step, "reward": 0.5, "f1": None, "complete": complete}, rollouts, Config(rollouts_every=0))
    error = capsys.readouterr().err
    run.complete = 0.9  # of 16 solutions, of which a quarter fewer may end by chance
    laser.show(run, laser.progress([]), {"step": 9, "reward": 0.5, "f1": None, "complete": 0.6}, rollouts,
               Config(rollouts_every=0, prompts_per_step=4, group_size=4))
    assert "warning" not in capsys.readouterr().err
    assert error.count("warning: ") == 1 and "at step 5 0.69 of the solutions end by themselves, 0.90 at the start" in error


def test_step_figures__entropy_and_equal_groups_by_hand(given):
    policy, row, solutions, responses, _ = given
    config = Config(group_size=2, reasoning_warmup=0, beta=0.2)
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.0)
    line, _ = laser.training_step(policy, optimizer, [row, row], 0, config)  # rewards 1, 0 | 0, 0
    total = sum(solutions.logps[i, : len(r)].sum().item() for i, r in enumerate(responses))
    assert line["equal_groups"] == 0.5 and line["entropy"] == pytest.approx(-total / sum(map(len, responses)), rel=1e-4)


def test_progress__a_log_file_gets_few_lines(finished):
    assert finished[1].stderr.count("\r") < 60  # of four steps, a warm start of twenty, and three evaluations


# -------------------------------------------------------------------------------------------------- test time


def test_load_grader__a_checkpoint_of_others_needs_two_flags(finished, tmp_path, capsys):
    model = tmp_path / "released"
    shutil.copytree(finished[0] / "checkpoint", model)
    (model / "laser.json").unlink()
    stored = json.loads((finished[0] / "checkpoint" / "laser.json").read_text())["laser"]
    ask = ["--model", model, "--ask", "8 1 6 3 4 2:6=", "--prompt_suffix", "", "--max_response_tokens", 40]
    assert here(*ask) == 2 and "give --token and --c_ref" in capsys.readouterr().err
    assert here(*ask, "--token", stored["token"], "--c_ref", stored["c_ref"]) == 0


def test_ask__takes_the_answer_with_the_largest_sum_of_clipped_self_rewards(finished, monkeypatch, capsys):
    grades = [("1,4", 0.1), ("1,4", -3.0), ("1,4", 0.2), ("2,4", 0.9), ("4,2", 0.4), ("3,3", 1.2), (None, 5.0)]
    monkeypatch.setattr(laser, "solve", lambda *_: [{"answer": a, "self_reward": r, "response": "y", "complete": True} for a, r in grades])
    assert here("--model", finished[0] / "checkpoint", "--ask", "8 1 6 3 4 2:6=") == 0
    printed = capsys.readouterr().out
    assert printed.index("2,4: 2 of 7 votes, self-reward 1.30") < printed.index("3,3: 1 of 7 votes, self-reward 1.00")
    assert printed.index("3,3:") < printed.index("1,4: 3 of 7 votes, self-reward 0.30") and "weighted vote: 2,4, confidence 0.65" in printed


def test_ask__prints_answers_and_the_winner(finished, capsys, monkeypatch):
    out, problem = finished[0] / "checkpoint", laser.pair_problems("pairs-heldout", 1)[0]["problem"]
    common = ["--model", str(out), "--n", "16"]
    assert laser.main([*common, "--ask", problem]) == 0
    printed = capsys.readouterr().out
    counted = [int(line.split(" of 16 votes")[0].rsplit(" ", 1)[1]) for line in printed.splitlines() if " of 16 votes" in line]
    assert 0 < sum(counted) <= 16 and "weighted vote: " in printed
    monkeypatch.setattr("sys.stdin", io.StringIO(problem + "\n"))
    assert laser.main([*common, "--ask", "-"]) == 0 and capsys.readouterr().out == printed


def test_score_file__of_given_responses_is_what_was_read_when_they_were_drawn(finished, tmp_path, capsys):
    out = finished[0]
    command = ["--model", str(out / "checkpoint"), "--score", str(out / "samples.jsonl"), "--out", str(tmp_path / "s.jsonl")]
    assert laser.main(command) == 0
    for before, after in zip(lines(out / "samples.jsonl"), lines(tmp_path / "s.jsonl"), strict=True):
        assert {**after, "self_reward": 0, "logp_zc": 0} == {**before, "self_reward": 0, "logp_zc": 0}
        if before["complete"] and len(before["response"]) + 1 == before["tokens"]:  # else a token beyond the vocabulary was said
            assert after["self_reward"] == pytest.approx(before["self_reward"], abs=1e-4)
            assert after["logp_zc"] == pytest.approx(before["logp_zc"], abs=1e-3)
        assert before["complete"] or after["self_reward"] is None
    assert laser.main(command) == 2 and "exists" in capsys.readouterr().err


def test_score_file__counts_responses_that_encode_otherwise_and_names_what_is_too_long(finished, tmp_path, capsys):
    rows = [{"problem": "1 2:3=", "response": "1+2=3", "tokens": n} for n in (6, 7)] + [{"problem": "1 2:3=", "response": "1+2=3"}]
    (tmp_path / "r.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    command = ["--model", finished[0] / "checkpoint", "--score", tmp_path / "r.jsonl", "--out", tmp_path / "new" / "s.jsonl"]
    assert here(*command) == 0 and "1 of 3 responses encode to other tokens" in capsys.readouterr().err
    assert len({row["self_reward"] for row in lines(tmp_path / "new" / "s.jsonl")}) == 1
    (tmp_path / "r.jsonl").write_text(json.dumps({"problem": "1 2:3=", "response": "1", "complete": False}))
    assert here(*command[:-1], tmp_path / "cut.jsonl") == 2 and "no complete response" in capsys.readouterr().err
    for messages in (None, "1+1", [], [{"role": "assistant", "content": "2"}]):
        (tmp_path / "r.jsonl").write_text(json.dumps({"problem": "1 2:3=", "response": "1", "messages": messages}))
        assert here(*command[:-1], tmp_path / "no.jsonl") == 2 and "`messages` are not" in capsys.readouterr().err
    (tmp_path / "r.jsonl").write_text(json.dumps({"problem": "1 2:3=", "response": "1", "complete": "no"}))
    assert here(*command[:-1], tmp_path / "no.jsonl") == 2 and "`complete` must be true or false" in capsys.readouterr().err
    (tmp_path / "r.jsonl").write_text(json.dumps({"problem": "1 2:3=", "response": "1" * 600}))
    command[-1] = tmp_path / "long.jsonl"
    assert here(*command) == 2 and "positions end at 512" in capsys.readouterr().err and not (tmp_path / "long.jsonl").exists()


def test_evaluate_only__goes_on_another_day_with_the_day_it_began(finished, tmp_path, capsys):
    model = tmp_path / "released"  # as the checkpoints of others, which store no day
    shutil.copytree(finished[0] / "checkpoint", model)
    stored = json.loads((model / "laser.json").read_text())["laser"]
    (model / "laser.json").unlink()
    (tmp_path / "a.jsonl").write_text(json.dumps(laser.pair_problems("pairs-heldout", 1)[0]))
    command = ["--model", model, "--eval_only", "--eval_data", tmp_path / "a.jsonl", "--n", 2, "--token", stored["token"], "--c_ref",
               stored["c_ref"], "--max_response_tokens", 9, "--out", tmp_path / "e"]
    assert here(*command) == 0
    config = tmp_path / "e" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "date": "2001-09-09"}))
    assert here(*command) == 0 and here(*command, "--date", "2024-02-29") == 2
    (model / "ev").mkdir()  # no file of the model
    assert here(*command) == 0
    os.utime(model / "model.safetensors", (10**9, 10**9))  # other weights at the same place, and older
    assert here(*command) == 2 and "has changed since" in capsys.readouterr().err


def test_evaluate_only__of_messages_is_scored_and_goes_on_with_the_same_messages(finished, tmp_path, capsys):
    model, data = tmp_path / "chat", tmp_path / "e.jsonl"
    shutil.copytree(finished[0] / "checkpoint", model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(model)
    row = laser.pair_problems("pairs-heldout", 1)[0]
    chat = [{"role": "system", "content": "1+2=3"}, {"role": "user", "content": row["problem"]}]
    data.write_text(json.dumps({"problem": chat, "answer": row["answer"]}))
    command = ["--model", model, "--eval_only", "--eval_data", data, "--n", 8, "--out", tmp_path / "E"]
    assert here(*command) == 0
    samples = lines(tmp_path / "E" / "samples.jsonl")
    assert here("--model", model, "--prompt_suffix", "Now.", "--score", tmp_path / "E" / "samples.jsonl", "--out", tmp_path / "other.jsonl") == 0
    assert here("--model", model, "--score", tmp_path / "E" / "samples.jsonl", "--out", tmp_path / "s.jsonl") == 0
    compared = 0
    for before, after, other in zip(samples, *(lines(tmp_path / f"{name}.jsonl") for name in ("s", "other")), strict=True):
        assert before["messages"] == chat
        if before["complete"] and len(before["response"]) + 1 == before["tokens"]:
            assert after["logp_zc"] == pytest.approx(before["logp_zc"], abs=1e-3) != pytest.approx(other["logp_zc"], abs=1e-3)
            compared += 1
    assert compared
    chat[0]["content"] = "Be long."
    data.write_text(json.dumps({"problem": chat, "answer": row["answer"]}))
    assert here(*command) == 2 and "solutions of other problems" in capsys.readouterr().err


def test_evaluate_only__the_table_of_several_sets_has_their_mean(finished, tmp_path, capsys):
    command = ["--model", finished[0] / "checkpoint", "--eval_only", "--eval_data", "pairs-heldout", "pairs-hard", "--n", 2, "--out", tmp_path / "e"]
    assert here(*command) == 0
    first, second, mean = lines(tmp_path / "e" / "eval.jsonl")
    assert mean["data"] == "mean" and mean["mean@1"] == pytest.approx((first["mean@1"] + second["mean@1"]) / 2)
    printed = capsys.readouterr().out
    assert "self-reward → share of right" in printed and "self-rewarding took" in printed
    samples = [row for row in lines(tmp_path / "e" / "samples.jsonl") if row["data"] == "pairs-hard"]
    assert second["self_reward_tokens"] == sum(row["complete"] for row in samples)


def test_evaluate_only__interrupted_goes_on(finished, tmp_path):
    rows = laser.pair_problems("pairs-heldout", 40)
    data = tmp_path / "held.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["--model", str(finished[0] / "checkpoint"), "--eval_only", "--eval_data", str(data), "--n", "4"]
    assert laser.main([*command, "--out", str(tmp_path / "a")]) == 0 == laser.main([*command, "--out", str(tmp_path / "b")])
    whole = (tmp_path / "a" / "samples.jsonl").read_text()
    (tmp_path / "b" / "samples.jsonl").write_text(whole[: len(whole) // 2])  # as a kill in mid-write leaves it
    (tmp_path / "b" / "model.json").unlink()  # as one right at the start would have
    assert laser.main([*command, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "model.json").read_text() == (tmp_path / "a" / "model.json").read_text()
    for name in ("samples.jsonl", "eval.jsonl"):  # grades to rounding: other rows ran beside these
        for one, other in zip(*(without_times(lines(tmp_path / run / name)) for run in "ab"), strict=True):
            if "reliability" in one:
                bins = [torch.tensor([[x or 0 for x in line] for line in row.pop("reliability")], dtype=torch.float64) for row in (one, other)]
                assert torch.allclose(*bins, atol=1e-4)
            assert one.keys() == other.keys() and all(one[k] == pytest.approx(other[k], abs=1e-4) for k in one)
    assert laser.main([*command[:-1], "8", "--out", str(tmp_path / "b")]) == 2  # other settings
    checkpoint = tmp_path / "trained on"
    shutil.copytree(finished[0] / "checkpoint", checkpoint)
    told = json.loads((checkpoint / "laser.json").read_text())
    (tmp_path / "b" / "config.json").write_text((tmp_path / "b" / "config.json").read_text().replace(str(finished[0] / "checkpoint"), str(checkpoint)))
    command[1] = str(checkpoint)
    assert laser.main([*command, "--out", str(tmp_path / "b")]) == 0  # the same model at another place
    (checkpoint / "laser.json").write_text(json.dumps({**told, "step": told["step"] + 1}))
    assert laser.main([*command, "--out", str(tmp_path / "b")]) == 2  # a model that was trained on


def test_evaluate_only__of_other_problems_is_refused_and_keeps_what_is_there(finished, tmp_path, capsys):
    rows = laser.pair_problems("pairs-heldout", 6)
    command = ["--model", finished[0] / "checkpoint", "--eval_only", "--eval_data", tmp_path / "e.jsonl", "--n", 2, "--out", tmp_path / "E"]
    for change in ({}, {"answer": "8,3"}, {"problem": "1 2 3:3="}):
        (tmp_path / "e.jsonl").write_text("".join(json.dumps({**row, **(change if i == 2 else {})}) + "\n" for i, row in enumerate(rows)))
        assert here(*command) == (2 if change else 0)
        kept = lines(tmp_path / "E" / "samples.jsonl")
        assert len(kept) == 12 and [row["gold"] for row in kept[::2]] == [row["answer"] for row in rows]
    assert "other problems" in capsys.readouterr().err
    with (tmp_path / "E" / "samples.jsonl").open("a") as file:
        file.write('{"step": 4, "data": "e.jsonl", "problem": "x", "gold": "1"}\n')
    assert here(*command) == 2 and "samples.jsonl is damaged" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- the command line


def test_parse__help_shows_the_flags_as_the_file_does(capsys):
    with pytest.raises(SystemExit):
        laser.main(["--help"])
    printed = capsys.readouterr().out
    places = [printed.index(f"\n  --{field.name}") for field in dataclasses.fields(Config)]
    assert places == sorted(places) and "(default: 128)" in printed and "--no-balanced" in printed and "--n" in printed


def test_check__a_tracker_follows_training_only():
    for task in ({"ask": "1 2:3="}, {"score": "x.jsonl"}, {"eval_only": True}):
        with pytest.raises(laser.UserError, match="--track follows a training run"):
            laser.check(Config(track="trackio", **task))


def test_check__a_reward_is_for_what_is_verified():
    for task in ({"ask": "1 2:3="}, {"score": "x.jsonl"}):
        with pytest.raises(laser.UserError, match="--ask and --score do not verify"):
            laser.check(Config(reward="math:sqrt", **task))
    laser.check(Config(reward="math:sqrt", eval_only=True))


def test_prepare__a_tracker_that_does_not_start_is_named_before_anything_is_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "trackio.py").write_text("def init(**options): raise SystemExit('log in first')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert here(*FAST, "--track", "trackio", "--out", tmp_path / "t") == 2 and not (tmp_path / "t").exists()
    assert "--track trackio does not start (SystemExit: log in first)" in capsys.readouterr().err
    del sys.modules["trackio"]


def test_check__a_missing_tracker_is_refused_with_a_sentence(tmp_path, capsys):
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    assert here(*FAST, "--track", "wandb", "--out", tmp_path / "t") == 2 and not (tmp_path / "t").exists()
    assert "pip install wandb" in capsys.readouterr().err


def test_log__the_tracker_gets_every_number(tmp_path, monkeypatch):
    """A package with `init`, `log` and `finish`, as trackio and wandb are."""
    (tmp_path / "trackio.py").write_text("calls = []\ndef init(**options): calls.append(options)\n"
                                         "def log(row, step): calls.append((step, row))\ndef finish(): calls.append('finish')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert here(*FAST, "--warm_start_steps", 0, "--c_ref", -8, "--steps", 2, "--track", "trackio", "--out", tmp_path / "t") == 0
    start, *rows, end = sys.modules.pop("trackio").calls
    assert start["name"] == "t" and start["config"]["steps"] == 2 and end == "finish"
    for (step, row), line in zip(rows, lines(tmp_path / "t" / "metrics.jsonl"), strict=True):
        assert step == line["step"] and row == {key: x for key, x in line.items() if x is not None}


def test_parse__config_file_stands_between_the_model_file_and_the_flags(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("lr: 1e-3\ngroup_size: 6\nbalanced: false\neval_data: [pairs-hard]\n")
    config = laser.parse(["--config", str(file), "--group-size", "4"])
    assert (config.lr, config.group_size, config.balanced, config.eval_data) == (1e-3, 4, False, ["pairs-hard"])
    assert config.steps == laser.parse([]).steps
    file.write_text("eval_data: pairs-hard\ntemplate_kwargs: {a: 1}\nend_token: 7\n")
    config = laser.parse(["--config", str(file)])
    assert (config.eval_data, config.template_kwargs, config.end_token) == (["pairs-hard"], '{"a": 1}', ["7"])
    for text, words in (("lr: fast", "mine.yaml: Argument --lr: invalid float"), ("learning_rate: 1", "no setting learning_rate"),
                        ("lr: [1]", "lr takes one value"), ("lr: {a: 1}", "invalid float"), ("1: 2", "no setting 1"), ("[a]: 2", "Cannot read"),
                        ("self_loss: mae", "--self_loss must be one of mse, ce"), ("- 1", "Cannot read"), ("a: [", "Cannot read")):
        file.write_text(text)
        assert here("--config", file) == 2 and words in capsys.readouterr().err


def test_parse__model_may_stand_in_the_config_file_or_in_the_run_that_is_resumed(finished, tmp_path, monkeypatch):
    (tmp_path / "arch.json").write_text('{"model_type": "qwen2", "laser": {"steps": 7, "lr": 0.5}}')
    (tmp_path / "mine.yaml").write_text(f"model: {tmp_path / 'arch.json'}\nlr: 0.25\n")
    config = laser.parse(["--config", str(tmp_path / "mine.yaml"), "--beta", "0.3"])
    assert (config.model, config.steps, config.lr, config.beta) == (str(tmp_path / "arch.json"), 7, 0.25, 0.3)
    assert config.data == Config().data  # nothing of the tiny model's settings
    (tmp_path / "hub.yaml").write_text("model: Qwen2.5-7B\n")
    assert laser.parse(["--config", str(tmp_path / "hub.yaml")]) == dataclasses.replace(
        Config(), model="Qwen2.5-7B", config=str(tmp_path / "hub.yaml"), date=datetime.date.today().isoformat())
    (tmp_path / "again.yaml").write_text(f"out: {finished[0]}\nresume: true\n")
    assert laser.parse(["--config", str(tmp_path / "again.yaml")]).steps == 4  # as the run of that folder has it
    shutil.copytree(finished[0], tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**stored, "model": "elsewhere/model", "data": "x.jsonl"}))
    resumed = laser.parse(["--resume", "--out", str(tmp_path / "run")])
    assert (resumed.model, resumed.data, resumed.steps) == ("elsewhere/model", "x.jsonl", 4)


def test_parse__a_warm_start_from_a_checkpoint_does_not_keep_its_c_ref(finished):
    model = str(finished[0] / "checkpoint")
    assert laser.parse(["--model", model]).c_ref < 0
    assert laser.parse(["--model", model, "--warm_start_steps", "5"]).c_ref is None
    assert laser.parse(["--model", model, "--warm_start_steps", "5", "--c_ref", "-1e1"]).c_ref == -10


def test_parse__another_token_or_an_exact_reference_does_not_keep_the_stored_c_ref(finished, capsys):
    model = str(finished[0] / "checkpoint")
    own = laser.parse(["--model", model])
    assert laser.parse(["--model", model, "--token", own.token]).c_ref == own.c_ref < 0
    assert laser.parse(["--model", model, "--token", "5"]).c_ref is None
    assert laser.parse(["--model", model, "--token", "5", "--c_ref", "-9"]).c_ref == -9
    laser.check(laser.parse(["--model", model, "--exact_reference"]))
    assert here("--model", model, "--token", 5, "--ask", "1 2:3=") == 2
    assert "--token is not the one in it" in capsys.readouterr().err


def test_parse__a_json_model_beside_the_program_is_found_again_on_resuming(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = laser.parse(["--model", "tiny_config.json", "--out", "run"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    assert laser.parse(["--model", "tiny_config.json", "--out", "run", "--resume"]).model == config.model == str(HERE / "tiny_config.json")


def test_parse__defaults_then_the_file_then_the_flags():
    config = laser.parse(["--group-size", "4", "--no-balanced"])
    assert (config.group_size, config.balanced, config.data, config.weight_decay) == (4, False, "pairs", 0.01)
    assert laser.parse(["--model", "Qwen2.5-7B"]).lr == 1e-6 and laser.hub_name("Qwen2.5-7B") == "Qwen/Qwen2.5-7B"


def test_parse__a_bad_settings_file_and_an_occupied_folder_are_refused(finished, tmp_path, capsys):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert laser.main([*FAST, "--out", str(out)]) == 2 and "--resume" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    bad = tmp_path / "bad.json"
    bad.write_text('{"model_type": "qwen2", "laser": {"learning_rate": 1}}')
    assert laser.main(["--model", str(bad)]) == 2 and "learning_rate" in capsys.readouterr().err


def test_main__what_lies_in_the_way_is_named(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    checkpoint = ["--model", finished[0] / "checkpoint"]
    for arguments, words in (([*FAST, "--out", tmp_path / "file" / "x"], "cannot be written to"),
                             ([*checkpoint, "--eval_only", "--eval_data", "pairs", "--out", tmp_path], "is not empty"),
                             ([*checkpoint, "--score", tmp_path / "file"], "no complete response"),
                             ([*checkpoint, "--ask", "\udcff"], "not in UTF-8")):
        assert here(*arguments) == 2 and words in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"lr": "fast"}')
    assert here("--resume", "--out", tmp_path / "run") == 2 and "config.json: Argument --lr: invalid float" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"] and (tmp_path / "file").read_text() == ""


WITHOUT_UNIX = """import os, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del os.sysconf
real = os.open
def open_no_folder(path, *rest, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "a folder cannot be opened here", path)
    return real(path, *rest, **options)
os.open = open_no_folder
sys.path.insert(0, {here!r})
import laser
sys.exit(laser.main(sys.argv[1:]))
"""


def test_main__trains_where_windows_lacks_what_unix_has(tmp_path):
    """Without fcntl, resource, sysconf, and folders that can be opened; on a terminal that knows ASCII only."""
    (tmp_path / "windows.py").write_text(WITHOUT_UNIX.format(here=str(HERE)))
    process = run(*FAST, "--warm_start_steps", 2, "--steps", 1, "--out", tmp_path / "w", program=tmp_path / "windows.py", PYTHONIOENCODING="ascii")
    assert process.returncode == 0, process.stderr[-2000:]
    assert "parameters on 1 ? cpu" in process.stdout and (tmp_path / "w" / "checkpoint" / "laser.json").exists()


def test_reward_function__of_the_user_takes_the_place_of_the_verifier(tmp_path, monkeypatch, capsys):
    (tmp_path / "judge.py").write_text("def short(response, gold): return 1 / (1 + len(response))\n"
                                       "def wild(response, gold): return 7\ndef broken(response, gold): return 1 / 0\n"
                                       "def leaves(response, gold): raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    config = Config(reward="judge:short")
    complete = torch.tensor([True, True, False])
    got = laser.verify(["abc", "", "abc"], [{"answer": "x"}] * 3, complete, config)
    assert got.tolist() == [0.25, 1, 0]
    for name, words in (("judge:wild", "returned 7.0; it must return"), ("judge:broken", "failed .ZeroDivisionError"),
                        ("judge:leaves", "failed .SystemExit")):
        with pytest.raises(laser.UserError, match=words):
            laser.verify(["abc"], [{"answer": "x"}], complete[:1], Config(reward=name))
    assert here(*FAST, "--reward", "judge:nothing", "--out", "o") == 2 and "cannot be imported" in capsys.readouterr().err
    assert here(*FAST, "--warm_start_steps", 0, "--c_ref", -8, "--steps", 1, "--reward", "judge:short", "--out", "r") == 0
    assert lines(tmp_path / "r" / "metrics.jsonl")[0]["reward"] not in (0, 1)


BAD = {
    "unknown flag": ["--learning_rate", "1"], "not a number": ["--lr", "fast"], "group of one": ["--group_size", "1"],
    "beta": ["--beta", "0"], "negative": ["--steps", "-1"], "tau": ["--tau", "2"], "nan": ["--alpha", "nan"],
    "missing file": ["--data", "nowhere.jsonl", "--warm_start_steps", "0"], "no such token": ["--token", "4000"],
    "unknown token": ["--token", "<zc>"], "eos": ["--token", "1"], "no model": ["--model", "nowhere.json"],
    "nothing to resume": ["--resume"], "contradiction": ["--exact_reference", "--c_ref", "-8"], "loss": ["--self_loss", "mae"],
    "positive c_ref": ["--c_ref", "3"], "greedy": ["--temperature", "0"], "long prompts": ["--max_prompt_tokens", "2"],
    "nothing to imitate": ["--warm_start_data", "nowhere.jsonl"], "never imitated": ["--warm_start_data", "pairs", "--warm_start_steps", "0"],
    "long solutions": ["--max_response_tokens", "5"], "no evaluation data": ["--config", "empty.yaml"], "device": ["--device", "tpu"],
    "said by the model": ["--token", "="], "two tasks": ["--ask", "x", "--score", "y", "--warm_start_steps", "0"],
    "blank": ["--ask", " ", "--warm_start_steps", "0"], "nothing to score": ["--score=", "--warm_start_steps", "0"],
    "template": ["--template_kwargs", "[1"], "list": ["--template_kwargs", "[]"], "no day": ["--date", "tomorrow"], "no function": ["--reward", "verify"],
    "hot": ["--temperature", "1e300"], "cold": ["--temperature", "1e-40"], "huge": ["--clip_high", "1e300"], "constant": ["--reward", "math:pi"],
    "endless token": ["--token", "9" * 50], "positions": ["--max_response_tokens", "500"],
}


def test_folder_of__is_named_after_the_run_that_made_the_checkpoint():
    assert laser.folder_of(Config(model="runs/a/checkpoint", eval_only=True)) == Path("runs/eval-a")
    assert laser.folder_of(Config(model="runs/a/checkpoint")) == Path("runs/checkpoint")
    assert laser.folder_of(Config(model="Qwen/Qwen2.5-7B", eval_only=True)) == Path("runs/eval-Qwen2.5-7B")
    assert laser.folder_of(Config(model="x/small.json")) == Path("runs/small") and laser.folder_of(Config(out="o")) == Path("o")
    assert laser.folder_of(Config(model=".")) == Path("runs") / Path.cwd().name


@pytest.mark.parametrize("flags", BAD.values(), ids=BAD)
def test_main__bad_input_gets_one_sentence_and_leaves_nothing(flags, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("eval_data: []\n")
    assert laser.main([*FAST, "--out", "out", *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("laser.py: ") and error.endswith(".") and len(error) < 400
    assert not Path("out").exists()


def test_main__the_readme_says_where_part_i_has_its_sections():
    """Each row of the reading guide starts at a ruler of laser.py that bears its name, and the story ends before line 800."""
    code, readme = ((HERE / name).read_text("utf-8") for name in ("laser.py", "README.md"))
    rulers = {number: line.strip("# -=") for number, line in enumerate(code.splitlines(), 1) if line.startswith(("# ---", "# ==="))}
    guide = readme[readme.index("| part I | lines |") : readme.index("| parts II and III |")]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in guide.splitlines()[3:] if line.count("|") == 4]
    assert len(rows) == 7
    for name, lines_ in rows:
        assert rulers[int(lines_.split("–")[0])] == name
    part_ii = next(number for number, name in rulers.items() if name.startswith("Part II:"))
    assert int(rows[-1][1].split("–")[1]) < part_ii <= 800


# ------------------------------------------------------------------------------------------------------- verify.py
LIMIT = 0.25  # seconds for any one call


@pytest.fixture
def own_garbage():
    """While a call is timed, collections look at its own objects only: a full one over all that the process has imported
    takes as long as the limit, whenever it happens to come."""
    gc.freeze()
    yield
    gc.unfreeze()


def golds() -> dict[str, list[str]]:
    if not DATA.exists():
        pytest.skip(f"the benchmark files are not in {DATA}")
    return {path.stem: [str(json.loads(line)["answer"]) for line in path.open()] for path in sorted(DATA.glob("*.jsonl"))
            if path.stem != "verify_cases"}


def is_typed(answer: str) -> bool:
    value = canonical(answer).value
    return not (isinstance(value, tuple) and value[0] in ("text", "unread"))


@pytest.mark.parametrize("response, answer", [
    (r"so \boxed{5}.", "5"), (r"\boxed{1} then \boxed{2}", "2"), (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"), (r"\boxed {5}", "5"),
    (r"\boxed{5} and \boxed{6", "5"), (r"\boxed{\boxed{5}}", r"\boxed{5}"), (r"\boxed{\{1,2\}}", r"\{1,2\}"), (r"\boxed{[1,2\}}", r"[1,2\}"),
    (r"\boxed{a \boxed{5}", "5"), (r"} \boxed{5} }", "5"), (r"{ { \boxed{5}", "5"), (r"\boxed{}", ""), ("5", None), ("", None), (r"\boxed", None),
    (r"\boxed{5", None), (r"\boxed 5", None), (r"\fbox{5}", None), (r"\boxed{x\\}", r"x\\"), ("\\boxed{\n5\n}", "\n5\n"),
])  # fmt: skip
def test_extract_answer__last_complete_box(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.parametrize("response, answer", [
    (r"<think>\boxed{4}</think>\boxed{5}", "5"), (r"<think>maybe \boxed{4}</think> It is 5.", None), (r"\boxed{4}</think>", None),
    (r"<think>\boxed{3}</think>\boxed{4}</think>\boxed{5}", "5"), (r"a</think>\boxed{5} and \boxed{6", "5"), (r"\boxed{4</think>\boxed{5}", "5"),
    (r"<think>\boxed{4}", "4"), (r"</think>\boxed{5}<think>\boxed{6}", "6"), (r"\boxed{5}</thin>", "5"), ("</think>" * 9 + r"\boxed{5}", "5"),
])  # fmt: skip
def test_extract_answer__thoughts_hold_no_answer(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.parametrize("response, answer", [
    (r"\boxed" * 100_000, None), (r"\boxed{" * 100_000, None), (r"\boxed{5}" * 1_000_000, "5"), ("{" * 10_000_000 + r"\boxed{5}", "5"),
    (r"\boxed{5}" + "}" * 100_000, "5"), ("\\" * 10_000_000 + r"boxed{5", None), ((r"\boxed" + " " * 50) * 100_000, None), ("x" * 10_000_000, None),
])  # fmt: skip
def test_extract_answer__hostile_response(response, answer):
    start = time.perf_counter()
    assert extract_answer(response) == answer
    assert time.perf_counter() - start < LIMIT
    start = time.perf_counter()
    assert reward(response, "5", strict=response.count("\\boxed") == 1) == (answer == "5")
    assert time.perf_counter() - start < LIMIT


@pytest.mark.parametrize("nothing", ["", " ", "\n", "$$", r"\,", "{}", r"\boxed{}", r"\text{ }", r"\left.\right.", "$ $", "."])
def test_canonical__is_none_for_an_empty_answer_which_equals_nothing(nothing):
    assert canonical(nothing) is None
    assert not any(equivalent(nothing, other) or equivalent(other, nothing) for other in (nothing, "", "0", "5", r"\emptyset"))


def test_canonical__reads_golds_as_values():
    answers = [gold for part in golds().values() for gold in part]
    text = [gold for gold in answers if not is_typed(gold)]
    assert len(answers) == 1275 and len(text) <= 11
    assert all(r"\text" in gold or "angle" in gold or r"\mho" in gold or gold == "t(0,4]" for gold in text)


def test_canonical__keys_agree_with_equivalent():
    """On plain values, equivalence is equality of readings: checked on all pairs of the golds."""
    answers = sorted({gold for part in golds().values() for gold in part})
    readings = [canonical(gold) for gold in answers]
    plain = [(gold, reading) for gold, reading in zip(answers, readings) if reading.equation is None]
    classes = {}
    for gold, reading in plain:
        classes.setdefault(reading.value, []).append(gold)
    for gold, reading in plain:
        same = [other for other, _ in plain if equivalent(gold, other)]
        assert same == classes[reading.value]


def test_canonical__tells_the_orders_of_capitals_apart():
    words = ["".join(order) for order in itertools.permutations("ABCD")] + ["".join(order) for order in itertools.product("HT", repeat=3)]
    assert group(words) == group([rf"\text{{{word}}}" for word in words]) == list(range(len(words)))


@pytest.mark.parametrize("answer, typed", [
    ("2^{30000}", True), ("2^{40000}", False), ("2^{-30000}", True), ("3000!", True), ("3001!", False), (r"\tan 89^\circ", True), (r"\tan 90^\circ", False),
    (r"\frac{1}{\sqrt2\sqrt3-\sqrt6}", False), (r"\ln 0", False), ("0^0", False), (r"e^{40000}", True), ("e^{50000}", False), ("(-1)!", False),
    (",".join(f"2^{{{i}}}" for i in range(8000, 8050)), True), (",".join(f"2^{{{i}}}" for i in range(8000, 8180)), False), (r"\lfloor i \rfloor", False),
    ("(" * 19 + "5" + ")" * 19, True), ("(" * 21 + "5" + ")" * 21, False), (r"\pm1\pm2\pm3\pm4", True), (r"\pm1\pm2\pm3\pm4\pm5", False),
])  # fmt: skip
def test_canonical__bounds(answer, typed):
    assert is_typed(answer) is typed


@pytest.mark.parametrize("answer, typed", [
    ("2999!!", True), ("3001!!", False), ("(-1)!!", True), ("(-3)!!", False), (r"\operatorname{erf}(8)", True), (r"\operatorname{erf}(9)", False),
    (r"\tanh 60", True), (r"\tanh 70", False), (r"\cos 10^{-30}", True), (r"\cos 10^{-100}", False), (r"e^{10^{-80}}", True), (r"e^{10^{-100}}", False),
    (r"\sin(1+10^{-200})", False), (r"\operatorname{artanh} 1", False), (r"\operatorname{Li}_2(1)", True), (r"\operatorname{Li}_2(2)", False),
    (r"\operatorname{Li}_{10}(1)", False), (r"\operatorname{li}(1)", False), (r"\Gamma(-2)", False), (r"\psi(0)", False), (r"\zeta(1)", False), ("f()", False),
])  # fmt: skip
def test_canonical__bounds_of_functions(answer, typed):
    assert is_typed(answer) is typed


@pytest.mark.usefixtures("own_garbage")
def test_canonical__known_functions_at_nasty_arguments():
    """Near poles and zeros, huge, tiny, negative, complex: a function takes its time within bounds, or is not taken."""
    functions = [rf"\Gamma(%s)", r"\zeta(%s)", r"\psi(%s)", "W(%s)", "J_9(%s)", "I_9(%s)", "(%s)!!", r"\mathrm{Li}_2(%s)", r"\sinh^{-1}(%s)", r"\|%s\|", "f(%s)",
                 *(rf"\operatorname{{{name}}}(%s)" for name in "erf erfc Ei Si Ci li sinh cosh tanh coth sech csch arccosh arctanh arcsec".split())]  # fmt: skip
    arguments = ["0", "-1", "1/2", "0.99", "1-10^{-30}", "1+10^{-300}", "-5+10^{-20}", "-5+10^{-300}", "10^{-18}", "2^{-30000}", "7.99", "-16", "63.9", "100", "-999.5",
                 "2999.5", "10^6", "10^{18}", "10^{100}", r"\pi", "i", "1000i", "-1/e", "-0.36", r"\pi 10^{-60}", r"\pi 10^{15}", "x+iy", "x/10^{20}", r"1+2^{-250}\pi"]
    canonical("+".join(function % "1/3" for function in functions) + r"\zeta(3)+1!+e!")
    for function in functions:
        for argument in arguments:
            start = time.perf_counter()
            assert canonical(function % argument).value is not None
            assert time.perf_counter() - start < LIMIT, (function, argument)


def test_canonical__flat_functions_do_not_meet_their_limits():
    for text, limit in ((r"\tanh %s", "1"), (r"\operatorname{erf}(%s)", "1"), (r"\zeta(%s)", "1"), (r"\coth(%s)", "1"), (r"e^{-%s}", "0"), (r"\operatorname{erfc}(%s)", "0")):
        for argument in (5, 20, 50, 99, 300, 10**3, 10**5, 10**9):
            assert not equivalent(text % argument, limit), (text, argument)


@pytest.mark.usefixtures("own_garbage")
def test_canonical__random_tokens():
    vocabulary = r"""\frac \frac { } { } ( ) [ ] \{ \} , ; 1 2 3 10 0 12 99 5000 .5 3.14 x y n k a_1 x_{2} \pi e i + - - * / \cdot ^ ^ _ ! \sqrt
        \sqrt[3] \sin \cos^2 \tan \ln \log_2 \log \exp | | \left| \right| \lfloor \rfloor \lceil \rceil \binom \pm = = < > \le \ne \in \cup \infty
        \mathbb{R} \emptyset \text{cm} \text{and} \text{or} \text{June} word June 20 \% ^\circ \$ $ \\ & \begin{pmatrix} \end{pmatrix} \begin{array}{cc}
        \end{array} \overline{3} 0.\overline{3} 1\frac12 10,000 1{,}000 \, \quad \boxed \boxed{ ' " : ~ é ∞ − ² \langle \rangle \mid \theta \arcsin
        1e5 e4 \vec \dot 9^9 10^{100} \mathrm{e} . \ f( g( \Gamma( \zeta( \psi( W( J_0( I_3( \operatorname{erf}( \mathrm{Li}_2 \operatorname{li}( \operatorname{Ei}( \Phi( u( h(
        \sinh \cosh \tanh( \operatorname{arctanh} \text{erfc} !! \| \| \lVert \rVert \choose \over \setminus \cap \pmod \mod \equiv f^{-1}( f^{(2)}( AB BA A^{-1} HT
        \hat{x} \bar x \begin{cases} \end{cases} \begin{aligned} \end{aligned} \tag{1} \bm 2⁴ x₁ ½ 5e-05 USD “ ” `` '' \text{infinity} \text{all~real~numbers} \text{mod} \operatorname{Ci}(
        -1 -2 0.999 10^{-30} 2^{-500} 50 1000 (x+1) (n-1) (2) (1/4) (-1/2)""".split()  # fmt: skip
    rng = random.Random(0)
    for _ in range(4000):
        soup = rng.choice(("", " ")).join(rng.choice(vocabulary) for _ in range(rng.randrange(1, rng.choice((3, 6, 10, 20, 60, 300)))))
        start = time.perf_counter()
        assert canonical(soup) is None or equivalent(soup, soup), soup
        extract_answer(soup)
        assert time.perf_counter() - start < LIMIT, soup


def test_canonical__memory_stays_flat():
    answers = [rf"2^{{30000}}+{i}" for i in range(1500)]
    tracemalloc.start()
    for answer in [*(HOSTILE[name] for name in ("list", "product", "third powers", "digits", "long", "union, long", "lists of them")), *answers]:
        equivalent("1", answer)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20 << 20 and peak < 60 << 20
    assert 0 < verify.cached_reading.cache_info().maxsize <= 1024


def test_canonical__reads_under_the_lock(monkeypatch):
    original, locked = verify.Calculator, []
    monkeypatch.setattr(verify, "Calculator", lambda tokens: locked.append(verify.LOCK.locked()) or original(tokens))
    assert verify.cached_reading.__wrapped__("5") is not None and locked == [True]


def test_canonical__in_threads():
    """Four threads at once, switching in the midst of everything, read what one alone reads; none of them is the main thread."""
    answers = [rf"\sqrt{{{i}}}+e^{{\pi/{i}}}+\sin {i}+({i}/7)!+\ln {i}+i\arctan {i}" for i in range(2, 40)] + [row[2] for row in read_pairs()]
    read = verify.cached_reading.__wrapped__
    expected, wrong = [read(answer) for answer in answers], []

    def work(seed):
        order = list(range(len(answers)))
        random.Random(seed).shuffle(order)
        for _ in range(3):
            wrong.extend(answers[k] for k in order[:150] if read(answers[k]) != expected[k])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert not wrong


def test_equivalent__cases_of_the_shared_folder():
    golds()
    if not (DATA / "verify_cases.jsonl").exists():
        pytest.skip(f"verify_cases.jsonl is not in {DATA}")
    rows, wrong = [json.loads(line) for line in (DATA / "verify_cases.jsonl").open()], []
    for row in rows:
        if row["kind"] == "equivalent":
            right = equivalent(row["gold"], row["answer"]), equivalent(row["answer"], row["gold"])
        else:
            right = (reward(row["response"], row["gold"], strict=row["kind"] == "reward strict") == 1,)
        wrong += [row] * (set(right) != {row["right"]})
    assert len(rows) == 190 and not wrong


@pytest.mark.parametrize("text", ["?", r"\foo", "5..", ")(", r"\frac{1}{0}", "1=2=3", r"\begin{pmatrix}1", "\x00", "\ud800", "٣", "a" * 5000])
def test_equivalent__the_unreadable_equals_itself_only(text):
    assert equivalent(text, text) and not equivalent(text, text + "1") and not equivalent("3", text)


def test_equivalent__golds_rewritten():
    rewritings = [
        lambda g: g, lambda g: f"${g}$", lambda g: rf"\boxed{{{g}}}", lambda g: rf"  {g} ", lambda g: rf"\displaystyle {g}", lambda g: rf"\[{g}\]",
        lambda g: g.replace(r"\frac", r"\dfrac"), lambda g: g.replace("-", "−"), lambda g: g.replace(r"\left", "").replace(r"\right", ""),
        lambda g: rf"\,{g}\!", lambda g: g.replace("+", " + ").replace("=", " = "), lambda g: g.rstrip(".") + ".", lambda g: rf"{{{g}}}",
    ]  # fmt: skip
    for gold in {gold for part in golds().values() for gold in part}:
        for rewrite in rewritings:
            assert equivalent(gold, rewrite(gold)) and equivalent(rewrite(gold), gold), (gold, rewrite(gold))


def test_equivalent__golds_transformed():
    """Through the calculator: a value written another way, which string comparison could not accept."""
    tried = 0
    for gold in {gold for part in golds().values() for gold in part}:
        value = canonical(gold).value
        number = is_typed(gold) and (not isinstance(value, tuple) or value[0] in ("formula", "complex"))
        if number and not set("=%$,") & set(gold) and not any(word in gold for word in (r"\text", r"\mbox", r"\circ", r"\pm")):
            tried += 1
            for other in (f"2({gold})-({gold})", rf"\frac{{3({gold})}}{{3}}", f"0+({gold})", f"x={gold}" if "x" not in gold else gold):
                assert equivalent(gold, other), (gold, other)
            for other in (f"{gold}+1", rf"-\pi-({gold})", rf"({gold})(1+10^{{-9}})+\pi 10^{{-9}}"):
                assert not equivalent(gold, other), (gold, other)
    assert tried > 500


def test_equivalent__no_gold_accepts_its_neighbour():
    for part in golds().values():
        for gold, other in zip(part, part[1:] + part[:1]):
            if gold != other and {gold, other} != {"5", "x=5"}:
                assert not equivalent(gold, other), (gold, other)


def test_equivalent__mutated_golds():
    """Answers that almost parse, from every gold: characters dropped, doubled, swapped. A change of one digit is a change of value."""
    rng = random.Random(0)
    for gold in sorted({gold for part in golds().values() for gold in part}):
        i = rng.randrange(len(gold))
        for other in (gold[:i] + gold[i + 1 :], gold[:i] + gold[i] + gold[i:], gold[:i], gold[i:] + gold[:i]):
            assert equivalent(gold, other) is equivalent(other, gold)
        digits = [i for i, character in enumerate(gold) if character.isdigit() and "e+" not in gold]
        if digits and is_typed(gold) and "0" not in gold:
            i = rng.choice(digits)
            other = gold[:i] + str(int(gold[i]) % 9 + 1) + gold[i + 1 :]
            assert not equivalent(gold, other), (gold, other)


def test_equivalent__square_roots_against_integers():
    """sqrt(a) + sqrt(b) = sqrt(c) exactly if 4ab = (c - a - b)^2 and c >= a + b: an independent rule in integers."""
    for a in range(1, 13):
        for b in range(a, 13):
            for c in range(1, 51):
                same = c >= a + b and 4 * a * b == (c - a - b) ** 2
                assert equivalent(rf"\sqrt{{{a}}}+\sqrt{{{b}}}", rf"\sqrt{{{c}}}") is same


def test_equivalent__polynomials_against_coefficients():
    rng = random.Random(0)
    for _ in range(300):
        roots, other = ([rng.randrange(-3, 4) for _ in range(3)] for _ in range(2))
        p, q, r = roots
        expanded = f"x^3-({p + q + r})x^2+({p * q + q * r + r * p})x-({p * q * r})"
        factored = "".join(f"(x-({root}))" for root in other)
        assert equivalent(expanded, factored) is (sorted(roots) == sorted(other))


def test_equivalent__floors_are_told_apart():
    """By all that tells them apart below 41: single jumps, at the multiples of q or at the squares."""
    for q in range(2, 13):
        floors = [rf"\lfloor\frac{{n+{j}}}{{{q}}}\rfloor" for j in range(q)] + [rf"\lceil\frac{{n+{j}}}{{{q}}}\rceil" for j in (1, 2)]
        assert group(floors)[:q] == list(range(q)) and equivalent(floors[q - 1], rf"\lceil\frac n{{{q}}}\rceil")
    roots = [rf"\lfloor\sqrt{{n+{j}}}\rfloor" for j in range(9)]
    assert group(roots) == list(range(9))


def test_equivalent__unions_against_points():
    """A union of intervals is the set of its points: compared at every half integer, which is all that integer ends can tell."""
    rng = random.Random(1)
    def draw():
        intervals = [(rng.choice("(["), low := rng.randrange(6), low + rng.randrange(1, 4), rng.choice(")]")) for _ in range(3)]
        points = {x / 2 for x in range(20) for o, a, b, c in intervals if (a < x / 2 or a == x / 2 and o == "[") and (x / 2 < b or x / 2 == b and c == "]")}
        return r"\cup".join(f"{o}{a},{b}{c}" for o, a, b, c in intervals), points
    draws = [draw() for _ in range(150)]
    for text, points in draws:
        for other, others in draws[:40]:
            assert equivalent(text, other) is (points == others), (text, other)


def test_equivalent__set_differences_against_points():
    """As with unions: a difference and an intersection of intervals are sets of points, compared at every half integer."""
    rng, draws = random.Random(2), []

    def interval():
        o, low, c = rng.choice("(["), rng.randrange(6), rng.choice(")]")
        high = low + rng.randrange(1, 4)
        return f"{o}{low},{high}{c}", {x / 2 for x in range(20) if (low < x / 2 or low == x / 2 and o == "[") and (x / 2 < high or x / 2 == high and c == "]")}

    for _ in range(120):
        (text, points), (other, others) = interval(), interval()
        draws += [(rf"{text}\setminus {other}", points - others), (rf"{text}\cap {other}", points & others), (rf"{text}\cup {other}", points | others)]
    for text, points in draws:
        for other, others in draws[:60]:
            assert equivalent(text, other) is (points == others), (text, other)


def test_equivalent__double_factorials_and_residues_by_hand():
    for n in range(-1, 40):
        assert equivalent(f"({n})!!", str(math.prod(range(n, 0, -2)))) and not equivalent(f"({n})!!", str(math.prod(range(n, 0, -2)) + 1))
    for a, b, m in itertools.product(range(-4, 9), range(-4, 9), range(1, 6)):
        assert equivalent(rf"n \equiv {a} \pmod{{{m}}}", rf"n \equiv {b} \mod {m}") is ((a - b) % m == 0)


def test_equivalent__sums_of_an_unknown_function_are_multisets_of_arguments():
    rng = random.Random(3)
    for name in ("f", "g", r"\phi", "P_n", "u", "h'", r"\hat f", "x"):
        for _ in range(40):
            first, second = ([rng.randrange(1, 4) for _ in range(3)] for _ in range(2))
            texts = ["+".join(f"{name}({rng.choice((k, f'{k + 1}-1', f'{2 * k}/2'))})" for k in numbers) for numbers in (first, second)]
            if name == "x":  # a usual factor is a function of numbers, but a factor before a sum
                texts = ["+".join(f"x({k})" for k in numbers) for numbers in (first, second)]
            assert equivalent(*texts) is (sorted(first) == sorted(second)), texts


def test_equivalent__an_unknown_function_of_equal_formulas():
    """f(p) = f(q) exactly if p = q, whatever stands around; and no unknown function is another, a factor, or a known one."""
    equal = ["x^2-1", "(x-1)(x+1)", r"x\cdot x-1", r"\frac{x^3-x}{x}"]
    for name in ("f", "G", r"\Phi", "T_3", "f'", r"\chi", "E"):
        for first, second in itertools.combinations(equal, 2):
            assert equivalent(f"3{name}({first})^2", f"{name}({second})^2+2{name}({first})^2")
        assert not equivalent(f"{name}(x^2-1)", f"{name}(x^2+1)") and not equivalent(f"{name}(x,1)", f"{name}(1,x)")
    names = ["f", "F", "g", "h", r"\phi", r"\varphi", r"\Phi", "f'", "f_1", "f_2", "u", r"\Gamma", r"\zeta", r"\psi", "W", "J_0", "J_1", "I_0", r"\sigma", r"\tau", "f^{-1}",
             "f^{(2)}", "f^2", r"\hat f", r"\operatorname{erf}", r"\sinh", r"\log"]  # fmt: skip
    assert group([f"{name}(3)" for name in names]) == list(range(len(names)))


def test_reward__last_complete_box():
    assert reward(r"It is \boxed{0.5}.", r"\frac12") == 1.0
    assert reward(r"It is \boxed{0.6}.", r"\frac12") == 0.0
    assert reward("It is 0.5.", r"\frac12") == 0.0
    assert reward(r"\boxed{}", "") == 0.0
    assert reward(r"\boxed{1} no, \boxed{2}", "2") == 1.0
    assert reward(r"\boxed{\boxed{2}}", "2") == 1.0


def test_reward__strict_wants_exactly_one_box():
    assert reward(r"\boxed{1} no, \boxed{2}", "2", strict=True) == 0.0
    assert reward(r"\boxed{2}", "2", strict=True) == 1.0
    assert reward(r"\boxed{\boxed{2}}", "2", strict=True) == 0.0
    assert reward("2", "2", strict=True) == 0.0


@pytest.mark.parametrize("response, lenient, strict", [
    (r"<think>\boxed{1}</think>\boxed{2}", 1, 1), (r"<think>\boxed{2}</think>", 0, 0), (r"<think>\boxed{2}</think> So 2.", 0, 0),
    (r"<think>\boxed{2}</think>\boxed{1}", 0, 0), (r"<think>\boxed{1} \boxed{3}</think> First \boxed{2}.", 1, 1), (r"x</think>\boxed{1}\boxed{2}", 1, 0),
    (r"\boxed{1}</think>\boxed{3}</think>\boxed{2}", 1, 1), (r"<think>\boxed{2}", 1, 1), (r"</think>\boxed{\boxed{2}}", 1, 0), (r"<think>\boxed{</think>2} \boxed{2}", 1, 1),
])  # fmt: skip
def test_reward__thoughts_count_for_nothing(response, lenient, strict):
    assert (reward(response, "2"), reward(response, "2", strict=True)) == (lenient, strict)


def test_reward__of_every_math500_solution():
    golds()
    rows = [json.loads(line) for line in (DATA / "math500.jsonl").open()]
    assert sum(reward(row["solution"], str(row["answer"])) for row in rows) == len(rows) == 500


EVENTS = []
WATCHING = threading.Event()
sys.addaudithook(lambda event, _: WATCHING.is_set() and EVENTS.append(event))


def test_reward__executes_and_opens_nothing():
    equivalent("1!+\\sqrt{2}+e!", "2")
    WATCHING.set()
    for hostile in HOSTILE.values():
        verify.cached_reading.cache_clear()
        reward(rf"\boxed{{{hostile}}}", "12")
    WATCHING.clear()
    assert not [event for event in EVENTS if event.split(".")[0] in ("open", "exec", "compile", "import", "os", "subprocess", "socket", "ctypes", "shutil")]


def test_group__is_the_closure_of_equivalent():
    pool = ["5", "x=5", "y=5", "5=x", "2x=10", "{5}", "10/2", None, " ", "abc", "y=2x", "2x=y", "1,2", "(1,2)", "{2,1}", "x=1,2", "y=x^2", "x^2",
            "f(x)=x^2", "@@", "x=", "a=5=b"]
    rng = random.Random(0)
    for _ in range(300):
        answers = rng.choices(pool, k=7)
        expected = [i if answer is not None and answer.strip() else None for i, answer in enumerate(answers)]
        for i, j in itertools.combinations([i for i in range(7) if expected[i] is not None], 2):
            if equivalent(answers[i], answers[j]):
                expected = [min(expected[i], expected[j]) if e in (expected[i], expected[j]) else e for e in expected]
        assert group(answers) == expected, answers
    start = time.perf_counter()
    assert group(list(map(str, range(4000)))) == list(range(4000)) and time.perf_counter() - start < 2


def test_group__labels_are_first_indices():
    answers = ["0.5", None, r"\frac12", "2", "", r"x=\frac{1}{2}", "x=2", "y=2", "hello"]
    assert group(answers) == [0, None, 0, 3, None, 0, 3, 3, 8]
    assert group([]) == []
    assert group(["x=2", "y=2"]) == [0, 1]


def test_group__does_not_depend_on_order():
    answers = ["y=2", "x=2", "2", "3", r"\frac63", None, "x=y", "y=x", "2y=2x", "1,2", r"\{2,1\}", "x=3"]
    classes = lambda order: {frozenset(order[i] for i, label in enumerate(group([answers[k] for k in order])) if label == first)  # noqa: E731
                             for first in group([answers[k] for k in order]) if first is not None}  # fmt: skip
    expected = classes(list(range(len(answers))))
    for seed in range(50):
        order = list(range(len(answers)))
        random.Random(seed).shuffle(order)
        assert classes(order) == expected


@pytest.mark.parametrize("gold", ["", " ", "$$", "proof", "Proof.", r"\text{Proof}", "notfound", "NotFound", "not found", "N/A", "n/a", "NA", "nan", "null", "?", "...", "\\boxed{}",
    "{'x': 1, 'y': 2}", '{"a": 3, "b": [1, 2]}', "[{'x': 1}]", "{1: 'a', 2: 'b'}", "Proof: let $n$ be even.", "See solution", "No answer provided", "x" * 2001, r"\text{N/A}", "(proof)",
    "The sequence converges to the unique fixed point of the map, which can be found by Newton's method, as was shown above in part two.",
    r"\text{Every such function is linear on the rationals and therefore, since it is monotone, also linear on all of the real line}"])  # fmt: skip
def test_checkable__not_what_cannot_be_earned(gold):
    assert checkable(gold) is False


@pytest.mark.parametrize("gold", ["5", "0", "x=5", r"\frac12", "(1,2)", r"\{1,2\}", r"\text{Evelyn}", "yes", "None of the above", "C", r"\emptyset", r"\infty", "does not exist",
    "no solution", "n \\text{ even}", r"\text{neither even nor odd}", "x=1, y=2", "12:30", "1:2", "HT", "na", "n", r"\{x : x > 0\}", "f(x)=ax+b", "!n", "GL_2(\\mathbb{R})",
    "All primes congruent to 1 modulo 4", "p", r"\mathbb{Q}", "True"])  # fmt: skip
def test_checkable__an_answer(gold):
    assert checkable(gold) is True and reward(rf"\boxed{{{gold}}}", gold) == 1


def test_checkable__every_gold_of_the_benchmarks():
    assert all(checkable(gold) for part in golds().values() for gold in part)


def test_calculator__variables_differ_at_every_point():
    names = [*"abcdfghjopqrstuvwxyzABCDEFGHIJKLMOPQRSTUVWXYZ", *"klmnN", "x_1", "x_2", "x_12", "a_n", r"\theta", r"\alpha", r"\beta"]
    tokens = [*names, r"\lfloor"]
    points = verify.Calculator(tokens).points
    for i, first in enumerate(names):
        for second in names[:i]:
            agree = sum(p == q for p, q in zip(points[first][:6], points[second][:6]))
            assert agree <= 1, (first, second)
        if first not in verify.INTEGERS:
            assert any(p < 1 for p in points[first][:6]) and any(p > 1 for p in points[first][:6])


def test_calculator__names_that_are_applied():
    applied = lambda text: verify.applied(verify.tokenize(text))  # noqa: E731
    for text in ("n(n+1)", "a(b+c)", "x(x+1)(x+2)", "p(1-p)", r"\sigma^2(1-\rho)", "f+f(2)", "C(-1)^n", "2k(d-k)!", r"R[\sqrt2-1]", "xy", "x^{-1}(x+y)", "a^2(b-c)+b^2(c-a)"):
        assert applied(text) == set(), text
    for text, names in (("f(x)", {"f"}), ("y(2)", {"y"}), ("f(a+b)", {"f"}), ("f^{-1}(x)", {"f"}), ("f^2(x+1)", {"f"}), (r"\phi(n)\phi(m)", {r"\phi"}), ("B(2,3)", {"B"}),
                        ("E[X]", {"E"}), ("u(x-ct)", {"u"}), ("p(x)-p(x-1)", {"p"}), ("s(t+1)-s(t-1)", {"s"}), ("f(g(x))", {"f", "g"}), (r"h^{-1}(x)", {"h"}), ("y''(0)", {"y''"})):
        assert applied(text) == names, text


def test_calculator__an_unknown_function_has_both_signs_and_depends_on_all():
    calculator = verify.Calculator(["f", "(", "x", ")"])
    values = calculator.value(["f", "(", "x", ")"])
    assert len(values) == calculator.main + 2 and all(v > 0 for v in values[: calculator.main]) and sorted(v > 0 for v in values[calculator.main :]) == [False, True]
    fixed = calculator.value(["f", "(", "2", ")"])
    assert len(set(fixed)) == calculator.main + 1 and calculator.value(["f", "(", "2", ")"]) == fixed
    assert not set(fixed) & set(calculator.value(["f", "(", "3", ")"])) and not set(fixed) & set(values)


# ---------------------------------------------------------------------------------------------- tables of verify.py

# One pair a line under its category: "=" for equal, "!" for unequal answers.
VERDICTS = r"""
# integers and fractions
= \frac34 ~~ \frac{3}{4}
= \dfrac{3}{4} ~~ 3/4
= \frac{3}{4} ~~ \tfrac{6}{8}
= 1\frac45 ~~ \frac{9}{5}
= 1 \frac{4}{5} ~~ 1.8
= -1\frac12 ~~ -\frac32
= -\frac{1}{2} ~~ \frac{-1}{2}
= -\frac{1}{2} ~~ \frac{1}{-2}
= -1/2 ~~ -.5
= \frac{\frac{1}{2}}{3} ~~ \frac16
= \frac{1}{1+\frac{1}{2}} ~~ \frac23
= 137 \frac{1}{2} ~~ \frac{275}{2}
= 1 1/2 ~~ \frac32
= 7 ~~ +7
= 7 ~~ 007
= \frac 59 ~~ 5/9
= \frac9{19} ~~ \frac{9}{19}
= (3) ~~ 3
= \frac{2\cdot 3}{4} ~~ 1.5
= 2^{1009} ~~ 2\cdot 2^{1008}
= \frac{1}{2^{98}} ~~ 2^{-98}
= \frac{100!}{2^{50}} ~~ \frac{100!}{4^{25}}
= -0 ~~ 0
! 10000 ~~ 10001
! \frac{1}{2^{98}} ~~ \frac{1}{2^{99}}
! 2^{1009} ~~ 2^{1009}+1
! \frac{3}{4} ~~ \frac{4}{3}
! 1\frac45 ~~ \frac45
! 5 ~~ -5
! 5 ~~ 55
! \frac12 ~~ 12
! 2\frac13 ~~ \frac23
! 0 ~~ 10^{-60}
! \frac{1}{7} ~~ 0.142857142857142857142857
! 123456789012345678901 ~~ 123456789012345678900
! \frac{10^{30}+1}{10^{30}} ~~ 1
! \frac{1}{0} ~~ 0
! 12 ~~ 1 2
! 100!+1 ~~ 100!
! 1 000/3 ~~ 1
! 3R^{99999} ~~ 3r^{99999}
= \frac{\;3}{4\,} ~~ .75
! \frac{1}{3} ~~ -\frac13
! \frac{17}{50} ~~ \frac{17}{51}
! 2\frac73 ~~ \frac{13}{3}
! \frac{1}{1997} ~~ \frac{-1}{1997}
! 41352 ~~ 42351
# decimals
= 0.5 ~~ \frac12
= .35625 ~~ \frac{57}{160}
= 0.\overline{3} ~~ \frac13
= 0.1\overline{6} ~~ \frac16
= 0.\bar{9} ~~ 1
= 1.\overline{27} ~~ \frac{14}{11}
= .\overline{12} ~~ \frac{4}{33}
= 6.72 \times 10^{-5} ~~ .0000672
= 6.72 \cdot 10^{-5} ~~ 0.0000672
= 1.23e4 ~~ 12300
= 1.23e-4 ~~ 0.000123
= 1E6 ~~ 1000000
= 42. ~~ 42
= 3.50 ~~ 3.5
= -.5 ~~ -\frac{1}{2}
= 4.25 ~~ \frac{17}{4}
! 0.33 ~~ \frac13
! 0.333333333333 ~~ \frac13
! .0000672 ~~ .0000671
! 3.14 ~~ \pi
! 1.414 ~~ \sqrt2
! 1.4142135623730950488 ~~ \sqrt{2}
! 0.\overline{3} ~~ 0.3
! 0.\overline{12} ~~ 0.1\overline{2}
! 0.\overline{3} ~~ 0.\overline{33}4
! 6.72\times 10^{-5} ~~ 6.72 \times 10^{-6}
! 1.23e4 ~~ 1.23
! 3.1 ~~ 31
! 3.21 ~~ 3.210001
! 0.999999999 ~~ 1
= 3.0\overline{3} ~~ \frac{91}{30}
= 0.\overline3 ~~ 1/3
! 5e-1 ~~ 0.5
! 0.1\overline{6} ~~ 0.16
! 1.25 ~~ 12.5
! .5 ~~ 5
# thousands separators
= 10,080 ~~ 10080
= 10,\!080 ~~ 10080
= 11,\! 111,\! 111,\! 100 ~~ 11111111100
= 12{,}345 ~~ 12345
= 12{,}345{,}678 ~~ 12,345,678
= 1\,000\,000 ~~ 1000000
= 58,500 ~~ 58500
= \$32,\!348 ~~ 32348
= 1,234.5 ~~ 1234.5
= 1{,}000 ~~ 10^3
= 10\ 000 ~~ 10000
= 10 000 ~~ 10{,}000
= (1,000) ~~ 1000
= -1,000 ~~ -1000
= \frac{1,000}{3} ~~ \frac{1000}{3}
! 1,2 ~~ 12
! 1,23 ~~ 123
! 10,80 ~~ 1080
! 10,080 ~~ 10.080
! 10,080 ~~ 1008
! (100,200) ~~ 100200
! 1000,1000 ~~ 10001000
! 27,54,108 ~~ 27,54108
! 1,000 ~~ 1
! \{100,200\} ~~ 100200
! (312,123,231) ~~ 312123231
! 1,234 ~~ 1,235
! 12{,}345 ~~ 12.345
! 1\,000\,000 ~~ 1000
! (1,2,3) ~~ 123
# radicals and powers
= 2\sqrt{3} ~~ \sqrt{12}
= \frac{\sqrt{3}}{3} ~~ \frac{1}{\sqrt3}
= \sqrt[3]{8} ~~ 2
= \sqrt[3]{-8} ~~ -2
= \frac{8}{\sqrt[3]{7}} ~~ \frac{8\sqrt[3]{49}}{7}
= \sqrt{3+2\sqrt{2}} ~~ 1+\sqrt2
= \sqrt{2}\sqrt{3} ~~ \sqrt6
= 11\sqrt2 ~~ \sqrt{242}
= \frac{1}{\sqrt{2}-1} ~~ \sqrt{2}+1
= \sqrt{7+4\sqrt3} ~~ 2+\sqrt{3}
= 2^{-2/3} ~~ \frac{1}{\sqrt[3]{4}}
= 10^{1 / 100} ~~ \sqrt[100]{10}
= 8^{\frac23} ~~ 4
= (-8)^{1/3} ~~ -2
= \frac{\sqrt{3}+1}{2} ~~ \frac12+\frac{\sqrt{3}}{2}
= \sqrt{\frac{4}{9}} ~~ \frac23
= 2^10 ~~ 1024
= (2^3)^2 ~~ 64
= \sqrt{51} ~~ 51^{0.5}
= \sqrt 2 ~~ √2
= sqrt(2) ~~ \sqrt{2}
= (\sqrt{5}-2)(\sqrt5+2) ~~ 1
= \sqrt[3]{2+\sqrt5}+\sqrt[3]{2-\sqrt5} ~~ 1
= 5\sqrt{10} ~~ \frac{50}{\sqrt{10}}
! \sqrt{2} ~~ \sqrt{3}
! 2\sqrt{3} ~~ \sqrt{6}
! 2\sqrt{3} ~~ 3\sqrt{2}
! \sqrt{12} ~~ \sqrt12
! \sqrt{2}+\sqrt{3} ~~ \sqrt5
! \sqrt[3]{8} ~~ \sqrt{8}
! \sqrt{2} ~~ -\sqrt{2}
! \sqrt{2}+10^{-40} ~~ \sqrt{2}
! 10^{50}+\sqrt2 ~~ 10^{50}+\sqrt3
! 2^{3^2} ~~ 64
! 2^{-3} ~~ -8
! \sqrt{2}^2 ~~ \sqrt{2}
! \frac{\sqrt{21}}{5} ~~ \sqrt{\frac{21}{5}}
! 1-\sqrt{2} ~~ \sqrt{2}-1
! \frac{15-8 \sqrt{3}}{33} ~~ \frac{15-8 \sqrt{3}}{32}
! \sqrt{10001} ~~ \sqrt{10000}
! 8 \sqrt{2} ~~ \sqrt[8]{2}
! \frac{1}{\sqrt{2}-\sqrt{2}} ~~ 0
= \sqrt{10^{400}} ~~ 10^{200}
= \sqrt2+\sqrt3-\sqrt{5+2\sqrt6} ~~ 0
! 10^{200}+\sqrt2 ~~ 10^{200}+\sqrt3
= \sqrt[n]{x} ~~ x^{1/n}
= \sqrt{\sqrt{16}} ~~ 2
! \sqrt[3]{4} ~~ \sqrt[4]{3}
! 2^{0.5} ~~ 2^{0.51}
! 10^{100} ~~ 10^{101}
! (-2)^2 ~~ -2^2
! 5\sqrt{10} ~~ 10\sqrt{5}
# constants and functions
= 288 \pi ~~ 288π
= \frac{\pi}{2} ~~ 0.5\pi
= -\frac{\pi}{6} ~~ -\frac{1}{6}\pi
= \frac{20000}{\pi} ~~ 20000\pi^{-1}
= e^{i\pi} ~~ -1
= e^{\ln 5} ~~ 5
= \ln e^2 ~~ 2
= \log_2 8 ~~ 3
= \log_{10} 1000 ~~ 3
= \log_{10}{250} ~~ 1+2\log_{10} 5
= \frac{\log 2}{\log 2-\log 3} ~~ \frac{\ln 2}{\ln\frac23}
= \ln 8 ~~ 3\ln 2
= \log_2 3 ~~ \frac{\ln 3}{\ln 2}
= \sin 30^\circ ~~ \frac12
= \sin\frac{\pi}{6} ~~ \frac12
= \cos^2 x ~~ 1-\sin^2 x
= \tan 45^{\circ} ~~ 1
= \sin 75^\circ ~~ \frac{\sqrt6+\sqrt2}{4}
= \cot x ~~ \frac{\cos x}{\sin x}
= \sin 2x ~~ 2\sin x\cos x
= \arctan 1 ~~ \frac{\pi}{4}
= \sin^{-1} 1 ~~ \pi/2
= \binom{5}{2} ~~ 10
= \binom{10}{3} ~~ \frac{10!}{3!7!}
= 5! ~~ 120
= \lfloor 3.7 \rfloor ~~ 3
= \lceil \pi \rceil ~~ 4
= \left\lfloor -\frac12 \right\rfloor ~~ -1
= |-5| ~~ 5
= \left|3-\pi\right| ~~ \pi-3
= \exp(2) ~~ e^2
= \infty ~~ +\infty
= 18+2\pi ~~ 2(9+\pi)
= \cos 36^\circ ~~ \frac{1+\sqrt5}{4}
! \pi ~~ \frac{22}{7}
! \pi ~~ 3.14159265358979
! e ~~ 2.718281828459045
! \log_2 8 ~~ \log_3 8
! \ln 2 ~~ \log_{10} 2
! \sin 30 ~~ \frac12
! \sin x ~~ \cos x
! \sin^2 x ~~ \sin 2x
! \sin^{-1} x ~~ \frac{1}{\sin x}
! \binom{5}{2} ~~ \frac52
! 5! ~~ 5
! \lfloor 3.7 \rfloor ~~ \lceil 3.7 \rceil
! \lfloor x \rfloor ~~ x
! |x| ~~ x
! \infty ~~ -\infty
! \infty ~~ 10^{100}
! e^{\pi\sqrt{163}} ~~ 262537412640768744
! \tan 90^\circ ~~ 0
! 3!! ~~ 720
! \ln 0 ~~ 0
= \log_3 \frac19 ~~ -2
= \sin x^2 ~~ \sin(x^2)
= \binom{n}{k} ~~ \frac{n!}{k!(n-k)!}
! \sin x^2 ~~ \sin^2 x
! \cos\pi ~~ \cos 0
! \log_2 3 ~~ \log_3 2
! \lceil 2.1 \rceil ~~ 2
! 288\pi ~~ 288
! \frac{\pi}{2} ~~ \frac{2}{\pi}
! |x-1| ~~ |x+1|
! \pi ~~ p
! \arctan 1 ~~ \tan 1
! \ln(2)x ~~ \ln(2x)
! \binom{6}{3} ~~ \binom{6}{2}
! \exp(2) ~~ 2e
# complex numbers
= 3+4i ~~ 4i+3
= 6 - 5i ~~ -5i+6
= i^2 ~~ -1
= \sqrt{-1} ~~ i
= \sqrt{-4} ~~ 2i
= (1+i)^2 ~~ 2i
= \frac{1}{1+i} ~~ \frac{1-i}{2}
= |3+4i| ~~ 5
= e^{i\pi/2} ~~ i
= \frac{-1+i\sqrt{3}}{2} ~~ e^{2\pi i/3}
= 1+274i ~~ 1 + 274 i
= z = 1+2i ~~ 1+2i
! 3+4i ~~ 3-4i
! 3+4i ~~ 4+3i
! i ~~ 1
! i ~~ -i
! 3+4i ~~ (3,4)
! 3+4i ~~ 7
! 3+4j ~~ 3+4i
! 1+\sqrt{2}i ~~ 1+\sqrt{2}
! (1+i)^2 ~~ 1+i
! \sqrt{2i} ~~ \sqrt{2}i
! 6+9i ~~ 6+9
! -2+7i ~~ -2+7i+10^{-30}
# algebra
= \frac{a^2-b^2}{a-b} ~~ a+b
= 2^{n+1} ~~ 2\cdot2^n
= (a+5)(b+2) ~~ ab+2a+5b+10
= 2k+2 ~~ 2(k+1)
= 6r^2-4r-24 ~~ 2(3r^2-2r-12)
= x^5 - x^4 + x^3 - x^2 + x - 1 ~~ (x-1)(x^4+x^2+1)
= \frac{n(n+1)}{2} ~~ \frac12n^2+\frac n2
= \frac{n(n+1)(2 n+1)}{6} ~~ \frac{2n^3+3n^2+n}{6}
= \frac{11+9a}{20} ~~ 0.45a+0.55
= a_1+a_2 ~~ a_{2}+a_{1}
= x^8 + x^7 + x^6 + x^5 + x^4 + x^3 + x^2 + x + 1 ~~ \frac{x^9-1}{x-1}
= \sqrt{x^2} ~~ |x|
= \sqrt{ab} ~~ \sqrt{a}\sqrt b
= \binom{2n}{n} ~~ \frac{(2n)!}{n!^2}
= \binom{n}{2} ~~ \frac{n(n-1)}{2}
= \frac{d !}{2 k(d-k) !} ~~ \frac{d!}{2k\cdot(d-k)!}
= n! ~~ n(n-1)!
= (-1)^{n+1} ~~ -(-1)^n
= \lceil n/2 \rceil ~~ \lfloor \frac{n+1}{2} \rfloor
= m n-\lfloor m / 2\rfloor ~~ nm - \left\lfloor\frac m2\right\rfloor
= e^{2x} ~~ (e^x)^2
= \ln(xy) ~~ \ln x+\ln y
= x^{2019}-1 ~~ x\cdot x^{2018}-1
= xyz ~~ x y z
= abc ~~ c\cdot a \cdot b
= 2xy ~~ 2yx
= 3R^2 ~~ 3 R \cdot R
= \theta+\alpha ~~ \alpha + \theta
= x ~~ x+0
= \frac{x}{x}+1 ~~ 2
= (x+y)^3 ~~ x^3+3x^2y+3xy^2+y^3
= \frac{1}{1-x} ~~ -\frac{1}{x-1}
= x\sqrt{x} ~~ x^{3/2}
= -(n-1)/2 ~~ \frac{1-n}{2}
= \frac{1}{\sqrt{1-x}} ~~ \sqrt{\frac{1}{1-x}}
= 2RC+R+C ~~ R+C+2CR
! a+b ~~ a-b
! a+b ~~ a+c
! x ~~ y
! 3R^2 ~~ 3r^2
! 2^{n+1} ~~ 2^n+1
! 2k ~~ 2n
! a_1 ~~ a_2
! a_1 ~~ a_{12}
! x_1+x_2 ~~ 2x_1
! (a+b)^2 ~~ a^2+b^2
! \frac{a}{b+c} ~~ \frac{a}{b}+c
! \sqrt{x^2} ~~ x
! \sqrt{a+b} ~~ \sqrt{a}+\sqrt{b}
! \ln(x+y) ~~ \ln x+\ln y
! x^{2019}-1 ~~ x^{2019}
! x^{2019}-1 ~~ x^{2018}-1
! x ~~ x+10^{-30}
! x^2 ~~ x^3
! \lfloor n/2 \rfloor ~~ \frac n2
! \lfloor x/100 \rfloor ~~ 0
! n! ~~ n
! \frac{n}{2} ~~ \frac{2}{n}
! 5x ~~ 5
! xy ~~ x+y
! 1/2x ~~ \frac{1}{2x}
! (-1)^n ~~ 1
! \sin(\pi x) ~~ 0
! 2n+1 ~~ 2n-1
! \binom{2n}{n} ~~ \binom{2n}{n+1}
! p - q ~~ q - p
! \lfloor\sqrt{n-1}\rfloor ~~ \lfloor\sqrt{n-2}\rfloor
! \lfloor\frac{2n-1}{5}\rfloor ~~ \lfloor\frac{2n}{5}\rfloor
= x = \frac{-b\pm\sqrt{b^2-4ac}}{2a} ~~ \frac{-b+\sqrt{b^2-4ac}}{2a},\frac{-b-\sqrt{b^2-4ac}}{2a}
= \frac{n!}{(n-2)!} ~~ n(n-1)
! 2k+2 ~~ 2k-2
! \frac{11+9a}{20} ~~ \frac{9+11a}{20}
! xyz ~~ xy
! x^{-1} ~~ -x
! e^{2x} ~~ e^{x^2}
! \sqrt{x+1}^2 ~~ x
# equations
= x=5 ~~ 5
= 5 ~~ x=5
= 5 = x ~~ 5
= k=1 ~~ 1
= f(n)=2n+1 ~~ 2n+1
= f(x)=\frac{1}{x} ~~ \frac1x
= y = 2x+3 ~~ 2x - y + 3 = 0
= y = 2x+3 ~~ 2x+3
= y = 2x+3 ~~ 2x+3 = y
= y=-2x ~~ 2x+y=0
= 5x - 7y + 11z + 4 = 0 ~~ -10x+14y-22z = 8
= x^2+y^2=4 ~~ \frac{x^2}{4}+\frac{y^2}{4}=1
= 2x=10 ~~ x=5
= m_{\max }=n^{2}-n-1 ~~ n^2-n-1
= M=2^{N-2}+1 ~~ 2^{N-2}+1
= x = \frac{1}{2} ~~ 0.5
= \theta = \frac{\pi}{3} ~~ \frac{\pi}{3}
= S_n = n^2 ~~ n^2
= (x,y)=(1,2) ~~ (1,2)
= f(2) = 5 ~~ 5
= \angle ABC = 90^\circ ~~ 90
= AB = 7 ~~ 7
= x=1, y=2 ~~ y=2, x=1
= f'(x) = 2x ~~ 2x
= x = \sqrt2 ~~ \sqrt{2}
! 101 ~~ 1=2=3=101
! 5 ~~ x=6
! x=5 ~~ y=5
! y = 2x+3 ~~ y = 2x-3
! y=2x+3 ~~ x=2y+3
! 2x+3 ~~ 2x+3=0
! 2x+3 ~~ 2x-y+3=0
! x^2+y^2=4 ~~ x^2-y^2=4
! x=1, y=2 ~~ x=2, y=1
! x=1,y=2 ~~ 1,2
! 5 ~~ 2x=10
! 5 ~~ xy=5
! 5 ~~ x+1=5
! x=5 ~~ x \ne 5
! 3 ~~ x=y=3
! f(x)=2x ~~ f(x)=2y
! x=x ~~ 0
! 0 ~~ x=x
! \frac12 ~~ \frac{1}{2} \approx 0.5
! \frac{1}{2} ~~ p = \frac{1}{2} = 0.5
= \text{Area} = 12\pi ~~ 12\pi
! 5x - 7y + 11z + 4 = 0 ~~ 5x - 7y + 11z - 4 = 0
! f(x)=2x+1 ~~ g(x)=x+1
! y=-2x ~~ y=2x
# tuples
= (1,2) ~~ (1, 2)
= \left( 3, \frac{\pi}{2} \right) ~~ (3,\pi/2)
= (0.5,1) ~~ (\frac12, 1)
= (6,31,-1) ~~ (6, 31, -1)
= \left( \frac{3}{2}, -13 \right) ~~ (1.5,-13)
= (45^{\circ}, 60^{\circ}) ~~ (45,60)
= (3\text{ cm}, 4\text{ cm}) ~~ (3,4)
= (1,2),(3,4) ~~ (3,4),(1,2)
= (1,2) \text{ and } (3,4) ~~ \{(3,4),(1,2)\}
= (x,y) = (3,4) ~~ (3, 4)
= (a+b, 1) ~~ (b+a, 1)
= ((1,2),3) ~~ ((1, 2), 3)
= \langle 1,2,3 \rangle ~~ (1,2,3)
= (-2,1) ~~ \left(-2, \; 1\right)
= (\pm 1, 2) ~~ (1,2),(-1,2)
! (1,2) ~~ (2,1)
! (1,2) ~~ [1,2]
! (1,2) ~~ 1,2
! (1,2) ~~ \{1,2\}
! (1,2) ~~ (1,2,3)
! (1,2) ~~ 12
! (1,2,3) ~~ (1,3,2)
! (1,2),(3,4) ~~ (1,4),(3,2)
! (1,2),(3,4) ~~ (1,2)
! ((1,2),3) ~~ (1,(2,3))
! ((1,2),3) ~~ (1,2,3)
! (1) ~~ (1,1)
! (1,2) ~~ (1,-2)
! (8,-2) ~~ (8,2)
! (1,2) ~~ 1.2
= (1;2) ~~ (1,2)
! (45^\circ,60^\circ) ~~ (60^\circ,45^\circ)
# sets and lists
= 1,2 ~~ 2,1
= 1,2 ~~ \{1,2\}
= 1,2 ~~ 1 \text{ and } 2
= 1,-2 ~~ x=1 \text{ or } x=-2
= x=1 \text{ or } x=2 ~~ \{2,1\}
= x = 1, 2 ~~ 1,2
= x=1, x=2 ~~ 2,1
= 3\pm\sqrt2 ~~ 3+\sqrt{2},3-\sqrt2
= 1 \pm \sqrt{19} ~~ 1-\sqrt{19}, 1+\sqrt{19}
= \{1\pm\sqrt{5},-2\} ~~ -2, 1+\sqrt5, 1-\sqrt5
= \pm 3 ~~ -3,3
= x = \pm 2 ~~ 2,-2
= \frac{-1\pm\sqrt{5}}{2} ~~ \frac{\sqrt5-1}{2}, \frac{-\sqrt5-1}{2}
= 3, 5, 7 ~~ 7,5,3
= 1,2,3 ~~ 1, 2, \text{ and } 3
= 1, 2, 3 ~~ 1, 2 \text{ and } 3
= \emptyset ~~ \varnothing
= \emptyset ~~ \{\}
= \{5\} ~~ 5
= \{1,1,2\} ~~ \{1,2\}
= x \in \{1,2\} ~~ \{1,2\}
= 0.5; 1 ~~ 1, \frac12
= a=2, a=-6-4 \sqrt{2} ~~ 2, -2(3+2\sqrt2)
= f(x)=x,f(x)=2-x ~~ 2-x, x
= \text{A, C} ~~ C, A
= x=1\pm\sqrt2 ~~ x=1+\sqrt2 \text{ or } x=1-\sqrt2
= 2 \text{ or } 3 ~~ 3 or 2
= \{1, 2, 3\} ~~ \left\{3, 2, 1\right\}
! 1,2 ~~ 1,3
! 1,2 ~~ 1,2,3
! 1,2,3 ~~ 1,2
! 1,2 ~~ 1
! 1,1,2 ~~ 1,2,2
! 3\pm\sqrt2 ~~ 3+\sqrt2
! 3\pm\sqrt2 ~~ 2\pm\sqrt3
! \pm 3 ~~ 3
! \emptyset ~~ 0
! \emptyset ~~ \{0\}
! \emptyset ~~ \{\emptyset\}
! \{1,2\} ~~ \{\{1,2\}\}
! \{1,2\} ~~ [1,2]
! \{1,2\} ~~ \{1,-2\}
! 5 ~~ 5 \text{ or } 6
! 6 ~~ 5 \text{ or } 6
! 5 ~~ 5, 6
! \{1,2\},\{3\} ~~ \{1\},\{2,3\}
! f(n)=n, g(n)=1 ~~ f(n)=1, g(n)=n
! -2,1 ~~ 2,-1
! 1,2 ~~ 3
! 1,2 ~~ 1,2,
! \{1,2\} ~~ \{\{1,2\}\},3
= \pm i ~~ i,-i
! \{1\pm\sqrt5,-2\} ~~ \{1\pm\sqrt5,2\}
! 3, 5, 7 ~~ (3, 5, 7)
! 3, 5, 7 ~~ 3, 5, 8
! x=1 \text{ or } x=2 ~~ x=1
! 1 \pm 2 ~~ 3
! 1,2 ~~ (1),(2),(2)
# intervals
= (2,\infty) ~~ x>2
= x>1 ~~ (1,\infty)
= x \geq 1 ~~ [1,\infty)
= 1 < x ~~ x > 1
= 2\le x<5 ~~ [2,5)
= 5 > x \ge 2 ~~ [2,5)
= x\in[-2,7] ~~ [-2,7]
= x \in [-2,7] ~~ -2 \le x \le 7
= (-\infty, 2) \cup (3, \infty) ~~ (3,\infty)\cup(-\infty,2)
= x \in (-\infty, 2] \cup [5, \infty) ~~ (-\infty, 2] \cup [5, \infty)
= x<1 \text{ or } x>2 ~~ (-\infty,1)\cup(2,\infty)
= x>1 \text{ and } x<5 ~~ (1,5)
= [1,2]\cup(2,3] ~~ [1,3]
= x \neq 0 ~~ (-\infty,0)\cup(0,\infty)
= \mathbb{R} ~~ (-\infty,\infty)
= x \in \mathbb{R} ~~ \mathbb R
= (-\sqrt{3}, \sqrt{3}) ~~ -\sqrt3 < x < \sqrt3
= \left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right] ~~ [\pi^2/8, 1.25\pi^2]
= (0,9) \cup (9,36) ~~ (9,36)\cup(0,9)
= (-\infty, 0) \cup\{1\}. ~~ \{1\} \cup (-\infty,0)
= k \geqslant 2 ~~ [2,\infty)
= (3,4] ~~ 3 < x \leq 4
= \left(\frac{3}{5},\frac{8}{3}\right] ~~ (0.6, \frac83]
= (a, a+1) ~~ (a, 1+a)
= [2,4) ~~ 2 \leqslant t < 4
= (0,1)\cup(1,2) ~~ 0<x<1 \text{ or } 1<x<2
! (2,\infty) ~~ [2,\infty)
! x>1 ~~ x \ge 1
! x>1 ~~ x<1
! [2,5) ~~ (2,5]
! [2,5] ~~ (2,5)
! 2\le x<5 ~~ [2,5]
! x \in [-2,7] ~~ [-2,8]
! (-\infty, 2) \cup (3, \infty) ~~ (-\infty, 2] \cup [3, \infty)
! (-\infty, 2) \cup (3, \infty) ~~ (2,3)
! (0,9) \cup (9,36) ~~ (0,36)
! [1,2) \cup (2,3] ~~ [1,3]
! (-\infty,0) ~~ (0,-\infty)
! \mathbb{R} ~~ \mathbb{Z}
! x>1 ~~ 1
! x \ne 0 ~~ 0
! x>1 \text{ or } x<5 ~~ (1,5)
! (1,2)\cup(3,4) ~~ (1,2),(3,4)
! x \in \mathbb{R} ~~ x \in \mathbb{N}
! 1<x<2 ~~ 1<x>2
! [0,1] ~~ 0 \text{ to } 1
! (-\sqrt{11},-2)\cup (\sqrt{11},9) ~~ (-\sqrt{11},-2)
= -1<x<1\text{ or }x>3 ~~ (-1,1)\cup(3,\infty)
! (-\infty,-1]\cup[1,\infty) ~~ |x|>1
! x \ge 0 ~~ x = 0
! [0,1] ~~ [0,1] \cup [2,3]
! (3,4] ~~ (3,4)
! (a,b) ~~ [a,b]
! x<1 \text{ and } x>2 ~~ x<1 \text{ or } x>2
# matrices and vectors
= \begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix} ~~ \begin{pmatrix} -\frac13 \\ \frac23 \\ \frac53 \end{pmatrix}
= \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ \begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}
= \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ \begin{pmatrix}1&2\\3&4\\\end{pmatrix}
= \begin{pmatrix} -2 \\ -14 \end{pmatrix} ~~ \left[\begin{array}{c} -2 \\ -14 \end{array}\right]
= \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix} ~~ \left(\begin{matrix} -1 & 0 \\ 0 & -1 \end{matrix}\right)
= A = \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} ~~ \begin{Bmatrix} 1 & 0 \\ 0 & 1 \end{Bmatrix}
= \begin{pmatrix} \sqrt{12} \\ a+b \end{pmatrix} ~~ \begin{bmatrix} 2\sqrt3 \\ b+a \end{bmatrix}
= \mathbf{v} = \begin{pmatrix} 1 \\ 2 \end{pmatrix} ~~ \begin{pmatrix} 1 \\ 2 \end{pmatrix}
= \begin{pmatrix} 1 \\[2mm] 2 \end{pmatrix} ~~ \begin{pmatrix} 1 \\ 2 \end{pmatrix}
! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
! \begin{pmatrix} 1 \\ 2 \end{pmatrix} ~~ \begin{pmatrix} 1 & 2 \end{pmatrix}
! \begin{pmatrix} 1 \\ 2 \end{pmatrix} ~~ \begin{pmatrix} 2 \\ 1 \end{pmatrix}
! \begin{pmatrix} 1 \\ 2 \end{pmatrix} ~~ \begin{pmatrix} 1 \\ 2 \\ 0 \end{pmatrix}
! \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix} ~~ \begin{pmatrix} 7 \\ 16 \\ 5 \end{pmatrix}
! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ \begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}
! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~~ 1,2,3,4
! \begin{pmatrix} 1 \\ 2 \end{pmatrix} ~~ 1,2
! \begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix} ~~ \begin{pmatrix} 0.2 \\ -3.5 \end{pmatrix}
= \left(\begin{array}{cc}1&2\\3&4\end{array}\right) ~~ \begin{pmatrix}1&2\\3&4\end{pmatrix}
# bases
= 4210_5 ~~ 4210_{5}
= 52_8 ~~ 052_8
= 2516_8 ~~ 2516_{8}
= 2A_{16} ~~ 2A_{16}
= 10_{10} ~~ 10
= (1011)_2 ~~ 1011_2
= 4343_6 ~~ 4343_{6}.
! 4210_5 ~~ 4210_6
! 4210_5 ~~ 4210
! 4210_5 ~~ 555
! 10_2 ~~ 2
! 10_2 ~~ 10_3
! 204_5 ~~ 204_7
! 1011_2 ~~ 1101_2
! 10_2 ~~ 2_3
! 4210_5 ~~ 4210_{10}
# units
= 10\text{ cm} ~~ 10
= 15\mbox{ cm}^2 ~~ 15
= 864 \mbox{ inches}^2 ~~ 864\text{ in}^2
= 10 \mathrm{cm}^2 ~~ 10
= 90^\circ ~~ 90
= 90^{\circ} ~~ 90°
= \frac{270}7\text{ degrees} ~~ \frac{270}{7}
= \$18.90 ~~ 18.9
= \$10 ~~ 10
= 5\text{ dollars} ~~ 5
= 5.4 \text{ cents} ~~ 5.4
= 25\% ~~ 25
= 62.5% ~~ 62.5\%
= 5 \text{ apples} ~~ 5
= 5 apples ~~ 5
= 10 cm ~~ 10
= 60 \text{ miles per hour} ~~ 60
= 9.8\,\mathrm{m}/\mathrm{s}^2 ~~ 9.8
= 3.5 \text{ m/s} ~~ \frac72
= x = 5\text{ cm} ~~ 5
= 12\pi \text{ square units} ~~ 12\pi
= \sqrt{2}\text{ cm} ~~ \sqrt2
= 2\text{ hours} ~~ 2
= 18.8^{\circ} ~~ 18.8
= 120\text{ ft}^3 ~~ 120
= £5 ~~ 5
! 10\text{ cm} ~~ 11\text{ cm}
! 90^\circ ~~ \frac{\pi}{2}
! 90^\circ ~~ 9
! 25\% ~~ 0.25
! 25\% ~~ 52\%
! \$10 ~~ \$100
! 5\text{ million} ~~ 5
! 5 \text{ or } 6 ~~ 5
! 5 \text{ not } 6 ~~ 5
! 5 \text{ (or 6)} ~~ 5
! 5\text{ feet } 3\text{ inches} ~~ 5
! 5\text{ squared} ~~ 5
! 10m ~~ 10
! 15\text{ cm}^2 ~~ 225
! 3\text{ cm}, 4\text{ cm} ~~ (3,4)
! 5 \text{ is wrong, it is 6} ~~ 5
! 6 ~~ 5\text{ cm}
! 12 ~~ 12:30
= 30\text{ percent} ~~ 30\%
! 5\text{ dozen} ~~ 5
! 5 \text{ or more} ~~ 5
! \text{more than } 5 ~~ 5
! 5 \text{ cm}, 6 ~~ 5
! 60\text{ miles per hour} ~~ 61
! 5 \text{ mod } 7 ~~ 5
! 0.25 ~~ 25\%
! 3.5\text{ m/s} ~~ 3.5x
# text
= \text{(C)} ~~ C
= \text{(C)} ~~ (C)
= \text{(C)} ~~ \text{C}
= \text{(C)} ~~ \textbf{(C)}
= \text{(C)} ~~ \mathrm{C}
= \text{(C)} ~~ c
= \text{June 20} ~~ June 20
= \text{June 20} ~~ \text{june 20}
= \text{June 20} ~~ \text{June}\ 20
= \text{even} ~~ even
= \text{even} ~~ \mathrm{even}
= \text{Evelyn} ~~ Evelyn
= \text{Monday} ~~ \textbf{Monday}
= \text{east} ~~ East
= \text{ellipse} ~~ \text{Ellipse}.
= \text{Yes} ~~ yes
= \text{No} ~~ no
= \text{Navin} ~~ \text{ Navin }
= \text{neither even nor odd} ~~ Neither even nor odd
= 12:30 ~~ 12:30
= \text{True} ~~ \textit{true}
= \text{5} ~~ 5
! \text{(C)} ~~ \text{(D)}
! \text{(C)} ~~ \text{(C) or (D)}
! C ~~ A, C
! \text{even} ~~ \text{odd}
! \text{June 20} ~~ \text{June 21}
! \text{June 20} ~~ \text{July 20}
! \text{June 20} ~~ 20
! \text{east} ~~ \text{west}
! \text{Yes} ~~ \text{No}
! \text{Evelyn} ~~ \text{Evelyn and Joe}
! 5 ~~ \text{five}
! 5 ~~ \text{The answer is } 5
! 12:30 ~~ 12:45
! 12:30 ~~ 12.5
! 5 ~~ \text{(A) } 5
! \text{even} ~~ \text{neve}
! \text{ellipse} ~~ e
! \text{Monday} ~~ \text{not Monday}
! \text{no solution} ~~ \text{one solution}
= 1\text{, }2\text{, and }3 ~~ 1,2,3
! \text{Cannot be determined} ~~ \text{determined}
! \text{yes} ~~ \text{yes or no}
! \text{(A)}, \text{(B)} ~~ \text{(A)}
# wrappers and noise
= 5 ~~ $5$
= 5 ~~ $$5$$
= 5 ~~ \(5\)
= 5 ~~ \[5\]
= 5 ~~ \boxed{5}
= \frac12 ~~ \displaystyle\frac12
= \frac12 ~~ {\frac{1}{2}}
= (1,2) ~~ \left( 1 , 2 \right)
= (1,2) ~~ \big(1,\,2\big)
= 3\cdot 4 ~~ 3×4
= 3\times 4 ~~ 3·4
= -5 ~~ −5
= 5 ~~ 5.
= 5 ~~ \! 5 \,
= x+1 ~~ x \quad + \; 1
= 5 ~~ \text{5}
= \boxed{\frac{3}{4}} ~~ 0.75
= \quad(2+\sqrt{2}, 1+\sqrt{2}) ~~ (2+\sqrt2,1+\sqrt2)
= x ≤ 5 ~~ x \le 5
= 2^2 ~~ 2²
= \mathbf{5} ~~ 5
= $\text{(C)}$ ~~ C
= \text{$\frac12$} ~~ \frac12
! 5 ~~ \boxed{6}
! 5 ~~ $5$ 6
! 5 ~~ \boxed{5} \boxed{6}
! -5 ~~ –6
! 5 ~~ 5..
! 0.333 ~~ 0.333...
! 5 ~~ \boxed{}
! 5 ~~ 5!
! 5 ~~ (5
! 5 ~~ 5)
! 5 ~~ 5 + ?
! 5 ~~ 5\ldots
! \frac12 ~~ \frac{1}{2
! 5 ~~ \color{red}{5}
! 5 ~~ x\text{ is }5
! \boxed{5 ~~ 5
! \left( 1,2 \right) ~~ \left( 2,1 \right)
! \displaystyle\frac12 ~~ \displaystyle\frac13
! -5 ~~ 5
! 3\cdot4 ~~ 34
! $1$,$2$ ~~ 12
# functions of an argument
= \frac{dy}{dx}=2x ~~ \frac{dy}{dx} = x+x
! \frac{dy}{dx} ~~ \frac{y}{x}
= \mathcal{O}(n^2) ~~ O(n^2)
! \operatorname{Si}(1) ~~ \operatorname{Ci}(1)
! P(X>2) ~~ P(X<2)
! \sin(f(x)) ~~ f(\sin(x))
! \cos(10^{-100}) ~~ 1
! e^{10^{-100}} ~~ 1
= \Gamma(\frac14)^2 ~~ \Gamma^2(\frac14)
= \Gamma(1/2) ~~ \sqrt\pi
= \Gamma\left(\frac14\right)\Gamma\left(\frac34\right) ~~ \pi\sqrt2
= \zeta(2) ~~ \frac{\pi^2}{6}
= \zeta(4) ~~ \frac{\pi^4}{90}
= \zeta(-1) ~~ -\frac1{12}
= 2\zeta(3) ~~ \zeta(3)+\zeta(3)
= \Gamma(n+1) ~~ n!
= \Gamma(x+1) ~~ x\Gamma(x)
= \operatorname{erf}(-1) ~~ -\operatorname{erf}(1)
= 1-\operatorname{erf}(2) ~~ \operatorname{erfc}(2)
= \operatorname{Li}_2(1) ~~ \frac{\pi^2}6
= \mathrm{Li}_2(\tfrac12) ~~ \frac{\pi^2}{12}-\frac{\ln^2 2}{2}
= W(e) ~~ 1
= W(1)e^{W(1)} ~~ 1
= W_0(2\ln 2) ~~ \ln 2
= J_0(2)+J_2(2) ~~ J_1(2)
= 2I_0(2) ~~ I_0(2)+I_0(2)
= \psi(2)-\psi(1) ~~ 1
= \cosh^2 x-\sinh^2 x ~~ 1
= \tanh x ~~ \frac{e^{2x}-1}{e^{2x}+1}
= \operatorname{arctanh}\frac12 ~~ \frac12\ln 3
= \sinh^{-1}(1) ~~ \ln(1+\sqrt2)
= \text{arccosh}(2) ~~ \ln(2+\sqrt{3})
= \coth 1 ~~ \frac{e^2+1}{e^2-1}
= f(a)+f(b) ~~ f(b)+f(a)
= 2f(x+x) ~~ 2f(2x)
= \frac{f(b)-f(a)}{b-a} ~~ \frac{f(a)-f(b)}{a-b}
= \phi(10) ~~ \phi(2\cdot 5)
= F(x)G(x) ~~ G(x)F(x)
= n(n+1) ~~ n^2+n
= a(b+c) ~~ ab+ac
= x(x+1) ~~ x^2+x
= p(1-p) ~~ p-p^2
= R(\sqrt2-1) ~~ R\sqrt2-R
= \lambda(\lambda+2) ~~ \lambda^2+2\lambda
= \sigma^2(1-\rho) ~~ \sigma^2-\rho\sigma^2
= C(-1)^n ~~ (-1)^nC
= xy(x+y) ~~ x^2y+xy^2
= \sqrt{f(2)^2} ~~ |f(2)|
= f'(x)+g'(x) ~~ g'(x)+f'(x)
= B(2,3) ~~ B(4/2,3)
! 2\zeta(3) ~~ 3\zeta(2)
! \zeta(3) ~~ 3\zeta
! \zeta(6) ~~ 2\zeta(3)
! \zeta(3) ~~ \zeta(5)
! \Gamma(1/4) ~~ \frac12\Gamma(1/2)
! \Gamma(1/4)^2 ~~ \Gamma(1/16)
! \Gamma(x+1) ~~ x\Gamma(x+2)
! \Phi(1)-\Phi(-1) ~~ 2\Phi(1)
! \Phi(2) ~~ 2\Phi(1)
! f(b)-f(a) ~~ f(b-a)
! f(a+b) ~~ fa+fb
! f(2x) ~~ 2f(x)
! f(x+1)-f(x-1) ~~ f(x+2)-f(x)
! T(n+1)-T(n-1) ~~ T(n+2)-T(n)
! s(t+1)-s(t-1) ~~ s(t+2)-s(t)
! \phi(10) ~~ 2\phi(5)
! \varphi(12) ~~ 12\varphi
! \mu(6) ~~ \mu(2)+\mu(4)
! J_0(2) ~~ 2J_0(1)
! J_0(2) ~~ J_1(2)
! Y_0(2) ~~ K_0(2)
! \psi(2) ~~ 2\psi(1)
! \operatorname{erf}(2) ~~ 2\operatorname{erf}(1)
! \operatorname{Li}_2(1/2) ~~ \operatorname{Li}_3(1/2)
! \operatorname{Li}_2(1/2) ~~ \frac12\operatorname{Li}_2(1)
! \sinh(2) ~~ 2\sinh(1)
! \tanh(1000) ~~ 1
! \operatorname{erf}(100) ~~ 1
! \zeta(5000) ~~ 1
! W(2) ~~ 2W(1)
! y(2) ~~ 2y
! P(A)P(B) ~~ P(AB)
! E(X^2) ~~ E(X)^2
! E[X^2] ~~ EX^2
! g(f(2)) ~~ f(g(2))
! f^{-1}(x) ~~ \frac{1}{f(x)}
! f^{(2)}(x) ~~ f^2(x)
! f'(x) ~~ f(x)
! f \circ g ~~ g \circ f
! \sqrt{f(2)^2} ~~ f(2)
! |g(x)| ~~ g(x)
! N(0,1) ~~ N(0,2)
! O(n^2) ~~ O(n)
! \Gamma(0) ~~ 0
! \Gamma(2,3) ~~ \Gamma(3,2)
! \delta(x-1) ~~ \delta x-\delta
# words after a value
! 5\text{ k} ~~ 5
= 45 \text{ sec} ~~ 45
= 5 \mathrm{~km} / \mathrm{h} ~~ 5
! 20 \text{ men} ~~ 20 \text{ women}
! 5\text{th} ~~ 5
! 5 \text{ negative} ~~ 5
! 5 \text{ (max)} ~~ 5 \text{ (min)}
= 5 \text{ square inches} ~~ 5
= 12\text{ kilometers} ~~ 12
= 4 \text{ meters per second squared} ~~ 4
= 15 \text{ people} ~~ 15
= 24 \text{ students} ~~ 24
= 6 \text{ ways} ~~ 6
= 12\text{ years old} ~~ 12
= 5 \text{ per cent} ~~ 5
= 5 \text{ light-years} ~~ 5
= 180 \text{ (days)} ~~ 180
= 180 (days) ~~ 180
= \frac13 \textbf{ meters} ~~ \frac13
= 45 \text{ minutes} ~~ 45
= 3\text{ sq. units} ~~ 3
= 70 \text{ km/h} ~~ 70
= 8 \text{ marbles} ~~ 8
= 25\text{ cubic feet} ~~ 25
= 100^\circ\text{C} ~~ 100
= 250\text{ mL} ~~ 250
= 5\sqrt2 cm ~~ 5\sqrt2
= 5\sqrt{2} cm ~~ 5\sqrt2
! n \text{ even} ~~ n \text{ odd}
! n \text{ even} ~~ n
! 10 \text{ AM} ~~ 10 \text{ PM}
! 10\text{ a.m.} ~~ 10
! 10 am ~~ 10 pm
! 20\% \text{ increase} ~~ 20\% \text{ decrease}
! 20\% \text{ increase} ~~ 20\%
! 2 \text{ thirds} ~~ 2
! 3 \text{ quarters} ~~ 3
! 5 \text{ tenths} ~~ 5
! 2 \text{ halves} ~~ 2
! 5 \text{ below zero} ~~ 5
! 40\text{ north} ~~ 40\text{ south}
! 40^\circ \text{ N} ~~ 40^\circ \text{ S}
! 300 \text{ profit} ~~ 300 \text{ loss}
! 300 \text{ dollars profit} ~~ 300 \text{ dollars loss}
! 5 \text{ steps left} ~~ 5 \text{ steps right}
! 3\text{ heads} ~~ 3\text{ tails}
! 5 \text{ to } 3 ~~ 5
! 5 \text{ years ago} ~~ 5
! 5 \text{ higher} ~~ 5 \text{ lower}
! 2 \text{ pairs} ~~ 2
! 5 \text{ BC} ~~ 5 \text{ AD}
! 7 \text{ clockwise} ~~ 7
! 4\text{ inches taller} ~~ 4
! 3 \text{ times} ~~ 3 \text{ over}
! 50\text{ percent off} ~~ 50
! x \text{ is rational} ~~ x
! 3 \text{ squared} ~~ 3
! 5 \text{ radius} ~~ 5 \text{ diameter}
! 5\text{ wins} ~~ 5\text{ losses}
! 3 \text{ if } x>0 ~~ 3
! 8 \text{ million dollars} ~~ 8
! k \text{ integer} ~~ k
# runs of capitals
! A'B'C' ~~ B'A'C'
! N30^\circ E ~~ E30^\circ N
= 90^\circ-\frac{A}{2} ~~ 90-\frac12A
= \text{BAC} ~~ BAC
= HT ~~ \text{HT}
= AB+CD ~~ CD+AB
= 2AB ~~ AB+AB
= AB\cdot CD ~~ CD\cdot AB
= R+2RC ~~ R+2CR
= ABCD ~~ \mathrm{ABCD}
= (AB,CD) ~~ (\text{AB},\text{CD})
= XYX ~~ \text{XYX}
= DNA ~~ \text{dna}
! BADC ~~ ABCD
! HT ~~ TH
! HT, TT ~~ TH, TT
! \{HT,TH\} ~~ \{HT\}
! AB ~~ BA
! \text{BAC} ~~ \text{ABC}
! \text{BAC} ~~ ABC
! HTH ~~ HHT
! IV ~~ VI
! CO ~~ OC
! ADBC ~~ ACBD
! AB-BA ~~ 0
! P^{-1}AP ~~ A
! ABA^{-1} ~~ B
! (AB)^{-1} ~~ A^{-1}B^{-1}
! QPQ^{-1} ~~ P
! X^TX ~~ XX^T
! x = AB ~~ x = BA
# usual shapes
= x=1 \\ y=2 ~~ (x,y)=(1,2)
= \{x \mid x > 1\} ~~ (1,\infty)
= \{x \in \mathbb{R} : x \ne 2\} ~~ \mathbb{R}\setminus\{2\}
= n\equiv 0,1 \pmod 4 ~~ n \equiv 1, 0 \pmod{4}
= n\equiv 0 \pmod 4 \text{ or } n\equiv 1\pmod 4 ~~ n \equiv 1, 0 \pmod 4
= \left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right. ~~ x=1,y=2
! \{x \mid x > 1\} ~~ \{y : x > 1\}
! \{x \mid x > 1\} ~~ 1
! n\equiv 0,1 \pmod 4 ~~ n \equiv 0, 2 \pmod 4
! n\equiv 0,1 \pmod 4 ~~ n \equiv 0, 1 \pmod 5
! \|v\|_1 ~~ \|v\|_2
! \mathbb{R}^+ ~~ \mathbb{R}
= f^{-1}(x)=2x ~~ 2x
= f^{-1}(x)=\frac{x-1}{2} ~~ \frac{x}{2}-\frac12
= f^{(4)}(0)=24 ~~ 24
= (x,y)=(1,2) ~~ x=1, y=2
= (x,y,z)=(1,2,3) ~~ z=3,x=1,y=2
= (x,y)=(1,2) ~~ (y,x)=(2,1)
= (a,b)=(\frac12,3) ~~ a=0.5 \text{ and } b=3
= \begin{cases}x=1\\y=2\end{cases} ~~ x=1, y=2
= \mathbb R\setminus\{0\} ~~ (-\infty,0)\cup(0,\infty)
= \mathbb{R}\setminus\{1,-1\} ~~ (-\infty,-1)\cup(-1,1)\cup(1,\infty)
= \mathbb{R} \backslash \{3\} ~~ x \ne 3
= \mathbb{R}-\{2\} ~~ (-\infty,2)\cup(2,\infty)
= [0,5]\setminus\{2\} ~~ [0,2)\cup(2,5]
= [0,5]\cap[3,8] ~~ [3,5]
= {10 \choose 3} ~~ 120
= {n \choose 2} ~~ \frac{n(n-1)}2
= {1 \over 2} ~~ 0.5
= n \equiv 1 \pmod 4 ~~ n \equiv 1 \mod 4
= x \equiv 3 \pmod{7} ~~ x\equiv 3\ (\text{mod } 7)
= 3 \pmod{7} ~~ 3 \bmod 7
= n \equiv -1 \pmod 4 ~~ n\equiv 3 \pmod{4}
= x \equiv 3 \pmod 7 ~~ 3 \pmod 7
= (2n-1)!! ~~ \frac{(2n)!}{2^n n!}
= 7!! ~~ 105
= (2n)!! ~~ 2^n n!
= 8!! ~~ 384
= \|x\| ~~ \lVert x\rVert
= 2\|x\|^2 ~~ \left\|x\right\|\cdot 2\lVert x\rVert
= \text{all real numbers} ~~ \mathbb R
= (-\infty,\infty) ~~ \text{all reals}
= x \in \mathbb{R} ~~ \text{All real numbers}
= \infty ~~ \text{infinity}
= -\text{infinity} ~~ -\infty
= (-infinity, 2) ~~ (-\infty,2)
= \emptyset ~~ \text{empty set}
= \hat{i}+2\hat{j} ~~ 2\hat j+\hat i
= \bar{x}+y ~~ y+\bar x
= ½ ~~ \frac12
! f^{-1}(x)=2x ~~ f(x)=2x+1
! f^{-1}(x)=2x ~~ \frac{1}{2x}
! (x,y)=(1,2) ~~ x=2,y=1
! (x,y)=(1,2) ~~ (y,x)=(1,2)
! (x,y)=(1,2) ~~ x=1
! (x,y)=(1,2) ~~ x=1 \text{ or } y=2
! \begin{cases}x=1\\y=2\end{cases} ~~ x=2, y=1
! \mathbb R\setminus\{0\} ~~ \mathbb R
! \mathbb R\setminus\{0\} ~~ \mathbb R\setminus\{1\}
! \mathbb R\setminus\{0\} ~~ (0,\infty)
! [0,5]\setminus\{2\} ~~ [0,5]
! [0,5]\setminus(2,3) ~~ [0,2)\cup(3,5]
! \mathbb{R}\setminus\mathbb{Q} ~~ \mathbb{R}
! {10 \choose 3} ~~ {10 \choose 4}
! {10 \choose 3} ~~ \frac{10}{3}
! n \equiv 1 \pmod 4 ~~ n \equiv 1 \pmod 8
! n \equiv 1 \pmod 4 ~~ n \equiv 2 \pmod 4
! n \equiv 1 \pmod 4 ~~ m \equiv 1 \pmod 4
! n \equiv 1 \pmod 4 ~~ 1
! n \equiv 1 \pmod 4 ~~ n = 1
! 3 \bmod 7 ~~ \frac37
! 7!! ~~ 5040
! (2n-1)!! ~~ (2n-1)!
! (2n-1)!! ~~ (2n+1)!!
! 3!!! ~~ 3!!
! \|x\| ~~ x
! \|x\| ~~ |x|
! \|x+y\| ~~ \|x\|+\|y\|
! \text{all real numbers} ~~ \text{all positive real numbers}
! \text{all integers} ~~ \mathbb R
! \infty ~~ \text{-infinity}
! \text{infinitely many} ~~ \infty
! \bar{x} ~~ x
! \vec{v} ~~ v
! !n ~~ n!
! \hat{x} ~~ \tilde{x}
! 2½ ~~ 1
# dress
= 5 ~~ **5**
= 5 ~~ 5 \\
= 5 ~~ \mathtt{5}
= 5 ~~ \textdollar 5
= 5 ~~ \fbox{5}
= 5 ~~ 5\text{.}
= 5 ~~ \text{\bf 5}
! 5 ~~ 5\text{..}
= 5 ~~ 5,
= 5 ~~ 5;
= (1,2) ~~ (1,2),
= 5 ~~ 5\;,
= 5 ~~ 5\ 
= \frac12 ~~ \frac12 \;
= 14{,}916 ~~ 14916
= 14916 ~~ 14 {,} 916
= 14916 ~~ 14{,} 916
= 1234567 ~~ 1{,} 234{,} 567
= 30 ~~ 30 m²
= 7 ~~ 7 cm³
= 16 ~~ 2⁴
= 1024 ~~ 2¹⁰
= x^{-1} ~~ x⁻¹
= x_1+x_2 ~~ x₁+x₂
= 3.14 ~~ "3.14"
= 5 ~~ “5”
= 5 ~~ '5'
= 5 ~~ ``5''
= 5 ~~ €5
= 5 ~~ 5\text{ euros}
= 5 ~~ USD 5
= 5 ~~ 5\text{ USD}
= 5 ~~ US\$5
= 5 ~~ \text{Rs. }5
= 5 ~~ Rs 5
= 5 ~~ \euro 5
= 5 ~~ \bm{5}
= 5 ~~ \bm 5
= 5 ~~ 5\tag{1}
= 5 ~~ 5\tag*{(2)}
= 5 ~~ \huge 5
= 5 ~~ {\Large 5}
= 5 ~~ \ensuremath{5}
= 5 ~~ \underline{5}
= 5 ~~ \begin{aligned}5\end{aligned}
= 5 ~~ \begin{aligned}x&=5\end{aligned}
= 5 ~~ \begin{align*}5\end{align*}
= 5 ~~ \begin{array}{c}5\end{array}
= 1,2 ~~ \begin{array}{l}1,2\\\end{array}
= 5 ~~ =5
= \frac12 ~~ = \frac{1}{2}
= 0.00005 ~~ 5e-05
= 2\cdot10^{20} ~~ 2e+20
= 3e-12 ~~ 3\times10^{-12}
= 4e-7 ~~ 0.0000004
= 1000 ~~ 1 000
= 5 ~~ 5​
! 5 ~~ ,5
! 5 ~~ 5,6,
! 5 ~~ 5\tag{1}2
! 14916 ~~ 14, 916
! 14916 ~~ 14{,}91
! 2⁴ ~~ 24
! 2⁴ ~~ 8
! 2¹⁰ ~~ 20
! x₁ ~~ x₂
! 5 ~~ "6"
! 5 ~~ "5
! 5 ~~ 5''
! 5 ~~ USD 6
! 5 ~~ \text{Rs. }50
! 5m^2 ~~ 5
! 3n+5m² ~~ 3n+5
! \bm{5} ~~ 6
! 5 ~~ \huge 6
! 5 ~~ \begin{aligned}x&=6\end{aligned}
! 5 ~~ \begin{pmatrix}5\\5\end{pmatrix}
! 5 ~~ \begin{array}{cc}5&6\end{array}
! 5 ~~ =6
! 5 ~~ ==5
! 5 ~~ \approx 5
! 2e+3 ~~ 2000
! 5e-05 ~~ 5e-04
! 3e - 12 ~~ 3\times10^{-12}
! 2e-7 ~~ 2e-8
! 5 ~~ \underline{6}
# chains of equal values
= 6 ~~ 2+4=6
= 5! = 120 ~~ 120
= \frac34=0.75 ~~ 0.75
= 5=5 ~~ 5
= \frac12=0.5 ~~ 0.5
= \sqrt{16}=4=2^2 ~~ 4
= 2\cdot 3=6 ~~ 3!=6
= \binom{5}{2}=10 ~~ 10
= 2\pi(3)=6\pi ~~ 6\pi
= \frac{15}{60} = \frac14 = 0.25 ~~ \frac14
= 1,000 = 10^3 ~~ 1000
= \Gamma(5)=4!=24 ~~ 24
= (a+b)^2=a^2+2ab+b^2 ~~ (a+b)^2
= 3+4=7\text{ cm} ~~ 7
! 2+4=7 ~~ 7
! 2+4=7 ~~ 6
! 5!=121 ~~ 121
! \frac13=0.33 ~~ 0.33
! \frac34=0.75=75 ~~ 75
! 1=2 ~~ 2
! \sqrt{16}=\pm4 ~~ 4
! 4=4 ~~ 5
! 2=3=2 ~~ 2
! \Gamma(5)=25 ~~ 25
! 2+2=x ~~ x
! \pi=3.14 ~~ 3.14
! x+1=6 ~~ 6
! 0.5=50\% ~~ 50
! 5=5=a ~~ 5
! x=x ~~ x
"""


def read_pairs() -> list[tuple[str, bool, str, str]]:
    rows, category = [], ""
    for line in VERDICTS.strip().splitlines():
        if line.startswith("# "):
            category = line[2:]
        else:
            gold, answer = line[2:].split(" ~~ ")
            rows.append((category, line[0] == "=", gold, answer))
    return rows


@pytest.mark.parametrize("category, same, gold, answer", read_pairs())
def test_equivalent__pairs(category, same, gold, answer):
    assert equivalent(gold, answer) is same
    assert equivalent(answer, gold) is same
    assert (len(set(group([gold, answer]))) == 1) is same


def test_equivalent__pairs_are_many_and_balanced():
    rows = read_pairs()
    assert len(rows) == len({row[2:] for row in rows}) >= 250
    assert 0.4 < sum(same for _, same, _, _ in rows) / len(rows) < 0.6


HOSTILE = {
    "tower": "9^{9^{9^9}}", "tower of twos": "2^{2^{2^{2^{2^{2}}}}}", "inverse tower": "9^{-9^{9^9}}", "factorial": "99999999!", "factorials": "((9!)!)!",
    "long factorials": "(2999!+1)" * 200, "gamma": "x!" * 900, "binomial": r"\binom{999999999}{500000000}", "binomials": r"\binom{32000}{2000}" * 100,
    "polynomials": r"\binom{x}{30}" * 150, "braces": "{" * 1000 + "5" + "}" * 1000, "parentheses": "(" * 999 + "5" + ")" * 999, "radicals": r"\sqrt{" * 250 + "2" + "}" * 250,
    "fractions": r"\frac{1}{" * 200 + "2" + "}" * 200, "bare radicals": r"\sqrt" * 300 + "2", "bare fractions": r"\frac" * 300 + "12", "bare sines": r"\sin" * 400 + "x",
    "bars": "|" * 1999 + "x", "signs": "-" * 1990 + "5", "bangs": "5" + "!" * 1990, "carets": "2" + "^2" * 900, "subscripts": "x_" * 990, "characters": "a" * 200_000,
    "parentheses, long": "(" * 100_000 + ")" * 100_000, "import": "__import__('os').system('true')", "attribute": "().__class__.__bases__", "by zero": r"\frac{1}{0}",
    "by zero, hidden": r"\frac{1}{\sqrt{2}\sqrt{2}-2}", "input": r"\input{/etc/passwd}", "NUL": "5\x00", "surrogate": "x_\ud800+\ud800", "digits": "٣" * 50, "tiny": "10^{-999999999}",
    "scientific": "1e-999999999", "long decimal": "0." + "1" * 1990, "long": "7" * 10_000_000, "long fractions": r"\frac{1}{2}+" * 900_000, "sum": "+".join(f"1/{i}" for i in range(1, 350)),
    "sum of powers": "+".join(f"x^{i}" for i in range(1, 350)), "sum of roots": "+".join(f"x^{{1/{i}}}" for i in range(2, 200)), "product": "".join(f"(x+{i})^{{400}}" for i in range(150)),
    "symbolic power": "(x+1)^{100000}", "symbolic powers": "x^{1400}+" * 150 + "1", "sine": r"\sin(10^{50})", "sine of more": r"\sin(10^{5000})", "logarithms": r"\ln(" * 400 + "5" + ")" * 400,
    "signs of both kinds": "1" + r"\pm2" * 500, "lists of them": ",".join([r"\pm1\pm2\pm3\pm4"] * 80), "union": r"\cup".join(f"({i},{i + 1})" for i in range(200)),
    "union, long": r"\cup".join(f"({i},{i + 1})" for i in range(20_000)), "matrix": r"\begin{pmatrix}" + r"\\".join(["&".join("1" * 30)] * 30) + r"\end{pmatrix}",
    "irrational matrix": r"\begin{pmatrix}" + r"\\".join(["&".join([r"\sqrt2"] * 10)] * 25) + r"\end{pmatrix}", "cube roots": "(x^3)^{1/3}" * 180, "exponentials": "e^{e^{e^{e^{e}}}}",
    "complex powers": "i^{i^{i^{i}}}" * 100, "complex, high": "(1.5+i/7)^{1000}" * 100, "names": "+".join(f"x_{i}" for i in range(300)), "floors": r"\lfloor x/7\rfloor" * 100,
    "huge floor": r"\lfloor 2^{14000}\pi\rfloor", "texts": r"\text{" * 600, "commas": "," * 1999, "equals": "=" * 1999, "list": ",".join(["x+1"] * 480), "equations": ",".join(f"x={i}" for i in range(400)),
    "units": "5" + r"\text{cm}" * 220, "spaced units": "5" + r"\text{" + "a " * 900 + "}", "spaced digits": "1 " * 999, "thousands": "1" + ",000" * 490, "backslashes": "\\" * 1999,
    "long fractions in exact arithmetic": "+".join(rf"\frac{{1}}{{{10**6 + i}^{{300}}}}" for i in range(80)), "third powers": r"(1/3)^{19000}+" * 130 + "1", "long sums": "+".join(["x^{1400}/3^{9000}"] * 105), "logs of logs": r"\log_{x}{y}" * 180,
    "polylogarithms": "+".join([r"\mathrm{Li}_9(-0.99)"] * 95), "digammas": r"\psi(x)" * 280, "error functions": r"\operatorname{erf}(7.9)" * 90, "Bessel functions": "J_9(15.9)" * 220,
    "zetas": r"\zeta(99)" * 220, "zeta near its pole": r"\zeta(1+10^{-70})", "gamma near a pole": r"\Gamma(10^{-70}-5)" * 100, "Lambert": "W(-0.36+x/99)" * 150, "functions of functions": "f(" * 19 + "x" + ")" * 19,
    "functions, nested too deep": "f(" * 660 + "x" + ")" * 660, "functions, many": "+".join(f"f(x+{i})" for i in range(220)), "functions of long numbers": "+".join(f"f(3^{{{20000 - i}}})" for i in range(130)),
    "names before brackets": "x(" * 999, "norms": r"\|" * 999, "double factorials": "2999!!" * 300, "bangs in pairs": "9" + "!!" * 900, "not equal": r"\land ".join(f"x\\ne{i}" for i in range(220)),
    "set differences": r"\mathbb{R}" + "".join(f"\\setminus\\{{{i}\\}}" for i in range(110)), "large set difference": r"\{" + ",".join(map(str, range(200))) + r"\}\setminus\{" + ",".join(map(str, range(200))) + r"\}",
    "intersections": r"\cap".join(f"({i},9999)" for i in range(150)), "chooses": "{" * 19 + r"9\choose 3" + "}" * 19, "congruence": "n" + r"\equiv" * 300 + r"\pmod 4", "moduli": r"\mod" * 400,
    "chain": "=".join(["1+1"] * 480), "thoughts": "</think>" * 240, "quotes": '"' * 1999, "blanks in braces": "{" * 19 + "5" + " " * 1900 + "6" + "}" * 19, "thin blanks": r"\," * 900 + "5" + r"\;" * 90 + "6",
    "primes": "f" + "'" * 1900, "accents": r"\hat x" * 300, "capitals": "AB" * 900, "raised": "2" + "⁹" * 1900, "units, many": "5" + r"\text{ m}" * 240, "tags": r"\tag{1}" * 280,
}  # fmt: skip


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.parametrize("name", HOSTILE)
def test_canonical__hostile_answer(name):
    hostile, seconds = HOSTILE[name], []
    for _ in range(3):  # the quickest counts: what mpmath computes once, or another process takes, is not this answer's time
        verify.cached_reading.cache_clear()
        start = time.perf_counter()
        same = equivalent(r"\frac12", hostile) or reward(rf"\boxed{{{hostile}}}", "12") > 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < LIMIT
    assert not same
    assert canonical(hostile) is None or equivalent(hostile, hostile)

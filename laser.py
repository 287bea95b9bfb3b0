"""LaSeR: reinforcement learning with last-token self-rewarding (arXiv 2510.14943), in one file.

A language model learns from verifiable rewards and, by one extra regression term, learns to grade its own
solution in the log-probability of one special token z_c, read right after the solution's last token:

    for step in range(steps):
        solutions    = sample(problems, G each)       # y ~ π(·|x); one step after EOS reads log π(z_c|x,y)
        rewards      = verify(solutions)              # r_v ∈ {0, 1}: is the boxed answer right?
        self_rewards = beta * (logp_zc - c_ref)       # r_s, its verdict; c_ref: mean log π(z_c) at the start
        A            = (1 - tau) * normalise(rewards) + tau * normalise(clip(self_rewards, 0, 1))
                                                      # within the G solutions of a problem
        L_policy     = -mean(min(ratio * A, clip(ratio, 1 - ε_low, 1 + ε_high) * A))  # ratio = π / π_old
        L_self       = mean(w * (self_rewards - rewards)**2)        # w: right and wrong weigh the same
        descend(L_policy + alpha * L_self)            # alpha = tau = 0 at first, then tau = 0: `schedule`
    at test time: the answer with the largest sum of clip(self_rewards, 0, 1) over the solutions that give it

L_policy is GRPO: tokens of solutions better than their group's mean become more likely, the others less;
PPO's clip rewards no token beyond ε of change from the probability with which it was sampled.

    python laser.py                        # a tiny model, from random weights, on a CPU, in 2 or 3 minutes
    python laser.py --model Qwen2.5-7B     # the same code on a GPU

Part I is the story from the top: settings, the run, then what a step is made of, as the data travels:
sampling, self-reward, advantages and losses, one update, votes. Part II is what it learns on: problems,
prompts, a warm start. Part III is the machinery: evaluation, models, processes, files, test time, flags.

Shapes: P problems a step, G solutions each, B = P·G (a problem's solutions side by side), b of them in a
micro-batch, T response tokens, L tokens of prompt and response, V the vocabulary, D the hidden size, R rows
that run at a time, N a flat list; in votes n samples a problem, k of them used, S trials, C answers.
Left out on purpose: a critic (a learnt value model); sequence packing; dropping the groups whose rewards are
all equal (usual elsewhere, as their advantage is 0, but L_self learns from them).
"""
import contextlib
import ctypes
import dataclasses
import datetime
import functools
import gzip
import hashlib
import importlib
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import time
import types
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import datasets
import filelock
import pandas
import pyarrow.parquet
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers
import yaml
from torch.distributed.checkpoint import state_dict as sharded_state
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward
from tqdm import tqdm
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers import AutoTokenizer, DynamicCache, HfArgumentParser, PreTrainedTokenizerFast
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from verify import checkable, extract_answer, group, reward

# ========================================================================================== Part I: the story
# --------------------------------------------------------------------------------------------------- settings

# Annotated[type, test, its words in a refusal]: `check` in part III applies them
Count = Annotated[int, lambda x: x >= 0, "0 or more"]
AtLeastOne = Annotated[int, lambda x: x >= 1, "1 or more"]
AtLeastTwo = Annotated[int, lambda x: x >= 2, "2 or more, as GRPO compares the solutions of one problem"]
Positive = Annotated[float, lambda x: 0 < x < 1e9, "a number greater than 0, below 1e9"]
NotNegative = Annotated[float, lambda x: 0 <= x < 1e9, "a number from 0 to 1e9"]
Share = Annotated[float, lambda x: 0 <= x <= 1, "a number between 0 and 1"]
Temperature = Annotated[float, lambda x: x == 0 or 0.01 <= x <= 100, "0, or a number from 0.01 to 100"]


def knob(default, text, **options):
    """A setting with its default and the line that `--help` shows for it."""
    metadata = {"help": text, **options}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Config:
    """Every setting of a run. The defaults are the paper's; the command-line flags are made from it."""

    # model and data
    model: str = knob("tiny_config.json", "hub id, folder, or .json of an architecture (random weights)")
    config: str | None = knob(None, "yaml or json file of settings; flags take precedence over it")
    data: str = knob("zwhe99/DeepMath-103K", "training problems: file, hub id[:config[:split]], or `pairs`")
    eval_data: list[str] = knob(
        ["HuggingFaceH4/MATH-500", "math-ai/aime24", "math-ai/aime25", "math-ai/amc23"],
        "held-out problems, one or more, as --data")
    problem_column: str | None = knob(None, "column of problems or messages, a.b in dicts (default: by name)")
    answer_column: str | None = knob(None, "column of answers, a.b for dicts (default: by name)")
    solution_column: str | None = knob(None, "column of worked solutions (default: solution)")
    prompt_suffix: str | None = knob(None, "line after each problem (default: to box the answer)")
    template_kwargs: str = knob("{}", "JSON object of variables for the chat template")
    date: str | None = knob(None, "day for chat templates that write one (default: the run's first)")
    reward: str | None = knob(None, "module:function of (response, gold) → 0 … 1 in place of the verifier")
    max_prompt_tokens: AtLeastOne = knob(2048, "longest prompt, tokens; longer ones are dropped")
    out: str | None = knob(None, "folder of the run (default: runs/<model name>)")
    resume: bool = knob(False, "continue the run in --out from its checkpoint")
    seed: int = knob(0, "seed of everything random")
    device: str = knob("auto", "auto, cpu, cuda, cuda:N, mps or xpu")
    param_dtype: Literal["auto", "float32", "bfloat16"] = knob(
        "auto", "of weights and AdamW moments; bfloat16 is rounded stochastically (auto: what fits)")

    # sampling
    steps: Count = knob(1000, "training steps in all")
    prompts_per_step: AtLeastOne = knob(128, "P, problems a step")
    group_size: AtLeastTwo = knob(8, "G, solutions a problem")
    max_response_tokens: AtLeastOne = knob(8192, "T, tokens after which a solution is cut")
    end_token: list[str] = knob([], "tokens that end a solution (default: EOS, the chat template's turn end)")
    temperature: Temperature = knob(1.0, "of sampling; 0 is greedy, for evaluation only")
    sample_rows: Count = knob(0, "solutions sampled at a time (0: from free memory)")

    # self-reward
    token: str | None = knob(None, "z_c, a token or its id (default: one that the model never uses)")
    beta: Positive = knob(0.1, "β, reward per nat of log π(z_c)")
    c_ref: float | None = knob(None, "mean log π_ref(z_c), nats (default: measured on the starting model)")
    alpha: NotNegative = knob(0.1, "weight of the self-reward loss; 0 is plain GRPO")
    tau: Share = knob(0.1, "weight of the self-reward in the advantage, 0 to 1")
    min_std: NotNegative = knob(0.1, "groups whose clipped self-rewards have no larger std keep GRPO's A")
    reasoning_warmup: Count = knob(200, "first steps without self-reward loss")
    self_reward_warmup: Count = knob(200, "following steps with the loss and τ = 0")
    balanced: bool = knob(True, "right and wrong solutions weigh the same in the self-reward loss")
    exact_reference: bool = knob(False, "a frozen reference's log π_ref(z_c|x,y) in place of c_ref")
    self_loss: Literal["mse", "ce"] = knob(
        "mse", "mse: regress the self-reward on the reward; ce: cross-entropy on π(z_c) itself")

    # optimisation
    lr: Positive = knob(1e-6, "AdamW learning rate")
    weight_decay: NotNegative = knob(0.01, "AdamW weight decay")
    updates: AtLeastOne = knob(1, "K, updates on each step's solutions; the clip acts from the second on")
    clip_low: Share = knob(0.2, "ε_low of the PPO clip")
    clip_high: Positive = knob(0.2, "ε_high of the PPO clip")
    kl: NotNegative = knob(0.0, "weight of the KL to a frozen reference model")
    grad_clip: Positive = knob(1.0, "largest gradient norm")
    micro_batch_tokens: Count = knob(0, "padded tokens in one pass (0: 16384, 2048 on a CPU)")

    # evaluation and output
    eval_every: Count = knob(200, "evaluate every this many steps, at the start and the end (0: never)")
    eval_n: AtLeastOne = knob(8, "solutions a problem in evaluation", aliases=["--n"])
    track: Literal["", "trackio", "wandb"] = knob("", "follow the run with this package, too")
    rollouts_every: Count = knob(50, "write solutions to rollouts.jsonl every this many steps (0: never)")
    save_every: Count = knob(50, "save every this many steps, and at the end (0: only then)")

    # test time, with a trained --model
    ask: str | None = knob(None, "a problem (`-`: from standard input): sample eval_n solutions, vote")
    score: str | None = knob(None, "a file of problem and response columns: their self-rewards to --out")
    eval_only: bool = knob(False, "evaluate --eval_data into the folder --out, going on with what is there")

    # warm start: a model that never earns a reward learns nothing, so let it imitate worked solutions first
    warm_start_steps: Count = knob(0, "supervised steps before training, on worked solutions")
    warm_start_data: str | None = knob(None, "where they stand, as --data (default: there)")
    warm_start_batch: AtLeastOne = knob(64, "worked solutions a step")
    warm_start_lr: Positive = knob(1e-3, "peak learning rate; 5e-5 suits pretrained models")
    warm_start_right: Share = knob(0.3, "share of the worked solutions of `pairs` that are right")


# -------------------------------------------------------------------------------------- the run and its steps


class Policy(NamedTuple):
    model: torch.nn.Module
    tokenizer: Any
    eos_ids: list  # any of them ends a solution
    zc: int  # the id of z_c
    c_ref: float  # mean log π_ref(z_c|x,y), nats


def train(run, config, stop=()):
    """Train from run.first_step to config.steps, evaluate, save. Returns the rows of eval.jsonl.

    run: what `prepare` makes: policy, optimizer, reference, problems, eval_sets, first_step, saved_step
    (None: none yet), results, out. stop: signals that have come; after one the step in hand is the last."""
    done, saved = run.first_step, run.saved_step
    bar = progress(range(done, config.steps), initial=done, total=config.steps, desc="training")
    for step in bar:
        if config.eval_every and step % config.eval_every == 0:
            evaluate(run, step, config, stop)
        if asked_to_stop(stop):  # all processes agree on it
            break
        problems = problems_of_step(run.problems, step, config)
        figures, rollouts = training_step(run.policy, run.optimizer, problems, step, config, run.reference)
        done = step + 1
        log(run, "metrics.jsonl", figures)
        show(run, bar, figures, rollouts, config)
        if config.save_every and done % config.save_every == 0:
            save(run, done, config)
            saved = done
    bar.close()
    if done != saved:
        save(run, done, config)
    if config.eval_every and not asked_to_stop(stop):
        evaluate(run, done, config, stop)
    if asked_to_stop(stop):
        say(f"stopped after step {done}; continue with --resume", file=sys.stderr)
    elif run.results:
        print_table(run.results)
    finish(run)
    return run.results


def training_step(policy, optimizer, problems, step, config, reference=None):
    """Sample, verify, grade, update: (figures for metrics.jsonl, each solution's problem, text, r_v, r_s).

    problems: P rows with `problem`, `answer` and `prompt`, its token ids. `reference`: the frozen starting
    model, for --kl and --exact_reference. All processes hold all B solutions and share the work."""
    G, lap = config.group_size, stopwatch()
    seconds = {}

    # 1. Sample G solutions to each problem. After the last token of each, the sampler reads log π(z_c|x,y).
    #    Each token's uniform number u is fixed in advance: batching and devices do not change the draws.
    #    `sample_together` splits this among processes and by length, and calls `sample`, below.
    prompts = [row["prompt"] for row in problems]
    u = uniforms(len(prompts) * G, config.max_response_tokens, "train", config.seed, step)
    solutions = sample_together(policy, prompts, G, u, config)
    responses = solutions.responses()
    texts = policy.tokenizer.batch_decode(responses, skip_special_tokens=True)
    problems, prompts = repeated(problems, G), repeated(prompts, G)  # from here on, one for each solution
    seconds["sample_seconds"] = lap()

    # 2. Verify.
    rewards = verify(texts, problems, solutions.complete, config)
    seconds["verify_seconds"] = lap()

    # 3. The self-rewards: no second pass, as log π(z_c) is known already.
    c_ref, ref_logps = policy.c_ref, None
    if reference is not None:
        ref_logps, ref_logp_zc = score(reference, prompts, responses, policy.zc, config)
        if config.exact_reference:
            c_ref = ref_logp_zc
    self_rewards = self_reward_of(solutions.logp_zc, c_ref, config)

    # 4. Advantages, in which the self-reward has a say once it is learnt.
    alpha, tau = schedule(step, config)
    advantages = group_advantages(rewards, G)
    if tau:
        advantages = mix_advantages(advantages, self_rewards, solutions.complete, G, tau, config.min_std)

    # 5. Descend L_policy + α L_self.
    batch = Batch(
        prompts=prompts,
        responses=responses,
        mask=solutions.mask(),
        sampler_logps=solutions.logps,
        rewards=rewards,
        advantages=advantages,
        weights=class_weights(rewards, solutions.complete, config.balanced),
        c_ref=torch.as_tensor(c_ref, device=rewards.device).expand(len(rewards)),  # one number, or B
        ref_logps=ref_logps,
    )
    losses = update(policy, optimizer, batch, alpha, config)
    seconds["train_seconds"] = lap()
    figures = step_figures(step + 1, batch, solutions, self_rewards, losses, seconds, config)
    rollouts = list(zip(problems, texts, rewards.tolist(), self_rewards.tolist()))
    return figures, rollouts


def schedule(step, config):
    """(α, τ) of a step: first GRPO alone, then the self-reward is learnt, and only then it has a say.

    Where α = 0 it is never learnt, so τ is 0, too."""
    learnt_from = config.reasoning_warmup
    mixed_from = learnt_from + config.self_reward_warmup
    alpha = config.alpha if step >= learnt_from else 0.0
    tau = config.tau if alpha and step >= mixed_from else 0.0
    return alpha, tau


def verify(texts, problems, complete, config):
    """r_v (B,): 1 if a solution has exactly one box and it is right, else 0; 0 if cut, yet trained on."""
    judge = reward_function(config, strict=True)
    golds = [row["answer"] for row in problems]
    rewards = [judge(text, gold) for text, gold in zip(texts, golds)]
    rewards = torch.tensor(rewards, dtype=torch.float32, device=complete.device)
    return torch.where(complete, rewards, 0.0)


# --------------------------------------------------------------------------------------------------- sampling


class Solutions(NamedTuple):
    tokens: torch.Tensor  # (B, T) response ids, EOS included; beyond a row's length: 0
    logps: torch.Tensor  # (B, T) log-probability of each, at the temperature that drew it
    lengths: torch.Tensor  # (B,) tokens in the response
    complete: torch.Tensor  # (B,) True if it ended with an EOS, False if it was cut
    logp_zc: torch.Tensor  # (B,) log π(z_c|x,y) after EOS; −inf where cut: no EOS, no self-reward

    def responses(self):
        """The B responses as lists of token ids."""
        rows = zip(self.tokens.cpu(), self.lengths.tolist())
        return [row[:length].tolist() for row, length in rows]

    def mask(self):
        """(B, T) True on response tokens."""
        columns = torch.arange(self.tokens.size(1), device=self.tokens.device)
        return columns < self.lengths[:, None]


class Rows(NamedTuple):
    """The solutions that run just now, side by side. All (R,)."""

    solution: torch.Tensor  # which of the B it is
    last: torch.Tensor  # its newest token; −1 before the first
    position: torch.Tensor  # of the newest token, counted from the prompt's first
    length: torch.Tensor  # response tokens so far
    ended: torch.Tensor  # whether the newest token is an EOS

    def extend(self, others):
        return Rows(*map(torch.cat, zip(self, others)))

    def keep(self, which):
        return Rows(*(column[which] for column in self))


def forward_pass(f):
    """Let f(model, …) be one pass through the model, for which weights split over GPUs are gathered."""
    @functools.wraps(f)
    def call(model, *args, **kwargs):
        if hasattr(model, "run"):  # put there by `shard`
            return model.run(f, *args, **kwargs)
        return f(model, *args, **kwargs)
    return call


PATIENCE = {"cpu": 1}  # steps between looks at who is done; elsewhere 16: a look waits for the device
PREFILL_TOKENS = 32768  # padded prompt tokens in one pass


@torch.no_grad()
@forward_pass
def sample(model, prompts, group_size, u, eos_ids, zc, temperature=1.0, max_rows=0, on_step=lambda n: None):
    """Sample `group_size` solutions for each prompt, reading log π(z_c) after each: Solutions, on its device.

    prompts: P lists of token ids; u: (P·G, T) uniform numbers in (0, 1]. Token t of solution i is the inverse
    of the model's cumulative distribution at u[i, t]. So, up to rounding, neither the number of rows that run
    at a time (`max_rows`, 0: as memory allows) nor who is done changes what is drawn. Temperature 0 is
    greedy. A row ends with any of `eos_ids`, which is then fed to the model for one more step: where a next
    token would be drawn, log π(z_c) is read instead, untempered (paper, section 3.3: the self-reward costs
    one token). `on_step` is told how many rows run."""
    model.eval()
    device = model.device
    B, T = u.shape
    u = u.to(device)
    eos = torch.tensor(eos_ids, device=device)
    tokens = torch.zeros(B, T, dtype=torch.long, device=device)
    logps = torch.zeros(B, T, device=device)
    lengths = torch.zeros(B, dtype=torch.long, device=device)
    logp_zc = torch.full((B,), -torch.inf, device=device)
    slots = max(map(len, prompts)) + T  # z_c is only read, never fed
    max_rows = max_rows or rows_that_fit(model, slots)

    cache = RunningCache(slots)  # a slot for each row and position; what lies beyond a row's own is masked
    none = lengths[:0]  # an empty (0,)
    rows = Rows(none, none, none, none, none.bool())  # nothing runs yet
    logits = None  # (R, V) of what follows each row's newest token
    started = 0
    for step in itertools.count():
        # 1. Admit waiting solutions, once an eighth of the rows is free: one prefill for many.
        running = len(rows.solution)
        while started < B and (not running or max_rows - running >= max(1, max_rows // 8)):
            end = min(B, started + max_rows - running)
            new, of_new = prefill(model, cache, prompts, group_size, range(started, end))
            rows = rows.extend(new)
            logits = torch.cat([logits, of_new]) if running else of_new
            started += len(new.solution)
            running += len(new.solution)

        # 2. All rows draw; those that were done, by EOS or at T tokens, drop it. After EOS z_c is read. Done
        #    rows leave only in 3; until then the same token at the same position gives the same log π(z_c).
        i = rows.solution
        logp = logits.float().log_softmax(-1)
        logp_zc[i] = torch.where(rows.ended, logp[:, zc], logp_zc[i])
        was_done = rows.ended | (rows.length == T)
        column = rows.length - was_done.long()  # where its token goes; done rows rewrite their last
        drawn, drawn_logp = draw(logp, u[i, column], temperature)
        last = torch.where(was_done, rows.last, drawn)
        tokens[i, column] = last
        logps[i, column] = torch.where(was_done, logps[i, column], drawn_logp)
        grows = (~was_done).long()
        rows = Rows(i, last, rows.position + grows, rows.length + grows, torch.isin(last, eos))
        lengths[i] = rows.length
        on_step(running)

        # 3. Let done rows leave, once they are an eighth of all: copying the cache costs about one step. A
        #    row that has just drawn EOS stays, to read z_c; one that was just cut has nothing left to read.
        look = step % PATIENCE.get(device.type, 16) == 0
        if look:
            leaving = was_done | ((rows.length == T) & ~rows.ended)
            stay = (~leaving).nonzero().squeeze(1)
            if len(stay) * 8 <= running * 7:
                rows = rows.keep(stay)
                cache.keep(stay)
            if not len(rows.solution) and started == B:
                break

        # 4. One token further for every running row, each at its own position.
        if len(rows.solution):
            logits = advance(model, cache, rows, look)
    if not torch.isfinite(logps).all():
        fail("The model's probabilities are not finite: lower the learning rate, or mend damaged weights.")
    newest = tokens.gather(1, lengths[:, None] - 1).squeeze(1)
    return Solutions(tokens, logps, lengths, torch.isin(newest, eos), logp_zc)


def prefill(model, cache, prompts, group_size, waiting):
    """Start the solutions `waiting` (a range), or as many as one pass holds: (Rows, first logits (R, V)).

    A prompt runs once for all its solutions that start now. Prompts are padded on the right, where a causal
    model's real tokens cannot see it; the solutions' tokens then take the padding's slots in the cache."""
    first = waiting.start // group_size
    last = (waiting.stop - 1) // group_size
    batch = prompts[first : last + 1]
    fits = max(1, PREFILL_TOKENS // max(map(len, batch)))
    batch = batch[:fits]
    stop = min(waiting.stop, (first + len(batch)) * group_size)
    solution = torch.arange(waiting.start, stop, device=model.device)
    prompt = solution // group_size - first  # which of the batch
    size = torch.tensor([len(ids) for ids in batch], device=model.device)

    filled = DynamicCache()
    ids = right_padded(batch, model.device)
    output = model.base_model(input_ids=ids, past_key_values=filled, use_cache=True)
    hidden = output.last_hidden_state[range(len(batch)), size - 1]  # V logits at one place each
    logits = model.get_output_embeddings()(hidden)[prompt]
    cache.extend(filled, prompt)
    zero = torch.zeros_like(solution)
    return Rows(solution, zero - 1, size[prompt] - 1, zero, zero.bool()), logits


def draw(logp, u, temperature):
    """One token a row of logp (R, V), by inverse CDF at u (R,): (tokens, tempered log-probs), both (R,)."""
    if temperature not in (0, 1):
        logp = (logp / temperature).log_softmax(-1)
    if temperature == 0:
        drawn = logp.argmax(-1)
    else:  # the first token whose cumulative probability reaches u; as u > 0, not one of probability 0
        cdf = logp.exp().cumsum(-1)
        reached = u * cdf[:, -1]  # which is 1 but for rounding
        drawn = torch.searchsorted(cdf, reached[:, None]).squeeze(1)
        drawn = drawn.clamp(max=logp.size(1) - 1)  # nan would be V; `sample` reports it at the end
    return drawn, logp.gather(1, drawn[:, None]).squeeze(1)


def advance(model, cache, rows, look):
    """Run the newest token of every row through the model: the logits (R, V) of what follows it.

    Only on a `look` is the longest row's length read from the device; else the cache takes one slot more."""
    cache.prepare(rows.position, look)
    ids, positions = rows.last[:, None], rows.position[:, None]
    output = model.base_model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=cache.mask(),
        past_key_values=cache,
        use_cache=True,
    )
    return model.get_output_embeddings()(output.last_hidden_state[:, -1])


# -------------------------------------------------------------------------- log-probabilities and self-reward


@forward_pass
def token_logps(model, prompts, responses, zc, temperature=1.0):
    """Teacher-forced log-probs of given responses: logps (b, T), 0 beyond a response's end, and logp_zc (b,).

    One forward pass over prompt + response, with z_c as the last target; the responses' positions are read:

        ids        x1   x2   x3   y1   y2   EOS  z_c  pad        here start = 2, size = 3
        position    0    1    2    3    4    5    6    7
        predicts    .    .   y1   y2  EOS  z_c    .    .         read: start … start + size, the last for z_c

    Padded on the right: a real token never sees what follows it, so padding needs no attention mask and
    shifts no position. The response is read at `temperature`, z_c always at 1. After a cut response z_c is
    read, too: its weight in the loss is 0."""
    start = torch.tensor([[len(p) - 1] for p in prompts])
    size = torch.tensor([[len(r)] for r in responses])
    rows = [p + r + [zc] for p, r in zip(prompts, responses)]
    ids = right_padded(rows)
    stop = start + size
    position = torch.arange(ids.size(1) - 1)
    read = (start <= position) & (position <= stop)  # (b, L), without the last z_c
    is_zc = (position == stop)[read]  # (N,), all that is read, row by row
    inside = torch.arange(int(size.max())) < size  # (b, T)
    ids, read, is_zc, inside = (x.to(model.device) for x in (ids, read, is_zc, inside))

    output = model.base_model(input_ids=ids[:, :-1], use_cache=False)
    hidden = output.last_hidden_state[read]  # (N, D)
    targets = ids[:, 1:][read]
    temperatures = torch.where(is_zc, 1.0, temperature)
    logps = chosen_logps(model.get_output_embeddings(), hidden, targets, temperatures)  # never N × V at once
    zeros = logps.new_zeros(inside.shape)
    of_response = zeros.masked_scatter(inside, logps[~is_zc])  # row by row, the order in which they were read
    return of_response, logps[is_zc]


@torch.no_grad()
def score(model, prompts, responses, zc, config):
    """`token_logps` of any number of responses, without gradient: logps (B, T), logp_zc (B,)."""
    model.eval()
    T = max(map(len, responses))
    logps = torch.zeros(len(prompts), T, device=model.device)
    logp_zc = torch.zeros(len(prompts), device=model.device)
    micro = micro_batches(prompts, responses, model.device, config)
    for rows in rank_share(micro):
        x = [prompts[i] for i in rows]
        y = [responses[i] for i in rows]
        of_response, of_zc = token_logps(model, x, y, zc, config.temperature or 1.0)
        logps[rows, : of_response.size(1)] = of_response
        logp_zc[rows] = of_zc
    return all_reduce(logps), all_reduce(logp_zc)  # rows of other processes are 0 here: the sum joins them


def self_reward(logp_zc, c_ref, beta):
    """r_s = β (log π(z_c|x,y) − c_ref): what the model thinks of y. Any shape; right ≈ 1, wrong ≈ 0.

    Where it comes from (paper, section 3.2). Let the model answer a finished solution with one verdict token
    z, worth r̂ = 1 if z says the truth about it, else 0, under a KL penalty to the reference. Z normalises:

        max over π of  E_{z~π}[r̂(z)] − β KL(π ‖ π_ref)   has the optimum  π*(z) = π_ref(z) exp(r̂(z)/β) / Z .

    Take the logarithm, solve for the reward: r̂(z) = β log(π*(z)/π_ref(z)) + β log Z. Let z = z_c mean «this
    is right»: it tells the truth exactly if the solution is right, so r̂(z_c) = r_v. With log Z ≈ 0 (see
    `log_partition`), r_v = β log(π*(z_c)/π_ref(z_c)). For the policy at hand the right side is its
    self-reward r_s, which regression trains towards r_v. As log π_ref(z_c|x,y) hardly varies for a token that
    is never used, a constant c_ref replaces it, and no reference model is needed (c_ref may also be a tensor
    of the exact values). π(z_c) of right solutions rises from e^c_ref to only e^(c_ref + 1/β), for a 7B model
    e^-13: too little to change how it reasons."""
    return beta * (logp_zc - c_ref)


def self_reward_of(logp_zc, c_ref, config):
    """r_s as `config` trains it: the equation above, or π(z_c) under cross-entropy. Where cut: −inf, or 0."""
    if config.self_loss == "ce":
        return logp_zc.exp()
    return self_reward(logp_zc, c_ref, config.beta)


def log_partition(c_ref, beta):
    """log Z = log(1 + e^c_ref (e^(1/β) − 1)), nats, > 0: only the true verdict's term is tilted.

    With c_ref = −23 (Qwen2.5) and β = 0.1 it is 2e-6. It stops being ≈ 0 when c_ref + 1/β comes near 0: then
    r_s = 1 would ask for more probability than there is, and the run warns. A small model, whose unused
    tokens still have e^-8, needs a β of 0.2 or more."""
    tilt = 1 / beta + math.log(-math.expm1(-1 / beta))  # log(e^(1/β) − 1), which may overflow
    tilted = c_ref + tilt
    return max(tilted, 0.0) + math.log1p(math.exp(-abs(tilted)))  # log(1 + e^tilted)


# -------------------------------------------------------------------------------------- advantages and losses


def group_advantages(rewards, group_size):
    """GRPO: (r − mean) / (std + 1e-6) in each group of G solutions to one problem, unbiased std. (B,) → (B,).

    A group whose rewards are all equal gets 0: nothing to prefer. It still trains the self-reward."""
    groups = rewards.float().reshape(-1, group_size)
    mean = groups.mean(1, keepdim=True)
    std = groups.std(1, keepdim=True)
    normalised = (groups - mean) / (std + 1e-6)
    return normalised.reshape(-1)


def mix_advantages(advantages, self_rewards, complete, group_size, tau, min_std):
    """(1 − τ) A_v + τ A_s, with A_s of the self-rewards clipped to [0, 1] (paper, section 3.4). All (B,).

    self_rewards are unclipped; that of a cut solution (complete False) counts as 0. A group whose clipped
    ones have a std ≤ min_std does not tell its solutions apart, and dividing by that std would amplify noise:
    it keeps A_v."""
    clipped = self_rewards.clamp(0, 1)
    clipped = torch.where(complete, clipped, 0.0)
    std = clipped.reshape(-1, group_size).std(1)
    told_apart = (std > min_std).repeat_interleave(group_size)
    of_self = group_advantages(clipped, group_size)
    mixed = (1 - tau) * advantages + tau * of_self
    return torch.where(told_apart, mixed, advantages)


def policy_loss(logps, old_logps, advantages, mask, clip_low, clip_high, total):
    """PPO's clipped objective, negated: the sum over tokens divided by `total`, their number in the step.

    logps, old_logps (B, T); advantages (B,), the same for all tokens of a solution; mask (B, T) True on
    response tokens, EOS included: it is a decision of the policy like any other."""
    A = advantages[:, None]
    ratio = importance_ratio(logps, old_logps, mask)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    # Once a token has moved past the clip in the direction that A wants, it gains nothing more; the minimum
    # leaves the way back open.
    gain = torch.minimum(ratio * A, clipped * A)
    gain = torch.where(mask, gain, 0.0)
    return -gain.sum() / total


def importance_ratio(logps, old_logps, mask):
    """π(y_t)/π_old(y_t) of each token, (B, T); 1 where there is none."""
    difference = torch.where(mask, logps - old_logps, 0.0)
    return difference.exp()


def class_weights(rewards, complete, balanced=True):
    """The paper's w, (B,): N/(2 N_c) for N_c right and N/(2 N_i) for N_i wrong solutions, N complete ones.

    So both classes weigh half (1/2 each if there is but one), and calling everything wrong does not pay when
    most are. Cut solutions weigh 0; all others 1 if not `balanced`."""
    if not balanced:
        return complete.float()
    right = complete & (rewards > 0.5)
    wrong = complete & (rewards <= 0.5)
    N = complete.sum()
    N_c = right.sum().clamp(min=1)
    N_i = wrong.sum().clamp(min=1)
    return right * N / (2 * N_c) + wrong * N / (2 * N_i)


def self_reward_loss(self_rewards, rewards, weights, total):
    """1/(N_c+N_i) Σ w (r_s − r_v)² of complete solutions, unclipped r_s, all (B,) (paper, eq. 10): scalar.

    weights: `class_weights` over the whole step, 0 where cut; total: N_c + N_i of the whole step."""
    error = torch.where(weights > 0, self_rewards - rewards, 0.0)  # where cut it is inf, and 0 · inf is nan
    weighted = weights * error**2
    return weighted.sum() / total


def self_reward_cross_entropy(logp_zc, rewards, weights, total):
    """The ablation: cross-entropy of π(z_c) against r_v. It drives π(z_c) to 1: the model would write z_c."""
    logp = torch.where(weights > 0, logp_zc, -1.0)  # any finite number: its weight is 0
    logp = logp.clamp(max=-1e-6)  # so that log(1 − π) stays finite
    log_not = torch.log(-torch.expm1(logp))
    entropy = -(rewards * logp + (1 - rewards) * log_not)
    return (weights * entropy).sum() / total


def kl_penalty(logps, ref_logps, mask, total):
    """KL(π ‖ π_ref) by Schulman's k3, e^d − d − 1 ≥ 0 with d = log π_ref − log π, summed, over `total`."""
    d = torch.where(mask, ref_logps - logps, 0.0)
    k3 = d.exp() - d - 1
    return k3.sum() / total


# ------------------------------------------------------------------------------------------------- one update


class Batch(NamedTuple):
    """What an update learns from: the B solutions of a step, or a micro-batch of them."""

    prompts: list  # of token ids
    responses: list  # of token ids
    mask: torch.Tensor  # (B, T) True on response tokens
    sampler_logps: torch.Tensor  # (B, T) only watched: `update` takes its own old log-probs
    rewards: torch.Tensor  # (B,)
    advantages: torch.Tensor  # (B,)
    weights: torch.Tensor  # (B,) in the self-reward loss, 0 where cut
    c_ref: torch.Tensor  # (B,) the constant, or the reference's own log-probs
    ref_logps: torch.Tensor | None = None  # (B, T) of the reference, for the KL penalty

    def take(self, rows):
        """The micro-batch of the solutions `rows` (indices); its T is the longest of them."""
        T = max(len(self.responses[i]) for i in rows)

        def part(column):
            if column is None:
                return None
            if isinstance(column, list):
                return [column[i] for i in rows]
            return column[rows] if column.dim() == 1 else column[rows, :T]
        return Batch(*map(part, self))


def update(policy, optimizer, batch, alpha, config):
    """K optimizer updates (config.updates) on the solutions of a step: a dict of figures, means over the K.

    The joint loss is L = L_policy + α L_self (+ kl · KL), summed over micro-batches of similar lengths.
    All its parts are sums over the step divided by totals of the step, so how it is split changes nothing,
    and gradients of several processes are added. If loss or gradient is not finite, this update is not made
    and the run ends with an error."""
    policy.model.train()  # only for gradient checkpointing: `load_model` has set all dropout to 0
    n_tokens = sum(map(len, batch.responses))
    n_complete = int((batch.weights > 0).sum().clamp(min=1))
    clip = config.clip_low, config.clip_high
    regression = config.self_loss == "mse"
    self_loss = self_reward_loss if regression else self_reward_cross_entropy

    micro = micro_batches(batch.prompts, batch.responses, policy.model.device, config)
    parts = [batch.take(rows) for rows in rank_share(micro)]
    old = []  # what the first update found each part's log-probs to be
    updates = []
    for k in range(config.updates):
        sums = torch.zeros(5, device=batch.rewards.device)
        for i, part in enumerate(parts):
            x, y = part.prompts, part.responses
            logps, logp_zc = token_logps(policy.model, x, y, policy.zc, config.temperature)
            # In the first update the solutions come from exactly these weights: the old log-probs are this
            # very forward pass, detached. The ratio is exactly 1, so nothing is clipped, and the gradient of
            # ratio · A is A ∇ log π, the policy gradient. The sampler's log-probs differ by rounding, which
            # `logp_mismatch` watches.
            if k == 0:
                old.append(logps.detach())
            graded = self_reward(logp_zc, part.c_ref, config.beta) if regression else logp_zc
            L_policy = policy_loss(logps, old[i], part.advantages, part.mask, *clip, n_tokens)
            L_self = self_loss(graded, part.rewards, part.weights, n_complete)
            L_kl = L_policy.new_zeros(())
            if config.kl:
                L_kl = kl_penalty(logps, part.ref_logps, part.mask, n_tokens)
            loss = L_policy + alpha * L_self + config.kl * L_kl
            loss.backward()

            clipped = outside_clip(logps, old[i], part.mask, *clip)
            mismatch = torch.where(part.mask, old[i] - part.sampler_logps, 0.0)
            seen = {
                "policy_loss": L_policy,
                "self_reward_loss": L_self,
                "kl": L_kl,
                "clip_fraction": clipped.sum() / n_tokens,
                "logp_mismatch": mismatch.abs().sum() / n_tokens,
            }
            sums += torch.stack([*seen.values()]).detach()

        grad_norm = clip_gradient(policy.model, optimizer, config.grad_clip)  # the whole step's
        sums = all_reduce(sums)
        if not (torch.isfinite(grad_norm) and torch.isfinite(sums).all()):
            optimizer.zero_grad()
            fail("The loss or its gradient is not finite; the last checkpoint is kept: lower --lr or --kl.")
        optimizer.step()
        optimizer.zero_grad()
        updates.append([*sums.tolist(), grad_norm.item()])
    means = [sum(column) / config.updates for column in zip(*updates)]
    return dict(zip([*seen, "grad_norm"], means))


# ----------------------------------------------------------------------------------- self-verification, votes


def verification_metrics(self_rewards, rewards):
    """How well unclipped self-rewards tell right from wrong (rewards 0/1), both (N,) of complete ones, CPU.

    Above 0.5 says «right». tpr, tnr: share of the right (wrong) solutions that are called so. f1: harmonic
    mean of the two, the paper's self-verification F1 (not of precision and recall). auroc: chance that a
    right solution has a higher one than a wrong one, ties count half. ece: `calibration_error`. brier: mean
    of (clip(r_s, 0, 1) − r_v)². nan where a class is empty."""
    is_right = rewards > 0.5
    right = self_rewards[is_right].double()
    wrong = self_rewards[~is_right].double().sort().values
    tpr = (right > 0.5).double().mean()
    tnr = (wrong <= 0.5).double().mean()
    f1 = 2 * tpr * tnr / (tpr + tnr)
    f1 = torch.where(tpr + tnr == 0, 0.0, f1)

    below = torch.searchsorted(wrong, right).double()  # how many wrong ones lie below each right one
    up_to = torch.searchsorted(wrong, right, right=True).double()
    pairs_won = (below + up_to) / 2
    auroc = pairs_won.mean() / torch.tensor(len(wrong))  # a tensor, so that 0/0 is nan
    ece = calibration_error(self_rewards, rewards)
    brier = (self_rewards.double().clamp(0, 1) - rewards.double()).square().mean()
    return {"f1": f1, "tpr": tpr, "tnr": tnr, "auroc": auroc, "ece": ece, "brier": brier}


def vote(classes, weights, rewards, members):
    """What voting with k of n samples earns on average, (P,): the reward of the answer with most weight.

    classes (P, n): equal numbers < n are equivalent answers, −1 is none and casts no vote; weights (P, n) ≥
    0: 1 for a majority vote, the clipped self-reward for a weighted one; members (S, n): a row a trial, 1 for
    the k samples that vote in it (`subsets`). A tie shares its reward. Of classes 0, 0, 2 with weights 0.1,
    0.2, 0.9, class 2 wins by weight, 0 by majority. With a class for each sample this is best-of-n."""
    n = classes.size(1)
    belongs = F.one_hot(classes + 1, n + 1)[..., 1:].double()  # (P, n, C): is this its answer?
    weighted = belongs * weights[..., None]
    votes = members @ belongs  # (P, S, C): how many in each trial
    total = members @ weighted
    total = torch.where(votes > 0, total, -torch.inf)
    best = total.amax(-1, keepdim=True)
    wins = ((votes > 0) & (total >= best - 1e-9)).double()  # several in a tie, none without an answer
    rewarded = belongs * rewards[..., None]
    of_answer = rewarded.sum(1) / belongs.sum(1).clamp(min=1)  # (P, C)
    credit = wins * of_answer[:, None]
    share = credit.sum(-1) / wins.sum(-1).clamp(min=1)  # (P, S)
    return share.mean(1)


# ================================================================================= Part II: what it learns on
# --------------------------------------------------------------------------------------- problems and prompts

# name: (how many numbers, the largest). Checking a pair is one addition, finding it a search: a grade helps.
PAIRS = {"pairs": ((4, 5), 9), "pairs-heldout": ((4, 5), 9), "pairs-hard": ((6, 6), 9)}


def pair_problems(name, count, right=0.3):
    """Built-in problems «which two of these numbers add up to T?»: distinct numbers, exactly one such pair.

    Each row has problem, answer and a `solution` by a careless writer, who picks the right pair only with
    probability `right` and otherwise any other, but always adds up correctly. Deterministic; no problem (as a
    set of numbers and a T) of one name occurs under another: they are dealt out by a hash."""
    (low, high), largest = PAIRS[name]
    rng, rows = random.Random(seed_of("pairs", name)), []
    while len(rows) < count:
        size = rng.randint(low, high)
        a, b, *others = rng.sample(range(1, largest + 1), largest)
        total, numbers = a + b, [a, b]
        for x in others:
            if len(numbers) < size and total - x not in numbers:
                numbers.append(x)
        held_out = seed_of(sorted(numbers), total) % 8 == 0
        if len(numbers) < size or held_out == (name == "pairs"):
            continue
        rng.shuffle(numbers)
        wrong = [pair for pair in itertools.combinations(numbers, 2) if sum(pair) != total]
        written = (a, b) if rng.random() < right else rng.choice(wrong)
        c, d = rng.sample(written, 2)
        rows.append({"problem": f"{' '.join(map(str, numbers))}:{total}=", "answer": f"{a},{b}",
                     "solution": f"{c}+{d}={c + d}\\boxed{{{c},{d}}}"})
    return rows


def problems_of_step(problems, step, config):
    """The P problems of a step: a shuffle each epoch, read in order. A function of the step: no state."""
    @functools.cache
    def order(epoch):
        generator = torch.Generator().manual_seed(seed_of("order", config.seed, epoch))
        return torch.randperm(len(problems), generator=generator)

    first, n = step * config.prompts_per_step, len(problems)
    return [problems[order(i // n)[i % n]] for i in range(first, first + config.prompts_per_step)]


KINDS = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."
PROBLEMS = ("problem", "question", "prompt", "messages")  # columns by name, in this order; capitals are alike
ANSWERS = ("answer", "final_answer", "ground_truth", "expected_answer", "reward_model.ground_truth",
           "solution")


def load_problems(name, train, config, worked=False):
    """Rows {problem, answer[, messages]}, of a built-in set, a local file or a hub data set.

    `worked`: {problem, solution[, messages]}, to be imitated. Rows without a problem, or with a gold that
    cannot be checked, teach nothing: they are dropped and counted."""
    if name in PAIRS:
        return pair_problems(name, 20000, config.warm_start_right) if train else pair_problems(name, 200)
    what, needed = ("solution", "solution to imitate") if worked else ("answer", "checkable answer")
    given = None if worked and config.warm_start_data else config.problem_column
    with explained(f"Cannot read {name} (ERROR); check the name, the file and the network."):
        table, origin = read_table(name, train)
        problems = column_of(table, name, "problem", given, PROBLEMS, train)
        if worked:
            cells = column_of(table, name, "solution", config.solution_column, ["solution"], train)
        else:
            cells = map(gold_answer, column_of(table, name, "answer", config.answer_column, ANSWERS, train))
        rows = [question(problem) | {what: cell} for problem, cell in zip(problems, cells)]
    useful = is_text if worked else lambda gold: config.reward or checkable(gold)
    kept = [row for row in rows if is_text(row["problem"]) and useful(row[what])]
    dropped = f"; {len(rows) - len(kept):,} of {len(rows):,} rows dropped: no problem or no {needed}"
    say(f"{name}: {len(kept)} problems, {origin}{dropped if len(kept) < len(rows) else ''}")
    if not kept:
        fail(f"{name} has no problem in text with a {needed}; give other data, or name its columns.")
    guessed = sum(row[what].strip().lower() in ("yes", "no", "true", "false") for row in kept)
    if guessed > 0.1 * len(kept):
        say(f"warning: {guessed:,} of {len(kept):,} answers of {name} are yes, no, true or false: "
            "guessing earns half", sys.stderr)
    return kept


def question(cell):
    """{problem[, messages]} of a cell: a text, or messages, which go to the chat template as they are. Their
    problem is "" unless they end with the user's turn, to be answered."""
    if not isinstance(cell, list):
        return {"problem": cell}
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role") for m in cell):
        return {"problem": ""}
    messages = [{"role": message["role"], "content": message["content"]} for message in cell]
    while messages and messages[-1]["role"] == "assistant":  # a worked solution: not for the prompt
        messages.pop()
    asked = messages and messages[-1]["role"] == "user"
    return {"problem": messages[-1]["content"] if asked else "", "messages": messages}


def is_text(x):
    """Whether x is text, not blank, that can be written as UTF-8."""
    return isinstance(x, str) and bool(x.strip()) and x == x.encode("utf-8", "ignore").decode()


def column_of(table, name, what, given, known, train):
    """The cells of the given column, or the first of a known name. Dots lead into cells that are dicts.

    Held-out sets need not have the given column, as they may come from elsewhere than the training's."""
    alike = {column.lower(): column for column in table}
    names = [given] * bool(given) + [*known] * (not given or not train)
    for path in names:
        first, *keys = [path] if path in table else path.split(".")
        cells = table.get(first, table.get(alike.get(first.lower()), []))
        for key in keys:
            cells = [cell.get(key) if isinstance(cell, dict) else None for cell in cells]
        example = next((cell for cell in cells if cell is not None), None)
        if isinstance(example, dict):
            inside = ", ".join(f"{path}.{key}" for key in example)
            fail(f"Column {path} of {name} holds dicts; name one of {inside} with --{what}_column.")
        if example is not None:
            if given and path != given:
                say(f"{name} has no {what} in a column {given}: {path} is taken")
            return cells
    rows = max(map(len, table.values()), default=0)
    fail(f"{name} has no {what} column {given or 'of a known name'} with a value ({rows} rows); name one of "
         f"{list(table)} with --{what}_column.")


def read_table(name, train):
    """({column: cells}, their origin) of a local file, numbers as written (0.50, 007, NA), or of the hub."""
    path, plain = Path(name), name.lower().removesuffix(".gz")
    kind = Path(plain).suffix
    if kind in KINDS and not path.is_file():
        fail(f"There is no file {name}; give a {', '.join(KINDS)} file, plain or .gz, or a hub id.")
    if path.is_file() and kind not in KINDS:
        fail(f"{name} is no {', '.join(KINDS)} file, plain or .gz; convert it.")
    if kind == ".parquet":
        return pyarrow.parquet.read_table(path).to_pydict(), "all rows"
    if kind in (".csv", ".tsv"):
        as_written = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", "index_col": False}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header
            table = pandas.read_csv(path, sep="\t" if kind == ".tsv" else ",", **as_written)
        return table.to_dict("list"), "all rows"
    if kind in KINDS:
        with (open if plain == name.lower() else gzip.open)(path, "rt", encoding="utf-8-sig") as file:
            rows = read_objects(file.read())
        names = dict.fromkeys(itertools.chain(*rows))
        return {key: [row.get(key) for row in rows] for key in names}, "all rows"
    source, config, split, *_ = [name, "", ""] if path.exists() else [*name.split(":"), "", ""]
    splits = datasets.load_dataset(source, config or ("main" if source == "openai/gsm8k" else None))
    wanted = [split] if split else [*(["train"] if train else ["test", "validation", "train"]), *splits]
    split = next((name for name in wanted if name in splits), None)
    if split is None:
        fail(f"{name} has no such split; its splits are {', '.join(splits)}.")
    return ({column: splits[split][column] for column in splits[split].column_names},
            f"split {split} of {', '.join(splits)}")


def read_objects(text):
    """The objects of a JSON list, of one object with a list inside, or of lines; numbers as written."""
    exactly = {"parse_int": str, "parse_float": str, "parse_constant": str}
    try:
        value = json.loads(text, **exactly)
    except json.JSONDecodeError:
        return [json.loads(line, **exactly) for line in text.split("\n") if line.strip()]
    if isinstance(value, dict):
        inside, *others = value.values()
        nested = not others and isinstance(inside, list) and inside and isinstance(inside[0], dict)
        return inside if nested else [value]
    return value


def gold_answer(value):
    """The answer in a cell, as text: a list's items, a solution's box, what follows `####` (GSM8K), or ""."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(gold_answer, value))
    text = str(value).strip()
    after = text.rsplit("####", 1)[-1].strip()  # all of it where there is none
    return extract_answer(text) or after


def reward_function(config, strict=False):
    """What judges (response, gold): the verifier, or the user's function, which must return 0 … 1."""
    if not config.reward:
        return lambda response, gold: reward(response, gold, strict=strict)
    with explained(f"--reward {config.reward} cannot be imported (ERROR); give module:function."):
        module, _, function = config.reward.partition(":")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        judge = getattr(importlib.import_module(module), function).__call__  # which only functions have

    def checked(response, gold):
        with explained(f"--reward {config.reward} failed (ERROR); mend it."):
            value = float(judge(response, gold))
        if not 0 <= value <= 1:
            fail(f"--reward {config.reward} returned {value}; it must return a number from 0 to 1.")
        return value
    return checked


def encode_prompts(policy, rows, config):
    """Token ids of each row's problem as the model is asked it: suffix, chat template and all."""
    tokenizer, suffix = policy.tokenizer, config.prompt_suffix
    texts, chats = [], []
    for row in rows:
        line = suffix if suffix is not None else "" if "messages" in row else SUFFIX
        texts.append(f"{row['problem']}\n{line}" if line else row["problem"])
        chats.append([*row.get("messages", [{}])[:-1], {"role": "user", "content": texts[-1]}])
    if tokenizer.chat_template:
        texts = render(tokenizer, chats, config, add_generation_prompt=True)
    elif any("messages" in row for row in rows):
        fail("The data are messages, and the model has no chat template; give problems as text.")
    elif json.loads(config.template_kwargs):
        fail("--template_kwargs are for a chat template, and the model has none; drop them.")
    prompts = tokenizer(texts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    for ids in prompts:  # some tokenizers append EOS to whatever they encode
        while ids and ids[-1] in policy.eos_ids and not tokenizer.chat_template:
            ids.pop()
    return prompts


def render(tokenizer, chats, config, **options):
    """The chats as text, through the tokenizer's template; where that writes a date, it is the run's."""
    day = datetime.date.fromisoformat(config.date) if config.date else datetime.date.today()
    options = {"date_string": day.strftime("%d %b %Y"), **json.loads(config.template_kwargs), **options}
    with explained("The chat template of the model does not work (ERROR); mend it or --template_kwargs."):
        template = re.sub(r"strftime_now\((['\"])(.*?)\1\)", lambda call: repr(day.strftime(call[2])),
                          tokenizer.get_chat_template())
        return tokenizer.apply_chat_template(chats, chat_template=template, tokenize=False, **options)


def add_prompts(rows, policy, config, name):
    """The rows with their `prompt` token ids; empty and over-long prompts are dropped and counted."""
    prompts, most = encode_prompts(policy, rows, config), config.max_prompt_tokens
    kept = [{**row, "prompt": ids} for row, ids in zip(rows, prompts) if 0 < len(ids) <= most]
    if len(kept) < len(rows):
        dropped = len(rows) - len(kept)
        say(f"{name}: {dropped} of {len(rows)} problems dropped, prompt empty or longer than {most} tokens")
    if not kept:
        fail(f"Every prompt of {name} is empty in this tokenizer or longer than {most} tokens; raise "
             "--max_prompt_tokens or choose other problems.")
    check_reach(policy, name, max(len(row["prompt"]) for row in kept) + config.max_response_tokens)
    return kept


def check_reach(policy, name, longest):
    """Refuse prompts with solutions longer than the model's positions; one more: c_ref and the warm start put
    a token after the last."""
    there, why = reach(policy.model.config)
    if longest + 1 > there:
        fail(f"A prompt of {name} with its solution may take {longest + 1} positions; {why} {there}: lower "
             "--max_response_tokens or --max_prompt_tokens, or drop long rows.")


# ------------------------------------------------------------------------------------------------- warm start


def character_tokenizer():
    """A tokenizer of printable ASCII, one token a character, for models that come without one.

    A byte-level BPE without merges: `AutoTokenizer` restores it from a checkpoint of any architecture."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    symbols = [*special.values(), "Ċ", "Ġ", *map(chr, range(33, 127))]  # Ċ, Ġ: newline and space here
    core = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, [], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def warm_start(policy, problems, config):
    """Imitate worked solutions: cross-entropy per token, with a learning rate that falls linearly to 0.

    Random weights earn no reward, so a policy gradient has nothing to learn from. This makes a «base model»
    that knows the format and is often wrong, as real ones are; the rest is for LaSeR to teach."""
    model, tokenizer, eos = policy.model.train(), policy.tokenizer, policy.eos_ids[0]
    rng, rate = random.Random(seed_of("warm start", config.seed)), config.warm_start_lr
    optimizer = make_optimizer(model, rate, config.weight_decay)
    worked = tokenizer([row["solution"] for row in problems], add_special_tokens=False)["input_ids"]
    kept = [i for i, ids in enumerate(worked) if len(ids) < config.max_response_tokens]
    if len(kept) < len(worked):
        say(f"{len(worked) - len(kept):,} of {len(worked):,} worked solutions dropped, longer than "
            f"--max_response_tokens {config.max_response_tokens}")
    if not kept:
        fail("Every worked solution is longer than --max_response_tokens; raise it.")
    size = min(len(kept), config.warm_start_batch)
    if size < WORLD:  # all must take part in each pass
        fail(f"{WORLD} processes need as many worked solutions a step; raise --warm_start_batch or add some.")
    if size < config.warm_start_batch:
        say(f"the warm start has {len(kept)} solutions, fewer than --warm_start_batch: each step takes all")
    for step in progress(range(config.warm_start_steps), desc="warm start", leave=False):
        rows = rng.sample(kept, size)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / config.warm_start_steps)
        prompts, documents = [problems[i]["prompt"] for i in rows], [worked[i] + [eos] for i in rows]
        if not tokenizer.chat_template:
            # As in pretraining, EOS is followed by another document, here by its first token: so the model
            # learns what comes after EOS, which is where z_c is read.
            for document, i in zip(documents, rows):
                document += problems[i - 1]["prompt"][:1]
        total = sum(map(len, documents))
        for part in rank_share(micro_batches(prompts, documents, model.device, config)):
            x, y = zip(*((prompts[i], documents[i]) for i in sorted(part)))
            logps, _ = token_logps(model, x, y, eos)  # any token: log π(z_c) is not used
            (-logps.sum() / total).backward()
        clip_gradient(model, optimizer, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for hook in getattr(optimizer, "hooks", ()):
        hook.remove()  # training's optimizer has its own


# ==================================================================================== Part III: the machinery
# -------------------------------------------------------------------------- sampling's cache and chunked loss


class RunningCache(Cache):
    """Keys and values of the running rows: row i's token at position p sits in slot p, written in place.

    So rows of different lengths run side by side without left padding; a mask hides what is left over in the
    slots beyond each row's position. `kv` is one [keys, values] a layer, each (R, kv_heads, slots, d)."""

    def __init__(self, slots):
        super().__init__(layers=[])
        self.kv, self.slots, self.used = [], slots, 0

    def get_seq_length(self, layer=0):
        return self.used

    def extend(self, filled, rows):
        """Add rows of a prefilled cache; repeating a row gives a problem's G solutions their prompt."""
        for i, layer in enumerate(filled.layers):
            new = [F.pad(x[rows], (0, 0, 0, self.slots - x.size(2))) for x in (layer.keys, layer.values)]
            if i == len(self.kv):
                self.kv.append(new)
            else:  # a layer at a time: two whole caches would not fit
                self.kv[i] = [torch.cat(pair) for pair in zip(self.kv[i], new)]
        self.used = max(self.used, filled.get_seq_length())

    def keep(self, rows):
        for pair in self.kv:
            for i in (0, 1):
                pair[i] = pair[i][rows]

    def prepare(self, position, look):
        """Before a step: the rows' positions. On a `look` the last slot in use is found; else one more."""
        self.used = int(position.max()) + 1 if look else min(self.used + 1, self.slots)
        self.position, self.rows = position, torch.arange(len(position), device=position.device)

    def update(self, keys, values, layer, *_, **__):
        for store, new in zip(self.kv[layer], (keys, values)):
            store[self.rows, :, self.position] = new[:, :, 0]
        return [store[:, :, : self.used] for store in self.kv[layer]]

    def mask(self):
        """(R, 1, 1, used): 0 up to the row's own position, −inf beyond, to be added to attention scores."""
        beyond = torch.arange(self.used, device=self.position.device) > self.position[:, None]
        zeros = torch.zeros(beyond.shape, dtype=self.kv[0][0].dtype, device=beyond.device)
        return zeros.masked_fill_(beyond, -torch.inf)[:, None, None]


def attention(module, query, key, value, attention_mask, scaling=None, **options):
    """transformers' own attention, but plain matrix products for one new token or, on a CPU, short rows.

    query (b, heads, t, d); key, value (b, kv_heads, S, d). Query heads that share a key head simply become
    more queries of it, so keys are never copied per head: the tiny model's step takes 3/4 of the time."""
    b, heads, t, d = query.shape
    additive = attention_mask is None or attention_mask.is_floating_point()
    if t > (1 if query.is_cuda else 128) or not additive:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    scores = query.reshape(b, key.size(1), -1, d) @ key.transpose(2, 3)
    scores = scores.mul_(scaling or d**-0.5).view(b, heads, t, -1)
    if attention_mask is not None:
        scores += attention_mask
    elif t > 1:
        scores.masked_fill_(torch.ones(t, t, dtype=torch.bool, device=scores.device).triu_(1), -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    output = weights.view(b, key.size(1), -1, key.size(2)) @ value
    return output.view(b, heads, t, value.size(3)).transpose(1, 2), None


AttentionInterface.register("laser", attention)
AttentionMaskInterface.register("laser", sdpa_mask)

LOGITS_AT_A_TIME = 2**26  # numbers: 256 MiB in float32, about 440 tokens of a vocabulary of 152,000


def chosen_logps(head, hidden, targets, temperature):
    """log softmax(head(hidden) / temperature)[targets], (N,) float32; hidden (N, D), the others (N,).

    The logits exist for a chunk at a time, and the backward pass computes them again: never N × V numbers."""
    def chunk(h, t, temp):
        logits = head(h).float() / temp[:, None]
        return logits.gather(1, t[:, None]).squeeze(1) - logits.logsumexp(-1)

    size = max(1, LOGITS_AT_A_TIME // head.weight.size(0))
    chunks = zip(hidden.split(size), targets.split(size), temperature.split(size))
    if not torch.is_grad_enabled() or len(hidden) <= size:  # one chunk may as well be kept
        return torch.cat([chunk(*part) for part in chunks])
    return torch.cat([recompute_in_backward(chunk, *part, use_reentrant=False) for part in chunks])


def outside_clip(logps, old_logps, mask, clip_low, clip_high):
    """(B, T) True on response tokens whose ratio has left the clip's range, on either side."""
    ratio = importance_ratio(logps.detach(), old_logps, mask)
    return ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)) & mask


def micro_batches(prompts, responses, device, config):
    """Cut solutions into lists of indices, longest first, of so many padded tokens at most (or one row).

    A GPU wants large matrices; 2,048 tokens fill the cores of a CPU, and take far less of its memory."""
    budget = config.micro_batch_tokens or (2048 if device.type in SHARED_MEMORY else 16384)
    lengths = [len(p) + len(r) + 1 for p, r in zip(prompts, responses)]
    order, batches = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), []
    while order:
        size = max(1, budget // lengths[order[0]])
        batches.append(order[:size])
        order = order[size:]
    return batches


def right_padded(lists, device="cpu"):
    """Lists of token ids as one tensor (rows, longest), filled up with 0."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in lists], batch_first=True).to(device)


def repeated(rows, times):
    return [row for row in rows for _ in range(times)]


def stopwatch():
    """A function that returns the seconds since it was last called."""
    marks = [time.perf_counter()]
    return lambda: marks.append(time.perf_counter()) or marks[-1] - marks[-2]


def uniforms(rows, columns, *stream):
    """(rows, columns) uniform numbers in (0, 1], drawn on the CPU: the same on every device."""
    return 1 - torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed_of(*stream)))


def seed_of(*parts):
    """A 63-bit seed from any values: every draw has its own stream, named by what it is for and its step, so
    a resumed run needs no generator state, and adding a stream never shifts another."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


# ------------------------------------------------------------------------------------------------- evaluation


def pass_at_k(rewards, k):
    """1 − C(n−c, k)/C(n, k) for rewards (P, n) with c right ones a problem: (P,), unbiased."""
    n, right = rewards.size(1), (rewards > 0.5).sum(1).tolist()
    return torch.tensor([1 - math.comb(n - c, k) / math.comb(n, k) for c in right], dtype=torch.float64)


def subsets(n, k, most=256):
    """0/1 membership (S, n) of the k-subsets of n samples: all, or `most` seeded random ones."""
    if math.comb(n, k) <= most:
        chosen = list(itertools.combinations(range(n), k))
    else:
        rng = random.Random(seed_of("subsets", n, k))
        chosen = [rng.sample(range(n), k) for _ in range(most)]
    return torch.zeros(len(chosen), n, dtype=torch.float64).scatter_(1, torch.tensor(chosen), 1.0)


def voting_metrics(classes, clipped, rewards):
    """mean@1 and pass@k, maj@k, weighted@k, best@k for k = 1, 2, 4 … n: a dict of (P,). All inputs (P, n)."""
    n = rewards.size(1)
    values, own = {"mean@1": rewards.mean(1)}, torch.arange(n).expand_as(classes)
    for k in [2**i for i in range(n.bit_length()) if 2**i < n] + [n]:
        members = subsets(n, k)
        values[f"pass@{k}"] = pass_at_k(rewards, k)
        values[f"maj@{k}"] = vote(classes, torch.ones_like(clipped), rewards, members)
        values[f"weighted@{k}"] = vote(classes, clipped, rewards, members)
        values[f"best@{k}"] = vote(own, clipped, rewards, members)
    return values


def tenths(self_rewards):
    """Self-rewards (N,) clipped to [0, 1], and which tenth of it each lies in, 0 to 9."""
    clipped = self_rewards.double().clamp(0, 1)
    return clipped, (clipped * 10).long().clamp(max=9)


def reliability(self_rewards, rewards):
    """Ten rows [count, mean self-reward, accuracy], one a tenth of [0, 1], of (N,); None if empty."""
    clipped, tenth = tenths(self_rewards)
    bins = [tenth == i for i in range(10)]
    return [[int(i.sum()), number(clipped[i].mean()), number(rewards[i].double().mean())] for i in bins]


def calibration_error(self_rewards, rewards):
    """ECE: the mean of |clipped self-reward − accuracy| by tenths of [0, 1], of (N,); nan if N = 0."""
    clipped, tenth = tenths(self_rewards)
    gaps = torch.zeros(10, dtype=torch.float64)
    gaps.index_add_(0, tenth, clipped - rewards.double())
    return gaps.abs().sum() / torch.tensor(len(clipped))


def log_partition_now(logp_zc, beta):
    """log Z as the trained policy implies it, as π(z_c) = π_ref(z_c) e^(1/β) / Z: 1/Z = 1 − π(z_c) (1 −
    e^(−1/β)).

    logp_zc: (N,) of right, complete solutions. Mean over them, nats; nan if there are none."""
    return -torch.log1p(logp_zc.cpu().double().exp() * math.expm1(-1 / beta)).mean()


def number(value):
    """A float for JSON, which has no nan: null says «undefined»."""
    return float(value) if math.isfinite(value) else None


def solve(policy, problems, config, name="", reference=None):
    """Sample config.eval_n solutions a problem, read self-rewards, verify: rows of samples.jsonl, in order.

    Every evaluation of a run draws from the same uniform numbers, problem by problem: before and after differ
    by the model alone, and a problem's solutions do not depend on which others are asked."""
    n, T, lap = config.eval_n, config.max_response_tokens, stopwatch()
    prompts = [row["prompt"] for row in problems]
    u = torch.cat([uniforms(n, T, "eval", config.seed, name, row["problem"]) for row in problems])
    solutions = sample_together(policy, prompts, n, u, config)
    responses, c_ref, seconds = solutions.responses(), policy.c_ref, lap() / len(u)
    if config.exact_reference:
        _, c_ref = score(reference, repeated(prompts, n), responses, policy.zc, config)
    self_rewards = self_reward_of(solutions.logp_zc, c_ref, config).tolist()
    texts, judge = policy.tokenizer.batch_decode(responses, skip_special_tokens=True), reward_function(config)
    columns = zip(repeated(problems, n), texts, responses, solutions.complete.tolist(),
                  solutions.logp_zc.tolist(), self_rewards)
    return [{"data": name, **{key: row[key] for key in ("problem", "messages") if key in row},
             "gold": row["answer"], "response": text,
             "answer": extract_answer(text) if complete else None,  # what is cut has not given its answer yet
             "reward": judge(text, row["answer"]) if complete else 0.0, "self_reward": number(self_reward),
             "logp_zc": number(logp_zc), "complete": complete, "tokens": len(ids), "last_token": ids[-1],
             "seconds": seconds} for row, text, ids, complete, logp_zc, self_reward in columns]


def summarise(samples, n, beta, resamples=500):
    """The figures of samples (n a problem, side by side), headlines `x` with `x_ci`, a 95% interval: a dict.

    The bootstrap resamples problems, as solutions of one problem are not independent. None is undefined."""
    def column(key):
        return torch.tensor([row[key] or 0.0 for row in samples], dtype=torch.float64).view(-1, n)  # (P, n)

    rewards, self_rewards, complete = column("reward"), column("self_reward"), column("complete").bool()
    P, answers = len(rewards), [row["answer"] for row in samples]
    classes = [group(answers[i : i + n]) for i in range(0, P * n, n)]
    classes = torch.tensor([[-1 if c is None else c for c in row] for row in classes])
    clipped = torch.where(complete & (classes >= 0), self_rewards.clamp(0, 1), 0.0)
    votes = voting_metrics(classes, clipped, rewards)

    def headlines(picked):
        """Of the problems `picked` (P,), which may repeat."""
        graded = self_rewards[picked][complete[picked]], rewards[picked][complete[picked]]
        means = {name: values[picked].mean() for name, values in votes.items()}
        return {**means, **verification_metrics(*graded)}

    picks = torch.randint(P, (resamples, P), generator=torch.Generator().manual_seed(seed_of("bootstrap", P)))
    resampled, row = [headlines(picked) for picked in picks], {}
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    for name, value in headlines(torch.arange(P)).items():
        ci = torch.stack([figures[name] for figures in resampled]).nanquantile(ends)  # nan if all are
        row[name], row[f"{name}_ci"] = number(value), None if ci.isnan().any() else ci.tolist()
    tokens, right = column("tokens"), complete & (rewards > 0.5)
    ranks = [pandas.Series(x[complete].numpy()).rank() for x in (self_rewards, tokens)]
    return {**row, "log_z": number(log_partition_now(column("logp_zc")[right], beta)),
            "complete": complete.double().mean().item(), "response_tokens": tokens.mean().item(),
            "length_correlation": number(ranks[0].corr(ranks[1])),  # Spearman's
            "reliability": reliability(self_rewards[complete], rewards[complete]),
            "self_reward_tokens": int(complete.sum()),  # what self-rewarding has cost: one a solution
            "seconds": column("seconds").sum().item()}


def step_figures(step, batch, solutions, self_rewards, losses, seconds, config):
    """A line of metrics.jsonl: what a training step did, and how long it took.

    entropy: of the policy per token, at its temperature, by the log-probs of what it drew. equal_groups: the
    share of groups whose rewards are all equal."""
    rewards, self_rewards, complete = batch.rewards.cpu(), self_rewards.cpu(), solutions.complete.cpu()
    logp_zc, right, wrong = solutions.logp_zc.cpu(), complete & (rewards > 0.5), complete & (rewards <= 0.5)
    metrics = verification_metrics(self_rewards[complete], rewards[complete])
    tokens, of_prompts = sum(map(len, batch.responses)), sum(map(len, batch.prompts))
    stds = rewards.view(-1, config.group_size).std(1)
    device, on_gpu = batch.rewards.device, batch.rewards.device.type not in SHARED_MEMORY
    return {"step": step, "reward": rewards.mean().item(),
            "reward_std": stds.mean().item(), "equal_groups": (stds == 0).double().mean().item(),
            "entropy": -solutions.logps.sum().item() / tokens, **losses, "lr": config.lr,
            "response_tokens": tokens / len(rewards), "complete": complete.double().mean().item(),
            **{name: number(value) for name, value in metrics.items()},
            "logp_zc_right": number(logp_zc[right].mean()), "logp_zc_wrong": number(logp_zc[wrong].mean()),
            "log_z": number(log_partition_now(logp_zc[right], config.beta)),
            "seconds": sum(seconds.values()), **seconds,
            "sample_tokens_per_s": tokens / seconds["sample_seconds"],
            "train_tokens_per_s": (tokens + of_prompts) / seconds["train_seconds"],
            **({"peak_memory_gib": torch.accelerator.max_memory_allocated(device) / 2**30} if on_gpu else {})}


def show(run, bar, figures, rollouts, config):
    """The step's figures beside the bar, a solution eight times a run, all of a step in rollouts.jsonl."""
    step = figures["step"]
    bar.set_postfix(reward=shown(figures["reward"]), f1=shown(figures["f1"]), refresh=False)
    if (step - 1) % max(1, config.steps // 8) == 0:
        row, text, r_v, r_s = rollouts[0]
        say(f"step {step}: {row['problem'][-200:]!r} → {text[-200:]!r}: reward {r_v:.2g}, "
            f"self-reward {shown(r_s)}")
    run.complete = figures["complete"] if run.complete is None else run.complete  # at the start
    noise = 3 * math.sqrt(0.5 / (config.prompts_per_step * config.group_size))  # of a difference of shares
    if figures["complete"] < run.complete - max(0.2, noise):
        say(f"warning: at step {step} {figures['complete']:.2f} of the solutions end by themselves, "
            f"{run.complete:.2f} at the start; hold the policy with a larger --kl (now {config.kl:g}; try "
            "0.1) or a lower --alpha or --lr", sys.stderr)
        run.complete = 0.0  # once is enough
    if config.rollouts_every and step % config.rollouts_every == 0:
        append_log(run.out / "rollouts.jsonl", *(
            {"step": step, "problem": row["problem"], "gold": row["answer"], "response": text, "reward": r_v,
             "self_reward": number(r_s)} for row, text, r_v, r_s in rollouts))


def shown(value, digits=2):
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def print_table(rows):
    """Evaluation rows, first and last of each data set, with half-widths of their 95% intervals."""
    n, table = rows[-1]["n"], []
    names = ["mean@1", f"pass@{n}", f"maj@{n}", f"weighted@{n}", f"best@{n}", "f1", "auroc", "ece"]
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        for row in of_data[:1] + of_data[1:][-1:]:
            table.append({"data": data[-24:], "step": row["step"]})
            for name in names:
                ends = row.get(f"{name}_ci")
                width = f" ±{(ends[1] - ends[0]) / 2:.3f}" if ends else ""
                table[-1][name] = shown(row.get(name), 3) + width
    say("\n" + pandas.DataFrame(table).to_string(index=False))


# ---------------------------------------------------------------------------------------------- model and z_c


def architecture(name):
    """The transformers configuration of a --model, of its text part if it has others, without any dropout."""
    if name.endswith(".json"):
        settings, tokenizer = json.loads(Path(name).read_text("utf-8")), character_tokenizer()
        settings.pop("laser", None)
        c = AutoConfig.for_model(**settings)
        c.pad_token_id, c.eos_token_id, c.bos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id, None
    else:
        c = AutoConfig.from_pretrained(hub_name(name))
    if c.get_text_config() is not c:
        fail(f"{name} is a model of text and more; give its text-only version, saved on its own.")
    for key, value in vars(c).items():  # a policy that changes at every look has no log-probabilities
        if "drop" in key and isinstance(value, (int, float)):
            setattr(c, key, 0.0)
    return c


def reach(c):
    """(how many positions the sampler follows, what ends there) for a model's configuration."""
    limits = [(getattr(c, "max_position_embeddings", None), "the model's positions end at")]
    rope = getattr(c, "rope_parameters", None) or getattr(c, "rope_scaling", None) or {}
    for scaling in (rope, *(x for x in rope.values() if isinstance(x, dict))):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind in ("longrope", "dynamic"):  # all positions are scaled anew beyond this
            original = scaling.get("original_max_position_embeddings")
            original = original or getattr(c, "original_max_position_embeddings", None) or limits[0][0]
            limits.append((original, f"its {kind} scaling of positions switches at"))
    kinds = set(getattr(c, "layer_types", None) or ["sliding_attention"])
    if "sliding_attention" in kinds:
        limits.append((getattr(c, "sliding_window", None), "its sliding window is"))
    return min(((limit, why) for limit, why in limits if limit), default=(math.inf, ""))


def hub_name(name):
    """The hub id of a bare well-known model name: Qwen2.5-7B → Qwen/Qwen2.5-7B."""
    owners = {"Qwen": "Qwen", "Llama": "meta-llama", "OctoThinker": "OctoThinker",
              "Open-Reasoner-Zero": "Open-Reasoner-Zero"}
    owner = next((o for start, o in owners.items() if name.startswith(start)), None)
    return f"{owner}/{name}" if owner and "/" not in name and not Path(name).exists() else name


def load_model(name, device, dtype, seed):
    """(model, tokenizer): from the hub or a folder, or random weights for the architecture in a .json file.

    With gradient checkpointing on a GPU. A model that this file would sample wrongly is refused: the
    sampler's cache holds every token in the slot of its position, and log-probs are read by `head(hidden)`,
    which is right for plain causal transformers only."""
    with explained(f"Cannot load the model {name} (ERROR); give a hub id, the folder of a whole model or a "
                   ".json architecture, and check the network."):
        options = {"dtype": getattr(torch, dtype), "attn_implementation": "laser"}
        c = architecture(name)
        torch.manual_seed(seed_of("weights", seed))
        try:
            if name.endswith(".json"):
                tokenizer = character_tokenizer()
                with device:
                    model = AutoModelForCausalLM.from_config(c, **options)
            else:
                tokenizer = AutoTokenizer.from_pretrained(hub_name(name))
                model, found = AutoModelForCausalLM.from_pretrained(
                    hub_name(name), config=c, output_loading_info=True, **options)
                missing, model = sorted(found["missing_keys"]), model.to(device)
                if missing:  # which transformers fills with random numbers
                    fail(f"{name} lacks {len(missing)} of its weights, such as {missing[0]}; give all.")
        except KeyError as error:
            if error.args != ("laser",):
                raise
            fail(f"{name} brings an attention of its own, not followed here; choose another model.", error)
    kinds = set(getattr(c, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        fail(f"{name} has layers of kind {', '.join(sorted(kinds))}; only attention is followed.")
    if model.get_input_embeddings().weight.size(0) < len(tokenizer):
        fail(f"{name} has fewer embeddings than its tokenizer tokens ({len(tokenizer)}); give one model's.")
    if getattr(c, "final_logit_softcapping", None):  # small logits would not show it to the probe
        fail(f"{name} caps its logits after the head, which is not followed here; choose another model.")
    with explained(f"{name} does not run here (ERROR); choose another, or mend its configuration."):
        flaw = sampling_flaw(model.eval(), len(tokenizer))
    if flaw:
        fail(f"{name} {flaw}; choose another model.")
    if device.type != "cpu":
        old = model.gradient_checkpointing_enable  # its name before transformers 5.20
        getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})
    return model, tokenizer


@torch.no_grad()
def sampling_flaw(model, vocabulary):
    """What is wrong with sampling from this model, if anything: the sampler's log-probs must be those of the
    model's own eager attention, and of training mode as well."""
    prompts, last_id = [[1], [1, 2, 0]], vocabulary - 1  # which stands for both EOS and z_c
    drawn = sample(model, prompts, 1, uniforms(2, 4, "probe"), [last_id], last_id)
    for prompt, response, sampled in zip(prompts, drawn.responses(), drawn.logps):
        ids, read = torch.tensor([prompt + response], device=model.device), slice(len(prompt) - 1, -1)
        trained = model.train()(ids, use_cache=False).logits[0, read].float()
        model.eval().set_attn_implementation("eager")
        own = model(ids, use_cache=False).logits[0, read].float()
        model.set_attn_implementation("laser")
        most = 1e-3 if model.dtype == torch.float32 else 0.2 + 0.02 * own.abs().max().item()  # 8 bits
        own, trained = (x.log_softmax(-1)[range(len(response)), response] for x in (own, trained))
        if not torch.allclose(own, sampled[: len(response)], atol=most):
            return "computes its logits in a way that this sampler does not follow"
        if not torch.allclose(own, trained, atol=most):
            return "computes other logits in training, by dropout or noise unknown to its configuration"
    return None


def end_tokens(model, tokenizer, config):
    """All ids that end a solution: --end_token; else EOS, where several sources may disagree, and the special
    token with which the chat template ends an assistant's turn (base models often say it)."""
    if config.end_token:
        ids, rows = {token_id(token, tokenizer, "--end_token") for token in config.end_token}, len(tokenizer)
        if not all(0 <= i < rows for i in ids):
            fail(f"--end_token {' '.join(config.end_token)} does not exist; ids are 0 to {rows - 1}.")
    else:
        ids = {turn_end(tokenizer, config)}
        for source in (model.generation_config, model.config, tokenizer):
            value = getattr(source, "eos_token_id", None)
            ids |= set(value) if isinstance(value, (list, tuple)) else {value}
        ids.discard(None)
    if not ids:
        fail("The model names no end-of-sequence token; give --end_token.")
    return sorted(ids, key=lambda i: (i != tokenizer.eos_token_id, i))  # the one to supply comes first


def turn_end(tokenizer, config):
    """The special token right after an assistant's message in the chat template, or None."""
    if not tokenizer.chat_template:
        return None
    chat = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "two2two"}]
    _, found, rest = render(tokenizer, [chat], config)[0].rpartition("two2two")
    if not found:  # a template that changes or drops the text
        return None
    first = next(iter(tokenizer(rest, add_special_tokens=False)["input_ids"]), None)
    special = tokenizer.added_tokens_decoder.get(first)
    return first if special is not None and special.special and rest.startswith(special.content) else None


def token_id(wanted, tokenizer, flag):
    """The id of a token that is given as itself or as its number."""
    known = tokenizer.get_vocab()
    if wanted.removeprefix("-").isdecimal() and wanted.isascii() and len(wanted) < 12:
        return int(wanted)
    ids = [known[wanted]] if wanted in known else tokenizer.encode(wanted, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        fail(f"{flag} {wanted!r} is not one token of this tokenizer; give a special token or an id.")
    return ids[0]


def load_policy(config, source, device, dtype):
    """The Policy of a model at `source`, with the z_c and the c_ref of `config` (None: not known yet)."""
    model, tokenizer = load_model(source, device, dtype, config.seed)
    eos_ids = end_tokens(model, tokenizer, config)
    token = choose_token(config.token, model, tokenizer, eos_ids)
    return Policy(model, tokenizer, eos_ids, token, config.c_ref)


# of Qwen2.5, Llama 3, Qwen, Gemma
UNUSED_TOKENS = ("<|vision_start|>", "<|reserved_special_token_0|>", "<|extra_0|>", "<unused0>")


def choose_token(wanted, model, tokenizer, eos_ids):
    """The id of z_c: the given token, else a known unused one, else a row beyond the vocabulary."""
    rows, known = model.get_input_embeddings().weight.size(0), tokenizer.get_vocab()
    if wanted is not None:
        token = token_id(wanted, tokenizer, "--token")
    else:
        token = next((known[token] for token in UNUSED_TOKENS if token in known), len(tokenizer))
        if token >= rows:  # every row is taken: add one
            token, rows = rows, rows + 1
            add_embeddings(model, rows)
    if not 0 <= token < rows:
        fail(f"--token {token} does not exist: the model has ids 0 to {rows - 1}.")
    if token in eos_ids or token == tokenizer.pad_token_id:
        fail(f"--token {wanted or token} already ends or pads sequences; choose one the model never uses.")
    return token


def add_embeddings(model, rows):
    """Let the model have `rows` embeddings; the new ones are drawn alike in the policy and its reference."""
    torch.manual_seed(seed_of("embeddings"))
    model.resize_token_embeddings(rows)


def measure_c_ref(policy, problems, config):
    """(mean, std) of log π_ref(z_c|x,y) over the starting model's solutions, nats; cut ones are given EOS.

    Refused if the model says z_c in these solutions: it must be a token that means nothing yet."""
    model, zc, eos_ids = policy.model, policy.zc, policy.eos_ids
    prompts = [row["prompt"] for row in problems_of_step(problems, 0, config)][:32]
    u = uniforms(len(prompts) * config.group_size, config.max_response_tokens, "c_ref", config.seed)
    solutions = sample_together(policy, prompts, config.group_size, u, config)
    responses = [r if r[-1] in eos_ids else r + eos_ids[:1] for r in solutions.responses()]
    said, of = sum(r.count(zc) for r in responses), sum(map(len, responses))
    if said > 5 + 3 * of / model.get_input_embeddings().weight.size(0):  # clearly more than uniform noise
        fail(f"The model itself says token {zc} ({said} times in {of}); choose a --token it never uses.")
    _, logp_zc = score(model, repeated(prompts, config.group_size), responses, zc, config)
    return logp_zc.mean().item(), logp_zc.std().item()


def report_c_ref(c_ref, std, config):
    """Print c_ref and log Z, and warn, with a remedy, where the derivation's assumptions do not hold."""
    beta, spread = config.beta, "" if std is None else f" ± {std:.2f}"
    log_z = log_partition(c_ref, beta)
    say(f"c_ref = {c_ref:.2f}{spread} nats, beta = {beta:g}, log Z = {log_z:.2g}")
    if config.self_loss == "mse" and log_z > 0.05:
        enough = math.ceil(-100 / (c_ref + 3)) / 100
        say(f"warning: log Z = {log_z:.2f} is not close to 0, so no policy reaches a self-reward of 1; "
            + (f"raise --beta to {enough:.2f}" if c_ref < -5 else "choose a rarer --token"), sys.stderr)
    if std is not None and beta * std > 0.25 and not config.exact_reference:
        say(f"warning: log π_ref(z_c) spreads by {beta * std:.2f} of a reward: too much for a constant; "
            "choose another --token or use --exact_reference", sys.stderr)


# --------------------------------------------------------------------------------------- optimizer and memory


class BF16AdamW(torch.optim.Optimizer):
    """AdamW for bfloat16 weights and moments, 8 bytes a parameter with the gradient, by stochastic rounding.

    bfloat16 has 8 significant bits: a step of lr 1e-6 on a weight of 0.01 is a fortieth of the distance to
    the next number, and rounding to nearest would lose it every time. Rounded up with probability 1/40
    instead, it arrives on average. The moments decay by less than one such distance a step, too. The draws
    are seeded by the step, so a resumed run repeats them."""

    def __init__(self, params, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, step=0))
        self.sums, params = {}, self.param_groups[0]["params"]
        self.hooks = [p.register_post_accumulate_grad_hook(self.accumulate) for p in params]

    @staticmethod
    def pieces(*tensors):
        """The same pieces of all tensors' shards, flat: float32 copies exist for 64 Mi numbers at a time."""
        return zip(*(to_local(x).view(-1).split(2**26) for x in tensors))

    def accumulate(self, p):
        """After each backward pass: add p.grad to the step's sum, rounding stochastically, too, or the
        hundredth micro-batch would round to nothing beside the sum of the others."""
        if not self.sums:
            seed = seed_of("sums", self.param_groups[0]["step"], RANK)
            self.generator = torch.Generator(p.device).manual_seed(seed)
        grad, p.grad = p.grad.contiguous(), None
        if p not in self.sums:
            self.sums[p] = grad
            return
        for piece, g in self.pieces(self.sums[p], grad):
            self.round_(piece, piece.float() + g.float(), self.generator)

    def collect(self):
        """Before clipping: the sums become the gradients."""
        for p, total in self.sums.items():
            p.grad = total
        self.sums = {}

    @staticmethod
    def round_(target, value, generator):
        """target (bfloat16) ← value (float32): its upper 16 bits, once noise in the lower 16 has carried."""
        bits = value.view(torch.int32)
        noise = torch.randint(0, 2**16, bits.shape, dtype=bits.dtype, device=bits.device, generator=generator)
        target.copy_(((bits + noise) & -(2**16)).view(torch.float32))

    @torch.no_grad()
    def step(self, closure=None):
        settings = self.param_groups[0]
        settings["step"] += 1
        (b1, b2), lr, step = settings["betas"], settings["lr"], settings["step"]
        generator = torch.Generator(settings["params"][0].device).manual_seed(seed_of("rounding", step, RANK))
        for p in settings["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
            for w, g, m, v in self.pieces(p, p.grad, state["m"], state["v"]):
                g = g.float()
                m32, v32 = m.float().lerp(g, 1 - b1), v.float().lerp(g * g, 1 - b2)
                change = (m32 / (1 - b1**step)) / ((v32 / (1 - b2**step)).sqrt() + settings["eps"])
                self.round_(w, w.float() - lr * (change + settings["weight_decay"] * w.float()), generator)
                self.round_(m, m32, generator)
                self.round_(v, v32, generator)


def make_optimizer(model, lr, weight_decay):
    if model.dtype == torch.bfloat16:
        return BF16AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def clip_gradient(model, optimizer, most):
    """Scale the gradient to a norm of at most `most`; returns the norm it had: scalar."""
    if isinstance(optimizer, BF16AdamW):
        optimizer.collect()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


SHARED_MEMORY = ("cpu", "mps")  # devices that use the machine's, and do not say how much is free


def choose_device(wanted):
    """torch.device of --device; under torchrun each process takes the accelerator of its LOCAL_RANK."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    kind, count = (kind.type, torch.accelerator.device_count()) if kind else ("cpu", 1)
    name, _, place = (kind if wanted == "auto" else wanted).partition(":")
    if name not in ("cpu", kind) or place and (WORLD > 1 or not place.isdecimal()):
        names = ", ".join(dict.fromkeys(["auto", "cpu", kind]))
        fail(f"--device {wanted} is not here, or has a number under torchrun; use one of {names}.")
    if name == "cpu":
        return torch.device("cpu")
    place = int(place or os.environ.get("LOCAL_RANK", 0))
    if place >= count:
        fail(f"This machine has only {count} devices {kind}; choose one of them, or start fewer processes.")
    return torch.device(name, place)


def choose_dtype(config, device):
    """Of weights and AdamW moments: float32 on a CPU, and on GPUs if it fits, with computation in bfloat16.

    float32 takes 16 bytes a parameter (weight, gradient, two moments), shared out over the processes, 2 for
    the copy that computes and 2 for a reference; 30% are left to cache and activations. bfloat16 takes 8."""
    if config.param_dtype != "auto" or device.type in SHARED_MEMORY:
        return "float32" if config.param_dtype == "auto" else config.param_dtype
    with torch.device("meta"), explained(f"Cannot load {config.model} (ERROR); check name and network."):
        parameters = AutoModelForCausalLM.from_config(architecture(config.model)).num_parameters()
    copies = 2 if config.kl or config.exact_reference else 1
    fits = parameters * (16 / WORLD + 2 * copies) < 0.7 * torch.accelerator.get_memory_info(device)[1]
    return "float32" if fits else "bfloat16"


def rows_that_fit(model, slots):
    """How many solutions of `slots` tokens to sample at a time: 60% of a GPU's free memory; on a CPU 512."""
    c, device = model.config, model.device
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    size = 2 * c.num_hidden_layers * heads * head * 2  # bytes a token, in bfloat16
    if device.type in SHARED_MEMORY:
        return max(1, min(512, 2**32 // (2 * size * slots)))
    torch.accelerator.empty_cache()  # what the last update left reserved is free for the cache
    to_come = sum(2 * p.numel() for p in model.parameters() if isinstance(p, DTensor))  # still to be gathered
    free = torch.accelerator.get_memory_info(device)[0] - to_come
    return max(1, int(0.6 * free / (size * slots)))


# ------------------------------------------------------------------------------------------ several processes

# `torchrun --nproc-per-node N laser.py …` starts N processes. All have the same problems, settings and
# uniform numbers. Each samples its share of the step and shows it to the others, so whatever is counted over
# the step is counted alike by all; then each trains on its share of the micro-batches, and FSDP adds the
# gradients up. So N processes take the step that one would.
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def progress(*args, **options):
    """tqdm; every tenth of a second on a terminal, every ten seconds in a log file."""
    every = 0.1 if sys.stderr.isatty() else 10
    return tqdm(*args, dynamic_ncols=True, disable=RANK > 0, mininterval=every, **options)


def say(text, file=None):
    """Print, above a progress bar if there is one; only the first process speaks."""
    if RANK == 0:
        tqdm.write(text, file=file or sys.stdout)
        (file or sys.stdout).flush()


def join(device):
    """Meet the other processes of torchrun."""
    if not dist.is_initialized():
        alone = {"store": dist.HashStore(), "rank": 0, "world_size": 1} if WORLD == 1 else {}
        patience = datetime.timedelta(hours=4)  # one may sample much longer than another
        dist.init_process_group(timeout=patience, **alone)
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)


def shard(model):
    """Split weights, gradients and moments over the processes (FSDP2); on a GPU, compute in bfloat16.

    One process with float32 weights on a GPU comes here, too: FSDP then keeps the copy that computes."""
    for weight in model.parameters():
        dist.broadcast(weight.data, 0)  # random weights and a warm start may differ by rounding
    dtype = None if model.device.type == "cpu" else torch.bfloat16
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = dist.init_device_mesh(model.device.type, (WORLD,))
    blocks = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
        module.set_gradient_divide_factor(1.0)  # our losses are sums over the step: gradients add up
        module.set_force_sum_reduction_for_comms(True)
    # FSDP gathers weights around `forward` and methods named to it: `run` is one that runs any function so
    model.run = types.MethodType(lambda self, f, *args, **options: f(self, *args, **options), model)
    register_fsdp_forward_method(model, "run")


def rank_share(batches):
    """This process's micro-batches. Each pass through a sharded model is a meeting of all: the largest are
    halved, or if all are single rows the shortest joined, until they come out even."""
    batches = list(batches)
    while len(batches) % WORLD and max(map(len, batches)) > 1:
        largest = max(batches, key=len)
        batches.remove(largest)
        half = len(largest) // 2
        batches += [largest[:half], largest[half:]]
    while len(batches) % WORLD and len(batches) > WORLD:
        batches.append(batches.pop() + batches.pop())
    return batches[RANK::WORLD]


def meet():
    """Wait until all processes are here."""
    all_reduce(torch.zeros(1))


def all_reduce(x):
    """The sum of x over all processes, in place."""
    if WORLD > 1:
        dist.all_reduce(x)
    return x


def asked_to_stop(stop):
    """Whether a signal has come to any process."""
    return bool(all_reduce(torch.tensor(len(stop))))


def to_local(x):
    """This process's shard of a tensor of a sharded model or optimizer; others as they are."""
    return x.to_local() if isinstance(x, DTensor) else x


FIRST_STAGE = 512  # response tokens


def sample_in_stages(model, prompts, group_size, u, *options):
    """`sample`, with memory by need: all solutions to 512 tokens, then those not ended to 1,024, and so on.

    Rows are prefilled anew for each stage and take slots for its length only, so many more run at a time than
    if each had slots for the longest. The solutions are the same, as a token depends on nothing but its
    uniform number and what stands before it."""
    end, (B, T) = min(FIRST_STAGE, u.size(1)), u.shape
    first = sample_as_fits(model, prompts, group_size, u[:, :end], *options)
    tokens, logps = F.pad(first.tokens, (0, T - end)), F.pad(first.logps, (0, T - end))
    lengths, complete, logp_zc = first.lengths, first.complete, first.logp_zc
    while end < T and not complete.all():
        start, end = end, min(2 * end, T)
        rows = (~complete).nonzero().squeeze(1)
        solutions = zip(rows.tolist(), tokens[rows, :start].tolist())
        prefixes = [prompts[i // group_size] + response for i, response in solutions]
        more = sample_as_fits(model, prefixes, 1, u[rows.cpu(), start:end], *options)
        tokens[rows, start:end], logps[rows, start:end] = more.tokens, more.logps
        lengths[rows] += more.lengths
        complete[rows], logp_zc[rows] = more.complete, more.logp_zc
    return Solutions(tokens, logps, lengths, complete, logp_zc)


def sample_as_fits(model, prompts, group_size, u, eos_ids, zc, temperature, max_rows, on_step):
    """`sample`; where memory runs out, again with half of the rows."""
    max_rows = max_rows or rows_that_fit(model, max(map(len, prompts)) + u.size(1))
    while True:
        try:
            return sample(model, prompts, group_size, u, eos_ids, zc, temperature, max_rows, on_step)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or max_rows == 1:
                raise
        max_rows = min(max_rows, len(u)) // 2 or 1
        say(f"memory ran out while sampling; on with {max_rows} rows at a time (--sample_rows)", sys.stderr)


def sample_together(policy, prompts, group_size, u, config):
    """`sample` with the prompts split over the processes: every one gets all the Solutions."""
    model, sharded = policy.model, isinstance(policy.model, FSDPModule)
    low, high = (len(prompts) * rank // WORLD for rank in (RANK, RANK + 1))
    stop = max(high, low + 1)  # where there are fewer prompts than processes, some sample one in vain
    mine, u = prompts[low:stop], u[low * group_size : stop * group_size]
    if sharded:
        model.set_reshard_after_forward(False)  # gathered once, for all tokens
    with progress(desc="sampling", unit=" tokens", leave=False, delay=2) as bar:  # shown after 2 s
        solutions = sample_in_stages(model, mine, group_size, u, policy.eos_ids, policy.zc,
                                     config.temperature, config.sample_rows, bar.update)
    if sharded:
        model.set_reshard_after_forward(True)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    if WORLD == 1:
        return solutions
    parts = [None] * WORLD
    dist.all_gather_object(parts, [x[: (high - low) * group_size].cpu() for x in solutions])
    return Solutions(*(torch.cat(part).to(model.device) for part in zip(*parts)))


# ------------------------------------------------------------------------------------------- errors and files


class UserError(ValueError):
    """Something the user can mend: one sentence that says how. The command line exits with code 2."""


def fail(sentence, cause=None):
    raise UserError(sentence) from cause


def out_of_memory(error):
    on_cpu = "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, (torch.OutOfMemoryError, MemoryError))


@contextlib.contextmanager
def explained(sentence):
    """Whatever goes wrong inside becomes this sentence, in which ERROR stands for what the exception says."""
    try:
        yield
    except (Exception, SystemExit) as error:  # libraries raise many kinds
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        told = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        fail(sentence.replace("ERROR", told), error)


def replace_folder(final, write):
    """Make or replace a folder: `write` fills a new one beside it, renamed into place once on the disk.

    A kill at any moment, or a full disk, leaves the old folder or the new (`open_folder` mends a kill between
    the renames)."""
    new, old = final.with_name(final.name + ".new"), final.with_name(final.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with explained(f"Cannot save {final} (ERROR); what was there is kept: make room, then --resume."):
            write(new)
            for path in filter(Path.is_file, new.rglob("*")):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                final.rename(old)
            new.rename(final)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path, text):
    """Write a file so that a kill leaves the old text or the new."""
    if RANK == 0:
        beside = path.with_name(path.name + ".new")
        beside.write_text(text, "utf-8")
        beside.replace(path)


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def append_log(path, *rows):
    if RANK == 0:
        with path.open("a", encoding="utf-8") as file:
            file.write(json_lines(rows))


def cut_log(path, step=math.inf, keys=()):
    """A log's rows up to `step`, all with `keys`. Later ones and a torn last line are cut off its file."""
    if not path.exists():
        return []
    with explained(f"{path} is damaged (ERROR); mend it or move it away."):
        whole = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        rows = [row for row in map(json.loads, whole) if row["step"] <= step]
        _ = [row[key] for row in rows for key in keys]
    write_text(path, json_lines(rows))
    return rows


DAMAGED = "{} is damaged (ERROR); put a good copy in its place or start again with another --out."


def read_json(path, take=dict):
    """What `take` makes of a JSON file."""
    with explained(DAMAGED.format(path)):
        return take(json.loads(path.read_text("utf-8")))


# --------------------------------------------------------------------------------------------- a run's folder

# what a checkpoint's later users need to read its self-reward and to ask it as it was asked in training
LASTING = ("beta", "self_loss", "temperature", "prompt_suffix", "template_kwargs", "date", "end_token",
           "max_prompt_tokens", "max_response_tokens")
# what a resumed run may change: none of it alters what is learnt
FREE = {"out", "config", "resume", "track", "rollouts_every", "device", "steps", "eval_every", "save_every",
        "sample_rows", "micro_batch_tokens"}


def prepare(config):
    """All that `train` needs: load, warm-start, shard, measure c_ref. Input is checked before any writing."""
    check(config)
    device = choose_device(config.device)
    if WORLD > 1:
        join(device)
    out, saved, lock = open_folder(config)
    problems = load_problems(config.data, True, config)
    eval_names = config.eval_data if config.eval_every else []
    eval_sets = {name: load_problems(name, False, config) for name in eval_names}
    step, dtype, c_ref, std, warm = 0, None, config.c_ref, None, out / "warm_start"
    if saved:
        step, dtype, c_ref = read_json(saved / "laser.json", lambda stored: (
            int(stored["step"]), str(stored["param_dtype"]), float(stored["laser"]["c_ref"])))
    elif config.resume:
        say(f"there is no checkpoint in {out} yet: its run begins again", sys.stderr)
    source = warm if warm.exists() else config.model
    worked = None
    if config.warm_start_steps and not saved and source != warm:
        worked = load_problems(config.warm_start_data or config.data, True, config, worked=True)
    dtype = dtype or choose_dtype(config, device)
    policy = load_policy(config, str(saved or source), device, dtype)
    model, size = policy.model, policy.model.num_parameters()
    problems = add_prompts(problems, policy, config, config.data)
    eval_sets = {name: add_prompts(rows, policy, config, name) for name, rows in eval_sets.items()}
    say(f"{config.model}: {size:,} {dtype} parameters on {WORLD} × {device}; z_c is token {policy.zc}; "
        f"{len(problems)} problems; seed {config.seed}, run in {out}")
    if worked:
        worked = add_prompts(worked, policy, config, "the warm start")
    tracker = importlib.import_module(config.track) if config.track and RANK == 0 else None
    if tracker:
        with explained(f"--track {config.track} does not start (ERROR); log in there, or drop the flag."):
            tracker.init(project="laser", name=out.name, config=dataclasses.asdict(config))
    if WORLD > 1 or device.type not in SHARED_MEMORY and dtype == "float32":
        join(device)
        shard(model)
    if worked:
        warm_start(policy, worked, config)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    if saved and step:  # at step 0 there are no moments, and torch, asked for some, takes a step
        with explained(DAMAGED.format(saved)):
            restore(model, optimizer, saved / "trainer.pt")
    elif c_ref is None:
        c_ref, std = measure_c_ref(policy, problems, config)
    report_c_ref(c_ref, std, config)

    transformers.utils.logging.disable_progress_bar()  # one for every file saved would tear our own bar
    lock = lock or take_lock(out, fresh=True)  # another run may have begun there meanwhile
    write_text(out / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
    if worked:
        save_model(policy, warm)
    meet()
    reference = None
    if config.kl or config.exact_reference:  # the starting model, frozen
        start = str(warm) if config.warm_start_steps else config.model
        reference, _ = load_model(start, device, dtype if device.type == "cpu" else "bfloat16", config.seed)
        add_embeddings(reference, model.get_input_embeddings().weight.size(0))
        reference.requires_grad_(False)
    metrics = cut_log(out / "metrics.jsonl", step, ("complete",))  # which cuts off what will be repeated
    for name in ("samples", "rollouts"):
        cut_log(out / f"{name}.jsonl", step)
    results = cut_log(out / "eval.jsonl", step, ("data", "n"))
    return types.SimpleNamespace(
        policy=policy._replace(c_ref=c_ref), optimizer=optimizer, reference=reference, problems=problems,
        eval_sets=eval_sets, first_step=step, saved_step=step if saved else None, results=results,
        complete=metrics[0]["complete"] if metrics else None, out=out, lock=lock, tracker=tracker)


def folder_of(config):
    model = Path(os.path.abspath(config.model))
    if config.eval_only and model.name == "checkpoint":  # which every run has
        model = model.parent
    name = model.name.removesuffix(".json")
    return Path(config.out or ("runs/eval-" if config.eval_only else "runs/") + name)


def open_folder(config):
    """(folder, its checkpoint or None, its lock or None); refused if it holds another run, or none."""
    out = folder_of(config)
    if not config.resume and not (config.eval_only and (out / "config.json").exists()):
        refuse_used(out)
        return out, None, None
    if not (out / "config.json").exists():
        fail(f"There is no run in {out} to resume; drop --resume or name its folder with --out.")
    then, now = vars(read_json(out / "config.json", lambda stored: Config(**stored))), vars(config)
    changed = [f"--{key} {then[key]}" for key in now if key not in FREE and now[key] != then[key]]
    if changed:
        fail(f"The run in {out} was started with {', '.join(changed)}; resume it so, or start another --out.")
    lock, saved, old = take_lock(out), out / "checkpoint", out / "checkpoint.old"
    if RANK == 0 and old.exists() and not saved.exists():
        old.rename(saved)  # as a kill between the renames of a save has left it
    meet()
    return out, saved if saved.exists() else None, lock


def take_lock(folder, fresh=False):
    """Make the folder and keep it to ourselves while the returned lock lives. `fresh`: it must be unused."""
    lock = filelock.FileLock(folder / ".lock")
    if RANK == 0:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            fail(f"Another run is writing to {folder}; wait until it ends or name another --out.", error)
    if fresh:
        refuse_used(folder)
    return lock


def refuse_used(out):
    """`out` must be an empty folder, or one that can be made."""
    ours = {".lock", "config.json.new"}  # what a run leaves that a full disk has ended as it began
    used = out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - ours)
    if RANK == 0 and used:
        fail(f"{out} is not empty; continue its run with --resume or name another folder with --out.")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        fail(f"{out} cannot be made, as {there} cannot be written to; name another folder with --out.")


def log(run, file, row, prefix=""):
    """Add a row to a log of the run, and its numbers to what the run is followed with."""
    append_log(run.out / file, row)
    if run.tracker:
        numbers = {prefix + name: x for name, x in row.items() if isinstance(x, (int, float))}
        run.tracker.log(numbers, step=row["step"])


def finish(run):
    """Let the tracker, and the folder to others, go."""
    if run.tracker:
        run.tracker.finish()
    run.lock.release()


# shards put together, on the first process's CPU
WHOLE = sharded_state.StateDictOptions(full_state_dict=True, cpu_offload=True)


def save(run, step, config):
    """Replace out/checkpoint: model and tokenizer as transformers reads them, laser.json, AdamW's moments."""
    model, policy = run.policy.model, run.policy
    broken = sum(not torch.isfinite(to_local(x)).all() for x in model.parameters())
    if all_reduce(torch.tensor(broken, device=model.device)):
        fail(f"The weights are no longer finite after step {step}, so they are not saved; start again with a "
             "lower --lr and another --out, or with the last checkpoint as --model.")
    moments = sharded_state.get_optimizer_state_dict(model, run.optimizer, options=WHOLE)
    lasting = {key: getattr(config, key) for key in LASTING} | {"token": policy.zc, "c_ref": policy.c_ref}
    metadata = {"step": step, "param_dtype": str(model.dtype).removeprefix("torch."), "laser": lasting}

    def beside(folder):
        (folder / "laser.json").write_text(json.dumps(metadata, indent=1), "utf-8")
        torch.save({"optimizer": moments}, folder / "trainer.pt")

    save_model(policy, run.out / "checkpoint", beside)


def save_model(policy, final, beside=lambda folder: None):
    """Replace the folder `final`: model and tokenizer as transformers reads them, and what `beside` adds."""
    model, weights = policy.model, None
    if isinstance(model, FSDPModule):
        names = dict(model.named_parameters())  # tied weights have one name here
        weights = sharded_state.get_model_state_dict(model, options=WHOLE)
        weights = {name: x for name, x in weights.items() if name in names}

    def write(folder):
        model.save_pretrained(folder, state_dict=weights)
        policy.tokenizer.save_pretrained(folder)
        beside(folder)

    if RANK == 0:
        replace_folder(final, write)


def restore(model, optimizer, path):
    """Load the moments that `save` wrote, each process its shards of them: their number may have changed."""
    moments = torch.load(path, map_location="cpu", mmap=True)["optimizer"]
    options = sharded_state.StateDictOptions(full_state_dict=True)
    sharded_state.set_optimizer_state_dict(model, optimizer, moments, options=options)


def evaluate(run, step, config, stop=()):
    """Sample, verify and vote on the run's data sets: rows in eval.jsonl, solutions in samples.jsonl.

    What was done before the run was stopped is kept: rows, or whole problems among this step's solutions."""
    n, path, kept = config.eval_n, run.out / "samples.jsonl", {}
    if [row["data"] for row in run.results if row["step"] == step] == list(run.eval_sets):
        return
    run.results[:] = cut_log(run.out / "eval.jsonl", step - 1)
    columns = "data problem gold answer reward self_reward logp_zc complete tokens seconds".split()
    known = [row for row in cut_log(path, keys=columns) if row["step"] == step]
    for name, problems in run.eval_sets.items():
        kept[name] = [row for row in known if row["data"] == name]
        asked = [(row["problem"], row.get("messages"), row["answer"]) for row in repeated(problems, n)]
        answered = [(row["problem"], row.get("messages"), row["gold"]) for row in kept[name]]
        if answered != asked[: len(answered)]:
            fail(f"{path} holds solutions of other problems than {name} has now; name another --out.")
        del kept[name][len(kept[name]) // n * n :]
    meet()  # all have read before the first one writes
    write_text(path, json_lines(itertools.chain(*kept.values())))
    for name, problems in run.eval_sets.items():
        samples = kept[name]
        for i in progress(range(len(samples) // n, len(problems), 64), desc=name, leave=False, delay=2):
            if asked_to_stop(stop):
                return
            more = solve(run.policy, problems[i : i + 64], config, name, run.reference)
            more = [{"step": step, **row} for row in more]
            append_log(path, *more)
            samples += more
        figures = summarise(samples, n, config.beta)
        run.results.append({"step": step, "data": name, "problems": len(problems), "n": n, **figures})
        log(run, "eval.jsonl", run.results[-1], f"{name}/")


# -------------------------------------------------------------------------------------------------- test time


def load_grader(config):
    """The Policy of a trained --model, if it is known how it grades itself."""
    if config.token is None or config.c_ref is None:
        fail(f"{config.model} is no folder with a laser.json, or --token is not the one in it; mend that, or "
             "give --token and --c_ref (and --beta).")
    device, dtype = choose_device(config.device), config.param_dtype
    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    return load_policy(config, config.model, device, dtype)


def ask(config):
    """Sample solutions of one problem; print each distinct answer with votes, self-reward and a solution."""
    with explained("--ask is not in UTF-8 (ERROR); convert it, for example with iconv."):
        problem = (sys.stdin.read() if config.ask == "-" else config.ask).strip()
        problem.encode()
    if not problem:
        fail("--ask has no problem to solve; write one after it, or `-` and pipe one in.")
    policy = load_grader(config)
    rows = add_prompts([{"problem": problem, "answer": ""}], policy, config, "--ask")
    samples = solve(policy, rows, config)
    trust = [min(max(row["self_reward"] or 0.0, 0.0), 1.0) for row in samples]
    classes = group([row["answer"] for row in samples])
    voters = {c: [i for i, other in enumerate(classes) if other == c] for c in set(classes) - {None}}
    total = {c: sum(trust[i] for i in voters[c]) for c in voters}
    ranked = sorted(voters, key=lambda c: (-total[c], -len(voters[c]), c))
    for c in ranked:
        best = max(voters[c], key=trust.__getitem__)
        said, votes = samples[best]["response"].strip(), f"{len(voters[c])} of {len(samples)} votes"
        say(f"{samples[c]['answer']}: {votes}, self-reward {total[c]:.2f} in all, {trust[best]:.2f} for")
        say(f"    {said}")
    if ranked:  # the best guess of the chance to be right: the mean self-reward of the solutions that say so
        confidence = total[ranked[0]] / len(voters[ranked[0]])
        say(f"weighted vote: {samples[ranked[0]]['answer']}, confidence {confidence:.2f}")
    else:
        cut = sum(not row["complete"] for row in samples)
        say(f"no answer in {len(samples)} solutions, {cut} of them cut; raise --max_response_tokens or --n")


def score_file(config):
    """Teacher-forced self-rewards of (problem, response) rows of a jsonl file: --out gets all at once."""
    out = Path(config.out or f"{config.score}.scored.jsonl")
    if out.exists():
        fail(f"{out} exists; name another file with --out.")
    with explained(f"Cannot read {config.score} (ERROR); give a jsonl file with problem and response."):
        text = Path(config.score).read_text("utf-8-sig")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        if not all(is_text(row["problem"]) and is_text(row["response"] + ".") for row in rows):
            raise ValueError("a problem is empty, or something is no text")
        chats = [row["messages"] for row in rows if "messages" in row]
        if not all(isinstance(chat, list) and question(chat)["problem"] for chat in chats):
            raise ValueError("`messages` are not what the chat template takes, or do not end with the user's")
        if not all(row.get("complete", True) in (True, False) for row in rows):
            raise ValueError("`complete` must be true or false")
        ended = [row for row in rows if row.get("complete", True)]  # after a cut one nothing is read
        if not ended:
            raise ValueError("it has no complete response")
    out.parent.mkdir(parents=True, exist_ok=True)
    policy = load_grader(config)
    prompts = encode_prompts(policy, ended, config)
    if not all(prompts):
        fail(f"The problem {ended[prompts.index([])]['problem']!r} of {config.score} has no tokens; drop it.")
    responses = policy.tokenizer([row["response"] for row in ended], add_special_tokens=False)["input_ids"]
    for ids, row in zip(responses, ended):
        ids.append(row["last_token"] if row.get("last_token") in policy.eos_ids else policy.eos_ids[0])
    check_reach(policy, config.score, max(len(x) + len(y) for x, y in zip(prompts, responses)))
    other = sum(len(ids) != row.get("tokens", len(ids)) for ids, row in zip(responses, ended))
    if other:
        say(f"{other} of {len(ended)} responses encode to other tokens than were sampled (special tokens are "
            "not in the text): their self-rewards may differ from the sampler's", sys.stderr)
    _, logp_zc = score(policy.model, prompts, responses, policy.zc, config)
    for row in rows:
        row.update({"logp_zc": None, "self_reward": None})
    for row, at_zc, value in zip(ended, logp_zc, self_reward_of(logp_zc, policy.c_ref, config)):
        row.update({"logp_zc": at_zc.item(), "self_reward": value.item()})
    write_text(out, json_lines(rows))
    say(f"{len(ended)} self-rewards in {out}")


def evaluate_only(config):
    """The benchmark table of a trained model. Finished problems are kept in --out: it goes on there."""
    if WORLD > 1:
        join(choose_device(config.device))
    out, _, lock = open_folder(config)
    files = {path.name: path.stat() for path in Path(config.model).glob("*") if path.is_file()}
    files = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in files.items()}
    evaluated = out / "model.json"
    if evaluated.exists() and read_json(evaluated) != files:
        fail(f"{config.model} has changed since its evaluation in {out} began; name another --out.")
    stored = Path(config.model) / "laser.json"
    step = read_json(stored, lambda metadata: int(metadata["step"])) if stored.exists() else 0
    policy = load_grader(config)
    sets = {name: load_problems(name, False, config) for name in config.eval_data}
    sets = {name: add_prompts(rows, policy, config, name) for name, rows in sets.items()}
    if not lock:
        lock = take_lock(out, fresh=True)
        write_text(out / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
    if not evaluated.exists():
        write_text(evaluated, json.dumps(files))
    run = types.SimpleNamespace(policy=policy, eval_sets=sets, reference=None, results=[], tracker=None,
                                out=out, lock=lock)
    write_text(out / "eval.jsonl", "")
    evaluate(run, step, config)
    rows = list(run.results)
    if len(rows) > 1:
        mean = pandas.DataFrame(rows)[[key for key in rows[0] if f"{key}_ci" in rows[0]]].mean(skipna=False)
        run.results.append({"step": step, "data": "mean", "problems": sum(row["problems"] for row in rows),
                            "n": config.eval_n, **{key: number(value) for key, value in mean.items()}})
        log(run, "eval.jsonl", run.results[-1])
    print_table(run.results)
    for row in rows:
        bins = [f"{mean:.2f} → {right:.2f} ({count})" for count, mean, right in row["reliability"] if count]
        say(f"\n{row['data']}: self-reward → share of right solutions (how many): {', '.join(bins)}")
        figures = [f"{key} {shown(row[key])}" for key in ("tpr", "tnr", "length_correlation")]
        say(f"{', '.join(figures)}; self-rewarding took {row['self_reward_tokens']} tokens")


# ------------------------------------------------------------------------------------------- the command line


def check(config):
    """Refuse settings that cannot work, with a sentence that says what to write instead."""
    for name, hint in get_type_hints(Config, include_extras=True).items():
        value = getattr(config, name)
        if value == [""] or value == "" and name not in ("ask", "prompt_suffix", "track"):
            fail(f"--{name} is empty; give it a value or drop it.")
        if get_origin(hint) is Literal and value not in get_args(hint):
            fail(f"--{name} must be one of {', '.join(get_args(hint))}.")
        if get_origin(hint) is Annotated and not hint.__metadata__[0](value):
            fail(f"--{name} must be {hint.__metadata__[1]}.")
    tasks = (config.ask is not None) + bool(config.score) + config.eval_only
    training = not tasks
    solutions = min(config.prompts_per_step, 32) * config.group_size
    with explained(f"--template_kwargs {config.template_kwargs} is no JSON object (ERROR); mend it."):
        dict(**json.loads(config.template_kwargs))
    with explained(f"--date {config.date} is no day (ERROR); write it as 2026-01-31."):
        datetime.date.fromisoformat(config.date or "2026-01-31")
    reward_function(config)  # can it be imported?
    wrong = [
        (config.clip_low in (0, 1), "--clip_low must lie between 0 and 1."),
        (config.c_ref is not None and not -1e9 < config.c_ref < 0,
         "--c_ref is a log-probability: it must be negative."),
        (not config.eval_data, "--eval_data is empty; name a data set, or drop it."),
        (config.self_loss == "ce" and config.exact_reference,
         "--self_loss ce grades by π(z_c) itself and has no reference; drop --exact_reference."),
        (tasks and config.exact_reference,
         "--exact_reference is for training; self-rewards at test time use --c_ref."),
        (config.c_ref is not None and config.exact_reference,
         "--exact_reference takes the place of --c_ref; give one of them."),
        (tasks > 1, "--ask, --score and --eval_only are different tasks; give one of them."),
        (WORLD > 1 and tasks and not config.eval_only,
         "--ask and --score need one process; start them without torchrun."),
        (training and solutions < WORLD, f"{WORLD} processes need more solutions; raise --prompts_per_step."),
        (training and config.steps > 0 and config.temperature == 0,
         "--temperature 0 samples G equal solutions; training needs more than 0."),
        (config.warm_start_data and not config.warm_start_steps,
         "--warm_start_data needs --warm_start_steps; give their number, too."),
        (tasks and config.track, "--track follows a training run; drop it."),
        (tasks and config.reward and not config.eval_only, "--ask and --score do not verify; drop --reward."),
        (config.track and importlib.util.find_spec(config.track) is None,
         f"--track {config.track} needs that package: pip install {config.track}, or drop the flag."),
    ]
    for is_wrong, sentence in wrong:
        if is_wrong:
            fail(sentence)


def parse(arguments):
    """A Config from command-line words: the defaults, then the `laser` settings of a --model .json file or
    checkpoint, or those of the run that --resume continues, then --config, then the flags."""
    def refuse(message):
        fail(message[0].upper() + message[1:] + "; see --help.")

    parser = HfArgumentParser(Config, prog="laser.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.error = refuse
    parser._negative_number_matcher = re.compile(r"-\d*\.?\d+(e[-+]?\d+)?$", re.I)  # -2e1 is no flag
    takes_list = {f.name: f.default_factory is not dataclasses.MISSING for f in dataclasses.fields(Config)}

    def reading(*layers):
        """The flags, over the settings of the layers (source, values), of which later ones win."""
        for source, values in layers:  # argparse reads words that are defaults as it reads flags
            words = {}
            for key, x in values.items():
                if key not in takes_list:
                    fail(f"In {source}: there is no setting {key}; see --help.")
                if isinstance(x, list) and not takes_list[key]:
                    fail(f"In {source}: {key} takes one value, not a list.")
                x = json.dumps(x) if isinstance(x, dict) else x
                if x is not None:
                    words[key] = [*map(str, x if isinstance(x, list) else [x])] if takes_list[key] else str(x)
            parser.set_defaults(**words)
            try:
                parser.parse_args(arguments)
            except UserError as error:
                fail(f"In {source}: {error}", error)
        return parser.parse_args(arguments)

    flags, own = reading(), []
    if flags.config:
        with explained(f"Cannot read {flags.config} (ERROR); give a yaml or json file of settings."):
            own = [(flags.config, dict(yaml.safe_load(Path(flags.config).read_text("utf-8"))))]
    flags = reading(*own)  # which may name the model and the folder
    here, stored = Path(__file__).parent, folder_of(flags) / "config.json"
    goes_on = (flags.resume or flags.eval_only) and stored.exists()
    if goes_on:
        flags = reading((stored, read_json(stored)), *own)  # what is left open is as the run was started
    is_json = flags.model.endswith(".json")
    source = Path(flags.model) if is_json else Path(flags.model) / "laser.json"
    if is_json and not source.exists() and (here / source).exists():
        source = here / source
    if not goes_on:
        if source.is_file():
            with explained(f"{source} is not a JSON object with a `laser` object in it (ERROR); mend it."):
                laser = dict(json.loads(source.read_text("utf-8")).get("laser", {}))
            other = "token" in laser and flags.token not in (None, str(laser["token"]))
            if other or flags.exact_reference or flags.warm_start_steps and not is_json:
                laser.pop("c_ref", None)  # it is of another token or model, or not wanted
            flags = reading((source, laser), *own)
        elif is_json:
            fail(f"There is no file {source}; give a .json architecture, a folder or a hub id.")
    flags.model = str(source) if is_json else flags.model
    flags.date = flags.date or datetime.date.today().isoformat()
    return Config(**vars(flags))


def keep_freed_memory():
    """Let the C library keep the blocks (below 32 MiB) that PyTorch frees: asking the kernel for fresh,
    zeroed pages at every operation costs a third of the time of sampling and training on a CPU."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD


def main(arguments=None):
    """The command line. Returns the exit code: 0; 2 with one sentence on stderr for what the user can mend;
    130 or 143 after Ctrl-C or SIGTERM, which finish the step and save first (a second one does not wait)."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? for what it lacks
    stop, config = [], None

    def on_signal(which, _):
        stop.append(which)
        once_more = WORLD == 1  # torchrun passes a Ctrl-C on that has reached us already
        print("finishing the step, then saving" + "; once more to stop at once" * once_more, file=sys.stderr)
        if once_more:
            signal.signal(which, signal.SIG_DFL)

    try:
        config = parse(sys.argv[1:] if arguments is None else arguments)
        check(config)
        if config.ask is not None:
            ask(config)
        elif config.score:
            score_file(config)
        elif config.eval_only:
            evaluate_only(config)
        else:
            run = prepare(config)
            for which in (signal.SIGINT, signal.SIGTERM):
                signal.signal(which, on_signal)
            train(run, config, stop)
            if dist.is_initialized():
                dist.destroy_process_group()
    except KeyboardInterrupt:  # before training, or at test time
        print("\nstopped; what was finished is written", file=sys.stderr)
        return 130
    except (UserError, OSError, RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            rows = config.sample_rows or "chosen from free memory"
            tokens = config.micro_batch_tokens or "chosen by device"
            error = (f"The memory is full; lower --micro_batch_tokens (now {tokens}), or --sample_rows "
                     f"(now {rows}) if it happened while sampling, or take a smaller --model.")
        elif isinstance(error, OSError):
            error = f"{type(error).__name__}: {error}; check the path, its permissions, the room on the disk."
        elif not isinstance(error, UserError):
            raise
        print(f"laser.py: {error}", file=sys.stderr)
        return 2
    return 128 + stop[0] if stop else 0


if __name__ == "__main__":
    sys.exit(main())

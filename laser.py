"""LaSeR: reinforcement learning with last-token self-rewarding (arXiv 2510.14943), in one file.

A language model learns from verifiable rewards and, by one extra regression term, learns to grade its own
solution in one number: the log-probability, right after the solution's last token, of z_c, a token that it
otherwise never uses.

    for step in range(steps):
        solutions    = sample(problems, G each)       # y ~ π(·|x), to the token EOS that ends it
        rewards      = verify(solutions)              # r_v ∈ {0, 1}: is the answer in its \\boxed{} right?
        self_rewards = beta * (logp_zc - c_ref)       # r_s from log π(z_c|x,y); c_ref: its mean at the start
        A            = (1 - tau) * normalise(rewards) + tau * normalise(clip(self_rewards, 0, 1))
                                                      # within the G solutions of a problem
        L_policy     = -mean(min(ratio * A, clip(ratio, 1 - ε_low, 1 + ε_high) * A))  # ratio = π / π_old
        L_self       = mean(w * (self_rewards - rewards)**2)        # w: right and wrong weigh the same
        descend(L_policy + alpha * L_self)            # `schedule`: at first α = τ = 0, then τ = 0
    at test time: the answer with the largest sum of clip(self_rewards, 0, 1) over the solutions that give it

x is a problem, y a solution, π the model. L_policy is GRPO (group-relative policy optimisation): tokens of
solutions better than their group's mean become more likely, the others less; the clip, from PPO, rewards no
token beyond ε of change from π_old, the policy that sampled it. normalise: (r − mean) / std.

    python laser.py                        # a tiny model, from random weights, on a CPU, in 2 to 8 minutes
    python laser.py --model Qwen2.5-7B     # the same code on a GPU

Part I is the story, as the data travels; part II is what it learns on; part III is the machinery.

Shapes: P problems a step, G solutions each, B = P·G (a problem's solutions side by side), b of them in a
micro-batch, T response tokens, L tokens of prompt and response, V the vocabulary, D the hidden size, R rows
that run at a time, N a flat list; in votes n samples a problem, k of them used, S trials, C answers.
Left out on purpose: a critic (a learnt value model); sequence packing; dropping the groups whose rewards are
all equal (usual elsewhere, as their advantage is 0, but L_self learns from them).
"""
import ast
import contextlib
import datetime
import functools
import glob
import hashlib
import importlib
import inspect
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
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import filelock
import pandas
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.distributed.checkpoint import state_dict as sharded_state
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward
from tqdm import tqdm
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers import AutoTokenizer, Cache, DynamicCache, HfArgumentParser, PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from verify import checkable, extract_answer, group, reward

# ========================================================================================== Part I: the story
# --------------------------------------------------------------------------------------------------- settings

@dataclass
class Config:
    """Every setting of a run, as the paper has it; the flags and their help are made from these lines."""
    # the method
    steps: int = 1000  # training steps in all
    prompts_per_step: int = 128  # P, problems a step
    group_size: int = 8  # G, solutions a problem
    max_response_tokens: int = 8192  # T, tokens after which a solution is cut
    beta: float = 0.1  # β, reward per nat of log π(z_c)
    alpha: float = 0.1  # α, weight of the self-reward loss; 0 is plain GRPO (τ is then 0, too)
    tau: float = 0.1  # τ, weight of the self-reward in the advantage, 0 to 1
    lr: float = 1e-6  # AdamW learning rate
    # the machinery: model and data
    model: str = "tiny_config.json"  # hub id, folder, or .json of an architecture (random weights)
    data: str = "zwhe99/DeepMath-103K"  # training problems: file, hub id[:config[:split]], or `pairs`
    eval_data: list[str] = field(default_factory=lambda: [*BENCHMARKS])  # held-out problems, as --data
    problem_column: str | None = None  # of problems or messages, a.b in dicts (None: by name)
    answer_column: str | None = None  # of answers, a.b in dicts (None: by name)
    prompt_suffix: str | None = None  # line after each problem (None: to box the answer)
    template_kwargs: str = "{}"  # JSON object of variables for the chat template
    reward: str | None = None  # module:function of (response, gold) → 0 … 1 in place of the verifier
    max_prompt_tokens: int = 2048  # longest prompt, tokens; longer ones are dropped
    out: str | None = None  # folder of the run (None: runs/<model name>)
    resume: bool = False  # continue the run in --out from its checkpoint; other flags win or are refused
    seed: int = 0  # of everything random
    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = "auto"  # of the model
    param_dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of weights and moments (auto: what fits)
    # sampling
    end_token: list[str] = field(default_factory=list)  # tokens that end a solution ([]: EOS and turn end)
    temperature: float = 1.0  # of sampling; 0 is greedy, for evaluation only
    sample_rows: int = 0  # solutions sampled at a time (0: from free memory)
    # self-reward
    token: str | None = None  # z_c, a token or its id (None: one that the model never uses)
    c_ref: float | None = None  # mean log π_ref(z_c), nats (None: measured on the starting model)
    min_std: float = 0.1  # a group whose clipped self-rewards have no larger std keeps GRPO's advantage
    reasoning_warmup: int = 200  # first steps without self-reward loss
    self_reward_warmup: int = 200  # following steps with the loss and τ = 0
    balanced: bool = True  # right and wrong solutions weigh the same in the self-reward loss
    exact_reference: bool = False  # a frozen reference's log π_ref(z_c|x,y) in place of c_ref
    self_loss: Literal["mse", "ce"] = "mse"  # regress r_s on r_v, or ce: cross-entropy on π(z_c) itself
    # optimisation
    weight_decay: float = 0.01  # of AdamW
    updates: int = 1  # K, updates on each step's solutions; the clip acts from the second on
    clip_low: float = 0.2  # ε_low of the PPO clip
    clip_high: float = 0.2  # ε_high of the PPO clip
    kl: float = 0.0  # weight of a penalty, KL, for leaving the starting model, kept frozen
    grad_clip: float = 1.0  # largest gradient norm
    micro_batch_tokens: int = 0  # padded tokens in one pass (0: as memory allows, 2048 on a CPU)
    # evaluation and output
    eval_every: int = 200  # evaluate every this many steps, at the start and the end (0: never)
    eval_n: int = field(default=8, metadata={"aliases": ["--n"]})  # solutions a problem in evaluation
    save_every: int = 50  # save every this many steps (0: never), before evaluations and at the end
    keep: int = 1  # newest checkpoints to keep; the one with the best evaluation is kept, too
    track: Literal["", "trackio", "wandb"] = ""  # follow the run with this package, too
    # test time, with a trained --model
    ask: str | None = None  # a problem (`-`: from standard input): sample eval_n solutions, vote
    score: str | None = None  # a file of problem and response columns: their self-rewards to --out
    eval_only: bool = False  # evaluate --model on --eval_data: 0 steps, nothing trained or saved
    # warm start: a model that never earns a reward learns nothing, so let it imitate worked solutions first
    warm_start_steps: int = 0  # supervised steps before training, on the data's `solution` column
    warm_start_batch: int = 64  # worked solutions a step
    warm_start_lr: float = 1e-3  # peak learning rate; 5e-5 suits pretrained models


# -------------------------------------------------------------------------------------- the run and its steps

class Policy(NamedTuple):
    model: torch.nn.Module
    tokenizer: Any
    eos_ids: list  # any of them ends a solution
    zc: int  # the id of z_c


class Run(NamedTuple):
    """What `prepare` makes and `train` works with."""
    policy: Policy
    optimizer: torch.optim.Optimizer
    reference: torch.nn.Module | None  # the frozen starting model, for --kl and --exact_reference
    problems: list  # rows with `problem`, `answer` and `prompt`, its token ids
    eval_sets: dict  # name: such rows
    saved_step: int | None  # of the checkpoint that is there: where the run goes on
    logs: dict  # "metrics", "eval": the rows of each
    place: Any  # where all this is kept, see part III


def train(run, config, stop=()):
    """Train from run.saved_step to config.steps, evaluate, save.
    stop: a list that a signal handler fills; then the step in hand is the last."""
    done, saved = run.saved_step or 0, run.saved_step
    bar = progress(range(done, config.steps), initial=done, total=config.steps, desc="training")
    try:
        for step in bar:
            if config.eval_every and step % config.eval_every == 0:
                evaluate(run, step, config, stop)
            if asked_to_stop(stop):  # all processes agree on it
                break
            problems = problems_of_step(run.problems, step, config)
            figures, rollouts = training_step(
                run.policy, run.optimizer, problems, step, config, run.reference)
            done = step + 1
            log(run, "metrics", [figures])
            show(run, bar, figures, rollouts, config)
            if any(every and done % every == 0 for every in (config.save_every, config.eval_every)):
                save(run, done, config)
                saved = done
    finally:  # also when something has gone wrong: what is done is kept
        bar.close()
        if done != saved:  # None: nothing is there yet, not even step 0
            save(run, done, config)
        if done < config.steps:
            say(f"stopped after step {done}; continue with --resume", file=sys.stderr)
    if config.eval_every and not asked_to_stop(stop):
        evaluate(run, done, config, stop)
    if not asked_to_stop(stop):
        print_curves(run.logs["metrics"])
        print_table(run.logs["eval"])


def training_step(policy, optimizer, problems, step, config, reference=None):
    """Sample, verify, grade, update: (figures for metrics.jsonl, a row of each solution for rollouts.jsonl).
    problems: P rows; the rest is as in `Run`. All processes hold all B solutions and share the work."""
    G, clock = config.group_size, [time.perf_counter()]

    # 1. Sample G solutions to each problem, reading log π(z_c|x,y) after each. The uniform numbers u, fixed
    #    in advance, pick the tokens. `sample_together` splits the work and calls `sample`, below.
    prompts = [row["prompt"] for row in problems]
    u = uniforms(len(prompts) * G, config.max_response_tokens, "train", config.seed, step)
    solutions = sample_together(policy, prompts, G, u, config)
    responses = solutions.responses()
    texts = texts_of(policy, responses)
    clock.append(time.perf_counter())

    # 2. Verify.
    problem_of, prompt_of = repeated(problems, G), repeated(prompts, G)  # of each of the B solutions
    rewards = verify(texts, problem_of, solutions.complete, config)
    clock.append(time.perf_counter())

    # 3. The self-rewards: no second pass, as log π(z_c) is known already.
    ref_logps, ref_logp_zc = None, torch.full_like(rewards, config.c_ref)  # a constant for all B
    if reference is not None:
        ref_logps, exact = all_token_logps(reference, prompt_of, responses, policy.zc, config)
        if config.exact_reference:
            ref_logp_zc = exact
    self_rewards = self_reward_of(solutions.logp_zc, ref_logp_zc, config)

    # 4. Advantages, in which the self-reward has a say once it is learnt.
    alpha, tau = schedule(step, config)
    advantages = group_advantages(rewards, G)
    if tau:
        advantages = mix_advantages(advantages, self_rewards, solutions.complete, G, tau, config.min_std)

    # 5. Descend L_policy + α L_self.
    mask = torch.arange(u.size(1), device=rewards.device) < solutions.lengths[:, None]
    weights = class_weights(rewards, solutions.complete, config.balanced)
    batch = Batch(
        prompts=prompt_of, responses=responses, mask=mask, sampler_logps=solutions.logps, rewards=rewards,
        advantages=advantages, weights=weights, ref_logp_zc=ref_logp_zc, ref_logps=ref_logps)
    losses = update(policy, optimizer, batch, alpha, config)
    clock.append(time.perf_counter())
    figures = step_figures(step + 1, batch, solutions, self_rewards, losses, clock, config)
    return figures, rows_of(config.data, problem_of, responses, texts, solutions, rewards, self_rewards)


def schedule(step, config):
    """(α, τ) of a step: first GRPO alone, then the self-reward is learnt, and only then it has a say.
    Where α = 0 it is never learnt, so τ is 0, too: mixing it in would add noise to plain GRPO."""
    learnt_for = step - config.reasoning_warmup
    alpha = config.alpha if learnt_for >= 0 else 0.0
    tau = config.tau if alpha and learnt_for >= config.self_reward_warmup else 0.0
    return alpha, tau


def texts_of(policy, responses):
    """What is judged and kept of responses: all but EOS, so special tokens, too: `</think>` may be one."""
    written = [ids[:-1] if ids[-1] in policy.eos_ids else ids for ids in responses]
    return policy.tokenizer.batch_decode(written, skip_special_tokens=False)


def verify(texts, problems, complete, config, strict=True):
    """r_v (B,): 1 if a solution is right, 0 if not, or if cut at T. In training (`strict`) it needs exactly
    one box, so it cannot try two. One process judges it, and all get the verdict."""
    judge = reward_function(config, strict)
    rewards = torch.zeros(len(texts), device=complete.device)
    for mine in rank_share([[i] for i in range(len(texts))]):
        for i in mine:  # what others judge is 0 here: the sum joins them
            rewards[i] = judge(texts[i], problems[i])
    return torch.where(complete, all_reduce(rewards), 0.0)


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


@torch.no_grad()
def sample(model, prompts, group_size, u, eos_ids, zc, temperature=1.0, on_step=lambda n: None):
    """Sample `group_size` solutions for each prompt, reading log π(z_c) after each: Solutions, on its device.
    prompts: P lists of token ids; u: (B, T) uniform numbers in (0, 1]. Token t of solution i is the inverse
    of the model's cumulative distribution at u[i, t]: up to rounding, what else runs does not change what is
    drawn. Temperature 0 is greedy. Any of `eos_ids` ends a solution, and is fed to the model for one more
    step: in place of a next token log π(z_c) is read, untempered (paper, section 3.3: the self-reward costs
    one token). All start together, so all are at their token t in the same step; `on_step` gets how many."""
    model.eval()
    device = model.device
    B, T = u.shape
    u = u.to(device)
    with device:
        eos = torch.tensor(eos_ids)
        tokens = torch.zeros(B, T, dtype=torch.long)
        logps = torch.zeros(B, T)
        lengths = torch.full((B,), T)  # until an EOS sets it
        complete = torch.zeros(B, dtype=torch.bool)
        logp_zc = torch.full((B,), -torch.inf)
        rows = torch.arange(B)  # (R,) the solutions that still run: all of them, at first
    cache = RunningCache(B, max(map(len, prompts)) + T)  # keys and values; z_c is only read, never fed
    logits, position = prefill(model, cache, prompts, group_size)
    for t in range(T + 1):
        # 1. Where token t − 1 was an EOS, nothing more is drawn: z_c is read.
        logp = logits.float().log_softmax(-1)  # (R, V)
        just_ended = complete[rows] & (lengths[rows] == t)  # tokens 0 … t − 1 are all it has
        logp_zc[rows] = torch.where(just_ended, logp[:, zc], logp_zc[rows])
        if t == T:
            break

        # 2. All others draw token t. What has ended changes nothing until it leaves.
        drawn, drawn_logp = draw(logp, u[rows, t], temperature)
        running = ~complete[rows]
        tokens[rows, t] = torch.where(running, drawn, 0)
        logps[rows, t] = torch.where(running, drawn_logp, 0.0)
        ends = running & torch.isin(drawn, eos)
        lengths[rows] = torch.where(ends, t + 1, lengths[rows])
        complete[rows] |= ends
        on_step(len(rows))

        # 3. Once half have nothing left, the others go on alone: all that draw, or have just ended and have
        #    yet to read z_c; a row cut at T is done. A look waits for a GPU, so it is rare.
        if t % LOOK_EVERY.get(device.type, 16) == 0:
            stay = ((lengths[rows] > t) & (complete[rows] | (t < T - 1))).nonzero().squeeze(1)
            if not len(stay):
                break
            if 2 * len(stay) <= len(rows):
                rows, drawn, position = rows[stay], drawn[stay], position[stay]
                cache.keep(stay)

        # 4. Feed each row its newest token: advance(model, cache, …), of which a GPU replays a recording.
        logits = replayed(advance, model, cache, drawn, position + t)
    if not torch.isfinite(logps).all():
        fail("The model's probabilities are not finite: lower the learning rate, or mend damaged weights.")
    return Solutions(tokens, logps, lengths, complete, logp_zc)


def prefill(model, cache, prompts, group_size):
    """Run the prompts into the cache: logits (B, V) of the first tokens, positions (B,) they will take.
    A prompt runs once for all its solutions. Padding is on the right, unseen; later tokens take its slots."""
    sizes = torch.tensor([len(ids) for ids in prompts], device=model.device)
    at_a_time = max(1, PREFILL_TOKENS // max(map(len, prompts)))
    logits = []
    for first in range(0, len(prompts), at_a_time):
        batch = prompts[first : first + at_a_time]
        last = sizes[first : first + at_a_time] - 1
        filled = DynamicCache()
        ids = right_padded(batch, model.device)
        output = model.base_model(input_ids=ids, past_key_values=filled, use_cache=True)
        hidden = output.last_hidden_state[range(len(batch)), last]  # what follows is wanted here only
        logits.append(logits_of(model.get_output_embeddings(), hidden))
        cache.fill(filled, first, group_size)
    logits = torch.cat(logits)
    return logits.repeat_interleave(group_size, 0), sizes.repeat_interleave(group_size)


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
        drawn = drawn.clamp(max=logp.size(1) - 1)  # with nan it is V; `sample` reports it at the end
    return drawn, logp.gather(1, drawn[:, None]).squeeze(1)


def advance(model, cache, tokens, position):
    """Run one more token of every row (R,), at its position (R,): the logits (R, V) of what follows it."""
    output = model.base_model(
        input_ids=tokens[:, None], position_ids=position[:, None],
        attention_mask=cache.prepare(position),  # hides what lies beyond
        past_key_values=cache, use_cache=True)
    return logits_of(model.get_output_embeddings(), output.last_hidden_state[:, -1])


# -------------------------------------------------------------------------- log-probabilities and self-reward

def token_logps(model, prompts, responses, zc, temperature=1.0):
    """Teacher-forced log-probs of given responses: logps (b, T), 0 beyond a response's end, and logp_zc (b,).
    One forward pass over prompt + response, with z_c as the last target; the responses' positions are read:

        ids        x1   x2   x3   y1   y2   EOS  z_c  pad        here start = 2, size = 3
        position    0    1    2    3    4    5    6    7
        predicts    .    .   y1   y2  EOS  z_c    .    .         read: start … start + size, the last for z_c

    Padded on the right, where no real token sees it: no mask, no shifted position. The response is read at
    `temperature`, z_c always at 1, and after a cut response, too: there its weight in the loss is 0."""
    start = torch.tensor([[len(p) - 1] for p in prompts])
    size = torch.tensor([[len(r)] for r in responses])
    rows = [[*p, *r, zc] for p, r in zip(prompts, responses)]
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
    of_response = logps.new_zeros(inside.shape).masked_scatter(inside, logps[~is_zc])  # row by row, as read
    return of_response, logps[is_zc]


@torch.no_grad()
def all_token_logps(model, prompts, responses, zc, config):
    """`token_logps` of any number of responses, without gradient: logps (B, T), logp_zc (B,)."""
    model.eval()
    T = max(map(len, responses))
    logps = torch.zeros(len(prompts), T, device=model.device)
    logp_zc = torch.zeros(len(prompts), device=model.device)
    for rows in micro_batches(prompts, responses, model.device, config):
        x = [prompts[i] for i in rows]
        y = [responses[i] for i in rows]
        of_response, of_zc = token_logps(model, x, y, zc, config.temperature or 1.0)  # greedy has none
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
    """log Z = log(1 + e^c_ref (e^(1/β) − 1)), nats, > 0: only the true verdict's term is tilted (z_c's).
    With c_ref = −23 (Qwen2.5) and β = 0.1 it is 2e-6. When c_ref + 1/β is near 0, r_s = 1 would ask for more
    probability than there is: the run warns. A small model, with e^-8, needs a β of 0.2 or more."""
    return math.log1p(math.exp(c_ref) * math.expm1(1 / beta))


# -------------------------------------------------------------------------------------- advantages and losses

def group_advantages(rewards, group_size):
    """GRPO: (r − mean) / (std + 1e-6) in each group of G solutions to one problem, unbiased std. (B,) → (B,).
    A group whose rewards are all equal gets 0: nothing to prefer. It still trains the self-reward."""
    groups = rewards.float().reshape(-1, group_size)
    mean = groups.mean(1, keepdim=True)
    std = groups.std(1, keepdim=True)
    differ = (groups != groups[:, :1]).any(1, keepdim=True)  # the mean of equal fractions is rounded
    return (differ * (groups - mean) / (std + 1e-6)).reshape(-1)


def mix_advantages(advantages, self_rewards, complete, group_size, tau, min_std):
    """(1 − τ) A_v + τ A_s, with A_s of the self-rewards clipped to [0, 1] (paper, section 3.4). All (B,).
    A cut solution's (complete False) counts as 0. Where a group's std is ≤ min_std, dividing by it
    would amplify noise: such a group keeps A_v."""
    clipped = torch.where(complete, self_rewards.clamp(0, 1), 0.0)
    std = clipped.reshape(-1, group_size).std(1)
    told_apart = (std > min_std).repeat_interleave(group_size)
    mixed = (1 - tau) * advantages + tau * group_advantages(clipped, group_size)
    return torch.where(told_apart, mixed, advantages)


def policy_loss(logps, old_logps, advantages, mask, clip_low, clip_high, total):
    """PPO's clipped objective, negated: the sum over tokens divided by `total`, their number in the step.
    logps, old_logps (B, T); advantages (B,), the same for all tokens of a solution; mask (B, T) True on
    response tokens, EOS included: it is a decision of the policy like any other."""
    A = advantages[:, None]
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()  # π / π_old of each token
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    # Past the clip, in the direction that A wants, nothing is gained; the minimum leaves the way back open.
    gain = torch.where(mask, torch.minimum(ratio * A, clipped * A), 0.0)
    return -gain.sum() / total


def class_weights(rewards, complete, balanced=True):
    """The paper's w, (B,): N/(2 N_c) for N_c right and N/(2 N_i) for N_i wrong solutions, N complete ones.
    So both classes weigh half (if one alone occurs, its solutions weigh 1/2 each), and calling everything
    wrong does not pay when most are. Cut solutions weigh 0; all others 1 if not `balanced`."""
    if not balanced:
        return complete.float()
    right = complete & (rewards > 0.5)
    wrong = complete & ~right
    N = complete.sum()
    N_c = right.sum().clamp(min=1)
    N_i = wrong.sum().clamp(min=1)
    return right * N / (2 * N_c) + wrong * N / (2 * N_i)


def self_reward_loss(self_rewards, rewards, weights, total):
    """1/(N_c+N_i) Σ w (r_s − r_v)² of complete solutions, unclipped r_s, all (B,) (paper, eq. 10): scalar.
    weights: `class_weights` over the whole step, 0 where cut; total: N_c + N_i of the whole step."""
    error = torch.where(weights > 0, self_rewards - rewards, 0.0)  # −inf where cut; 0 · inf is nan
    return (weights * error**2).sum() / total


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
    return (d.exp() - d - 1).sum() / total


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
    ref_logp_zc: torch.Tensor  # (B,) c_ref, or log π_ref(z_c|x,y) of an exact reference
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
        return Batch(*map(part, self))  # column by column


def update(policy, optimizer, batch, alpha, config):
    """K optimizer updates (config.updates) on the solutions of a step: a dict of figures, means over the K.
    All parts of L = L_policy + α L_self (+ kl · KL) are sums over the step divided by totals of the step: how
    it is split into micro-batches changes nothing, and gradients of several processes are added."""
    model = policy.model.train()  # only for gradient checkpointing: `load_model` has set all dropout to 0
    n_tokens = sum(map(len, batch.responses))
    n_complete = int((batch.weights > 0).sum().clamp(min=1))
    low, high = config.clip_low, config.clip_high
    regression = config.self_loss == "mse"
    self_loss = self_reward_loss if regression else self_reward_cross_entropy
    old = torch.zeros_like(batch.sampler_logps)  # (B, T) log π_old: what the first update finds
    finished = []  # updates: a row of figures for each

    def gradient():  # adds that of L to the weights', and gives the sums of five figures over the step
        sums = 0
        for rows in micro_batches(batch.prompts, batch.responses, model.device, config):
            part = batch.take(rows)
            logps, logp_zc = token_logps(model, part.prompts, part.responses, policy.zc, config.temperature)
            # The first update's solutions come from exactly these weights: the old log-probs are this very
            # pass, detached. So the ratio is exactly 1, nothing is clipped, and the gradient of ratio · A is
            # A ∇ log π, the policy gradient. The sampler's differ by rounding, as `logp_mismatch` watches.
            if not finished:
                old[rows, : logps.size(1)] = logps.detach()
            old_logps = old[rows, : logps.size(1)]
            of_zc = self_reward(logp_zc, part.ref_logp_zc, config.beta) if regression else logp_zc
            L_policy = policy_loss(logps, old_logps, part.advantages, part.mask, low, high, n_tokens)
            L_self = self_loss(of_zc, part.rewards, part.weights, n_complete)
            L_kl = L_policy.new_zeros(())
            if config.kl:
                L_kl = kl_penalty(logps, part.ref_logps, part.mask, n_tokens)
            loss = L_policy + alpha * L_self + config.kl * L_kl
            loss.backward()
            ratio = (logps.detach() - old_logps).exp()  # 1 beyond a response's end, where all log-probs are 0
            outside = ratio != ratio.clamp(1 - low, 1 + high)
            mismatch = (old_logps - part.sampler_logps).abs()
            shares = outside.sum() / n_tokens, mismatch.sum() / n_tokens
            sums = sums + torch.stack([L_policy, L_self, L_kl, *shares]).detach()
        return sums

    for _ in range(config.updates):
        sums = all_reduce(as_memory_allows(gradient, model, optimizer, config))
        grad_norm = clip_gradient(model, optimizer, config.grad_clip)  # over all parts and processes
        if not (torch.isfinite(grad_norm) and torch.isfinite(sums).all()):
            optimizer.zero_grad()
            fail("The loss or its gradient is not finite; what was learnt before is kept: lower --lr, --kl.")
        optimizer.step()
        optimizer.zero_grad()
        finished.append([*sums.tolist(), grad_norm.item()])
    means = [sum(column) / config.updates for column in zip(*finished)]
    names = "policy_loss", "self_reward_loss", "kl", "clip_fraction", "logp_mismatch", "grad_norm"
    return dict(zip(names, means))


# ----------------------------------------------------------------------------------- self-verification, votes

def verification_metrics(self_rewards, rewards):
    """How well unclipped self-rewards tell right from wrong (rewards 0/1), both (N,) of complete ones, CPU.
    Above 0.5 says «right». f1: harmonic mean of the shares of right and of wrong solutions that are called
    so, the paper's self-verification F1 (not of precision and recall). auroc: chance that a right solution
    has a higher one than a wrong one, ties count half. ece: gap between mean clipped self-reward and mean
    reward, by tenths of [0, 1]. brier: mean of (clip(r_s, 0, 1) − r_v)². nan where a class is empty."""
    self_rewards = self_rewards.double()
    right = rewards > 0.5
    tpr = (self_rewards[right] > 0.5).double().mean()
    tnr = (self_rewards[~right] <= 0.5).double().mean()
    f1 = 2 * tpr * tnr / (tpr + tnr).clamp(min=1e-9)  # 0 where both are
    # AUROC by ranks, 1 … N; equal values share the mean of theirs. The right ones' ranks sum to n (n + 1) / 2
    # at least; each pair in the right order adds 1 to that.
    _, which, counts = self_rewards.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts.double() - 1) / 2)[which]
    n, m = right.sum(), (~right).sum()
    auroc = (ranks[right].sum() - n * (n + 1) / 2) / (n * m)  # 0/0 is nan
    clipped = self_rewards.clamp(0, 1)
    error = clipped - rewards
    gaps = (clipped * 10).long().clamp(max=9).bincount(weights=error)  # by tenths of [0, 1]
    ece = gaps.abs().sum() / (n + m)
    brier = error.square().mean()
    return {"f1": f1, "auroc": auroc, "ece": ece, "brier": brier}


def vote(classes, weights, rewards, members):
    """What voting with k of n samples earns on average, (P,): the reward of the answer with most weight.
    classes (P, n): equal numbers < n are equivalent answers, −1 is none and casts no vote; weights (P, n) ≥
    0: 1 for a majority vote, the clipped self-reward for a weighted one; members (S, n): a row a trial, 1 for
    the k samples that vote in it (`subsets`). A tie shares its reward. A class for each: best-of-n."""
    n = classes.size(1)
    belongs = F.one_hot(classes + 1, n + 1)[..., 1:].double()  # (P, n, C): is this its answer? −1: none is
    votes = members @ belongs  # (S, n) @ (P, n, C) → (P, S, C): how many in each trial
    total = members @ (belongs * weights[..., None])
    total = torch.where(votes > 0, total, -torch.inf)
    best = total.amax(-1, keepdim=True)
    ties = total >= best - 1e-9  # 0.1 + 0.2 ties with 0.3, though not in binary
    wins = ((votes > 0) & ties).double()  # none without an answer
    of_answer = (belongs * rewards[..., None]).sum(1) / belongs.sum(1).clamp(min=1)  # (P, C) mean reward
    credit = wins * of_answer[:, None]
    share = credit.sum(-1) / wins.sum(-1).clamp(min=1)  # (P, S)
    return share.mean(1)


# ================================================================================= Part II: what it learns on
# --------------------------------------------------------------------------------------- problems and prompts

PAIRS = {"pairs": (4, 5), "pairs-heldout": (4, 5), "pairs-hard": (6, 6)}  # how many numbers
BENCHMARKS = "HuggingFaceH4/MATH-500", "math-ai/aime24", "math-ai/aime25", "math-ai/amc23"
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."
PROBLEMS = ("problem", "question", "prompt", "messages")  # columns by name, in this order
ANSWERS = ("answer", "final_answer", "ground_truth", "expected_answer", "reward_model.ground_truth",
           "solution")


def pair_problems(name, count):
    """Built-in problems «which two of these numbers add up to T?»: distinct digits, exactly one such pair.
    Each row has problem, answer and a `solution` by a careless writer, who picks the right pair 3 times in
    10, but always adds up correctly. Deterministic; no problem of `pairs` occurs under another name."""
    rng = random.Random(seed_of("pairs", name))
    rows = []
    while len(rows) < count:
        size = rng.randint(*PAIRS[name])
        a, b, *others = rng.sample(range(1, 10), 9)
        total, numbers = a + b, [a, b]
        for x in others:
            if len(numbers) < size and total - x not in numbers:
                numbers.append(x)
        held_out = seed_of(sorted(numbers), total) % 8 == 0
        if len(numbers) < size or held_out == (name == "pairs"):
            continue
        rng.shuffle(numbers)
        wrong = [pair for pair in itertools.combinations(numbers, 2) if sum(pair) != total]
        written = (a, b) if rng.random() < 0.3 else rng.choice(wrong)
        c, d = rng.sample(written, 2)
        rows.append({"problem": f"{' '.join(map(str, numbers))}:{total}=", "answer": f"{a},{b}",
                     "solution": f"{c}+{d}={c + d}\\boxed{{{c},{d}}}"})
    return rows


def problems_of_step(problems, step, config):
    """The P problems of a step: a shuffle each epoch, read in order. A function of the step: no state."""
    n = len(problems)
    @functools.cache
    def order(epoch):
        generator = torch.Generator().manual_seed(seed_of("order", config.seed, epoch))
        return torch.randperm(n, generator=generator)

    first = step * config.prompts_per_step
    return [problems[order(i // n)[i % n]] for i in range(first, first + config.prompts_per_step)]


def load_problems(name, train, config):
    """Rows {problem, answer[, messages][, solution][, columns]} of a data set, less what teaches nothing."""
    if name in PAIRS:
        return pair_problems(name, 20000 if train else 200)
    say(f"reading {name}")
    table, origin = read_table(name, train)

    def column(flag, known):  # held-out sets need not have the one that the flag names
        there, given = table.column_names, getattr(config, flag)
        names = [given] if given and (train or given in there) else known
        for found in names:
            if found in there:
                return found
        fail(f"{name} has no column {' or '.join(names)} among {', '.join(there)}; give --{flag}.")

    asked, gold = column("problem_column", PROBLEMS), column("answer_column", ANSWERS)
    if table.features[gold] == datasets.Value("float32"):  # 0.1, not 0.10000000149011612
        table = table.cast_column(gold, datasets.Value("string"))
    rows = [question(x) | {"answer": gold_answer(y)} for x, y in zip(table[asked], table[gold])]
    if train and config.warm_start_steps:
        for row, text in zip(rows, table["solution"]):
            row["solution"] = str(text or "")
    if config.reward:  # which may want to see them
        for row, cells in zip(rows, table):
            row["columns"] = cells
    rows = [row for row in rows if isinstance(row["problem"], str) and row["problem"].strip()]
    kept = [row for row in rows if config.reward or checkable(row["answer"])]
    say(f"{name}, {origin}: {len(table)} rows, {len(rows)} with a problem in {asked}, {len(kept)} of them "
        f"with a checkable answer in {gold}")
    if not kept:
        fail(f"{name} has nothing to learn from; give other data, or name its columns.")
    guessed = sum(row["answer"].lower() in ("yes", "no", "true", "false") for row in kept)
    if guessed > 0.1 * len(kept):
        say(f"warning: {guessed} answers are yes, no, true or false: guessing earns half", sys.stderr)
    distinct = {str(row.get("messages", row["problem"])): row for row in kept}
    if not train and len(distinct) < len(kept):  # their samples would be the same
        say(f"{name}: {len(kept) - len(distinct)} rows repeat a problem, which is asked once")
        kept = [*distinct.values()]
    return kept


def read_table(name, train):
    """(Dataset, its origin) of a local file or of the hub; what lies in dicts becomes columns a.b."""
    kind = FORMATS.get(Path(name.removesuffix(".gz")).suffix)
    if Path(name).is_file() and (not kind or not os.path.getsize(name)):
        fail(f"{name} is empty, or no .jsonl, .json, .parquet or .csv file.")
    if kind == "csv":  # cells as written: 007, 0.50, NA
        cells = pandas.read_csv(name, dtype=str, keep_default_na=False, index_col=False)
        return datasets.Dataset.from_pandas(cells), "all rows"
    if kind:
        table = datasets.load_dataset(kind, data_files=glob.escape(name), split="train")
        return table.flatten(), "all rows"
    source, subset, split, *_ = [name, "", ""] if Path(name).exists() else [*name.split(":"), "", ""]
    splits = datasets.load_dataset(source, subset or ("main" if source == "openai/gsm8k" else None))
    usual = ["train"] if train else ["test", "validation", "train"]
    split = split or next(split for split in [*usual, *splits] if split in splits)
    return splits[split].flatten(), f"split {split} of {', '.join(splits)}"


def question(cell):
    """{problem[, messages]} of a cell: a text, or messages; their problem is the last one, if a user's."""
    cell, messages = listed(cell, dict), []
    if not isinstance(cell, list):
        return {"problem": cell}
    for message in cell:
        content = message["content"]
        if isinstance(content, list) and all(part.get("text") for part in content):  # else no problem: images
            content = "".join(part["text"] for part in content)
        messages.append({"role": message["role"], "content": content})
    while messages and messages[-1]["role"] == "assistant":  # a worked solution: not for the prompt
        messages.pop()
    asked = messages and messages[-1]["role"] == "user"
    return {"problem": messages[-1]["content"] if asked else "", "messages": messages}


def gold_answer(value):
    """The answer in a cell, as text: a solution's box, what follows `####` (GSM8K), or "". Items of a list
    must be equal: else it is not known whether one or all of them are wanted."""
    value = "" if value is None else listed(value, str)
    if isinstance(value, list):
        golds = [gold_answer(item) for item in value]
        return golds[0] if len({*group(golds)}) == 1 else ""
    text = str(value)
    return extract_answer(text) or text.rsplit("####", 1)[-1].strip()


def listed(cell, kind):
    """The list of `kind` that a text writes, in JSON or Python: ["27"], not [1, 2]; else the cell itself."""
    for read in (json.loads, ast.literal_eval) if str(cell).startswith("[") else ():
        with contextlib.suppress(Exception):
            found = read(cell)
            return found if isinstance(found[0], kind) else cell
    return cell


def reward_function(config, strict=False):
    """What judges (response, row) → 0 … 1: the verifier, or the user's function of response, gold[, row]."""
    if not config.reward:
        return lambda response, row: reward(response, row["answer"], strict=strict)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, function = config.reward.partition(":")
    judge = getattr(importlib.import_module(module), function)
    arguments = inspect.signature(judge).parameters.values()
    needed = [x for x in arguments if x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD]

    def checked(response, row):
        given = response, row["answer"], row | row.get("columns", {})
        value = float(judge(*given[: max(2, len(needed))]))
        return value if 0 <= value <= 1 else fail(f"--reward {config.reward} returned {value}, not 0 … 1.")
    return checked


def encode_prompts(policy, rows, config):
    """Token ids of each row's problem as the model is asked it: suffix, chat template and all."""
    tokenizer, suffix = policy.tokenizer, config.prompt_suffix
    texts, chats = [], []
    for row in rows:
        line = suffix if suffix is not None else "" if "messages" in row else SUFFIX
        texts.append(f"{row['problem']}\n{line}".removesuffix("\n"))
        chats.append([*row.get("messages", [])[:-1], {"role": "user", "content": texts[-1]}])
    if tokenizer.chat_template:
        options = {"add_generation_prompt": True, "tokenize": False} | json.loads(config.template_kwargs)
        texts = tokenizer.apply_chat_template(chats, **options)
    elif any("messages" in row for row in rows):
        fail("The data are messages, and the model has no chat template; give problems as text.")
    prompts = tokenizer(texts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    for ids in prompts:  # some tokenizers append EOS to whatever they encode
        while ids and ids[-1] in policy.eos_ids and not tokenizer.chat_template:
            ids.pop()
    return prompts


def add_prompts(rows, policy, config, name):
    """The rows with their `prompt` token ids; empty and over-long prompts are dropped and counted."""
    most = config.max_prompt_tokens
    prompts = []
    for first in range(0, len(rows), 4096):  # a tokenizer holds 100 bytes a token, an array 4
        some = encode_prompts(policy, rows[first : first + 4096], config)
        prompts += [array("i", ids) for ids in some]
    kept = [row | {"prompt": ids} for row, ids in zip(rows, prompts) if 0 < len(ids) <= most]
    said = f"{name}: {len(kept)} of {len(rows)} prompts have 1 to {most} tokens (--max_prompt_tokens)"
    if not kept:
        fail(f"{said}; raise it, or choose other problems.")
    say(said)
    asked = "".join(policy.tokenizer.decode(list(row["prompt"])) for row in kept[:99])
    if name == config.data and not ("boxed" in asked or config.reward or config.warm_start_steps):
        say(f"warning: {name} asks for no \\boxed{{}}, which alone earns; see --prompt_suffix", sys.stderr)
    check_positions(policy, name, max(len(row["prompt"]) for row in kept) + config.max_response_tokens)
    return kept


def check_positions(policy, name, longest):
    """Refuse rows that are longer than the sampler can follow; c_ref and the warm start add one token."""
    c = policy.model.config
    most = getattr(c, "max_position_embeddings", None) or math.inf
    rope = getattr(c, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):  # all positions are scaled anew beyond this
        most = min(most, rope.get("original_max_position_embeddings") or most)
    if "sliding_attention" in (getattr(c, "layer_types", None) or ["sliding_attention"]):
        most = min(most, getattr(c, "sliding_window", None) or most)
    if longest + 1 > most:
        fail(f"A prompt of {name} with its solution may take {longest + 1} positions; the model's end, or "
             f"change, at {most}: lower --max_response_tokens or --max_prompt_tokens, or drop long rows.")


# ------------------------------------------------------------------------------------------------- warm start

def character_tokenizer():
    """A tokenizer of printable ASCII, one token a character (others: none), for models that come without.
    A byte-level BPE without merges: `AutoTokenizer` restores it from a checkpoint of any architecture."""
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    symbols = [*special.values(), "Ċ", "Ġ", *map(chr, range(33, 127))]  # Ċ, Ġ: newline and space here
    core = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def warm_start(policy, problems, config):
    """Imitate worked solutions: cross-entropy per token, with a learning rate that falls linearly to 0."""
    model, tokenizer, eos = policy.model.train(), policy.tokenizer, policy.eos_ids[0]
    rng = random.Random(seed_of("warm start", config.seed))
    optimizer = make_optimizer(model, config.warm_start_lr, config.weight_decay)
    worked = tokenizer([row["solution"] for row in problems], add_special_tokens=False)["input_ids"]
    kept = [i for i, ids in enumerate(worked) if 0 < len(ids) < config.max_response_tokens]
    size = min(len(kept), config.warm_start_batch)
    said = f"{len(kept)} of {len(worked)} solutions have 1 to --max_response_tokens tokens, {size} a step"
    if size < WORLD:  # all processes must take part in each pass
        fail(f"{said}: too few to imitate; raise it.")
    say(f"warm start: {said}")
    for step in progress(range(config.warm_start_steps), desc="warm start", leave=False):
        rows = rng.sample(kept, size)
        optimizer.param_groups[0]["lr"] = config.warm_start_lr * (1 - step / config.warm_start_steps)
        prompts = [problems[i]["prompt"] for i in rows]
        documents = [worked[i] + [eos] for i in rows]
        if not tokenizer.chat_template:
            # As in pretraining another document follows, so the model learns what comes after EOS, for z_c.
            documents = [[*ids, problems[i - 1]["prompt"][0]] for ids, i in zip(documents, rows)]
        total = sum(map(len, documents))
        for part in micro_batches(prompts, documents, model.device, config):
            x = [prompts[i] for i in sorted(part)]
            y = [documents[i] for i in sorted(part)]
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
    """Keys and values of the running rows: row i's token at position p sits in slot p, written in place; what
    lies beyond is masked. So prompts of different lengths run side by side without left padding."""

    def __init__(self, rows, slots):
        super().__init__(layers=[])
        self.shape, self.used, self.graph = (rows, slots), 0, {}  # graph: see `replayed`
        self.kv = []  # one [keys, values] a layer, each (R, kv_heads, slots, d)

    def fill(self, filled, first, times):
        """Take in prefilled prompts, from the one with index `first` on, each for `times` rows."""
        R, slots = self.shape
        for i, layer in enumerate(filled.layers):
            new = layer.keys, layer.values
            if i == len(self.kv):
                self.kv.append([x.new_zeros(R, x.size(1), slots, x.size(3)) for x in new])
            for store, x in zip(self.kv[i], new):
                rows = slice(first * times, (first + len(x)) * times)
                store[rows, :, : x.size(2)] = x.repeat_interleave(times, 0)
        self.used = max(self.used, filled.get_seq_length())

    def keep(self, rows):
        for pair in self.kv:
            pair[:] = (x[rows] for x in pair)
        self.graph = {}

    def prepare(self, position):
        """The mask (R, 1, 1, read) of a step that writes at `position` (R,): −inf on what lies beyond."""
        self.at = torch.arange(len(position), device=position.device), slice(None), position
        beyond = torch.arange(self.read, device=position.device) > position[:, None]
        return torch.where(beyond, -torch.inf, 0.0)[:, None, None]

    def update(self, keys, values, layer, *_, **__):
        for store, new in zip(self.kv[layer], (keys, values)):
            store[self.at] = new[:, :, 0]
        return [store[:, :, : self.read] for store in self.kv[layer]]


def replayed(step, model, cache, *inputs):
    """step(model, cache, *inputs), by CUDA graphs: recorded once, its 1,400 kernels are a single launch.
    A graph repeats the numbers and addresses of its recording: it is good for the cache that owns it, and for
    one number of rows and of slots read, its key. The step runs as usual first, to warm up; the first replay
    must equal it. In `sample` FSDP's weights stay in place, and its hooks rest."""
    bucket = GRAPH_SLOTS.get(model.device.type, 1)
    cache.used += 1  # a Python number: no wait for the device
    cache.read = min(math.ceil(cache.used / bucket) * bucket, cache.shape[1])
    key = len(inputs[0]), cache.read
    if key in cache.graph:
        graph, own, output = cache.graph[key]
        torch._foreach_copy_(own, inputs)
        graph.replay()
        return output
    output = step(model, cache, *inputs)
    if bucket > 1:
        graph, own = torch.cuda.CUDAGraph(), [x.clone() for x in inputs]
        here = torch.cuda.stream(torch.cuda.current_stream())  # where to be again, also if it fails
        try:
            with here, torch.cuda.graph(graph, capture_error_mode="thread_local"):
                replay = step(model, cache, *own)
            graph.replay()
            torch.testing.assert_close(replay, output, rtol=0, atol=0.02 * output.abs().max().item())
            cache.graph = {key: (graph, own, replay)}  # of the last one nothing is left
        except (RuntimeError, AssertionError) as error:
            GRAPH_SLOTS.clear()
            say(f"warning: sampling goes on without CUDA graphs: {error}", sys.stderr)
    return output


def attention(module, query, key, value, mask, scaling=None, **options):
    """transformers' own; for one new token, query (b, heads, 1, d), key, value (b, kv_heads, S, d), products.
    Query heads that share a key head are more queries of it: no copies, on a CPU 1.5 times as fast."""
    b, heads, t, d = query.shape
    if mask is None or mask.dtype == torch.bool:  # not that of `RunningCache`
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **options)
    scores = query.reshape(b, key.size(1), -1, d) @ key.mT
    scores = scores.mul_(scaling or d**-0.5).add_(mask)  # (b, kv_heads, heads / kv_heads, S)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(b, t, heads, -1), None


AttentionInterface.register("laser", attention)
AttentionMaskInterface.register("laser", sdpa_mask)
SHARED_MEMORY = ("cpu", "mps")  # devices that use the machine's, and do not say how much is free
LOOK_EVERY = {"cpu": 1}  # tokens; elsewhere 16
PREFILL_TOKENS = 32768  # padded prompt tokens in one pass
FIRST_STAGE = 512  # response tokens
WIDE_SUMS = ("cuda",) if torch.version.cuda else ()  # devices whose torch.mm gives them
GRAPH_SLOTS = {"cuda": 128}  # of the cache, in which decoding steps are replayed; elsewhere none are
LOGITS_AT_A_TIME = 2**26  # numbers: 256 MiB in float32, about 440 tokens of a vocabulary of 152,000


class Product(torch.autograd.Function):  # (N, D), (V, D) → (N, V) float32, for which mm has no backward pass
    @staticmethod
    def forward(ctx, hidden, weight):
        ctx.save_for_backward(hidden, weight)
        return torch.mm(hidden, weight.T, out_dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad):
        (hidden, weight), grad = ctx.saved_tensors, grad.bfloat16()
        return grad @ weight, grad.T @ hidden


def logits_of(head, hidden):
    """head(hidden), (N, V); on a GPU not rounded to bfloat16, in which a logit of −30 has steps of 0.125."""
    if hidden.device.type not in WIDE_SUMS or hidden.dtype != torch.bfloat16:
        return head(hidden)
    logits = Product.apply(hidden, head.weight)
    return logits if head.bias is None else logits + head.bias


def chosen_logps(head, hidden, targets, temperature):
    """log softmax(head(hidden) / temperature)[targets], (N,) float32; hidden (N, D), the others (N,).
    The logits exist for a chunk at a time, and the backward pass computes them again: never N × V numbers."""
    def chunk(h, t, temp):
        logits = logits_of(head, h).float() / temp[:, None]
        return logits.gather(1, t[:, None]).squeeze(1) - logits.logsumexp(-1)

    size = max(1, LOGITS_AT_A_TIME // head.weight.size(0))
    chunks = zip(hidden.split(size), targets.split(size), temperature.split(size))
    return torch.cat([recompute_in_backward(chunk, *part, use_reentrant=False) for part in chunks])


def micro_batches(prompts, responses, device, config):
    """This process's lists of solutions' indices, longest first, of so many padded tokens (or one row)."""
    budget = token_budget(device, config)
    lengths = [len(p) + len(r) + 1 for p, r in zip(prompts, responses)]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches = []
    while order:
        size = max(1, budget // lengths[order[0]])
        batches.append(order[:size])
        order = order[size:]
    return rank_share(batches)


def token_budget(device, config):
    """Padded tokens in one pass. A GPU wants large matrices; 2,048 fill the cores of a CPU, and take far less
    of its memory."""
    of_gpu = 65536 if WORLD == 1 else 16384  # see below
    return config.micro_batch_tokens or (2048 if device.type in SHARED_MEMORY else of_gpu)


def as_memory_allows(gradient, model, optimizer, config):
    """gradient(), where memory runs out anew and from then on with half as many tokens at a time. Several
    processes meet in each pass, so the others would wait: there it fails."""
    budget = token_budget(model.device, config)
    try:
        return gradient()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or WORLD > 1 or budget < 2:
            raise
    config.micro_batch_tokens = budget // 2
    say(f"memory ran out in an update; on with {budget // 2} tokens at a time", sys.stderr)
    model.zero_grad()  # also of weights that FSDP has gathered, before it drops them
    if isinstance(model, FSDPModule):
        model.reset_iter_state()
    getattr(optimizer, "sums", {}).clear()
    optimizer.zero_grad()
    return as_memory_allows(gradient, model, optimizer, config)


def right_padded(lists, device="cpu"):
    """Lists of token ids as one tensor (rows, longest), filled up with 0."""
    rows = [torch.tensor([*ids]) for ids in lists]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)


def repeated(rows, times):
    return [row for row in rows for _ in range(times)]


def uniforms(rows, columns, *stream):
    """(rows, columns) uniform numbers in (0, 1], drawn on the CPU: the same on every device."""
    return 1 - torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed_of(*stream)))


def seed_of(*parts):
    """A 63-bit seed from any values. Each draw has a stream of its own, so no generator state is saved."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


# ------------------------------------------------------------------------------------------------- evaluation

def subsets(n, k):
    """0/1 membership (S, n) of the k-subsets of n samples: all, or 256 seeded random ones."""
    chosen = itertools.combinations(range(n), k)
    if math.comb(n, k) > 256:
        rng = random.Random(seed_of("subsets", n, k))
        chosen = (rng.sample(range(n), k) for _ in range(256))
    return F.one_hot(torch.tensor([*chosen]), n).sum(1).double()


def voting_metrics(classes, clipped, rewards):
    """mean@1 and pass@k (unbiased), maj@k, weighted@k, best@k for k = 1, 2, 4 … n, (P,), of inputs (P, n)."""
    n, right = rewards.size(1), (rewards > 0.5).sum(1).tolist()
    equal, own = torch.ones_like(clipped), torch.arange(n).expand_as(classes)
    values = {"mean@1": rewards.mean(1)}
    for k in sorted({n, *(2**i for i in range(n.bit_length()))}):
        members = subsets(n, k)
        passed = [1 - math.comb(n - c, k) / math.comb(n, k) for c in right]
        values[f"pass@{k}"] = torch.tensor(passed, dtype=torch.float64)
        values[f"maj@{k}"] = vote(classes, equal, rewards, members)
        values[f"weighted@{k}"] = vote(classes, clipped, rewards, members)
        values[f"best@{k}"] = vote(own, clipped, rewards, members)
    return values


def log_partition_now(logp_zc, beta):
    """log Z as the trained policy implies it: π(z_c) = π_ref(z_c) e^(1/β) / Z, so 1/Z = 1 − π(z_c) (1 −
    e^(−1/β)). logp_zc: (N,) of right, complete solutions. Mean over them, nats; nan if there are none."""
    return -torch.log1p(logp_zc.double().exp() * math.expm1(-1 / beta)).mean()


def number(value):
    """A float for JSON, which has no nan: null says «undefined»."""
    return float(value) if math.isfinite(value) else None


def solve(policy, problems, config, name="", reference=None):
    """Sample config.eval_n solutions a problem, read self-rewards, verify: rows of samples.jsonl, in order.
    Each problem has its own uniform numbers, so evaluations before and after differ by the model alone."""
    n, T = config.eval_n, config.max_response_tokens
    prompts = [row["prompt"] for row in problems]
    u = torch.cat([uniforms(n, T, "eval", config.seed, name, row["problem"]) for row in problems])
    solutions = sample_together(policy, prompts, n, u, config)
    responses, ref_logp_zc = solutions.responses(), config.c_ref
    if config.exact_reference:
        _, ref_logp_zc = all_token_logps(reference, repeated(prompts, n), responses, policy.zc, config)
    self_rewards = self_reward_of(solutions.logp_zc, ref_logp_zc, config)
    texts, problem_of = texts_of(policy, responses), repeated(problems, n)
    rewards = verify(texts, problem_of, solutions.complete, config, strict=False)
    return rows_of(name, problem_of, responses, texts, solutions, rewards, self_rewards)


def rows_of(name, problem_of, responses, texts, solutions, rewards, self_rewards):
    """What is kept of each solution, in rollouts.jsonl and samples.jsonl."""
    columns = (x.tolist() for x in (solutions.complete, rewards, self_rewards, solutions.logp_zc))
    rows = []
    for row, ids, text, complete, r_v, r_s, logp_zc in zip(problem_of, responses, texts, *columns):
        asked = {key: row[key] for key in ("problem", "messages") if key in row}
        answer = extract_answer(text) if complete else None  # what is cut has not given its answer yet
        rows.append({"data": name} | asked | {
            "gold": row["answer"], "response": text, "answer": answer, "reward": r_v,
            "self_reward": number(r_s), "logp_zc": number(logp_zc),
            "complete": complete, "tokens": len(ids), "last_token": ids[-1]})
    return rows


def summarise(samples, n, beta):
    """The figures of samples (n a problem, side by side), headlines `x` with `x_ci`, a 95% interval: a dict.
    The bootstrap resamples problems, as solutions of one problem are not independent. None is undefined."""
    def column(key):
        return torch.tensor([row[key] or 0.0 for row in samples], dtype=torch.float64).view(-1, n)  # (P, n)

    rewards, self_rewards, complete = column("reward"), column("self_reward"), column("complete").bool()
    P, answers = len(rewards), [row["answer"] for row in samples]
    labels = [label for i in range(0, P * n, n) for label in group(answers[i : i + n])]
    classes = torch.tensor([-1 if label is None else label for label in labels]).view(P, n)
    clipped = torch.where(complete & (classes >= 0), self_rewards.clamp(0, 1), 0.0)
    votes = voting_metrics(classes, clipped, rewards)

    def headlines(picked):  # of these problems (P,), which may repeat
        whole = complete[picked]
        verification = verification_metrics(self_rewards[picked][whole], rewards[picked][whole])
        return {name: values[picked].mean() for name, values in votes.items()} | verification

    picks = torch.randint(P, (500, P), generator=torch.Generator().manual_seed(seed_of("bootstrap", P)))
    resampled = torch.stack([torch.stack([*headlines(picked).values()]) for picked in picks])
    ends = resampled.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64), 0)  # nan if all are
    figures = {}
    for (name, value), ci in zip(headlines(torch.arange(P)).items(), ends.T):
        known = P > 1 and not ci.isnan().any()  # one problem does not tell how much others differ
        figures |= {name: number(value), f"{name}_ci": ci.tolist() if known else None}
    log_z = log_partition_now(column("logp_zc")[complete & (rewards > 0.5)], beta)
    ended, tokens = (column(key).mean().item() for key in ("complete", "tokens"))
    return figures | {"complete": ended, "response_tokens": tokens, "log_z": number(log_z)}


def evaluate(run, step, config, stop=()):
    """Sample, verify, vote: rows of eval.jsonl, samples.jsonl, all at once: if stopped, it begins again."""
    rows, samples, n = [], [], config.eval_n
    if any(row["step"] == step for row in run.logs["eval"]):
        return
    for name, problems in run.eval_sets.items():
        of_set = []
        for i in progress(range(0, len(problems), 64), desc=name, leave=False, delay=2):
            if asked_to_stop(stop):
                return
            of_set += solve(run.policy, problems[i : i + 64], config, name, run.reference)
        head = {"step": step, "data": name, "problems": len(problems), "n": n}
        rows.append(head | summarise(of_set, n, config.beta))
        samples += [{"step": step, **row} for row in of_set]
    write_json(run.place.out / "samples.jsonl", *samples)
    log(run, "eval", rows)


def step_figures(step, batch, solutions, self_rewards, losses, clock, config):
    """A line of metrics.jsonl. entropy: of the policy per token, by the log-probs of what it drew."""
    rewards, self_rewards, complete = batch.rewards.cpu(), self_rewards.cpu(), solutions.complete.cpu()
    logp_zc = solutions.logp_zc.cpu()
    right = complete & (rewards > 0.5)
    tokens = sum(map(len, batch.responses))
    groups = rewards.view(-1, config.group_size)
    equal = groups.amax(1) == groups.amin(1)
    sampling, verifying, training = (end - start for start, end in itertools.pairwise(clock))
    figures = {
        "reward": rewards.mean(), "reward_std": groups.std(1).mean(), "equal_groups": equal.double().mean(),
        "entropy": -solutions.logps.sum().item() / tokens, "complete": complete.double().mean(),
        "response_tokens": tokens / len(rewards), "lr": config.lr, **losses,
        **verification_metrics(self_rewards[complete], rewards[complete]),
        "logp_zc_right": logp_zc[right].mean(), "logp_zc_wrong": logp_zc[complete & ~right].mean(),
        "log_z": log_partition_now(logp_zc[right], config.beta), "seconds": clock[-1] - clock[0],
        "sample_seconds": sampling, "verify_seconds": verifying, "train_seconds": training,
        "sample_tokens_per_s": tokens / sampling,
        "train_tokens_per_s": (tokens + sum(map(len, batch.prompts))) / training}
    if batch.rewards.device.type not in SHARED_MEMORY:
        figures["peak_memory_gib"] = torch.accelerator.max_memory_allocated(batch.rewards.device) / 2**30
    return {"step": step} | {name: number(value) for name, value in figures.items()}


def show(run, bar, figures, rollouts, config):
    """The step's figures beside the bar, a solution eight times a run, all of this step in rollouts.jsonl."""
    step = figures["step"]
    metrics = [row for row in run.logs["metrics"] if "f1" in row]
    bar.set_postfix(reward=shown(figures["reward"]), f1=shown(figures["f1"]), refresh=False)
    if (step - 1) % max(1, config.steps // 8) == 0:
        row = rollouts[0]
        say(f"step {step}: {row['problem'][-200:]!r} → {row['response'][-200:]!r}: "
            f"reward {row['reward']:.2g}, self-reward {shown(row['self_reward'])}")
    noise = 3 * math.sqrt(0.5 / (config.prompts_per_step * config.group_size))  # of a difference of shares
    shares = [row["complete"] for row in metrics]
    few = [share < shares[0] - max(0.2, noise) for share in shares]
    if few[-1] and sum(few) == 1:  # once is enough
        say(f"warning: at step {step} {shares[-1]:.2f} of the solutions end by themselves, at first "
            f"{shares[0]:.2f}; raise --kl (now {config.kl:g}; try 0.1) or lower --alpha or --lr", sys.stderr)
    earned = [1, *(row["reward"] for row in metrics)]
    if any(earned[-21:-20]) and not any(earned[-20:]):
        say("warning: 20 steps without any reward; see rollouts.jsonl for what is missing", sys.stderr)
    write_json(run.place.out / "rollouts.jsonl", *({"step": step} | row for row in rollouts))


def shown(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def print_table(rows):
    """Evaluation rows, first and last of each data set, with half-widths of their 95% intervals."""
    ends = [row for row in rows if row["step"] in (rows[0]["step"], rows[-1]["step"])]
    table = []
    for row in sorted(ends, key=lambda row: row["data"]):
        table.append({"data": row["data"][-24:], "step": row["step"]})
        for name in ("mean@1", "pass@{n}", "maj@{n}", "weighted@{n}", "best@{n}", "f1", "auroc", "ece"):
            name = name.format(n=row["n"])
            ci = row.get(f"{name}_ci")
            table[-1][name] = f"{shown(row.get(name), 3)} ±{shown(ci and (ci[1] - ci[0]) / 2, 3)}"
    if table:
        say("\n" + pandas.DataFrame(table).fillna("").to_string(index=False))


def print_curves(rows):
    """Four figures over the run, each from 0 to 1, a block for a fortieth of its steps; 0 if undefined."""
    rows = [row for row in rows if "f1" in row]  # not those of changed settings
    width = max(1, math.ceil(len(rows) / 40))
    for name in ("reward", "f1", "auroc", "complete") if rows else ():
        values = [row[name] or 0.0 for row in rows]
        parts = (values[i : i + width] for i in range(0, len(values), width))
        blocks = ["▁▂▃▄▅▆▇█"[min(7, int(8 * sum(part) / len(part)))] for part in parts]
        say(f"{name:>8} {''.join(blocks)} {shown(rows[-1][name])}")


# ---------------------------------------------------------------------------------------------- model and z_c

def architecture(name):
    """The transformers configuration of a --model, without any dropout."""
    pointers = [file for file in Path(name).glob("*.safetensors") if file.stat().st_size < 512]
    if pointers or Path(name, "adapter_config.json").exists():
        fail(f"{name} holds an adapter, which must be merged, or git-lfs pointers, which must be pulled.")
    c = AutoConfig.from_pretrained(name)  # of a .json file, too
    if name.endswith(".json"):
        c.pad_token_id, c.eos_token_id, c.bos_token_id = 0, 1, None  # as `character_tokenizer` has it
        vars(c).pop("laser", None)  # our settings
    kinds = {"full_attention", "sliding_attention", *(getattr(c, "layer_types", None) or [])}
    capped = getattr(c, "final_logit_softcapping", None)  # which the probe's small logits would not show
    quantised = getattr(c, "quantization_config", None)
    if len(kinds) > 2 or c.get_text_config() is not c or capped or quantised:
        fail(f"{name} is quantised, or no text model with plain attention and logits; choose another.")
    for key, value in vars(c).items():  # a policy that changes at every look has no log-probabilities
        if "drop" in key and isinstance(value, (int, float)):
            setattr(c, key, 0.0)
    return c


UNUSED_TOKENS = "<|vision_start|>", "<|reserved_special_token_0|>", "<|extra_0|>", "<unused0>"  # in no text


def load_model(name, device, dtype, seed):
    """(model, tokenizer, an unused token): from the hub or a folder, or random weights for an architecture.
    Refused if this file would sample it wrongly: it follows plain causal transformers only."""
    c, options = architecture(name), {"dtype": dtype, "attn_implementation": "laser"}
    if name.endswith(".json"):
        tokenizer = character_tokenizer()
        torch.manual_seed(seed_of("weights", seed))
        with device:
            model = AutoModelForCausalLM.from_config(c, **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model, found = AutoModelForCausalLM.from_pretrained(
            name, config=c, output_loading_info=True, **options)
        model.to(device)
        if missing := sorted(found["missing_keys"]):  # which transformers fills with random numbers
            fail(f"{name} lacks weights, {', '.join(missing[:2])} …; give all.")
    if not is_followed(model, min(len(tokenizer), model.config.vocab_size)):
        fail(f"{name} computes its logits in a way that this sampler does not follow; choose another model.")
    if device.type != "cpu":
        old = model.gradient_checkpointing_enable  # its name before transformers 5.20
        getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})
    known = tokenizer.get_vocab()
    free = known.keys() - {tokenizer.pad_token, tokenizer.eos_token}
    beyond = max(known.values()) + 1  # ids may have holes, so their number may be a word's
    unused = next((known[token] for token in UNUSED_TOKENS if token in free), beyond)
    if unused >= model.config.vocab_size:
        torch.manual_seed(seed_of("embeddings"))  # drawn alike in policy and reference
        model.resize_token_embeddings(unused + 1)
    return model, tokenizer, unused


@torch.no_grad()
def is_followed(model, vocabulary):
    """Whether the sampler's log-probs are those of eager attention in training: noise would show, too."""
    prompts, last, same = [[1], [1, 2, 0]], vocabulary - 1, True  # the last stands for both EOS and z_c
    drawn = sample(model, prompts, 1, uniforms(2, 4, "probe"), [last], last)
    model.set_attn_implementation("eager")
    for x, y, sampled in zip(prompts, drawn.responses(), drawn.logps):
        ids = torch.tensor([x + y], device=model.device)
        logits = model.train()(ids, use_cache=False).logits[0, len(x) - 1 : -1].float()
        most = 1e-3 if model.dtype == torch.float32 else 0.2 + 0.02 * logits.abs().max().item()  # 8 bits
        same &= torch.allclose(logits.log_softmax(-1)[range(len(y)), y], sampled[: len(y)], atol=most)
    model.set_attn_implementation("laser")
    return same


def end_tokens(model, tokenizer, config):
    """All ids that end a solution: --end_token, or EOS, where several sources may disagree, and the special
    token with which the chat template ends an assistant's turn: base models often say it."""
    ids = {token_id(token, tokenizer) for token in config.end_token}
    sources = () if ids else (model.generation_config, model.config, tokenizer)
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        ids |= set(value) if isinstance(value, (list, tuple)) else {value}
    if sources and tokenizer.chat_template:
        chat = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "two2two"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, **json.loads(config.template_kwargs))
        rest = text.partition("two2two")[2].lstrip()  # nothing if the template changes or drops it
        tokens = tokenizer.added_tokens_decoder.items()
        ids |= {i for i, token in tokens if token.special and rest.startswith(token.content)}
    ids.discard(None)
    if not ids:
        fail("The model names no end-of-sequence token; give --end_token.")
    return sorted(ids, key=lambda i: (i != tokenizer.eos_token_id, i))  # the one to supply comes first


def token_id(wanted, tokenizer):
    """The id of a token that is given as its number or as itself."""
    found = int(wanted) if wanted.isdecimal() else tokenizer.get_vocab().get(wanted)
    return fail(f"{wanted!r} is no token of this model; give one, or its id.") if found is None else found


def load_policy(config, source, device):
    """The Policy of a model. z_c: --token, or one that the model never uses."""
    if config.param_dtype == "auto":
        config.param_dtype = choose_dtype(config, device)
    model, tokenizer, unused = load_model(source, device, config.param_dtype, config.seed)
    probe = "What is 2 + 3?\nx"
    read = tokenizer.decode(tokenizer.encode(probe, add_special_tokens=False))
    if read.strip() != probe:
        say(f"warning: the tokenizer loses text: it reads {probe!r} as {read!r}", sys.stderr)
    eos_ids = end_tokens(model, tokenizer, config)
    zc = unused if config.token is None else token_id(str(config.token), tokenizer)
    if max(zc, *eos_ids) >= model.config.vocab_size:
        fail(f"The model has no token {max(zc, *eos_ids)}; mend --token or --end_token.")
    if zc in (tokenizer.pad_token_id, *eos_ids):
        fail(f"--token {zc} already ends or pads sequences; choose one the model never uses.")
    return Policy(model, tokenizer, eos_ids, zc)


def measure_c_ref(policy, problems, config):
    """(mean, std) of log π_ref(z_c|x,y) over the starting model's solutions, nats; cut ones are given EOS.
    Refused if the model says z_c in these solutions: it must be a token that means nothing yet."""
    model, zc, eos_ids, G = policy.model, policy.zc, policy.eos_ids, config.group_size
    prompts = [row["prompt"] for row in problems_of_step(problems, 0, config)][:32]
    u = uniforms(len(prompts) * G, config.max_response_tokens, "c_ref", config.seed)
    responses = sample_together(policy, prompts, G, u, config).responses()
    responses = [r if r[-1] in eos_ids else r + eos_ids[:1] for r in responses]
    said, of = sum(r.count(zc) for r in responses), sum(map(len, responses))
    if said > 5 + 3 * of / model.config.vocab_size:  # clearly more than uniform noise
        fail(f"The model itself says token {zc} ({said} times in {of}); choose a --token it never uses.")
    _, logp_zc = all_token_logps(model, repeated(prompts, G), responses, zc, config)
    return logp_zc.mean().item(), logp_zc.std().item()


def report_c_ref(c_ref, std, config):
    """Print c_ref and log Z, and warn, with a remedy, where the derivation's assumptions do not hold."""
    log_z, spread = log_partition(c_ref, config.beta), config.beta * std
    measured = f" ± {std:.2f}" if std else ""
    say(f"c_ref = {c_ref:.2f}{measured} nats, beta = {config.beta:g}, log Z = {log_z:.2g}")
    if config.self_loss == "mse" and log_z > 0.05:
        enough = f"raise --beta to {math.ceil(-100 / (c_ref + 3)) / 100:.2f} or " if c_ref < -5 else ""
        say(f"warning: log Z = {log_z:.2f} is not close to 0, so no policy reaches a self-reward of 1; "
            f"{enough}choose a rarer --token", sys.stderr)
    if spread > 0.25 and not config.exact_reference:
        say(f"warning: log π_ref(z_c) spreads by {spread:.2f} of a reward: too much for a constant; "
            "choose another --token or use --exact_reference", sys.stderr)


# --------------------------------------------------------------------------------------- optimizer and memory

class BF16AdamW(torch.optim.Optimizer):
    """AdamW for bfloat16 weights and moments, 8 bytes a parameter with the gradient, by stochastic rounding.
    A step of lr 1e-6 on a weight of 0.01 is a fortieth of the way to the next number: to nearest it is lost;
    rounded up with probability 1/40 it arrives on average. So do moments. Draws are seeded by the step."""

    def __init__(self, params, lr, weight_decay):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, step=0))
        self.sums, [group] = {}, self.param_groups
        for p in group["params"]:  # now: a step that finds no memory would be half made
            self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        self.hooks = [p.register_post_accumulate_grad_hook(self.accumulate) for p in group["params"]]

    @staticmethod
    def pieces(*tensors):
        """The same pieces of all tensors' shards, flat: float32 copies exist for 64 Mi numbers at a time."""
        shards = (x.to_local() if isinstance(x, DTensor) else x for x in tensors)
        return zip(*(x.view(-1).split(2**26) for x in shards))

    def accumulate(self, p):
        """Add p.grad to the step's sum, rounded so, too: the hundredth micro-batch must not be lost in it."""
        if not self.sums:
            seed = seed_of("sums", self.param_groups[0]["step"], RANK)
            self.generator = torch.Generator(p.device).manual_seed(seed)
        grad, p.grad = p.grad.contiguous(), None
        if self.sums.setdefault(p, grad) is grad:
            return
        for piece, g in self.pieces(self.sums[p], grad):
            self.round_(piece, piece.float() + g.float(), self.generator)

    @staticmethod
    def round_(target, value, generator):
        """target (bfloat16) ← value (float32): its upper 16 bits, once noise in the lower 16 has carried."""
        bits = value.view(torch.int32)
        noise = torch.empty_like(bits).random_(2**16, generator=generator)
        target.copy_(((bits + noise) & -(2**16)).view(torch.float32))

    @torch.no_grad()
    def step(self, closure=None):
        [group] = self.param_groups
        group["step"] += 1
        lr, decay, step, b1, b2 = group["lr"], group["weight_decay"], group["step"], 0.9, 0.999
        changed = [p for p in group["params"] if p.grad is not None]
        generator = torch.Generator(changed[0].device).manual_seed(seed_of("rounding", step, RANK))
        for p in changed:
            state = self.state[p]
            for w, g, m, v in self.pieces(p, p.grad, state["m"], state["v"]):
                g = g.float()
                m32, v32 = m.float().lerp(g, 1 - b1), v.float().lerp(g * g, 1 - b2)
                change = (m32 / (1 - b1**step)) / ((v32 / (1 - b2**step)).sqrt() + 1e-8)
                self.round_(w, w.float() - lr * (change + decay * w.float()), generator)
                self.round_(m, m32, generator)
                self.round_(v, v32, generator)


def make_optimizer(model, lr, weight_decay):
    kind = BF16AdamW if model.dtype == torch.bfloat16 else functools.partial(torch.optim.AdamW, fused=True)
    return kind(model.parameters(), lr=lr, weight_decay=weight_decay)


def clip_gradient(model, optimizer, most):
    """Scale the gradient to a norm of at most `most`; returns the norm it had: scalar."""
    sums = getattr(optimizer, "sums", {})  # of BF16AdamW: they become the gradients
    for p in [*sums]:
        p.grad = sums.pop(p)
    return of_all(torch.nn.utils.clip_grad_norm_(model.parameters(), most))


def of_all(norm):
    """A norm of weights or gradients that may be split over the processes."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def choose_device(wanted):
    """torch.device of --device; under torchrun each process takes the accelerator of its LOCAL_RANK."""
    found = torch.accelerator.current_accelerator(check_available=True)
    kind = wanted.replace("auto", found.type if found else "cpu")
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)))


def choose_dtype(config, device):
    """float32 on a CPU, and on GPUs if it fits: 16 bytes a parameter (weight, gradient, two moments), shared
    out over the processes, and 2 for the copy that computes, 2 for a reference. Else bfloat16: 8 bytes."""
    if device.type in SHARED_MEMORY:
        return "float32"
    if config.ask is not None or config.score is not None:
        return "bfloat16"
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(architecture(config.model)).num_parameters()
    size = parameters * (16 / WORLD + (4 if config.kl or config.exact_reference else 2))
    return "float32" if size < 0.7 * torch.accelerator.get_memory_info(device)[1] else "bfloat16"


def rows_that_fit(model, slots):
    """How many solutions of `slots` tokens to sample at a time: 60% of a GPU's free memory; on a CPU 512."""
    c, device = model.config, model.device
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    size = 2 * c.num_hidden_layers * heads * head * 2  # bytes a token, in bfloat16
    if device.type in SHARED_MEMORY:
        return min(512, 2**32 // (2 * size * slots))
    torch.accelerator.empty_cache()  # what the last update left reserved is free for the cache
    to_come = sum(2 * p.numel() for p in model.parameters() if isinstance(p, DTensor))  # still to be gathered
    free = torch.accelerator.get_memory_info(device)[0] - to_come
    return int(0.6 * free / (size * slots))


# ------------------------------------------------------------------------------------------ several processes

# torchrun starts N processes with the same problems and uniform numbers. Each samples its share of the step
# and shows it to all, then trains on its share of the micro-batches: N take the step that one would.
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
EVERY = 0.1 if sys.stderr.isatty() else 10  # seconds, on a terminal or in a log file
progress = functools.partial(tqdm, dynamic_ncols=True, disable=RANK > 0, mininterval=EVERY)


def say(text, file=None):
    """Print, above a progress bar if there is one; only the first process speaks."""
    if RANK == 0:
        tqdm.write(text, file)
        (file or sys.stdout).flush()


def join(device):
    """Meet the other processes of torchrun; FSDP wants a group, even of one."""
    store = dist.HashStore() if WORLD == 1 else None
    patience = datetime.timedelta(hours=4)  # one may sample much longer than another
    dist.init_process_group(timeout=patience, store=store, rank=RANK, world_size=WORLD)
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)


def shard(model):
    """Split weights, gradients, moments over the processes (FSDP2); on a GPU, compute in a bfloat16 copy."""
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
    model.run = lambda f, *args, **options: f(model, *args, **options)
    register_fsdp_forward_method(model, "run")


def one_pass(f):
    """Let f(model, …) count as one pass through the model, for which what `shard` has split is gathered."""
    def call(model, *args, **options):  # `run` is put there by `shard`
        return model.run(f, *args, **options) if hasattr(model, "run") else f(model, *args, **options)
    return call


sample, token_logps = one_pass(sample), one_pass(token_logps)  # of part I


def rank_share(batches):
    """This process's micro-batches. Each pass through a sharded model is a meeting of all: the largest are
    halved, or if all are single rows the shortest joined, until they come out even."""
    while len(batches) % WORLD and max(map(len, batches)) > 1:
        largest = max(batches, key=len)
        batches.remove(largest)
        batches += [largest[::2], largest[1::2]]
    while len(batches) % WORLD and len(batches) > WORLD:
        batches.append(batches.pop() + batches.pop())
    return batches[RANK::WORLD]


def all_reduce(x):
    """The sum of x over all processes, in place."""
    if WORLD > 1:
        dist.all_reduce(x)
    return x


def asked_to_stop(stop):
    """Whether a signal has come to any process."""
    return bool(all_reduce(torch.tensor(len(stop))))


def sample_in_stages(model, prompts, group_size, u, most, *options):
    """`sample`, with memory by need: all solutions to 512 tokens, then those not ended to 1,024, and so on.
    Rows are prefilled anew for each stage and take slots for its length only, so many more run at a time. The
    solutions are the same. most: rows at a time, 0: what memory holds."""
    T, end = u.size(1), min(FIRST_STAGE, u.size(1))
    tokens, logps, *rest = sample_in_chunks(model, prompts, group_size, u[:, :end], most, *options)
    whole = Solutions(*(F.pad(x, (0, T - end)) for x in (tokens, logps)), *rest)
    while end < T and not whole.complete.all():
        start, end = end, min(2 * end, T)
        rows = (~whole.complete).nonzero().squeeze(1)
        written = whole.tokens[rows, :start].tolist()
        prefixes = [[*prompts[i // group_size], *ids] for i, ids in zip(rows.tolist(), written)]
        more = sample_in_chunks(model, prefixes, 1, u[rows.cpu(), start:end], most, *options)
        more = more._replace(lengths=start + more.lengths)
        for column, new in zip(whole, more):
            (column[:, start:end] if column.dim() == 2 else column)[rows] = new
    return whole


def sample_in_chunks(model, prompts, group_size, u, most, *options):
    """`sample` for as many prompts at a time as memory holds; where it runs out, on with half as many."""
    most, done = most or rows_that_fit(model, max(map(len, prompts)) + u.size(1)), []
    while prompts:
        if most < group_size:
            prompts, group_size = repeated(prompts, group_size), 1
        size = max(1, min(most // group_size, len(prompts)))
        try:
            done.append(sample(model, prompts[:size], group_size, u[: size * group_size], *options))
            prompts, u = prompts[size:], u[size * group_size :]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size * group_size == 1:
                raise
            most = size * group_size // 2
            say(f"memory ran out while sampling; on with {most} rows at a time", sys.stderr)
    return Solutions(*map(torch.cat, zip(*done)))


def sample_together(policy, prompts, group_size, u, config):
    """`sample`, split over the processes: each gets all the Solutions. The only door between the model that
    writes and what learns from it: a serving engine would go behind it."""
    model = policy.model
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    low, high = (len(prompts) * rank // WORLD for rank in (RANK, RANK + 1))
    stop = max(high, low + 1)  # where there are fewer prompts than processes, some sample one in vain
    mine, u = prompts[low:stop], u[low * group_size : stop * group_size]
    for module in sharded:
        module.set_reshard_after_forward(False)  # gathered once, for all tokens
    with progress(desc="sampling", unit=" tokens", leave=False, delay=2) as bar:  # shown after 2 s
        solutions = sample_in_stages(model, mine, group_size, u, config.sample_rows, policy.eos_ids,
                                     policy.zc, config.temperature, bar.update)
    for module in sharded:
        module.set_reshard_after_forward(True)
        module.reshard()
    if WORLD == 1:
        return solutions
    parts = [None] * WORLD
    dist.all_gather_object(parts, [x[: (high - low) * group_size].cpu() for x in solutions])
    return Solutions(*(torch.cat(part).to(model.device) for part in zip(*parts)))


# ------------------------------------------------------------------------------ errors, files, a run's folder

class UserError(ValueError):
    """Something the user can mend: one sentence that says how. The command line exits with code 2."""


def fail(sentence):
    raise UserError(sentence)


def out_of_memory(error):
    said = "can't allocate memory" in str(error) or "ALLOC_FAILED" in str(error)  # a CPU; cuBLAS
    return said or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def write_json(path, *rows, indent=None):
    """Write JSON, a row a line, so that a kill leaves the old file or the new."""
    if RANK == 0:
        beside = path.with_name(path.name + ".new")
        beside.write_text("".join(json.dumps(row, indent=indent) + "\n" for row in rows), "utf-8")
        beside.replace(path)


def read_json(path):
    return json.loads(path.read_text("utf-8"))


def log(run, name, rows):
    """Add a step's rows to a log, written whole, and their numbers to what the run is followed with."""
    run.logs[name].extend(rows)
    write_json(run.place.out / f"{name}.jsonl", *run.logs[name])
    for row in rows if run.place.tracker else []:
        start = row.get("data", name)
        numbers = {f"{start}/{k}": x for k, x in row.items() if isinstance(x, (int, float))}
        run.place.tracker.log(numbers, step=row["step"])


# what a checkpoint's later users need to read its self-reward and to ask it as it was asked in training
LASTING = """beta self_loss temperature prompt_suffix template_kwargs end_token max_prompt_tokens
             max_response_tokens token c_ref""".split()
FIXED = LASTING + """model reward param_dtype seed prompts_per_step group_size exact_reference eval_data
                     eval_n warm_start_steps warm_start_batch warm_start_lr""".split()  # while a run goes on
OLDER = "checkpoint-" + 6 * "[0-9]"  # checkpoints before the newest, by their step


def prepare(config):
    """All that `train` needs. dtype, token and c_ref are settled in `config`, which is then written once."""
    device, out = choose_device(config.device), folder_of(config)
    if WORLD > 1 or device.type not in SHARED_MEMORY:
        join(device)
    problems = [] if config.eval_only else load_problems(config.data, True, config)
    eval_sets = {name: load_problems(name, False, config) for name in config.eval_data if config.eval_every}
    tracker = importlib.import_module(config.track) if config.track and RANK == 0 else None
    place = types.SimpleNamespace(out=out, lock=open_folder(out, config.resume), tracker=tracker)

    warm, source = out / "warm_start", out / "checkpoint"
    start = str(warm) if warm.exists() else config.model
    saved = read_json(source / "laser.json")["step"] if source.exists() else None
    stored = read_json(out / "config.json") if config.resume else {}
    then, began = stored.get("laser", {}), {"data": seed_of(*map(seed_of, problems))}
    if start == config.model and (saved is None or config.kl or config.exact_reference):  # it will be read
        files = ((f.name, f.stat()) for f in Path(start).glob("*.*"))
        began["model"] = sorted([name, stat.st_size, stat.st_mtime] for name, stat in files)
    known = began | stored.get("began", {})
    changed = {k: v for k, v in asdict(config).items() if then.get(k, v) != v and k not in ("resume", "out")}
    for name in [k for k in changed if k in FIXED] + [k for k in began if began[k] != known[k]]:
        fail(f"--{name} is not what this run began with, {then.get(name)}; restore it, or start another with "
             f"--model {source}.")
    for name, value in changed.items():
        say(f"--{name} {value} in place of {then[name]}")
    policy = load_policy(config, start if saved is None else str(source), device)
    model = policy.model
    problems = problems and add_prompts(problems, policy, config, config.data)
    eval_sets = {name: add_prompts(rows, policy, config, name) for name, rows in eval_sets.items()}
    say(f"{config.model}: {model.num_parameters():,} {config.param_dtype} parameters on {WORLD} × {device}; "
        f"z_c is token {policy.zc}; {len(problems)} problems; seed {config.seed}, run in {out}")
    if WORLD > 1 or device.type not in SHARED_MEMORY and config.param_dtype == "float32":
        shard(model)
    warms = config.warm_start_steps and saved is None and not warm.exists()
    if warms:
        warm_start(policy, problems, config)
    optimizer, std = make_optimizer(model, config.lr, config.weight_decay), 0.0
    if (source / "trainer.pt").exists():  # each process takes its shards: their number may have changed
        moments = torch.load(source / "trainer.pt", map_location="cpu", mmap=True)["optimizer"]
        options = sharded_state.StateDictOptions(full_state_dict=True)
        sharded_state.set_optimizer_state_dict(model, optimizer, moments, options=options)
        optimizer.param_groups[0] |= {"lr": config.lr, "weight_decay": config.weight_decay}  # of now
    if config.c_ref is None:
        config.c_ref, std = measure_c_ref(policy, problems, config)
    report_c_ref(config.c_ref, std, config)
    config.token = config.token or str(policy.zc)
    if config.alpha and 0 < config.steps <= config.reasoning_warmup:
        say("warning: --steps end before the self-reward begins, after --reasoning_warmup", sys.stderr)
    if tracker:
        tracker.init(project="laser", name=out.name, config=asdict(config))
    transformers.utils.logging.disable_progress_bar()  # one for every file saved would tear our own bar
    write_json(out / "config.json", {"laser": asdict(config), "began": known}, indent=1)
    step, logs = saved or 0, {"metrics": [], "eval": []}
    for path in (path for path in out.glob("*.jsonl") if path.stem in logs):
        rows = map(json.loads, path.read_text("utf-8").splitlines())
        logs[path.stem] = [row for row in rows if row["step"] <= step]  # what came later will be repeated
    kept = step if config.eval_only else saved  # which has nothing to save
    run = Run(policy, optimizer, None, problems, eval_sets, kept, logs, place)
    if changed.keys() - {"steps"}:
        log(run, "metrics", [{"step": step, "changed": changed}])
    if warms:
        save(run, 0, config, "warm_start")
        start = str(warm)
    all_reduce(torch.zeros(1))  # all wait until it is there
    if config.kl or config.exact_reference:  # the starting model, frozen
        dtype = config.param_dtype if device.type == "cpu" else "bfloat16"
        reference, *_ = load_model(start, device, dtype, config.seed)
        run = run._replace(reference=reference.requires_grad_(False))
    return run


def folder_of(config):
    """Of a run: --out, or runs/ and the model's name."""
    name = Path(os.path.abspath(config.model)).name.removesuffix(".json")
    return Path(config.out or ("runs/eval-" if config.eval_only else "runs/") + name)


def open_folder(out, resume):
    """Make the run's folder, and keep it to ourselves while the lock that is returned lives."""
    lock, checkpoint, older = filelock.FileLock(out / ".lock"), out / "checkpoint", sorted(out.glob(OLDER))
    if RANK == 0:
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            fail(f"Another run is writing to {out}; wait until it ends or name another --out.")
        if not resume and len(os.listdir(out)) > 1:  # the lock
            fail(f"{out} is not empty; continue its run with --resume or name another folder with --out.")
        if older and not checkpoint.exists():
            older[-1].rename(checkpoint)  # as a kill between the renames of a save has left it
    all_reduce(torch.zeros(1))  # the others wait
    return lock


def save(run, step, config, name="checkpoint"):
    """Replace a folder of the run: model and tokenizer as transformers reads them, laser.json, moments.
    It is filled beside the old one, then renamed: a kill at any moment leaves either. Older checkpoints go,
    but for --keep and the best by weighted vote on the first evaluation set."""
    model, weights, moments = run.policy.model, None, None
    if sys.exc_info()[0] and (WORLD > 1 or config.updates > 1):
        return  # an error: the others may never come to this meeting, or some of the K updates are made
    if not torch.isfinite(of_all(torch.nn.utils.get_total_norm([*model.parameters()]))):
        fail(f"The weights are no longer finite after step {step}, so not saved; --resume with a lower --lr.")
    whole = sharded_state.StateDictOptions(full_state_dict=True, cpu_offload=True)  # on the first process
    if isinstance(model, FSDPModule):
        weights = sharded_state.get_model_state_dict(model, options=whole)
        weights = {k: x for k, x in weights.items() if k not in model.all_tied_weights_keys}
    if step:  # before the first there are no moments, and torch, asked for some, takes a step
        moments = sharded_state.get_optimizer_state_dict(model, run.optimizer, options=whole)
    if RANK:
        return
    final, new = run.place.out / name, run.place.out / f"{name}.new"
    shutil.rmtree(new, ignore_errors=True)
    model.generation_config.update(eos_token_id=run.policy.eos_ids, do_sample=True,  # elsewhere as here
                                   temperature=config.temperature or 1.0, top_p=1.0, top_k=0)
    lasting = {key: getattr(config, key) for key in LASTING}
    try:
        model.save_pretrained(new, state_dict=weights)
        run.policy.tokenizer.save_pretrained(new)
        write_json(new / "laser.json", {"step": step, "laser": lasting}, indent=1)
        if moments:
            torch.save({"optimizer": moments}, new / "trainer.pt")
    except Exception as error:  # each library has its own
        fail(f"Cannot save {final} ({error}); what was there is kept: make room, then --resume.")
    if final.exists():
        before = read_json(final / "laser.json")["step"]
        final.rename(f"{final}-{before:06}")
    new.rename(final)
    scores = [(row[f"weighted@{row['n']}"], row["step"]) for row in run.logs["eval"]
              if row["data"] == config.eval_data[0]]
    for old in sorted(run.place.out.glob(OLDER), reverse=True)[config.keep - 1 :]:
        if not scores or old.name != f"checkpoint-{max(scores)[1]:06}":
            shutil.rmtree(old, ignore_errors=True)


# -------------------------------------------------------------------------------------------------- test time

def ask(config):
    """Sample solutions of one problem; print each distinct answer with votes, self-reward and a solution."""
    problem = (sys.stdin.read() if config.ask == "-" else config.ask).strip()
    policy = load_policy(config, config.model, choose_device(config.device))
    rows = add_prompts([{"problem": problem, "answer": ""}], policy, config, "--ask")
    samples = solve(policy, rows, config)
    classes = pandas.Series(group([row["answer"] for row in samples]))  # a class None casts no vote
    trust = pandas.Series([row["self_reward"] or 0.0 for row in samples]).clip(0, 1)
    table = trust.groupby(classes).agg(["sum", "count", "idxmax", "mean"])
    ranked = [*table.sort_values(["sum", "count"], ascending=False).itertuples()]
    for c, total, votes, best, _ in ranked:
        say(f"{samples[int(c)]['answer']}: {votes} of {len(samples)} votes, "
            f"self-reward {total:.2f} in all, {trust[best]:.2f} for")
        say(f"    {samples[best]['response'].strip()}")
    if ranked:  # the best guess of the chance to be right: the mean self-reward of the solutions that say so
        winner, *_, confidence = ranked[0]
        say(f"weighted vote: {samples[int(winner)]['answer']}, confidence {confidence:.2f}")
    else:
        cut = sum(not row["complete"] for row in samples)
        say(f"no answer in {len(samples)} solutions, {cut} cut at --max_response_tokens; raise it, or --n")


def score_file(config):
    """Teacher-forced self-rewards of (problem, response) rows of a jsonl file: --out gets all at once."""
    out = Path(config.out or f"{config.score}.scored.jsonl")
    if out.exists():
        fail(f"{out} exists; name another file with --out.")
    lines = Path(config.score).read_text("utf-8-sig").split("\n")
    rows = [json.loads(line) | {"logp_zc": None, "self_reward": None} for line in lines if line.strip()]
    ended = [row for row in rows if row.get("complete", True)]  # after a cut one nothing is read
    if not ended or not all(row.get("problem") and isinstance(row.get("response"), str) for row in ended):
        fail(f"{config.score} needs rows with a `problem` and a `response`, and some that are complete.")
    policy = load_policy(config, config.model, choose_device(config.device))
    prompts = encode_prompts(policy, ended, config)
    responses = policy.tokenizer([row["response"] for row in ended], add_special_tokens=False)["input_ids"]
    check_positions(policy, config.score, max(len(x) + len(y) for x, y in zip(prompts, responses)))
    few = prompts[:64], responses[:64]  # after which the policy itself would write the end `own`
    own = max(policy.eos_ids, key=lambda eos: all_token_logps(policy.model, *few, eos, config)[1].sum())
    for ids, row in zip(responses, ended):
        if not ids or ids[-1] not in policy.eos_ids:
            ids.append(row["last_token"] if row.get("last_token") in policy.eos_ids else own)
    other = sum(len(ids) != row.get("tokens", len(ids)) for ids, row in zip(responses, ended))
    _, logp_zc = all_token_logps(policy.model, prompts, responses, policy.zc, config)
    self_rewards = self_reward_of(logp_zc, config.c_ref, config)
    for row, *graded in zip(ended, logp_zc.tolist(), self_rewards.tolist()):
        row["logp_zc"], row["self_reward"] = graded
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, *rows)
    say(f"{len(ended)} self-rewards in {out}; {other} are of responses that encode to other tokens")


# ------------------------------------------------------------------------------------------- the command line

RANGES = {  # (least, most): settings
    (0, 1): "tau clip_low", (0, 100): "temperature", (2, 1e9): "group_size", (-1e9, -1e-9): "c_ref",
    (0.01, 1e9): "beta", (1e-12, 1e9): "lr clip_high grad_clip warm_start_lr",
    (1, 1e9): "prompts_per_step max_response_tokens max_prompt_tokens updates eval_n warm_start_batch keep",
    (0, 1e9): "alpha kl weight_decay min_std steps sample_rows micro_batch_tokens eval_every save_every "
              "reasoning_warmup self_reward_warmup warm_start_steps",
}


def check(config):
    """Refuse settings that cannot work, with a sentence that says what to write instead."""
    for (least, most), names in RANGES.items():
        for name in names.split():
            value = getattr(config, name)
            if value is not None and not least <= value <= most:
                fail(f"--{name} must be a number from {least:g} to {most:g}.")
    tested = config.eval_only or config.ask is not None or config.score is not None
    if config.eval_only and (folder_of(config) / "checkpoint").exists():
        fail("--eval_only cannot write to a folder that has a checkpoint; name another --out.")
    if tested and (config.token is None or config.c_ref is None or config.exact_reference):
        fail(f"{config.model} is no folder with a laser.json, or --token is not the one in it; mend that, or "
             "give --token and --c_ref (and --beta), without --exact_reference.")
    if config.steps and not tested and config.temperature == 0:
        fail("--temperature 0 samples G equal solutions; training needs more than 0.")
    if not tested and min(config.prompts_per_step, 32) * config.group_size < WORLD:
        fail(f"{WORLD} processes need more solutions; raise --prompts_per_step.")
    reward_function(config)  # can it be imported?


def parse(arguments):
    """A Config from words (None: the command line's): defaults, then the `laser` object of one file, then the
    words. The file: config.json of the run to --resume, else the --model .json or its folder's laser.json."""
    parser = HfArgumentParser(Config, prog="laser.py", usage="laser.py [--flag value] …", allow_abbrev=False)
    parser.error = lambda message: fail(message[0].upper() + message[1:] + "; see --help.")
    helps = dict(re.findall(r"^    (\w+): .*  # (.*)", inspect.getsource(Config), re.M))
    for action in parser._actions:
        action.help = helps.get(action.dest, action.help)
    flags = parser.parse_args(arguments)
    model = Path(flags.model)
    if model.suffix == ".json" and not model.exists():
        model = Path(__file__).resolve().parent / model
    source = model if model.suffix == ".json" else model / "laser.json"
    if flags.resume:
        source = folder_of(flags) / "config.json"
    stored = read_json(source) if source.is_file() or source == model else {}  # a .json must be there
    if flags.resume and "laser" not in stored:
        fail(f"There is no run in {source.parent} to resume; drop --resume or name its folder with --out.")
    own = stored.get("laser", {})
    own.pop("date", None)  # of checkpoints of earlier versions
    other_token = "token" in own and flags.token not in (None, str(own["token"]))
    if other_token or not flags.resume and (flags.exact_reference or flags.warm_start_steps):
        own.pop("c_ref", None)  # it is of another token or model, or not wanted
    parser.set_defaults(**own)
    config = Config(**vars(parser.parse_args(arguments)))
    if config.model == flags.model:
        short = flags.model.startswith("Qwen") and "/" not in flags.model and not model.exists()
        config.model = f"Qwen/{flags.model}" if short else model.as_posix()
    if config.eval_only:
        config.steps, config.warm_start_steps, config.eval_every = 0, 0, 1
    return config


def main(arguments=None):
    """The command line: 0; 2 with one sentence on stderr for what the user can mend; 130, 143 or 129
    after Ctrl-C, SIGTERM or SIGHUP, which finish the step and save first (a second one does not wait)."""
    def attempt(write, *text):  # what cannot be printed, as a pipe or terminal is closed, ends nothing
        with contextlib.suppress(OSError, RuntimeError):
            return write(*text)

    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # or blocks leave gaps
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? for what it lacks
        stream.write = functools.partial(attempt, type(stream).write, stream)
        stream.flush = functools.partial(attempt, type(stream).flush, stream)
    stop, run, found = [], None, {}

    def on_signal(which, _):
        stop.append(which)
        print("finishing the step, then saving; once more to stop at once", file=sys.stderr)
        if WORLD == 1:  # torchrun passes a Ctrl-C on that has reached us already
            signal.signal(which, signal.SIG_DFL)

    try:
        config = parse(arguments)
        check(config)
        if config.ask is not None or config.score is not None:
            (score_file if config.ask is None else ask)(config)
            return 0
        run = prepare(config)
        with contextlib.suppress(ValueError):  # in a thread: only the main one may set them
            for which in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)}:
                if which == signal.SIGINT or signal.getsignal(which) != signal.SIG_IGN:  # as under nohup
                    found[which] = signal.signal(which, on_signal)
        train(run, config, stop)
        run.place.tracker and run.place.tracker.finish()  # which may still have figures to send
        if dist.is_initialized():
            dist.destroy_process_group()
    except KeyboardInterrupt:  # before training, or at test time
        return 130
    except Exception as error:  # while a run is prepared, files, hubs and parsers raise many kinds
        if out_of_memory(error):
            error = "memory is full; lower --micro_batch_tokens or --sample_rows, or take a smaller --model."
        elif run and not isinstance(error, (UserError, OSError)):
            raise  # a bug
        elif not isinstance(error, UserError):
            causes = [error, error.__cause__ or error.__context__ or error]
            error = "; ".join(dict.fromkeys(f"{type(e).__name__}: {e}"[:300] for e in causes))
        print("laser.py:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    finally:
        for which, handler in found.items():
            signal.signal(which, handler)
    return 128 + stop[0] if stop else 0


if __name__ == "__main__":
    sys.exit(main())

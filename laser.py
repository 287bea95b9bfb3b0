"""LaSeR: reinforcement learning with last-token self-rewarding (arXiv 2510.14943), in one file.

A language model learns from verifiable rewards and, by one extra regression term, learns to grade its own solution in
the log-probability of one special token z_c, read right after the solution's last token. The whole algorithm:

    for step in range(steps):
        solutions = sample(problems, G each)              # y ~ π(·|x); after EOS one more token reads log π(z_c|x,y)
        rewards   = verify(solutions)                     # r_v ∈ {0, 1}: is the boxed answer right?
        scores    = beta * (logp_zc - c_ref)              # r_s, the self-reward: what the model itself thinks of it
        A         = (1 - tau) * normalise(rewards) + tau * normalise(clip(scores, 0, 1))          # within each group
        L_policy  = -mean(min(ratio * A, clip(ratio, 1 - ε_low, 1 + ε_high) * A))                 # GRPO
        L_self    = mean(w * (scores - rewards)**2)       # w: the right and the wrong solutions weigh the same
        descend(L_policy + alpha * L_self)
    at test time: answer with the largest sum of clip(scores, 0, 1) over the solutions that give it

    python laser.py                        # a tiny model, from random weights, on a CPU, in two and a half minutes
    python laser.py --model Qwen2.5-7B     # the same code on a GPU

The file follows the data: settings → problems → model → sampling → self-reward → advantages → losses → one update →
metrics and votes → the run → the command line. Shapes: P problems a step, G solutions each, B = P·G (a problem's
solutions side by side), T response tokens, L tokens of prompt and response, V the vocabulary, N a flat list.
Left out on purpose: a critic; several updates a step; sequence packing; dropping the groups whose rewards are all equal
(usual elsewhere, as their advantage is 0 — but L_self learns from them).
"""
import argparse
import csv
import ctypes
import dataclasses
import datetime
import fcntl
import functools
import glob
import hashlib
import importlib.util
import itertools
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward
from tqdm import tqdm
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import DynamicCache, PreTrainedTokenizerFast
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from verify import extract_answer, group, reward

HERE = Path(__file__).parent
if sys.platform == "linux":
    # Let the C library keep the blocks (below 32 MiB) that PyTorch frees: asking the kernel for fresh, zeroed pages at every
    # operation costs a third of the time of sampling and training on a CPU. (mallopt; -1: M_TRIM_THRESHOLD, -3: M_MMAP_THRESHOLD.)
    for option, size in ((-1, 2**31 - 1), (-3, 2**25)):
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(option, size)


class UserError(ValueError):
    """Something the user can mend. The message is one sentence that says how; the command line exits with code 2."""


def one_line(error, most=160):
    """What an exception says, for a sentence of ours."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def out_of_memory(error):
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)  # so says a CPU


def seed_of(*parts):
    """A 63-bit seed from any values: every draw of a run has its own stream, named by what it is for and its step, so a
    resumed run needs no generator state, and adding a stream never shifts another."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


# ---------------------------------------------------------------------------------------------------------- settings


def knob(default, text, group=None):
    """A setting with its default and the line that `--help` shows for it; the first of a group names it."""
    return field(default_factory=lambda: default, metadata={"help": text, "group": group})


@dataclass
class Config:
    model: str = knob("tiny_config.json", "hub id, local folder, or .json of an architecture (random weights) and its own defaults",
                      "model and data")
    data: str = knob("zwhe99/DeepMath-103K", "training problems: hub id, jsonl/json/parquet/csv file, or built-in `pairs`")
    eval_data: list[str] = knob(["HuggingFaceH4/MATH-500", "math-ai/aime24", "math-ai/aime25", "math-ai/amc23"],
                                "held-out problems, one or more, as for --data")
    problem_column: str | None = knob(None, "column of the problem (default: problem, question or prompt)")
    answer_column: str | None = knob(None, "column of the answer (default: answer, final_answer or solution)")
    prompt_suffix: str = knob("Please reason step by step, and put your final answer within \\boxed{}.",
                              "appended to every problem, on a line of its own")
    max_prompt_tokens: int = knob(2048, "problems with a longer prompt are dropped, tokens")
    out: str | None = knob(None, "folder of the run (default: runs/<model name>)")
    resume: bool = knob(False, "continue the run in --out from its checkpoint")
    seed: int = knob(0, "seed of everything random")
    device: str = knob("auto", "auto, cpu, cuda or cuda:N")
    param_dtype: str = knob("auto", "of weights and AdamW moments: float32, or bfloat16 rounded stochastically (auto: what fits)")

    steps: int = knob(1000, "training steps in all", "sampling")
    prompts_per_step: int = knob(128, "P, problems a step")
    group_size: int = knob(8, "G, solutions a problem")
    max_response_tokens: int = knob(8192, "T, a solution is cut here, tokens")
    temperature: float = knob(1.0, "of sampling; 0 is greedy, for evaluation only")
    sample_rows: int = knob(0, "solutions sampled at a time (0: from free memory)")

    token: str | None = knob(None, "z_c, a token or its id (default: one that the model never uses)", "self-reward")
    beta: float = knob(0.1, "β_v, reward per nat of log π(z_c)")
    c_ref: float | None = knob(None, "mean log π_ref(z_c), nats (default: measured on the starting model)")
    alpha: float = knob(0.1, "weight of the self-reward loss; 0 is plain GRPO")
    tau: float = knob(0.1, "weight of the self-reward in the advantage, 0 to 1")
    min_std: float = knob(0.1, "groups whose self-rewards have a smaller std keep their GRPO advantage")
    reasoning_warmup: int = knob(200, "first steps without self-reward loss")
    self_reward_warmup: int = knob(200, "following steps with the loss and τ = 0")
    balanced: bool = knob(True, "right and wrong solutions weigh the same in the self-reward loss")
    exact_reference: bool = knob(False, "a frozen reference model's log π_ref(z_c|x,y) in place of the constant c_ref")
    self_loss: str = knob("mse", "mse: regress the self-reward on the reward; ce: cross-entropy on π(z_c) itself")

    lr: float = knob(1e-6, "AdamW learning rate", "optimisation")
    weight_decay: float = knob(0.01, "AdamW weight decay")
    clip_low: float = knob(0.2, "ε_low of the PPO clip")
    clip_high: float = knob(0.2, "ε_high of the PPO clip")
    kl: float = knob(0.0, "weight of the KL to a frozen reference model")
    grad_clip: float = knob(1.0, "largest gradient norm")
    micro_batch_tokens: int = knob(16384, "padded tokens in one forward and backward pass; lower it if memory runs out")

    eval_every: int = knob(200, "evaluate every this many steps besides first and last (0: never)", "evaluation and output")
    eval_n: int = knob(8, "solutions a problem in evaluation")
    tensorboard: bool = knob(False, "write the metrics for TensorBoard, too, if that package is installed")
    save_every: int = knob(50, "save a checkpoint every this many steps besides the last (0: only at the end)")
    dry_run: bool = knob(False, "print what the run would hold in memory, and what fits, and stop")

    ask: str | None = knob(None, "a problem (`-`: from standard input): sample eval_n solutions, grade them, vote; no training",
                           "test time, with a trained --model")
    score: str | None = knob(None, "a file of problem and response columns: write their self-rewards to --out; no training")
    eval_only: bool = knob(False, "evaluate --eval_data into the folder --out, going on with what is there; no training")

    # random weights earn no reward, so imitate careless worked solutions first
    warm_start_steps: int = knob(0, "supervised steps before training, on built-in data only", "warm start of the tiny path")
    warm_start_lr: float = knob(1e-3, "its peak learning rate")
    warm_start_right: float = knob(0.3, "share of its worked solutions that are right")


def check(config):
    """Refuse settings that cannot work. Raises UserError with a sentence that says what to write instead."""
    def refuse_if(wrong, sentence):
        if wrong:
            raise UserError(sentence)

    for name, value in vars(config).items():
        refuse_if(value == "" and name not in ("ask", "prompt_suffix") or value == [""], f"--{name} is empty; give it a value or drop it.")
    for name in ("steps", "alpha", "min_std", "reasoning_warmup", "self_reward_warmup", "kl", "weight_decay", "temperature",
                 "eval_every", "save_every", "warm_start_steps", "sample_rows"):
        refuse_if(not 0 <= getattr(config, name) < math.inf, f"--{name} must be a finite number, 0 or more.")
    for name in ("lr", "beta", "grad_clip", "warm_start_lr"):
        refuse_if(not 0 < getattr(config, name) < math.inf, f"--{name} must be a finite number greater than 0.")
    for name in ("prompts_per_step", "max_prompt_tokens", "max_response_tokens", "micro_batch_tokens", "eval_n"):
        refuse_if(getattr(config, name) < 1, f"--{name} must be 1 or more.")
    refuse_if(config.temperature > 100, "--temperature must be at most 100.")
    refuse_if(config.group_size < 2, "--group_size must be 2 or more, as GRPO compares the solutions of one problem.")
    refuse_if(not 0 <= config.tau <= 1, "--tau must lie between 0 and 1.")
    refuse_if(not 0 < config.clip_low < 1 or not 0 < config.clip_high < math.inf,
              "--clip_low must lie between 0 and 1 and --clip_high must be greater than 0.")
    refuse_if(not 0 <= config.warm_start_right <= 1, "--warm_start_right must lie between 0 and 1.")
    refuse_if(config.param_dtype not in ("auto", "float32", "bfloat16"), "--param_dtype must be auto, float32 or bfloat16.")
    refuse_if(config.self_loss not in ("mse", "ce"), "--self_loss must be mse or ce.")
    refuse_if(config.self_loss == "ce" and config.exact_reference,
              "--self_loss ce grades by π(z_c) itself and has no reference; drop --exact_reference.")
    refuse_if(config.c_ref is not None and not -math.inf < config.c_ref < 0, "--c_ref is a log-probability: it must be negative.")
    refuse_if(config.c_ref is not None and config.exact_reference,
              "--exact_reference takes the place of --c_ref; give one of them, with a starting model that is not trained yet.")
    tasks = (config.ask is not None) + bool(config.score) + config.eval_only + config.dry_run
    refuse_if(tasks > 1, "--ask, --score, --eval_only and --dry_run are different tasks; give one of them.")
    at_test_time = tasks and not config.dry_run
    refuse_if(WORLD > 1 and (config.ask is not None or config.score),
              "--ask and --score need one process; start them without torchrun.")
    refuse_if(at_test_time and config.exact_reference, "--exact_reference is for training; grades at test time use --c_ref.")
    refuse_if(config.steps > 0 and config.temperature == 0 and not at_test_time,
              "--temperature 0 samples G equal solutions; training needs more than 0.")
    refuse_if(config.warm_start_steps > 0 and config.data not in PAIRS,
              "--warm_start_steps needs worked solutions, which only --data pairs has; set it to 0.")
    refuse_if(config.tensorboard and importlib.util.find_spec("tensorboard") is None,
              "--tensorboard needs that package: pip install tensorboard, or drop the flag.")
    refuse_if(config.warm_start_steps > 0 and not config.model.endswith(".json"),
              "--warm_start_steps is for random weights; set it to 0 for a trained model.")


# ---------------------------------------------------------------------------------------------- problems and prompts

# name: (how many numbers, the largest). Checking a pair is one addition, finding it is a search: a grade has a point here.
PAIRS = {"pairs": ((4, 5), 9), "pairs-heldout": ((4, 5), 9), "pairs-hard": ((6, 6), 9)}


def pair_problems(name, count, right=0.3):
    """Built-in problems «which two of these numbers add up to T?»: distinct numbers, exactly one such pair.

    Each row has problem, answer and a `solution` by a careless writer, who picks the right pair only with probability
    `right` and otherwise any other, but always adds up correctly. Deterministic; no problem (as a set of numbers and a T) of
    one name occurs under another: they are dealt out by a hash.
    """
    (low, high), largest = PAIRS[name]
    rng, rows = random.Random(seed_of("pairs", name)), []
    while len(rows) < count:
        size, (a, b, *rest) = rng.randint(low, high), rng.sample(range(1, largest + 1), largest)
        total, numbers = a + b, [a, b]
        for x in rest:
            if len(numbers) < size and total - x not in numbers:
                numbers.append(x)
        held_out = seed_of(sorted(numbers), total) % 8 == 0
        if len(numbers) < size or held_out != (name != "pairs"):
            continue
        rng.shuffle(numbers)
        answer, pairs = (a, b), list(itertools.combinations(numbers, 2))
        written = answer if rng.random() < right else rng.choice([p for p in pairs if sum(p) != total])
        a, b = rng.sample(written, 2)
        rows.append({"problem": f"{' '.join(map(str, numbers))}:{total}=", "answer": f"{answer[0]},{answer[1]}",
                     "solution": f"{a}+{b}={a + b}\\boxed{{{a},{b}}}"})
    return rows


def gold_answer(value):
    """The answer in a data set's answer cell, as text: a list's items, what follows `####` (GSM8K), a solution's box."""
    if isinstance(value, (list, tuple)):
        return ", ".join(gold_answer(item) for item in value)
    text = str(value).strip()
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    return extract_answer(text) or text


def load_problems(name, train, config):
    """Rows {problem, answer[, solution]} of a built-in set, a local file or a hub data set, read through `datasets`.

    Raises UserError for a missing file, column or network, and for empty data.
    """
    if name in PAIRS:
        return pair_problems(name, 20000 if train else 200, config.warm_start_right)
    path = Path(name)
    try:
        if path.suffix in (".jsonl", ".json", ".parquet", ".csv") and not path.is_file():
            raise UserError(f"There is no file {name}; give a jsonl, json, parquet or csv file, or a hub id.")
        if path.suffix in (".jsonl", ".json"):  # numbers stay as they are written: 0.50 and 2**70 are no floats
            text, exactly = path.read_text("utf-8-sig"), {"parse_int": str, "parse_float": str, "parse_constant": str}
            lines = [text] if text.lstrip().startswith("[") else [f"[{line}]" for line in text.split("\n") if line.strip()]
            rows = datasets.Dataset.from_list([record for line in lines for record in json.loads(line, **exactly)])
        elif path.suffix == ".parquet":
            rows = datasets.Dataset.from_parquet(glob.escape(name))
        elif path.suffix == ".csv":  # all columns as text, or 007 and 0.50 would come back as 7 and 0.5, NA and None as nothing
            with path.open(newline="", encoding="utf-8-sig") as file:
                features = datasets.Features({column: datasets.Value("string") for column in next(csv.reader(file), [])})
            rows = datasets.Dataset.from_csv(glob.escape(name), features=features, na_filter=False)
        else:
            splits = datasets.load_dataset(name, *(["main"] if name == "openai/gsm8k" else []))
            wanted = ["train"] if train else ["test", "validation", "train"]
            rows = splits[next((split for split in wanted if split in splits), next(iter(splits)))]
    except UserError:
        raise
    except (ConnectionError, FileNotFoundError, OSError) as error:
        raise UserError(f"Cannot read {name}: neither a file here nor reachable on the hub ({one_line(error)}); check the name and "
                        "the network.") from error
    except Exception as error:  # `datasets` raises many kinds for a malformed file
        raise UserError(f"Cannot read {name} ({one_line(error.__cause__ or error)}); give a well-formed file or data set.") from error
    if not len(rows):
        raise UserError(f"{name} has no problems; give data with at least one row.")
    columns = []
    for what, given, known in (("problem", config.problem_column, ("problem", "question", "prompt")),
                               ("answer", config.answer_column, ("answer", "final_answer", "solution"))):
        column = given if given else next((k for k in known if k in rows.column_names), None)
        if column not in rows.column_names:
            raise UserError(f"{name} has no {what} column {given or 'of a known name'}; name one of {rows.column_names} with "
                            f"--{what}_column.")
        columns.append(column)
    cells = [(problem, "" if answer is None else gold_answer(answer)) for problem, answer in zip(*(rows[c] for c in columns))]
    rows = [{"problem": problem, "answer": answer} for problem, answer in cells if problem not in (None, "") and answer]
    if len(rows) < len(cells):
        print(f"{name}: {len(cells) - len(rows)} of {len(cells)} rows dropped, without problem or answer")
    if not all(isinstance(row["problem"], str) for row in rows):
        raise UserError(f"{name} has problems in column {columns[0]} that are no text; name another with --problem_column.")
    if not rows:
        raise UserError(f"{name} has no problem with an answer; give data with at least one.")
    return rows


def encode_prompts(tokenizer, problems, suffix):
    """Token ids of each problem as the model is asked it: the question, the suffix, through the chat template if there is one."""
    texts = [f"{problem}\n{suffix}" if suffix else problem for problem in problems]
    if not tokenizer.chat_template:
        return tokenizer(texts)["input_ids"]
    texts = [tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
             for text in texts]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]  # the template has written them already


def add_prompts(rows, model, tokenizer, config, name):
    """The rows with their `prompt` token ids; empty and over-long prompts are dropped and counted.

    Raises UserError if none is left, or if the model has no positions for the longest prompt with its solution.
    """
    prompts = encode_prompts(tokenizer, [row["problem"] for row in rows], config.prompt_suffix)
    rows = [{**row, "prompt": prompt} for row, prompt in zip(rows, prompts)]
    kept = [row for row in rows if 0 < len(row["prompt"]) <= config.max_prompt_tokens]
    if len(kept) < len(rows):
        print(f"{name}: {len(rows) - len(kept)} of {len(rows)} problems dropped, prompt empty or longer than "
              f"{config.max_prompt_tokens} tokens")
    if not kept:
        raise UserError(f"Every prompt of {name} is empty in this tokenizer or longer than {config.max_prompt_tokens} tokens; raise "
                        "--max_prompt_tokens or choose other problems.")
    needed = max(len(row["prompt"]) for row in kept) + config.max_response_tokens + 1
    if needed > getattr(model.config, "max_position_embeddings", math.inf):
        raise UserError(f"The longest prompt of {name} and its solution may take {needed} positions, of which the model has "
                        f"{model.config.max_position_embeddings}; lower --max_response_tokens or --max_prompt_tokens.")
    return kept


# ------------------------------------------------------------------------------------------------------------- model


def character_tokenizer():
    """A tokenizer of printable ASCII, one token a character, for models that come without one.

    It is a byte-level BPE without merges, which `AutoTokenizer` restores exactly from a checkpoint of any architecture.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    symbols = ["<pad>", "<eos>", "<unk>", "Ċ", "Ġ", *map(chr, range(33, 127))]  # byte-level names of newline and space
    core = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, [], unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def choose_device(wanted):
    """torch.device of a --device setting. Raises UserError if there is no such device."""
    gpus, place = [f"cuda:{i}" for i in range(torch.cuda.device_count())], int(os.environ.get("LOCAL_RANK", 0))
    if wanted == "auto":
        wanted = "cuda" if gpus else "cpu"
    if wanted == "cuda" and gpus:
        if place >= len(gpus):
            raise UserError(f"This machine has only {len(gpus)} GPUs; give torchrun --nproc-per-node {len(gpus)}.")
        return torch.device("cuda", place)
    here = ["cpu"] + ["cuda"] * bool(gpus) + gpus * (WORLD == 1)
    if wanted not in here:
        raise UserError(f"--device {wanted} is not here; use auto or one of {', '.join(here)}.")
    return torch.device(wanted)


def hub_name(name):
    """The hub id of a bare well-known model name: Qwen2.5-7B → Qwen/Qwen2.5-7B."""
    owners = {"Qwen": "Qwen", "Llama": "meta-llama", "OctoThinker": "OctoThinker", "Open-Reasoner-Zero": "Open-Reasoner-Zero"}
    owner = next((o for start, o in owners.items() if name.startswith(start)), None)
    return f"{owner}/{name}" if owner and "/" not in name and not Path(name).exists() else name


@torch.no_grad()
def samples_right(model, vocabulary):
    """Whether three ways lead to the same log-probabilities: the sampler's, ours for training, the model's own."""
    prompts, last_id = [[1], [1, 2, 0]], vocabulary - 1  # which plays both EOS and z_c
    drawn = sample(model, prompts, 1, uniforms(2, 4, "probe"), [last_id], last_id)
    for prompt, response, sampled in zip(prompts, drawn.responses(), drawn.logps):
        logits = model(torch.tensor([prompt + response], device=model.device), use_cache=False).logits[0, len(prompt) - 1 : -1]
        own = logits.float().log_softmax(-1)[range(len(response)), response]
        ours = token_logps(model, [prompt], [response], last_id)[0][0]
        most = 1e-3 if model.dtype == torch.float32 else 0.2 + 0.02 * logits.abs().max().item()  # 8 bits hold no more
        if not all(torch.allclose(own, x[: len(response)], atol=most) for x in (sampled, ours)):
            return False
    return True


def load_model(name, device, dtype, seed):
    """(model, tokenizer): from the hub or a folder, or random weights for the architecture in a .json file.

    With gradient checkpointing on a GPU; on the device "meta" it is an empty shell, to be measured. Raises UserError if there is
    no such model, or if it is one that this file would sample wrongly.
    """
    try:
        options = {"dtype": getattr(torch, dtype), "attn_implementation": "laser"}
        tokenizer = character_tokenizer() if name.endswith(".json") else AutoTokenizer.from_pretrained(hub_name(name))
        if name.endswith(".json"):
            settings = {k: v for k, v in json.loads(Path(name).read_text()).items() if k != "laser"}
            architecture = AutoConfig.for_model(**settings)
            architecture.pad_token_id, architecture.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
            architecture.bos_token_id = None
        elif device.type == "meta":
            architecture = AutoConfig.from_pretrained(hub_name(name))
        if name.endswith(".json") or device.type == "meta":
            torch.manual_seed(seed_of("weights", seed))
            with torch.device(device):
                model = AutoModelForCausalLM.from_config(architecture, **options)
        else:
            model = AutoModelForCausalLM.from_pretrained(hub_name(name), **options).to(device)
    except Exception as error:  # transformers, tokenizers and safetensors raise many kinds
        if out_of_memory(error):
            raise
        raise UserError(f"Cannot load the model {name} ({one_line(error)}); give a hub id, the folder of an undamaged model or a "
                        ".json architecture, and check the network.") from error
    if device.type == "meta":
        return model, tokenizer
    # The sampler's cache holds every token in the slot of its position, and log-probs are read by `head(hidden)`: both are
    # right for plain causal transformers only, so a model that differs is refused rather than trained on wrong numbers.
    sliding = getattr(model.config, "sliding_window", None)
    kinds = set(getattr(model.config, "layer_types", None) or ["sliding_window" if sliding else "full_attention"])
    if kinds != {"full_attention"}:
        raise UserError(f"{name} has layers of kind {', '.join(sorted(kinds))}; only full attention is supported.")
    if model.get_input_embeddings().weight.size(0) < len(tokenizer):
        raise UserError(f"{name} has fewer embeddings than its tokenizer has tokens ({len(tokenizer)}); give both from one model.")
    for module in model.modules():  # a policy that changes at every look has no log-probabilities to speak of
        for dropout in ("p", "attention_dropout"):
            if isinstance(getattr(module, dropout, None), float):
                setattr(module, dropout, 0.0)
    model.eval()
    try:
        followed = samples_right(model, len(tokenizer))
    except Exception as error:  # an architecture of sizes that do not go together
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise UserError(f"{name} does not run ({one_line(error)}); mend its sizes.") from error
    if not followed:
        raise UserError(f"{name} computes its logits in a way that this sampler does not follow; choose another model.")
    if device.type == "cuda":
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # its old name
        enable({"use_reentrant": False})
    return model, tokenizer


def end_tokens(model, tokenizer):
    """All ids that end a solution: chat models have several, and generation_config and tokenizer may disagree."""
    ids = set()
    for source in (model.generation_config, model.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        ids |= set(value) if isinstance(value, (list, tuple)) else {value}
    ids.discard(None)
    if not ids:
        raise UserError("The model names no end-of-sequence token; set eos_token_id in its generation_config.json.")
    return sorted(ids, key=lambda i: (i != tokenizer.eos_token_id, i))  # where one must be supplied: the tokenizer's


UNUSED_TOKENS = ("<|vision_start|>", "<|reserved_special_token_0|>", "<|extra_0|>", "<unused0>")  # Qwen2.5, Llama 3, Qwen, Gemma


def choose_token(wanted, model, tokenizer, eos_ids):
    """The id of z_c: the given token or id, else a known unused one, else an embedding row beyond the vocabulary.

    Raises UserError if it does not exist or has another duty.
    """
    rows = model.get_input_embeddings().weight.size(0)
    if wanted is None:
        known = (tokenizer.convert_tokens_to_ids(token) for token in UNUSED_TOKENS if token in tokenizer.get_vocab())
        token = next(known, len(tokenizer))
        if token >= rows:  # every row is taken: add one
            token = rows
            model.resize_token_embeddings(rows + 1)
    elif wanted.removeprefix("-").isdecimal() and wanted.isascii() and len(wanted) < 12:
        token = int(wanted)
    else:
        known = tokenizer.get_vocab()
        ids = [known[wanted]] if wanted in known else tokenizer.encode(wanted, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise UserError(f"--token {wanted!r} is not one token of this tokenizer; give a special token or an id.")
        token = ids[0]
    if not 0 <= token < model.get_input_embeddings().weight.size(0):
        raise UserError(f"--token {token} does not exist: the model has ids 0 to {rows - 1}.")
    if token in eos_ids or token == tokenizer.pad_token_id:
        raise UserError(f"--token {wanted} already ends or pads sequences; choose a token that the model never uses.")
    return token


# -------------------------------------------------------------------------------------------- memory and processes


def kv_bytes(model):
    """Bytes of keys and values that one token leaves in the cache."""
    c = model.config
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    return 2 * c.num_hidden_layers * heads * head * next(model.parameters()).element_size()


def memory_of(device):
    """Bytes of memory of a GPU, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def choose_dtype(config, device):
    """Of weights and AdamW moments: float32 on a CPU, and on GPUs if it fits, with computation in bfloat16; else bfloat16.

    float32 takes 16 bytes a parameter (weight, gradient, two moments), shared out over the processes, and 2 for the bfloat16
    copy that computes; 30% are left to the KV cache and to activations. bfloat16 takes 8 and rounds stochastically.
    """
    if config.param_dtype != "auto" or device.type == "cpu":
        return "float32" if config.param_dtype == "auto" else config.param_dtype
    parameters = load_model(config.model, torch.device("meta"), "bfloat16", 0)[0].num_parameters()
    return "float32" if parameters * (16 / WORLD + 2) < 0.7 * memory_of(device) else "bfloat16"


def dry_run(config):
    """Print what a run holds in memory between loading and end, by kind, and what fits. Returns bytes by kind, for one process.

    Weights, gradients, moments and the cache are exact; activations (float32 without checkpointing, or bfloat16 with it) and the
    loss are what such shapes were measured to take, to about a tenth.
    """
    device = choose_device(config.device)
    on_gpu, dtype = device.type == "cuda", choose_dtype(config, device)
    model, _ = load_model(config.model, torch.device("meta"), "bfloat16" if on_gpu else dtype, 0)  # as it computes
    c, parameters, each = model.config, model.num_parameters(), 4 if dtype == "float32" else 2
    compute, rows = next(model.parameters()).element_size(), config.micro_batch_tokens
    layer = 12 + 4 * c.intermediate_size / c.hidden_size  # numbers that one layer keeps for its backward pass, per hidden number
    kept = c.num_hidden_layers + 1.2 * layer if on_gpu else c.num_hidden_layers * layer  # with and without gradient checkpointing
    share = parameters * each // WORLD
    held = {"weights": share, "gradients": share, "AdamW moments": 2 * share,
            "gathered weights": parameters * compute * (WORLD > 1 or compute < each),  # while sampling
            "reference": parameters * compute * (config.exact_reference or config.kl > 0),
            "activations": int(rows * c.hidden_size * compute * kept),
            "loss": 4 * LOGITS_COPIES * min(LOGITS_AT_A_TIME, rows * c.vocab_size),
            "cache per solution": kv_bytes(model) * (config.max_prompt_tokens + config.max_response_tokens)}
    memory, lasting = memory_of(device), held["weights"] + held["AdamW moments"] + held["reference"]
    training = lasting + held["gradients"] + held["activations"] + held["loss"]
    free = 0.6 * (memory - lasting - held["gathered weights"]) if on_gpu else 0.3 * memory  # as `running_rows` reckons
    fits = int(free / held["cache per solution"]) if on_gpu else min(512, int(free / held["cache per solution"]))
    print(f"{config.model}: {parameters:,} parameters, kept in {dtype}; {device} with {memory / 2**30:.1f} GiB; processes: {WORLD}")
    for kind, size in held.items():
        print(f"{kind:>20} {size / 2**30:10.3f} GiB")
    print(f"training takes {training / 2**30:.2f} GiB; while sampling, {max(fits, 0)} solutions of {config.max_response_tokens} "
          "tokens fit at a time")
    if training > memory or fits < 1:
        print("this does not fit: lower --micro_batch_tokens or --max_response_tokens, or use more GPUs with torchrun")
    return held


# `torchrun --nproc-per-node N laser.py …` starts N processes. All have the same problems, settings and uniform numbers. Each
# samples its share of the step and shows it to the others, so whatever is counted over the step is counted alike by all; then
# each trains on its share of the micro-batches, and FSDP adds the gradients up. So N processes take the step that one would.
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
progress = functools.partial(tqdm, dynamic_ncols=True, disable=RANK > 0)


def join(device):
    """Meet the other processes of torchrun; only the first one speaks, and only it writes files."""
    if not dist.is_initialized():
        alone = {"store": dist.HashStore(), "rank": 0, "world_size": 1} if WORLD == 1 else {}
        dist.init_process_group(timeout=datetime.timedelta(hours=4), **alone)  # one may sample much longer than another
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if RANK > 0:
        sys.stdout = open(os.devnull, "w")


def shard(model):
    """Split weights, gradients and moments over the processes (FSDP2), in float32 or as they are, computing in bfloat16 on a GPU.

    One process with float32 weights on a GPU comes here, too: FSDP then only keeps the bfloat16 copy that computes.
    """
    for weight in model.parameters():
        dist.broadcast(weight.data, 0)  # random weights and a warm start may differ by rounding
    options = {"mesh": dist.init_device_mesh(model.device.type, (WORLD,)), "mp_policy": MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if model.device.type == "cuda" else None, reduce_dtype=torch.float32, cast_forward_inputs=False)}
    for block in next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList)):
        fully_shard(block, **options)
    fully_shard(model, **options)
    # FSDP gathers weights around `forward` and around methods named to it: this one runs any function of the model so
    model.passing = types.MethodType(lambda self, f, *args, **kwargs: f(self, *args, **kwargs), model)
    register_fsdp_forward_method(model, "passing")


def forward_pass(f):
    """Let f(model, …) count as a forward pass: a sharded model is gathered for it, and its backward pass is prepared."""
    @functools.wraps(f)
    def wrapped(model, *args, **kwargs):
        return model.passing(f, *args, **kwargs) if isinstance(model, FSDPModule) else f(model, *args, **kwargs)
    return wrapped


def deal(batches):
    """This process's share of the micro-batches, as (batch, whether it counts). Each pass through a sharded model is a meeting of
    all processes, so all get equally many: where they do not come out even, a repeat that does not count fills up."""
    share = batches[RANK::WORLD]
    return [(batch, True) for batch in share] + [(batches[-1], False)] * (len(batches[::WORLD]) - len(share))


def add_up(x):
    """The sum of x over all processes, in place."""
    if WORLD > 1:
        dist.all_reduce(x)
    return x


def local(x):
    """This process's shard of a tensor of a sharded model or optimizer; others as they are."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x):
    """A tensor of a sharded model or optimizer put together, on the first process's CPU (None elsewhere); others as they are."""
    if not isinstance(x, DTensor):
        return x
    x = x.full_tensor()
    return x.cpu() if RANK == 0 else None


# ---------------------------------------------------------------------------------------------------------- sampling


def attention(module, query, key, value, attention_mask, scaling=None, **options):
    """Attention as transformers calls it: its own SDPA, but plain matrix products for one new token or, on a CPU, short rows.

    query (b, heads, t, d); key, value (b, kv_heads, S, d). The query heads that share a key head simply become more queries of
    that head, so keys are never copied per head, and plain products spare the fused kernel's set-up: on a CPU at tiny shapes
    this is 3 to 6 times as fast for one token, and a tenth of a whole update for rows of 50.
    """
    b, heads, t, d = query.shape
    if t > (1 if query.is_cuda else 128) or attention_mask is not None and not attention_mask.is_floating_point():
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    scores = (query.reshape(b, key.size(1), -1, d) @ key.transpose(2, 3)).mul_(scaling or d**-0.5).view(b, heads, t, -1)
    if attention_mask is not None:
        scores += attention_mask
    elif t > 1:
        scores.masked_fill_(torch.ones(t, t, dtype=torch.bool, device=scores.device).triu_(1), -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights.view(b, key.size(1), -1, key.size(2)) @ value).view(b, heads, t, d).transpose(1, 2), None


AttentionInterface.register("laser", attention)
AttentionMaskInterface.register("laser", sdpa_mask)


class RunningCache(Cache):
    """Keys and values of the running solutions: row i's token at position p sits in slot p, written in place.

    So rows of different lengths, prompts included, run side by side without left padding; a mask hides the slots beyond each
    row's own position, which hold leftovers. `kv` is one [keys, values] a layer, each (rows, kv_heads, slots, d).
    """

    def __init__(self, slots):
        super().__init__(layers=[])
        self.kv, self.slots = [], slots

    def get_seq_length(self, layer=0):
        return self.used

    def prepare(self, slot, used):
        """Before a step: each row's slot for its new token, and how many slots any row uses."""
        pairs = torch.arange(len(slot) * self.kv[0][0].size(1), device=slot.device).view(len(slot), -1)  # of row and head
        self.place, self.used = (pairs * self.slots + slot[:, None]).view(-1), used

    def update(self, keys, values, layer, *_, **__):
        for store, new in zip(self.kv[layer], (keys, values)):
            store.view(-1, store.size(3)).index_copy_(0, self.place, new.reshape(-1, store.size(3)))
        return [store[:, :, : self.used] for store in self.kv[layer]]

    def keep(self, rows):
        for pair in self.kv:  # one tensor at a time: two whole caches would not fit
            for i in (0, 1):
                pair[i] = pair[i][rows]

    def append(self, prefilled, rows):
        """Add rows of a prefilled cache; repeating a row gives a problem's G solutions their common prompt."""
        for i, layer in enumerate(prefilled.layers):
            new = [F.pad(x[rows], (0, 0, 0, self.slots - x.size(2))) for x in (layer.keys, layer.values)]
            self.kv[i : i + 1] = [[torch.cat(x) for x in zip(self.kv[i], new)] if i < len(self.kv) else new]


class Solutions(NamedTuple):
    tokens: torch.Tensor  # (B, T) response ids, EOS included; beyond a row's length: 0
    logps: torch.Tensor  # (B, T) log-probability of each under the (tempered) policy that drew it
    lengths: torch.Tensor  # (B,) tokens in the response
    complete: torch.Tensor  # (B,) True if it ended with an EOS, False if it was cut
    logp_zc: torch.Tensor  # (B,) log π(z_c|x,y) after EOS; −inf where cut: no EOS, no self-reward

    def responses(self):
        """The B responses as lists of token ids."""
        return [row[:length].tolist() for row, length in zip(self.tokens.cpu(), self.lengths.tolist())]


def uniforms(rows, columns, *stream):
    """(rows, columns) uniform numbers in (0, 1], always drawn on the CPU: the same on every device, for every split of the work."""
    generator = torch.Generator().manual_seed(seed_of(*stream))
    return 1 - torch.rand(rows, columns, generator=generator)


PATIENCE = {"cuda": 16}  # steps between looks at who has finished, else 1: a look makes the GPU wait


def running_rows(model, tokens):
    """How many solutions of `tokens` slots fit into 60% of the free memory (logits need some, too); on a CPU at most 512."""
    if model.device.type != "cuda":
        return max(1, min(512, int(0.3 * memory_of(model.device) / (kv_bytes(model) * tokens))))
    torch.cuda.empty_cache()  # what the last update left reserved is free for the cache
    to_come = sum(p.numel() for p in model.parameters() if isinstance(p, DTensor)) * 2  # blocks not yet gathered, as bfloat16
    return max(1, int(0.6 * (torch.cuda.mem_get_info(model.device)[0] - to_come) / (kv_bytes(model) * tokens)))


@torch.no_grad()
@forward_pass
def sample(model, prompts, group_size, u, eos_ids, token, temperature=1.0, max_rows=0, bar=None):
    """Sample `group_size` solutions for each prompt, and read log π(z_c) after each: Solutions, on the model's device.

    prompts: P lists of token ids; u: (P·G, T) uniform numbers in (0, 1]. Token t of solution i is the inverse of the model's
    cumulative distribution at u[i, t]: it depends on nothing else, so neither the number of rows that run at a time
    (`max_rows`, 0: as memory allows) nor who has finished changes what is drawn. temperature 0 is greedy. A row ends with any of
    `eos_ids`, which is then fed to the model for one more step: where a next token would be drawn, log π(z_c) is read
    instead, from the untempered logits (paper, section 3.3: the self-reward costs one token). `bar`, a tqdm, counts tokens.
    """
    model.eval()
    head, device = model.get_output_embeddings(), next(model.parameters()).device
    (B, T), u = u.shape, u.to(device)
    eos = torch.tensor(eos_ids, device=device)
    tokens, logps = torch.zeros(B, T, dtype=torch.long, device=device), torch.zeros(B, T, device=device)
    lengths, logp_zc = torch.zeros(B, dtype=torch.long, device=device), torch.full((B,), -torch.inf, device=device)
    slots = max(map(len, prompts)) + T
    max_rows = max_rows or running_rows(model, slots)
    patience = PATIENCE.get(device.type, 1)

    started, cache, logits = 0, RunningCache(slots), None  # solutions started so far
    # the running rows: which solution each is, its newest token, that token's position, and response tokens so far
    row = last = slot = count = torch.zeros(0, dtype=torch.long, device=device)
    ended = row > 0  # whether the newest token is an EOS
    for step in itertools.count():
        # 1. Admit waiting solutions. A prompt is prefilled once for all its solutions that start now. Prompts are padded on
        #    the right, where a causal model's real tokens cannot see; the next tokens then overwrite the padding's slots.
        while started < B and (not len(row) or max_rows - len(row) >= max(1, max_rows // 8)):
            new = torch.arange(started, min(B, started + max_rows - len(row)), device=device)
            first = started // group_size
            batch = prompts[first : int(new[-1]) // group_size + 1]
            fits = max(1, 32768 // max(map(len, batch)))  # prompts a prefill
            batch, new = batch[:fits], new[new // group_size < first + fits]
            started += len(new)
            sizes = torch.tensor([len(p) for p in batch], device=device)
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p) for p in batch], batch_first=True).to(device)
            prefilled = DynamicCache()
            hidden = model.base_model(input_ids=ids, past_key_values=prefilled, use_cache=True).last_hidden_state
            prompt = new // group_size - first
            fresh = head(hidden[torch.arange(len(batch), device=device), sizes - 1])[prompt]
            cache.append(prefilled, prompt)
            del prefilled, hidden
            logits = torch.cat([logits, fresh]) if len(row) else fresh
            row, last = torch.cat([row, new]), torch.cat([last, torch.full_like(new, -1)])
            slot, count = torch.cat([slot, sizes[prompt] - 1]), torch.cat([count, torch.zeros_like(new)])
            ended = torch.cat([ended, new < 0])
            used = int(slot.max()) + 1
        # 2. Rows whose newest token is EOS read z_c; the others draw. A finished row may linger a few steps: it repeats
        #    itself, writing the same values to the same places.
        logp = logits.float().log_softmax(-1)
        done = ended | (count == T)
        logp_zc[row] = torch.where(ended, logp[:, token], logp_zc[row])
        if temperature not in (0, 1):
            logp = (logits.float() / temperature).log_softmax(-1)
        column = count - done.long()  # a finished row draws again into its last column, and keeps what is there
        if temperature == 0:
            drawn = logp.argmax(-1)
        else:  # the first token whose cumulative probability reaches u: as u > 0, never one of probability 0
            cdf = logp.exp().cumsum(-1)
            drawn = torch.searchsorted(cdf, (u[row, column] * cdf[:, -1])[:, None]).squeeze(1).clamp(max=cdf.size(1) - 1)  # nan: V
        last = torch.where(done, last, drawn)
        ended = torch.isin(last, eos)
        tokens[row, column] = last
        logps[row, column] = torch.where(done, logps[row, column], logp.gather(1, last[:, None]).squeeze(1))
        count, slot, used = count + ~done, slot + ~done, min(used + 1, slots)
        lengths[row] = count
        if bar is not None:
            bar.update(len(row))
        # 3. Let finished rows leave, once they are an eighth of the batch: copying the cache costs about one step.
        if step % patience == 0:
            stay = ~(done | ((count == T) & ~ended))
            if (len(row) - int(stay.sum())) * 8 >= len(row):
                stay = stay.nonzero().squeeze(1)
                row, last, slot, count, ended = row[stay], last[stay], slot[stay], count[stay], ended[stay]
                cache.keep(stay)
            if not len(row) and started == B:
                break
            used = int(slot.max()) + 1 if len(row) else 0
        # 4. One token further for every running row, each at its own position.
        if len(row):
            cache.prepare(slot, used)
            beyond = (torch.arange(used, device=device) > slot[:, None])[:, None, None]
            mask = torch.zeros(beyond.shape, dtype=logits.dtype, device=device).masked_fill_(beyond, -torch.inf)
            hidden = model.base_model(input_ids=last[:, None], position_ids=slot[:, None], past_key_values=cache,
                                      attention_mask=mask, use_cache=True).last_hidden_state
            logits = head(hidden[:, -1])
    if not torch.isfinite(logps).all():
        raise UserError("The model's probabilities are not finite; its weights are damaged: start from an earlier checkpoint.")
    complete = torch.isin(tokens.gather(1, lengths[:, None] - 1).squeeze(1), eos)
    return Solutions(tokens, logps, lengths, complete, logp_zc)


def sample_together(policy, prompts, group_size, u, config):
    """`sample` with the prompts split over the processes: every one gets all the Solutions."""
    model, sharded = policy.model, isinstance(policy.model, FSDPModule)
    low, high = (len(prompts) * rank // WORLD for rank in (RANK, RANK + 1))
    mine = slice(low, max(high, low + 1))  # where there are fewer prompts than processes, some sample one in vain
    if sharded:
        model.set_reshard_after_forward(False)  # the first token gathers the weights, and they stay for all the others
    with progress(desc="sampling", unit=" tokens", leave=False, delay=2) as bar:  # shown if it takes longer than 2 s
        solutions = sample(model, prompts[mine], group_size, u[mine.start * group_size : mine.stop * group_size], policy.eos_ids,
                           policy.token, config.temperature, config.sample_rows, bar)
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


# ------------------------------------------------------------------------------- log-probabilities and self-reward


LOGITS_AT_A_TIME, LOGITS_COPIES = 2**26, 5  # 256 MiB in float32, about 440 tokens of a 152,000 vocabulary; so often in backward


def chosen_logps(head, hidden, targets, temperature):
    """log softmax(head(hidden) / temperature)[targets] for flat hidden (N, D), targets (N,) and temperature (N,): (N,) float32.

    The logits exist for one chunk at a time, and the backward pass computes them again: never N × V numbers.
    """
    def chunk(h, t, temp):
        logits = head(h).float() / temp[:, None]
        return logits.gather(1, t[:, None]).squeeze(1) - logits.logsumexp(-1)

    size = max(1, LOGITS_AT_A_TIME // head.weight.size(0))
    parts = zip(hidden.split(size), targets.split(size), temperature.split(size))
    if not torch.is_grad_enabled() or len(hidden) <= size:  # one chunk may as well be kept
        return torch.cat([chunk(*part) for part in parts])
    return torch.cat([recompute_in_backward(chunk, *part, use_reentrant=False) for part in parts])


@forward_pass
def token_logps(model, prompts, responses, token, temperature=1.0):
    """Teacher-forced log-probabilities of given responses: logps (b, T), 0 beyond a response's end, and logp_zc (b,).

    One forward pass over prompt + response + z_c, padded on the right: a real token never sees what follows it, so padding
    needs no attention mask and shifts no position. Entry [i, t] is log π(y_t | x, y_<t) at `temperature`; logp_zc is read one
    place after the last token, at temperature 1 whatever the sampling temperature.
    """
    device = next(model.parameters()).device
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p + r + [token]) for p, r in zip(prompts, responses)], batch_first=True)
    start = torch.tensor([[len(p) - 1] for p in prompts])  # the position that predicts the first response token
    size = torch.tensor([[len(r)] for r in responses])
    place = torch.arange(ids.size(1) - 1)[None]
    read = ((start <= place) & (place <= start + size)).to(device)  # len(r) + 1 places a row: the response, then z_c
    is_zc = (place == start + size).to(device)[read]
    ids = ids.to(device)
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[read]
    temps = torch.where(is_zc, 1.0, temperature)
    flat = chosen_logps(model.get_output_embeddings(), hidden, ids[:, 1:][read], temps)
    logps = flat.new_zeros(len(prompts), int(size.max()))
    filled = (torch.arange(logps.size(1)) < size).to(device)
    return logps.masked_scatter(filled, flat[~is_zc]), flat[is_zc]


def micro_batches(lengths, budget):
    """Cut solutions of the given lengths into lists of indices, longest first, each at most `budget` padded tokens (or one row)."""
    order, batches = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), []
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        batches.append(order[:size])
        order = order[size:]
    return batches


@torch.no_grad()
def score(model, prompts, responses, token, temperature=1.0, budget=16384):
    """`token_logps` of any number of responses, without gradient, in micro-batches: logps (B, T), logp_zc (B,)."""
    model.eval()
    device = next(model.parameters()).device
    logps = torch.zeros(len(prompts), max(map(len, responses)), device=device)
    logp_zc = torch.zeros(len(prompts), device=device)
    for batch, counts in deal(micro_batches([len(p) + len(r) + 1 for p, r in zip(prompts, responses)], budget)):
        part, of_zc = token_logps(model, [prompts[i] for i in batch], [responses[i] for i in batch], token, temperature)
        if counts:
            logps[batch, : part.size(1)], logp_zc[batch] = part, of_zc
    return add_up(logps), add_up(logp_zc)


def self_reward(logp_zc, c_ref, beta):
    """r_s = β (log π(z_c|x,y) − c_ref): the model's own estimate of the reward of y. Any shape; unclipped, right ≈ 1, wrong ≈ 0.

    Where it comes from (paper, section 3.2). Let the model answer a finished solution with one verdict token z, worth
    r̂ = 1 if z says the truth about it, else 0, under a KL penalty to the reference:

        max over π of  E_{z~π}[r̂(z)] − β KL(π ‖ π_ref)        has the optimum        π*(z) = π_ref(z) exp(r̂(z)/β) / Z .

    Take the logarithm and solve for the reward: r̂(z) = β log(π*(z)/π_ref(z)) + β log Z. If log Z ≈ 0 (see `log_partition`),
    reading this at the one token z_c, «this is right», gives r_s = β log(π(z_c)/π_ref(z_c)); and as log π_ref(z_c|x,y) hardly
    varies for a token that is never used, a constant c_ref replaces it, and no reference model is needed. c_ref may also be
    a tensor of the exact values. Training makes r_s = r_v by regression: a right solution's π(z_c) rises from e^c_ref to only
    e^(c_ref + 1/β), still next to nothing, so the model goes on reasoning as it did.
    """
    return beta * (logp_zc - c_ref)


def log_partition(c_ref, beta):
    """log Z = log(1 + e^c_ref (e^(1/β) − 1)) in nats, > 0: only the true verdict is rewarded, so only its term is tilted.

    With c_ref = −23 and β = 0.1 it is 2e-6. It stops being ≈ 0 when c_ref + 1/β comes near 0: then r_s = 1 would ask for more
    probability than there is. A small model, whose unused tokens still have e^-8, needs a β of 0.2 or more.
    """
    x = c_ref + 1 / beta + math.log(-math.expm1(-1 / beta))  # log of the second term, which may overflow
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def log_partition_now(logp_zc, beta):
    """log Z as the trained policy implies it: the tilt moves π(z_c) to π_ref(z_c) e^(1/β) / Z, hence 1/Z = 1 − π(z_c)(1 − e^(−1/β)).

    logp_zc: (N,) of right, complete solutions. Mean over them, nats; nan if there are none. Logged as training goes on.
    """
    return -torch.log1p(logp_zc.double().exp() * math.expm1(-1 / beta)).mean()


# -------------------------------------------------------------------------------------------------------- advantages


def group_advantages(rewards, group_size):
    """GRPO: (r − mean) / (std + 1e-6) within each group of G solutions to one problem, unbiased std. (B,) → (B,).

    A group whose rewards are all equal gets 0: nothing to prefer. It still trains the self-reward.
    """
    groups = rewards.reshape(-1, group_size) * 1.0  # integers too
    return ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-6)).reshape(-1)


def mix_advantages(advantages, self_rewards, complete, group_size, tau, min_std):
    """(1 − τ) A_v + τ A_s, with A_s the group-normalised self-rewards clipped to [0, 1] (paper, section 3.4). All (B,).

    self_rewards are unclipped; a cut solution (complete False) counts as score 0. Where a group's scores have std ≤ min_std
    the grades do not tell the solutions apart, dividing by it would only amplify noise, and A_v stands alone.
    """
    scores = torch.where(complete.bool(), self_rewards.clamp(0, 1), 0.0)
    told_apart = (scores.reshape(-1, group_size).std(1) > min_std).repeat_interleave(group_size)
    mixed = (1 - tau) * advantages + tau * group_advantages(scores, group_size)
    return torch.where(told_apart, mixed, advantages)


# ------------------------------------------------------------------------------------------------------------ losses


def policy_loss(logps, old_logps, advantages, mask, clip_low, clip_high, total_tokens=None):
    """PPO's clipped objective, negated, as a mean over tokens: scalar.

    logps, old_logps (B, T); advantages (B,), the same for all tokens of a solution; mask (B, T) True on response tokens, EOS
    included — it is a decision of the policy like any other. `total_tokens` of the whole step makes micro-batches add up.
    """
    mask = mask.bool()
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    gain = torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
    return -torch.where(mask, gain, 0.0).sum() / (mask.sum().clamp(min=1) if total_tokens is None else total_tokens)


def class_weights(rewards, complete, balanced=True):
    """(B,) weights of the solutions in the self-reward loss, over the whole step: 0 where cut.

    Balanced: N/(2 N_c) for a right one and N/(2 N_i) for a wrong one, over N = N_c + N_i complete solutions; so both classes
    weigh half, and grading everything «wrong» does not pay when most are. Returned divided by N: 1/(2 N_c) and 1/(2 N_i), so that
    the loss is a plain sum.
    """
    complete = complete.bool()
    right, wrong = complete & (rewards > 0.5), complete & (rewards <= 0.5)
    n = complete.sum().clamp(min=1)
    if not balanced:
        return complete / n
    return right / (2 * right.sum().clamp(min=1)) + wrong / (2 * wrong.sum().clamp(min=1))


def self_reward_loss(self_rewards, rewards, complete, balanced=True, weights=None):
    """1/(N_c+N_i) Σ w (r_s − r_v)² over complete solutions, unclipped r_s (paper, equation 10): scalar. All (B,).

    `weights`, these rows' slice of the step's `class_weights`, makes micro-batches add up.
    """
    weights = class_weights(rewards, complete, balanced) if weights is None else weights
    return (weights * torch.where(complete.bool(), self_rewards - rewards, 0.0) ** 2).sum()


def self_reward_cross_entropy(logp_zc, rewards, complete, balanced=True, weights=None):
    """The ablation: binary cross-entropy of π(z_c) against r_v, weighted alike. It drives π(z_c) to 1, so z_c starts to be said."""
    weights = class_weights(rewards, complete, balanced) if weights is None else weights
    logp = torch.where(complete, logp_zc, -1.0).clamp(max=-1e-6)  # log(1 − π) stays finite
    return -(weights * (rewards * logp + (1 - rewards) * torch.log(-torch.expm1(logp)))).sum()


def kl_penalty(logps, ref_logps, mask, total_tokens=None):
    """The k3 estimate of KL(π ‖ π_ref), e^d − d − 1 with d = log π_ref − log π, as a mean over tokens: scalar ≥ 0."""
    d = torch.where(mask, ref_logps - logps, 0.0)
    return (d.exp() - d - 1).sum() / (mask.sum().clamp(min=1) if total_tokens is None else total_tokens)


# -------------------------------------------------------------------------------------------------------- one update


def clip_gradient(model, optimizer, most):
    """Scale the gradient to a norm of at most `most`; returns the norm it had: scalar."""
    if isinstance(optimizer, BF16AdamW):
        optimizer.collect()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def update(model, optimizer, prompts, solutions, rewards, advantages, alpha, c_ref, token, config, ref_logps=None):
    """One optimizer step on the B solutions of a training step; returns its figures as a dict of floats.

    The joint loss is L = L_policy + α L_self (+ kl · KL), summed over micro-batches of about equal length. All its parts are
    sums over the step divided by totals of the step, so how it is cut changes nothing. Raises UserError if the loss or the
    gradient is not finite, before the weights are touched.
    """
    model.train()  # only for gradient checkpointing: dropout is off
    responses = solutions.responses()
    lengths = [len(p) + len(r) + 1 for p, r in zip(prompts, responses)]
    total = int(solutions.lengths.sum())
    weights = class_weights(rewards, solutions.complete, config.balanced)
    c_ref = torch.as_tensor(c_ref, device=rewards.device).expand(len(rewards))
    sums = torch.zeros(5, device=rewards.device)
    for batch, counts in deal(micro_batches(lengths, config.micro_batch_tokens)):
        logps, logp_zc = token_logps(model, [prompts[i] for i in batch], [responses[i] for i in batch], token, config.temperature)
        T = logps.size(1)
        mask = torch.arange(T, device=logps.device) < solutions.lengths[batch, None]
        # At one update a step these solutions come from exactly these weights: the old log-probs are this very forward
        # pass, detached. The ratio is exactly 1 and nothing is clipped, but its gradient is that of log π: A · ∇ log π. The
        # sampler's own log-probs differ from them by rounding only; `logp_mismatch` keeps watch over that.
        old_logps = logps.detach()
        loss_policy = policy_loss(logps, old_logps, advantages[batch], mask, config.clip_low, config.clip_high, total)
        if config.self_loss == "ce":
            loss_self = self_reward_cross_entropy(logp_zc, rewards[batch], solutions.complete[batch], weights=weights[batch])
        else:
            scores = self_reward(logp_zc, c_ref[batch], config.beta)
            loss_self = self_reward_loss(scores, rewards[batch], solutions.complete[batch], weights=weights[batch])
        loss_kl = kl_penalty(logps, ref_logps[batch, :T], mask, total) if config.kl else torch.zeros_like(loss_policy)
        loss = loss_policy + alpha * loss_self + config.kl * loss_kl
        (loss * counts * WORLD).backward()  # FSDP takes the mean over the processes, and ours is a sum
        ratio = (logps - old_logps).detach().exp()
        outside = (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high)
        mismatch = torch.where(mask, old_logps - solutions.logps[batch, :T], 0.0).abs()
        figures = (loss_policy, loss_self, loss_kl, (outside & mask).sum() / total, mismatch.sum() / total)
        sums += counts * torch.stack([figure.detach() for figure in figures])
    grad_norm, sums = clip_gradient(model, optimizer, config.grad_clip), add_up(sums)
    if not (torch.isfinite(grad_norm) and torch.isfinite(sums).all()):
        optimizer.zero_grad()
        raise UserError("The loss or its gradient is no longer finite; the last checkpoint is untouched: lower --lr or --alpha.")
    optimizer.step()
    optimizer.zero_grad()
    names = ("policy_loss", "self_reward_loss", "kl", "clip_fraction", "logp_mismatch")
    return {**dict(zip(names, sums.tolist())), "grad_norm": grad_norm.item()}


# ------------------------------------------------------------------------------------------------- metrics and votes


def grade_metrics(scores, rewards, weights=None, threshold=0.5):
    """How well unclipped self-rewards (N,) tell right from wrong solutions (rewards (N,) 0/1): f1, tpr, tnr, auroc, ece.

    A score above `threshold` says «right». tpr, tnr: accuracy on the right, on the wrong solutions. f1: their harmonic mean (the
    paper's self-verification F1). auroc: chance that a right solution scores above a wrong one, ties count half. ece: mean
    gap between clipped score and accuracy over 10 equal bins. nan where a class is empty. `weights` (..., N), how often each
    solution is counted, gives results (...,): the bootstrap asks for all its resamples at once.
    """
    w = torch.ones_like(scores, dtype=torch.float64) if weights is None else weights.double()
    right = (rewards > 0.5).double()
    w_right, w_wrong, clipped = w * right, w * (1 - right), scores.double().clamp(0, 1)
    says_right = (scores > threshold).double()
    tpr = (w_right * says_right).sum(-1) / w_right.sum(-1)
    tnr = (w_wrong * (1 - says_right)).sum(-1) / w_wrong.sum(-1)
    f1 = torch.where(tpr + tnr == 0, 0.0, 2 * tpr * tnr / (tpr + tnr))

    def totals(values, index, size):  # sums of values (..., N) by index (N,)
        return values.new_zeros(*values.shape[:-1], size).index_add_(-1, index, values)

    levels, level = scores.unique(return_inverse=True)
    up, down = totals(w_right, level, len(levels)), totals(w_wrong, level, len(levels))
    auroc = (up * (down.cumsum(-1) - down / 2)).sum(-1) / (w_right.sum(-1) * w_wrong.sum(-1))
    bins = (clipped * 10).long().clamp(max=9)
    ece = (totals(w * clipped, bins, 10) - totals(w_right, bins, 10)).abs().sum(-1) / w.sum(-1)
    return {"f1": f1, "tpr": tpr, "tnr": tnr, "auroc": auroc, "ece": ece}


def best_threshold(scores, rewards):
    """The threshold at which the f1 of (N,) scores against 0/1 rewards is largest: scalar, halfway between two scores, or nan if a
    class is empty."""
    if not 0 < rewards.sum() < len(rewards):
        return math.nan
    scores, order = scores.sort(descending=True)
    right = rewards[order].double()
    # of the cut after the i-th score: the share of right ones above it, and of wrong ones below
    tpr, tnr = right.cumsum(0) / right.sum(), 1 - (1 - right).cumsum(0) / (1 - right).sum()
    below = torch.cat([scores[1:], scores[-1:] - 1])
    f1 = torch.where(scores > below, 2 * tpr * tnr / (tpr + tnr), -1.0).nan_to_num(0.0)  # equal scores cannot be parted
    best = f1.argmax()
    return ((scores[best] + below[best]) / 2).item()


def rank_correlation(x, y):
    """Spearman's correlation of two (N,) tensors, ties by their mean rank; nan if one is constant."""
    def ranks(values):
        _, level, count = values.unique(return_inverse=True, return_counts=True)
        return (count.cumsum(0) - (count - 1) / 2)[level].double()

    return torch.corrcoef(torch.stack([ranks(x), ranks(y)]))[0, 1].item() if len(x) > 1 else math.nan


def reliability(scores, rewards):
    """Ten rows [count, mean score, accuracy], one for each tenth of the range of clipped scores; None where a bin is empty."""
    clipped, rows = scores.clamp(0, 1), []
    for i in range(10):
        of_bin = (clipped * 10).long().clamp(max=9) == i
        rows.append([int(of_bin.sum()), number(clipped[of_bin].mean()), number(rewards[of_bin].double().mean())])
    return rows


def pass_at_k(rewards, k):
    """1 − C(n−c, k)/C(n, k) for rewards (P, n) with c right ones a problem: (P,), the unbiased chance that one of k is right."""
    n, right = rewards.size(1), rewards.sum(1).long().tolist()
    return torch.tensor([1 - math.comb(n - c, k) / math.comb(n, k) for c in right], dtype=torch.float64)


def subsets(n, k, most=256):
    """0/1 membership (S, n) of the k-subsets of n samples: all of them if at most `most`, else that many seeded random ones."""
    if math.comb(n, k) <= most:
        chosen = list(itertools.combinations(range(n), k))
    else:
        rng = random.Random(seed_of("subsets", n, k))
        chosen = [rng.sample(range(n), k) for _ in range(most)]
    return torch.zeros(len(chosen), n, dtype=torch.float64).scatter_(1, torch.tensor(chosen), 1.0)


def vote(classes, weights, rewards, members):
    """Expected reward (P,) of the class with the largest summed weight, averaged over subsets of samples; ties share the credit.

    classes (P, n): index < n of the sample's answer among equivalent ones, −1 for no answer, which casts no vote;
    weights (P, n) ≥ 0: 1 for a majority vote, the clipped self-reward for a weighted one; members (S, n): `subsets`. With
    each sample its own class and the score as weight this is best-of-n.
    """
    n = classes.size(1)
    belongs = F.one_hot(classes + 1, n + 1)[..., 1:].double()  # (P, n, classes)
    count = members @ belongs  # (P, S, classes)
    total = members @ (belongs * weights[..., None])
    total = torch.where(count > 0, total, -torch.inf)
    winners = ((total >= total.amax(-1, keepdim=True) - 1e-9) & (count > 0)).double()
    right = (belongs * rewards[..., None]).sum(1) / belongs.sum(1).clamp(min=1)  # (P, classes)
    return ((winners * right[:, None]).sum(-1) / winners.sum(-1).clamp(min=1)).mean(1)


def voting_metrics(classes, scores, rewards):
    """mean@1 and pass@k, maj@k, weighted@k, best@k for k = 1, 2, 4 … n: a dict of (P,) values. All inputs (P, n), scores clipped."""
    n = rewards.size(1)
    rows, everyone = {"mean@1": rewards.mean(1)}, torch.arange(n).expand_as(classes)
    for k in sorted({*(2**i for i in range(n.bit_length()) if 2**i <= n), n}):
        members = subsets(n, k)
        rows[f"pass@{k}"] = pass_at_k(rewards, k)
        rows[f"maj@{k}"] = vote(classes, torch.ones_like(scores), rewards, members)
        rows[f"weighted@{k}"] = vote(classes, scores, rewards, members)
        rows[f"best@{k}"] = vote(everyone, scores, rewards, members)
    return rows


def number(value):
    """A float for JSON, which has no nan: null says «undefined»."""
    return float(value) if math.isfinite(value) else None


class Policy(NamedTuple):
    model: torch.nn.Module
    tokenizer: object
    eos_ids: list  # any of them ends a solution
    token: int  # z_c
    c_ref: float  # nats


def grade(logp_zc, c_ref, config):
    """The self-reward as `config` trains it: r_s, or π(z_c) itself under cross-entropy. −inf or 0 for cut solutions."""
    return logp_zc.exp() if config.self_loss == "ce" else self_reward(logp_zc, c_ref, config.beta)


def solve(policy, problems, config, name="", reference=None):
    """Sample config.eval_n solutions a problem, read their grades, verify: a list of rows for samples.jsonl, in problem order.

    Every evaluation of a run draws from the same uniform numbers, problem by problem: before and after differ by the model
    alone, and a problem's solutions do not depend on which others are asked.
    """
    n = config.eval_n
    prompts = [row["prompt"] for row in problems]
    u = torch.cat([uniforms(n, config.max_response_tokens, "eval", config.seed, name, row["problem"]) for row in problems])
    start = time.perf_counter()
    solutions = sample_together(policy, prompts, n, u, config)
    seconds = time.perf_counter() - start
    responses, c_ref = solutions.responses(), policy.c_ref
    if config.exact_reference:
        repeated = [p for p in prompts for _ in range(n)]
        c_ref = score(reference, repeated, responses, policy.token, budget=config.micro_batch_tokens)[1]
    scores, samples = grade(solutions.logp_zc, c_ref, config).tolist(), []
    texts = policy.tokenizer.batch_decode(responses, skip_special_tokens=True)
    for i, (text, complete) in enumerate(zip(texts, solutions.complete.tolist())):
        row = problems[i // n]
        samples.append({  # a cut solution has not given its answer yet, whatever stands in it
            "data": name, "problem": row["problem"], "gold": row["answer"], "response": text,
            "answer": extract_answer(text) if complete else None,
            "reward": reward(text, row["answer"]) if complete else 0.0, "self_reward": number(scores[i]),
            "logp_zc": number(solutions.logp_zc[i]), "complete": complete, "tokens": len(responses[i]),
            "last_token": responses[i][-1], "seconds": seconds / len(texts)})
    return samples


def summarise(samples, n, beta, resamples=500):
    """The figures of samples (n a problem, side by side): a dict, each headline `x` with `x_ci`, a 95% bootstrap interval.

    The bootstrap resamples problems, as solutions of one problem are not independent. Undefined figures are None.
    """
    P = len(samples) // n

    def column(key):
        return torch.tensor([row[key] or 0.0 for row in samples], dtype=torch.float64)

    rewards, scores, complete = column("reward"), column("self_reward"), column("complete").bool()
    answers = [row["answer"] for row in samples]
    classes = torch.tensor([[-1 if c is None else c for c in group(answers[i : i + n])] for i in range(0, P * n, n)])
    votes = torch.where(complete & (classes.view(-1) >= 0), scores.clamp(0, 1), 0.0)
    per_problem = voting_metrics(classes, votes.view(P, n), rewards.view(P, n))
    picks = torch.randint(P, (resamples, P), generator=torch.Generator().manual_seed(seed_of("bootstrap", P)))
    counts = torch.zeros(resamples, P, dtype=torch.float64).scatter_add_(1, picks, torch.ones(resamples, P, dtype=torch.float64))
    graded = (scores[complete], rewards[complete])
    point = {**{key: value.mean() for key, value in per_problem.items()}, **grade_metrics(*graded)}
    spread = {**{key: counts @ value / P for key, value in per_problem.items()},
              **grade_metrics(*graded, counts.repeat_interleave(n, dim=1)[:, complete])}
    row = {}
    for key, value in point.items():
        resampled = spread[key][~spread[key].isnan()]
        row[key] = number(value)
        row[f"{key}_ci"] = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist() if len(resampled) else None
    right, tokens, seconds = complete & (rewards > 0.5), column("tokens"), column("seconds").sum().item()
    # the threshold that is best on every other problem, judged on the others
    tuned = complete & (torch.arange(P) % 2 == 0).repeat_interleave(n)
    judged = complete & ~tuned
    threshold = best_threshold(scores[tuned], rewards[tuned])
    at_best = grade_metrics(scores[judged], rewards[judged], threshold=threshold)
    return {**row, "log_z": number(log_partition_now(column("logp_zc")[right], beta)), "complete": complete.double().mean().item(),
            "response_tokens": tokens.mean().item(),
            "length_correlation": number(rank_correlation(scores[complete], tokens[complete])),
            "threshold": number(threshold), **{f"{key}_at_threshold": number(at_best[key]) for key in ("f1", "tpr", "tnr")},
            "reliability": reliability(*graded), "seconds": seconds,
            # what reading the grade has added to sampling: one token a complete solution, and its share of the seconds
            "self_reward_tokens": int(complete.sum()),
            "self_reward_seconds": seconds * (complete.sum() / (complete.sum() + tokens.sum())).item()}


def mean_of_sets(rows):
    """The row «mean»: each headline averaged over the rows of several data sets; their independent intervals add in quadrature."""
    row = {"step": rows[0]["step"], "data": "mean", "problems": sum(row["problems"] for row in rows), "n": rows[0]["n"]}
    for key in (key for key in rows[0] if f"{key}_ci" in rows[0]):
        values, spans = [row[key] for row in rows], [row[f"{key}_ci"] for row in rows]
        if None in values or None in spans:
            row[key] = row[f"{key}_ci"] = None
            continue
        row[key] = sum(values) / len(rows)
        row[f"{key}_ci"] = [row[key] + sign * math.sqrt(sum((span[i] - x) ** 2 for x, span in zip(values, spans))) / len(rows)
                            for i, sign in ((0, -1), (1, 1))]
    return row


# ----------------------------------------------------------------------------------------------------------- the run


class BF16AdamW(torch.optim.Optimizer):
    """AdamW for bfloat16 weights and moments, 8 bytes a parameter with the gradient, by stochastic rounding.

    bfloat16 has 8 significant bits: a step of lr 1e-6 on a weight of 0.01 is a fortieth of the distance to the next number,
    and rounding to nearest would lose it every time. Rounded up with probability 1/40 instead, it arrives on average. The moments
    decay by less than one such distance a step, too. The draws are seeded by the step, so a resumed run repeats them.
    """

    def __init__(self, params, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps, "step": 0})
        self.sums = {}
        self.hooks = [p.register_post_accumulate_grad_hook(self.accumulate) for p in self.param_groups[0]["params"]]

    @staticmethod
    def pieces(*tensors):
        """The same pieces of all tensors, this process's shards of them, flat: float32 copies exist for 64 Mi numbers at a time."""
        return zip(*(local(x).view(-1).split(2**26) for x in tensors))

    def accumulate(self, p):
        """After each backward pass: add p.grad to the step's sum, rounding stochastically, too, or the hundredth micro-batch would
        round to nothing beside the sum of the others."""
        if not self.sums:
            self.generator = torch.Generator(p.device).manual_seed(seed_of("sums", self.param_groups[0]["step"], RANK))
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
        """target (bfloat16) ← value (float32): its upper 16 bits, after noise in the lower 16 has carried, or not, into them."""
        noise = torch.randint(0, 2**16, value.shape, dtype=torch.int32, device=value.device, generator=generator)
        target.copy_(((value.view(torch.int32) + noise) & -(2**16)).view(torch.float32))

    @torch.no_grad()
    def step(self):
        for settings in self.param_groups:
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


def warm_start(model, tokenizer, problems, config):
    """Imitate the problems' worked solutions: cross-entropy, 64 a step, linear decay of the rate.

    Random weights never earn a reward, and a policy gradient has nothing to hold on to. This makes a «base model» that knows the
    format and is often wrong, as real base models are; what it learns of the task beyond that is the training's doing.
    """
    optimizer = make_optimizer(model, config.warm_start_lr, config.weight_decay)
    eos, rng = end_tokens(model, tokenizer)[0], random.Random(seed_of("warm start", config.seed))
    texts = tokenizer([row["solution"] for row in problems], add_special_tokens=False)["input_ids"]
    for step in progress(range(config.warm_start_steps), desc="warm start", leave=False):
        batch = rng.sample(range(len(problems)), 64)
        for settings in optimizer.param_groups:
            settings["lr"] = config.warm_start_lr * (1 - step / config.warm_start_steps)
        # as in pretraining, EOS is followed by another document: what comes after EOS, where z_c is read, is not left to chance
        documents = [texts[i] + [eos] + problems[i - 1]["prompt"][:1] for i in batch]
        logps, _ = token_logps(model, [problems[i]["prompt"] for i in batch], documents, eos)
        loss = -logps.sum() / sum(map(len, documents))
        loss.backward()
        clip_gradient(model, optimizer, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for hook in getattr(optimizer, "hooks", ()):
        hook.remove()  # training's optimizer has its own


def problems_of_step(problems, step, config):
    """The P problems of a step: a seeded shuffle each epoch, read in order; a function of the step, so resuming needs no state."""
    order, chosen = {}, []
    for i in range(step * config.prompts_per_step, (step + 1) * config.prompts_per_step):
        epoch, place = divmod(i, len(problems))
        if epoch not in order:
            generator = torch.Generator().manual_seed(seed_of("order", config.seed, epoch))
            order[epoch] = torch.randperm(len(problems), generator=generator)
        chosen.append(problems[order[epoch][place]])
    return chosen


def measure_c_ref(policy, problems, config):
    """(mean, std) of log π_ref(z_c|x,y) over solutions of the starting model, nats; EOS is supplied where one was cut.

    Raises UserError if the model says z_c in these solutions: it must be a token that means nothing yet.
    """
    model, token, eos_ids = policy.model, policy.token, policy.eos_ids
    prompts = [row["prompt"] for row in problems_of_step(problems, 0, config)][:32]
    u = uniforms(len(prompts) * config.group_size, config.max_response_tokens, "c_ref", config.seed)
    solutions = sample_together(policy, prompts, config.group_size, u, config)
    responses = [r if r[-1] in eos_ids else r + eos_ids[:1] for r in solutions.responses()]
    said, of = sum(r.count(token) for r in responses), sum(map(len, responses))
    if said > 5 + 3 * of / model.get_input_embeddings().weight.size(0):  # clearly more than uniform noise would
        raise UserError(f"The model itself says token {token} ({said} times in {of} tokens); choose a --token that it never uses.")
    prompts = [p for p in prompts for _ in range(config.group_size)]
    _, logp_zc = score(model, prompts, responses, token, budget=config.micro_batch_tokens)
    return logp_zc.mean().item(), logp_zc.std().item()


def report_c_ref(c_ref, std, config):
    """Print c_ref and log Z, and warn, with a remedy, where the derivation's assumptions do not hold."""
    log_z = log_partition(c_ref, config.beta)
    spread = f" ± {std:.2f}" if std is not None else ""
    print(f"c_ref = {c_ref:.2f}{spread} nats, beta = {config.beta:g}, log Z = {log_z:.2g}")
    if config.self_loss == "mse" and log_z > 0.05:
        remedy = f"raise --beta to {math.ceil(-100 / (c_ref + 3)) / 100:.2f}" if c_ref < -5 else "choose a rarer --token"
        print(f"warning: log Z = {log_z:.2f} is not close to 0, so no policy reaches a self-reward of 1; {remedy}", file=sys.stderr)
    if std is not None and config.beta * std > 0.25 and not config.exact_reference:
        print(f"warning: log π_ref(z_c) spreads by {config.beta * std:.2f} in units of reward, so one constant is a rough stand-in; "
              "choose another --token or use --exact_reference", file=sys.stderr)


def flush(path):
    """Wait until a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def replace_folder(final, *writers):
    """Make or replace a folder: each writer gets the new one's path, which is swapped in by renaming once all has reached the disk.

    A kill at any moment leaves the old folder or the new one (`recover` puts right a kill between the two renames), and so
    does a full disk, which raises UserError.
    """
    if RANK > 0:
        return
    new, old = final.with_name(final.name + ".new"), final.with_name(final.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        for write in writers:
            write(new)
        for path in (*new.iterdir(), new):
            flush(path)
    except Exception as error:  # safetensors and torch have their own kinds for a full disk
        shutil.rmtree(new, ignore_errors=True)
        raise UserError(f"Cannot save {final} ({one_line(error)}); what was saved before is kept: make room and go on with "
                        "--resume.") from error
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder):
    """The folder's checkpoint, or None. A kill between the renames of `replace_folder` left only the old one: put it back."""
    final, old = folder / "checkpoint", folder / "checkpoint.old"
    if not final.exists() and old.exists():
        old.rename(final)
    return final if final.exists() else None


def replace_text(path, text):
    """Write a file so that a kill leaves the old text or the new."""
    if RANK == 0:
        beside = path.with_name(path.name + ".new")
        beside.write_text(text)
        beside.replace(path)


def append_json(path, *rows):
    if RANK == 0:
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def read_back(path, step, *keys):
    """The rows of a JSON-lines log up to `step`; what came later, a torn last line included, is cut off, as it will be repeated.

    Raises UserError if a row is not JSON or lacks one of `keys`.
    """
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
        rows = [row for row in rows if row["step"] <= step]
        missing = [key for row in rows for key in keys if key not in row]
        if missing:
            raise KeyError(missing[0])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}); mend it or move it away.") from error
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def damaged(path, error):
    return f"{path} is damaged ({one_line(error)}); put a good copy in its place or start again with another --out."


def read_json(path, of=lambda value: value):
    """What `of` makes of a JSON file. Raises UserError if the file is damaged."""
    try:
        return of(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(damaged(path, error)) from error


SAMPLE = ("data", "problem", "gold")  # what tells which problem a row of samples.jsonl belongs to


def evaluate(policy, sets, step, config, out, done=(), reference=None, stopping=lambda: False):
    """Sample, grade and vote on data sets {name: problems}: their rows for eval.jsonl; the solutions go to out/samples.jsonl.

    `done`: the solutions that this evaluation has written already. They are kept, so an interruption loses at most 64 problems;
    UserError if they are of other problems. When `stopping()` turns true, the rows of the sets that are done are returned.
    """
    n, path, rows = config.eval_n, out / "samples.jsonl", []
    if WORLD > 1:
        dist.barrier()  # all have read before the first one writes
    of_set = {name: [row for row in done if row["data"] == name] for name in sets}
    for name, problems in sets.items():
        asked = [(row["problem"], row["answer"]) for row in problems for _ in range(n)]
        if [(row["problem"], row["gold"]) for row in of_set[name]] != asked[: len(of_set[name])]:
            raise UserError(f"{path} holds solutions of other problems than {name} has now; name another folder with --out.")
        of_set[name] = of_set[name][: len(of_set[name]) // n * n]  # whole problems
    replace_text(path, "".join(json.dumps(row) + "\n" for samples in of_set.values() for row in samples))
    for name, problems in sets.items():
        samples = of_set[name]
        for i in progress(range(len(samples) // n, len(problems), 64), desc=name, leave=False, delay=2):
            if stopping():
                return rows
            more = [{"step": step, **row} for row in solve(policy, problems[i : i + 64], config, name, reference)]
            append_json(path, *more)
            samples += more
        rows.append({"step": step, "data": name, "problems": len(problems), "n": n, **summarise(samples, n, config.beta)})
    return rows


def default_out(model):
    return f"runs/{Path(model).stem if model.endswith('.json') else Path(model).name}"


# what a checkpoint's later users need to read its self-reward and to ask it as it was asked in training
LASTING = ("beta", "self_loss", "temperature", "prompt_suffix", "max_prompt_tokens", "max_response_tokens")
# what a resumed run may change: none of it alters what is learnt
FREE = {"out", "resume", "dry_run", "tensorboard", "device", "steps", "eval_every", "save_every", "sample_rows",
        "micro_batch_tokens"}


def changed_settings(stored, config):
    """The settings in a run's config.json that `config` may not change but does, as flags with the values of the run."""
    then, now = vars(read_json(stored, lambda settings: Config(**settings))), vars(config)
    return [f"--{key} {then[key]}" for key in now if key not in FREE and now[key] != then[key]]


def lock(folder):
    """Make the folder and keep it to ourselves while the returned file is open. Raises UserError if another run has it."""
    if RANK > 0:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"Another run is writing to {folder}; wait until it ends or name another folder with --out.") from error
    return file


def refuse_used(out):
    """Raise UserError unless `out` is an empty folder or can be made."""
    if out.exists() and (not out.is_dir() or any(path.name != ".lock" for path in out.iterdir())):
        raise UserError(f"{out} is not empty; continue its run with --resume or name another folder with --out.")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{out} cannot be made, as {there} cannot be written to; name another folder with --out.")


def open_folder(config):
    """(folder, its checkpoint or None, its lock or None). Raises UserError if the folder holds another run, or none to resume."""
    out = Path(config.out or default_out(config.model))
    stored = out / "config.json"
    if not config.resume:
        refuse_used(out)
        return out, None, None
    if not stored.exists():
        raise UserError(f"There is no run in {out} to resume; drop --resume or name its folder with --out.")
    changed = changed_settings(stored, config)
    if changed:
        raise UserError(f"The run in {out} was started with {', '.join(changed)}; resume it so, or start another one with --out.")
    held = lock(out)
    saved = recover(out) if RANK == 0 else None
    if WORLD > 1:
        dist.barrier()
    return out, saved or recover(out), held


def print_reliability(rows):
    """How often solutions of each grade are right, with the other figures of the grade that the table leaves out."""
    for row in rows:
        print(f"\n{row['data']}: grade → share of right solutions (how many):", ", ".join(
            f"{mean:.2f} → {accuracy:.2f} ({count})" for count, mean, accuracy in row["reliability"] if count))
        shown = {key: "–" if row[key] is None else f"{row[key]:.2f}" for key in ("tpr", "tnr", "threshold", "tpr_at_threshold",
                 "tnr_at_threshold", "length_correlation")}
        print(", ".join(f"{key} {value}" for key, value in shown.items()) + f"; self-rewarding took {row['self_reward_tokens']} "
              f"tokens and {row['self_reward_seconds']:.1f} of {row['seconds']:.1f} s of sampling")


def save(out, policy, optimizer, step, c_ref_std, config):
    """Replace out/checkpoint: model and tokenizer as transformers reads them, laser.json, and the moments of AdamW in trainer.pt."""
    if add_up(torch.tensor(sum(not torch.isfinite(local(x)).all() for x in policy.model.parameters()))):
        raise UserError(f"The weights are no longer finite after step {step}, so they are not saved; lower --lr and start again "
                        "with another --out, or with the last checkpoint as --model.")
    weights, moments = None, optimizer.state_dict()
    dtype = str(policy.model.dtype)[6:]
    if isinstance(policy.model, FSDPModule):
        weights = {name: whole(x.detach()) for name, x in policy.model.named_parameters()}
        moments["state"] = {i: {name: whole(x) for name, x in state.items()} for i, state in moments["state"].items()}
    lasting = {key: getattr(config, key) for key in LASTING} | {"token": policy.token, "c_ref": policy.c_ref}
    told = json.dumps({"step": step, "c_ref_std": c_ref_std, "param_dtype": dtype, "laser": lasting}, indent=1)
    replace_folder(out / "checkpoint", lambda folder: policy.model.save_pretrained(folder, state_dict=weights),
                   policy.tokenizer.save_pretrained, lambda folder: (folder / "laser.json").write_text(told),
                   lambda folder: torch.save({"optimizer": moments}, folder / "trainer.pt"))


def restore(optimizer, path):
    """Load the moments that `save` wrote, each process its shards of them: their number may have changed."""
    state = torch.load(path, map_location="cpu", mmap=True)["optimizer"]
    for i, moments in state["state"].items():
        p = optimizer.param_groups[0]["params"][i]
        for name, x in moments.items():
            if isinstance(p, DTensor) and x.shape == p.shape:
                moments[name] = distribute_tensor(x.to(p.device), p.device_mesh, p.placements, src_data_rank=None)
    optimizer.load_state_dict(state)


def peak_memory_gib(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def training_step(policy, optimizer, rows, step, config, reference=None):
    """Sample, verify, score, update once: (a line for metrics.jsonl, the step's Solutions, their texts, rewards and scores)."""
    model, device, G = policy.model, policy.model.device, config.group_size
    clock = [time.perf_counter()]
    prompts = [row["prompt"] for row in rows]
    u = uniforms(len(rows) * G, config.max_response_tokens, "train", config.seed, step)
    solutions = sample_together(policy, prompts, G, u, config)
    responses, prompts = solutions.responses(), [p for p in prompts for _ in range(G)]
    texts = policy.tokenizer.batch_decode(responses, skip_special_tokens=True)
    clock.append(time.perf_counter())
    complete = solutions.complete
    rewards = torch.tensor([reward(text, rows[i // G]["answer"], strict=True) for i, text in enumerate(texts)], device=device)
    rewards = torch.where(complete, rewards, 0.0)  # a cut solution earns nothing, but its tokens stay in the policy loss
    clock.append(time.perf_counter())

    c_ref, ref_logps = policy.c_ref, None
    if reference is not None:
        ref_logps, exact = score(reference, prompts, responses, policy.token, config.temperature, config.micro_batch_tokens)
        c_ref = exact if config.exact_reference else c_ref
    # The schedule: first only GRPO, then the grade is learnt, and only a learnt grade has a say in the advantage.
    alpha = config.alpha if step >= config.reasoning_warmup else 0.0
    tau = config.tau if alpha and step >= config.reasoning_warmup + config.self_reward_warmup else 0.0
    scores = grade(solutions.logp_zc, c_ref, config)  # the sampler has read z_c already: no second pass
    advantages = group_advantages(rewards, G)
    if tau:
        advantages = mix_advantages(advantages, scores, complete, G, tau, config.min_std)
    figures = update(model, optimizer, prompts, solutions, rewards, advantages, alpha, c_ref, policy.token, config, ref_logps)
    clock.append(time.perf_counter())

    sampling, verifying, training = (b - a for a, b in zip(clock, clock[1:]))
    right, tokens = complete & (rewards > 0.5), int(solutions.lengths.sum())
    grades = grade_metrics(scores[complete].cpu(), rewards[complete].cpu())
    return {
        "step": step + 1, "reward": rewards.mean().item(), "reward_std": rewards.view(-1, G).std(1).mean().item(), **figures,
        "lr": config.lr, "response_tokens": tokens / len(texts), "complete": complete.double().mean().item(),
        **{name: number(value) for name, value in grades.items()},
        "logp_zc_right": number(solutions.logp_zc[right].mean()),
        "logp_zc_wrong": number(solutions.logp_zc[complete & ~right].mean()),
        "log_z": number(log_partition_now(solutions.logp_zc[right], config.beta)),
        "seconds": clock[-1] - clock[0], "sample_seconds": sampling, "verify_seconds": verifying, "train_seconds": training,
        "sample_tokens_per_s": tokens / sampling, "train_tokens_per_s": (tokens + sum(map(len, prompts))) / training,
        "peak_memory_gib": peak_memory_gib(device)}, solutions, texts, rewards, scores


TABLE = ("mean@1", "pass@{n}", "maj@{n}", "weighted@{n}", "best@{n}", "f1", "auroc", "ece")


def print_table(rows):
    """Evaluation rows, first and last of each data set, with half-widths of their 95% intervals."""
    names = [name.format(n=rows[-1]["n"]) for name in TABLE]
    print(f"\n{'data':<24}{'step':>6} " + "".join(f"{name:>15}" for name in names))
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        for row in of_data[:1] + of_data[1:][-1:]:
            cells = ("–" if row.get(k) is None else f"{row[k]:.3f} ±{(row[k + '_ci'][1] - row[k + '_ci'][0]) / 2:.3f}" for k in names)
            print(f"{data[-24:]:<24}{row['step']:>6} " + "".join(f"{cell:>15}" for cell in cells))


def train(config, watch_signals=list):
    """The whole run: load, warm-start, measure c_ref, train, evaluate, save. Returns the rows of eval.jsonl.

    Writes config.json, metrics.jsonl, eval.jsonl, samples.jsonl and checkpoint/ into the run's folder, nothing before all that
    the user gave has been looked at. Raises UserError for whatever the user can mend. `watch_signals`, called when training
    begins, returns a list; once that is no longer empty the step in hand is finished, saved, and the run ends.
    """
    # ---- what the run starts from
    check(config)
    device = choose_device(config.device)
    if WORLD > 1:
        join(device)
    out, saved, held = open_folder(config)
    problems = load_problems(config.data, True, config)
    eval_sets = {name: load_problems(name, False, config) for name in config.eval_data} if config.eval_every else {}
    warmed = (out / "warm_start").exists()
    start_model, warming = str(out / "warm_start") if warmed else config.model, config.warm_start_steps > 0 and not warmed
    if saved:
        state = read_json(saved / "laser.json", lambda told: {
            "step": int(told["step"]), "param_dtype": str(told["param_dtype"]), "c_ref": float(told["laser"]["c_ref"]),
            "c_ref_std": told["c_ref_std"] and float(told["c_ref_std"])})
    else:
        state = {"step": 0, "param_dtype": choose_dtype(config, device), "c_ref_std": None}
        if config.resume:
            print(f"there is no checkpoint in {out} yet: its run begins again", file=sys.stderr)
    first = state["step"]
    model, tokenizer = load_model(str(saved or start_model), device, state["param_dtype"], config.seed)
    problems = add_prompts(problems, model, tokenizer, config, config.data)
    eval_sets = {name: add_prompts(rows, model, tokenizer, config, name) for name, rows in eval_sets.items()}
    eos_ids = end_tokens(model, tokenizer)
    policy = Policy(model, tokenizer, eos_ids, choose_token(config.token, model, tokenizer, eos_ids), None)
    print(f"{config.model}: {model.num_parameters():,} {state['param_dtype']} parameters on {device}{f' × {WORLD}' * (WORLD > 1)}; "
          f"z_c is token {policy.token}; {len(problems)} problems; seed {config.seed}, run in {out}")
    if warming:
        warm_start(model, tokenizer, problems, config)
        weights = {name: x.detach().clone() for name, x in model.named_parameters()}  # saved below, when all has been looked at
    if WORLD > 1 or device.type == "cuda" and state["param_dtype"] == "float32":
        join(device)
        shard(model)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    if saved:
        try:
            restore(optimizer, saved / "trainer.pt")
        except Exception as error:  # torch.load raises many kinds
            raise UserError(damaged(saved, error)) from error
    elif config.c_ref is not None:
        state["c_ref"] = config.c_ref
    else:
        state["c_ref"], state["c_ref_std"] = measure_c_ref(policy, problems, config)
    policy = policy._replace(c_ref=state["c_ref"])
    report_c_ref(policy.c_ref, state["c_ref_std"], config)

    transformers.utils.logging.disable_progress_bar()  # one for every file saved would tear our own bar
    if not held:
        held = lock(out)
        if RANK == 0:
            refuse_used(out)  # another run may have begun there meanwhile
    replace_text(out / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
    if warming:
        replace_folder(out / "warm_start", lambda folder: model.save_pretrained(folder, state_dict=weights),
                       tokenizer.save_pretrained)
    reference = None
    if config.kl or config.exact_reference:  # the starting model, frozen; in memory only if an option asks for it
        if WORLD > 1:
            dist.barrier()  # the warm start is on the disk
        dtype = "bfloat16" if device.type == "cuda" else state["param_dtype"]
        reference, _ = load_model(str(out / "warm_start") if config.warm_start_steps else config.model, device, dtype, config.seed)
        reference.resize_token_embeddings(model.get_input_embeddings().weight.size(0))
        reference.requires_grad_(False)
    read_back(out / "metrics.jsonl", first)
    results = read_back(out / "eval.jsonl", first, "data", "n")
    if config.tensorboard:
        from torch.utils.tensorboard import SummaryWriter  # an extra package, which `check` has looked for
    board = SummaryWriter(out, purge_step=first + 1) if config.tensorboard and RANK == 0 else None
    stop = watch_signals()

    def log(file, row, prefix=""):
        append_json(out / file, row)
        for name, value in row.items() if board else ():
            if isinstance(value, (int, float)):
                board.add_scalar(prefix + name, value, row["step"])

    def stopping():
        return bool(add_up(torch.tensor(len(stop))))  # a signal to one process is one to all

    def evaluate_all(step):
        if [row["data"] for row in results if row["step"] == step] == list(eval_sets):
            return  # done before the run was stopped
        results[:] = read_back(out / "eval.jsonl", step - 1)
        done = read_back(out / "samples.jsonl", step, *SAMPLE) if step == first else []  # of an interrupted evaluation
        done = [row for row in done if row["step"] == step]
        for row in evaluate(policy, eval_sets, step, config, out, done, reference, stopping):
            results.append(row)
            log("eval.jsonl", row, f"{row['data']}/")

    # ---- training
    bar = progress(range(first, config.steps), initial=first, total=config.steps, desc="training")
    for step in bar:
        done = step
        if config.eval_every and step % config.eval_every == 0:
            evaluate_all(step)
        if not stopping():
            rows = problems_of_step(problems, step, config)
            line, solutions, texts, rewards, scores = training_step(policy, optimizer, rows, step, config, reference)
            log("metrics.jsonl", line)
            done = step + 1
            bar.set_postfix(reward=f"{line['reward']:.2f}", f1="–" if line["f1"] is None else f"{line['f1']:.2f}",
                            tokens_per_s=f"{line['sample_tokens_per_s']:.0f}")
            if step % max(1, config.steps // 8) == 0:
                verdict = f"self-reward {scores[0]:.2f}" if solutions.complete[0] else "cut, so without self-reward"
                bar.write(f"step {done}: {rows[0]['problem'][-200:]!r} → {texts[0][-200:]!r}: reward {rewards[0]:.0f}, {verdict}")
        ending = stopping()
        if ending or done == config.steps or config.save_every and done % config.save_every == 0:
            save(out, policy, optimizer, done, state["c_ref_std"], config)
        if ending:
            bar.close()
            print(f"stopped after step {done}; continue with --resume", file=sys.stderr)
            return results
    if config.eval_every:
        evaluate_all(max(first, config.steps))
        if stopping():
            print("stopped in the last evaluation; continue with --resume", file=sys.stderr)
    if results:
        print_table(results)
    return results


# --------------------------------------------------------------------------------------------------------- test time


def load_grader(config):
    """The Policy of a trained --model. Raises UserError if it is not known how it grades itself."""
    if config.token is None or config.c_ref is None:
        raise UserError(f"{config.model} is no checkpoint of this program, so its z_c is unknown; give --token and --c_ref (and "
                        "--beta).")
    device = choose_device(config.device)
    dtype = config.param_dtype if config.param_dtype != "auto" else "bfloat16" if device.type == "cuda" else "float32"
    model, tokenizer = load_model(config.model, device, dtype, config.seed)
    eos_ids = end_tokens(model, tokenizer)
    return Policy(model, tokenizer, eos_ids, choose_token(config.token, model, tokenizer, eos_ids), config.c_ref)


def ask(config):
    """Sample solutions of one problem, and print each distinct answer with its votes, its summed self-reward and a solution."""
    try:
        problem = (sys.stdin.read() if config.ask == "-" else config.ask).strip()
        problem.encode()
    except UnicodeError as error:
        raise UserError("--ask is not in UTF-8; convert it, for example with iconv.") from error
    if not problem:
        raise UserError("--ask has no problem to solve; write one after it, or `-` and pipe one in.")
    policy = load_grader(config)
    rows = add_prompts([{"problem": problem, "answer": ""}], policy.model, policy.tokenizer, config, "--ask")
    samples = solve(policy, rows, config)
    classes = group([row["answer"] for row in samples])
    trust = [min(max(row["self_reward"] or 0.0, 0.0), 1.0) for row in samples]
    votes = {c: [i for i, other in enumerate(classes) if other == c] for c in dict.fromkeys(classes) if c is not None}
    ranked = sorted(votes, key=lambda c: (-sum(trust[i] for i in votes[c]), -len(votes[c])))
    for c in ranked:
        best = max(votes[c], key=trust.__getitem__)
        print(f"{samples[c]['answer']}: {len(votes[c])} of {len(samples)} votes, self-reward {sum(trust[i] for i in votes[c]):.2f} in "
              f"all, {trust[best]:.2f} for\n    {samples[best]['response'].strip()}")
    if not ranked:
        cut = sum(not row["complete"] for row in samples)
        print(f"no answer in {len(samples)} solutions, {cut} of them cut; raise --max_response_tokens or --eval_n")
        return
    # the best guess of the chance to be right: the mean grade of the solutions that give the answer
    confidence = sum(trust[i] for i in votes[ranked[0]]) / len(votes[ranked[0]])
    print(f"weighted vote: {samples[ranked[0]]['answer']}, confidence {confidence:.2f}")


def score_file(config):
    """Teacher-forced self-rewards of the (problem, response) rows of a jsonl file: --out gets both, once all are known."""
    out = Path(config.out or f"{config.score}.scored.jsonl")
    if out.exists():
        raise UserError(f"{out} exists; name another file with --out.")
    try:
        rows = [json.loads(line) for line in Path(config.score).read_text().split("\n") if line.strip()]
        pairs = [(row["problem"], row["response"]) for row in rows]
        "".join(itertools.chain(*pairs)).encode()  # raises unless all of it is text
        if not rows or not all(problem for problem, _ in pairs):
            raise ValueError("no rows, or an empty problem")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"Cannot read {config.score} ({one_line(error)}); give a jsonl file with `problem` and `response` in every "
                        "row.") from error
    policy = load_grader(config)
    prompts = encode_prompts(policy.tokenizer, [problem for problem, _ in pairs], config.prompt_suffix)
    if not all(prompts):
        raise UserError(f"Row {prompts.index([]) + 1} of {config.score} has a problem that is empty in this tokenizer; drop it.")
    ends = [[row["last_token"]] if row.get("last_token") in policy.eos_ids else policy.eos_ids[:1] for row in rows]
    responses = [policy.tokenizer(response, add_special_tokens=False)["input_ids"] + end for (_, response), end in zip(pairs, ends)]
    beside = out.with_name(out.name + ".new")
    with beside.open("w") as file:
        for i in tqdm(range(0, len(rows), 64), desc="scoring"):
            part = slice(i, i + 64)
            _, logp_zc = score(policy.model, prompts[part], responses[part], policy.token, budget=config.micro_batch_tokens)
            for row, at_zc, value in zip(rows[part], logp_zc.tolist(), grade(logp_zc, policy.c_ref, config).tolist()):
                cut = row.get("complete") is False  # its last token was not EOS, so there is no grade to read
                file.write(json.dumps({**row, "logp_zc": None if cut else at_zc, "self_reward": None if cut else value}) + "\n")
    beside.rename(out)
    print(f"{len(rows)} self-rewards in {out}")


def evaluate_only(config):
    """The benchmark table of a trained model. Finished problems are kept in --out, so an interrupted evaluation goes on there."""
    out = Path(config.out or f"runs/eval-{Path(config.model).name}")
    if (out / "config.json").exists():
        changed = changed_settings(out / "config.json", config)
        if changed:
            raise UserError(f"{out} holds something else than this evaluation ({', '.join(changed)}); name another folder with "
                            "--out.")
    else:
        refuse_used(out)
    if WORLD > 1:
        join(choose_device(config.device))
    told = Path(config.model) / "laser.json"
    step = read_json(told, lambda told: int(told["step"])) if told.exists() else 0
    done = read_back(out / "samples.jsonl", math.inf, *SAMPLE)
    if any(row["step"] != step for row in done):
        raise UserError(f"{out} holds the evaluation of another step of {config.model}; name another folder with --out.")
    policy = load_grader(config)
    sets = {name: add_prompts(load_problems(name, False, config), policy.model, policy.tokenizer, config, name)
            for name in config.eval_data}
    held = lock(out)
    replace_text(out / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
    rows = evaluate(policy, sets, step, config, out, done)
    rows += [mean_of_sets(rows)] * (len(rows) > 1)
    replace_text(out / "eval.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    print_table(rows)
    print_reliability([row for row in rows if "reliability" in row])
    del held


# -------------------------------------------------------------------------------------------------- the command line


def parse(arguments):
    """A Config from command-line words: the defaults, then the `laser` settings of a --model .json file, then the flags."""
    parser = argparse.ArgumentParser(prog="laser.py", description=__doc__.split("\n")[0], allow_abbrev=False)

    def refuse(message):
        raise UserError(message[0].upper() + message[1:] + "; see --help.")

    parser.error = refuse
    section = None
    for f in dataclasses.fields(Config):
        default, section = f.default_factory(), parser.add_argument_group(f.metadata["group"]) if f.metadata["group"] else section
        shown = "" if default is None else f" [{' '.join(default) if isinstance(default, list) else default}]"
        options = {"help": (f.metadata["help"] + shown).replace("%", "%%"), "default": argparse.SUPPRESS}
        if f.type is bool:
            section.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, **options)
        else:
            kind = next(t for t in (int, float, str) if t.__name__ in str(f.type))
            names = [f"--{f.name}", *(["--n"] if f.name == "eval_n" else [])]
            section.add_argument(*names, type=kind, nargs="+" if isinstance(default, list) else None, metavar="X", **options)

    def underscored(word):  # --group-size=4 → --group_size=4
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            return word
        return flag.replace("-", "_").replace("__", "--", 1).replace("--no_", "--no-") + equals + value

    flags = vars(parser.parse_args(list(map(underscored, sys.argv[1:] if arguments is None else arguments))))
    model = flags.get("model", Config().model)
    if model.endswith(".json") and not Path(model).exists() and (HERE / model).exists():
        model = str(HERE / model)
    if "model" in flags or model != Config().model:
        flags["model"] = model

    def complete(settings, source):
        """The Config of the flags, and of a file's settings where they leave it open. These are read as if they were flags,
        too, so that names and types are checked alike."""
        words = []
        for name, value in settings.items():
            if isinstance(value, list):
                words += [f"--{name}", *map(str, value)]
            elif isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            elif value is not None:
                words.append(f"--{name}={value}")
        try:
            return Config(**{**vars(parser.parse_args(words)), **flags})
        except UserError as error:
            raise UserError(f"In {source}: {error}") from error

    if flags.get("resume"):  # what the flags leave open is as the run was started
        stored = Path(flags.get("out") or default_out(model)) / "config.json"
        if stored.exists():
            return complete(read_json(stored, dict), stored)
    # A .json architecture brings settings, and so does a checkpoint: how its self-reward is read, how its prompts were written.
    source, settings = Path(model), {}
    if model.endswith(".json"):
        if not source.is_file():
            raise UserError(f"There is no file {model}; give a .json architecture, a folder or a hub id.")
    elif (source / "laser.json").exists():
        source = source / "laser.json"
    if source.suffix == ".json":
        try:
            settings = dict(json.loads(source.read_text()).get("laser", {}))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{source} is not a JSON object with a `laser` object in it ({error}); mend it.") from error
    return complete(settings, source)


def main(arguments=None):
    """The command line. Returns the exit code: 0; 2 with one sentence on stderr for what the user can mend; 130 or 143 after
    Ctrl-C or SIGTERM, which finish the step and save first (a second one does not wait)."""
    stop = []

    def on_signal(which, _):
        stop.append(which)
        print("finishing the step, then saving" + "; once more to stop at once" * (WORLD == 1), file=sys.stderr)
        if WORLD == 1:  # torchrun passes a Ctrl-C on that has reached us already
            signal.signal(which, signal.SIG_DFL)

    def watch_signals():
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, on_signal)
        return stop

    try:
        config = parse(arguments)
        check(config)
        if config.ask is not None:
            ask(config)
        elif config.score:
            score_file(config)
        elif config.eval_only:
            evaluate_only(config)
        elif config.dry_run:
            dry_run(config)
        else:
            train(config, watch_signals)
            if dist.is_initialized():
                dist.destroy_process_group()
    except KeyboardInterrupt:  # before training, or at test time
        print("\nstopped; what was finished is written", file=sys.stderr)
        return 130
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        print(f"laser.py: The memory is full; lower --micro_batch_tokens (now {config.micro_batch_tokens}), or --sample_rows "
              f"(now {config.sample_rows or 'chosen from free memory'}) if it happened while sampling.", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"laser.py: {one_line(error)}; check the path, its permissions and the room on the disk.", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"laser.py: {error}", file=sys.stderr)
        return 2
    return 128 + stop[0] if stop else 0


if __name__ == "__main__":
    sys.exit(main())

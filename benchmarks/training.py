"""
A training step, in real tokens a CPU second and in memory, against sentence-transformers on the same model and batches.

Example: python benchmarks/training.py --quick

Each side runs in a process of its own, from the same random weights, over the same batches of pairs whose lengths are
skewed as in practice, with the same loss, optimiser and precision. Ends with one line of JSON.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
VOCABULARY = 30_522
SCALE = 50.0  # one by the temperature of 0.02
RATE = 1e-4
MINI_BATCH = 32  # texts, of sentence-transformers' cached form: its default
TOKENS = 1280  # of a mini-batch, ours
LONGEST_QUERY, LONGEST_PASSAGE = 48, 254
SIDES = ("ours", "ours_direct", "st_cached", "st")
PEER = "flag"  # needs an environment of its own
NAMES = {
    "ours": "Skiff, gradient cache",
    "ours_direct": "Skiff, one pass",
    "st_cached": "sentence-transformers, CachedMultipleNegativesRankingLoss",
    "st": "sentence-transformers, MultipleNegativesRankingLoss",
    "flag": "FlagEmbedding, sub-batches",
}
Pairs = list[tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained: a kind of model, pairs of a batch, a precision, and how many steps."""

    model: str  # qwen or minilm
    batch: int
    precision: str
    steps: int

    @property
    def name(self) -> str:
        """For the figures' names."""
        return f"{self.model}_{self.batch}_{self.precision}"


QUICK = [Case("qwen", 32, "fp32", 1)]
ALL = [
    Case("qwen", 64, "fp32", 3),
    Case("qwen", 64, "bf16", 3),
    Case("minilm", 64, "fp32", 3),
    Case("qwen", 512, "bf16", 1),
    Case("qwen", 512, "fp32", 1),
]
LARGE = 256  # pairs from which a side that keeps the whole batch's graph is left out: it takes more than 12 GB


def main() -> None:
    """Run the cases; figures go to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case, about a minute")
    parser.add_argument("--threads", type=int, default=1, help="of each side; with 1, CPU seconds are comparable")
    parser.add_argument("--sides", default="", help=f"some of {', '.join(SIDES)}; default: all (--quick: two)")
    parser.add_argument(
        "--peers", type=Path, help="an environment with FlagEmbedding, torch and transformers: PEERS/bin/python"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each case below 512 pairs, the sides in turn (--quick: 1)"
    )
    parser.add_argument("--batch", type=int, help="only the cases of so many pairs")
    parser.add_argument("--markdown", action="store_true", help="print the table of benchmarks/README.md as well")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        case = Case(**json.loads(options.case))
        sys.stdout.write(json.dumps(_measured(options.side, case, options.folder, options.threads)) + "\n")
        return
    sides = options.sides.split(",") if options.sides else ["ours", "st_cached"] if options.quick else list(SIDES)
    sides += [PEER] if options.peers else []
    figures: dict[str, float] = {"cpus": os.cpu_count() or 1, "threads": options.threads}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in QUICK if options.quick else [each for each in ALL if options.batch in (None, each.batch)]:
            folder = Path(scratch) / case.model
            if not folder.exists():
                _save_model(case.model, folder)
            kept = [side for side in sides if case.batch < LARGE or side in ("ours", "st_cached")]
            rounds = 1 if options.quick or case.batch >= LARGE else options.rounds
            taken = [{side: _apart(side, case, folder, options) for side in kept} for _ in range(rounds)]
            found = {
                side: {name: statistics.median(each[side][name] for each in taken) for name in taken[0][side]}
                for side in kept
            }
            rows += [(case, side, each) for side, each in found.items()]
            ratios = [_compared(case, each) for each in taken]  # of one round: the machine's speed varies
            figures |= {name: statistics.median(each[name] for each in ratios) for name in ratios[0]}
    figures |= {
        name: max(values) if "memory" in name or "loss" in name else min(values) for name, values in _worst(figures)
    }
    if options.markdown:
        _print_table(rows)
    sys.stdout.write(json.dumps({name: round(value, 4) for name, value in figures.items()}) + "\n")


def _apart(side: str, case: Case, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """What one side takes, in a process of its own."""
    told = json.dumps({name: getattr(case, name) for name in ("model", "batch", "precision", "steps")})
    line = [
        str(options.peers / "bin" / "python") if side == PEER else sys.executable,
        __file__,
        "--side",
        side,
        "--case",
        told,
        "--folder",
        str(folder),
        "--threads",
        str(options.threads),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(options.threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{case.name} {side}: {json.dumps({name: round(value, 4) for name, value in found.items()})}\n")
    return found


def _compared(case: Case, found: dict[str, dict[str, float]]) -> dict[str, float]:
    figures = {f"{what}_{case.name}_{side}": value for side, each in found.items() for what, value in each.items()}
    for side in ("ours", "ours_direct"):
        if side in found and "st_cached" in found:
            ours, theirs = found[side], found["st_cached"]
            of = "" if side == "ours" else "_direct"
            figures[f"tokens_vs_st_cached{of}_{case.name}"] = ours["tokens_per_cpu_s"] / theirs["tokens_per_cpu_s"]
            figures[f"memory_vs_st_cached{of}_{case.name}"] = ours["peak_mb"] / theirs["peak_mb"]
            figures[f"loss_difference{of}_{case.name}"] = ours["loss"] - theirs["loss"]
    figures[f"of_matrix_product_{case.name}"] = found["ours"]["of_matrix_product"]
    figures[f"slots_per_token_{case.name}"] = found["ours"]["slots_per_token"]
    return figures


def _worst(figures: dict[str, float]) -> list[tuple[str, list[float]]]:
    """Of each figure that has a case in its name, all cases."""
    names = ("tokens_vs_st_cached", "memory_vs_st_cached", "slots_per_token", "loss_difference")
    cases = {case.name for case in (*QUICK, *ALL)}
    return [
        (name, [value for key, value in figures.items() if any(key == f"{name}_{case}" for case in cases)])
        for name in names
    ]


def _pairs(number: int, seed: int) -> Pairs:
    """Token numbers of pairs: query median 12, passage median 60, both log-normal with sigma 0.8."""
    random = np.random.default_rng(seed)

    def texts(median: float, longest: int) -> list[list[int]]:
        lengths = np.clip(random.lognormal(math.log(median), 0.8, number).round(), 3, longest).astype(int)
        return [random.integers(1000, VOCABULARY, length).tolist() for length in lengths]

    queries, passages = texts(12, LONGEST_QUERY), texts(60, LONGEST_PASSAGE)
    # A passage holds its query's words, so that there is something to learn.
    return [
        (query, [*query[: len(passage)], *passage[len(query) :]])
        for query, passage in zip(queries, passages, strict=True)
    ]


def _save_model(kind: str, folder: Path) -> None:
    """Random weights: a small bidirectional Qwen2 (12.6 million weights beside its embeddings), or MiniLM's shape."""
    import torch
    from transformers import BertConfig, BertModel, Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    size = {"hidden_size": 384, "vocab_size": VOCABULARY, "max_position_embeddings": 512}
    if kind == "qwen":
        config = Qwen2Config(
            **size, num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2, intermediate_size=1024
        )
        config.is_causal = False
        Qwen2Model(config).save_pretrained(folder)
    else:
        BertModel(
            BertConfig(
                **size,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        ).save_pretrained(folder)


def _measured(side: str, case: Case, folder: Path, threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    kind = _ours if side.startswith("ours") else _flag if side == PEER else _theirs
    step, parameters, slots = kind(side, case, folder)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, fused=True)
    tokens, seconds, walls, losses, products = [], [], [], [], []
    for number in range(case.steps + 1):
        pairs = _pairs(case.batch, number)
        cpu, wall = time.process_time(), time.perf_counter()
        loss = step(pairs)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
        if number:  # the first one warms up
            seconds.append(time.process_time() - cpu)
            walls.append(time.perf_counter() - wall)
            tokens.append(sum(len(query) + len(passage) for query, passage in pairs))
            products.append(_product_speed(case.precision))  # a machine's speed varies
    weights = sum(each.numel() for each in parameters if each.dim() > 1) - VOCABULARY * 384
    rate = statistics.median(each / taken for each, taken in zip(tokens, seconds, strict=True))
    useful = 6 * weights * rate
    return {
        "tokens_per_cpu_s": rate,
        "tokens_per_s": statistics.median(each / taken for each, taken in zip(tokens, walls, strict=True)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": statistics.fmean(losses[-max(1, case.steps // 2) :]),
        "slots_per_token": slots(_pairs(case.batch, 1)),
        "of_matrix_product": useful / statistics.median(products),
    }


def _product_speed(precision: str) -> float:
    """Operations a CPU second of a large matrix product."""
    import torch

    one = torch.randn(2048, 2048, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    found = []
    for _ in range(8):
        start = time.process_time()
        one @ one
        found.append(2 * 2048**3 / (time.process_time() - start))
    return statistics.median(found)


def _ours(side: str, case: Case, folder: Path) -> tuple[Any, Any, Any]:
    import torch
    from torch.nn import functional
    from transformers import AutoModel

    from mining.hardware import Hardware
    from trainer.encoder import Encoder, mini_batches, packed_tokens
    from trainer.gradients import add_gradients, tokenise
    from trainer.texts import Batch

    class Given(Encoder):
        """Texts that are token numbers already, as those of the other side are."""

        def tokenise(self, texts: Sequence[str], max_tokens: Sequence[int]) -> list[list[int]]:
            return [json.loads(text) for text in texts]

        def num_longer(self, texts: Sequence[str], lengths: Sequence[int]) -> int:
            return 0

    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa")
    model.train(False)
    longest = packed_tokens(model, 512)
    hardware = Hardware("cpu", case.precision, "as stated")
    encoder = Given(model, None, hardware, 512, 512, made_bidirectional=False, packed_tokens=longest)  # type: ignore[arg-type]

    def step(pairs: Pairs) -> float:
        texts = [json.dumps(ids) for column in zip(*pairs, strict=True) for ids in column]

        def loss(vector_TD: "torch.Tensor") -> "torch.Tensor":
            query_BD, passage_BD = vector_TD.chunk(2)
            return functional.cross_entropy(SCALE * query_BD @ passage_BD.T, torch.arange(len(query_BD)))

        batch = Batch(tuple(texts), (LONGEST_PASSAGE,) * len(texts), loss)
        return add_gradients(encoder, tokenise(encoder, batch), token_budget=TOKENS, cached=side == "ours").loss

    def slots(pairs: Pairs) -> float:
        lengths = [len(ids) for column in zip(*pairs, strict=True) for ids in column]
        parts = mini_batches(lengths, TOKENS, longest)
        widths = [max(lengths[place] for place in part) for part in parts]
        computed = [
            sum(lengths[place] for place in part) if width <= longest else width * len(part)
            for part, width in zip(parts, widths, strict=True)
        ]
        return sum(computed) / sum(lengths)

    return step, _trained(model), slots


def _theirs(side: str, case: Case, folder: Path) -> tuple[Any, Any, Any]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoModel

    class Plain(torch.nn.Module):
        """The transformer as theirs calls it, without the tokenizer, which neither side has."""

        def __init__(self) -> None:
            super().__init__()
            self.auto_model = AutoModel.from_pretrained(folder, attn_implementation="sdpa")

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            # As accelerate wraps it: the cached loss embeds again on the way back, outside of any other context.
            with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
                states = self.auto_model(
                    input_ids=features["input_ids"], attention_mask=features["attention_mask"], **without_cache
                )
            return features | {"token_embeddings": states.last_hidden_state.float()}

    without_cache = {"use_cache": False} if case.model == "qwen" else {}
    model = SentenceTransformer(modules=[Plain(), Pooling(384, "mean"), Normalize()], device="cpu")
    model.train()
    if side == "st":
        loss: Any = MultipleNegativesRankingLoss(model, scale=SCALE)
    else:
        loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, mini_batch_size=MINI_BATCH)

    def step(pairs: Pairs) -> float:
        columns = [_padded(column) for column in zip(*pairs, strict=True)]  # type: ignore[arg-type]
        found = loss(columns, None)
        found.backward()
        return float(found.detach())

    size = MINI_BATCH if side == "st_cached" else case.batch
    return step, _trained(model), lambda pairs: _slots_of_columns(pairs, size)


def _flag(side: str, case: Case, folder: Path) -> tuple[Any, Any, Any]:
    import torch
    from FlagEmbedding.finetune.embedder.encoder_only.base.modeling import BiEncoderOnlyEmbedderModel
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(folder, attn_implementation="sdpa")
    model = BiEncoderOnlyEmbedderModel(
        plain,
        temperature=1 / SCALE,
        sub_batch_size=MINI_BATCH,
        sentence_pooling_method="mean",
        normalize_embeddings=True,
    )
    model.train()

    def step(pairs: Pairs) -> float:
        queries, passages = (_padded(column) for column in zip(*pairs, strict=True))  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
            found = model(queries=queries, passages=passages).loss
        found.backward()
        return float(found.detach())

    return step, _trained(model), lambda pairs: _slots_of_columns(pairs, MINI_BATCH)


def _padded(texts: Sequence[list[int]]) -> dict[str, Any]:
    """As their collators do: a column to its longest text."""
    import torch

    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": mask}


def _slots_of_columns(pairs: Pairs, size: int) -> float:
    """Slots a token where columns are cut into parts of so many texts, each padded to its longest."""
    columns = list(zip(*pairs, strict=True))
    parts = [column[start : start + size] for column in columns for start in range(0, len(column), size)]
    slots = sum(len(part) * max(map(len, part)) for part in parts)
    return slots / sum(len(ids) for column in columns for ids in column)


def _trained(model: Any) -> list[Any]:
    return [each for name, each in model.named_parameters() if "pooler" not in name]


def _print_table(rows: Sequence[tuple[Case, str, dict[str, float]]]) -> None:
    lines = [
        "| model, pairs, precision | by | tokens a CPU second | by the cached form's | slots a token"
        " | of a matrix product | peak MB | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, side, found in rows:
        cached = next(each for other, name, each in rows if other == case and name == "st_cached")
        lines.append(
            f"| {case.model}, {case.batch}, {case.precision} | {NAMES[side]} | {found['tokens_per_cpu_s']:,.0f} |"
            f" {found['tokens_per_cpu_s'] / cached['tokens_per_cpu_s']:.2f} | {found['slots_per_token']:.2f} |"
            f" {100 * found['of_matrix_product']:.0f} % | {found['peak_mb']:,.0f} | {found['loss']:.3f} |"
        )
    sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()

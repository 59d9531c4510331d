"""What unstuck costs on a CUDA device: `python -m benchmarks.gpu`.

First the summary of one tensor beside `x.sum()`, which reads it once: median time on the device with a cold cache, and
the time the host spends on a call. Then one training step of a network of the size of GPT-2 small (Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners": 12 layers, 768 features, 1,024 tokens), with random weights and
tokens, bare, watched by default, and watched with every step sampled; in turns, as the ratio of medians. The built-in
schedule samples ever more sparsely until step 1,024: it is timed from there on, as most of a long run is.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unstuck
from unstuck.stats import cuda

MEGABYTES = (0.03, 0.25, 1, 4, 16, 64)
FEATURES, HEADS, LAYERS, CONTEXT, VOCABULARY, BATCH = 768, 12, 12, 1024, 50_257, 8
ROUNDS = 5
WARM_UP, STEPS = 12, 20  # the first ten steps are sampled under any schedule
LONG_WARM_UP, MORE_STEPS = 1_024, 200  # under the built-in one, about five of these are


def device_us(call: Callable[[], object]) -> float:
    """Return the median time of a call on the device, in microseconds; the cache is emptied before each."""
    from triton.testing import do_bench

    return float(do_bench(call, warmup=50, rep=200, return_mode="median")) * 1e3


def host_us(call: Callable[[], object], n: int = 200) -> float:
    """Return the time in which the host enqueues one call, in microseconds."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(n):
        call()
    spent = time.perf_counter() - begun
    torch.cuda.synchronize()
    return spent / n * 1e6


def summaries() -> None:
    """Print a row for each dtype and size."""
    print("| dtype | MB | sum, µs | summary, µs | ratio | by unit, µs | ratio | enqueued in, µs |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    for dtype in sorted(cuda.SUPPORTED, key=str):
        for megabytes in MEGABYTES:
            rows = max(1, int(megabytes * 1e6 / dtype.itemsize / FEATURES))
            x = torch.randn(rows, FEATURES, device="cuda").to(dtype)
            total = device_us(x.sum)
            whole = device_us(lambda x=x: cuda.summarise_async(x))
            units = device_us(lambda x=x: cuda.summarise_async(x, unit_dim=-1, interval=(-1.0, 1.0)))
            host = host_us(lambda x=x: cuda.summarise_async(x, unit_dim=-1, interval=(-1.0, 1.0)))
            name = str(dtype).removeprefix("torch.")
            print(f"| {name} | {x.nbytes / 1e6:.3g} | {total:.1f} | {whole:.1f} | {whole / total:.1f} ", end="")
            print(f"| {units:.1f} | {units / total:.1f} | {host:.0f} |")


class Block(nn.Module):
    """Attention and a layer of GELUs, each after a norm and added to the stream of shape (batch, tokens, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.qkv, self.out = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)
        self.up, self.gelu, self.down = nn.Linear(FEATURES, 4 * FEATURES), nn.GELU(), nn.Linear(4 * FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after this block."""
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, T, 64)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)  # (B, T, features)
        x = x + self.out(mixed)
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """Token indices of shape (batch, tokens) in, logits of shape (batch, tokens, vocabulary) out."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, FEATURES), nn.Embedding(CONTEXT, FEATURES)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(FEATURES), nn.Linear(FEATURES, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def seconds_per_step(
    model: Gpt, optimizer: torch.optim.Optimizer, tokens: Tensor, warm_up: int = WARM_UP, steps: int = STEPS
) -> float:
    """Train for some steps and return the time of one, without the first ones."""
    begun = 0.0
    for step in range(warm_up + steps):
        if step == warm_up:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


def training() -> None:
    """Print a row for each way to watch."""
    model = Gpt().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1), device="cuda")
    times: dict[str, list[float]] = {"bare": [], "watched": [], "every step sampled": []}
    for _ in range(ROUNDS):
        times["bare"].append(seconds_per_step(model, optimizer, tokens))
        with unstuck.watch():
            times["watched"].append(seconds_per_step(model, optimizer, tokens, LONG_WARM_UP, MORE_STEPS))
        with unstuck.watch(every=1):
            times["every step sampled"].append(seconds_per_step(model, optimizer, tokens))
    bare = statistics.median(times["bare"])
    print("| GPT-2 small, bfloat16 | a step, ms | added |\n|:--|--:|--:|")
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"| {name} | {median * 1e3:.1f} | {median / bare - 1:+.1%} |")


def main() -> None:
    """Print both tables, or say why not and exit with status 2."""
    if not torch.cuda.is_available() or not cuda.available():
        print("benchmarks.gpu needs a CUDA device and Triton; run it on a machine that has both", file=sys.stderr)
        sys.exit(2)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    summaries()
    print()
    training()


if __name__ == "__main__":
    main()

"""The SAC update on a GPU as a CUDA graph: one launch an update, where torch alone would launch some 150 kernels one by one.

What is captured is `fallback.TorchSac.learn`: kernels of torch, no autograd but the encoder's. The host draws, gathers the rows
into one pinned block, sends it in one transfer, launches, and waits for five metrics. There is a graph for updates with the
actor's turn and one for those without. Single precision throughout, and on one machine the same bits each time: no TF32, no
atomics, no choice of convolutions by the clock.

    agent = make_agent(dataclasses.replace(config.agent, engine="cuda"), 112, 8, seed, replay)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl import config
from robotrl.agents import dropout
from robotrl.agents.base import Mirror, Rows, Unsupported
from robotrl.agents.fused.fallback import TorchSac
from robotrl.replay import Cameras

ALIGNED = 64  # bytes: where an array of the pinned block begins
WARM_UP = 3  # updates before a capture: libraries reserve what they need in the first ones
WORD = 0xFFFFFFFF
Arrays = Mapping[str, NDArray[Any]]


def make(
    agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None,
    cameras: Cameras = (),
) -> GraphSac:  # fmt: skip
    """The agent on the GPU; Unsupported where torch sees none."""
    if not torch.cuda.is_available():
        raise Unsupported(f"torch {torch.__version__} sees no GPU here")
    return GraphSac(agent, observation_size, action_size, seed, replay, mirror, cameras, torch.device("cuda"))


class Transfer:
    """Arrays in one block on the host and one on the device: all of them go over in one copy."""

    def __init__(self, like: Arrays, device: torch.device) -> None:
        """`like`: arrays of the shapes and types that are to be sent, by name."""
        sizes = [-(-a.nbytes // ALIGNED) * ALIGNED for a in like.values()]
        self._host = torch.zeros(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._block = torch.zeros_like(self._host, device=device)
        self._from, self.sent = {}, {}
        at = 0
        for (name, a), size in zip(like.items(), sizes, strict=True):
            kind = torch.from_numpy(np.empty(0, a.dtype)).dtype
            host, there = (b[at : at + a.nbytes].view(kind).view(a.shape) for b in (self._host, self._block))
            self._from[name], self.sent[name] = host.numpy(), there
            at += size

    def send(self, arrays: Arrays) -> None:
        """These to the device, into the memory of `sent`; the copy before must be done. Fewer rows leave the others."""
        for name, array in arrays.items():
            self._from[name][: len(array)] = array
        self._block.copy_(self._host, non_blocking=True)


class GraphSac(TorchSac):
    """Soft actor-critic on a GPU; names, noise and order of `robotrl.agents.sac.Sac`."""

    engine = "cuda"

    def __init__(
        self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None,
        cameras: Cameras, device: torch.device, captures: bool = True,
    ) -> None:  # fmt: skip
        """As `Sac`; `cameras`, of one size, are learned from where there are any. Without `captures`, and on a device that has no
        graphs, kernels are launched one by one.
        """
        image = (*cameras[0][1:3], sum(c[3] for c in cameras)) if cameras else None
        if device.type == "cuda":
            _be_exact()
        self.device, self.captures = device, captures and device.type == "cuda"
        self._transfer: Transfer | None = None
        self._graphs: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        super().__init__(agent, observation_size, action_size, seed, replay, mirror, image, device)

    def _run(self, numbers: Arrays, turn: bool) -> list[float]:
        """METRICS of `learn`, their transfer the only time that the host waits."""
        if self._transfer is None:
            noise = np.zeros((2, *numbers["noise"].shape[1:]), np.float32)
            self._transfer = Transfer({**numbers, "noise": noise}, self.device)
        self._transfer.send(numbers)
        if self.captures and turn not in self._graphs:
            self._capture(self._transfer.sent, turn)
        if not self.captures:
            return self.learn(self._transfer.sent, turn).tolist()
        graph, metrics = self._graphs[turn]
        graph.replay()
        return metrics.tolist()

    def _capture(self, numbers: Mapping[str, Tensor], turn: bool) -> None:
        """The graph of an update; where there can be none, `engine_note` says why. Nothing is learned by it."""
        before = [t.clone() for t in (*(f.rows for f in self.flats), self._actor_metrics)]
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self.learn(numbers, turn)
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, stream=stream):
                metrics = self.learn(numbers, turn)
            self._graphs[turn] = graph, metrics
        except RuntimeError as error:
            self.captures = False
            self.engine = "cuda, no graph"
            self.engine_note = f"not captured as a CUDA graph: {str(error).splitlines()[0]}"
        torch.cuda.synchronize()
        for kept, t in zip(before, (*(f.rows for f in self.flats), self._actor_metrics), strict=True):
            t.copy_(kept)

    def _masks(self, key: Tensor, stage: int, critics: Tensor) -> list[Tensor]:
        """`dropout.masks` by the device, to the same bits."""
        rate, rows = self.config.dropout, self.config.batch
        if not rate:
            return []
        kept, out = dropout.STEPS / (dropout.STEPS - dropout.parts(rate)), []
        for layer, width in enumerate(self.config.hidden):
            streams = _mix(key + dropout.GOLDEN * (stage << 24 | layer) + (dropout.GOLDEN << 8) * critics)[:, None, None]
            row, pair = (torch.arange(n, device=key.device) for n in (rows, (width + 31) // 32 * 16))
            bits = _mix(_mix(streams + row[:, None]) + pair).view(len(critics), rows, -1, 16)
            halves = torch.cat([bits & 0xFFFF, bits >> 16], -1).view(len(critics), rows, -1)
            out.append((halves[:, :, :width] >= dropout.parts(rate)).float() * kept)
        return out


def _be_exact() -> None:
    """Of this process: products in single precision, and convolutions that give the same bits each time."""
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.9 and later have other names for these, which 2.6 has not
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _mix(x: Tensor) -> Tensor:
    """`dropout.mix` of the low 32 bits of whole numbers of 64; the factors are signed, so that no product leaves them."""
    x = x & WORD
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & WORD
    x = ((x ^ (x >> 15)) * (0x846CA68B - (1 << 32))) & WORD
    return x ^ (x >> 16)

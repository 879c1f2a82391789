"""CleanRL's SAC update (Huang et al. 2022, JMLR 23), rewritten: its program is one file a training, whose update none can call.

What it does in the step of its loop, with torch's modules and autograd: one Adam for both critics, the squared residual of each,
the actor every POLICY_FREQUENCY updates and then as often in a row, the temperature after each actor, targets parameter by
parameter. Its sizes of batch and networks are the caller's; all else is its defaults. For bench/engine.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robotrl import config

POLICY_FREQUENCY = 2
GAMMA, TAU, Q_LR, POLICY_LR, TARGET_EPSILON = 0.99, 0.005, 1e-3, 3e-4, 1e-6
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def trunk(sizes: list[int]) -> nn.Sequential:
    """Linear layers, each followed by a ReLU."""
    return nn.Sequential(*(part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())))


class Policy(nn.Module):
    """A tanh-Gaussian with a head each for mean and log std, the latter squeezed into its bounds by a tanh."""

    def __init__(self, observation: int, action: int, hidden: list[int]) -> None:
        super().__init__()
        self.trunk = trunk([observation, *hidden])
        self.mean, self.log_std = (nn.Linear(hidden[-1], action) for _ in range(2))

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """An action and its log density; (batch, action), (batch, 1)."""
        h = self.trunk(s)
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(self.log_std(h)) + 1)
        normal = torch.distributions.Normal(self.mean(h), log_std.exp())
        u = normal.rsample()
        a = torch.tanh(u)
        log_pi = normal.log_prob(u) - torch.log(1 - a.square() + TARGET_EPSILON)
        return a, log_pi.sum(1, keepdim=True)


class Update:
    """The agent, and its step of learning."""

    def __init__(self, agent: config.Agent, sizes: tuple[int, int], columns: dict[str, Any]) -> None:
        observation, action = sizes
        hidden = list(agent.hidden)
        self.columns, self.batch, self.rng, self.step = columns, agent.batch, np.random.default_rng(1), 0
        self.policy = Policy(observation, action, hidden)

        def critic() -> nn.Sequential:
            return nn.Sequential(trunk([observation + action, *hidden]), nn.Linear(hidden[-1], 1))

        self.critics, self.targets = ([critic(), critic()] for _ in range(2))
        for target, one in zip(self.targets, self.critics, strict=True):
            target.load_state_dict(one.state_dict())
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.adam_q = torch.optim.Adam([p for q in self.critics for p in q.parameters()], lr=Q_LR)
        self.adam_policy = torch.optim.Adam(self.policy.parameters(), lr=POLICY_LR)
        self.adam_alpha = torch.optim.Adam([self.log_alpha], lr=Q_LR)
        self.entropy = -float(action)

    def __call__(self) -> None:
        """One update of the critics and, on average, one of actor and temperature."""
        rows = self.rng.integers(0, len(self.columns["reward"]), self.batch)
        names = ("observation", "action", "reward", "next_observation", "terminated")
        s, a, r, s_next, ended = (torch.from_numpy(self.columns[n][rows]).float() for n in names)
        alpha = self.log_alpha.exp().item()
        with torch.no_grad():
            a_next, log_pi = self.policy(s_next)
            q_next = torch.min(*(q(torch.cat([s_next, a_next], 1)) for q in self.targets)) - alpha * log_pi
            y = r + (1 - ended) * GAMMA * q_next.view(-1)
        self.descend(self.adam_q, sum((F.mse_loss(q(torch.cat([s, a], 1)).view(-1), y) for q in self.critics), torch.zeros(())))
        if self.step % POLICY_FREQUENCY == 0:
            for _ in range(POLICY_FREQUENCY):
                self.improve(s)
        for target, one in zip(self.targets, self.critics, strict=True):
            for slow, fast in zip(target.parameters(), one.parameters(), strict=True):
                slow.data.copy_(TAU * fast.data + (1 - TAU) * slow.data)
        self.step += 1

    def improve(self, s: Tensor) -> None:
        """The actor, then the temperature with a fresh action."""
        alpha = self.log_alpha.exp().item()
        a, log_pi = self.policy(s)
        self.descend(self.adam_policy, (alpha * log_pi - torch.min(*(q(torch.cat([s, a], 1)) for q in self.critics))).mean())
        with torch.no_grad():
            _, log_pi = self.policy(s)
        self.descend(self.adam_alpha, (-self.log_alpha.exp() * (log_pi + self.entropy)).mean())

    @staticmethod
    def descend(adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()


def make(agent: config.Agent, sizes: tuple[int, int], columns: dict[str, Any]) -> tuple[str, Callable[[int], int]]:
    """What it calls itself, and a function that does so many updates and returns how many."""
    update = Update(agent, sizes, columns)

    def run(updates: int) -> int:
        for _ in range(updates):
            update()
        return updates

    return "CleanRL's update, rewritten", run

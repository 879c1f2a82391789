"""The rehearsal's bench, for a few updates: the rates it tells are of a learner that ran, beside the actor and alone."""

from __future__ import annotations

import json
import subprocess
import sys

from robotrl.benches import SCRIPTS

SMALL = ("agent.learn_after=64", "agent.random_steps=64", "agent.publish_every=32", "agent.hidden=[32, 32]", "agent.batch=64")


def test_both_halves_are_measured():
    words = [sys.executable, str(SCRIPTS / "rehearsal.py"), "--steps", "400", *(w for item in SMALL for w in ("--set", item))]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    said = json.loads(ran.stdout[ran.stdout.index("{") :])
    assert said["rehearsal"]["updates"] > 100 and said["rehearsal"]["updates_per_s"] > 0
    assert said["learner_alone_updates_per_s"] > 0 and said["slower"] in ("learner", "actor")

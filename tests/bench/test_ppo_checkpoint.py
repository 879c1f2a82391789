"""The checkpoint reader against what the training itself wrote down, and against damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet_data")


@pytest.fixture
def bench(script):
    return script("peer_gaits"), script("ppo_checkpoint")


@pytest.mark.parametrize("name", ["trotting", "reactive"])
def test_the_network_repeats_what_its_training_meant(bench, name):
    policy = bench[0].Policy(name)
    scale = float(np.abs(policy.meant).mean())
    assert policy.error() < 0.03 * scale  # not zero: one more update followed
    policy._mean = np.zeros_like(policy._mean)
    assert policy.error() > 0.03 * scale  # a wrong normaliser shows


def test_crc32c_of_the_standard_check_string(bench):
    assert bench[1].crc32c(b"123456789") == 0xE3069283


def test_a_damaged_weight_is_noticed(bench, tmp_path):
    gaits, reader = bench
    source = gaits.CHECKPOINTS / "minitaur_trotting_env" / "model.ckpt-14000000"
    data = bytearray(Path(f"{source}.data-00000-of-00001").read_bytes())
    data[-5000] ^= 1
    (tmp_path / "m.index").write_bytes(Path(f"{source}.index").read_bytes())
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(data))
    with pytest.raises(reader.CheckpointError, match="checksum"):
        reader.load(tmp_path / "m")

"""A result that is remembered is of the same tensors, values and settings."""

import torch

from edgecr.surgery.latent_weights.remembered import Remembered


def test_a_change_of_a_value_a_tensor_or_a_setting_is_noticed():
    memory, tensor, times = Remembered(), torch.zeros(2), []

    def compute():
        times.append(1)
        return len(times)

    assert [memory.get(compute, [tensor], 0.5) for _ in range(2)] == [1, 1]
    assert memory.get(compute, [tensor], 0.4) == 2
    tensor.add_(1)
    assert memory.get(compute, [tensor], 0.4) == 3
    assert memory.get(compute, [tensor.clone()], 0.4) == 4

"""SiPP: its invariants, and the definition written out in loops."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.surgery.masking.sipp import NOTHING, Looking, read_shares


def images(count=3, *, seed=0, negative=False):
    drawn = torch.randn(count, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    return drawn if negative else drawn.abs()


def conv(**keys):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, **{"kernel_size": 3, "padding": 1, "stride": 2} | keys))


def scores(module, batches, name="0", **keys):
    found = read_shares(module, {name: module.get_submodule(name)}, batches, Looking(**{"samples": 100} | keys))
    return found[f"{name}.weight"]


def by_loops(layer, batch):
    """The definition: for each image, output, place and weight, its share of the products of one sign."""
    weight = layer.weight.detach()
    best, wide = torch.zeros(weight.shape), weight.shape[1]
    for half in (batch.relu(), (-batch).relu()):
        for image in half:
            columns = functional.unfold(image[None], layer.kernel_size, 1, layer.padding, layer.stride)[0]
            for out, row in enumerate(weight):
                group = out // (len(weight) // layer.groups)
                size = wide * layer.kernel_size[0] * layer.kernel_size[1]
                own, flat = columns[group * size : (group + 1) * size], row.flatten()
                share = torch.zeros(size)
                for j in range(size):
                    same = (flat * flat[j]) > 0
                    for place in range(own.shape[1]):
                        total = (flat[same] * own[same, place]).sum()
                        if total.abs() > NOTHING:
                            share[j] += flat[j] * own[j, place] / total / own.shape[1]
                best[out] = torch.maximum(best[out], share.view(row.shape))
    return best


@pytest.mark.parametrize("keys", [{}, {"groups": 2}, {"stride": 1, "padding": 0, "bias": False}])
@pytest.mark.parametrize("negative", [False, True])
def test_the_batched_scores_are_those_of_the_definition(keys, negative):
    module, batch = conv(**keys), images(2, negative=negative)
    torch.testing.assert_close(scores(module, [batch]), by_loops(module[0], batch), rtol=1e-4, atol=1e-6)


def test_shares_of_one_sign_make_up_the_whole_output_of_a_linear_layer():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 5))
    found = scores(module, [torch.rand(1, 12)])
    positive = module[0].weight > 0
    assert ((found >= 0) & (found <= 1)).all()
    for sign in (positive, ~positive):
        torch.testing.assert_close((found * sign).sum(1), sign.any(1).float())


def test_scales_and_the_order_of_images_decide_nothing():
    module, batch = conv(), images()
    found = scores(module, [batch])
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(scores(module, [batch.flip(0)]), found)
    torch.testing.assert_close(scores(module, [batch[:1], batch[1:]]), found)
    torch.testing.assert_close(scores(module, [7 * batch]), found)
    with torch.no_grad():
        module[0].weight[2] *= 5
        module[0].bias += 3
    torch.testing.assert_close(scores(module, [batch]), found)


def test_weights_on_dead_inputs_are_worth_nothing():
    batch = images()
    batch[:, 1] = 0
    found = scores(conv(), [batch])
    assert not found[:, 1].any()
    assert found[:, 0].any()


def test_without_the_division_the_score_is_the_product():
    module, batch = conv(stride=1, padding=0, kernel_size=1), images(negative=True)
    expected = module[0].weight.detach().abs() * batch.abs().mean((2, 3)).amax(0).view(1, 4, 1, 1)
    torch.testing.assert_close(scores(module, [batch], normalise=False), expected)


def test_as_many_images_are_looked_at_as_are_wanted():
    module, batch, told = conv(), images(6), []
    assert torch.equal(scores(module, [batch[:2], batch[2:]], samples=3, say=told.append), scores(module, [batch[:3]]))
    assert "3 training images: about" in told[0]
    scores(module, [batch], samples=None, most=5, say=told.append)
    assert "5 training images (1" in told[1]
    assert module[0].training


def test_images_that_do_not_fit_into_memory_together_count_alike(monkeypatch):
    module, batch = conv(), images(6)
    expected = scores(module, [batch])
    monkeypatch.setattr("edgecr.surgery.masking.sipp._VALUES", 2 * 9 * 100)  # two images at a time
    torch.testing.assert_close(scores(module, [batch]), expected)


def test_layers_and_images_that_cannot_be_looked_at_are_named():
    with pytest.raises(UnsupportedModel, match="0 is a Conv1d"):
        scores(nn.Sequential(nn.Conv1d(4, 2, 1)), [torch.ones(1, 4, 3)])
    with pytest.raises(RequestError, match="there are none"):
        scores(conv(), [])
    with pytest.raises(UnsupportedModel, match="What 0 reads or holds is so large"):
        scores(conv(), [images(1) * float("nan")])
    unused = nn.Sequential(nn.Flatten(), nn.ModuleDict({"spare": nn.Linear(2, 2)}))
    unused.forward = lambda given: given.flatten(1) @ torch.ones(100, 2)
    unused.register_parameter("one", nn.Parameter(torch.ones(1)))
    with pytest.raises(UnsupportedModel, match=r"did not see what 1\.spare reads"):
        scores(unused, [images(1)], "1.spare")

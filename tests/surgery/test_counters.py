import json

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from edgecr.core.errors import UnsupportedModel
from edgecr.models import architecture, build
from edgecr.surgery.counters import count


def counted(arch, classes=10, size=32, **options):
    """On the meta device: shapes without numbers."""
    with torch.device("meta"):
        module = build(architecture({"arch": arch, **options}), classes)
    return count(module, (3, size, size))


# The models of the NCSU report (2023): blocks, width and stem; params, MiB and GMACs as printed there.
REPORT = [
    ({}, 11_173_962, "42.662", "0.1402"),
    ({"blocks": [2, 2, 1, 2]}, 9_993_290, "38.154", "0.1213"),
    ({"blocks": [2, 2, 2, 1]}, 6_453_322, "24.646", "0.1213"),
    ({"blocks": [1, 1, 1, 1]}, 4_903_242, "18.726", "0.0647"),
    ({"width": 0.5, "stem_width": 64}, 2_809_866, "10.738", "0.0393"),
    ({"width": 0.5, "stem_width": 64, "blocks": [2, 2, 1, 1]}, 1_333_770, "5.101", "0.0298"),
]


@pytest.mark.parametrize(("options", "params", "mebibytes", "giga_macs"), REPORT)
def test_the_models_of_the_ncsu_report(options, params, mebibytes, giga_macs):
    figures = counted("resnet18_cifar", stem="conv-pool", **options)
    assert figures.params == params
    assert f"{figures.size_bytes / 2**20:.3f}" == mebibytes
    assert f"{figures.macs / 1e9:.4f}" == giga_macs


@pytest.mark.parametrize(
    ("arch", "options", "params", "macs"),
    [
        ("resnet20", {}, 269_722, 40_551_040),
        ("resnet20", {"shortcut": "B"}, 272_474, 40_813_184),
        ("resnet56", {}, 853_018, 125_485_696),
        ("resnet56", {"shortcut": "B"}, 855_770, 125_747_840),
        ("resnet110", {}, 1_727_962, 252_887_680),
        ("resnet110", {"shortcut": "B"}, 1_730_714, 253_149_824),
        ("resnet18_cifar", {}, 11_173_962, 555_422_720),
        ("resnet18_cifar", {"stem": "conv-pool"}, 11_173_962, 140_186_624),
        ("resnet50_cifar", {}, 23_520_842, 1_297_829_888),
        ("resnet56_bottleneck", {}, 869_530, 127_322_624),
        ("resnet110_bottleneck", {}, 1_704_154, 247_646_720),
        ("wide_resnet18_2", {}, 44_662_922, 2_218_141_696),
        ("wide_resnet18_2_preact", {}, 24_868_032, 1_043_013_120),
        ("resnext29", {}, 6_807_882, 1_071_327_232),
        ("wrn16_8", {}, 10_961_370, 1_548_145_664),
        ("densenet22_bc", {}, 71_686, 31_238_322),
        ("vgg16_bn_cifar", {}, 14_728_266, 313_201_664),
        ("vgg19_bn_cifar", {}, 20_040_522, 398_136_320),
        ("conv2", {}, 4_300_992, 43_780_608),
        ("conv4", {}, 2_425_024, 98_306_560),
        ("conv6", {}, 2_261_184, 153_881_088),
        ("conv8", {}, 5_275_840, 209_979_904),
    ],
)
def test_cifar_networks(arch, options, params, macs):
    figures = counted(arch, **options)
    assert (figures.params, figures.macs) == (params, macs)


@pytest.mark.parametrize(
    ("width", "millions", "mega_macs"), [(1.0, "4.2", 569), (0.75, "2.6", 325), (0.5, "1.3", 149), (0.25, "0.5", 41)]
)
def test_mobilenets_as_printed_in_their_paper(width, millions, mega_macs):
    figures = counted("mobilenet_v1", classes=1000, size=224, width=width)
    assert f"{figures.params / 1e6:.1f}" == millions
    assert figures.macs / 1e6 == pytest.approx(mega_macs, abs=0.5)


@pytest.mark.parametrize(("classes", "params", "macs"), [(1000, 4_231_976, 568_740_352), (100, 3_309_476, 567_818_752)])
def test_mobilenet_v1(classes, params, macs):
    figures = counted("mobilenet_v1", classes=classes, size=224)
    assert (figures.params, figures.macs) == (params, macs)


@pytest.mark.parametrize(
    ("arch", "classes", "params", "macs"),
    [
        ("resnet18", 1000, 11_689_512, 1_814_073_344),
        ("resnet18", 100, 11_227_812, 1_813_612_544),
        ("resnet50", 1000, 25_557_032, 4_089_184_256),
        ("resnet50", 100, 23_712_932, 4_087_341_056),
        ("resnet101", 1000, 44_549_160, 7_801_405_440),
        ("mobilenet_v2", 1000, 3_504_872, 300_774_272),
        ("mobilenet_v2", 100, 2_351_972, 299_622_272),
        ("mnasnet1_0", 1000, 4_383_312, 314_415_872),
        ("mnasnet1_0", 100, 3_230_412, 313_263_872),
    ],
)
def test_torchvision_networks(arch, classes, params, macs):
    figures = counted(f"torchvision:{arch}", classes=classes, size=224)
    assert (figures.params, figures.macs) == (params, macs)


@pytest.mark.parametrize(
    ("auxiliary", "params", "macs"), [(True, 42_004_074, 178_643_701_440), (False, 39_638_869, 168_652_962_240)]
)
def test_segmentation_with_and_without_its_auxiliary_head(auxiliary, params, macs):
    with torch.device("meta"):
        module = torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=auxiliary
        )
    figures = count(module, (3, 513, 513))
    assert (figures.params, figures.macs) == (params, macs)


def test_layers_stand_in_the_order_of_execution():
    figures = counted("resnet20", shortcut="B")
    names = [layer.name for layer in figures.layers]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names[-1] == "linear"
    assert figures.layers[0].weight_shape == (16, 3, 3, 3)
    assert figures.layers[0].out_positions == 32 * 32
    assert [layer.kind for layer in figures.layers[-2:]] == ["conv", "linear"]
    assert figures.macs == sum(layer.macs for layer in figures.layers)


class Odd(nn.Module):
    """Grouped, functional, masked, transposed and repeated layers."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.weight = nn.Parameter(torch.rand(6, 8, 1, 1))
        self.register_buffer("mask", torch.ones(6, 8, 1, 1))
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.twice = nn.Linear(5, 5)

    def forward(self, x):
        x = functional.conv2d(self.grouped(x), self.weight * self.mask)
        x = self.up(x).mean((2, 3))
        return self.twice(self.twice(x))


def test_functional_grouped_masked_and_repeated_layers():
    figures = count(Odd(), (4, 6, 6))
    assert [layer.macs for layer in figures.layers] == [8 * 9 * 36, 48 * 36, 6 * 5 * 4 * 36, 25, 25]
    assert [layer.name for layer in figures.layers] == ["grouped", "weight", "up", "twice", "twice"]
    assert figures.layers[0].groups == 4
    assert figures.params == sum(parameter.numel() for parameter in Odd().parameters())
    assert figures.size_bytes == 4 * (figures.params + 48)


def test_products_of_activations_are_not_layers():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.attend(tokens, tokens, tokens, need_weights=False)[0]

    figures = count(Attention(), (8, 2, 2))
    assert figures.macs == 4 * (3 * 64 + 64)  # four tokens through queries, keys, values and the output
    assert {layer.kind for layer in figures.layers} == {"linear"}


def test_the_module_is_left_as_it_was():
    module = build(architecture({"arch": "resnet20", "width": 0.25}), 10).train()
    module.bn1.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count(module, (3, 8, 8))
    assert module.training
    assert module.layer1.training
    assert not module.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_plain_is_json():
    plain = counted("resnet20").plain()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["layers"][0]["weight_shape"] == [16, 3, 3, 3]


def test_a_model_that_cannot_take_the_input_is_named_so():
    with pytest.raises(UnsupportedModel, match="3x8x8"):
        count(nn.Linear(3, 2), (3, 8, 8))

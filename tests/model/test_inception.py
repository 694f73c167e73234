"""The Inception network of FID, with random weights of the right names."""

import pytest
import torch

from mmvae_cli.model.networks.inception import CLASSES, FEATURES, Inception


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inception()


def weights_of(network):
    return network.network.state_dict() | {f"fc.{key}": value for key, value in network.classes.state_dict().items()}


def test_names_and_shapes_are_those_of_the_ported_weights(network):
    found = {key: tuple(value.shape) for key, value in weights_of(network).items() if "num_batches" not in key}
    assert len(found) == 472
    numbers = sum(torch.Size(shape).numel() for shape in found.values())
    assert 0 < 95_628_359 - 4 * numbers < 100_000, "the size of the ported file but for its names"
    assert found["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert found["Mixed_7c.branch_pool.bn.running_var"] == (192,)
    assert found["fc.weight"] == (CLASSES, FEATURES)
    assert not [key for key in found if key.startswith("AuxLogits")]


def test_features_are_deterministic_and_of_the_weights(network):
    x = torch.rand(2, 3, 28, 28)
    found = network(x)
    assert found.shape == (2, FEATURES)
    assert found.isfinite().all()
    other = Inception()
    assert not torch.equal(other(x), found)
    other.load(weights_of(network))
    assert torch.equal(other(x), found)


def test_pools_leave_out_the_border_and_the_last_takes_the_highest(network):
    seen = {}
    for name in ("Mixed_5b", "Mixed_6c", "Mixed_7b", "Mixed_7c"):
        block = getattr(network.network, name)
        handle = block.branch_pool.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args}))
        ramp = torch.arange(25.0).view(1, 1, 5, 5).expand(1, block.branch1x1.conv.in_channels, 5, 5)
        with torch.no_grad():
            block(ramp)
        handle.remove()
    for name in ("Mixed_5b", "Mixed_6c", "Mixed_7b"):
        assert float(seen[name][0][0, 0, 0, 0]) == pytest.approx((0 + 1 + 5 + 6) / 4), name
    assert float(seen["Mixed_7c"][0][0, 0, 0, 0]) == 6


@pytest.mark.parametrize(("change", "said"), [
    ({"fc.bias": torch.zeros(1000)}, r"fc.bias is of shape \[1000\], and should be of shape \[1008\]"),
    ({"AuxLogits.fc.bias": torch.zeros(3)}, "AuxLogits.fc.bias is of shape .*, and should be not there"),
])  # fmt: skip
def test_other_weights_are_refused_by_name(network, change, said):
    with pytest.raises(ValueError, match=said):
        network.load(weights_of(network) | change)

"""Pretrained weights: real ones, wrapped ones, torchvision's cache, and every way not to fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from mfed_ray.errors import ConfigError, WeightsError
from mfed_ray.models.encoders import make_encoder


@pytest.fixture
def mobilenet_file(shared: Path) -> Path:
    return shared / "weights" / "mobilenet_v2_imagenet.safetensors"


@pytest.fixture
def photographs(shared: Path) -> Tensor:
    """Eight photographs, normalised with ImageNet's mean and standard deviation: [8, 3, 160, 160]."""
    paths = sorted((shared / "data" / "pascal_mini" / "JPEGImages").glob("*.jpg"))[:8]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((160, 160))) for path in paths])
    scaled = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(scaled).float().permute(0, 3, 1, 2)


def resnet10_state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return make_encoder("resnet10", 32, None, "average").state_dict()


def test_real_mobilenet_is_torchvisions(mobilenet_file: Path, photographs: Tensor) -> None:
    reference = torchvision.models.mobilenet_v2().eval()
    reference.load_state_dict(safetensors.torch.load_file(mobilenet_file), strict=False)
    encoder = make_encoder("mobilenet_v2", 32, mobilenet_file, "average").eval()
    with torch.no_grad():
        assert torch.equal(encoder(photographs)["c5"], reference.features[:18](photographs))


def test_real_statistics_describe_photographs(mobilenet_file: Path, photographs: Tensor) -> None:
    """The last block ends in BatchNorm: a channel's spread on natural images is about its scale, |weight|.

    The median ratio is 1.01 here; it is 0.25 on noise.
    """
    encoder = make_encoder("mobilenet_v2", 32, mobilenet_file, "frozen")
    with torch.no_grad():
        spread = encoder(photographs)["c5"].std(dim=(0, 2, 3))
    scale = encoder.state_dict()["features.17.conv.3.weight"].abs()
    assert 0.8 < (spread / scale).median().item() < 1.2


def test_real_weights_fill_every_tensor(mobilenet_file: Path) -> None:
    file = safetensors.torch.load_file(mobilenet_file)
    for policy in ("average", "local", "frozen"):
        state = make_encoder("mobilenet_v2", 16, str(mobilenet_file), policy).state_dict()
        assert all(torch.equal(file[key], state[key]) for key in state if not key.endswith("num_batches_tracked"))


def test_group_norm_starts_from_identity_not_from_batch_norm(mobilenet_file: Path) -> None:
    file = safetensors.torch.load_file(mobilenet_file)
    encoder = make_encoder("mobilenet_v2", 16, mobilenet_file, "group")
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            assert torch.equal(module.weight, file[f"{name}.weight"])
        if isinstance(module, nn.GroupNorm):
            assert bool((module.weight == 1).all())
            assert not bool(module.bias.any())


def test_frozen_statistics_survive_training(mobilenet_file: Path) -> None:
    encoder = make_encoder("mobilenet_v2", 32, mobilenet_file, "frozen").train()
    frozen = {name for name, module in encoder.named_modules() if isinstance(module, FrozenBatchNorm2d)}
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(torch.randn(1, 3, 64, 64))["c5"].square().mean().backward()
    optimizer.step()
    changed = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.rpartition(".")[0] not in frozen}


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_wrapped_weights_load_without_the_classifier(tmp_path: Path, prefix: str, suffix: str) -> None:
    state = resnet10_state()
    saved = {f"{prefix}{key}": value for key, value in {**state, "fc.weight": torch.zeros(2, 512)}.items()}
    path = tmp_path / f"resnet10{suffix}"
    save: Callable[[dict[str, Tensor], Path], Any] = torch.save if suffix == ".pth" else safetensors.torch.save_file
    save(saved, path)
    loaded = make_encoder("resnet10", 8, path, "average").state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_torchvision_weights_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(3)
    state = torchvision.models.resnet18().state_dict()
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(state, cache / Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name)
    loaded = make_encoder("resnet18", 16, "torchvision", "average").state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def test_torchvision_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    message = (
        r"model\.weights: cannot get torchvision's weights for resnet18 from https://\S+ \(URLError: .*\); allowed"
    )
    with pytest.raises(WeightsError, match=message):
        make_encoder("resnet18", 16, "torchvision", "average")


def test_torchvision_has_no_resnet10() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.weights: torchvision has no weights for encoder 'resnet10', allowed"
    ):
        make_encoder("resnet10", 16, "torchvision", "average")


def test_weights_of_another_encoder(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(resnet10_state(), path)
    message = (
        r"other\.safetensors does not fit encoder 'mobilenet_v2': missing: features\.0\.0\.weight .* \(\d+ in all\), "
        r"unexpected: bn1\.bias .*; allowed: the parameters of torchvision's mobilenet_v2"
    )
    with pytest.raises(WeightsError, match=message):
        make_encoder("mobilenet_v2", 16, path, "average")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "grey.pth"
    torch.save({**resnet10_state(), "conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    message = r"grey\.pth does not fit .*: wrong shape: conv1\.weight \[64, 1, 7, 7\] instead of \[64, 3, 7, 7\];"
    with pytest.raises(WeightsError, match=message):
        make_encoder("resnet10", 16, path, "average")


def test_missing_file(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        with pytest.raises(WeightsError, match=r"cannot read \S+none\S+ \(FileNotFoundError: .*; allowed: a readable"):
            make_encoder("resnet10", 16, tmp_path / f"none{suffix}", "average")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a weights file at all"])
def test_broken_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"model\.weights: cannot read \S+broken{suffix} \(.*\); allowed"):
        make_encoder("resnet10", 16, path, "average")


def test_file_without_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    for content in ([1, 2], {"epoch": 3}, {0: torch.zeros(1)}):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"list\.pth holds no state dict; allowed: a dict of tensors"):
            make_encoder("resnet10", 16, path, "average")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save({"conv1.weight": tmp_path}, path)
    with pytest.raises(WeightsError, match=r"cannot read \S+code\.pth \(UnpicklingError: Weights only load failed"):
        make_encoder("resnet10", 16, path, "average")


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights\.h5 has suffix '\.h5', allowed: \.safetensors, \.pth, or 'torchv"):
        make_encoder("resnet10", 16, tmp_path / "weights.h5", "average")

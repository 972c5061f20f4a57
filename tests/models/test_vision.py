"""Image models: the published sizes, hidden layers, and stopping halfway."""

from __future__ import annotations

import pytest
import torch

from bench import BenchError
from bench.models.base import parameter_count, uniform_pairs
from bench.models.vision import build_vision, cifar_resnet


def images(count: int = 4, size: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"image": torch.randn(count, 3, size, size, generator=generator)}


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet20", 10, 272_474),
        ("resnet20+ones", 10, 272_474),
        ("resnet56", 10, 855_770),
        ("resnet110", 10, 1_730_714),
        ("resnet8x4", 100, 1_233_540),
        ("resnet32x4", 100, 7_433_860),
    ],
)
def test_published_networks_have_their_published_size(name, classes: int, parameters: int) -> None:
    assert parameter_count(build_vision(name, num_classes=classes)) == parameters


@pytest.mark.parametrize(("name", "start"), [("resnet20", 0.0), ("resnet20+ones", 1.0)])
def test_residual_branches_start_at_zero_or_as_published(name: str, start: float) -> None:
    network = build_vision(name, num_classes=10).network
    last = [block.conv2_kxk.bn.weight for stage in network.stages for block in stage]
    assert len(last) == 9 and all(bool((weight == start).all()) for weight in last)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet20", [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
        ("resnet8x4", [(64, 32, 32), (128, 16, 16), (256, 8, 8)]),
        ("resnet8w8", [(8, 32, 32), (16, 16, 16), (32, 8, 8)]),
        ("resnet8w8s2", [(8, 16, 16), (16, 8, 8), (32, 4, 4)]),
    ],
)
def test_hidden_layers_are_the_stages(name: str, shapes: list[tuple[int, ...]]) -> None:
    model = build_vision(name, num_classes=10).eval()
    assert model.depth == 3
    with torch.no_grad():
        output = model(images(2), hidden=[2, 0, 1])
    assert {layer: tuple(value.shape[1:]) for layer, value in output.hidden.items()} == dict(
        enumerate(shapes)
    )
    assert output.embedding.shape == (2, model.width) == (2, shapes[-1][0])
    assert output.logits.shape == (2, 10)
    # the embedding is the last stage, averaged over positions
    torch.testing.assert_close(output.hidden[2].mean(dim=(2, 3)), output.embedding)


@pytest.mark.parametrize("name", ["resnet8w8s2", "timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_the_head_turns_the_embedding_into_logits(name: str) -> None:
    model = build_vision(name, num_classes=7).eval()
    with torch.no_grad():
        output = model(images(2, 64))
        assert output.embedding.shape == (2, model.width)
        assert model.head.weight.shape == (7, model.width)
        torch.testing.assert_close(model.head(output.embedding), output.logits)


def test_asking_for_hidden_layers_changes_no_bit_of_the_rest() -> None:
    model = build_vision("resnet8w8s2", num_classes=10).train()
    plain, asked = model(images()), model(images(), hidden=[0, 2])
    assert plain.logits.equal(asked.logits)
    assert plain.embedding.equal(asked.embedding)
    assert sorted(asked.hidden) == [0, 2] and not plain.hidden


@pytest.mark.parametrize("until", [0, 1, 2])
def test_until_runs_nothing_above(until: int, snapshot, differing) -> None:
    model = build_vision("resnet8w8s2", num_classes=10).train()
    before = snapshot(model)
    output = model(images(), hidden=[until], until=until)
    assert output.logits is None and output.embedding is None
    assert sorted(output.hidden) == [until]
    changed = differing(before, model.state_dict())  # batch statistics: the only thing that moves
    runs = ("network.stem.", *(f"network.stages.{stage}." for stage in range(until + 1)))
    expected = [name for name in before if name.startswith(runs) and _is_statistic(name)]
    assert changed == expected
    output.hidden[until].sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(runs), name


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_until_gives_the_same_map_as_the_whole_run() -> None:
    model = build_vision("resnet8w8s2", num_classes=10).eval()
    with torch.no_grad():
        whole, part = model(images(), hidden=[0, 1]), model(images(), hidden=[0], until=1)
    for layer in (0, 1):
        assert part.hidden[layer].equal(whole.hidden[layer])


def test_a_network_with_more_than_one_linear_layer_on_its_features_is_refused() -> None:
    name = "deit_tiny_distilled_patch16_224"  # the mean of two heads
    with pytest.raises(BenchError, match=f"'{name}' is no network of features and one linear"):
        build_vision(f"timm:{name}", num_classes=10)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet21", "6n + 2"),
        ("resnet2", "6n + 2"),
        ("resnet8w9", "eights"),
        ("vgg", "resnetD"),
        ("resnet20 ", "resnetD"),
        (
            "timm:resnet10tt",
            "resnet10t",
        ),
        ("timm:nothing-like-it", "list_models"),
    ],
)
def test_unknown_names_are_refused_with_what_is_allowed(name: str, hint: str) -> None:
    with pytest.raises(BenchError) as caught:
        build_vision(name, num_classes=10)
    assert hint in caught.value.hint


def test_stem_stride_is_noted_in_the_networks_own_book() -> None:
    for stride, reductions in ((1, [1, 2, 4]), (2, [2, 4, 8])):
        network = cifar_resnet(8, num_classes=10, stem_stride=stride)
        assert [info["reduction"] for info in network.feature_info] == reductions


@pytest.mark.parametrize(
    ("depths", "pairs"),
    [
        ((3, 3), [(0, 0), (1, 1), (2, 2)]),
        ((2, 6), [(0, 2), (1, 5)]),
        ((4, 2), [(0, 0), (1, 0), (2, 1), (3, 1)]),
        ((1, 12), [(0, 11)]),
    ],
)
def test_layers_are_paired_at_the_same_relative_depth(depths, pairs) -> None:
    assert uniform_pairs(*depths) == pairs

"""The image autoencoder: shapes, its objective, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench import TASKS, BenchError
from bench.generators.base import Code, check_fits, code_scale
from bench.generators.build import build_generator
from bench.generators.image import ConvAutoencoder


def autoencoder(split, **changes) -> ConvAutoencoder:
    torch.manual_seed(5)
    low, high = split.value_range()
    size = changes.pop("size", tuple(split.images.shape[1:3]))
    return ConvAutoencoder(8, 2, size=size, low=low, high=high, **changes)


def test_code_and_reconstruction_have_their_shapes(image_world) -> None:
    made = autoencoder(image_world.train).eval()
    batch = image_world.train.batch(np.arange(4))
    code = made.encode(batch.inputs)
    assert code.values.shape == (4, 2, 8, 8) and code.mask is None
    assert made.scale.shape == code.values.shape[1:]
    assert made.decode(code)["image"].shape == batch.inputs["image"].shape
    assert made.encode(batch.inputs).values.equal(code.values)  # the mean: nothing is drawn
    check_fits(made, batch.inputs, "digits")


def test_no_pixel_is_blacker_than_black_or_whiter_than_white(image_world) -> None:
    split = image_world.train
    made = autoencoder(split).eval()
    found = made.decode(Code(1e4 * torch.randn(3, 2, 8, 8)))["image"]
    low, high = (value.view(1, 3, 1, 1) for value in split.value_range())
    assert ((found >= low) & (found <= high)).all()
    pixels = split.pixels(found)
    assert pixels.dtype == np.uint8 and {0, 255} <= set(np.unique(pixels))


def test_pixels_are_those_of_the_data_again(image_world) -> None:
    split, index = image_world.train, np.array([3, 60, 0])
    assert (split.pixels(split.batch(index).inputs["image"]) == split.images[index].numpy()).all()


def test_a_gradient_reaches_the_code(image_world) -> None:
    made = autoencoder(image_world.train).eval().requires_grad_(False)
    values = torch.randn(2, 2, 8, 8, requires_grad=True)
    made.decode(Code(values))["image"].sum().backward()
    assert values.grad is not None and float(values.grad.abs().sum()) > 0


def test_the_objective_is_error_plus_weighted_divergence(image_world) -> None:
    """In evaluation mode nothing is drawn, so the terms can be computed apart."""
    made = autoencoder(image_world.train, kl_weight=0.25).eval()
    inputs = image_world.train.batch(np.arange(5)).inputs
    mean, log_variance = made._moments(inputs["image"])
    error = (made.decoder(mean) - inputs["image"]).square().flatten(1).mean(dim=1)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0)
    )
    expected = error + 0.25 * kl.flatten(1).mean(dim=1)
    torch.testing.assert_close(made.objective(inputs), expected, rtol=1e-4, atol=1e-5)
    made.train()
    assert not torch.allclose(made.objective(inputs), made.objective(inputs))


def test_sizes_that_cannot_be_halved_twice_are_refused(image_world) -> None:
    with pytest.raises(BenchError, match="30×32"):
        autoencoder(image_world.train, size=(30, 32))


def test_a_generator_of_other_shapes_is_refused(image_world) -> None:
    split = image_world.train

    class Half(ConvAutoencoder):
        name = "half"

        def decode(self, code):
            return {"image": super().decode(code)["image"][:, :, ::2, ::2]}

    low, high = split.value_range()
    made = Half(8, 2, size=(32, 32), low=low, high=high).eval()
    inputs = split.batch(np.arange(2)).inputs
    with pytest.raises(BenchError, match=r"'half' does not match task 'digits'.*3×32×32.*3×16×16"):
        check_fits(made, inputs, "digits")
    with pytest.raises(BenchError, match="cannot read the inputs of task 'words'"):
        check_fits(made, {"input_ids": torch.zeros(2, 5, dtype=torch.int64)}, "words")


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (
            "cifar10",
            {
                "bart-L1-H64": "makes text, but 'cifar10' is a task of image",
                "hub:facebook/bart-base": "makes text",
                "biggan": "unknown generator 'biggan'",
                "autoencoder-w7-z2": "no autoencoder of width 7",
            },
        ),
        (
            "amazon",
            {
                "autoencoder-w8-z2": "makes images, but 'amazon' is a task of text",
                "bart-L1-H50": "no compact BART",
            },
        ),
    ],
)
def test_names_that_do_not_fit_the_task_are_refused(task: str, names: dict[str, str]) -> None:
    made = TASKS.get(task)("quick", overrides={"train_limit": 16})
    data = made.load()
    for name, message in names.items():
        with pytest.raises(BenchError, match=message):
            build_generator(name, made, data)
    if task == "amazon":  # a vocabulary that a compact BART cannot write
        made.vocabulary = lambda: "hub:roberta-base"
        with pytest.raises(BenchError, match="vocabulary of 'hub:roberta-base'"):
            build_generator("bart-L1-H32", made, data)


def test_the_scale_is_taken_dimension_by_dimension_over_real_tokens_alone() -> None:
    values = torch.randn(50, 2, 3, 3) * torch.arange(1.0, 3.0).view(1, 2, 1, 1)
    assert code_scale([Code(values[:20]), Code(values[20:])]).equal(values.std(dim=0))
    states, mask = torch.randn(6, 5, 4), torch.rand(6, 5) < 0.5
    padded = states.masked_fill(~mask[:, :, None], 1e6)
    assert code_scale([Code(padded, mask)]).equal(states[mask].std(dim=0))

"""Teacher signals from the cache: the same as live, for whatever batch, or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.splits import View
from bench.teachers import fill as filling
from bench.teachers.fill import fill, find, signal_folder
from bench.teachers.signals import CachedTeacher, LiveTeacher, StaleSignals, check

CPU = torch.device("cpu")
KEY = "k" * 64


VIEWS = [View(0, 0), View(0, 1), View(0, 2)]


def _fill(teacher, split, layers=(0, 2), precision: str = "float32", views=VIEWS) -> Path:
    folder = fill(
        teacher,
        split,
        teacher=KEY,
        layers=layers,
        views=views,
        batch_size=7,
        precision=precision,
    )
    assert folder is not None
    return folder


class Counting:
    """Counts the forward passes of a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls = 0
        model.register_forward_pre_hook(self._count)

    def _count(self, module: torch.nn.Module, args: object) -> None:
        self.calls += 1


def test_cached_is_live_within_half_precision_whatever_the_batch(text_world) -> None:
    teacher = text_world.teacher()
    torch.nn.init.normal_(teacher.classifier.weight)  # logits that tell samples apart
    cached = CachedTeacher(_fill(teacher, text_world.train), CPU)
    live = LiveTeacher(teacher, "float32")
    order = [*text_world.train.training_order(3, 1, 12), np.array([5]), np.array([40, 2, 40])]
    for index in order:
        batch = text_world.train.batch(index, View(3, 1))
        ours, theirs = cached(batch, [0, 2]), live(batch, [0, 2])
        # half precision: 11 significant bits
        close = {"rtol": 2**-10, "atol": 1e-4}
        torch.testing.assert_close(ours.logits, theirs.logits, **close)
        torch.testing.assert_close(ours.embedding, theirs.embedding, **close)
        assert sorted(ours.hidden) == [0, 2]
        for layer in (0, 2):
            one, other = ours.hidden[layer], theirs.hidden[layer]
            assert one.shape == other.shape
            torch.testing.assert_close(one[batch.mask], other[batch.mask], **close)
            assert (one[~batch.mask] == 0).all()
        for value in (ours.logits, ours.embedding, *ours.hidden.values()):
            assert value.dtype == torch.float32
            assert not value.requires_grad
        assert (cached.served, cached.samples) == ("cached", 0)
        if len(index) > 3:  # the neighbour's row would be told from one's own
            assert not torch.allclose(ours.logits, theirs.logits.roll(1, 0), **close)


def test_images_that_never_change_are_cached_without_hidden_layers(image_world) -> None:
    teacher, split = image_world.teacher(), image_world.validation
    cached = CachedTeacher(_fill(teacher, split, layers=()), CPU)
    batch = split.batch(np.array([9, 1, 30]))
    theirs = LiveTeacher(teacher, "float32")(batch, [])
    torch.testing.assert_close(cached(batch, []).logits, theirs.logits, rtol=2**-10, atol=1e-4)
    assert fill(teacher, split, teacher=KEY, layers=[1], batch_size=7, precision="float32") is None


def test_augmented_images_are_cached_view_by_view(image_world) -> None:
    teacher, split = image_world.teacher(), image_world.train
    live = LiveTeacher(teacher, "float32")
    cached = CachedTeacher(_fill(teacher, split, layers=()), CPU, static=False)
    close = {"rtol": 2**-10, "atol": 1e-4}
    for view in VIEWS:
        for index in split.training_order(0, view.epoch, 16):
            batch = split.batch(index, view)
            ours, theirs = cached(batch, [], view), live(batch, [], view)
            torch.testing.assert_close(ours.logits, theirs.logits, **close)
            torch.testing.assert_close(ours.embedding, theirs.embedding, **close)
            other = cached(batch, [], VIEWS[view.epoch - 1])
            assert not torch.allclose(other.embedding, theirs.embedding, **close)


@pytest.mark.parametrize("view", [None, View(0, 3), View(1, 0)])
def test_a_view_that_is_not_there_is_never_made_up(image_world, view: View | None) -> None:
    teacher, split = image_world.teacher(), image_world.train
    folder = _fill(teacher, split, layers=())
    batch = split.batch(np.arange(16), view)
    with pytest.raises(KeyError):
        CachedTeacher(folder, CPU, static=False)(batch, [], view)
    cached = CachedTeacher(folder, CPU, live=LiveTeacher(teacher, "float32"), static=False)
    expected = LiveTeacher(teacher, "float32")(batch, [], view)
    assert cached(batch, [], view).logits.equal(expected.logits)
    assert (cached.served, cached.samples) == ("cached and live", 16)


@pytest.mark.parametrize("name", ["logits", "embedding", "hidden-2"])
def test_a_view_that_is_there_in_part_comes_from_the_live_teacher(text_world, name: str) -> None:
    teacher = text_world.teacher()
    folder = _fill(teacher, text_world.train)
    (folder / f"{name}.npy").unlink()
    batch = text_world.train.batch(np.arange(5))
    cached = CachedTeacher(folder, CPU, live=LiveTeacher(teacher, "float32"))
    expected = LiveTeacher(teacher, "float32")(batch, [0, 2])
    assert cached(batch, [0, 2]).logits.equal(expected.logits) and cached.samples == 5


def test_hidden_layers_of_augmented_images_come_from_the_live_teacher(image_world) -> None:
    teacher, split = image_world.teacher(), image_world.train
    live = LiveTeacher(teacher, "float32")
    cached = CachedTeacher(_fill(teacher, split, layers=()), CPU, live=live, static=False)
    batch = split.batch(np.arange(16), VIEWS[0])
    found = cached(batch, [1], VIEWS[0])
    assert found.hidden[1].equal(LiveTeacher(teacher, "float32")(batch, [1]).hidden[1])
    assert cached.samples == 16
    assert (
        fill(
            teacher,
            split,
            teacher=KEY,
            layers=[1],
            views=VIEWS,
            batch_size=7,
            precision="float32",
        )
        is None
    )


def test_the_unaugmented_samples_of_an_augmented_split_are_a_view_of_their_own(image_world) -> None:
    teacher, split = image_world.teacher(), image_world.train
    cached = CachedTeacher(_fill(teacher, split, layers=(), views=[None]), CPU, static=False)
    batch = split.batch(np.arange(16))
    expected = LiveTeacher(teacher, "float32")(batch, [])
    torch.testing.assert_close(
        cached(batch, []).embedding, expected.embedding, rtol=2**-10, atol=1e-4
    )
    with pytest.raises(KeyError):
        cached(batch, [], VIEWS[0])


def test_only_missing_views_are_run(image_world) -> None:
    teacher, split = image_world.teacher(), image_world.train
    counting = Counting(teacher)
    _fill(teacher, split, layers=(), views=VIEWS[:1])
    assert counting.calls == 10  # 64 samples in batches of 7
    _fill(teacher, split, layers=(), views=VIEWS)
    assert counting.calls == 30


def test_find_wants_everything_that_is_asked_for(text_world, image_world) -> None:
    def found(split, layers, views) -> bool:
        asked = {"layers": layers, "views": views, "precision": "float32"}
        return find(split, teacher=KEY, **asked) is not None

    assert not found(text_world.train, [0], VIEWS)
    _fill(text_world.teacher(), text_world.train, layers=[0])
    assert found(text_world.train, [0], VIEWS)
    assert found(text_world.train, [], VIEWS)
    assert not found(text_world.train, [0, 1], VIEWS)
    _fill(image_world.teacher(), image_world.train, layers=(), views=VIEWS[:2])
    assert found(image_world.train, (), VIEWS[:2])
    assert not found(image_world.train, (), VIEWS)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_check_sees_signals_of_the_wrong_sample(kind: str, request) -> None:
    world = request.getfixturevalue(f"{kind}_world")
    teacher = world.teacher()
    torch.nn.init.normal_(teacher.head.weight)
    static = kind == "text"
    folder = _fill(teacher, world.train, layers=())
    live, view = LiveTeacher(teacher, "float32"), VIEWS[0]
    cached = CachedTeacher(folder, CPU, static=static)
    check(cached, live, world.train, view)
    path = folder / ("logits.npy" if static else "view-0-0-logits.npy")
    np.save(path, np.roll(np.load(path), 1, axis=0))
    with pytest.raises(StaleSignals, match="off by"):
        check(CachedTeacher(folder, CPU, static=static), live, world.train, view)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_signals_beyond_half_precision_are_refused_not_stored(text_world) -> None:
    teacher = text_world.teacher()
    torch.nn.init.constant_(teacher.classifier.bias, 1e5)
    with pytest.raises(ValueError, match="float16"):
        _fill(teacher, text_world.train)


def test_an_intact_cache_is_not_computed_again(text_world) -> None:
    teacher = text_world.teacher()
    folder = _fill(teacher, text_world.train)
    counting = Counting(teacher)
    assert _fill(teacher, text_world.train) == folder
    assert counting.calls == 0


@pytest.mark.parametrize("name", ["logits.npy", "embedding.npy", "offsets.npy", "hidden-2.npy"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_an_altered_file_is_seen_and_made_anew(text_world, name: str, harm: str) -> None:
    teacher = text_world.teacher()
    folder = _fill(teacher, text_world.train)
    path = folder / name
    good = path.read_bytes()
    if harm == "flip":
        path.write_bytes(good[:-3] + bytes([good[-3] ^ 0x10]) + good[-2:])
    elif harm == "truncate":
        path.write_bytes(good[:-8])
    else:
        path.unlink()
    counting = Counting(teacher)
    assert _fill(teacher, text_world.train) == folder
    assert counting.calls == 7  # 48 samples in batches of 7
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", '{"teacher": "other", "sha256": {}}', '{"sha256": 3}']
)
def test_a_cache_without_a_good_manifest_does_not_count(text_world, content: str) -> None:
    teacher = text_world.teacher()
    manifest = _fill(teacher, text_world.train) / "manifest.json"
    manifest.write_text(content, encoding="utf-8")
    counting = Counting(teacher)
    _fill(teacher, text_world.train)
    assert counting.calls == 7
    names = {"logits", "embedding", "offsets", "hidden-0", "hidden-2"}
    assert json.loads(manifest.read_text(encoding="utf-8"))["sha256"].keys() == names


def test_an_interrupted_fill_is_not_taken_for_a_whole_one(
    text_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, written = text_world.teacher(), []

    def dying(path: Path) -> str:
        written.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(filling, "file_sha256", dying)
        with pytest.raises(KeyboardInterrupt):
            _fill(teacher, text_world.train)
    assert len(written) == 1
    counting = Counting(teacher)
    _fill(teacher, text_world.train)
    assert counting.calls == 7


def test_what_would_pass_the_limit_is_left_to_the_live_teacher(text_world) -> None:
    teacher, split = text_world.teacher(), text_world.train
    outputs = len(split) * (2 + 64) * 2
    hidden = int(split.lengths.sum()) * 64 * 2
    asked = {"teacher": KEY, "batch_size": 7, "precision": "float32"}
    assert fill(teacher, split, limit=outputs - 1, **asked) is None
    assert fill(teacher, split, limit=outputs, **asked) is not None
    assert fill(teacher, split, layers=[0], limit=outputs + hidden - 1, **asked) is None
    folder = fill(teacher, split, layers=[0], limit=outputs + hidden, **asked)
    assert folder is not None
    stored = [np.load(folder / f"{name}.npy") for name in ("logits", "embedding", "hidden-0")]
    assert sum(array.nbytes for array in stored) == outputs + hidden


def test_folders_differ_by_teacher_rows_and_precision() -> None:
    folders = {
        signal_folder(KEY, 48, "float32"),
        signal_folder("j" * 64, 48, "float32"),
        signal_folder(KEY, 47, "float32"),
        signal_folder(KEY, 48, "float32", "n=48"),
        signal_folder(KEY, 48, "bfloat16"),
    }
    assert len(folders) == 5


def test_signals_of_another_precision_are_not_reused(text_world) -> None:
    teacher = text_world.teacher()
    _fill(teacher, text_world.train, precision="bfloat16")
    cached = CachedTeacher(_fill(teacher, text_world.train, precision="float32"), CPU)
    batch = text_world.train.batch(np.arange(12))
    live = LiveTeacher(teacher, "float32")(batch, [])
    torch.testing.assert_close(cached(batch, []).embedding, live.embedding, rtol=2**-10, atol=1e-4)


@pytest.mark.parametrize("name", ["kd", "fitnets", "fitnets_joint", "embedding", "rkd", "crd"])
@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_students_of_the_cache_and_of_the_live_teacher_agree(world, name: str) -> None:
    teacher = world.teacher()
    torch.nn.init.normal_(teacher.head.weight)
    static = world.family == "text"
    folder = _fill(teacher, world.train, layers=[0, 1, 2] if static else [])
    # a low rate: rounding must not grow from step to step, least of all in differences (rkd)
    recipe = {"optimizer": "sgd", "learning_rate": 0.005, "epochs": 3}

    def trained(source: CachedTeacher | None = None) -> torch.Tensor:
        run = world.run(name, teacher=teacher, source=source, **recipe)
        return torch.cat([parameter.detach().ravel() for parameter in run.student.parameters()])

    def cached() -> CachedTeacher:
        live = LiveTeacher(teacher, "float32")
        return CachedTeacher(folder, CPU, live=live, static=static)

    start = torch.cat([p.detach().ravel() for p in world.student().parameters()])
    live = trained()
    gap = float((trained(cached()) - live).norm())
    moved = float((live - start).norm())
    assert moved > 0.04
    assert gap < 0.02 * moved
    if name == "kd":  # and a cache gone wrong would have been seen
        for path in folder.glob("*logits.npy"):
            np.save(path, np.roll(np.load(path), 1, axis=0))
        wrong = float((trained(cached()) - live).norm())
        assert wrong > 10 * gap


def test_another_part_of_the_data_is_never_looked_up(image_world) -> None:
    """The same index in another part is another sample: it goes to the teacher itself."""
    teacher, split = image_world.teacher(), image_world.validation
    folder = _fill(teacher, split, layers=())
    batch = dataclasses.replace(image_world.train.batch(np.arange(5)), part="n=5 unlabelled")
    with pytest.raises(KeyError, match="n=5 unlabelled"):
        CachedTeacher(folder, CPU)(batch, [])
    live = LiveTeacher(teacher, "float32")
    cached = CachedTeacher(folder, CPU, live=live)
    assert torch.equal(cached(batch, []).scores, live(batch, []).scores)
    assert cached.samples == 10

"""`svae distill`: what a student learns, how it is trained, and how it speaks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import write_tone_shards
from tiny_flow import CFG, D, batch, model
from tiny_runs import TTS, assert_equal_runs, killed_copy
from tiny_tts import speech
from torch import Tensor, nn
from typer.testing import CliRunner

from svae import recipe
from svae.checkpoint import Checkpoint, open_checkpoint
from svae.cli import app
from svae.config import TTSTrainConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity, integrate, sample_latents, time_grid
from svae.synthesis.load import load_tts
from svae.synthesis.types import Sampling
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.distill import Distillation, Way, recipe_of
from svae.training.tts.objective import Known
from svae.training.tts.train import train_tts

__all__ = ["model"]

RECIPE = {
    **{name: value for name, value in TTS.items() if name != "dit"},
    "batch_frames": 200,
    "flow": {"mask_ratio": [0.3, 0.9]},
    "distill": {"steps": [2, 1], "teacher_steps": 3, "guidance": 1.5, "prompt_guidance": 0.5},
}


def overrides(teacher: Path) -> list[str]:
    decided = recipe_of(open_checkpoint(teacher, kind="tts"))
    return [f"{place}={json.dumps(value)}" for place, value in decided.items()]


@pytest.fixture(scope="module")
def recipe_file(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(json.dumps(RECIPE | {"data": {"root": str(tone_shards)}}))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def config(recipe_file: Path, toy_tts: Path) -> TTSTrainConfig:
    return recipe.load(TTSTrainConfig, str(recipe_file), overrides(toy_tts))


@pytest.fixture(scope="module")
def student(recipe_file: Path, toy_tts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student") / "run"
    arguments = ["distill", str(toy_tts), str(recipe_file), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return out


# ------------------------------------------------------------------------------------------- what is learned


def distillation(model: DiT, steps: tuple[int, ...] = (4,), **sampling: float) -> Distillation:
    tree = {"data": {"root": "x"}, "trainer": {"steps": 1}, "distill": {}}
    config = recipe.build(TTSTrainConfig, tree | {"flow": RECIPE["flow"]}, where="test")
    asked = Sampling(**{"num_steps": 16, "guidance_scale": 2.0, **sampling}).filled({})
    checkpoint = Checkpoint(Path("teacher"), {"files": {"model.safetensors": "0"}})
    return Distillation(model, checkpoint, config, asked, steps, None)


def way_of(model: DiT, steps: int, **sampling: float) -> Way:
    latents, lengths, tokens = batch()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    ratio = torch.tensor([0.1, 0.5, 0.9])
    return distillation(model, **sampling).follow(noise, ratio, latents, lengths, tokens, steps)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_a_way_goes_where_the_teacher_goes_with_guidance_in_its_own_steps(
    model: DiT, steps: int
) -> None:
    way = way_of(model, steps, prompt_guidance=0.3)
    assert way.times == time_grid(steps) and len(way.points) == steps + 1
    with torch.no_grad():
        velocity = guided_velocity(model, way.condition, way.tokens, way.lengths, 2.0, 0.3)
        own = sorted({*time_grid(16), *time_grid(steps)})
        end = integrate(velocity, way.points[0], own)
    torch.testing.assert_close(way.points[-1], end, atol=1e-4, rtol=1e-4)
    other = way_of(model, steps, prompt_guidance=2.0).points[-1]
    assert (other - end).abs().max() > 0.01  # the scale of the prompt makes a difference


def test_the_prompt_comes_first_and_is_as_long_as_the_mask_ratio_says(model: DiT) -> None:
    latents, lengths, _ = batch()
    way = way_of(model, 2)
    for i, length in enumerate(lengths.tolist()):
        kept = int((way.condition[i].abs().sum(0) > 0).sum())
        assert 0.1 * length <= kept <= 0.7 * length + 1
        assert torch.equal(way.condition[i, :, :kept], latents[i, :, :kept])


class Oracle(nn.Module):
    """Knows the mean velocities of a way, and looks up by place and time, so that a wrong time is a wrong answer."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way
        self.asked: list[tuple[float, float]] = []

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        t: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        *,
        until: Tensor,
    ) -> Tensor:
        found = []
        points, times = self.way.points, self.way.times
        for row, (place, start, end) in enumerate(zip(x, t.tolist(), until.tolist(), strict=True)):
            i = min(range(len(times)), key=lambda j: abs(times[j] - start))
            j = min(range(len(times)), key=lambda j: abs(times[j] - end))
            utterance = row % len(points[0])
            assert torch.equal(place, points[i][utterance])
            assert torch.equal(condition[row], self.way.condition[utterance])
            assert torch.equal(tokens[row], self.way.tokens[utterance])
            assert lengths[row] == self.way.lengths[utterance]
            self.asked.append((i, j))
            found.append((points[j] - points[i])[utterance] / (end - start))
        return torch.stack(found)


def test_the_target_is_the_mean_velocity_over_each_of_the_students_steps(model: DiT) -> None:
    way = way_of(model, 4)
    oracle = Oracle(way)
    error, count = way.error(oracle)
    assert error.item() == pytest.approx(0, abs=1e-4)
    assert sorted(set(oracle.asked)) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert count.item() == 4 * D * int(way.lengths.sum())

    class Off(Oracle):
        def forward(self, *args: Tensor, **more: Tensor) -> Tensor:
            return super().forward(*args, **more) + 0.5

    error, count = way.error(Off(way))  # padding does not count
    assert (error / count).item() == pytest.approx(0.25, rel=1e-3)
    weights = torch.zeros(D, 1)
    weights[0] = D
    weighted, _ = way.error(Off(way), weights)
    assert (weighted / count).item() == pytest.approx(0.25, rel=1e-3)


def test_a_student_starts_as_its_teacher_and_learns_to_arrive_where_the_teacher_does(
    model: DiT,
) -> None:
    student = DiT(replace(CFG, interval=True), 10, D)
    missing = student.load_state_dict(model.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing.missing_keys} == {"interval"}
    latents, lengths, tokens = batch()
    student.eval()
    with torch.no_grad():
        at = torch.tensor([0.3])
        plain = model(latents, latents, at, tokens, lengths)
        same = student(latents, latents, at, tokens, lengths, until=torch.tensor([0.9]))
    torch.testing.assert_close(same, plain)

    learned = distillation(model)
    known = [Known(latents, lengths, tokens, ["a", "b", "c"])]
    before = learned.row(student, known)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        error, count = learned.error(student, latents, lengths, tokens)
        optimizer.zero_grad()
        (error / count).backward()
        optimizer.step()
    after = learned.row(student, known)
    assert after["loss/end"] < 0.5 * before["loss/end"]
    assert after["loss/flow"] < 0.5 * before["loss/flow"]
    assert learned.row(student, known) == after  # nothing in it is random


def test_a_student_is_asked_where_its_step_ends_and_goes_there_in_one_pass(model: DiT) -> None:
    student = DiT(replace(CFG, interval=True), 10, D).eval()
    for parameter in student.parameters():
        nn.init.normal_(parameter, std=0.15)
    latents, lengths, tokens = batch()
    with pytest.raises(ValueError, match="until"):
        student(latents, latents, torch.zeros(3), tokens, lengths)
    with pytest.raises(ValueError, match="until"):
        model(latents, latents, torch.zeros(3), tokens, lengths, until=torch.ones(3))
    calls: list[tuple[int, float, float]] = []

    def count(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        calls.append((len(args[0]), args[2].item(), kwargs["until"].item()))

    student.register_forward_pre_hook(count, with_kwargs=True)
    prompt_lengths = torch.tensor([9, 12, 4])
    sample_latents(student, latents[..., :12], prompt_lengths, tokens, lengths, num_steps=4)
    times = torch.tensor(time_grid(4)).tolist()
    assert calls == [(3, start, end) for start, end in zip(times[:-1], times[1:], strict=True)]


# ------------------------------------------------------------------------------------------- the run


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_students_checkpoint_says_what_is_inside_and_synthesis_uses_it(
    student: Path, toy_tts: Path
) -> None:
    found = open_checkpoint(student, kind="tts").config
    teacher = open_checkpoint(toy_tts, kind="tts")
    assert found["student"] == {
        "steps": [2, 1],
        "guidance": 1.5,
        "prompt_guidance": 0.5,
        "teacher_hash": teacher.hash,
        "teacher_steps": 3,
    }
    assert found["model"] == teacher.config["model"] | {"interval": True, "dropout": 0.0}
    for name in ("vae_hash", "vocabulary", "max_seconds", "num_steps"):
        assert found[name] == (teacher.config | {"num_steps": 2})[name]
    tts = load_tts(student)
    settings = tts.resolve(Sampling())
    assert (settings.num_steps, settings.guidance_scale, settings.prompt_guidance) == (2, 0.0, 0.0)
    assert settings.words(tts.identity) == "2 steps, guidance inside (1.5, prompt 0.5)"
    assert tts.resolve(Sampling(num_steps=1, guidance_scale=0.0)).num_steps == 1
    result = tts.generate("two tone", speech(0.5), "one tone", duration_seconds=0.5)
    assert result.sampling.num_steps == 2 and bool(result.waveform.isfinite().all())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"guidance_scale": 2.0}, r"guidance is inside this student \(1.5, prompt 0.5\)"),
        ({"prompt_guidance": 0.3}, "leave them out"),
        ({"num_steps": 16}, "--steps 16: this student takes 2 or 1 steps"),
        ({"solver": "midpoint"}, "--solver"),
        ({"sway": 0.0}, "--sway"),
    ],
)
def test_what_a_student_has_not_learned_is_refused(
    student: Path, asked: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_tts(student).resolve(Sampling(**asked))


def test_a_student_is_validated_and_its_rows_can_be_compared(student: Path) -> None:
    rows = [row for row in rows_of(student) if row["split"] == "validation"]
    assert [row["step"] for row in rows] == [0, 3, 5]
    assert all(row["loss/flow"] > 0 and row["loss/end"] > 0 for row in rows)
    assert rows[-1]["loss/end"] < rows[0]["loss/end"]


def test_a_resumed_student_equals_an_uninterrupted_one_and_its_teacher_may_have_moved(
    student: Path, config: TTSTrainConfig, toy_tts: Path, tmp_path: Path
) -> None:
    run = killed_copy(student, 2, tmp_path / "run")
    elsewhere = shutil.copytree(toy_tts, tmp_path / "teacher")
    assert config.distill is not None
    moved = replace(config, distill=replace(config.distill, teacher=str(elsewhere)))
    train_tts(TrainOptions(moved, run, device="cpu"))
    assert_equal_runs(student, run, "tts")


def test_a_run_goes_on_with_its_own_teacher_and_steps_only(
    student: Path, config: TTSTrainConfig, tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    from tiny_runs import tts_config, vae_of

    trainer = TTS["trainer"] | {"steps": 1, "seed": 7}
    other = tts_config(tone_shards, vae_of(toy_tts), trainer=trainer)
    other_run = train_tts(TrainOptions(other, tmp_path / "other", device="cpu"))
    run = killed_copy(student, 2, tmp_path / "run")
    assert config.distill is not None
    for start in (train_tts, dry_run):
        wrong = replace(config, distill=replace(config.distill, teacher=str(other_run)))
        with pytest.raises(CheckpointError, match="the run has learned from"):
            start(TrainOptions(wrong, run, device="cpu"))
        wrong = replace(config, distill=replace(config.distill, steps=(4,)))
        with pytest.raises(ConfigError, match=r"distill\.steps.*other steps than these"):
            start(TrainOptions(wrong, run, device="cpu"))


def test_a_dry_run_names_the_teacher_and_how_it_samples(
    config: TTSTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(TrainOptions(config, tmp_path / "run", device="cpu"))
    said = " ".join(capsys.readouterr().out.split())
    assert "3 steps, guidance 1.5 (prompt 0.5)" in said and not (tmp_path / "run").exists()


def test_teachers_that_cannot_teach_are_refused(
    student: Path, config: TTSTrainConfig, tmp_path: Path
) -> None:
    assert config.distill is not None

    def refused(**changes: object) -> TrainOptions[TTSTrainConfig]:
        return TrainOptions(replace(config, **changes), tmp_path / "run", device="cpu")

    unread = write_tone_shards(tmp_path / "unread", mark="ö")
    for start in (train_tts, dry_run):
        with pytest.raises(CheckpointError, match="is a student"):
            start(refused(distill=replace(config.distill, teacher=str(student))))
        with pytest.raises(ConfigError, match="svae distill RUN"):
            start(refused(distill=replace(config.distill, teacher=None)))
        with pytest.raises(CheckpointError, match="other sizes"):
            start(refused(dit=replace(config.dit, depth=2)))
        with pytest.raises(DataError, match="the teacher cannot read 'ö'"):
            start(refused(data=replace(config.data, root=str(unread))))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("distill.steps=[]", "needs different numbers of steps"),
        ("distill.steps=[4,4]", "needs different numbers of steps"),
        ("distill.steps=[9]", "less than or equal to 8"),
        ("distill.guidance=-1", "distill.guidance: must not be negative"),
        ("distill.stepz=[4]", "distill.stepz: unknown key; did you mean `steps`"),
        ("init=runs/x", "starts from its teacher"),
        ("dit.interval=false", "a student needs it"),
        ("distill=null", "is for students"),
    ],
)
def test_recipes_that_make_no_student_are_refused(
    recipe_file: Path, toy_tts: Path, field: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe.load(TTSTrainConfig, str(recipe_file), [*overrides(toy_tts), field])


def test_a_teacher_decides_structure_tokens_and_length() -> None:
    fields = recipe_of(open_checkpoint("embedded", kind="tts"))
    assert fields["tokens"] == "frame-phonemes" and fields["representation"] == "latents"
    assert fields["max_seconds"] == 16.5 and fields["dit.dim"] == 256

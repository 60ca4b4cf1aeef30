"""`svae distill`: what a student learns, how it is trained, and how it speaks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_flow import D, batch, model
from tiny_runs import TTS as SETTINGS
from tiny_runs import assert_equal_runs, killed_copy, tts_config, vae_of
from tiny_tts import speech
from tone_shards import write_tone_shards
from torch import Tensor, nn
from typer.testing import CliRunner

from svae import recipe
from svae.checkpoint import Checkpoint, open_checkpoint
from svae.cli import app
from svae.config import LoRAConfig, TTSTrainConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.adapter import melted
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity
from svae.models.tts.solver import integrate, time_grid
from svae.runtime.files import file_sha256
from svae.synthesis import model as model_module
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.load import load_tts
from svae.synthesis.model import TTS
from svae.synthesis.types import Sampling
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.distill import Distillation, Way, recipe_of
from svae.training.tts.lora import copies, inject
from svae.training.tts.objective import Known
from svae.training.tts.train import train_tts

__all__ = ["model"]

RECIPE = {
    **{name: value for name, value in SETTINGS.items() if name != "dit"},
    "batch_frames": 200,
    "flow": {"mask_ratio": [0.3, 0.9]},
    "distill": {
        "steps": 2,
        "teacher_steps": 3,
        "guidance": 1.5,
        "prompt_guidance": 0.5,
        "temperature": 0.75,
        "lora": {"rank": 2},
    },
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


def distillation(model: DiT, steps: int = 4, **sampling: float) -> Distillation:
    tree = {"data": {"root": "x"}, "trainer": {"steps": 1}, "distill": {}}
    config = recipe.build(TTSTrainConfig, tree | {"flow": RECIPE["flow"]}, where="test")
    asked = Sampling(**{"num_steps": 16, "guidance_scale": 2.0, **sampling}).filled({})
    checkpoint = Checkpoint(Path("teacher"), {"files": {"model.safetensors": "0"}})
    return Distillation(model, checkpoint, config, asked, steps, None)


def way_of(model: DiT, steps: int, **sampling: float) -> Way:
    latents, lengths, tokens = batch()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    ratio = torch.tensor([0.1, 0.5, 0.9])
    return distillation(model, steps, **sampling).follow(noise, ratio, latents, lengths, tokens)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_a_way_goes_where_the_teacher_goes_with_guidance_in_its_own_steps(
    model: DiT, steps: int
) -> None:
    way = way_of(model, steps, prompt_guidance=0.3)
    assert way.times == time_grid(steps) and len(way.places) == steps + 1
    with torch.no_grad():
        velocity = guided_velocity(model, way.condition, way.tokens, way.lengths, 2.0, 0.3)
        own = sorted({*time_grid(16), *time_grid(steps)})
        end = integrate(velocity, way.places[0], own)
    torch.testing.assert_close(way.places[-1], end, atol=1e-4, rtol=1e-4)
    other = way_of(model, steps, prompt_guidance=2.0).places[-1]
    assert (other - end).abs().max() > 0.01  # the scale of the prompt makes a difference


def test_a_way_begins_at_the_teachers_temperature(model: DiT) -> None:
    warm, cool = way_of(model, 2), way_of(model, 2, temperature=0.5)
    torch.testing.assert_close(cool.places[0], 0.5 * warm.places[0])
    assert not torch.allclose(cool.places[-1], warm.places[-1], atol=1e-3)


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
        self.asked: list[int] = []

    def forward(
        self, x: Tensor, condition: Tensor, t: Tensor, tokens: Tensor, lengths: Tensor
    ) -> Tensor:
        found = []
        places, times = self.way.places, self.way.times
        for row, (place, time) in enumerate(zip(x, t.tolist(), strict=True)):
            i = min(range(len(times)), key=lambda j: abs(times[j] - time))
            utterance = row % len(places[0])
            assert times[i] == pytest.approx(time, abs=1e-6)
            assert torch.equal(place, places[i][utterance])
            assert torch.equal(condition[row], self.way.condition[utterance])
            assert torch.equal(tokens[row], self.way.tokens[utterance])
            assert lengths[row] == self.way.lengths[utterance]
            self.asked.append(i)
            found.append((places[i + 1] - places[i])[utterance] / (times[i + 1] - times[i]))
        return torch.stack(found)


def test_the_target_is_the_mean_velocity_over_each_of_the_students_steps(model: DiT) -> None:
    way = way_of(model, 4)
    oracle = Oracle(way)
    error, count = way.error(oracle)
    assert error.item() == pytest.approx(0, abs=1e-4)
    assert sorted(set(oracle.asked)) == [0, 1, 2, 3]
    assert count.item() == 4 * D * int(way.lengths.sum())

    class Off(Oracle):
        def forward(self, *args: Tensor) -> Tensor:
            return super().forward(*args) + 0.5

    error, count = way.error(Off(way))  # padding does not count
    assert (error / count).item() == pytest.approx(0.25, rel=1e-3)
    weights = torch.zeros(D, 1)
    weights[0] = D
    weighted, _ = way.error(Off(way), weights)
    assert (weighted / count).item() == pytest.approx(0.25, rel=1e-3)


def test_a_student_starts_as_its_teacher_and_learns_to_arrive_where_the_teacher_does(
    model: DiT,
) -> None:
    student, base = copies(model)
    speaking, _ = copies(model)
    adapter = inject(student, LoRAConfig(rank=8))
    latents, lengths, tokens = batch()
    at = torch.tensor([0.3])
    with torch.no_grad():
        plain = model(latents, latents, at, tokens, lengths)
        torch.testing.assert_close(student(latents, latents, at, tokens, lengths), plain)

    learned = distillation(model)
    known = [Known(latents, lengths, tokens, ["a", "b", "c"])]

    def row() -> dict[str, float]:
        speaking.load_state_dict(melted(base, adapter.state_dict(), 1.0, Path("x")))
        return learned.row(speaking, known)

    before = row()
    optimizer = torch.optim.Adam(adapter.parameters(), lr=2e-2)
    torch.manual_seed(0)
    for _ in range(80):
        error, count = learned.draw(latents, lengths, tokens).error(student)
        optimizer.zero_grad()
        (error / count).backward()
        optimizer.step()
    after = row()
    assert after["loss/end"] < 0.5 * before["loss/end"]
    assert after["loss/flow"] < 0.5 * before["loss/flow"]
    assert row() == after  # nothing in it is random


# ------------------------------------------------------------------------------------------- the run


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_students_checkpoint_has_its_teacher_and_says_what_is_inside(
    student: Path, toy_tts: Path
) -> None:
    found = open_checkpoint(student, kind="tts")
    teacher = open_checkpoint(toy_tts, kind="tts")
    assert found.config["student"] == {
        "steps": 2,
        "guidance": 1.5,
        "prompt_guidance": 0.5,
        "teacher_hash": teacher.hash,
        "teacher_steps": 3,
        "scale": 1.0,
    }
    assert found.hash == teacher.hash  # its weights, bit for bit
    assert found.config["model"] == teacher.config["model"] | {"dropout": 0.0}
    own = {"num_steps": 2, "temperature": 0.75}
    for name in ("vae_hash", "vocabulary", "max_seconds", "num_steps", "temperature"):
        assert found.config[name] == (teacher.config | own)[name]
    small = (found.folder / STUDENT_FILE).stat().st_size
    assert small < 0.5 * (found.folder / "model.safetensors").stat().st_size


def test_a_student_speaks_in_its_own_steps_of_one_pass(student: Path) -> None:
    tts = load_tts(student)
    settings = tts.resolve(Sampling())
    assert (settings.num_steps, settings.guidance_scale, settings.prompt_guidance) == (2, 0.0, 0.0)
    said = "2 steps, guidance inside (1.5, prompt 0.5), temperature 0.75"
    assert settings.words(tts.identity) == said
    assert tts.resolve(settings) == settings
    passes: list[int] = []
    tts.model.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    result = tts.generate("two tone", speech(0.5), "one tone", duration_seconds=0.5)
    assert passes == [1, 1]
    assert result.sampling.num_steps == 2 and bool(result.waveform.isfinite().all())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"guidance_scale": 1.0}, "3 steps, guidance 1 (prompt 0.5)"),
        ({"prompt_guidance": 0.25}, "3 steps, guidance 1.5 (prompt 0.25)"),
        ({"num_steps": 5}, "5 steps, guidance 1.5 (prompt 0.5)"),
        ({"num_steps": 5, "guidance_scale": 0.0}, "5 steps, guidance 0 (prompt 0)"),
        ({"sway": 0.0}, "3 steps, guidance 1.5 (prompt 0.5)"),
        ({"solver": "midpoint"}, "3 steps, guidance 1.5 (prompt 0.5)"),
    ],
)
def test_where_a_student_is_asked_for_what_it_has_not_learned_its_teacher_speaks(
    student: Path, toy_tts: Path, asked: dict[str, object], said: str
) -> None:
    tts = load_tts(student)
    settings = tts.resolve(Sampling(**asked))
    assert settings.words(tts.identity) == f"{said}, temperature 0.75"
    assert tts.resolve(settings) == settings
    own = spoken(tts)
    of_teacher = {
        "num_steps": settings.num_steps,
        "guidance_scale": settings.guidance_scale,
        "prompt_guidance": settings.prompt_guidance,
        "temperature": settings.temperature,
    }
    assert torch.equal(spoken(tts, **asked), spoken(load_tts(toy_tts), **asked | of_teacher))
    assert torch.equal(spoken(tts), own)  # the teacher has not changed the student


def spoken(model: TTS, **asked: object) -> Tensor:
    more = {"duration_seconds": 0.5, **asked}
    return model.generate("two tone", speech(0.5), "one tone", **more).waveform


def test_a_student_does_not_speak_as_its_teacher_without_guidance(
    student: Path, toy_tts: Path
) -> None:
    teacher = load_tts(toy_tts)
    unguided = spoken(teacher, guidance_scale=0.0, num_steps=2)
    assert not torch.equal(spoken(load_tts(student)), unguided)


def test_the_identity_of_a_student_is_not_its_teachers(student: Path, toy_tts: Path) -> None:
    assert load_tts(student).identity["hash"] != load_tts(toy_tts).identity["hash"]
    assert load_tts(student).identity["student"]["guidance"] == 1.5


@pytest.mark.parametrize("damage", ["missing", "bytes", "scale", "other"])
def test_a_damaged_student_is_named(student: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(open_checkpoint(student, kind="tts").folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    path = folder / STUDENT_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "bytes":
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    elif damage == "scale":
        del config["student"]["scale"]
    else:
        save_file({"output.lora_A.weight": torch.zeros(2, 3)}, path)
        config["files"][STUDENT_FILE] = file_sha256(path)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="missing|damaged|does not fit") as error:
        load_tts(folder)
    assert str(folder) in str(error.value)


def test_weights_can_be_learned_on_and_distilled_again_from_a_student(
    student: Path, config: TTSTrainConfig, toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    assert config.distill is not None
    again = replace(
        config,
        distill=replace(config.distill, teacher=str(student), guidance=None, prompt_guidance=None),
    )
    run = train_tts(TrainOptions(again, tmp_path / "again", device="cpu"))
    found, first = open_checkpoint(run, kind="tts"), open_checkpoint(student, kind="tts")
    assert found.hash == first.hash
    assert found.config["student"] == first.config["student"]
    assert found.config["files"][STUDENT_FILE] == first.config["files"][STUDENT_FILE]
    settings = {"trainer": SETTINGS["trainer"] | {"steps": 1}, "init": str(student)}
    plain = train_tts(
        TrainOptions(
            tts_config(tone_shards, vae_of(toy_tts), **settings), tmp_path / "plain", device="cpu"
        )
    )
    assert "student" not in open_checkpoint(plain, kind="tts").config


def test_a_student_can_start_as_another(
    student: Path, config: TTSTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrices = open_checkpoint(student, kind="tts").state(STUDENT_FILE)
    assert any(bool(value.any()) for name, value in matrices.items() if "lora_B" in name)
    trainer = replace(config.trainer, steps=1)
    still = replace(config.optimizer, learning_rate=0.0, warmup_steps=0)
    begun = replace(config, init=str(student), trainer=trainer, optimizer=still)
    dry_run(TrainOptions(begun, tmp_path / "run", device="cpu"))
    run = train_tts(TrainOptions(begun, tmp_path / "run", device="cpu"))
    assert "Starts as the student" in capsys.readouterr().out
    found = open_checkpoint(run, kind="tts").state(STUDENT_FILE)
    assert all(torch.equal(found[name], value) for name, value in matrices.items())


def test_what_no_student_can_start_as_is_refused(
    student: Path, config: TTSTrainConfig, toy_tts: Path, tmp_path: Path
) -> None:
    assert config.distill is not None
    lora = config.distill.lora
    others = {
        "no student but a whole model": replace(config, init=str(toy_tts)),
        "its matrices have the scale 1; expected 2": replace(
            config,
            init=str(student),
            distill=replace(config.distill, lora=replace(lora, scale=2.0)),
        ),
        "shape": replace(
            config, init=str(student), distill=replace(config.distill, lora=replace(lora, rank=3))
        ),
    }
    for message, wrong in others.items():
        for start in (train_tts, dry_run):
            with pytest.raises(CheckpointError, match=message):
                start(TrainOptions(wrong, tmp_path / "run", device="cpu"))


def test_a_student_is_validated_and_its_rows_can_be_compared(student: Path) -> None:
    rows = [row for row in rows_of(student) if row["split"] == "validation"]
    assert [row["step"] for row in rows] == [0, 3, 5]
    assert all(row["loss/flow"] > 0 and row["loss/end"] > 0 for row in rows)
    assert rows[-1]["loss/end"] < rows[0]["loss/end"]


def test_a_student_is_heard_in_its_own_steps_while_it_is_trained(
    config: TTSTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float]] = []
    sample = model_module.sample_latents

    def sampled(*arguments: Tensor, **more: float) -> Tensor:
        asked.append((more["num_steps"], more["guidance_scale"] + more["prompt_guidance"]))
        return sample(*arguments, **more)

    monkeypatch.setattr(model_module, "sample_latents", sampled)
    trainer = replace(config.trainer, steps=1, synthesize_every=1, synthesize_utterances=1)
    train_tts(TrainOptions(replace(config, trainer=trainer), tmp_path / "run", device="cpu"))
    assert asked == [(2, 0.0)]


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
    trainer = SETTINGS["trainer"] | {"steps": 1, "seed": 7}
    other = tts_config(tone_shards, vae_of(toy_tts), trainer=trainer)
    other_run = train_tts(TrainOptions(other, tmp_path / "other", device="cpu"))
    run = killed_copy(student, 2, tmp_path / "run")
    assert config.distill is not None
    for start in (train_tts, dry_run):
        wrong = replace(config, distill=replace(config.distill, teacher=str(other_run)))
        with pytest.raises(CheckpointError, match="the run has learned from"):
            start(TrainOptions(wrong, run, device="cpu"))
        wrong = replace(config, distill=replace(config.distill, steps=4))
        with pytest.raises(ConfigError, match=r"distill\.steps.*other steps than these"):
            start(TrainOptions(wrong, run, device="cpu"))


def test_a_dry_run_names_the_teacher_and_how_it_samples(
    config: TTSTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(TrainOptions(config, tmp_path / "run", device="cpu"))
    said = " ".join(capsys.readouterr().out.split())
    assert "3 steps, guidance 1.5 (prompt 0.5)" in said and not (tmp_path / "run").exists()


def test_teachers_that_cannot_teach_are_refused(config: TTSTrainConfig, tmp_path: Path) -> None:
    assert config.distill is not None

    def refused(**changes: object) -> TrainOptions[TTSTrainConfig]:
        return TrainOptions(replace(config, **changes), tmp_path / "run", device="cpu")

    unread = write_tone_shards(tmp_path / "unread", mark="ö")
    for start in (train_tts, dry_run):
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
        ("distill.steps=0", "greater than 0"),
        ("distill.steps=9", "less than or equal to 8"),
        ("distill.guidance=-1", "distill.guidance: must not be negative"),
        ("distill.stepz=[4]", "distill.stepz: unknown key; did you mean `steps`"),
        ("init=runs/x", "starts from its teacher"),
        ("distill.lora.rank=0", "greater than 0"),
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

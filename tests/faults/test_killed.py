"""SIGKILL and SIGTERM at fifty random moments: nothing finished is lost, results are the same."""

import pytest
import yaml
from harness import (
    Command,
    digests,
    figures,
    hurt_often,
    moments,
    nothing_is_half,
    points,
    same_weights,
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.mark.parametrize("seed", range(2))
def test_a_study(small_study, tmp_path, seed):
    small_study["training"]["steps"] = 40
    small_study["training"]["checkpoint_every"] = 10
    small_study["recovery"]["steps"] = 10
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(small_study))
    undisturbed = Command(["run", "s.yaml", "--out", "whole"], tmp_path)
    undisturbed.whole()
    command = Command(["run", "s.yaml", "--out", "hurt"], tmp_path)
    done = {}
    for after, how in moments(10, undisturbed.seconds, seed):
        told = command.hurt(after, how)
        assert "Traceback" not in told
        if not (tmp_path / "hurt").exists():
            continue  # before anything was written
        nothing_is_half(tmp_path / "hurt")
        now = points(tmp_path / "hurt")
        assert done.items() <= now.items()  # a finished point is never touched again
        done = now
    command.whole()
    assert len(figures(tmp_path / "whole")) == 6
    assert figures(tmp_path / "hurt") == figures(tmp_path / "whole")


def test_prepare(text_folder, tmp_path):
    def command(out):
        return Command(["prepare", "--source", str(text_folder), "--train_tokenizer", "300",
                        "--val_fraction", "0.2", "-o", out], tmp_path)  # fmt: skip

    undisturbed, hurt = command("whole"), command("hurt")
    undisturbed.whole()
    for after, how in moments(10, undisturbed.seconds, 7):
        hurt.hurt(after, how)
        if (tmp_path / "hurt" / "manifest.json").exists():  # it appears last
            assert {"train.bin", "val.bin"} <= {path.name for path in (tmp_path / "hurt").iterdir()}
    hurt.whole()
    names = [path.name for path in (tmp_path / "whole").iterdir() if path.is_file()]
    assert {"train.bin", "val.bin", "manifest.json"} <= set(names)
    assert digests(tmp_path / "whole", names) == digests(tmp_path / "hurt", names)


def test_train(tokens, tmp_path):
    def command(out):
        return Command(
            ["train", "--data_dir", str(tokens.path), "--out_dir", out, "--model", "gpt-neox-nano",
             "--target_tokens", "40960", "--block_size", "32", "--batch_size", "8",
             "--grad_accum", "1", "--max_lr", "4e-3", "--min_lr", "4e-4", "--warmup_steps", "5",
             "--checkpoint_minutes", "0.02", "--log_interval", "5", "--device", "cpu"],
            tmp_path,
        )  # fmt: skip

    undisturbed, hurt = command("whole"), command("hurt")
    undisturbed.whole()
    hurt_often(hurt, tmp_path / "hurt", undisturbed.seconds, 12, seed=11)
    hurt.whole()
    left, right = (tmp_path / run / "final" / "model.safetensors" for run in ("whole", "hurt"))
    assert same_weights(left, right)


def test_prune_and_recover(tokens, tmp_path):
    from resprout.models.sizes import build, configuration

    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    model.save_pretrained(tmp_path / "model")
    tokens.transformers_tokenizer().save_pretrained(tmp_path / "model")

    def command(out):
        return Command(
            ["prune", "model", "--method", "magnitude", "--amount", "0.5", "--tokens",
             str(tokens.path), "--recover-steps", "60", "-o", out],
            tmp_path,
        )  # fmt: skip

    undisturbed, hurt = command("whole"), command("hurt")
    undisturbed.whole()
    hurt_often(hurt, tmp_path / "hurt", undisturbed.seconds, 8, seed=13)
    if not (tmp_path / "hurt" / "prune.json").exists():
        hurt.whole()
    names = ["model.safetensors", "cut.safetensors"]
    names = [name for name in names if (tmp_path / "whole" / name).exists()]
    assert names
    assert digests(tmp_path / "whole", names) == digests(tmp_path / "hurt", names)

"""Lightning's private names: where a test fails here, a new Lightning has moved what `mlplab.models.loops` knows."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from mlplab.models.loops import begin_epoch_anew, count_updates, loop_state

PASSES, UPDATES = 4, 3  # in an epoch, in a pass


class Counting(pl.LightningModule):
    """Makes no updates but counts them; begins from `loop_state(*start)` where it loads a checkpoint."""

    def __init__(self, *start):
        super().__init__()
        self.automatic_optimization = False
        self.layer, self.start, self.begun, self.seen = torch.nn.Linear(1, 1), start, [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())

    def on_load_checkpoint(self, checkpoint):
        checkpoint["loops"] = {"fit_loop": loop_state(*self.start)}

    def on_train_start(self):
        if self.start and self.start[2] == 0:
            begin_epoch_anew(self.trainer)

    def on_train_epoch_start(self):
        self.begun.append(self.trainer.current_epoch)

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch_idx, self.trainer.global_step))
        count_updates(self.trainer, UPDATES)


def fit(module, folder, checkpoint=None):
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=3 * PASSES * UPDATES, logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.zeros(PASSES)), ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "any.ckpt")
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("passed", [0, PASSES, PASSES + 1, 2 * PASSES, 3 * PASSES - 1])
def test_a_run_continues_after_any_number_of_passes(tmp_path, passed):
    whole = fit(Counting(), tmp_path)
    assert whole.seen == [(number // PASSES, number % PASSES, number * UPDATES) for number in range(3 * PASSES)]
    epoch, rest = divmod(passed, PASSES)
    continued = fit(Counting(passed * UPDATES, epoch, rest), tmp_path, tmp_path / "any.ckpt")
    assert continued.seen == whole.seen[passed:]
    assert continued.begun == whole.begun[epoch + bool(rest) :]


def test_an_epoch_begun_anew_is_no_restart():
    trainer = pl.Trainer(logger=False, max_steps=1)
    loop = trainer.fit_loop
    loop.restarting = True
    assert vars(loop)["_restarting"]  # the name that Lightning reads: to set another would go unnoticed
    assert vars(loop.epoch_loop)["_restarting"]
    begin_epoch_anew(trainer)
    assert not loop.restarting
    assert not loop.epoch_loop.restarting

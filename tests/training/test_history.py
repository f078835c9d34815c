"""A history tells of the model that was kept."""

import pytest

from edgecr.training.history import Epoch, History


@pytest.mark.parametrize(("keep", "score"), [("last", 0.6), ("best", 0.9)])
def test_the_score_is_that_of_the_epoch_that_was_kept(keep, score):
    history = History(precision="fp32", augment="none", device="cpu", steps_per_epoch=1)
    assert history.score(keep) is None
    for number, each in enumerate((0.4, 0.9, 0.6)):
        history.epochs.append(Epoch(epoch=number, loss=1.0, accuracy=0.5, lr=0.1, seconds=1.0))
        history.validated(each)
    assert history.score(keep) == score

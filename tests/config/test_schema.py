import pytest

from dsanet.config.schema import RuntimeCfg, TrainCfg


@pytest.mark.parametrize(
    ('section', 'options', 'text'),
    [
        (TrainCfg, {'max_epochs': 0}, 'max_epochs=0 must be at least 1'),
        (TrainCfg, {'accumulate': 0}, 'accumulate=0 must be at least 1'),
        (TrainCfg, {'patience': 0}, 'patience=0 must be at least 1'),
        (TrainCfg, {'base_batch_size': -8}, 'base_batch_size=-8 must be at least 1'),
        (TrainCfg, {'max_nonfinite': -1}, 'max_nonfinite=-1 must be at least 0'),
        (TrainCfg, {'scale_lr': True}, 'scale_lr=True needs base_batch_size'),
        (RuntimeCfg, {'checkpoint_interval': 0}, 'checkpoint_interval=0 must be at least 1'),
        (RuntimeCfg, {'on_save_error': 'ignore'}, "on_save_error='ignore' must be 'stop' or 'continue'"),
        (RuntimeCfg, {'timeout_minutes': 0}, 'timeout_minutes=0 must be more than 0 and at most 1440'),
    ],
)
def test_numbers_and_words_of_a_run_are_checked(section: type, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        section(**({'max_epochs': 1} | options if section is TrainCfg else options))

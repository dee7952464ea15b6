import pytest

from dsanet.config.schema import ParametersCfg, RuntimeCfg, TrainCfg


@pytest.mark.parametrize(
    ('section', 'options', 'text'),
    [
        (TrainCfg, {'max_epochs': 0}, 'max_epochs=0'),
        (TrainCfg, {'max_epochs': 10**6 + 1}, 'max_epochs=1000001.* 1000000'),
        (TrainCfg, {'accumulate': 0}, 'accumulate=0'),
        (TrainCfg, {'patience': 0}, 'patience=0'),
        (TrainCfg, {'base_batch_size': -8}, 'base_batch_size=-8'),
        (TrainCfg, {'max_nonfinite': -1}, 'max_nonfinite=-1'),
        (TrainCfg, {'scale_lr': True}, 'scale_lr=True.*base_batch_size'),
        (TrainCfg, {'ema_decay': 1.0}, 'ema_decay=1.0'),
        (ParametersCfg, {'lr_multipliers': {'cls_head': '5'}}, r"lr_multipliers\['cls_head'\]='5'"),
        (ParametersCfg, {'lr_multipliers': {'a..b': 5}}, r"lr_multipliers.*'a\.\.b'"),
        (ParametersCfg, {'lr_multipliers': {'dsa': 5, '.dsa.': 2}}, "lr_multipliers.*'dsa'"),
        (ParametersCfg, {'bias_lr_multiplier': -1}, 'bias_lr_multiplier=-1'),
        (RuntimeCfg, {'amp': 'fp8'}, "amp='fp8' .*bf16.*fp16"),
        (RuntimeCfg, {'seed': -1}, 'seed=-1'),
        (RuntimeCfg, {'checkpoint_interval': 0}, 'checkpoint_interval=0'),
        (RuntimeCfg, {'timeout_minutes': 0}, 'timeout_minutes=0.*1440'),
    ],
)
def test_values_out_of_range_raise(section: type, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        section(**({'max_epochs': 1} | options if section is TrainCfg else options))

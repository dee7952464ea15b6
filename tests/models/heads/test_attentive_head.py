import math

import pytest
import torch
from torch import Tensor

from dsanet.config.registry import MODELS, build
from dsanet.models.heads.attentive_head import AttentiveHead
from tests.engine.conftest import make_config


def normalize(x: Tensor) -> Tensor:
    """LayerNorm with its initial weights."""
    return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()


@torch.no_grad()
def test_scores_equal_a_loop_over_snippets() -> None:
    torch.manual_seed(0)
    head = AttentiveHead(num_classes=3, in_channels=4, num_heads=2, init_std=1.0).eval()
    head.attention.in_proj_bias.normal_()
    features = torch.randn(6, 4, 2, 3, 5)
    query_w, key_w, value_w = head.attention.in_proj_weight.split(4)
    query_b, key_b, value_b = head.attention.in_proj_bias.split(4)
    query = head.query[0, 0]
    expected = []
    for view in features.split(3):  # three snippets each
        snippets = [normalize(torch.stack([snippet[c].mean() for c in range(4)])) for snippet in view]
        q = query_w @ query + query_b
        keys, values = ([w @ x + b for x in snippets] for w, b in ((key_w, key_b), (value_w, value_b)))
        found = []
        for one in (slice(0, 2), slice(2, 4)):  # heads
            logits = torch.stack([(q[one] * key[one]).sum() / math.sqrt(2) for key in keys])
            weights = logits.exp() / logits.exp().sum()
            found.append(sum(weight * value[one] for weight, value in zip(weights, values, strict=True)))
        y = query + head.attention.out_proj(torch.cat(found))
        hidden = head.mlp[1](normalize(y))
        y = y + head.mlp[3](hidden * 0.5 * (1 + (hidden / math.sqrt(2)).erf()))
        expected.append(head.fc_cls.weight @ normalize(y) + head.fc_cls.bias)
    torch.testing.assert_close(head(features, num_snippets=3), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_it_trains_in_a_recognizer(tmp_path: object) -> None:
    head = {'type': 'AttentiveHead', 'num_classes': 8, 'in_channels': 32, 'num_heads': 4}
    model = build(make_config(tmp_path, model={'cls_head': head})['model'], MODELS)  # type: ignore[arg-type]
    inputs = torch.randint(256, (2, 1, 2, 3, 2, 16, 16), dtype=torch.uint8)
    model(inputs, torch.tensor([1, 2]))['loss'].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.cls_head.parameters())


@pytest.mark.parametrize('num_heads', [0, 3, 8])
def test_heads_must_divide_the_channels(num_heads: int) -> None:
    with pytest.raises(ValueError, match=f'num_heads={num_heads}'):
        AttentiveHead(num_classes=2, in_channels=4, num_heads=num_heads)


class OfViews(torch.nn.Module):
    def __init__(self, head: AttentiveHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, views: Tensor) -> Tensor:
        return self.head(views.flatten(0, 1), num_snippets=3)


def test_exported_head_takes_any_number_of_views() -> None:
    module = OfViews(AttentiveHead(num_classes=3, in_channels=4, num_heads=2)).eval()
    views = torch.randn(2, 3, 4, 1, 2, 2)
    program = torch.export.export(module, (views,), dynamic_shapes={'views': {0: torch.export.Dim('N')}})
    for number in (2, 5):
        views = torch.randn(number, 3, 4, 1, 2, 2)
        torch.testing.assert_close(program.module()(views), module(views))

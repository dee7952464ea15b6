from itertools import product

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.heads.trn_head import TRNHead


def make_head(num_snippets: int = 4, **options: object) -> TRNHead:
    """A head in eval mode with larger weights than the initial ones."""
    head = TRNHead(5, 6, num_snippets, **{'hidden_channels': 7, 'init_std': 1.0, **options})
    nn.init.normal_(head.reduce.bias)
    return head.eval()


def slow_trn(head: TRNHead, features: Tensor, scales: list[int]) -> Tensor:
    """The paper's formula: for each scale the mean over tuples in ascending order, summed over scales."""
    num_snippets = head.num_snippets
    found = []
    for view in features.split(num_snippets):
        reduced = [head.reduce.weight @ snippet.mean(dim=(1, 2, 3)) + head.reduce.bias for snippet in view]
        total = torch.zeros(head.num_classes)
        for scale, relation in zip(scales, head.relations, strict=True):
            _, hidden, _, classify = relation
            answers = []
            for order in product(range(num_snippets), repeat=scale):
                if all(a < b for a, b in zip(order, order[1:], strict=False)):
                    joined = torch.cat([reduced[u] for u in order]).clamp(min=0)
                    inside = (hidden.weight @ joined + hidden.bias).clamp(min=0)
                    answers.append(classify.weight @ inside + classify.bias)
            total = total + sum(answers) / len(answers)
        found.append(total)
    return torch.stack(found)


@pytest.mark.parametrize('num_snippets', [2, 3, 4, 5])
@pytest.mark.parametrize('multi_scale', [True, False])
@torch.no_grad()
def test_trn_equals_slow_loop_over_ordered_tuples(multi_scale: bool, num_snippets: int) -> None:
    head = make_head(num_snippets, multi_scale=multi_scale)
    features = torch.randn(3 * num_snippets, 6, 2, 2, 3)
    scales = list(range(2, num_snippets + 1)) if multi_scale else [num_snippets]
    torch.testing.assert_close(head(features, num_snippets), slow_trn(head, features, scales), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('multi_scale', [True, False])
@torch.no_grad()
def test_trn_depends_on_snippet_order_within_a_video(multi_scale: bool) -> None:
    head = make_head(multi_scale=multi_scale)
    features = torch.randn(8, 6, 1, 1, 1)
    scores = head(features, 4)
    changed = features.clone()
    changed[4:] = features[[6, 4, 7, 5]]
    other = head(changed, 4)
    torch.testing.assert_close(other[0], scores[0])
    assert (other[1] - scores[1]).abs().max() > 1e-3


@pytest.mark.parametrize('num_relations', [1, 2, 3, 100])
def test_training_draws_tuples_and_eval_uses_all(num_relations: int) -> None:
    head = make_head(num_relations=num_relations)
    sizes: list[list[int]] = []
    for relation in head.relations:
        relation.register_forward_pre_hook(lambda _, args: sizes[-1].append(args[0].shape[1]))
    features = torch.randn(4, 6, 1, 1, 1)
    for training in (True, False):
        sizes.append([])
        head.train(training)
        head(features, 4)
    all_of_them = [6, 4, 1]  # pairs, triples and quadruples of four snippets
    assert sizes == [[min(n, num_relations) for n in all_of_them], all_of_them]


def test_drawn_tuples_are_distinct_and_ordered() -> None:
    """The feature of a snippet is its number, so the input of a relation shows the drawn tuples."""
    head = TRNHead(2, 1, 5, hidden_channels=1, dropout=0.0, num_relations=4)
    with torch.no_grad():
        head.reduce.weight.fill_(1.0)
    drawn: list[Tensor] = []
    for relation in head.relations:
        relation.register_forward_pre_hook(lambda _, args: drawn.append(args[0][0]))
    for _ in range(20):
        head(torch.arange(5.0).reshape(5, 1, 1, 1, 1), 5)
    for rows in drawn:
        assert (rows.diff(dim=1) > 0).all()
        assert len(rows.unique(dim=0)) == len(rows)
    assert len(torch.cat([rows for rows in drawn if rows.shape[1] == 2]).unique(dim=0)) == 10


def test_drawing_follows_the_torch_seed() -> None:
    head = make_head().train()
    features = torch.randn(4, 6, 1, 1, 1)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(head(features, 4))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_dropout_acts_in_training_only() -> None:
    head = make_head(multi_scale=False, dropout=0.5).train()
    features = torch.randn(4, 6, 1, 1, 1)
    assert not torch.equal(head(features, 4), head(features, 4))
    head.eval()
    assert torch.equal(head(features, 4), head(features, 4))


def test_widths_are_those_of_the_original_code() -> None:
    """256 features per snippet; multi-scale relations have width 256, the single one 512."""
    multi = {name: tuple(p.shape) for name, p in TRNHead(10, 2048, 4).named_parameters()}
    assert multi['reduce.weight'] == (256, 2048)
    assert [multi[f'relations.{i}.1.weight'] for i in range(3)] == [(256, d * 256) for d in (2, 3, 4)]
    assert [multi[f'relations.{i}.3.weight'] for i in range(3)] == [(10, 256)] * 3
    single = {name: tuple(p.shape) for name, p in TRNHead(10, 2048, 8, multi_scale=False).named_parameters()}
    assert (single['relations.0.1.weight'], single['relations.0.3.weight']) == ((512, 2048), (10, 512))
    assert 'relations.1.1.weight' not in single


def test_init_std_applies_to_the_reduction() -> None:
    head = TRNHead(10, 500, 2, init_std=0.05)
    assert head.reduce.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert head.reduce.bias.abs().max() == 0


def test_gradients_reach_every_weight() -> None:
    head = make_head(num_relations=6).train()
    head(torch.randn(8, 6, 1, 2, 2), 4).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_snippets': 1}, 'num_snippets=1 '),
        ({'num_snippets': 4, 'num_relations': 0}, 'num_relations=0'),
        ({'num_snippets': 4, 'hidden_channels': 0}, 'hidden_channels=0'),
        ({'num_snippets': 4, 'dropout': 1.0}, r'dropout=1.0.*\[0, 1\)'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TRNHead(5, 6, **options)

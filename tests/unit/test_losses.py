"""The losses against torch, scikit-learn, LightGBM, finite differences and sums by hand."""

import lightgbm
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score

from recsys_lib import losses

DOUBLE = torch.float64


def autograd(loss, *inputs):
    """The derivative of a scalar loss by each input, by automatic differentiation."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(loss(*inputs), inputs)


def finite_differences(loss, x, step=1e-6):
    """Central differences in float64, one coordinate at a time."""
    slope = torch.zeros_like(x)
    for i in range(x.numel()):
        up, down = x.clone(), x.clone()
        up.view(-1)[i] += step
        down.view(-1)[i] -= step
        slope.view(-1)[i] = (loss(up) - loss(down)) / (2 * step)
    return slope


def padded_lists(seed=0, n_queries=7, depth=9):
    """Scores, gains 0-4 and a ragged mask; the last query has no document at all."""
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.normal(size=(n_queries, depth)))
    gains = torch.tensor(rng.integers(0, 5, size=(n_queries, depth)))
    lengths = rng.integers(1, depth + 1, size=n_queries)
    lengths[-1] = 0
    return scores, gains, torch.tensor(np.arange(depth) < lengths[:, None])


# ------------------------------------------------------------------------------- pointwise

logits = st.floats(-1e4, 1e4, allow_nan=False)
labels = st.floats(0, 1)


@given(st.lists(st.tuples(logits, labels), min_size=1, max_size=20), st.floats(0.1, 30))
@settings(max_examples=100)
def test_bce_equals_torch_for_any_logits_labels_and_weight(pairs, weight):
    z, y = torch.tensor(pairs, dtype=DOUBLE).T
    ours = losses.bce_with_logits(z, y, pos_weight=weight)
    theirs = F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(weight, dtype=DOUBLE))
    # torch takes two numbers near 1e4 from one another where z is far below zero: that leaves it a
    # few times their last place, 1.8e-12, of each of twenty
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    for reduction in ("sum", "none"):
        torch.testing.assert_close(
            losses.bce_with_logits(z, y, reduction=reduction),
            F.binary_cross_entropy_with_logits(z, y, reduction=reduction),
            rtol=1e-12,
            atol=1e-10,
        )


@given(st.lists(st.tuples(logits, labels), min_size=1, max_size=20), st.floats(0.1, 30))
@settings(max_examples=100)
def test_bce_gradient_is_the_derivative(pairs, weight):
    z, y = torch.tensor(pairs, dtype=DOUBLE).T
    (slope,) = autograd(lambda z: losses.bce_with_logits(z, y, pos_weight=weight), z)
    torch.testing.assert_close(losses.bce_gradient(z, y, pos_weight=weight), slope)
    (slope,) = autograd(lambda z: losses.bce_with_logits(z, y), z)
    torch.testing.assert_close(slope, (torch.sigmoid(z) - y) / len(z))


def test_bce_equals_sklearn_log_loss():
    rng = np.random.default_rng(1)
    z, y = rng.normal(scale=3, size=200), rng.integers(0, 2, 200)
    ours = losses.bce_with_logits(torch.tensor(z), torch.tensor(y))
    assert ours.item() == pytest.approx(log_loss(y, 1 / (1 + np.exp(-z))), abs=1e-12)


def test_bce_gradient_equals_finite_differences():
    z = torch.linspace(-4, 4, 9, dtype=DOUBLE)
    y = torch.tensor([0, 1, 0, 1, 0.3, 1, 0, 1, 0], dtype=DOUBLE)
    slope = finite_differences(lambda z: losses.bce_with_logits(z, y), z)
    torch.testing.assert_close(losses.bce_gradient(z, y), slope, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_extreme_logits_keep_loss_and_gradient_exact(dtype):
    z = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    y = torch.tensor([1, 0, 0, 1])
    loss = losses.bce_with_logits(z, y, reduction="none")
    wrong = z[0].item()  # 1e4 itself is not a bfloat16
    assert loss.tolist() == [0, 0, wrong, wrong]
    loss.sum().backward()
    assert z.grad.tolist() == [0, 0, 1, -1]


def test_naive_form_fails_where_the_stable_one_does_not():
    z = torch.tensor([20.0], requires_grad=True)
    assert losses.naive_bce(torch.sigmoid(z), torch.tensor([0.0])).item() == np.inf
    assert losses.bce_with_logits(z, torch.tensor([0.0])).item() == pytest.approx(20)
    h = torch.tensor([0.2, 0.9, 0.5], dtype=DOUBLE)
    y = torch.tensor([0, 1, 0.25], dtype=DOUBLE)
    torch.testing.assert_close(losses.naive_bce(h, y), F.binary_cross_entropy(h, y))
    torch.testing.assert_close(losses.naive_bce(torch.sigmoid(h), y), losses.bce_with_logits(h, y))


@given(st.lists(st.tuples(logits, logits, labels), min_size=1, max_size=20))
@settings(max_examples=100)
def test_two_logits_are_one(rows):
    z0, z1, y = torch.tensor(rows, dtype=DOUBLE).T
    z2 = torch.stack([z0, z1], dim=1)
    ours = losses.cross_entropy_two_logits(z2, y)
    torch.testing.assert_close(ours, losses.bce_with_logits(z1 - z0, y))
    torch.testing.assert_close(ours, F.cross_entropy(z2, torch.stack([1 - y, y], dim=1)))
    (slope,) = autograd(lambda z2: losses.cross_entropy_two_logits(z2, y), z2)
    one = losses.bce_gradient(z1 - z0, y)
    torch.testing.assert_close(slope, torch.stack([-one, one], dim=1))


def test_pos_weight_moves_the_best_logit_by_its_logarithm():
    y = torch.tensor([1.0] * 3 + [0.0] * 7, dtype=DOUBLE)
    best = np.log(3 / 7) + np.log(5.0)
    z = torch.full((10,), best, dtype=DOUBLE)
    assert losses.bce_gradient(z, y, pos_weight=5.0).sum().item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: losses.bce_with_logits(torch.zeros(3, 1), torch.zeros(3)), "squeeze"),
        (lambda: losses.bce_with_logits(torch.zeros(2), torch.tensor([1, 2])), "between 0 and 1"),
        (lambda: losses.bce_with_logits(torch.zeros(1), torch.tensor([np.nan])), "not NaN"),
        (lambda: losses.bce_with_logits(torch.zeros(0), torch.zeros(0)), "at least one"),
        (lambda: losses.bce_with_logits(torch.tensor([1]), torch.tensor([1])), "float"),
        (lambda: losses.bce_with_logits(torch.zeros(1), torch.zeros(1), pos_weight=0), "positive"),
        (lambda: losses.bce_with_logits(torch.zeros(1), torch.zeros(1), reduction="x"), "'x'"),
        (lambda: losses.naive_bce(torch.zeros(2), torch.zeros(3)), "one shape"),
        (lambda: losses.cross_entropy_two_logits(torch.zeros(2, 3), torch.zeros(2)), "(N, 2)"),
        (lambda: losses.info_nce(torch.zeros(2, 3), torch.zeros(3, 3)), "one shape"),
        (lambda: losses.info_nce(torch.ones(2, 3), torch.ones(2, 3), temperature=0), "positive"),
        (
            lambda: losses.info_nce(
                torch.ones(2, 3), torch.ones(2, 3), false_negatives=torch.ones(3, 3)
            ),
            "false_negatives",
        ),
        (
            lambda: losses.info_nce(torch.ones(2, 3), torch.ones(2, 3), negatives=torch.ones(2)),
            "negatives",
        ),
        (
            lambda: losses.info_nce(
                torch.ones(2, 3), torch.ones(2, 3), negatives=torch.ones(1, 3), symmetric=True
            ),
            "symmetric",
        ),
        (lambda: losses.same_item_mask(torch.zeros(2, 2)), "(N,)"),
        (lambda: losses.triplet(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)), "one shape"),
        (lambda: losses.triplet(*[torch.ones(2, 3)] * 3, margin=-1), "margin"),
        (lambda: losses.triplet(*[torch.ones(2, 3)] * 3, distance="l1"), "'l1'"),
        (lambda: losses.ranknet(torch.ones(3), torch.ones(3)), "(Q, D)"),
        (lambda: losses.lambdarank(torch.ones(1, 3), torch.ones(1, 3), k=0), "k must be"),
        (lambda: losses.listnet(torch.ones(2, 3), torch.ones(2, 4)), "one shape"),
    ],
)
def test_bad_input_gets_one_clear_line(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------- contrastive


def embeddings(seed=0, n=6, d=5, parts=2):
    rng = np.random.default_rng(seed)
    return [torch.tensor(rng.normal(size=(n, d))) for _ in range(parts)]


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0])
def test_info_nce_is_cross_entropy_with_the_diagonal_as_target(temperature):
    q, d = embeddings()
    cosines = F.cosine_similarity(q[:, None], d[None], dim=2)
    target = torch.arange(len(q))
    torch.testing.assert_close(
        losses.info_nce(q, d, temperature=temperature),
        F.cross_entropy(cosines / temperature, target),
    )
    torch.testing.assert_close(
        losses.info_nce(q, d, temperature=temperature, symmetric=True),
        (
            F.cross_entropy(cosines / temperature, target)
            + F.cross_entropy(cosines.T / temperature, target)
        )
        / 2,
    )
    torch.testing.assert_close(
        losses.info_nce(q, d, temperature=temperature, normalize=False),
        F.cross_entropy(q @ d.T / temperature, target),
    )


def test_info_nce_gradient_with_negatives_and_false_negatives():
    q, d, more = embeddings(parts=3)
    more = more[:4]
    ids = torch.tensor([0, 1, 2, 1, 4, 0])
    mask = losses.same_item_mask(ids)
    assert mask.nonzero().tolist() == [[0, 5], [1, 3], [3, 1], [5, 0]]

    def loss(similarity):  # with the identity as queries, the similarities are the items themselves
        eye = torch.eye(6, dtype=DOUBLE)
        return losses.info_nce(
            eye,
            similarity[:, :6].T,
            negatives=similarity[:, 6:].T,
            temperature=1.0,
            false_negatives=mask,
            normalize=False,
        )

    s = torch.cat([q @ d.T, q @ more.T], dim=1)
    keep = torch.cat([~mask, torch.ones(6, 4, dtype=torch.bool)], dim=1)
    (slope,) = autograd(loss, s)
    torch.testing.assert_close(losses.info_nce_gradient(s, keep), slope)
    assert (slope[:, :6][mask] == 0).all()
    by_hand = torch.stack(
        [
            torch.logsumexp(row[kept], 0) - row[i]
            for i, (row, kept) in enumerate(zip(s, keep, strict=True))
        ]
    )
    torch.testing.assert_close(loss(s), by_hand.mean())


def test_info_nce_never_leaves_out_the_right_item():
    q, d = embeddings()
    everything = torch.ones(6, 6, dtype=torch.bool)
    assert losses.info_nce(q, d, false_negatives=everything).item() == pytest.approx(0, abs=1e-12)


def test_info_nce_of_one_pair_is_zero_and_of_chance_is_log_n():
    q, d = embeddings(n=1)
    assert losses.info_nce(q, d).item() == 0
    same = torch.ones(8, 3, dtype=DOUBLE)
    assert losses.info_nce(same, same).item() == pytest.approx(np.log(8))


def test_triplet_equals_torch():
    a, p, n = embeddings(parts=3, n=40)
    torch.testing.assert_close(
        losses.triplet(a, p, n, margin=0.7),
        F.triplet_margin_loss(a, p, n, margin=0.7, eps=0.0),
    )
    torch.testing.assert_close(
        losses.triplet(a, p, n, margin=0.3, distance="cosine"),
        F.triplet_margin_with_distance_loss(
            a, p, n, margin=0.3, distance_function=lambda x, y: 1 - F.cosine_similarity(x, y)
        ),
    )


def test_triplet_gradient_and_its_corners():
    a, p, n = embeddings(parts=3, n=40)
    ours = losses.triplet_gradient(a, p, n, margin=0.7)
    slopes = autograd(lambda a, p, n: losses.triplet(a, p, n, margin=0.7), a, p, n)
    for mine, slope in zip(ours, slopes, strict=True):
        torch.testing.assert_close(mine, slope)
    quiet = losses.triplet(a, p, n, margin=0.7, reduction="none") == 0
    assert 0 < quiet.sum() < 40, "the case must hold both violated and fulfilled triplets"
    assert (ours[0][quiet] == 0).all()
    for gradient in (losses.triplet_gradient, lambda *x: autograd(losses.triplet, *x)):
        assert all(torch.isfinite(g).all() for g in gradient(a, a, a)), "identical vectors"


# --------------------------------------------------------------------------- ranked lists

LISTWISE = [
    (losses.ranknet, losses.ranknet_gradient),
    (losses.lambdarank, losses.lambdarank_gradient),
    (losses.listnet, losses.listnet_gradient),
]


@pytest.mark.parametrize(("loss", "gradient"), LISTWISE)
def test_list_gradients_are_derivatives(loss, gradient):
    scores, gains, mask = padded_lists()
    (slope,) = autograd(lambda s: loss(s, gains, mask), scores)
    torch.testing.assert_close(gradient(scores, gains, mask), slope, rtol=1e-12, atol=1e-14)
    assert slope.abs().sum() > 0.1


@pytest.mark.parametrize(("loss", "gradient"), LISTWISE)
def test_padding_changes_nothing(loss, gradient):
    scores, gains, mask = padded_lists()
    dirty = torch.where(mask, scores, torch.nan)
    (slope,) = autograd(lambda s: loss(s, gains, mask), dirty)
    assert (slope[~mask] == 0).all()
    torch.testing.assert_close(slope, gradient(scores, gains, mask))
    one_by_one = [
        loss(s[m][None], g[m][None]) for s, g, m in zip(scores[:-1], gains, mask, strict=False)
    ]
    torch.testing.assert_close(
        loss(dirty, gains, mask, reduction="none")[:-1], torch.stack(one_by_one)
    )


@pytest.mark.parametrize(("loss", "gradient"), LISTWISE)
def test_lists_that_say_nothing_cost_nothing(loss, gradient):
    scores = torch.randn(2, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(2, 4, dtype=torch.bool)
    gains = torch.ones(2, 4)
    (slope,) = autograd(lambda s: loss(s, gains, empty), scores)
    assert (slope == 0).all()
    assert (gradient(scores, gains, empty) == 0).all()


@pytest.mark.parametrize(("loss", "gradient"), LISTWISE)
def test_extreme_scores_stay_finite(loss, gradient):
    scores = torch.tensor([[1e4, -1e4, 0.0, 5e3]], requires_grad=True)
    gains = torch.tensor([[0, 3, 1, 2]])
    value = loss(scores, gains)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    torch.testing.assert_close(gradient(scores.detach(), gains), scores.grad)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.floats(-100, 100), st.data())
@settings(max_examples=60)
def test_list_losses_do_not_see_a_shift_of_all_scores(scores, shift, data):
    gains = data.draw(
        st.lists(st.integers(0, 4), min_size=len(scores), max_size=len(scores)), label="gains"
    )
    s, g = torch.tensor(scores, dtype=DOUBLE)[None].round(decimals=2), torch.tensor([gains])
    for loss, gradient in LISTWISE:
        torch.testing.assert_close(loss(s + round(shift), g), loss(s, g), rtol=1e-9, atol=1e-9)
        assert abs(gradient(s, g).sum().item()) < 1e-12, "forces within a list must cancel"


def test_ranknet_is_the_mean_logistic_loss_of_ordered_pairs():
    scores, gains, mask = padded_lists()
    by_hand = []
    for s, g, m in zip(scores, gains, mask, strict=True):
        s, g = s[m], g[m]
        differences = [s[i] - s[j] for i in range(len(s)) for j in range(len(s)) if g[i] > g[j]]
        if differences:
            d = torch.stack(differences)
            by_hand.append(F.binary_cross_entropy_with_logits(d, torch.ones_like(d)))
    torch.testing.assert_close(
        losses.ranknet(scores, gains, mask), torch.stack(by_hand).mean(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("k", [None, 1, 3])
def test_lambdarank_weights_are_the_change_of_ndcg(k):
    """For two documents at a time, the loss is |NDCG before - after the swap| · log(1 + e^-d)."""
    rng = np.random.default_rng(3)
    gains, scores = rng.integers(0, 4, 6), rng.permutation(6).astype(float)

    def ndcg(ranked_by):
        return ndcg_score([2.0**gains - 1], [ranked_by], k=k)

    total = 0.0
    for i in range(6):
        for j in range(6):
            if gains[i] > gains[j]:
                swapped = scores.copy()
                swapped[[i, j]] = swapped[[j, i]]
                change = abs(ndcg(scores) - ndcg(swapped))
                total += change * np.log1p(np.exp(scores[j] - scores[i]))
    ours = losses.lambdarank(torch.tensor(scores)[None], torch.tensor(gains)[None], k=k)
    assert ours.item() == pytest.approx(total, abs=1e-12)


def lightgbm_forces(scores, gains, copies=100):
    """LightGBM's LambdaRank gradients at given scores.

    A tree that parts one document from all others moves its score by -G / (H + λ), where λ is the
    ridge; the moves under two values of λ give G. Many copies of the list, because LightGBM guesses
    the number of documents in a leaf from its share of H and refuses to part less than one.
    """
    forces = []
    for alone in np.eye(len(scores)):
        data = {
            "data": np.tile(alone, copies)[:, None],
            "label": np.tile(gains, copies),
            "group": [len(scores)] * copies,
            "init_score": np.tile(scores, copies),
        }
        moves = []
        for ridge in (1.0, 2.0):
            settings = {
                "objective": "lambdarank",
                "lambdarank_norm": False,
                "lambdarank_truncation_level": len(scores),
                "num_leaves": 2,
                "min_data_in_leaf": 1,
                "min_sum_hessian_in_leaf": 0.0,
                "lambda_l2": ridge * copies,
                "learning_rate": 1.0,
                "verbose": -1,
                "num_threads": 1,
            }
            booster = lightgbm.train(settings, lightgbm.Dataset(**data), num_boost_round=1)
            moves.append(booster.predict([[1.0]])[0])
        first, second = moves
        forces.append(-first * second / (first - second))
    return np.array(forces)


def test_lambdarank_equals_lightgbm():
    rng = np.random.default_rng(5)
    gains, scores = rng.permutation([0, 1, 1, 2, 3, 4, 0, 2]), rng.normal(size=8)
    ours = losses.lambdarank_gradient(torch.tensor(scores)[None], torch.tensor(gains)[None])[0]
    # LightGBM reads the sigmoid from a table and keeps gradients in float32.
    np.testing.assert_allclose(ours, lightgbm_forces(scores, gains), rtol=2e-4, atol=1e-5)


def test_listnet_is_cross_entropy_between_softmaxes():
    scores, gains, _ = padded_lists()
    target = torch.softmax(gains.double(), dim=1)
    torch.testing.assert_close(losses.listnet(scores, gains), F.cross_entropy(scores, target))
    best = losses.listnet(gains.double(), gains)
    torch.testing.assert_close(best, -(target * target.log()).sum(dim=1).mean())


@pytest.mark.parametrize(("loss", "gradient"), LISTWISE)
def test_descending_the_loss_sorts_the_list(loss, gradient):
    gains = torch.tensor([[0, 3, 1, 2, 0]])
    scores = torch.tensor([[4.0, 0.0, 2.0, 1.0, 3.0]], dtype=DOUBLE)
    for _ in range(400):
        scores -= 0.3 * gradient(scores, gains)
    assert ndcg_score(gains.numpy(), scores.numpy()) == pytest.approx(1)

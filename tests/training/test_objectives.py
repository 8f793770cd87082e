"""Our losses are the published ones: values and gradients to 1e-10 in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefdata.training import GPOTraining, SPPOSingleTraining, SPPOTraining, WPOTraining
from prefdata.training.objectives import PairLogProbs, pair_weights

VECTORS = Path(__file__).parent / "vectors"


def cases(name):
    return json.loads((VECTORS / f"{name}.json").read_text())["cases"]


def tensor(values, **options):
    import torch

    return torch.tensor(values, dtype=torch.float64, **options)


def near(found, wanted):
    import torch

    torch.testing.assert_close(found, tensor(wanted), rtol=1e-10, atol=1e-10)


def scored(case):
    """The batch of a case, and the logits that its gradients are taken of."""
    import torch

    logits, labels = tensor(case["logits"], requires_grad=True), torch.tensor(case["labels"])
    logs = logits[:, :-1].log_softmax(-1)
    mask = (labels[:, 1:] != -100).double()
    picked = logs.gather(2, labels[:, 1:].clamp(min=0).unsqueeze(2)).squeeze(2) * mask
    return logits, PairLogProbs(
        log_probs=picked,
        mask=mask,
        reference=tensor(case["reference_log_probs"]),
        log_sum_squares=(2 * logs).logsumexp(-1) * mask,
        log_max=logs.amax(-1) * mask,
    )


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("alignment", ["sampled", "greedy", "none"])
@pytest.mark.parametrize("case", cases("wpo"), ids=lambda case: case["name"])
def test_wpo(case, alignment, clamp):
    logits, pairs = scored(case)
    told = case["alignments"][alignment]
    wanted = told["clamped" if clamp else "unclamped"]
    part = WPOTraining(
        model="m", beta=case["beta"], label_smoothing=case["label_smoothing"], alignment=alignment, clamp=clamp
    )
    weights = pair_weights(pairs, alignment=alignment, clamp=clamp)
    near(weights, told["weight_clamped_to_1" if clamp else "weight_unclamped"])
    assert not weights.requires_grad
    loss = part.loss(pairs)
    near(loss.detach(), wanted["loss"])
    loss.backward()
    near(logits.grad, wanted["grad_logits"])


@pytest.mark.parametrize("case", cases("wpo"), ids=lambda case: case["name"])
def test_wpo_as_its_own_trainer_computes_it(case):
    logits, pairs = scored(case)
    loss = WPOTraining(model="m", beta=case["beta"], label_smoothing=case["label_smoothing"]).loss(pairs)
    near(loss.detach(), case["original"]["loss"])
    loss.backward()
    near(logits.grad, case["original"]["grad_logits"])


def test_the_clamp_acts_in_these_cases():
    assert [case["clamp_acts_on_pairs"] for case in cases("wpo")] == [[], [0, 3], [0]]


def summed(case, columns):
    """A batch whose answers have one token: log-probabilities of a sequence are given as sums."""
    import torch

    policy = tensor([case["policy_chosen_log_probs"], case["policy_rejected_log_probs"]], requires_grad=True)
    reference = tensor(case["reference_chosen_log_probs"] + case["reference_rejected_log_probs"])
    log_probs = policy.reshape(-1, 1)
    columns = {name: tensor(values) for name, values in columns.items()}
    return policy, PairLogProbs(log_probs, torch.ones_like(log_probs), reference, columns=columns)


@pytest.mark.parametrize("case", cases("sppo"), ids=lambda case: case["name"])
def test_sppo(case):
    kind = {"sppo": SPPOTraining, "sppo_single": SPPOSingleTraining}[case["loss_type"]]
    policy, pairs = summed(case, {name: case[name] for name in kind.columns})
    loss = kind(model="m", beta=case["beta"]).loss(pairs)
    near(loss.detach(), case["loss"])
    loss.backward()
    near(policy.grad, [case["grad_policy_chosen_log_probs"], case["grad_policy_rejected_log_probs"]])


@pytest.mark.parametrize("case", cases("gpo"), ids=lambda case: case["name"])
def test_gpo(case):
    scores = (case["mean_score_chosen"], case["mean_score_rejected"])
    policy, pairs = summed(case, dict(zip(GPOTraining.columns, scores, strict=True)))
    part = GPOTraining(model="m", beta=case["beta"], doubled=case["doubled"], clamp_target=case["clamp_target"])
    loss = part.loss(pairs)
    near(loss.detach(), case["loss"])
    loss.backward()
    near(policy.grad, [case["grad_policy_chosen_log_probs"], case["grad_policy_rejected_log_probs"]])


def test_sums_of_log_probabilities_are_over_the_answer_only():
    told = json.loads((VECTORS / "sppo.json").read_text())["sequence_log_probs"]
    case = {**told, "reference_log_probs": [0.0] * 3}
    _, pairs = scored(case)
    near((pairs.log_probs * pairs.mask).sum(1).detach(), told["sum"])

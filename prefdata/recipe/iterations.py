"""`Iterations`: what changes from one iteration of a recipe to the next, and the recipe of each iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from prefdata.dataset import Layout
from prefdata.prompts import AnyPrompts, PromptPart, PromptSource
from prefdata.publish import Publish
from prefdata.publish.card.terms import known_license
from prefdata.sampling import Sampler, Samples
from prefdata.spec import Spec
from prefdata.spec.marks import Harmless
from prefdata.training import Training

__all__ = ["Iterations", "changes_of", "iteration_repo", "policy_model"]

_SpecT = TypeVar("_SpecT", bound=Spec)


class Iterations(Spec):
    """Several rounds of sample, score, pair and train; the model of each is the policy of the next.

    Each iteration takes prompts that no other has: those of `prompts`, or where the recipe's own source has a field
    `iteration`, its part of that number, or otherwise one of `count` seeded parts of the recipe's prompts.
    """

    count: Annotated[int, Harmless, Field(ge=1, le=100)]
    """How many iterations there are."""
    prompts: Annotated[tuple[AnyPrompts, ...], Harmless] = ()
    """The source of each iteration, in order; empty cuts the recipe's own prompts into disjoint parts."""
    policy: Annotated[str, Harmless] = "policy"
    """Name of the sampler whose model each iteration replaces; in the first one it is the model that training starts
    from."""
    reference: Annotated[Literal["start", "first"], Harmless] = "start"
    """The reference of training: the model that the iteration starts from, or the one that the first started from."""
    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Harmless] = ()
    """Peak learning rate of each iteration, in order; empty takes that of the recipe's training in all."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        lists: dict[str, tuple[Any, ...]] = {"prompts": self.prompts, "learning_rates": self.learning_rates}
        for name, values in lists.items():
            if values and len(values) != self.count:
                raise ValueError(f"{name} has {len(values)} entries for {self.count} iterations")
        return self


class _Repeated(Protocol):
    """What of a recipe differs from one iteration to the next."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def prompts(self) -> PromptSource: ...
    @property
    def candidates(self) -> tuple[Sampler, ...]: ...
    @property
    def dataset(self) -> Layout: ...
    @property
    def also(self) -> tuple[Layout, ...]: ...
    @property
    def publish(self) -> Publish: ...
    @property
    def training(self) -> Training | None: ...


def policy_model(sampler: Sampler) -> str | None:
    """Gives the model that a sampler draws its answers from; None where that is not a model of this machine."""
    if not isinstance(sampler, Samples) or "revision" not in type(sampler.generator).model_fields:
        return None
    model = getattr(sampler.generator, "model", None)
    return model if isinstance(model, str) else None


def iteration_repo(repo: str, number: int) -> str:
    """Gives the name of the repositories that one iteration's dataset and model are published to.

    Args:
        repo: `owner/name` of the run.
        number: of the iteration.
    """
    return f"{repo}-iteration-{number}"


def changes_of(iterations: Iterations, recipe: _Repeated, number: int, model: str | None) -> dict[str, Any]:
    """Gives the fields of a recipe that are others in one iteration.

    Args:
        iterations: of the recipe.
        recipe: the recipe, with a training.
        number: of the iteration; the first is 1.
        model: the folder of the model that the iteration before has trained; None takes the recipe's own policy.
    """
    candidates = tuple(_with_model(sampler, iterations.policy, model) for sampler in recipe.candidates)
    policy = next(sampler for sampler in candidates if sampler.name == iterations.policy)
    publish, start = recipe.publish, _start(iterations, recipe)
    if model is not None and (terms := publish.licenses.get(start) or known_license(start)):
        # A model that was trained from another is under its terms.
        publish = publish.replace(licenses={**publish.licenses, Path(model).name: terms})
    if publish.repo:
        publish = publish.replace(repo=iteration_repo(publish.repo, number))
    return {
        "name": f"{recipe.name}-iteration-{number}",
        "description": " ".join(filter(None, [recipe.description, _story(iterations, recipe.name, number)])),
        "prompts": _prompts(iterations, recipe.prompts, number),
        "candidates": candidates,
        "dataset": _numbered(recipe.dataset, number),
        "also": tuple(_numbered(layout, number) for layout in recipe.also),
        "publish": publish,
        "training": _training(iterations, recipe, policy, number),
    }


def _story(iterations: Iterations, name: str, number: int) -> str:
    begins = f"Iteration {number} of {iterations.count}"
    return (
        f"{begins}."
        if number == 1
        else f"{begins}; its policy is the model that {name}-iteration-{number - 1} trained."
    )


def _prompts(iterations: Iterations, source: PromptSource, number: int) -> PromptSource:
    if iterations.prompts:
        return iterations.prompts[number - 1]
    if "iteration" in type(source).model_fields:
        return _numbered(source, number)
    return PromptPart.model_validate({"source": source, "part": number, "parts": iterations.count})


def _numbered(part: _SpecT, number: int) -> _SpecT:
    """Gives a part with its field `iteration` set, where it has one."""
    return part.replace(iteration=number) if "iteration" in type(part).model_fields else part


def _with_model(sampler: Sampler, policy: str, model: str | None) -> Sampler:
    if model is None or sampler.name != policy or not isinstance(sampler, Samples):
        return sampler
    return sampler.replace(generator=sampler.generator.replace(model=model, revision=None))


def _training(iterations: Iterations, recipe: _Repeated, policy: Sampler, number: int) -> Training:
    assert recipe.training is not None
    generator = policy.generator if isinstance(policy, Samples) else None
    changes: dict[str, Any] = {"model": policy_model(policy), "revision": getattr(generator, "revision", None)}
    if iterations.learning_rates:
        changes["learning_rate"] = iterations.learning_rates[number - 1]
    if iterations.reference == "first" and number > 1:
        changes["reference"] = _start(iterations, recipe)
    return recipe.training.replace(**changes)


def _start(iterations: Iterations, recipe: _Repeated) -> str:
    """Gives the model that the first iteration starts from."""
    return next(policy_model(sampler) or "" for sampler in recipe.candidates if sampler.name == iterations.policy)

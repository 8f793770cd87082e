"""`Recipe`: one field for each stage, in flow order. `Profile`: the same recipe with parts swapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from prefdata.dataset import AnyLayout, AnyMainLayout, TRLPairs
from prefdata.dataset.audit import Audit
from prefdata.errors import RecipeError, closest
from prefdata.pairing import AnyRule
from prefdata.prompts import AnyPromptFilter, AnyPrompts
from prefdata.publish import Publish
from prefdata.recipe.iterations import Iterations, changes_of, policy_model
from prefdata.recipe.mistakes import explained
from prefdata.sampling import AnySampler, PublishedPairs, Sampler
from prefdata.scoring import AnyScorer
from prefdata.spec import Spec
from prefdata.spec.marks import Harmless
from prefdata.tables.kept import kept_problem
from prefdata.training import AnyTraining

__all__ = ["Profile", "Recipe"]


def _named_apart(candidates: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
    names = [sampler.name for sampler in candidates]
    if len(set(names)) < len(names):
        raise ValueError(f"two candidates have the same name: {', '.join(names)}")
    return candidates


class Profile(Spec):
    """The same recipe with named parts swapped. A field that is left out keeps the recipe's part."""

    prompts: Annotated[AnyPrompts | None, Harmless] = None
    """Instead of the recipe's prompts."""
    filters: Annotated[
        tuple[AnyPromptFilter, ...] | None, Harmless, Field(exclude_if=lambda filters: filters is None)
    ] = None
    """Instead of the recipe's filters."""
    candidates: Annotated[Annotated[tuple[AnySampler, ...], Field(min_length=1)] | None, Harmless] = None
    """Instead of the recipe's candidates."""
    scores: Annotated[AnyScorer | None, Harmless] = None
    """Instead of the recipe's scorer."""
    pairs: Annotated[AnyRule | None, Harmless] = None
    """Instead of the recipe's pair rule."""
    backfill: Annotated[PublishedPairs | None, Harmless] = None
    """Instead of the recipe's dataset of pairs for prompts that give none."""
    audit: Annotated[Audit | None, Harmless] = None
    """Instead of the recipe's limits."""
    dataset: Annotated[AnyMainLayout | None, Harmless] = None
    """Instead of the recipe's layout."""
    also: Annotated[tuple[AnyLayout, ...] | None, Harmless, Field(exclude_if=lambda also: also is None)] = None
    """Instead of the recipe's further layouts."""
    publish: Annotated[Publish | None, Harmless] = None
    """Instead of the recipe's `publish`."""
    training: Annotated[AnyTraining | None, Harmless] = None
    """Instead of the recipe's training."""
    iterations: Annotated[Iterations | None, Harmless, Field(exclude_if=lambda iterations: iterations is None)] = None
    """Instead of the recipe's iterations."""
    without: Annotated[tuple[Literal["backfill", "training", "iterations"], ...], Harmless] = ()
    """Parts of the recipe that the profile leaves out."""

    @field_validator("candidates")
    @classmethod
    def _names_differ(cls, candidates: tuple[Sampler, ...] | None) -> tuple[Sampler, ...] | None:
        return candidates and _named_apart(candidates)


class Recipe(Spec):
    """How one preference dataset is made, and what is trained on it."""

    name: Annotated[str, Harmless, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=96)]
    """Names the dataset; letters, digits, dots, dashes and underscores."""
    description: Annotated[str, Harmless] = ""
    """What the dataset is, for its card."""
    seed: Annotated[int, Harmless] = 0
    """Every random choice of the build derives from it."""
    limit: Annotated[Annotated[int, Field(ge=1)] | None, Harmless] = None
    """At most this many different prompts, the first ones of their source. `--limit N` sets it."""
    prompts: Annotated[AnyPrompts, Harmless]
    """Where the prompts come from."""
    filters: Annotated[tuple[AnyPromptFilter, ...], Harmless, Field(exclude_if=lambda filters: not filters)] = ()
    """What a prompt must pass, one filter after the other; each drops with a reason. `limit` counts what has passed."""
    candidates: Annotated[tuple[AnySampler, ...], Harmless, Field(min_length=1)]
    """Who answers; the names differ."""
    scores: Annotated[AnyScorer, Harmless]
    """Who scores."""
    pairs: Annotated[AnyRule, Harmless]
    """Which answer is chosen and which rejected."""
    backfill: Annotated[PublishedPairs | None, Harmless] = None
    """Prompts that the rule gives no pair take the one that this dataset has for them, marked by its name as source."""
    audit: Annotated[Audit, Harmless] = Audit()
    """Which biases of the dataset warn, or stop the build."""
    dataset: Annotated[AnyMainLayout, Harmless] = TRLPairs()
    """Columns and splits of what is published."""
    also: Annotated[tuple[AnyLayout, ...], Harmless, Field(exclude_if=lambda also: not also)] = ()
    """Further layouts of the same pairs, each a configuration named by its kind; the splits are those of `dataset`."""
    publish: Annotated[Publish, Harmless] = Publish()
    """What the card says beyond what the build knows."""
    training: Annotated[AnyTraining | None, Harmless] = None
    """Hyper-parameters of the training that the dataset is made for."""
    iterations: Annotated[Iterations | None, Harmless, Field(exclude_if=lambda iterations: iterations is None)] = None
    """Rounds of sample, score, pair and train, which `prefdata run` carries out; `build` makes the first dataset."""
    profiles: Annotated[Mapping[str, Profile], Harmless] = Field(default_factory=dict)
    """Named variants, `--profile NAME`."""

    @field_validator("candidates")
    @classmethod
    def _names_differ(cls, candidates: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
        return _named_apart(candidates)

    @field_validator("backfill")
    @classmethod
    def _backfill_is_named_apart(cls, backfill: PublishedPairs | None, info: ValidationInfo) -> PublishedPairs | None:
        if backfill is not None:
            _named_apart((*info.data.get("candidates", ()), backfill))
        return backfill

    @field_validator("also")
    @classmethod
    def _layouts_are_apart(cls, also: tuple[AnyLayout, ...], info: ValidationInfo) -> tuple[AnyLayout, ...]:
        main = info.data.get("dataset")
        kinds = [layout.config_name for layout in (*also, *([main] if main else []))]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"two layouts have the same kind: {', '.join(kinds)}")
        if any(layout.test_size for layout in also):
            raise ValueError("`test_size` belongs to `dataset`: what is held out is the same in every layout")
        return also

    @model_validator(mode="after")
    def _rule_and_scorer_fit(self) -> Self:
        if self.pairs.needs_comparisons() and not self.scores.compares:
            raise ValueError(
                f"the pair rule {self.pairs.dump()['kind']!r}, as set, needs comparisons, and the scorer "
                f"{self.scores.dump()['kind']!r} makes none: take a pairwise scorer, or the rule's option that works "
                "on scores"
            )
        if self.pairs.needs_log_odds() and self.scores.compares != "log_odds":
            raise ValueError(
                f"the pair rule {self.pairs.dump()['kind']!r}, as set, needs log-odds, and the scorer "
                f"{self.scores.dump()['kind']!r} gives probabilities, which may be 0 or 1: take a ranker, or a judge "
                "with `expected`"
            )
        return self

    @model_validator(mode="after")
    def _columns_can_be_kept(self) -> Self:
        if problem := kept_problem(self.kept_columns()):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _can_be_repeated(self) -> Self:
        if self.iterations is None:
            return self
        if self.training is None:
            raise ValueError("`iterations` needs a `training`, which makes the policy of the next iteration")
        if self.training.lora is not None:
            raise ValueError("`iterations` needs whole models: the `lora` of the training makes adapters")
        name = self.iterations.policy
        if not any(sampler.name == name and policy_model(sampler) for sampler in self.candidates):
            raise ValueError(
                f"`iterations.policy` is {name!r}, which is not one of the candidates that a local model answers"
            )
        return self

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """Lists the candidates' samplers, then the backfill."""
        return self.candidates if self.backfill is None else (*self.candidates, self.backfill)

    def kept_columns(self) -> list[str]:
        """Names the columns of tables that travel along to the dataset: those of prompts, then those of answers."""
        of_answers = [name for sampler in self.candidates for name in sampler.kept_columns()]
        return [*self.prompts.kept_columns(), *of_answers]

    def with_profile(self, name: str | None) -> Recipe:
        """Gives the recipe with a profile's parts in place of its own; `full` and None change nothing.

        Raises:
            RecipeError: the recipe has no such profile.
        """
        if name is None or name == "full":
            return self.replace(profiles={})
        if name not in self.profiles:
            raise RecipeError(
                f"recipe {self.name!r} has no profile {name!r}",
                valid=closest(name, ["full", *self.profiles]),
            )
        swapped = {
            field: value for field in Profile.model_fields if (value := getattr(self.profiles[name], field)) is not None
        }
        swapped |= dict.fromkeys(swapped.pop("without"))
        return self.replace(**{**swapped, "name": f"{self.name}-{name}", "profiles": {}})

    def iteration(self, number: int, model: str | None = None) -> Recipe:
        """Gives the recipe of one iteration, which has no iterations itself.

        Args:
            number: of the iteration; the first is 1.
            model: the folder of the model that the iteration before has trained; None takes the recipe's own policy.

        Raises:
            RecipeError: the recipe has no such iteration, or its parts don't fit it.
        """
        if self.iterations is None or not 1 <= number <= self.iterations.count:
            raise RecipeError(
                f"recipe {self.name!r} has no iteration {number}",
                valid=f"1 to {self.iterations.count}" if self.iterations else "a recipe with `iterations`",
            )
        return self.replace(**changes_of(self.iterations, self, number, model), iterations=None)

    def with_limit(self, limit: int | None) -> Recipe:
        """Gives the recipe with another `limit`; None leaves it."""
        return self if limit is None else self.replace(limit=limit)

    def _named(self) -> str:
        return f"recipe {self.name!r}"

    def _explained(self, error: ValidationError) -> str:
        return explained(error)

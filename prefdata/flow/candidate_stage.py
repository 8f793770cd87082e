"""A stage of candidates: one sampler is asked for all its answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from prefdata.flow.balance import balanced, count_reasons, count_rows
from prefdata.flow.graph import task_unit
from prefdata.flow.jobs import TaskJob
from prefdata.flow.results import check_sample_result, load_sample_result
from prefdata.flow.rows import write_kept, write_rows
from prefdata.flow.stage_tables import KEPT_ROWS, REASONED
from prefdata.sampling import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import CANDIDATE_DROPS, CANDIDATE_KEY, CANDIDATES, REASONING

__all__ = ["SampleJob"]


@dataclass(frozen=True, kw_only=True)
class SampleJob(TaskJob[SampleTask, SampleResult]):
    """Asks a sampler for its candidates of every prompt. The methods are described in `TaskJob`."""

    sampler: Sampler

    @property
    def unit(self) -> str:
        """Names what a task is: an answer, or all that a table has for a prompt."""
        return task_unit(self.sampler.tasks_per_prompt)

    @property
    def total(self) -> int:
        """Tasks of all prompts."""
        return self.tables.n_prompts * self.sampler.tasks_per_prompt

    def tasks(self, shard: int) -> Sequence[SampleTask]:
        """Lists the samples to draw, prompt by prompt."""
        indices = range(self.sampler.tasks_per_prompt)
        return [SampleTask(prompt, index) for prompt in self.tables.prompt_records(shard) for index in indices]

    def task_key(self, task: SampleTask) -> str:
        """Gives the prompt's id and the sample's number."""
        return task.key

    def run(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Lets the sampler draw."""
        return self.sampler.sample(tasks, context)

    def result_key(self, result: SampleResult) -> str:
        """Gives the key of the task."""
        return result.key

    def dump(self, result: SampleResult) -> JSON:
        """Gives key, candidates, drops, and what travels along."""
        return {name: value for name, value in asdict(result).items() if name != "kept" or value}

    def load(self, record: JSON) -> SampleResult:
        """Reads key, candidates and drops."""
        return load_sample_result(record)

    def check(self, task: SampleTask, result: SampleResult) -> None:
        """Checks that there is an answer to the prompt, or a drop."""
        check_sample_result(task, result)

    def write(self, shard: int, results: Sequence[SampleResult]) -> None:
        """Writes the drops, the reasoning and what travels along where there is any, then the candidates."""
        candidates = [asdict(candidate) for result in results for candidate in result.candidates]
        drops = [asdict(drop) for result in results for drop in result.drops]
        write_rows(self.folder.side_table("candidate_drops", shard), drops, CANDIDATE_DROPS, [], "candidates")
        if reasons := [candidate for candidate in candidates if candidate["reasoning"] is not None]:
            write_rows(self.folder.side_table(REASONED, shard), reasons, REASONING, CANDIDATE_KEY, "candidates")
        if self.sampler.kept_columns():
            kept = {result.prompt_id: result.kept for result in results if result.kept}
            write_kept(self.folder.side_table(KEPT_ROWS, shard), kept, "candidates")
        write_rows(self.folder.shard(shard), candidates, CANDIDATES, CANDIDATE_KEY, "candidates")

    def report(self) -> JSON:
        """Counts candidates and drops."""
        kept = count_rows(map(self.folder.shard, self.shards))
        drops = count_reasons(self.folder.side_table("candidate_drops", shard) for shard in self.shards)
        return balanced(self.name, kept + drops.total(), kept, drops)

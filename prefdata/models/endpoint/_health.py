"""Defines `Health`, which distinguishes a bad endpoint from single bad requests."""

from __future__ import annotations

from prefdata.errors import ModelError
from prefdata.models.endpoint._chat_client import Outcome

__all__ = ["Health"]


class Health:
    """Watches the outcomes of one run, so that a bad endpoint ends it instead of dropping all prompts one by one.

    Args:
        where: name of the endpoint in messages.
        give_up_after: number of consecutive failures that ends the run.
    """

    def __init__(self, where: str, give_up_after: int) -> None:
        self._where = where
        self._give_up_after = give_up_after
        self._answered = False
        self._in_a_row = 0

    def note(self, outcome: Outcome) -> None:
        """Takes note of one outcome.

        Raises:
            ModelError: the endpoint can't be reached, stopped answering, or has refused every request so far.
        """
        detail = outcome.generation.detail
        if outcome.lost == "connection":
            raise ModelError(
                f"{self._where} can't be reached: {detail}",
                valid="an address at which an OpenAI-compatible server listens",
                hint="check `base_url`, the network, and that the server has started",
            )
        refused = outcome.generation.failure == "refused_by_endpoint"
        if not outcome.lost and not refused:
            self._answered = True
        self._in_a_row = self._in_a_row + 1 if outcome.lost or (refused and not self._answered) else 0
        if self._in_a_row < self._give_up_after:
            return
        failed = f"{self._in_a_row} requests in a row failed, the last with: {detail}"
        if self._answered or outcome.lost:
            raise ModelError(
                f"{self._where} stopped answering: {failed}", hint="run again later: finished answers are kept"
            )
        raise ModelError(
            f"{self._where} refuses every request: {failed}",
            hint="adapt the requests to the endpoint with `leave_out`, `token_limit`, `structured` or `extra_body`",
        )

"""An HTTP client that reads an answer whole, but no more of it than any chat completion has, and goes nowhere else.

A server may answer with a body without end, or with 2 MB of gzip that grow to 2 GB, and the client library reads both.
"""

from __future__ import annotations

import ssl
from typing import Any

__all__ = [
    "MOST_BYTES",
    "TooLargeError",
    "bounded_client",
    "bounded_sync_client",
    "certificate_problem",
    "check_encoding",
]

MOST_BYTES = 64 << 20
"""Longest answer in bytes, after decompression."""
_ENCODINGS = ("", "identity", "gzip", "deflate")
"""What an answer may be compressed with. A piece of these grows at most a thousandfold; of others without a limit."""
_OPTIONS: dict[str, Any] = {"follow_redirects": False, "headers": {"Accept-Encoding": "gzip, deflate"}}
_CONSUMED = ("content-encoding", "content-length", "transfer-encoding")


class TooLargeError(Exception):
    """Raised when an answer is longer than any chat completion, or compressed as was not asked for."""


def bounded_client(openai: Any, timeout_s: float) -> Any:
    """Makes an HTTP client for `openai.AsyncOpenAI`. It follows no redirect: that would send the prompts elsewhere.

    Args:
        openai: the package.
        timeout_s: seconds for connecting, and between two pieces of an answer.
    """
    # Which HTTP library it is depends on the version of `openai`: nothing is imported from either.
    library: type[Any] = openai.DefaultAsyncHttpxClient

    class Bounded(library):  # type: ignore[misc]  # a class that is known when it runs
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            answer = await super().send(request, stream=True, **options)
            try:
                content = _Content(answer)
                async for part in answer.aiter_bytes():
                    content.add(part)
            finally:
                await answer.aclose()
            return content.answer(request)

    return Bounded(timeout=timeout_s, **_OPTIONS)


def bounded_sync_client(openai: Any, timeout_s: float) -> Any:
    """Makes an HTTP client for `openai.OpenAI`, as `bounded_client` does; who streams a file bounds it there.

    Args:
        openai: the package.
        timeout_s: seconds for connecting, and between two pieces of an answer.
    """
    library: type[Any] = openai.DefaultHttpxClient

    class Bounded(library):  # type: ignore[misc]  # a class that is known when it runs
        def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            answer = super().send(request, stream=True, **options)
            if stream:
                return answer
            try:
                content = _Content(answer)
                for part in answer.iter_bytes():
                    content.add(part)
            finally:
                answer.close()
            return content.answer(request)

    return Bounded(timeout=timeout_s, **_OPTIONS)


def check_encoding(headers: Any) -> None:
    """Checks that an answer is compressed only as was asked for.

    Raises:
        TooLargeError: it is not, so nobody knows how large it grows.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise TooLargeError(f"an answer that is compressed with {encoding!r}, which was not asked for")


class _Content:
    """The body of an answer, as it comes in."""

    def __init__(self, answer: Any) -> None:
        check_encoding(answer.headers)
        self._answer, self._parts, self._size = answer, list[bytes](), 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MOST_BYTES:
            raise TooLargeError(f"an answer of more than {MOST_BYTES >> 20} MB")
        self._parts.append(part)

    def answer(self, request: Any) -> Any:
        """Gives the answer with its body read."""
        answer = self._answer
        headers = [pair for pair in answer.headers.multi_items() if pair[0].lower() not in _CONSUMED]
        content = b"".join(self._parts)
        return type(answer)(
            answer.status_code, headers=headers, content=content, request=request, extensions=answer.extensions
        )


def certificate_problem(error: BaseException) -> str | None:
    """Returns what is wrong with a server's certificate, where that is why it can't be reached."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message
        seen = seen.__cause__ or seen.__context__
    return None

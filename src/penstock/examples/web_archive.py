"""Serve a git repository's trees as archives over HTTP: `GET /archive/v1.0.tar.gz`.

    python -m penstock.examples.web_archive [--host HOST] [--port PORT] [REPOSITORY]

Each request runs two processes, and memory holds only the chunks in flight:

    git archive ID     writes a tar file of one commit's tree
    gzip               compresses it

The example is about the ways in which a request may end:

- The client has read everything: the run has succeeded. If it failed, the server cuts the connection without
  the last chunk that HTTP/1.1 requires, so the client never takes half an archive for a whole one.
- The client disconnects half-way: Starlette cancels the task that sends. The response owns the run, so both
  processes have ended before the request does.
- The client reads slowly, or not at all: the pipes fill up, and both processes wait. `TIMEOUT` ends that.
- There is no such commit: 404. Any other failure before the first bytes: 500. `begin` reads ahead a little
  to find it out, because `gzip` makes an archive of nothing when `git` fails.

Needs the extra `web`: `pip install 'penstock[web]'`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock import ExitError, Pipeline, PipelineError, command

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["ArchiveResponse", "application", "archive", "commit_id", "main"]

TIMEOUT = 600.0
"""Seconds that one download may take."""
GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for the processes of a download."""
AHEAD = 65536
"""Bytes that are read before the response begins."""

# Inside a git hook these variables select the repository; here the argument does.
NO_HOOK: dict[str, None] = dict.fromkeys(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
)

log = logging.getLogger(__name__)


def archive(repository: str | os.PathLike[str], commit: str, folder: str) -> Pipeline:
    """Return the pipeline that makes the archive of a commit, with everything inside `folder`."""
    tar = command("git", "-C", repository, "archive", "--format=tar", f"--prefix={folder}/", commit)
    return Pipeline(tar, command("gzip", "-n"), env=NO_HOOK, timeout=TIMEOUT, grace=GRACE)


async def commit_id(repository: str | os.PathLike[str], name: str) -> str | None:
    """Return the id of the commit that a branch, a tag or a short id names, or None.

    The client's text gets no further than this: from here on it is forty hex digits.
    """
    words = ("git", "-C", repository, "rev-parse", "--verify", "--quiet", "--end-of-options")
    try:
        text = await command(*words, f"{name}^{{commit}}").atext(env=NO_HOOK, timeout=10)
    except PipelineError as error:
        if isinstance(error.cause, ExitError) and error.cause.returncode == 1:
            return None
        raise
    return text.strip()


class ArchiveResponse(StreamingResponse):
    """A response that owns the run whose output it sends: however the response ends, the run has ended."""

    def __init__(
        self, body: AsyncGenerator[bytes], run: AbstractAsyncContextManager[object], headers: dict[str, str]
    ) -> None:
        self._body = body
        self._run = run
        super().__init__(body, media_type="application/gzip", headers=headers)

    @classmethod
    async def begin(cls, pipeline: Pipeline, headers: dict[str, str]) -> Self:
        """Start the run and read its first bytes; raise PipelineError if it fails so early."""
        chunks = pipeline.aiter_bytes()
        head = bytearray()
        async for chunk in chunks:
            head += chunk
            if len(head) >= AHEAD:
                break
        return cls(_joined(bytes(head), chunks), chunks, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        async with self._run, aclosing(self._body):
            await super().__call__(scope, receive, send)


async def _joined(head: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for chunk in chunks:
        yield chunk


def application(repository: str | os.PathLike[str]) -> Starlette:
    """Return the ASGI application that serves one repository."""

    async def serve(request: Request) -> Response:
        name: str = request.path_params["name"]
        try:
            commit = await commit_id(repository, name)
            if commit is None:
                return PlainTextResponse("there is no such commit\n", status_code=404)
            folder = f"archive-{commit[:12]}"
            headers = {"content-disposition": f'attachment; filename="{folder}.tar.gz"'}
            if request.method == "HEAD":
                return Response(media_type="application/gzip", headers=headers)
            return await ArchiveResponse.begin(archive(repository, commit, folder), headers)
        except PipelineError as error:
            log.exception("%s of %s could not be served", name, repository)
            return PlainTextResponse(f"{error.stage} failed\n", status_code=500)

    return Starlette(routes=[Route("/archive/{name:path}.tar.gz", serve)])


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="web_archive", description="Serve archives of a git repository.")
    parser.add_argument(
        "repository", nargs="?", default=".", help="a folder in it (default: the current one)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    options = parser.parse_args(argv)
    uvicorn.run(application(options.repository), host=options.host, port=options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())

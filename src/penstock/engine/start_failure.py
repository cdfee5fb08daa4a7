"""Why a run could not be started."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.engine.tree import StageRun

__all__ = ["StartFailure"]


class StartFailure(Exception):  # noqa: N818 - never leaves the package
    """The reason why a run could not be started, and the leaf, or the name of the endpoint, that failed."""

    def __init__(self, cause: BaseException, *, leaf: StageRun | None = None, stage: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.leaf = leaf
        self.stage = stage if leaf is None else leaf.stage.name

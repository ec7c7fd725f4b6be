"""Options of every access to the Hub."""

import os
from dataclasses import dataclass, replace

from huggingface_hub import constants


@dataclass(frozen=True)
class HubOptions:
    """Which version of a repository to use, and how to reach the Hub.

    Attributes:
        revision: Branch, tag or commit; None for the main branch.
        variant: Suffix of the weight files to prefer ("fp16"); None for the files without a suffix.
        cache_dir: Folder of the cache; None for huggingface_hub's (`HF_HUB_CACHE`).
        token: Access token; True for the stored token, False for none, None for the stored token if there is one.
        local_files_only: Use the cache and send no request. `HF_HUB_OFFLINE=1` does the same for all calls.
        endpoint: Address of the Hub or of a mirror; None for that of `HF_ENDPOINT`.
    """

    revision: str | None = None
    variant: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    endpoint: str | None = None

    @property
    def offline(self) -> bool:
        """Whether the cache alone is used."""
        return self.local_files_only or bool(constants.HF_HUB_OFFLINE)

    def for_other_repository(self) -> "HubOptions":
        """The same options without `revision`, which is a version of one repository."""
        return replace(self, revision=None)


DEFAULT_OPTIONS = HubOptions()

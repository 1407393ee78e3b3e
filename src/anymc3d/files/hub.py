"""The Hugging Face Hub, as far as this program needs it: one file down, a few files up.

Down through the hub's own address of a file, with the bounds of :mod:`anymc3d.files.download`; up through
``huggingface_hub`` (extra ``hub``), which knows how large files are stored there. The user's own token comes from the
environment alone (``HF_TOKEN``): it is in no message, no record and no file of ours.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.parse
from collections.abc import Mapping

from anymc3d.errors import DownloadError, PackageError, UsageError
from anymc3d.files.download import without_secret
from anymc3d.printable import shown

logger = logging.getLogger(__name__)

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""The variable by which Hugging Face's own client is pointed at a mirror."""
TOKEN_VARIABLE = "HF_TOKEN"
SCHEME = "hf://"
_NAME = r"(?!.*(?:\.\.|--))[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?<![.-])"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def endpoint() -> str:
    """The hub's address: https; where the user's own setting says so, http too, with a word about it.

    Raises:
        UsageError: the setting is anything else.
    """
    address = (os.environ.get(HUB_VARIABLE) or HUB).rstrip("/")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("https", "http"):
        raise UsageError(
            f"{HUB_VARIABLE}: expected an address that begins with https://, got {without_secret(address)}"
        )
    if without_secret(address) != address:
        raise UsageError(f"{HUB_VARIABLE}: expected an address without a name, password or query in it")
    if parts.scheme == "http":
        logger.warning("%s is http: whoever is on the way can change what arrives; https is safer", HUB_VARIABLE)
    return address


def token(variable: str = TOKEN_VARIABLE) -> str | None:
    """The user's own token, from the environment.

    Raises:
        UsageError: it cannot be one; the message does not show it.
    """
    text = os.environ.get(variable, "").strip()
    if text and not (text.isascii() and text.isprintable() and " " not in text and len(text) <= 1000):
        raise UsageError(f"{variable}: expected a token, one word of plain letters; copy it again")
    return text or None


def parse_repository(text: str) -> tuple[str, str]:
    """``owner/name[@revision]``, with or without ``hf://``, as repository and revision (``main``).

    Raises:
        UsageError: it is something else.
    """
    repository, _, revision = text.removeprefix(SCHEME).rstrip("/").partition("@")
    revision = revision or "main"
    if not _REPOSITORY.fullmatch(repository) or not _REVISION.fullmatch(revision):
        raise UsageError(f"expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION, got '{shown(text, 120)}'")
    return repository, revision


def file_address(repository: str, file: str, revision: str = "main") -> str:
    """Where a file of a repository is."""
    return f"{endpoint()}/{repository}/resolve/{urllib.parse.quote(revision, safe='')}/{urllib.parse.quote(file)}"


def explained(error: DownloadError, repository: str) -> str:
    """What to do about a refusal of the hub; empty where it is none."""
    if error.answer not in (401, 403, 404):
        return ""
    terms = f"accept its terms at {HUB}/{repository} if it has any"
    if token() is None:
        return f"is the name right? What is private or gated needs your own token: {terms}, then set {TOKEN_VARIABLE}"
    return f"is the name right, and does the token in {TOKEN_VARIABLE} still hold? {terms}"


def upload(repository: str, files: Mapping[str, bytes], *, revision: str, message: str, private: bool) -> str:
    """Put files into a model repository, which is made where there is none, in one commit; the address of the commit.

    Raises:
        UsageError: there is no token or no client, or the hub refuses.
    """
    try:
        import huggingface_hub as client
    except ImportError:
        raise PackageError("pushing to the hub needs huggingface_hub; pip install 'anymc3d[hub]'") from None
    own_token = token()
    if own_token is None:
        raise UsageError(f"pushing to the hub needs your own token with the right to write: set {TOKEN_VARIABLE}")
    hub = client.HfApi(endpoint=endpoint(), token=own_token, library_name="anymc3d")
    additions = [client.CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.create_commit(repository, additions, commit_message=message, revision=revision)
    except Exception as error:  # noqa: BLE001 - the client and what it stands on have exceptions of their own
        code = getattr(getattr(error, "response", None), "status_code", None)
        what = f"the hub answered {code}" if code else type(error).__name__
        what = "HF_HUB_OFFLINE is set" if type(error).__name__ == "OfflineModeIsEnabled" else what
        raise UsageError(
            f"{SCHEME}{repository}: cannot be pushed ({what}); is the owner yours, and may the token in "
            f"{TOKEN_VARIABLE} write there?"
        ) from None
    return str(commit.commit_url)

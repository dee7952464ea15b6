"""Download and upload models with huggingface_hub, an optional dependency. HF_ENDPOINT names another server."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsanet.utils.machine_faults import MachineError
from dsanet.utils.text import first_line


def check_repo(repo: str, where: str) -> None:
    """Check the form of a repository name.

    Args:
        repo: the name.
        where: what it is an argument of, such as '--push'.

    Raises:
        ValueError: it is not USER/NAME, or huggingface_hub is not installed.
    """
    hub = _import()
    if repo.count('/') != 1:
        raise ValueError(f'{where} {repo!r} must be USER/NAME, such as my-lab/my-model')
    try:
        hub.utils.validate_repo_id(repo)
    except hub.errors.HFValidationError as error:
        raise ValueError(f'{where} {repo!r} must be USER/NAME, such as my-lab/my-model: {first_line(error)}') from error


def download_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """Download a file of a repository to the cache of huggingface_hub, and return its path there.

    Args:
        repo: USER/NAME.
        file: the file.
        revision: branch, tag or commit; None for the main branch.

    Returns:
        None if the repository has no such file. The folder of the file has the name of the commit.

    Raises:
        FileNotFoundError: the repository or revision does not exist or is private.
        MachineError: the server cannot be reached.
    """
    hub = _import()
    known = f'{repo}@{revision}' if revision else repo
    missing = hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError
    try:
        with _one_line(f'cannot download {file} of {known} from {hub.constants.ENDPOINT}', missing):
            try:
                return _fetch(hub, repo, file, revision)
            except hub.errors.EntryNotFoundError as error:
                if isinstance(error, hub.errors.LocalEntryNotFoundError):  # the server did not answer
                    raise
                return None
    except missing as error:
        raise FileNotFoundError(
            f'{hub.constants.ENDPOINT} has no model {known}, or it is private; log in with `hf auth login`'
        ) from error


def check_login() -> None:
    """Check that uploads are possible, before a model is prepared for one.

    Raises:
        ValueError: there is no valid token.
        MachineError: the server cannot be reached.
    """
    hub = _import()
    try:
        with _one_line(f'cannot log in to {hub.constants.ENDPOINT}', (hub.errors.LocalTokenNotFoundError,)):
            hub.whoami()
    except hub.errors.LocalTokenNotFoundError as error:
        raise ValueError(f'no login for {hub.constants.ENDPOINT}; run `hf auth login` or set HF_TOKEN') from error


def upload_folder(folder: Path, repo: str) -> str:
    """Upload a folder to a repository, which is created if it does not exist, and return its URL.

    Raises:
        MachineError: the server cannot be reached, or refuses the upload.
    """
    hub = _import()
    with _one_line(f'{folder} is complete, but uploading it to {repo} failed; try `hf upload {repo} {folder}`'):
        url = hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message='Upload model with DSANet')
    return str(url)


def _fetch(hub: Any, repo: str, file: str, revision: str | None) -> Path:
    """Download a file; if the server does not answer, take it from the cache."""
    try:
        # hf_hub_download would retry for half a minute.
        hub.get_hf_file_metadata(hub.hf_hub_url(repo, file, revision=revision))
    except hub.errors.HfHubHTTPError:  # an answer, which hf_hub_download interprets
        pass
    except Exception as error:
        try:
            return Path(hub.hf_hub_download(repo, file, revision=revision, local_files_only=True))
        except hub.errors.LocalEntryNotFoundError:
            raise error from None
    return Path(hub.hf_hub_download(repo, file, revision=revision))


def _import() -> Any:
    try:
        for module in ('constants', 'errors', 'utils'):
            importlib.import_module(f'huggingface_hub.{module}')
        return importlib.import_module('huggingface_hub')
    except ImportError as error:
        raise ValueError('huggingface_hub is not installed; run: pip install huggingface_hub') from error


@contextmanager
def _one_line(problem: str, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its HTTP library, which depend on their versions, into a MachineError."""
    try:
        yield
    except passed:
        raise
    except Exception as error:
        raise MachineError(f'{problem}: {first_line(error)}') from error

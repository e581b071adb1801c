"""A table's file as a DataFrame."""

from pathlib import Path

import pandas as pd

from mfed_ray.errors import RunFolderError


def read_table(path: Path) -> pd.DataFrame:
    """A table's file as it is. Raises RunFolderError where it is missing or no Parquet file."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read as a Parquet table ({error})") from error

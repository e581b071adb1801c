"""The base of every section of a configuration, and so of every component's settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a configuration: immutable, unknown keys and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""Errors a user can cause. The command line prints them without a traceback and exits with status 2.

A message says what failed, where, what was found, what was expected and what to do. Everything else that is
raised is a bug in svae and keeps its traceback.
"""

from __future__ import annotations


class SvaeError(Exception):
    """Base of all errors that are the input's fault, not the program's."""


class ConfigError(SvaeError):
    """A recipe, an option or the environment is wrong (unknown key, wrong type, missing dependency or device)."""


class DataError(SvaeError):
    """A corpus, shard, audio file, text or list is missing or unusable."""


class CheckpointError(SvaeError):
    """A checkpoint folder is missing, damaged, or not what is needed here."""

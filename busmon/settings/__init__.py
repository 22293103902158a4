"""The settings, from one typed schema. This room alone reads the environment; a `Settings` never changes.

`busmon/compiled.py` reads the variable of `pure_python` itself, since imports know no settings.
"""

from busmon.settings.kinds import address, mask, split_urls
from busmon.settings.loading import load, misspelt
from busmon.settings.schema import CONFIG_VARIABLE, SCHEMA, Setting, Settings

__all__ = ["CONFIG_VARIABLE", "SCHEMA", "Setting", "Settings", "address", "load", "mask", "misspelt", "split_urls"]

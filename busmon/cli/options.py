"""Flags that stand for settings, made from the settings' schema: a flag, its variable and its help never differ."""

import argparse

from busmon.settings import SCHEMA, Settings, load

SETTINGS = {setting.name: setting for setting in SCHEMA}


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the flags of these settings; `settings_from` reads them."""
    group = parser.add_argument_group(
        "settings", "a flag overrides the environment, which overrides busmon.toml; see `busmon settings`"
    )
    for setting in map(SETTINGS.__getitem__, names):
        group.add_argument(
            *filter(None, (setting.flag, setting.alias)),
            dest=setting.name,
            metavar=setting.kind.metavar,
            help=f"{setting.help} ({setting.variable}; default: {setting.default_text})".replace("%", "%%"),
        )
    parser.set_defaults(setting_flags=(*(parser.get_default("setting_flags") or ()), *names))


def settings_from(args: argparse.Namespace) -> Settings:
    """Return the settings; flags of this command line come first.

    Raises:
        SettingsError: a value isn't accepted; the line names the setting and where it came from.
    """
    return load({name: getattr(args, name) for name in getattr(args, "setting_flags", ())})

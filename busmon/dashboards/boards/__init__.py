"""The dashboards: a module for each, with its rows of panels."""

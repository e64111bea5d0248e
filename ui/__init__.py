"""Widgets: the dock, the options page and dialogs. They show the plugin's state and send signals; no work is done."""

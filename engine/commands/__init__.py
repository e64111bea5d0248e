"""The subcommands of ``samtune``, one module each."""

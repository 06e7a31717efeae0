"""Parity tests of a bundle: ``pytest --xxdeploy-bundle exports/mobilenetv2-int8``; see ``docs/how-to/ci.md``.

Each pytest run in an environment with xxdeploy loads the plugin (``pytest_plugin.plugin``), so it imports next to
nothing; a check imports its libraries when it runs.
"""

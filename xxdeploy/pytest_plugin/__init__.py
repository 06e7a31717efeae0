"""Parity tests of a bundle under pytest: ``pytest --xxdeploy-bundle exports/mobilenetv2-int8``; see ``docs/ci.md``.

Every pytest run of an environment that has xxdeploy loads the plugin (``pytest_plugin.plugin``), so it imports next
to nothing; what a check needs is imported when that check runs.
"""

"""Parity tests of a bundle under pytest: ``pytest --xxdeploy-bundle exports/mobilenetv2-int8``; see ``docs/ci.md``.

The plugin (``xxdeploy.testing.plugin``) is loaded by every pytest run of an environment that has xxdeploy, so it imports
next to nothing; what a check needs is imported when that check runs.
"""

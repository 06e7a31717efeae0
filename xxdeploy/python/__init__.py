"""``xxdeploy.export``: the command ``xxdeploy export`` as a function, for programs and notebooks."""

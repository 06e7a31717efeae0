"""`python -m xxdeploy`."""

from xxdeploy.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

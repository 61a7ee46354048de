"""`python -m biotilt.cli` is the command `biotilt`."""

from biotilt.cli import app

if __name__ == "__main__":
    app()

"""Command-line programs, and in its packages the code behind them and behind the entry points."""

from model import startup as startup  # must run before any other import of Paddle

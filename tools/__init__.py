"""Commands, and in packages the code that commands and entry points share."""

from model import startup as startup  # must run before any other import of Paddle

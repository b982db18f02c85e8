"""What runs a network, and the small command-line tools around it."""

import model  # noqa: F401  (binds zlib ahead of Paddle, see there)

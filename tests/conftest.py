import model  # noqa: F401  (test files may then import Paddle as they like, see model/__init__.py)

"""Networks: tensors in, tensors out."""

from model import startup as startup  # must run before any other import of Paddle

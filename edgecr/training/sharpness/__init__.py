"""Sharpness-aware training, and how flat a minimum is."""

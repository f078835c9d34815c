"""Engines of TensorRT on a board: built there by its trtexec, timed, and taken apart into layers."""

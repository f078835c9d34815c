"""The program that measures on a board: standard library, numpy and a runtime; Python 3.6 and later."""

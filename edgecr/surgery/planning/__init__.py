"""Budgets, figures and the search for the widths that meet them."""

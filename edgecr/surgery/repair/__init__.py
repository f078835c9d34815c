"""Repair without training: layers are refitted in closed form to what they answered before the surgery."""

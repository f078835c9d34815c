"""Tickets: networks that are found within random weights, which never learn."""

from edgecr.methods.ticket.method import Ticket

__all__ = ["Ticket"]

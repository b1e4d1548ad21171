"""Boards, emulated and real, on which the scenarios run."""

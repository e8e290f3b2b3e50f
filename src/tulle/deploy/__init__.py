"""Puts processes on a target: this machine first."""

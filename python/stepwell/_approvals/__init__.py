"""Waits for people: the runs that ask, the rules that decide, and the inbox of those who answer."""

"""Workflows that are started by the clock: cron expressions, the schedules of a store, and the runs that make them fire."""

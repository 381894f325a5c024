"""Doors for tests: `stepwell.testing.llm_server` is an LLM API on this machine, with seeded faults."""

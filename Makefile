# The two commands of the README; everything else is ./dev.
.PHONY: demo test clean
demo test:
	@python3 ./dev $@
clean:
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

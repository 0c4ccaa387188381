# The gate, the same on a laptop and in CI. Use it inside the environment of CONTRIBUTING.md.
.PHONY: check lint types imports test

check: lint types imports test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

imports:
	lint-imports

test:
	python -m pytest -n auto

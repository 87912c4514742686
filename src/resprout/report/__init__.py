"""Reports: tables, charts and a page, from records alone. Never loads a model."""

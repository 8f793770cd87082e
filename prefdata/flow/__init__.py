"""From a recipe, or a table, to a dataset."""

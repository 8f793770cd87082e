"""Language models that grade or compare answers."""

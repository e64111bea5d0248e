"""Change between two dates: objects matched within a tolerance, and a class-free way on embeddings."""

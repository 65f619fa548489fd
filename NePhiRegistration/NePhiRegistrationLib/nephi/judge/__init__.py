"""How good a map is, in numbers and in one verdict."""

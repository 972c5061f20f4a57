"""What a method costs, measured apart from its accuracy."""

"""What distillation is held against."""

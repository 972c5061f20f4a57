"""Models behind one interface: timm for images, transformers for text."""

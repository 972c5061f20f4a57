"""Teachers: trained once, kept on disk, their signals cached."""

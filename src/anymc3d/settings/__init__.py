"""What a task is: frozen settings, the strict YAML they are read from, and the text they are written as. No torch."""

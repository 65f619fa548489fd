"""What a registration in the scene is made of: its values, its steps on the main thread, its worker (see ``task``)."""

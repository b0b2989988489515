"""From a request body to what the engine and the meter are asked for."""

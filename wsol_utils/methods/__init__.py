"""What the papers do: one module per method, arrays and tensors only."""

"""Parts of networks over packed rows: parameters with a forward and a backward pass, on operations of every backend."""

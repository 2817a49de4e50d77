"""SQL of scoring. Every function runs in the transaction of the connection that it is given."""

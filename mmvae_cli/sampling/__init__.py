"""sample: from a run to figures and the arrays behind them."""

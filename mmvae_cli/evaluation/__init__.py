"""evaluate: representation, coherence and log-likelihood by the paper's protocol, all subsets together."""

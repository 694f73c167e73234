"""Many runs: their plan and their launch. No torch."""

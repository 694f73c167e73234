"""Where numbers are computed: device, ranks, seeds, precision, the recorded step."""

"""What a killed driver and a power cut leave behind."""
